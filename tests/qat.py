"""Small checkpoints of quantisation-aware training, in the layouts that Google publishes.

`write` makes the same model in any of them: its matrices are n * s with whole numbers n in -8 to 7
and a scale s for each 32 columns of a row. All else is as `tiny` makes it.
"""

from __future__ import annotations

import copy
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import tiny
from reference.integer import widen

Array = npt.NDArray[Any]
GROUP = 32

# Models of tiny.MODELS with every width a multiple of 32.
_WIDTHS: dict[str, dict[str, int]] = {
    "e_type": {"intermediate_size": 96, "hidden_size_per_layer_input": 32},
    "kv_equal_dense": {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,
                       "num_key_value_heads": 2},
    "moe": {"hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 32},
}  # fmt: skip
MODELS = tuple(_WIDTHS)


@dataclass(frozen=True)
class Lattice:
    """One matrix, or a stack of them."""

    numbers: Array  # [..., cols], -8 to 7
    scales: Array  # [..., cols / 32] float32 that bf16 holds, or float16

    def exact(self) -> Array:
        """float32: a product of 4 and at most 11 bits."""
        return self.numbers * np.repeat(self.scales, GROUP, axis=-1)


def config(name: str) -> tiny.Config:
    made = copy.deepcopy(tiny.MODELS[name].config)
    tiny.text_config(made).update(_WIDTHS[name])
    return made


def is_linear(name: str, shape: tuple[int, ...]) -> bool:
    """Matrices that are multiplied with: neither looked up nor a router."""
    return len(shape) > 1 and "embed_tokens" not in name and "router" not in name


def lattice(name: str, shape: tuple[int, ...], *, seed: int, scales: str) -> Lattice:
    """All numbers as often as a bell has them, scales that differ by half, of both signs."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    numbers = np.clip(np.rint(rng.standard_normal(shape) * 3), -8, 7).astype(np.float32)
    numbers[..., ::GROUP] = 7  # then neither 2 s nor s / 2 gives the same weights
    spread = rng.uniform(0.7, 1.4, (*shape[:-1], shape[-1] // GROUP)) / (3 * np.sqrt(shape[-1]))
    signed = (spread * rng.choice([-1, 1], spread.shape)).astype(np.float32)
    if scales == "f16":
        return Lattice(numbers, signed.astype(np.float16).astype(np.float32))
    return Lattice(numbers, widen(tiny.to_bf16(signed)))


def matrices(name: str, *, seed: int = 7, scales: str = "bf16") -> dict[str, Lattice]:
    """The matrices on a lattice of a model of `MODELS`, by the full names of their tensors."""
    made = config(name)
    return {
        tiny.tensor_prefix(made) + tensor: lattice(tensor, shape, seed=seed, scales=scales)
        for tensor, shape in tiny.tensor_shapes(made).items()
        if is_linear(tensor, shape)
    }


def words(numbers: Array) -> Array:
    """int32 [..., cols / 8] of numbers: eight nibbles n + 8, the lowest column lowest."""
    nibbles = (numbers + 8).astype(np.uint32).reshape(*numbers.shape[:-1], -1, 8)
    return (nibbles << np.arange(0, 32, 4, dtype=np.uint32)).sum(-1, dtype=np.uint32).view(np.int32)


def w4a16(tensors: dict[str, Lattice]) -> tiny.Arrays:
    """Three tensors for each matrix, as compressed-tensors packs them."""
    stored: tiny.Arrays = {}
    for name, matrix in tensors.items():
        stored[f"{name}_packed"] = words(matrix.numbers)
        stored[f"{name}_scale"] = tiny.to_bf16(matrix.scales)
        stored[f"{name}_shape"] = np.array(matrix.numbers.shape, np.int64)
    return stored


def positive(matrix: Lattice) -> Lattice:
    """The same weights with a scale above 0 in every block without a -8, which has no negative."""
    shape = (*matrix.scales.shape, GROUP)
    is_turned = (matrix.scales < 0) & (matrix.numbers.reshape(shape).min(-1) > -8)
    sign = np.where(is_turned, np.float32(-1), np.float32(1))
    return Lattice(matrix.numbers * np.repeat(sign, GROUP, axis=-1), matrix.scales * sign)


def quantization_config() -> dict[str, Any]:
    """As -qat-w4a16-ct has it."""
    weights = {
        "actorder": None, "block_structure": None, "dynamic": False, "group_size": 32,
        "num_bits": 4, "observer": "minmax", "observer_kwargs": {}, "strategy": "group",
        "symmetric": True, "type": "int",
    }  # fmt: skip
    group = {
        "format": "pack-quantized", "input_activations": None, "output_activations": None,
        "targets": ["Linear"], "weights": weights,
    }  # fmt: skip
    return {
        "config_groups": {"group_0": group},
        "format": "pack-quantized",
        "global_compression_ratio": None,
        "ignore": ["lm_head", "re:.*vision_tower.*", "re:.*audio_tower.*"],
        "kv_cache_scheme": None,
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "sparsity_config": {},
        "transform_config": {},
        "version": "0.14.0",
    }


def write(
    folder: Path,
    name: str,
    layout: str,
    *,
    scales: str = "bf16",
    shards: int = 1,
    instead: tiny.Arrays | None = None,
) -> Path:
    """Writes a model of `MODELS`; returns the folder.

    Args:
        layout: "w4a16", "unquantized" (bf16 of n * s) or "exact" (n * s in float32).
        scales: "bf16", or "f16" where the layout is "unquantized" or "exact".
        instead: tensors of other values.
    """
    made = config(name)
    seed = tiny.MODELS[name].seed
    linear = matrices(name, scales=scales)
    tensors = tiny.make_tensors(made, seed)
    if layout == "w4a16":
        tensors = {key: value for key, value in tensors.items() if key not in linear}
        tensors |= w4a16(linear)
        made["quantization_config"] = quantization_config()
    else:
        store = tiny.to_bf16 if layout == "unquantized" else np.float32
        tensors |= {key: store(matrix.exact()) for key, matrix in linear.items()}
    return tiny.write_files(folder, made, tensors | (instead or {}), shards=shards)
