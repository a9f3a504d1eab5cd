"""Two runs over the cases that both have: what is shared is paired, what is not is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import Unsupported
from .summary import CaseRecord


def compare(
    records: Sequence[CaseRecord],
    manifest: Mapping[str, Any],
    other_records: Sequence[CaseRecord],
    other_manifest: Mapping[str, Any],
    *,
    weights: Mapping[str, float] | None = None,
) -> Any:
    """First minus second, a suite and in all; printable, `to_dict()`, `_repr_html_`."""
    raise Unsupported("compare: to come")
