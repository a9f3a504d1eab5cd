"""Sequences that do not run: in the order of their arrival, or until another is further on.

A sequence that begins as one whose prompt is just computed would compute the same a second time. It
waits until the other has computed what they share, and has left a past there.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from .cache import Cache
from .past import common
from .sequence import Sequence

WORTH_TOKENS = 16  # fewer are computed twice rather than waited for
MOST_FOLLOWERS = 256  # those behind them wait until these go on


@dataclass(frozen=True, slots=True)
class Follower:
    """A sequence that waits until another is beyond a position that it shares with it."""

    sequence: Sequence
    leader: Sequence
    position: int

    @property
    def is_waiting(self) -> bool:
        """Whether the leader is on its way there."""
        return self.leader.is_running and self.position in self.leader.marks


class Waiting:
    """Who came first is first, also after it was put back."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._queue: list[tuple[int, Sequence]] = []  # a heap, by arrival
        self._followers: list[Follower] = []

    def push(self, sequence: Sequence) -> None:
        """It waits for its turn."""
        heappush(self._queue, (sequence.arrival, sequence))

    @property
    def first(self) -> Sequence | None:
        """Whose turn it is."""
        while self._queue and self._queue[0][1].is_over:
            self.pop()
        is_full = len(self._followers) >= MOST_FOLLOWERS
        return self._queue[0][1] if self._queue and not is_full else None

    def pop(self) -> None:
        """The first does not wait any more."""
        _let_go(heappop(self._queue)[1])

    @property
    def sequences(self) -> list[Sequence]:
        """All of them."""
        return [*(one.sequence for one in self._followers), *(one for _, one in self._queue)]

    def drop_over(self) -> None:
        """Forgets those that were cancelled."""
        # Asked once: a finalizer may cancel one in the midst of this.
        gone = {sequence for _, sequence in self._queue if sequence.is_over}
        for sequence in gone:
            _let_go(sequence)
        self._queue = [item for item in self._queue if item[1] not in gone]
        heapify(self._queue)
        self._followers = [one for one in self._followers if not one.sequence.is_over]

    def follow(self, sequence: Sequence, position: int, running: Iterable[Sequence]) -> bool:
        """Whether the first waits for one that will soon have computed much more of its prompt than
        is there now, which is `position` tokens; that one then keeps a past there."""
        if not self._cache.is_reusing:
            return False
        most, leader = position + WORTH_TOKENS - 1, None
        prompt = sequence.tokens[: sequence.reusable]
        for other in running:
            if other.uncomputed > 1 and other.variant == sequence.variant:
                shared = common(other.tokens[: other.count], prompt)
                if shared > max(most, other.position):
                    most, leader = shared, other
        gain, needed = most - position, sequence.count - position
        if leader is None or (gain < self._cache.shape.page_positions and 2 * gain < needed):
            return False
        if most not in leader.marks:
            insort(leader.marks, most)
        self.pop()
        self._followers.append(Follower(sequence, leader, most))
        return True

    def go_on(self) -> None:
        """Those who need not wait for another any more wait for their turn."""
        gone = [one for one in self._followers if not one.is_waiting]
        if not gone:
            return
        self._followers = [one for one in self._followers if one.is_waiting]
        for one in gone:
            past, _ = self._cache.find(one.sequence)
            if past is not None:
                past.awaited += 1
                one.sequence.awaits = past
            self.push(one.sequence)


def _let_go(sequence: Sequence) -> None:
    """It does not wait any more for what it begins from."""
    if sequence.awaits is not None:
        sequence.awaits.awaited -= 1
        sequence.awaits = None
