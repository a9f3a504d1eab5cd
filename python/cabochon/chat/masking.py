"""Which tokens may be drawn next: a budget of thoughts, calls that are valid, a structure.

Follows one answer token by token. What the model may write is a mask of ids; without a reason to
mask there is none. Control tokens are let through only where they belong.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import Unsupported
from ..tokenizer import Tokenizer
from .constraints import Matcher, Structure, Words
from .parser import Outline

_OPEN, _CLOSE = "<|channel>", "<channel|>"
_CALL, _CALL_END, _RESPONSE = "<|tool_call>", "<tool_call|>", "<|tool_response>"
_MARK = '<|"|>'
_LONGEST_CHARACTER = 4  # bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Masking:
    """What all answers of one call share."""

    tokenizer: Tokenizer
    vocab_size: int
    stop_ids: Collection[int]  # of the model
    thinking: bool = False
    budget: int | None = None  # tokens of thought
    structure: Structure | None = None
    matcher: Matcher | None = None  # of the structure
    has_tools: bool = False  # that may be called
    calls: Matcher | None = None  # of one call, between its markers; None: nothing binds it
    must_call: bool = False  # the answer is one call at least, and nothing else
    is_single_call: bool = False

    def masker(self, starts_in: str) -> Masker:
        """For one answer that begins in "answer" or "thinking"."""
        return Masker(self, starts_in)


class Masker:
    """One answer. `mask` first, then `push` and `mask` for every token."""

    def __init__(self, shared: Masking, starts_in: str) -> None:
        self._shared = shared
        self._ids: Mapping[str, int] = shared.tokenizer.control_ids
        if shared.budget is not None and _CLOSE not in self._ids:
            raise Unsupported(f"generate: thinking_budget, but this vocabulary has no {_CLOSE}")
        self._outline = Outline(self._ids, starts_in=starts_in)
        self._matcher = None if shared.matcher is None else shared.matcher.copy()
        self._call: Matcher | None = None  # of the call that is being written
        # Whether an answer has a form, that no other block may stand in the place of.
        self._is_bound = shared.matcher is not None or shared.must_call
        self._answer: list[int] = []  # ids of the structure
        self._last = -1  # id
        self._allowed: Words | None = None
        self._is_forced = False
        self._has_thought = starts_in == "thinking"
        self.forced_tokens = 0
        self.closed_by_budget = False
        self._is_whole = False
        self._stops = [token for token in shared.stop_ids if token != self._ids.get(_RESPONSE, -1)]
        controls = sorted(self._ids.values())
        self._text = self._but(controls)  # every id that is text
        self._thought = self._plus(self._text, [self._ids[_CLOSE]]) if _CLOSE in self._ids else None
        is_lead = [id for id, byte in shared.tokenizer.byte_ids.items() if byte >= 0xC0]
        self._no_lead = self._but(is_lead)
        newline = shared.tokenizer.encode("\n") if shared.budget is not None else []
        self._newline = newline[0] if len(newline) == 1 else -1

    # --- masks -----------------------------------------------------------------------------------

    def mask(self) -> Words | None:
        """Ids that the next draw may give, None: all. Valid until the next call.

        Raises:
            ConstraintError: a limit on the work for one token was reached.
        """
        state = self._outline.state
        if state == "thinking":
            words = self._in_thought()
        elif state == "tool_call":
            words = self._in_call()
        else:
            words = self._in_answer()
        self._is_forced = words is not None and _count(words) == 1
        return words

    def _in_thought(self) -> Words | None:
        free = self._thought if self._is_bound else None
        if self._shared.budget is None:
            return free
        left = self._shared.budget - self._outline.counts["thinking"]
        if left <= 0:
            return self._only(self._ids[_CLOSE])
        ends_line = self._newline < 0 or self._last == self._newline
        if left == 1 and not ends_line and self._outline.counts["thinking"] > 2:
            return self._only(self._newline)  # as the template writes the end of a thought
        if left <= _LONGEST_CHARACTER + 1:
            # A character that begins as bytes here could be cut in two by the end.
            return self._no_lead if free is None else free & self._no_lead
        return free

    def _in_call(self) -> Words | None:
        if self._call is not None:
            words, may_end = self._call.allowed()
            return self._plus(words, [self._ids[_CALL_END]]) if may_end else words
        if self._matcher is None:
            return None
        return self._plus(self._text, [self._ids[_MARK], self._ids[_CALL_END]])

    def _in_answer(self) -> Words | None:
        shared, ids = self._shared, self._ids
        may_think = self._may_think()
        if not self._is_bound:
            is_spent = shared.budget is not None and not may_think and _OPEN in ids
            return self._but([ids[_OPEN]]) if is_spent else None
        if self._outline.calls:
            again = [] if shared.is_single_call else [ids[_CALL]]
            return self._plus(None, [*again, *shared.stop_ids])
        opening = [ids[_OPEN]] if shared.thinking and may_think and _OPEN in ids else []
        if shared.must_call or self._matcher is None:
            return self._plus(None, [ids[_CALL], *opening])
        text, may_end = self._matcher.allowed()
        words = text & self._text
        more = list(self._stops) if may_end else []
        if not self._answer:
            more += [ids[_CALL]] if shared.has_tools and _CALL in ids else []
            more += opening
        return self._plus(words, more)

    def _may_think(self) -> bool:
        budget = self._shared.budget
        if budget is None:
            return not self._has_thought
        return self._outline.counts["thinking"] < budget and (
            not self._is_bound or not self._has_thought
        )

    def _empty(self) -> Words:
        return np.zeros(-(-self._shared.vocab_size // 32), np.uint32)

    def _only(self, token_id: int) -> Words:
        return self._plus(None, [token_id])

    def _plus(self, words: Words | None, token_ids: Collection[int]) -> Words:
        words = self._empty() if words is None else words.copy()
        for token_id in token_ids:
            words[token_id // 32] |= np.uint32(1 << token_id % 32)
        return words

    def _but(self, token_ids: Collection[int]) -> Words:
        words = ~self._empty()
        for token_id in token_ids:
            if token_id < self._shared.vocab_size:
                words[token_id // 32] &= np.uint32(~(1 << token_id % 32) & 0xFFFFFFFF)
        return words

    # --- what was drawn --------------------------------------------------------------------------

    def push(self, token_id: int) -> None:
        """The token that was drawn.

        Raises:
            ConstraintError: as for `mask`.
        """
        before, calls = self._outline.state, self._outline.calls
        self.forced_tokens += self._is_forced
        self.closed_by_budget |= (
            before == "thinking" and self._is_forced and token_id == self._ids.get(_CLOSE)
        )
        self._outline.push(token_id)
        self._last = token_id
        state = self._outline.state
        self._has_thought |= state == "thinking"
        if self._outline.calls > calls:
            self._call = self._shared.calls.copy() if self._shared.calls else None
        elif state != "tool_call":
            self._call = None
        elif self._call is not None:
            self._call.push(token_id)
        if self._matcher is None or before != "answer" or state != "answer":
            return
        if token_id in self._shared.stop_ids:
            self._is_whole = not self._outline.calls
        elif token_id != self._ids.get(_CLOSE):
            self._matcher.push(token_id)
            self._answer.append(token_id)

    def parsed(self) -> Any:
        """`Result.parsed`: None where the structure was not finished.

        Raises:
            InvalidArgument: the class that the schema was made of refuses it.
        """
        structure = self._shared.structure
        if structure is None or not self._is_whole:
            return None
        return structure.parse(self._shared.tokenizer.decode(self._answer))


def _count(words: Words) -> int:
    """Ids in a mask, 2 where there are more."""
    used = words[np.flatnonzero(words)]
    return 0 if used.size == 0 else 1 if used.size == 1 and not used[0] & (used[0] - 1) else 2
