"""Who runs next. Tokens are counted here, never looked at but to find a common beginning; nothing
is computed.

A sequence waits until pages for all it may ever hold are free, keeps them until it is finished,
and so is never put back. Sequences that decode go first in a step, one row each; prompts fill the
rest of its rows in chunks, oldest first. Pasts hold pages that nobody else needs: when a sequence
needs them, the one that was used longest ago is dropped, and computed again where it is missed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .pages import Ints, PageCopy, PagePool
from .past import Past, Ring, Shape
from .sequence import Sequence, Want

CHUNK_TOKENS = 256  # of one prompt in one step
LOGITS_ROWS = 64  # rows of one sequence and step whose full logits are kept: 64 MiB at 262,144 ids
KEPT_RINGS = 2  # states of rings, from ends of prompts, that a past has beside its last


@dataclass(frozen=True, slots=True)
class Slice:
    """What is computed of one sequence in one step."""

    sequence: Sequence
    rows: int  # tokens from sequence.position on
    wanted: list[int]  # positions, ascending


class Scheduler:
    """Sequences that wait and run, pasts, and the pages they hold."""

    def __init__(
        self,
        *,
        max_rows: int,
        max_sequences: int,
        global_pages: int,
        sliding_pages: int,
        ring_pages: int,
        page_positions: int,
        window: int,
    ) -> None:
        """max_rows: tokens of one step; ring_pages: sliding pages that every sequence holds;
        window: keys that the widest sliding layer sees."""
        assert max_rows >= max_sequences, "a step must have a row for every sequence"
        self.chunk_tokens = CHUNK_TOKENS
        self.shape = Shape(page_positions, ring_pages, window)
        self._max_rows, self._max_sequences = max_rows, max_sequences
        self._global = PagePool(global_pages)
        self._sliding = PagePool(sliding_pages)
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._pasts: dict[Past, None] = {}  # used longest ago first
        self._copies: list[PageCopy] = []

    def add(self, sequences: Iterable[Sequence]) -> None:
        """They run as soon as their turn comes."""
        self._waiting.extend(sequences)

    @property
    def free_pages(self) -> tuple[int, int]:
        """Global and sliding pages that nobody holds."""
        return self._global.free_count, self._sliding.free_count

    @property
    def unfinished(self) -> list[Sequence]:
        """All that run or wait."""
        return [*self._running, *self._waiting]

    def drop_finished(self) -> None:
        """Frees the pages of what is finished or cancelled, but for the past it leaves."""
        for sequence in self._running:
            if sequence.is_over:
                if sequence.keeps and sequence.error is None and sequence.position > 0:
                    self._leave(sequence)
                self._global.free(sequence.global_pages)
                self._sliding.free(sequence.sliding_pages)
                for ring in sequence.rings:
                    self._sliding.free(ring.held)
                sequence.release()
        self._running = [s for s in self._running if not s.is_over]

    def drop_waiting(self) -> None:
        """Forgets those that were cancelled before they began."""
        self._waiting = deque(s for s in self._waiting if not s.is_over)

    def next_step(self) -> list[Slice]:
        """What the next step computes; empty when there is nothing to do. `take_copies` first."""
        self.drop_finished()
        self._admit()
        for sequence in self._running:
            if sequence.keeps and sequence.position == sequence.prompt_count:
                self._keep_ring(sequence)
        step = [Slice(s, 1, s.wanted(1)) for s in self._running if s.is_decoding]
        left = self._max_rows - len(step)
        for sequence in self._running:
            if sequence.is_decoding or left == 0:
                continue
            rows = min(self.chunk_tokens, sequence.uncomputed, left)
            if sequence.want is Want.LOGITS:
                rows = min(rows, sequence.rows_with(LOGITS_ROWS))
            step.append(Slice(sequence, rows, sequence.wanted(rows)))
            left -= rows
        for piece in step:
            assert self._sees_all(piece.sequence), "it turned back further than its ring reaches"
            # Even a step that is interrupted may have overwritten what was in its place before.
            written = self.shape.end(piece.sequence.position + piece.rows)
            first = written - self.shape.ring_pages
            piece.sequence.ring_first = max(piece.sequence.ring_first, first)
        return step

    def _sees_all(self, sequence: Sequence) -> bool:
        """Whether its ring holds all that its next token can see."""
        shape = self.shape
        return not shape.ring_pages or shape.first_seen(sequence.position) >= sequence.ring_first

    def take_copies(self) -> list[PageCopy]:
        """What must be copied, in this order, before the step that `next_step` gave."""
        copies, self._copies = self._copies, []
        return copies

    # --- pasts -----------------------------------------------------------------------------------

    def share(self, past: Past) -> None:
        """One conversation more goes on from it."""
        past.holders += 1

    def forget(self, past: Past) -> None:
        """One less; without any its pages are free."""
        past.holders -= 1
        if past.holders == 0:
            self._drop(past)

    def reserve(self, ids: Ints, first: int) -> Past | None:
        """A past whose pages the caller writes: global ones, and a ring from page `first` on, or
        from as far back as it reaches. None: no room."""
        pages = self._pages_for(ids.size)
        if not self._is_possible(pages) or not self._make_room(pages, self.shape.ring_pages):
            return None
        sliding = self._sliding.allocate(self.shape.ring_pages)
        first = max(first, self.shape.end(ids.size) - self.shape.ring_pages)
        past = Past(ids, self._global.allocate(pages), (Ring(ids.size, first, sliding),))
        self._pasts[past] = None
        return past

    def ends(self, tokens: int) -> tuple[int, int]:
        """Where the global and the sliding pages of so many tokens end."""
        return self._pages_for(tokens), self.shape.end(tokens) if self.shape.ring_pages else 0

    def _leave(self, sequence: Sequence) -> None:
        position = sequence.position
        pages = sequence.global_pages[: self.shape.end(position)]
        ring = Ring(position, sequence.ring_first, sequence.sliding_pages)
        past = Past(sequence.tokens[:position].copy(), pages, (*sequence.rings, ring))
        self._hold(past)
        self._pasts[past] = None
        sequence.left = past

    def _hold(self, past: Past) -> None:
        self._global.hold(past.global_pages)
        for ring in past.rings:
            self._sliding.hold(ring.held)

    def _drop(self, past: Past) -> None:
        if past.is_dropped:
            return
        del self._pasts[past]
        past.is_dropped = True
        self._global.free(past.global_pages)
        for ring in past.rings:
            self._sliding.free(ring.held)

    def _keep_ring(self, sequence: Sequence) -> None:
        """The ring at the end of the prompt, for what answers something else there; where there is
        no room for it, that is computed from further back."""
        shape, position = self.shape, sequence.position
        if shape.ring_pages == 0 or any(ring.position == position for ring in sequence.rings):
            return
        # A page more, since what answers something else may begin a little before: there may be
        # control tokens that open the answer.
        before = max(0, position - shape.page_positions)
        first = max(shape.first_seen(before), sequence.ring_first)
        slots = shape.slots(first, shape.end(position))
        if not self._sliding.can_allocate(slots.size):
            return
        kept = np.full(shape.ring_pages, -1, np.int32)
        kept[slots] = self._sliding.allocate(slots.size)
        self._copies.append(PageCopy("sliding", sequence.sliding_pages[slots], kept[slots]))
        sequence.rings.append(Ring(position, first, kept))
        while len(sequence.rings) > KEPT_RINGS:
            self._sliding.free(sequence.rings.pop(0).held)

    # --- admission -------------------------------------------------------------------------------

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._max_sequences:
            sequence = self._waiting[0]
            if not sequence.is_over:
                if not self._start(sequence):
                    break
                self._running.append(sequence)
            self._waiting.popleft()

    def _start(self, sequence: Sequence) -> bool:
        """Gives it pages, if there are enough of them but for what pasts hold."""
        shape, pages, past = self.shape, self._pages_for(sequence.limit), sequence.past
        if not self._is_possible(pages):
            return False
        if past is not None:
            position, ring = past.start(sequence.tokens, shape)
            if position > 0 and (
                self._share_past(sequence, past, position, ring)
                or self._take_past(sequence, past, position, ring)
            ):
                return True
        is_there = self._make_room(pages, shape.ring_pages)
        assert is_there, "a sequence that runs holds its own pages alone"
        sequence.start(self._global.allocate(pages), self._sliding.allocate(shape.ring_pages))
        return True

    def _share_past(self, sequence: Sequence, past: Past, position: int, ring: Ring | None) -> bool:
        """Goes on from a past that others need too: whole pages are shared, those that will be
        written to are copied."""
        if past.holders < 2:
            return False
        shape, pages = self.shape, self._pages_for(sequence.limit)
        shared = past.global_pages[: position // shape.page_positions]
        if not self._make_room(pages - shared.size, shape.ring_pages, but=past):
            return False
        self._pasts[past] = self._pasts.pop(past)  # used last
        self._global.hold(shared)
        own = np.concatenate([shared, self._global.allocate(pages - shared.size)])
        self._copy_partial(past.global_pages, own, position)
        rings = [other for other in past.rings[:-1] if other.position <= position]
        for other in rings:
            self._sliding.hold(other.held)
        self._begin(sequence, own, self._sliding.allocate(shape.ring_pages), position, ring, rings)
        return True

    def _take_past(self, sequence: Sequence, past: Past, position: int, ring: Ring | None) -> bool:
        """Goes on in the pages of a past, which is no more."""
        shape, pages = self.shape, self._pages_for(sequence.limit)
        kept = past.global_pages[: shape.end(position)]
        rings = [other for other in past.rings[:-1] if other.position <= position]
        is_own = ring is past.rings[-1]
        sliding = past.rings[-1].pages if is_own else np.empty(0, np.int32)
        if ring is not None and not is_own:  # what stands in it from `position` on is no more
            rings = [other for other in rings if other is not ring]
            ring = Ring(position, ring.first, ring.pages)
            rings.append(ring)
        holding = Past(kept, kept, (*rings, Ring(position, 0, sliding)))
        self._hold(holding)
        self._drop(past)
        # Another past may hold the page that is to be written to.
        is_copied = bool(
            position % shape.page_positions and kept.size and self._global.holders(kept[-1]) > 1
        )
        missing = pages - kept.size + is_copied
        if not self._make_room(missing, shape.ring_pages - sliding.size):
            self._global.free(kept)
            for other in holding.rings:
                self._sliding.free(other.held)
            return False
        fresh = self._global.allocate(missing)
        own = np.concatenate([kept[: kept.size - is_copied], fresh])
        if is_copied:
            self._copy_partial(kept, own, position)
            self._global.free(kept[-1:])
        if is_own:
            sequence.ring_first, ring = past.rings[-1].first, None
        else:
            sliding = self._sliding.allocate(shape.ring_pages)
        self._begin(sequence, own, sliding, position, ring, rings)
        return True

    def _copy_partial(self, from_pages: Ints, to_pages: Ints, position: int) -> None:
        """The page that `position` stands inside of."""
        page, inside = divmod(position, self.shape.page_positions)
        if inside and from_pages.size:
            one = slice(page, page + 1)
            self._copies.append(PageCopy("global", from_pages[one], to_pages[one]))

    def _begin(
        self,
        sequence: Sequence,
        global_pages: Ints,
        sliding_pages: Ints,
        position: int,
        ring: Ring | None,
        rings: list[Ring],
    ) -> None:
        """ring: what its own sliding pages become, None: they are that already."""
        if ring is not None:
            first = self.shape.first_seen(position)
            slots = self.shape.slots(first, self.shape.end(position))
            self._copies.append(PageCopy("sliding", ring.pages[slots], sliding_pages[slots]))
            sequence.ring_first = first
        sequence.rings = rings
        sequence.start(global_pages, sliding_pages, position=position)

    def _is_possible(self, pages: int) -> bool:
        """Whether that many global pages, and a ring, are free of sequences that run."""
        ring = self.shape.ring_pages
        if self._global.can_allocate(pages) and self._sliding.can_allocate(ring):
            return True
        running = [s.global_pages for s in self._running] or [np.empty(0, np.int32)]
        held = int(np.unique(np.concatenate(running)).size)
        rings = sum(s.sliding_pages.size for s in self._running)
        return pages <= self._global.count - held and ring <= self._sliding.count - rings

    def _make_room(self, global_pages: int, sliding_pages: int, *, but: Past | None = None) -> bool:
        """Drops pasts, used longest ago first, then rings that are kept, until so many are free."""
        while not (
            self._global.can_allocate(global_pages) and self._sliding.can_allocate(sliding_pages)
        ):
            past = next((past for past in self._pasts if past is not but), None)
            if past is not None:
                self._drop(past)
            elif not self._drop_rings():
                return False
        return True

    def _drop_rings(self) -> bool:
        """Those that a running sequence keeps for its past; False: there are none."""
        sequence = next((s for s in self._running if s.rings), None)
        if sequence is None:
            return False
        for ring in sequence.rings:
            self._sliding.free(ring.held)
        sequence.rings = []
        return True

    def _pages_for(self, tokens: int) -> int:
        """Global pages for so many tokens; none in a model whose layers all slide."""
        return self.shape.end(tokens) if self._global.count else 0
