"""Drawing a token: against a plain NumPy version of the documented order, and its edges."""

from __future__ import annotations

import numpy as np
import pytest

from cabochon import _core
from cabochon._core import testing

NO_IDS = np.empty(0, np.int32)
NO_VALUES = np.empty(0, np.float32)


def sampling(**changes):
    options = dict(
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        min_p=0.0,
        repetition_penalty=1.0,
        seed=0,
        banned=NO_IDS,
        bias_ids=NO_IDS,
        bias_values=NO_VALUES,
    )
    return _core.SamplingArgs(**(options | changes))


def expected_survivors(logits, *, temperature, top_k, top_p, min_p):
    """(ids, probabilities) in the order of drawing: the documented filters, one after the other."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))[: top_k or None]
    weights = np.exp((logits[order].astype(np.float64) - logits[order[0]]) / temperature)
    before = np.cumsum(weights) - weights
    count = max(1, int((before < top_p * weights.sum()).sum()))
    kept = weights[:count] >= min_p * weights[0]
    kept[0] = True
    weights = weights[:count][kept]
    return np.array(order)[:count][kept], weights / weights.sum()


@pytest.mark.parametrize("vocab", [1, 2, 7, 300, 1000])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.3},
        {"top_k": 5},
        {"top_k": 300},
        {"top_p": 0.5},
        {"min_p": 0.2},
        {"temperature": 2.5, "top_k": 64, "top_p": 0.9, "min_p": 0.01},
    ],
    ids=str,
)
def test_a_drawn_token_is_the_one_that_the_uniform_number_of_its_position_picks(vocab, options):
    logits = np.random.default_rng(vocab).normal(size=vocab).astype(np.float32) * 3
    full = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0} | options
    ids, probabilities = expected_survivors(logits, **full)
    edges = np.cumsum(probabilities)

    for position in range(50):
        drawn = testing.draw(logits, sampling(**options, seed=99), NO_IDS, position)

        number = testing.uniform(99, position)
        # At an edge the float64 sums of the two versions may round apart.
        if np.abs(edges - number).min() > 1e-12:
            assert drawn == ids[np.searchsorted(edges, number, side="right")]


def test_temperature_zero_takes_the_largest_logit_and_of_equal_ones_the_lowest_id():
    logits = np.array([1.0, 5.0, 5.0, -2.0], np.float32)

    assert testing.draw(logits, sampling(temperature=0.0), NO_IDS, 0) == 1


def test_a_banned_token_is_never_drawn_and_a_bias_moves_the_choice():
    logits = np.array([1.0, 5.0, 4.0, -2.0], np.float32)
    banned = np.array([1], np.int32)

    assert testing.draw(logits, sampling(temperature=0.0, banned=banned), NO_IDS, 0) == 2
    biased = sampling(
        temperature=0.0, bias_ids=np.array([3], np.int32), bias_values=np.array([9.0], np.float32)
    )
    assert testing.draw(logits, biased, NO_IDS, 0) == 3


def test_when_every_token_is_banned_nothing_is_drawn():
    banned = np.arange(3, dtype=np.int32)

    for temperature in (0.0, 1.0):
        args = sampling(temperature=temperature, banned=banned)
        assert testing.draw(np.zeros(3, np.float32), args, NO_IDS, 0) == -1


def test_the_repetition_penalty_counts_a_repeated_token_once_and_pushes_both_signs_down():
    logits = np.array([2.0, 1.5, -1.0], np.float32)
    history = np.array([0, 0, 0, 2], np.int32)

    # 2.0 / 1.2 is still above 1.5; divided three times it would not be.
    assert testing.draw(logits, sampling(temperature=0.0, repetition_penalty=1.2), history, 0) == 0
    assert testing.draw(logits, sampling(temperature=0.0, repetition_penalty=1.5), history, 0) == 1
    # A negative logit is multiplied: -1.0 becomes -2.0 and loses to -1.5.
    negative = np.array([-1.5, -9.0, -1.0], np.float32)
    args = sampling(temperature=0.0, repetition_penalty=2.0)
    assert testing.draw(negative, args, np.array([2], np.int32), 0) == 0


def test_a_tiny_temperature_is_greedy_and_does_not_overflow():
    logits = np.array([3.0, 29.0, 28.0], np.float32)

    assert testing.draw(logits, sampling(temperature=1e-30), NO_IDS, 7) == 1


@pytest.mark.parametrize("k", [0, 1, 5, 256, 257, 999])
def test_the_largest_entries_come_by_logit_and_then_by_id(k):
    logits = np.random.default_rng(1).integers(0, 40, 999).astype(np.float32)  # many ties

    found = testing.largest(logits, k)

    order = sorted(range(999), key=lambda i: (-logits[i], i))[:k]
    assert found == [(i, float(logits[i])) for i in order]


@pytest.mark.parametrize("vocab", [255, 256, 257, 5000])
@pytest.mark.parametrize("k", [1, 2, 5, 20, 256, 300, 5000])
def test_the_largest_entries_are_found_across_blocks_of_ids_whatever_their_signs(vocab, k):
    rng = np.random.default_rng(vocab)
    choices = np.array([-np.inf, -7.5, -1e-40, -0.0, 0.0, 1e-40, 2.0, 3e38], np.float32)
    mixed = np.where(rng.random(vocab) < 0.5, rng.choice(choices, vocab), rng.normal(size=vocab))
    negative, equal = -rng.integers(1, 500, vocab), np.full(vocab, -2)

    # Few entries above 0: ties of whole blocks, in many orders.
    rare = [np.where(rng.random(vocab) < 0.002, rng.integers(1, 4, vocab), 0) for _ in range(20)]

    for logits in [x.astype(np.float32) for x in (mixed, negative, equal, *rare)]:
        found = testing.largest(logits, k)

        order = sorted(range(vocab), key=lambda i: (-logits[i], i))[:k]
        assert found == [(i, float(logits[i])) for i in order]


@pytest.mark.parametrize("temperature", [0.0, 1e-9])
@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"top_k": 700}], ids=str)
def test_changed_logits_are_drawn_from_wherever_they_stand(temperature, options):
    rng = np.random.default_rng(3)
    for _ in range(40):
        logits = rng.normal(size=1500).astype(np.float32) * 3
        order = np.argsort(-logits).astype(np.int32)
        banned, biased = order[: rng.integers(0, 9)], rng.permutation(order)[:5]
        history = np.repeat(order[: rng.integers(0, 20)], 2)
        values = rng.normal(size=5).astype(np.float32) * 6
        args = sampling(temperature=temperature, banned=banned, bias_ids=biased, bias_values=values,
                        repetition_penalty=1.5, **options)  # fmt: skip

        drawn = testing.draw(logits, args, history, 0)

        expected = logits.copy()
        expected[banned] = -np.inf
        expected[biased] += values
        seen = np.unique(history)
        low = expected[seen] < 0
        expected[seen] = np.where(low, expected[seen] * np.float32(1.5), expected[seen] / 1.5)
        assert drawn == np.argmax(expected)


def test_random_numbers_are_those_of_the_published_generator():
    # Known answers of Philox 4x32-10 (Random123, kat_vectors).
    assert testing.philox(0, [0, 0, 0, 0]) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    everything = 2**32 - 1
    assert testing.philox(2**64 - 1, [everything] * 4) == [
        0x408F276D,
        0x41C83B0E,
        0xA20BC7C6,
        0x6D5451FD,
    ]


def test_uniform_numbers_fill_zero_to_one_and_differ_by_seed_and_position():
    numbers = np.array([[testing.uniform(s, p) for p in range(500)] for s in range(4)])

    assert (numbers >= 0).all() and (numbers < 1).all()
    assert len(np.unique(numbers)) == numbers.size
    # The mean of 2,000 uniform numbers has a standard deviation of 0.0065.
    assert abs(numbers.mean() - 0.5) < 5 * 0.0065
