"""Vectors of residuals with their Jacobian: any function that returns a vector, jitted or plain."""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core.caching import NullCache
from numba.core.dispatcher import Dispatcher

from .._fields import nearest
from .._jit import address, array, array_at, jit_for_address, jit_inside
from .._packed import unpacker
from ..differences import SCHEMES
from ..loops.least_squares import LOSSES, RESIDUALS, jacobian_at
from .callback import Callback
from .evaluation import FLOAT64, JACOBIAN_SHAPE, MODES, RESIDUALS_COUNT, RefusedError, as_dispatcher, return_type
from .function import Evaluated, native_layout

REAL = (types.Float, types.Integer, types.Boolean)
floats = array_at(np.float64)


class Residuals(Evaluated):
    """Residuals ``fun(x, *args)`` with a Jacobian, ready for `loops.least_squares`; see `Evaluated`.

    Parameters
    ----------
    fun, jac, args
        As in `numbaopt.least_squares`.
    x0 : ndarray of shape (n,)
        Where ``fun`` is called once, which tells how many residuals there are.
    lower, upper, jit
        As for `Evaluated`.
    loss, f_scale
        As in `numbaopt.least_squares`.

    Attributes
    ----------
    start : ndarray of shape (m,)
        The residuals at ``x0``.
    scalar : bool
        Whether ``fun`` returns them as a number.
    """

    what = "residual function"

    def __init__(self, fun: Any, jac: Any, args: tuple, x0: np.ndarray, lower: np.ndarray, upper: np.ndarray,
                 jit: bool | None = None, loss: str = "linear", f_scale: float = 1.0):  # fmt: skip
        if not callable(fun):
            raise TypeError(f"fun must be callable, not {type(fun).__name__}")
        if jac is True:
            raise ValueError("jac=True is not possible: fun returns the residuals, jac(x, *args) their Jacobian")
        if loss not in LOSSES:
            raise ValueError(f"loss={loss!r} is not known; {nearest(str(loss), LOSSES)}")
        self.loss, self.f_scale, self.known = loss, f_scale, np.empty(0)
        super().__init__(fun, jac, args, x0.size, lower, upper, jit)
        fun, args = self._called
        found = fun(x0.copy(), *args)
        self.start, self.scalar = _vector(found), np.ndim(found) == 0
        self.m = self.start.size
        if self.m == 0:
            raise ValueError("fun returned no residuals at x0")
        self.known = x0.copy()

    @functools.cached_property
    def _called(self) -> tuple[Any, tuple]:
        return (as_dispatcher(self.fun), native_layout(self.args)) if self.compiled else (self.fun, self.args)

    def residuals(self, x: np.ndarray) -> np.ndarray:
        """The residuals at ``x``, for callers in Python."""
        fun, args = self._called
        return _vector(fun(x.copy(), *args))

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        """The Jacobian at ``x``, of shape (m, n), for callers in Python."""
        r, columns = self.residuals(x), np.empty((self.n, self.m))
        if self.data is None:
            self._in_python(x, x.copy(), r, columns, self.n, self.m, 1, None)
        else:
            jacobian_at(self.evaluate, x, x.copy(), r, columns, self.data.address)
        return np.ascontiguousarray(columns.T)

    def _mode(self) -> str:
        return "forward"

    def _require(self, kind: Any) -> None:
        _require_vector(kind)

    def _evaluation(self, jac: Any, packed: Any) -> tuple[Any, Any]:
        return compiled_residuals(self.fun, jac, packed)

    def _call_back(self) -> Callback:
        return Callback(self._in_python, self.dtype, RESIDUALS, _of_residuals)

    def _in_python(self, x: Any, work: Any, r: Any, J: Any, n: int, m: int, wanted: int, data: Any) -> None:
        """What the compiled evaluation does, for residuals that Numba cannot compile."""
        fun, args, r, columns = self.fun, self.args, r[:m], J.reshape(-1)[: n * m].reshape(n, m)
        if not wanted:
            known, self.known = self.known, self.known[:0]  # so as not to call fun at x0 twice
            found = self.start if np.array_equal(known, x) else _vector(fun(x.copy(), *args))
            if found.size != m:
                raise ValueError(RESIDUALS_COUNT.format(found.size, m))
            r[:] = found
        elif isinstance(self.jac, str):
            scheme = getattr(SCHEMES[self.jac], "py_func", SCHEMES[self.jac])
            scheme(lambda z, *a: np.atleast_1d(np.array(fun(z.copy(), *a))), x, work, columns, r, args, self.lower,
                   self.upper)  # fmt: skip
        else:
            matrix = np.atleast_2d(np.asarray(self.jac(x.copy(), *args), np.float64))
            if matrix.shape != (m, n):
                rows, wide = matrix.shape if matrix.ndim == 2 else (matrix.shape, "")
                raise ValueError(JACOBIAN_SHAPE.format(rows, wide, m, n))
            columns[:] = matrix.T


