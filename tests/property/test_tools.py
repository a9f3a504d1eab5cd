"""Random signatures: what is declared is JSON, what binds is what the types say, values come back.

Each type comes with a test of its own of whether a value of JSON belongs to it, written without
JSON Schema, and with a recipe for values that do.
"""

from __future__ import annotations

import enum
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from dataclasses import field as dataclass_field
from typing import Any, Literal, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cabochon.chat.native import gemma4
from cabochon.chat.tools import Tool, read_tools
from cabochon.errors import CabochonWarning


@dataclass(frozen=True)
class Kind:
    """A type, its values in JSON, which values those are, and what a function gets of them."""

    annotation: Any
    values: st.SearchStrategy[Any]
    takes: Callable[[Any], bool]
    built: Callable[[Any], Any]


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    return is_number(value) and value == int(value)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
WHOLE = st.integers(-(2**60), 2**60)
FLOATS = st.floats(-1e15, 1e15)
NULL = Kind(None, st.none(), lambda value: value is None, lambda value: None)
PLAIN = [
    Kind(str, TEXT, lambda value: isinstance(value, str), lambda value: value),
    Kind(int, WHOLE | WHOLE.map(lambda n: float(n >> 20)), is_whole, int),
    Kind(float, FLOATS | WHOLE, is_number, float),
    Kind(bool, st.booleans(), lambda value: isinstance(value, bool), lambda value: value),
    Kind(Any, st.none() | TEXT | WHOLE, lambda value: True, lambda value: value),
]


def choices(values: list[Any]) -> Kind:
    return Kind(
        Literal[tuple(values)],
        st.sampled_from(values),
        lambda value: not isinstance(value, bool) and value in values,
        lambda value: values[values.index(value)],
    )


def members(values: list[str]) -> Kind:
    color = enum.Enum("color", {f"m{index}": value for index, value in enumerate(values)})
    return Kind(color, st.sampled_from(values), lambda value: value in values, color)


def listed(item: Kind) -> Kind:
    return Kind(
        list[item.annotation],
        st.lists(item.values, max_size=3),
        lambda value: isinstance(value, list) and all(map(item.takes, value)),
        lambda value: [item.built(one) for one in value],
    )


def pair(first: Kind, second: Kind) -> Kind:
    return Kind(
        tuple[first.annotation, second.annotation],
        st.tuples(first.values, second.values).map(list),
        lambda value: (
            isinstance(value, list)
            and len(value) == 2
            and first.takes(value[0])
            and second.takes(value[1])
        ),
        lambda value: (first.built(value[0]), second.built(value[1])),
    )


def table(item: Kind) -> Kind:
    return Kind(
        dict[str, item.annotation],
        st.dictionaries(TEXT, item.values, max_size=3),
        lambda value: isinstance(value, dict) and all(map(item.takes, value.values())),
        lambda value: {key: item.built(one) for key, one in value.items()},
    )


def optional(item: Kind) -> Kind:
    return Kind(
        Union[item.annotation, None],  # noqa: UP007  (Any | None is none before Python 3.14)
        st.none() | item.values,
        lambda value: value is None or item.takes(value),
        # What takes null itself builds it.
        lambda value: None if value is None else item.built(value),
    )


def record(items: list[Kind], defaults: int) -> Kind:
    """A dataclass; the last `defaults` fields may be left out."""
    names = [f"field{index}" for index in range(len(items))]
    needed = len(items) - min(defaults, len(items))
    kind = make_dataclass(
        "Record",
        [
            (name, item.annotation)
            if index < needed
            else (name, item.annotation, dataclass_field(default="absent"))
            for index, (name, item) in enumerate(zip(names, items, strict=True))
        ],
    )
    by_name = dict(zip(names, items, strict=True))
    return Kind(
        kind,
        st.fixed_dictionaries(
            {name: by_name[name].values for name in names[:needed]},
            optional={name: by_name[name].values for name in names[needed:]},
        ),
        lambda value: (
            isinstance(value, dict)
            and set(names[:needed]) <= value.keys() <= set(names)
            and all(by_name[name].takes(one) for name, one in value.items())
        ),
        lambda value: kind(**{name: by_name[name].built(one) for name, one in value.items()}),
    )


KINDS = st.recursive(
    st.sampled_from(PLAIN)
    | st.lists(TEXT, min_size=1, max_size=3, unique=True).map(choices)
    | st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True).map(choices)
    | st.lists(TEXT, min_size=1, max_size=3, unique=True).map(members),
    lambda inner: (
        inner.map(listed)
        | inner.map(table)
        | inner.map(optional)
        | st.builds(pair, inner, inner)
        | st.builds(record, st.lists(inner, max_size=3), st.integers(0, 3))
    ),
    max_leaves=5,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.sampled_from([0, 1, 0.0, 1.0, 3.0]) | WHOLE | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)


def tool_of(kind: Kind) -> Tool:
    def f(x: Any) -> Any:
        return x

    f.__annotations__["x"] = kind.annotation
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CabochonWarning)
        return read_tools([f])[0]


def same(found: Any, expected: Any) -> bool:
    """Equal, and of one type: 1 == 1.0 would pass."""
    return bool(found == expected) and type(found) is type(expected)


@settings(max_examples=300)
@given(st.data())
def test_values_of_a_type_are_valid_and_become_what_the_type_says(data: st.DataObject) -> None:
    kind = data.draw(KINDS)
    tool = tool_of(kind)
    value = data.draw(kind.values)

    assert kind.takes(value)
    assert tool.check({"x": value}) is None
    assert same(tool.call({"x": value}), kind.built(value))


@settings(max_examples=600)
@given(KINDS, JSON | KINDS.flatmap(lambda other: other.values))
def test_any_value_is_valid_if_it_belongs_to_the_type_and_only_then(kind: Kind, value: Any) -> None:
    found = tool_of(kind).check({"x": value})

    assert (found is None) == kind.takes(value)
    assert found is None or "\n" not in found


@settings(max_examples=200)
@given(KINDS)
def test_every_declaration_is_json_prints_and_reads_as_a_dict_again(kind: Kind) -> None:
    tool = tool_of(kind)
    declared = tool.declaration()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CabochonWarning)
        again = read_tools([declared])[0]
    assert again.declaration() == declared == json.loads(json.dumps(declared))
    assert "declaration:f{" in gemma4([], tools=[declared])


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_function_of_so_many_parameters_is_declared_with_all_of_them(count: int) -> None:
    names = [f"p{index}" for index in range(count)]
    source: dict[str, Any] = {}
    exec(f"def f({', '.join(f'{name}: int' for name in names)}): ...", source)

    parameters = read_tools([source["f"]])[0].parameters

    assert list(parameters["properties"]) == names
    assert parameters.get("required", []) == names
