"""Who holds which page. Python owns page numbers; the engine owns the bytes behind them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]


class PagePool:
    """Pages 0 to count - 1, each held by one sequence or by nobody."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = list(range(count - 1, -1, -1))
        self._held = bytearray(count)

    @property
    def free_count(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    def can_allocate(self, count: int) -> bool:
        """Whether that many are free."""
        return count <= len(self._free)

    def allocate(self, count: int) -> Ints:
        """Page numbers [count] that nobody else holds until they are freed."""
        assert self.can_allocate(count), f"{count} pages asked for, {len(self._free)} are free"
        pages = [self._free.pop() for _ in range(count)]
        for page in pages:
            self._held[page] = 1
        return np.asarray(pages, np.int32)

    def free(self, pages: Ints) -> None:
        """Gives back what `allocate` handed out."""
        for page in pages.tolist():
            assert self._held[page], f"page {page} is freed, but nobody holds it"
            self._held[page] = 0
            self._free.append(page)
