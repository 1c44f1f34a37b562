"""Ctrl-C at moments where it does no harm."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


class Interrupts:
    """Within ``with``, Ctrl-C waits for the end of the block, or for the next moment when it is `allow`-ed."""

    def __init__(self) -> None:
        self._before: Any = None
        self._waiting = self._allowed = False

    def __enter__(self) -> None:
        before = signal.getsignal(signal.SIGINT)
        self._waiting = self._allowed = False
        if callable(before) and threading.current_thread() is threading.main_thread():
            self._before = before
            signal.signal(signal.SIGINT, self._handle)

    def __exit__(self, *_: Any) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            before, self._before = self._before, None
            if self._waiting:
                before(signal.SIGINT, None)

    def _handle(self, number: int, frame: Any) -> None:
        self._waiting = not self._allowed
        if self._allowed:
            self._before(number, frame)

    def allow(self, allowed: bool) -> None:
        """From now on Ctrl-C is heeded at once, also one that waits, or it waits."""
        self._allowed = allowed
        if allowed and self._waiting:
            self._waiting = False
            self._before(signal.SIGINT, None)

    @contextlib.contextmanager
    def heeded(self) -> Iterator[None]:
        """Within this, Ctrl-C is heeded."""
        was = self._allowed
        try:
            self.allow(True)
            yield
        finally:
            self.allow(was)
