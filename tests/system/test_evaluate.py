"""`evaluate` on the demo model, through the public interface.

RUN_CASES=0 runs whole suites in place of 4 cases of each.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cabochon
from cabochon import cli
from cabochon.errors import InvalidArgument, Unsupported
from cabochon.evaluation.grading import Output
from cabochon.evaluation.record import same
from cabochon.evaluation.report import output_of
from cabochon.evaluation.suites.shipped import shipped, suite_names

CASES = int(os.environ.get("RUN_CASES", "4"))


def long_enough(case: Any, output: Output) -> float:
    return min(1.0, len(output.text) / 40)


def cases(count: int) -> list[dict[str, Any]]:
    talk = [{"role": "user", "content": text} for text in ("One?", "Two?")]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    own = {"expected": "", "grader": long_enough, "max_tokens": 12}
    return [
        *({"prompt": f"What is {i}?", **own} for i in range(count)),
        {"messages": talk, "suite": "talk", **own},
        {"prompt": "Call f.", "tools": [tool], "suite": "tool", **own},
    ]


def test_a_run_gives_what_generate_gives_and_the_same_again(model: Any, tmp_path: Path) -> None:
    report = model.evaluate(cases(6), out=tmp_path)

    alone = model.generate(
        [{"role": "user", "content": "What is 3?"}], temperature=0, max_tokens=12
    )
    record = next(case for case in report.cases if case["case_id"] == "cases-0004")
    assert record["output_text"] == alone.raw_text
    assert record["finish_reason"] == alone.finish_reason
    assert record["answer_tokens"] == alone.usage.answer_tokens + alone.usage.tool_tokens
    output = output_of(record)
    assert (output.text, output.thinking) == (alone.text, alone.thinking)
    assert [same(case) for case in model.evaluate(cases(6)).cases] == [
        same(case) for case in report.cases
    ]
    assert model.evaluate(cases(6), out=tmp_path).cases == report.cases  # nothing is run again
    assert report.manifest["fingerprint"] == model.fingerprint
    files = report.manifest["files"]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    weights = (Path(model.name) / "model.safetensors").read_bytes()
    assert files["model.safetensors"] == hashlib.sha256(weights).hexdigest()


def test_a_conversation_of_a_run_is_that_of_a_chat(model: Any) -> None:
    report = model.evaluate(cases(1))

    chat = model.chat(temperature=0, max_tokens=12)
    first, second = chat.send("One?"), chat.send("Two?")
    record = next(case for case in report.cases if case["suite"] == "talk")
    assert record["turns"][0]["output_text"] == first.raw_text
    assert record["output_text"] == second.raw_text


def test_a_base_model_and_an_unknown_option_are_refused(load: Any, base_folder: Path) -> None:
    with pytest.raises(Unsupported, match="no chat template"):
        load(base_folder).evaluate(cases(1))
    with pytest.raises(InvalidArgument, match="temperatur"):
        load().evaluate(cases(1), temperatur=1)


def test_the_record_names_the_prompt_that_was_run(model: Any) -> None:
    report = model.evaluate(cases(1))

    prompt = model.render([{"role": "user", "content": "What is 0?"}])
    expected = hashlib.sha256(np.asarray(prompt.token_ids, "<i4").tobytes()).hexdigest()
    record = next(case for case in report.cases if case["case_id"] == "cases-0001")
    assert record["prompt_sha256"] == expected
    assert isinstance(report, cabochon.Report)


def test_the_command_line_runs_a_file_of_cases_and_goes_on_with_it(
    demo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text(
        "".join(
            json.dumps({"prompt": f"{i}?", "expected": {"number": i}, "grader": "number"}) + "\n"
            for i in range(5)
        )
    )
    command = ["eval", str(demo_folder), str(file), "--max-tokens", "5", "--out"]

    assert cli.main([*command, str(tmp_path / "run")]) == 0
    assert "own" in capsys.readouterr().out
    assert cli.main([*command, str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["records"] == 5
    assert cli.main([*command, str(tmp_path / "other"), "--dry-run"]) == 0
    assert "prompt tokens" in capsys.readouterr().out
    assert not (tmp_path / "other").exists()
    for index in range(2):
        assert cli.main([*command, str(tmp_path / "parts"), "--shard", f"{index}/2"]) == 0
    assert cabochon.Report.merge(tmp_path / "parts").complete
    assert cli.main(["evaluate", str(demo_folder), "nonsense"]) == 1
    assert "suite 'nonsense' is not known" in capsys.readouterr().err


@pytest.mark.parametrize("name", suite_names())
def test_a_shipped_suite_runs_on_a_model_that_knows_nothing(model: Any, name: str) -> None:
    count = CASES or len(shipped(name))

    report = model.evaluate(name, n=count, max_tokens=4)

    assert (report.complete, len(report.counted)) == (True, count)
    assert not [case["reason"] for case in report.counted if case["verdict"] == "error"]
    assert report.score is None or report.score < 0.5


def test_choices_are_scored_as_score_does_and_graded_again_from_the_record(
    model: Any, tmp_path: Path
) -> None:
    rows = [
        {"question": f"Which {i}?", "choices": ["left", "right", "up"], "answer": i % 3}
        for i in range(4)
    ]
    file = tmp_path / "choices.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    report = model.evaluate(f"choices:{file}", out=tmp_path / "run")

    for record in report.cases:
        case = report.question(record)
        expected = model.score(list(case.messages), list(case.expected["choices"]))
        assert record["choice_logprobs"] == [score.logprob for score in expected.scores]
        assert record["score"] == (expected.best == case.expected["answer"])
        assert record["choice_bytes"] == [len(text) for text in case.expected["choices"]]
    assert cabochon.Report.load(tmp_path / "run").rescore().cases == report.cases


def test_ctrl_c_ends_answers_that_are_being_written_and_leaves_the_model_usable(
    model: Any, tmp_path: Path
) -> None:
    # 3,000 tokens take the demo some ten seconds; a few answers end by themselves before that.
    own = {"expected": "", "grader": long_enough, "max_tokens": 3000}
    endless = [{"prompt": f"{i}?", **own} for i in range(24)]
    started = time.monotonic()
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()

    report = model.evaluate(endless, out=tmp_path)

    timer.join()
    assert time.monotonic() - started < 5
    assert not report.complete
    assert len(report.cases) < len(endless)
    assert model.generate("Hi", max_tokens=2).usage.output_tokens <= 2
