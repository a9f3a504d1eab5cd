"""The bits of a score depend on its own ids alone: not on what else is asked for, nor on how."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny
from cabochon import _core

CheckpointOf = Callable[[str], Path]


@pytest.fixture(scope="module")
def model_of(tiny_checkpoint: CheckpointOf) -> Iterator[Callable[..., Any]]:
    import cabochon

    yield functools.cache(
        lambda name, threads, sequences: cabochon.load(
            tiny_checkpoint(name), threads=threads, max_sequences=sequences, context=256
        )
    )


@st.composite
def requests(draw: st.DrawFn) -> list[tuple[list[int], list[list[int]]]]:
    """Prompts that begin alike, as few-shot ones do, each with continuations that do."""
    stream = np.random.default_rng(draw(st.integers(0, 2**32)))
    shared = stream.integers(3, 250, 140).tolist()
    asked = []
    for _ in range(draw(st.integers(1, 6))):
        prompt = [2, *shared[: draw(st.integers(0, 140))]]
        prompt += stream.integers(3, 250, draw(st.integers(0, 5))).tolist()
        end = stream.integers(3, 250, 12).tolist()
        afters = [
            [*end[: draw(st.integers(0, 12))], *draw(st.lists(st.integers(3, 6), max_size=3))]
            for _ in range(draw(st.integers(1, 5)))
        ]
        asked.append((prompt, afters))
    return asked


@pytest.mark.parametrize("name", tiny.MODELS)
@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    asked=requests(),
    chunk=st.sampled_from([1, 7, 64, 256]),
    is_reusing=st.booleans(),
    order=st.randoms(),
)
def test_a_score_has_the_bits_of_the_whole_read_alone_whatever_is_asked_beside_it(
    name: str,
    asked: list[tuple[list[int], list[list[int]]]],
    chunk: int,
    is_reusing: bool,
    order: Any,
    model_of: Callable[..., Any],
) -> None:
    one, many = model_of(name, 1, 1), model_of(name, 2, 8)
    order.shuffle(asked)
    many._scheduler.chunk_tokens = chunk
    many._scheduler.cache.is_reusing = is_reusing
    prompts, afters = [prompt for prompt, _ in asked], [list(some) for _, some in asked]

    together = many.score(prompts, afters)

    for prompt, some, scores in zip(prompts, afters, together, strict=True):
        for after, score in zip(some, scores.scores, strict=True):
            # Asks for every row, so no layer is skipped for any.
            read = one.logprobs([*prompt, *after]) if after else None
            expected = read.logprobs[len(prompt) :] if read else np.empty(0, np.float32)
            np.testing.assert_array_equal(score.logprobs.view(np.uint32), expected.view(np.uint32))
            assert score.is_greedy == (read is None or bool(read.is_greedy[len(prompt) :].all()))


HASH = """
import hashlib, sys
import numpy as np, cabochon
draw = np.random.default_rng(1)
shared = draw.integers(3, 250, 70).tolist()
prompts = [[2, *shared, int(draw.integers(3, 250))] for _ in range(4)]
afters = [[draw.integers(3, 9, int(draw.integers(1, 5))).tolist() for _ in range(4)]] * 4
with cabochon.load(sys.argv[1], weights=sys.argv[2]) as model:
    found = model.score(prompts, afters)
    bits = b"".join(s.logprobs.tobytes() + bytes([s.is_greedy]) for x in found for s in x.scores)
    print(hashlib.sha256(bits).hexdigest())
"""


@pytest.mark.parametrize("weights", ["auto", "int4"])
def test_scores_have_the_same_bits_on_every_tier(
    tiny_checkpoint: CheckpointOf, weights: str
) -> None:
    hashes = {}
    for tier in _core.usable_tiers():
        done = subprocess.run(
            [sys.executable, "-c", HASH, str(tiny_checkpoint("e_type")), weights],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"CABOCHON_CPU_TIER": tier},
        )
        hashes[tier] = done.stdout.strip()

    assert "scalar" in hashes
    assert len(set(hashes.values())) == 1, hashes
