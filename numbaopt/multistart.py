"""Local minima from many starts."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from .arguments import count, limits_of, nonnegative
from .many import minimize_many


def multistart(fun, bounds, n_starts=64, args=(), method=None, jac=None, tol=None, options=None, seed=0, xtol=1e-3,
               ftol=1e-6):  # fmt: skip
    r"""The distinct local minima of a function in a box, by polishing many starts.

    The starts are the first points of a scrambled Sobol sequence, which fill the box more evenly than random ones; all
    are polished by one `minimize_many`, within the box.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args) -> float``, jitted or such as Numba can compile.
    bounds : sequence of (low, high) or scipy.optimize.Bounds
        The box, finite.
    n_starts : int
        How many starts; powers of two fill the box best.
    args, method, jac, tol, options
        As in `numbaopt.minimize_many`; the method must take bounds.
    seed : int or numpy.random.Generator
        Of the scrambling.
    xtol, ftol : float
        Two converged runs have found the same minimum if no unknown differs by more than ``xtol`` times the width of
        its bounds, and the objectives differ by at most :math:`\mathrm{ftol} \max(1, |f|)`.  Runs are taken by rising
        objective, each compared with the best run of every minimum so far; a continuum of minima is told as several.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x`` (n,) and ``fun`` of the best point; ``minima`` (m, n), ``funs`` (m,) by rising objective and ``counts``
        (m,), how many runs ended there; ``success``, whether the best point is a run that converged; ``status`` and
        ``message``; ``nit`` and ``nfev`` of all runs; ``starts`` (n_starts, n); ``runs``, the result of
        `minimize_many`.

    Raises
    ------
    ValueError, TypeError
        If an argument is not usable.

    References
    ----------
    Rinnooy Kan, A. H. G., Timmer, G. T. (1987). Stochastic global optimization methods part I: clustering methods.
    doi:10.1007/BF02592070

    Examples
    --------
    >>> import numba, numbaopt as no
    >>> @numba.njit
    ... def two_wells(x):
    ...     return (x[0] ** 2 - 1) ** 2 + 0.1 * x[0]
    >>> res = no.multistart(two_wells, [(-2, 2)], n_starts=16)
    >>> res.x.round(2), res.minima.round(2).ravel(), int(res.counts.sum())
    (array([-1.01]), array([-1.01,  0.99]), 16)
    """
    from scipy.optimize import OptimizeResult

    n_starts, xtol, ftol = count("n_starts", n_starts, 1), nonnegative("xtol", xtol), nonnegative("ftol", ftol)
    if bounds is None or (not hasattr(bounds, "lb") and len(bounds) == 0):
        raise ValueError("bounds are needed: starts are drawn from them")
    n = np.size(bounds.lb) if hasattr(bounds, "lb") else len(bounds)
    low, high = limits_of(bounds, np.zeros(n))
    if not low.size or not np.all(np.isfinite(low) & np.isfinite(high)):
        bad = int(np.argmin(np.isfinite(low) & np.isfinite(high))) if low.size else 0
        raise ValueError(f"bounds must be finite: those of component {bad} are not")
    starts = low + (high - low) * _sobol(n, n_starts, seed)
    runs = minimize_many(fun, starts, args, False, method, jac, list(zip(low, high, strict=True)),
                         tol, options)  # fmt: skip
    usable = np.isfinite(runs.fun)
    order = np.argsort(np.where(usable, runs.fun, np.inf), kind="stable")
    kept: list[int] = []
    counts: list[int] = []
    for k in order[runs.success[order] & usable[order]]:
        apart = np.abs(runs.x[kept] - runs.x[k]) > xtol * (high - low)
        near = ~apart.any(1) & (runs.fun[k] - runs.fun[kept] <= ftol * np.maximum(1.0, np.abs(runs.fun[kept])))
        if near.any():
            counts[int(np.argmax(near))] += 1
        else:
            kept.append(int(k))
            counts.append(1)
    best = int(order[0])
    told = f"{len(kept)} distinct minima from {int(runs.success.sum()):,} of {n_starts:,} starts. {runs.message}"
    return OptimizeResult(
        x=runs.x[best].copy(), fun=float(runs.fun[best]), success=bool(runs.success[best]),
        status=int(runs.status[best]), message=told, minima=runs.x[kept], funs=runs.fun[kept],
        counts=np.array(counts, np.int64), nit=int(runs.nit.sum()), nfev=int(runs.nfev.sum()), starts=starts, runs=runs,
    )  # fmt: skip


def _sobol(n: int, size: int, seed: Any) -> np.ndarray:
    """The first points of a scrambled Sobol sequence in the unit cube."""
    from scipy.stats import qmc

    name = "rng" if "rng" in inspect.signature(qmc.Sobol).parameters else "seed"  # before SciPy 1.15
    points = qmc.Sobol(n, scramble=True, **{name: np.random.default_rng(seed)})
    return points.random_base2((size - 1).bit_length())[:size]
