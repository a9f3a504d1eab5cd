"""The engine against what transformers computed in float32, on every kind of model.

A test that fails says at which position and, by asking the NumPy reference, in which layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import tiny
from first_difference import check_logits, first_layer, looks_like
from golden import LOGIT_BOUND, Golden

GoldenOf = Callable[[str], Golden]
every_model = pytest.mark.parametrize("name", tiny.MODELS)


def load(folder: Path, *, chunk: int | None = None) -> Any:
    import cabochon

    model = cabochon.load(folder, kv="f32")
    if chunk is not None:
        model._scheduler.chunk_tokens = chunk
    return model


def logits(
    folder: Path, ids: Sequence[int], *, chunk: int | None = None
) -> npt.NDArray[np.float32]:
    with load(folder, chunk=chunk) as model:
        return model.logits(list(ids), positions="all")


def why(
    folder: Path, ids: Sequence[int], found: npt.NDArray[Any], tmp_path: Path, chunk: int | None
) -> str:
    def engine(cut: Path, some: Sequence[int]) -> npt.NDArray[np.float32]:
        return logits(cut, some, chunk=chunk)

    return f"{first_layer(engine, folder, ids, tmp_path)} {looks_like(found, folder, ids)}"


@pytest.mark.parametrize("chunk", [None, 1, 7, 64])
@every_model
def test_logits_of_a_prompt_equal_transformers_whatever_the_chunk(
    name: str, chunk: int | None, golden: GoldenOf, tmp_path: Path
) -> None:
    recorded = golden(name)

    found = logits(recorded.folder, recorded.prompt, chunk=chunk)

    assert found.dtype == np.float32
    check_logits(
        found,
        recorded.logits,
        why=lambda: why(recorded.folder, recorded.prompt, found, tmp_path, chunk),
    )


@every_model
def test_logits_of_one_token_equal_transformers(
    name: str, golden: GoldenOf, tmp_path: Path
) -> None:
    recorded = golden(name)
    ids = recorded.prompt[:1]

    found = logits(recorded.folder, ids)

    check_logits(
        found,
        recorded.one_token_logits,
        why=lambda: why(recorded.folder, ids, found, tmp_path, None),
    )


@pytest.mark.parametrize("chunk", [None, 7])
@every_model
def test_a_batch_of_four_lengths_gives_each_prompt_its_own_logits(
    name: str, chunk: int | None, golden: GoldenOf
) -> None:
    recorded = golden(name)
    lengths = [17, len(recorded.prompt), 1, 30]
    prompts = [recorded.prompt[:length] for length in lengths]

    with load(recorded.folder, chunk=chunk) as model:
        rows = model.logits(prompts, positions="all")

    assert len(rows) == len(lengths)
    for length, found in zip(lengths, rows, strict=True):
        # A causal model: the rows of a beginning are the first rows of the whole.
        check_logits(found, recorded.logits[:length], why=lambda n=length: f"Prompt of {n} tokens.")


@pytest.mark.parametrize("chunk", [None, 1, 7])
@every_model
def test_64_greedy_tokens_equal_transformers(
    name: str, chunk: int | None, golden: GoldenOf
) -> None:
    recorded = golden(name)

    with load(recorded.folder, chunk=chunk) as model:
        result = model.generate(
            recorded.prompt, max_tokens=len(recorded.greedy), temperature=0, ignore_stops=True
        )

    check_tokens(result.token_ids, recorded)


@every_model
def test_64_greedy_tokens_equal_transformers_in_a_batch_of_four(
    name: str, golden: GoldenOf
) -> None:
    recorded = golden(name)
    others = [recorded.prompt[:length] for length in (17, 1, 30)]

    with load(recorded.folder) as model:
        results = model.generate(
            [others[0], recorded.prompt, *others[1:]],
            max_tokens=len(recorded.greedy),
            temperature=0,
            ignore_stops=True,
        )

    check_tokens(results[1].token_ids, recorded)


def check_tokens(found: Sequence[int], recorded: Golden) -> None:
    tokens = [int(token) for token in found]
    assert len(tokens) == len(recorded.greedy)
    parted = [step for step, pair in enumerate(zip(tokens, recorded.greedy, strict=True))
              if pair[0] != pair[1]]  # fmt: skip
    if parted:
        step = parted[0]
        raise AssertionError(
            f"greedy step {step}: found {tokens[step]}, expected {recorded.greedy[step]}, which "
            f"transformers prefers by {recorded.greedy_margins[step]:.3g} "
            f"(position {len(recorded.prompt) + step})"
        )


@every_model
def test_scores_are_the_sums_of_log_probabilities_that_the_recorded_logits_give(
    name: str, golden: GoldenOf
) -> None:
    recorded = golden(name)
    ids = recorded.prompt
    normal = recorded.logits.astype(np.float64)
    normal -= np.log(np.exp(normal).sum(axis=-1, keepdims=True))
    cuts = [1, 2, len(ids) // 2, len(ids) - 1]
    assert np.ptp(normal.max(axis=-1)) > 100 * LOGIT_BOUND, "rows that nobody could tell apart"

    with load(recorded.folder) as model:
        found = model.score(
            [ids[:cut] for cut in cuts], [[ids[cut:], ids[cut : cut + 1]] for cut in cuts]
        )

    for cut, scores in zip(cuts, found, strict=True):
        expected = normal[np.arange(cut - 1, len(ids) - 1), ids[cut:]]
        # A target and a sum of exponentials, each within the bound of logits.
        np.testing.assert_allclose(
            scores.scores[0].logprobs, expected, rtol=0, atol=2 * LOGIT_BOUND
        )
        assert scores.scores[1].logprob == scores.scores[0].logprobs[0]
