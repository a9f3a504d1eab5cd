"""What declarations say of a JSON Schema, and what of it they leave unsaid.

Schemas are plain JSON of dicts and lists, as `schemas.plain_json` gives it; none is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .schemas import TITLES, nullable


def _each(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """`change` at every schema inside, from the inside out."""
    if not isinstance(schema, dict):
        return schema
    inner: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"):
            inner[key] = {name: _each(item, change) for name, item in value.items()} if isinstance(
                value, dict
            ) else value  # fmt: skip
        elif key in ("anyOf", "oneOf", "allOf", "prefixItems") and isinstance(value, list):
            inner[key] = [_each(item, change) for item in value]
        elif key in ("items", "additionalProperties", "not", "if", "then", "else"):
            inner[key] = _each(value, change)
        else:
            inner[key] = value
    return change(inner)


def binding(schema: dict[str, Any]) -> Any:
    """The schema with words of declarations said in JSON Schema: `nullable: true`, and types in
    upper case."""

    def change(item: dict[str, Any]) -> dict[str, Any]:
        if isinstance(item.get("type"), str):
            item["type"] = item["type"].lower()
        takes_null = item.pop("nullable", None) is True and _is_sound(item)
        return nullable(item) if takes_null else item

    return _each(schema, change)


def _is_sound(schema: dict[str, Any]) -> bool:
    """Whether the keywords that `nullable` looks at are of the right types; others are refused
    later, with their place."""
    kinds = schema.get("type", "")
    return all(isinstance(schema.get(key, []), list) for key in ("enum", "anyOf")) and all(
        isinstance(kind, str) for kind in (kinds if isinstance(kinds, list) else [kinds])
    )


def with_nullable(schema: dict[str, Any]) -> Any:
    """The schema with "or null" said in the word of declarations."""

    def change(item: dict[str, Any]) -> dict[str, Any]:
        kinds = item.get("type")
        if isinstance(kinds, list) and "null" in kinds and len(kinds) == 2:
            item["type"] = next(kind for kind in kinds if kind != "null")
            if "enum" in item:
                item["enum"] = [choice for choice in item["enum"] if choice is not None]
            item["nullable"] = True
        return item

    return _each(schema, change)


def declared(schema: dict[str, Any]) -> Any:
    """The schema as it is printed best. The templates take an object's keywords for properties
    where it lists none: so each lists some, and says nothing about others."""

    def change(item: dict[str, Any]) -> dict[str, Any]:
        if item.get("type") == "object":
            item.setdefault("properties", {})
            item.pop("additionalProperties", None)
        return item

    return _each(with_nullable(schema), change)


def unsaid(schema: dict[str, Any], path: str = "", *, top: bool = False) -> Iterable[str]:
    """Keywords of a declared schema that the published templates do not print, with their places.

    They print description, type, nullable and properties; enum for strings alone; and whatever
    stands in `items`.
    """
    said = {"type", "properties", "required"} if top else {"description", "type", "nullable"}
    kind = schema.get("type")
    kind = kind.lower() if isinstance(kind, str) else kind
    if kind == "object":
        said |= {"properties", "required"}
    elif kind == "array":
        said.add("items")
    elif kind == "string":
        said.add("enum")
    for key, value in schema.items():
        is_default = key == "additionalProperties" and isinstance(value, bool)
        if key not in said | TITLES and not is_default:
            yield f"{path}{key}"
    if isinstance(kind, list):
        yield f"{path}type"
    yield from _unsaid_properties(schema, path)
    items = schema.get("items")
    while isinstance(items, dict):
        path = f"{path}items."
        yield from _unsaid_properties(items, path)
        items = items.get("items")


def _unsaid_properties(schema: dict[str, Any], path: str) -> Iterable[str]:
    properties = schema.get("properties")
    for name, item in properties.items() if isinstance(properties, dict) else ():
        if isinstance(item, dict):
            yield from unsaid(item, f"{path}{name}.")
