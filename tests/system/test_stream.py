"""Streaming gives the tokens of generate, as whole characters, and lets go when it is closed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cabochon

FREE = {"max_tokens": 25, "ignore_stops": True, "seed": 4}


def test_events_joined_are_the_text_of_generate(model: Any) -> None:
    events = list(model.stream("Hi", **FREE))

    whole = model.generate("Hi", **FREE)
    assert [event.kind for event in events].count("done") == 1
    assert events[-1].kind == "done"
    assert "".join(event.text for event in events) == events[-1].result.text == whole.text
    np.testing.assert_array_equal(events[-1].result.token_ids, whole.token_ids)
    assert whole.text != ""


def test_items_interleave_each_in_its_order_and_each_is_done_once(model: Any) -> None:
    prompts = ["one", "two and more", "three"]

    events = list(model.stream(prompts, **FREE))

    for index, prompt in enumerate(prompts):
        own = [event for event in events if event.index == index]
        assert [event.kind for event in own].count("done") == 1
        assert own[-1].kind == "done"
        assert "".join(event.text for event in own) == model.generate(prompt, **FREE).text
    first_done = next(n for n, event in enumerate(events) if event.kind == "done")
    assert {event.index for event in events[:first_done]} == {0, 1, 2}


def test_a_stop_string_never_shows(model: Any) -> None:
    whole = model.generate("Hi", **FREE).text
    stop = whole[4:7]

    events = list(model.stream("Hi", stop=stop, max_tokens=25, seed=4))

    assert "".join(event.text for event in events) == whole[: whole.index(stop)]
    assert events[-1].result.stop_reason == stop


def test_a_closed_stream_frees_its_pages(model: Any) -> None:
    before = model._scheduler.available
    stream = model.stream("Hi", **FREE)
    next(stream)
    assert model._scheduler.available < before

    stream.close()

    assert model._scheduler.available == before
    assert model.generate("Hi", **FREE).token_ids.size == 25


def test_leaving_the_loop_frees_its_pages(model: Any) -> None:
    before = model._scheduler.available

    for _ in model.stream(["a", "b"], **FREE):
        break

    assert model._scheduler.available == before


def test_a_stream_that_is_never_begun_holds_nothing(model: Any) -> None:
    stream = model.stream("Hi", **FREE)

    assert model._scheduler.unfinished == []
    del stream


def test_arguments_are_checked_before_the_first_event(model: Any) -> None:
    with pytest.raises(cabochon.errors.InvalidArgument, match="temperature"):
        model.stream("Hi", temperature=-1)
    with pytest.raises(cabochon.errors.InvalidArgument, match="did you mean max_tokens"):
        model.stream("Hi", max_token=5)
    with pytest.raises(cabochon.errors.InvalidArgument, match="prompt"):
        model.stream("")


def test_generate_in_the_middle_of_a_stream_changes_neither(model: Any) -> None:
    whole, other = model.generate("Hi", **FREE), model.generate("other", **FREE)

    texts = []
    for number, event in enumerate(model.stream("Hi", **FREE)):
        texts.append(event.text)
        if number == 2:
            assert model.generate("other", **FREE).text == other.text

    assert "".join(texts) == whole.text
