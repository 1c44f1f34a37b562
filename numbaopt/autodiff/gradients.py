r"""Exact derivatives of jitted functions: `grad`, `value_and_grad`, `jacobian`, and differences of gradients."""

from __future__ import annotations

import functools
import types as pytypes
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.core.dispatcher import Dispatcher
from numba.extending import overload, register_jitable

from .derivative import FORWARD_UP_TO, Derivative
from .programs import program
from .stubs import chosen_by_type

MODES = (None, "forward", "reverse")
TAPE_BYTES = 1 << 33
STEP = float(np.finfo(float).eps ** (1 / 3))
FLOOR, APART, PARTS = 1e-8, 100.0, 4


def _derivative(fun: Any, build: Any, mode: str | None, tape_bytes: int | None = None) -> Derivative:
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} must be None, 'forward' or 'reverse'")
    if tape_bytes is not None and tape_bytes < 1024:
        raise ValueError(f"tape_bytes={tape_bytes!r} must be at least 1024")
    if numba.config.DISABLE_JIT:
        raise RuntimeError("exact gradients need compiled code, and NUMBA_DISABLE_JIT is set")
    if not isinstance(fun, Dispatcher):
        if isinstance(fun, Derivative):
            raise TypeError(f"fun={fun!r}: there are no derivatives of derivatives; see hvp and hessian")
        if isinstance(fun, pytypes.MethodType):
            raise TypeError(f"fun={fun!r} is a method; write a function, and hand it what it needs of the object")
        if not isinstance(fun, pytypes.FunctionType):
            raise TypeError(f"fun={fun!r} must be a function, jitted by Numba or plain")
        return Derivative(numba.njit(fun), build, mode, TAPE_BYTES if tape_bytes is None else int(tape_bytes))
    return _made(fun, build, mode, TAPE_BYTES if tape_bytes is None else int(tape_bytes))


@functools.lru_cache(maxsize=256)
def _made(fun: Dispatcher, build: Any, mode: str | None, tape_bytes: int) -> Derivative:
    """The derivative of a jitted function: of the same one the same, so that it may be asked for where it is called."""
    return Derivative(fun, build, mode, tape_bytes)


def evaluation(function: Any, mode: str | None, tape_bytes: int = TAPE_BYTES) -> Any:
    """``run(x, g, args) -> value`` for compiled code, with a float64 vector ``g``; with mode None it has both modes."""
    if mode is not None:
        return program(function, mode, tape_bytes)
    forward, reverse = program(function, "forward", tape_bytes), program(function, "reverse", tape_bytes)

    def run(x, g, args):
        if x.size <= FORWARD_UP_TO:
            return forward(x, g, args)
        return reverse(x, g, args)

    return register_jitable(run)


def _of_number(run: Any) -> Any:
    """``(x, args) -> (value, gradient)`` from ``run(x, g, args)``, the gradient like ``x``: array or number."""

    def both(x, args):
        raise NotImplementedError(run)

    def choose(x, args):
        if isinstance(x, types.Array):

            def of_array(x, args):
                g = np.empty(x.size, np.float64)
                value = run(x, g, args)
                return value, _like(g, x)

            return of_array

        def of_scalar(x, args):
            g = np.empty(1, np.float64)
            value = run(x, g, args)
            return value, g[0]

        return of_scalar

    overload(both, strict=False)(choose)
    return both


@chosen_by_type("g", "x")
def _like(g, x):
    """A flat gradient with the shape of the unknowns, in their precision."""
    if x.dtype == types.float32:
        return lambda g, x: g.astype(np.float32).reshape(x.shape)
    return (lambda g, x: g) if x.ndim == 1 else (lambda g, x: g.reshape(x.shape))


def _value_and_grad(function: Any, mode: str | None, tape_bytes: int) -> Any:
    both = _of_number(evaluation(function, mode, tape_bytes))

    def value_and_grad(x, *args):
        return both(x, args)

    return value_and_grad


def _grad(function: Any, mode: str | None, tape_bytes: int) -> Any:
    both = _of_number(evaluation(function, mode, tape_bytes))

    def grad(x, *args):
        return both(x, args)[1]

    return grad


def _value_and_jacobian(function: Any, mode: str | None, tape_bytes: int) -> Any:
    run = program(function, mode or "forward", tape_bytes, vector=True)

    def value_and_jacobian(x, *args):
        return run(x, args)

    return value_and_jacobian


def _jacobian(function: Any, mode: str | None, tape_bytes: int) -> Any:
    run = program(function, mode or "forward", tape_bytes, vector=True)

    def jacobian(x, *args):
        return run(x, args)[1]

    return jacobian


