"""How near do the inner loops come to the peak of this core and to its memory?

    python benchmarks/kernels.py [--runs 400] [--save]

Every tile by tier, format, granule of the activations and tokens, on one thread with weights that
stay in its cache, as a share of a peak loop of the same process: vpdpbusd for int4 and int8, fma
for bf16, vdpbf16ps for bf16 in the fast arithmetic, all in 512 bits. Then one and a few tokens on
all threads with weights that no cache holds, as a share of what plain reads get. Best of many runs:
noise only ever slows down. Ends with status 1 where a hot tile for AVX-512 stays under its gate; on
a busy machine that says nothing.
"""

from __future__ import annotations

import argparse
import platform
import sys
from typing import Any

import report
from cabochon import _core
from cabochon._core import testing

ROWS, COLS = 32, 6144
FAST = "avx512bf16"
GATES = {
    ("int4", 128, 6): 0.80, ("int4", 32, 6): 0.75, ("int8", 128, 6): 0.86, ("int8", 32, 6): 0.79,
    ("bf16", 0, 4): 0.85,
}  # fmt: skip
INTEGER_TOKENS = (1, 2, 3, 4, 5, 6, 12)
TOKENS = {  # by format and granule
    ("int4", 128): INTEGER_TOKENS, ("int4", 32): INTEGER_TOKENS,
    ("int8", 128): INTEGER_TOKENS, ("int8", 32): INTEGER_TOKENS,
    ("bf16", 0): (1, 2, 3, 4, 6), ("bf16-fast", 0): (1, 2, 3, 4, 6, 12),
}  # fmt: skip
STREAM_TOKENS = (1, 2, 4, 6)
STREAM_COLS, STREAM_MEGABYTES = 1536, 512
PEAK_ITERATIONS = 5000
ROUNDS = 20


def peak(kernel: str) -> float:
    loops = {"bf16": testing.peak_fma, "bf16-fast": testing.peak_vdpbf16ps}
    return float(loops.get(kernel, testing.peak_vpdpbusd)(PEAK_ITERATIONS))


def tiers_of(kernel: str) -> list[str]:
    """Those with code of their own; the fast arithmetic is no tier, but one kernel more."""
    if kernel == "bf16-fast":
        return [FAST] if _core.has_fast_arithmetic() else []
    return _core.usable_tiers()[1:]


def tile(kernel: str, granule: int, tier: str, tokens: int, runs: int) -> tuple[float, float]:
    """Gop/s of the tile and of the peak loop, in turns: the clock changes while one measures."""
    best = best_peak = 0.0
    for _ in range(ROUNDS):
        if "avx512" in _core.usable_tiers():
            best_peak = max(best_peak, peak(kernel))
        seconds, _ = testing.time_matmul(
            kernel, tier, tokens, ROWS, COLS, granule=granule or 128, runs=runs // ROUNDS
        )
        best = max(best, 2 * tokens * ROWS * COLS / seconds / 1e9)
    return best, best_peak


def stream(kernel: str, tokens: int, tier: str, threads: int) -> tuple[float, float]:
    """GB/s of weights from memory, and of plain reads before and after."""
    _, panel_bytes = testing.time_matmul(kernel, tier, 1, 32, STREAM_COLS)
    rows = STREAM_MEGABYTES * 1_000_000 // panel_bytes * 32
    before = testing.read_bandwidth(STREAM_MEGABYTES, threads, 5)
    seconds, weight_bytes = testing.time_matmul(
        kernel, tier, tokens, rows, STREAM_COLS, threads=threads, runs=5
    )
    after = testing.read_bandwidth(STREAM_MEGABYTES, threads, 5)
    return weight_bytes / seconds / 1e9, max(before, after)


def record(case: str, tier: str, threads: int, **values: Any) -> dict[str, Any]:
    return {
        "schema": report.SCHEMA,
        "case": case,
        "tier": tier,
        "threads": threads,
        "build": _core.build["mode"],
        "compiler": _core.build["compiler"],
        "commit": report.commit(),
        "machine": report.machine(),
        "cpu": report.cpu_name(),
        "kernel": platform.release(),
        **values,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=400, help="of each tile, at least 20")
    parser.add_argument("--threads", type=int, default=_core.default_threads())
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    missed = []
    for (kernel, granule), counts in TOKENS.items():
        for tier in tiers_of(kernel):
            name = f"{kernel} by {granule}" if granule else kernel
            for tokens in counts:
                rate, limit = tile(kernel, granule, tier, tokens, max(arguments.runs, ROUNDS))
                gate = GATES.get((kernel, granule, tokens)) if tier in ("avx512", FAST) else None
                share = rate / limit if limit else None
                facts = record(
                    "tile", tier, 1, format=kernel, granule=granule, tokens=tokens, unit="Gop/s",
                    best=rate, peak_ops=limit, share=share, gate=gate,
                )  # fmt: skip
                words = "no avx512 peak here" if share is None else f"{share:.3f} of {limit:.0f}"
                if gate is not None and share is not None and share < gate:
                    missed.append(f"{name} {tokens} tokens: {share:.3f} of peak, gate {gate}")
                line = f"tile {name} {tokens}x{ROWS} | {rate:.0f} Gop/s = {words}"
                report.publish(f"{line} | {report.how(facts)}", facts, save=arguments.save)
    for kernel in ("int4", "int8", "bf16", "bf16-fast"):
        if not (tiers := tiers_of(kernel)):
            continue
        tier = tiers[-1]
        for tokens in STREAM_TOKENS:
            rate, limit = stream(kernel, tokens, tier, arguments.threads)
            facts = record(
                "stream", tier, arguments.threads, format=kernel, tokens=tokens, unit="GB/s",
                best=rate, probe=limit, share=rate / limit,
            )  # fmt: skip
            line = (
                f"stream {kernel} tokens={tokens} | {rate:.1f} GB/s = {rate / limit:.2f} of reads"
            )
            report.publish(f"{line} | {report.how(facts)}", facts, save=arguments.save)
    if missed:
        sys.exit("under the gate: " + "; ".join(missed))


if __name__ == "__main__":
    main()
