"""Writes a random bf16 checkpoint with the shapes of a published model.

    python benchmarks/make_checkpoint.py e2b FOLDER [--layers N] [--seed 0] [--qat LAYOUT]
        [--gguf FILE]

For speed and memory, not for quality: the weights are noise. Names, shapes and config.json are
those of a text-only export (`Gemma4ForCausalLM` and the like): the towers for images and sound are
left out. The file is streamed to disk; memory stays under 200 MB whatever the model.

The weights are one block of normal values, repeated: cheap to make, and of a prime length, so that
no two rows are equal. Every matrix has unit gain (deviation 1 / sqrt(inputs)), norm weights lie
around 1 and those of keys around 1 / sqrt(head_dim), so activations and attention scores stay of
order 1.

--qat writes matrices as if they had been trained in int4, with random codes, in one of the layouts
that are published: w4a16 (words and bf16 scales) or q4_0 (bf16 numbers on a lattice with float16
scales). Embeddings, norms and routers are as without it.

--gguf also writes the same weights for llama.cpp, quantised (needs the `bench` extra).
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import gguf_twin
from cabochon.config import LayerPlan, ModelPlan, read_config
from cabochon.errors import CabochonError
from safetensors_writer import Tensor, from_array, to_bf16, write_checkpoint

CONFIGS = Path(__file__).parents[1] / "tests" / "data" / "configs"
ARCHITECTURES = {
    "gemma3_text": "Gemma3ForCausalLM",
    "gemma4_text": "Gemma4ForCausalLM",
    "gemma4_unified_text": "Gemma4UnifiedForCausalLM",
}
BLOCK = 4_194_301  # values; prime
STEP = 1_000_003  # how far apart in the block two tensors begin
GROUP = 32  # columns with one scale
GROUPS = 131_071  # of a block of trained weights; prime
LAYOUTS = ("w4a16", "q4_0")


class Noise:
    """Tensors of normal values out of one repeated block."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self._normal = self._generator.standard_normal(BLOCK, dtype=np.float32)
        self._blocks: dict[float, memoryview] = {}
        self._begin = 0

    def matrix(self, name: str, shape: tuple[int, ...], deviation: float) -> Iterator[Tensor]:
        self._begin = (self._begin + STEP) % BLOCK
        begin = self._begin
        yield Tensor(
            name=name,
            dtype="BF16",
            shape=shape,
            pieces=lambda: repeat(self._block(deviation), begin, math.prod(shape)),
        )

    def vector(self, name: str, length: int, around: float, *, stored_below: float = 0.0) -> Tensor:
        """Values within a tenth of `around`; `stored_below` is taken off what is stored."""
        values = around * self._generator.uniform(0.9, 1.1, length) - stored_below
        return from_array(name, values.astype(np.float32), "BF16")

    def _block(self, deviation: float) -> memoryview:
        if deviation not in self._blocks:
            self._blocks[deviation] = memoryview(to_bf16(self._normal * np.float32(deviation)))
        return self._blocks[deviation]


