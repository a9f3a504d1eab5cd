from __future__ import annotations

import pytest

from cabochon.errors import InvalidArgument, Unsupported
from cabochon.policy import CLASSES, exact_classes, resolve


def test_names_stand_for_whole_policies():
    assert resolve("auto") == resolve("bf16") == {}
    assert resolve("int8") == dict.fromkeys(CLASSES, "int8")
    assert resolve("int4")["mlp"] == "int4"


@pytest.mark.parametrize("name", ["int4", "int4-searched", "int4-absmax"])
def test_int4_has_three_ways_to_choose_scales_and_one_head(name):
    chosen = resolve(name)

    assert {chosen[c] for c in ("attention", "mlp", "experts")} == {name}
    assert {chosen[c] for c in ("head", "per_layer")} == {"int8"}
    assert resolve({"default": "bf16", "mlp": name}) == {"mlp": name}


def test_what_is_sensitive_never_goes_below_int8():
    assert resolve("int4")["per_layer"] == "int8"
    assert "router" not in resolve("int4")


def test_a_mapping_sets_classes_apart_and_bf16_takes_one_out():
    chosen = resolve({"default": "int4", "head": "bf16", "attention": "int8"})

    assert chosen == {"mlp": "int4", "experts": "int4", "attention": "int8", "per_layer": "int8"}


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("auto", {*CLASSES}),
        ("int4", {*CLASSES}),
        ("int8", set()),
        ("bf16", set()),
        ({"mlp": "bf16"}, {*CLASSES} - {"mlp"}),
        ({"default": "int8", "head": "int4"}, {"head"}),
        ({"default": "int4", "head": "int8"}, {*CLASSES} - {"head"}),
    ],
)
def test_codes_of_training_are_kept_where_no_other_format_is_asked_for(weights, expected):
    assert exact_classes(weights) == expected


@pytest.mark.parametrize(
    ("weights", "error", "words"),
    [
        ("int3", InvalidArgument, "int3"),
        (4, InvalidArgument, "4"),
        ({"mlp": "int2"}, InvalidArgument, "'mlp': 'int2'"),
        ({"router": "int8"}, InvalidArgument, "router"),
        ({"per_layer": "int4"}, InvalidArgument, "per_layer"),
        ({"default": "fp16"}, InvalidArgument, "fp16"),
        ({"vision": "int8"}, Unsupported, "vision"),
    ],
)
def test_another_word_is_refused_with_what_there_is(weights, error, words):
    with pytest.raises(error, match=words):
        resolve(weights)
