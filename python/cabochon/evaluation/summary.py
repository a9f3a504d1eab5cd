"""What the records of a run add up to: a row a suite, and one mean that leaves nothing out."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import display
from ..errors import InvalidArgument
from ..types import Record
from . import grading, statistics
from .statistics import Estimate, Sample

CaseRecord = Mapping[str, Any]  # one line of cases.jsonl, as a dict
# Promptings that are printed beside the score and stand in no mean.
BESIDE = ("twin", "schema")
_SMOKE = "smoke"  # the preset that measures nothing
PLAIN = "zero-shot"  # the prompting that a table need not name


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteSummary(Record):
    """One suite under one prompting."""

    suite: str
    prompting: str
    n: int  # cases with a score; with repeats the case's mean is the unit
    score: Estimate | None  # None: nothing was scored
    upper: float | None  # the score if every truncated case had passed
    repeats: int  # answers a case
    variance_within: float | None  # of a case's repeats, mean over cases; None: one repeat
    variance_between: float | None  # of the cases' means
    verdicts: Mapping[str, int]  # answers by verdict
    tokens_per_s: float | None  # useful tokens a second of one sequence's decoding
    failure_bound: float | None  # where nothing failed: the failure rate still possible at 95 %

    @property
    def name(self) -> str:
        """The suite, and how it was prompted where that is not as usual."""
        return self.suite if self.prompting == PLAIN else f"{self.suite}, {self.prompting}"

    def cells(self, with_prompting: bool) -> list[str]:
        """A line of a table."""
        name = f"{self.suite}, {self.prompting}" if with_prompting else self.suite
        score = ("", "") if self.score is None else _score(self.score)
        counts = (str(count or "") for count in (self.truncated, self.unparsed, self.unscored))
        rate = "" if self.tokens_per_s is None else f"{self.tokens_per_s:.1f}"
        return [name, str(self.n), *score, *counts, rate]

    @property
    def truncated(self) -> int:
        """Answers cut by a limit that did not pass."""
        return self.verdicts.get(grading.TRUNCATED, 0)

    @property
    def unparsed(self) -> int:
        """Answers in which the strict extractor found nothing."""
        return self.verdicts.get(grading.UNPARSED, 0)

    @property
    def unscored(self) -> int:
        """Errors and answers that were not executed: neither 0 nor 1."""
        return sum(self.verdicts.get(name, 0) for name in grading.UNSCORED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary(Record):
    """All suites of a run."""

    suites: tuple[SuiteSummary, ...]
    score: Estimate | None  # over every suite that has a score
    upper: float | None
    scored: tuple[str, ...]  # suites in the mean
    missing: tuple[str, ...]  # suites of the run without one score
    failed: tuple[str, ...]  # suites with the score 0
    score_without_failed: Estimate | None  # None: no suite failed wholly, or all did
    is_measurement: bool = True  # False: a few cases to see that it runs, which have no mean

    @property
    def headline(self) -> str:
        """One line: the mean over all suites, what is missing, the mean without total failures."""
        count = len(self.scored) + len(self.missing)
        of = f"{len(self.scored)} of {count} suites" if self.missing else _count(count, "suite")
        if not self.is_measurement:
            return f"{of}: a few cases to see that it runs, not a measurement"
        if self.score is None:
            return f"{of}: nothing was scored"
        parts = [f"{of}: {percent(self.score)}"]
        if self.upper is not None and self.upper > self.score.mean:
            parts.append(f"at most {100 * self.upper:.1f} had no answer been cut")
        if self.missing:
            parts.append(f"without a score: {', '.join(self.missing)}")
        if self.score_without_failed is not None:
            without = f"{100 * self.score_without_failed.mean:.1f}"
            parts.append(f"{without} without {', '.join(self.failed)}, where every case failed")
        return "; ".join(parts)

    def rows(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        """Head and cells, a row a suite; the column of prompting where there are several."""
        several = {row.prompting for row in self.suites} != {PLAIN}
        head = ["suite", "n", "score", "95 %", "truncated", "unparsed", "unscored", "tokens/s"]
        rows: list[Sequence[str]] = [row.cells(several) for row in self.suites]
        return head, rows

    def notes(self) -> list[str]:
        """What the rows do not show, a line each: what no failure leaves possible, repeats."""
        lines = []
        for row in self.suites:
            if row.failure_bound is not None and row.score is not None:
                lines.append(
                    f"{row.name}: no failure in {_count(row.score.clusters, 'independent case')}, "
                    f"which still allows a failure rate of {100 * row.failure_bound:.1f} %"
                )
            if row.variance_within is not None and row.variance_between is not None:
                lines.append(
                    f"{row.name}: {row.repeats} answers a case; variance "
                    f"{row.variance_within:.4f} within cases, {row.variance_between:.4f} between"
                )
        return lines

    def table(self) -> str:
        """Headline, a row a suite and notes."""
        return "\n".join([self.headline, display.text_table(*self.rows()), *self.notes()])

    def _repr_html_(self) -> str:
        notes = display.html_table((), [(note,) for note in self.notes()])
        return display.html_table(*self.rows(), caption=self.headline) + notes


def percent(found: Estimate) -> str:
    """A score and its interval: "70.0 (40 to 89)", in per cent."""
    return f"{100 * found.mean:.1f} % ({interval(found)})"


def interval(found: Estimate) -> str:
    """Both ends in per cent."""
    return f"{100 * found.low:.1f} to {100 * found.high:.1f}"


def _score(found: Estimate) -> tuple[str, str]:
    return f"{100 * found.mean:.1f}", interval(found)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def run_key(records: Iterable[CaseRecord]) -> str:
    """What decides the resamples of a run: its cases, in no order."""
    keys = "\n".join(sorted(str(record["key"]) for record in records))
    return hashlib.sha256(keys.encode("utf-8", "surrogatepass")).hexdigest()


def case_scores(records: Iterable[CaseRecord]) -> dict[tuple[Any, ...], list[CaseRecord]]:
    """Scored answers of each case under each prompting, in the order of the cases' names.

    Returns:
        (suite, prompting, case_id, version): its repeats.
    """
    found: dict[tuple[Any, ...], list[CaseRecord]] = defaultdict(list)
    for record in records:
        if record["score"] is not None:
            key = (record["suite"], record["prompting"], record["case_id"], record["version"])
            found[key].append(record)
    return {
        key: sorted(found[key], key=lambda record: record["repeat"])
        for key in sorted(found, key=lambda key: tuple(map(str, key)))
    }


def mean_score(repeats: Sequence[CaseRecord]) -> float:
    """Of one case."""
    return math.fsum(float(record["score"]) for record in repeats) / len(repeats)


def weights_of(suites: Sequence[str], weights: Mapping[str, float] | None) -> dict[str, float]:
    """The share of each suite in a mean; the sum is 1.

    Raises:
        InvalidArgument: a suite without a weight, or one that is not positive.
    """
    given = {suite: 1.0 if weights is None else weights.get(suite, 0.0) for suite in suites}
    for suite, weight in given.items():
        if not 0 < weight < math.inf:
            raise InvalidArgument(
                f"weights: suite {suite!r} has {weight!r}, expected a positive number for every "
                f"suite of the run: {', '.join(suites)}",
                argument="weights",
            )
    total = math.fsum(given.values())
    return {suite: weight / total for suite, weight in given.items()}


def sample_of(cases: Sequence[Sequence[CaseRecord]]) -> Sample:
    """The cases' mean scores and clusters."""
    clusters = [str(repeats[0]["cluster_id"]) for repeats in cases]
    return Sample.of([mean_score(repeats) for repeats in cases], clusters)


