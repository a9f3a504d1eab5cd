"""How much faster do sequences write that decode together?

    python benchmarks/batch.py FOLDER [--sequences 1 2 4 8 16] [--tokens 32] [--save]

Greedy, random token ids, a short prompt each, a fixed number of tokens. The counts take turns
within every round, so a ratio to one sequence compares neighbours in time; each run stands between
two bandwidth probes, and a pair with an unsteady run is left out of the median.
"""

from __future__ import annotations

from functools import partial

import report
from probe import Probe
from runs import (
    Ratios,
    Run,
    counted,
    generate,
    in_turns,
    limits,
    load,
    parser_of,
    random_ids,
    read_plan,
    run_facts,
)

COUNTS = (1, 2, 4, 8, 16)


def main() -> None:
    parser = parser_of(__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--prompt", type=int, default=16, help="tokens of each")
    parser.add_argument("--tokens", type=int, default=32, help="written by each, 2 or more")
    arguments = parser.parse_args()
    config = read_plan(arguments.folder)
    counts = sorted({1, *arguments.sequences})
    model = load(arguments, context=arguments.prompt + arguments.tokens, sequences=max(counts))
    facts = report.facts(model, arguments.folder)
    prompts = [random_ids(config, arguments.prompt, seed=seed) for seed in range(max(counts))]
    with model:
        works = [partial(generate, model, prompts[:count], arguments.tokens) for count in counts]
        for work in works:
            work()
        done = in_turns(works, Probe(facts["threads"]).measure, arguments.runs)

    def step_rate(run: Run) -> float:
        return (arguments.tokens - 1) / run.rest_s

    for count, runs in zip(counts, done, strict=True):
        alone = Ratios.of(runs, done[0], step_rate)
        ratios = Ratios([count * value for value in alone.values], alone.steady)
        values = report.spread([count * step_rate(run) for run in counted(runs)])
        record = facts | run_facts(runs) | values
        record |= {
            "case": "batch",
            "unit": "tok/s",
            "sequences": count,
            "prompt": arguments.prompt,
            "tokens": arguments.tokens,
            "pairs": ratios.values,
        }
        what = report.what(record, f"prompt={arguments.prompt}", f"seqs={count}")
        line = (
            f"{what} | {ratios} of one's rate | {values['median']:.2f} tok/s together "
            f"(best {values['best']:.2f}) | probe {limits(counted(runs))} | {report.how(record)}"
        )
        report.publish(line, record, save=arguments.save)


if __name__ == "__main__":
    main()
