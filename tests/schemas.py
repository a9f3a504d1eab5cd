"""Random JSON Schemas, of answers and of tools."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

FORMATS = ("date", "time", "date-time", "uuid", "ipv4")
PATTERNS = (
    "^[a-c]{1,4}$",
    "^x[0-9]{2}$",
    "^(red|blue|grün)$",
    "^[A-Z][a-z]{0,5}( [A-Z][a-z]{0,5})?$",
)
NAMES = ("a", "b", "name", "größe", "two words", 'quo"te', "back\\slash", "call:f{", "<|turn>", "{")


# Those that a call can say.
KEYS = (
    "a",
    "b",
    "ab",
    "name",
    "größe",
    "two words",
    "back\\slash",
    "<|turn>",
    "it.s-1",
    "true",
    "Z",
)


def random_schema(
    rng: random.Random, depth: int = 0, names: Sequence[str] = NAMES
) -> dict[str, Any]:
    """One that llguidance takes and that some value fits."""
    kinds = ["string", "integer", "number", "boolean", "null", "enum", "const"]
    if depth < 3:
        kinds += ["object", "object", "array", "anyOf"] * (3 if depth == 0 else 1)
    kind = rng.choice(kinds)
    return _MAKERS[kind](rng, depth, names)


def _object(rng: random.Random, depth: int, names: Sequence[str]) -> dict[str, Any]:
    chosen = rng.sample(names, rng.randint(0, 4))
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: random_schema(rng, depth + 1, names) for name in chosen},
        "required": [name for name in chosen if rng.random() < 0.6],
    }
    if rng.random() < 0.8:
        schema["additionalProperties"] = False
    elif rng.random() < 0.5:
        schema["additionalProperties"] = {"type": "boolean"}
    return schema


def _array(rng: random.Random, depth: int, names: Sequence[str]) -> dict[str, Any]:
    low = rng.randint(0, 2)
    schema: dict[str, Any] = {"type": "array", "items": random_schema(rng, depth + 1, names)}
    if rng.random() < 0.8:
        schema |= {"minItems": low, "maxItems": low + rng.randint(0, 3)}
    if rng.random() < 0.2:
        schema["prefixItems"] = [
            random_schema(rng, depth + 1, names) for _ in range(rng.randint(1, 2))
        ]
    return schema


def _string(rng: random.Random, depth: int, names: Sequence[str]) -> dict[str, Any]:
    choice = rng.random()
    if choice < 0.25:
        return {"type": "string", "pattern": rng.choice(PATTERNS)}
    if choice < 0.4:
        return {"type": "string", "format": rng.choice(FORMATS)}
    low = rng.randint(0, 3)
    return {"type": "string", "minLength": low, "maxLength": low + rng.randint(0, 12)}


def _integer(rng: random.Random, depth: int, names: Sequence[str]) -> dict[str, Any]:
    low = rng.randint(-1000, 1000)
    schema: dict[str, Any] = {
        "type": "integer",
        "minimum": low,
        "maximum": low + rng.randint(0, 999),
    }
    if rng.random() < 0.3:
        del schema["minimum"]
        schema["exclusiveMaximum"] = schema.pop("maximum")
    return schema


def _number(rng: random.Random, depth: int, names: Sequence[str]) -> dict[str, Any]:
    low = rng.randint(-50, 50) / 4
    return {"type": "number", "minimum": low, "exclusiveMaximum": low + rng.randint(1, 40)}


def _any_of(rng: random.Random, depth: int, names: Sequence[str]) -> dict[str, Any]:
    return {"anyOf": [random_schema(rng, depth + 1, names) for _ in range(rng.randint(1, 3))]}


_VALUES = ("", "a", 'say "hi"\n', "naïve 🚀", 0, -17, 2.5, True, False, None)
_MAKERS = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": lambda rng, depth, names: {"type": "boolean"},
    "null": lambda rng, depth, names: {"type": ["null", "boolean"]},
    "enum": lambda rng, depth, names: {"enum": rng.sample(_VALUES, rng.randint(1, 4))},
    "const": lambda rng, depth, names: {"const": rng.choice(_VALUES)},
    "anyOf": _any_of,
}


# --- tools ---------------------------------------------------------------------------------------

TOOL_FORMATS = (*FORMATS, "duration", "email", "hostname", "ipv6", "uri")
# Python's `re`, which judges, takes more for a digit and for white space than JSON Schema.
TOOL_PATTERNS = (*PATTERNS, "[0-9]x|^a|b$", r"^\d+ \w$", "^[^ 0-9]{2}$", "")


def random_tool(rng: random.Random, name: str) -> dict[str, Any]:
    """A declaration whose calls can be bound."""
    chosen = rng.sample(KEYS, rng.randint(0, 5))
    parameters: dict[str, Any] = {
        "type": "object",
        "properties": {key: _of_a_tool(rng) for key in chosen},
        "required": [key for key in chosen if rng.random() < 0.5],
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {"leaf": {"type": "integer"}, "more": {"$ref": "#/$defs/tree"}},
                "required": ["leaf"],
            }
        },
    }
    if not chosen:
        del parameters["properties"]
    return {"name": name, "parameters": parameters}


def _of_a_tool(rng: random.Random) -> dict[str, Any]:
    """What tools have beside what `random_schema` makes."""
    special = [
        {"$ref": "#/$defs/tree", "description": "A tree."},
        {"type": "string", "format": rng.choice(TOOL_FORMATS)},
        {"type": "string", "pattern": rng.choice(TOOL_PATTERNS)},
        {"type": "string", "pattern": "a", "minLength": 3, "maxLength": 6},
        {"allOf": [{"type": "integer", "minimum": 2}, {"maximum": 9}], "maximum": 5},
        {"type": "number", "multipleOf": 0.25, "exclusiveMinimum": 0},
        {"type": "integer", "multipleOf": 7, "maximum": 50},
        {"type": ["string", "integer", "number"], "minLength": 1, "minimum": 3},
        {"enum": ["", "a", "ab", {"b": [1.5, None], "a": "x"}, [], 3]},
        {"enum": ["a", "abc", 3, 30], "minLength": 2, "maximum": 10},
        {"type": "array", "items": {"type": "array", "items": {"enum": [1, 2]}, "minItems": 1}},
        {"type": "object", "additionalProperties": {"type": "null"}},
        {"additionalProperties": True, "properties": {"a": {"const": "x"}}, "required": ["b"]},
        {},
        {"anyOf": [{"type": "null"}, {"enum": ["x", "xy"]}], "description": "Or null."},
        {
            "oneOf": [
                {"properties": {"kind": {"const": kind}, "v": {"type": said}}, "required": ["kind"]}
                for kind, said in (("cat", "boolean"), ("dog", "string"))
            ],
            "type": "object",
        },
    ]
    if rng.random() < 0.5:
        return rng.choice(special)
    return random_schema(rng, 1, KEYS)
