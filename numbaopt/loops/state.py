"""Where a minimization stands: plain arrays, so that it can be cut into slices, saved and resumed bit for bit."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types

from .._jit import EXACT, bits, from_bits, jit, jit_inside, native, scalar
from .._packed import open_at
from ..status import AT_TARGET, CONVERGED, NOT_FINITE, OUT_OF_EVALUATIONS, RUNNING, STEP_LIMIT

inlined = functools.partial(jit_inside, forceinline=True)  # a call would pass some 50 words, and count references

CALM_STEPS = 10  # consecutive small changes that ftol and xtol ask for, where a method does not say otherwise

NOW = np.dtype([
    ("step", "i8"),  # steps taken
    ("status", "i8"),  # see status.py
    ("reason", "i8"),  # which tolerance was met
    ("calm", "i8"),  # consecutive steps with small changes
    ("calm_steps", "i8"),  # as many of these end the run
    ("awaiting", "i8"),  # whether the whole objective at x is still to be evaluated
    ("evaluations", "i8"),  # of the whole objective
    ("records", "i8"),  # rows of the history in use
    ("stride", "i8"),  # every how many observations one is recorded
    ("due", "i8"),  # observations until the next one that is recorded
    ("best_step", "i8"),
    ("keeps_best", "i8"),  # whether the loop keeps the best point, or the driver does, who judges otherwise
    ("origin", "i8"),  # steps taken before the first epoch of these data began
    ("shown", "i8"),  # the row of the state that is judged and returned in the place of x: an average; or -1
    ("outputs", "i8"),  # vectors of coefficients among the unknowns, one after the other
    ("penalised", "i8"),  # unknowns in all of them; intercepts follow
    ("average_from", "i8"),  # step after which the average is not just the iterate
    ("average_decay", "f8"),  # 1: the plain mean since then
    ("l1", "f8"),
    ("max_norm", "f8"),  # of each vector of coefficients; 0: any
    ("fun", "f8"),  # at x
    ("grad_norm", "f8"),  # largest component of the (projected) gradient at x
    ("best_fun", "f8"),
    ("lr", "f8"),  # of the last step
    ("f_target", "f8"),  # an objective that is low enough
    ("max_evaluations", "f8"),
])  # fmt: skip

# seconds: -1 until the driver, which has a clock, fills it in; score: of a validation, by the driver, else NaN;
# nfev: evaluations of the whole objective so far
RECORD = np.dtype([("step", "i8"), ("fun", "f8"), ("grad_norm", "f8"), ("lr", "f8"), ("seconds", "f8"),
                   ("score", "f8"), ("nfev", "i8")])  # fmt: skip


class Run(NamedTuple):
    """The state of one minimization; all arrays are C-contiguous."""

    x: np.ndarray  # (n,)
    g: np.ndarray  # (n,) gradient at x
    work: np.ndarray  # (n,) what the objective is given, so that it cannot harm x
    best: np.ndarray  # (n,) the best finite point seen
    previous: np.ndarray  # (n,) x one step ago, or empty where no xtol asks for it
    state: np.ndarray  # (slots, n) of the optimizer
    extra: np.ndarray  # float64 numbers of the solver
    lower: np.ndarray  # (n,) or empty
    upper: np.ndarray  # (n,) or empty
    now: np.ndarray  # (1,) of NOW
    history: np.ndarray  # (rows,) of RECORD

    def __repr__(self) -> str:
        return f"Run(step={self.now[0]['step']}, {self.x.size} unknowns, {len(self.state)} vectors of state)"


def _begin() -> np.ndarray:
    """The record ``now`` of a run that has not begun."""
    now = np.zeros(1, np.dtype((np.record, NOW)))
    for name, value in (("status", RUNNING), ("stride", 1), ("best_fun", math.inf), ("awaiting", 1), ("outputs", 1),
                        ("keeps_best", 1), ("shown", -1), ("calm_steps", CALM_STEPS),
                        ("f_target", -math.inf), ("max_evaluations", math.inf),
                        ("fun", math.nan)):  # fmt: skip  # not known yet
        now[name] = value
    return now


_BEGIN = _begin()


def new_run(x0: np.ndarray, slots: int, lower: np.ndarray, upper: np.ndarray, records: int, keep_previous: bool,
            extra: int = 0) -> Run:  # fmt: skip
    """A run that has not begun; ``x0`` is copied."""
    n, dtype = x0.size, x0.dtype
    now = _BEGIN.copy()
    now["penalised"] = n
    history = np.zeros(max(2, records + records % 2), np.dtype((np.record, RECORD)))
    history["score"] = np.nan
    return Run(x0.copy(), np.zeros(n, dtype), np.zeros(n, dtype), x0.copy(), np.zeros(n if keep_previous else 0, dtype),
               np.zeros((slots, n), dtype), np.zeros(extra), lower, upper, now, history)  # fmt: skip


def traits(problem: Any) -> tuple[float, int, int]:
    """What judging a point asks of its problem: l1, vectors of coefficients among the unknowns, unknowns in these."""
    return (getattr(problem, "l1", 0.0), getattr(problem, "n_outputs", 1), getattr(problem, "n_penalised", problem.n))


def know(run: Run, problem: Any) -> None:
    """Write into a run the `traits` of its problem."""
    now = run.now[0]
    now.l1, now.outputs, now.penalised = traits(problem)


def take_over(run: Run, former: Run) -> None:
    """Let a new run begin where another one stands: its unknowns, the state of its rule, its number of steps."""
    if not np.all(np.isfinite(former.x)):
        raise ValueError("run: it diverged, its x is not finite; begin again from the x of the result")
    for name in ("x", "state", "extra"):
        mine, theirs = getattr(run, name), getattr(former, name)
        if name == "extra" and mine.shape != theirs.shape and not theirs.any():  # nothing is owed there
            continue
        if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
            raise ValueError(f"run: its {name} is {theirs.dtype} of shape {theirs.shape}, this problem and optimizer "
                             f"need {mine.dtype} of shape {mine.shape}")  # fmt: skip
        mine[:] = theirs
    run.best[:] = former.x
    run.now[0].step = run.now[0].origin = former.now[0].step


def make_feasible(run: Run) -> None:
    """Let a run begin within its bounds and its largest norm."""
    now = run.now[0]
    if not run.lower.size and now.max_norm == 0:
        return
    width = int(now.penalised // now.outputs)
    for point in (run.x, run.best, *(run.state[k] for k in [now.shown] if k >= 0)):
        if run.lower.size:
            np.clip(point, run.lower, run.upper, out=point)
        for k in range(now.outputs if now.max_norm > 0 else 0):
            vector = point[k * width : (k + 1) * width]
            vector *= min(1.0, now.max_norm / max(float(np.linalg.norm(vector)), 1e-300))


@functools.cache
def run_type(dtype: Any) -> types.Type:
    """Numba's type of a `Run` whose unknowns have ``dtype``."""
    empty = np.zeros(0, dtype)
    return numba.typeof(new_run(empty, 0, empty, empty, 2, False))


