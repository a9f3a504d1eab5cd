"""The experts of a step in every format: against the kernels called one row at a time."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from cabochon._core import testing
from reference import experts as reference_experts
from reference import integer

FORMATS = {"int4": integer.INT4, "int8": integer.INT8}


class Stack:
    """Random matrices [experts, rows, cols], as they are stored in a format."""

    def __init__(self, seed, format, experts, rows, cols, granule):
        values = np.random.default_rng(seed).normal(size=(experts, rows, cols)) / np.sqrt(cols)
        values = values.astype(np.float32)
        self.format, self.rows, self.cols, self.granule = format, rows, cols, granule
        if format in FORMATS:
            rounded = [testing.quantize(format, matrix) for matrix in values]
            self.stored = np.array([testing.pack(format, *matrix) for matrix in rounded])
            self.values = np.array([testing.dequantize(format, *matrix) for matrix in rounded])
        else:
            dtype = {"f32": np.float32, "bf16": ml_dtypes.bfloat16}[format]
            narrow = values.astype(dtype)
            self.stored = narrow if format == "f32" else narrow.view(np.uint16)
            self.values = narrow.astype(np.float32)

    @property
    def packed(self):
        return self.format, self.stored, self.rows, self.cols, self.granule

    def matmul(self, expert, row):
        """One row of x, by the scalar kernel."""
        kernel = getattr(testing, f"matmul_{self.format}")
        if self.format in FORMATS:
            x = testing.quantize_rows("scalar", row, self.granule)
            return kernel("scalar", *x, self.stored[expert], self.rows, 0, self.granule)
        return kernel("scalar", row, self.stored[expert])


def row_by_row(x, ids, weights, gate, up, down):
    """Each row of each expert by itself, added in ascending id: what ops.h promises."""
    out = np.zeros_like(x)
    for token in range(len(x)):
        row = x[token : token + 1]
        for choice in np.argsort(ids[token]):
            expert = ids[token, choice]
            gates, ups = gate.matmul(expert, row)[0], up.matmul(expert, row)[0]
            inner = testing.gelu_multiply("scalar", gates, ups)[None]
            result = down.matmul(expert, inner)[0]
            out[token] = testing.add_scaled("scalar", out[token], result, weights[token, choice])
    return out


def draw(tokens, experts, top, hidden, ffn, formats):
    rng = np.random.default_rng([tokens, experts])
    x = rng.normal(size=(tokens, hidden)).astype(np.float32)
    ids = np.array([rng.permutation(experts)[:top] for _ in range(tokens)], np.int32)
    weights = rng.normal(size=(tokens, top)).astype(np.float32)
    gate = Stack(1, formats[0], experts, ffn, hidden, 128)
    up = Stack(2, formats[0], experts, ffn, hidden, 128)
    return (
        x,
        ids.reshape(tokens, top),
        weights,
        gate,
        up,
        Stack(3, formats[1], experts, hidden, ffn, 32),
    )


def run(threads, x, ids, weights, gate, up, down):
    return testing.experts(x, ids, weights, gate.packed, up.packed, down.packed, threads)


every_format = pytest.mark.parametrize(
    "formats", [("f32", "f32"), ("bf16", "bf16"), ("int8", "int8"), ("int4", "int4"),
                ("int4", "bf16"), ("bf16", "int8")], ids="|".join
)  # fmt: skip
# Short granules (288 = 2 * 128 + 32), more and fewer
# tokens than the number from which work is handed out in runs.
every_size = pytest.mark.parametrize(
    ("tokens", "experts", "top", "hidden", "ffn"),
    [(0, 4, 2, 64, 32), (1, 1, 1, 32, 32), (1, 24, 8, 288, 96), (7, 5, 1, 96, 160),
     (13, 16, 3, 160, 224), (83, 9, 2, 288, 96)],
)  # fmt: skip


@every_format
@every_size
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_experts_have_the_bits_of_each_row_by_itself(
    threads, formats, tokens, experts, top, hidden, ffn
):
    case = draw(tokens, experts, top, hidden, ffn, formats)

    out = run(threads, *case)

    np.testing.assert_array_equal(out.view(np.uint32), row_by_row(*case).view(np.uint32))
    assert out.shape == (tokens, hidden)


@pytest.mark.parametrize(
    ("formats", "hidden", "ffn"), [(("int4", "f32"), 288, 97), (("bf16", "int8"), 151, 96)]
)
@pytest.mark.parametrize("tokens", [1, 29])
def test_the_last_panel_of_a_matrix_may_be_short(tokens, formats, hidden, ffn):
    case = draw(tokens, 12, 6, hidden, ffn, formats)

    out = run(2, *case)

    np.testing.assert_array_equal(out.view(np.uint32), row_by_row(*case).view(np.uint32))


@every_format
@pytest.mark.parametrize("tokens", [1, 11, 101])
def test_one_expert_may_have_all_tokens_and_the_others_none(formats, tokens):
    x, ids, weights, *stacks = draw(tokens, 6, 1, 160, 96, formats)
    ids[:] = 4

    out = run(2, x, ids, weights, *stacks)

    expected = row_by_row(x, ids, weights, *stacks)
    np.testing.assert_array_equal(out.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("format", ["int8", "int4"])
def test_packed_experts_are_near_the_reference(format):
    x, ids, weights, gate, up, down = draw(19, 7, 3, 256, 128, (format, format))

    out = run(2, x, ids, weights, gate, up, down)

    both = np.concatenate([gate.values, up.values], axis=1).astype(np.float64)
    expected = reference_experts.experts(
        x.astype(np.float64), ids, weights.astype(np.float64), both, down.values.astype(np.float64)
    )
    # Rows are rounded to 127 steps of the largest of 128 columns, of about 3 deviations: an error
    # of 3 / 127 / sqrt(12) = 0.7 % of a deviation a value, once before gate and up and once before
    # down. A row missing or of another expert would be off by a whole deviation.
    deviation = np.abs(out - expected).std() / expected.std()
    assert deviation < 0.02
