"""Writes the GGUF twin of a checkpoint: the same tensors for llama.cpp, quantised.

    python benchmarks/gguf_twin.py FOLDER FILE [--type q4_0] [--head q8_0]

The package gguf quantises. Matrices take `--type`; what cabochon keeps at 8 bits beside 4-bit
matrices takes `--head`: the tied embedding, gates and projections of per-layer inputs, and their
table. What llama.cpp's own quantiser leaves alone is left alone: norms and routers are float32, the
projection of the embedding to per-layer inputs stays bf16. Key and value weights of a layer that
reads another's cache are left out. There is no tokenizer: the twin takes token ids.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cabochon.checkpoint import Entry, read_shards
from cabochon.config import ModelConfig, read_config
from cabochon.errors import CabochonError
from real_weights import GLOBAL_NAMES, LAYER_NAMES

TYPES = ("q4_0", "q8_0", "bf16")
CHUNK = 1 << 22  # values
# GGUF stems of Gemma 4, beside those that it shares with Gemma 3.
GEMMA4_GLOBAL_NAMES = {
    "per_layer_token_embd": "model.embed_tokens_per_layer",
    "per_layer_model_proj": "model.per_layer_model_projection",
    "per_layer_proj_norm": "model.per_layer_projection_norm",
}
GEMMA4_LAYER_NAMES = {
    "inp_gate": "per_layer_input_gate",
    "proj": "per_layer_projection",
    "post_norm": "post_per_layer_input_norm",
    "ffn_gate_inp": "router.proj",
    "pre_ffw_norm_2": "pre_feedforward_layernorm_2",
    "post_ffw_norm_1": "post_feedforward_layernorm_1",
    "post_ffw_norm_2": "post_feedforward_layernorm_2",
}
# Tensors whose names do not end with ".weight" in a checkpoint.
WHOLE_NAMES = {
    "layer_scalar": "layer_output_scale.weight",
    "router.scale": "ffn_gate_inp.scale",
    "router.per_expert_scale": "ffn_down_exps.scale",
    "experts.gate_up_proj": "ffn_gate_up_exps.weight",
    "experts.down_proj": "ffn_down_exps.weight",
}
GLOBAL_STEMS = {hub: gguf for gguf, hub in (GLOBAL_NAMES | GEMMA4_GLOBAL_NAMES).items()}
LAYER_STEMS = {hub: gguf for gguf, hub in (LAYER_NAMES | GEMMA4_LAYER_NAMES).items()}
HEAD_STEMS = ("token_embd", "per_layer_token_embd", "inp_gate", "proj")
LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
OWN_KV = ("self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.k_norm.weight")


def gguf_name(name: str) -> str:
    if match := LAYER.fullmatch(name):
        number, part = match.groups()
        tail = WHOLE_NAMES.get(part) or f"{LAYER_STEMS[part.removesuffix('.weight')]}.weight"
        return f"blk.{number}.{tail}"
    return f"{GLOBAL_STEMS[name.removesuffix('.weight')]}.weight"


def is_unused(name: str, config: ModelConfig) -> bool:
    """Keys and values of a layer that reads another's."""
    match = LAYER.fullmatch(name)
    if match is None or match[2] not in OWN_KV:
        return False
    number = int(match[1])
    source: int = config.plan.layers[number].kv_source
    return source != number


def gguf_type(name: str, shape: tuple[int, ...], matrix: str, head: str) -> str:
    if len(shape) == 1 or name.endswith("ffn_gate_inp.weight"):
        return "f32"
    if name == "per_layer_model_proj.weight":
        return "bf16"
    return head if name.split(".")[-2] in HEAD_STEMS else matrix


