"""Token ids to logits: Gemma 4 in all its sizes, and Gemma 3."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reference import checkpoint
from reference.attention import attention
from reference.experts import experts, route
from reference.mlp import mlp
from reference.per_layer_input import mix, per_layer_input
from reference.rms_norm import rms_norm
from reference.rope import rope

Floats = npt.NDArray[np.float64]

# What can be left out, one at a time, to see that a comparison would notice.
DROPPABLE = frozenset(
    {
        "layer_scalar", "value_norm", "per_expert_scale", "per_layer_input", "kv_sharing",
        "proportional_rope",
    }
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What the config says about one layer."""

    is_global: bool
    kv_source: int
    head_dim: int
    kv_heads: int
    window: int  # keys that a query sees; 0: all
    theta: float
    rotated: float  # share of the pairs that turn
    scaling: float


def layer_types(config: dict[str, Any]) -> list[str]:
    count = config["num_hidden_layers"]
    pattern = config.get("sliding_window_pattern", 6)
    types = list(
        config.get("layer_types")
        or ["sliding_attention" if (i + 1) % pattern else "full_attention" for i in range(count)]
    )
    if not is_gemma3(config):
        types[-1] = "full_attention"
    return types


def is_gemma3(config: dict[str, Any]) -> bool:
    return str(config["model_type"]).startswith("gemma3")


def rope_of(config: dict[str, Any], kind: str) -> tuple[float, float, float]:
    """theta, share of turning pairs, divisor of the frequencies."""
    is_global = kind == "full_attention"
    if "rope_parameters" in config:
        given = config["rope_parameters"][kind]
        scaled = given["rope_type"] in ("linear", "proportional")
        return (
            given["rope_theta"],
            given.get("partial_rotary_factor", 1.0),
            given.get("factor", 1.0) if scaled else 1.0,
        )
    if not is_global:
        return config.get("rope_local_base_freq", 10_000.0), 1.0, 1.0
    scaling = config.get("rope_scaling") or {}
    return config.get("rope_theta", 1_000_000.0), 1.0, scaling.get("factor", 1.0)


def plan(config: dict[str, Any], *, wrong_donor: bool = False) -> list[Layer]:
    """One `Layer` each. `wrong_donor` lets shared layers read the first layer of their type."""
    types = layer_types(config)
    own = len(types) - config.get("num_kv_shared_layers", 0)
    overrides = {int(k): v for k, v in config.get("per_layer_config", {}).items()}
    layers = []
    for index, kind in enumerate(types):
        is_global = kind == "full_attention"
        head_dim, kv_heads = config["head_dim"], config["num_key_value_heads"]
        if is_global and not is_gemma3(config) and "per_layer_config" not in config:
            head_dim = config["global_head_dim"]
            if config.get("attention_k_eq_v"):
                kv_heads = config.get("num_global_key_value_heads") or kv_heads
        override = overrides.get(index, {})
        donors = [i for i in range(min(own, index + 1)) if types[i] == kind]
        theta, rotated, scaling = rope_of(config, kind)
        layers.append(
            Layer(
                is_global=is_global,
                kv_source=donors[0 if wrong_donor and index >= own else -1],
                head_dim=override.get("head_dim", head_dim),
                kv_heads=override.get("num_key_value_heads", kv_heads),
                window=0 if is_global else config["sliding_window"],
                theta=theta,
                rotated=rotated,
                scaling=scaling,
            )
        )
    return layers


