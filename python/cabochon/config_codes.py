"""The one way of quantising that a config.json may describe: int4 codes in groups of 32.

That of -qat-w4a16-ct. Any other is refused by its key, since it changes what stored numbers mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .config_keys import Reader, shown
from .errors import Unsupported

# The one quantization_config that is read, key by key: the values that it may have, null for a key
# that is absent too. Keys that are not here (observers, versions, what was left out) change nothing
# about what the stored numbers mean.
_INT4_CODES: dict[str, tuple[Any, ...]] = {
    "quant_method": ("compressed-tensors",),
    "format": ("pack-quantized",),
    "quantization_status": ("compressed", None),
    "kv_cache_scheme": (None,),
    "sparsity_config": (None, {}),
    "transform_config": (None, {}),
}
_INT4_GROUP: dict[str, tuple[Any, ...]] = {
    "format": ("pack-quantized", None),
    "input_activations": (None,),
    "output_activations": (None,),
}
_INT4_WEIGHTS: dict[str, tuple[Any, ...]] = {
    "num_bits": (4,),
    "type": ("int",),
    "symmetric": (True,),
    "strategy": ("group",),
    "group_size": (32,),
    "actorder": (None, False),
    "dynamic": (None, False),
    "block_structure": (None,),
}


def has_int4_codes(top: Reader) -> bool:
    """Whether matrices are stored as int4 codes; any other way of quantising is refused."""
    is_said = False
    for part in (top, top.part("text_config")):
        if part is None:
            continue
        if part.values.get("quantization") is not None:
            raise _other_codes(part, "quantization", (None,))
        scheme = part.part("quantization_config")
        if scheme is None:
            continue
        is_said = True
        _require_codes(scheme, _INT4_CODES)
        groups = scheme.part("config_groups")
        if groups is None or not groups.values:
            raise scheme.wrong("config_groups", "an object with at least one group")
        for name in groups.values:
            group = groups.part(name)
            if group is None:
                raise groups.wrong(name, "an object")
            _require_codes(group, _INT4_GROUP)
            weights = group.part("weights")
            if weights is None:
                raise group.wrong("weights", "an object")
            _require_codes(weights, _INT4_WEIGHTS)
    return is_said


def _require_codes(reader: Reader, accepted: Mapping[str, tuple[Any, ...]]) -> None:
    for key, values in accepted.items():
        found = reader.values.get(key)
        if not any(type(found) is type(one) and found == one for one in values):
            raise _other_codes(reader, key, values)


def _other_codes(reader: Reader, key: str, accepted: tuple[Any, ...]) -> Unsupported:
    return Unsupported(
        f"{reader.file}: {reader.prefix}{key} is {shown(reader.values.get(key))}, expected "
        f"{' or '.join(map(shown, accepted))}: of quantised checkpoints, those with 4-bit codes "
        "in groups of 32 are read (-qat-w4a16-ct). Load one of them, or the bf16 checkpoint of the "
        "same model"
    )
