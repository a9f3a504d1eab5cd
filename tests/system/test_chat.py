"""Conversations: what is computed again, that it changes no bit, tools, files.

The demo's weights are random, so where words matter they are put into its mouth: `says`.
"""

from __future__ import annotations

import copy
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cabochon
import tiny
from cabochon import _core
from cabochon.errors import CheckpointError, DeviceError, InvalidArgument, TemplateError
from cabochon.scheduler.pages import PagePool
from cabochon.scheduler.scheduler import Scheduler
from cabochon.types import Usage

Q = '<|"|>'
LONG = "Tell me all that you know about rivers, lakes and the sea. " * 6
FREE = {"max_tokens": 20, "temperature": 0.7, "seed": 3, "logprobs": True}


class Counted:
    """An engine that counts the rows it computes."""

    def __init__(self, engine: Any) -> None:
        self._engine, self.rows = engine, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def step(self, **arguments: Any) -> Any:
        result = self._engine.step(**arguments)
        self.rows += arguments["tokens"].size
        return result


def counted(model: Any) -> Counted:
    model._loop._engine = Counted(model._loop._engine)
    return model._loop._engine  # type: ignore[no-any-return]


def same(one: Any, other: Any) -> None:
    """The same answer, bit for bit."""
    assert one.token_ids.tolist() == other.token_ids.tolist()
    assert one.logprobs.tobytes() == other.logprobs.tobytes()


def cold(model: Any, messages: Any, **options: Any) -> Any:
    """The answer of a model that computes all of it."""
    cache = model._scheduler.cache
    cache.is_reusing = False
    try:
        result = model.generate(messages, **{**FREE, **options})
    finally:
        cache.is_reusing = True
    assert result.usage.cached_tokens == 0
    return result


# --- what is computed again ----------------------------------------------------------------------


@pytest.mark.parametrize("kv", ["bf16", "int8", "f32"])
def test_a_turn_computes_what_its_prompt_does_not_share_and_no_bit_differs(
    load: Any, kv: str
) -> None:
    model = load(kv=kv)
    chat = model.chat(system="You are terse.", **FREE)
    engine = counted(model)
    for content in ("Hello", LONG, "And then?", LONG, "Bye"):
        before, rows = chat.messages, engine.rows

        result = chat.send(content)

        usage = result.usage
        assert engine.rows - rows == (
            usage.prompt_tokens - usage.cached_tokens + usage.output_tokens - 1
        )
        same(result, cold(model, [*before, {"role": "user", "content": content}]))
    assert chat.tokens > 8 * 64  # the window slid many times
    shared = next(
        n
        for n, (a, b) in enumerate(zip(chat._past.ids, result.prompt_token_ids, strict=False))
        if a != b or n == usage.cached_tokens
    )
    assert usage.cached_tokens == shared > 400


THOUGHT = "<|channel>thought\n" + "I think so. " * 60 + "<channel|>Yes.<turn|>"
THINKING = {**FREE, "thinking": True, "max_tokens": 700}


def test_after_thoughts_are_dropped_the_next_turn_begins_where_the_answer_departs(
    model: Any, says: Callable[..., None]
) -> None:
    assert model.encode(THOUGHT, special=True).size > 6 * 64  # more than a ring goes back
    chat = model.chat(**THINKING)
    says(THOUGHT)
    first = chat.send(LONG)
    assert first.thinking is not None
    says()

    second = chat.send("Why?", max_tokens=20)

    same(second, cold(model, chat.messages[:-1], thinking=True))
    assert first.usage.prompt_tokens - 2 <= second.usage.cached_tokens
    assert second.usage.cached_tokens < first.usage.prompt_tokens + 8


def test_after_a_load_thoughts_that_are_dropped_cost_one_turn_from_the_start_and_no_bit(
    load: Any, model: Any, says: Callable[..., None], tmp_path: Path
) -> None:
    chat = model.chat(**THINKING)
    says(THOUGHT, "<|channel>thought\nHm.<channel|>So.<turn|>")
    chat.send(LONG)
    chat.save(tmp_path / "talk")
    other = load()  # where nobody has said any of it
    loaded = cabochon.Chat.load(tmp_path / "talk", other)

    second = loaded.send("Why?")
    says()
    third = loaded.send("And?", max_tokens=20)

    assert second.usage.cached_tokens == 0  # the file has no ring of the prompt's end
    same(third, cold(other, loaded.messages[:-1], thinking=True))
    assert third.usage.cached_tokens >= second.usage.prompt_tokens - 2


