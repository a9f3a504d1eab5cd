"""Answers, token by token: each public thread that a parser broke in, each slip that is forgiven
and each that is not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from answers import QUOTE, Answer, call_pieces
from cabochon.chat.calls import QUOTE as MARK
from cabochon.chat.calls import read_call
from cabochon.chat.parser import AnswerParser, Outline, Piece, is_end, starting_state
from cabochon.tokenizer import GEMMA3_CONTROL, GEMMA4_CONTROL, Tokenizer
from vocabularies import SHARED, published_tokenizer, tokenizer

THREADS = Path(__file__).parents[2] / "data" / "threads"
CASES = [
    json.loads(line)
    for path in sorted(THREADS.glob("*.jsonl"))
    for line in path.read_text("utf-8").splitlines()
]
STOPS = ("<turn|>", "<|tool_response>", "<eos>")


@pytest.fixture(params=["demo", "published"])
def found(request: pytest.FixtureRequest) -> Tokenizer:
    return tokenizer(request.param)


def parsed(found: Tokenizer, ids: list[int], **options: Any) -> tuple[AnswerParser, list[Piece]]:
    parser = AnswerParser(found, **options)
    pieces = [piece for token_id in ids for piece in parser.push(token_id)]
    return parser, pieces + parser.finish()


def read(found: Tokenizer, text: str, **options: Any) -> AnswerParser:
    return parsed(found, found.encode(text, special=True), **options)[0]


def joined(pieces: list[Piece], kind: str) -> str:
    return "".join(piece.text for piece in pieces if piece.kind == kind)


# --- public threads ------------------------------------------------------------------------------


def ids_of(given: str | list[Any], found: Tokenizer) -> list[int]:
    if isinstance(given, str):
        return found.encode(given, special=True)
    pieces = [item if isinstance(item, str) else item.get("text") for item in given]
    return found.encode_rendered(
        found.control_ids[item["token"]] if piece is None else piece
        for piece, item in zip(pieces, given, strict=True)
    )


def test_each_line_stands_for_another_thread() -> None:
    assert len(CASES) >= 60
    assert len({case["thread"] for case in CASES}) == len(CASES)
    assert {case["kind"] for case in CASES} == {"parse"}


@pytest.mark.parametrize("case", CASES, ids=[f"{case['case']}-{case['thread']}" for case in CASES])
def test_an_answer_that_broke_a_parser_is_read(case: dict[str, Any], found: Tokenizer) -> None:
    ids, expect = ids_of(case["given"], found), case["expect"]

    parser, pieces = parsed(found, ids, starts_in=case["starts_in"])

    assert (parser.text, parser.thinking) == (expect["text"], expect["thinking"])
    assert joined(pieces, "text") == expect["text"]
    assert joined(pieces, "thinking") == (expect["thinking"] or "")
    assert [piece.tool_call for piece in pieces if piece.tool_call] == list(parser.tool_calls)
    assert len(parser.tool_calls) == len(expect["tool_calls"])
    for call, wanted in zip(parser.tool_calls, expect["tool_calls"], strict=True):
        assert (call.name, repr(call.arguments)) == (wanted["name"], repr(wanted["arguments"]))
        assert (call.error is None) == ("error" not in wanted)
        assert wanted.get("error", "") in (call.error or "")
    ended = ids[-1] in [found.control_ids[name] for name in STOPS]
    assert (None if ended else parser.state) == expect["cut_in"]


@pytest.mark.parametrize("case", CASES, ids=[f"{case['case']}-{case['thread']}" for case in CASES])
def test_it_is_read_the_same_up_to_every_token(case: dict[str, Any], found: Tokenizer) -> None:
    ids, expect = ids_of(case["given"], found), case["expect"]

    for cut in range(len(ids)):
        parser, _ = parsed(found, ids[:cut], starts_in=case["starts_in"])
        # Half a character is U+FFFD, and a newline before the end of a thought is not its own.
        for mine, whole in ((parser.text, "text"), (parser.thinking, "thinking")):
            assert (expect[whole] or "").startswith((mine or "").rstrip("\ufffd").rstrip("\n"))
        assert len(parser.tool_calls) <= len(expect["tool_calls"])
        for call, wanted in zip(parser.tool_calls[:-1], expect["tool_calls"], strict=False):
            assert call.arguments == wanted["arguments"]


def test_what_the_published_templates_print_is_read_back() -> None:
    """Calls in published prompts, and what they were printed from."""
    found = published_tokenizer()
    compared = 0
    for line in (SHARED / "chat" / "rendered.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        printed = re.findall(r"<\|tool_call>(.*?)<tool_call\|>", row["large"], re.DOTALL)
        calls = [
            call["function"]
            for message in row["messages"]
            for call in message.get("tool_calls") or ()
        ]
        if len(printed) != len(calls):
            continue  # a message spells markers out
        for text, call in zip(printed, calls, strict=True):
            # Other markers in it are words of a message.
            runs = [[run, found.control_ids[QUOTE]] for run in text.split(QUOTE)]
            ids = found.encode_rendered(piece for pair in runs for piece in pair)[:-1]
            parser, _ = parsed(found, [found.control_ids["<|tool_call>"], *ids])
            assert parser.tool_calls[0].error is None, text
            assert parser.tool_calls[0].name == call["name"]
            given = call["arguments"]
            wanted = (json.loads(given) if isinstance(given, str) else given) or {}
            assert parser.tool_calls[0].arguments == wanted
            compared += 1

    assert compared > 100


# --- calls ---------------------------------------------------------------------------------------


def arguments(text: str, *, is_whole: bool = True) -> Any:
    call = read_call(text.replace('<|"|>', MARK), call_id="c", is_whole=is_whole)
    assert call.error is None, call.error
    return call.arguments


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("call:f{}", {}),
        ("call:f", {}),
        (" call : f { } ", {}),
        ("call:f{a:1}", {"a": 1}),
        ("f{a:1}", {"a": 1}),
        (":f{a:1}", {"a": 1}),
        ("- f{a:1}", {"a": 1}),
        ("call:f(a=1)", {"a": 1}),
        ("call:f(a=g)", {"a": "g"}),
        ("call:f{a:g(1)}", {"a": "g(1)"}),
        ("call:f{a:1,}", {"a": 1}),
        ("call:f{ a : 1 , b : [ 1 , 2 , ] }", {"a": 1, "b": [1, 2]}),
        ('call:f{<|"|>a<|"|>:1,"b":2,\'c\':3}', {"a": 1, "b": 2, "c": 3}),
        ('call:f{a:"x\\n\\u00e9\\ud83d\\ude80\\"\\/"}', {"a": 'x\n\u00e9\U0001f680"/'}),
        ('call:f{a:"C:\\dir",b:\'it\\\'s\'}', {"a": "C:\\dir", "b": "it's"}),
        ("call:f{a:'it's, well'}", {"a": "it's, well"}),
        ('call:f{a:"say "no" now"}', {"a": 'say "no" now'}),
        ('call:f{a:"x<|"|>,b:<|"|>\\n"<|"|>}', {"a": "x", "b": '\\n"'}),
        ("call:f{a:True,b:False,c:None}", {"a": True, "b": False, "c": None}),
        ("call:f{a:New York,b:2026-11-21,c:007,d:+1}",
         {"a": "New York", "b": "2026-11-21", "c": "007", "d": "+1"}),
        ("call:f{a:nan,b:inf,c:-}", {"a": "nan", "b": "inf", "c": "-"}),
        ("call:f{a:1e400000000}", None),
        ("call:f{a:[[[]]]}", {"a": [[[]]]}),
        ("call:f{:1}", {"": 1}),
        ("call:f{a:[{b:1}{b:2}]}", {"a": [{"b": 1}, {"b": 2}]}),
        ("call:f{a:{b:[1", {"a": {"b": [1]}}),
    ],
)  # fmt: skip
def test_arguments_are_read_as_they_are_meant(text: str, wanted: Any) -> None:
    if wanted is None:
        with pytest.raises(AssertionError, match="a number below"):
            arguments(text)
    else:
        assert repr(arguments(text)) == repr(wanted)


@pytest.mark.parametrize(
    ("text", "name", "error"),
    [
        ("", "", "found its end at character 0, expected a name of 1 to 64"),
        ("{a:1}", "", "found '{a:1}' at character 0, expected a name"),
        ('{"name": "f", "arguments": {}}', "", "expected a name"),
        ("call:\u00e9{}", "", "expected a name"),
        ("call:" + "x" * 65 + "{}", "", "expected a name of 1 to 64"),
        ("call:ns:f{}", "ns", "found ':f{}' at character 7, expected {"),
        ("call:f prose", "f", "found 'prose' at character 7, expected {"),
        ("call:f{a}", "f", "found '}' at character 8, expected a key and :"),
        ("call:f{a:}", "f", "found '}' at character 9, expected a value"),
        ('call:f{a:1 "b":2}', "f", "found '\"b\":2}' at character 11, expected , or }"),
        ("call:f{a:1}}", "f", "found '}' at character 11, expected the end of the call"),
        ("call:f{a:1,a:2}", "f", "expected each key once, not 'a' again"),
        ("call:f{a:[1}", "f", "found '}' at character 11, expected , or ]"),
        ("call:f{a:one\ntwo}", "f", "found 'two}' at character 13, expected , or }"),
        ('call:f{a:<|"|>x}', "f", "found '<|\"|>x}' at character 9, expected a string that"),
        ('call:f{a:"x}', "f", 'expected a string that " ends'),
        ('call:f{a:"\\ud83d"}', "f", "whole surrogate pairs"),
        ("call:f{a:" + "9" * 1001 + "}", "f", "expected 1000 digits"),
        ("call:f{a:-1e999}", "f", "expected a number below 1.8e308"),
        ("call:f{a:" + "[" * 64 + "]" * 64 + "}", "f", "expected at most 64 levels"),
        ("call:f{a:" + "[" * 100_000, "f", "expected at most 64 levels"),
    ],
)
def test_what_cannot_be_read_says_where_and_keeps_every_word(
    text: str, name: str, error: str
) -> None:
    call = read_call(text.replace('<|"|>', MARK), call_id="c", is_whole=True)

    assert (call.name, call.arguments, call.raw) == (name, {}, text)
    assert error in (call.error or "")
    assert len(call.error or "") < 200


@pytest.mark.parametrize(
    "text", ["call:f", "call:f{", "call:f{a:1", "call:f{a:[1]", 'call:f{a:"x"']
)
def test_nothing_is_completed_in_a_call_that_was_cut(text: str) -> None:
    assert read_call(text, call_id="c", is_whole=False).error is not None
    assert read_call(text, call_id="c", is_whole=True).error is None


def test_arguments_may_be_as_deep_as_messages_may(found: Tokenizer) -> None:
    deep: Any = 1
    for _ in range(63):
        deep = [deep]
    answer = Answer()
    answer.add(found, "<|tool_call>", is_control=True, state="")
    for text, is_control in call_pieces("f", {"a": deep}):
        answer.add(found, text, is_control=is_control, state="")

    call = parsed(found, answer.ids)[0].tool_calls[0]

    assert (call.error, call.arguments) == (None, {"a": deep})


def test_hostile_calls_are_read_in_time_that_grows_with_their_length() -> None:
    for part in ('"a', "'", '" ', "{", "[", "a:{", "\\", "\\u", "1", " ", "\n", "k:1,", MARK, "-"):
        for begin in ("", "call", "call:", "call:f", "call:f{k:"):
            # Quadratic time would be minutes.
            call = read_call(begin + part * 200_000, call_id="c", is_whole=True)
            assert call.arguments == {} or call.error is None


# --- blocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("<|channel>thought\n\nnew line first\n\n<channel|>x", "\nnew line first\n", "x"),
        ("<|channel>thought\n \n\t<channel|>x", None, "x"),
        ("<|channel>thoughtful\n<channel|>x", "thoughtful", "x"),
        ("<|channel>final\nx<channel|>y", "final\nx", "y"),
        ("<|channel>\nx<channel|>y", "\nx", "y"),
        ("<|channel>thought\na<|channel>thought\nb<channel|>c", "a\nb", "c"),
        ('<|channel>thought\na<|"|>b<pad>c<channel|>d', "abc", "d"),
        ("<|channel>thought\na<tool_call|>b<channel|>c", "ab", "c"),
        ("<|channel>thought\na", "a", ""),
        ("<|channel>thou", None, ""),
        ("<|channel>thought\na\n", "a\n", ""),
        ("no end<channel|> of a thought", None, "no end of a thought"),
        ("<|think|>a<bos>b<|image|>c", None, "abc"),
        ("a<turn|>\n<|turn>model\nb", None, "amodel\nb"),
        ("\n a", None, "\n a"),
        ("<|channel>thought\na<channel|>\n b", "a", "\n b"),
        ("<|channel>thought\na<channel|>\n <turn|>", "a", ""),
        ("<|channel>thought\na<channel|>\n ", "a", "\n "),
    ],
)
def test_thoughts_and_answers_are_told_apart(
    found: Tokenizer, text: str, thinking: str | None, answer: str
) -> None:
    parser = read(found, text)

    assert (parser.thinking, parser.text) == (thinking, answer)


def test_a_call_within_a_thought_is_a_call_and_the_thought_goes_on(found: Tokenizer) -> None:
    parser = read(
        found, "<|channel>thought\na\n<|tool_call>call:f{}<tool_call|>thought\nb<channel|>c<turn|>"
    )

    assert parser.thinking == "a\nthought\nb"
    assert parser.text == "c"
    assert [call.name for call in parser.tool_calls] == ["f"]


@pytest.mark.parametrize("end", ["<|channel>thought\nx<channel|>", "<|turn>", "<eos>", "<pad>"])
def test_any_control_token_but_the_string_mark_ends_a_call(found: Tokenizer, end: str) -> None:
    parser = read(found, f'<|tool_call>call:f{{a:<|"|>b<|"|>}}{end}no call')

    assert [(call.error, call.arguments) for call in parser.tool_calls] == [(None, {"a": "b"})]
    assert parser.text == "no call"


def test_what_the_model_writes_in_place_of_a_tool_is_no_text(found: Tokenizer) -> None:
    text = '<|tool_call>call:f{}<tool_call|><|tool_response>response:f{value:<|"|>x<|"|>}'

    inside, behind = read(found, text), read(found, f"{text}<tool_response|>It is x.<turn|>")

    assert (inside.text, inside.state) == ("", "tool_call")
    assert (behind.text, behind.state, len(behind.tool_calls)) == ("It is x.", "answer", 1)


def test_calls_are_numbered_behind_what_is_asked_for(found: Tokenizer) -> None:
    text = "<|tool_call>call:f{}<tool_call|>" * 3

    numbered = [call.id for call in read(found, text).tool_calls]
    prefixed = [call.id for call in read(found, text, call_prefix="t7_").tool_calls]

    assert numbered == ["call_0", "call_1", "call_2"]
    assert prefixed == ["t7_0", "t7_1", "t7_2"]


def test_text_comes_as_soon_as_it_is_sure(found: Tokenizer) -> None:
    parser = AnswerParser(found)
    ids = found.encode("a \U0001f680 b")

    given = [joined(parser.push(token_id), "text") for token_id in ids]

    assert "".join(given) == parser.text == "a \U0001f680 b"
    assert given[0] == "a"


def test_bytes_that_are_no_character_stay_with_their_block() -> None:
    found = tokenizer("demo")
    euro = found.encode("\u20ac")
    assert len(euro) == 3  # three bytes of one character
    opening, closing = found.control_ids["<|channel>"], found.control_ids["<channel|>"]
    name = found.encode("thought\n")

    parser, _ = parsed(found, [*euro[:2], opening, *name, euro[2], closing, *euro])

    assert parser.text == "\ufffd\ufffd\u20ac"
    assert parser.thinking == "\ufffd"


def test_a_tokenizer_without_channels_passes_text_through() -> None:
    """Gemma 3: its control tokens are left out, nothing else is changed."""
    document_of = json.loads(json.dumps(_gemma3_document()))
    found = Tokenizer(document_of)
    text = "\n a<start_of_turn>b <end_of_turn>\n"
    ids = found.encode(text, special=True)

    parser, _ = parsed(found, ids)

    assert parser.text == found.decode(ids) == "\n ab \n"
    assert parser.outline.counts == {"answer": len(ids) - 2, "control": 2}


def _gemma3_document() -> dict[str, Any]:
    from cabochon import demo

    pieces, merges = demo._pieces()
    document = demo._tokenizer(pieces, merges)
    names = [name for name in GEMMA3_CONTROL if name not in GEMMA4_CONTROL]
    renamed = dict(zip((n for n in GEMMA4_CONTROL if n not in GEMMA3_CONTROL), names, strict=False))
    text = json.dumps(document, ensure_ascii=False)
    document = json.loads(text)
    vocab = document["model"]["vocab"]
    document["model"]["vocab"] = {
        renamed.get(piece, piece if piece not in GEMMA4_CONTROL or piece in GEMMA3_CONTROL
                    else f"plain {token_id}"): token_id
        for piece, token_id in vocab.items()
    }  # fmt: skip
    document["added_tokens"] = [
        {**token, "content": renamed[token["content"]]}
        for token in document["added_tokens"]
        if token["content"] in renamed
    ]
    return document


# --- by id alone ---------------------------------------------------------------------------------


def test_the_outline_needs_ids_alone() -> None:
    outline = Outline(GEMMA4_CONTROL)
    channel, end, call, call_end = (
        GEMMA4_CONTROL[name]
        for name in ("<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>")
    )
    states = []

    for token_id in [7000, channel, 45518, 107, 7001, end, call, 7002, call_end, 7003, 106]:
        outline.push(token_id)
        states.append(outline.state)

    assert states == ["answer", *["thinking"] * 4, "answer", *["tool_call"] * 2, *["answer"] * 3]
    assert outline.counts == {"answer": 2, "thinking": 3, "tool": 1, "control": 5}
    assert (outline.calls, outline.closed_thinking) == (1, True)


@pytest.mark.parametrize(
    ("prompt", "state"),
    [
        ([], "answer"),
        ([2, 105, 7], "answer"),
        ([2, 105, 7, 100, 45518, 107], "thinking"),
        ([2, 105, 7, 100, 45518, 107, 101], "answer"),
        ([2, 100, 7, 106, 107], "answer"),
        ([2, 51, 100, 45518, 107, 52, 52], "thinking"),
    ],
)
def test_a_prompt_says_what_its_answer_starts_in(prompt: list[int], state: str) -> None:
    assert starting_state(prompt, GEMMA4_CONTROL) == state
    assert starting_state(prompt, {}) == "answer"


def test_a_stop_that_opens_something_is_not_read() -> None:
    ends = {name for name, token_id in GEMMA4_CONTROL.items() if is_end(token_id, GEMMA4_CONTROL)}

    assert {"<eos>", "<turn|>", "<|tool_response>", "<channel|>", "<tool_call|>"} <= ends
    assert not ends & {"<|tool_call>", "<|channel>", '<|"|>', "<pad>"}
    assert not is_end(7, GEMMA4_CONTROL)
