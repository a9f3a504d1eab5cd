"""Checkpoints of quantisation-aware training: codes and scales reach the kernels untouched."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import cabochon
import qat
import tiny
from cabochon.errors import CheckpointError, Unsupported
from reference import decoder, integer

IDS = [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
AT = "model.language_model.layers.1."
QUERY = AT + "self_attn.q_proj.weight"


def logits(folder, **options):
    with cabochon.load(folder, kv="f32", **options) as model:
        return model.logits(IDS)


def panels_of(folder, place, **options):
    """The arena of the loaded weights, as bytes."""
    with cabochon.load(folder, **options) as model:
        model._parts.engine.write_packed(str(place), bytes(32))
    return place.read_bytes()


def written_panels(name: str, matrix: qat.Lattice):
    """Panels of each [rows, cols] of a matrix or stack; gate and up of experts stand apart."""
    scales = tiny.to_bf16(matrix.scales)
    cols = matrix.numbers.shape[-1]
    parts = 2 if name.endswith("gate_up_proj") else 1
    rows = matrix.numbers.shape[-2] // parts
    for numbers, part in zip(
        matrix.numbers.astype(int).reshape(-1, rows, cols),
        scales.reshape(-1, rows, cols // qat.GROUP),
        strict=True,
    ):
        yield integer.pack(integer.INT4, numbers, part).tobytes()


@pytest.mark.parametrize("weights", ["auto", "int4"])
@pytest.mark.parametrize("name", qat.MODELS)
def test_the_panels_of_packed_codes_hold_exactly_what_was_written(tmp_path, name, weights):
    folder = qat.write(tmp_path / "model", name, "w4a16")

    arena = panels_of(folder, tmp_path / "arena", weights=weights, threads=2)

    matrices = qat.matrices(name)
    assert len(matrices) >= 40
    for key, matrix in matrices.items():
        for panel in written_panels(key, matrix):
            assert panel in arena, key


@pytest.mark.parametrize("name", ["e_type", "kv_equal_dense"])
def test_logits_of_packed_codes_are_those_of_the_numbers_they_stand_for(tmp_path, name):
    expected = decoder.logits(qat.write(tmp_path / "exact", name, "exact"), IDS)

    found = logits(qat.write(tmp_path / "model", name, "w4a16"))

    # Weights are exact, activations are int8: half a step of 1/127 of the largest of 128, which is
    # about 3 deviations, is 0.7 % of a deviation in each of the 7 inputs of the 12 layers: 6 %. A
    # wrong order of nibbles, sign or scale gives 100 % and more, rounding again by absmax / 7.5
    # gives 30 %.
    assert np.abs(found - expected).mean() < 0.06 * expected.std()


def test_packed_codes_in_several_files_give_the_bits_of_one(tmp_path):
    one = logits(qat.write(tmp_path / "one", "e_type", "w4a16"))
    many = logits(qat.write(tmp_path / "many", "e_type", "w4a16", shards=5), threads=2)

    np.testing.assert_array_equal(one.view(np.uint32), many.view(np.uint32))


def test_what_is_not_packed_stays_as_stored_under_auto(tmp_path):
    with cabochon.load(qat.write(tmp_path, "e_type", "w4a16")) as model:
        formats = model.info().formats

    assert formats == {
        "embedding and head": "bf16",
        "norms and scales": "f32",
        "per_layer_table": "bf16",
        "per_layer_context": "int4",
        "attention": "int4",
        "mlp": "int4",
        "per_layer": "int4",
    }


def test_int4_of_packed_codes_rounds_only_the_head_to_int8(tmp_path):
    with cabochon.load(qat.write(tmp_path, "e_type", "w4a16"), weights="int4") as model:
        formats = model.info().formats

    assert formats["head"] == "int8" and formats["embedding"] == "bf16"
    assert formats["per_layer"] == formats["attention"] == "int4"


@pytest.mark.parametrize(
    "weights", ["bf16", "int8", {"mlp": "bf16"}, {"default": "int8", "mlp": "int4"}]
)
def test_another_format_of_packed_codes_is_refused_with_advice(tmp_path, weights):
    folder = qat.write(tmp_path, "kv_equal_dense", "w4a16")

    with pytest.raises(Unsupported, match="'auto' and 'int4' keep them exactly"):
        cabochon.load(folder, weights=weights)


def test_planned_bytes_of_packed_codes_are_the_bytes_that_are_allocated(tmp_path):
    with cabochon.load(qat.write(tmp_path, "e_type", "w4a16"), max_sequences=1) as model:
        planned, taken = model.plan, model.info().memory

    assert taken["weights"] + taken["kv"] + taken["scratch"] == planned.host_bytes
    assert taken["mapped"] == planned.mapped_bytes


# Files whose parts are missing or contradict each other.


@pytest.fixture
def folder(tmp_path) -> Path:
    return qat.write(tmp_path / "model", "e_type", "w4a16")


def change(folder: Path, edit) -> None:
    """Writes the tensors again after `edit` changed the dict of them."""
    made = json.loads((folder / "config.json").read_text())
    tensors = tiny.make_tensors(qat.config("e_type"), tiny.MODELS["e_type"].seed)
    linear = qat.matrices("e_type")
    tensors = {key: value for key, value in tensors.items() if key not in linear}
    tensors |= qat.w4a16(linear)
    edit(tensors)
    tiny.write_files(folder, made, tensors)


@pytest.mark.parametrize("part", ["_packed", "_scale", "_shape"])
def test_a_part_that_is_missing_is_named(folder, part):
    change(folder, lambda tensors: tensors.pop(QUERY + part))

    with pytest.raises(CheckpointError, match="missing") as caught:
        cabochon.load(folder)

    assert caught.value.tensor == QUERY + part


@pytest.mark.parametrize("part", ["_packed", "_scale", "_shape"])
def test_a_part_of_another_shape_is_named_with_both(folder, part):
    def edit(tensors):
        tensors[QUERY + part] = tensors[QUERY + part][:-1].copy()

    change(folder, edit)

    with pytest.raises(CheckpointError, match=r"found shape \[.*expected \[") as caught:
        cabochon.load(folder)

    assert caught.value.tensor == QUERY + part


@pytest.mark.parametrize(
    ("part", "expected"), [("_packed", "I32"), ("_scale", "BF16"), ("_shape", "I64")]
)
def test_a_part_of_another_type_is_named_with_both(folder, part, expected):
    def edit(tensors):
        tensors[QUERY + part] = tensors[QUERY + part].astype(np.float32)

    change(folder, edit)

    with pytest.raises(CheckpointError, match=f"found type F32, expected {expected}") as caught:
        cabochon.load(folder)

    assert caught.value.tensor == QUERY + part


def test_a_stored_shape_that_contradicts_the_plan_is_named_with_both(folder):
    def edit(tensors):
        tensors[QUERY + "_shape"][1] = 63

    change(folder, edit)

    with pytest.raises(CheckpointError, match=r"says \[64, 63\], expected \[64, 64\]") as caught:
        cabochon.load(folder)

    assert caught.value.tensor == QUERY + "_shape"


@pytest.mark.parametrize("bits", [0x7F80, 0xFF80, 0x7FC0])
def test_a_scale_that_is_not_finite_is_named_with_its_place(folder, bits):
    def edit(tensors):
        tensors[QUERY + "_scale"][37, 1] = bits

    change(folder, edit)

    with pytest.raises(CheckpointError, match="element 75 is not finite") as caught:
        cabochon.load(folder, threads=2)

    assert caught.value.tensor == QUERY + "_scale"


def test_a_matrix_that_is_stored_twice_is_refused(folder):
    def edit(tensors):
        tensors[QUERY] = np.zeros((64, 64), np.uint16)

    change(folder, edit)

    with pytest.raises(CheckpointError, match="which one counts") as caught:
        cabochon.load(folder)

    assert caught.value.tensor == QUERY + "_packed"


def test_a_scale_beside_a_matrix_that_is_not_packed_is_refused(folder):
    def edit(tensors):
        del tensors[QUERY + "_packed"], tensors[QUERY + "_shape"]
        tensors[QUERY] = np.zeros((64, 64), np.uint16)

    change(folder, edit)

    with pytest.raises(CheckpointError, match="there are none beside it") as caught:
        cabochon.load(folder)

    assert caught.value.tensor == QUERY + "_scale"


def test_a_matrix_may_be_left_out_of_packing(folder):
    def edit(tensors):
        for part in ("_packed", "_scale", "_shape"):
            del tensors[QUERY + part]
        tensors[QUERY] = plain("e_type", QUERY)

    change(folder, edit)

    with cabochon.load(folder) as model:
        assert model.info().formats["attention"] == "bf16+int4"


def test_a_router_of_codes_is_unsupported(tmp_path):
    name = "model.language_model.layers.1.router.proj.weight"
    folder = qat.write(tmp_path, "moe", "w4a16")
    shards = json.loads((folder / "config.json").read_text())
    made = tiny.make_tensors(qat.config("moe"), tiny.MODELS["moe"].seed)
    linear = qat.matrices("moe")
    tensors = {key: value for key, value in made.items() if key not in linear and key != name}
    router = qat.lattice(name, made[name].shape, seed=1, scales="bf16")
    tiny.write_files(folder, shards, tensors | qat.w4a16(linear | {name: router}))

    with pytest.raises(Unsupported, match=r"router.proj.weight_packed: int4 codes of the class"):
        cabochon.load(folder)


def test_codes_without_a_word_about_them_in_the_config_are_refused(folder):
    (folder / "config.json").write_text(json.dumps(qat.config("e_type")))

    with pytest.raises(CheckpointError, match="what they stand for is not said") as caught:
        cabochon.load(folder)

    assert caught.value.key == "quantization_config"


def test_a_config_of_codes_beside_plain_numbers_is_refused(tmp_path):
    folder = qat.write(tmp_path, "e_type", "unquantized")
    made = qat.config("e_type") | {"quantization_config": qat.quantization_config()}
    (folder / "config.json").write_text(json.dumps(made))

    with pytest.raises(CheckpointError, match="none ends in _packed") as caught:
        cabochon.load(folder)

    assert caught.value.key == "quantization_config"


# bf16 files on a lattice.

GATE_UP = "model.language_model.layers.1.experts.gate_up_proj"


def blocks(name: str) -> int:
    """Of the matrices that keep their codes: the context projection is not rounded, nor tried."""
    return sum(
        matrix.scales.size
        for key, matrix in qat.matrices(name).items()
        if "per_layer_model_projection" not in key
    )


@pytest.mark.parametrize("weights", ["auto", "int4"])
@pytest.mark.parametrize("name", qat.MODELS)
def test_the_panels_of_recovered_codes_hold_exactly_what_was_written(tmp_path, name, weights):
    folder = qat.write(tmp_path / "model", name, "unquantized")

    arena = panels_of(folder, tmp_path / "arena", weights=weights, threads=2)

    for key, matrix in qat.matrices(name).items():
        if "per_layer_model_projection" not in key:
            for panel in written_panels(key, qat.positive(matrix)):
                assert panel in arena, key


@pytest.mark.parametrize("name", ["kv_equal_dense", "moe"])
def test_both_layouts_of_the_same_codes_give_the_same_bits(tmp_path, name):
    packed = logits(qat.write(tmp_path / "packed", name, "w4a16"))

    recovered = logits(qat.write(tmp_path / "recovered", name, "unquantized", shards=3))

    np.testing.assert_array_equal(recovered.view(np.uint32), packed.view(np.uint32))


@pytest.mark.parametrize("name", ["e_type", "kv_equal_dense"])
def test_logits_of_float16_scales_are_near_those_of_the_numbers_they_stand_for(tmp_path, name):
    expected = decoder.logits(qat.write(tmp_path / "exact", name, "exact", scales="f16"), IDS)

    with cabochon.load(qat.write(tmp_path / "m", name, "unquantized", scales="f16"), kv="f32") as m:
        found, counts = m.logits(IDS), m.info().int4_blocks

    # As above; the scales add 0.17 % of each weight.
    assert np.abs(found - expected).mean() < 0.06 * expected.std()
    assert counts["rounded"] == 0 and counts["exact"] + counts["nearest_scale"] == blocks(name)
    assert 0.4 < counts["exact"] / blocks(name) < 0.6


@pytest.mark.parametrize("layout", ["w4a16", "unquantized"])
def test_info_counts_every_block_as_exact(tmp_path, layout):
    with cabochon.load(qat.write(tmp_path, "kv_equal_dense", layout)) as model:
        info = model.info()

    assert info.int4_blocks == {
        "exact": blocks("kv_equal_dense"), "nearest_scale": 0, "rounded": 0,
    }  # fmt: skip
    assert f"{blocks('kv_equal_dense'):,} exact" in str(info)


@pytest.mark.parametrize("name", sorted(tiny.MODELS))
def test_a_plain_checkpoint_has_no_lattice_and_stays_as_stored(tiny_checkpoint, name):
    with cabochon.load(tiny_checkpoint(name)) as model:
        info = model.info()

    assert "int4" not in "".join(info.formats.values())
    assert not any(info.int4_blocks.values())


@pytest.mark.parametrize(
    ("weights", "expected"), [("bf16", "bf16"), ("int8", "int8"), ({"mlp": "bf16"}, "bf16")]
)
def test_another_format_of_a_lattice_is_made_as_asked(tmp_path, weights, expected):
    with cabochon.load(qat.write(tmp_path, "kv_equal_dense", "unquantized"), weights=weights) as m:
        assert m.info().formats["mlp"] == expected


def plain(name: str, tensor: str) -> np.ndarray:
    """The tensor as `tiny` draws it: on no lattice."""
    return tiny.make_tensors(qat.config(name), tiny.MODELS[name].seed)[tensor]


def test_a_matrix_on_no_lattice_stays_as_stored_beside_others_that_are(tmp_path):
    instead = {QUERY: plain("e_type", QUERY)}
    folder = qat.write(tmp_path, "e_type", "unquantized", instead=instead)

    with cabochon.load(folder) as model:
        info = model.info()

    assert info.formats["attention"] == "bf16+int4" and info.formats["mlp"] == "int4"
    assert info.int4_blocks["rounded"] == 0


@pytest.mark.parametrize("change", ["one value", "zeros", "one value a block"])
def test_a_matrix_that_is_partly_or_hardly_on_a_lattice_is_not_taken_for_one(tmp_path, change):
    stored = tiny.to_bf16(qat.matrices("e_type")[QUERY].exact())
    if change == "one value":
        stored[-1, -1] = stored[-1, :-1].max() + 3
    else:
        stored[:, 1 if change == "one value a block" else 0 :] = 0
    folder = qat.write(tmp_path, "e_type", "unquantized", instead={QUERY: stored})

    with cabochon.load(folder) as model:
        assert model.info().formats["attention"] == "bf16+int4"


def with_a_block_off(folder: Path) -> tuple[Path, int]:
    """A stack of experts that a sample takes for a lattice, and the first weight that is not."""
    stored = with_three_more(tiny.to_bf16(qat.matrices("moe")[GATE_UP].exact()))
    folder = qat.write(folder, "moe", "unquantized", instead={GATE_UP: stored})
    return folder, int(np.ravel_multi_index(OFF, stored.shape))


OFF = (37, 41, 32)


def with_three_more(stored: np.ndarray) -> np.ndarray:
    """Three steps of bf16 on a value that no sample of the stack looks at."""
    stored[OFF] += 3
    return stored


def test_a_block_off_the_lattice_where_nobody_looked_is_an_error_and_never_rounded(tmp_path):
    folder, place = with_a_block_off(tmp_path)

    with pytest.raises(CheckpointError, match=rf"element {place} begins 32 that are not") as caught:
        cabochon.load(folder, threads=2)

    assert caught.value.tensor == GATE_UP
    assert "weights='bf16'" in str(caught.value) and "weights='int4'" in str(caught.value)


def test_as_int4_a_block_off_the_lattice_is_rounded_and_counted_and_no_other(tmp_path):
    folder, place = with_a_block_off(tmp_path / "model")

    arena = panels_of(folder, tmp_path / "arena", weights="int4-absmax")
    with cabochon.load(folder, weights="int4-absmax") as model:
        counts = model.info().int4_blocks

    assert counts == {"exact": blocks("moe") - 1, "nearest_scale": 0, "rounded": 1}
    # docs/formats.md, "Rounding", for that block alone.
    matrix = qat.positive(qat.matrices("moe")[GATE_UP])
    off = integer.widen(with_three_more(tiny.to_bf16(matrix.exact())).ravel()[place : place + 32])
    (scale,) = integer.widen(tiny.to_bf16([np.abs(off).max() / np.float32(7.5)]))
    matrix.numbers.ravel()[place : place + 32] = np.clip(np.rint(off / scale), -8, 7)
    matrix.scales.ravel()[place // 32] = scale
    for panel in written_panels(GATE_UP, matrix):
        assert panel in arena


@pytest.mark.parametrize("name", qat.MODELS)
def test_planned_bytes_of_recovered_codes_are_the_bytes_that_are_allocated(tmp_path, name):
    folder = qat.write(tmp_path, name, "unquantized")
    with cabochon.load(folder, max_sequences=1) as model:
        planned, taken = model.plan, model.info().memory

    assert taken["weights"] + taken["kv"] + taken["scratch"] == planned.host_bytes
    assert taken["mapped"] == planned.mapped_bytes
    assert cabochon.plan(folder, max_sequences=1).device_bytes == planned.device_bytes


def test_advice_of_a_plan_names_no_format_that_packed_codes_cannot_have(tmp_path):
    folder = qat.write(tmp_path, "e_type", "w4a16")

    def plan(**limit):
        return cabochon.plan(folder, max_sequences=1, **limit)

    # With a byte less than it would like, it does without a kept ring. With less than that a
    # packed head is enough to fit.
    needed = plan(memory_limit=plan().device_bytes - 1).device_bytes
    advice = "".join(plan(memory_limit=needed - 4096).advice)

    assert "weights='int4'" in advice and "weights='int8'" not in advice


@pytest.mark.parametrize("layout", ["w4a16", "unquantized"])
@pytest.mark.parametrize("name", qat.MODELS)
def test_a_warm_cache_gives_the_bits_of_a_cold_one(tmp_path, monkeypatch, name, layout):
    cache = tmp_path / "cache"
    folder = qat.write(tmp_path / "model", name, layout)
    without = logits(folder)
    monkeypatch.setenv("CABOCHON_CACHE", str(cache))

    with cabochon.load(folder, kv="f32") as model:
        cold, counts = model.logits(IDS), model.info().int4_blocks
    with cabochon.load(folder, kv="f32") as model:
        warm, read = model.logits(IDS), model.info().int4_blocks

    assert read == counts and counts["exact"] > 0
    assert len([path for path in cache.rglob("*") if path.is_file()]) == 1
    np.testing.assert_array_equal(cold.view(np.uint32), without.view(np.uint32))
    np.testing.assert_array_equal(warm.view(np.uint32), cold.view(np.uint32))
