"""Tools: what is declared, what binds, what is called, and what the model is told of results."""

# Optional and Union are among what is tested:
# ruff: noqa: UP007, UP045

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import re
import subprocess
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional, TypedDict, Union

import numpy as np
import pydantic
import pytest
from typing_extensions import NotRequired

from cabochon.chat.schemas import MAX_BYTES, build, schema_of
from cabochon.chat.tools import (
    MAX_RESULT_BYTES,
    MAX_TOOLS,
    Tool,
    answer_call,
    check_calls,
    read_file,
    read_tools,
    result_content,
)
from cabochon.errors import CabochonWarning, InvalidArgument, Unsupported
from cabochon.types import ToolCall


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


UserId = NewType("UserId", int)


@dataclass
class Guest:
    """Who comes.

    Attributes:
        name: as in the passport.
    """

    name: str
    age: int | None = None
    tags: list[str] = field(default_factory=list)
    seen: int = field(default=0, init=False)


@dataclass
class Plain:
    x: float


class Place(TypedDict):
    city: str
    zip_code: Annotated[str, "five digits"]


class Optionals(TypedDict, total=False):
    depth: int


class Marked(TypedDict):
    needed: int
    deep: NotRequired[int]


@dataclass
class Node:
    children: list[Node]


def weather(city: str, unit: Literal["c", "f"] = "c") -> dict[str, Any]:
    """Weather of a city. Args: city: its name. unit: degrees."""
    return {"sky": "clear", "temp": 15}


def taking(annotation: Any) -> Callable[..., Any]:
    """A function of one parameter `x` of this type, which returns what it is given."""

    def f(x: Any) -> Any:
        return x

    f.__annotations__["x"] = annotation
    return f


def one(tool: Any) -> Tool:
    (read,) = read_tools([tool])
    return read


def properties(tool: Any) -> Any:
    return one(tool).declaration()["function"]["parameters"]["properties"]


def call(name: str = "weather", error: str | None = None, **arguments: Any) -> ToolCall:
    return ToolCall(id="1", name=name, arguments=arguments, raw="", error=error)


# --- declarations of functions -------------------------------------------------------------------


def test_the_example_of_the_interface_is_declared_whole():
    assert one(weather).declaration() == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "its name."},
                    "unit": {"type": "string", "enum": ["c", "f"], "description": "degrees."},
                },
                "required": ["city"],
            },
        },
    }


NULL = {"nullable": True}
STRINGS = {"type": "array", "items": {"type": "string"}}


@pytest.mark.parametrize(
    ("annotation", "declared"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (None, {"type": "null"}),
        (Any, {}),
        (list, {"type": "array"}),
        (list[Any], {"type": "array"}),
        (list[str], STRINGS),
        (Sequence[str], STRINGS),
        (set[str], STRINGS),
        (tuple[str, ...], STRINGS),
        (list[list[str]], {"type": "array", "items": STRINGS}),
        (dict, {"type": "object", "properties": {}}),
        (dict[str, Any], {"type": "object", "properties": {}}),
        (Mapping[str, object], {"type": "object", "properties": {}}),
        (Optional[int], {"type": "integer", **NULL}),
        (int | None, {"type": "integer", **NULL}),
        (list[int | None], {"type": "array", "items": {"type": "integer", **NULL}}),
        (Literal["a"], {"type": "string", "enum": ["a"]}),
        (Literal["a", None], {"type": "string", "enum": ["a"], **NULL}),
        (Optional[Literal["a", "b"]], {"type": "string", "enum": ["a", "b"], **NULL}),
        (Color, {"type": "string", "enum": ["red", "blue"]}),
        (Annotated[str, "a city"], {"type": "string", "description": "a city"}),
        (UserId, {"type": "integer"}),
        (Plain, {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}),
        (Optional[Plain], {"type": "object", "properties": {"x": {"type": "number"}},
                           "required": ["x"], **NULL}),
        (Optionals, {"type": "object", "properties": {"depth": {"type": "integer"}}}),
        (Marked, {"type": "object", "properties": {
            "needed": {"type": "integer"}, "deep": {"type": "integer"}}, "required": ["needed"]}),
        (Place, {"type": "object", "properties": {
            "city": {"type": "string"}, "zip_code": {"type": "string", "description": "five digits"}
        }, "required": ["city", "zip_code"]}),
        (list[Guest], {"type": "array", "items": {
            "type": "object", "description": "Who comes.", "properties": {
                "name": {"type": "string", "description": "as in the passport."},
                "age": {"type": "integer", **NULL},
                "tags": STRINGS,
            }, "required": ["name"]}}),
    ],
)  # fmt: skip
def test_a_type_is_declared_in_the_words_that_the_format_has(annotation, declared):
    tool = one(taking(annotation))

    assert tool.declaration()["function"]["parameters"]["properties"]["x"] == declared
    assert tool.unsaid == ()


