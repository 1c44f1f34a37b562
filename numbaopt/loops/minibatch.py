"""Stochastic descent on a sum of terms: batch after batch, epoch after epoch; the whole objective once an epoch."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import types

from .._jit import array, invoke, invoke_value, jit, precompile, unpacker
from ..status import NOT_FINITE, RUNNING
from .descent import run_type
from .shuffle import fill_order
from .state import first_not_finite, judge, project

LOOK_AHEAD = 1024  # terms whose order is computed at a time


def batch_signature(dtype: Any) -> Any:
    """``batch(x, g, order, first, last, known, data) -> check``: the mean gradient over order[first:last] into g.

    The result is a number that is finite exactly if the terms are.  What order[last:known] holds comes next: rows to
    fetch early.
    """
    vector, whole = array(dtype), types.intp
    return types.float64(vector, vector, array(np.int64), whole, whole, whole, whole)


def train(run, order, coefficients, k, batch, evaluate, data, step, n, size, shuffle, seed, whole, gtol, ftol):
    """Take at most ``k`` steps over batches of ``size`` of the ``n`` terms.

    With ``whole`` the whole objective is judged at the start and after every epoch.
    """
    now, x, g, work, best, previous = run.now[0], run.x, run.g, run.work, run.best, run.previous
    state, lower, upper, history = run.state, run.lower, run.upper, run.history
    per_epoch = (n + size - 1) // size
    if now.evaluations == 0 and whole:
        project(x, lower, upper)
        fun = invoke_value(evaluate, (x, work, g, data))
        judge(now, x, g, best, previous, lower, upper, history, fun, gtol, ftol, 0.0)
    begin, known = 0, 0  # positions [begin, known) of the epoch are in ``order``
    for j in range(k):
        if now.status != RUNNING:
            return
        epoch = now.step // per_epoch
        first = (now.step - epoch * per_epoch) * size
        last = min(first + size, n)
        if j == 0 or first == 0 or last > known:
            begin = first
            known = min(n, first + order.size // size * size)
            fill_order(order, known - begin, n, shuffle, seed, epoch, begin)
        check = invoke_value(batch, (x, g, order, first - begin, last - begin, known - begin, data))
        if not math.isfinite(check):
            now.status, now.bad, now.fun = NOT_FINITE, first_not_finite(g), check
            return
        if first == 0 and not whole:
            for i in range(x.size):
                best[i] = x[i]
            now.best_step = now.step
        invoke(step, (coefficients, j, x, g, state, 0, x.size))
        project(x, lower, upper)
        now.step += 1
        now.lr = coefficients[j, 0]
        if last == n and whole:
            fun = invoke_value(evaluate, (x, work, g, data))
            judge(now, x, g, best, previous, lower, upper, history, fun, gtol, ftol, 0.0)


@functools.cache
def compiled(dtype: np.dtype) -> Any:
    """`train` compiled once for all rules and problems, the run given by its address."""
    unpack = unpacker(run_type(dtype))
    inner = jit(train, cache=False)

    def train_at(run, order, coefficients, k, batch, evaluate, data, step, n, size, shuffle, seed, whole, gtol, ftol):
        inner(unpack(run), order, coefficients, k, batch, evaluate, data, step, n, size, shuffle, seed, whole, gtol,
              ftol)  # fmt: skip

    i, real, flag = types.intp, types.float64, types.boolean
    kinds = (i, array(np.int64), array(dtype, 2), i, i, i, i, i, i, i, flag, i, flag, real, real)
    return precompile(jit(train_at), kinds)