def _hvp(function: Any, mode: str | None, tape_bytes: int) -> Any:
    along = _differences(evaluation(function, mode, tape_bytes))

    def hvp(x, v, *args):
        return along(x, v, args)

    return hvp


def _hessian(function: Any, mode: str | None, tape_bytes: int) -> Any:
    along = _differences(evaluation(function, mode, tape_bytes))

    def hessian(x, *args):
        made, unit = np.empty((x.size, x.size)), np.zeros(x.size)
        for i in range(x.size):
            unit[i] = 1.0
            made[i] = along(x, unit, args)
            unit[i] = 0.0
        return 0.5 * (made + made.T)

    return hessian


def _differences(run: Any) -> Any:
    """The derivative of the gradient in a direction, by central differences.

    No unknown is moved by more than a small part of its size, or of the largest one's 1e-8 part (of 1, where it is 0).
    A direction that moves some by far less than others is taken apart.
    """

    def along(x, v, args):
        if v.size != x.size:
            raise ValueError("v must have as many items as x")
        largest = 0.0
        for i in range(x.size):
            largest = max(largest, abs(x[i]))
        made, room = np.zeros(x.size), np.empty(x.size)  # how far the whole direction may be gone, for each unknown
        for i in range(x.size):
            size = max(abs(x[i]), FLOOR * largest) if x[i] != 0.0 else 1.0
            room[i] = size / abs(v[i]) if v[i] != 0.0 else np.inf
        ahead, behind, left = np.empty(x.size), np.empty(x.size), PARTS
        while room.min() < np.inf:
            left -= 1
            nearest = room.min()
            part = np.zeros(x.size)
            for i in range(x.size):
                if room[i] <= nearest * APART or (left == 0 and room[i] < np.inf):
                    part[i], room[i] = v[i], np.inf
            h = STEP * nearest
            run(x + h * part, ahead, args)
            run(x - h * part, behind, args)
            for i in range(x.size):
                made[i] += (ahead[i] - behind[i]) / (2.0 * h)
        return made

    return register_jitable(along)


# ------------------------------------------------------------------------------------------------- for everyone
def value_and_grad(fun: Any, mode: str | None = None, tape_bytes: int | None = None) -> Derivative:
    r"""A function that returns the value and the exact gradient of another.

    .. math:: x, a, b, \dots \mapsto \big(f(x, a, b, \dots),\; \nabla_x f(x, a, b, \dots)\big)

    Parameters
    ----------
    fun : function
        ``fun(x, *args) -> float``, jitted by Numba (a plain function is compiled).  ``x``, of which the gradient is
        taken, is an array of any shape, or a number.  Float arrays among ``args`` must not be written to.
    mode : {None, "forward", "reverse"}
        Forward mode costs a run of ``fun`` with vector arithmetic for every 8 unknowns, reverse mode some 2 to 12 runs
        whatever their number, while the tape fits the caches; it takes memory in proportion to the operations.  None:
        forward up to 10 unknowns.
    tape_bytes : int
        What reverse mode may keep of a run, by default 8 GiB.

    Returns
    -------
    Derivative
        ``(x, *args) -> (float, gradient)``, callable from Python and inside jitted functions, also in ``prange`` and in
        threads.  The gradient has the shape of ``x``; float32 in, float32 out (computed in float64 in between).

    Raises
    ------
    UnsupportedError
        When called, if ``fun`` uses something that has no derivative here: two lines that say what, where, and what
        to do.
    MemoryError
        When called, if reverse mode needs more than ``tape_bytes``.

    Notes
    -----
    The derivative is that of the program as it runs: a branch counts as taken, an iteration as long as it ran.  Kinks
    and ties: see `numbaopt.autodiff.kinks`.  Every call computes anew; nothing is remembered but how long the tape was.
    Large memory of reverse mode (unknowns, tape and adjoints, from 1 to 256 MiB each) is left to the next gradient.
    An exception of ``fun`` comes out; as wherever one jitted function calls another, Numba then never releases the
    arrays of that call.

    References
    ----------
    Griewank, A., Walther, A. (2008). Evaluating derivatives. doi:10.1137/1.9780898717761
    Hogan, R. J. (2014). Fast reverse-mode automatic differentiation using expression templates in C++.
    doi:10.1145/2560359

    Examples
    --------
    >>> import numba, numpy as np, numbaopt as no
    >>> @numba.njit
    ... def rosen(x):
    ...     return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
    >>> no.value_and_grad(rosen)(np.array([-1.0, 2.0]))
    (104.0, array([396., 200.]))
    """
    return _derivative(fun, _value_and_grad, mode, tape_bytes)


