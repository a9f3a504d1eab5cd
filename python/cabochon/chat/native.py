"""The published chat templates, written out: messages to text with marks for control tokens.

Each prints what the template of its name prints through jinja2, byte for byte. What a published
template would leave out without a word is an error here; each place says so. Messages are those
that render.py checked and copied: plain dicts, lists and text, "model" spelled "assistant".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from ..errors import InvalidArgument, TemplateError, Unsupported
from .marks import MARKS, mark

Message = Mapping[str, Any]

_QUOTE = MARKS['<|"|>']
_MEDIA = {
    "image": MARKS["<|image|>"],
    "image_url": MARKS["<|image|>"],
    "audio": MARKS["<|audio|>"],
    "input_audio": MARKS["<|audio|>"],
    "video": MARKS["<|video|>"],
}
_SYSTEM = ("system", "developer")
# As text, and as the tokens that a caller may ask for.
_OPENED = re.compile(f"{re.escape('<|channel>')}|{MARKS['<|channel>']}")
_CLOSED = re.compile(f"{re.escape('<channel|>')}|{MARKS['<channel|>']}")
# Keys of a schema that a property without `properties` does not list as properties.
_STANDARD_KEYS = ("description", "type", "properties", "required", "nullable")


@dataclass(frozen=True, slots=True)
class _Turn:
    """A message that is no tool's, and the results that follow it."""

    index: int
    message: Message
    results: Sequence[Message]


def gemma4(
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    thinking: bool = False,
    preserve_thinking: bool = False,
    add_generation_prompt: bool = True,
    empty_thought: bool = False,
) -> str:
    """Gemma 4, revision of 2026-07-09.

    Args:
        tools: OpenAI declarations.
        empty_thought: an answer without thinking begins with an empty thought (12B, 26B-A4B, 31B).

    Raises:
        InvalidArgument: a result without a call, or media in the system message.
    """
    first = messages[0] if messages and messages[0]["role"] in _SYSTEM else None
    printed = [MARKS["<bos>"]]
    if thinking or tools or first is not None:
        printed += _system(first, tools or (), thinking)
    turns = _turns(messages, 0 if first is None else 1)
    last_user = max((t.index for t in turns if t.message["role"] == "user"), default=-1)
    previous = None
    for number, turn in enumerate(turns):
        following = turns[number + 1].message["role"] if number + 1 < len(turns) else None
        printed += _turn(
            turn,
            previous=previous,
            following=following,
            shows_thought=turn.index > last_user
            or (preserve_thinking and bool(turn.message.get("tool_calls"))),
        )
        previous = turn.message["role"]
    if add_generation_prompt:
        if not turns or not turns[-1].message.get("tool_calls"):
            printed.append(mark("<|turn>") + "model\n")
            if empty_thought and not thinking:
                printed.append(mark("<|channel>thought\n<channel|>"))
        elif turns[-1].results and thinking:
            printed.append(mark("<|channel>thought\n"))
    return "".join(printed)


def _system(
    first: Message | None, tools: Iterable[Mapping[str, Any]], thinking: bool
) -> Iterable[str]:
    yield mark("<|turn>system\n")
    if thinking:
        yield mark("<|think|>\n")
    if first is not None and isinstance(first["content"], str):
        yield first["content"].strip()
    elif first is not None:
        for index, part in enumerate(first["content"]):
            if part["type"] != "text":  # the template would print a space for it
                _wrong(f"messages[0].content[{index}]", f"type {part['type']!r}", "text alone")
            yield part["text"].strip() + " "
    for tool in tools:
        yield mark("<|tool>") + _declaration(tool["function"]) + mark("<tool|>")
    yield mark("<turn|>\n")


def _turns(messages: Sequence[Message], start: int) -> list[_Turn]:
    turns: list[_Turn] = []
    results: list[Message] = []
    for index in range(start, len(messages)):
        message = messages[index]
        if message["role"] != "tool":
            results = []
            turns.append(_Turn(index, message, results))
        elif turns and turns[-1].message.get("tool_calls"):
            results.append(message)
        else:  # the template would leave it out
            _wrong(f"messages[{index}]", "a tool's result", "one after an assistant's tool_calls")
    return turns


