"""inspect-ai (UK AI Security Institute's Inspect, extra `[inspect]`) on a `Model`.

    inspect eval task.py --model cabochon/gemma-4 -M path=FOLDER -M weights=int4

or in Python `get_model("cabochon/name", loaded=MODEL)`. Inspect finds this module by its entry
point. Samples that it runs side by side are one batch here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import load
from ..errors import InvalidArgument, MissingExtra, Unsupported
from ..model import Model
from ..results import Result

try:
    import anyio
    from inspect_ai.model import (
        ChatCompletionChoice,
        ChatMessageAssistant,
        ContentReasoning,
        ContentText,
        GenerateConfig,
        Logprob,
        Logprobs,
        ModelAPI,
        ModelOutput,
        ModelUsage,
        TopLogprob,
        modelapi,
    )
    from inspect_ai.tool import ToolCall, ToolFunction
except ImportError as error:
    raise MissingExtra(
        f"inspect-ai cannot be imported ({error}): pip install 'cabochon[inspect]'", extra="inspect"
    ) from error

_SAME = ("temperature", "top_p", "top_k", "seed", "parallel_tool_calls")
_REFUSED = ("best_of", "frequency_penalty", "presence_penalty", "prompt_logprobs")
_AT_ONCE = 256  # threads that wait for answers


@modelapi(name="cabochon")
class CabochonAPI(ModelAPI):  # type: ignore[misc]
    """A `Model` as Inspect sees one: tool calls and reasoning come parsed."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        *,
        loaded: Model | None = None,
        path: str | None = None,
        thinking: bool = False,
        **options: Any,
    ) -> None:
        """loaded: a model; without one path (None: the model's name) and options go to
        `cabochon.load`. thinking: ask for thoughts in every call.

        Raises:
            InvalidArgument: a loaded model together with path or options.
        """
        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        if loaded is not None and (path is not None or options):
            raise InvalidArgument("inspect: path and options are for a model that is not loaded")
        self._is_ours = loaded is None
        self.model = loaded if loaded is not None else load(path or model_name, **options)
        self._thinking = thinking
        self._limiter: Any = None

    def close(self) -> None:
        """Frees what was loaded here."""
        if self._is_ours:
            self.model.close()

    def max_connections(self) -> int:
        """Samples that run together."""
        return 64

    def collapse_user_messages(self) -> bool:
        """Messages are taken as they are."""
        return False

    async def count_text_tokens(self, text: str) -> int:
        """Exactly; Inspect's own estimate would fetch another model's tokenizer."""
        return len(self.model.encode(text))

    async def generate(
        self, input: Sequence[Any], tools: Sequence[Any], tool_choice: Any, config: Any
    ) -> Any:
        """One or `num_choices` answers.

        Raises:
            Unsupported: an option that this engine does not have.
            InvalidArgument: as for `Model.generate`.
        """
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(_AT_ONCE)
        messages = [message for item in input for message in _message(item)]
        options = _options(config, thinking=self._thinking)
        if tools:
            options["tools"] = [_tool(tool) for tool in tools]
            options["tool_choice"] = _tool_choice(tool_choice)
        count = config.num_choices or 1
        seed = options.pop("seed", None)
        prompts: Any = messages if count == 1 else [messages] * count
        if seed is not None:
            options["seed"] = seed if count == 1 else [seed + index for index in range(count)]

        def run() -> Any:
            return self.model.generate(prompts, **options)

        found = await anyio.to_thread.run_sync(run, limiter=self._limiter)
        return self._output([found] if count == 1 else found)

    def _output(self, results: Sequence[Result]) -> Any:
        usages = [result.usage for result in results]
        cached = sum(usage.cached_tokens for usage in usages)
        prompt = sum(usage.prompt_tokens for usage in usages)
        output = sum(usage.output_tokens for usage in usages)
        return ModelOutput(
            model=self.model_name,
            choices=[self._choice(result) for result in results],
            usage=ModelUsage(
                input_tokens=prompt - cached,
                input_tokens_cache_read=cached,
                output_tokens=output,
                total_tokens=prompt + output,
                reasoning_tokens=sum(usage.thinking_tokens for usage in usages),
            ),
            time=max(result.timings.total_s for result in results),
        )

    def _choice(self, result: Result) -> Any:
        content: Any = result.text
        if result.thinking is not None:
            content = [ContentReasoning(reasoning=result.thinking), ContentText(text=result.text)]
        calls = [
            ToolCall(
                id=call.id,
                function=call.name,
                arguments=dict(call.arguments),
                parse_error=call.error,
            )
            for call in result.tool_calls
        ]
        return ChatCompletionChoice(
            message=ChatMessageAssistant(
                content=content,
                tool_calls=calls or None,
                model=self.model_name,
                source="generate",
            ),
            stop_reason=_stop_reason(result),
            logprobs=self._logprobs(result),
        )

    def _logprobs(self, result: Result) -> Any:
        if result.logprobs is None:
            return None

        def named(token_id: int, logprob: float) -> dict[str, Any]:
            text = self.model.decode([token_id], special=True)
            return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

        ids = result.top_ids if result.top_ids is not None else np.empty((0, 0), np.int32)
        tops = result.top_logprobs if result.top_logprobs is not None else np.empty((0, 0))
        content = []
        for index, token_id in enumerate(result.token_ids):
            top = None
            if ids.shape[1]:
                pairs = zip(ids[index].tolist(), tops[index].tolist(), strict=True)
                top = [TopLogprob(**named(i, value)) for i, value in pairs]
            chosen = named(int(token_id), float(result.logprobs[index]))
            content.append(Logprob(**chosen, top_logprobs=top))
        return Logprobs(content=content)


