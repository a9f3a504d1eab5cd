"""Models of random shape: the same bits however they are computed, and the reference's numbers."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cabochon
import tiny
from cabochon import _core
from reference import decoder
from reference.bounds import float32_error

# Every kind has its feature; the others are drawn.
KINDS = ("per-layer inputs", "shared keys", "values from keys", "experts", "gemma3")
every_kind = pytest.mark.parametrize("kind", KINDS)
# The same models every time: a failure belongs to a change, not to a day.
same_every_time = settings(
    max_examples=12, derandomize=True, deadline=None, database=None, print_blob=False
)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is drawn; a failing test prints it."""

    family: str
    layers: int
    pattern: int  # every so many layers one is global
    vocab: int
    hidden: int
    ffn: int
    window: int
    groups: int  # heads that share a kv head
    kv_heads: int
    head_dim: int
    softcap: float | None
    seed: int
    # Of gemma4, and 0 or False in the others.
    global_head_dim: int = 0
    global_kv_heads: int = 0  # above 0: values come from keys in global layers
    shared: int = 0  # layers that read another's keys and values
    double_wide: bool = False
    per_layer_width: int = 0
    experts: int = 0
    top_k: int = 0
    expert_ffn: int = 0

    def config(self) -> tiny.Config:
        keys: dict[str, Any] = {
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "intermediate_size": self.ffn,
            "sliding_window": self.window,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "final_logit_softcapping": self.softcap,
        }
        # Heads that every count of kv heads divides.
        keys["num_attention_heads"] = self.groups * math.lcm(
            self.kv_heads, self.global_kv_heads or 1
        )
        if self.family == "gemma3":
            scaling = {"factor": 8.0, "rope_type": "linear"}
            return tiny.gemma3_text(
                layers=self.layers, pattern=self.pattern, query_pre_attn_scalar=self.head_dim,
                rope_scaling=scaling, **keys,
            )  # fmt: skip
        keys["global_head_dim"] = self.global_head_dim
        if self.global_kv_heads:
            keys |= {
                "attention_k_eq_v": True, "num_global_key_value_heads": self.global_kv_heads,
            }  # fmt: skip
        if self.experts:
            keys |= {
                "enable_moe_block": True, "num_experts": self.experts,
                "top_k_experts": self.top_k, "moe_intermediate_size": self.expert_ffn,
            }  # fmt: skip
        return tiny.gemma4_text(
            layers=self.layers, pattern=self.pattern, num_kv_shared_layers=self.shared,
            use_double_wide_mlp=self.double_wide, hidden_size_per_layer_input=self.per_layer_width,
            **keys,
        )  # fmt: skip


# Multiples of 32 can be packed; of them some end in the middle of a block of 128 or of a tile.
WIDTHS = st.sampled_from([44, 32, 64, 96, 128, 160, 192, 288])
HEAD_DIMS = st.sampled_from([8, 16, 18, 32, 48, 64])


@st.composite
def shapes(draw: st.DrawFn, kind: str) -> Shape:
    layers, pattern = draw(st.integers(2, 5)), draw(st.integers(2, 3))
    more: dict[str, Any] = {}
    if kind == "shared keys":
        # A layer of each type with keys of its own comes before the first without.
        layers = max(layers, pattern + 1)
        more["shared"] = draw(st.integers(1, layers - pattern))
        more["double_wide"] = draw(st.booleans())
    if kind != "gemma3":
        more["global_head_dim"] = draw(HEAD_DIMS)
        if kind == "per-layer inputs" or draw(st.booleans()):
            more["per_layer_width"] = draw(st.sampled_from([12, 32]))
        if kind == "values from keys" or draw(st.booleans()):
            more["global_kv_heads"] = draw(st.integers(1, 3))
        if kind == "experts" or draw(st.booleans()):
            more["experts"] = draw(st.integers(2, 12))
            more["top_k"] = draw(st.integers(1, min(4, more["experts"])))
            more["expert_ffn"] = draw(st.sampled_from([20, 32, 96, 160]))
    return Shape(
        family="gemma3" if kind == "gemma3" else "gemma4",
        layers=layers,
        pattern=pattern,
        vocab=draw(st.sampled_from([260, 289, 4133])),
        hidden=draw(WIDTHS),
        ffn=draw(WIDTHS),
        window=draw(st.integers(3, 70)),
        groups=draw(st.integers(1, 4)),
        kv_heads=draw(st.integers(1, 3)),
        head_dim=draw(HEAD_DIMS),
        softcap=draw(st.sampled_from([None, 30.0])),
        seed=draw(st.integers(0, 1000)),
        **more,
    )


