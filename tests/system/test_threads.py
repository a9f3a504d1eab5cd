"""One model, many threads: they share steps, and nobody's result depends on it. Ctrl-C."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import cabochon

Interrupted = Callable[[float, Callable[[], object]], bool]
FREE = {"max_tokens": 15, "ignore_stops": True}


def test_threads_get_what_they_would_get_alone(model: Any) -> None:
    prompts = [[2, 20 + i] for i in range(12)]
    alone = [model.generate(prompt, seed=1, **FREE).token_ids for prompt in prompts]

    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda prompt: model.generate(prompt, seed=1, **FREE), prompts))

    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other.token_ids)


def test_half_of_the_streams_are_closed_and_the_others_do_not_notice(model: Any) -> None:
    expected = model.generate("Hi", seed=1, **FREE).text

    def use(number: int) -> str:
        text = ""
        for event in model.stream("Hi", seed=1, **FREE):
            text += event.text
            if number % 2 and len(text) > number:
                return "left"
        return text

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(use, range(8)))

    assert texts[::2] == [expected] * 4
    assert model._scheduler.unfinished == []


def test_closing_ends_what_other_threads_run(demo_folder: Any) -> None:
    model = cabochon.load(demo_folder)
    errors: list[BaseException] = []
    started = threading.Event()

    def use() -> None:
        try:
            for _ in model.stream([2, 5], max_tokens=100_000, ignore_stops=True):
                started.set()
        except cabochon.errors.InvalidArgument as error:
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    started.wait(30)
    model.close()
    for thread in threads:
        thread.join(30)

    assert len(errors) == 3
    assert all("closed" in str(error) for error in errors)


@pytest.fixture
def interrupted() -> Iterator[Callable[[float, Callable[[], object]], bool]]:
    """Calls a function, with a Ctrl-C after some seconds; whether it was interrupted."""

    def interrupted(delay_s: float, call: Callable[[], object]) -> bool:
        try:
            # Once more after a second: one that falls into a callback of a weak reference or of
            # the garbage collector is lost, as Python says, and `lost` hears of it.
            signal.setitimer(signal.ITIMER_REAL, delay_s, 1.0)
            call()
            time.sleep(delay_s)
        except KeyboardInterrupt:
            return True
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return False

    heard = sys.unraisablehook

    def lost(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type is not KeyboardInterrupt:
            heard(unraisable)

    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    sys.unraisablehook = lost
    yield interrupted
    sys.unraisablehook = heard
    signal.signal(signal.SIGALRM, before)


def test_ctrl_c_ends_the_call_and_the_model_goes_on(model: Any, interrupted: Interrupted) -> None:
    before = model._scheduler.available
    expected = model.generate("Hi", seed=1, **FREE)
    began = time.monotonic()

    many = [[2, 5]] * 5000
    assert interrupted(0.3, lambda: model.generate(many, max_tokens=400, ignore_stops=True))

    assert time.monotonic() - began < 5
    assert model._scheduler.available == before
    again = model.generate("Hi", seed=1, **FREE)
    np.testing.assert_array_equal(again.token_ids, expected.token_ids)


def test_ctrl_c_at_any_moment_loses_no_page_and_changes_no_bit(
    model: Any, interrupted: Interrupted
) -> None:
    def use() -> Any:
        return model.generate(["Hi", "you"], seed=1, **FREE)

    expected = use()
    before = model._scheduler.available
    moments = random.Random(0)

    hits = 0
    for _ in range(100):
        hits += interrupted(moments.uniform(0.0001, 0.02), use)
        assert model._scheduler.unfinished == []
        assert model._scheduler.available == before

    assert hits > 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    for one, other in zip(expected, use(), strict=True):
        np.testing.assert_array_equal(one.token_ids, other.token_ids)


def test_ctrl_c_in_one_thread_leaves_the_others_alone(model: Any, interrupted: Interrupted) -> None:
    def use(_: int) -> Any:
        return model.generate([2, 9], seed=1, max_tokens=300, ignore_stops=True).token_ids

    expected = use(0)
    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(use, number) for number in range(3)]
        many = [[2, 5]] * 3000
        assert interrupted(0.05, lambda: model.generate(many, max_tokens=300, ignore_stops=True))
        for other in others:
            np.testing.assert_array_equal(other.result(60), expected)
