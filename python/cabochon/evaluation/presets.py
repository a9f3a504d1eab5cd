"""Public sets from the user's own files, and the presets made of them; generated needles.

Nothing is fetched: a set is `NAME:PATH`. Prompts are ours. Options are put in an order that
balances where the gold stands, the instruction names the options that an item has, and limits are
large enough that cuts are rare: what a published comparison got wrong with the same sets is listed
in docs/evaluation.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import EvaluationError
from .cases import Case, read_case
from .draw import Draw
from .graders.answers import boxed

PROMPTINGS = ("zero-shot", "cot", "few-shot-cot")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Item:
    """One row of a public set."""

    item_id: str
    question: str
    gold: str  # a number, an expression, or the right option's text
    options: tuple[str, ...] = ()
    family: str = ""


@dataclass(frozen=True, slots=True)
class LocalSet:
    """How the rows of a set are read and asked for."""

    read: Callable[[Mapping[str, Any]], Item | None]  # None: not a part of the set
    kind: str  # "letter", "number", "expression" or "choice": the grader
    max_tokens: int
    examples: tuple[tuple[str, str], ...] = ()  # worked ones: question and reasoning with answer


# --- rows of public files ------------------------------------------------------------------------


def _arc(row: Mapping[str, Any]) -> Item:
    question = row["question"]
    if isinstance(question, Mapping):  # as first released
        options = [(choice["label"], choice["text"]) for choice in question["choices"]]
        question = question["stem"]
    else:
        choices = row["choices"]
        options = list(zip(choices["label"], choices["text"], strict=True))
    gold = dict(options)[row["answerKey"]]
    return Item(str(row["id"]), question, gold, tuple(text for _, text in options))


def _gsm8k(row: Mapping[str, Any]) -> Item:
    gold = row["answer"].rsplit("####", 1)[1].strip().replace(",", "")
    return Item("", row["question"], gold)


def _math(row: Mapping[str, Any]) -> Item | None:
    level = int(str(row["level"]).rsplit(" ", 1)[-1])
    if level > 3:
        return None
    gold = row.get("answer") or boxed(row["solution"])
    if gold is None:
        raise ValueError("no \\boxed{} in its solution")
    return Item(str(row.get("unique_id", "")), row["problem"], gold, family=f"level-{level}")


def _truthfulqa(row: Mapping[str, Any]) -> Item:
    targets = row["mc1_targets"]
    if "choices" in targets and "labels" in targets:
        targets = dict(zip(targets["choices"], targets["labels"], strict=True))
    (gold,) = [text for text, is_right in targets.items() if is_right]
    return Item("", row["question"], gold, tuple(targets))


def _choices(row: Mapping[str, Any]) -> Item:
    options = tuple(row.get("options") or row["choices"])
    answer = row.get("answer_index", row.get("answer"))
    index = LETTERS.index(answer) if isinstance(answer, str) else int(answer)
    family = str(row.get("category") or row.get("subject") or "")
    identity = str(row.get("question_id", row.get("id", "")))
    return Item(identity, row["question"], options[index], options, family)


_LETTER_EXAMPLES = (
    (
        "Which of these melts when it is left in warm sun?\n\nA) a pebble\nB) a bar of chocolate\n"
        "C) a glass bottle",
        "Warm sun heats things to some thirty or forty degrees. Stone and glass stay solid at that "
        "temperature, while chocolate softens and melts.\nAnswer: B",
    ),
    (
        "A gardener waters one of two equal plants and not the other. What does she want to learn?"
        "\n\nA) what water does to the plant\nB) which plant is older\nC) how heavy soil is\n"
        "D) when the sun rises",
        "Only the water differs between the plants, so a difference in growth shows what water "
        "does.\nAnswer: A",
    ),
    (
        "Which tool shows whether a shelf is level?\n\nA) a hammer\nB) a ruler\nC) a saw\n"
        "D) a spirit level",
        "A ruler measures length, a hammer and a saw shape things. A spirit level shows by its "
        "bubble whether a surface is level.\nAnswer: D",
    ),
)
_NUMBER_EXAMPLES = (
    (
        "A baker fills 6 trays with 12 rolls each and sells 50 rolls. How many rolls are left?",
        "6 trays with 12 rolls are 6 * 12 = 72 rolls. After 50 are sold, 72 - 50 = 22 are left.\n"
        "Answer: 22",
    ),
    (
        "Tickets cost 8 dollars, and half of that for children. What do 3 adults and 4 children "
        "pay together, in dollars?",
        "3 adults pay 3 * 8 = 24. A child pays 8 / 2 = 4, so 4 children pay 16. Together that is "
        "24 + 16 = 40.\nAnswer: 40",
    ),
    (
        "A tank holds 90 litres and is one third full. Water runs in at 5 litres a minute. After "
        "how many minutes is it full?",
        "One third of 90 is 30 litres, so 60 are missing. At 5 litres a minute that takes "
        "60 / 5 = 12 minutes.\nAnswer: 12",
    ),
)
_EXPRESSION_EXAMPLES = (
    ("Solve $2x + 3 = 11$ for $x$.", "$2x = 8$, so $x = 4$.\nAnswer: $\\boxed{4}$"),
    (
        "What is $\\frac{1}{2} + \\frac{1}{3}$ as a fraction in lowest terms?",
        "With the denominator 6: $\\frac{3}{6} + \\frac{2}{6} = \\frac{5}{6}$.\n"
        "Answer: $\\boxed{\\frac{5}{6}}$",
    ),
    (
        "A rectangle has the sides 3 and $x$ and the area 12. What is its perimeter?",
        "$3x = 12$ gives $x = 4$. The perimeter is $2(3 + 4) = 14$.\nAnswer: $\\boxed{14}$",
    ),
)

LOCAL_SETS: Mapping[str, LocalSet] = MappingProxyType(
    {
        "arc": LocalSet(_arc, "letter", 1024, _LETTER_EXAMPLES),
        "gsm8k": LocalSet(_gsm8k, "number", 1024, _NUMBER_EXAMPLES),
        "math": LocalSet(_math, "expression", 2048, _EXPRESSION_EXAMPLES),
        "truthfulqa": LocalSet(_truthfulqa, "letter", 1024, _LETTER_EXAMPLES),
        "choices": LocalSet(_choices, "choice", 1),
    }
)


@dataclass(frozen=True, slots=True)
class Preset:
    """Sets that belong together, and how their scores are weighed."""

    version: int
    weights: Mapping[str, float]
    source: str


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "deployment-2604.07035": Preset(
            version=1,
            weights=MappingProxyType({"arc": 0.2, "gsm8k": 0.4, "math": 0.3, "truthfulqa": 0.1}),
            source="arXiv 2604.07035: sets and weights; prompts, limits and graders are ours",
        )
    }
)


# --- cases ---------------------------------------------------------------------------------------


def local_cases(
    name: str, path: Path, *, prompting: str = "zero-shot", seed: int = 0
) -> list[Case]:
    """The cases of a public set in a file of the user's: JSONL, or one JSON list.

    prompting: one of `PROMPTINGS`; a scored set has "zero-shot" alone.

    Raises:
        EvaluationError: an unknown set or prompting; a file that cannot be read; a row, named by
            its number from 1, that is not of the set.
    """
    if name not in LOCAL_SETS:
        raise EvaluationError(f"set {name!r} is not known, expected one of {sorted(LOCAL_SETS)}")
    kind = LOCAL_SETS[name]
    known = ("zero-shot",) if kind.kind == "choice" else PROMPTINGS
    if prompting not in known:
        raise EvaluationError(f"{name}: prompting is {prompting!r}, expected one of {known}")
    items = []
    for number, row in enumerate(_rows(path), 1):
        try:
            item = kind.read(row)
        except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise EvaluationError(
                f"{path} row {number}: {type(error).__name__} {error}, "
                f"expected a row of {name}: {str(row)[:80]!r}"
            ) from error
        if item is not None:
            items.append((number, item))
    positions = _positions([len(item.options) for _, item in items], seed=seed)
    return [
        _case(name, kind, item, number, position, prompting)
        for (number, item), position in zip(items, positions, strict=True)
    ]


def _rows(path: Path) -> Iterator[Any]:
    try:
        text = path.read_text(encoding="utf-8")
        if text.lstrip().startswith("["):
            yield from json.loads(text)
            return
        for line in text.split("\n"):
            if line.strip():
                yield json.loads(line)
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path}: {error}, expected JSONL or a JSON list") from error


def _positions(counts: Sequence[int], *, seed: int) -> list[int]:
    """Where each gold is put among so many options: every place as often as any other."""
    rounds: dict[int, list[int]] = {}
    positions = []
    for index, count in enumerate(counts):
        if count == 0:
            positions.append(0)
            continue
        if not rounds.get(count):
            rounds[count] = Draw("positions", seed, index).shuffled(range(count))
        positions.append(rounds[count].pop())
    return positions


def _case(
    name: str, kind: LocalSet, item: Item, number: int, position: int, prompting: str
) -> Case:
    identity = item.item_id or f"{number:05d}"
    where = f"{name} row {number}"
    if item.options and item.gold not in item.options:
        raise EvaluationError(f"{where}: its answer {item.gold!r} is none of its options")
    if len(item.options) > len(LETTERS):
        raise EvaluationError(f"{where}: {len(item.options)} options, expected at most 26")
    others = [option for option in item.options if option != item.gold]
    options = [*others[:position], item.gold, *others[position:]]
    question, expected, ideal, wrong = _FORMS[kind.kind](item, options, position)
    if kind.kind != "choice":
        question = _prompt(question, kind, len(options), prompting)
    return read_case(
        {
            "case_id": f"{name}-{identity}-{prompting}",
            "version": 1,
            "suite": name,
            "family": item.family or name,
            "tier": "medium",
            "language": "en",
            "cluster_id": f"{name}-{identity}",
            "seed": 0,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": kind.max_tokens,
            "grader": kind.kind,
            "expected": expected,
            "ideal": ideal,
            "wrong": wrong,
        },
        where=where,
    )


_Form = tuple[str, dict[str, Any], list[str], list[list[str]]]
_PROSE = "That depends on a number of things, and a good many of them are not known."


def _letter_form(item: Item, options: Sequence[str], position: int) -> _Form:
    letters = LETTERS[: len(options)]
    listed = "\n".join(f"{name}) {text}" for name, text in zip(letters, options, strict=True))
    gold, other = letters[position], letters[position - 1]
    return (
        f"{item.question}\n\n{listed}",
        {"letter": gold, "letters": letters},
        [f"Answer: {gold}"],
        [[f"Answer: {other}", "wrong_choice"], [_PROSE, "no_answer"]],
    )


def _number_form(item: Item, options: Sequence[str], position: int) -> _Form:
    wrong = f"Answer: {item.gold}1"
    return (
        item.question,
        {"number": item.gold},
        [f"Answer: {item.gold}"],
        [[wrong, "wrong_value"], [_PROSE, "no_answer"]],
    )


def _expression_form(item: Item, options: Sequence[str], position: int) -> _Form:
    wrong = "Answer: $\\boxed{\\text{none of these}}$"
    return (
        item.question,
        {"expression": item.gold},
        [f"Answer: $\\boxed{{{item.gold}}}$"],
        [[wrong, "wrong_value"], [_PROSE, "no_answer"]],
    )


def _choice_form(item: Item, options: Sequence[str], position: int) -> _Form:
    return (
        f"{item.question}\n\nReply with the answer alone.",
        {"choices": list(options), "answer": position, "rule": "sum"},
        [item.gold],
        [[options[position - 1], "wrong_choice"], [_PROSE, "no_answer"]],
    )


_FORMS: Mapping[str, Callable[[Item, Sequence[str], int], _Form]] = MappingProxyType(
    {
        "letter": _letter_form,
        "number": _number_form,
        "expression": _expression_form,
        "choice": _choice_form,
    }
)


def _prompt(question: str, kind: LocalSet, options: int, prompting: str) -> str:
    last = {
        "letter": f'"Answer: " and the letter of the right option, '
        f"{LETTERS[0]} to {LETTERS[max(0, options - 1)]}",
        "number": '"Answer: " and the number alone',
        "expression": '"Answer: " and the result in \\boxed{}',
    }[kind.kind]
    parts = []
    if prompting == "few-shot-cot":
        parts += [f"Question: {q}\n{a}" for q, a in kind.examples]
        parts.append(f"Question: {question}")
    else:
        parts.append(question)
    steps = "" if prompting == "zero-shot" else "Think step by step. "
    parts.append(f"{steps}End with one line: {last}.")
    return "\n\n".join(parts)


# --- needles -------------------------------------------------------------------------------------

NEEDLE_TOKENS = 256  # of an answer
_TEMPLATE_TOKENS = 64  # around a prompt
_PLACES = (
    *("the north gate", "the boat house", "the seed store", "the clock tower", "the old mill"),
    *("the map room", "the stone cellar", "the glass house", "the rope works", "the west pier"),
    *("the bell loft", "the salt barn", "the quiet yard", "the ferry office", "the paper mill"),
    *("the wool hall", "the lamp room", "the plum orchard", "the tar shed", "the high weir"),
)
_WORDS = ("maple", "cobalt", "harbour", "lantern", "pewter", "saffron", "thistle", "walnut")
_SUBJECTS = ("The clerk", "A carter", "The night watch", "An apprentice", "The surveyor", "A guest")
_VERBS = ("counted", "moved", "cleaned", "repaired", "listed", "carried", "weighed", "inspected")
_THINGS = ("barrels", "crates", "ropes", "ledgers", "lamps", "tiles", "sacks", "benches", "pumps")
_TIMES = (
    "before noon",
    "after the rain",
    "at dusk",
    "twice that week",
    "on the first of the month",
)


def needles(
    count: Callable[[str], int],
    *,
    context: int,
    seed: int = 0,
    lengths: Sequence[int] | None = None,
    numbers: Sequence[int] = (1, 4, 8),
    depths: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
) -> list[Case]:
    """Values hidden in noise, to be found again: one case a length, number of needles and depth.

    count: tokens of a text; context: tokens of the model; lengths: tokens of prompt and answer,
    None: 4,096, 8,192, ... up to the context; depths: where the first needle stands; the others
    follow at equal distances, round the end.

    Raises:
        EvaluationError: a length that leaves no room for the noise, or is over the context.
    """
    if lengths is None:
        lengths = [size for power in range(12, 22) if (size := 1 << power) <= context]
        lengths = lengths or [context]
    cases = []
    for length in lengths:
        for number in numbers:
            bare = [_needle([], length, number, depth, seed) for depth in depths]
            # A line break is a token where it is counted alone, and joins what is beside it.
            used = max(count(case.messages[0]["content"]) for case in bare) + number
            left = length - used - NEEDLE_TOKENS - _TEMPLATE_TOKENS
            if length > context or left < length // 4:
                raise EvaluationError(
                    f"needles: a length of {length} tokens, of which {left} are left for noise, "
                    f"expected at least {length // 4}, and at most {context} (context) in all"
                )
            noise = _noise(count, left, Draw("noise", seed, length))
            cases += [_needle(noise, length, number, depth, seed) for depth in depths]
    return cases


def _noise(count: Callable[[str], int], tokens: int, draw: Draw) -> list[str]:
    """Lines that have at most so many tokens together, and hardly fewer."""
    lines: list[str] = []
    size = 0
    while size < tokens:
        block = [_line(draw) for _ in range(64)]
        added = count("\n".join(block) + "\n")
        if size + added > tokens:
            block = block[: max(0, (tokens - size) * 64 // added - 2)]
            return lines + block
        lines += block
        size += added
    return lines


def _line(draw: Draw) -> str:
    return (
        f"{draw.choice(_SUBJECTS)} {draw.choice(_VERBS)} {draw.integer(2, 99)} "
        f"{draw.choice(_THINGS)} {draw.choice(_TIMES)}."
    )


def _needle(noise: Sequence[str], length: int, number: int, depth: float, seed: int) -> Case:
    draw = Draw("needle", seed, length, number, int(depth * 1000))
    places = draw.sample(_PLACES, number + 2)
    asked, others = places[:number], places[number:]
    values = {place: f"{draw.integer(1_000_000, 9_999_999)}" for place in places}
    word = draw.choice(_WORDS)
    lines = list(noise)
    spots = sorted(
        (((depth + index / len(places)) % 1.0), place) for index, place in enumerate(places)
    )
    for share, place in reversed(spots):
        sentence = f"The code of {place} is {values[place]}."
        lines.insert(int(share * len(noise)), sentence)
    wanted = ", ".join(asked)
    question = (
        "Here is a log.\n\n" + "\n".join(lines) + "\n\n"
        f'Begin your answer with the word "{word}". Then give the code of each of these, one a '
        f"line, and no other code: {wanted}."
    )
    right = "\n".join([word, *(f"{place}: {values[place]}" for place in asked)])
    name = f"needles-{length}-{number}-{int(depth * 100):02d}"
    return read_case(
        {
            "case_id": name,
            "version": 1,
            "suite": "needles",
            "family": f"{number}-of-{length}",
            "tier": {1: "easy", 4: "medium"}.get(number, "hard"),
            "language": "en",
            "cluster_id": f"needles-{length}",
            "seed": seed,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": NEEDLE_TOKENS,
            "grader": "needles",
            "expected": {
                "prefix": word,
                "values": [values[place] for place in asked],
                "rivals": [values[place] for place in others],
                "length": length,
                "depth": depth,
            },
            "ideal": [right],
            "wrong": [
                [right.split("\n", 1)[1], "no_prefix"],
                [f"{right}\n{values[others[0]]}", "rival_value"],
                [f"{word}\nThere is no such code.", "missing_value"],
            ],
        },
        where=name,
    )
