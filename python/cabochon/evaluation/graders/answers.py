"""Short answers: a number, a letter, a mathematical expression, a scored choice, hidden values.

Two extractors each: the strict one reads the form that the prompt asked for, the lenient one the
last plausible answer. Prose without an answer yields none from either.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from ...errors import MissingExtra
from ..cases import Case
from ..grading import Output, Verdict, failed, grader, normal, passed, unparsed

# Longer text holds no short answer; what is cut off here is its front.
_TAIL = 20_000
_LONGEST_EXPRESSION = 400  # characters given to the algebra library
_ANSWER_LINE = re.compile(r"[*_`\s]{0,4}answer[*_`]{0,3}\s?:\s?(.{1,200})", re.IGNORECASE)
_EMPHASIS = "*_` \t"


def answer_line(text: str) -> str | None:
    """What follows "Answer:" on the last line with anything on it; emphasis is no part of it."""
    lines = text[-_TAIL:].strip().splitlines()
    found = _ANSWER_LINE.fullmatch(lines[-1].strip()) if lines else None
    return found.group(1).strip(_EMPHASIS) or None if found else None


# --- numbers -------------------------------------------------------------------------------------

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d{1,40})(?:\.\d{1,40})?")
_AROUND_NUMBER = "$\u20ac\u00a3% "


def number(text: str) -> Decimal | None:
    """The number that a text is, thousands in groups of three, with or without a currency sign."""
    digits = unicodedata.normalize("NFKC", text).strip(_AROUND_NUMBER).rstrip(".")
    digits = digits.replace("\u2212", "-")
    if not _NUMBER.fullmatch(digits):
        return None
    try:
        return Decimal(digits.replace(",", ""))
    except InvalidOperation:
        return None


def last_number(text: str) -> Decimal | None:
    """The last number in a text that says it has an answer: after "####", in a box, after "=", or
    after "answer"."""
    tail = text[-_TAIL:]
    for mark in ("####", "\\boxed{", "answer", "="):
        at = tail.lower().rfind(mark)
        if at >= 0 and (found := _NUMBER.search(tail[at + len(mark) : at + len(mark) + 200])):
            return number(found.group())
    return number(tail.strip()[:100])


@grader("number")
def grade_number(case: Case, output: Output) -> Verdict:
    """expected: {"number": "72"}; asked for: a last line "Answer: 72"."""
    gold = number(str(case.expected["number"]))
    line = answer_line(output.text)
    strict, lenient = number(line) if line else None, last_number(output.text)
    last = None if lenient is None else str(lenient)
    if strict is None:
        return unparsed(extracted_lenient=last, near_miss=gold is not None and lenient == gold)
    if gold is not None and strict == gold:
        return passed(str(strict), extracted_lenient=last)
    return failed("wrong_value", str(strict), extracted_lenient=last)


# --- letters -------------------------------------------------------------------------------------

_LETTER_FORMS = (
    re.compile(r"answer(?: is)?\s?:?\s?[*_`(\[]{0,3}([A-Z])(?![A-Za-z'])", re.IGNORECASE),
    re.compile(r"\b(?:option|choice) [*_`(\[]{0,3}([A-Z])(?![A-Za-z'])", re.IGNORECASE),
    re.compile(r"(?:^|\n)[*_`(\[]{1,3}([A-Z])[)\]*_`.:]{1,3}"),
    re.compile(r"\\boxed\{(?:\\text\{)?([A-Z])\}"),
)
# "answer is a ..." is an article: there a letter counts only where nothing follows it.
_ARTICLE = re.compile(r"[ \t][a-z]")


def letter(text: str, letters: str) -> str | None:
    """The option that a text is: one of `letters`, alone, in brackets, or before a bracket."""
    bare = text.strip(_EMPHASIS).strip("()[].:")
    return bare if len(bare) == 1 and bare in letters else None


def last_letter(text: str, letters: str) -> str | None:
    """The last option that a text names as one; the article "a" is none."""
    tail = text[-_TAIL:]
    if alone := letter(tail.strip(), letters):
        return alone
    best: tuple[int, str] | None = None
    for form in _LETTER_FORMS:
        for found in form.finditer(tail):
            name = found.group(1).upper()
            is_article = found.group(1) in "aAI" and _ARTICLE.match(tail, found.end(1))
            is_lower = found.group(1).islower()
            if name in letters and not is_article and not is_lower:
                best = max(best or (-1, ""), (found.start(1), name))
    return best[1] if best else None


@grader("letter")
def grade_letter(case: Case, output: Output) -> Verdict:
    """expected: {"letter": "C", "letters": "ABCD"}; asked for: a last line "Answer: C"."""
    gold, letters = case.expected["letter"], case.expected["letters"]
    line = answer_line(output.text)
    strict = letter(line, letters) if line else None
    lenient = last_letter(output.text, letters)
    if strict is None:
        return unparsed(extracted_lenient=lenient, near_miss=lenient == gold)
    if strict == gold:
        return passed(strict, extracted_lenient=lenient)
    return failed("wrong_choice", strict, extracted_lenient=lenient)


# --- mathematical expressions --------------------------------------------------------------------


def boxed(text: str) -> str | None:
    """What stands in the last \\boxed{...}, braces balanced; None without one that is closed."""
    tail = text[-_TAIL:]
    at = tail.rfind("\\boxed{")
    if at < 0:
        return None
    depth, start = 0, at + len("\\boxed{")
    for index in range(start, len(tail)):
        if tail[index] == "{":
            depth += 1
        elif tail[index] == "}":
            if depth == 0:
                return tail[start:index].strip() or None
            depth -= 1
    return None


# Towers of powers and factorials of long numbers would be computed for hours.
_HUGE = re.compile(r"\^\s?\{?[^{}]{0,40}\^|\^\s?\{?\s?-?\d{4}|\d{3}\s?!|!\s?!|\d{60}")
_SPACING = re.compile(r"\\[,;:! ]|\\(?:left|right)(?![a-z])|[\s$]")


def _plain(expression: str) -> str:
    same = {"dfrac": "frac", "tfrac": "frac"}
    text = _SPACING.sub("", expression)
    for name, other in same.items():
        text = text.replace(f"\\{name}", f"\\{other}")
    return text.rstrip(".")


def equal_expressions(gold: str, found: str) -> bool:
    """Whether two expressions in LaTeX are equal: as text but for spacing, or by algebra.

    Raises:
        MissingExtra: the package math-verify is not installed.
    """
    if _plain(gold) == _plain(found):
        return True
    if len(found) > _LONGEST_EXPRESSION or _HUGE.search(found):
        return False
    try:
        import math_verify
    except ImportError as error:
        raise MissingExtra(
            "evaluation: answers of MATH are compared by math-verify: pip install 'cabochon[eval]'",
            extra="eval",
        ) from error
    try:
        # Without its own clocks, which stop nothing outside of the main thread.
        sides = [math_verify.parse(f"${side}$", parsing_timeout=None) for side in (gold, found)]
        return bool(sides[0] and sides[1]) and bool(
            math_verify.verify(sides[0], sides[1], timeout_seconds=None)
        )
    except Exception:  # text that is no expression equals nothing
        return False


@grader("expression")
def grade_expression(case: Case, output: Output) -> Verdict:
    """expected: {"expression": "\\\\frac{3}{4}"}; asked for: the answer in \\boxed{}."""
    gold, strict = case.expected["expression"], boxed(output.text)
    line = answer_line(output.text)
    lenient = strict or (line.strip("$") if line else None)
    if strict is None:
        near = lenient is not None and equal_expressions(gold, lenient)
        return unparsed(extracted_lenient=lenient, near_miss=near)
    if equal_expressions(gold, strict):
        return passed(strict, extracted_lenient=lenient)
    return failed("wrong_value", strict, extracted_lenient=lenient)


# --- scored choices ------------------------------------------------------------------------------


def best_choice(logprobs: Sequence[float], num_bytes: Sequence[int], rule: str) -> int:
    """The choice of the highest log-probability, "sum" or "per_byte"; ties to the first."""
    if rule == "per_byte":
        values = [value / max(1, size) for value, size in zip(logprobs, num_bytes, strict=True)]
    else:
        values = list(logprobs)
    return max(range(len(values)), key=lambda index: (values[index], -index))


@grader("choice")
def grade_choice(case: Case, output: Output) -> Verdict:
    """expected: {"choices": [...], "answer": 2, "rule": "sum"}: scored by log-probability; an
    output that is text instead counts as the choice that it is."""
    choices: list[str] = list(case.expected["choices"])
    gold = case.expected["answer"]
    if output.choice_logprobs is not None:
        found = best_choice(
            output.choice_logprobs,
            [len(choice.encode("utf-8", "surrogatepass")) for choice in choices],
            case.expected.get("rule", "sum"),
        )
    elif output.text in choices:
        found = choices.index(output.text)
    else:
        return unparsed()
    return passed(found) if found == gold else failed("wrong_choice", found)


# --- hidden values -------------------------------------------------------------------------------


@grader("needles")
def grade_needles(case: Case, output: Output) -> Verdict:
    """expected: {"prefix": "maple", "values": [...]}: the answer begins with the prefix, then every
    value stands in it exactly. The score is the share of values; others of the text count against
    it where `rivals` names them."""
    expected: dict[str, Any] = dict(case.expected)
    text = output.text.strip()
    head = text[: 4 * len(expected["prefix"]) + 100]  # normalising a megabyte takes a second
    if not normal(head).startswith(normal(expected["prefix"])):
        near = all(_stands(value, text) for value in expected["values"])
        return unparsed("no_prefix", near_miss=near)
    found = [value for value in expected["values"] if _stands(value, text)]
    rivals = [value for value in expected.get("rivals", ()) if _stands(value, text)]
    if rivals:
        return failed("rival_value", found)
    if len(found) == len(expected["values"]):
        return passed(found)
    return failed("missing_value", found, score=len(found) / len(expected["values"]))


def _stands(value: str, text: str) -> bool:
    at = text.find(value)
    while at >= 0:
        before, after = text[at - 1 : at], text[at + len(value) : at + len(value) + 1]
        if not before.isalnum() and not after.isalnum():
            return True
        at = text.find(value, at + 1)
    return False
