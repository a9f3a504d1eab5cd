"""Calls become requests: prompts and options checked, sequences made of them, run, waited for."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from . import information
from .chat.call_grammar import bind_calls
from .chat.constraints import Compiler
from .chat.masking import Masking
from .chat.template import Template
from .config import ModelConfig
from .display import Bar
from .errors import CabochonError, InvalidArgument, Unsupported
from .generation import Generation, Setting
from .options import GenerateOptions, SamplingDefaults, check_generate
from .prompts import CALL, CALL_END, Prepared, PromptReader, named, split
from .results import Event, Result
from .scheduler.loop import Loop
from .scheduler.scheduler import Scheduler
from .scheduler.sequence import Sequence
from .tokenizer import Tokenizer
from .types import Plan

if TYPE_CHECKING:
    from . import _core

ProgressArgument = bool | Callable[[Any], object] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What `load` puts together."""

    name: str
    load_options: Mapping[str, Any]  # as they were given
    files: tuple[str, ...]  # that were loaded
    fingerprint: str
    config: ModelConfig
    tokenizer: Tokenizer | None
    template: Template | None
    bos_id: int | None
    stop_ids: tuple[int, ...]
    banned: tuple[int, ...]
    defaults: SamplingDefaults
    context: int
    kv: str
    arithmetic: str
    numerics: int  # rises when any output may change for equal input
    plan: Plan
    engine: _core.Engine
    scheduler: Scheduler


