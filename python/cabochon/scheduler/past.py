"""What is in the cache up to one position of some ids, from where other sequences begin.

Global pages hold all positions, and a ring the last ones: a past serves every sequence that begins
with its ids, or with so many of them that the ring still reaches back to where it departs.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .pages import Ints, Shape

_LOOKED_AT = 64  # pasts that are compared with one prompt at each page: the last ones


class Past:
    """Ids whose keys and values are in pages. Changed by the scheduler alone."""

    __slots__ = (
        "awaited", "first", "global_pages", "holders", "ids", "is_dropped", "lowest", "ring",
        "variant",
    )  # fmt: skip

    def __init__(
        self, ids: Ints, variant: Hashable, global_pages: Ints, first: int, ring: Ints, shape: Shape
    ) -> None:
        """ring: sliding pages `first` up to that of the last id; variant: Sequence's."""
        self.ids, self.variant, self.global_pages = ids, variant, global_pages
        self.first, self.ring = first, ring
        # The first position whose window is whole.
        self.lowest = first * shape.page_positions + shape.window - 1 if first > 0 else 1
        self.holders = 0  # conversations that may go on from it
        self.awaited = 0  # sequences that wait and begin from it
        self.is_dropped = False

    def start(self, prompt: Ints, variant: Hashable) -> int:
        """How much of `prompt` need not be computed; 0: nothing of it is here."""
        if variant != self.variant:
            return 0
        position = common(self.ids, prompt)
        return position if position >= self.lowest else 0


def common(one: Ints, other: Ints) -> int:
    """Ids at the beginning that are the same."""
    most = min(one.size, other.size)
    if most == 0:
        return 0
    differs = one[:most] != other[:most]
    first = int(differs.argmax())
    return first if differs[first] else most


class Pasts:
    """Pasts, found by ids, and the order in which they give way."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._pasts: dict[Past, None] = {}  # used longest ago first
        # By the hash of so many whole pages of ids: those from which a sequence can begin in the
        # next page. Ids are compared too, so a hash that two have in common does no harm.
        self._by_pages: dict[int, dict[Past, None]] = {}

    def __iter__(self) -> Iterator[Past]:
        return iter(self._pasts)

    def find(self, prompt: Ints, variant: Hashable) -> tuple[Past | None, int]:
        """The past with which most of `prompt` need not be computed, and how much; None: 0."""
        for number in reversed(self._numbers(prompt, variant)):
            best, most = None, 0
            found = self._by_pages.get(number, {})
            for past, _ in zip(reversed(found), range(_LOOKED_AT), strict=False):
                position = past.start(prompt, variant)
                if position > most:
                    best, most = past, position
            if best is not None:
                return best, most
        return None, 0

    def add(self, past: Past) -> None:
        """It is found from now on."""
        self._pasts[past] = None
        for number in self._serving(past):
            self._by_pages.setdefault(number, {})[past] = None

    def remove(self, past: Past) -> None:
        """It is not found any more."""
        del self._pasts[past]
        past.is_dropped = True
        for number in self._serving(past):
            found = self._by_pages[number]
            del found[past]
            if not found:
                del self._by_pages[number]

    def touch(self, past: Past) -> None:
        """It is the one that was used last."""
        self._pasts[past] = self._pasts.pop(past)

    def least(self, *, is_last_resort: bool) -> Past | None:
        """The one to give way: used longest ago, and if there is one of no conversation. What
        waiting sequences begin from does so as the last resort alone."""
        for is_held in (False, True):
            for past in self._pasts:
                if past.awaited == 0 and (past.holders > 0) == is_held:
                    return past
        return next(iter(self._pasts), None) if is_last_resort else None

    def _serving(self, past: Past) -> list[int]:
        page = past.lowest // self._shape.page_positions
        return self._numbers(past.ids, past.variant)[page:]

    def _numbers(self, ids: Ints, variant: Hashable) -> list[int]:
        """Hashes of 0, 1, ... whole pages of ids."""
        data, size = ids.tobytes(), 4 * self._shape.page_positions
        numbers = [hash(variant)]
        for end in range(size, len(data) + 1, size):
            numbers.append(hash((numbers[-1], data[end - size : end])))
        return numbers


@dataclass(frozen=True, slots=True, eq=False)
class KeptBytes:
    """A past as bytes: what a saved conversation holds of it."""

    ids: Ints
    global_pages: npt.NDArray[np.uint8]  # [pages, bytes of a page]
    first: int  # the page that the first of sliding_pages is
    sliding_pages: npt.NDArray[np.uint8]  # [pages, bytes of a page]
