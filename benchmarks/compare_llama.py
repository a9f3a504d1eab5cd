"""How fast is cabochon beside llama.cpp, on the same machine, shapes, bits and threads?

    python benchmarks/make_checkpoint.py e2b /tmp/e2b --gguf /tmp/e2b-q4_0.gguf
    python benchmarks/compare_llama.py /tmp/e2b /tmp/e2b-q4_0.gguf [--pairs 5] [--save]

Both engines are loaded, each in a process of its own, and take turns: probe, one, probe, the other,
probe. A pair's ratio is cabochon's rate over llama.cpp's; the median over the steady pairs counts,
absolute rates are for orientation. A pair is unsteady when its three probes differ by more than
15 %, or when other processes kept more than a tenth of a core busy beside a run, which two engines
suffer from very differently. It is repeated and counts for nothing; after three times `--pairs` the
comparison ends with the steady ones it has.

Cases: "decode", tokens after a short prompt; "prefill", 512 tokens of prompt with the logits of the
last wanted; "batch", eight sequences decoding together. Prompts are random ids, new in every pair
and the same for both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import report
from cabochon.config import read_config
from engines import Engine, EngineError
from probe import Probe, is_steady

ATTEMPTS = 3  # times the pairs that are wanted
REST_S = 0.1  # in which the threads of the engine that had its turn stop spinning
COMPANY = 0.1  # cores
# Two files of the same random weights: 0.91 at 5 layers of E2B, 0.52 at 35; unrelated ones: near 0.
SAME_MODEL = 0.2  # correlation of logits


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    name: str
    sequences: int
    prompt: int  # tokens a sequence
    tokens: int  # written a sequence

    @property
    def context(self) -> int:
        return self.prompt + self.tokens

    def rate(self, run: dict[str, Any]) -> float:
        """Tokens/s: of the prompt where one token is written, else of the tokens after that."""
        if self.tokens == 1:
            return self.sequences * self.prompt / float(run["total_s"])
        return self.sequences * (self.tokens - 1) / float(run["total_s"] - run["first_s"])


CASES = {
    case.name: case
    for case in (
        Case(name="decode", sequences=1, prompt=128, tokens=64),
        Case(name="prefill", sequences=1, prompt=512, tokens=1),
        Case(name="batch", sequences=8, prompt=16, tokens=32),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    cabochon: float  # tokens/s
    llama: float
    probes: tuple[float, float, float]  # GB/s before, between and after
    others: tuple[float, float]  # cores that anything else kept busy beside each run

    @property
    def ratio(self) -> float:
        return self.cabochon / self.llama

    @property
    def steady(self) -> bool:
        return is_steady(min(self.probes), max(self.probes)) and max(self.others) <= COMPANY


def prompts_of(case: Case, vocab: int, seed: int) -> list[list[int]]:
    ids: list[list[int]] = (
        np.random.default_rng(seed).integers(5, vocab, (case.sequences, case.prompt)).tolist()
    )
    return ids


def same_model(cabochon: Engine, llama: Engine, vocab: int) -> float:
    """Correlation of the two engines' logits: other formats, the same weights."""
    ids = np.random.default_rng(0).integers(5, vocab, 16).tolist()
    found = []
    for engine in (cabochon, llama):
        rows = engine.logits(ids, list(range(len(ids))))
        found.append((rows - rows.mean(axis=1, keepdims=True)).ravel())
    return float(np.corrcoef(*found)[0, 1])


def measure(
    case: Case, cabochon: Engine, llama: Engine, probe: Probe, *, wanted: int, vocab: int
) -> list[Pair]:
    def probed() -> float:
        time.sleep(REST_S)
        return probe.measure()

    warm = prompts_of(case, vocab, 0)
    for engine in (cabochon, llama):
        engine.generate(warm, min(case.tokens, 4))
    pairs: list[Pair] = []
    while sum(pair.steady for pair in pairs) < wanted and len(pairs) < ATTEMPTS * wanted:
        prompts = prompts_of(case, vocab, 1 + len(pairs))
        before = probed()
        ours = cabochon.generate(prompts, case.tokens)
        between = probed()
        theirs = llama.generate(prompts, case.tokens)
        after = probed()
        for name, run in (("cabochon", ours), ("llama.cpp", theirs)):
            if any(len(ids) != case.tokens for ids in run["ids"]):
                counts = [len(ids) for ids in run["ids"]]
                raise RuntimeError(f"{name} wrote {counts} tokens, expected {case.tokens} each")
        pairs.append(
            Pair(
                cabochon=case.rate(ours),
                llama=case.rate(theirs),
                probes=(before, between, after),
                others=(ours["others"], theirs["others"]),
            )
        )
    return pairs


