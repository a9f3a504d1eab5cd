"""A checkpoint's chat template: found, hashed, chosen, run. Knows no messages and no ids.

A published template is known by its SHA-256 and printed natively (native.py). Any other is a
program of whoever made the checkpoint: it is refused unless the caller allows it, and then runs in
a child process (sandbox.py). Both print text with marks for control tokens (marks.py).
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Timer
from types import MappingProxyType
from typing import Any, Protocol

from ..checkpoint import read_json, read_small
from ..errors import CabochonWarning, CheckpointError, DeviceError, TemplateError
from . import native
from .marks import MARKS
from .sandbox import CPU_S, MEMORY_BYTES

FILE = "chat_template.jinja"
CONFIG = "tokenizer_config.json"

MAX_TEMPLATE_BYTES = 256 << 10
MAX_CONFIG_BYTES = 16 << 20  # it lists added tokens again: published ones pass 1 MiB
# 48 bytes, the longest piece, for each token of the longest context: more fits into no model.
MAX_OUTPUT_CHARACTERS = 48 * 262_144
# The limit that counts is the processor time; this one is for a child that does not start.
WALL_S = 30.0


class Template(Protocol):
    """What render.py needs of one."""

    @property
    def name(self) -> str:
        """Of the native one, or the file that it came from."""
        ...

    @property
    def sha256(self) -> str:
        """Of the checkpoint's file; of the published one where it has none."""
        ...

    @property
    def has_tools(self) -> bool:
        """Whether it knows tools and thinking."""
        ...

    def run(self, variables: Mapping[str, Any]) -> str:
        """What it prints, with marks where it writes control tokens.

        Args:
            variables: messages, tools, enable_thinking, preserve_thinking, add_generation_prompt,
                and bos_token and its like.

        Raises:
            TemplateError: it fails, refuses what it is given or prints too much.
        """
        ...


def _gemma4(variables: Mapping[str, Any], *, empty_thought: bool) -> str:
    return native.gemma4(
        variables["messages"],
        tools=variables["tools"],
        thinking=variables["enable_thinking"],
        preserve_thinking=variables["preserve_thinking"],
        add_generation_prompt=variables["add_generation_prompt"],
        empty_thought=empty_thought,
    )


def _gemma3(variables: Mapping[str, Any]) -> str:
    return native.gemma3(
        variables["messages"], add_generation_prompt=variables["add_generation_prompt"]
    )


EDGE, LARGE, GEMMA3 = "gemma4-edge", "gemma4-large", "gemma3"
_PRINTS: Mapping[str, Callable[[Mapping[str, Any]], str]] = MappingProxyType(
    {
        EDGE: partial(_gemma4, empty_thought=False),  # E2B, E4B
        LARGE: partial(_gemma4, empty_thought=True),  # 12B, 26B-A4B, 31B
        GEMMA3: _gemma3,
    }
)
# SHA-256 of the files as published, the one of each variant that is current first. The third pair
# is the same text with a hyphen for the dash of one comment.
PUBLISHED: Mapping[str, str] = MappingProxyType(
    {
        "0a2c8073c878ab1da004bee933a998606537bbb62016310352c7285c3f01c5b5": EDGE,  # 2026-07-09
        "ae53464bf3be25802b3a5b37def7fd89667067d7577049b3b2d74c4d8de4c6d4": LARGE,  # 2026-07-09
        "7de1c58e208eda46e9c7f86397df37ec49883aeece39fb961e0a6b24088dd3c4": GEMMA3,
        "3beb16a140a78c7bf71cd86609f58e56f1594e670e95fe58bd6022f941d1cb1e": EDGE,
        "df269903ea2e27a6426bf65f34f530a571cc04bf9b92ad8928ffa909eb46ecc5": LARGE,
    }
)
# Replaced by the publisher: they lack the open thought after a tool's result, among other things.
SUPERSEDED: Mapping[str, str] = MappingProxyType(
    {
        "33204f1acb5bd0002713e16a593847f24ceeafe711ed88bda2a352dc996a3373": EDGE,  # 2026-04
        "94899c0f917d93f6fe81c95744d1e8ddab2d21d39228d2e4aec1fb2a25bff413": LARGE,  # 2026-04
        "36e3a42e5cf14cd0020e72d92e1fdd9970f59b82170e421f0cbe1bb42bead3f0": LARGE,  # 2026-05
    }
)


@dataclass(frozen=True, slots=True)
class NativeTemplate:
    """A published one."""

    name: str  # EDGE, LARGE or GEMMA3
    sha256: str

    @property
    def has_tools(self) -> bool:
        return self.name != GEMMA3

    def run(self, variables: Mapping[str, Any]) -> str:
        return _PRINTS[self.name](variables)


def native_template(name: str) -> NativeTemplate:
    """The published template of that name, with the hash of its current file."""
    return NativeTemplate(name, next(sha256 for sha256 in PUBLISHED if PUBLISHED[sha256] == name))


class CustomTemplate:
    """One of somebody else: `text` is its source, `name` the file it came from."""

    __slots__ = ("name", "sha256", "text")

    has_tools = True  # it is handed them; what it makes of them is its own

    def __init__(self, text: str, *, name: str = FILE) -> None:
        """
        Raises:
            TemplateError: too long, or jinja2 cannot read it.
        """
        self.text = text
        self.name = name
        self.sha256 = _sha256(text, name)
        self._ask(None)

    def run(self, variables: Mapping[str, Any]) -> str:
        return self._ask(variables)

    def _ask(self, variables: Mapping[str, Any] | None) -> str:
        answer = _in_child(
            {
                "path": sys.path,
                "template": self.text,
                "marks": dict(MARKS),
                "limit": MAX_OUTPUT_CHARACTERS,
                "variables": variables,
            }
        )
        if "ended" in answer:
            raise TemplateError(
                f"{self.name}: the template was ended: found {answer['ended']}, expected a prompt "
                "with less"
            )
        if "syntax" in answer:
            line, message = answer["syntax"]
            raise TemplateError(
                f"{self.name}: line {line} of the template: {message}; "
                "expected what jinja2 reads without extensions"
            )
        if "stopped" in answer:
            raise TemplateError(f"{self.name}: the template stopped: {answer['stopped']}")
        if "failed" in answer:
            what = "on these messages" if variables is not None else "to compile"
            raise TemplateError(f"{self.name}: the template failed {what}: {answer['failed']}")
        return str(answer["printed"])


