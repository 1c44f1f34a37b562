"""A Python function at an address: how compiled loops call an objective that Numba cannot compile."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core.callconv import RETCODE_OK, RETCODE_STOPIT

# The C signature of what Numba compiles for `loops.descent.EVALUATE`: a status code, where to put the result, where to
# put what an exception is made of, and the arguments.
PROTOTYPE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.POINTER(ctypes.c_double), ctypes.c_void_p,
                             *(ctypes.c_ssize_t,) * 5)  # fmt: skip


class Callback:
    """``evaluate(x, work, g, n, data)``, given arrays, as machine code that takes their addresses.

    To be called within ``with callback.errors():``, where exceptions come out of the compiled loop as they were raised.
    """

    def __init__(self, evaluate: Callable[..., float]):
        self._error: BaseException | None = None
        self._inside = self._interrupted = False
        self._on_interrupt: Any = None

        @functools.lru_cache(maxsize=16)
        def vector(where: int, n: int) -> np.ndarray:
            return np.ctypeslib.as_array((ctypes.c_double * n).from_address(where))

        def enter(result: Any, _: Any, x: int, work: int, g: int, n: int, data: int) -> int:
            try:
                self._inside = True
                if self._interrupted:
                    self._interrupt(signal.SIGINT, None)
                result[0] = evaluate(vector(x, n), vector(work, n), vector(g, n), n, data)
                self._inside = False
            except BaseException as error:
                self._inside, self._error = False, error
                return RETCODE_STOPIT.constant
            return RETCODE_OK.constant

        self._keep = PROTOTYPE(enter)
        self.address = ctypes.cast(self._keep, ctypes.c_void_p).value

    @contextlib.contextmanager
    def errors(self):
        """Raise what the function raised.  An interrupt waits until the function runs: else ctypes would lose it."""
        self._on_interrupt, self._interrupted = signal.getsignal(signal.SIGINT), False
        heeds = callable(self._on_interrupt) and threading.current_thread() is threading.main_thread()
        if heeds:
            signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        except StopIteration:  # how the compiled loop reports an error
            error, self._error = self._error, None
            raise error from None
        finally:
            if heeds:
                signal.signal(signal.SIGINT, self._on_interrupt)
        if self._interrupted:
            self._on_interrupt(signal.SIGINT, None)

    def _interrupt(self, number: int, frame: Any) -> None:
        self._interrupted = not self._inside
        if self._inside:
            self._on_interrupt(number, frame)
