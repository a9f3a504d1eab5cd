"""The published templates, natively: recorded conversations, examples, and what is refused.

tests/property/test_templates.py compares them with the templates themselves, where those are.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from cabochon.chat import native
from cabochon.chat.marks import split_marks
from cabochon.chat.render import RenderedPrompt, render
from cabochon.chat.template import EDGE, GEMMA3, LARGE, native_template
from cabochon.errors import InvalidArgument, TemplateError, Unsupported
from cabochon.tokenizer import Tokenizer
from vocabularies import SHARED, published_tokenizer
from weather import DECLARED, GET_WEATHER

RECORDED = SHARED / "chat" / "rendered.jsonl"

BOS, USER, MODEL, END = "<bos>", "<|turn>user\n", "<|turn>model\n", "<turn|>\n"
EMPTY = "<|channel>thought\n<channel|>"


@pytest.fixture(scope="module")
def published() -> Tokenizer:
    return published_tokenizer()


def say(role: str, content: Any = None, **extra: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **extra}


def call(name: str, arguments: Any = None, **extra: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **extra}


def tool(name: str, **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **function}}


def prompt(
    messages: list[dict[str, Any]], tokenizer: Tokenizer, name: str = LARGE, **options: Any
) -> RenderedPrompt:
    options = {"any_order": True, "placeholders": True} | options
    return render(messages, template=native_template(name), tokenizer=tokenizer, **options)


# --- recorded conversations -----------------------------------------------------------------------


@pytest.mark.skipif(not RECORDED.exists(), reason="no recorded conversations beside the repository")
@pytest.mark.parametrize(("key", "name"), [("large", LARGE), ("edge", EDGE)])
def test_500_recorded_conversations_come_out_as_the_published_template_gave_them(
    tokenizer, key, name
):
    cases = [json.loads(line) for line in RECORDED.read_text("utf-8").splitlines()]

    found = [
        prompt(
            case["messages"],
            tokenizer,
            name,
            tools=case.get("tools"),
            thinking=case.get("enable_thinking", False),
            preserve_thinking=case.get("preserve_thinking", False),
            add_generation_prompt=case["add_generation_prompt"],
        ).text
        for case in cases
    ]

    assert len(cases) == 500
    assert [i for i, case in enumerate(cases) if found[i] != case[key]] == []


# --- examples -------------------------------------------------------------------------------------

WEATHER = {"type": "function", "function": GET_WEATHER}
PARIS = call("get_weather", {"city": "Paris"}, id="1")
PARIS_TEXT = '<|tool_call>call:get_weather{city:<|"|>Paris<|"|>}<tool_call|>'


def response(name: str, value: str) -> str:
    return f'<|tool_response>response:{name}{{value:<|"|>{value}<|"|>}}<tool_response|>'


def result(content: Any, call_id: str = "1") -> dict[str, Any]:
    return say("tool", content, tool_call_id=call_id)


THOUGHT = say("assistant", "A1", reasoning_content="abc")
SAID_THOUGHT = say("assistant", "<|channel>thought\nabc\n<channel|>A1")
# Two thoughts, and one before a call.
LONG = [
    say("user", "Q1"),
    say("assistant", "A1", reasoning="r1"),
    say("user", "Q2"),
    say("assistant", None, reasoning="r2", tool_calls=[call("f", None, id="1")]),
    result("x"),
    say("assistant", "A2", reasoning="r3"),
    say("user", "Q3"),
]
LONG_TEXT = (
    f"{USER}Q1{END}{MODEL}A1{END}{USER}Q2{END}{MODEL}<|channel>thought\nr2\n<channel|>"
    f"<|tool_call>call:f{{}}<tool_call|>{response('f', 'x')}A2{END}{USER}Q3{END}{MODEL}"
)

EXAMPLES: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str]] = {
    "a question": ([say("user", "Hello")], {}, f"{USER}Hello{END}{MODEL}{EMPTY}"),
    "a question to an edge model": (
        [say("user", "Hello")], {"name": EDGE}, f"{USER}Hello{END}{MODEL}",
    ),
    "a system message, thinking": (
        [say("system", "Be concise."), say("user", "Hi")], {"thinking": True},
        f"<|turn>system\n<|think|>\nBe concise.{END}{USER}Hi{END}{MODEL}",
    ),
    "thinking alone": (
        [say("user", "Hi")], {"thinking": True},
        f"<|turn>system\n<|think|>\n{END}{USER}Hi{END}{MODEL}",
    ),
    "thoughts of an earlier turn": (
        [say("user", "Q1"), THOUGHT, say("user", "Q2")], {},
        f"{USER}Q1{END}{MODEL}A1{END}{USER}Q2{END}{MODEL}{EMPTY}",
    ),
    "thoughts in the text of an earlier turn": (
        [say("user", "Q1"), SAID_THOUGHT, say("user", "Q2")], {},
        f"{USER}Q1{END}{MODEL}A1{END}{USER}Q2{END}{MODEL}{EMPTY}",
    ),
    "no generation prompt": (
        [say("user", "Q"), say("assistant", "A")], {"add_generation_prompt": False},
        f"{USER}Q{END}{MODEL}A{END}",
    ),
    "a tool": (
        [say("user", "Weather in Paris?")], {"tools": [WEATHER]},
        f"<|turn>system\n{DECLARED}{END}{USER}Weather in Paris?{END}{MODEL}{EMPTY}",
    ),
    "a call answered": (
        [
            say("user", "W?"),
            say("assistant", None, tool_calls=[
                call("get_weather", {"city": "Paris", "n": 3, "ok": True, "l": ["a", 1, None],
                                     "o": {"k": "v"}}, id="1"),
            ]),
            result("15C sunny"),
        ],
        {"tools": [WEATHER]},
        f'<|turn>system\n{DECLARED}{END}{USER}W?{END}{MODEL}<|tool_call>call:get_weather{{'
        'city:<|"|>Paris<|"|>,l:[<|"|>a<|"|>,1,null],n:3,o:{k:<|"|>v<|"|>},ok:true}<tool_call|>'
        f"{response('get_weather', '15C sunny')}",
    ),
    "a call answered, thinking": (
        [
            say("user", "W?"), say("assistant", None, reasoning="need tool", tool_calls=[PARIS]),
            result("15C"),
        ],
        {"thinking": True},
        f"<|turn>system\n<|think|>\n{END}{USER}W?{END}{MODEL}<|channel>thought\nneed tool\n"
        f"<channel|>{PARIS_TEXT}{response('get_weather', '15C')}<|channel>thought\n",
    ),
    "a mapping as result": (
        [
            say("user", "W?"), say("assistant", None, tool_calls=[PARIS]),
            result({"temp": 15, "sky": "clear", "deep": {"a": [1, 2.5, False]}}),
        ],
        {},
        f"{USER}W?{END}{MODEL}{PARIS_TEXT}<|tool_response>response:get_weather{{"
        'deep:{a:[1,2.5,false]},sky:<|"|>clear<|"|>,temp:15}<tool_response|>',
    ),
    "a full round": (
        [
            say("user", "W?"), say("assistant", None, tool_calls=[PARIS]), result("15C"),
            say("assistant", "It is 15C."), say("user", "Thanks"),
        ],
        {},
        f"{USER}W?{END}{MODEL}{PARIS_TEXT}{response('get_weather', '15C')}It is 15C.{END}"
        f"{USER}Thanks{END}{MODEL}{EMPTY}",
    ),
    "two calls at once": (
        [
            say("user", "W?"),
            say("assistant", None, tool_calls=[
                call("get_weather", {"city": "P"}, id="1"),
                call("get_weather", {"city": "R"}, id="2"),
            ]),
            result("1"), result("2", "2"),
        ],
        {},
        f'{USER}W?{END}{MODEL}<|tool_call>call:get_weather{{city:<|"|>P<|"|>}}<tool_call|>'
        '<|tool_call>call:get_weather{city:<|"|>R<|"|>}<tool_call|>'
        f"{response('get_weather', '1')}{response('get_weather', '2')}",
    ),
    "one call after the other": (
        [
            say("user", "x"),
            say("assistant", None, tool_calls=[call("f", {"a": 1}, id="1")]), result("r1"),
            say("assistant", None, tool_calls=[call("g", {}, id="2")]), result("r2", "2"),
            say("assistant", "done"),
        ],
        {"add_generation_prompt": False},
        f"{USER}x{END}{MODEL}<|tool_call>call:f{{a:1}}<tool_call|>{response('f', 'r1')}"
        f"<|tool_call>call:g{{}}<tool_call|>{response('g', 'r2')}done{END}",
    ),
    "a call without an answer": (
        [say("user", "x"), say("assistant", "text", tool_calls=[call("f")])], {},
        f"{USER}x{END}{MODEL}<|tool_call>call:f{{}}<tool_call|>text<|tool_response>",
    ),
    "media": (
        [
            say("user", [{"type": "image"}, {"type": "text", "text": " A "}, {"type": "audio"},
                         {"type": "video"}]),
        ],
        {},
        f"{USER}<|image|>A<|audio|><|video|>{END}{MODEL}{EMPTY}",
    ),
    "a late system message": (
        [
            say("user", "x"), say("assistant", "y"), say("system", "new rule"), say("user", "z"),
        ],
        {},
        f"{USER}x{END}{MODEL}y{END}<|turn>system\nnew rule{END}{USER}z{END}{MODEL}{EMPTY}",
    ),
    "two assistant messages": (
        [say("user", "x"), say("assistant", "y"), say("assistant", "z")],
        {"add_generation_prompt": False},
        f"{USER}x{END}{MODEL}yz{END}",
    ),
    "a system message in parts": (
        [
            say("system", [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]),
            say("user", "x"),
        ],
        {},
        f"<|turn>system\na b {END}{USER}x{END}{MODEL}{EMPTY}",
    ),
    "thoughts preserved": (
        LONG, {"thinking": True, "preserve_thinking": True},
        f"<|turn>system\n<|think|>\n{END}{LONG_TEXT}",
    ),
    "thoughts not preserved": (
        LONG, {"thinking": True},
        f"<|turn>system\n<|think|>\n{END}"
        + LONG_TEXT.replace("<|channel>thought\nr2\n<channel|>", ""),
    ),
    "numbers and quotes": (
        [
            say("user", "x"),
            say("assistant", None, tool_calls=[
                call("f", {"b": 1e20, "e": 1e-7, "f": 0.5, "n": -3, "s": """it's "q" {x}""",
                           "nested": {"k y": [{"z": None}]}}),
            ]),
        ],
        {},
        f"{USER}x{END}{MODEL}<|tool_call>call:f{{b:1e+20,e:1e-07,f:0.5,n:-3,"
        """nested:{k y:[{z:null}]},s:<|"|>it's "q" {x}<|"|>}<tool_call|><|tool_response>""",
    ),
    "an array of objects": (
        [say("user", "x")],
        {
            "tools": [tool("f", description="d", parameters={
                "type": "object",
                "properties": {"items": {
                    "type": "array", "description": "list",
                    "items": {
                        "type": "object", "properties": {"a": {"type": "string"}},
                        "required": ["a"], "additionalProperties": None,
                    },
                }},
            })],
        },
        '<|turn>system\n<|tool>declaration:f{description:<|"|>d<|"|>,parameters:{properties:{'
        'items:{description:<|"|>list<|"|>,items:{properties:{a:{type:<|"|>STRING<|"|>}},'
        'required:[<|"|>a<|"|>],type:<|"|>OBJECT<|"|>},type:<|"|>ARRAY<|"|>}},'
        f'type:<|"|>OBJECT<|"|>}}}}<tool|>{END}{USER}x{END}{MODEL}{EMPTY}',
    ),
    "a schema that the format cannot say": (
        [say("user", "x")],
        {
            "tools": [tool("f", parameters={
                "type": "object",
                "properties": {
                    "both": {"type": ["string", "null"], "default": 3},
                    "free": {"type": "object", "title": "T"},
                    "three": {"type": "integer", "enum": [1, 2, 3], "minimum": 1},
                },
            }, response={"type": "object", "description": "r"})],
        },
        '<|turn>system\n<|tool>declaration:f{description:<|"|><|"|>,parameters:{properties:{'
        """both:{type:<|"|>['STRING', 'NULL']<|"|>},"""
        'free:{properties:{title:{type:<|"|><|"|>}},type:<|"|>OBJECT<|"|>},'
        'three:{type:<|"|>INTEGER<|"|>}},type:<|"|>OBJECT<|"|>},'
        'response:{description:<|"|>r<|"|>,type:<|"|>OBJECT<|"|>}}<tool|>'
        f"{END}{USER}x{END}{MODEL}{EMPTY}",
    ),
    "a schema with what nobody writes": (
        [say("user", "x")],
        {
            "tools": [tool("f", description=None, parameters={
                "type": "object",
                "properties": {
                    "a": {"type": "string", "enum": [{"k": [True]}, 2], "nullable": False},
                    "B": True,
                    "l": {"type": "array", "items": {"type": ["string"], "default": {"k": "v"}}},
                },
            })],
        },
        '<|turn>system\n<|tool>declaration:f{description:<|"|>None<|"|>,parameters:{properties:{'
        'a:{enum:[{<|"|>k<|"|>:[true]},2],type:<|"|>STRING<|"|>},B:{type:<|"|><|"|>},'
        'l:{items:{default:{<|"|>k<|"|>:<|"|>v<|"|>},type:[<|"|>STRING<|"|>]},'
        f'type:<|"|>ARRAY<|"|>}}}},type:<|"|>OBJECT<|"|>}}}}<tool|>{END}{USER}x{END}{MODEL}{EMPTY}',
    ),
    "results of calls without ids": (
        [
            say("user", "x"), say("assistant", None, tool_calls=[call("f"), call("g")]),
            say("tool", "r1"), say("tool", "r2", name="f"), say("tool", "r3", tool_call_id="no"),
        ],
        {},
        f"{USER}x{END}{MODEL}<|tool_call>call:f{{}}<tool_call|><|tool_call>call:g{{}}<tool_call|>"
        f"{response('g', 'r1')}{response('g', 'r2')}{response('unknown', 'r3')}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_rendered_as_published(tokenizer, example):
    messages, options, expected = EXAMPLES[example]

    assert prompt(messages, tokenizer, **options).text == BOS + expected


def test_no_messages_at_all_are_an_opened_turn():
    printed = native.gemma4([], empty_thought=True)

    assert "".join(piece for piece, _ in split_marks(printed)) == f"{BOS}{MODEL}{EMPTY}"


COLORS = [say("user", "Name three primary colors.")]
TIME = [
    tool(
        "get_current_time",
        description="Get the host's current local date and time.",
        parameters={"type": "object"},
    ),
    tool(
        "get_weather",
        description="Get the weather for a city.",
        parameters={
            "type": "object",
            "properties": {"location": {"type": "string", "description": "The city name"}},
            "required": ["location"],
        },
    ),
]
IDS: dict[str, tuple[list[dict[str, Any]], dict[str, Any], list[int]]] = {
    "a question": (
        [say("user", "Hello")], {},
        [2, 105, 2364, 107, 9259, 106, 107, 105, 4368, 107, 100, 45518, 107, 101],
    ),
    "a system message, thinking": (
        [say("system", "Be concise."), say("user", "Hi")], {"thinking": True},
        [2, 105, 9731, 107, 98, 107, 3912, 63510, 236761, 106, 107, 105, 2364, 107, 10979, 106, 107,
         105, 4368, 107],
    ),
    "no generation prompt": (
        [say("user", "Q"), say("assistant", "A")], {"add_generation_prompt": False},
        [2, 105, 2364, 107, 236935, 106, 107, 105, 4368, 107, 236776, 106, 107],
    ),
    "two tools, edge": (
        [say("user", "What time is it?")], {"tools": TIME, "name": EDGE},
        [2, 105, 9731, 107, 46, 163688, 236787, 828, 236779, 4002, 236779, 2289, 236782, 7777,
         236787, 52, 3407, 506, 4253, 236789, 236751, 1873, 2263, 3433, 532, 990, 236761, 52,
         236764, 19031, 29616, 2084, 236787, 52, 60688, 52, 1807, 47, 46, 163688, 236787, 828,
         236779, 19323, 236782, 7777, 236787, 52, 3407, 506, 7606, 573, 496, 3207, 236761, 52,
         236764, 19031, 29616, 15921, 29616, 7125, 29616, 7777, 236787, 52, 818, 3207, 1463, 52,
         236764, 2084, 236787, 52, 35410, 52, 5237, 15979, 24845, 52, 7125, 52, 1604, 2084, 236787,
         52, 60688, 52, 1807, 47, 106, 107, 105, 2364, 107, 3689, 990, 563, 625, 236881, 106, 107,
         105, 4368, 107],
    ),
    "colors": (
        COLORS, {},
        [2, 105, 2364, 107, 1567, 1806, 5905, 7913, 236761, 106, 107, 105, 4368, 107, 100, 45518,
         107, 101],
    ),
    "colors, thinking": (
        COLORS, {"thinking": True},
        [2, 105, 9731, 107, 98, 107, 106, 107, 105, 2364, 107, 1567, 1806, 5905, 7913, 236761, 106,
         107, 105, 4368, 107],
    ),
}  # fmt: skip


@pytest.mark.parametrize("example", IDS)
def test_an_example_has_the_ids_of_the_published_tokenizer(published, example):
    messages, options, expected = IDS[example]

    assert prompt(messages, published, **options).token_ids == expected


@pytest.mark.parametrize(
    ("example", "starts_in"),
    [
        ("a question", "answer"),
        ("thinking alone", "answer"),
        ("a call answered", "answer"),
        ("a call answered, thinking", "thinking"),
    ],
)
def test_the_answer_starts_where_the_prompt_ends(tokenizer, example, starts_in):
    messages, options, _ = EXAMPLES[example]

    assert prompt(messages, tokenizer, **options).starts_in == starts_in


@pytest.mark.parametrize("name", [EDGE, LARGE])
@pytest.mark.parametrize(
    "text", ["Once upon", " Once upon \n", "<|channel>thought\nx<channel|>Once upon"]
)
def test_the_last_message_is_continued_after_its_text(tokenizer, name, text):
    messages = [say("user", "a"), say("assistant", text)]

    found = prompt(messages, tokenizer, name, continue_final=True)

    assert found.text == f"{BOS}{USER}a{END}{MODEL}Once upon"


def test_a_result_is_continued_in_its_turn(tokenizer):
    messages = [
        say("user", "a"),
        say("assistant", None, tool_calls=[PARIS]),
        result("15C"),
        say("assistant", "It is"),
    ]

    found = prompt(messages, tokenizer, continue_final=True)

    assert found.text.endswith(f"{response('get_weather', '15C')}It is")


# --- what the template would leave out ------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([say("user", "a"), result("b")], r"messages\[1\]: found a tool's result"),
        ([result("b")], r"messages\[0\]: found a tool's result"),
        (
            [say("user", "a"), say("assistant", "b"), result("c")],
            r"messages\[2\]: found a tool's result, expected one after an assistant's tool_calls",
        ),
        (
            [say("system", [{"type": "image"}]), say("user", "a")],
            r"messages\[0\]\.content\[0\]: found type 'image', expected text alone",
        ),
    ],
)
def test_what_the_template_would_leave_out_is_refused(tokenizer, messages, text):
    with pytest.raises(InvalidArgument, match=text):
        prompt(messages, tokenizer)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"type": "object", "properties": [1]}, "properties: found"),
        ({"type": "object", "required": 3}, "found 3 in a schema"),
    ],
)
def test_a_schema_that_the_template_fails_on_is_refused(tokenizer, parameters, text):
    with pytest.raises(TemplateError, match=text):
        prompt([say("user", "a")], tokenizer, tools=[tool("f", parameters=parameters)])


