"""Patterns of expected values, JSON of an answer, phrases: what graders are made of."""

from __future__ import annotations

import math

import pytest

from cabochon.evaluation.graders.matchers import (
    ABSENT,
    NotJson,
    find_phrase,
    has_phrase,
    lenient_json,
    matches,
    strict_json,
)


@pytest.mark.parametrize(
    ("pattern", "takes", "refuses"),
    [
        (3, [3, 3.0], ["3", True, 4, None, ABSENT, [3]]),
        (True, [True], [1, "true", "True"]),
        ("Main St", ["Main St"], ["main st", "Main St."]),
        ({"$exact": {"$number": 1}}, [{"$number": 1}], [1]),
        ({"$number": 0.1}, [0.1, 0.1 + 1e-12], ["0.1", 0.11, True, math.nan, 10**400, math.inf]),
        ({"$number": 10**400}, [], [1.0]),
        ({"$text": "Main St"}, ["main  ST.", "\uff2dain St"], ["Main Str", 3, None, "x" * 10**6]),
        ({"$text": ["noon", "midday"]}, ["Noon", "midday."], ["night"]),
        (
            {"$date": "2031-04-05"},
            ["2031-04-05", "2031/04/05", "2031-04-05T00:00:00Z"],
            ["2031-05-04", "5 April 2031", 20310405],
        ),
        ({"$set": [1, 2, 2]}, [[2, 1, 2]], [[1, 2], [1, 1, 2], "122", {"1": 2}]),
        # A greedy choice would give 1 to the first pattern and leave none for the second.
        ({"$set": [{"$one_of": [1, 2]}, 1]}, [[1, 2], [2, 1]], [[2, 2]]),
        ({"$absent": True}, [ABSENT, None], ["", 0, False]),
        ({"$one_of": [{"$absent": True}, 4]}, [ABSENT, 4], [5]),
        ({"a": 1, "b": {"$absent": True}}, [{"a": 1}, {"b": None, "a": 1}], [{"b": 2}, {}]),
        ({"a": {"b": [1, {"$number": 2}]}}, [{"a": {"b": [1, 2.0]}}], [{"a": {"b": [2, 1]}}]),
        ({"a": 1}, [{"a": 1}], [{"a": 1, "extra": 2}, "a", [["a", 1]], {"a": {"a": 1}}]),
    ],
)  # fmt: skip
def test_a_pattern_takes_what_it_says_and_nothing_else(pattern, takes, refuses):
    assert [value for value in takes if not matches(pattern, value)] == []
    assert [value for value in refuses if matches(pattern, value)] == []


def test_a_matcher_that_there_is_not_is_an_error_of_the_case():
    with pytest.raises(ValueError, match=r"matcher '\$almost' is not known"):
        matches({"$almost": 3}, 3)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"a": 1, "a": 2}', "duplicate_key"),
        ("NaN", "not_json"),
        ("[1e999]", "not_json"),
        ("```json\n{}\n```", "not_json"),
        ('{"a": 1,}', "not_json"),
        ("1" * 5000, "not_json"),
        ("[" * 90 + "]" * 90, "too_deep"),
        ("[" * 19_000, "too_deep"),
        (" " * 20_001, "too_long"),
    ],
)
def test_what_is_not_strictly_json_is_refused_with_its_reason(text, code):
    with pytest.raises(NotJson) as raised:
        strict_json(text)

    assert raised.value.args == (code,)


def test_json_in_a_fence_or_a_sentence_is_found_leniently_alone():
    assert lenient_json('Sure:\n```json\n{"a": 1}\n```\nDone.') == {"a": 1}
    assert lenient_json('The answer is {"a": {"b": 2}}.') == {"a": {"b": 2}}
    assert lenient_json("[1, 2] is it") == [1, 2]
    assert lenient_json("no { json ] here") is None


@pytest.mark.parametrize(
    ("phrase", "text", "is_there"),
    [
        ("45", "it costs 45.", True),
        ("45", "it costs 145", False),
        ("45", "it costs 45,000", False),
        ("45", "it costs 4.45", False),
        ("45", "45, then 46", True),
        ("45", "45kg", True),
        ("bill", "billing", False),
        ("", "anything", False),
        ("fee", "coffee, fee", True),
    ],
)
def test_a_phrase_is_found_as_words_of_its_own(phrase, text, is_there):
    assert has_phrase(phrase, text) is is_there


def test_every_place_of_a_phrase_is_found():
    assert find_phrase("a", "a b a") == [0, 4]