@contextlib.contextmanager
def written(shape: Shape, dtype: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield tiny.write_checkpoint(Path(folder) / "model", shape.config(), shape.seed, dtype)


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """The core reads both variables when a model is loaded."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


def ids_of(shape: Shape, count: int, seed: int = 0) -> list[int]:
    ids: list[int] = np.random.default_rng([count, seed]).integers(3, shape.vocab, count).tolist()
    return ids


def same_bits(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32], way: str) -> None:
    # As bits: 0.0 == -0.0 would pass.
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32), err_msg=way)


@every_kind
@same_every_time
@given(data=st.data())
def test_logits_are_the_same_bits_however_they_are_computed(kind: str, data: st.DataObject) -> None:
    shape = data.draw(shapes(kind), "shape")
    dtype = data.draw(st.sampled_from(["bf16", "bf16", "f32"]), "dtype")
    weights = data.draw(st.sampled_from(["auto", "int8", "int4"]), "weights")
    kv = data.draw(st.sampled_from(["f32", "bf16", "int8"]), "kv")
    count = data.draw(st.integers(2, 80), "tokens")
    ids = ids_of(shape, count)
    options: dict[str, Any] = {"weights": weights, "kv": kv, "context": 128}

    with written(shape, dtype) as folder:
        with cabochon.load(folder, threads=1, **options) as model:
            expected = model.logits(ids)

        for tier in _core.usable_tiers():
            with (
                environment(CABOCHON_CPU_TIER=tier),
                cabochon.load(folder, threads=2, **options) as model,
            ):
                assert model.info().tier == tier
                same_bits(model.logits(ids), expected, f"tier {tier}, 2 threads")

        with cabochon.load(folder, threads=2, **options) as model:
            before, after = ids_of(shape, 9, seed=1), ids_of(shape, 33, seed=2)
            same_bits(model.logits([before, ids, after])[1], expected, "second of a batch")
            same_bits(model.logits(ids, positions="last"), expected[-1:], "last row alone")
            some = sorted({0, count // 2})
            same_bits(model.logits(ids, positions=some), expected[some], "some rows alone")
            for chunk in (1, 7):
                model._scheduler.chunk_tokens = chunk
                same_bits(model.logits(ids), expected, f"chunks of {chunk}")
                last = model.logits(ids, positions="last")
                same_bits(last, expected[-1:], f"last row alone, chunks of {chunk}")

        if weights != "auto":
            cache = folder / "cache"
            for state in ("cold", "warm"):
                with (
                    environment(CABOCHON_CACHE=str(cache)),
                    cabochon.load(folder, threads=2, **options) as model,
                ):
                    same_bits(model.logits(ids), expected, f"{state} cache of packed weights")
                assert any(cache.iterdir())


@every_kind
@same_every_time
@given(data=st.data())
def test_logits_agree_with_the_reference_in_float64(kind: str, data: st.DataObject) -> None:
    shape = data.draw(shapes(kind), "shape")
    dtype = data.draw(st.sampled_from(["bf16", "f32"]), "dtype")
    count = data.draw(st.integers(1, 80), "tokens")
    ids = ids_of(shape, count)

    with written(shape, dtype) as folder:
        with cabochon.load(folder, kv="f32", context=128) as model:
            found = model.logits(ids)
        expected = decoder.logits(folder, ids)

    bound = float32_error(shape.config(), float(np.abs(expected).max()))
    assert np.abs(found - expected).max() <= bound
