"""What is computed for continuations of one prompt, and windows over a long text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cabochon.scoring import Trie, sort_key, windows

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
