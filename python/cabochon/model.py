"""`Model`: the front door. Arguments are checked once, then requests are made and run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn

import numpy as np

from . import information
from .chat.chat import Chat, start
from .chat.parser import AnswerParser
from .chat.tools import check_calls, read_tools
from .errors import (
    InvalidArgument,
    Unsupported,
)
from .generation import Generation
from .options import (
    IMAGE_TOKENS,
    check_generate,
    flag,
    integer,
    one_of,
    refuse_unknown,
)
from .prompts import (
    check_ids,
    is_messages,
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
from .requests import ProgressArgument, Requests
from .results import Event
from .scoring import BOUNDARIES, PairReader, Scoring
from .types import Floats, Ints, ModelInfo, Parsed, Plan, Prompt, TokenLogprobs


class Model(Requests):
    """A loaded checkpoint. Made by `cabochon.load`; close it, or use it as a context manager.

    Threads may call one model at the same time: their requests run together, and each result is
    the same, bit for bit, as if it had run alone.
    """

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
            tool_choice: "auto": the model decides; "none": tools are declared, and no call is
                written; "required", a tool's name, or OpenAI's dict form: after its thought the
                answer is one call at least, of any tool or of that one, and nothing else.
            parallel_tool_calls: False ends the answer after one call.
            strict_tools: True binds calls to their schemas while they are written, which needs
                `cabochon[constrain]`, as does a call that is required; False checks them when they
                are written; None binds them where the extra is installed and the schemas can be
                kept. `Result.settings` says which.
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
            ConstraintError: a structure or a tool's schema that cannot be kept, or does not compile
                within 2 s.
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
        items.clear()
        results: list[Any] = []
        generations.reverse()
        while generations:  # each is let go of when it has become a result
            index = len(results) if is_list else None
            results.append(self._finished(generations.pop(), given["on_error"], index))
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
            options: other keywords of `generate`, for every turn. A call that `tool_choice`
                requires is required of the answer to the user; after results of tools it is "auto".

        Raises:
            InvalidArgument: an option or a message is not what it should be.
            TemplateError: a base model, or messages that cannot be rendered.
            Unsupported: a coroutine function among the tools, where they are run.
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

    def _turn(self, messages: list[dict[str, Any]], given: Mapping[str, Any]) -> Generation:
        """An answer that leaves a past."""
        options = {**_GENERATE_DEFAULTS, **given}
        generations, _ = self._generations(messages, options, is_streamed=True, keeps=True)
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
