"""Grader `turns`: shares of checks, and why the first one fails."""

from __future__ import annotations

import pytest

from cabochon.evaluation.cases import read_case
from cabochon.evaluation.suites import shipped
from graded import case, graded

TALK = case(
    "turns",
    {
        "checks": [
            {"turn": 1, "has": [["noted", "ok"]]},
            {"turn": 3, "has": [["7 pm", "19:00"]], "lacks": ["6 pm"]},
        ]
    },
)


@pytest.mark.parametrize(
    ("last", "reason", "score"),
    [
        ("7 pm", "", 1.0),
        ("At 19:00.", "", 1.0),
        ("6 pm", "stale_value", 0.5),
        ("6 pm, now 7 pm", "both_values", 0.5),
        ("In the evening", "missing", 0.5),
        ("17 pm", "missing", 0.5),  # the form stands alone
        ("", "empty_turn", 0.5),
        ("Fine.", "repeated_answer", 0.5),
        ("<|channel>thought\n7 pm<channel|>", "in_thought", 0.5),
    ],
)
def test_the_first_check_that_fails_gives_the_reason(last, reason, score):
    verdict = graded(TALK, ["Noted.", "Fine.", last])

    assert (verdict.reason, verdict.score) == (reason, score)


def test_an_empty_turn_that_nothing_asks_for_is_one_more_check_that_fails():
    verdict = graded(TALK, ["Noted.", "", "7 pm"])

    assert (verdict.reason, verdict.score) == ("empty_turn", 2 / 3)


def test_a_conversation_that_ended_early_fails_what_it_did_not_reach():
    verdict = graded(TALK, ["Noted."])

    assert (verdict.reason, verdict.score) == ("empty_turn", 0.5)


@pytest.mark.parametrize(
    ("form", "right", "wrong"),
    [
        ({"starts": "desk:"}, "Desk: yes", "yes"),
        ({"ends": "over"}, "yes OVER", "over, yes"),
        ({"max_words": 2}, "a b", "a b c"),
        ({"min_words": 2}, "a b", "a"),
        ({"lines": 2}, "a\n\nb", "a b"),
        ({"bullets": 2}, "- a\n- b", "- a\nb"),
        ({"upper": True}, "YES 3", "Yes 3"),
        ({"no_digits": True}, "three", "3"),
        ({"question": True}, "Really?", "Really."),
    ],
)
def test_a_rule_of_form_is_kept_or_not(form, right, wrong):
    talk = case("turns", {"checks": [{"turn": 1, "form": form}]})

    assert graded(talk, right).verdict == "pass"
    assert graded(talk, wrong).reason == "format"


@pytest.mark.parametrize(
    ("form", "inside", "alone"),
    [("cat", "concatenate", "a cat"), ("12", "12.5", "12."), ("45", "145", "45kg"),
     ("500", "1500円", "500円です"), ("Tor", "Motor", "das Tor!")],
)  # fmt: skip
def test_a_form_stands_alone_in_latin_script_and_among_digits(form, inside, alone):
    talk = case("turns", {"checks": [{"turn": 1, "has": [[form]]}]})

    assert graded(talk, inside).reason == "missing"
    assert graded(talk, alone).verdict == "pass"


def test_an_order_is_that_of_first_places():
    talk = case("turns", {"checks": [{"turn": 1, "order": ["budget", "hiring"]}]})

    assert graded(talk, "1. Budget 2. Hiring 3. Budget again").verdict == "pass"
    assert graded(talk, "1. Hiring 2. Budget").reason == "order"
    assert graded(talk, "1. Budget").reason == "order"


def test_every_twin_is_a_case_of_one_turn_that_the_last_answer_passes():
    for talk in shipped.shipped("multi_turn"):
        twin = talk.expected["twin"]
        fields = {**talk.to_dict(), "messages": twin["messages"], "case_id": "twin",
                  "expected": {"checks": twin["checks"]}}  # fmt: skip
        single = read_case(fields, where="twin")

        assert single.turns == 1
        assert not single.is_talk
        assert len(talk.expected["checks"]) >= 2
        assert 3 <= talk.turns <= 8
        for answers in talk.ideal:
            assert graded(single, answers[-1]).verdict == "pass", (talk.case_id, answers[-1])
