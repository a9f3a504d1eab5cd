"""Runs that are killed, and runs in shards: what comes out is what one quiet run gives.

RUN_KILLS=200 kills so many runs in place of 20.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cabochon
import kill_run
from cabochon.evaluation.record import same

KILLS = int(os.environ.get("RUN_KILLS", "20"))


class Runner:
    """Runs evaluations in a process that survives the kill of its children."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(kill_run.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, out: Path, *, kill_after_s: float | None, shard: Any = None) -> int:
        """The exit status: negative, the signal."""
        assert self._process.stdin and self._process.stdout
        options = {"out": str(out), "shard": shard, "kill_after_s": kill_after_s}
        self._process.stdin.write(json.dumps(options) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        assert self._process.wait(20) == 0


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    runner = Runner()
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def quiet() -> list[dict[str, Any]]:
    return [same(record) for record in kill_run.run().cases]


@pytest.fixture(scope="module")
def whole_s(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> float:
    """What a run takes that nobody kills."""
    for name in ("first", "second"):  # the first one waits for imports
        started = time.monotonic()
        assert runner.run(tmp_path_factory.mktemp("whole") / name, kill_after_s=None) == 0
    return time.monotonic() - started


def lines(out: Path) -> list[str]:
    path = out / "cases.jsonl"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def test_killed_at_any_moment_a_run_goes_on_and_ends_as_if_it_had_not_been(
    runner: Runner, quiet: list[dict[str, Any]], whole_s: float, tmp_path: Path
) -> None:
    draw = random.Random(6)
    killed = cut_short = 0
    while killed < KILLS:
        out = tmp_path / f"run-{killed}"
        kills = 0
        for _ in range(draw.randint(1, 3)):
            kills += runner.run(out, kill_after_s=draw.uniform(0, whole_s)) == -signal.SIGKILL
            cut_short += 0 < len(lines(out)) < len(quiet)
        if not kills:
            continue
        killed += 1

        assert runner.run(out, kill_after_s=None) == 0

        report = cabochon.Report.load(out)
        assert report.complete
        assert [same(record) for record in report.cases] == quiet  # none lost, none changed
        assert len(lines(out)) == len(quiet)  # none doubled
        calls = len(Path(f"{out}.calls").read_bytes())
        turns = 4 * kill_run.LANES  # of the cases that were in flight at a kill, at most
        assert kill_run.answers() <= calls <= kill_run.answers() + kills * turns
    assert cut_short >= KILLS // 4  # the moments were not all before or after the work


def test_a_torn_last_line_is_cut_off_and_done_again(tmp_path: Path) -> None:
    first = kill_run.run(str(tmp_path))
    path = tmp_path / "cases.jsonl"
    data = path.read_bytes()
    for torn in (1, 20, len(lines(tmp_path)[-1]) + 1):
        path.write_bytes(data[:-torn])

        again = kill_run.run(str(tmp_path))

        assert [same(record) for record in again.cases] == [same(record) for record in first.cases]
        assert len(lines(tmp_path)) == len(first.cases)
        assert cabochon.Report.load(tmp_path).cases == again.cases
        data = path.read_bytes()


@pytest.mark.parametrize("count", [1, 2, 7, 16])
def test_shards_that_are_merged_give_the_records_and_the_score_of_one_run(
    runner: Runner, quiet: list[dict[str, Any]], whole_s: float, tmp_path: Path, count: int
) -> None:
    out = tmp_path / "run"
    for index in range(count):
        if index == count // 2:  # this one is killed half way, and goes on
            runner.run(out, kill_after_s=whole_s / 3, shard=[index, count])
        assert runner.run(out, kill_after_s=None, shard=[index, count]) == 0

    merged = cabochon.Report.merge(out)

    assert merged.complete
    assert merged.missing_shards == ()
    assert [same(record) for record in merged.cases] == quiet
    alone = kill_run.run()
    assert (merged.score, merged.ci95) == (alone.score, alone.ci95)
    assert merged.summary.to_dict() == {
        **alone.summary.to_dict(),
        "suites": merged.summary.to_dict()["suites"],
    }
