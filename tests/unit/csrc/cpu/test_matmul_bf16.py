from __future__ import annotations

import numpy as np
import pytest

from cabochon._core import testing, usable_tiers

TIERS = usable_tiers()
COLS = [0, 1, 2, 13, 15, 16, 17, 31, 33, 640, 1536, 6144]
TOKENS = [0, 1, 2, 3, 4, 5, 7, 64]
ROWS = [0, 1, 2, 3, 4, 5, 7, 16, 37]


@pytest.mark.parametrize("cols", COLS)
def test_scalar_is_near_the_sum_in_float64(cols, floats, bf16s, widened):
    x, weight = floats(5, cols), bf16s(7, cols)

    out = testing.matmul_bf16("scalar", x, weight)

    x64, weight64 = x.astype(np.float64), widened(weight).astype(np.float64)
    # A lane takes ceil(cols / 16) roundings, the tree 4: each 2^-24 of the sum of magnitudes.
    bound = (-(-cols // 16) + 4) * 2.0**-24 * (np.abs(x64) @ np.abs(weight64).T)
    assert (np.abs(out - x64 @ weight64.T) <= bound).all()


@pytest.mark.parametrize("cols", COLS)
def test_scalar_equals_the_matmul_of_widened_weights(
    cols, floats, bf16s, widened, assert_same_bits
):
    x, weight = floats(3, cols), bf16s(5, cols)

    out = testing.matmul_bf16("scalar", x, weight)

    assert_same_bits(out, testing.matmul_f32("scalar", x, widened(weight)))


@pytest.mark.parametrize("cols", COLS)
@pytest.mark.parametrize("tier", TIERS)
def test_a_dot_has_the_same_bits_on_every_tier_and_beside_any_others(
    tier, cols, floats, bf16s, assert_same_bits
):
    x, weight = floats(max(TOKENS), cols), bf16s(max(ROWS), cols)
    expected = testing.matmul_bf16("scalar", x, weight)

    for tokens in TOKENS:
        for rows in ROWS:
            offset = (tokens + rows) % 4
            actual = testing.matmul_bf16(tier, x[:tokens], weight[:rows], 3, offset=offset)
            assert_same_bits(actual, expected[:tokens, :rows])


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("tier", TIERS)
def test_every_bf16_pattern_may_be_a_weight(tier, tokens, rng, assert_same_bits):
    weight = rng.permutation(np.arange(2**16, dtype=np.uint16))[: 2**16 // 17 * 17].reshape(-1, 17)
    x = rng.standard_normal((tokens, 17)).astype(np.float32)

    actual = testing.matmul_bf16(tier, x, weight)

    assert_same_bits(actual, testing.matmul_bf16("scalar", x, weight))
