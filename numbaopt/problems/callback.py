"""A Python function at an address: how compiled loops call an objective that Numba cannot compile."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core.callconv import RETCODE_OK, RETCODE_STOPIT

from .._interrupts import Interrupts
from ..loops.descent import EVALUATE


def of_gradient(vector: Any, x: int, work: int, g: int, n: int, data: int) -> tuple:
    """The arguments of `loops.descent.EVALUATE`, its addresses as arrays."""
    return vector(x, n), vector(work, n), vector(g, n), n, data


class Callback:
    """``evaluate(x, work, g, n, data)``, given arrays, as machine code that takes their addresses.

    Another ``signature``, of whole numbers that return a float64 or nothing, comes with a function ``arguments(vector,
    *words)`` that makes arrays of them by ``vector(address, size)``.

    An exception ends the compiled loop with a ``StopIteration``; its caller raises ``error`` instead.  Outside the
    function Ctrl-C has to wait (``interrupts``): ctypes would print its exception and lose it.
    """

    def __init__(self, evaluate: Callable[..., float | None], dtype: np.dtype, signature: Any = EVALUATE,
                 arguments: Callable[..., tuple] = of_gradient):  # fmt: skip
        number = np.ctypeslib.as_ctypes_type(dtype)
        self.error: BaseException | None = None
        self.interrupts = Interrupts()

        @functools.lru_cache(maxsize=16)
        def vector(where: int, n: int) -> np.ndarray:
            return np.ctypeslib.as_array((number * n).from_address(where))

        def enter(result: Any, _: Any, *words: int) -> int:
            try:
                self.interrupts.allow(True)
                value = evaluate(*arguments(vector, *words))
                if value is not None:
                    result[0] = value
                self.interrupts.allow(False)
            except BaseException as error:
                self.interrupts.allow(False)
                self.error = error
                return RETCODE_STOPIT.constant
            return RETCODE_OK.constant

        # What Numba compiles returns a status code and is given where to put the result, where to put what an exception
        # is made of, and the arguments.
        prototype = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.POINTER(ctypes.c_double), ctypes.c_void_p,
                                     *(ctypes.c_ssize_t,) * len(signature.args))  # fmt: skip
        self._keep = prototype(enter)
        self.address = ctypes.cast(self._keep, ctypes.c_void_p).value

    def take_error(self) -> BaseException | None:
        """The exception that ended the loop, if one did."""
        error, self.error = self.error, None
        return error
