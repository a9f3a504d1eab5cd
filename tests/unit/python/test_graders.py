"""What graders give for answers that are right in part, right in another form, or no answers."""

from __future__ import annotations

import itertools
import json

import pytest

from cabochon.evaluation.cases import read_case
from cabochon.evaluation.graders.faithful import numbers
from cabochon.evaluation.grading import grade, written
from cabochon.evaluation.suites import shipped
from cabochon.evaluation.suites.extraction import FILLERS
from cabochon.evaluation.suites.tools import call_text, declared


def case(grader, expected, tools=()):
    fields = shipped.shipped("classification")[0].to_dict()
    fields |= {"grader": grader, "expected": expected, "tools": list(tools)}
    return read_case(fields, where=grader)


# --- calls ---------------------------------------------------------------------------------------

WEATHER = [declared("get_weather"), declared("start_timer")]
TWO = {
    "calls": [
        {"name": "get_weather", "arguments": {"city": {"$text": "Cork"}}},
        {"name": "start_timer", "arguments": {"minutes": 4}},
    ]
}
CORK, TIMER = call_text("get_weather", {"city": "Cork"}), call_text("start_timer", {"minutes": 4})


@pytest.mark.parametrize(
    ("output", "score", "reason"),
    [
        (CORK + TIMER, 1, ""),
        (TIMER + CORK, 1, ""),
        (f"One moment.{CORK}{TIMER}", 1, ""),
        (CORK, 1 / 2, "missing_call"),
        (CORK + TIMER + TIMER, 2 / 3, "extra_call"),
        (CORK + CORK, 1 / 2, "wrong_tool"),
        (CORK + call_text("start_timer", {"minutes": "4"}), 1 / 2, "wrong_type"),
        (CORK + call_text("start_timer", {"minutes": 5}), 1 / 2, "wrong_argument"),
        (CORK + call_text("start_timer", {"minutes": 4, "label": "x"}), 1 / 2, "extra_argument"),
        (CORK + "<|tool_call>call:start_timer{minutes:<tool_call|>", 1 / 2, "unreadable_call"),
        (f"{CORK}{TIMER}It is 12 degrees.", 0, "invented_result"),
        (f"{CORK}{TIMER}<|tool_response>", 1, ""),  # where generation stops
        ("It is warm there.", 0, "no_call"),
        ("", 0, "no_answer"),
    ],
)
def test_calls_score_by_matched_over_the_larger_number(output, score, reason):
    verdict = grade(case("calls", TWO, WEATHER), written(output))

    assert verdict.score == pytest.approx(score, abs=1e-12)
    assert verdict.reason == reason


@pytest.mark.parametrize(
    "output",
    [
        '```json\n[{"name": "get_weather", "arguments": {"city": "Cork"}}]\n```',
        'I call {"tool": "get_weather", "parameters": {"city": "cork"}} now.',
        '{"tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Cork"}}}]}',
        'call:get_weather{city:"Cork"}',
    ],
)
def test_a_call_that_was_written_as_text_is_a_near_miss(output):
    one = {"calls": TWO["calls"][:1]}

    verdict = grade(case("calls", one, WEATHER), written(output))

    assert (verdict.score, verdict.reason, verdict.near_miss) == (0, "call_in_text", True)
    assert verdict.extracted is None
    assert verdict.extracted_lenient[0]["name"] == "get_weather"


def test_an_argument_that_its_tool_does_not_take_is_wrong_whatever_the_pattern_says():
    loose = {"calls": [{"name": "start_timer", "arguments": {"minutes": {"$one_of": [4, "4"]}}}]}

    verdict = grade(
        case("calls", loose, WEATHER), written(call_text("start_timer", {"minutes": "4"}))
    )

    assert (verdict.score, verdict.reason) == (0, "wrong_type")


# --- label ---------------------------------------------------------------------------------------

ONE_LABEL = {"labels": ["refund"], "allowed": ["refund", "exchange", "other"]}
SET = {"labels": ["noise", "staff"], "allowed": ["noise", "staff", "price"], "many": True}


@pytest.mark.parametrize("output", ["refund", " Refund.\n", "\uff32efund"])
def test_a_label_is_right_in_any_case_and_with_a_full_stop(output):
    assert grade(case("label", ONE_LABEL), written(output)).score == 1


@pytest.mark.parametrize(
    "output", ["`refund`", '"refund"', "**refund**", "Label: refund", "Well.\n\nAnswer: refund"]
)
def test_a_label_in_wrapping_is_reported_and_not_scored(output):
    verdict = grade(case("label", ONE_LABEL), written(output))

    assert (verdict.verdict, verdict.score, verdict.near_miss) == ("unparsed", 0, True)
    assert (verdict.extracted, verdict.extracted_lenient) == (None, ["refund"])


