"""Random conversations: what templates accept, with control strings in every field of text.

A seed makes one. `finish` sees every text before it is put in, so that two conversations of one
seed differ in their texts alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from cabochon.tokenizer import CONTROL_NAMES

Finish = Callable[[str, str], str]

_HALVES = [name[:cut] for name in CONTROL_NAMES for cut in range(1, len(name))]
_HALVES += [name[cut:] for name in CONTROL_NAMES for cut in range(1, len(name))]
_WORDS = [
    *("a", "weather", "two words", "Rīga", "日本語", "🚀", "15°C", "<b>tag</b>", "x={1,2};"),
    *("'single'", '"quoted"', "null", "{", "}", "call:f{a:1}", "thought\n", "ß", "İ", "\\n"),
]
_SPACES = ["", " ", "  ", "\n", "\n\n", "\t", "\u00a0", "\u2028", "\x1c", "\r\n"]
_NAMES = ("f", "get_weather", "look.up", "add-2")
_MEDIA = ("image", "image_url", "audio", "input_audio", "video")
_TYPES = ("string", "integer", "number", "boolean", "array", "object", "STRING", "Array", "Object")


class Writer:
    """Writes the conversation of one seed.

    Args:
        finish: (kind of field, text) to the text that is put in; the kinds that matter to a
            template are "assistant" (thoughts in it are dropped) and "reasoning".
        has_odd_schemas: any JSON value may stand anywhere in a tool's declaration.
    """

    def __init__(
        self, seed: int, *, finish: Finish | None = None, has_odd_schemas: bool = False
    ) -> None:
        self._random = random.Random(seed)
        self._finish = finish or (lambda kind, text: text)
        self._has_odd_schemas = has_odd_schemas

    def inputs(self) -> dict[str, Any]:
        """The arguments of render, messages among them."""
        return {
            "messages": self.messages(),
            "tools": [self.tool() for _ in range(self._few())] or None,
            "thinking": self._chance(),
            "preserve_thinking": self._chance(),
            "add_generation_prompt": self._chance(),
        }

    def messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        if self._chance():
            role = self._pick(("system", "developer"))
            messages.append({"role": role, "content": self.content(role, has_media=False)})
        while not messages or (len(messages) < 12 and self._chance(0.8)):
            role = self._pick(("user", "user", "assistant", "assistant", "system"))
            if role == "assistant":
                messages += self.assistant()
            else:
                content = self.content(role, has_media=bool(messages) or role == "user")
                messages.append({"role": role, "content": content})
        return messages

    def assistant(self) -> list[dict[str, Any]]:
        """The message, and results after its calls."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content("assistant")}
        if self._chance():
            message[self._pick(("reasoning", "reasoning_content"))] = self.text("reasoning")
        if self._chance():
            return [message]
        message["tool_calls"] = [self.call() for _ in range(1 + self._few())]
        if self._chance(0.3):
            message["content"] = None
        return [message, *(self.result(message["tool_calls"]) for _ in range(self._few()))]

    def call(self) -> dict[str, Any]:
        arguments = None if self._chance(0.2) else self.table(2)
        call = {
            "type": "function",
            "function": {"name": self._pick(_NAMES), "arguments": arguments},
        }
        return call | ({"id": self.text("id")} if self._chance(0.7) else {})

    def result(self, calls: list[dict[str, Any]]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "tool"}
        if self._chance(0.7):
            message["tool_call_id"] = self._pick(calls).get("id") or self.text("id")
        if self._chance(0.3):
            message["name"] = self._pick(_NAMES)
        is_table = self._chance(0.3)
        return message | {"content": self.table(2) if is_table else self.content("tool")}

    def content(self, kind: str, *, has_media: bool = True) -> Any:
        if self._chance(0.6):
            return self.text(kind)
        parts: list[dict[str, Any]] = []
        for _ in range(self._few()):
            is_media = has_media and self._chance(0.3)
            parts.append(
                {"type": self._pick(_MEDIA)}
                if is_media
                else {"type": "text", "text": self.text(kind)}
            )
        return parts

    def text(self, kind: str) -> str:
        pieces = []
        for _ in range(self._random.choice((1, 1, 2, 3, 5))):
            pool = self._pick((_WORDS, _WORDS, CONTROL_NAMES, _HALVES))
            pieces += [self._pick(_SPACES), self._pick(pool)]
        text = "".join([*pieces, self._pick(_SPACES)])
        return self._finish(kind, "" if self._chance(0.05) else text)

    def value(self, depth: int) -> Any:
        kind = self._random.randrange(9 if depth else 7)
        if kind < 3:
            return self.text("value")
        if kind < 7:
            return (None, self._chance(), self._random.randrange(-9, 10**12), self._number())[
                kind - 3
            ]
        return self.table(depth - 1) if kind == 7 else self.list(depth - 1)

    def table(self, depth: int) -> dict[str, Any]:
        return {f"{self._key(i)}": self.value(depth) for i in range(self._few())}

    def list(self, depth: int) -> list[Any]:
        return [self.value(depth) for _ in range(self._few())]

    def tool(self) -> dict[str, Any]:
        function: dict[str, Any] = {"name": self._pick(_NAMES)}
        if self._chance(0.8):
            function["description"] = self.text("schema")
        if self._chance(0.8):
            function["parameters"] = self.schema(3, kind="object")
        if self._chance(0.3):
            function["response"] = self._some(
                {"description": self.text("schema"), "type": self._pick(_TYPES)}
            )
        return {"type": "function", "function": function}

    def schema(self, depth: int, *, kind: str | None = None) -> Any:
        if self._has_odd_schemas and self._chance(0.1):
            return self.value(2)
        schema: dict[str, Any] = {
            "description": self.text("schema"),
            "nullable": self._chance(),
            "enum": [self.text("schema") for _ in range(self._few())],
            "title": self.text("schema"),
        }
        if depth:
            properties = {self._key(i): self.schema(depth - 1) for i in range(self._few())}
            schema["properties"] = properties
            schema["required"] = [key for key in properties if self._chance()]
            schema["items"] = self.schema(depth - 1)
            schema["additionalProperties"] = self.schema(depth - 1)
        some: dict[str, Any] = self._some(schema)
        some["type"] = kind or self._pick(_TYPES)
        if self._has_odd_schemas:
            for key in list(some):
                if self._chance(0.05):
                    some[key] = self._pick(
                        (self.value(2), ["string", "null"], None, 3, "text", True, {})
                    )
                if self._chance(0.02):
                    del some[key]
        items = list(some.items())
        self._random.shuffle(items)
        return dict(items)

    def _key(self, index: int) -> str:
        return f"{self._pick('aAbBzZ')}{index}_{self.text('key')}"

    def _number(self) -> float:
        return self._pick((0.5, -1.0, 1e-07, 1e20, 1e16, 123456.789, 0.1 + 0.2, 5e-324))

    def _some(self, table: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in table.items() if self._chance(0.6)}

    def _few(self) -> int:
        return self._random.choice((0, 1, 1, 2, 3))

    def _chance(self, share: float = 0.5) -> bool:
        return self._random.random() < share

    def _pick(self, options: Any) -> Any:
        return self._random.choice(options)
