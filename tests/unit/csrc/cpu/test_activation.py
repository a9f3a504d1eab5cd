from __future__ import annotations

import numpy as np
import pytest

from cabochon._core import testing, usable_tiers

TIERS = usable_tiers()
SIZES = [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 640, 4096, 6144]
BRANCHES = [0.625, -0.625, 10.0, -10.0, -10.04, -10.06, 87.0, -87.0, -87.00001, 88.0, 88.00001]
EXTREMES = [0.0, -0.0, 1e-45, -1e-45, 1e30, -1e30, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan]


def exp(tier, x):
    return testing.exp_sum(tier, x, 0.0)[1]


def tanh(tier, x):
    return testing.softcap(tier, x, 1.0)


def gelu(tier, x):
    return testing.gelu_multiply(tier, x, np.ones_like(x))


def spread(low, high, count=40001):
    """All over the range, and finer near 0."""
    even = np.linspace(low, high, count)
    return np.concatenate([even, even * 10.0 ** np.linspace(-8, 0, count)]).astype(np.float32)


def test_scalar_exp_is_within_2e_23_of_the_result():
    x = spread(-87, 88)

    out = exp("scalar", x)

    expected = np.exp(x.astype(np.float64))
    # Polynomial 2.5e-8, r 2e-8, the last two roundings 1.5e-8 and 6e-8: together 1.2e-7.
    assert (np.abs(out - expected) <= 2.0**-23 * expected).all()


def test_scalar_tanh_is_within_2e_23_and_odd(assert_same_bits):
    x = spread(-12, 12)

    out = tanh("scalar", x)

    # Near 1: exp (2^-23) counts at most 1/4, two divisions and sums of 2^-24 or less each.
    assert (np.abs(out - np.tanh(x.astype(np.float64))) <= 2.0**-23).all()
    assert (np.abs(out) <= 1).all()
    assert_same_bits(tanh("scalar", -x), -out)


def test_scalar_gelu_is_within_2e_22_of_x():
    x = spread(-12, 12)

    out = gelu("scalar", x)

    x64 = x.astype(np.float64)
    expected = 0.5 * x64 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x64 + 0.044715 * x64**3)))
    # x / (1 + e): e is off by 2^-23 and by 3 roundings of its exponent v, whose weight
    # |v| e / (1 + e)^2 is below 0.23; then a sum and a division.
    assert (np.abs(out - expected) <= 2.0**-22 * np.abs(x64)).all()


def test_scalar_softcap_scales_tanh():
    x = spread(-200, 200)

    out = testing.softcap("scalar", x, 30.0)

    # The quotient's rounding, tanh (2^-23) and the product's.
    expected = 30 * np.tanh(x.astype(np.float64) / 30)
    assert (np.abs(out - expected) <= 30 * 2.0**-22).all()


@pytest.mark.parametrize("tier", TIERS)
def test_the_edges_of_exp(tier, assert_same_bits):
    x = np.array([0.0, -0.0, -87.00001, -1e30, -np.inf, np.nan, 88, 88.00001, np.inf], np.float32)

    out = exp(tier, x)

    largest = exp("scalar", np.float32([88]))[0]
    assert_same_bits(out, [1, 1, 0, 0, 0, np.nan, largest, largest, largest])
    assert 1.6e38 < largest < 1.7e38


@pytest.mark.parametrize("tier", TIERS)
def test_the_edges_of_tanh(tier, assert_same_bits):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30], np.float32)

    assert_same_bits(tanh(tier, x), [0.0, -0.0, 1, -1, np.nan, 1, -1])


@pytest.mark.parametrize("tier", TIERS)
def test_the_edges_of_gelu(tier, assert_same_bits):
    x = np.array([0.0, -0.0, np.nan, np.inf, 3e38, 20, -11, -1e20, -3e38, -np.inf], np.float32)

    out = gelu(tier, x)

    assert_same_bits(out, [0.0, -0.0, np.nan, np.inf, 3e38, 20, -0.0, -0.0, -0.0, -0.0])


@pytest.mark.parametrize("activation", [exp, tanh, gelu])
@pytest.mark.parametrize("tier", TIERS)
def test_an_activation_has_the_same_bits_on_every_tier(tier, activation, assert_same_bits):
    x = np.concatenate(
        [spread(-95, 95, 100003), spread(-1, 1, 100003), np.float32(BRANCHES + EXTREMES)]
    )

    assert_same_bits(activation(tier, x), activation("scalar", x))


@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("tier", TIERS)
def test_kernels_have_the_same_bits_on_every_tier(tier, n, offset, floats, assert_same_bits):
    gate, up = floats(n, special=True), floats(n, special=True)

    for in_place in ("", "gate", "up"):
        actual = testing.gelu_multiply(tier, gate, up, in_place, offset=offset)
        assert_same_bits(actual, testing.gelu_multiply("scalar", gate, up))
    capped = testing.softcap(tier, gate, 30.0, offset=offset)
    assert_same_bits(capped, testing.softcap("scalar", gate, 30.0))


@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("tier", TIERS)
def test_exp_sum_has_the_same_bits_on_every_tier(tier, n, offset, rng, assert_same_bits):
    x = rng.normal(0, 20, n).astype(np.float32)
    max_x = float(x.max(initial=-1e30))

    expected_sum, expected = testing.exp_sum("scalar", x, max_x)

    for in_place in (False, True):
        total, terms = testing.exp_sum(tier, x, max_x, True, in_place, offset=offset)
        assert_same_bits(terms, expected)
        assert_same_bits(total, expected_sum)
    total, untouched = testing.exp_sum(tier, x, max_x, False, offset=offset)
    assert_same_bits(total, expected_sum)
    assert np.isnan(untouched).all()


@pytest.mark.parametrize("n", [1, 16, 17, 640])
def test_scalar_exp_sum_is_the_sum_of_its_terms_in_16_lanes(n, rng, assert_same_bits):
    x = rng.normal(0, 5, n).astype(np.float32)

    total, terms = testing.exp_sum("scalar", x, 3.0)

    assert_same_bits(terms, exp("scalar", x - np.float32(3)))
    lanes = np.zeros(16, np.float32)
    for i, term in enumerate(terms):
        lanes[i % 16] += term
    for width in (8, 4, 2, 1):
        lanes = lanes[:width] + lanes[width:]
    assert_same_bits(total, lanes[0])
