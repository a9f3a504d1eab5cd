"""Every mistake is a typed error that names the place and both values; the model stays usable."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cabochon
from cabochon.errors import (
    CabochonWarning,
    CheckpointError,
    ContextOverflow,
    InvalidArgument,
    NumericalError,
    OutOfMemory,
    Unsupported,
)

Load = Callable[..., Any]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", "not empty"),
        ([], "not empty"),
        (np.array([], np.int32), "not empty"),
        (np.array([1.0, 2.0]), "float64"),
        (np.array([[1, 2]]), r"\[1, 2\] of int64"),
        ([1.0, 2.0], r"prompt\[0\] is 1.0, expected integers from 0"),
        ([1, float("nan")], r"prompt\[1\] is nan"),
        ([1, True], r"prompt\[1\] is True"),
        ([5, -1], r"prompt\[1\] is -1"),
        ([5, 10**30], r"prompt\[1\] is 1000"),
        (np.array([5, 2**40]), r"prompt\[1\] is .*1099511627776"),
        (17, "prompt is int"),
        (None, "prompt is NoneType"),
        ({"role": "user"}, "prompt is dict"),
        (["fine", 3], "prompt 1: prompt is int"),
        (["fine", ""], "prompt 1: .*not empty"),
        (["fine", [5, -1]], r"prompt 1: prompt\[1\] is -1"),
        ([[]], "prompt 0: .*empty"),
        ([{"role": "pirate", "content": "x"}], "pirate"),
        ([{"role": "user"}], "content"),
        ("half \ud800 a pair", "surrogate"),
    ],
)
def test_a_prompt_that_is_none_is_refused_with_its_place(
    model: Any, prompt: Any, expected: str
) -> None:
    with pytest.raises(InvalidArgument, match=expected):
        model.generate(prompt, max_tokens=1)

    assert model._scheduler.unfinished == []


def test_images_are_to_come(model: Any) -> None:
    message = {"role": "user", "content": [{"type": "image", "path": "x.png"}]}

    with pytest.raises(Unsupported, match="image"):
        model.generate([message])


def test_a_prompt_longer_than_the_context_says_both_lengths(load: Load) -> None:
    model = load(context=32)

    with pytest.raises(ContextOverflow, match=r"32 tokens.*at most 32") as caught:
        model.generate([5] * 32)
    assert (caught.value.tokens, caught.value.context) == (32, 32)
    with pytest.raises(ContextOverflow, match="bytes"):
        model.generate("x" * 100_000)
    with pytest.raises(ContextOverflow, match="33 tokens"):
        model.logits([5] * 33)
    assert model.logits([5] * 32, positions="last").shape[0] == 1


@pytest.mark.parametrize(
    ("word", "advice"),
    [("do_sample", "greedy"), ("max_token", "max_tokens"), ("num_beams", "beam search")],
)
def test_words_of_other_libraries_are_answered(model: Any, word: str, advice: str) -> None:
    with pytest.raises(InvalidArgument, match=advice):
        model.generate("Hi", **{word: 1})


def test_unknown_keywords_of_load_are_answered(demo_folder: Path) -> None:
    with pytest.raises(InvalidArgument, match="write context="):
        cabochon.load(demo_folder, n_ctx=512)  # type: ignore[call-arg]
    with pytest.raises(InvalidArgument, match="did you mean threads"):
        cabochon.load(demo_folder, thread=2)  # type: ignore[call-arg]


def test_a_context_above_the_checkpoint_s_is_refused(demo_folder: Path) -> None:
    with pytest.raises(InvalidArgument, match="context is 10000000, expected at most"):
        cabochon.load(demo_folder, context=10_000_000)


def test_what_does_not_fit_is_refused_with_a_plan_before_weights_are_read(
    demo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cabochon import loading

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the engine was made")

    monkeypatch.setattr(loading._core, "Engine", never)
    with pytest.raises(OutOfMemory, match=r"needs .*; 10\.0 KiB is available") as caught:
        cabochon.load(demo_folder, memory_limit=10_240)

    assert isinstance(caught.value.plan, cabochon.Plan)
    assert not caught.value.plan.fits
    assert caught.value.plan.available_bytes == 10_240
    assert "does not fit" in caught.value.plan.table()


def test_a_limit_leaves_room_for_fewer_sequences_and_the_same_results(load: Load) -> None:
    roomy = load(context=512)
    one = roomy.plan.host_bytes + roomy.plan.mapped_bytes - roomy.plan.kv_bytes
    per_sequence = roomy.plan.kv_bytes // 16
    tight = load(context=512, memory_limit=one + 2 * per_sequence)

    assert tight.plan.sequences_that_fit == 2
    prompts = [[2, 30 + i] for i in range(5)]
    for a, b in zip(
        tight.generate(prompts, max_tokens=5, seed=1),
        roomy.generate(prompts, max_tokens=5, seed=1),
        strict=True,
    ):
        np.testing.assert_array_equal(a.token_ids, b.token_ids)
    with pytest.raises(OutOfMemory, match=r"load with context=\d+") as caught:
        load(context=512, memory_limit=one + per_sequence // 2)
    largest = caught.value.plan.largest_context
    assert 0 < largest < 512
    assert load(context=largest, memory_limit=one + per_sequence // 2).plan.fits


def test_logits_over_4_gib_are_refused_before_anything_is_computed(model: Any) -> None:
    prompts = [[5] * 4000] * (2**32 // (4 * model.vocab_size * 4000) + 1)

    with pytest.raises(OutOfMemory, match=r"take 4\.0 GiB, expected at most 4 GiB"):
        model.logits(prompts)

    assert model._scheduler.unfinished == []


@pytest.mark.parametrize("positions", [[3], [-1], [], "first", 1.5, [0.0], [True]])
def test_positions_that_are_none_are_refused(model: Any, positions: Any) -> None:
    with pytest.raises(InvalidArgument, match="positions"):
        model.logits([5, 6, 7], positions=positions)


def test_bos_is_true_false_or_auto(model: Any, load: Load, base_folder: Path) -> None:
    with pytest.raises(InvalidArgument, match="bos is 'yes'"):
        model.logprobs("Hi", bos="yes")
    bos = model.encode("", bos=True)
    assert model.logprobs([5, 6], bos=True).token_ids.tolist() == [*bos, 5, 6]
    base = load(base_folder)
    assert base.logprobs("Hi", bos=False).token_ids.tolist() == base.encode("Hi").tolist()
    assert base.logprobs("Hi").token_ids.tolist() == base.encode("Hi", bos=True).tolist()


@pytest.mark.parametrize("name", ["logprobs", "logits"])
def test_a_keyword_that_reading_does_not_take_is_refused(model: Any, name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"{name}: unknown keyword 'boss': did you mean bos"):
        getattr(model, name)([5], boss=True)


def test_logprobs_of_raw_text_warn_where_the_model_is_instruction_tuned(
    model: Any, load: Load, base_folder: Path
) -> None:
    message = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]

    with pytest.warns(CabochonWarning, match="says little of it") as caught:
        found = model.logprobs(["Hi", "Hello"])

    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert found[0].token_ids.tolist() == model.encode("Hi", bos=True).tolist()
    # Warnings are errors in tests: none here.
    model.logprobs([message, [5, 6], model.render(message[:1])])
    load(base_folder).logprobs("Hi")


def test_one_token_has_no_log_probability(model: Any) -> None:
    found = model.logprobs([5])

    assert np.isnan(found.logprobs).all()
    assert found.total == 0.0
    assert np.isnan(found.perplexity)


@pytest.mark.parametrize("ids", [[-1], [10**9], [1.5], ["a"], [True]])
def test_ids_that_are_none_are_not_decoded(model: Any, ids: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"ids\[0\] is"):
        model.decode(ids)


def test_after_close_every_use_is_refused_and_closing_twice_is_fine(demo_folder: Path) -> None:
    model = cabochon.load(demo_folder)
    kept = model.logits([5, 6])
    unfinished = model.stream("Hi")
    model.close()
    model.close()

    for use in (
        lambda: model.generate("Hi"),
        lambda: model.stream("Hi"),
        lambda: next(unfinished),
        lambda: model.logits([5]),
        lambda: model.logprobs([5]),
        lambda: model.score([5], [[5]]),
        lambda: model.encode("a"),
        lambda: model.decode([5]),
        lambda: model.render([{"role": "user", "content": "a"}]),
        lambda: model.info(),
        lambda: model.__enter__(),
    ):
        with pytest.raises(InvalidArgument, match="closed"):
            use()
    assert np.isfinite(kept).all()
    assert "closed" in repr(model)


def test_closing_in_the_middle_of_a_stream_ends_it_with_closed(demo_folder: Path) -> None:
    model = cabochon.load(demo_folder)
    stream = model.stream("Hi", max_tokens=50, ignore_stops=True)
    next(stream)

    model.close()

    with pytest.raises(InvalidArgument, match="closed"):
        list(stream)


def test_functions_that_are_to_come_say_so() -> None:
    with pytest.raises(Unsupported, match="to come"):
        cabochon.doctor()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("inspect", ("a",)), ("compare", (None,)), ("verify", ()),
    ],
)  # fmt: skip
def test_methods_that_are_to_come_say_so(model: Any, name: str, arguments: tuple[Any]) -> None:
    with pytest.raises(Unsupported, match=f"{name} is to come"):
        getattr(model, name)(*arguments)


def test_a_model_is_refused_in_a_forked_child_and_goes_on_in_the_parent(model: Any) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            model.generate("Hi", max_tokens=1)
            answer = "it ran"
        except Unsupported as error:
            answer = str(error)
        except BaseException as error:
            answer = repr(error)
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)

    with os.fdopen(read) as pipe:
        answer = pipe.read()

    assert f"process {os.getpid()}" in answer
    assert "spawn" in answer
    assert model.generate("Hi", max_tokens=1).usage.output_tokens == 1


def test_nan_in_the_logits_ends_its_own_sequence_alone(
    load: Load, demo_folder: Path, tmp_path: Path
) -> None:
    for path in demo_folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    weights = bytearray((demo_folder / "model.safetensors").read_bytes())
    poison_embedding(weights, token=40)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").write_bytes(weights)
    model = load(tmp_path)

    results = model.generate(
        [[5, 6], [5, 40], [6, 7]], max_tokens=3, seed=1, on_error="return", logit_bias={40: -1e9}
    )

    # The embedding is the head too: a row of NaN makes every logit of token 40 NaN.
    assert [type(result.error) for result in results] == [NumericalError] * 3
    assert "NaN" in str(results[1].error)
    assert model._scheduler.unfinished == []


def poison_embedding(weights: bytearray, token: int) -> None:
    """Makes one row of the embedding NaN (bf16 0x7FC0)."""
    import json

    size = int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8 : 8 + size])
    name = next(key for key in header if key.endswith("embed_tokens.weight"))
    assert header[name]["dtype"] == "BF16"
    row = 2 * header[name]["shape"][1]
    begin = 8 + size + header[name]["data_offsets"][0] + token * row
    weights[begin : begin + row] = b"\xc0\x7f" * (row // 2)


def test_a_failed_load_leaves_no_thread_and_no_open_file(demo_folder: Path, tmp_path: Path) -> None:
    for path in demo_folder.iterdir():
        if path.name != "config.json":
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "config.json").write_text("{")

    def state() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    with pytest.raises(CheckpointError):
        cabochon.load(tmp_path)
    with pytest.raises(OutOfMemory):
        cabochon.load(demo_folder, memory_limit=1)
    before = state()
    for _ in range(20):
        with pytest.raises(CheckpointError):
            cabochon.load(tmp_path)
        with pytest.raises(OutOfMemory):
            cabochon.load(demo_folder, memory_limit=1)

    assert state() == before
