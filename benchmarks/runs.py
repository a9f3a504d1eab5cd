"""Runs between measures of the machine: what decode.py, prefill.py and batch.py share."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cabochon
from cabochon.config import ModelConfig, read_config
from cabochon.errors import CabochonError
from probe import is_steady


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    first_s: float  # to the first token drawn, or to the end where none is
    rest_s: float  # from there to the end of the call
    before: float  # what the machine could do just before it, such as GB/s
    after: float

    @property
    def limit(self) -> float:
        return (self.before + self.after) / 2

    @property
    def steady(self) -> bool:
        return is_steady(self.before, self.after)


Work = Callable[[], tuple[float, float]]  # gives first_s and rest_s


def in_turns(works: Sequence[Work], measure: Callable[[], float], runs: int) -> list[list[Run]]:
    """`runs` of each work, A B A B ..., `measure` between all of them: one list a work."""
    done: list[list[Run]] = [[] for _ in works]
    before = measure()
    for _ in range(runs):
        for work, found in zip(works, done, strict=True):
            first_s, rest_s = work()
            after = measure()
            found.append(Run(first_s=first_s, rest_s=rest_s, before=before, after=after))
            before = after
    return done


def counted(runs: list[Run]) -> list[Run]:
    """The steady ones; all where none is, and `note` says so."""
    return [run for run in runs if run.steady] or runs


def note(steady: Sequence[bool]) -> str:
    """How many count; no steady one at all means that the numbers stand for nothing."""
    count, total = sum(steady), len(steady)
    return f"median of {count}" if count == total else f"median of {count} steady of {total}"


@dataclass(frozen=True, slots=True)
class Ratios:
    """Rates of one work over those of another, turn by turn; both must have been steady."""

    values: list[float]
    steady: list[bool]  # of all turns

    @classmethod
    def of(cls, runs: list[Run], base: list[Run], rate: Callable[[Run], float]) -> Ratios:
        steady = [one.steady and other.steady for one, other in zip(runs, base, strict=True)]
        values = [rate(one) / rate(other) for one, other in zip(runs, base, strict=True)]
        kept = [value for value, ok in zip(values, steady, strict=True) if ok]
        return cls(kept or values, steady)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        low, high = min(self.values), max(self.values)
        return f"{self.median:.2f} {note(self.steady)} pairs [{low:.2f} {high:.2f}]"


def generate(model: cabochon.Model, prompts: list[list[int]], tokens: int) -> tuple[float, float]:
    """Greedy, through every stop. The wall clock around the call, split at its first token."""
    start = time.perf_counter()
    results = model.generate(
        prompts, max_tokens=tokens, temperature=0, ignore_stops=True, progress=False
    )
    seconds = time.perf_counter() - start
    if any(len(result.token_ids) != tokens for result in results):
        counts = [len(result.token_ids) for result in results]
        raise RuntimeError(f"generate gave {counts} tokens, expected {tokens} each")
    first_s = min(result.timings.first_token_s for result in results)
    return first_s, seconds - first_s


def random_ids(config: ModelConfig, count: int, *, seed: int = 0) -> list[int]:
    ids: list[int] = np.random.default_rng(seed).integers(5, config.plan.vocab, count).tolist()
    return ids


def read_plan(folder: Path) -> ModelConfig:
    return read_config(json.loads((folder / "config.json").read_text()))


def parser_of(description: str) -> argparse.ArgumentParser:
    """The arguments that all of these scripts take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=7, help="steady ones make the median")
    parser.add_argument("--threads", type=int, help="default: the library's")
    parser.add_argument("--weights", default="auto", choices=["auto", "int8", "int4"])
    parser.add_argument("--kv", default="auto", choices=["auto", "f32", "bf16", "int8"])
    parser.add_argument("--arithmetic", default="exact", choices=["exact", "fast"])
    parser.add_argument("--save", action="store_true", help="add the lines to benchmarks/results")
    return parser


def compute_all(model: cabochon.Model) -> cabochon.Model:
    """Nothing of a prompt that was computed before is used again: a run is like the one before."""
    model._scheduler.cache.is_reusing = False
    return model


def load(arguments: argparse.Namespace, *, context: int, sequences: int) -> cabochon.Model:
    """A model that computes all of every prompt."""
    try:
        model = cabochon.load(
            arguments.folder,
            weights=arguments.weights,
            kv=arguments.kv,
            arithmetic=arguments.arithmetic,
            threads=arguments.threads,
            context=context,
            max_sequences=sequences,
            progress=False,
        )
    except CabochonError as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")
    return compute_all(model)


def run_facts(runs: Sequence[Run]) -> dict[str, Any]:
    """What a record says of its runs beside their rates."""
    return {
        "steady": [run.steady for run in runs],
        "probe_before": [run.before for run in runs],
        "probe_after": [run.after for run in runs],
    }


def limits(runs: Sequence[Run]) -> str:
    """Such as "[54.0 57.2]": the range of what the machine could do."""
    rates = [rate for run in runs for rate in (run.before, run.after)]
    return f"[{min(rates):.1f} {max(rates):.1f}]"
