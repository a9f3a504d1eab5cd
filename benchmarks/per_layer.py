"""What does the per-layer table cost on disk? Decoding with it on disk against in memory.

    python benchmarks/per_layer.py FOLDER [--weights int4] [--prompt 128] [--tokens 64] [--runs 9]

Two models of one checkpoint (E2B or E4B) in one process, their runs in turn: each pair gives a
ratio of speeds, disk / memory, so what the machine does beside slows both. The page cache is warm:
it holds the rows of the prompt. With --cold the system is asked to drop the file before each run;
weights must then be rounded, so that nothing but rows is read from it.
"""

from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path

import numpy as np

import cabochon
import report
from runs import generate


def drop(folder: Path) -> None:
    """Asks the system to forget the pages of the checkpoint's files."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", default="int4", choices=["auto", "int8", "int4"])
    parser.add_argument("--prompt", type=int, default=128, help="tokens")
    parser.add_argument("--tokens", type=int, default=64, help="tokens written a run, 2 or more")
    parser.add_argument("--runs", type=int, default=9, help="pairs")
    parser.add_argument("--threads", type=int, help="default: the library's")
    parser.add_argument("--cold", action="store_true", help="drop the file's pages before each run")
    parser.add_argument("--save", action="store_true", help="add the line to benchmarks/results")
    arguments = parser.parse_args()

    def load(place: str) -> cabochon.Model:
        return cabochon.load(
            arguments.folder,
            weights=arguments.weights,
            per_layer_embeddings=place,
            threads=arguments.threads,
            context=arguments.prompt + arguments.tokens,
            max_sequences=1,
            progress=False,
        )

    with load("disk") as disk, load("memory") as memory:
        generator = np.random.default_rng(0)
        seconds: dict[str, list[tuple[float, float]]] = {"disk": [], "memory": []}
        for run in range(arguments.runs + 1):
            prompt = generator.integers(5, disk.vocab_size, arguments.prompt).tolist()
            pair = [("disk", disk), ("memory", memory)]
            for name, model in pair if run % 2 == 0 else pair[::-1]:
                if arguments.cold:
                    drop(arguments.folder)
                elif name == "disk":
                    generate(model, [prompt], 2)  # its rows are in the page cache
                times = generate(model, [prompt], arguments.tokens)
                if run > 0:  # the first pair warms both
                    seconds[name].append(times)
        facts = report.facts(disk, arguments.folder) | {
            "case": "per_layer",
            "unit": "ratio",
            "prompt": arguments.prompt,
            "tokens": arguments.tokens,
            "is_cold": arguments.cold,
            "prompt_s": {name: [run[0] for run in runs] for name, runs in seconds.items()},
            "decode_s": {name: [run[1] for run in runs] for name, runs in seconds.items()},
        }

    def ratios(part: int) -> list[float]:
        """Speed on disk / speed in memory, pair by pair."""
        pairs = zip(seconds["disk"], seconds["memory"], strict=True)
        return [memory[part] / disk[part] for disk, memory in pairs]

    decode, prompt_ratios = ratios(1), ratios(0)
    best = min(facts["decode_s"]["memory"]) / min(facts["decode_s"]["disk"])
    record = facts | report.spread(decode) | {"prompt_ratios": prompt_ratios, "best_of_each": best}
    line = (
        f"{report.what(record, 'cold' if arguments.cold else 'warm')} | decode disk / memory "
        f"{statistics.median(decode):.4f} median of {len(decode)} pairs "
        f"[{min(decode):.4f} {max(decode):.4f}], best of each {best:.4f} | prompt "
        f"{statistics.median(prompt_ratios):.4f} [{min(prompt_ratios):.4f} "
        f"{max(prompt_ratios):.4f}] | {report.how(record)}"
    )
    report.publish(line, record, save=arguments.save)


if __name__ == "__main__":
    main()
