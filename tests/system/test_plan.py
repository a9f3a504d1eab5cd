"""`cabochon.plan`: what load would take, from headers alone."""

from __future__ import annotations

import ctypes
import inspect
import json
import mmap
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import cabochon
import tiny
from cabochon.errors import CheckpointError, InvalidArgument, OutOfMemory, Unsupported

CONFIGS = Path(__file__).parents[1] / "data" / "configs"
MODELS = ["gemma-4-E2B", "gemma-4-E4B", "gemma-4-12B", "gemma-4-26B-A4B", "gemma-4-31B"]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The five published models, full size, without a byte of weights."""
    folder = tmp_path_factory.mktemp("published")
    return {
        name: tiny.write_headers(folder / name, json.loads((CONFIGS / f"{name}.json").read_text()))
        for name in MODELS
    }


def resident_bytes(path: Path) -> int:
    """Bytes of a file that are in the page cache: mincore, without touching them."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    size = path.stat().st_size
    found = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    with path.open("rb") as file:
        address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
    place, length = ctypes.c_void_p(address), ctypes.c_size_t(size)
    assert libc.mincore(place, length, found) == 0
    assert libc.munmap(place, length) == 0
    return mmap.PAGESIZE * sum(value & 1 for value in bytes(found))


@pytest.mark.parametrize("weights", ["auto", "int8", "int4"])
def test_a_plan_reads_headers_and_a_sample_of_the_weights_at_most(
    published: dict[str, Path], weights: str
) -> None:
    folder = published["gemma-4-E2B"]

    plan = cabochon.plan(folder, weights=weights, memory_limit="64GiB")

    # The table and the embedding are known by their size: 9.3 GB of bf16 stand in the file.
    assert sum(row.parameters for row in plan.rows if row.name != "head") > 4.6e9
    # The system reads ahead of the header, some 100 KiB. To see codes of training, four places of
    # 4 KiB (2 pages) of each of 276 matrices are looked at: all of zeros here, so none ends early.
    assert resident_bytes(folder / "model.safetensors") < 2**24


def test_the_test_above_would_see_a_weight_that_is_read(published: dict[str, Path]) -> None:
    path = published["gemma-4-E4B"] / "model.safetensors"
    with path.open("rb") as file:
        file.seek(2**30)
        file.read(2**20)

    assert resident_bytes(path) >= 2**20


@pytest.mark.parametrize("name", MODELS)
def test_planned_bytes_of_int4_are_parameters_times_bits(
    published: dict[str, Path], name: str
) -> None:
    bits = {"int4": 4.5, "int8": 8.125, "bf16": 16, "f32": 32}

    plan = cabochon.plan(published[name], weights="int4", memory_limit="1GiB")

    for row in plan.rows:
        expected = row.parameters * bits[row.format] / 8
        # Vectors are padded to 64 bytes each; matrices of these models are whole panels.
        assert expected <= row.bytes <= expected * (1.01 if row.format == "f32" else 1)


def test_a_plan_is_what_load_makes_of_the_same_options(demo_folder: Path) -> None:
    options: dict[str, Any] = {
        "weights": "int4", "kv": "f32", "context": 200, "max_sequences": 3, "memory_limit": "1GiB",
    }  # fmt: skip

    planned = cabochon.plan(demo_folder, **options)
    with cabochon.load(demo_folder, **options) as model:
        loaded = model.plan
        allocated = model._parts.engine.memory()

    assert planned.measured == {}
    assert loaded.measured == allocated
    assert {**planned.to_dict(), "measured": allocated} == loaded.to_dict()
    assert sum(allocated.values()) == planned.device_bytes


