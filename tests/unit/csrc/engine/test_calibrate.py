"""Second moments of what every matrix multiplies, against the float64 reference."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cabochon
import tiny
from cabochon import _core
from cabochon._core import testing
from cabochon.checkpoint import read_json, read_shards
from cabochon.config import read_config
from cabochon.errors import CheckpointError
from reference import decoder

TOKENS = 32
SEED = 0x6361626F63686F6E
LEAST = np.float32(2.0**-20)
# float32 activations are off by up to 1e-4 of their size (docs/numerics.md), their squares by twice
# that; a router that is nearly undecided does not occur in these models.
TOLERANCE = 3e-4


@pytest.fixture(scope="module")
def wide_checkpoint(tmp_path_factory) -> Callable[[str], Path]:
    """A model of `tiny.MODELS` all of whose rows are a multiple of 32 long, so that all pack."""

    def write(name: str, **keys) -> Path:
        config = copy.deepcopy(tiny.MODELS[name].config)
        text = tiny.text_config(config)
        text |= {"hidden_size": 64, "intermediate_size": 96}
        if text.get("enable_moe_block"):
            text["moe_intermediate_size"] = 32
        folder = tmp_path_factory.mktemp(name)
        return tiny.write_checkpoint(folder, config, tiny.MODELS[name].seed, **keys)

    return write


class Watched(np.ndarray):
    """A matrix that keeps what it is multiplied with."""

    def __array_finalize__(self, source):
        self.seen = getattr(source, "seen", None)

    def __array_ufunc__(self, ufunc, method, *inputs, **keywords):
        if ufunc is np.matmul and isinstance(inputs[1], Watched):
            inputs[1].seen.append(np.asarray(inputs[0]))
        plain = [np.asarray(x) if isinstance(x, Watched) else x for x in inputs]
        return getattr(ufunc, method)(*plain, **keywords)


class WatchingDecoder(decoder.Decoder):
    """Knows the inputs of its projections, [tokens, cols] by tensor name."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.experts_read: dict[str, np.ndarray] = {}
        for name, tensor in self.tensors.items():
            if tensor.ndim == 2 and "embed" not in name:
                self.tensors[name] = tensor.view(Watched)
                self.tensors[name].seen = []

    def norm(self, x, name):
        out = super().norm(x, name)
        if name.endswith("pre_feedforward_layernorm_2"):
            self.experts_read[name.replace(name.split(".")[-1], "experts.gate_up_proj")] = out
        return out

    def inputs(self, ids):
        last = self.states(ids)[-1]
        out = {"embed_tokens.weight": self.norm(last, "norm")} | self.experts_read
        for name, tensor in self.tensors.items():
            if isinstance(tensor, Watched) and tensor.seen:
                out[name] = np.concatenate(tensor.seen)
        return out


def moments(folder: Path, threads: int = 1) -> dict[str, np.ndarray]:
    config = read_config(read_json(folder / "config.json"))
    shards = read_shards(folder)
    checkpoint = _core.Checkpoint([str(p) for p in shards.paths], list(shards.entries))
    found = testing.moments(checkpoint, config.plan, threads)
    return {name: np.array(row, np.float32) for name, row in found.items()}


def ids_of(folder: Path) -> list[int]:
    config = json.loads((folder / "config.json").read_text())
    config = config.get("text_config", config)
    count = min(config["vocab_size"], config.get("vocab_size_per_layer_input") or 2**31)
    return [int(testing.uniform(SEED, i) * count) for i in range(TOKENS)]


@pytest.mark.parametrize("name", ["gemma3", "e_type", "kv_equal", "moe"])
def test_moments_are_those_of_the_reference(name, wide_checkpoint):
    folder = wide_checkpoint(name)

    found = moments(folder)

    inputs = WatchingDecoder(folder).inputs(ids_of(folder))
    unpacked = ("router", "per_layer_model", "per_layer_input_gate", "per_layer_projection")
    wanted = {
        key: rows for key, rows in inputs.items() if not any(word in key for word in unpacked)
    }
    prefix = next(key for key in found if "embed" in key).removesuffix("embed_tokens.weight")
    assert sorted(found) == sorted(prefix + key for key in wanted)
    for key, rows in wanted.items():
        expected = (rows**2).sum(axis=0)
        expected = np.maximum(expected / expected.max(), LEAST)
        np.testing.assert_allclose(found[prefix + key], expected, rtol=TOLERANCE, err_msg=key)


