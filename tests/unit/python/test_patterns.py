"""Patterns of JSON Schema: found in the same strings by our check and by what binds calls."""

from __future__ import annotations

import random
import re

import jsonschema_rs
import pytest

from cabochon.chat.patterns import Unsayable, whole

# Notation that Python's `re` shares with llguidance, which is Rust's, so that it can stand in.
PATTERNS = [
    "", "^$", "a", "^a", "a$", "^a$", "a|^b$|c$", "(a|b)c", "^(?:a|b)+?c$", "(?<name>a)b?", "a{2}",
    "a{1,}?", "a{0,2}b", r"\d", r"^\D$", r"\w\W", r"^[\w.-]+@[\w]+\.[a-c]{2,}$", r"\s", r"^\S+$",
    r"[\d\-x]", "[a-c]", "[^a-c]", "[a-]", "[-a]", "^[^\\s\"]+$", "[a&&b]", "[a|b]", "[.]", "^.$",
    r"\/x", r"\u0041|\x61", r"\.\[\]\{\}\(\)\^\$\|\*\+\?\\", r"\t|\n", "é+", "x-y", "a b", "#~&",
]  # fmt: skip
CHARACTERS = 'aabcx0A-@.é٣\n\u2028\u00a0 &[:]/"|~#\\^$*+?(){}t,y'


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_is_found_where_the_check_of_calls_finds_it(pattern: str) -> None:
    judge = jsonschema_rs.validator_for({"pattern": pattern})
    ours = re.compile(re.sub(r"\\x\{([0-9a-f]+)\}", lambda m: f"\\U{int(m[1], 16):08x}",
                             whole(pattern)))  # fmt: skip
    rng = random.Random(pattern)
    for _ in range(500):
        text = "".join(rng.choice(CHARACTERS) for _ in range(rng.randint(0, 6)))

        found = ours.fullmatch(text) is not None

        # A dot is no line break: of these the check knows \n alone.
        if "\u2028" in text and "." in pattern:
            assert found <= judge.is_valid(text)
        else:
            assert found == judge.is_valid(text), text


@pytest.mark.parametrize(
    "pattern",
    [r"\bx", r"\B", "(?=a)b", "(?!a)b", "(?<=a)b", "(?<!a)b", r"(a)\1", "(?i)a", "(?s:a)", "(^a)",
     "a^b", "a$b", "[]", "[^]", "[a", r"[\D]", "a{", "a}", "a]", "(?P<n>a)", r"\ud800", r"\cA",
     r"\k<n>", "a\\"],
)  # fmt: skip
def test_a_pattern_that_one_of_the_notations_lacks_is_refused(pattern: str) -> None:
    with pytest.raises(Unsayable):
        whole(pattern)
