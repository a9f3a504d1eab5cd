"""A rounded per-layer table on disk: rows of a file of its own, the same bits as in memory."""

from __future__ import annotations

import os
import shutil
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

import cabochon
import tiny
from cabochon import _core, cli
from cabochon.errors import (
    CabochonWarning,
    CheckpointError,
    DeviceError,
    InvalidArgument,
    OutOfMemory,
)
from cabochon.packed_cache import PackedCache

IDS = [3, 4, 200, 5, 6, 3, 263]
ROWS, COLUMNS = 264, 192  # of e_type's table
ROW_BYTES = {"int8": COLUMNS + 2 * 2, "int4": COLUMNS // 2 + 6 * 2}
FIRST_ROW = 8192  # a page for the header, one for the checksums


def load(
    folder: Path, table: str = "int8", place: str = "disk", default: str = "auto"
) -> cabochon.Model:
    return cabochon.load(
        folder,
        weights={"default": default, "per_layer_table": table},
        per_layer_embeddings=place,
    )


def logits(*arguments: str | Path) -> np.ndarray:
    with load(*arguments) as model:
        return model.logits(IDS).view(np.uint32)


def files(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file())


@pytest.mark.parametrize("default", ["auto", "int4"])
@pytest.mark.parametrize("table", ["int8", "int4"])
def test_a_rounded_table_on_disk_gives_the_bits_of_one_in_memory(folder, cache, table, default):
    expected = logits(folder, table, "memory", default)
    shutil.rmtree(cache)

    first = logits(folder, table, "disk", default)
    written = {path: path.stat().st_mtime_ns for path in files(cache)}
    second = logits(folder, table, "disk", default)

    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, expected)
    assert {path: path.stat().st_mtime_ns for path in files(cache)} == written
    assert (expected != logits(folder, "bf16", "disk", default)).any()


def test_the_table_has_a_file_of_its_own_and_weights_share_theirs(folder, cache):
    logits(folder, "int8")
    (int8,) = files(cache)  # the weights are as stored
    assert int8.stat().st_size == FIRST_ROW + ROWS * ROW_BYTES["int8"]
    assert oct(int8.stat().st_mode & 0o777) == "0o600"

    logits(folder, "int4")
    (int4,) = set(files(cache)) - {int8}
    assert int4.stat().st_size == FIRST_ROW + ROWS * ROW_BYTES["int4"]

    logits(folder, "int4", "disk", "int4")
    assert len(files(cache)) == 3  # and the weights
    logits(folder, "bf16", "disk", "int4")
    logits(folder, "int8", "disk", "int4")
    assert len(files(cache)) == 3
    logits(folder, "int8", "memory")  # where the table is part of the weights
    assert len(files(cache)) == 4


def test_the_second_load_does_not_look_at_the_table_of_the_checkpoint(folder, cache):
    expected = logits(folder)
    file = folder / "model.safetensors"
    before = file.stat()
    tensors = tiny.make_tensors(tiny.MODELS["e_type"].config, seed=tiny.MODELS["e_type"].seed)
    name = next(n for n in tensors if n.endswith("embed_tokens_per_layer.weight"))
    data = file.read_bytes()
    table = tensors[name].tobytes()
    assert data.count(table) == 1
    file.write_bytes(data.replace(table, bytes(len(table))))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    np.testing.assert_array_equal(logits(folder), expected)
    os.utime(file, (1, 1))
    assert (logits(folder) != expected).any()


@pytest.mark.parametrize("place", [0, 8, 20, 40, 4100, FIRST_ROW, FIRST_ROW + 30_000, -1])
def test_a_damaged_file_is_noticed_made_again_and_warned_about(folder, cache, place):
    expected = logits(folder)
    (file,) = files(cache)
    whole = file.read_bytes()
    data = bytearray(whole)
    data[place] ^= 1
    file.write_bytes(data)

    with pytest.warns(CabochonWarning, match="made again"):
        after = logits(folder)

    np.testing.assert_array_equal(after, expected)
    assert file.read_bytes() == whole


@pytest.mark.parametrize("size", [0, 4096, FIRST_ROW, -1])
def test_a_cut_file_is_made_again(folder, cache, size):
    logits(folder)
    (file,) = files(cache)
    whole = file.read_bytes()
    os.truncate(file, size if size >= 0 else len(whole) + size)

    with pytest.warns(CabochonWarning, match="made again"):
        logits(folder)

    assert file.read_bytes() == whole


def test_the_whole_file_of_another_table_is_made_again(folder, cache):
    logits(folder, "int8")
    (int8,) = files(cache)
    logits(folder, "int4")
    (int4,) = set(files(cache)) - {int8}
    expected = int8.read_bytes()
    shutil.copyfile(int4, int8)

    with pytest.warns(CabochonWarning, match="from other files or in other formats"):
        logits(folder, "int8")

    assert int8.read_bytes() == expected


