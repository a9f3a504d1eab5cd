"""The words of one call, between its markers: `call:NAME{key:value,...}`, and how models slip.

docs/chat.md, "Calls", has the table of what is forgiven. Knows no tokens but the mark of strings.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from ..types import ToolCall

MARK = '<|"|>'
QUOTE = "\ud800"  # the mark as a character that no decoded text has: half of a surrogate pair
UNREADABLE = "call: found "  # what `ToolCall.error` begins with where it is no call at all

MAX_DEPTH = 64  # of arguments, as for rendering
MAX_DIGITS = 1_000  # of a whole number
_MAX_NAME = 64
NAME_FORM = f"1 to {_MAX_NAME} of A-Z a-z 0-9 _ . -"  # of a tool
_NAME = re.compile(f"[A-Za-z0-9_.-]{{1,{_MAX_NAME}}}")
_HEAD = re.compile(r"(?:call\s*:[\s:]*|(?!call\s*:)[\s:-]*)([A-Za-z0-9_.-]+)")
_SPACE = re.compile(r"\s*")
_KEY = re.compile(rf"[^:={{}}\[\],\"'\n{QUOTE}]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORDS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
_ESCAPE = re.compile(r"(?:\\u[0-9a-fA-F]{4})+|\\[\"'\\/bfnrt]")
_ENDS = {
    '"': re.compile(rf'\\.|"|{QUOTE}', re.DOTALL),
    "'": re.compile(rf"\\.|'|{QUOTE}", re.DOTALL),
}


def is_name(text: str) -> bool:
    """Whether a tool may have this name: `NAME_FORM`."""
    return _NAME.fullmatch(text) is not None


def is_key(text: str) -> bool:
    """Whether a call can say this name of a property."""
    return _KEY.fullmatch(text) is not None and text.strip() == text


def read_call(text: str, *, call_id: str, is_whole: bool) -> ToolCall:
    """A call as it stands between its markers, string marks as `QUOTE`. Never raises.

    is_whole: a marker ended it; otherwise it was cut off, and nothing is completed.
    """
    name, arguments, error = "", {}, None
    begin = _behind_space(text, 0)
    head = _HEAD.match(text, begin)
    try:
        if head is None or not is_name(head[1]):
            _fail(text, begin, f"a name of {NAME_FORM}")
        name = head[1]
        arguments = _Arguments(text, head.end(), is_whole=is_whole).read()
    except _Unreadable as found:
        error = f"{UNREADABLE}{found}"
    raw = text.replace(QUOTE, MARK)
    return ToolCall(id=call_id, name=name, arguments=arguments, raw=raw, error=error)


def _behind_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None, "it matches nothing too"
    return found.end()


class _Unreadable(Exception):
    pass


def _fail(text: str, at: int, expected: str) -> NoReturn:
    found = repr(text[at : at + 20].replace(QUOTE, MARK)) if at < len(text) else "its end"
    raise _Unreadable(f"{found} at character {at}, expected {expected}")


class _Arguments:
    """Reads `{key:value,...}` from left to right, each character once."""

    def __init__(self, text: str, at: int, *, is_whole: bool) -> None:
        self._text, self._at, self._is_whole = text, at, is_whole
        is_round = text[at : at + 1] == "("
        self._round = ")" if is_round else ""
        self._word = re.compile(rf"[^,{{}}\[\]\"'\n{QUOTE}{self._round}]+")

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
            is_delimited = self._text[self._at - 1] in f"\"'{QUOTE}}}]"
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
        if self._next() in (QUOTE, '"', "'"):
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
        if first and first in f"\"'{QUOTE}":
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
        if quote == QUOTE:
            end = self._text.find(QUOTE, begin)
            if end < 0:
                self._fail(f"a string that {MARK} ends")
            self._at = end + 1
            return self._text[begin:end]
        at = begin
        while (found := _ENDS[quote].search(self._text, at)) is not None:
            at = found.end()
            if found[0] == QUOTE or (found[0] == quote and self._stands_before(at, follows)):
                self._at = at + (found[0] == quote and self._text[at : at + 1] == QUOTE)
                return self._unescaped(self._text[begin : found.start()])
        self._fail(f"a string that {quote} ends")

    def _stands_before(self, at: int, follows: str) -> bool:
        at = _behind_space(self._text, at)
        behind = self._text[at : at + 1]
        return behind in follows + QUOTE  # "" too: nothing is left

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
