from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cabochon._core import testing, usable_tiers
from cabochon.errors import InvalidArgument

ROWS = [1, 2, 31, 32]
COLS = [32, 64, 96, 128, 160, 256, 1152]  # whole and short blocks of int8, a real width


def widen(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def with_awkward_blocks(weights):
    """Some blocks of zeros, of -0, with one number that dwarfs the others, and of denormals."""
    weights[0, :32] = 0.0
    weights[-1, -32:] = -0.0
    weights[0, -1] = -3e4
    if weights.shape[0] > 2:
        weights[1] = np.float32(1e-45) * np.arange(weights.shape[1])  # scales round to 0
        weights[2] *= np.float32(2e-38)
    return weights


@pytest.mark.parametrize("cols", COLS)
@pytest.mark.parametrize("rows", ROWS)
def test_codes_and_scales_are_those_of_the_definition(
    weight_format, rows, cols, rng, quantize_as_defined
):
    weights = with_awkward_blocks(rng.standard_normal((rows, cols)).astype(np.float32))

    codes, scales = testing.quantize(weight_format.name, weights)

    expected_codes, expected_scales = quantize_as_defined(weight_format, weights)
    np.testing.assert_array_equal(codes, expected_codes)
    np.testing.assert_array_equal(scales, expected_scales)
    assert codes.dtype == weight_format.dtype


def test_a_weight_between_two_numbers_goes_to_the_even_one(weight_format):
    # The largest weight makes the scale exactly 1, so weights are in units of it.
    weights = np.zeros((1, 128), np.float32)
    weights[0, 0::32] = weight_format.divisor
    weights[0, 1:12] = np.arange(-5.5, 5.5)

    codes, scales = testing.quantize(weight_format.name, weights)

    assert set(scales.ravel()) == {0x3F80}
    numbers = codes.astype(int)[0, 1:12] - weight_format.zero
    assert list(numbers) == [-6, -4, -4, -2, -2, 0, 0, 2, 2, 4, 4]


def test_both_ends_of_the_range_are_reached_and_not_passed(weight_format):
    # int4: 7.5 scales become 7, and -7.5 become -8. int8: 127 (1 + 2^-8) rounds to 127 as well, so
    # only a scale among the denormals, which has fewer bits, is too small enough to clamp.
    absmax = weight_format.divisor * (1.0 if weight_format.name == "int4" else 1.4 * 2.0**-133)
    weights = np.zeros((2, 128), np.float32)
    weights[0, ::32], weights[1, ::32] = absmax, -absmax

    codes, scales = testing.quantize(weight_format.name, weights)

    steps = weights[:, 0] / widen(scales[:, 0])
    assert abs(np.rint(steps)).min() > weight_format.high
    numbers = codes.astype(int)[:, 0] - weight_format.zero
    assert list(numbers) == [weight_format.high, weight_format.low]


def test_a_panel_holds_what_quantize_and_pack_make(weight_format, rng):
    for rows in ROWS:
        for cols in COLS:
            weights = with_awkward_blocks(rng.standard_normal((rows, cols)).astype(np.float32))

            panel, index = testing.quantize_panel(weight_format.name, weights)

            expected = testing.pack(
                weight_format.name, *testing.quantize(weight_format.name, weights)
            )
            assert index == -1
            np.testing.assert_array_equal(panel, expected, f"{rows} x {cols}")


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_the_first_weight_that_is_not_finite_is_found(weight_format, bad, rng):
    rows, cols = 5, 160
    clean = rng.standard_normal((rows, cols)).astype(np.float32)
    for index in [0, 31, 127, 128, 159, 160, 3 * cols + 77, rows * cols - 1]:
        weights = clean.copy()
        weights.ravel()[index] = bad
        weights.ravel()[index + 1 :: 7] = np.nan  # later ones do not matter

        assert testing.quantize_panel(weight_format.name, weights)[1] == index

        place = rf"\[{index // cols}, {index % cols}\] is .*(nan|inf), expected a finite number"
        with pytest.raises(InvalidArgument, match=place):
            testing.quantize(weight_format.name, weights)


def test_the_largest_floats_are_quantised_too(weight_format):
    largest = np.finfo(np.float32).max
    weights = np.full((1, 32), largest, np.float32)
    weights[0, 1::2] = -largest

    codes, scales = testing.quantize(weight_format.name, weights)

    assert np.isfinite(widen(scales)).all()
    numbers = codes.astype(int)[0] - weight_format.zero
    assert abs(numbers).min() >= weight_format.high


def test_dequantize_multiplies_numbers_by_scales(weight_format, random_logical):
    codes, scales = random_logical(weight_format, 3, 160)
    scales &= 0x3FFF  # below 2

    actual = testing.dequantize(weight_format.name, codes, scales)

    numbers = codes.astype(np.float32) - np.float32(weight_format.zero)
    wide = np.repeat(widen(scales), weight_format.block, axis=1)[:, :160]
    np.testing.assert_array_equal(actual, numbers * wide)


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(["int4", "int8"]),
    weights=arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.sampled_from([32, 96, 128, 160])),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    ),
)
def test_no_weight_moves_by_more_than_its_rounding(name, weights):
    block, divisor, top = {"int4": (32, 7.5, 7), "int8": (128, 127.0, 127)}[name]

    codes, scales = testing.quantize(name, weights)
    actual = testing.dequantize(name, codes, scales)

    steps = np.repeat(widen(scales), block, axis=1)[:, : weights.shape[1]].astype(np.float64)
    # Half a step, or what clamping takes: at most divisor / (1 - 2^-8) steps come in, top go out.
    # A scale among the denormals has fewer bits: those blocks are left to the definition.
    bound = max(0.5, divisor / (1 - 2**-8) - top) * steps * (1 + 2**-20)
    is_normal = steps >= np.finfo(np.float32).tiny
    assert np.all((np.abs(actual.astype(np.float64) - weights) <= bound)[is_normal])


