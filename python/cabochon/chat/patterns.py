"""`pattern` of JSON Schema as a regular expression that matches whole strings, for llguidance.

JSON Schema takes ECMA 262's notation, which looks for a match anywhere, and llguidance takes
Rust's, where a digit is one of any script. What is not the same in both is written out or refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

ANYTHING = "(?s:.*)"
_SPACE = r"\t\n\x0b\x0c\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_SETS = {"d": "0-9", "w": "A-Za-z0-9_", "s": _SPACE}
_TOKEN = re.compile(
    r"""(?P<escape>\\(?:u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|[pP]\{[A-Za-z_=]+\}|.))
      | (?P<begin>\((?:\?(?::|<[A-Za-z_][A-Za-z0-9_]*>))?(?!\?))
      | (?P<count>(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??)
      | (?P<other>.)""",
    re.DOTALL | re.VERBOSE,
)


class Unsayable(Exception):
    """What of a pattern has no counterpart."""


def whole(pattern: str) -> str:
    """A regular expression in Rust's syntax for exactly the strings in which `pattern` is found.

    >>> whole("^[a-c]+$|x")
    '(?:[a-c]+)|(?:(?s:.*)x(?s:.*))'

    Raises:
        Unsayable: it looks around or back, or is written as only one of the two notations has it.
    """
    branches = []
    for branch in _branches(list(_tokens(pattern))):
        left, right = branch[:1] == ["^"], branch[-1:] == ["$"]
        inner = branch[left : len(branch) - right]
        if "^" in inner or "$" in inner:
            raise Unsayable("^ or $ within")
        text = "".join(inner)
        branches.append(f"(?:{'' if left else ANYTHING}{text}{'' if right else ANYTHING})")
    return "|".join(branches)


def _branches(tokens: list[str]) -> Iterator[list[str]]:
    """What stands between the bars that are in no brackets."""
    depth, branch = 0, list[str]()
    for token in tokens:
        depth += (token == "(?:") - (token == ")")
        if token == "|" and depth == 0:
            yield branch
            branch = []
        else:
            branch.append(token)
    yield branch


def _tokens(pattern: str) -> Iterator[str]:
    at = 0
    while at < len(pattern):
        if pattern[at] == "[":
            text, at = _set(pattern, at)
            yield text
            continue
        found = _TOKEN.match(pattern, at)
        assert found is not None, "it matches any character"
        kind, text, at = found.lastgroup, found[0], found.end()
        if kind == "escape":
            yield _escape(text, is_in_set=False)
        elif kind == "begin":
            yield "(?:"
        elif kind == "count":
            yield text.removesuffix("?") if len(text) > 1 else text  # lazy or not: the same strings
        elif text == ".":
            yield r"[^\n\r\u2028\u2029]"
        elif text in "^$|)":
            yield text
        elif text in "({}]\\":
            raise Unsayable(f"{pattern[at - 1 : at + 3]!r}")
        else:
            yield _literal(text)


def _set(pattern: str, at: int) -> tuple[str, int]:
    """A bracketed set that begins at `at`, and where it ends."""
    begin, at = at, at + 1
    negated = pattern[at : at + 1] == "^"
    at += negated
    parts = list[str]()
    while at < len(pattern) and pattern[at] != "]":
        found = _TOKEN.match(pattern, at)
        assert found is not None, "it matches any character"
        if found.lastgroup == "escape":
            parts.append(_escape(found[0], is_in_set=True))
            at = found.end()
        else:
            is_range = pattern[at] == "-" and parts and pattern[at + 1 : at + 2] not in ("]", "")
            parts.append("-" if is_range else _literal(pattern[at]))
            at += 1
    if not parts or at == len(pattern):
        raise Unsayable(f"{pattern[begin : begin + 4]!r}")
    return f"[{'^' * negated}{''.join(parts)}]", at + 1


def _escape(text: str, *, is_in_set: bool) -> str:
    kind = text[1]
    if kind in "ux" and len(text) > 2:
        code = int(text[2:], 16)
        if 0xD800 <= code < 0xE000:
            raise Unsayable(text)
        return _literal(chr(code))
    if kind in "pP":
        return text
    if kind.lower() in _SETS:
        members = _SETS[kind.lower()]
        if is_in_set and kind.isupper():
            raise Unsayable(f"{text} within a set")
        return members if is_in_set else f"[{'^' * kind.isupper()}{members}]"
    if kind in "tnrfv":
        return _literal({"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v"}[kind])
    if kind.isalnum():  # \b, \1, \k: of where it stands, or of what was found
        raise Unsayable(text)
    return _literal(kind)


def _literal(character: str) -> str:
    """One that stands for itself, in a set too."""
    return character if character.isalnum() or character == " " else f"\\x{{{ord(character):x}}}"
