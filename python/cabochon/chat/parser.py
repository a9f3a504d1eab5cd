"""What a model wrote: thought, answer and tool calls, told apart by token id. Knows no prompts.

A control token is one by its id; text that spells its name is text, wherever it stands. So nothing
here looks for a marker in text, and no marker can get into text. docs/chat.md, "How answers are
read", says what is accepted beyond the published form.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from ..tokenizer import Tokenizer
from ..types import ToolCall

MAX_DEPTH = 64  # of arguments, as for rendering
MAX_DIGITS = 1_000  # of a whole number
# Where a channel begins; any other name is a part of what stands in it.
_NAME = re.compile(r"\Athought(?![A-Za-z0-9_])\n?")
UNREADABLE = "call: found "  # what `ToolCall.error` begins with where it is no call at all

_MARK = '<|"|>'
# The mark as one character that no decoded text has: half of a surrogate pair.
_QUOTE = "\ud800"
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
        if name in _BORDERS or (name and self._kind == "tool" and name != _MARK):
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


class AnswerParser:
    """Takes the ids of one answer, one after the other; gives what is sure.

    The pieces of a kind, joined, are `thinking`, `text` and `tool_calls`, however the ids were cut.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, starts_in: str = "answer", call_prefix: str = "call_"
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
        if name == _MARK and isinstance(self._block, _Call):
            self._block.push(self._stream.flush() + _QUOTE)
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


# --- calls ---------------------------------------------------------------------------------------

