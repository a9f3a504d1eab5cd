"""Prompts that begin alike: what they share is computed once, and nobody reads anything else."""

from __future__ import annotations

import numpy as np
import pytest

from cabochon.scheduler.scheduler import Scheduler
from cabochon.scheduler.sequence import Answer, Sequence, Want
from fake_engine import PAGE, FakeEngine

WINDOW = 40


class Counting:
    """Wants a number of answers, and remembers them."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.answers = wanted, list[tuple[int, int]]()

    def take(self, answer: Answer) -> bool:
        self.answers.append((answer.position, answer.token))
        return len(self.answers) == self.wanted


def engine_of(*, sequences: int = 4, pages: int = 200, rows: int = 256) -> FakeEngine:
    ring = -(-(WINDOW + rows) // PAGE) + 1
    return FakeEngine(
        Scheduler(
            max_rows=rows,
            max_sequences=sequences,
            global_pages=pages,
            sliding_pages=sequences * ring,
            ring_pages=ring,
            page_positions=PAGE,
            window=WINDOW,
        )
    )


def asking(ids: list[int], output: int = 5, **options: object) -> Sequence:
    return Sequence(
        np.array(ids, np.int32),
        consumer=Counting(output),
        want=Want.SAMPLE,
        limit=len(ids) + output,
        **options,  # type: ignore[arg-type]
    )


def scoring(prompt: list[int], continuation: list[int]) -> Sequence:
    """Wants the log-probability of each id of the continuation."""
    count = len(prompt) + len(continuation)
    return Sequence(
        np.array(prompt + continuation, np.int32),
        consumer=Counting(len(continuation)),
        want=Want.TARGET,
        limit=count,
        rows=np.arange(len(prompt) - 1, count - 1, dtype=np.int32),
    )


def text(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng([count, seed]).integers(0, 90, count).tolist()


@pytest.mark.parametrize("size", [17, 63, 64, 65, 200, 2000])
def test_of_continuations_that_wait_together_the_prompt_is_computed_once(size: int) -> None:
    engine, prompt = engine_of(sequences=4), text(size)
    many = [scoring(prompt, [100 + i, *range(i % 3)]) for i in range(10)]
    consumers = [sequence.consumer for sequence in many]
    engine.scheduler.add(many)

    engine.run()

    # The first computes all of its own; of the others each computes the prompt's last token, whose
    # row it wants, and its continuation. The last id of a continuation predicts nothing, and is
    # computed with it.
    assert engine.computed == size - 1 + sum(2 + i % 3 for i in range(10))
    assert [s.cached for s in many] == [0, *[size - 1] * 9]
    for i, consumer in enumerate(consumers):
        positions = [position for position, _ in consumer.answers]
        assert positions == list(range(size - 1, size + i % 3))


def test_questions_over_one_text_compute_it_once_although_few_run_together() -> None:
    engine, shared = engine_of(sequences=4), text(2000)
    many = [asking([*shared, 100 + i, *text(20, seed=i)]) for i in range(64)]
    engine.scheduler.add(many)

    engine.run()

    alone = sum(s.count - 1 for s in many)
    assert engine.computed == alone - 63 * 2000
    engine.check_all_pages_are_free_without_pasts()
