"""What a sequence leaves behind: token ids and the pages of their keys, from which another begins.

Global pages hold all positions, so they serve any common beginning. A ring holds the last ones
alone: it serves from the places that it still reaches back to, and a copy of it from the end of a
prompt serves where the answer departs. Pasts are found by their owner, a chat; finding them by
their ids, across requests, would need an index over them and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Shape:
    """How positions are laid into pages."""

    page_positions: int
    ring_pages: int  # of one sequence, 0 where no layer slides
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
class Ring:
    """The sliding pages of a sequence as they were at one position."""

    position: int  # all before it that its window can see is there
    first: int  # page from which on they are whole, up to that of position - 1
    pages: Ints  # [ring_pages], -1 where a page is not kept

    @property
    def held(self) -> Ints:
        """The pages that it holds."""
        return self.pages[self.pages >= 0]

    def reaches(self, position: int, shape: Shape) -> bool:
        """Whether a token at `position` finds in it all that it can see."""
        return position <= self.position and shape.first_seen(position) >= self.first


class Past:
    """Ids whose keys and values are in pages. Changed by the scheduler alone."""

    def __init__(self, ids: Ints, global_pages: Ints, rings: tuple[Ring, ...]) -> None:
        """rings: ascending by position; the last is whole, at the end of `ids`."""
        self.ids = ids
        self.global_pages, self.rings = global_pages, rings
        self.holders = 1  # conversations that may go on from it
        self.is_dropped = False

    def common(self, prompt: Ints) -> int:
        """Ids at the beginning of `prompt` that are the same; one is left to be computed."""
        most = min(self.ids.size, prompt.size - 1)
        differs = self.ids[:most] != prompt[:most]
        return int(differs.argmax()) if differs.any() else most

    def start(self, prompt: Ints, shape: Shape) -> tuple[int, Ring | None]:
        """Where computing `prompt` can begin, and the ring that it goes on with; 0: nowhere."""
        common = 0 if self.is_dropped else self.common(prompt)
        if shape.ring_pages == 0 or common == 0:
            return common, None
        for ring in reversed(self.rings):
            position = min(common, ring.position)
            if ring.reaches(position, shape):
                return position, ring
        return 0, None


@dataclass(frozen=True, slots=True, eq=False)
class KeptBytes:
    """A past as bytes: what a saved conversation holds of it."""

    ids: Ints
    global_pages: npt.NDArray[np.uint8]  # [pages, bytes of a page]
    first: int  # the page that the first of sliding_pages is
    sliding_pages: npt.NDArray[np.uint8]  # [pages, bytes of a page]
