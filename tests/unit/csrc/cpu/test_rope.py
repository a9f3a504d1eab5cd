from __future__ import annotations

import numpy as np
import pytest

from cabochon._core import testing, usable_tiers

TIERS = usable_tiers()
# head_dim, pairs that turn: none, one, odd ones, all; Gemma's 256 and 512, of which 64 turn.
SHAPES = [(2, 0), (2, 1), (6, 3), (30, 15), (34, 17), (80, 40), (256, 128), (512, 64), (512, 256)]


@pytest.mark.parametrize(("head_dim", "pairs"), SHAPES)
def test_scalar_turns_pairs_half_a_head_apart(head_dim, pairs, rng, floats):
    x = floats(head_dim)
    angle = rng.uniform(-np.pi, np.pi, pairs)
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)

    out = testing.rope("scalar", x, cos, sin)

    half = head_dim // 2
    turn = cos.astype(np.float64) + 1j * sin.astype(np.float64)
    pair = x[:half].astype(np.float64) + 1j * x[half:].astype(np.float64)
    turned = pair.copy()
    turned[:pairs] *= turn
    # Two products and a sum, each rounded: 2 * 2^-24 of what is added.
    bound = 2 * 2.0**-24 * (np.abs(pair.real) + np.abs(pair.imag))
    assert (np.abs(out[:half] - turned.real) <= bound).all()
    assert (np.abs(out[half:] - turned.imag) <= bound).all()
    np.testing.assert_array_equal(out[pairs:half], x[pairs:half])
    np.testing.assert_array_equal(out[half + pairs :], x[half + pairs :])


@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize(("head_dim", "pairs"), SHAPES)
@pytest.mark.parametrize("tier", TIERS)
def test_rope_has_the_same_bits_on_every_tier(
    tier, head_dim, pairs, offset, floats, assert_same_bits
):
    x, cos, sin = floats(head_dim, special=True), floats(pairs), floats(pairs)

    actual = testing.rope(tier, x, cos, sin, offset=offset)

    assert_same_bits(actual, testing.rope("scalar", x, cos, sin))


@pytest.mark.parametrize("tier", TIERS)
def test_position_0_changes_nothing(tier, floats, assert_same_bits):
    x = floats(34)

    out = testing.rope(tier, x, np.ones(17, np.float32), np.zeros(17, np.float32))

    assert_same_bits(out, x)
