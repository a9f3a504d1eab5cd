"""Every range of generate and load: what is wrong is refused with both values."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from cabochon import options
from cabochon.errors import InvalidArgument, Unsupported
from cabochon.options import GenerateOptions, LoadOptions, SamplingDefaults

GENERATE: dict[str, Any] = {
    "max_tokens": None, "max_new_tokens": None, "stop": (), "stop_token_ids": (),
    "temperature": None, "top_p": None, "top_k": None, "min_p": 0.0, "repetition_penalty": 1.0,
    "logit_bias": None, "seed": None, "logprobs": False, "tools": (), "tool_choice": "auto",
    "parallel_tool_calls": True, "strict_tools": None, "thinking": False, "thinking_budget": None,
    "preserve_thinking": False, "schema": None, "regex": None, "choices": None, "grammar": None,
    "image_tokens": 280, "raw": False, "continue_final": False,
    "allow_special_tokens_in_content": False, "adapter": None, "ignore_stops": False,
    "on_error": "raise",
}  # fmt: skip
LOAD: dict[str, Any] = {
    "weights": "auto", "kv": "auto", "device": "auto", "context": options.DefaultContext(8192),
    "max_sequences": 16, "threads": None, "per_layer_embeddings": "auto", "adapter": None,
    "drafter": None, "revision": None, "memory_limit": None, "arithmetic": "exact",
    "allow_custom_template": False,
}  # fmt: skip


def generate(**given: Any) -> GenerateOptions:
    return options.check_generate(
        {**GENERATE, **given}, defaults=SamplingDefaults(), vocab_size=1000, context=512
    )


def load(**given: Any) -> LoadOptions:
    return options.check_load({**LOAD, **given})


def test_what_is_not_given_takes_the_published_values() -> None:
    found = generate()

    assert (found.temperature, found.top_p, found.top_k, found.max_tokens) == (1.0, 0.95, 64, None)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("temperature", math.nan, "from 0 up to 100"),
        ("temperature", -0.1, "from 0 up to 100"),
        ("temperature", 100.5, "from 0 up to 100"),
        ("temperature", "hot", "from 0 up to 100"),
        ("temperature", True, "from 0 up to 100"),
        ("top_p", 1.01, "from 0 up to 1"),
        ("top_p", math.nan, "from 0 up to 1"),
        ("min_p", -1, "from 0 up to 1"),
        ("top_k", 1001, "from 0 to 1,000"),
        ("top_k", 2.0, "from 0 to 1,000"),
        ("repetition_penalty", 0, "above 0 and up to 10"),
        ("repetition_penalty", math.inf, "above 0 and up to 10"),
        ("max_tokens", 0, "from 1 to"),
        ("max_tokens", True, "an integer"),
        ("max_new_tokens", -3, "from 1 to"),
        ("logprobs", 257, "from 1 to 256"),
        ("logprobs", 0, "from 1 to 256"),
        ("seed", -1, "from 0 to 18,446,744,073,709,551,615"),
        ("seed", 2**64, "from 0 to 18,446,744,073,709,551,615"),
        ("seed", 0.5, "an integer"),
        ("stop", [""], "1 to 1,024 bytes"),
        ("stop", ["x" * 1025], "1 to 1,024 bytes"),
        ("stop", ["x"] * 65, "up to 64"),
        ("stop", 5, "a string"),
        ("stop_token_ids", [1000], "from 0 to 999"),
        ("stop_token_ids", [0] * 257, "up to 256"),
        ("logit_bias", {1000: 1.0}, "from 0 to 999"),
        ("logit_bias", {5: math.nan}, "a number"),
        ("logit_bias", {5: math.inf}, "a number"),
        ("logit_bias", [(5, 1.0)], "a mapping"),
        ("image_tokens", 281, "70, 140, 280, 560, 1120"),
        ("on_error", "ignore", "'raise', 'return'"),
        ("raw", 1, "True or False"),
    ],
)
def test_a_value_out_of_range_is_refused_with_what_was_expected(
    name: str, value: Any, expected: str
) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(expected)) as caught:
        generate(**{name: value})

    assert caught.value.argument is not None
    assert caught.value.argument.startswith(name) or name == "logit_bias"


def test_the_edges_of_the_ranges_are_accepted() -> None:
    found = generate(
        temperature=100, top_p=0, top_k=1000, min_p=1, repetition_penalty=10, logprobs=256,
        seed=2**64 - 1, stop=["x" * 1024] * 64, logit_bias={0: -math.inf, 999: 3},
    )  # fmt: skip

    assert found.logit_bias == ((0, -math.inf), (999, 3.0))
    assert found.seeds(2) == [2**64 - 1] * 2
    assert found.top == 256


def test_numbers_of_numpy_are_numbers() -> None:
    found = generate(max_tokens=np.int64(5), temperature=np.float32(0.5), seed=np.arange(3))

    assert (found.max_tokens, found.temperature, found.seeds(3)) == (5, 0.5, [0, 1, 2])


def test_max_tokens_and_its_alias_exclude_each_other() -> None:
    assert generate(max_new_tokens=7).max_tokens == 7
    with pytest.raises(InvalidArgument, match=r"max_tokens is 5 .* max_new_tokens 6"):
        generate(max_tokens=5, max_new_tokens=6)


def test_seeds_are_one_for_all_one_for_each_or_fresh() -> None:
    assert generate(seed=7).seeds(2) == [7, 7]
    assert generate(seed=range(2)).seeds(2) == [0, 1]
    assert len(set(generate().seeds(4))) == 4
    with pytest.raises(InvalidArgument, match="3 entries, expected 2"):
        generate(seed=[1, 2, 3]).seeds(2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("adapter", "a"),
    ],
)  # fmt: skip
def test_what_is_to_come_says_so(name: str, value: Any) -> None:
    with pytest.raises(Unsupported, match=f"{name} is to come"):
        generate(**{name: value})


def test_a_thought_can_be_asked_for_and_given_a_budget() -> None:
    assert generate(thinking=True).settings()["thinking"] is True
    assert generate().thinking is False
    assert generate(thinking=True, thinking_budget=0).settings()["thinking_budget"] == 0
    with pytest.raises(InvalidArgument, match="thinking_budget is -1, expected an integer from 0"):
        generate(thinking=True, thinking_budget=-1)
    with pytest.raises(InvalidArgument, match="thinking is 1, expected True or False"):
        generate(thinking=1)


def test_two_constraints_and_a_budget_without_thinking_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="schema and regex are given"):
        generate(schema={}, regex="a")
    with pytest.raises(InvalidArgument, match="thinking_budget is 5 without"):
        generate(thinking_budget=5)


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("do_sample", "temperature=0 is greedy"),
        ("n", "seed=range"),
        ("enable_thinking", "thinking="),
        ("frequency_penalty", "repetition_penalty"),
        ("max_token", "did you mean max_tokens"),
        ("xyzzy", "it takes max_tokens"),
    ],
)
def test_an_unknown_keyword_is_answered_with_the_right_one(word: str, advice: str) -> None:
    with pytest.raises(InvalidArgument, match=advice) as caught:
        options.refuse_unknown("generate", {word: 1}, GENERATE)

    assert caught.value.argument == word


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights", {"vision": "int8"}), ("device", "cuda"),
        ("device", "cuda:1"), ("per_layer_embeddings", "device"),
        ("adapter", "folder"), ("drafter", "auto"),
    ],
)  # fmt: skip
def test_formats_and_devices_that_are_to_come_say_so(name: str, value: Any) -> None:
    with pytest.raises(Unsupported, match=r"to come|is there"):
        load(**{name: value})


@pytest.mark.parametrize(
    ("weights", "asked", "place"),
    [
        ("auto", "auto", "disk"), ("int4", "disk", "disk"), ("int4", "memory", "memory"),
        ({"per_layer_table": "int8"}, "auto", "memory"),
        ({"per_layer_table": "int8"}, "memory", "memory"),
        ({"per_layer_table": "int4"}, "disk", "disk"),
        ({"per_layer_table": "bf16"}, "auto", "disk"),
    ],
)  # fmt: skip
def test_the_per_layer_table_stays_on_disk_unless_it_is_rounded_or_asked_into_memory(
    weights: Any, asked: str, place: str
) -> None:
    assert load(weights=weights, per_layer_embeddings=asked).per_layer_table == place


def test_changed_options_are_checked_like_the_first() -> None:
    given = load(weights="int4", context=77)

    changed = given.changed(kv="f32")

    assert (changed.kv, changed.context, changed.weights) == ("f32", 77, "int4")
    assert given.changed() == given
    with pytest.raises(InvalidArgument, match="kv is 'fp8'"):
        given.changed(kv="fp8")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights", "q4_k_m"), ("kv", "fp8"), ("device", "tpu"), ("context", 0), ("context", 1.5),
        ("max_sequences", 0), ("max_sequences", 4097), ("threads", 0), ("threads", 1025),
        ("memory_limit", "lots"), ("memory_limit", 0), ("memory_limit", "6 parsecs"),
        ("revision", 5), ("allow_custom_template", "yes"), ("per_layer_embeddings", "ssd"),
    ],
)  # fmt: skip
def test_an_option_of_load_out_of_range_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"{name} is ") as caught:
        load(**{name: value})

    assert caught.value.argument == name


@pytest.mark.parametrize(
    ("text", "count"),
    [("6GiB", 6 * 2**30), ("1.5 MB", 1_500_000), ("100", 100), (7, 7), ("2kib", 2048)],
)
def test_a_memory_limit_is_bytes_or_text_with_a_unit(text: str | int, count: int) -> None:
    assert load(memory_limit=text).memory_limit == count


def test_only_the_default_context_is_lowered_to_the_checkpoint_s() -> None:
    assert options.context_for(load().context, 1024) == 1024
    assert options.context_for(load().context, 100_000) == 8192
    assert options.context_for(load(context=1024).context, 1024) == 1024
    with pytest.raises(InvalidArgument, match=r"context is 8192, expected at most 1,024"):
        options.context_for(load(context=8192).context, 1024)
