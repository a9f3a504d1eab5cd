from __future__ import annotations

import numpy as np
import pytest

from cabochon._core import testing, usable_tiers
from reference.integer import GRANULES

TIERS = usable_tiers()
COLS = [0, 32, 64, 96, 128, 160, 224, 640, 1536, 2080, 4224]
TOKENS = [0, 1, 2, 3, 7]
both_granules = pytest.mark.parametrize("granule", GRANULES)


def by_numpy(x, granule):
    """Codes, scales and sums by the words of kernels.h, each step in float32."""
    codes, scales = [], []
    for start in range(0, x.shape[1], granule):
        part = x[:, start : start + granule]
        absmax = np.abs(part).max(axis=1, keepdims=True)
        factor = np.divide(np.float32(127), absmax, out=np.zeros_like(absmax), where=absmax > 0)
        codes.append(np.rint(part * factor).astype(np.int8))
        scales.append(absmax / np.float32(127))
    codes = np.concatenate([np.zeros((len(x), 0), np.int8), *codes], axis=1)
    scales = np.concatenate([np.zeros((len(x), 0), np.float32), *scales], axis=1)
    return codes, scales, codes.reshape(len(x), x.shape[1] // 32, 32).sum(axis=2, dtype=np.int32)


@both_granules
@pytest.mark.parametrize("cols", COLS)
@pytest.mark.parametrize("tier", TIERS)
def test_codes_scales_and_sums_are_those_of_numpy(tier, cols, granule, floats, assert_same_bits):
    for tokens in TOKENS:
        x = floats(tokens, cols)
        expected_codes, expected_scales, expected_sums = by_numpy(x, granule)

        codes, scales, sums = testing.quantize_rows(tier, x, granule, offset=tokens)

        np.testing.assert_array_equal(codes, expected_codes)
        assert_same_bits(scales, expected_scales)
        np.testing.assert_array_equal(sums, expected_sums)


@both_granules
@pytest.mark.parametrize("tier", TIERS)
def test_a_number_comes_back_within_half_a_step(tier, granule, floats):
    x = floats(5, 1536)

    codes, scales, _ = testing.quantize_rows(tier, x, granule)

    steps = np.repeat(scales.astype(np.float64), granule, axis=1)
    # Half a step, and 127 steps by three roundings: of the scale, the factor and the product.
    assert (np.abs(x - codes * steps) <= (0.5 + 127 * 3 * 2.0**-24) * steps).all()


@pytest.mark.parametrize("tier", TIERS)
def test_halves_go_to_the_even_neighbour(tier):
    x = np.zeros((1, 32), np.float32)
    x[0, :9] = [127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, -126.5]

    codes, scales, sums = testing.quantize_rows(tier, x)

    assert codes[0, :9].tolist() == [127, 0, 2, 2, 0, -2, -2, 126, -126]
    assert scales.tolist() == [[1.0]]
    assert sums.tolist() == [[127]]


@both_granules
@pytest.mark.parametrize("where", [0, 15, 16, 31, 32, 100, 127])
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tier", TIERS)
def test_not_a_number_and_infinity_show_in_the_scale_of_their_granule_alone(
    tier, value, where, granule, floats
):
    x = floats(3, 288)
    expected_codes, expected_scales, _ = testing.quantize_rows("scalar", x, granule)
    broken = x.copy()
    broken[1, 128 + where] = value

    codes, scales, sums = testing.quantize_rows(tier, broken, granule)

    hit = (128 + where) // granule
    expected_scales[1, hit] = np.nan
    np.testing.assert_array_equal(scales, expected_scales)
    assert np.abs(codes.astype(np.int32)).max() <= 127
    np.testing.assert_array_equal(sums, codes.reshape(3, -1, 32).sum(axis=2))
    columns = slice(hit * granule, (hit + 1) * granule)
    codes[1, columns] = expected_codes[1, columns] = 0
    np.testing.assert_array_equal(codes, expected_codes)


@pytest.mark.parametrize("tier", TIERS)
def test_zeros_of_either_sign_have_the_scale_zero(tier, assert_same_bits):
    x = np.zeros((2, 160), np.float32)
    x[1] = -0.0

    codes, scales, sums = testing.quantize_rows(tier, x)

    assert not codes.any() and not sums.any()
    assert_same_bits(scales, np.zeros((2, 2)))


@pytest.mark.parametrize("tier", TIERS)
def test_numbers_too_small_for_a_factor_become_zeros(tier, assert_same_bits):
    tiny = np.float32(2.0**-120)
    x = np.zeros((1, 384), np.float32)
    x[0, 0], x[0, 1] = np.nextafter(tiny, np.float32(0)), -1e-45
    x[0, 128] = 1e-45
    x[0, 256] = -tiny

    codes, scales, _ = testing.quantize_rows(tier, x)

    assert np.flatnonzero(codes).tolist() == [256] and codes[0, 256] == -127
    absmax = np.abs(x).reshape(3, 128).max(axis=1)
    assert_same_bits(scales[0], absmax / np.float32(127))


@pytest.mark.parametrize("tier", TIERS)
def test_the_largest_numbers_keep_their_range(tier):
    x = np.full((1, 32), np.finfo(np.float32).max)
    x[0, 1::2] *= -1

    codes, scales, sums = testing.quantize_rows(tier, x)

    assert codes.tolist() == [[127, -127] * 16]
    assert np.isfinite(scales).all()
    assert sums.tolist() == [[0]]
