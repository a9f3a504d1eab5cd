"""Every tier gives the same bits: whole models, in every weight format."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cabochon import _core

HASH = """
import hashlib, sys
import numpy as np, cabochon
ids = np.random.default_rng(1).integers(3, 250, 90).astype(np.int32)
with cabochon.load(sys.argv[1], weights=sys.argv[2]) as model:
    drawn = model.generate(ids, max_tokens=8, seed=3, ignore_stops=True).token_ids
    print(hashlib.sha256(model.logits(ids).tobytes() + drawn.tobytes()).hexdigest())
"""


@pytest.mark.parametrize("weights", ["auto", "int8", "int4"])
@pytest.mark.parametrize("name", ["e_type", "moe"])
def test_a_model_has_the_same_bits_on_every_tier(tiny_checkpoint, name, weights):
    hashes = {}
    for tier in _core.usable_tiers():
        done = subprocess.run(
            [sys.executable, "-c", HASH, str(tiny_checkpoint(name)), weights],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"CABOCHON_CPU_TIER": tier},
        )
        hashes[tier] = done.stdout.strip()

    assert len(set(hashes.values())) == 1, hashes
