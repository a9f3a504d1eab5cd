"""Conversations that pebble learns from and is scored on, as messages, as text and as ids.

`case("train", seed, index)` and `case("test", seed, index)` are each the same for ever. The two
parts share no wording and no value: every list of wordings is cut in two, and a value (the numbers
of a sum, a name, a code) belongs to the part that its hash says. `leaks` checks both on real cases.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeVar

from cabochon.chat.marks import split_marks
from cabochon.chat.native import gemma4
from cabochon.evaluation.draw import Draw
from cabochon.tokenizer import Tokenizer

Message = dict[str, Any]
T = TypeVar("T")
PARTS = ("train", "test")
TEST_SHARE = 5  # one wording and one value of so many is held out
IGNORED = -100  # the label of what is not learnt


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One conversation. Its last message is the answer to learn, and to be scored against."""

    task: str
    messages: tuple[Message, ...]
    expected: Any  # text, a call as (name, arguments), or a JSON object
    wordings: frozenset[str]
    values: frozenset[str]
    tools: tuple[Message, ...] = ()
    thinking: bool = False
    schema: Mapping[str, Any] | None = None

    @property
    def prompt(self) -> list[Message]:
        """All but the answer."""
        return list(self.messages[:-1])


def part_of(value: str) -> str:
    """The part that a value belongs to."""
    digest = hashlib.sha256(value.encode()).digest()
    return "test" if digest[0] % TEST_SHARE == 0 else "train"


class Source:
    """What one case is made from: choices among what its part may use, and a record of them."""

    def __init__(self, part: str, draw: Draw) -> None:
        self.part, self.draw = part, draw
        self.wordings: set[str] = set()
        self.values: set[str] = set()

    def wording(self, texts: Sequence[str]) -> str:
        """One of them. The last fifth, at least one, is for tests alone."""
        cut = len(texts) - max(1, len(texts) // TEST_SHARE)
        text = self.draw.choice(texts[:cut] if self.part == "train" else texts[cut:])
        self.wordings.add(text)
        return text

    def value(self, make: Callable[[], T], key: Callable[[T], str] = str) -> T:
        """The first made value that belongs to this part."""
        for _ in range(1000):
            made = make()
            name = key(made)
            if part_of(name) == self.part:
                self.values.add(name)
                return made
        raise AssertionError(f"no value of the part {self.part} in 1,000 draws")

    def one(self, items: Sequence[T], key: Callable[[T], str] = str) -> T:
        return self.value(lambda: self.draw.choice(items), key)

    def case(self, task: str, messages: Iterable[Message], expected: Any, **more: Any) -> Case:
        return Case(
            task=task,
            messages=tuple(messages),
            expected=expected,
            wordings=frozenset(self.wordings),
            values=frozenset(self.values),
            **more,
        )


def case(part: str, seed: int, index: int, *, task: str | None = None) -> Case:
    """Case `index` of a part: of the named task, or of one drawn by weight."""
    from tasks import TASKS  # which imports Source from here

    draw = Draw("pebble", part, seed, task or "", index)
    if task is None:
        lot = draw.integer(1, sum(weight for _, weight in TASKS.values()))
        reached = accumulate(weight for _, weight in TASKS.values())
        task = next(name for name, end in zip(TASKS, reached, strict=True) if lot <= end)
    made = TASKS[task][0](Source(part, draw))
    assert made.task == task
    return made


def leaks(train: Iterable[Case], test: Iterable[Case]) -> set[str]:
    """What cases of the two parts have in common: wordings, values, whole prompts."""

    def seen(cases: Iterable[Case]) -> set[str]:
        found: set[str] = set()
        for each in cases:
            found |= {f"{each.task}: {text}" for text in each.wordings | each.values}
            found.add(f"{each.task}: {each.prompt}")
        return found

    return seen(train) & seen(test)


# --- text and ids ---------------------------------------------------------------------------------


def printed(each: Case) -> list[tuple[str, bool]]:
    """Runs of text and names of control tokens (True), as the published template prints them."""
    text = gemma4(each.messages, tools=each.tools or None, thinking=each.thinking,
                  add_generation_prompt=False)  # fmt: skip
    return list(split_marks(text))


def learnt(each: Case) -> list[tuple[str, bool, bool]]:
    """Runs as in `printed`, and whether the model writes them: thought, call, answer, and the token
    that ends its turn or hands over to a tool.

    Where thinking is on, the template drops earlier thoughts, so only what follows the last
    question shows how to answer.
    """
    runs = printed(each)
    first_learnt = 0
    if each.thinking:
        first_learnt = max(i for i, (text, _) in enumerate(runs) if text.startswith("user\n"))
    marked: list[tuple[str, bool, bool]] = []
    is_model = in_result = False
    for index, (text, is_control) in enumerate(runs):
        is_learnt = is_model and not in_result and index >= first_learnt
        if is_control:
            if text == "<|turn>":
                is_model = False
                is_learnt = False
            elif text == "<|tool_response>":
                in_result = True
            elif text == "<tool_response|>":
                in_result = False
                is_learnt = False
            elif text == "<turn|>":
                is_model = False
        elif marked and marked[-1][0] == "<|turn>" and text.startswith("model\n"):
            marked.append(("model\n", False, False))
            is_model = True
            text = text.removeprefix("model\n")
            is_learnt = index >= first_learnt
        if text:
            marked.append((text, is_control, is_learnt))
    return marked


def encoded(each: Case, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Ids of a conversation and labels: the id itself where the model writes it, else IGNORED."""
    ids: list[int] = []
    labels: list[int] = []
    for text, is_control, is_learnt in learnt(each):
        new = [tokenizer.control_ids[text]] if is_control else tokenizer.encode(text)
        ids += new
        labels += new if is_learnt else [IGNORED] * len(new)
    return ids, labels


def texts(part: str, seed: int, count: int) -> Iterable[str]:
    """Text runs of `count` cases, without control tokens: what a tokenizer is trained on."""
    for index in range(count):
        yield from (text for text, is_control in printed(case(part, seed, index)) if not is_control)
