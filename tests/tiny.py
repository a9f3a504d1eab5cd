"""Small random models with every feature of the real ones, made from a seed.

`MODELS` describes them; `write` makes one of them, `write_checkpoint` any other description. No
torch: NumPy, json and struct. The same seed gives the same bytes on every machine (raw PCG64 words
and correctly rounded operations only), so recorded logits need no stored checkpoint.

Weights are drawn so that a missing term shows: every norm weight, layer scalar, router scale and
per-expert scale is away from 1; scores have a spread of about 1; the residual stream is fed by the
layers more than by the embedding; logits spread by about 5.
"""

from __future__ import annotations

import copy
import json
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Config = dict[str, Any]
Arrays = dict[str, npt.NDArray[Any]]  # as stored: uint16 holds bfloat16

BOS, EOS, PAD = 2, 1, 0

_GEMMA4_TEXT: Config = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": BOS,
    "dtype": "bfloat16",
    "eos_token_id": EOS,
    "final_logit_softcapping": 30.0,
    "hidden_activation": "gelu_pytorch_tanh",
    "initializer_range": 0.02,
    "max_position_embeddings": 1024,
    "pad_token_id": PAD,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {
        "full_attention": {
            "partial_rotary_factor": 0.25,
            "rope_theta": 1000000.0,
            "rope_type": "proportional",
        },
        "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
    },
    "tie_word_embeddings": True,
    "use_cache": True,
}
# Keys that gemma4_text has and gemma4_unified_text does not.
_GEMMA4_EXTRAS: Config = {
    "enable_moe_block": False,
    "hidden_size_per_layer_input": 0,
    "moe_intermediate_size": None,
    "num_experts": None,
    "top_k_experts": None,
    "use_bidirectional_attention": None,
}


def layer_types(layers: int, pattern: int) -> list[str]:
    """Every `pattern`-th layer is global."""
    return [
        "sliding_attention" if (layer + 1) % pattern else "full_attention"
        for layer in range(layers)
    ]


def gemma4_text(*, layers: int, pattern: int, **keys: Any) -> Config:
    """A Gemma 4 text config (E2B, E4B, 26B, 31B) as the hub spells it."""
    config = copy.deepcopy(_GEMMA4_TEXT) | _GEMMA4_EXTRAS
    config |= {
        "model_type": "gemma4_text",
        "architectures": ["Gemma4ForCausalLM"],
        "num_hidden_layers": layers,
        "layer_types": layer_types(layers, pattern),
        "attention_k_eq_v": False,
        "num_global_key_value_heads": None,
        "num_kv_shared_layers": 0,
        "use_double_wide_mlp": False,
    }
    config |= keys
    return config | {"vocab_size_per_layer_input": config["vocab_size"]}


def gemma4_unified_text(*, layers: int, pattern: int, **keys: Any) -> Config:
    """A Gemma 4 text config of the 12B kind: no per-layer inputs, no experts, not even as keys."""
    config = gemma4_text(layers=layers, pattern=pattern, **keys)
    for key in [*_GEMMA4_EXTRAS, "vocab_size_per_layer_input"]:
        del config[key]
    return config | {
        "model_type": "gemma4_unified_text",
        "architectures": ["Gemma4UnifiedForCausalLM"],
        "use_bidirectional_attention": "vision",
    }


def gemma3_text(*, layers: int, pattern: int, **keys: Any) -> Config:
    """A Gemma 3 text config as the hub spells it (`rope_theta`, `sliding_window_pattern`)."""
    config = {key: _GEMMA4_TEXT[key] for key in _GEMMA4_TEXT if key != "rope_parameters"}
    config |= {
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "num_hidden_layers": layers,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "sliding_window_pattern": pattern,
    }
    return config | keys


def nested(text: Config) -> Config:
    """The config of the whole model, as the hub has it: the text keys under `text_config`.

    There is no vision or audio tower: both configs are null.
    """
    family = text["model_type"].removesuffix("_text")
    architectures = {
        "gemma3": "Gemma3ForConditionalGeneration",
        "gemma4": "Gemma4ForConditionalGeneration",
        "gemma4_unified": "Gemma4UnifiedForConditionalGeneration",
    }
    top = {
        "architectures": [architectures[family]],
        "model_type": family,
        "text_config": {key: text[key] for key in text if key != "architectures"},
        "vision_config": None,
        "dtype": text["dtype"],
        "eos_token_id": text["eos_token_id"],
        "tie_word_embeddings": True,
    }
    return top if family == "gemma3" else top | {"audio_config": None}


