"""config.json to plans: one `LayerPlan` a layer, as data.

With `config_keys.py` (the table of keys) and `config_codes.py` the only code that knows
`model_type` and Hugging Face's keys. It reads Gemma 4 and Gemma 3 in both spellings in use (the
hub's and the one that transformers 5 writes), refuses what contradicts itself and guesses nothing:
a key that is absent takes the published default of its model class, and is listed in
`ModelConfig.defaulted`. Knows no tensors and no files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from .config_codes import has_int4_codes
from .config_keys import GEMMA3, IDS, KEYS, NIL, TEXT_TYPE_OF, Reader, row, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPlan:
    """What one decoder layer computes. Every field always has a value."""

    kv_source: int  # the layer whose keys and values this one reads; itself unless shared
    window: int  # keys a query sees, itself included; 0: all before it
    heads: int
    kv_heads: int
    head_dim: int
    rope_theta: float
    rope_scaling: float  # positions are divided by it
    rope_pairs: int  # pairs (i, i + head_dim / 2) that turn, counted from i = 0
    score_scale: float
    value_norm: bool  # rms without weight on values
    values_from_keys: bool  # no value projection: the raw key projection serves
    block_attention: bool  # image tokens of one block see each other
    ffn: int  # width of the dense MLP
    experts: int  # 0: none, and so the next two
    experts_per_token: int
    expert_ffn: int
    per_layer_input: int  # width, 0: none


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """What the decoder computes around and in its layers."""

    hidden: int
    vocab: int
    embed_scale: float  # sqrt(hidden) rounded to float32
    norm_epsilon: float
    logit_softcap: float  # 0: none
    norm_offset: float  # added to every norm weight when it is read
    layer_scalars: bool  # every layer ends with a stored factor
    per_layer_vocab: int  # rows of the per-layer embedding table, 0: none
    first_shared: int  # no layer from here on owns keys and values; the number of layers if all do
    layers: tuple[LayerPlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A config.json, read."""

    plan: ModelPlan
    family: str  # "gemma4" or "gemma3"
    model_type: str
    architectures: tuple[str, ...]
    context: int  # tokens, the most the checkpoint was made for
    bos_token_id: int | None
    pad_token_id: int | None
    eos_token_ids: tuple[int, ...]
    modalities: tuple[str, ...]  # "text", then "image" and "audio" where configured
    int4_codes: bool  # matrices are stored as int4 codes: quantization_config of -qat-w4a16-ct
    defaulted: tuple[str, ...]  # keys that were absent and took the default of their model class
    ignored: tuple[str, ...]  # keys that mean nothing to us and were not obeyed


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationConfig:
    """A generation_config.json, read; None where it says nothing."""

    eos_token_ids: tuple[int, ...] | None
    do_sample: bool | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    suppress_tokens: tuple[int, ...] | None


_SLIDING, _FULL = "sliding_attention", "full_attention"


def read_config(config: Mapping[str, Any], *, file: str = "config.json") -> ModelConfig:
    """The plan of a checkpoint, and what else its config.json says.

    Args:
        config: the parsed file.
        file: its name, for messages.

    Raises:
        CheckpointError: a key is missing, has a wrong type, is out of range or contradicts another;
            `key` names it, with "text_config." before it where it stands in there.
        Unsupported: another kind of model, a drafter, or weights that are quantised in another way
            than 4-bit codes in groups of 32.

    Source: the configuration classes of transformers 5.23; docs/model.md.
    """
    top = Reader(config, "", file)
    model_type = top.model_type()
    int4_codes = has_int4_codes(top)
    text_type = TEXT_TYPE_OF[model_type]
    text = top
    if model_type != text_type:
        found = top.part("text_config")
        if found is None:
            raise top.error("text_config", f"is missing, but model_type is {shown(model_type)}")
        text = found
        if text.values.get("model_type", text_type) != text_type:
            raise text.wrong("model_type", f"{shown(text_type)} in a {model_type} checkpoint")
    text.read_keys(text_type)
    if "tie_word_embeddings" in top.values:
        top.require("tie_word_embeddings", top.values["tie_word_embeddings"])
    bos_token_id, pad_token_id = (
        _token_id(top, text, key) for key in ("bos_token_id", "pad_token_id")
    )
    parts = {"text": text, "image": top.part("vision_config"), "audio": top.part("audio_config")}
    architectures = top.values.get("architectures") or []
    if not _is_list_of(str, architectures):
        raise top.wrong("architectures", "a list of names")
    readers = (top,) if text is top else (top, text)
    return ModelConfig(
        plan=_model_plan(text, text_type == GEMMA3),
        family="gemma3" if text_type == GEMMA3 else "gemma4",
        model_type=model_type,
        architectures=tuple(architectures),
        context=text["max_position_embeddings"],
        bos_token_id=bos_token_id,
        pad_token_id=pad_token_id,
        eos_token_ids=_eos_token_ids(top, text),
        modalities=tuple(word for word, part in parts.items() if part is not None),
        int4_codes=int4_codes,
        defaulted=tuple(name for reader in readers for name in reader.defaulted),
        ignored=tuple(name for reader in readers for name in reader.unknown_keys()),
    )