# --- Gemma 3 --------------------------------------------------------------------------------------


def gemma3(messages: list[dict[str, Any]], **options: Any) -> str:
    printed = native.gemma3(messages, **options)
    return "".join(piece for piece, _ in split_marks(printed))


def test_gemma_3_prints_the_system_message_before_the_first_question():
    messages = [say("system", " Be brief. "), say("user", " a "), say("assistant", "b")]

    assert gemma3([*messages, say("user", "c")]) == (
        "<bos><start_of_turn>user\n Be brief. \n\na<end_of_turn>\n"
        "<start_of_turn>model\nb<end_of_turn>\n<start_of_turn>user\nc<end_of_turn>\n"
        "<start_of_turn>model\n"
    )
    assert gemma3(messages, add_generation_prompt=False).endswith("model\nb<end_of_turn>\n")


def test_gemma_3_prints_parts_and_placeholders():
    parts = [{"type": "image"}, {"type": "text", "text": " a "}]
    system = say("system", [{"type": "text", "text": "s"}])

    assert gemma3([system, say("user", parts)], add_generation_prompt=False) == (
        "<bos><start_of_turn>user\ns\n\n<start_of_image>a<end_of_turn>\n"
    )


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([say("user", "a"), say("user", "b")], r"messages\[1\]\.role: .* must alternate"),
        ([say("assistant", "a")], r"messages\[0\]\.role: found 'assistant'"),
        ([say("developer", "s"), say("user", "a")], r"messages\[0\]\.role: found 'developer'"),
        ([say("system", "s")], "found a system message alone"),
    ],
)
def test_gemma_3_refuses_roles_that_do_not_take_turns(messages, text):
    with pytest.raises(TemplateError, match=text):
        gemma3(messages)


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([say("user", "a"), say("assistant", "", tool_calls=[PARIS])], r"messages\[1\]: found a t"),
        ([say("user", "a"), result("b")], r"messages\[1\]: found a tool's"),
        ([say("user", [{"type": "audio"}])], r"content\[0\]: found 'audio', which Gemma 3 has not"),
        (
            [say("system", [{"type": "text", "text": "s"}] * 2), say("user", "a")],
            r"messages\[0\]\.content: found 2 parts",
        ),
    ],
)
def test_what_gemma_3_has_not_is_refused(messages, text):
    with pytest.raises(Unsupported, match=text):
        gemma3(messages)


@pytest.mark.parametrize("option", [{"thinking": True}, {"tools": [WEATHER]}])
def test_gemma_3_neither_thinks_nor_calls(tokenizer, option):
    with pytest.raises(Unsupported, match="the template gemma3 has none"):
        prompt([say("user", "a")], tokenizer, GEMMA3, **option)
