"""`cabochon cache`: what is packed on the disk, whether a load will read it, and away with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cabochon import cli

Run = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def other(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint("moe"), tmp_path / "other"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, list[str], str]:
        code = cli.main(["cache", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err

    return run


def packed(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.packed"))


def test_build_packs_once_and_list_says_what_of_and_that_it_is_valid(run, cache, folder):
    code, (line,), err = run("build", folder, "--weights", "int4")
    (file,) = packed(cache)
    written = file.stat().st_mtime_ns

    assert run("list") == (code, [line], err) == (0, [line], err)
    assert str(folder) in line and "attention=int4" in line and line.endswith("  valid")
    assert f"in {cache}" in err
    assert run("build", folder, "--weights", "int4")[1] == [line]
    assert file.stat().st_mtime_ns == written


def test_build_of_weights_that_stay_as_stored_says_that_nothing_is_packed(run, cache, folder):
    code, lines, err = run("build", folder)

    assert (code, lines) == (1, [])
    assert "give --weights int8 or int4" in err
    assert packed(cache) == []


def test_a_model_that_changed_or_is_gone_makes_its_file_stale(run, cache, folder):
    run("build", folder, "--weights", "int8")

    os.utime(folder / "model.safetensors", (1, 1))
    changed = run("list", folder)[1]
    shutil.rmtree(folder)
    gone = run("list", folder)[1]

    assert [line.partition("  stale: ")[2] for line in changed] == ["the model's files changed"]
    assert "  stale: " in gone[0] and "valid" not in gone[0]


def test_check_reads_every_block(run, cache, folder):
    run("build", folder, "--weights", "int4")
    (file,) = packed(cache)
    assert run("check")[0] == 0

    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    code, (line,), _ = run("check", folder)

    assert code == 1
    assert "damaged: " in line and "block 0 of 1 is not what was written" in line


def test_what_no_build_reads_is_listed_as_stale_and_what_says_nothing_as_unknown(
    run, cache, folder
):
    run("build", folder, "--weights", "int4")
    (file,) = packed(cache)
    data = bytearray(file.read_bytes())
    (file.parent / "short.packed").write_bytes(b"weights")
    (file.parent / "version.packed").write_bytes(data[:8] + b"\x01" + data[9:])
    (file.parent / "about.packed").write_bytes(data[:56] + bytes(8) + data[64:])

    lines = run("list")[1]

    states = sorted(line.split("  ")[-1].partition(": ")[0] for line in lines)
    assert states == ["stale", "stale", "unknown", "valid"]


def test_clear_deletes_what_is_of_the_model_or_all(run, cache, folder, other):
    for model in (folder, other):
        run("build", model, "--weights", "int4")
    assert len(packed(cache)) == 2
    left = cache / "notes.txt"
    left.write_text("mine")

    code, (line,), _ = run("clear", folder)
    assert (code, len(packed(cache))) == (0, 1)
    assert str(folder) in line and line.endswith("  deleted")

    assert run("clear")[0] == 0
    assert list(cache.iterdir()) == [left]
    assert run("list")[1] == []


def test_a_model_that_is_nowhere_ends_with_3_and_wrong_use_with_2(run, cache, folder, monkeypatch):
    assert run("list", folder / "nowhere")[0] == 3
    assert run("build")[0] == 2
    monkeypatch.setenv("CABOCHON_CACHE", "")
    code, _, err = run("list")

    assert code == 2
    assert "CABOCHON_CACHE is empty" in err
