"""The gated dense feed-forward layer."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def gelu_tanh(x: Floats) -> Floats:
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def mlp(x: Floats, gate: Floats, up: Floats, down: Floats) -> Floats:
    """down (gelu_tanh(gate x) * up x); x [tokens, hidden], gate and up [ffn, hidden]."""
    return (gelu_tanh(x @ gate.T) * (x @ up.T)) @ down.T
