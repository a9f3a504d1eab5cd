"""What is probably wrong with a run, worst first; and the cases that failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import Unsupported
from .cases import Case
from .summary import CaseRecord


def diagnose(records: Sequence[CaseRecord], manifest: Mapping[str, Any]) -> Any:
    """Findings, worst first: a sequence that prints as a table and has `_repr_html_`."""
    raise Unsupported("diagnose: to come")


def failures(
    records: Sequence[CaseRecord],
    suite: str | None = None,
    *,
    cases: Mapping[str, Case] | None = None,
) -> Any:
    """Answers under full score: prompt, output, expected, extracted, reason, near miss, replay.

    Args:
        cases: by case_id, for the prompts; None: records hold only a prompt's hash.
    """
    raise Unsupported("failures: to come")
