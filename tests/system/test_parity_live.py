"""More shapes than the recorded ones, each against transformers here and now.

Needs the parity extra (torch, transformers); the recorded cases are in test_parity.py.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import tiny
from first_difference import check_logits, first_layer, looks_like
from golden import LOGIT_BOUND
from reference import decoder
from reference.rope import frequencies
from reference.rope import rope as rope_reference

torch = pytest.importorskip("torch", reason="live parity needs torch: pip install '.[parity]'")
transformers = pytest.importorskip(
    "transformers", reason="live parity needs transformers: pip install '.[parity]'"
)
pytestmark = pytest.mark.parity

SLIDING, GLOBAL = "sliding_attention", "full_attention"

# Odd widths, odd head counts, windows of 1 to 12, and what the recorded models do not have.
SHAPES: dict[str, Callable[[], tiny.Config]] = {
    "every width is odd": lambda: tiny.gemma4_text(
        layers=6, pattern=3, vocab_size=259, hidden_size=37, intermediate_size=51,
        sliding_window=3, num_attention_heads=3, num_key_value_heads=1, head_dim=18,
        global_head_dim=34, hidden_size_per_layer_input=5,
    ),
    "a window of one, and as many kv heads as heads": lambda: tiny.gemma4_text(
        layers=4, pattern=2, vocab_size=300, hidden_size=40, intermediate_size=48,
        sliding_window=1, num_attention_heads=5, num_key_value_heads=5, head_dim=24,
        global_head_dim=40,
    ),
    "E2B: shared layers with donors of both types, not wide": lambda: tiny.nested(
        tiny.gemma4_text(
            layers=11, pattern=5, num_kv_shared_layers=5, vocab_size=261, hidden_size=48,
            intermediate_size=56, sliding_window=5, num_attention_heads=8, num_key_value_heads=1,
            head_dim=16, global_head_dim=32, hidden_size_per_layer_input=8,
        )
    ),
    "the last layer is forced to be global": lambda: tiny.gemma4_text(
        layers=5, pattern=5, layer_types=[SLIDING, GLOBAL, SLIDING, SLIDING, SLIDING],
        vocab_size=270, hidden_size=44, intermediate_size=60, sliding_window=7,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, global_head_dim=32,
    ),
    "global kv heads do not count without K = V": lambda: tiny.gemma4_text(
        layers=4, pattern=2, num_global_key_value_heads=1, vocab_size=280, hidden_size=52,
        intermediate_size=60, sliding_window=6, num_attention_heads=6, num_key_value_heads=3,
        head_dim=16, global_head_dim=32,
    ),
    "no softcap, half of the pairs turn, other thetas": lambda: tiny.gemma4_text(
        layers=4, pattern=2, final_logit_softcapping=None, vocab_size=262, hidden_size=40,
        intermediate_size=44, sliding_window=4, num_attention_heads=2, num_key_value_heads=1,
        head_dim=20, global_head_dim=36,
        rope_parameters={
            GLOBAL: {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 5e5},
            SLIDING: {"rope_type": "default", "rope_theta": 500.0},
        },
    ),
    "12B: seven heads over seven and one": lambda: tiny.nested(
        tiny.gemma4_unified_text(
            layers=6, pattern=3, attention_k_eq_v=True, vocab_size=263, hidden_size=56,
            intermediate_size=77, sliding_window=12, num_attention_heads=7, num_key_value_heads=7,
            num_global_key_value_heads=1, head_dim=16, global_head_dim=32,
        )
    ),
    "31B: text-only file": lambda: tiny.gemma4_text(
        layers=6, pattern=6, attention_k_eq_v=True, use_bidirectional_attention="vision",
        vocab_size=299, hidden_size=84, intermediate_size=96, sliding_window=10,
        num_attention_heads=12, num_key_value_heads=6, num_global_key_value_heads=2, head_dim=16,
        global_head_dim=48,
    ),
    "26B: five experts of 17": lambda: tiny.nested(
        tiny.gemma4_text(
            layers=4, pattern=2, attention_k_eq_v=True, enable_moe_block=True, num_experts=17,
            top_k_experts=5, moe_intermediate_size=13, vocab_size=264, hidden_size=45,
            intermediate_size=39, sliding_window=6, num_attention_heads=6, num_key_value_heads=2,
            num_global_key_value_heads=1, head_dim=16, global_head_dim=32,
        )
    ),
    "26B: every expert counts, beside per-layer inputs": lambda: tiny.gemma4_text(
        layers=3, pattern=3, enable_moe_block=True, num_experts=4, top_k_experts=4,
        moe_intermediate_size=24, hidden_size_per_layer_input=6, vocab_size=260, hidden_size=40,
        intermediate_size=32, sliding_window=8, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, global_head_dim=32,
    ),
    "Gemma 3 4B: nested, linear scaling by 8": lambda: tiny.nested(
        tiny.gemma3_text(
            layers=8, pattern=6, rope_scaling={"factor": 8.0, "rope_type": "linear"},
            query_pre_attn_scalar=20, vocab_size=265, hidden_size=60, intermediate_size=72,
            sliding_window=6, num_attention_heads=3, num_key_value_heads=1, head_dim=20,
        )
    ),
    "Gemma 3 270M: no scaling, one kv head": lambda: tiny.gemma3_text(
        layers=6, pattern=6, query_pre_attn_scalar=16, vocab_size=266, hidden_size=40,
        intermediate_size=56, sliding_window=9, num_attention_heads=4, num_key_value_heads=1,
        head_dim=16,
    ),
    "Gemma 3 27B: a scalar that is not head_dim, scaling by 3, a softcap": lambda: tiny.gemma3_text(
        layers=5, pattern=2, query_pre_attn_scalar=21, final_logit_softcapping=12.0,
        rope_scaling={"factor": 3.0, "rope_type": "linear"}, vocab_size=267, hidden_size=84,
        intermediate_size=72, sliding_window=5, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16,
    ),
}  # fmt: skip
SEEDS = [101, 102]


def every_case(test: Any) -> Any:
    return pytest.mark.parametrize("shape", SHAPES)(pytest.mark.parametrize("seed", SEEDS)(test))


def reference_model(folder: Path) -> Any:
    """transformers' model in float32 straight from the file, all names used and none missing."""
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    model, info = getattr(transformers, name).from_pretrained(
        folder,
        dtype=torch.float32,
        output_loading_info=True,
        attn_implementation="eager",
        experts_implementation="eager",  # the readable loop: others want strides of 16 bytes
    )
    tower = ("model.vision_tower.", "model.multi_modal_projector.")
    info["missing_keys"] = [key for key in info["missing_keys"] if not key.startswith(tower)]
    assert not any(info.values()), info
    return model.eval()


