"""What is probably wrong with a run: findings, worst first, from its records alone.

A result far off is a bug to look for before it is a property of a model. Each check below is a
function of the run that gives findings; docs/reports.md has the rules.
"""

from __future__ import annotations

import math
import re
import statistics as standard
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..chat.template import EDGE, PUBLISHED, SUPERSEDED
from ..tokenizer import CONTROL_NAMES, alternatives
from . import grading, statistics
from .findings import SHOWN, Answer, Diagnosis, Finding, Run
from .summary import CaseRecord, run_key, sample_of

CUT_SHARE = 0.01
UNREAD_SHARE = NEAR_MISS_SHARE = 0.02
REFUSED_SHARE, DRIFT_SHARE = 0.05, 0.03
CONSTANT_SHARE, CONSTANT_CASES = 0.6, 10
BIAS_P = 0.01
CYCLE, CYCLES = 20, 3  # tokens, times
ZLIB_RATIO = 8.0
OUTLIER_DEVIATIONS, OUTLIER_POINTS, OUTLIER_REASON = 3.0, 0.25, 0.7
TWIN_POINTS = 0.15

# What a finding is about. The first of a class comes first where two cost the same.
_ANSWERS, _WHOLE_SUITES, _NOTES = range(3)


def diagnose(records: Sequence[CaseRecord], manifest: Mapping[str, Any]) -> Diagnosis:
    """Findings, worst first: those about answers by the points they cost, then those about whole
    suites, then notes about model and formats. Where two cost the same, the cause comes first.

    Args:
        records: lines of cases.jsonl, in any order.
        manifest: of the run; of it `recipe`, `formats`, `warnings` and `baselines` are read.
    """
    run = Run(records, manifest)
    found = [
        (level, -round(finding.points, 9), rank, finding)
        for rank, (level, check) in enumerate(_CHECKS)
        for finding in check(run)
    ]
    return Diagnosis(findings=tuple(item[3] for item in sorted(found, key=lambda item: item[:3])))


# --- model, template, machine --------------------------------------------------------------------


def _errors(run: Run) -> Iterator[Finding]:
    errors = [a for a in run.answers if a.record["verdict"] == grading.ERROR]
    if errors:
        reasons = _commonest(answer.record["reason"] or "" for answer in errors)
        yield run.finding(
            "errors", errors, run.answers, f"{len(errors)} errors: {reasons}",
            "the machine, or a bug of ours: these cases have no score",
            "read attempts.jsonl, then resume: errors are tried again",
        )  # fmt: skip


def _not_executed(run: Run) -> Iterator[Finding]:
    left = [a for a in run.answers if a.record["verdict"] == grading.NOT_EXECUTED]
    if left:
        reasons = _commonest(answer.record["reason"] or "" for answer in left)
        yield run.finding(
            "not executed", left, run.answers, f"{len(left)} answers were not executed: {reasons}",
            "run_code is off, or no sandbox works here: these cases have no score",
            "rescore with run_code=True on a machine with a sandbox",
        )  # fmt: skip


def _template(run: Run) -> Iterator[Finding]:
    by_hash: dict[str, list[Answer]] = defaultdict(list)
    for answer in run.answers:
        if answer.record["template"] is not None and answer.record["template"] not in PUBLISHED:
            by_hash[answer.record["template"]].append(answer)
    for sha256, answers in by_hash.items():
        is_stale = sha256 in SUPERSEDED
        yield run.finding(
            "template", answers, run.answers,
            f"template {sha256[:12]} is {'superseded' if is_stale else 'not a published one'}",
            "prompts that the model was not trained on" if not is_stale else
            "the checkpoint has a revision that its publisher replaced",
            "download the checkpoint again and compare a few cases under the published template",
        )  # fmt: skip


def _size_variant(run: Run) -> Iterator[Finding]:
    """The small models' template has no empty thought, which the large ones then write."""
    edge = [a for a in run.answers if PUBLISHED.get(a.record["template"] or "") == EDGE]
    is_thinking = _get(run.manifest, "recipe", "thinking")
    empty = [a for a in edge if _EMPTY_THOUGHT.match(a.record["output_text"] or "")]
    if not is_thinking and edge and len(empty) / len(edge) > 0.5:
        yield run.finding(
            "template", empty, edge,
            f"{len(empty)} answers begin with an empty thought, which the template of the large "
            "models writes for them",
            "the template of the other size", "take the template of this very checkpoint",
        )  # fmt: skip


_EMPTY_THOUGHT = re.compile(r"\A<\|channel>thought\s*<channel\|>")


