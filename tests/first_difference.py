"""Where two runs of one model part: the position, the layer, and what it looks like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import tiny
from golden import LOGIT_BOUND
from reference import checkpoint, decoder

Logits = npt.NDArray[Any]
Engine = Callable[[Path, Sequence[int]], Logits]  # a checkpoint and ids to [tokens, vocab]


def check_logits(found: Logits, expected: Logits, *, why: Callable[[], str] = str) -> None:
    """Raises AssertionError unless the bound holds and every position has the same top-1.

    `why` is asked for more only when it does not.
    """
    assert found.shape == expected.shape, f"shape: found {found.shape}, expected {expected.shape}"
    difference = np.abs(found - expected).max(axis=-1)
    # Written so that NaN fails too.
    outside = np.flatnonzero(~(difference <= LOGIT_BOUND))
    flipped = np.flatnonzero(found.argmax(axis=-1) != expected.argmax(axis=-1))
    if outside.size == 0 and flipped.size == 0:
        return
    first = int(min([*outside, *flipped]))
    raise AssertionError(
        f"logits: largest difference {np.nanmax(difference):.3g}, expected at most {LOGIT_BOUND}; "
        f"first at position {first} of {len(found)} ({difference[first]:.3g} there); "
        f"outside the bound at {outside.size} positions, other top-1 at {flipped.tolist()}. {why()}"
    )


def identity_from(folder: Path, source: Path, layer: int) -> Path:
    """Copies a checkpoint so that layers from `layer` on pass the residual stream as it is.

    The norms after each branch become 0 and the layer scalar 1: the shapes, the plan and the
    layers before stay what they were. The source holds bfloat16 values.
    """
    config, stored = checkpoint.read(source)
    gemma3 = decoder.is_gemma3(config)
    branches = (
        "post_attention_layernorm.weight",
        "post_feedforward_layernorm.weight",
        "post_per_layer_input_norm.weight",
    )
    tensors: tiny.Arrays = {}
    for name, values in stored.items():
        index, _, part = name.removeprefix("layers.").partition(".")
        if index.isdigit() and int(index) >= layer:
            if part in branches:
                values = np.full_like(values, -1.0 if gemma3 else 0.0)
            elif part == "layer_scalar":
                values = np.ones_like(values)
        tensors["model." + name] = tiny.to_bf16(values)
    classes = {"gemma3": "Gemma3", "gemma4": "Gemma4", "gemma4_unified": "Gemma4Unified"}
    family = classes[config["model_type"].removesuffix("_text")]
    return tiny.write_files(folder, config | {"architectures": [f"{family}ForCausalLM"]}, tensors)


def first_layer(engine: Engine, source: Path, ids: Sequence[int], folder: Path) -> str:
    """The first layer after which `engine` and the reference differ, as a sentence.

    A wrong scale at the very end of a layer shows in the next one: the head's norm hides it.
    """
    layers = len(decoder.Decoder(source).layers)
    for count in range(layers + 1):
        cut = identity_from(folder / f"first_{count}_layers", source, count)
        difference = np.abs(engine(cut, ids) - decoder.logits(cut, ids)).max()
        if not difference <= LOGIT_BOUND:
            where = f"in layer {count - 1}" if count else "before layer 0, or in the head"
            return f"Against the reference it first differs {where} (by {difference:.3g})."
    return "Against the reference no layer differs."


def looks_like(found: Logits, source: Path, ids: Sequence[int]) -> str:
    """Names the feature without which the reference gives `found`, if it is one of the six."""
    for drop in sorted(decoder.DROPPABLE):
        broken = decoder.logits(source, ids, drop=frozenset({drop}))
        if broken.shape == found.shape and np.abs(found - broken).max() <= LOGIT_BOUND:
            return f"It is what the model gives without {drop}."
    return ""
