"""Messages to the prompt that a model reads. The only place that yields control tokens.

Messages are checked here and copied, so that a template sees plain dicts, lists and text. A control
string inside one is ordinary text (chat/marks.py says why that holds).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from ..errors import InvalidArgument, TemplateError, Unsupported
from ..tokenizer import Tokenizer
from .calls import NAME_FORM, is_name
from .marks import END, MARKS, split_marks
from .parser import starting_state
from .template import NativeTemplate, Template

MAX_MESSAGES = 100_000
MAX_PARTS = 10_000  # a message
MAX_TOOLS = 1024
MAX_DEPTH = 64  # of tool arguments
MAX_INTEGER_BITS = 4096  # Python refuses to print integers a few times that long

_EXTRA_KEYS: Mapping[str, frozenset[str]] = {
    "system": frozenset(),
    "developer": frozenset(),
    "user": frozenset(),
    "assistant": frozenset({"tool_calls", "reasoning", "reasoning_content"}),
    "model": frozenset({"tool_calls", "reasoning", "reasoning_content"}),
    "tool": frozenset({"tool_call_id", "name"}),
}
_MEDIA_PARTS = ("image", "image_url", "audio", "input_audio", "video")
PLACEHOLDERS = ("<|image|>", "<|audio|>", "<|video|>", "<start_of_image>", "<image_soft_token>")


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedPrompt:
    """What is sent to the model, and what made it."""

    text: str  # as published, with the names of control tokens; not for encoding again
    token_ids: list[int]  # begins with BOS where the tokenizer has one, and has no other
    template_name: str  # of the native one, or the file that a custom one came from
    template_sha256: str
    starts_in: str  # what the model's answer begins in: "answer" or "thinking"


def render(
    messages: Sequence[Mapping[str, Any]],
    *,
    template: Template,
    tokenizer: Tokenizer,
    tools: Sequence[Mapping[str, Any]] | None = None,
    thinking: bool = False,
    preserve_thinking: bool = False,
    add_generation_prompt: bool = True,
    continue_final: bool = False,
    allow_control: bool = False,
    any_order: bool = False,
    placeholders: bool = False,
) -> RenderedPrompt:
    """Renders a conversation with the checkpoint's own template.

    Args:
        messages: dicts with role, content (text or parts) and the role's other keys.
        tools: OpenAI declarations: {"type": "function", "function": {"name", ...}}.
        thinking, preserve_thinking: the template's `enable_thinking` and `preserve_thinking`.
        add_generation_prompt: the model's turn is opened at the end.
        continue_final: the last message, an assistant's, stays open to be continued. Where the
            template trims messages, white space at its end goes too.
        allow_control: names of control tokens inside messages become those tokens.
        any_order: the last message may be anyone's; otherwise it must be one to be answered.
        placeholders: a media part without a source is printed as its placeholder.

    Raises:
        InvalidArgument: a message or tool is not what it should be; the text names it.
        Unsupported: a message has an image, sound or video; or thinking or tools with a template
            that knows none.
        TemplateError: the template fails or refuses the messages.
    """
    for name, is_asked in (("thinking", thinking), ("tools", bool(tools))):
        if is_asked and not template.has_tools:
            raise Unsupported(f"{name}: the template {template.name} has none, expected Gemma 4's")
    copier = _Copier(tokenizer if allow_control else None, placeholders=placeholders)
    plain = copier.messages(messages)
    declared = copier.tools(tools) if tools else None
    if continue_final:
        add_generation_prompt = False
        ending = _open_final(plain)
    elif add_generation_prompt and not any_order:
        _check_last(plain)
    printed = template.run(
        {
            "messages": plain,
            "tools": declared,
            "enable_thinking": thinking,
            "preserve_thinking": preserve_thinking,
            "add_generation_prompt": add_generation_prompt,
            **{
                f"{name}_token": MARKS[f"<{name}>"]
                for name in ("bos", "eos", "pad", "unk")
                if f"<{name}>" in tokenizer.control_ids
            },
        }
    )
    if continue_final:
        printed = _cut(printed, ending, template.name)
    is_custom = not isinstance(template, NativeTemplate)
    strict = is_custom and not copier.has_bracket
    pieces = _pieces(printed, tokenizer, template.name, strict=strict)
    pieces = _with_bos(pieces, tokenizer.bos_id, template.name, once=not allow_control)
    names = {token_id: name for name, token_id in tokenizer.control_ids.items()}
    token_ids = tokenizer.encode_rendered(pieces)
    return RenderedPrompt(
        text="".join(names[piece] if isinstance(piece, int) else piece for piece in pieces),
        token_ids=token_ids,
        template_name=template.name,
        template_sha256=template.sha256,
        starts_in=starting_state(token_ids, tokenizer.control_ids),
    )


def _check_last(messages: Sequence[Mapping[str, Any]]) -> None:
    role = messages[-1]["role"]
    if role not in ("user", "tool"):
        hint = "; continue_final=True continues it" if role == "assistant" else ""
        _wrong(f"messages[{len(messages) - 1}].role", repr(role), f"'user' or 'tool' last{hint}")


def _open_final(messages: list[dict[str, Any]]) -> str:
    """Marks the end of the last message, which is to be continued; gives its text as it was."""
    last, where = messages[-1], f"messages[{len(messages) - 1}]"
    if last["role"] != "assistant":
        _wrong(f"{where}.role", repr(last["role"]), "'assistant', with continue_final=True")
    if "tool_calls" in last:
        _wrong(f"{where}.tool_calls", "calls", "none, with continue_final=True")
    # The space after the mark shows whether the template trims: then it is gone.
    if isinstance(last["content"], list) and last["content"]:
        part = last["content"][-1]
        if part["type"] != "text":
            _wrong(f"{where}.content", f"{part['type']!r} last", "text, with continue_final=True")
        text: str = part["text"]
        part["text"] = text + END + " "
        return text
    text = last["content"] or ""
    last["content"] = text + END + " "
    return text


def _cut(printed: str, ending: str, name: str) -> str:
    """What stands before the mark of `_open_final`; `ending` is the text that it was put after."""
    found = printed.count(END)
    if found != 1:
        raise TemplateError(
            f"{name}: the template prints the last message {found} times, expected once, "
            "so continue_final=True has no place to continue from"
        )
    before, _, after = printed.partition(END)
    trims = not after.startswith(" ")
    return before.rstrip() if trims and ending.strip() else before


def _pieces(printed: str, tokenizer: Tokenizer, name: str, *, strict: bool) -> list[str | int]:
    """Text and ids. `strict`: no message has a "<", so a control string was built by the template,
    where it cannot be told from content."""
    pieces: list[str | int] = []
    for piece, is_control in split_marks(printed):
        if is_control and piece not in tokenizer.control_ids:
            raise TemplateError(
                f"{name}: the template writes {piece}, expected control tokens of tokenizer.json, "
                "which has none of that name"
            )
        if strict and not is_control and any(map(_is_id, tokenizer.split_control(piece))):
            raise TemplateError(
                f"{name}: the template puts together a control token in {piece[:80]!r}, "
                "expected each to be written whole"
            )
        pieces.append(tokenizer.control_ids[piece] if is_control else piece)
    return pieces


def _is_id(piece: str | int) -> bool:
    return isinstance(piece, int)


def _with_bos(
    pieces: list[str | int], bos_id: int | None, name: str, *, once: bool
) -> list[str | int]:
    if bos_id is None:
        return pieces
    rest = pieces[1:] if pieces[:1] == [bos_id] else pieces
    if once and bos_id in rest:
        raise TemplateError(
            f"{name}: the template writes <bos> {pieces.count(bos_id)} times, expected once, "
            "at the start"
        )
    return [bos_id, *rest]


def _wrong(where: str, found: str, expected: str) -> NoReturn:
    argument = "tools" if where.startswith("tools") else "messages"
    raise InvalidArgument(f"{where}: found {found}, expected {expected}", argument=argument)


class _Copier:
    """Checks messages and copies them; remembers whether any text could hold a control string."""

    def __init__(self, tokenizer: Tokenizer | None, *, placeholders: bool) -> None:
        self._tokenizer = tokenizer  # given where control strings shall become tokens
        self._placeholders = placeholders
        self.has_bracket = False

    def tools(self, given: Any) -> list[dict[str, Any]]:
        if not isinstance(given, (list, tuple)):
            _wrong("tools", _kind(given), "a list of declarations")
        if len(given) > MAX_TOOLS:
            _wrong("tools", f"{len(given):,}", f"at most {MAX_TOOLS:,}")
        return [self._tool(tool, f"tools[{index}]") for index, tool in enumerate(given)]

    def _tool(self, given: Any, where: str) -> dict[str, Any]:
        function = given.get("function") if isinstance(given, Mapping) else None
        if not isinstance(function, Mapping) or given.get("type", "function") != "function":
            _wrong(where, _kind(given), "{'type': 'function', 'function': {'name', ...}}")
        name = self._text(function.get("name"), f"{where}.function.name")
        _check_name(name, f"{where}.function.name")
        tool: dict[str, Any] = self.plain(given, where)
        return tool

    def messages(self, given: Any) -> list[dict[str, Any]]:
        if not isinstance(given, (list, tuple)) or not given:
            _wrong("messages", _kind(given), "a list of at least one message")
        if len(given) > MAX_MESSAGES:
            _wrong("messages", f"{len(given):,}", f"at most {MAX_MESSAGES:,}")
        return [self._message(item, f"messages[{index}]") for index, item in enumerate(given)]

    def _message(self, given: Any, where: str) -> dict[str, Any]:
        if not isinstance(given, Mapping):
            _wrong(where, _kind(given), "a dict with role and content")
        role = given.get("role")
        if not isinstance(role, str) or role not in _EXTRA_KEYS:
            _wrong(f"{where}.role", repr(role), f"one of {', '.join(_EXTRA_KEYS)}")
        extra = {key for key in given if given[key] is not None} - {"role", "content"}
        if unknown := extra - _EXTRA_KEYS[role]:
            allowed = ", ".join(["role", "content", *sorted(_EXTRA_KEYS[role])])
            _wrong(where, f"a key {min(unknown, key=str)!r}", f"for role {role} only {allowed}")
        message: dict[str, Any] = {"role": "assistant" if role == "model" else role}
        if "tool_calls" in extra:
            message["tool_calls"] = self._calls(given["tool_calls"], f"{where}.tool_calls")
        for key in sorted(extra - {"tool_calls"}):
            message[key] = self._text(given[key], f"{where}.{key}")
        if "name" in message:
            _check_name(message["name"], f"{where}.name")
        content = given.get("content")
        if content is None and "tool_calls" in message:
            content = ""
        if role == "tool" and isinstance(content, Mapping):
            message["content"] = self.plain(content, f"{where}.content")
        else:
            message["content"] = self._content(content, f"{where}.content")
        return message

    def _content(self, given: Any, where: str) -> Any:
        if isinstance(given, str):
            return self._text(given, where)
        if not isinstance(given, (list, tuple)):
            _wrong(where, _kind(given), "text or a list of parts")
        if len(given) > MAX_PARTS:
            _wrong(where, f"{len(given):,} parts", f"at most {MAX_PARTS:,}")
        return [self._part(part, f"{where}[{index}]") for index, part in enumerate(given)]

    def _part(self, given: Any, where: str) -> dict[str, str]:
        kind = given.get("type") if isinstance(given, Mapping) else None
        if kind in _MEDIA_PARTS:
            if self._placeholders and given.keys() == {"type"}:
                return {"type": kind}
            raise Unsupported(
                f"{where}: found a part of type {kind!r}, expected text: images, audio and video "
                "are to come (Model.render prints a placeholder for a part that has a type alone)"
            )
        if kind != "text" or given.keys() != {"type", "text"}:
            shown = _kind(given) if kind is None else f"type {kind!r} with {sorted(given, key=str)}"
            _wrong(where, shown, "{'type': 'text', 'text': ...}")
        return {"type": "text", "text": self._text(given["text"], f"{where}.text")}

    def _calls(self, given: Any, where: str) -> list[dict[str, Any]]:
        if not isinstance(given, (list, tuple)) or not given:
            _wrong(where, _kind(given), "a list of at least one call")
        return [self._call(call, f"{where}[{index}]") for index, call in enumerate(given)]

    def _call(self, given: Any, where: str) -> dict[str, Any]:
        function = given.get("function") if isinstance(given, Mapping) else None
        if not isinstance(function, Mapping) or given.get("type", "function") != "function":
            _wrong(where, _kind(given), "{'type': 'function', 'function': {'name', 'arguments'}}")
        name = self._text(function.get("name"), f"{where}.function.name")
        _check_name(name, f"{where}.function.name")
        arguments, place = function.get("arguments"), f"{where}.function.arguments"
        if isinstance(arguments, str):  # JSON text, as OpenAI sends it; templates want the object
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError) as error:
                _wrong(place, f"text that is no JSON ({error})", "a dict, its JSON text or None")
        if arguments is not None and not isinstance(arguments, Mapping):
            _wrong(place, _kind(arguments), "a dict, its JSON text or None")
        call = {
            "type": "function",
            "function": {"name": name, "arguments": self.plain(arguments, place)},
        }
        if given.get("id") is not None:
            call["id"] = self._text(given["id"], f"{where}.id")
        return call

    def plain(self, given: Any, where: str, depth: int = 0) -> Any:
        """JSON values as they are, copied."""
        if isinstance(given, str):
            return self._text(given, where)
        if given is None or isinstance(given, bool):
            return given
        if isinstance(given, float):
            return float(given)  # of a subclass, which may print itself otherwise
        if isinstance(given, int):
            if given.bit_length() > MAX_INTEGER_BITS:
                _wrong(where, f"an integer of {given.bit_length():,} bits", f"{MAX_INTEGER_BITS:,}")
            return int(given)
        if depth == MAX_DEPTH:
            _wrong(where, f"more than {MAX_DEPTH} levels", "fewer")
        if isinstance(given, Mapping):
            return {
                self._text(key, f"{where} (a key)"): self.plain(item, f"{where}.{key}", depth + 1)
                for key, item in given.items()
            }
        if isinstance(given, (list, tuple)):
            return [
                self.plain(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(given)
            ]
        _wrong(where, _kind(given), "a value of JSON")

    def _text(self, given: Any, where: str) -> str:
        if not isinstance(given, str):
            _wrong(where, _kind(given), "text")
        try:
            given.encode()
        except UnicodeEncodeError as error:
            _wrong(
                where,
                f"U+{ord(given[error.start]):04X}, half of a surrogate pair, at {error.start}",
                "characters of Unicode; was the text decoded wrongly?",
            )
        self.has_bracket = self.has_bracket or "<" in given
        if self._tokenizer is not None:
            names = {token_id: name for name, token_id in self._tokenizer.control_ids.items()}
            return "".join(
                MARKS[names[piece]] if isinstance(piece, int) else piece
                for piece in self._tokenizer.split_control(given)
            )
        return str.__str__(given)  # of a subclass, too, which may have methods of its own


def _check_name(name: str, where: str) -> None:
    if not is_name(name):
        _wrong(where, repr(name[:100]), NAME_FORM)


def _kind(value: Any) -> str:
    return "None" if value is None else f"{type(value).__name__} {str(value)[:60]!r}"
