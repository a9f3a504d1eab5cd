"""`calls`: the tools that were called, and with what.

expected: `calls`, each a name and a pattern for its arguments (matchers.py), in any order. Score:
matched calls / the larger of expected and made. A call matches where its arguments are valid for
its tool and the pattern takes them. Without calls, `facts` are what the answer has to say: of each
list one form, as words of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...chat.calls import read_call
from ...chat.parser import read_written
from ...chat.tools import Tool, read_tools
from ...types import ToolCall
from ..cases import Case
from ..grading import Output, Verdict, failed, grader, normal, passed, unparsed
from .matchers import ABSENT, LONGEST, has_phrase, lenient_json, matches, pairs

_MOST = 64  # calls that are looked at; all are counted
_END = "<tool_call|>"
_IN_TEXT = re.compile(r"call\s*:\s*[A-Za-z_]")
_ARGUMENTS = ("arguments", "parameters", "args", "input")


@grader("calls")
def calls(case: Case, output: Output) -> Verdict:
    """A multiset of calls, or an answer without any."""
    expected, made = list(case.expected["calls"]), output.tool_calls
    if not expected:
        return _answer(case, output)
    tools = {tool.name: tool for tool in read_tools(list(case.tools))}
    found = [{"name": call.name, "arguments": dict(call.arguments)} for call in made[:_MOST]]
    if not made:
        lenient = _calls_in_text(output.text)
        if not lenient:
            empty = not output.text.strip()
            return unparsed() if empty else failed("no_call")
        taken = pairs(expected, lenient, lambda e, c: _matches(e, c, tools, case.language))
        is_near = len(taken) == len(expected) == len(lenient)
        return unparsed("call_in_text", extracted_lenient=lenient, near_miss=is_near)
    if _says_more(output.raw_text):
        return failed("invented_result", found)
    shown = [_shown(call) for call in made[:_MOST]]
    taken = pairs(expected, shown, lambda e, c: _matches(e, c, tools, case.language))
    score = len(taken) / max(len(expected), len(made))
    if score == 1.0:
        return passed(found, extracted_lenient=found)
    left = [call for index, call in enumerate(expected) if index not in taken.values()]
    wrong = next((call for index, call in enumerate(shown) if index not in taken), None)
    reason = "missing_call" if wrong is None else _reason(wrong, left, tools, case.language)
    return failed(reason, found, score=score, extracted_lenient=found)


def _shown(call: ToolCall) -> dict[str, Any]:
    is_read = call.error is None or not call.error.startswith("call: ")
    return {"name": call.name, "arguments": call.arguments if is_read else None}


def _matches(
    expected: Mapping[str, Any], call: Mapping[str, Any], tools: Mapping[str, Tool], language: str
) -> bool:
    name, arguments = call["name"], call["arguments"]
    return (
        name == expected["name"]
        and matches(expected["arguments"], arguments, language)
        and name in tools
        and tools[name].check(arguments) is None
    )


def _reason(
    call: Mapping[str, Any],
    left: Sequence[Mapping[str, Any]],
    tools: Mapping[str, Tool],
    language: str,
) -> str:
    """Why a call is none of those that are left."""
    name, arguments = call["name"], call["arguments"]
    if arguments is None:
        return "unreadable_call"
    if name not in tools:
        return "unknown_tool"
    if not left:
        return "extra_call"
    wanted = next((item["arguments"] for item in left if item["name"] == name), None)
    if wanted is None:
        return "wrong_tool"
    if any(key not in arguments and not matches(p, ABSENT) for key, p in wanted.items()):
        return "missing_argument"
    if arguments.keys() - wanted.keys():
        return "extra_argument"
    is_valid = tools[name].check(arguments) is None
    return "wrong_argument" if is_valid else "wrong_type"


def _says_more(raw_text: str) -> bool:
    """Whether something is said after the last call: nobody has answered it yet."""
    at = raw_text.rfind(_END)
    if at < 0:
        return False
    rest = read_written(raw_text[at + len(_END) :][:LONGEST])
    return any(character.isalnum() for character in rest.text)


def _calls_in_text(text: str) -> list[dict[str, Any]]:
    """Calls that were written as an answer: objects of JSON, or the words of a call."""
    value = lenient_json(text)
    if value is None and len(text) <= LONGEST and (begin := _IN_TEXT.search(text)):
        call = read_call(text[begin.start() :].strip("`\n "), call_id="", is_whole=True)
        if call.error is None:
            return [{"name": call.name, "arguments": dict(call.arguments)}]
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    items = value if isinstance(value, list) else [value]
    read = [_written_call(item) for item in items[:_MOST]]
    return [] if None in read else [call for call in read if call is not None]


def _written_call(item: Any) -> dict[str, Any] | None:
    if isinstance(item, dict) and isinstance(item.get("function"), dict):
        item = item["function"]
    if not isinstance(item, dict) or not isinstance(item.get("name", item.get("tool")), str):
        return None
    arguments: Any = next((item[key] for key in _ARGUMENTS if key in item), {})
    name = item.get("name", item.get("tool"))
    return {"name": name, "arguments": arguments} if isinstance(arguments, dict) else None


def _answer(case: Case, output: Output) -> Verdict:
    """No call is right: what was asked is to be answered, or something is to be asked."""
    if output.tool_calls:
        made = [call.name for call in output.tool_calls[:_MOST]]
        return failed("unneeded_call", made)
    if len(output.text) > LONGEST:
        return unparsed("too_long")
    if not output.text.strip():
        return unparsed()
    if lenient := _calls_in_text(output.text):
        return failed("call_in_text", extracted_lenient=lenient)
    text = normal(output.text, case.language)
    said = [
        next((form for form in forms if has_phrase(normal(form, case.language), text)), None)
        for forms in case.expected["facts"]
    ]
    if None in said:
        return failed("missing_fact", said, extracted_lenient=said)
    return passed(said, extracted_lenient=said)
