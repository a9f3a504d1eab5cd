"""cabochon.ops against the NumPy float64 reference, and what each op refuses."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from cabochon import ops
from cabochon.errors import InvalidArgument
from reference import attention as reference_attention
from reference import experts as reference_experts
from reference import mlp as reference_mlp
from reference import per_layer_input as reference_per_layer
from reference import rms_norm as reference_norm
from reference import rope as reference_rope

ROUNDING = 2.0**-24  # half a unit in the last place of float32, relative


def random(seed, *shape, spread=1.0):
    return (np.random.default_rng(seed).normal(size=shape) * spread).astype(np.float32)


def as_double(*arrays):
    return [np.asarray(a, np.float64) for a in arrays]


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 97, 640, 5376])
@pytest.mark.parametrize("rows", [0, 1, 5])
@pytest.mark.parametrize("is_weighted", [True, False])
def test_rms_norm_equals_the_reference(n, rows, is_weighted):
    x, weight = random(n, rows, n, spread=3), random(n + 1, n) if is_weighted else None

    actual = ops.rms_norm(x, weight)

    expected = reference_norm.rms_norm(
        *as_double(x), None if weight is None else weight.astype(np.float64), epsilon=1e-6
    )
    # n / 16 + 4 roundings in the sum, halved by the root, then three more.
    bound = (n / 32 + 8) * ROUNDING * np.abs(expected)
    assert (np.abs(actual - expected) <= bound + 1e-30).all()


@pytest.mark.parametrize(
    ("tokens", "rows", "cols"), [(0, 3, 5), (1, 1, 1), (2, 7, 17), (5, 33, 640)]
)
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_matmul_equals_the_reference(tokens, rows, cols, dtype):
    x, weight = random(1, tokens, cols), random(2, rows, cols).astype(dtype)

    actual = ops.matmul(x, weight)

    x64, weight64 = as_double(x, weight)
    bound = (cols / 16 + 5) * ROUNDING * (np.abs(x64) @ np.abs(weight64).T)
    assert (np.abs(actual - x64 @ weight64.T) <= bound).all()


@pytest.mark.parametrize(("head_dim", "rotated"), [(2, 1.0), (16, 1.0), (64, 0.25), (512, 0.25)])
@pytest.mark.parametrize("scaling", [1.0, 8.0])
def test_rope_equals_the_reference_up_to_far_positions(head_dim, rotated, scaling):
    positions = np.array([0, 1, 511, 30_000, 131_071])
    x = random(3, len(positions), 3, head_dim)

    actual = ops.rope(x, positions, theta=1e6, rotated=rotated, scaling=scaling)

    expected = reference_rope.rope(
        *as_double(x), positions, theta=1e6, rotated=rotated, scaling=scaling
    )
    np.testing.assert_allclose(actual, expected, atol=4 * 2 * ROUNDING * np.abs(x).max())


@pytest.mark.parametrize("window", [0, 1, 7, 64, 700])
@pytest.mark.parametrize(
    ("tokens", "keys", "heads", "kv_heads", "head_dim"),
    [(1, 1, 1, 1, 2), (3, 5, 6, 3, 18), (2, 65, 4, 1, 32), (7, 1100, 2, 2, 16)],
)
def test_attention_equals_the_reference_over_blocks_and_partitions(
    window, tokens, keys, heads, kv_heads, head_dim
):
    q = random(4, tokens, heads, head_dim)
    k, v = random(5, keys, kv_heads, head_dim), random(6, keys, kv_heads, head_dim)

    actual = ops.attention(q, k, v, window=window, scale=0.7)

    expected = reference_attention.attention(*as_double(q, k, v), window=window, scale=0.7)
    # Scores of up to about 20 are off by a few 1e-6, and so are the weights, relatively.
    np.testing.assert_allclose(actual, expected, atol=3e-5)


def test_attention_does_not_depend_on_how_many_queries_are_asked_at_once():
    q, k, v = random(7, 9, 4, 16), random(8, 300, 2, 16), random(9, 300, 2, 16)

    whole = ops.attention(q, k, v, window=100)

    for t in range(9):
        alone = ops.attention(q[t : t + 1], k[: 292 + t], v[: 292 + t], window=100)
        np.testing.assert_array_equal(alone[0].view(np.uint32), whole[t].view(np.uint32))


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_per_layer_input_equals_the_reference(dtype):
    layers, width, hidden, vocab = 3, 260, 24, 11
    table = random(10, vocab, layers * width).astype(dtype)
    projection = random(11, layers * width, hidden).astype(dtype)
    x, norm, ids = random(12, 4, hidden), random(13, width), np.array([10, 0, 3, 3])

    actual = ops.per_layer_input(ids, x, table, projection, norm)

    expected = reference_per_layer.per_layer_input(
        ids, *as_double(x, table, projection, norm), epsilon=1e-6
    )
    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())
    assert actual.shape == (4, layers, width)


@pytest.mark.parametrize(("experts", "top_k"), [(1, 1), (5, 2), (128, 8)])
def test_route_equals_the_reference(experts, top_k):
    x, weight = random(14, 6, 48, spread=4), random(15, experts, 48)
    scale, per_expert = random(16, 48), random(17, experts)

    ids, weights = ops.route(x, weight, scale, per_expert, top_k=top_k)

    expected_ids, expected = reference_experts.route(
        *as_double(x, weight, scale, per_expert), top_k=top_k, epsilon=1e-6
    )
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6)


def test_of_equal_experts_the_lowest_id_comes_first():
    ids, weights = ops.route(
        np.ones((1, 4), np.float32), np.ones((6, 4), np.float32), np.ones(4, np.float32),
        np.ones(6, np.float32), top_k=3,
    )  # fmt: skip

    assert ids.tolist() == [[0, 1, 2]]
    np.testing.assert_allclose(weights, 1 / 3, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize(
    ("tokens", "experts", "top_k", "ffn"), [(0, 4, 2, 8), (1, 4, 4, 7), (9, 16, 3, 20)]
)
def test_experts_equal_the_reference(dtype, tokens, experts, top_k, ffn):
    hidden = 24
    x, weights = random(18, tokens, hidden), random(19, tokens, top_k)
    rng = np.random.default_rng(20)
    ids = np.array([rng.permutation(experts)[:top_k] for _ in range(tokens)], np.int32)
    ids = ids.reshape(tokens, top_k)
    gate_up = random(21, experts, 2 * ffn, hidden, spread=0.3).astype(dtype)
    down = random(22, experts, hidden, ffn, spread=0.3).astype(dtype)

    actual = ops.experts(x, ids, weights, gate_up, down)

    expected = reference_experts.experts(
        x.astype(np.float64), ids, *as_double(weights, gate_up, down)
    )
    np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_a_row_of_experts_has_the_same_bits_alone_and_in_any_order_of_choices():
    x, weights = random(23, 8, 32), random(24, 8, 4)
    ids = np.array([np.random.default_rng(i).permutation(9)[:4] for i in range(8)], np.int32)
    gate_up, down = random(25, 9, 40, 32), random(26, 9, 32, 20)

    whole = ops.experts(x, ids, weights, gate_up, down)

    for t in range(8):
        turned = ops.experts(
            x[t : t + 1],
            ids[t : t + 1, ::-1].copy(),
            weights[t : t + 1, ::-1].copy(),
            gate_up,
            down,
        )
        np.testing.assert_array_equal(turned[0].view(np.uint32), whole[t].view(np.uint32))


def test_the_gelu_of_an_expert_is_the_tanh_form():
    x = np.linspace(-30, 30, 121, dtype=np.float32)[:, None]
    gate_up, down = np.ones((1, 2, 1), np.float32), np.ones((1, 1, 1), np.float32)

    actual = ops.experts(
        x, np.zeros((121, 1), np.int32), np.ones((121, 1), np.float32), gate_up, down
    )

    wide = x.astype(np.float64)
    np.testing.assert_allclose(actual, reference_mlp.gelu_tanh(wide) * wide, rtol=2e-6, atol=1e-7)


def r(*shape):
    return random(0, *shape)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.rms_norm(r(2, 3), r(4)), r"weight is \[4\], expected \[3\]"),
        (lambda: ops.rms_norm(np.ones((2, 3))), r"float64.*astype\(np.float32\)"),
        (lambda: ops.matmul(r(2, 3), r(5, 4)), r"expected.* 3\]"),
        (lambda: ops.matmul(r(3), r(5, 3)), r"x .*2 dim"),
        (lambda: ops.rope(r(2, 1, 5), [0, 1]), r"even"),
        (lambda: ops.rope(r(2, 1, 4), [0]), r"positions"),
        (lambda: ops.attention(r(2, 3, 4), r(5, 2, 4), r(5, 2, 4)), r"3 heads.*2"),
        (lambda: ops.attention(r(6, 2, 4), r(5, 2, 4), r(5, 2, 4)), r"5 keys"),
        (lambda: ops.attention(r(1, 1, 4), r(5, 1, 4), r(4, 1, 4)), r"values is"),
        (
            lambda: ops.route(r(3, 64), r(128, 64), r(64), r(8)),
            r"per_expert_scale is \[8\], expected \[128\]",
        ),
        (lambda: ops.route(r(1, 4), r(2, 4), r(4), r(2)), r"top_k is 8"),
        (
            lambda: ops.experts(r(1, 4), [[0, 0]], r(1, 2), r(2, 6, 4), r(2, 4, 3)),
            r"twice",
        ),
        (
            lambda: ops.experts(r(1, 4), [[7]], r(1, 1), r(2, 6, 4), r(2, 4, 3)),
            r"7.*0 to 1",
        ),
        (
            lambda: ops.per_layer_input([9], r(1, 4), r(3, 8), r(8, 4), r(4)),
            r"9.*0 to 2",
        ),
    ],
)  # fmt: skip
def test_an_array_that_does_not_fit_is_refused_with_what_was_found_and_expected(call, message):
    with pytest.raises(InvalidArgument, match=message):
        call()
