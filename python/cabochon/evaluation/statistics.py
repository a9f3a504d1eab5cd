"""Intervals, tests and detectable differences, in numpy and the standard library.

Numbers are the same on every machine and with every numpy: resamples come from the raw 64-bit
stream of Philox4x64-10, a published counter-based generator whose bits numpy promises to keep
(unlike those of `Generator.integers`), keyed with SHA-256 of a text; indices are made of them in
integers; scores are summed as multiples of 2^-40, so no order of a sum can change a bit. What is
left are `log`, `erfc` and `sqrt` of the C library, in the last place of an interval's end.

Scores lie in [0, 1] and so in multiples of 2^-40 within 5e-13.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from ..types import Record

RESAMPLES = 10_000
DRAWS = 10_000
Z95 = NormalDist().inv_cdf(0.975)
Z80 = NormalDist().inv_cdf(0.8)
_SCALE = 2**40  # of the fixed-point scores: 2^22 cases of score 1 stay under 2^63
_EXACT_BELOW = 25  # discordant pairs; from there on McNemar's mid-p
_BLOCK = 2**20  # indices drawn at once: 8 MiB

Integers = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate(Record):
    """A mean of scores with its 95 % interval."""

    mean: float  # 0 to 1; of a difference -1 to 1
    low: float
    high: float
    standard_error: float  # clustered where clusters repeat
    n: int  # cases
    clusters: int  # independent units: n where no cluster repeats
    method: str  # "wilson", "bca", "cluster bootstrap", "stratified bootstrap"

    @property
    def ci95(self) -> tuple[float, float]:
        """Both ends of the interval."""
        return self.low, self.high


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample(Record):
    """Scores of one suite, by independent unit: what is drawn together in a resample."""

    values: Reals  # [n], 0 to 1 (differences: -1 to 1)
    units: Integers  # [n], the unit of each, 0 to clusters - 1, every one of them there

    @classmethod
    def of(cls, values: Sequence[float], clusters: Sequence[str] | None = None) -> Sample:
        """Of scores and the cluster of each; None: every case stands alone.

        Cases are put in the order of their clusters' names and scores: theirs changes no bit.
        """
        if clusters is None:
            array = np.asarray(values, np.float64)
            return cls(values=array, units=np.arange(len(array), dtype=np.int64))
        pairs = sorted(zip(clusters, map(float, values), strict=True))
        names = {name: unit for unit, name in enumerate(sorted(set(clusters)))}
        return cls(
            values=np.array([value for _, value in pairs], np.float64),
            units=np.array([names[name] for name, _ in pairs], np.int64),
        )

    @property
    def n(self) -> int:
        """Cases."""
        return len(self.values)

    @property
    def clusters(self) -> int:
        """Independent units."""
        return int(self.units.max()) + 1 if self.n else 0

    def totals(self) -> tuple[Integers, Integers]:
        """Sum of the scores in multiples of 2^-40 and number of cases of each unit, [clusters]."""
        sums = np.zeros(self.clusters, np.int64)
        np.add.at(sums, self.units, np.rint(self.values * _SCALE).astype(np.int64))
        return sums, np.bincount(self.units, minlength=self.clusters).astype(np.int64)

    @property
    def mean(self) -> float:
        """Of the scores; the correctly rounded sum, whatever their order."""
        return math.fsum(self.values.tolist()) / self.n

    @property
    def fixed_mean(self) -> float:
        """The same from multiples of 2^-40, as resamples are: an equal resample is a tie."""
        sums, counts = self.totals()
        return float(sums.sum() / counts.sum() / _SCALE)


# --- one rate ------------------------------------------------------------------------------------


def wilson(rate: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a pass rate.

    Of a graded score it is too wide rather than too narrow: no score in [0, 1] with this mean has
    a larger variance than rate * (1 - rate).

    Args:
        rate: share of passes, or mean score, 0 to 1.
        n: cases, above 0; an effective number may be broken.

    Source: Wilson, JASA 22 (1927).
    """
    z2 = Z95 * Z95
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    # At 0 and 1 the ends are exact, but for rounding.
    low = 0.0 if rate == 0 else max(0.0, centre - half)
    high = 1.0 if rate == 1 else min(1.0, centre + half)
    return low, high


