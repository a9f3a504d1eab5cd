"""Reads the headers of a checkpoint's safetensors files, and its JSON files, as hostile input.

What a tensor means is not known here, and no weight is read: the result is a table of names, types,
shapes and byte ranges that the core checks a second time against the files. Nothing is written and
nothing is executed: pickle is never opened.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import CheckpointError

HEADER_BYTES = 8 * 2**20  # stricter than the format, which allows 100,000,000
INDEX_BYTES = 16 * 2**20
JSON_BYTES = 2**20
FINGERPRINT_BYTES = 128 * 2**20  # of one of TEXT_FILES
JSON_DEPTH = 16
TENSORS_PER_FILE = 65_536
TENSORS = 262_144
SHARDS = 1024
NAME_BYTES = 512
RANK = 8
_SIZE_END = 2**63  # elements and bytes stay below
# Counted in a header before it is parsed, so that reading it takes at most its size and 64 MiB:
# unchecked, one byte of JSON can cost 22 bytes of Python objects. One character beyond ASCII makes
# the whole text up to four times as large.
_HEADER_MARKS = {"[": 131_072, "{": 65_600, ":": 300_000, ",": 750_000, '"': 800_000}
_INDEX_MARKS = {"[": 1024, "{": 1024, ":": 300_000, ",": 300_000, '"': 1_200_000}
_NOT_ASCII_BYTES = 2 * 2**20

# Every type that the safetensors package reads, and the bits of one element. Whether we can compute
# with it is decided where the tensor is bound.
DTYPE_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("C64", "F64", "I64", "U64"), 64),
}

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
TEXT_FILES = ("tokenizer.json", "config.json")  # what a model cannot do without, beside weights
EXTRA_FILES = ("generation_config.json", "tokenizer_config.json", "chat_template.jinja")
_PICKLES = (".bin", ".pt", ".pth", ".pkl")

_ENTRY_KEYS = ("dtype", "shape", "data_offsets")

Entry = tuple[str, str, tuple[int, ...], int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards:
    """The files of a checkpoint and the tensors in them."""

    paths: tuple[str, ...]
    sizes: tuple[int, ...]  # bytes, one a path
    header_sha256: tuple[str, ...]  # of length and header, one a path
    # (name, dtype, shape, shard, begin, end), bytes counted from the start of the file
    entries: tuple[Entry, ...]
    is_here: bool = True  # False: the headers came from elsewhere, and paths are names alone


def lead_file(names: Collection[str], where: str) -> str:
    """The file that leads to the weights: a safetensors file or an index of several."""
    for name in (SINGLE, INDEX):
        if name in names:
            return name
    found = sorted(name for name in names if name.endswith(".safetensors") and "/" not in name)
    if len(found) == 1:
        return found[0]
    if found:
        raise CheckpointError(
            f"{where}: has {len(found)} safetensors files ({found[0]}, ...) and no {INDEX}, "
            "expected one file, or an index: is the download complete?",
            file=INDEX,
        )
    raise CheckpointError(f"{where}: has no safetensors file. {advice(names)}", file=SINGLE)


def advice(names: Iterable[str]) -> str:
    for name in sorted(names):
        if name.endswith(_PICKLES):
            return (
                f"{name} is a pickle, which can run code when it is opened and is never read: take "
                "the safetensors form of the model (on the hub, Google's own have it)"
            )
        if name.endswith(".gguf"):
            return (
                f"{name} is a GGUF file, which is not read: take the safetensors checkpoint that "
                "it was made from"
            )
        if name.endswith(".safetensors"):
            return f"Give the folder that holds {name}, with its config.json and tokenizer.json"
    return (
        "A checkpoint is a folder with config.json, tokenizer.json and model.safetensors, or "
        f"several such files and {INDEX}"
    )


# ------------------------------------------------------------------------------------------------
# Reading


def read_shards(folder: Path) -> Shards:
    """The tensors of a checkpoint, from the headers of its files.

    Raises:
        CheckpointError: no safetensors, or a file that is cut, damaged or made to harm; `file` and
            `tensor` say where.
    """
    lead = lead_file(_names_in(folder), str(folder))
    index = read_index(folder) if lead == INDEX else None
    return gather_shards(str(folder), lead, index, lambda name: _open_regular(folder / name))


def gather_shards(
    where: str,
    lead: str,
    index: dict[str, str] | None,
    open_file: Callable[[str], io.RawIOBase],
    *,
    is_here: bool = True,
) -> Shards:
    """The tensors of a checkpoint whose files `open_file` opens, wherever they are.

    Args:
        where: the folder or repository, for paths and messages.
        lead: the one safetensors file, or INDEX.
        index: of `read_index` or `parse_index`, None without one.
        open_file: a file by its name; of each no more than the header is read.
        is_here: the files can be opened again, under `where`.
    """
    names = [lead] if index is None else sorted(set(index.values()))
    paths, sizes, hashes = [], [], []
    entries: list[Entry] = []
    shard_of: dict[str, str] = {}
    for shard, name in enumerate(names):
        with open_file(name) as file:
            found, size, sha256 = _read_header(file, name, shard)
        paths.append(str(Path(where) / name))
        sizes.append(size)
        hashes.append(sha256)
        for entry in found:
            tensor = entry[0]
            if tensor in shard_of:
                raise _tensor_error(name, tensor, f"is in {shard_of[tensor]} as well")
            if index is not None and index.get(tensor) != name:
                raise _tensor_error(
                    name,
                    tensor,
                    f"is in this file, but {INDEX} "
                    + (f"has it in {index[tensor]}" if tensor in index else "does not name it"),
                )
            shard_of[tensor] = name
        entries += found
        if len(entries) > TENSORS:
            raise CheckpointError(
                f"{where}: has {len(entries):,} tensors and more, expected at most {TENSORS:,}",
                file=name,
            )
    for tensor, name in (index or {}).items():
        if tensor not in shard_of:
            raise _tensor_error(name, tensor, f"is not in this file, but {INDEX} says so")
    return Shards(
        paths=tuple(paths),
        sizes=tuple(sizes),
        header_sha256=tuple(hashes),
        entries=tuple(entries),
        is_here=is_here,
    )


def read_json(path: Path, *, limit_bytes: int = JSON_BYTES) -> dict[str, Any]:
    """A JSON object from a file. Refuses repeated keys, NaN, integers over 64 bit and deep nesting.

    Raises:
        CheckpointError: not there, too large, or not such an object.
    """
    return parse_json(read_small(path, limit_bytes), path.name)


def parse_json(data: bytes, name: str) -> dict[str, Any]:
    """The same from the bytes of a file of this name."""
    value = _parse(data, name)
    levels: list[Any] = [value]
    for _ in range(JSON_DEPTH):
        inner: list[Any] = []
        for item in levels:
            if isinstance(item, (dict, list)):
                inner += item.values() if isinstance(item, dict) else item
        levels = inner
    if any(isinstance(item, (dict, list)) for item in levels):
        raise file_error(name, f"nests deeper than {JSON_DEPTH} levels")
    if not isinstance(value, dict):
        raise file_error(name, f"is a JSON {type(value).__name__}, expected an object")
    return value


def fingerprint(folder: Path, shards: Shards) -> str:
    """SHA-256 over names, sizes and headers of the weights, and config.json and tokenizer.json.

    Weights are not read: this tells checkpoints apart, it does not protect them.
    """
    whole = hashlib.sha256()
    for path, size, sha256 in zip(shards.paths, shards.sizes, shards.header_sha256, strict=True):
        whole.update(f"{Path(path).name}\n{size}\n{sha256}\n".encode())
    for name in TEXT_FILES:
        if (folder / name).exists():
            whole.update("{}\n{}\n{}\n".format(name, *_size_and_sha256(folder / name)).encode())
    return whole.hexdigest()


def _size_and_sha256(path: Path) -> tuple[int, str]:
    """Of a file that is not kept: read by pieces, which stay in a core's cache."""
    whole, size, piece = hashlib.sha256(), 0, bytearray(2**18)
    with _open_regular(path) as file:
        while (count := file.readinto(piece)) and size <= FINGERPRINT_BYTES:
            whole.update(memoryview(piece)[:count])
            size += count
    if size > FINGERPRINT_BYTES:
        raise file_error(path.name, f"has over {FINGERPRINT_BYTES:,} bytes, expected fewer")
    return size, whole.hexdigest()


