"""Two runs over the cases that both have: what is shared is paired, what is not is counted."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import display
from ..types import Record
from . import statistics
from .cases import canonical
from .statistics import Estimate, Sample
from .summary import BESIDE, PLAIN, CaseRecord, mean_score, run_key, weights_of

Place = tuple[Any, ...]  # (suite, prompting, case_id)
# Facts of a manifest that say what was compared, not how it was asked.
_SUBJECT = ("fingerprint", "formats", "numerics", "version", "machine.name", "machine.tier")
_NAMED = 3  # cases that are named where they cannot be compared; to_dict() has all


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired(Record):
    """One suite under one prompting, or all of them."""

    suite: str
    prompting: str
    n: int  # shared cases; with repeats a case's mean is the unit
    this: float  # mean score
    other: float
    difference: Estimate  # this - other
    wins: int  # cases on which `this` scores higher
    losses: int
    ties: int
    p: float  # two-sided
    adjusted: float | None  # by Holm over the suites; None: the row of all
    test: str

    def cells(self) -> list[str]:
        """A line of a table, scores in per cent and points."""
        adjusted = "" if self.adjusted is None else _chance(self.adjusted)
        name = f"{self.suite}, {self.prompting}" if self.prompting else self.suite
        counts = map(str, (self.wins, self.losses, self.ties))
        scores = (f"{100 * score:.1f}" for score in (self.this, self.other))
        found = self.difference
        ends = f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
        difference = f"{100 * found.mean:+.1f}"
        tested = [_chance(self.p), adjusted, self.test]
        return [name, str(self.n), *scores, difference, ends, *counts, *tested]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Record):
    """This run minus another over what both have."""

    rows: tuple[Paired, ...]
    overall: Paired | None  # weighted as the mean over suites is; None: nothing is shared
    conditions: tuple[str, ...]  # what was not asked alike: a difference may come from it
    subjects: tuple[str, ...]  # what was compared: models, formats, devices
    not_shared: Mapping[str, tuple[str, ...]]  # why: case ids

    def notes(self) -> list[str]:
        """What must be known before the numbers are read, a line each."""
        lines = [f"asked otherwise: {text}" for text in self.conditions]
        lines += [f"compared: {text}" for text in self.subjects]
        for why, ids in self.not_shared.items():
            more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
            lines.append(f"not compared: {len(ids)} {why}: {', '.join(ids[:_NAMED])}{more}")
        return lines

    @property
    def headline(self) -> str:
        """The difference over all suites in one line."""
        if self.overall is None:
            return "nothing is shared: no case stands in both with a score"
        found = self.overall.difference
        return (
            f"{100 * found.mean:+.1f} points ({100 * found.low:+.1f} to {100 * found.high:+.1f}), "
            f"p {_chance(self.overall.p, '= ')}, over {self.overall.n} shared cases"
        )

    def _rows(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        head = ["suite", "n", "this", "other", "difference", "95 %"]
        head += ["wins", "losses", "ties", "p", "Holm", "test"]
        all_rows = self.rows if self.overall is None else (*self.rows, self.overall)
        several = len({row.prompting for row in self.rows}) > 1
        rows: list[Sequence[str]] = []
        for row in all_rows:
            name, *cells = row.cells()
            rows.append([name if several else row.suite, *cells])
        return head, rows

    def table(self) -> str:
        """Notes, headline and a row a suite."""
        return "\n".join([*self.notes(), self.headline, display.text_table(*self._rows())])

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        notes = display.html_table((), [(note,) for note in self.notes()])
        return notes + display.html_table(*self._rows(), caption=self.headline)


def compare(
    records: Sequence[CaseRecord],
    manifest: Mapping[str, Any],
    other_records: Sequence[CaseRecord],
    other_manifest: Mapping[str, Any],
    *,
    other_questions: Collection[str] = (),
) -> Comparison:
    """First minus second, a suite and in all.

    A case is shared where id, version, prompting and expected answer are the same in both and
    both scored it. Overlapping intervals of the two runs decide nothing; these pairs do. In the row
    of all, suites have the weights of the first run's recipe.

    Args:
        other_questions: ids under which the runs ask different things, which a record cannot tell.
    """
    ours, theirs = _by_place(records), _by_place(other_records)
    not_shared: dict[str, list[str]] = defaultdict(list)
    pairs: dict[Place, tuple[list[CaseRecord], list[CaseRecord]]] = {}
    for place in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(place, []), theirs.get(place, [])
        why = _why_not(mine, other)
        if not why and place[2] in other_questions:
            why = "with other questions"
        if why:
            _, prompting, case_id = place
            not_shared[why].append(case_id if prompting == PLAIN else f"{case_id}, {prompting}")
        else:
            pairs[place] = (_scored(mine), _scored(other))
    key = f"{run_key(records)}/{run_key(other_records)}"
    groups = list(dict.fromkeys(place[:2] for place in pairs))
    rows = [_row(suite, prompting, pairs, key) for suite, prompting in groups]
    adjusted = statistics.holm([row["p"] for row in rows])
    shared = [(place, *pair) for place, pair in pairs.items()]
    return Comparison(
        rows=tuple(Paired(**row, adjusted=p) for row, p in zip(rows, adjusted, strict=True)),
        overall=_overall(pairs, key, (manifest.get("recipe") or {}).get("weights")),
        conditions=tuple(_conditions(shared, manifest, other_manifest)),
        subjects=tuple(_differences(manifest, other_manifest, _SUBJECT)),
        not_shared={why: tuple(sorted(ids)) for why, ids in sorted(not_shared.items())},
    )


def _by_place(records: Iterable[CaseRecord]) -> dict[Place, list[CaseRecord]]:
    found: dict[Place, list[CaseRecord]] = defaultdict(list)
    for record in records:
        found[record["suite"], record["prompting"], record["case_id"]].append(record)
    return found


def _scored(records: Iterable[CaseRecord]) -> list[CaseRecord]:
    return [record for record in records if record["score"] is not None]


def _why_not(mine: Sequence[CaseRecord], other: Sequence[CaseRecord]) -> str:
    """Why two cases cannot be compared, "" where they can."""
    if not other:
        return "only in this run"
    if not mine:
        return "only in the other run"
    contents = {(r["version"], r["grader"], canonical(r["expected"])) for r in (*mine, *other)}
    if len(contents) > 1:
        return "with other contents"
    for records, name in ((mine, "this run"), (other, "the other run")):
        if not _scored(records):
            return f"without a score in {name}"
    return ""


def _differences_of(pairs: Mapping[Place, Any], suite: str, prompting: str | None) -> Sample:
    """Paired differences of a suite; of all its promptings together where that is None."""
    values, clusters = [], []
    for (name, way, _), (mine, other) in pairs.items():
        if name == suite and prompting in (way, None):
            values.append(mean_score(mine) - mean_score(other))
            clusters.append(str(mine[0]["cluster_id"]))
    return Sample.of(values, clusters)


def _means(pairs: Iterable[tuple[Any, Any]]) -> tuple[float, float]:
    both = list(pairs)
    this, other = (math.fsum(mean_score(pair[side]) for pair in both) for side in (0, 1))
    return this / len(both), other / len(both)


def _counts(values: Iterable[float]) -> dict[str, int]:
    signs = [int(np.sign(value)) for value in values]
    return {"wins": signs.count(1), "losses": signs.count(-1), "ties": signs.count(0)}


def _test(sample: Sample, key: str) -> tuple[float, str]:
    """McNemar where cases stand alone and pass or fail; else signs are flipped, a cluster at a
    time, which holds where cases of a cluster go together and McNemar does not."""
    counts = _counts(sample.values.tolist())
    if sample.clusters == sample.n and bool(np.isin(sample.values, (-1.0, 0.0, 1.0)).all()):
        return statistics.mcnemar(counts["wins"], counts["losses"])
    flipped = "sign flips" if sample.clusters == sample.n else "sign flips of clusters"
    return statistics.sign_flip(sample, f"{key}/flip"), flipped


def _row(suite: str, prompting: str, pairs: Mapping[Place, Any], key: str) -> dict[str, Any]:
    sample = _differences_of(pairs, suite, prompting)
    name = f"{key}/{suite}/{prompting}"
    this, other = _means(pair for place, pair in pairs.items() if place[:2] == (suite, prompting))
    p, test = _test(sample, name)
    return {
        "suite": suite,
        "prompting": prompting,
        "n": sample.n,
        "this": this,
        "other": other,
        "difference": statistics.estimate(sample, name, is_difference=True),
        **_counts(sample.values.tolist()),
        "p": p,
        "test": test,
    }


def _overall(
    pairs: Mapping[Place, Any], key: str, weights: Mapping[str, float] | None
) -> Paired | None:
    counted = {place: pair for place, pair in pairs.items() if place[1] not in BESIDE}
    suites = sorted({place[0] for place in counted})
    if not suites:
        return None
    samples = {suite: _differences_of(counted, suite, None) for suite in suites}
    shares = weights_of(suites, weights)
    # What a case counts in the mean, as a part of what the heaviest does: sums are tested.
    each = {suite: shares[suite] / sample.n for suite, sample in samples.items()}
    values: list[float] = []
    clusters: list[str] = []
    for suite, sample in samples.items():
        values += (sample.values * (each[suite] / max(each.values()))).tolist()
        clusters += [f"{suite}/{unit}" for unit in sample.units.tolist()]
    p, test = _test(Sample.of(values, clusters), key)
    both = [
        _means(
            pair for (name, way, _), pair in pairs.items() if name == suite and way not in BESIDE
        )
        for suite in suites
    ]
    this, other = (
        math.fsum(shares[suite] * pair[side] for suite, pair in zip(suites, both, strict=True))
        for side in (0, 1)
    )
    return Paired(
        suite="all",
        prompting="",
        n=len(values),
        this=this,
        other=other,
        difference=statistics.stratified(samples, key, shares, is_difference=True),
        **_counts(values),
        p=p,
        adjusted=None,
        test=test,
    )


# --- what was not alike --------------------------------------------------------------------------


def _conditions(
    shared: Sequence[tuple[Place, list[CaseRecord], list[CaseRecord]]],
    manifest: Mapping[str, Any],
    other: Mapping[str, Any],
) -> Iterator[str]:
    """Recipes, prompts, limits, graders and thinking that the two do not share."""
    yield from _differences(manifest, other, ("recipe", "decoding", "preset"))
    for name, said in (
        ("prompt_sha256", "shared cases have other prompt tokens"),
        ("template", "shared cases have another template"),
        ("max_tokens", "shared cases have another limit of output tokens"),
        ("grader_hash", "shared cases were graded by other code: rescore both"),
    ):
        count = sum({r[name] for r in a} != {r[name] for r in b} for _, a, b in shared)
        if count:
            yield f"{count} of {len(shared)} {said}"
    thoughts = [
        sum(any(record["thinking_tokens"] for record in pair[side]) for pair in shared)
        for side in (1, 2)
    ]
    if (thoughts[0] == 0) != (thoughts[1] == 0):
        yield f"this run thought in {thoughts[0]} shared cases, the other in {thoughts[1]}"


def _differences(
    manifest: Mapping[str, Any], other: Mapping[str, Any], names: Sequence[str]
) -> Iterator[str]:
    ours, theirs = dict(_flat(manifest)), dict(_flat(other))
    for name in sorted(ours.keys() | theirs.keys()):
        is_named = any(name == start or name.startswith(f"{start}.") for start in names)
        if is_named and ours.get(name) != theirs.get(name):
            yield f"{name} {_short(ours.get(name))} here, {_short(theirs.get(name))} there"


def _chance(p: float, equals: str = "") -> str:
    return f"{equals}{p:.3f}" if p >= 0.001 else "< 0.001"


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
