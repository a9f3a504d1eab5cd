"""Calls bound to their schema: what may be drawn at each place of one, and what is refused."""

from __future__ import annotations

import time
import warnings
from typing import Any, Literal

import numpy as np
import pytest

from cabochon.chat.call_grammar import MAX_LEVELS, compile_calls
from cabochon.chat.constraints import KINDS, Compiler, Matcher, read_structure
from cabochon.chat.masking import Masker, Masking
from cabochon.chat.tools import read_tools
from cabochon.demo import _pieces, _tokenizer
from cabochon.errors import CabochonWarning, ConstraintError
from cabochon.tokenizer import Tokenizer

TOKENIZER = Tokenizer(_tokenizer(*_pieces()))
IDS = TOKENIZER.control_ids
STOPS = (IDS["<eos>"], IDS["<turn|>"], IDS["<|tool_response>"])
Q = '<|"|>'


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return Compiler(TOKENIZER, TOKENIZER.vocab_size)


def weather(city: str, unit: Literal["c", "f"] = "c", days: int = 1) -> str:
    """Weather of a city."""
    return city


def weather_map() -> str:
    """All of it."""
    return ""


def calls(compiler: Compiler, *tools: Any) -> Matcher:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CabochonWarning)
        return compile_calls(compiler, read_tools(tools), IDS[Q])


def masker(calls: Matcher | None, starts_in: str = "answer", **options: Any) -> Masker:
    given = {kind: options.pop(kind, None) for kind in KINDS}
    structure = read_structure(given)
    compiler = Compiler(TOKENIZER, TOKENIZER.vocab_size) if structure else None
    return Masking(
        tokenizer=TOKENIZER,
        vocab_size=TOKENIZER.vocab_size,
        stop_ids=STOPS,
        has_tools=True,
        calls=calls,
        structure=structure,
        matcher=compiler.compile(structure) if compiler and structure else None,
        **options,
    ).masker(starts_in)


def allowed(masker: Masker) -> set[int]:
    mask = masker.mask()
    if mask is None:
        return set(range(TOKENIZER.vocab_size))
    return set(np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist())


def pieces(masker: Masker) -> set[str]:
    """What may be drawn; a letter may be an id of its own and a byte."""
    found = TOKENIZER.pieces()
    return {found[token].decode(errors="replace") for token in allowed(masker)}


def write(masker: Masker, text: str) -> bool:
    """Whether every token of the text was let through."""
    for token in TOKENIZER.encode(text, special=True):
        if token not in allowed(masker):
            return False
        masker.push(token)
    return True


def after(calls: Matcher, text: str) -> Masker:
    """Inside a call that begins like this."""
    found = masker(calls)
    assert write(found, f"<|tool_call>{text}"), text
    return found


def fits(calls: Matcher, text: str) -> bool:
    return write(masker(calls), f"<|tool_call>{text}<tool_call|>")


# --- a call --------------------------------------------------------------------------------------


def test_only_declared_names_can_be_called_also_where_one_begins_another(compiler) -> None:
    found = calls(compiler, weather, weather_map)

    assert pieces(after(found, "")) == {"c"}
    assert pieces(after(found, "call:weather")) == {"_", "{"}
    assert pieces(after(found, "call:weather_")) == {"m"}
    assert pieces(after(found, "call:weather_map{")) == {"}"}


def test_keys_come_sorted_the_required_always_others_at_will_and_none_twice(compiler) -> None:
    found = calls(compiler, weather)
    city, unit = f"city:{Q}P{Q}", f"unit:{Q}f{Q}"

    for arguments in (city, f"{city},days:3", f"{city},{unit}", f"{city},days:3,{unit}"):
        assert fits(found, f"call:weather{{{arguments}}}")
    for arguments in ("", "days:3", unit, f"{unit},{city}", f"{city},{city}", f"{city},",
                      f"{city},town:3", f"{city}, days:3"):  # fmt: skip
        assert not fits(found, f"call:weather{{{arguments}}}")
    assert pieces(after(found, f"call:weather{{{city}")) == {",", "}"}
    assert pieces(after(found, f"call:weather{{{city},")) == {"d", "u"}
    assert pieces(after(found, f"call:weather{{{city},days:3,")) == {"u"}


