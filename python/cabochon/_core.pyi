"""Types of the extension module. No policy: callers are inside the package."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import testing as testing

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

__version__: str
numerics: int
build: dict[str, str]  # compiler, mode, sanitizers

PAGE_POSITIONS: int  # 64
PACKING_VERSION: int
LAYER_PLAN_FIELDS: tuple[str, ...]
MODEL_PLAN_FIELDS: tuple[str, ...]
WANT_SAMPLE: int
WANT_TARGET: int
WANT_TOP: int
WANT_LOGITS: int

def usable_tiers() -> list[str]: ...
def has_fast_arithmetic() -> bool: ...  # bf16 weights by vdpbf16ps
def default_threads() -> int: ...

class Checkpoint:
    """Shards of one model, mapped. entries: (name, dtype, shape, shard, begin, end), bytes counted
    from the start of the file. With sizes (bytes of each shard) no file is opened: enough to plan
    memory, and whatever reads a weight raises CheckpointError."""

    def __init__(
        self,
        shards: Sequence[str],
        entries: Sequence[tuple[str, str, tuple[int, ...], int, int, int]],
        *,
        sizes: Sequence[int] | None = None,
    ) -> None: ...

class MemoryPlan:
    """Bytes that an Engine with these arguments takes."""

    rows: list[tuple[str, str, int, int, str]]  # class, format, parameters, bytes, place
    kv_bytes_per_token: int
    kv_bytes_per_sequence: int
    scratch_bytes: int
    weight_bytes: int  # anonymous: what is copied or widened at load
    packed_bytes: int  # of those, what write_packed writes
    mapped_bytes: int  # read from the mapping for every token
    disk_bytes: int  # looked up by row: a per-layer table in its file, an embedding
    table_bytes: int  # of those, what write_table writes
    global_pages_per_sequence: int
    sliding_pages_per_sequence: int
    kept_ring_pages: int  # of a state of one ring that is kept; not in kv_bytes_per_sequence
    kept_ring_bytes: int

def check_plan(plan: Any) -> None: ...
def memory_plan(
    checkpoint: Checkpoint,
    plan: Any,
    *,
    formats: Mapping[str, str],
    kv: str,
    context: int,
    max_rows: int,
    threads: int,
    per_layer_table: str = "disk",  # or "memory"
    lattices: Sequence[str] = (),
    is_fast: bool = False,
) -> MemoryPlan: ...
def find_lattices(checkpoint: Checkpoint, plan: Any, classes: Collection[str]) -> list[str]:
    """Tensors of these classes that are on a lattice of int4, as far as a sample says."""

class SamplingArgs:
    def __init__(
        self,
        *,
        temperature: float,
        top_k: int,
        top_p: float,
        min_p: float,
        repetition_penalty: float,
        seed: int,
        banned: Ints,
        bias_ids: Ints,
        bias_values: Floats,
    ) -> None: ...

class StepResult:
    """One entry a wish, in the order of the wishes. Fresh arrays, read-only."""

    tokens: Ints  # [wishes] drawn (SAMPLE), the target (TARGET), the most likely (TOP, LOGITS)
    logprobs: Floats  # [wishes] natural log of the model's own probability of that token
    best: Ints  # [wishes] the most likely token, ties to the lowest id
    top_ids: Ints  # [wishes, top]
    top_logprobs: Floats  # [wishes, top]
    logits: Floats  # [wishes of LOGITS, vocab], in their order
    status: Ints  # [wishes] 0; 1: NaN or infinity in the logits; 2: nothing left to draw
    failures: Ints  # [sequences] 0; 1: a per-layer row could not be read

class Engine:
    def __init__(
        self,
        checkpoint: Checkpoint,
        plan: Any,
        *,
        formats: Mapping[str, str],  # class: "int8", "int4", ... (policy.py)
        kv: str,
        threads: int,
        max_rows: int,
        global_pages: int,
        sliding_pages: int,
        per_layer_table: str = "disk",
        packed: PackedFile | None = None,  # of write_packed, read in place of rounding
        packed_table: PackedFile | None = None,  # of write_table, verified: a rounded one on disk
        progress: Callable[[int, int], None] | None = None,
        lattices: Sequence[str] = (),  # of find_lattices: int4 with the codes they were trained in
        is_fast: bool = False,  # Unsupported where the CPU lacks the instruction
    ) -> None: ...
    @property
    def tier(self) -> str: ...
    @property
    def activations(self) -> str: ...  # what packed matrices multiply with
    @property
    def threads(self) -> int: ...
    def memory(self) -> dict[str, int]: ...
    def int4_blocks(self) -> dict[str, int]:
        """Blocks of 32 weights: "exact", "nearest_scale", "rounded"."""
    def step(
        self,
        tokens: Ints,
        slices: npt.NDArray[np.int64],
        global_pages: Sequence[Ints],
        sliding_pages: Sequence[Ints],
        wishes: Ints,
        sampling: Sequence[SamplingArgs | None],
        histories: Sequence[Ints | None],
        top: int = 0,
        masks: Sequence[npt.NDArray[np.uint32] | None] = (),
    ) -> StepResult:
        """Computes one batch, without the GIL.

        tokens [rows]; slices [sequences, 3]: first row, rows, position of the first. A page table
        a sequence: `global_pages[i]` is the page of positions 64 i to 64 i + 63, `sliding_pages`
        the ring. wishes [wishes, 3]: row (ascending), WANT_*, target token or -1. sampling is
        needed where a sequence has a SAMPLE; histories (prompt and output) serve the repetition
        penalty. top: how many of the most likely tokens each wish reports, 0 to 256. masks: the
        ids that may be drawn, bit id % 32 of word id // 32 [ceil(vocab / 32)]; None: all.
        """

    def copy_pages(self, kind: str, from_pages: Ints, to_pages: Ints) -> None:
        """Pages to[i] of "global" or "sliding" become what from[i] are, one after the other."""

    def page_bytes(self, kind: str) -> int: ...
    def read_pages(self, kind: str, pages: Ints) -> npt.NDArray[np.uint8]:
        """The bytes of whole pages, [pages, page_bytes]."""

    def write_pages(self, kind: str, pages: Ints, bytes: npt.NDArray[np.uint8]) -> None: ...
    def write_packed(self, path: str, key: bytes, about: str = "") -> None: ...
    def close(self) -> None: ...

class PackedFile:
    """A file of write_packed or write_table whose header and size are right, and with a `key` (32
    bytes) the key; CheckpointError where they are not."""

    def __init__(self, path: str, key: bytes | None = None) -> None: ...
    @property
    def about(self) -> str: ...  # the text that it was written with
    def verify(self, threads: int = 1) -> None:
        """Reads all of it; CheckpointError names the first block that is not what was written."""

def write_table(
    checkpoint: Checkpoint,
    plan: Any,
    *,
    format: str,  # "int8" or "int4"
    path: str,  # of no file yet
    key: bytes,
    about: str = "",
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Rounds the per-layer table to a packed file, piece by piece."""

