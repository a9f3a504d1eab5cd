"""What the tests of weight formats share: the formats, and rounding as NumPy does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest


class Format(NamedTuple):
    name: str
    block: int
    divisor: float
    low: int
    high: int
    zero: int  # the code of the number 0
    dtype: type


FORMATS = {
    "int4": Format("int4", 32, 7.5, -8, 7, 8, np.uint8),
    "int8": Format("int8", 128, 127.0, -127, 127, 0, np.int8),
}


@pytest.fixture(params=FORMATS)
def weight_format(request: pytest.FixtureRequest) -> Format:
    return FORMATS[request.param]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def quantize_as_defined() -> Callable[[Format, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    def quantize(f: Format, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """docs/formats.md, "Rounding", word by word."""
        rows, cols = weights.shape
        codes = np.full((rows, cols), f.zero, f.dtype)
        scales = np.zeros((rows, -(-cols // f.block)), ml_dtypes.bfloat16)
        for b in range(scales.shape[1]):
            part = weights[:, b * f.block : (b + 1) * f.block]
            scales[:, b] = (np.abs(part).max(axis=1) / np.float32(f.divisor)).astype(
                ml_dtypes.bfloat16
            )
            wide = scales[:, b : b + 1].astype(np.float32)
            numbers = np.zeros_like(part)
            np.divide(part, wide, out=numbers, where=wide != 0)
            numbers = np.clip(np.rint(numbers), f.low, f.high).astype(np.int64)
            codes[:, b * f.block : (b + 1) * f.block] = (numbers + f.zero).astype(f.dtype)
        return codes, scales.view(np.uint16)

    return quantize


@pytest.fixture
def random_logical(
    rng: np.random.Generator,
) -> Callable[[Format, int, int], tuple[np.ndarray, np.ndarray]]:
    def draw(f: Format, rows: int, cols: int) -> tuple[np.ndarray, np.ndarray]:
        """Codes over their whole range, and scales that are any 16 bits: they are only moved."""
        numbers = rng.integers(f.low, f.high, (rows, cols), endpoint=True)
        scales = rng.integers(0, 65536, (rows, -(-cols // f.block)), dtype=np.uint16)
        return (numbers + f.zero).astype(f.dtype), scales

    return draw
