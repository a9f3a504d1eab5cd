"""How fast does a checkpoint write tokens, and what does it hold in memory?

    python benchmarks/decode.py FOLDER [--prompt 128] [--tokens 64] [--runs 7] [--save]
    python benchmarks/decode.py FOLDER --context 32768 [--kv int8]

Greedy, random token ids, a fixed number of tokens, through `Model.generate`. Each run stands
between two bandwidth probes with as many threads; runs whose probes differ by more than 15 % are
printed as unsteady and left out of the median.

With --context a sequence of that length is read once and goes on writing; in turns with it a short
one writes as many tokens. Their ratio is what a long context costs; prefill.py measures
prompts.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

import cabochon
import report
from cabochon.config import ModelConfig
from cabochon.scheduler.sequence import Answer, Sampling, Sequence, Want
from probe import Probe
from process_memory import Peak
from runs import (
    Ratios,
    Run,
    counted,
    generate,
    in_turns,
    limits,
    load,
    note,
    parser_of,
    random_ids,
    read_plan,
    run_facts,
)

GREEDY = Sampling(
    temperature=0.0,
    top_k=0,
    top_p=1.0,
    min_p=0.0,
    repetition_penalty=1.0,
    seed=0,
    banned=np.empty(0, np.int32),
    bias_ids=np.empty(0, np.int32),
    bias_values=np.empty(0, np.float32),
)
VALUE_BYTES = {"f32": 4, "bf16": 2, "int8": 1}


def streamed_bytes(model: cabochon.Model, config: ModelConfig) -> float:
    """Bytes of weights that one decoded token reads: everything but idle experts and tables."""
    total = 0.0
    for row in model.plan.rows:
        if row.name == "experts":
            layer = config.plan.layers[0]
            total += row.bytes * layer.experts_per_token / layer.experts
        elif row.place != "disk" and row.name != "per_layer_table":
            total += row.bytes
    return total


def cached_bytes(config: ModelConfig, kv: str, positions: float) -> float:
    """Bytes of keys and values that a token at this position reads."""
    total = 0.0
    for layer in config.plan.layers:
        seen = min(positions, layer.window) if layer.window else positions
        # Keys that values can stand in for: of them only the columns that rope turns.
        turned = layer.values_from_keys and layer.rope_pairs > 0
        second = 2 * layer.rope_pairs if turned else layer.head_dim
        row = (layer.head_dim + second) * VALUE_BYTES[kv]
        total += layer.kv_heads * (row + (8 if kv == "int8" else 0)) * seen  # two scales a head
    return total


def decode(arguments: argparse.Namespace, config: ModelConfig) -> None:
    """One sequence of --prompt tokens, and what it holds."""
    prompt = random_ids(config, arguments.prompt)
    with Peak() as memory:
        model = load(arguments, context=arguments.prompt + arguments.tokens, sequences=1)
        # Warms caches, and touches all that runs touch.
        generate(model, [prompt], arguments.tokens)
    facts = report.facts(model, arguments.folder) | {
        "context": arguments.prompt,
        "sequences": 1,
        "prompt": arguments.prompt,
        "tokens": arguments.tokens,
    }
    with model:
        probe = Probe(facts["threads"])
        (runs,) = in_turns(
            [lambda: generate(model, [prompt], arguments.tokens)], probe.measure, arguments.runs
        )
        token_bytes = streamed_bytes(model, config) + cached_bytes(
            config, facts["kv"], arguments.prompt + arguments.tokens / 2
        )
        kv_bytes = model.info().memory["kv"]

    used = counted(runs)
    written = arguments.tokens - 1
    values = report.spread([written / run.rest_s for run in used])
    share = statistics.median(share_of(run, written, token_bytes) for run in used)
    record = facts | run_facts(runs) | values
    record |= {"case": "decode", "unit": "tok/s", "token_bytes": token_bytes, "share": share}
    what = report.what(record, f"ctx={arguments.prompt}", "seqs=1")
    line = (
        f"{what} | {values['median']:.2f} tok/s {note(record['steady'])} "
        f"(best {values['best']:.2f}) | {values['median'] * token_bytes / 1e9:.1f} GB/s = "
        f"{share:.2f} of probe {limits(used)} | {report.how(record)}"
    )
    report.publish(line, record, save=arguments.save)

    peak = {
        "anonymous": memory.peak.anonymous,
        "mapped": memory.peak.mapped,
        "kv": kv_bytes,
        "peak_rss": memory.peak.total,
        "before_load": memory.start.anonymous,
    }
    record = facts | {"case": "memory", "unit": "B", "memory": peak}
    what = report.what(record, f"ctx={arguments.prompt + arguments.tokens}", "seqs=1")
    line = (
        f"{what} | peak anonymous {peak['anonymous'] / 1e9:.3f} GB "
        f"({peak['before_load'] / 1e9:.3f} before load, KV {peak['kv'] / 1e9:.3f}) | "
        f"peak mapped {peak['mapped'] / 1e9:.3f} GB | peak RSS {peak['peak_rss'] / 1e9:.3f} GB | "
        f"{report.how(record)}"
    )
    report.publish(line, record, save=arguments.save)


def share_of(run: Run, written: int, token_bytes: float) -> float:
    return written / run.rest_s * token_bytes / 1e9 / run.limit


class Writer:
    """A sequence that writes when it is asked to, and rests while others do.

    The public calls compute all unfinished sequences together, so it is taken off the scheduler's
    list between its turns; its pages stay its own.
    """

    def __init__(self, model: cabochon.Model, prompt: list[int], most: int) -> None:
        self._loop, self._scheduler = model._loop, model._scheduler
        self._sequence = Sequence(
            np.array(prompt, np.int32),
            consumer=self,
            want=Want.SAMPLE,
            limit=len(prompt) + most,
            sampling=GREEDY,
        )
        self._loop.submit([self._sequence])
        self._wait_for(len(prompt) + 1)
        self._rest()

    def take(self, answer: Answer) -> bool:
        return False

    def write(self, tokens: int) -> float:
        """Seconds."""
        self._scheduler._running.append(self._sequence)
        start = time.perf_counter()
        self._wait_for(self._sequence.count + tokens)
        seconds = time.perf_counter() - start
        self._rest()
        return seconds

    def _wait_for(self, count: int) -> None:
        while self._sequence.count < count and not self._sequence.is_finished:
            self._loop.advance()
        if self._sequence.error is not None:
            raise self._sequence.error

    def _rest(self) -> None:
        self._scheduler._running.remove(self._sequence)


def decode_long(arguments: argparse.Namespace, config: ModelConfig) -> None:
    """A sequence of --context tokens in turns with one of --prompt tokens."""
    written = arguments.tokens - 1
    long_tokens = 1 + written * (arguments.runs + 1)
    short = random_ids(config, arguments.prompt)
    model = load(arguments, context=arguments.context + long_tokens, sequences=2)
    facts = report.facts(model, arguments.folder)
    with model:
        start = time.perf_counter()
        writer = Writer(model, random_ids(config, arguments.context), long_tokens)
        prompt_s = time.perf_counter() - start

        def go_on() -> tuple[float, float]:
            return 0.0, writer.write(written)

        def begin_anew() -> tuple[float, float]:
            return generate(model, [short], arguments.tokens)

        go_on(), begin_anew()
        probe = Probe(facts["threads"])
        long_runs, short_runs = in_turns([go_on, begin_anew], probe.measure, arguments.runs)
        token_bytes = streamed_bytes(model, config) + cached_bytes(
            config, facts["kv"], arguments.context + long_tokens / 2
        )
        kv_bytes = model.info().memory["kv"]

    ratios = Ratios.of(long_runs, short_runs, lambda run: written / run.rest_s)
    used = counted(long_runs)
    values = report.spread([written / run.rest_s for run in used])
    share = statistics.median(share_of(run, written, token_bytes) for run in used)
    record = facts | run_facts(long_runs) | values
    record |= {
        "case": "decode-context",
        "unit": "tok/s",
        "context": arguments.context,
        "sequences": 1,
        "prompt": arguments.context,
        "tokens": arguments.tokens,
        "prompt_s": prompt_s,
        "token_bytes": token_bytes,
        "share": share,
        "memory": {"kv": kv_bytes},
        "pairs": ratios.values,
        "short": {"context": arguments.prompt, **run_facts(short_runs)}
        | report.spread([written / run.rest_s for run in counted(short_runs)]),
    }
    what = report.what(record, f"ctx={arguments.context}", "seqs=1")
    line = (
        f"{what} | {ratios} of its rate at ctx={arguments.prompt} | "
        f"{values['median']:.2f} tok/s, {values['median'] * token_bytes / 1e9:.1f} GB/s = "
        f"{share:.2f} of probe {limits(used)} | read in {prompt_s:.1f} s | {report.how(record)}"
    )
    report.publish(line, record, save=arguments.save)


def main() -> None:
    parser = parser_of(__doc__.splitlines()[0])
    parser.add_argument("--prompt", type=int, default=128, help="tokens")
    parser.add_argument("--tokens", type=int, default=64, help="tokens written a run, 2 or more")
    parser.add_argument("--context", type=int, help="tokens of a long sequence, beside --prompt")
    arguments = parser.parse_args()
    config = read_plan(arguments.folder)
    if arguments.context is None:
        decode(arguments, config)
    else:
        decode_long(arguments, config)


if __name__ == "__main__":
    main()
