"""The record of a run on the disk: a manifest that never changes, and lines that are only added.

A run may be killed at any moment. What was finished is then a whole line; a line that is not whole
is cut off when the run goes on, and its case is done again. docs/evaluation.md has the formats.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import socket
import time
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..errors import CabochonWarning, EvaluationError
from ..types import Record, jsonable
from ..whole_file import write_whole
from .cases import Case, canonical, read_cases, sha256, write_cases

FORMAT = 1
MAX_ATTEMPTS = 3
SYNC_S = 1.0
# One line of cases.jsonl: all of them, always.
KEYS = (
    *("key", "case_id", "version", "suite", "family", "tier", "cluster_id", "language"),
    *("prompting", "repeat", "seed"),
    *("prompt_sha256", "prompt_tokens", "cached_tokens", "template", "max_tokens"),
    *("output_text", "controls", "turns", "output_ids_sha256"),
    *("thinking_tokens", "answer_tokens", "wasted_tokens", "finish_reason", "cut_in"),
    *("choice_logprobs", "choice_bytes", "choice_greedy"),
    *("grader", "grader_hash", "extracted", "extracted_lenient", "expected"),
    *("score", "verdict", "reason", "near_miss", "parts"),
    *("first_token_s", "total_s", "prefill_s", "decode_s", "host", "time"),
)
# What may differ between two runs of the same: where, when, how fast, and what a cache spared.
COST_KEYS = ("cached_tokens", "first_token_s", "total_s", "prefill_s", "decode_s", "host", "time")
# Of a manifest: what a run may go on with, or be merged with, when it differs.
FREE_KEYS = ("created", "host", "machine", "plan", "warnings")


class Keyed(Protocol):
    """Something that is to be done once."""

    @property
    def key(self) -> str: ...


T = TypeVar("T", bound=Keyed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard(Record):
    """Part `index` of `count`, from 0; part 0 of 1 is all of it and has plain file names."""

    index: int = 0
    count: int = 1

    def has(self, case_id: str) -> bool:
        """Whether a case belongs to this part: by its id alone."""
        return int(sha256(case_id), 16) % self.count == self.index

    def name(self, name: str) -> str:
        """A file's name in this part: `cases.jsonl`, `cases-00003-of-00016.jsonl`."""
        if self.count == 1:
            return name
        stem, dot, ending = name.rpartition(".")
        stem, ending = (stem, dot + ending) if stem else (name, "")
        return f"{stem}-{self.index:05}-of-{self.count:05}{ending}"


