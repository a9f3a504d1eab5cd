"""The demo's checkpoint: whole, as its config says, and the same from the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import cabochon
from cabochon.checkpoint import read_json, read_shards
from cabochon.config import read_config
from cabochon.demo import STOPS, _bf16, tensor_shapes, write_demo
from cabochon.errors import InvalidArgument
from cabochon.tokenizer import GEMMA4_CONTROL, Tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder)
    return folder


def weights(folder: Path) -> dict[str, np.ndarray]:
    """Every tensor as float32, read with nothing of ours."""
    raw = (folder / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    del header["__metadata__"]
    return {
        name: np.frombuffer(
            raw[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]],
            ml_dtypes.bfloat16,
        )
        .reshape(entry["shape"])
        .astype(np.float32)
        for name, entry in header.items()
    }


def test_the_weights_are_a_valid_file_without_holes(folder):
    shards = read_shards(folder)

    places = [entry[4:] for entry in shards.entries]
    assert [end for _, end in places[:-1]] == [begin for begin, _ in places[1:]]
    assert places[-1][1] == (folder / "model.safetensors").stat().st_size
    assert places[0][0] % 8 == 0
    assert {entry[1] for entry in shards.entries} == {"BF16"}


def test_names_and_shapes_are_those_of_the_table(folder):
    config = json.loads((folder / "config.json").read_text("utf-8"))

    found = {name: array.shape for name, array in weights(folder).items()}

    assert found == tensor_shapes(config["vocab_size"])
    assert found["model.layers.4.mlp.up_proj.weight"] == (384, 192)
    assert found["model.layers.5.mlp.up_proj.weight"] == (768, 192)  # wide: it shares KV
    assert "model.layers.5.self_attn.k_proj.weight" not in found


def test_the_config_has_what_sets_the_family_apart(folder):
    plan = read_config(read_json(folder / "config.json")).plan

    assert [layer.kv_source for layer in plan.layers] == [0, 1, 2, 3, 4, 4, 4, 3]
    assert [layer.head_dim for layer in plan.layers] == [32, 32, 32, 64] * 2
    assert {layer.experts for layer in plan.layers} == {8}
    assert {layer.per_layer_input for layer in plan.layers} == {32}


def test_weights_keep_signals_near_1(folder):
    arrays = weights(folder)

    k_norm = arrays["model.layers.3.self_attn.k_norm.weight"]
    up = arrays["model.layers.0.mlp.up_proj.weight"]
    np.testing.assert_allclose(k_norm.mean() * 8, 1, atol=0.1)
    np.testing.assert_allclose(up.std() * np.sqrt(192), 1, atol=0.02)
    assert all(np.isfinite(array).all() for array in arrays.values())
    # A factor left out would show: no scale or norm is all ones.
    assert min(array.std() for array in arrays.values() if array.size > 1) > 0
    assert {float(arrays[f"model.layers.{i}.layer_scalar"][0]) for i in range(8)} != {1.0}


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(folder, tmp_path):
    write_demo(tmp_path / "same", seed=0)
    write_demo(tmp_path / "other", seed=1)

    files = sorted(path.name for path in folder.iterdir())
    different = [
        name
        for name in files
        if (folder / name).read_bytes() != (tmp_path / "other" / name).read_bytes()
    ]
    assert all(
        (folder / name).read_bytes() == (tmp_path / "same" / name).read_bytes() for name in files
    )
    assert different == ["model.safetensors"]


def test_rounding_to_bf16_is_to_the_nearest_and_to_even():
    values = np.random.default_rng(5).standard_normal(10_001).astype(np.float32)
    values[:4] = [1 + 2**-8, 1 + 3 * 2**-8, -0.0, 1.17e-38]  # ties, a zero, a small one

    expected = values.astype(ml_dtypes.bfloat16).view(np.uint16)
    np.testing.assert_array_equal(_bf16(values), expected)


def test_its_tokenizer_has_every_control_token_and_loses_no_text(folder):
    tokenizer = Tokenizer.from_folder(folder)
    text = "the word, na\u00efve \U0001f680\n<|turn>"

    assert tokenizer.control_ids.keys() == GEMMA4_CONTROL.keys()
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(" the word")) == 2


def test_it_is_a_chat_model_with_the_published_template(folder):
    messages = [
        {"role": "user", "content": " hi "},
        {"role": "assistant", "content": "ho"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    ]

    with cabochon.load(folder, context=64, max_sequences=1) as model:
        prompt = model.render(messages)

    assert prompt.template is not None
    assert prompt.template[0] == "gemma4-edge"
    assert prompt.text == (
        "<bos><|turn>user\nhi<turn|>\n<|turn>model\nho<turn|>\n<|turn>user\nhi<turn|>\n"
        "<|turn>model\n"
    )


def test_it_draws_text_and_stops_only(folder):
    document = json.loads((folder / "generation_config.json").read_text("utf-8"))
    tokenizer = Tokenizer.from_folder(folder)

    drawn = set(range(tokenizer.vocab_size)) - set(document["suppress_tokens"])
    stops = {tokenizer.control_ids[name] for name in STOPS}
    assert set(document["eos_token_id"]) == stops
    assert drawn & set(tokenizer.control_ids.values()) == stops
    assert all(tokenizer.decode([token_id]).isascii() for token_id in drawn)


def test_a_folder_with_files_in_it_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")

    with pytest.raises(InvalidArgument, match="expected an empty folder"):
        write_demo(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
