"""The second load of rounded weights: one file, never trusted further than its checks."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

import cabochon
import cabochon.checkpoint
from cabochon import _core
from cabochon.errors import CabochonWarning, CheckpointError

IDS = [3, 4, 5, 6]


def logits(folder: Path, weights: str = "int4") -> np.ndarray:
    with cabochon.load(folder, weights=weights) as model:
        return model.logits(IDS)


def files(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file())


def test_the_second_load_reads_the_file_of_the_first_and_gives_its_bits(folder, cache):
    first = logits(folder)
    (file,) = files(cache)
    written = file.stat()

    second = logits(folder)

    np.testing.assert_array_equal(second.view(np.uint32), first.view(np.uint32))
    assert files(cache) == [file] and file.stat().st_mtime_ns == written.st_mtime_ns
    assert oct(file.stat().st_mode & 0o777) == "0o600"


def test_the_second_load_does_not_look_at_what_was_rounded(folder, cache):
    expected = logits(folder)
    file = folder / "model.safetensors"
    before = file.stat()
    data = bytearray(file.read_bytes())
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    name = next(n for n in header if n.endswith("layers.0.self_attn.q_proj.weight"))
    begin, end = (8 + size + offset for offset in header[name]["data_offsets"])
    data[begin:end] = bytes(end - begin)
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    np.testing.assert_array_equal(logits(folder), expected)


def test_formats_and_models_have_files_of_their_own_and_stored_weights_none(folder, cache):
    logits(folder, "auto")
    assert files(cache) == []

    logits(folder, "int4")
    logits(folder, "int8")
    assert len(files(cache)) == 2


def test_a_checkpoint_that_changed_is_packed_again(folder, cache):
    logits(folder)
    os.utime(folder / "model.safetensors", (1, 1))

    logits(folder)

    assert len(files(cache)) == 2


@pytest.mark.parametrize("place", [0, 8, 20, 40, 4100, 8192, -1])
def test_a_damaged_file_is_noticed_made_again_and_warned_about(folder, cache, place):
    expected = logits(folder)
    (file,) = files(cache)
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)

    with pytest.warns(CabochonWarning, match="made again"):
        after = logits(folder)

    np.testing.assert_array_equal(after.view(np.uint32), expected.view(np.uint32))
    assert files(cache)[0].read_bytes() != data


def _flip_two_high_bits(data: bytearray) -> None:
    for place in (8192 + 7, 8192 + 64 + 7):  # of words that one running product takes in turn
        data[place] ^= 0x80


def _exchange(data: bytearray, first: int, second: int, size: int) -> None:
    left, right = data[first : first + size], data[second : second + size]
    assert left != right
    data[first : first + size], data[second : second + size] = right, left


@pytest.mark.parametrize(
    "damage",
    [
        _flip_two_high_bits,
        lambda data: _exchange(data, 8192, 8192 + 64, 64),
        lambda data: _exchange(data, 8192 + 64, 8192 + 72, 8),
        lambda data: _exchange(data, len(data) - 2, len(data) - 1, 1),
    ],
    ids=["two high bits", "lines", "words", "last bytes"],
)
def test_a_checksum_notices_more_than_one_change(folder, cache, damage):
    logits(folder)
    (file,) = files(cache)
    data = bytearray(file.read_bytes())
    damage(data)
    file.write_bytes(data)

    with pytest.warns(CabochonWarning, match="block 0 of"):
        logits(folder)


@pytest.mark.parametrize("size", [0, 7, 4095, 4096, -1, -5000])
def test_a_cut_file_is_made_again(folder, cache, size):
    logits(folder)
    (file,) = files(cache)
    os.truncate(file, size if size >= 0 else file.stat().st_size + size)

    with pytest.warns(CabochonWarning, match="made again"):
        logits(folder)


def test_a_file_that_others_may_write_to_is_not_read(folder, cache):
    logits(folder)
    (file,) = files(cache)
    file.chmod(0o622)
    file.write_bytes(b"not weights")

    logits(folder)  # no warning about damage: it was not opened

    assert file.read_bytes() != b"not weights"


def test_a_folder_that_cannot_be_written_to_costs_a_warning_and_no_load(
    folder, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CABOCHON_CACHE", str(tmp_path / "file" / "cache"))

    with pytest.warns(CabochonWarning, match="are not kept"):
        logits(folder)


def test_a_full_disk_costs_a_warning_and_leaves_no_file(folder, cache, monkeypatch):
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**30 + 100))

    with pytest.warns(CabochonWarning, match=r"1,073,741,924 bytes free"):
        logits(folder)

    assert files(cache) == []


def test_a_file_that_a_dead_process_left_is_removed(folder, cache):
    with cabochon.load(folder, weights="int4") as model:
        place = cache / model.fingerprint[:32]
    stale = place / f"cabochon.{os.uname().nodename}.999999999.1.1.tmp"
    stale.write_bytes(b"half")

    logits(folder, "int8")

    assert not stale.exists() and len(files(cache)) == 2


def test_no_cache_is_kept_where_the_variable_is_empty(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("CABOCHON_CACHE", "")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logits(folder)

    assert not (tmp_path / "cabochon").exists()


def test_a_key_of_another_length_and_an_existing_file_are_refused(folder, tmp_path):
    with cabochon.load(folder, weights="int8") as model:
        engine = model._parts.engine
        with pytest.raises(cabochon.errors.InvalidArgument, match="5 bytes, expected 32"):
            engine.write_packed(str(tmp_path / "new"), b"short")
        (tmp_path / "old").write_text("")
        with pytest.raises(cabochon.errors.DeviceError, match=r"open of .*old failed"):
            engine.write_packed(str(tmp_path / "old"), bytes(32))


def test_another_key_is_refused_by_the_reader(folder, tmp_path):
    with cabochon.load(folder, weights="int8") as model:
        parts = model._parts
        parts.engine.write_packed(str(tmp_path / "packed"), bytes(32))
        shards = cabochon.checkpoint.read_shards(folder)
        checkpoint = _core.Checkpoint(list(shards.paths), list(shards.entries))
        with pytest.raises(CheckpointError, match="from other files or in other formats"):
            _core.Engine(
                checkpoint, parts.config.plan, formats={}, kv="f32", threads=1, max_rows=8,
                global_pages=1, sliding_pages=4,
                packed=_core.PackedFile(str(tmp_path / "packed"), b"x" * 32),
            )  # fmt: skip


def test_a_rounded_table_is_part_of_the_file_and_one_in_memory_as_stored_is_not(folder, cache):
    def load(table: str, place: str = "auto") -> np.ndarray:
        weights = {"default": "int4", "per_layer_table": table}
        with cabochon.load(folder, weights=weights, per_layer_embeddings=place) as model:
            return model.logits(IDS)

    first = load("int8")
    (file,) = files(cache)
    size = file.stat().st_size
    np.testing.assert_array_equal(load("int8"), first)
    assert files(cache) == [file]

    stored = load("bf16")
    (other,) = set(files(cache)) - {file}
    # 264 rows of 192 columns: a block of 128 and one of 64, a scale of 2 bytes each; padded to 64.
    assert size - other.stat().st_size == 264 * (192 + 2 * 2) + 32
    np.testing.assert_array_equal(load("bf16", "memory"), stored)
    assert set(files(cache)) == {file, other}
    assert (stored != first).any()
