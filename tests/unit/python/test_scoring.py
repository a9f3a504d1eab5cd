"""What is computed for continuations of one prompt, and windows over a long text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cabochon.scheduler.scheduler import Scheduler
from cabochon.scoring import Pair, Scoring, windows
from cabochon.trie import Trie, sort_key
from fake_engine import PAGE, FakeEngine, likelihood, numbers_of

# Few ids, so that they begin alike; some beyond 16 and 31 bits, which sort like all others.
IDS = st.sampled_from([0, 1, 2, 255, 256, 70_000, 2**31 - 1])
AFTERS = st.lists(st.lists(IDS, min_size=1, max_size=6), min_size=1, max_size=12)


def arrays(afters: list[list[int]]) -> list[np.ndarray]:
    keyed = {sort_key(ids): ids for ids in (np.array(after, np.int32) for after in afters)}
    return [keyed[key] for key in sorted(keyed)]


def walk(trie: Trie, size: int) -> tuple[list[tuple[int, ...]], list[tuple[tuple[int, ...], int]]]:
    """Computes a trie as a sequence would: what stands before each row of logits, and before each
    target with it, in the order they come in."""
    known: list[int] = []
    rows: list[tuple[int, ...]] = []
    edges: list[tuple[tuple[int, ...], int]] = []
    for run in trie.runs:
        assert run.begin <= len(known), "it begins behind what is computed"
        assert run.after[: run.begin].tolist() == known[: run.begin], "other tokens stand before it"
        known = run.after[: run.end].tolist()
        asked, targets = trie.asked(run, size)
        assert asked.size == targets.size
        assert (np.diff(asked) >= 0).all()
        rows += [tuple(known[: row - size + 1]) for row in np.unique(asked).tolist()]
        edges += [
            (tuple(known[: row - size + 1]), token)
            for row, token in zip(asked.tolist(), targets.tolist(), strict=True)
        ]
    return rows, edges


@given(AFTERS, st.integers(1, 5))
def test_every_row_is_computed_once_and_every_continuation_goes_along_its_own(
    afters: list[list[int]], size: int
) -> None:
    given_ids = arrays(afters)

    trie = Trie(given_ids)

    rows, edges = walk(trie, size)
    prefixes = {tuple(after[:n]) for after in afters for n in range(len(after))}
    assert sorted(rows) == sorted(prefixes)
    asked = {(tuple(after[:n]), after[n]) for after in afters for n in range(len(after))}
    assert len(edges) == len(asked) and set(edges) == asked
    for ids, along in zip(given_ids, trie.edges, strict=True):
        after = ids.tolist()
        expected = [(tuple(after[:n]), after[n]) for n in range(len(after))]
        assert [edges[edge] for edge in along] == expected


def pair(before: list[int], after: list[int]) -> Pair:
    return Pair(before=np.array(before, np.int32), after=np.array(after, np.int32), num_bytes=None)


@st.composite
def asked(draw: st.DrawFn) -> list[list[Pair]]:
    """Prompts that begin alike, with continuations that do; some go on for more than a chunk."""
    shared = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 90, 500).tolist()
    cut = st.sampled_from([1, 5, 63, 64, 65, 130, 200])
    length = st.sampled_from([0, 1, 2, 3, 70, 255, 256, 257, 300])
    ends = st.lists(st.integers(0, 2), max_size=3)
    return [
        [
            pair([*shared[:size], *end], [*shared[size : size + draw(length)], *draw(ends)])
            for _ in range(draw(st.integers(1, 5)))
        ]
        for size, end in draw(st.lists(st.tuples(cut, ends), min_size=1, max_size=6))
    ]


@settings(max_examples=60, deadline=None)
@given(
    asked=asked(),
    sequences=st.integers(1, 4),
    spare=st.integers(0, 20),
    is_reusing=st.booleans(),
    chunk=st.sampled_from([16, 64, 256]),
    interrupts=st.randoms(),
)
def test_whatever_is_asked_each_answer_is_that_of_its_own_ids_and_all_pages_come_back(
    asked: list[list[Pair]],
    sequences: int,
    spare: int,
    is_reusing: bool,
    chunk: int,
    interrupts: Any,
) -> None:
    """The fake engine fails where a row does not find what stands before it. There are few pages
    beyond those of the longest: who began last is put back again and again."""
    window, most = 100, max(p.before.size + p.after.size for pairs in asked for p in pairs)
    ring = -(-(window + 256) // PAGE) + 1
    scheduler = Scheduler(
        max_rows=256,
        max_sequences=sequences,
        global_pages=-(-most // PAGE) + spare,
        sliding_pages=ring + spare,
        ring_pages=ring,
        page_positions=PAGE,
        window=window,
    )
    scheduler.cache.is_reusing, scheduler.chunk_tokens = is_reusing, chunk
    engine = FakeEngine(scheduler)
    scoring = Scoring(asked)
    scheduler.add(scoring.sequences)

    while engine.step(is_interrupted=interrupts.random() < 0.2) or scheduler.unfinished:
        pass

    check(asked, scoring)
    scheduler.drop_finished()
    engine.check_all_pages_are_free_without_pasts()


def engine_of(*, sequences: int, pages: int, window: int = 0) -> FakeEngine:
    ring = -(-(window + 256) // PAGE) + 1 if window else 0
    return FakeEngine(
        Scheduler(
            max_rows=256,
            max_sequences=sequences,
            global_pages=pages,
            sliding_pages=sequences * ring,
            ring_pages=ring,
            page_positions=PAGE,
            window=window,
        )
    )


def check(asked: list[list[Pair]], scoring: Scoring) -> None:
    """Every answer is what the fake engine says of those ids."""
    for pairs, scores in zip(asked, scoring.results(is_list=True), strict=True):
        for one, score in zip(pairs, scores.scores, strict=True):
            ids, size = [*one.before.tolist(), *one.after.tolist()], one.before.size
            before = numbers_of(ids)[size - 1 : -1]
            expected = [likelihood(n, t) for n, t in zip(before, one.after.tolist(), strict=True)]
            assert score.logprobs.tolist() == expected


def test_a_sequence_that_is_put_back_within_a_branch_answers_everything_once() -> None:
    """Two that fit alone and not together: the younger gives way where it needs another page."""
    prompts = [list(range(40)), list(range(50, 90))]
    afters = [[1, 2, 3], [7, *range(150)], [7, *range(10, 150)], [8, *range(120)], [9, 9]]
    asked = [[pair(prompt, after) for after in afters] for prompt in prompts]
    engine = engine_of(sequences=2, pages=5)
    engine.scheduler.chunk_tokens = 16
    scoring = Scoring(asked)
    engine.scheduler.add(scoring.sequences)
    back: list[int] = []
    put_back = engine.scheduler._put_back
    engine.scheduler._put_back = lambda s: (back.append(s.position), put_back(s))  # type: ignore[assignment, func-returns-value, misc]

    engine.run()

    assert max(back) > 64, "none was put back in the middle of a branch"
    check(asked, scoring)


@pytest.mark.parametrize("sequences", [1, 2])
def test_a_sequence_turns_back_no_further_than_its_ring_reaches_step_by_step_either(
    sequences: int,
) -> None:
    """Each departs less than a chunk before the end of the last, and the third 480 tokens before
    the furthest: the ring has come round there. Where two run, the second begins from a past that
    the first left for it, and turns back to before that."""
    base = [i % 90 for i in range(1000)]
    asked = [[pair([1, 2], [*base[:at], 95, 95]) for at in (1000, 760, 520, 280, 40)]]
    engine = engine_of(sequences=sequences, pages=40, window=100)
    scoring = Scoring(asked)
    engine.scheduler.add(scoring.sequences)

    engine.run()

    check(asked, scoring)
    engine.check_all_pages_are_free_without_pasts()


# A past is kept where a step ends, and where further steps follow before it goes back.
@pytest.mark.parametrize(("chunk", "end"), [(256, 150), (64, 300)])
@pytest.mark.parametrize("window", [0, 100])
def test_who_begins_within_a_continuation_of_another_does_so_before_that_one_turns_back(
    window: int, chunk: int, end: int
) -> None:
    """The past that is kept there shares pages with a sequence that goes back and writes them."""
    base = list(range(300))
    asked = [
        [pair(base[:50], base[50:end]), *(pair(base[:50], [90, 91, i]) for i in range(9))],
        [pair(base[:140], [95, 96])],
    ]
    engine = engine_of(sequences=2, pages=20, window=window)
    engine.scheduler.chunk_tokens = chunk
    scoring = Scoring(asked)
    first, second = scoring.sequences
    engine.scheduler.add(scoring.sequences)

    while first.count == end - 1:
        engine.step()

    assert second.cached == 139
    engine.run()
    assert engine.computed == (end - 1) + 2 + 2
    check(asked, scoring)
    engine.check_all_pages_are_free_without_pasts()


def test_prompts_that_begin_alike_run_together_whatever_the_order_they_come_in() -> None:
    """There is room for what one preamble leaves, and not for both."""
    preambles = [list(range(256)), list(range(1, 257))]
    asked = [[pair([*preambles[i % 2], 300 + i], [1])] for i in range(12)]
    engine = engine_of(sequences=1, pages=7)
    scoring = Scoring(asked)
    engine.scheduler.add(scoring.sequences)

    engine.run()

    assert engine.computed == 2 * 256 + 12
    check(asked, scoring)


@given(st.lists(st.lists(IDS, max_size=5), max_size=20))
def test_the_order_of_computing_is_that_of_the_ids(lists: list[list[int]]) -> None:
    by_key = sorted(lists, key=lambda ids: sort_key(np.array(ids, np.int32)))

    assert by_key == sorted(lists)


@given(st.integers(0, 50), st.integers(2, 20))
def test_windows_begin_with_bos_predict_every_token_once_and_are_full(
    count: int, context: int
) -> None:
    ids = np.arange(100, 100 + count, dtype=np.int32)

    found = windows(ids, bos=np.array([2], np.int32), context=context)

    assert np.concatenate([after for _, after in found]).tolist() == ids.tolist()
    for before, after in found:
        whole = np.concatenate([before, after])
        assert whole[0] == 2
        assert whole.size == min(context, 1 + count)
        assert (np.diff(whole[1:]) == 1).all(), "a window is a part of the text"
    assert all(before.size == 1 for before, _ in found[:-1])
    assert all(after.size > 0 for _, after in found) or count == 0


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, [([2], [])]),
        (3, [([2], [10, 11, 12])]),
        (4, [([2], [10, 11, 12]), ([2, 11, 12], [13])]),
        (6, [([2], [10, 11, 12]), ([2], [13, 14, 15])]),
    ],
)
def test_windows_of_four_tokens(count: int, expected: list[tuple[list[int], list[int]]]) -> None:
    ids = np.arange(10, 10 + count, dtype=np.int32)

    found = windows(ids, bos=np.array([2], np.int32), context=4)

    assert [(before.tolist(), after.tolist()) for before, after in found] == expected
