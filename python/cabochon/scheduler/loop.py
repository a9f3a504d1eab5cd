"""Runs the scheduler's steps on an engine. The one place where positions move.

Whoever waits drives: one of the waiting threads runs a step for all, the others sleep until it is
done. A step that is interrupted or fails has changed nothing that a later step can see.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from ..errors import ConstraintError, DeviceError, InvalidArgument, NumericalError
from .interrupt import HeldInterrupt
from .pages import PageCopy
from .past import KeptBytes, Past
from .scheduler import Scheduler, Slice
from .sequence import Answer, Sequence, Want

_NOTHING_TO_DRAW = 2  # a status of a wish
_WANTS = {
    Want.SAMPLE: _core.WANT_SAMPLE,
    Want.TARGET: _core.WANT_TARGET,
    Want.LOGITS: _core.WANT_LOGITS,
}


class Loop:
    """One engine, one scheduler, any number of threads that wait for sequences."""

    def __init__(self, engine: _core.Engine, scheduler: Scheduler) -> None:
        self._engine, self._scheduler = engine, scheduler
        self._changed = threading.Condition()
        self._is_changing = False  # inside of _changing()
        self._driver: int | None = None  # the thread that is inside a step
        self._is_closed = False

    def submit(self, sequences: Iterable[Sequence]) -> None:
        """They run as soon as somebody waits.

        Raises:
            InvalidArgument: the model is closed.
        """
        with HeldInterrupt(), self._changing():
            if self._is_closed:
                raise _closed()
            self._scheduler.add(sequences)

    def advance(self) -> None:
        """One step further: runs it, or waits for the thread that runs one.

        Raises:
            KeyboardInterrupt: Ctrl-C; the step has happened whole or not at all.
        """
        with HeldInterrupt() as interrupt:
            with self._changing():
                if self._is_closed:
                    return
                self._refuse_within_step()
                if self._driver is not None:
                    with interrupt.allowed():
                        self._wait()
                    return
                self._driver = threading.get_ident()
            try:
                with self._changing():
                    step = self._scheduler.next_step()
                    copies = self._scheduler.take_copies()
                if step:
                    self._run(step, copies, interrupt)
            finally:
                with self._changing():
                    self._driver = None
                    self._scheduler.drop_finished()
                    self._changed.notify_all()

    def cancel(self, sequences: Iterable[Sequence]) -> None:
        """Ends those that are not finished; their pages are free before the next step."""
        with HeldInterrupt(), self._changed:
            unfinished = [sequence for sequence in sequences if not sequence.is_finished]
            for sequence in unfinished:
                sequence.is_cancelled = True
            if self._is_changing:
                return  # a stream was collected in the midst of a change: it only leaves word
            with self._changing():
                if unfinished:
                    self._scheduler.drop_waiting()
                if self._driver is None:
                    self._scheduler.drop_finished()

    def share(self, past: Past) -> None:
        """One conversation more goes on from it."""
        with HeldInterrupt(), self._changing():
            self._scheduler.share(past)

    def forget(self, past: Past) -> None:
        """One conversation less."""
        with HeldInterrupt(), self._changing():
            self._scheduler.forget(past)

    def abandon(self, past: Past | None, last: Sequence | None) -> None:
        """A conversation is gone that would have gone on from one of them. Takes no lock: it is
        called by a finalizer, which may run inside any other method of this loop."""
        self._scheduler.abandon(past, last)

    def read(self, past: Past) -> KeptBytes | None:
        """What its pages hold; None where it was dropped.

        Raises:
            InvalidArgument: the model is closed.
        """
        with self._between_steps():
            if past.is_dropped:
                return None
            return KeptBytes(
                ids=past.ids,
                global_pages=self._engine.read_pages("global", past.global_pages),
                first=past.first,
                sliding_pages=self._engine.read_pages("sliding", past.ring),
            )

    def restore(self, kept: KeptBytes) -> Past | None:
        """A past of what `read` gave, of a model that is the same; None where it has no room.

        Raises:
            InvalidArgument: the model is closed.
        """
        with self._between_steps():
            past = self._scheduler.reserve(kept.ids, kept.first)
            if past is None:
                return None
            skipped = past.first - kept.first
            self._engine.write_pages("global", past.global_pages, kept.global_pages)
            if past.ring.size:
                self._engine.write_pages("sliding", past.ring, kept.sliding_pages[skipped:])
            return past

    def layout(self, tokens: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Bytes of a global and of a sliding page; where the pages of so many tokens end.

        Raises:
            InvalidArgument: the model is closed.
        """
        with self._between_steps():
            page_bytes = self._engine.page_bytes("global"), self._engine.page_bytes("sliding")
            shape = self._scheduler.shape
            global_pages, _ = self._scheduler.cache.pages_for(tokens)
            return page_bytes, (global_pages, shape.end(tokens) if shape.ring_pages else 0)

    @contextmanager
    def _between_steps(self) -> Iterator[None]:
        """Nobody else uses the engine in this part."""
        with HeldInterrupt() as interrupt:
            with self._changing():
                self._refuse_within_step()
                while self._driver is not None:
                    with interrupt.allowed():
                        self._wait()
                if self._is_closed:
                    raise _closed()
                self._driver = threading.get_ident()
            try:
                yield
            finally:
                with self._changing():
                    self._driver = None
                    self._scheduler.drop_finished()
                    self._changed.notify_all()

    def close(self) -> None:
        """Ends what runs, after the step it is in, and frees the engine. Twice is fine."""
        with HeldInterrupt(), self._changing():
            if self._is_closed:
                return
            self._refuse_within_step()
            self._is_closed = True
            while self._driver is not None:
                self._wait()
            for sequence in self._scheduler.unfinished:
                sequence.finish(_closed())
            self._scheduler.drop_finished()
            self._engine.close()
            self._changed.notify_all()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """What only one thread at a time may do. Finalizers run in the midst of it all the same, on
        the thread itself, so that no lock could hold them off."""
        with self._changed:
            before, self._is_changing = self._is_changing, True
            try:
                yield
            finally:
                self._is_changing = before

    def _wait(self) -> None:
        """Lets others in until one of them has changed something."""
        self._is_changing = False
        try:
            self._changed.wait()
        finally:
            self._is_changing = True

    def _refuse_within_step(self) -> None:
        """A signal handler runs on the thread that it interrupts: waiting would be for ever."""
        if self._driver == threading.get_ident():
            raise InvalidArgument(
                "the model was called from a signal handler that interrupts its own step: raise "
                "there, or set a flag, and call it after"
            )

    @property
    def is_closed(self) -> bool:
        """After `close`."""
        return self._is_closed

    def _run(self, step: list[Slice], copies: list[PageCopy], interrupt: HeldInterrupt) -> None:
        started_s = time.monotonic()
        try:
            for copy in copies:
                self._engine.copy_pages(
                    copy.kind,
                    np.array([copy.from_page], np.int32),
                    np.array([copy.to_page], np.int32),
                )
            arguments = _arguments(step)
            with interrupt.allowed():
                result = self._engine.step(**arguments)
        except Exception as error:  # each sequence of the step has failed, and reports it
            for piece in step:
                piece.sequence.finish(error)
            return
        with self._changing():
            self._commit(step, result, started_s)

    def _commit(self, step: list[Slice], result: _core.StepResult, started_s: float) -> None:
        wish, logits_row = 0, 0
        for index, piece in enumerate(step):
            sequence = piece.sequence
            sequence.position += piece.rows
            if result.failures[index] != 0:  # cancelled or not: nobody may begin from these rows
                sequence.finish(_unreadable(sequence, piece.rows))
            if sequence.started_s is None:
                sequence.started_s = started_s
            for position in piece.wanted:
                logits = None
                if sequence.want is Want.LOGITS:
                    logits = result.logits[logits_row]
                    logits_row += 1
                if not sequence.is_over:
                    self._answer(sequence, position, result, wish, logits)
                wish += 1

    def _answer(
        self,
        sequence: Sequence,
        position: int,
        result: _core.StepResult,
        wish: int,
        logits: npt.NDArray[np.float32] | None,
    ) -> None:
        if result.status[wish] == _NOTHING_TO_DRAW:
            sequence.finish(_nothing_to_draw(sequence, position))
            return
        if result.status[wish] != 0:
            sequence.finish(_not_finite(sequence, position))
            return
        token = int(result.tokens[wish])
        answer = Answer(
            position=position,
            token=token,
            logprob=float(result.logprobs[wish]),
            best=int(result.best[wish]),
            top_ids=result.top_ids[wish, : sequence.top],
            top_logprobs=result.top_logprobs[wish, : sequence.top],
            logits=logits,
        )
        if sequence.want is Want.SAMPLE:
            sequence.append(token)
        assert sequence.consumer is not None, "a sequence that is not over has its consumer"
        try:
            if sequence.consumer.take(answer):
                sequence.finish()
        except Exception as error:  # the consumer's own failure ends its own sequence
            sequence.finish(error)