def expected_logits(model: Any, ids: Sequence[int]) -> npt.NDArray[np.float32]:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits
    return logits[0].numpy()


def engine_logits(folder: Path, ids: Sequence[int]) -> npt.NDArray[np.float32]:
    import cabochon

    with cabochon.load(folder, kv="f32") as model:
        return model.logits(list(ids), positions="all")


def prompts(config: tiny.Config) -> list[list[int]]:
    """One each of 1, 2, window, window + 1, 2 windows + 3 and 67 tokens."""
    text = tiny.text_config(config)
    window = text["sliding_window"]
    draw = np.random.default_rng(window)
    return [
        [tiny.BOS, *draw.integers(3, text["vocab_size"], size - 1).tolist()]
        for size in sorted({1, 2, window, window + 1, 2 * window + 3, 67})
    ]


@functools.cache
def small_vision() -> dict[str, int]:
    """A tower as small as can be, for whole Gemma 3 models: transformers always builds one."""
    return {
        "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 1, "image_size": 14, "patch_size": 14,
    }  # fmt: skip


def made(shape: str, seed: int, folder: Path) -> tuple[Path, tiny.Config]:
    config = SHAPES[shape]()
    if config["model_type"] == "gemma3":
        config["vision_config"] = small_vision()
        config["mm_tokens_per_image"] = 1
    # Shared layers keep their unused keys and values in files of even seeds.
    return tiny.write_checkpoint(folder, config, seed, unused_kv=seed % 2 == 0), config