def test_a_call_ends_when_it_is_whole_and_neither_before_nor_later(compiler) -> None:
    found = calls(compiler, weather)

    for text in ("", "call:weather", f"call:weather{{city:{Q}P{Q}"):
        assert IDS["<tool_call|>"] not in allowed(after(found, text))
    assert pieces(after(found, f"call:weather{{city:{Q}P{Q}}}")) == {"<tool_call|>"}


def test_a_string_takes_any_text_and_of_control_tokens_its_mark_alone(compiler) -> None:
    inside = after(calls(compiler, weather), f"call:weather{{city:{Q}")

    assert allowed(inside) & set(IDS.values()) == {IDS[Q]}
    # Control strings that are spelled, braces, quotes and line breaks are text like any other.
    plain = '<|turn>, <tool_call|>}\n"it\'s" {a:1} 🚀 \u2028\x00'
    for token in TOKENIZER.encode(plain):
        assert token in allowed(inside)
        inside.push(token)
    assert allowed(inside) & set(IDS.values()) == {IDS[Q]}


def test_a_string_ends_after_a_whole_character_alone(compiler) -> None:
    inside = after(calls(compiler, weather), f"call:weather{{city:{Q}")

    for token in TOKENIZER.encode("🚀"):  # four bytes
        inside.push(token)
        is_whole = token == TOKENIZER.encode("🚀")[-1]
        assert (IDS[Q] in allowed(inside)) == is_whole


