"""Grader `turns`: checks on the answers of a conversation, and on its twin in one turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..cases import Case
from ..grading import Output, Verdict, failed, grader, passed, unparsed
from .forms import any_stands, folded, stands


@grader("turns")
def grade(case: Case, output: Output) -> Verdict:
    """Share of `expected["checks"]` that hold; an empty answer of any turn is one more that fails.

    A check: {"turn": from 1, "has": [[forms], ...], "lacks": [forms], "order": [forms],
    "form": {...}}; of every group of `has` one form must stand in the answer, of `lacks` none.
    A twin is a case of one turn with the same grader: {"messages": [...], "checks": [...]}.

    Reasons, that of the first check that fails: "in_thought", "empty_turn", "repeated_answer",
    "both_values", "stale_value", "missing", "order", "format".
    """
    answers = (*output.before, output)
    checks = sorted(case.expected["checks"], key=lambda check: int(check["turn"]))
    reasons = [(int(c["turn"]), _wrong(c, answers, case.language)) for c in checks]
    asked = {turn for turn, _ in reasons}
    silent = [
        (turn, "empty_turn")
        for turn, answer in enumerate(answers, 1)
        if turn not in asked and not answer.text.strip()
    ]
    wrong = sorted((turn, reason) for turn, reason in reasons if reason) + silent
    said = [answer.text[:2000] for answer in answers]
    if not wrong:
        return passed(said, parts={"checks": len(checks), "right": len(checks)})
    right = len(checks) - sum(bool(reason) for _, reason in reasons)
    parts = {"checks": len(checks), "right": right, "wrong_turns": [turn for turn, _ in wrong]}
    if not any(answer.text.strip() for answer in answers):
        return unparsed(min(wrong)[1], parts=parts)
    score = right / (len(checks) + len(silent))
    return failed(min(wrong)[1], said, score=score, parts=parts)


def _wrong(check: Mapping[str, Any], answers: Sequence[Output], language: str) -> str:
    """Why a check does not hold, "" where it does."""
    turn = int(check["turn"])
    if turn > len(answers):
        return "empty_turn"
    answer = answers[turn - 1]
    text = folded(answer.text, language)
    if not text:
        return "in_thought" if (answer.thinking or "").strip() else "empty_turn"
    has = all(any_stands(forms, text, language) for forms in check.get("has", ()))
    has_stale = any_stands(check.get("lacks", ()), text, language)
    reason = ""
    if has_stale:
        reason = "both_values" if has and check.get("has") else "stale_value"
    elif not has:
        reason = "missing"
    elif not _is_ordered(check.get("order", ()), text, language):
        reason = "order"
    elif not _is_formed(check.get("form", {}), answer.text):
        reason = "format"
    if reason and turn > 1 and text == folded(answers[turn - 2].text, language):
        return "repeated_answer"
    return reason


def _is_ordered(forms: Sequence[str], text: str, language: str) -> bool:
    """Whether the first places of the forms rise; a form that is missing has none."""
    if not all(stands(form, text, language) for form in forms):
        return False
    places = [text.find(folded(form, language)) for form in forms]
    return places == sorted(places)


def _is_formed(form: Mapping[str, Any], text: str) -> bool:
    """Whether an answer keeps a rule of form: starts, ends, max_words, min_words, lines, bullets,
    upper, no_digits, question."""
    text = text.strip()
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    bullets = [line for line in lines if line.startswith(("- ", "* ", "\u2022 "))]
    letters = [c for c in text if c.isalpha()]
    holds: dict[str, Callable[[Any], bool]] = {
        "starts": lambda value: text.casefold().startswith(value.casefold()),
        "ends": lambda value: text.casefold().endswith(value.casefold()),
        "max_words": lambda value: len(text.split()) <= value,
        "min_words": lambda value: len(text.split()) >= value,
        "lines": lambda value: len(lines) == value,
        "bullets": lambda value: len(bullets) == value,
        "upper": lambda value: all(c.isupper() for c in letters) == value,
        "no_digits": lambda value: any(c.isdigit() for c in text) != value,
        "question": lambda value: ("?" in text) == value,
    }
    return all(holds[name](value) for name, value in form.items())
