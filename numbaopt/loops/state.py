"""Where a minimization stands: plain arrays, so that it can be cut into slices, saved and resumed bit for bit."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types

from .._jit import bits, from_bits, jit_inside, native, scalar
from .._packed import open_at
from ..status import CONVERGED, NOT_FINITE, RUNNING

inlined = functools.partial(jit_inside, forceinline=True)  # a call would pass some 50 words, and count references

CALM_STEPS = 10  # consecutive small changes that ftol and xtol ask for

NOW = np.dtype([
    ("step", "i8"),  # steps taken
    ("status", "i8"),  # see status.py
    ("reason", "i8"),  # which tolerance was met
    ("calm", "i8"),  # consecutive steps with small changes
    ("awaiting", "i8"),  # whether the whole objective at x is still to be evaluated
    ("evaluations", "i8"),  # of the whole objective
    ("records", "i8"),  # rows of the history in use
    ("stride", "i8"),  # every how many observations one is recorded
    ("due", "i8"),  # observations until the next one that is recorded
    ("best_step", "i8"),
    ("fun", "f8"),  # at x
    ("grad_norm", "f8"),  # largest component of the (projected) gradient at x
    ("best_fun", "f8"),
    ("lr", "f8"),  # of the last step
])  # fmt: skip

# seconds: -1 until the driver, which has a clock, fills it in
RECORD = np.dtype([("step", "i8"), ("fun", "f8"), ("grad_norm", "f8"), ("lr", "f8"), ("seconds", "f8")])


class Run(NamedTuple):
    """The state of one minimization; all arrays are C-contiguous."""

    x: np.ndarray  # (n,)
    g: np.ndarray  # (n,) gradient at x
    work: np.ndarray  # (n,) what the objective is given, so that it cannot harm x
    best: np.ndarray  # (n,) the best finite point seen
    previous: np.ndarray  # (n,) x one step ago, or empty where no xtol asks for it
    state: np.ndarray  # (slots, n) of the optimizer
    lower: np.ndarray  # (n,) or empty
    upper: np.ndarray  # (n,) or empty
    now: np.recarray  # (1,) of NOW
    history: np.recarray  # (rows,) of RECORD


def new_run(x0: np.ndarray, slots: int, lower: np.ndarray, upper: np.ndarray, records: int, keep_previous: bool) -> Run:
    """A run that has not begun; ``x0`` is copied."""
    n, dtype = x0.size, x0.dtype
    now = np.zeros(1, NOW).view(np.recarray)
    now[0].status, now[0].stride, now[0].best_fun, now[0].awaiting = RUNNING, 1, math.inf, 1
    history = np.zeros(max(2, records + records % 2), RECORD).view(np.recarray)
    return Run(x0.copy(), np.zeros(n, dtype), np.zeros(n, dtype), x0.copy(), np.zeros(n if keep_previous else 0, dtype),
               np.zeros((slots, n), dtype), lower, upper, now, history)  # fmt: skip


@functools.cache
def run_type(dtype: Any) -> types.Type:
    """Numba's type of a `Run` whose unknowns have ``dtype``."""
    empty = np.zeros(0, dtype)
    return numba.typeof(new_run(empty, 0, empty, empty, 2, False))


@native(lambda where, like: where)
def open_run(typing_context, where, like):
    """The `Run` at an address, its unknowns of the type of the number ``like``; its arrays are borrowed."""
    kind = run_type(numba.np.numpy_support.as_dtype(like))
    return kind(types.intp, like), (
        lambda context, builder, signature, values: open_at(context, builder, kind, values[0]))


@inlined
def largest(g, count):
    """Largest absolute value of the first ``count`` components; NaN where one is NaN.

    Absolute floats order like their bit patterns, NaN above infinity: a maximum over integers, which vectorises.
    """
    top = 0
    for i in range(count):
        this = bits(g[i]) & 0x7FFFFFFFFFFFFFFF
        top = this if this > top else top
    return from_bits(top)


def _clipped(value, low, high):
    return low if value < low else (high if value > high else value)


clipped = scalar(_clipped)
larger = scalar(lambda a, b: a if a > b else b)  # not max(), which takes longer to compile than the rest of a function


@jit_inside
def projected_norm(x, g, lower, upper):
    """Largest component of the gradient, not counting what pushes against an active bound."""
    if lower.size == 0:
        return largest(g, g.size)
    top = 0.0
    for i in range(x.size):
        move = abs(np.float64(clipped(x[i] - g[i], lower[i], upper[i]) - x[i]))
        if move > top or move != move:
            top = move
    return top


@inlined
def project(x, lower, upper):
    """Clip x to its bounds, in place."""
    for i in range(lower.size):
        x[i] = clipped(x[i], lower[i], upper[i])


@inlined
def record(now, history):
    """Add a row to the history; when it is full, every other row goes and only every other observation is kept."""
    if now.due > 0:
        now.due -= 1
        return
    if now.records == history.size:
        for k in range(history.size // 2):
            history[k] = history[2 * k]
        now.records = history.size // 2
        now.stride *= 2
    row = history[now.records]
    row.step, row.fun, row.grad_norm, row.lr, row.seconds = now.step, now.fun, now.grad_norm, now.lr, -1.0
    now.records += 1
    now.due = now.stride - 1


@inlined
def judge(now, x, g, best, previous, lower, upper, history, fun, gtol, ftol, xtol):
    """Take note of the objective ``fun`` and the gradient ``g`` at ``x``: best point, history, status."""
    before, now.fun, now.awaiting = now.fun, fun, 0
    now.evaluations += 1
    # a bound may hide an infinite component, so the plain norm is what tells of divergence
    plain = largest(g, g.size)
    now.grad_norm = plain if lower.size == 0 else projected_norm(x, g, lower, upper)
    record(now, history)
    if not (math.isfinite(fun) and math.isfinite(plain)):
        now.status = NOT_FINITE
        return
    # near a minimum the objective is only known up to rounding: there the smaller gradient decides
    converged = now.grad_norm <= gtol and fun <= now.best_fun + 1e-12 * larger(1.0, abs(now.best_fun))
    if fun < now.best_fun or converged:
        now.best_fun, now.best_step = fun, now.step
        for i in range(x.size):
            best[i] = x[i]
    if converged:
        now.status, now.reason = CONVERGED, 1
        return
    if now.step == 0 or (ftol <= 0 and xtol <= 0):
        return
    calm_fun = ftol > 0 and abs(fun - before) <= ftol * larger(1.0, larger(abs(fun), abs(before)))
    calm_x = False
    if xtol > 0:
        moved, size = 0.0, 1.0
        for i in range(x.size):
            change, here = abs(np.float64(x[i] - previous[i])), abs(np.float64(x[i]))
            moved, size = larger(moved, change), larger(size, here)
        calm_x = moved <= xtol * size
    now.calm = now.calm + 1 if calm_fun or calm_x else 0
    if now.calm >= CALM_STEPS:
        now.status, now.reason = CONVERGED, 2 if calm_fun else 3
