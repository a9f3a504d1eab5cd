"""Intervals and tests without a reference library: published examples, golden resamples, edges."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from cabochon.evaluation import statistics
from cabochon.evaluation.statistics import Sample


def test_seven_of_ten_has_the_interval_40_to_89_percent():
    found = statistics.estimate(Sample.of([1.0] * 7 + [0.0] * 3), "any")

    assert (round(100 * found.low), round(100 * found.high)) == (40, 89)
    assert found.method == "wilson"


@pytest.mark.parametrize(("n", "bound"), [(15, 0.18), (60, 0.05)])
def test_no_failure_in_n_still_allows_the_published_share(n, bound):
    assert round(statistics.failure_bound(n), 2) == bound
    assert math.isclose((1 - statistics.failure_bound(n)) ** n, 0.05, rel_tol=1e-12)


# Points by n = 60, 120, 238, 600, 1,319 (None: out of reach); n by 5, 3 and 1 points.
DETECTABLE = {
    0.1: ([None, 8.0, 5.7, 3.6, 2.4], [312, 870, 7_847]),
    0.2: ([15.9, 11.3, 8.1, 5.1, 3.4], [626, 1_742, 15_696]),
    0.3: ([19.4, 13.9, 9.9, 6.3, 4.2], [940, 2_614, 23_545]),
}


@pytest.mark.parametrize("discordant", DETECTABLE)
def test_the_table_of_detectable_differences_is_the_published_one(discordant):
    differences, needed = DETECTABLE[discordant]

    found = [statistics.detectable_difference(n, discordant) for n in (60, 120, 238, 600, 1_319)]

    assert [d if d is None else round(100 * d, 1) for d in found] == differences
    assert [statistics.cases_needed(d, discordant) for d in (0.05, 0.03, 0.01)] == needed


def test_resamples_are_the_same_for_ever():
    # Philox4x64-10 with the first 128 bits of SHA-256 of the key, little-endian, counter 0.
    blocks = list(statistics._indices("a key", 3, 10))

    assert np.concatenate(blocks).tolist() == GOLDEN


GOLDEN = [
    [1, 5, 0, 9, 9, 2, 8, 0, 8, 3],
    [8, 5, 3, 7, 3, 5, 6, 2, 3, 5],
    [5, 5, 3, 1, 4, 6, 5, 1, 0, 3],
]


def test_ends_of_intervals_and_p_are_the_same_on_every_machine_and_numpy():
    scores = [index * 37 % 101 / 100 for index in range(60)]
    sample = Sample.of(scores, [f"c{index % 20:02}" for index in range(60)])
    flipped = Sample.of([score - 0.42 for score in scores])

    found = statistics.estimate(sample, "a key")

    # `log`, `erfc` and `sqrt` of the C library may differ in their last place.
    assert math.isclose(found.low, LOW, rel_tol=1e-13)
    assert math.isclose(found.high, HIGH, rel_tol=1e-13)
    assert statistics.sign_flip(flipped, "a key") == P


LOW, HIGH, P = 0.4525378511214539, 0.5371666666666746, 0.053894610538946106


def test_equal_keys_give_equal_numbers_and_another_key_gives_others():
    random = np.random.default_rng(0)
    values = random.random(50).round(2)
    sample = Sample.of(values)
    other = Sample.of(values - random.random(50).round(2))

    assert statistics.estimate(sample, "a") == statistics.estimate(sample, "a")
    assert statistics.sign_flip(other, "a") == statistics.sign_flip(other, "a")
    assert statistics.estimate(sample, "a").low != statistics.estimate(sample, "b").low
    assert statistics.sign_flip(other, "a") != statistics.sign_flip(other, "b")


def test_blocks_of_draws_change_nothing(monkeypatch):
    sample = Sample.of([0.1, 0.7, 0.9, 1.0, 0.0, 0.4, 0.3])
    whole = statistics.estimate(sample, "a"), statistics.sign_flip(sample, "a")

    monkeypatch.setattr(statistics, "_BLOCK", 50)

    assert (statistics.estimate(sample, "a"), statistics.sign_flip(sample, "a")) == whole


def test_repeated_clusters_widen_the_interval_up_to_that_of_the_clusters_alone():
    scores = [float(index % 3 == 0) for index in range(30)]
    alone = statistics.estimate(Sample.of(scores), "a")

    # Every case four times: nothing is learnt.
    names = [f"c{index:02}" for index in range(30)] * 4
    found = statistics.estimate(Sample.of(scores * 4, names), "a")

    assert found.method == "cluster bootstrap"
    assert (found.n, found.clusters) == (120, 30)
    assert math.isclose(found.standard_error, alone.standard_error, rel_tol=1e-12)
    # Two kinds of interval of one rate: their widths agree to a tenth.
    assert math.isclose(found.high - found.low, alone.high - alone.low, rel_tol=0.1)


def test_a_resample_of_clusters_is_the_mean_over_the_cases_that_it_drew():
    groups = {"a": [0.0, 0.25], "b": [1.0], "c": [0.5, 0.5, 1.0, 0.75]}
    sample = Sample.of(
        [value for values in groups.values() for value in values],
        [name for name, values in groups.items() for _ in values],
    )

    found = statistics.resampled_means(sample, "a key", 50)

    (drawn,) = statistics._indices("a key", 50, 3)
    lists = list(groups.values())
    expected = [np.mean([v for index in row for v in lists[int(index)]]) for row in drawn]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)
    assert len(set(np.round(expected, 9))) > 8


def test_scores_without_spread_have_the_wide_interval_of_their_independent_units():
    half = statistics.estimate(Sample.of([0.5] * 8), "a")
    clustered = statistics.estimate(Sample.of([1.0] * 8, ["a", "b"] * 4), "a")

    ties = statistics.estimate(Sample.of([0.0] * 60), "a", is_difference=True)
    wins = statistics.estimate(Sample.of([1.0] * 15), "a", is_difference=True)

    assert (half.low, half.high) == statistics.wilson(0.5, 8)
    # 0 of 60 leave 4.87 % possible, 0 of 15 18.1 %: of differences that could all be losses.
    assert (round(ties.low, 4), round(ties.high, 4)) == (-0.0487, 0.0487)
    assert (round(wins.low, 4), wins.high) == (0.6379, 1.0)
    assert (clustered.low, clustered.high) == statistics.wilson(1.0, 2)


def test_a_permutation_of_few_pairs_gives_the_p_of_all_sign_patterns():
    differences = [0.5, 0.25, -0.25, 1.0, 0.0, 0.75, -0.5, 0.5]
    patterns = itertools.product((1, -1), repeat=len(differences))
    sums = [sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in patterns]
    exact = np.mean([abs(total) >= abs(sum(differences)) for total in sums])

    found = statistics.sign_flip(Sample.of(differences), "a")

    # Four standard errors of 10,000 draws.
    assert abs(found - exact) <= 4 * math.sqrt(exact * (1 - exact) / 10_000)


def test_signs_of_a_cluster_flip_together():
    # One cluster of ten wins can only be all wins or all losses.
    assert statistics.sign_flip(Sample.of([1.0] * 10, ["a"] * 10), "a") == 1.0
    assert statistics.sign_flip(Sample.of([1.0] * 10), "a") < 0.01


@pytest.mark.parametrize(
    ("wins", "losses", "p", "name"),
    [
        (0, 0, 1.0, "McNemar exact"),
        (6, 0, 2 / 64, "McNemar exact"),
        (3, 3, 1.0, "McNemar exact"),
        (25, 0, 2**-25, "McNemar mid-p"),  # 2 * 2^-25 - 2^-25
        (13, 13, 1.0, "McNemar mid-p"),
    ],
)
def test_mcnemar_of_tables_that_can_be_done_by_hand(wins, losses, p, name):
    assert statistics.mcnemar(wins, losses) == (p, name)
    assert statistics.mcnemar(losses, wins) == (p, name)


def test_a_stratified_mean_weighs_suites_and_not_cases():
    samples = {"a": Sample.of([1.0] * 90 + [0.0] * 10), "b": Sample.of([0.0] * 10)}

    def mean(a, b):
        return statistics.stratified(samples, "k", {"a": a, "b": b})

    assert mean(0.5, 0.5).mean == 0.45
    assert mean(0.75, 0.25).mean == 0.675
    # Suite b has no spread, so half of the first suite's interval is left.
    found, first = mean(0.5, 0.5), statistics.wilson(0.9, 100)
    assert math.isclose(found.high - found.low, (first[1] - first[0]) / 2, rel_tol=0.1)


def test_the_order_of_cases_changes_no_bit():
    random = np.random.default_rng(0)
    values = random.random(90).tolist()
    names = [f"c{index % 7}" for index in range(90)]
    order = random.permutation(90)

    found = statistics.estimate(
        Sample.of([values[i] for i in order], [names[i] for i in order]), "k"
    )

    assert found == statistics.estimate(Sample.of(values, names), "k")