def test_a_checkpoint_that_changed_has_its_table_rounded_again(folder, cache):
    logits(folder)
    os.utime(folder / "model.safetensors", (1, 1))

    logits(folder)

    assert len(files(cache)) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda file: os.truncate(file, FIRST_ROW + 100),
        lambda file: file.write_bytes(file.read_bytes()[::-1]),
    ],
    ids=["cut", "other bytes"],
)
def test_a_file_that_changes_under_the_model_ends_its_steps_and_the_next_load_repairs_it(
    folder, cache, change
):
    with load(folder) as model:
        expected = model.logits(IDS)
        (file,) = files(cache)
        change(file)

        with pytest.raises(CheckpointError, match="changed under the model") as caught:
            model.logits(IDS)
        assert caught.value.file == str(file)

    with pytest.warns(CabochonWarning, match="made again"), load(folder) as model:
        np.testing.assert_array_equal(model.logits(IDS), expected)


def test_a_model_keeps_its_rows_when_the_cache_is_cleared(folder, cache):
    with load(folder) as model:
        expected = model.logits(IDS)
        shutil.rmtree(cache)

        np.testing.assert_array_equal(model.logits(IDS), expected)


def test_models_that_are_loaded_at_once_all_find_or_write_the_file(folder, cache):
    expected = logits(folder, "int8", "memory")
    shutil.rmtree(cache)
    start, found = threading.Barrier(4), []

    def run() -> None:
        start.wait()
        found.append(logits(folder))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 4
    for one in found:
        np.testing.assert_array_equal(one, expected)
    assert [path.suffix for path in files(cache)] == [".packed"]


def test_threads_that_write_a_file_at_once_have_names_of_their_own(tmp_path):
    cache = PackedCache(tmp_path / "cache", bytes(32), "")
    both, names = threading.Barrier(2, timeout=10), []

    def write(path: str) -> None:
        names.append(path)
        Path(path).open("xb").close()
        both.wait()

    threads = [threading.Thread(target=cache.write, args=(0, write)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(names)) == 2
    assert files(cache.folder) == [cache.path]


def test_without_a_cache_the_load_and_the_plan_say_what_to_do_instead(folder, monkeypatch):
    monkeypatch.setenv("CABOCHON_CACHE", "")
    options = {"weights": {"per_layer_table": "int8"}, "per_layer_embeddings": "disk"}

    for call in (cabochon.load, cabochon.plan):
        with pytest.raises(
            InvalidArgument, match=r"CABOCHON_CACHE is empty.*'memory'.*in bf16"
        ) as caught:
            call(folder, **options)
        assert caught.value.argument == "per_layer_embeddings"

    logits(folder, "int8", "memory")
    logits(folder, "bf16", "disk")


@pytest.mark.parametrize("name", ["e_type_4to1", "moe"])
def test_without_a_table_that_can_be_rounded_no_cache_is_needed(tiny_checkpoint, monkeypatch, name):
    monkeypatch.setenv("CABOCHON_CACHE", "")

    with load(tiny_checkpoint(name)) as model:  # rows no multiple of 32 long; no rows at all
        assert model.logits([3, 4]).any()


def full(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**30 + 100))


