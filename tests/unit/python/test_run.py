"""`evaluate` with models that need no weights: what is run, graded, counted and kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cabochon
from cabochon.errors import EvaluationError, InvalidArgument, OutOfMemory, Unsupported
from cabochon.evaluation import report as report_module
from cabochon.evaluation.grading import Output, passed, unparsed
from cabochon.evaluation.record import COST_KEYS, KEYS, same
from cabochon.evaluation.replay import Asked, ScriptedModel


def equals(case: Any, output: Output) -> Any:
    return passed(output.text) if output.text == case.expected["value"] else unparsed()


def sums(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [
        {"prompt": f"{i}+{i}?", "expected": str(2 * i), **{"grader": equals, **fields}}
        for i in range(count)
    ]


def add(prompt: Asked, options: Any) -> str:
    """Right, but for multiples of 5."""
    number = int(prompt.messages[-1]["content"].partition("+")[0])
    return f"{2 * number + (number % 5 == 0)}<turn|>"


def run(answer: Callable[..., str] = add, cases: Any = 20, **options: Any) -> cabochon.Report:
    given = sums(cases) if isinstance(cases, int) else cases
    return cabochon.evaluate(ScriptedModel(answer), given, **options)


ASKED = {"expected": {"number": "4"}, "grader": "number"}


def test_a_score_stands_with_its_interval_and_a_record_has_every_key():
    report = run()

    assert (report.score, report.complete, len(report.cases)) == (0.8, True, 20)
    low, high = report.ci95
    assert low < 0.8 < high
    assert all(tuple(case) == KEYS for case in report.cases)
    assert {case["verdict"] for case in report.cases} == {"pass", "unparsed"}


def test_what_is_cut_refused_or_broken_stays_in_the_denominator():
    def answer(prompt: Asked, options: Any) -> str:
        number = int(prompt.messages[-1]["content"].partition("+")[0])
        return ("x" * 100, "", f"{2 * number}<turn|>", "<|channel>thought\nfor ever")[number % 4]

    report = run(answer, sums(8, max_tokens=10))

    row = report.suites["cases"]
    assert (row.n, row.truncated, report.score) == (8, 4, 1 / 4)
    cut = [case for case in report.cases if case["verdict"] == "truncated"]
    assert sorted({case["cut_in"] for case in cut}) == ["answer", "thinking"]


def test_a_grader_that_raises_and_one_that_gives_nonsense_end_no_run():
    def broken(case: Any, output: Output) -> Any:
        return {"odd": 1}[output.text] if output.text == "2" else 7

    report = run(cases=[{**case, "grader": broken} for case in sums(3)])

    assert [case["verdict"] for case in report.cases] == ["error"] * 3
    assert report.score is None
    assert "cases" in report.summary.missing  # the headline says so


def test_a_run_is_the_same_in_memory_and_on_the_disk(tmp_path: Path):
    written = run(out=tmp_path / "run")
    loaded = cabochon.Report.load(tmp_path / "run")

    assert loaded.cases == written.cases
    assert [same(case) for case in loaded.cases] == [same(case) for case in run().cases]
    assert loaded.rescore({"own:equals": equals}).cases == loaded.cases
    assert loaded.complete


def test_a_conversation_is_asked_turn_by_turn_without_its_thoughts():
    seen = []

    def answer(prompt: Asked, options: Any) -> str:
        seen.append([(m["role"], m["content"]) for m in prompt.messages])
        return f"<|channel>thought\nhm<channel|>answer {len(prompt.messages)}<turn|>"

    talk = [{"role": "system", "content": "s"}, *({"role": "user", "content": c} for c in "abc")]

    def read(case: Any, output: Output) -> Any:
        return [item.text for item in output.before] == ["answer 2", "answer 4"]

    report = run(answer, [{"messages": talk, "expected": "", "grader": read}])

    assert report.score == 1
    assert len(seen) == 3
    assert seen[-1] == [
        ("system", "s"), ("user", "a"), ("assistant", "answer 2"),
        ("user", "b"), ("assistant", "answer 4"), ("user", "c"),
    ]  # fmt: skip
    record = report.cases[0]
    assert len(record["turns"]) == 2
    assert record["thinking_tokens"] == 3 * len("hm")


def test_a_control_string_that_a_model_spells_is_told_from_a_token(tmp_path: Path):
    class Speller(ScriptedModel):
        """Spells the end of a turn in letters, then ends it."""

        def encode(self, text: str, *, bos: bool = False, special: bool = False) -> Any:
            if text.startswith("spelled "):
                first = super().encode(text[:-7], special=False)
                return [*first, *super().encode(text[-7:], special=True)]
            return super().encode(text, bos=bos, special=special)

    def wants(case: Any, output: Output) -> Any:
        return output.text == "spelled <turn|>"

    import numpy as np

    model = Speller(lambda prompt, options: "spelled <turn|><turn|>")
    encode = model.encode
    model.encode = lambda *a, **k: np.asarray(encode(*a, **k), np.int32)  # type: ignore
    cases = [{"prompt": "p", "expected": "", "grader": wants}]

    report = cabochon.evaluate(model, cases, out=tmp_path)

    assert report.score == 1
    assert report.cases[0]["controls"] == [15]
    assert cabochon.Report.load(tmp_path).rescore({"own:wants": wants}).score == 1


def test_one_failing_case_is_recorded_and_tried_three_times_in_all(tmp_path: Path):
    calls = []

    def answer(prompt: Asked, options: Any) -> str:
        if prompt.messages[-1]["content"] == "3+3?":
            calls.append(1)
            raise RuntimeError("the machine is ill")
        return add(prompt, options)

    reports = [run(answer, out=tmp_path) for _ in range(5)]

    assert len(calls) == 3
    for report in reports:
        assert len(report.cases) == 20
        (error,) = [case for case in report.cases if case["verdict"] == "error"]
        assert (error["score"], error["output_text"]) == (None, None)
        assert "the machine is ill" in error["reason"]
    lines = (tmp_path / "attempts.jsonl").read_text().splitlines()
    assert [json.loads(line)["attempt"] for line in lines] == [1, 2, 3]
    assert "Traceback" in json.loads(lines[0])["traceback"]


def test_memory_that_runs_out_halves_the_sequences_once():
    lock, asking, most = threading.Lock(), [0], [0]

    class Small(ScriptedModel):
        def stream(self, prompt: Any, **options: Any) -> Any:
            with lock:
                asking[0] += 1
                most[0] = max(most[0], asking[0])
            try:
                for _ in range(20):
                    if asking[0] > 9:
                        raise OutOfMemory("too many")
                    threading.Event().wait(0.001)
                yield from super().stream(prompt, **options)
            finally:
                with lock:
                    asking[0] -= 1

    report = cabochon.evaluate(Small(add), sums(60))

    assert most[0] > 9
    assert len(report.cases) == 60
    assert not [case for case in report.cases if case["verdict"] == "error"]


def test_memory_that_is_still_short_is_an_error_of_its_case():
    def answer(prompt: Asked, options: Any) -> str:
        if prompt.messages[-1]["content"] == "3+3?":
            raise OutOfMemory("never enough")
        return add(prompt, options)

    report = run(answer)

    (error,) = [case for case in report.cases if case["verdict"] == "error"]
    assert "never enough" in error["reason"]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"n": 0}, InvalidArgument, "n is 0"),
        ({"repeats": 2}, InvalidArgument, "repeats is 2 at temperature 0"),
        ({"prompting": ("chain",)}, InvalidArgument, "prompting is"),
        ({"prompting": ("cot",)}, Unsupported, "'cases' has zero-shot alone"),
        ({"thinking_budget": 5}, InvalidArgument, "thinking_budget is 5 without thinking=True"),
        ({"max_tokens": 0}, InvalidArgument, "max_tokens is 0"),
        ({"shard": (2, 2)}, InvalidArgument, r"shard is \(2, 2\)"),
        ({"cluster": "slurm"}, EvaluationError, "cluster is 'slurm'"),
        ({"faithful": True}, Unsupported, "faithful is to come"),
    ],
)
def test_an_option_that_is_out_of_range_is_named(options: Any, error: Any, said: str):
    with pytest.raises(error, match=said):
        run(**options)


@pytest.mark.parametrize(
    ("suites", "error", "said"),
    [
        ("nonsense", EvaluationError, "suite 'nonsense' is not known"),
        ([], EvaluationError, "suites is empty"),
        ([{"prompt": "a"}], EvaluationError, "no field 'expected'"),
        ([{"prompt": "a", "expected": "b"}], EvaluationError, "no field 'grader'"),
        ("deployment-2604.07035-v1", Unsupported, "is to come"),
        ("missing.jsonl", EvaluationError, "missing.jsonl"),
        ("clasification", EvaluationError, "Did you mean 'classification'"),
        ("gsm:test.jsonl", EvaluationError, "the set 'gsm' is not known"),
        (5, EvaluationError, "suites is int, expected names"),
        ({"prompt": "a"}, EvaluationError, "one case too stands in a list"),
        (["tools", {"prompt": "a"}], EvaluationError, "mixes names and cases"),
        ([{**ASKED, "messages": []}], EvaluationError, "case 0: messages is empty"),
        ([{**ASKED, "messages": ["a"]}], EvaluationError, "case 0: message 0 is 'a'"),
        ([{**ASKED, "messages": [{"content": "a"}]}], EvaluationError, "as `role` one of"),
        ([{**ASKED, "prompt": "a", "messages": []}], EvaluationError, "both `prompt` and"),
        ([{**ASKED, "prompt": 3}], EvaluationError, "case 0: prompt is int"),
        ([{**ASKED, "prompt": "a", "expected": {1}}], EvaluationError, "set is not JSON"),
        ([{**ASKED, "prompt": "a", "expected": 4}], EvaluationError, "cannot use `expected`"),
    ],
)
def test_suites_and_cases_that_cannot_be_used_are_named(suites: Any, error: Any, said: str):
    with pytest.raises(error, match=said):
        cabochon.evaluate(ScriptedModel(add), suites)


def test_sampled_repeats_have_seeds_of_their_own_and_keep_them():
    seeds = []

    def answer(prompt: Asked, options: Any) -> str:
        seeds.append(options["seed"])
        return add(prompt, options)

    first = run(answer, 4, temperature=1.0, repeats=3)
    again = run(answer, 4, temperature=1.0, repeats=3)

    assert len(first.cases) == 12
    assert len(set(seeds)) == 12
    assert sorted(seeds[:12]) == sorted(seeds[12:])
    assert [case["key"] for case in first.cases] == [case["key"] for case in again.cases]


def test_cost_keys_are_keys():
    assert set(COST_KEYS) < set(KEYS)


def test_examples_stand_before_the_question_and_are_missed_where_there_are_none(
    monkeypatch: pytest.MonkeyPatch,
):
    from cabochon.evaluation.suites import classification, multi_turn

    example = {"messages": [{"role": "user", "content": "1+1?"}], "answer": "2"}
    seen = []

    def answer(prompt: Asked, options: Any) -> str:
        seen.append([message["role"] for message in prompt.messages])
        return "?<turn|>"

    with pytest.raises(Unsupported, match="suite 'cases' has zero-shot alone"):
        run(cases=2, prompting="few-shot")
    monkeypatch.setattr(classification, "EXAMPLES", [example] * 3, raising=False)
    report = cabochon.evaluate(
        ScriptedModel(answer), "classification", n=4, prompting=("zero-shot", "few-shot")
    )

    assert sorted(seen, key=len) == [["user"]] * 4 + [[*["user", "assistant"] * 3, "user"]] * 4
    assert set(report.suites) == {"classification, zero-shot", "classification, few-shot"}

    monkeypatch.setattr(multi_turn, "EXAMPLES", [example] * 3, raising=False)
    seen.clear()
    report = cabochon.evaluate(ScriptedModel(answer), "multi_turn", n=3, prompting="few-shot")

    turns = sum(report.question(case).turns for case in report.counted)
    twins = len(report.cases) - len(report.counted)
    assert len(seen) == turns + twins  # the examples' own questions are not asked
    assert all(len(case["turns"]) + 1 == report.question(case).turns for case in report.counted)


def test_thoughts_get_a_budget_of_their_own_and_are_never_graded():
    seen = []

    def answer(prompt: Asked, options: Any) -> str:
        seen.append(options)
        return "<|channel>thought\n4<channel|>5<turn|>"

    report = run(answer, [{"prompt": "2+2?", "expected": "4", "grader": equals}], thinking=True)

    assert report.score == 0
    assert (seen[0]["thinking"], seen[0]["thinking_budget"]) == (True, 8192)
    assert seen[0]["max_tokens"] == 512 + 8192
    run(answer, 1, thinking=True, thinking_budget=100, max_tokens=150)
    assert (seen[1]["thinking_budget"], seen[1]["max_tokens"]) == (100, 150)


def test_a_frame_and_a_file_are_read_as_cases_are(tmp_path: Path):
    class Frame:
        """What pandas has of it; NaN stands where a row has no value."""

        def to_dict(self, orient: str) -> list[dict[str, Any]]:
            assert orient == "records"
            return [{**case, "language": float("nan")} for case in sums(20)]

    rows = [
        {"prompt": f"{i}?", "expected": {"number": str(i)}, "grader": "number"} for i in range(3)
    ]
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = ScriptedModel(lambda prompt, options: "Answer: 1<turn|>")

    assert run(cases=Frame()).cases[0]["language"] == "en"
    assert run(cases=Frame()).score == 0.8
    report = cabochon.evaluate(model, file)
    assert [case["verdict"] for case in report.cases] == ["fail", "pass", "fail"]
    assert report.rescore().score == report.score == 1 / 3
    file.write_text('{"prompt": "a", "expected": "b", "grader": "number", "colour": 1}\n')
    with pytest.raises(EvaluationError, match=r"own.jsonl line 1: unknown field 'colour'"):
        cabochon.evaluate(model, file)


def test_another_grader_gives_another_score_and_leaves_the_record(tmp_path: Path):
    report = run(out=tmp_path)
    before = (tmp_path / "cases.jsonl").read_bytes()

    strict = report.rescore({"own:equals": lambda case, output: False})

    assert (strict.score, report.score) == (0, 0.8)
    assert strict.cases[0]["grader_hash"] != ""
    assert (tmp_path / "cases.jsonl").read_bytes() == before
    written = list(tmp_path.glob("rescored-*.jsonl"))
    assert len(written) == 1
    assert len(written[0].read_text().splitlines()) == 20


def test_what_the_model_wrote_is_not_run_unless_asked(monkeypatch: pytest.MonkeyPatch):
    case = {"prompt": "write f", "expected": {}, "grader": "tests", "suite": "code"}
    report = run(lambda prompt, options: "def f(): ...<turn|>", [case, *sums(4)])

    (record,) = [case for case in report.cases if case["suite"] == "code"]
    assert (record["verdict"], record["score"]) == ("not_executed", None)
    assert "1 of 2 suites" in str(report)
    assert report.summary.missing == ("code",)
    monkeypatch.setattr(report_module, "find_sandbox", lambda: None)
    (again,) = [case for case in report.rescore(run_code=True).cases if case["suite"] == "code"]
    assert (again["verdict"], again["reason"]) == ("not_executed", "no_sandbox")
    monkeypatch.setattr(report_module, "find_sandbox", lambda: "box")
    monkeypatch.setattr(
        report_module.code,
        "run",
        lambda case, output, sandbox: passed(f"{output.text} in {sandbox}"),
    )
    rescored = report.rescore(run_code=True)
    (again,) = [case for case in rescored.cases if case["suite"] == "code"]
    assert again["extracted"] == "def f(): ... in box"
    assert rescored.summary.missing == ()


def test_a_preset_weighs_public_sets_from_files(tmp_path: Path):
    gsm8k, math = tmp_path / "gsm8k.jsonl", tmp_path / "math.jsonl"
    gsm8k.write_text(
        "".join(json.dumps({"question": f"{i}?", "answer": "#### 7"}) + "\n" for i in range(6))
    )
    row = {"problem": "p", "answer": "3", "level": 1, "subject": "s", "unique_id": "u"}
    math.write_text(json.dumps(row) + "\n")
    model = ScriptedModel(lambda prompt, options: "Answer: 7<turn|>")

    report = cabochon.evaluate(
        model, f"gsm8k:{gsm8k}", n=4, prompting=("zero-shot", "few-shot-cot"), seed=3
    )

    assert report.score == 1
    assert [(row.n, row.score.mean) for row in report.suites.values()] == [(4, 1), (4, 1)]
    assert {case["max_tokens"] for case in report.cases} == {1024}
    with pytest.raises(EvaluationError, match="'arc:PATH', 'gsm8k:PATH'"):
        cabochon.evaluate(model, [f"gsm8k:{gsm8k}"], preset="deployment-2604.07035")
    with pytest.raises(EvaluationError, match="preset 'nonsense' is not known"):
        cabochon.evaluate(model, f"gsm8k:{gsm8k}", preset="nonsense")


def test_a_smoke_run_is_no_measurement():
    report = cabochon.evaluate(ScriptedModel(add), ["classification"], preset="smoke")

    assert len(report.cases) == 4
    assert (report.score, report.ci95) == (None, None)
    assert "not a measurement" in str(report)
    assert "suite" in str(report)


def test_needles_are_found_up_to_the_context():
    def find(prompt: Asked, options: Any) -> str:
        text = prompt.messages[0]["content"]
        places = text.rpartition(": ")[2].rstrip(".").split(", ")
        codes = [text.partition(f"The code of {place} is ")[2][:7] for place in places]
        word = text.rpartition('word "')[2].partition('"')[0]
        return "\n".join([word, *codes]) + "<turn|>"

    model = ScriptedModel(find, context=9000)

    report = cabochon.evaluate(model, "needles", n=30)

    assert report.score == 1
    lengths = {case["expected"]["length"] for case in report.cases}
    assert lengths == {4096, 8192}


def nothing(prompt: Asked, options: Any) -> str:
    return "?<turn|>"


def test_a_file_without_cases_is_refused(tmp_path: Path):
    (tmp_path / "own.jsonl").write_text("\n")

    with pytest.raises(EvaluationError, match="found no case"):
        cabochon.evaluate(ScriptedModel(add), tmp_path / "own.jsonl")


def test_a_report_says_why_answers_have_no_score():
    report = run(cases=sums(1, grader=lambda case: True))

    assert "errors: 1 answers; 1 of them: TypeError" in str(report)


def test_another_seed_draws_cases_that_are_not_shipped():
    def ids(seed: int, n: int | None) -> set[str]:
        report = cabochon.evaluate(
            ScriptedModel(nothing), "classification", seed=seed, n=n, dry_run=True
        )
        return set(report._questions)

    assert len(ids(7, None)) == len(ids(0, None))
    assert not ids(7, None) & ids(0, None)
    assert ids(7, 10) < ids(7, None)


def test_few_shot_calls_are_of_tools_that_the_prompt_declares_and_no_case_has():
    from cabochon.evaluation.suites.tools import EXAMPLE_TOOLS

    asked = []

    def answer(prompt: Asked, options: Any) -> str:
        asked.append((prompt, options))
        return '<|tool_call>call:water_garden{bed:<|"|>roses<|"|>,minutes:3}<tool_call|>'

    report = cabochon.evaluate(ScriptedModel(answer), "tools", prompting="few-shot")

    names = [tool["function"]["name"] for tool in EXAMPLE_TOOLS]
    assert {case["verdict"] for case in report.cases} == {"fail"}
    for prompt, options in asked:
        declared = [tool["function"]["name"] for tool in options["tools"]]
        called = {
            call["function"]["name"]
            for message in prompt.messages[:11]
            for call in message.get("tool_calls", ())
        }
        assert list(prompt.tools) == list(options["tools"])
        assert called == set(names) == set(declared[:2])
        assert not called & set(declared[2:])


def test_every_suite_of_enterprise_has_examples():
    report = cabochon.evaluate(
        ScriptedModel(nothing), "enterprise", n=1, prompting="few-shot", dry_run=True
    )

    assert len(report.manifest["suites"]) == 10


def test_a_record_says_how_memory_was_split(tmp_path: Path):
    class Measured(ScriptedModel):
        def info(self) -> Any:
            info = super().info()
            info.memory = {"weights": 3 << 20, "KV cache": 1 << 20}
            return info

    report = cabochon.evaluate(Measured(add), sums(2))
    report.report(tmp_path / "page.html")

    page = (tmp_path / "page.html").read_text()
    assert "<td>weights</td><td>3.0 MiB</td>" in page and "<td>KV cache</td>" in page


def test_other_questions_under_the_same_ids_are_not_compared():
    ours = run()
    theirs = run(cases=[{**case, "prompt": f"0{case['prompt']}"} for case in sums(20)])

    found = ours.compare(theirs)

    assert len(found.not_shared["with other questions"]) == 20
    assert found.overall is None
    assert ours.compare(run()).overall.n == 20


def test_names_that_a_report_does_not_have_are_refused():
    report = run(cases=2)

    with pytest.raises(EvaluationError, match="suite 'rag' is not in this run"):
        report.failures("rag")
    with pytest.raises(EvaluationError, match="no case of this run is graded by 'equal'"):
        report.rescore({"equal": equals})
    with pytest.raises(InvalidArgument, match="other is str, expected a Report"):
        report.compare("runs/e2b")


def test_what_needs_no_model_stands_beside_the_score():
    report = cabochon.evaluate(ScriptedModel(nothing), "classification")

    found = report.manifest["baselines"]["classification"]
    said = f"classification: one label everywhere would score {100 * found['constant']:.1f}"
    assert said in str(report)
