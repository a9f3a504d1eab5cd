"""Grader `tests`: a function that a model wrote, called in a sandbox and judged outside of it.

Grading is pure and runs nothing: without results the verdict is `not_executed`. Who may run code
(`run_code=True`) has three steps, or `run`, which is all of them:

    sandbox = find_sandbox()           # None: no way in works here, every case is not_executed
    results = sandbox.run(source(case, text), function, calls(case))    # not pure, up to 15 s
    verdict = judge(case, results)     # pure again
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..cases import Case
from ..grading import NOT_EXECUTED, Output, Verdict, failed, grader, passed, unparsed
from ..sandbox import Results, Sandbox
from .matchers import LONGEST, is_equal, matches


@grader("tests")
def grade(case: Case, output: Output) -> Verdict:
    """`not_executed`, or `unparsed` where no function is that could run.

    `expected`: "function", its name; "tests", a list of [arguments, pattern of the value];
    matchers.py says what a pattern takes.

    Reasons: "not_run"; "too_long", "no_function".
    """
    if len(output.text) > LONGEST:
        return unparsed("too_long")
    if (found := source(case, output.text)) is None:
        return unparsed("no_function")
    return Verdict(score=None, verdict=NOT_EXECUTED, reason="not_run", extracted=found)


def run(case: Case, output: Output, sandbox: Sandbox | None) -> Verdict:
    """The verdict of `grade` where there is no function or no sandbox, else that of a run.

    Reasons besides those of `grade`: "no_sandbox", and those of `judge`.
    """
    verdict = grade(case, output)
    if verdict.verdict != NOT_EXECUTED:
        return verdict
    if sandbox is None:
        return Verdict(
            score=None, verdict=NOT_EXECUTED, reason="no_sandbox", extracted=verdict.extracted
        )
    results = sandbox.run(verdict.extracted, case.expected["function"], calls(case))
    return judge(case, results, verdict.extracted)


def judge(case: Case, results: Results, extracted: str | None = None) -> Verdict:
    """1 where all tests pass, else 0; `parts` has how many did. Arguments must be as they were.

    Reasons, that of the first test that fails: "not_python" (no syntax, or an exception before the
    function was there), "wrong_value", "mutated_input", "not_json", "raised"; and where its result
    never came "timed_out", "exited", "too_much_output".
    """
    tests: Sequence[Any] = case.expected["tests"]
    if results.load_error is not None:
        reason = "not_python"
        return failed(reason, extracted, parts={"passed": 0, "tests": len(tests)})
    reasons = [
        _wrong(pattern, arguments, call, results.ended)
        for (arguments, pattern), call in zip(tests, results.calls, strict=True)
    ]
    wrong = [reason for reason in reasons if reason]
    parts = {"passed": len(reasons) - len(wrong), "tests": len(reasons)}
    return failed(wrong[0], extracted, parts=parts) if wrong else passed(extracted, parts=parts)


def calls(case: Case) -> list[list[Any]]:
    """The arguments of each test; the values never go where the code is."""
    return [list(arguments) for arguments, _ in case.expected["tests"]]


def source(case: Case, text: str) -> str | None:
    """The last fenced block that defines the function, else the whole answer where it does."""
    name = re.escape(case.expected["function"])
    defines = re.compile(rf"^(?:def[ \t]+{name}[ \t]*\(|{name}[ \t]*=)", re.MULTILINE)
    blocks = [block for block in _blocks(text) if defines.search(block)]
    if blocks:
        return blocks[-1]
    return text if "```" not in text and defines.search(text) else None


def _blocks(text: str) -> list[str]:
    """What stands between fences; one that names a language opens a block."""
    blocks: list[str] = []
    lines: list[str] | None = None
    for line in text.split("\n"):
        if not line.lstrip().startswith("```"):
            if lines is not None:
                lines.append(line)
            continue
        if lines is not None:
            blocks.append("\n".join(lines) + "\n")
        lines = None if lines is not None and line.strip() == "```" else []
    return blocks


def _wrong(pattern: Any, given: Any, call: Mapping[str, Any] | None, ended: str) -> str:
    """Why a test does not pass, "" where it does."""
    if call is None:
        return ended if ended != "done" else "exited"
    if "error" in call or "value" not in call:
        return "not_json" if call.get("error") == "not_json" else "raised"
    if not matches(pattern, call["value"]):
        return "wrong_value"
    return "" if is_equal(call.get("arguments"), given) else "mutated_input"
