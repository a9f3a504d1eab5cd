"""A report as one HTML file: no script, no network, everything that a model wrote escaped."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import display
from ..errors import MissingExtra
from ..types import jsonable
from . import plots, published
from .cases import Case
from .diagnose import diagnose
from .exports import quantile, visible, writing
from .failures import Failure, failures
from .grading import ERROR, FAIL, NOT_EXECUTED, PARTIAL, PASS, REFUSED, TRUNCATED, UNPARSED
from .summary import PLAIN, CaseRecord, Summary, summarise_run

Run = tuple[str, Sequence[CaseRecord], Mapping[str, Any]]  # name, records, manifest

FAILURES = 20  # a suite
_LONGEST = 4_000  # characters of a text on the page; the rest is counted
_VERDICTS = (PASS, PARTIAL, FAIL, UNPARSED, TRUNCATED, REFUSED, NOT_EXECUTED, ERROR)


def write_page(
    path: str | Path,
    records: Sequence[CaseRecord],
    manifest: Mapping[str, Any],
    *,
    cases: Mapping[str, Case] | None = None,
    others: Sequence[Run] = (),
    with_published: bool = False,
    warnings: Sequence[str] | None = None,
) -> None:
    """Writes `page` to a file, in UTF-8.

    Raises:
        EvaluationError: the file cannot be written.
    """
    text = page(
        records,
        manifest,
        cases=cases,
        others=others,
        with_published=with_published,
        warnings=warnings,
    )
    with writing(path):
        Path(path).write_text(text, encoding="utf-8")


def page(
    records: Sequence[CaseRecord],
    manifest: Mapping[str, Any],
    *,
    cases: Mapping[str, Case] | None = None,
    others: Sequence[Run] = (),
    with_published: bool = False,
    warnings: Sequence[str] | None = None,
) -> str:
    """The report as HTML. Without matplotlib (extra `eval`) plots are tables.

    Args:
        records: of one run.
        manifest: of it; `machine.memory` (bytes by part), else `plan.memory_bytes`, is its memory.
        cases: by case_id, for the prompts of failures.
        others: further runs in the tables and plots of accuracy against memory and seconds.
        with_published: figures that others published stand at the end, as "other cases".
        warnings: stand under the headline; None: those of the manifest.
    """
    summary = summarise_run(records, manifest)
    name = str((manifest.get("machine") or {}).get("name") or "this run")
    runs = [(name, records, manifest), *others]
    points = [_point(*run) for run in runs]
    drawn, missing = _plots(points)
    facts: dict[str, Any] = {
        "title": f"Evaluation of {name}",
        "headline": summary.headline,
        "warnings": list(
            map(str, manifest.get("warnings") or () if warnings is None else warnings)
        ),
        "bars": _bars(summary),
        "suites": _table(*summary.rows()),
        "notes": summary.notes(),
        "verdicts": _verdicts(summary),
        "findings": _table(*diagnose(records, manifest).rows()),
        "speed": _speed(records),
        "memory": _memory(manifest),
        "points": _points(points) if others else {"head": [], "rows": []},
        "recipe": list(_flat({key: manifest.get(key) for key in manifest if key != "warnings"})),
        "published": published.TABLES if with_published else (),
        "failures": _failures(records, cases),
        "heat_maps": [_without_svg(found) for found in _heat_maps(records)],
    }
    clean = _clean(facts)
    # SVG is ours: its texts went through `visible`, and its writer escapes them.
    clean |= {"plots": drawn, "plots_missing": missing, "published": facts["published"]}
    for found in clean["heat_maps"]:
        found["svg"] = _heat_svg(found)
    return str(_template().render(clean))


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    source = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return environment.from_string(source)


def _clean(value: Any) -> Any:
    """Every text as a file in UTF-8 can hold it."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> dict[str, Any]:
    return {"head": list(head), "rows": [list(row) for row in rows]}


def _bars(summary: Summary) -> list[dict[str, Any]]:
    scores = [(row.name, row.score) for row in summary.suites]
    if len(summary.scored) > 1:
        scores.append(("mean", summary.score))
    return [
        {"name": name, "score": 100 * s.mean, "low": 100 * s.low, "high": 100 * s.high}
        for name, s in scores
        if s is not None
    ]


def _verdicts(summary: Summary) -> dict[str, Any]:
    rows = []
    for row in summary.suites:
        count = sum(row.verdicts.values())
        shares = (100 * row.verdicts.get(verdict, 0) / count for verdict in _VERDICTS)
        rows.append([row.name, str(count), *(f"{share:.1f}" for share in shares)])
    return _table(["suite", "answers", *_VERDICTS], rows)


def _speed(records: Sequence[CaseRecord]) -> dict[str, Any]:
    groups: dict[str, list[CaseRecord]] = defaultdict(list)
    for record in records:
        groups[str(record["suite"])].append(record)
    rows = []
    for suite, own in [*sorted(groups.items()), ("all", list(records))]:
        first = [float(r["first_token_s"]) for r in own if r["first_token_s"] is not None]
        total = [float(r["total_s"]) for r in own if r["total_s"] is not None]
        decode_s = math.fsum(r["decode_s"] or 0 for r in own)
        tokens = sum((r["thinking_tokens"] or 0) + (r["answer_tokens"] or 0) for r in own)
        wasted = sum(r["wasted_tokens"] or 0 for r in own)
        times = [quantile(first, 0.5), quantile(first, 0.95), quantile(total, 0.5)]
        rate = f"{tokens / decode_s:.1f}" if decode_s > 0 else ""
        cells = ["" if time is None else f"{time:.3f}" for time in times]
        rows.append([suite, f"{tokens:,}", f"{wasted:,}", rate, *cells])
    head = ["suite", "useful tokens", "wasted tokens", "useful tokens/s of a sequence"]
    return _table([*head, "first token s, p50", "p95", "answer s, p50"], rows)


