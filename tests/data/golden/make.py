"""Records what transformers computes, in float32, for the small models of tests/tiny.py.

    python tests/data/golden/make.py

Needs exactly the packages named in MADE_WITH and overwrites what lies beside this file and in
tests/data/configs/transformers_spelling/. ORIGIN.md says what is recorded and why so.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

GOLDEN = Path(__file__).parent
TESTS = GOLDEN.parents[1]
sys.path.insert(0, str(TESTS))

import tiny  # noqa: E402

MADE_WITH = {"torch": "2.13.0", "transformers": "5.23.0"}
PROMPT_TOKENS = 41  # longer than two windows of every model, and prime
GREEDY_TOKENS = 64
# Ten times the parity bound of 2e-3: no recorded choice can flip within it.
SMALLEST_MARGIN = 0.02
FEWEST_KINDS = 16  # different tokens among the greedy ones: a loop of few would check little


def check_packages() -> None:
    for package, wanted in MADE_WITH.items():
        found = importlib.metadata.version(package).split("+")[0]
        if found != wanted:
            raise SystemExit(
                f"{package}: found {found}, expected {wanted}; install that, or change MADE_WITH"
            )


def load(folder: Path) -> torch.nn.Module:
    """The model in float32 straight from the file; every name must be used, none may be missing
    (but for the vision tower, which transformers gives every whole Gemma 3).

    Never cast to bfloat16 and back: buffers that are not saved (embedding scale, rope frequencies)
    would stay rounded.
    """
    config = json.loads((folder / "config.json").read_text())
    model_class = getattr(transformers, config["architectures"][0])
    model, info = model_class.from_pretrained(
        folder,
        dtype=torch.float32,
        output_loading_info=True,
        attn_implementation="eager",
        experts_implementation="eager",  # the readable loop: others want strides of 16 bytes
    )
    tower = ("model.vision_tower.", "model.multi_modal_projector.")
    info["missing_keys"] = [key for key in info["missing_keys"] if not key.startswith(tower)]
    problems = {key: value for key, value in info.items() if value}
    if problems:
        raise SystemExit(
            f"{folder.name}: {model_class.__name__} does not take the file: {problems}"
        )
    return model.eval()


def logits(model: torch.nn.Module, ids: Sequence[int]) -> np.ndarray[Any, Any]:
    """float32 [tokens, vocab]: one pass, no cache."""
    with torch.no_grad():
        out = model(input_ids=torch.tensor([list(ids)]), use_cache=False)
    return out.logits[0].numpy()


def greedy(model: torch.nn.Module, prompt: Sequence[int], count: int) -> list[int]:
    """`count` most likely tokens, one after the other through the cache; stop ids do not stop."""
    tokens: list[int] = []
    step, cache = list(prompt), None
    with torch.no_grad():
        for _ in range(count):
            out = model(input_ids=torch.tensor([step]), past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            tokens.append(int(out.logits[0, -1].argmax()))
            step = tokens[-1:]
    return tokens


def margins(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """How far the best logit of each row is above the second."""
    best = np.partition(rows, -2, axis=-1)[:, -2:]
    return best[:, 1] - best[:, 0]


def prompt_of(seed: int, vocab: int) -> list[int]:
    words = np.random.PCG64(np.random.SeedSequence([seed, vocab])).random_raw(PROMPT_TOKENS - 1)
    return [tiny.BOS, *(3 + int(word) % (vocab - 3) for word in words)]


def other_form(config: tiny.Config) -> tiny.Config:
    """The same model as a text-only file where it is a whole one, and the other way round."""
    if "text_config" not in config:
        return tiny.nested(config)
    text_class = config["architectures"][0].replace("ForConditionalGeneration", "ForCausalLM")
    return config["text_config"] | {"architectures": [text_class]}


def record(name: str, folder: Path) -> dict[str, Any]:
    described = tiny.MODELS[name]
    vocab = tiny.text_config(described.config)["vocab_size"]
    checkpoint = tiny.write(folder / name, name)
    model = load(checkpoint)

    for seed in range(200):
        prompt = prompt_of(seed, vocab)
        tokens = greedy(model, prompt, GREEDY_TOKENS)
        rows = logits(model, prompt + tokens[:-1])
        kinds = len(set(tokens))
        if margins(rows).min() >= SMALLEST_MARGIN and kinds >= FEWEST_KINDS:
            break
    else:
        raise SystemExit(f"{name}: no prompt among 200 keeps margins of {SMALLEST_MARGIN}")
    if rows[PROMPT_TOKENS - 1 :].argmax(-1).tolist() != tokens:
        raise SystemExit(f"{name}: transformers with and without a cache choose different tokens")

    config = other_form(described.config)
    twin = load(tiny.write_checkpoint(
        folder / f"{name}_other_form", config, described.seed, unused_kv=described.unused_kv
    ))  # fmt: skip
    alone = logits(model, prompt)
    np.testing.assert_array_equal(
        logits(twin, prompt), alone, err_msg=f"{name}: two forms of a file"
    )

    np.savez_compressed(
        GOLDEN / f"{name}.npz",
        prompt=np.array(prompt, np.int32),
        logits=alone,
        one_token_logits=logits(model, prompt[:1]),
        greedy=np.array(tokens, np.int32),
        greedy_margins=margins(rows[PROMPT_TOKENS - 1 :]),
    )
    transformers.AutoConfig.from_pretrained(checkpoint).save_pretrained(folder / "saved")
    spelling = TESTS / "data/configs/transformers_spelling" / f"{name}.json"
    spelling.parent.mkdir(parents=True, exist_ok=True)
    spelling.write_text((folder / "saved/config.json").read_text().rstrip() + "\n")
    return {
        "about": described.about,
        "class": type(model).__name__,
        "seed": described.seed,
        "prompt_seed": seed,
        "smallest_margin": round(float(margins(rows).min()), 4),
        "kinds_of_greedy_tokens": kinds,
        "model.safetensors": hashlib.sha256(
            (checkpoint / "model.safetensors").read_bytes()
        ).hexdigest(),
    }


def main() -> None:
    check_packages()
    torch.set_num_threads(1)
    models = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in tiny.MODELS:
            models[name] = record(name, Path(folder))
            print(name, models[name])
    text = json.dumps({"made_with": MADE_WITH, "models": models}, indent=2)
    (GOLDEN / "models.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
