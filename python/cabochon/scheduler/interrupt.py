"""Ctrl-C at the right moment: what must be changed whole is changed whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class HeldInterrupt:
    """Holds Ctrl-C back until the block is left, but for the parts inside `allowed()`.

    Only the main thread is ever interrupted, so in any other thread this does nothing.
    """

    def __init__(self) -> None:
        self._handler: Callable[[int, FrameType | None], Any] | None = None
        self._is_allowed = False
        self._is_pending = False

    def __enter__(self) -> HeldInterrupt:
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self._handler = handler
                signal.signal(signal.SIGINT, self._interrupted)
        return self

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self._is_allowed and self._handler is not None:
            self._handler(number, frame)
        else:
            self._is_pending = True

    def __exit__(self, *_: object) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            if self._is_pending:
                self._handler(signal.SIGINT, None)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """In this part Ctrl-C acts at once."""
        self._is_allowed = True
        try:
            if self._is_pending and self._handler is not None:
                self._is_pending = False
                self._handler(signal.SIGINT, None)
            yield
        finally:
            self._is_allowed = False
