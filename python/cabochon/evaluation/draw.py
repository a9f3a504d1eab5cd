"""Choices of a generator of cases: the same for ever, on every Python.

`random` promises equal numbers across versions for `random()` alone, so shuffles and choices come
from SHA-256 of a counter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """A stream of choices that its name decides: `Draw("tools", seed, index)`."""

    def __init__(self, *name: str | int) -> None:
        self._name = "/".join(map(str, name)).encode()
        self._count = 0

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        self._count += 1
        block = hashlib.sha256(self._name + b"#%d" % self._count).digest()
        # 128 bits against a small range: the bias is under 2^-100.
        return low + int.from_bytes(block[:16], "little") % (high - low + 1)

    def chance(self, share: float) -> bool:
        """True in that share of cases, to one in a million."""
        return self.integer(0, 999_999) < share * 1_000_000

    def choice(self, items: Sequence[T]) -> T:
        """One of them."""
        return items[self.integer(0, len(items) - 1)]

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """So many different ones, in random order."""
        left = list(items)
        return [left.pop(self.integer(0, len(left) - 1)) for _ in range(count)]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """All of them in random order."""
        return self.sample(items, len(items))
