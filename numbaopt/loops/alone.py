"""One run from its start to its end inside compiled code: what the driver does for callers in Python."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .._jit import invoke, invoke_value, jit, jit_inside, pointer, pointer_to
from .._packed import store
from ..status import CONVERGED, MESSAGES, NO_PROGRESS, NOT_FINITE, RUNNING, STEP_LIMIT
from .descent import Settings
from .least_squares import HEAD, JACOBIANS, sizes
from .state import NOW, RECORD, Run, clipped, inlined, new_run

PIECE = 1024  # steps whose rates are computed at a time
FIRST = Settings._fields.index("first")
_empty = np.zeros(0)
FRESH = np.asarray(new_run(np.zeros(1), 0, _empty, _empty, 2, False).now).view(np.int64)
NOW_WORDS, RUN_WORDS = FRESH.size, 7 * 3 + 5 + 3 * 3


class Result(NamedTuple):
    """What `numbaopt.minimize` returns inside compiled code; the fields mean what they mean in SciPy's result."""

    x: np.ndarray
    fun: float
    jac: np.ndarray
    nit: int
    nfev: int
    status: int
    success: bool

    @property
    def message(self) -> str:
        """The status in words; in Python only."""
        return MESSAGES[int(self.status)]


class Fit(NamedTuple):
    """What `numbaopt.least_squares` returns inside compiled code; the fields mean what they mean in its result."""

    x: np.ndarray
    cost: float
    fun: np.ndarray
    jac: np.ndarray
    grad: np.ndarray
    optimality: float
    nfev: int
    njev: int
    nit: int
    status: int
    success: bool


class Work(NamedTuple):
    """The arrays that a method needs besides those of the run: made by the caller, who keeps them."""

    settings: Any  # words; where ``ready`` is not 0, those of `descent.Settings`
    schedule: Any  # words of the rate of a rule
    room: Any  # float64, of which the last ``PIECE`` are rates


@jit_inside
def finite(state):
    """Whether all numbers of a matrix are."""
    for row in range(state.shape[0]):
        for i in range(state.shape[1]):
            if not math.isfinite(state[row, i]):
                return False
    return True


@inlined
def go(start, lower, upper, rows, extra, calm_steps, limits, loop, evaluate, data, ready, work):
    """The run from ``start`` when it has ended; ``limits`` are maxiter, gtol, ftol, xtol.

    ``loop``, ``evaluate`` and ``ready`` are addresses, the last one of ``ready(schedule, rates, first, count)``, which
    computes the rates of some steps, or 0.
    """
    n, (maxiter, gtol, ftol, xtol), zero = start.size, limits, start.dtype.type(0)
    run = Run(start, np.zeros_like(start), np.zeros_like(start), np.zeros_like(start),
              np.zeros(n if xtol > 0.0 else 0, start.dtype), np.zeros((rows, n), start.dtype),
              np.zeros(extra), lower, upper, np.zeros(1, NOW), np.zeros(2, RECORD))  # fmt: skip
    words, now_words = np.empty(RUN_WORDS, np.int64), run.now.view(np.int64)
    store(run, words)
    for k in range(NOW_WORDS):
        now_words[k] = FRESH[k]
    for i in range(lower.size):
        start[i] = clipped(start[i], lower[i], upper[i])
    for i in range(n):
        run.best[i] = start[i]
    now = run.now[0]
    now.calm_steps, now.penalised = calm_steps, n
    while now.status == RUNNING:
        steps = maxiter - now.step
        if ready != 0 and steps > PIECE:
            steps = PIECE
        if steps <= 0 and now.awaiting == 0:
            now.status = STEP_LIMIT if work.schedule.size == 0 or finite(run.state) else NOT_FINITE
            break
        if ready != 0:
            rates = pointer_to(work.room, work.room.size - PIECE)
            invoke(ready, (pointer(work.schedule), rates, now.step, steps))
            work.settings[FIRST] = now.step
        invoke(loop, (pointer(words), zero, steps, pointer(words), 0, pointer(work.settings), evaluate, pointer(data),
                      gtol, ftol, xtol))  # fmt: skip
    return run


@jit
def solve(start, lower, upper, rows, extra, calm_steps, limits, loop, evaluate, data, per_unknown, ready, work):
    """Minimize; see `go`.  A gradient takes ``per_unknown`` evaluations of the objective an unknown."""
    run = go(start, lower, upper, rows, extra, calm_steps, limits, loop, evaluate, data, ready, work)
    now, n = run.now[0], start.size
    fun, evaluations = now.best_fun, now.evaluations
    if fun == math.inf:  # no finite point was ever seen
        fun = now.fun
    elif now.best_step != now.step or now.status == NOT_FINITE:
        fun = invoke_value(evaluate, (pointer(run.best), pointer(run.work), pointer(run.g), n, pointer(data)))
        evaluations += 1
    return Result(run.best, fun, run.g, now.step, evaluations * (1 + per_unknown * n), now.status,
                  now.status == CONVERGED)  # fmt: skip


size_of = jit_inside(sizes)


@jit
def fit(start, lower, upper, m, settings, limits, loop, evaluate, data):
    """Fit by `loops.least_squares`, whose settings these are; see `go`."""
    rows, extra = size_of(start.size, m)
    empty = np.empty(0, np.int64)
    run = go(start, lower, upper, rows, extra, 0, limits, loop, evaluate, data, 0,
             Work(settings.view(np.int64), empty, np.empty(0)))  # fmt: skip
    now, n = run.now[0], start.size
    r, jac, first = np.empty(m), np.empty((m, n)), HEAD + 3 * m
    for i in range(m):
        r[i] = run.extra[HEAD + i]
        for j in range(n):
            jac[i, j] = run.extra[first + j * m + i]
    status = 0 if now.status == STEP_LIMIT else (-3 if now.status == NO_PROGRESS else -4)
    if now.status == CONVERGED:
        status = 1 if now.reason == 1 else now.reason - 9  # in SciPy's numbers
    return Fit(run.best, now.fun, r, jac, run.g, now.grad_norm, now.evaluations, int(run.extra[JACOBIANS]), now.step,
               status, status > 0)  # fmt: skip