def in_a_file(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write_text("")


def open_to_others(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = cache / cabochon.load(folder).fingerprint[:32]
    place.mkdir(parents=True)
    place.chmod(0o777)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (full, r"1,073,741,924 bytes free, 51,744 and"),
        (in_a_file, r"Not a directory"),
        (open_to_others, r"others may write to it"),
    ],
)
def test_a_table_that_cannot_be_kept_is_an_error_that_names_the_ways_out(
    folder, cache, monkeypatch, trouble, said
):
    trouble(folder, cache, monkeypatch)

    with pytest.raises(DeviceError, match=said) as caught:
        load(folder)

    assert "'memory'" in str(caught.value) and "in bf16" in str(caught.value)
    assert not [path for path in files(cache) if path.suffix == ".tmp"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in memory it costs a warning and no load
        logits(folder, "int8", "memory")


def test_a_table_that_cannot_be_rounded_is_named_and_nothing_is_left_of_its_file(tmp_path, cache):
    config = tiny.MODELS["e_type"].config
    tensors = tiny.make_tensors(config, seed=13)
    name = next(n for n in tensors if n.endswith("embed_tokens_per_layer.weight"))
    tensors[name][70, 5] = 0x7F80
    folder = tiny.write_files(tmp_path / "model", config, tensors)

    with pytest.raises(CheckpointError, match=r"element 13445 is not finite.*int8") as caught:
        load(folder)

    assert caught.value.tensor == name
    assert files(cache) == []


def test_a_table_of_a_checkpoint_that_changes_meanwhile_is_not_kept(folder, cache, monkeypatch):
    write_table = _core.write_table

    def slowly(*arguments: object, **keywords: object) -> None:
        def touch(done: int, total: int) -> None:
            os.utime(folder / "model.safetensors", (1, 1))

        write_table(*arguments, **keywords | {"progress": touch})

    monkeypatch.setattr(_core, "write_table", slowly)
    with pytest.raises(CheckpointError, match="changed under the model"):
        load(folder)

    assert files(cache) == []


def test_ctrl_c_while_the_table_is_written_leaves_nothing_of_its_file(folder, cache, monkeypatch):
    written = []

    def interrupted(*arguments: object, path: str, **keywords: object) -> None:
        def stop(done: int, total: int) -> None:
            written.append((Path(path).exists(), done, total))
            raise KeyboardInterrupt

        write_table(*arguments, path=path, **keywords | {"progress": stop})

    write_table = _core.write_table
    monkeypatch.setattr(_core, "write_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(folder)

    assert written == [(True, 0, ROWS * ROW_BYTES["int8"])]
    assert files(cache) == []


def test_the_plan_counts_the_table_as_on_disk_and_is_what_load_makes(folder, cache):
    options = {"weights": {"default": "int4", "per_layer_table": "int4"}, "memory_limit": "1GiB"}

    disk = cabochon.plan(folder, per_layer_embeddings="disk", **options)
    memory = cabochon.plan(folder, per_layer_embeddings="memory", **options)
    assert cabochon.plan(folder, **options) == memory  # "auto"
    with cabochon.load(folder, per_layer_embeddings="disk", **options) as model:
        measured = model._parts.engine.memory()
        loaded = model.plan

    (row,) = (row for row in disk.rows if row.name == "per_layer_table")
    size = ROWS * ROW_BYTES["int4"]
    assert (row.format, row.place, row.bytes) == ("int4", "disk", size)
    padded = -(-size // 64) * 64
    assert memory.host_bytes - disk.host_bytes == padded
    assert sum(measured.values()) == disk.device_bytes
    assert {**disk.to_dict(), "measured": measured} == loaded.to_dict()


def test_where_a_rounded_table_does_not_fit_into_memory_the_disk_is_advised_if_there_is_a_cache(
    folder, cache, monkeypatch
):
    options = {"weights": {"per_layer_table": "int8"}, "context": 64, "max_sequences": 1}
    needed = cabochon.plan(folder, **options).device_bytes

    with pytest.raises(OutOfMemory, match="load with per_layer_embeddings='disk'"):
        cabochon.load(folder, memory_limit=needed - 1, **options)

    monkeypatch.setenv("CABOCHON_CACHE", "")
    advice = cabochon.plan(folder, memory_limit=needed - 1, **options).advice
    assert advice and not any("per_layer_embeddings" in said for said in advice)


def test_the_cache_command_lists_checks_and_clears_the_table(folder, cache, capsys):
    logits(folder, "int4")
    (file,) = files(cache)

    assert cli.main(["cache", "check"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "per_layer_rows=int4" in line and line.endswith("  valid")

    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert cli.main(["cache", "check"]) == 1
    assert cli.main(["cache", "clear"]) == 0
    assert files(cache) == []


def test_an_engine_is_refused_a_table_without_its_file_or_with_another(folder, cache, tmp_path):
    with load(folder, "int8", "memory") as model:
        parts = model._parts
        parts.engine.write_packed(str(tmp_path / "arena"), bytes(32))
    shards = cabochon.checkpoint.read_shards(folder)
    checkpoint = _core.Checkpoint(list(shards.paths), list(shards.entries))

    for file, size in ((None, 0), (_core.PackedFile(str(tmp_path / "arena")), r"\d+")):
        with pytest.raises(
            InvalidArgument, match=rf"are 51744 bytes of a packed file, found {size}$"
        ):
            _core.Engine(
                checkpoint, parts.config.plan, formats={"per_layer_table": "int8"}, kv="f32",
                threads=1, max_rows=8, global_pages=1, sliding_pages=4, packed_table=file,
            )  # fmt: skip
    with pytest.raises(InvalidArgument, match="no per-layer table that is rounded"):
        _core.write_table(
            *_other(folder.parent / "moe"), format="int8", path=str(tmp_path / "new"),
            key=bytes(32),
        )  # fmt: skip
    assert not (tmp_path / "new").exists()


def _other(folder: Path) -> tuple[_core.Checkpoint, object]:
    """A model that has no table."""
    tiny.write(folder, "moe")
    shards = cabochon.checkpoint.read_shards(folder)
    with cabochon.load(folder) as model:
        return _core.Checkpoint(list(shards.paths), list(shards.entries)), model._parts.config.plan
