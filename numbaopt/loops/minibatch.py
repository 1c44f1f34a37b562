"""Stochastic descent on a sum of terms: batch after batch, epoch after epoch; the whole objective once an epoch."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import from_dtype, types

from .._jit import array_at, invoke, invoke_value, jit, pointer, pointer_to, precompile
from ..status import NOT_FINITE, RUNNING
from .descent import floats
from .shuffle import fill_order
from .state import average, constrain, judge, open_run

LOOK_AHEAD = 4096  # terms whose order is computed at a time; the first rows of each lot are not fetched early


# ``batch(x, g, n, order, count, known, data) -> check``: the mean gradient over the terms order[:count] into g, which
# has n items like x; a number that is finite exactly if the terms are.  What order[count:known] holds comes next: terms
# to fetch early.  All arguments are addresses, but the three numbers.
BATCH = types.float64(*(types.intp,) * 7)


numbers = array_at(np.int64)


@jit
def train(run, zero, hyper, rates, k, coefficients, ahead, order, places, prepare, step, batch, evaluate, data, terms,
          size, shuffle, seed, whole, gtol, ftol):  # fmt: skip
    """Take at most ``k`` steps with the ``k`` rates, over batches of ``size`` of a sum's ``terms``.

    With ``whole`` the whole objective is judged at the start and after every epoch.  Arrays are addresses, as in
    `descend`; there are ``places`` for the ``order`` of terms.
    """
    run, rates, order = open_run(run, zero), floats(rates, k), numbers(order, places)
    now, x, g, work, best, previous = run.now[0], run.x, run.g, run.work, run.best, run.previous
    state, lower, upper, history, n = run.state, run.lower, run.upper, run.history, run.x.size
    shown = state[now.shown] if now.shown >= 0 else x
    per_epoch = (terms + size - 1) // size
    epoch = (now.step - now.origin) // per_epoch
    first = (now.step - now.origin - epoch * per_epoch) * size  # position of the next batch in the epoch
    row, begin, known, last = -1, 0, 0, terms  # positions [begin, known) of the epoch are in ``order``
    for j in range(-1 if now.awaiting and whole else 0, k):
        if now.status != RUNNING:
            return
        if j >= 0:
            row = row + 1 if row + 1 < ahead else 0
            if row == 0:
                count = k - j if k - j < ahead else ahead
                invoke(prepare, (hyper, pointer_to(rates, j), now.step + 1, coefficients, count))
            last = min(first + size, terms)
            if j == 0 or first == 0 or last > known:
                begin = first
                known = min(terms, first + places // size * size)
                fill_order(order, known - begin, terms, shuffle, seed, epoch, begin)
            here = pointer_to(order, first - begin)
            check = invoke_value(batch, (pointer(x), pointer(g), n, here, last - first, known - first, data))
            if not math.isfinite(check):
                now.status, now.fun = NOT_FINITE, check
                return
            if first == 0 and not whole and now.keeps_best:
                for i in range(n):
                    best[i] = shown[i]
                now.best_step = now.step
            invoke(step, (coefficients, row, pointer(x), pointer(g), pointer(state), n, 0, n))
            now.step += 1
            now.lr = rates[j]
            first = last
            if first == terms:
                first, epoch = 0, epoch + 1
            constrain(now, x, lower, upper)
            if now.shown >= 0:
                average(now, x, shown)
        if last == terms and whole:
            now.awaiting = 1  # an evaluation may end in an exception
            fun = invoke_value(evaluate, (pointer(shown), pointer(work), pointer(g), n, data))
            judge(now, shown, g, best, previous, lower, upper, history, fun, gtol, ftol, 0.0)


@functools.cache
def compiled(dtype: np.dtype) -> Any:
    """`train` compiled now, for unknowns of ``dtype``: once for all rules and problems."""
    i, flag = types.intp, types.boolean
    kinds = (i, from_dtype(dtype), *(i,) * 14, flag, i, flag, types.float64, types.float64)
    return precompile(train, kinds)
