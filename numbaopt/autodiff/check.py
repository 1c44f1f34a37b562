"""Checking a gradient against differences, component by component."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.core.dispatcher import Dispatcher

from .derivative import native, real_array
from .gradients import grad


class GradientCheck(NamedTuple):
    """What `check_grad` found; printed, it is a sentence about the worst component.

    Parameters
    ----------
    error : float
        The largest difference, relative to max(1, the largest derivative).
    worst : tuple of int
        Index of the component where it is.
    gradient, differences : ndarray
        What was compared, in the shape of x.
    """

    error: float
    worst: tuple[int, ...]
    gradient: np.ndarray
    differences: np.ndarray

    def __str__(self) -> str:
        where = f"[{', '.join(map(str, self.worst))}]" if self.worst else ""
        return (f"worst component x{where}: gradient {self.gradient[self.worst]:.10g}, by differences "
                f"{self.differences[self.worst]:.10g}; relative error {self.error:.2g}")  # fmt: skip


def check_grad(fun: Any, x: Any, args: tuple = (), jac: Any = None) -> GradientCheck:
    r"""Compare a gradient with central differences.

    .. math:: \frac{\partial f}{\partial x_i} \approx \frac{4 d(h/2) - d(h)}{3}, \qquad
        d(h) = \frac{f(x + h e_i) - f(x - h e_i)}{2 h}

    Two differences are extrapolated: of smooth functions some 10 to 12 digits are right.  At a kink they are not.

    Parameters
    ----------
    fun : function or problem
        ``fun(x, *args) -> float``; or what has ``value`` and ``value_and_grad``, such as `numbaopt.FiniteSum`.
    x : array or number
        Where; of any shape.
    args : tuple
        What ``fun`` and ``jac`` are given besides.
    jac : callable, optional
        ``jac(x, *args)``, the gradient to check; by default the exact one, `grad`.

    Returns
    -------
    GradientCheck
        ``error``, ``worst`` (the index of the worst component), ``gradient``, ``differences``.

    Raises
    ------
    ValueError
        If ``x`` is empty, or the gradient has another shape.

    Examples
    --------
    >>> import numba, numpy as np, numbaopt as no
    >>> f = numba.njit(lambda x: x[0] ** 3 + x[1])
    >>> no.check_grad(f, [1.0, 2.0]).error < 1e-9
    True
    >>> print(no.check_grad(f, [1.0, 2.0], jac=lambda x: np.array([3.0, 2.0])))
    worst component x[1]: gradient 2, by differences 1; relative error 0.33
    """
    if not isinstance(args, tuple):
        raise TypeError(f"args must be a tuple of what fun is given besides x, not {type(args).__name__}")
    if jac is not None and not callable(jac):
        raise TypeError(f"jac must be callable, not {type(jac).__name__}; what fun is given besides x goes into args")
    x = np.array(real_array("x", x), float)
    if x.size == 0:
        raise ValueError("x is empty")
    if hasattr(fun, "value_and_grad") and hasattr(fun, "value"):
        if args:
            raise ValueError(f"args: a {type(fun).__name__} has its own")
        problem = fun.bind(x.size) if hasattr(fun, "bind") else fun
        jac = jac if jac is not None else lambda x: problem.value_and_grad(x)[1]
        fun = problem.value
    given = tuple(native(arg, position) for position, arg in enumerate(args)) if isinstance(fun, Dispatcher) else args
    gradient = np.asarray((grad(fun) if jac is None else jac)(_given(x), *args), float)
    if gradient.shape != x.shape:
        raise ValueError(f"the gradient has shape {gradient.shape}, x has shape {x.shape}")
    differences = np.empty_like(x)
    for i in np.ndindex(x.shape):
        h = 1e-3 * max(1.0, abs(x[i]))
        differences[i] = (4 * _central(fun, x, i, h / 2, given) - _central(fun, x, i, h, given)) / 3
    off = np.asarray(np.abs(gradient - differences))
    off[np.isnan(off)] = np.inf
    worst = tuple(int(k) for k in np.unravel_index(np.argmax(off), x.shape))
    return GradientCheck(float(off[worst] / max(1.0, np.abs(differences).max())), worst, gradient, differences)


def _central(fun: Any, x: np.ndarray, i: tuple[int, ...], h: float, args: tuple) -> float:
    ahead, behind = x.copy(), x.copy()
    ahead[i] += h
    behind[i] -= h
    return float((fun(_given(ahead), *args) - fun(_given(behind), *args)) / (ahead[i] - behind[i]))


def _given(x: np.ndarray) -> Any:
    """A copy of an array; a number, where that is what it is."""
    return x.copy() if x.ndim else float(x)
