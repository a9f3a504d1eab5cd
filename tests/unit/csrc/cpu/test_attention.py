from __future__ import annotations

import numpy as np
import pytest

from cabochon._core import testing, usable_tiers

TIERS = usable_tiers()
BLOCK = 64
EMPTY = (-np.inf, 0.0)
KERNELS = {"f32": testing.attend_f32, "bf16": testing.attend_bf16}
HEAD_DIMS = [1, 2, 8, 15, 16, 17, 33, 80, 127, 128, 256, 512, 1024]
VISIBLE = [(0, 64), (0, 1), (63, 64), (5, 6), (13, 50), (15, 17), (0, 16), (16, 63), (1, 64)]


@pytest.fixture
def block(rng):
    def draw(head_dim, kv, blocks=1):
        """Query, keys and values; scores spread over about +-10."""
        query = rng.standard_normal(head_dim).astype(np.float32) * 3
        keys = rng.standard_normal((blocks * BLOCK, head_dim)).astype(np.float32)
        values = rng.standard_normal((blocks * BLOCK, head_dim)).astype(np.float32)
        if kv == "bf16":
            keys, values = ((a.view(np.uint32) >> 16).astype(np.uint16) for a in (keys, values))
        return query, keys, values

    return draw


def attend_all(kv, tier, states, attended, queries, keys, values, visible, scale, offset=0):
    return KERNELS[kv](
        tier,
        np.array(states, np.float32),
        attended,
        queries,
        keys,
        values,
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


def wide(kv, array):
    return array if kv == "f32" else (array.astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("kv", KERNELS)
def test_scalar_over_blocks_is_near_the_softmax_in_float64(kv, head_dim, block):
    blocks, scale = 3, head_dim**-0.5
    query, keys, values = block(head_dim, kv, blocks)

    state, attended = EMPTY, np.zeros(head_dim, np.float32)
    for i in range(0, blocks * BLOCK, BLOCK):
        here = slice(i, i + BLOCK)
        state, attended = attend_one(
            kv, "scalar", state, attended, query, keys[here], values[here], 0, BLOCK, scale
        )

    key, value = (wide(kv, a).astype(np.float64) for a in (keys, values))
    scores = np.float32(scale) * (key @ query.astype(np.float64))
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    # A score is off by ceil(head_dim / 16) + 5 roundings of its sum of magnitudes; a weight by
    # twice that (its own and the maximum's), the rounding of score - max and exp (2^-23) with the
    # factors of later blocks; sums add a rounding for each key and block.
    magnitude = (scale * (np.abs(key) @ np.abs(query.astype(np.float64)))).max()
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
    for array in (keys, values):
        array[32:] = 0x7FC0 if kv == "bf16" else np.nan
    actual = attend_all(*args, keys, values, visible, 1.0)

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
        masked_keys, masked_values = keys.copy(), values.copy()
        for array in (masked_keys, masked_values):
            array[:first] = array[last:] = 0x7FC0 if kv == "bf16" else np.nan
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

    assert_same_bits(attended, values[7])
    assert state[1] == 1.0


@pytest.mark.parametrize("tier", TIERS)
def test_a_visible_nan_stays_a_nan(tier, block):
    query, keys, values = block(80, "f32")
    keys[9, 79] = np.nan

    state, attended = attend_one(
        "f32", tier, EMPTY, np.zeros(80, np.float32), query, keys, values, 0, BLOCK, 1.0
    )

    assert np.isnan(state[1])
    assert np.isnan(attended).all()


@pytest.mark.parametrize("tier", TIERS)
def test_a_maximum_of_zero_is_plus_zero(tier, assert_same_bits):
    # Products too small for float32 in all 16 lanes: the scores are 0 and -0 in turn.
    query, keys = np.full(16, 1e-30, np.float32), np.full((BLOCK, 16), 1e-30, np.float32)
    keys[1::2] = -1e-30
    attended = np.zeros(16, np.float32)

    for first, last in ((0, BLOCK), (1, BLOCK), (1, 2)):
        for scale in (1.0, -1.0):
            state, _ = attend_one(
                "f32", tier, EMPTY, attended, query, keys, keys, first, last, scale
            )
            assert_same_bits(state, (0.0, last - first))


@pytest.mark.parametrize("kv", KERNELS)
@pytest.mark.parametrize("tier", TIERS)
def test_infinite_and_enormous_scores_are_those_of_scalar(tier, kv, block, assert_same_bits):
    query, keys, values = block(33, kv)
    for row, value in enumerate([np.inf, -np.inf, 3e38, -3e38]):
        bits = np.float32(value).view(np.uint32)
        keys[row, 5] = bits >> 16 if kv == "bf16" else value

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
