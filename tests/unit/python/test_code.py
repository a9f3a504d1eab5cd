"""Grader `tests`: functions found in answers, and results judged outside of the sandbox."""

from __future__ import annotations

import pytest

from cabochon.evaluation.graders import code
from cabochon.evaluation.sandbox import Results, _read
from graded import case, graded

CASE = case("tests", {"function": "f", "tests": [[[1], 2], [[[3]], [3]]]})
RIGHT = ({"value": 2, "arguments": [1]}, {"value": [3], "arguments": [[3]]})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("```python\ndef f(x):\n    return x\n```", "def f(x):\n    return x\n"),
        ("def f(x):\n    return x", "def f(x):\n    return x"),
        ("f = lambda x: x", "f = lambda x: x"),
        ("```\ndef f(x): 1\n```\ntext\n```py\ndef f(x): 2\n```", "def f(x): 2\n"),
        ("```\ndef f(x): 1\n```\n```\nf(1)\n```", "def f(x): 1\n"),
        ("```\ndef g(x): 1\n```", None),
        ("```\ndef ff(x): 1\n```", None),
        ("```\ndef f(x): 1", None),  # not closed
        ("Use def f(x): return x", None),
        ("", None),
    ],
)
def test_the_last_closed_block_that_defines_the_function_is_taken(text, found):
    assert code.source(CASE, text) == found
    assert graded(CASE, text).verdict == ("unparsed" if found is None else "not_executed")


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"value": 3, "arguments": [1]}, "wrong_value"),
        ({"value": "2", "arguments": [1]}, "wrong_value"),
        ({"value": True, "arguments": [1]}, "wrong_value"),
        ({"value": None, "arguments": [1]}, "wrong_value"),
        ({"value": 2, "arguments": [7]}, "mutated_input"),
        ({"value": 2}, "mutated_input"),
        ({"error": "ValueError"}, "raised"),
        ({"error": "not_json"}, "not_json"),
        ({}, "raised"),
        (None, "exited"),
    ],
)
def test_one_test_that_fails_is_no_pass(call, reason):
    verdict = code.judge(CASE, Results(ended="exited", loaded=True, calls=(call, RIGHT[1])))

    assert (verdict.verdict, verdict.score, verdict.reason) == ("fail", 0.0, reason)
    assert verdict.parts == {"passed": 1, "tests": 2}


def test_true_is_not_one():
    ones = case("tests", {"function": "f", "tests": [[[1], 1]]})
    results = Results(ended="done", loaded=True, calls=({"value": True, "arguments": [1]},))

    assert code.judge(ones, results).reason == "wrong_value"


def test_right_values_pass():
    verdict = code.judge(CASE, Results(ended="done", loaded=True, calls=RIGHT))

    assert (verdict.verdict, verdict.score) == ("pass", 1.0)


@pytest.mark.parametrize("ended", ["timed_out", "too_much_output"])
def test_a_result_that_never_came_says_why(ended):
    assert code.judge(CASE, Results(ended=ended, calls=(None, None))).reason == ended


def test_code_that_does_not_load_is_no_python():
    results = Results(ended="done", load_error="SyntaxError", calls=(None, None))

    assert code.judge(CASE, results).reason == "not_python"


def test_of_two_results_for_one_call_the_first_counts_and_noise_is_left_out():
    lines = b"\n".join([
        b'{"loaded": true}', b"noise", b"[1]", b"{" * 100_000, b'{"call": 0, "value": 1}',
        b'{"call": 0, "value": 2}', b'{"call": 9, "value": 2}', b'{"call": -1, "value": 2}',
        b'{"call": "1", "value": 2}', b"\xff\xfe",
    ])  # fmt: skip

    results = _read(lines, 2, ended="closed", is_gone=True, took_s=0.0)

    assert results.loaded
    assert results.calls == ({"value": 1}, None)
    assert results.ended == "exited"