@pytest.mark.parametrize(
    ("annotation", "schema", "unsaid"),
    [
        (Union[int, str], {"type": ["integer", "string"]}, ("x.type",)),
        (int | str | None, {"type": ["integer", "string", "null"]}, ("x.type",)),
        (Literal[1, 2], {"type": "integer", "enum": [1, 2]}, ("x.enum",)),
        (Level, {"type": "integer", "enum": [1, 2]}, ("x.enum",)),
        (Literal["a", 1], {"type": ["string", "integer"], "enum": ["a", 1]}, ("x.enum", "x.type")),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}},
         ("x.additionalProperties",)),
        (tuple[int, str],
         {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}],
          "minItems": 2, "maxItems": 2},
         ("x.prefixItems", "x.minItems", "x.maxItems")),
        (Union[list[int], str], {"anyOf": [{"type": "array", "items": {"type": "integer"}},
                                           {"type": "string"}]}, ("x.anyOf",)),
        (Union[list[int], str, None],
         {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "string"},
                    {"type": "null"}]}, ("x.anyOf",)),
    ],
)  # fmt: skip
def test_what_the_format_cannot_say_binds_all_the_same_and_is_warned_about(
    annotation, schema, unsaid
):
    with pytest.warns(CabochonWarning, match=re.escape(", ".join(unsaid))):
        tool = one(taking(annotation))

    assert tool.parameters["properties"]["x"] == schema
    assert tool.unsaid == unsaid


def test_or_null_binds_as_a_list_of_types():
    tool = one(taking(Optional[Literal["a"]]))

    assert tool.parameters["properties"]["x"] == {"type": ["string", "null"], "enum": ["a", None]}
    assert tool.check({"x": None}) is None
    assert tool.check({"x": "a"}) is None
    assert tool.check({"x": "b"}) is not None


def test_a_default_makes_a_parameter_optional_and_a_default_of_none_allows_null():
    def f(a: int, b: int = 2, *, c: str = None, d: bool) -> None: ...  # noqa: RUF013

    tool = one(f)

    assert tool.parameters["required"] == ["a", "d"]
    assert tool.declaration()["function"]["parameters"]["properties"]["c"] == {
        "type": "string",
        "nullable": True,
    }
    assert tool.check({"a": 1, "d": True, "c": None}) is None
    assert "null" in (tool.check({"a": 1, "d": True, "b": None}) or "")


def test_a_function_without_parameters_is_declared_with_an_empty_object():
    def now() -> str:
        """The time."""
        return "noon"

    tool = one(now)

    assert tool.declaration()["function"]["parameters"] == {"type": "object", "properties": {}}
    assert tool.check({}) is None
    assert tool.check({"x": 1}) is not None


class Store:
    def find(self, key: str) -> str:
        """Finds. Args: key: what."""
        return f"{self} {key}"

    def __str__(self) -> str:
        return "store"


def test_a_bound_method_and_a_wrapped_function_are_tools_like_any_other():
    @functools.wraps(weather)
    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        return weather(*arguments, **keywords)

    method = one(Store().find)

    assert method.name == "find"
    assert method.call({"key": "a"}) == "store a"
    assert one(wrapped).declaration() == one(weather).declaration()
    assert one(wrapped).call({"city": "Rome"}) == weather("Rome")


GOOGLE = """Books a room.

    The hotel is known.

    Args:
        city (str): its name,
            over two lines: so.
        nights: how many. Defaults to 1.

    Returns:
        The number of the room.

    Raises:
        KeyError: no such city.
    """
NUMPY = """Books a room.

    The hotel is known.

    Parameters
    ----------
    city : str
        its name,
        over two lines: so.
    nights : int, optional
        how many. Defaults to 1.

    Returns
    -------
    int
        The number of the room.
    """
SPHINX = """Books a room.

    The hotel is known.

    :param str city: its name,
        over two lines: so.
    :param nights: how many. Defaults to 1.
    :returns: The number of the room.
    """
SHORT = """Books a room.

    The hotel is known. Args: city: its name, over two lines: so. nights: how many. Defaults to 1.
    Returns: The number of the room."""
SHORT_LINES = """Books a room.

    The hotel is known.

    Args: city: its name, over two lines: so.
          nights: how many. Defaults to 1.
    """


@pytest.mark.parametrize("docstring", [GOOGLE, NUMPY, SPHINX, SHORT, SHORT_LINES])
def test_every_form_of_docstring_gives_the_same_declaration(docstring):
    def book(city: str, nights: int = 1) -> int:
        return 7

    book.__doc__ = docstring
    function = one(book).declaration()["function"]

    assert function["description"] == "Books a room.\n\nThe hotel is known."
    assert function["parameters"]["properties"] == {
        "city": {"type": "string", "description": "its name, over two lines: so."},
        "nights": {"type": "integer", "description": "how many. Defaults to 1."},
    }


