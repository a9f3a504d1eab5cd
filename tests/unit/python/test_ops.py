"""`cabochon.ops` at its door: what is taken, what is refused with both values. The arithmetic is
tested against the reference in unit/csrc/ops/."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("cabochon._core")
from cabochon import ops
from cabochon.errors import InvalidArgument, Unsupported

X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2)
WEIGHT = np.linspace(-2, 2, 8, dtype=np.float32).reshape(4, 2)
HEADS = np.ones((3, 2, 4), np.float32)


class OnlyDlpack:
    """An array of another library."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


def test_arrays_of_other_libraries_come_by_dlpack() -> None:
    found = ops.matmul(OnlyDlpack(X), OnlyDlpack(WEIGHT))

    np.testing.assert_array_equal(found, ops.matmul(X, WEIGHT))


def test_bf16_is_the_same_as_its_values_in_float32() -> None:
    x, weight = X.astype(ml_dtypes.bfloat16), WEIGHT.astype(ml_dtypes.bfloat16)

    found = ops.matmul(x, weight)

    expected = ops.matmul(x.astype(np.float32), weight.astype(np.float32))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found, x.astype(np.float32) @ weight.astype(np.float32).T)


def test_results_are_fresh_arrays_and_arguments_stay_as_they_were() -> None:
    before = X.copy()

    found = ops.rms_norm(X)

    assert found.dtype == np.float32
    assert not np.shares_memory(found, X)
    found[:] = 0
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda: ops.matmul(X.astype(np.float64), WEIGHT), r"x is float64.*x.astype\(np.float32\)"),
        (lambda: ops.matmul(X, WEIGHT.astype(np.float16)), "weight is float16, expected float32"),
        (lambda: ops.matmul(X[0], WEIGHT), r"x is \[2\], expected 2 dimensions"),
        (lambda: ops.matmul(X, WEIGHT[:, :1].copy()), r"\[4, 1\]"),
        (lambda: ops.matmul(X.T, WEIGHT), "C-contiguous"),
        (lambda: ops.matmul([[1.0, 2.0]], WEIGHT), "x is list, expected an array"),
        (lambda: ops.rms_norm(X, np.ones(3, np.float32)), r"\[3\]"),
        (lambda: ops.rms_norm(X, epsilon=float("nan")), "epsilon is nan"),
        (lambda: ops.rope(HEADS, [0, 1]), "positions"),
        (lambda: ops.rope(HEADS, [0, 1, -1]), "found -1, expected 0 and up"),
        (lambda: ops.rope(HEADS, np.zeros(3)), "positions is float64, expected integers"),
        (lambda: ops.rope(HEADS, [0, 1, 2], rotated=1.5), "rotated is 1.5"),
        (lambda: ops.rope(HEADS, [0, 1, 2], theta=0), "theta is 0"),
        (lambda: ops.attention(HEADS, HEADS[:2], HEADS[:2]), "2"),
        (lambda: ops.attention(HEADS, HEADS, HEADS, window=-1), "window is -1"),
        (lambda: ops.route(X, WEIGHT, X[0], np.ones(4, np.float32), top_k=5), "top_k is 5"),
        (lambda: ops.route(X, WEIGHT, X[0], np.ones(3, np.float32), top_k=2), r"\[3\]"),
        (
            lambda: ops.experts(X, [[0], [1]], X[:, :1], HEADS, HEADS),
            "ids is list|dimensions|expected",
        ),
        (
            lambda: ops.experts(
                X,
                np.array([[0], [1], [4]]),
                np.ones((3, 1), np.float32),
                np.ones((4, 6, 2), np.float32),
                np.ones((4, 2, 3), np.float32),
            ),
            "found 0 to 4, expected 0 to 3",
        ),
        (
            lambda: ops.per_layer_input(
                np.array([2**40] * 3), X, WEIGHT, WEIGHT, np.ones(2, np.float32)
            ),
            "int32",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_both_values(use: Callable[[], Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        use()


def test_no_rows_give_no_rows() -> None:
    assert ops.matmul(X[:0], WEIGHT).shape == (0, 4)
    assert ops.rms_norm(X[:0]).shape == (0, 2)


def test_what_is_to_come_says_so() -> None:
    with pytest.raises(Unsupported, match="blocks is to come"):
        ops.attention(HEADS, HEADS, HEADS, blocks=np.zeros(3, np.int32))
