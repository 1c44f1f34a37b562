r"""Numerical gradients of compiled functions: finite differences and the complex step.

Every scheme is a function ``gradient(fun, x, work, g, f0, args, lower, upper, first=0, every=1)`` that writes into
``g``, from component ``first`` on ``every`` so many, and is compiled into the objective's evaluation;
``fun(work, *args)`` may overwrite ``work``.  Steps are SciPy's: relative
:math:`\epsilon^{1/2}` (2-point) and :math:`\epsilon^{1/3}` (3-point) of :math:`\max(1, |x_i|)`, turned inwards at
bounds.
"""

from __future__ import annotations

import numpy as np

EPS = np.finfo(np.float64).eps


def two_point(fun, x, work, g, f0, args, lower, upper, first=0, every=1):
    """Forward differences: n more evaluations, about 8 digits at best."""
    for i in range(first, x.size, every):
        h = np.sqrt(EPS) * max(1.0, abs(x[i]))
        if x[i] < 0 and not (lower.size > 0 and x[i] - h < lower[i]):
            h = -h
        if upper.size > 0 and x[i] + h > upper[i]:
            h = -h
        for j in range(x.size):
            work[j] = x[j]
        work[i] = x[i] + h
        moved = work[i] - x[i]
        g[i] = (fun(work, *args) - f0) / moved


def three_point(fun, x, work, g, f0, args, lower, upper, first=0, every=1):
    """Central differences, one-sided of the same order at a bound: 2n more evaluations, about 11 digits at best."""
    for i in range(first, x.size, every):
        h = EPS ** (1.0 / 3.0) * max(1.0, abs(x[i]))
        side = 0.0
        if lower.size > 0 and x[i] - h < lower[i]:
            side = 1.0
        elif upper.size > 0 and x[i] + h > upper[i]:
            side = -1.0
        near, far = (h, -h) if side == 0.0 else (side * h, 2.0 * side * h)
        for j in range(x.size):
            work[j] = x[j]
        work[i] = x[i] + near
        near = work[i] - x[i]
        f_near = fun(work, *args)
        for j in range(x.size):
            work[j] = x[j]
        work[i] = x[i] + far
        far = work[i] - x[i]
        f_far = fun(work, *args)
        if side == 0.0:
            g[i] = (f_near - f_far) / (near - far)
        else:
            g[i] = (4.0 * f_near - 3.0 * f0 - f_far) / (2.0 * near)


def complex_step(fun, x, work, g, f0, args, lower, upper, first=0, every=1):
    """The imaginary part at x + ih: exact to rounding for functions that take complex vectors; n more evaluations."""
    z = np.empty(x.size, np.complex128)
    for i in range(first, x.size, every):
        for j in range(x.size):
            z[j] = x[j]
        z[i] = complex(x[i], 1e-30)
        g[i] = fun(z, *args).imag / 1e-30


SCHEMES = {"2-point": two_point, "3-point": three_point, "cs": complex_step}


def evaluations(jac: str, n: int) -> int:
    """How many more evaluations of the objective a gradient by the scheme takes."""
    return 2 * n if jac == "3-point" else n
