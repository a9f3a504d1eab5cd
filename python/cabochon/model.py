"""`Model`: the front door. Arguments are checked once, then requests are made and run."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from . import information
from .chat.chat import Chat, start
from .chat.constraints import Compiler
from .chat.masking import Masking
from .chat.parser import AnswerParser
from .chat.template import Template
from .chat.tools import check_calls, read_tools
from .config import ModelConfig
from .display import Bar
from .errors import CabochonError, InvalidArgument, Unsupported
from .generation import Generation, Setting
from .options import (
    IMAGE_TOKENS,
    GenerateOptions,
    SamplingDefaults,
    check_generate,
    flag,
    integer,
    one_of,
    refuse_unknown,
)
from .prompts import (
    CALL,
    CALL_END,
    Prepared,
    PromptReader,
    check_ids,
    is_messages,
    named,
    roles,
    split,
)
from .reading import (
    LogitsReading,
    LogprobsReading,
    check_logits_bytes,
    check_positions,
    warn_of_raw_text,
)
from .results import Event, Result
from .scheduler.loop import Loop
from .scheduler.past import Past
from .scheduler.scheduler import Scheduler
from .scheduler.sequence import Sequence as Running
from .scoring import BOUNDARIES, PairReader, Scoring
from .tokenizer import Tokenizer
from .types import Floats, Ints, ModelInfo, Parsed, Plan, Prompt, TokenLogprobs

if TYPE_CHECKING:
    from . import _core

ProgressArgument = bool | Callable[[Any], object] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What `load` puts together."""

    name: str
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