def read_index(folder: Path) -> dict[str, str]:
    """Tensor name to file name, all of them plain names in the folder."""
    return parse_index(read_small(folder / INDEX, INDEX_BYTES))


def parse_index(data: bytes) -> dict[str, str]:
    """The same from the bytes of the file."""
    _check_marks(data, _INDEX_MARKS, INDEX)
    index = _parse(data, INDEX)
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not names:
        raise CheckpointError(
            f"{INDEX}: weight_map is missing or empty, expected the file of every tensor",
            file=INDEX,
            key="weight_map",
        )
    for tensor, name in names.items():
        plain = isinstance(name, str) and not re.search(r"[/\\\0]", name)
        if not plain or not name.endswith(".safetensors") or name.startswith("."):
            raise CheckpointError(
                f"{INDEX}: weight_map has {_shown(name)} for {_shown(tensor)}, expected the plain "
                "name of a .safetensors file beside it",
                file=INDEX,
                tensor=tensor,
                key="weight_map",
            )
    count = len(set(names.values()))
    if count > SHARDS:
        raise CheckpointError(
            f"{INDEX}: names {count:,} files, expected at most {SHARDS:,}", file=INDEX
        )
    return names


def _read_header(file: io.RawIOBase, name: str, shard: int) -> tuple[list[Entry], int, str]:
    """The entries of one file, its size and the hash of its header.

    Cheap checks first: nothing is read before its size is known to be small, and nothing is parsed
    before its marks are counted.
    """
    size = _size_of(file)
    if size < 8:
        raise file_error(name, f"has {size} bytes, expected at least 8: the header's length")
    length_bytes = file.read(8) or b""
    length = int.from_bytes(length_bytes, "little")
    if not 2 <= length <= HEADER_BYTES:
        raise file_error(name, f"header is {length:,} bytes long, expected 2 to {HEADER_BYTES:,}")
    if length > size - 8:
        raise file_error(
            name,
            f"header is {length:,} bytes long, but the file has {size - 8:,} after its length. "
            "The file is truncated or still being downloaded",
        )
    data = file.read(length) or b""
    if len(data) != length:
        raise file_error(name, f"header is {length:,} bytes long, but {len(data):,} could be read")
    sha256 = hashlib.sha256(length_bytes + data).hexdigest()
    data = data.rstrip(b" ")
    if data[:1] != b"{" or data[-1:] != b"}":
        raise file_error(
            name,
            f"header begins with {data[:4]!r} and ends with {data[-4:]!r}, expected {{ and }}, "
            "and after that nothing but spaces",
        )
    _check_marks(data, _HEADER_MARKS, name)
    if not data.isascii() and length > _NOT_ASCII_BYTES:
        raise file_error(
            name,
            f"header is {length:,} bytes long and not all ASCII, expected at most "
            f"{_NOT_ASCII_BYTES:,} then",
        )
    header = _parse(data, name, "header ")
    count = len(header) - ("__metadata__" in header)
    if count > TENSORS_PER_FILE:
        raise file_error(name, f"has {count:,} tensors, expected at most {TENSORS_PER_FILE:,}")
    _check_metadata(header.pop("__metadata__", None), name)
    return _check_entries(header, name, shard, 8 + length, size), size, sha256


