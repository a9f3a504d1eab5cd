"""What is to be done: every case under every way of prompting, rendered, with its answer's key.

What of a model this takes is written down here too, so that anything that has it can be evaluated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from .. import __version__
from ..errors import CabochonError, EvaluationError, InvalidArgument, Unsupported
from ..options import MAX_SEED, flag, integer, real
from ..results import Event
from ..tokenizer import CONTROL_NAMES, alternatives
from ..types import Ints, Prompt
from . import recipes
from .cases import Case, canonical, sha256
from .grading import Grader
from .hashes import file_hashes
from .recipes import FEW_SHOT, PROMPTING, SCHEMA, TWIN, Suite

CHOICE = "choice"  # the grader of cases whose choices are scored: nothing is generated
_SHARED_TOKENS = 32  # from so many on, prompts that begin alike run together
_TURN_TOKENS = 8  # around an answer when it becomes history
_CONTROL = alternatives(CONTROL_NAMES)
_ENDS = ("<turn|>", "<end_of_turn>", "<eos>")


class Answering(Protocol):
    """What of a `Model` evaluation uses; replay.py has models that are no more than this."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def context(self) -> int: ...
    @property
    def stop_token_ids(self) -> tuple[int, ...]: ...
    @property
    def plan(self) -> Any: ...
    def info(self) -> Any: ...
    def encode(self, text: Any, *, bos: bool = False, special: bool = False) -> Any: ...
    def decode(self, ids: Any, *, special: bool = False) -> str: ...
    def render(
        self, messages: Any, *, tools: Sequence[Any] = (), thinking: bool = False
    ) -> Prompt: ...
    def stream(self, prompt: Any, **options: Any) -> Iterator[Event]: ...
    def score(self, prompt: Any, continuations: Any) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What was asked for, checked: the recipe of a run."""

    n: int | None
    prompting: tuple[str, ...]
    thinking: bool
    thinking_budget: int | None
    max_tokens: int | str
    temperature: float
    seed: int
    repeats: int
    run_code: bool

    def decoding(self, case: Case, prompting: str) -> dict[str, Any]:
        """Options of generate for a case, but for its tools and the seed of a repeat."""
        limit = case.max_tokens if self.max_tokens == "auto" else int(self.max_tokens)
        options: dict[str, Any] = {"temperature": self.temperature, "max_tokens": limit}
        if self.thinking:
            budget = self.thinking_budget or 0
            options |= {"thinking": True, "thinking_budget": budget}
            options["max_tokens"] += budget if self.max_tokens == "auto" else 0
        if prompting == SCHEMA:
            options["schema"] = case.schema
        return options


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """One case under one way of prompting, once."""

    case: Case
    suite: Suite
    prompting: str
    repeat: int
    messages: tuple[Mapping[str, Any], ...]
    first: int  # of the messages that may be asked: before it stand examples
    opening: tuple[Mapping[str, Any], ...]  # those of the first turn
    tools: tuple[Mapping[str, Any], ...]  # of the case, behind those of examples
    prompt: Prompt  # of the first turn
    most_tokens: int  # prompt and output, if every turn takes what it may
    decoding: Mapping[str, Any]
    seed: int | None  # None: greedy, which needs none
    key: str

    @property
    def options(self) -> dict[str, Any]:
        """Keywords of generate."""
        more = {} if self.seed is None else {"seed": self.seed}
        return {**self.decoding, **more, "tools": self.tools}

    @property
    def asked(self) -> str:
        """What is asked, as one text."""
        return canonical([list(self.messages), list(self.tools)])

    @property
    def grader(self) -> Grader | None:
        """A function that was given with the case."""
        return self.suite.graders.get(self.case.grader)


def check(
    *,
    n: Any,
    prompting: Any,
    thinking: Any,
    thinking_budget: Any,
    max_tokens: Any,
    temperature: Any,
    seed: Any,
    repeats: Any,
    run_code: Any,
) -> Settings:
    """Options of evaluate, checked.

    Raises:
        InvalidArgument: out of range, of a wrong type, or two that exclude each other.
    """
    ways = (prompting,) if isinstance(prompting, str) else tuple(prompting)
    if not ways or any(way not in PROMPTING for way in ways) or len(set(ways)) != len(ways):
        raise InvalidArgument(
            f"prompting is {prompting!r}, expected some of {', '.join(map(repr, PROMPTING))}",
            argument="prompting",
        )
    if max_tokens != "auto":
        max_tokens = integer("max_tokens", max_tokens, 1, 2**31 - 1)
    if thinking_budget is not None and not thinking:
        raise InvalidArgument(
            f"thinking_budget is {thinking_budget!r} without thinking=True",
            argument="thinking_budget",
        )
    budget = recipes.THINKING_TOKENS if thinking_budget is None else thinking_budget
    settings = Settings(
        n=None if n is None else integer("n", n, 1, 1_000_000),
        prompting=ways,
        thinking=flag("thinking", thinking),
        thinking_budget=integer("thinking_budget", budget, 0, 2**31 - 1) if thinking else None,
        max_tokens=max_tokens,
        temperature=0.0 if temperature is None else real("temperature", temperature, 0, 100),
        seed=integer("seed", seed, 0, MAX_SEED),
        repeats=integer("repeats", repeats, 1, 10_000),
        run_code=flag("run_code", run_code),
    )
    if settings.repeats > 1 and settings.temperature == 0:
        raise InvalidArgument(
            f"repeats is {repeats} at temperature 0, where every answer is the same: expected "
            "repeats=1, or a temperature above 0",
            argument="repeats",
        )
    return settings


def facts(model: Answering) -> dict[str, Any]:
    """What of a model decides its bits: a part of every key.

    Raises:
        Unsupported: a base model.
        EvaluationError: a file of the checkpoint cannot be read any more.
    """
    info = model.info()
    if info.template is None:
        raise Unsupported(
            f"evaluate: {model.name} has no chat template (it is a base model), and suites ask in "
            "messages: expected an instruction-tuned model"
        )
    return {
        "fingerprint": model.fingerprint,
        "files": file_hashes(info.files),
        "formats": {
            "weights": dict(info.formats),
            "kv": info.kv,
            "arithmetic": info.arithmetic,
            "device": info.device,
        },
        "numerics": info.numerics,
        "version": __version__,
    }


def tasks_of(
    model: Answering, suites: Sequence[Suite], settings: Settings, about: Mapping[str, Any]
) -> list[Task]:
    """Every case with every prompting, and what is printed beside, in the order they run.

    Args:
        about: what `facts` gave.

    Raises:
        EvaluationError: with every case that cannot be rendered.
    """
    tasks: list[Task] = []
    stops: list[str] = []
    for suite in suites:
        ways = [(case, way) for way in settings.prompting for case in suite.under(way)]
        for case in suite.cases:
            twin = recipes.twin(case)
            if twin is not None:
                ways.append((twin, TWIN))
            if case.grader == "json" and case.schema is not None and _can_bind(model):
                ways.append((case, SCHEMA))
        for case, way in ways:
            try:
                tasks += _repeats(model, suite, case, way, settings, about)
            except CabochonError as error:
                stops.append(f"{case.case_id}: {error}")
    if stops:
        raise EvaluationError("evaluate: cases that cannot be rendered:\n" + "\n".join(stops))
    return _ordered(tasks)


def _repeats(
    model: Answering,
    suite: Suite,
    case: Case,
    prompting: str,
    settings: Settings,
    about: Mapping[str, Any],
) -> Iterator[Task]:
    messages = recipes.asked(suite, case, prompting)
    first = len(messages) - len(case.messages)  # a system message before them is no question
    opening = messages[: _first_question(messages, first)] if case.is_talk else messages
    thinking = settings.thinking and case.grader != CHOICE
    shown = suite.example_tools if prompting == FEW_SHOT else ()
    tools = (*shown, *case.tools)
    prompt = model.render(opening, tools=tools, thinking=thinking)
    whole = model.render(messages, tools=tools) if case.is_talk else prompt
    decoding = settings.decoding(case, prompting)
    room = int(decoding["max_tokens"]) + (_TURN_TOKENS if case.is_talk else 0)
    for repeat in range(settings.repeats):
        seed = _seed(settings, case, repeat)
        key = {
            "case": case.content,
            "prompt": ids_sha256([prompt.token_ids]),
            "decoding": {**decoding, "seed": seed},
            "repeat": repeat,
            **about,
        }
        yield Task(
            case=case,
            suite=suite,
            prompting=prompting,
            repeat=repeat,
            messages=tuple(messages),
            first=first,
            opening=tuple(opening),
            tools=tools,
            prompt=prompt,
            most_tokens=int(whole.token_ids.size) + case.turns * room,
            decoding=decoding,
            seed=seed,
            key=sha256(canonical(key)),
        )


def _can_bind(model: Answering) -> bool:
    """Whether answers can be bound to a schema here."""
    return find_spec("llguidance") is not None and getattr(model, "can_bind", True)


def _first_question(messages: Sequence[Mapping[str, Any]], first: int) -> int:
    """How many messages the first turn has."""
    places = range(first, len(messages))
    return 1 + next(index for index in places if messages[index]["role"] == "user")


def _seed(settings: Settings, case: Case, repeat: int) -> int | None:
    """Of one answer: the same in every order and every shard."""
    if settings.temperature == 0:
        return None
    return int(sha256(f"{settings.seed}/{case.sha256}/{repeat}")[:16], 16)


def ids_sha256(ids: Sequence[Ints]) -> str:
    return hashlib.sha256(b"".join(part.astype("<i4").tobytes() for part in ids)).hexdigest()


def by_prefix(tasks: Sequence[Task]) -> Iterator[tuple[Task, int]]:
    """Tasks in the order of their prompts' ids, each with the tokens that its prompt shares with
    the one before."""
    last: list[int] = []
    for task in sorted(tasks, key=lambda task: (task.prompt.token_ids.tolist(), task.key)):
        ids = task.prompt.token_ids.tolist()
        pairs = enumerate(zip(last, ids, strict=False))
        yield task, next((at for at, (a, b) in pairs if a != b), min(len(last), len(ids)))
        last = ids


def _ordered(tasks: Sequence[Task]) -> list[Task]:
    """Those that begin alike together, and the longest of these groups first."""
    groups: list[list[Task]] = []
    for task, shared in by_prefix(tasks):
        if groups and shared >= _SHARED_TOKENS:
            groups[-1].append(task)
        else:
            groups.append([task])
    groups.sort(key=lambda group: -max(task.most_tokens for task in group))
    return [task for group in groups for task in group]


class Controls:
    """The control tokens of a model's vocabulary."""

    def __init__(self, model: Answering) -> None:
        self._decode = model.decode
        encoded = {name: model.encode(name, special=True) for name in CONTROL_NAMES}
        self._names = {int(ids[0]): name for name, ids in encoded.items() if len(ids) == 1}
        ends = (token for token, name in self._names.items() if name in _ENDS)
        self._ends = sorted({*ends, *model.stop_token_ids})

    def of(self, token_ids: Ints) -> list[int]:
        """Those of some ids, in their order."""
        return [token for token in token_ids.tolist() if token in self._names]

    def places(self, raw_text: str, token_ids: Ints) -> list[int]:
        """Where in `raw_text` control tokens begin; other places that spell one are text."""
        spelled = [found.start() for found in _CONTROL.finditer(raw_text)]
        at = [index for index, token in enumerate(token_ids.tolist()) if token in self._names]
        if len(at) == len(spelled):  # as good as always: nobody spelled one
            return spelled
        found, length, begin = [], 0, 0
        for place in at:
            length += len(self._decode(token_ids[begin:place], special=True))
            found.append(length)
            length += len(self._decode(token_ids[place : place + 1], special=True))
            begin = place + 1
        return found

    def wasted(self, token_ids: Ints) -> int:
        """Tokens after the end of the turn."""
        stops = np.flatnonzero(np.isin(token_ids, self._ends))
        return int(token_ids.size - 1 - stops[0]) if stops.size else 0
