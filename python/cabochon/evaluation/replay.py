"""Models without weights: one that answers by a function, one that answers from a record.

They have the few members of `Model` that evaluation uses, so that suites, graders, runs and reports
can be tried without a checkpoint, and a recorded run can be run again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..chat.parser import read_written
from ..errors import EvaluationError
from ..results import Event, Result
from ..tokenizer import CONTROL_NAMES, alternatives
from ..types import Ints, Manifest, Prompt, Timings, Usage
from .cases import Case, canonical
from .recipes import SCHEMA
from .report import Report

_CONTROL = alternatives(CONTROL_NAMES)
_FIRST = len(CONTROL_NAMES)  # ids below are control strings, above it characters
_BOS, _OPEN, _CLOSE = "<bos>", "<|turn>", "<turn|>"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Asked(Prompt):
    """A prompt that remembers what was asked."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Any] = ()


Answer = Callable[[Asked, Mapping[str, Any]], str]


class ScriptedModel:
    """Answers with what a function of (prompt, options) gives: raw text, control strings written
    out. A token is a character or a control string."""

    def __init__(
        self,
        answer: Answer,
        *,
        name: str = "scripted",
        fingerprint: str = "",
        context: int = 1 << 20,
    ) -> None:
        self._answer = answer
        self.name, self.context = name, context
        self.fingerprint = fingerprint or hashlib.sha256(name.encode()).hexdigest()
        self.stop_token_ids = (CONTROL_NAMES.index(_CLOSE),)
        self.plan = SimpleNamespace(fits=True, sequences_that_fit=8, advice=(), host_bytes=0)

    def info(self) -> Any:
        """As `Model.info()`, as far as a record has it."""
        return SimpleNamespace(
            formats={}, kv="f32", arithmetic="exact", device="none", tier="none", threads=0,
            numerics=0, template=f"plain, {'0' * 12}", files=(), memory={},
        )  # fmt: skip

    def encode(self, text: str, *, bos: bool = False, special: bool = False) -> Ints:
        """As `Model.encode`."""
        ids = [CONTROL_NAMES.index(_BOS)] if bos else []
        at = 0
        for found in _CONTROL.finditer(text) if special else ():
            ids += [_FIRST + ord(character) for character in text[at : found.start()]]
            ids.append(CONTROL_NAMES.index(found.group()))
            at = found.end()
        ids += [_FIRST + ord(character) for character in text[at:]]
        return np.array(ids, np.int32)

    def score(self, prompt: Asked, continuations: Sequence[str]) -> Any:
        """As `Model.score`, as far as evaluation looks: what it would answer scores highest."""
        said = self._answer(prompt, {}).partition(_CLOSE)[0]
        values = [0.0 if text == said else -1.0 - i for i, text in enumerate(continuations)]
        scores = [
            SimpleNamespace(
                logprob=value,
                num_bytes=len(text.encode("utf-8", "surrogatepass")),
                is_greedy=value == 0,
            )
            for text, value in zip(continuations, values, strict=True)
        ]
        return SimpleNamespace(scores=tuple(scores), best=values.index(max(values)))

    def decode(self, ids: Sequence[int] | Ints, *, special: bool = False) -> str:
        """As `Model.decode`."""
        return "".join(
            chr(token - _FIRST) if token >= _FIRST else CONTROL_NAMES[token] if special else ""
            for token in np.asarray(ids).tolist()
        )

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] = (),
        thinking: bool = False,
    ) -> Prompt:
        """A turn a message, its content as text."""
        pieces: list[Ints] = [self.encode(_BOS, special=True)]
        declared = [("tools", repr(list(tools)))] if tools else []
        turns = [(str(m["role"]), str(m.get("content") or m.get("tool_calls"))) for m in messages]
        for role, content in [*declared, *turns]:
            opened = self.encode(f"{_OPEN}{role}\n", special=True)
            pieces += [opened, self.encode(content), self.encode(f"{_CLOSE}\n", special=True)]
        pieces.append(self.encode(f"{_OPEN}model\n", special=True))
        ids = np.concatenate(pieces)
        return Asked(
            text=self.decode(ids, special=True),
            token_ids=ids,
            template=("plain", "0" * 64),
            messages=messages,
            tools=tools,
        )

    def stream(self, prompt: Any, **options: Any) -> Iterator[Event]:
        """The answer as one event, its Result as the last one."""
        ids = self.encode(self._answer(prompt, options), special=True)
        stops = np.flatnonzero(np.isin(ids, self.stop_token_ids))
        if stops.size:
            ids = ids[: stops[0] + 1]
        limit = options.get("max_tokens")
        is_cut = limit is not None and ids.size > limit
        yield Event(kind="done", result=self._result(prompt, ids[:limit], options, is_cut))

    def _result(
        self, prompt: Prompt, ids: Ints, options: Mapping[str, Any], is_cut: bool
    ) -> Result:
        raw_text = self.decode(ids, special=True)
        lengths = [len(CONTROL_NAMES[i]) if i < _FIRST else 1 for i in ids.tolist()]
        starts = np.cumsum([0, *lengths])[:-1]
        parser = read_written(raw_text, controls=set(starts[ids < _FIRST].tolist()))
        control = int((ids < _FIRST).sum())
        thinking, answer = len(parser.thinking or ""), len(parser.text)
        info = self.info()
        manifest = Manifest(
            version="", numerics=info.numerics, fingerprint=self.fingerprint, weights="",
            kv=info.kv, device=info.device, tier=info.tier, arithmetic=info.arithmetic,
            prompt_kind="prompt", prompt_sha256="", template_sha256=None, settings=dict(options),
        )  # fmt: skip
        return Result(
            text=parser.text,
            thinking=parser.thinking,
            tool_calls=parser.tool_calls,
            raw_text=raw_text,
            token_ids=ids,
            prompt_token_ids=prompt.token_ids,
            finish_reason="length" if is_cut else "tool_calls" if parser.tool_calls else "stop",
            stop_reason="max_tokens" if is_cut else int(ids[-1]) if ids.size else None,
            cut_in=parser.state if is_cut else None,
            usage=Usage(
                prompt_tokens=int(prompt.token_ids.size),
                output_tokens=int(ids.size),
                thinking_tokens=thinking,
                answer_tokens=answer,
                tool_tokens=int(ids.size) - control - thinking - answer,
                control_tokens=control,
            ),
            timings=Timings(
                queue_s=0.0, prefill_s=0.0, first_token_s=0.0, decode_s=0.0, total_s=0.0,
                prefill_tokens_per_s=0.0, decode_tokens_per_s=0.0,
            ),
            seed=options.get("seed") or 0,
            settings=dict(options),
            manifest=manifest,
        )  # fmt: skip


