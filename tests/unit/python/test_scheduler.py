"""The scheduler with an engine that is a hash: pages, order, continuous batching."""

from __future__ import annotations

from collections import Counter
from itertools import count, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cabochon.errors import InvalidArgument
from cabochon.scheduler.pages import PagePool, Shape
from cabochon.scheduler.past import Past
from cabochon.scheduler.scheduler import LOGITS_ROWS, OLDEST_TOKENS, Scheduler
from cabochon.scheduler.sequence import Sequence, Want
from fake_engine import PAGE, FakeEngine, Noted, answer, written_after

WINDOW = 40


ids_of_their_own = count(1000)


def unlike(prompt: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Ids that begin as no others."""
    return np.array([next(ids_of_their_own), *range(prompt - 1)], np.int32)


def sampling(prompt: int, output: int) -> Sequence:
    return Sequence(
        unlike(prompt),
        consumer=Noted(output),
        want=Want.SAMPLE,
        limit=prompt + output,
    )


def reading(prompt: int, rows: list[int], want: Want = Want.LOGITS) -> Sequence:
    return Sequence(
        unlike(prompt),
        consumer=Noted(len(rows)),
        want=want,
        limit=prompt,
        rows=np.array(rows, np.int32),
    )


def scheduler(*, sequences: int = 4, pages: int = 64, rows: int = 256) -> Scheduler:
    ring = -(-(WINDOW + rows) // PAGE) + 1
    return Scheduler(
        max_rows=rows,
        max_sequences=sequences,
        global_pages=pages,
        sliding_pages=sequences * ring,
        ring_pages=ring,
        page_positions=PAGE,
        window=WINDOW,
    )


def test_a_page_is_never_held_twice_and_all_come_back() -> None:
    pool = PagePool("global", 5)

    first, second = pool.allocate(3), pool.allocate(2)

    assert sorted([*first, *second]) == [0, 1, 2, 3, 4]
    assert pool.free_count == pool.available == 0
    pool.hold(first, is_past=True)
    pool.free(first, is_past=False)
    pool.free(second, is_past=False)
    assert (pool.free_count, pool.available) == (2, 5)
    pool.free(first, is_past=True)
    assert pool.free_count == 5
    with pytest.raises(AssertionError, match="nobody holds it"):
        pool.free(first, is_past=True)


@settings(deadline=None)
@given(
    requests=st.lists(
        st.tuples(st.integers(1, 300), st.integers(1, 200), st.booleans(), st.integers(0, 40)),
        min_size=1,
        max_size=20,
    ),
    chunk=st.sampled_from([1, 7, 64, 256]),
    sequences=st.integers(1, 5),
    pages=st.integers(8, 24),
)
def test_whatever_comes_and_goes_no_page_is_held_twice_and_all_are_free_at_the_end(
    requests: list[tuple[int, int, bool, int]], chunk: int, sequences: int, pages: int
) -> None:
    given_pages = scheduler(sequences=sequences, pages=pages)
    given_pages.chunk_tokens = chunk
    every = [sampling(prompt, output) for prompt, output, _, _ in requests]
    consumers = [sequence.consumer for sequence in every]
    given_pages.add(every)

    steps = 0
    while step := given_pages.next_step():
        held = [piece.sequence.global_pages for piece in step]
        rings = [piece.sequence.sliding_pages for piece in step]
        for pool in (np.concatenate(held), np.concatenate(rings)):
            assert len(set(pool.tolist())) == pool.size  # no two of these begin alike
        for piece in step:
            assert piece.sequence.global_pages.size * PAGE >= piece.sequence.position + piece.rows
        assert 0 < sum(piece.rows for piece in step) <= 256
        assert len(step) <= sequences
        answer(step)
        steps += 1
        for sequence, (_, _, is_cancelled, when) in zip(every, requests, strict=True):
            sequence.is_cancelled |= is_cancelled and when <= steps

    assert given_pages.available == given_pages.cache.counts
    assert given_pages.unfinished == []
    for consumer, (prompt, output, is_cancelled, _) in zip(consumers, requests, strict=True):
        assert isinstance(consumer, Noted)
        expected = list(range(prompt - 1, prompt + output - 1))
        if is_cancelled:
            expected = expected[: len(consumer.positions)]
        assert consumer.positions == expected


def test_sequences_join_and_leave_from_step_to_step() -> None:
    given_two = scheduler(sequences=2)
    short, long, late = sampling(3, 1), sampling(3, 5), sampling(3, 2)
    given_two.add([short, long, late])

    first = given_two.next_step()
    answer(first)
    second = given_two.next_step()

    assert [piece.sequence for piece in first] == [short, long]
    assert short.is_finished
    assert [(piece.sequence, piece.rows) for piece in second] == [(long, 1), (late, 3)]


def test_decoding_goes_first_and_prompts_fill_the_rest_in_chunks() -> None:
    given_rows = scheduler(rows=100, pages=200)
    given_rows.chunk_tokens = 64
    decoding, one, two = sampling(3, 50), sampling(200, 1), sampling(200, 1)
    given_rows.add([decoding])
    answer(given_rows.next_step())
    given_rows.add([one, two])

    step = given_rows.next_step()

    assert [(piece.sequence, piece.rows) for piece in step] == [(decoding, 1), (one, 64), (two, 35)]
    assert [piece.wanted for piece in step] == [[3], [], []]


def test_a_sequence_waits_until_pages_for_its_prompt_are_free() -> None:
    given_pages = scheduler(pages=4)
    first, second = sampling(3 * PAGE - 1, 1), sampling(3 * PAGE - 1, 1)
    given_pages.add([first, second])

    step = given_pages.next_step()

    assert [piece.sequence for piece in step] == [first]
    assert given_pages.available[0] == 1
    first.is_cancelled = True
    assert [piece.sequence for piece in given_pages.next_step()] == [second]


def test_a_sequence_waits_until_those_who_run_have_a_page_to_grow() -> None:
    given_pages = scheduler(pages=4)
    first, second = sampling(2 * PAGE - 1, PAGE), sampling(2 * PAGE - 1, 1)
    given_pages.add([first, second])

    step = given_pages.next_step()

    assert [piece.sequence for piece in step] == [first]
    assert given_pages.available[0] == 2  # as many as the second needs


def test_those_who_wait_keep_their_order() -> None:
    given_pages = scheduler(pages=4)
    big, bigger, small = sampling(150, 1), sampling(180, 1), sampling(1, 1)
    given_pages.add([big, bigger, small])

    step = given_pages.next_step()

    # The small one would fit.
    assert [piece.sequence for piece in step] == [big]


def test_a_sequence_that_is_cancelled_while_it_waits_never_gets_pages() -> None:
    given_one = scheduler(sequences=1)
    first, second, third = sampling(1, 1), sampling(1, 1), sampling(1, 1)
    given_one.add([first, second, third])
    second.is_cancelled = True
    answer(given_one.next_step())

    step = given_one.next_step()

    assert [piece.sequence for piece in step] == [third]


def test_full_logits_of_one_step_are_bounded() -> None:
    given_all = scheduler(pages=200)
    sequence = reading(200, list(range(200)))
    given_all.add([sequence])

    wanted = []
    while step := given_all.next_step():
        assert len(step[0].wanted) <= LOGITS_ROWS
        wanted += step[0].wanted
        answer(step)

    assert wanted == list(range(200))


def test_rows_that_nobody_wants_have_no_wish() -> None:
    given_few = scheduler()
    given_few.chunk_tokens = 7
    sequence = reading(20, [0, 6, 7, 19])
    given_few.add([sequence])

    wanted = []
    while step := given_few.next_step():
        wanted.append(step[0].wanted)
        answer(step)

    assert wanted == [[0, 6], [7], [19]]


def test_a_model_whose_layers_all_slide_needs_no_global_pages() -> None:
    given_none = scheduler(pages=0)
    sequence = sampling(3, 1)
    given_none.add([sequence])

    step = given_none.next_step()

    assert step[0].sequence.global_pages.size == 0
    assert step[0].sequence.sliding_pages.size == 1


class Talk:
    """A conversation: its ids, and what its last turn left."""

    def __init__(self, ids: list[int], past: Past | None = None) -> None:
        self.ids, self.past = ids, past
        self.sequence: Sequence | None = None

    def say(self, back: int, new: list[int], output: int) -> Sequence:
        prompt = [*self.ids[: max(0, len(self.ids) - back)], *new]
        self.sequence = Sequence(
            np.array(prompt, np.int32),
            consumer=Noted(output),
            want=Want.SAMPLE,
            limit=len(prompt) + output,
            keeps=True,
        )
        return self.sequence

    def take(self, scheduler: Scheduler) -> None:
        assert self.sequence is not None
        self.ids = self.sequence.tokens[: self.sequence.count].tolist()
        if self.sequence.left is not None:
            if self.past is not None:
                scheduler.forget(self.past)
            self.past = self.sequence.left


def talking(*, sequences: int, pages: int, ring: int = 3, spare: int = 0) -> FakeEngine:
    # A ring of 3 pages holds the window of 40, the longest chunk of 64, and a page more.
    scheduler = Scheduler(
        max_rows=64,
        max_sequences=sequences,
        global_pages=pages,
        sliding_pages=sequences * ring + spare,
        ring_pages=ring,
        page_positions=PAGE,
        window=WINDOW,
    )
    scheduler.chunk_tokens = 64
    return FakeEngine(scheduler)


def turn(engine: FakeEngine, talk: Talk, back: int, new: list[int], output: int) -> int:
    """Runs it to its end; how many tokens it did not compute again."""
    sequence = talk.say(back, new, output)
    engine.scheduler.add([sequence])
    while engine.step():
        pass
    engine.scheduler.drop_finished()
    assert sequence.is_finished
    talk.take(engine.scheduler)
    return sequence.cached


@settings(max_examples=150, deadline=None)
@given(
    turns=st.lists(
        st.tuples(
            st.integers(0, 5),  # who
            st.integers(0, 250),  # how far back the prompt departs
            st.integers(1, 150),  # new ids
            st.integers(1, 100),  # output
            st.sampled_from(
                ["say", "say", "say", "fork", "forget", "abandon", "alone", "cancel", "break"]
            ),
            st.booleans(),  # run at once, or together with the next
        ),
        min_size=1,
        max_size=14,
    ),
    sequences=st.integers(1, 3),
    pages=st.integers(8, 20),
    spare=st.sampled_from([0, 2, 5]),
)
def test_whoever_goes_on_from_whatever_past_finds_what_a_cold_run_would(
    turns: list[tuple[int, int, int, int, str, bool]], sequences: int, pages: int, spare: int
) -> None:
    engine = talking(sequences=sequences, pages=pages, spare=spare)
    scheduler = engine.scheduler
    talks = [Talk([]) for _ in range(3)]
    busy: list[Talk] = []

    def finish() -> None:
        while engine.step():
            pass
        scheduler.drop_finished()
        for talk in busy:
            assert talk.sequence is not None
            assert talk.sequence.is_over
            talk.take(scheduler)
        busy.clear()

    for who, back, new, output, what, is_alone in turns:
        talk = talks[who % len(talks)]
        if talk in busy:
            finish()
        if what == "fork":
            talks.append(Talk(list(talk.ids), talk.past))
            if talk.past is not None:
                scheduler.share(talk.past)
        elif what == "forget" and talk.past is not None:
            scheduler.forget(talk.past)
            talk.past, talk.ids = None, []
        elif what == "abandon":
            scheduler.abandon(talk.past, None)
            talk.past, talk.ids = None, []
        elif what == "alone":
            scheduler.add([sampling(new, output)])
        else:
            most = pages * PAGE - new - output
            back = max(back, len(talk.ids) - most)
            sequence = talk.say(back, [(back + i) % 11 for i in range(new)], output)
            scheduler.add([sequence])
            busy.append(talk)
            if what == "break":
                engine.step(is_interrupted=True)
            if what in ("cancel", "break"):
                engine.step()
                engine.step()
                sequence.is_cancelled = sequence.is_cancelled or not sequence.is_finished
                scheduler.drop_waiting()
        if is_alone:
            finish()
    finish()

    held = {past: past.holders for past in scheduler.cache.pasts if past.holders}
    assert held == Counter(t.past for t in talks if t.past is not None and not t.past.is_dropped)
    engine.check_all_pages_are_free_without_pasts()


def test_a_turn_computes_what_its_prompt_does_not_share_and_the_last_token() -> None:
    engine, talk = talking(sequences=2, pages=40), Talk([])
    turn(engine, talk, 0, list(range(100)), 30)
    before = engine.computed

    cached = turn(engine, talk, 0, list(range(50)), 1)

    assert cached == 129  # the last of 130 was drawn and not computed
    assert engine.computed - before == 130 + 50 - 129


def test_where_the_answer_departs_from_far_back_the_ring_of_the_prompts_end_serves() -> None:
    engine, talk = talking(sequences=2, pages=40), Talk([])
    turn(engine, talk, 0, list(range(100)), 500)

    cached = turn(engine, talk, 500, [5, 6, 7], 20)

    assert cached == 100


def test_without_room_for_that_ring_it_is_computed_from_the_start() -> None:
    engine, talk = talking(sequences=1, pages=40), Talk([])
    turn(engine, talk, 0, list(range(100)), 500)

    cached = turn(engine, talk, 500, [5, 6, 7], 20)

    assert cached == 0


def test_a_fork_shares_whole_pages_and_neither_disturbs_the_other() -> None:
    engine, talk = talking(sequences=3, pages=40), Talk([])
    turn(engine, talk, 0, list(range(300)), 20)
    scheduler = engine.scheduler
    assert talk.past is not None
    scheduler.share(talk.past)
    other = Talk(list(talk.ids), talk.past)
    before = scheduler.cache.free_pages[0]

    assert turn(engine, other, 0, [1], 10) == 319
    # Pages 0 to 3 are shared, 4 was copied; 5 is new, and once more for the past at the prompt's
    # end, which is inside of it.
    assert before - scheduler.cache.free_pages[0] == 3
    assert turn(engine, talk, 0, [2], 10) == 320  # the other has computed the last token


@pytest.mark.parametrize("is_left_before", [False, True])
def test_what_a_sequence_leaves_that_nobody_waits_for_is_no_conversations(
    is_left_before: bool,
) -> None:
    engine, talk = talking(sequences=2, pages=40), Talk([])
    scheduler = engine.scheduler
    sequence = talk.say(0, list(range(100)), 30)
    scheduler.add([sequence])
    engine.step()
    sequence.is_cancelled = True  # in the midst of that step
    if is_left_before:
        scheduler.drop_finished()
        assert sequence.left is not None

    scheduler.abandon(None, sequence)

    engine.step()
    assert [past.holders for past in scheduler.cache.pasts] == [0]
    assert (sequence.left is not None) == is_left_before


def test_an_abandoned_past_makes_room_for_one_that_is_read_from_a_file_before_any_other() -> None:
    engine = talking(sequences=3, pages=12)
    first, second = Talk([]), Talk([])
    turn(engine, first, 0, list(range(200)), 10)
    turn(engine, second, 0, list(range(7, 207)), 10)

    engine.scheduler.abandon(second.past, None)

    assert second.past.holders == 1  # whoever calls it may be in the midst of a change
    assert engine.scheduler.reserve(np.arange(8 * PAGE, dtype=np.int32), 6) is not None
    assert not first.past.is_dropped
    assert second.past.is_dropped


@pytest.mark.parametrize("first", [1, 2, 5])
def test_a_ring_serves_from_the_first_position_all_of_whose_window_it_holds(first: int) -> None:
    shape = Shape(PAGE, 3, WINDOW)
    ids, no_pages = np.arange(500, dtype=np.int32), np.empty(0, np.int32)
    past = Past(ids, (), no_pages, first, no_pages, shape)

    for position in range(1, 500):
        prompt = np.append(ids[:position], np.int32(-1))
        pages_seen = {p // PAGE for p in range(500) if position - WINDOW < p <= position}
        assert shape.first_seen(position) == min(pages_seen)
        is_whole = all(p >= first * PAGE for p in range(500) if position - WINDOW < p <= position)
        assert past.start(prompt, ()) == (position if is_whole else 0)


def test_pasts_give_way_to_who_runs_the_one_used_longest_ago_first() -> None:
    engine = talking(sequences=3, pages=12)
    first, second = Talk([]), Talk([])
    turn(engine, first, 0, list(range(200)), 10)
    turn(engine, second, 0, list(range(7, 207)), 10)

    turn(engine, Talk([]), 0, [1], 5 * PAGE)

    assert first.past is not None
    assert second.past is not None
    assert first.past.is_dropped
    assert not second.past.is_dropped


def test_a_long_prompt_holds_short_ones_up_for_no_more_than_its_share() -> None:
    engine = FakeEngine(scheduler(sequences=8, pages=200))
    long = sampling(5000, 1)
    engine.scheduler.add([long])
    engine.step()
    short = [sampling(60, 1) for _ in range(3)]
    engine.scheduler.add(short)

    step = engine.step()

    assert {piece.sequence: piece.rows for piece in step} == {long: 76, **dict.fromkeys(short, 60)}
    assert all(one.is_finished for one in short)


def test_short_prompts_that_keep_coming_do_not_hold_the_oldest_up() -> None:
    engine = FakeEngine(scheduler(sequences=8, pages=200))
    long = sampling(2000, 1)
    engine.scheduler.add([long])
    steps = 0
    while not long.is_finished and steps < 100:
        engine.scheduler.add([sampling(200, 1) for _ in range(2)])
        engine.step()
        steps += 1

    assert steps <= -(-2000 // OLDEST_TOKENS)


def test_when_pages_run_out_the_youngest_is_put_back_and_draws_the_same() -> None:
    engine = FakeEngine(scheduler(sequences=4, pages=16))
    engine.scheduler.cache.is_reusing = False
    many = [sampling(100, 300) for _ in range(4)]
    prompts = [one.tokens.tolist() for one in many]
    positions: list[list[int]] = [[] for _ in many]
    engine.scheduler.add(many)

    while engine.step():
        for one, seen in zip(many, positions, strict=True):
            seen.append(one.position)

    engine.check_all_pages_are_free_without_pasts()
    put_back = [any(b < a for a, b in pairwise(seen)) for seen in positions]
    assert put_back == [False, False, True, True]  # 7 pages each: two fit beside each other
    for one, prompt in zip(many, prompts, strict=True):
        assert one.tokens[100:].tolist() == written_after(prompt, 300)


def test_who_is_put_back_once_is_computed_twice_up_to_there_and_no_more() -> None:
    engine = FakeEngine(scheduler(sequences=2, pages=10))
    old, young = sampling(100, 300), sampling(100, 300)
    engine.scheduler.add([old, young])

    engine.run()

    assert engine.computed == 2 * 399 + 5 * PAGE  # each held five of the ten pages


def test_rows_that_were_answered_are_not_asked_for_again_after_it_was_put_back() -> None:
    engine = FakeEngine(scheduler(sequences=2, pages=12, rows=64))
    engine.scheduler.cache.is_reusing = False
    old = sampling(64, 500)
    young = reading(190, list(range(20, 190)), Want.TARGET)
    consumer = young.consumer
    engine.scheduler.add([old, young])
    engine.step()
    engine.step()
    assert 0 < len(consumer.positions) < 170
    engine.scheduler._put_back(young)

    engine.run()

    assert consumer.positions == list(range(20, 190))


def test_who_came_first_is_first_again_after_it_was_put_back() -> None:
    given_two = scheduler(sequences=2)
    first, second, third = sampling(3, 9), sampling(3, 9), sampling(3, 9)
    given_two.add([first, second, third])
    answer(given_two.next_step())

    given_two._put_back(second)
    step = given_two.next_step()

    assert [piece.sequence for piece in step] == [first, second]


def test_what_can_never_fit_is_refused_with_all_that_came_with_it() -> None:
    given_pages = scheduler(pages=4)

    with pytest.raises(InvalidArgument, match=r"257 tokens takes 5 global and 5 sliding pages"):
        given_pages.add([sampling(1, 1), sampling(200, 57)])

    assert given_pages.unfinished == []