def _bos(run: Run) -> Iterator[Finding]:
    warned = [str(text) for text in run.manifest.get("warnings") or () if "BOS" in str(text)]
    if warned:
        yield run.finding(
            "BOS", run.answers, run.answers, warned[0],
            "a prompt without its beginning token, or with two: Gemma's answers collapse",
            "let the template write it, and encode the rendered prompt without adding one",
        )  # fmt: skip


# --- how answers end -----------------------------------------------------------------------------


def _cut_in_thought(run: Run) -> Iterator[Finding]:
    for answers in run.suites.values():
        cut = [a for a in answers if any(turn["cut_in"] == "thinking" for turn in a.turns)]
        if cut:
            yield run.finding(
                "cut in thought", cut, answers, f"{len(cut)} answers were never begun",
                "the limit ended them while the model still thought",
                f"raise max_tokens or thinking_budget: {_limit_advice(answers)}",
            )  # fmt: skip


def _empty(run: Run) -> Iterator[Finding]:
    for answers in run.suites.values():
        empty = [
            a
            for a in answers
            if a.is_empty and a.parsed.thinking is not None and a.record["cut_in"] != "thinking"
        ]
        if empty:
            yield run.finding(
                "empty answer", empty, answers, f"{len(empty)} answers are thoughts alone",
                "the answer stands in the thought channel, or the turn ended with the thought",
                "read the thoughts of the first case; check the template's generation prompt",
            )  # fmt: skip


def _truncated(run: Run) -> Iterator[Finding]:
    for answers in run.suites.values():
        cut = [a for a in answers if any(t["finish_reason"] == "length" for t in a.turns)]
        if len(cut) / len(answers) > CUT_SHARE:
            yield run.finding(
                "truncation", cut, answers,
                f"{len(cut)} of {len(answers)} answers reached max_tokens: the score is a lower "
                "bound",
                "the limit is too low for these answers",
                _limit_advice(answers),
            )  # fmt: skip


def _limit_advice(answers: Sequence[Answer]) -> str:
    """The limit that under 1 % of answers should reach.

    From half of the answers on, lengths are taken to fall off exponentially; of those cut only a
    lower bound is known, so the rate is (answers that ended) / (sum of what is beyond the half).
    """
    limit = max(int(answer.record["max_tokens"] or 0) for answer in answers)
    # Of a conversation the mean turn: the limit is that of a turn.
    lengths = [(answer.tokens / len(answer.turns), answer) for answer in answers]
    half = standard.median_low(length for length, _ in lengths)
    beyond = [(length, answer) for length, answer in lengths if length > half]
    ended = sum(answer.record["finish_reason"] != "length" for _, answer in beyond)
    if not ended or half >= limit:
        return f"max_tokens over {2 * limit:,}: too many were cut to say by how much"
    scale = math.fsum(length - half for length, _ in beyond) / ended
    share = len(beyond) / len(answers)
    needed = half + scale * math.log(max(share, CUT_SHARE) / CUT_SHARE)
    return f"max_tokens of about {max(math.ceil(needed / 64) * 64, limit + 64):,} (now {limit:,})"


def _wasted(run: Run) -> Iterator[Finding]:
    wasted = [answer for answer in run.answers if answer.record["wasted_tokens"]]
    if wasted:
        count = sum(answer.record["wasted_tokens"] for answer in wasted)
        total = count + sum(answer.tokens for answer in run.answers)
        yield run.finding(
            "wasted tokens", wasted, run.answers,
            f"{count:,} tokens ({100 * count / total:.1f} % of all) were written after the end of "
            "a turn",
            "a stop token was missed", "take stop ids from the checkpoint's generation config",
        )  # fmt: skip


def _control_leak(run: Run) -> Iterator[Finding]:
    """Cases of suite `safety` hold forged control strings, which an answer may quote."""
    leaks = {a: found for a in run.answers if a.suite != "safety" if (found := _leak(a))}
    if leaks:
        yield run.finding(
            "control leak", leaks, run.answers,
            f"{len(leaks)} answers spell control tokens: {_commonest(leaks.values())}",
            "control tokens were encoded as text, or the model answers to another template",
            "check that the prompt was rendered with its control tokens as ids",
        )  # fmt: skip


_CONTROL = alternatives((*CONTROL_NAMES, "<start_of_turn>", "<end_of_turn>"))


def _leak(answer: Answer) -> str:
    found = _CONTROL.search(answer.text)
    return found.group() if found else ""


