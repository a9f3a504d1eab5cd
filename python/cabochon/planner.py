"""What a model takes and what there is, before weights are read: `plan`, and how `load` begins.

The bytes come from the engine's own code, so what is planned is what is allocated. Advice is found
by planning again with other options: what it names was computed, by the same code.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import _core
from .checkpoint import Shards, read_json, read_shards
from .config import ModelConfig, read_config
from .display import size
from .errors import CheckpointError, InvalidArgument, OutOfMemory, Unsupported
from .hub import find_here, read_headers
from .options import DefaultContext, LoadOptions, check_load, context_for, integer, refuse_unknown
from .packed_cache import root
from .policy import CLASSES
from .types import Plan, PlanRow

_ROWS = 256  # tokens of one step, at least
_STEP = _core.PAGE_POSITIONS  # largest_context is a multiple of it
_OF_LOAD_ALONE = {"threads": None, "arithmetic": "exact", "allow_custom_template": False}

# Keywords of load that can take less memory; what changes answers least comes first.
_SMALLER: tuple[dict[str, str], ...] = (
    {"per_layer_embeddings": "disk"},
    {"kv": "bf16"},
    {"kv": "int8"},
    {"weights": "int8"},
    {"weights": "int8", "kv": "int8"},
    {"weights": "int4"},
    {"weights": "int4", "per_layer_embeddings": "disk"},
    {"weights": "int4", "kv": "bf16"},
    {"weights": "int4", "kv": "int8"},
    {"weights": "int4", "kv": "int8", "per_layer_embeddings": "disk"},
)


def plan(
    path_or_id: str | os.PathLike[str],
    *,
    weights: str | Mapping[str, str] = "auto",
    kv: str = "auto",
    device: str = "auto",
    context: int = DefaultContext(8192),
    max_sequences: int = 16,
    per_layer_embeddings: str = "auto",
    adapter: str | os.PathLike[str] | Mapping[str, str] | None = None,
    drafter: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    memory_limit: int | str | None = None,
    **unknown: Any,
) -> Plan:
    """What `load` with these options would take, and what to change where that is too much.

    Reads config.json and the headers of the safetensors files. Of the weights only a few blocks of
    each matrix are read, to see whether they were trained in int4, and no memory is taken. Threads
    are counted as load counts them: CABOCHON_THREADS, else the cores. A plan that does not fit is a
    result and no error.

    A hub id whose files are not here is planned from config.json, the index and the headers, which
    are fetched (some 100 KB, `Plan.fetched_bytes`); nothing is written, and `Plan.download_bytes`
    says what `load` would fetch. Whether matrices were trained in int4 cannot be seen then: they
    are planned as if not, and the last advice says so.

    Args:
        path_or_id: as `load` takes it; weights are never downloaded.
        weights, kv, device, context, max_sequences, per_layer_embeddings, adapter, drafter: as
            `load` takes them, with its defaults.
        revision, memory_limit: the same.

    Returns:
        The plan; `fits` says whether load would accept it, `advice` what to change.

    Raises:
        CheckpointError: a file is damaged, missing or contradicts another; or a hub id that there
            is not, or that may not be read.
        DeviceError: headers must be fetched and the network failed.
        InvalidArgument: an option is out of range or unknown, or needs a cache where
            CABOCHON_CACHE is empty.
        MissingExtra: headers must be fetched and huggingface_hub is not installed.
        Unsupported: right, but not for this build.
    """
    given = {**locals()}
    for name in ("path_or_id", "unknown"):
        del given[name]
    refuse_unknown("plan", unknown, given)
    options = check_load(given | _OF_LOAD_ALONE)
    folder = find_here(path_or_id, revision=options.revision)
    if folder is not None:
        config = read_config(read_json(folder / "config.json"))
        return plan_load(config, read_shards(folder), options).plan
    found = read_headers(os.fspath(path_or_id), revision=options.revision)
    return replace(
        plan_load(read_config(found.config), found.shards, options).plan,
        download_bytes=found.download_bytes,
        fetched_bytes=found.fetched_bytes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """A plan, and the sizes of an engine that keeps to it."""

    plan: Plan
    memory: _core.MemoryPlan
    checkpoint: _core.Checkpoint
    context: int  # tokens of one sequence
    lattices: tuple[str, ...]  # tensors that were trained in int4 and keep their codes
    max_rows: int  # tokens of one step
    threads: int
    sequences: int  # computed together; 0 where it does not fit


def plan_load(config: ModelConfig, shards: Shards, options: LoadOptions) -> LoadPlan:
    """What loading this checkpoint with these options takes; raises what `plan` raises."""
    if options.weights == "bf16" and any(entry[1] == "F32" for entry in shards.entries):
        raise Unsupported(
            "load: weights='bf16' of a float32 checkpoint is to come; weights='auto' computes "
            "with float32"
        )
    checkpoint = _core.Checkpoint(
        list(shards.paths), list(shards.entries), sizes=None if shards.is_here else shards.sizes
    )
    max_rows = max(_ROWS, options.max_sequences)
    context = context_for(options.context, config.context)
    available = available_bytes(options.memory_limit)
    threads = _threads(options.threads)

    @functools.cache
    def lattices(classes: frozenset[str]) -> tuple[str, ...]:
        if not shards.is_here:  # only the numbers tell: see _unseen
            return ()
        return tuple(_core.find_lattices(checkpoint, config.plan, set(classes)))

    def memory(options: LoadOptions, tokens: int) -> _core.MemoryPlan:
        return _core.memory_plan(
            checkpoint,
            config.plan,
            formats=options.formats,
            kv=options.kv,
            context=tokens,
            max_rows=max_rows,
            threads=threads,
            per_layer_table=options.per_layer_table,
            lattices=lattices(options.exact_classes),
        )

    def planned(options: LoadOptions) -> Plan:
        _check_codes(config, shards, options)
        if memory(options, 1).table_bytes and root() is None:
            raise InvalidArgument(
                "load: per_layer_embeddings='disk' needs a file for a per_layer_table in "
                f"{options.formats['per_layer_table']}, and CABOCHON_CACHE is empty, which means "
                "no cache: set it to a folder, or load with per_layer_embeddings='memory', or "
                "leave the table in bf16, whose rows are read from the checkpoint",
                argument="per_layer_embeddings",
            )
        return make_plan(
            lambda tokens: memory(options, tokens),
            context=context_for(options.context, config.context),
            checkpoint_context=config.context,
            max_sequences=options.max_sequences,
            available_bytes=available,
        )

    def planned_with(keywords: Mapping[str, Any]) -> Plan | None:
        try:
            return planned(options.changed(**keywords))
        except (Unsupported, InvalidArgument):
            return None

    found = planned(options)
    said = (
        *advise(found, planned_with, context=context, max_sequences=options.max_sequences),
        *(() if shards.is_here else _unseen(config, shards, options, planned_with)),
    )
    return LoadPlan(
        plan=replace(found, advice=said),
        memory=memory(options, context),
        checkpoint=checkpoint,
        context=context,
        lattices=lattices(options.exact_classes),
        max_rows=max_rows,
        threads=threads,
        sequences=min(options.max_sequences, found.sequences_that_fit),
    )


def _unseen(
    config: ModelConfig,
    shards: Shards,
    options: LoadOptions,
    planned_with: Callable[[Mapping[str, Any]], Plan | None],
) -> Iterator[str]:
    """What a plan from headers alone does not know: whether matrices are on a lattice of int4."""
    is_stored = config.int4_codes or all(entry[1] != "BF16" for entry in shards.entries)
    if is_stored or not options.exact_classes:
        return
    trained = dict.fromkeys(("attention", "mlp", "experts"), "int4")  # the others may be, too
    most = planned_with({"weights": trained}) if options.weights == "auto" else None
    yield (
        "from headers alone: whether bf16 matrices were trained in int4 is seen in their numbers, "
        "which are not here. If they were (-qat-q4_0-unquantized), load keeps their codes and needs"
        + (" less" if most is None else f" at most {size(most.device_bytes)}")
    )


def _threads(asked: int | None) -> int:
    """What was asked for, else CABOCHON_THREADS, else the cores that there are."""
    if asked is not None:
        return asked
    text = os.environ.get("CABOCHON_THREADS")
    if text is None:
        return _core.default_threads()
    return integer("CABOCHON_THREADS", int(text) if text.isdigit() else text, 1, 1024)


def _check_codes(config: ModelConfig, shards: Shards, options: LoadOptions) -> None:
    """config.json and the tensors agree about int4 codes, and such codes can be what is asked."""
    names = [entry[0] for entry in shards.entries if entry[0].endswith("_packed")]
    if config.int4_codes and not names:
        raise CheckpointError(
            "config.json: quantization_config says that matrices are stored as codes, but no "
            f"tensor is (of {len(shards.entries):,} none ends in _packed): is it that of these "
            "files?",
            file="config.json",
            key="quantization_config",
        )
    if names and not config.int4_codes:
        raise CheckpointError(
            f"config.json: quantization_config is missing, but {names[0]} and {len(names) - 1:,} "
            "other tensors hold codes: what they stand for is not said",
            file="config.json",
            tensor=names[0],
            key="quantization_config",
        )
    widened = sorted({*CLASSES} - {"head"} - options.exact_classes)
    if config.int4_codes and widened:
        raise Unsupported(
            f"load: weights={options.weights!r} asks for another format of {', '.join(widened)} "
            "than int4, but this checkpoint stores int4 codes: 'auto' and 'int4' keep them exactly;"
            " for bf16 or int8 load the bf16 checkpoint of the same model"
        )


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


def advise(
    plan: Plan,
    planned_with: Callable[[Mapping[str, Any]], Plan | None],
    *,
    context: int,
    max_sequences: int,
) -> tuple[str, ...]:
    """What fits, and where that is less than was asked for, what would; the best first.

    Args:
        plan: of what was asked for.
        planned_with: the plan with some keywords of load changed; None where load refuses them.
        context, max_sequences: that were asked for.
    """
    if plan.sequences_that_fit >= max_sequences:
        left = plan.available_bytes - plan.device_bytes
        return (
            f"{_sequences(max_sequences)} of {context:,} tokens: fits, {size(left)} stay free; a "
            f"sequence alone may have {plan.largest_context:,} tokens",
        )
    if plan.fits:
        said = (
            f"{plan.sequences_that_fit} of {_sequences(max_sequences)} of {context:,} tokens are "
            "computed together, the others wait their turn"
        )
        return (said, *_more_at_once(plan, planned_with, context, max_sequences))
    return tuple(_instead(plan, planned_with, context))


def _more_at_once(
    plan: Plan,
    planned_with: Callable[[Mapping[str, Any]], Plan | None],
    context: int,
    max_sequences: int,
) -> Iterator[str]:
    """Changes with which more sequences are computed together, until all are."""
    for share in (2, 4, 8):
        shorter = planned_with({"context": max(1, context // share)})
        if shorter is not None and shorter.sequences_that_fit >= max_sequences:
            yield f"context={max(1, context // share)}: all {max_sequences} together"
            break
    most = plan.sequences_that_fit
    for keywords in _SMALLER:
        other = planned_with(keywords)
        if other is None or other.sequences_that_fit <= most:
            continue
        most = other.sequences_that_fit
        yield f"{_words(keywords)}: {min(most, max_sequences)} together"
        if most >= max_sequences:
            return


def _instead(
    plan: Plan, planned_with: Callable[[Mapping[str, Any]], Plan | None], context: int
) -> Iterator[str]:
    """Changes with which one sequence fits; where there are none, how much is missing."""

    def shorter(keywords: Mapping[str, Any], largest: int) -> str:
        changed = {**keywords, "context": largest}
        other = planned_with(changed)
        assert other is not None, "the same keywords gave a plan before"
        return f"{_words(changed)}: needs {size(other.device_bytes)}"

    smallest, smallest_keywords = plan, dict[str, str]()
    # A context that is much shorter than wanted is worse advice than other formats.
    is_near = 4 * plan.largest_context >= context
    if is_near:
        yield shorter({}, plan.largest_context)
    is_found = is_near
    for keywords in _SMALLER:
        other = planned_with(keywords)
        if other is None or other.device_bytes >= smallest.device_bytes:
            continue
        smallest, smallest_keywords = other, keywords
        if other.fits:
            is_found = True
            yield (
                f"{_words(keywords)}: needs {size(other.device_bytes)}, "
                f"{_sequences(other.sequences_that_fit)} of {context:,} tokens together"
            )
    if plan.largest_context and not is_near:
        is_found = True
        yield shorter({}, plan.largest_context)
    if not is_found and smallest.largest_context:
        is_found = True
        yield shorter(smallest_keywords, smallest.largest_context)
    if not is_found:
        missing = size(smallest.device_bytes - smallest.available_bytes)
        with_what = f" with {_words(smallest_keywords)}" if smallest_keywords else ""
        yield (f"no context fits{with_what}: it takes {missing} more memory, or a smaller model")


def _words(keywords: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in keywords.items())


def _sequences(count: int) -> str:
    return f"{count:,} sequence{'' if count == 1 else 's'}"


def check_fits(plan: Plan, *, name: str, context: int) -> None:
    """Refuses a load for which not even one full-length sequence fits.

    Raises:
        OutOfMemory: with the plan; its message names the first advice.
    """
    if plan.fits:
        return
    weights = plan.device_bytes - plan.kv_bytes - plan.scratch_bytes
    advice = plan.advice[0]
    raise OutOfMemory(
        f"{name} needs {size(plan.device_bytes)}: weights {size(weights)}, KV "
        f"{size(plan.kv_bytes)} (1 sequence of {context:,} tokens), scratch "
        f"{size(plan.scratch_bytes)}; {size(plan.available_bytes)} is available: "
        f"{advice if advice.startswith('no ') else f'load with {advice}'}",
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