# cabochon.ops: arguments and results as its docstrings say.
class QuantizedWeight:
    @property
    def format(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def nbytes(self) -> int: ...
    def unpack(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint16]]:
        """Codes (of bf16 their bits), and bf16 bits of scales (of bf16 none)."""

    def dequantize(self) -> Floats: ...

def quantize(weight: npt.NDArray[Any], format: str, is_searched: bool) -> QuantizedWeight: ...
def rms_norm(x: Floats, weight: Floats | None, epsilon: float) -> Floats: ...
def rope(
    x: Floats, positions: npt.NDArray[np.int64], theta: float, rotated: float, scaling: float
) -> Floats: ...
def matmul(x: Floats, weight: npt.NDArray[Any] | QuantizedWeight) -> Floats: ...
def attention(
    q: Floats, k: npt.NDArray[Any], v: npt.NDArray[Any], window: int, scale: float
) -> Floats: ...
def per_layer_input(
    token_ids: Ints,
    x: Floats,
    table: npt.NDArray[Any],
    projection: npt.NDArray[Any],
    norm: Floats,
    epsilon: float,
) -> Floats: ...
def route(
    x: Floats, weight: npt.NDArray[Any], scale: Floats, per_expert_scale: Floats, top_k: int
) -> tuple[Ints, Floats]: ...
def experts(
    x: Floats,
    ids: Ints,
    weights: Floats,
    gate_up: npt.NDArray[Any] | QuantizedWeight,
    down: npt.NDArray[Any] | QuantizedWeight,
) -> Floats: ...
