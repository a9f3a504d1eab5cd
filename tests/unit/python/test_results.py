"""Results: JSON, OpenAI's form, messages, HTML, and the pieces that make their text."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cabochon import types
from cabochon.generation import StopSearch
from cabochon.results import Event, Result

SETTINGS = MappingProxyType({"temperature": 0.0, "logit_bias": {5: -math.inf}})


def result(**changes: Any) -> Result:
    fields: dict[str, Any] = {
        "text": "Blue.",
        "raw_text": "Blue.<turn|>",
        "token_ids": np.array([7, 106], np.int32),
        "prompt_token_ids": np.array([2, 5], np.int32),
        "logprobs": np.array([-0.5, math.nan], np.float32),
        "finish_reason": "stop",
        "stop_reason": 106,
        "usage": types.Usage(prompt_tokens=2, output_tokens=2, answer_tokens=1, control_tokens=1),
        "timings": types.Timings(
            queue_s=0.0, prefill_s=1.0, first_token_s=1.0, decode_s=0.5, total_s=1.5,
            prefill_tokens_per_s=2.0, decode_tokens_per_s=2.0,
        ),
        "seed": 2**64 - 1,
        "settings": SETTINGS,
        "manifest": types.Manifest(
            version="0", numerics=1, fingerprint="f" * 64, weights="bf16", kv="bf16", device="cpu",
            tier="scalar", arithmetic="exact", prompt_kind="text", prompt_sha256="0" * 64,
            template_sha256=None, settings=SETTINGS,
        ),
    }  # fmt: skip
    return Result(**{**fields, **changes})


def test_a_result_prints_as_its_text_and_shows_its_numbers() -> None:
    found = result()

    assert str(found) == "Blue."
    assert "2 + 2 tokens" in repr(found)
    assert "\n" not in repr(found)


def test_a_result_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        result().text = "Red."  # type: ignore[misc]


def test_texts_are_decoded_once_and_only_when_somebody_looks() -> None:
    calls: list[int] = []

    read = {"text": "Blue.", "thinking": None, "tool_calls": (), "raw_text": "Blue.<turn|>"}

    def decode() -> dict[str, Any]:
        calls.append(1)
        return read

    fields = {field.name: getattr(result(), field.name) for field in dataclasses.fields(Result)}
    found = Result.undecoded(
        decode, **{key: value for key, value in fields.items() if key not in read}
    )
    assert found.seed == 2**64 - 1 and calls == []

    assert (found.thinking, found.tool_calls) == (None, ())
    assert (found.text, found.raw_text, str(found)) == ("Blue.", "Blue.<turn|>", "Blue.")
    assert found.to_dict() == result().to_dict()
    assert dataclasses.replace(found, seed=1).text == copy.copy(found).text == "Blue."
    assert calls == [1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.text = "Red."  # type: ignore[misc]
    with pytest.raises(AttributeError, match="no attribute 'texts'"):
        found.texts  # type: ignore[attr-defined]  # noqa: B018


def test_to_dict_is_json_with_every_field_and_no_nan() -> None:
    found = json.loads(json.dumps(result(error=ValueError("no")).to_dict(), allow_nan=False))

    assert set(found) == {field.name for field in dataclasses.fields(Result)}
    assert found["token_ids"] == [7, 106]
    assert found["logprobs"] == [-0.5, None]
    assert found["settings"]["logit_bias"] == {"5": None}
    assert found["error"] == {"type": "ValueError", "message": "no"}
    assert found["usage"]["output_tokens"] == 2


def test_to_openai_has_its_fields_where_clients_look() -> None:
    call = types.ToolCall(id="1", name="weather", arguments={"city": "Paris"}, raw="call:weather")
    found = result(tool_calls=(call,), finish_reason="tool_calls", thinking="hm").to_openai()

    choice = found["choices"][0]
    assert choice["message"]["content"] == "Blue."
    assert choice["message"]["reasoning_content"] == "hm"
    function = choice["message"]["tool_calls"][0]["function"]
    assert json.loads(function["arguments"]) == {"city": "Paris"}
    assert choice["finish_reason"] == "tool_calls"
    assert found["usage"]["total_tokens"] == 4
    json.dumps(found)


@pytest.mark.parametrize(
    ("reason", "openai"),
    [("stop", "stop"), ("length", "length"), ("cancelled", None), ("error", None)],
)
def test_to_openai_says_how_it_ended_in_words_that_openai_has(
    reason: str, openai: str | None
) -> None:
    assert result(finish_reason=reason).to_openai()["choices"][0]["finish_reason"] == openai


def test_to_message_can_be_appended_to_a_conversation() -> None:
    assert result().to_message() == {"role": "assistant", "content": "Blue."}


def test_html_escapes_what_the_model_wrote_and_warns_when_it_was_cut() -> None:
    found = result(
        text="<script>alert(1)</script>",
        thinking="<b>",
        finish_reason="length",
        stop_reason="max_tokens",
    )._repr_html_()

    assert "<script" not in found
    assert "&lt;script&gt;" in found
    assert "&lt;b&gt;" in found
    assert "cut by max_tokens" in found


def test_an_event_can_be_written_as_json() -> None:
    event = Event(kind="text", text="a", token_ids=(1, 2))

    assert json.loads(json.dumps(event.to_dict()))["token_ids"] == [1, 2]


def pushed(stops: tuple[str, ...], pieces: list[str]) -> tuple[list[str], str | None]:
    search = StopSearch(stops)
    out = []
    for piece in pieces:
        out.append(search.push(piece))
        if search.found is not None:
            return out, search.found
    return [*out, search.flush()], None


@pytest.mark.parametrize(
    ("stops", "pieces", "out", "found"),
    [
        (("END",), ["aE", "N", "D", "b"], ["a", "", ""], "END"),
        (("END",), ["aEN", "x"], ["a", "ENx", ""], None),
        (("END",), ["aE", "NEND"], ["a", "EN"], "END"),
        (("END",), ["aEN"], ["a", "EN"], None),
        (("b", "ab"), ["xab"], ["x"], "ab"),
        (("aab",), ["aaab"], ["a"], "aab"),
        ((), ["a", "b"], ["a", "b", ""], None),
        (("\u00e9",), ["caf\u00e9"], ["caf"], "\u00e9"),
    ],
)
def test_text_is_held_back_just_long_enough(
    stops: tuple[str, ...], pieces: list[str], out: list[str], found: str | None
) -> None:
    assert pushed(stops, pieces) == (out, found)


@given(
    stops=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    pieces=st.lists(st.text("abc", max_size=4), max_size=12),
)
def test_however_text_is_cut_it_ends_before_the_first_stop(
    stops: list[str], pieces: list[str]
) -> None:
    # Character by character: the stop that is complete first ends the text.
    whole = "".join(pieces)
    ends = [n for n in range(len(whole) + 1) if any(whole[:n].endswith(stop) for stop in stops)]

    out, found = pushed(tuple(stops), list(whole))

    if ends:
        assert found is not None
        assert whole[: ends[0]].startswith("".join(out) + found)
        assert len("".join(out)) + len(found) == ends[0]
    else:
        assert found is None
        assert "".join(out) == whole
    joined, found_in_pieces = pushed(tuple(stops), pieces)
    assert whole.startswith("".join(joined))
    assert (found_in_pieces is None) == (found is None)
