"""Bar E6: intervals, tests and errors are those of SciPy and statsmodels on 1,000 random tables,
and 95 % intervals cover 95 % of what they should."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from cabochon.evaluation import statistics
from cabochon.evaluation.statistics import Sample

scipy_stats = pytest.importorskip("scipy.stats", reason="scipy is not installed: cabochon[test]")
TABLES = 1_000
# Of numbers up to 1: both sides round a dozen operations, 2^-53 each.
CLOSE = 1e-12


def test_wilson_is_that_of_statsmodels_on_1000_rates():
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    random = np.random.default_rng(1)
    worst = 0.0

    for _ in range(TABLES):
        n = int(random.integers(1, 2_000))
        passes = int(random.choice([0, n, random.integers(0, n + 1)]))
        expected = proportion.proportion_confint(passes, n, method="wilson")
        found = statistics.wilson(passes / n, n)
        worst = max(worst, *(abs(a - b) for a, b in zip(found, expected, strict=True)))

    assert worst <= CLOSE


def test_mcnemar_is_that_of_statsmodels_and_scipy_on_1000_tables():
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    random = np.random.default_rng(2)
    worst = 0.0

    for _ in range(TABLES):
        wins, losses = (int(count) for count in random.integers(0, random.integers(1, 80), 2))
        exact = tables.mcnemar([[7, wins], [losses, 9]], exact=True).pvalue
        n, least = wins + losses, min(wins, losses)
        mid = 2 * scipy_stats.binom.cdf(least, n, 0.5) - scipy_stats.binom.pmf(least, n, 0.5)
        worst = max(
            worst,
            abs(statistics.mcnemar_exact(wins, losses) - exact),
            abs(statistics.mcnemar_mid_p(wins, losses) - mid),
        )

    assert worst <= CLOSE


def test_the_bound_without_failures_is_the_exact_one_of_scipy():
    worst = 0.0

    for n in range(1, TABLES + 1):
        test = scipy_stats.binomtest(0, n, alternative="less")
        expected = test.proportion_ci(0.95, method="exact").high
        worst = max(worst, abs(statistics.failure_bound(n) - expected))

    assert worst <= CLOSE


def test_chi_square_is_that_of_scipy_on_1000_values():
    random = np.random.default_rng(8)
    worst = 0.0

    for _ in range(TABLES):
        degrees = int(random.integers(1, 40))
        excess = float(random.choice([0.0, random.random() * 5 * degrees]))
        expected = scipy_stats.chi2.sf(excess, degrees)
        worst = max(worst, abs(statistics.chi_square_p(excess, degrees) - expected))

    assert worst <= CLOSE


def test_holm_is_that_of_statsmodels_on_1000_lists(monkeypatch):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    monkeypatch.setattr("gc.collect", lambda: 0)  # it collects in every call, 50 ms
    random = np.random.default_rng(3)
    worst = 0.0

    for _ in range(TABLES):
        ps = random.random(random.integers(1, 30)) ** 3
        ps[random.random(len(ps)) < 0.2] = ps[0]  # ties
        expected = multitest.multipletests(ps, method="holm")[1]
        worst = max(worst, float(np.abs(np.array(statistics.holm(list(ps))) - expected).max()))

    assert worst <= CLOSE


def test_the_clustered_error_is_that_of_statsmodels_on_1000_tables():
    regression = pytest.importorskip("statsmodels.api")
    random = np.random.default_rng(4)
    worst = 0.0

    for _ in range(TABLES):
        n = int(random.integers(3, 120))
        clusters = random.integers(0, max(2, n // int(random.integers(1, 6))), n)
        values = np.round(random.random(n), int(random.integers(0, 4)))
        fit = regression.OLS(values, np.ones(n)).fit(
            cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": False}
        )
        found = statistics.clustered_error(Sample.of(values, [f"c{c:04}" for c in clusters]))
        worst = max(worst, abs(found - float(fit.bse[0])))

    assert worst <= CLOSE


def test_bca_is_that_of_scipy_from_the_same_resamples_on_1000_samples():
    random = np.random.default_rng(5)
    worst = 0.0

    for table in range(TABLES):
        values = random.beta(0.5, 0.3, int(random.integers(4, 60)))
        if table % 2:  # coarse scores: many resamples have the mean of the sample
            values = np.round(values * 4) / 4
        if np.ptp(values) == 0:
            values[0] = 1 - values[0]
        sample = Sample.of(values)
        resampled = statistics.resampled_means(sample, f"k{table}", 400)
        influences = statistics._influences(sample)
        found = statistics.bca(sample.fixed_mean, resampled, influences)
        # SciPy's statistic is the fixed-point mean too, so that ties are the same ties.
        fixed = np.rint(values * 2**40).astype(np.int64)
        expected = scipy_stats.bootstrap(
            (fixed,),
            lambda x, axis: x.sum(axis=axis) / x.shape[axis] / 2**40,
            n_resamples=0,
            bootstrap_result=SimpleNamespace(bootstrap_distribution=resampled),
            method="BCa",
        ).confidence_interval
        worst = max(worst, abs(found[0] - expected.low), abs(found[1] - expected.high))

    assert worst <= CLOSE


@pytest.mark.parametrize("n", [60, 600])
def test_wilson_covers_94_to_96_percent_in_20000_simulations(n):
    random = np.random.default_rng(6)
    ends = np.array([statistics.wilson(passes / n, n) for passes in range(n + 1)])
    covered = []

    for rate in (0.1, 0.5, 0.9):
        low, high = ends[random.binomial(n, rate, 20_000)].T
        covered.append(float(((low <= rate) & (rate <= high)).mean()))

    # 60,000 draws: a standard error of 0.09 points.
    assert 0.94 <= np.mean(covered) <= 0.96


@pytest.mark.parametrize("n", [60, 600])
def test_bca_of_graded_scores_covers_95_percent(n):
    random = np.random.default_rng(7)
    hits = []

    for draw in range(1_000 if n == 60 else 300):
        sample = Sample.of(np.round(random.beta(2, 1, n), 3))
        influences = statistics._influences(sample)
        resampled = statistics.resampled_means(sample, f"{n}/{draw}", 1_000)
        low, high = statistics.bca(sample.fixed_mean, resampled, influences)
        hits.append(low <= 2 / 3 <= high)

    # Three standard errors of 300 draws are 3.8 points, of 1,000 draws 2.1.
    assert abs(np.mean(hits) - 0.95) <= (0.021 if n == 60 else 0.038)
