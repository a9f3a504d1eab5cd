"""Root-mean-square norm."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def rms_norm(x: Floats, weight: Floats | None = None, *, epsilon: float) -> Floats:
    """x / sqrt(mean(x^2) + epsilon) * weight over the last axis; no weight means 1.

    The weight multiplies as it is: Gemma 3 callers give 1 + w.
    """
    normed = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + epsilon)
    return normed if weight is None else normed * weight