def add_config(writer: Any, config: ModelConfig) -> None:
    """The metadata from which llama.cpp builds the model."""
    plan = config.plan
    layers = plan.layers
    sliding = next(layer for layer in layers if layer.window)
    full = next((layer for layer in layers if not layer.window), sliding)
    writer.add_vocab_size(plan.vocab)
    writer.add_tokenizer_model("none")
    writer.add_context_length(config.context)
    writer.add_embedding_length(plan.hidden)
    writer.add_block_count(len(layers))
    writer.add_head_count(full.heads)
    writer.add_layer_norm_rms_eps(plan.norm_epsilon)
    writer.add_key_length(full.head_dim)
    writer.add_value_length(full.head_dim)
    writer.add_rope_freq_base(full.rope_theta)
    writer.add_sliding_window(sliding.window)
    if config.family == "gemma3":
        writer.add_head_count_kv(full.kv_heads)
        writer.add_feed_forward_length(full.ffn)
        if full.rope_scaling != 1:
            writer.add_rope_scaling_type(importlib.import_module("gguf").RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(full.rope_scaling)
        return
    writer.add_head_count_kv([layer.kv_heads for layer in layers])
    writer.add_feed_forward_length([layer.ffn for layer in layers])
    writer.add_sliding_window_pattern([bool(layer.window) for layer in layers])
    writer.add_shared_kv_layers(len(layers) - plan.first_shared)
    writer.add_embedding_length_per_layer_input(full.per_layer_input)
    writer.add_key_length_swa(sliding.head_dim)
    writer.add_value_length_swa(sliding.head_dim)
    writer.add_rope_dimension_count(full.head_dim)
    writer.add_rope_dimension_count_swa(sliding.head_dim)
    writer.add_rope_freq_base_swa(sliding.rope_theta)
    if plan.logit_softcap:
        writer.add_final_logit_softcapping(plan.logit_softcap)
    if full.experts:
        writer.add_expert_count(full.experts)
        writer.add_expert_used_count(full.experts_per_token)
        writer.add_expert_feed_forward_length(full.expert_ffn)


def rope_factors(config: ModelConfig) -> npt.NDArray[np.float32]:
    """Divisors of the frequencies in full-attention layers: pairs that do not turn get 1e30."""
    full = next(layer for layer in config.plan.layers if not layer.window)
    factors = np.full(full.head_dim // 2, 1e30, np.float32)
    factors[: full.rope_pairs] = 1
    return factors


def read_pieces(path: str, entry: Entry, add: float) -> Iterator[npt.NDArray[np.float32]]:
    """The tensor's values plus `add`, in whole rows, some rows at a time."""
    name, dtype, shape, _, begin, end = entry
    if dtype not in ("BF16", "F32"):
        raise ValueError(f"{path}: tensor '{name}' is {dtype}, expected BF16 or F32")
    columns = shape[-1]
    stored = np.uint16 if dtype == "BF16" else np.float32
    values = np.memmap(path, np.uint8, "r", begin, (end - begin,)).view(stored).reshape(-1, columns)
    rows = max(1, CHUNK // columns)
    for first in range(0, len(values), rows):
        piece = values[first : first + rows]
        if dtype == "BF16":
            piece = (piece.astype(np.uint32) << 16).view(np.float32)
        yield piece + np.float32(add)


def write(folder: Path, file: Path, *, matrix: str, head: str) -> None:
    gguf = importlib.import_module("gguf")  # of the extra `bench`
    config = read_config(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    shards = read_shards(folder)
    writer = gguf.GGUFWriter(file, config.family)
    add_config(writer, config)

    entries = [entry for entry in shards.entries if not is_unused(entry[0], config)]
    tensors = []
    for entry in entries:
        name, shape = gguf_name(entry[0]), entry[2]
        kind = gguf.GGMLQuantizationType[gguf_type(name, shape, matrix, head).upper()]
        row_bytes = gguf.quant_shape_to_byte_shape(shape, kind)
        size = int(np.prod(row_bytes))
        writer.add_tensor_info(name, row_bytes, np.dtype(np.uint8), size, raw_dtype=kind)
        add = config.plan.norm_offset if name.endswith("norm.weight") else 0.0
        tensors.append((entry, kind, size, add))
    if config.family == "gemma4":
        factors = rope_factors(config)
        writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    output = writer.fout[0]
    writer.write_padding(output, output.tell())
    for entry, kind, size, add in tensors:
        for piece in read_pieces(shards.paths[entry[3]], entry, add):
            gguf.quants.quantize(piece, kind).tofile(output)
        writer.write_padding(output, size)
    if config.family == "gemma4":
        factors.tofile(output)
        writer.write_padding(output, factors.nbytes)
    writer.close()


def make(folder: Path, file: Path, *, matrix: str, head: str) -> None:
    """`write`, with a word on what was done or why not."""
    start = time.perf_counter()
    try:
        write(folder, file, matrix=matrix, head=head)
    except ModuleNotFoundError as error:
        sys.exit(f"gguf_twin: {error.name} is not installed: pip install '.[bench]'")
    except (CabochonError, ValueError) as error:
        sys.exit(f"gguf_twin: {error}")
    print(
        f"{file}: {matrix}, embeddings {head}, {file.stat().st_size / 1e9:.2f} GB "
        f"in {time.perf_counter() - start:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a checkpoint of bf16 or float32 weights")
    parser.add_argument("file", type=Path)
    parser.add_argument("--type", choices=TYPES, default="q4_0", help="of matrices")
    parser.add_argument("--head", choices=TYPES, default="q8_0", help="of the embeddings")
    arguments = parser.parse_args()
    make(arguments.folder, arguments.file, matrix=arguments.type, head=arguments.head)


if __name__ == "__main__":
    main()