@native(lambda where, like: where, by_value="opened")
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


def _soft(x, threshold):
    part = x if x < threshold else threshold  # two conditions apart: the smaller and the larger, without a branch
    return x - (part if part > -threshold else -threshold)


clipped = scalar(_clipped)
soft = scalar(_soft, EXACT)
larger = scalar(lambda a, b: a if a > b else b)  # not max(), which takes longer to compile than the rest of a function


@jit_inside
def projected_norm(now, x, g, lower, upper):
    """Largest component of a proximal gradient step of length 1: of the gradient, where there is no l1 and no bound."""
    top = 0.0
    for i in range(x.size):
        move = projected_move(now, x, g, lower, upper, i)
        if move > top or move != move:
            top = move
    return top


@inlined
def projected_move(now, x, g, lower, upper, i):
    """How far a proximal gradient step of length 1 moves coordinate i."""
    to = np.float64(x[i]) - np.float64(g[i])
    if i < now.penalised and now.l1 > 0:
        to = to - now.l1 if to > now.l1 else (to + now.l1 if to < -now.l1 else 0.0)
    if lower.size > 0:
        to = clipped(to, np.float64(lower[i]), np.float64(upper[i]))
    return abs(to - np.float64(x[i]))


@inlined
def constrain(now, x, lower, upper):
    """Clip x to its bounds, shorten vectors of coefficients that are too long, in place."""
    for i in range(lower.size):
        x[i] = clipped(x[i], lower[i], upper[i])
    if now.max_norm > 0:
        shorten(now, x)


