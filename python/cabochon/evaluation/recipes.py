"""What is asked of whom under which limits: suites and presets by name, own cases, prompts.

All of it is data. docs/evaluation.md says how to read it.
"""

from __future__ import annotations

import difflib
import importlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import EvaluationError, Unsupported
from ..types import Record
from .cases import Case, read_case
from .grading import FAIL, PARTIAL, PASS, Grader, Output, Verdict
from .presets import LOCAL_SETS, PRESETS, PROMPTINGS, local_cases, needles
from .suites.shipped import SUITES, generated, shipped, suite_names

VERSION = 1  # rises when a limit or a prompt of a recipe changes
NEEDLES, SMOKE = "needles", "smoke"
# Names of several suites, and presets that are made of suites alone.
GROUPS: Mapping[str, Sequence[str]] = {"enterprise": SUITES, NEEDLES: (NEEDLES,)}
SMOKE_CASES = 4  # a suite: enough to see that everything runs, not a measurement
TO_COME = ("deployment-2604.07035-v1",)
# Tokens of output by suite; a limit is right when under 1 % of a suite's outputs reach it.
LIMITS: Mapping[str, int] = {"classification": 64, "code": 1024}
LIMIT = 512  # of every other suite, a turn; and of own cases that do not say
THINKING_TOKENS = 8192
# What an answer of a suite takes, to plan with: estimates until they are measured.
EXPECTED: Mapping[str, int] = {
    "tools": 60, "extraction": 220, "classification": 8, "summarisation": 120, "rag": 50,
    "code": 260, "multilingual": 80, "multi_turn": 60, "safety": 90, "structured": 140,
}  # fmt: skip
EXPECTED_OTHER = 150

ZERO_SHOT, FEW_SHOT = "zero-shot", "few-shot"
PROMPTING = (ZERO_SHOT, FEW_SHOT, *PROMPTINGS[1:])
# Beside the score, never in it: a conversation's last question alone, and bound output.
TWIN, SCHEMA = "twin", "schema"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Suite(Record):
    """Cases under one name, and graders of their own where they were given as functions."""

    name: str
    cases: tuple[Case, ...]
    graders: Mapping[str, Grader] = field(default_factory=dict)
    examples: tuple[tuple[Any, Any], ...] = ()  # (messages, answer) for few-shot
    example_tools: tuple[Mapping[str, Any], ...] = ()  # what the examples call
    by_prompting: Mapping[str, tuple[Case, ...]] = field(default_factory=dict)  # of a public set

    def under(self, prompting: str) -> tuple[Case, ...]:
        """The cases under a way of prompting.

        Raises:
            Unsupported: the suite does not have it.
        """
        if prompting in self.by_prompting:
            return self.by_prompting[prompting]
        shown = (FEW_SHOT,) if self.examples else ()
        known = tuple(self.by_prompting) or (ZERO_SHOT, *shown)
        if prompting not in known:
            raise Unsupported(
                f"prompting={prompting!r}: suite {self.name!r} has {' and '.join(known)} alone, "
                "and no examples or steps of its own"
            )
        return self.cases


