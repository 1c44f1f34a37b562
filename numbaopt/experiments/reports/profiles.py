"""What a method pays for an answer of a given quality, and how often it is among the cheapest."""

from __future__ import annotations

import numpy as np


def first_hit(values: np.ndarray, start: float, best: float, tolerance: float) -> int | None:
    r"""Where a curve first passes Moré and Wild's test of convergence.

    A value f passes if :math:`f_0 - f \ge (1 - \tau) (f_0 - f_L)`: all but a part τ of the way down is behind it.

    Parameters
    ----------
    values : array
        Objectives along a run; those that are not finite never pass.
    start, best : float
        f₀, the objective where runs begin, and f_L, the best that any run found (or the optimum, if it is known).
    tolerance : float
        τ, between 0 and 1.

    Returns
    -------
    int or None
        Index of the first value that passes.

    References
    ----------
    J. J. Moré and S. M. Wild, "Benchmarking derivative-free optimization algorithms", SIAM Journal on Optimization
    20 (2009), 172-191, doi:10.1137/080724083.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaopt.experiments.reports.profiles import first_hit
    >>> first_hit(np.array([10.0, 5.0, 1.05, 1.0]), start=10.0, best=0.0, tolerance=0.12)
    2
    """
    passed = np.flatnonzero(np.asarray(values, float) <= best + tolerance * (start - best))
    return int(passed[0]) if passed.size else None


def performance_profile(costs: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    r"""Dolan and Moré's performance profiles.

    The profile of solver s is :math:`\rho_s(r) = |\{p : t_{p,s} \le r \min_{s'} t_{p,s'}\}| / |P|`.

    Parameters
    ----------
    costs : array of shape (problems, solvers)
        What each solver paid, more than nothing; inf where it did not solve the problem.
    weights : array of shape (problems,), optional
        How much each problem counts; all the same if not given.

    Returns
    -------
    ratios : array of shape (k,)
        1 and all other ratios at which a profile rises, in order.
    parts : array of shape (k, solvers)
        The profiles there; each is constant up to the next ratio.

    Raises
    ------
    ValueError
        If a cost is negative, or zero, or NaN.

    References
    ----------
    E. D. Dolan and J. J. Moré, "Benchmarking optimization software with performance profiles", Mathematical
    Programming 91 (2002), 201-213, doi:10.1007/s101070100263.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaopt.experiments.reports.profiles import performance_profile
    >>> ratios, parts = performance_profile(np.array([[1.0, 2.0], [3.0, np.inf]]))
    >>> ratios.tolist(), parts.tolist()
    ([1.0, 2.0], [[1.0, 0.0], [1.0, 0.5]])
    """
    costs = _costs(costs)
    least = costs.min(axis=1, keepdims=True)
    ratios = np.divide(costs, least, out=np.full_like(costs, np.inf), where=np.isfinite(costs))
    return _rises(ratios, 1.0, weights)


def data_profile(
    costs: np.ndarray, units: np.ndarray | float = 1.0, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    r"""Moré and Wild's data profiles: which part of the problems is solved within a budget.

    The profile of solver s is :math:`d_s(\alpha) = |\{p : t_{p,s} \le \alpha u_p\}| / |P|`.

    Parameters
    ----------
    costs : array of shape (problems, solvers)
        What each solver paid; inf where it did not solve the problem.
    units : float or array of shape (problems,)
        What a unit of the budget is worth on each problem: n + 1 values of the function for methods without
        derivatives, which is what a gradient by differences costs; 1 where costs count gradients already.
    weights : array of shape (problems,), optional
        How much each problem counts; all the same if not given.

    Returns
    -------
    budgets : array of shape (k,)
        0 and all budgets at which a profile rises, in order.
    parts : array of shape (k, solvers)
        The profiles there; each is constant up to the next budget.

    Raises
    ------
    ValueError
        If a cost is negative, or zero, or NaN.

    References
    ----------
    J. J. Moré and S. M. Wild, "Benchmarking derivative-free optimization algorithms", SIAM Journal on Optimization
    20 (2009), 172-191, doi:10.1137/080724083.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaopt.experiments.reports.profiles import data_profile
    >>> budgets, parts = data_profile(np.array([[6.0, 12.0], [6.0, np.inf]]), units=np.array([3.0, 2.0]))
    >>> budgets.tolist(), parts.tolist()
    ([0.0, 2.0, 3.0, 4.0], [[0.0, 0.0], [0.5, 0.0], [1.0, 0.0], [1.0, 0.5]])
    """
    costs = _costs(costs)
    return _rises(costs / np.broadcast_to(units, costs.shape[:1])[:, None], 0.0, weights)


def _costs(costs: np.ndarray) -> np.ndarray:
    costs = np.asarray(costs, float)
    if costs.ndim != 2 or not costs.size or not (costs > 0).all():
        raise ValueError(f"costs of shape {costs.shape} must be a table of positive numbers, a row a problem")
    return costs


def _rises(values: np.ndarray, first: float, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Which part of each column is at most ``first``, and at most each of the finite values."""
    at = np.unique(np.append(values[np.isfinite(values)], first))
    return at, np.average(values[None] <= at[:, None, None], axis=1, weights=weights)
