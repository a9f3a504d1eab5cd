"""Values against patterns, and JSON and phrases as graders read them.

A pattern is plain JSON. An object with one key that begins with `$` is a matcher:

| pattern | takes |
|---|---|
| `{"$exact": x}` | x itself, types and all; patterns inside are not read |
| `{"$number": x}` | a number within 1e-9 of x, relative; no text and no bool |
| `{"$one_of": [p, ...]}` | what one of the patterns takes |
| `{"$text": "..."}` | text that is normalised to the same; a list: to one of them |
| `{"$date": "2031-04-05"}` | text that writes this day, also with `/` or `.`, or at 00:00 |
| `{"$set": [p, ...]}` | a list of as many items, one for each pattern, in any order |
| `{"$absent": true}` | nothing: the key is not there, or it is null |

Any other object takes an object with these keys alone, a list takes a list item by item, and all
else takes its equal: 3 is 3.0, and neither "3" nor true.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...chat.schemas import is_deeper
from ..grading import normal

# Characters of an answer that are read; what is longer is noise, and is said to be (`too_long`).
# 512 tokens, the limit of most suites, are 2,000 characters or so of prose, and at most 16,000. One
# of them can be 18 once it is normalised.
LONGEST = 20_000
_DEEPEST = 60  # dicts and lists of an answer inside one another


class Absent:
    """What stands where a key does not."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = Absent()


def matches(pattern: Any, value: Any, language: str = "en") -> bool:
    """Whether the pattern takes the value, `ABSENT` included. Never raises for any value.

    Raises:
        ValueError: the pattern has a matcher that there is not.
    """
    if isinstance(pattern, Mapping):
        if len(pattern) == 1 and (name := next(iter(pattern))).startswith("$"):
            if name not in _MATCHERS:
                raise ValueError(f"matcher {name!r} is not known, expected {sorted(_MATCHERS)}")
            return _MATCHERS[name](pattern[name], value, language)
        if not isinstance(value, Mapping):
            return False
        return value.keys() <= pattern.keys() and all(
            matches(item, value.get(key, ABSENT), language) for key, item in pattern.items()
        )
    if _is_list(pattern):
        return (
            _is_list(value)
            and len(value) == len(pattern)
            and all(matches(p, v, language) for p, v in zip(pattern, value, strict=True))
        )
    return is_equal(pattern, value)


