"""Checkpoints made to harm, each with the text that reading it must give.

`CASES` are written into an empty folder and refused by `read_shards`. `MEANING` are edits of a
good checkpoint, refused where tensors are bound to a model. As a script it writes all of `CASES`:

    python tests/data/hostile/make.py FOLDER
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Case:
    """One class of malformed checkpoint."""

    group: str
    name: str
    write: Callable[[Path], object]  # into an empty folder
    text: str  # must be in the message
    file: str = FILE  # the message and the error's `file` name it
    tensor: str | None = None
    key: str | None = None


def entry(dtype: Any, shape: Any, begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


GOOD = {"a": entry("F32", [2, 2], 0, 16), "b": entry("BF16", [3], 16, 22)}
DATA = bytes(range(22))


def file_bytes(header: Any, data: bytes = DATA, length: int | None = None) -> bytes:
    """A safetensors file; `length` is written in place of the header's own."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def with_entry(**changes: Any) -> dict[str, Any]:
    """The good header with keys of tensor "a" changed; `...` removes one."""
    changed = {k: v for k, v in (GOOD["a"] | changes).items() if v is not ...}
    return GOOD | {"a": changed}


def _cases() -> list[Case]:
    cases: list[Case] = []

    def bad(group: str, name: str, content: bytes, text: str, **place: Any) -> None:
        cases.append(
            Case(group, name, lambda folder: (folder / FILE).write_bytes(content), text, **place)
        )

    good = file_bytes(GOOD)
    raw = json.dumps(GOOD).encode()
    size = len(good)

    bad("file", "empty", b"", "has 0 bytes, expected at least 8")
    bad("file", "7 bytes", good[:7], "has 7 bytes, expected at least 8")
    bad("file", "header length 0", file_bytes(b""), "header is 0 bytes long, expected 2 to")
    bad(
        "file",
        "header length 2^60",
        file_bytes(GOOD, length=2**60),
        "header is 1,152,921,504,606,846,976 bytes long, expected 2 to 8,388,608",
    )
    bad(
        "file",
        "header length size - 7",
        file_bytes(GOOD, length=size - 7),
        f"header is {size - 7} bytes long, but the file has {size - 8} after",
    )
    bad(
        "file",
        "header over the limit",
        file_bytes(b"{}" + b" " * (8 * 2**20 - 1)),
        "header is 8,388,609 bytes long, expected 2 to 8,388,608",
    )
    bad(
        "file",
        "cut in the header",
        good[:40],
        f"header is {len(raw)} bytes long, but the file has 32 after its length. The file is "
        "truncated or still being downloaded",
    )
    bad(
        "file",
        "cut in the data",
        good[:-3],
        "tensor b: bytes 16 to 22 end past the file (data section is 19 bytes). The file is "
        "truncated or still being downloaded",
        tensor="b",
        key="data_offsets",
    )
    bad(
        "file",
        "bytes after the data",
        good + b"more",
        "the tensors end at byte 22, but the data section has 26",
    )

    def nowhere(folder: Path) -> None:
        (folder / FILE).symlink_to(folder / "nowhere")

    for name, write, text in (
        ("folder", lambda folder: (folder / FILE).mkdir(), "is a folder, expected a file"),
        (
            "FIFO",
            lambda folder: os.mkfifo(folder / FILE),
            "is no regular file (a device, socket or FIFO), expected a file",
        ),
        ("dangling link", nowhere, "is a link to nothing"),
    ):
        cases.append(Case("not a file", name, write, text))

    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    for name, header, text, place in (
        ("not an object", b"[1, 2]", "begins with b'[1, ' and ends with b', 2]'", {}),
        ("BOM", b"\xef\xbb\xbf" + raw, r"begins with b'\xef\xbb\xbf{'", {}),
        (
            "invalid UTF-8",
            raw.replace(b'"a"', b'"\xff"'),
            f"has the byte 0xff at 2 of {len(raw)}, expected UTF-8",
            {},
        ),
        ("NUL", raw.replace(b'"a"', b'"\0"'), "is no JSON: Invalid control character", {}),
        ("trailing garbage", raw + b"\n{}", "is no JSON: Extra data", {}),
        (
            "duplicate tensor",
            raw[:-1] + b", " + raw[1:],
            'has 2 times "a" in one object, expected once',
            {"key": "a"},
        ),
        (
            "duplicate key",
            raw.replace(b'"shape": [3]', b'"shape": [3], "shape": [3]'),
            'has 2 times "shape" in one object, expected once',
            {"key": "shape"},
        ),
        ("NaN", raw.replace(b"[3]", b"[NaN]"), "has NaN, expected a number of JSON", {}),
        (
            "1.0 for 1",
            raw.replace(b"[3]", b"[3.0]"),
            "has the number 3.0, expected an integer",
            {},
        ),
        (
            "5,000 digits",
            raw.replace(b"[3]", b"[" + b"9" * 5000 + b"]"),
            f"has the number {'9' * 77}..., expected an integer of 64 bits",
            {},
        ),
        ("100,000 deep", deep, "nests too deep", {}),
        (
            "bracket bomb",
            b'{"a":[' + b"[]," * 200_000 + b"[]]}",
            "has 200,002 characters [ in its JSON, expected at most 131,072",
            {},
        ),
        (
            "lone surrogate in a name",
            raw.replace(b'"a"', rb'"\ud800"'),
            r'tensor "\ud800": has a lone surrogate in its name, expected UTF-8',
            {"tensor": "\ud800"},
        ),
    ):
        bad("JSON", name, file_bytes(header), text, **place)

    only = "expected dtype, shape, data_offsets"
    for name, changes, text, key in (
        ("no dtype", {"dtype": ...}, f"has no dtype, {only}", "dtype"),
        ("no shape", {"shape": ...}, f"has no shape, {only}", "shape"),
        ("no offsets", {"data_offsets": ...}, f"has no data_offsets, {only}", "data_offsets"),
        ("unknown key", {"strides": [1]}, f'has "strides", {only} only', "strides"),
        ("unknown dtype", {"dtype": "F31"}, 'dtype is "F31", expected one of F4 F6_', "dtype"),
        ("dtype a number", {"dtype": 32}, "dtype is 32, expected one of F4 F6_", "dtype"),
        ("shape a string", {"shape": "22"}, 'shape is "22", expected a list', "shape"),
        ("negative dimension", {"shape": [-2, -2]}, "shape is [-2, -2], expected int", "shape"),
        ("boolean dimension", {"shape": [True, 4]}, "shape is [true, 4], expected int", "shape"),
        (
            "dimension 2^63",
            {"shape": [2**63]},
            "shape is [9223372036854775808], expected integers of 0 to 2^63 - 1",
            "shape",
        ),
        (
            "product over 2^64",
            {"shape": [2**32, 2**32, 2]},
            "shape is [4294967296, 4294967296, 2], expected at most 2^63 - 1 elements",
            "shape",
        ),
        (
            "rank 9",
            {"shape": [1] * 9},
            "shape is [1, 1, 1, 1, 1, 1, 1, 1, 1], expected a list of at most 8",
            "shape",
        ),
        (
            "one offset",
            {"data_offsets": [0]},
            "data_offsets is [0], expected [begin, end]",
            "data_offsets",
        ),
        (
            "begin > end",
            {"data_offsets": [16, 0]},
            "data_offsets is [16, 0], expected integers with 0 <= begin <= end < 2^63",
            "data_offsets",
        ),
    ):
        content = file_bytes(with_entry(**changes))
        bad("entry", name, content, f"tensor a: {text}", tensor="a", key=key)

    four = entry("U8", [4], 0, 4)
    for name, header, data, text, tensor, key in (
        (
            "end past the data",
            {"a": entry("U8", [40], 0, 40)},
            22,
            "tensor a: bytes 0 to 40 end past the file (data section is 22 bytes)",
            "a",
            "data_offsets",
        ),
        (
            "size differs from shape x dtype",
            {"a": entry("BF16", [3], 0, 8)},
            8,
            "tensor a: has 8 bytes, but [3] of BF16 takes 6",
            "a",
            "data_offsets",
        ),
        (
            "overlap",
            {"a": four, "b": entry("U8", [4], 2, 6)},
            6,
            "tensor b: begins at byte 2, but tensor a ends at 4: they overlap",
            "b",
            None,
        ),
        (
            "hole",
            {"a": four, "b": entry("U8", [4], 5, 9)},
            9,
            "tensor b: begins at byte 5, but tensor a ends at 4: there is a hole between them",
            "b",
            None,
        ),
        (
            "not from 0",
            {"a": entry("U8", [4], 1, 5)},
            5,
            "tensor a: begins at byte 1, but the header ends at 0: there is a hole between them",
            "a",
            None,
        ),
        (
            "last bytes uncovered",
            {"a": four},
            5,
            "the tensors end at byte 4, but the data section has 5",
            None,
            None,
        ),
    ):
        bad("layout", name, file_bytes(header, bytes(data)), text, tensor=tensor, key=key)

    for name, metadata, text in (
        ("not an object", ["pt"], '__metadata__ is ["pt"], expected an object'),
        ("value not a string", {"n": 5}, '__metadata__ has 5 for "n", expected text'),
    ):
        content = file_bytes(GOOD | {"__metadata__": metadata})
        bad("metadata", name, content, text, key="__metadata__")
    long_name = "x" * 600
    bad(
        "metadata",
        "600-byte tensor name",
        file_bytes({long_name: four}, bytes(4)),
        "has a name of 600 bytes, expected at most 512",
        tensor=long_name,
    )

    def index(weight_map: dict[str, str], *shards: str) -> Callable[[Path], object]:
        def write(folder: Path) -> None:
            (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
            for shard in shards:
                tensors = {name for name, file in weight_map.items() if file == shard} or {"a"}
                header = {
                    name: entry("U8", [4], 4 * i, 4 * i + 4)
                    for i, name in enumerate(sorted(tensors))
                }
                (folder / shard).write_bytes(file_bytes(header, bytes(4 * len(tensors))))

        return write

    one, two = "model-1.safetensors", "model-2.safetensors"
    plain = "expected the plain name of a .safetensors file beside it"
    for name, path in (
        ("../x", "../model.safetensors"),
        ("absolute path", "/etc/model.safetensors"),
        ("NUL in a name", "model\0.safetensors"),
    ):
        cases.append(
            Case(
                "index",
                name,
                index({"a": path}),
                f'weight_map has {json.dumps(path)} for "a", {plain}',
                file=INDEX,
                tensor="a",
                key="weight_map",
            )
        )
    cases.append(
        Case("index", "missing shard", index({"a": one, "b": two}, one), "is missing in", file=two)
    )

    def in_both(folder: Path) -> None:
        index({"a": one, "b": two}, one, two)(folder)
        header = {"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 4, 8)}
        (folder / two).write_bytes(file_bytes(header, bytes(8)))

    cases.append(
        Case(
            "index",
            "tensor in two shards",
            in_both,
            f"tensor a: is in {one} as well",
            file=two,
            tensor="a",
        )
    )

    def swapped(folder: Path) -> None:
        index({"a": one, "b": two}, one, two)(folder)
        (folder / one).rename(folder / "x")
        (folder / two).rename(folder / one)
        (folder / "x").rename(folder / two)

    cases.append(
        Case(
            "index",
            "tensor not where the index says",
            swapped,
            f"tensor b: is in this file, but {INDEX} has it in {two}",
            file=one,
            tensor="b",
        )
    )
    return cases


CASES = _cases()


# -- Good JSON and layout, but not the tensors of the model ---------------------------------------


def rewrite(
    folder: Path, change: Callable[[dict[str, tuple[str, list[int], bytes]]], None]
) -> None:
    """Applies `change` to {name: (dtype, shape, bytes)} of a folder's single safetensors file."""
    path = folder / FILE
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    metadata = header.pop("__metadata__", None)
    tensors = {
        name: (
            info["dtype"],
            info["shape"],
            content[begin + info["data_offsets"][0] : begin + info["data_offsets"][1]],
        )
        for name, info in header.items()
    }
    change(tensors)
    header, offset = {} if metadata is None else {"__metadata__": metadata}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = entry(dtype, shape, offset, offset + len(data))
        offset += len(data)
    path.write_bytes(file_bytes(header, b"".join(data for _, _, data in tensors.values())))


def missing_tensor(folder: Path, tensor: str) -> None:
    rewrite(folder, lambda tensors: tensors.pop(tensor) and None)


def unknown_tensor(folder: Path, tensor: str) -> None:
    rewrite(folder, lambda tensors: tensors.update({tensor: ("BF16", [4], bytes(8))}))


def wrong_shape(folder: Path, tensor: str) -> None:
    """As many elements, but in one dimension more: [1, ...]."""

    def change(tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
        dtype, shape, data = tensors[tensor]
        tensors[tensor] = dtype, [1, *shape], data

    rewrite(folder, change)


def wrong_dtype(folder: Path, tensor: str) -> None:
    """The same bytes as integers of the same width."""

    def change(tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
        dtype, shape, data = tensors[tensor]
        tensors[tensor] = {"BF16": "I16", "F16": "I16", "F32": "I32"}[dtype], shape, data

    rewrite(folder, change)


def bad_scale(folder: Path, tensor: str, value: float) -> None:
    """NaN, a negative or an infinite value in a float32 scale of a quantised tensor."""

    def change(tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
        dtype, shape, data = tensors[tensor]
        assert dtype == "F32", dtype
        tensors[tensor] = dtype, shape, struct.pack("<f", value) + data[4:]

    rewrite(folder, change)


MEANING = (missing_tensor, unknown_tensor, wrong_shape, wrong_dtype, bad_scale)


if __name__ == "__main__":
    for case in CASES:
        folder = Path(sys.argv[1], f"{case.group}, {case.name}".replace("/", "_"))
        folder.mkdir(parents=True)
        case.write(folder)
