"""A file is the old one or the new one, at whatever point writing it ends."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cabochon.whole_file import write_whole

OLD, NEW = b"old" * 50_000, b"new" * 70_000


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.write_bytes(OLD)
    return path


def write_new(path: Path) -> None:
    path.write_bytes(NEW)


def test_the_new_file_takes_the_place_of_the_old_one_whose_bytes_nobody_touches(
    target: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.hardlink_to(target)

    write_whole(target, write_new)

    assert target.read_bytes() == NEW
    assert other.read_bytes() == OLD
    assert sorted(tmp_path.iterdir()) == [other, target]


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def named_sync(descriptor: int) -> None:
        inode = os.fstat(descriptor).st_ino
        done.append("folder" if inode == target.parent.stat().st_ino else "file")
        assert done[-1] == "folder" or os.fstat(descriptor).st_size == len(NEW)
        sync(descriptor)

    def named_replace(*paths: Any, **options: Any) -> None:
        done.append("rename")
        replace(*paths, **options)

    monkeypatch.setattr(os, "fsync", named_sync)
    monkeypatch.setattr(os, "replace", named_replace)

    write_whole(target, write_new)

    assert done == ["file", "rename", "folder"]


@pytest.mark.parametrize("bytes_written", [0, 1, 4096, len(NEW) - 1])
def test_a_disk_that_is_full_after_so_many_bytes_leaves_the_old_file(
    target: Path, full_after: Any, bytes_written: int
) -> None:
    with full_after(bytes_written), pytest.raises(OSError, match="File too large"):
        write_whole(target, write_new)

    assert target.read_bytes() == OLD
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize(
    ("call", "calls_before", "left"),
    [("fsync", 0, OLD), ("replace", 0, OLD), ("fsync", 1, NEW)],
)
def test_a_system_call_that_fails_leaves_one_of_the_two_whole(
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    call: str,
    calls_before: int,
    left: bytes,
) -> None:
    real, made = getattr(os, call), []

    def failing(*arguments: Any, **options: Any) -> Any:
        made.append(call)
        if len(made) > calls_before:
            raise OSError(code, os.strerror(code))
        return real(*arguments, **options)

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(OSError, match=os.strerror(code)):
        write_whole(target, write_new)

    assert target.read_bytes() == left
    assert list(target.parent.iterdir()) == [target]


def test_a_writer_that_raises_leaves_the_old_file(target: Path) -> None:
    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(target, write)

    assert target.read_bytes() == OLD
    assert list(target.parent.iterdir()) == [target]


# Writes large files of one letter after the other, and is killed after a while, again and again.
_KILLED = """
import os, random, signal, sys, time
from pathlib import Path
from cabochon.whole_file import write_whole

target, size = Path(sys.argv[1]), 4_000_000
letters = b"abcdefgh"
whole = {bytes([letter]) * size for letter in letters}
write_whole(target, lambda path: path.write_bytes(b"a" * size))
random.seed(0)
half = 0
for kill in range(60):
    child = os.fork()
    if child == 0:
        while True:
            for letter in letters:
                write_whole(target, lambda path: path.write_bytes(bytes([letter]) * size))
    time.sleep(random.uniform(0.001, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert target.read_bytes() in whole, "a torn file"
    left = list(target.parent.iterdir())
    assert len(left) <= 2, left
    half += len(left) == 2
write_whole(target, lambda path: path.write_bytes(b"z"))
print(half, *(path.name for path in target.parent.iterdir()))
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_file_and_what_the_next_one_removes(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "target")]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    half_written, *names = done.stdout.split()
    assert int(half_written) > 5, "hardly any was killed while it wrote"
    assert names == ["target"]


def named(process: int, started: str, host: str = os.uname().nodename) -> str:
    return f"cabochon.{host}.{process}.{started}.123.tmp"


def test_files_of_writers_that_are_gone_are_removed_and_no_others(target: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    started = {
        process: Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
        for process in (os.getpid(), other.pid, gone.pid)
    }
    gone.wait()
    stale = [
        named(gone.pid, started[gone.pid]),
        named(os.getpid(), "1"),  # of an earlier process with our number
    ]
    kept = [
        named(os.getpid(), started[os.getpid()]),  # of another thread
        named(other.pid, started[other.pid]),
        named(gone.pid, started[gone.pid], "elsewhere"),  # whether it is gone nobody knows here
        f"cabochon.{os.uname().nodename}.{gone.pid}.tmp",
        f"talk.{gone.pid}.tmp",
    ]
    for name in [*stale, *kept]:
        (target.parent / name).write_bytes(b"half")

    write_whole(target, write_new)

    other.send_signal(signal.SIGKILL)
    other.wait()
    other.stdin.close()
    assert {path.name for path in target.parent.iterdir()} == {"target", *kept}
