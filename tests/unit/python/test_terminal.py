"""What a terminal may be shown; conversations in one are in system/."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from cabochon.results import Event
from cabochon.terminal import show, visible
from cabochon.types import ToolCall


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n\ttext é 🚀", "plain\n\ttext é 🚀"),
        ("\x1b[31mred\x07", "␛[31mred␇"),
        ("a\x7fb\x9bc", "a<U+007F>b<U+009B>c"),
        ("\u202eabc\u2066", "<U+202E>abc<U+2066>"),
        ("\r", "␍"),
    ],
)
def test_control_characters_are_made_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_call_begins_a_line_of_the_terminal_that_shows_the_answer_too(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    fields: dict[str, Any] = {"id": "call_0", "name": "f", "arguments": {"é": [1]}, "raw": "call:f"}

    kind = show(Event(kind="text", text="Look."), "")
    show(Event(kind="tool_call", tool_call=ToolCall(**fields)), kind)
    show(Event(kind="tool_call", tool_call=ToolCall(**fields, error="no")), "tool_call")

    shown = capsys.readouterr()
    assert shown.out == ("Look.\n" if is_terminal else "Look.")
    assert shown.err == 'f {"é": [1]}\ncall:f\n'