@pytest.mark.parametrize(
    ("docstring", "description"),
    [
        (None, ""),
        ("", ""),
        ("   ", ""),
        ("Ratio a:b, x: y.", "Ratio a:b, x: y."),
        ("Args:", "Args:"),
        ("Says. Args: nothing of x", "Says. Args: nothing of x"),
    ],
)
def test_a_docstring_without_entries_is_the_description(docstring, description):
    def f(x: str) -> None: ...

    f.__doc__ = docstring

    assert one(f).description == description


def test_the_same_word_inside_an_entry_of_the_short_form_begins_no_other():
    def f(city: str, unit: str) -> None:
        """Args: city: the city: Rome, or unit: none. unit: degrees"""

    assert properties(f) == {
        "city": {"type": "string", "description": "the city: Rome, or unit: none."},
        "unit": {"type": "string", "description": "degrees"},
    }


def test_another_section_ends_the_entries_of_the_short_form():
    def f(city: str, unit: str) -> None:
        """Says. Args: city: its name. Returns: the sky. unit: of the sky."""

    assert properties(f) == {
        "city": {"type": "string", "description": "its name."},
        "unit": {"type": "string"},
    }


def test_one_entry_of_numpy_may_describe_several_parameters():
    def f(x: float, y: float) -> None:
        """Says.

        Parameters
        ----------
        x, y : float
            where.
        """

    point = {"type": "number", "description": "where."}
    assert properties(f) == {"x": point, "y": point}


def test_a_result_may_have_a_type_that_exists_for_checkers_alone():
    def f(x: int) -> Missing:  # noqa: F821
        """Says."""

    assert one(f).check({"x": 1}) is None


# --- what is no tool -----------------------------------------------------------------------------


def starred(*cities: str) -> None: ...
def keyworded(**options: str) -> None: ...
def positional(city: str, /) -> None: ...
def unannotated(city) -> None: ...
def unresolved(city: Missing) -> None: ...  # noqa: F821
def described_wrongly(city: str) -> None:
    """Weather.

    Args:
        town: its name.
    """


def unreadable(city: str) -> None:
    """::::: : :

    :param :
    """


async def waits(city: str) -> str:
    """Waits."""
    return city


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        (starred, r"tools\[1\] \(starred\): found \*cities: .*(variadic)"),
        (keyworded, r"tools\[1\] \(keyworded\): found \*\*options"),
        (positional, r"tools\[1\] \(positional\): found city: .*positional-only"),
        (unannotated, r"tools\[1\] \(unannotated\): found city without a type.* city: str"),
        (unresolved, r"tools\[1\] \(unresolved\): found an annotation that cannot be.*Missing"),
        (described_wrongly, r"\(described_wrongly\): found a docstring .*'town', expected .*city"),
        (unreadable, r"\(unreadable\): found a docstring that cannot be read"),
        (taking(bytes), r"tools\[1\] \(f\)\.x: found the type bytes, expected str, int"),
        (taking(dict[int, str]), r"\.x: found dict\[int, str\], expected .*keys of str"),
        (taking(list[complex]), r"\.x: found the type complex"),
        (taking(Literal[b"a"]), r"\.x: found .*Literal.*expected choices"),
        (taking(Annotated[int, 3]), r"\.x: found .*Annotated"),
        (taking(Node), r"Node, which is part of itself"),
        (lambda city: city, r"the name '<lambda>'|city without a type"),
        (functools.partial(weather, "Paris"), r"tools\[1\]: found partial without a name"),
        (Plain, r"tools\[1\]: found type, expected a function, a dict, or a pydantic class"),
        (3, r"tools\[1\]: found int, expected a function"),
        ("weather", r"tools\[1\]: found str"),
        (print, r"tools\[1\] \(print\)"),
        ({}, r"tools\[1\]: found name None"),
        ({"name": 3}, r"tools\[1\]: found name 3"),
        ({"name": "a b"}, r"tools\[1\]: found the name 'a b', expected 1 to 64 of A-Z"),
        ({"name": "<|turn>"}, r"tools\[1\]: found the name '<\|turn>'"),
        ({"name": "x" * 65}, r"tools\[1\]: found the name 'x+', expected 1 to 64"),
        ({"name": "f\n"}, r"tools\[1\]: found the name"),
        ({"name": "f", "description": 3}, r"tools\[1\]\.description: found int, expected text"),
        ({"name": "f", "parameters": {"type": "string"}}, r"\[1\]\.parameters: found .*'object'"),
        ({"name": "f", "parameters": {"properties": {}}}, r"\[1\]\.parameters: found .*'object'"),
        ({"name": "f", "parameters": [1]}, r"tools\[1\]\.parameters: found \[1\], .*'object'"),
        ({"name": "f", "parameters": {"type": "object", "properties": {"x": {"type": "text"}}}},
         r"tools\[1\]\.parameters: found a schema with properties\.x\.type: .*text"),
        ({"name": "f", "parameters": {"type": "object", "properties": {"x": {"type": print}}}},
         r"tools\[1\]: found what JSON cannot say \(a value of type builtin"),
        ({"name": "f", "parameters": {"type": "object", "x": float("nan")}}, "JSON cannot say"),
        ({"name": "f", "description": "\ud800"}, "what JSON cannot say"),
        ({"name": "f", "response": "text"}, r"tools\[1\]\.response: found 'text'"),
        ({"name": "f", "input_schema": {}}, r"tools\[1\]: found a key 'input_schema'"),
        ({"type": "function"}, r"tools\[1\]\.function: found name None"),
        ({"type": "function", "function": 3}, r"tools\[1\]\.function: found 3"),
        ({"type": "web_search"}, r"tools\[1\]: found a dict with type='web_search'"),
        ({"type": "web_search", "name": "f"}, r"tools\[1\]: found .*web_search"),
        ({"type": "function", "function": {"name": "f"}, "x": 1}, r"tools\[1\]: found a dict with"),
        (weather, r"tools\[1\]: found 'weather', as tools\[0\], expected each name once"),
    ],
)  # fmt: skip
def test_what_cannot_be_declared_is_named_with_its_index(tool, message):
    with pytest.raises(InvalidArgument, match=message) as caught:
        read_tools([weather, tool])

    assert caught.value.argument == "tools"