class Decoder:
    """A loaded model. `drop` leaves out one or more of `DROPPABLE`."""

    def __init__(self, folder: Path, *, drop: frozenset[str] = frozenset()) -> None:
        if unknown := drop - DROPPABLE:
            raise ValueError(f"drop: found {sorted(unknown)}, expected some of {sorted(DROPPABLE)}")
        self.drop = drop
        self.config, self.tensors = checkpoint.read(folder)
        self.gemma3 = is_gemma3(self.config)
        self.epsilon = self.config["rms_norm_eps"]
        self.layers = plan(self.config)
        self.width = self.config.get("hidden_size_per_layer_input", 0)
        self.kv: dict[int, tuple[Floats, Floats]] = {}

        shared = any(layer.kv_source != i for i, layer in enumerate(self.layers))
        last = len(self.layers) - 1
        self.own_kv = False
        if "kv_sharing" in drop and shared:
            # The bug of the field: shared layers use weights of their own where such are stored.
            self.own_kv = f"layers.{last}.self_attn.k_proj.weight" in self.tensors
            if not self.own_kv:
                self.layers = plan(self.config, wrong_donor=True)

    def norm(self, x: Floats, name: str) -> Floats:
        weight = self.tensors[f"{name}.weight"]
        return rms_norm(x, weight + 1.0 if self.gemma3 else weight, epsilon=self.epsilon)

    def linear(self, x: Floats, name: str) -> Floats:
        return x @ self.tensors[f"{name}.weight"].T

    def turn(self, x: Floats, layer: Layer) -> Floats:
        rotated = layer.rotated
        if layer.is_global and "proportional_rope" in self.drop:
            rotated = 1.0
        return rope(
            x, np.arange(x.shape[0]), theta=layer.theta, rotated=rotated, scaling=layer.scaling
        )

    def keys_and_values(self, x: Floats, index: int) -> tuple[Floats, Floats]:
        """Of layer `index`, [tokens, kv_heads, head_dim] each; a shared layer reads its donor's."""
        layer = self.layers[index]
        if layer.kv_source != index and not self.own_kv:
            return self.kv[layer.kv_source]
        name = f"layers.{index}.self_attn"
        shape = (x.shape[0], layer.kv_heads, layer.head_dim)
        k = self.linear(x, f"{name}.k_proj").reshape(shape)
        v = k
        if f"{name}.v_proj.weight" in self.tensors:
            v = self.linear(x, f"{name}.v_proj").reshape(shape)
        if not self.gemma3 and "value_norm" not in self.drop:
            v = rms_norm(v, epsilon=self.epsilon)
        self.kv[index] = self.turn(self.norm(k, f"{name}.k_norm"), layer), v
        return self.kv[index]

    def attend(self, x: Floats, index: int) -> Floats:
        layer = self.layers[index]
        name = f"layers.{index}.self_attn"
        tokens, heads = x.shape[0], self.config["num_attention_heads"]
        q = self.linear(x, f"{name}.q_proj").reshape(tokens, heads, layer.head_dim)
        q = self.turn(self.norm(q, f"{name}.q_norm"), layer)
        k, v = self.keys_and_values(x, index)
        scale = 1.0
        if self.gemma3:
            scale = 1.0 / math.sqrt(self.config["query_pre_attn_scalar"])
        out = attention(q, k, v, window=layer.window, scale=scale)
        return self.linear(out.reshape(tokens, -1), f"{name}.o_proj")

    def feed_forward(self, x: Floats, name: str) -> Floats:
        """The dense MLP of `x`, the residual; and the experts where there are any."""
        weights = [
            self.tensors[f"{name}.mlp.{part}_proj.weight"] for part in ("gate", "up", "down")
        ]
        dense = mlp(self.norm(x, f"{name}.pre_feedforward_layernorm"), *weights)
        if not self.config.get("enable_moe_block"):
            return dense
        ids, shares = route(
            x,
            self.tensors[f"{name}.router.proj.weight"],
            self.tensors[f"{name}.router.scale"],
            None
            if "per_expert_scale" in self.drop
            else self.tensors[f"{name}.router.per_expert_scale"],
            top_k=self.config["top_k_experts"],
            epsilon=self.epsilon,
        )
        chosen = experts(
            self.norm(x, f"{name}.pre_feedforward_layernorm_2"),
            ids,
            shares,
            self.tensors[f"{name}.experts.gate_up_proj"],
            self.tensors[f"{name}.experts.down_proj"],
        )
        return self.norm(dense, f"{name}.post_feedforward_layernorm_1") + self.norm(
            chosen, f"{name}.post_feedforward_layernorm_2"
        )

    def embed(self, ids: npt.NDArray[np.int64]) -> tuple[Floats, Floats | None]:
        """The stream before layer 0, and what each layer is told ([tokens, layers, width])."""
        x = self.tensors["embed_tokens.weight"][ids] * math.sqrt(self.config["hidden_size"])
        if not self.width or "per_layer_input" in self.drop:
            return x, None
        told = per_layer_input(
            ids,
            x,
            self.tensors["embed_tokens_per_layer.weight"],
            self.tensors["per_layer_model_projection.weight"],
            self.tensors["per_layer_projection_norm.weight"],
            epsilon=self.epsilon,
        )
        return x, told

    def run_layer(self, x: Floats, index: int, told: Floats | None) -> Floats:
        """One layer of the residual stream, [tokens, hidden] to the same."""
        name = f"layers.{index}"
        attended = self.attend(self.norm(x, f"{name}.input_layernorm"), index)
        x = x + self.norm(attended, f"{name}.post_attention_layernorm")
        x = x + self.norm(self.feed_forward(x, name), f"{name}.post_feedforward_layernorm")
        if told is not None:
            mixed = mix(
                x,
                told[:, index],
                self.tensors[f"{name}.per_layer_input_gate.weight"],
                self.tensors[f"{name}.per_layer_projection.weight"],
            )
            x = x + self.norm(mixed, f"{name}.post_per_layer_input_norm")
        if not self.gemma3 and "layer_scalar" not in self.drop:
            x = x * self.tensors[f"{name}.layer_scalar"]
        return x

    def states(self, token_ids: Sequence[int]) -> list[Floats]:
        """The residual stream before layer 0 and after each layer."""
        x, told = self.embed(np.asarray(token_ids, np.int64))
        states = [x]
        for index in range(len(self.layers)):
            states.append(self.run_layer(states[-1], index, told))
        return states

    def head(self, x: Floats) -> Floats:
        """Logits [tokens, vocab] of the residual stream after the last layer."""
        logits = self.linear(self.norm(x, "norm"), "embed_tokens")
        cap = self.config.get("final_logit_softcapping")
        return cap * np.tanh(logits / cap) if cap else logits


def logits(folder: Path, token_ids: Sequence[int], *, drop: frozenset[str] = frozenset()) -> Floats:
    """float64 [tokens, vocab] of the checkpoint in `folder`, computed in one pass."""
    decoder = Decoder(folder, drop=drop)
    return decoder.head(decoder.states(token_ids)[-1])
