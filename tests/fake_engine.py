"""An engine that is a hash: its pages say what a real one's would hold, and every read is checked.

In each place of a page stands a number that depends on all ids up to it. A step fails where a row
does not find what it can see, or where a page is written to that somebody else holds.
"""

from __future__ import annotations

import numpy as np

from cabochon.scheduler.scheduler import Scheduler, Slice
from cabochon.scheduler.sequence import Answer, Sequence, Want

PAGE = 64


class FakeEngine:
    """Runs a scheduler's steps. The token that is drawn depends on all ids before it, as a model's
    would, and on nothing else."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler, self.shape = scheduler, scheduler.shape
        cache = scheduler.cache
        self.pools = {"global": cache._global, "sliding": cache._sliding}
        self.pages = {
            kind: np.zeros((pool.count, PAGE), np.int64) for kind, pool in self.pools.items()
        }
        self.computed = self.steps = 0

    def step(self, *, is_interrupted: bool = False) -> list[Slice]:
        step = self.scheduler.next_step()
        for copy in self.scheduler.take_copies():
            pages = self.pages[copy.kind]
            pages[copy.to_page] = pages[copy.from_page]
        tables = [page for piece in step for page in _table(piece.sequence)]
        written = [page for piece in step for page in self._write(piece)]
        for page in written:
            assert tables.count(page) == 1, f"{page} is written to and stands in another table"
        for piece in step:
            self._look(piece)
        if is_interrupted:
            return step
        self.computed += sum(piece.rows for piece in step)
        self.steps += 1
        answer(step)
        return step

    def run(self) -> None:
        """Until nobody waits."""
        while self.step():
            pass
        self.scheduler.drop_finished()
        assert self.scheduler.unfinished == []

    def check_all_pages_are_free_without_pasts(self) -> None:
        cache = self.scheduler.cache
        assert cache.available == cache.counts
        for past in list(cache.pasts):
            assert past.awaited == 0
            cache.drop(past)
        assert cache.free_pages == cache.counts
        assert not cache.pasts._by_pages

    def _places(self, sequence: Sequence, position: int) -> list[tuple[str, int]]:
        page = position // PAGE
        places = []
        if self.pools["global"].count:
            places.append(("global", int(sequence.global_pages[page])))
        if self.shape.ring_pages:
            ring = sequence.sliding_pages
            # The engine's own check: a ring that comes round holds the window beside the rows.
            assert page < ring.size or ring.size == self.shape.ring_pages
            places.append(("sliding", int(ring[page % ring.size])))
        return places

    def _write(self, piece: Slice) -> list[tuple[str, int]]:
        sequence, touched = piece.sequence, dict[tuple[str, int], None]()
        values = numbers(sequence)
        for position in range(sequence.position, sequence.position + piece.rows):
            for kind, page in self._places(sequence, position):
                assert not self.pools[kind].is_shared(page), "a shared page is written to"
                self.pages[kind][page, position % PAGE] = values[position]
                touched[kind, page] = None
        return list(touched)

    def _look(self, piece: Slice) -> None:
        sequence, values = piece.sequence, numbers(piece.sequence)
        window = self.shape.window
        for position in range(sequence.position + piece.rows):
            for kind, page in self._places(sequence, position):
                is_seen = kind == "global" or position > sequence.position - window
                if is_seen:
                    found = self.pages[kind][page, position % PAGE]
                    assert found == values[position], (kind, position)


def _table(sequence: Sequence) -> list[tuple[str, int]]:
    return [
        *(("global", page) for page in sequence.global_pages.tolist()),
        *(("sliding", page) for page in sequence.sliding_pages.tolist()),
    ]


def numbers(sequence: Sequence) -> list[int]:
    """One for each place, of all ids up to it and of what else decides."""
    found, number = [], 1 + len(str(sequence.variant)) * 7919
    for token in sequence.tokens[: sequence.count].tolist():
        number = (number * 1_000_003 + token + 1) % 2**61
        found.append(number)
    return found


def likelihood(number: int, token: int) -> float:
    """Of a token after ids of that number; as exact in float32."""
    return -float((number * 31 + token) % 2**20)


def answer(step: list[Slice]) -> None:
    """What the loop does after an engine has answered."""
    none = np.empty(0, np.int32)
    for piece in step:
        sequence = piece.sequence
        values, targets = numbers(sequence), sequence.targets(piece.wanted)
        sequence.position += piece.rows
        for position, target in zip(piece.wanted, targets, strict=True):
            token = target if target >= 0 else values[position] % 97
            if sequence.want is Want.SAMPLE:
                sequence.append(token)
            logprob = likelihood(values[position], token)
            given = Answer(position, token, logprob, 0, none, none.astype(np.float32), None)
            if sequence.consumer is not None and sequence.consumer.take(given):
                sequence.finish()
