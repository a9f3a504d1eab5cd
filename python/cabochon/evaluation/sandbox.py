"""Runs one function of model-written code in a process that can reach nothing.

Two ways in, of which the first is taken that contains a hostile self-test: bubblewrap, and
namespaces of our own (sandboxed.py). Neither works: there is no sandbox, and nothing is run.
docs/decisions/0006-sandbox.md says what is contained, and what is not.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import IO, Any

_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sandboxed.py")
_INSIDE = "/sandboxed.py"  # the program in the new root
_SCRATCH = "/scratch"  # the one folder that takes files
_AFTER_S = 1.0  # within which all of it must be gone
_SYSTEM = ("/lib", "/lib64", "/lib32", "/usr/lib", "/usr/lib64")  # shared libraries


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the code may use."""

    cpu_s: int = 10  # of each process
    wall_s: float = 15.0
    memory_bytes: int = 512 << 20  # address space of each process
    processes: int = 16  # threads count too
    file_bytes: int = 16 << 20  # of each file
    files: int = 64  # open ones
    output_bytes: int = 1 << 20  # of results
    tmpfs_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What came back from a run. All of it is what the code says, and none of it is believed."""

    ended: str  # "done", "exited", "timed_out", "too_much_output"
    loaded: bool = False
    load_error: str | None = None  # name of the exception
    calls: tuple[dict[str, Any] | None, ...] = ()  # value and arguments, or error; None: never came
    is_gone: bool = True  # nothing of it was left after the end
    took_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A way to run code that contained the self-test on this machine. See `find_sandbox`."""

    name: str  # "bubblewrap" or "namespaces"
    limits: Limits = Limits()

    def run(self, source: str, function: str, calls: Sequence[Sequence[Any]]) -> Results:
        """Calls a function of a source with each list of arguments, one after the other.

        Args:
            source: Python.
            function: its name in the source.
            calls: arguments, values of JSON.

        Returns:
            Values of JSON; what the code prints and how it exits does not count.
        """
        request = {"source": source, "function": function, "calls": [list(c) for c in calls],
                   "limits": {k: int(v) for k, v in asdict(self.limits).items()}}  # fmt: skip
        begin = time.monotonic()
        with _command(self.name, self.limits) as command:
            text, ended, is_gone = _run(command, json.dumps(request).encode(), self.limits)
        took_s = time.monotonic() - begin
        if ended == "closed" and took_s >= self.limits.cpu_s:
            ended = "timed_out"  # by the limit on CPU, unless all results came
        return _read(text, len(calls), ended=ended, is_gone=is_gone, took_s=took_s)


@functools.cache
def find_sandbox() -> Sandbox | None:
    """The first way that contains a hostile self-test here; None where none does.

    Takes a second, once a process.
    """
    return next((Sandbox(name=name) for name in _COMMANDS if works(name)), None)


