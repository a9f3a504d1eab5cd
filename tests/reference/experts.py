"""The router and the experts (26B)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from reference.attention import softmax
from reference.mlp import mlp
from reference.rms_norm import rms_norm

Floats = npt.NDArray[np.float64]


def route(
    x: Floats,
    weight: Floats,
    scale: Floats,
    per_expert_scale: Floats | None,
    *,
    top_k: int,
    epsilon: float,
) -> tuple[npt.NDArray[np.int64], Floats]:
    """The experts of each token, largest probability first, ties to the lowest id; and weights.

    p = softmax over all experts of weight (rms(x) * scale / sqrt(hidden)); the weight of expert e
    is p[e] / sum(p over the top_k) * per_expert_scale[e]. x is the raw residual [tokens, hidden].
    """
    factor = scale / math.sqrt(x.shape[-1])
    p = softmax((rms_norm(x, epsilon=epsilon) * factor) @ weight.T)
    ids = np.argsort(-p, axis=-1, kind="stable")[:, :top_k]
    weights = np.take_along_axis(p, ids, axis=-1)
    weights = weights / weights.sum(axis=-1, keepdims=True)
    return ids, weights if per_expert_scale is None else weights * per_expert_scale[ids]


def experts(
    x: Floats,
    ids: npt.NDArray[np.integer],
    weights: Floats,
    gate_up: Floats,
    down: Floats,
) -> Floats:
    """Sum over a token's experts of weight * mlp; gate rows come first in gate_up.

    x [tokens, hidden]; gate_up [experts, 2 * ffn, hidden]; down [experts, hidden, ffn].
    """
    ffn = down.shape[-1]
    out = np.zeros_like(x)
    for token in range(x.shape[0]):
        for expert, weight in zip(ids[token], weights[token], strict=True):
            row = mlp(
                x[token : token + 1], gate_up[expert, :ffn], gate_up[expert, ffn:], down[expert]
            )
            out[token] += weight * row[0]
    return out
