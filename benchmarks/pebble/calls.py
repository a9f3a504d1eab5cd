"""Cases with tools: calls from declarations that vary, answers from results, and follow-ups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import words
from corpus import Case, Message, Source

CALL_ID = "call_0"


@dataclass(frozen=True)
class _Kind:
    """A tool as it may be declared and asked for.

    `slots`: what a call says, each with its JSON type and the names a declaration gives it.
    `asks` and `answers` name slots; `{result}` is what the tool found.
    """

    names: tuple[str, ...]
    about: tuple[str, ...]
    slots: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]]
    asks: tuple[str, ...]
    answer: str


_TEXT, _NUMBER = "string", "integer"
KINDS: dict[str, _Kind] = {
    "calculator": _Kind(
        ("calculator", "calculate", "math", "compute", "evaluate_expression"),
        ("Computes an expression.", "Does arithmetic.", "Gives the value of a formula.",
         "A calculator for numbers.", "Works out a formula with numbers."),
        {"expression": (_TEXT, ("expression", "formula", "input", "sum", "expr"),
                        ("What to compute.", "A formula.", "The expression.", "A sum with numbers.",
                         "The formula to compute."))},
        ("What is {expression}?", "Compute {expression}.", "{expression} please.",
         "How much is {expression}?", "Calculate {expression} with the tool.",
         "Give me {expression}.",
         "Please compute {expression} for me."),
        "{expression} = {result}",
    ),
    "weather": _Kind(
        ("weather", "get_weather", "forecast", "weather_report", "get_forecast"),
        ("Weather of a city on a day.", "Tells the weather.", "Forecast for a place.",
         "How the weather is somewhere.", "Gives the forecast of a city."),
        {"city": (_TEXT, ("city", "place", "location", "town", "where"),
                  ("Name of the city.", "The place.", "Which town.", "Where it is.",
                   "The name of the place.")),
         "day": (_TEXT, ("day", "date", "when", "time", "on"),
                 ("The day.", "Which day.", "Today, tomorrow or a weekday.", "For when.",
                  "The day that is asked for."))},
        ("How is the weather in {city} {day}?", "Will it rain in {city} {day}?",
         "Weather in {city} {day}?", "What is the forecast for {city} {day}?",
         "Tell me the weather {day} in {city}.", "Do I need a coat in {city} {day}?",
         "I am in {city} {day}. How will the weather be?"),
        "In {city} it will be {result} {day}.",
    ),
    "lookup": _Kind(
        ("lookup", "search", "find_person", "directory", "look_up"),
        ("Finds a person's phone number.", "Searches the directory.", "Looks up a person.",
         "Phone numbers of people.", "Looks up the number of a person."),
        {"person": (_TEXT, ("name", "person", "query", "who", "full_name"),
                    ("The person's name.", "Who to find.", "Full name.", "Whose number.",
                     "The name of the person."))},
        ("What is the phone number of {person}?", "Find the number of {person}.",
         "How can I call {person}?", "Number of {person}?", "Look up {person}.",
         "I need to call {person}. Which number?", "Please find {person} in the directory."),
        "{person} has the number {result}.",
    ),
    "calendar": _Kind(
        ("calendar", "add_event", "create_event", "schedule", "new_event"),
        ("Adds an event to the calendar.", "Writes an appointment down.", "Makes a new event.",
         "Puts something into the calendar.", "Adds an appointment."),
        {"title": (_TEXT, ("title", "event", "what", "name", "subject"),
                   ("What it is.", "Name of the event.", "The event.", "Its title.",
                    "What the event is.")),
         "day": (_TEXT, ("day", "date", "when", "weekday", "on"),
                 ("The day.", "Which day.", "Today, tomorrow or a weekday.", "For when.",
                  "The day of the event.")),
         "hour": (_NUMBER, ("hour", "time", "at", "start", "hours"),
                  ("The hour, 0 to 23.", "When it begins.", "The hour.", "Start, full hours.",
                   "The hour it begins."))},
        ("Put a {title} {day} at {hour} into my calendar.", "Schedule a {title} {day} at {hour}.",
         "Add a {title} at {hour} {day}.", "I have a {title} {day} at {hour}, note it.",
         "Remind me of the {title} {day} at {hour}.", "New event: {title}, {day}, {hour} o'clock.",
         "Please add the {title} {day} at {hour}."),
        "Done: {title} {day} at {hour}.",
    ),
}  # fmt: skip
_DAYS = ("today", "tomorrow", *(f"on {day}" for day in words.DAYS))
_SKIES = ("sunny", "cloudy", "rainy", "windy", "foggy", "snowy", "stormy", "clear")


@dataclass(frozen=True)
class _Tool:
    """A kind as one conversation declares it: `named` gives each slot's name there."""

    kind: str
    declaration: Message
    named: Mapping[str, str]

    @property
    def name(self) -> str:
        return str(self.declaration["function"]["name"])

    def arguments(self, filled: Mapping[str, Any]) -> dict[str, Any]:
        return {self.named[slot]: _bare(value) for slot, value in filled.items()}