@pytest.mark.parametrize("options", [{}, {"threads": 2}])
def test_threads_are_planned_for_as_load_counts_them(
    demo_folder: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setenv("CABOCHON_THREADS", "5")

    planned = cabochon.plan(demo_folder)
    with cabochon.load(demo_folder, **options) as model:
        loaded = model.plan

    assert loaded.measured["scratch"] == loaded.scratch_bytes
    # Every thread takes as much: three fewer of them take less.
    assert (loaded.scratch_bytes < planned.scratch_bytes) == ("threads" in options)


def shrunk(config: dict[str, Any]) -> dict[str, Any]:
    """The same model with 7 layers, an eighth of the width and 2,048 tokens; heads, windows, rings
    and the shares of layers are its own."""
    text = dict(config["text_config"])
    kinds = [*text["layer_types"][:6], "full_attention"]
    text |= {"num_hidden_layers": 7, "layer_types": kinds, "vocab_size": 2048}
    text |= {"hidden_size": text["hidden_size"] // 8}
    text |= {"intermediate_size": text["intermediate_size"] // 8}
    if text.get("hidden_size_per_layer_input"):
        text |= {"num_kv_shared_layers": 1, "vocab_size_per_layer_input": 2048}
    if text.get("enable_moe_block"):
        text |= {"num_experts": 16}
    return config | {"text_config": text}


@pytest.mark.parametrize("context", [500, 8192, 131_072])
@pytest.mark.parametrize("weights", ["bf16", "int8", "int4"])
@pytest.mark.parametrize("name", MODELS)
def test_what_a_model_allocates_is_what_was_planned(
    tmp_path: Path, name: str, weights: str, context: int
) -> None:
    config = json.loads((CONFIGS / f"{name}.json").read_text())
    folder = tiny.write_headers(tmp_path / "model", shrunk(config))
    options: dict[str, Any] = {"weights": weights, "context": context, "max_sequences": 2}

    plan = cabochon.plan(folder, **options)
    with cabochon.load(folder, **options) as model:
        measured = model.plan.measured

    assert plan.sequences_that_fit >= 2
    assert measured["kv"] == plan.kv_bytes > 0
    assert measured["scratch"] == plan.scratch_bytes
    assert measured["mapped"] == plan.mapped_bytes
    assert measured["weights"] == plan.host_bytes - plan.kv_bytes - plan.scratch_bytes


def test_plan_takes_the_options_of_load_with_their_defaults() -> None:
    ours = inspect.signature(cabochon.plan).parameters
    theirs = inspect.signature(cabochon.load).parameters

    assert set(ours) >= {"weights", "kv", "context", "max_sequences", "per_layer_embeddings"}
    for name in ours:
        assert ours[name].default == theirs[name].default, name
        assert ours[name].kind == theirs[name].kind, name


def test_a_plan_that_does_not_fit_is_a_result_with_advice_that_load_follows(
    demo_folder: Path,
) -> None:
    one = cabochon.plan(demo_folder, max_sequences=1, context=512)
    limit = one.device_bytes - 1

    plan = cabochon.plan(demo_folder, max_sequences=1, context=512, memory_limit=limit)

    assert not plan.fits and plan.sequences_that_fit == 0
    words, _, needs = plan.advice[0].partition(": ")
    assert words.startswith("context=") and needs.startswith("needs ")
    with pytest.raises(OutOfMemory) as caught:
        cabochon.load(demo_folder, max_sequences=1, context=512, memory_limit=limit)
    assert caught.value.plan.to_dict() == plan.to_dict()
    assert plan.advice[0] in str(caught.value)
    keywords = {"max_sequences": 1, "context": int(words.removeprefix("context="))}
    cabochon.load(demo_folder, memory_limit=limit, **keywords).close()


def test_every_advice_names_options_whose_plan_says_the_same(published: dict[str, Path]) -> None:
    folder = published["gemma-4-12B"]

    plan = cabochon.plan(folder, kv="f32", memory_limit="15GiB")

    assert len(plan.advice) >= 2
    for said in plan.advice:
        words, _, _ = said.partition(": ")
        keywords = {"kv": "f32"} | eval(f"dict({words})", {})
        assert cabochon.plan(folder, memory_limit="15GiB", **keywords).fits, said


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"weights": "int3"}, InvalidArgument, "weights is 'int3'"),
        ({"contex": 5}, InvalidArgument, "did you mean context"),
        ({"threads": 2}, InvalidArgument, "plan: unknown keyword 'threads'"),
        ({"context": 10_000_000}, InvalidArgument, "expected at most"),
        ({"drafter": "auto"}, Unsupported, "drafter is to come"),
    ],
)
def test_a_plan_refuses_what_load_refuses(
    demo_folder: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        cabochon.plan(demo_folder, **options)


def test_a_file_that_ends_before_its_weights_is_refused(tmp_path: Path) -> None:
    folder = tiny.write_headers(tmp_path, tiny.MODELS["gemma3"].config)
    path = folder / "model.safetensors"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)

    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        cabochon.plan(folder)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cabochon", "plan", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_command_prints_the_plan_and_ends_with_4_where_it_does_not_fit(
    published: dict[str, Path],
) -> None:
    folder = str(published["gemma-4-E4B"])
    options = ("--weights", "int4", "--context", "32768", "--max-sequences", "2")

    fits = command(folder, *options, "--memory-limit", "16GiB")
    does_not = command(folder, *options, "--memory-limit", "3GiB")
    parsed = json.loads(command(folder, *options, "--memory-limit", "16GiB", "--json").stdout)

    assert fits.returncode == 0, fits.stderr
    assert "2 sequences of 32,768 tokens: fits" in fits.stdout
    assert does_not.returncode == 4
    assert "does not fit" in does_not.stdout
    assert (fits.stderr, does_not.stderr) == ("", "")
    assert parsed["fits"] is True
    assert parsed["sequences_that_fit"] >= 2
