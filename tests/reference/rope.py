"""Rotary positions. Frequencies and angles are float32, as the model's definition has them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def frequencies(
    theta: float, head_dim: int, *, rotated: float = 1.0, scaling: float = 1.0
) -> npt.NDArray[np.float32]:
    """theta^(-2i / head_dim) / scaling for the pairs that turn, 0 for the others, [head_dim / 2].

    Rounded to float32 after each step, in this order: the exponent 2i / head_dim, the power, its
    reciprocal, the division by `scaling`. Another order misses by an ulp here and there, which is
    8e-3 of an angle at position 131,071.
    """
    pairs = int(rotated * head_dim / 2)
    exponents = np.arange(0, 2 * pairs, 2).astype(np.float32) / np.float32(head_dim)
    powers = (np.float64(theta) ** exponents.astype(np.float64)).astype(np.float32)
    turning = np.float32(1) / powers / np.float32(scaling)
    return np.concatenate([turning, np.zeros(head_dim // 2 - pairs, np.float32)])


def rope(
    x: Floats,
    positions: npt.NDArray[np.integer],
    *,
    theta: float,
    rotated: float = 1.0,
    scaling: float = 1.0,
) -> Floats:
    """Turns pair (i, i + head_dim / 2) by position times frequency i.

    x [tokens, heads, head_dim], positions [tokens]. Only the product is rounded to float32;
    cosine, sine and the turning itself are float64.
    """
    head_dim = x.shape[-1]
    turns = frequencies(theta, head_dim, rotated=rotated, scaling=scaling)
    angles = positions.astype(np.float32)[:, None] * turns  # [tokens, pairs], float32
    cos, sin = (f(angles.astype(np.float64))[:, None, :] for f in (np.cos, np.sin))
    first, second = x[..., : head_dim // 2], x[..., head_dim // 2 :]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
