"""A run shared out among workers of Ray (the package), some of which are killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="needs '.[ray]'")
pytestmark = pytest.mark.adapters

CASES = int(os.environ.get("CLUSTER_CASES", "120"))
KILLS = int(os.environ.get("CLUSTER_KILLS", "3"))


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    import ray

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def right(case: Any, output: Any) -> bool:
    return "e" in output.text


def deadly(case: Any, output: Any) -> bool:
    """Kills its worker in one case; in a process that is no worker of Ray it is harmless."""
    if case.case_id == "c-0017" and "RAY_JOB_ID" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    return right(case, output)


def cases(grader: Any, count: int) -> list[dict[str, Any]]:
    return [
        {
            "case_id": f"c-{index:04}",
            "prompt": f"Say something of number {index}.",
            "expected": index,
            "grader": grader,
            "max_tokens": 8 + index % 9,
        }
        for index in range(count)
    ]


def workers() -> list[int]:
    """Processes that answer, by the name that Ray gives them."""
    pids = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and (folder / "cmdline").read_bytes().startswith(
                b"ray::Worker.answer"
            ):
                pids.append(int(folder.name))
    return sorted(pids)


def compared(report: Any) -> list[dict[str, Any]]:
    from cabochon.evaluation.record import same

    return sorted((same(record) for record in report.cases), key=lambda record: record["key"])


def test_records_are_those_of_one_process_while_workers_are_killed(
    ray: Any, model: Any, tmp_path: Any
) -> None:
    whole = model.evaluate(cases(right, CASES), progress=False)
    stop = threading.Event()
    killed: list[int] = []

    def kill() -> None:
        rng = random.Random(1)
        while len(killed) < KILLS and not stop.wait(0.4):
            if pids := workers():
                killed.append(rng.choice(pids))
                os.kill(killed[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    shared = model.evaluate(
        cases(right, CASES), cluster="ray", out=tmp_path / "run", progress=False
    )
    stop.set()
    killer.join()

    assert shared.complete
    assert killed
    assert compared(shared) == compared(whole)
    assert shared.score == whole.score


def test_a_case_that_kills_its_workers_is_told_and_the_others_are_answered(
    ray: Any, model: Any
) -> None:
    report = model.evaluate(cases(deadly, 40), cluster="ray", progress=False)

    by_id = {record["case_id"]: record for record in report.cases}
    assert len(by_id) == 40
    assert by_id["c-0017"]["verdict"] == "error"
    assert "its worker died 3 times" in by_id["c-0017"]["reason"]
    assert all(r["score"] is not None for name, r in by_id.items() if name != "c-0017")


def test_a_run_goes_on_where_one_process_stopped(ray: Any, model: Any, tmp_path: Any) -> None:
    out = tmp_path / "run"
    some = model.evaluate(cases(right, 30), out=out, progress=False)
    lines = (out / "cases.jsonl").read_bytes().splitlines(keepends=True)
    (out / "cases.jsonl").write_bytes(b"".join(lines[:11]))
    started = time.time()

    report = model.evaluate(cases(right, 30), out=out, cluster="ray", progress=False)

    assert compared(report) == compared(some)
    assert (out / "cases.jsonl").read_bytes().startswith(b"".join(lines[:11]))
    assert time.time() > started


def test_only_ray_is_a_cluster(model: Any) -> None:
    from cabochon.errors import EvaluationError

    with pytest.raises(EvaluationError, match="cluster is 'slurm'"):
        model.evaluate(cases(right, 1), cluster="slurm")
