"""The sandbox of model-written code: hostile programs reach nothing, and are judged wrong.

Each program defines f, of which three calls must give numbers that it is never told. SECRET, PORT,
HOST_PID and OUTSIDE stand for a file, a listening port, a process and a folder of this machine.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from cabochon.evaluation import sandbox as sandboxes
from cabochon.evaluation.cases import Case
from cabochon.evaluation.graders import code
from cabochon.evaluation.grading import grade, written
from cabochon.evaluation.sandbox import Limits, Results, Sandbox, find_sandbox, works
from cabochon.evaluation.sandboxed import filter_program

WALL_S = 1.0
LIMITS = Limits(wall_s=WALL_S, cpu_s=1)
SECRET = "the-secret-of-this-machine"
RIGHT = 918_273_645  # f(0); nothing inside can know it
CASE = Case(
    case_id="code-x", version=1, suite="code", family="x", tier="easy", language="en",
    cluster_id="x", seed=0, messages=({"role": "user", "content": "?"},), max_tokens=9,
    grader="tests", ideal=(), wrong=(),
    expected={"function": "f", "tests": [[[n], RIGHT + n] for n in range(3)]},
)  # fmt: skip

RETURNS = "def f(x):\n    return 0\n"
PROGRAMS = {
    # --- taking what the machine has ---
    "fork bomb": "import os\ndef f(x):\n    while True:\n        os.fork()\n",
    "fork bomb at import": "import os\nwhile True:\n    os.fork()\n",
    "threads without end": """
import threading, time
def f(x):
    while True:
        threading.Thread(target=time.sleep, args=(60,)).start()
""",
    "10 GB at once": "def f(x):\n    return len(bytearray(10 << 30))\n",
    "10 GB bit by bit": """
def f(x):
    a = []
    while True:
        a.append(bytes(1 << 20))
""",
    "1 GB of output": "def f(x):\n    for _ in range(1024):\n        print('x' * (1 << 20))\n",
    "1 GB into every descriptor": """
import os
def f(x):
    for _ in range(1024):
        for fd in range(64):
            try:
                os.write(fd, b'x' * (1 << 20))
            except OSError:
                pass
""",
    "1 GB of files": """
def f(x):
    for n in range(64):
        with open(f'/scratch/{n}', 'wb') as file:
            file.write(bytes(16 << 20))
    return 0
""",
    "one file of 1 GB": "def f(x):\n    return open('/scratch/x', 'wb').write(bytes(1 << 30))\n",
    "10,000 open files": "import os\ndef f(x):\n    return [os.dup(0) for _ in range(10_000)]\n",
    "sleep": "import time\ndef f(x):\n    time.sleep(600)\n",
    "a loop without end": "def f(x):\n    while True:\n        pass\n",
    "a loop at import": "while True:\n    pass\ndef f(x): return 0\n",
    "recursion without end": "def f(x):\n    return f(x)\n",
    "a number of ten million digits": "def f(x):\n    return 10 ** 10_000_000\n",
    "a regular expression that never ends": """
import re
def f(x):
    return bool(re.match('(a+)+$', 'a' * 64 + 'b'))
""",
    # --- reaching out ---
    "network": """
import socket
def f(x):
    socket.create_connection(('127.0.0.1', PORT), timeout=1).send(b'hello')
""",
    "names of the network": """
import socket
def f(x):
    return socket.getaddrinfo('a.example', 80)
""",
    "interfaces": """
import socket
def f(x):
    return [name for _, name in socket.if_nameindex() if name != 'lo'] or 0
""",
    "reading a file of the user": "def f(x):\n    return open('SECRET').read()\n",
    "reading home": "import os\ndef f(x):\n    return os.listdir(os.path.expanduser('~'))\n",
    "reading the passwords": "def f(x):\n    return open('/etc/passwd').read()\n",
    "environment": "import os\ndef f(x):\n    return dict(os.environ)\n",
    "environment in memory": """
import ctypes
def f(x):
    environ = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), 'environ')
    return [environ[n].decode() for n in range(1)]
""",
    "processes of the machine": "import os\ndef f(x):\n    return os.listdir('/proc')\n",
    "memory of the first process": "def f(x):\n    return open('/proc/1/mem', 'rb').read(16)\n",
    "writing outside": "def f(x):\n    open('OUTSIDE/x', 'w').write('x')\n",
    "writing into Python": """
