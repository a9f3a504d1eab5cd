"""How fast does a checkpoint read a prompt and write tokens, and what does it hold in memory?

    python benchmarks/decode.py FOLDER [--prompt 128] [--tokens 64] [--runs 7] [--save]

Greedy, random token ids, a fixed number of tokens, through `Model.generate`. Each run stands
between two bandwidth probes with as many threads; runs whose probes differ by more than 15 % are
printed as unsteady and left out of the median.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cabochon
import report
from cabochon.config import ModelConfig, read_config
from probe import Probe, is_steady
from process_memory import Peak


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    prompt_s: float  # to the first token drawn
    decode_s: float  # from the first token drawn to the end of the call
    before: float  # GB/s
    after: float

    @property
    def probe(self) -> float:
        return (self.before + self.after) / 2

    @property
    def steady(self) -> bool:
        return is_steady(self.before, self.after)


def generate(model: cabochon.Model, prompt: list[int], tokens: int) -> tuple[float, float]:
    """Seconds of the prompt and of the rest: the wall clock around the call, split by its own."""
    start = time.perf_counter()
    result = model.generate(
        prompt, max_tokens=tokens, temperature=0, ignore_stops=True, progress=False
    )
    seconds = time.perf_counter() - start
    if len(result.token_ids) != tokens:
        raise RuntimeError(f"generate gave {len(result.token_ids)} tokens, expected {tokens}")
    return result.timings.first_token_s, seconds - result.timings.first_token_s


def streamed_bytes(model: cabochon.Model, config: ModelConfig) -> float:
    """Bytes of weights that one decoded token reads: everything but idle experts and tables."""
    total = 0.0
    for row in model.plan.rows:
        if row.name == "experts":
            layer = config.plan.layers[0]
            total += row.bytes * layer.experts_per_token / layer.experts
        elif row.place != "disk":
            total += row.bytes
    return total


def cached_bytes(config: ModelConfig, kv: str, positions: float) -> float:
    """Bytes of keys and values that a token at this position reads."""
    values = 0.0
    for layer in config.plan.layers:
        seen = min(positions, layer.window) if layer.window else positions
        values += 2 * layer.kv_heads * layer.head_dim * seen
    return values * {"f32": 4, "bf16": 2}[kv]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompt", type=int, default=128, help="tokens")
    parser.add_argument("--tokens", type=int, default=64, help="tokens written a run, 2 or more")
    parser.add_argument("--runs", type=int, default=7, help="steady ones make the median")
    parser.add_argument("--threads", type=int, help="default: the library's")
    parser.add_argument("--weights", default="auto", choices=["auto", "int8", "int4"])
    parser.add_argument("--kv", default="auto", choices=["auto", "f32", "bf16"])
    parser.add_argument("--save", action="store_true", help="add the lines to benchmarks/results")
    arguments = parser.parse_args()

    config = read_config(json.loads((arguments.folder / "config.json").read_text()))
    prompt = np.random.default_rng(0).integers(5, config.plan.vocab, arguments.prompt).tolist()
    with Peak() as memory:
        model = cabochon.load(
            arguments.folder,
            weights=arguments.weights,
            kv=arguments.kv,
            threads=arguments.threads,
            context=arguments.prompt + arguments.tokens,
            max_sequences=1,
            progress=False,
        )
        generate(model, prompt, arguments.tokens)  # warms caches, and touches all that runs touch
    facts = report.facts(model, arguments.folder) | {
        "context": arguments.prompt,
        "sequences": 1,
        "prompt": arguments.prompt,
        "tokens": arguments.tokens,
    }

    runs = []
    with model, Probe(facts["threads"]) as probe:
        rates = [probe.measure()]
        for _ in range(arguments.runs):
            prompt_s, decode_s = generate(model, prompt, arguments.tokens)
            rates.append(probe.measure())
            runs.append(
                Run(prompt_s=prompt_s, decode_s=decode_s, before=rates[-2], after=rates[-1])
            )
        token_bytes = streamed_bytes(model, config) + cached_bytes(
            config, facts["kv"], arguments.prompt + arguments.tokens / 2
        )
        kv_bytes = model.info().memory["kv"]

    steady = [run for run in runs if run.steady]
    facts |= {
        "unit": "tok/s",
        "steady": [run.steady for run in runs],
        "probe_before": [run.before for run in runs],
        "probe_after": [run.after for run in runs],
        "memory": {
            "anonymous": memory.peak.anonymous,
            "mapped": memory.peak.mapped,
            "kv": kv_bytes,
            "peak_rss": memory.peak.total,
            "before_load": memory.start.anonymous,
        },
    }
    publish_decode(facts, steady or runs, token_bytes, save=arguments.save)
    publish_prompt(facts, steady or runs, save=arguments.save)
    publish_memory(facts, save=arguments.save)


def note(facts: dict[str, Any]) -> str:
    """Says how many runs count; no steady run at all means that the numbers stand for nothing."""
    count, total = sum(facts["steady"]), len(facts["steady"])
    return f"median of {count}" if count == total else f"median of {count} steady of {total}"


def publish_decode(
    facts: dict[str, Any], runs: list[Run], token_bytes: float, *, save: bool
) -> None:
    written = facts["tokens"] - 1
    values = report.spread([written / run.decode_s for run in runs])
    share = statistics.median(
        written / run.decode_s * token_bytes / 1e9 / run.probe for run in runs
    )
    record = facts | {"case": "decode", "token_bytes": token_bytes, "share": share} | values
    probes = [rate for run in runs for rate in (run.before, run.after)]
    what = report.what(record, f"ctx={facts['context']}", "seqs=1")
    line = (
        f"{what} | "
        f"{values['median']:.2f} tok/s {note(facts)} (best {values['best']:.2f}) | "
        f"{values['median'] * token_bytes / 1e9:.1f} GB/s = {share:.2f} of probe "
        f"[{min(probes):.1f} {max(probes):.1f}] | {report.how(record)}"
    )
    report.publish(line, record, save=save)


def publish_prompt(facts: dict[str, Any], runs: list[Run], *, save: bool) -> None:
    values = report.spread([facts["prompt"] / run.prompt_s for run in runs])
    record = facts | {"case": "prompt"} | values
    what = report.what(record, f"prompt={facts['prompt']}")
    line = (
        f"{what} | "
        f"{values['median']:.1f} tok/s {note(facts)} (best {values['best']:.1f}) | "
        f"last logits only | {report.how(record)}"
    )
    report.publish(line, record, save=save)


def publish_memory(facts: dict[str, Any], *, save: bool) -> None:
    memory = facts["memory"]
    record = facts | {"case": "memory", "unit": "B"}
    what = report.what(record, f"ctx={facts['prompt'] + facts['tokens']}", "seqs=1")
    line = (
        f"{what} | peak anonymous {memory['anonymous'] / 1e9:.3f} GB "
        f"({memory['before_load'] / 1e9:.3f} before load, KV {memory['kv'] / 1e9:.3f}) | "
        f"peak mapped {memory['mapped'] / 1e9:.3f} GB | "
        f"peak RSS {memory['peak_rss'] / 1e9:.3f} GB | "
        f"{report.how(record)}"
    )
    report.publish(line, record, save=save)


if __name__ == "__main__":
    main()
