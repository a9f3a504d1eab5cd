"""Whoever comes, shares, waits, is put back or leaves: every row reads what a run alone would.

The engine is a fake that checks each read and each write (fake_engine.py); what must be drawn is
found without a scheduler. CANCELLED_REQUESTS sets how many come and go in the storm.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cabochon.scheduler.scheduler import Scheduler
from cabochon.scheduler.sequence import Sequence, Want
from fake_engine import PAGE, FakeEngine, Noted, numbers_of, written_after

STORM = int(os.environ.get("CANCELLED_REQUESTS", "2000"))
WINDOW = 40
TEXTS = [np.random.default_rng(seed).integers(0, 90, 400).tolist() for seed in range(3)]


@dataclass(frozen=True)
class Request:
    """A prompt that begins as a text, what is wanted of it, and what becomes of it."""

    text: int
    shared: int
    own: int
    output: int
    want: str
    variant: str
    begins: int  # in which step
    fate: str
    after: int  # steps

    @property
    def prompt(self) -> list[int]:
        # Own ids of three kinds, so that some go on alike.
        return TEXTS[self.text][: self.shared] + [90 + self.own % 3] * self.own

    def sequence(self) -> Sequence:
        prompt = np.array(self.prompt, np.int32)
        if self.want == "sample":
            return Sequence(
                prompt,
                consumer=Noted(self.output),
                want=Want.SAMPLE,
                limit=prompt.size + self.output,
                variant=self.variant,
                keeps=self.fate == "keep",
            )
        return Sequence(
            prompt,
            consumer=Noted(self.rows.size),
            want=Want(self.want),
            limit=prompt.size,
            rows=self.rows,
            variant=self.variant,
        )

    @property
    def rows(self) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        size = len(self.prompt)
        return np.arange(max(0, size - 1 - self.output), max(1, size - 1), dtype=np.int32)

    def expected(self) -> list[int]:
        if self.want == "sample":
            return written_after(self.prompt, self.output, self.variant)
        every = numbers_of(self.prompt, self.variant)
        return [every[row] % 97 for row in self.rows.tolist()]


requests = st.builds(
    Request,
    text=st.integers(0, 2),
    shared=st.integers(0, 400),
    own=st.integers(1, 40),
    output=st.integers(1, 120),
    want=st.sampled_from(["sample", "sample", "target", "logits"]),
    variant=st.sampled_from(["", "", "", "adapter"]),
    begins=st.integers(0, 12),
    fate=st.sampled_from(["end", "end", "end", "keep", "cancel", "fail", "interrupt"]),
    after=st.integers(0, 30),
)


@settings(max_examples=100, deadline=None)
@given(
    many=st.lists(requests, min_size=1, max_size=14),
    sequences=st.integers(1, 6),
    pages=st.integers(9, 30),
    rings=st.integers(1, 4),
    spare=st.integers(0, 4),
    rows=st.sampled_from([64, 100, 256]),
    chunk=st.sampled_from([1, 7, 64, 256]),
    is_reusing=st.booleans(),
)
def test_every_row_reads_what_a_run_alone_would_and_no_page_is_lost(
    many: list[Request],
    sequences: int,
    pages: int,
    rings: int,
    spare: int,
    rows: int,
    chunk: int,
    is_reusing: bool,
) -> None:
    ring = -(-(WINDOW + rows) // PAGE) + 1
    engine = FakeEngine(
        Scheduler(
            max_rows=rows,
            max_sequences=sequences,
            global_pages=pages,
            sliding_pages=rings * ring + spare,
            ring_pages=ring,
            page_positions=PAGE,
            window=WINDOW,
        )
    )
    engine.scheduler.chunk_tokens = chunk
    engine.scheduler.cache.is_reusing = is_reusing
    waiting = [(request, request.sequence()) for request in many]
    consumers = [sequence.consumer for _, sequence in waiting]
    all_sequences = [sequence for _, sequence in waiting]
    turns = 0
    while waiting or engine.scheduler.unfinished:
        begun = [item for item in waiting if item[0].begins <= turns]
        waiting = [item for item in waiting if item[0].begins > turns]
        engine.scheduler.add(sequence for _, sequence in begun)
        is_interrupted = False
        for request, sequence in zip(many, all_sequences, strict=True):
            if sequence.is_over or turns != request.begins + request.after:
                continue
            is_interrupted |= request.fate == "interrupt"
            if request.fate == "cancel":
                sequence.is_cancelled = True
                engine.scheduler.drop_waiting()
            elif request.fate == "fail" and sequence.is_running:
                sequence.finish(ValueError("it was to fail"))
        engine.step(is_interrupted=is_interrupted)
        turns += 1
        engine.scheduler.drop_finished()
        assert turns < 20_000, "nobody gets on"

    for request, sequence, consumer in zip(many, all_sequences, consumers, strict=True):
        expected = request.expected()
        if sequence.is_cancelled or sequence.error is not None:
            expected = expected[: len(consumer.tokens)]
        else:
            assert sequence.is_finished
        assert consumer.tokens == expected
        assert is_reusing or sequence.cached == 0
        if sequence.left is not None and not sequence.left.is_dropped:
            assert sequence.left.ids.tolist() == sequence.tokens[: sequence.left.ids.size].tolist()
    engine.check_all_pages_are_free_without_pasts()


def test_after_a_storm_of_cancellations_all_pages_are_free_and_survivors_are_right() -> None:
    rng = random.Random(4)
    ring = -(-(WINDOW + 256) // PAGE) + 1
    engine = FakeEngine(
        Scheduler(
            max_rows=256,
            max_sequences=24,
            global_pages=100,
            sliding_pages=12 * ring,
            ring_pages=ring,
            page_positions=PAGE,
            window=WINDOW,
        )
    )
    alive: list[tuple[Sequence, list[int], int, int]] = []  # with prompt, output, when it leaves
    begun = survivors = cancelled = waited = 0
    while begun < STORM or alive:
        new = min(64 - len(alive), STORM - begun)
        for _ in range(new):
            shared = rng.choice([0, 10, 70, 128, 300])
            prompt = TEXTS[rng.randrange(3)][:shared]
            prompt += [rng.randrange(97) for _ in range(rng.randint(1, 40))]
            output = rng.randint(1, 40)
            sequence = Sequence(
                np.array(prompt, np.int32),
                consumer=Noted(output),
                want=Want.SAMPLE,
                limit=len(prompt) + output,
            )
            leaves = engine.steps + rng.randint(0, 60) if rng.random() < 0.5 else -1
            alive.append((sequence, prompt, output, leaves))
            engine.scheduler.add([sequence])
        begun += new
        step = engine.step()
        assert step
        for sequence, _, _, leaves in alive:
            if 0 <= leaves <= engine.steps and not sequence.is_over:
                waited += not sequence.is_running
                cancelled += 1
                sequence.is_cancelled = True
        engine.scheduler.drop_waiting()
        engine.scheduler.drop_finished()
        for sequence, prompt, output, _ in alive:
            if sequence.is_finished:
                survivors += 1
                drawn = sequence.tokens[len(prompt) :].tolist()
                assert drawn == written_after(prompt, output)
        alive = [item for item in alive if not item[0].is_over]

    assert survivors + cancelled == STORM
    assert survivors > STORM / 3
    assert waited > STORM / 50  # some left before they began
    engine.check_all_pages_are_free_without_pasts()
