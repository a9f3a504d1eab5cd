"""Downloads from a hub on this machine, through HF_ENDPOINT, and finding them again without it.

huggingface_hub reads its environment once, when it is imported, so each look-up is a process.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import cabochon
from cabochon import hub as hub_module
from cabochon.errors import CheckpointError, MissingExtra

COMMIT = "0123456789abcdef0123456789abcdef01234567"
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


@dataclass
class Hub:
    """A hub with some repositories; counts what it is asked for."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)  # file names it fails to serve
    asked: list[str] = field(default_factory=list)  # "GET path"
    port: int = 0

    def fetched(self) -> set[str]:
        paths = [line.split("/resolve/", 1) for line in self.asked if line.startswith("GET")]
        return {tail[1].split("/", 1)[1] for tail in paths if len(tail) == 2}

    def answer(self, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(f"{method} {path}")
        parts = path.split("?")[0].strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        name = "/".join(parts[2:4] if is_api else parts[:2])
        files = self.repositories.get(name)
        revision = ([*parts, ""] if is_api else parts)[5 if is_api and len(parts) > 5 else 3]
        if is_api and len(parts) == 4:
            revision = "main"
        if files is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if revision not in ("main", "v1", COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        if is_api:
            siblings = [
                {"rfilename": name, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
                for name, data in files.items()
            ]
            info = {"id": name, "sha": COMMIT, "siblings": siblings, "private": False}
            return 200, {"Content-Type": "application/json"}, json.dumps(info).encode()
        if name in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b"{}"
        file = "/".join(parts[4:])
        if file in self.broken:
            return 403, {}, b"{}"
        if file not in files:
            return 404, {"X-Error-Code": "EntryNotFound"}, b"{}"
        data = files[file]
        etag = f'"{hashlib.sha256(file.encode() + data).hexdigest()}"'
        return 200, {"X-Repo-Commit": COMMIT, "ETag": etag}, data


@pytest.fixture
def hub() -> Iterator[Hub]:
    state = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self) -> None:
            status, headers, data = state.answer(self.command, self.path)
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_GET = do_HEAD = reply

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def find(hub, tmp_path):
    """find(name, revision) in a process of its own, with this hub and a cache of its own."""
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not there")

    def run(name: str, revision: str | None = None, **environment: str) -> dict:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE"))}
        package = str(Path(cabochon.__file__).parents[1])
        clean |= {
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.port}",
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": os.pathsep.join([package, clean.get("PYTHONPATH", "")]),
        }
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, json.dumps([name, revision])],
            env=clean | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

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
    hub.asked.clear()

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
    hub.broken = {SHARDS[1]}

    failed = find("org/big")
    offline = find("org/big", HF_HUB_OFFLINE="1")
    hub.broken = set()
    hub.asked.clear()
    answer = find("org/big")

    assert failed["error"] == "DeviceError"
    assert "org/big: the download from the hub into" in failed["text"]
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
    assert "HF_HUB_OFFLINE forbids a download" in answer["text"]
    assert hub.asked == []


def test_a_hub_that_does_not_answer_is_a_failure_of_the_system(find):
    answer = find("org/tiny", HF_ENDPOINT="http://127.0.0.1:9")

    assert answer["error"] == "DeviceError"
    assert "org/tiny: the download from the hub into" in answer["text"]


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