def test_down_projections_of_experts_count_their_columns_alike(wide_checkpoint):
    found = moments(wide_checkpoint("moe"))

    assert any("experts.gate_up_proj" in name for name in found)
    assert not any("experts.down_proj" in name for name in found)


@pytest.mark.parametrize("name", ["e_type", "moe"])
def test_moments_are_the_same_bits_with_any_number_of_threads(name, wide_checkpoint):
    folder = wide_checkpoint(name)

    one, three = (moments(folder, threads) for threads in (1, 3))

    assert one.keys() == three.keys() and one
    for key in one:
        np.testing.assert_array_equal(one[key].view(np.uint32), three[key].view(np.uint32), key)


def test_a_checkpoint_in_float16_is_not_calibrated(wide_checkpoint):
    assert moments(wide_checkpoint("gemma3", dtype="f32"))
    assert moments(wide_checkpoint("gemma3", dtype="f16")) == {}


def test_rows_that_are_not_finite_are_left_out(wide_checkpoint):
    folder = wide_checkpoint("gemma3")
    expected = moments(folder)
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    begin = 8 + size + header["model.embed_tokens.weight"]["data_offsets"][0]
    at = begin + 2 * 64 * ids_of(folder)[-1]
    data[at : at + 2] = b"\xc0\x7f"  # NaN, read by the last row at the latest
    file.write_bytes(data)

    found = moments(folder)

    assert found.keys() == expected.keys()
    assert all(np.isfinite(row).all() for row in found.values())


def test_a_column_that_is_always_zero_counts_a_little(wide_checkpoint):
    folder = wide_checkpoint("kv_equal")
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    size = int.from_bytes(data[:8], "little")
    layer = "model.language_model.layers.2"
    header = json.loads(data[8 : 8 + size])
    begin = 8 + size + header[f"{layer}.input_layernorm.weight"]["data_offsets"][0]
    data[begin + 2 * 5 : begin + 2 * 6] = bytes(2)
    file.write_bytes(data)

    found = moments(folder)[f"{layer}.self_attn.q_proj.weight"]

    assert found[5] == LEAST and found.max() == 1


def test_a_weight_that_is_not_finite_is_refused_with_its_place(wide_checkpoint):
    folder = wide_checkpoint("gemma3")
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    size = int.from_bytes(data[:8], "little")
    name = "model.layers.1.mlp.up_proj.weight"
    begin = 8 + size + json.loads(data[8 : 8 + size])[name]["data_offsets"][0]
    data[begin + 2 * 777 : begin + 2 * 778] = b"\x80\x7f"  # infinity
    file.write_bytes(data)

    with pytest.raises(CheckpointError, match=rf"tensor {name}: element 777 is not finite"):
        cabochon.load(folder, weights="int4")


@pytest.mark.parametrize("name", ["e_type", "moe"])
def test_logits_are_the_same_bits_with_any_number_of_threads_and_from_the_cache(
    name, wide_checkpoint, tmp_path, monkeypatch
):
    folder = wide_checkpoint(name)
    monkeypatch.setenv("CABOCHON_CACHE", str(tmp_path / "cache"))

    def logits(weights: str, threads: int) -> np.ndarray:
        with cabochon.load(folder, weights=weights, threads=threads) as model:
            return model.logits([3, 4, 5, 6]).view(np.uint32)

    cold = logits("int4", 1)
    warm = logits("int4", 2)
    monkeypatch.setenv("CABOCHON_CACHE", "")
    np.testing.assert_array_equal(warm, cold)
    np.testing.assert_array_equal(logits("int4", 2), cold)
    others = [logits(weights, 1) for weights in ("int4-searched", "int4-absmax")]
    assert all((other != cold).any() for other in others)
    assert (others[0] != others[1]).any()


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs /proc/self/smaps")
def test_the_pages_that_the_pass_read_are_given_back(wide_checkpoint, monkeypatch):
    monkeypatch.setenv("CABOCHON_CACHE", "")
    folder = wide_checkpoint("e_type")

    with cabochon.load(folder, weights="int4", progress=False):
        held = held_of(folder / "model.safetensors")

    # What an int4 model still computes as stored is read when a token is.
    assert held == 0


def held_of(file: Path) -> int:
    """KiB of the mappings of a file that this process holds."""
    total, is_inside, is_mapped = 0, False, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            is_inside = line.endswith(str(file.resolve()))
            is_mapped = is_mapped or is_inside
        elif is_inside and line.startswith("Rss:"):
            total += int(line.split()[1])
    assert is_mapped
    return total
