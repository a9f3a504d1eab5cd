"""Records in the forms of others: lm-eval's results and samples, CSV, a frame, Markdown.

Every score in them has its n, interval, truncated, unparsed and unscored share beside it.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..errors import EvaluationError, MissingExtra
from ..types import jsonable
from . import statistics
from .cases import Case, canonical, sha256
from .summary import PLAIN, CaseRecord, SuiteSummary, Summary, interval, summarise_run

_GROUP = "cabochon"
_NAME = 100  # characters of a name that becomes part of a file's
_HASHES = ("doc_hash", "prompt_hash", "target_hash")
# What a text file, a table of text or a page cannot hold as it is.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def visible(text: str) -> str:
    """`text` with control characters and halves of surrogate pairs as escapes: `\\x00`, `\\ud800`.
    Tabs and line ends stay."""
    return _UNWRITABLE.sub(lambda found: _escape(ord(found.group())), text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """What the system says against a file becomes an error of ours."""
    try:
        yield
    except OSError as error:
        raise EvaluationError(
            f"{path}: cannot be written: {error}; expected a path in a folder that exists and "
            "takes files"
        ) from error


# --- lm-eval -------------------------------------------------------------------------------------


def to_lm_eval(
    path: str | Path,
    records: Sequence[CaseRecord],
    manifest: Mapping[str, Any],
    *,
    cases: Mapping[str, Case] | None = None,
) -> list[Path]:
    """Writes what lm-eval writes: results_DATE.json and samples_TASK_DATE.jsonl, in a folder named
    for the model inside `path`. A suite is a task `cabochon_SUITE` of the group `cabochon`.

    Args:
        cases: by case_id, for the prompts; without them a prompt is named by its hash.

    Returns:
        The files, the results first.

    Raises:
        EvaluationError: a file cannot be written.

    Source: lm-eval 0.4.13, result_schema.py and loggers/evaluation_tracker.py.
    """
    summary = summarise_run(records, manifest)
    model = str((manifest.get("machine") or {}).get("name") or "cabochon")
    name = re.sub(r'["<>:/|\\?*\[\]]+', "__", visible(model)).strip(". ")[:_NAME]
    folder = Path(path) / (name or "cabochon")
    date = _date(records, manifest)
    ending = date.replace(tzinfo=None).isoformat().replace(":", "-")
    rows = _tasks(summary.suites)
    samples = {
        task: [
            _sample(index, record, (cases or {}).get(record["case_id"]))
            for index, record in enumerate(_ordered(records, row))
        ]
        for task, row in rows.items()
    }
    results = _results(summary, rows, manifest, model, date, samples)
    files = [folder / f"results_{ending}.json"]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        files[0].write_text(json.dumps(jsonable(results), indent=2), encoding="ascii")
        for task, lines in samples.items():
            files.append(folder / f"samples_{task}_{ending}.jsonl")
            text = "".join(json.dumps(jsonable(line)) + "\n" for line in lines)
            files[-1].write_text(text, encoding="ascii")
    return files


def _tasks(rows: Iterable[SuiteSummary]) -> dict[str, SuiteSummary]:
    """Rows by a name that a file can have; a second one of the same letters gets a number."""
    found: dict[str, SuiteSummary] = {}
    for row in rows:
        name = row.suite if row.prompting == PLAIN else f"{row.suite}_{row.prompting}"
        task = first = f"{_GROUP}_" + re.sub(r"\W", "_", name, flags=re.ASCII)[:_NAME]
        number = 1
        while task in found:
            number += 1
            task = f"{first}_{number}"
        found[task] = row
    return found


def _ordered(records: Iterable[CaseRecord], row: SuiteSummary) -> list[CaseRecord]:
    own = [r for r in records if (r["suite"], r["prompting"]) == (row.suite, row.prompting)]
    return sorted(own, key=lambda record: (str(record["case_id"]), record["repeat"]))


def _date(records: Sequence[CaseRecord], manifest: Mapping[str, Any]) -> datetime:
    """When the run was begun: the same run is written into the same files."""
    given = manifest.get("created") or max((str(record["time"]) for record in records), default="")
    try:
        found = datetime.fromisoformat(str(given).replace("Z", "+00:00"))
    except ValueError:
        found = datetime(1970, 1, 1)
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def _metrics(name: str, row: SuiteSummary) -> dict[str, Any]:
    answers = sum(row.verdicts.values())
    found: dict[str, Any] = {"name": name, "alias": name, "sample_len": row.n}
    if row.score is not None:
        found["score,none"] = row.score.mean
        found["score_stderr,none"] = row.score.standard_error
        found["score_low,none"], found["score_high,none"] = row.score.ci95
    for metric in ("truncated", "unparsed", "unscored"):
        found[f"{metric},none"] = getattr(row, metric) / answers
    return found


def _results(
    summary: Summary,
    rows: Mapping[str, SuiteSummary],
    manifest: Mapping[str, Any],
    model: str,
    date: datetime,
    samples: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    results = {task: _metrics(task, row) for task, row in rows.items()}
    groups: dict[str, Any] = {}
    if summary.score is not None:
        groups[_GROUP] = {
            "name": _GROUP,
            "alias": _GROUP,
            "sample_len": summary.score.n,
            "score,none": summary.score.mean,
            "score_stderr,none": summary.score.standard_error,
            "score_low,none": summary.score.low,
            "score_high,none": summary.score.high,
        }
    suites = manifest.get("suites") or {}
    versions = {task: (suites.get(row.suite) or {}).get("version") for task, row in rows.items()}
    formats = manifest.get("formats") or {}
    return {
        "results": {**groups, **results},
        **({"groups": groups} if groups else {}),
        "group_subtasks": {_GROUP: list(rows)},
        "configs": {
            task: {
                "task": task,
                "output_type": "generate_until",
                "repeats": row.repeats,
                "metadata": {"suite": row.suite, "prompting": row.prompting},
            }
            for task, row in rows.items()
        },
        "versions": {**dict.fromkeys(groups), **versions},
        "n-shot": {task: 3 if "few-shot" in row.prompting else 0 for task, row in rows.items()},
        "higher_is_better": {task: {"score": True} for task in (*groups, *rows)},
        "n-samples": {
            task: {
                "original": (suites.get(row.suite) or {}).get("cases", row.n),
                "effective": row.n,
            }
            for task, row in rows.items()
        },
        "config": {
            "model": "cabochon",
            "model_args": {"path": model, **formats},
            "model_sha": manifest.get("fingerprint"),
            "batch_size": None,
            "device": formats.get("device"),
            "limit": (manifest.get("recipe") or {}).get("n"),
            "bootstrap_iters": statistics.RESAMPLES,
            "gen_kwargs": manifest.get("recipe"),
        },
        "date": date.timestamp(),
        "task_hashes": {
            task: sha256("".join(line[name] for line in lines for name in _HASHES))
            for task, lines in samples.items()
        },
        "model_source": "cabochon",
        "model_name": model,
        "headline": summary.headline,
        "manifest": manifest,
    }


def _sample(index: int, record: CaseRecord, case: Case | None) -> dict[str, Any]:
    """A line of samples; of a conversation there is a request a turn."""
    names = ("case_id", "version", "family", "tier", "language", "cluster_id", "repeat")
    doc = {name: record[name] for name in names}
    target = canonical(jsonable(record["expected"]))
    prompt = f"sha256:{record['prompt_sha256']}"
    if case is not None:
        prompt = json.dumps(jsonable(case.messages), ensure_ascii=False)
    turns = [*(record["turns"] or ()), record]
    options = {"max_gen_toks": record["max_tokens"]}
    sample = {
        "doc_id": index,
        "doc": doc,
        "target": target,
        "arguments": {
            f"gen_args_{turn}": {"arg_0": prompt, "arg_1": options} for turn in range(len(turns))
        },
        "resps": [[turn["output_text"] or ""] for turn in turns],
        "filtered_resps": [*("" for _ in turns[1:]), _text(record["extracted"])],
        "filter": "none",
        "metrics": [] if record["score"] is None else ["score"],
        "doc_hash": sha256(canonical(jsonable(doc))),
        "prompt_hash": str(record["prompt_sha256"]),
        "target_hash": sha256(target),
        **{name: record[name] for name in ("verdict", "reason", "finish_reason")},
    }
    if record["score"] is not None:
        sample["score"] = float(record["score"])
    return sample


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(jsonable(value), ensure_ascii=False)


# --- tables --------------------------------------------------------------------------------------


def columns(records: Sequence[CaseRecord]) -> list[str]:
    """Keys of the records, in their order."""
    return list(dict.fromkeys(key for record in records for key in record))


def to_csv(path: str | Path, records: Sequence[CaseRecord]) -> None:
    """One line a record in UTF-8; objects and lists are JSON, nothing is an empty cell, and
    characters that readers of CSV stumble over are escapes (`visible`).

    Raises:
        EvaluationError: the file cannot be written.
    """
    names = columns(records)
    with writing(path), Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)  # CRLF: then cells with CR or LF are quoted
        writer.writerow(names)
        for record in records:
            writer.writerow([_cell(record.get(name)) for name in names])


def _cell(value: Any) -> Any:
    """A scalar; everything else as JSON."""
    if isinstance(value, str):
        return visible(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return json.dumps(jsonable(value), ensure_ascii=True)


def frame(records: Sequence[CaseRecord]) -> Any:
    """A pandas DataFrame, a row a record; objects and lists are JSON, so `.to_parquet(path)` works.

    Whole numbers are Int64, numbers float64, truths boolean, all else text; nothing is missing.

    Raises:
        MissingExtra: pandas is not installed.
    """
    try:
        import pandas  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        raise MissingExtra(
            "frame() needs pandas: pip install 'cabochon[eval]'", extra="eval"
        ) from None
    found = {}
    for name in columns(records):
        cells = [_cell(record.get(name)) for record in records]
        dtype = _dtype({type(cell) for cell in cells if cell is not None})
        if dtype == "string":
            cells = [cell if cell is None else str(cell) for cell in cells]
        found[name] = pandas.Series(cells, dtype=dtype)
    return pandas.DataFrame(found)


def _dtype(kinds: set[type]) -> str:
    if kinds == {bool}:
        return "boolean"
    if kinds == {int}:
        return "Int64"
    if kinds and kinds <= {int, float}:
        return "float64"
    return "string"


def to_markdown(
    records: Sequence[CaseRecord],
    manifest: Mapping[str, Any],
) -> str:
    """The table of a model card: a row a suite, the mean of all, and how they were asked."""
    summary = summarise_run(records, manifest)
    head = ["suite", "prompting", "n", "score %", "95 % interval"]
    head += ["truncated", "unparsed", "unscored"]
    lines = [head, ["---"] * 2 + ["--:"] * 6]
    for row in summary.suites:
        lines.append([row.suite, row.prompting, str(row.n), *_marked(row)])
    if summary.score is not None:
        score = f"**{100 * summary.score.mean:.1f}**"
        count = f"**mean of {len(summary.scored)} suites**"
        lines.append([count, "", str(summary.score.n), score, interval(summary.score), *[""] * 3])
    table = "\n".join("| " + " | ".join(map(_in_table, line)) + " |" for line in lines)
    recipe = manifest.get("recipe") or {}
    asked = ", ".join(f"{name} {_text(value)}" for name, value in recipe.items())
    model = (manifest.get("machine") or {}).get("name", "")
    return f"{_in_table(str(model))}: {_in_table(summary.headline)}\n\n{table}\n\n" + (
        f"Recipe: {_in_table(asked)}.\n"
    )


def _marked(row: SuiteSummary) -> list[str]:
    score = ["", ""] if row.score is None else [f"{100 * row.score.mean:.1f}", interval(row.score)]
    return [*score, *(str(count) for count in (row.truncated, row.unparsed, row.unscored))]


def _in_table(text: str) -> str:
    """Text that cannot end a cell or begin HTML."""
    line = " ".join(visible(text).split())
    return line.replace("|", r"\|").replace("<", "&lt;")


def quantile(values: Iterable[float], share: float) -> float | None:
    """The smallest of the values that so large a share of them does not exceed; None of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
