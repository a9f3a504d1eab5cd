from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cabochon import _core
from cabochon._core import testing

DOCS = Path(__file__).resolve().parents[4] / "docs" / "formats.md"

ROWS = [0, 1, 2, 31, 32, 33, 64, 97]
COLS = [32, 64, 96, 128, 160, 224, 256, 1152]


def pack_as_documented(f, codes, scales):
    """Byte by byte from the formulas of docs/formats.md."""
    rows, cols = codes.shape
    numbers = codes.astype(int) - f.zero
    panels = []
    for first in range(0, rows, 32):
        for left in range(0, cols, f.block):
            width = min(f.block, cols - left)
            unit = np.zeros((32 * width // 2 if f.name == "int4" else 32 * width) + 64, np.uint8)
            for row in range(32):
                is_there = first + row < rows
                for col in range(width):
                    number = numbers[first + row, left + col] if is_there else 0
                    if f.name == "int4":
                        g, half, j = col // 8, col % 8 // 4, col % 4
                        v = 2 * g + row // 16
                        unit[64 * v + 4 * (row % 16) + j] |= (number + 8) << 4 * half
                    else:
                        unit[128 * (col // 4) + 4 * row + col % 4] = number + 128
                scale = int(scales[first + row, left // f.block]) if is_there else 0
                at = len(unit) - 64 + 2 * row
                unit[at], unit[at + 1] = scale & 255, scale >> 8
            panels.append(unit)
    return np.concatenate(panels) if panels else np.zeros(0, np.uint8)


@pytest.mark.parametrize("cols", [32, 96, 128, 160, 256])
@pytest.mark.parametrize("rows", [0, 1, 31, 32, 33])
def test_every_byte_lies_where_the_page_says(weight_format, rows, cols, random_logical):
    codes, scales = random_logical(weight_format, rows, cols)

    actual = testing.pack(weight_format.name, codes, scales)

    np.testing.assert_array_equal(actual, pack_as_documented(weight_format, codes, scales))


@pytest.mark.parametrize("cols", COLS)
@pytest.mark.parametrize("rows", ROWS)
def test_unpacking_gives_back_every_bit(weight_format, rows, cols, random_logical):
    codes, scales = random_logical(weight_format, rows, cols)

    panels = testing.pack(weight_format.name, codes, scales)
    actual_codes, actual_scales = testing.unpack(weight_format.name, panels, rows, cols)

    np.testing.assert_array_equal(actual_codes, codes)
    np.testing.assert_array_equal(actual_scales, scales)


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(["int4", "int8"]),
    rows=st.integers(1, 70),
    blocks=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
)
def test_packing_gives_back_every_byte_of_a_panel(name, rows, blocks, seed):
    # The other way round: any bytes at all, but for the padding, are some matrix.
    cols = 32 * blocks
    size = testing.packed_bytes(name, rows, cols)
    panels = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)

    codes, scales = testing.unpack(name, panels, rows, cols)
    again = testing.pack(name, codes, scales)

    more_codes, more_scales = testing.unpack(name, again, rows, cols)
    np.testing.assert_array_equal(more_codes, codes)
    np.testing.assert_array_equal(more_scales, scales)
    if rows % 32 == 0:
        np.testing.assert_array_equal(again, panels)


@pytest.mark.parametrize(
    ("name", "rows", "cols", "expected"),
    [
        ("int4", 32, 32, 576),
        ("int8", 32, 128, 4160),
        ("int8", 32, 160, 4160 + 1088),  # a unit of 128 columns and a short one of 32
        ("int4", 33, 64, 4 * 576),
        ("int4", 0, 64, 0),
        ("int4", 10240, 2560, 320 * 80 * 576),  # a matrix of E4B, 4.5 bits a weight
    ],
)
def test_a_packed_matrix_takes_its_units(name, rows, cols, expected):
    assert testing.packed_bytes(name, rows, cols) == expected


@pytest.mark.parametrize("tier", _core.usable_tiers())
@pytest.mark.parametrize("cols", [32, 128, 160])
@pytest.mark.parametrize("rows", [1, 32, 45])
def test_the_kernels_read_the_weights_that_were_packed(
    weight_format, rows, cols, tier, random_logical
):
    # cpu/kernels.h and weights/pack.h each state the layout; neither may include the other. A token
    # that is 1 in one column and 0 elsewhere picks that column of the matrix, exactly.
    codes, scales = random_logical(weight_format, rows, cols)
    scales = scales & 0xBFFF  # finite
    panels = testing.pack(weight_format.name, codes, scales)
    tokens = np.eye(cols, dtype=np.int8)
    token_scales = np.ones((cols, -(-cols // 128)), np.float32)
    sums = tokens.reshape(cols, cols // 32, 32).sum(axis=2, dtype=np.int32)

    matmul = getattr(testing, f"matmul_{weight_format.name}")
    actual = matmul(tier, tokens, token_scales, sums, panels, rows)

    np.testing.assert_array_equal(actual.T, testing.dequantize(weight_format.name, codes, scales))


def documented_bytes(heading):
    """Lines of the code block under a heading of the page: `bytes OFFSET  xx xx ...`."""
    section = DOCS.read_text().split(f"### {heading}\n", 1)[1].split("\n#", 1)[0]
    lines = re.findall(r"^bytes +(\d+)  ((?:[0-9a-f]{2} ?)+)$", section, re.MULTILINE)
    assert len(lines) >= 5
    return {int(offset): bytes.fromhex(text) for offset, text in lines}


@pytest.mark.parametrize(
    ("name", "weights"),
    [("int4", (np.arange(32) - 16) / 4), ("int8", (np.arange(128) - 64) / 16)],
)
def test_the_worked_example_of_the_page_is_true(name, weights):
    panel, index = testing.quantize_panel(name, weights.astype(np.float32)[None])

    assert index == -1
    for offset, expected in documented_bytes(f"Example: {name}").items():
        assert panel[offset : offset + len(expected)].tobytes() == expected, offset
