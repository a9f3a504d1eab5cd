"""Finds a checkpoint's folder: given, in the local hub cache, or downloaded into it.

A plan needs no download: `read_headers` fetches config.json, the index and the headers alone. The
one importer of huggingface_hub. Nothing is written but a download into the hub's own cache.
"""

from __future__ import annotations

import importlib
import inspect
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .checkpoint import (
    EXTRA_FILES,
    INDEX,
    INDEX_BYTES,
    JSON_BYTES,
    SINGLE,
    TEXT_FILES,
    Shards,
    advice,
    file_error,
    gather_shards,
    lead_file,
    parse_index,
    parse_json,
    read_index,
    read_whole,
)
from .display import Bar
from .errors import CheckpointError, DeviceError, InvalidArgument, MissingExtra


def find(
    path_or_id: str | os.PathLike[str],
    *,
    revision: str | None = None,
    progress: bool | Callable[..., object] | None = None,
) -> Path:
    """The folder of a checkpoint.

    Args:
        path_or_id: an existing folder; else a hub id such as "google/gemma-4-E2B-it", looked up in
            the local hub cache (HF_HUB_CACHE, HF_HOME) and only then downloaded.
        revision: hub branch, tag or commit; None is "main".
        progress: as `load` takes it.

    Raises:
        CheckpointError: there is no such folder or repository, or it has no safetensors.
        DeviceError: the network or the disk failed.
        InvalidArgument: a revision that is no revision, or one given with a folder.
        MissingExtra: it must be downloaded and huggingface_hub is not there.
    """
    folder, missing = _look_up(path_or_id, revision)
    if folder is not None and not missing:
        return folder
    name = os.fspath(path_or_id)
    try:
        return _download(name, revision or "main", progress)
    except (CheckpointError, DeviceError, MissingExtra) as error:
        if folder is None:
            raise
        raise CheckpointError(
            f"{name}: the copy in the hub cache lacks {', '.join(missing)} ({folder}), and "
            f"completing it failed: {error}",
            file=str(folder),
        ) from error


def find_here(path_or_id: str | os.PathLike[str], *, revision: str | None = None) -> Path | None:
    """The folder of a checkpoint that is here whole, None for a hub id that is not; no network.

    Raises what `find` raises of arguments.
    """
    folder, missing = _look_up(path_or_id, revision)
    return None if missing else folder


def _look_up(
    path_or_id: str | os.PathLike[str], revision: str | None
) -> tuple[Path | None, list[str]]:
    """A folder and what it lacks: given, or of a hub id in the cache (None: no such copy)."""
    path = Path(path_or_id)
    if path.is_dir():
        if revision is not None:
            raise InvalidArgument(
                f"revision is {revision!r}, but {path} is a folder: revisions belong to hub ids",
                argument="revision",
            )
        return path, []
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
    return cached, [] if cached is None else _missing_files(cached)


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


# ------------------------------------------------------------------------------------------------
# The network


@dataclass(frozen=True, slots=True)
class _Repository:
    """One commit of a repository on the hub, as its listing has it."""

    hub: Any  # the package
    name: str
    commit: str
    sizes: dict[str, int]  # bytes of each file
    lead: str  # the file that leads to the weights

    def shards(self, index: dict[str, str]) -> list[str]:
        names = sorted(set(index.values()))
        absent = [name for name in names if name not in self.sizes]
        if absent:
            raise file_error(INDEX, f"names {absent[0]}, which {self.name} lacks")
        return names

    def texts(self) -> list[str]:
        """What `load` reads beside the weights; config.json is the last."""
        return [name for name in (*EXTRA_FILES, *TEXT_FILES) if name in self.sizes]


