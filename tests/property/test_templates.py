"""Random conversations: control tokens come from the template alone, and the published text.

GENERATED_CONVERSATIONS (300) sets how many. PUBLISHED_TEMPLATES names a folder of published
templates (*.jinja, as downloaded): those whose SHA-256 is known are run through jinja2 beside the
native ones; without it that comparison is skipped.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

import vocabularies
from cabochon.chat import sandbox, template
from cabochon.chat.render import RenderedPrompt, render
from cabochon.chat.template import (
    EDGE,
    GEMMA3,
    LARGE,
    PUBLISHED,
    CustomTemplate,
    Template,
    native_template,
)
from cabochon.errors import CabochonError
from cabochon.tokenizer import CONTROL_NAMES, Tokenizer, alternatives
from conversations import Writer
from vocabularies import demo_tokenizer, published_tokenizer

COUNT = int(os.environ.get("GENERATED_CONVERSATIONS", "300"))

CONTROL = alternatives(CONTROL_NAMES)
# A template of nobody's, which prints every field once.
CUSTOM = """\
{{ bos_token }}{% for tool in tools or [] %}<|tool>{{ tool | tojson }}<tool|>{% endfor %}
{%- for message in messages -%}
    {{- '<|turn>' + message.role + '\\n' -}}
    {{- message.reasoning or message.reasoning_content -}}
    {%- for call in message.tool_calls -%}
        <|tool_call>{{ call.function.name }}{{ call.function.arguments | tojson }}<tool_call|>
    {%- endfor -%}
    {%- if message.content is string -%}{{ message.content }}
    {%- elif message.content is mapping -%}{{ message.content | tojson }}
    {%- else -%}
        {%- for part in message.content -%}{{ part.text or '<|image|>' }}{%- endfor -%}
    {%- endif -%}
    <turn|>{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}<|turn>model{{ '\\n' }}{%- endif -%}
"""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The published one where it is, else the demo's."""
    return published_tokenizer() if vocabularies.PUBLISHED.exists() else demo_tokenizer()


