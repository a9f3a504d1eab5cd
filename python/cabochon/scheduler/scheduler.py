"""Who runs next. Tokens are counted here, never looked at but to find a common beginning; nothing
is computed.

First come, first served: sequences are admitted in the order of their arrival. One that runs has
pages for what it knows and takes more as it grows; when there are none, the youngest is put back
and computed again later. In each step, sequences with one token to compute go first; the oldest of
the others has a share, and the rows that are left go to whoever needs fewest, so that no prompt
waits for ever and a long one holds none up. A sequence that begins as one that is just computed
waits until it can begin from there.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import InvalidArgument
from .cache import Cache
from .pages import Ints, PageCopy, Shape
from .past import Past
from .sequence import Sequence, Want
from .waiting import Waiting

CHUNK_TOKENS = 256  # of one prompt in one step
OLDEST_TOKENS = 64  # of the oldest prompt in one step, whatever others need
LOGITS_ROWS = 64  # rows of one sequence and step whose full logits are kept: 64 MiB at 262,144 ids


@dataclass(frozen=True, slots=True)
class Slice:
    """What is computed of one sequence in one step."""

    sequence: Sequence
    rows: int  # tokens from sequence.position on
    wanted: list[int]  # positions, ascending


class Scheduler:
    """Sequences that wait and run."""

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
        """max_rows: tokens of one step; ring_pages: sliding pages that a sequence holds at most;
        window: keys that the widest sliding layer sees."""
        assert max_rows >= max_sequences, "a step must have a row for every sequence"
        self.chunk_tokens = CHUNK_TOKENS
        self.shape = Shape(page_positions, ring_pages, window)
        self.cache = Cache(self.shape, global_pages, sliding_pages)
        self._max_rows, self._max_sequences = max_rows, max_sequences
        self._arrivals = 0
        self._waiting = Waiting(self.cache)
        self._running: list[Sequence] = []  # by arrival
        self._abandoned: deque[tuple[Past | None, Sequence | None]] = deque()

    def add(self, sequences: Iterable[Sequence]) -> None:
        """They run as soon as their turn comes.

        Raises:
            InvalidArgument: one of them would never fit, and none is added.
        """
        added = list(sequences)
        for sequence in added:
            self._check(sequence)
        for sequence in added:
            sequence.arrival = self._arrivals
            self._arrivals += 1
            self._waiting.push(sequence)

    def _check(self, sequence: Sequence) -> None:
        needed, there = self.cache.pages_for(sequence.limit), self.cache.counts
        if needed[0] > there[0] or needed[1] > there[1]:
            raise InvalidArgument(
                f"a sequence of {sequence.limit:,} tokens takes {needed[0]} global and {needed[1]} "
                f"sliding pages, expected at most {there[0]} and {there[1]}, which are all there "
                "are: load with a longer context"
            )

    @property
    def available(self) -> tuple[int, int]:
        """Global and sliding pages that no sequence holds."""
        return self.cache.available

    @property
    def unfinished(self) -> list[Sequence]:
        """All that run or wait."""
        return [*self._running, *self._waiting.sequences]

    def drop_finished(self) -> None:
        """What is finished or cancelled needs no pages; what is in them may stay as a past. Pasts
        that were abandoned have a holder less."""
        self._forget_abandoned()
        running = []
        for sequence in self._running:
            if not sequence.is_over:  # asked once: a finalizer may cancel it in the midst of this
                running.append(sequence)
                continue
            self._leave(sequence)
            self.cache.release(sequence)
            sequence.release()
        self._running = running

    def drop_waiting(self) -> None:
        """Forgets those that were cancelled before they began."""
        self._waiting.drop_over()

    def next_step(self) -> list[Slice]:
        """What the next step computes; empty when there is nothing to do. `take_copies` first."""
        self.drop_finished()
        for sequence in self._running:
            if sequence.marks:
                self._keep_marks(sequence)
            sequence.turn_back()
        self._waiting.go_on()
        self._admit()
        rows = self._rows()
        growing = [s for s, n in rows.items() if s.position + n > s.own_end]
        for sequence in sorted(growing, key=lambda s: s.arrival):
            while sequence.is_running and not self.cache.prepare(
                sequence, rows[sequence], is_alone=len(self._running) == 1
            ):
                self._put_back(self._running[-1])
        return [Slice(s, n, s.wanted(n)) for s, n in rows.items() if s.is_running]

    def take_copies(self) -> list[PageCopy]:
        """What must be copied, in this order, before the step that `next_step` gave."""
        return self.cache.take_copies()

    def _rows(self) -> dict[Sequence, int]:
        """How many tokens of each are computed next; those that decode first, then by arrival."""
        rows = {s: 1 for s in self._running if s.uncomputed == 1}
        if len(rows) == len(self._running):
            return rows
        left = self._max_rows - len(rows)
        prompts = [s for s in self._running if s.uncomputed > 1]
        for sequence in prompts:
            rows[sequence] = 0
        order = sorted(prompts, key=lambda s: s.uncomputed)
        shares = [(s, OLDEST_TOKENS) for s in prompts[:1]] + [(s, self._max_rows) for s in order]
        for sequence, share in shares:
            most = min(self.chunk_tokens, sequence.uncomputed)
            if sequence.want is Want.LOGITS:
                most = min(most, sequence.rows_with(LOGITS_ROWS))
            taken = min(most - rows[sequence], share, left)
            rows[sequence] += taken
            left -= taken
        return {s: n for s, n in rows.items() if n > 0}

    def _put_back(self, sequence: Sequence) -> None:
        """It begins again when there is room; until then others have its pages."""
        self._running.remove(sequence)
        self.cache.release(sequence)
        sequence.put_back()
        self._waiting.push(sequence)

    # --- admission -------------------------------------------------------------------------------

    def _admit(self) -> None:
        while len(self._running) < self._max_sequences and (first := self._waiting.first):
            past, position = self.cache.find(first)
            if self._waiting.follow(first, position, self._running):
                continue
            if not self.cache.start(first, past, position, margin=self._margin()):
                return
            self._waiting.pop()
            self._mark_known(first)
            insort(self._running, first, key=lambda s: s.arrival)

    def _margin(self) -> tuple[int, int] | None:
        """A page more for each that runs and may need one, so that who is put back is not admitted
        and put back again at once; None: nobody runs."""
        if not self._running:
            return None
        more = [0, 0]
        for sequence in self._running:
            most = self.cache.pages_for(sequence.limit)
            more[0] += sequence.global_pages.size < most[0]
            more[1] += sequence.sliding_pages.size < most[1]
        return more[0], more[1]

    def _mark_known(self, sequence: Sequence) -> None:
        """Where it departs from an earlier prompt others may, too, and nothing is there yet."""
        prompt = sequence.tokens[: sequence.prompt_count]
        shared = self.cache.pasts.known(prompt, sequence.variant)
        if shared > sequence.position and shared not in sequence.marks:
            insort(sequence.marks, shared)

    # --- pasts -----------------------------------------------------------------------------------

    def _keep_marks(self, sequence: Sequence) -> None:
        """Pasts where others will begin: at ends of prompts, and where they are seen to depart."""
        while sequence.marks and sequence.marks[0] <= sequence.position:
            mark = sequence.marks.pop(0)
            if self.cache.is_reusing:
                # A page more, since what answers something else may begin a little before: there
                # may be control tokens that open the answer.
                first = self.shape.first_seen(max(0, mark - self.shape.page_positions))
                self.cache.keep(sequence, mark, first=first)

    def _leave(self, sequence: Sequence) -> None:
        """The pasts of one that is over."""
        if sequence.error is not None:
            return
        self._keep_marks(sequence)
        if sequence.keeps or (self.cache.is_reusing and sequence.want is Want.SAMPLE):
            past = self.cache.keep(sequence, sequence.position, first=0)
            if sequence.keeps and past is not None:
                past.holders += 1
                sequence.left = past

    def share(self, past: Past) -> None:
        """One conversation more goes on from it."""
        past.holders += 1

    def forget(self, past: Past) -> None:
        """One less."""
        past.holders -= 1

    def abandon(self, past: Past | None, last: Sequence | None) -> None:
        """Nobody will go on from `past`, nor from what `last` leaves: both are forgotten before
        the next step. At any moment, from any thread, without a lock, in the midst of any other
        method too, as a finalizer calls it."""
        self._abandoned.append((past, last))

    def _forget_abandoned(self) -> None:
        while self._abandoned:
            past, last = self._abandoned.popleft()
            if past is not None:
                self.forget(past)
            if last is not None:
                last.keeps = False
                if last.left is not None:
                    self.forget(last.left)

    def reserve(self, ids: Ints, first: int) -> Past | None:
        """As the cache does, for a conversation."""
        self._forget_abandoned()
        past = self.cache.reserve(ids, first)
        if past is not None:
            past.holders = 1
        return past
