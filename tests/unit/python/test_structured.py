"""Grader `json`: 0.2 for JSON, 0.3 for the schema, 0.5 for values."""

from __future__ import annotations

import pytest

from graded import case, graded

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "tags": {"type": "array"}, "n": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}
CASE = case(
    "json",
    {"values": [[["name"], {"$text": "Ines"}], [["tags", 0], "a"], [["n"], 3],
                [["note"], {"$absent": True}]]},
    schema=SCHEMA,
)  # fmt: skip
RIGHT = '{"name": "ines", "tags": ["a"], "n": 3}'


@pytest.mark.parametrize(
    ("text", "verdict", "reason", "score"),
    [
        (RIGHT, "pass", "", 1.0),
        (f"\n {RIGHT}\n", "pass", "", 1.0),
        ('{"name": "Ines", "tags": [], "n": 3}', "partial", "wrong_value", 0.5 + 0.5 * 3 / 4),
        ('{"name": "Ines", "tags": ["a"], "n": "3"}', "partial", "invalid", 0.2 + 0.5 * 3 / 4),
        (
            '{"name": "Ines", "tags": ["a"], "n": 3, "x": 1}',
            "partial",
            "invalid",
            pytest.approx(0.7),
        ),
        ("[]", "partial", "invalid", 0.2 + 0.5 / 4),
        (f"```json\n{RIGHT}\n```", "unparsed", "fenced", 0.0),
        (f"Here it is: {RIGHT}", "unparsed", "text_around", 0.0),
        ('{"name": "Ines",}', "unparsed", "not_json", 0.0),
        ("{'name': 'Ines'}", "unparsed", "not_json", 0.0),
        ('{"name": NaN}', "unparsed", "not_json", 0.0),
        ('{"name": "a", "name": "b"}', "unparsed", "duplicate_key", 0.0),
        ("", "unparsed", "no_answer", 0.0),
        ('{"name": "' + "x" * 100_000 + '"}', "unparsed", "too_long", 0.0),
        ("[" * 5000 + "]" * 5000, "unparsed", "too_deep", 0.0),
    ],
)
def test_a_score_has_three_parts(text, verdict, reason, score):
    found = graded(CASE, text)

    assert (found.verdict, found.reason) == (verdict, reason)
    assert found.score == score


def test_the_schema_echoed_is_named():
    import json

    assert graded(CASE, json.dumps(SCHEMA)).reason == "schema_echoed"


def test_what_is_fenced_is_read_leniently_and_is_a_near_miss_where_it_is_valid():
    right, wrong = graded(CASE, f"```\n{RIGHT}\n```"), graded(CASE, '```\n{"x": 1}\n```')

    assert right.near_miss
    assert right.extracted_lenient["n"] == 3
    assert not wrong.near_miss
