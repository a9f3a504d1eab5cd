"""Consumers that read a given text instead of continuing it: logits and log-probabilities."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence as List
from typing import Any

import numpy as np

from .errors import CabochonWarning, InvalidArgument, OutOfMemory
from .options import integer
from .scheduler.sequence import Answer, Sequence, Want
from .types import Bools, Floats, Ints, TokenLogprobs

MAX_LOGITS_BYTES = 4 * 2**30


def warn_of_raw_text(*, stacklevel: int) -> None:
    """What the perplexity of raw text says of an instruction-tuned model."""
    warnings.warn(
        "this model is instruction-tuned: it was trained on conversations, so the perplexity of "
        "raw text says little of it (over 10,000 is usual); give messages, or load the base model",
        CabochonWarning,
        stacklevel=stacklevel + 1,
    )


def check_positions(positions: Any, count: int) -> Ints:
    """Rows of logits asked for, as given; "all", "last" or indices."""
    if isinstance(positions, str):
        if positions == "all":
            return np.arange(count, dtype=np.int32)
        if positions == "last":
            return np.array([count - 1], np.int32)
    elif isinstance(positions, (list, tuple, range, np.ndarray)) and len(positions) > 0:
        checked = [
            integer(f"positions[{index}]", item, 0, count - 1)
            for index, item in enumerate(positions)
        ]
        return np.array(checked, np.int32)
    raise InvalidArgument(
        f"positions is {positions!r}, expected 'all', 'last' or indices", argument="positions"
    )


def check_logits_bytes(rows: List[int], vocab_size: int) -> None:
    """Refuses what would not fit before anything is computed.

    Raises:
        OutOfMemory: more than 4 GiB.
    """
    needed = 4 * vocab_size * sum(rows)
    if needed > MAX_LOGITS_BYTES:
        raise OutOfMemory(
            f"logits: {sum(rows):,} positions of {vocab_size:,} float32 take "
            f"{needed / 2**30:.1f} GiB, expected at most {MAX_LOGITS_BYTES / 2**30:.0f} GiB: "
            "ask for fewer positions, or for logprobs"
        )


class LogitsReading:
    """Rows of logits, in the order that was asked for."""

    def __init__(self, ids: Ints, positions: Ints, vocab_size: int) -> None:
        rows, self._order = np.unique(positions, return_inverse=True)
        self._logits = np.empty((rows.size, vocab_size), np.float32)
        self._taken = 0
        used = int(rows[-1]) + 1  # what stands behind cannot change them
        self.sequence = Sequence(
            ids[:used], consumer=self, want=Want.LOGITS, limit=used, rows=rows.astype(np.int32)
        )

    def take(self, answer: Answer) -> bool:
        """One more row."""
        self._logits[self._taken] = answer.logits
        self._taken += 1
        return self._taken == self._logits.shape[0]

    def result(self) -> Floats:
        """Logits [positions, vocab]."""
        if np.array_equal(self._order, np.arange(self._logits.shape[0])):
            return self._logits
        return self._logits[self._order]


class LogprobsReading:
    """Log-probability of every token but the first."""

    def __init__(self, ids: Ints, is_assistant: Bools, *, top: int) -> None:
        count = int(ids.size)
        self._ids, self._is_assistant = ids, is_assistant
        self._logprobs = np.full(count, np.nan, np.float32)
        self._is_greedy = np.zeros(count, np.bool_)
        self._top_ids = np.full((count, top), -1, np.int32)
        self._top_logprobs = np.full((count, top), np.nan, np.float32)
        self.sequence = Sequence(
            ids[:-1],  # nothing is asked of the last
            consumer=self,
            want=Want.TARGET,
            limit=count - 1,
            rows=np.arange(count - 1, dtype=np.int32),
            targets=ids[1:],
            top=top,
        )
        if count == 1:  # nothing stands before its only token
            self.sequence.finish()

    def take(self, answer: Answer) -> bool:
        """One more token is judged."""
        row = answer.position + 1
        self._logprobs[row] = answer.logprob
        self._is_greedy[row] = answer.best == answer.token
        self._top_ids[row], self._top_logprobs[row] = answer.top_ids, answer.top_logprobs
        return row == self._ids.size - 1

    def result(self) -> TokenLogprobs:
        """All of them, with their sum."""
        judged = self._logprobs[1:]
        total = math.fsum(judged.tolist())
        return TokenLogprobs(
            token_ids=self._ids,
            logprobs=self._logprobs,
            is_greedy=self._is_greedy,
            is_assistant=self._is_assistant,
            top_ids=self._top_ids,
            top_logprobs=self._top_logprobs,
            total=total,
            perplexity=_exp(-total / judged.size) if judged.size else math.nan,
        )


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
