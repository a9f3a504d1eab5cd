"""One model, many threads: they share steps, and nobody's result depends on it. Ctrl-C."""

from __future__ import annotations

import gc
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import cabochon
from cabochon.model import _GENERATE_DEFAULTS

Interrupted = Callable[[float, Callable[[], object]], bool]
FREE = {"max_tokens": 15, "ignore_stops": True}


def test_threads_get_what_they_would_get_alone(model: Any) -> None:
    prompts = [[2, 20 + i] for i in range(12)]
    alone = [model.generate(prompt, seed=1, **FREE).token_ids for prompt in prompts]

    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda prompt: model.generate(prompt, seed=1, **FREE), prompts))

    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other.token_ids)


class Held:
    """An engine whose first step waits until so many sequences are there."""

    def __init__(self, model: Any, sequences: int) -> None:
        self._engine, self._scheduler = model._loop._engine, model._scheduler
        self._sequences = sequences
        self.rows, self.together = 0, list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def step(self, **arguments: Any) -> Any:
        give_up = time.monotonic() + 30
        while len(self._scheduler.unfinished) < self._sequences and time.monotonic() < give_up:
            time.sleep(0.001)
        self._sequences = 0
        self.rows += arguments["tokens"].size
        self.together.append(len(arguments["slices"]))
        return self._engine.step(**arguments)


def test_threads_are_one_batch_and_compute_what_they_share_once(load: Any) -> None:
    model = load(max_sequences=12)
    shared = [2, *np.random.default_rng(1).integers(3, 260, 700).tolist()]
    prompts = [[*shared, 20 + i] for i in range(12)]
    model._scheduler.cache.is_reusing = False
    alone = [model.generate(prompt, seed=1, logprobs=True, **FREE) for prompt in prompts]
    model._scheduler.cache.is_reusing = True
    engine = model._loop._engine = Held(model, 12)

    with ThreadPoolExecutor(12) as pool:
        together = list(
            pool.map(lambda one: model.generate(one, seed=1, logprobs=True, **FREE), prompts)
        )

    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.token_ids, other.token_ids)
        assert one.logprobs.tobytes() == other.logprobs.tobytes()
    assert max(engine.together) >= 11  # one is ahead, which the others waited for
    assert sum(result.usage.cached_tokens for result in together) == 11 * len(shared)
    assert engine.rows == len(shared) + 12 * 15


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


# --- what goes wrong ------------------------------------------------------------------------------


class Failing:
    """An engine that calls `meanwhile` in each step, and says that a row of each sequence could
    not be read."""

    def __init__(self, model: Any, meanwhile: Callable[[], object]) -> None:
        self._engine, self._meanwhile = model._loop._engine, meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def step(self, **arguments: Any) -> Any:
        result = self._engine.step(**arguments)
        self._meanwhile()
        names = ("tokens", "logprobs", "best", "top_ids", "top_logprobs", "logits", "status")
        given = {name: getattr(result, name) for name in names}
        return SimpleNamespace(**given, failures=np.ones_like(result.failures))


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_nobody_begins_from_rows_that_could_not_be_read(model: Any, is_cancelled: bool) -> None:
    prompt = [2, *range(20, 60)]
    expected = model.generate(prompt, seed=1, **FREE).token_ids
    model._scheduler.cache.clear()
    (generation,), _ = model._generations(prompt, {**_GENERATE_DEFAULTS, **FREE}, is_streamed=False)
    sequence, engine = generation.sequence, model._loop._engine

    model._loop._engine = Failing(model, lambda: setattr(sequence, "is_cancelled", is_cancelled))
    model._submit([sequence])
    model._loop.advance()
    model._loop._engine = engine
    model._loop.cancel([sequence])

    assert "positions 0 to 40: pread" in str(sequence.error)
    again = model.generate(prompt, seed=1, **FREE)
    assert again.usage.cached_tokens == 0
    np.testing.assert_array_equal(again.token_ids, expected)


def test_a_failure_of_the_scheduler_itself_is_raised_and_blocks_nobody(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = model.generate("Hi", seed=1, **FREE).token_ids

    def fail() -> None:
        raise MemoryError("no room for a list")

    with monkeypatch.context() as patched, pytest.raises(MemoryError, match="for a list"):
        patched.setattr(model._scheduler, "next_step", fail)
        model.generate("Hi", seed=1, **FREE)

    again = model.generate("Hi", seed=1, **FREE)
    np.testing.assert_array_equal(again.token_ids, expected)


# --- streams that the garbage collector ends -----------------------------------------------------


def collected_at(moment: int, work: Callable[[], Any]) -> tuple[Any, int]:
    """What `work` gives, while garbage is collected once, at the so-manieth call, return or use of
    a built-in function inside of the scheduler; and how many of them there were."""
    seen = 0

    def hook(frame: Any, event: str, argument: object) -> None:
        nonlocal seen
        if "/scheduler/" in frame.f_code.co_filename:
            seen += 1
            if seen == moment:
                gc.collect()

    sys.setprofile(hook)
    try:
        return work(), seen
    finally:
        sys.setprofile(None)


@pytest.mark.filterwarnings("error")  # what a finalizer raises comes as a warning
@pytest.mark.parametrize("is_waiting", [False, True])
def test_a_stream_that_is_collected_at_any_moment_of_a_step_loses_no_page_and_ends_no_other(
    load: Any, is_waiting: bool
) -> None:
    model = load(context=512, max_sequences=1 if is_waiting else 3)
    expected = model.generate("Hi", seed=1, max_tokens=3, ignore_stops=True).token_ids
    free = model._scheduler.available

    def waits() -> Iterator[None]:
        given = {**_GENERATE_DEFAULTS, "max_tokens": 300}
        generations, _ = model._generations("Hi", given, is_streamed=True)
        sequences = [generation.sequence for generation in generations]
        model._submit(sequences)
        try:
            yield
        finally:
            model._loop.cancel(sequences)

    def leave_in_a_cycle() -> None:
        stream = waits() if is_waiting else model.stream("Hi", max_tokens=300, ignore_stops=True)
        next(stream)
        cycle: list[Any] = [stream]
        cycle.append(cycle)

    def work() -> Any:
        before = model.stream("Hi", max_tokens=3, ignore_stops=True)  # it runs, the other may not
        next(before)
        leave_in_a_cycle()
        result = model.generate("Hi", seed=1, max_tokens=3, ignore_stops=True)
        before.close()
        return result

    gc.collect()
    gc.freeze()  # what is there by now is looked at no more
    gc.disable()  # but at the moment of the test
    try:
        _, moments = collected_at(0, work)
        gc.collect()
        assert moments > 300
        for moment in range(1, moments, moments // 23):
            result, _ = collected_at(moment, work)
            gc.collect()

            np.testing.assert_array_equal(result.token_ids, expected)
            model.generate("Hi", max_tokens=1)  # before whose step they are free
            assert model._scheduler.unfinished == [], moment
            assert model._scheduler.available == free, moment
    finally:
        gc.enable()
        gc.unfreeze()
