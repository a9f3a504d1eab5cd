"""The bits of a row depend on its own tokens alone: not on threads, neighbours or chunks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny

CheckpointOf = Callable[[str], Path]
every_model = pytest.mark.parametrize("name", tiny.MODELS)


def prompt(name: str, count: int, seed: int = 0) -> list[int]:
    vocab = tiny.text_config(tiny.MODELS[name].config)["vocab_size"]
    return np.random.default_rng([count, seed]).integers(3, vocab, count).tolist()


def same_bits(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> None:
    # As bits: 0.0 == -0.0 would pass.
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def computing_all(model: Any) -> Any:
    """Without reuse of what an earlier call computed: each compares whole runs."""
    model._scheduler.cache.is_reusing = False
    return model


@pytest.fixture(scope="module")
def model_of(tiny_checkpoint: CheckpointOf) -> Iterator[Callable[..., Any]]:
    import cabochon

    load = functools.cache(
        lambda name, threads, kv: computing_all(
            cabochon.load(tiny_checkpoint(name), threads=threads, kv=kv)
        )
    )
    yield load


@pytest.mark.parametrize("kv", ["f32", "bf16"])
@every_model
def test_logits_are_the_same_for_one_and_two_threads(
    name: str, kv: str, model_of: Callable[..., Any]
) -> None:
    ids = prompt(name, 70)

    one = model_of(name, 1, kv).logits(ids)
    two = model_of(name, 2, kv).logits(ids)

    same_bits(one, two)


@pytest.mark.parametrize("kv", ["f32", "bf16"])
@every_model
def test_logits_are_the_same_alone_and_in_a_batch(
    name: str, kv: str, model_of: Callable[..., Any]
) -> None:
    model = model_of(name, 2, kv)
    prompts = [prompt(name, count) for count in (1, 33, 70, 5, 64)]

    together = model.logits(prompts)

    for ids, found in zip(prompts, together, strict=True):
        same_bits(found, model.logits(ids))


@pytest.mark.parametrize("chunk", [1, 7, 64])
@pytest.mark.parametrize("kv", ["f32", "bf16"])
@every_model
def test_logits_are_the_same_for_every_chunking(
    name: str, kv: str, chunk: int, model_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(name, 2, kv)
    ids = prompt(name, 70)
    whole = model.logits(ids)

    monkeypatch.setattr(model._scheduler, "chunk_tokens", chunk)
    in_chunks = model.logits(ids)

    same_bits(in_chunks, whole)


@pytest.fixture(scope="module", params=["auto", "int4"])
def experts_model(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Any]:
    """Small, for tests with hundreds of passes, and with experts: rows that come together share
    those. A step has as many rows as sequences, so that chunks of 512 are possible."""
    import cabochon

    config = tiny.gemma4_text(
        layers=3, pattern=2, enable_moe_block=True, num_experts=6, top_k_experts=2,
        moe_intermediate_size=32, vocab_size=264, hidden_size=64, intermediate_size=160,
        sliding_window=20, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
        global_head_dim=32,
    )  # fmt: skip
    folder = tiny.write_checkpoint(tmp_path_factory.mktemp("experts"), config, 21)
    with cabochon.load(
        folder, weights=request.param, threads=2, max_sequences=512, context=640
    ) as model:
        yield computing_all(model)


def test_a_sequence_is_the_same_in_batches_of_1_to_16(experts_model: Any) -> None:
    prompts = [prompt("moe", 3 + 2 * seed, seed) for seed in range(16)]
    options = {"max_tokens": 5, "temperature": 0, "ignore_stops": True, "logprobs": 2}
    alone = [experts_model.generate(ids, **options) for ids in prompts]

    for count in range(1, 17):
        together = experts_model.generate(prompts[:count], **options)

        for one, other in zip(alone, together, strict=False):
            np.testing.assert_array_equal(one.token_ids, other.token_ids)
            same_bits(one.top_logprobs, other.top_logprobs)


def test_a_row_is_the_same_after_a_chunk_of_1_to_512(
    experts_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = prompt("moe", 515)
    monkeypatch.setattr(experts_model._scheduler, "chunk_tokens", 512)
    whole = experts_model.logits(ids)

    for chunk in range(1, 513):
        monkeypatch.setattr(experts_model._scheduler, "chunk_tokens", chunk)
        last = chunk + 2  # the last of three rows behind the chunk: it reads what the chunk stored

        found = experts_model.logits(ids[: last + 1], positions="last")

        same_bits(found, whole[[last]])


@every_model
def test_a_row_is_the_same_when_it_is_wanted_alone(name: str, model_of: Callable[..., Any]) -> None:
    model = model_of(name, 2, "bf16")
    ids = prompt(name, 70)
    every = model.logits(ids)

    same_bits(model.logits(ids, positions="last"), every[-1:])
    same_bits(model.logits(ids, positions=[0, 41]), every[[0, 41]])


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    name=st.sampled_from(sorted(tiny.MODELS)),
    counts=st.lists(st.integers(1, 90), min_size=1, max_size=6),
    chunk=st.integers(1, 100),
    threads=st.sampled_from([1, 2]),
    output=st.integers(1, 8),
)
def test_drawn_tokens_do_not_depend_on_batch_chunk_or_threads(
    name: str,
    counts: list[int],
    chunk: int,
    threads: int,
    output: int,
    model_of: Callable[..., Any],
) -> None:
    prompts = [prompt(name, count, seed) for seed, count in enumerate(counts)]
    options = {"max_tokens": output, "ignore_stops": True, "logprobs": 3}
    alone = [
        model_of(name, 1, "bf16").generate(ids, seed=seed, **options)
        for seed, ids in enumerate(prompts)
    ]

    model = model_of(name, threads, "bf16")
    before, model._scheduler.chunk_tokens = model._scheduler.chunk_tokens, chunk
    together = model.generate(prompts, seed=range(len(prompts)), **options)
    model._scheduler.chunk_tokens = before

    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.token_ids, other.token_ids)
        same_bits(one.logprobs, other.logprobs)
        same_bits(one.top_logprobs, other.top_logprobs)
