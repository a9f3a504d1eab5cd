"""Checkpoints whose header is sound and whose tensors are not what the plan asks for."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

import cabochon
import tiny
from cabochon.errors import CheckpointError

_spec = importlib.util.spec_from_file_location(
    "hostile_make", Path(__file__).parents[1] / "data" / "hostile" / "make.py"
)
hostile = importlib.util.module_from_spec(_spec)
sys.modules["hostile_make"] = hostile
_spec.loader.exec_module(hostile)

NORM = "model.language_model.layers.1.input_layernorm.weight"
QUERY = "model.language_model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def folder(tiny_checkpoint, tmp_path):
    return Path(shutil.copytree(tiny_checkpoint("e_type"), tmp_path / "model"))


@pytest.mark.parametrize("tensor", [NORM, QUERY])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("missing_tensor", ["missing", "expected ["]),
        ("wrong_shape", ["found shape [", "expected ["]),
        ("wrong_dtype", ["found type ", "expected BF16, F16 or F32"]),
    ],
)
def test_a_tensor_that_does_not_fit_the_plan_is_named_with_both_values(
    folder, change, words, tensor
):
    getattr(hostile, change)(folder, tensor)

    with pytest.raises(CheckpointError) as caught:
        cabochon.load(folder)

    assert caught.value.tensor == tensor
    for word in [tensor, *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("model.language_model.layers.1.self_attn.q_proj.bias", "no part of this model"),
        ("model.language_model.layers.99.input_layernorm.weight", "no part of this model"),
        ("lm_head.weight", "head"),
        ("pre_projection.weight", "drafter"),
    ],
)
def test_a_tensor_that_nobody_asked_for_is_refused_by_name(folder, name, advice):
    hostile.unknown_tensor(folder, name)

    with pytest.raises(CheckpointError, match=advice) as caught:
        cabochon.load(folder)

    assert caught.value.tensor == name


@pytest.mark.parametrize(
    "name",
    [
        "model.vision_tower.std_bias",
        "model.audio_tower.output_proj.bias",
        "model.embed_vision.embedding_projection.weight",
        "model.language_model.layers.11.self_attn.k_proj.weight",  # a shared layer's
    ],
)
def test_towers_and_unused_keys_of_shared_layers_are_recognised(tmp_path, name):
    folder = tiny.write(tmp_path, "e_type", unused_kv=False)
    hostile.unknown_tensor(folder, name)

    with cabochon.load(folder) as model:
        assert model.logits([3, 4]).shape == (2, model.vocab_size)


@pytest.mark.parametrize("dtype", ["f16", "f32"])
def test_other_float_types_are_read(tmp_path, dtype):
    with cabochon.load(tiny.write(tmp_path / dtype, "e_type", dtype=dtype), kv="f32") as model:
        logits = model.logits([3, 4, 5])
    with cabochon.load(tiny.write(tmp_path / "bf16", "e_type"), kv="f32") as model:
        # The drawn weights are rounded to each type: near, and not equal.
        assert abs(logits - model.logits([3, 4, 5])).max() < 3


def test_a_sharded_checkpoint_gives_the_same_bits_as_one_file(tmp_path):
    one = cabochon.load(tiny.write(tmp_path / "one", "moe"))
    many = cabochon.load(tiny.write(tmp_path / "many", "moe", shards=3))

    assert (one.logits([3, 4, 5]) == many.logits([3, 4, 5])).all()
