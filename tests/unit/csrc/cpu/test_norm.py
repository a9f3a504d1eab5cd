from __future__ import annotations

import numpy as np
import pytest

from cabochon._core import testing, usable_tiers

TIERS = usable_tiers()
SIZES = [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 256, 640, 1536, 6144]


def rms_norm_in_float64(x, weight, epsilon):
    x = x.astype(np.float64)
    y = x / np.sqrt(np.mean(x * x) + epsilon)
    return y if weight is None else y * weight


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("weighted", [True, False])
def test_scalar_is_near_the_norm_in_float64(weighted, n, floats):
    x, weight = floats(n), floats(n) if weighted else None

    out = testing.rms_norm("scalar", x, weight, 1e-6)

    expected = rms_norm_in_float64(x, weight, 1e-6)
    # The sum of squares is off by ceil(n / 16) + 4 roundings, halved by the root; then five more:
    # two divisions, a sum, a root (halved or not), two products.
    bound = ((-(-n // 16) + 4) / 2 + 6) * 2.0**-24 * np.abs(expected)
    assert (np.abs(out - expected) <= bound).all()


@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("tier", TIERS)
def test_rms_norm_has_the_same_bits_on_every_tier(tier, n, offset, floats, assert_same_bits):
    x = floats(n)

    for weight in (None, floats(n)):
        expected = testing.rms_norm("scalar", x, weight, 1e-6)
        for in_place in (False, True):
            actual = testing.rms_norm(tier, x, weight, 1e-6, in_place, offset=offset)
            assert_same_bits(actual, expected)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("tier", TIERS)
def test_rms_norm_add_adds_what_rms_norm_gives(tier, n, floats, assert_same_bits):
    out, x = floats(n), floats(n)

    for weight in (None, floats(n)):
        actual = testing.rms_norm_add(tier, out, x, weight, 1e-6, offset=1)
        assert_same_bits(actual, out + testing.rms_norm("scalar", x, weight, 1e-6))


@pytest.mark.parametrize("tier", TIERS)
def test_a_row_of_zeros_stays_zero_and_keeps_its_signs(tier, assert_same_bits):
    x = np.zeros(37, np.float32)
    x[::3] = -0.0

    assert_same_bits(testing.rms_norm(tier, x, None, 1e-6), x)


@pytest.mark.parametrize("tier", TIERS)
def test_one_nan_makes_the_whole_row_nan(tier, floats):
    x = floats(37)
    x[36] = np.nan

    assert np.isnan(testing.rms_norm(tier, x, floats(37), 1e-6)).all()
