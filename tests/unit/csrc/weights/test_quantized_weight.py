"""`ops.quantize`, and what takes its result: against the definition, and float64."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from cabochon import ops
from cabochon.errors import InvalidArgument
from reference.experts import experts as reference_experts
from reference.mlp import gelu_tanh

SHAPES = [(1, 32), (2, 96), (31, 128), (33, 160), (3, 7, 64), (2, 3, 32, 256), (640, 2048)]


def floats(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def whole_numbers(rng, tokens, cols):
    """float32 that int8 holds as it is: in every 32 columns the largest magnitude is 127."""
    x = rng.integers(-127, 128, (tokens, cols)).astype(np.float32)
    x[:, ::32] = 127
    return x


def numbers_of(weight, f):
    """What codes and scales stand for, in float64."""
    numbers = weight.codes.astype(np.float64) - f.zero
    return (
        numbers * np.repeat(weight.scales.astype(np.float64), f.block, -1)[..., : weight.shape[-1]]
    )


# --- the weight ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_codes_and_scales_are_those_of_the_definition(
    weight_format, shape, rng, quantize_as_defined
):
    weight = floats(rng, *shape)

    found = ops.quantize(weight, weight_format.name)

    codes, bits = quantize_as_defined(weight_format, weight.reshape(-1, shape[-1]))
    scales = bits.view(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(found.codes, codes.reshape(shape))
    np.testing.assert_array_equal(found.scales, scales.reshape(*shape[:-1], -1))
    assert (found.codes.dtype, found.scales.dtype) == (weight_format.dtype, np.float32)
    assert (found.format, found.shape) == (weight_format.name, shape)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dequantize_is_number_times_scale(weight_format, shape, rng):
    found = ops.quantize(floats(rng, *shape), weight_format.name)

    dequantized = found.dequantize()

    # A number has 7 bits besides its sign and a bf16 scale 8: their product is exact in float32.
    np.testing.assert_array_equal(dequantized, numbers_of(found, weight_format))
    assert (dequantized.dtype, dequantized.shape) == (np.float32, shape)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_its_bytes_are_those_of_panels_of_32_rows(weight_format, shape, rng):
    *_, rows, cols = shape
    matrices = int(np.prod(shape[:-2]))
    code_bits = 4 if weight_format.name == "int4" else 8
    scales = -(-cols // weight_format.block)

    found = ops.quantize(floats(rng, *shape), weight_format.name)

    assert found.nbytes == matrices * -(-rows // 32) * 32 * (cols * code_bits // 8 + 2 * scales)


@pytest.mark.parametrize("shape", [(1, 1), (33, 7), (2, 3, 5)], ids=str)
def test_bf16_is_the_nearest_with_ties_to_even(shape, rng):
    weight = floats(rng, *shape)
    weight.flat[0] = np.float32(1 + 2**-8)  # between 1 and 1 + 2^-7

    found = ops.quantize(weight, "bf16")

    expected = weight.astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(found.codes, expected.view(np.uint16))
    np.testing.assert_array_equal(found.dequantize(), expected.astype(np.float32))
    assert (found.nbytes, found.scales.shape) == (2 * weight.size, (*shape[:-1], 0))


@pytest.mark.parametrize("name", ["int4", "int8", "bf16"])
def test_bf16_comes_in_as_its_values_in_float32(name, rng):
    weight = floats(rng, 2, 37, 160).astype(ml_dtypes.bfloat16)

    found = ops.quantize(weight, name)

    expected = ops.quantize(weight.astype(np.float32), name)
    np.testing.assert_array_equal(found.codes, expected.codes)
    np.testing.assert_array_equal(found.scales, expected.scales)


def test_a_weight_never_changes(weight_format, rng):
    given = floats(rng, 4, 64)
    found = ops.quantize(given, weight_format.name)
    before = found.dequantize()

    given[:] = 0
    for array in (found.codes, found.scales):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1
    with pytest.raises(AttributeError):
        found.shape = (64, 4)
    found.dequantize()[:] = 0  # a new one each time

    np.testing.assert_array_equal(found.dequantize(), before)
    assert repr(found) == f"Weight({weight_format.name}, [4, 64], {found.nbytes:,} bytes)"


@pytest.mark.parametrize("name", ["int4", "int8", "bf16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0, 0), (0, 32, 95), (1, 34, 64)], ids=str)
def test_a_number_that_is_not_finite_is_refused_with_its_place(name, value, place, rng):
    weight = floats(rng, 2, 35, 96)
    weight[place] = value

    with pytest.raises(InvalidArgument) as caught:
        ops.quantize(weight, name)

    assert f"weight: {list(place)} is {value}" in str(caught.value)


W = np.ones((4, 64), np.float32)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda: ops.quantize(W, "int5"), "format is 'int5', expected one of 'int4'"),
        (lambda: ops.quantize(W, "f32"), "format is 'f32'"),
        (lambda: ops.quantize(W, None), "format is None"),
        (lambda: ops.quantize(W[0], "int4"), r"weight is \[64\], expected \[\.\.\., out, in\]"),
        (lambda: ops.quantize(W[:0], "bf16"), r"weight is \[0, 64\], expected at least one"),
        (lambda: ops.quantize(W[:, :0], "int4"), r"weight is \[4, 0\]"),
        (lambda: ops.quantize(W[:, :40].copy(), "int4"), r"\[4, 40\], expected an 'in'.*of 32"),
        (lambda: ops.quantize(W[:, :31].copy(), "int8"), r"\[4, 31\], expected an 'in'.*of 32"),
        (lambda: ops.quantize(np.ones((1, 1, 1, 1, 32), np.float32), "int8"), "at most 4"),
        (lambda: ops.quantize(W.astype(np.float64), "int4"), r"weight.astype\(np.float32\)"),
        (lambda: ops.quantize(W.astype(np.float16), "int4"), "weight is float16"),
        (lambda: ops.quantize(W.view(np.uint32), "int4"), "weight is uint32"),
        (lambda: ops.quantize(W.T, "int4"), "C-contiguous"),
        (lambda: ops.quantize(W.tolist(), "int4"), "weight is list"),
        (lambda: ops.quantize(W, "int4", search=1), "search is 1, expected True or False"),
        (lambda: ops.quantize(W * np.float32(3.4e38), "bf16"), r"\[0, 0\] is 3.4e\+38, which bf16"),
        (lambda: ops.matmul(W[:, :32].copy(), ops.quantize(W, "int4")), r"\[4, 64\]"),
        (lambda: ops.matmul(W, ops.quantize(W[None], "int4")), r"\[1, 4, 64\], expected 2 dim"),
        (lambda: ops.matmul(ops.quantize(W, "int4"), W), "x is Weight, expected an array"),
        (lambda: ops.route(W, ops.quantize(W, "int8"), W[0], W[0, :4]), "weight is Weight"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_values(use, words):
    with pytest.raises(InvalidArgument, match=words):
        use()


def test_the_search_for_scales_loses_less_than_the_plain_rule():
    numbers = np.random.default_rng(5).standard_normal((33, 96)).astype(np.float32)

    plain, searched = (ops.quantize(numbers, "int4", search=s) for s in (False, True))

    errors = [
        ((numbers - w.dequantize()).astype(np.float64) ** 2).reshape(33, 3, 32).sum(axis=2)
        for w in (plain, searched)
    ]
    # In each block; the two sums of 32 squares are compared in another order than the search's.
    assert (errors[1] <= errors[0] * (1 + 1e-5)).all()
    assert errors[1].sum() < 0.95 * errors[0].sum()


@pytest.mark.parametrize("format", ["int8", "bf16"])
def test_only_int4_has_a_search(format):
    with pytest.raises(InvalidArgument, match=f"search is True with format '{format}'"):
        ops.quantize(W, format, search=True)


# --- what takes it ------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [0, 1, 2, 5, 17])
@pytest.mark.parametrize("shape", [(1, 32), (33, 160), (64, 2080), (640, 1152)], ids=str)
def test_matmul_of_numbers_that_int8_holds_is_that_of_its_numbers(
    weight_format, tokens, shape, rng
):
    weight = ops.quantize(floats(rng, *shape), weight_format.name)
    x = whole_numbers(rng, tokens, shape[1])

    found = ops.matmul(x, weight)

    exact = x.astype(np.float64) @ weight.dequantize().astype(np.float64).T
    # Dots of a block are exact. Every block of 32 adds one rounding, and so does each scale of x,
    # which is 127 / 127 but may be computed otherwise, and each sum over those: at most as many
    # again.
    size = np.abs(x.astype(np.float64)) @ np.abs(weight.dequantize().astype(np.float64)).T
    assert (np.abs(found - exact) <= (2 * shape[1] / 32 + 4) * 2.0**-24 * size).all()
    assert (found.shape, found.dtype) == ((tokens, shape[0]), np.float32)


def test_matmul_rounds_x_to_int8_by_half_a_step_at_most(weight_format, rng):
    weight, x = ops.quantize(floats(rng, 96, 640), weight_format.name), floats(rng, 5, 640)

    found = ops.matmul(x, weight)

    numbers = weight.dequantize().astype(np.float64)
    largest = np.abs(x).reshape(5, -1, 128).max(axis=2).repeat(128, axis=1).astype(np.float64)
    # Half a step of absmax / 127, and as much as a hundredth of it for the sums in float32.
    bound = 0.51 * largest / 127 @ np.abs(numbers).T
    difference = np.abs(found - x.astype(np.float64) @ numbers.T)
    assert (difference <= bound).all()
    assert difference.max() > 1e-3 * bound.max()  # x was rounded


@pytest.mark.parametrize("shape", [(1, 1), (33, 7), (64, 640)], ids=str)
def test_a_bf16_weight_multiplies_as_the_same_array(shape, rng):
    weight, x = floats(rng, *shape), floats(rng, 3, shape[1])

    found = ops.matmul(x, ops.quantize(weight, "bf16"))

    np.testing.assert_array_equal(found, ops.matmul(x, weight.astype(ml_dtypes.bfloat16)))


def test_a_row_of_x_counts_for_itself_alone(weight_format, rng):
    weight, x = ops.quantize(floats(rng, 65, 256), weight_format.name), floats(rng, 9, 256)

    together = ops.matmul(x, weight)

    for row in range(9):
        alone = ops.matmul(x[row : row + 1], weight)
        np.testing.assert_array_equal(together[row].view(np.uint32), alone[0].view(np.uint32))


def inner_of(x, gate_up, ffn):
    """gelu(gate x) * up x of every expert, float64 [experts, tokens, ffn]."""
    rows = np.einsum("efh,th->etf", gate_up.astype(np.float64), x.astype(np.float64))
    return gelu_tanh(rows[..., :ffn]) * rows[..., ffn:]


@pytest.mark.parametrize("down_format", ["array", "int4", "int8", "bf16"])
@pytest.mark.parametrize("name", ["int4", "int8", "bf16", "array"])
def test_experts_take_weights_of_any_formats(name, down_format, rng):
    experts, tokens, hidden, ffn = 5, 7, 96, 64

    def made(shape, kind):
        values = floats(rng, *shape) / np.float32(np.sqrt(shape[-1]))
        return values if kind == "array" else ops.quantize(values, kind)

    gate_up = made((experts, 2 * ffn, hidden), name)
    down = made((experts, hidden, ffn), down_format)
    x = whole_numbers(rng, tokens, hidden) / np.float32(128)
    ids = np.stack([rng.permutation(experts)[:2] for _ in range(tokens)])
    weights = rng.uniform(0.2, 1, ids.shape).astype(np.float32)

    found = ops.experts(x, ids, weights, gate_up, down)

    ups, downs = (w if isinstance(w, np.ndarray) else w.dequantize() for w in (gate_up, down))
    exact = reference_experts(
        *(x.astype(np.float64), ids, weights.astype(np.float64)),
        *(ups.astype(np.float64), downs.astype(np.float64)),
    )
    inner = np.abs(inner_of(x, ups, ffn))
    # Where down is int, its input loses half a step, of the largest of its row at most; where not,
    # only sums of under 200 float32 products are rounded, thrice over.
    step = inner.max(axis=2, keepdims=True) * (0.5 / 127 if down_format[:3] == "int" else 0)
    lost = np.broadcast_to(step, inner.shape) + 600 * 2.0**-24 * (1 + inner.max())
    bound = np.einsum("etf,ehf->eth", lost, np.abs(downs).astype(np.float64))
    chosen = np.take_along_axis(bound.transpose(1, 0, 2), ids[:, :, None], axis=1)
    assert (np.abs(found - exact) <= (weights[:, :, None] * chosen).sum(axis=1)).all()


def test_experts_refuse_an_up_that_begins_inside_a_panel():
    x, ids = np.ones((1, 64), np.float32), np.zeros((1, 1), np.int32)
    gate_up = ops.quantize(np.ones((1, 80, 64), np.float32), "int8")
    down = np.ones((1, 64, 40), np.float32)

    with pytest.raises(InvalidArgument, match=r"gate_up is int8 \[1, 80, 64\], expected an ffn"):
        ops.experts(x, ids, np.ones((1, 1), np.float32), gate_up, down)
