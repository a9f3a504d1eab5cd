"""Packed weights on disk: the second load of a model reads one file instead of rounding again.

A file stands for all that its bytes depend on: names, sizes, times and headers of the checkpoint's
files, the formats, the matrices on a lattice, and the version of the packing. A reader finds a
whole file or none (whole_file.py), and two writers end with the same bytes. Whatever is wrong with
packed weights costs a warning and never a load.

A rounded per-layer table that stays on disk has a file of its own, under the same rules but the
last: its rows are read from there for as long as the model lives, so a load that can neither find
nor write it has failed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import _core
from .checkpoint import Shards, read_shards
from .errors import CabochonWarning, CheckpointError, DeviceError
from .whole_file import write_whole

FREE_BYTES = 2**30  # left on the disk after writing, at least
ABOUT_BYTES = 4000  # of the text that says what a file was made from; longer: none
TABLE = "per_layer_rows"  # in place of a class: the file holds rows of a per-layer table alone


class PackedCache:
    """The place of one model's packed weights in one set of formats, or of its rounded table."""

    def __init__(self, folder: Path, key: bytes, about: str) -> None:
        self.folder, self.key, self.about = folder, key, about
        self.path = folder / f"{key.hex()[:32]}.packed"

    def find(self) -> str | None:
        """The file to read, if there is one that this user wrote and nobody else may write to."""
        try:
            status = self.path.lstat()
            place = self.folder.stat()
        except OSError:
            return None
        is_ours = status.st_uid == place.st_uid == os.geteuid()
        others = stat.S_IWGRP | stat.S_IWOTH
        if not stat.S_ISREG(status.st_mode) or not is_ours:
            return None
        return None if (status.st_mode | place.st_mode) & others else str(self.path)

    def discard(self, error: CheckpointError) -> None:
        """A file that is not what was written: it is made again."""
        _warn(f"packed weights are made again: {error}")
        with contextlib.suppress(OSError):
            self.path.unlink()

    def store(self, engine: _core.Engine, size: int) -> None:
        """Keeps what `engine` rounded, where the disk has room for `size` bytes more."""
        try:
            self.write(size, lambda path: engine.write_packed(path, self.key, self.about))
        except (OSError, DeviceError) as error:
            _warn(
                f"packed weights are not kept ({size:,} bytes): {error}; set CABOCHON_CACHE to "
                "another folder, or to nothing for no cache"
            )

    def write(self, size: int, write: Callable[[str], None]) -> None:
        """A file of `size` bytes, made by `write`.

        Raises:
            OSError, DeviceError: it cannot be written; nothing is left of it.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

        def write_where_there_is_room(path: Path) -> None:
            free = shutil.disk_usage(self.folder).free
            if free < size + FREE_BYTES:
                raise DeviceError(
                    f"{self.folder} has {free:,} bytes free, {size:,} and {FREE_BYTES:,} to spare "
                    "are needed"
                )
            write(str(path))

        write_whole(self.path, write_where_there_is_room)


def place(
    shards: Shards, fingerprint: str, formats: Mapping[str, str], lattices: Sequence[str]
) -> PackedCache | None:
    """Where packed weights of this checkpoint are kept; None where CABOCHON_CACHE is empty."""
    base = root()
    if base is None:
        return None
    content = {
        "sources": _sources(shards),
        "formats": dict(sorted(formats.items())),
        "lattices": sorted(lattices),
        "packing": _core.PACKING_VERSION,
    }
    key = hashlib.sha256(json.dumps(content).encode()).digest()
    about = {
        "model": str(Path(shards.paths[0]).parent.absolute()),
        "formats": content["formats"],
        "sources": _digest(shards),
    }
    text = json.dumps(about)
    return PackedCache(base / fingerprint[:32], key, text if len(text) <= ABOUT_BYTES else "")


def root() -> Path | None:
    """The folder of all packed weights: CABOCHON_CACHE, or `cabochon` beside the hub cache; None
    where CABOCHON_CACHE is empty."""
    given = os.environ.get("CABOCHON_CACHE")
    if given is not None:
        return Path(given) if given else None
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return Path(home).parent / "cabochon"


def _sources(shards: Shards) -> list[tuple[str, int, int, str]]:
    """What tells the files of a checkpoint from those of another, and from themselves later."""
    return [
        (Path(path).name, size, os.stat(path).st_mtime_ns, header)
        for path, size, header in zip(shards.paths, shards.sizes, shards.header_sha256, strict=True)
    ]


def _digest(shards: Shards) -> str:
    return hashlib.sha256(json.dumps(_sources(shards)).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file of packed weights on the disk."""

    path: Path
    bytes: int
    model: str  # the folder that it was made from; "" where the file does not say
    formats: str  # "attention=int4, head=int8, ..."
    state: str  # "valid", or why no load will read it


def entries() -> list[Entry]:
    """The packed weights on the disk, by path."""
    base = root()
    return [] if base is None else [_entry(path) for path in sorted(base.glob("*/*.packed"))]


def _entry(path: Path) -> Entry:
    model = formats = ""
    try:
        about = json.loads(_core.PackedFile(str(path)).about)
        formats = ", ".join(f"{name}={kind}" for name, kind in about["formats"].items())
        model = os.fspath(about["model"])
        is_same = _digest(read_shards(Path(model))) == about["sources"]
        state = "valid" if is_same else "stale: the model's files changed"
    except (CheckpointError, OSError) as error:
        state = f"stale: {error}"
    except (ValueError, KeyError, TypeError, AttributeError):
        state = "unknown: it does not say what it was made from"
    return Entry(path=path, bytes=path.stat().st_size, model=model, formats=formats, state=state)


def check(entry: Entry) -> str | None:
    """What is wrong with the bytes of a file; None where each is what was written."""
    try:
        _core.PackedFile(str(entry.path)).verify()
    except CheckpointError as error:
        return str(error)
    return None


def remove(entry: Entry) -> None:
    """Deletes a file, and its folder when that is then empty. A model that was loaded from it keeps
    its weights."""
    entry.path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        entry.path.parent.rmdir()


def _warn(message: str) -> None:
    warnings.warn(message, CabochonWarning, stacklevel=4)
