"""What a diagnosis is made of: findings, and the answers of a run as checks look at them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .. import display
from ..chat.parser import AnswerParser, read_written
from ..types import Record
from .summary import BESIDE, CaseRecord, case_scores

SHOWN = 5  # commonest forms, cases to read first


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(Record):
    """One thing that is probably wrong."""

    name: str
    suite: str  # "" of the whole run
    seen: str  # what, with its numbers
    share: float  # of the answers that it was looked for in, 0 to 1
    points: float  # of the run's score that these answers lost, 0 to 100
    cases: tuple[str, ...]  # evidence, those that lost most first
    cause: str
    next_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis(Record, Sequence[Finding]):
    """Findings, worst first; empty of a clean run."""

    findings: tuple[Finding, ...]

    def __len__(self) -> int:
        return len(self.findings)

    def __getitem__(self, index: Any) -> Any:
        return self.findings[index]

    def rows(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        """Head and cells, a row a finding."""
        head = ["finding", "suite", "share", "points", "seen", "cause", "next step", "cases"]
        rows: list[Sequence[str]] = []
        for found in self.findings:
            more = " ..." if len(found.cases) > SHOWN else ""
            cases = ", ".join(found.cases[:SHOWN]) + more
            share, points = f"{100 * found.share:.1f} %", f"{found.points:.1f}"
            head_cells = [found.name, found.suite or "all", share, points]
            rows.append([*head_cells, found.seen, found.cause, found.next_step, cases])
        return head, rows

    def table(self) -> str:
        """A paragraph a finding."""
        head, rows = self.rows()
        texts = []
        for name, suite, share, points, *rest in rows:
            lines = [f"{name} ({suite}): {share} of the answers, {points} points of the score"]
            lines += [f"  {title}: {text}" for title, text in zip(head[4:], rest, strict=True)]
            texts.append("\n".join(lines))
        return "\n".join(texts) or "no finding"

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return display.html_table(*self.rows(), caption=None if self.findings else "no finding")


class Answer:
    """A record and, read when somebody asks, what its output says."""

    def __init__(self, record: CaseRecord) -> None:
        self.record = record
        self.name = str(record["case_id"])
        self.suite = str(record["suite"])
        self.score = 0.0 if record["score"] is None else float(record["score"])

    @cached_property
    def parsed(self) -> AnswerParser:
        """The output, or the last of a conversation."""
        controls = self.record.get("controls")
        found = None if controls is None else set(controls)
        return read_written(self.record["output_text"] or "", controls=found)

    @property
    def text(self) -> str:
        """The answer alone."""
        return self.parsed.text.strip()

    @property
    def is_there(self) -> bool:
        """There is an output at all."""
        return self.record["output_text"] is not None

    @property
    def is_empty(self) -> bool:
        """Neither text nor a call."""
        return self.is_there and not self.text and not self.parsed.tool_calls

    @property
    def tokens(self) -> int:
        """Of thoughts and answer."""
        return (self.record["thinking_tokens"] or 0) + (self.record["answer_tokens"] or 0)

    @property
    def turns(self) -> list[Mapping[str, Any]]:
        """Of a conversation every answer, else the one."""
        return [*(self.record.get("turns") or ()), self.record]


class Run:
    """The answers of a run, by suite; those beside the score apart."""

    def __init__(self, records: Sequence[CaseRecord], manifest: Mapping[str, Any]) -> None:
        self.manifest = manifest
        self.records = records
        answers = [Answer(record) for record in records]
        self.answers = [a for a in answers if a.record["prompting"] not in BESIDE]
        self.twins = [a for a in answers if a.record["prompting"] == "twin"]
        self.suites: dict[str, list[Answer]] = defaultdict(list)
        for answer in sorted(self.answers, key=lambda answer: answer.suite):
            self.suites[answer.suite].append(answer)
        self.cases = case_scores(answer.record for answer in self.answers)
        self.means = {
            suite: math.fsum(answer.score for answer in scored) / len(scored)
            for suite, answers in self.suites.items()
            if (scored := [a for a in answers if a.record["score"] is not None])
        }

    def finding(
        self,
        name: str,
        answers: Iterable[Answer],
        of: Sequence[Answer],
        seen: str,
        cause: str,
        next_step: str,
    ) -> Finding:
        """One, with its evidence in order of what was lost."""
        found = sorted(answers, key=lambda answer: (answer.score, answer.name))
        suites = {answer.suite for answer in of}
        lost = math.fsum((1 - answer.score) / len(self.suites[answer.suite]) for answer in found)
        return Finding(
            name=name,
            suite=suites.pop() if len(suites) == 1 and len(self.suites) > 1 else "",
            seen=seen,
            share=len(found) / len(of),
            points=100 * lost / len(self.suites),
            cases=tuple(dict.fromkeys(answer.name for answer in found)),
            cause=cause,
            next_step=next_step,
        )