import os
def f(x):
    open(os.path.join(os.path.dirname(os.__file__), 'x.py'), 'w').write('x')
""",
    "overwriting its own program": "def f(x):\n    open('/sandboxed.py', 'w').write('x')\n",
    "a symbolic link": """
import os
def f(x):
    os.symlink('SECRET', '/scratch/link')
    return open('/scratch/link').read()
""",
    "a hard link": "import os\ndef f(x):\n    os.link('SECRET', '/scratch/hard')\n",
    "the root above the root": "def f(x):\n    return open('/..' * 9 + 'SECRET').read()\n",
    # --- other processes, the kernel ---
    "killing the parent": "import os\ndef f(x):\n    os.kill(os.getppid(), 9)\n",
    "killing a process by number": "import os\ndef f(x):\n    os.kill(HOST_PID, 9)\n",
    "killing all": "import os\ndef f(x):\n    os.kill(-1, 9)\n",
    "ptrace": "import ctypes\ndef f(x):\n    return ctypes.CDLL(None).ptrace(16, 1, 0, 0)\n",
    "memory of another": """
import ctypes, os
def f(x):
    return ctypes.CDLL(None).process_vm_readv(os.getppid(), None, 0, None, 0, 0)
""",
    "a mount": """
import ctypes
def f(x):
    return ctypes.CDLL(None).mount(b'x', b'/scratch', b'proc', 0, 0)
""",
    "a namespace": "import ctypes\ndef f(x):\n    return ctypes.CDLL(None).unshare(0x10000000)\n",
    "a namespace by clone": """
import ctypes
def f(x):
    return ctypes.CDLL(None).syscall(NUMBER_OF_CLONE, 0x10000011, 0, 0, 0, 0)
""",
    "chroot": "import os\ndef f(x):\n    os.chroot('/scratch')\n",
    "becoming root": "import os\ndef f(x):\n    os.setuid(0)\n    return os.listdir('/root')\n",
    "keyrings, bpf, perf, io_uring": """
import ctypes
def f(x):
    libc = ctypes.CDLL(None)
    return [libc.syscall(n, 0, 0, 0, 0, 0) for n in (250, 321, 298, 425)]
""",
    "the clock": "import time\ndef f(x):\n    time.clock_settime(time.CLOCK_REALTIME, 0)\n",
    "a core dump": "import os\ndef f(x):\n    os.abort()\n",
    "an address that is not there": "import ctypes\ndef f(x):\n    return ctypes.string_at(0)\n",
    # --- cheating the judge ---
    "_exit before the tests": "import os\nos._exit(0)\ndef f(x): return 0\n",
    "exit before the tests": "import sys\nsys.exit(0)\ndef f(x): return 0\n",
    "exit in a test": "def f(x):\n    raise SystemExit(0)\n",
    "PASSED printed": "print('PASSED')\ndef f(x):\n    print('3 passed')\n",
    "equal to everything": """
class Equal:
    def __eq__(self, other): return True
    def __hash__(self): return 0
def f(x):
    return Equal()
""",
    "a number equal to everything": """
class Equal(int):
    def __eq__(self, other): return True
def f(x):
    return Equal(7)
""",
    "patched json": """
import json
json.dumps = lambda *a, **k: '{"call": 0, "value": true, "arguments": [0]}'
json.JSONEncoder.default = lambda self, value: True
def f(x):
    return object()
""",
    "patched builtins": """
import builtins
builtins.all = builtins.any = builtins.isinstance = lambda *a: True
builtins.len = lambda a: 0
def f(x):
    return None
""",
    "forged lines": """
import os
def f(x):
    for fd in range(64):
        for n in range(3):
            try:
                line = b'{"call": %d, "value": true, "arguments": [%d]}\\n' % (n, n)
                os.write(fd, b'{"loaded": true}\\n' + line)
            except OSError:
                pass
    return True
""",
    "looking for the answers": """
import gc, sys
def f(x):
    found, frame = [], sys._getframe()
    while frame:
        found.append(repr(frame.f_locals))
        frame = frame.f_back
    return found + [repr(o) for o in gc.get_objects() if isinstance(o, (dict, list))][:2000]
""",
    "a thread after the return": """
import threading
def spin():
    while True:
        pass
def f(x):
    threading.Thread(target=spin, daemon=False).start()
    return 0
