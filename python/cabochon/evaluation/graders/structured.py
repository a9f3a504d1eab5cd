"""Grader `json`: strict JSON, valid against the schema, with the right values."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...chat.schemas import Schema
from ..cases import Case, canonical
from ..grading import Output, Verdict, failed, grader, passed, unparsed
from .matchers import ABSENT, LONGEST, NotJson, lenient_json, matches, strict_json

_PARSED, _VALID, _VALUES = 0.2, 0.3, 0.5


@grader("json")
def grade(case: Case, output: Output) -> Verdict:
    """0.2 for an answer that is JSON as a whole, 0.3 for one that is valid against `schema`, 0.5
    times the share of `expected["values"]`, a list of [path, pattern], that are right.

    A path is a list of keys and indices; matchers.py says what a pattern takes.

    Reasons: "too_long", "too_deep", "duplicate_key", "not_json"; "fenced" and "text_around", which
    the lenient reading takes; "schema_echoed", "invalid", "wrong_value".
    """
    text = output.text
    if len(text) > LONGEST:
        return unparsed("too_long")
    if not text.strip():
        return unparsed("no_answer")
    try:
        value = strict_json(text)
    except NotJson as reason:
        return _not_json(str(reason), case, text)
    schema = case.schema or {}
    error = _compiled(canonical(schema)).error(value)
    wanted: Sequence[Any] = case.expected["values"]
    wrong = [p for p, pattern in wanted if not matches(pattern, _at(value, p), case.language)]
    right = 1 - len(wrong) / len(wanted)
    parts = {"valid": error is None, "values": right, "wrong": wrong[:10], "error": error}
    if error is None and not wrong:
        return passed(value, extracted_lenient=value, parts=parts)
    score = _PARSED + _VALID * (error is None) + _VALUES * right
    code = "invalid" if error else "wrong_value"
    if isinstance(value, Mapping) and {"properties", "type"} <= value.keys():
        code = "schema_echoed"
    return failed(code, value, score=score, extracted_lenient=value, parts=parts)


def _not_json(reason: str, case: Case, text: str) -> Verdict:
    """The verdict on what the strict reading does not take."""
    value = lenient_json(text)
    if not isinstance(value, dict):
        return unparsed(reason)
    is_valid = _compiled(canonical(case.schema or {})).error(value) is None
    form = "fenced" if "```" in text else "text_around"
    return unparsed(form, extracted_lenient=value, near_miss=is_valid)


@functools.lru_cache(maxsize=256)
def _compiled(schema: str) -> Schema:
    return Schema(json.loads(schema), "schema")


def _at(value: Any, path: Sequence[str | int]) -> Any:
    """What stands at a path, ABSENT where nothing does."""
    for step in path:
        is_there = (
            step in value
            if isinstance(value, dict)
            else isinstance(value, list) and isinstance(step, int) and step < len(value)
        )
        if not is_there:
            return ABSENT
        value = value[step]
    return value
