"""A prompt has one answer, whoever it comes with and whatever was computed before (bar R7).

ANSWER_REPEATS sets how often each prompt comes; 1,000 take some minutes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cabochon

REPEATS = int(os.environ.get("ANSWER_REPEATS", "50"))
GREEDY = {"temperature": 0}
SEEDED = {"temperature": 1.0, "seed": 5}
OPTIONS = {"max_tokens": 12, "ignore_stops": True, "logprobs": True}


def prompts() -> list[list[int]]:
    """20, of 3 to 400 ids; most begin as another does, inside of a page and far behind it."""
    rng = np.random.default_rng(7)
    one, other = rng.integers(3, 260, (2, 400)).tolist()
    found = [one[:3], one[:40], one[:64], one[:65], one[:200], one, other[:150], other[:399]]
    for index in range(12):
        shared = (one, other)[index % 2][: (10, 70, 128, 260)[index % 4]]
        found.append([*shared, *rng.integers(3, 260, 5 + 9 * index).tolist()])
    return found


def bits(result: Any) -> tuple[bytes, bytes]:
    return result.token_ids.tobytes(), result.logprobs.tobytes()


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Callable[[str], Path]) -> Iterator[Any]:
    """Of up to 128 sequences, of which few have room: they are put back again and again."""
    folder = tiny_checkpoint("e_type")
    options: dict[str, Any] = {"context": 512, "threads": 1}
    five = cabochon.plan(folder, max_sequences=5, context=512).device_bytes
    room = cabochon.plan(folder, max_sequences=128, context=512, memory_limit=five)
    assert 2 <= room.sequences_that_fit <= 6
    with cabochon.load(folder, max_sequences=128, memory_limit=five, **options) as model:
        yield model


@pytest.mark.parametrize("drawn", [GREEDY, SEEDED], ids=["greedy", "seeded"])
def test_a_prompt_has_one_answer_in_any_batch_with_reuse_and_without(
    model: Any, drawn: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = model._scheduler
    put_back, cached = list[Any](), 0
    take_back = scheduler._put_back
    monkeypatch.setattr(scheduler, "_put_back", lambda one: (put_back.append(one), take_back(one)))
    rng, every = random.Random(3), prompts()
    scheduler.cache.is_reusing = False
    alone = [bits(model.generate(ids, **drawn, **OPTIONS)) for ids in every]
    assert put_back == []

    coming = [index for index in range(len(every)) for _ in range(REPEATS)]
    rng.shuffle(coming)
    while coming:
        size = rng.randint(1, 128)
        batch, coming = coming[:size], coming[size:]
        scheduler.cache.is_reusing = rng.random() < 0.7
        scheduler.chunk_tokens = rng.choice([256, 256, 64, 13])
        if rng.random() < 0.2:
            scheduler.cache.clear()
        results = model.generate([every[index] for index in batch], **drawn, **OPTIONS)
        for index, result in zip(batch, results, strict=True):
            assert bits(result) == alone[index]
            cached += result.usage.cached_tokens > 0

    assert put_back != []
    assert cached > 20 * REPEATS / 4
    assert len({ids for ids, _ in alone}) == len(alone)  # answers tell prompts apart
