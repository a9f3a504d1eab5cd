"""Cases: what is asked, what is expected, and outputs that must pass or fail.

A case is data: one JSON object a line, every field known, nothing executable in it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import EvaluationError
from ..types import Record

TIERS = ("easy", "medium", "hard")


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN.

    Raises:
        ValueError: a NaN or infinite number.
        TypeError: something that JSON has no type for.
    """
    return json.dumps(
        value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )


def sha256(text: str) -> str:
    """Hexadecimal SHA-256 of a text in UTF-8; a lone surrogate counts as itself."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class Case(Record):
    """One question.

    A conversation has several user turns in `messages`, one after the other: the model's own
    answers come between them, and an item of `ideal` or `wrong` has one output a turn. Everywhere
    else an output is one string, control strings written out.
    """

    case_id: str  # unique, for ever
    version: int  # rises when the text changes
    suite: str
    family: str
    tier: str  # "easy", "medium" or "hard"
    language: str  # ISO 639-1
    cluster_id: str  # cases that share a passage, scenario or template
    seed: int  # of the generator; 0 of one written by hand
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()  # declarations in OpenAI's form
    schema: Mapping[str, Any] | None = None
    max_tokens: int
    grader: str  # name of a registered grader
    expected: Mapping[str, Any]  # the grader's own data
    ideal: Sequence[Any]  # outputs that score 1.0, at least one
    wrong: Sequence[Sequence[Any]]  # (output, reason) of outputs that must fail, at least two

    @property
    def content(self) -> dict[str, Any]:
        """All fields but the id, in types that JSON has: two cases of one content are one case."""
        return {name: value for name, value in self.to_dict().items() if name != "case_id"}

    @cached_property
    def sha256(self) -> str:
        """Of the content."""
        return sha256(canonical(self.content))

    @property
    def turns(self) -> int:
        """Answers that the model gives."""
        return sum(message["role"] == "user" for message in self.messages) if self.is_talk else 1

    @property
    def is_talk(self) -> bool:
        """Several user turns without answers between them: the model's own come there."""
        roles = [message["role"] for message in self.messages]
        return any(a == b == "user" for a, b in itertools.pairwise(roles))


def read_case(given: Any, *, where: str) -> Case:
    """A case of an object of JSON.

    Raises:
        EvaluationError: an unknown, missing or mistyped field; `where` names the place.
    """
    if not isinstance(given, Mapping):
        raise EvaluationError(f"{where}: found {type(given).__name__}, expected an object")
    known = {item.name: item for item in fields(Case)}
    if unknown := sorted(set(given) - set(known)):
        raise EvaluationError(f"{where}: unknown field {unknown[0]!r}, expected {sorted(known)}")
    optional = {"tools", "schema"}
    if missing := sorted(set(known) - set(given) - optional):
        raise EvaluationError(f"{where}: no field {missing[0]!r}, which every case has")
    for name, expected in _TYPES.items():
        value = given.get(name, ())
        is_wrong = not isinstance(value, expected) or isinstance(value, bool)
        if is_wrong and not (name == "schema" and value in (None, ())):
            raise EvaluationError(
                f"{where}: {name} is {type(value).__name__}, "
                f"expected {_words(expected)}: {str(value)[:60]!r}"
            )
    if given["tier"] not in TIERS:
        raise EvaluationError(f"{where}: tier is {given['tier']!r}, expected one of {TIERS}")
    for pair in given["wrong"]:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise EvaluationError(
                f"{where}: wrong has {str(pair)[:60]!r}, expected [output, reason]"
            )
    _check_messages(given["messages"], where)
    try:
        canonical(dict(given))
    except (TypeError, ValueError) as error:
        raise EvaluationError(f"{where}: {error}, expected what JSON has") from error
    return Case(**given)


_ROLES = ("system", "developer", "user", "assistant", "model", "tool")


def _check_messages(messages: Sequence[Any], where: str) -> None:
    """What rendering would not name by its case; it checks the rest."""
    if not messages:
        raise EvaluationError(f"{where}: messages is empty, expected at least one")
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, Mapping) else None
        if role not in _ROLES:
            raise EvaluationError(
                f"{where}: message {index} is {str(message)[:60]!r}, expected an object with "
                f"`content` and as `role` one of {', '.join(_ROLES)}"
            )


_TYPES: dict[str, Any] = {
    **dict.fromkeys(("case_id", "suite", "family", "tier", "language", "cluster_id"), str),
    **dict.fromkeys(("version", "seed", "max_tokens"), int),
    **dict.fromkeys(("messages", "tools", "ideal", "wrong"), (list, tuple)),
    **dict.fromkeys(("schema", "expected"), Mapping),
    "grader": str,
}


def _words(expected: Any) -> str:
    names = {str: "a string", int: "a whole number", Mapping: "an object", list: "a list"}
    return names[expected[0] if isinstance(expected, tuple) else expected]


def read_cases(path: Path) -> list[Case]:
    """The cases of a JSONL file, one a line; blank lines are none.

    Raises:
        EvaluationError: not UTF-8, a line that is no case (numbered from 1), two of one id.
    """
    cases: list[Case] = []
    lines: dict[str, int] = {}
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path}: {error}, expected a JSONL file in UTF-8") from error
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path.name} line {number}"
        try:
            given = json.loads(line)
        except ValueError as error:
            raise EvaluationError(f"{where}: {error}, expected one JSON object") from error
        case = read_case(given, where=where)
        if case.case_id in lines:
            raise EvaluationError(
                f"{where}: case_id {case.case_id!r} is that of line {lines[case.case_id]}"
            )
        lines[case.case_id] = number
        cases.append(case)
    return cases


def write_cases(cases: Iterable[Case]) -> str:
    """JSONL, one canonical line a case, fields in the order of `Case`."""
    return "".join(
        json.dumps(case.to_dict(), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        + "\n"
        for case in cases
    )