def _repetition(run: Run) -> Iterator[Finding]:
    for answers in run.suites.values():
        stuck = [answer for answer in answers if _repeats(answer.record["output_text"] or "")]
        if stuck:
            yield run.finding(
                "repetition", stuck, answers, f"{len(stuck)} answers go round in circles",
                "a missing BOS, another template, or a KV format that is too coarse",
                "run one of the cases with kv='bf16' and the published template; a sampling "
                "penalty would only hide it",
            )  # fmt: skip


def _repeats(text: str) -> bool:
    """A cycle of up to 20 tokens over 60 of them, or bytes that shrink to an eighth.

    A token is a word or a run of marks here: records hold text.
    """
    data = text.encode("utf-8", "surrogatepass")[:1_000_000]
    if len(data) / len(zlib.compress(data)) > ZLIB_RATIO:
        return True
    words = _WORD.findall(text[:100_000])
    needed = CYCLE * CYCLES
    if len(words) < needed:
        return False
    known: dict[str, int] = {}
    ids = np.array([known.setdefault(word, len(known)) for word in words])
    for period in range(1, CYCLE + 1):
        broken = np.flatnonzero(ids[period:] != ids[:-period])
        edges = np.concatenate(([-1], broken, [len(ids) - period]))
        if int(np.diff(edges).max()) - 1 >= needed - period:
            return True
    return False


_WORD = re.compile(r"\w+|[^\w\s]+")


# --- what answers say ----------------------------------------------------------------------------


def _unread(run: Run) -> Iterator[Finding]:
    for answers in run.suites.values():
        unread = [a for a in answers if a.record["verdict"] == grading.UNPARSED]
        near = [a for a in answers if a.record.get("near_miss") and a.score < 1]
        many = len(unread) / len(answers) > UNREAD_SHARE
        if many or len(near) / len(answers) > NEAR_MISS_SHARE:
            gap = 100 * math.fsum(1 - answer.score for answer in near) / len(answers)
            both = list({id(answer): answer for answer in (*unread, *near)}.values())
            yield run.finding(
                "unread answers", both, answers,
                f"{len(unread)} answers without the form that was asked for, {len(near)} of right "
                f"content in another form ({gap:.1f} points); begin: {_forms(both)}",
                "the model answers in another form, or the extractor reads too little",
                "read the forms above: a wrong prompt or template shows there",
            )  # fmt: skip


def _forms(answers: Sequence[Answer]) -> str:
    """The commonest beginnings, digits alike."""
    return _commonest(
        (re.sub(r"\d+", "0", answer.text[:24].partition("\n")[0]) or "(nothing)")
        for answer in answers
    )


def _position_bias(run: Run) -> Iterator[Finding]:
    for answers in run.suites.values():
        pairs = [(a, *letters) for a in answers if (letters := _letters(a))]
        names = sorted({letter for _, *both in pairs for letter in both})
        if len(pairs) < CONSTANT_CASES or len(names) < 2:
            continue
        chosen, gold = (Counter(pair[side] for pair in pairs) for side in (1, 2))
        # The golds are fixed by who made the cases: chosen letters should fall as they do. A
        # letter that is never right is expected half a time.
        excess = math.fsum(
            (chosen[name] - expected) ** 2 / expected
            for name in names
            for expected in [max(gold[name], 0.5)]
        )
        if statistics.chi_square_p(excess, len(names) - 1) < BIAS_P:
            letter = max(names, key=lambda name: chosen[name] - gold[name])
            turned = _turned(pairs)
            stayed = sum(len({said for said, _ in both}) == 1 for both in turned)
            kept = f"; {stayed} of {len(turned)} turned questions kept their letter"
            wrong = [a for a, said, right in pairs if said == letter != right]
            yield run.finding(
                "position bias", wrong, answers,
                f"{letter} was chosen {chosen[letter]} times and right {gold[letter]} times"
                + (kept if turned else ""),
                "the model, or the extractor, prefers a letter; or the letters of the options are "
                "shifted",
                "rotate the options; read what was extracted in the cases named",
            )  # fmt: skip


def _turned(pairs: Iterable[tuple[Answer, str, str]]) -> list[list[tuple[str, str]]]:
    """Chosen and right letters of questions that were asked with options in several orders."""
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for answer, said, right in pairs:
        groups[str(answer.record["cluster_id"])].append((said, right))
    return [both for both in groups.values() if len({right for _, right in both}) > 1]


def _letters(answer: Answer) -> tuple[str, str] | None:
    """The option that was chosen and the one that is right; None: the case has no options."""
    record = answer.record
    expected = record["expected"] if isinstance(record["expected"], Mapping) else {}
    said, letter, index = record["extracted"], expected.get("letter"), expected.get("answer")
    if isinstance(letter, str) and isinstance(said, str) and len(letter) == len(said) == 1:
        return said.upper(), letter.upper()
    if "choices" in expected and isinstance(said, int) and isinstance(index, int):
        return _letter(said), _letter(index)
    return None


