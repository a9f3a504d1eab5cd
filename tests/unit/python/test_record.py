"""The folder of a run: one writer, one run, and what it takes to go on with it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import cabochon
from cabochon.errors import EvaluationError
from cabochon.evaluation import grading, hashes
from cabochon.evaluation.record import FREE_KEYS, Shard, first_difference, same
from cabochon.evaluation.replay import Asked, Replay, ScriptedModel


def right(case: Any, output: Any) -> bool:
    return bool(output.text == case.expected["value"])


CASES = [{"prompt": f"{i}?", "expected": str(i), "grader": right} for i in range(12)]


def echo(prompt: Asked, options: Any) -> str:
    return f"{prompt.messages[-1]['content'].rstrip('?')}<turn|>"


def run(out: Path | None, *, name: str = "m", cases: Any = CASES, **options: Any) -> Any:
    return cabochon.evaluate(ScriptedModel(echo, name=name), cases, out=out, **options)


def test_a_folder_that_another_process_writes_to_is_refused_with_its_name(tmp_path: Path):
    run(tmp_path)
    with open(tmp_path / ".lock", "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        with pytest.raises(EvaluationError, match=rf"process {os.getpid()} of .* writes there"):
            run(tmp_path)

    run(tmp_path)  # the lock is given back


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "other"}, "fingerprint"),
        ({"max_tokens": 7}, "recipe.max_tokens"),
        ({"temperature": 1.0}, "recipe.temperature"),
        ({"cases": CASES[:5]}, "suites.cases.cases"),
        ({"cases": [{**CASES[0], "prompt": "7 ?"}, *CASES[1:]]}, "suites.cases.sha256"),
        ({"shard": (0, 2)}, "shard.count"),
    ],
)
def test_another_run_in_the_same_folder_is_refused_naming_the_first_difference(
    tmp_path: Path, change: Any, said: str
):
    run(tmp_path)
    before = (tmp_path / "cases.jsonl").read_bytes()

    with pytest.raises(EvaluationError, match=rf"has {said} .* this run .*nothing is mixed"):
        run(tmp_path, **change)

    assert (tmp_path / "cases.jsonl").read_bytes() == before


def test_what_a_machine_is_called_keeps_no_run_from_going_on():
    ours = {"fingerprint": "a", **dict.fromkeys(FREE_KEYS, 1)}

    assert first_difference(ours, {"fingerprint": "a", **dict.fromkeys(FREE_KEYS, 2)}) is None
    assert first_difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}) == ("a.c", 2, None)


def test_a_run_is_not_gone_on_with_where_that_is_not_wanted(tmp_path: Path):
    run(tmp_path)

    with pytest.raises(EvaluationError, match="resume is False"):
        run(tmp_path, resume=False)


def test_the_manifest_is_written_once_and_never_again(tmp_path: Path):
    run(tmp_path)
    before = (tmp_path / "manifest.json").stat()

    run(tmp_path)

    assert (tmp_path / "manifest.json").stat().st_mtime_ns == before.st_mtime_ns
    assert (tmp_path / "manifest.json").stat().st_ino == before.st_ino
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock", "attempts.jsonl", "cases.jsonl", "manifest.json", "questions.jsonl",
        "summary.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (b"nonsense\n", "line 13"),
        (b"[1]\n", "line 13"),
        (b'{"key": 1}\n', "line 13"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, damage: bytes, said: str):
    run(tmp_path)
    with open(tmp_path / "cases.jsonl", "ab") as file:
        file.write(damage)

    with pytest.raises(EvaluationError, match=said):
        cabochon.Report.load(tmp_path)


def test_two_outputs_under_one_key_are_refused(tmp_path: Path):
    run(tmp_path)
    path = tmp_path / "cases.jsonl"
    record = json.loads(path.read_text().splitlines()[0])
    with open(path, "a") as file:
        file.write(json.dumps(record) + "\n")
    assert len(cabochon.Report.load(tmp_path).cases) == 12  # the same one again is none

    with open(path, "a") as file:
        file.write(json.dumps({**record, "output_text": "else"}) + "\n")
    with pytest.raises(EvaluationError, match="two different outputs"):
        cabochon.Report.load(tmp_path)


def test_shards_of_other_numbers_or_models_are_not_merged(tmp_path: Path):
    run(tmp_path, shard=(0, 2))
    with pytest.raises(EvaluationError, match=r"shard\.count"):
        run(tmp_path, shard=(0, 3))
    with pytest.raises(EvaluationError, match="fingerprint"):
        run(tmp_path, shard=(1, 2), name="other")
    with pytest.raises(EvaluationError, match=r"use Report\.merge"):
        cabochon.Report.load(tmp_path)

    merged = cabochon.Report.merge(tmp_path)

    assert (merged.complete, merged.missing_shards) == (False, (1,))
    assert "missing shards: 1" in str(merged)


def test_every_case_is_in_one_shard():
    ids = [f"case-{i}" for i in range(200)]
    parts = [[i for i in ids if Shard(index=k, count=7).has(i)] for k in range(7)]

    assert sorted(case for part in parts for case in part) == sorted(ids)
    assert all(parts)
    assert Shard(index=3, count=16).name("cases.jsonl") == "cases-00003-of-00016.jsonl"
    assert Shard(index=3, count=16).name(".lock") == ".lock-00003-of-00016"


def test_a_recorded_run_answers_again_without_its_model(tmp_path: Path):
    talk = [{"role": "user", "content": text} for text in ("a", "b")]
    more = {"messages": talk, "expected": "b", "grader": right}
    first = run(tmp_path, cases=[*CASES, more])

    again = cabochon.evaluate(Replay(tmp_path), [*CASES, more])

    assert [case["output_text"] for case in again.cases] == [
        case["output_text"] for case in first.cases
    ]
    assert (again.score, again.ci95) == (first.score, first.ci95)
    with pytest.raises(EvaluationError, match="no manifest"):
        Replay(tmp_path / "nothing")


def test_ctrl_c_gives_the_report_of_what_is_finished(tmp_path: Path):
    script = """