def publish(case: Case, pairs: list[Pair], facts: dict[str, Any], *, save: bool) -> None:
    steady = [pair for pair in pairs if pair.steady]
    counted = steady or pairs
    ratios = [pair.ratio for pair in counted]
    peer = facts["peer"]
    record = facts | {
        "case": f"compare-{case.name}",
        "unit": "ratio",
        "sequences": case.sequences,
        "prompt": case.prompt,
        "tokens": case.tokens,
        "context": case.context,
        "steady": [pair.steady for pair in pairs],
        "probe_before": [pair.probes[0] for pair in pairs],
        "probe_after": [pair.probes[-1] for pair in pairs],
        "pairs": [asdict(pair) for pair in pairs],
        "peer": peer | {"values": [pair.llama for pair in counted]},
    }
    record |= report.spread(ratios)
    probes = [rate for pair in counted for rate in pair.probes]
    company = max(max(pair.others) for pair in counted)
    what = report.what(record, f"prompt={case.prompt}", f"seqs={case.sequences}")
    count = f"{len(steady)} pairs" + ("" if steady == pairs else f" steady of {len(pairs)}")
    line = (
        f"{what} | cabochon/llama.cpp = {record['median']:.2f} median of {count} "
        f"[{min(ratios):.2f} {max(ratios):.2f}] | "
        f"{statistics.median(pair.cabochon for pair in counted):.1f} and "
        f"{statistics.median(pair.llama for pair in counted):.1f} tok/s | "
        f"probe [{min(probes):.1f} {max(probes):.1f}] others {company:.2f} cores | "
        f"{report.how(record)} | "
        f"{peer['version']} {peer['weights']} kv={peer['kv']} {peer['features']}"
    )
    report.publish(line, record, save=save)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the checkpoint, for cabochon")
    parser.add_argument("gguf", type=Path, help="its twin, for llama.cpp")
    parser.add_argument("--case", choices=CASES, action="append", help="default: all; repeatable")
    parser.add_argument("--pairs", type=int, default=5, help="steady ones")
    parser.add_argument("--threads", type=int, help="of each; default: cabochon's")
    parser.add_argument("--weights", default="int4", help="of cabochon")
    parser.add_argument("--kv", default="bf16", help="of cabochon; llama.cpp's is its f16")
    parser.add_argument("--save", action="store_true", help="add the lines to benchmarks/results")
    arguments = parser.parse_args()

    cases = [CASES[name] for name in arguments.case or CASES]
    vocab = read_config(json.loads((arguments.folder / "config.json").read_text())).plan.vocab
    context = max(case.context for case in cases)
    sequences = max(case.sequences for case in cases)
    cabochon = Engine(
        "cabochon",
        folder=str(arguments.folder),
        weights=arguments.weights,
        kv=arguments.kv,
        threads=arguments.threads,
        context=context,
        sequences=sequences,
    )
    with cabochon:
        threads = cabochon.facts["threads"]
        llama = Engine(
            "llama.cpp",
            file=str(arguments.gguf),
            threads=threads,
            context=context,
            sequences=sequences,
        )
        with llama:
            probe = Probe(threads)
            facts = cabochon.facts | {
                "peer": llama.facts,
                "correlation": same_model(cabochon, llama, vocab),
            }
            if facts["correlation"] < SAME_MODEL:
                sys.exit(
                    f"compare_llama: logits of {arguments.folder} and {arguments.gguf} correlate "
                    f"by {facts['correlation']:.2f}, expected over {SAME_MODEL}: are they twins?"
                )
            for case in cases:
                pairs = measure(case, cabochon, llama, probe, wanted=arguments.pairs, vocab=vocab)
                publish(case, pairs, facts, save=arguments.save)


if __name__ == "__main__":
    try:
        main()
    except EngineError as error:
        sys.exit(f"compare_llama: {error}")
