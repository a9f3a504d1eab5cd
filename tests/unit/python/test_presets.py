"""Public sets from local files, generated needles, and graders of short answers."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from cabochon.errors import EvaluationError
from cabochon.evaluation.graders.answers import (
    boxed,
    equal_expressions,
    last_letter,
    last_number,
    letter,
)
from cabochon.evaluation.grading import Output, find_grader, written
from cabochon.evaluation.presets import PRESETS, PROMPTINGS, local_cases, needles

# Rows as the public files have them, with questions of our own.
ROWS = {
    "arc": [
        {
            "id": f"Q{i}",
            "question": {
                "stem": f"What is {i} + 1?",
                "choices": [{"label": str(k + 1), "text": str(i + k)} for k in range(4)],
            },
            "answerKey": "2",
        }
        for i in range(40)
    ]
    + [
        {
            "id": "H1",
            "question": "Which is a metal?",
            "choices": {"text": ["wood", "iron", "silk"], "label": ["A", "B", "C"]},
            "answerKey": "B",
        }
    ],
    "gsm8k": [
        {"question": "How much is 1,000 + 200?", "answer": "It is <<1000+200=1200>>.\n#### 1,200"},
        {"question": "3 - 5?", "answer": "#### -2"},
    ],
    "math": [
        {"problem": "Half of three quarters?", "solution": "\\boxed{\\frac{3}{8}}", "level": 2},
        {"problem": "x?", "solution": "so \\boxed{\\left\\{1, 2\\right\\}}.", "level": "Level 3"},
        {"problem": "too hard", "solution": "\\boxed{1}", "level": "Level 5"},
    ],
    "truthfulqa": [
        {"question": "Can pigs fly?", "mc1_targets": {"No": 1, "Yes": 0, "At night": 0}},
        {"question": "Is ice hot?", "mc1_targets": {"choices": ["No", "Yes"], "labels": [1, 0]}},
    ],
    "choices": [
        {"question": "2 * 3?", "options": ["5", "6", "7"], "answer": "B", "category": "sums"},
        {"question": "2 * 4?", "choices": ["8", "9"], "answer": 0},
    ],
}


def cases_of(tmp_path, name, rows=None, **options):
    path = tmp_path / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows or ROWS[name]))
    return local_cases(name, path, **options)


def check(case):
    """Every ideal scores 1, every wrong one fails with its reason."""
    function = find_grader(case.grader)
    for text in case.ideal:
        assert function(case, written(text)).score == 1, (case.case_id, text)
    for text, reason in case.wrong:
        verdict = function(case, written(text))
        assert (verdict.score < 1, verdict.reason) == (True, reason), (case.case_id, text)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("prompting", PROMPTINGS)
def test_every_gold_of_a_local_set_passes_its_own_grader(tmp_path, name, prompting):
    if name == "math":
        pytest.importorskip("math_verify")
    if name == "choices" and prompting != "zero-shot":
        with pytest.raises(EvaluationError, match="prompting is"):
            cases_of(tmp_path, name, prompting=prompting)
        return

    cases = cases_of(tmp_path, name, prompting=prompting)

    assert len(cases) == {"arc": 41, "gsm8k": 2, "math": 2, "truthfulqa": 2, "choices": 2}[name]
    for case in cases:
        check(case)


def test_golds_stand_in_every_place_equally_often_and_the_prompt_names_the_letters(tmp_path):
    cases = cases_of(tmp_path, "arc")

    places = Counter(case.expected["letter"] for case in cases[:40])
    assert places == dict.fromkeys("ABCD", 10)
    assert "A to D." in cases[0].messages[0]["content"]
    assert "A to C." in cases[40].messages[0]["content"]
    for case in cases[:40]:  # the letter is that of the right option
        text = case.messages[0]["content"]
        right = str(int(text.split(" + ")[0].removeprefix("What is ")) + 1)
        assert f"{case.expected['letter']}) {right}\n" in text
    assert cases_of(tmp_path, "arc", seed=1)[0].sha256 != "" and [
        case.sha256 for case in cases_of(tmp_path, "arc")
    ] == [case.sha256 for case in cases]


def test_a_row_that_is_not_of_the_set_is_refused_with_its_number(tmp_path):
    with pytest.raises(EvaluationError, match=r"row 2: KeyError 'label'"):
        cases_of(tmp_path, "arc", rows=[ROWS["arc"][0], {"question": "?", "choices": {}}])
    with pytest.raises(EvaluationError, match="set 'mmlu' is not known"):
        local_cases("mmlu", tmp_path)
    with pytest.raises(EvaluationError, match="none\\.jsonl"):
        local_cases("gsm8k", tmp_path / "none.jsonl")


def test_weights_of_a_preset_add_up_to_one():
    for preset in PRESETS.values():
        assert sum(preset.weights.values()) == pytest.approx(1)


# --- extractors ----------------------------------------------------------------------------------

PROSE = [
    "A bird sat on a fence, and I watched it.",
    "Vitamin C is good for you. A good answer is a matter of taste.",
    "There are no such things; I cannot say which is right.",
    "As I said, the answer is a long story.",
    "I would say that it depends.",
    "Plan B failed, so we met at gate C.",
]


@pytest.mark.parametrize("text", PROSE)
def test_prose_without_an_answer_yields_none(text):
    assert last_letter(text, "ABCDEFGHI") is None
    assert last_number(text) is None
    assert boxed(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("C", "C"),
        ("(C)", "C"),
        ("The answer is C.", "C"),
        ("**C)** iron", "C"),
        ("Option B is wrong, so option C", "C"),
        ("I think the answer is A", "A"),
        ("answer: A and not B", None),
        ("Answer: E", None),
    ],
)
def test_the_last_option_that_is_named_is_found(text, expected):
    assert last_letter(text, "ABCD") == expected


def test_a_letter_is_one_of_the_options_alone():
    assert (letter("(B)", "AB"), letter("C", "AB"), letter("AB", "AB")) == ("B", None, None)


@pytest.mark.parametrize(
    ("text", "verdict", "near_miss"),
    [
        ("so\nAnswer: 1,200", "pass", False),
        ("**Answer: $1200.00**", "pass", False),
        ("Answer: 1201", "fail", False),
        ("#### 1200", "unparsed", True),
        ("Answer: 1200\nI hope that helps.", "unparsed", True),
        ("Answer: twelve hundred", "unparsed", False),
        ("", "unparsed", False),
    ],
)
def test_numbers_are_read_from_the_last_line_alone(tmp_path, text, verdict, near_miss):
    case = cases_of(tmp_path, "gsm8k")[0]

    found = find_grader("number")(case, written(text))

    assert (found.verdict, found.near_miss) == (verdict, near_miss)


def test_a_box_is_read_with_its_nested_braces():
    assert boxed("\\boxed{\\frac{14}{3}} and more") == "\\frac{14}{3}"
    assert boxed("\\boxed{1} then \\boxed{\\sqrt{2}}") == "\\sqrt{2}"
    assert boxed("\\boxed{\\frac{14}{3}") is None


@pytest.mark.parametrize(
    ("gold", "found", "is_equal"),
    [
        ("\\frac{3}{4}", "\\dfrac{3}{4}", True),
        ("\\frac{3}{4}", "0.75", True),
        ("(3, 4)", "(3,4)", True),
        ("2\\sqrt{2}", "\\sqrt{8}", True),
        ("\\frac{3}{4}", "\\frac{4}{3}", False),
        ("4", "9^{9^{9^9}}", False),
        ("4", "999999!", False),
        ("4", "\\notanexpression{", False),
    ],
)
def test_expressions_are_compared_by_algebra(gold, found, is_equal):
    pytest.importorskip("math_verify")

    assert equal_expressions(gold, found) is is_equal


def test_a_scored_choice_is_the_one_of_the_highest_log_probability(tmp_path):
    case = cases_of(tmp_path, "choices")[1]  # "8" and "9", at places that a seed decides
    gold = case.expected["answer"]
    right = tuple(-1.0 if index == gold else -2.0 for index in range(2))

    assert find_grader("choice")(case, Output(text="", choice_logprobs=right)).score == 1
    wrong = find_grader("choice")(case, Output(text="", choice_logprobs=right[::-1]))
    assert (wrong.score, wrong.reason) == (0, "wrong_choice")


# --- needles -------------------------------------------------------------------------------------


def words(text: str) -> int:
    return len(text.split())


def test_needles_fill_the_length_and_stand_where_they_should():
    cases = needles(words, context=5000, lengths=[2000, 5000])

    assert len(cases) == 2 * 3 * 5
    for case in cases:
        check(case)
        text = case.messages[0]["content"]
        length, depth = case.expected["length"], case.expected["depth"]
        assert length - 520 < words(text) < length - 256
        assert all(text.count(value) == 1 for value in case.expected["values"])
        if case.expected["values"] and len(case.expected["values"]) == 1:
            # The first of the asked needles is at its depth, to 5 % of the text.
            at = text.index(case.expected["values"][0]) / len(text)
            assert at == pytest.approx(depth, abs=0.05)
    assert [c.sha256 for c in needles(words, context=5000, lengths=[2000, 5000])] == [
        case.sha256 for case in cases
    ]


def test_needles_that_do_not_fit_are_refused():
    with pytest.raises(EvaluationError, match="a length of 6000 tokens"):
        needles(words, context=5000, lengths=[6000])
    assert {c.expected["length"] for c in needles(words, context=9000)} == {4096, 8192}