def is_equal(a: Any, b: Any) -> bool:
    """Equality of JSON: numbers by value, everything else with its type."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a == b
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(is_equal(a[key], b[key]) for key in a)
    if _is_list(a) and _is_list(b):
        return len(a) == len(b) and all(map(is_equal, a, b))
    return type(a) is type(b) and bool(a == b)


def pairs(
    patterns: Sequence[Any], values: Sequence[Any], is_match: Callable[[Any, Any], bool]
) -> dict[int, int]:
    """The most values that can go to a pattern of their own: index of the value to that of the
    pattern. Earlier values keep theirs where they can.
    """
    taken: dict[int, int] = {}  # pattern to value

    def place(value: int, tried: set[int]) -> bool:
        for index, pattern in enumerate(patterns):
            if index in tried or not is_match(pattern, values[value]):
                continue
            tried.add(index)
            if index not in taken or place(taken[index], tried):
                taken[index] = value
                return True
        return False

    for value in range(len(values)):
        if len(taken) == len(patterns):
            break
        place(value, set())
    return {value: pattern for pattern, value in sorted(taken.items(), key=lambda item: item[1])}


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _number(pattern: Any, value: Any, language: str) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isclose(pattern, value, rel_tol=1e-9, abs_tol=0.0)
    except OverflowError:  # a whole number past every float
        return False


def _text(pattern: Any, value: Any, language: str) -> bool:
    if not isinstance(value, str) or len(value) > LONGEST:
        return False
    forms = [pattern] if isinstance(pattern, str) else pattern
    written = normal(value, language)
    return any(written == normal(form, language) for form in forms)


_DATE = re.compile(r"(\d{4})[-/.](\d{2})[-/.](\d{2})(?:[T ]00:00(?::00)?Z?)?", re.ASCII)


def _date(pattern: Any, value: Any, language: str) -> bool:
    found = _DATE.fullmatch(value.strip()) if isinstance(value, str) else None
    return found is not None and "-".join(found.groups()) == pattern


def _set(pattern: Any, value: Any, language: str) -> bool:
    return (
        _is_list(value)
        and len(value) == len(pattern)
        and len(pairs(pattern, value, lambda p, v: matches(p, v, language))) == len(pattern)
    )


_MATCHERS: Mapping[str, Callable[[Any, Any, str], bool]] = {
    "$exact": lambda pattern, value, language: is_equal(pattern, value),
    "$number": _number,
    "$one_of": lambda pattern, value, language: any(matches(p, value, language) for p in pattern),
    "$text": _text,
    "$date": _date,
    "$set": _set,
    "$absent": lambda pattern, value, language: value is ABSENT or value is None,
}


# --- JSON of an answer ---------------------------------------------------------------------------


class NotJson(ValueError):
    """`args[0]` is the code of the reason."""


def strict_json(text: str) -> Any:
    """The value that the whole text is, white space around it aside.

    Raises:
        NotJson: "too_long", "too_deep", "duplicate_key", "not_json" (NaN and numbers past every
            float too).
    """
    if len(text) > LONGEST:
        raise NotJson("too_long")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_no_number,
            parse_float=_finite,
        )
    except NotJson:
        raise
    except RecursionError as error:
        raise NotJson("too_deep") from error
    except ValueError as error:
        raise NotJson("not_json") from error
    if is_deeper(value, _DEEPEST):
        raise NotJson("too_deep")
    return value


def _object(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    if len(found) != len(items):
        raise NotJson("duplicate_key")
    return found


def _no_number(word: str) -> Any:
    raise NotJson("not_json")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _no_number(digits)


_FENCE = re.compile(r"```[A-Za-z]*[ \t]*\n?([^`]*)```")


def lenient_json(text: str) -> Any:
    """The last fenced block that is JSON, else what stands from the first bracket to the last one
    of its kind, else None. For what is reported beside a score, never for the score."""
    if len(text) > LONGEST:
        return None
    candidates = _FENCE.findall(text)[::-1][:8]
    for opening, closing in ("{}", "[]"):
        begin, end = text.find(opening), text.rfind(closing)
        if 0 <= begin < end:
            candidates.append(text[begin : end + 1])
    for candidate in candidates:
        try:
            return strict_json(candidate)
        except NotJson:
            continue
    return None


# --- phrases in an answer ------------------------------------------------------------------------


def has_phrase(phrase: str, text: str) -> bool:
    """Whether a phrase stands in the text as words of its own. Both are normalised already."""
    return bool(find_phrase(phrase, text))


def find_phrase(phrase: str, text: str) -> list[int]:
    """Where a phrase begins in the text as words of its own: not inside a longer word or number.
    Both are normalised already."""
    found, at = [], text.find(phrase) if phrase else -1
    while at >= 0:
        end = at + len(phrase)
        if _is_border(text, at) and _is_border(text, end):
            found.append(at)
        at = text.find(phrase, at + 1)
    return found


def _is_border(text: str, at: int) -> bool:
    """Whether no word or number goes on across the place: 45 is no part of 145, 4.5 or 45,000, and
    a part of 45kg."""
    if not 0 < at < len(text):
        return True
    before, behind = text[at - 1], text[at]
    if before.isalnum() and behind.isalnum():
        return before.isdigit() and behind.isalpha()
    if before in ".," and behind.isdigit():
        return at < 2 or not text[at - 2].isdigit()
    if before.isdigit() and behind in ".,":
        return at + 1 >= len(text) or not text[at + 1].isdigit()
    return True
