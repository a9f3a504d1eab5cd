"""Packed weights on disk: the second load of a model reads one file instead of rounding again.

A file stands for all that its bytes depend on: names, sizes, times and headers of the checkpoint's
files, the formats, and the version of the packing. It is written under a temporary name and renamed
when it is whole, so a reader finds a whole file or none, and two writers end with the same bytes.
Whatever is wrong with the cache costs a warning and never a load.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import warnings
from collections.abc import Mapping
from pathlib import Path

from . import _core
from .checkpoint import Shards
from .errors import CabochonWarning, CheckpointError, DeviceError

FREE_BYTES = 2**30  # left on the disk after writing, at least


class PackedCache:
    """The place of one model's packed weights in one set of formats."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self.folder, self.key = folder, key
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
        temporary = self.folder / f"{self.path.name}.{os.uname().nodename}.{os.getpid()}.tmp"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._remove_stale()
            free = shutil.disk_usage(self.folder).free
            if free < size + FREE_BYTES:
                _warn(
                    f"packed weights are not kept: {self.folder} has {free:,} bytes free, "
                    f"{size:,} and {FREE_BYTES:,} to spare are needed; set CABOCHON_CACHE to "
                    "another folder, or to nothing for no cache"
                )
                return
            engine.write_packed(str(temporary), self.key)
            temporary.replace(self.path)
        except (OSError, DeviceError) as error:
            _warn(f"packed weights are not kept ({size:,} bytes in {self.folder}): {error}")
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _remove_stale(self) -> None:
        """Temporary files of processes of this host that are gone."""
        for path in self.folder.glob(f"*.{os.uname().nodename}.*.tmp"):
            process = path.name.split(".")[-2]
            if process.isdigit() and not Path(f"/proc/{process}").exists():
                with contextlib.suppress(OSError):
                    path.unlink()


def place(shards: Shards, fingerprint: str, formats: Mapping[str, str]) -> PackedCache | None:
    """Where packed weights of this checkpoint are kept; None where CABOCHON_CACHE is empty."""
    root = os.environ.get("CABOCHON_CACHE")
    if root == "":
        return None
    base = Path(root) if root else _default_root()
    sources = [
        (Path(path).name, size, os.stat(path).st_mtime_ns, header)
        for path, size, header in zip(shards.paths, shards.sizes, shards.header_sha256, strict=True)
    ]
    content = {
        "sources": sources,
        "formats": dict(sorted(formats.items())),
        "packing": _core.PACKING_VERSION,
    }
    key = hashlib.sha256(json.dumps(content).encode()).digest()
    return PackedCache(base / fingerprint[:32], key)


def _default_root() -> Path:
    """`cabochon` beside the hub cache."""
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return Path(home).parent / "cabochon"


def _warn(message: str) -> None:
    warnings.warn(message, CabochonWarning, stacklevel=4)
