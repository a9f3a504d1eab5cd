"""State of one sequence: its tokens, how many of them are in the cache, what it wants to know.

Knows no text, no pages' bytes and no engine. What becomes of the answers is its consumer's.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .pages import NO_PAGES, Ints
from .past import Past

Floats = npt.NDArray[np.float32]


class Want(Enum):
    """What a row is asked for."""

    SAMPLE = "sample"  # draw the next token
    TARGET = "target"  # log-probability of a given next token
    LOGITS = "logits"  # all logits


@dataclass(slots=True)
class Answer:
    """What the engine says about one wanted row."""

    position: int  # of the row's own token
    token: int  # drawn, or the target
    logprob: float
    best: int  # the most likely token
    top_ids: Ints  # [top]
    top_logprobs: Floats  # [top]
    logits: Floats | None  # [vocab]


class Consumer(Protocol):
    """Takes a sequence's answers, in order of position."""

    def take(self, answer: Answer) -> bool:
        """True when the sequence has all it wants."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn; the meanings are those of generate."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int
    banned: Ints
    bias_ids: Ints
    bias_values: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Branch:
    """Another end of a sequence: it turns back to `position` and goes on with other tokens."""

    position: int  # all before it is common with the end before this one
    tokens: Ints  # [n], at least one
    rows: Ints  # as those of a sequence
    targets: Ints


class Sequence:
    """One request: a prompt, what is wanted of it, and how far it is.

    Positions below `position` are in the cache; tokens below `count` are known. Only the loop
    moves them forward, after a step has returned; the scheduler moves them back: to where a branch
    departs, and to 0 when its pages go to others.
    """

    # Thousands wait at once.
    __slots__ = (
        "__weakref__", "_answered", "_branches", "_departs", "_rows", "_targets", "arrival",
        "awaits", "cached", "consumer", "count", "engine_sampling", "error", "global_pages",
        "is_cancelled", "is_finished", "is_running", "keeps", "left", "limit", "marks", "mask",
        "own_end", "position", "prompt_count", "ring_first", "sampling", "sliding_pages",
        "started_s", "submitted_s", "tokens", "top", "variant", "want",
    )  # fmt: skip

    def __init__(
        self,
        prompt: Ints,
        *,
        consumer: Consumer,
        want: Want,
        limit: int,
        rows: Ints | None = None,
        targets: Ints | None = None,
        branches: Iterable[Branch] = (),
        marks: Iterable[int] = (),
        top: int = 0,
        sampling: Sampling | None = None,
        variant: Hashable = (),
        keeps: bool = False,
    ) -> None:
        """limit: tokens it may ever hold; rows: ascending positions wanted (None: the last);
        targets: of each of rows the next token that Want.TARGET asks for, so that a row may stand
        there several times; branches: what is computed once all before is; marks: positions,
        ascending, from which others are known to begin; variant: what its keys depend on beside its
        ids, as adapter and media; keeps: it leaves a past that somebody goes on from."""
        self.tokens = prompt  # room for `limit` from start on
        self.count = self.prompt_count = int(prompt.size)
        self.position = 0
        self.limit = limit
        self.consumer: Consumer | None = consumer  # let go of at the end: it may hold gigabytes
        self.want, self.top, self.sampling = want, top, sampling
        self.engine_sampling: object = None  # `sampling` as the engine takes it, made by the loop
        self._rows, self._targets = rows, targets
        self._branches = [*branches][::-1]  # the next one last
        self._departs = min((branch.position for branch in self._branches), default=limit)
        self._answered = 0  # rows before it have had their answer
        self.variant, self.keeps = variant, keeps
        self.left: Past | None = None  # what it has left, once it is over
        self.awaits: Past | None = None  # what it will begin from, while it waits
        self.cached = 0  # tokens of its prompt that were in the cache when it began
        # Ids that the next draw may give, bit id % 32 of word id // 32 (None: all): set by the
        # consumer, before the first draw and in each `take`.
        self.mask: npt.NDArray[np.uint32] | None = None
        # Positions ahead at which a past is kept of it, ascending.
        self.marks = [*marks, self.prompt_count] if want is Want.SAMPLE else [*marks]
        self.global_pages = self.sliding_pages = NO_PAGES
        self.ring_first = 0  # page from which on its own ring is whole
        self.own_end = 0  # places from `position` up to this one are in pages of its own
        self.is_running = False
        self.is_finished = False
        self.is_cancelled = False
        self.error: Exception | None = None
        self.arrival = 0  # its place among all, given by the scheduler
        self.submitted_s = time.monotonic()
        self.started_s: float | None = None  # when its first token was computed

    def start(
        self, global_pages: Ints, sliding_pages: Ints, position: int, *, ring_first: int
    ) -> None:
        """It has its pages, in which all before `position` is, and room for its tokens."""
        self.global_pages, self.sliding_pages = global_pages, sliding_pages
        self.position, self.ring_first, self.own_end = position, ring_first, 0
        self.is_running = True
        if self.started_s is None:
            self.cached = position
            tokens = np.empty(self.limit, np.int32)
            tokens[: self.count] = self.tokens[: self.count]
            self.tokens = tokens

    def put_back(self) -> None:
        """Its pages are gone; what it knows stays, and is computed again."""
        self._answered = max(self._answered, self.position)
        self.position = 0
        self.is_running = False

    def release(self) -> None:
        """It is over: its pages belong to somebody else now."""
        self.consumer = self.mask = self.sampling = self.engine_sampling = None
        self._rows = self._targets = None
        self._branches.clear()
        self.is_running = False
        # A given text is its owner's: of many long ones no copy is kept until all are read.
        kept = self.count if self.want is Want.SAMPLE else 0
        self.tokens = self.tokens[:kept].copy()

    @property
    def is_over(self) -> bool:
        """Finished or cancelled: nothing more is computed."""
        return self.is_finished or self.is_cancelled

    @property
    def uncomputed(self) -> int:
        """Known tokens that are not in the cache yet."""
        return self.count - self.position

    @property
    def reusable(self) -> int:
        """Tokens at its beginning of which keys and values are all that is needed: before the first
        row that is wanted and, since a ring holds no more than the past that it was begun from,
        before the first position that a branch turns back to."""
        if self._rows is None:
            return self.count - 1
        first = int(np.searchsorted(self._rows, self._answered))
        return min(self.count - 1, self._departs, *map(int, self._rows[first : first + 1]))

    def wanted(self, rows: int) -> list[int]:
        """Positions, ascending, that are wanted among the next `rows`."""
        last = self.position + rows
        if self._rows is None:
            return [self.count - 1] if last == self.count else []
        first, end = np.searchsorted(self._rows, (max(self.position, self._answered), last))
        return [int(row) for row in self._rows[first:end]]

    def rows_with(self, most_wanted: int) -> int:
        """How many of the next rows hold at most that many wanted ones."""
        if self._rows is None:
            return self.uncomputed
        first = int(np.searchsorted(self._rows, max(self.position, self._answered)))
        if first + most_wanted >= self._rows.size:
            return self.uncomputed
        return int(self._rows[first + most_wanted]) - self.position

    def targets(self, wanted: list[int]) -> list[int]:
        """The tokens asked for at each of `wanted`, the rows of the next step; -1: no given one."""
        if self._targets is None or self._rows is None or not wanted:
            return [-1] * len(wanted)
        first = int(np.searchsorted(self._rows, wanted[0]))
        return [int(token) for token in self._targets[first : first + len(wanted)]]

    def turn_back(self) -> None:
        """Goes on with its next branch, if it has one and all before is computed."""
        if not self._branches or self.uncomputed:
            return
        branch = self._branches.pop()
        self.position, self.count = branch.position, branch.position + branch.tokens.size
        self.tokens[self.position : self.count] = branch.tokens
        self._rows, self._targets, self._answered = branch.rows, branch.targets, 0
        self.own_end = 0  # a past may have been kept further on

    def append(self, token: int) -> None:
        """A drawn token; it is computed by the next step."""
        self.tokens[self.count] = token
        self.count += 1

    def finish(self, error: Exception | None = None) -> None:
        """Nothing more is computed for it."""
        self.error, self.consumer = error, None
        self.is_finished = True
