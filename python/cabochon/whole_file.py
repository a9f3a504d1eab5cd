"""Files that are there whole or not at all, wherever writing them ends.

A file is written under a temporary name in its folder, synced and renamed. That name says who
writes: the next writer in the folder removes what processes of this host left that are gone.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path


def write_whole(target: Path, write: Callable[[Path], object]) -> None:
    """Makes `target`, or puts a new file in its place.

    Args:
        target: of a folder that is there.
        write: makes a file under the name that it is given, which nobody else has.

    Raises:
        OSError: a system call failed, and so does whatever `write` raises. What was there is
            as it was; where it is the last sync that failed, the new file is there instead.
    """
    _remove_stale(target.parent)
    process = os.getpid()
    name = f"{_prefix()}{process}.{_started(process)}.{threading.get_ident()}.tmp"
    temporary = target.parent / name
    try:
        write(temporary)
        _sync(temporary)
        os.replace(temporary, target)
        _sync(target.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _prefix() -> str:
    return f"cabochon.{os.uname().nodename}."


def _remove_stale(folder: Path) -> None:
    """Files of this user whose writer, a process of this host, is gone."""
    temporary = re.compile(re.escape(_prefix()) + r"([0-9]+)\.([0-9]+)\.[0-9]+\.tmp")
    for path in folder.iterdir():
        writer = temporary.fullmatch(path.name)
        if writer is None or _started(int(writer[1])) == writer[2]:
            continue
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.geteuid():  # processes of others may be hidden
                path.unlink()


def _started(process: int) -> str | None:
    """When a process began, in ticks since the machine did; None: it is gone. Tells it from
    a later one of the same number."""
    try:
        status = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return None
    # Its own name comes second, in brackets, and may hold anything; the time is the 22nd field.
    return status.rpartition(b")")[2].split()[19].decode()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
