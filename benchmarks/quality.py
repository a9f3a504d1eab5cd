"""What does each format cost on the real Gemma 3 270M, and what do llama.cpp's cost?

    python benchmarks/real_weights.py
    python benchmarks/quality.py [FOLDER] [--text FILE] [--classes] [--save]

At every 8th position of page.txt, or of another text (second_page.txt has lists and code): the mean
Kullback-Leibler divergence (nats) from bf16 weights with an exact cache, the share of positions
whose most likely token differs ("flips"), and the perplexity. The error beside a mean is its
standard error over positions. All rows see the same positions, so that a difference of two rows is
surer than either.

llama.cpp reads files of the same bf16 weights, quantised by the package gguf. Its bf16 row shows
what two engines differ by that quantise nothing. Where weights are integers both engines quantise
the activations too. --classes adds rows with one class of matrices quantised alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import gguf_twin
import report
from cabochon.tokenizer import Tokenizer
from engines import Engine, EngineError
from real_weights import DEFAULT_FOLDER, PAGE

STRIDE = 8  # of positions
CHUNK = 16  # rows of logits in float64 at once
REFERENCE = {"weights": "bf16", "kv": "f32"}
CABOCHON = (
    {"weights": "bf16", "kv": "bf16"},
    {"weights": "bf16", "kv": "int8"},
    {"weights": "bf16", "kv": "f32", "arithmetic": "fast"},
    {"weights": "int8", "kv": "f32"},
    {"weights": "int8", "kv": "int8"},
    {"weights": "int4-absmax", "kv": "f32"},
    {"weights": "int4-searched", "kv": "f32"},
    {"weights": "int4", "kv": "f32"},
    {"weights": "int4", "kv": "int8"},
)
LLAMA = (
    {"matrix": "bf16", "head": "bf16"},
    {"matrix": "q8_0", "head": "q8_0"},
    {"matrix": "q4_0", "head": "q8_0"},
)
CLASSES = ("head", "attention", "mlp")

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The text, and the positions that are looked at."""

    ids: list[int]
    positions: list[int]

    @classmethod
    def of(cls, folder: Path, text: Path, stride: int) -> Page:
        tokenizer = Tokenizer.from_folder(folder)
        if tokenizer.bos_id is None:
            raise ValueError(f"{folder}: the tokenizer has no BOS")
        ids = [tokenizer.bos_id, *tokenizer.encode(text.read_text(encoding="utf-8"))]
        return cls(ids=ids, positions=list(range(0, len(ids) - 1, stride)))

    @property
    def targets(self) -> list[int]:
        return [self.ids[position + 1] for position in self.positions]


def log_softmax(rows: Rows) -> Floats:
    shifted = rows.astype(np.float64) - rows.max(axis=1, keepdims=True)
    scores: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return scores


def compare(reference: Rows, found: Rows, targets: list[int]) -> dict[str, Any]:
    """Divergence of `found` from `reference`, with flips and perplexity, over the positions."""
    divergence, loss = [], []
    for first in range(0, len(found), CHUNK):
        exact = log_softmax(reference[first : first + CHUNK])
        scores = log_softmax(found[first : first + CHUNK])
        divergence.append((np.exp(exact) * (exact - scores)).sum(axis=1))
        wanted = targets[first : first + CHUNK]
        loss.append(-scores[np.arange(len(wanted)), wanted])
    values = np.concatenate(divergence)
    return {
        "kl": float(values.mean()),
        "kl_error": float(values.std(ddof=1) / len(values) ** 0.5),
        "flips": float((reference.argmax(axis=1) != found.argmax(axis=1)).mean()),
        "perplexity": float(np.exp(np.concatenate(loss).mean())),
    }


def cabochon_logits(
    folder: Path, page: Page, threads: int | None, options: dict[str, Any]
) -> tuple[Rows, dict[str, Any]]:
    with Engine(
        "cabochon", folder=str(folder), context=len(page.ids), threads=threads, **options
    ) as engine:
        return engine.logits(page.ids, page.positions), engine.facts


def llama_logits(file: Path, page: Page, threads: int) -> tuple[Rows, dict[str, Any]]:
    with Engine("llama.cpp", file=str(file), context=len(page.ids), threads=threads) as engine:
        return engine.logits(page.ids, page.positions), engine.facts


def publish(
    name: str, engine: str, found: dict[str, Any], facts: dict[str, Any], *, save: bool
) -> None:
    record = facts | {"case": "quality", "engine": engine, "row": name, "unit": "nats"} | found
    line = (
        f"quality {facts['model']} {facts['text']} | {engine:9} {name:46} | "
        f"KL {found['kl']:.5f} +- {found['kl_error']:.5f} | flips {found['flips']:6.1%} | "
        f"perplexity {found['perplexity']:.3f}"
    )
    report.publish(line, record, save=save)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--text", type=Path, default=PAGE, help="default: page.txt")
    parser.add_argument("--stride", type=int, default=STRIDE, help=f"default: {STRIDE}")
    parser.add_argument("--threads", type=int, help="default: the library's")
    parser.add_argument("--classes", action="store_true", help="each class of matrices alone, too")
    parser.add_argument("--no-llama", action="store_true", help="leave the peer's rows out")
    parser.add_argument("--save", action="store_true", help="add the lines to benchmarks/results")
    arguments = parser.parse_args()
    folder = arguments.folder
    if not (folder / "config.json").exists():
        sys.exit(f"quality: {folder} has no checkpoint: run benchmarks/real_weights.py first")

    page = Page.of(folder, arguments.text, arguments.stride)
    reference, facts = cabochon_logits(folder, page, arguments.threads, REFERENCE)
    facts |= {
        "text": arguments.text.name,
        "positions": len(page.positions),
        "tokens": len(page.ids),
    }

    def show(engine: str, name: str, rows: Rows, more: dict[str, Any]) -> None:
        publish(
            name,
            engine,
            compare(reference, rows, page.targets),
            facts | more,
            save=arguments.save,
        )

    show("cabochon", "bf16 kv=f32 (the reference)", reference, {})
    rows_wanted: list[tuple[str, dict[str, Any]]] = [
        (options["weights"] + "".join(f" {k}={options[k]}" for k in list(options)[1:]), options)
        for options in CABOCHON
    ]
    if arguments.classes:
        rows_wanted += [
            (f"{kind} {name} only", {"weights": {"default": "bf16", name: kind}, "kv": "f32"})
            for kind in ("int8", "int4-absmax", "int4")
            for name in CLASSES
        ]
    for name, options in rows_wanted:
        try:
            rows, more = cabochon_logits(folder, page, arguments.threads, options)
        except EngineError as error:
            print(f"quality {facts['model']} | {name}: {error}")
            continue
        show("cabochon", name, rows, more)
    if not arguments.no_llama:
        for types in LLAMA:
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                file = Path(scratch) / f"{types['matrix']}-{types['head']}.gguf"
                gguf_twin.write(folder, file, **types)
                rows, peer = llama_logits(file, page, facts["threads"])
            name = f"{types['matrix']} head={types['head']} kv={peer['kv']}"
            show("llama.cpp", name, rows, {"peer": peer})


if __name__ == "__main__":
    try:
        main()
    except EngineError as error:
        sys.exit(f"quality: {error}")
