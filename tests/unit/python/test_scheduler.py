"""The scheduler with an engine that is a hash: pages, order, continuous batching."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cabochon.scheduler.pages import PagePool
from cabochon.scheduler.scheduler import LOGITS_ROWS, Scheduler, Slice
from cabochon.scheduler.sequence import Answer, Sequence, Want

PAGE = 64


class Counting:
    """Wants a number of answers."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.positions = wanted, list[int]()

    def take(self, answer: Answer) -> bool:
        self.positions.append(answer.position)
        return len(self.positions) == self.wanted


def sampling(prompt: int, output: int) -> Sequence:
    return Sequence(
        np.arange(prompt, dtype=np.int32),
        consumer=Counting(output),
        want=Want.SAMPLE,
        limit=prompt + output,
    )


def reading(prompt: int, rows: list[int], want: Want = Want.LOGITS) -> Sequence:
    return Sequence(
        np.arange(prompt, dtype=np.int32),
        consumer=Counting(len(rows)),
        want=want,
        limit=prompt,
        rows=np.array(rows, np.int32),
    )


def scheduler(*, sequences: int = 4, pages: int = 64, rows: int = 256) -> Scheduler:
    return Scheduler(
        max_rows=rows,
        max_sequences=sequences,
        global_pages=pages,
        sliding_pages=sequences * 3,
        ring_pages=3,
        page_positions=PAGE,
    )


def run(step: list[Slice]) -> None:
    """What the loop does after the engine has answered."""
    for piece in step:
        sequence = piece.sequence
        sequence.position += piece.rows
        for position in piece.wanted:
            if sequence.want is Want.SAMPLE:
                sequence.append(position % 7)
            none = np.empty(0, np.int32)
            answer = Answer(position, 0, 0.0, 0, none, none.astype(np.float32), None)
            if sequence.consumer is not None and sequence.consumer.take(answer):
                sequence.finish()


def test_a_page_is_never_held_twice_and_all_come_back() -> None:
    pool = PagePool(5)

    first, second = pool.allocate(3), pool.allocate(2)

    assert sorted([*first, *second]) == [0, 1, 2, 3, 4]
    assert not pool.can_allocate(1)
    pool.free(first)
    pool.free(second)
    assert pool.free_count == 5
    with pytest.raises(AssertionError, match="nobody holds it"):
        pool.free(first)


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
            assert len(set(pool.tolist())) == pool.size
        for piece in step:
            assert piece.sequence.global_pages.size * PAGE >= piece.sequence.position + piece.rows
        assert 0 < sum(piece.rows for piece in step) <= 256
        assert len(step) <= sequences
        run(step)
        steps += 1
        for sequence, (_, _, is_cancelled, when) in zip(every, requests, strict=True):
            sequence.is_cancelled |= is_cancelled and when <= steps

    assert given_pages.free_pages == (pages, sequences * 3)
    assert given_pages.unfinished == []
    for consumer, (prompt, output, is_cancelled, _) in zip(consumers, requests, strict=True):
        assert isinstance(consumer, Counting)
        expected = list(range(prompt - 1, prompt + output - 1))
        if is_cancelled:
            expected = expected[: len(consumer.positions)]
        assert consumer.positions == expected


def test_sequences_join_and_leave_from_step_to_step() -> None:
    given_two = scheduler(sequences=2)
    short, long, late = sampling(3, 1), sampling(3, 5), sampling(3, 2)
    given_two.add([short, long, late])

    first = given_two.next_step()
    run(first)
    second = given_two.next_step()

    assert [piece.sequence for piece in first] == [short, long]
    assert short.is_finished
    assert [(piece.sequence, piece.rows) for piece in second] == [(long, 1), (late, 3)]


def test_decoding_goes_first_and_prompts_fill_the_rest_in_chunks() -> None:
    given_rows = scheduler(rows=100, pages=200)
    given_rows.chunk_tokens = 64
    decoding, one, two = sampling(3, 50), sampling(200, 1), sampling(200, 1)
    given_rows.add([decoding])
    run(given_rows.next_step())
    given_rows.add([one, two])

    step = given_rows.next_step()

    assert [(piece.sequence, piece.rows) for piece in step] == [(decoding, 1), (one, 64), (two, 35)]
    assert [piece.wanted for piece in step] == [[3], [], []]


def test_a_sequence_waits_until_pages_for_all_it_may_hold_are_free() -> None:
    given_pages = scheduler(pages=4)
    first, second = sampling(1, 3 * PAGE), sampling(1, 3 * PAGE)
    given_pages.add([first, second])

    step = given_pages.next_step()

    assert [piece.sequence for piece in step] == [first]
    assert given_pages.free_pages[0] == 0
    first.is_cancelled = True
    assert [piece.sequence for piece in given_pages.next_step()] == [second]


def test_those_who_wait_keep_their_order() -> None:
    given_pages = scheduler(pages=4)
    big, bigger, small = sampling(1, 3 * PAGE), sampling(1, 3 * PAGE), sampling(1, 1)
    given_pages.add([big, bigger, small])

    step = given_pages.next_step()

    # The small one would fit into no page either; and it would not overtake if it did.
    assert [piece.sequence for piece in step] == [big]


def test_a_sequence_that_is_cancelled_while_it_waits_never_gets_pages() -> None:
    given_one = scheduler(sequences=1)
    first, second, third = sampling(1, 1), sampling(1, 1), sampling(1, 1)
    given_one.add([first, second, third])
    second.is_cancelled = True
    run(given_one.next_step())

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
        run(step)

    assert wanted == list(range(200))


def test_rows_that_nobody_wants_have_no_wish() -> None:
    given_few = scheduler()
    given_few.chunk_tokens = 7
    sequence = reading(20, [0, 6, 7, 19])
    given_few.add([sequence])

    wanted = []
    while step := given_few.next_step():
        wanted.append(step[0].wanted)
        run(step)

    assert wanted == [[0, 6], [7], [19]]


def test_a_model_whose_layers_all_slide_needs_no_global_pages() -> None:
    given_none = scheduler(pages=0)
    sequence = sampling(3, 1)
    given_none.add([sequence])

    step = given_none.next_step()

    assert step[0].sequence.global_pages.size == 0
    assert step[0].sequence.sliding_pages.size == 3