@pytest.mark.parametrize("tools", [weather, "weather", {"name": "f"}, None, 3, {weather}])
def test_tools_are_a_list(tools):
    with pytest.raises(InvalidArgument, match=r"tools: found .*, expected a list"):
        read_tools(tools)


def test_there_are_at_most_1024_tools():
    tools = [{"name": f"f{index}"} for index in range(MAX_TOOLS + 1)]

    assert len(read_tools(tools[1:])) == MAX_TOOLS
    with pytest.raises(InvalidArgument, match="tools: found 1,025, expected at most 1,024"):
        read_tools(tools)


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (nested(33), "more than 64 levels"),
        (nested(5000), "levels|recursion"),
        ({"type": "object", "description": "x" * MAX_BYTES}, "bytes as JSON, .* at most 65,536"),
        ({"type": "object", "properties": {f"x{i}": {} for i in range(1001)}},
         "1,001 entries of 'properties', expected at most 1,000"),
        ({"type": "object", "properties": {"x": {"enum": list(range(10_001))}}},
         "10,001 entries of 'enum', expected at most 10,000"),
        ({"type": "object", "properties": {"x": {"$ref": "http://localhost:1/x"}}},
         "not part of the schema, and nothing is fetched"),
        ({"type": "object", "properties": {"x": {"$ref": "file:///etc/hostname"}}},
         "not part of the schema, and nothing is fetched"),
        ({"type": "object", "properties": {"x": {"$ref": "#/$defs/none"}}}, "does not exist"),
        ({"type": "object", "$schema": "http://localhost:1/x"}, r"found .*localhost"),
        ({"type": "object", "properties": {"x": {"pattern": "("}}}, r"a schema with properties\.x"),
    ],
)  # fmt: skip
def test_schemas_over_a_limit_or_outside_the_document_are_refused(parameters, message):
    with pytest.raises(InvalidArgument, match=message):
        read_tools([{"name": "f", "parameters": parameters}])


# --- dicts and pydantic classes ------------------------------------------------------------------


DICT = {
    "name": "get_weather",
    "description": "Get weather",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "City name"},
            "days": {"type": "integer", "nullable": True},
        },
        "required": ["city"],
    },
}


@pytest.mark.parametrize(
    "given",
    [DICT, {"type": "function", "function": DICT}, {"type": "function", **DICT},
     types.MappingProxyType(DICT)],
)  # fmt: skip
def test_a_dict_is_declared_as_it_is_in_each_of_its_forms(given):
    tool = one(given)

    assert tool.declaration() == {"type": "function", "function": DICT}
    assert tool.function is None
    assert tool.check({"city": "Paris", "days": None}) is None
    assert tool.check({"city": None}) == 'city: null is not of type "string"'


def test_a_declaration_is_a_fresh_copy_that_nobody_shares():
    given = json.loads(json.dumps(DICT))
    tool = one(given)

    given["parameters"]["properties"].clear()
    tool.declaration()["function"].clear()

    assert tool.declaration() == {"type": "function", "function": DICT}


