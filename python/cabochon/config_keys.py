"""The keys of config.json that mean something: what each may be, and a reader that checks them.

One table: a key's type, range and published default by model class. `Reader` reads one object of
the file by it and complains with the key's path. What the values make of a model is `config.py`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from .errors import CheckpointError, Unsupported

# model_type of a whole checkpoint, and of its text part: at the top level of a text-only one, else
# in text_config.
TEXT_TYPE_OF = {
    "gemma4": "gemma4_text",
    "gemma4_text": "gemma4_text",
    "gemma4_unified": "gemma4_unified_text",
    "gemma4_unified_text": "gemma4_unified_text",
    "gemma3": "gemma3_text",
    "gemma3_text": "gemma3_text",
}
_DRAFTERS = ("gemma4_assistant", "gemma4_unified_assistant")
_TEXT_TYPES = ("gemma4_text", "gemma4_unified_text", "gemma3_text")
_GEMMA4, _UNIFIED, GEMMA3 = _TEXT_TYPES


class _Default(Enum):
    """Of a key that has no default value."""

    REQUIRED = 1  # it must be there
    UNSAID = 2  # null when absent, and not worth telling: switched off, or spelt otherwise
    NO_KEY = 3  # the class has no such key


class Key(NamedTuple):
    """One key of a text config."""

    kind: Any  # a type, or the only values that are accepted, as a tuple
    low: float  # smallest value; of a list or an object, smallest length
    high: float
    defaults: tuple[Any, Any, Any]  # one a text type, in the order of _TEXT_TYPES
    null: bool  # whether null is a value
    use: str


def row(kind: Any, low: float, high: float, *defaults: Any, use: str, null: bool = False) -> Key:
    a, b, c = defaults if len(defaults) == 3 else defaults * 3
    return Key(kind, low, high, (a, b, c), null, use)


_MUST, NIL, _NO = _Default.REQUIRED, _Default.UNSAID, _Default.NO_KEY
_MOST = 2**31 - 1  # the plan's integers have 32 bits
IDS = 2**20 - 1
# fmt: off
# Default: one for all, or those of gemma4_text, gemma4_unified_text, gemma3_text.
KEYS: dict[str, Key] = {
    "hidden_size": row(int, 1, 65_536, _MUST, use="width of the residual stream"),
    "num_hidden_layers": row(int, 1, 256, _MUST, use="layers"),
    "intermediate_size": row(int, 1, 2**20, _MUST, use="width of the dense MLP"),
    "vocab_size": row(int, 1, 2**20, 262_144, 262_144, 262_208, use="rows of the embedding"),
    "max_position_embeddings": row(int, 1, _MOST, 131_072, 262_144, 131_072, use="context"),
    "rms_norm_eps": row(float, 1e-12, 0.1, 1e-6, use="epsilon of every norm"),
    "final_logit_softcapping": row(float, 1e-3, 1e6, None, null=True, use="softcap of the logits"),

    "layer_types": row(list, 1, 256, None, null=True, use="attention of each layer"),
    "sliding_window_pattern": row(int, 1, 256, _NO, _NO, NIL, use="one layer of so many is full"),
    "sliding_window": row(int, 1, _MOST, 512, 1024, 4096, use="keys a query sees"),
    "num_attention_heads": row(int, 1, 256, 8, use="query heads"),
    "num_key_value_heads": row(int, 1, 256, 4, use="key heads"),
    "head_dim": row(int, 2, 1024, 256, use="width of a head"),
    "query_pre_attn_scalar": row(int, 1, 2**20, _NO, _NO, 256, use="scores: to the power -1/2"),
    # What differs in full layers: as the hub spells it, and as transformers 5 does.
    "global_head_dim": row(int, 2, 1024, NIL, NIL, _NO, use="width of a head"),
    "num_global_key_value_heads": row(
        int, 1, 256, NIL, NIL, _NO, null=True, use="key heads, only where attention_k_eq_v"),
    "per_layer_config": row(dict, 0, 256, NIL, NIL, _NO, use="both, by layer number"),
    "attention_k_eq_v": row(bool, 0, 1, False, False, _NO, use="no value projection"),
    "num_kv_shared_layers": row(int, 0, 256, 0, 0, _NO, use="last layers without keys"),
    "use_double_wide_mlp": row(bool, 0, 1, False, False, _NO, use="in those, a wider MLP"),

    # Rope: as all write it now, and as Gemma 3 did before.
    "rope_parameters": row(dict, 0, 64, NIL, null=True, use="rope by kind of attention"),
    "rope_theta": row(float, 1, 1e12, _NO, _NO, NIL, use="base in full layers"),
    "rope_local_base_freq": row(float, 1, 1e12, _NO, _NO, NIL, use="base in sliding layers"),
    "rope_scaling": row(dict, 0, 64, _NO, _NO, NIL, null=True, use="scaling in full layers"),

    "hidden_size_per_layer_input": row(int, 0, 4096, 256, _NO, _NO, use="width, 0 for none"),
    "vocab_size_per_layer_input": row(int, 1, 2**20, 262_144, _NO, _NO, use="rows of its table"),
    "enable_moe_block": row(bool, 0, 1, False, _NO, _NO, use="experts beside the dense MLP"),
    "num_experts": row(int, 1, 1024, NIL, _NO, _NO, null=True, use="experts of a layer"),
    "top_k_experts": row(int, 1, 1024, NIL, _NO, _NO, null=True, use="experts of a token"),
    "moe_intermediate_size": row(int, 1, 2**20, NIL, _NO, _NO, null=True, use="expert's width"),

    "bos_token_id": row(int, 0, IDS, 2, null=True, use="first token of a prompt"),
    "pad_token_id": row(int, 0, IDS, 0, null=True, use="padding"),

    # What no published model has another value of: another one is refused by its key.
    "hidden_activation": row(("gelu_pytorch_tanh",), 0, 0, "gelu_pytorch_tanh", use="of the MLP"),
    "attention_bias": row((False,), 0, 0, False, use="of the attention's projections"),
    "attn_logit_softcapping": row((None,), 0, 0, _NO, _NO, NIL, use="softcap of the scores"),
    "tie_word_embeddings": row((True,), 0, 0, NIL, use="the head is the embedding"),
    "use_bidirectional_attention": row(
        (None, False, "vision"), 0, 0, None, "vision", None, use="an image sees itself whole"),
}
# fmt: on
# Keys without an effect on what is computed from text, or read apart from the table.
_OTHER_KEYS = (
    *("_name_or_path", "architectures", "dtype", "model_type", "torch_dtype"),
    *("transformers_version", "cache_implementation", "initializer_range", "use_cache"),
    *("attention_dropout", "_sliding_window_pattern", "eos_token_id"),
    *("text_config", "vision_config", "audio_config", "quantization", "quantization_config"),
    *("audio_token_id", "image_token_id", "image_token_index", "video_token_id"),
    *("boa_token_id", "boa_token_index", "eoa_token_id", "eoa_token_index"),
    *("boi_token_id", "boi_token_index", "eoi_token_id", "eoi_token_index"),
    *("mm_tokens_per_image", "vision_soft_tokens_per_image"),
)
_COPIES = ("bos_token_id", "pad_token_id", "tie_word_embeddings")
# Keys that would change the model if its class had them: null, 0, false or empty is fine anywhere,
# another value is refused where the class has no such thing.
_SWITCHES = (
    *("attention_k_eq_v", "enable_moe_block", "hidden_size_per_layer_input"),
    *("num_kv_shared_layers", "per_layer_config", "use_double_wide_mlp"),
)


class Reader:
    """One object of a config: its checked values, what was defaulted, and how to complain."""

    def __init__(self, values: Any, prefix: str, file: str) -> None:
        self.file = file
        self.prefix = prefix
        if not isinstance(values, Mapping):
            raise CheckpointError(
                f"{file}: {prefix.rstrip('.') or 'the file'} is {shown(values)}, expected an "
                "object",
                file=file,
                key=prefix.rstrip(".") or None,
            )
        self.values = values
        self.defaulted: list[str] = []
        self.ignored: list[str] = []
        self._read: dict[str, Any] = {}  # null where the class has no such key
        # At the top level beside a text_config, copies of these may stand.
        self._known = {*_OTHER_KEYS, *_SWITCHES, *_COPIES}

    def __getitem__(self, key: str) -> Any:
        return self._read[key]

    def error(self, key: str, what: str) -> CheckpointError:
        path = self.prefix + key
        return CheckpointError(f"{self.file}: {path} {what}", file=self.file, key=path)

    def wrong(self, key: str, expected: str) -> CheckpointError:
        return self.error(key, f"is {shown(self.values.get(key))}, expected {expected}")

    def part(self, key: str) -> Reader | None:
        """The object under a key, None where it is null or absent."""
        value = self.values.get(key)
        return None if value is None else Reader(value, f"{self.prefix}{key}.", self.file)

    def model_type(self) -> str:
        found = self.values.get("model_type")
        if "model_type" not in self.values:
            raise self.error("model_type", "is missing: is this the config of a language model?")
        if not isinstance(found, str):
            raise self.wrong("model_type", "a name such as gemma4")
        if found in _DRAFTERS:
            raise Unsupported(
                f"{self.file}: model_type is {shown(found)}: a drafter, which only guesses ahead "
                "for a larger model. Load the model it was made for (the name without -assistant)"
            )
        if found not in TEXT_TYPE_OF:
            raise Unsupported(
                f"{self.file}: model_type is {shown(found)}; cabochon computes "
                f"{', '.join(TEXT_TYPE_OF)}"
            )
        return found

    def read_keys(self, text_type: str) -> None:
        """Checks every key of the table that this text type has, and fills in defaults."""
        column = _TEXT_TYPES.index(text_type)
        for key, spec in KEYS.items():
            default = spec.defaults[column]
            self._read[key] = None if isinstance(default, _Default) else default
            if default is _NO:
                if key in _SWITCHES and self.values.get(key):
                    raise self.wrong(key, f"none: {text_type} models have no such thing")
                continue
            self._known.add(key)
            if key in self.values:
                self._read[key] = self.require(key, self.values[key])
            elif default is _MUST:
                raise self.error(key, f"is missing: {spec.use}")
            elif default is not NIL:
                self.note_default(key)

    def require(self, key: str, value: Any, spec: Key | None = None) -> Any:
        """The value, if it is of the right type and in range; a float is returned as one."""
        kind, low, high, _, null, _ = spec or KEYS[key]
        if value is None and null:
            return value
        if isinstance(kind, tuple):
            if not any(type(value) is type(one) and value == one for one in kind):
                raise self.error(
                    key, f"is {shown(value)}, expected {' or '.join(map(shown, kind))}"
                )
        elif kind is bool:
            if type(value) is not bool:
                raise self.error(key, f"is {shown(value)}, expected true or false")
        elif kind in (list, dict):
            if type(value) is not kind or not low <= len(value) <= high:
                what = "a list" if kind is list else "an object"
                raise self.error(
                    key,
                    f"is {shown(value)}, expected {what} of {low:,} to {high:,} entries",
                )
        else:
            accepted = (int,) if kind is int else (int, float)
            # Written so that NaN fails.
            if type(value) not in accepted or not low <= value <= high:
                what = "an integer" if kind is int else "a number"
                raise self.error(
                    key, f"is {shown(value)}, expected {what} from {low:,} to {high:,}"
                )
            return float(value) if kind is float else value
        return value

    def note_default(self, key: str) -> None:
        self.defaulted.append(self.prefix + key)

    def unknown_keys(self) -> list[str]:
        """What the file says that means nothing to us; null says nothing."""
        said = (key for key, value in self.values.items() if value is not None)
        return [self.prefix + key for key in said if key not in self._known] + self.ignored


def shown(value: Any) -> str:
    """A value of the file as JSON, cut where it is long."""
    try:
        text = json.dumps(value, default=repr)
    except (ValueError, RecursionError):
        text = repr(type(value))
    return text if len(text) <= 80 else f"{text[:77]}..."