class Model:
    """A loaded checkpoint. Made by `cabochon.load`; close it, or use it as a context manager.

    Threads may call one model at the same time: their requests run together, and each result is
    the same, bit for bit, as if it had run alone.
    """

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

    # --- generating ------------------------------------------------------------------------------

    def generate(
        self,
        prompt: Any,
        *,
        max_tokens: int | None = None,
        max_new_tokens: int | None = None,
        stop: str | Sequence[str] = (),
        stop_token_ids: Sequence[int] = (),
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        logit_bias: Mapping[int, float] | None = None,
        seed: int | Sequence[int] | None = None,
        logprobs: bool | int = False,
        tools: Sequence[Any] = (),
        tool_choice: str | dict[str, Any] = "auto",
        parallel_tool_calls: bool = True,
        strict_tools: bool | None = None,
        thinking: bool = False,
        thinking_budget: int | None = None,
        preserve_thinking: bool = False,
        schema: Any = None,
        regex: str | None = None,
        choices: Sequence[str] | None = None,
        grammar: str | None = None,
        image_tokens: int = 280,
        raw: bool = False,
        continue_final: bool = False,
        allow_special_tokens_in_content: bool = False,
        adapter: str | None = None,
        ignore_stops: bool = False,
        on_error: str = "raise",
        progress: ProgressArgument = None,
        **unknown: Any,
    ) -> Any:
        """Continues a prompt, or each of a list of prompts together.

        Args:
            prompt: text (one user message of an instruction-tuned model, else plain text after
                BOS), messages (`list[dict]`), token ids (exactly these), a `Prompt` of `render`,
                or a list of any of them.
            max_tokens: tokens of output at most; None: until a stop or the end of the context.
            max_new_tokens: alias of `max_tokens`.
            stop: up to 64 strings that end the answer and are not part of its text.
            stop_token_ids: up to 256 ids that do so, beside the model's own.
            temperature: 0 to 100; 0 takes the largest logit, ties to the lowest id; None: what
                generation_config says, else 1.0.
            top_p: 0 to 1, 1 is off; None: generation_config, else 0.95.
            top_k: 0 to the vocabulary, 0 is off; None: generation_config, else 64.
            min_p: 0 to 1, share of the largest probability; 0 is off.
            repetition_penalty: above 0 to 10, on prompt and output; 1 is off.
            logit_bias: token id to what is added to its logit; -inf bans it.
            seed: 0 to 2**64 - 1, or one for each prompt; None: fresh ones. A draw depends on the
                seed and its position alone; `Result.seed` has the one used.
            logprobs: True: natural log-probabilities of the chosen tokens; k from 1 to 256: also
                the k most likely.
            tools: what the model may call: functions (types and docstring declare them), OpenAI's
                dicts, pydantic classes, mixed. None is run: `Result.tool_calls` has the calls, each
                checked against its schema (`ToolCall.error`).
            tool_choice: "auto", or "none": tools are declared, and no call is written. "required",
                a name, or OpenAI's dict form: to come.
            parallel_tool_calls: False ends the answer after one call.
            strict_tools: False checks calls after they are written; None does what is there, so
                far the same. True, which binds them while they are written: to come.
            thinking: let the model think first; text and messages are rendered for that, other
                prompts are taken as they are.
            thinking_budget: tokens of thought at most; then the answer begins.
            schema, regex, choices, grammar: one of them, what the answer has to be; needs
                `cabochon[constrain]`. A JSON Schema, dataclass or pydantic class; a regular
                expression; a list of strings; a grammar in llguidance's Lark. `Result.parsed`.
            adapter: to come.
            image_tokens: without effect until images come.
            preserve_thinking: keep thoughts of earlier turns that called tools.
            raw: text goes after BOS untemplated.
            continue_final: continue the last message, which is the assistant's.
            allow_special_tokens_in_content: control strings in messages become control tokens.
            ignore_stops: run to max_tokens, through every stop.
            on_error: "raise", or "return": what fails is a Result with finish_reason "error".
            progress: as for `load`.

        Returns:
            A `Result`, or for a list of prompts one for each, in their order.

        Raises:
            InvalidArgument: an option or a prompt is out of range or unknown.
            ContextOverflow: a prompt leaves no room for a token.
            TemplateError: messages that cannot be rendered.
            ConstraintError: a structure that does not compile within 2 s.
            MissingExtra: an option needs a package that is not installed.
            Unsupported: an option that is to come, or `thinking` of a model that cannot.
            NumericalError: NaN or infinity in the logits.
        """
        given = {**locals()}
        for name in ("self", "prompt", "progress", "unknown"):
            del given[name]
        refuse_unknown("generate", unknown, [*given, "progress"])
        generations, is_list = self._generations(prompt, given, is_streamed=False)
        items = [generation.sequence for generation in generations]
        self._run(items, "generate", progress, is_list)
        results = [
            self._finished(generation, given["on_error"], index if is_list else None)
            for index, generation in enumerate(generations)
        ]
        return results if is_list else results[0]

    def stream(self, prompt: Any, **options: Any) -> Iterator[Event]:
        """As `generate`, with the same tokens, giving thought, text and calls as they are written.

        Args:
            prompt, options: those of `generate`, checked before this returns.

        Returns:
            An iterator of events; "done" with the `Result` comes last, once for each prompt.
            Closing it stops the answer within one token.

        Raises:
            As `generate`; what fails while it is written is raised by the iterator.
        """
        given = {**_GENERATE_DEFAULTS, **options}
        given.pop("progress", None)
        refuse_unknown("stream", set(given) - set(_GENERATE_DEFAULTS), list(_GENERATE_DEFAULTS))
        generations, is_list = self._generations(prompt, given, is_streamed=True)
        return self._events(generations, given["on_error"], is_list)

    def _generations(
        self,
        prompt: Any,
        given: dict[str, Any],
        *,
        is_streamed: bool,
        past: Past | None = None,
        keeps: bool = False,
    ) -> tuple[list[Generation], bool]:
        self._enter()
        options = check_generate(
            given,
            defaults=self._parts.defaults,
            vocab_size=self.vocab_size,
            context=self.context,
        )
        no_call, one_call = self._call_limits(options)
        masking = self._masking(options)
        setting = Setting(
            options=options,
            tokenizer=self._parts.tokenizer,
            stop_ids=frozenset((*self._parts.stop_ids, *options.stop_token_ids, *one_call)),
            context=self.context,
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
            generation = Generation(
                prepared, seeds[index], setting, index=index, past=past, keeps=keeps
            )
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
        if options.structure is None and options.thinking_budget is None:
            return None
        tokenizer = self._prompts.need_tokenizer()
        matcher = None
        if options.structure is not None:
            if not self._parts.stop_ids:
                raise Unsupported(
                    f"generate: {options.structure.kind}, but this model has no stop ids, expected "
                    "one to end the structure with"
                )
            with self._lock:
                if self._compiler is None:
                    self._compiler = Compiler(tokenizer, self.vocab_size)
            matcher = self._compiler.compile(options.structure)
        return Masking(
            tokenizer=tokenizer,
            vocab_size=self.vocab_size,
            stop_ids=self._parts.stop_ids,
            thinking=options.thinking,
            budget=options.thinking_budget,
            structure=options.structure,
            matcher=matcher,
            has_tools=bool(options.tools) and options.tool_choice != "none",
        )

    def _events(
        self, generations: list[Generation], on_error: str, is_list: bool
    ) -> Generator[Event, None, None]:
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
        result = generation.result()
        error = result.error
        if error is not None and (on_error == "raise" or not isinstance(error, CabochonError)):
            raise error if generation.prompt.kind == "none" else named(error, index)
        return result

    def chat(
        self,
        *,
        system: str | None = None,
        tools: Sequence[Any] = (),
        messages: Sequence[Mapping[str, Any]] = (),
        run_tools: bool = True,
        max_tool_rounds: int = 8,
        **options: Any,
    ) -> Chat:
        """A conversation that computes of every turn only what is new.

        Args:
            system: text of a system message, where `messages` has none.
            tools: as for `generate`; functions are called where `run_tools`.
            messages: what was said before.
            run_tools: call functions that the model calls, and let it go on with what they return.
            max_tool_rounds: 0 to 1,000, how often in one turn; then the calls are left open.
            options: other keywords of `generate`, for every turn.

        Raises:
            InvalidArgument: an option or a message is not what it should be.
            TemplateError: a base model, or messages that cannot be rendered.
        """
        self._enter()
        return Chat(
            self,
            messages=start(system, messages),
            tools=tools,
            run_tools=run_tools,
            max_tool_rounds=max_tool_rounds,
            options=options,
        )

    def _check_turn(self, given: Mapping[str, Any]) -> None:
        """Raises what is wrong with keywords of generate."""
        refuse_unknown("chat", set(given) - set(_GENERATE_DEFAULTS), list(_GENERATE_DEFAULTS))
        check_generate(
            {**_GENERATE_DEFAULTS, **given},
            defaults=self._parts.defaults,
            vocab_size=self.vocab_size,
            context=self.context,
        )

    def _turn(
        self, messages: list[dict[str, Any]], given: Mapping[str, Any], past: Past | None
    ) -> Generation:
        """An answer that goes on from a past and leaves one."""
        options = {**_GENERATE_DEFAULTS, **given}
        generations, _ = self._generations(
            messages, options, is_streamed=True, past=past, keeps=True
        )
        return generations[0]

    # --- reading ---------------------------------------------------------------------------------

    def score(
        self,
        prompt: Any,
        continuations: Any,
        *,
        raw: bool = False,
        boundary: str = "separate",
        tools: Sequence[Any] = (),
        preserve_thinking: bool = False,
        image_tokens: int = 280,
        progress: ProgressArgument = None,
        **unknown: Any,
    ) -> Any:
        """Log-probabilities of continuations of a prompt, the model's own.

        Args:
            prompt: as for `generate`, without thinking: the answer begins where `generate` would
                begin it. "" is BOS alone. A list of prompts is computed together.
            continuations: a list of texts or of token ids, at least one; for a list of prompts a
                list of such lists. Control strings in a text are text. An empty one has
                log-probability 0.
            raw: text goes after BOS untemplated.
            boundary: "separate": a continuation is encoded alone, so that the prompt's ids stand;
                "joint": for plain text, both are encoded together; spaces at the prompt's end, and
                a token that straddles it, count for the continuation.
            tools, preserve_thinking, image_tokens: as for `generate`.
            progress: as for `load`.

        Returns:
            `types.Scores`, or a list of them. Equal pairs are computed once, and so is what pairs
            have in common. The same ids give the same bits as in `logprobs` and `generate`.

        Raises:
            InvalidArgument: an option, a prompt or a continuation is out of range or unknown.
            ContextOverflow: a prompt with its continuation is longer than the context.
            TemplateError, Unsupported, NumericalError: as `generate`.
        """
        given = {**locals()}
        for name in ("self", "prompt", "continuations", "unknown"):
            del given[name]
        refuse_unknown("score", unknown, given)
        self._enter()
        one_of("image_tokens", image_tokens, IMAGE_TOKENS)
        prompts, is_list = split(prompt)
        reader = PairReader(
            prompts=self._prompts,
            raw=flag("raw", raw),
            boundary=one_of("boundary", boundary, BOUNDARIES),
            tools=[tool.declaration() for tool in read_tools(tools)],
            preserve_thinking=flag("preserve_thinking", preserve_thinking),
        )
        scoring = Scoring(reader.read(prompts, continuations, is_list=is_list))
        is_one = len(scoring.sequences) == 1
        self._run(scoring.sequences, "score", progress, is_list or not is_one)
        results = scoring.results(is_list=is_list)
        return results if is_list else results[0]

    def logprobs(
        self,
        prompt: Any,
        *,
        top: int = 0,
        bos: bool | str = "auto",
        progress: ProgressArgument = None,
        **unknown: Any,
    ) -> Any:
        """Log-probability of every token of a text given those before it.

        Args:
            prompt: text (never templated), messages (the whole conversation, templated), token
                ids, a `Prompt`, or a list of any of them.
            top: 0 to 256, how many of the most likely tokens to report at each position.
            bos: "auto" puts BOS before text and leaves ids alone; True and False force it.
            progress: as for `load`.

        Returns:
            `types.TokenLogprobs`, or a list of them. Warns (CabochonWarning) of raw text on an
            instruction-tuned model, whose perplexity says little.

        Raises:
            InvalidArgument, ContextOverflow, TemplateError, NumericalError: as `generate`.
        """
        refuse_unknown("logprobs", unknown, ("top", "bos", "progress"))
        self._enter()
        top = integer("top", top, 0, min(256, self.vocab_size))
        prompts, is_list = split(prompt)
        readings = []
        read = self._to_read(prompts, is_list, bos=bos, messages=True)
        if self._prompts.template is not None and any(item.kind == "text" for item in read):
            warn_of_raw_text(stacklevel=2)
        for prepared in read:
            ids = prepared.token_ids
            marks = (
                roles(ids.tolist(), self._prompts.need_tokenizer())
                if prepared.kind == "messages"
                else np.zeros(ids.size, np.bool_)
            )
            readings.append(LogprobsReading(ids, marks, top=top))
        self._run([reading.sequence for reading in readings], "logprobs", progress, is_list)
        self._raise_first([reading.sequence for reading in readings], is_list)
        results: list[TokenLogprobs] = [reading.result() for reading in readings]
        return results if is_list else results[0]

    def logits(
        self,
        prompt: Any,
        *,
        positions: str | Sequence[int] = "all",
        bos: bool | str = "auto",
        progress: ProgressArgument = None,
        **unknown: Any,
    ) -> Any:
        """Logits after the final softcap.

        Args:
            prompt: text (never templated), token ids, a `Prompt`, or a list of any of them.
            positions: "all", "last", or indices into the prompt's ids, in any order.
            bos: "auto" puts BOS before text and leaves ids alone; True and False force it.
            progress: as for `load`.

        Returns:
            float32 [positions, vocab], or a list of them; 1 MiB a position at 262,144 ids.

        Raises:
            OutOfMemory: over 4 GiB in all; before anything is computed.
            InvalidArgument, ContextOverflow, NumericalError: as `generate`.
        """
        refuse_unknown("logits", unknown, ("positions", "bos", "progress"))
        self._enter()
        prompts, is_list = split(prompt)
        if any(is_messages(item) for item in prompts):
            raise InvalidArgument(
                "prompt is messages, expected text, token ids or a Prompt: render them first",
                argument="prompt",
            )
        prepared = self._to_read(prompts, is_list, bos=bos, messages=False)
        rows = [check_positions(positions, item.token_ids.size) for item in prepared]
        check_logits_bytes([row.size for row in rows], self.vocab_size)
        readings = [
            LogitsReading(item.token_ids, row, self.vocab_size)
            for item, row in zip(prepared, rows, strict=True)
        ]
        self._run([reading.sequence for reading in readings], "logits", progress, is_list)
        self._raise_first([reading.sequence for reading in readings], is_list)
        results: list[Floats] = [reading.result() for reading in readings]
        return results if is_list else results[0]

    def _to_read(
        self, prompts: list[Any], is_list: bool, *, bos: bool | str, messages: bool
    ) -> list[Prepared]:
        prepared = []
        for index, item in enumerate(prompts):
            try:
                prepared.append(self._prompts.to_read(item, bos=bos, messages=messages))
            except CabochonError as error:
                raise named(error, index if is_list else None) from None
        return prepared

    def _raise_first(self, sequences: list[Running], is_list: bool) -> None:
        for index, sequence in enumerate(sequences):
            if sequence.error is not None:
                raise named(sequence.error, index if is_list else None)

    # --- text ------------------------------------------------------------------------------------

    def encode(self, text: str | list[str], *, bos: bool = False, special: bool = False) -> Any:
        """Text as token ids.

        Args:
            text: a string, or a list of them.
            bos: put BOS before it.
            special: control strings in it become control tokens; otherwise they are text.

        Returns:
            int32 [n], or a list of them.

        Raises:
            InvalidArgument: no string, or one with half a surrogate pair.
        """
        self._enter()
        if isinstance(text, list):
            return [self.encode(item, bos=bos, special=special) for item in text]
        if not isinstance(text, str):
            raise InvalidArgument(
                f"text is {type(text).__name__}, expected a string or a list of them",
                argument="text",
            )
        ids = self._prompts.need_tokenizer().encode(text, special=flag("special", special))
        first = [self._parts.bos_id] if flag("bos", bos) else []
        return np.array([*(token for token in first if token is not None), *ids], np.int32)

    def decode(self, ids: Sequence[int] | Ints, *, special: bool = False) -> str:
        """Token ids as text; control tokens are left out unless `special`.

        Raises:
            InvalidArgument: an id that is no integer of the vocabulary.
        """
        self._enter()
        checked = check_ids(ids, self.vocab_size, name="ids").tolist()
        return self._prompts.need_tokenizer().decode(checked, special=flag("special", special))

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] = (),
        thinking: bool = False,
        preserve_thinking: bool = False,
        add_generation_prompt: bool = True,
        continue_final: bool = False,
        image_tokens: int = 280,
    ) -> Prompt:
        """What `generate` would send for these messages.

        Args:
            messages: as for `generate`, in any order. A media part that has a type and no source
                is printed as its placeholder.
            tools: as for `generate`.
            thinking: ask for thoughts.
            preserve_thinking: keep thoughts of earlier turns that called tools.
            add_generation_prompt: open the model's turn at the end.
            continue_final: leave the last message, which is the assistant's, open.
            image_tokens: without effect until images come.

        Returns:
            The text that the published template gives, byte for byte, and its token ids.

        Raises:
            TemplateError: a base model, or messages that cannot be rendered.
            InvalidArgument: a message or tool that is none; the text names it.
            Unsupported: media parts with a source, which are to come; thinking or tools of a model
                that has none.
        """
        self._enter()
        one_of("image_tokens", image_tokens, IMAGE_TOKENS)
        rendered = self._prompts.render(
            messages,
            tools=[tool.declaration() for tool in read_tools(tools)],
            thinking=flag("thinking", thinking),
            preserve_thinking=flag("preserve_thinking", preserve_thinking),
            add_generation_prompt=flag("add_generation_prompt", add_generation_prompt),
            continue_final=flag("continue_final", continue_final),
            any_order=True,
            placeholders=True,
        )
        return Prompt(
            text=rendered.text,
            token_ids=np.array(rendered.token_ids, np.int32),
            template=(rendered.template_name, rendered.template_sha256),
            starts_in=rendered.starts_in,
        )

    def parse(
        self, ids: Sequence[int] | Ints, *, starts_in: str = "answer", tools: Sequence[Any] = ()
    ) -> Parsed:
        """Thought, text and tool calls of generated ids, which may be cut anywhere.

        Args:
            ids: what was generated, with the token that stopped it.
            starts_in: "thinking" where the prompt ended in an open thought (`Prompt.starts_in`).
            tools: as for `generate`; calls are checked against them. None: they are not checked.

        Returns:
            As `Result` has them; `cut_in` is None where the ids end with a stop of the model. The
            ids of calls are "call_0", "call_1", ...: other than those in a `Result`, they are not
            different from those of another turn.

        Raises:
            InvalidArgument: an id that is no integer of the vocabulary.
            Unsupported: the checkpoint has no tokenizer.
        """
        self._enter()
        checked = check_ids(ids, self.vocab_size, name="ids").tolist()
        one_of("starts_in", starts_in, ("answer", "thinking"))
        known = read_tools(tools)
        parser = AnswerParser(self._prompts.need_tokenizer(), starts_in=starts_in)
        for token_id in checked:
            parser.push(token_id)
        parser.finish()
        has_ended = len(checked) > 0 and checked[-1] in self.stop_token_ids
        return Parsed(
            text=parser.text,
            thinking=parser.thinking,
            tool_calls=check_calls(parser.tool_calls, known) if known else parser.tool_calls,
            cut_in=None if has_ended else parser.state,
        )

    # --- facts -----------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """As given to `load`."""
        return self._parts.name

    @property
    def device(self) -> str:
        """What computes: "cpu"."""
        return "cpu"

    @property
    def context(self) -> int:
        """Tokens of one sequence, prompt and output."""
        return self._parts.context

    @property
    def vocab_size(self) -> int:
        """Rows of the logits; ids are 0 to vocab_size - 1."""
        return self._parts.config.plan.vocab

    @property
    def modalities(self) -> tuple[str, ...]:
        """What this build reads of what the checkpoint was trained for: text."""
        return ("text",)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over file names, sizes, safetensors headers, config and tokenizer."""
        return self._parts.fingerprint

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """The model's own stops, ascending."""
        return self._parts.stop_ids

    @property
    def plan(self) -> Plan:
        """What it takes, and what there was when it was loaded."""
        return self._parts.plan

    def info(self) -> ModelInfo:
        """What was loaded and how it runs, one row a layer."""
        self._enter()
        return information.model_info(self._parts)

    # --- to come ---------------------------------------------------------------------------------

    def _to_come(self, name: str) -> NoReturn:
        raise Unsupported(f"Model.{name} is to come")

    def inspect(self, prompt: Any, **options: Any) -> NoReturn:
        """Hidden states, routing, attention. To come: raises Unsupported."""
        self._to_come("inspect")

    def compare(self, reference: Any, texts: Any = None) -> NoReturn:
        """Divergence from another model. To come: raises Unsupported."""
        self._to_come("compare")

    def verify(self, level: str = "quick") -> NoReturn:
        """Checks of kernels, tokenizer and logits. To come: raises Unsupported."""
        self._to_come("verify")

    def evaluate(self, suites: Any = "enterprise", **options: Any) -> NoReturn:
        """Evaluation suites. To come: raises Unsupported."""
        self._to_come("evaluate")

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

    def _submit(self, sequences: list[Running]) -> None:
        self._enter()
        self._loop.submit(sequence for sequence in sequences if not sequence.is_finished)

    def _run(
        self, sequences: list[Running], stage: str, progress: ProgressArgument, is_list: bool
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

    def close(self) -> None:
        """Frees weights, cache and mappings. A request that runs ends with InvalidArgument. Twice
        is fine."""
        if os.getpid() == self._process:
            self._loop.close()

    def __enter__(self) -> Model:
        self._enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._loop.is_closed else f"context={self.context}"
        return f"Model({self.name!r}, {self.device}, {state})"


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    return {
        name: value for name, value in (function.__kwdefaults__ or {}).items() if name != "progress"
    }


_GENERATE_DEFAULTS = _defaults(Model.generate)
