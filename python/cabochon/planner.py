"""What a model takes and what there is, before anything is read.

The bytes come from the engine's own code, so what is planned is what is allocated.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from . import _core
from .display import size
from .errors import OutOfMemory
from .types import Plan, PlanRow

_STEP = _core.PAGE_POSITIONS  # largest_context is a multiple of it


def make_plan(
    plan_memory: Callable[[int], _core.MemoryPlan],
    *,
    context: int,
    checkpoint_context: int,
    max_sequences: int,
    available_bytes: int,
) -> Plan:
    """The plan for `context` tokens a sequence; `plan_memory` is the engine's, by context."""
    memory = plan_memory(context)

    def left_after(plan: _core.MemoryPlan) -> int:
        return available_bytes - plan.weight_bytes - plan.scratch_bytes - plan.mapped_bytes

    def fits(plan: _core.MemoryPlan) -> bool:
        return plan.kv_bytes_per_sequence <= left_after(plan)

    sequences = max(0, left_after(memory) // max(1, memory.kv_bytes_per_sequence))
    kv_bytes = memory.kv_bytes_per_sequence * max(1, min(max_sequences, sequences))
    anonymous = memory.weight_bytes + memory.scratch_bytes + kv_bytes
    return Plan(
        rows=tuple(
            PlanRow(name=name, format=kind, parameters=parameters, bytes=size, place=place)
            for name, kind, parameters, size, place in memory.rows
        ),
        device_bytes=anonymous + memory.mapped_bytes,
        host_bytes=anonymous,
        mapped_bytes=memory.mapped_bytes,
        kv_bytes=kv_bytes,
        kv_bytes_per_token=memory.kv_bytes_per_token,
        scratch_bytes=memory.scratch_bytes,
        available_bytes=available_bytes,
        fits=fits(memory),
        sequences_that_fit=sequences,
        largest_context=_largest(lambda tokens: fits(plan_memory(tokens)), checkpoint_context),
    )


def _largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest context up to `most` that fits, in whole pages; 0 if none does."""
    if fits(most):
        return most
    low, high = 0, -(-most // _STEP)  # in pages: low fits (or is none), high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle * _STEP) else (low, middle)
    return low * _STEP


def check_fits(plan: Plan, *, name: str, context: int) -> None:
    """Refuses a load for which not even one full-length sequence fits.

    Raises:
        OutOfMemory: with the plan.
    """
    if plan.fits:
        return
    needed = plan.host_bytes + plan.mapped_bytes
    weights = plan.host_bytes - plan.kv_bytes - plan.scratch_bytes + plan.mapped_bytes
    advice = (
        f"load with context={plan.largest_context}"
        if plan.largest_context
        else "no context fits: it takes a smaller model or a machine with more memory"
    )
    raise OutOfMemory(
        f"{name} needs {size(needed)}: weights {size(weights)}, KV {size(plan.kv_bytes)} "
        f"(1 sequence of {context:,} tokens), scratch {size(plan.scratch_bytes)}; "
        f"{size(plan.available_bytes)} is available: {advice}",
        plan=plan,
    )


def available_bytes(memory_limit: int | None) -> int:
    """The least of free memory, what the control groups leave, and the caller's limit."""
    bounds = [_free_bytes(), *_cgroup_bytes()]
    if memory_limit is not None:
        bounds.append(memory_limit)
    return max(0, min(bounds))


def _free_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """MemAvailable: free, or cached and free to be dropped."""
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{meminfo}: no MemAvailable line, expected one (Linux 3.14 and newer)")


def _cgroup_bytes(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[int]:
    """What this process's control groups (both versions) leave, one number for each that limits.

    Cached file pages count as free: the system drops them first.
    """
    found = []
    for line in _lines(groups):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, limit, usage = root, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base, limit, usage = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        folder = base / path.strip("/")
        while folder.is_relative_to(base):
            bound, used = _number(folder / limit), _number(folder / usage)
            if bound is not None and used is not None:
                found.append(bound - used + _cached_bytes(folder / "memory.stat"))
            folder = folder.parent
    return found


def _cached_bytes(stat: Path) -> int:
    values = dict(line.split() for line in _lines(stat))
    return sum(int(values.get(key, 0)) for key in ("active_file", "inactive_file"))


def _number(path: Path) -> int | None:
    """None where there is no such file, or no limit in it."""
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
