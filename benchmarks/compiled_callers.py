"""``minimize`` inside compiled code: a Bellman operator with an inner maximisation, a bootstrap of a likelihood fit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import scipy.optimize
from numba import prange

import numbaopt as no

from .report import OURS, Case, Faster, Table
from .timing import race

ALPHA, BETA = 0.36, 0.95  # of production k**alpha, and the discount factor
SCIPY, MANY = "SciPy in a loop", "minimize_many"


# --------------------------------------------------------------------------------------------------- Bellman operator
@numba.njit
def cubic(at, first, width, values):
    """Value and derivative of a cubic Hermite interpolant (Catmull and Rom) on an even grid; linear outside."""
    place = (at - first) / width
    k = min(max(int(place), 1), values.size - 3)
    left, right = 0.5 * (values[k + 1] - values[k - 1]), 0.5 * (values[k + 2] - values[k])
    rise, t = values[k + 1] - values[k], place - k
    if t < 0.0:
        return values[k] + t * left, left / width
    if t > 1.0:
        return values[k + 1] + (t - 1.0) * right, right / width
    a, b = left + right - 2.0 * rise, 3.0 * rise - 2.0 * left - right
    return values[k] + t * (left + t * (b + t * a)), (left + t * (2.0 * b + 3.0 * t * a)) / width


@numba.njit
def loss(x, output, first, width, values):
    """Minus the value of saving the share 1 / (1 + exp(-x)) of the output, and its derivative.

    Utility is the logarithm of what is consumed; ``values`` are those of capital, on an even grid of its logarithm.
    """
    share = 1.0 / (1.0 + math.exp(-x[0]))
    value, slope = cubic(math.log(share * output), first, width, values)
    total = math.log(output) + math.log1p(-share) + BETA * value
    return -total, (share - BETA * slope * (1.0 - share),)


@numba.njit(parallel=True)
def bellman(values, first, width, shares):
    """The Bellman operator on the whole grid; each maximisation begins where the last one ended."""
    new = np.empty_like(values)
    for i in prange(values.size):
        output = math.exp(ALPHA * (first + i * width))
        best = no.minimize(loss, (shares[i],), (output, first, width, values), no.BFGS(), True, tol=1e-8)
        new[i], shares[i] = -best.fun, best.x[0]
    return new


def bellman_scipy(values: np.ndarray, first: float, width: float, shares: np.ndarray) -> np.ndarray:
    """The same by calls of SciPy."""
    new = np.empty_like(values)

    def pair(x: np.ndarray, *args: Any) -> tuple[float, np.ndarray]:
        fun, g = loss(x, *args)
        return fun, np.array(g)

    for i in range(values.size):
        output = math.exp(ALPHA * (first + i * width))
        best = scipy.optimize.minimize(pair, [shares[i]], (output, first, width, values), "BFGS", True, tol=1e-8)
        new[i], shares[i] = -best.fun, best.x[0]
    return new


def solve(operator: Any, points: int, sweeps: int) -> tuple[np.ndarray, np.ndarray]:
    """Value-function iteration: the values and the shares that are saved, whose limit is alpha * beta."""
    first, last = math.log(0.02), math.log(0.5)
    width = (last - first) / (points - 1)
    values, shares = first + width * np.arange(points), np.zeros(points)
    for _ in range(sweeps):
        values = operator(values, first, width, shares)
    return values, 1.0 / (1.0 + np.exp(-shares))


# ---------------------------------------------------------------------------------------------------------- bootstrap
@numba.njit
def weibull(x, y):
    """Mean negative log-likelihood of a Weibull distribution with shape exp(x[0]) and scale exp(x[1])."""
    shape, total = math.exp(x[0]), 0.0
    for i in range(y.size):
        z = shape * (math.log(y[i]) - x[1])
        total += math.exp(z) - z
    return total / y.size - x[0]


@numba.njit(parallel=True)
def bootstrap(Y):
    """A maximum-likelihood fit to every row."""
    found = np.empty((len(Y), 2))
    for i in prange(len(Y)):
        found[i] = no.minimize(weibull, (0.0, 0.0), (Y[i],), no.BFGS(), "forward").x
    return found


def bootstrap_many(Y: np.ndarray) -> np.ndarray:
    """The same as one call."""
    found: np.ndarray = no.minimize_many(weibull, [0.0, 0.0], (Y,), True, "bfgs").x
    return found


def bootstrap_scipy(Y: np.ndarray) -> np.ndarray:
    """The same by calls of SciPy with the exact gradient."""
    pair = no.value_and_grad(weibull, "forward").compiled("forward")
    return np.array([scipy.optimize.minimize(pair, [0.0, 0.0], (y,), "BFGS", True).x for y in Y])


def resamples(count: int, size: int = 100) -> np.ndarray:
    """Rows of a sample of a Weibull distribution, drawn with replacement."""
    rng = np.random.default_rng(0)
    sample = 2.0 * rng.weibull(1.5, size)
    return sample[rng.integers(0, size, (count, size))]


def run(quick: bool = False) -> Iterator[Table]:
    """The tables."""
    rounds, points, sweeps, refits = (2, 40, 2, 100) if quick else (7, 1000, 5, 10_000)
    few = max(1, refits // 20)
    shares = solve(bellman, points, 10 * sweeps)[1]
    off = abs(shares / (ALPHA * BETA) - 1).max()
    cases = [Case(f"a sweep over {points} points", race({
        OURS: lambda: solve(bellman, points, sweeps), SCIPY: lambda: solve(bellman_scipy, points, sweeps)},
        rounds, units=sweeps), (Faster(20.0, (SCIPY,)),))]  # fmt: skip
    yield Table("Bellman operator of a growth model, a maximisation a point", cases,
                [f"After {10 * sweeps} sweeps the shares saved are within {off:.1e} of alpha * beta. {SCIPY}: BFGS on "
                 "the same jitted value and gradient."])  # fmt: skip
    Y = resamples(refits)
    worst = abs(bootstrap(Y[:few]) - bootstrap_scipy(Y[:few])).max()
    same = bool((bootstrap(Y) == bootstrap_many(Y)).all())
    times = race({OURS: lambda: bootstrap(Y), MANY: lambda: bootstrap_many(Y), SCIPY: lambda: bootstrap_scipy(Y[:few])},
                 rounds, units={OURS: refits, MANY: refits, SCIPY: few})  # fmt: skip
    yield Table("Bootstrap of a Weibull fit to 100 numbers, a refit", [
        Case(f"{refits:,} refits", times, (Faster(20.0, (SCIPY,)),))],
        [f"{MANY} gives {'the same bits' if same else 'OTHER NUMBERS'}; SciPy's parameters differ by up to {worst:.1e} "
         "(gtol is 1e-5 for both)."])  # fmt: skip
