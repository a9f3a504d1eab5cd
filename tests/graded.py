"""Cases for tests of graders."""

from __future__ import annotations

from typing import Any

from cabochon.evaluation.cases import Case
from cabochon.evaluation.grading import Verdict, grade, written


def case(grader: str, expected: dict[str, Any], *, language: str = "en", **more: Any) -> Case:
    """A case of which only what its grader looks at matters."""
    return Case(
        case_id="x", version=1, suite="x", family="x", tier="easy", language=language,
        cluster_id="x", seed=0, messages=({"role": "user", "content": "?"},), max_tokens=9,
        grader=grader, expected=expected, ideal=(), wrong=(), **more,
    )  # fmt: skip


def graded(given: Case, output: Any) -> Verdict:
    """The verdict on what a model wrote: a text, or one a turn."""
    return grade(given, written(output))
