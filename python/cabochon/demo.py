"""Writes a small random checkpoint in the shape of Gemma 4, from NumPy alone.

It has what sets the family apart: per-layer embeddings, layers that read the KV of earlier ones,
wide MLPs there, experts beside the dense MLP, two kinds of attention. It stops at the end of a
turn, so it is a chat model. Its weights are random, so what it says means nothing.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InvalidArgument
from .tokenizer import GEMMA4_CONTROL, SPACE

STOPS = ("<eos>", "<turn|>", "<|tool_response>")
WORDS = (
    "the of and to in is you that it he was for on are as with his they at be this have from or one"
    " had by word but not what all were we when your can said there use an each which she do how"
)
CHARACTERS = (SPACE, "\n", *map(chr, range(ord("!"), ord("~") + 1)))

HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM, GLOBAL_HEAD_DIM = 192, 384, 4, 2, 32, 64
LAYERS, SHARED, PER_LAYER = 8, 3, 32
EXPERTS, EXPERTS_PER_TOKEN, EXPERT_FFN = 8, 2, 64
LAYER_TYPES = (["sliding_attention"] * 3 + ["full_attention"]) * 2


def write_demo(folder: str | os.PathLike[str], *, seed: int = 0) -> None:
    """Writes the checkpoint: config, weights (bf16) and tokenizer.

    Args:
        folder: made if it is not there; must be empty.
        seed: of the weights; the same seed gives the same bytes with the same NumPy.

    Raises:
        InvalidArgument: the folder has files in it.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    if any(target.iterdir()):
        raise InvalidArgument(
            f"folder: found files in {target}, expected an empty folder", argument="folder"
        )
    pieces, merges = _pieces()
    documents = {
        "config.json": _config(pieces),
        "generation_config.json": _generation_config(pieces),
        "tokenizer.json": _tokenizer(pieces, merges),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **{f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk")},
        },
    }
    for name, document in documents.items():
        text = json.dumps(document, indent=2, ensure_ascii=False)
        (target / name).write_text(text + "\n", encoding="utf-8")
    _write_weights(target / "model.safetensors", tensor_shapes(len(pieces)), seed)


def tensor_shapes(vocab: int) -> dict[str, tuple[int, ...]]:
    """Every tensor of the checkpoint with its shape, linear weights as [out, in]."""
    shapes: dict[str, tuple[int, ...]] = {
        "embed_tokens.weight": (vocab, HIDDEN),
        "embed_tokens_per_layer.weight": (vocab, LAYERS * PER_LAYER),
        "per_layer_model_projection.weight": (LAYERS * PER_LAYER, HIDDEN),
        "per_layer_projection_norm.weight": (PER_LAYER,),
        "norm.weight": (HIDDEN,),
    }
    for index, layer_type in enumerate(LAYER_TYPES):
        shared = index >= LAYERS - SHARED
        layer = _layer_shapes(
            head_dim=HEAD_DIM if layer_type == "sliding_attention" else GLOBAL_HEAD_DIM,
            ffn=2 * FFN if shared else FFN,
            owns_kv=not shared,
        )
        shapes |= {f"layers.{index}.{name}": shape for name, shape in layer.items()}
    return {f"model.{name}": shape for name, shape in shapes.items()}


def _layer_shapes(*, head_dim: int, ffn: int, owns_kv: bool) -> dict[str, tuple[int, ...]]:
    norms = (
        *("input_layernorm", "post_attention_layernorm", "post_per_layer_input_norm"),
        *("pre_feedforward_layernorm", "pre_feedforward_layernorm_2"),
        *("post_feedforward_layernorm", "post_feedforward_layernorm_1"),
        "post_feedforward_layernorm_2",
    )
    shapes: dict[str, tuple[int, ...]] = {f"{norm}.weight": (HIDDEN,) for norm in norms}
    shapes |= {
        "self_attn.q_proj.weight": (HEADS * head_dim, HIDDEN),
        "self_attn.q_norm.weight": (head_dim,),
        "self_attn.o_proj.weight": (HIDDEN, HEADS * head_dim),
        "mlp.gate_proj.weight": (ffn, HIDDEN),
        "mlp.up_proj.weight": (ffn, HIDDEN),
        "mlp.down_proj.weight": (HIDDEN, ffn),
        "per_layer_input_gate.weight": (PER_LAYER, HIDDEN),
        "per_layer_projection.weight": (HIDDEN, PER_LAYER),
        "router.proj.weight": (EXPERTS, HIDDEN),
        "router.scale": (HIDDEN,),
        "router.per_expert_scale": (EXPERTS,),
        "experts.gate_up_proj": (EXPERTS, 2 * EXPERT_FFN, HIDDEN),
        "experts.down_proj": (EXPERTS, HIDDEN, EXPERT_FFN),
        "layer_scalar": (1,),
    }
    if owns_kv:
        shapes |= {
            "self_attn.k_proj.weight": (KV_HEADS * head_dim, HIDDEN),
            "self_attn.v_proj.weight": (KV_HEADS * head_dim, HIDDEN),
            "self_attn.k_norm.weight": (head_dim,),
        }
    return shapes


