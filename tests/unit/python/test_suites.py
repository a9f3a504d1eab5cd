"""The shipped suites: every answer passes or fails as its case says, and all is made again."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from answers import tokenizer
from cabochon.chat.render import render
from cabochon.chat.template import LARGE, native_template
from cabochon.chat.tools import read_tools
from cabochon.errors import EvaluationError
from cabochon.evaluation.cases import TIERS, canonical, write_cases
from cabochon.evaluation.graders import code
from cabochon.evaluation.grading import grade, written
from cabochon.evaluation.sandbox import Limits, find_sandbox
from cabochon.evaluation.suites import shipped

NAMES = shipped.suite_names()
# The least that each has, of all ten.
SIZES = {
    "tools": 72,
    "extraction": 60,
    "classification": 72,
    "summarisation": 60,
    "rag": 64,
    "code": 60,
    "multilingual": 72,
    "multi_turn": 60,
    "safety": 80,
    "structured": 60,
}
# Programs take 0.2 s each: all of them at a release, one case of each family here.
EVERY_PROGRAM = bool(os.environ.get("EVERY_PROGRAM"))
every_suite = pytest.mark.parametrize("name", NAMES)


def texts(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item)


def judged(case, output):
    """The verdict; functions run in a sandbox, with less time than a model's gets."""
    if case.grader != "tests":
        return grade(case, written(output))
    if (found := find_sandbox()) is None:
        pytest.skip("no sandbox works on this machine")
    sandbox = dataclasses.replace(found, limits=Limits(cpu_s=2, wall_s=8))
    return code.run(case, written(output), sandbox)


def misjudged(cases):
    """Outputs that are not judged as their case says, with the verdict."""
    for case in cases:
        if case.grader == "tests" and not EVERY_PROGRAM and not case.case_id.endswith("02"):
            continue
        for output in case.ideal:
            verdict = judged(case, output)
            if (verdict.score, verdict.verdict) != (1.0, "pass"):
                yield case.case_id, output, "pass", verdict
        for output, reason in case.wrong:
            verdict = judged(case, output)
            if verdict.verdict in ("pass", "error") or verdict.reason != reason:
                yield case.case_id, output, reason, verdict


@every_suite
def test_every_ideal_passes_and_every_wrong_fails_with_its_reason(name):
    assert list(misjudged(shipped.shipped(name))) == []


def test_functions_are_found_in_answers_without_running_them():
    for case in shipped.shipped("code"):
        for output in case.ideal:
            verdict = grade(case, written(output))
            assert (verdict.verdict, verdict.reason) == ("not_executed", "not_run")
        for output, reason in case.wrong:
            is_unparsed = grade(case, written(output)).verdict == "unparsed"
            assert is_unparsed == (reason == "no_function"), case.case_id


@every_suite
def test_every_case_has_an_ideal_and_two_that_are_wrong(name):
    for case in shipped.shipped(name):
        assert len(case.ideal) >= 1, case.case_id
        assert len(case.wrong) >= 2, case.case_id
        assert case.suite == name


@every_suite
def test_a_suite_is_made_again_byte_for_byte(name):
    path = shipped._path(name)

    assert write_cases(shipped.generated(name)).encode() == path.read_bytes()


@every_suite
def test_a_suite_has_its_number_of_cases_and_no_two_alike(name):
    cases = shipped.shipped(name)

    assert len(cases) >= SIZES[name]
    assert len({case.case_id for case in cases}) == len(cases)
    assert len({canonical([case.messages, case.tools]) for case in cases}) == len(cases)


