"""What does the per-layer table cost where it stands, and in its format? Decoding, in pairs.

    python benchmarks/per_layer.py FOLDER [--cases disk:bf16 memory:bf16] [--weights int4]
                                   [--prompt 128] [--tokens 64] [--runs 9]

Two models of one checkpoint (E2B or E4B) in one process, which differ in the place and the format
of the table, their runs in turn: each pair gives a ratio of speeds, first / second, so what the
machine does beside slows both. The line ends with what each table takes (on disk or in memory) and
by how much the process's anonymous memory grew when its model was loaded and had run once.

The page cache is warm: it holds the rows of the prompt. With --cold the system is asked to drop the
files before each run; weights must then be rounded, so that nothing but rows is read from them. A
rounded table on disk needs CABOCHON_CACHE, to which the first load writes it.
"""

from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path

import numpy as np

import cabochon
import report
from cabochon import packed_cache
from process_memory import Resident
from runs import compute_all, generate


def drop(folder: Path) -> None:
    """Asks the system to forget the pages of the checkpoint's files, and of packed ones."""
    cache = packed_cache.root()
    packed = cache.rglob("*.packed") if cache is not None else ()
    for path in (*folder.glob("*.safetensors"), *packed):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", nargs=2, metavar="PLACE:FORMAT", help="disk:int8 and the like",
                        default=["disk:bf16", "memory:bf16"])  # fmt: skip
    parser.add_argument("--weights", default="int4", choices=["auto", "int8", "int4"])
    parser.add_argument("--prompt", type=int, default=128, help="tokens")
    parser.add_argument("--tokens", type=int, default=64, help="tokens written a run, 2 or more")
    parser.add_argument("--runs", type=int, default=9, help="pairs")
    parser.add_argument("--threads", type=int, help="default: the library's")
    parser.add_argument("--cold", action="store_true", help="drop the files' pages before each run")
    parser.add_argument("--save", action="store_true", help="add the line to benchmarks/results")
    arguments = parser.parse_args()
    first, second = arguments.cases

    def load(case: str) -> cabochon.Model:
        place, _, kind = case.partition(":")
        model = cabochon.load(
            arguments.folder,
            weights={"default": arguments.weights, "per_layer_table": kind},
            per_layer_embeddings=place,
            threads=arguments.threads,
            context=arguments.prompt + arguments.tokens,
            max_sequences=1,
            progress=False,
        )
        return compute_all(model)

    generator = np.random.default_rng(0)
    models: dict[str, cabochon.Model] = {}
    anonymous: dict[str, int] = {}
    for case in (first, second):
        before = Resident.now().anonymous
        models[case] = load(case)
        generate(models[case], [list(range(5, 5 + arguments.prompt))], 2)
        anonymous[case] = Resident.now().anonymous - before
    model = models[first]
    seconds: dict[str, list[tuple[float, float]]] = {first: [], second: []}
    for run in range(arguments.runs + 1):
        prompt = generator.integers(5, model.vocab_size, arguments.prompt).tolist()
        for case in (first, second) if run % 2 == 0 else (second, first):
            if arguments.cold:
                drop(arguments.folder)
            elif case.startswith("disk"):
                generate(models[case], [prompt], 2)  # its rows are in the page cache
            times = generate(models[case], [prompt], arguments.tokens)
            if run > 0:  # the first pair warms both
                seconds[case].append(times)
    table_bytes = {
        case: row.bytes
        for case, model in models.items()
        for row in model.plan.rows
        if row.name == "per_layer_table"
    }
    facts = report.facts(model, arguments.folder) | {
        "case": "per_layer",
        "unit": "ratio",
        "cases": [first, second],
        "prompt": arguments.prompt,
        "tokens": arguments.tokens,
        "is_cold": arguments.cold,
        "table_bytes": table_bytes,
        "anonymous": anonymous,
        "prompt_s": {name: [run[0] for run in runs] for name, runs in seconds.items()},
        "decode_s": {name: [run[1] for run in runs] for name, runs in seconds.items()},
    }
    for model in models.values():
        model.close()

    def ratios(part: int) -> list[float]:
        """Speed of the first case / speed of the second, pair by pair."""
        pairs = zip(seconds[first], seconds[second], strict=True)
        return [other[part] / one[part] for one, other in pairs]

    decode, prompt_ratios = ratios(1), ratios(0)
    best = min(facts["decode_s"][second]) / min(facts["decode_s"][first])
    record = facts | report.spread(decode) | {"prompt_ratios": prompt_ratios, "best_of_each": best}
    sizes = ", ".join(
        f"{case} table {table_bytes[case] / 1e9:.3f} GB, anonymous {anonymous[case] / 1e9:.3f} GB"
        for case in (first, second)
    )
    line = (
        f"{report.what(record, 'cold' if arguments.cold else 'warm')} | decode {first} / {second} "
        f"{statistics.median(decode):.4f} median of {len(decode)} pairs "
        f"[{min(decode):.4f} {max(decode):.4f}], best of each {best:.4f} | prompt "
        f"{statistics.median(prompt_ratios):.4f} [{min(prompt_ratios):.4f} "
        f"{max(prompt_ratios):.4f}] | {sizes} | {report.how(record)}"
    )
    report.publish(line, record, save=arguments.save)


if __name__ == "__main__":
    main()
