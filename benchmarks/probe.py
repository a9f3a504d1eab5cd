"""What can this machine's cores read and compute right now?

    python benchmarks/probe.py [--threads N] [--runs 10]

The limits next to which every rate of these benchmarks stands, measured by the core's own threads
and loops: bytes a second from memory (each thread XORs its share of 1 GiB, much more than the
caches hold, in 2 MiB pages where the system gives them) and operations a second of chains of
vpdpbusd (int8) and fma (float32) in 512 bits. Beside them, in turns, what NumPy's XOR reads of
ordinary pages: ends with status 1 where that is more, since a limit that can be passed is none.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cabochon import _core
from cabochon._core import testing

MEGABYTES = 1074  # 1 GiB
PASSES = 3  # of which the best counts: what disturbs one only ever slows it down
PEAK_ITERATIONS = 5_000_000  # about 10 ms
STEADY = 0.85  # a probe below this share of the best one seen is repeated
REPEATS = 3
AGREEMENT = 0.97  # what two measures of one limit may differ by


class Probe:
    """Read bandwidth with `threads` threads, in GB/s (10^9 bytes). Holds nothing between."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._best = 0.0
        self._read()  # the first arena of huge pages takes the system a while

    def measure(self) -> float:
        rate = self._read()
        for _ in range(REPEATS):
            if rate >= STEADY * self._best:
                break
            rate = max(rate, self._read())
        self._best = max(self._best, rate)
        return rate

    def _read(self) -> float:
        return float(testing.read_bandwidth(MEGABYTES, self._threads, PASSES))


def has_peaks() -> bool:
    """The loops are written for AVX-512."""
    return "avx512" in _core.usable_tiers()


def peak(kind: str, threads: int) -> float:
    """Gop/s of all threads together: "integer" (int8), "float" (float32), or "bf16" where there is
    vdpbf16ps."""
    loop = {
        "integer": testing.peak_vpdpbusd,
        "float": testing.peak_fma,
        "bf16": testing.peak_vdpbf16ps,
    }[kind]
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(loop, [PEAK_ITERATIONS] * threads))


def is_steady(before: float, after: float) -> bool:
    """Two probes around one run differ by at most 15 %."""
    return min(before, after) >= STEADY * max(before, after)


class NumpyReads:
    """The same bandwidth by NumPy, which gives its threads the interpreter's lock."""

    def __init__(self, threads: int) -> None:
        # Written, not only reserved: pages that were never written are all one page of zeros.
        self._shares = np.array_split(np.ones(MEGABYTES * 1_000_000 // 8, np.uint64), threads)
        self._pool = ThreadPoolExecutor(threads)

    def measure(self) -> float:
        return max(self._read() for _ in range(PASSES))

    def _read(self) -> float:
        start = time.perf_counter()
        for _ in self._pool.map(np.bitwise_xor.reduce, self._shares):
            pass
        return MEGABYTES / (time.perf_counter() - start) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=_core.default_threads())
    parser.add_argument("--runs", type=int, default=10)
    arguments = parser.parse_args()
    missed = False
    for threads in sorted({1, arguments.threads}):
        ours, numpy = Probe(threads), NumpyReads(threads)
        pairs = [(ours.measure(), numpy.measure()) for _ in range(arguments.runs)]
        rates, others = zip(*pairs, strict=True)
        missed |= max(rates) < AGREEMENT * max(others)
        peaks = "no peak loops without AVX-512"
        if has_peaks():
            best = {
                kind: max(peak(kind, threads) for _ in range(arguments.runs))
                for kind in ("integer", "float")
            }
            peaks = f"int8 {best['integer']:.0f} Gop/s, float32 {best['float']:.0f} Gop/s"
        print(
            f"probe threads={threads} | median {statistics.median(rates):.1f} GB/s of {len(rates)} "
            f"[{min(rates):.1f} {max(rates):.1f}] | NumPy's best {max(others):.1f} | {peaks}"
        )
    if missed:
        sys.exit("probe: NumPy reads more than the probe; no share of it means anything here")


if __name__ == "__main__":
    main()
