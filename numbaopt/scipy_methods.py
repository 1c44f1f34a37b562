"""Methods that only SciPy has: handed on with the compiled objective and gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

WITH_GRADIENT = ("cg", "bfgs", "newton-cg", "l-bfgs-b", "tnc", "slsqp", "dogleg", "trust-ncg", "trust-krylov",
                 "trust-exact", "trust-constr")  # fmt: skip
WITHOUT_GRADIENT = ("nelder-mead", "powell", "cobyla", "cobyqa")
SCIPY_METHODS = WITH_GRADIENT + WITHOUT_GRADIENT


def hand_on(problem: Any, x0: np.ndarray, method: Any, hess: Any, hessp: Any, bounds: Any, constraints: Any, tol: Any,
            callback: Any, options: dict[str, Any]) -> Any:  # fmt: skip
    """``scipy.optimize.minimize`` on a problem of ours."""
    from scipy.optimize import minimize

    if getattr(problem, "l1", 0.0) > 0:
        raise ValueError(f"SciPy's methods take no l1 (l1={problem.l1}), which is not smooth; use method='auto'")
    options = {key: value for key, value in options.items() if key not in ("jit", "history", "progress")}
    args = getattr(problem, "args", ())

    def value_and_grad(x: np.ndarray, *args: Any) -> tuple[float, np.ndarray]:
        fun, g = problem.value_and_grad(x)
        return float(fun), g.astype(float)

    def value(x: np.ndarray, *args: Any) -> float:
        return float(problem.value(x))

    free = isinstance(method, str) and method.lower() in WITHOUT_GRADIENT
    fun, jac = (value, None) if free else (value_and_grad, True)
    result = minimize(fun, x0, args, method, jac, hess, hessp, bounds, constraints, tol, callback, options)
    per_gradient = getattr(problem, "per_gradient", 0)
    if jac and per_gradient and "nfev" in result:
        result.nfev *= 1 + per_gradient
    return result
