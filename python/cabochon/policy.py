"""Which class of tensors gets which format. One table; nothing else in the package decides it.

A class that is not named keeps what it is stored in. What is sensitive has a floor: router, norms,
layer scalars and the context projection of per-layer inputs are never rounded, the gates and
projections of per-layer inputs not below int8. The head is int8 in "int4" as well: docs/formats.md.
A matrix whose rows are no multiple of 32 long stays as stored; `Model.info()` says what each class
became.

int4 is one format with three ways to choose its scales (docs/formats.md, "int4: the search"):
"int4" searches with columns weighed by what they multiply, "int4-searched" without weighing them,
"int4-absmax" does not search. The last two are there to be compared with.
"""

from __future__ import annotations

from collections.abc import Mapping

from .errors import InvalidArgument, Unsupported

CLASSES = ("attention", "mlp", "experts", "head", "per_layer")  # as the core names them


def _int4(matrices: str) -> dict[str, str]:
    return dict.fromkeys(("attention", "mlp", "experts"), matrices) | dict.fromkeys(
        ("head", "per_layer"), "int8"
    )


POLICIES: dict[str, dict[str, str]] = {
    "auto": {},
    "bf16": {},
    "int8": dict.fromkeys(CLASSES, "int8"),
    "int4": _int4("int4"),
    "int4-searched": _int4("int4-searched"),
    "int4-absmax": _int4("int4-absmax"),
}

_CHOICES = (  # of a mapping, beside "default"
    "attention",
    "mlp",
    "experts",
    "head",
    "per_layer_table",
)
_TO_COME = ("vision", "audio")
_FORMATS = ("bf16", "int8", "int4", "int4-searched", "int4-absmax")
_TABLE_FORMATS = ("bf16", "int8", "int4")
_NOT_EXACT = ("bf16", "int8")  # what is asked for is another format than that of the codes


def resolve(weights: str | Mapping[str, str]) -> dict[str, str]:
    """Class to integer format; a class that is missing keeps what it is stored in.

    Args:
        weights: a name of POLICIES, or a mapping of classes to formats whose "default" (such a
            name, "auto" where it is missing) serves the others.

    Raises:
        InvalidArgument: an unknown class or format.
        Unsupported: a class whose format is to come.
    """
    if isinstance(weights, str):
        return _policy("weights", weights)
    if not isinstance(weights, Mapping):
        _policy("weights", weights)
    chosen = _policy("weights['default']", weights.get("default", "auto"))
    for name, kind in weights.items():
        if name == "default":
            continue
        if name in _TO_COME:
            raise Unsupported(f"weights: formats of the class {name!r} are to come")
        if name not in _CHOICES or kind not in _FORMATS:
            raise InvalidArgument(
                f"weights has {name!r}: {kind!r}, expected one of {_list(('default', *_CHOICES))} "
                f"to one of {_list(_FORMATS)}",
                argument="weights",
            )
        if name == "per_layer_table" and kind not in _TABLE_FORMATS:
            raise InvalidArgument(
                f"weights has 'per_layer_table': {kind!r}, expected one of "
                f"{_list(_TABLE_FORMATS)}: its rows are looked up, so no input weighs its columns",
                argument="weights",
            )
        chosen.pop(name, None)
        if kind != "bf16":
            chosen[name] = kind
    return chosen


def exact_classes(weights: str | Mapping[str, str]) -> frozenset[str]:
    """Classes whose matrices keep the codes that a checkpoint was trained for, where it has them.

    Exact codes are no rounding, so the floors above do not count: under "int4" per-layer gates keep
    theirs too. `weights` is as for `resolve`, which has checked it.
    """
    if isinstance(weights, str):
        return frozenset(() if weights in _NOT_EXACT else CLASSES)
    chosen = set(exact_classes(weights.get("default", "auto")))
    for name, kind in weights.items():
        if name != "default":
            chosen.discard(name)
            if name in CLASSES and kind not in _NOT_EXACT:
                chosen.add(name)
    return frozenset(chosen)


def _policy(place: str, name: object) -> dict[str, str]:
    if not isinstance(name, str) or name not in POLICIES:
        raise InvalidArgument(
            f"{place} is {name!r}, expected one of {_list(tuple(POLICIES))}, or a mapping of "
            "classes to formats",
            argument="weights",
        )
    return dict(POLICIES[name])


def _list(words: tuple[str, ...]) -> str:
    return ", ".join(map(repr, words))