def _arguments(step: list[Slice]) -> dict[str, Any]:
    """The step as the engine takes it; rows and wishes are in the order of `step`."""
    tokens, slices, wishes, first_row = [], [], [], 0
    for piece in step:
        sequence = piece.sequence
        tokens.append(sequence.tokens[sequence.position : sequence.position + piece.rows])
        slices.append((first_row, piece.rows, sequence.position))
        for position, target in zip(piece.wanted, sequence.targets(piece.wanted), strict=True):
            row = first_row + position - sequence.position
            wishes.append((row, _WANTS[sequence.want], target))
        first_row += piece.rows
    sequences = [piece.sequence for piece in step]
    return {
        "tokens": np.concatenate(tokens),
        "slices": np.asarray(slices, np.int64),
        "global_pages": [s.global_pages for s in sequences],
        "sliding_pages": [s.sliding_pages for s in sequences],
        "wishes": np.asarray(wishes, np.int32).reshape(-1, 3),
        "sampling": [_sampling(s) for s in sequences],
        "histories": [_history(s) for s in sequences],
        "masks": [s.mask for s in sequences],
        "top": max((piece.sequence.top for piece in step if piece.wanted), default=0),
    }


def _sampling(sequence: Sequence) -> _core.SamplingArgs | None:
    s = sequence.sampling
    if s is None:
        return None
    if sequence.engine_sampling is None:
        sequence.engine_sampling = _core.SamplingArgs(
            temperature=s.temperature,
            top_k=s.top_k,
            top_p=s.top_p,
            min_p=s.min_p,
            repetition_penalty=s.repetition_penalty,
            seed=s.seed,
            banned=s.banned,
            bias_ids=s.bias_ids,
            bias_values=s.bias_values,
        )
    assert isinstance(sequence.engine_sampling, _core.SamplingArgs)
    return sequence.engine_sampling