# A schema of one argument `x`, texts that may stand there, and texts that may not.
VALUES: list[tuple[Any, list[str], list[str]]] = [
    ({"type": "string", "enum": ["c", "cc", ""]}, [f"{Q}c{Q}", f"{Q}cc{Q}", Q + Q],
     ["c", f"{Q}ccc{Q}", "null"]),
    ({"type": "string", "minLength": 2, "maxLength": 3}, [f"{Q}ab{Q}", f"{Q}🚀🚀🚀{Q}"],
     [f"{Q}a{Q}", f"{Q}abcd{Q}", Q + Q]),
    ({"type": "string", "pattern": "^$"}, [Q + Q], [f"{Q}a{Q}"]),
    ({"type": "string", "maxLength": 0}, [Q + Q], [f"{Q}a{Q}"]),
    ({"type": "string", "pattern": "b|^[ac]$"}, [f"{Q}a{Q}", f"{Q}xbx{Q}"], [f"{Q}ac{Q}", Q + Q]),
    ({"type": "string", "pattern": "^a*$", "maxLength": 2}, [Q + Q, f"{Q}aa{Q}"], [f"{Q}aaa{Q}"]),
    ({"type": "string", "pattern": r"^\d$"}, [f"{Q}7{Q}"], [f"{Q}٣{Q}", f"{Q}x{Q}"]),
    ({"type": "string", "format": "date"}, [f"{Q}2024-02-29{Q}"], [f"{Q}2023-02-29{Q}"]),
    ({"type": "string", "format": "uuid"}, [f"{Q}{'0' * 8}-{'-'.join(['abcd'] * 3)}-{'1' * 12}{Q}"],
     [f"{Q}0{Q}"]),
    ({"type": "string", "format": "a word of ours"}, [f"{Q}any{Q}"], []),
    ({"type": "integer"}, ["0", "-7", "12"], ["-0", "01", "1.0", "1e3", f"{Q}1{Q}", "1" * 19]),
    ({"type": "integer", "minimum": 3, "exclusiveMaximum": 12}, ["3", "11"], ["2", "12", "-3"]),
    ({"type": "integer", "multipleOf": 7, "minimum": 1}, ["7", "21"], ["0", "8"]),
    ({"type": "number"}, ["0", "-0.5", "3", "1.5e+10", "1e-07", "9.9e+307"],
     ["1e308", "1e+308", ".5", "1.", "NaN", "10e+307", "0.5e+3"]),
    ({"type": "number", "minimum": 0, "exclusiveMaximum": 1}, ["0", "0.5", "0.999"],
     ["1", "1.0", "-0.1", "0.99999999999999999999", "1e-3"]),
    ({"type": "number", "minimum": -12.25, "maximum": -3}, ["-12.25", "-12.2", "-3.0", "-3.01"],
     ["-12.26", "-12.251", "-13", "-2.99", "3", "0", "-112"]),
    ({"type": "number", "minimum": -1.7e308, "maximum": 1.7e308, "multipleOf": 0.5},
     ["-2.5"], ["1e5", "0.25"]),
    ({"type": "integer", "minimum": -(2**63), "maximum": 2**53}, ["9007199254740992", "-9"],
     ["9007199254740993"]),
    ({"type": "integer", "x-order": 3, "example": 5, "uniqueItems": False}, ["3"], ["x"]),
    # 16 digits would be read as the limit itself.
    ({"type": "number", "exclusiveMaximum": 1000}, ["999.999"],
     ["999.99999999999999", "-" + "9" * 16]),
    ({"type": "number", "exclusiveMinimum": 0}, ["0.5", "0.00001", "7", "99999"],
     ["0", "-0", "0.0", "-0.00", "-1"]),
    ({"type": "number", "exclusiveMinimum": 9.5, "exclusiveMaximum": 19.95},
     ["9.51", "10", "19.9", "19.949"], ["9.5", "9.50", "9.4", "19.95", "19.950", "20", "100"]),
    ({"type": "integer", "minimum": 0.5, "maximum": 29}, ["1", "29", "9", "10"], ["0", "30", "-1"]),
    ({"type": "boolean"}, ["true", "false"], ["null", "1", "True"]),
    ({"type": "null"}, ["null"], ["true"]),
    ({"type": ["integer", "null"]}, ["3", "null"], ["3.5", "true"]),
    ({"const": {"b": [1.5, None, "x"], "A": {}}}, [f"{{A:{{}},b:[1.5,null,{Q}x{Q}]}}"],
     [f"{{b:[1.5,null,{Q}x{Q}],A:{{}}}}"]),
    ({"enum": ["a", "abc", 3, 30, None], "maximum": 10, "minLength": 2},
     [f"{Q}abc{Q}", "3", "null"], [f"{Q}a{Q}", "30"]),
    ({"type": "array", "items": {"type": "integer"}}, ["[]", "[1]", "[1,2,3]"], ["[,]", "[1,]"]),
    ({"type": "array", "items": {"const": 1}, "minItems": 2, "maxItems": 3}, ["[1,1]", "[1,1,1]"],
     ["[]", "[1]", "[1,1,1,1]", "[2,2]"]),
    ({"type": "array", "maxItems": 0}, ["[]"], ["[1]"]),
    ({"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "minItems": 1},
     ["[1]", "[1,2]"], ["[]", "[2]", "[1,2,3]"]),
    ({"type": "array", "prefixItems": [{"const": 1}], "items": {"const": 0}, "minItems": 2},
     ["[1,0]", "[1,0,0]"], ["[1]", "[0,0]"]),
    ({"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "maxItems": 1},
     ["[]", "[1]"], ["[1,2]"]),
    ({"type": "array", "prefixItems": [{"const": 1}, False]}, ["[]", "[1]"], ["[1,1]"]),
    ({"type": "object", "properties": {"b": {"type": "null"}, "A": {"const": 1}}},
     ["{}", "{A:1}", "{b:null}", "{A:1,b:null}"], ["{b:null,A:1}", "{c:1}"]),
    ({"type": "object", "properties": {"a": {"const": 1}}, "additionalProperties": {"const": 2}},
     ["{}", "{a:1}", "{a:1,b:2}", "{ab:2,two words:2}"], ["{a:2}", "{a:1,a:2}", "{b:1}", "{ b:2}"]),
    ({"type": "object", "additionalProperties": {"const": 1}, "required": ["b"]},
     ["{b:1}", "{b:1,a:1}"], ["{}", "{a:1}", "{b:2}"]),
    ({"type": "object"}, ["{}", f"{{a:{{b:[1,{Q}{Q},null]}}}}"], ["{:1}", '{"a":1}', "{a b :1}"]),
    ({"type": "object", "properties": {"a": False}}, ["{}"], ["{a:1}"]),
    ({"type": "object", "properties": {"a": {}}, "required": ["b", "a"]}, ["{a:1,b:[]}"],
     ["{a:1}", "{b:1}", "{a:1,b:1,c:1}"]),
    ({"type": "object", "properties": {"": {"const": 1}}}, ["{:1}"], ["{1}"]),
    ({}, ["1", f"{Q}x{Q}", "[]", "{}", "[{a:[[1]]}]", "null"], ["x", "NaN"]),
    (True, ["1", "{}"], ["x"]),
    ({"anyOf": [{"const": 1}, {"type": "null"}, False], "description": "One or none."},
     ["1", "null"], ["2"]),
    ({"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}},
      "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
     ["{a:1}", "{b:2}", "{a:1,b:2}"], ["{}"]),
    ({"allOf": [{"type": ["integer", "string"], "minimum": 2}, {"type": "number", "maximum": 4}],
      "minimum": 3}, ["3", "4"], ["2", "5", "3.5", Q + Q]),
    ({"allOf": [{"required": ["a"]}, {"required": ["b"]}], "type": "object",
      "properties": {"a": {"const": 1}, "b": {"const": 2}}},
     ["{a:1,b:2}"], ["{}", "{a:1}", "{b:2}"]),
    ({"oneOf": [{"properties": {"k": {"const": "x"}}, "required": ["k"]},
                {"properties": {"k": {"const": "y"}, "v": {}}, "required": ["k"]}],
      "type": "object"}, [f"{{k:{Q}x{Q}}}", f"{{k:{Q}y{Q},v:1}}"], [f"{{k:{Q}x{Q},v:1}}", "{}"]),
    ({"minimum": 3, "maximum": 5}, ["4"], ["2", "null"]),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "yes", "no"), VALUES, ids=lambda value: str(value)[:60])
def test_an_argument_takes_what_its_schema_takes(compiler, schema, yes, no) -> None:
    tool = {"name": "f", "parameters": {"type": "object", "properties": {"x": schema},
                                        "required": ["x"]}}  # fmt: skip
    found = calls(compiler, tool)

    for text in yes:
        assert fits(found, f"call:f{{x:{text}}}"), text
    for text in no:
        assert not fits(found, f"call:f{{x:{text}}}"), text


def test_a_definition_may_refer_to_itself(compiler) -> None:
    tree = {"type": "object", "properties": {"v": {"const": 1}, "m": {"$ref": "#/$defs/a~1b"}},
            "required": ["v"]}  # fmt: skip
    found = calls(compiler, {"name": "f", "parameters": {
        "type": "object", "properties": {"x": {"$ref": "#/$defs/a~1b", "description": "A tree."}},
        "$defs": {"a/b": tree}}})  # fmt: skip

    assert fits(found, "call:f{x:{m:{m:{v:1},v:1},v:1}}")
    assert not fits(found, "call:f{x:{m:{m:{v:1},v:1}}}")


def test_a_value_that_may_be_anything_ends_before_it_is_too_deep_to_be_read(compiler) -> None:
    found = calls(
        compiler, {"name": "f", "parameters": {"type": "object", "properties": {"x": {}}}}
    )

    assert fits(found, "call:f{x:" + "[" * MAX_LEVELS + "1" + "]" * MAX_LEVELS + "}")
    assert "[" not in pieces(after(found, "call:f{x:" + "[" * MAX_LEVELS))
    assert "{" not in pieces(after(found, "call:f{x:" + "{a:" * MAX_LEVELS))


def test_references_that_would_never_end_are_refused_in_time(compiler) -> None:
    def tool(x: Any, definitions: dict[str, Any]) -> dict[str, Any]:
        return {"name": "f", "parameters": {"type": "object", "properties": {"x": x},
                                            "$defs": definitions}}  # fmt: skip

    def reference(name: str) -> dict[str, Any]:
        return {"$ref": f"#/$defs/{name}", "type": "object"}  # not the definition alone

    endless = {"t": {"properties": {"t": reference("t")}}}
    doubling = {f"d{i}": {"properties": {name: reference(f"d{i + 1}") for name in "ab"}}
                for i in range(25)} | {"d25": {}}  # fmt: skip
    many = {"oneOf": [{"const": index} for index in range(101)]}
    started_s = time.monotonic()

    with pytest.raises(ConstraintError, match="parameters: found references without end"):
        calls(compiler, tool(reference("t"), endless))
    with pytest.raises(ConstraintError, match="found 100,000 rules and more"):
        calls(compiler, tool(reference("d0"), doubling))
    with pytest.raises(ConstraintError, match="oneOf with 101 members, expected at most 100"):
        calls(compiler, tool(many, {}))

    assert time.monotonic() - started_s < 5


def test_many_tools_and_many_properties_are_still_followed(compiler) -> None:
    wide = {f"p{i}": {"type": "integer"} for i in range(1000)}
    tools = [{"name": f"f{i}", "parameters": {"type": "object", "properties": {}}}
             for i in range(1023)]  # fmt: skip
    found = calls(compiler, {"name": "g", "parameters": {"type": "object", "properties": wide}},
                  *tools)  # fmt: skip

    assert fits(found, "call:f1022{}")
    assert fits(found, "call:g{p0:1,p999:2}")


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "match"),
    [
        ({"not": {"type": "string"}}, r"parameters\.x: found 'not', expected of such "),
        ({"type": "array", "uniqueItems": True}, r"parameters\.x: found 'uniqueItems'"),
        ({"type": "object", "patternProperties": {"a": {}}}, "'patternProperties'"),
        ({"type": "object", "minProperties": 1}, "'minProperties'"),
        ({"type": "object", "unevaluatedProperties": False}, "'unevaluatedProperties'"),
        ({"type": "string", "format": "regex"}, r"x\.format: found 'regex', expected one of date,"),
        ({"type": "string", "pattern": r"\bx"}, r"x\.pattern: found '.*bx' with .*b, expected a"),
        ({"type": "string", "pattern": "(?=x)"}, r"x\.pattern: found"),
        ({"type": "integer", "minimum": 10**19}, r"x\.minimum: found 10{19}, expected a number "),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf with members that may both"),
        ({"type": ["object", "null"], "oneOf": [
            {"properties": {"k": {"const": k}}, "required": ["k"]} for k in "xy"
        ]}, "oneOf with members that may both"),
        ({"oneOf": [{"enum": [1, 2]}, {"enum": [2, 3]}]}, "oneOf with members that may both"),
        ({"allOf": [{"pattern": "a"}, {"pattern": "b"}]}, "pattern twice, expected it once"),
        ({"allOf": [{"properties": {"a": {}}, "additionalProperties": False},
                    {"properties": {"b": {}}}]}, "additionalProperties beside another.*'b'"),
        ({"$ref": "#/$defs/circle"}, "#/\\$defs/circle, which is itself"),
        ({"items": {"$ref": "#named"}}, r"x\.items\.\$ref: found '#named', expected the path"),
        ({"enum": ["a"], "minLength": 2}, r"parameters\.x: found values that none is valid among"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "parameters.x: found a structure"),
        ({"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 6}, "that no text has"),
        ({"type": "array", "minItems": 2, "prefixItems": [{}]}, "found values that none is valid"),
        ({"type": "string", "pattern": "^a$", "minLength": 2}, "parameters.x: found a structure "),
        ({"type": "integer", "multipleOf": 7, "minimum": 1, "maximum": 6}, "does not compile"),
    ],
    ids=str,
)  # fmt: skip
def test_what_no_call_can_be_bound_by_is_refused_with_its_place(compiler, schema, match) -> None:
    tool = {"name": "lamp", "parameters": {
        "type": "object", "properties": {"x": schema}, "required": ["x"],
        "$defs": {"circle": {"allOf": [{"$ref": "#/$defs/circle"}]},
                  "leaf": {"$anchor": "named"}}}}  # fmt: skip

    with pytest.raises(ConstraintError, match=match) as error:
        calls(compiler, tool)

    assert error.value.argument == "tools"
    assert str(error.value).startswith(("tool lamp: parameters.x", "tools: does not compile"))


@pytest.mark.parametrize(
    "name", ["a:b", "a=b", "a,b", 'say "hi"', "it's", "a[0]", "{", " a", "a\nb"]
)
def test_a_property_that_a_call_cannot_say_is_refused_by_its_name(compiler, name: str) -> None:
    nested = {"type": "object", "properties": {name: {"type": "integer"}}}
    tool = {"name": "f", "parameters": {"type": "object", "properties": {"x": nested}}}

    with pytest.raises(ConstraintError, match=r"tool f: parameters\.x\.") as error:
        calls(compiler, tool)

    assert f"found the name {name!r}, expected one without : = ," in str(error.value)


# --- calls in an answer --------------------------------------------------------------------------

RAIN = "<|tool_call>call:weather_map{}<tool_call|>"


@pytest.fixture(scope="module")
def rain(compiler: Compiler) -> Matcher:
    return calls(compiler, weather_map)


def test_bound_calls_leave_the_rest_of_an_answer_free(rain: Matcher) -> None:
    found = masker(rain)

    assert found.mask() is None
    assert write(found, f"Let me see.{RAIN}")
    assert found.mask() is None
    assert write(found, f"{RAIN}Well.<turn|>")


def test_each_of_several_calls_is_bound_from_its_beginning(rain: Matcher) -> None:
    found = masker(rain)

    assert write(found, f"{RAIN}<|tool_call>call:weather")
    assert pieces(found) == {"_"}


def test_a_call_inside_a_thought_is_bound_too(rain: Matcher) -> None:
    found = masker(rain, thinking=True)

    assert write(found, f"<|channel>thought\nWell.{RAIN}And so.<|tool_call>")
    assert pieces(found) == {"c"}


def test_an_answer_that_has_to_call_begins_with_a_call_and_ends_after_one(rain: Matcher) -> None:
    found = masker(rain, must_call=True)

    assert pieces(found) == {"<|tool_call>"}
    assert write(found, RAIN)
    assert allowed(found) == {IDS["<|tool_call>"], *STOPS}
    assert write(found, f"{RAIN}<turn|>")
    # <|tool_call>, the name's 17 characters but for tokens of several, {, }, <tool_call|>; twice.
    assert found.forced_tokens == 2 * len(TOKENIZER.encode(RAIN, special=True)) - 1


def test_a_thought_comes_before_the_call_and_nothing_but_its_end_leaves_it(rain: Matcher) -> None:
    found = masker(rain, must_call=True, thinking=True)

    assert pieces(found) == {"<|channel>", "<|tool_call>"}
    assert write(found, "<|channel>thought\nhm")
    assert allowed(found) & set(IDS.values()) == {IDS["<channel|>"]}
    assert write(found, "\n<channel|>")
    assert pieces(found) == {"<|tool_call>"}  # and not again <|channel>


@pytest.mark.parametrize("budget", [0, 1, 5])
def test_a_budget_holds_before_a_call_too(rain: Matcher, budget: int) -> None:
    found = masker(rain, must_call=True, thinking=True, budget=budget)
    if budget:
        assert write(found, "<|channel>")
        for _ in range(budget):
            assert allowed(found) - {IDS["<channel|>"]}
            found.push(min(allowed(found) - set(IDS.values())))
        assert write(found, "<channel|>")

    assert pieces(found) == {"<|tool_call>"}


def test_an_answer_that_begins_in_a_thought_calls_after_it(rain: Matcher) -> None:
    found = masker(rain, "thinking", must_call=True, thinking=True)

    assert allowed(found) & set(IDS.values()) == {IDS["<channel|>"]}
    assert write(found, f"hm<channel|>{RAIN}<|tool_response>")


def test_where_calls_are_not_parallel_an_answer_ends_after_one(rain: Matcher) -> None:
    found = masker(rain, must_call=True, is_single_call=True)
    assert write(found, RAIN)

    assert allowed(found) == set(STOPS)


def test_a_turn_is_bound_calls_or_the_structure(rain: Matcher) -> None:
    found = masker(rain, choices=["yes"])
    assert pieces(found) == {"<|tool_call>", "y"}
    assert write(found, "<|tool_call>")
    assert pieces(found) == {"c"}

    found = masker(rain, choices=["yes"])
    assert write(found, "yes")
    assert IDS["<|tool_call>"] not in allowed(found)
    assert write(found, "<turn|>")
    assert found.parsed() == "yes"


def test_where_a_call_is_required_the_structure_has_to_wait(rain: Matcher) -> None:
    found = masker(rain, choices=["yes"], must_call=True)

    assert pieces(found) == {"<|tool_call>"}
    assert write(found, f"{RAIN}<turn|>")
    assert found.parsed() is None