@pytest.mark.parametrize("name", ["e_type", "e_type_4to1", "kv_equal"])
@pytest.mark.parametrize("kv", ["f32", "int8"])
def test_every_kind_of_layer_goes_on_from_a_past_without_a_bit_of_difference(
    load: Any, tmp_path: Path, name: str, kv: str
) -> None:
    model = load(tiny.write(tmp_path / "tiny", name), kv=kv, context=1024)
    random = np.random.default_rng(5)
    options = {**FREE, "max_tokens": 30, "ignore_stops": True, "seed": 2}
    ids = [2]
    # How far back each prompt departs from the ids so far, and how many are new.
    for back, new in [(0, 150), (0, 70), (31, 3), (100, 90), (29, 1), (0, 200), (400, 65)]:
        ids = [*ids[: len(ids) - back], *random.integers(3, 260, new).tolist()]
        generation = model._turn(ids, options)
        result = list(model._events([generation], "raise", False))[-1].result
        same(result, cold(model, ids, **options))
        ids += result.token_ids.tolist()
        assert result.usage.cached_tokens in (0, *range(1, result.usage.prompt_tokens))
    # 400 back is behind its ring: from the past of an earlier answer.
    assert result.usage.cached_tokens == result.usage.prompt_tokens - 65


def test_a_fork_shares_the_past_and_each_goes_its_own_way(model: Any) -> None:
    chat = model.chat(**FREE)
    chat.send(LONG)
    other = chat.fork()

    left, right = chat.send("Left?"), other.send("Right?")

    assert left.usage.cached_tokens > 250
    assert right.usage.cached_tokens > 250
    same(left, cold(model, chat.messages[:-1]))
    same(right, cold(model, other.messages[:-1]))
    assert chat.messages[:2] == other.messages[:2]
    assert chat.messages[2:] != other.messages[2:]


def test_a_fork_talks_while_the_other_is_in_a_turn(model: Any) -> None:
    chat = model.chat(**FREE)
    chat.send(LONG)
    other = chat.fork()
    stream = chat.stream("Left?", ignore_stops=True)
    next(stream)

    same(other.send("Right?"), cold(model, other.messages[:-1]))

    same(list(stream)[-1].result, cold(model, chat.messages[:-1], ignore_stops=True))


def test_undo_forgets_turns_and_the_next_one_is_as_if_they_had_not_been(model: Any) -> None:
    chat = model.chat(system="Be brief.", **FREE)
    chat.send(LONG)
    kept = chat.messages
    chat.send("Second")
    chat.send("Third")

    chat.undo(2)

    assert chat.messages == kept
    result = chat.send("Other")
    assert result.usage.cached_tokens > 300
    same(result, cold(model, chat.messages[:-1]))
    chat.undo(2)
    assert [message["role"] for message in chat.messages] == ["system"]
    with pytest.raises(InvalidArgument, match="at most 0"):
        chat.undo()


def test_conversations_that_take_each_others_pages_answer_the_same(load: Any) -> None:
    model = load(context=1024, max_sequences=1)
    chats = [model.chat(**FREE) for _ in range(3)]
    cached = []
    for turn in range(3):
        for index, chat in enumerate(chats):
            result = chat.send(f"{index} {turn} {LONG}"[:200])
            cached.append(result.usage.cached_tokens)
            same(result, cold(model, chat.messages[:-1]))

    assert max(cached) < 8  # the pages of one are all there are, and each check needs them
    assert chats[0].send("alone").usage.cached_tokens < 8
    assert chats[0].send("alone").usage.cached_tokens > 100


def test_a_model_of_one_sequence_keeps_the_ring_of_a_prompts_end(load: Any) -> None:
    model = load(max_sequences=1, context=2048)
    ids = [2, *range(30, 60)] * 5
    for _ in range(2):
        options = {"max_tokens": 500, "ignore_stops": True, "seed": 1}
        generation = model._turn(ids, options)
        for _event in model._events([generation], "raise", False):
            pass
        ids = [*ids, 7, 8, 9]  # the answer is dropped

    scheduler = model._scheduler
    assert generation.sequence.cached == 155
    assert scheduler.cache.counts[1] == scheduler.shape.ring_pages + 3
    assert model.plan.measured["kv"] == model.plan.kv_bytes


