"""From tokens that are drawn to a Result and its events; the tokens are scripted, there is no
engine."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from answers import random_answer
from cabochon.generation import Generation, Setting
from cabochon.model import _GENERATE_DEFAULTS
from cabochon.options import SamplingDefaults, check_generate
from cabochon.prompts import Prepared
from cabochon.results import Event, Result
from cabochon.scheduler.sequence import Answer
from vocabularies import demo_tokenizer

STOPS = ("<eos>", "<turn|>", "<|tool_response>")
MANIFEST = dict.fromkeys(("version", "fingerprint", "weights", "kv", "device"), "x") | {
    "numerics": 1, "tier": "scalar", "arithmetic": "exact",
}  # fmt: skip
CALL = '<|tool_call>call:f{a:<|"|>b<|"|>}<tool_call|>'


def generated(
    drawn: str | list[int],
    *,
    prompt: str = "<bos>hi",
    is_streamed: bool = True,
    has_tokenizer: bool = True,
    **options: Any,
) -> tuple[Result, list[Event]]:
    """What comes of it when these tokens are drawn; cut where they end."""
    found = demo_tokenizer()
    ids = found.encode(drawn, special=True) if isinstance(drawn, str) else drawn
    given = {**_GENERATE_DEFAULTS, "max_tokens": max(1, len(ids)), **options}
    setting = Setting(
        options=check_generate(
            given, defaults=SamplingDefaults(), vocab_size=found.vocab_size, context=10_000
        ),
        tokenizer=found if has_tokenizer else None,
        stop_ids=frozenset(
            [*(found.control_ids[name] for name in STOPS), *given["stop_token_ids"]]
        ),
        context=10_000,
        banned=np.empty(0, np.int32),
        manifest=MANIFEST,
        is_streamed=is_streamed,
    )
    prompt_ids = np.array(found.encode(prompt, special=True), np.int32)
    generation = Generation(Prepared(token_ids=prompt_ids, kind="ids"), 0, setting, index=0)
    empty = np.empty(0, np.int32)
    for position, token in enumerate(ids):
        answer = Answer(position, token, -1.0, token, empty, empty.astype(np.float32), None)
        if generation.take(answer):
            break
    generation.sequence.finish()
    return generation.result(), list(generation.events)


def joined(events: list[Event], kind: str) -> str:
    return "".join(event.text for event in events if event.kind == kind)


def test_a_thought_an_answer_and_a_call_are_three_kinds_of_events() -> None:
    result, events = generated(
        f"<|channel>thought\nlet me see\n<channel|>I call.{CALL}<|tool_response>"
    )

    kinds = [event.kind for event in events]
    assert kinds == sorted(kinds, key=["thinking", "text", "tool_call"].index)
    assert joined(events, "thinking") == result.thinking == "let me see"
    assert joined(events, "text") == result.text == "I call."
    assert [event.tool_call for event in events if event.tool_call] == list(result.tool_calls)
    assert result.tool_calls[0].arguments == {"a": "b"}
    stop = demo_tokenizer().control_ids["<|tool_response>"]
    assert (result.finish_reason, result.stop_reason) == ("tool_calls", stop)
    assert (result.cut_in, result.thinking_closed_by) == (None, "model")
    given_ids = [token_id for event in events for token_id in event.token_ids]
    assert given_ids == result.token_ids.tolist()[:-1]  # all but the stop
    assert result.raw_text.endswith("<tool_call|><|tool_response>")


def test_every_token_is_counted_once_by_its_kind() -> None:
    found = demo_tokenizer()
    result, _ = generated(f"<|channel>thought\nab\n<channel|>cde{CALL}<turn|>")

    usage = result.usage
    assert usage.thinking_tokens == len(found.encode("thought\nab\n"))
    assert usage.answer_tokens == len(found.encode("cde"))
    assert usage.tool_tokens == len(found.encode("call:f{a:b}"))
    assert usage.control_tokens == 7
    total = usage.thinking_tokens + usage.answer_tokens + usage.tool_tokens + usage.control_tokens
    assert total == usage.output_tokens == result.token_ids.size


@pytest.mark.parametrize(
    ("drawn", "cut_in"),
    [
        ("abc", "answer"),
        ("<|channel>", "thinking"),
        ("<|channel>thought\nabc", "thinking"),
        ("<|channel>thought\nabc\n<channel|>", "answer"),
        ("<|tool_call>call:f{a", "tool_call"),
        (CALL, "answer"),
    ],
)
@pytest.mark.parametrize("is_streamed", [True, False])
def test_a_cut_answer_says_what_it_was_cut_in(drawn: str, cut_in: str, is_streamed: bool) -> None:
    result, events = generated(drawn, is_streamed=is_streamed)

    assert (result.finish_reason, result.stop_reason) == ("length", "max_tokens")
    assert result.cut_in == cut_in
    assert [call.error is None for call in result.tool_calls] == (
        [cut_in != "tool_call"] if "tool_call" in drawn else []
    )
    assert len([event for event in events if event.tool_call]) == (
        len(result.tool_calls) if is_streamed else 0
    )


def test_an_answer_begins_in_the_thought_that_its_prompt_left_open() -> None:
    prompt = "<bos><|turn>model\n<|tool_response>response:f{}<tool_response|><|channel>thought\n"

    result, _ = generated("it is 15\n<channel|>15 degrees.<turn|>", prompt=prompt)

    assert (result.thinking, result.text) == ("it is 15", "15 degrees.")
    assert (result.finish_reason, result.thinking_closed_by) == ("stop", "model")


def test_an_end_of_a_thought_that_was_none_closes_nothing() -> None:
    result, _ = generated("a<channel|>b<turn|>")

    assert (result.text, result.thinking, result.thinking_closed_by) == ("ab", None, None)


def test_a_stop_string_is_looked_for_in_the_answer_alone() -> None:
    drawn = f"<|channel>thought\nnot END yet\n<channel|>{CALL.replace('b', 'END')}go EN"

    result, events = generated(f"{drawn}D and more", stop="END")

    assert (result.finish_reason, result.stop_reason) == ("stop", "END")
    assert result.thinking == "not END yet"
    assert result.tool_calls[0].arguments == {"a": "END"}
    assert result.text == joined(events, "text") == "go "


def test_a_stop_string_is_found_across_a_thought() -> None:
    result, events = generated("go EN<|channel>thought\nhm\n<channel|>D more", stop="END")

    assert (result.text, result.thinking, result.stop_reason) == ("go ", "hm", "END")
    assert joined(events, "text") == "go "


def test_a_stop_of_the_caller_is_no_text_and_ends_no_turn() -> None:
    found = demo_tokenizer()
    for is_streamed in (True, False):
        result, _ = generated(
            f"{CALL}ab.", stop_token_ids=found.encode("."), is_streamed=is_streamed
        )

        assert (result.finish_reason, result.text) == ("stop", "ab")
        assert len(result.tool_calls) == 1
        assert result.usage.answer_tokens == 3


def test_a_caller_may_stop_where_the_thought_ends_or_a_call_begins() -> None:
    control = demo_tokenizer().control_ids
    for is_streamed in (True, False):
        thought, _ = generated(
            "<|channel>thought\nhm\n<channel|>",
            stop_token_ids=[control["<channel|>"]],
            is_streamed=is_streamed,
        )
        call, _ = generated(
            "so <|tool_call>", stop_token_ids=[control["<|tool_call>"]], is_streamed=is_streamed
        )

        assert (thought.thinking, thought.finish_reason) == ("hm", "stop")
        assert (call.text, call.tool_calls, call.finish_reason) == ("so ", (), "stop")


def test_results_are_the_same_whether_anybody_watches_or_not() -> None:
    fields = (
        *("text", "thinking", "tool_calls", "raw_text", "finish_reason", "stop_reason"),
        *("cut_in", "thinking_closed_by", "usage"),
    )
    with_calls = 0
    for seed in range(100):
        answer = random_answer(demo_tokenizer(), random.Random(seed))
        if not answer.ids:
            continue
        opened = "<|channel>thought\n" if answer.starts_in == "thinking" else ""
        prompt = f"<bos><|turn>model\n{opened}"

        streamed, events = generated(answer.ids, prompt=prompt)
        stopped, _ = generated(answer.ids, prompt=prompt, is_streamed=False, stop="never there")
        plain, none = generated(answer.ids, prompt=prompt, is_streamed=False)

        assert none == []
        for name in fields:
            assert getattr(streamed, name) == getattr(plain, name) == getattr(stopped, name), name
        assert joined(events, "text") == plain.text
        assert joined(events, "thinking") == (plain.thinking or "")
        calls = [event.tool_call for event in events if event.kind == "tool_call"]
        assert calls == list(plain.tool_calls)
        with_calls += plain.finish_reason == "tool_calls"

    assert with_calls > 20


def test_without_a_tokenizer_there_are_ids_alone() -> None:
    result, events = generated("abc", has_tokenizer=False)

    assert (result.text, result.thinking, result.tool_calls, result.raw_text) == ("", None, (), "")
    assert events == []
    assert (result.usage.answer_tokens, result.cut_in) == (3, "answer")


def test_calls_of_two_turns_have_other_ids_and_the_same_turn_has_the_same() -> None:
    first, _ = generated(f"{CALL}{CALL}<|tool_response>")
    again, _ = generated(f"{CALL}{CALL}<|tool_response>", is_streamed=False)
    later, _ = generated(f"{CALL}{CALL}<|tool_response>", prompt="<bos>hi and more")

    ids = [[call.id for call in result.tool_calls] for result in (first, again, later)]
    assert ids[0] == ids[1]
    assert len({*ids[0], *ids[2]}) == 4


def test_a_message_of_a_result_holds_all_that_was_said() -> None:
    drawn = f"<|channel>thought\nhm\n<channel|>So:{CALL}<|tool_call>?<tool_call|><|tool_response>"
    message = generated(drawn)[0].to_message()

    assert message["content"] == "So:"
    assert message["reasoning_content"] == "hm"
    functions = [call["function"] for call in message["tool_calls"]]
    assert functions == [
        {"name": "f", "arguments": {"a": "b"}},
        {"name": "unknown", "arguments": {}},
    ]


def test_openai_reads_calls_reasons_and_what_could_not_be_read() -> None:
    called = generated(f"{CALL}<|tool_call>call:g{{é:}}<tool_call|><|tool_response>")[0].to_openai()
    choice = called["choices"][0]

    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    texts = [call["function"]["arguments"] for call in choice["message"]["tool_calls"]]
    assert texts == ['{"a": "b"}', "call:g{é:}"]

    cut = generated("abc")[0].to_openai()["choices"][0]
    assert (cut["finish_reason"], cut["message"]["content"]) == ("length", "abc")
    assert "tool_calls" not in cut["message"]
