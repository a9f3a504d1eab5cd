"""Declared tools as a grammar of the calls that are valid: `call:NAME{key:value,...}`.

Written for llguidance (constraints.py compiles it), in its variant of Lark. What it lets through is
what calls.py reads and templates print: bare keys, sorted; strings between two marks, which are
tokens; no white space. What of a schema it cannot keep it refuses. docs/chat.md, "Calls bound to
their schema", says what that is, and what is left to the check of whole calls.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote

from ..errors import CabochonWarning, ConstraintError, Unsupported
from .calls import MARK, is_key
from .constraints import FORMATS, Compiler, Matcher, is_installed
from .patterns import Unsayable, whole
from .schemas import Schema
from .tools import Tool

if TYPE_CHECKING:
    from ..options import GenerateOptions

MAX_LEVELS = 8  # of lists and objects inside a value that may be anything
MAX_RULES = 100_000  # of all tools; references inside one another can ask for 2 to the 60th
MAX_MEMBERS = 100  # of oneOf, which are compared each with each
MAX_INTEGER = 10**18 - 1
MAX_NUMBER = 10**15 - 1  # of a limit

_Json = dict[str, Any]
_DEFINITIONS: tuple[str, ...] = ("$defs", "definitions")
_OF_KIND = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_OF_ANY = ("type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref")
_KEPT = {*_OF_ANY, *itertools.chain(*_OF_KIND.values())}
# What else JSON Schema defines; any other keyword says nothing of which values are valid.
_REFUSED = {
    *("not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies"),
    *("uniqueItems", "contains", "minContains", "maxContains", "additionalItems"),
    *("patternProperties", "propertyNames", "minProperties", "maxProperties"),
    *("unevaluatedItems", "unevaluatedProperties", "$id", "$dynamicRef", "$recursiveRef"),
}
_LEAST = ("maximum", "exclusiveMaximum", "maxItems", "maxLength")
_MOST = ("minimum", "exclusiveMinimum", "minItems", "minLength")

# Lengths and exponents are such that a number ends and is a finite float. Decimals of 15 digits are
# in the order of the floats that they are read as.
_TERMINALS = r"""
TEXT: /(?s:.)+/
INTEGER: /0|-?[1-9][0-9]{0,17}/
NUMBER: DECIMAL | POWER
SHORT: DECIMAL & /-?[0-9.]{1,16}/ & ~/-?[0-9]{16}/
DECIMAL: /-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?/
POWER: /-?[1-9](\.[0-9]{1,17})?e[+-]([0-9]{1,2}|[12][0-9]{2}|30[0-7])/
KEY: /([^@\s]|[^@\s][^@]{0,62}[^@\s])/
""".replace("@", r""":={}\[\],"'\x00-\x1f""")

# Formats that JSON Schema names and that the check of a call keeps; others say nothing. What stands
# here may be narrower than the format, and is never wider.
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LABEL = "[A-Za-z0-9]{1,20}(-[A-Za-z0-9]{1,20})?"
_HOST = rf"{_LABEL}(\.{_LABEL}){{0,5}}"
_IN_URI = "([A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2})*"
_DAYS = "([0-9]{1,4}Y([0-9]{1,4}M([0-9]{1,4}D)?)?|[0-9]{1,4}M([0-9]{1,4}D)?|[0-9]{1,4}D)"
_HOURS = "T([0-9]{1,4}H([0-9]{1,4}M([0-9]{1,4}S)?)?|[0-9]{1,4}M([0-9]{1,4}S)?|[0-9]{1,4}S)"
_FORMATS = {
    **FORMATS,
    "duration": f"^P({_DAYS}({_HOURS})?|{_HOURS}|[0-9]{{1,4}}W)$",
    "email": rf"^[A-Za-z0-9_+-]{{1,30}}(\.[A-Za-z0-9_+-]{{1,30}})?@{_LABEL}(\.{_LABEL}){{1,5}}$",
    "hostname": f"^{_HOST}$",
    "ipv4": rf"^{_BYTE}(\.{_BYTE}){{3}}$",
    "ipv6": "^[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}$",
    "uri": rf"^[a-z][a-z0-9+.-]{{0,15}}://{_HOST}(:[0-9]{{1,4}})?(/{_IN_URI})?(\?{_IN_URI})?$",
    "uuid": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
}
_OTHER_FORMATS = {
    *("idn-email", "idn-hostname", "iri", "iri-reference", "uri-reference", "uri-template"),
    *("json-pointer", "relative-json-pointer", "regex"),
}


