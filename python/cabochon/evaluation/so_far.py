"""The line behind the bar of a run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from .grading import TRUNCATED
from .recipes import PROMPTING
from .statistics import wilson


class SoFar:
    """The line behind the bar: the score of what is finished, with its interval."""

    def __init__(self, records: Iterable[Mapping[str, Any]]) -> None:
        self._began = time.monotonic()
        self._total, self._scored, self._truncated, self._tokens = 0.0, 0, 0, 0
        for record in records:
            self.add(record)
        self._tokens = 0  # those of this sitting are counted

    def add(self, record: Mapping[str, Any]) -> None:
        """One more answer."""
        if record["prompting"] in PROMPTING and record["score"] is not None:
            self._total += record["score"]
            self._scored += 1
            self._truncated += record["verdict"] == TRUNCATED
        self._tokens += (record["thinking_tokens"] or 0) + (record["answer_tokens"] or 0)

    def __str__(self) -> str:
        if not self._scored:
            return ""
        mean = self._total / self._scored
        low, high = wilson(mean, self._scored)
        elapsed = time.monotonic() - self._began
        rate = self._tokens / elapsed if elapsed > 0 else 0.0
        return (
            f"so far {100 * mean:.0f} % ({100 * low:.0f} to {100 * high:.0f}), "
            f"{self._truncated} cut, {rate:.0f} tokens/s"
        )