def failure_bound(n: float) -> float:
    """The largest failure rate that n cases without a failure leave possible, at 95 %:
    1 - 0.05^(1/n)."""
    return -math.expm1(math.log(0.05) / n)


def clustered_error(sample: Sample) -> float:
    """Standard error of the mean: sqrt(sum over clusters of (sum of residuals)^2) / n.

    Source: Miller, arXiv 2411.00640, section 2.2; without a correction for few clusters.
    """
    mean = sample.mean
    sums = np.zeros(sample.clusters)
    np.add.at(sums, sample.units, sample.values - mean)
    return math.sqrt(math.fsum((sums * sums).tolist())) / sample.n


# --- resampling ----------------------------------------------------------------------------------


def _raw(key: str) -> np.random.Philox:
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
    return np.random.Philox(key=int.from_bytes(digest[:16], "little"))


def _indices(key: str, rows: int, units: int) -> Iterator[npt.NDArray[np.uint64]]:
    """Blocks [some rows, units] of indices below `units`, `rows` rows in all.

    The upper 32 bits, times units, over 2^32: a bias under units / 2^32.
    """
    stream = _raw(key)
    step = max(1, _BLOCK // units)
    for start in range(0, rows, step):
        raw = stream.random_raw((min(step, rows - start), units))
        yield ((raw >> np.uint64(32)) * np.uint64(units)) >> np.uint64(32)


def resampled_means(sample: Sample, key: str, resamples: int = RESAMPLES) -> Reals:
    """Means of as many resamples, whole clusters drawn with replacement, [resamples]."""
    sums, counts = sample.totals()
    alike = bool((counts == counts[0]).all())
    found = []
    for block in _indices(key, resamples, len(sums)):
        total = sums[block].sum(axis=1)
        size = counts[0] * len(sums) if alike else counts[block].sum(axis=1)
        found.append(total / size / _SCALE)
    return np.concatenate(found)


def _influences(sample: Sample) -> Reals:
    """How far the mean moves with each unit, from the means without it, [clusters]."""
    sums, counts = sample.totals()
    units = len(sums)
    if units < 2:
        return np.zeros(units)
    without = (sums.sum() - sums) / (counts.sum() - counts) / _SCALE
    found: Reals = (math.fsum(without.tolist()) / units - without) * ((units - 1) / units)
    return found


def bca(estimate: float, resampled: Reals, influences: Reals) -> tuple[float, float]:
    """The 95 % interval from resampled estimates: bias-corrected and accelerated.

    Args:
        estimate: of the sample itself.
        resampled: of the resamples, [resamples].
        influences: of every unit on the estimate, [units]; not all zero.

    Source: Efron, JASA 82 (1987); ties count half.
    """
    normal = NormalDist()
    count = len(resampled)
    below = (int((resampled < estimate).sum()) + int((resampled <= estimate).sum())) / (2 * count)
    bias = normal.inv_cdf(min(max(below, 0.5 / count), 1 - 0.5 / count))
    squares = influences * influences  # not a power: some libraries round those otherwise
    spread = math.fsum(squares.tolist())
    acceleration = math.fsum((squares * influences).tolist()) / (6 * spread * math.sqrt(spread))
    ordered = np.sort(resampled)

    def end(z: float) -> float:
        place = normal.cdf(bias + (bias + z) / (1 - acceleration * (bias + z))) * (count - 1)
        left = min(int(place), count - 2)
        low, high = float(ordered[left]), float(ordered[left + 1])
        return low + (place - left) * (high - low)

    return end(-Z95), end(Z95)


def estimate(sample: Sample, key: str, *, is_difference: bool = False) -> Estimate:
    """Mean and interval of one suite: Wilson for passes and failures, BCa for graded scores,
    resampled clusters where clusters repeat.

    Without any spread resampling says nothing: there stands Wilson's interval over the
    independent units, which is too wide rather than too narrow; of a difference what as many
    units without an exception leave possible (`failure_bound`).

    Args:
        key: decides the resamples, with nothing else.
        is_difference: values are differences, -1 to 1.
    """
    mean, units = sample.mean, sample.clusters
    is_rate = not is_difference and bool(np.isin(sample.values, (0.0, 1.0)).all())
    influences = _influences(sample)
    has_spread = bool((np.abs(influences) > 1e-15).any())
    if (is_rate and units == sample.n) or (not has_spread and not is_difference):
        method, (low, high) = "wilson", wilson(mean, units)
    elif not has_spread:
        method, (low, high) = "no spread", _same_everywhere(mean, units)
    else:
        method = "bca" if units == sample.n else "cluster bootstrap"
        low, high = bca(sample.fixed_mean, resampled_means(sample, key), influences)
    return Estimate(
        mean=mean,
        low=low,
        high=high,
        standard_error=clustered_error(sample),
        n=sample.n,
        clusters=units,
        method=method,
    )


def _same_everywhere(difference: float, units: float) -> tuple[float, float]:
    """Where a mean in [-1, 1] may lie when all of the units had this very difference: the rest
    may be anything, but at 95 % it is no larger than `failure_bound`."""
    rest = failure_bound(units)
    return difference - rest * (1 + difference), difference + rest * (1 - difference)


def stratified(
    samples: Mapping[str, Sample],
    key: str,
    shares: Mapping[str, float],
    *,
    is_difference: bool = False,
) -> Estimate:
    """The weighted mean of suite means; each suite is resampled for itself.

    Args:
        samples: one or more suites, none empty.
        shares: of the suites in the mean; their sum is 1.
    """
    names = sorted(samples)
    if len(names) == 1:
        return estimate(samples[names[0]], f"{key}/{names[0]}", is_difference=is_difference)
    parts = [samples[name] for name in names]
    pairs = [(shares[name], samples[name]) for name in names]
    mean = math.fsum(share * part.mean for share, part in pairs)
    influences = np.concatenate([share * _influences(part) for share, part in pairs])
    if not (np.abs(influences) > 1e-15).any():
        # The units that a plain mean of this variance would have.
        units = 1 / math.fsum(share**2 / part.clusters for share, part in pairs)
        low, high = _same_everywhere(mean, units) if is_difference else wilson(mean, units)
        method = "no spread" if is_difference else "wilson"
    else:
        means = np.zeros(RESAMPLES)
        for name, (share, part) in zip(names, pairs, strict=True):
            means += share * resampled_means(part, f"{key}/{name}")
        # The same sum as the resamples, so that equal ones are ties.
        same = 0.0
        for share, part in pairs:
            same += share * part.fixed_mean
        low, high = bca(same, means, influences)
        method = "stratified bootstrap"
    return Estimate(
        mean=mean,
        low=low,
        high=high,
        standard_error=math.sqrt(math.fsum((s * clustered_error(p)) ** 2 for s, p in pairs)),
        n=sum(part.n for part in parts),
        clusters=sum(part.clusters for part in parts),
        method=method,
    )


# --- paired tests --------------------------------------------------------------------------------


def _tail(wins: int, losses: int) -> tuple[int, int, int]:
    """Of 2^n equally likely sign patterns: those with at most min(wins, losses) wins, those with
    exactly so many, and all."""
    n, least = wins + losses, min(wins, losses)
    term = total = 1
    for k in range(least):
        term = term * (n - k) // (k + 1)
        total += term
    return total, term, 2**n


def mcnemar_exact(wins: int, losses: int) -> float:
    """Two-sided exact p of so many discordant pairs; 1.0 without one."""
    tail, _, total = _tail(wins, losses)
    return min(1.0, 2 * tail / total)


def mcnemar_mid_p(wins: int, losses: int) -> float:
    """The same with the observed table counted half: 2 P(X < least) + P(X = least).

    Source: Fagerland, Lydersen, Laake, BMC Medical Research Methodology 13:91 (2013).
    """
    tail, point, total = _tail(wins, losses)
    return min(1.0, (2 * tail - point) / total)


def mcnemar(wins: int, losses: int) -> tuple[float, str]:
    """p and the test's name: exact under 25 discordant pairs, mid-p from 25 on."""
    if wins + losses < _EXACT_BELOW:
        return mcnemar_exact(wins, losses), "McNemar exact"
    return mcnemar_mid_p(wins, losses), "McNemar mid-p"


def sign_flip(sample: Sample, key: str, draws: int = DRAWS) -> float:
    """Two-sided p of paired differences: (1 + draws at least as far from 0) / (1 + draws).

    Signs are flipped a cluster at a time. Sums are whole numbers, so ties are exact.
    """
    sums, _ = sample.totals()
    sums = sums[sums != 0]
    if not len(sums):
        return 1.0
    observed, stream, extreme = abs(int(sums.sum())), _raw(key), 0
    step = max(1, _BLOCK // len(sums))
    for start in range(0, draws, step):
        raw = stream.random_raw((min(step, draws - start), len(sums)))
        signs = 1 - 2 * (raw >> np.uint64(63)).astype(np.int64)
        extreme += int((np.abs(signs @ sums) >= observed).sum())
    return (1 + extreme) / (1 + draws)


def holm(ps: Sequence[float]) -> list[float]:
    """p values adjusted for as many tests, in the order given.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, (len(ps) - rank) * ps[index])
        adjusted[index] = min(1.0, largest)
    return adjusted


# --- before the run ------------------------------------------------------------------------------


def cases_needed(difference: float, discordant: float = 0.2) -> int:
    """Cases that show a paired difference in 80 of 100 runs, at 5 % two-sided.

    n = (1.960 sqrt(D) + 0.842 sqrt(D - d^2))^2 / d^2, rounded up.

    Args:
        difference: d, of two pass rates, above 0 and at most `discordant`.
        discordant: D, the share of cases on which the two disagree.
    """
    return math.ceil(_cases(difference, discordant))


def _cases(difference: float, discordant: float) -> float:
    spread = math.sqrt(max(0.0, discordant - difference**2))
    return ((Z95 * math.sqrt(discordant) + Z80 * spread) / difference) ** 2


def detectable_difference(n: int, discordant: float = 0.2) -> float | None:
    """The smallest paired difference that n cases show in 80 of 100 runs, 0 to 1.

    Returns:
        None: out of reach, not even all of the discordant pairs one way would show.
    """
    if n < 1 or _cases(discordant, discordant) > n:
        return None
    low, high = 0.0, discordant
    for _ in range(60):  # halves down to the last bit: _cases falls with the difference
        middle = (low + high) / 2
        low, high = (middle, high) if _cases(middle, discordant) > n else (low, middle)
    return high


def chi_square_p(excess: float, degrees: int) -> float:
    """The chance that a chi-square variable of so many degrees of freedom is larger.

    Q(d/2, x/2), from erfc or exp upwards by Q(a + 1, y) = Q(a, y) + y^a e^-y / gamma(a + 1).
    """
    half = excess / 2
    a = 0.5 if degrees % 2 else 1.0
    found = math.erfc(math.sqrt(half)) if degrees % 2 else math.exp(-half)
    while a < degrees / 2:
        found += math.exp(a * math.log(half) - half - math.lgamma(a + 1)) if half > 0 else 0.0
        a += 1
    return min(1.0, found)