import os, signal, sys, threading, time, cabochon
from cabochon.evaluation.replay import ScriptedModel
count = [0]
def answer(prompt, options):
    count[0] += 1
    if count[0] == 20:
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.005)
    return "x<turn|>"
cases = [{"prompt": str(i), "expected": "x", "grader": lambda case, output: True}
         for i in range(400)]
for case in cases:
    case["grader"] = cases[0]["grader"]
report = cabochon.evaluate(ScriptedModel(answer), cases, out=sys.argv[1])
print(report.complete, len(report.cases), threading.active_count())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    complete, count, threads = done.stdout.split()
    assert (complete, threads) == ("False", "1")
    assert 0 < int(count) < 60
    loaded = cabochon.Report.load(tmp_path)
    assert (loaded.complete, len(loaded.cases)) == (False, int(count))
    assert signal.getsignal(signal.SIGINT) is not None


def test_costs_are_left_out_of_what_must_be_the_same():
    (record, *_) = run(None).cases

    assert set(record) - set(same(record)) == {
        "cached_tokens", "first_token_s", "total_s", "prefill_s", "decode_s", "host", "time",
    }  # fmt: skip


def keys(name: str = "m", **change: Any) -> list[str]:
    case = {**CASES[0], **change.pop("case", {})}
    return [record["key"] for record in run(None, name=name, cases=[case], **change).cases]


def test_a_key_is_another_where_the_answer_may_be_and_the_same_where_only_the_id_is():
    changes: list[dict[str, Any]] = [
        {},
        {"name": "other"},  # another fingerprint
        {"max_tokens": 7},
        {"temperature": 1.0},
        {"temperature": 1.0, "seed": 1},
        {"thinking": True},
        {"case": {"prompt": "1 ?"}},
        {"case": {"expected": "x"}},
        {"case": {"version": 2}},
    ]
    found = [key for change in changes for key in keys(**change)]
    found += keys(temperature=1.0, repeats=3)[1:]

    assert len(set(found)) == len(changes) + 2
    assert keys(case={"case_id": "another", "cluster_id": "c"}) == keys(case={"cluster_id": "c"})


def test_the_same_question_bound_to_its_schema_is_another(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(grading._GRADERS, "json", lambda case, output: grading.passed())
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    case = {
        "prompt": "a=1 as JSON", "schema": schema, "grader": "json",
        "expected": {"values": [{"path": ["a"], "number": 1}]},
    }  # fmt: skip
    report = cabochon.evaluate(ScriptedModel(lambda prompt, options: "{}<turn|>"), [case])

    assert {record["prompting"] for record in report.cases} == {"zero-shot", "schema"}
    assert len({record["key"] for record in report.cases}) == 2
    assert len({record["prompt_sha256"] for record in report.cases}) == 1
    assert len(report.counted) == 1


def test_a_file_is_hashed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CABOCHON_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"one")
    blob = tmp_path / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"of the hub")
    (tmp_path / "config.json").symlink_to(blob)
    paths = [str(weights), str(tmp_path / "config.json")]
    read = []
    of_file = hashes._sha256
    monkeypatch.setattr(hashes, "_sha256", lambda path: read.append(path) or of_file(path))

    first, again = hashes.file_hashes(paths), hashes.file_hashes(paths)

    assert first == again
    assert first["model.safetensors"] == hashlib.sha256(b"one").hexdigest()
    assert first["config.json"] == "ab" * 32  # its name, without reading it
    assert read == [weights]
    weights.write_bytes(b"two")
    assert hashes.file_hashes(paths)["model.safetensors"] == hashlib.sha256(b"two").hexdigest()
    weights.unlink()
    with pytest.raises(EvaluationError, match=r"model.safetensors"):
        hashes.file_hashes(paths)
