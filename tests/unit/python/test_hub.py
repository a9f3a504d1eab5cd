"""Downloads from a hub on this machine, through HF_ENDPOINT, and finding them again without it.

huggingface_hub reads its environment once, when it is imported, so each look-up is a process.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest

from cabochon import hub as hub_module
from cabochon.errors import CheckpointError, MissingExtra
from local_hub import COMMIT, ask

INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")

ONE = {
    "config.json": b"{}",
    "tokenizer.json": b'{"version": "1.0"}',
    "chat_template.jinja": b"{{ messages }}",
    "model.safetensors": bytes(300_000),
    "README.md": b"not needed",
    "pytorch_model.bin": b"never",
    "onnx/model.safetensors": b"not needed",
}
MANY = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    INDEX: json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}).encode(),
    SHARDS[0]: bytes(1000),
    SHARDS[1]: bytes(2000),
    "consolidated.safetensors": b"not needed",
}

# Prints what `find` gave as one line of JSON.
CLIENT = """
import json, sys
from cabochon import errors, hub
name, revision = json.loads(sys.argv[1])
calls = []
try:
    folder = hub.find(name, revision=revision, progress=calls.append)
    answer = {"folder": str(folder)}
except errors.CabochonError as error:
    answer = {"error": type(error).__name__, "text": str(error)}
