"""The program of a sandbox: what sandbox.py starts. Imports the standard library alone.

    launch CONFIG   builds namespaces with a root of its own, then runs `inside` there
    inside          takes limits and a system call filter on itself, then runs foreign code

`inside` reads one JSON request from stdin (source, function, calls: lists of arguments, limits) and
writes lines of JSON to stdout: {"loaded": true} once the source ran, then for each call {"call":
its number, "value": ..., "arguments": as they are after it}, or {"call": ..., "error": ...}.
Nothing that is written here is believed: the judge is outside, and knows the right values alone.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import signal
import struct
import sys
from typing import Any, NoReturn

# --- the system call filter ----------------------------------------------------------------------

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Numbers on x86_64 and aarch64 of calls that kill: privileges, other processes' memory, mounts,
# namespaces, modules, keyrings, clocks, and what the kernel was attacked through before.
_KILLED = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "pidfd_getfd": (438, 438), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "swapon": (167, 224), "swapoff": (168, 225),
    "reboot": (169, 142), "sethostname": (170, 161), "setdomainname": (171, 162),
    "init_module": (175, 105), "delete_module": (176, 106), "finit_module": (313, 273),
    "quotactl": (179, 60), "acct": (163, 89), "settimeofday": (164, 170), "adjtimex": (159, 171),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264), "syslog": (103, 116), "personality": (135, 92),
    "fanotify_init": (300, 262),
}  # fmt: skip
_CLONE = (56, 220)
_CLONE3 = (435, 435)
_PIVOT_ROOT = _KILLED["pivot_root"]
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
_NAMESPACES = 0x7E020000
_KILL, _ALLOW, _NO_SUCH_CALL = 0x80000000, 0x7FFF0000, 0x00050000 | 38


def filter_program(machine: str) -> bytes:
    """Instructions of classic BPF, 8 bytes each, that judge every system call of a process.

    Raises:
        KeyError: a machine whose numbers of system calls are not known here.
    """
    column = list(_AUDIT_ARCH).index(machine) if machine in _AUDIT_ARCH else -1
    arch = _AUDIT_ARCH[machine]
    load, jump_equal, jump_least, jump_any, give = 0x20, 0x15, 0x35, 0x45, 0x06

    def line(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    lines = [line(load, 4), line(jump_equal, arch, 1, 0), line(give, _KILL), line(load, 0)]
    if machine == "x86_64":  # the numbers of x32, another way to the same calls
        lines += [line(jump_least, 0x40000000, 0, 1), line(give, _KILL)]
    for numbers in _KILLED.values():
        lines += [line(jump_equal, numbers[column], 0, 1), line(give, _KILL)]
    # Its flags stand behind a pointer, which no filter follows; libraries fall back to clone.
    lines += [line(jump_equal, _CLONE3[column], 0, 1), line(give, _NO_SUCH_CALL)]
    lines += [
        line(jump_equal, _CLONE[column], 0, 3),
        line(load, 16),  # the low half of the first argument: flags
        line(jump_any, _NAMESPACES, 0, 1),
        line(give, _KILL),
        line(give, _ALLOW),
    ]
    return b"".join(lines)


# --- inside --------------------------------------------------------------------------------------


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _prctl(option: int, *arguments: int) -> None:
    longs = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    _check(_libc().prctl(option, *longs), f"prctl {option}")


_PDEATHSIG, _SECCOMP, _CAPBSET_DROP, _NO_NEW_PRIVS = 1, 22, 24, 38


def _drop_capabilities() -> None:
    for capability in range(64):
        try:
            _prctl(_CAPBSET_DROP, capability)
        except OSError:
            break  # past the last one, or without the right to drop any
    _check(_libc().capset(struct.pack("II", 0x20080522, 0), bytes(24)), "capset")


def _filter() -> None:
    program = filter_program(platform.machine())
    lines = ctypes.create_string_buffer(program, len(program))
    packed = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(lines))
    head = ctypes.create_string_buffer(packed, len(packed))
    _prctl(_NO_NEW_PRIVS, 1)
    _prctl(_SECCOMP, 2, ctypes.addressof(head))


def _limit(limits: dict[str, int]) -> None:
    for name, value in (
        ("CPU", limits["cpu_s"]),
        ("AS", limits["memory_bytes"]),
        ("NPROC", limits["processes"]),
        ("FSIZE", limits["file_bytes"]),
        ("NOFILE", limits["files"]),
        ("CORE", 0),
        ("MEMLOCK", 0),
        ("MSGQUEUE", 0),
    ):
        kind = getattr(resource, f"RLIMIT_{name}")
        resource.setrlimit(kind, (value, value))


def inside() -> NoReturn:
    """Runs the code of the request, and ends the process."""
    request = json.loads(sys.stdin.buffer.read())
    results = os.dup(1)
    nothing = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    os.close(nothing)
    _drop_capabilities()
    _limit(request["limits"])
    _filter()
    _call_all(request, results)
    os._exit(0)  # without handlers at exit, and without waiting for threads


def _call_all(request: dict[str, Any], results: int) -> None:
    # Kept here: the code may patch what modules hold.
    dumps, write = json.dumps, os.write

    def say(**line: Any) -> None:
        write(results, dumps(line, allow_nan=False).encode() + b"\n")

    names: dict[str, Any] = {"__name__": "answer", "__builtins__": __builtins__}
    try:
        exec(compile(request["source"], "answer", "exec"), names)
        function = names[request["function"]]
    except BaseException as error:
        say(error=type(error).__name__)
        return
    say(loaded=True)
    for number, given in enumerate(request["calls"]):
        try:
            value = function(*given)
        except BaseException as error:
            say(call=number, error=type(error).__name__)
            continue
        try:
            say(call=number, value=value, arguments=given)
        except (TypeError, ValueError, RecursionError):
            say(call=number, error="not_json")


# --- launch --------------------------------------------------------------------------------------

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 32, 4096, 16384, 1 << 18


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    texts = [None if text is None else text.encode() for text in (source, target, kind)]
    result = _libc().mount(*texts, ctypes.c_ulong(flags), data.encode())
    _check(result, f"mount {target}")


def _bind(path: str, target: str, *, is_device: bool = False) -> None:
    """Shows a file or folder at a place of the new root, read-only unless it is a device."""
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    _mount(path, target, None, _MS_BIND | _MS_REC)
    if not is_device:
        # What the mount was restricted by must stay: the kernel locks it.
        kept = os.statvfs(target).f_flag & (_MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
        flags = _MS_BIND | _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV
        _mount(None, target, None, flags | kept)


def _make_root(config: dict[str, Any]) -> None:
    root, shown = config["root"], config["shown"]
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", root, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,mode=755")
    for path, target in config["links"]:
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        os.symlink(target, root + path)
    for path in shown:
        _bind(path, root + path)
    for path in config["hidden"]:
        _mount("tmpfs", root + path, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_RDONLY, "size=4k")
    program, place = config["program"]
    _bind(program, root + place)
    _bind("/dev/null", root + "/dev/null", is_device=True)
    scratch = config["scratch"]
    os.makedirs(root + scratch)
    size = f"size={config['tmpfs_bytes']},mode=1777"
    _mount("tmpfs", root + scratch, "tmpfs", _MS_NOSUID | _MS_NODEV, size)
    _mount(None, root, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
    os.chdir(root)
    number = _PIVOT_ROOT[list(_AUDIT_ARCH).index(platform.machine())]
    _check(_libc().syscall(number, b".", b"."), "pivot_root")
    _check(_libc().umount2(b".", 2), "umount2")  # MNT_DETACH: the root of before is gone
    os.chdir(scratch)


def launch(config: dict[str, Any]) -> int:
    """Runs `inside` in namespaces of its own; gives its exit status.

    Three processes: this one, which maps users; the first of the new process namespace, with which
    all others die; and the one that runs the code.
    """
    _prctl(_PDEATHSIG, signal.SIGKILL)
    ready, mapped = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        _prctl(_PDEATHSIG, signal.SIGKILL)
        _check(_libc().unshare(_NAMESPACES), "unshare")
        os.write(ready[1], b".")
        if os.read(mapped[0], 1) != b".":
            os._exit(1)
        _in_namespaces(config)
    os.close(ready[1])
    if os.read(ready[0], 1) == b".":
        user, group = os.geteuid(), os.getegid()
        # Limits on processes do not bind root, not even inside: there it becomes nobody.
        nobody = "1 65534 1\n" if user == 0 else ""
        if user != 0:
            _write(f"/proc/{child}/setgroups", "deny")
        _write(f"/proc/{child}/uid_map", f"0 {user} 1\n{nobody}")
        _write(f"/proc/{child}/gid_map", f"0 {group} 1\n{nobody}")
        os.write(mapped[1], b".")
    os.close(mapped[1])
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _in_namespaces(config: dict[str, Any]) -> NoReturn:
    first = os.fork()
    if first:  # outside of the new process namespace still
        os._exit(abs(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])))
    _prctl(_PDEATHSIG, signal.SIGKILL)
    if config["is_root"]:
        os.setgroups([])
    _make_root(config)
    worker = os.fork()
    if worker == 0:
        os.setsid()
        if config["is_root"]:
            os.setresgid(1, 1, 1)
            os.setresuid(1, 1, 1)
        os.execve(config["command"][0], config["command"], {"PYTHONHASHSEED": "0"})
    while True:  # the first process adopts what others leave behind
        ended, status = os.wait()
        if ended == worker:
            os._exit(abs(os.waitstatus_to_exitcode(status)))


if __name__ == "__main__":
    if sys.argv[1] == "launch":
        sys.exit(launch(json.loads(sys.argv[2])))
    inside()
