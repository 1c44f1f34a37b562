"""From a user's functions to compiled evaluations, met by loops at an address."""

from __future__ import annotations

import functools
import types as pytypes
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core.caching import NullCache
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError

from .._cache import UnknownError, fingerprint
from .._jit import address, array, array_at, jit_for_address, jit_inside
from .._packed import unpacker
from ..differences import SCHEMES
from ..loops.descent import EVALUATE

GRADIENT_SHAPE = "jac returned a gradient of shape ({},), x has shape ({},)"
RESIDUALS_COUNT = "fun returned {} residuals, {} at x0"
JACOBIAN_SHAPE = "jac returned a matrix of shape ({}, {}), for {} residuals and {} unknowns"
UNFILLED = (GRADIENT_SHAPE, RESIDUALS_COUNT, JACOBIAN_SHAPE)
FLOAT64 = np.dtype(np.float64)
MODES = ("forward", "reverse")
WITHOUT = "without"  # the value of jac where no gradient is needed
EXACT = {"ad": None, "forward": "forward", "reverse": "reverse"}  # values of jac, and the mode that each asks for


class RefusedError(NumbaError):
    """The objective compiles, but into something that cannot be minimized."""


def as_dispatcher(function: Callable[..., Any]) -> Any:
    """``function`` if it is jitted; else its jitted twin, the same one for as long as all it refers to is the same."""
    if isinstance(function, Dispatcher):
        return function
    if isinstance(getattr(function, "dispatcher", None), Dispatcher):  # a function of numbaopt.grad
        return function.dispatcher
    if not isinstance(function, pytypes.FunctionType):
        raise NumbaError(f"a {type(function).__name__} is not a plain function")
    try:
        return _twin(function, fingerprint(function))
    except UnknownError:
        return numba.njit(boundscheck=True)(function)


@functools.lru_cache(maxsize=256)
def _twin(function: Callable[..., Any], stamp: str) -> Any:
    return numba.njit(boundscheck=True)(function)  # whoever writes plain Python is owed its IndexError


def compiled_evaluation(fun: Any, jac: Any, packed: Any, dtype: np.dtype = FLOAT64) -> tuple[Any, Any]:
    """``evaluate(x, work, g, n, data)`` and its address, compiled once a function and types of arguments."""
    rules = 0
    if jac in EXACT:
        from ..exact import stamp

        rules = stamp()
    return _compile_evaluation(as_dispatcher(fun), as_dispatcher(jac) if callable(jac) else jac, packed, dtype, rules)


@functools.lru_cache(maxsize=256)
def _compile_evaluation(fun: Any, jac: Any, packed: Any, dtype: np.dtype, rules: int) -> Any:
    kinds = (array(dtype), *packed[0])
    if jac in EXACT:
        from ..exact import link_late

        source, on_disk = _with_exact(fun, EXACT[jac], unpacker(packed), array_at(dtype)), _kept(fun)
        evaluate = jit_for_address(source, cache=on_disk, fastmath=())
        link_late(evaluate)
        return evaluate, address(evaluate, EVALUATE)
    require_real(return_type(fun, kinds), jac is True)
    if jac == "cs":
        return_type(fun, (array(np.complex128), *packed[0]))
    if callable(jac):
        require_vector(return_type(jac, kinds))
    on_disk = _kept(fun) and (not isinstance(jac, Dispatcher) or _kept(jac))
    source = _with_value if jac == WITHOUT else _with_differences if isinstance(jac, str) else _with_jac
    evaluate = source(fun, None if jac is True else jac, unpacker(packed), array_at(dtype))
    evaluate = jit_for_address(evaluate, cache=on_disk, fastmath=())
    return evaluate, address(evaluate, EVALUATE)


def _kept(function: Any) -> bool:
    """Whether a user keeps a jitted function on disk."""
    return not isinstance(function._cache, NullCache)


def return_type(function: Any, kinds: tuple) -> Any:
    _, kinds = function.fold_argument_types(kinds, {})
    if kinds not in function.overloads:  # one with signatures of its own compiles no other
        function.compile(kinds)
    return function.overloads[kinds].signature.return_type


def require_real(kind: Any, pair: bool) -> None:
    if pair:
        if not isinstance(kind, types.BaseTuple) or kind.count != 2:
            raise RefusedError(f"jac=True: fun must return (value, gradient); it returns {kind}")
        kind, gradient = kind.types
        require_vector(gradient)
    if not isinstance(types.unliteral(kind), (types.Float, types.Integer, types.Boolean)):
        told = ": residuals are for least_squares, many for method='lm'" if isinstance(kind, types.Array) else ""
        raise RefusedError(f"fun must return a real scalar; it returns {kind}{told}")


def require_vector(kind: Any) -> None:
    vector = isinstance(kind, types.Array) and kind.ndim == 1 and isinstance(kind.dtype, (types.Float, types.Integer))
    numbers = isinstance(kind, (types.UniTuple, types.List)) and isinstance(kind.dtype, (types.Float, types.Integer))
    if not (vector or numbers):
        raise RefusedError(f"jac must return a vector of real numbers; it returns {kind}")


def _with_jac(fun, jac, unpack, vector):
    def evaluate(x, work, g, n, data):
        (args, wanted), x, work, g = unpack(data), vector(x, n), vector(work, n), vector(g, n)
        value = 0.0
        for i in range(n):
            work[i] = x[i]
        if jac is None:
            pair = fun(work, *args)
            value, gradient = np.float64(pair[0]), pair[1]
        else:
            if wanted:
                value = np.float64(fun(work, *args))
                for i in range(n):
                    work[i] = x[i]
            gradient = jac(work, *args)
        if len(gradient) != n:
            raise ValueError(GRADIENT_SHAPE, len(gradient), n)
        for i in range(n):
            g[i] = gradient[i]
        return value

    return evaluate


def _with_value(fun, jac, unpack, vector):
    def evaluate(x, work, g, n, data):
        (args, _), x, work = unpack(data), vector(x, n), vector(work, n)
        for i in range(n):
            work[i] = x[i]
        return np.float64(fun(work, *args))

    return evaluate


def _with_exact(fun, mode, unpack, vector):
    from ..exact import evaluation

    run = evaluation(fun, mode)

    def evaluate(x, work, g, n, data):
        args, _ = unpack(data)
        return run(vector(x, n), vector(g, n), args)

    return evaluate


def _with_differences(fun, jac, unpack, vector):
    scheme = jit_inside(SCHEMES[jac], fastmath=())

    def evaluate(x, work, g, n, data):
        (args, lower, upper), x, work, g = unpack(data), vector(x, n), vector(work, n), vector(g, n)
        for i in range(x.size):
            work[i] = x[i]
        value = fun(work, *args)
        scheme(fun, x, work, g, value, args, lower, upper)
        return np.float64(value)

    return evaluate


class MisshapenError(ValueError):
    """What a user's function returned has not the shape that x asks for."""


def mend_message(error: ValueError) -> ValueError:
    """Fill the numbers into a message that compiled code could only raise apart from them."""
    if error.args and error.args[0] in UNFILLED:
        return MisshapenError(error.args[0].format(*error.args[1:]))
    return error
