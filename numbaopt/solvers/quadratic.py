"""Minima of the quadratic models that Newton's steps are made of: linear systems, and with l1."""

from __future__ import annotations

import numpy as np

from .._jit import jit


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
    y = x.copy()
    slope = g.copy()  # g + H (y - x)
    scale = max(float(np.abs(g).max(initial=0.0)), 1e-300)
    diagonal = np.ascontiguousarray(np.diagonal(matrix))
    for _ in range(200):
        left = sweep(matrix, diagonal, slope, y, weights, 20, 1e-12 * scale)
        if left <= 1e-12 * scale:
            break
        free = np.flatnonzero((y != 0) | (weights == 0))  # with the signs known, the rest is a linear system
        sign = np.sign(y[free]) * weights[free]
        exact = x[free] + solve_system(np.ascontiguousarray(matrix[np.ix_(free, free)]),
                                 -(g[free] + sign) + matrix[np.ix_(free, np.flatnonzero((y == 0) & (weights != 0)))]
                                 @ x[(y == 0) & (weights != 0)])  # fmt: skip
        if np.all((np.sign(exact) == np.sign(y[free])) | (weights[free] == 0)):
            y[free] = exact
            slope = g + matrix @ (y - x)
    return y - x


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
