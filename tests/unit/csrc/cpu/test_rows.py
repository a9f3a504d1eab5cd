from __future__ import annotations

import numpy as np
import pytest

from cabochon._core import testing, usable_tiers

TIERS = usable_tiers()
SIZES = [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 640, 1536, 6144]


@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("tier", TIERS)
def test_scaling_and_adding_round_once_an_operation(tier, n, offset, floats, assert_same_bits):
    out, x = floats(n, special=True), floats(n, special=True)
    third, tenth = np.float32(1 / 3), np.float32(0.1)

    # NumPy rounds every float32 operation by itself; it overflows where we should.
    with np.errstate(all="ignore"):
        assert_same_bits(testing.scale(tier, x, third, offset=offset), x * third)
        assert_same_bits(testing.add(tier, out, x, offset=offset), out + x)
        actual = testing.add_scaled_then_scale(tier, out, x, third, tenth, offset=offset)
        assert_same_bits(actual, (out + x * third) * tenth)


@pytest.mark.parametrize("n", SIZES)
def test_scalar_add_scaled_rounds_once(n, rng, assert_same_bits):
    # Few bits, alike in size: float64 holds factor * x + out exactly.
    x, out = (rng.integers(2**14, 2**15, n).astype(np.float32) for _ in range(2))
    factor = np.float32(0.7001953125)

    actual = testing.add_scaled("scalar", out, x, factor)

    exact = np.float64(factor) * x.astype(np.float64) + out.astype(np.float64)
    assert_same_bits(actual, exact.astype(np.float32))


def test_scalar_add_scaled_is_an_fma(assert_same_bits):
    # (1 + 2^-12)^2 - 1 = 2^-11 + 2^-24; a rounded product would lose the 2^-24.
    x = np.full(33, 1 + 2.0**-12, np.float32)

    actual = testing.add_scaled("scalar", np.full(33, -1, np.float32), x, 1 + 2.0**-12)

    assert_same_bits(actual, np.full(33, 2.0**-11 + 2.0**-24))


@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("tier", TIERS)
def test_add_scaled_has_the_same_bits_on_every_tier(tier, n, offset, floats, assert_same_bits):
    out, x = floats(n, special=True), floats(n, special=True)

    actual = testing.add_scaled(tier, out, x, 1 / 3, offset=offset)

    assert_same_bits(actual, testing.add_scaled("scalar", out, x, 1 / 3))


@pytest.mark.parametrize("tier", TIERS)
def test_widening_is_exact_for_all_bf16_patterns(tier, widened):
    patterns = np.arange(2**16, dtype=np.uint16)

    out = testing.widen_bf16(tier, patterns)

    np.testing.assert_array_equal(out.view(np.uint32), widened(patterns).view(np.uint32))


@pytest.mark.parametrize("tier", TIERS)
def test_narrowing_gives_back_all_bf16_patterns_but_nan(tier, widened):
    patterns = np.arange(2**16, dtype=np.uint16)

    out = testing.narrow_bf16(tier, widened(patterns))

    quiet = (patterns & 0x8000) | 0x7FC0
    expected = np.where(np.isnan(widened(patterns)), quiet, patterns)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("tier", TIERS)
def test_narrowing_rounds_to_the_nearest_and_halves_to_even(tier, widened):
    # Every finite pattern and what lies just below, at and just above the middle to the next one.
    lower = np.concatenate([np.arange(0x7F80), np.arange(0x8000, 0xFF80)]).astype(np.uint16)
    bits = lower.astype(np.uint32) << 16

    below, middle, above = (
        testing.narrow_bf16(tier, (bits | part).view(np.float32))
        for part in np.array([0x7FFF, 0x8000, 0x8001], np.uint32)
    )

    np.testing.assert_array_equal(below, lower)
    np.testing.assert_array_equal(middle, lower + (lower & 1))
    np.testing.assert_array_equal(above, lower + 1)


@pytest.mark.parametrize("tier", TIERS)
def test_a_nan_narrows_to_the_quiet_nan_of_its_sign(tier):
    # 0x7f800001 has its mark in the bits that are cut off: it must not become infinity.
    bits = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000], np.uint32)

    out = testing.narrow_bf16(tier, bits.view(np.float32))

    np.testing.assert_array_equal(out, [0x7FC0, 0xFFC0, 0x7FC0, 0xFFC0, 0x7FC0])


@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("tier", TIERS)
def test_conversions_take_every_size(tier, n, offset, floats, bf16s, assert_same_bits):
    x, bits = floats(n, special=True), bf16s(n)

    narrowed = testing.narrow_bf16(tier, x, offset=offset)
    wide = testing.widen_bf16(tier, bits, offset=offset)

    np.testing.assert_array_equal(narrowed, testing.narrow_bf16("scalar", x))
    assert_same_bits(wide, testing.widen_bf16("scalar", bits))