def _check_marks(data: bytes, limits: dict[str, int], name: str) -> None:
    for mark, limit in limits.items():
        count = data.count(mark.encode())
        if count > limit:
            raise file_error(
                name, f"has {count:,} characters {mark} in its JSON, expected at most {limit:,}"
            )


def _parse(data: bytes, name: str, part: str = "") -> Any:
    """JSON without what parsers disagree about; a header (`part`) has no fractions in it."""

    def wrong(what: str, key: str | None = None) -> CheckpointError:
        return CheckpointError(f"{name}: {part}{what}", file=name, key=key)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            counts = Counter(key for key, _ in pairs)
            twice, count = counts.most_common(1)[0]
            raise wrong(f"has {count} times {_shown(twice)} in one object, expected once", twice)
        return result

    def integer(text: str) -> int:
        # Compared as text first: Python would take minutes for millions of digits.
        value = int(text) if len(text) <= 20 else 2**64
        if not -(2**63) <= value < 2**64 or (part and text == "-0"):
            raise wrong(f"has the number {_cut(text)}, expected an integer of 64 bits")
        return value

    def number(text: str) -> float:
        if part or math.isinf(float(text)):
            raise wrong(f"has the number {_cut(text)}, expected {'an integer' if part else 'less'}")
        return float(text)

    def constant(text: str) -> Any:
        raise wrong(f"has {text}, expected a number of JSON")

    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=unique,
            parse_int=integer,
            parse_float=number,
            parse_constant=constant,
        )
    except RecursionError as error:
        raise wrong("nests too deep, expected a few levels") from error
    except UnicodeDecodeError as error:
        byte = f"0x{data[error.start]:02x} at {error.start:,} of {len(data):,}"
        raise wrong(f"has the byte {byte}, expected UTF-8") from error
    except json.JSONDecodeError as error:
        place = f"character {error.pos:,} of {len(error.doc):,}"
        raise wrong(f"is no JSON: {error.msg} at {place}, expected an object") from error


