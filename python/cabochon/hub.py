"""Finds a checkpoint's folder: given, in the local hub cache, or downloaded into it.

The one importer of huggingface_hub. Nothing is written but a download into the hub's own cache.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from .checkpoint import (
    EXTRA_FILES,
    INDEX,
    SINGLE,
    TEXT_FILES,
    advice,
    file_error,
    lead_file,
    read_index,
)
from .display import Bar
from .errors import CheckpointError, DeviceError, InvalidArgument, MissingExtra, Unsupported


def find(
    path_or_id: str | os.PathLike[str],
    *,
    revision: str | None = None,
    progress: bool | Callable[..., object] | None = None,
    fetch: bool = True,
) -> Path:
    """The folder of a checkpoint.

    Args:
        path_or_id: an existing folder; else a hub id such as "google/gemma-4-E2B-it", looked up in
            the local hub cache (HF_HUB_CACHE, HF_HOME) and only then downloaded.
        revision: hub branch, tag or commit; None is "main".
        progress: as `load` takes it.
        fetch: False: nothing is downloaded, and what is not here whole is Unsupported.

    Raises:
        CheckpointError: there is no such folder or repository, or it has no safetensors.
        DeviceError: the network or the disk failed.
        InvalidArgument: a revision that is no revision, or one given with a folder.
        MissingExtra: it must be downloaded and huggingface_hub is not there.
        Unsupported: it is not here, and `fetch` is False.
    """
    path = Path(path_or_id)
    if path.is_dir():
        if revision is not None:
            raise InvalidArgument(
                f"revision is {revision!r}, but {path} is a folder: revisions belong to hub ids",
                argument="revision",
            )
        return path
    name = os.fspath(path_or_id)
    if os.path.lexists(path):
        raise CheckpointError(f"{path}: is no folder. {advice([path.name])}", file=str(path))
    if not isinstance(path_or_id, str) or not re.fullmatch(
        r"(?!.*(?:--|\.\.))\w[\w.-]{0,94}/\w[\w.-]{0,94}", path_or_id, re.ASCII
    ):
        raise CheckpointError(
            f"{name}: no such folder, and no hub id either (organisation/name). Is the path right? "
            f"The working directory is {Path.cwd()}",
            file=name,
        )
    if revision is not None and not re.fullmatch(r"(?!.*\.\.)\w[\w./-]{0,199}", revision, re.ASCII):
        raise InvalidArgument(
            f"revision is {revision!r}, expected a branch, a tag or a commit", argument="revision"
        )
    cached = _find_cached(name, revision or "main")
    if cached is not None and not (missing := _missing_files(cached)):
        return cached
    if not fetch:
        found = f"lacks {', '.join(missing)}" if cached else f"is not in {_hub_cache()}"
        raise Unsupported(
            f"{name}: {found}, and a plan from the hub's headers alone is to come: download it "
            f"(`hf download {name}`) and plan again, or give a folder"
        )
    try:
        return _download(name, revision or "main", progress)
    except (CheckpointError, DeviceError, MissingExtra) as error:
        if cached is None:
            raise
        raise CheckpointError(
            f"{name}: the copy in the hub cache lacks {', '.join(missing)} ({cached}), and "
            f"completing it failed: {error}",
            file=str(cached),
        ) from error


def _hub_cache() -> Path:
    """Where huggingface_hub keeps its downloads; read from the environment each time."""
    home = os.environ.get("XDG_CACHE_HOME", os.path.join("~", ".cache"))
    home = os.environ.get("HF_HOME", os.path.join(home, "huggingface"))
    cache = os.environ.get("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub"))
    cache = os.environ.get("HF_HUB_CACHE", cache)
    return Path(os.path.expandvars(os.path.expanduser(cache)))


def _find_cached(repository: str, revision: str) -> Path | None:
    root = _hub_cache() / f"models--{repository.replace('/', '--')}"
    commit = revision
    with suppress(OSError, ValueError):  # no such branch or tag here: it may be a commit itself
        commit = (root / "refs" / revision).read_text(encoding="ascii").strip()
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        return None
    folder = root / "snapshots" / commit
    return folder if folder.is_dir() else None


def _missing_files(folder: Path) -> list[str]:
    """What a download that stopped half way has left out."""
    missing = [name for name in TEXT_FILES if not (folder / name).exists()]
    try:
        lead = lead_file(os.listdir(folder), folder.name)
    except CheckpointError:
        return [*missing, SINGLE]
    if lead == INDEX:
        shards = sorted(set(read_index(folder).values()))
        return missing + [name for name in shards if not (folder / name).exists()]
    return missing + ([] if (folder / lead).exists() else [lead])


class _ByteCount:
    """What huggingface_hub takes in place of a tqdm class: counts bytes of one file."""

    def __init__(self, *_: Any, **options: Any) -> None:
        self.total = options.get("total")
        self.n = 0
        self.update(options.get("initial"))

    def report(self, count: int) -> None:
        raise NotImplementedError

    def update(self, count: float | None = 1) -> None:
        self.n += int(count or 0)
        self.report(self.n)

    def _nothing(self, *_: Any, **__: Any) -> None:
        pass

    # update_transfer gets bytes on the wire, update those that arrive in the file.
    update_transfer = set_postfix_str = set_transfer_postfix_str = refresh = close = _nothing

    def __enter__(self) -> _ByteCount:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _download(
    repository: str, revision: str, progress: bool | Callable[..., object] | None
) -> Path:
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise MissingExtra(
            f"{repository}: not in the hub cache ({_hub_cache()}), and to download it "
            "huggingface_hub is needed: pip install 'cabochon[hub]'",
            extra="hub",
        ) from error
    if "tqdm_class" not in inspect.signature(hub.hf_hub_download).parameters:
        raise MissingExtra(
            f"{repository}: huggingface_hub is {hub.__version__}, expected 1.5 or newer: "
            "pip install --upgrade 'cabochon[hub]'",
            extra="hub",
        )
    errors: Any = importlib.import_module("huggingface_hub.errors")
    place = f"{importlib.import_module('huggingface_hub.constants').ENDPOINT}/{repository}"
    try:
        return _download_files(hub, repository, revision, progress)
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{repository}: the hub asks you to accept the model's terms first. Do so at {place}, "
            "then log in (`hf auth login`, or the variable HF_TOKEN)",
            file=repository,
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(
            f"{repository}: the hub has no revision {revision!r} of it: see {place}/tree/main",
            file=repository,
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{repository}: no such folder here, and no such repository on the hub. Is the name "
            "right? A private one needs `hf auth login` or HF_TOKEN",
            file=repository,
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise CheckpointError(
            f"{repository}: not in the hub cache ({_hub_cache()}), and HF_HUB_OFFLINE forbids a "
            "download. Unset it, or fetch the files elsewhere and give their folder",
            file=repository,
        ) from error
    except (OSError, errors.HTTPError, errors.EntryNotFoundError) as error:
        raise DeviceError(
            f"{repository}: the download from the hub into {_hub_cache()} failed: "
            f"{type(error).__name__}: {error}. What has arrived is kept: the next call goes on"
        ) from error


def _download_files(
    hub: Any, repository: str, revision: str, progress: bool | Callable[..., object] | None
) -> Path:
    info = hub.HfApi().model_info(repository, revision=revision, files_metadata=True)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings}
    lead = lead_file(sizes, repository)
    if "config.json" not in sizes:
        raise CheckpointError(
            f"{repository}: has no config.json on the hub: is it a Hugging Face checkpoint?",
            file="config.json",
        )
    # config.json comes last and by the revision's name: only then does the cache know the name, so
    # a download that stops before leaves nothing that looks whole.
    names = [lead, *(name for name in (*EXTRA_FILES, *TEXT_FILES) if name in sizes)]
    done, total = 0, sum(sizes[name] for name in names)
    with Bar("download", "B", progress, total) as bar:

        class Count(_ByteCount):
            def report(self, count: int) -> None:
                bar.update(done + count, total)

        while names:
            name = names.pop(0)
            found = hub.hf_hub_download(
                repository,
                name,
                revision=revision if not names else info.sha,
                cache_dir=str(_hub_cache()),
                tqdm_class=Count,
            )
            done += sizes[name]
            bar.update(done, total)
            if name == INDEX:
                shards = sorted(set(read_index(Path(found).parent).values()))
                absent = [shard for shard in shards if shard not in sizes]
                if absent:
                    raise file_error(INDEX, f"names {absent[0]}, which {repository} lacks")
                names[:0] = shards
                total += sum(sizes[shard] for shard in shards)
    return Path(found).parent
