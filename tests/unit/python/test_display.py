"""Bars appear only where somebody looks; tables escape what they show."""

from __future__ import annotations

import io
import sys
import time

import pytest

from cabochon import display
from cabochon.display import Bar
from cabochon.types import LayerInfo, ModelInfo, Plan, PlanRow, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def plan() -> Plan:
    return Plan(
        rows=(PlanRow(name="<mlp>", format="bf16", parameters=1000, bytes=2000, place="mapped"),),
        device_bytes=3 * 2**30, host_bytes=2**30, mapped_bytes=2**31, kv_bytes=2**29,
        kv_bytes_per_token=100, scratch_bytes=2**20, available_bytes=2**33, fits=True,
        sequences_that_fit=4, largest_context=131_072,
    )  # fmt: skip


def test_no_bar_is_drawn_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(display, "_DELAY_S", 0.0)

    with Bar("load", "B", None) as bar:
        bar.update(5, 10)

    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar_for_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(display, "_DELAY_S", 0.02)

    with Bar("load", "B", None) as bar:
        bar.update(1, 10)
        assert stream.getvalue() == ""
        time.sleep(0.03)
        bar.update(5, 10)

    assert "load" in stream.getvalue()
    assert "50%" in stream.getvalue()


def test_false_means_no_bar_and_true_means_one_in_any_case(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with Bar("quiet", "B", False) as bar:
        bar.update(1, 1)
    assert stream.getvalue() == ""
    with Bar("loud", "B", True) as bar:
        bar.update(1, 1)
    assert "loud" in stream.getvalue()


def test_a_callable_gets_progress_at_most_ten_times_a_second_and_the_last_one() -> None:
    seen: list[Progress] = []

    with Bar("prompt", "tokens", seen.append) as bar:
        for done in range(1001):
            bar.update(done, 1000)

    assert len(seen) <= 2
    assert (seen[-1].stage, seen[-1].unit, seen[-1].done, seen[-1].total) == (
        "prompt", "tokens", 1000, 1000,
    )  # fmt: skip
    assert seen[-1].rate > 0
    assert seen[-1].eta_s == 0.0


def test_a_callable_that_fails_is_heard() -> None:
    def refuse(progress: Progress) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"), Bar("load", "B", refuse) as bar:
        bar.update(1, 1)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0.0 KiB"), (1536, "1.5 KiB"), (2**20, "1.0 MiB"), (3 * 2**29, "1.5 GiB")],
)
def test_bytes_are_shown_in_powers_of_two(count: int, text: str) -> None:
    assert display.size(count) == text


def test_a_plan_is_a_table_with_its_sum() -> None:
    lines = plan().table().splitlines()

    assert lines[0].split() == ["class", "format", "parameters", "size", "place"]
    assert lines[1].split() == ["<mlp>", "bf16", "1,000", "2.0", "KiB", "mapped"]
    assert "1.0 GiB anonymous and 2.0 GiB mapped; 8.0 GiB is available: fits" in lines[-1]


def test_a_loaded_plan_shows_allocated_bytes_beside_planned_ones_part_by_part() -> None:
    from dataclasses import replace

    measured = {"weights": 2**28, "mapped": 2**31, "kv": 2**29, "scratch": 2**20}

    lines = replace(plan(), measured=measured).table().splitlines()

    assert lines[-5].split() == ["part", "planned", "allocated"]
    # 1 GiB anonymous, less 0.5 GiB of KV and 1 MiB of scratch.
    assert lines[-4].split() == ["weights", "0.5", "GiB", "0.2", "GiB"]
    assert lines[-1].split() == ["scratch", "1.0", "MiB", "1.0", "MiB"]


def test_html_tables_escape_their_cells() -> None:
    found = plan()._repr_html_()

    assert "&lt;mlp&gt;" in found
    assert "<mlp>" not in found
    assert "<script" not in found


def test_info_has_one_row_a_layer_and_says_whose_kv_it_reads() -> None:
    layer = {"heads": 8, "kv_heads": 1, "head_dim": 256, "ffn": 6144, "experts": ""}
    info = ModelInfo(
        name="m", family="gemma4", parameters=5, modalities=("text",), template=None,
        formats={"mlp": "bf16"}, activations="f32", kv="bf16", tier="scalar", arithmetic="exact",
        numerics=1, files=("f",), threads=2, device="cpu", device_reason="this build has no other",
        context=512, vocab_size=9,
        config_defaults=("rms_norm_eps",), config_ignored=("x",), memory={"kv": 2**20},
        int4_blocks={"exact": 1234, "nearest_scale": 5, "rounded": 0},
        layers=(
            LayerInfo(layer=0, kind="sliding", window=512, kv_from=0, **layer),
            LayerInfo(layer=1, kind="global", window=0, kv_from=0, **layer),
        ),
    )  # fmt: skip

    lines = str(info).splitlines()

    assert lines[-2].split() == ["0", "sliding", "8/1", "256", "512", "6144", "own"]
    assert lines[-1].split() == ["1", "global", "8/1", "256", "all", "6144", "0"]
    assert "none (base model)" in str(info)
    assert "rms_norm_eps" in str(info)
    assert "1,234 exact, 5 nearest scale\n" in str(info)
    assert info._repr_html_().count("<tr>") == len(lines) - 2 + 1