def summarise(
    records: Sequence[CaseRecord],
    *,
    suites: Iterable[str] = (),
    weights: Mapping[str, float] | None = None,
) -> Summary:
    """Rows and mean of finished cases.

    Args:
        records: of one run, in any order: the same records give the same numbers.
        suites: names that the run should have had; those without a score are told.
        weights: of the suites in the mean; None: all alike.
    """
    key = run_key(records)
    by_case = case_scores(records)
    counted = {place: cases for place, cases in by_case.items() if place[1] not in BESIDE}
    groups: dict[tuple[str, str], list[CaseRecord]] = defaultdict(list)
    for record in records:
        groups[record["suite"], record["prompting"]].append(record)
    rows = tuple(
        _suite(name, prompting, groups[name, prompting], by_case, key)
        for name, prompting in sorted(groups, key=lambda pair: tuple(map(str, pair)))
    )
    samples = {}
    for name in dict.fromkeys(str(place[0]) for place in counted):
        samples[name] = sample_of([cases for place, cases in counted.items() if place[0] == name])
    failed = tuple(sorted(name for name, sample in samples.items() if sample.mean == 0))
    others = {name: sample for name, sample in samples.items() if name not in failed}
    shares = weights_of(sorted(samples), weights)
    score = statistics.stratified(samples, key, shares) if samples else None
    more = math.fsum(share * _cut_share(counted, name) for name, share in shares.items())
    return Summary(
        suites=rows,
        score=score,
        upper=None if score is None else min(1.0, score.mean + more),
        scored=tuple(sorted(samples)),
        missing=tuple(sorted(({row.suite for row in rows} | set(suites)) - set(samples))),
        failed=failed,
        score_without_failed=(
            statistics.stratified(others, key, weights_of(sorted(others), weights))
            if failed and others
            else None
        ),
    )


