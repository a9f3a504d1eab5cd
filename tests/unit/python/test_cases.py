"""Cases as data, outputs as text, verdicts: what every suite and grader stands on."""

from __future__ import annotations

import json

import pytest

from cabochon.errors import EvaluationError
from cabochon.evaluation.cases import read_cases, write_cases
from cabochon.evaluation.draw import Draw
from cabochon.evaluation.grading import failed, grade, normal, passed, written

CASE = {
    "case_id": "a-1",
    "version": 1,
    "suite": "a",
    "family": "plain",
    "tier": "easy",
    "language": "en",
    "cluster_id": "a-1",
    "seed": 0,
    "messages": [{"role": "user", "content": "2 + 2?"}],
    "tools": [],
    "schema": None,
    "max_tokens": 64,
    "grader": "answer",
    "expected": {"number": 4},
    "ideal": ["4"],
    "wrong": [["5", "wrong_value"], ["", "no_answer"]],
}


def write(path, *cases):
    path.write_text("".join(json.dumps(case) + "\n" for case in cases), encoding="utf-8")
    return path


def test_a_file_of_cases_is_read_and_written_again_byte_for_byte(tmp_path):
    cases = read_cases(write(tmp_path / "a.jsonl", CASE, {**CASE, "case_id": "a-2"}))

    (tmp_path / "b.jsonl").write_text(write_cases(cases), encoding="utf-8")

    assert [case.case_id for case in cases] == ["a-1", "a-2"]
    assert cases[0].sha256 == cases[1].sha256  # of the content alone
    assert write_cases(read_cases(tmp_path / "b.jsonl")) == write_cases(cases)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": 1}, "unknown field 'colour'"),
        ({"version": "1"}, "version is str"),
        ({"version": True}, "version is bool"),
        ({"tier": "odd"}, "tier is 'odd'"),
        ({"messages": "hi"}, "messages is str"),
        ({"wrong": ["5"]}, r"expected \[output, reason\]"),
    ],
)
def test_a_field_that_is_not_as_it_should_be_is_refused_with_its_line(tmp_path, change, said):
    path = write(tmp_path / "a.jsonl", CASE, {**CASE, "case_id": "a-2", **change})

    with pytest.raises(EvaluationError, match=f"line 2.*{said}"):
        read_cases(path)


def test_a_missing_field_and_an_id_that_stands_twice_are_refused(tmp_path):
    with pytest.raises(EvaluationError, match="line 2: case_id 'a-1' is that of line 1"):
        read_cases(write(tmp_path / "a.jsonl", CASE, CASE))
    with pytest.raises(EvaluationError, match="no field 'grader'"):
        read_cases(write(tmp_path / "a.jsonl", {k: v for k, v in CASE.items() if k != "grader"}))


def test_thoughts_and_calls_are_no_part_of_an_answer_that_is_written_out():
    output = written(
        "<|channel>thought\nhm<channel|>yes"
        '<|tool_call>call:book{hotel:<|"|>A<|"|>,nights:3}<tool_call|>'
    )

    assert (output.text, output.thinking) == ("yes", "hm")
    assert output.tool_calls[0].name == "book"
    assert output.tool_calls[0].arguments == {"hotel": "A", "nights": 3}


def test_an_answer_that_was_cut_is_truncated_unless_it_passes(tmp_path):
    case = read_cases(write(tmp_path / "a.jsonl", CASE))[0]
    cut = written("4", finish_reason="length", cut_in="answer")

    assert grade(case, cut, lambda case, output: passed()).verdict == "pass"
    half = grade(case, cut, lambda case, output: failed("wrong_value", score=0.5))

    assert (half.verdict, half.score, half.reason) == ("truncated", 0.5, "cut_in_answer")


def test_a_grader_that_raises_is_our_fault_and_counts_as_no_score(tmp_path):
    case = read_cases(write(tmp_path / "a.jsonl", CASE))[0]

    verdict = grade(case, written("4"), lambda case, output: 1 / 0)

    assert (verdict.verdict, verdict.score) == ("error", None)
    assert "ZeroDivisionError" in verdict.reason


def test_normal_text_has_ascii_digits_and_one_space_and_no_full_stop():
    assert normal("  \uff11\u0662  Main\tStreet. ") == "12 main street"
    assert normal("3,5 kg", "de") == "3.5 kg"
    assert normal("3,5 kg", "en") == "3,5 kg"


def test_draws_are_the_same_for_ever_and_cover_their_range():
    draw = Draw("suite", 7, 1)

    assert [draw.integer(0, 9) for _ in range(8)] == [6, 1, 3, 6, 2, 6, 4, 4]
    assert sorted(draw.shuffled(range(10))) == list(range(10))
    assert {draw.integer(1, 3) for _ in range(100)} == {1, 2, 3}
