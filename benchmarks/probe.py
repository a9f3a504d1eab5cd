"""How many bytes a second do this machine's cores read from memory right now?

    python benchmarks/probe.py [--threads N]

The limit next to which every rate of these benchmarks stands. Each thread XORs its share of a 1 GiB
array (much more than the caches hold, 2 MiB pages where the system gives them); NumPy releases the
interpreter's lock meanwhile.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import numpy as np

ARENA_BYTES = 1 << 30
STEADY = 0.85  # a probe below this share of the best one seen is repeated
REPEATS = 3


class Probe:
    """Read bandwidth with `threads` threads, in GB/s (10^9 bytes). Holds 1 GiB until closed."""

    def __init__(self, threads: int) -> None:
        # Written, not only reserved: pages that were never written are all one page of zeros.
        self._shares = np.array_split(np.ones(ARENA_BYTES // 8, np.uint64), threads)
        self._pool = ThreadPoolExecutor(threads)
        self._best = 0.0
        self._pass()  # threads start, pages are mapped

    def measure(self) -> float:
        rate = self._pass()
        for _ in range(REPEATS):
            if rate >= STEADY * self._best:
                break
            rate = max(rate, self._pass())
        self._best = max(self._best, rate)
        return rate

    def _pass(self) -> float:
        start = time.perf_counter()
        for _ in self._pool.map(np.bitwise_xor.reduce, self._shares):
            pass
        return ARENA_BYTES / (time.perf_counter() - start) / 1e9

    def __enter__(self) -> Probe:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown()
        self._shares = []


def is_steady(before: float, after: float) -> bool:
    """Two probes around one run differ by at most 15 %."""
    return min(before, after) >= STEADY * max(before, after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--runs", type=int, default=10)
    arguments = parser.parse_args()
    with Probe(arguments.threads) as probe:
        rates = sorted(probe.measure() for _ in range(arguments.runs))
    print(
        f"probe threads={arguments.threads} | median {np.median(rates):.1f} GB/s "
        f"of {len(rates)} [{rates[0]:.1f} {rates[-1]:.1f}]"
    )


if __name__ == "__main__":
    main()
