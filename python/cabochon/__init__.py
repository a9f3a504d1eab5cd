"""cabochon: run, measure and take apart Gemma 4 and Gemma 3 text models.

    import cabochon

    with cabochon.load("google/gemma-4-E2B-it") as model:
        print(model.generate("Why is the sky blue?", max_tokens=200))

The extension module is loaded by the first thing that computes, not by `import cabochon`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import errors, types
from .results import Event, Result
from .types import Plan, Prompt

if TYPE_CHECKING:
    from . import ops as ops
    from .chat.chat import Chat
    from .evaluation.report import Report
    from .evaluation.run import evaluate
    from .loading import load
    from .model import Model
    from .planner import plan

__version__ = "0.1.0"

__all__ = [
    "Chat",
    "Event",
    "Model",
    "Plan",
    "Prompt",
    "Report",
    "Result",
    "doctor",
    "errors",
    "evaluate",
    "load",
    "ops",
    "plan",
    "types",
]

_COMPUTING = {
    "load": "loading",
    "plan": "planner",
    "Model": "model",
    "Chat": "chat.chat",
    "ops": "ops",
    "evaluate": "evaluation.run",
    "Report": "evaluation.report",
}  # name: module that has it
_TO_COME = ("adapters",)


def doctor(*, verify: bool = False) -> Any:
    """What this machine and build have. To come.

    Raises:
        Unsupported: always, for now; `Model.info()` says what a loaded model runs on.
    """
    raise errors.Unsupported(
        "doctor: to come; Model.info() says what tier, threads and formats a loaded model uses"
    )


def __getattr__(name: str) -> Any:
    if name in _COMPUTING:
        module = importlib.import_module(f".{_COMPUTING[name]}", __name__)
        return module if name == "ops" else getattr(module, name)
    if name in _TO_COME:
        raise AttributeError(f"cabochon.{name} is to come")
    raise AttributeError(f"module 'cabochon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__"})
