"""Who holds which page. Python owns page numbers; the engine owns the bytes behind them.

A page may have several holders: sequences, which need it, and pasts (past.py), which give way. One
with two holders is never written to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]
NO_PAGES: Ints = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Shape:
    """How positions are laid into pages."""

    page_positions: int
    ring_pages: int  # of one sequence at most, 0 where no layer slides
    window: int  # keys that the widest sliding layer sees, 0 where none slides

    def first_seen(self, position: int) -> int:
        """The first page that the token at `position` can see in a ring."""
        return max(0, position - self.window + 1) // self.page_positions

    def end(self, position: int) -> int:
        """Pages that hold all positions below `position`."""
        return -(-position // self.page_positions)

    def slots(self, first: int, end: int) -> Ints:
        """Where pages first to end - 1 stand in a ring."""
        slots: Ints = np.arange(first, end, dtype=np.int32) % max(1, self.ring_pages)
        return slots


@dataclass(frozen=True, slots=True, eq=False)
class PageCopy:
    """Page `to_page` becomes what `from_page` is, before anything is computed."""

    kind: str  # "global" or "sliding"
    from_page: int
    to_page: int


class PagePool:
    """Pages 0 to count - 1, each with any number of holders."""

    def __init__(self, kind: str, count: int) -> None:
        self.kind, self.count = kind, count
        self._free = list(range(count - 1, -1, -1))
        self._holders = [0] * count
        self._users = [0] * count  # of the holders, sequences
        self._used = 0  # pages that a sequence holds

    @property
    def free_count(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    @property
    def available(self) -> int:
        """Pages that no sequence holds: free, or held by pasts alone."""
        return self.count - self._used

    def allocate(self, count: int) -> Ints:
        """Page numbers [count] that nobody else holds, for a sequence."""
        assert count <= len(self._free), f"{count} pages asked for, {len(self._free)} are free"
        pages = [self._free.pop() for _ in range(count)]
        for page in pages:
            self._holders[page] = self._users[page] = 1
        self._used += count
        return np.asarray(pages, np.int32)

    def is_shared(self, page: int) -> bool:
        """Whether more than one hold it."""
        return self._holders[page] > 1

    def hold(self, pages: Ints, *, is_past: bool) -> None:
        """One holder more, for pages that somebody holds."""
        for page in pages.tolist():
            assert self._holders[page], f"page {page} is shared, but nobody holds it"
            self._holders[page] += 1
            if not is_past:
                self._used += self._users[page] == 0
                self._users[page] += 1

    def free(self, pages: Ints, *, is_past: bool) -> None:
        """One holder less; without any the page is free."""
        for page in pages.tolist():
            assert self._holders[page], f"page {page} is freed, but nobody holds it"
            self._holders[page] -= 1
            if not is_past:
                assert self._users[page], f"page {page} is freed, but no sequence holds it"
                self._users[page] -= 1
                self._used -= self._users[page] == 0
            if self._holders[page] == 0:
                self._free.append(page)
