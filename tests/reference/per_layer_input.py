"""What each layer is told about each token, beside the residual stream (E2B, E4B)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from reference.mlp import gelu_tanh
from reference.rms_norm import rms_norm

Floats = npt.NDArray[np.float64]


def per_layer_input(
    token_ids: npt.NDArray[np.integer],
    x: Floats,
    table: Floats,
    projection: Floats,
    norm: Floats,
    *,
    epsilon: float,
) -> Floats:
    """(rms_norm(projection x / sqrt(hidden)) + table[id] sqrt(width)) / sqrt(2).

    x [tokens, hidden], the scaled embedding; table [vocab, layers * width], layer 0 first;
    projection [layers * width, hidden]; norm [width]. Returns [tokens, layers, width].
    """
    tokens, hidden = x.shape
    width = norm.size
    context = (x @ projection.T / math.sqrt(hidden)).reshape(tokens, -1, width)
    token = table[token_ids].reshape(tokens, -1, width) * math.sqrt(width)
    return (rms_norm(context, norm, epsilon=epsilon) + token) / math.sqrt(2.0)


def mix(hidden: Floats, layer_input: Floats, gate: Floats, projection: Floats) -> Floats:
    """What a layer makes of its input: projection (gelu_tanh(gate hidden) * layer_input).

    hidden is the raw residual, [tokens, hidden]; layer_input [tokens, width].
    """
    return (gelu_tanh(hidden @ gate.T) * layer_input) @ projection.T
