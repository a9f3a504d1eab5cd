"""However an answer is cut, it is read the same; nothing that is written makes the parser raise,
and no marker gets into text.

RANDOM_ANSWERS sets how many answers are made; 10,000 take two minutes.
"""

from __future__ import annotations

import json
import os
import random
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from answers import Answer, call_pieces, random_answer
from cabochon.chat.calls import read_call
from cabochon.chat.parser import AnswerParser, Piece
from cabochon.chat.render import render
from cabochon.chat.template import LARGE, native_template
from cabochon.tokenizer import CONTROL_NAMES, Tokenizer
from vocabularies import tokenizer

COUNT = int(os.environ.get("RANDOM_ANSWERS", "100"))
VOCABULARIES = ["demo", "published"]


def parsed(ids: list[int], found: Tokenizer, starts_in: str) -> tuple[AnswerParser, list[Piece]]:
    parser = AnswerParser(found, starts_in=starts_in)
    pieces = [piece for token_id in ids for piece in parser.push(token_id)]
    return parser, pieces + parser.finish()


def said(parser: AnswerParser) -> tuple[Any, ...]:
    # As text, since True == 1 == 1.0.
    calls = [(call.name, repr(call.arguments), call.error) for call in parser.tool_calls]
    return parser.thinking, parser.text, calls


def expected(answer: Answer) -> tuple[Any, ...]:
    calls = [(name, repr(arguments), None) for name, arguments in answer.calls]
    return answer.thinking, answer.text, calls


def joined(pieces: list[Piece], kind: str) -> str:
    return "".join(piece.text for piece in pieces if piece.kind == kind)


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_answers_cut_at_every_token_say_what_whole_ones_say(vocabulary: str) -> None:
    found = tokenizer(vocabulary)
    cuts = with_calls = 0
    for seed in range(COUNT):
        answer = random_answer(found, random.Random(seed))
        whole, pieces = parsed(answer.ids, found, answer.starts_in)

        assert said(whole) == expected(answer), seed
        assert joined(pieces, "thinking") == (whole.thinking or "")
        assert joined(pieces, "text") == whole.text
        assert [piece.tool_call for piece in pieces if piece.tool_call] == list(whole.tool_calls)
        assert len({call.id for call in whole.tool_calls}) == len(answer.calls)
        for cut in range(len(answer.ids) + 1):
            check_cut(answer, cut, whole, found)
            cuts += 1
        with_calls += len(answer.calls) > 0

    assert cuts > 20 * COUNT and with_calls > COUNT / 3  # there was something to cut


