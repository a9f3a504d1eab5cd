"""What a grader sees and says, and the register of graders.

A grader is a pure function of a case and an output: no clock, no randomness, no locale, no network,
and a verdict for anything, also for noise. docs/suites.md says what each one asks for.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..chat.parser import read_written
from ..errors import EvaluationError
from ..types import Record, ToolCall
from .cases import Case

PASS, PARTIAL, FAIL = "pass", "partial", "fail"
UNPARSED, TRUNCATED, REFUSED = "unparsed", "truncated", "refused"
NOT_EXECUTED, ERROR = "not_executed", "error"
UNSCORED = (NOT_EXECUTED, ERROR)  # counted apart: neither 0 nor 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One answer of a model."""

    text: str  # the answer alone
    thinking: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    raw_text: str = ""  # control strings visible
    finish_reason: str = "stop"
    cut_in: str | None = None  # "thinking", "answer", "tool_call" where it was cut
    before: tuple[Output, ...] = ()  # answers of the earlier turns
    choice_logprobs: tuple[float, ...] | None = None  # of a case whose choices are scored


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict(Record):
    """What a grader says of one output."""

    score: float | None  # 0 to 1; None where nothing was graded
    verdict: str
    reason: str = ""  # code of a failure, "" of a pass
    extracted: Any = None  # what the strict extractor found, in types that JSON has
    extracted_lenient: Any = None  # what the lenient one found
    near_miss: bool = False  # right content in a form that was not asked for
    parts: Any = None  # more figures of the same grading (precision, share of tests, ...)


def passed(extracted: Any = None, **more: Any) -> Verdict:
    """All of it is right."""
    return Verdict(score=1.0, verdict=PASS, extracted=extracted, **more)


def failed(reason: str, extracted: Any = None, *, score: float = 0.0, **more: Any) -> Verdict:
    """Wrong, or with a score above 0 right in part."""
    verdict = PARTIAL if score > 0 else FAIL
    return Verdict(score=score, verdict=verdict, reason=reason, extracted=extracted, **more)


def unparsed(reason: str = "no_answer", **more: Any) -> Verdict:
    """The strict extractor found no answer."""
    return Verdict(score=0.0, verdict=UNPARSED, reason=reason, **more)


Grader = Callable[[Case, Output], Verdict]
_GRADERS: dict[str, Grader] = {}
# Modules of graders/: each registers its graders when it is imported.
_MODULES = {
    "calls": "calls",
    "f1": "extraction",
    "label": "label",
    "faithful": "faithful",
    "grounded": "grounded",
    "tests": "code",
    "language": "language",
    "turns": "turns",
    "injection": "safety",
    "privacy": "safety",
    "refusal": "safety",
    "json": "structured",
    **dict.fromkeys(("number", "letter", "expression", "choice", "needles"), "answers"),
}


def grader(name: str) -> Callable[[Grader], Grader]:
    """Registers a grader under a name that cases use."""

    def register(function: Grader) -> Grader:
        _GRADERS[name] = function
        return function

    return register


def find_grader(name: str) -> Grader:
    """The grader of that name.

    Raises:
        EvaluationError: there is none.
    """
    if name not in _GRADERS and name in _MODULES:
        importlib.import_module(f".graders.{_MODULES[name]}", __package__)
    if name not in _GRADERS:
        known = sorted({*_MODULES, *_GRADERS})
        raise EvaluationError(f"grader {name!r} is not known, expected one of {known}")
    return _GRADERS[name]


def grader_hash(function: Grader) -> str:
    """SHA-256 of the source of the module that holds the grader: it changes when grading may."""
    module = inspect.getmodule(function)
    try:
        source = inspect.getsource(module if module is not None else function)
    except (OSError, TypeError):
        source = repr(function)
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()


def grade(case: Case, output: Output, function: Grader | None = None) -> Verdict:
    """The verdict on an output; never an exception of a grader.

    An answer that was cut keeps what it earned and is "truncated" unless it passes.
    """
    function = function or find_grader(case.grader)
    try:
        verdict = function(case, output)
    except Exception as error:  # our fault: shown, and never counted as 0 or 1
        return Verdict(score=None, verdict=ERROR, reason=f"{type(error).__name__}: {error}"[:300])
    cut = any(item.finish_reason == "length" for item in (*output.before, output))
    if cut and verdict.verdict not in (PASS, *UNSCORED):
        reason = f"cut_in_{output.cut_in or 'answer'}"
        fields = {name: getattr(verdict, name) for name in Verdict.__slots__}
        return Verdict(**{**fields, "verdict": TRUNCATED, "reason": reason})
    return verdict


def written(raw_text: str | Sequence[str], **more: Any) -> Output:
    """The output that was written as `raw_text`, or, of a conversation, one text a turn."""
    texts = [raw_text] if isinstance(raw_text, str) else list(raw_text)
    before: tuple[Output, ...] = ()
    for text in texts[:-1]:
        before = (*before, _written(text, before=before))
    return _written(texts[-1], before=before, **more)


def _written(raw_text: str, **more: Any) -> Output:
    parser = read_written(raw_text)
    return Output(
        text=parser.text,
        thinking=parser.thinking,
        tool_calls=parser.tool_calls,
        raw_text=raw_text,
        **more,
    )


# --- normalisation: the same everywhere ----------------------------------------------------------

_DIGIT = re.compile(r"(?![0-9])\d")  # of another script
_COMMA_LANGUAGES = frozenset({"de", "fr", "es", "it", "pt", "pl", "tr"})
_COMMA = re.compile(r"(?<=\d),(?=\d)")


def normal(text: str, language: str = "en") -> str:
    """NFKC, case folded, spaces collapsed, digits of every script as ASCII, the decimal comma of
    the language as a point, one full stop at the end removed. Nothing else."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    digits = _DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), folded)
    if language in _COMMA_LANGUAGES:
        digits = _COMMA.sub(".", digits)
    spaced = " ".join(digits.split())
    return spaced[:-1].rstrip() if spaced.endswith((".", "\u3002")) else spaced