@every_suite
def test_a_prefix_is_a_smaller_sample_of_the_same_kind(name):
    cases = shipped.shipped(name)
    families, total = Counter(case.family for case in cases), len(cases)

    half = cases[: total // 2]
    spread = Counter(case.family for case in half)

    assert write_cases(shipped.generated(name, n=total // 2)) == write_cases(half)
    # Half of a family, give or take one.
    assert all(abs(spread[f] - families[f] * len(half) / total) <= 1 for f in families), spread
    assert set(TIERS) <= {case.tier for case in cases[:24]}


@every_suite
def test_tiers_are_about_one_two_one(name):
    cases = shipped.shipped(name)
    shares = {tier: sum(case.tier == tier for case in cases) / len(cases) for tier in TIERS}

    assert 0.15 <= shares["easy"] <= 0.35
    assert 0.40 <= shares["medium"] <= 0.60
    assert 0.15 <= shares["hard"] <= 0.35


@every_suite
def test_about_a_third_is_written_by_hand(name):
    cases = shipped.shipped(name)

    assert 0.28 <= sum(case.seed == 0 for case in cases) / len(cases) <= 0.5


@every_suite
def test_another_seed_gives_other_cases_that_are_as_sound(name):
    cases, known = shipped.generated(name, 7, 48), shipped.shipped(name)

    assert list(misjudged(cases)) == []
    assert all(case.seed == 7 for case in cases)
    assert write_cases(cases) == write_cases(shipped.generated(name, 7, 48))
    shared = {canonical(case.messages) for case in cases} & {canonical(c.messages) for c in known}
    assert len(shared) <= 2
    assert not {case.case_id for case in cases} & {case.case_id for case in known}


@every_suite
def test_no_question_is_asked_twice_however_many_there_are(name):
    cases = shipped.generated(name, 7, 300)

    assert len({canonical([case.messages, case.tools]) for case in cases}) == len(cases)
    assert len({case.case_id for case in cases}) == len(cases)


@every_suite
def test_a_suite_goes_on_past_what_is_shipped(name):
    cases = shipped.generated(name, n=SIZES[name] + 20)

    assert cases[-1].seed != 0
    assert list(misjudged(cases[-20:])) == []


@every_suite
def test_nobody_and_no_place_of_the_web_is_real(name):
    for case in shipped.shipped(name):
        for text in texts(case.to_dict()):
            for domain in re.findall(r"[\w.-]+@([\w-]+(?:\.[\w-]+)+)", text):
                assert domain.endswith(".example"), (case.case_id, domain)
            for domain in re.findall(r"(?:https?://|\bwww\.)([\w.-]+)", text):
                assert domain.strip(".").endswith(".example"), (case.case_id, domain)
            for phone in re.findall(r"\+\d[\d ()-]{6,}\d|\b\d{3}-\d{4}\b(?!-)", text):
                assert "555-01" in phone, (case.case_id, phone)


@every_suite
def test_tools_compile_and_the_model_is_told_all_of_them(name):
    for case in shipped.shipped(name):
        read_tools(case.tools)  # a schema that says more than the declaration warns: an error here


@every_suite
def test_every_prompt_renders_with_the_published_template(name):
    found, template = tokenizer("demo"), native_template(LARGE)
    for case in shipped.shipped(name):
        first = [message["role"] for message in case.messages].index("user") + 1
        messages = case.messages[:first] if case.is_talk else case.messages

        rendered = render(messages, template=template, tokenizer=found, tools=case.tools or None)

        assert len(rendered.token_ids) > 8, case.case_id


def test_right_labels_are_balanced_to_within_one_case():
    counts = Counter()
    for case in shipped.shipped("classification"):
        if not case.expected.get("many"):
            listed = tuple(sorted(case.expected["allowed"]))
            counts.update({(listed, label): 0 for label in listed})
            counts[listed, case.expected["labels"][0]] += 1

    assert max(counts.values()) - min(counts.values()) <= 1


def test_the_command_writes_the_same_bytes_again():
    command = [sys.executable, "-m", "cabochon.evaluation.suites.classification"]

    given = subprocess.run([*command, "--seed", "7", "--n", "5"], capture_output=True, check=True)

    assert given.stdout == write_cases(shipped.generated("classification", 7, 5)).encode()


def test_a_suite_that_there_is_not_is_named_with_those_that_there_are():
    with pytest.raises(EvaluationError, match=r"suite 'tolls' is not known, expected one of .*"):
        shipped.shipped("tolls")
