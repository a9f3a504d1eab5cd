from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cabochon._core import has_fast_arithmetic, testing, usable_tiers
from cabochon.errors import Unsupported

ROOT = Path(__file__).parents[4]


def run_an_op(tier: str) -> subprocess.CompletedProcess[str]:
    """Uses the chosen kernels once, in a process of its own: the choice is made once a process."""
    code = (
        "import numpy as np\n"
        "from cabochon import ops\n"
        "ops.rms_norm(np.ones((1, 4), np.float32), np.ones(4, np.float32), epsilon=1e-6)\n"
    )
    environment = os.environ | {"CABOCHON_CPU_TIER": tier}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


def test_scalar_comes_first_and_the_others_from_slow_to_fast():
    tiers = usable_tiers()

    assert tiers == [tier for tier in ("scalar", "avx2", "avx512") if tier in tiers]
    assert tiers[0] == "scalar"


def test_the_features_asked_of_the_cpu_are_the_flags_of_the_compiler():
    cmake = (ROOT / "CMakeLists.txt").read_text()
    select = (ROOT / "csrc" / "cpu" / "select.cc").read_text()

    flags = {
        tier: re.findall(r"-m(\w+)", options)
        for tier, options in re.findall(r"^\s*add_cpu_tier\((\w+)([^)]*)\)", cmake, re.M)
    }
    features = {}
    for part in re.split(r"tiers\.push_back\(", select)[1:]:
        tier = re.match(r'\{"(\w+)"', part)
        assert tier is not None
        named = re.findall(r'\{"(\w+)", __builtin_cpu_supports\("(\w+)"\)', part)
        assert all(name == asked for name, asked in named)
        features[tier.group(1)] = [name for name, _ in named]

    assert set(features) == {"avx2", "avx512", "avx512bf16"}
    assert {tier: flags[tier] for tier in features} == features


def test_every_kernel_of_the_header_can_be_tested():
    header = (ROOT / "csrc" / "cpu" / "kernels.h").read_text()
    entries = re.findall(r"\(\*(\w+)\)\(", header)

    assert len(entries) > 10
    assert sorted(testing.kernel_names()) == sorted(entries)


@pytest.mark.parametrize("tier", usable_tiers())
def test_a_usable_tier_can_be_forced(tier):
    result = run_an_op(tier)

    assert result.returncode == 0, result.stderr


def test_a_forced_tier_that_nobody_knows_is_an_error():
    result = run_an_op("avx1024")

    assert result.returncode != 0
    assert "cabochon.errors.InvalidArgument: CABOCHON_CPU_TIER" in result.stderr
    assert "'avx1024'" in result.stderr
    assert "usable here: scalar" in result.stderr


@pytest.mark.skipif(usable_tiers()[-1] == "avx512", reason="this CPU has every tier")
def test_a_forced_tier_that_this_machine_lacks_is_an_error():
    result = run_an_op("avx512")

    assert result.returncode != 0
    assert "cabochon.errors.Unsupported: CABOCHON_CPU_TIER" in result.stderr
    assert "usable here: scalar" in result.stderr


def test_the_fast_arithmetic_is_no_tier():
    result = run_an_op("avx512bf16")

    assert "avx512bf16" not in usable_tiers()
    assert result.returncode != 0
    assert "InvalidArgument: CABOCHON_CPU_TIER: 'avx512bf16' gives other bits" in result.stderr
    assert "load with arithmetic='fast'" in result.stderr


@pytest.mark.parametrize("tier", usable_tiers())
def test_no_tier_has_the_fast_kernel(tier):
    empty = np.zeros((0, 0), np.uint16)

    with pytest.raises(RuntimeError, match="no such kernel"):
        testing.matmul_bf16_pairs(tier, empty, empty)


@pytest.mark.skipif(has_fast_arithmetic(), reason="this CPU has vdpbf16ps")
def test_a_cpu_without_the_fast_kernel_says_what_it_lacks():
    empty = np.zeros((0, 0), np.uint16)

    with pytest.raises(Unsupported, match=r"no .*avx512bf16, which tier 'avx512bf16' needs"):
        testing.matmul_bf16_pairs("avx512bf16", empty, empty)
