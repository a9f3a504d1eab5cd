"""Tools: what is declared, what binds, what is called, and what the model is told of results."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from cabochon.chat.tools import read_tools
from cabochon.errors import InvalidArgument


def weather(city: str, unit: Literal["c", "f"] = "c") -> dict[str, Any]:
    """Weather of a city. Args: city: its name. unit: degrees."""
    return {"sky": "clear", "temp": 15}


def test_the_example_of_the_interface_is_declared_whole():
    (tool,) = read_tools([weather])

    assert tool.declaration() == {
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


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ({"city": "Paris"}, None),
        ({"city": "Paris", "unit": "f"}, None),
        ({}, '"city" is a required property'),
        ({"city": 3}, 'city: 3 is not of type "string"'),
        ({"city": "Paris", "unit": "k"}, 'unit: "k" is not one of "c" or "f"'),
        ({"city": "Paris", "days": 2}, "'days' was unexpected"),
        (None, 'null is not of type "object"'),
        ([], r'\[\] is not of type "object"'),
    ],
)
def test_arguments_are_checked_against_what_is_declared(arguments, wrong):
    found = read_tools([weather])[0].check(arguments)

    if wrong is None:
        assert found is None
    else:
        with pytest.raises(AssertionError, match=wrong):
            raise AssertionError(found)


def test_two_tools_of_one_name_are_refused():
    with pytest.raises(InvalidArgument, match=r"tools\[1\]: found 'weather', as tools\[0\]"):
        read_tools([weather, {"name": "weather"}])
