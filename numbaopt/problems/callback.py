"""A Python function at an address: how compiled loops call an objective that Numba cannot compile."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core.callconv import RETCODE_OK, RETCODE_STOPIT

from .._interrupts import Interrupts

# The C signature of what Numba compiles for `loops.descent.EVALUATE`: a status code, where to put the result, where to
# put what an exception is made of, and the arguments.
PROTOTYPE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.POINTER(ctypes.c_double), ctypes.c_void_p,
                             *(ctypes.c_ssize_t,) * 5)  # fmt: skip


class Callback:
    """``evaluate(x, work, g, n, data)``, given arrays, as machine code that takes their addresses.

    An exception ends the compiled loop with a ``StopIteration``; its caller raises ``error`` instead.  Outside the
    function Ctrl-C has to wait (``interrupts``): ctypes would print its exception and lose it.
    """

    def __init__(self, evaluate: Callable[..., float], dtype: np.dtype):
        number = np.ctypeslib.as_ctypes_type(dtype)
        self.error: BaseException | None = None
        self.interrupts = Interrupts()

        @functools.lru_cache(maxsize=16)
        def vector(where: int, n: int) -> np.ndarray:
            return np.ctypeslib.as_array((number * n).from_address(where))

        def enter(result: Any, _: Any, x: int, work: int, g: int, n: int, data: int) -> int:
            try:
                self.interrupts.allow(True)
                result[0] = evaluate(vector(x, n), vector(work, n), vector(g, n), n, data)
                self.interrupts.allow(False)
            except BaseException as error:
                self.interrupts.allow(False)
                self.error = error
                return RETCODE_STOPIT.constant
            return RETCODE_OK.constant

        self._keep = PROTOTYPE(enter)
        self.address = ctypes.cast(self._keep, ctypes.c_void_p).value

    def take_error(self) -> BaseException | None:
        """The exception that ended the loop, if one did."""
        error, self.error = self.error, None
        return error
