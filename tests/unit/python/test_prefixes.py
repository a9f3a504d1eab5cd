"""Prompts that begin alike: what they share is computed once, and nobody reads anything else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cabochon.scheduler.scheduler import Scheduler
from cabochon.scheduler.sequence import Sequence, Want
from cabochon.scheduler.waiting import MOST_FOLLOWERS
from fake_engine import PAGE, FakeEngine, Noted, written_after

WINDOW = 40


def engine_of(
    *, sequences: int = 4, pages: int = 200, rows: int = 256, window: int = WINDOW, spare: int = 0
) -> FakeEngine:
    ring = -(-(window + rows) // PAGE) + 1 if window else 0
    return FakeEngine(
        Scheduler(
            max_rows=rows,
            max_sequences=sequences,
            global_pages=pages,
            sliding_pages=sequences * ring + spare,
            ring_pages=ring,
            page_positions=PAGE,
            window=window,
        )
    )


def asking(ids: list[int], output: int = 5, **options: Any) -> Sequence:
    return Sequence(
        np.array(ids, np.int32),
        consumer=Noted(output),
        want=Want.SAMPLE,
        limit=len(ids) + output,
        **options,
    )


def scoring(prompt: list[int], continuation: list[int]) -> Sequence:
    """Wants the log-probability of each id of the continuation."""
    count = len(prompt) + len(continuation)
    return Sequence(
        np.array(prompt + continuation, np.int32),
        consumer=Noted(len(continuation)),
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
        assert consumer.positions == list(range(size - 1, size + i % 3))


def test_questions_over_one_text_compute_it_once_although_few_run_together() -> None:
    engine, shared = engine_of(sequences=4), text(2000)
    many = [asking([*shared, 100 + i, *text(20, seed=i)]) for i in range(64)]
    engine.scheduler.add(many)

    engine.run()

    alone = sum(s.count - 1 for s in many)
    assert engine.computed == alone - 63 * 2000
    engine.check_all_pages_are_free_without_pasts()


def test_a_prompt_that_comes_again_computes_its_last_token_alone() -> None:
    engine = engine_of()
    for expected in (0, 299, 299):
        again = asking(text(300))
        engine.scheduler.add([again])
        engine.run()
        assert again.cached == expected


def test_a_conversation_goes_on_where_its_answer_ended_whoever_asks() -> None:
    engine = engine_of()
    first = asking(text(300), output=30)
    engine.scheduler.add([first])
    engine.run()

    second = asking([*first.tokens.tolist(), 1, 2, 3])
    engine.scheduler.add([second])
    engine.run()

    assert second.cached == 329  # the last of 330 was drawn and not computed


def test_a_beginning_that_comes_in_one_call_after_another_is_computed_twice_and_no_more() -> None:
    engine, system = engine_of(), text(1000)
    cached = []
    for i in range(4):
        one = asking([*system, *text(500, seed=i)], output=100)
        engine.scheduler.add([one])
        engine.run()
        cached.append(one.cached)

    assert cached == [0, 0, 960, 960]  # whole pages of it


def test_rows_that_are_wanted_are_computed_and_what_lies_before_them_is_not() -> None:
    engine, prompt = engine_of(), text(500)
    engine.scheduler.add([asking(prompt)])
    engine.run()

    def reading(rows: list[int]) -> Sequence:
        return Sequence(
            np.array(prompt, np.int32),
            consumer=Noted(len(rows)),
            want=Want.LOGITS,
            limit=500,
            rows=np.array(rows, np.int32),
        )

    every, some = reading(list(range(500))), reading([470, 499])
    engine.scheduler.add([every])
    engine.run()
    engine.scheduler.add([some])
    engine.run()

    assert (every.cached, some.cached) == (0, 470)


def test_equal_ids_of_another_variant_share_nothing() -> None:
    engine = engine_of()
    assert hash(-1) == hash(-2)
    many = [asking(text(300), variant=variant) for variant in ((), -1, -2, -1)]
    consumers = [one.consumer for one in many]
    for one in many:
        engine.scheduler.add([one])
        engine.run()

    assert [one.cached for one in many] == [0, 0, 0, 299]
    for one, consumer in zip(many, consumers, strict=True):
        assert consumer.tokens == written_after(text(300), 5, one.variant)


def test_without_reuse_every_prompt_is_computed_whole() -> None:
    engine = engine_of()
    engine.scheduler.cache.is_reusing = False
    many = [asking(text(300)) for _ in range(6)]
    engine.scheduler.add(many)

    engine.run()

    assert engine.computed == 6 * (300 + 4)
    assert list(engine.scheduler.cache.pasts) == []


@pytest.mark.parametrize("window", [0, 1, 40, 64, 65, 200])
def test_a_beginning_is_shared_whatever_the_window(window: int) -> None:
    engine = engine_of(window=window)
    many = [asking([*text(333), 100 + i], output=70) for i in range(9)]
    consumers = [one.consumer for one in many]
    engine.scheduler.add(many)

    engine.run()

    assert [one.cached for one in many] == [0, *[333] * 8]
    for i, consumer in enumerate(consumers):
        assert consumer.tokens == written_after([*text(333), 100 + i], 70)
    engine.check_all_pages_are_free_without_pasts()


def test_whoever_waits_for_one_that_is_cancelled_goes_on_with_what_it_computed() -> None:
    engine, shared = engine_of(rows=64), text(1000)
    leader, *others = [asking([*shared, 100 + i]) for i in range(5)]
    engine.scheduler.add([leader, *others])
    engine.step()
    engine.step()

    leader.is_cancelled = True
    engine.run()

    assert all(one.is_finished for one in others)
    assert [one.cached for one in others] == [128, 1000, 1000, 1000]
    assert engine.computed == 128 + (1000 - 128 + 1 + 4) + 3 * 5


def test_whoever_waits_may_be_cancelled() -> None:
    engine, shared = engine_of(rows=64), text(1000)
    leader, second, third = [asking([*shared, 100 + i]) for i in range(3)]
    engine.scheduler.add([leader, second, third])
    engine.step()
    assert engine.scheduler.unfinished == [leader, second, third]

    second.is_cancelled = True
    engine.scheduler.drop_waiting()
    assert engine.scheduler.unfinished == [leader, third]
    engine.run()

    assert third.is_finished
    assert not second.is_finished
    engine.check_all_pages_are_free_without_pasts()


def test_prompts_that_share_little_do_not_wait_for_each_other() -> None:
    engine = engine_of()
    # 16 of 100 tokens: less than a page, and less than half.
    engine.scheduler.add([asking([*text(16), 100 + i, *text(83, seed=i)]) for i in range(4)])

    step = engine.step()

    assert len(step) == 3  # 256 rows
    assert sum(piece.rows for piece in step) == 256


def test_what_others_wait_to_begin_from_does_not_give_way_to_them() -> None:
    # Pages for two rings and a bit: each of those who run fills a ring with its answer.
    engine, shared = engine_of(sequences=2, pages=60), text(640)
    many = [asking([*shared, 100 + i], output=500) for i in range(8)]
    engine.scheduler.add(many)

    engine.run()

    assert sum(one.cached > 0 for one in many) == 7
    engine.check_all_pages_are_free_without_pasts()


def test_one_that_fails_leaves_nothing_to_begin_from() -> None:
    engine = engine_of()
    failing = asking(text(300), output=9, keeps=True)
    engine.scheduler.add([failing])
    engine.step()
    engine.step()
    failing.finish(ValueError("what it computed may be wrong"))
    engine.step()

    again = asking(text(300))
    engine.scheduler.add([again])
    engine.run()

    assert failing.left is None
    assert again.cached == 0


def test_what_was_used_longest_ago_gives_way_first() -> None:
    engine = engine_of(sequences=1, pages=16, spare=20)
    for seed in (1, 2, 1):
        engine.scheduler.add([asking(text(200, seed))])
        engine.run()

    engine.scheduler.add([asking(text(600, 3))])  # 10 pages: there is no room for both
    engine.run()

    again, other = asking(text(200, 1)), asking(text(200, 2))
    engine.scheduler.add([again])
    engine.run()
    engine.scheduler.add([other])
    engine.run()
    assert (again.cached, other.cached) == (199, 0)


def test_of_many_that_wait_for_one_only_so_many_are_looked_at_at_once() -> None:
    engine, shared = engine_of(), text(300)
    many = [asking([*shared, 100 + i], output=1) for i in range(2 * MOST_FOLLOWERS)]
    engine.scheduler.add(many)

    engine.step()
    assert len(engine.scheduler._waiting._followers) == MOST_FOLLOWERS
    engine.run()

    assert [one.cached for one in many] == [0, *[300] * (len(many) - 1)]
