from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from cabochon import ops
from cabochon._core import testing, usable_tiers

TIERS = usable_tiers()
BLOCK = 64
EMPTY = (-np.inf, 0.0)
KERNELS = {"f32": testing.attend_f32, "bf16": testing.attend_bf16, "int8": testing.attend_int8}
FLOATING = ["f32", "bf16"]
NO_SCALES = np.empty(0, np.float32)
HEAD_DIMS = [1, 2, 8, 15, 16, 17, 33, 80, 127, 128, 256, 512, 1024]
VISIBLE = [(0, 64), (0, 1), (63, 64), (5, 6), (13, 50), (15, 17), (0, 16), (16, 63), (1, 64)]


class Rows(NamedTuple):
    """Rows as a cache holds them; scales of int8 rows alone."""

    data: np.ndarray
    scales: np.ndarray = NO_SCALES

    def widened(self):
        if self.data.dtype == np.uint16:
            return (self.data.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        scales = self.scales[:, None].astype(np.float64) if self.scales.size else 1.0
        return self.data * scales

    def spoiled(self, where):
        """The same with nothing but NaN in some rows."""
        data, scales = self.data.copy(), self.scales.copy()
        data[where] = {"f": np.nan, "u": 0x7FC0, "i": -128}[data.dtype.kind]
        if scales.size:
            scales[where] = np.nan
        return Rows(data, scales)


def stored(kv, x):
    if kv == "f32":
        return Rows(x)
    if kv == "bf16":
        return Rows((x.view(np.uint32) >> 16).astype(np.uint16))
    absmax = np.abs(x).max(axis=1)
    codes = np.rint(x * (np.float32(127) / absmax)[:, None]).astype(np.int8)
    return Rows(codes, absmax / np.float32(127))


def queries_for(kv, queries):
    return stored("int8" if kv == "int8" else "f32", queries)


@pytest.fixture
def block(rng):
    def draw(head_dim, kv, blocks=1):
        """Query, keys and values; scores spread over about +-10."""
        query = rng.standard_normal(head_dim).astype(np.float32) * 3
        keys, values = rng.standard_normal((2, blocks * BLOCK, head_dim)).astype(np.float32)
        return query, stored(kv, keys), stored(kv, values)

    return draw


def attend_all(
    kv, tier, states, attended, queries, keys, values, visible, scale, offset=0, turned=None
):
    """turned: queries and keys of the second term of the scores."""
    pairs = [(queries, keys)] if turned is None else [(queries, keys), turned]
    terms = []
    for left, right in pairs:
        rows = queries_for(kv, left)
        terms.append((rows.data, right.data, rows.scales, right.scales))
    return KERNELS[kv](
        tier,
        np.array(states, np.float32),
        attended,
        terms,
        values.data,
        values.scales,
        np.array(visible, np.int64),
        scale,
        offset=offset,
    )


def attend_one(kv, tier, state, attended, query, keys, values, first, last, scale, offset=0):
    """The same for one query."""
    states, out = attend_all(
        kv, tier, [state], attended[None], query[None], keys, values, [(first, last)], scale, offset
    )
    return states[0], out[0]


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("kv", KERNELS)
def test_scalar_over_blocks_is_near_the_softmax_in_float64(kv, head_dim, block):
    blocks, scale = 3, head_dim**-0.5
    query, keys, values = block(head_dim, kv, blocks)

    state, attended = EMPTY, np.zeros(head_dim, np.float32)
    for i in range(0, blocks * BLOCK, BLOCK):
        here, there = (
            Rows(rows.data[i : i + BLOCK], rows.scales[i : i + BLOCK]) for rows in (keys, values)
        )
        state, attended = attend_one(
            kv, "scalar", state, attended, query, here, there, 0, BLOCK, scale
        )

    key, value = keys.widened(), values.widened()
    query = queries_for(kv, query[None]).widened()[0]
    scores = np.float32(scale) * (key @ query)
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    # A score is off by ceil(head_dim / 16) + 5 roundings of its sum of magnitudes (an int8 one by
    # four: its sum, the scales and their products); a weight by
    # twice that (its own and the maximum's), the rounding of score - max and exp (2^-23) with the
    # factors of later blocks; sums add a rounding for each key and block.
    magnitude = (scale * (np.abs(key) @ np.abs(query))).max()
    relative = 2 * (-(-head_dim // 16) + 6) * 2.0**-24 * magnitude + (blocks + 1) * 2.0**-22
    relative += (blocks * BLOCK + 2 * blocks) * 2.0**-24
    bound = 2 * relative * (weights @ np.abs(value))
    assert (np.abs(attended / np.float32(state[1]) - weights @ value) <= bound).all()


@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("kv", KERNELS)
@pytest.mark.parametrize("tier", TIERS)
def test_a_block_gives_the_same_bits_on_every_tier(
    tier, kv, head_dim, offset, block, floats, assert_same_bits
):
    query, keys, values = block(head_dim, kv)

    # First of all, behind a lower and behind a higher maximum.
    for first, last in VISIBLE:
        for state in (EMPTY, (-3.0, 5.0), (40.0, 2.5)):
            attended = np.zeros(head_dim, np.float32) if state is EMPTY else floats(head_dim)
            args = (state, attended, query, keys, values, first, last, 0.37)
            expected = attend_one(kv, "scalar", *args)
            actual = attend_one(kv, tier, *args, offset=offset)
            assert_same_bits(actual[0], expected[0])
            assert_same_bits(actual[1], expected[1])


# Of a prompt, neighbours see a key more each; of a window, a key less at its front too. The last
# two queries see nothing in common.
def visible_of(kind, count, rng):
    if kind == "alike":
        return [(3, 61)] * count
    if kind == "prompt":
        return [(0, 1 + (37 + q) % 64) for q in range(count)]
    if kind == "window":
        return [(min(q // 2, 60), min(40 + q // 2, 64)) for q in range(count)]
    if kind == "apart":
        return [(0, 20) if q % 2 else (20, 64) for q in range(count)]
    ends = np.sort(rng.integers(0, 64, (count, 2)), axis=1)
    return [(int(a), int(b) + 1) for a, b in ends]


@pytest.mark.parametrize("kind", ["alike", "prompt", "window", "apart", "random"])
@pytest.mark.parametrize("head_dim", [1, 16, 33, 130, 256])
@pytest.mark.parametrize("kv", KERNELS)
@pytest.mark.parametrize("tier", TIERS)
def test_a_query_among_others_has_the_bits_it_has_alone(
    tier, kv, head_dim, kind, block, rng, assert_same_bits
):
    _, keys, values = block(head_dim, kv)
    for count in (1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 24):
        queries, attended = rng.standard_normal((2, count, head_dim)).astype(np.float32)
        states = [(rng.choice([-np.inf, -3.0, 0.5, 40.0]), 2.0) for _ in range(count)]
        visible = visible_of(kind, count, rng)

        actual = attend_all(
            kv, tier, states, attended, queries, keys, values, visible, 0.37, offset=1
        )

        for q in range(count):
            expected = attend_one(
                kv, "scalar", states[q], attended[q], queries[q], keys, values, *visible[q], 0.37
            )
            assert_same_bits(actual[0][q], expected[0])
            assert_same_bits(actual[1][q], expected[1])


@pytest.mark.parametrize(("head_dim", "width"), [(16, 4), (33, 2), (256, 64), (512, 128), (64, 64)])
@pytest.mark.parametrize("kv", KERNELS)
@pytest.mark.parametrize("tier", TIERS)
def test_a_second_term_adds_to_the_scores(tier, kv, head_dim, width, block, rng, assert_same_bits):
    # The values stand in for the keys of the first term, as where keys and values are equal.
    _, values, _ = block(head_dim, kv)
    _, turned_keys, _ = block(width, kv)
    for count in (1, 2, 5, 8, 24):
        queries = rng.standard_normal((count, head_dim)).astype(np.float32)
        turned = rng.standard_normal((count, width)).astype(np.float32)
        attended = np.zeros((count, head_dim), np.float32)
        args = ([EMPTY] * count, attended, queries, values, values)
        visible = visible_of("window", count, rng)
        more = {"offset": 1, "turned": (turned, turned_keys)}

        states, actual = attend_all(kv, tier, *args, visible, 0.25, **more)

        expected = attend_all(kv, "scalar", *args, visible, 0.25, **more)
        assert_same_bits(states, expected[0])
        assert_same_bits(actual, expected[1])
        scores = queries_for(kv, queries).widened() @ values.widened().T
        scores += queries_for(kv, turned).widened() @ turned_keys.widened().T
        for q, (first, last) in enumerate(visible):
            seen = 0.25 * scores[q, first:last]
            weights = np.exp(seen - seen.max())
            truth = weights @ values.widened()[first:last] / weights.sum()
            # Sums of up to 576 products in float32, through exp, of weights that add up to 1.
            assert np.abs(actual[q] / states[q, 1] - truth).max() < 1e-3


@pytest.mark.parametrize("n", [1, 2, 7, 8, 15, 16, 17, 33, 100, 256, 512, 1024])
@pytest.mark.parametrize("tier", TIERS)
def test_a_row_is_rounded_to_int8_with_one_scale(tier, n, rng, assert_same_bits):
    for x in (
        rng.standard_normal(n).astype(np.float32),
        (rng.standard_normal(n) * 1e30).astype(np.float32),
        np.arange(n, dtype=np.float32) - np.float32(0.5),  # ties
        np.zeros(n, np.float32),
        np.full(n, 1e-38, np.float32),  # 127 / absmax would overflow
    ):
        codes, scale = testing.round_row(tier, x, offset=3)

        absmax = np.abs(x).max()
        assert_same_bits(np.float32(scale), absmax / np.float32(127))
        factor = np.float32(0) if absmax < 2.0**-120 else np.float32(127) / absmax
        np.testing.assert_array_equal(codes, np.rint(x * factor).astype(np.int8))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tier", TIERS)
def test_a_row_that_is_not_finite_has_the_scale_nan(tier, value):
    for n, at in ((1, 0), (16, 15), (37, 36), (256, 3)):
        x = np.ones(n, np.float32)
        x[at] = value

        codes, scale = testing.round_row(tier, x)

        assert np.isnan(scale)
        assert not codes.any()


@pytest.mark.parametrize("kv", KERNELS)
@pytest.mark.parametrize("tier", TIERS)
def test_a_key_that_one_query_may_not_see_does_not_reach_it_through_another(
    tier, kv, block, rng, assert_same_bits
):
    _, keys, values = block(80, kv)
    queries = rng.standard_normal((6, 80)).astype(np.float32)
    attended = np.zeros((6, 80), np.float32)
    visible = [(0, 30 + q) for q in range(6)]
    args = (kv, tier, [EMPTY] * 6, attended, queries)

    expected = attend_all(*args, keys, values, visible, 1.0)
    rest = slice(32, BLOCK)
    actual = attend_all(*args, keys.spoiled(rest), values.spoiled(rest), visible, 1.0)

    for q in range(6):
        if visible[q][1] <= 32:
            assert_same_bits(actual[0][q], expected[0][q])
            assert_same_bits(actual[1][q], expected[1][q])
        else:
            assert np.isnan(actual[1][q]).all()


@pytest.mark.parametrize("kv", KERNELS)
@pytest.mark.parametrize("tier", TIERS)
def test_keys_and_values_that_are_masked_may_be_nan(tier, kv, block, assert_same_bits):
    query, keys, values = block(80, kv)
    attended = np.zeros(80, np.float32)

    for first, last in VISIBLE:
        expected = attend_one(kv, tier, EMPTY, attended, query, keys, values, first, last, 1.0)
        masked = np.r_[0:first, last:BLOCK]
        masked_keys, masked_values = keys.spoiled(masked), values.spoiled(masked)
        actual = attend_one(
            kv, tier, EMPTY, attended, query, masked_keys, masked_values, first, last, 1.0
        )
        assert np.isfinite(expected[1]).all()
        assert_same_bits(actual[0], expected[0])
        assert_same_bits(actual[1], expected[1])


@pytest.mark.parametrize("tier", TIERS)
def test_a_single_key_gives_its_value(tier, block, assert_same_bits):
    query, keys, values = block(80, "f32")

    state, attended = attend_one(
        "f32", tier, EMPTY, np.zeros(80, np.float32), query, keys, values, 7, 8, 1.0
    )

    assert_same_bits(attended, values.data[7])
    assert state[1] == 1.0


@pytest.mark.parametrize("tier", TIERS)
def test_a_visible_nan_stays_a_nan(tier, block):
    query, keys, values = block(80, "f32")
    keys.data[9, 79] = np.nan

    state, attended = attend_one(
        "f32", tier, EMPTY, np.zeros(80, np.float32), query, keys, values, 0, BLOCK, 1.0
    )

    assert np.isnan(state[1])
    assert np.isnan(attended).all()


@pytest.mark.parametrize("tier", TIERS)
def test_a_maximum_of_zero_is_plus_zero(tier, assert_same_bits):
    # Products too small for float32 in all 16 lanes: the scores are 0 and -0 in turn.
    query, keys = np.full(16, 1e-30, np.float32), Rows(np.full((BLOCK, 16), 1e-30, np.float32))
    keys.data[1::2] = -1e-30
    attended = np.zeros(16, np.float32)

    for first, last in ((0, BLOCK), (1, BLOCK), (1, 2)):
        for scale in (1.0, -1.0):
            state, _ = attend_one(
                "f32", tier, EMPTY, attended, query, keys, keys, first, last, scale
            )
            assert_same_bits(state, (0.0, last - first))


@pytest.mark.parametrize("kv", FLOATING)
@pytest.mark.parametrize("tier", TIERS)
def test_infinite_and_enormous_scores_are_those_of_scalar(tier, kv, block, assert_same_bits):
    query, keys, values = block(33, kv)
    for row, value in enumerate([np.inf, -np.inf, 3e38, -3e38]):
        bits = np.float32(value).view(np.uint32)
        keys.data[row, 5] = bits >> 16 if kv == "bf16" else value

    for first, last in ((0, 1), (1, 2), (1, 4), (2, 64), (0, 64)):
        args = (EMPTY, np.zeros(33, np.float32), query, keys, values, first, last, 1.0)
        expected, actual = attend_one(kv, "scalar", *args), attend_one(kv, tier, *args)
        assert_same_bits(actual[0], expected[0])
        assert_same_bits(actual[1], expected[1])


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_scalar_merges_two_parts_into_the_softmax_of_both(head_dim, rng):
    attended, part = rng.standard_normal((2, head_dim)).astype(np.float32)

    for state, part_state in (((1.5, 3.0), (2.25, 4.0)), ((2.25, 4.0), (1.5, 3.0))):
        merged, out = testing.merge_attention("scalar", state, attended, part_state, part)

        a, b = np.exp(state[0] - 2.25), np.exp(part_state[0] - 2.25)
        assert merged[0] == 2.25
        # exp (2^-23), a product and an fma.
        assert abs(merged[1] - (state[1] * a + part_state[1] * b)) <= 2.0**-22 * 7
        magnitude = np.abs(attended * a) + np.abs(part * b)
        assert (np.abs(out - (attended * a + part * b)) <= 2.0**-22 * magnitude).all()


@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("tier", TIERS)
def test_merging_gives_the_same_bits_on_every_tier(
    tier, head_dim, offset, floats, assert_same_bits
):
    attended, part = floats(head_dim), floats(head_dim)

    for state, part_state in (
        ((1.5, 3.0), (2.3, 4.0)),
        ((2.3, 4.0), (1.5, 3.0)),
        ((2.3, 4.0), (2.3, 3.0)),
        ((-100.0, 4.0), (2.3, 3.0)),
        ((0.0, 4.0), (-0.0, 3.0)),
    ):
        expected = testing.merge_attention("scalar", state, attended, part_state, part)
        actual = testing.merge_attention(tier, state, attended, part_state, part, offset=offset)
        assert_same_bits(actual[0], expected[0])
        assert_same_bits(actual[1], expected[1])


@pytest.mark.parametrize("tier", TIERS)
def test_the_first_part_is_taken_as_it_is(tier, floats, assert_same_bits):
    part = floats(80)

    state, attended = testing.merge_attention(
        tier, EMPTY, np.zeros(80, np.float32), (2.5, 3.0), part
    )

    assert_same_bits(state, (2.5, 3.0))
    assert_same_bits(attended, part)


def test_partitions_of_512_keys_are_merged_in_ascending_order(rng, assert_same_bits):
    keys, partition, head_dim = 1501, 512, 16
    query = rng.standard_normal(head_dim).astype(np.float32) / 4  # no key outshines the others
    key, value = rng.standard_normal((2, keys, head_dim)).astype(np.float32)

    actual = ops.attention(query[None, None], key[:, None], value[:, None])[0, 0]

    parts = []
    for begin in range(0, keys, partition):
        state, attended = EMPTY, np.zeros(head_dim, np.float32)
        for at in range(begin, min(begin + partition, keys), BLOCK):
            # A block is whole; what is past the last key is not seen.
            here, there = (np.zeros((BLOCK, head_dim), np.float32) for _ in range(2))
            seen = min(BLOCK, keys - at)
            here[:seen], there[:seen] = key[at : at + seen], value[at : at + seen]
            state, attended = attend_one(
                "f32", "scalar", state, attended, query, Rows(here), Rows(there), 0, seen, 1.0
            )
        parts.append((state, attended))

    def merged(order):
        state, attended = EMPTY, np.zeros(head_dim, np.float32)
        for part_state, part in order:
            state, attended = testing.merge_attention("scalar", state, attended, part_state, part)
        return attended * (np.float32(1) / np.float32(state[1]))

    assert len(parts) == 3
    assert_same_bits(actual, merged(parts))
    assert (merged(parts[::-1]) != merged(parts)).any()  # another order would show
