"""A checkpoint's chat template: found, hashed, compiled, run. Knows no messages and no ids.

Control tokens come from the template's own source and from nowhere else. Before it is compiled,
their names in its text and string literals become marks; so do the tokens it is given by name
(`bos_token`). What it prints is then marks, which are control tokens, and text, which is text,
whatever it spells and however it was put together. Marks are halves of surrogate pairs: no text
has those (messages with one are refused), so nothing has to be escaped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..checkpoint import read_json, read_small
from ..errors import CheckpointError, TemplateError
from ..tokenizer import CONTROL_NAMES, alternatives

FILE = "chat_template.jinja"
CONFIG = "tokenizer_config.json"

MAX_TEMPLATE_BYTES = 256 << 10
MAX_CONFIG_BYTES = 16 << 20  # it lists added tokens again: published ones pass 1 MiB
# 48 bytes, the longest piece, for each token of the longest context: more fits into no model.
MAX_OUTPUT_CHARACTERS = 48 * 262_144

MARKS: Mapping[str, str] = MappingProxyType(
    {name: chr(0xDC00 + index) for index, name in enumerate(CONTROL_NAMES)}
)
NAMES: Mapping[str, str] = MappingProxyType({mark: name for name, mark in MARKS.items()})
END = "\udfff"  # the mark for the end of a message that is continued

_CONTROL = alternatives(CONTROL_NAMES)
_ANY_MARK = alternatives(NAMES)


class _Refused(Exception):
    """What `raise_exception` of a template raises."""


class ChatTemplate:
    """One template, compiled.

    `text` is its source, `name` the file it came from, `sha256` the hash of `text` in UTF-8.
    """

    __slots__ = ("_compiled", "name", "sha256", "text")

    def __init__(self, text: str, *, name: str = FILE) -> None:
        """
        Raises:
            TemplateError: too long, or jinja2 cannot read it.
        """
        source = text.encode("utf-8", "surrogatepass")
        if len(source) > MAX_TEMPLATE_BYTES:
            raise TemplateError(
                f"{name}: the template has {len(source):,} bytes, expected at most "
                f"{MAX_TEMPLATE_BYTES:,}; the published ones have under 20,000"
            )
        if len(source) != len(text.encode("utf-8", "ignore")):
            raise TemplateError(f"{name}: the template has half of a surrogate pair, expected none")
        self.text = text
        self.name = name
        self.sha256 = hashlib.sha256(source).hexdigest()
        self._compiled = _compile(text, name)

    def run(self, variables: Mapping[str, Any]) -> str:
        """What it prints, with marks where it writes control tokens.

        Raises:
            TemplateError: it fails, refuses what it is given or prints too much.
        """
        printed: list[str] = []
        characters = 0
        try:
            for piece in self._compiled.generate(variables):
                characters += len(piece)
                if characters > MAX_OUTPUT_CHARACTERS:
                    raise _Refused(
                        f"it printed over {MAX_OUTPUT_CHARACTERS:,} characters, more than the "
                        "longest context holds"
                    )
                printed.append(piece)
        except _Refused as error:
            raise TemplateError(f"{self.name}: the template stopped: {error}") from None
        except Exception as error:  # it is a program: it can fail in any way
            raise TemplateError(
                f"{self.name}: the template failed on these messages: "
                f"{type(error).__name__}: {error}"
            ) from error
        return "".join(printed)


def load_template(folder: Path) -> ChatTemplate | None:
    """The template of a checkpoint: chat_template.jinja, else the one in tokenizer_config.json.

    None means a base model.

    Raises:
        CheckpointError: a file is damaged.
        TemplateError: the template is.
    """
    if (folder / FILE).exists():
        try:
            return ChatTemplate(read_small(folder / FILE, MAX_CONFIG_BYTES).decode())
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
    return ChatTemplate(found, name=CONFIG)


def split_marks(printed: str) -> Iterator[tuple[str, bool]]:
    """Runs of text and names of control tokens, in order; True for a control token."""
    for index, piece in enumerate(_ANY_MARK.split(printed)):
        if index % 2:
            yield NAMES[piece], True
        elif piece:
            yield piece, False


def _compile(text: str, name: str) -> jinja2.Template:
    # The options of transformers, without its extensions. `strftime_now` is absent: a prompt
    # depends on its messages, not on the day; templates that ask whether it is defined do without.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    try:
        tree = environment.parse(text)
        for data in tree.find_all(nodes.TemplateData):
            data.data = _mark(data.data)
        for constant in tree.find_all(nodes.Const):
            if isinstance(constant.value, str):
                constant.value = _mark(constant.value)
        return environment.from_string(tree)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(
            f"{name}: line {error.lineno} of the template: {error.message}; "
            "expected what jinja2 reads without extensions"
        ) from error
    except (RecursionError, MemoryError) as error:
        raise TemplateError(f"{name}: the template nests too deep to be compiled") from error


def _mark(text: str) -> str:
    return _CONTROL.sub(lambda match: MARKS[match[0]], text)


def _raise(message: Any) -> NoReturn:
    raise _Refused(str(message))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Not jinja2's own, which escapes for HTML; the same as transformers'."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