@every_case
def test_the_reference_agrees_with_transformers_on_this_shape(
    shape: str, seed: int, tmp_path: Path
) -> None:
    folder, config = made(shape, seed, tmp_path / "model")
    theirs = reference_model(folder)

    for ids in prompts(config):
        check_logits(
            decoder.logits(folder, ids),
            expected_logits(theirs, ids),
            why=lambda ids=ids: f"Prompt of {len(ids)} tokens.",
        )


@every_case
def test_the_engine_agrees_with_transformers_on_this_shape(
    shape: str, seed: int, tmp_path: Path
) -> None:
    import cabochon

    folder, config = made(shape, seed, tmp_path / "model")
    theirs = reference_model(folder)

    with cabochon.load(folder, kv="f32") as model:
        found = model.logits(prompts(config), positions="all")

    for ids, rows in zip(prompts(config), found, strict=True):
        check_logits(
            rows,
            expected_logits(theirs, ids),
            why=lambda ids=ids, rows=rows: (
                f"Prompt of {len(ids)} tokens. "
                f"{first_layer(engine_logits, folder, ids, tmp_path)} "
                f"{looks_like(rows, folder, ids)}"
            ),
        )


@pytest.mark.parametrize("shape", SHAPES)
def test_scores_agree_with_the_log_probabilities_of_transformers_on_this_shape(
    shape: str, tmp_path: Path
) -> None:
    import cabochon

    seed = SEEDS[0]
    folder, config = made(shape, seed, tmp_path / "model")
    theirs = reference_model(folder)
    ids = prompts(config)[-1]
    vocab = tiny.text_config(config)["vocab_size"]
    draw = np.random.default_rng(seed)
    afters = [draw.integers(3, vocab, size).tolist() for size in (1, 1, 5, 12)]
    afters.append([*afters[3][:6], *afters[2]])

    with cabochon.load(folder, kv="f32") as model:
        found = model.score(ids, afters)

    for after, score in zip(afters, found.scores, strict=True):
        rows = expected_logits(theirs, [*ids, *after])[len(ids) - 1 : -1]
        logprobs = torch.log_softmax(torch.from_numpy(rows).double(), dim=-1).numpy()
        expected = logprobs[np.arange(len(after)), after]
        # A target and a sum of exponentials, each within the bound of logits.
        np.testing.assert_allclose(score.logprobs, expected, rtol=0, atol=2 * LOGIT_BOUND)
        assert score.logprob == pytest.approx(expected.sum(), abs=2 * LOGIT_BOUND * len(after))
        margin = np.sort(logprobs, axis=1)[:, -1] - expected
        if not ((margin > 0) & (margin < 2 * LOGIT_BOUND)).any():
            assert score.is_greedy == bool((margin == 0).all())