def _memory_of(manifest: Mapping[str, Any]) -> dict[str, int]:
    """Bytes by part as they were allocated; else all of them as planned."""
    found = (manifest.get("machine") or {}).get("memory")
    if not found:
        planned = (manifest.get("plan") or {}).get("memory_bytes")
        found = {"planned": planned} if planned else {}
    return {str(name): int(size) for name, size in found.items()}


def _memory(manifest: Mapping[str, Any]) -> dict[str, Any]:
    rows = [[name, display.size(size)] for name, size in _memory_of(manifest).items()]
    return _table(["memory", "size"], rows)


def _point(
    name: str,
    records: Sequence[CaseRecord],
    manifest: Mapping[str, Any],
) -> tuple[str, float | None, float | None, float | None]:
    """Name, score in per cent, GiB, median seconds of an answer; None where not known."""
    score = summarise_run(records, manifest).score
    memory = sum(_memory_of(manifest).values())
    seconds = quantile([float(r["total_s"]) for r in records if r["total_s"] is not None], 0.5)
    return name, None if score is None else 100 * score.mean, memory / 2**30 or None, seconds


def _points(points: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    fronts = [{point[0] for point in plots.pareto_front(_known(points, i))} for i in (2, 3)]
    rows = []
    for name, *figures in points:
        cells = ["" if figure is None else f"{figure:.2f}" for figure in figures]
        best = ["yes" if name in front else "" for front in fronts]
        rows.append([name, *cells, *best])
    head = ["run", "score, %", "memory, GiB", "answer s, p50"]
    return _table([*head, "best for its memory", "best for its time"], rows)


def _known(points: Sequence[tuple[Any, ...]], index: int) -> list[plots.Point]:
    return [(p[0], p[index], p[1]) for p in points if p[1] is not None and p[index] is not None]


def _plots(points: Sequence[tuple[Any, ...]]) -> tuple[list[str], str]:
    """Accuracy against memory and seconds; without matplotlib none, and what to install."""
    drawn = []
    names = [(visible(str(name)), *rest) for name, *rest in points]
    try:
        for index, cost in ((2, "memory, GiB"), (3, "median answer, s")):
            known = _known(names, index)
            if len(known) > 1:
                drawn.append(plots.scatter(known, cost))
    except MissingExtra as error:
        return [], str(error)
    return drawn, ""


def _heat_maps(records: Sequence[CaseRecord]) -> list[dict[str, Any]]:
    """Of suites whose `expected` names `length` (tokens) and `depth` (0 to 1) of every case."""
    groups: dict[str, dict[tuple[float, int], list[float]]] = {}
    for record in records:
        expected = record["expected"] if isinstance(record["expected"], Mapping) else {}
        if record["score"] is not None and {"length", "depth"} <= expected.keys():
            cells = groups.setdefault(str(record["suite"]), defaultdict(list))
            place = float(expected["depth"]), int(expected["length"])
            cells[place].append(float(record["score"]))
    return [_heat_map(suite, cells) for suite, cells in sorted(groups.items())]


def _heat_map(suite: str, cells: Mapping[tuple[float, int], Sequence[float]]) -> dict[str, Any]:
    depths = sorted({depth for depth, _ in cells})
    lengths = sorted({length for _, length in cells})
    means = [
        [
            100 * math.fsum(found) / len(found) if (found := cells.get((depth, length))) else None
            for length in lengths
        ]
        for depth in depths
    ]
    rows = [
        [f"{depth:.2f}", *("" if mean is None else f"{mean:.0f}" for mean in line)]
        for depth, line in zip(depths, means, strict=True)
    ]
    head = ["depth", *(f"{length:,}" for length in lengths)]
    return {"title": suite, "head": head, "rows": rows, "means": means}


def _without_svg(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "svg": ""}


def _heat_svg(found: Mapping[str, Any]) -> str:
    cells = [[math.nan if mean is None else mean for mean in line] for line in found["means"]]
    try:
        return plots.heat_map([row[0] for row in found["rows"]], found["head"][1:], cells)
    except MissingExtra:
        return ""


def _flat(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, json.dumps(jsonable(value), ensure_ascii=False)


def _failures(
    records: Sequence[CaseRecord], cases: Mapping[str, Case] | None
) -> list[dict[str, Any]]:
    groups: dict[str, list[Failure]] = defaultdict(list)
    for failure in failures(records, cases=cases):
        groups[failure.suite].append(failure)
    return [
        {"name": suite, "count": len(own), "shown": [_shown(item) for item in own[:FAILURES]]}
        for suite, own in sorted(groups.items())
    ]


def _shown(item: Failure) -> dict[str, Any]:
    score = "no score" if item.score is None else f"{item.score:.2f}"
    near = ", near miss" if item.near_miss else ""
    way = "" if item.prompting == PLAIN else f", {item.prompting}"
    texts = [
        ("output", item.output),
        ("expected", item.expected),
        ("extracted", item.extracted),
        ("prompt", item.prompt),
        ("again", item.replay),
    ]
    return {
        "title": f"{item.case_id}{way}: {item.verdict}{near}, {score}, {item.reason}",
        "texts": [(name, _cut(value)) for name, value in texts if value is not None],
    }


def _cut(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(jsonable(value), ensure_ascii=False)
    more = len(text) - _LONGEST
    return text if more <= 0 else f"{text[:_LONGEST]}\n... and {more:,} more characters"
