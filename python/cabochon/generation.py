"""One item of generate: takes tokens as they are drawn, knows when to stop, gives the Result."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from .chat.masking import Masking
from .chat.parser import AnswerParser, Outline, Piece, is_end, starting_state
from .chat.tools import check_calls
from .errors import InvalidArgument
from .options import GenerateOptions
from .prompts import Prepared
from .results import Event, Result
from .scheduler.sequence import Answer, Sampling, Sequence, Want
from .tokenizer import Tokenizer
from .types import Ints, Manifest, Timings, ToolCall, Usage

# Calls with what is wrong with each.
Check = Callable[[Iterable[ToolCall]], tuple[ToolCall, ...]]


class StopSearch:
    """Text as it comes, held back while it may be the beginning of a stop string."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """What is sure to be part of the answer; nothing after a stop string was found."""
        if self.found is not None:
            return ""
        held = self._held + text
        begins = [(held.find(stop), stop) for stop in self._stops]
        first = min(((at, stop) for at, stop in begins if at >= 0), default=None)
        if first is not None:
            self.found = first[1]
            self._held = ""
            return held[: first[0]]
        keep = max((_overlap(held, stop) for stop in self._stops), default=0)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Setting:
    """What all items of one call share."""

    options: GenerateOptions
    tokenizer: Tokenizer | None  # None: prompts are ids, and texts stay empty
    stop_ids: frozenset[int]  # the model's and the caller's
    context: int
    banned: Ints
    manifest: dict[str, Any]  # fields of Manifest that do not depend on the prompt
    is_streamed: bool  # somebody reads the text while it is written
    masking: Masking | None = None  # None: every token may be drawn


class Generation:
    """From a prompt to a Result; the consumer of its sequence."""

    def __init__(
        self,
        prompt: Prepared,
        seed: int,
        setting: Setting,
        *,
        index: int,
        keeps: bool = False,
    ) -> None:
        """keeps: its sequence does."""
        options = setting.options
        self.prompt, self.seed, self.index = prompt, seed, index
        self.events: deque[Event] = deque()
        self._setting, self._options = setting, options
        stops = () if options.ignore_stops else options.stop
        self._control_ids = setting.tokenizer.control_ids if setting.tokenizer else {}
        self._starts_in = starting_state(prompt.token_ids.tolist(), self._control_ids)
        # Followed from the first token on only where it must be: ids alone need no tokenizer.
        is_followed = setting.is_streamed or bool(stops)
        # The same prompt gives the same ids of calls; a later turn has another prompt.
        self._prompt_sha256 = prompt.sha256
        self._reading = {
            "starts_in": self._starts_in,
            "call_prefix": f"call_{self._prompt_sha256[:12]}_",
        }
        self._parser = (
            AnswerParser(setting.tokenizer, **self._reading)
            if setting.tokenizer and is_followed
            else None
        )
        # Ids may declare tools that we were not given: then nothing is known of their calls.
        is_known = bool(options.tools) or prompt.kind not in ("ids", "prompt")
        self._check: Check = partial(check_calls, tools=options.tools) if is_known else tuple
        self._search = StopSearch(stops)
        self._text: list[str] = []
        self._unsent: list[int] = []  # ids since the last event
        self._ids: list[int] = []
        self._logprobs: list[float] = []
        self._top: list[tuple[Ints, Any]] = []
        self._finish_reason, self._stop_reason = "error", None  # type: tuple[str, int | str | None]
        self._first_s = self._last_s = 0.0
        size = prompt.token_ids.size
        room = setting.context - size
        self._most = room if options.max_tokens is None else min(room, options.max_tokens)
        self.sequence = Sequence(
            prompt.token_ids,
            consumer=self,
            want=Want.SAMPLE,
            limit=size + self._most,
            top=options.top,
            sampling=_sampling(options, seed, setting.banned),
            keeps=keeps,
        )
        self._masker = setting.masking.masker(self._starts_in) if setting.masking else None
        if self._masker is not None:
            self.sequence.mask = self._masker.mask()

    def take(self, answer: Answer) -> bool:
        """One token was drawn; True when it was the last."""
        self._last_s = time.monotonic()
        self._first_s = self._first_s or self._last_s
        self._ids.append(answer.token)
        if self._options.logprobs is not False:
            self._logprobs.append(answer.logprob)
            self._top.append((answer.top_ids, answer.top_logprobs))
        if self._masker is not None:
            self._masker.push(answer.token)
        if answer.token in self._setting.stop_ids and not self._options.ignore_stops:
            return self._end("stop", answer.token)
        if self._parser is not None:
            self._emit(self._parser.push(answer.token))
            if self._search.found is not None:
                return self._end("stop", self._search.found)
        if len(self._ids) < self._most:
            if self._masker is not None:
                self.sequence.mask = self._masker.mask()
            return False
        return self._end(
            "length", "max_tokens" if self._most == self._options.max_tokens else "context"
        )

    def _emit(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            self._unsent += piece.token_ids
            if piece.tool_call is not None:
                self._event(piece.kind, piece.text, self._check([piece.tool_call])[0])
                continue
            if piece.kind != "text":
                self._event(piece.kind, piece.text)
                continue
            if text := self._search.push(piece.text):
                self._event("text", text)
            if self._search.found is not None:
                return

    def _event(self, kind: str, text: str, tool_call: ToolCall | None = None) -> None:
        if kind == "text":
            self._text.append(text)
        ids, self._unsent = tuple(self._unsent), []
        self.events.append(
            Event(kind=kind, index=self.index, text=text, token_ids=ids, tool_call=tool_call)
        )

    def _end(self, finish_reason: str, stop_reason: int | str) -> bool:
        if self._parser is not None and self._search.found is None:
            if finish_reason == "stop" and is_end(self._ids[-1], self._control_ids):
                self._emit(self._parser.push(self._ids[-1]))
            self._emit(self._parser.finish())
            if self._search.found is not None:
                finish_reason, stop_reason = "stop", self._search.found
            elif text := self._search.flush():
                self._event("text", text)
        self._finish_reason, self._stop_reason = finish_reason, stop_reason
        return True

    def result(self, error: Exception | None = None) -> Result:
        """What came of it; the sequence is finished, or never began because of `error`."""
        setting, options = self._setting, self._options
        ids = np.asarray(self._ids, np.int32)
        error = error or self.sequence.error
        parsed = None
        try:
            parsed = self._masker.parsed() if self._masker and not error else None
        except InvalidArgument as refused:
            error = refused
        settings = MappingProxyType({**options.settings(), "seed": self.seed})
        top_shape = (len(self._ids), options.top)
        outline = Outline(self._control_ids, starts_in=self._starts_in)
        for token_id in self._ids:
            outline.push(token_id)
        has_ended = isinstance(self._stop_reason, int) and is_end(
            self._stop_reason, self._control_ids
        )
        finish_reason = "tool_calls" if has_ended and outline.calls else self._finish_reason
        return Result.undecoded(
            self._reader(ids.tolist(), has_ended=has_ended),
            token_ids=ids,
            prompt_token_ids=self.prompt.token_ids,
            logprobs=None if options.logprobs is False else np.asarray(self._logprobs, np.float32),
            top_ids=np.array([ids for ids, _ in self._top], np.int32).reshape(top_shape)
            if options.top
            else None,
            top_logprobs=np.array([values for _, values in self._top], np.float32).reshape(
                top_shape
            )
            if options.top
            else None,
            finish_reason="error" if error else finish_reason,
            stop_reason=None if error else self._stop_reason,
            cut_in=outline.state if finish_reason == "length" and not error else None,
            thinking_closed_by=self._closed_by(outline),
            parsed=parsed,
            usage=self._usage(outline),
            timings=self._timings(),
            seed=self.seed,
            settings=settings,
            manifest=Manifest(
                **setting.manifest,
                prompt_kind=self.prompt.kind,
                prompt_sha256=self._prompt_sha256,
                template_sha256=self.prompt.template_sha256,
                settings=settings,
            ),
            error=error,
        )

    def _reader(self, ids: list[int], *, has_ended: bool) -> Callable[[], dict[str, Any]]:
        """What reads the ids when somebody looks; holds no more of this than that takes."""
        tokenizer = self._setting.tokenizer
        if tokenizer is None or not ids:
            return partial(_said, None, "", lambda: "", self._check)
        raw_text = partial(tokenizer.decode, ids, special=True)
        if self._parser is not None:
            return partial(_said, self._parser, "".join(self._text), raw_text, self._check)
        # A token that stopped it is no text.
        is_text = self._finish_reason != "stop" or has_ended
        new_parser = partial(AnswerParser, tokenizer, **self._reading)
        return partial(_read, new_parser, ids if is_text else ids[:-1], raw_text, self._check)

    def _closed_by(self, outline: Outline) -> str | None:
        if self._masker is not None and self._masker.closed_by_budget:
            return "budget"
        return "model" if outline.closed_thinking else None

    def _usage(self, outline: Outline) -> Usage:
        return Usage(
            prompt_tokens=int(self.prompt.token_ids.size),
            cached_tokens=self.sequence.cached,
            output_tokens=len(self._ids),
            thinking_tokens=outline.counts["thinking"],
            answer_tokens=outline.counts["answer"],
            tool_tokens=outline.counts["tool"],
            control_tokens=outline.counts["control"],
            forced_tokens=self._masker.forced_tokens if self._masker else 0,
        )

    def _timings(self) -> Timings:
        submitted = self.sequence.submitted_s
        started = self.sequence.started_s or submitted
        first, last = self._first_s or started, self._last_s or started
        prefill_s, decode_s = first - started, last - first
        computed = self.prompt.token_ids.size - self.sequence.cached
        return Timings(
            queue_s=started - submitted,
            prefill_s=prefill_s,
            first_token_s=first - submitted,
            decode_s=decode_s,
            total_s=last - submitted,
            prefill_tokens_per_s=computed / prefill_s if prefill_s > 0 else 0.0,
            decode_tokens_per_s=(len(self._ids) - 1) / decode_s if decode_s > 0 else 0.0,
        )


def _read(
    new_parser: Callable[[], AnswerParser],
    ids: list[int],
    raw_text: Callable[[], str],
    check: Check,
) -> dict[str, Any]:
    parser = new_parser()
    for token_id in ids:
        parser.push(token_id)
    parser.finish()
    return _said(parser, parser.text, raw_text, check)


def _said(
    parser: AnswerParser | None, text: str, raw_text: Callable[[], str], check: Check
) -> dict[str, Any]:
    """The fields of a Result that its ids say."""
    return {
        "text": text,
        "thinking": parser.thinking if parser else None,
        "tool_calls": check(parser.tool_calls if parser else ()),
        "raw_text": raw_text(),
    }


def _sampling(options: GenerateOptions, seed: int, banned: Ints) -> Sampling:
    return Sampling(
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        repetition_penalty=options.repetition_penalty,
        seed=seed,
        banned=banned,
        bias_ids=np.array([token for token, _ in options.logit_bias], np.int32),
        bias_values=np.array([value for _, value in options.logit_bias], np.float32),
    )