def _bare(value: Any) -> Any:
    """A day as an argument: without the "on" of a sentence."""
    return value.removeprefix("on ") if isinstance(value, str) else value


def _tool(source: Source, kind: str) -> _Tool:
    about, named, properties = KINDS[kind], {}, {}
    for slot, (json_type, names, descriptions) in about.slots.items():
        named[slot] = source.draw.choice([n for n in names if n not in named.values()])
        properties[named[slot]] = {"type": json_type, "description": source.wording(descriptions)}
    function = {
        "name": source.draw.choice(about.names),
        "description": source.wording(about.about),
        "parameters": {"type": "object", "properties": properties, "required": list(properties)},
    }
    return _Tool(kind, {"type": "function", "function": function}, named)


def _filled(source: Source, kind: str) -> dict[str, Any]:
    draw = source.draw
    if kind == "calculator":
        expression = source.value(
            lambda: f"{draw.integer(2, 999)} {draw.choice('+-*/')} {draw.integer(2, 999)}"
        )
        return {"expression": expression}
    if kind == "lookup":
        return {"person": source.value(lambda: words.name(draw))}
    if kind == "weather":
        return {"city": source.value(lambda: words.city(draw)), "day": draw.choice(_DAYS)}
    return {"title": draw.choice(words.EVENTS), "day": draw.choice(_DAYS),
            "hour": draw.integer(7, 21)}  # fmt: skip


def _found(source: Source, kind: str) -> str:
    """What the tool answers. The calculator's tools may be wrong: what is said is what it found."""
    draw = source.draw
    if kind == "calculator":
        return source.value(lambda: str(draw.integer(0, 99_999)), lambda n: f"result {n}")
    if kind == "weather":
        return draw.choice(_SKIES)
    if kind == "lookup":
        return source.value(lambda: f"{draw.integer(100, 999)} {draw.integer(1000, 9999)}")
    return "ok"


def _called(tool: _Tool, filled: Mapping[str, Any]) -> Message:
    function = {"name": tool.name, "arguments": tool.arguments(filled)}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": CALL_ID, "type": "function", "function": function}],
    }


def _declared(source: Source) -> tuple[_Tool, list[_Tool]]:
    """The tool to be used, and all that are declared."""
    kinds = source.draw.sample(list(KINDS), source.draw.integer(1, 3))
    tools = [_tool(source, kind) for kind in kinds]
    return source.draw.choice(tools), tools


def call(source: Source) -> Case:
    """The right tool with the right arguments."""
    tool, tools = _declared(source)
    filled = _filled(source, tool.kind)
    asked = source.wording(KINDS[tool.kind].asks).format(**filled)
    return _case(source, "call", tools, [{"role": "user", "content": asked}, _called(tool, filled)])


def follow_up(source: Source) -> Case:
    """A second question that names only what is different: the call is made again with it."""
    draw = source.draw
    tool = _tool(source, "weather")
    filled = _filled(source, "weather")
    asked = source.wording(KINDS["weather"].asks).format(**filled)
    messages = [{"role": "user", "content": asked}, *_answered(source, tool, filled)]
    if draw.chance(0.5):
        filled["day"] = draw.choice([day for day in _DAYS if day != filled["day"]])
        again = source.wording(("And {}?", "What about {}?", "And how is it {}?", "{}?",
                                "And what about {}?")).format(filled["day"])  # fmt: skip
    else:
        filled["city"] = source.value(lambda: words.city(draw))
        again = source.wording(("And in {}?", "What about {}?", "And how is it in {}?", "In {}?",
                                "And what about {}?")).format(filled["city"])  # fmt: skip
    messages += [{"role": "user", "content": again}, _called(tool, filled)]
    return _case(source, "follow_up", [tool], messages)


def result(source: Source) -> Case:
    """An answer from what the tool found."""
    tool, tools = _declared(source)
    filled = _filled(source, tool.kind)
    asked = source.wording(KINDS[tool.kind].asks).format(**filled)
    messages = [{"role": "user", "content": asked}, *_answered(source, tool, filled)]
    return _case(source, "result", tools, messages)


def _answered(source: Source, tool: _Tool, filled: Mapping[str, Any]) -> list[Message]:
    found = _found(source, tool.kind)
    answer = KINDS[tool.kind].answer.format(result=found, **filled)
    return [
        _called(tool, filled),
        {"role": "tool", "tool_call_id": CALL_ID, "content": found},
        {"role": "assistant", "content": answer},
    ]


def _case(source: Source, task: str, tools: list[_Tool], messages: list[Message]) -> Case:
    last = messages[-1]
    expected: Any = last["content"]
    if "tool_calls" in last:
        function = last["tool_calls"][0]["function"]
        expected = (function["name"], function["arguments"])
    return source.case(task, messages, expected, tools=tuple(t.declaration for t in tools))
