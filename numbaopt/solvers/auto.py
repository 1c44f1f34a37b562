"""``method="auto"``: which method a problem gets.

====================================================  ==============================================================
problem                                               method
====================================================  ==============================================================
linear model, one margin a row, loss with curvature   ``newton`` (with l1: working sets; many unknowns: conjugate
                                                      gradients)
the same with several margins (multinomial), l1 = 0   ``newton`` (conjugate gradients, a preconditioner of blocks);
                                                      of few rows and columns ``lbfgs``
the same, l1 > 0                                      ``nesterov``, whole objective, rate 1/L
linear model, loss with a kink (hinge, quantile, ...) ``ssnal``; without l1 ``sdca``, of more than 2000 unknowns or
                                                      where the penalty is strong against the rows
the same, loss without ``implicit_slope``             ``adagrad``, 30,000 minibatches of 32, half averaged
any function or sum of functions                      ``lbfgs``
any of these with bounds                              ``lbfgs``; with l1 or a kink a first-order rule, as above
====================================================  ==============================================================

`benchmarks/suboptimality.py` is the measurement behind the first rows.  Of losses with kinks: hinge on a9a without
intercept to a suboptimality of 1e-6 takes ``sdca`` 0.11 s, ``ssnal`` 0.24 s, LIBLINEAR 0.14 s; with a tenth of the
penalty ``sdca`` 1.4 s, ``ssnal`` 0.48 s.  Both are even where a slope moves its own margin by 10 to 30 on average.
Quantiles of unscaled data take ``ssnal`` 0.03 s, and are out of reach of ``sdca``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import optimizers
from ..losses._loss import lipschitz
from . import dual, lbfgs, multipliers, newton

AdaGrad: Any = optimizers.AdaGrad  # the decorators of rules and methods hide their fields from type checkers
Nesterov: Any = optimizers.Nesterov
LBFGS: Any = lbfgs.LBFGS
Newton: Any = newton.Newton
SDCA: Any = dual.SDCA
SSNAL: Any = multipliers.SSNAL

MANY_NUMBERS = 1 << 20  # margins times entries of a row, from which a pass is dear enough to make few of them
KINKED_STEPS = 30_000  # of batches of 32
SHORT = 16.0  # how far a margin moves, on average, by a unit of its own slope, for coordinates to be fast


def choose(problem: Any, bounded: bool) -> tuple[Any, dict[str, Any]]:
    """A method for ``problem`` and the options it is given where the user gives none."""
    if not hasattr(problem, "rows"):
        return LBFGS(), {}
    bent = hasattr(problem.loss, "curvature")
    if not bent and hasattr(problem.loss, "implicit_slope") and not bounded:
        many = problem.n > Newton().max_dense
        return (SDCA() if problem.l1 == 0 and (many or _own_moves(problem) <= SHORT) else SSNAL()), {}
    if not bent and not problem.many:
        epochs = int(np.clip(32 * KINKED_STEPS // problem.n_terms, 20, 2000))
        return (AdaGrad(lr=1.0 / np.sqrt(largest_square(problem) + problem.fit_intercept)),
                {"batch_size": 32, "epochs": epochs, "average": "polyak", "average_from": epochs // 2})  # fmt: skip
    if problem.l1 > 0 and (bounded or problem.many or not bent):
        weight = float(problem.sample_weight.max(initial=0.0)) or 1.0
        bound = weight * lipschitz(problem.loss) * (largest_square(problem) + problem.fit_intercept)
        bound += max(problem.l2, problem.intercept_l2)
        return Nesterov(lr=1.0 / bound if np.isfinite(bound) else 1e-2), {"maxiter": 100_000}
    small = problem.many and problem.rows[0].size * problem.n_outputs < MANY_NUMBERS
    return (Newton() if bent and not small and not bounded else LBFGS()), {}


def _own_moves(problem: Any) -> float:
    """By how much a unit of a term's dual slope moves its own margin, on average."""
    penalties = (problem.l2, problem.intercept_l2) if problem.fit_intercept else (problem.l2,)
    if min(penalties) == 0:
        return np.inf
    numbers = problem.X if isinstance(problem.X, np.ndarray) else problem.X.data
    axes = list(range(numbers.ndim))
    square = float(np.einsum(numbers, axes, numbers, axes, [], dtype=float)) / problem.n_terms
    return (square / problem.l2 + (1.0 / problem.intercept_l2 if problem.fit_intercept else 0.0)) / problem.n_terms


def largest_square(problem: Any) -> float:
    """The largest squared Euclidean norm of a row."""
    X = problem.X
    if isinstance(X, np.ndarray):
        return max(float(np.einsum("ij,ij->i", part, part, dtype=float).max())
                   for part in np.array_split(X, -(-X.size // 10_000_000)))  # fmt: skip
    return float(X.multiply(X).sum(axis=1).max())
