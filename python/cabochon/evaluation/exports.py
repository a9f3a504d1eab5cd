"""Records in the forms of others: lm-eval's results and samples, CSV, a frame, Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import Unsupported
from .summary import CaseRecord


def to_lm_eval(
    path: str | Path, records: Sequence[CaseRecord], manifest: Mapping[str, Any]
) -> list[Path]:
    """A folder as lm-eval writes it: results_*.json and samples_*.jsonl; returns the files."""
    raise Unsupported("to_lm_eval: to come")


def to_csv(path: str | Path, records: Sequence[CaseRecord]) -> None:
    """One line a record, columns in the record's order, values that are no scalars as JSON."""
    raise Unsupported("to_csv: to come")


def frame(records: Sequence[CaseRecord]) -> Any:
    """A pandas DataFrame, a row a record; `.to_parquet(path)` works.

    Raises:
        MissingExtra: pandas is not installed.
    """
    raise Unsupported("frame: to come")


def to_markdown(records: Sequence[CaseRecord], manifest: Mapping[str, Any]) -> str:
    """The table of a model card."""
    raise Unsupported("to_markdown: to come")
