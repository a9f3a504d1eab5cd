"""Random JSON Schemas, and answers drawn from masks alone."""

from __future__ import annotations

import random
from typing import Any

FORMATS = ("date", "time", "date-time", "uuid", "ipv4")
PATTERNS = (
    "^[a-c]{1,4}$",
    "^x[0-9]{2}$",
    "^(red|blue|grün)$",
    "^[A-Z][a-z]{0,5}( [A-Z][a-z]{0,5})?$",
)
NAMES = ("a", "b", "name", "größe", "two words", 'quo"te', "back\\slash", "call:f{", "<|turn>", "{")


def random_schema(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    """One that llguidance takes and that some value fits."""
    kinds = ["string", "integer", "number", "boolean", "null", "enum", "const"]
    if depth < 3:
        kinds += ["object", "object", "array", "anyOf"] * (3 if depth == 0 else 1)
    kind = rng.choice(kinds)
    return _MAKERS[kind](rng, depth)


def _object(rng: random.Random, depth: int) -> dict[str, Any]:
    names = rng.sample(NAMES, rng.randint(0, 4))
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: random_schema(rng, depth + 1) for name in names},
        "required": [name for name in names if rng.random() < 0.6],
    }
    if rng.random() < 0.8:
        schema["additionalProperties"] = False
    elif rng.random() < 0.5:
        schema["additionalProperties"] = {"type": "boolean"}
    return schema


def _array(rng: random.Random, depth: int) -> dict[str, Any]:
    low = rng.randint(0, 2)
    schema: dict[str, Any] = {"type": "array", "items": random_schema(rng, depth + 1)}
    if rng.random() < 0.8:
        schema |= {"minItems": low, "maxItems": low + rng.randint(0, 3)}
    if rng.random() < 0.2:
        schema["prefixItems"] = [random_schema(rng, depth + 1) for _ in range(rng.randint(1, 2))]
    return schema


def _string(rng: random.Random, depth: int) -> dict[str, Any]:
    choice = rng.random()
    if choice < 0.25:
        return {"type": "string", "pattern": rng.choice(PATTERNS)}
    if choice < 0.4:
        return {"type": "string", "format": rng.choice(FORMATS)}
    low = rng.randint(0, 3)
    return {"type": "string", "minLength": low, "maxLength": low + rng.randint(0, 12)}


def _integer(rng: random.Random, depth: int) -> dict[str, Any]:
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


def _number(rng: random.Random, depth: int) -> dict[str, Any]:
    low = rng.randint(-50, 50) / 4
    return {"type": "number", "minimum": low, "exclusiveMaximum": low + rng.randint(1, 40)}


def _any_of(rng: random.Random, depth: int) -> dict[str, Any]:
    return {"anyOf": [random_schema(rng, depth + 1) for _ in range(rng.randint(1, 3))]}


_VALUES = ("", "a", 'say "hi"\n', "naïve 🚀", 0, -17, 2.5, True, False, None)
_MAKERS = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": lambda rng, depth: {"type": "boolean"},
    "null": lambda rng, depth: {"type": ["null", "boolean"]},
    "enum": lambda rng, depth: {"enum": rng.sample(_VALUES, rng.randint(1, 4))},
    "const": lambda rng, depth: {"const": rng.choice(_VALUES)},
    "anyOf": _any_of,
}
