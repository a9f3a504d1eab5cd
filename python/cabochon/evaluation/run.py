"""`evaluate`: cases through a model, each finished one on the disk at once.

A lane is a thread that has one case at a time; the model runs what all lanes ask as one batch. The
main thread alone writes.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..display import Bar
from ..errors import EvaluationError, Unsupported
from ..options import flag
from ..results import Result
from ..types import Prompt, jsonable
from . import preflight, recipes
from .grading import ERROR
from .recipes import ZERO_SHOT, Suite
from .record import FORMAT, KEYS, SYNC_S, Journal, Shard, contents
from .report import Report, judged, shard_of
from .so_far import SoFar
from .tasks import CHOICE, Answering, Controls, Settings, Task, check, facts, ids_sha256, tasks_of

ProgressArgument = bool | Callable[[Any], object] | None
LANES = 64  # at most; the model itself takes as many sequences as it was loaded for


def evaluate(
    model: Any,
    suites: Any = "enterprise",
    *,
    preset: str | None = None,
    n: int | None = None,
    prompting: Sequence[str] = (ZERO_SHOT,),
    thinking: bool = False,
    thinking_budget: int | None = None,
    max_tokens: int | str = "auto",
    temperature: float | None = None,
    seed: int = 0,
    repeats: int = 1,
    out: str | os.PathLike[str] | None = None,
    resume: bool = True,
    dry_run: bool = False,
    shard: tuple[int, int] | None = None,
    cluster: str | None = None,
    faithful: bool = False,
    run_code: bool = False,
    progress: ProgressArgument = None,
) -> Report:
    """Runs cases through a model, grades what it answers, and says how sure the score is.

    Args:
        model: a loaded `Model`.
        suites: a suite's name, "enterprise" (all ten), "needles", a public set in a file of yours
            ("gsm8k:PATH"), a JSONL file, cases as dicts, a data frame, or a list of names. A case
            of one's own needs `prompt` or `messages`, `expected`, and as `grader` a name, or a
            function of (case, output) that gives a verdict, a number from 0 to 1, or a bool.
        preset: "smoke" (4 cases a suite, not a measurement), or a name that says how public sets
            are weighed ("deployment-2604.07035").
        n: cases a suite; None: as many as are shipped. Fewer are a part of these, more are
            generated.
        prompting: "zero-shot", "few-shot" or both; of public sets "zero-shot", "cot",
            "few-shot-cot".
        thinking: let the model think; thoughts are never graded.
        thinking_budget: tokens of thought at most; None: 8,192.
        max_tokens: tokens of output at most; "auto": what each case says, with the budget of
            thought on top.
        temperature: None: 0, greedy.
        seed: of generated cases, and of sampling.
        repeats: answers a case; more than one only at a temperature above 0.
        out: folder of the record. A run that was stopped there goes on. None: memory alone.
        resume: False refuses a folder that holds a run.
        dry_run: plan only: `Report.plan`.
        shard: (i, k): the i-th of k parts, from 0; `Report.merge` puts them together.
        cluster: "ray": workers of Ray, a process for each processor of its cluster, load the model
            and answer (extra `ray`). Ray is started on this machine unless it runs already.
        faithful: to come.
        run_code: let the `code` suite run what the model wrote, in a sandbox.
        progress: as for `load`.

    Returns:
        A `Report`; after Ctrl-C what was finished, with `complete` False.

    Raises:
        EvaluationError: a suite that is not known, cases that cannot be run (every one is named),
            a folder that is locked or holds another run.
        InvalidArgument: an option is out of range.
        Unsupported: an option that is to come, or a model without a chat template.
    """
    if faithful:
        raise Unsupported("evaluate: faithful is to come")
    if cluster is not None:
        from . import cluster as shared  # it is made of what stands here

        shared.check_cluster(cluster)
    settings = check(
        n=n, prompting=prompting, thinking=thinking, thinking_budget=thinking_budget,
        max_tokens=max_tokens, temperature=temperature, seed=seed, repeats=repeats,
        run_code=run_code,
    )  # fmt: skip
    part = shard_of(shard)
    folder = None if out is None else Path(out)
    if preset in recipes.GROUPS:
        suites = preset
    about = facts(model)
    found = recipes.find_suites(
        suites,
        n=recipes.SMOKE_CASES if preset == recipes.SMOKE else settings.n,
        seed=settings.seed,
        prompting=settings.prompting,
        model=model,
    )
    weights = recipes.weights_of(preset, found)
    tasks = tasks_of(model, found, settings, about)
    plan = preflight.plan(model, tasks)
    mine = [task for task in tasks if part.has(task.case.case_id)]
    warnings, baselines = preflight.check(
        model, found, tasks, plan, folder=folder, run_code=settings.run_code
    )
    if preset == recipes.SMOKE:
        warnings.append("smoke: a few cases of each suite, not a measurement")
    if flag("dry_run", dry_run):
        plan = replace(plan, minutes=preflight.minutes(model, tasks, plan))
    manifest = {
        **_manifest(model, found, settings, about, part, preset, weights),
        "requests": len(tasks),
        "warnings": warnings,
        "baselines": baselines,
        "plan": plan.to_dict(),
    }
    questions = {task.case.case_id: task.case for task in tasks}
    graders = {name: function for suite in found for name, function in suite.graders.items()}
    if dry_run:
        return Report(manifest, [], questions=questions, complete=False, plan=plan)
    journal = Journal(folder, manifest, questions.values(), shard=part, resume=resume)
    try:
        if cluster is None:
            complete = Run(model, mine, journal, settings).go(progress)
        else:
            complete = shared.share_out(model, mine, journal, settings, about, progress)
        report = Report(
            manifest,
            list(journal.all({task.key for task in mine})),
            questions=questions,
            graders=graders,
            complete=complete,
            plan=plan,
            path=folder,
            missing_shards=[index for index in range(part.count) if index != part.index],
        )
        journal.summarise(report.to_dict())
    finally:
        journal.close()
    return report


def _manifest(
    model: Answering,
    suites: Sequence[Suite],
    settings: Settings,
    about: Mapping[str, Any],
    shard: Shard,
    preset: str | None,
    weights: Mapping[str, float] | None,
) -> dict[str, Any]:
    info = model.info()
    recipe = {name: getattr(settings, name) for name in Settings.__slots__}
    recipe |= {"preset": preset, "weights": weights}
    return {
        "format": FORMAT,
        **about,
        "recipe": {"version": recipes.VERSION, **recipe, "prompting": list(settings.prompting)},
        "suites": {
            suite.name: {
                "cases": len(suite.cases),
                "version": max((case.version for case in suite.cases), default=0),
                "sha256": contents(suite.cases),
            }
            for suite in suites
        },
        "template": info.template,
        "shard": shard.to_dict(),
        "machine": {
            "name": model.name,
            "tier": info.tier,
            "threads": info.threads,
            "memory": dict(info.memory),
        },
        "host": socket.gethostname(),
        "created": _now(),
    }


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


# --- running -------------------------------------------------------------------------------------


class _Stopped(Exception):
    """The run was stopped while this case was answered."""


class Run:
    """Tasks through a model, until all are done or somebody stops it."""

    def __init__(
        self, model: Answering, tasks: Sequence[Task], journal: Journal, settings: Settings
    ) -> None:
        self._model, self._journal, self._settings = model, journal, settings
        self._controls = Controls(model)
        self._waiting = deque(journal.unfinished(tasks))
        self._total, self._finished = len(tasks), len(tasks) - len(self._waiting)
        self._done: queue.Queue[tuple[dict[str, Any], str] | None] = queue.Queue()
        self._is_stopped = threading.Event()
        fitting = max(1, int(model.plan.sequences_that_fit))
        self._threads = min(LANES, 2 * fitting, len(self._waiting))
        self._lanes = self._threads  # that may ask at the same time
        self._asking = 0
        self._has_halved = False
        self._changed = threading.Condition()  # of the three above

    def go(self, progress: ProgressArgument) -> bool:
        """Runs all of it; False: Ctrl-C stopped it, and what was finished is kept.

        Raises:
            EvaluationError: the record cannot be written.
        """
        lanes = [threading.Thread(target=self._lane, daemon=True) for _ in range(self._threads)]
        is_complete = True
        with Bar("evaluate", "cases", progress, self._total) as bar:
            try:
                for lane in lanes:
                    lane.start()
                self._collect(len(lanes), bar)
            except KeyboardInterrupt:
                is_complete = False
            finally:
                self._stop(lanes)
        while not self._done.empty():  # what was finished while they stopped
            self._keep(self._done.get())
        return is_complete

    def _stop(self, lanes: Sequence[threading.Thread]) -> None:
        self._is_stopped.set()
        for lane in lanes:
            while lane.is_alive():
                with contextlib.suppress(KeyboardInterrupt):  # a second one does nothing new
                    with self._changed:
                        self._changed.notify_all()
                    lane.join()

    def _collect(self, left: int, bar: Bar) -> None:
        so_far = SoFar(self._journal.records.values())
        while left:
            bar.update(self._finished, note=str(so_far))
            try:
                item = self._done.get(timeout=SYNC_S)
            except queue.Empty:
                self._journal.sync()
                continue
            left -= not self._keep(item)
            if item is not None:
                so_far.add(item[0])
        bar.update(self._finished, note=str(so_far))

    def _keep(self, item: tuple[dict[str, Any], str] | None) -> bool:
        """Writes what a lane has finished; False: the lane has ended."""
        if item is None:
            return False
        record, failure = item
        if failure:
            self._journal.fail(record, failure)
        else:
            self._journal.add(record)
        self._finished += 1
        return True

    def _lane(self) -> None:
        """One case after the other."""
        try:
            while not self._is_stopped.is_set():
                try:
                    task = self._waiting.popleft()
                except IndexError:
                    return
                try:
                    self._done.put((self._tried(task), ""))
                except _Stopped:
                    return
                except Exception:  # it ends this case alone, and is told
                    self._done.put((_failed(task), traceback.format_exc()))
        finally:
            self._done.put(None)

    def _tried(self, task: Task) -> dict[str, Any]:
        """A finished case. The first time that memory runs out the number of sequences is halved,
        and what ran before that is asked again."""
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._asking < self._lanes or self._is_stopped.is_set()
                )
                self._asking += 1
                was_halved = self._has_halved
            try:
                return self._answered(task)
            except MemoryError:
                if was_halved:
                    raise
                with self._changed:
                    if not self._has_halved:
                        self._has_halved, self._lanes = True, max(1, self._lanes // 2)
            finally:
                with self._changed:
                    self._asking -= 1
                    self._changed.notify_all()

    def _answered(self, task: Task) -> dict[str, Any]:
        if task.case.grader == CHOICE:
            record = _scored(task, self._model)
        else:
            record = _record(task, self._controls, self._talked(task))
        return judged(record, task.case, task.grader, run_code=self._settings.run_code)

    def _talked(self, task: Task) -> list[Result]:
        """The answer, or those of all turns."""
        results: list[Result] = []
        history: list[dict[str, Any]] = []
        prompt = task.prompt
        for index, message in enumerate(task.messages):
            history.append(dict(message))
            if not task.case.is_talk or message["role"] != "user" or index < task.first:
                continue
            if results:
                prompt = self._model.render(
                    history, tools=task.tools, thinking=self._settings.thinking
                )
            results.append(self._ask(prompt, task))
            # Its thoughts are dropped, as the model card asks.
            history.append({"role": "assistant", "content": results[-1].text})
        if not results:
            results.append(self._ask(prompt, task))
        return results

    def _ask(self, prompt: Prompt, task: Task) -> Result:
        if self._is_stopped.is_set():
            raise _Stopped
        events = self._model.stream(prompt, **task.options)
        try:
            for event in events:
                if event.result is not None:
                    return event.result
                if self._is_stopped.is_set():
                    raise _Stopped
        finally:
            getattr(events, "close", lambda: None)()
        raise EvaluationError(f"case {task.case.case_id}: the model gave no result")


def identity(task: Task) -> dict[str, Any]:
    """What a record says before there is an answer; all keys are there."""
    case = task.case
    return {
        **dict.fromkeys(KEYS),
        "key": task.key,
        **{
            name: getattr(case, name)
            for name in ("case_id", "version", "suite", "family", "tier", "cluster_id", "language")
        },
        "prompting": task.prompting,
        "repeat": task.repeat,
        "seed": task.seed,
        "prompt_sha256": ids_sha256([task.prompt.token_ids]),
        "prompt_tokens": int(task.prompt.token_ids.size),
        "template": task.prompt.template[1] if task.prompt.template else None,
        "max_tokens": task.decoding["max_tokens"],
        "grader": case.grader,
        "expected": jsonable(case.expected),
        "host": socket.gethostname(),
        "time": _now(),
    }


def _failed(task: Task) -> dict[str, Any]:
    error = traceback.format_exc(limit=0).strip().rpartition("\n")[2]
    return {**identity(task), "verdict": ERROR, "reason": error[:300]}


def _record(task: Task, controls: Controls, results: Sequence[Result]) -> dict[str, Any]:
    """One line of cases.jsonl, but for the verdict. Tokens and seconds of a conversation are sums
    over its turns; how it ended is how its last turn did."""
    turns = [_turn(controls, result) for result in results]
    usages, timings = [r.usage for r in results], [r.timings for r in results]
    return {
        **identity(task),
        "prompt_tokens": sum(usage.prompt_tokens for usage in usages),
        "cached_tokens": sum(usage.cached_tokens for usage in usages),
        **turns[-1],
        "turns": turns[:-1] if task.case.is_talk else None,
        "output_ids_sha256": ids_sha256([result.token_ids for result in results]),
        "thinking_tokens": sum(usage.thinking_tokens for usage in usages),
        "answer_tokens": sum(usage.answer_tokens + usage.tool_tokens for usage in usages),
        "wasted_tokens": sum(controls.wasted(result.token_ids) for result in results),
        "first_token_s": timings[0].first_token_s,
        **{
            name: sum(getattr(timing, name) for timing in timings)
            for name in ("total_s", "prefill_s", "decode_s")
        },
    }


def _scored(task: Task, model: Answering) -> dict[str, Any]:
    """One line of cases.jsonl for a case whose choices are scored; its text is the likeliest."""
    choices = list(task.case.expected["choices"])
    started = time.monotonic()
    scores = model.score(task.prompt, choices)
    return {
        **identity(task),
        "output_text": choices[scores.best],
        "controls": [],
        "thinking_tokens": 0,
        "answer_tokens": 0,
        "wasted_tokens": 0,
        "finish_reason": "stop",
        "choice_logprobs": [score.logprob for score in scores.scores],
        "choice_bytes": [score.num_bytes for score in scores.scores],
        "choice_greedy": [bool(score.is_greedy) for score in scores.scores],
        "total_s": time.monotonic() - started,
    }


def _turn(controls: Controls, result: Result) -> dict[str, Any]:
    return {
        "output_text": result.raw_text,
        "controls": controls.places(result.raw_text, result.token_ids),
        "finish_reason": result.finish_reason,
        "cut_in": result.cut_in,
    }