def _of_residuals(vector: Any, x: int, work: int, r: int, J: int, n: int, m: int, wanted: int, data: int) -> tuple:
    return vector(x, n), vector(work, n), vector(r, m), vector(J, n * m), n, m, wanted, data


def _vector(value: Any) -> np.ndarray:
    try:
        found = np.atleast_1d(np.array(value, np.float64))
    except TypeError:
        raise TypeError(f"fun must return a vector of real numbers, not {type(value).__name__}") from None
    if found.ndim != 1:
        raise ValueError(f"fun must return a vector; it returned an array of shape {found.shape}")
    return found


def _require_vector(kind: Any) -> None:
    vector = isinstance(kind, types.Array) and kind.ndim == 1 and isinstance(kind.dtype, REAL)
    if not (vector or _is_sequence(kind) or isinstance(types.unliteral(kind), REAL)):
        raise RefusedError(f"fun must return a vector of real numbers; it returns {kind}")


def _is_sequence(kind: Any) -> bool:
    kinds = kind.types if isinstance(kind, types.BaseTuple) else [getattr(kind, "dtype", None)]
    return isinstance(kind, (types.BaseTuple, types.List)) and all(isinstance(types.unliteral(k), REAL) for k in kinds)


def _require_matrix(kind: Any) -> None:
    if not (isinstance(kind, types.Array) and kind.ndim == 2 and isinstance(kind.dtype, REAL)):
        raise RefusedError(f"jac must return a matrix of real numbers; it returns {kind}")


def compiled_residuals(fun: Any, jac: Any, packed: Any, dtype: np.dtype = FLOAT64) -> tuple[Any, Any]:
    """``residuals`` as `loops.least_squares.RESIDUALS` says, and its address; "ad" is the forward mode."""
    rules, jac = 0, MODES[0] if jac == "ad" else jac
    if jac in MODES:
        from ..exact import stamp

        rules = stamp()
    return _compile_residuals(as_dispatcher(fun), as_dispatcher(jac) if callable(jac) else jac, packed, rules)


def vector_function(fun: Any, kinds: tuple) -> Any:
    """``fun``, or a function that makes an array of the numbers, or the only one, that it returns."""
    kind = return_type(fun, kinds)
    _require_vector(kind)
    return fun if isinstance(kind, types.Array) else _as_array(fun, _is_sequence(kind))


@functools.lru_cache(maxsize=256)
def _compile_residuals(fun: Any, jac: Any, packed: Any, rules: int) -> Any:
    kinds = (array(np.float64), *packed[0])
    on_disk = all(not isinstance(f._cache, NullCache) for f in (fun, jac) if isinstance(f, Dispatcher))
    fun = vector_function(fun, kinds)
    if isinstance(jac, Dispatcher):
        _require_matrix(return_type(jac, kinds))
        derive = _by_jac(jac)
    else:
        derive = _exactly(fun, jac) if jac in MODES else _by_differences(fun, jac)
    residuals = jit_for_address(_residuals(fun, derive, unpacker(packed)), cache=on_disk, fastmath=())
    return residuals, address(residuals, RESIDUALS)


def _as_array(fun: Any, sequence: bool) -> Any:
    """``fun`` with its numbers, or its only one, as an array."""
    if sequence:
        return numba.njit(lambda x, *args: np.array(fun(x, *args)))
    return numba.njit(lambda x, *args: np.array([fun(x, *args)]))


def _residuals(fun, derive, unpack):
    derive = jit_inside(derive, fastmath=())

    def residuals(x, work, r, J, n, m, wanted, data):
        packed, x, work, r, J = unpack(data), floats(x, n), floats(work, n), floats(r, m), floats(J, n * m)
        for i in range(n):
            work[i] = x[i]
        if wanted:
            derive(x, work, r, J, n, m, packed)
            return
        found = fun(work, *packed[0])
        if len(found) != m:
            raise ValueError(RESIDUALS_COUNT, len(found), m)
        for i in range(m):
            r[i] = found[i]

    return residuals


def _store(matrix, J, n, m):
    if matrix.shape[0] != m or matrix.shape[1] != n:
        raise ValueError(JACOBIAN_SHAPE, matrix.shape[0], matrix.shape[1], m, n)
    for i in range(m):
        for j in range(n):
            J[j * m + i] = matrix[i, j]


store = jit_inside(_store, fastmath=())


def _by_jac(jac):
    def derive(x, work, r, J, n, m, packed):
        store(jac(work, *packed[0]), J, n, m)

    return derive


def _exactly(fun, mode):
    from ..exact import values_and_jacobian

    run = values_and_jacobian(fun, mode)

    def derive(x, work, r, J, n, m, packed):
        store(run(work, packed[0])[1], J, n, m)

    return derive


def _by_differences(fun, jac):
    scheme = jit_inside(SCHEMES[jac], fastmath=())
    fresh = jit_inside(lambda x, *args: fun(x, *args) * 1.0)  # a copy: fun may return what it was given

    def derive(x, work, r, J, n, m, packed):
        args, lower, upper = packed
        scheme(fresh, x, work, J.reshape(n, m), r, args, lower, upper)

    return derive
