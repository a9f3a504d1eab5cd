"""Structures that an answer may be asked to have, compiled to masks of token ids by llguidance.

The one importer of `llguidance`. Knows no prompts and no turns: chat/masking.py says when a mask
holds. docs/decisions/0003-structures-by-llguidance.md says why this package.
"""

from __future__ import annotations

import importlib.util
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import ConstraintError, InvalidArgument, MissingExtra, Unsupported
from ..tokenizer import Tokenizer
from .schemas import Schema, build, plain_json, schema_of

Words = npt.NDArray[np.uint32]  # bit id % 32 of word id // 32

COMPILE_S = 2.0
MAX_BYTES = 256 * 1024  # of a regex or a grammar
MAX_CHOICES = 10_000
MAX_ITEMS = 20_000  # rules at work at one place; a tool of 1,000 properties takes two for each
KINDS = ("schema", "regex", "choices", "grammar")

# Between two parts of JSON: nothing, a space, or a line break and an indentation. More would let a
# model that has nothing to say fill max_tokens with white space.
_JSON = {
    "whitespace_flexible": True,
    "whitespace_pattern": r" |\n {0,32}",
    "item_separator": ",",
    "key_separator": ":",
    "coerce_one_of": False,
    "lenient": False,
}
# What llguidance lets through of these formats is more than what is valid: 29 February of any year,
# second 60 of any minute. The year 0000 is left out too, which no library of dates has.
_YEAR = "([0-9]{3}[1-9]|[0-9]{2}[1-9][0-9]|[0-9][1-9][0-9]{2}|[1-9][0-9]{3})"
_LEAP_YEAR = (
    "([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"  # 4, 100, 400
)
_DATE = (
    f"({_YEAR}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)"
    f"|(0[13578]|1[02])-31)|{_LEAP_YEAR}-02-29)"
)
_TIME = (
    r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
    r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
FORMATS = {"date": f"^{_DATE}$", "time": f"^{_TIME}$", "date-time": f"^{_DATE}T{_TIME}$"}
_NO_TEXT = "NoExtension"  # what llguidance says of a terminal that nothing fits
_OF_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")  # lists of them
_NAMED_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")
_ONE_SCHEMA = ("items", "additionalProperties", "additionalItems")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """What an answer is asked to be; checked, not compiled."""

    kind: str  # one of KINDS
    value: Any  # JSON Schema, regular expression, tuple of strings, or grammar
    python_type: Any = None  # what a schema was made of

    def parse(self, text: str) -> Any:
        """`Result.parsed` of a whole answer.

        Raises:
            InvalidArgument: the class that the schema was made of refuses it.
        """
        if self.kind != "schema":
            return text
        try:
            value = json.loads(text)
            return value if self.python_type is None else build(value, self.python_type)
        except Exception as error:  # anything: validators are the caller's code
            raise InvalidArgument(
                f"schema: the answer has the structure, but cannot be read as "
                f"{_type_name(self.python_type)}: {error}",
                argument="schema",
            ) from error


def _type_name(python_type: Any) -> str:
    return "JSON" if python_type is None else getattr(python_type, "__name__", repr(python_type))


def read_structure(given: Mapping[str, Any]) -> Structure | None:
    """The one of `schema`, `regex`, `choices` and `grammar` that is not None.

    Raises:
        InvalidArgument: two are given, or one of a wrong type or over a limit.
        ConstraintError: a schema that is none.
    """
    named = [name for name in KINDS if given[name] is not None]
    if len(named) > 1:
        raise InvalidArgument(
            f"{' and '.join(named)} are given, expected at most one constraint", argument=named[1]
        )
    if not named:
        return None
    (kind,) = named
    value = given[kind]
    if kind == "schema":
        return _read_schema(value)
    if kind == "choices":
        return Structure(kind=kind, value=_read_choices(value))
    if not isinstance(value, str):
        _wrong(kind, type(value).__name__, "text")
    return Structure(kind=kind, value=_checked_text(kind, value, MAX_BYTES))


def _read_schema(given: Any) -> Structure:
    is_plain = isinstance(given, Mapping)
    try:
        schema = plain_json(given if is_plain else schema_of(given, "schema"), "schema")
        Schema(schema, "schema")
    except InvalidArgument as error:
        raise ConstraintError(str(error), argument="schema") from None
    except RecursionError:
        raise ConstraintError(
            "schema: found a type that is part of itself, expected types that end",
            argument="schema",
        ) from None
    return Structure(kind="schema", value=schema, python_type=None if is_plain else given)


def _read_choices(given: Any) -> tuple[str, ...]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        _wrong("choices", type(given).__name__, "a list of strings")
    if not 1 <= len(given) <= MAX_CHOICES:
        _wrong("choices", f"{len(given):,} entries", f"1 to {MAX_CHOICES:,}")
    size = 0
    for index, choice in enumerate(given):
        if not isinstance(choice, str) or not choice:
            _wrong(f"choices[{index}]", repr(choice), "a string of at least one character")
        _checked_text(f"choices[{index}]", choice, MAX_BYTES)
        size += len(choice)
    if size > MAX_BYTES:
        _wrong("choices", f"{size:,} characters", f"at most {MAX_BYTES:,} together")
    return tuple(given)


def _checked_text(where: str, text: str, limit: int) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        _wrong(where, f"half a surrogate pair at character {error.start}", "characters of Unicode")
    if size > limit:
        _wrong(where, f"{size:,} bytes", f"at most {limit:,}")
    return text


def _wrong(where: str, found: str, expected: str) -> NoReturn:
    raise InvalidArgument(
        f"{where}: found {found}, expected {expected}", argument=where.partition("[")[0]
    )


class Matcher:
    """A compiled structure and how much of it has been written."""

    def __init__(self, native: Any, words: Words, end: int) -> None:
        self._native, self._words, self._end = native, words, end

    def copy(self) -> Matcher:
        """Another one at the same place."""
        return Matcher(self._native.deep_copy(), np.empty_like(self._words), self._end)

    def allowed(self) -> tuple[Words, bool]:
        """Ids of text that may come next, and whether it may end here. Control tokens are never
        among them but for those that a grammar of ours names. Valid until the next call.

        Raises:
            ConstraintError: a limit on the work for one token was reached.
        """
        words = self._words
        self._native.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        self._require_well("mask")
        word, bit = divmod(self._end, 32)
        may_end = bool(words[word] >> np.uint32(bit) & np.uint32(1))
        words[word] &= np.uint32(~(1 << bit) & 0xFFFFFFFF)
        return words, may_end

    def push(self, token_id: int) -> None:
        """One more token was written.

        Raises:
            ConstraintError: as for `allowed`.
        """
        self._native.consume_token(token_id)
        self._require_well("token")

    @property
    def is_whole(self) -> bool:
        """What was written may end here."""
        return bool(self._native.is_accepting())

    def _require_well(self, where: str) -> None:
        if self._native.is_error():
            raise ConstraintError(
                f"{where}: the constraint cannot go on: {_short(self._native.get_error())}; is the "
                "structure too large?"
            )


class Compiler:
    """Compiles structures for one vocabulary; made once a model, at its first structure."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        """
        Raises:
            MissingExtra: llguidance is not installed.
            Unsupported: a vocabulary without an end.
            CheckpointError: tokenizer.json turns out to be damaged.
        """
        llguidance = _llguidance()
        if tokenizer.eos_id is None:
            raise Unsupported(
                "generate: this vocabulary has no <eos>, expected one to end a structure with"
            )
        self._llguidance, self._end = llguidance, tokenizer.eos_id
        pieces = tokenizer.pieces()[:vocab_size]
        self._tokenizer = llguidance.LLTokenizer(
            llguidance.TokenizerWrapper(_Vocabulary(tokenizer, pieces)), n_vocab=len(pieces)
        )
        self._word_count = -(-vocab_size // 32)
        self._limits = llguidance.LLParserLimits(verbose_errors=False, max_items_in_row=MAX_ITEMS)

    def compile(self, structure: Structure) -> Matcher:
        """
        Raises:
            ConstraintError: it does not compile, or not within COMPILE_S.
        """
        native = self._llguidance.LLMatcher
        if structure.kind == "schema":
            grammar = native.grammar_from_json_schema(
                _exact_formats(structure.value), overrides=_JSON
            )
        elif structure.kind == "regex":
            grammar = native.grammar_from_regex(structure.value)
        elif structure.kind == "choices":
            listed = " | ".join(map(_lark_string, structure.value))
            grammar = native.grammar_from_lark(f"start: CHOICE\nCHOICE: {listed}\n")
        else:
            grammar = native.grammar_from_lark(structure.value)
        return self.compile_grammar(grammar, structure.kind)

    def compile_lark(self, grammar: str, where: str) -> Matcher:
        """As `compile`, of a grammar in Lark; `where` is for errors."""
        return self.compile_grammar(self._llguidance.LLMatcher.grammar_from_lark(grammar), where)

    def compile_grammar(self, grammar: str, where: str) -> Matcher:
        """As `compile`, of a grammar in llguidance's own form; `where` is for errors."""

        def work() -> Matcher:
            native = self._llguidance.LLMatcher(
                self._tokenizer, grammar, log_level=0, limits=self._limits
            )
            matcher = Matcher(native, np.zeros(self._word_count, np.uint32), self._end)
            if native.is_error():
                raise ConstraintError(
                    f"{where}: does not compile: {_short(native.get_error())}", argument=where
                )
            # The first mask does some of the work that was put off.
            try:
                words, may_end = matcher.copy().allowed()
                has_text = may_end or bool(words.any())
            except ConstraintError as error:
                if _NO_TEXT not in str(error):
                    raise
                has_text = False
            if not has_text:
                raise ConstraintError(
                    f"{where}: found a structure that no text has, expected one that some has",
                    argument=where,
                )
            return matcher

        return _within(COMPILE_S, work, where)


def _exact_formats(schema: Any) -> Any:
    """The schema with a pattern in the place of each format that llguidance takes too widely."""
    if not isinstance(schema, dict):
        return schema
    copy = dict(schema)
    for key, value in schema.items():
        if key in _ONE_SCHEMA:
            copy[key] = _exact_formats(value)
        elif key in _OF_SCHEMAS and isinstance(value, list):
            copy[key] = [_exact_formats(item) for item in value]
        elif key in _NAMED_SCHEMAS and isinstance(value, dict):
            copy[key] = {name: _exact_formats(item) for name, item in value.items()}
    pattern = FORMATS.get(str(copy.get("format")))
    if pattern is not None:
        del copy["format"]
        if "pattern" in copy:
            copy["allOf"] = [*copy.get("allOf", ()), {"pattern": pattern}]
        else:
            copy["pattern"] = pattern
    return copy


def is_installed() -> bool:
    """Whether structures can be compiled: the extra `constrain` is there."""
    return importlib.util.find_spec("llguidance") is not None


def _llguidance() -> Any:
    try:
        import llguidance
    except ImportError:
        raise MissingExtra(
            "schema, regex, choices, grammar and strict tools need llguidance: "
            "pip install 'cabochon[constrain]'",
            extra="constrain",
        ) from None
    return llguidance


class _Vocabulary:
    """A tokenizer as llguidance reads it."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, pieces: list[bytes]) -> None:
        self.eos_token_id = tokenizer.eos_id
        self.tokens = pieces
        self.special_token_ids = sorted(
            token for token in tokenizer.control_ids.values() if token < len(pieces)
        )
        self._encode = tokenizer.encode

    def __call__(self, text: str) -> list[int]:
        return self._encode(text)


def _lark_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _within(limit_s: float, work: Callable[[], _T], where: str) -> _T:
    """What `work` gives, on a thread that is left behind when it takes longer: what runs there is
    native code without the GIL, which nothing can stop and whose own limits end it later."""
    results: list[_T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # given to the caller's thread
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True, name="cabochon-compile")
    thread.start()
    thread.join(limit_s)
    if failures:
        raise failures[0]
    if not results:
        raise ConstraintError(
            f"{where}: takes more than {limit_s:g} s to compile, expected less: make it smaller",
            argument=where,
        )
    return results[0]


def _short(message: str) -> str:
    line = re.sub(r"\s+", " ", message).strip()
    return line if len(line) <= 300 else line[:297] + "..."
