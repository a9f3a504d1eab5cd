"""`label`: the whole answer is one allowed label, or a list of them between commas.

expected: `labels`, the right ones; `allowed`, all of them; `many`, whether a list may be given. A
list is compared as a set. Right or wrong, nothing between; `parts` has what macro F1 is made of.
"""

from __future__ import annotations

import re

from ..cases import Case
from ..grading import Output, Verdict, failed, grader, normal, passed, unparsed

_LONGEST = 4_000  # characters: several times all labels of a case
# What may stand around an answer that was right all the same: reported, never scored.
_LEAD = re.compile(r"^(?:the )?(?:final )?(?:labels?|intents?|topics?|answer)(?: is| are|:) *")
_WRAPPING = "`'\"*_[](){}<> \n\t"


@grader("label")
def label(case: Case, output: Output) -> Verdict:
    """One label, or a set of them."""
    text, expected = output.text, case.expected
    if len(text) > _LONGEST:
        return unparsed("too_long")
    allowed = {normal(name): name for name in expected["allowed"]}
    right, many = set(expected["labels"]), bool(expected.get("many"))
    found = _labels(normal(text), allowed)
    lenient = found or _labels(_unwrapped(text), allowed)
    given = sorted(set(found))
    if not found or (len(found) > 1 and not many):
        reason = "several_labels" if found else "not_a_label" if text.strip() else "no_answer"
        near = not found and set(lenient) == right
        return unparsed(reason, extracted_lenient=sorted(set(lenient)) or None, near_miss=near)
    parts = {"labels": sorted(right), "given": given}
    if set(found) == right:
        return passed(given, extracted_lenient=given, parts=parts)
    reason = "wrong_label"
    if many:
        reason = "missing_label" if set(found) < right else "extra_label"
        reason = reason if set(found) < right or right < set(found) else "wrong_label"
    return failed(reason, given, extracted_lenient=given, parts=parts)


def _labels(text: str, allowed: dict[str, str]) -> list[str]:
    """The labels of a list between commas; none where one is not allowed."""
    pieces = [normal(piece) for piece in text.split(",")]
    return [allowed[piece] for piece in pieces] if all(p in allowed for p in pieces) else []


def _unwrapped(text: str) -> str:
    """The last line, without quotes, marks of emphasis, brackets and "Label:"."""
    line = next((line for line in reversed(text.splitlines()) if line.strip(_WRAPPING)), "")
    bare = _LEAD.sub("", normal(line.strip(_WRAPPING))).strip(_WRAPPING)
    return ", ".join(piece.strip(_WRAPPING) for piece in normal(bare).split(","))
