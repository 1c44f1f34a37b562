"""Derivatives as objects: called from Python, what they are given is first made what compiled code takes."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from numba import typeof
from numba.core import errors, types
from numba.core.caching import NullCache
from numba.extending import typeof_impl

from . import custom
from ._jit import jit
from .errors import UnsupportedError

FORWARD_UP_TO = 10  # unknowns: above, reverse mode is faster on most functions (benchmarks/gradients.py)


class Derivative:
    """A function made of another's derivative, for Python and for compiled code.

    From Python the mode is chosen by the number of unknowns, and only that one is compiled; compiled code has both.
    `grad` and its relatives make it; calling it is calling the derivative, with the function's arguments.

    Parameters
    ----------
    function : jitted function
    build : callable
        Makes the derivative of a function in a mode, for compiled code.
    mode, tape_bytes
        As in `value_and_grad`.
    """

    def __init__(self, function: Any, build: Any, mode: str | None, tape_bytes: int):
        self.function, self.mode, self._build, self._tape_bytes = function, mode, build, tape_bytes
        kind = build.__name__.strip("_")
        self._columns = kind in ("jacobian", "value_and_jacobian")  # whose results are many
        self._along, self._takes_v = kind in ("hvp", "hessian"), kind == "hvp"  # differences of gradients
        self._compiled: dict[Any, Any] = {}
        self.__name__ = self.__qualname__ = f"{kind}_of_{function.__name__}"
        self.__doc__ = f"{kind} of {function.__name__}: {function.__doc__ or 'a jitted function'}"

    def __call__(self, *args: Any, **named: Any) -> Any:
        if named or not args:
            args = self._in_order(args, named)
        x, *rest = args
        x = real_array("x", x)
        if self._along and x.ndim != 1:
            raise ValueError(f"x must be a vector, not {f'of shape {x.shape}' if x.ndim else 'a number'}")
        if self._takes_v:
            rest[:1] = [real_array("v", v).astype(np.float64).ravel() for v in rest[:1]]
        dtype = x.dtype
        x = x.astype(np.float64).ravel() if self._along else x
        mode = self.mode or ("forward" if self._columns or x.size <= FORWARD_UP_TO else "reverse")
        compiled, x = self.compiled(mode), float(x) if x.ndim == 0 else x
        rest = [native(value, position) for position, value in enumerate(rest, -self._takes_v)]
        try:
            made = compiled(x, *rest)
        except UnsupportedError as error:  # without the way through the compiler
            raise error.with_traceback(None) from None
        except errors.TypingError:
            for position, value in enumerate(rest, -self._takes_v):
                refuse(value, position)
            raise
        if not self._along:
            return made
        return made.astype(dtype)

    def _in_order(self, args: tuple, named: dict[str, Any]) -> tuple:
        """Arguments by position, as for the function itself: compiled code knows no keywords."""
        signature = inspect.signature(self.function.py_func)
        if self._takes_v:
            first, *others = signature.parameters.values()
            v = inspect.Parameter("v", inspect.Parameter.POSITIONAL_OR_KEYWORD)
            signature = signature.replace(parameters=[first, v, *others])
        bound = signature.bind(*args, **named)
        bound.apply_defaults()
        return bound.args

    def compiled(self, mode: str | None) -> Any:
        """The jitted function for one mode, or with None for both."""
        key = mode, custom.stamp()  # a rule that is registered later counts from then on
        if key not in self._compiled:
            made = self._build(self.function, mode, self._tape_bytes)
            self._compiled[key] = jit(made, kept=not isinstance(self.function._cache, NullCache))
        return self._compiled[key]

    @property
    def dispatcher(self) -> Any:
        """What compiled code calls."""
        return self.compiled(self.mode)

    def __repr__(self) -> str:
        return f"<{self.__name__}>"


def real_array(name: str, value: Any) -> np.ndarray:
    """A float32 or float64 array that compiled code takes as it takes any other of its shape."""
    try:
        value = np.asarray(value)
    except ValueError:  # rows of different lengths
        raise TypeError(f"{name} must be an array of real numbers, not {type(value).__name__}") from None
    if value.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be real numbers, not of dtype {value.dtype}")
    kind = value.dtype.type if value.dtype.type in (np.float32, np.float64) else np.float64
    return np.require(value, np.dtype(kind), ("C", "A", "W"))


def native(value: Any, position: int) -> Any:
    """Arrays of any layout, byte order and library as C-contiguous native ones of NumPy; all else as it is."""
    if hasattr(value, "__array__") and not isinstance(value, (np.ndarray, np.generic)):  # of pandas, and others
        value = np.asarray(value)
    if not isinstance(value, np.ndarray) or value.ndim == 0:
        return value
    if value.dtype.hasobject:
        raise TypeError(f"args[{position}] is an array of Python objects; give numbers")
    return np.asarray(np.ascontiguousarray(value, value.dtype.newbyteorder("=")))


def refuse(value: Any, position: int) -> None:
    """Raise where compiled code takes no such argument."""
    try:
        typeof(value)
    except (ValueError, TypeError):
        raise TypeError(f"args[{position}] is a {type(value).__name__}, which compiled code does not take; give an "
                        "array, a number or a tuple of such") from None  # fmt: skip


@typeof_impl.register(Derivative)
def _typeof(derivative, context):
    return types.Dispatcher(derivative.dispatcher)
