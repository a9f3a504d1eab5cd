"""Does a model take the memory that was planned? Planned bytes against those really held.

    python benchmarks/plan.py FOLDER [--models e2b 12b ...] [--weights bf16 int8 int4]
                              [--contexts 512 2048 8192] [--save]

For each model a checkpoint of its true widths and few layers is written into FOLDER (the largest
takes 5 GB) and deleted again. Each case is a process of its own: what it holds before loading, with
Python, NumPy and the extension, is taken off. Then everything is used: two sequences as long as the
context, drawn from all tokens with a repetition penalty, and log-probabilities of a whole chunk.

Anonymous memory is the system's count (RssAnon), beside it the allocators' own; mapped is RssFile,
where the weights are computed as stored (else it is what was looked up of the embedding).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import cabochon
import make_checkpoint
import report
from cabochon import loading
from process_memory import Resident

# Enough for one global layer, and in the E models for a layer that shares its keys.
LAYERS = {"e2b": 8, "e4b": 8, "12b": 2, "26b-a4b": 2, "31b": 2}
SEQUENCES = 2


def measure(folder: Path, weights: str, context: int) -> dict[str, Any]:
    """One case, in this process."""
    options: dict[str, Any] = {
        "weights": weights, "context": context, "max_sequences": SEQUENCES,
    }  # fmt: skip
    plan = cabochon.plan(folder, **options)
    before = Resident.now()
    with loading.load(folder, **options, progress=False) as model:
        generator = np.random.default_rng(0)
        prompts = generator.integers(5, model.vocab_size, (SEQUENCES, context - 2)).tolist()
        model.logprobs(prompts[0][:300])
        # The second tokens are drawn together, on two threads.
        model.generate(
            prompts, max_tokens=2, seed=0, top_k=0, top_p=1.0, repetition_penalty=1.1,
            ignore_stops=True, progress=False,
        )  # fmt: skip
        after = Resident.now()
        return report.facts(model, folder) | {
            "case": "plan",
            "unit": "B",
            "context": context,
            "sequences": SEQUENCES,
            "planned_anonymous": plan.host_bytes,
            "planned_mapped": plan.mapped_bytes,
            "allocated": dict(model.plan.measured),
            "before": before.anonymous,
            "anonymous": after.anonymous - before.anonymous,
            "mapped": after.mapped - before.mapped,
            "threads": model.info().threads,
        }


def line_of(record: dict[str, Any]) -> str:
    planned, found = record["planned_anonymous"], record["anonymous"]
    counted = sum(n for part, n in record["allocated"].items() if part != "mapped")
    what = report.what(record, f"ctx={record['context']}", f"seqs={record['sequences']}")
    mapped = f"mapped planned {record['planned_mapped'] / 1e6:.1f} MB"
    if record["format"] in ("bf16", "f32"):  # else most of it is the embedding, row by row
        ratio = record["mapped"] / record["planned_mapped"]
        mapped += f", resident {record['mapped'] / 1e6:.1f} ({ratio:.3f})"
    return (
        f"{what} | anonymous planned {planned / 1e6:.1f} MB, allocated {counted / 1e6:.1f}, "
        f"resident {found / 1e6:.1f} ({found / planned:.4f}) | {mapped} | before loading "
        f"{record['before'] / 1e6:.1f} MB | {report.how(record)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="for checkpoints, on a disk with 5 GB free")
    parser.add_argument("--models", nargs="+", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("--weights", nargs="+", default=["bf16", "int8", "int4"])
    parser.add_argument("--contexts", nargs="+", type=int, default=[512, 2048, 8192])
    parser.add_argument("--save", action="store_true", help="add the lines to benchmarks/results")
    parser.add_argument("--case", help=argparse.SUPPRESS)  # of a child: weights and context
    arguments = parser.parse_args()
    if arguments.case:
        weights, context = arguments.case.split()
        print(json.dumps(measure(arguments.folder, weights, int(context))))
        return
    environment = os.environ | {"CABOCHON_CACHE": ""}
    for model in arguments.models:
        folder = arguments.folder / f"plan-{model}-{LAYERS[model]}-layers"
        try:
            make_checkpoint.make(model, folder, layers=LAYERS[model])
            for weights in arguments.weights:
                for context in arguments.contexts:
                    case = [__file__, str(folder), "--case", f"{weights} {context}"]
                    done = subprocess.run(
                        [sys.executable, *case], env=environment, stdout=subprocess.PIPE, check=True
                    )
                    record = json.loads(done.stdout)
                    report.publish(line_of(record), record, save=arguments.save)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
