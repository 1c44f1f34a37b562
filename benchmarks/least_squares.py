"""Curve fits and the 35 problems of Moré, Garbow and Hillstrom: least_squares beside SciPy's, and curve_fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, NamedTuple

import numba
import numpy as np
import scipy.optimize

import numbaopt as no

from .report import OURS, Case, Table, figure, optional
from .timing import race

LM, TRF, CURVE_FIT = "SciPy lm", "SciPy trf", "curve_fit"
NEAR = 1e-6  # how close the sum of squares is to a minimum, relative; absolute, 1e-10, where that is 0
PROBLEMS = "numbaopt.experiments.more_garbow_hillstrom"


@numba.njit
def decay(x, t, y):
    """A falling exponential above a level."""
    return x[0] * np.exp(-x[1] * t) + x[2] - y


@numba.njit
def peaks(x, t, y):
    """Two bells on a level and a slope."""
    first, second = (t - x[1]) / x[2], (t - x[4]) / x[5]
    return x[0] * np.exp(-first * first) + x[3] * np.exp(-second * second) + x[6] + x[7] * t - y


class Fit(NamedTuple):
    """A model, its true parameters, where to start."""

    name: str
    residuals: Any
    truth: tuple[float, ...]
    start: tuple[float, ...]


FITS = (Fit("exponential", decay, (2.5, 1.3, 0.5), (1.0, 1.0, 0.0)),
        Fit("two bells", peaks, (2.0, 1.0, 0.4, 1.0, 2.5, 0.5, 0.3, 0.1), (1.5, 0.8, 0.5, 1.5, 2.7, 0.6, 0.0, 0.0)))


def run(quick: bool = False) -> Iterator[Table]:
    """The tables."""
    cases, notes = [], []
    for fit in FITS:
        for points in (50,) if quick else (50, 1000, 100_000):
            contestants, told = contest(fit, points)
            cases.append(Case(f"{fit.name}, {len(fit.truth)} parameters, {points:,} points",
                              race(contestants, 2 if quick else 9)))  # fmt: skip
            notes.append(f"{cases[-1].name}: {told}.")
    notes.append(f"{LM} and {TRF} are given the jitted residuals and their exact jitted Jacobian; {CURVE_FIT} a NumPy "
                 "model, as people write it.")  # fmt: skip
    yield Table("A curve fit", cases, notes)
    notes = []
    if library := optional(PROBLEMS, notes):
        yield Table("Moré, Garbow and Hillstrom: solved", [], list(solved(library.PROBLEMS[: 3 if quick else None])))


def contest(fit: Fit, points: int) -> tuple[dict[str, Callable[[], Any]], str]:
    """The contestants on one data set, and what they found."""
    rng, t = np.random.default_rng(0), np.linspace(0.0, 4.0, points)
    y = fit.residuals(np.array(fit.truth), t, np.zeros(points)) + 0.02 * rng.standard_normal(points)
    start, jac = np.array(fit.start), no.jacobian(fit.residuals)

    def model(t: np.ndarray, *x: float) -> np.ndarray:
        return fit.residuals.py_func(x, t, 0.0)

    def scipys(method: str) -> Callable[[], Any]:
        return lambda: scipy.optimize.least_squares(fit.residuals, start, jac, args=(t, y), method=method)

    contestants: dict[str, Callable[[], Any]] = {
        OURS: lambda: no.least_squares(fit.residuals, start, args=(t, y)), LM: scipys("lm"), TRF: scipys("trf"),
        CURVE_FIT: lambda: scipy.optimize.curve_fit(model, t, y, start)}  # fmt: skip
    results = [contestants[name]() for name in (OURS, LM, TRF)]
    found = contestants[CURVE_FIT]()[0]
    apart = max(float(np.abs(x - found).max()) for x in (result.x for result in results))
    told = ", ".join(f"{name} {result.nfev}" for name, result in zip((OURS, LM, TRF), results, strict=True))
    return contestants, f"evaluations {told}; parameters apart by {apart:.0e}"


def solved(problems: Any) -> Iterator[str]:
    """How many each solves from the standard start, and with how many evaluations."""
    counts: dict[str, list[int]] = {}
    missed: dict[str, list[str]] = {}
    for problem in problems:
        start, jac = np.array(problem.x0), no.jacobian(problem.residuals)
        results = {OURS: no.least_squares(problem.residuals, start, max_nfev=2000)}
        for name, method in ((LM, "lm"), (TRF, "trf")):
            results[name] = scipy.optimize.least_squares(problem.residuals, start, jac, method=method, x_scale="jac",
                                                         max_nfev=2000)  # fmt: skip
        for name, result in results.items():
            near = any(abs(2 * result.cost - least) <= (NEAR * least or 1e-10) for least in problem.minima)
            counts.setdefault(name, []).append(result.nfev)
            if not (near and result.success):
                missed.setdefault(name, []).append(f"{problem.name} (status {result.status})")
    for name, spent in counts.items():
        more = [a / b for a, b in zip(counts[OURS], spent, strict=True)]
        text = f"{name}: {len(spent) - len(missed.get(name, []))} of {len(spent)} at a minimum and said so"
        text += f"; not {', '.join(missed[name])}" if name in missed else ""
        yield text + (f"; {OURS} takes {figure(median(more))}x its evaluations in the median." if name != OURS else ".")
