from __future__ import annotations

import numpy as np

from cabochon._core import testing


def test_every_half_becomes_the_float_that_numpy_makes_of_it():
    halves = np.arange(65536, dtype=np.uint16)

    actual = np.array([testing.f16_to_float(int(h)) for h in halves], np.float32)

    expected = halves.view(np.float16).astype(np.float32)
    is_nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(actual), is_nan)
    np.testing.assert_array_equal(
        actual.view(np.uint32)[~is_nan], expected.view(np.uint32)[~is_nan]
    )