@dataclass(frozen=True, kw_only=True)
class Model:
    """A description: what `write` writes."""

    config: Config
    seed: int
    unused_kv: bool = False  # store K/V of shared layers too, as the base checkpoints do
    about: str = ""
    features: frozenset[str] = frozenset()  # of reference.decoder.DROPPABLE: those it has


_ALL = frozenset({"layer_scalar", "value_norm", "proportional_rope"})

MODELS: dict[str, Model] = {
    "e_type": Model(
        about="E2B with the 5:1 pattern of E4B: PLE, shared KV (donors 6 and 5), double-wide MLP",
        seed=13,
        unused_kv=True,
        features=_ALL | {"per_layer_input", "kv_sharing"},
        config=nested(
            gemma4_text(
                layers=12, pattern=6, num_kv_shared_layers=5, use_double_wide_mlp=True,
                vocab_size=264, hidden_size=64, intermediate_size=88, sliding_window=8,
                num_attention_heads=4, num_key_value_heads=1, head_dim=16, global_head_dim=32,
                hidden_size_per_layer_input=16,
            )
        ),
    ),
    "e_type_4to1": Model(
        about="text-only file, 4:1 pattern, shared KV not stored, sqrt of the PLE width not exact",
        seed=18,
        features=_ALL | {"per_layer_input", "kv_sharing"},
        config=gemma4_text(
            layers=10, pattern=5, num_kv_shared_layers=4, use_double_wide_mlp=True,
            vocab_size=293, hidden_size=44, intermediate_size=52, sliding_window=8,
            num_attention_heads=6, num_key_value_heads=2, head_dim=16, global_head_dim=32,
            hidden_size_per_layer_input=12,
        ),
    ),
    "kv_equal": Model(
        about="12B (unified): values from keys in global layers, 6 heads over 3 and 1 kv heads",
        seed=12,
        features=_ALL,
        config=nested(
            gemma4_unified_text(
                layers=6, pattern=6, attention_k_eq_v=True,
                vocab_size=264, hidden_size=96, intermediate_size=136, sliding_window=16,
                num_attention_heads=6, num_key_value_heads=3, num_global_key_value_heads=1,
                head_dim=16, global_head_dim=32,
            )
        ),
    ),
    "kv_equal_dense": Model(
        about="31B: as 12B under the names of gemma4; a last layer that must be forced to global",
        seed=14,
        features=_ALL,
        config=nested(
            gemma4_text(
                layers=6, pattern=4, attention_k_eq_v=True, use_bidirectional_attention="vision",
                vocab_size=271, hidden_size=80, intermediate_size=104, sliding_window=16,
                num_attention_heads=8, num_key_value_heads=4, num_global_key_value_heads=2,
                head_dim=32, global_head_dim=64,
            )
        ),
    ),
    "moe": Model(
        about="26B: 128 experts of which 8 count, beside a dense MLP",
        seed=15,
        features=_ALL | {"per_expert_scale"},
        config=nested(
            gemma4_text(
                layers=6, pattern=6, attention_k_eq_v=True, use_bidirectional_attention="vision",
                enable_moe_block=True, num_experts=128, top_k_experts=8, moe_intermediate_size=20,
                vocab_size=264, hidden_size=48, intermediate_size=72, sliding_window=9,
                num_attention_heads=4, num_key_value_heads=2, num_global_key_value_heads=1,
                head_dim=16, global_head_dim=32,
            )
        ),
    ),
    "gemma3": Model(
        about="Gemma 3: 1 + w, query scale, linear scaling, a last layer that slides",
        seed=16,
        config=gemma3_text(
            layers=11, pattern=4, query_pre_attn_scalar=7,
            rope_scaling={"factor": 8.0, "rope_type": "linear"},
            vocab_size=277, hidden_size=96, intermediate_size=136, sliding_window=16,
            num_attention_heads=6, num_key_value_heads=3, head_dim=16,
        ),
    ),
}  # fmt: skip


# --- tensors -------------------------------------------------------------------------------------


def text_config(config: Config) -> Config:
    return config.get("text_config", config)


def tensor_prefix(config: Config) -> str:
    """What the names of the text tensors begin with."""
    if "text_config" not in config:
        return "model."
    return "language_model.model." if config["model_type"] == "gemma3" else "model.language_model."


