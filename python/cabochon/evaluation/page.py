"""A report as one HTML file: no script, no network, everything that a model wrote escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import Unsupported
from .summary import CaseRecord

Run = tuple[str, Sequence[CaseRecord], Mapping[str, Any]]  # name, records, manifest


def write_page(
    path: str | Path,
    records: Sequence[CaseRecord],
    manifest: Mapping[str, Any],
    *,
    others: Sequence[Run] = (),
    published: bool = False,
) -> None:
    """Writes the page.

    Args:
        others: further runs in the plots of accuracy against memory and seconds.
        published: figures of others over other cases stand beside ours.
    """
    raise Unsupported("report: to come")
