"""What transformers computed for the models of tiny.py, as data/golden/make.py recorded it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

FOLDER = Path(__file__).parent / "data/golden"

# How far logits may be from the float32 reference (bf16 weights, kv="f32"): docs/numerics.md.
LOGIT_BOUND = 2e-3


@dataclass(frozen=True, kw_only=True)
class Golden:
    folder: Path  # the checkpoint
    prompt: list[int]
    logits: npt.NDArray[np.float32]  # [tokens of the prompt, vocab]
    one_token_logits: npt.NDArray[np.float32]  # [1, vocab], of the prompt's first token
    greedy: list[int]  # the most likely continuation; stop ids do not stop it
    greedy_margins: npt.NDArray[np.float32]  # best logit above the second, at each of them

    @classmethod
    def read(cls, name: str, folder: Path) -> Golden:
        """The record of model `name`, whose checkpoint was made again in `folder`."""
        recorded = json.loads((FOLDER / "models.json").read_text())["models"][name]
        expected = recorded["model.safetensors"]
        found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        if found != expected:
            raise AssertionError(
                f"{name}: model.safetensors made from its seed has SHA-256 {found}, "
                f"expected {expected}: tiny.py changed since the record was made. Undo that, or "
                "run tests/data/golden/make.py and say in the commit why"
            )
        with np.load(FOLDER / f"{name}.npz") as arrays:
            return cls(
                folder=folder,
                prompt=arrays["prompt"].tolist(),
                logits=arrays["logits"],
                one_token_logits=arrays["one_token_logits"],
                greedy=arrays["greedy"].tolist(),
                greedy_margins=arrays["greedy_margins"],
            )
