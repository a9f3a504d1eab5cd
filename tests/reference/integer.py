"""Integer weights: panels packed by the picture in csrc/cpu/kernels.h, and their matmul twice.

`matmul` keeps to the order of operations of kernels.h, to the bit; `dequantized` serves float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

PANEL_ROWS = 32
GRANULES = (32, 128)  # columns of activations that share a scale
SEGMENT = 2048

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Format:
    name: str
    block: int  # columns that share a scale
    lowest: int
    highest: int


INT4 = Format("int4", 32, -8, 7)
INT8 = Format("int8", 128, -127, 127)


def widen(bits: Array) -> Array:
    """The float32 numbers that bf16 bits stand for."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def pack(format: Format, weights: Array, scales: Array) -> Array:
    """Bytes of the panels of whole-number weights [rows, cols] and bf16 bits [rows, blocks]."""
    rows, cols = weights.shape
    panels = []
    for first in range(0, rows, PANEL_ROWS):
        codes = np.zeros((PANEL_ROWS, cols), np.int64)
        codes[: min(PANEL_ROWS, rows - first)] = weights[first : first + PANEL_ROWS]
        block_scales = np.zeros((PANEL_ROWS, scales.shape[1]), np.uint16)
        block_scales[: min(PANEL_ROWS, rows - first)] = scales[first : first + PANEL_ROWS]
        for block, start in enumerate(range(0, cols, format.block)):
            unit = codes[:, start : start + format.block]
            panels.append(pack_int4(unit) if format is INT4 else pack_int8(unit))
            panels.append(block_scales[:, block].astype("<u2").view(np.uint8))
    return np.concatenate([np.zeros(0, np.uint8), *panels])


def pack_int4(unit: Array) -> Array:
    # Row 16 t + r and column 8 g + 4 high + j, in the order g, t, r, j of the bytes.
    t, r, g, high, j = range(5)
    codes = (unit + 8).reshape(2, 16, 4, 2, 4).transpose(g, t, r, j, high)
    return (codes[..., 0] | codes[..., 1] << 4).astype(np.uint8).ravel()


def pack_int8(unit: Array) -> Array:
    r, q, j = range(3)
    return (unit + 128).reshape(PANEL_ROWS, -1, 4).transpose(q, r, j).astype(np.uint8).ravel()


def dequantized(weights: Array, scales: Array, block: int) -> Array:
    """In float64; scales float32, one for `block` columns, also for activations."""
    return weights * np.repeat(scales.astype(np.float64), block, axis=1)[:, : weights.shape[1]]


def fma(a: Array, b: Array, c: Array) -> Array:
    """float32 a * b + c, rounded once.

    The product of two float32 numbers is exact in float64. The sum is rounded there to odd (where
    it is not exact, to the neighbour whose last bit is 1), after which rounding again is harmless.
    """
    product, addend = np.broadcast_arrays(a.astype(np.float64) * b.astype(np.float64), c)
    addend = addend.astype(np.float64)
    total = product + addend
    back = total - product
    error = (product - (total - back)) + (addend - back)
    even = (total.view(np.int64) & 1) == 0
    neighbour = np.nextafter(total, np.copysign(np.inf, error))
    return np.where((error != 0) & even, neighbour, total).astype(np.float32)


def matmul(
    format: Format, codes: Array, x_scales: Array, weights: Array, scales: Array, granule: int
) -> Array:
    """[tokens, rows] from int8 codes and float32 scales of activations, and unpacked weights."""
    tokens, cols = codes.shape
    shape = (tokens, len(weights))
    of_weights = (format.block, widen(scales).T[:, None, :])  # columns, [blocks, 1, rows]
    of_x = (granule, x_scales.T[:, :, None])  # columns, [granules, tokens, 1]
    inner, outer = sorted((of_weights, of_x), key=lambda scale: scale[0])
    total = np.zeros(shape, np.float32)
    for segment in range(0, cols, SEGMENT):
        acc = np.zeros(shape, np.float32)
        segment_end = min(segment + SEGMENT, cols)
        for span in range(segment, segment_end, outer[0]):
            f = np.zeros(shape, np.float32)
            span_end = min(span + outer[0], segment_end)
            for start in range(span, span_end, inner[0]):
                part = slice(start, min(start + inner[0], span_end))
                dots = codes[:, part].astype(np.int64) @ weights[:, part].astype(np.int64).T
                f = fma(inner[1][start // inner[0]], dots.astype(np.float32), f)
            acc = fma(outer[1][span // outer[0]], f, acc)
        total = acc if segment == 0 else total + acc
    return total
