"""What a model wrote: thought, answer and tool calls, told apart by token id. Knows no prompts.

A control token is one by its id; text that spells its name is text, wherever it stands. So nothing
here looks for a marker in text, and no marker can get into text. docs/chat.md, "How answers are
read", says what is accepted beyond the published form.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..tokenizer import CONTROL_NAMES, TextStream, alternatives
from ..types import ToolCall
from .calls import MARK, QUOTE, read_call

_CONTROL = alternatives(CONTROL_NAMES)
# What begins a channel; another name is a part of what stands in it.
_NAME = re.compile(r"\Athought(?![A-Za-z0-9_])\n?")
# What begins or ends a block; a control token that does neither is left out where it stands.
_TURNS = frozenset({"<|turn>", "<turn|>", "<eos>"})
_OPENING = _TURNS | {"<|channel>", "<|tool_call>", "<|tool_response>"}
_BORDERS = _OPENING | {"<channel|>", "<tool_call|>", "<tool_response|>"}


def starting_state(prompt: Sequence[int], control_ids: Mapping[str, int]) -> str:
    """What an answer to a prompt of these ids begins in: "answer", or "thinking" where the last
    thought is left open."""
    names = {control_ids.get(name): name for name in ("<|channel>", "<channel|>", *_TURNS)}
    last = next((names[token_id] for token_id in reversed(prompt) if token_id in names), "")
    return "thinking" if last == "<|channel>" else "answer"


def is_end(token_id: int, control_ids: Mapping[str, int]) -> bool:
    """Whether a token that stopped an answer ends what was open; any other is not read at all."""
    ends = _BORDERS - {"<|tool_call>", "<|channel>"}
    return any(control_ids.get(name) == token_id for name in ends)


@dataclass(frozen=True, slots=True)
class Piece:
    """Something that is sure: text of one kind, or one call."""

    kind: str  # "thinking", "text" or "tool_call"
    text: str  # whole characters; "" of a call
    token_ids: tuple[int, ...]  # those read since the piece before
    tool_call: ToolCall | None


class Outline:
    """Where each token belongs, by control tokens alone: needs no vocabulary.

    `counts` has tokens by kind: "thinking" (the channel's name included), "answer", "tool" and
    "control".
    """

    __slots__ = ("_kind", "_names", "_outer", "block", "calls", "closed_thinking", "counts")

    def __init__(self, control_ids: Mapping[str, int], *, starts_in: str = "answer") -> None:
        self._names = {token_id: name for name, token_id in control_ids.items()}
        self._kind = starts_in  # of an ordinary token
        self._outer = starts_in  # what goes on after a call
        self.block = 0  # another number: another block
        self.calls = 0  # that were begun
        self.closed_thinking = False  # by <channel|>
        self.counts = Counter[str]()

    @property
    def state(self) -> str:
        """ "answer", "thinking" or "tool_call": what the next ordinary token belongs to."""
        return "tool_call" if self._kind == "tool" else self._kind

    def push(self, token_id: int) -> str:
        """The name of a control token, "" of any other."""
        name = self._names.get(token_id, "")
        self.counts["control" if name else self._kind] += 1
        if name in _BORDERS or (name and self._kind == "tool" and name != MARK):
            self._cross(name)
        return name

    def _cross(self, name: str) -> None:
        before = self._kind
        if self._kind == "tool":  # also what ends a call that lacks its own end
            self._kind = self._outer
        if name == "<|channel>":
            self._kind = "thinking"
        elif name == "<channel|>":
            self.closed_thinking |= self._kind == "thinking"
            self._kind = "answer"
        elif name == "<|tool_call>" or (name == "<|tool_response>" and self.calls):
            self.calls += name == "<|tool_call>"
            self._outer, self._kind = self._kind, "tool"
        elif name in _TURNS:
            self._kind = "answer"
        # What ends nothing is not there at all.
        self.block += self._kind != before or name in _OPENING


class Vocabulary(Protocol):
    """What of a `Tokenizer` it takes to read an answer."""

    @property
    def control_ids(self) -> Mapping[str, int]:
        """Ids of the control tokens by name."""

    def stream(self) -> TextStream:
        """Ids to text, as they come."""


class AnswerParser:
    """Takes the ids of one answer, one after the other; gives what is sure.

    The pieces of a kind, joined, are `thinking`, `text` and `tool_calls`, however the ids were cut.
    """

    def __init__(
        self, tokenizer: Vocabulary, *, starts_in: str = "answer", call_prefix: str = "call_"
    ) -> None:
        """starts_in: "answer", or "thinking" where the prompt ends in an open thought;
        call_prefix: what `ToolCall.id` begins with, the number of the call follows.

        Raises:
            CheckpointError: tokenizer.json turns out to be damaged.
        """
        self.outline = Outline(tokenizer.control_ids, starts_in=starts_in)
        self._stream = tokenizer.stream()
        self._call_prefix = call_prefix
        self._ids: list[int] = []  # since the last piece
        self._thinking: list[str] = []
        self._text: list[str] = []
        self._calls: list[ToolCall] = []
        self._block: _Block = _Thought(is_named=True) if starts_in == "thinking" else _Answer()

    @property
    def thinking(self) -> str | None:
        """All thoughts so far; None where there is none but white space."""
        return "".join(self._thinking) if self._thinking else None

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._text)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Those that are complete, and after `finish` one that was cut off."""
        return tuple(self._calls)

    @property
    def state(self) -> str:
        """ "answer", "thinking" or "tool_call": what the next ordinary token belongs to."""
        return self.outline.state

    def push(self, token_id: int) -> list[Piece]:
        """What is sure after this token and was not before.

        Raises:
            InvalidArgument: the id is negative.
        """
        outline, block = self.outline, self.outline.block
        self._ids.append(token_id)
        name = outline.push(token_id)
        if outline.block != block:
            return self._cross(name)
        if name == MARK and isinstance(self._block, _Call):
            self._block.push(self._stream.flush() + QUOTE)
            return []
        return self._pieces(self._block.push(self._stream.push(token_id)))

    def finish(self) -> list[Piece]:
        """What was held back: no more tokens come."""
        block = self._block
        pieces = self._pieces(block.push(self._stream.flush()))
        if isinstance(block, _Call):
            pieces += self._call(block, is_whole=False)
        else:
            pieces += self._pieces(block.cut())
        self._block = _Answer()
        return pieces

    def _cross(self, name: str) -> list[Piece]:
        """A border: the block ends, another begins."""
        block = self._block
        pieces = self._pieces(block.push(self._stream.flush()))
        if isinstance(block, _Call):
            pieces += self._call(block, is_whole=True)
        else:
            pieces += self._pieces(block.end())
        state = self.outline.state
        if name == "<|tool_call>":
            self._block = _Call()
        elif state == "thinking":
            # After a call within it a thought goes on, with no name.
            self._block = _Thought(is_named=name != "<|channel>")
        else:
            self._block = _Nothing() if state == "tool_call" else _Answer(is_after_border=True)
        return pieces

    def _pieces(self, text: str) -> list[Piece]:
        if not text:
            return []
        kind = self._block.kind
        if kind == "thinking" and self._block.is_first and self._thinking:
            text = "\n" + text  # between two thoughts
        self._block.is_first = False
        (self._thinking if kind == "thinking" else self._text).append(text)
        return [self._piece(kind, text, None)]

    def _call(self, block: _Call, *, is_whole: bool) -> list[Piece]:
        call_id = f"{self._call_prefix}{len(self._calls)}"
        call = read_call("".join(block.parts), call_id=call_id, is_whole=is_whole)
        self._calls.append(call)
        return [self._piece("tool_call", "", call)]

    def _piece(self, kind: str, text: str, call: ToolCall | None) -> Piece:
        piece = Piece(kind, text, tuple(self._ids), call)
        self._ids.clear()
        return piece


class _Written:
    """The vocabulary of one text: its control strings, and what stands between them."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.control_ids = {name: index for index, name in enumerate(CONTROL_NAMES)}
        self._texts = [*CONTROL_NAMES, *texts]

    def stream(self) -> TextStream:
        return TextStream(texts=self._texts, bytes_={}, hidden=frozenset(self.control_ids.values()))


def read_written(
    raw_text: str, *, controls: Collection[int] | None = None, starts_in: str = "answer"
) -> AnswerParser:
    """An answer of which only the text is left, `Result.raw_text`: read to its end.

    controls: where in `raw_text` control tokens begin; other places that spell one are text. None:
    every such place is a control token.
    """
    between, ids, at = [], [], 0
    for found in _CONTROL.finditer(raw_text):
        if controls is None or found.start() in controls:
            between.append(raw_text[at : found.start()])
            ids.append(CONTROL_NAMES.index(found.group()))
            at = found.end()
    between.append(raw_text[at:])
    parser = AnswerParser(_Written(between), starts_in=starts_in)
    for index, _ in enumerate(between):
        parser.push(len(CONTROL_NAMES) + index)
        if index < len(ids):
            parser.push(ids[index])
    parser.finish()
    return parser


class _Block:
    """Text between two borders: what of it is sure."""

    kind = "text"
    is_first = True  # nothing of it was given

    def push(self, text: str) -> str:
        """Some more of it; gives what is sure."""
        raise NotImplementedError

    def end(self) -> str:
        """A border follows."""
        return ""

    def cut(self) -> str:
        """Nothing follows."""
        return self.end()


class _Answer(_Block):
    """White space alone, between two borders, is no answer."""

    def __init__(self, *, is_after_border: bool = False) -> None:
        self._space: list[str] | None = [] if is_after_border else None

    def push(self, text: str) -> str:
        if self._space is None or not text:
            return text
        self._space.append(text)
        return "" if text.isspace() else self.cut()

    def cut(self) -> str:
        text, self._space = "".join(self._space or ()), None
        return text


class _Thought(_Block):
    """The channel's name and its newline, and the newline before the end, belong to the markers."""

    kind = "thinking"

    def __init__(self, *, is_named: bool) -> None:
        self._name: str | None = None if is_named else ""  # None: it has been read
        self._space: list[str] | None = []  # None: something else was there
        self._newline = ""

    def push(self, text: str) -> str:
        if self._name is not None:
            self._name += text
            if "thought\n".startswith(self._name):
                return ""
            text, self._name = _NAME.sub("", self._name), None
        if self._space is not None:
            self._space.append(text)
            if not text or text.isspace():
                return ""
            text, self._space = "".join(self._space), None
        if not text:
            return ""
        text, self._newline = self._newline + text, ""
        if text.endswith("\n"):
            text, self._newline = text[:-1], "\n"
        return text

    def cut(self) -> str:
        return self._newline


class _Call(_Block):
    """Given when it is complete."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def push(self, text: str) -> str:
        self.parts.append(text)
        return ""


class _Nothing(_Block):
    """What the model wrote in place of a tool."""

    def push(self, text: str) -> str:
        return ""
