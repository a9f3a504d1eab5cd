"""Graders on anything that may be written: no exception, a score from 0 to 1, in time, and always
the same. RANDOM_OUTPUTS sets how many outputs each grader gets; a release has 10,000.
"""

from __future__ import annotations

import importlib
import itertools
import json
import locale
import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cabochon.evaluation.cases import read_case
from cabochon.evaluation.graders.matchers import LONGEST
from cabochon.evaluation.grading import _MODULES, find_grader, written
from cabochon.evaluation.suites import shipped

OUTPUTS = int(os.environ.get("RANDOM_OUTPUTS", "200"))
LIMIT_S = 0.05
VERDICTS = {"pass", "partial", "fail", "unparsed", "refused", "not_executed"}
CASES = {}  # by grader: some of each, of several families
for _name in shipped.suite_names():
    for _case in shipped.shipped(_name)[:24]:
        CASES.setdefault(_case.grader, []).append(_case)
# Graders of presets, whose cases come from files of the user. What is expected, what is right.
_OF_PRESETS = {
    "number": ({"number": "72"}, "So it is\nAnswer: 72"),
    "letter": ({"letter": "C", "letters": "ABCD"}, "I think\nAnswer: C"),
    "choice": ({"choices": ["red", "blue"], "answer": 1, "rule": "sum"}, "blue"),
    "needles": ({"prefix": "maple", "values": ["7Q4Z", "K9P2"]}, "maple 7Q4Z, K9P2"),
}
for _name, (_expected, _right) in _OF_PRESETS.items():
    _fields = {
        **next(iter(CASES.values()))[0].to_dict(),
        "case_id": _name,
        "grader": _name,
        "expected": _expected,
        "ideal": [_right],
        "wrong": [["", "no_answer"], ["x", "no_answer"]],
    }
    CASES[_name] = [read_case(_fields, where=_name)]

ANY_TEXT = st.text(st.characters(), max_size=40)  # lone surrogates too
NOISE = (
    *(
        "a",
        " ",
        "\n",
        "{",
        "[",
        '"',
        "\\",
        "1",
        ",",
        "`",
        "```json\n",
        "\u0661",
        "\ufdfa",
        "\ud800",
    ),
    *(
        '{"a":',
        "[1] ",
        "not in context ",
        "A. ",
        "12:30 ",
        "1,000.5% ",
        "Ab ",
        "{}",
        "[],",
        "- x\n",
    ),
    *("call:f{", "NaN,", '["a","b"],', "\u0130", "\u4e00", "a.b@c.example ", "x=1;", "def f():\n "),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)


def mutated(text: str, cuts: tuple[int, int, int], kind: str, inserted: str) -> str:
    """An output that was right, and is not any more, or hardly."""
    a, b = sorted(cut % (len(text) + 1) for cut in cuts[:2])
    return {
        "cut": text[:a],
        "dropped": text[:a] + text[b:],
        "doubled": text[:b] + text[a:],
        "twice": text + "\n" + text,
        "inserted": text[:a] + inserted + text[a:],
        "replaced": text[:a] + inserted + text[b:],
        "fenced": f"```json\n{text}\n```",
        "told": f"Sure! {text} {inserted}",
        "upper": text.upper(),
        "digit": "".join(str(cuts[2] % 10) if c.isdigit() else c for c in text),
        "same": text,
    }[kind]


KINDS = ("cut", "dropped", "doubled", "twice", "inserted", "replaced", "fenced", "told", "upper")
KINDS += ("digit", "same")


