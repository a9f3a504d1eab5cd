"""Reads a folder's config.json and safetensors with json and NumPy alone."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Tensors = dict[str, npt.NDArray[np.float64]]

# All names that a text model's tensors may begin with, the longest first.
PREFIXES = ("model.language_model.", "language_model.model.", "model.")


def read_tensors(path: Path) -> Tensors:
    """Every BF16, F16 and F32 tensor of one safetensors file, as float64."""
    data = path.read_bytes()
    (header_bytes,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + header_bytes])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + header_bytes + offset for offset in entry["data_offsets"])
        raw = data[begin:end]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(raw, {"F16": "<f2", "F32": "<f4"}[entry["dtype"]])
        tensors[name] = values.astype(np.float64).reshape(entry["shape"])
    return tensors


def read(folder: Path) -> tuple[dict[str, Any], Tensors]:
    """The text config, and the text tensors of all shards without their prefix."""
    config = json.loads((folder / "config.json").read_text())
    tensors: Tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= read_tensors(path)
    prefix = next(p for p in PREFIXES if p + "embed_tokens.weight" in tensors)
    text = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    return config.get("text_config", config), text
