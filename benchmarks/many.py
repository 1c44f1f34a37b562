"""A hundred thousand small curve fits: minimize_many beside curve_fit in a loop and a vectorized optimistix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import scipy.optimize

import numbaopt as no

from .report import OURS, Case, Faster, Table, optional
from .timing import race

FITS, POINTS = 100_000, 50
LOOPED = 200  # of them, by `scipy.optimize.curve_fit`: its time a fit does not depend on how many there are
CURVE_FIT, OPTIMISTIX, LBFGS = "curve_fit", "optimistix", "numbaopt lbfgs"
START = np.ones(3)


@numba.njit
def residuals(p, t, y):
    """A falling exponential above a level."""
    out = np.empty(t.size)
    for i in range(t.size):
        out[i] = p[0] * np.exp(-p[1] * t[i]) + p[2] - y[i]
    return out


@numba.njit
def misfit(p, t, y):
    """Half the sum of squares of `residuals`."""
    total = 0.0
    for i in range(t.size):
        total += (p[0] * np.exp(-p[1] * t[i]) + p[2] - y[i]) ** 2
    return 0.5 * total


def data(fits: int) -> tuple[np.ndarray, np.ndarray]:
    """Abscissas, and noisy ordinates, a row a fit."""
    rng = np.random.default_rng(0)
    t = np.linspace(0, 4, POINTS)
    amplitude, rate, level = rng.uniform(1, 3, fits), rng.uniform(0.5, 2, fits), rng.uniform(-0.5, 0.5, fits)
    curves = amplitude[:, None] * np.exp(-rate[:, None] * t) + level[:, None]
    return t, curves + 0.02 * rng.standard_normal((fits, POINTS))


def run(quick: bool = False) -> Iterator[Table]:
    """The table."""
    fits = 2_000 if quick else FITS
    t, Y = data(fits)

    def ours(fun: Any, method: str) -> Callable[[], Any]:
        return lambda: no.minimize_many(fun, START, (t, Y), (False, True), method)

    notes: list[str] = []
    contestants = {OURS: ours(residuals, "lm"), LBFGS: ours(misfit, "lbfgs"), CURVE_FIT: looped(t, Y[:LOOPED])}
    if optional("optimistix", notes):
        contestants[OPTIMISTIX] = vectorized(t, Y)
    found = contestants[OURS]()
    notes.append(f"{OURS}: Levenberg-Marquardt with exact Jacobians; {found.message}")
    for name in contestants.keys() - {OURS}:
        notes.append(f"{name}: {told(contestants[name](), found.fun, t, Y)} by more than 1e-4 of it.")
    times = race(contestants, 2 if quick else 7, units={name: LOOPED if name == CURVE_FIT else fits
                                                        for name in contestants})  # fmt: skip
    case = Case(f"a fit, of {fits:,} with 3 parameters and {POINTS} points", times,
                (Faster(10, (CURVE_FIT,)), Faster(5, (OPTIMISTIX,))))  # fmt: skip
    yield Table("Many curve fits", [case], notes)


def told(result: Any, best: np.ndarray, t: np.ndarray, Y: np.ndarray) -> str:
    """How many fits end above the best sums of squares."""
    points = np.asarray(getattr(result, "x", result))
    sums = np.array([misfit(p, t, y) for p, y in zip(points, Y, strict=False)])
    worse = np.count_nonzero(~(sums <= best[: sums.size] * (1 + 1e-4) + 1e-12))
    return f"{worse:,} of {sums.size:,} fits end above {OURS}'s sum of squares"


def looped(t: np.ndarray, Y: np.ndarray) -> Callable[[], Any]:
    """SciPy's `curve_fit`, fit by fit."""

    def model(t: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
        return a * np.exp(-b * t) + c

    return lambda: [scipy.optimize.curve_fit(model, t, y, p0=START)[0] for y in Y]


def vectorized(t: np.ndarray, Y: np.ndarray) -> Callable[[], Any]:
    """Optimistix' Levenberg-Marquardt, vectorized over the fits and jitted, in float64."""
    import jax
    import jax.numpy as jnp
    import optimistix

    jax.config.update("jax_enable_x64", True)
    times, start = jnp.asarray(t), jnp.asarray(START)
    solver = optimistix.LevenbergMarquardt(rtol=1e-8, atol=1e-8)

    def model(p: Any, y: Any) -> Any:
        return p[0] * jnp.exp(-p[1] * times) + p[2] - y

    def solve(y: Any) -> Any:
        return optimistix.least_squares(model, solver, start, y, max_steps=300, throw=False).value

    every, rows = jax.jit(jax.vmap(solve)), jnp.asarray(Y)
    return lambda: np.asarray(every(rows).block_until_ready())
