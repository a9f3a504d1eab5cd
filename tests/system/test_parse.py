"""Thoughts and calls through the front door, with a model whose draws are scripted: `generate`,
`stream`, `parse` and the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cabochon import cli
from cabochon.errors import InvalidArgument, Unsupported

SAID = (
    '<|channel>thought\nParis, then.\n<channel|>Wait.<|tool_call>call:f{a:<|"|>b<|"|>}<tool_call|>'
)


def test_generate_and_stream_tell_thought_answer_and_calls_apart(model: Any, says: Any) -> None:
    says(f"{SAID}<|tool_response>")

    result = model.generate("Hi", max_tokens=200)
    events = list(model.stream("Hi", max_tokens=200))

    assert (result.thinking, result.text) == ("Paris, then.", "Wait.")
    assert [call.arguments for call in result.tool_calls] == [{"a": "b"}]
    assert (result.finish_reason, result.stop_reason) == ("tool_calls", result.token_ids[-1])
    assert {event.kind for event in events} == {"thinking", "text", "tool_call", "done"}
    assert events[-1].result.tool_calls == result.tool_calls
    json.dumps(result.to_dict(), allow_nan=False)
    assert "Paris, then." in result._repr_html_()


def test_what_was_said_can_be_answered_and_sent_again(model: Any, says: Any) -> None:
    says(f"{SAID}<|tool_call>?<tool_call|><|tool_response>")
    first = model.generate("Hi", max_tokens=200)
    answers = [
        {"role": "tool", "tool_call_id": call.id, "content": call.error or "x"}
        for call in first.tool_calls
    ]

    messages = [{"role": "user", "content": "Hi"}, first.to_message(), *answers]
    second = model.generate(messages, max_tokens=200)

    assert len({call.id for call in (*first.tool_calls, *second.tool_calls)}) == 4


def test_parse_reads_the_ids_of_a_result(model: Any, says: Any) -> None:
    says(f"{SAID}<|tool_response>")
    result = model.generate("Hi", max_tokens=200)

    found = model.parse(result.token_ids)
    cut = model.parse(result.token_ids.tolist()[:-4])

    assert (found.text, found.thinking, found.cut_in) == (result.text, result.thinking, None)
    assert [call.arguments for call in found.tool_calls] == [{"a": "b"}]
    assert found.tool_calls[0].id == "call_0"
    assert (cut.text, cut.cut_in) == ("Wait.", "tool_call")
    assert cut.tool_calls[0].error is not None
    json.dumps(found.to_dict())


def test_parse_may_begin_in_a_thought_and_with_nothing(model: Any) -> None:
    ids = model.encode("hm\n<channel|>So.", special=True)

    assert model.parse(ids, starts_in="thinking").thinking == "hm"
    assert model.parse(ids).thinking is None
    for state in ("answer", "thinking"):
        empty = model.parse([], starts_in=state)
        assert (empty.text, empty.thinking, empty.tool_calls, empty.cut_in) == ("", None, (), state)


@pytest.mark.parametrize(
    ("ids", "options", "text"),
    [
        ([-1], {}, r"ids\[0\] is -1"),
        ([10**9], {}, r"ids\[0\] is 1000000000"),
        (np.array([0.5]), {}, "float64"),
        ([5], {"starts_in": "tool_call"}, "starts_in is 'tool_call', expected one of 'answer'"),
    ],
)
def test_parse_refuses_what_it_cannot_read(model: Any, ids: Any, options: Any, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        model.parse(ids, **options)


def test_a_thought_can_be_asked_of_a_chat_model_alone(
    load: Callable[..., Any], base_folder: Path
) -> None:
    base, chat = load(base_folder), load()

    assert chat.generate("Hi", thinking=True, max_tokens=1).settings["thinking"] is True
    with pytest.raises(Unsupported, match="thinking"):
        base.generate("Hi", thinking=True, max_tokens=1)


def test_the_command_line_shows_thoughts_and_calls_apart(
    demo_folder: Path, says: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    says(f"{SAID}<|tool_response>")

    code = cli.main(["generate", str(demo_folder), "Hi", "--max-tokens", "200"])

    shown = capsys.readouterr()
    assert code == 0
    assert shown.out == "Wait.\n"
    assert shown.err == 'Paris, then.\ncall:f{a:<|"|>b<|"|>}\n'
