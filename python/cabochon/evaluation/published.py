"""Figures that others published, to stand beside ours: other cases, other graders.

In per cent; None where nothing was published. Nothing here is compared with anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..types import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(Record):
    """One published table."""

    title: str
    source: str
    recipe: str
    caution: str  # why its figures are no target
    head: tuple[str, ...]
    rows: tuple[tuple[str | float | None, ...], ...]

    def cells(self) -> list[Sequence[str]]:
        """As text; figures as they were published."""
        return [["" if cell is None else str(cell) for cell in row] for row in self.rows]


TABLES = (
    Table(
        title="Ten enterprise suites at temperature 0",
        source="AI Explr, April 2026",
        recipe="about 120 cases in all, Transformers on an Apple GPU; cases and graders are not "
        "published",
        caution="10 to 15 cases a suite: 7 of 10 has the interval 40 to 89 %. The 83.6 of E4B "
        "leaves out its suite at 0 %; with it the mean is 73.2",
        head=("suite", "Gemma 2 2B", "Gemma 3 4B", "Gemma 4 E2B", "Gemma 4 E4B", "Gemma 3 12B"),
        rows=(
            ("tools", 70, None, 80, None, None),
            ("extraction", None, None, 80.2, None, 80.2),
            ("classification", None, 92.9, 92.9, None, 92.9),
            ("rag", 33.3, None, 50, None, None),
            ("multilingual", None, None, 83.3, None, None),
            ("multi_turn", 40, 60, 70, 0, None),
            ("safety", None, None, 93.3, None, None),
            ("structured (parse)", None, None, None, 100, None),
            ("structured (schema)", None, None, None, 90, None),
            ("overall as published", 77.6, 80.8, 80.4, 83.6, 82.3),
        ),
    ),
    Table(
        title="Weighted accuracy over ARC, GSM8K, MATH and TruthfulQA",
        source="Manik and Wang, arXiv 2604.07035, v1 and v2",
        recipe="greedy, bf16, batch 1, thinking off, one H100; weights 0.2, 0.4, 0.3, 0.1",
        caution='golds in one position, answers cut at the limit and the article "a" read as an '
        "answer move these figures; GiB are the weights after loading, not a peak",
        head=(
            *("configuration", "v1, n = 100", "v2, n = 238", "500/238"),
            *("latency s", "tok/s", "GiB"),
        ),
        rows=(
            ("E4B few-shot CoT", 67.5, 76.1, 75.4, 3.7, 26, 14.894),
            ("E4B CoT", 46.7, 75.9, 75.2, 4.7, 26, 14.894),
            ("E4B zero-shot", 50.9, 75.8, 75.2, 4.4, 26, 14.894),
            ("26B-A4B zero-shot", 48.7, 79.4, 78.4, 7.3, 20, 48.067),
            ("26B-A4B CoT", 45.7, 75.6, 74.1, 8.7, 20, 48.067),
            ("26B-A4B few-shot CoT", 66.3, 71.0, 70.9, 10.6, 20, 48.067),
            ("E2B few-shot CoT", 49.3, 68.8, 69.2, 6.0, 32, 9.543),
            ("E2B zero-shot", 40.1, 67.1, 66.2, 5.1, 32, 9.543),
            ("E2B CoT", 36.7, 65.8, 64.6, 4.4, 32, 9.543),
        ),
    ),
)