_HEAD = re.compile(r"(?:call\s*:[\s:]*|(?!call\s*:)[\s:-]*)([A-Za-z0-9_.-]+)")
_MAX_NAME = 64
_SPACE = re.compile(r"\s*")
_KEY = re.compile(rf"[^:={{}}\[\],\"'\n{_QUOTE}]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORDS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
_ESCAPE = re.compile(r"(?:\\u[0-9a-fA-F]{4})+|\\[\"'\\/bfnrt]")
_ENDS = {
    '"': re.compile(rf'\\.|"|{_QUOTE}', re.DOTALL),
    "'": re.compile(rf"\\.|'|{_QUOTE}", re.DOTALL),
}


def read_call(text: str, *, call_id: str, is_whole: bool) -> ToolCall:
    """A call as it stands between its markers, string marks as `_QUOTE`. Never raises.

    is_whole: a marker ended it; otherwise it was cut off, and nothing is completed.
    """
    name, arguments, error = "", {}, None
    begin = _behind_space(text, 0)
    head = _HEAD.match(text, begin)
    try:
        if head is None or len(head[1]) > _MAX_NAME:
            _fail(text, begin, f"a name of 1 to {_MAX_NAME} of A-Z a-z 0-9 _ . -")
        name = head[1]
        arguments = _Arguments(text, head.end(), is_whole=is_whole).read()
    except _Unreadable as found:
        error = f"{UNREADABLE}{found}"
    raw = text.replace(_QUOTE, _MARK)
    return ToolCall(id=call_id, name=name, arguments=arguments, raw=raw, error=error)


def _behind_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None, "it matches nothing too"
    return found.end()


class _Unreadable(Exception):
    pass


def _fail(text: str, at: int, expected: str) -> NoReturn:
    found = repr(text[at : at + 20].replace(_QUOTE, _MARK)) if at < len(text) else "its end"
    raise _Unreadable(f"{found} at character {at}, expected {expected}")


class _Arguments:
    """Reads `{key:value,...}` from left to right, each character once."""

    def __init__(self, text: str, at: int, *, is_whole: bool) -> None:
        self._text, self._at, self._is_whole = text, at, is_whole
        is_round = text[at : at + 1] == "("
        self._round = ")" if is_round else ""
        self._word = re.compile(rf"[^,{{}}\[\]\"'\n{_QUOTE}{self._round}]+")

    def read(self) -> dict[str, Any]:
        self._skip()
        if self._is_end():
            return {}
        if self._next() not in ("{", "("):
            self._fail("{")
        arguments = self._map(1, self._round or "}")
        self._skip()
        if self._at < len(self._text):
            self._fail("the end of the call")
        return arguments

    def _fail(self, expected: str) -> NoReturn:
        _fail(self._text, self._at, expected)

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self) -> None:
        self._at = _behind_space(self._text, self._at)

    def _is_end(self) -> bool:
        """Nothing is left, and the model said so."""
        return self._is_whole and self._at == len(self._text)

    def _items(self, depth: int, end: str) -> Iterator[None]:
        """Stands at each item in turn; moves behind `end` after the last."""
        if depth > MAX_DEPTH:
            self._fail(f"at most {MAX_DEPTH} levels")
        self._at += 1
        self._skip()
        while self._next() != end and not self._is_end():
            yield
            is_delimited = self._text[self._at - 1] in f"\"'{_QUOTE}}}]"
            self._skip()
            if self._next() == ",":
                self._at += 1
                self._skip()
            elif not (self._next() == end or is_delimited or self._is_end()):
                self._fail(f", or {end}")
        self._at = min(self._at + 1, len(self._text))

    def _map(self, depth: int, end: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in self._items(depth, end):
            key = self._key()
            if key in found:
                self._fail(f"each key once, not {key!r} again")
            self._skip()
            found[key] = self._value(depth + 1)
        return found

    def _list(self, depth: int) -> list[Any]:
        return [self._value(depth + 1) for _ in self._items(depth, "]")]

    def _key(self) -> str:
        if self._next() in (_QUOTE, '"', "'"):
            key = self._string(":=")
            self._skip()
        else:
            found = _KEY.match(self._text, self._at)
            assert found is not None, "it matches nothing too"
            key, self._at = found[0].strip(), found.end()
        if self._next() not in (":", "="):
            self._fail("a key and :")
        self._at += 1
        return key

    def _value(self, depth: int) -> Any:
        first = self._next()
        if first == "{":
            return self._map(depth, "}")
        if first == "[":
            return self._list(depth)
        if first and first in f"\"'{_QUOTE}":
            return self._string(f",}}]{self._round}")
        found = self._word.match(self._text, self._at)
        word = found[0].strip() if found else ""
        if found is None or not word:
            self._fail("a value")
        value = self._plain(word)
        self._at = found.end()
        return value

    def _plain(self, word: str) -> Any:
        if word in _WORDS:
            return _WORDS[word]
        number = _NUMBER.fullmatch(word)
        if number is None:
            return word
        if number[1] is None and number[2] is None:
            return int(word) if len(word) <= MAX_DIGITS else self._fail(f"{MAX_DIGITS} digits")
        value = float(word)
        return value if math.isfinite(value) else self._fail("a number below 1.8e308")

    def _string(self, follows: str) -> str:
        """follows: what stands behind a closing quote."""
        quote, begin = self._next(), self._at + 1
        if quote == _QUOTE:
            end = self._text.find(_QUOTE, begin)
            if end < 0:
                self._fail(f"a string that {_MARK} ends")
            self._at = end + 1
            return self._text[begin:end]
        at = begin
        while (found := _ENDS[quote].search(self._text, at)) is not None:
            at = found.end()
            if found[0] == _QUOTE or (found[0] == quote and self._stands_before(at, follows)):
                self._at = at + (found[0] == quote and self._text[at : at + 1] == _QUOTE)
                return self._unescaped(self._text[begin : found.start()])
        self._fail(f"a string that {quote} ends")

    def _stands_before(self, at: int, follows: str) -> bool:
        at = _behind_space(self._text, at)
        behind = self._text[at : at + 1]
        return (not behind and self._is_whole) or (bool(behind) and behind in follows + _QUOTE)

    def _unescaped(self, text: str) -> str:
        """Escapes of JSON as what they stand for; any other backslash is itself."""
        text = _ESCAPE.sub(lambda escape: _unescaped(escape[0]), text)
        try:
            text.encode()
        except UnicodeEncodeError:
            self._fail("whole surrogate pairs before it")
        return text


def _unescaped(escape: str) -> str:
    text: str = "'" if escape == "\\'" else json.loads(f'"{escape}"')
    return text
