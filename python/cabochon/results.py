"""What generate and stream give back. Frozen; arrays own their memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import display
from .chat.calls import UNREADABLE
from .types import Floats, Ints, Manifest, MediaUse, Record, Timings, ToolCall, Usage

_OPENAI_REASONS = ("stop", "length", "tool_calls")
_READ = ("text", "thinking", "tool_calls", "raw_text")


class _Answer(Record):
    """Where a Result keeps what reads its ids, until somebody looks at what they say."""

    __slots__ = ("_decode",)
    _decode: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result(_Answer):
    """One finished answer. `str(result)` is its text.

    `text`, `thinking`, `tool_calls` and `raw_text` are read from the ids when one of them is first
    looked at, so that ids alone never wait for a tokenizer; that raises CheckpointError where
    tokenizer.json turns out to be damaged.
    """

    text: str  # the answer: no thoughts, calls, control tokens or stop string
    thinking: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    parsed: object | None = None
    raw_text: str  # everything, control tokens visible
    token_ids: Ints  # [n], with the token that stopped it
    prompt_token_ids: Ints  # [p]
    logprobs: Floats | None = None  # [n], of the chosen tokens, natural log
    top_ids: Ints | None = None  # [n, k], most likely first, ties by lowest id
    top_logprobs: Floats | None = None  # [n, k]
    finish_reason: str  # "stop", "length", "tool_calls", "cancelled", "error"
    stop_reason: int | str | None = None  # token id, stop string, "max_tokens" or "context"
    cut_in: str | None = None  # "thinking", "answer", "tool_call"
    thinking_closed_by: str | None = None  # "model", "budget"
    media: tuple[MediaUse, ...] = ()
    usage: Usage
    timings: Timings
    seed: int
    settings: Mapping[str, Any]  # every option in force, defaults resolved
    manifest: Manifest
    error: Exception | None = None  # with on_error="return"

    @classmethod
    def undecoded(cls, decode: Callable[[], Mapping[str, Any]], **fields: Any) -> Result:
        """A Result whose `text`, `thinking`, `tool_calls` and `raw_text` are what `decode` gives
        under these names."""
        result = cls(text="", raw_text="", **fields)
        object.__setattr__(result, "_decode", decode)
        for name in _READ:
            object.__delattr__(result, name)
        return result

    def __getattr__(self, name: str) -> Any:
        # Python asks here for what has no value: no field but these four is ever without.
        if name not in _READ:
            raise AttributeError(f"Result has no attribute {name!r}")
        read = self._decode()
        for field in _READ:
            object.__setattr__(self, field, read[field])
        return read[name]

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        return f"Result({text!r}, {display.numbers(self)})"

    def _repr_html_(self) -> str:
        return display.result_html(self)

    def to_message(self) -> dict[str, Any]:
        """The assistant message to append to a conversation.

        A call that could not be read is in it too, so that it can be answered: with no arguments,
        and under the name "unknown" where it has none.
        """
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.thinking is not None:
            message["reasoning_content"] = self.thinking
        if self.tool_calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name or "unknown", "arguments": dict(call.arguments)},
                }
                for call in self.tool_calls
            ]
        return message

    def to_openai(self) -> dict[str, Any]:
        """A chat-completion dict, as OpenAI's clients read it.

        `content` is None where there are calls and no text, `finish_reason` None where it was
        cancelled or failed: OpenAI has no word for these. A call that could not be read has the
        model's own words as its arguments, which are then no JSON.
        """
        message = {**self.to_message(), "reasoning_content": self.thinking}
        if self.tool_calls:
            message["content"] = self.text or None
        for call, written in zip(self.tool_calls, message.get("tool_calls", ()), strict=True):
            arguments = json.dumps(written["function"]["arguments"], ensure_ascii=False)
            is_unread = not call.arguments and (call.error or "").startswith(UNREADABLE)
            written["function"]["arguments"] = call.raw if is_unread else arguments
        reason = self.finish_reason
        return {
            "object": "chat.completion",
            "model": self.manifest.fingerprint,
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "finish_reason": reason if reason in _OPENAI_REASONS else None,
                }
            ],
            "usage": {
                "prompt_tokens": self.usage.prompt_tokens,
                "completion_tokens": self.usage.output_tokens,
                "total_tokens": self.usage.total_tokens,
                "prompt_tokens_details": {"cached_tokens": self.usage.cached_tokens},
                "completion_tokens_details": {"reasoning_tokens": self.usage.thinking_tokens},
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Event(Record):
    """One thing that happened while an answer was written.

    The texts of all "text" events of an item, joined, equal its `Result.text`, those of its
    "thinking" events `Result.thinking` (None: there are none); every call of `Result.tool_calls`
    comes once. In a `Chat` that runs tools they are those of all answers of the turn, one after the
    other, and the Result is the last one's.
    """

    kind: str  # "thinking", "text", "tool_call", "tool_result", "done"
    index: int = 0  # item of the list, 0 for one prompt
    text: str = ""  # whole characters
    token_ids: tuple[int, ...] = ()  # that brought the text or the call
    tool_call: ToolCall | None = None
    result: Result | None = None  # with "done"