def find_suites(
    suites: Any, *, n: int | None, seed: int, prompting: Sequence[str], model: Any
) -> list[Suite]:
    """The suites that were asked for.

    Args:
        suites: a name ("enterprise": all ten; "needles"), "SET:PATH" of a public set in a file,
            a path of a JSONL file, a list of them, a list of cases as dicts, or a data frame.
        n: cases a suite; None: the shipped number, or all.
        seed: of the generators, and of the order of options in public sets.
        prompting: the ways that will be asked for.
        model: needles are counted in its tokens, up to its context.

    Raises:
        EvaluationError: a name that is not known, a file or case that cannot be read.
        Unsupported: what is to come, or a way of prompting that a suite does not have.
    """
    if hasattr(suites, "to_dict") and not isinstance(suites, Mapping):
        suites = suites.to_dict("records")
    if isinstance(suites, Mapping) or not isinstance(suites, (Iterable, Path)):
        raise EvaluationError(
            f"suites is {type(suites).__name__}, expected names, a JSONL file, or a list of cases: "
            "one case too stands in a list"
        )
    given = [suites] if isinstance(suites, (str, Path)) else list(suites)
    if not given:
        raise EvaluationError("suites is empty, expected names, cases, or a JSONL file")
    found: list[Suite] = []
    are_cases = [isinstance(item, Mapping) for item in given]
    if any(are_cases) and not all(are_cases):
        raise EvaluationError(
            "suites mixes names and cases, expected names alone or cases alone: cases may stand in "
            "a JSONL file, which is a name"
        )
    if all(are_cases):
        found = _by_suite(_own_cases(given, "cases"), n)
        given = []
    for item in given:
        name, colon, path = str(item).partition(":")
        if colon and name not in LOCAL_SETS and not Path(str(item)).exists():
            raise EvaluationError(
                f"suites: {item!r}: the set {name!r} is not known, expected one of "
                f"{', '.join(LOCAL_SETS)} before the colon"
            )
        if colon and name in LOCAL_SETS:
            found.append(_local(name, Path(path), n, seed, prompting))
        elif isinstance(item, Path) or str(item).endswith(".jsonl"):
            found += _by_suite(_own_file(Path(item)), n)
        elif item == NEEDLES:
            cases = needles(lambda text: len(model.encode(text)), context=model.context, seed=seed)
            found.append(Suite(name=NEEDLES, cases=tuple(cases[:n])))
        else:
            found += [_shipped(name, n, seed) for name in GROUPS.get(item, (item,))]
    names = [suite.name for suite in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise EvaluationError(f"suites has {twice!r} twice, expected every suite once")
    for suite in found:
        for way in prompting:
            suite.under(way)
    return found


def weights_of(preset: str | None, suites: Sequence[Suite]) -> Mapping[str, float] | None:
    """How a preset weighs its suites; None: all alike.

    Raises:
        EvaluationError: it is not known, or the suites are not its own.
    """
    if preset is None or preset in (*GROUPS, SMOKE):
        return None
    if preset in TO_COME:
        raise Unsupported(f"preset: {preset!r} is to come")
    if preset not in PRESETS:
        known = ", ".join(sorted({*GROUPS, *PRESETS, SMOKE}))
        raise EvaluationError(f"preset {preset!r} is not known, expected one of {known}")
    weights = PRESETS[preset].weights
    if {suite.name for suite in suites} != set(weights):
        raise EvaluationError(
            f"preset {preset!r} is made of public sets in your files, expected suites="
            f"{[f'{name}:PATH' for name in weights]}"
        )
    return dict(weights)


def _local(name: str, path: Path, n: int | None, seed: int, prompting: Sequence[str]) -> Suite:
    ways = [way for way in prompting if way in PROMPTINGS] or [ZERO_SHOT]
    cases = {way: tuple(local_cases(name, path, prompting=way, seed=seed)[:n]) for way in ways}
    return Suite(name=name, cases=cases[ways[0]], by_prompting=cases)


def _shipped(name: Any, n: int | None, seed: int) -> Suite:
    if name in TO_COME:
        raise Unsupported(f"suites: {name!r} is to come")
    if name not in SUITES:
        sets = tuple(f"{item}:PATH" for item in LOCAL_SETS)
        known = (*GROUPS, *SUITES, *sets)
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise EvaluationError(
            f"suite {name!r} is not known, expected one of {', '.join(known)}, or a file of cases "
            f"that ends in .jsonl.{hint}"
        )
    if name not in suite_names():
        raise EvaluationError(f"suite {name!r} is not in this build")
    is_shipped = seed == 0 and (n is None or n <= len(shipped(name)))
    cases = shipped(name)[:n] if is_shipped else generated(name, seed, n)
    module = importlib.import_module(f".suites.{name}", __package__)
    examples = tuple((e["messages"], e["answer"]) for e in getattr(module, "EXAMPLES", ()))
    tools = tuple(getattr(module, "EXAMPLE_TOOLS", ()))
    return Suite(name=name, cases=tuple(cases), examples=examples, example_tools=tools)


# --- own cases -----------------------------------------------------------------------------------


def _own_file(path: Path) -> list[tuple[Case, Grader | None]]:
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path}: {error}, expected a JSONL file in UTF-8") from error
    given = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                given.append((f"{path.name} line {number}", json.loads(line)))
            except ValueError as error:
                where = f"{path.name} line {number}"
                raise EvaluationError(f"{where}: {error}, expected one JSON object") from error
    if not given:
        raise EvaluationError(f"{path}: found no case, expected one JSON object a line")
    return [_own_case(item, where, index, path.stem) for index, (where, item) in enumerate(given)]


def _own_cases(given: Iterable[Any], suite: str) -> list[tuple[Case, Grader | None]]:
    return [_own_case(item, f"case {index}", index, suite) for index, item in enumerate(given)]


