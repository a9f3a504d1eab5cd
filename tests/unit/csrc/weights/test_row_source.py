"""Rows of a table: the same numbers from a file and from memory, for any threads and repeats."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import tiny

pytest.importorskip("cabochon._core")
from cabochon import _core
from cabochon._core import testing
from cabochon.checkpoint import read_shards
from cabochon.errors import CheckpointError

ROWS = 150  # more than two pieces of load_rows
UNTOUCHED = 0xA5
BLOCK = {"int8": 128, "int4": 32}


def checkpoint(folder: Path, values: np.ndarray) -> _core.Checkpoint:
    tiny.write_safetensors(folder / "model.safetensors", {"other": values[:1], "table": values})
    shards = read_shards(folder)
    return _core.Checkpoint(list(shards.paths), list(shards.entries))


def table(columns: int, dtype: str = "bf16") -> np.ndarray:
    values = np.random.default_rng(columns).standard_normal((ROWS, columns)) * 3
    return tiny._STORE[dtype](values)


def decoded(values: np.ndarray, form: str = "") -> np.ndarray:
    """What rows are handed out as: bf16 bits or float32, rounded by docs/formats.md."""
    if values.dtype == np.uint16 and not form:
        return values
    wide = tiny.from_bf16(values) if values.dtype == np.uint16 else values.astype(np.float32)
    if not form:
        return wide
    codes, scales = testing.quantize(form, np.ascontiguousarray(wide))
    numbers = codes.astype(np.int16) - (8 if form == "int4" else 0)
    steps = np.repeat(tiny.from_bf16(scales), BLOCK[form], axis=1)[:, : wide.shape[1]]
    return numbers.astype(np.float32) * steps


def gather(source, ids, *, place="disk", form="", whole=None, front=0, threads=1, packed=""):
    whole = range(len(ids)) if whole is None else whole
    out, failures = testing.gather_rows(
        source, "table", place, form, np.asarray(ids, np.int32), np.asarray(whole, np.int32), front,
        threads, str(packed),
    )  # fmt: skip
    return out.reshape(len(ids), -1), failures


IDS = [7, 3, 3, 149, 0, 7, 8, 9, 3, 120, 64, 63, 65, 1, 2, 148, 77]


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(
    ("place", "dtype", "form"),
    [
        ("disk", "bf16", ""), ("disk", "f32", ""), ("disk", "f16", ""),
        ("memory", "bf16", ""), ("memory", "f32", ""), ("memory", "f16", ""),
        ("memory", "bf16", "int8"), ("memory", "f32", "int8"), ("memory", "f16", "int4"),
        ("memory", "bf16", "int4"),
        ("disk", "bf16", "int8"), ("disk", "f32", "int4"), ("disk", "f16", "int8"),
        ("disk", "bf16", "int4"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("columns", [32, 96, 128, 160, 416])
def test_rows_are_those_of_the_table_wherever_it_stands(
    tmp_path: Path, columns: int, place: str, dtype: str, form: str, threads: int
) -> None:
    values = table(columns, dtype)
    expected = decoded(values, form)

    out, failures = gather(
        checkpoint(tmp_path, values), IDS, place=place, form=form, threads=threads,
        packed=tmp_path / "packed",
    )  # fmt: skip

    np.testing.assert_array_equal(out, expected[IDS].view(np.uint8))
    assert not failures.any()


@pytest.mark.parametrize(
    ("place", "form"),
    [("disk", ""), ("memory", "int8"), ("memory", "int4"), ("disk", "int8"), ("disk", "int4")],
)
@pytest.mark.parametrize("front", [0, 1, 31, 32, 33, 128, 131, 160])
def test_rows_that_are_not_wanted_whole_end_at_the_front_and_nothing_is_written_behind_it(
    tmp_path: Path, front: int, place: str, form: str
) -> None:
    values = table(160)
    expected = decoded(values, form)[IDS]
    whole = [1, 4, 5]  # id 3 is there three times, once whole; id 7 twice, the second one whole

    out, _ = gather(
        checkpoint(tmp_path, values), IDS, place=place, form=form, whole=whole, front=front,
        packed=tmp_path / "packed",
    )  # fmt: skip

    found = out.view(expected.dtype).reshape(expected.shape)
    np.testing.assert_array_equal(found[whole], expected[whole])
    others = [i for i in range(len(IDS)) if i not in whole]
    np.testing.assert_array_equal(found[others, :front], expected[others, :front])
    assert (np.ascontiguousarray(found[others, front:]).view(np.uint8) == UNTOUCHED).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_a_table_of_more_than_a_piece_is_written_whole_and_checked_block_by_block(
    tmp_path: Path, threads: int
) -> None:
    # Rows of E2B in int8: 9,100 bytes, of which 1,843.7 are a piece of 16 MiB; 2 blocks follow.
    rows, columns, row_bytes = 2053, 8960, 8960 + 70 * 2
    values = np.random.default_rng(5).integers(0, 2**15, (rows, columns), np.uint16) & 0xBFFF
    source, packed = checkpoint(tmp_path, values), tmp_path / "packed"
    ids = [0, 1842, 1843, 1844, 1845, rows - 1]

    out, failures = gather(source, ids, form="int8", packed=packed, threads=threads)

    np.testing.assert_array_equal(out, decoded(values[ids], "int8").view(np.uint8))
    assert not failures.any()
    assert packed.stat().st_size == 2 * 4096 + rows * row_bytes
    _core.PackedFile(str(packed)).verify(threads)
    data = bytearray(packed.read_bytes())
    data[2 * 4096 + 17 * 2**20 + 5] ^= 4
    packed.write_bytes(data)
    with pytest.raises(CheckpointError, match="block 17 of 18 is not what was written"):
        _core.PackedFile(str(packed)).verify(threads)


def test_a_number_of_a_later_piece_that_is_not_finite_is_counted_from_the_start_of_the_table(
    tmp_path: Path,
) -> None:
    values = np.zeros((2001, 8960), np.uint16)
    values[2000, 7] = 0x7F80

    with pytest.raises(CheckpointError, match="element 17920007 is not finite"):
        gather(checkpoint(tmp_path, values), [1], form="int8", packed=tmp_path / "packed")


def test_no_ids_are_no_rows(tmp_path: Path) -> None:
    out, failures = testing.gather_rows(
        checkpoint(tmp_path, table(32)), "table", "disk", "", np.empty(0, np.int32),
        np.empty(0, np.int32), 5, 2,
    )  # fmt: skip

    assert out.size == failures.size == 0


@pytest.mark.parametrize("threads", [1, 3])
def test_a_row_that_cannot_be_read_fails_alone_with_its_repeats(
    tmp_path: Path, threads: int
) -> None:
    values = table(64)
    source = checkpoint(tmp_path, values)
    path = tmp_path / "model.safetensors"
    os.truncate(path, path.stat().st_size - 64 * 2 * 2 - 1)  # rows 149, 148 and a byte of 147
    ids = [5, 147, 9, 149, 147, 146, 148, 1, 2, 3, 4]

    out, failures = gather(source, ids, threads=threads)

    assert failures.tolist() == [0, 1, 0, 1, 1, 0, 1, 0, 0, 0, 0]
    good = np.flatnonzero(failures == 0)
    np.testing.assert_array_equal(out[good], values[np.take(ids, good)].view(np.uint8))


def test_a_front_that_can_be_read_is_enough_where_no_more_is_wanted(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, table(64))
    path = tmp_path / "model.safetensors"
    os.truncate(path, path.stat().st_size - 1)

    _, failures = gather(source, [149, 148], whole=[], front=32)

    assert not failures.any()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_table_that_cannot_be_rounded_or_read_is_named(tmp_path: Path, threads: int) -> None:
    values = table(64)
    values[70, 5] = values[140, 1] = 0x7F80
    source = checkpoint(tmp_path, values)

    with pytest.raises(CheckpointError, match=r"element 4485 is not finite.*int4") as caught:
        gather(source, [1], place="memory", form="int4", threads=threads)
    assert caught.value.tensor == "table"
    gather(source, [1], place="memory", threads=threads)  # as stored nobody looks

    os.truncate(tmp_path / "model.safetensors", 200)
    with pytest.raises(CheckpointError, match="changed under the model"):
        gather(source, [1], place="memory", threads=threads)