def call_grammar(tools: Sequence[Tool], mark_id: int) -> tuple[str, dict[str, str]]:
    """What stands between the markers of one call, of any of the tools.

    Args:
        tools: at least one.
        mark_id: the token that begins and ends a string.

    Returns:
        The grammar, and terminals of it that perhaps nothing fits, with their places.

    Raises:
        ConstraintError: a schema says what a call cannot be bound by; the text names the place.
    """
    writer = _Writer(mark_id)
    calls = [writer.call(tool) for tool in tools]
    return writer.grammar(f'"call:" ({" | ".join(calls)})'), writer.doubtful


def compile_calls(compiler: Compiler, tools: Sequence[Tool], mark_id: int) -> Matcher:
    """A matcher of one call of one of the tools.

    Raises:
        ConstraintError: as `call_grammar`, or what it gives does not compile in time.
    """
    grammar, doubtful = call_grammar(tools, mark_id)
    for body, place in doubtful.items():
        try:
            compiler.compile_lark(f"start: T\nT: {body}\n{_TERMINALS}", place)
        except ConstraintError as error:
            raise ConstraintError(str(error), argument="tools") from None
    return compiler.compile_lark(grammar, "tools")


def bind_calls(
    options: GenerateOptions, control_ids: Mapping[str, int], need_compiler: Callable[[], Compiler]
) -> Matcher | None:
    """What binds one call of an answer; None: calls are checked when they are written.

    Warns:
        CabochonWarning: they are, because a schema cannot be kept.

    Raises:
        ConstraintError: as `compile_calls`, where the caller asked for bound calls.
        MissingExtra: llguidance is not installed, where the caller asked.
        Unsupported: the vocabulary has no calls, where the caller asked.
    """
    asked = "tool_choice" if options.must_call else "strict_tools" if options.strict_tools else ""
    is_wanted = asked or (options.strict_tools is None and is_installed())
    if not is_wanted or not options.callable_tools:
        return None
    needed = ("<|tool_call>", "<tool_call|>", MARK, "<eos>")  # the last one by llguidance
    missing = [name for name in needed if name not in control_ids]
    if missing and asked:
        raise Unsupported(
            f"generate: {asked}, but this vocabulary has no {missing[0]}, expected one of a model "
            "that calls tools"
        )
    if missing:
        return None
    try:
        return compile_calls(need_compiler(), options.callable_tools, control_ids[MARK])
    except ConstraintError as error:
        if asked:
            raise
        warnings.warn(f"calls are checked, and not bound: {error}", CabochonWarning, stacklevel=5)
        return None


class _Impossible(Exception):
    """No value is valid; the text says where."""


