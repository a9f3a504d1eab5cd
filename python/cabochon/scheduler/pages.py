"""Who holds which page. Python owns page numbers; the engine owns the bytes behind them.

A page may have several holders: sequences and pasts (past.py). One with two is never written to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class PageCopy:
    """Pages `to_pages` become what `from_pages` are, before anything is computed."""

    kind: str  # "global" or "sliding"
    from_pages: Ints
    to_pages: Ints


class PagePool:
    """Pages 0 to count - 1, each with any number of holders."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = list(range(count - 1, -1, -1))
        self._holders = [0] * count

    @property
    def free_count(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    def can_allocate(self, count: int) -> bool:
        """Whether that many are free."""
        return count <= len(self._free)

    def allocate(self, count: int) -> Ints:
        """Page numbers [count] that nobody else holds."""
        assert self.can_allocate(count), f"{count} pages asked for, {len(self._free)} are free"
        pages = [self._free.pop() for _ in range(count)]
        for page in pages:
            self._holders[page] = 1
        return np.asarray(pages, np.int32)

    def holders(self, page: int) -> int:
        """How many hold it."""
        return self._holders[page]

    def hold(self, pages: Ints) -> None:
        """One holder more, for pages that somebody holds."""
        for page in pages.tolist():
            assert self._holders[page], f"page {page} is shared, but nobody holds it"
            self._holders[page] += 1

    def free(self, pages: Ints) -> None:
        """One holder less; without any the page is free."""
        for page in pages.tolist():
            assert self._holders[page], f"page {page} is freed, but nobody holds it"
            self._holders[page] -= 1
            if self._holders[page] == 0:
                self._free.append(page)