class Trained(Noise):
    """The same, with matrices that are whole numbers times a scale for each 32 columns."""

    def __init__(self, seed: int, layout: str) -> None:
        super().__init__(seed)
        self._layout = layout
        generator = np.random.default_rng([seed, 4])
        normal = generator.standard_normal((GROUPS, GROUP), dtype=np.float32)
        self._numbers = np.clip(np.rint(3 * normal), -8, 7).astype(np.int8)  # deviation 3
        self._scales = generator.uniform(0.7, 1.4, GROUPS).astype(np.float32) / 3
        self._lattices: dict[float, memoryview] = {}
        self._words = memoryview(pack_words(self._numbers))

    def matrix(self, name: str, shape: tuple[int, ...], deviation: float) -> Iterator[Tensor]:
        if "embed_tokens" in name or "router" in name or shape[-1] % GROUP:
            yield from super().matrix(name, shape, deviation)
            return
        self._begin = (self._begin + STEP) % GROUPS
        begin, groups = self._begin, math.prod(shape) // GROUP
        part = (*shape[:-1], shape[-1] // GROUP)
        if self._layout == "q4_0":
            yield Tensor(
                name=name,
                dtype="BF16",
                shape=shape,
                pieces=lambda: repeat(self._lattice(deviation), GROUP * begin, GROUP * groups),
            )
            return
        yield Tensor(
            name=f"{name}_packed",
            dtype="I32",
            shape=(*shape[:-1], shape[-1] // 8),
            pieces=lambda: repeat(self._words, GROUP // 8 * begin, GROUP // 8 * groups),
        )

        def scales() -> Iterator[memoryview]:
            return repeat(memoryview(to_bf16(self._scales * np.float32(deviation))), begin, groups)

        yield Tensor(
            name=f"{name}_scale",
            dtype="BF16",
            shape=part,
            pieces=scales,
        )
        yield Tensor(
            name=f"{name}_shape",
            dtype="I64",
            shape=(len(shape),),
            pieces=lambda: [np.array(shape, np.int64).tobytes()],
        )

    def _lattice(self, deviation: float) -> memoryview:
        if deviation not in self._lattices:
            scales = (self._scales * np.float32(deviation)).astype(np.float16).astype(np.float32)
            values = to_bf16(self._numbers * scales[:, None])
            self._lattices[deviation] = memoryview(values.reshape(-1))
        return self._lattices[deviation]


def pack_words(numbers: np.ndarray) -> np.ndarray:
    """Eight numbers + 8 a word, the first in its lowest four bits."""
    nibbles = (numbers + 8).astype(np.uint32).reshape(-1, 8) << np.arange(0, 32, 4, dtype=np.uint32)
    return np.bitwise_or.reduce(nibbles, axis=1)


def repeat(block: memoryview, begin: int, count: int) -> Iterator[memoryview]:
    """So many items of a block without end, from item `begin` on."""
    while count:
        piece = block[begin : begin + count]
        count -= len(piece)
        begin = 0
        yield piece


QUANTIZATION = {  # as -qat-w4a16-ct has it
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "input_activations": None,
            "output_activations": None,
            "weights": {
                "num_bits": 4,
                "type": "int",
                "symmetric": True,
                "strategy": "group",
                "group_size": GROUP,
                "actorder": None,
                "dynamic": False,
            },
        }
    },
}


def model_tensors(plan: ModelPlan, noise: Noise, *, unused_kv: bool) -> Iterator[Tensor]:
    def matrix(
        name: str, rows: int, inputs: int, deviation: float | None = None
    ) -> Iterator[Tensor]:
        return noise.matrix(f"model.{name}.weight", (rows, inputs), deviation or inputs**-0.5)

    def norm(name: str, length: int) -> Tensor:
        return noise.vector(f"model.{name}.weight", length, 1.0, stored_below=plan.norm_offset)

    yield from matrix("embed_tokens", plan.vocab, plan.hidden)
    yield norm("norm", plan.hidden)
    if plan.per_layer_vocab:
        width = plan.layers[0].per_layer_input
        columns = len(plan.layers) * width
        # The lookup multiplies by sqrt(width).
        yield from matrix("embed_tokens_per_layer", plan.per_layer_vocab, columns, width**-0.5)
        yield from matrix("per_layer_model_projection", columns, plan.hidden)
        yield norm("per_layer_projection_norm", width)
    for number, layer in enumerate(plan.layers):
        stored_kv = unused_kv or layer.kv_source == number
        yield from layer_tensors(plan, layer, f"model.layers.{number}.", noise, stored_kv)


def layer_tensors(
    plan: ModelPlan, layer: LayerPlan, prefix: str, noise: Noise, stored_kv: bool
) -> Iterator[Tensor]:
    hidden, head_dim = plan.hidden, layer.head_dim

    def matrix(name: str, *shape: int) -> Iterator[Tensor]:
        return noise.matrix(prefix + name, shape, shape[-1] ** -0.5)

    def norm(name: str, length: int = hidden, around: float = 1.0) -> Tensor:
        name = f"{prefix}{name}.weight"
        return noise.vector(name, length, around, stored_below=plan.norm_offset)

    for place in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
        yield norm(f"{place}_layernorm")
    yield from matrix("self_attn.q_proj.weight", layer.heads * head_dim, hidden)
    yield norm("self_attn.q_norm", head_dim)
    if stored_kv:
        yield from matrix("self_attn.k_proj.weight", layer.kv_heads * head_dim, hidden)
        # q and k have length sqrt(head_dim) each, so this makes scores of order 1.
        yield norm("self_attn.k_norm", head_dim, 1 / (layer.score_scale * head_dim**0.5))
        if not layer.values_from_keys:
            yield from matrix("self_attn.v_proj.weight", layer.kv_heads * head_dim, hidden)
    yield from matrix("self_attn.o_proj.weight", hidden, layer.heads * head_dim)
    yield from matrix("mlp.gate_proj.weight", layer.ffn, hidden)
    yield from matrix("mlp.up_proj.weight", layer.ffn, hidden)
    yield from matrix("mlp.down_proj.weight", hidden, layer.ffn)
    if plan.layer_scalars:
        yield noise.vector(f"{prefix}layer_scalar", 1, 0.8)
    if layer.per_layer_input:
        yield from matrix("per_layer_input_gate.weight", layer.per_layer_input, hidden)
        yield from matrix("per_layer_projection.weight", hidden, layer.per_layer_input)
        yield norm("post_per_layer_input_norm")
    if layer.experts:
        yield from matrix("router.proj.weight", layer.experts, hidden)
        # The router divides by sqrt(hidden): this gives its logits a deviation of 1.
        yield noise.vector(f"{prefix}router.scale", hidden, hidden**0.5)
        yield noise.vector(f"{prefix}router.per_expert_scale", layer.experts, 1.0)
        yield from matrix("experts.gate_up_proj", layer.experts, 2 * layer.expert_ffn, hidden)
        yield from matrix("experts.down_proj", layer.experts, hidden, layer.expert_ffn)
        yield norm("pre_feedforward_layernorm_2")
        yield norm("post_feedforward_layernorm_1")
        yield norm("post_feedforward_layernorm_2")


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The config of the model's text-only export."""
    text = dict(config.get("text_config", config))
    text["architectures"] = [ARCHITECTURES[text["model_type"]]]
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if key in config:
            text.setdefault(key, config[key])
    return text


def with_layers(text: dict[str, Any], layers: int) -> dict[str, Any]:
    """The same model with fewer layers; the share of layers without own KV is kept where it can."""
    full = text["num_hidden_layers"]
    if not 1 <= layers <= full:
        raise ValueError(f"--layers is {layers}, expected 1 to {full}")
    if "per_layer_config" in text:
        raise ValueError("--layers: the config spells layers out in per_layer_config")
    changed = text | {"num_hidden_layers": layers}
    if text.get("layer_types"):
        types = text["layer_types"][:layers]
        if not text["model_type"].startswith("gemma3"):
            types[-1] = "full_attention"
        changed["layer_types"] = types
        if shared := text.get("num_kv_shared_layers"):
            # A donor of every type must come before the first shared layer.
            first_full = types.index("full_attention")
            changed["num_kv_shared_layers"] = max(
                0, min(round(layers * shared / full), layers - first_full - 1)
            )
    return changed


def byte_tokenizer() -> dict[str, Any]:
    """A tokenizer.json that encodes text byte by byte; all other ids of the model have no text."""
    names = ["<pad>", "<eos>", "<bos>", "<unk>"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    pieces = [*names, *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581"]
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": number, "content": name, "special": True} | flags
            for number, name in enumerate(names)
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {piece: number for number, piece in enumerate(pieces)},
            "merges": [],
        },
    }


def find_config(model: str) -> Path:
    """`gemma-3-1b`, `gemma-4-E2B`, or `e2b` for short (Gemma 4), in any case; or a path."""
    if model.endswith(".json"):
        return Path(model)
    known = {path.stem.lower(): path for path in CONFIGS.glob("*.json")}
    for name in (model.lower(), f"gemma-4-{model.lower()}"):
        if name in known:
            return known[name]
    names = ", ".join(sorted(path.stem for path in known.values()))
    raise ValueError(f"model is '{model}', expected a config.json or one of: {names}")


def make(
    model: str,
    folder: Path,
    *,
    layers: int | None = None,
    seed: int = 0,
    qat: str | None = None,
    unused_kv: bool = True,
    shard_bytes: int | None = None,
    tokenizer: Path | None = None,
) -> list[Tensor]:
    text = text_config(json.loads(find_config(model).read_text(encoding="utf-8")))
    if layers is not None:
        text = with_layers(text, layers)
    if qat == "w4a16":
        text["quantization_config"] = QUANTIZATION
    config = read_config(text)
    noise = Trained(seed, qat) if qat else Noise(seed)
    unused_kv = unused_kv and not qat  # those files are without
    # Sorted as in published files, so that tensors begin at the same odd multiples of 2 bytes.
    tensors = sorted(
        model_tensors(config.plan, noise, unused_kv=unused_kv), key=lambda tensor: tensor.name
    )
    folder.mkdir(parents=True, exist_ok=True)
    total_bytes = sum(tensor.total_bytes for tensor in tensors)
    free_bytes = shutil.disk_usage(folder).free
    if total_bytes > free_bytes:
        raise ValueError(
            f"{folder}: the checkpoint takes {total_bytes / 1e9:.1f} GB, "
            f"{free_bytes / 1e9:.1f} GB are free; --layers makes it smaller"
        )
    write_checkpoint(folder, tensors, origin="random", shard_bytes=shard_bytes)
    if tokenizer is not None:
        shutil.copyfile(tokenizer, folder / "tokenizer.json")
    else:
        (folder / "tokenizer.json").write_text(json.dumps(byte_tokenizer(), indent=1) + "\n")
    generation = {
        "bos_token_id": config.bos_token_id,
        "eos_token_id": list(config.eos_token_ids),
        "pad_token_id": config.pad_token_id,
    }
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    (folder / "config.json").write_text(json.dumps(text, indent=2) + "\n")
    return tensors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="such as e2b or gemma-3-1b, or a path to a config.json")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, help="fewer layers than the model has")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--qat", choices=LAYOUTS, help="matrices as trained in int4")
    parser.add_argument("--shard-gb", type=float, help="split into files of at most this size")
    parser.add_argument(
        "--no-unused-kv",
        action="store_true",
        help="leave out the K/V tensors of KV-shared layers, which published base files carry",
    )
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="default: byte by byte")
    parser.add_argument("--gguf", type=Path, metavar="FILE", help="a twin for llama.cpp")
    parser.add_argument(
        "--gguf-type", choices=gguf_twin.TYPES, default="q4_0", help="of its matrices"
    )
    parser.add_argument(
        "--gguf-head", choices=gguf_twin.TYPES, default="q8_0", help="of its embeddings"
    )
    arguments = parser.parse_args()
    if arguments.gguf is not None and arguments.qat == "w4a16":
        parser.error("--gguf reads bf16 numbers: not with --qat w4a16")
    start = time.perf_counter()
    try:
        tensors = make(
            arguments.model,
            arguments.folder,
            layers=arguments.layers,
            seed=arguments.seed,
            qat=arguments.qat,
            unused_kv=not arguments.no_unused_kv,
            shard_bytes=int(arguments.shard_gb * 1e9) if arguments.shard_gb else None,
            tokenizer=arguments.tokenizer,
        )
    except (CabochonError, ValueError) as error:
        sys.exit(f"make_checkpoint: {error}")
    seconds = time.perf_counter() - start
    total_bytes = sum(tensor.total_bytes for tensor in tensors)
    print(
        f"{arguments.folder}: random weights of {arguments.model}, {len(tensors)} tensors, "
        f"{sum(tensor.count for tensor in tensors):,} parameters, {total_bytes / 1e9:.2f} GB "
        f"in {seconds:.1f} s"
    )
    if arguments.gguf is not None:
        gguf_twin.make(
            arguments.folder,
            arguments.gguf,
            matrix=arguments.gguf_type,
            head=arguments.gguf_head,
        )


if __name__ == "__main__":
    main()
