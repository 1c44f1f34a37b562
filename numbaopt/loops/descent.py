"""First-order descent on the whole objective: step, project, evaluate, judge."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import from_dtype, types

from .._jit import array_at, invoke, invoke_value, jit, pointer, pointer_to, precompile
from ..status import RUNNING
from .state import constrain, judge, open_run

# ``evaluate(x, work, g, n, data) -> fun``: the objective at x, its gradient into g, all three of n items; ``work`` is
# scratch like x.  All arguments are addresses, but n.
EVALUATE = types.float64(*(types.intp,) * 5)


floats = array_at(np.float64)


@jit
def evaluate_at(evaluate, x, work, g, data):
    """The evaluation at an address, for callers in Python."""
    return invoke_value(evaluate, (pointer(x), pointer(work), pointer(g), x.size, data))


@jit
def descend(run, zero, hyper, rates, k, coefficients, ahead, values, room, prepare, step, evaluate, data, gtol, ftol,
            xtol):  # fmt: skip
    """Take at most ``k`` steps with the ``k`` rates, their coefficients prepared ``ahead`` steps at a time.

    Where the last point still awaits its evaluation, that comes first; it is no step.  The first ``room`` values of the
    objective go into ``values``.  Arrays are addresses; ``zero`` tells the dtype of the unknowns.
    """
    run, rates, values = open_run(run, zero), floats(rates, k), floats(values, room)
    now, x, g, work, best, previous = run.now[0], run.x, run.g, run.work, run.best, run.previous
    state, lower, upper, history, n = run.state, run.lower, run.upper, run.history, run.x.size
    row, before = -1, now.evaluations
    for j in range(-1 if now.awaiting else 0, k):
        if now.status != RUNNING:
            return
        if j >= 0:
            row = row + 1 if row + 1 < ahead else 0
            if row == 0:
                count = k - j if k - j < ahead else ahead
                invoke(prepare, (hyper, pointer_to(rates, j), now.step + 1, coefficients, count))
            for i in range(previous.size):
                previous[i] = x[i]
            invoke(step, (coefficients, row, pointer(x), pointer(g), pointer(state), n, 0, n))
            now.step += 1
            now.lr, now.awaiting = rates[j], 1
        constrain(now, x, lower, upper)
        fun = invoke_value(evaluate, (pointer(x), pointer(work), pointer(g), n, data))
        judge(now, x, g, best, previous, lower, upper, history, fun, gtol, ftol, xtol)
        if now.evaluations - before <= room:
            values[now.evaluations - before - 1] = fun


@functools.cache
def compiled(dtype: np.dtype) -> Any:
    """`descend` compiled now, for unknowns of ``dtype``: once for all rules and objectives."""
    return precompile(descend, (types.intp, from_dtype(dtype), *(types.intp,) * 11, *(types.float64,) * 3))
