"""Whether one of a case's accepted forms stands in an answer. Knows no language but its digits."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from ..grading import normal
from .matchers import LONGEST


def folded(text: str, language: str = "en") -> str:
    """`normal` of an answer; "" of one that is longer than answers are."""
    if len(text) > LONGEST:
        return ""
    # One character can be eighteen in NFKC: text of such is noise, and would take its time.
    if len(unicodedata.normalize("NFKC", text)) > 2 * LONGEST:
        return ""
    return normal(text, language)


def stands(form: str, text: str, language: str = "en") -> bool:
    """Whether an accepted form stands in a text that `folded` gave.

    Words of Latin script and numbers stand alone: "12" is not in "312" or "12.5", nor "cat" in
    "concatenate". Scripts that write particles onto words, or no spaces, are searched as they are.
    """
    form = normal(form, language)
    at = text.find(form) if form else -1
    while at >= 0:
        if _is_free(text, at, at + len(form)):
            return True
        at = text.find(form, at + 1)
    return False


def any_stands(forms: Iterable[str], text: str, language: str = "en") -> bool:
    """Whether one of them does."""
    return any(stands(form, text, language) for form in forms)


def _is_free(text: str, start: int, end: int) -> bool:
    return not (
        _joins(text[start], text[max(start - 2, 0) : start][::-1])
        or _joins(text[end - 1], text[end : end + 2])
    )


def _joins(edge: str, beyond: str) -> bool:
    """Whether the word or number at an edge goes on; `beyond` has two characters, nearest first."""
    if edge.isdigit():
        return beyond[:1].isdigit() or (
            len(beyond) == 2 and beyond[0] in ".," and beyond[1].isdigit()
        )
    return _is_latin(edge) and (_is_latin(beyond[:1]) or beyond[:1].isdigit())


def _is_latin(character: str) -> bool:
    # Latin letters end with U+024F, Latin Extended-B; Vietnamese and the like are not in a suite.
    return character.isalpha() and character < "\u0250"
