"""Headers, indexes and folders: what is read, and what is refused with which text."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import random
import re
import shutil
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from cabochon import checkpoint, hub
from cabochon.checkpoint import fingerprint, read_json, read_shards
from cabochon.errors import CheckpointError, InvalidArgument
from cabochon.hub import find

_spec = importlib.util.spec_from_file_location(
    "hostile", Path(__file__).parents[2] / "data" / "hostile" / "make.py"
)
hostile = importlib.util.module_from_spec(_spec)
sys.modules["hostile"] = hostile
_spec.loader.exec_module(hostile)

FILE, INDEX = hostile.FILE, hostile.INDEX
entry, file_bytes = hostile.entry, hostile.file_bytes


def write(folder: Path, header, data: bytes = b"", name: str = FILE) -> Path:
    (folder / name).write_bytes(file_bytes(header, data))
    return folder


def refused(folder: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        read_shards(folder)
    return caught.value


def test_the_classes_are_those_that_are_counted():
    groups = Counter(case.group for case in hostile.CASES)

    assert groups == {
        "file": 9,
        "not a file": 3,
        "JSON": 13,
        "entry": 14,
        "layout": 6,
        "metadata": 3,
        "index": 6,
    }
    assert groups.total() + len(hostile.MEANING) == 59
    assert len({(case.group, case.name) for case in hostile.CASES}) == groups.total()


@pytest.mark.parametrize("case", hostile.CASES, ids=lambda case: f"{case.group}, {case.name}")
def test_a_malformed_checkpoint_is_refused_by_name_and_both_values(case, tmp_path):
    case.write(tmp_path)

    error = refused(tmp_path)

    assert str(error).startswith(f"{case.file}: ")
    assert case.text in str(error)
    assert (error.file, error.tensor, error.key) == (case.file, case.tensor, case.key)


def test_a_refused_checkpoint_leaves_no_open_file(tmp_path):
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("open files can be counted on Linux only")
    cases = []
    for number, case in enumerate(hostile.CASES):
        folder = tmp_path / str(number)
        folder.mkdir()
        case.write(folder)
        cases.append(folder)
    before = len(os.listdir("/proc/self/fd"))

    for folder in cases * 4:
        refused(folder)

    assert len(cases * 4) >= 200
    assert len(os.listdir("/proc/self/fd")) == before


class TestGoodFiles:
    def test_entries_count_bytes_from_the_start_of_the_file(self, tmp_path):
        write(tmp_path, hostile.GOOD, hostile.DATA)
        begin = 8 + len(json.dumps(hostile.GOOD))

        shards = read_shards(tmp_path)

        assert shards.paths == (str(tmp_path / FILE),)
        assert shards.sizes == (begin + 22,)
        assert shards.entries == (
            ("a", "F32", (2, 2), 0, begin, begin + 16),
            ("b", "BF16", (3,), 0, begin + 16, begin + 22),
        )

    def test_a_header_padded_with_spaces_and_metadata_is_read(self, tmp_path):
        header = json.dumps({"__metadata__": {"format": "pt"}, **hostile.GOOD}).encode() + b" " * 7
        write(tmp_path, header, hostile.DATA)

        assert [name for name, *_ in read_shards(tmp_path).entries] == ["a", "b"]

    def test_tensors_need_not_stand_in_the_order_of_their_bytes(self, tmp_path):
        write(tmp_path, dict(reversed(hostile.GOOD.items())), hostile.DATA)

        assert {name for name, *_ in read_shards(tmp_path).entries} == {"a", "b"}

    def test_empty_and_scalar_tensors_are_read(self, tmp_path):
        header = {"none": entry("F32", [0, 5], 0, 0), "one": entry("F32", [], 0, 4)}
        write(tmp_path, header, bytes(4))

        assert {(name, shape) for name, _, shape, *_ in read_shards(tmp_path).entries} == {
            ("none", (0, 5)),
            ("one", ()),
        }

    def test_every_type_is_listed_also_those_that_are_not_computed_with(self, tmp_path):
        header, offset = {}, 0
        for dtype, bits in checkpoint.DTYPE_BITS.items():
            header[dtype] = entry(dtype, [8], offset, offset + bits)
            offset += bits
        write(tmp_path, header, bytes(offset))

        assert {dtype for _, dtype, *_ in read_shards(tmp_path).entries} == set(header)

    def test_any_other_name_is_read_when_it_is_the_only_one(self, tmp_path):
        write(tmp_path, hostile.GOOD, hostile.DATA, "gemma.safetensors")

        assert len(read_shards(tmp_path).entries) == 2

    def test_shards_follow_the_index(self, tmp_path):
        names = {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": names}))
        write(tmp_path, {"b": entry("U8", [3], 0, 3)}, bytes(3), "1.safetensors")
        two = {"a": entry("U8", [1], 0, 1), "c": entry("U8", [1], 1, 2)}
        write(tmp_path, two, bytes(2), "2.safetensors")
        write(tmp_path, hostile.GOOD, hostile.DATA, "unrelated.safetensors")

        shards = read_shards(tmp_path)

        assert [Path(path).name for path in shards.paths] == ["1.safetensors", "2.safetensors"]
        assert [(name, shard) for name, _, _, shard, *_ in shards.entries] == [
            ("b", 0),
            ("a", 1),
            ("c", 1),
        ]


def test_minus_zero_is_no_integer_of_a_header(tmp_path):
    write(tmp_path, json.dumps({"a": entry("U8", [0], 0, 0)}).replace("[0]", "[-0]").encode())

    assert "header has the number -0, expected an integer" in str(refused(tmp_path))


class TestLimits:
    """Stricter than the format; each is hit by one more than allowed."""

    def test_tensors_of_a_file(self, tmp_path, monkeypatch):
        count = 65_536
        write(tmp_path, {f"t{i}": entry("U8", [1], i, i + 1) for i in range(count)}, bytes(count))

        assert len(read_shards(tmp_path).entries) == count

        monkeypatch.setattr(checkpoint, "TENSORS_PER_FILE", count - 1)
        assert "has 65,536 tensors, expected at most 65,535" in str(refused(tmp_path))

    def test_tensors_of_a_checkpoint(self, tmp_path, monkeypatch):
        monkeypatch.setattr(checkpoint, "TENSORS", 1)
        write(tmp_path, hostile.GOOD, hostile.DATA)

        assert "has 2 tensors and more, expected at most 1" in str(refused(tmp_path))

    def test_shards(self, tmp_path):
        names = {f"t{i}": f"{i}.safetensors" for i in range(1025)}
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": names}))

        assert "names 1,025 files, expected at most 1,024" in str(refused(tmp_path))

    def test_the_index_file(self, tmp_path):
        with open(tmp_path / INDEX, "wb") as file:
            file.truncate(16 * 2**20 + 1)

        assert "has 16,777,217 bytes, expected at most 16,777,216" in str(refused(tmp_path))

    def test_a_large_header_is_ascii(self, tmp_path):
        write(tmp_path, ('{"é":1}' + " " * 2 * 2**20).encode())

        assert "not all ASCII, expected at most 2,097,152" in str(refused(tmp_path))

    @pytest.mark.parametrize(
        ("mark", "limit"), [("[", 131_072), ("{", 65_600), (":", 300_000), ('"', 800_000)]
    )
    def test_marks_are_counted_before_parsing(self, mark, limit, tmp_path):
        write(tmp_path, b"{" + mark.encode() * (limit + 1) + b"}")

        extra = mark == "{"
        assert f"has {limit + 1 + extra:,} characters {mark} in its JSON" in str(refused(tmp_path))


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":[' + b"[]," * 131_000 + b"[]]}",
        b'{"a":[' + b"1000000," * 740_000 + b"1]}",
        b'{"a":[' + b'"ab",' * 399_000 + b"1" * 20 + b"]}",
        b'{"__metadata__":{'
        + b",".join(b'"%d":"yyyyyyyyyyyy"' % i for i in range(199_000))
        + b"}}",
        b"{" + b",".join(b'"%d":{"a":"","b":"","c":""}' % i for i in range(65_000)) + b"}",
        '{"a":["\U0001f600",'.encode() + b"1000000," * 260_000 + b"1]}",
        b'{"a":"' + rb"\ud83d\ude00" * 690_000 + b'"}',
    ],
    ids=["brackets", "integers", "strings", "metadata", "entries", "wide", "escapes"],
)
def test_the_costliest_headers_stay_within_their_size_and_64_mib(header, tmp_path):
    write(tmp_path, header)

    tracemalloc.start()
    read_or_refuse(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < len(header) + 64 * 2**20


def read_or_refuse(folder: Path) -> str | None:
    try:
        read_shards(folder)
    except CheckpointError as error:
        return str(error)
    return None


class TestFolders:
    @pytest.mark.parametrize(
        ("names", "text"),
        [
            ([], "has no safetensors file. A checkpoint is a folder with config.json"),
            (["pytorch_model.bin"], "pytorch_model.bin is a pickle, which can run code"),
            (["consolidated.pth"], "consolidated.pth is a pickle"),
            (["model.pt", "config.json"], "model.pt is a pickle"),
            (["weights.pkl"], "weights.pkl is a pickle"),
            (["gemma.gguf"], "gemma.gguf is a GGUF file"),
            (
                ["a.safetensors", "b.safetensors"],
                f"2 safetensors files (a.safetensors, ...) and no {INDEX}",
            ),
        ],
    )
    def test_a_folder_without_weights_says_what_to_do(self, names, text, tmp_path):
        for name in names:
            (tmp_path / name).touch()

        assert text in str(refused(tmp_path))

    def test_a_folder_that_is_not_there(self, tmp_path):
        assert "cannot be listed" in str(refused(tmp_path / "nothing"))

    @pytest.mark.parametrize("value", [{}, {"weight_map": {}}, {"weight_map": []}, []])
    def test_an_index_without_a_map(self, value, tmp_path):
        (tmp_path / INDEX).write_text(json.dumps(value))

        assert "weight_map is missing or empty" in str(refused(tmp_path))

    @pytest.mark.parametrize(
        "name", ["a/b.safetensors", r"a\b.safetensors", "model.bin", ".safetensors", "", 5, None]
    )
    def test_an_index_names_plain_files(self, name, tmp_path):
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": name}}))

        error = refused(tmp_path)

        assert f'weight_map has {json.dumps(name)} for "a"' in str(error)
        assert (error.file, error.tensor) == (INDEX, "a")

    def test_a_tensor_that_the_index_does_not_name(self, tmp_path):
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "1.safetensors"}}))
        write(tmp_path, hostile.GOOD, hostile.DATA, "1.safetensors")

        assert f"tensor b: is in this file, but {INDEX} does not name it" in str(refused(tmp_path))

    def test_a_tensor_that_the_named_file_lacks(self, tmp_path):
        names = dict.fromkeys(("a", "b", "c"), "1.safetensors")
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": names}))
        write(tmp_path, hostile.GOOD, hostile.DATA, "1.safetensors")

        assert f"tensor c: is not in this file, but {INDEX} says so" in str(refused(tmp_path))

    def test_a_name_with_control_characters_is_shown_escaped(self, tmp_path):
        write(tmp_path, {"\x1b[2J\n": entry("U8", [1], 0, 2)}, bytes(2))

        assert r'tensor "\u001b[2J\n": ' in str(refused(tmp_path))

    def test_links_are_followed(self, tmp_path):
        (tmp_path / "blobs").mkdir()
        (tmp_path / "model").mkdir()
        write(tmp_path / "blobs", hostile.GOOD, hostile.DATA, "0")
        (tmp_path / "model" / FILE).symlink_to(tmp_path / "blobs" / "0")

        assert len(read_shards(tmp_path / "model").entries) == 2

    @pytest.mark.parametrize("inside", [True, False])
    def test_links_of_a_hub_cache_stay_in_their_repository(self, inside, tmp_path):
        mine, other = tmp_path / "models--me--mine", tmp_path / "models--me--other"
        blobs = (mine if inside else other) / "blobs"
        snapshot = mine / "snapshots" / ("0" * 40)
        blobs.mkdir(parents=True)
        snapshot.mkdir(parents=True)
        write(blobs, hostile.GOOD, hostile.DATA, "0")
        (snapshot / FILE).symlink_to(os.path.relpath(blobs / "0", snapshot))

        if inside:
            assert len(read_shards(snapshot).entries) == 2
        else:
            assert "outside of its repository" in str(refused(snapshot))


class TestJson:
    def test_an_object_is_read(self, tmp_path):
        path = tmp_path / "config.json"
        path.write_text('\n{"a": 1.5, "b": [null, true, "é"], "c": -9223372036854775808}\n')

        assert read_json(path) == {"a": 1.5, "b": [None, True, "é"], "c": -(2**63)}

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            (b"", "is no JSON"),
            (b"[]", "is a JSON list, expected an object"),
            (b'{"a": 1, "a": 1}', 'has 2 times "a" in one object'),
            (b'{"a": {"b": 1, "b": 2}}', 'has 2 times "b" in one object'),
            (b'{"a": NaN}', "has NaN, expected a number"),
            (b'{"a": -Infinity}', "has -Infinity, expected a number"),
            (b'{"a": 1e999}', "has the number 1e999, expected less"),
            (b'{"a": 18446744073709551616}', "expected an integer of 64 bits"),
            (b'{"a": ' + b"1" * 5000 + b"}", "expected an integer of 64 bits"),
            (b'{"a": "\xff"}', "has the byte 0xff at 7 of 10, expected UTF-8"),
            (b"\xef\xbb\xbf{}", "is no JSON"),
            (b'{"a": ' * 17 + b"1" + b"}" * 17, "nests deeper than 16 levels"),
            (b'{"a": ' * 100_000, "nests too deep"),
            (b" " * (2**20 + 1), "has 1,048,577 bytes, expected at most 1,048,576"),
        ],
    )
    def test_what_parsers_disagree_about_is_refused(self, content, text, tmp_path):
        path = tmp_path / "config.json"
        path.write_bytes(content)

        with pytest.raises(CheckpointError, match=re.escape(text)) as caught:
            read_json(path)

        assert str(caught.value).startswith("config.json: ")
        assert caught.value.file == "config.json"

    def test_sixteen_levels_are_allowed(self, tmp_path):
        path = tmp_path / "config.json"
        path.write_bytes(b'{"a": ' * 16 + b"1" + b"}" * 16)

        assert list(read_json(path)) == ["a"]

    def test_an_absent_file_is_named_with_its_folder(self, tmp_path):
        with pytest.raises(CheckpointError, match=f"config.json: is missing in {tmp_path}"):
            read_json(tmp_path / "config.json")


class TestFingerprint:
    def make(self, folder: Path) -> Path:
        folder.mkdir()
        write(folder, hostile.GOOD, hostile.DATA)
        (folder / "config.json").write_text("{}")
        (folder / "tokenizer.json").write_text("{}")
        return folder

    def of(self, folder: Path) -> str:
        return fingerprint(folder, read_shards(folder))

    def test_it_is_that_of_a_copy_elsewhere(self, tmp_path):
        first = self.make(tmp_path / "first")
        shutil.copytree(first, tmp_path / "second")

        assert re.fullmatch("[0-9a-f]{64}", self.of(first))
        assert self.of(first) == self.of(tmp_path / "second")

    @pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "header", "name", "absent"])
    def test_it_changes_with_what_it_covers(self, name, tmp_path):
        folder = self.make(tmp_path / "first")
        before = self.of(folder)

        if name == "header":
            write(folder, json.dumps(hostile.GOOD).encode() + b" ", hostile.DATA)
        elif name == "name":
            (folder / FILE).rename(folder / "other.safetensors")
        elif name == "absent":
            (folder / "tokenizer.json").unlink()
        else:
            (folder / name).write_text('{"a": 1}')

        assert self.of(folder) != before


class TestFind:
    """Without the hub; with it: test_hub.py."""

    def test_a_folder_is_found_as_it_is(self, tmp_path):
        assert find(tmp_path) == tmp_path
        assert find(str(tmp_path)) == tmp_path

    def test_a_revision_of_a_folder_is_refused(self, tmp_path):
        with pytest.raises(InvalidArgument, match=r"'v1', but .* is a folder") as caught:
            find(tmp_path, revision="v1")

        assert caught.value.argument == "revision"

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("model.safetensors", "Give the folder that holds model.safetensors"),
            ("model.gguf", "GGUF"),
            ("pytorch_model.bin", "pickle"),
        ],
    )
    def test_a_file_is_refused_with_advice(self, name, text, tmp_path):
        (tmp_path / name).touch()

        with pytest.raises(CheckpointError, match=text):
            find(tmp_path / name)

    @pytest.mark.parametrize(
        "path",
        ["nowhere", "/no/where", "./no/where", "a/b/c", "../a", "a/..", "org/na me", "a/b\n"],
    )
    def test_what_is_no_folder_and_no_hub_id_is_not_looked_up(self, path, monkeypatch):
        monkeypatch.setattr(hub, "_download", None)

        with pytest.raises(CheckpointError, match="no such folder, and no hub id"):
            find(path)

    @pytest.mark.parametrize("revision", ["", "../x", "a/../b", "a b", "/etc", "x" * 201])
    def test_a_revision_is_a_name(self, revision, monkeypatch):
        monkeypatch.setattr(hub, "_download", None)

        with pytest.raises(InvalidArgument, match="expected a branch, a tag or a commit"):
            find("org/name", revision=revision)


# What is refused here and read by the safetensors package; everything else must agree.
STRICTER = re.compile(
    r"in one object, expected once|expected dtype, shape, data_offsets only|expected an object"
    r"|header begins with|a name of \d+ bytes|expected a list of at most 8"
    r"|integers of 0 to 2\^63|expected at most 2\^63"
)
ODD = [-1, 0, 1, 2, 7, 2**31, 2**32, 2**62, 2**63, 2**64 - 1, 2**64, True, None, "2", 1.0, [1]]


def generated(random: random.Random) -> bytes:
    """A small file: good, or with a fault in an entry, in the layout or in the text."""
    header: dict = {}
    offset = 0
    for i in range(random.randint(1, 4)):
        dtype = random.choice(list(checkpoint.DTYPE_BITS)) if random.random() < 0.3 else "F16"
        shape = [random.choice([0, 1, 2, 3, 8]) for _ in range(random.randint(0, 3))]
        size = math.prod(shape) * checkpoint.DTYPE_BITS[dtype] // 8
        header[f"t{i}"] = entry(dtype, shape, offset, offset + size)
        offset += size
    data = bytes(offset)
    name = random.choice(list(header))
    info = header[name]
    fault = random.choice(
        ["none", "value", "shape", "offsets", "absent", "name", "metadata", "data", "entry", "text"]
    )
    if fault == "value":
        info[random.choice(list(info))] = random.choice([*ODD, "F31"])
    elif fault == "shape":
        info["shape"] = [random.choice(ODD) for _ in range(random.randint(1, 9))]
    elif fault == "offsets":
        count = random.choice([0, 1, 2, 2, 2, 2, 3])
        info["data_offsets"] = [random.choice([*ODD, 2, 4, 8, offset]) for _ in range(count)]
    elif fault == "absent":
        del info[random.choice(list(info))]
    elif fault == "name":
        header[random.choice(["", "\u00e9", "\0", "x" * 513])] = header.pop(name)
    elif fault == "metadata":
        header["__metadata__"] = random.choice([None, {}, {"a": "b"}, {"a": 1}, [], "x"])
    elif fault == "data":
        data = random.choice([data[:-1], data + b"\0"])
    elif fault == "entry":
        header[name] = random.choice(ODD)
    if random.random() < 0.3:
        header = dict(reversed(header.items()))
    raw = json.dumps(header).encode() + b" " * random.choice([0, 0, 1, 7])
    if fault == "text":
        at = random.randrange(len(raw))
        put = random.choice([b"", b"\xff", b"\0", b" ", b"}", b"-", b"0", b"e1", b"\\"])
        raw = raw[:at] + put + raw[at + 1 :]
    return file_bytes(raw, data)


def test_the_safetensors_package_agrees_on_generated_files(tmp_path):
    safetensors = pytest.importorskip("safetensors", reason="the safetensors package is not there")
    path = tmp_path / FILE
    verdicts = Counter()
    for seed in range(int(os.environ.get("GENERATED_FILES", "3000"))):
        content = generated(random.Random(seed))
        path.write_bytes(content)

        reason = read_or_refuse(tmp_path)
        try:
            safetensors.deserialize(content)
            accepted = True
        except safetensors.SafetensorError:
            accepted = False

        if accepted and reason is not None:
            assert STRICTER.search(reason), f"seed {seed}: they read it, we say: {reason}"
        assert accepted or reason is not None, f"seed {seed}: we read it, they do not"
        verdicts[accepted, reason is None] += 1
    assert min(verdicts[True, True], verdicts[False, False]) > 500


@pytest.mark.parametrize("count", [1, 3, 64])
def test_a_file_of_the_safetensors_package_is_read_as_it_was_written(count, tmp_path):
    package = pytest.importorskip(
        "safetensors.numpy", reason="the safetensors package is not there"
    )
    import numpy as np

    arrays = {f"t.{i}": np.arange(i * 5, dtype=np.float32).reshape(5, i) for i in range(count)}
    package.save_file(arrays, tmp_path / FILE, metadata={"format": "np"})

    shards = read_shards(tmp_path)

    content = (tmp_path / FILE).read_bytes()
    found = {
        name: np.frombuffer(content[begin:end], np.float32).reshape(shape)
        for name, _, shape, _, begin, end in shards.entries
    }
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