def test_a_dict_without_parameters_takes_no_arguments():
    for given in (
        {"name": "f"},
        {"name": "f", "parameters": None},
        {"name": "f", "parameters": {}},
    ):
        assert one(given).check({}) is None
        assert one(given).check({"a": 1}) is not None


@pytest.mark.parametrize(
    ("extra", "is_open"),
    [
        ({}, False),
        ({"additionalProperties": True}, True),
        ({"additionalProperties": False}, False),
        ({"patternProperties": {"^b": {}}}, True),
        ({"allOf": [{"properties": {"b": {}}}]}, True),
    ],
)
@pytest.mark.filterwarnings("ignore::cabochon.errors.CabochonWarning")
def test_arguments_that_are_not_declared_are_refused_unless_the_schema_says_otherwise(
    extra, is_open
):
    parameters = {"type": "object", "properties": {"a": {"type": "integer"}}, **extra}

    tool = one({"name": "f", "parameters": parameters})

    assert (tool.check({"a": 1, "b": 2}) is None) == is_open
    assert tool.declaration()["function"]["parameters"] == parameters


def test_types_in_upper_case_mean_the_same():
    parameters = {"type": "OBJECT", "properties": {"x": {"type": "STRING", "enum": ["a"]}}}

    tool = one({"name": "f", "parameters": parameters})

    assert tool.declaration()["function"]["parameters"] == parameters
    assert tool.unsaid == ()
    assert tool.check({"x": "a"}) is None
    assert tool.check({"x": 3}) is not None


def test_an_object_without_listed_properties_takes_all():
    assert one({"name": "f", "parameters": {"type": "object"}}).check({"a": 1}) is None


@pytest.mark.parametrize(
    ("item", "bad", "unsaid"),
    [
        ({"type": "integer", "minimum": 1}, 0, "x.minimum"),
        ({"type": "integer", "enum": [1, 2]}, 3, "x.enum"),
        ({"type": ["string", "null"]}, 3, "x.type"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, None, "x.anyOf"),
        ({"type": "string", "format": "date"}, "2026-13-01", "x.format"),
        ({"type": "string", "pattern": "^a+$"}, "b", "x.pattern"),
        ({"type": "string", "default": "a"}, 3, "x.default"),
        ({"const": 3}, 4, "x.const"),
        ({"enum": ["a"]}, "b", "x.enum"),
        ({"type": "array", "minItems": 1}, [], "x.minItems"),
        ({"type": "array", "items": {"properties": {"y": {"type": "integer", "maximum": 2}}}},
         [{"y": 3}], "x.items.y.maximum"),
        ({"type": "object", "properties": {"y": {"type": "integer", "maximum": 2}}},
         {"y": 3}, "x.y.maximum"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"a": "b"},
         "x.additionalProperties"),
    ],
)  # fmt: skip
def test_keywords_that_a_declaration_drops_bind_and_are_warned_about(item, bad, unsaid):
    given = {"name": "f", "parameters": {"type": "object", "properties": {"x": item}}}
    with pytest.warns(CabochonWarning, match=rf"tool f: the model is not told of {unsaid}, which"):
        tool = one(given)

    assert tool.unsaid == (unsaid,)
    assert tool.check({"x": bad}) is not None


def test_what_stands_in_items_is_printed_so_nothing_of_it_is_unsaid():
    item = {"type": "array", "items": {"type": "integer", "enum": [1, 2], "minimum": 1}}

    tool = one({"name": "f", "parameters": {"type": "object", "properties": {"x": item}}})

    assert tool.unsaid == ()
    assert tool.check({"x": [3]}) is not None


def test_a_local_reference_binds():
    parameters = {
        "type": "object",
        "properties": {"x": {"$ref": "#/$defs/small"}},
        "$defs": {"small": {"type": "integer", "maximum": 9}},
    }
    with pytest.warns(CabochonWarning, match=r"x\.\$ref"):
        tool = one({"name": "f", "parameters": parameters})

    assert tool.check({"x": 9}) is None
    assert tool.check({"x": 10}) == "x: 10 is greater than the maximum of 9"