def _turn(
    turn: _Turn, *, previous: str | None, following: str | None, shows_thought: bool
) -> Iterable[str]:
    message, results = turn.message, turn.results
    role, calls = message["role"], message.get("tool_calls", ())
    is_model = role == "assistant"
    if not (is_model and previous == "assistant"):
        yield f"{mark('<|turn>')}{'model' if is_model else role}\n"
    thought = message.get("reasoning") or message.get("reasoning_content")
    if thought and shows_thought:
        yield f"{mark('<|channel>')}thought\n{thought}\n{mark('<channel|>')}"
    for call in calls:
        function = call["function"]
        arguments = _mapping(function["arguments"] or {})
        yield f"{mark('<|tool_call>')}call:{function['name']}{arguments}{mark('<tool_call|>')}"
    names = {call.get("id"): call["function"]["name"] for call in calls}
    for result in results:
        yield _result(result, names)
    content = _content(message["content"], _without_thoughts if is_model else str.strip)
    yield content
    if calls and not results:
        yield mark("<|tool_response>")
    elif is_model and following == "assistant":
        return
    elif content.strip() or not results or following is not None:
        yield mark("<turn|>\n")


def _result(message: Message, names: Mapping[str | None, str]) -> str:
    """`names` has the function of each call id; None is one of them where calls have none."""
    name = names.get(message.get("tool_call_id"), message.get("name") or "unknown")
    content, media = message["content"], ""
    if isinstance(content, list):
        media = "".join(_MEDIA[part["type"]] for part in content if part["type"] != "text")
        content = "".join(part["text"] for part in content if part["type"] == "text")
    body = _mapping(content) if isinstance(content, Mapping) else f"{{value:{_value(content)}}}"
    return f"{mark('<|tool_response>')}response:{name}{body}{mark('<tool_response|>')}{media}"


def _content(content: Any, cleaned: Any) -> str:
    if isinstance(content, str):
        return str(cleaned(content))
    return "".join(
        cleaned(part["text"]) if part["type"] == "text" else _MEDIA[part["type"]]
        for part in content
    )


def _without_thoughts(text: str) -> str:
    return "".join(_OPENED.split(piece, 1)[0] for piece in _CLOSED.split(text)).strip()