def test_threads_talk_to_one_model_at_the_same_time(load: Any) -> None:
    model = load(context=2048, max_sequences=2)
    results: dict[int, list[Any]] = {}

    def talk(index: int) -> None:
        chat = model.chat(**FREE)
        results[index] = [chat.send(f"{index}.{turn} {LONG}"[:250]) for turn in range(4)]
        results[index].append(chat.messages)

    threads = [threading.Thread(target=talk, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for index in range(4):
        *answers, messages = results[index]
        for turn, answer in enumerate(answers):
            same(answer, cold(model, messages[: 2 * turn + 1]))


# --- a conversation that nobody refers to any more -----------------------------------------------


def held(model: Any) -> int:
    """How often pasts are held by conversations, once a step has been."""
    model.generate([5, 6, 7], max_tokens=1)
    return sum(past.holders for past in model._scheduler.cache.pasts)


def test_what_a_conversation_held_is_nobodys_before_the_next_step_once_it_is_gone(
    model: Any,
) -> None:
    chat = model.chat(**FREE)
    chat.send(LONG)
    other = chat.fork()
    assert held(model) == 2

    del chat
    assert held(model) == 1  # the fork goes on from it
    assert other.send("And?").usage.cached_tokens > 250
    del other

    assert held(model) == 0


def test_a_past_that_a_turn_did_not_go_on_from_is_held_no_more(model: Any) -> None:
    chat = model.chat(**FREE)
    chat.send(LONG * 3)
    chat.undo()
    chat.send("Else")

    assert held(model) == 1
    del chat
    assert held(model) == 0


def test_a_conversation_that_goes_with_its_open_stream_leaves_nothing(model: Any) -> None:
    chat = model.chat(**FREE)
    chat.send("Hi")
    stream = chat.stream(LONG, ignore_stops=True)
    next(stream)

    del chat
    assert model._scheduler.unfinished != []  # the stream keeps it
    del stream

    assert model._scheduler.unfinished == []
    assert held(model) == 0


def test_a_conversation_that_is_collected_inside_of_a_step_is_forgotten_by_the_next(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave_in_a_cycle() -> None:
        chat = model.chat(**FREE)
        chat.send("Hi")
        chat.itself = chat

    living = model.chat(**FREE)
    living.send(LONG)
    gc.collect()
    gc.disable()  # but where this test asks for it
    collected = []
    # Each is called by the loop with its lock held, in the midst of a change.
    for owner, name in [(PagePool, "allocate"), (PagePool, "free"), (Scheduler, "forget")]:
        leave_in_a_cycle()
        real = getattr(owner, name)

        def collecting(*arguments: Any, real: Any = real, name: str = name, **more: Any) -> Any:
            if gc.collect() > 0:
                collected.append(name)
            return real(*arguments, **more)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, collecting)
            living.send("Go on.")
    gc.enable()

    assert collected == ["allocate", "free", "forget"]
    same(living.send("And?"), cold(model, living.messages[:-1]))
    del living
    assert held(model) == 0


def test_a_conversation_that_goes_waits_for_no_lock(model: Any) -> None:
    chat = model.chat(**FREE)
    chat.send("Hi")
    held, gone = threading.Event(), threading.Event()
    was_in_time = []

    def hold() -> None:
        with model._loop._changed:
            held.set()
            was_in_time.append(gone.wait(timeout=5))

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    del chat
    gone.set()
    thread.join()

    assert was_in_time == [True]


def test_what_a_cancelled_answer_leaves_too_late_is_forgotten(model: Any) -> None:
    chat = model.chat(**FREE)
    chat.send("Hi")
    stream = chat.stream(LONG, ignore_stops=True)
    next(stream)
    model._loop._driver = -1  # as if another thread were in a step of it
    stream.close()
    model._loop._driver = None
    assert model._scheduler.unfinished != []

    same(chat.send("Hi"), cold(model, chat.messages[:-1]))

    del chat, stream
    assert held(model) == 0


def test_a_fork_that_fails_leaves_the_conversation_its_past(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = model.chat(**FREE)
    chat.send(LONG)
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(copy, "deepcopy", lambda _: exec("raise MemoryError"))
        chat.fork()

    assert held(model) == 1


def test_conversations_end_on_other_threads_while_one_runs(load: Any) -> None:
    model = load(context=2048, max_sequences=3)

    def talk(index: int) -> None:
        for turn in range(3):
            chat = model.chat(**FREE)
            chat.send(f"{index}.{turn}")
            stream = chat.stream(LONG, ignore_stops=True)
            next(stream)
            stream.close()  # maybe in a step of another thread
            if turn == 1:
                chat.send("again")

    threads = [threading.Thread(target=talk, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert held(model) == 0


def test_a_conversation_that_is_open_at_the_end_of_the_interpreter_says_nothing(
    demo_folder: Path,
) -> None:
    code = f"""
import cabochon
model = cabochon.load({str(demo_folder)!r})
chat = model.chat(max_tokens=5)
chat.send("Hi")
stream = chat.fork().stream("Hi")
next(stream)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- a turn --------------------------------------------------------------------------------------


def test_fields_say_what_was_said_and_what_it_took(model: Any) -> None:
    chat = model.chat(system="S", messages=[{"role": "user", "content": "u"},
                                            {"role": "assistant", "content": "a"}])  # fmt: skip
    assert chat.usage == Usage(prompt_tokens=0, output_tokens=0, answer_tokens=0, control_tokens=0)
    one = chat.send("Hi", max_tokens=5)
    two = chat.send([{"type": "text", "text": "again"}], max_tokens=7)

    roles = [message["role"] for message in chat.messages]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user", "assistant"]
    assert chat.usage.output_tokens == one.usage.output_tokens + two.usage.output_tokens
    assert chat.usage.prompt_tokens == one.usage.prompt_tokens + two.usage.prompt_tokens
    assert chat.tokens == model.render(chat.messages, add_generation_prompt=False).token_ids.size
    assert chat.context_left == model.context - chat.tokens
    chat.messages.clear()
    assert len(chat.messages) == 7
    assert "7 messages" in repr(chat)


def test_what_callers_change_afterwards_changes_no_conversation(model: Any) -> None:
    before = [{"role": "user", "content": [{"type": "text", "text": "u"}]},
              {"role": "assistant", "content": "a"}]  # fmt: skip
    content = [{"type": "text", "text": "Hi"}]
    chat = model.chat(messages=before, **FREE)
    chat.send(content)
    kept = chat.messages

    before[0]["content"][0]["text"] = content[0]["text"] = "else"
    chat.messages[0]["content"][0]["text"] = "else"

    assert chat.messages == kept
    assert [kept[0]["content"], kept[2]["content"]] == [
        [{"type": "text", "text": "u"}], [{"type": "text", "text": "Hi"}],
    ]  # fmt: skip


def test_either_name_of_max_tokens_takes_the_place_of_the_other(model: Any) -> None:
    chat = model.chat(max_new_tokens=9, ignore_stops=True)

    assert chat.send("Hi", max_tokens=3).usage.output_tokens == 3
    assert chat.send("Hi").usage.output_tokens == 9


def test_stream_gives_the_events_of_send(model: Any) -> None:
    one, two = model.chat(**FREE), model.chat(**FREE)

    events = list(one.stream("Hi"))

    assert [event.kind for event in events].count("done") == 1
    assert "".join(event.text for event in events) == two.send("Hi").text == events[-1].result.text
    assert one.messages == two.messages


def test_a_stream_that_is_closed_undoes_its_turn_and_the_next_is_right(model: Any) -> None:
    chat = model.chat(**FREE)
    chat.send("Hi")
    kept = chat.messages
    stream = chat.stream(LONG, ignore_stops=True)
    next(stream)
    stream.close()

    assert chat.messages == kept
    result = chat.send(LONG)
    assert result.usage.cached_tokens == result.usage.prompt_tokens - 1  # it was computed
    same(result, cold(model, chat.messages[:-1]))


def test_a_closed_stream_after_done_keeps_its_turn(model: Any) -> None:
    chat = model.chat(**FREE)
    stream = chat.stream("Hi")
    while next(stream).kind != "done":
        pass
    stream.close()

    assert len(chat.messages) == 2


def test_one_turn_at_a_time_and_a_stream_that_never_began_is_none(model: Any) -> None:
    chat = model.chat(**FREE)
    never = chat.stream("never")
    stream = chat.stream("Hi", ignore_stops=True)
    next(stream)
    for use in (lambda: chat.send("x"), chat.fork, chat.undo, lambda: chat.save("x")):
        with pytest.raises(InvalidArgument, match="in a turn"):
            use()
    with pytest.raises(InvalidArgument, match="in a turn"):
        next(never)
    stream.close()
    assert chat.send("x").usage.output_tokens > 0


@pytest.mark.parametrize(
    ("use", "error", "says"),
    [
        (lambda m: m.chat(colour=1), InvalidArgument, "colour"),
        (lambda m: m.chat(raw=True), InvalidArgument, "raw"),
        (lambda m: m.chat(continue_final=True), InvalidArgument, "continue_final"),
        (lambda m: m.chat(temperature=-1), InvalidArgument, "temperature"),
        (lambda m: m.chat(max_tool_rounds=-1), InvalidArgument, "max_tool_rounds"),
        (lambda m: m.chat(run_tools=1), InvalidArgument, "run_tools"),
        (lambda m: m.chat(system=3), InvalidArgument, "system"),
        (lambda m: m.chat(messages="Hi"), InvalidArgument, "messages"),
        (lambda m: m.chat(messages=[3]), InvalidArgument, r"messages\[0\]"),
        (lambda m: m.chat(messages=[{"role": "x"}]), InvalidArgument, r"messages\[0\].role"),
        (lambda m: m.chat(system="a", messages=[{"role": "system", "content": "b"}]),
         InvalidArgument, "begins with one"),
        (lambda m: m.chat().send(3), InvalidArgument, "content"),
        (lambda m: m.chat().send([]), InvalidArgument, "content"),
        (lambda m: m.chat().send([{"role": "user", "content": "a"}, {"type": "text"}]),
         InvalidArgument, "content"),
        (lambda m: m.chat().send("a", min_q=1), InvalidArgument, "min_q"),
        (lambda m: m.chat().stream("a", top_p=7), InvalidArgument, "top_p"),
        (lambda m: m.chat().stream([{"type": "text"}]), InvalidArgument, r"content\[0\]"),
        (lambda m: m.chat().undo(0), InvalidArgument, "turns"),
    ],
)  # fmt: skip
def test_what_is_no_conversation_is_refused_and_named(
    model: Any, use: Callable[[Any], Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        use(model)


def test_a_turn_that_fails_leaves_no_trace(model: Any) -> None:
    chat = model.chat(**FREE)
    chat.send("Hi")
    kept = chat.messages

    with pytest.raises(cabochon.errors.ContextOverflow):
        chat.send("word " * 9000)
    ban_all = dict.fromkeys(range(model.vocab_size), float("-inf"))
    with pytest.raises(InvalidArgument, match="every token is banned"):
        chat.send("no", logit_bias=ban_all)
    result = chat.send("no", logit_bias=ban_all, on_error="return")

    assert result.finish_reason == "error"
    assert chat.messages == kept
    same(chat.send("Hi"), cold(model, chat.messages[:-1]))


def test_a_base_model_has_no_conversations_with_a_system_message(
    load: Any, base_folder: Path
) -> None:
    model = load(base_folder)
    with pytest.raises(TemplateError, match="base model"):
        model.chat(messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(TemplateError, match="base model"):
        model.chat().send("Hi")


# --- tools ---------------------------------------------------------------------------------------


def call(name: str, city: str) -> str:
    return f"<|tool_call>call:{name}{{city:{Q}{city}{Q}}}<tool_call|>"


ASKED: list[str] = []


def weather(city: str) -> dict[str, Any]:
    """Weather of a city. Args: city: its name."""
    ASKED.append(city)
    if city == "Atlantis":
        raise LookupError("it sank")
    return {"sky": "clear"}


@pytest.fixture(autouse=True)
def nothing_asked() -> None:
    ASKED.clear()


def test_functions_are_called_and_the_model_goes_on_with_their_results(
    model: Any, says: Callable[..., None]
) -> None:
    says(
        f"Let me see. {call('weather', 'Paris')}{call('weather', 'Rome')}<|tool_response>",
        f"{call('weather', 'Atlantis')}<|tool_response>",
        "Fine.<turn|>",
    )
    chat = model.chat(tools=[weather], **{**FREE, "max_tokens": 200})

    events = list(chat.stream("Weather?"))

    assert ASKED == ["Paris", "Rome", "Atlantis"]
    results = [event for event in events if event.kind == "tool_result"]
    assert [event.tool_call.arguments["city"] for event in results] == ["Paris", "Rome", "Atlantis"]
    assert json.loads(results[0].text) == {"sky": "clear"}
    assert results[2].text == "Error: LookupError: it sank"
    assert events[-1].result.text == "Fine."
    roles = [message["role"] for message in chat.messages]
    assert roles == ["user", "assistant", "tool", "tool", "assistant", "tool", "assistant"]
    ids = [message.get("tool_call_id") for message in chat.messages if message["role"] == "tool"]
    calls = [one["id"] for m in chat.messages for one in m.get("tool_calls", ())]
    assert ids == calls
    assert len(set(ids)) == 3
    assert chat.usage.output_tokens > events[-1].result.usage.output_tokens
    prompt = model.render(chat.messages[:-1], tools=[weather]).token_ids.tolist()
    assert events[-1].result.prompt_token_ids.tolist() == prompt
    assert events[-1].result.usage.cached_tokens > 0


def test_events_of_a_turn_with_tools_are_those_of_all_its_answers_one_after_the_other(
    model: Any, says: Callable[..., None]
) -> None:
    def thought(text: str) -> str:
        return f"<|channel>thought\n{text}\n<channel|>"

    says(
        f"{thought('One.')}Let me see. {thought('Two.')}{call('weather', 'Paris')}"
        f"{call('weather', 'Rome')}<|tool_response>",
        f"{thought('Three.')}And. {call('weather', 'Oslo')}<|tool_response>",
        f"{thought(' ')}Fine.<turn|>",
    )
    chat = model.chat(tools=[weather], thinking=True, **{**FREE, "max_tokens": 200})

    events = list(chat.stream("Weather?"))

    def joined(kind: str) -> str:
        return "".join(event.text for event in events if event.kind == kind)

    answers = [message for message in chat.messages if message["role"] == "assistant"]
    assert len(answers) == 3
    assert joined("text") == "".join(message["content"] for message in answers)
    thoughts = [message.get("reasoning_content") for message in answers]
    assert joined("thinking") == "".join(text or "" for text in thoughts)
    calls = [event.tool_call.id for event in events if event.kind == "tool_call"]
    assert calls == [one["id"] for message in answers for one in message.get("tool_calls", ())]
    assert len(set(calls)) == 3
    assert events[-1].result.to_message() == answers[-1]


def test_a_wrong_call_goes_back_to_the_model_as_its_result(
    model: Any, says: Callable[..., None]
) -> None:
    says(
        f"{call('whether', 'Paris')}<|tool_response>",
        f"<|tool_call>call:weather{{town:{Q}Rome{Q}}}<tool_call|><|tool_response>",
        "Sorry.<turn|>",
    )
    chat = model.chat(tools=[weather], **{**FREE, "max_tokens": 200})

    chat.send("Weather?")

    told = [message["content"] for message in chat.messages if message["role"] == "tool"]
    assert "unknown tool 'whether'" in told[0]
    assert "town" in told[1]
    assert ASKED == []


def test_after_so_many_rounds_the_calls_are_left_open(
    model: Any, says: Callable[..., None]
) -> None:
    says(*[f"{call('weather', 'Paris')}<|tool_response>"] * 3)
    chat = model.chat(tools=[weather], max_tool_rounds=2, **{**FREE, "max_tokens": 200})

    result = chat.send("Weather?")

    assert ASKED == ["Paris", "Paris"]
    assert result.finish_reason == "tool_calls"
    assert chat.messages[-1]["tool_calls"][0]["id"] == result.tool_calls[0].id


@pytest.mark.parametrize("is_run", [False, True])
def test_dict_tools_are_never_run_and_are_answered_by_messages(
    model: Any, says: Callable[..., None], is_run: bool
) -> None:
    declared = {"name": "ask", "parameters": {"type": "object", "properties": {
        "city": {"type": "string"}}}}  # fmt: skip
    says(f"{call('weather', 'Rome')}{call('ask', 'Paris')}<|tool_response>", "Done.<turn|>")
    chat = model.chat(tools=[weather, declared], run_tools=is_run, **{**FREE, "max_tokens": 200})

    result = chat.send("Weather?")

    assert result.finish_reason == "tool_calls"
    assert ASKED == []
    answers = [
        {"role": "tool", "tool_call_id": one.id, "name": one.name, "content": "rain"}
        for one in result.tool_calls
    ]
    assert chat.send(answers).text == "Done."
    assert [message["role"] for message in chat.messages] == [
        "user", "assistant", "tool", "tool", "assistant",
    ]  # fmt: skip


def test_a_tool_that_is_interrupted_undoes_the_turn(model: Any, says: Callable[..., None]) -> None:
    def stop(city: str) -> str:
        raise KeyboardInterrupt

    says(f"{call('stop', 'Paris')}<|tool_response>")
    chat = model.chat(tools=[stop], **{**FREE, "max_tokens": 200})

    with pytest.raises(KeyboardInterrupt):
        chat.send("Weather?")

    assert chat.messages == []
    with pytest.raises(InvalidArgument, match="turns"):
        chat.undo()


# --- files ---------------------------------------------------------------------------------------


def test_a_saved_conversation_goes_on_in_a_new_process_with_the_same_tokens(
    model: Any, demo_folder: Path, tmp_path: Path
) -> None:
    chat = model.chat(system="Be brief.", **FREE, logit_bias={30: 1.5}, stop=["zzz"])
    chat.send(LONG)
    chat.send("More.")
    path = tmp_path / "talk.chat"
    chat.save(path)
    code = f"""
import json, cabochon
with cabochon.load({str(demo_folder)!r}) as model:
    chat = cabochon.Chat.load({str(path)!r}, model)
    result = chat.send("And?")
    print(json.dumps([chat.messages, result.token_ids.tolist(), result.logprobs.tobytes().hex(),
                      result.usage.cached_tokens, chat.usage.output_tokens]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    messages, ids, logprobs, cached, output = json.loads(done.stdout)
    result = chat.send("And?")
    assert ids == result.token_ids.tolist()
    assert logprobs == result.logprobs.tobytes().hex()
    assert messages == chat.messages
    assert cached == result.usage.cached_tokens > 300
    assert output == chat.usage.output_tokens
    assert [path.name for path in tmp_path.iterdir()] == ["talk.chat"]


def test_without_keys_and_values_a_file_is_small_and_they_are_computed_again(
    load: Any, model: Any, tmp_path: Path
) -> None:
    chat = model.chat(**FREE)
    chat.send(LONG)
    chat.save(tmp_path / "with")
    chat.save(tmp_path / "without", kv=False)

    fresh = load()
    loaded = cabochon.Chat.load(tmp_path / "without", fresh)

    assert (tmp_path / "without").stat().st_size < 6000 < (tmp_path / "with").stat().st_size
    result = loaded.send("And?")
    assert result.usage.cached_tokens == 0
    same(result, chat.send("And?"))


def test_another_format_of_the_cache_is_refused_or_computed_again(
    load: Any, model: Any, tmp_path: Path
) -> None:
    chat = model.chat(**FREE)
    chat.send(LONG)
    chat.save(tmp_path / "talk")
    other = load(kv="int8")

    with pytest.raises(CheckpointError, match="kv: found bf16, expected int8") as caught:
        cabochon.Chat.load(tmp_path / "talk", other)

    assert caught.value.key == "kv"
    loaded = cabochon.Chat.load(tmp_path / "talk", other, recompute=True)
    result = loaded.send("And?")
    assert result.usage.cached_tokens == 0
    same(result, cold(other, loaded.messages[:-1]))


@pytest.mark.skipif(not _core.has_fast_arithmetic(), reason="this CPU lacks vdpbf16ps")
def test_keys_of_fast_arithmetic_are_not_those_of_exact_arithmetic(
    load: Any, model: Any, tmp_path: Path
) -> None:
    chat = load(arithmetic="fast").chat(**FREE)
    chat.send(LONG)
    chat.save(tmp_path / "talk")

    with pytest.raises(CheckpointError, match="arithmetic: found fast, expected exact"):
        cabochon.Chat.load(tmp_path / "talk", model)


def test_a_file_of_a_larger_ring_serves_a_smaller_one(load: Any, tmp_path: Path) -> None:
    wide, narrow = load(max_sequences=300, context=1024), load(max_sequences=2, context=1024)
    assert wide._scheduler.shape.ring_pages > narrow._scheduler.shape.ring_pages
    chat = wide.chat(**FREE)
    chat.send(LONG)
    chat.send(LONG)
    chat.save(tmp_path / "talk")

    result = cabochon.Chat.load(tmp_path / "talk", narrow).send("And?")

    assert result.usage.cached_tokens > 500
    same(result, chat.send("And?"))


def test_a_file_that_is_longer_than_the_context_is_read_and_holds_no_pages(
    load: Any, tmp_path: Path
) -> None:
    wide, narrow = load(), load(context=256, max_sequences=4)
    chat = wide.chat(**FREE)
    chat.send(LONG)
    chat.save(tmp_path / "talk")

    loaded = cabochon.Chat.load(tmp_path / "talk", narrow)

    assert held(narrow) == 0
    assert loaded.context_left == 0
    with pytest.raises(cabochon.errors.ContextOverflow):
        loaded.send("And?")
    loaded.undo()
    assert loaded.send("Hi").usage.cached_tokens == 0


def test_tools_are_given_again(model: Any, says: Callable[..., None], tmp_path: Path) -> None:
    says("Hi.<turn|>", f"{call('weather', 'Oslo')}<|tool_response>", "Cold.<turn|>")
    chat = model.chat(tools=[weather], **{**FREE, "max_tokens": 200})
    chat.send("Hi")
    chat.save(tmp_path / "talk")

    result = cabochon.Chat.load(tmp_path / "talk", model, tools=[weather]).send("Weather?")

    assert result.text == "Cold."
    assert ASKED == ["Oslo"]


def test_what_json_cannot_say_is_not_saved(model: Any, tmp_path: Path) -> None:
    chat = model.chat(messages=[{"role": "user", "content": "a"},
                                {"role": "assistant", "content": "b"}])  # fmt: skip
    chat._messages[0]["content"] = object()

    with pytest.raises(InvalidArgument, match="messages: found what JSON cannot say"):
        chat.save(tmp_path / "talk")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["none/talk", "", "a\0b"])
def test_a_path_that_no_file_can_have_is_a_device_error(
    model: Any, tmp_path: Path, name: str
) -> None:
    with pytest.raises(DeviceError, match="cannot be written"):
        model.chat().save(f"{tmp_path}/{name}")


def rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """The file with its metadata and tensors changed."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, framework="numpy") as file:
        about = json.loads(file.metadata()["cabochon_chat"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(about, tensors)
    save_file(tensors, path, metadata={"cabochon_chat": json.dumps(about)})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a, t: a.update(version=2), "version 2"),
        (lambda a, t: a.update(messages="Hi"), "messages of str"),
        (lambda a, t: a.update(usage={"prompt_tokens": "x"}), "usage"),
        (lambda a, t: a.update(first=-1), "first -1"),
        (lambda a, t: a.update(first=True), "first True"),
        (lambda a, t: a["identity"].update(fingerprint="x"), "fingerprint: found x"),
        (lambda a, t: a["identity"].update(numerics=0), "numerics"),
        (lambda a, t: a["identity"].update(arithmetic="fast"), "arithmetic: found fast"),
        (lambda a, t: a["identity"].update(formats={}), "formats: found {}"),
        (lambda a, t: a["identity"].update(layers=[]), "layers"),
        (lambda a, t: t.pop("ids"), "tensors"),
        (lambda a, t: t.update(ids=t["ids"].astype(np.float32)), "ids float32"),
        (lambda a, t: t.update(ids=t["ids"] - 100), "ids int32"),
        (lambda a, t: t.update(ids=t["ids"][:50]), "global_pages uint8"),
        (lambda a, t: t.update(ids=t["ids"][:0]), "ids int32"),
        (lambda a, t: t.update(global_pages=t["global_pages"][:, :-1]), "global_pages uint8"),
        (lambda a, t: t.update(sliding_pages=t["sliding_pages"][1:]), "sliding_pages uint8"),
        (lambda a, t: t.update(sliding_pages=t["sliding_pages"].view(np.int8)), "sliding_pages"),
        (
            lambda a, t: (a.update(first=9_000), t.update(sliding_pages=t["sliding_pages"][:0])),
            "first 9000, expected a page below",
        ),
    ],
)  # fmt: skip
def test_a_hostile_file_is_a_checkpoint_error(
    model: Any, tmp_path: Path, change: Callable[..., None], says: str
) -> None:
    chat = model.chat(**FREE)
    chat.send(LONG)
    path = tmp_path / "talk"
    chat.save(path)
    rewritten(path, change)

    with pytest.raises(CheckpointError, match=says) as caught:
        cabochon.Chat.load(path, model)
    assert caught.value.file == str(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"messages": [3]}, r"messages\[0\]"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\].content"),
        ({"settings": {"logit_bias": {"--5": 1.0}}}, "logit_bias"),
        ({"settings": {"tools": 5, "colour": 1}}, "colour"),
        ({"settings": {"run_tools": "yes"}}, "run_tools"),
    ],
)
def test_settings_and_messages_of_a_file_are_checked_as_those_of_a_caller(
    model: Any, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    chat = model.chat(**FREE)
    chat.send("Hi")
    chat.save(tmp_path / "talk")
    rewritten(tmp_path / "talk", lambda about, tensors: about.update(change))

    with pytest.raises(InvalidArgument, match=says):
        cabochon.Chat.load(tmp_path / "talk", model)


@pytest.mark.parametrize("size", [0, 7, 8, 100, -1])
def test_a_file_that_is_cut_or_is_none_is_a_checkpoint_error(
    model: Any, tmp_path: Path, size: int
) -> None:
    chat = model.chat(**FREE)
    chat.send("Hi")
    path = tmp_path / "talk"
    chat.save(path)
    path.write_bytes(path.read_bytes()[:size])

    for wrong in (path, tmp_path, tmp_path / "none"):
        with pytest.raises(CheckpointError, match=r"Chat\.save"):
            cabochon.Chat.load(wrong, model)


def test_a_process_killed_while_it_saves_leaves_the_old_file_and_the_next_save_removes_its_own(
    model: Any, demo_folder: Path, tmp_path: Path
) -> None:
    chat = model.chat(**FREE)
    chat.send(LONG)
    path = tmp_path / "talk"
    chat.save(path)
    old = path.read_bytes()
    code = f"""
import os, signal, cabochon
with cabochon.load({str(demo_folder)!r}) as model:
    chat = cabochon.Chat.load({str(path)!r}, model)
    chat.send("And?")
    os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)  # written, not renamed
    chat.save({str(path)!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    assert done.returncode == -signal.SIGKILL, done.stderr
    assert path.read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 2  # and what was being written
    assert cabochon.Chat.load(path, model).messages == chat.messages
    chat.save(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("bytes_written", [0, 9, 5000, 100_000])
def test_a_disk_that_is_full_while_it_saves_leaves_the_old_file(
    model: Any, tmp_path: Path, full_after: Any, bytes_written: int
) -> None:
    chat = model.chat(**FREE)
    chat.send(LONG)
    path = tmp_path / "talk"
    chat.save(path)
    old = path.read_bytes()
    assert len(old) > 100_000
    chat.send("And?")

    with full_after(bytes_written), pytest.raises(DeviceError, match=r"talk: .* too large"):
        chat.save(path)

    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_ctrl_c_undoes_the_turn_and_the_next_one_is_right(model: Any) -> None:
    chat = model.chat(**FREE)
    chat.send("Hi")
    kept = chat.messages

    def interrupt() -> None:
        while not model._scheduler.unfinished:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        chat.send(LONG, max_tokens=4000, ignore_stops=True)
    thread.join()

    assert chat.messages == kept
    same(chat.send(LONG), cold(model, chat.messages[:-1]))