def works(name: str) -> bool:
    """Whether a way in contains the self-test: it must run, and reach nothing."""
    sandbox = Sandbox(name=name, limits=Limits(wall_s=10.0, cpu_s=5))
    with (
        tempfile.NamedTemporaryFile(mode="w") as secret,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        secret.write("secret")
        secret.flush()
        try:
            results = sandbox.run(_PROBE, "probe", [[secret.name, server.getsockname()[1]]])
        except OSError:
            return False
    # Of each attempt whether it was stopped; anything else is no sandbox.
    values = [call.get("value") for call in results.calls if call is not None]
    return results.is_gone and values == [dict.fromkeys(_ATTEMPTS, True)]


_ATTEMPTS = ("file", "environment", "processes", "network", "memory", "writing", "fork", "mount")
_PROBE = '''
import ctypes, os, socket

def stopped(attempt):
    try:
        return not attempt()
    except (OSError, MemoryError):
        return True

def forks():
    """Whether 40 processes can be at once."""
    children = []
    try:
        for _ in range(40):
            child = os.fork()
            if child == 0:
                import time
                time.sleep(3)
                os._exit(0)
            children.append(child)
        return True
    finally:
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)

def mounts():
    """Whether a child lives through a call that is to kill it."""
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).mount(b"none", b"/scratch", b"tmpfs", 0, None)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0

def probe(path, port):
    return {
        "file": stopped(lambda: open(path).read()),
        "environment": "PATH" not in os.environ and "HOME" not in os.environ,
        "processes": stopped(lambda: any(n.isdigit() for n in os.listdir("/proc"))),
        "network": stopped(lambda: socket.create_connection(("127.0.0.1", port), timeout=2)),
        "memory": stopped(lambda: bytearray(2 << 30)),
        "writing": stopped(lambda: open("/usr/lib/probe", "w")),
        "fork": stopped(forks),
        "mount": stopped(mounts),
    }
'''


# --- ways in -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """What of the machine is to be seen inside, read-only."""

    paths: tuple[str, ...]
    links: tuple[tuple[str, str], ...]  # a symbolic link and where it leads
    hidden: tuple[str, ...]  # folders in these that are to be empty


def _python() -> str:
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


@functools.cache
def _shown() -> _Shown:
    """Python, its standard library, and shared libraries."""
    base = {"installed_base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    folders = (sysconfig.get_path(name, vars=base) for name in ("stdlib", "platstdlib"))
    libraries = {os.path.realpath(path) for path in folders}
    beside = glob.glob(os.path.join(glob.escape(sys.base_prefix), "lib", "*.so*"))
    links = [(path, os.readlink(path)) for path in _SYSTEM if os.path.islink(path)]
    system = [path for path in _SYSTEM if os.path.isdir(path) and not os.path.islink(path)]
    files = [_python(), *(path for path in beside if not os.path.islink(path))]
    links += [(path, os.readlink(path)) for path in beside if os.path.islink(path)]
    inside = tuple(folder + "/" for folder in system)
    paths = [*system, *(path for path in (*libraries, *files) if not path.startswith(inside))]
    links = [link for link in links if not link[0].startswith(inside)]
    packages = [os.path.join(path, "site-packages") for path in sorted(libraries)]
    hidden = tuple(path for path in packages if os.path.isdir(path))
    return _Shown(paths=tuple(sorted(set(paths))), links=tuple(links), hidden=hidden)


@contextmanager
def _command(name: str, limits: Limits) -> Iterator[list[str]]:
    """The command of a way in, valid inside the block.

    Raises:
        OSError: it is not there.
    """
    inside = [_python(), "-S", "-s", "-B", "-X", "utf8", _INSIDE, "inside"]
    with _COMMANDS[name](inside, limits) as command:
        yield command


@contextmanager
def _bubblewrap(inside: list[str], limits: Limits) -> Iterator[list[str]]:
    program = shutil.which("bwrap")
    if program is None:
        raise FileNotFoundError("bwrap is not installed")
    shown = _shown()
    command = [program, "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
    command += ["--setenv", "PYTHONHASHSEED", "0", "--cap-drop", "ALL"]
    for path, target in shown.links:
        command += ["--symlink", target, path]
    for path in shown.paths:
        command += ["--ro-bind", path, path]
    for path in shown.hidden:
        command += ["--size", "4096", "--tmpfs", path]
    command += ["--ro-bind", _PROGRAM, _INSIDE, "--dev-bind", "/dev/null", "/dev/null"]
    command += ["--size", str(limits.tmpfs_bytes), "--tmpfs", _SCRATCH, "--remount-ro", "/"]
    yield [*command, "--chdir", _SCRATCH, "--", *inside]


@contextmanager
def _namespaces(inside: list[str], limits: Limits) -> Iterator[list[str]]:
    shown = _shown()
    with tempfile.TemporaryDirectory(prefix="cabochon-") as root:
        config = {
            "root": root,
            "shown": list(shown.paths),
            "links": list(shown.links),
            "hidden": list(shown.hidden),
            "program": [_PROGRAM, _INSIDE],
            "scratch": _SCRATCH,
            "tmpfs_bytes": limits.tmpfs_bytes,
            "is_root": os.geteuid() == 0,
            "command": inside,
        }
        python = [_python(), "-I", "-S", "-B", "-X", "utf8"]
        yield [*python, _PROGRAM, "launch", json.dumps(config)]


_COMMANDS = {"bubblewrap": _bubblewrap, "namespaces": _namespaces}


# --- one run -------------------------------------------------------------------------------------


def _run(command: list[str], request: bytes, limits: Limits) -> tuple[bytes, str, bool]:
    """What a command writes, how it ended, and whether nothing of it was left then."""
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        cwd="/",
        start_new_session=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        writer = threading.Thread(target=_feed, args=(process.stdin, request), daemon=True)
        writer.start()
        try:
            text, ended = _collect(
                process.stdout.fileno(), time.monotonic() + limits.wall_s, limits.output_bytes
            )
        finally:
            # The first process of the namespaces dies with this group, and all others with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        # Whoever is left holds the other end of the pipe.
        _, rest = _collect(process.stdout.fileno(), time.monotonic() + _AFTER_S, 1 << 62)
        writer.join(_AFTER_S)
    return text, ended, rest == "closed"


def _feed(stdin: IO[bytes], request: bytes) -> None:
    with contextlib.suppress(OSError):  # it ended before it read all
        stdin.write(request)
        stdin.close()


def _collect(pipe: int, until: float, most: int) -> tuple[bytes, str]:
    """What comes until the pipe is closed, the time is over or it is too much."""
    pieces: list[bytes] = []
    size = 0
    while (left := until - time.monotonic()) > 0:
        if not select.select([pipe], [], [], left)[0]:
            break
        piece = os.read(pipe, 65_536)
        if not piece:
            return b"".join(pieces), "closed"
        size += len(piece)
        if size > most:
            return b"".join(pieces), "too_much_output"
        if most < 1 << 62:
            pieces.append(piece)
    return b"".join(pieces), "timed_out"


def _read(text: bytes, count: int, *, ended: str, **more: Any) -> Results:
    """The lines that are what they should be; of two for one call the first."""
    calls: list[dict[str, Any] | None] = [None] * count
    loaded, load_error = False, None
    for line in text.split(b"\n")[: 4 * count + 16]:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(found, dict):
            continue
        number = found.get("call")
        if isinstance(number, int) and 0 <= number < count and calls[number] is None:
            calls[number] = {key: found[key] for key in ("value", "arguments", "error")
                             if key in found}  # fmt: skip
        elif found.get("loaded") is True:
            loaded = True
        elif isinstance(found.get("error"), str) and not loaded:
            load_error = found["error"][:100]
    if load_error or all(call is not None for call in calls):
        ended = "done"
    elif ended == "closed":
        ended = "exited"
    return Results(ended=ended, loaded=loaded, load_error=load_error, calls=tuple(calls), **more)
