"""Every exception and warning that cabochon raises.

The C++ core raises the same classes: it looks them up here by name. This module imports nothing of
ours, so it can be imported before (and without) the core.
"""

from __future__ import annotations

from typing import Any


class CabochonError(Exception):
    """Base class of all errors of this package."""


class InvalidArgument(CabochonError, ValueError):
    """An argument has a wrong type, shape or range; `argument` names it where one can be named."""

    def __init__(self, message: str, *, argument: str | None = None) -> None:
        super().__init__(message)
        self.argument = argument


class ContextOverflow(InvalidArgument):
    """A prompt does not fit: `tokens` were given, `context` is what the model was loaded for."""

    def __init__(self, message: str, *, tokens: int, context: int) -> None:
        super().__init__(message, argument="prompt")
        self.tokens = tokens
        self.context = context


class TemplateError(InvalidArgument):
    """Messages cannot be rendered: no template, a template that fails, or messages it refuses."""


class MediaError(InvalidArgument):
    """An image, sound or video cannot be used; `message` and `part` count from 0."""

    def __init__(self, text: str, *, message: int | None = None, part: int | None = None) -> None:
        super().__init__(text, argument="prompt")
        self.message = message
        self.part = part


class ConstraintError(InvalidArgument):
    """A schema, regular expression, list of choices or grammar does not compile."""


class CheckpointError(CabochonError):
    """A checkpoint is damaged, incomplete, unknown or not found.

    `file`, `tensor` and `key` (of a JSON file) name the place where one can be named.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        tensor: str | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(message)
        self.file = file
        self.tensor = tensor
        self.key = key


class OutOfMemory(CabochonError, MemoryError):
    """It does not fit; `plan` (a `cabochon.Plan`, or None) says what was needed."""

    def __init__(self, message: str, *, plan: Any = None) -> None:
        super().__init__(message)
        self.plan = plan


class Unsupported(CabochonError, NotImplementedError):
    """Right input, but not for this model, device or build."""


class MissingExtra(Unsupported, ImportError):
    """An optional package is absent; `extra` is the word for `pip install 'cabochon[extra]'`."""

    def __init__(self, message: str, *, extra: str) -> None:
        super().__init__(message)
        self.extra = extra


class DeviceError(CabochonError, RuntimeError):
    """A system or device call failed; the text names the call."""


class NumericalError(DeviceError):
    """NaN or infinity in the logits of a sequence; `layer` is None where it was not looked for."""

    def __init__(self, message: str, *, layer: int | None = None, step: int | None = None) -> None:
        super().__init__(message)
        self.layer = layer
        self.step = step


class EvaluationError(CabochonError):
    """An evaluation cannot be run, read or merged."""


class CabochonWarning(UserWarning):
    """Something works, but not as one might expect. Each text is shown once a process."""
