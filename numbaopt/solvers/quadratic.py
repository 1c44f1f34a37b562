"""Minima of the quadratic models that Newton's steps are made of: linear systems, and with l1."""

from __future__ import annotations

import numpy as np

from .._jit import jit

SWEEPS = 10  # of coordinates, between two solutions of a linear system


def solve_system(matrix: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The solution of a symmetric system, in any units of the unknowns; of least norm where it is singular."""
    import scipy.linalg  # late: takes long to import

    size = np.sqrt(np.diagonal(matrix).clip(1e-300))
    try:
        factor = scipy.linalg.cholesky(matrix / size / size[:, None], lower=True, check_finite=False)
        if np.diagonal(factor).min() > 1e-7:
            return scipy.linalg.cho_solve((factor, True), b / size, check_finite=False) / size
    except scipy.linalg.LinAlgError:
        pass
    return scipy.linalg.lstsq(matrix, b, check_finite=False, lapack_driver="gelsy")[0]


def lasso_step(matrix: np.ndarray, g: np.ndarray, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The d that minimizes g'd + d'Hd/2 + sum_j weights_j |x_j + d_j|."""
    y, slope = x.copy(), g.copy()  # slope: g + H (y - x)
    enough = 1e-12 * max(float(np.abs(g).max(initial=0.0)), 1e-300)
    diagonal = np.ascontiguousarray(np.diagonal(matrix))
    for _ in range(200):
        if sweep(matrix, diagonal, slope, y, weights, SWEEPS, enough) <= enough:
            break
        y = _with_signs(matrix, slope, y, weights)
        slope = g + matrix @ (y - x)
    return y - x


def _with_signs(matrix: np.ndarray, slope: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A better point than ``y``, or itself: with the signs of y the problem is a linear system.

    Where the solution has other signs, these unknowns stop at zero; if that is no better, all go as far as the first.
    """
    free = np.flatnonzero((y != 0) | (weights == 0))
    here, weights = y[free], weights[free]
    part = np.ascontiguousarray(matrix[np.ix_(free, free)])
    slope = slope[free] + np.sign(here) * weights
    move = solve_system(part, -slope)
    crossed = (here * (here + move) < 0) & (weights > 0)
    stopped, to = np.where(crossed, -here, move), y.copy()
    if crossed.any() and slope @ stopped + 0.5 * stopped @ (part @ stopped) >= 0:
        over = np.flatnonzero(crossed)
        first = over[np.argmin(np.abs(here[over] / move[over]))]
        stopped = move * abs(here[first] / move[first])
        stopped[first] = -here[first]
    to[free] = here + stopped
    return to


@jit
def sweep(matrix, diagonal, slope, y, weights, sweeps, enough):
    """At most ``sweeps`` sweeps of coordinate descent; returns the largest change of a slope in the last one."""
    largest = 0.0
    for _ in range(sweeps):
        largest = 0.0
        for j in range(y.size):
            a = diagonal[j]
            if a <= 0:
                continue
            to, threshold = y[j] - slope[j] / a, weights[j] / a
            to = to - threshold if to > threshold else (to + threshold if to < -threshold else 0.0)
            change = to - y[j]
            if change != 0:
                y[j] = to
                for k in range(y.size):
                    slope[k] += change * matrix[j, k]
                largest = max(largest, abs(change) * a)
        if largest <= enough:
            break
    return largest
