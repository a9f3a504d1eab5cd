"""What the kernel tests share. They take tiers from `usable_tiers()`: what this machine can run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


@pytest.fixture
def assert_same_bits() -> Callable[[Any, Any], None]:
    def check(actual: Any, expected: Any) -> None:
        """As bits: 0.0 == -0.0 would pass. A NaN need only be a NaN: which one is not promised."""
        actual, expected = (np.asarray(a, np.float32) for a in (actual, expected))
        np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
        bits, expected_bits = (
            np.where(np.isnan(a), np.uint32(0), a.view(np.uint32)) for a in (actual, expected)
        )
        np.testing.assert_array_equal(bits, expected_bits)

    return check


@pytest.fixture
def floats(rng: np.random.Generator) -> Callable[..., np.ndarray]:
    def draw(*shape: int, special: bool = False) -> np.ndarray:
        """Normal numbers over six decades; with `special`, some that kernels like to get wrong."""
        x = rng.standard_normal(shape) * 10.0 ** rng.uniform(-3, 3, shape)
        x = x.astype(np.float32)
        if special:
            values = np.array([0.0, -0.0, 1e-45, -1e-40, 3e38, np.inf, -np.inf, np.nan], np.float32)
            where = rng.random(shape) < 0.1
            x[where] = rng.choice(values, np.count_nonzero(where))
        return x

    return draw


@pytest.fixture
def bf16s(floats: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def draw(*shape: int) -> np.ndarray:
        """Bits of bf16 numbers: float32 cut off, which is a bf16 too."""
        return (floats(*shape).view(np.uint32) >> 16).astype(np.uint16)

    return draw


@pytest.fixture
def widened() -> Callable[[np.ndarray], np.ndarray]:
    def widen(bits: np.ndarray) -> np.ndarray:
        """The float32 numbers that bf16 bits stand for."""
        return (bits.astype(np.uint32) << 16).view(np.float32)

    return widen
