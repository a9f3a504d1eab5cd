"""How much of a decode step is Python: the scheduler, the loop, the text of a token?

    python benchmarks/step_overhead.py FOLDER [--sequences 1 16] [--tokens 64] [--save]

The wall clock around `Model.generate`, less the time inside the core's step, a step. Prompts are
short, so nearly all steps decode. Both are measured on one clock in the same run; nothing is
compared with another minute, so no probe stands beside it.
"""

from __future__ import annotations

import time
from typing import Any

import report
from runs import generate, load, parser_of, random_ids, read_plan


class TimedEngine:
    """The engine, with a clock around its steps."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.steps, self.seconds = 0, 0.0

    def step(self, **arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return self._engine.step(**arguments)
        finally:
            self.seconds += time.perf_counter() - start
            self.steps += 1

    def close(self) -> None:
        self._engine.close()


def main() -> None:
    parser = parser_of(__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, nargs="+", default=(1, 16))
    parser.add_argument("--tokens", type=int, default=64, help="written by each")
    arguments = parser.parse_args()
    config = read_plan(arguments.folder)
    most = max(arguments.sequences)
    model = load(arguments, context=8 + arguments.tokens, sequences=most)
    facts = report.facts(model, arguments.folder)
    prompts = [random_ids(config, 8, seed=seed) for seed in range(most)]
    with model:
        engine = model._loop._engine = TimedEngine(model._loop._engine)
        for count in arguments.sequences:
            generate(model, prompts[:count], arguments.tokens)
            outside, shares = [], []
            for _ in range(arguments.runs):
                engine.steps, engine.seconds = 0, 0.0
                seconds = sum(generate(model, prompts[:count], arguments.tokens))
                outside.append((seconds - engine.seconds) / engine.steps * 1e6)
                shares.append(1 - engine.seconds / seconds)
            values = report.spread(outside) | {"best": min(outside)}
            record = facts | values
            record |= {
                "case": "step-overhead",
                "unit": "us",
                "sequences": count,
                "tokens": arguments.tokens,
                "share": sorted(shares)[len(shares) // 2],
            }
            line = (
                f"{report.what(record, f'seqs={count}')} | {values['median']:.0f} us of Python a "
                f"step, median of {len(outside)} (best {values['best']:.0f}) = "
                f"{record['share']:.2%} of it | {report.how(record)}"
            )
            report.publish(line, record, save=arguments.save)


if __name__ == "__main__":
    main()