def _history(sequence: Sequence) -> npt.NDArray[np.int32] | None:
    """Prompt and output, where they are punished for."""
    s = sequence.sampling
    return None if s is None or s.repetition_penalty == 1 else sequence.tokens[: sequence.count]


def _closed() -> InvalidArgument:
    return InvalidArgument("the model is closed: load it again")


def _unreadable(sequence: Sequence, rows: int) -> DeviceError:
    first = sequence.position - rows
    return DeviceError(
        f"positions {first} to {sequence.position - 1}: pread of a per-layer embedding row failed, "
        "expected its file as it was at load: was it cut, or is the disk failing?"
    )


def _nothing_to_draw(sequence: Sequence, position: int) -> InvalidArgument:
    if sequence.mask is not None:
        allowed = int(np.unpackbits(sequence.mask.view(np.uint8)).sum())
        return ConstraintError(
            f"position {position}: the constraint allows {allowed} tokens and each of them is "
            "banned, expected one that may be drawn: look at logit_bias and suppress_tokens"
        )
    return InvalidArgument(
        f"position {position}: every token is banned, expected one that may be drawn: look at "
        "logit_bias and the checkpoint's suppress_tokens",
        argument="logit_bias",
    )


def _not_finite(sequence: Sequence, position: int) -> NumericalError:
    step = position + 1 - sequence.prompt_count
    return NumericalError(
        f"position {position}: the logits hold NaN or infinity, expected finite numbers: are the "
        "weights damaged?",
        step=max(step, 0),
    )