""",
    "at exit": "import atexit, time\natexit.register(time.sleep, 600)\n" + RETURNS,
    "signals that do not end it": """
import signal, time
for number in range(1, 65):
    try:
        signal.signal(number, lambda *a: None)
    except (OSError, ValueError):
        pass
def f(x):
    while True:
        time.sleep(60)
""",
    "a process that stays": """
import os, time
def f(x):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    return 0
""",
    "a result of a million levels": """
def f(x):
    a = []
    for _ in range(10**6):
        a = [a]
    return a
""",
    "not a number": "def f(x):\n    return float('nan')\n",
}


@pytest.fixture(scope="module", params=list(sandboxes._COMMANDS))
def way(request):
    """Each way in that works here; of hostile programs the first, unless SANDBOX_WAYS is "all"."""
    if not works(request.param):
        pytest.skip(f"{request.param} does not contain the self-test on this machine")
    return request.param


@pytest.fixture
def hostile_way(way):
    if os.environ.get("SANDBOX_WAYS") != "all" and way != find_sandbox().name:
        pytest.skip(f"SANDBOX_WAYS=all runs them in {way} too")
    return way


def test_a_machine_that_gives_namespaces_has_a_sandbox():
    """Otherwise a fault of ours would only show as skipped tests."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--ipc", "--pid"]
    command += ["--fork", "mount", "-t", "tmpfs", "none", "/tmp"]
    try:
        given = subprocess.run(command, capture_output=True, timeout=30)
    except OSError as error:
        pytest.skip(f"unshare: {error}")
    if given.returncode != 0:
        pytest.skip(f"this machine gives no namespaces: {given.stderr.decode().strip()}")

    assert find_sandbox() is not None


def test_there_are_at_least_45_hostile_programs():
    assert len(PROGRAMS) >= 45


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hostile_program_reaches_nothing_and_is_judged_wrong(
    name, hostile_way, tmp_path, monkeypatch
):
    monkeypatch.setenv("SECRET_OF_THE_USER", SECRET)
    secret, outside = tmp_path / "secret", tmp_path / "outside"
    secret.write_text(SECRET)
    outside.mkdir()
    clone = {"x86_64": "56", "aarch64": "220"}[os.uname().machine]
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        source = PROGRAMS[name]
        for word, value in (
            ("SECRET", str(secret)),
            ("PORT", str(server.getsockname()[1])),
            ("HOST_PID", str(bystander.pid)),
            ("OUTSIDE", str(outside)),
            ("NUMBER_OF_CLONE", clone),
        ):
            source = source.replace(word, value)
        begin = time.monotonic()
        results = Sandbox(name=hostile_way, limits=LIMITS).run(source, "f", code.calls(CASE))
        took_s = time.monotonic() - begin
        verdict = code.judge(CASE, results)
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
        is_alive = bystander.poll() is None
        bystander.communicate(b"\n")

    assert verdict.verdict == "fail", verdict
    assert results.is_gone
    # The wall limit, one second to be gone, and one to start and to look.
    assert took_s < WALL_S + 2
    assert is_alive
    assert list(outside.iterdir()) == []
    assert secret.read_text() == SECRET
    told = json.dumps(results.calls)
    assert SECRET not in told
    assert str(RIGHT) not in told
    assert "root:" not in told


def test_a_right_function_passes_whatever_it_prints(way):
    source = f"print('hello')\ndef f(x):\n    print(x)\n    return {RIGHT} + x\n"

    results = Sandbox(name=way).run(source, "f", code.calls(CASE))

    assert code.judge(CASE, results).verdict == "pass"
    assert results.ended == "done"


def test_tests_before_the_one_that_hangs_are_counted(way):
    source = f"def f(x):\n    while x == 2:\n        pass\n    return {RIGHT} + x\n"

    verdict = code.judge(CASE, Sandbox(name=way, limits=LIMITS).run(source, "f", code.calls(CASE)))

    assert verdict.parts == {"passed": 2, "tests": 3}
    assert verdict.reason in ("timed_out", "exited")  # by the clock, or by the limit on CPU


def test_a_function_that_changes_its_argument_fails(way):
    expected = {"function": "f", "tests": [[[[3, 1]], [1, 3]]]}
    case = Case(**{**CASE.to_dict(), "expected": expected})
    source = "def f(x):\n    x.sort()\n    return x\n"

    verdict = code.judge(case, Sandbox(name=way).run(source, "f", code.calls(case)))

    assert verdict.reason == "mutated_input"


