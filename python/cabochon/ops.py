"""The kernels that the model runs, as functions on arrays.

Arrays come as NumPy arrays or as anything with `__dlpack__` on the CPU, C-contiguous: float32, or
bf16 as `ml_dtypes.bfloat16`. Weights, keys, values and tables are used as they are; activations in
bf16 are widened to float32 first, which is exact. `quantize` makes a `Weight` in int4, int8 or bf16
that `matmul` and `experts` take in an array's place. Results are new float32 NumPy arrays. Sums are
float32 in the order of docs/numerics.md, and a row's result never depends on other rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from .errors import InvalidArgument, Unsupported
from .options import flag, integer, one_of, real

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

_MAX = 3.0e38  # of float32


def rms_norm(x: Any, weight: Any | None = None, *, epsilon: float = 1e-6) -> Floats:
    """Rows divided by their root mean square, times a weight.

    out[i] = x[i] / sqrt(mean(x^2) + epsilon) * weight[i].

    Args:
        x: [..., n], n > 0.
        weight: [n], multiplied as it is (give 1 + w for Gemma 3); None: ones.
        epsilon: 0 and up.

    Returns:
        float32, the shape of x.

    Raises:
        InvalidArgument: shapes or dtypes disagree.

    Source: Gemma4RMSNorm in transformers; docs/model.md.
    """
    factors = None if weight is None else _floats("weight", weight, 1)
    return _core.rms_norm(_floats("x", x), factors, real("epsilon", epsilon, 0, _MAX))


def rope(
    x: Any,
    positions: Any,
    *,
    theta: float = 10_000.0,
    rotated: float = 1.0,
    scaling: float = 1.0,
) -> Floats:
    """Rotary position embedding: pair (i, i + head_dim / 2) turns by its angle.

    angle = positions[t] / scaling * theta^(-2 i / head_dim) for the first
    floor(rotated * head_dim / 2) pairs; the others stay.

    Args:
        x: [tokens, heads, head_dim], head_dim even.
        positions: integers [tokens], 0 and up.
        theta: base of the frequencies, above 0.
        rotated: share of the pairs that turn, 0 to 1.
        scaling: positions are divided by it, above 0.

    Returns:
        float32 [tokens, heads, head_dim].

    Raises:
        InvalidArgument: shapes or dtypes disagree, or a value is out of range.

    Source: Gemma4RotaryEmbedding in transformers; docs/model.md, "Rope".
    """
    rows = _floats("x", x, 3)
    places = _ids("positions", positions, 1, np.int64)
    if places.size and places.min() < 0:
        raise InvalidArgument(
            f"positions: found {places.min()}, expected 0 and up", argument="positions"
        )
    return _core.rope(
        rows,
        places.astype(np.int64),
        real("theta", theta, 0, _MAX, above=True),
        real("rotated", rotated, 0, 1),
        real("scaling", scaling, 0, _MAX, above=True),
    )


def matmul(x: Any, weight: Any) -> Floats:
    """x times the transposed weight.

    Args:
        x: [tokens, in]; tokens may be 0. For an int8 or int4 weight it is rounded to int8 first,
            with a scale for each 128 columns, as in the model.
        weight: [out, in], as linear layers store it: an array, or a `Weight`.

    Returns:
        float32 [tokens, out].

    Raises:
        InvalidArgument: shapes or dtypes disagree.

    Source: docs/numerics.md, "Matmul".
    """
    return _core.matmul(_floats("x", x, 2), _matrix("weight", weight, 2))


def attention(
    q: Any, k: Any, v: Any, *, window: int = 0, scale: float = 1.0, blocks: Any | None = None
) -> Floats:
    """Causal attention with grouped heads.

    out = softmax(scale * q k^T) v over the keys that a query sees. Query t stands at position
    keys - tokens + t; query head j reads kv head floor(j * kv_heads / heads).

    Args:
        q: [tokens, heads, head_dim].
        k, v: [keys, kv_heads, head_dim], keys >= tokens, heads a multiple of kv_heads.
        window: keys a query sees, its own included; 0: all before it.
        scale: factor of the scores.
        blocks: runs of image tokens that see each other; to come.

    Returns:
        float32 [tokens, heads, head_dim].

    Raises:
        InvalidArgument: shapes or dtypes disagree.
        Unsupported: blocks.

    Source: Gemma4TextAttention in transformers; docs/model.md, "Attention".
    """
    if blocks is not None:
        raise Unsupported("attention: blocks is to come")
    return _core.attention(
        _floats("q", q, 3),
        _floats("k", k, 3),
        _floats("v", v, 3),
        integer("window", window, 0, 2**31 - 1),
        real("scale", scale, -_MAX, _MAX),
    )


def per_layer_input(
    token_ids: Any, x: Any, table: Any, projection: Any, norm: Any, *, epsilon: float = 1e-6
) -> Floats:
    """What each layer of E2B and E4B gets beside the residual stream.

    (rms_norm(projection x / sqrt(hidden)) * norm + table[id] * sqrt(width)) / sqrt(2), each layer's
    part normed by itself.

    Args:
        token_ids: integers [tokens].
        x: the embedded tokens as the decoder gets them, [tokens, hidden].
        table: [vocab, layers * width].
        projection: [layers * width, hidden].
        norm: [width].
        epsilon: 0 and up.

    Returns:
        float32 [tokens, layers, width].

    Raises:
        InvalidArgument: shapes or dtypes disagree, or an id has no row.

    Source: Gemma4TextModel.get_per_layer_inputs in transformers; docs/model.md.
    """
    return _core.per_layer_input(
        _ids("token_ids", token_ids, 1, np.int32).astype(np.int32),
        _floats("x", x, 2),
        _stored("table", table, 2),
        _stored("projection", projection, 2),
        _floats("norm", norm, 1),
        real("epsilon", epsilon, 0, _MAX),
    )


def route(
    x: Any, weight: Any, scale: Any, per_expert_scale: Any, *, top_k: int = 8
) -> tuple[Ints, Floats]:
    """The experts each token goes to, and how much each counts.

    p = softmax over all experts of weight @ (rms(x) * scale / sqrt(hidden));
    w[e] = p[e] / sum(p over the top_k) * per_expert_scale[e].

    Args:
        x: the raw residual stream, not a normed copy, [tokens, hidden]; tokens may be 0.
        weight: router projection, [experts, hidden].
        scale: learned factor of each input, [hidden].
        per_expert_scale: learned factor of each expert, [experts]; applied after the division.
        top_k: experts per token, 1 to experts.

    Returns:
        ids: [tokens, top_k] int32, the largest p first, ties to the lowest id.
        weights: [tokens, top_k] float32, in the same order; a row need not sum to 1.

    Raises:
        InvalidArgument: shapes or dtypes disagree, or top_k is out of range.

    Source: Gemma4TextRouter in transformers; docs/model.md, "Experts".
    """
    router = _stored("weight", weight, 2)
    return _core.route(
        _floats("x", x, 2),
        router,
        _floats("scale", scale, 1),
        _floats("per_expert_scale", per_expert_scale, 1),
        integer("top_k", top_k, 1, router.shape[0]),
    )


def experts(x: Any, ids: Any, weights: Any, gate_up: Any, down: Any) -> Floats:
    """The weighted sum of each token's experts.

    out = sum over its experts e, ascending by id, of
    weights * down[e] (gelu_tanh(gate[e] x) * up[e] x).

    Args:
        x: [tokens, hidden].
        ids: integers [tokens, top_k], from `route`.
        weights: [tokens, top_k].
        gate_up: [experts, 2 * ffn, hidden], an array or a `Weight`; the first ffn rows are the
            gate. In int8 or int4, ffn is a multiple of 32.
        down: [experts, hidden, ffn], an array or a `Weight`. What meets an int8 or int4 weight is
            rounded to int8 first, as in `matmul`.

    Returns:
        float32 [tokens, hidden].

    Raises:
        InvalidArgument: shapes or dtypes disagree, or an id has no expert.

    Source: Gemma4TextExperts in transformers; docs/model.md, "Experts".
    """
    stored = _matrix("gate_up", gate_up, 3)
    chosen = _ids("ids", ids, 2, np.int32)
    if chosen.size and not 0 <= chosen.min() <= chosen.max() < stored.shape[0]:
        raise InvalidArgument(
            f"ids: found {chosen.min()} to {chosen.max()}, expected 0 to {stored.shape[0] - 1} "
            "(experts of gate_up)",
            argument="ids",
        )
    return _core.experts(
        _floats("x", x, 2),
        chosen.astype(np.int32),
        _floats("weights", weights, 2),
        stored,
        _matrix("down", down, 3),
    )


class Weight:
    """A weight in another format, in the bytes that the kernels read. Made by `quantize`; never
    changes.

    Its numbers are, for int8 and int4, number x scale, where each scale serves `block` columns of
    a row: 128 in int8, 32 in int4; the last block of a row of int8 may be short.

    Source: docs/formats.md, "Logical form" and "panel32".
    """

    __slots__ = ("_core",)

    def __init__(self, core: _core.QuantizedWeight) -> None:
        self._core = core

    @property
    def format(self) -> str:
        """ "int4", "int8" or "bf16"."""
        return self._core.format

    @property
    def shape(self) -> tuple[int, ...]:
        """[..., out, in], as given."""
        return self._core.shape

    @property
    def nbytes(self) -> int:
        """Bytes it takes: codes and scales, and out filled up to a multiple of 32 rows."""
        return self._core.nbytes

    @property
    def codes(self) -> npt.NDArray[Any]:
        """[..., out, in], made at each look and read-only: int8 numbers of int8, the numbers + 8
        (0 to 15) as uint8 of int4, the bits as uint16 of bf16."""
        codes, _ = self._core.unpack()
        codes.flags.writeable = False
        return codes

    @property
    def scales(self) -> Floats:
        """float32 [..., out, ceil(in / block)], made at each look and read-only. They are bf16
        numbers. Of bf16 [..., out, 0]: it has none."""
        _, bits = self._core.unpack()
        scales = (bits.astype(np.uint32) << 16).view(np.float32)
        scales.flags.writeable = False
        return scales

    def dequantize(self) -> Floats:
        """The numbers that it stands for, as a new float32 array [..., out, in]."""
        return self._core.dequantize()

    def __repr__(self) -> str:
        return f"Weight({self.format}, {list(self.shape)}, {self.nbytes:,} bytes)"


def quantize(weight: Any, format: str, *, search: bool = False) -> Weight:
    """A weight rounded to another format, as `load` rounds it.

    The scale of a block is bf16(absmax / 127) in int8, bf16(absmax / 7.5) in int4; a number is
    weight / scale, rounded to the nearest integer, ties to even, and clamped to -127..127 or -8..7.
    In bf16 each number is rounded to the nearest, ties to even.

    Args:
        weight: [..., out, in], up to four dimensions, none empty, all numbers finite. For "int4"
            and "int8" `in` is a multiple of 32.
        format: "int4", "int8" or "bf16".
        search: of "int4" alone: for each block the one of 15 scales and a refit that leaves the
            least squared error. `load` does the same with columns weighed by what they multiply.

    Returns:
        The `Weight`; `matmul` and `experts` take it.

    Raises:
        InvalidArgument: another shape, dtype or format, a number that the format cannot hold,
            with its place, or a search in another format than int4.

    Source: docs/formats.md, "Rounding" and "int4: the search".
    """
    one_of("format", format, ("int4", "int8", "bf16"))
    if flag("search", search) and format != "int4":
        raise InvalidArgument(
            f"quantize: search is True with format {format!r}, expected 'int4': the other formats "
            "have one rule",
            argument="search",
        )
    return Weight(_core.quantize(_stored("weight", weight), format, search))


def _matrix(name: str, value: Any, dimensions: int) -> npt.NDArray[Any] | _core.QuantizedWeight:
    """A weight as the core takes it where it may be a `Weight`."""
    return value._core if isinstance(value, Weight) else _stored(name, value, dimensions)


def _array(name: str, value: Any, dimensions: int | None, expected: str) -> npt.NDArray[Any]:
    """`value` as a NumPy array, without a copy."""
    if not isinstance(value, np.ndarray):
        if not hasattr(value, "__dlpack__"):
            raise InvalidArgument(
                f"{name} is {type(value).__name__}, expected an array: NumPy, or with __dlpack__",
                argument=name,
            )
        try:
            value = np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError) as error:
            raise InvalidArgument(
                f"{name}: NumPy cannot take it by DLPack ({error}), expected {expected} on the "
                "CPU; give bf16 as ml_dtypes.bfloat16",
                argument=name,
            ) from None
    array: npt.NDArray[Any] = value
    if dimensions is not None and array.ndim != dimensions:
        raise InvalidArgument(
            f"{name} is {list(array.shape)}, expected {dimensions} dimensions", argument=name
        )
    if not array.flags.c_contiguous:
        raise InvalidArgument(
            f"{name} is {list(array.shape)} with strides {list(array.strides)}, expected "
            "C-contiguous: np.ascontiguousarray makes a copy that is",
            argument=name,
        )
    return array


def _stored(name: str, value: Any, dimensions: int | None = None) -> npt.NDArray[Any]:
    """A weight as the core takes it: float32, or the bits of bf16 as uint16."""
    expected = "float32 or bf16"
    array = _array(name, value, dimensions, expected)
    if array.dtype == np.float32:
        return array
    if array.dtype.name == "bfloat16":
        return array.view(np.uint16)
    raise InvalidArgument(
        f"{name} is {array.dtype}, expected {expected}: write {name}.astype(np.float32)",
        argument=name,
    )


def _floats(name: str, value: Any, dimensions: int | None = None) -> Floats:
    """Activations as float32; bf16 is widened."""
    array = _stored(name, value, dimensions)
    if array.dtype == np.float32:
        return array
    return (array.astype(np.uint32) << 16).view(np.float32)


def _ids(
    name: str, value: Any, dimensions: int, dtype: type[np.signedinteger[Any]]
) -> npt.NDArray[Any]:
    """Integers that fit into `dtype`."""
    if isinstance(value, (list, tuple, range)):
        value = np.array(value, None if len(value) else np.int64)
    array = _array(name, value, dimensions, "integers")
    if array.dtype.kind not in "iu":
        raise InvalidArgument(
            f"{name} is {array.dtype}, expected integers: write {name}.astype(np.int64)",
            argument=name,
        )
    bound = np.iinfo(dtype)
    if array.size and not bound.min <= int(array.min()) <= int(array.max()) <= bound.max:
        raise InvalidArgument(
            f"{name}: found {array.min()} to {array.max()}, expected what fits {bound.dtype}",
            argument=name,
        )
    return array
