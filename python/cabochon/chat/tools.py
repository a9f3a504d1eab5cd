"""What a tool is: a declaration for the model, a check of its calls, a function to be called."""

from __future__ import annotations

import dataclasses
import enum
import importlib.util
import inspect
import json
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..errors import CabochonWarning, InvalidArgument, Unsupported
from ..types import ToolCall
from .calls import NAME_FORM, is_name
from .declarations import binding, declared, unsaid, with_nullable
from .render import MAX_TOOLS
from .schemas import (
    Schema,
    build,
    is_deeper,
    is_model_class,
    nullable,
    plain_json,
    properties_of,
    schema_of,
    type_hints,
)

MAX_RESULT_BYTES = 2**20  # of one result, as UTF-8
MAX_RESULT_DIGITS = 1000  # of a whole number, as in calls
MAX_RESULT_DEPTH = 60  # of dicts and lists; messages take 64, with those they stand in
_KEYS = ("name", "description", "parameters", "response", "strict", "return")
# Keywords that let an object have more properties than it lists.
_OPENING = {
    *("additionalProperties", "patternProperties", "unevaluatedProperties", "propertyNames"),
    *("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "$ref"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tool:
    """One tool that a model may call. Made by `read_tools`."""

    name: str
    description: str
    parameters: Mapping[str, Any]  # JSON Schema of type object, which binds the arguments
    response: Mapping[str, Any] | None = None  # as declared; nothing is checked by it
    function: Callable[..., Any] | None = None  # None: it is answered by the caller
    # What the model is not told of `parameters`, since declarations cannot say it; paths.
    unsaid: tuple[str, ...] = ()
    _declared: Mapping[str, Any] = field(repr=False)
    _schema: Schema = field(repr=False)

    def declaration(self) -> dict[str, Any]:
        """OpenAI's dict, a fresh one, of what the model is told: `render` takes it."""
        return {"type": "function", "function": json.loads(json.dumps(self._declared))}

    def check(self, arguments: Any) -> str | None:
        """None where the arguments are valid, else what is wrong with them, in one line.

        >>> def weather(city: str, days: int = 1): "Weather of a city."
        >>> read_tools([weather])[0].check({"city": "Paris", "days": "two"})
        'days: "two" is not of type "integer"'
        """
        return self._schema.error(dict(arguments) if isinstance(arguments, Mapping) else arguments)

    def call(self, arguments: Mapping[str, Any]) -> Any:
        """What the function returns for these arguments, which become what it annotates: Enum,
        dataclass, pydantic model, tuple, set. What it raises passes.

        Raises:
            InvalidArgument: the arguments are not valid, or the tool has no function.
            Unsupported: it is a coroutine function.
        """
        function = self.require_function()
        if (wrong := self.check(arguments)) is not None:
            raise InvalidArgument(f"{self.name}: {wrong}", argument="arguments")
        hints, parameters = type_hints(function, self.name), inspect.signature(function).parameters
        return function(
            **{
                # A default of None takes null, whatever the type says.
                name: None
                if item is None and parameters[name].default is None
                else build(item, hints[name])
                for name, item in arguments.items()
            }
        )

    def require_function(self) -> Callable[..., Any]:
        """The function that `call` calls.

        Raises:
            InvalidArgument: a dict or a pydantic class was given, which nothing can call.
            Unsupported: a coroutine function.
        """
        if self.function is None:
            raise InvalidArgument(
                f"tool {self.name}: found a declaration without a function, expected a function: "
                "answer its calls with messages of role 'tool'",
                argument="tools",
            )
        unwrapped = inspect.unwrap(self.function)
        if inspect.iscoroutinefunction(unwrapped) or inspect.isasyncgenfunction(unwrapped):
            raise Unsupported(
                f"tool {self.name}: found a coroutine function, expected a plain one: wrap it, "
                "with asyncio.run inside"
            )
        return self.function


# --- reading -------------------------------------------------------------------------------------


def read_tools(tools: Any) -> tuple[Tool, ...]:
    """Functions, OpenAI's dicts, pydantic classes and Tools, in any mixture, as tools.

    A function is declared by its name, the types of its parameters (each needs one) and its
    docstring in Google's, NumPy's or Sphinx's form, or short as below; a parameter with a default
    is not required. A dict is {"type": "function", "function": {...}} or the inner one. Arguments
    that `properties` does not list are refused unless the schema says otherwise.

    >>> def weather(city: str, unit: Literal["c", "f"] = "c") -> dict:
    ...     "Weather of a city. Args: city: its name. unit: degrees."
    >>> read_tools([weather])[0].declaration()["function"]["parameters"]["required"]
    ['city']

    Warns:
        CabochonWarning: a schema binds arguments by more than the model is told (`Tool.unsaid`).

    Raises:
        InvalidArgument: a tool that cannot be declared; the text names its index.
    """
    if isinstance(tools, (str, bytes, Mapping)) or not isinstance(tools, Sequence):
        _wrong("tools", type(tools).__name__, "a list of functions, dicts or pydantic classes")
    if len(tools) > MAX_TOOLS:
        _wrong("tools", f"{len(tools):,}", f"at most {MAX_TOOLS:,}")
    read: dict[str, Tool] = {}
    for index, item in enumerate(tools):
        try:
            tool = _read(item, f"tools[{index}]")
        except RecursionError:
            _wrong(f"tools[{index}]", "a type that is part of itself", "types that end")
        if tool.name in read:
            first = list(read).index(tool.name)
            _wrong(f"tools[{index}]", f"{tool.name!r}, as tools[{first}]", "each name once")
        read[tool.name] = tool
        if tool.unsaid and tool is not item:
            warnings.warn(
                f"tool {tool.name}: the model is not told of {', '.join(tool.unsaid)}, which "
                "declarations cannot say; its calls are checked by them all the same",
                CabochonWarning,
                stacklevel=3,
            )
    return tuple(read.values())


def read_file(path: Path) -> tuple[Tool, ...]:
    """The public functions that a Python file defines, as tools. The file is run.

    Raises:
        InvalidArgument: it is not there, fails, has no function, or one that is no tool.
    """
    name = f"cabochon_tools_{path.stem}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None or not path.is_file():
        what = str(path) if path.is_file() else f"no file {path}"
        _wrong("tools", what, "a Python file, named *.py")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # where dataclasses and type hints of the file are looked up
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # it is the caller's program
        raise InvalidArgument(
            f"tools: {path}: found a file that fails with {type(error).__name__}: {error}, "
            "expected one that defines functions",
            argument="tools",
        ) from error
    functions = [
        thing
        for key, thing in vars(module).items()
        if inspect.isfunction(thing) and thing.__module__ == name and not key.startswith("_")
    ]
    if not functions:
        _wrong("tools", f"{path} without a public function", "at least one")
    return read_tools(functions)


def _wrong(where: str, found: str, expected: str) -> NoReturn:
    raise InvalidArgument(f"{where}: found {found}, expected {expected}", argument="tools")


def _read(item: Any, where: str) -> Tool:
    if isinstance(item, Tool):
        return item
    if isinstance(item, Mapping):
        return _read_dict(item, where)
    if is_model_class(item):
        schema = schema_of(item, f"{where} ({item.__name__})")
        if schema.get("type") != "object":
            _wrong(where, f"{item.__name__} of type {schema.get('type')}", "a class with fields")
        description = schema.pop("description", "")
        return _tool(item.__name__, description, schema, where)
    if callable(item) and not inspect.isclass(item):
        return _read_function(item, where)
    _wrong(where, type(item).__name__, "a function, a dict, or a pydantic class")


def _read_function(function: Callable[..., Any], where: str) -> Tool:
    name = getattr(function, "__name__", None)
    if name is None:
        _wrong(where, f"{type(function).__name__} without a name", "a function made by def")
    where = f"{where} ({name})"
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        _wrong(where, f"a function without a signature ({error})", "one made by def")
    hints = type_hints(function, where)
    types: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            kind = parameter.kind.description
            _wrong(where, f"{parameter} ({kind})", "parameters that are given by name")
        if parameter.name not in hints:
            _wrong(where, f"{parameter.name} without a type", f"one, as in {parameter.name}: str")
        types[parameter.name] = hints[parameter.name]
    defaults = {key: item.default for key, item in signature.parameters.items()}
    optional = [key for key, default in defaults.items() if default is not inspect.Parameter.empty]
    description, schema = properties_of(types, optional, inspect.getdoc(function), where)
    for key in optional:
        if defaults[key] is None:  # so null may be given
            schema["properties"][key] = nullable(schema["properties"][key])
    return _tool(name, description, schema, where, function=function)


def _tool(
    name: str, description: str, schema: dict[str, Any], where: str, *, function: Any = None
) -> Tool:
    """A tool of Python's types: what is declared is made from its schema."""
    _check_name(name, where)
    schema = plain_json(schema, where)
    return Tool(
        name=name,
        description=description,
        parameters=schema,
        function=function,
        unsaid=tuple(unsaid(with_nullable(schema), top=True)),
        _declared={"name": name, "description": description, "parameters": declared(schema)},
        _schema=Schema(schema, where),
    )


def _read_dict(given: Mapping[str, Any], where: str) -> Tool:
    """A tool of a dict, which is declared exactly as it is."""
    inner = given
    if "function" in given or ("type" in given and "name" not in given):
        if given.get("type", "function") != "function" or given.keys() - {"type", "function"}:
            _wrong(where, f"a dict with {_shown(given)}", "{'type': 'function', 'function': {...}}")
        inner = given.get("function", {})
        where = f"{where}.function"
    if not isinstance(inner, Mapping) or inner.get("type", "function") != "function":
        _wrong(where, f"{inner!r}"[:100], "a dict with name, description and parameters")
    if unknown := [key for key in inner if key not in (*_KEYS, "type")]:
        _wrong(where, f"a key {unknown[0]!r}", f"only {', '.join(_KEYS)}")
    function = plain_json({key: inner[key] for key in _KEYS if inner.get(key) is not None}, where)
    name, description = function.get("name"), function.get("description", "")
    if not isinstance(name, str):
        _wrong(where, f"name {name!r}", "a name")
    _check_name(name, where)
    if not isinstance(description, str):
        _wrong(f"{where}.description", type(description).__name__, "text")
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    schema, response = binding(parameters), function.get("response")
    for key, value in (("parameters", schema), ("response", binding(response) or schema)):
        if not isinstance(value, dict) or value.get("type") != "object":
            _wrong(f"{where}.{key}", f"{function[key]!r}"[:100], "a JSON Schema of type 'object'")
    if "properties" in schema and not schema.keys() & _OPENING:
        schema["additionalProperties"] = False
    unprinted = ["return"] if "return" in function else []
    return Tool(
        name=name,
        description=description,
        parameters=schema,
        response=response,
        unsaid=(*unsaid(parameters, top=True), *unprinted),
        _declared=function,
        _schema=Schema(schema, f"{where}.parameters"),
    )


def _shown(given: Mapping[Any, Any]) -> str:
    return ", ".join(f"{key}={given[key]!r}"[:40] for key in list(given)[:4]) or "no keys"


def _check_name(name: str, where: str) -> None:
    if not is_name(name):
        _wrong(where, f"the name {name[:100]!r}", NAME_FORM)


# --- calls and results ---------------------------------------------------------------------------


def check_calls(calls: Iterable[ToolCall], tools: Sequence[Tool]) -> tuple[ToolCall, ...]:
    """The calls, `error` filled in where one names no tool or its arguments are not valid.

    A call that has an error already (it could not be read) keeps it.
    """
    by_name = {tool.name: tool for tool in tools}
    return tuple(
        call if call.error else dataclasses.replace(call, error=_call_error(call, by_name))
        for call in calls
    )


def _call_error(call: ToolCall, tools: Mapping[str, Tool]) -> str | None:
    if call.name in tools:
        return tools[call.name].check(call.arguments)
    known = f"expected one of: {', '.join(tools)}" if tools else "expected none"
    return f"unknown tool {call.name!r}, {known}"


def answer_call(call: ToolCall, tools: Sequence[Tool]) -> str | dict[str, Any]:
    """Calls what the model called; gives the content of the message of role "tool".

    What is wrong with the call, what its function raises, and a result that cannot be said become
    text for the model, without a traceback.

    Raises:
        InvalidArgument, Unsupported: the tool has no function that can be called.
    """
    call = check_calls([call], tools)[0]
    if call.error is not None:
        return f"Error: {call.error}"
    tool = next(tool for tool in tools if tool.name == call.name)
    tool.require_function()
    try:
        return result_content(tool.call(call.arguments))
    except Exception as error:  # the caller's program: the model is told, and may try another way
        return error_text(error)


def error_text(error: Exception) -> str:
    """What the model is told of an exception."""
    kind, text = type(error).__name__, str(error).encode(errors="replace")
    if len(text) > MAX_RESULT_BYTES:
        return f"Error: {kind}: its text has {len(text):,} bytes, more than {MAX_RESULT_BYTES:,}"
    return f"Error: {kind}: {text.decode()}"


def result_content(value: Any) -> str | dict[str, Any]:
    """What a function returned, as the content of a message of role "tool".

    Text is passed on as it is, a mapping, dataclass or pydantic model as a mapping, and all else as
    {"value": it}, which templates print as they print text.

    Raises:
        TypeError, ValueError: it cannot be said in JSON.
        InvalidArgument: it has more than 1 MiB, or too many levels. Nothing is cut.
    """
    value = value.value if isinstance(value, enum.Enum) else value
    if not isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
        value = json.loads(text, parse_int=_integer)
        if is_deeper(value, MAX_RESULT_DEPTH):
            raise InvalidArgument(f"the result has more than {MAX_RESULT_DEPTH} levels")
    else:
        text = value
    size = len(text.encode())
    if size > MAX_RESULT_BYTES:
        raise InvalidArgument(
            f"the result has {size:,} bytes, expected at most {MAX_RESULT_BYTES:,}: ask for less"
        )
    return value if isinstance(value, (str, dict)) else {"value": value}


def _integer(digits: str) -> int:
    if len(digits) > MAX_RESULT_DIGITS:
        raise InvalidArgument(f"the result has a number of {len(digits):,} digits")
    return int(digits)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):  # pydantic's
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if hasattr(value, "isoformat"):  # dates and times
        return value.isoformat()
    raise TypeError(f"the result holds a {type(value).__name__}, which JSON cannot say")