class Replay(ScriptedModel):
    """Answers what a recorded run answered: same cases, same turns, no weights. Examples of
    few-shot prompting are not in a record: such a run is not replayed."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """path: the folder of a run, or of its shards.

        Raises:
            EvaluationError: there is none, or its questions are gone.
        """
        report = Report.merge(path)
        self._said: dict[str, str] = {}
        for record in report.cases:
            if record["output_text"] is not None:
                turns = [turn["output_text"] for turn in record["turns"] or ()]
                asked = _questions(report.question(record), record)
                self._said.update(zip(asked, [*turns, record["output_text"]], strict=True))
        super().__init__(
            self._answer_of,
            name=str(report.manifest["machine"]["name"]),
            fingerprint=str(report.manifest["fingerprint"]),
        )

    def _answer_of(self, prompt: Asked, options: Mapping[str, Any]) -> str:
        key = _question(prompt.messages, options.get("seed"), options.get("schema"))
        if key not in self._said:
            raise EvaluationError(f"the record has no answer to {prompt.messages[-1:]!r}"[:300])
        return self._said[key]


def _questions(case: Case, record: Mapping[str, Any]) -> Iterator[str]:
    """What was asked of a case, turn by turn."""
    schema = case.schema if record["prompting"] == SCHEMA else None
    for index, message in enumerate(case.messages):
        is_last = index + 1 == len(case.messages)
        if is_last or (case.is_talk and message["role"] == "user"):
            yield _question(case.messages[: index + 1], record["seed"], schema)


def _question(messages: Sequence[Mapping[str, Any]], seed: int | None, schema: Any) -> str:
    """Without the answers in between, which it decides."""
    told = [message for message in messages if message["role"] != "assistant"]
    return canonical([told, seed, schema is not None])
