"""What the pages hold: what running sequences need, and in all others pasts to begin from.

A sequence that begins from a past, and a past that is kept of a sequence, share its pages; nothing
is copied then. Before a sequence writes to a page that is shared it gets one of its own: a copy
where it stands inside of it, and a fresh one where its ring comes round.
"""

from __future__ import annotations

import numpy as np

from .pages import NO_PAGES, Ints, PageCopy, PagePool, Shape
from .past import Past, Pasts
from .sequence import Sequence


class Cache:
    """Pages of sequences and pasts."""

    def __init__(self, shape: Shape, global_pages: int, sliding_pages: int) -> None:
        self.shape = shape
        self.is_reusing = True  # False: every sequence computes all of its prompt
        self.pasts = Pasts(shape)
        self._global = PagePool("global", global_pages)
        self._sliding = PagePool("sliding", sliding_pages)
        self._copies: list[PageCopy] = []

    @property
    def free_pages(self) -> tuple[int, int]:
        """Global and sliding pages that nobody holds."""
        return self._global.free_count, self._sliding.free_count

    @property
    def available(self) -> tuple[int, int]:
        """Global and sliding pages that no sequence holds."""
        return self._global.available, self._sliding.available

    @property
    def counts(self) -> tuple[int, int]:
        """Global and sliding pages that there are."""
        return self._global.count, self._sliding.count

    def take_copies(self) -> list[PageCopy]:
        """What must be copied, in this order, before anything else is written."""
        copies, self._copies = self._copies, []
        return copies

    def pages_for(self, tokens: int) -> tuple[int, int]:
        """Global and sliding pages that so many tokens take; no global ones in a model whose
        layers all slide."""
        end = self.shape.end(tokens)
        return end if self._global.count else 0, min(end, self.shape.ring_pages)

    # --- sequences -------------------------------------------------------------------------------

    def find(self, sequence: Sequence) -> tuple[Past | None, int]:
        """What it can begin from, and how many of its tokens that is."""
        if not self.is_reusing:
            return None, 0
        return self.pasts.find(sequence.tokens[: sequence.reusable], sequence.variant)

    def start(
        self,
        sequence: Sequence,
        past: Past | None,
        position: int,
        *,
        margin: tuple[int, int] | None,
    ) -> bool:
        """Gives it pages for all tokens that it has and one more.

        margin: global and sliding pages that must stay available; None: it runs alone.
        """
        shape = self.shape
        global_pages, ring, first = NO_PAGES, NO_PAGES, 0
        if past is not None:
            end = shape.end(position)
            first = past.first
            global_pages, ring = past.global_pages[:end], past.ring[: max(0, end - first)]
            self._global.hold(global_pages, is_past=False)
            self._sliding.hold(ring, is_past=False)
            self.pasts.touch(past)
        needed = self.pages_for(min(sequence.count + 1, sequence.limit))
        fresh = needed[0] - global_pages.size, needed[1] - ring.size
        left = margin or (0, 0)
        if not self._make_room(fresh[0] + left[0], fresh[1] + left[1], margin is None):
            self._global.free(global_pages, is_past=False)
            self._sliding.free(ring, is_past=False)
            return False
        fresh_ring = self._sliding.allocate(fresh[1])
        if ring.size:
            slots = shape.slots(first, first + ring.size)
            sliding_pages = np.empty(needed[1], np.int32)
            is_fresh = np.ones(needed[1], np.bool_)
            sliding_pages[slots], is_fresh[slots] = ring, False
            sliding_pages[is_fresh] = fresh_ring
        else:
            sliding_pages = fresh_ring
        fresh_global = self._global.allocate(fresh[0])
        sequence.start(
            np.concatenate([global_pages, fresh_global]), sliding_pages, position, ring_first=first
        )
        return True

    def prepare(self, sequence: Sequence, rows: int, *, is_alone: bool) -> bool:
        """Makes the pages that its next rows are written to its own; False: there is no room.

        Even a step that is interrupted may have overwritten what a ring held in their place.
        """
        shape, position = self.shape, sequence.position
        assert not shape.ring_pages or shape.first_seen(position) >= sequence.ring_first, (
            "it turned back further than its ring reaches"
        )
        end = shape.end(position + rows)
        here = position // shape.page_positions if position % shape.page_positions else -1
        for page in range(max(sequence.own_end, position // shape.page_positions), end):
            if self._global.count:
                pages = self._own(self._global, sequence.global_pages, page, page == here, is_alone)
                if pages is None:
                    return False
                sequence.global_pages = pages
            if shape.ring_pages:
                slot = page % shape.ring_pages
                pages = self._own(
                    self._sliding, sequence.sliding_pages, slot, page == here, is_alone
                )
                if pages is None:
                    return False
                sequence.sliding_pages = pages
            sequence.own_end = page + 1
        sequence.ring_first = max(sequence.ring_first, end - shape.ring_pages)
        return True

    def _own(
        self, pool: PagePool, pages: Ints, slot: int, is_copied: bool, is_alone: bool
    ) -> Ints | None:
        """The pages with one at `slot` that nobody else holds; None: there is no room."""
        is_new = slot == pages.size
        while is_new or pool.is_shared(int(pages[slot])):
            if pool.free_count == 0:
                past = self.pasts.least(is_last_resort=is_alone)
                if past is None:
                    return None
                self.drop(past)
                continue
            (page,) = fresh = pool.allocate(1)
            if is_new:
                return np.concatenate([pages, fresh])
            if is_copied:
                self._copies.append(PageCopy(pool.kind, int(pages[slot]), int(page)))
            pool.free(pages[slot : slot + 1], is_past=False)
            pages[slot] = page
        return pages

    def release(self, sequence: Sequence) -> None:
        """It needs its pages no more."""
        self._global.free(sequence.global_pages, is_past=False)
        self._sliding.free(sequence.sliding_pages, is_past=False)
        sequence.global_pages = sequence.sliding_pages = NO_PAGES

    # --- pasts -----------------------------------------------------------------------------------

    def keep(self, sequence: Sequence, position: int, *, first: int) -> Past | None:
        """A past at a position that it has computed, whose ring begins with page `first` or where
        the sequence's does; None: its ring has gone past it."""
        shape = self.shape
        first = max(first, sequence.ring_first) if shape.ring_pages else 0
        if position == 0 or shape.first_seen(position) < first:
            return None
        ids, end = sequence.tokens[:position].copy(), shape.end(position)
        known, most = self.pasts.find(ids, sequence.variant)
        if known is not None and most == position == known.ids.size and known.first <= first:
            self.pasts.touch(known)
            return known
        slots = shape.slots(first, end) if shape.ring_pages else NO_PAGES
        global_pages = sequence.global_pages[:end].copy()
        past = Past(
            ids, sequence.variant, global_pages, first, sequence.sliding_pages[slots], shape
        )
        self._add(past)
        sequence.own_end = 0
        return past

    def reserve(self, ids: Ints, first: int) -> Past | None:
        """A past whose pages the caller writes: global ones, and a ring from page `first` on, or
        from as far back as it reaches. None: no room."""
        shape, needed = self.shape, self.pages_for(ids.size)
        end = shape.end(ids.size)
        first = max(first, end - shape.ring_pages) if shape.ring_pages else 0
        sliding = end - first if shape.ring_pages else 0
        if not self._make_room(needed[0], sliding, False):
            return None
        global_pages, ring = self._global.allocate(needed[0]), self._sliding.allocate(sliding)
        past = Past(ids, (), global_pages, first, ring, shape)
        self._add(past)
        self._global.free(global_pages, is_past=False)
        self._sliding.free(ring, is_past=False)
        return past

    def drop(self, past: Past) -> None:
        """It is no more."""
        if not past.is_dropped:
            self.pasts.remove(past)
            self._global.free(past.global_pages, is_past=True)
            self._sliding.free(past.ring, is_past=True)

    def _add(self, past: Past) -> None:
        self._global.hold(past.global_pages, is_past=True)
        self._sliding.hold(past.ring, is_past=True)
        self.pasts.add(past)

    def _make_room(self, global_pages: int, sliding_pages: int, is_last_resort: bool) -> bool:
        """Drops pasts until so many pages are free, if no sequence holds too many for that."""
        if global_pages > self._global.available or sliding_pages > self._sliding.available:
            return False
        while global_pages > self._global.free_count or sliding_pages > self._sliding.free_count:
            past = self.pasts.least(is_last_resort=is_last_resort)
            if past is None:
                return False
            self.drop(past)
        return True
