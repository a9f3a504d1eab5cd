"""Plans of the published models, both spellings, and every contradiction by name."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

import qat
from cabochon.checkpoint import read_json
from cabochon.config import LayerPlan, read_config, read_generation_config
from cabochon.errors import CheckpointError, Unsupported

CONFIGS = Path(__file__).parents[2] / "data" / "configs"

# hidden, layers, every how many one is full, heads, (kv heads, head_dim) of sliding and of full
# layers, window, dense MLP, context
GEMMA4 = {
    "E2B": (1536, 35, 5, 8, (1, 256), (1, 512), 512, 6144, 131_072),
    "E4B": (2560, 42, 6, 8, (2, 256), (2, 512), 512, 10_240, 131_072),
    "12B": (3840, 48, 6, 16, (8, 256), (1, 512), 1024, 15_360, 262_144),
    "26B-A4B": (2816, 30, 6, 16, (8, 256), (2, 512), 1024, 2112, 262_144),
    "31B": (5376, 60, 6, 32, (16, 256), (4, 512), 1024, 21_504, 262_144),
}
# hidden, layers, heads, kv heads, head_dim, query scalar, window, factor, MLP, context, vocab
GEMMA3 = {
    "270m": (640, 18, 4, 1, 256, 256, 512, 1.0, 2048, 32_768, 262_144),
    "1b": (1152, 26, 4, 1, 256, 256, 512, 1.0, 6912, 32_768, 262_144),
    "4b": (2560, 34, 8, 4, 256, 256, 1024, 8.0, 10_240, 131_072, 262_208),
    "12b": (3840, 48, 16, 8, 256, 256, 1024, 8.0, 15_360, 131_072, 262_208),
    "27b": (5376, 62, 32, 16, 128, 168, 1024, 8.0, 21_504, 131_072, 262_208),
}


def load(name: str) -> dict:
    return json.loads((CONFIGS / f"{name}.json").read_text())


def small(family: str = "gemma4", **text) -> dict:
    """Six layers, the last two sharing keys in Gemma 4; `text` overrides, `...` removes."""
    keys = {
        "model_type": f"{family}_text",
        "hidden_size": 64,
        "num_hidden_layers": 6,
        "intermediate_size": 96,
        "vocab_size": 512,
    }
    if family == "gemma4":
        pattern = ["sliding_attention", "full_attention"] * 3
        keys |= {"vocab_size_per_layer_input": 512, "layer_types": pattern}
        keys |= {"num_kv_shared_layers": 2}
    if family == "gemma4_unified":
        keys |= {"global_head_dim": 512}
    return {key: value for key, value in (keys | text).items() if value is not ...}


def fails(config: dict, key: str, *values: object) -> None:
    """read_config refuses it, naming file and key, and the text has the values."""
    with pytest.raises(CheckpointError) as caught:
        read_config(config, file="some/config.json")

    text = str(caught.value)
    assert caught.value.key == key
    assert caught.value.file == "some/config.json"
    assert text.startswith(f"some/config.json: {key} ")
    for value in values:
        assert str(value) in text


@pytest.mark.parametrize("spelling", [".", "transformers_spelling"])
@pytest.mark.parametrize("name", GEMMA4)
def test_a_gemma_4_config_gives_the_published_plan(name, spelling):
    hidden, layers, every, heads, sliding, full, window, ffn, context = GEMMA4[name]
    shared = {"E2B": 20, "E4B": 18}.get(name, 0)
    large = name in ("12B", "26B-A4B", "31B")

    config = read_config(load(f"{spelling}/gemma-4-{name}"))

    plan = config.plan
    assert (config.family, config.context, config.defaulted) == ("gemma4", context, ())
    assert (plan.hidden, plan.vocab, len(plan.layers)) == (hidden, 262_144, layers)
    assert (plan.norm_epsilon, plan.norm_offset, plan.layer_scalars) == (1e-6, 0.0, True)
    assert plan.logit_softcap == 30.0
    assert plan.per_layer_vocab == (0 if large else 262_144)
    assert plan.first_shared == layers - shared
    for i, layer in enumerate(plan.layers):
        is_full = i % every == every - 1
        donor = {"E2B": (13, 14), "E4B": (22, 23)}.get(name, (0, 0))[is_full]
        assert layer == LayerPlan(
            kv_source=i if i < layers - shared else donor,
            window=0 if is_full else window,
            heads=heads,
            kv_heads=(full if is_full else sliding)[0],
            head_dim=(full if is_full else sliding)[1],
            rope_theta=1e6 if is_full else 1e4,
            rope_scaling=1.0,
            rope_pairs=64 if is_full else 128,
            score_scale=1.0,
            value_norm=True,
            values_from_keys=large and is_full,
            block_attention=large and not is_full,
            ffn=ffn * (2 if name == "E2B" and i >= 15 else 1),
            experts=128 if name == "26B-A4B" else 0,
            experts_per_token=8 if name == "26B-A4B" else 0,
            expert_ffn=704 if name == "26B-A4B" else 0,
            per_layer_input=0 if large else 256,
        ), f"layer {i}"


@pytest.mark.parametrize("name", GEMMA3)
def test_a_gemma_3_config_gives_the_published_plan(name):
    hidden, layers, heads, kv_heads, head_dim, scalar, window, factor, ffn, context, vocab = GEMMA3[
        name
    ]

    config = read_config(load(f"gemma-3-{name}"))

    plan = config.plan
    assert (config.family, config.context) == ("gemma3", context)
    assert (plan.hidden, plan.vocab, len(plan.layers)) == (hidden, vocab, layers)
    assert (plan.norm_epsilon, plan.norm_offset, plan.layer_scalars) == (1e-6, 1.0, False)
    assert (plan.logit_softcap, plan.per_layer_vocab, plan.first_shared) == (0.0, 0, layers)
    for i, layer in enumerate(plan.layers):
        is_full = i % 6 == 5  # the last layer is not forced: only 270M and 12B end in a full one
        assert layer == LayerPlan(
            kv_source=i,
            window=0 if is_full else window,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            rope_theta=1e6 if is_full else 1e4,
            rope_scaling=factor if is_full else 1.0,
            rope_pairs=head_dim // 2,
            score_scale=1 / math.sqrt(scalar),
            value_norm=False,
            values_from_keys=False,
            block_attention=False,
            ffn=ffn,
            experts=0,
            experts_per_token=0,
            expert_ffn=0,
            per_layer_input=0,
        ), f"layer {i}"


@pytest.mark.parametrize(
    ("name", "modalities", "eos"),
    [
        ("gemma-4-E2B", ("text", "image", "audio"), (1, 106)),
        ("gemma-4-31B", ("text", "image"), (1, 106)),
        ("gemma-3-4b", ("text", "image"), (1, 106)),
        ("gemma-3-1b", ("text",), (1,)),
    ],
)
def test_modalities_and_stop_tokens_are_those_configured(name, modalities, eos):
    config = read_config(load(name))

    assert config.modalities == modalities
    assert config.eos_token_ids == eos
    assert (config.bos_token_id, config.pad_token_id) == (2, 0)


@pytest.mark.parametrize("hidden", [640, 1536, 2816, 65_536])
def test_the_embedding_scale_is_the_float32_root_of_the_width(hidden):
    plan = read_config(small(hidden_size=hidden)).plan

    assert plan.embed_scale == float(np.sqrt(np.float64(hidden)).astype(np.float32))


def test_plans_cannot_be_changed():
    plan = read_config(small()).plan

    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.hidden = 1


class TestSpellings:
    def test_layer_numbers_are_read_as_integers(self):
        padded = {"01": {"head_dim": 512}, "3": {"head_dim": 512}, "005": {"head_dim": 512}}

        plan = read_config(small(per_layer_config=padded)).plan

        assert [layer.head_dim for layer in plan.layers] == [256, 512, 256, 512, 256, 512]

    def test_what_an_entry_does_not_name_keeps_the_common_value(self):
        entries = {str(i): {"num_key_value_heads": 2} for i in (1, 3, 5)}

        plan = read_config(small(per_layer_config=entries)).plan

        assert {(layer.kv_heads, layer.head_dim) for layer in plan.layers} == {(4, 256), (2, 256)}

    def test_an_empty_per_layer_config_says_that_all_layers_are_alike(self):
        plan = read_config(small(per_layer_config={})).plan

        assert {layer.head_dim for layer in plan.layers} == {256}

    def test_both_spellings_together_are_read_when_they_agree(self):
        entries = {str(i): {"head_dim": 512, "num_key_value_heads": 2} for i in (1, 3, 5)}
        hub = {"global_head_dim": 512, "num_global_key_value_heads": 2, "attention_k_eq_v": True}

        both = read_config(small(per_layer_config=entries, **hub))

        assert both.plan == read_config(small(**hub)).plan

    def test_global_kv_heads_count_only_where_values_are_keys(self):
        plan = read_config(small(num_global_key_value_heads=2, attention_k_eq_v=False)).plan

        assert {layer.kv_heads for layer in plan.layers} == {4}

    @pytest.mark.parametrize("family", ["gemma4", "gemma4_unified"])
    def test_the_last_layer_of_gemma_4_is_full_whatever_the_list_says(self, family):
        types = ["full_attention"] + ["sliding_attention"] * 5

        plan = read_config(small(family, layer_types=types, num_kv_shared_layers=0)).plan

        assert [layer.window == 0 for layer in plan.layers] == [True] + [False] * 4 + [True]

    @pytest.mark.parametrize(
        "new",
        [
            {"rope_parameters": {}},
            {"rope_parameters": None},
            {"rope_parameters": {"sliding_attention": {"rope_type": "default"}}},
        ],
    )
    def test_gemma_3_rope_takes_the_older_keys_where_the_newer_say_nothing(self, new):
        old = {
            "rope_theta": 5e5,
            "rope_local_base_freq": 7e3,
            "rope_scaling": {"rope_type": "linear", "factor": 4.0},
        }

        layers = read_config(small("gemma3", **old, **new)).plan.layers

        assert [(layer.rope_theta, layer.rope_scaling) for layer in layers[4:]] == [
            (7e3, 1.0),
            (5e5, 4.0),
        ]

    def test_both_spellings_of_gemma_3_rope_give_the_same_plan(self):
        old = {
            "rope_theta": 5e5,
            "rope_local_base_freq": 7e3,
            "rope_scaling": {"type": "linear", "factor": 4},
        }
        new = {
            "full_attention": {"rope_type": "linear", "rope_theta": 5e5, "factor": 4.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 7e3},
        }

        plans = [
            read_config(small("gemma3", **keys)).plan
            for keys in (old, {"rope_parameters": new}, old | {"rope_parameters": new})
        ]

        assert plans[0] == plans[1] == plans[2]

    def test_gemma_3_follows_its_pattern_without_layer_types(self):
        plan = read_config(small("gemma3", sliding_window_pattern=4)).plan

        assert [layer.window == 0 for layer in plan.layers] == [i == 3 for i in range(6)]

    @pytest.mark.parametrize(("rotated", "pairs"), [(0.25, 64), (0.3, 76), (1.0, 256), (0.0, 0)])
    def test_proportional_rope_turns_whole_pairs_from_the_first(self, rotated, pairs):
        rope = {
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            "full_attention": {
                "rope_type": "proportional",
                "rope_theta": 1e6,
                "partial_rotary_factor": rotated,
            },
        }

        plan = read_config(small(rope_parameters=rope)).plan

        assert plan.layers[-1].rope_pairs == pairs


class TestDefaults:
    def test_a_gemma_4_that_names_only_its_sizes_takes_the_class_defaults(self):
        keys = ("hidden_size", "num_hidden_layers", "intermediate_size", "model_type")

        config = read_config({key: small()[key] for key in keys})

        assert config.plan.layers[5].head_dim == 512
        assert config.plan.layers[0].window == 512
        assert config.plan.layers[0].per_layer_input == 256
        assert config.plan.logit_softcap == 0.0
        assert {"head_dim", "global_head_dim", "layer_types", "final_logit_softcapping"} <= set(
            config.defaulted
        )

    def test_a_unified_model_has_no_per_layer_embedding_by_default(self):
        config = read_config(small("gemma4_unified", global_head_dim=...))

        layer = config.plan.layers[0]
        assert (layer.per_layer_input, layer.window, layer.block_attention) == (0, 1024, True)
        assert config.context == 262_144

    def test_defaults_in_a_text_config_are_listed_by_their_place(self):
        text = small(head_dim=...)

        config = read_config({"model_type": "gemma4", "text_config": text})

        assert "text_config.head_dim" in config.defaulted
        assert "text_config.hidden_size" not in config.defaulted

    def test_null_is_not_absent(self):
        fails(small(head_dim=None), "head_dim", "null")

    def test_unknown_keys_are_listed_and_not_obeyed(self):
        plain = read_config(small())

        config = read_config(small(auto_map={"AutoModel": "evil.py"}, rope_theta=5.0))

        assert config.plan == plain.plan
        assert config.ignored == ("auto_map", "rope_theta")

    @pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "intermediate_size"])
    def test_sizes_without_a_sane_default_must_be_there(self, key):
        fails(small(**{key: ...}), key, "missing")

    def test_an_absent_model_type_is_named(self):
        fails(small(model_type=...), "model_type", "missing")


@pytest.mark.parametrize(
    ("model_type", "word"),
    [
        ("gemma4_assistant", "drafter"),
        ("gemma4_unified_assistant", "drafter"),
        ("llama", "gemma4_text"),
        ("gemma3n", "gemma4_text"),
    ],
)
def test_other_models_are_unsupported_by_name(model_type, word):
    with pytest.raises(Unsupported, match=f'"{model_type}".*{word}'):
        read_config(small(model_type=model_type))


def quantised(place="top"):
    """A config whose matrices are int4 codes, and its quantization_config."""
    config = {"model_type": "gemma4", "text_config": small()}
    part = config if place == "top" else config["text_config"]
    part["quantization_config"] = qat.quantization_config()
    return config, part["quantization_config"]


@pytest.mark.parametrize("place", ["top", "text"])
def test_int4_codes_in_groups_of_32_are_recognised(place):
    config, _ = quantised(place)

    assert read_config(config).int4_codes
    assert not read_config(small()).int4_codes


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("quant_method", "gemma", '"compressed-tensors"'),  # the mobile exports
        ("quant_method", None, '"compressed-tensors"'),
        ("format", "int-quantized", '"pack-quantized"'),
        ("quantization_status", "frozen", '"compressed"'),
        ("kv_cache_scheme", {"num_bits": 8}, "null"),
        ("sparsity_config", {"format": "sparse-bitmask"}, "null or {}"),
        ("transform_config", {"config_groups": {"u": {}}}, "null or {}"),
        ("config_groups.group_0.input_activations", {"num_bits": 8}, "null"),
        ("config_groups.group_0.output_activations", {"num_bits": 8}, "null"),
        ("config_groups.group_0.format", "nvfp4-pack-quantized", '"pack-quantized"'),
        ("config_groups.group_0.weights.num_bits", 8, "4"),
        ("config_groups.group_0.weights.num_bits", 4.0, "4"),
        ("config_groups.group_0.weights.type", "float", '"int"'),
        ("config_groups.group_0.weights.symmetric", False, "true"),
        ("config_groups.group_0.weights.symmetric", 1, "true"),
        ("config_groups.group_0.weights.strategy", "channel", '"group"'),
        ("config_groups.group_0.weights.group_size", 128, "32"),
        ("config_groups.group_0.weights.actorder", "group", "null or false"),
        ("config_groups.group_0.weights.dynamic", True, "null or false"),
        ("config_groups.group_0.weights.block_structure", "2x4", "null"),
    ],
)
def test_any_other_quantised_weights_are_unsupported_by_key_found_and_expected(
    path, value, expected
):
    config, scheme = quantised()
    *parents, key = path.split(".")
    for parent in parents:
        scheme = scheme[parent]
    scheme[key] = value

    with pytest.raises(Unsupported) as caught:
        read_config(config)

    for word in (f"quantization_config.{path} is {json.dumps(value)}", f"expected {expected}"):
        assert word in str(caught.value)


def test_every_group_of_a_quantised_config_is_looked_at():
    config, scheme = quantised()
    scheme["config_groups"]["group_1"] = copy.deepcopy(scheme["config_groups"]["group_0"])
    scheme["config_groups"]["group_1"]["weights"]["num_bits"] = 8

    with pytest.raises(Unsupported, match=r"group_1\.weights\.num_bits is 8"):
        read_config(config)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("config_groups", {}),
        ("config_groups", None),
        ("config_groups", ["group_0"]),
        ("config_groups.group_0", None),
        ("config_groups.group_0", 4),
        ("config_groups.group_0.weights", None),
        ("config_groups.group_0.weights", "int4"),
    ],
)
def test_a_quantised_config_without_its_parts_is_an_error_of_its_key(path, value):
    config, scheme = quantised()
    *parents, key = path.split(".")
    for parent in parents:
        scheme = scheme[parent]
    scheme[key] = value

    with pytest.raises(CheckpointError) as caught:
        read_config(config)

    assert caught.value.key == f"quantization_config.{path}"


def test_another_word_for_quantised_weights_is_unsupported():
    with pytest.raises(Unsupported, match=r'quantization is {"bits": 4}, expected null'):
        read_config(small(quantization={"bits": 4}))


class TestContradictions:
    def test_layer_types_of_another_length(self):
        fails(small(layer_types=["full_attention"] * 5), "layer_types", 5, 6)

    def test_a_kind_of_attention_that_does_not_exist(self):
        types = ["sliding_attention"] * 5 + ["chunked_attention"]
        fails(small(layer_types=types), "layer_types", "[5]", "chunked_attention", "full_attention")

    def test_layer_types_against_the_pattern_of_gemma_3(self):
        types = ["sliding_attention"] * 6
        fails(
            small("gemma3", layer_types=types, sliding_window_pattern=6),
            "layer_types",
            "[5]",
            "pattern 6",
        )

    def test_spellings_that_disagree_about_the_head_width(self):
        entries = {str(i): {"head_dim": 128} for i in (1, 3, 5)}
        fails(small(per_layer_config=entries, global_head_dim=512), "global_head_dim", 512, 128)

    def test_spellings_that_disagree_about_key_heads(self):
        entries = {str(i): {"head_dim": 512, "num_key_value_heads": 2} for i in (1, 3, 5)}
        hub = {"attention_k_eq_v": True, "num_global_key_value_heads": 1}
        fails(small(per_layer_config=entries, **hub), "num_global_key_value_heads", 1, 2)

    @pytest.mark.parametrize("name", ["6", "-1", "x", "1.0", "99999999999"])
    def test_an_override_of_a_layer_that_does_not_exist(self, name):
        fails(small(per_layer_config={name: {"head_dim": 64}}), f"per_layer_config.{name}", 6)

    def test_a_layer_that_is_overridden_twice(self):
        entries = {"1": {"head_dim": 64}, "01": {"head_dim": 64}}
        fails(small(per_layer_config=entries), "per_layer_config.01", '"1"')

    def test_an_override_that_is_not_understood(self):
        entries = {"1": {"intermediate_size": 5}}
        fails(small(per_layer_config=entries), "per_layer_config.1.intermediate_size", 5)

    @pytest.mark.parametrize("shared", [6, 7, 256])
    def test_kv_sharing_past_the_end(self, shared):
        fails(small(num_kv_shared_layers=shared), "num_kv_shared_layers", shared, 6)

    def test_kv_sharing_without_a_donor_of_the_kind(self):
        types = ["sliding_attention"] * 5 + ["full_attention"]
        fails(small(layer_types=types), "num_kv_shared_layers", 2, "full_attention")

    def test_kv_sharing_between_layers_of_different_heads(self):
        entries = {"1": {"head_dim": 512}, "3": {"head_dim": 512}, "5": {"head_dim": 128}}
        fails(small(per_layer_config=entries), "per_layer_config", 512, 128)

    def test_query_heads_that_key_heads_do_not_divide(self):
        fails(small(num_key_value_heads=3), "num_attention_heads", 8, 3)

    def test_global_key_heads_that_do_not_divide(self):
        keys = {"attention_k_eq_v": True, "num_global_key_value_heads": 3}
        fails(small(**keys), "num_attention_heads", 8, 3, "layer 1")

    @pytest.mark.parametrize("key", ["head_dim", "global_head_dim"])
    def test_a_head_of_odd_width(self, key):
        fails(small(**{key: 127}), "head_dim", 127)

    @pytest.mark.parametrize("rows", [None, 0])
    def test_per_layer_embeddings_without_rows(self, rows):
        fails(small(vocab_size_per_layer_input=rows), "vocab_size_per_layer_input")

    def test_per_layer_embeddings_for_a_part_of_the_tokens(self):
        fails(small(vocab_size_per_layer_input=500), "vocab_size_per_layer_input", 500, 512)

    def test_more_experts_of_a_token_than_experts(self):
        keys = {"enable_moe_block": True, "num_experts": 4, "moe_intermediate_size": 8}
        fails(small(top_k_experts=5, **keys), "top_k_experts", 5, 4)

    @pytest.mark.parametrize("key", ["num_experts", "top_k_experts", "moe_intermediate_size"])
    @pytest.mark.parametrize("value", [None, ...])
    def test_experts_without_their_sizes(self, key, value):
        keys = {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 8}
        fails(small(enable_moe_block=True, **(keys | {key: value})), key, "enable_moe_block")

    @pytest.mark.parametrize(
        ("family", "key", "value"),
        [
            ("gemma4_unified", "enable_moe_block", True),
            ("gemma4_unified", "hidden_size_per_layer_input", 256),
            ("gemma3", "num_kv_shared_layers", 2),
            ("gemma3", "attention_k_eq_v", True),
            ("gemma3", "per_layer_config", {"1": {"head_dim": 64}}),
        ],
    )
    def test_a_feature_that_the_model_class_does_not_have(self, family, key, value):
        fails(small(family, **{key: value}), key, f"{family}_text")

    @pytest.mark.parametrize(
        ("family", "key", "value", "expected"),
        [
            ("gemma4", "hidden_activation", "silu", "gelu_pytorch_tanh"),
            ("gemma4", "attention_bias", True, "false"),
            ("gemma4", "tie_word_embeddings", False, "true"),
            ("gemma4", "use_bidirectional_attention", "all", "vision"),
            ("gemma4", "use_bidirectional_attention", True, "vision"),
            ("gemma3", "use_bidirectional_attention", True, "null"),
            ("gemma3", "use_bidirectional_attention", "vision", "null"),
            ("gemma3", "attn_logit_softcapping", 50.0, "null"),
        ],
    )
    def test_what_is_not_computed_is_refused(self, family, key, value, expected):
        fails(small(family, **{key: value}), key, json.dumps(value), expected)

    def test_an_untied_head_at_the_top_level(self):
        config = {"model_type": "gemma4", "text_config": small(), "tie_word_embeddings": False}
        fails(config, "tie_word_embeddings", "false", "true")

    def test_a_text_config_of_another_model(self):
        config = {"model_type": "gemma4_unified", "text_config": small()}
        fails(config, "text_config.model_type", "gemma4_text", "gemma4_unified_text")

    @pytest.mark.parametrize("value", [..., None])
    def test_a_whole_model_without_a_text_part(self, value):
        fails(
            {"model_type": "gemma4"} | ({} if value is ... else {"text_config": value}),
            "text_config",
        )

    @pytest.mark.parametrize("value", [[], "x", 5])
    def test_a_part_that_is_no_object(self, value):
        with pytest.raises(CheckpointError, match="expected an object") as caught:
            read_config({"model_type": "gemma4", "text_config": value})

        assert caught.value.key == "text_config"

    @pytest.mark.parametrize("key", ["bos_token_id", "pad_token_id", "eos_token_id"])
    def test_a_control_token_beyond_the_vocabulary(self, key):
        fails(small(**{key: 512}), key, 512)

    @pytest.mark.parametrize(
        ("family", "rope", "key", "values"),
        [
            ("gemma4", {"rope_theta": 1e4}, ".rope_theta", ["sliding_attention"]),
            ("gemma4", {"full_attention": {"rope_theta": 1e6}}, ".sliding_attention", []),
            ("gemma3", {"full_attention": 5}, ".full_attention", [5]),
            (
                "gemma3",
                {"full_attention": {"rope_type": "yarn"}},
                ".full_attention.rope_type",
                ["yarn", "linear"],
            ),
            ("gemma3", {"full_attention": {"rope_type": "linear"}}, ".full_attention.factor", []),
            (
                "gemma3",
                {"full_attention": {"rope_type": "default", "factor": 8.0}},
                ".full_attention.factor",
                [8, "default"],
            ),
            (
                "gemma3",
                {"sliding_attention": {"partial_rotary_factor": 0.5}},
                ".sliding_attention.partial_rotary_factor",
                [0.5],
            ),
        ],
    )
    def test_rope_that_is_not_understood(self, family, rope, key, values):
        fails(small(family, rope_parameters=rope), f"rope_parameters{key}", *values)

    def test_gemma_4_rope_without_a_base(self):
        rope = {"sliding_attention": {}, "full_attention": {"rope_theta": 1e6}}
        key = "rope_parameters.sliding_attention.rope_theta"
        fails(small(rope_parameters=rope), key, "missing")

    @pytest.mark.parametrize(
        ("key", "value", "new"),
        [
            ("rope_theta", 5e5, {"full_attention": {"rope_theta": 1e6}}),
            ("rope_local_base_freq", 9e3, {"sliding_attention": {"rope_theta": 1e4}}),
            (
                "rope_scaling",
                {"rope_type": "linear", "factor": 4.0},
                {"full_attention": {"rope_type": "linear", "factor": 8.0}},
            ),
        ],
    )
    def test_spellings_that_disagree_about_gemma_3_rope(self, key, value, new):
        fails(small("gemma3", rope_parameters=new, **{key: value}), key, "rope_parameters")


@pytest.mark.parametrize(
    ("key", "largest"),
    [
        ("num_hidden_layers", 256),
        ("hidden_size", 65_536),
        ("num_attention_heads", 256),
        ("num_key_value_heads", 256),
        ("vocab_size", 2**20),
        ("num_experts", 1024),
        ("sliding_window", 2**31 - 1),
        ("intermediate_size", 2**20),
    ],
)
@pytest.mark.parametrize("beyond", [0, 1, 2**63, -1])
def test_absurd_sizes_are_refused_with_the_limit(key, largest, beyond):
    value = beyond if beyond <= 0 else largest + beyond

    fails(small(**{key: value}), key, value, f"{largest:,}")


@pytest.mark.parametrize("value", [True, 64.0, math.nan, math.inf, "64", [64], {"a": 1}])
@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "sliding_window", "head_dim"])
def test_an_integer_is_nothing_else(key, value):
    fails(small(**{key: value}), key, "integer")


@pytest.mark.parametrize("value", [True, math.nan, math.inf, -1.0, 0, "1e-6"])
@pytest.mark.parametrize("key", ["rms_norm_eps", "final_logit_softcapping"])
def test_a_factor_is_a_number_in_range(key, value):
    fails(small(**{key: value}), key, "number")


@pytest.mark.parametrize("value", [1, "true", 0])
def test_a_switch_is_true_or_false(value):
    fails(small(attention_k_eq_v=value), "attention_k_eq_v", "true or false")


def test_every_key_of_a_published_config_is_understood():
    """Only what the unified class has no use for is left over."""
    left = {
        path.stem: read_config(read_json(path)).ignored for path in CONFIGS.rglob("gemma-*.json")
    }

    assert left.pop("gemma-4-12B") == ("text_config.vocab_size_per_layer_input",)
    assert len(left) == 9
    assert set(left.values()) == {()}


def test_reading_a_config_does_not_change_it():
    config = load("gemma-4-E2B")
    before = copy.deepcopy(config)

    read_config(config)

    assert config == before


class TestGenerationConfig:
    def test_the_published_values_are_read(self):
        published = {
            "bos_token_id": 2,
            "do_sample": True,
            "eos_token_id": [1, 106, 50],
            "pad_token_id": 0,
            "suppress_tokens": [258_883, 258_882],
            "temperature": 1.0,
            "top_k": 64,
            "top_p": 0.95,
        }

        config = read_generation_config(published)

        assert config.eos_token_ids == (1, 106, 50)
        assert config.suppress_tokens == (258_883, 258_882)
        assert (config.do_sample, config.temperature) == (True, 1.0)
        assert (config.top_k, config.top_p) == (64, 0.95)

    def test_one_stop_token_may_stand_without_a_list(self):
        assert read_generation_config({"eos_token_id": 1}).eos_token_ids == (1,)

    def test_what_is_absent_is_none(self):
        config = read_generation_config({})

        assert {getattr(config, field.name) for field in dataclasses.fields(config)} == {None}

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("eos_token_id", [1, 1.5]),
            ("eos_token_id", [True]),
            ("eos_token_id", -1),
            ("eos_token_id", list(range(257))),
            ("suppress_tokens", ["x"]),
            ("temperature", math.nan),
            ("temperature", "1.0"),
            ("top_p", 1.5),
            ("top_k", 2.0),
            ("do_sample", 1),
        ],
    )
    def test_a_wrong_value_is_named(self, key, value):
        with pytest.raises(CheckpointError, match=f"^generation_config.json: {key} ") as caught:
            read_generation_config({key: value})

        assert caught.value.key == key


@pytest.mark.parametrize(
    ("key", "value"),
    [("head_dim", 2048), ("global_head_dim", 2048), ("hidden_size_per_layer_input", 8192)],
)
def test_a_size_that_the_core_would_refuse_is_refused_here_by_its_key(key, value):
    config = json.loads((CONFIGS / "gemma-4-E2B.json").read_text())
    config["text_config"][key] = value

    with pytest.raises(CheckpointError) as caught:
        read_config(config)

    assert caught.value.key == f"text_config.{key}"
    assert str(value) in str(caught.value).replace(",", "")
