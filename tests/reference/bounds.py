"""How far numbers computed in float32 may be from the reference's."""

from __future__ import annotations

import math

import tiny


def float32_error(config: tiny.Config, largest: float) -> float:
    """How far float32 logits may be from float64 ones.

    Each of the two branches of a layer (and the head) rounds sums of up to `longest` products; as
    the signs of the roundings are random that is sqrt(longest) * 2^-24 of the branch. Norms keep
    the branches at the size of the stream, so the errors add up; the logits are as large as
    `largest`.
    """
    text = tiny.text_config(config)
    shapes = tiny.tensor_shapes(config).items()
    longest = max(shape[-1] for name, shape in shapes if not name.startswith("embed_tokens_per"))
    branches = 2 * text["num_hidden_layers"] + 1
    return branches * math.sqrt(longest) * 2.0**-24 * largest