def _sorted(table: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """By key, upper and lower case alike."""
    return sorted(table.items(), key=lambda item: item[0].lower())


def _quoted(text: str) -> str:
    return f"{_QUOTE}{text}{_QUOTE}"


def _mapping(table: Mapping[str, Any], *, quotes_keys: bool = False) -> str:
    pairs = (
        f"{_quoted(key) if quotes_keys else key}:{_value(value, quotes_keys=quotes_keys)}"
        for key, value in _sorted(table)
    )
    return f"{{{','.join(pairs)}}}"


def _value(value: Any, *, quotes_keys: bool = False) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return _mapping(value, quotes_keys=quotes_keys)
    if isinstance(value, list):
        return f"[{','.join(_value(item, quotes_keys=quotes_keys) for item in value)}]"
    return str(value)


# --- declarations of tools ------------------------------------------------------------------------
# A schema may hold any JSON value anywhere, and the template prints it somehow: what is absent as
# nothing, what is no text as Python writes it.


class _Absent:
    def __str__(self) -> str:
        return ""

    def __bool__(self) -> bool:
        return False


_ABSENT = _Absent()


def _at(value: Any, key: str) -> Any:
    return value.get(key, _ABSENT) if isinstance(value, Mapping) else _ABSENT


def _names(listed: Any) -> str:
    return f"[{','.join(_quoted(str(name)) for name in _each(listed))}]"


def _each(value: Any) -> Iterable[Any]:
    """Items of a list, keys of a mapping, characters of a text."""
    if not isinstance(value, (list, Mapping, str)):
        raise TemplateError(
            f"tools: found {value!r} in a schema, expected a list: the template goes through it"
        )
    return value


def _declaration(function: Mapping[str, Any]) -> str:
    printed = [f"declaration:{function['name']}"]
    printed.append(f"{{description:{_quoted(str(_at(function, 'description')))}")
    parameters = _at(function, "parameters")
    if parameters:
        printed.append(",parameters:{")
        if properties := _at(parameters, "properties"):
            printed.append(f"properties:{{{_properties(properties)}}},")
        if required := _at(parameters, "required"):
            printed.append(f"required:{_names(required)},")
        if kind := _at(parameters, "type"):
            printed.append(f"type:{_quoted(str(kind).upper())}}}")
    if "response" in function:
        response = function["response"]
        printed.append(",response:{")
        if description := _at(response, "description"):
            printed.append(f"description:{_quoted(str(description))},")
        if str(_at(response, "type")).upper() == "OBJECT":
            printed.append(f"type:{_quoted('OBJECT')}}}")
    return "".join(printed) + "}"


def _properties(properties: Any, left_out: Sequence[str] = ()) -> str:
    if not isinstance(properties, Mapping):
        raise TemplateError(
            f"tools: properties: found {properties!r}, expected a mapping of names to schemas"
        )
    return ",".join(
        f"{key}:{{{_property(value)}}}" for key, value in _sorted(properties) if key not in left_out
    )


def _property(schema: Any) -> str:
    kind = str(_at(schema, "type")).upper()
    printed = []
    if description := _at(schema, "description"):
        printed.append(f"description:{_quoted(str(description))}")
    if kind == "STRING" and (enum := _at(schema, "enum")):
        printed.append(f"enum:{_value(enum, quotes_keys=True)}")
    items = _at(schema, "items")
    if kind == "ARRAY" and isinstance(items, Mapping) and items:
        pairs = (_item(key, value) for key, value in _sorted(items) if value is not None)
        printed.append(f"items:{{{','.join(pairs)}}}")
    if _at(schema, "nullable"):
        printed.append("nullable:true")
    if kind == "OBJECT":
        properties = _at(schema, "properties")
        inner = (
            _properties(properties)
            if isinstance(properties, Mapping)
            else _properties(schema, _STANDARD_KEYS)
        )
        printed.append(f"properties:{{{inner}}}")
        if required := _at(schema, "required"):
            printed.append(f"required:{_names(required)}")
    printed.append(f"type:{_quoted(kind)}")
    return ",".join(printed)


def _item(key: str, value: Any) -> str:
    """One key of `items`."""
    if key == "properties":
        return f"properties:{{{_properties(value) if isinstance(value, Mapping) else ''}}}"
    if key == "required":
        return f"required:{_names(value)}"
    if key == "type":
        is_one = isinstance(value, str)
        return f"type:{_value(value.upper() if is_one else [str(k).upper() for k in _each(value)])}"
    return f"{key}:{_value(value, quotes_keys=True)}"


# --- Gemma 3 --------------------------------------------------------------------------------------


def gemma3(messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
    """Gemma 3: user and assistant in turn; a system message stands before the first question.

    Raises:
        TemplateError: the roles do not take turns.
        Unsupported: calls, results, media: the template would leave them out or misprint them.
    """
    printed, prefix, start = [MARKS["<bos>"]], "", 0
    if messages and messages[0]["role"] == "system":
        content = messages[0]["content"]
        if isinstance(content, list):
            if len(content) != 1 or content[0]["type"] != "text":
                raise Unsupported(
                    f"messages[0].content: found {len(content)} parts, expected one of text: "
                    "Gemma 3's template prints no other"
                )
            content = content[0]["text"]
        prefix, start = content + "\n\n", 1
        if len(messages) == 1:
            raise TemplateError(
                "messages: found a system message alone, expected a user's after it: Gemma 3's "
                "template prints them together"
            )
    for index in range(start, len(messages)):
        message, where = messages[index], f"messages[{index}]"
        role = message["role"]
        if role == "tool" or "tool_calls" in message:
            raise Unsupported(f"{where}: found a tool's call or result, which Gemma 3 has not")
        if (role == "user") != ((index - start) % 2 == 0):
            raise TemplateError(
                f"{where}.role: found {role!r}; conversation roles must alternate "
                "user/assistant/user/assistant/... in Gemma 3, after a system message at most"
            )
        printed.append(f"{mark('<start_of_turn>')}{'model' if role == 'assistant' else role}\n")
        printed += [prefix, _gemma3_content(message["content"], f"{where}.content")]
        printed.append(mark("<end_of_turn>\n"))
        prefix = ""
    if add_generation_prompt:
        printed.append(mark("<start_of_turn>model\n"))
    return "".join(printed)


def _gemma3_content(content: Any, where: str) -> str:
    for index, part in enumerate(content if isinstance(content, list) else ()):
        if part["type"] not in ("text", "image"):
            raise Unsupported(f"{where}[{index}]: found {part['type']!r}, which Gemma 3 has not")
    if isinstance(content, str):
        return content.strip()
    return "".join(
        part["text"].strip() if part["type"] == "text" else mark("<start_of_image>")
        for part in content
    )


def _wrong(where: str, found: str, expected: str) -> NoReturn:
    raise InvalidArgument(f"{where}: found {found}, expected {expected}", argument="messages")
