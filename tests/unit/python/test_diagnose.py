"""A planted fault of each kind is named first, and a clean run yields no finding."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cabochon.chat.template import SUPERSEDED
from cabochon.evaluation import diagnose as diagnose_module
from cabochon.evaluation import suites
from cabochon.evaluation.cases import read_case, read_cases
from cabochon.evaluation.diagnose import diagnose
from cabochon.evaluation.failures import failures
from cabochon.evaluation.grading import grade, passed, written
from records import SUITES, clean_run, manifest, record, said

Run = tuple[list[dict[str, Any]], dict[str, Any]]
# Most faults are planted in the first cases of one suite, so many that they matter.
SOME = 12
FAULTS: dict[str, tuple[str, Callable[[], Run]]] = {}


def fault(name: str, suite: str) -> Callable[[Callable[[], Run]], Callable[[], Run]]:
    """Registers a faulty run: the finding that must come first, and its suite."""

    def register(function: Callable[[], Run]) -> Callable[[], Run]:
        FAULTS[function.__name__] = (name, suite), function
        return function

    return register


def planted(suite: str, count: int, *, score: float | None = 0.0, **more: Any) -> list[Any]:
    """A clean run in which the first cases of a suite are other ones."""
    return [
        {**record(suite, index, score=score), **more}
        if case["suite"] == suite and index < count
        else case
        for case in clean_run()
        for index in [int(case["case_id"][-3:])]
    ]


@fault("truncation", "rag")
def answers_cut_at_the_limit():
    cut = {"finish_reason": "length", "cut_in": "answer", "answer_tokens": 512}
    return planted("rag", SOME, verdict="truncated", **cut), manifest()


@fault("cut in thought", "rag")
def thoughts_cut_at_the_limit():
    cut = {"finish_reason": "length", "cut_in": "thinking", "thinking_tokens": 512}
    text = said("<|channel>thought\nLet me see", controls=True)
    return planted("rag", SOME, verdict="truncated", **cut, **text), manifest()


@fault("empty answer", "extraction")
def answers_inside_the_thought():
    text = said("<|channel>thought\nIt is 4.<channel|><turn|>", controls=True)
    return planted("extraction", SOME, thinking_tokens=9, **text), manifest()


@fault("unread answers", "classification")
def answers_without_the_form():
    return planted("classification", SOME, verdict="unparsed", reason="no_label"), manifest()


@fault("unread answers", "tools")
def right_answers_in_a_fence():
    text = said('```json\n{"name": "book"}\n```')
    return planted("tools", 5, near_miss=True, reason="call_in_text", **text), manifest()


@fault("wasted tokens", "")
def tokens_after_the_turn():
    return planted("rag", 60, score=1.0, wasted_tokens=300), manifest()


@fault("control leak", "")
def control_strings_in_text():
    return planted("rag", SOME, **said("It is blue.<end_of_turn>")), manifest()


@fault("template", "")
def a_template_that_nobody_published():
    return [{**case, "template": "e" * 64} for case in clean_run()], manifest()


@fault("template", "")
def a_template_that_was_replaced():
    return [{**case, "template": next(iter(SUPERSEDED))} for case in clean_run()], manifest()


@fault("template", "")
def the_template_of_the_other_size():
    text = "<|channel>thought\n<channel|>"
    starts = [0, text.index("<channel|>")]
    return [
        {**case, "output_text": text + case["output_text"], "controls": starts}
        for case in clean_run()
    ], manifest()


@fault("BOS", "")
def a_bos_too_many():
    return clean_run(), manifest(warnings=["prompts begin with 2 BOS, expected exactly one"])


@fault("position bias", "rag")
def a_letter_that_is_preferred():
    letters = itertools.cycle("ABCD")
    cases = []
    for case in clean_run():
        if case["suite"] == "rag":
            gold, index = next(letters), int(case["case_id"][-3:])
            chosen = "A" if index % 3 == 0 else gold
            right = chosen == gold
            case = {**case, **said(f"{chosen}, since {case['output_text'][:40]}")}
            case |= {"extracted": chosen, "expected": {"letter": gold}, "score": float(right)}
            case |= {"verdict": "pass" if right else "fail", "reason": "" if right else "wrong"}
        cases.append(case)
    return cases, manifest()


@fault("position bias", "choices")
def a_choice_that_is_preferred():
    cases = clean_run(suites=(*SUITES, "choices"))
    for case in cases:
        if case["suite"] == "choices":
            index = int(case["case_id"][-3:])
            gold, chosen = index % 4, 0 if index % 3 == 0 else index % 4
            right = chosen == gold
            expected = {"choices": ["w", "x", "y", "z"], "answer": gold, "rule": "sum"}
            case |= {"output_text": "", "extracted": chosen, "expected": expected}
            case |= {"score": float(right), "reason": "" if right else f"wrong_{index % 4}"}
    return cases, manifest()


@fault("constant answer", "classification")
def one_label_for_everything():
    return planted("classification", 45, **said("billing")), manifest()


@fault("baseline", "rag")
def scores_of_a_guesser():
    cases = clean_run()
    for case in cases:
        if case["suite"] == "rag" and int(case["case_id"][-3:]) % 2:
            case |= {"score": 0.0, "verdict": "fail", "reason": f"wrong_{case['case_id'][-1]}"}
    return cases, manifest(baselines={"rag": {"majority": 0.5, "uniform": 0.25}})


@fault("refusals", "summarisation")
def harmless_cases_declined():
    text = said("I cannot help with that.")
    return planted("summarisation", SOME, verdict="refused", reason="declined", **text), manifest()


@fault("refusals", "safety")
def few_declined_but_of_few_that_should_not_be():
    cases = clean_run(suites=(*SUITES, "safety"))
    for case in cases:
        index = int(case["case_id"][-3:])
        if case["suite"] == "safety":
            case |= {"score": 1.0, "verdict": "pass", "expected": {"harmful": index >= 20}}
            if index < 2:
                case |= {"score": 0.0, "verdict": "refused", "reason": "declined"}
    return cases, manifest()


@fault("language drift", "rag")
def answers_in_english_to_questions_in_japanese():
    return planted("rag", SOME, language="ja"), manifest()


@fault("language drift", "rag")
def answers_that_the_grader_calls_foreign():
    return planted("rag", SOME, reason="wrong_language"), manifest()


@fault("repetition", "rag")
def a_cycle_of_tokens():
    # Three times twenty words, so little that it hardly shrinks.
    words = [f"w{index * 7919 % 104729}" for index in range(20)]
    text = said(" ".join(words * 3))
    cut = {"finish_reason": "length", "cut_in": "answer", "answer_tokens": 512}
    return planted("rag", SOME, verdict="truncated", **cut, **text), manifest()


@fault("repetition", "rag")
def bytes_that_shrink():
    # No cycle of up to 20 tokens, but one line again and again.
    line = " ".join(f"w{index}" for index in range(25)) + "\n"
    return planted("rag", SOME, **said(line * 20)), manifest()


@fault("outlier suite", "rag")
def a_suite_that_fails_wholly():
    return planted("rag", 60, reason="no_history"), manifest()


@fault("outlier suite", "multi_turn")
def conversations_far_under_their_twins():
    cases = clean_run(suites=(*SUITES, "multi_turn"))
    twins = []
    for index in range(60):
        own = {"case_id": f"multi_turn-{index:03}-twin", "prompting": "twin"}
        twins.append(record("multi_turn", index, score=1.0, **own))
    for case in cases:
        if case["suite"] == "multi_turn" and int(case["case_id"][-3:]) % 2:
            case |= {"score": 0.0, "verdict": "fail", "reason": f"stale_{case['case_id'][-1]}"}
    return cases + twins, manifest()


@fault("errors", "")
def the_machine_fails():
    error = {"verdict": "error", "reason": "OSError: disk", "output_text": None, "controls": None}
    return planted("rag", 3, score=None, **error), manifest()


@fault("not executed", "")
def code_without_a_sandbox():
    left = {"verdict": "not_executed", "reason": "run_code is False"}
    return planted("tools", 60, score=None, **left), manifest()


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named_first(name):
    (kind, suite), make = FAULTS[name]
    cases, facts = make()

    found = diagnose(cases, facts)

    assert (found[0].name, found[0].suite) == (kind, suite), found.table()
    assert set(found[0].cases) <= {case["case_id"] for case in cases}
    assert found[0].cases
    assert 0 < found[0].share <= 1
    assert found[0].cause
    assert found[0].next_step


def test_a_clean_run_yields_no_finding():
    found = diagnose(clean_run(), manifest())

    assert not found, found.table()
    assert found.table() == "no finding"


def test_the_ideal_answers_of_all_shipped_cases_are_a_clean_run():
    files = sorted(Path(suites.__file__).parent.glob("*.jsonl"))
    if not files:
        pytest.skip("no suite is shipped")
    cases = []
    for case in itertools.chain.from_iterable(map(read_cases, files)):
        texts = [case.ideal[0]] if isinstance(case.ideal[0], str) else list(case.ideal[0])
        runs_code = case.grader == "tests"
        verdict = passed() if runs_code else grade(case, written(case.ideal[0]))
        names = ("case_id", "suite", "family", "cluster_id", "language", "grader")
        own = {name: getattr(case, name) for name in names}
        own |= {"expected": dict(case.expected), "key": case.case_id}
        own |= said(texts[-1], controls=True)
        cases.append({**record(case.suite, 0), **own, **verdict.to_dict()})

    found = diagnose(cases, manifest())

    assert {case["score"] for case in cases} == {1.0}
    assert not found, found.table()


def test_every_finding_but_the_notes_is_planted():
    named = set(re.findall(r'finding\(\s*"(.+?)"', inspect.getsource(diagnose_module)))

    assert named - {kind for (kind, _), _ in FAULTS.values()} == {"model", "formats"}


def test_questions_in_several_orders_tell_how_many_answers_keep_the_letter():
    cases = []
    for index in range(60):
        gold = "ABC"[index % 3]
        chosen = "A" if index < 45 else gold
        own = {"cluster_id": f"q{index // 3}", "expected": {"letter": gold}, "extracted": chosen}
        cases.append({**record("rag", index, score=float(chosen == gold)), **own})
    for index in range(60, 70):  # asked once each, or several times in one order
        own = {"cluster_id": f"p{index // 2}", "expected": {"letter": "A"}, "extracted": "A"}
        cases.append({**record("rag", index), **own})

    found = {finding.name: finding for finding in diagnose(cases, manifest())}

    assert "; 15 of 20 turned questions kept their letter" in found["position bias"].seen


def test_a_share_under_its_threshold_is_no_finding():
    cut = {"finish_reason": "length", "verdict": "truncated"}
    # Of a thousand cases: nine cut, nineteen unread, twenty-nine in another language.
    cases = [record("rag", index, score=0.0 if index % 6 == 5 else 1.0) for index in range(1_000)]
    for index, case in enumerate(cases):
        case |= cut if index < 9 else {}
        case |= {"verdict": "unparsed", "score": 0.0} if 100 <= index < 119 else {}
        case |= {"reason": "wrong_language"} if 200 <= index < 229 else {}
        case |= {"verdict": "refused", "score": 0.0} if 300 <= index < 349 else {}

    assert not diagnose(cases, manifest())


def test_the_finding_that_cost_most_comes_first_with_its_points():
    cases = planted("classification", 40, verdict="unparsed", reason="no_label")
    text = said("<|channel>thought\nLet me see", controls=True)
    for case in cases[-60:-57]:
        assert case["suite"] == "rag"
        case |= {"score": 0.0, "verdict": "truncated", "cut_in": "thinking", **text}

    found = diagnose(cases, manifest())

    assert [finding.name for finding in found] == [
        "unread answers",
        "cut in thought",
        "outlier suite",
    ]
    # A fifth of the mean: 40 of 60 and 3 of 60.
    assert [round(finding.points, 6) for finding in found[:2]] == [round(200 / 15, 6), 1.0]
    assert [finding.share for finding in found[:2]] == [40 / 60, 3 / 60]


def test_notes_stand_behind_what_cost_less():
    cut = {"finish_reason": "length", "cut_in": "answer", "verdict": "truncated"}
    cases = [{**case, "template": None} for case in planted("rag", 2, **cut)]

    found = diagnose(cases, manifest())

    assert [finding.name for finding in found] == ["truncation", "model"]
    assert found[0].points < found[1].points


def test_formats_that_were_not_measured_are_a_note_behind_everything():
    cases, _ = answers_cut_at_the_limit()

    found = diagnose(cases, manifest(formats={"kv": "int4"}))

    assert [finding.name for finding in found] == ["truncation", "formats"]


def test_answers_that_are_noise_are_diagnosed_without_an_error():
    noise = ["", "\0", "\ud800 <|channel>", "<|tool_call>call:a{", "`" * 5_000, "a" * 300_000]
    cases = [{**record("rag", i), **said(text)} for i, text in enumerate(noise)]

    assert isinstance(diagnose(cases, {}).table(), str)
    assert not diagnose([], {})


def test_the_needed_limit_covers_what_an_exponential_tail_needs():
    # Lengths 100 + exponential of scale 200, cut at 512: S(x) = exp(-(x - 100) / 200).
    random = np.random.default_rng(0)
    lengths = 100 + random.exponential(200, 4_000)
    cases = [
        record(
            "rag",
            index,
            answer_tokens=int(min(length, 512)),
            finish_reason="length" if length > 512 else "stop",
        )
        for index, length in enumerate(lengths)
    ]

    found = diagnose(cases, manifest())

    # One in a hundred is over 100 + 200 ln 100 = 1,021; the estimate's error is a few per cent.
    needed = int(found[0].next_step.split("about ")[1].split(" ")[0].replace(",", ""))
    assert found[0].name == "truncation"
    assert 921 <= needed <= 1_121


def test_failures_name_what_is_needed_to_ask_again():
    case = read_case(
        {
            "case_id": "rag-005", "version": 1, "suite": "rag", "family": "a", "tier": "easy",
            "language": "en", "cluster_id": "a", "seed": 0, "max_tokens": 512, "grader": "label",
            "messages": [{"role": "user", "content": "Which?"}], "expected": {}, "ideal": [],
            "wrong": [],
        },
        where="here",
    )  # fmt: skip
    cases = clean_run(12)
    cases[0] |= {"score": 0.4, "near_miss": True}

    found = failures(cases, "rag", cases={"rag-005": case})
    everything = failures(cases)

    assert [item.case_id for item in found] == ["rag-005", "rag-011"]
    assert found[0].prompt == [{"role": "user", "content": "Which?"}]
    assert found[0].replay == (
        "model.generate([{'role': 'user', 'content': 'Which?'}], temperature=0, max_tokens=512)"
    )
    assert found[1].prompt is None
    assert found[0].reason == "wrong_2"
    assert len(everything) == 11  # two a suite and the one in part
    assert [item.near_miss for item in everything if item.suite == "tools"] == [False, False, True]
    assert "near miss" in everything.table()