def _own_case(given: Any, where: str, index: int, suite: str) -> tuple[Case, Grader | None]:
    """A case with what was left out filled in, and its grader where that is a function."""
    if not isinstance(given, Mapping):
        raise EvaluationError(f"{where}: found {type(given).__name__}, expected an object")
    filled = {str(name): value for name, value in given.items() if not _is_missing(value)}
    if "prompt" in filled and "messages" in filled:
        raise EvaluationError(f"{where}: both `prompt` and `messages`, expected one of them")
    if "prompt" in filled:
        if not isinstance(filled["prompt"], str):
            kind = type(filled["prompt"]).__name__
            raise EvaluationError(f"{where}: prompt is {kind}, expected a string")
        filled["messages"] = [{"role": "user", "content": filled.pop("prompt")}]
    for name in ("messages", "expected", "grader"):
        if name not in filled:
            also = " or `prompt`" if name == "messages" else ""
            raise EvaluationError(f"{where}: no field {name!r}{also}, which every case has")
    if not isinstance(filled["expected"], Mapping):
        filled["expected"] = {"value": filled["expected"]}
    function = filled["grader"] if callable(filled["grader"]) else None
    if function is not None:
        filled["grader"] = f"own:{getattr(function, '__name__', type(function).__name__)}"
    case_id = str(filled.setdefault("case_id", f"{suite}-{index + 1:04}"))
    defaults = {
        "version": 1, "suite": suite, "family": "", "tier": "medium", "language": "en",
        "cluster_id": case_id, "seed": 0, "max_tokens": LIMITS.get(suite, LIMIT), "ideal": [],
        "wrong": [],
    }  # fmt: skip
    return read_case({**defaults, **filled}, where=where), function


def _is_missing(value: Any) -> bool:
    """None, or the NaN that a frame has where there is no value."""
    return value is None or (isinstance(value, float) and value != value)


def _by_suite(cases: Sequence[tuple[Case, Grader | None]], n: int | None) -> list[Suite]:
    names = list(dict.fromkeys(case.suite for case, _ in cases))
    suites = []
    for name in names:
        own = [(case, function) for case, function in cases if case.suite == name][:n]
        ids = [case.case_id for case, _ in own]
        if twice := next((i for i in ids if ids.count(i) > 1), None):
            raise EvaluationError(f"suite {name!r}: case_id {twice!r} stands twice")
        graders: dict[str, Grader] = {}
        for case, function in own:
            if function is not None and graders.setdefault(case.grader, function) is not function:
                raise EvaluationError(
                    f"suite {name!r}: two functions are called {case.grader!r}, expected one name "
                    "for each"
                )
        kept = {grader: verdicts(function) for grader, function in graders.items()}
        suites.append(Suite(name=name, cases=tuple(case for case, _ in own), graders=kept))
    return suites


def verdicts(function: Callable[[Case, Output], Any]) -> Grader:
    """A grader of a function that may also give a number from 0 to 1, or whether it is right."""

    def graded(case: Case, output: Output) -> Verdict:
        found = function(case, output)
        if isinstance(found, Verdict):
            return found
        score = float(found)
        if not 0 <= score <= 1:
            raise ValueError(f"the grader gave {found!r}, expected a number from 0 to 1")
        verdict = PASS if score == 1 else PARTIAL if score > 0 else FAIL
        return Verdict(score=score, verdict=verdict, reason="" if score == 1 else "graded")

    graded.__wrapped__ = function  # type: ignore[attr-defined]
    return graded


# --- prompts -------------------------------------------------------------------------------------


def asked(suite: Suite, case: Case, prompting: str) -> list[dict[str, Any]]:
    """The messages that a case begins with under a way of prompting."""
    messages = [dict(message) for message in case.messages]
    if prompting != FEW_SHOT:
        return messages
    first = 1 if messages and messages[0]["role"] == "system" else 0
    shown: list[dict[str, Any]] = []
    for example, answer in suite.examples:
        said = [{"role": "assistant", "content": answer}] if isinstance(answer, str) else answer
        shown += [*map(dict, example), *map(dict, said)]
    return [*messages[:first], *shown, *messages[first:]]


def twin(case: Case) -> Case | None:
    """A conversation's last question in one turn, with the state spelled out; None: it has none."""
    given = case.expected.get("twin")
    if not isinstance(given, Mapping):
        return None
    own = {name: value for name, value in given.items() if name != "messages"}
    return replace(
        case,
        case_id=f"{case.case_id}-twin",
        messages=given["messages"],
        ideal=own.pop("ideal", ()),
        wrong=own.pop("wrong", ()),
        expected=own,
    )
