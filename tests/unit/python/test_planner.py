"""What there is, read from the system's own files; and plans made of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("cabochon._core")
from cabochon import planner
from cabochon.errors import OutOfMemory

MIB = 2**20


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_free_memory_is_what_the_system_calls_available(tmp_path: Path) -> None:
    write(tmp_path / "meminfo", "MemTotal: 100 kB\nMemFree: 5 kB\nMemAvailable:   64 kB\n")

    assert planner._free_bytes(tmp_path / "meminfo") == 64 * 1024


def test_every_control_group_above_the_process_limits_it(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    write(tmp_path / "self", "0::/outer/inner\n")
    write(root / "outer/memory.max", f"{100 * MIB}\n")
    write(root / "outer/memory.current", f"{70 * MIB}\n")
    write(root / "outer/memory.stat", f"anon 5\nactive_file {MIB}\ninactive_file {2 * MIB}\n")
    write(root / "outer/inner/memory.max", "max\n")
    write(root / "outer/inner/memory.current", "5\n")

    found = planner._cgroup_bytes(tmp_path / "self", root)

    # Of 70 MiB in use, 3 are cached file pages that the system drops first.
    assert found == [33 * MIB]


def test_control_groups_of_version_1_are_read_too(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    write(tmp_path / "self", "5:cpu,cpuacct:/a\n4:memory:/box\n")
    write(root / "memory/box/memory.limit_in_bytes", f"{10 * MIB}\n")
    write(root / "memory/box/memory.usage_in_bytes", f"{4 * MIB}\n")

    assert planner._cgroup_bytes(tmp_path / "self", root) == [6 * MIB]


def test_a_machine_without_control_groups_has_no_such_limit(tmp_path: Path) -> None:
    assert planner._cgroup_bytes(tmp_path / "nowhere", tmp_path) == []


def test_the_smallest_bound_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "_free_bytes", lambda: 100)
    monkeypatch.setattr(planner, "_cgroup_bytes", lambda: [70, 80])

    assert planner.available_bytes(None) == 70
    assert planner.available_bytes(60) == 60
    assert planner.available_bytes(90) == 70


def memory(context: int, kept: int = 0) -> Any:
    """1,000 bytes of weights, half of them mapped; 10 bytes a token."""
    return SimpleNamespace(
        rows=[("mlp", "bf16", 500, 1000, "mapped")],
        weight_bytes=500,
        mapped_bytes=500,
        scratch_bytes=100,
        kv_bytes_per_token=10,
        kv_bytes_per_sequence=10 * context,
        kept_ring_bytes=kept,
    )


def plan(available: int, *, context: int = 128, sequences: int = 4) -> Any:
    return planner.make_plan(
        memory,
        context=context,
        checkpoint_context=1000,
        max_sequences=sequences,
        available_bytes=available,
    )


def test_a_plan_counts_as_many_sequences_as_fit_and_no_more_than_asked() -> None:
    room = 1100 + 3 * 1280

    assert plan(room).sequences_that_fit == 3
    assert plan(room).kv_bytes == 3 * 1280
    assert plan(room - 1).sequences_that_fit == 2
    assert plan(10**6).kv_bytes == 4 * 1280
    assert plan(room).host_bytes == 500 + 100 + 3 * 1280
    assert plan(room).mapped_bytes == 500
    assert plan(room).device_bytes == 1100 + 3 * 1280


@pytest.mark.parametrize(
    ("room", "sequences", "kv_bytes"),
    [(1280 + 70, 4, 1350), (1280 + 69, 4, 1280), (9999, 1, 1350), (9999, 2, 2560), (1279, 1, 1280)],
)
def test_one_sequence_alone_keeps_the_ring_of_a_prompts_end_where_there_is_room(
    room: int, sequences: int, kv_bytes: int
) -> None:
    found = planner.make_plan(
        lambda tokens: memory(tokens, kept=70),
        context=128,
        checkpoint_context=1000,
        max_sequences=sequences,
        available_bytes=1100 + room,
    )

    assert found.kv_bytes == kv_bytes
    assert found.fits == (room >= 1280)
    assert found.sequences_that_fit == room // 1280


@pytest.mark.parametrize(
    ("available", "largest"),
    [(10**6, 1000), (1100 + 9600, 960), (1100 + 9599, 896), (1100 + 640, 64), (1100, 0)],
)
def test_the_largest_context_is_the_largest_that_fits(available: int, largest: int) -> None:
    found = plan(available)

    assert found.largest_context == largest
    assert found.fits == (available >= 1100 + 1280)


def advised(available: int, *, context: int = 128, sequences: int = 4, **others: int) -> list[str]:
    """Advice where load takes a context, kv='int8' (half the KV) and weights=; sizes of weights."""

    def planned_with(keywords: Any) -> Any:
        if not set(keywords) <= {"context", "kv", "weights"} or keywords.get("kv") == "bf16":
            return None
        weights = others.get(keywords.get("weights", "as stored"), 1000)
        share = 5 if "kv" in keywords else 10

        def memory_with(tokens: int) -> Any:
            found = memory(tokens)
            found.weight_bytes, found.mapped_bytes = weights, 0
            found.kv_bytes_per_sequence = share * tokens
            return found

        return planner.make_plan(
            memory_with,
            context=keywords.get("context", context),
            checkpoint_context=1000,
            max_sequences=sequences,
            available_bytes=available,
        )

    found = plan(available, context=context, sequences=sequences)
    return list(planner.advise(found, planned_with, context=context, max_sequences=sequences))


def test_what_fits_says_what_stays_free_and_how_long_one_sequence_may_be() -> None:
    (said,) = advised(1100 + 4 * 1280 + 1024)

    assert said == (
        "4 sequences of 128 tokens: fits, 1.0 KiB stay free; a sequence alone may have 576 tokens"
    )


def test_fewer_sequences_than_asked_come_with_what_lets_more_run() -> None:
    said = advised(1100 + 2 * 1280, int8=900, int4=500)

    assert said == [
        "2 of 4 sequences of 128 tokens are computed together, the others wait their turn",
        "context=64: all 4 together",
        "kv='int8': 4 together",
    ]


@pytest.mark.parametrize(
    ("available", "sizes", "first"),
    [
        # Half of the context that was asked for is near enough to come before other formats.
        (1800, {}, "context=64: needs 1.7 KiB"),
        (1400, {"int8": 0}, "weights='int8': needs 1.3 KiB, 1 sequence of 128 tokens together"),
        (1300, {"int4": 500}, "weights='int4', kv='int8': needs 1.2 KiB, 1 sequence of 128"),
        (1000, {"int4": 500}, "weights='int4', kv='int8', context=64: needs 0.9 KiB"),
        (600, {"int4": 500}, "no context fits with weights='int4', kv='int8': it takes 0.6 KiB"),
    ],
)
def test_what_does_not_fit_says_what_would_the_best_first(
    available: int, sizes: dict[str, int], first: str
) -> None:
    assert advised(available, **sizes)[0].startswith(first)


def test_a_load_that_does_not_fit_is_refused_with_the_first_advice() -> None:
    from dataclasses import replace

    refused = replace(plan(1100 + 700), advice=("context=64: needs 1.7 KiB", "kv='int8': more"))

    with pytest.raises(OutOfMemory, match=r"load with context=64: needs 1\.7 KiB$") as caught:
        planner.check_fits(refused, name="m", context=128)
    assert caught.value.plan is refused
    with pytest.raises(OutOfMemory, match=r"is available: no context fits"):
        planner.check_fits(replace(refused, advice=("no context fits",)), name="m", context=128)
    planner.check_fits(plan(1100 + 1280), name="m", context=128)
