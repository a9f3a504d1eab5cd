"""Public sets, presets, needles and scored choices in whole runs, without weights."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import cabochon
from cabochon.errors import EvaluationError, Unsupported
from cabochon.evaluation.replay import Asked, ScriptedModel


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> str:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"{name}:{path}"


def sums(folder: Path, count: int = 10) -> str:
    rows = [{"question": f"{i} + {i}?", "answer": f"#### {2 * i}"} for i in range(count)]
    return write(folder, "gsm8k", rows)


def four(folder: Path) -> list[str]:
    """One small file for each set of the deployment preset."""
    choices = {"label": ["A", "B"], "text": ["right", "wrong"]}
    arc = [{"id": str(i), "question": f"{i}?", "choices": choices, "answerKey": "A"}
           for i in range(6)]  # fmt: skip
    truth = [{"question": f"{i}?", "mc1_targets": {"right": 1, "wrong": 0}} for i in range(6)]
    level = [{"problem": f"{i}?", "answer": str(i), "level": 1} for i in range(6)]
    return [
        write(folder, "arc", arc),
        sums(folder, 6),
        write(folder, "math", level),
        write(folder, "truthfulqa", truth),
    ]


def solve(prompt: Asked, options: Any) -> str:
    """Every sum and expression; of options the first, whatever it is."""
    text = prompt.messages[-1]["content"]
    if "\n\nA) " in text:
        return "Answer: A<turn|>"
    if "boxed" in text:
        return f"Answer: $\\boxed{{{int(text.partition('?')[0])}}}$<turn|>"
    return f"Answer: {2 * int(text.partition(' ')[0])}<turn|>"


def test_a_set_is_run_from_its_file(tmp_path: Path):
    report = cabochon.evaluate(ScriptedModel(solve), sums(tmp_path))

    assert (report.score, report.suites["gsm8k"].n) == (1.0, 10)
    some = cabochon.evaluate(ScriptedModel(solve), sums(tmp_path), n=4)
    fewer = cabochon.evaluate(ScriptedModel(solve), sums(tmp_path), n=2)
    assert {c["case_id"] for c in fewer.cases} < {c["case_id"] for c in some.cases}


def test_the_mean_of_a_preset_is_weighed_and_needs_all_of_its_sets(tmp_path: Path):
    pytest.importorskip("math_verify")
    name = "deployment-2604.07035"

    report = cabochon.evaluate(ScriptedModel(solve), four(tmp_path), preset=name)

    # Golds stand in both places equally often, so whoever always says A is right in half.
    assert report.score == pytest.approx(0.4 + 0.3 + (0.2 + 0.1) / 2)
    assert cabochon.evaluate(ScriptedModel(solve), four(tmp_path)).score == pytest.approx(0.75)
    with pytest.raises(EvaluationError, match=r"truthfulqa:PATH"):
        cabochon.evaluate(ScriptedModel(solve), four(tmp_path)[:3], preset=name)
    with pytest.raises(EvaluationError, match="preset 'deployment' is not known"):
        cabochon.evaluate(ScriptedModel(solve), four(tmp_path), preset="deployment")


def test_ways_of_prompting_ask_for_steps_and_show_examples(tmp_path: Path):
    seen: dict[int, list[Any]] = {}

    def answer(prompt: Asked, options: Any) -> str:
        seen.setdefault(len(prompt.messages), []).append(prompt.messages)
        return solve(prompt, options)

    ways = ("zero-shot", "cot", "few-shot-cot")
    report = cabochon.evaluate(ScriptedModel(answer), sums(tmp_path, 3), prompting=ways)

    assert sorted(report.suites) == sorted(f"gsm8k, {way}" for way in ways)
    texts = [messages[-1]["content"] for messages in seen[1]]
    assert sum("step by step" in text for text in texts) == 6
    assert sum("Answer: 22" in text for text in texts) == 3


def test_scored_choices_are_graded_by_their_log_probabilities(tmp_path: Path):
    rows = [{"question": f"{i}?", "choices": ["yes", "no"], "answer": i % 2} for i in range(8)]
    suite = write(tmp_path, "choices", rows)

    def yes(prompt: Asked, options: Any) -> str:
        return "yes"

    report = cabochon.evaluate(ScriptedModel(yes), suite, out=tmp_path / "run")

    assert report.score == 0.5
    assert all(len(case["choice_logprobs"]) == 2 for case in report.cases)
    assert cabochon.Report.load(tmp_path / "run").rescore().score == 0.5
    with pytest.raises(EvaluationError, match="prompting is 'cot'"):
        cabochon.evaluate(ScriptedModel(yes), suite, prompting=("cot",))
    with pytest.raises(Unsupported, match="and no examples"):
        cabochon.evaluate(ScriptedModel(yes), suite, prompting=("few-shot",))


def test_needles_are_found_by_who_reads_all_of_the_prompt():
    def find(prompt: Asked, options: Any) -> str:
        text = prompt.messages[-1]["content"]
        word = re.search(r'with the word "(\w+)"', text)
        wanted = text.rpartition("no other code: ")[2].rstrip(".").split(", ")
        codes = dict(re.findall(r"The code of ([a-z ]+) is (\d+)\.", text))
        assert word is not None
        return "\n".join([word.group(1), *(codes[place] for place in wanted)]) + "<turn|>"

    report = cabochon.evaluate(ScriptedModel(find, context=16_384), "needles")

    assert report.score == 1.0
    assert {case["expected"]["length"] for case in report.cases} == {4096, 8192, 16_384}
    blind = cabochon.evaluate(
        ScriptedModel(lambda prompt, options: "maple<turn|>", context=4096), preset="needles"
    )
    assert blind.score == 0.0


def test_a_smoke_run_is_no_measurement():
    report = cabochon.evaluate(
        ScriptedModel(lambda prompt, options: "no<turn|>"), "classification", preset="smoke"
    )

    assert len(report.cases) == 4
    assert (report.score, report.ci95) == (None, None)
    assert "not a measurement" in str(report)
    assert "0.0 %" not in str(report) + repr(report)
