"""Writes safetensors files piece by piece, so that a file may be larger than memory.

Knows no model. A tensor's bytes come from a function that yields them in pieces.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

ITEM_BYTES = {"BF16": 2, "F32": 4, "I32": 4, "I64": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    name: str
    dtype: str  # as safetensors spells it: one of ITEM_BYTES
    shape: tuple[int, ...]
    pieces: Callable[[], Iterable[bytes | memoryview]]  # called once, when its turn comes

    @property
    def count(self) -> int:
        return prod(self.shape)

    @property
    def total_bytes(self) -> int:
        return self.count * ITEM_BYTES[self.dtype]


def to_bf16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The bits of the nearest bf16, ties to even. Finite values only."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_array(name: str, values: npt.NDArray[np.float32], dtype: str) -> Tensor:
    data = to_bf16(values) if dtype == "BF16" else np.ascontiguousarray(values, np.float32)
    return Tensor(name=name, dtype=dtype, shape=values.shape, pieces=lambda: [data.tobytes()])


def write_checkpoint(
    folder: Path, tensors: Sequence[Tensor], *, origin: str, shard_bytes: int | None = None
) -> list[Path]:
    """Writes `model.safetensors`, or shards of at most `shard_bytes` (or one tensor) and an index.

    `origin` says in the file's metadata what the weights are: "random" or "trained".
    """
    shards = list(_split(tensors, shard_bytes))
    if len(shards) == 1:
        path = folder / "model.safetensors"
        write_file(path, shards[0], origin)
        return [path]
    paths = []
    places = {}
    for number, shard in enumerate(shards, start=1):
        path = folder / f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_file(path, shard, origin)
        places.update({tensor.name: path.name for tensor in shard})
        paths.append(path)
    index = {
        "metadata": {"total_size": sum(tensor.total_bytes for tensor in tensors)},
        "weight_map": dict(sorted(places.items())),
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    return paths


def write_file(path: Path, tensors: Sequence[Tensor], origin: str) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt", "origin": origin}}
    offset = 0
    for tensor in tensors:
        end = offset + tensor.total_bytes
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    with path.open("wb", buffering=0) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            written = 0
            for piece in tensor.pieces():
                # An unbuffered write may stop early, and stops at 2 GiB.
                rest = memoryview(piece).cast("B")
                while rest:
                    done = file.write(rest)
                    written += done
                    rest = rest[done:]
            if written != tensor.total_bytes:
                raise ValueError(
                    f"{path}: tensor '{tensor.name}' was given {written} bytes, "
                    f"expected {tensor.total_bytes}"
                )


def _split(tensors: Sequence[Tensor], shard_bytes: int | None) -> Iterator[list[Tensor]]:
    shard: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if shard and shard_bytes is not None and size + tensor.total_bytes > shard_bytes:
            yield shard
            shard, size = [], 0
        shard.append(tensor)
        size += tensor.total_bytes
    yield shard
