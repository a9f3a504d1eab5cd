"""The form in which every benchmark reports: one readable line, and the same as one JSON line."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cabochon
from cabochon import _core

SCHEMA = 1
RESULTS = Path(__file__).with_name("results")


def weights_origin(folder: Path) -> str:
    """What the checkpoint's writer said of its weights ("random", "trained"), else "unstated"."""
    shard = sorted(folder.glob("*.safetensors"))[0]
    with shard.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return str(header.get("__metadata__", {}).get("origin", "unstated"))


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def machine() -> str:
    words = re.sub(r"[^a-z0-9]+", "-", cpu_name().lower()).strip("-")
    return f"{words}-{len(os.sched_getaffinity(0))}"


def commit() -> str:
    """The repository's commit, marked where files differ from it; benchmarks run from a clone."""

    def git(*words: str) -> str:
        where = Path(__file__).parent
        done = subprocess.run(["git", *words], cwd=where, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    name = git("rev-parse", "--short", "HEAD") or "uncommitted"
    return name + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else "")


def facts(model: cabochon.Model, folder: Path) -> dict[str, Any]:
    """What every record of a loaded model says beside its numbers."""
    info = model.info()
    formats = matrix_formats(model)
    # Where the head is packed, the table of embeddings beside it is as stored: only looked up.
    head = formats.get("head") or formats["embedding and head"]
    return {
        "schema": SCHEMA,
        "model": folder.resolve().name,
        "weights_origin": weights_origin(folder),
        "format": "+".join(sorted({kind for row, kind in formats.items() if row != "embedding"})),
        "head": head,
        "kv": info.kv,
        "context": model.context,
        "threads": info.threads,
        "tier": info.tier,
        "arithmetic": info.arithmetic,
        "build": _core.build["mode"],
        "compiler": _core.build["compiler"],
        "commit": commit(),
        "machine": machine(),
        "cpu": cpu_name(),
        "kernel": platform.release(),
    }


def matrix_formats(model: cabochon.Model) -> dict[str, str]:
    return {row.name: row.format for row in model.plan.rows if row.name != "norms and scales"}


def spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "values": list(values),
        "median": statistics.median(values),
        "best": max(values),
    }


def what(record: dict[str, Any], *facts: str) -> str:
    """How a line begins: case, model, weights, formats, then what the case adds."""
    return " ".join(
        [
            record["case"],
            record["model"],
            record["weights_origin"],
            record["format"],
            f"head={record['head']}",
            f"kv={record['kv']}",
            *facts,
        ]
    )


def how(record: dict[str, Any]) -> str:
    """How a line ends: on what it ran."""
    arithmetic = " fast" if record.get("arithmetic") == "fast" else ""
    return (
        f"threads={record['threads']} {record['tier']}{arithmetic} {record['build']} "
        f"{record['compiler'].replace(' ', '-')} {record['commit']}"
    )


def publish(line: str, record: dict[str, Any], *, save: bool) -> None:
    """Prints both lines; with `save` the JSON also joins results/<machine>/<date>-<case>.json."""
    text = json.dumps(record)
    print(line)
    print(text)
    if save:
        folder = RESULTS / record["machine"]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{datetime.date.today().isoformat()}-{record['case']}.json"
        with path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
