from __future__ import annotations

import numpy as np
import pytest

from cabochon._core import testing, usable_tiers
from reference import integer
from reference.integer import INT8 as FORMAT

TIERS = usable_tiers()
COLS = [0, 32, 64, 96, 128, 160, 224, 640, 1536, 2048, 2080, 4224]
TOKENS = [0, 1, 2, 3, 4, 5, 6, 7, 16, 33]
ROWS = [0, 1, 31, 32, 33, 64, 100]


@pytest.fixture
def weights(rng):
    def draw(rows, cols):
        """Whole numbers of the format's range, and bf16 bits of scales of either sign."""
        codes = rng.integers(FORMAT.lowest, FORMAT.highest, (rows, cols), endpoint=True)
        scales = rng.standard_normal((rows, -(-cols // FORMAT.block))).astype(np.float32)
        return codes, (scales.view(np.uint32) >> 16).astype(np.uint16)

    return draw


def matmul(tier, x, codes, scales):
    """x: what quantize_rows gives."""
    return testing.matmul_int8(tier, *x, integer.pack(FORMAT, codes, scales), len(codes))


@pytest.mark.parametrize("cols", COLS)
def test_scalar_keeps_to_the_order_of_the_header(cols, floats, weights, assert_same_bits):
    x, (codes, scales) = testing.quantize_rows("scalar", floats(5, cols)), weights(37, cols)

    out = matmul("scalar", x, codes, scales)

    assert_same_bits(out, integer.matmul(FORMAT, x[0], x[1], codes, scales))


@pytest.mark.parametrize("cols", COLS)
def test_scalar_is_near_the_sum_in_float64(cols, floats, weights):
    x, (codes, scales) = testing.quantize_rows("scalar", floats(5, cols)), weights(37, cols)

    out = matmul("scalar", x, codes, scales)

    x64 = integer.dequantized(x[0], x[1], integer.GRANULE)
    weight64 = integer.dequantized(codes, integer.widen(scales), FORMAT.block)
    # The fma of every block in a granule, granule in a segment and segment: each 2^-24 of the sum
    # of magnitudes.
    roundings = 128 // FORMAT.block + 16 + -(-cols // 2048)
    bound = roundings * 2.0**-24 * (np.abs(x64) @ np.abs(weight64).T)
    assert (np.abs(out - x64 @ weight64.T) <= bound).all()


@pytest.mark.parametrize("cols", COLS)
@pytest.mark.parametrize("tier", TIERS)
def test_a_dot_has_the_same_bits_on_every_tier_and_beside_any_others(
    tier, cols, floats, weights, assert_same_bits
):
    x = testing.quantize_rows("scalar", floats(max(TOKENS), cols))
    codes, scales = weights(max(ROWS), cols)
    expected = matmul("scalar", x, codes, scales)

    for rows in ROWS:
        panels = integer.pack(FORMAT, codes[:rows], scales[:rows])
        for tokens in TOKENS:
            first = tuple(part[:tokens] for part in x)
            offset = (tokens + rows) % 4
            actual = testing.matmul_int8(tier, *first, panels, rows, 3, offset=offset)
            assert_same_bits(actual, expected[:tokens, :rows])


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("tier", TIERS)
def test_the_largest_codes_and_weights_are_summed_without_saturation(tier, tokens):
    x = np.full((tokens, 4224), 127, np.float32)
    x[1::2] = -127
    codes = np.full((40, 4224), FORMAT.lowest)
    codes[1::2] = FORMAT.highest
    scales = np.full((40, -(-4224 // FORMAT.block)), 0x3F80, np.uint16)  # 1.0

    out = matmul(tier, testing.quantize_rows("scalar", x), codes, scales)

    np.testing.assert_array_equal(out, x.astype(np.int64) @ codes.T)


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("tier", TIERS)
def test_zeros_give_plus_zero(tier, tokens, weights, assert_same_bits):
    x = testing.quantize_rows("scalar", np.zeros((tokens, 2208), np.float32))

    out = matmul(tier, x, *weights(33, 2208))

    assert_same_bits(out, np.zeros((tokens, 33)))


@pytest.mark.parametrize("tier", TIERS)
def test_a_granule_of_not_a_number_shows_in_every_output_of_its_token_alone(
    tier, floats, weights, assert_same_bits
):
    x, (codes, scales) = floats(8, 2208), weights(33, 2208)
    expected = matmul("scalar", testing.quantize_rows("scalar", x), codes, scales)
    x[2, 130], x[7, 2207] = np.nan, -np.inf

    out = matmul(tier, testing.quantize_rows("scalar", x), codes, scales)

    expected[[2, 7]] = np.nan
    assert_same_bits(out, expected)


@pytest.mark.parametrize("tokens", [1, 5, 8])
@pytest.mark.parametrize("tier", TIERS)
def test_every_bf16_pattern_may_be_a_scale(tier, tokens, rng, floats, assert_same_bits):
    scales = rng.permutation(np.arange(2**16, dtype=np.uint16))[:, None]
    codes = rng.integers(FORMAT.lowest, FORMAT.highest, (2**16, 32), endpoint=True)
    x = testing.quantize_rows("scalar", floats(tokens, 32))

    out = matmul(tier, x, codes, scales)

    assert_same_bits(out, matmul("scalar", x, codes, scales))