@pytest.mark.parametrize(
    ("output", "score", "reason"),
    [
        ("staff,noise", 1, ""),
        ("noise, staff, noise", 1, ""),
        ("noise", 0, "missing_label"),
        ("noise, staff, price", 0, "extra_label"),
        ("noise, price", 0, "wrong_label"),
        ("noise, staff, smell", 0, "not_a_label"),
    ],
)
def test_a_list_of_labels_is_compared_as_a_set(output, score, reason):
    verdict = grade(case("label", SET), written(output))

    assert (verdict.score, verdict.reason) == (score, reason)


# --- f1 ------------------------------------------------------------------------------------------

FACTS = {
    "entities": [["firm", "Brask"], ["firm", "Orl"], ["day", "3 May 2031"], ["sum", "40 euros"]],
    "relations": [["Brask", "bills", "Orl"], ["Orl", "pays", "40 euros"]],
    "decoys": ["4 May 2031"],
}


def answer(entities, relations):
    return json.dumps({"entities": entities, "relations": relations})


def test_f1_is_the_mean_of_entities_and_relations():
    # 3 of 5 made and of 4 expected: 2 * 3 / 9; 1 of 1 made and of 2 expected: 2 * 1 / 3.
    made = [*FACTS["entities"][:3], ["day", "4 May 2031"], ["firm", "Quo"]]
    output = answer(made, FACTS["relations"][:1])

    verdict = grade(case("f1", FACTS), written(output))

    assert verdict.score == pytest.approx((2 * 3 / 9 + 2 * 1 / 3) / 2, abs=1e-12)
    assert (verdict.verdict, verdict.reason) == ("partial", "decoy")


def test_what_is_said_twice_is_once_too_much():
    output = answer([*FACTS["entities"], FACTS["entities"][0]], FACTS["relations"])

    verdict = grade(case("f1", FACTS), written(output))

    assert verdict.score == pytest.approx((2 * 4 / 9 + 1) / 2, abs=1e-12)


def test_nothing_where_there_is_nothing_is_right():
    nothing = {"entities": [], "relations": [], "decoys": []}

    assert grade(case("f1", nothing), written(answer([], []))).score == 1
    assert grade(case("f1", FACTS), written(answer([], []))).score == 0


def test_objects_in_place_of_lists_are_reported_and_not_scored():
    entities = [{"type": kind, "value": value} for kind, value in FACTS["entities"]]

    verdict = grade(case("f1", FACTS), written(answer(entities, FACTS["relations"])))

    assert (verdict.score, verdict.reason, verdict.near_miss) == (0.5, "malformed_item", True)


# --- grounded ------------------------------------------------------------------------------------

GROUNDED = {"answer": ["1,250", "1250"], "rivals": ["980"], "needs": [2, 3]}


@pytest.mark.parametrize(
    ("output", "score", "reason"),
    [
        ("1,250 [2][3]", 1, ""),
        ("1250 euros [3, 2]", 1, ""),
        ("1250 [2] and [3], see also [1]", 1, ""),
        ("1250 [2]", 0.7, "wrong_citation"),
        ("1250", 0.7, "no_citation"),
        ("1250 [1][2][3][4]", 0.7, "extra_citation"),
        ("1250 or 980 [2][3]", 0, "rival_answer"),
        ("11250 [2][3]", 0, "wrong_answer"),
        ("1250, but NOT IN CONTEXT [2][3]", 0, "said_absent"),
    ],
)
def test_a_grounded_answer_is_worth_seven_tenths_and_its_sources_three(output, score, reason):
    verdict = grade(case("grounded", GROUNDED), written(output))

    assert (verdict.score, verdict.reason) == (score, reason)


def test_what_the_passages_do_not_say_is_all_or_nothing():
    absent = case("grounded", {"answer": None, "rivals": ["42"], "needs": []})

    found = {
        text: grade(absent, written(text)).score
        for text in ("Not in context.", "NOT IN CONTEXT, but probably 42", "42", "Not stated.")
    }

    assert list(found.values()) == [1, 0, 0, 0]
    assert grade(absent, written("It is not mentioned.")).near_miss


# --- faithful ------------------------------------------------------------------------------------

