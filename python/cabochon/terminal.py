"""What a terminal shows of an answer, and `cabochon chat`: a conversation in one.

Answers go to stdout, everything else to stderr.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import errors
from .display import numbers, size

if TYPE_CHECKING:
    from .model import Model
    from .results import Event
    from .types import ToolCall


def visible(text: str) -> str:
    """Control characters, and those that reorder text, as characters one can see."""
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    code = ord(character)
    if character in "\n\t" or 0x20 <= code < 0x7F:
        return character
    if code < 0x20:
        return chr(0x2400 + code)
    if code < 0xA0 or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069:
        return f"<U+{code:04X}>"
    return character


def say(text: str) -> None:
    """A line on stderr."""
    print(visible(text), file=sys.stderr)


def show(event: Event, before: str) -> str:
    """An answer on stdout, all else apart from it. Takes the kind of the event before, gives the
    kind of this one."""
    if before == "thinking" != event.kind:
        _aside("\n")
    if event.kind == "text":
        _answer(event.text)
    elif event.kind == "thinking":
        _aside(event.text)
    elif event.kind == "tool_result":
        _aside(f"{event.text}\n")
    elif event.tool_call is not None:
        if before == "text" and sys.stdout.isatty():
            _answer("\n")
        _aside(f"{_written(event.tool_call)}\n")
    return event.kind


def _answer(text: str) -> None:
    print(visible(text) if sys.stdout.isatty() else text, end="", flush=True)


def _aside(text: str) -> None:
    is_terminal = sys.stderr.isatty()
    shown = f"\x1b[2m{visible(text)}\x1b[0m" if is_terminal else text  # dim
    print(shown, end="", file=sys.stderr, flush=True)


def _written(call: ToolCall) -> str:
    """A call in one line; what is wrong with it is in its result."""
    if call.error is not None:
        return call.raw
    return f"{call.name} {json.dumps(dict(call.arguments), ensure_ascii=False)}"


def not_text(error: UnicodeDecodeError) -> errors.InvalidArgument:
    """What is raised where standard input cannot be decoded."""
    return errors.InvalidArgument(
        f"standard input: found bytes that are no {error.encoding} at {error.start}, expected text",
        argument="prompt",
    )


def talk(model: Model, *, system: str | None, options: Mapping[str, Any], is_counted: bool) -> None:
    """A conversation, until Ctrl-D or /quit.

    Args:
        options: keywords of `generate` for every turn.
        is_counted: tokens and seconds after each answer.
    """
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if is_terminal:
        with contextlib.suppress(ImportError):  # lines can be edited and found again
            import readline  # noqa: F401
        say(f"{model.name}, {model.context:,} tokens of context; /help shows commands")
    conversation = _Talk(model, system, options, is_counted)
    while (line := _read_line("> " if is_terminal else "")) is not None:
        try:
            if line.startswith("/"):
                if not conversation.command(*line[1:].strip().partition(" ")[::2]):
                    return
            elif line.strip():
                conversation.turn(line)
        except KeyboardInterrupt:
            say(f"\n(stopped{'' if line.startswith('/') else ': this turn is forgotten'})")
        except errors.CabochonError as error:
            say(f"cabochon: {error}")
    if is_terminal:
        say("")  # the shell's next line is its own


def _read_line(prompt: str) -> str | None:
    """What was typed; None after Ctrl-D. Ctrl-C gives up the line."""
    try:
        return input(prompt)
    except EOFError:
        return None
    except UnicodeDecodeError as error:
        raise not_text(error) from None
    except KeyboardInterrupt:
        say("")
        return ""


_HELP = """\
/think on|off|N    ask for thoughts; N: of so many tokens at most
/tools FILE.py     its public functions may be called, and are run; without FILE: none
/image FILE        to come
/undo              forget the last turn
/save FILE         write the conversation, with its keys and values
/load FILE         go on with one
/stats             tokens and seconds after each answer, or no more
/help, /quit
Ctrl-C stops an answer and forgets its turn, Ctrl-D leaves; begin with a space to send a slash."""


class _Talk:
    """A conversation in a terminal, and what its commands have changed."""

    def __init__(
        self, model: Model, system: str | None, options: Mapping[str, Any], is_counted: bool
    ) -> None:
        self._model = model
        self._changed: dict[str, Any] = {}  # overrides of every turn
        self._is_counted = is_counted
        self._chat = model.chat(system=system, **options)

    def turn(self, text: str) -> None:
        """One question and its answer."""
        kind = ""
        for event in self._chat.stream(text, **self._changed):
            kind = show(event, kind)
            result = event.result
            if result is None:
                continue
            print(flush=True)
            if result.stop_reason == "context":
                say("(the context is full: /undo, or load the model with a larger one)")
            elif result.finish_reason == "tool_calls":
                say("(its calls are left open: so many rounds of them are the most for one turn)")
            if self._is_counted:
                say(numbers(result))

    def command(self, name: str, rest: str) -> bool:
        """Runs one; False: leave."""
        file = os.path.expanduser(rest.strip())
        if name == "think":
            self._changed |= _thinking(rest.strip())
        elif name == "tools":
            from .chat.tools import read_file

            self._changed["tools"] = read_file(Path(file)) if file else ()
            say(", ".join(tool.name for tool in self._changed["tools"]) or "no tools")
        elif name == "undo":
            if not any(message["role"] == "user" for message in self._chat.messages):
                raise errors.InvalidArgument("/undo: found no turn to forget")
            self._chat.undo()
            self._say_length()
        elif name in ("save", "load") and not file:
            raise errors.InvalidArgument(f"/{name}: found no FILE, expected one")
        elif name == "save":
            self._chat.save(file)
            say(f"{file}, {size(os.path.getsize(file))}")
        elif name == "load":
            from .chat.chat import Chat

            self._chat = Chat.load(file, self._model)
            self._say_length()
        elif name == "stats":
            self._is_counted = not self._is_counted
            say(f"stats {'on' if self._is_counted else 'off'}")
        elif name == "image":
            raise errors.Unsupported("/image is to come")
        elif name == "help":
            say(_HELP)
        elif name == "quit":
            return False
        else:
            raise errors.InvalidArgument(f"/{name}: found no such command, see /help")
        return True

    def _say_length(self) -> None:
        say(f"{len(self._chat.messages)} messages, {self._chat.context_left:,} tokens left")


def _thinking(rest: str) -> dict[str, Any]:
    if rest.isdecimal() and len(rest) < 10:
        say(f"thinking, {rest} tokens at most")
        return {"thinking": True, "thinking_budget": int(rest)}
    if rest not in ("on", "off"):
        raise errors.InvalidArgument(f"/think: found {rest!r}, expected on, off or a number")
    say(f"thinking {rest}")
    return {"thinking": rest == "on", "thinking_budget": None}