class _Writer:
    """Rules so far. A method gives the right side of a rule, or a rule's name."""

    def __init__(self, mark_id: int) -> None:
        self._mark = f"<[{mark_id}]>"
        self._lines: list[str] = []
        self._anything = ""
        self._tool, self._root = "", dict[str, Any]()
        self._references: dict[str, str] = {}  # to rules, of this tool
        self._terminals: dict[str, str] = {}
        self.doubtful: dict[str, str] = {}

    def grammar(self, start: str) -> str:
        return "\n".join([f"start: {start}", *self._lines, _TERMINALS])

    def call(self, tool: Tool) -> str:
        self._tool, self._references = tool.name, {}
        self._root = {key: value for key, value in tool.parameters.items() if key != "$id"}
        try:
            return self._rule(f"{_quoted(tool.name)} {self._value(self._root, 'parameters')}")
        except _Impossible as found:
            self._refuse(str(found), "values that none is valid among", "at least one that is")
        except RecursionError:
            self._refuse("parameters", "references without end", "a schema that ends")

    def _refuse(self, place: str, found: str, expected: str) -> NoReturn:
        raise ConstraintError(
            f"tool {self._tool}: {place}: found {found}, expected {expected}: calls cannot be "
            "bound to this schema; with tool_choice='auto' and strict_tools=False they are checked",
            argument="tools",
        )

    def _rule(self, body: str, kind: str = "r") -> str:
        if len(self._lines) == MAX_RULES:
            self._refuse("parameters", f"{MAX_RULES:,} rules and more", "smaller schemas")
        name = f"{kind}{len(self._lines)}"
        self._lines.append(f"{name}: {body}")
        return name

    def _terminal(self, body: str) -> str:
        if body not in self._terminals:
            self._terminals[body] = self._rule(body, "T")
        return self._terminals[body]

    # --- values ----------------------------------------------------------------------------------

    def _value(self, schema: Any, place: str, inside: tuple[str, ...] = ()) -> str:
        """inside: references that were followed since the last bracket."""
        if schema is False:
            raise _Impossible(place)
        said = {} if schema is True else _binding(schema)
        if not said:
            return self._any()
        if refused := said.keys() & _REFUSED:
            self._refuse(place, repr(min(refused)), f"of such keywords {', '.join(sorted(_KEPT))}")
        if "$ref" in said:
            reference = said.pop("$ref")
            if reference in inside:
                self._refuse(place, f"{reference}, which is itself", "a schema")
            inside = (*inside, reference)
            if not said:
                return self._referred(reference, place, inside)
            return self._value(self._both(self._at(reference, place), said, place), place, inside)
        if "allOf" in said:
            for item in said.pop("allOf"):
                said = self._both(said, item, place)
            return self._value(said, place, inside)
        for key in ("anyOf", "oneOf"):
            if key in said:
                members = said.pop(key)
                members = [self._both(said, member, place) for member in members]
                if key == "oneOf":
                    self._check_apart(members, place)
                return self._one_of(members, place, inside)
        if said.keys() & {"enum", "const"}:
            return self._choice(said, place)
        kinds = _kinds(said)
        if not kinds:
            raise _Impossible(place)
        return self._rule(" | ".join(self._of_kind(kind, said, place) for kind in kinds))

    def _one_of(self, schemas: list[Any], place: str, inside: tuple[str, ...]) -> str:
        """Those that no value fits are left out."""
        rules = []
        for schema in schemas:
            try:
                rules.append(self._value(schema, place, inside))
            except _Impossible:
                continue
        if not rules:
            raise _Impossible(place)
        return self._rule(" | ".join(rules))

    def _of_kind(self, kind: str, said: _Json, place: str) -> str:
        if kind == "object":
            return self._object(said, place)
        if kind == "array":
            return self._array(said, place)
        if kind == "string":
            return self._string(said, place)
        if kind in ("integer", "number"):
            return self._number(kind, said, place)
        return '"true" | "false"' if kind == "boolean" else '"null"'

    def _any(self) -> str:
        if not self._anything:
            plain = f'{self._mark} TEXT? {self._mark} | NUMBER | "true" | "false" | "null"'
            inner = self._rule(plain)
            for _ in range(MAX_LEVELS):
                pair = self._rule(f'KEY ":" {inner}')
                listed = _bracketed("[", f'({inner} ("," {inner})*)?', "]")
                mapped = _bracketed("{", f'({pair} ("," {pair})*)?', "}")
                inner = self._rule(f"{plain} | {listed} | {mapped}")
            self._anything = inner
        return self._anything

    def _choice(self, said: _Json, place: str) -> str:
        """Of enum and const what the other keywords take."""
        listed = said["enum"] if "enum" in said else [said["const"]]
        definitions = {key: self._root[key] for key in _DEFINITIONS if key in self._root}
        schema = Schema({**definitions, **said}, place)
        values = [value for value in listed if schema.error(value) is None]
        if not values:
            raise _Impossible(place)
        texts = [_quoted(value) for value in values if isinstance(value, str) and value]
        others = [
            self._literal(value, place)
            for value in values
            if not (isinstance(value, str) and value)
        ]
        if texts:
            others.append(f"{self._mark} {self._terminal(' | '.join(texts))} {self._mark}")
        return self._rule(" | ".join(others))

    def _literal(self, value: Any, place: str) -> str:
        if isinstance(value, str):
            return f"{self._mark} {_quoted(value)} {self._mark}"
        if isinstance(value, list):
            items = [self._literal(item, place) for item in value]
            return _bracketed("[", ' "," '.join(items), "]")
        if isinstance(value, dict):
            pairs = [
                f"{self._key(key, place)} {self._literal(value[key], place)}"
                for key in sorted(value, key=str.lower)
            ]
            return _bracketed("{", ' "," '.join(pairs), "}")
        return _quoted(json.dumps(value))

    # --- text and numbers ------------------------------------------------------------------------

    def _string(self, said: _Json, place: str) -> str:
        expressions = []
        low, high = said.get("minLength", 0), said.get("maxLength")
        if high is not None and low > high:
            raise _Impossible(place)
        if low or high is not None:
            expressions.append(f"(?s:.){{{int(low)},{'' if high is None else int(high)}}}")
        form = said.get("format")
        if form in _OTHER_FORMATS:
            self._refuse(f"{place}.format", repr(form), f"one of {', '.join(_FORMATS)}")
        try:
            expressions += [whole(_FORMATS[form])] if form in _FORMATS else []
            expressions += [whole(said["pattern"])] if "pattern" in said else []
        except Unsayable as found:
            self._refuse(
                f"{place}.pattern", f"{said['pattern']!r} with {found}", "a pattern without it"
            )
        if not expressions:
            return f"{self._mark} TEXT? {self._mark}"
        body = " & ".join(f"/{text}/" for text in ["(?s:.)+", *expressions])
        # A rule may be empty, and a terminal may not.
        strings = {key: said[key] for key in _OF_KIND["string"] if key in said}
        may_be_empty = Schema({"type": "string", **strings}, place).error("") is None
        if high == 0:
            return f"{self._mark} {self._mark}"
        if not may_be_empty and len(expressions) > 1:
            self.doubtful[body] = f"tool {self._tool}: {place}"
        return f"{self._mark} {self._terminal(body)}{'?' * may_be_empty} {self._mark}"

    def _number(self, kind: str, said: _Json, place: str) -> str:
        limits = {key: said[key] for key in _OF_KIND["number"] if key in said}
        if not limits:
            return kind.upper()
        most = MAX_INTEGER if kind == "integer" else MAX_NUMBER
        for key, value in list(limits.items()):
            if isinstance(value, bool) or value > most or value < -most:
                if value < 0 if key in _MOST else value > 0:
                    del limits[key]  # all that is written keeps it
                    continue
                self._refuse(f"{place}.{key}", repr(value), f"a number from {-most} to {most}")
        if "multipleOf" in limits:
            schema = {"type": kind, "minimum": -most, "maximum": most, **limits}
            return self._rule(f"%json {json.dumps(schema)}")
        terms = ["INTEGER" if kind == "integer" else "SHORT"]
        body = " & ".join(terms + [_limited(key, value) for key, value in limits.items()])
        if len(limits) > 1:
            self.doubtful[body] = f"tool {self._tool}: {place}"
        return self._terminal(body)

    # --- objects and lists -----------------------------------------------------------------------

    def _object(self, said: _Json, place: str) -> str:
        properties, required = said.get("properties", {}), said.get("required", [])
        more = said.get("additionalProperties", not properties)
        unlisted = dict.fromkeys(required, said.get("additionalProperties", True))
        known = {**unlisted, **properties}
        pairs = []
        for name in sorted(known, key=str.lower):
            key = self._key(name, place)
            try:
                pair = self._rule(f"{key} {self._value(known[name], f'{place}.{name}')}")
            except _Impossible:
                if name in required:
                    raise
                continue
            pairs.append((pair, name in required))
        repeated = ""
        with contextlib.suppress(_Impossible):
            value = self._value(more, f"{place}.*")
            others = " & ".join(["KEY", *(f"~{_quoted(name)}" for name in known)])
            repeated = self._rule(f'{self._terminal(others)} ":" {value}')
        return _bracketed("{", self._sequence(pairs, repeated), "}")

    def _key(self, name: str, place: str) -> str:
        if not is_key(name):
            self._refuse(
                f"{place}.{name}",
                f"the name {name!r}",
                "one without : = , quotes, brackets, braces, line breaks, white space at its ends",
            )
        return _quoted(f"{name}:")

    def _sequence(self, items: list[tuple[str, bool]], repeated: str) -> str:
        """Items in their order, each required or not, then any number of `repeated`; commas."""
        first = f'({repeated} ("," {repeated})*)?' if repeated else ""
        later = f'("," {repeated})*' if repeated else ""
        for item, is_required in reversed(items):
            begun = f"{item} {later}"
            if is_required:
                first = self._rule(begun)
            else:
                first = self._rule(f"{begun} | {first}" if first else f"({begun})?")
            later = self._rule(f'"," {item} {later}' if is_required else f'("," {item})? {later}')
        return first

    def _array(self, said: _Json, place: str) -> str:
        low, high = int(said.get("minItems", 0)), said.get("maxItems")
        high = None if high is None else int(high)
        schemas = said.get("prefixItems", [])[:high]
        more = said.get("items", not schemas)
        if not isinstance(more, (dict, bool)):
            self._refuse(f"{place}.items", type(more).__name__, "a schema; prefixItems lists some")
        items = []
        for index, schema in enumerate(schemas):
            try:
                items.append(self._value(schema, f"{place}[{index}]"))
            except _Impossible:
                more = False
                break
        count = len(items)
        rest = ""
        if high is None or high > count:
            with contextlib.suppress(_Impossible):
                rest = self._value(more, f"{place}.items")
        if not rest:
            high = count
        if high is not None and low > high:
            raise _Impossible(place)
        if not rest:
            tail = ""
        elif items:
            tail = _more(rest, low - count, None if high is None else high - count)
        else:
            tail = f"{rest} {_more(rest, low - 1, None if high is None else high - 1)}"
            tail = tail if low else f"({tail})?"
        for index in reversed(range(count)):
            comma = '"," ' if index else ""
            tail = self._rule(f"{comma}{items[index]} {tail}")
            tail = tail if index < low else f"({tail})?"
        return _bracketed("[", tail, "]")

    # --- schemas that are put together -----------------------------------------------------------

    def _referred(self, reference: str, place: str, inside: tuple[str, ...]) -> str:
        """The rule of a definition, which may be in the middle of being written."""
        if reference not in self._references:
            name = self._references[reference] = f"d{len(self._lines)}"
            self._lines.append("")
            at = len(self._lines) - 1
            try:
                self._lines[at] = (
                    f"{name}: {self._value(self._at(reference, place), place, inside)}"
                )
            except _Impossible:
                del self._references[reference]
                self._lines[at] = ""
                raise
        return self._references[reference]

    def _at(self, reference: str, place: str) -> Any:
        found: Any = self._root
        path, *steps = unquote(reference).split("/")
        try:
            for step in steps:
                step = step.replace("~1", "/").replace("~0", "~")
                found = found[int(step) if isinstance(found, list) else step]
        except (KeyError, IndexError, ValueError, TypeError):
            path = "nowhere"
        if path != "#" or not isinstance(found, (dict, bool)):
            self._refuse(f"{place}.$ref", repr(reference), "the path of a schema, from # on")
        return found

    def _both(self, one: Any, other: Any, place: str) -> Any:
        """A schema of what both take."""
        if one is False or other is False:
            return False
        one, other = ({} if schema is True else _binding(schema) for schema in (one, other))
        for closed, open_ in ((one, other), (other, one)):
            is_closed = closed.get("additionalProperties", True) is not True
            hidden = open_.get("properties", {}).keys() - closed.get("properties", {}).keys()
            if is_closed and hidden:
                self._refuse(
                    place, f"additionalProperties beside another schema's {min(hidden)!r}",
                    "one schema that lists all properties",
                )  # fmt: skip
        merged = dict(one)
        for key, value in other.items():
            if key not in one or one[key] == value:
                merged[key] = value
            elif key == "type":
                merged[key] = sorted(_types(one) & _types(other))
            elif key == "required":
                merged[key] = [*one[key], *value]
            elif key == "properties":
                shared = {
                    name: self._both(one[key][name], value[name], f"{place}.{name}")
                    for name in one[key].keys() & value.keys()
                }
                merged[key] = {**one[key], **value, **shared}
            elif key in _LEAST:
                merged[key] = min(one[key], value)
            elif key in _MOST:
                merged[key] = max(one[key], value)
            else:
                self._refuse(place, f"{key} twice", "it once")
        return merged

    def _check_apart(self, schemas: list[Any], place: str) -> None:
        if len(schemas) > MAX_MEMBERS:
            self._refuse(place, f"oneOf with {len(schemas):,} members", f"at most {MAX_MEMBERS}")
        for one, other in itertools.combinations(schemas, 2):
            if not self._are_apart(one, other, place):
                self._refuse(
                    place, "oneOf with members that may both be valid",
                    "members that differ in their type, or in the choices of a required property",
                )  # fmt: skip

    def _are_apart(self, one: Any, other: Any, place: str) -> bool:
        """Whether it is plain to see that no value is valid by both."""
        one, other = (
            self._at(schema["$ref"], place) if isinstance(schema, dict) and "$ref" in schema
            else schema for schema in (one, other)
        )  # fmt: skip
        if isinstance(one, bool) or isinstance(other, bool):
            return one is False or other is False
        if not _types(one) & _types(other):
            return True
        if (choices := _choices(one)) is not None and (others := _choices(other)) is not None:
            return not any(choice in others for choice in choices)
        if not _kinds(one) == _kinds(other) == ["object"]:
            return False
        shared = set(one.get("required", ())) & set(other.get("required", ()))
        return any(
            self._are_apart(
                one.get("properties", {}).get(name, True),
                other.get("properties", {}).get(name, True),
                place,
            )
            for name in shared
        )


