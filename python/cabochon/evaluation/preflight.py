"""Before a run: what would make its numbers wrong or its time wasted, and what it will take.

A stop is an `EvaluationError` that lists every case; a warning goes into manifest and report.
"""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import display
from ..chat.schemas import Schema
from ..chat.template import PUBLISHED
from ..errors import CabochonError, EvaluationError, OutOfMemory
from ..results import Result
from ..types import Record
from . import recipes
from .cases import Case
from .draw import Draw
from .grading import ERROR, NOT_EXECUTED, PASS, Grader, grade, written
from .recipes import PROMPTING, Suite
from .report import CODE_GRADERS, judge_of
from .statistics import chi_square_p, detectable_difference
from .tasks import Answering, Controls, Task, by_prefix

PROSE = 200  # texts without an answer
_LINE_BYTES = 2_000  # of a record beside its output
_TOKEN_BYTES = 4
_MEASURE_S, _MEASURED, _MEASURED_TOKENS = 2.0, 16, 16  # seconds, prompts together, output
_UNBALANCED_P = 0.01
_FEWEST_LABELS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan(Record):
    """What a run takes, and how small a difference it can show."""

    requests: int  # answers
    prompt_tokens: int
    computed_prompt_tokens: int  # when prompts that begin alike are computed once
    output_tokens: int  # expected, from a table of recipes.py
    most_output_tokens: int  # if every answer is cut
    minutes: float | None  # None: not measured
    record_bytes: int
    memory_bytes: int  # of the model, planned
    # Smallest difference that two runs of so many cases show in 80 of 100 tries, 0 to 1, with one
    # case in five answered differently; None: none. All suites, and each.
    detectable: float | None
    detectable_by_suite: Mapping[str, float | None]

    def __str__(self) -> str:
        minutes = "not measured" if self.minutes is None else f"{self.minutes:.1f}"
        rows = [
            ("answers", f"{self.requests:,}"),
            ("prompt tokens", f"{self.prompt_tokens:,}, {self.computed_prompt_tokens:,} computed"),
            ("output tokens", f"about {self.output_tokens:,}, at most {self.most_output_tokens:,}"),
            ("minutes", minutes),
            ("record", display.size(self.record_bytes)),
            ("memory", display.size(self.memory_bytes)),
            ("shows", _points(self.detectable)),
            *((f"  {name}", _points(value)) for name, value in self.detectable_by_suite.items()),
        ]
        return "\n".join(f"{name:24}{text}" for name, text in rows)


def _points(difference: float | None) -> str:
    if difference is None:
        return "no difference: too few cases"
    return f"differences from {100 * difference:.1f} points on"


def plan(model: Answering, tasks: Sequence[Task]) -> RunPlan:
    """What tasks take; nothing is computed."""
    prompt_tokens = computed = 0
    for task, shared in by_prefix(tasks):
        size = int(task.prompt.token_ids.size)
        prompt_tokens += size
        computed += size - shared
    counted = [t for t in tasks if t.prompting in PROMPTING and t.repeat == 0]
    by_suite = Counter(task.case.suite for task in counted)
    expected = sum(_expected_tokens(task) for task in tasks)
    return RunPlan(
        requests=len(tasks),
        prompt_tokens=prompt_tokens,
        computed_prompt_tokens=computed,
        output_tokens=expected,
        most_output_tokens=sum(t.case.turns * int(t.decoding["max_tokens"]) for t in tasks),
        minutes=None,
        record_bytes=len(tasks) * _LINE_BYTES + expected * _TOKEN_BYTES,
        memory_bytes=int(model.plan.host_bytes),
        detectable=detectable_difference(len(counted)) if counted else None,
        detectable_by_suite={name: detectable_difference(n) for name, n in by_suite.items()},
    )


