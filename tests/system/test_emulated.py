"""Older CPUs, emulated: the package picks the tier that they can run, and computes the same bits.

Run by qemu-x86_64, which stops a process at an instruction that the CPU it plays does not have.
libm picks other variants of its functions there, so this also covers rope and drawing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

QEMU = shutil.which("qemu-x86_64")

COMPUTE = """
import hashlib, json, sys
import numpy as np, cabochon
from cabochon import _core
ids = np.random.default_rng(1).integers(3, 250, 40).astype(np.int32)
found = {"tiers": list(_core.usable_tiers())}
for weights in ("auto", "int8", "int4"):
    with cabochon.load(sys.argv[1], weights=weights, threads=2) as model:
        drawn = model.generate(ids, max_tokens=4, seed=3, ignore_stops=True, logprobs=True)
        bits = model.logits(ids).tobytes() + drawn.token_ids.tobytes() + drawn.logprobs.tobytes()
        found[weights] = [model.info().tier, hashlib.sha256(bits).hexdigest()]
try:
    cabochon.load(sys.argv[1], arithmetic="fast")
except cabochon.errors.Unsupported as error:
    found["fast"] = f"Unsupported: {error}"
print(json.dumps(found))
"""


def compute(folder: Path, *launcher: str) -> dict[str, Any]:
    # OpenBLAS's kernels for Nehalem have an instruction that the emulated one lacks; NumPy's sums
    # are none of ours.
    environment = os.environ | {"OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("CABOCHON_CPU_TIER", None)
    done = subprocess.run(
        [*launcher, sys.executable, "-c", COMPUTE, str(folder)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(QEMU is None, reason="needs qemu-x86_64 (package qemu-user)")
@pytest.mark.parametrize(
    ("cpu", "tiers"), [("Nehalem", ["scalar"]), ("Haswell-noTSX", ["scalar", "avx2"])]
)
def test_an_older_cpu_runs_the_best_tier_it_can_and_gets_the_same_bits(
    tiny_checkpoint: Callable[[str], Path], cpu: str, tiers: list[str]
) -> None:
    folder = tiny_checkpoint("moe")
    here = compute(folder)

    there = compute(folder, str(QEMU), "-cpu", cpu)

    assert there["tiers"] == tiers
    assert there["fast"].startswith("Unsupported: load: arithmetic='fast': this CPU or system has")
    assert "avx512bf16" in there["fast"]
    for weights in ("auto", "int8", "int4"):
        assert there[weights] == [tiers[-1], here[weights][1]]