def summarise_run(records: Sequence[CaseRecord], manifest: Mapping[str, Any]) -> Summary:
    """The same as the manifest asks for: its suites, the weights of its recipe, and no mean of the
    preset "smoke"."""
    recipe = manifest.get("recipe") or {}
    suites = manifest.get("suites") or ()
    found = summarise(records, suites=suites, weights=recipe.get("weights"))
    if recipe.get("preset") != _SMOKE:
        return found
    return replace(found, score=None, upper=None, score_without_failed=None, is_measurement=False)


def _cut_share(by_case: Mapping[tuple[Any, ...], Sequence[CaseRecord]], suite: str) -> float:
    cases = [repeats for place, repeats in by_case.items() if place[0] == suite]
    return math.fsum(map(_cut, cases)) / len(cases)


def _cut(repeats: Sequence[CaseRecord]) -> float:
    return sum(str(record["verdict"]) == grading.TRUNCATED for record in repeats) / len(repeats)


def _suite(
    name: str,
    prompting: str,
    records: Sequence[CaseRecord],
    by_case: Mapping[tuple[Any, ...], Sequence[CaseRecord]],
    key: str,
) -> SuiteSummary:
    cases = [found for place, found in by_case.items() if place[:2] == (name, prompting)]
    sample = sample_of(cases)
    score = statistics.estimate(sample, f"{key}/{name}/{prompting}") if cases else None
    repeats = max(map(len, cases), default=1)
    scores = [np.array([record["score"] for record in found], np.float64) for found in cases]
    several = [values for values in scores if len(values) > 1]
    verdicts: dict[str, int] = defaultdict(int)
    for record in records:
        verdicts[record["verdict"]] += 1
    perfect = bool(cases) and all(bool((values == 1).all()) for values in scores)
    return SuiteSummary(
        suite=name,
        prompting=prompting,
        n=len(cases),
        score=score,
        upper=min(1.0, score.mean + math.fsum(map(_cut, cases)) / len(cases)) if score else None,
        repeats=repeats,
        variance_within=(
            float(np.mean([values.var(ddof=1) for values in several])) if several else None
        ),
        variance_between=(float(sample.values.var(ddof=1)) if several and len(cases) > 1 else None),
        verdicts=dict(sorted(verdicts.items())),
        tokens_per_s=useful_rate(records),
        failure_bound=statistics.failure_bound(sample.clusters) if perfect else None,
    )


def useful_rate(records: Iterable[CaseRecord]) -> float | None:
    """Tokens of thoughts and answers a second of a sequence's decoding; what was written after
    the end of a turn counts nothing. None: no times."""
    timed = [record for record in records if record["decode_s"]]
    seconds = math.fsum(record["decode_s"] for record in timed)
    tokens = sum(
        (record["thinking_tokens"] or 0) + (record["answer_tokens"] or 0) for record in timed
    )
    return tokens / seconds if seconds > 0 else None