@st.composite
def outputs(draw, cases):
    """A case and an output for it: a text, or as many as it has turns."""
    case = draw(st.sampled_from(cases))
    ideal = draw(st.sampled_from([*case.ideal, *(output for output, _ in case.wrong)]))
    turns = [ideal] if isinstance(ideal, str) else list(ideal)
    index = draw(st.integers(0, len(turns) - 1))
    source = draw(st.sampled_from(["mutated"] * 6 + ["json", "json", "text", "noise", "call"]))
    if source == "mutated":
        cuts = draw(st.tuples(*[st.integers(0, 2000)] * 3))
        turns[index] = mutated(turns[index], cuts, draw(st.sampled_from(KINDS)), draw(ANY_TEXT))
    elif source == "json":
        turns[index] = json.dumps(draw(JSON), ensure_ascii=draw(st.booleans()))
    elif source == "call":
        name = case.tools[0]["function"]["name"] if case.tools else "f"
        arguments = json.dumps(draw(JSON), ensure_ascii=False)
        turns[index] = f"<|tool_call>call:{name}{{a:{arguments}}}<tool_call|>"
    elif source == "noise":
        turns[index] = draw(st.sampled_from(NOISE)) * draw(st.integers(1, 400))
    else:
        turns[index] = draw(ANY_TEXT)
    return case, (turns[0] if isinstance(ideal, str) else turns)


def checked(case, output):
    """The verdict on an output, which is one, in time, the same again."""
    function = find_grader(case.grader)
    begin = time.thread_time()
    verdict = function(case, output)
    took = time.thread_time() - begin
    again = time.thread_time()
    second = function(case, output)
    took = min(took, time.thread_time() - again)

    assert took < LIMIT_S, f"{case.case_id}: {took:.3f} s for {len(output.text):,} characters"
    assert verdict.verdict in VERDICTS
    assert verdict.score is None if verdict.verdict == "not_executed" else 0 <= verdict.score <= 1
    assert (verdict.verdict == "pass") == (verdict.score == 1)
    assert (verdict.reason == "") == (verdict.verdict == "pass")
    line = json.dumps(verdict.to_dict(), allow_nan=False, sort_keys=True)
    assert line == json.dumps(second.to_dict(), allow_nan=False, sort_keys=True)
    return line


def test_every_grader_that_there_is_has_cases_here():
    there = {name for name, module in _MODULES.items() if _exists(module)}

    # Expressions are compared by a package of others, in test_presets.py.
    assert there - {"expression"} == set(CASES)


def _exists(module: str) -> bool:
    name = f"cabochon.evaluation.graders.{module}"
    return importlib.util.find_spec(name) is not None


@pytest.mark.parametrize("name", sorted(CASES))
def test_anything_gets_a_verdict_and_always_the_same(name):
    seen = set()

    @settings(
        max_examples=OUTPUTS,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(outputs(CASES[name]))
    def check(drawn):
        case, text = drawn
        line = checked(case, written(text))
        seen.add(json.loads(line)["verdict"])

    check()

    # Mutations that change nothing, and others; functions are not run here.
    assert {"not_executed" if name == "tests" else "pass"} < seen


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_megabyte_of_anything_gets_a_verdict_in_time(name):
    case = CASES[name][0]
    # And just under what graders read at all, where they have most to do.
    for unit, size in itertools.product(NOISE, (LONGEST - 20, 2**20)):
        noise = unit * (size // len(unit))
        ideal = case.ideal[0]
        output = written(noise if isinstance(ideal, str) else [*ideal[:-1], noise])
        assert '"pass"' not in checked(case, output), (unit, size)


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_verdict_is_the_same_under_another_locale(name):
    before = locale.setlocale(locale.LC_ALL)
    drawn = [
        (case, text) for case in CASES[name] for text in (*case.ideal, *(o for o, _ in case.wrong))
    ]
    here = [checked(case, written(text)) for case, text in drawn]
    other = next(filter(_is_there, ("tr_TR.UTF-8", "de_DE.UTF-8", "C.UTF-8", "C")))
    try:
        locale.setlocale(locale.LC_ALL, other)
        there = [checked(case, written(text)) for case, text in drawn]
    finally:
        locale.setlocale(locale.LC_ALL, before)

    assert locale.setlocale(locale.LC_ALL) != other
    assert here == there


def _is_there(name: str) -> bool:
    before = locale.setlocale(locale.LC_ALL)
    try:
        return locale.setlocale(locale.LC_ALL, name) != before
    except locale.Error:
        return False
    finally:
        locale.setlocale(locale.LC_ALL, before)
