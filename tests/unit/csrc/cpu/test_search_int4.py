"""The search for int4 scales, against NumPy in float64 and between tiers."""

from __future__ import annotations

import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from cabochon._core import testing, usable_tiers

TIERS = usable_tiers()
KERNELS = Path(__file__).resolve().parents[4] / "csrc" / "cpu" / "kernels.h"
# Errors are sums of 32 squares in float32, each of an e that is rounded once: a weighted square is
# off by 4 * 2^-24 of itself at most, the sum by 32 * 2^-24. A number chosen by weight * (1 / scale)
# may be the other neighbour of a half: the two squares differ by 4 * 16 * 2^-23 of a step's.
TOLERANCE = 36 * 2.0**-24 + 64 * 2.0**-23


def factors():
    """Of the largest |weight|: as kernels.h has them."""
    text = re.search(r"kInt4Factors\[\] = \{(.*?)\};", KERNELS.read_text(), re.DOTALL)[1]
    terms = [term.strip() for term in text.split(",") if term.strip()]
    return np.array(
        [np.float32(term.split("f / ")[0]) / np.float32(term.split("f / ")[1]) for term in terms],
        np.float32,
    )


def bf16(x):
    return np.asarray(x, np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)


def numbers_of(row, scale):
    return np.clip(np.rint(row / scale), -8, 7)


def error(row, importance, scale):
    return float((importance * (row - numbers_of(row, scale) * scale) ** 2).sum())


def witness(row, importance):
    """The least weighted error that the scales of kernels.h reach, in float64."""
    absmax = np.abs(row).max().astype(np.float32)
    tried = [bf16(absmax / np.float32(7.5)), *bf16(absmax * factors())]
    row, importance = row.astype(np.float64), importance.astype(np.float64)
    best = min(tried, key=lambda scale: error(row, importance, scale))
    numbers = numbers_of(row, best)
    weight = (importance * numbers**2).sum()
    if weight > 0:
        tried.append(bf16((importance * numbers * row).sum() / weight))
    return min(error(row, importance, scale) for scale in tried if scale != 0)


def unpack(unit):
    """Numbers [32 rows, 32] and scales [32] of one unit, by the picture of kernels.h."""
    bytes_of = unit[:512].reshape(4, 32, 4)  # g, row, j
    codes = np.stack([bytes_of & 15, bytes_of >> 4], axis=1)  # g, half, row, j
    scales = (unit[512:].view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return codes.transpose(2, 0, 1, 3).reshape(32, 32).astype(np.float64) - 8, scales


def search(tier, weights, importance, offset=0):
    return testing.search_int4(tier, np.ascontiguousarray(weights.T), importance, offset=offset)


@pytest.fixture
def draw(rng):
    def draw_one(kind):
        weights = rng.standard_normal((32, 32)) * 10.0 ** rng.uniform(-6, 6, (32, 1))
        if kind == "outliers":
            weights[:, rng.integers(0, 32, 2)] *= 6
        importance = np.ones(32)
        if kind != "equal":
            importance = 10.0 ** rng.uniform(-6, 0, 32)
        if kind == "some count for nothing":
            importance[rng.random(32) < 0.5] = 0
        return weights.astype(np.float32), importance.astype(np.float32)

    return draw_one


KINDS = ["equal", "weighted", "outliers", "some count for nothing"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tier", TIERS)
def test_no_scale_that_was_to_be_tried_has_a_smaller_error(tier, kind, draw):
    for _ in range(20):
        weights, importance = draw(kind)

        numbers, scales = unpack(search(tier, weights, importance))

        for row, found, scale in zip(weights, numbers, scales, strict=True):
            reached = (importance.astype(np.float64) * (row - found * scale) ** 2).sum()
            assert reached <= witness(row, importance) * (1 + TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tier", TIERS)
def test_the_plain_rule_never_has_a_smaller_error(tier, kind, draw):
    is_better = 0
    for _ in range(20):
        weights, importance = draw(kind)

        numbers, scales = unpack(search(tier, weights, importance))

        weigh = importance.astype(np.float64)
        plain = bf16(np.abs(weights).max(axis=1, keepdims=True) / np.float32(7.5))
        expected = (weigh * (weights - numbers_of(weights, plain) * plain) ** 2).sum(axis=1)
        reached = (weigh * (weights - numbers * scales[:, None]) ** 2).sum(axis=1)
        assert (reached <= expected * (1 + TOLERANCE)).all()
        is_better += np.count_nonzero(reached < expected * 0.9)
    assert is_better > 200  # of 640


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tier", TIERS[1:])
def test_every_tier_gives_the_bits_of_scalar(tier, kind, draw):
    for offset in range(8):
        weights, importance = draw(kind)
        weights[3], weights[17, 1:], weights[31] = 0, 0, -0.0
        weights[5] *= np.float32(2.0**-40) / np.abs(weights[5]).max()
        weights[6] *= np.float32(2.0**40) / np.abs(weights[6]).max()
        weights[7] = np.rint(weights[7] / np.abs(weights[7]).max() * 14) / 2  # ties

        actual = search(tier, weights, importance, offset)

        np.testing.assert_array_equal(actual, search("scalar", weights, importance))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("tier", TIERS)
def test_weights_on_a_lattice_that_reaches_minus_8_come_back_exactly(tier, sign, rng):
    expected = rng.integers(-8, 8, (32, 32))
    expected[:, 7] = -8
    scales = (sign * rng.uniform(0.01, 2, 32)).astype(ml_dtypes.bfloat16).astype(np.float32)
    weights = (expected * scales[:, None]).astype(np.float32)

    numbers, found = unpack(search(tier, weights, np.ones(32, np.float32)))

    np.testing.assert_array_equal(numbers, expected)
    np.testing.assert_array_equal(found, scales)


@pytest.mark.parametrize("tier", TIERS)
def test_columns_that_count_for_nothing_leave_the_plain_rule(tier, draw):
    weights, _ = draw("equal")

    numbers, scales = unpack(search(tier, weights, np.zeros(32, np.float32)))

    plain = bf16(np.abs(weights).max(axis=1) / np.float32(7.5))
    np.testing.assert_array_equal(scales, plain)
    np.testing.assert_array_equal(numbers, numbers_of(weights, plain[:, None]))


@pytest.mark.parametrize("tier", TIERS)
def test_an_important_column_is_met_better_than_without_its_importance(tier, rng):
    weights = rng.standard_normal((32, 32)).astype(np.float32)
    importance = np.full(32, 2.0**-10, np.float32)
    importance[11] = 1

    weighted, equal = (
        unpack(search(tier, weights, weigh)) for weigh in (importance, np.ones(32, np.float32))
    )

    off = [
        np.abs(weights[:, 11] - numbers[:, 11] * scales).mean()
        for numbers, scales in (weighted, equal)
    ]
    assert off[0] < off[1] / 2
