"""Options of load and generate, checked once. What is wrong is named with what was expected."""

from __future__ import annotations

import difflib
import math
import numbers
import operator
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from . import policy
from .chat.constraints import Structure, read_structure
from .chat.tools import Tool, read_tools
from .errors import InvalidArgument, Unsupported

MAX_SEED = 2**64 - 1
IMAGE_TOKENS = (70, 140, 280, 560, 1120)

# Words of other libraries, and what to write here.
_ELSEWHERE = {
    "do_sample": "temperature=0 is greedy, any other temperature samples",
    "num_beams": "beam search is not offered; temperature=0 is greedy",
    "enable_thinking": "write thinking=",
    "skip_special_tokens": "Result.text never holds control tokens, Result.raw_text always does",
    "n": "write generate([prompt] * n, seed=range(n))",
    "best_of": "write generate([prompt] * n, seed=range(n), logprobs=True) and choose",
    "structured_outputs": "write one of schema=, regex=, choices=, grammar=",
    "response_format": "write schema=",
    "frequency_penalty": "write repetition_penalty= or logit_bias=",
    "presence_penalty": "write repetition_penalty= or logit_bias=",
    "max_completion_tokens": "write max_tokens=",
    "top_logprobs": "write logprobs=, the number of most likely tokens",
    "prompt_logprobs": "call Model.logprobs(prompt)",
    "reasoning_effort": "write thinking_budget=",
    "image": "put image parts into messages",
    "n_ctx": "write context=",
    "n_gpu_layers": "write device=",
    "logits_all": "call Model.logits(prompt)",
    "kv_bits": "write kv=",
    "torch_dtype": "write weights=",
    "dtype": "write weights=",
    "device_map": "write device=",
    "load_in_4bit": "write weights='int4'",
    "load_in_8bit": "write weights='int8'",
    "trust_remote_code": "no code of a checkpoint is run; templates run in a sandbox",
}


