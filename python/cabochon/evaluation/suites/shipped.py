"""The cases that come with the package, and how a suite's module makes them.

A module has `CASES`, the number that is shipped, and `cases(seed, n)`: dicts in one fixed order in
which families and tiers are spread, so that a prefix is a smaller sample of the same kind. At
seed 0 cases written by hand are woven in; any other seed, and every case past `CASES`, is
generated. NAME.jsonl is what the defaults give. `EXAMPLES`, where a module has some, are shown
first under few-shot prompting; they are no cases.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import EvaluationError
from ..cases import TIERS, Case, canonical, read_case, read_cases, write_cases
from ..draw import Draw

# The ten of the preset `enterprise`, in the order of its tables.
SUITES = (
    *("tools", "extraction", "classification", "summarisation", "rag"),
    *("code", "multilingual", "multi_turn", "safety", "structured"),
)
# What stands as the seed in cases that seed 0 generates: 0 says that a case was written by hand.
SHIPPED_SEED = 2026
_TIER_WEIGHTS = dict(zip(TIERS, (1, 2, 1), strict=True))
_ATTEMPTS = 200
# Family, tier, choices and the cases so far to a case, or as much of it as differs from others.
Maker = Callable[[str, str, Draw, Sequence[Mapping[str, Any]]], dict[str, Any]]


def suite_names() -> tuple[str, ...]:
    """Names of the suites that come with this package, in the order of tables."""
    return tuple(name for name in SUITES if _path(name).is_file())


@functools.cache
def _shipped(name: str) -> tuple[Case, ...]:
    return tuple(read_cases(_path(name)))


def shipped(name: str) -> list[Case]:
    """The cases of a suite as they are shipped.

    Raises:
        EvaluationError: there is no such suite.
    """
    _require(name)
    return list(_shipped(name))


def generated(name: str, seed: int = 0, n: int | None = None) -> list[Case]:
    """`n` cases of a suite, made anew; None: as many as are shipped.

    With seed 0 the first ones are those that are shipped. Equal seeds give equal cases, for ever,
    and a smaller `n` gives the first of them.

    Raises:
        EvaluationError: there is no such suite.
    """
    _require(name)
    module = importlib.import_module(f".{name}", __package__)
    made = module.cases(seed, module.CASES if n is None else n)
    return [read_case(item, where=f"{name} case {index}") for index, item in enumerate(made)]


def main(name: str) -> None:
    """`python -m cabochon.evaluation.suites.NAME --seed 7 --n 100`: JSONL to standard output."""
    parser = argparse.ArgumentParser(
        prog=f"python -m cabochon.evaluation.suites.{name}",
        description=f"Writes cases of the suite {name!r} to standard output, one JSON a line.",
    )
    parser.add_argument("--seed", type=int, default=0, help="0 gives the shipped cases first")
    parser.add_argument("--n", type=int, default=None, help="cases; default: as many as shipped")
    given = parser.parse_args()
    sys.stdout.buffer.write(write_cases(generated(name, given.seed, given.n)).encode())


def _path(name: str) -> Path:
    return Path(__file__).with_name(f"{name}.jsonl")


def _require(name: str) -> None:
    if name not in suite_names():
        raise EvaluationError(f"suite {name!r} is not known, expected one of {suite_names()}")


# --- for modules of suites -----------------------------------------------------------------------


def woven(
    suite: str,
    families: Mapping[str, int],
    written: Sequence[Mapping[str, Any]],
    make: Maker,
    *,
    seed: int,
    n: int,
    **common: Any,
) -> list[dict[str, Any]]:
    """The cases of a suite in its one order.

    Args:
        families: cases of each family among the shipped; their shares hold in every prefix.
        written: cases written by hand: dicts with `family`, `tier`, `messages` or `prompt`,
            `expected`, `ideal`, `wrong`, and whatever differs from `common`.
        make: family, tier, choices and the cases so far to such a dict. It is asked again, with
            other choices, where its prompt was asked before.
        common: fields that every case has.
    """
    total = sum(families.values())
    made: list[dict[str, Any]] = []
    prompts: set[str] = set()
    counts: Counter[str] = Counter()
    used: Counter[str] = Counter()  # of those written by hand
    tiers: Counter[tuple[str, str]] = Counter()  # by family, and by "" for all
    queues = {
        family: [item for item in written if item["family"] == family] if seed == 0 else []
        for family in families
    }
    for index in range(n):
        family = max(families, key=lambda f: families[f] * (index + 1) - counts[f] * total)
        number, queue = counts[family], queues[family]
        if used[family] < len(queue) and used[family] * families[family] <= number * len(queue):
            item = dict(queue[used[family]], seed=0)
            used[family] += 1
        else:
            tier = max(
                TIERS,
                key=lambda t: (
                    _TIER_WEIGHTS[t] * (number + 1) - 4 * tiers[family, t],
                    _TIER_WEIGHTS[t] * (index + 1) - 4 * tiers["", t],
                ),
            )
            item = _another(suite, family, tier, number, make, made, prompts, seed)
        fields = _fields(suite, item, number, seed, common)
        prompts.add(_prompt(fields))
        made.append(fields)
        counts[family] += 1
        tiers.update([(family, fields["tier"]), ("", fields["tier"])])
    return made


def examples(
    suite: str, make: Maker, wanted: Sequence[tuple[str, str]]
) -> tuple[dict[str, Any], ...]:
    """Questions and answers to show: one of each family and tier, which no seed of cases gives."""
    made = (
        make(family, tier, Draw(suite, "examples", number), ())
        for number, (family, tier) in enumerate(wanted)
    )
    return tuple(
        {"messages": [{"role": "user", "content": item["prompt"]}], "answer": item["ideal"][0]}
        for item in made
    )


def _another(
    suite: str,
    family: str,
    tier: str,
    number: int,
    make: Maker,
    made: Sequence[Mapping[str, Any]],
    prompts: set[str],
    seed: int,
) -> dict[str, Any]:
    seed = seed or SHIPPED_SEED
    for attempt in range(_ATTEMPTS):
        item = make(family, tier, Draw(suite, seed, family, number, attempt), made)
        item = {"family": family, "tier": tier, "seed": seed, **item}
        if _prompt(_fields(suite, item, number, seed, {})) not in prompts:
            return item
    raise EvaluationError(
        f"{suite}: found no prompt of family {family!r} in {_ATTEMPTS} attempts that is not among "
        f"the {len(prompts):,} so far, expected fewer cases: ask for a smaller n"
    )


def _fields(
    suite: str, item: Mapping[str, Any], number: int, seed: int, common: Mapping[str, Any]
) -> dict[str, Any]:
    """All fields of a case, in the order of the file."""
    family, mark = item["family"], f"s{seed}-" if seed else ""
    messages = item.get("messages") or [{"role": "user", "content": item["prompt"]}]
    fields = {
        "case_id": f"{suite}-{family}-{mark}{number + 1:02d}",
        "version": 1,
        "suite": suite,
        "language": "en",
        "tools": [],
        "schema": None,
        **common,
        **{key: value for key, value in item.items() if key != "prompt"},
        "messages": messages,
    }
    order = Case.__dataclass_fields__
    return {key: fields[key] for key in order if key in fields}


def _prompt(fields: Mapping[str, Any]) -> str:
    return canonical([fields["messages"], fields["tools"]])


def flat(text: str) -> str:
    """A text that was wrapped in a source file: each paragraph on one line."""
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))
