"""Inspect (the package) on a model of ours."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cabochon.errors import InvalidArgument, Unsupported

pytest.importorskip("inspect_ai", reason="needs '.[inspect]'")
pytestmark = pytest.mark.adapters

GREEDY = {"temperature": 0.0, "max_tokens": 24}


@pytest.fixture
def api(model: Any) -> Any:
    from inspect_ai.model import get_model

    return get_model("cabochon/demo", loaded=model, memoize=False)


def ask(api: Any, *arguments: Any, **options: Any) -> Any:
    from inspect_ai.model import GenerateConfig

    return asyncio.run(api.generate(*arguments, config=GenerateConfig(**{**GREEDY, **options})))


def test_inspect_finds_the_adapter_by_its_entry_point_and_loads_a_folder(demo_folder: Any) -> None:
    from inspect_ai.model import get_model

    api = get_model("cabochon/demo", path=str(demo_folder), weights="int8", memoize=False)

    assert "int8" in api.api.model.info().formats.values()
    assert ask(api, "hello").usage.output_tokens > 0
    api.api.close()
    with pytest.raises(InvalidArgument, match="not loaded"):
        get_model("cabochon/demo", loaded=api.api.model, weights="int8", memoize=False)


def test_an_answer_is_that_of_a_direct_call(model: Any, api: Any) -> None:
    output = ask(api, "Which river is the longest?")
    direct = model.generate("Which river is the longest?", **GREEDY)

    assert output.choices[0].message.text == direct.text
    assert output.usage.output_tokens == direct.usage.output_tokens
    assert output.stop_reason == {"length": "max_tokens"}.get(direct.finish_reason, "stop")


def test_samples_side_by_side_are_one_batch_with_the_same_answers(
    model: Any, api: Any, tmp_path: Any
) -> None:
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import GenerateConfig
    from inspect_ai.scorer import includes
    from inspect_ai.solver import generate

    questions = [f"What is {n} + {n}?" for n in range(24)]
    task = Task(
        dataset=[Sample(input=question, target="x") for question in questions],
        solver=generate(),
        scorer=includes(),
    )
    steps: list[int] = []
    engine = model._loop._engine

    class Counted:
        def __getattr__(self, name: str) -> Any:
            return getattr(engine, name)

        def step(self, **arguments: Any) -> Any:
            steps.append(len(arguments["slices"]))
            return engine.step(**arguments)

    model._loop._engine = Counted()
    (log,) = eval(task, model=api, display="none", log_dir=str(tmp_path), **GREEDY)
    model._loop._engine = engine

    assert log.status == "success", log.error
    assert isinstance(log.eval.model_generate_config, GenerateConfig)
    said = {sample.input: sample.output.completion for sample in log.samples}
    direct = model.generate(questions, **GREEDY)
    assert [said[question] for question in questions] == [result.text for result in direct]
    assert max(steps) > 1


def test_tools_calls_and_thoughts_come_parsed(
    model: Any, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inspect_ai.model import ChatMessageTool, ChatMessageUser
    from inspect_ai.tool import ToolFunction, ToolInfo, ToolParam, ToolParams

    seen: list[tuple[Any, dict[str, Any]]] = []
    generate = model.generate

    def scripted(prompt: Any, **options: Any) -> Any:
        seen.append((prompt, options))
        result = generate("x", temperature=0, max_tokens=1)
        said = model.parse(
            model.encode(
                '<|channel>thought\nhm<channel|><|tool_call>call:weather{city:<|"|>Oslo<|"|>}'
                "<tool_call|>",
                special=True,
            ).tolist()
        )
        fields = {name: getattr(result, name) for name in ("token_ids", "usage", "timings")}
        return type(
            "R",
            (),
            {
                **fields,
                "text": said.text,
                "thinking": said.thinking,
                "tool_calls": said.tool_calls,
                "finish_reason": "tool_calls",
                "stop_reason": None,
                "logprobs": None,
            },
        )()

    monkeypatch.setattr(type(model), "generate", lambda self, *a, **o: scripted(*a, **o))
    city = ToolParam(type="string", description="a city")
    tool = ToolInfo(
        name="weather",
        description="Weather of a city.",
        parameters=ToolParams(properties={"city": city}, required=["city"]),
    )

    output = asyncio.run(
        api.generate([ChatMessageUser(content="Oslo?")], [tool], ToolFunction(name="weather"))
    )

    message = output.choices[0].message
    assert output.stop_reason == "tool_calls"
    assert (message.tool_calls[0].function, message.tool_calls[0].arguments) == (
        "weather",
        {"city": "Oslo"},
    )
    assert message.content[0].reasoning == "hm"
    options = seen[0][1]
    assert options["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert options["tools"][0]["function"]["parameters"]["required"] == ["city"]

    again = [
        ChatMessageUser(content="Oslo?"),
        message,
        ChatMessageTool(content="rain", tool_call_id=message.tool_calls[0].id, function="weather"),
    ]
    asyncio.run(api.generate(again, [tool], "auto"))
    prompt = seen[1][0]
    assert [item["role"] for item in prompt] == ["user", "assistant", "tool"]
    assert prompt[1]["reasoning"] == "hm"
    monkeypatch.undo()
    text = model.render(prompt, tools=seen[1][1]["tools"]).text
    assert "rain" in text and "call:weather" in text


def test_options_go_through_and_those_that_cannot_are_refused(model: Any, api: Any) -> None:
    output = ask(api, "abc", logprobs=True, top_logprobs=3, seed=5, temperature=0.8, num_choices=2)

    direct = model.generate(["abc", "abc"], temperature=0.8, seed=[5, 6], max_tokens=24)
    assert [c.message.text for c in output.choices] == [result.text for result in direct]
    assert len(output.choices[0].logprobs.content[0].top_logprobs) == 3
    with pytest.raises(Unsupported, match="frequency_penalty"):
        ask(api, "abc", frequency_penalty=0.5)


def test_an_answer_of_a_schema_is_bound_to_it(api: Any) -> None:
    from inspect_ai.model import ResponseSchema
    from inspect_ai.util import json_schema

    schema = ResponseSchema(name="answer", json_schema=json_schema(bool))

    assert ask(api, "yes or no?", response_schema=schema).completion in ("true", "false")
