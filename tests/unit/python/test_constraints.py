"""Structures and budgets: what is refused, what compiles, which tokens a mask lets through."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import sys
import time
from typing import Any

import numpy as np
import pydantic
import pytest

from cabochon.chat import constraints
from cabochon.chat.constraints import KINDS, Compiler, Structure, read_structure
from cabochon.chat.masking import Masker, Masking
from cabochon.demo import _pieces, _tokenizer
from cabochon.errors import ConstraintError, InvalidArgument, MissingExtra
from cabochon.tokenizer import Tokenizer

TOKENIZER = Tokenizer(_tokenizer(*_pieces()))
IDS = TOKENIZER.control_ids
STOPS = (IDS["<eos>"], IDS["<turn|>"], IDS["<|tool_response>"])


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return Compiler(TOKENIZER, TOKENIZER.vocab_size)


def read(**given: Any) -> Structure:
    structure = read_structure({**dict.fromkeys(KINDS), **given})
    assert structure is not None
    return structure


def masker(compiler: Compiler | None, starts_in: str = "answer", **options: Any) -> Masker:
    structure = read(**{k: options.pop(k) for k in KINDS if k in options}) if compiler else None
    return Masking(
        tokenizer=TOKENIZER,
        vocab_size=TOKENIZER.vocab_size,
        stop_ids=STOPS,
        structure=structure,
        matcher=compiler.compile(structure) if compiler and structure else None,
        **options,
    ).masker(starts_in)


def allowed(masker: Masker) -> set[int]:
    mask = masker.mask()
    if mask is None:
        return set(range(TOKENIZER.vocab_size))
    return set(np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist())


def pieces(ids: set[int]) -> set[bytes]:
    """A letter may be an id of its own and a byte."""
    return {TOKENIZER.pieces()[token] for token in ids}


def write(masker: Masker, text: str) -> bool:
    """Whether every token of the text was let through."""
    for token in TOKENIZER.encode(text, special=True):
        if token not in allowed(masker):
            return False
        masker.push(token)
    return True


def fits(compiler: Compiler, text: str, **structure: Any) -> bool:
    found = masker(compiler, **structure)
    return write(found, text) and IDS["<turn|>"] in allowed(found)


# --- structures ----------------------------------------------------------------------------------


def test_choices_are_let_through_whole_and_nothing_else(compiler: Compiler) -> None:
    choices = ["blue", "blueish", 'a "quoted" one', "back\\slash", "zwölf 🚀", "line\nbreak", "/"]

    for choice in choices:
        assert fits(compiler, choice, choices=choices)
    for text in ("", "blu", "blues", "Blue", "blueblue", "zwölf"):
        assert not fits(compiler, text, choices=choices)


def test_after_a_choice_that_begins_another_both_an_end_and_more_are_let_through(compiler) -> None:
    found = masker(compiler, choices=["a", "ab"])
    write(found, "a")

    ends = {IDS["<eos>"], IDS["<turn|>"]}

    assert ends <= allowed(found)
    assert pieces(allowed(found) - ends) == {b"b"}


def test_a_finished_structure_lets_only_stops_through_and_none_that_waits_for_a_tool(compiler):
    found = masker(compiler, schema={"type": "boolean"})
    assert write(found, "true")

    assert allowed(found) == {IDS["<eos>"], IDS["<turn|>"]}


@pytest.mark.parametrize(
    ("regex", "yes", "no"),
    [
        (r"[a-c]{2,3}\d", ["ab1", "ccc9"], ["a1", "abcd1", "ab"]),
        (r"^ab$", ["ab"], ["abc", "xab"]),
        (r"(?i)yes|no", ["YES", "no"], ["maybe"]),
        (r"ü+", ["ü", "üü"], ["u"]),
    ],
)
def test_a_regex_holds_for_the_whole_answer(compiler, regex, yes, no) -> None:
    assert all(fits(compiler, text, regex=regex) for text in yes)
    assert not any(fits(compiler, text, regex=regex) for text in no)


def test_a_grammar_in_larks_notation_holds(compiler: Compiler) -> None:
    grammar = 'start: "(" start ")" | NUMBER\nNUMBER: /[0-9]+/\n'

    assert fits(compiler, "((42))", grammar=grammar)
    assert not fits(compiler, "((42)", grammar=grammar)


def test_a_control_token_is_not_let_through_even_where_a_grammar_names_it(compiler) -> None:
    found = masker(compiler, grammar='start: <|channel> | "a"')

    assert pieces(allowed(found)) == {b"a"}


def test_between_parts_of_json_at_most_a_space_or_a_line_and_its_indentation_stands(compiler):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}

    for text in ('{"a":1}', '{"a": 1}', '{\n  "a": 1\n}'):
        assert fits(compiler, text, schema=schema)
    for text in ('{  "a":1}', '{"a":\n\n1}', ' {"a":1}', '{"a":1 \n}', '{\t"a":1}'):
        assert not fits(compiler, text, schema=schema)


@pytest.mark.parametrize(
    ("format_", "yes", "no"),
    [
        (
            "date",
            ["2024-02-29", "2000-02-29", "2023-02-28", "2023-12-31", "2023-04-30"],
            ["2023-02-29", "1900-02-29", "2023-04-31", "2023-02-30", "0000-01-01", "2023-13-01"],
        ),
        ("time", ["23:59:59Z", "00:00:00.25+05:30"], ["24:00:00Z", "12:00:60Z", "12:00:00"]),
        (
            "date-time",
            ["2024-02-29T12:00:00Z"],
            ["2023-02-29T12:00:00Z", "2024-02-29T12:00:60Z", "2024-02-29"],
        ),
        ("ipv4", ["1.2.3.4"], ["01.2.3.4", "256.1.1.1"]),
    ],
)
def test_a_format_lets_through_what_is_valid_and_nothing_else(compiler, format_, yes, no) -> None:
    inner = {"type": "string", "format": format_}
    outer = {"$defs": {"format": {"anyOf": [{"type": "array", "items": inner}]}}}
    for schema, form in ((inner, '"{}"'), ({**outer, "$ref": "#/$defs/format"}, '["{}"]')):
        assert all(fits(compiler, form.format(text), schema=schema) for text in yes)
        assert not any(fits(compiler, form.format(text), schema=schema) for text in no)


@dataclasses.dataclass
class Person:
    name: str
    age: int = 3


class Point(pydantic.BaseModel):
    x: int
    y: int

    @pydantic.field_validator("y")
    @classmethod
    def _positive(cls, value: int) -> int:
        if value < 0:
            raise ValueError("y is negative")
        return value


@pytest.mark.parametrize(
    ("structure", "text", "value"),
    [
        ({"schema": Person}, '{"name":"Ada","age":36}', Person("Ada", 36)),
        ({"schema": Person}, '{"name":"Ada"}', Person("Ada")),
        ({"schema": Point}, '{"x":1,"y":2}', Point(x=1, y=2)),
        ({"schema": {"type": "array", "items": {"type": "null"}}}, "[null,null]", [None, None]),
        ({"schema": list[int]}, "[1,2]", [1, 2]),
        ({"regex": "[0-9]+"}, "007", "007"),
        ({"choices": ["no", "yes"]}, "yes", "yes"),
    ],
    ids=str,
)
def test_a_whole_answer_is_parsed_as_what_was_asked_for(compiler, structure, text, value) -> None:
    found = masker(compiler, **structure)
    assert write(found, text)
    assert found.parsed() is None  # it might go on
    found.push(IDS["<turn|>"])

    assert found.parsed() == value


def test_what_a_class_refuses_is_an_error_that_names_it(compiler: Compiler) -> None:
    found = masker(compiler, schema=Point)
    assert write(found, '{"x":1,"y":-2}<turn|>')

    with pytest.raises(InvalidArgument, match=r"cannot be read as Point: (.|\n)*y is negative"):
        found.parsed()


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"choices": "blue"}, "choices: found str, expected a list"),
        ({"choices": []}, "choices: found 0 entries, expected 1 to 10,000"),
        ({"choices": ["a", ""]}, r"choices\[1\]: found '', expected a string of at least"),
        ({"choices": ["\ud800"]}, r"choices\[0\]: found half a surrogate"),
        ({"regex": 5}, "regex: found int, expected text"),
        ({"grammar": "x" * 300_000}, "grammar: found 300,000 bytes, expected at most 262,144"),
        ({"regex": "a", "choices": ["a"]}, "regex and choices are given"),
    ],
)
def test_what_is_no_structure_is_refused_with_what_was_found(given, match) -> None:
    with pytest.raises(InvalidArgument, match=match):
        read(**given)


HOSTILE: dict[str, dict[str, Any]] = {
    "not": {"schema": {"not": {"type": "string"}}},
    "no type": {"schema": {"type": "strin"}},
    "elsewhere": {"schema": {"$ref": "https://example.com/a.json"}},
    "circle": {"schema": {"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}},
    "impossible": {"schema": {"type": "integer", "minimum": 5, "maximum": 3}},
    "explosion": {"schema": {"allOf": [
        {"anyOf": [{"properties": {f"{a}{i}": {"const": i}}} for a in "kj"]} for i in range(20)
    ]}},
    "look-ahead": {"regex": "a(?=b)"},
    "open bracket": {"regex": "["},
    "no start": {"grammar": 'a: "b"'},
    "no lark": {"grammar": "<<<"},
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_what_does_not_compile_is_a_constraint_error_within_its_time(compiler, name) -> None:
    started_s = time.monotonic()

    with pytest.raises(ConstraintError):
        compiler.compile(read(**HOSTILE[name]))

    # The limit is 2 s; what is left is for other threads of a busy machine.
    assert time.monotonic() - started_s < constraints.COMPILE_S + 3


def test_a_regex_of_nested_powers_compiles_or_is_refused_in_time(compiler) -> None:
    started_s = time.monotonic()

    with contextlib.suppress(ConstraintError):  # by the speed of the machine
        compiler.compile(read(regex="(((((a{100}){100}){100}){100}){100}){100}"))

    assert time.monotonic() - started_s < constraints.COMPILE_S + 3


def test_compiling_that_takes_too_long_is_left_behind(monkeypatch, compiler: Compiler) -> None:
    monkeypatch.setattr(constraints, "COMPILE_S", 0.05)
    nested: dict[str, Any] = {"type": "string"}
    for _ in range(13):
        nested = {"type": "object", "properties": {"a": nested, "b": nested}, "required": ["a"]}
    structure = Structure(kind="schema", value=nested)
    started_s = time.monotonic()

    with pytest.raises(ConstraintError, match=r"schema: takes more than 0.05 s to compile"):
        compiler.compile(structure)

    assert time.monotonic() - started_s < 3  # whole, it takes longer than that under a lock


def test_without_the_package_the_error_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)

    with pytest.raises(MissingExtra, match=r"cabochon\[constrain\]") as error:
        Compiler(TOKENIZER, TOKENIZER.vocab_size)
    assert error.value.extra == "constrain"


# --- thoughts ------------------------------------------------------------------------------------


def test_a_structure_begins_after_the_thought_which_nothing_but_its_end_can_leave(compiler) -> None:
    found = masker(compiler, choices=["yes"], thinking=True)

    assert pieces(allowed(found)) == {b"y", b"<|channel>"}
    assert write(found, "<|channel>thought\nno, or yes?")
    assert allowed(found) & set(IDS.values()) == {IDS["<channel|>"]}
    assert write(found, "\n<channel|>")
    assert IDS["<|channel>"] not in allowed(found)
    assert write(found, "yes<turn|>")
    assert found.parsed() == "yes"


def test_an_answer_that_begins_inside_a_thought_has_its_structure_after_it(compiler) -> None:
    found = masker(compiler, "thinking", choices=["yes"], thinking=True)

    assert write(found, "thought\nhm<channel|>yes<eos>")
    assert found.parsed() == "yes"


@pytest.mark.parametrize("budget", [0, 1, 2, 3, 7, 50])
def test_a_budget_bounds_the_thought_and_the_answer_begins(budget: int) -> None:
    found = masker(None, thinking=True, budget=budget)
    rng = random.Random(budget)
    text = TOKENIZER.encode(
        "<|channel>thought\n" + "so then that is what it was, " * 20, special=True
    )

    drawn = []
    for token in text:
        options = allowed(found)
        token = token if token in options else rng.choice(sorted(options))
        drawn.append(token)
        found.push(token)
        if token == IDS["<channel|>"]:
            break

    if budget == 0:
        assert drawn[0] != IDS["<|channel>"]
        return
    thought = drawn[1:-1]
    assert (drawn[0], drawn[-1]) == (IDS["<|channel>"], IDS["<channel|>"])
    assert len(thought) == budget
    assert found.closed_by_budget
    assert found.forced_tokens == (2 if budget > 3 else 1)  # with the line break before it
    if budget > 3:
        assert TOKENIZER.decode(thought).endswith("\n")
    assert IDS["<|channel>"] not in allowed(found)  # not again


def test_a_thought_that_the_model_ends_is_not_closed_by_the_budget() -> None:
    found = masker(None, thinking=True, budget=50)

    assert write(found, "<|channel>thought\nyes<channel|>")

    assert (found.closed_by_budget, found.forced_tokens) == (False, 0)


@pytest.mark.parametrize("budget", range(8, 24))
def test_a_budget_cuts_no_character_in_two(budget: int) -> None:
    found = masker(None, "thinking", thinking=True, budget=budget)
    rocket = TOKENIZER.encode("🚀")
    assert len(rocket) == 4  # bytes
    other = TOKENIZER.encode("x")[0]

    ids: list[int] = []
    step = 0  # of the four bytes
    while ids[-1:] != [IDS["<channel|>"]]:
        options = allowed(found)
        token = rocket[step]
        if token in options:
            step = (step + 1) % 4
        else:
            assert step == 0  # a character that was begun goes on
            token = other if other in options else min(options)
        ids.append(token)
        found.push(token)

    text = TOKENIZER.decode(ids)
    assert "\ufffd" not in text
    assert text.count("🚀") >= (budget - 5) // 4
