"""Methods that only SciPy has: handed on with the compiled objective and gradient."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .problems.function import Function

WITH_GRADIENT = ("cg", "bfgs", "newton-cg", "l-bfgs-b", "tnc", "slsqp", "dogleg", "trust-ncg", "trust-krylov",
                 "trust-exact", "trust-constr")  # fmt: skip
WITHOUT_GRADIENT = ("nelder-mead", "powell", "cobyla", "cobyqa")
SCIPY_METHODS = WITH_GRADIENT + WITHOUT_GRADIENT
WITH_PRODUCTS = ("newton-cg", "trust-ncg", "trust-krylov")  # of the Hessian and a vector
WITH_HESSIAN = ("dogleg", "trust-exact")


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

    if hess is None and hessp is None:
        hess, hessp = _second_derivatives(problem, method)
    free = isinstance(method, str) and method.lower() in WITHOUT_GRADIENT
    fun, jac = (value, None) if free else (value_and_grad, True)
    result = minimize(fun, x0, args, method, jac, hess, hessp, bounds, constraints, tol, callback, options)
    per_gradient = getattr(problem, "per_gradient", 0)
    if jac and per_gradient and "nfev" in result:
        result.nfev *= 1 + per_gradient
    return result


def _second_derivatives(problem: Any, method: Any) -> tuple[Any, Any]:
    """``hess`` and ``hessp`` for methods that use one of them, where the objective has an exact gradient."""
    name = method.lower() if isinstance(method, str) else ""
    if type(problem) is not Function or problem.jac not in ("forward", "reverse"):
        return None, None
    if name in WITH_HESSIAN:
        return _derivative("hessian", problem.fun, problem.jac), None
    return None, _derivative("hvp", problem.fun, problem.jac) if name in WITH_PRODUCTS else None


@functools.lru_cache(maxsize=64)
def _derivative(name: str, fun: Any, mode: str) -> Any:
    """`numbaopt.hessian` or `numbaopt.hvp` of a function, compiled once for all runs."""
    from .exact import autodiff

    return getattr(autodiff, name)(fun, mode)
