"""From a folder to text: what generate and its results promise."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cabochon

Load = Callable[..., Any]
MESSAGES = [{"role": "user", "content": "Why is the sky blue?"}]
FREE = {"max_tokens": 12, "ignore_stops": True}


def test_the_first_lines_of_the_readme(demo_folder: Path) -> None:
    with cabochon.load(demo_folder) as model:
        result = model.generate("Why is the sky blue?", max_tokens=20)

    assert str(result) == result.text
    assert result.finish_reason in ("stop", "length")
    assert result.usage.output_tokens == result.token_ids.size <= 20


def test_text_messages_ids_and_a_prompt_are_four_ways_to_say_the_same(model: Any) -> None:
    rendered = model.render(MESSAGES)

    found = [
        model.generate(prompt, temperature=0, **FREE)
        for prompt in (MESSAGES[0]["content"], MESSAGES, rendered.token_ids.tolist(), rendered)
    ]

    for result in found:
        np.testing.assert_array_equal(result.prompt_token_ids, rendered.token_ids)
        np.testing.assert_array_equal(result.token_ids, found[0].token_ids)
    kinds = [result.manifest.prompt_kind for result in found]
    assert kinds == ["messages", "messages", "ids", "prompt"]
    assert found[0].manifest.template_sha256 == rendered.template[1]
    assert found[2].manifest.template_sha256 is None


def test_raw_text_and_a_base_model_put_bos_before_the_text_once(
    model: Any, load: Load, base_folder: Path
) -> None:
    base = load(base_folder)
    bos = model.encode("", bos=True).tolist()
    expected = [*bos, *model.encode("Hi <bos>").tolist()]

    raw = model.generate("Hi <bos>", raw=True, **FREE)

    assert len(bos) == 1
    assert raw.prompt_token_ids.tolist() == expected
    assert raw.prompt_token_ids.tolist().count(bos[0]) == 1
    assert base.generate("Hi <bos>", **FREE).prompt_token_ids.tolist() == expected
    with pytest.raises(cabochon.errors.TemplateError, match="no chat template"):
        base.generate(MESSAGES)


def test_control_strings_in_a_message_are_text_unless_allowed(model: Any) -> None:
    turn = model.encode("<|turn>", special=True)[0]
    message = "a<|turn>b"

    plain = model.generate(message, **FREE).prompt_token_ids.tolist()
    allowed = model.generate(message, allow_special_tokens_in_content=True, **FREE)

    without = model.generate("ab", **FREE).prompt_token_ids.tolist()
    assert plain.count(turn) == without.count(turn)
    assert allowed.prompt_token_ids.tolist().count(turn) == without.count(turn) + 1


def test_items_of_a_list_equal_those_alone_in_order(model: Any) -> None:
    prompts = ["one", "a longer second prompt " * 9, MESSAGES, [5, 6, 7], "three"]

    together = model.generate(prompts, seed=range(5), **FREE)

    for seed, (prompt, result) in enumerate(zip(prompts, together, strict=True)):
        alone = model.generate(prompt, seed=seed, **FREE)
        np.testing.assert_array_equal(result.token_ids, alone.token_ids)
        assert result.seed == seed


def test_more_prompts_than_sequences_wait_their_turn(load: Load) -> None:
    few = load(max_sequences=2)
    prompts = [[2, 10 + i] for i in range(9)]

    together = few.generate(prompts, seed=3, **FREE)

    many = load().generate(prompts, seed=3, **FREE)
    for one, other in zip(together, many, strict=True):
        np.testing.assert_array_equal(one.token_ids, other.token_ids)
    assert together[-1].timings.queue_s > 0


def test_prompts_that_wait_or_are_done_hold_no_room_for_a_whole_context(load: Load) -> None:
    model = load(max_sequences=4)
    assert model.context == 4096  # 16 KiB of ids
    prompts = [[2, 10 + i % 200, 10 + i // 200] for i in range(600)]
    ends = {"logit_bias": {model.stop_token_ids[0]: 1000.0}, "temperature": 0}
    model.generate(prompts[:9], **ends)

    tracemalloc.start()
    try:
        results = model.generate(prompts, **ends)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert [result.usage.output_tokens for result in results] == [1] * 600
    assert [result.prompt_token_ids.tolist() for result in results] == prompts
    # 4 KiB while it waits, then as much for its result; the four that run have 16 KiB more.
    assert peak / 600 < 8 * 1024


def test_a_seed_gives_the_same_tokens_and_is_returned(model: Any) -> None:
    first = model.generate("Hi", **FREE)

    again = model.generate("Hi", seed=first.seed, **FREE)
    other = model.generate("Hi", seed=first.seed ^ 1, **FREE)

    np.testing.assert_array_equal(first.token_ids, again.token_ids)
    assert first.token_ids.tolist() != other.token_ids.tolist()


def test_greedy_takes_the_largest_logit_at_every_position(model: Any) -> None:
    result = model.generate("Hi", temperature=0, **FREE)

    ids = np.concatenate([result.prompt_token_ids, result.token_ids])
    logits = model.logits(ids)[result.prompt_token_ids.size - 1 : -1]
    logits[:, list(model._parts.banned)] = -np.inf
    np.testing.assert_array_equal(result.token_ids, logits.argmax(axis=1))


def test_logprobs_are_those_of_the_model_whatever_the_sampling(model: Any) -> None:
    result = model.generate("Hi", temperature=0.7, top_k=5, seed=1, logprobs=4, **FREE)

    ids = np.concatenate([result.prompt_token_ids, result.token_ids])
    read = model.logprobs(ids, top=4)
    begin = result.prompt_token_ids.size
    np.testing.assert_array_equal(result.logprobs, read.logprobs[begin:])
    np.testing.assert_array_equal(result.top_ids, read.top_ids[begin:])
    np.testing.assert_array_equal(result.top_logprobs, read.top_logprobs[begin:])
    logits = model.logits(ids)[begin - 1 : -1].astype(np.float64)
    normal = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = normal[np.arange(12), result.token_ids]
    np.testing.assert_allclose(result.logprobs, expected, atol=4e-6)
    assert read.perplexity == pytest.approx(math.exp(-read.total / (ids.size - 1)))


def test_max_tokens_and_the_end_of_the_context_cut(load: Load) -> None:
    model = load(context=40)

    by_tokens = model.generate([2, 5], max_new_tokens=3, ignore_stops=True)
    by_context = model.generate([2, 5], ignore_stops=True)
    last_place = model.generate([2] * 39, ignore_stops=True)

    assert (by_tokens.finish_reason, by_tokens.stop_reason) == ("length", "max_tokens")
    assert (by_context.finish_reason, by_context.stop_reason) == ("length", "context")
    assert by_context.cut_in == "answer"
    assert by_context.token_ids.size == 38
    assert last_place.token_ids.size == 1


def test_a_stop_token_ends_the_answer_and_is_not_in_its_text(model: Any) -> None:
    free = model.generate("Hi", seed=2, **FREE)
    stop = int(free.token_ids[4])
    first = free.token_ids.tolist().index(stop)

    result = model.generate("Hi", seed=2, max_tokens=12, stop_token_ids=[stop])

    assert (result.finish_reason, result.stop_reason) == ("stop", stop)
    assert result.token_ids.tolist() == free.token_ids[: first + 1].tolist()
    assert result.text == model.decode(free.token_ids[:first])


def test_the_model_s_own_stops_end_the_answer(model: Any) -> None:
    stop = model.stop_token_ids[0]

    result = model.generate("Hi", logit_bias={stop: 1e9}, temperature=0)

    assert result.token_ids.tolist() == [stop]
    assert (result.finish_reason, result.stop_reason, result.text) == ("stop", stop, "")
    assert result.usage.control_tokens == 1


def test_a_stop_string_over_several_tokens_ends_the_answer_before_it(model: Any) -> None:
    free = model.generate("Hi", seed=2, max_tokens=30, ignore_stops=True)
    assert len(free.text) > 9
    stop = free.text[5:8]
    cut = free.text.index(stop)

    result = model.generate("Hi", seed=2, max_tokens=30, stop=[stop, "never there"])

    assert result.text == free.text[:cut]
    assert (result.finish_reason, result.stop_reason) == ("stop", stop)
    size = result.token_ids.size
    np.testing.assert_array_equal(result.token_ids, free.token_ids[:size])


def test_a_bias_bans_and_prefers(model: Any) -> None:
    best = int(model.generate("Hi", temperature=0, max_tokens=1).token_ids[0])

    banned = model.generate("Hi", temperature=0, max_tokens=1, logit_bias={best: -math.inf})
    wanted = int(model.encode("a")[0])
    preferred = model.generate("Hi", max_tokens=3, logit_bias={wanted: 1e6}, ignore_stops=True)

    assert int(banned.token_ids[0]) != best
    assert preferred.token_ids.tolist() == [wanted] * 3


def test_a_repetition_penalty_changes_what_was_said_before(model: Any) -> None:
    plain = model.generate("Hi", temperature=0, max_tokens=40, ignore_stops=True)

    punished = model.generate(
        "Hi", temperature=0, max_tokens=40, ignore_stops=True, repetition_penalty=10
    )

    assert len(set(punished.token_ids.tolist())) > len(set(plain.token_ids.tolist()))


def test_suppressed_tokens_are_never_drawn(load: Load, demo_folder: Path, tmp_path: Path) -> None:
    for path in demo_folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    best = int(load().generate("Hi", temperature=0, max_tokens=1).token_ids[0])
    generation = json.loads((demo_folder / "generation_config.json").read_text())
    generation["suppress_tokens"] = [*generation.get("suppress_tokens", ()), best][-200:]
    (tmp_path / "generation_config.json").unlink()
    (tmp_path / "generation_config.json").write_text(json.dumps(generation))

    result = load(tmp_path).generate("Hi", temperature=0, max_tokens=1)

    assert int(result.token_ids[0]) != best


def test_a_result_has_every_number_one_asks_for(model: Any) -> None:
    result = model.generate("Hi", seed=5, temperature=0.5, **FREE)

    assert result.usage.total_tokens == result.prompt_token_ids.size + 12
    assert result.usage.answer_tokens + result.usage.control_tokens == 12
    assert result.timings.first_token_s == pytest.approx(
        result.timings.queue_s + result.timings.prefill_s
    )
    assert result.timings.decode_tokens_per_s > 0
    assert result.settings["temperature"] == 0.5
    assert result.settings["top_k"] == model._parts.defaults.top_k
    assert result.manifest.fingerprint == model.fingerprint
    assert len(model.fingerprint) == 64
    assert result.raw_text == model.decode(result.token_ids, special=True)
    assert result.text == model.decode(result.token_ids)
    assert (result.thinking, result.tool_calls, result.error) == (None, (), None)
    json.dumps(result.to_dict(), allow_nan=False)


def test_on_error_return_keeps_the_others(model: Any) -> None:
    results = model.generate(["fine", [], "fine too"], on_error="return", seed=1, **FREE)

    assert [result.finish_reason for result in results] == ["length", "error", "length"]
    assert isinstance(results[1].error, cabochon.errors.InvalidArgument)
    assert "prompt 1" in str(results[1].error)
    np.testing.assert_array_equal(
        results[2].token_ids, model.generate("fine too", seed=1, **FREE).token_ids
    )


def test_continue_final_goes_on_with_what_the_assistant_said(model: Any) -> None:
    begun = [*MESSAGES, {"role": "assistant", "content": "Because"}]

    result = model.generate(begun, continue_final=True, **FREE)

    assert result.prompt_token_ids.size > 0
    assert model.decode(result.prompt_token_ids).endswith("Because")
    with pytest.raises(cabochon.errors.InvalidArgument, match="continue_final"):
        model.generate(begun)
    with pytest.raises(cabochon.errors.InvalidArgument, match="no list of messages"):
        model.generate("Hi", continue_final=True)


def test_assistant_tokens_of_a_conversation_are_marked(model: Any) -> None:
    talk = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello you"},
        {"role": "user", "content": "Bye"},
    ]

    read = model.logprobs(talk)

    said = model.decode(read.token_ids[read.is_assistant], special=True)
    assert said == "Hello you<turn|>"
    assert np.isnan(read.logprobs[0])
    assert not np.isnan(read.logprobs[1:]).any()


def test_logits_take_positions_in_any_order(model: Any) -> None:
    ids = [2, 9, 14, 9, 30]
    every = model.logits(ids)

    assert every.shape == (5, model.vocab_size)
    np.testing.assert_array_equal(model.logits(ids, positions="last"), every[-1:])
    np.testing.assert_array_equal(model.logits(ids, positions=[3, 0, 3]), every[[3, 0, 3]])
    assert [row.shape[0] for row in model.logits([ids, ids[:2]])] == [5, 2]
    text = model.logits("Hi", positions="last")
    with_bos = model.logits([*model.encode("Hi", bos=True)], positions="last")
    np.testing.assert_array_equal(text, with_bos)


def test_encode_and_decode_are_each_other_s_inverse(model: Any) -> None:
    text = "naïve 🚀 <|turn>\n\ttwo  spaces"

    assert model.decode(model.encode(text)) == text
    assert [model.decode(ids) for ids in model.encode(["a", "b"])] == ["a", "b"]


def test_a_loaded_model_says_what_it_is(model: Any) -> None:
    info = model.info()

    assert len(info.layers) == len(model._parts.config.plan.layers)
    assert info.parameters == sum(row.parameters for row in model.plan.rows)
    assert model.plan.fits
    assert "sliding" in str(info)
    json.dumps(info.to_dict())
    json.dumps(model.plan.to_dict())


def test_progress_of_a_list_and_of_a_prompt_reaches_a_callable(model: Any) -> None:
    stages = set()

    def note(progress: Any) -> None:
        stages.add((progress.stage, progress.unit, progress.done == progress.total))

    model.generate(["a", "b"], progress=note, **FREE)
    model.generate("a", progress=note, **FREE)

    assert ("generate", "prompts", True) in stages
    assert ("prompt", "tokens", True) in stages
