"""`faithful`: a summary that is short enough, says nothing that its passage does not, and has what
its reader needs.

expected: `passage`; `words`, the limit, of which a tenth more is let through; `facts`, each with
`forms`, of which one must be there (terms joined by " + " must all be there), and, where it has a
direction, `about`, what it is said of, `says`, words of the right one, and `flips`, words of the
wrong one. Gates come first: length, numbers, names, directions. One that fails gives 0; else the
score is the share of facts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from ..cases import Case
from ..grading import Output, Verdict, failed, grader, normal, passed, unparsed
from .matchers import find_phrase, has_phrase

_TOLERANCE = 1.1
_LONGEST_WORD = 40  # characters, on average and spaces included; longer ones are noise
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?", re.ASCII)
_PERCENT = re.compile(r" ?(?:%|per ?cent\b)", re.IGNORECASE)
_GROUPED = re.compile(r"(?<=\d),(?=\d{3})", re.ASCII)
_CLOCK = re.compile(r"\b(\d{1,2})[:.]\d\d\b|\b(\d{1,2}) ?[ap]\.?m\b", re.ASCII | re.IGNORECASE)
_TOLD_CLOCK = re.compile(
    r"\b(\w+) (?:at night|in the (?:afternoon|evening)|o'clock)", re.IGNORECASE
)
_FULL_HOUR = re.compile(r"(?<=\d):00\b")
_SCALE = re.compile(r"[ -]?(thousand|million|billion|k|m|bn)\b", re.IGNORECASE)
_SCALES = {"thousand": 3, "k": 3, "million": 6, "m": 6, "billion": 9, "bn": 9}
_WORD = re.compile(r"[^\W\d_]+")
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")
# Where another thing may begin to be said.
_CLAUSE = re.compile(r"[,;:]\s|\b(?:while|but|whereas|although|though)\b")
_BEFORE = re.compile(r"[\s\"'*_#()\u2018-\u201d-]+$")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS = {
    **{word: value for value, word in enumerate(_UNITS)},
    **{word: 10 * value for value, word in enumerate(_TENS, 2)},
}
_POWERS = {"hundred": 100, "thousand": 1000, "million": 10**6}
# Short forms that a passage need not have spelt out.
_COMMON = {"ceo", "cfo", "hr", "it", "eu", "uk", "us", "eur", "gbp", "usd", "vat", "pm", "am"}


@grader("faithful")
def faithful(case: Case, output: Output) -> Verdict:
    """A summary for a reader."""
    limit = case.expected["words"]
    if len(output.text) > limit * _LONGEST_WORD:
        return failed("too_long")
    text = unicodedata.normalize("NFKC", output.text)
    words = sum(any(c.isalnum() for c in word) for word in text.split())
    if not words:
        return unparsed()
    if words > limit * _TOLERANCE:
        return failed("too_long", {"words": words})
    passage = unicodedata.normalize("NFKC", case.expected["passage"])
    if (number := _unsupported_number(text, passage)) is not None:
        return failed("unsupported_number", {"words": words, "found": number})
    if (name := _unsupported_name(text, passage)) is not None:
        return failed("unsupported_name", {"words": words, "found": name})
    sentences = [_canonical(part, case.language) for part in _SENTENCE.split(text)]
    whole, facts = _canonical(text, case.language), case.expected["facts"]
    there = [_is_there(fact, whole, case.language) for fact in facts]
    found = {"words": words, "facts": there}
    if any(_is_flipped(fact, sentences, case.language) for fact in facts if "flips" in fact):
        return failed("flipped_fact", found)
    if all(there):
        return passed(found, extracted_lenient=found)
    share = sum(there) / len(there)
    return failed("missing_fact", found, score=share, extracted_lenient=found)


def _canonical(text: str, language: str) -> str:
    """Normalised, 1,250 as 1250 and "5 percent" as 5%."""
    return _PERCENT.sub("%", _GROUPED.sub("", normal(text, language)))


# --- numbers -------------------------------------------------------------------------------------


def numbers(text: str) -> Iterable[tuple[Decimal, bool]]:
    """Every number of a text and whether it is a percentage, words included; "one" is none."""
    for found in _NUMBER.finditer(text):
        value = Decimal(found[0].replace(",", "")).normalize()
        scale = _SCALE.match(text, found.end())
        if scale:
            value = value.scaleb(_SCALES[scale[1].lower()]).normalize()
        yield value, bool(_PERCENT.match(text, found.end()))
    total, end = 0, -1
    for word in _WORD.finditer(text.casefold()):
        value_of = _WORDS.get(word[0])
        goes_on = 0 <= end == word.start() - 1
        if total and not (goes_on and (value_of is not None or word[0] in _POWERS)):
            yield Decimal(total), bool(_PERCENT.match(text, end))
            total = 0
        if value_of is not None:
            total, end = total + value_of, word.end()
        elif word[0] in _POWERS and total:
            total, end = total * _POWERS[word[0]], word.end()
        elif word[0] == "dozen":
            yield Decimal(12), False
    if total:
        yield Decimal(total), bool(_PERCENT.match(text, end))


def _unsupported_number(text: str, passage: str) -> str | None:
    """A number or percentage that the passage does not have."""
    listed = list(numbers(passage))
    shares = {value for value, is_share in listed if is_share}
    plain = {value for value, _ in listed} | {Decimal(1)}
    # What 1.2 million is said of may go on as 1.2, a day as its month's number, a clock by halves.
    plain |= {Decimal(n[0].replace(",", "")).normalize() for n in _NUMBER.finditer(passage)}
    low = passage.casefold()
    plain |= {Decimal(n) for n, month in enumerate(_MONTHS, 1) if month in low}
    for found in _CLOCK.finditer(passage):
        hour = int(found[1] or found[2])
        plain |= {Decimal(hour + 12), Decimal(abs(hour - 12))}
    told = (_WORDS.get(found[1], 0) for found in _TOLD_CLOCK.finditer(low))
    plain |= {Decimal(hour + 12) for hour in told if hour}
    for value, is_share in numbers(_FULL_HOUR.sub("", text)):
        if value not in (shares if is_share else plain):
            return f"{value:f}"[:40] + ("%" if is_share else "")
    return None


# --- names ---------------------------------------------------------------------------------------


def _unsupported_name(text: str, passage: str) -> str | None:
    """A word with a capital inside a sentence that the passage does not have."""
    known = {word[0] for word in _WORD.finditer(passage.casefold())}
    for found in _WORD.finditer(text):
        word = found[0]
        if not word[0].isupper() or len(word) == 1:
            continue
        before = _BEFORE.sub("", text[max(0, found.start() - 12) : found.start()])
        if (
            not before
            or before[-1] in ".!?:;\u2022"
            or "\n" in text[found.start() - 2 : found.start()]
        ):
            continue
        low = word.casefold()
        if low in _COMMON and word.isupper():
            continue
        if low not in known and low.removesuffix("s") not in known:
            return word[:40]
    return None


# --- facts ---------------------------------------------------------------------------------------


def _is_there(fact: Mapping[str, Any], text: str, language: str) -> bool:
    return any(
        all(has_phrase(_canonical(term, language), text) for term in form.split(" + "))
        for form in fact["forms"]
    )


def _is_flipped(fact: Mapping[str, Any], sentences: Iterable[str], language: str) -> bool:
    """Whether the word of direction that is nearest to what it is about is a wrong one. A word of
    the same clause is nearer than all others of the sentence."""
    words = [(word, False) for word in fact["says"]] + [(word, True) for word in fact["flips"]]
    for sentence in sentences:
        borders = [found.start() for found in _CLAUSE.finditer(sentence)]
        places = [
            (at, at + len(term), is_wrong)
            for word, is_wrong in words
            for term in [_canonical(word, language)]
            for at in find_phrase(term, sentence)
        ]
        for about in fact["about"]:
            term = _canonical(about, language)
            for at in find_phrase(term, sentence):
                near = [
                    (
                        any(min(at, begin) < border < max(at, begin) for border in borders),
                        max(begin - at - len(term), at - end, 0),
                        begin - end,  # of two that are as near, the longer: "not approved"
                        is_wrong,
                    )
                    for begin, end, is_wrong in places
                ]
                if near and min(near)[-1]:
                    return True
    return False
