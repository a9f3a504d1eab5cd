"""Configs of the sizes, as the hub spells a text-only export of Gemma 4."""

from __future__ import annotations

from typing import Any

from cabochon import demo

WINDOW, CONTEXT = 128, 2048


def _layers(count: int, pattern: int) -> list[str]:
    return ["sliding_attention" if (i + 1) % pattern else "full_attention" for i in range(count)]


# What differs from the demo's config, which has every key.
_DENSE: dict[str, Any] = {
    "hidden_size": 160, "intermediate_size": 384, "num_hidden_layers": 10,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 32, "global_head_dim": 64,
    "layer_types": _layers(10, 5), "num_kv_shared_layers": 5, "use_double_wide_mlp": True,
    "hidden_size_per_layer_input": 32, "sliding_window": WINDOW, "max_position_embeddings": CONTEXT,
    "enable_moe_block": False, "num_experts": None, "top_k_experts": None,
    "moe_intermediate_size": None,
}  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {
    # As E2B: per-layer embeddings, the upper half reads the KV of layers 3 and 4, wide MLPs there.
    "pebble": _DENSE,
    # As 26B-A4B: experts beside a dense MLP, values from keys in global layers, no PLE.
    "pebble-moe": _DENSE | {
        "num_hidden_layers": 6, "layer_types": _layers(6, 6), "intermediate_size": 256,
        "num_key_value_heads": 2, "num_global_key_value_heads": 1, "attention_k_eq_v": True,
        "num_kv_shared_layers": 0, "use_double_wide_mlp": False, "hidden_size_per_layer_input": 0,
        "enable_moe_block": True, "num_experts": 32, "top_k_experts": 8,
        "moe_intermediate_size": 48, "use_bidirectional_attention": "vision",
    },
    # For tests of the training itself: learns nothing much.
    "grain": _DENSE | {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 5,
        "layer_types": _layers(5, 5), "num_kv_shared_layers": 0, "num_attention_heads": 2,
        "head_dim": 16, "global_head_dim": 32, "hidden_size_per_layer_input": 8,
    },
}  # fmt: skip


def config(size: str, pieces: dict[str, int]) -> dict[str, Any]:
    """config.json of a size with this vocabulary."""
    return demo._config(pieces) | SIZES[size]


def generation_config(pieces: dict[str, int]) -> dict[str, Any]:
    """Greedy, until the end of a turn."""
    stops = [pieces[name] for name in demo.STOPS]
    return {
        "do_sample": False,
        "eos_token_id": stops,
        "pad_token_id": pieces["<pad>"],
        "bos_token_id": pieces["<bos>"],
    }