def test_a_pydantic_class_is_declared_by_its_fields():
    class Inner(pydantic.BaseModel):
        deep: bool = pydantic.Field(description="d")

    class GetWeather(pydantic.BaseModel):
        """Get weather"""

        city: str = pydantic.Field(description="City name")
        unit: Literal["c", "f"] = "c"
        days: int | None = None
        opt: Inner | None = None
        inners: list[Inner] = pydantic.Field(default_factory=list)

    GetWeather.model_rebuild(_types_namespace={**globals(), "Inner": Inner})
    inner = {
        "type": "object",
        "properties": {"deep": {"type": "boolean", "description": "d"}},
        "required": ["deep"],
    }
    tool = one(GetWeather)

    assert tool.declaration()["function"] == {
        "name": "GetWeather",
        "description": "Get weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "City name"},
                "unit": {"type": "string", "enum": ["c", "f"]},
                "days": {"type": "integer", "nullable": True},
                "opt": {**inner, "nullable": True},
                "inners": {"type": "array", "items": inner},
            },
            "required": ["city"],
        },
    }
    assert tool.unsaid == ()
    assert tool.check({"city": "Paris", "opt": {"deep": True}, "days": None}) is None
    assert tool.check({"city": "Paris", "opt": {"deep": 1}}) is not None
    with pytest.raises(InvalidArgument, match="GetWeather: found a declaration without a function"):
        tool.call({"city": "Paris"})


def test_a_pydantic_class_that_is_part_of_itself_is_refused():
    tree = pydantic.create_model("Tree", children=("list[Tree]", ...))
    tree.model_rebuild(_types_namespace={"Tree": tree})

    with pytest.raises(InvalidArgument, match="found Tree, which is part of itself"):
        read_tools([tree])


def test_pydantic_is_imported_by_those_alone_who_use_it():
    code = (
        "import sys\n"
        "from cabochon.chat.tools import read_tools\n"
        "def f(x: int) -> int: return x\n"
        "read_tools([f])[0].call({'x': 1})\n"
        "sys.exit('pydantic' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- checking ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ({"city": "Paris"}, None),
        ({"city": "Paris", "unit": "f"}, None),
        ({}, '"city" is a required property'),
        ({"city": 3}, 'city: 3 is not of type "string"'),
        ({"city": "Paris", "unit": "k"}, 'unit: "k" is not one of "c" or "f"'),
        ({"city": "Paris", "days": 2},
         "Additional properties are not allowed ('days' was unexpected)"),
        ({"city": 1, "unit": "k"},
         'city: 1 is not of type "string"; unit: "k" is not one of "c" or "f"'),
        (None, 'null is not of type "object"'),
        ([], '[] is not of type "object"'),
    ],
)  # fmt: skip
def test_arguments_are_checked_against_what_binds(arguments, wrong):
    assert one(weather).check(arguments) == wrong


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), "\ud800", 2**200, -(2**70), {1: 2}, b"a", object(), [[]], True],
)
def test_values_of_no_json_are_wrong_and_never_an_exception(value):
    found = one(taking(str)).check({"x": value})

    assert value == "\ud800" or found is not None
    assert found is None or "\n" not in found


def test_arguments_nested_without_end_are_wrong_and_never_an_exception():
    value: Any = []
    for _ in range(100_000):
        value = [value]

    started = time.perf_counter()
    found = one(taking(list[list[int]])).check({"x": value})

    assert found is not None and "\n" not in found
    assert time.perf_counter() - started < 5


def test_what_is_wrong_is_one_line_however_long_the_value():
    found = one(taking(int)).check({"x": "a\nb" * 100_000})

    assert found is not None
    assert "\n" not in found
    assert len(found) < 300


def test_many_errors_are_counted():
    tool = one({"name": "f", "parameters": {"type": "object", "required": list("abcdef")}})

    assert (tool.check({}) or "").endswith("; and 3 more")


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|aa)+$", "^(a+)+(?!b)$", r"^((a*)*)*\1$"])
@pytest.mark.filterwarnings("ignore::cabochon.errors.CabochonWarning")
def test_no_pattern_takes_forever(pattern):
    schema = {"type": "object", "properties": {"x": {"type": "string", "pattern": pattern}}}
    tool = one({"name": "f", "parameters": schema})

    started = time.perf_counter()
    found = tool.check({"x": "a" * 5000 + "!"})

    assert found is not None
    assert time.perf_counter() - started < 5  # Python's own engine takes years


def test_calls_get_the_error_that_their_tool_finds():
    tools = read_tools([weather])
    calls = [call(city="Paris"), call(city=3), call("rain", city="Paris"),
             call(error="cannot be read", city=3)]  # fmt: skip

    errors = [checked.error for checked in check_calls(calls, tools)]

    assert errors == [
        None,
        'city: 3 is not of type "string"',
        "unknown tool 'rain', expected one of: weather",
        "cannot be read",
    ]
    assert check_calls(calls[:1], ())[0].error == "unknown tool 'weather', expected none"
    assert check_calls((), tools) == ()


