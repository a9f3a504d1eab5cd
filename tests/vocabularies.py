"""Tokenizers that tests write in: the demo's, the published one where it is, one of Gemma 3."""

from __future__ import annotations

import functools
import json
import lzma
from pathlib import Path

import pytest

from cabochon import demo
from cabochon.tokenizer import CONTROL_NAMES, GEMMA3_CONTROL, Tokenizer

SHARED = Path(__file__).parents[2] / "shared" / "data"
PUBLISHED = SHARED / "tokenizer" / "gemma4-tokenizer.json.xz"


@functools.cache
def demo_tokenizer() -> Tokenizer:
    return Tokenizer(demo._tokenizer(*demo._pieces()))


@functools.cache
def gemma3_tokenizer() -> Tokenizer:
    """The demo's with Gemma 3's control tokens in the place of Gemma 4's."""
    document = demo._tokenizer(*demo._pieces())
    document["added_tokens"] = []
    vocab = document["model"]["vocab"]
    others = [piece for piece in vocab if "|" in piece and piece in CONTROL_NAMES]
    new = [name for name in GEMMA3_CONTROL if name not in vocab]
    names = {other: new[i] if i < len(new) else f"<unused{i}>" for i, other in enumerate(others)}
    document["model"]["vocab"] = {names.get(piece, piece): vocab[piece] for piece in vocab}
    return Tokenizer(document)


def published_tokenizer() -> Tokenizer:
    if not PUBLISHED.exists():
        pytest.skip(f"needs the published tokenizer: {PUBLISHED} is absent")
    return _published()


@functools.cache
def _published() -> Tokenizer:
    return Tokenizer(json.loads(lzma.decompress(PUBLISHED.read_bytes())))


def tokenizer(name: str) -> Tokenizer:
    return demo_tokenizer() if name == "demo" else published_tokenizer()
