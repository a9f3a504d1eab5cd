"""A hub on this machine, for tests of downloads: no network, every request is written down.

huggingface_hub reads its environment (HF_ENDPOINT, ...) once, when it is imported, so what uses it
runs in a process of its own: `ask`.
"""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import cabochon

COMMIT = "0123456789abcdef0123456789abcdef01234567"

Content = bytes | Path  # a file may be larger than memory: it is read where a range asks for it


@dataclass
class Request:
    line: str  # "GET path"
    range: str | None
    token: str | None
    sent: int = 0  # bytes of content


@dataclass
class Hub:
    """A hub with some repositories; notes what it is asked for."""

    repositories: dict[str, dict[str, Content]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    refused: dict[str, int] = field(default_factory=dict)  # file names it fails to serve: status
    has_ranges: bool = True  # False: it sends whole files whatever is asked
    cut: dict[str, int] = field(default_factory=dict)  # file: bytes after which it says no more
    requests: list[Request] = field(default_factory=list)
    port: int = 0

    @property
    def asked(self) -> list[str]:
        return [request.line for request in self.requests]

    def fetched(self) -> set[str]:
        paths = [line.split("/resolve/", 1) for line in self.asked if line.startswith("GET")]
        return {tail[1].split("/", 1)[1] for tail in paths if len(tail) == 2}

    def answer(self, path: str, wanted: str | None) -> tuple[int, dict[str, str], Content]:
        """Status, headers and the whole content; of a file its range is still to be taken."""
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
                {"rfilename": name, "size": size(file), "blobId": tag(file)}
                for name, file in files.items()
            ]
            info = {"id": name, "sha": COMMIT, "siblings": siblings, "private": False}
            return 200, {"Content-Type": "application/json"}, json.dumps(info).encode()
        if name in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b"{}"
        file = "/".join(parts[4:])
        if file in self.refused:
            return self.refused[file], {}, b"{}"
        if file not in files:
            return 404, {"X-Error-Code": "EntryNotFound"}, b"{}"
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{tag(files[file])}"'}
        return (206 if wanted and self.has_ranges else 200), headers, files[file]


def size(file: Content) -> int:
    return file.stat().st_size if isinstance(file, Path) else len(file)


def tag(file: Content) -> str:
    said = str(file).encode() if isinstance(file, Path) else file
    return hashlib.sha256(said).hexdigest()


def pieces(file: Content, begin: int, end: int) -> Iterator[bytes]:
    with file.open("rb") if isinstance(file, Path) else io.BytesIO(file) as opened:
        opened.seek(begin)
        while piece := opened.read(min(2**20, end - opened.tell())):
            yield piece


@contextmanager
def serve() -> Iterator[Hub]:
    hub = Hub()
    is_over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self) -> None:
            request = Request(
                f"{self.command} {self.path}",
                self.headers.get("Range"),
                self.headers.get("Authorization"),
            )
            hub.requests.append(request)
            status, headers, content = hub.answer(self.path, request.range)
            begin, end = 0, size(content)
            if status == 206:
                found = re.fullmatch(r"bytes=(\d+)-(\d+)", request.range or "")
                assert found is not None, request.range
                begin, end = int(found[1]), min(int(found[2]) + 1, end)
                headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size(content)}"
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(end - begin))
            self.end_headers()
            if self.command == "HEAD":
                return
            cut = hub.cut.get(self.path.rsplit("/", 1)[-1])
            last = end if cut is None else min(end, begin + cut)
            for piece in pieces(content, begin, last):
                try:
                    self.wfile.write(piece)
                except OSError:  # the other side has heard enough
                    self.close_connection = True
                    return
                request.sent += len(piece)
            if last < end:
                is_over.wait()

        do_GET = do_HEAD = reply

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield hub
    is_over.set()
    server.shutdown()
    server.server_close()
    thread.join()


def environment(hub: Hub, folder: Path) -> dict[str, str]:
    """Of a process that knows this hub and has an empty cache in `folder`."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE"))}
    package = str(Path(cabochon.__file__).parents[1])
    return clean | {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.port}",
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join([package, clean.get("PYTHONPATH", "")]),
    }


def ask(hub: Hub, client: str, question: Any, folder: Path, **variables: str) -> Any:
    """The answer (JSON, its last line) of the program `client` to a question (JSON)."""
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not there")
    done = subprocess.run(
        [sys.executable, "-c", client, json.dumps(question)],
        env=environment(hub, folder) | variables,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
