"""SHA-256 of a checkpoint's files, each read once: what a record says it was made with."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import EvaluationError
from .record import write_text

_NAME = "evaluation-hashes.json"
_PIECE_BYTES = 1 << 20


def file_hashes(paths: Sequence[str]) -> dict[str, str]:
    """File name to SHA-256. A file of the hub's cache is named by its own; any other is read
    again only where its path, size, time or inode has changed.

    Raises:
        EvaluationError: a file cannot be read.
    """
    from ..packed_cache import root  # which needs the extension

    folder = root()
    cache = folder / _NAME if folder is not None else None
    known: dict[str, str] = {}
    if cache is not None:
        with suppress(OSError, ValueError):
            read = json.loads(cache.read_bytes())
            known = read if isinstance(read, dict) else {}
    found, fresh = {}, {}
    for name in paths:
        path = Path(name)
        try:
            blob = path.resolve(strict=True)
            about = blob.stat()
        except OSError as error:
            raise EvaluationError(f"{path}: {error}, expected the file that was loaded") from error
        key = f"{blob}\n{about.st_size}\n{about.st_mtime_ns}\n{about.st_ino}"
        if re.fullmatch("[0-9a-f]{64}", blob.name) and blob.parent.name == "blobs":
            found[path.name] = blob.name
            continue
        if key not in known:
            fresh[key] = _sha256(blob)
        found[path.name] = fresh.get(key) or known[key]
    if fresh and cache is not None and cache.parent.is_dir():
        with suppress(OSError):  # it only saves time
            write_text(cache, json.dumps({**known, **fresh}, indent=0))
    return found


def _sha256(path: Path) -> str:
    whole, piece = hashlib.sha256(), bytearray(_PIECE_BYTES)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(piece):
            whole.update(memoryview(piece)[:count])
    return whole.hexdigest()
