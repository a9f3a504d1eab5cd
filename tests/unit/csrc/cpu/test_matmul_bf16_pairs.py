"""bf16 x bf16: the instruction is the definition, and `pairs` says in NumPy what it does."""

from __future__ import annotations

import numpy as np
import pytest

from cabochon._core import has_fast_arithmetic, testing

pytestmark = pytest.mark.skipif(not has_fast_arithmetic(), reason="needs a CPU with vdpbf16ps")

COLS = [0, 1, 2, 13, 31, 32, 33, 63, 65, 640, 1536, 6144]
TOKENS = [0, 1, 2, 3, 4, 5, 7, 64]
ROWS = [0, 1, 2, 7, 8, 9, 15, 16, 17, 37]
SMALLEST = 2.0**-126  # of the normal float32 numbers


def flushed(x):
    return np.where(np.abs(x) < SMALLEST, np.copysign(np.float32(0), x), x)


def fma(a, b, c):
    """fma of float32 arrays, a and b with 8 significant bits, rounded half to even once.

    The product is exact in float64. The sum is rounded to odd there, which keeps what the second
    rounding, to 24 bits, has to know.
    """
    product, c64 = a.astype(np.float64) * b, c.astype(np.float64)
    total = product + c64
    back = total - product
    lost = (product - (total - back)) + (c64 - back)  # exactly, where all is finite
    is_even = (total.view(np.int64) & 1) == 0
    towards = np.nextafter(total, np.where(lost > 0, np.inf, -np.inf))
    return np.where((lost != 0) & is_even & np.isfinite(total), towards, total).astype(np.float32)


def pairs(x, weight, widened):
    """[tokens, rows]: what matmul_bf16_pairs of cpu/kernels.h says."""
    tokens, cols = x.shape
    rows = len(weight)
    padding = ((0, 0), (0, -cols % 32))
    x, weight = (flushed(widened(np.pad(part, padding))) for part in (x, weight))
    lanes = np.zeros((tokens, rows, 16), np.float32)
    for block in range(0, x.shape[1], 32):
        for column in (1, 0):
            at = slice(block + column, block + 32, 2)
            lanes = flushed(fma(x[:, None, at], weight[None, :, at], lanes))
    for width in (8, 4, 2, 1):
        lanes = lanes[..., :width] + lanes[..., width : 2 * width]
    return lanes[..., 0]


@pytest.mark.parametrize("cols", COLS)
def test_a_dot_is_that_of_the_witness_bit_for_bit_beside_any_others(
    cols, bf16s, widened, assert_same_bits
):
    x, weight = bf16s(max(TOKENS), cols), bf16s(max(ROWS), cols)
    expected = pairs(x, weight, widened)

    for tokens in TOKENS:
        for rows in ROWS:
            offset = (tokens + rows) % 4
            actual = testing.matmul_bf16_pairs(
                "avx512bf16", x[:tokens], weight[:rows], 3, offset=offset
            )
            assert_same_bits(actual, expected[:tokens, :rows])


@pytest.mark.filterwarnings("ignore:(invalid value|overflow)")
@pytest.mark.parametrize("cols", [1, 33, 4096])
def test_every_bf16_pattern_may_meet_any_other(cols, rng, widened, assert_same_bits):
    # A NaN anywhere makes the dot one: rows of all kinds of numbers, and rows of finite ones.
    x, weight = (rng.integers(0, 2**16, (count, cols), dtype=np.uint16) for count in (64, 67))
    x[::2] &= 0xBFFF  # below 2
    weight[::2] &= 0xBFFF

    actual = testing.matmul_bf16_pairs("avx512bf16", x, weight)

    assert_same_bits(actual, pairs(x, weight, widened))


def test_denormals_are_zeros_going_in_and_coming_out(rng, widened, assert_same_bits):
    # Products around 2^-126, and factors below it.
    exponents = rng.integers(0, 130, (50, 40))
    others = np.clip(126 - exponents + rng.integers(-4, 5, (50, 40)), 0, 254)
    x, weight = (
        (rng.integers(0, 2**16, (50, 40)) & 0x807F | part << 7).astype(np.uint16)
        for part in (exponents, others)
    )
    expected = pairs(x, weight, widened)

    actual = testing.matmul_bf16_pairs("avx512bf16", x, weight)

    assert_same_bits(actual, expected)


@pytest.mark.parametrize("cols", COLS)
def test_a_dot_is_near_the_sum_in_float64(cols, bf16s, widened):
    x, weight = bf16s(5, cols), bf16s(7, cols)

    out = testing.matmul_bf16_pairs("avx512bf16", x, weight)

    x64, weight64 = (widened(part).astype(np.float64) for part in (x, weight))
    # A lane takes 2 ceil(cols / 32) roundings, the tree 4: each 2^-24 of the sum of magnitudes.
    bound = (2 * -(-cols // 32) + 4) * 2.0**-24 * (np.abs(x64) @ np.abs(weight64).T)
    assert (np.abs(out - x64 @ weight64.T) <= bound).all()
