"""One run from its start to its end inside compiled code: what the driver does for callers in Python."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .._jit import invoke, invoke_value, jit, pointer, pointer_to
from .._packed import store
from ..status import CONVERGED, MESSAGES, NOT_FINITE, RUNNING, STEP_LIMIT
from .descent import Settings
from .state import NOW, RECORD, Run, clipped, new_run

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


class Work(NamedTuple):
    """The arrays that a method needs besides those of the run: made by the caller, who keeps them."""

    settings: Any  # words; where ``ready`` is not 0, those of `descent.Settings`
    schedule: Any  # words of the rate of a rule
    room: Any  # float64, of which the last ``PIECE`` are rates


@jit
def solve(start, lower, upper, rows, extra, calm_steps, limits, loop, evaluate, data, per_unknown, ready, work):
    """Minimize from ``start``; ``limits`` are maxiter, gtol, ftol, xtol.

    ``loop``, ``evaluate`` and ``ready`` are addresses, the last one of ``ready(schedule, rates, first, count)``, which
    computes the rates of some steps, or 0.  A gradient takes ``per_unknown`` evaluations of the objective an unknown.
    """
    n, (maxiter, gtol, ftol, xtol) = start.size, limits
    run = Run(start, np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n if xtol > 0.0 else 0), np.zeros((rows, n)),
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
            now.status = STEP_LIMIT
            break
        if ready != 0:
            rates = pointer_to(work.room, work.room.size - PIECE)
            invoke(ready, (pointer(work.schedule), rates, now.step, steps))
            work.settings[FIRST] = now.step
        invoke(loop, (pointer(words), 0.0, steps, pointer(words), 0, pointer(work.settings), evaluate, pointer(data),
                      gtol, ftol, xtol))  # fmt: skip
    fun, evaluations = now.best_fun, now.evaluations
    if fun == math.inf:  # no finite point was ever seen
        fun = now.fun
    elif now.best_step != now.step or now.status == NOT_FINITE:
        fun = invoke_value(evaluate, (pointer(run.best), pointer(run.work), pointer(run.g), n, pointer(data)))
        evaluations += 1
    return Result(run.best, fun, run.g, now.step, evaluations * (1 + per_unknown * n), now.status,
                  now.status == CONVERGED)  # fmt: skip
