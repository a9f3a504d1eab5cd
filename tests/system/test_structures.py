"""Structures and budgets of whole answers: the same alone and together, errors, counts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cabochon.errors import ConstraintError, InvalidArgument


@dataclass
class Person:
    name: str
    likes_tea: bool


@pytest.fixture(scope="module")
def free(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The demo, free to write control tokens and bytes."""
    import cabochon

    folder = tmp_path_factory.mktemp("free") / "model"
    folder.mkdir()
    for path in demo_folder.iterdir():
        (folder / path.name).symlink_to(path)
    path = folder / "generation_config.json"
    config = json.loads(path.read_text())
    path.unlink()
    path.write_text(json.dumps({**config, "suppress_tokens": []}))
    with cabochon.load(folder, context=256) as model:
        yield model


def test_a_list_under_a_structure_and_a_budget_gives_what_each_gives_alone(free: Any) -> None:
    channel = free._parts.tokenizer.control_ids["<|channel>"]
    options = {
        "schema": Person, "thinking": True, "thinking_budget": 9, "max_tokens": 80,
        "logit_bias": {channel: 100.0},
    }  # fmt: skip
    prompts = ["Who?", "Who was it, and when, and with whom?", "x"]

    together = free.generate(prompts, seed=[1, 2, 3], **options)

    for prompt, seed, result in zip(prompts, [1, 2, 3], together, strict=True):
        alone = free.generate(prompt, seed=seed, **options)
        np.testing.assert_array_equal(result.token_ids, alone.token_ids)
        assert result.usage.thinking_tokens == 9
        assert result.thinking_closed_by == "budget"
        assert result.usage.forced_tokens == alone.usage.forced_tokens >= 2 + 6


def test_a_stream_gives_the_same_and_its_result_is_parsed(free: Any) -> None:
    options = {"choices": ["blue", "green"], "seed": 4, "max_tokens": 30}

    *events, done = free.stream("Sky?", **options)

    result = free.generate("Sky?", **options)
    assert "".join(event.text for event in events) == result.text == result.parsed
    assert done.result.parsed == result.parsed in ("blue", "green")
    assert result.finish_reason == "stop"
    assert result.settings["choices"] == ("blue", "green")


def test_log_probabilities_under_a_structure_are_the_models_own(free: Any) -> None:
    result = free.generate("Sky?", regex="[xyz]{5}", temperature=0, logprobs=True, max_tokens=9)

    ids = [*result.prompt_token_ids.tolist(), *result.token_ids.tolist()]
    own = free.logprobs(ids).logprobs[result.prompt_token_ids.size :]
    np.testing.assert_array_equal(result.logprobs, own)


def test_what_is_cut_is_not_parsed(free: Any) -> None:
    result = free.generate("Sky?", regex="[xyz]{50,}", temperature=0, max_tokens=8)

    assert (result.finish_reason, result.cut_in, result.parsed) == ("length", "answer", None)


def test_when_all_that_a_structure_allows_is_banned_its_item_alone_ends(free: Any) -> None:
    pieces = free._parts.tokenizer.pieces()
    bans = {token: -np.inf for token, piece in enumerate(pieces) if b"q" in piece}
    options = {"logit_bias": bans, "max_tokens": 20, "seed": 0}

    with pytest.raises(ConstraintError, match=r"position \d+: the constraint allows \d+ tokens"):
        free.generate("Sky?", choices=["q"], **options)
    failed = free.generate("Sky?", choices=["q"], on_error="return", **options)
    other = free.generate("Sky?", choices=["q", "r"], **options)

    assert (failed.finish_reason, failed.parsed) == ("error", None)
    assert other.parsed == "r"


def test_a_structure_has_to_end_at_a_stop(free: Any) -> None:
    with pytest.raises(InvalidArgument, match="ignore_stops is True"):
        free.generate("Sky?", regex="a", ignore_stops=True)
