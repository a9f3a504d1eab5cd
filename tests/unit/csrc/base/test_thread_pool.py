"""Regions of work: who computes what, and in which floating-point mode."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import pytest

from cabochon import _core
from cabochon._core import testing


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 1000])
@pytest.mark.parametrize("granule", [1, 16])
def test_ranges_cover_all_rows_once_in_order_and_are_cut_at_granules(threads, rows, granule):
    ranges = [r for r in testing.thread_ranges(threads, rows, granule) if r != (0, 0)]

    assert ranges[0][0] == 0 and ranges[-1][1] == rows
    for (_, end), (begin, _) in itertools.pairwise(ranges):
        assert end == begin and begin % granule == 0


def test_many_regions_in_a_row_each_give_the_same_ranges():
    first = testing.thread_ranges(3, 1000, 1)

    for _ in range(2000):
        assert testing.thread_ranges(3, 1000, 1) == first


def test_no_rows_make_no_ranges():
    assert set(testing.thread_ranges(2, 0, 1)) == {(0, 0)}


def test_denormals_are_kept_in_a_region_even_where_the_caller_flushes_them():
    assert testing.denormals_under_flushing(3) == [2.0**-127] * 3


ASK_TWICE = """
import os
from cabochon import _core
first = _core.default_threads()
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(first, _core.default_threads())
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs to take one away")
def test_the_system_is_asked_once_how_many_threads_there_are():
    # Every op on arrays asks; asking the system means reading files for every CPU.
    done = subprocess.run(
        [sys.executable, "-c", ASK_TWICE], capture_output=True, text=True, check=True
    )

    first, second = done.stdout.split()
    assert first == second
    assert int(first) == _core.default_threads()
