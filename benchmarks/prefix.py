"""How much faster are many questions over one text when the text is computed once?

    python benchmarks/prefix.py FOLDER [--prefix 2000] [--questions 64] [--tokens 8] [--save]

Greedy, random token ids: questions of --question tokens that begin with the same --prefix ones, in
one call of `Model.generate`. Runs that use again what they have in common take turns with runs that
compute all of every prompt; before each, nothing is in the cache. Answers and their
log-probabilities are checked to be the same bits. Each run stands between two bandwidth probes, and
a pair with an unsteady run is left out of the median.
"""

from __future__ import annotations

import argparse
import time
from functools import partial

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


class Questions:
    """Answers the same questions again and again, and sees that the answers stay the same."""

    def __init__(self, model: cabochon.Model, prompts: list[list[int]], tokens: int) -> None:
        self._model, self._prompts, self._tokens = model, prompts, tokens
        self._answers: list[tuple[bytes, bytes]] = []
        self.computed: dict[bool, int] = {}  # tokens of prompts, by whether they are used again

    def ask(self, is_reusing: bool) -> tuple[float, float]:
        """Seconds to the first token, and from there to the end of the call."""
        cache = self._model._scheduler.cache
        cache.clear()
        cache.is_reusing = is_reusing
        start = time.perf_counter()
        results = self._model.generate(
            self._prompts,
            max_tokens=self._tokens,
            temperature=0,
            ignore_stops=True,
            logprobs=True,
            progress=False,
        )
        seconds = time.perf_counter() - start
        answers = [(one.token_ids.tobytes(), one.logprobs.tobytes()) for one in results]
        if answers != (self._answers or answers):
            raise RuntimeError("the answers are others than before, expected the same bits")
        self._answers = answers
        self.computed[is_reusing] = sum(
            one.usage.prompt_tokens - one.usage.cached_tokens for one in results
        )
        first_s = min(one.timings.first_token_s for one in results)
        return first_s, seconds - first_s


def arguments_given() -> argparse.Namespace:
    parser = parser_of(__doc__.splitlines()[0])
    parser.add_argument("--prefix", type=int, default=2000, help="tokens that all begin with")
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--question", type=int, default=32, help="tokens of each")
    parser.add_argument("--tokens", type=int, default=8, help="written by each")
    parser.add_argument("--sequences", type=int, default=16, help="computed together at most")
    return parser.parse_args()


def main() -> None:
    arguments = arguments_given()
    config = read_plan(arguments.folder)
    length = arguments.prefix + arguments.question
    model = load(arguments, context=length + arguments.tokens, sequences=arguments.sequences)
    facts = report.facts(model, arguments.folder)
    shared = random_ids(config, arguments.prefix)
    prompts = [
        shared + random_ids(config, arguments.question, seed=1 + index)
        for index in range(arguments.questions)
    ]
    with model:
        questions = Questions(model, prompts, arguments.tokens)
        works = [partial(questions.ask, True), partial(questions.ask, False)]
        works[0]()
        once, each = in_turns(works, Probe(facts["threads"]).measure, arguments.runs)

    def rate(run: Run) -> float:
        return arguments.questions / (run.first_s + run.rest_s)

    ratios = Ratios.of(once, each, rate)
    values = report.spread([rate(run) for run in counted(once)])
    record = facts | run_facts(once) | values
    record |= {
        "case": "prefix",
        "unit": "questions/s",
        "sequences": arguments.sequences,
        "prefix": arguments.prefix,
        "questions": arguments.questions,
        "question": arguments.question,
        "tokens": arguments.tokens,
        "pairs": ratios.values,
        "computed": {"once": questions.computed[True], "each": questions.computed[False]},
    }
    what = report.what(record, f"prefix={arguments.prefix}", f"questions={arguments.questions}")
    line = (
        f"{what} | {ratios} times as fast as without | {values['median']:.2f} questions/s "
        f"(best {values['best']:.2f}), {questions.computed[True]:,} of "
        f"{questions.computed[False]:,} prompt tokens computed | probe {limits(counted(once))} | "
        f"{report.how(record)}"
    )
    report.publish(line, record, save=arguments.save)


if __name__ == "__main__":
    main()
