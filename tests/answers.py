"""Answers as models write them, made at random with what they say.

The makers know the published form alone and nothing of the parser: values are written as the
published templates write them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cabochon.tokenizer import CONTROL_NAMES, Tokenizer

QUOTE = '<|"|>'


def write_value(value: Any) -> list[str]:
    """A value as the published templates print it; every other item is text, the rest are marks."""
    if isinstance(value, str):
        return ["", QUOTE, value, QUOTE, ""]
    if isinstance(value, bool) or value is None:
        return [{True: "true", False: "false", None: "null"}[value]]
    if isinstance(value, dict):
        items = sorted(value.items(), key=lambda item: item[0].lower())
        return _joined(
            "{", [_joined(f"{key}:", [write_value(item)], "") for key, item in items], "}"
        )
    if isinstance(value, list):
        return _joined("[", [write_value(item) for item in value], "]")
    return [str(value)]


def _joined(begin: str, items: Sequence[list[str]], end: str) -> list[str]:
    runs = [begin]
    for index, item in enumerate(items):
        runs[-1] += "," * (index > 0) + item[0]
        runs += item[1:]
    runs[-1] += end
    return runs


def call_pieces(name: str, arguments: dict[str, Any]) -> list[tuple[str, bool]]:
    """A call as (text, is a control token), between its markers."""
    runs = write_value(arguments)
    runs[0] = f"call:{name}{runs[0]}"
    return [(run, index % 2 == 1) for index, run in enumerate(runs)]


@dataclass
class Answer:
    """Ids, and what they say; `states` has where each of them leaves one."""

    ids: list[int] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    text: str = ""
    space: str = ""  # that is text if text follows
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    starts_in: str = "answer"

    @property
    def thinking(self) -> str | None:
        return "\n".join(self.thoughts) if self.thoughts else None

    def add(self, tokenizer: Tokenizer, text: str, *, is_control: bool, state: str) -> None:
        ids = [tokenizer.control_ids[text]] if is_control else tokenizer.encode(text)
        self.ids += ids
        self.states += [state] * len(ids)


WORDS = (
    *("the", "Paris", "na\u00efve", "\u65e5\u672c\u8a9e", "\U0001f680", "a b", "x={1,2};"),
    *("\U0001f469\u200d\U0001f469\u200d\U0001f467", "thought", "call:f{}", 'he said "hi"', "it's"),
    *("\n", "\n\n", "\t", "  ", "[1]", "{", "}", ",", ":", "null", "\\", "\\n", "\x00", "\u202e"),
    *CONTROL_NAMES,
)
NAMES = ("get_weather", "f", "a.b-c", "call", "null", "x" * 64, "7")
KEYS = ("city", "n", "k y", "Ünï", "🚀", "null", "é" * 30, "a-b", "$ref", "call", "1")


def words(source: random.Random, most: int = 8) -> str:
    return "".join(source.choice(WORDS) for _ in range(source.randint(0, most)))


def spoken(source: random.Random) -> str:
    """Text that is more than white space, and neither begins nor ends as a marker's own does."""
    return (
        f"{source.choice(['', ' ', ' a', 'ü'])}w{words(source)}{source.choice(['.', ' é', '🚀'])}"
    )


def value(source: random.Random, depth: int = 0) -> Any:
    kind = source.randrange(9 if depth < 4 else 6)
    if kind == 0:
        return source.choice([None, True, False])
    if kind == 1:
        return source.choice([0, -3, 7, 10**18, source.randint(-(10**6), 10**6)])
    if kind == 2:
        return source.choice([0.5, -1e-07, 1e20, source.uniform(-1e3, 1e3)])
    if kind < 6:
        return words(source)
    if kind == 6:
        return [value(source, depth + 1) for _ in range(source.randint(0, 4))]
    return arguments(source, depth + 1)


def arguments(source: random.Random, depth: int = 0) -> dict[str, Any]:
    keys = source.sample(KEYS, source.randint(0, 4))
    return {key: value(source, depth) for key in sorted(keys, key=str.lower)}


def random_answer(tokenizer: Tokenizer, source: random.Random) -> Answer:
    """Thoughts, text and calls in any order, with what models leave out or write too often."""
    answer = Answer(starts_in=source.choice(["answer", "answer", "thinking"]))
    if answer.starts_in == "thinking":
        _think(answer, tokenizer, source)
    for _ in range(source.randint(0, 4)):
        add = source.choice([_open_and_think, _say, _say, _call, _call, _stray])
        add(answer, tokenizer, source)
    if source.random() < 0.7:
        stop = source.choice(["<turn|>", "<|tool_response>", "<eos>"])
        is_answered = stop == "<|tool_response>" and answer.calls
        answer.add(tokenizer, stop, is_control=True, state="tool_call" if is_answered else "answer")
    else:
        answer.text += answer.space
    return answer


def _open_and_think(answer: Answer, tokenizer: Tokenizer, source: random.Random) -> None:
    answer.add(tokenizer, "<|channel>", is_control=True, state="thinking")
    answer.add(tokenizer, "thought\n", is_control=False, state="thinking")
    _think(answer, tokenizer, source)


def _think(answer: Answer, tokenizer: Tokenizer, source: random.Random) -> None:
    if source.random() < 0.7:
        thought = spoken(source)
        answer.thoughts.append(thought)
        answer.add(tokenizer, f"{thought}\n", is_control=False, state="thinking")
    else:
        answer.add(tokenizer, source.choice(["", "\n"]), is_control=False, state="thinking")
    answer.add(tokenizer, "<channel|>", is_control=True, state="answer")
    answer.space = ""


def _say(answer: Answer, tokenizer: Tokenizer, source: random.Random) -> None:
    if answer.states and answer.states[-1] == "tool_call":  # a call whose end was left out
        return
    text = spoken(source)
    answer.text += answer.space + text
    answer.space = ""
    answer.add(tokenizer, text, is_control=False, state="answer")


def _call(answer: Answer, tokenizer: Tokenizer, source: random.Random) -> None:
    name, given = source.choice(NAMES), arguments(source)
    answer.calls.append((name, given))
    answer.add(tokenizer, "<|tool_call>", is_control=True, state="tool_call")
    for text, is_control in call_pieces(name, given):
        answer.add(tokenizer, text, is_control=is_control, state="tool_call")
    answer.space = ""
    if source.random() < 0.9:
        answer.add(tokenizer, "<tool_call|>", is_control=True, state="answer")
        if source.random() < 0.3:
            answer.space = "\n"
            answer.add(tokenizer, answer.space, is_control=False, state="answer")


def _stray(answer: Answer, tokenizer: Tokenizer, source: random.Random) -> None:
    """A control token that is none of anything; in a call it would end it."""
    if not answer.states or answer.states[-1] == "answer":
        name = source.choice(["<tool_call|>", "<channel|>", "<pad>", QUOTE, "<tool_response|>"])
        answer.add(tokenizer, name, is_control=True, state="answer")