answer["calls"] = [(call.stage, call.done, call.total, call.unit) for call in calls]
print(json.dumps(answer))
"""


@pytest.fixture
def find(hub, tmp_path):
    """find(name, revision) in a process of its own, with this hub and a cache of its own."""

    def run(name: str, revision: str | None = None, **environment: str) -> dict:
        return ask(hub, CLIENT, [name, revision], tmp_path, **environment)

    return run


def test_a_download_fetches_what_is_needed_and_tells_its_progress(hub, find, tmp_path):
    hub.repositories["org/tiny"] = ONE

    answer = find("org/tiny")

    folder = Path(answer["folder"])
    needed = {"config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"}
    assert folder == tmp_path / f"home/hub/models--org--tiny/snapshots/{COMMIT}"
    assert {path.name for path in folder.iterdir()} == needed == hub.fetched()
    assert all((folder / name).read_bytes() == ONE[name] for name in needed)
    total = sum(len(ONE[name]) for name in needed)
    assert answer["calls"][-1] == ["download", total, total, "B"]
    done = [call[1] for call in answer["calls"]]
    assert done == sorted(done)


def test_what_was_downloaded_is_found_without_a_word_to_the_hub(hub, find):
    hub.repositories["org/tiny"] = ONE
    first = find("org/tiny")
    hub.requests.clear()

    again = [find("org/tiny"), find("org/tiny", COMMIT), find("org/tiny", HF_HUB_OFFLINE="1")]

    assert {answer["folder"] for answer in again} == {first["folder"]}
    assert hub.asked == []


def test_shards_are_those_that_the_index_names(hub, find):
    hub.repositories["org/big"] = MANY

    answer = find("org/big", "v1")

    names = {path.name for path in Path(answer["folder"]).iterdir()}
    assert names == MANY.keys() - {"consolidated.safetensors"}
    total = sum(len(MANY[name]) for name in names)
    assert answer["calls"][-1] == ["download", total, total, "B"]
    assert find("org/big", "v1", HF_HUB_OFFLINE="1")["folder"] == answer["folder"]


def test_a_download_that_failed_half_way_is_not_taken_for_whole(hub, find):
    hub.repositories["org/big"] = MANY
    hub.refused = {SHARDS[1]: 410}

    failed = find("org/big")
    offline = find("org/big", HF_HUB_OFFLINE="1")
    hub.refused.clear()
    hub.requests.clear()
    answer = find("org/big")

    assert failed["error"] == "DeviceError"
    assert "org/big: the download from the hub failed: " in failed["text"]
    assert offline["error"] == "CheckpointError"
    assert (Path(answer["folder"]) / SHARDS[1]).read_bytes() == MANY[SHARDS[1]]
    assert SHARDS[0] not in hub.fetched()  # it was there already


def test_a_copy_with_a_missing_file_is_completed_or_named(hub, find):
    hub.repositories["org/tiny"] = ONE
    folder = Path(find("org/tiny")["folder"])
    (folder / "tokenizer.json").unlink()

    offline = find("org/tiny", HF_HUB_OFFLINE="1")
    answer = find("org/tiny")

    assert offline["error"] == "CheckpointError"
    assert "the copy in the hub cache lacks tokenizer.json" in offline["text"]
    assert "HF_HUB_OFFLINE" in offline["text"]
    assert answer["folder"] == str(folder)
    assert (folder / "tokenizer.json").exists()


@pytest.mark.parametrize(
    ("name", "revision", "kind", "text"),
    [
        ("org/nothing", None, "CheckpointError", "no such repository on the hub"),
        ("org/tiny", "v9", "CheckpointError", "has no revision 'v9'"),
        ("org/gated", None, "CheckpointError", "accept the model's terms"),
        ("org/pickle", None, "CheckpointError", "pytorch_model.bin is a pickle"),
        ("org/gguf", None, "CheckpointError", "model.gguf is a GGUF file"),
        ("org/bare", None, "CheckpointError", "has no config.json"),
        ("org/evil", None, "CheckpointError", "expected the plain name of a .safetensors file"),
        ("org/short", None, "CheckpointError", f"names {SHARDS[0]}, which org/short lacks"),
    ],
)
def test_a_download_that_cannot_be_says_why(name, revision, kind, text, hub, find, tmp_path):
    evil = json.dumps({"weight_map": {"a": "../../x.safetensors"}}).encode()
    hub.repositories = {
        "org/tiny": ONE,
        "org/gated": ONE,
        "org/pickle": {"config.json": b"{}", "pytorch_model.bin": b"never"},
        "org/gguf": {"model.gguf": b"never"},
        "org/bare": {"model.safetensors": b"never"},
        "org/evil": MANY | {INDEX: evil},
        "org/short": {key: MANY[key] for key in ("config.json", INDEX)},
    }
    hub.gated = {"org/gated"}

    answer = find(name, revision)

    assert answer["error"] == kind
    assert answer["text"].startswith(f"{name}: ") or answer["text"].startswith(INDEX)
    assert text in answer["text"]
    assert hub.fetched() <= {INDEX}
    assert not (tmp_path / "home/hub" / f"models--{name.replace('/', '--')}" / "refs").exists()


def test_offline_and_not_in_the_cache(hub, find):
    answer = find("org/tiny", HF_HUB_OFFLINE="1")

    assert answer["error"] == "CheckpointError"
    assert "HF_HUB_OFFLINE forbids the download" in answer["text"]
    assert hub.asked == []


def test_a_hub_that_does_not_answer_is_a_failure_of_the_system(find):
    answer = find("org/tiny", HF_ENDPOINT="http://127.0.0.1:9")

    assert answer["error"] == "DeviceError"
    assert "org/tiny: the download from the hub failed: " in answer["text"]


class TestWithoutHuggingfaceHub:
    """The cache is read by us, so that a copy on disk needs no extra."""

    @pytest.fixture(autouse=True)
    def _absent(self, monkeypatch, tmp_path):
        for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)

    def put(self, cache: Path, revision: str = "main") -> Path:
        root = cache / "models--org--tiny"
        folder = root / "snapshots" / COMMIT
        folder.mkdir(parents=True)
        (root / "refs" / revision).parent.mkdir(parents=True)
        (root / "refs" / revision).write_text(COMMIT)
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            (folder / name).write_bytes(ONE[name])
        return folder

    @pytest.mark.parametrize(
        ("variable", "value", "cache"),
        [
            (None, "", ".cache/huggingface/hub"),
            ("XDG_CACHE_HOME", "{}/xdg", "xdg/huggingface/hub"),
            ("HF_HOME", "{}/hf", "hf/hub"),
            ("HF_HOME", "~/hf", "hf/hub"),
            ("HUGGINGFACE_HUB_CACHE", "{}/old", "old"),
            ("HF_HUB_CACHE", "$HOME/new", "new"),
        ],
    )
    def test_the_cache_is_where_the_environment_says(
        self, variable, value, cache, tmp_path, monkeypatch
    ):
        folder = self.put(tmp_path / cache)
        if variable:
            monkeypatch.setenv(variable, value.format(tmp_path))

        assert hub_module.find("org/tiny") == folder

    @pytest.mark.parametrize("revision", ["v1", "refs/pr/7"])
    def test_a_branch_is_followed_to_its_commit(self, revision, tmp_path):
        folder = self.put(tmp_path / ".cache/huggingface/hub", revision)

        assert hub_module.find("org/tiny", revision=revision) == folder
        assert hub_module.find("org/tiny", revision=COMMIT) == folder

    @pytest.mark.parametrize("content", ["", "../../../etc", "main", COMMIT[:-1], "\xff"])
    def test_a_ref_that_is_no_commit_is_not_followed(self, content, tmp_path):
        folder = self.put(tmp_path / ".cache/huggingface/hub")
        (folder.parents[1] / "refs" / "main").write_text(content, encoding="latin-1")

        with pytest.raises(MissingExtra):
            hub_module.find("org/tiny")

    def test_a_download_names_the_extra(self, tmp_path):
        with pytest.raises(MissingExtra, match=r"pip install 'cabochon\[hub\]'") as caught:
            hub_module.find("org/tiny")

        assert caught.value.extra == "hub"
        assert str(tmp_path / ".cache/huggingface/hub") in str(caught.value)

    def test_an_old_huggingface_hub_names_both_versions(self, monkeypatch):
        old = types.SimpleNamespace(__version__="0.36.0", hf_hub_download=lambda name: None)
        monkeypatch.setitem(sys.modules, "huggingface_hub", old)

        with pytest.raises(MissingExtra, match=r"is 0\.36\.0, expected 1\.5 or newer"):
            hub_module.find("org/tiny")

    def test_an_incomplete_copy_names_what_it_lacks(self, tmp_path):
        folder = self.put(tmp_path / ".cache/huggingface/hub")
        (folder / "model.safetensors").unlink()

        with pytest.raises(CheckpointError, match=r"lacks model\.safetensors"):
            hub_module.find("org/tiny")