def _check_metadata(metadata: Any, name: str) -> None:
    """Text by name, or null as the safetensors package has it; we use none of it."""
    fault = None
    if not isinstance(metadata, dict | None):
        fault = f"is {_shown(metadata)}, expected an object"
    for key, value in (metadata or {}).items() if fault is None else ():
        if not isinstance(value, str):
            fault = f"has {_shown(value)} for {_shown(key)}, expected text"
    if fault is not None:
        raise CheckpointError(f"{name}: __metadata__ {fault}", file=name, key="__metadata__")


def _check_entries(
    header: dict[str, Any], name: str, shard: int, data_begin: int, size: int
) -> list[Entry]:
    """Each entry by itself, then that they cover the data section once and wholly."""
    data_bytes = size - data_begin
    spans: list[tuple[int, int, str]] = []
    entries: list[Entry] = []
    for tensor, info in header.items():
        dtype, shape, begin, end = _check_entry(tensor, info, name, data_bytes)
        spans.append((begin, end, tensor))
        entries.append((tensor, dtype, shape, shard, data_begin + begin, data_begin + end))
    spans.sort()
    covered, before = 0, "the header"
    for begin, end, tensor in spans:
        if begin != covered:
            fault = "they overlap" if begin < covered else "there is a hole between them"
            raise _tensor_error(
                name, tensor, f"begins at byte {begin:,}, but {before} ends at {covered:,}: {fault}"
            )
        covered, before = end, f"tensor {_printable(tensor)}"
    if covered != data_bytes:
        raise file_error(
            name,
            f"the tensors end at byte {covered:,}, but the data section has {data_bytes:,}: "
            "what are the bytes after the last tensor?",
        )
    return entries


