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


# --- masks: which ids may be drawn ---------------------------------------------------------------

VOCABS = [1, 31, 32, 33, 255, 257, 1000, 5003]  # around words of 32 ids and blocks of 256


def words(allowed):
    """Bit id % 32 of word id // 32."""
    padded = np.zeros(-(-allowed.size // 32) * 32, np.uint8)
    padded[: allowed.size] = allowed
    return np.packbits(padded, bitorder="little").view(np.uint32)


def some_masks(vocab, rng):
    """Few ids, many, one, those of few blocks, and all but the most likely."""
    for share in (0.002, 0.5, 0.98):
        yield rng.random(vocab) < share
    one = np.zeros(vocab, bool)
    one[rng.integers(vocab)] = True
    yield one
    yield (np.arange(vocab) // 256) % 3 == 1


@pytest.mark.parametrize("vocab", VOCABS)
@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"temperature": 1.3},
        {"temperature": 0.7, "top_k": 3},
        {"temperature": 0.7, "top_k": 300},
        {"temperature": 2.0, "top_k": 64, "top_p": 0.9, "min_p": 0.05},
        {"temperature": 0.0, "repetition_penalty": 1.7},
        {"temperature": 0.9, "top_k": 40, "repetition_penalty": 0.4},
    ],
    ids=str,
)
def test_a_mask_is_applied_after_the_penalty_and_before_every_filter(vocab, options):
    rng = np.random.default_rng(vocab)
    full = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0} | options
    penalty = full.pop("repetition_penalty", 1.0)
    compared = 0
    for round_number in range(8):
        logits = np.round(rng.normal(size=vocab) * 3, 1).astype(np.float32)  # with ties
        history = rng.integers(0, vocab, 40).astype(np.int32) if penalty != 1 else NO_IDS
        # The reference: excluded ids are -infinity before anything is filtered.
        penalized = logits.copy()
        for token in set(history.tolist()):
            value = penalized[token]
            penalized[token] = (
                value * np.float32(penalty) if value < 0 else value / np.float32(penalty)
            )
        for allowed in some_masks(vocab, rng):
            drawn = testing.draw(
                logits, sampling(**options, seed=5), history, round_number, words(allowed)
            )

            if not allowed.any():
                assert drawn == -1
                continue
            masked = np.where(allowed, penalized, -np.inf)
            if options["temperature"] == 0:
                assert drawn == int(masked.argmax())
                compared += 1
                continue
            ids, probabilities = expected_survivors(masked, **full)
            number = testing.uniform(5, round_number)
            edges = np.cumsum(probabilities)
            assert allowed[drawn]
            # At an edge the float64 sums of the two versions may round apart.
            if np.abs(edges - number).min() > 1e-12:
                assert drawn == ids[np.searchsorted(edges, number, side="right")]
                compared += 1
    assert compared >= 8


@pytest.mark.parametrize("vocab", VOCABS)
def test_a_full_mask_draws_what_no_mask_draws_and_bits_beyond_the_vocabulary_mean_nothing(vocab):
    logits = np.random.default_rng(vocab).normal(size=vocab).astype(np.float32)
    full = np.full(-(-vocab // 32), 0xFFFFFFFF, np.uint32)
    beyond = words(np.zeros(vocab, bool))
    beyond[-1] = np.uint32((0xFFFFFFFF << (vocab % 32 or 32)) & 0xFFFFFFFF)

    for options in ({"temperature": 0.0}, {"top_k": 7}, {"top_k": 0}, {"top_k": 900}):
        for position in range(20):
            args = sampling(**options, seed=1)
            without = testing.draw(logits, args, NO_IDS, position)
            assert testing.draw(logits, args, NO_IDS, position, full) == without
            assert testing.draw(logits, args, NO_IDS, position, beyond) == -1


def test_an_allowed_token_that_is_banned_is_not_drawn():
    logits = np.arange(300, dtype=np.float32)
    allowed = np.zeros(300, bool)
    allowed[[7, 260]] = True
    banned = np.array([260], np.int32)

    for options in ({"temperature": 0.0}, {"top_k": 5}, {"top_k": 0}):
        args = sampling(**options, banned=banned)
        assert testing.draw(logits, args, NO_IDS, 0, words(allowed)) == 7
        both = sampling(**options, banned=np.array([7, 260], np.int32))
        assert testing.draw(logits, both, NO_IDS, 0, words(allowed)) == -1