@contextmanager
def _open_repository(name: str, revision: str, doing: str, next_step: str) -> Iterator[_Repository]:
    """A repository to read from; whatever goes wrong inside is an error of ours.

    Args:
        doing, next_step: for messages: "the download from the hub" failed, and what to do then.
    """
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise MissingExtra(
            f"{name}: not in the hub cache ({_hub_cache()}), and for {doing} huggingface_hub is "
            "needed: pip install 'cabochon[hub]'",
            extra="hub",
        ) from error
    if "tqdm_class" not in inspect.signature(hub.hf_hub_download).parameters:
        raise MissingExtra(
            f"{name}: huggingface_hub is {hub.__version__}, expected 1.5 or newer: "
            "pip install --upgrade 'cabochon[hub]'",
            extra="hub",
        )
    errors: Any = importlib.import_module("huggingface_hub.errors")
    place = f"{hub.constants.ENDPOINT}/{name}"
    try:
        yield _list_repository(hub, name, revision)
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{name}: the hub asks you to accept the model's terms first. Do so at {place}, "
            "then log in (`hf auth login`, or the variable HF_TOKEN)",
            file=name,
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(
            f"{name}: the hub has no revision {revision!r} of it: see {place}/tree/main",
            file=name,
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{name}: no such folder here, and no such repository on the hub. Is the name "
            "right? A private one needs `hf auth login` or HF_TOKEN",
            file=name,
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise CheckpointError(
            f"{name}: not whole in the hub cache ({_hub_cache()}), and HF_HUB_OFFLINE forbids "
            f"{doing}. Unset it, or fetch the files elsewhere and give their folder",
            file=name,
        ) from error
    except (OSError, errors.HTTPError, errors.EntryNotFoundError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise CheckpointError(
                f"{name}: {doing} was refused ({status}): is the token wrong or expired, or does "
                "it lack a permission? Log in (`hf auth login`, or the variable HF_TOKEN) as one "
                f"who may read {place}",
                file=name,
            ) from error
        raise DeviceError(
            f"{name}: {doing} failed: {type(error).__name__}: {error}. {next_step}"
        ) from error


def _list_repository(hub: Any, name: str, revision: str) -> _Repository:
    info = hub.HfApi().model_info(name, revision=revision, files_metadata=True)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings}
    lead = lead_file(sizes, name)
    if "config.json" not in sizes:
        raise CheckpointError(
            f"{name}: has no config.json on the hub: is it a Hugging Face checkpoint?",
            file="config.json",
        )
    return _Repository(hub=hub, name=name, commit=info.sha, sizes=sizes, lead=lead)


def _download(name: str, revision: str, progress: bool | Callable[..., object] | None) -> Path:
    with _open_repository(
        name,
        revision,
        "the download from the hub",
        f"What has arrived is kept in {_hub_cache()}: the next call goes on",
    ) as repository:
        return _download_files(repository, revision, progress)


def _download_files(
    repository: _Repository, revision: str, progress: bool | Callable[..., object] | None
) -> Path:
    sizes = repository.sizes
    # config.json comes last and by the revision's name: only then does the cache know the name, so
    # a download that stops before leaves nothing that looks whole.
    names = [repository.lead, *repository.texts()]
    done, total = 0, sum(sizes[name] for name in names)
    with Bar("download", "B", progress, total) as bar:

        class Count(_ByteCount):
            def report(self, count: int) -> None:
                bar.update(done + count, total)

        while names:
            name = names.pop(0)
            found = repository.hub.hf_hub_download(
                repository.name,
                name,
                revision=revision if not names else repository.commit,
                cache_dir=str(_hub_cache()),
                tqdm_class=Count,
            )
            done += sizes[name]
            bar.update(done, total)
            if name == INDEX:
                shards = repository.shards(read_index(Path(found).parent))
                names[:0] = shards
                total += sum(sizes[shard] for shard in shards)
    return Path(found).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """What a plan needs of a checkpoint that is on the hub alone."""

    config: dict[str, Any]  # config.json
    shards: Shards
    fetched_bytes: int  # of the repository's files, to know this
    download_bytes: int  # that `load` would fetch; files that are in the cache do not count


def read_headers(name: str, *, revision: str | None = None) -> Headers:
    """Config and tensors of a hub id, of which only config.json, the index and headers are fetched.

    The headers pass the checks of those on disk: they are read by the same code. Nothing is
    written.

    Raises:
        CheckpointError: there is no such repository, it may not be read, has no safetensors, or
            config.json, the index or a header is damaged or made to harm.
        DeviceError: the network failed, or what answers does not serve parts of files.
        MissingExtra: huggingface_hub is not there.
    """
    with _open_repository(
        name,
        revision or "main",
        "reading headers from the hub",
        f"Try again, or download the files (`hf download {name}`)",
    ) as repository:
        files: list[_RemoteFile] = []

        def open_file(file: str) -> _RemoteFile:
            files.append(_RemoteFile(repository, file))
            return files[-1]

        config = parse_json(
            read_whole(open_file("config.json"), "config.json", JSON_BYTES), "config.json"
        )
        lead, index, weights = repository.lead, None, [repository.lead]
        if lead == INDEX:
            index = parse_index(read_whole(open_file(INDEX), INDEX, INDEX_BYTES))
            weights = [INDEX, *repository.shards(index)]
        shards = gather_shards(name, lead, index, open_file, is_here=False)
    root = _hub_cache() / f"models--{name.replace('/', '--')}" / "snapshots" / repository.commit
    to_come = [file for file in (*weights, *repository.texts()) if not (root / file).exists()]
    return Headers(
        config=config,
        shards=shards,
        fetched_bytes=sum(file.fetched_bytes for file in files),
        download_bytes=sum(repository.sizes[file] for file in to_come),
    )


class _RemoteFile(io.RawIOBase):
    """A file of a repository: each read is one request for the bytes that are asked for."""

    def __init__(self, repository: _Repository, name: str) -> None:
        self._hub = repository.hub
        self._url = self._hub.hf_hub_url(repository.name, name, revision=repository.commit)
        self._name = f"{repository.name}: {name}"
        self._size = repository.sizes[name]
        self._place = 0
        self.fetched_bytes = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + (0, self._place, self._size)[whence]
        return self._place

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        begin, end = self._place, min(self._place + len(buffer), self._size)
        if begin >= end:
            return 0
        utils = self._hub.utils
        headers = {
            **utils.build_hf_headers(),
            "Range": f"bytes={begin}-{end - 1}",
            "Accept-Encoding": "identity",  # a range of what is packed would be no range of it
        }
        with utils.http_stream_backoff(
            "GET",
            self._url,
            headers=headers,
            timeout=self._hub.constants.HF_HUB_DOWNLOAD_TIMEOUT,
            retry_on_exceptions=(),  # its retry breaks on one that comes amid the content
        ) as response:
            utils.hf_raise_for_status(response)
            # 200: the whole file is being sent. Its beginning will do, the rest is not taken.
            if response.status_code != 206 and begin > 0:
                raise DeviceError(
                    f"{self._name}: asked for the bytes {begin:,} to {end:,}, found the whole file "
                    f"(status {response.status_code}): a plan from headers needs a hub, or a "
                    "proxy, that serves parts of files. Download it and plan again"
                )
            for piece in response.iter_bytes():
                here = min(len(piece), end - self._place)
                buffer[self._place - begin : self._place - begin + here] = piece[:here]
                self._place += here
                if self._place == end:
                    break
        self.fetched_bytes += self._place - begin
        return self._place - begin