def _letter(index: int) -> str:
    return chr(ord("A") + index) if index < 26 else str(index)


def _constant(run: Run) -> Iterator[Finding]:
    for answers in run.suites.values():
        said = [(a, letters[0] if (letters := _letters(a)) else _said(a)) for a in answers]
        counts = Counter(text for _, text in said if text)
        if not counts or len(answers) < CONSTANT_CASES:
            continue
        text, count = counts.most_common(1)[0]
        if count / len(answers) > CONSTANT_SHARE:
            same = [answer for answer, other in said if other == text]
            yield run.finding(
                "constant answer", same, answers,
                f"{count} of {len(answers)} answers are {text[:60]!r}",
                "constant or inverted labels, a broken prompt, or a model that gave up",
                "look at the expected answers of these cases, then at one rendered prompt",
            )  # fmt: skip


def _said(answer: Answer) -> str:
    return grading.normal(answer.text[:2_000], str(answer.record["language"]))


def _baseline(run: Run) -> Iterator[Finding]:
    """Baselines are those of the manifest, and the majority of letters."""
    for suite, answers in run.suites.items():
        cases = [found for place, found in run.cases.items() if place[0] == suite]
        given = dict((run.manifest.get("baselines") or {}).get(suite) or {})
        gold = Counter(letters[1] for answer in answers if (letters := _letters(answer)))
        if gold:
            given.setdefault("majority", max(gold.values()) / sum(gold.values()))
        given = {name: value for name, value in given.items() if isinstance(value, (int, float))}
        if not given or not cases:
            continue
        name = max(given, key=given.__getitem__)
        score = statistics.estimate(sample_of(cases), f"{run_key(run.records)}/{suite}/baseline")
        if score.low <= given[name]:
            failed = [answer for answer in answers if answer.score < 1]
            below = score.high < given[name]
            yield run.finding(
                "baseline", failed, answers,
                f"{100 * score.mean:.1f} % ({100 * score.low:.1f} to {100 * score.high:.1f}) is "
                f"{'below' if below else 'not above'} the {name} baseline, "
                f"{100 * given[name]:.1f} %",
                "inverted labels, or a wrong extractor" if below else "nothing was measured",
                "check the expected answers first" if below else "check prompt and template first",
            )  # fmt: skip


def _refusals(run: Run) -> Iterator[Finding]:
    for answers in run.suites.values():
        benign = [a for a in answers if not _get(a.record["expected"], "harmful")]
        refused = [a for a in benign if a.record["verdict"] == grading.REFUSED]
        if benign and len(refused) / len(benign) > REFUSED_SHARE:
            yield run.finding(
                "refusals", refused, benign,
                f"{len(refused)} harmless cases were declined: {_forms(refused)}",
                "an overcautious model, a system prompt, or input that it cannot see",
                "read the phrases; look whether the document reached the prompt",
            )  # fmt: skip


def _drift(run: Run) -> Iterator[Finding]:
    for answers in run.suites.values():
        drifted = [answer for answer in answers if _is_drifted(answer)]
        if len(drifted) / len(answers) > DRIFT_SHARE:
            languages = _commonest(str(answer.record["language"]) for answer in drifted)
            yield run.finding(
                "language drift", drifted, answers,
                f"{len(drifted)} answers are in another language than asked for: {languages}",
                "another template, a coarse weight format, or a weak language of the model",
                "compare these cases with weights='bf16'",
            )  # fmt: skip


_SCRIPTS = {
    "ar": ("ARABIC",), "hi": ("DEVANAGARI",), "ja": ("HIRAGANA", "KATAKANA", "CJK"),
    "ko": ("HANGUL",), "zh": ("CJK",), "ru": ("CYRILLIC",),
}  # fmt: skip
_LATIN = frozenset({"en", "de", "fr", "es", "it", "pt", "pl", "tr"})
# Answers of these are code, data or labels, which have no language.
_NO_PROSE = frozenset({"code", "tools", "structured", "classification", "extraction", "safety"})


def _is_drifted(answer: Answer) -> bool:
    """By the grader's word; elsewhere, prose of which not a third is in the language's script."""
    if answer.record["reason"] == "wrong_language":
        return True
    if answer.suite in _NO_PROSE or answer.suite == "multilingual":
        return False
    language = str(answer.record["language"])
    scripts = _SCRIPTS.get(language) or (("LATIN",) if language in _LATIN else ())
    letters = [letter for letter in answer.text[:2_000] if letter.isalpha()]
    if not scripts or len(letters) < 20:
        return False
    own = sum(unicodedata.name(letter, "").startswith(scripts) for letter in letters)
    return own / len(letters) < 1 / 3