def _draw(
    name: str, shape: tuple[int, ...], generator: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Weights that keep every signal near 1: linear ones shrink with their inputs."""
    values = generator.standard_normal(shape, dtype=np.float32)
    if len(shape) == 1:  # norms and scales
        values *= 0.1
        values += 1
        if name.endswith("k_norm.weight"):  # scores spread by 1
            values *= shape[0] ** -0.5
    elif name.endswith("embed_tokens_per_layer.weight"):
        values *= PER_LAYER**-0.5
    elif not name.endswith("router.proj.weight"):  # whose input is divided by sqrt(hidden)
        values *= shape[-1] ** -0.5
    return values


def _write_weights(path: Path, shapes: dict[str, tuple[int, ...]], seed: int) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        end = offset + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of 8
    generator = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            file.write(_bf16(_draw(name, shape, generator)).tobytes())


def _bf16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Bits of the nearest bf16, ties to even; finite values only. Little-endian, as the file."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def _pieces() -> tuple[dict[str, int], list[list[str]]]:
    """Control tokens, bytes, characters, and words with the beginnings they are merged from."""
    merges = []
    for word in WORDS.split():
        spelled = SPACE + word
        for end in range(1, len(spelled)):
            merge = [spelled[:end], spelled[end]]
            if merge not in merges:
                merges.append(merge)
    pieces = [
        *GEMMA4_CONTROL,
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *CHARACTERS,
        *("".join(merge) for merge in merges),
    ]
    return {piece: index for index, piece in enumerate(pieces)}, merges


def _tokenizer(pieces: dict[str, int], merges: list[list[str]]) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": pieces[name], "content": name, **flags, "special": True}
            for name in GEMMA4_CONTROL
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": pieces,
            "merges": merges,
        },
    }


def _config(pieces: dict[str, int]) -> dict[str, Any]:
    return {
        "architectures": ["Gemma4ForCausalLM"],
        "model_type": "gemma4_text",
        "dtype": "bfloat16",
        "vocab_size": len(pieces),
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "num_global_key_value_heads": None,
        "head_dim": HEAD_DIM,
        "global_head_dim": GLOBAL_HEAD_DIM,
        "layer_types": LAYER_TYPES,
        "num_kv_shared_layers": SHARED,
        "use_double_wide_mlp": True,
        "attention_k_eq_v": False,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_bidirectional_attention": None,
        "sliding_window": 64,
        "max_position_embeddings": 4096,
        "hidden_size_per_layer_input": PER_LAYER,
        "vocab_size_per_layer_input": len(pieces),
        "enable_moe_block": True,
        "num_experts": EXPERTS,
        "top_k_experts": EXPERTS_PER_TOKEN,
        "moe_intermediate_size": EXPERT_FFN,
        "hidden_activation": "gelu_pytorch_tanh",
        "rms_norm_eps": 1e-6,
        "final_logit_softcapping": 30.0,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {
                "rope_type": "proportional",
                "rope_theta": 1000000.0,
                "partial_rotary_factor": 0.25,
            },
        },
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "use_cache": True,
        "pad_token_id": pieces["<pad>"],
        "eos_token_id": pieces["<eos>"],
        "bos_token_id": pieces["<bos>"],
    }


def _generation_config(pieces: dict[str, int]) -> dict[str, Any]:
    # Bytes drawn at random are seldom characters: without them the output is text to look at.
    unwanted = [
        token_id
        for piece, token_id in pieces.items()
        if piece not in STOPS and (piece in GEMMA4_CONTROL or piece.startswith("<0x"))
    ]
    return {
        "do_sample": True,
        "temperature": 1.0,
        "top_k": 64,
        "top_p": 0.95,
        "eos_token_id": [pieces[name] for name in STOPS],
        "pad_token_id": pieces["<pad>"],
        "bos_token_id": pieces["<bos>"],
        "suppress_tokens": unwanted,
    }