@pytest.mark.parametrize("shard_size", ["100KB", "1GB"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", tiny.MODELS)
def test_a_checkpoint_saved_by_transformers_loads_as_the_same_model(
    name: str, dtype: str, shard_size: str, tmp_path: Path
) -> None:
    from cabochon.config import read_config

    source = tiny.write(tmp_path / "source", name)
    config = tiny.MODELS[name].config
    model_class = getattr(transformers, config["architectures"][0])
    # Loaded in the dtype it is saved in: the values are the bfloat16 ones of the source in both.
    model_class.from_pretrained(source, dtype=getattr(torch, dtype)).save_pretrained(
        tmp_path / "saved", max_shard_size=shard_size
    )
    ids = [2, *range(40, 70)]

    found = engine_logits(tmp_path / "saved", ids)

    files = len(list((tmp_path / "saved").glob("*.safetensors")))
    assert files > 1 if shard_size == "100KB" else files == 1
    plans = [
        read_config(json.loads((folder / "config.json").read_text())).plan
        for folder in (source, tmp_path / "saved")
    ]
    assert plans[1] == plans[0]
    # One float32 run against another, from files of the same values.
    check_logits(found, engine_logits(source, ids))


POSITIONS = np.array([0, 1, 2, 1023, 4096, 30_000, 65_537, 99_991, 120_000, 131_071])

ROPES = {  # of the released models: theta, head_dim, rotated, scaling
    "Gemma 4, sliding": (1e4, 256, 1.0, 1.0),
    "Gemma 4, global": (1e6, 512, 0.25, 1.0),
    "Gemma 3, sliding": (1e4, 128, 1.0, 1.0),
    "Gemma 3, global": (1e6, 256, 1.0, 8.0),
    "Gemma 3, global, a scaling that is no power of two": (1e6, 128, 1.0, 3.0),
}


def rotary(
    theta: float, head_dim: int, rotated: float, scaling: float
) -> tuple[Any, Callable[[Any, Any, Any], Any]]:
    """transformers' own module and its function that turns x by cos and sin."""
    if rotated != 1.0:
        from transformers.models.gemma4 import modeling_gemma4 as module

        config = transformers.Gemma4TextConfig(global_head_dim=head_dim)
        config.rope_parameters[GLOBAL] |= {"rope_theta": theta, "partial_rotary_factor": rotated}
        turn = functools.partial(module.apply_rotary_pos_emb, unsqueeze_dim=2)
        return module.Gemma4TextRotaryEmbedding(config), turn
    from transformers.models.gemma3 import modeling_gemma3

    scaled = {"rope_type": "linear", "factor": scaling, "rope_theta": theta}
    plain = {"rope_type": "default", "rope_theta": theta}
    config = transformers.Gemma3TextConfig(
        head_dim=head_dim,
        rope_parameters={GLOBAL: scaled if scaling != 1.0 else plain, SLIDING: plain},
    )

    def turn_one(x: Any, cos: Any, sin: Any) -> Any:
        return modeling_gemma3.apply_rotary_pos_emb(x, x, cos, sin, unsqueeze_dim=2)[0]

    return modeling_gemma3.Gemma3RotaryEmbedding(config), turn_one


def rope_case(
    theta: float, head_dim: int, rotated: float, scaling: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """x [positions, heads, head_dim], what transformers makes of it, and how near one must come.

    1e-4, for values up to 1. torch's vectorised power misses the nearest float32 by an ulp for a
    few pairs (its scalar one does not, so its result depends on the machine); there the angle may
    be off by position times that ulp.
    """
    x = np.random.default_rng(5).uniform(-1, 1, (len(POSITIONS), 3, head_dim)).astype(np.float32)
    module, turn = rotary(theta, head_dim, rotated, scaling)
    cos, sin = module(torch.from_numpy(x)[None], torch.from_numpy(POSITIONS)[None], GLOBAL)
    expected = turn(torch.from_numpy(x)[None], cos, sin)[0].numpy()

    theirs = getattr(module, f"{GLOBAL}_inv_freq").numpy()
    ours = frequencies(theta, head_dim, rotated=rotated, scaling=scaling)
    apart = np.abs(theirs.astype(np.float64) - ours)
    # At most an ulp of the power, as the reciprocal and the division carry it on.
    assert (apart <= 4 * np.spacing(ours)).all() and np.count_nonzero(apart) <= len(ours) // 16
    allowed = 1e-4 + np.sqrt(2.0) * POSITIONS[:, None, None] * np.concatenate([apart, apart])
    return x, expected, allowed


@pytest.mark.parametrize("case", ROPES)
def test_the_reference_turns_like_transformers_up_to_position_131071(case: str) -> None:
    theta, head_dim, rotated, scaling = ROPES[case]
    x, expected, allowed = rope_case(theta, head_dim, rotated, scaling)

    found = rope_reference(
        x.astype(np.float64), POSITIONS, theta=theta, rotated=rotated, scaling=scaling
    )

    assert (np.abs(found - expected) <= allowed).all()


@pytest.mark.parametrize("case", ROPES)
def test_the_engine_turns_like_transformers_up_to_position_131071(case: str) -> None:
    from cabochon import ops

    theta, head_dim, rotated, scaling = ROPES[case]
    x, expected, allowed = rope_case(theta, head_dim, rotated, scaling)

    found = ops.rope(x, POSITIONS, theta=theta, rotated=rotated, scaling=scaling)

    outside = np.argwhere(~(np.abs(found - expected) <= allowed))
    assert outside.size == 0, (
        f"at position {POSITIONS[outside[0][0]]}, pair {outside[0][2] % (head_dim // 2)}: found "
        f"{found[tuple(outside[0])]}, expected {expected[tuple(outside[0])]}"
    )
