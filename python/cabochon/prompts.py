"""A prompt of any of the four kinds to token ids, checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from .chat.render import PLACEHOLDERS, RenderedPrompt, render
from .chat.template import Template
from .errors import ContextOverflow, InvalidArgument, TemplateError, Unsupported
from .tokenizer import Tokenizer
from .types import Ints, Prompt

MAX_PROMPTS = 1_000_000
CALL, CALL_END = "<|tool_call>", "<tool_call|>"  # around every call of a tool
_PIECE_BYTES = 48  # of the longest piece in the published vocabulary


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """A prompt as ids, and how it became that."""

    token_ids: Ints  # [n]
    kind: str  # "text", "messages", "ids" or "prompt"
    template_sha256: str | None = None

    @property
    def sha256(self) -> str:
        """Of the ids, int32 little-endian."""
        return hashlib.sha256(self.token_ids.astype("<i4").tobytes()).hexdigest()


def split(prompt: Any) -> tuple[list[Any], bool]:
    """The prompts of one call, and whether it was a list of them."""
    if not isinstance(prompt, (list, tuple)):
        return [prompt], False
    if len(prompt) == 0:
        _empty("[]")
    if isinstance(prompt[0], (str, list, tuple, np.ndarray, Prompt)):
        if len(prompt) > MAX_PROMPTS:
            raise InvalidArgument(
                f"prompt is a list of {len(prompt):,}, expected at most {MAX_PROMPTS:,}",
                argument="prompt",
            )
        return list(prompt), True
    return [prompt], False


def named(error: Exception, index: int | None) -> Exception:
    """The error, saying which prompt of a list it is about. Never the same object: several
    prompts, of several threads, may have failed by one."""
    return within(error, "" if index is None else f"prompt {index}: ")


def within(error: Exception, where: str) -> Exception:
    """A copy of the error whose text begins with `where`."""
    kind = type(error)
    copied = kind.__new__(kind)
    copied.__dict__.update(error.__dict__)
    copied.args = (f"{where}{error}",)
    copied.__cause__ = error.__cause__
    return copied.with_traceback(error.__traceback__)


def _empty(what: str) -> NoReturn:
    raise InvalidArgument(
        f"prompt is {what}, expected text, messages or token ids that are not empty",
        argument="prompt",
    )


def is_messages(prompt: Any) -> bool:
    """Whether it is a conversation."""
    return isinstance(prompt, (list, tuple)) and len(prompt) > 0 and isinstance(prompt[0], Mapping)


def check_ids(ids: Any, vocab_size: int, *, name: str = "prompt") -> Ints:
    """Token ids as a fresh int32 array; what is no integer of the vocabulary is named."""
    expected = f"integers from 0 to {vocab_size - 1:,}"
    if isinstance(ids, np.ndarray):
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise InvalidArgument(
                f"{name} is an array {list(ids.shape)} of {ids.dtype}, expected {expected} "
                "in one dimension",
                argument=name,
            )
        wrong = np.flatnonzero((ids < 0) | (ids >= vocab_size))
        first = int(wrong[0]) if wrong.size else None
    else:
        first = next(
            (
                index
                for index, item in enumerate(ids)
                if isinstance(item, bool)
                or not isinstance(item, (int, np.integer))
                or not 0 <= item < vocab_size
            ),
            None,
        )
    if first is not None:
        raise InvalidArgument(
            f"{name}[{first}] is {ids[first]!r}, expected {expected}", argument=name
        )
    return np.array(ids, np.int32)


class PromptReader:
    """Turns what callers give into ids, for one model."""

    def __init__(
        self,
        *,
        tokenizer: Tokenizer | None,
        template: Template | None,
        bos_id: int | None,
        vocab_size: int,
        context: int,
    ) -> None:
        self.tokenizer, self.template = tokenizer, template
        self.vocab_size, self.context = vocab_size, context
        self.bos_id = bos_id

    def to_continue(
        self,
        prompt: Any,
        *,
        raw: bool,
        tools: Sequence[Mapping[str, Any]] = (),
        thinking: bool,
        preserve_thinking: bool,
        continue_final: bool,
        allow_control: bool,
    ) -> Prepared:
        """A prompt as generate reads it. Token ids and a `Prompt` are what they are: `tools` are
        not declared in them again.

        Raises:
            InvalidArgument: empty, of no known kind, or ids outside the vocabulary; `tools` for
                plain text, which declares nothing.
            ContextOverflow: no room is left for one token of output.
            TemplateError: messages that cannot be rendered.
            Unsupported: media; thinking or tools of a model that has none.
        """
        if (thinking or tools) and self.template is None:
            raise Unsupported(
                f"{'thinking' if thinking else 'tools'}: this checkpoint is a base model, expected "
                "an instruction-tuned one"
            )
        rendering = {"tools": tools, "thinking": thinking, "allow_control": allow_control}
        if is_messages(prompt):
            prepared = self._from_messages(
                prompt,
                preserve_thinking=preserve_thinking,
                continue_final=continue_final,
                **rendering,
            )
        elif continue_final:
            raise InvalidArgument(
                "continue_final is True, but prompt is no list of messages: all else is continued "
                "where it ends",
                argument="continue_final",
            )
        elif isinstance(prompt, str) and prompt and self.template is not None and not raw:
            self._check_size(prompt)
            messages = [{"role": "user", "content": prompt}]
            prepared = self._from_messages(messages, **rendering)
        elif isinstance(prompt, str) and tools:
            raise InvalidArgument(
                f"tools: found {len(tools)} for plain text, expected messages: the chat template "
                "declares them",
                argument="tools",
            )
        else:
            prepared = self._plain(prompt, bos="auto", special=allow_control)
        self._check_length(prepared.token_ids.size, self.context - 1, " and one of output")
        return prepared

    def to_read(self, prompt: Any, *, bos: bool | str, messages: bool) -> Prepared:
        """A prompt as logprobs and logits read it: text is never templated.

        Raises:
            InvalidArgument, ContextOverflow, TemplateError: as `to_continue`.
        """
        if bos not in (True, False, "auto"):
            raise InvalidArgument(f"bos is {bos!r}, expected True, False or 'auto'", argument="bos")
        if messages and is_messages(prompt):
            prepared = self._from_messages(prompt, add_generation_prompt=False)
        else:
            prepared = self._plain(prompt, bos=bos, special=False)
        self._check_length(prepared.token_ids.size, self.context, "")
        return prepared

    def render(self, messages: Any, **rendering: Any) -> RenderedPrompt:
        """Messages through the checkpoint's template."""
        if self.template is None:
            raise TemplateError(
                "messages: this checkpoint has no chat template (it is a base model), expected "
                "text or token ids",
                argument="prompt",
            )
        return render(
            messages, template=self.template, tokenizer=self.need_tokenizer(), **rendering
        )

    def need_tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            Unsupported: the checkpoint has none.
        """
        if self.tokenizer is None:
            raise Unsupported(
                "this checkpoint has no tokenizer.json, expected prompts as token ids"
            )
        return self.tokenizer

    def encode(self, text: str, *, bos: bool, special: bool) -> Ints:
        """Text as ids, BOS before it once; without `special` no text is a control token."""
        self._check_size(text)
        ids = self.need_tokenizer().encode(text, special=special)
        if bos and self.bos_id is not None and ids[:1] != [self.bos_id]:
            ids.insert(0, self.bos_id)
        return self._known(ids)

    def encode_split(self, text: str, at: int) -> tuple[Ints, int]:
        """Ids of text without BOS, and how many of the first stand before character `at` alone."""
        self._check_size(text)
        ids, count = self.need_tokenizer().encode_split(text, at)
        return self._known(ids), count

    def _known(self, ids: list[int]) -> Ints:
        """Ids of a tokenizer, which may have more of them than the model has rows."""
        return check_ids(np.array(ids, np.int64), self.vocab_size, name="the encoded prompt")

    def _from_messages(self, messages: Any, **rendering: Any) -> Prepared:
        rendered = self.render(messages, **rendering)
        self._refuse_media(rendered.token_ids)
        return Prepared(
            token_ids=self._known(rendered.token_ids),
            kind="messages",
            template_sha256=rendered.template_sha256,
        )

    def _refuse_media(self, token_ids: Sequence[int] | Ints) -> None:
        """A placeholder stands for an image or a sound, which nobody reads yet."""
        control = self.tokenizer.control_ids if self.tokenizer else {}
        for name in PLACEHOLDERS:
            if name in control and control[name] in token_ids:
                raise Unsupported(f"prompt has {name}: images, audio and video are to come")

    def _plain(self, prompt: Any, *, bos: bool | str, special: bool) -> Prepared:
        if isinstance(prompt, str):
            if not prompt:
                _empty('""')
            ids = self.encode(prompt, bos=bos is not False, special=special)
            return Prepared(token_ids=ids, kind="text")
        sha256 = None
        if isinstance(prompt, Prompt):
            sha256 = prompt.template[1] if prompt.template else None
            given: Any = prompt.token_ids
            self._refuse_media(prompt.token_ids)
        elif isinstance(prompt, (list, tuple, np.ndarray)):
            given = prompt
        else:
            raise InvalidArgument(
                f"prompt is {type(prompt).__name__}, expected text, messages, token ids or a "
                "Prompt of Model.render",
                argument="prompt",
            )
        if len(given) == 0:
            _empty("empty")
        checked = check_ids(given, self.vocab_size)
        if bos is True and self.bos_id is not None:
            checked = np.concatenate([np.array([self.bos_id], np.int32), checked])
        kind = "prompt" if isinstance(prompt, Prompt) else "ids"
        return Prepared(token_ids=checked, kind=kind, template_sha256=sha256)

    def _check_size(self, text: str) -> None:
        """Refuses text that cannot fit whatever it encodes to, before it is encoded."""
        size = len(text.encode(errors="replace"))
        if size > _PIECE_BYTES * self.context:
            raise ContextOverflow(
                f"prompt has {size:,} bytes: at most {_PIECE_BYTES} of them are one token, so it "
                f"has more than {self.context:,} tokens, the context that the model was loaded for",
                tokens=-(-size // _PIECE_BYTES),
                context=self.context,
            )

    def _check_length(self, tokens: int, limit: int, what: str) -> None:
        if tokens > limit:
            raise ContextOverflow(
                f"prompt has {tokens:,} tokens{what}, expected at most {self.context:,} in all: "
                "load with a larger context, or shorten it",
                tokens=tokens,
                context=self.context,
            )


def roles(ids: Sequence[int], tokenizer: Tokenizer) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which tokens of a rendered conversation an assistant message wrote, its end included."""
    control = tokenizer.control_ids
    opened = control.get("<|turn>", control.get("<start_of_turn>"))
    closed = control.get("<turn|>", control.get("<end_of_turn>"))
    head = tokenizer.encode("model\n")
    marks = np.zeros(len(ids), np.bool_)
    if opened is None or closed is None:
        return marks
    inside, start = False, 0
    for index, token in enumerate(ids):
        if token == opened:
            inside = list(ids[index + 1 : index + 1 + len(head)]) == head
            start = index + 1 + len(head)
        elif inside and index >= start:
            marks[index] = True
        inside = inside and token != closed
    return marks