def _check_entry(
    tensor: str, info: Any, name: str, data_bytes: int
) -> tuple[str, tuple[int, ...], int, int]:
    """(dtype, shape, begin, end) of one entry, checked without looking at the others."""

    def wrong(what: str, key: str | None = None) -> CheckpointError:
        return _tensor_error(name, tensor, what, key)

    try:
        name_bytes = len(tensor.encode())
    except UnicodeEncodeError as error:
        raise wrong("has a lone surrogate in its name, expected UTF-8") from error
    if name_bytes > NAME_BYTES:
        raise wrong(f"has a name of {name_bytes} bytes, expected at most {NAME_BYTES}")
    if type(info) is not dict:
        raise wrong(f"is {_shown(info)}, expected an object")
    for key in _ENTRY_KEYS:
        if key not in info:
            raise wrong(f"has no {key}, expected {', '.join(_ENTRY_KEYS)}", key)
    if len(info) > len(_ENTRY_KEYS):
        key = next(key for key in info if key not in _ENTRY_KEYS)
        raise wrong(f"has {_shown(key)}, expected {', '.join(_ENTRY_KEYS)} only", key)
    dtype, shape, offsets = info["dtype"], info["shape"], info["data_offsets"]

    if type(dtype) is not str or dtype not in DTYPE_BITS:
        raise wrong(f"dtype is {_shown(dtype)}, expected one of {' '.join(DTYPE_BITS)}", "dtype")
    if type(shape) is not list or len(shape) > RANK:
        raise wrong(f"shape is {_shown(shape)}, expected a list of at most {RANK}", "shape")
    elements = 1
    for count in shape:
        if type(count) is not int or not 0 <= count < _SIZE_END:
            raise wrong(f"shape is {_shown(shape)}, expected integers of 0 to 2^63 - 1", "shape")
        elements *= count
        if elements >= _SIZE_END:
            raise wrong(f"shape is {_shown(shape)}, expected at most 2^63 - 1 elements", "shape")
    bits = elements * DTYPE_BITS[dtype]
    if bits % 8:
        raise wrong(f"{elements:,} of {dtype} are {bits:,} bits, expected whole bytes", "shape")

    if type(offsets) is not list or len(offsets) != 2:
        raise wrong(f"data_offsets is {_shown(offsets)}, expected [begin, end]", "data_offsets")
    begin, end = offsets
    if not (type(begin) is type(end) is int and 0 <= begin <= end < _SIZE_END):
        raise wrong(
            f"data_offsets is {_shown(offsets)}, expected integers with 0 <= begin <= end < 2^63",
            "data_offsets",
        )
    if end > data_bytes:
        raise wrong(
            f"bytes {begin:,} to {end:,} end past the file (data section is {data_bytes:,} "
            "bytes). The file is truncated or still being downloaded",
            "data_offsets",
        )
    if end - begin != bits // 8:
        raise wrong(
            f"has {end - begin:,} bytes, but {_shown(shape)} of {dtype} takes {bits // 8:,}",
            "data_offsets",
        )
    return dtype, tuple(shape), begin, end


# ------------------------------------------------------------------------------------------------
# Files


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise CheckpointError(
            f"{folder}: cannot be listed ({error.strerror}), expected a folder", file=str(folder)
        ) from error


def _open_regular(path: Path) -> io.RawIOBase:
    """A file opened for reading without a buffer; examined first, since a FIFO would block.

    Links are followed, as the hub cache is made of them, but inside it they must stay in the
    folder of their own repository.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        what = "is a link to nothing" if path.is_symlink() else "is missing"
        raise file_error(
            path.name, f"{what} in {path.parent}: is the download complete?"
        ) from error
    except OSError as error:
        raise file_error(path.name, f"cannot be examined: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file (a device, socket or FIFO)"
        raise file_error(path.name, f"is {kind}, expected a file")
    repository = path.parent.parent.parent
    if path.parent.parent.name == "snapshots" and repository.name.startswith("models--"):
        target = path.resolve()
        if not target.is_relative_to(repository.resolve()):
            raise file_error(
                path.name, f"leads to {target}, outside of its repository {repository}"
            )
    try:
        return open(path, "rb", buffering=0, opener=_open_without_blocking)
    except OSError as error:
        raise file_error(path.name, f"cannot be opened: {error.strerror}") from error


def _open_without_blocking(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_small(path: Path, limit_bytes: int) -> bytes:
    with _open_regular(path) as file:
        return read_whole(file, path.name, limit_bytes)


def read_whole(file: io.RawIOBase, name: str, limit_bytes: int) -> bytes:
    """All bytes of an open file that must be small."""
    size = _size_of(file)
    if size > limit_bytes:
        raise file_error(name, f"has {size:,} bytes, expected at most {limit_bytes:,}")
    data = file.read(limit_bytes + 1) or b""
    if len(data) != size:
        raise file_error(name, f"has {size:,} bytes, but {len(data):,} were read")
    return data


def _size_of(file: io.RawIOBase) -> int:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    return size


def file_error(name: str, what: str) -> CheckpointError:
    return CheckpointError(f"{name}: {what}", file=name)


def _tensor_error(name: str, tensor: str, what: str, key: str | None = None) -> CheckpointError:
    text = f"{name}: tensor {_printable(tensor)}: {what}"
    return CheckpointError(text, file=name, tensor=tensor, key=key)


def _printable(name: str) -> str:
    """A name from a file as it may be shown: no control characters, not without end."""
    return name if name.isprintable() and len(name) <= 200 else _shown(name)


def _shown(value: Any) -> str:
    try:
        return _cut(json.dumps(value))
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
