"""Cases of the suite `code`: one function of Python from a specification with two examples.

Tests are data: arguments, and values that the reference gave when the case was made. References and
their mutants are text of ours (code_tasks.py); what a model writes never runs here.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from string import Template
from typing import Any

from ..draw import Draw
from .code_tasks import FIXED, OPEN, Task
from .shipped import examples, flat, main, woven

CASES = 60
_SHARES = {
    "strings": 9,
    "dates": 9,
    "parsing": 9,
    "structures": 9,
    "arithmetic": 8,
    "grouping": 8,
    "repair": 8,
}
_DRAWN = 12  # tests of random arguments
_ENDLESS = ("initials", "roman")  # with an answer that never ends: it takes all of its time
_FENCE = "```python\n{}```"

Fields = dict[str, Any]


def cases(seed: int = 0, n: int = CASES) -> list[Fields]:
    """The first `n` cases of a seed; those of seed 0 hold the hand-written ones."""

    written = [
        {**_case(task, Draw("code", task.name), is_repair=task.repair), "tier": task.tier}
        for task in FIXED
    ]
    return woven(
        "code",
        _SHARES,
        written if seed == 0 else [],
        _made,
        seed=seed,
        n=n,
        max_tokens=1024,
        grader="tests",
    )


def _made(family: str, tier: str, draw: Draw, made: Sequence[Mapping[str, Any]]) -> Fields:
    is_repair = family == "repair"
    tasks = [task for task in OPEN if is_repair or task.family == family]
    return {**_case(draw.choice(tasks), draw, is_repair=is_repair), "tier": tier}


def _case(task: Task, draw: Draw, *, is_repair: bool) -> Fields:
    words = {key: draw.choice(values) for key, values in task.words.items()}
    words = {"name": task.name, **words}

    def fill(text: str) -> str:
        return Template(text).substitute(words)

    source, name = fill(task.source), words["name"]
    mutants = [source.replace(fill(old), fill(new)) for old, new in task.mutants]
    edges = list(task.edges(words))
    drawn = [task.draw(draw, words) for _ in range(_DRAWN)]
    # Examples are the first two: of a generated case the second is drawn.
    arguments = [*edges, *drawn] if not task.words else [edges[0], drawn[0], *edges[1:], *drawn[1:]]
    arguments = list({json.dumps(one): one for one in arguments}.values())
    tests = [[one, _called(source, name, one)] for one in arguments]
    examples = "\n".join(
        f"{name}({', '.join(map(repr, one))}) == {value!r}" for one, value in tests[:2]
    )
    text = f"{flat(fill(task.text))}\n\nExamples:\n{examples}"
    if is_repair:
        prompt = (
            f"This function is wrong. Repair it, and reply with the whole function in one fenced "
            f"block.\n\n{_FENCE.format(mutants[0])}\n\nWhat it should do: {text}"
        )
    else:
        prompt = (
            "Write a function of Python, with the standard library alone. Reply with the function "
            f"in one fenced block.\n\n{text}"
        )
    wrong = [[_FENCE.format(mutant), _reason(mutant, name, tests)] for mutant in mutants]
    if name in _ENDLESS:
        endless = f"def {name}(*given):\n    while True:\n        pass\n"
        wrong.append([_FENCE.format(endless), "timed_out"])
    return {
        "family": "repair" if is_repair else task.family,
        "cluster_id": f"code-{task.name}",
        "prompt": prompt,
        "expected": {"function": name, "tests": tests},
        "ideal": [_FENCE.format(source), source, f"Here it is:\n\n{_FENCE.format(source)}\n"],
        "wrong": [*wrong, *draw.sample(_cheats(name, source, tests), 2)],
    }


def _cheats(name: str, source: str, tests: Sequence[Any]) -> list[list[str]]:
    (one, first), (two, second) = tests[:2]
    known = (
        f"def {name}(*given):\n    known = {{{repr(one)!r}: {first!r}, {repr(two)!r}: {second!r}}}"
        "\n    return known.get(repr(list(given)), 'unknown')\n"
    )
    equal = (
        "class Equal:\n    def __eq__(self, other):\n        return True\n\n\n"
        f"def {name}(*given):\n    return Equal()\n"
    )
    cheats = [
        [_FENCE.format(known), "wrong_value"],
        [_FENCE.format(f"import os\n\nos._exit(0)\n\n\n{source}"), "exited"],
        [_FENCE.format(equal), "not_json"],
        ["```python\nprint('PASSED')\n```", "no_function"],
        [_FENCE.format(f"def {name}(*given):\n    print('PASSED')\n"), "wrong_value"],
    ]
    if isinstance(one[0], (list, dict)) and one[0]:
        inner = source.replace(f"def {name}(", "def inner(")
        spoils = f"{inner}\n\ndef {name}(first, *rest):\n    value = inner(first, *rest)\n"
        spoils += "    first.clear()\n    return value\n"
        if f"{name}(" not in inner.replace(f"def {name}(", ""):
            cheats.append([_FENCE.format(spoils), "mutated_input"])
    return cheats


def _called(source: str, name: str, arguments: Sequence[Any]) -> Any:
    """The value of our own reference, as JSON gives it back."""
    names: dict[str, Any] = {}
    exec(source, names)
    given = copy.deepcopy(list(arguments))
    value = json.loads(json.dumps(names[name](*given), allow_nan=False))
    if given != list(arguments):
        raise ValueError(f"the reference of {name} changes its arguments")
    return value


def _reason(mutant: str, name: str, tests: Sequence[Any]) -> str:
    """How our own mutant fails first.

    Raises:
        ValueError: it passes, so the tests are too weak.
    """
    for arguments, value in tests:
        try:
            if _called(mutant, name, arguments) != value:
                return "wrong_value"
        except ValueError as error:
            if "changes its arguments" in str(error):
                return "mutated_input"
            return "raised"
        except Exception:
            return "raised"
    raise ValueError(f"a mutant of {name} passes all {len(tests)} tests:\n{mutant}")


EXAMPLES = examples(
    "code", _made, (("strings", "easy"), ("grouping", "medium"), ("repair", "medium"))
)


if __name__ == "__main__":
    main("code")
