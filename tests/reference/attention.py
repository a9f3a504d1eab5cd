"""Causal attention with grouped heads and a window."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def softmax(scores: Floats) -> Floats:
    """Over the last axis; -inf counts as absent."""
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def attention(q: Floats, k: Floats, v: Floats, *, window: int = 0, scale: float = 1.0) -> Floats:
    """softmax(scale * q k^T over the keys a query sees) v, [tokens, heads, head_dim].

    q [tokens, heads, head_dim]; k, v [keys, kv_heads, head_dim]. Query t stands at position
    keys - tokens + t and sees itself and what is before, in a sliding layer the nearest `window`
    of them (0: all). Query head j reads kv head j * kv_heads // heads.
    """
    tokens, heads, _ = q.shape
    keys, kv_heads, _ = k.shape
    query_at = np.arange(keys - tokens, keys)[:, None]
    key_at = np.arange(keys)[None, :]
    seen = key_at <= query_at
    if window:
        seen &= key_at > query_at - window
    out = np.empty_like(q)
    for head in range(heads):
        kv_head = head * kv_heads // heads
        scores = np.where(seen, scale * (q[:, head] @ k[:, kv_head].T), -np.inf)
        out[:, head] = softmax(scores) @ v[:, kv_head]
    return out
