"""``method="auto"``: which method a problem gets.

====================================================  ==============================================================
problem                                               method
====================================================  ==============================================================
linear model, one margin a row, loss with curvature   ``newton`` (with l1: working sets; many unknowns: conjugate
                                                      gradients)
the same with several margins (multinomial), l1 = 0   ``newton`` (conjugate gradients, a preconditioner of blocks);
                                                      of few rows and columns ``lbfgs``
the same, l1 > 0                                      ``nesterov``, whole objective, rate 1/L
linear model, loss with a kink (hinge, quantile, ...) ``ssnal``; of more than 2000 unknowns without l1 ``sdca``
the same, loss without ``implicit_slope``             ``adagrad``, 30,000 minibatches of 32, half averaged
any function or sum of functions                      ``lbfgs``
any of these with bounds                              ``lbfgs``; with l1 or a kink a first-order rule, as above
====================================================  ==============================================================

`benchmarks/suboptimality.py` is the measurement behind the first rows.  Of losses with kinks: hinge on a9a to a
relative gap of 1e-6, with intercept, takes ``ssnal`` 0.16 s, ``sdca`` 1.0 s (LIBLINEAR without intercept 0.12 to 0.19
s); quantiles of unscaled data take ``ssnal`` 0.03 s, and are out of reach of ``sdca``.
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


def choose(problem: Any, bounded: bool) -> tuple[Any, dict[str, Any]]:
    """A method for ``problem`` and the options it is given where the user gives none."""
    if not hasattr(problem, "rows"):
        return LBFGS(), {}
    bent = hasattr(problem.loss, "curvature")
    if not bent and hasattr(problem.loss, "implicit_slope") and not bounded:
        return (SDCA() if problem.n > Newton().max_dense and problem.l1 == 0 else SSNAL()), {}
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


def largest_square(problem: Any) -> float:
    """The largest squared Euclidean norm of a row."""
    X = problem.X
    if isinstance(X, np.ndarray):
        return max(float(np.einsum("ij,ij->i", part, part, dtype=float).max())
                   for part in np.array_split(X, -(-X.size // 10_000_000)))  # fmt: skip
    return float(X.multiply(X).sum(axis=1).max())
