"""An engine that is a hash: its pages say what a real one's would hold, and every read is checked.

In each place of a page stands a number that depends on all ids up to it. A step fails where a row
does not find what it can see, or where a page is written to that somebody else holds.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable
from itertools import accumulate
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from cabochon.scheduler.pages import Ints
from cabochon.scheduler.past import common
from cabochon.scheduler.scheduler import Scheduler, Slice
from cabochon.scheduler.sequence import Answer, Sequence, Want

Longs = npt.NDArray[np.int64]
PAGE = 64


class Noted:
    """Wants a number of answers, and notes them."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.positions, self.tokens = list[int](), list[int]()

    def take(self, answer: Answer) -> bool:
        self.positions.append(answer.position)
        self.tokens.append(answer.token)
        return len(self.tokens) == self.wanted


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
        assert all(past.awaited == 0 for past in cache.pasts)
        cache.clear()
        assert cache.free_pages == cache.counts
        assert not cache.pasts._by_pages

    def _write(self, piece: Slice) -> list[tuple[str, int]]:
        """Puts what the rows are into their places; the pages that it wrote to."""
        sequence = piece.sequence
        first, end = sequence.position, sequence.position + piece.rows
        values, written = numbers(sequence), []
        for page in range(first // PAGE, -(-end // PAGE)):
            begin, stop = max(first, page * PAGE), min(end, (page + 1) * PAGE)
            for kind, table in self._tables(sequence):
                # A ring that has not come round may be shorter; a global table never is.
                assert page < table.size or (kind, table.size) == ("sliding", self.shape.ring_pages)
                number = int(table[page % table.size])
                assert not self.pools[kind].is_shared(number), "a shared page is written to"
                self.pages[kind][number, begin - page * PAGE : stop - page * PAGE] = values[
                    begin:stop
                ]
                written.append((kind, number))
        return written

    def _look(self, piece: Slice) -> None:
        """Every row finds what it can see: all before it, or in a ring the window."""
        sequence = piece.sequence
        end = sequence.position + piece.rows
        values = numbers(sequence)
        for kind, table in self._tables(sequence):
            seen = 0 if kind == "global" else max(0, sequence.position - self.shape.window + 1)
            pages = np.arange(seen // PAGE, -(-end // PAGE)) % table.size
            found = self.pages[kind][table[pages]].reshape(-1)
            begin = seen - seen // PAGE * PAGE
            np.testing.assert_array_equal(found[begin : begin + end - seen], values[seen:end], kind)

    def _tables(self, sequence: Sequence) -> list[tuple[str, Ints]]:
        tables = [("global", sequence.global_pages), ("sliding", sequence.sliding_pages)]
        is_there = (self.pools["global"].count > 0, self.shape.ring_pages > 0)
        return [table for table, there in zip(tables, is_there, strict=True) if there]


def _table(sequence: Sequence) -> list[tuple[str, int]]:
    return [
        *(("global", page) for page in sequence.global_pages.tolist()),
        *(("sliding", page) for page in sequence.sliding_pages.tolist()),
    ]


def numbers(sequence: Sequence) -> Longs:
    """One for each place, of all ids up to it and of what else decides. Kept beside the sequence,
    as far as its ids stay the same."""
    ids = sequence.tokens[: sequence.count]
    before, found = _NUMBERS.get(sequence, (ids[:0], np.empty(0, np.int64)))
    same = common(before, ids)
    number = int(found[same - 1]) if same else first_number(sequence.variant)
    more = list(accumulate(ids[same:].tolist(), next_number, initial=number))[1:]
    found = np.concatenate([found[:same], np.array(more, np.int64)])
    _NUMBERS[sequence] = ids.copy(), found
    return found


_NUMBERS: WeakKeyDictionary[Sequence, tuple[Ints, Longs]] = WeakKeyDictionary()


def first_number(variant: Hashable) -> int:
    return 1 + zlib.crc32(repr(variant).encode())


def next_number(number: int, token: int) -> int:
    return (number * 1_000_003 + token + 1) % 2**61


def numbers_of(ids: list[int], variant: Hashable = ()) -> list[int]:
    """What stands in the places of these ids."""
    numbers = list(accumulate(ids, next_number, initial=first_number(variant)))
    return numbers[1:]


def written_after(prompt: list[int], count: int, variant: Hashable = ()) -> list[int]:
    """The tokens that a sequence draws, found without any scheduler."""
    number = numbers_of(prompt, variant)[-1]
    drawn = list[int]()
    for _ in range(count):
        drawn.append(number % 97)
        number = next_number(number, drawn[-1])
    return drawn


def likelihood(number: int, token: int) -> float:
    """Of a token after ids of that number; as exact in float32."""
    return -float((int(number) * 31 + token) % 2**20)


def answer(step: list[Slice]) -> None:
    """What the loop does after an engine has answered."""
    none = np.empty(0, np.int32)
    for piece in step:
        sequence = piece.sequence
        values, targets = numbers(sequence), sequence.targets(piece.wanted)
        sequence.position += piece.rows
        for position, target in zip(piece.wanted, targets, strict=True):
            token = target if target >= 0 else int(values[position] % 97)
            if sequence.want is Want.SAMPLE:
                sequence.append(token)
            logprob = likelihood(values[position], token)
            given = Answer(position, token, logprob, 0, none, none.astype(np.float32), None)
            if sequence.consumer is not None and sequence.consumer.take(given):
                sequence.finish()