def test_a_set_has_the_same_order_in_every_run(way):
    source = "def f(x):\n    return list({'a', 'b', 'c', 'd', 'e', str(x)})\n"

    runs = [Sandbox(name=way).run(source, "f", [[1]]).calls for _ in range(3)]

    assert runs[0] == runs[1] == runs[2]


def test_the_standard_library_is_there_and_packages_are_not(way):
    source = """
import importlib
def f(name):
    try:
        return importlib.import_module(name).__name__
    except ImportError:
        return None
"""
    names = ["re", "datetime", "decimal", "heapq", "collections", "numpy", "cabochon"]

    results = Sandbox(name=way).run(source, "f", [[name] for name in names])

    assert [call["value"] for call in results.calls] == [*names[:5], None, None]


# --- without a sandbox ---------------------------------------------------------------------------


def test_code_is_not_executed_without_a_runner_or_a_sandbox():
    output = written(f"```python\ndef f(x):\n    return {RIGHT} + x\n```")

    alone, without = grade(CASE, output), code.run(CASE, output, None)

    assert (alone.verdict, alone.reason, alone.score) == ("not_executed", "not_run", None)
    assert (without.verdict, without.reason, without.score) == ("not_executed", "no_sandbox", None)


def test_a_machine_on_which_no_way_works_has_no_sandbox(monkeypatch):
    find_sandbox.cache_clear()
    monkeypatch.setattr(sandboxes, "works", lambda name: False)
    try:
        assert find_sandbox() is None
    finally:
        find_sandbox.cache_clear()


@pytest.mark.parametrize("broken", sandboxes._ATTEMPTS)
def test_a_way_that_lets_one_attempt_through_is_refused(broken, monkeypatch):
    found = dict.fromkeys(sandboxes._ATTEMPTS, True)
    told = [found]
    monkeypatch.setattr(
        Sandbox,
        "run",
        lambda *_: Results(ended="done", calls=({"value": told[0], "arguments": []},)),
    )
    assert works("bubblewrap")

    told[0] = {**found, broken: False}

    assert not works("bubblewrap")


def test_a_way_of_which_something_is_left_is_refused(monkeypatch):
    found = ({"value": dict.fromkeys(sandboxes._ATTEMPTS, True), "arguments": []},)
    monkeypatch.setattr(
        Sandbox, "run", lambda *_: Results(ended="done", calls=found, is_gone=False)
    )

    assert not works("bubblewrap")


def test_a_program_that_is_not_there_is_no_way(monkeypatch):
    monkeypatch.setattr(sandboxes.shutil, "which", lambda name: None)

    assert not works("bubblewrap")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_kills_what_it_lists_and_lets_the_rest_through(machine):
    """A small machine of its own reads the instructions, as the kernel would."""
    program = filter_program(machine)
    arch = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine]

    assert _judged(program, arch, {"x86_64": 101, "aarch64": 117}[machine]) == 0x80000000  # ptrace
    assert _judged(program, arch, {"x86_64": 0, "aarch64": 63}[machine]) == 0x7FFF0000  # read
    clone = {"x86_64": 56, "aarch64": 220}[machine]
    assert _judged(program, arch, clone, 0x11) == 0x7FFF0000  # a fork
    assert _judged(program, arch, clone, 0x10000011) == 0x80000000  # a namespace of users
    assert _judged(program, arch, 435) == 0x00050000 | 38  # clone3
    assert _judged(program, 0x40000003, 0) == 0x80000000  # 32 bits


def _judged(program: bytes, arch: int, number: int, first: int = 0) -> int:
    words = {0: number, 4: arch, 16: first}
    lines = [
        (int.from_bytes(program[at : at + 2], "little"), program[at + 2], program[at + 3],
         int.from_bytes(program[at + 4 : at + 8], "little"))
        for at in range(0, len(program), 8)
    ]  # fmt: skip
    at, value = 0, 0
    while True:
        code_, yes, no, k = lines[at]
        if code_ == 0x06:
            return k
        if code_ == 0x20:
            value, jump = words[k], 0
        else:
            holds = {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[code_]
            jump = yes if holds else no
        at += 1 + jump
