"""The range test of learning rates, as a curve."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .arguments import count
from .begin import named
from .minimize import minimize
from .status import NOT_FINITE

RATES = np.geomspace(1e-8, 1e2, 41)


class RateCurve(NamedTuple):
    """What `lr_finder` returns.

    Attributes
    ----------
    rates : array of shape (k,)
    objectives : array of shape (k,)
        After some steps at each rate; NaN where the run diverged.
    start : float
        The objective before the first step.
    suggestion : float
        The rate of the least objective below ``start``; NaN if there is none.
    """

    rates: np.ndarray
    objectives: np.ndarray
    start: float
    suggestion: float


def lr_finder(fun, x0=None, method="adam", args=(), jac=None, rates=RATES, steps=30, options=None):
    """How low an objective gets in a few steps, for each of many learning rates.

    Unlike the range test of Smith, which raises the rate in the course of one run, every rate has a run of its own from
    ``x0``, so a curve tells of nothing but the rate.

    Parameters
    ----------
    fun, x0, args, jac
        As in `numbaopt.minimize`: a function, or a model or sum of terms (in minibatches of ``batch_size`` terms).
    method : str or optimizer
        A first-order rule, whose ``lr`` is replaced.
    rates : array of shape (k,)
        Positive; by default four a decade from 1e-8 to 100.
    steps : int
        Of each run.
    options : dict
        As in `numbaopt.minimize`, such as ``batch_size`` and ``seed``.

    Returns
    -------
    RateCurve
        NamedTuple ``(rates, objectives, start, suggestion)``, which `numbaopt.plotting.lr_curve` draws.

    Raises
    ------
    ValueError, TypeError
        If an argument is not usable.

    References
    ----------
    Smith, L. N. (2017). Cyclical learning rates for training neural networks. doi:10.1109/WACV.2017.58

    Examples
    --------
    >>> import numba, numpy as np, numbaopt as no
    >>> steep = numba.njit(lambda x: 50 * (x[0] - 1) ** 2)      # gradient descent diverges from 0.02 on
    >>> curve = no.lr_finder(steep, [4.0], "gd", rates=np.array([1e-4, 1e-3, 1e-2, 1e-1]))
    >>> curve.suggestion, bool(curve.objectives[3] > curve.start)
    (0.01, True)
    """
    name = method.lower() if isinstance(method, str) else method
    opt = named(name)
    if hasattr(opt, "solver"):
        raise ValueError(f"method={method!r} has no learning rate; give a first-order rule such as 'adam'")
    rates = np.array(rates, float)
    if rates.ndim != 1 or not rates.size or not np.all((rates > 0) & np.isfinite(rates)):
        raise ValueError("rates must be a vector of positive numbers")
    options = {"gtol": 0.0, **(options or {}), "maxiter": count("steps", steps, 1)}

    def after(rate: float, **more: Any) -> float:
        res = minimize(fun, x0, args, opt, jac, options={**options, "lr": rate, **more})
        if res.status == NOT_FINITE and (more or res.nit):
            return np.nan
        now = res.run.now[0]
        return float(res.fun if options.get("batch_size") is not None else now.fun)

    start = after(float(rates[0]), maxiter=0)
    objectives = np.array([after(float(rate)) for rate in rates])
    below = np.where(objectives < start, objectives, np.inf)
    suggestion = float(rates[np.argmin(below)]) if np.isfinite(below).any() else np.nan
    return RateCurve(rates, objectives, start, suggestion)


