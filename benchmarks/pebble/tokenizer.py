"""Trains pebble's tokenizer: byte-fallback BPE in the structure of Gemma's published file.

    python benchmarks/pebble/tokenizer.py FOLDER [--pieces 2048] [--cases 20000] [--seed 0]

Digits stand alone, and so do spaces before them; no piece crosses a word, a line or the border
between letters and signs, so a text has the same ids wherever a message begins. Control tokens come
first, then the 256 bytes, then characters and merges. What is written is what `cabochon demo`
writes, with a trained vocabulary.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import corpus
import tokenizers

from cabochon import demo
from cabochon.tokenizer import GEMMA4_CONTROL, SPACE

# Every printable character of ASCII has a piece, seen or not.
ALPHABET = [SPACE, "\n", *map(chr, range(ord("!"), ord("~") + 1))]
# A word with the space before it, or one digit, or signs: merges stay inside one of these.
CHUNKS = rf"{SPACE}?[A-Za-z]+|[0-9]|\n|{SPACE}|[^A-Za-z0-9\n{SPACE}]+"


def train(texts: Iterable[str], pieces: int) -> dict[str, Any]:
    """A document of tokenizer.json with that many pieces, or fewer where the text has no more.

    Raises:
        ValueError: too few pieces for control tokens, bytes and ASCII.
    """
    fixed = [*GEMMA4_CONTROL, *(f"<0x{byte:02X}>" for byte in range(256))]
    if pieces < len(fixed) + len(ALPHABET):
        raise ValueError(f"pieces: found {pieces}, expected at least {len(fixed) + len(ALPHABET)}")
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.normalizer = tokenizers.normalizers.Replace(" ", SPACE)
    trained.pre_tokenizer = tokenizers.pre_tokenizers.Split(
        tokenizers.Regex(CHUNKS), behavior="isolated"
    )
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=pieces - len(fixed), initial_alphabet=ALPHABET, limit_alphabet=len(ALPHABET),
        show_progress=False,
    )  # fmt: skip
    trained.train_from_iterator(texts, trainer)
    model = json.loads(trained.to_str())["model"]
    ordered = sorted(model["vocab"], key=model["vocab"].__getitem__)
    vocab = {piece: index for index, piece in enumerate([*fixed, *ordered])}
    return demo._tokenizer(vocab, [list(merge) for merge in model["merges"]])


def write(folder: Path, document: dict[str, Any]) -> None:
    """tokenizer.json, and the names that transformers asks for."""
    named = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk")}
    files = {
        "tokenizer.json": document,
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", **named},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pieces", type=int, default=2048)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    document = train(corpus.texts("train", arguments.seed, arguments.cases), arguments.pieces)
    write(arguments.folder, document)
    print(f"{len(document['model']['vocab'])} pieces, {len(document['model']['merges'])} merges")


if __name__ == "__main__":
    main()
