"""How many multiple-choice requests are scored in a second, and what does sharing bring?

    python benchmarks/score.py FOLDER [--items 16] [--preamble 512] [--question 64]
                               [--answer 1] [--choices 4] [--save]

Random token ids: one preamble (few-shot examples) for all items of a run, a question each, and the
choices; a request is one choice of one item. Three ways take turns within every round, so a ratio
compares neighbours in time; each run stands between two bandwidth probes, and a pair with an
unsteady run is left out of the median. The preamble of every run is another: none is found in the
cache that an earlier run left.

    pairs    every prompt with every choice read whole, as by a harness that shares nothing
    items    what follows one prompt shares it; no item finds what another computed
    shared   the preamble is computed once too
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count

import cabochon
import report
from probe import Probe
from runs import (
    Ratios,
    Run,
    counted,
    in_turns,
    limits,
    load,
    parser_of,
    random_ids,
    read_plan,
    run_facts,
)

Ids = list[int]


def main() -> None:
    parser = parser_of(__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=16)
    parser.add_argument("--preamble", type=int, default=512, help="tokens that all items share")
    parser.add_argument("--question", type=int, default=64, help="tokens of each item")
    parser.add_argument("--answer", type=int, default=1, help="tokens of each choice")
    parser.add_argument("--choices", type=int, default=4)
    parser.add_argument("--sequences", type=int, default=8, help="computed together")
    arguments = parser.parse_args()
    config = read_plan(arguments.folder)
    whole = arguments.preamble + arguments.question + arguments.answer
    model = load(arguments, context=whole, sequences=arguments.sequences)
    facts = report.facts(model, arguments.folder)
    seeds = count()

    def task() -> Iterator[tuple[Ids, list[Ids]]]:
        preamble = random_ids(config, arguments.preamble, seed=next(seeds))
        for _ in range(arguments.items):
            question = random_ids(config, arguments.question, seed=next(seeds))
            yield (
                [*preamble, *question],
                [
                    random_ids(config, arguments.answer, seed=next(seeds))
                    for _ in range(arguments.choices)
                ],
            )

    def pairs() -> tuple[float, float]:
        asked = [[*prompt, *after] for prompt, afters in task() for after in afters]
        return timed(model, lambda: model.logprobs(asked, progress=False), is_reusing=False)

    def scored(is_reusing: bool) -> tuple[float, float]:
        prompts, afters = zip(*task(), strict=True)
        return timed(
            model,
            lambda: model.score(list(prompts), list(afters), progress=False),
            is_reusing=is_reusing,
        )

    names = ("pairs", "items", "shared")
    works = (pairs, lambda: scored(False), lambda: scored(True))
    with model:
        for work in works:
            work()
        done = in_turns(works, Probe(facts["threads"]).measure, arguments.runs)

    requests = arguments.items * arguments.choices

    def rate(run: Run) -> float:
        return requests / run.first_s

    for name, runs in zip(names, done, strict=True):
        ratios = Ratios.of(runs, done[0], rate)
        values = report.spread([rate(run) for run in counted(runs)])
        record = facts | run_facts(runs) | values
        record |= {
            "case": f"score-{name}",
            "unit": "requests/s",
            "sequences": arguments.sequences,
            "prompt": arguments.preamble + arguments.question,
            "preamble": arguments.preamble,
            "answer": arguments.answer,
            "choices": arguments.choices,
            "items": arguments.items,
            "pairs": ratios.values,
        }
        what = report.what(
            record, f"preamble={arguments.preamble}", f"question={arguments.question}",
            f"choices={arguments.choices}x{arguments.answer}",
        )  # fmt: skip
        line = (
            f"{what} | {values['median']:.2f} requests/s (best {values['best']:.2f}) | {ratios} of "
            f"whole pairs | probe {limits(counted(runs))} | {report.how(record)}"
        )
        report.publish(line, record, save=arguments.save)


def timed(
    model: cabochon.Model, work: Callable[[], object], *, is_reusing: bool
) -> tuple[float, float]:
    """Seconds of `work`; what earlier calls left is used by it or not."""
    cache = model._scheduler.cache
    before, cache.is_reusing = cache.is_reusing, is_reusing
    start = time.perf_counter()
    try:
        work()
    finally:
        cache.is_reusing = before
    return time.perf_counter() - start, 0.0


if __name__ == "__main__":
    main()