@jit_inside
def average(now, x, mean):
    """Let x into the running mean: a_t = a_{t-1} + w_t (x_t - a_{t-1}).

    w_t = 1 until averaging begins, then max(1 - decay, 1 / steps since): the plain mean until it is as long as the
    exponential window.
    """
    weight = weight_at(now, now.step)
    for i in range(x.size):
        mean[i] += weight * (x[i] - mean[i])


@inlined
def weight_at(now, step):
    """w_t of the iterate after so many steps."""
    age = step - now.average_from
    return 1.0 if age <= 1 else larger(1.0 - now.average_decay, 1.0 / age)


@jit_inside
def shorten(now, x):
    """Scale each vector of coefficients whose Euclidean norm exceeds ``max_norm`` down to it."""
    width = now.penalised // now.outputs
    for k in range(now.outputs):
        squares = 0.0
        for i in range(k * width, (k + 1) * width):
            squares += np.float64(x[i]) * np.float64(x[i])
        norm = math.sqrt(squares)
        if norm > now.max_norm:
            for i in range(k * width, (k + 1) * width):
                x[i] = np.float64(x[i]) * (now.max_norm / norm)


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
    row.nfev = now.evaluations
    now.records += 1
    now.due = now.stride - 1


@inlined
def judge(now, x, g, best, previous, lower, upper, history, fun, gtol, ftol, xtol):
    """Take note of the objective ``fun`` and the gradient ``g`` at ``x``: best point, history, status."""
    # a bound may hide an infinite component, so the plain norm is what tells of divergence
    plain = largest(g, g.size)
    norm = plain if lower.size == 0 and now.l1 == 0 else projected_norm(now, x, g, lower, upper)
    moved, size = 0.0, 1.0
    if xtol > 0 and now.step > 0:
        for i in range(x.size):
            change, here = abs(np.float64(x[i] - previous[i])), abs(np.float64(x[i]))
            moved, size = larger(moved, change), larger(size, here)
    if conclude(now, history, fun, plain, norm, moved <= xtol * size, gtol, ftol, xtol):
        for i in range(x.size):
            best[i] = x[i]


@inlined
def conclude(now, history, fun, plain, norm, still, gtol, ftol, xtol):
    """What follows from an objective, the norms of its gradient and whether x stands still: whether x is the best."""
    before, now.fun, now.awaiting = now.fun, fun, 0
    now.evaluations += 1
    now.grad_norm = norm
    record(now, history)
    if not (math.isfinite(fun) and math.isfinite(plain)):
        now.status = NOT_FINITE
        return False
    # near a minimum the objective is only known up to rounding: there the smaller gradient decides
    converged = now.grad_norm <= gtol and fun <= now.best_fun + 1e-12 * larger(1.0, abs(now.best_fun))
    better = fun < now.best_fun or converged
    if better:
        now.best_fun = fun
        better = now.keeps_best != 0
        if better:
            now.best_step = now.step
    if converged:
        now.status, now.reason = CONVERGED, 1
        return better
    if fun <= now.f_target:
        now.status, now.reason = CONVERGED, AT_TARGET
        return better
    if now.evaluations >= now.max_evaluations:
        now.status, now.reason = STEP_LIMIT, OUT_OF_EVALUATIONS  # unless the changes are small
    if now.step == 0 or (ftol <= 0 and xtol <= 0):
        return better
    calm_fun = ftol > 0 and abs(fun - before) <= ftol * larger(1.0, larger(abs(fun), abs(before)))
    now.calm = now.calm + 1 if calm_fun or (xtol > 0 and still) else 0
    if now.calm >= now.calm_steps:
        now.status, now.reason = CONVERGED, 2 if calm_fun else 3
    return better


@jit
def observe(run, zero, fun, gtol, ftol, xtol):
    """`judge` for solvers in Python, at the x and g of the run."""
    run = open_run(run, zero)
    judge(run.now[0], run.x, run.g, run.best, run.previous, run.lower, run.upper, run.history, fun, gtol, ftol, xtol)