@settings(max_examples=100, deadline=None)
@given(
    numbers=arrays(np.int64, (2, 128), elements=st.integers(-127, 127)),
    exponent=st.integers(-100, 100),
)
def test_int8_weights_that_lie_on_their_grid_come_back_exactly(numbers, exponent):
    numbers[:, 0] = 127
    weights = (numbers * 2.0**exponent).astype(np.float32)

    codes, scales = testing.quantize("int8", weights)

    np.testing.assert_array_equal(codes, numbers)
    np.testing.assert_array_equal(testing.dequantize("int8", codes, scales), weights)


def test_scales_are_rounded_to_the_nearest_bf16_ties_to_even(weight_format):
    # Every float32 whose low half decides the rounding, as the scale before it is rounded.
    halves = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    highs = np.array([0x3F80, 0x3F81, 0x3FFF, 0x3C7F], np.uint32)
    wanted = (highs[:, None] << 16 | halves).ravel().view(np.float32)
    weights = np.zeros((len(wanted), 32), np.float32)
    weights[:, 5] = -(wanted * np.float32(weight_format.divisor))

    _, scales = testing.quantize(weight_format.name, weights)

    exact = np.abs(weights[:, 5]) / np.float32(weight_format.divisor)
    expected = exact.astype(ml_dtypes.bfloat16).view(np.uint16)
    np.testing.assert_array_equal(scales[:, 0], expected)
    assert len(set(expected)) > len(highs)  # both directions happen


def search_panel(weights, importance=None):
    """Codes and scales of a searched panel, and what quantize_panel returned."""
    panel, index = testing.quantize_panel("int4", weights, is_searched=True, importance=importance)
    return *testing.unpack("int4", panel, 32, weights.shape[1]), index


@pytest.mark.parametrize("rows", ROWS)
def test_a_searched_panel_holds_the_units_of_the_kernel_and_padding(rows, rng):
    weights = rng.standard_normal((rows, 160)).astype(np.float32)
    importance = rng.uniform(0.01, 1, 160).astype(np.float32)

    panel, index = testing.quantize_panel("int4", weights, is_searched=True, importance=importance)

    assert index == -1
    codes, scales = testing.unpack("int4", panel, 32, 160)
    assert (codes[rows:] == 8).all() and not scales[rows:].any()
    tier = usable_tiers()[-1]
    for block in range(5):
        columns = np.zeros((32, 32), np.float32)
        columns[:, :rows] = weights[:, 32 * block : 32 * block + 32].T
        unit = testing.search_int4(tier, columns, importance[32 * block : 32 * block + 32])
        expected = testing.unpack("int4", unit, 32, 32)
        np.testing.assert_array_equal(codes[:rows, 32 * block :][:, :32], expected[0][:rows])
        np.testing.assert_array_equal(scales[:rows, block], expected[1][:rows, 0])


def test_without_importance_all_columns_count_alike(rng):
    weights = rng.standard_normal((7, 96)).astype(np.float32)

    without = search_panel(weights)
    ones = search_panel(weights, np.ones(96, np.float32))

    np.testing.assert_array_equal(without[0], ones[0])
    np.testing.assert_array_equal(without[1], ones[1])


def test_blocks_whose_squares_leave_float32_keep_the_plain_rule(rng):
    weights = rng.standard_normal((5, 64)).astype(np.float32)
    weights[0] = 0.0
    weights[1] *= np.float32(2.0**-100)
    weights[2] *= np.float32(2.0**100)
    weights[3, :32] *= np.float32(1e-40)  # one block of the row alone

    codes, scales, index = search_panel(weights)

    plain_codes, plain_scales = testing.quantize("int4", weights)
    assert index == -1
    np.testing.assert_array_equal(codes[:3], plain_codes[:3])
    np.testing.assert_array_equal(scales[:3], plain_scales[:3])
    np.testing.assert_array_equal(codes[3, :32], plain_codes[3, :32])
    assert scales[3, 0] == plain_scales[3, 0]
    assert (scales[[3, 4, 4], [1, 0, 1]] != plain_scales[[3, 4, 4], [1, 0, 1]]).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_search_finds_the_first_weight_that_is_not_finite_too(bad, rng):
    for index in [0, 31, 32, 159, 160, 799]:
        weights = rng.standard_normal((5, 160)).astype(np.float32)
        weights.ravel()[index] = bad
        weights.ravel()[index + 1 :: 7] = np.nan

        assert search_panel(weights)[2] == index


def test_int8_has_the_plain_rule_alone(rng):
    weights = rng.standard_normal((3, 160)).astype(np.float32)

    searched, _ = testing.quantize_panel("int8", weights, is_searched=True)

    np.testing.assert_array_equal(searched, testing.quantize_panel("int8", weights)[0])