def _binding(schema: _Json) -> _Json:
    """Of its keywords those that say which values are valid."""
    return {
        key: value
        for key, value in schema.items()
        if key in _KEPT or (key in _REFUSED and (key, value) != ("uniqueItems", False))
    }


def _kinds(said: _Json) -> list[str]:
    """Types of the values that are written: where none is said, those that keywords speak of."""
    if "type" not in said:
        return [kind for kind, keys in _OF_KIND.items() if said.keys() & {*keys}]
    kinds = [said["type"]] if isinstance(said["type"], str) else said["type"]
    return [kind for kind in kinds if kind != "integer" or "number" not in kinds]


def _types(said: _Json) -> set[str]:
    """Types that are valid, "integer" beside "number"."""
    every = {*_OF_KIND, "boolean", "null", "integer"}
    kinds = said.get("type", every)
    kinds = {kinds} if isinstance(kinds, str) else {*kinds}
    return kinds | {"integer"} if "number" in kinds else kinds


def _choices(said: _Json) -> list[Any] | None:
    return said["enum"] if "enum" in said else [said["const"]] if "const" in said else None


def _limited(key: str, value: float) -> str:
    """Decimals that keep one limit, as a terminal."""
    digits, _, fraction = format(Decimal(repr(abs(value))), "f").partition(".")
    fraction = fraction.rstrip("0")
    equal = rf"{digits}\.{fraction}0*" if fraction else rf"{digits}(\.0*)?"
    beyond = [*_larger(digits, fraction)]
    is_upper, is_exclusive = key.endswith("aximum"), key.startswith("exclusive")
    if value and (value < 0) == is_upper:  # the sign is given, and the digits are at least these
        beyond += [] if is_exclusive else [equal]
        return f"/{'-' if is_upper else ''}({'|'.join(beyond)})/"
    sign = "" if is_upper else "-"
    outside = [f"{sign}({'|'.join(beyond)})"]
    if is_exclusive:
        outside.append(f"{sign if value else '-?'}{equal}")
    return f"~/{'|'.join(outside)}/"


def _larger(digits: str, fraction: str) -> Iterator[str]:
    """Decimals without a sign that are larger than one."""
    more = r"(\.[0-9]+)?"
    yield f"[1-9][0-9]{{{len(digits)},}}{more}"
    for index, digit in enumerate(digits):
        if digit < "9":
            left = len(digits) - index - 1
            yield f"{digits[:index]}[{int(digit) + 1}-9][0-9]{{{left}}}{more}"
    for index, digit in enumerate(fraction):
        if digit < "9":
            yield rf"{digits}\.{fraction[:index]}[{int(digit) + 1}-9][0-9]*"
    yield rf"{digits}\.{fraction}[0-9]*[1-9][0-9]*"


def _more(item: str, low: int, high: int | None) -> str:
    """Items that follow others."""
    return "" if high == 0 else f'("," {item}){{{max(0, low)},{"" if high is None else high}}}'


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _bracketed(begin: str, inner: str, end: str) -> str:
    return f'"{begin}" {inner} "{end}"'
