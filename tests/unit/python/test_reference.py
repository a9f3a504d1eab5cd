"""The NumPy reference against transformers, and what leaving out a feature does to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tiny
from golden import LOGIT_BOUND, Golden
from reference import decoder
from reference.bounds import float32_error
from reference.rope import frequencies

SPELLING = Path(__file__).parents[2] / "data/configs/transformers_spelling"

FEATURES = [(name, drop) for name in tiny.MODELS for drop in sorted(tiny.MODELS[name].features)]


@pytest.mark.parametrize("name", tiny.MODELS)
def test_the_reference_agrees_with_transformers_at_every_position(
    name: str, golden: Callable[[str], Golden]
) -> None:
    recorded = golden(name)
    bound = float32_error(tiny.MODELS[name].config, float(np.abs(recorded.logits).max()))

    found = decoder.logits(recorded.folder, recorded.prompt)

    difference = np.abs(found - recorded.logits).max(axis=-1)
    assert bound < LOGIT_BOUND / 4  # else the record is too rough to judge by
    assert difference.max() <= bound, f"at positions {np.flatnonzero(difference > bound)}"


@pytest.mark.parametrize("name", tiny.MODELS)
def test_the_reference_agrees_with_transformers_on_one_token(
    name: str, golden: Callable[[str], Golden]
) -> None:
    recorded = golden(name)
    bound = float32_error(tiny.MODELS[name].config, float(np.abs(recorded.logits).max()))

    found = decoder.logits(recorded.folder, recorded.prompt[:1])

    assert np.abs(found - recorded.one_token_logits).max() <= bound


@pytest.mark.parametrize("name", tiny.MODELS)
def test_the_reference_continues_with_the_same_64_tokens(
    name: str, golden: Callable[[str], Golden]
) -> None:
    recorded = golden(name)
    start = len(recorded.prompt) - 1

    rows = decoder.logits(recorded.folder, recorded.prompt + recorded.greedy[:-1])[start:]

    assert rows.argmax(axis=-1).tolist() == recorded.greedy
    # A margin of ten bounds: nothing recorded can flip within the bound.
    assert recorded.greedy_margins.min() >= 10 * LOGIT_BOUND


@pytest.mark.parametrize(("name", "drop"), FEATURES)
def test_leaving_out_one_feature_moves_logits_far_beyond_the_bound(
    name: str, drop: str, golden: Callable[[str], Golden]
) -> None:
    recorded = golden(name)

    broken = decoder.logits(recorded.folder, recorded.prompt, drop=frozenset({drop}))

    moved = float(np.abs(broken - recorded.logits).max())
    same_best = float(np.mean(broken.argmax(-1) == recorded.logits.argmax(-1)))
    assert moved > 100 * LOGIT_BOUND, (
        f"{name} without {drop}: logits move by {moved:.4f}, expected more than "
        f"{100 * LOGIT_BOUND:.1f}; top-1 equal at {same_best:.0%} of the positions"
    )


def test_every_feature_that_can_be_left_out_is_left_out_somewhere() -> None:
    assert {drop for _, drop in FEATURES} == decoder.DROPPABLE


def test_an_unknown_feature_is_refused(tiny_checkpoint: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match=r"found \['softcap'\], expected some of"):
        decoder.logits(tiny_checkpoint("moe"), [2], drop=frozenset({"softcap"}))


@pytest.mark.parametrize("name", tiny.MODELS)
def test_both_spellings_of_a_config_give_the_same_logits(name: str, tmp_path: Path) -> None:
    hub = tiny.write(tmp_path / "hub", name)
    saved = tiny.write(tmp_path / "saved", name)
    (saved / "config.json").write_text((SPELLING / f"{name}.json").read_text())
    prompt = [2, 100, 7, 200, 9, 50, 31, 8, 77, 12, 5]

    found = decoder.logits(saved, prompt)

    assert json.loads((saved / "config.json").read_text()) != tiny.MODELS[name].config
    np.testing.assert_array_equal(found, decoder.logits(hub, prompt))


def test_shards_and_float32_files_hold_the_same_model(tmp_path: Path) -> None:
    config = tiny.MODELS["kv_equal"].config
    stored = tiny.make_tensors(config, 3)
    wide = {name: tiny.from_bf16(values) for name, values in stored.items()}
    one = tiny.write_files(tmp_path / "one", config, stored)
    three = tiny.write_files(tmp_path / "three", config, wide, shards=3)

    found = decoder.logits(three, [2, 5, 17])

    np.testing.assert_array_equal(found, decoder.logits(one, [2, 5, 17]))


def test_bfloat16_rounds_to_nearest_and_ties_to_even() -> None:
    # One ulp of bfloat16 at 1 is 2^-7; halfway goes to the even neighbour.
    values = [1.0, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-8 + 2.0**-20, -3.0e38]

    found = tiny.from_bf16(tiny.to_bf16(np.array(values, np.float32)))

    expected = np.array([1.0, 1.0, 1 + 2.0**-6, 1 + 2.0**-7, found[4]], np.float32)
    np.testing.assert_array_equal(found, expected)
    assert abs(found[4] + 3.0e38) <= 3.0e38 * 2.0**-8


@pytest.mark.parametrize(
    ("theta", "head_dim", "rotated", "turning"),
    [(1e4, 256, 1.0, 128), (1e6, 512, 0.25, 64), (1e6, 40, 0.25, 5), (1e6, 36, 0.5, 9)],
)
def test_frequencies_follow_the_formula_and_the_rest_stands_still(
    theta: float, head_dim: int, rotated: float, turning: int
) -> None:
    found = frequencies(theta, head_dim, rotated=rotated)

    pairs = np.arange(turning)
    # Three roundings: the exponent (scaled by ln theta < 14), the power, the reciprocal.
    np.testing.assert_allclose(
        found[:turning], theta ** (-2.0 * pairs / head_dim), rtol=16 * 2.0**-24
    )
    np.testing.assert_array_equal(found[turning:], np.zeros(head_dim // 2 - turning, np.float32))
