"""First-order descent on the whole objective: step, project, evaluate, judge."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from .._jit import array, invoke, invoke_value, jit, pointer, precompile
from ..status import RUNNING
from .state import judge, open_run, prepare_rows, project

# ``evaluate(x, work, g, n, data) -> fun``: the objective at x, its gradient into g, all three of n items; ``work`` is
# scratch like x.  All arguments are addresses, but n.
EVALUATE = types.float64(*(types.intp,) * 5)


@jit
def evaluate_at(evaluate, x, work, g, data):
    """The evaluation at an address, for callers in Python."""
    return invoke_value(evaluate, (pointer(x), pointer(work), pointer(g), x.size, data))


@jit
def descend(run, hyper, rates, coefficients, values, prepare, step, evaluate, data, gtol, ftol, xtol):
    """Take at most as many steps as there are ``rates``.

    ``values[j]`` becomes the objective after the j-th of them, for as many as there is room.  The objective at the
    start is evaluated first if it never was; that is no step.
    """
    run = open_run(run, coefficients)
    now, x, g, work, best, previous = run.now[0], run.x, run.g, run.work, run.best, run.previous
    state, lower, upper, history, n = run.state, run.lower, run.upper, run.history, run.x.size
    row, ahead = -1, coefficients.shape[0]
    for j in range(-1 if now.evaluations == 0 else 0, rates.size):
        if now.status != RUNNING:
            return
        if j >= 0:
            row = row + 1 if row + 1 < ahead else 0
            if row == 0:
                prepare_rows(prepare, hyper, rates, j, now.step, coefficients)
            for i in range(previous.size):
                previous[i] = x[i]
            invoke(step, (pointer(coefficients), row, pointer(x), pointer(g), pointer(state), n, 0, n))
            now.step += 1
            now.lr = rates[j]
        project(x, lower, upper)
        fun = invoke_value(evaluate, (pointer(x), pointer(work), pointer(g), n, data))
        judge(now, x, g, best, previous, lower, upper, history, fun, gtol, ftol, xtol)
        if 0 <= j < values.size:
            values[j] = fun


@functools.cache
def compiled(dtype: np.dtype) -> Any:
    """`descend` compiled now, for unknowns of ``dtype``: once for all rules and objectives."""
    i, real, vector = types.intp, types.float64, array(np.float64)
    kinds = (i, array(np.float64, 2), vector, array(dtype, 2), vector, i, i, i, i, real, real, real)
    return precompile(descend, kinds)
