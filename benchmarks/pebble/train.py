"""Trains pebble from nothing with torch and transformers, and writes a Hugging Face folder.

    python benchmarks/pebble/train.py FOLDER [--size pebble|pebble-moe] [--minutes 120]
        [--device cpu|cuda] [--threads 2] [--seed 0] [--lr 0.003] [--tokens 8192]

FOLDER/tokenizer.json is trained first where there is none. Run it again after an interruption: it
goes on from FOLDER/state.pt, which is written every `--save` minutes and moved into place whole.
The rate follows a cosine over the minutes of computing, all runs together (processor time over
`--threads`, so that a machine may stop the process; on a GPU the clock); `--steps` fixes the
number of steps instead, and then the same seed, machine and threads give the same files. The curve
is FOLDER/curve.jsonl: a line for each `--every` steps with the loss, one for each task too, and
with the loss of held-out cases.

Rows are packed: several conversations in one, each with positions from 0, which keeps one from
seeing another. Only what the model writes is learnt. Every eighth batch has long rows, which take
long conversations (needles); the others take what fits.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import corpus
import shapes
import tokenizer as pieces_of
import torch
import transformers

from cabochon.tokenizer import Tokenizer

ROW, LONG_ROW, LONG_EVERY = 384, 1024, 8
WARMUP = 0.03  # of all training
HELD_OUT = 96  # cases of the test part whose loss is logged

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[tuple[str, int, int, int]]]


class Packer:
    """Batches for ever. `index` is the next case: all there is to save and to go on from."""

    def __init__(self, tokenizer: Tokenizer, *, part: str, seed: int, tokens: int) -> None:
        self.tokenizer, self.part, self.seed, self.tokens = tokenizer, part, seed, tokens
        self.index = self.batches = 0
        self.waiting: list[tuple[str, list[int], list[int]]] = []  # too long for a short row

    def state(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("index", "batches", "waiting")}

    def restore(self, state: dict[str, Any]) -> None:
        for key, value in state.items():
            setattr(self, key, value)

    def _next(self, room: int, is_long: bool) -> tuple[str, list[int], list[int]]:
        if is_long and self.waiting:
            fitting = [i for i, item in enumerate(self.waiting) if len(item[1]) <= room]
            if fitting:
                return self.waiting.pop(fitting[0])
        while True:
            case = corpus.case(self.part, self.seed, self.index)
            self.index += 1
            ids, labels = corpus.encoded(case, self.tokenizer)
            if len(ids) <= ROW or is_long:
                return case.task, ids, labels
            self.waiting.append((case.task, ids, labels))

    def batch(self) -> Batch:
        """Ids, labels and positions [rows, length], and where each conversation is."""
        self.batches += 1
        is_long = self.batches % LONG_EVERY == 0
        length = LONG_ROW if is_long else ROW
        rows = max(1, self.tokens // length)
        ids = torch.zeros(rows, length, dtype=torch.long)
        labels = torch.full_like(ids, corpus.IGNORED)
        positions = torch.zeros_like(ids)
        places: list[tuple[str, int, int, int]] = []
        for row in range(rows):
            begin = 0
            while True:
                task, new, learnt = self._next(length - begin, is_long)
                end = begin + len(new)
                if end > length:
                    if len(new) > ROW and len(new) <= LONG_ROW:
                        self.waiting.append((task, new, learnt))  # kept for an emptier row
                    break
                ids[row, begin:end] = torch.tensor(new)
                labels[row, begin:end] = torch.tensor(learnt)
                positions[row, begin:end] = torch.arange(len(new))
                places.append((task, row, begin, end))
                begin = end
            positions[row, begin:] = torch.arange(length - begin)
        return ids, labels, positions, places


def new_model(config: dict[str, Any], seed: int) -> Any:
    """Weights drawn so that every signal begins near 1: scores have no scale of their own."""
    torch.manual_seed(seed)
    model = transformers.Gemma4ForCausalLM(transformers.Gemma4TextConfig(**config))
    hidden = config["hidden_size"]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("k_norm.weight"):
                weight.fill_(weight.shape[0] ** -0.5)
            elif name.endswith("embed_tokens_per_layer.weight"):
                weight.normal_(0, config["hidden_size_per_layer_input"] ** -0.5)
            elif name.endswith("embed_tokens.weight"):
                weight.normal_(0, hidden**-0.5)
            elif weight.dim() >= 2:
                weight.normal_(0, weight.shape[-1] ** -0.5)
            elif ".post_" in name:
                weight.fill_((2 * config["num_hidden_layers"]) ** -0.5)
    return model


def losses(model: Any, batch: Batch, device: str) -> torch.Tensor:
    """Loss of each learnt id [rows, length - 1], 0 elsewhere."""
    ids, labels, positions = (tensor.to(device) for tensor in batch[:3])
    with torch.autocast("cuda", torch.bfloat16, enabled=device.startswith("cuda")):
        logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), labels[:, 1:],
        ignore_index=corpus.IGNORED, reduction="none",
    )  # fmt: skip


def by_task(each: torch.Tensor, batch: Batch) -> dict[str, tuple[float, int]]:
    """Sum of losses and number of learnt ids of each task."""
    sums: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
    labels, places = batch[1], batch[3]
    kept = each.detach().cpu()
    for task, row, begin, end in places:
        total, count = sums[task]
        is_learnt = labels[row, begin + 1 : end] != corpus.IGNORED
        sums[task] = (total + float(kept[row, begin : end - 1].sum()), count + int(is_learnt.sum()))
    return sums


def optimizer_of(model: Any, lr: float) -> torch.optim.Optimizer:
    """AdamW; norms and embeddings do not decay."""
    decayed, free = [], []
    for name, weight in model.named_parameters():
        (decayed if weight.dim() >= 2 and "embed" not in name else free).append(weight)
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))


def rate(progress: float) -> float:
    """Share of the highest rate: up at once, down along a cosine to a hundredth."""
    if progress < WARMUP:
        return max(progress / WARMUP, 0.01)
    along = min((progress - WARMUP) / (1 - WARMUP), 1.0)
    return 0.01 + 0.99 * (1 + math.cos(math.pi * along)) / 2


def save_whole(path: Path, content: Any) -> None:
    part = path.with_name(path.name + ".part")
    torch.save(content, part)
    os.replace(part, path)


def write_model(model: Any, config: dict[str, Any], folder: Path, pieces: dict[str, int]) -> None:
    """config.json, generation_config.json, model.safetensors in bf16; the tokenizer lies there."""
    from safetensors.torch import save_file

    # Names as transformers saves them: the tied head is not stored.
    stored = {
        name: tensor.detach().to("cpu", torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    save_file(stored, folder / "model.safetensors.part", metadata={"format": "pt"})
    os.replace(folder / "model.safetensors.part", folder / "model.safetensors")
    for name, content in (
        ("config.json", config),
        ("generation_config.json", shapes.generation_config(pieces)),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def train(arguments: argparse.Namespace) -> None:
    folder: Path = arguments.folder
    device = arguments.device
    torch.set_num_threads(arguments.threads)
    if not (folder / "tokenizer.json").exists():
        document = pieces_of.train(corpus.texts("train", arguments.seed, 20_000), arguments.pieces)
        pieces_of.write(folder, document)
    tokenizer = Tokenizer.from_folder(folder)
    pieces = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    config = shapes.config(arguments.size, pieces)
    model = new_model(config, arguments.seed).to(device)
    parameters = sum(weight.numel() for weight in model.parameters())
    optimizer = optimizer_of(model, arguments.lr)
    packer = Packer(tokenizer, part="train", seed=arguments.seed, tokens=arguments.tokens)
    step, spent, tokens = 0, 0.0, 0
    if (folder / "state.pt").exists():
        state = torch.load(folder / "state.pt", map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        packer.restore(state["packer"])
        step, spent, tokens = state["step"], state["spent"], state["tokens"]
    print(f"{arguments.size}: {parameters:,} parameters, at step {step}", flush=True)

    def progress() -> float:
        return step / arguments.steps if arguments.steps else spent / (60 * arguments.minutes)

    def clock() -> float:
        on_cpu = device == "cpu"
        return time.process_time() / arguments.threads if on_cpu else time.monotonic()

    def save() -> None:
        save_whole(folder / "state.pt", {
            "model": model.state_dict(), "optimizer": optimizer.state_dict(),
            "packer": packer.state(), "step": step, "spent": spent, "tokens": tokens,
        })  # fmt: skip
        write_model(model, config, folder, pieces)

    sums: dict[str, tuple[float, int]] = {}
    saved = begun = clock()
    while progress() < 1:
        for group in optimizer.param_groups:
            group["lr"] = arguments.lr * rate(progress())
        batch = packer.batch()
        each = losses(model, batch, device)
        learnt = int((batch[1][:, 1:] != corpus.IGNORED).sum())
        optimizer.zero_grad(set_to_none=True)
        (each.sum() / learnt).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        tokens += batch[0].numel()
        for task, (total, count) in by_task(each, batch).items():
            before = sums.get(task, (0.0, 0))
            sums[task] = (before[0] + total, before[1] + count)
        now = clock()
        spent, begun = spent + now - begun, now
        if step % arguments.every == 0:
            line = _line(step, spent, tokens, sums, rate(progress()))
            if step % (10 * arguments.every) == 0:
                line["held_out"] = held_out(model, tokenizer, arguments.seed, device)
            with (folder / "curve.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
            sums = {}
        if now - saved > 60 * arguments.save:
            save()
            saved = now
    save()


def _mean(sums: dict[str, tuple[float, int]]) -> dict[str, float]:
    return {task: round(total / max(count, 1), 4) for task, (total, count) in sorted(sums.items())}


def _line(step: int, spent: float, tokens: int, sums: dict[str, tuple[float, int]], share: float
          ) -> dict[str, Any]:  # fmt: skip
    total = sum(total for total, _ in sums.values()) / max(sum(c for _, c in sums.values()), 1)
    return {"step": step, "minutes": round(spent / 60, 2), "tokens": tokens,
            "rate": round(share, 4), "loss": round(total, 4), "tasks": _mean(sums)}  # fmt: skip


def held_out(model: Any, tokenizer: Tokenizer, seed: int, device: str) -> dict[str, float]:
    """Loss of each task on cases of the test part: always the same ones."""
    packer = Packer(tokenizer, part="test", seed=seed, tokens=4 * ROW)
    sums: dict[str, tuple[float, int]] = {}
    model.eval()
    with torch.no_grad():
        for batch in _until(packer):
            for task, (total, count) in by_task(losses(model, batch, device), batch).items():
                before = sums.get(task, (0.0, 0))
                sums[task] = (before[0] + total, before[1] + count)
    model.train()
    return _mean(sums)


def _until(packer: Packer) -> Iterator[Batch]:
    while packer.index < HELD_OUT:
        yield packer.batch()


def arguments_of(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=sorted(shapes.SIZES), default="pebble")
    parser.add_argument("--minutes", type=float, default=120.0, help="of training in all")
    parser.add_argument("--steps", type=int, default=0, help="instead of minutes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--tokens", type=int, default=8192, help="of a batch")
    parser.add_argument("--pieces", type=int, default=2048, help="of a new tokenizer")
    parser.add_argument("--every", type=int, default=10, help="steps between lines of the curve")
    parser.add_argument("--save", type=float, default=3.0, help="minutes between states")
    return parser.parse_args(given)


if __name__ == "__main__":
    train(arguments_of(sys.argv[1:]))
