from __future__ import annotations

import numpy as np
import pytest

from cabochon._core import testing, usable_tiers

TIERS = usable_tiers()
COLS = [0, 1, 2, 13, 15, 16, 17, 31, 33, 640, 1536, 6144]
TOKENS = [0, 1, 2, 3, 4, 5, 7, 64]
ROWS = [0, 1, 2, 3, 4, 5, 7, 16, 37]


@pytest.mark.parametrize("cols", COLS)
def test_scalar_is_near_the_sum_in_float64(cols, floats):
    x, weight = floats(5, cols), floats(7, cols)

    out = testing.matmul_f32("scalar", x, weight)

    x64, weight64 = x.astype(np.float64), weight.astype(np.float64)
    # A lane takes ceil(cols / 16) roundings, the tree 4: each 2^-24 of the sum of magnitudes.
    bound = (-(-cols // 16) + 4) * 2.0**-24 * (np.abs(x64) @ np.abs(weight64).T)
    assert (np.abs(out - x64 @ weight64.T) <= bound).all()


@pytest.mark.parametrize("cols", [1, 16, 17, 33, 640])
def test_scalar_sums_in_16_lanes(cols, rng, assert_same_bits):
    # Of few bits and alike in size, so that float64 holds every product and sum exactly and one
    # rounding to float32 is the fma.
    rows = rng.integers(128, 256, (2, cols)) / 256 * rng.choice([-1, 1], (2, cols))

    out = testing.matmul_f32("scalar", *rows.astype(np.float32)[:, None])

    padded = np.zeros((2, -(-cols // 16) * 16))
    padded[:, :cols] = rows
    lanes = np.zeros(16, np.float32)
    for k in range(0, cols, 16):
        lanes = (lanes + padded[0, k : k + 16] * padded[1, k : k + 16]).astype(np.float32)
    for width in (8, 4, 2, 1):
        lanes = lanes[:width] + lanes[width:]
    assert_same_bits(out, lanes.reshape(1, 1))


@pytest.mark.parametrize("cols", COLS)
@pytest.mark.parametrize("tier", TIERS)
def test_a_dot_has_the_same_bits_on_every_tier_and_beside_any_others(
    tier, cols, floats, assert_same_bits
):
    x, weight = floats(max(TOKENS), cols), floats(max(ROWS), cols)
    expected = testing.matmul_f32("scalar", x, weight)

    for tokens in TOKENS:
        for rows in ROWS:
            offset = (tokens + rows) % 4
            actual = testing.matmul_f32(tier, x[:tokens], weight[:rows], 3, offset=offset)
            assert_same_bits(actual, expected[:tokens, :rows])


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("tier", TIERS)
def test_not_a_number_infinity_and_minus_zero_are_those_of_scalar(
    tier, tokens, floats, assert_same_bits
):
    x, weight = floats(tokens, 37, special=True), floats(9, 37)

    actual = testing.matmul_f32(tier, x, weight)

    assert_same_bits(actual, testing.matmul_f32("scalar", x, weight))


@pytest.mark.parametrize("cols", [1, 16, 17])
@pytest.mark.parametrize("tier", TIERS)
def test_a_lane_of_minus_zero_becomes_plus_zero_only_in_the_padding(tier, cols, assert_same_bits):
    # -1e-30 * 1e-30 is too small for float32: the fma gives -0.
    x, weight = np.zeros((5, cols), np.float32), np.zeros((5, cols), np.float32)
    x[:], weight[:] = -1e-30, 1e-30

    actual = testing.matmul_f32(tier, x, weight)

    # One block of 16 columns leaves -0 in every lane; otherwise some lane is padded, and +0.
    assert_same_bits(actual, np.full((5, 5), -0.0 if cols == 16 else 0.0))