def same(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a record every run of the same must have alike."""
    return {name: value for name, value in record.items() if name not in COST_KEYS}


def first_difference(ours: Any, theirs: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """The dotted name of the first key in which two manifests differ, and both values."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key in dict.fromkeys([*ours, *theirs]):
            inside = f"{name}.{key}" if name else str(key)
            if not name and key in FREE_KEYS:
                continue
            found = first_difference(ours.get(key), theirs.get(key), inside)
            if found is not None:
                return found
        return None
    return None if ours == theirs else (name, ours, theirs)


class Journal:
    """What is finished, in memory and, where a folder was given, in its files. One writer."""

    def __init__(
        self,
        folder: Path | None,
        manifest: Mapping[str, Any],
        cases: Iterable[Case],
        *,
        shard: Shard,
        resume: bool,
    ) -> None:
        """Takes the folder's lock, checks its manifest or writes one, and reads what is done.

        Raises:
            EvaluationError: another process writes there; the folder holds another run, or one
                that is not to be resumed; a file of it cannot be read or written.
        """
        self.records: dict[str, dict[str, Any]] = {}  # by key
        self.attempts: dict[str, list[dict[str, Any]]] = {}  # those that failed, by key
        self._folder, self._shard = folder, shard
        self._lines = self._failures = self._lock = -1
        self._synced_s, self._is_dirty = time.monotonic(), False
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(folder / shard.name(".lock"))
            self._check_manifest(manifest, resume=resume)
            if not (folder / QUESTIONS).exists():
                write_text(folder / QUESTIONS, write_cases(cases))
            self._lines = self._open("cases.jsonl")
            self._failures = self._open("attempts.jsonl")
        except OSError as error:
            self.close()
            raise EvaluationError(f"{folder}: the record cannot be written: {error}") from error
        except BaseException:
            self.close()
            raise
        stored = read_part(folder, shard)
        self.records, self.attempts = stored.records, stored.attempts

    def _check_manifest(self, manifest: Mapping[str, Any], *, resume: bool) -> None:
        assert self._folder is not None
        path = self._folder / self._shard.name("manifest.json")
        if not path.exists():
            others = [name for name, _ in manifests(self._folder)]
            if self._shard.count == 1 and others:
                raise EvaluationError(
                    f"{self._folder}: found {others[0]}, a run in shards, expected an empty folder"
                )
            for name in others:
                self._compare(manifest, read_json(self._folder / name), name)
            write_text(path, json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")
            return
        if not resume:
            raise EvaluationError(
                f"{path}: there is a run, and resume is False: expected an empty folder, or "
                "resume=True, which goes on with it"
            )
        self._compare(manifest, read_json(path), path.name)

    def _compare(self, manifest: Mapping[str, Any], there: dict[str, Any], name: str) -> None:
        if self._shard.name("manifest.json") != name:  # another part: its number may differ
            there = {**there, "shard": {**there["shard"], "index": self._shard.index}}
        difference = first_difference(jsonable(manifest), there)
        if difference is not None:
            key, ours, theirs = difference
            raise EvaluationError(
                f"{self._folder}: {name} has {key} {_short(theirs)}, this run {_short(ours)}: "
                "expected the same run, or another folder; nothing is mixed"
            )

    def _open(self, name: str) -> int:
        """Opens a file of lines for adding; a torn last line is cut off."""
        assert self._folder is not None
        path = self._folder / self._shard.name(name)
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        data = path.read_bytes()
        if data and not data.endswith(b"\n"):
            os.ftruncate(file, data.rfind(b"\n") + 1)
        return file

    def add(self, record: dict[str, Any]) -> None:
        """A finished case: one line, in one write."""
        self.records[record["key"]] = record
        self._write(self._lines, record)

    def fail(self, record: dict[str, Any], traceback: str) -> None:
        """A case that our fault or the machine's kept from being finished."""
        before = self.attempts.setdefault(record["key"], [])
        record = {**record, "attempt": len(before) + 1, "traceback": traceback}
        before.append(record)
        self._write(self._failures, record)

    def unfinished(self, tasks: Iterable[T]) -> list[T]:
        """Those of some tasks that are to be done: without a line yet, and not tried too often."""
        return [
            task
            for task in tasks
            if task.key not in self.records and len(self.attempts.get(task.key, ())) < MAX_ATTEMPTS
        ]

    def all(self, keys: Collection[str]) -> Iterator[dict[str, Any]]:
        """One record for each of some keys that was tried."""
        stored = Stored(records=self.records, attempts=self.attempts)
        yield from (record for record in stored.all() if record["key"] in keys)

    def _write(self, file: int, record: Mapping[str, Any]) -> None:
        if file < 0:
            return
        data = json_line(record).encode("utf-8", "surrogatepass")
        try:
            while data:
                data = data[os.write(file, data) :]
        except OSError as error:
            raise EvaluationError(
                f"{self._folder}: the record cannot be written: {error}; what was finished is "
                "kept: make room and run the same again"
            ) from error
        self._is_dirty = True
        self.sync()

    def sync(self, *, now: bool = False) -> None:
        """Sees that what was written more than a second ago is on the disk."""
        if self._is_dirty and (now or time.monotonic() - self._synced_s >= SYNC_S):
            for file in (self._lines, self._failures):
                os.fsync(file)
            self._synced_s, self._is_dirty = time.monotonic(), False

    def summarise(self, summary: Mapping[str, Any]) -> None:
        """Writes the totals, which nobody reads back."""
        if self._folder is not None:
            text = json.dumps(summary, ensure_ascii=False, indent=1) + "\n"
            write_text(self._folder / self._shard.name("summary.json"), text)

    def close(self) -> None:
        """Everything on the disk, the lock given back. Twice is fine."""
        with contextlib.suppress(OSError):
            self.sync(now=True)
        for file in (self._lines, self._failures, self._lock):
            if file >= 0:
                os.close(file)
        self._lines = self._failures = self._lock = -1


def json_line(record: Mapping[str, Any]) -> str:
    """A record as one line."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"


def _short(value: Any) -> str:
    text = canonical(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _lock(path: Path) -> int:
    """An advisory lock, which the system gives back when the process ends, however it ends."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(file, 200).decode("utf-8", "replace").strip()
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(file)
            raise EvaluationError(
                f"{path.parent}: {holder or 'another process'} writes there, expected a folder of "
                "its own: wait, or give another `out`"
            ) from None
        # A file system without locks: better a run without one than none.
        warnings.warn(
            f"{path}: no lock can be taken ({error}): see that nobody else writes there",
            CabochonWarning,
            stacklevel=2,
        )
    os.ftruncate(file, 0)
    os.pwrite(file, f"process {os.getpid()} of {socket.gethostname()}\n".encode(), 0)
    return file


def write_text(path: Path, text: str) -> None:
    """A file that is there whole or not at all.

    Raises:
        OSError: a system call failed; what was there is as it was.
    """
    data = text.encode("utf-8", "surrogatepass")
    write_whole(path, lambda temporary: temporary.write_bytes(data))


# --- reading -------------------------------------------------------------------------------------

QUESTIONS = "questions.jsonl"  # the cases as they were asked
_MANIFEST = re.compile(r"manifest(?:-(\d{5})-of-(\d{5}))?\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What the files of one part hold."""

    records: dict[str, dict[str, Any]] = field(default_factory=dict)  # by key
    attempts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by key

    def all(self) -> Iterator[dict[str, Any]]:
        """One record a case that was tried: the last attempt of one that was never finished."""
        yield from self.records.values()
        for key, attempts in self.attempts.items():
            if key not in self.records:
                yield {name: attempts[-1].get(name) for name in KEYS}


def manifests(folder: Path) -> Iterator[tuple[str, Shard]]:
    """Names of the manifests in a folder with the part that each is of."""
    for path in sorted(folder.iterdir()):
        if found := _MANIFEST.fullmatch(path.name):
            index, count = found.groups()
            yield path.name, Shard() if index is None else Shard(index=int(index), count=int(count))


def read_json(path: Path) -> Any:
    """An object of JSON.

    Raises:
        EvaluationError: it is none.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path}: {error}, expected a file of evaluate") from error
    if not isinstance(value, dict):
        raise EvaluationError(f"{path}: found {type(value).__name__}, expected an object")
    return value


def read_part(folder: Path, shard: Shard) -> Stored:
    """The lines of one part. A torn last line is none.

    Raises:
        EvaluationError: a line is no record; one key has two outputs.
    """
    stored = Stored()
    for record in _lines(folder / shard.name("cases.jsonl")):
        add_record(stored.records, record)
    for record in _lines(folder / shard.name("attempts.jsonl")):
        stored.attempts.setdefault(record["key"], []).append(record)
    return stored


def add_record(records: dict[str, dict[str, Any]], record: dict[str, Any]) -> None:
    """Adds a record; the same one again is left out.

    Raises:
        EvaluationError: another output stands under its key.
    """
    there = records.setdefault(record["key"], record)
    if there["output_text"] != record["output_text"]:
        raise EvaluationError(
            f"case {record['case_id']}: two different outputs under the key {record['key'][:12]}, "
            "expected one: are the runs of one model?"
        )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    for number, line in enumerate(whole.split(b"\n") if whole else (), 1):
        try:
            record = json.loads(line)
            missing = [name for name in ("key", "case_id", "output_text") if name not in record]
        except (ValueError, TypeError) as error:
            raise EvaluationError(f"{path} line {number}: {error}, expected a record") from error
        if not isinstance(record, dict) or missing:
            raise EvaluationError(f"{path} line {number}: no {missing[:1]}, expected a record")
        yield {**dict.fromkeys(KEYS), **record}  # one of an earlier version may lack some


def read_questions(folder: Path) -> dict[str, Case]:
    """The cases of a run by id, as they were asked."""
    path = folder / QUESTIONS
    return {case.case_id: case for case in read_cases(path)} if path.exists() else {}


def contents(cases: Iterable[Case]) -> str:
    """SHA-256 of what cases say, in their order."""
    return sha256(canonical([[case.case_id, case.sha256] for case in cases]))