def _in_child(request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of sandbox.py, or "ended" with the limit that ended it.

    The child has no descriptor, environment or memory of this process.

    Raises:
        DeviceError: no child can be started.
    """
    program = [sys.executable, "-I", "-S", str(Path(__file__).with_name("sandbox.py"))]
    kept = {key: os.environ[key] for key in ("LD_LIBRARY_PATH",) if key in os.environ}
    try:
        child = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=kept,
        )
    except (OSError, TypeError) as error:  # TypeError: an embedded interpreter has no executable
        raise DeviceError(f"starting {sys.executable} for a custom template: {error}") from error
    timer = Timer(WALL_S, child.kill)
    timer.daemon = True
    with child:
        assert child.stdin is not None and child.stdout is not None
        timer.start()
        try:
            with suppress(BrokenPipeError):
                child.stdin.write(json.dumps(request).encode())
                child.stdin.close()
            written = child.stdout.read(4 * MAX_OUTPUT_CHARACTERS + (1 << 20))
        finally:
            child.kill()
            timer.cancel()
            timer.join()
    try:
        answer = json.loads(written.decode("utf-8", "surrogatepass"))
    except ValueError:  # nothing, or cut
        answer = None
    if isinstance(answer, dict):
        return answer
    if child.returncode == -signal.SIGXCPU:
        return {"ended": f"more than {CPU_S} s of processor time"}
    return {"ended": f"more than {MEMORY_BYTES >> 20} MiB of memory, or {WALL_S:g} s"}


def load_template(
    folder: Path, *, variant: str, is_chat: bool, allow_custom: bool
) -> Template | None:
    """The template of a checkpoint: chat_template.jinja, else the one in tokenizer_config.json,
    else for one that ends turns the published one. None means a base model.

    Args:
        variant: EDGE, LARGE or GEMMA3, what the model is by its config.
        is_chat: its stops include the end of a turn.
        allow_custom: a template of unknown hash is taken, too.

    Raises:
        CheckpointError: a file is damaged.
        TemplateError: the template is, or is not known and not allowed.
    """
    found = _find(folder)
    if found is None:
        return native_template(variant) if is_chat else None
    text, name = found
    sha256 = _sha256(text, name)
    known = PUBLISHED.get(sha256) or SUPERSEDED.get(sha256)
    if known is None and not allow_custom:
        current = native_template(variant)
        raise TemplateError(
            f"{name}: found a template with SHA-256 {sha256}, expected a published one: for this "
            f"model {current.sha256} ({current.name}); it may be stale or changed. Download the "
            "checkpoint again; or load without that file to use the published one; or permit it "
            "with allow_custom_template=True (--allow-custom-template): it runs in a sandbox. "
            "Known: " + ", ".join(f"{known} ({PUBLISHED[known]})" for known in PUBLISHED)
        )
    if known is None:
        return CustomTemplate(text, name=name)
    if (known == GEMMA3) != (variant == GEMMA3):
        raise TemplateError(
            f"{name}: found the published template {known}, expected {variant}, which is what "
            "config.json describes"
        )
    if sha256 in SUPERSEDED:
        warnings.warn(
            f"{name}: SHA-256 {sha256[:12]} is a revision that its publisher replaced; "
            f"messages are rendered by the current one, {native_template(known).sha256[:12]}",
            CabochonWarning,
            stacklevel=5,
        )
    return NativeTemplate(known, sha256)


def _find(folder: Path) -> tuple[str, str] | None:
    """Its text, and the file that has it."""
    if (folder / FILE).exists():
        try:
            return read_small(folder / FILE, MAX_CONFIG_BYTES).decode(), FILE
        except UnicodeDecodeError as error:
            raise TemplateError(f"{FILE}: byte {error.start} is no UTF-8, expected text") from None
    if not (folder / CONFIG).exists():
        return None
    found = read_json(folder / CONFIG, limit_bytes=MAX_CONFIG_BYTES).get("chat_template")
    if isinstance(found, list):  # several by name, as transformers writes them
        found = next(
            (
                item.get("template")
                for item in found
                if isinstance(item, dict) and item.get("name") == "default"
            ),
            found,
        )
    if found is None:
        return None
    if not isinstance(found, str):
        raise CheckpointError(
            f"{CONFIG}: chat_template: found {type(found).__name__}, expected text, or a list "
            "with a template named 'default'",
            file=CONFIG,
            key="chat_template",
        )
    return found, CONFIG


def _sha256(text: str, name: str) -> str:
    source = text.encode("utf-8", "surrogatepass")
    if len(source) > MAX_TEMPLATE_BYTES:
        raise TemplateError(
            f"{name}: the template has {len(source):,} bytes, expected at most "
            f"{MAX_TEMPLATE_BYTES:,}; the published ones have under 20,000"
        )
    if len(source) != len(text.encode("utf-8", "ignore")):
        raise TemplateError(f"{name}: the template has half of a surrogate pair, expected none")
    return hashlib.sha256(source).hexdigest()