def grad(fun: Any, mode: str | None = None, tape_bytes: int | None = None) -> Derivative:
    r"""A function that returns the exact gradient of another: `value_and_grad` without the value.

    .. math:: x \mapsto \nabla f(x) = (\partial f / \partial x_1, \dots, \partial f / \partial x_n)

    Parameters
    ----------
    fun, mode, tape_bytes
        As in `value_and_grad`.

    Returns
    -------
    Derivative
        ``(x, *args) -> gradient``, in the shape and precision of ``x``.

    Examples
    --------
    >>> import numba, numpy as np, numbaopt as no
    >>> f = numba.njit(lambda x, a: (a * np.sin(x)).sum())
    >>> no.grad(f)(np.zeros(2), np.array([1.0, 3.0]))
    array([1., 3.])
    >>> df = no.grad(f)
    >>> numba.njit(lambda x: df(x, x))(np.zeros(2))
    array([0., 0.])
    """
    return _derivative(fun, _grad, mode, tape_bytes)


def jacobian(fun: Any, mode: str | None = None, tape_bytes: int | None = None) -> Derivative:
    r"""A function that returns all derivatives of a function whose value is an array, such as residuals.

    .. math:: J_{ij} = \partial f_i / \partial x_j

    Parameters
    ----------
    fun : function
        ``fun(x, *args) -> array``; see `value_and_grad`.
    mode : {None, "forward", "reverse"}
        None is forward mode, a run of ``fun`` for every 8 unknowns; reverse mode is for far fewer results than
        unknowns: one run, then a sweep over the tape a result.
    tape_bytes : int
        See `value_and_grad`.

    Returns
    -------
    Derivative
        ``(x, *args) -> (size of the value, size of x)`` float64 matrix.

    Examples
    --------
    >>> import numba, numpy as np, numbaopt as no
    >>> @numba.njit
    ... def residuals(x, t, y):
    ...     return x[0] * np.exp(-x[1] * t) - y
    >>> no.jacobian(residuals)(np.array([2.0, 0.0]), np.array([0.0, 1.0]), np.zeros(2))
    array([[ 1.,  0.],
           [ 1., -2.]])
    """
    return _derivative(fun, _jacobian, mode, tape_bytes)


def value_and_jacobian(fun: Any, mode: str | None = None, tape_bytes: int | None = None) -> Derivative:
    """A function that returns ``(values as a vector, jacobian)`` from one run; see `jacobian`.

    Parameters
    ----------
    fun, mode, tape_bytes
        As in `jacobian`.

    Returns
    -------
    Derivative
        ``(x, *args) -> (values, matrix)``.

    Examples
    --------
    >>> import numba, numpy as np
    >>> from numbaopt.autodiff import value_and_jacobian
    >>> f = numba.njit(lambda x: np.array([x[0] * x[1], x[1]]))
    >>> value_and_jacobian(f)(np.array([2.0, 3.0]))
    (array([6., 3.]), array([[3., 2.],
           [0., 1.]]))
    """
    return _derivative(fun, _value_and_jacobian, mode, tape_bytes)


def hvp(fun: Any, mode: str | None = None) -> Derivative:
    r"""A function that returns the Hessian of another times a vector.

    .. math:: \nabla^2 f(x)\, v \approx \frac{\nabla f(x + h v) - \nabla f(x - h v)}{2 h}

    The gradients are exact, their difference is not: about 10 digits.

    Parameters
    ----------
    fun, mode
        As in `value_and_grad`; ``x`` is a vector, inside jitted functions of float64.

    Returns
    -------
    Derivative
        ``(x, v, *args) -> vector``.

    Examples
    --------
    >>> import numba, numpy as np, numbaopt as no
    >>> f = numba.njit(lambda x: x[0] ** 2 * x[1])
    >>> no.hvp(f)(np.array([1.0, 2.0]), np.array([1.0, 0.0])).round(6)
    array([4., 2.])
    """
    return _derivative(fun, _hvp, mode)


def hessian(fun: Any, mode: str | None = None) -> Derivative:
    r"""A function that returns the Hessian of another, by `hvp` in every direction, made symmetric.

    Parameters
    ----------
    fun, mode
        As in `hvp`.

    Returns
    -------
    Derivative
        ``(x, *args) -> (n, n) matrix``.

    Examples
    --------
    >>> import numba, numpy as np, numbaopt as no
    >>> f = numba.njit(lambda x: x[0] ** 2 * x[1])
    >>> no.hessian(f)(np.array([1.0, 2.0])).round(6)
    array([[4., 2.],
           [2., 0.]])
    """
    return _derivative(fun, _hessian, mode)
