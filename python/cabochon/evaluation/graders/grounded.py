"""`grounded`: an answer that the passages give, with their numbers, or NOT IN CONTEXT.

expected: `answer`, accepted forms; `rivals`, what would be another answer; `needs`, numbers of the
passages that it takes. Where the passages do not say, `answer` is null, and `rivals` are what may
be guessed. The answer is worth 0.7 and the citations 0.3; citations of a wrong answer are worth
nothing, and where nothing is to be found it is all or nothing.
"""

from __future__ import annotations

import re

from ..cases import Case
from ..grading import Output, Verdict, failed, grader, normal, passed, unparsed
from .matchers import LONGEST, find_phrase, has_phrase

ABSENT_PHRASE = "NOT IN CONTEXT"
_CITED = re.compile(r"\[([0-9 ,;\[\]]{1,60})\]")
_LOOSELY_CITED = re.compile(r"(?:\(|passages? |nos?\. ?)([0-9]{1,3})\b")
_NUMBER = re.compile(r"[0-9]{1,9}")
# Ways to say that nothing was found which are not the one that was asked for.
_ABSENT_LOOSELY = (
    *("not stated", "not mentioned", "not given", "not provided", "not specified", "not said"),
    *("do not say", "does not say", "do not mention", "does not mention", "no information"),
    *("not in the context", "not in the passages", "cannot be determined", "not contain"),
)


@grader("grounded")
def grounded(case: Case, output: Output) -> Verdict:
    """An answer and its sources."""
    if len(output.text) > LONGEST:
        return unparsed("too_long")
    if not output.text.strip():
        return unparsed()
    expected, language = case.expected, case.language
    cited = sorted({int(n) for group in _CITED.findall(output.text) for n in _numbers(group)})
    text = normal(_CITED.sub(" ", output.text), language)
    says_absent = has_phrase(normal(ABSENT_PHRASE), text)
    rivals = [normal(form, language) for form in expected["rivals"]]
    if expected["answer"] is None:
        guess = next((form for form in rivals if has_phrase(form, text)), None)
        if says_absent and guess is None:
            return passed(ABSENT_PHRASE, extracted_lenient=ABSENT_PHRASE)
        loosely = any(has_phrase(phrase, text) for phrase in _ABSENT_LOOSELY)
        if loosely and guess is None:
            return unparsed("phrase_missing", extracted_lenient=ABSENT_PHRASE, near_miss=True)
        return failed("guessed", guess)
    answers = [normal(form, language) for form in expected["answer"]]
    answer = next((form for form in answers if has_phrase(form, text)), None)
    rest = text
    for accepted in sorted(answers, key=len, reverse=True):
        rest = _without(accepted, rest)
    rival = next((form for form in rivals if has_phrase(form, rest)), None)
    near = sorted({int(n) for n in _LOOSELY_CITED.findall(text)})
    found = {"answer": answer, "cited": cited}
    lenient = {"answer": answer, "cited": cited or near}
    if answer is None or rival is not None:
        reason = "rival_answer" if rival else "said_absent" if says_absent else "wrong_answer"
        return failed(reason, {**found, "answer": rival or answer})
    if says_absent:
        return failed("said_absent", found)
    if (fault := _citation(cited, set(expected["needs"]))) is None:
        return passed(found, extracted_lenient=lenient)
    is_near = _citation(near, set(expected["needs"])) is None and not cited
    return failed(fault, found, score=0.7, extracted_lenient=lenient, near_miss=is_near)


def _numbers(group: str) -> list[str]:
    return _NUMBER.findall(group)


def _citation(cited: list[int], needs: set[int]) -> str | None:
    """What is wrong with the citations."""
    if not cited:
        return "no_citation"
    if not needs <= set(cited):
        return "wrong_citation"
    return "extra_citation" if len(set(cited) - needs) > 1 else None


def _without(phrase: str, text: str) -> str:
    """The text without a phrase that stands as words of its own."""
    parts, end = [], 0
    for at in find_phrase(phrase, text):
        if at >= end:
            parts.append(text[end:at])
            end = at + len(phrase)
    return " ".join([*parts, text[end:]])