# --- calling -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "given", "built"),
    [
        (Color, "red", Color.RED),
        (Level, 2, Level.HIGH),
        (list[Color], ["red", "blue"], [Color.RED, Color.BLUE]),
        (Optional[Color], "red", Color.RED),
        (Optional[Color], None, None),
        (Union[Color, Plain], {"x": 1}, Plain(1.0)),
        (Plain, {"x": 1}, Plain(1.0)),
        (Guest, {"name": "a"}, Guest("a")),
        (list[Guest], [{"name": "a", "tags": ["b"]}], [Guest("a", None, ["b"])]),
        (dict[str, Plain], {"a": {"x": 2}}, {"a": Plain(2.0)}),
        (Place, {"city": "a", "zip_code": "b"}, {"city": "a", "zip_code": "b"}),
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple[int, ...], [1, 2], (1, 2)),
        (set[int], [1, 1], {1}),
        (frozenset[str], ["a"], frozenset("a")),
        (Sequence[int], [1.0], [1]),
        (int, 3.0, 3),
        (float, 3, 3.0),
        (bool, True, True),
        (UserId, 3, 3),
        (Annotated[Color, "which"], "blue", Color.BLUE),
        (Any, {"a": [1]}, {"a": [1]}),
        (Literal["a"], "a", "a"),
        (Literal[1, True], 1.0, 1),
        (Literal[1, True], True, True),
        (Literal[0, False, None], False, False),
        (Literal[0, False, None], None, None),
        (Level, 2.0, Level.HIGH),
    ],
)
@pytest.mark.filterwarnings("ignore::cabochon.errors.CabochonWarning")
def test_arguments_become_what_the_function_annotates(annotation, given, built):
    value = one(taking(annotation)).call({"x": given})

    assert value == built
    assert type(value) is type(built)


def test_arguments_become_pydantic_models_and_obey_their_fields():
    class Stay(pydantic.BaseModel):
        nights: int = pydantic.Field(ge=1)
        rooms: list[Color] = pydantic.Field(default_factory=list)

    Stay.model_rebuild(_types_namespace=globals())
    with pytest.warns(CabochonWarning, match=r"x\.nights\.minimum"):
        tool = one(taking(Optional[Stay]))
    with pytest.warns(CabochonWarning, match=r"x\.maximum"):
        bounded = one(taking(Annotated[int, pydantic.Field(le=3, description="few")]))

    assert tool.call({"x": {"nights": 2, "rooms": ["red"]}}) == Stay(nights=2, rooms=[Color.RED])
    assert tool.check({"x": {"nights": 0}}) == "x.nights: 0 is less than the minimum of 1"
    assert bounded.check({"x": 4}) == "x: 4 is greater than the maximum of 3"
    assert bounded.call({"x": 3}) == 3


def test_nothing_is_called_with_arguments_that_are_not_valid():
    called = []

    def f(x: int) -> None:
        called.append(x)

    with pytest.raises(InvalidArgument, match='f: x: "3" is not of type "integer"'):
        one(f).call({"x": "3"})
    assert called == []


def test_a_coroutine_function_is_declared_but_not_called():
    tool = one(waits)

    assert tool.check({"city": "Paris"}) is None
    with pytest.raises(Unsupported, match="tool waits: found a coroutine function"):
        tool.call({"city": "Paris"})
    with pytest.raises(Unsupported, match="tool waits: found a coroutine function"):
        answer_call(call("waits", city="Paris"), [tool])


# --- results -------------------------------------------------------------------------------------


@dataclass
class Report:
    sky: Color
    at: Any = None


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("15C", "15C"),
        ("", ""),
        ('{"a": 1}', '{"a": 1}'),
        ({"sky": "clear", "temp": 15}, {"sky": "clear", "temp": 15}),
        ({}, {}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        ({1: (2, 3)}, {"1": [2, 3]}),
        (Report(Color.RED, [Report(Color.BLUE)]),
         {"sky": "red", "at": [{"sky": "blue", "at": None}]}),
        (15, {"value": 15}),
        (2.5, {"value": 2.5}),
        (None, {"value": None}),
        (True, {"value": True}),
        ([1, "a"], {"value": [1, "a"]}),
        ((1, 2), {"value": [1, 2]}),
        ({2, 1}, {"value": [1, 2]}),
        (Color.RED, "red"),
        (np.float32(0.5), {"value": 0.5}),
        (np.arange(3), {"value": [0, 1, 2]}),
    ],
)  # fmt: skip
def test_a_result_becomes_the_content_of_a_message(value, content):
    found = result_content(value)

    assert found == content
    assert type(found) is type(content)


def test_a_pydantic_result_becomes_a_mapping():
    kind = pydantic.create_model("Sky", color=(Color, ...))

    assert result_content(kind(color=Color.RED)) == {"color": "red"}


