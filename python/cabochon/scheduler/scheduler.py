"""Who runs next. Tokens are counted here, never looked at; nothing is computed.

A sequence waits until pages for all it may ever hold are free, keeps them until it is finished,
and so is never put back. Sequences that decode go first in a step, one row each; prompts fill the
rest of its rows in chunks, oldest first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from .pages import PagePool
from .sequence import Sequence, Want

CHUNK_TOKENS = 256  # of one prompt in one step
LOGITS_ROWS = 64  # rows of one sequence and step whose full logits are kept: 64 MiB at 262,144 ids


@dataclass(frozen=True, slots=True)
class Slice:
    """What is computed of one sequence in one step."""

    sequence: Sequence
    rows: int  # tokens from sequence.position on
    wanted: list[int]  # positions, ascending


class Scheduler:
    """Sequences that wait and run, and the pages they hold."""

    def __init__(
        self,
        *,
        max_rows: int,
        max_sequences: int,
        global_pages: int,
        sliding_pages: int,
        ring_pages: int,
        page_positions: int,
    ) -> None:
        """max_rows: tokens of one step; ring_pages: sliding pages that every sequence holds."""
        assert max_rows >= max_sequences, "a step must have a row for every sequence"
        self.chunk_tokens = CHUNK_TOKENS
        self._max_rows, self._max_sequences = max_rows, max_sequences
        self._global = PagePool(global_pages)
        self._sliding = PagePool(sliding_pages)
        self._ring_pages, self._page_positions = ring_pages, page_positions
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []

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
        """Frees the pages of what is finished or cancelled."""
        for sequence in self._running:
            if sequence.is_over:
                self._global.free(sequence.global_pages)
                self._sliding.free(sequence.sliding_pages)
                sequence.release()
        self._running = [s for s in self._running if not s.is_over]

    def drop_waiting(self) -> None:
        """Forgets those that were cancelled before they began."""
        self._waiting = deque(s for s in self._waiting if not s.is_over)

    def next_step(self) -> list[Slice]:
        """What the next step computes; empty when there is nothing to do."""
        self.drop_finished()
        self._admit()
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
        return step

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._max_sequences:
            sequence = self._waiting[0]
            if not sequence.is_over:
                pages = self._pages_for(sequence)
                if not (
                    self._global.can_allocate(pages)
                    and self._sliding.can_allocate(self._ring_pages)
                ):
                    break
                sequence.start(
                    self._global.allocate(pages), self._sliding.allocate(self._ring_pages)
                )
                self._running.append(sequence)
            self._waiting.popleft()

    def _pages_for(self, sequence: Sequence) -> int:
        """Global pages for all it may ever hold; none in a model whose layers all slide."""
        return -(-sequence.limit // self._page_positions) if self._global.count else 0
