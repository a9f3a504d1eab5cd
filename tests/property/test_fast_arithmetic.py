"""load(arithmetic="fast"): other bits, but still a row's own, and those of bf16 activations."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cabochon
import tiny
from cabochon import _core
from cabochon.errors import Unsupported
from reference.bounds import float32_error
from reference.decoder import Decoder

needs_it = pytest.mark.skipif(
    not _core.has_fast_arithmetic(), reason="needs a CPU with vdpbf16ps (avx512bf16)"
)
every_model = pytest.mark.parametrize("name", tiny.MODELS)


def prompt(name: str, count: int, seed: int = 0) -> list[int]:
    vocab = tiny.text_config(tiny.MODELS[name].config)["vocab_size"]
    ids: list[int] = np.random.default_rng([count, seed]).integers(3, vocab, count).tolist()
    return ids


def same_bits(found: Any, expected: Any) -> None:
    # As bits: 0.0 == -0.0 would pass.
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


@pytest.fixture(scope="module")
def model_of(tiny_checkpoint: Callable[[str], Path]) -> Iterator[Callable[..., Any]]:
    def load(name: str, threads: int = 2, arithmetic: str = "fast", **options: Any) -> Any:
        folder = tiny_checkpoint(name)
        return cabochon.load(folder, threads=threads, arithmetic=arithmetic, **options)

    yield functools.cache(load)


@needs_it
@pytest.mark.parametrize("chunk", [1, 2, 7, 64])
@every_model
def test_logits_are_the_same_for_every_chunking_and_number_of_threads(
    name: str, chunk: int, model_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = prompt(name, 70)
    whole = model_of(name).logits(ids)

    for threads in (1, 2):
        model = model_of(name, threads)
        monkeypatch.setattr(model._scheduler, "chunk_tokens", chunk)
        same_bits(model.logits(ids), whole)


@needs_it
@every_model
def test_logits_are_the_same_alone_and_in_a_batch(name: str, model_of: Callable[..., Any]) -> None:
    model = model_of(name)
    prompts = [prompt(name, count) for count in (1, 33, 70, 5, 64)]

    together = model.logits(prompts)

    for ids, found in zip(prompts, together, strict=True):
        same_bits(found, model.logits(ids))


class Rounding(np.ndarray):
    """A matrix that rounds to bf16 what it is multiplied with from the left. Rows looked up in a
    table are plain."""

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return np.asarray(found) if self.ndim == 2 else found

    def __rmatmul__(self, x: Any) -> Any:
        bits = np.asarray(x, np.float32).view(np.uint32)
        bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
        return bits.view(np.float32).astype(np.float64) @ np.asarray(self)


@needs_it
@every_model
def test_all_matrices_but_routers_meet_rows_rounded_to_bf16(
    name: str, model_of: Callable[..., Any], tiny_checkpoint: Callable[[str], Path]
) -> None:
    model = model_of(name, kv="f32")
    exact, rounding = Decoder(tiny_checkpoint(name)), Decoder(tiny_checkpoint(name))
    for key, tensor in rounding.tensors.items():
        if tensor.ndim > 1 and not key.endswith("router.proj.weight"):
            rounding.tensors[key] = tensor.view(Rounding)

    prompts = [prompt(name, 2, seed) for seed in range(25)]
    found = [model.logits(ids) for ids in prompts]

    def distances(decoder: Decoder) -> np.ndarray:
        pairs = zip(prompts, found, strict=True)
        logits = [(decoder.head(decoder.states(ids)[-1]), ours) for ids, ours in pairs]
        return np.array([np.abs(theirs - ours).max() for theirs, ours in logits])

    # A prompt is as near as float32 sums are; or these moved a number across the middle of two bf16
    # ones, and all that comes after it is rounded anew. 9,000 to 16,000 numbers are rounded, each
    # moved so with a chance of 2^-16 to 2^-15: a few 2^-24 of itself, of a spacing of 2^-8 to 2^-7.
    # That is fewer than half of the prompts. A path that rounds too often or not at all is in all
    # of them, and two tokens meet every matrix, with attention between them.
    bound = float32_error(
        tiny.MODELS[name].config, max(float(np.abs(logits).max()) for logits in found)
    )
    assert np.median(distances(rounding)) <= bound
    assert distances(exact).min() > 10 * bound


@needs_it
def test_what_is_computed_how_stands_in_info_and_manifest(model_of: Callable[..., Any]) -> None:
    fast, exact = model_of("gemma3"), model_of("gemma3", arithmetic="exact")
    results = [model.generate(prompt("gemma3", 5), max_tokens=1) for model in (fast, exact)]

    assert [result.manifest.arithmetic for result in results] == ["fast", "exact"]
    assert [model.info().arithmetic for model in (fast, exact)] == ["fast", "exact"]
    assert [model.info().activations for model in (fast, exact)] == ["bf16", "f32"]
    assert fast.info().tier == exact.info().tier == "avx512"


@needs_it
@pytest.mark.parametrize("weights", ["auto", "int4"])
@pytest.mark.parametrize("name", ["e_type", "moe"])
def test_the_plan_knows_the_memory_of_rounded_rows(
    name: str, weights: str, model_of: Callable[..., Any]
) -> None:
    model = model_of(name, weights=weights)
    model.logits(prompt(name, 70))

    memory = model.info().memory

    assert memory["scratch"] == model.plan.scratch_bytes


@needs_it
def test_packed_weights_are_the_same_file(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for arithmetic in ("exact", "fast"):
        monkeypatch.setenv("CABOCHON_CACHE", str(tmp_path / arithmetic))
        cabochon.load(tiny_checkpoint("e_type"), weights="int4", arithmetic=arithmetic).close()
        (file,) = (path for path in (tmp_path / arithmetic).rglob("*") if path.is_file())
        found[arithmetic] = (file.name, file.read_bytes())

    assert found["fast"] == found["exact"]


@needs_it
def test_a_forced_tier_that_lacks_the_instruction_is_an_error(
    tiny_checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CABOCHON_CPU_TIER", "avx2")

    with pytest.raises(Unsupported, match=r"arithmetic='fast': CABOCHON_CPU_TIER is 'avx2', exp"):
        cabochon.load(tiny_checkpoint("gemma3"), arithmetic="fast")


def test_arithmetics_that_nobody_knows_are_an_error(
    tiny_checkpoint: Callable[[str], Path],
) -> None:
    with pytest.raises(cabochon.errors.InvalidArgument, match=r"'exact', 'fast'"):
        cabochon.load(tiny_checkpoint("gemma3"), arithmetic="quick")