def refuse_unknown(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    """InvalidArgument for the first keyword that `where` does not take, with the right one."""
    known = list(known)
    for name in given:
        near = difflib.get_close_matches(name, known, n=1)
        if name in _ELSEWHERE:
            advice = _ELSEWHERE[name]
        elif near:
            advice = f"did you mean {near[0]}?"
        else:
            advice = f"it takes {', '.join(known)}"
        raise InvalidArgument(f"{where}: unknown keyword {name!r}: {advice}", argument=name)


def _bad(name: str, value: object, expected: str) -> NoReturn:
    raise InvalidArgument(f"{name} is {value!r}, expected {expected}", argument=name)


def integer(name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int in [low, high]; bool and float are refused."""
    expected = f"an integer from {low:,} to {high:,}"
    if isinstance(value, bool):
        _bad(name, value, expected)
    try:
        number = operator.index(value)
    except TypeError:
        _bad(name, value, expected)
    if not low <= number <= high:
        _bad(name, number, expected)
    return number


def real(name: str, value: Any, low: float, high: float, *, above: bool = False) -> float:
    """`value` as a float in [low, high], or (low, high] with `above`; NaN fails."""
    expected = f"a number {f'above {low:g} and' if above else f'from {low:g}'} up to {high:g}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        _bad(name, value, expected)
    number = float(value)
    if not (low < number <= high if above else low <= number <= high):
        _bad(name, number, expected)
    return number


def flag(name: str, value: Any) -> bool:
    """`value` if it is True or False."""
    if not isinstance(value, bool):
        _bad(name, value, "True or False")
    return value


def one_of(name: str, value: Any, allowed: Sequence[Any]) -> Any:
    """`value` if it is one of `allowed`."""
    if isinstance(value, bool) or value not in allowed:
        _bad(name, value, f"one of {', '.join(repr(item) for item in allowed)}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingDefaults:
    """What a checkpoint's generation_config says where the caller says nothing."""

    temperature: float = 1.0
    top_p: float = 0.95
    top_k: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateOptions:
    """Every option of one call of generate, checked, defaults resolved."""

    max_tokens: int | None
    stop: tuple[str, ...]
    stop_token_ids: tuple[int, ...]
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    logit_bias: tuple[tuple[int, float], ...]  # by id
    seed: int | tuple[int, ...] | None
    logprobs: bool | int
    tools: tuple[Tool, ...]
    tool_choice: str | Mapping[str, Any]  # "auto", "none", "required" or OpenAI's dict with a name
    parallel_tool_calls: bool
    # Calls are bound to their schemas while they are written; else checked afterwards. None: bound
    # where that can be, which Requests finds out.
    strict_tools: bool | None
    thinking: bool
    thinking_budget: int | None  # tokens of thought
    structure: Structure | None
    preserve_thinking: bool
    raw: bool
    continue_final: bool
    allow_special_tokens_in_content: bool
    ignore_stops: bool
    on_error: str

    @property
    def top(self) -> int:
        """How many of the most likely tokens are reported."""
        return 0 if isinstance(self.logprobs, bool) else self.logprobs

    @property
    def must_call(self) -> bool:
        """The answer has to call a tool."""
        return self.tool_choice not in ("auto", "none")

    @property
    def callable_tools(self) -> tuple[Tool, ...]:
        """Those that `tool_choice` lets the answer call."""
        if isinstance(self.tool_choice, str):
            return () if self.tool_choice == "none" else self.tools
        name = self.tool_choice["function"]["name"]
        return tuple(tool for tool in self.tools if tool.name == name)

    def seeds(self, count: int) -> list[int]:
        """One for each of `count` prompts; fresh ones where none was given."""
        if self.seed is None:
            return [secrets.randbits(64) for _ in range(count)]
        if isinstance(self.seed, int):
            return [self.seed] * count
        if len(self.seed) != count:
            raise InvalidArgument(
                f"seed has {len(self.seed)} entries, expected {count}, one for each prompt",
                argument="seed",
            )
        return list(self.seed)

    def settings(self) -> dict[str, Any]:
        """As written into results."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values.pop("seed")
        structure = values.pop("structure")
        if structure is not None:
            values[structure.kind] = structure.value
        values["tools"] = [tool.declaration() for tool in self.tools]
        values["logit_bias"] = dict(self.logit_bias)
        return values


def check_generate(
    given: Mapping[str, Any], *, defaults: SamplingDefaults, vocab_size: int, context: int
) -> GenerateOptions:
    """The keywords of generate, all present, as options.

    Raises:
        InvalidArgument: out of range, of a wrong type, or two that exclude each other.
        Unsupported: one that is to come.
    """
    _refuse_to_come(given)

    def or_default(name: str) -> Any:
        return getattr(defaults, name) if given[name] is None else given[name]

    stops = given["stop"]
    if given["max_tokens"] is not None and given["max_new_tokens"] is not None:
        raise InvalidArgument(
            f"max_tokens is {given['max_tokens']!r} and its alias max_new_tokens "
            f"{given['max_new_tokens']!r}, expected one of them",
            argument="max_new_tokens",
        )
    name = "max_tokens" if given["max_new_tokens"] is None else "max_new_tokens"
    max_tokens = given[name]
    logprobs = given["logprobs"]
    one_of("image_tokens", given["image_tokens"], IMAGE_TOKENS)
    tools = read_tools(given["tools"])
    return GenerateOptions(
        max_tokens=None if max_tokens is None else integer(name, max_tokens, 1, 2**31 - 1),
        stop=_stops([stops] if isinstance(stops, str) else stops),
        stop_token_ids=_ids("stop_token_ids", given["stop_token_ids"], vocab_size, limit=256),
        temperature=real("temperature", or_default("temperature"), 0, 100),
        top_p=real("top_p", or_default("top_p"), 0, 1),
        top_k=integer("top_k", or_default("top_k"), 0, vocab_size),
        min_p=real("min_p", given["min_p"], 0, 1),
        repetition_penalty=real(
            "repetition_penalty", given["repetition_penalty"], 0, 10, above=True
        ),
        logit_bias=_bias(given["logit_bias"], vocab_size),
        seed=_seed(given["seed"]),
        logprobs=logprobs
        if isinstance(logprobs, bool)
        else integer("logprobs", logprobs, 1, min(256, vocab_size)),
        tools=tools,
        tool_choice=_tool_choice(given["tool_choice"], tools),
        parallel_tool_calls=flag("parallel_tool_calls", given["parallel_tool_calls"]),
        strict_tools=_strict_tools(given["strict_tools"], given["tool_choice"], tools),
        thinking=flag("thinking", given["thinking"]),
        thinking_budget=_thinking_budget(given),
        structure=_structure(given),
        preserve_thinking=flag("preserve_thinking", given["preserve_thinking"]),
        raw=flag("raw", given["raw"]),
        continue_final=flag("continue_final", given["continue_final"]),
        allow_special_tokens_in_content=flag(
            "allow_special_tokens_in_content", given["allow_special_tokens_in_content"]
        ),
        ignore_stops=flag("ignore_stops", given["ignore_stops"]),
        on_error=one_of("on_error", given["on_error"], ("raise", "return")),
    )


def _refuse_to_come(given: Mapping[str, Any]) -> None:
    if given["adapter"] is not None:
        raise Unsupported("generate: adapter is to come")


def _thinking_budget(given: Mapping[str, Any]) -> int | None:
    budget = given["thinking_budget"]
    if budget is None:
        return None
    if not given["thinking"]:
        raise InvalidArgument(
            f"thinking_budget is {budget!r} without thinking=True", argument="thinking_budget"
        )
    return integer("thinking_budget", budget, 0, 2**31 - 1)


def _structure(given: Mapping[str, Any]) -> Structure | None:
    structure = read_structure(given)
    if structure is not None and given["ignore_stops"]:
        raise InvalidArgument(
            f"ignore_stops is True, and so is {structure.kind} given, which ends at a stop: "
            "expected one of them",
            argument="ignore_stops",
        )
    return structure


def _tool_choice(given: Any, tools: Sequence[Tool]) -> str | Mapping[str, Any]:
    """As given; a name becomes OpenAI's dict, since a tool may be named "none"."""
    words = ("auto", "none", "required")
    if isinstance(given, str):
        name = None if given in words else given
    else:
        function = given.get("function") if isinstance(given, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if name is None or given.get("type") != "function":
            _bad("tool_choice", given, "{'type': 'function', 'function': {'name': ...}}")
    if name is None and (tools or given != "required"):
        return given  # type: ignore[no-any-return]
    if name not in [tool.name for tool in tools]:
        names = ", ".join(repr(tool.name) for tool in tools) or "tools to choose from"
        _bad("tool_choice", given, f"'auto', 'none', 'required', or one of tools: {names}")
    return {"type": "function", "function": {"name": name}}


def _strict_tools(given: Any, tool_choice: Any, tools: Sequence[Tool]) -> bool | None:
    if given is None:
        return None
    if flag("strict_tools", given) and not tools:
        _bad("strict_tools", given, "None or False, since no tools are given")
    if not given and tool_choice not in ("auto", "none"):
        _bad("strict_tools", given, f"None or True beside tool_choice={tool_choice!r}")
    return bool(given)


def _stops(given: Any) -> tuple[str, ...]:
    expected = "a string, or up to 64 strings of 1 to 1,024 bytes"
    try:
        stops = tuple(given)
    except TypeError:
        _bad("stop", given, expected)
    for stop in stops:
        if not isinstance(stop, str) or not 1 <= len(stop.encode("utf-8", "replace")) <= 1024:
            _bad("stop", given, expected)
    return stops if len(stops) <= 64 else _bad("stop", f"{len(stops)} strings", expected)


def _ids(name: str, given: Any, vocab_size: int, *, limit: int) -> tuple[int, ...]:
    try:
        ids = tuple(given)
    except TypeError:
        _bad(name, given, "a sequence of token ids")
    if len(ids) > limit:
        _bad(name, f"{len(ids)} ids", f"up to {limit}")
    return tuple(integer(f"{name}[{i}]", item, 0, vocab_size - 1) for i, item in enumerate(ids))


def _bias(given: Any, vocab_size: int) -> tuple[tuple[int, float], ...]:
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        _bad("logit_bias", given, "a mapping from token id to a number")
    entries = {}
    for token, value in given.items():
        token = integer("a token id of logit_bias", token, 0, vocab_size - 1)
        name = f"logit_bias[{token}]"
        entries[token] = value if value == -math.inf else real(name, value, -1e30, 1e30)
    return tuple(sorted(entries.items()))


def _seed(given: Any) -> int | tuple[int, ...] | None:
    if given is None:
        return None
    if isinstance(given, Iterable) and not isinstance(given, (str, bytes)):
        return tuple(integer(f"seed[{i}]", item, 0, MAX_SEED) for i, item in enumerate(given))
    return integer("seed", given, 0, MAX_SEED)


class DefaultContext(int):
    """The context of a caller who names none: lowered to the checkpoint's where that is less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Every option of load, checked as far as that goes without the checkpoint."""

    given: Mapping[str, Any]  # the keywords as they were
    weights: str  # as given; "mixed" for a mapping
    formats: Mapping[str, str]  # class: integer format; the others stay as stored
    per_layer_table: str  # where it stands: "disk" or "memory"
    exact_classes: frozenset[str]  # those that keep the codes a checkpoint was trained for
    kv: str  # "f32", "bf16" or "int8"
    arithmetic: str  # "exact" or "fast"
    context: int
    max_sequences: int
    threads: int | None
    memory_limit: int | None  # bytes
    revision: str | None
    allow_custom_template: bool

    def changed(self, **keywords: Any) -> LoadOptions:
        """The same with other keywords, checked like the first ones; raises what they raise."""
        return check_load({**self.given, **keywords})


def check_load(given: Mapping[str, Any]) -> LoadOptions:
    """The keywords of load, all present, as options.

    Raises:
        InvalidArgument: out of range or of a wrong type.
        Unsupported: a format, device or adapter that is to come.
    """
    device = given["device"]
    formats = policy.resolve(given["weights"])
    kv = one_of("kv", given["kv"], ("auto", "f32", "bf16", "int8"))
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", device):
        _bad("device", device, "'auto', 'cpu', 'cuda' or 'cuda:1'")
    if device.startswith("cuda"):
        raise Unsupported(f"load: device={device!r} is to come; 'cpu' is there")
    tables = one_of(
        "per_layer_embeddings",
        given["per_layer_embeddings"],
        ("auto", "disk", "memory", "device"),
    )
    if tables == "device":
        raise Unsupported("load: per_layer_embeddings='device' is to come; 'memory' is there")
    if tables == "auto":
        tables = "memory" if "per_layer_table" in formats else "disk"
    for name in ("adapter", "drafter"):
        if given[name] is not None:
            raise Unsupported(f"load: {name} is to come")
    threads, revision = given["threads"], given["revision"]
    if revision is not None and not isinstance(revision, str):
        _bad("revision", revision, "the name of a branch, tag or commit")
    context = given["context"]
    return LoadOptions(
        given=dict(given),
        weights=given["weights"] if isinstance(given["weights"], str) else "mixed",
        formats=formats,
        per_layer_table=tables,
        exact_classes=policy.exact_classes(given["weights"]),
        kv="bf16" if kv == "auto" else kv,
        arithmetic=one_of("arithmetic", given["arithmetic"], ("exact", "fast")),
        context=context
        if isinstance(context, DefaultContext)
        else integer("context", context, 1, 2**31 - 1),
        max_sequences=integer("max_sequences", given["max_sequences"], 1, 4096),
        threads=None if threads is None else integer("threads", threads, 1, 1024),
        memory_limit=_bytes(given["memory_limit"]),
        revision=revision,
        allow_custom_template=flag("allow_custom_template", given["allow_custom_template"]),
    )


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20,
          "GIB": 2**30}  # fmt: skip


def _bytes(given: Any) -> int | None:
    if given is None:
        return None
    if not isinstance(given, str):
        return integer("memory_limit", given, 1, 2**62)
    match = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,9})?)\s*([A-Za-z]*)\s*", given)
    if match is None or match[2].upper() not in _UNITS:
        _bad("memory_limit", given, "bytes, or text such as '6GiB' or '500MB'")
    return integer("memory_limit", int(float(match[1]) * _UNITS[match[2].upper()]), 1, 2**62)


def context_for(asked: int, checkpoint: int) -> int:
    """The context to load for: what was asked, within what the checkpoint has."""
    if asked > checkpoint and not isinstance(asked, DefaultContext):
        _bad("context", int(asked), f"at most {checkpoint:,}, the checkpoint's own maximum")
    return min(int(asked), checkpoint)
