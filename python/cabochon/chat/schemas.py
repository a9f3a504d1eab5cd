"""Types of Python as JSON Schema, values of JSON as those types, and schemas that check values."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import json
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NoReturn, Union

from ..errors import InvalidArgument
from .docstrings import described

MAX_BYTES = 64 * 1024  # of a schema as JSON
MAX_DEPTH = 64  # dicts and lists inside one another; a level of an object's properties takes two
MAX_PROPERTIES = 1000
MAX_CHOICES = 10_000  # entries of all enums together
_MAX_ERRORS = 3  # that one line names
_MAX_ERROR = 200  # characters of each

_PLAIN = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
_LISTS = (list, set, frozenset, collections.abc.Sequence, collections.abc.Iterable)
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
# Keywords that say nothing of which values are valid, and that no declaration prints.
TITLES = frozenset({"title", "examples", "$schema", "$id", "$comment", "deprecated", "readOnly",
                    "writeOnly", "discriminator"})  # fmt: skip


def _wrong(where: str, found: str, expected: str) -> NoReturn:
    raise InvalidArgument(
        f"{where}: found {found}, expected {expected}", argument=where.partition("[")[0]
    )


# --- schemas that check values -------------------------------------------------------------------


class Schema:
    """A JSON Schema, compiled: draft 2020-12 unless it says another.

    A pattern runs in linear time, or with a bounded number of steps where it looks around or back.
    Formats that the standard names (date, uuid, email, ...) bind.

    Args:
        schema: plain JSON, from `plain_json`.
        where: what it is, for errors: an argument's name and a place in it.

    Raises:
        InvalidArgument: it is no JSON Schema, is over a limit, or refers to another document.
    """

    def __init__(self, schema: dict[str, Any], where: str) -> None:
        import jsonschema_rs  # 15 MB that only those with tools or schemas shall load

        _check_counts(schema, where)
        try:
            self._validator = jsonschema_rs.validator_for(
                schema, validate_formats=True, retriever=_refuse_to_fetch
            )
        except ValueError as error:
            place = ".".join(map(str, getattr(error, "instance_path", ())))
            text = getattr(error, "message", str(error))
            _wrong(where, f"a schema with {place}: {text}" if place else text, "a JSON Schema")

    def error(self, value: Any) -> str | None:
        """None where `value` is valid, else one line that says what is wrong."""
        try:
            errors = [
                (".".join(map(str, error.instance_path)), error.message)
                for error in self._validator.iter_errors(value)
            ]
        except (TypeError, ValueError, RecursionError) as error:  # no JSON at all
            return _short(str(error))
        shown = [_short(f"{place}: {text}" if place else text) for place, text in errors]
        if len(shown) > _MAX_ERRORS:
            shown[_MAX_ERRORS:] = [f"and {len(shown) - _MAX_ERRORS} more"]
        return "; ".join(shown) or None


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_ERROR else line[: _MAX_ERROR - 3] + "..."


def _refuse_to_fetch(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not part of the schema, and nothing is fetched")


def plain_json(value: Any, where: str) -> Any:
    """A copy of `value` in dicts, lists and text, as JSON would give it back.

    Raises:
        InvalidArgument: it is no JSON, or over the limits of a schema.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_as_dict)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:  # a surrogate's half: ValueError
        _wrong(where, f"what JSON cannot say ({error})", "a schema of JSON values")
    if size > MAX_BYTES:
        _wrong(where, f"{size:,} bytes as JSON", f"at most {MAX_BYTES:,}")
    copy = json.loads(text)
    if is_deeper(copy, MAX_DEPTH):
        _wrong(where, f"more than {MAX_DEPTH} levels", "fewer")
    return copy


