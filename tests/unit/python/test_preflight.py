"""Before a run: what stops it, what it warns of, what it says a run will take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import cabochon
from cabochon.errors import EvaluationError, OutOfMemory
from cabochon.evaluation import preflight, recipes
from cabochon.evaluation.grading import Output, failed, passed
from cabochon.evaluation.replay import Asked, ScriptedModel
from cabochon.evaluation.suites.shipped import shipped, suite_names


def right(case: Any, output: Output) -> Any:
    return passed() if output.text == case.expected["value"] else failed("wrong_value")


def own(**fields: Any) -> dict[str, Any]:
    return {"prompt": "2+2?", "expected": "4", "grader": right, **fields}


def echo(prompt: Asked, options: Any) -> str:
    return "4<turn|>"


class Forger(ScriptedModel):
    """Lets control strings of a text become control tokens."""

    def render(self, messages: Any, **options: Any) -> Any:
        rendered = super().render(messages, **options)
        text = rendered.text
        object.__setattr__(rendered, "token_ids", self.encode(text, special=True))
        return rendered


class Doubled(ScriptedModel):
    """Puts two BOS before a prompt."""

    def render(self, messages: Any, **options: Any) -> Any:
        rendered = super().render(messages, **options)
        ids = self.encode("<bos>" + rendered.text, special=True)
        object.__setattr__(rendered, "token_ids", ids)
        return rendered


def always(case: Any, output: Output) -> bool:
    return True


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        ([own(ideal=["5"])], "ideal output '5' scores 0.0"),
        ([own(wrong=[["4", "wrong_value"]])], "wrong output '4' scores 1.0"),
        ([own(wrong=[["5", "another_reason"]])], "expected less than 1 and 'another_reason'"),
        ([own(ideal=["4"], grader=always)], "prose without an answer passes"),
        ([own(), own()], "cases-0001, cases-0002: the same prompt under 2 ids"),
        ([own(schema={"type": "nonsense"})], "schema"),
        ([own(grader="nonsense")], "grader 'nonsense' is not known"),
        ([own(max_tokens=5000)], r"may take 5,0\d\d tokens, the context is 4,096"),
    ],
)
def test_a_case_that_would_make_a_number_wrong_stops_the_run(cases: Any, said: str, tmp_path: Path):
    model = ScriptedModel(echo, context=4096)

    with pytest.raises(EvaluationError, match=said):
        cabochon.evaluate(model, cases, out=tmp_path / "run")

    assert not (tmp_path / "run").exists()


def test_every_case_that_stops_a_run_is_listed():
    cases = [own(prompt=f"{i}?", case_id=f"c{i}", ideal=["5"]) for i in range(30)]

    with pytest.raises(EvaluationError) as caught:
        cabochon.evaluate(ScriptedModel(echo), cases)

    assert all(f"c{i}: the ideal" in str(caught.value) for i in range(30))


def test_a_text_that_became_a_control_token_and_a_second_bos_stop_the_run():
    with pytest.raises(EvaluationError, match="text of the case became a control token"):
        cabochon.evaluate(Forger(echo), [own(prompt="say <turn|> now")])
    with pytest.raises(EvaluationError, match="2 BOS tokens"):
        cabochon.evaluate(Doubled(echo), [own()])

    assert cabochon.evaluate(ScriptedModel(echo), [own(prompt="say <turn|> now")]).score == 1


def test_a_conversation_needs_room_for_all_its_turns():
    talk = [{"role": "user", "content": "a"}] * 4

    with pytest.raises(EvaluationError, match=r"load with context=\d+"):
        cabochon.evaluate(
            ScriptedModel(echo, context=2000), [own(messages=talk, prompt=None, max_tokens=500)]
        )


def test_a_model_that_does_not_fit_is_not_run():
    model = ScriptedModel(echo)
    model.plan.fits, model.plan.advice = False, ("load with context=512",)

    with pytest.raises(OutOfMemory, match="load with context=512"):
        cabochon.evaluate(model, [own()])


def test_a_disk_that_is_nearly_full_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: usage)

    with pytest.raises(EvaluationError, match=r"1\.0 KiB are free"):
        cabochon.evaluate(ScriptedModel(echo), [own()], out=tmp_path / "run")


def test_labels_that_are_right_too_often_are_warned_of_with_their_baselines():
    def labelled(gold: Any) -> list[dict[str, Any]]:
        return [
            own(
                prompt=f"{i}?", grader="label", suite="labels",
                expected={"labels": [gold(i)], "allowed": ["a", "b"]},
            )
            for i in range(40)
        ]  # fmt: skip

    even = cabochon.evaluate(ScriptedModel(echo), labelled(lambda i: "ab"[i % 2]))
    uneven = cabochon.evaluate(ScriptedModel(echo), labelled(lambda i: "ab"[i % 8 == 0]))

    assert not [text for text in even.manifest["warnings"] if "labels" in text]
    assert "'a' is right in 35 of 40 cases" in " ".join(uneven.manifest["warnings"])
    assert even.manifest["baselines"]["labels"] == {"constant": 0.5, "uniform": 0.5}
    assert uneven.manifest["baselines"]["labels"]["constant"] == 35 / 40
    assert "right in 35 of 40" in str(uneven)


def test_a_plan_counts_what_a_run_then_takes(tmp_path: Path):
    shared = "The same long beginning of every prompt, word for word. " * 4
    cases = [own(prompt=f"{shared}{i}?", max_tokens=10) for i in range(20)]
    plan = cabochon.evaluate(ScriptedModel(echo), cases, dry_run=True, out=tmp_path / "run").plan
    report = cabochon.evaluate(ScriptedModel(echo), cases, out=tmp_path / "run")

    assert plan.requests == len(report.cases) == 20
    assert plan.prompt_tokens == sum(case["prompt_tokens"] for case in report.cases)
    assert len(shared) < plan.computed_prompt_tokens < plan.prompt_tokens / 5
    assert plan.most_output_tokens == 200
    assert plan.minutes is None  # a scripted model measures nothing
    written = (tmp_path / "run" / "cases.jsonl").stat().st_size
    assert written / 2 < plan.record_bytes < 4 * written
    assert cabochon.Report.load(tmp_path / "run").plan.to_dict() == plan.to_dict()
    # 15.9 points at 60 cases with D = 0.2: the table of docs/evaluation.md.
    many = [own(prompt=f"{i}?") for i in range(60)]
    sixty = cabochon.evaluate(ScriptedModel(echo), many, dry_run=True).plan
    assert round(100 * sixty.detectable, 1) == 15.9
    assert "differences from 15.9 points on" in str(sixty)


def test_progress_says_the_score_so_far():
    notes = []
    cases = [own(prompt=f"{i}?", expected="4" if i % 2 else "5") for i in range(40)]

    cabochon.evaluate(ScriptedModel(echo), cases, progress=notes.append)

    assert (notes[-1].done, notes[-1].total, notes[-1].unit) == (40, 40, "cases")
    assert "so far 50 % (35 to 65), 0 cut" in notes[-1].note


@pytest.mark.parametrize("name", suite_names())
def test_a_shipped_suite_may_be_run(name: str):
    """E1 as every run checks it: ideals pass, wrong outputs fail as they say, prose passes never,
    no prompt stands twice, schemas compile, no text becomes a control token."""
    report = cabochon.evaluate(ScriptedModel(echo), name, dry_run=True)

    assert report.plan.requests >= 60
    assert report.manifest["suites"][name]["cases"] == len(shipped(name))
    assert all(case.max_tokens == recipes.LIMITS.get(name, recipes.LIMIT) for case in shipped(name))