def tensor_shapes(config: Config, *, unused_kv: bool = False) -> dict[str, tuple[int, ...]]:
    """Names without prefix, and shapes, of the text tensors of a model with this config."""
    text = text_config(config)
    layers, hidden, vocab = (
        text[key] for key in ("num_hidden_layers", "hidden_size", "vocab_size")
    )
    shapes: dict[str, tuple[int, ...]] = {
        "embed_tokens.weight": (vocab, hidden),
        "norm.weight": (hidden,),
    }
    width = text.get("hidden_size_per_layer_input", 0)
    if width:
        shapes["embed_tokens_per_layer.weight"] = (
            text["vocab_size_per_layer_input"],
            layers * width,
        )
        shapes["per_layer_model_projection.weight"] = (layers * width, hidden)
        shapes["per_layer_projection_norm.weight"] = (width,)
    for layer in range(layers):
        for name, shape in _layer_shapes(text, layer, width=width, unused_kv=unused_kv):
            shapes[f"layers.{layer}.{name}"] = shape
    return shapes


def types_of_layers(text: Config) -> list[str]:
    """`layer_types`, or what the pattern says; the last layer of a Gemma 4 is always global."""
    layers = text["num_hidden_layers"]
    types = list(
        text.get("layer_types") or layer_types(layers, text.get("sliding_window_pattern", 6))
    )
    if not text["model_type"].startswith("gemma3"):
        types[-1] = "full_attention"
    return types


def _layer_shapes(
    text: Config, layer: int, *, width: int, unused_kv: bool
) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, ffn, heads = (
        text[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads")
    )
    gemma3 = text["model_type"].startswith("gemma3")
    is_global = types_of_layers(text)[layer] == "full_attention"
    head_dim, kv_heads = text["head_dim"], text["num_key_value_heads"]
    k_eq_v = is_global and text.get("attention_k_eq_v", False)
    if is_global and not gemma3:
        head_dim = text["global_head_dim"]
        if k_eq_v and text["num_global_key_value_heads"] is not None:
            kv_heads = text["num_global_key_value_heads"]
    shared = layer >= text["num_hidden_layers"] - text.get("num_kv_shared_layers", 0)

    for norm in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
        yield f"{norm}_layernorm.weight", (hidden,)
    yield "self_attn.q_proj.weight", (heads * head_dim, hidden)
    yield "self_attn.q_norm.weight", (head_dim,)
    if unused_kv or not shared:
        yield "self_attn.k_proj.weight", (kv_heads * head_dim, hidden)
        yield "self_attn.k_norm.weight", (head_dim,)
        if not k_eq_v:
            yield "self_attn.v_proj.weight", (kv_heads * head_dim, hidden)
    yield "self_attn.o_proj.weight", (hidden, heads * head_dim)

    if shared and text.get("use_double_wide_mlp"):
        ffn *= 2
    yield "mlp.gate_proj.weight", (ffn, hidden)
    yield "mlp.up_proj.weight", (ffn, hidden)
    yield "mlp.down_proj.weight", (hidden, ffn)
    if gemma3:
        return
    yield "layer_scalar", (1,)
    if width:
        yield "per_layer_input_gate.weight", (width, hidden)
        yield "per_layer_projection.weight", (hidden, width)
        yield "post_per_layer_input_norm.weight", (hidden,)
    if text.get("enable_moe_block"):
        experts, expert_ffn = text["num_experts"], text["moe_intermediate_size"]
        yield "router.proj.weight", (experts, hidden)
        yield "router.scale", (hidden,)
        yield "router.per_expert_scale", (experts,)
        yield "experts.gate_up_proj", (experts, 2 * expert_ffn, hidden)
        yield "experts.down_proj", (experts, hidden, expert_ffn)
        for norm in ("pre_feedforward_layernorm_2", "post_feedforward_layernorm_1"):
            yield f"{norm}.weight", (hidden,)
        yield "post_feedforward_layernorm_2.weight", (hidden,)


def draw(name: str, shape: tuple[int, ...], *, seed: int, gemma3: bool) -> npt.NDArray[np.float64]:
    """The values of one tensor, uniform in a range that its name decides.

    The stream depends on the seed and the name only: a tensor keeps its values when others come
    or go.
    """
    stream = np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(name.encode())]))
    words = stream.random_raw(math.prod(shape))
    unit = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53  # [0, 1), exactly
    low, high = _range(name, shape)
    if gemma3 and name.endswith("norm.weight"):
        low, high = low - 1.0, high - 1.0  # stored as the distance from 1
    elif name.endswith("k_norm.weight"):  # scores are not scaled: that is done here
        low, high = low / math.sqrt(shape[0]), high / math.sqrt(shape[0])
    return (low + unit * (high - low)).reshape(shape)