PASSAGE = (
    "Brask Mill sold more in 2031. Revenue rose by 12 percent to 1.4 million euros, and profit "
    "fell by 8 percent. On 3 May the board refused a loan of 250,000 euros. Twenty-four people "
    "work in Lunvik. The shift begins at 14:30 and ends at ten at night."
)
UP, DOWN = ["rose", "up", "grew", "increase", "higher"], ["fell", "down", "drop", "decline"]
FAITHFUL = {
    "passage": PASSAGE,
    "words": 20,
    "facts": [
        {"forms": ["12%"], "about": ["12%"], "says": UP, "flips": DOWN},
        {"forms": ["8%"], "about": ["8%"], "says": DOWN, "flips": UP},
        {
            "forms": ["loan + refused", "loan + not approved"],
            "about": ["loan"],
            "says": ["refused", "not approved"],
            "flips": ["approved", "granted"],
        },
    ],
}


@pytest.mark.parametrize(
    "summary",
    [
        "Revenue rose 12%, profit fell 8 per cent, and a loan was refused.",
        "Revenue grew 12 percent while profit was down 8%. The loan was not approved.",
        "An increase of 12 % in revenue, a drop of 8 % in profit; the loan? Refused.",
        "Twelve percent, i.e. 12%: so much is revenue up. Profit: an 8% decline. Loan refused.",
        "In Lunvik 24 people work from 2:30 pm. Up 12%, down 8%. The 250,000 loan was refused.",
        "The shift ends at 22:00. Revenue rose 12%, profit fell 8%, a loan was refused.",
        "Brask Mill's revenue (1,400,000 euros) is 12% higher, profit 8% down, the loan refused.",
    ],
)  # fmt: skip
def test_a_faithful_summary_passes_in_many_words(summary):
    verdict = grade(case("faithful", {**FAITHFUL, "words": 20}), written(summary))

    assert (verdict.score, verdict.reason) == (1, "")


@pytest.mark.parametrize(
    ("summary", "score", "reason"),
    [
        ("Revenue rose 12%, profit fell 8%.", 2 / 3, "missing_fact"),
        ("Revenue fell 12%, profit fell 8%, the loan was refused.", 0, "flipped_fact"),
        ("Revenue rose 12%, profit fell 8%, the loan was approved.", 0, "flipped_fact"),
        ("Revenue rose 13%, profit fell 8%, the loan was refused.", 0, "unsupported_number"),
        ("Revenue rose 24%, profit fell 8%, the loan was refused.", 0, "unsupported_number"),
        ("Revenue rose 12% to 1.5 million, profit fell 8%.", 0, "unsupported_number"),
        ("Forty people saw revenue rise 12%.", 0, "unsupported_number"),
        ("Revenue rose 12% in Tessaro.", 0, "unsupported_name"),
        ("Revenue rose 12%. " + "And so on. " * 8, 0, "too_long"),
    ],
)
def test_a_summary_that_says_what_is_not_so_earns_nothing(summary, score, reason):
    verdict = grade(case("faithful", FAITHFUL), written(summary))

    assert verdict.score == pytest.approx(score, abs=1e-12)
    assert verdict.reason == reason


def test_a_tenth_more_words_than_the_limit_are_let_through():
    right = "Revenue rose 12%, profit fell 8%, the loan was refused"  # 10 words
    verdicts = [
        grade(case("faithful", FAITHFUL), written(right + " and so" * 6 + end)).reason
        for end in ("", " on")
    ]

    assert verdicts == ["", "too_long"]  # 22 words of 20, and 23


def test_numbers_are_read_in_digits_and_words():
    text = "Twenty-four of 1,250.50, 18 percent, two hundred, 1.2 million, twelve percent, a dozen"

    found = sorted((float(value), share) for value, share in numbers(text))

    assert found == [
        *((12, False), (12, True), (18, True), (24, False), (200, False)),
        *((1250.5, False), (1200000, False)),
    ]


# --- no answer -----------------------------------------------------------------------------------


def test_two_hundred_texts_without_an_answer_yield_none():
    sentences = [sentence for listed in FILLERS.values() for sentence in listed]
    texts = [" ".join(pair) for pair in itertools.islice(itertools.combinations(sentences, 2), 200)]
    judged = [
        case("label", ONE_LABEL),
        case("label", SET),
        case("f1", FACTS),
        case("calls", TWO, WEATHER),
    ]

    verdicts = [grade(asked, written(text)) for asked in judged for text in texts]

    assert len(verdicts) == 800
    assert {verdict.score for verdict in verdicts} == {0}
    assert {str(verdict.extracted) for verdict in verdicts} == {"None"}
    assert not any(verdict.near_miss for verdict in verdicts)
