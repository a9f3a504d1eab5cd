"""matmul_int4 and matmul_int8, each with both granules of activations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from cabochon._core import testing, usable_tiers
from reference import integer

TIERS = usable_tiers()
COLS = [0, 32, 64, 96, 128, 160, 224, 640, 1536, 2048, 2080, 4224]
TOKENS = [0, 1, 2, 3, 4, 5, 6, 7, 16, 33]
ROWS = [0, 1, 31, 32, 33, 64, 100]


@dataclass(frozen=True)
class Case:
    format: integer.Format
    granule: int

    def quantize(self, x):
        return testing.quantize_rows("scalar", x, self.granule)

    def pack(self, codes, scales):
        return integer.pack(self.format, codes, scales)

    def multiply(self, tier, x, panels, rows, gap=0, offset=0):
        """x: what quantize gives."""
        kernel = getattr(testing, f"matmul_{self.format.name}")
        return kernel(tier, *x, panels, rows, gap, self.granule, offset=offset)

    def matmul(self, tier, x, codes, scales):
        return self.multiply(tier, x, self.pack(codes, scales), len(codes))


@pytest.fixture(
    params=[Case(f, g) for f in (integer.INT4, integer.INT8) for g in integer.GRANULES],
    ids=lambda case: f"{case.format.name}_by_{case.granule}",
)
def case(request):
    return request.param


@pytest.fixture
def weights(rng, case):
    def draw(rows, cols):
        """Whole numbers of the format's range, and bf16 bits of scales of either sign."""
        lowest, highest = case.format.lowest, case.format.highest
        codes = rng.integers(lowest, highest, (rows, cols), endpoint=True)
        scales = rng.standard_normal((rows, -(-cols // case.format.block))).astype(np.float32)
        return codes, (scales.view(np.uint32) >> 16).astype(np.uint16)

    return draw


@pytest.mark.parametrize("cols", COLS)
def test_scalar_keeps_to_the_order_of_the_header(case, cols, floats, weights, assert_same_bits):
    x, (codes, scales) = case.quantize(floats(5, cols)), weights(37, cols)

    out = case.matmul("scalar", x, codes, scales)

    expected = integer.matmul(case.format, x[0], x[1], codes, scales, case.granule)
    assert_same_bits(out, expected)


@pytest.mark.parametrize("cols", COLS)
def test_scalar_is_near_the_sum_in_float64(case, cols, floats, weights):
    x, (codes, scales) = case.quantize(floats(5, cols)), weights(37, cols)

    out = case.matmul("scalar", x, codes, scales)

    x64 = integer.dequantized(x[0], x[1], case.granule)
    weight64 = integer.dequantized(codes, integer.widen(scales), case.format.block)
    # The fma of every narrow part in a wide one, wide one in a segment, and segment: each 2^-24 of
    # the sum of magnitudes.
    narrow, wide = sorted((case.format.block, case.granule))
    roundings = wide // narrow + 2048 // wide + -(-cols // 2048)
    bound = roundings * 2.0**-24 * (np.abs(x64) @ np.abs(weight64).T)
    assert (np.abs(out - x64 @ weight64.T) <= bound).all()


@pytest.mark.parametrize("cols", COLS)
@pytest.mark.parametrize("tier", TIERS)
def test_a_dot_has_the_same_bits_on_every_tier_and_beside_any_others(
    case, tier, cols, floats, weights, assert_same_bits
):
    x = case.quantize(floats(max(TOKENS), cols))
    codes, scales = weights(max(ROWS), cols)
    expected = case.matmul("scalar", x, codes, scales)

    for rows in ROWS:
        panels = case.pack(codes[:rows], scales[:rows])
        for tokens in TOKENS:
            first = tuple(part[:tokens] for part in x)
            offset = (tokens + rows) % 4
            actual = case.multiply(tier, first, panels, rows, 3, offset)
            assert_same_bits(actual, expected[:tokens, :rows])


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("tier", TIERS)
def test_the_largest_codes_and_weights_are_summed_without_saturation(case, tier, tokens):
    x = np.full((tokens, 4224), 127, np.float32)
    x[1::2] = -127
    codes = np.full((40, 4224), case.format.lowest)
    codes[1::2] = case.format.highest
    scales = np.full((40, -(-4224 // case.format.block)), 0x3F80, np.uint16)  # 1.0

    out = case.matmul(tier, case.quantize(x), codes, scales)

    np.testing.assert_array_equal(out, x.astype(np.int64) @ codes.T)


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("tier", TIERS)
def test_zeros_give_plus_zero(case, tier, tokens, weights, assert_same_bits):
    x = case.quantize(np.zeros((tokens, 2208), np.float32))

    out = case.matmul(tier, x, *weights(33, 2208))

    assert_same_bits(out, np.zeros((tokens, 33)))


@pytest.mark.parametrize("tier", TIERS)
def test_a_granule_of_not_a_number_shows_in_every_output_of_its_token_alone(
    case, tier, floats, weights, assert_same_bits
):
    x, (codes, scales) = floats(8, 2208), weights(33, 2208)
    expected = case.matmul("scalar", case.quantize(x), codes, scales)
    x[2, 130], x[7, 2207] = np.nan, -np.inf

    out = case.matmul(tier, case.quantize(x), codes, scales)

    expected[[2, 7]] = np.nan
    assert_same_bits(out, expected)


@pytest.mark.parametrize("tokens", [1, 5, 8])
@pytest.mark.parametrize("tier", TIERS)
def test_every_bf16_pattern_may_be_a_scale(case, tier, tokens, rng, floats, assert_same_bits):
    scales = rng.permutation(np.arange(2**16, dtype=np.uint16))[:, None]
    codes = rng.integers(case.format.lowest, case.format.highest, (2**16, 32), endpoint=True)
    x = case.quantize(floats(tokens, 32))

    out = case.matmul(tier, x, codes, scales)

    assert_same_bits(out, case.matmul("scalar", x, codes, scales))