def returns(value: Any) -> Tool:
    def f() -> Any:
        return value

    return one(f)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"a", "Error: TypeError: the result holds a bytes, which JSON cannot say"),
        (object(), "Error: TypeError: the result holds a object, which JSON cannot say"),
        (float("nan"), "Error: ValueError: "),
        ("\ud800", "Error: UnicodeEncodeError: "),
        ("x" * (MAX_RESULT_BYTES + 1),
         "Error: InvalidArgument: the result has 1,048,577 bytes, expected at most 1,048,576: ask"),
        (["x" * MAX_RESULT_BYTES], "Error: InvalidArgument: the result has 1,048,580 bytes"),
        ([10**1000], "Error: InvalidArgument: the result has a number of 1,001 digits"),
        ([10**5000], "Error: ValueError: "),
        (nested(40), "Error: InvalidArgument: the result has more than 60 levels"),
        (nested(5000), "Error: "),
    ],
)  # fmt: skip
def test_a_result_that_cannot_be_said_is_an_error_for_the_model(value, text):
    content = answer_call(call("f"), [returns(value)])

    assert isinstance(content, str)
    assert content.startswith(text)
    assert len(content) < 500


def test_a_result_of_just_the_limit_is_passed_on_whole():
    assert answer_call(call("f"), [returns("x" * MAX_RESULT_BYTES)]) == "x" * MAX_RESULT_BYTES


def test_the_model_is_told_what_a_tool_raises_and_no_traceback():
    def f() -> None:
        raise KeyError("no such city")

    assert answer_call(call("f"), [one(f)]) == "Error: KeyError: 'no such city'"


def test_an_exception_with_too_long_a_text_is_named_without_it():
    def f() -> None:
        raise ValueError("x" * (MAX_RESULT_BYTES + 1))

    assert answer_call(call("f"), [one(f)]) == (
        "Error: ValueError: its text has 1,048,577 bytes, more than 1,048,576"
    )


def test_ctrl_c_inside_a_tool_is_no_result():
    def f() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer_call(call("f"), [one(f)])


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (call(city=3), 'Error: city: 3 is not of type "string"'),
        (call("rain"), "Error: unknown tool 'rain', expected one of: weather"),
        (call(error="cannot be read"), "Error: cannot be read"),
    ],
)
def test_a_wrong_call_is_answered_with_what_is_wrong(made, text):
    assert answer_call(made, read_tools([weather])) == text


def test_a_call_is_answered_with_what_the_function_returns():
    assert answer_call(call(city="Paris"), read_tools([weather])) == {"sky": "clear", "temp": 15}


def test_a_tool_that_was_read_is_taken_as_it_is_without_a_second_warning():
    with pytest.warns(CabochonWarning, match=r"x\.enum"):
        warned = read_tools([taking(Level)])
    assert read_tools(warned) == warned
    tools = read_tools([weather, DICT])

    assert read_tools([*tools]) == tools
    assert dataclasses.is_dataclass(tools[0])


# --- files ---------------------------------------------------------------------------------------


def test_the_public_functions_of_a_file_are_its_tools(tmp_path: Path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from os.path import join\n"
        "@dataclass\n"
        "class At:\n"
        "    x: int\n"
        "def move(to: At) -> int:\n"
        '    "Moves. Args: to: where."\n'
        "    return _twice(to.x)\n"
        "def stop() -> str:\n"
        "    return 'stopped'\n"
        "def _twice(x):\n"
        "    return 2 * x\n"
    )

    tools = read_file(path)

    assert [tool.name for tool in tools] == ["move", "stop"]
    assert tools[0].call({"to": {"x": 3}}) == 6


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.py", None, "expected a Python file"),
        ("tools.txt", "def f() -> None: ...", "expected a Python file, named"),
        ("empty.py", "x = 1\n", "empty.py without a public function, expected at least one"),
        ("fails.py", "1 / 0\n", "fails.py: found a file that fails with ZeroDivisionError"),
        ("syntax.py", "def (\n", "syntax.py: found a file that fails with SyntaxError"),
        ("bare.py", "def f(x): ...\n", r"tools\[0\] \(f\): found x without a type"),
    ],
)
def test_a_file_without_tools_says_why(tmp_path: Path, name: str, text: str | None, message: str):
    if text is not None:
        (tmp_path / name).write_text(text)

    with pytest.raises(InvalidArgument, match=message):
        read_file(tmp_path / name)


# --- types and values ----------------------------------------------------------------------------


def test_a_schema_and_its_value_are_for_others_too():
    assert schema_of(Guest, "schema")["required"] == ["name"]
    assert build({"name": "Ada", "age": 36}, Guest) == Guest("Ada", 36)
    with pytest.raises(InvalidArgument, match="schema: found the type bytes") as caught:
        schema_of(bytes, "schema")
    assert caught.value.argument == "schema"
