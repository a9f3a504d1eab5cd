"""Tools of a model: declared in its prompt, called in its answer, checked, and forbidden.

The demo's weights are random, so its words are put into its mouth: `says`.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

import cabochon
import tiny
from cabochon import cli
from cabochon.errors import (
    CabochonWarning,
    ConstraintError,
    InvalidArgument,
    MissingExtra,
    Unsupported,
)

Q = '<|"|>'
CALL = f"<|tool_call>call:weather{{city:{Q}Paris{Q}}}<tool_call|>"
QUESTION = [{"role": "user", "content": "Weather in Paris?"}]


def weather(city: str, unit: Literal["c", "f"] = "c") -> dict[str, Any]:
    """Weather of a city. Args: city: its name. unit: degrees."""
    return {"sky": "clear", "temp": 15}


# --- declared ------------------------------------------------------------------------------------


def test_tools_are_declared_in_the_prompt_that_generate_sends(model: Any) -> None:
    prompt = model.render(QUESTION, tools=[weather])

    result = model.generate(QUESTION, tools=[weather], max_tokens=1, ignore_stops=True)

    assert prompt.text.startswith(
        f"<bos><|turn>system\n<|tool>declaration:weather{{description:{Q}Weather of a city.{Q},"
        f"parameters:{{properties:{{city:{{description:{Q}its name.{Q},type:{Q}STRING{Q}}},"
        f"unit:{{description:{Q}degrees.{Q},enum:[{Q}c{Q},{Q}f{Q}],type:{Q}STRING{Q}}}}},"
        f"required:[{Q}city{Q}],type:{Q}OBJECT{Q}}}}}<tool|><turn|>\n<|turn>user\n"
    )
    assert result.prompt_token_ids.tolist() == prompt.token_ids.tolist()
    assert model.generate("Weather in Paris?", tools=[weather], max_tokens=1, ignore_stops=True
                          ).prompt_token_ids.tolist() == prompt.token_ids.tolist()  # fmt: skip


def test_every_option_of_tools_is_in_the_settings_and_they_are_json(model: Any) -> None:
    result = model.generate(QUESTION, tools=[weather], tool_choice="none", max_tokens=1)

    settings = json.loads(json.dumps(result.to_dict()["settings"]))
    assert settings["tools"][0]["function"]["name"] == "weather"
    assert settings["tool_choice"] == "none"
    assert settings["parallel_tool_calls"] is True
    assert settings["strict_tools"] is False
    assert json.dumps(result.to_dict()["manifest"]["settings"])


def test_tools_that_nothing_can_declare_are_refused(
    model: Any, load: Any, base_folder: Path
) -> None:
    with pytest.raises(InvalidArgument, match="tools: found 1 for plain text, expected messages"):
        model.generate("Weather?", tools=[weather], raw=True)
    with pytest.raises(Unsupported, match="tools: this checkpoint is a base model"):
        load(base_folder).generate("Weather?", tools=[weather])


@pytest.mark.parametrize("method", ["generate", "stream", "render", "parse"])
def test_a_tool_that_is_none_is_refused_everywhere_before_anything_runs(
    model: Any, method: str
) -> None:
    given = [1] if method == "parse" else QUESTION

    with pytest.raises(InvalidArgument, match=r"tools\[1\]: found int, expected a function"):
        getattr(model, method)(given, tools=[weather, 3])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tool_choice": "rain"}, InvalidArgument, "tool_choice is 'rain'.*tools: 'weather'"),
        ({"tool_choice": {"type": "function", "function": {"name": "rain"}}}, InvalidArgument,
         "tool_choice is .*one of tools: 'weather'"),
        ({"tool_choice": {"name": "weather"}}, InvalidArgument, "tool_choice is .*'type'"),
        ({"tool_choice": 3}, InvalidArgument, "tool_choice is 3"),
        ({"tool_choice": "required", "tools": []}, InvalidArgument, "tools to choose from"),
        ({"parallel_tool_calls": "no"}, InvalidArgument, "parallel_tool_calls is 'no'"),
        ({"strict_tools": "no"}, InvalidArgument, "strict_tools is 'no'"),
        ({"strict_tools": True, "tools": []}, InvalidArgument, "True.*since no tools are given"),
        ({"strict_tools": False, "tool_choice": "required"}, InvalidArgument,
         "strict_tools is False, expected None or True beside tool_choice='required'"),
    ],
)  # fmt: skip
def test_choices_that_are_none_are_refused(
    model: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        model.generate(QUESTION, **{"tools": [weather], **options})


# --- called --------------------------------------------------------------------------------------


def test_a_call_is_given_back_and_not_run(model: Any, says: Any) -> None:
    says(f"Let me see.{CALL}<|tool_response>")
    ran: list[str] = []

    def weather(city: str) -> None:
        ran.append(city)

    result = model.generate(QUESTION, tools=[weather])

    (call,) = result.tool_calls
    assert (call.name, dict(call.arguments), call.error) == ("weather", {"city": "Paris"}, None)
    assert (result.text, result.finish_reason) == ("Let me see.", "tool_calls")
    assert ran == []


@pytest.mark.parametrize(
    ("written", "error"),
    [
        (f"call:weather{{city:{Q}Paris{Q},unit:{Q}f{Q}}}", None),
        ("call:weather{city:3}", 'city: 3 is not of type "string"'),
        ("call:weather{}", '"city" is a required property'),
        (f"call:rain{{city:{Q}Paris{Q}}}", "unknown tool 'rain', expected one of: weather"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_what_is_wrong_with_a_call_is_said_beside_it(
    model: Any, says: Any, written: str, error: str | None, streamed: bool
) -> None:
    says(f"<|tool_call>{written}<tool_call|><|tool_response>")

    if streamed:
        *events, done = model.stream(QUESTION, tools=[weather])
        result = done.result
        assert [event.tool_call for event in events if event.tool_call] == list(result.tool_calls)
    else:
        result = model.generate(QUESTION, tools=[weather])

    assert [call.error for call in result.tool_calls] == [error]
    assert result.finish_reason == "tool_calls"


def test_a_call_of_a_prompt_whose_tools_are_not_given_is_not_checked(model: Any, says: Any) -> None:
    says(f"{CALL}<|tool_response>")
    prompt = model.render(QUESTION, tools=[weather])

    def errors(*arguments: Any, **options: Any) -> list[str | None]:
        return [call.error for call in model.generate(*arguments, **options).tool_calls]

    assert errors(prompt) == [None]
    assert errors(prompt.token_ids) == [None]
    assert errors(prompt, tools=[weather]) == [None]
    assert errors(prompt, tools=[{"name": "rain"}]) == [
        "unknown tool 'weather', expected one of: rain"
    ]
    assert errors(QUESTION) == ["unknown tool 'weather', expected none"]


def test_parse_checks_against_the_tools_it_is_given(model: Any) -> None:
    ids = model.encode("<|tool_call>call:weather{city:3}<tool_call|><|tool_response>", special=True)

    assert model.parse(ids).tool_calls[0].error is None
    assert model.parse(ids, tools=[weather]).tool_calls[0].error == (
        'city: 3 is not of type "string"'
    )


def test_one_call_ends_the_answer_where_calls_are_not_parallel(model: Any, says: Any) -> None:
    says(f"{CALL}{CALL}<|tool_response>")

    both = model.generate(QUESTION, tools=[weather])
    one = model.generate(QUESTION, tools=[weather], parallel_tool_calls=False)

    assert len(both.tool_calls) == 2
    assert len(one.tool_calls) == 1
    assert one.tool_calls[0].error is None
    assert one.finish_reason == both.finish_reason == "tool_calls"
    assert one.token_ids.tolist() == both.token_ids.tolist()[: one.token_ids.size]


@pytest.fixture
def eager(load: Any, demo_folder: Path, tmp_path: Path) -> Any:
    """The model without the bans that keep the demo from writing control tokens."""
    for path in demo_folder.iterdir():
        if path.name != "generation_config.json":
            (tmp_path / path.name).symlink_to(path)
    config = json.loads((demo_folder / "generation_config.json").read_text())
    del config["suppress_tokens"]
    (tmp_path / "generation_config.json").write_text(json.dumps(config))
    return load(tmp_path)


@pytest.mark.parametrize("temperature", [0, 1])
def test_no_call_is_written_where_none_is_allowed(eager: Any, temperature: float) -> None:
    model = eager
    opening = int(model.encode("<|tool_call>", special=True)[0])
    options = {"tools": [weather], "temperature": temperature, "seed": 3, "max_tokens": 20,
               "strict_tools": False, "ignore_stops": True,
               "logit_bias": {opening: 1000.0}}  # fmt: skip

    free = model.generate(QUESTION, **options)
    bound = model.generate(QUESTION, tool_choice="none", **options)

    assert free.token_ids.tolist() == [opening] * 20
    assert opening not in bound.token_ids.tolist()
    # Still declared: the prompt, and with it the cache of a conversation, stays what it was.
    assert bound.prompt_token_ids.tolist() == free.prompt_token_ids.tolist()


def test_the_example_of_the_interface_runs(model: Any, says: Any) -> None:
    says(f"{CALL}<|tool_response>")
    messages = [*QUESTION]

    r = model.generate(messages, tools=[weather], temperature=0)
    call = r.tool_calls[0]
    messages += [r.to_message(), {"role": "tool", "tool_call_id": call.id,
                                  "content": weather(**call.arguments)}]  # fmt: skip

    assert model.render(messages, tools=[weather]).text.endswith(
        f"{CALL}<|tool_response>response:weather{{sky:{Q}clear{Q},temp:15}}<tool_response|>"
    )


# --- bound ---------------------------------------------------------------------------------------

# A random model seldom ends anything: what does is pushed.
CLOSING = {Q: 6.0, "}": 6.0, "<tool_call|>": 12.0, "<|tool_response>": 12.0, "<turn|>": 9.0}


@pytest.fixture
def pushed(eager: Any) -> dict[str, Any]:
    bias = {int(eager.encode(text, special=True)[0]): value for text, value in CLOSING.items()}
    return {"logit_bias": bias, "max_tokens": 200}


def rain(days: int, places: list[str] | None = None) -> str:
    """Rain to come."""
    return "none"


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize("thinking", [{}, {"thinking": True, "thinking_budget": 9}], ids=str)
@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("choice", ["required", "weather", named("rain")], ids=str)
def test_an_answer_that_has_to_call_is_valid_calls_and_nothing_else(
    eager: Any, pushed: dict[str, Any], choice: Any, temperature: float, thinking: dict[str, Any]
) -> None:
    names = set()
    for seed in range(4):
        result = eager.generate(
            QUESTION, tools=[weather, rain], tool_choice=choice, temperature=temperature,
            seed=seed, **pushed, **thinking,
        )  # fmt: skip

        assert result.text == ""
        assert result.tool_calls
        assert [call.error for call in result.tool_calls] == [None] * len(result.tool_calls)
        assert result.finish_reason == "tool_calls"
        assert result.settings["strict_tools"] is True
        assert result.usage.forced_tokens > len("call:r")
        names |= {call.name for call in result.tool_calls}
    expected = {"required": {"weather", "rain"}, "weather": {"weather"}}
    assert names <= expected.get(str(choice), {"rain"})


@pytest.mark.parametrize("thinking", [{}, {"thinking": True}], ids=str)
def test_where_the_model_decides_its_calls_are_valid_too(
    eager: Any, pushed: dict[str, Any], thinking: dict[str, Any]
) -> None:
    opening = int(eager.encode("<|tool_call>", special=True)[0])
    pushed["logit_bias"] |= {opening: 16.0}
    counts = {True: 0, False: 0}
    for seed in range(6):
        for strict in (True, None):
            result = eager.generate(
                QUESTION,
                tools=[weather, rain],
                seed=seed,
                strict_tools=strict,
                **pushed,
                **thinking,
            )

            whole = result.tool_calls[: -1 if result.cut_in == "tool_call" else None]
            assert [call.error for call in whole] == [None] * len(whole)
            assert result.settings["strict_tools"] is True
            counts[bool(whole)] += 1
    assert counts[True] > 6


def test_a_stream_a_list_and_a_single_answer_of_bound_calls_are_the_same(
    eager: Any, pushed: dict[str, Any]
) -> None:
    options = {"tools": [weather, rain], "tool_choice": "required", **pushed}
    prompts = ["Rain?", "And in Rome, for how many days?", "x"]

    together = eager.generate(prompts, seed=[1, 2, 3], **options)
    *events, done = eager.stream(prompts[1], seed=2, **options)

    for prompt, seed, result in zip(prompts, (1, 2, 3), together, strict=True):
        alone = eager.generate(prompt, seed=seed, **options)
        assert alone.token_ids.tolist() == result.token_ids.tolist()
        assert alone.tool_calls == result.tool_calls
    assert done.result.token_ids.tolist() == together[1].token_ids.tolist()
    assert [event.tool_call for event in events] == list(together[1].tool_calls)


def test_one_bound_call_ends_the_answer_where_calls_are_not_parallel(
    eager: Any, pushed: dict[str, Any]
) -> None:
    opening = int(eager.encode("<|tool_call>", special=True)[0])
    pushed["logit_bias"] |= {opening: 100.0}  # again and again

    options = {"tools": [rain], "tool_choice": "required", "temperature": 0, **pushed}
    one = eager.generate(QUESTION, parallel_tool_calls=False, **options)
    many = eager.generate(QUESTION, **options)

    assert len(one.tool_calls) == 1
    assert (one.finish_reason, one.tool_calls[0].error) == ("tool_calls", None)
    assert len(many.tool_calls) > 1
    assert many.finish_reason == "length"
    # Nor is another one begun where no stop ends it.
    options["logit_bias"] |= {int(eager.encode("<|tool_response>", special=True)[0]): -math.inf}
    on = eager.generate(QUESTION, parallel_tool_calls=False, ignore_stops=True, **options)
    assert on.token_ids.tolist().count(opening) == 1
    assert on.finish_reason == "length"


def test_a_bound_call_that_is_cut_says_so(eager: Any) -> None:
    result = eager.generate(QUESTION, tools=[weather], tool_choice="required", max_tokens=9)

    assert (result.finish_reason, result.cut_in) == ("length", "tool_call")
    assert result.tool_calls[0].error is not None


def test_a_turn_is_valid_calls_or_the_structure(eager: Any, pushed: dict[str, Any]) -> None:
    opening = int(eager.encode("<|tool_call>", special=True)[0])
    seen = set()
    for seed, push in enumerate([0.0, 0.0, 100.0, 100.0]):
        pushed["logit_bias"] |= {opening: push}
        result = eager.generate(
            QUESTION, tools=[rain], choices=["dry", "wet"], seed=seed, parallel_tool_calls=False,
            **pushed,
        )  # fmt: skip
        seen.add(result.finish_reason)
        if result.finish_reason == "tool_calls":
            assert (result.text, result.parsed, result.tool_calls[0].error) == ("", None, None)
        else:
            assert result.parsed == result.text
            assert result.parsed in ("dry", "wet")
    assert seen == {"stop", "tool_calls"}


ODD = {"name": "odd", "parameters": {"type": "object", "properties": {"a:b": {"type": "string"}}}}


def test_what_no_call_can_be_bound_by_is_an_error_where_it_was_asked_for_and_else_a_warning(
    eager: Any,
) -> None:
    named_property = r"tool odd: parameters\.a:b: found the name 'a:b', expected one without : = ,"
    for asked in ({"strict_tools": True}, {"tool_choice": "required"}, {"tool_choice": "odd"}):
        with pytest.raises(ConstraintError, match=named_property):
            eager.generate(QUESTION, tools=[ODD], **asked)

    with pytest.warns(CabochonWarning, match=f"calls are checked, and not bound: {named_property}"):
        result = eager.generate(QUESTION, tools=[ODD], max_tokens=1)
    assert result.settings["strict_tools"] is False
    # A tool that must not be called, or that another is chosen over, need not be bound.
    eager.generate(QUESTION, tools=[ODD], tool_choice="none", strict_tools=True, max_tokens=1)
    eager.generate(QUESTION, tools=[ODD, weather], tool_choice="weather", max_tokens=1)


def test_without_the_package_calls_are_checked_unless_they_have_to_be_bound(
    eager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)

    result = eager.generate(QUESTION, tools=[weather], max_tokens=1)

    assert result.settings["strict_tools"] is False
    for asked in ({"strict_tools": True}, {"tool_choice": "required"}, {"tool_choice": "weather"}):
        with pytest.raises(MissingExtra, match=r"cabochon\[constrain\]"):
            eager.generate(QUESTION, tools=[weather], **asked)


def test_a_model_without_the_tokens_of_calls_cannot_have_to_call(load: Any, tmp_path: Path) -> None:
    model = load(tiny.write(tmp_path / "tiny", "kv_equal"))

    for option, value in (("tool_choice", "required"), ("strict_tools", True)):
        with pytest.raises(Unsupported, match=rf"generate: {option}.* has no <\|tool_call>"):
            model.generate([2, 3], tools=[weather], **{option: value})


def test_when_a_checkpoint_bans_calls_none_can_be_required(model: Any) -> None:
    with pytest.raises(ConstraintError, match="the constraint allows 1 token"):
        model.generate(QUESTION, tools=[weather], tool_choice="required")


# --- conversations with bound calls --------------------------------------------------------------


def test_in_a_chat_a_call_is_required_of_the_answer_to_the_user_and_not_after_it(
    eager: Any, pushed: dict[str, Any]
) -> None:
    ran: list[dict[str, Any]] = []

    def weather(city: str) -> str:
        """Weather of a city."""
        ran.append({"city": city})
        return "sun"

    chat = eager.chat(tools=[weather], tool_choice="required", seed=1, **pushed)
    for turn in (1, 2):
        begin, done = len(chat.messages), len(ran)

        result = chat.send("Weather?")

        roles = [message["role"] for message in chat.messages[begin:]]
        assert roles[:3] == ["user", "assistant", "tool"], turn
        assert len(ran) - done == roles.count("tool")
        assert result.settings["tool_choice"] == "auto"
        assert result.settings["strict_tools"] is True
        first = chat.messages[begin + 1]
        assert first["tool_calls"]
        assert not first["content"]


def test_results_that_are_sent_by_hand_may_be_answered_without_another_call(
    eager: Any, pushed: dict[str, Any]
) -> None:
    chat = eager.chat(
        tools=[weather], run_tools=False, tool_choice="weather", seed=1, parallel_tool_calls=False,
        **pushed,
    )  # fmt: skip
    (call,) = chat.send("Weather?").tool_calls

    result = chat.send([{"role": "tool", "tool_call_id": call.id, "content": "sun"}])

    assert result.settings["tool_choice"] == "auto"
    assert chat.send("And now?").settings["tool_choice"] == named("weather")


@pytest.mark.parametrize("rounds", [0, 1])
def test_required_calls_end_at_the_limit_of_rounds(
    eager: Any, pushed: dict[str, Any], rounds: int
) -> None:
    opening = int(eager.encode("<|tool_call>", special=True)[0])
    pushed["logit_bias"] |= {opening: 100.0}
    chat = eager.chat(
        tools=[rain], tool_choice="required", parallel_tool_calls=False, max_tool_rounds=rounds,
        seed=1, **pushed,
    )  # fmt: skip

    result = chat.send("Rain?")

    assert result.finish_reason == "tool_calls"
    assert [m["role"] for m in chat.messages] == ["user", *["assistant", "tool"] * rounds,
                                                  "assistant"]  # fmt: skip


def test_coroutine_functions_are_refused_before_a_chat_begins(model: Any) -> None:
    async def weather(city: str) -> str:
        """Weather of a city."""
        return city

    with pytest.raises(Unsupported, match="tool weather: found a coroutine function"):
        model.chat(tools=[weather])
    chat = model.chat()
    with pytest.raises(Unsupported, match="tool weather: found a coroutine function"):
        chat.send("Weather?", tools=[weather])
    assert chat.messages == []
    assert (
        model.chat(tools=[weather], run_tools=False, max_tokens=1).send("Weather?").token_ids.size
    )
    assert model.generate(QUESTION, tools=[weather], max_tokens=1).token_ids.size


# --- the command line ----------------------------------------------------------------------------


def test_the_functions_of_a_file_are_declared_and_their_calls_shown(
    demo_folder: Path, tmp_path: Path, says: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def weather(city: str) -> str:\n    'Weather.'\n    raise SystemExit(9)\n")
    says(f"{CALL}<|tool_response>")

    code = cli.main(["generate", str(demo_folder), "Hi", "--tools", str(path), "--json"])

    result = json.loads(capsys.readouterr().out)
    assert code == 0
    assert result["tool_calls"][0]["arguments"] == {"city": "Paris"}
    assert result["settings"]["tools"][0]["function"]["description"] == "Weather."
    assert cli.main(["generate", str(demo_folder), "Hi", "--tools", "none.py"]) == 2
    assert "none.py, expected a Python file" in capsys.readouterr().err


def test_a_call_is_no_part_of_the_answer_on_stdout(
    demo_folder: Path, tmp_path: Path, says: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def weather(city: str) -> str:\n    return city\n")
    says(f"Let me see.{CALL}<|tool_response>")

    assert cli.main(["generate", str(demo_folder), "Hi", "--tools", str(path)]) == 0

    out, err = capsys.readouterr()
    assert out == "Let me see.\n"
    assert "Paris" in err


def test_no_name_of_ours_is_public_for_tools() -> None:
    assert "Tool" not in cabochon.__all__