def _options(config: Any, *, thinking: bool) -> dict[str, Any]:
    for name in _REFUSED:
        if getattr(config, name, None):
            raise Unsupported(f"inspect: {name} is {getattr(config, name)!r}, expected none")
    options: dict[str, Any] = {
        name: value for name in _SAME if (value := getattr(config, name)) is not None
    }
    if config.max_tokens is not None:
        options["max_tokens"] = config.max_tokens
    if config.stop_seqs:
        options["stop"] = config.stop_seqs
    if config.logit_bias:
        options["logit_bias"] = config.logit_bias
    if config.logprobs:
        options["logprobs"] = config.top_logprobs or True
    if thinking or config.reasoning_tokens:
        options["thinking"] = True
        if config.reasoning_tokens:
            options["thinking_budget"] = config.reasoning_tokens
    if config.response_schema is not None:
        options["schema"] = _schema(config.response_schema.json_schema)
    return options


def _schema(given: Any) -> dict[str, Any]:
    schema: dict[str, Any] = given.model_dump(mode="json", by_alias=True, exclude_none=True)
    return schema


def _tool(tool: Any) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": _schema(tool.parameters),
        },
    }


def _tool_choice(choice: Any) -> Any:
    if isinstance(choice, ToolFunction):
        return {"type": "function", "function": {"name": choice.name}}
    return {"any": "required"}.get(choice, choice)


def _stop_reason(result: Result) -> str:
    if result.finish_reason == "length":
        return "max_tokens" if result.stop_reason == "max_tokens" else "model_length"
    return {"stop": "stop", "tool_calls": "tool_calls"}.get(result.finish_reason, "unknown")


def _message(message: Any) -> list[dict[str, Any]]:
    """One of Inspect's messages as one of ours."""
    if message.role == "tool":
        text = message.text
        if message.error is not None:
            text = f"{text}\nerror: {message.error.message}".strip()
        return [{"role": "tool", "tool_call_id": message.tool_call_id, "content": text}]
    if message.role != "assistant":
        return [{"role": message.role, "content": _content(message.content)}]
    said: dict[str, Any] = {"role": "assistant", "content": message.text}
    if not isinstance(message.content, str):
        thoughts = [part.reasoning for part in message.content if part.type == "reasoning"]
        if thoughts:
            said["reasoning"] = "\n".join(thoughts)
    if message.tool_calls:
        said["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    return [said]


def _content(content: Any) -> Any:
    if isinstance(content, str):
        return content
    parts: list[Mapping[str, Any]] = []
    for part in content:
        if part.type == "text":
            parts.append({"type": "text", "text": part.text})
        elif part.type in ("image", "audio", "video"):
            parts.append({"type": part.type, part.type: getattr(part, part.type)})
        else:
            raise Unsupported(f"inspect: a part of type {part.type!r}, expected text or media")
    return parts
