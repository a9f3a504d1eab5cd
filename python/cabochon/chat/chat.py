"""`Chat`: a conversation that keeps its keys and values, calls functions, and can be saved."""

from __future__ import annotations

import copy
import json
import os
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import CheckpointError, InvalidArgument
from ..options import flag, integer
from ..results import Event, Result
from ..types import ToolCall, Usage
from .saved import Saved, check_kept, read_saved, write_saved
from .tools import Tool, answer_call, read_tools

if TYPE_CHECKING:
    from ..model import Model
    from ..scheduler.past import Past
    from ..scheduler.sequence import Sequence as Running

Message = dict[str, Any]
_OWN = ("run_tools", "max_tool_rounds")
_NOT_HERE = ("raw", "continue_final")  # a conversation is always rendered, and ends with the user


class Chat:
    """A conversation with a model, made by `Model.chat`.

    Every turn renders the whole conversation; what it shares with ids that are in the cache is
    not computed again, and each answer is, bit for bit, that of `generate` on the same messages.
    Other requests may need the memory: then a turn computes more of it again, with the same bits.

    A turn that fails, is interrupted by Ctrl-C or whose stream is closed leaves no trace in
    `messages`. One turn at a time: a second thread gets InvalidArgument.
    """

    def __init__(
        self,
        model: Model,
        *,
        messages: Sequence[Mapping[str, Any]] = (),
        tools: Sequence[Any] = (),
        run_tools: bool = True,
        max_tool_rounds: int = 8,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Use `Model.chat`."""
        self._past: Past | None = None
        self._last: Running | None = None  # whose past is not taken yet
        self._model = model
        self._options: dict[str, Any] = {
            **(options or {}),
            "tools": read_tools(tools),
            "run_tools": flag("run_tools", run_tools),
            "max_tool_rounds": integer("max_tool_rounds", max_tool_rounds, 0, 1000),
        }
        self._check(self._options)
        self._messages = copy.deepcopy([dict(message) for message in messages])
        self._usage = Usage(prompt_tokens=0, output_tokens=0, answer_tokens=0, control_tokens=0)
        self._busy = threading.Lock()
        if self._messages:
            self._rendered_tokens()

    def __del__(self) -> None:
        if self._past is not None or self._last is not None:
            self._model._loop.abandon(self._past, self._last)

    # --- turns -----------------------------------------------------------------------------------

    def send(self, content: Any, **overrides: Any) -> Result:
        """One turn.

        Args:
            content: text or a list of parts, what the user says; or a message, or a list of
                messages, as the answers to open calls of tools are.
            overrides: keywords of `Model.chat` and `generate`, for this turn alone.

        Returns:
            The answer; after calls of tools the last one. `usage.cached_tokens` of its prompt were
            not computed again.

        Raises:
            InvalidArgument: `content` or an option is not what it should be, or a turn is running.
            ContextOverflow, TemplateError, NumericalError, Unsupported: as `generate`.
        """
        turn = self._turn(_new_messages(content), self._with(overrides))
        result = None
        with closing(turn):
            for event in turn:
                result = event.result
        assert result is not None, "a turn ends with its result"
        return result

    def stream(self, content: Any, **overrides: Any) -> Iterator[Event]:
        """As `send`, giving thought, text, calls and their results as they come.

        Args:
            content, overrides: those of `send`, checked before this returns.

        Returns:
            An iterator of events; "done" with the Result comes last, once. Closing it before that
            undoes the turn.
        """
        new, options = _new_messages(content), self._with(overrides)
        messages = [*self._messages, *new]
        self._model._turn(messages, _for_generate(options, messages))  # to check it
        return self._turn(new, options)

    def _turn(self, new: list[Message], options: dict[str, Any]) -> Generator[Event, None, None]:
        with self._own_turn():
            messages = [*self._messages, *new]
            usages = [self._usage]
            for rounds_left in range(options["max_tool_rounds"], -1, -1):
                result = yield from self._answer(messages, options)
                usages.append(result.usage)
                if result.error is not None:
                    break
                messages.append(result.to_message())
                if not rounds_left or not _is_runnable(result, options):
                    break
                for call in result.tool_calls:
                    content = answer_call(call, options["tools"])
                    messages.append(_tool_message(call, content))
                    shown = content if isinstance(content, str) else json.dumps(content)
                    yield Event(kind="tool_result", tool_call=call, text=shown)
            if result.error is None:
                self._messages, self._usage = messages, _sum(usages)
        yield Event(kind="done", result=result)

    def _answer(
        self, messages: list[Message], options: dict[str, Any]
    ) -> Generator[Event, None, Result]:
        generation = self._model._turn(messages, _for_generate(options, messages))
        if self._last is not None:  # cancelled in a step of another thread, which is not over yet
            self._model._loop.abandon(None, self._last)
        self._last = generation.sequence
        try:
            events = self._model._events([generation], options.get("on_error", "raise"), False)
            with closing(events):
                for event in events:
                    if event.result is not None:
                        return event.result
                    yield event
        finally:
            self._take_past()
        raise AssertionError("events end with a result")

    def _take_past(self) -> None:
        """What the last sequence left takes the place of what it went on from. It may be late: the
        step that it was cancelled in is another thread's."""
        if self._last is not None and self._last.left is not None:
            if self._past is not None:
                self._model._loop.forget(self._past)
            self._past, self._last = self._last.left, None

    @contextmanager
    def _own_turn(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise InvalidArgument(
                "this chat is in a turn, expected one at a time: wait for it, close its stream, or "
                "fork the chat before"
            )
        try:
            self._take_past()
            yield
        finally:
            self._busy.release()

    def _with(self, overrides: dict[str, Any]) -> dict[str, Any]:
        """The options of one turn, checked."""
        if not overrides:
            return self._options
        given = {**self._options, **overrides}
        if "max_tokens" in overrides or "max_new_tokens" in overrides:
            for name in {"max_tokens", "max_new_tokens"} - overrides.keys():
                given.pop(name, None)
        given["tools"] = read_tools(given["tools"])
        flag("run_tools", given["run_tools"])
        integer("max_tool_rounds", given["max_tool_rounds"], 0, 1000)
        self._check(given)
        return given

    def _check(self, options: Mapping[str, Any]) -> None:
        for name in _NOT_HERE:
            if options.get(name):
                raise InvalidArgument(
                    f"{name} is {options[name]!r}, expected nothing: a chat renders all it sends",
                    argument=name,
                )
        self._model._check_turn(_for_generate(options))
        for tool in options["tools"] if options["run_tools"] else ():
            if tool.function is not None:
                tool.require_function()

    # --- the conversation ------------------------------------------------------------------------

    def fork(self) -> Chat:
        """Another conversation with the same beginning. Shares what is in the cache: nothing is
        copied until one of them goes on.

        Raises:
            InvalidArgument: a turn is running.
        """
        with self._own_turn():
            other = copy.copy(self)
            other._past = other._last = None  # before anything can fail
            other._messages = copy.deepcopy(self._messages)
            other._options = dict(self._options)
            other._busy = threading.Lock()
            if self._past is not None:
                self._model._loop.share(self._past)
                other._past = self._past
            return other

    def undo(self, turns: int = 1) -> None:
        """Forgets that many messages of the user, the last ones, and what followed them.

        Raises:
            InvalidArgument: there are not so many, or a turn is running.
        """
        with self._own_turn():
            asked = [i for i, message in enumerate(self._messages) if message["role"] == "user"]
            if integer("turns", turns, 1, 2**31 - 1) > len(asked):
                raise InvalidArgument(
                    f"turns is {turns}, expected at most {len(asked)}, as many as there are",
                    argument="turns",
                )
            self._messages = self._messages[: asked[-turns]]

    @property
    def messages(self) -> list[Message]:
        """What was said, a copy."""
        return copy.deepcopy(self._messages)

    @property
    def usage(self) -> Usage:
        """The sum over all answers, of turns that were undone later too."""
        return self._usage

    @property
    def tokens(self) -> int:
        """Of the conversation as it is rendered now, without the opening of an answer."""
        return self._rendered_tokens() if self._messages else 0

    @property
    def context_left(self) -> int:
        """Tokens for the next message, what the template puts around it, and the answer."""
        return max(0, self._model.context - self.tokens)

    def _rendered_tokens(self) -> int:
        options = self._options
        prompt = self._model.render(
            self._messages,
            tools=options["tools"],
            thinking=options.get("thinking", False),
            preserve_thinking=options.get("preserve_thinking", False),
            add_generation_prompt=False,
        )
        return int(prompt.token_ids.size)

    def __repr__(self) -> str:
        return f"Chat({self._model.name!r}, {len(self._messages)} messages)"

    # --- on disk ---------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, kv: bool = True) -> None:
        """Writes the conversation as one safetensors file; whole, or not at all.

        Args:
            path: a file; one that is there is replaced.
            kv: with keys and values, so that `load` need not compute them again. They are large:
                `Plan.kv_bytes_per_token` for each token, and a window of the sliding layers.

        Raises:
            InvalidArgument: an option or a message that JSON cannot say, or a turn is running.
            DeviceError: the file cannot be written.
        """
        with self._own_turn():
            is_kept = flag("kv", kv) and self._past is not None
            settings = {
                name: value
                for name, value in self._options.items()
                if name != "tools" and value is not None
            }
            write_saved(
                path,
                Saved(
                    identity=_identity(self._model),
                    messages=self._messages,
                    settings=settings,
                    usage=self._usage.to_dict(),
                    kept=self._model._loop.read(self._past) if is_kept and self._past else None,
                ),
            )

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        model: Model,
        *,
        tools: Sequence[Any] = (),
        recompute: bool = False,
    ) -> Chat:
        """A conversation of `save`. It goes on as if it had never stopped.

        Args:
            path: the file. Nothing in it is run.
            model: the same model in the same formats.
            tools: given again, since no function is in a file.
            recompute: accept another model, or other formats: keys and values are computed again.

        Raises:
            CheckpointError: no such file, or one that is damaged or of another model.
            InvalidArgument, TemplateError: its settings or messages are none for this model.
        """
        saved = read_saved(path)
        if not flag("recompute", recompute):
            _check_identity(saved.identity, _identity(model), os.fspath(path))
        settings = dict(saved.settings)
        own = {name: settings.pop(name) for name in _OWN if name in settings}
        messages = start(None, saved.messages)
        chat = cls(model, messages=messages, tools=tools, **own, options=settings)
        counts = {item.name: saved.usage.get(item.name, 0) for item in fields(Usage)}
        chat._usage = Usage(**counts)
        kept = saved.kept
        if kept is not None and not recompute:
            page_bytes, ends = model._loop.layout(kept.ids.size)
            check_kept(
                kept,
                page_bytes=page_bytes,
                ends=ends,
                vocab_size=model.vocab_size,
                file=os.fspath(path),
            )
            if kept.ids.size <= model.context:
                chat._past = model._loop.restore(kept)
        return chat


def start(system: Any, messages: Any) -> list[Any]:
    """The messages that a conversation begins with."""
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        _wrong("messages", type(messages).__name__, "a list of messages")
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            _wrong(f"messages[{index}]", type(message).__name__, "a dict with role and content")
    if system is None:
        return list(messages)
    if not isinstance(system, str):
        _wrong("system", type(system).__name__, "text")
    if messages and messages[0].get("role") in ("system", "developer"):
        _wrong("system", "text", "None, since messages begins with one")
    return [{"role": "system", "content": system}, *messages]


def _new_messages(content: Any) -> list[Message]:
    """What is sent, as messages; their keys are checked when they are rendered."""
    if isinstance(content, Mapping):
        content = [content]
    is_list = isinstance(content, (list, tuple)) and len(content) > 0
    if is_list and all(isinstance(item, Mapping) and "role" in item for item in content):
        return copy.deepcopy([dict(item) for item in content])
    is_parts = is_list and not any(isinstance(item, Mapping) and "role" in item for item in content)
    if isinstance(content, str) or is_parts:
        return [{"role": "user", "content": copy.deepcopy(content)}]
    _wrong("content", f"{content!r}"[:60], "text, parts, a message, or a list of messages")


def _wrong(where: str, found: str, expected: str) -> NoReturn:
    raise InvalidArgument(f"{where}: found {found}, expected {expected}", argument=where)


def _for_generate(options: Mapping[str, Any], messages: Sequence[Message] = ()) -> dict[str, Any]:
    """Keywords of generate. Calls are required where the user asks; after a tool's result the model
    may answer, or a turn would never end."""
    given = {name: value for name, value in options.items() if name not in _OWN}
    if messages and messages[-1]["role"] == "tool" and given.get("tool_choice") != "none":
        given["tool_choice"] = "auto"
    return given


def _is_runnable(result: Result, options: Mapping[str, Any]) -> bool:
    """Whether every call can be answered here: by a function, or by what is wrong with the call."""
    if result.finish_reason != "tool_calls" or not options["run_tools"] or not options["tools"]:
        return False
    tools: dict[str, Tool] = {tool.name: tool for tool in options["tools"]}
    return all(call.name not in tools or tools[call.name].function for call in result.tool_calls)


def _tool_message(call: ToolCall, content: Any) -> Message:
    return {
        "role": "tool",
        "tool_call_id": call.id,
        "name": call.name or "unknown",
        "content": content,
    }


def _sum(usages: list[Usage]) -> Usage:
    return Usage(
        **{item.name: sum(getattr(one, item.name) for one in usages) for item in fields(Usage)}
    )


def _identity(model: Model) -> dict[str, Any]:
    """What keys and values depend on, beside the ids."""
    info = model.info()
    return {
        "fingerprint": model.fingerprint,
        "kv": info.kv,
        "numerics": model._parts.numerics,
        "arithmetic": info.arithmetic,
        "formats": dict(info.formats),
        "layers": [
            [layer.kind, layer.window, layer.kv_heads, layer.head_dim, layer.kv_from]
            for layer in info.layers
        ],
    }


def _check_identity(found: Mapping[str, Any], expected: Mapping[str, Any], file: str) -> None:
    for key, value in expected.items():
        if found.get(key) != value:
            raise CheckpointError(
                f"{file}: {key}: found {str(found.get(key))[:80]}, expected {str(value)[:80]}, "
                "that of this model: load the one that it was saved with, or pass recompute=True "
                "to compute its keys and values again",
                file=file,
                key=key,
            )