# --- whole suites --------------------------------------------------------------------------------


def _outlier(run: Run) -> Iterator[Finding]:
    for suite, mean in run.means.items():
        others = [other for name, other in run.means.items() if name != suite]
        if len(others) < 3:
            continue
        median = standard.median(others)
        deviation = 1.4826 * standard.median(abs(other - median) for other in others)
        if median - mean < max(OUTLIER_DEVIATIONS * deviation, OUTLIER_POINTS):
            continue
        failed = [answer for answer in run.suites[suite] if answer.score < 1]
        reason, count = Counter(answer.record["reason"] for answer in failed).most_common(1)[0]
        if count / len(failed) > OUTLIER_REASON:
            yield _first_five(run.finding(
                "outlier suite", failed, run.suites[suite],
                f"{100 * mean:.1f} % against a median of {100 * median:.1f} % of the others; "
                f"{count} of {len(failed)} failures say {reason!r}",
                "the harness before the model: template, cache, extractor or grader",
                "read the five cases",
            ))  # fmt: skip


def _twins(run: Run) -> Iterator[Finding]:
    twins = {answer.name.removesuffix("-twin"): answer for answer in run.twins}
    for answers in run.suites.values():
        pairs = [(answer, twins[answer.name]) for answer in answers if answer.name in twins]
        if len(pairs) < CONSTANT_CASES:
            continue
        clusters = [str(answer.record["cluster_id"]) for answer, _ in pairs]
        sample = statistics.Sample.of([a.score - twin.score for a, twin in pairs], clusters)
        key = f"{run_key(run.records)}/twins"
        found = statistics.estimate(sample, key, is_difference=True)
        if found.mean < -TWIN_POINTS and found.high < 0:
            lost = [answer for answer, twin in pairs if answer.score < twin.score]
            yield _first_five(run.finding(
                "outlier suite", lost, answers,
                f"{100 * found.mean:+.1f} points ({100 * found.low:+.1f} to "
                f"{100 * found.high:+.1f}) against the same questions without a history",
                "thoughts kept in the history, a stale template or the prefix cache",
                "render one conversation and compare it with the published template; run it with "
                "an empty cache",
            ))  # fmt: skip


def _first_five(finding: Finding) -> Finding:
    return replace(finding, cases=finding.cases[:SHOWN])


# --- notes ---------------------------------------------------------------------------------------


def _raw_text(run: Run) -> Iterator[Finding]:
    raw = [a for a in run.answers if a.is_there and a.record["template"] is None]
    if raw:
        yield run.finding(
            "model", raw, run.answers, f"{len(raw)} prompts were rendered by no template",
            "raw text on an instruction-tuned model, or a base model in suites made for chat",
            "the numbers mean little: take the instruction-tuned checkpoint and messages",
        )  # fmt: skip


def _formats(run: Run) -> Iterator[Finding]:
    kv = _get(run.manifest, "formats", "kv")
    if kv in ("int8", "int4") and not run.manifest.get("divergence") and run.answers:
        yield run.finding(
            "formats", (), run.answers, f"the KV cache is {kv}, its divergence was not measured",
            "rounded keys and values change answers of some checkpoints",
            "run Model.compare against kv='bf16' for this checkpoint",
        )  # fmt: skip


# A cause stands before what it causes.
_CHECKS: tuple[tuple[int, Callable[[Run], Iterator[Finding]]], ...] = (
    *((_ANSWERS, check) for check in (_bos, _template, _size_variant, _errors, _not_executed)),
    *((_ANSWERS, check) for check in (_repetition, _cut_in_thought, _truncated, _empty)),
    *((_ANSWERS, check) for check in (_control_leak, _wasted, _refusals, _drift)),
    *((_ANSWERS, check) for check in (_constant, _position_bias, _unread)),
    *((_WHOLE_SUITES, check) for check in (_twins, _outlier, _baseline)),
    *((_NOTES, check) for check in (_raw_text, _formats)),
)


def _commonest(texts: Iterable[str]) -> str:
    """The five commonest with their numbers."""
    counts = Counter(texts).most_common(SHOWN)
    return ", ".join(f"{text!r} {count}" for text, count in counts)


def _get(given: Any, *names: str) -> Any:
    """An item of nested objects; None where one is missing."""
    for name in names:
        given = given.get(name) if isinstance(given, Mapping) else None
    return given
