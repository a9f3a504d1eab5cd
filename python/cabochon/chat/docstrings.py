"""What a docstring says of a function or class, and of each of its parameters."""

from __future__ import annotations

import re
from collections.abc import Collection

# Sections that end the short form's last entry.
_OTHER_SECTIONS = r"Returns|Return|Raises|Yields|Examples?|Notes?"


def described(docstring: str | None, names: Collection[str]) -> tuple[str, dict[str, str]]:
    """The description, and the texts of parameters by name.

    Read are Google's, NumPy's and Sphinx's sections, and the short form, where the entries follow
    "Args:" on its own line: "Weather of a city. Args: city: its name. unit: degrees." There a name
    of `names` begins an entry at the start of a sentence or line. The description is what stands
    before the first section: what results, errors, examples and notes say is no part of it.

    Args:
        docstring: as written, indented; None and "" describe nothing.
        names: the parameters. Entries of others are returned too: the caller knows what is wrong.

    Raises:
        ValueError: the docstring cannot be read.
    """
    import docstring_parser

    text = docstring or ""
    try:
        parsed = docstring_parser.parse(text)
    except Exception as error:  # another's parser: on text that is no docstring it fails in any way
        raise ValueError(f"{type(error).__name__}: {error}") from error
    entries = {
        name.strip(): _one_line(item.description)
        for item in parsed.params
        for name in item.arg_name.split(",")  # NumPy's "x, y : float"
    }
    description = _plain(parsed.description)
    if entries or (found := _SHORT_FORM.match(text)) is None:
        return description, entries
    entries = _short_entries(found["entries"], names)
    return (_plain(found["description"]), entries) if entries else (description, {})


# The description is as short as can be: the first "Args:" that something follows.
_SHORT_FORM = re.compile(
    r"(?P<description>.*?)\b(?:Args|Arguments|Parameters|Params):[ \t]*(?P<entries>\S.*)", re.DOTALL
)


def _short_entries(text: str, names: Collection[str]) -> dict[str, str]:
    if not names:
        return {}
    known = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    pieces = re.split(rf"(?:^|(?<=[.;,!?\n]))\s*\b({known}|{_OTHER_SECTIONS}):(?=\s)", text)
    entries: dict[str, str] = {}
    for name, entry in zip(pieces[1::2], pieces[2::2], strict=True):
        if name not in names:
            break
        entries.setdefault(name, _one_line(entry))
    return entries


def _plain(text: str | None) -> str:
    """Lines without the indentation and the blank ends that a source file gives them."""
    return "\n".join(line.strip() for line in (text or "").strip().splitlines())


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())