def _as_dict(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a value of type {type(value).__name__}")


def is_deeper(value: Any, levels: int) -> bool:
    """Whether dicts and lists stand inside one another over more than `levels` levels."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return False
    return levels == 0 or any(is_deeper(item, levels - 1) for item in value)


def _check_counts(schema: Any, where: str) -> None:
    counts = {"properties": 0, "enum": 0}
    for name, value in _walk(schema):
        if name in counts and isinstance(value, (dict, list)):
            counts[name] += len(value)
    for name, most in (("properties", MAX_PROPERTIES), ("enum", MAX_CHOICES)):
        if counts[name] > most:
            _wrong(where, f"{counts[name]:,} entries of {name!r}", f"at most {most:,}")


def _walk(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _walk(item)


# --- types to schemas ----------------------------------------------------------------------------


def schema_of(annotation: Any, where: str, *, inside: tuple[type, ...] = ()) -> dict[str, Any]:
    """The JSON Schema of a type.

    str, int, float, bool, None, Any, Literal, Enum (by value), Optional and Union, list, tuple, set
    and their abstract kin, dict with keys of str, dataclasses, TypedDict, NewType, Annotated with a
    description, and what pydantic makes. An object's properties are all that it may have, and those
    with a default are not required.

    Args:
        annotation: the type, forward references resolved.
        where: what it annotates, for errors.
        inside: the classes that it is part of.

    Raises:
        InvalidArgument: a type that a schema cannot say here.
    """
    annotation = type(None) if annotation is None else annotation
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if is_pydantic(annotation):
        return _pydantic_schema(annotation, where)
    if origin is typing.Annotated:
        inner, *texts = arguments
        if not all(isinstance(text, str) for text in texts):
            _wrong(where, repr(annotation), "Annotated with a description, or pydantic's Field")
        schema = schema_of(inner, where, inside=inside)
        return {**schema, "description": " ".join(texts)}
    if (inner := _wrapped(annotation)) is not annotation:
        return schema_of(inner, where, inside=inside)
    if annotation is Any or annotation is object:
        return {}
    if origin is Literal:
        return _choices(arguments, annotation, where)
    if origin in (Union, types.UnionType):
        return _union([schema_of(item, where, inside=inside) for item in arguments])
    container = origin or annotation
    if container in _LISTS:
        return {"type": "array", **_items("items", arguments, where, inside)}
    if container is tuple:
        return _tuple(arguments, where, inside)
    if container in _DICTS:
        if arguments and arguments[0] is not str:
            _wrong(where, f"{annotation!r}", "a dict with keys of str: JSON has no other")
        return {"type": "object", **_items("additionalProperties", arguments[1:], where, inside)}
    if isinstance(annotation, type):
        if annotation in _PLAIN:
            return {"type": _PLAIN[annotation]}
        if issubclass(annotation, enum.Enum):
            return _choices([member.value for member in annotation], annotation, where)
        if is_record(annotation):
            return _record_schema(annotation, where, inside)
    _wrong(
        where,
        f"the type {getattr(annotation, '__name__', annotation)}",
        "str, int, float, bool, Literal, Enum, Optional, Union, list, tuple, set, dict, a "
        "dataclass, a TypedDict or a pydantic model",
    )


def _wrapped(annotation: Any) -> Any:
    """What NewType, Required, NotRequired, ReadOnly and `type X = ...` stand around."""
    origin = typing.get_origin(annotation)
    if getattr(origin, "_name", None) in ("Required", "NotRequired", "ReadOnly"):
        return typing.get_args(annotation)[0]
    if hasattr(annotation, "__supertype__"):
        return annotation.__supertype__
    is_alias = type(annotation).__name__ == "TypeAliasType"
    return annotation.__value__ if is_alias else annotation


def _items(key: str, arguments: Sequence[Any], where: str, inside: tuple[type, ...]) -> Any:
    schema = schema_of(arguments[0], where, inside=inside) if arguments else {}
    return {key: schema} if schema else {}


def _tuple(arguments: Sequence[Any], where: str, inside: tuple[type, ...]) -> dict[str, Any]:
    if not arguments or arguments[1:] == (...,):
        return {"type": "array", **_items("items", arguments[:1], where, inside)}
    schemas = [schema_of(item, where, inside=inside) for item in arguments]
    return {
        "type": "array",
        "prefixItems": schemas,
        "minItems": len(schemas),
        "maxItems": len(schemas),
    }


def _choices(values: Sequence[Any], annotation: Any, where: str) -> dict[str, Any]:
    kinds = list(dict.fromkeys(_PLAIN.get(type(value)) for value in values))
    if not kinds or None in kinds:
        _wrong(where, repr(annotation), "choices that are str, int, float, bool or None")
    return {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": list(values)}


def _union(members: list[dict[str, Any]]) -> dict[str, Any]:
    rest = [schema for schema in members if schema != {"type": "null"}]
    if {} in rest:
        return {}
    if len(rest) == 1:
        union = rest[0]
    elif all(schema.keys() == {"type"} and isinstance(schema["type"], str) for schema in rest):
        union = {"type": list(dict.fromkeys(schema["type"] for schema in rest))}
    else:
        union = {"anyOf": rest}
    return union if len(rest) == len(members) else nullable(union)


def nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema that takes null beside what `schema` takes."""
    if not schema:
        return schema
    kinds = schema.get("type")
    if kinds is None or schema.keys() & {"const", "anyOf", "oneOf", "allOf", "not", "$ref", "if"}:
        rest = {key: value for key, value in schema.items() if key != "description"}
        described = {key: value for key, value in schema.items() if key == "description"}
        return {**described, "anyOf": [*_alternatives(rest), {"type": "null"}]}
    kinds = [kinds] if isinstance(kinds, str) else kinds
    united = {**schema, "type": list(dict.fromkeys([*kinds, "null"]))}
    if "enum" in schema and None not in schema["enum"]:
        united["enum"] = [*schema["enum"], None]
    return united


def _alternatives(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return schema["anyOf"] if schema.keys() == {"anyOf"} else [schema]


# --- classes with fields -------------------------------------------------------------------------


def is_record(annotation: Any) -> bool:
    """Whether it is a dataclass or a TypedDict."""
    return isinstance(annotation, type) and (
        dataclasses.is_dataclass(annotation)
        or (issubclass(annotation, dict) and hasattr(annotation, "__required_keys__"))
    )


def type_hints(thing: Any, where: str) -> dict[str, Any]:
    """Annotations of a class's fields or a function's parameters, forward references resolved.

    Raises:
        InvalidArgument: one names what does not exist.
    """
    holder = thing
    if not isinstance(thing, type):
        # A result's type is not looked at, and may exist for type checkers alone.
        hints = getattr(thing, "__annotations__", {})
        given = {key: hint for key, hint in hints.items() if key != "return"}
        holder = types.SimpleNamespace(__annotations__=given)
    names = getattr(inspect.unwrap(thing), "__globals__", None)
    try:
        return typing.get_type_hints(holder, globalns=names, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        _wrong(where, f"an annotation that cannot be resolved ({error})", "types of its module")


def properties_of(
    hints: Mapping[str, Any],
    optional: Iterable[str],
    docstring: str | None,
    where: str,
    *,
    inside: tuple[type, ...] = (),
) -> tuple[str, dict[str, Any]]:
    """The description in a docstring, and the schema of an object with these properties.

    Raises:
        InvalidArgument: a type that cannot be said, or a docstring that describes another property.
    """
    try:
        description, texts = described(docstring, hints)
    except ValueError as error:
        _wrong(where, f"a docstring that cannot be read ({error})", "text")
    if unknown := texts.keys() - hints.keys():
        _wrong(where, f"a docstring that describes {min(unknown)!r}", f"one of {', '.join(hints)}")
    properties = {}
    for name, hint in hints.items():
        schema = schema_of(hint, f"{where}.{name}", inside=inside)
        text = {"description": texts[name]} if texts.get(name) else {}
        properties[name] = {**schema, **text}
    required = [name for name in hints if name not in set(optional)]
    return description, {
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _record_schema(kind: Any, where: str, inside: tuple[type, ...]) -> dict[str, Any]:
    class_name: str = kind.__name__
    if kind in inside:
        _wrong(where, f"{class_name}, which is part of itself", "a type that ends")
    hints = type_hints(kind, where)
    docstring = kind.__doc__
    if dataclasses.is_dataclass(kind):
        fields = [field for field in dataclasses.fields(kind) if field.init]
        hints = {field.name: hints[field.name] for field in fields}
        optional = {field.name for field in fields if _has_default(field)}
        if (docstring or "").startswith(f"{class_name}("):  # made by dataclass itself
            docstring = None
    else:
        optional = {name for name, hint in hints.items() if _is_optional_key(kind, name, hint)}
    description, schema = properties_of(hints, optional, docstring, where, inside=(*inside, kind))
    return {**schema, **({"description": description} if description else {})}


def _is_optional_key(kind: Any, name: str, hint: Any) -> bool:
    # Not by `__optional_keys__` alone, which is wrong where annotations are kept as text.
    marked = getattr(typing.get_origin(hint), "_name", None)
    return marked == "NotRequired" or (marked != "Required" and name in kind.__optional_keys__)


def _has_default(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


# --- pydantic ------------------------------------------------------------------------------------


def is_pydantic(annotation: Any) -> bool:
    """Whether pydantic made it, or a part of what it is annotated with: then pydantic reads it."""
    if typing.get_origin(annotation) is typing.Annotated:
        kinds = (type(item).__module__ for item in annotation.__metadata__)
        return any(kind.split(".")[0] in ("pydantic", "annotated_types") for kind in kinds)
    return isinstance(annotation, type) and hasattr(annotation, "__pydantic_core_schema__")


def _adapter(annotation: Any) -> Any:
    import pydantic  # the caller uses it already: the annotation is made of it

    return pydantic.TypeAdapter(annotation)


def _pydantic_schema(annotation: Any, where: str) -> dict[str, Any]:
    try:
        schema = _adapter(annotation).json_schema()
    except ValueError as error:  # pydantic's errors of schemas are of no closer kind
        _wrong(where, f"a type that pydantic cannot say ({error})", "one with a JSON Schema")
    inlined: dict[str, Any] = _inline(schema, schema.get("$defs", {}), where, ())
    return inlined


def _inline(
    schema: Any, definitions: Mapping[str, Any], where: str, inside: tuple[str, ...]
) -> Any:
    """Definitions in the places that refer to them: a declaration has no references.

    Titles go, and defaults, which pydantic fills in itself; "X or null" is written as ours."""
    if isinstance(schema, list):
        return [_inline(item, definitions, where, inside) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name in inside:
            _wrong(where, f"{name}, which is part of itself", "a type that ends")
        found = _inline(definitions[name], definitions, where, (*inside, name))
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return {**found, **_inline(rest, definitions, where, inside)}
    dropped = {*TITLES, "default", "$defs"}
    plain: dict[str, Any] = {
        key: {name: _inline(item, definitions, where, inside) for name, item in value.items()}
        if key == "properties"  # where keys are names and no keywords
        else value
        if key in ("enum", "const", "required")
        else _inline(value, definitions, where, inside)
        for key, value in schema.items()
        if key not in dropped
    }
    if any(item == {"type": "null"} for item in plain.get("anyOf", ())):
        return {**_union(plain.pop("anyOf")), **plain}
    return plain


# --- values --------------------------------------------------------------------------------------


def build(value: Any, annotation: Any) -> Any:
    """A value of JSON as the type that asked for it: Enum, dataclass, pydantic, tuple, set, float.

    Args:
        value: valid against `schema_of(annotation)`.

    Raises:
        What the constructors of those types raise.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if is_pydantic(annotation):
        return _adapter(annotation).validate_python(value)
    if origin is typing.Annotated:
        return build(value, arguments[0])
    if (inner := _wrapped(annotation)) is not annotation:
        return build(value, inner)
    if origin in (Union, types.UnionType):
        return build(value, _member(value, arguments))
    if origin is Literal:  # 1.0 is the integer 1 of JSON, and True is not
        is_bool = isinstance(value, bool)
        return next(one for one in arguments if one == value and isinstance(one, bool) == is_bool)
    container = origin or annotation
    if container in _LISTS:
        items = [build(item, arguments[0]) if arguments else item for item in value]
        return items if container not in (set, frozenset) else container(items)
    if container is tuple:
        kinds = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        return tuple(map(build, value, kinds or [Any] * len(value)))
    if container in _DICTS:
        kind = arguments[1] if arguments else Any
        return {key: build(item, kind) for key, item in value.items()}
    if annotation in (int, float):  # 3.0 is an integer of JSON, and 3 a number
        return annotation(value)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return annotation(value)
    if is_record(annotation):
        hints = typing.get_type_hints(annotation, include_extras=True)
        return annotation(**{name: build(item, hints[name]) for name, item in value.items()})
    return value


def _member(value: Any, members: Sequence[Any]) -> Any:
    """The first of a Union's types that `value` is valid for."""
    for member in members:
        if Schema(schema_of(member, "value"), "value").error(value) is None:
            return member
    return Any


def is_model_class(thing: Any) -> bool:
    """Whether it is a class of pydantic."""
    return inspect.isclass(thing) and is_pydantic(thing)
