"""Small frozen types that functions of cabochon take and return."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from . import display
from .errors import InvalidArgument

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]


def jsonable(value: Any) -> Any:
    """`value` in the types that JSON has: arrays and tuples as lists, NaN and infinity as None."""
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, BaseException):
        return {"type": type(value).__name__, "message": str(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return value


class Record:
    """A frozen dataclass that can be written as JSON."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """All fields in types that JSON has."""
        return {item.name: jsonable(getattr(self, item.name)) for item in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a callable given as `progress` gets, at most 10 times a second."""

    stage: str  # "load", "prompt", "generate", ...
    done: int  # in `unit`
    total: int | None  # None: not known
    unit: str  # "B", "tokens", "prompts"
    rate: float  # `unit` a second, 0.0 until known
    eta_s: float | None  # seconds left, None: not known
    note: str = ""  # of an evaluation: the score so far


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage(Record):
    """Tokens of one item. output = thinking + answer + tool + control."""

    prompt_tokens: int
    cached_tokens: int = 0  # of the prompt, not computed again
    output_tokens: int
    thinking_tokens: int = 0
    answer_tokens: int
    tool_tokens: int = 0
    control_tokens: int
    media_tokens: int = 0
    forced_tokens: int = 0  # written by a budget or a constraint
    drafted_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and output."""
        return self.prompt_tokens + self.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings(Record):
    """Wall time of one item; the item may have shared its steps with others."""

    queue_s: float  # before its first token was computed
    prefill_s: float  # from there to the first token drawn
    first_token_s: float  # queue_s + prefill_s
    decode_s: float  # from the first token drawn to the last
    total_s: float
    prefill_tokens_per_s: float  # computed prompt tokens / prefill_s
    decode_tokens_per_s: float  # (output tokens - 1) / decode_s, 0.0 for one token


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall(Record):
    """A tool that the model wants called."""

    id: str  # another one for each call of a conversation
    name: str  # 1 to 64 of A-Z a-z 0-9 _ . -, or "" where it cannot be read
    arguments: Mapping[str, Any]  # empty where they cannot be read
    raw: str  # as it stood between its markers
    error: str | None = None  # cannot be read, not valid against its schema, or an unknown tool


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed(Record):
    """What generated ids say, from `Model.parse`; fields as those of Result."""

    text: str
    thinking: str | None
    tool_calls: tuple[ToolCall, ...]
    cut_in: str | None  # "thinking", "answer", "tool_call"; None: they end as a turn does


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaUse(Record):
    """What one image, sound or video part took."""

    kind: str
    message: int
    part: int
    tokens: int
    size: tuple[int, int] | None = None  # pixels after resizing
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Record):
    """What is needed to get a result again."""

    version: str
    numerics: int  # rises when any output may change for equal input
    fingerprint: str  # SHA-256 of the model's files
    weights: str
    kv: str
    device: str
    tier: str
    arithmetic: str
    prompt_kind: str  # "text", "messages", "ids" or "prompt": how the prompt was given and read
    prompt_sha256: str  # of the prompt's ids, int32 little-endian
    template_sha256: str | None  # None: no template was applied
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prompt(Record):
    """A rendered prompt, from `Model.render`: exactly what `generate` would send."""

    text: str
    token_ids: Ints  # [n]
    media: tuple[MediaUse, ...] = ()
    template: tuple[str, str] | None = None  # name and SHA-256
    starts_in: str = "answer"  # or "thinking"

    def __repr__(self) -> str:
        return f"Prompt({self.text[:60]!r}, {self.token_ids.size} tokens)"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenLogprobs(Record):
    """Log-probability (natural) of every token given those before it."""

    token_ids: Ints  # [n]
    logprobs: Floats  # [n], index 0 is nan and counts nowhere
    is_greedy: Bools  # [n], the token was the most likely one
    is_assistant: Bools  # [n], the token belongs to an assistant message
    top_ids: Ints  # [n, top], -1 at index 0
    top_logprobs: Floats  # [n, top], nan at index 0
    total: float  # sum of logprobs[1:]
    perplexity: float  # exp(-total / (n - 1)), nan for one token

    def __repr__(self) -> str:
        return (
            f"TokenLogprobs({self.token_ids.size} tokens, total={self.total:.3f}, "
            f"perplexity={self.perplexity:.3f})"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Score(Record):
    """Log-probability (natural) of one continuation given its prompt."""

    logprob: float  # sum of logprobs, in float64; 0.0 for an empty continuation
    logprobs: Floats  # [m]
    token_ids: Ints  # [m]
    is_greedy: bool  # every token was the most likely one, ties to the lowest id
    num_bytes: int | None  # of its text in UTF-8, None: ids of a model without a tokenizer
    per_token: float  # logprob / m, 0.0 for an empty continuation
    per_byte: float  # logprob / num_bytes, 0.0 for an empty one, nan where num_bytes is None

    @classmethod
    def of(cls, token_ids: Ints, logprobs: Floats, is_greedy: bool, num_bytes: int | None) -> Score:
        """From what is known of its tokens."""
        total = math.fsum(logprobs.tolist())
        return cls(
            logprob=total,
            logprobs=logprobs,
            token_ids=token_ids,
            is_greedy=is_greedy,
            num_bytes=num_bytes,
            per_token=total / max(1, token_ids.size),
            per_byte=math.nan if num_bytes is None else total / max(1, num_bytes),
        )

    def __repr__(self) -> str:
        return (
            f"Score(logprob={self.logprob:.3f}, {self.token_ids.size} tokens, "
            f"is_greedy={self.is_greedy})"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores(Record):
    """Continuations of one prompt, in the order given."""

    scores: tuple[Score, ...]
    best: int  # index of the largest sum, the first of equal ones
    probabilities: npt.NDArray[np.float64]  # [continuations], softmax of the sums

    @classmethod
    def of(cls, scores: Iterable[Score]) -> Scores:
        """From each of them."""
        found = tuple(scores)
        sums = np.array([score.logprob for score in found])
        weights = np.exp(sums - sums.max())
        return cls(scores=found, best=int(sums.argmax()), probabilities=weights / weights.sum())

    def choose(self, by: str = "logprob", *, unconditional: Scores | None = None) -> int:
        """Index of the largest, the first of equal ones.

        Args:
            by: "logprob" (the sum), "per_token" or "per_byte".
            unconditional: scores of the same continuations after an empty prompt, which are taken
                off first: how much more likely the prompt made each of them.

        Raises:
            InvalidArgument: another `by`, other continuations, or bytes that nobody knows.
        """
        if by not in ("logprob", "per_token", "per_byte"):
            raise InvalidArgument(
                f"by is {by!r}, expected 'logprob', 'per_token' or 'per_byte'", argument="by"
            )
        values = np.array([getattr(score, by) for score in self.scores])
        if unconditional is not None:
            ids = [score.token_ids.tolist() for score in self.scores]
            others = [score.token_ids.tolist() for score in unconditional.scores]
            if ids != others:
                raise InvalidArgument(
                    f"unconditional has {len(others)} continuations, expected the same "
                    f"{len(ids)}, token by token",
                    argument="unconditional",
                )
            values -= [getattr(score, by) for score in unconditional.scores]
        if np.isnan(values).any():
            raise InvalidArgument(
                "by is 'per_byte', but the continuations are ids of a model without a tokenizer: "
                "expected 'logprob' or 'per_token'",
                argument="by",
            )
        return int(values.argmax())

    def __repr__(self) -> str:
        return (
            f"Scores({len(self.scores)} continuations, best={self.best}, "
            f"probability={self.probabilities[self.best]:.3f})"
        )

    def _repr_html_(self) -> str:
        head = ("", "log-probability", "share", "per token", "per byte", "tokens", "greedy")
        rows: list[Sequence[str]] = [
            (
                f"{index}{' (best)' if index == self.best else ''}",
                f"{score.logprob:.3f}",
                f"{share:.1%}",
                f"{score.per_token:.3f}",
                f"{score.per_byte:.3f}",
                str(score.token_ids.size),
                "yes" if score.is_greedy else "no",
            )
            for index, (score, share) in enumerate(
                zip(self.scores, self.probabilities, strict=True)
            )
        ]
        return display.html_table(head, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow(Record):
    """One class of tensors in one format."""

    name: str  # tensor class
    format: str
    parameters: int
    bytes: int
    place: str  # "anonymous", "mapped", "disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Record):
    """Bytes of a loaded model at full use: min(max_sequences, sequences_that_fit) sequences of
    `context` tokens."""

    rows: tuple[PlanRow, ...]
    device_bytes: int  # on the device that computes: anonymous, mapped and KV together
    host_bytes: int  # anonymous
    mapped_bytes: int  # file-backed, can be dropped by the system
    kv_bytes: int
    kv_bytes_per_token: int
    scratch_bytes: int
    available_bytes: int
    fits: bool  # load will not refuse
    sequences_that_fit: int  # of `context` tokens
    largest_context: int  # tokens of one sequence
    advice: tuple[str, ...] = ()  # what fits, or what to change; the best first
    download_bytes: int = 0  # that load fetches from the hub first; 0: the files are here
    fetched_bytes: int = 0  # of files on the hub, to make this plan
    # Bytes that were allocated, by part ("weights", "mapped", "kv", "scratch"); empty: not loaded.
    measured: Mapping[str, int] = field(default_factory=dict)

    def _table(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        rows: list[Sequence[str]] = [
            (row.name, row.format, f"{row.parameters:,}", display.size(row.bytes), row.place)
            for row in self.rows
        ]
        rows.append(("KV cache", "", "", display.size(self.kv_bytes), "anonymous"))
        rows.append(("scratch", "", "", display.size(self.scratch_bytes), "anonymous"))
        return ("class", "format", "parameters", "size", "place"), rows

    def table(self) -> str:
        """The plan as text, bytes in GiB (2^30)."""
        parts = [display.text_table(*self._table()), self._summary()]
        if self.measured:
            parts.append(display.text_table(*self._comparison()))
        return "\n".join(parts)

    def _comparison(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        """Planned and allocated bytes, part by part."""
        planned = {
            "weights": self.host_bytes - self.kv_bytes - self.scratch_bytes,
            "mapped": self.mapped_bytes,
            "kv": self.kv_bytes,
            "scratch": self.scratch_bytes,
        }
        rows: list[Sequence[str]] = [
            (name, display.size(planned[name]), display.size(count))
            for name, count in self.measured.items()
        ]
        return ("part", "planned", "allocated"), rows

    def _summary(self) -> str:
        return (
            f"needs {display.size(self.host_bytes)} anonymous and "
            f"{display.size(self.mapped_bytes)} mapped; "
            f"{display.size(self.available_bytes)} is available: "
            f"{'fits' if self.fits else 'does not fit'}, "
            f"{self.sequences_that_fit} full-length sequences at once, "
            f"largest context {self.largest_context}"
        ) + self._download()

    def _download(self) -> str:
        if not self.download_bytes:
            return ""
        return (
            f"; not here yet: load downloads {display.size(self.download_bytes)} "
            f"({display.size(self.fetched_bytes)} were read for this plan)"
        )

    def _repr_html_(self) -> str:
        return display.html_table(*self._table(), caption=self._summary())


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerInfo(Record):
    """One layer as it is computed."""

    layer: int
    kind: str  # "sliding" or "global"
    heads: int
    kv_heads: int
    head_dim: int
    window: int  # keys a query sees with itself, 0: all
    ffn: int  # width of the dense MLP
    experts: str  # "8 of 128", or "" without
    kv_from: int  # the layer whose keys and values it reads


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo(Record):
    """What was loaded and how it runs."""

    name: str
    family: str
    parameters: int
    modalities: tuple[str, ...]
    template: str | None  # name and hash, None: a base model
    formats: Mapping[str, str]  # tensor class: format
    activations: str  # what int8 and int4 matrices multiply with; without them "f32" or "bf16"
    kv: str
    tier: str
    arithmetic: str  # "exact", "fast": bf16 matrices meet activations rounded to bf16
    numerics: int  # rises when any output may change for equal input
    threads: int
    device: str
    device_reason: str
    context: int
    vocab_size: int
    config_defaults: tuple[str, ...]  # config keys that were absent and took the class default
    config_ignored: tuple[str, ...]  # config keys that are not known
    files: tuple[str, ...]  # that were loaded: weights, config, tokenizer, template
    memory: Mapping[str, int]  # bytes, as allocated
    # Blocks of 32 weights in int4. "exact": codes and scale of the checkpoint. "nearest_scale": its
    # codes, and the bf16 scale nearest to its own. "rounded": from numbers that were not int4.
    int4_blocks: Mapping[str, int]
    layers: tuple[LayerInfo, ...]

    def _table(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        head = ("layer", "kind", "heads", "head dim", "window", "MLP", "experts", "KV of")
        rows: list[Sequence[str]] = [
            (
                str(layer.layer),
                layer.kind,
                f"{layer.heads}/{layer.kv_heads}",
                str(layer.head_dim),
                str(layer.window or "all"),
                str(layer.ffn),
                layer.experts,
                "own" if layer.kv_from == layer.layer else str(layer.kv_from),
            )
            for layer in self.layers
        ]
        return head, rows

    def _facts(self) -> Iterable[tuple[str, str]]:
        yield "model", f"{self.name} ({self.family}), {self.parameters:,} parameters"
        yield "modalities", ", ".join(self.modalities)
        yield "template", self.template or "none (base model)"
        yield "formats", ", ".join(f"{name} {kind}" for name, kind in self.formats.items())
        yield "activations", self.activations
        yield "KV cache", f"{self.kv}, {self.context} tokens a sequence"
        yield "arithmetic", self.arithmetic
        yield "device", f"{self.device} ({self.device_reason}), {self.tier}, {self.threads} threads"
        yield (
            "memory",
            ", ".join(f"{name} {display.size(count)}" for name, count in self.memory.items()),
        )
        if any(self.int4_blocks.values()):
            counts = (f"{count:,} {name}" for name, count in self.int4_blocks.items() if count)
            yield "int4 blocks", ", ".join(counts).replace("_", " ")
        if self.config_defaults:
            yield "config defaults", ", ".join(self.config_defaults)
        if self.config_ignored:
            yield "config ignored", ", ".join(self.config_ignored)

    def __str__(self) -> str:
        facts = "\n".join(f"{name:16}{text}" for name, text in self._facts())
        return f"{facts}\n\n{display.text_table(*self._table())}"

    def _repr_html_(self) -> str:
        facts = display.html_table((), [(name, text) for name, text in self._facts()])
        return facts + display.html_table(*self._table())