def read_generation_config(
    config: Mapping[str, Any], *, file: str = "generation_config.json"
) -> GenerationConfig:
    """The published sampling values and stop tokens of a checkpoint.

    Raises:
        CheckpointError: a value has a wrong type or is out of range; `key` names it.
    """
    reader = Reader(config, "", file)

    def value(key: str, kind: type, low: float, high: float) -> Any:
        found = reader.values.get(key)
        if found is None:
            return None
        return reader.require(key, found, row(kind, low, high, NIL, use=""))

    def ids(key: str, at_most: int) -> tuple[int, ...] | None:
        found = reader.values.get(key)
        return None if found is None else _token_ids(reader, key, found, at_most=at_most)

    return GenerationConfig(
        eos_token_ids=ids("eos_token_id", 256),
        do_sample=value("do_sample", bool, 0, 1),
        temperature=value("temperature", float, 0, 100),
        top_k=value("top_k", int, 0, 2**20),
        top_p=value("top_p", float, 0, 1),
        suppress_tokens=ids("suppress_tokens", 2**20),  # a vocabulary at most
    )


def _model_plan(text: Reader, gemma3: bool) -> ModelPlan:
    if gemma3 and text["use_bidirectional_attention"] == "vision":
        raise text.wrong("use_bidirectional_attention", "null or false in a Gemma 3")
    types = _layer_types(text, gemma3)
    shapes = _attention_shapes(text, types, gemma3)
    first_shared, sources = _kv_sources(text, types, shapes)
    ropes = {kind: _rope(text, gemma3, kind) for kind in sorted(set(types))}
    per_layer_input = text["hidden_size_per_layer_input"] or 0
    if per_layer_input and text["vocab_size_per_layer_input"] < text["vocab_size"]:
        raise text.error(
            "vocab_size_per_layer_input",
            f"is {text['vocab_size_per_layer_input']}, but vocab_size is {text['vocab_size']}: "
            "some tokens would have no per-layer embedding",
        )
    experts, experts_per_token, expert_ffn = _experts(text)

    plans = []
    for i, kind in enumerate(types):
        heads, (kv_heads, head_dim) = text["num_attention_heads"], shapes[i]
        if heads % kv_heads:
            raise text.error(
                "num_attention_heads",
                f"is {heads}, but layer {i} has {kv_heads} key and value heads "
                "(num_key_value_heads or its override): it must be a multiple",
            )
        if head_dim % 2:
            raise text.error(
                "head_dim", f"is {head_dim} in layer {i}: rope turns pairs, so it must be even"
            )
        theta, scaling, rotated = ropes[kind]
        plans.append(
            LayerPlan(
                kv_source=sources[i],
                window=text["sliding_window"] if kind == _SLIDING else 0,
                heads=heads,
                kv_heads=kv_heads,
                head_dim=head_dim,
                rope_theta=theta,
                rope_scaling=scaling,
                rope_pairs=int(rotated * head_dim // 2),
                score_scale=text["query_pre_attn_scalar"] ** -0.5 if gemma3 else 1.0,
                value_norm=not gemma3,
                values_from_keys=kind == _FULL and bool(text["attention_k_eq_v"]),
                block_attention=(
                    kind == _SLIDING and text["use_bidirectional_attention"] == "vision"
                ),
                ffn=text["intermediate_size"]
                * (2 if text["use_double_wide_mlp"] and i >= first_shared else 1),
                experts=experts,
                experts_per_token=experts_per_token,
                expert_ffn=expert_ffn,
                per_layer_input=per_layer_input,
            )
        )
    return ModelPlan(
        hidden=text["hidden_size"],
        vocab=text["vocab_size"],
        embed_scale=float(np.float32(math.sqrt(text["hidden_size"]))),
        norm_epsilon=text["rms_norm_eps"],
        logit_softcap=text["final_logit_softcapping"] or 0.0,
        norm_offset=1.0 if gemma3 else 0.0,
        layer_scalars=not gemma3,
        per_layer_vocab=text["vocab_size_per_layer_input"] if per_layer_input else 0,
        first_shared=first_shared,
        layers=tuple(plans),
    )


def _layer_types(text: Reader, gemma3: bool) -> list[str]:
    layers, given = text["num_hidden_layers"], text["layer_types"]
    every = text["sliding_window_pattern"] or 6
    by_pattern = [_SLIDING if (i + 1) % every else _FULL for i in range(layers)]
    types = by_pattern if given is None else list(given)
    for i, kind in enumerate(types):
        if kind not in (_SLIDING, _FULL):
            raise text.error(
                "layer_types", f"[{i}] is {shown(kind)}, expected {_SLIDING} or {_FULL}"
            )
    if len(types) != layers:
        raise text.error(
            "layer_types", f"names {len(types)} layers, but num_hidden_layers is {layers}"
        )
    if not gemma3:
        types[-1] = _FULL  # the published class forces it, also on a given list
    elif text["sliding_window_pattern"] and types != by_pattern:
        i = next(i for i in range(layers) if types[i] != by_pattern[i])
        raise text.error(
            "layer_types",
            f"[{i}] is {types[i]}, but sliding_window_pattern {every} makes it {by_pattern[i]}",
        )
    return types


def _attention_shapes(text: Reader, types: list[str], gemma3: bool) -> list[tuple[int, int]]:
    """(kv_heads, head_dim) of each layer, from either spelling; both must agree if both are there.

    The hub writes global_head_dim and num_global_key_value_heads (the latter counts only where
    attention_k_eq_v), transformers 5 writes per_layer_config for the layers that differ.
    """
    common = text["num_key_value_heads"], text["head_dim"]
    if gemma3:
        return [common] * len(types)
    global_kv_heads = text["num_global_key_value_heads"] if text["attention_k_eq_v"] else None
    overrides = text["per_layer_config"]
    if overrides is None:
        if text["global_head_dim"] is None:
            text.note_default("global_head_dim")
        full = (global_kv_heads or common[0], text["global_head_dim"] or 512)
        return [full if kind == _FULL else common for kind in types]

    shapes = [common] * len(types)
    seen: dict[int, str] = {}
    for name, entry in overrides.items():
        key = f"per_layer_config.{name}"
        # As text it may be zero-padded: "5" in ten layers, "05" in twelve.
        layer = int(name) if re.fullmatch(r"[0-9]{1,4}", str(name)) else len(types)
        if layer >= len(types):
            raise text.error(
                key, f"is no layer: num_hidden_layers is {len(types)}, so 0 to {len(types) - 1}"
            )
        if layer in seen:
            raise text.error(key, f"is layer {layer}, which {shown(seen[layer])} names as well")
        seen[layer] = name
        if type(entry) is not dict:
            raise text.error(key, f"is {shown(entry)}, expected an object")
        for inner in entry:
            if inner not in ("num_key_value_heads", "head_dim"):
                raise text.error(
                    f"{key}.{inner}",
                    f"is {shown(entry[inner])}, but layers may differ in num_key_value_heads and "
                    "head_dim only",
                )
            text.require(f"{key}.{inner}", entry[inner], KEYS[inner])
        shapes[layer] = (
            entry.get("num_key_value_heads", common[0]),
            entry.get("head_dim", common[1]),
        )

    said = {
        "num_global_key_value_heads": global_kv_heads,
        "global_head_dim": text["global_head_dim"],
    }
    for i, kind in enumerate(types):
        for key, found in zip(said, shapes[i], strict=True):
            if kind == _FULL and said[key] is not None and said[key] != found:
                raise text.error(
                    key, f"is {said[key]}, but per_layer_config makes it {found} in layer {i}"
                )
    return shapes


def _kv_sources(
    text: Reader, types: list[str], shapes: list[tuple[int, int]]
) -> tuple[int, list[int]]:
    """The first layer without keys of its own, and for each layer the one whose keys it reads."""
    layers, shared = len(types), text["num_kv_shared_layers"] or 0
    if shared >= layers:
        raise text.error(
            "num_kv_shared_layers",
            f"is {shared}, but num_hidden_layers is {layers}: a layer must own keys",
        )
    first_shared = layers - shared
    last_owner = {kind: i for i, kind in enumerate(types[:first_shared])}
    sources = list(range(layers))
    for i in range(first_shared, layers):
        if types[i] not in last_owner:
            raise text.error(
                "num_kv_shared_layers",
                f"is {shared}, but none of the {first_shared} layers before layer {i} that own "
                f"keys is of its kind, {types[i]}",
            )
        sources[i] = last_owner[types[i]]
        if shapes[i] != shapes[sources[i]]:
            raise text.error(
                "per_layer_config" if text["per_layer_config"] else "num_kv_shared_layers",
                f"makes layer {i} read the keys of layer {sources[i]}, but (kv heads, head_dim) "
                f"are {shapes[i]} and {shapes[sources[i]]}",
            )
    return first_shared, sources


def _experts(text: Reader) -> tuple[int, int, int]:
    if not text["enable_moe_block"]:
        return 0, 0, 0
    keys = ("num_experts", "top_k_experts", "moe_intermediate_size")
    for key in keys:
        if text[key] is None:
            state = "null" if key in text.values else "missing"
            raise text.error(key, f"is {state}, but enable_moe_block is true: {KEYS[key].use}")
    experts, experts_per_token, expert_ffn = (text[key] for key in keys)
    if experts_per_token > experts:
        raise text.error(
            "top_k_experts", f"is {experts_per_token}, but num_experts is only {experts}"
        )
    return experts, experts_per_token, expert_ffn


def _rope(text: Reader, gemma3: bool, kind: str) -> tuple[float, float, float]:
    """(theta, scaling, rotated part of a head) of one kind of attention."""
    full = kind == _FULL
    whole = text["rope_parameters"]
    entry: Any = None
    if whole is not None:
        for key in whole:
            if key not in (_SLIDING, _FULL):
                raise text.error(
                    f"rope_parameters.{key}", f"is no kind of attention: {_SLIDING} and {_FULL} are"
                )
        entry = whole.get(kind)
        if entry is None and not gemma3:
            raise text.error(f"rope_parameters.{kind}", "is missing, but layers of that kind exist")
        if entry is not None and type(entry) is not dict:
            raise text.error(f"rope_parameters.{kind}", f"is {shown(entry)}, expected an object")
    elif not gemma3:
        text.note_default(f"rope_parameters.{kind}")
        return (1_000_000.0, 1.0, 0.25) if full else (10_000.0, 1.0, 1.0)

    theta, scaling, rotated = _rope_entry(text, f"rope_parameters.{kind}", entry or {}, gemma3)
    if not gemma3:
        if theta is None:
            raise text.error(f"rope_parameters.{kind}.rope_theta", "is missing: the base of rope")
        return theta, scaling or 1.0, rotated

    # Gemma 3's older spelling; where both are there they must say the same.
    old_key = "rope_theta" if full else "rope_local_base_freq"
    old_theta = text[old_key]
    if theta is not None and old_theta is not None and theta != old_theta:
        raise text.error(
            old_key, f"is {old_theta:g}, but rope_parameters.{kind}.rope_theta is {theta:g}"
        )
    if full and text["rope_scaling"] is not None:
        _, old_scaling, _ = _rope_entry(text, "rope_scaling", text["rope_scaling"], gemma3)
        if scaling is not None and old_scaling != scaling:
            raise text.error(
                "rope_scaling",
                f"is {old_scaling or 1.0:g}, but rope_parameters.{kind} says {scaling:g}",
            )
        scaling = old_scaling
    theta = theta if theta is not None else old_theta
    if theta is None:
        text.note_default(old_key)
        theta = 1_000_000.0 if full else 10_000.0
    return theta, scaling or 1.0, rotated


def _rope_entry(
    text: Reader, path: str, entry: dict[str, Any], gemma3: bool
) -> tuple[float | None, float | None, float]:
    """(theta, scaling, rotated part) of one object; None where it does not say."""
    types = ("default", "linear") if gemma3 else ("default", "linear", "proportional")
    name = "rope_type" if "rope_type" in entry else "type"  # "type" is the oldest spelling
    rope_type = entry.get(name)
    if rope_type is not None or name in entry:
        text.require(f"{path}.{name}", rope_type, row(types, 0, 0, NIL, use=""))

    def number(key: str, low: float, high: float) -> float | None:
        found = entry.get(key)
        if found is None:
            return None
        return cast(float, text.require(f"{path}.{key}", found, row(float, low, high, NIL, use="")))

    known = (name, "rope_theta", "factor", "partial_rotary_factor")
    text.ignored += [f"{text.prefix}{path}.{key}" for key in entry if key not in known]
    theta = number("rope_theta", 1, 1e12)
    factor = number("factor", 1e-3, 1e6)
    rotated = number("partial_rotary_factor", 0, 1)
    if rope_type == "linear" and factor is None:
        raise text.error(f"{path}.factor", "is missing, but rope_type is linear")
    if rope_type != "proportional" and rotated not in (None, 1.0):
        raise text.error(
            f"{path}.partial_rotary_factor",
            f"is {rotated:g}, but rope_type is {shown(rope_type or 'default')}, which turns all",
        )
    if rope_type in (None, "default"):
        if factor not in (None, 1.0):
            raise text.error(
                f"{path}.factor",
                f"is {factor:g}, but rope_type is {shown(rope_type or 'default')}, which has none",
            )
        factor = None if rope_type is None else 1.0
    return theta, factor, 1.0 if rotated is None else rotated


def _token_id(top: Reader, text: Reader, key: str) -> int | None:
    """A copy at the top level counts before the text part's own."""
    reader = top if key in top.values else text
    value = cast("int | None", reader.require(key, reader.values.get(key, text[key])))
    if value is not None and value >= text["vocab_size"]:
        raise reader.error(
            key, f"is {value}, but vocab_size is {text['vocab_size']}: no such token"
        )
    return value


def _eos_token_ids(top: Reader, text: Reader) -> tuple[int, ...]:
    """The top level's, else the text part's, else the classes' default."""
    for reader in (top, text):
        if "eos_token_id" in reader.values:
            found = reader.values["eos_token_id"]
            ids = () if found is None else _token_ids(reader, "eos_token_id", found)
            beyond = [i for i in ids if i >= text["vocab_size"]]
            if beyond:
                raise reader.error(
                    "eos_token_id",
                    f"has {beyond[0]}, but vocab_size is {text['vocab_size']}: no such token",
                )
            return ids
    text.note_default("eos_token_id")
    return (1,)


def _token_ids(reader: Reader, key: str, value: Any, *, at_most: int = 256) -> tuple[int, ...]:
    ids = value if type(value) is list else [value]
    if len(ids) > at_most:
        raise reader.error(key, f"has {len(ids)} ids, expected at most {at_most}")
    for one in ids:
        reader.require(key, one, row(int, 0, IDS, NIL, use=""))
    return tuple(ids)


def _is_list_of(kind: type, value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, kind) for one in value)
