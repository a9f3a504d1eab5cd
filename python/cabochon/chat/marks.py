"""Control tokens inside rendered text: each is one character that no text can hold.

Marks are halves of surrogate pairs. Text that has those is refused (render.py), so a mark is
always a control token that a template wrote, and everything else is text, whatever it spells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ..tokenizer import CONTROL_NAMES, alternatives

MARKS: Mapping[str, str] = MappingProxyType(
    {name: chr(0xDC00 + index) for index, name in enumerate(CONTROL_NAMES)}
)
NAMES: Mapping[str, str] = MappingProxyType({mark: name for name, mark in MARKS.items()})
END = "\udfff"  # the end of a message that is continued

_CONTROL = alternatives(CONTROL_NAMES)
_ANY_MARK = alternatives(NAMES)


def mark(text: str) -> str:
    """`text` with every name of a control token as its mark. Never for what a caller wrote."""
    return _CONTROL.sub(lambda match: MARKS[match[0]], text)


def split_marks(printed: str) -> Iterator[tuple[str, bool]]:
    """Runs of text and names of control tokens, in order; True for a control token."""
    for index, piece in enumerate(_ANY_MARK.split(printed)):
        if index % 2:
            yield NAMES[piece], True
        elif piece:
            yield piece, False