class Requests:
    """What stands behind the front door, `Model`: what is given becomes sequences, which are run
    until all are finished or, streamed, until the next of them has something to say."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._process = os.getpid()
        self._scheduler = parts.scheduler
        self._loop = Loop(parts.engine, parts.scheduler)
        self._lock = Lock()  # of what is made when it is first needed
        self._compiler: Compiler | None = None
        self._prompts = PromptReader(
            tokenizer=parts.tokenizer,
            template=parts.template,
            bos_id=parts.bos_id,
            vocab_size=parts.config.plan.vocab,
            context=parts.context,
        )

    # --- making ----------------------------------------------------------------------------------

    def _generations(
        self,
        prompt: Any,
        given: dict[str, Any],
        *,
        is_streamed: bool,
        keeps: bool = False,
    ) -> tuple[list[Generation], bool]:
        """One for each prompt, and whether it was a list of them. A prompt that cannot be read
        raises, or with on_error="return" has failed before it began.

        Args:
            given: every keyword of `generate`.
            keeps: whether they leave pasts that a conversation goes on from.
        """
        self._enter()
        options = check_generate(
            given,
            defaults=self._parts.defaults,
            vocab_size=self._prompts.vocab_size,
            context=self._prompts.context,
        )
        no_call, one_call = self._call_limits(options)
        masking = self._masking(options)
        if options.strict_tools is None:
            is_strict = masking is not None and masking.calls is not None
            options = replace(options, strict_tools=is_strict)
        setting = Setting(
            options=options,
            tokenizer=self._parts.tokenizer,
            stop_ids=frozenset((*self._parts.stop_ids, *options.stop_token_ids, *one_call)),
            context=self._prompts.context,
            banned=np.array(sorted({*self._parts.banned, *no_call}), np.int32),
            manifest=information.manifest_fields(self._parts),
            is_streamed=is_streamed,
            masking=masking,
        )
        prompts, is_list = split(prompt)
        generations = []
        seeds = options.seeds(len(prompts))
        for index, item in enumerate(prompts):
            error: Exception | None = None
            try:
                prepared = self._prompts.to_continue(
                    item,
                    raw=options.raw,
                    tools=[tool.declaration() for tool in options.tools],
                    thinking=options.thinking,
                    preserve_thinking=options.preserve_thinking,
                    continue_final=options.continue_final,
                    allow_control=options.allow_special_tokens_in_content,
                )
            except CabochonError as found:
                error = named(found, index if is_list else None)
                if options.on_error == "raise":
                    raise error from None
                prepared = Prepared(token_ids=np.empty(0, np.int32), kind="none")
            generation = Generation(prepared, seeds[index], setting, index=index, keeps=keeps)
            if error is not None:
                generation.sequence.finish(error)
            generations.append(generation)
        return generations, is_list

    def _call_limits(self, options: GenerateOptions) -> tuple[list[int], list[int]]:
        """Ids that are banned so that no tool is called, and that end an answer after one call."""
        tokenizer = self._parts.tokenizer
        if tokenizer is None:
            return [], []
        ids = tokenizer.control_ids
        no_call = [ids[CALL]] if options.tool_choice == "none" and CALL in ids else []
        is_single = not options.parallel_tool_calls and CALL_END in ids
        return no_call, [ids[CALL_END]] if is_single else []

    def _masking(self, options: GenerateOptions) -> Masking | None:
        """What decides which tokens may be drawn; None: nothing does."""
        ids = self._parts.tokenizer.control_ids if self._parts.tokenizer else {}
        calls = bind_calls(options, ids, self._need_compiler)
        if calls is None and options.structure is None and options.thinking_budget is None:
            return None
        tokenizer = self._prompts.need_tokenizer()
        form = options.structure.kind if options.structure else "tool_choice"
        if (options.structure or options.must_call) and not self._parts.stop_ids:
            raise Unsupported(
                f"generate: {form}, but this model has no stop ids, expected one to end it with"
            )
        matcher = self._need_compiler().compile(options.structure) if options.structure else None
        return Masking(
            tokenizer=tokenizer,
            vocab_size=self._prompts.vocab_size,
            stop_ids=self._parts.stop_ids,
            thinking=options.thinking,
            budget=options.thinking_budget,
            structure=options.structure,
            matcher=matcher,
            has_tools=bool(options.callable_tools),
            calls=calls,
            must_call=options.must_call,
            is_single_call=not options.parallel_tool_calls,
        )

    def _need_compiler(self) -> Compiler:
        tokenizer = self._prompts.need_tokenizer()
        with self._lock:
            if self._compiler is None:
                self._compiler = Compiler(tokenizer, self._prompts.vocab_size)
            return self._compiler

    def _to_read(
        self, prompts: list[Any], is_list: bool, *, bos: bool | str, messages: bool
    ) -> list[Prepared]:
        """Prompts that are read and not continued."""
        prepared = []
        for index, item in enumerate(prompts):
            try:
                prepared.append(self._prompts.to_read(item, bos=bos, messages=messages))
            except CabochonError as error:
                raise named(error, index if is_list else None) from None
        return prepared

    # --- running ---------------------------------------------------------------------------------

    def _enter(self) -> None:
        """Refuses every use in a forked child (without taking a lock), and after `close`."""
        if os.getpid() != self._process:
            raise Unsupported(
                f"the model was loaded in process {self._process}, this is {os.getpid()}: a fork "
                "has no compute threads; start workers with spawn, or load after the fork"
            )
        if self._loop.is_closed:
            raise InvalidArgument("the model is closed: load it again")

    def _submit(self, sequences: list[Sequence]) -> None:
        self._enter()
        self._loop.submit(sequence for sequence in sequences if not sequence.is_finished)

    def _run(
        self, sequences: list[Sequence], stage: str, progress: ProgressArgument, is_list: bool
    ) -> None:
        """Until all are finished; on the way out nothing of them is left in the scheduler."""
        first = 0  # all before it are finished
        with Bar(*(("prompt", "tokens"), (stage, "prompts"))[is_list], progress) as bar:
            try:
                self._submit(sequences)
                while True:
                    while first < len(sequences) and sequences[first].is_finished:
                        first += 1
                    if is_list:
                        bar.update(first, len(sequences))
                    else:
                        one = sequences[0]
                        bar.update(min(one.position, one.prompt_count), one.prompt_count)
                    if first == len(sequences):
                        break
                    self._loop.advance()
            finally:
                self._loop.cancel(sequences)

    def _events(
        self, generations: list[Generation], on_error: str, is_list: bool
    ) -> Generator[Event, None, None]:
        """What happens to them, until all are finished; closing it ends those that are not."""
        sequences = [generation.sequence for generation in generations]
        try:
            self._submit(sequences)
            while generations:
                for generation in list(generations):
                    is_finished = generation.sequence.is_finished  # before its events are taken
                    while generation.events:
                        yield generation.events.popleft()
                    if is_finished:
                        generations.remove(generation)
                        index = generation.index
                        result = self._finished(generation, on_error, index if is_list else None)
                        yield Event(kind="done", index=index, result=result)
                if generations:
                    self._loop.advance()
        finally:
            self._loop.cancel(sequences)

    def _finished(self, generation: Generation, on_error: str, index: int | None) -> Result:
        """Its result; what it failed of is raised, where it is not to be returned."""
        result = generation.result()
        error = result.error
        if error is not None and (on_error == "raise" or not isinstance(error, CabochonError)):
            raise error if generation.prompt.kind == "none" else named(error, index)
        return result

    def _raise_first(self, sequences: list[Sequence], is_list: bool) -> None:
        for index, sequence in enumerate(sequences):
            if sequence.error is not None:
                raise named(sequence.error, index if is_list else None)