def _range(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    if name == "norm.weight":
        return 6.0, 14.0  # the logits spread by 5
    if name.endswith("q_norm.weight"):
        return 0.8, 1.8
    if name.endswith("k_norm.weight"):
        return 0.7, 1.5
    if len(shape) == 1:  # norms, layer scalars, router and expert scales
        return 0.5, 1.5
    gain = {
        "embed_tokens.weight": 0.5,  # times sqrt(hidden) at lookup: the stream begins at 0.5
        "embed_tokens_per_layer.weight": 1.0,
        "router.proj.weight": 2.0,  # a clear order of experts
        "mlp.gate_proj.weight": 1.5,
        "experts.gate_up_proj": 1.5,
        "per_layer_input_gate.weight": 0.5,  # reads the raw stream
    }.get(name.split(".", 2)[-1] if name.startswith("layers.") else name, 1.0)
    inputs = shape[-1]
    if name == "embed_tokens_per_layer.weight":
        inputs = 16  # times sqrt(width) at lookup
    reach = gain * math.sqrt(3.0 / inputs)  # uniform in +-reach deviates by gain / sqrt(inputs)
    return -reach, reach


# --- files ---------------------------------------------------------------------------------------


def to_bf16(values: npt.ArrayLike) -> npt.NDArray[np.uint16]:
    """float32 values as bfloat16, rounded to nearest, ties to even; no NaN expected."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(stored: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    return (stored.astype(np.uint32) << 16).view(np.float32)


_STORE = {
    "bf16": to_bf16,
    "f16": lambda values: np.asarray(values, np.float32).astype(np.float16),
    "f32": lambda values: np.asarray(values, np.float32),
}
_DTYPE = {
    np.dtype("uint16"): "BF16",
    np.dtype("float16"): "F16",
    np.dtype("float32"): "F32",
    np.dtype("int32"): "I32",
    np.dtype("int64"): "I64",
}


def write_safetensors(path: Path, tensors: Arrays) -> None:
    """A safetensors file; uint16 arrays are bfloat16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, values in tensors.items():
        begin, end = end, end + values.nbytes
        header[name] = {
            "dtype": _DTYPE[values.dtype],
            "shape": list(values.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(np.ascontiguousarray(values).tobytes())


def make_tensors(
    config: Config, seed: int, *, dtype: str = "bf16", unused_kv: bool = False
) -> Arrays:
    """All tensors of the model under their full names, as stored."""
    gemma3 = text_config(config)["model_type"].startswith("gemma3")
    return {
        tensor_prefix(config) + name: _STORE[dtype](draw(name, shape, seed=seed, gemma3=gemma3))
        for name, shape in tensor_shapes(config, unused_kv=unused_kv).items()
    }


def write_files(folder: Path, config: Config, tensors: Arrays, *, shards: int = 1) -> Path:
    """Writes config.json, generation_config.json and the tensors; returns the folder.

    With more than one shard an index is written and the tensors are dealt out in turn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    generation = {
        "bos_token_id": BOS, "do_sample": True, "eos_token_id": [EOS, 106, 50],
        "pad_token_id": PAD, "temperature": 1.0, "top_k": 64, "top_p": 0.95,
    }  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return folder
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        write_safetensors(folder / file, {name: tensors[name] for name in names[shard::shards]})
        weight_map |= dict.fromkeys(names[shard::shards], file)
    total = sum(values.nbytes for values in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    return folder


def write_checkpoint(
    folder: Path,
    config: Config,
    seed: int,
    dtype: str = "bf16",
    *,
    unused_kv: bool = False,
    shards: int = 1,
) -> Path:
    """Makes the model that `config` describes from the seed and writes it; returns the folder.

    There is no tokenizer: prompts are token ids. `dtype` is "bf16", "f16" or "f32"; `unused_kv`
    stores keys and values of shared layers too, as the base checkpoints do.
    """
    tensors = make_tensors(config, seed, dtype=dtype, unused_kv=unused_kv)
    return write_files(folder, config, tensors, shards=shards)


def write(folder: Path, name: str, **keys: Any) -> Path:
    """Writes the model of `MODELS` with this name; further arguments as for `write_checkpoint`."""
    model = MODELS[name]
    keys.setdefault("unused_kv", model.unused_kv)
    return write_checkpoint(folder, model.config, model.seed, **keys)


def write_headers(folder: Path, config: Config) -> Path:
    """A bf16 checkpoint of full size whose weights are a hole in the file: zeros on no disk."""
    folder.mkdir(parents=True, exist_ok=True)
    header, end = {}, 0
    for name, shape in tensor_shapes(config).items():
        begin, end = end, end + 2 * math.prod(shape)
        name = tensor_prefix(config) + name
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    (folder / "config.json").write_text(json.dumps(config))
    return folder
