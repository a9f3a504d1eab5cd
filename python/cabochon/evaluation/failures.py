"""The answers that lost points, each with what it takes to see why and to ask again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import display
from ..types import Record
from .cases import Case
from .summary import CaseRecord

_CELL = 80  # characters of a text in a table


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(Record):
    """One answer below the full score."""

    suite: str
    case_id: str
    prompting: str
    repeat: int
    prompt: Sequence[Mapping[str, Any]] | None  # messages; None: the cases are not there
    output: str | None  # control strings visible; None: an error
    expected: Any
    extracted: Any
    verdict: str
    reason: str
    score: float | None
    near_miss: bool  # right content in a form that was not asked for
    replay: str | None  # the call that asks again; None: the cases are not there


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures(Record, Sequence[Failure]):
    """Failures by suite, the lowest scores first."""

    items: tuple[Failure, ...]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def _rows(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        head = ("suite", "case", "score", "verdict", "reason", "output", "expected")
        rows: list[Sequence[str]] = [
            (
                item.suite,
                item.case_id,
                "" if item.score is None else f"{item.score:.2f}",
                f"{item.verdict}, near miss" if item.near_miss else item.verdict,
                item.reason,
                _short(item.output or ""),
                _short(str(item.expected)),
            )
            for item in self.items
        ]
        return head, rows

    def table(self) -> str:
        """A line a failure."""
        return display.text_table(*self._rows())

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return display.html_table(*self._rows())


def failures(
    records: Sequence[CaseRecord],
    suite: str | None = None,
    *,
    cases: Mapping[str, Case] | None = None,
) -> Failures:
    """Answers below the full score, errors and answers that were not executed among them.

    Args:
        suite: of this suite alone.
        cases: by case_id, for the prompts: a record has only a prompt's hash.
    """
    known = cases or {}
    found = [
        _failure(record, known.get(record["case_id"]))
        for record in records
        if record["score"] != 1 and suite in (None, record["suite"])
    ]
    return Failures(items=tuple(sorted(found, key=_order)))


def _order(item: Failure) -> tuple[Any, ...]:
    score = -1.0 if item.score is None else item.score
    return item.suite, score, item.case_id, item.prompting, item.repeat


def _failure(record: CaseRecord, case: Case | None) -> Failure:
    return Failure(
        suite=record["suite"],
        case_id=record["case_id"],
        prompting=record["prompting"],
        repeat=record["repeat"],
        prompt=None if case is None else case.messages,
        output=record["output_text"],
        expected=record["expected"],
        extracted=record["extracted"],
        verdict=record["verdict"],
        reason=record["reason"] or "",
        score=record["score"],
        near_miss=bool(record.get("near_miss")),
        replay=None if case is None else _replay(record, case),
    )


def _replay(record: CaseRecord, case: Case) -> str:
    """A conversation is run by evaluate, which puts the model's own answers between its turns."""
    if case.is_talk or record["prompting"] != "zero-shot":
        return f"cabochon.evaluate(model, [{case.to_dict()!r}], prompting={record['prompting']!r})"
    seed = "temperature=0" if record["seed"] is None else f"seed={record['seed']}"
    tools = f", tools={list(case.tools)!r}" if case.tools else ""
    return (
        f"model.generate({list(case.messages)!r}, {seed}, max_tokens={record['max_tokens']}{tools})"
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _CELL else line[: _CELL - 3] + "..."