def _expected_tokens(task: Task) -> int:
    expected = recipes.EXPECTED.get(task.case.suite, recipes.EXPECTED_OTHER)
    thoughts = task.decoding.get("thinking_budget") or 0
    most = int(task.decoding["max_tokens"])
    return task.case.turns * min(most, expected + thoughts // 8)


def minutes(model: Answering, tasks: Sequence[Task], found: RunPlan) -> float | None:
    """How long a run takes, from running some of its prompts together for about 2 s.

    Returns:
        None: the model does not measure its time.
    """
    together = max(1, min(_MEASURED, int(model.plan.sequences_that_fit), len(tasks)))
    chosen = iter(tasks[:: max(1, len(tasks) // (8 * together))])
    read_s = write_s = 0.0
    read_tokens = written = 0
    started = time.monotonic()
    with ThreadPoolExecutor(together) as pool:
        while batch := list(itertools.islice(chosen, together)):
            results = list(pool.map(lambda task: _measured(model, task), batch))
            read_s += max(result.timings.first_token_s for result in results)
            write_s += max(result.timings.decode_s for result in results)
            read_tokens += sum(r.usage.prompt_tokens - r.usage.cached_tokens for r in results)
            written += sum(max(0, result.usage.output_tokens - 1) for result in results)
            if time.monotonic() - started > _MEASURE_S:
                break
    if not (read_s > 0 and write_s > 0 and written > 0):
        return None
    reading = found.computed_prompt_tokens * read_s / read_tokens
    return (reading + found.output_tokens * write_s / written) / 60


def _measured(model: Answering, task: Task) -> Result:
    options = {**task.options, "max_tokens": _MEASURED_TOKENS, "ignore_stops": True}
    options = {name: value for name, value in options.items() if name not in ("schema", "tools")}
    events = model.stream(task.prompt, **options)
    return next(event.result for event in events if event.result is not None)


# --- what must hold ------------------------------------------------------------------------------


def check(
    model: Answering,
    suites: Sequence[Suite],
    tasks: Sequence[Task],
    found: RunPlan,
    *,
    folder: Path | None,
    run_code: bool,
) -> tuple[list[str], dict[str, dict[str, float]]]:
    """Stops, or says what is worth knowing.

    Returns:
        Warnings; and by suite what answers score that need no model: "constant", "uniform".

    Raises:
        EvaluationError: with every case that must not be run.
        OutOfMemory: the model does not fit its own context and sequences.
    """
    if not model.plan.fits:
        raise OutOfMemory(
            "evaluate: the model was loaded beyond what is available: "
            + (" ".join(model.plan.advice) or "load with a smaller context"),
            plan=model.plan,
        )
    stops = [
        *(f"{suite.name}: {text}" for suite in suites for text in _selves(suite, run_code)),
        *_doubles(tasks),
        *_schemas(tasks),
        *_overflows(model, tasks),
        *_prompts(model, tasks),
        *_space(folder, found),
    ]
    if stops:
        plural = "" if len(stops) == 1 else "s"
        listed = "\n".join(stops)
        raise EvaluationError(f"evaluate: {len(stops)} reason{plural} not to run:\n{listed}")
    warnings, baselines = _balance(suites)
    for task in tasks[:1]:
        template = task.prompt.template
        if template is not None and template[1] not in PUBLISHED:
            warnings.append(
                f"the chat template {template[1][:12]} is none of those that are published: "
                "prompts may not be what the model was trained on"
            )
    return warnings, baselines


def _selves(suite: Suite, run_code: bool) -> list[str]:
    """Ideal outputs that do not pass, wrong ones that do not fail as they should, and prose that
    passes: what must never happen, by the grader that model output meets."""
    prose = _prose()
    own = [(case, prose[index :: len(suite.cases)]) for index, case in enumerate(suite.cases)]
    # Graders take microseconds; a sandbox takes a process an output.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda item: list(_self(suite, item[0], item[1], run_code)), own)
        return [text for texts in found for text in texts]


def _self(suite: Suite, case: Case, prose: Sequence[str], run_code: bool) -> Iterator[str]:
    try:
        judge = judge_of(case, suite.graders.get(case.grader), run_code=run_code)
    except EvaluationError as error:
        yield f"{case.case_id}: {error}"
        return
    if case.grader in CODE_GRADERS:  # all of them take a minute: CI does that
        case = replace(case, ideal=case.ideal[:1], wrong=case.wrong[:1])
    if not case.ideal and case.grader not in suite.graders:  # nothing else tries its `expected`
        verdict = grade(case, written([""] * case.turns if case.is_talk else ""), judge)
        if verdict.verdict == ERROR:
            yield (
                f"{case.case_id}: the grader {case.grader!r} cannot use `expected` "
                f"{_short(case.expected)}: {verdict.reason}: docs/suites.md says what it takes"
            )
    twin = recipes.twin(case)
    for one in (case,) if twin is None else (case, twin):
        yield from self_test(one, judge)
    if case.ideal:  # a case that has none may want anything
        for text in prose:
            verdict = grade(case, written([text] * case.turns if case.is_talk else text), judge)
            if verdict.verdict == PASS:
                yield f"{case.case_id}: prose without an answer passes: {text[:60]!r}"


def self_test(case: Case, judge: Grader | None = None) -> Iterator[str]:
    """What of a case's own outputs is not graded as the case says. What is not executed here says
    nothing."""
    for text in case.ideal:
        verdict = grade(case, written(text), judge)
        if verdict.score != 1 and verdict.verdict != NOT_EXECUTED:
            yield (
                f"{case.case_id}: the ideal output {_short(text)} scores {verdict.score} "
                f"({verdict.verdict}, {verdict.reason}), expected 1"
            )
    for text, reason in case.wrong:
        verdict = grade(case, written(text), judge)
        is_wrong = verdict.score is not None and verdict.score < 1 and verdict.reason == reason
        if not is_wrong and verdict.verdict != NOT_EXECUTED:
            yield (
                f"{case.case_id}: the wrong output {_short(text)} scores {verdict.score} with the "
                f"reason {verdict.reason!r}, expected less than 1 and {reason!r}"
            )


def _short(text: Any) -> str:
    shown = repr(text)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _prose() -> list[str]:
    """Sentences that answer nothing."""
    draw = Draw("prose")
    who = ("The gardener", "A neighbour", "Somebody", "My aunt", "The old clerk", "A traveller")
    did = ("was looking for", "had almost forgotten", "spoke about", "walked around", "painted")
    what = ("a quiet lane", "the garden wall", "an umbrella", "the weather", "a wooden boat")
    how = ("in the evening", "without much hurry", "as people do", "while it rained", "once again")
    return [
        " ".join(
            f"{draw.choice(who)} {draw.choice(did)} {draw.choice(what)} {draw.choice(how)}."
            for _ in range(draw.integer(1, 4))
        )
        for _ in range(PROSE)
    ]


def _doubles(tasks: Iterable[Task]) -> Iterator[str]:
    by_prompt: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for task in tasks:
        if task.repeat == 0:
            asked = (task.prompting, task.case.suite, task.asked)
            by_prompt[asked].append(task.case.case_id)
    for ids in by_prompt.values():
        if len(ids) > 1:
            yield f"{', '.join(sorted(ids))}: the same prompt under {len(ids)} ids"


def _schemas(tasks: Iterable[Task]) -> Iterator[str]:
    for task in tasks:
        if task.case.schema is not None and task.repeat == 0:
            try:
                Schema(dict(task.case.schema), f"{task.case.case_id}: schema")
            except CabochonError as error:
                yield str(error)


def _overflows(model: Answering, tasks: Iterable[Task]) -> Iterator[str]:
    needed = {}
    for task in tasks:
        most = task.most_tokens
        if most > model.context:
            needed[task.case.case_id] = most
    for case_id, most in needed.items():
        yield (
            f"{case_id}: prompt and output may take {most:,} tokens, the context is "
            f"{model.context:,}"
        )
    if needed:
        yield f"load with context={max(needed.values())} or more, or give max_tokens"


def _prompts(model: Answering, tasks: Iterable[Task]) -> Iterator[str]:
    """Prompts with not exactly one BOS, or with control tokens that came from text."""
    controls = Controls(model)
    bos = model.encode("", bos=True)
    for task in tasks:
        if task.repeat:
            continue
        ids = task.prompt.token_ids
        if bos.size and (int((ids == bos[0]).sum()) != 1 or ids[0] != bos[0]):
            yield (
                f"{task.case.case_id}: the prompt has {int((ids == bos[0]).sum())} BOS tokens, "
                "expected one, at its beginning"
            )
        plain = [_without_text(message) for message in task.opening]
        bare = model.render(plain, tools=task.tools, thinking=bool(task.decoding.get("thinking")))
        if controls.of(ids) != controls.of(bare.token_ids):
            yield f"{task.case.case_id}: text of the case became a control token"


def _without_text(message: Mapping[str, Any]) -> dict[str, Any]:
    """The same message that says one letter."""
    content = message.get("content")
    if isinstance(content, str) and content.strip():
        return {**message, "content": "x"}
    if isinstance(content, list):
        parts = [{**part, "text": "x"} if part.get("type") == "text" else part for part in content]
        return {**message, "content": parts}
    return dict(message)


def _space(folder: Path | None, found: RunPlan) -> Iterator[str]:
    if folder is None:
        return
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    needed = 2 * found.record_bytes
    if free < needed:
        yield (
            f"{folder}: {display.size(free)} are free, expected {display.size(needed)}, twice what "
            "the record may take"
        )


def _balance(suites: Iterable[Suite]) -> tuple[list[str], dict[str, dict[str, float]]]:
    """Whether one label is right too often, and what answering it everywhere would score."""
    warnings, baselines = [], {}
    for suite in suites:
        golds = [found for case in suite.cases if (found := _gold(case)) is not None]
        if len(golds) < _FEWEST_LABELS:
            continue
        counts = Counter(gold for gold, _ in golds)
        expected: Counter[str] = Counter()
        for _, allowed in golds:
            expected.update(dict.fromkeys(allowed, 1 / len(allowed)))
        label, count = counts.most_common(1)[0]
        share = len(golds) / len(suite.cases)
        baselines[suite.name] = {
            "constant": share * count / len(golds),
            "uniform": share * sum(1 / len(allowed) for _, allowed in golds) / len(golds),
        }
        excess = sum((counts[name] - even) ** 2 / even for name, even in expected.items())
        p = chi_square_p(excess, len(expected) - 1) if len(expected) > 1 else 0.0
        if p < _UNBALANCED_P:
            warnings.append(
                f"{suite.name}: {label!r} is right in {count} of {len(golds)} cases; were labels "
                f"drawn evenly, as uneven a draw would have a chance of {p:.1g}"
            )
    return warnings, baselines


def _gold(case: Case) -> tuple[str, tuple[str, ...]] | None:
    """The one label that is right, and all that the case allows; None: it asks for no label."""
    right, allowed = case.expected.get("labels"), case.expected.get("allowed")
    if case.grader != "label" or case.expected.get("many") or not right or not allowed:
        return None
    return str(right[0]), tuple(map(str, allowed))