@pytest.fixture(scope="module")
def custom() -> Iterator[Template]:
    """In this process: another one for each prompt would take minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(template, "_in_child", lambda r: sandbox.answer(json.loads(json.dumps(r))))
        yield CustomTemplate(CUSTOM)


def taken_out(kind: str, text: str) -> str:
    """`text` without control strings; "x" where nothing is left of something, since a template
    may ask whether a text is empty."""
    shown = _without_thoughts(text) if kind == "assistant" else text
    harmless = shown
    while (shorter := CONTROL.sub("", harmless)) != harmless:
        harmless = shorter
    return "x" if shown.strip() and not harmless.strip() else harmless


def _without_thoughts(text: str) -> str:
    """What Gemma 4's templates leave of an assistant's text."""
    kept = re.sub(r"<\|channel>((?!<channel\|>).)*(<channel\|>|$)", "", text, flags=re.DOTALL)
    return kept.replace("<channel|>", "")


def check_control(
    hostile: RenderedPrompt, harmless: RenderedPrompt, tokenizer: Tokenizer, seed: int
) -> None:
    names = {token_id: name for name, token_id in tokenizer.control_ids.items()}
    found, expected = (
        [names[token_id] for token_id in prompt.token_ids if token_id in names]
        for prompt in (hostile, harmless)
    )
    assert found == expected, seed
    assert tokenizer.decode(hostile.token_ids, special=True) == hostile.text, seed


@pytest.mark.parametrize("name", [EDGE, LARGE, "custom"])
def test_control_strings_in_any_field_are_text(tokenizer, custom, name):
    chosen = custom if name == "custom" else native_template(name)
    hostile_strings = 0

    for seed in range(COUNT):
        hostile, harmless = (
            render(
                template=chosen, tokenizer=tokenizer, any_order=True, placeholders=True, **inputs
            )
            for inputs in (Writer(seed).inputs(), Writer(seed, finish=taken_out).inputs())
        )

        check_control(hostile, harmless, tokenizer, seed)
        pieces = tokenizer.split_control(hostile.text)
        names = sum(isinstance(piece, int) for piece in pieces)
        hostile_strings += names > sum(
            i in tokenizer.control_ids.values() for i in hostile.token_ids
        )

    assert hostile_strings > COUNT / 2  # most of them do have some


def in_turn(writer: Writer) -> list[dict[str, Any]]:
    """A conversation as Gemma 3 knows them."""
    messages = [
        {"role": ("user", "assistant")[index % 2], "content": writer.text("user")}
        for index in range(5)
    ]
    return [{"role": "system", "content": writer.text("system")}, *messages]


def test_control_strings_are_text_in_gemma_3(gemma3_tokenizer):
    for seed in range(COUNT):
        hostile, harmless = (
            render(
                in_turn(Writer(seed, **finish)),
                template=native_template(GEMMA3),
                tokenizer=gemma3_tokenizer,
                any_order=True,
            )
            for finish in ({}, {"finish": taken_out})
        )

        check_control(hostile, harmless, gemma3_tokenizer, seed)


# --- beside the published templates ---------------------------------------------------------------


@pytest.fixture(scope="module")
def published() -> dict[str, jinja2.Template]:
    """Name of a native template to the published one, run as transformers does."""

    def refuse(message: str) -> None:
        raise ValueError(message)

    found = {}
    for path in Path(os.environ.get("PUBLISHED_TEMPLATES", os.devnull)).glob("*.jinja"):
        name = PUBLISHED.get(hashlib.sha256(path.read_bytes()).hexdigest())
        if name:
            environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
            environment.globals["raise_exception"] = refuse
            found[name] = environment.from_string(path.read_bytes().decode())
    return found


def with_embedded_results(messages: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """Results that are mappings, as the template takes them: inside the message that called.

    None where parts stand beside a mapping, which it takes nowhere.
    """
    written: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "tool":
            written[-1].setdefault("results", []).append(message)
        else:
            written.append(dict(message))
    flat = []
    for message in written:
        results = message.pop("results", [])
        kinds = {type(result["content"]) for result in results}
        if {dict, list} <= kinds:
            return None
        if dict in kinds:
            message["tool_responses"] = [
                {"name": name_of(result, message), "response": result["content"]}
                for result in results
            ]
            results = []
        flat += [message, *results]
    return flat


def name_of(result: dict[str, Any], message: dict[str, Any]) -> str:
    named = [
        call["function"]["name"]
        for call in message["tool_calls"]
        if call.get("id") == result.get("tool_call_id")
    ]
    return [result.get("name") or "unknown", *named][-1]


@pytest.mark.parametrize("name", [EDGE, LARGE])
@pytest.mark.parametrize("has_odd_schemas", [False, True], ids=["", "odd schemas"])
def test_the_native_text_is_that_of_the_published_template(
    published, tokenizer, name, has_odd_schemas
):
    if name not in published:
        pytest.skip("PUBLISHED_TEMPLATES names no folder with the published template")
    compared = 0

    for seed in range(COUNT):
        inputs = Writer(seed, has_odd_schemas=has_odd_schemas).inputs()
        messages = with_embedded_results(inputs["messages"])
        if messages is None:
            continue
        compared += 1
        try:
            expected = published[name].render(
                messages=messages,
                tools=inputs["tools"],
                enable_thinking=inputs["thinking"],
                preserve_thinking=inputs["preserve_thinking"],
                add_generation_prompt=inputs["add_generation_prompt"],
                bos_token="<bos>",
            )
        except (TypeError, AttributeError, jinja2.TemplateError):
            expected = None
        try:
            found = render(
                template=native_template(name),
                tokenizer=tokenizer,
                any_order=True,
                placeholders=True,
                **inputs,
            ).text
        except CabochonError:
            found = None
        assert found == expected, seed

    assert compared > COUNT * 0.8


def test_the_native_text_is_that_of_gemma_3s_template(published, gemma3_tokenizer):
    if GEMMA3 not in published:
        pytest.skip("PUBLISHED_TEMPLATES names no folder with the published template")

    for seed in range(COUNT):
        messages = in_turn(Writer(seed))[seed % 2 :]
        found = render(
            messages,
            template=native_template(GEMMA3),
            tokenizer=gemma3_tokenizer,
            add_generation_prompt=seed % 3 > 0,
            any_order=True,
        )

        expected = published[GEMMA3].render(
            messages=messages, add_generation_prompt=seed % 3 > 0, bos_token="<bos>"
        )
        assert found.text == expected, seed