def check_cut(answer: Answer, cut: int, whole: AnswerParser, found: Tokenizer) -> None:
    """What an answer that ends early says is the beginning of what it would have said."""
    part, _ = parsed(answer.ids[:cut], found, answer.starts_in)

    assert part.state == (answer.states[cut - 1] if cut else answer.starts_in)
    # Bytes of half a character are each U+FFFD, and white space may turn out to be no text.
    for mine, all_of_it in ((part.text, whole.text), (part.thinking, whole.thinking)):
        assert (all_of_it or "").startswith((mine or "").rstrip("\ufffd").rstrip()), cut
    complete = list(part.tool_calls)
    is_inside = part.state == "tool_call" and answer.ids[cut - 1] != found.control_ids.get(
        "<|tool_response>"
    )
    if is_inside:
        last = complete.pop()
        written = whole.tool_calls[len(complete)]
        # Either nothing but its end was missing, or it says that it cannot be read.
        assert last.arguments == ({} if last.error else written.arguments)
    assert complete == list(whole.tool_calls[: len(complete)])


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_an_answer_that_is_continued_says_the_rest(vocabulary: str) -> None:
    found = tokenizer(vocabulary)
    checked = 0
    for seed in range(COUNT // 2):
        answer = random_answer(found, random.Random(-1 - seed))
        whole, _ = parsed(answer.ids, found, answer.starts_in)
        for cut in range(1, len(answer.ids)):
            before, after = answer.states[cut - 1 : cut + 1]
            is_within_block = before == after == "answer"
            if not is_within_block or answer.ids[cut] in found.control_ids.values():
                continue
            first, _ = parsed(answer.ids[:cut], found, answer.starts_in)
            rest, _ = parsed(answer.ids[cut:], found, before)
            if "\ufffd" in first.text + rest.text:
                continue
            # Without what stood before, white space may be text, between two words too.
            assert "".join((first.text + rest.text).split()) == "".join(whole.text.split())
            assert len(first.tool_calls) + len(rest.tool_calls) == len(whole.tool_calls)
            checked += 1

    assert checked > COUNT


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_random_ids_never_raise_and_leave_no_marker_in_text(vocabulary: str) -> None:
    found = tokenizer(vocabulary)
    source = random.Random(11)
    control = list(found.control_ids.values())
    vocabulary_of = found._need()
    # Without "<" no ordinary token can spell the beginning of a marker.
    ordinary = [
        token_id
        for token_id, text in enumerate(vocabulary_of.texts)
        if token_id not in control
        and vocabulary_of.bytes.get(token_id, ord("<") * ("<" in text)) != ord("<")
    ]
    assert len(ordinary) > 256
    ordinary.append(found.vocab_size + 5)  # a model may have more rows than the file has pieces
    grammar = [
        token_id for text in "{}[]():=,'\"\\ \n17.-etrunl" for token_id in found.encode(text)
    ]
    kinds = set()
    for _ in range(COUNT):
        share = source.random()
        ids = [
            source.choice(control)
            if source.random() < share / 2
            else source.choice(source.choice([ordinary, grammar]))
            for _ in range(source.randrange(120))
        ]
        parser, pieces = parsed(ids, found, source.choice(["answer", "thinking"]))

        assert "<" not in parser.text + (parser.thinking or "")
        assert sum(parser.outline.counts.values()) == len(ids)
        given_ids = [token_id for piece in pieces for token_id in piece.token_ids]
        assert given_ids == ids[: len(given_ids)]
        json.dumps([call.to_dict() for call in parser.tool_calls], allow_nan=False).encode()
        kinds |= {piece.kind for piece in pieces}

    assert kinds == {"thinking", "text", "tool_call"}


json_text = st.text(st.characters(exclude_characters="\u2581", exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | json_text
    | st.sampled_from(CONTROL_NAMES),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(json_text.filter(lambda k: is_plain_key(k)), inner, max_size=4)
    ),
    max_leaves=12,
)


def is_plain_key(key: str) -> bool:
    """The published form writes keys bare: these alone can be told from what surrounds them."""
    return key == key.strip() and not re.search(r"[:=,{}\[\]\"'\n]", key)


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@settings(max_examples=COUNT, deadline=None)
@given(arguments=st.dictionaries(json_text.filter(is_plain_key), json_values, max_size=4))
def test_arguments_come_back_as_they_were_written(
    vocabulary: str, arguments: dict[str, Any]
) -> None:
    found = tokenizer(vocabulary)
    answer = Answer()
    answer.add(found, "<|tool_call>", is_control=True, state="")
    for text, is_control in call_pieces("f", arguments):
        answer.add(found, text, is_control=is_control, state="")

    parser, _ = parsed(answer.ids, found, "answer")  # its end was left out

    assert [call.error for call in parser.tool_calls] == [None]
    sort = {"sort_keys": True}
    assert json.dumps(parser.tool_calls[0].arguments, **sort) == json.dumps(arguments, **sort)


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@settings(max_examples=COUNT, deadline=None)
@given(
    thought=json_text,
    content=json_text.filter(lambda text: "<" not in text),
    calls=st.lists(
        st.dictionaries(json_text.filter(is_plain_key), json_values, max_size=3), max_size=3
    ),
)
def test_what_a_message_is_rendered_as_is_read_back_as_that_message(
    vocabulary: str, thought: str, content: str, calls: list[dict[str, Any]]
) -> None:
    found = tokenizer(vocabulary)
    functions = [{"name": f"f{n}", "arguments": arguments} for n, arguments in enumerate(calls)]
    message = {"role": "assistant", "content": content, "reasoning_content": thought or None}
    if calls:
        message["tool_calls"] = [{"type": "function", "function": each} for each in functions]
    messages = [{"role": "user", "content": "hi"}, message]

    ids = render(
        messages,
        template=native_template(LARGE),
        tokenizer=found,
        thinking=True,
        add_generation_prompt=False,
    ).token_ids
    control = set(found.control_ids.values())
    while ids[-1] not in control:  # what stands behind the end of the turn
        ids.pop()
    turn = len(ids) - 1 - ids[::-1].index(found.control_ids["<|turn>"])
    parser, _ = parsed(ids[turn + 1 + len(found.encode("model\n")) :], found, "answer")

    assert parser.text == content.strip()
    assert parser.thinking == (thought if thought.strip() else None)
    read = [{"name": call.name, "arguments": call.arguments} for call in parser.tool_calls]
    assert json.dumps(read, sort_keys=True) == json.dumps(functions, sort_keys=True)


GRAMMAR = (
    *("call:f", "{", "}", "(", ")", "[", "]", ",", ":", "=", '"', "'", "\ud800", "\\", "\\u"),
    *("d83d", "1", "-", "1e999", "0.5", "true", "null", "k", "k:", " ", "\n", "9" * 5000),
)


@settings(max_examples=2 * COUNT, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(GRAMMAR) | st.text(max_size=3),
        max_size=30,
    ),
    is_whole=st.booleans(),
)
def test_whatever_stands_in_a_call_it_is_read_or_says_why_not(
    parts: list[str], is_whole: bool
) -> None:
    call = read_call("".join(parts), call_id="call_0", is_whole=is_whole)

    assert call.error is None or call.arguments == {}
    assert call.name == "" or re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", call.name)
    json.dumps(call.to_dict()["arguments"], allow_nan=False).encode()
    assert call.error is None or "\n" not in call.error
