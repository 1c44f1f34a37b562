"""Epochs over a sum of terms for methods that meet only a few unknowns a step: what `train` is for all others.

A method brings three compiled functions, and ``own``, the address of what they need:

``begin(run, own)``
    called before the first step of every epoch;
``sweep(run, rates, steps, order, count, known, own) -> taken``
    takes ``steps`` steps over the terms ``order[:count]``; fewer, if it meets numbers that are not finite.  What
    ``order[count:known]`` holds comes next: terms to fetch early;
``settle(run, to, keep, own)``
    puts the unknowns with all that is still owed to them into ``to``; unless ``keep``, that is then no longer owed.

Such methods put off what a step does to unknowns that its terms do not meet; what is owed stands in ``extra``, so a run
can be cut anywhere.  At the end of an epoch nothing is owed.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype, types

from .._jit import invoke, invoke_value, jit, pointer, pointer_to, precompile
from ..status import NOT_FINITE, RUNNING
from .descent import floats
from .minibatch import numbers
from .shuffle import fill_draws, fill_order
from .state import judge, open_run


class Functions(NamedTuple):
    """What a method brings: addresses, and what keeps them alive."""

    begin: Any
    sweep: Any
    settle: Any
    functions: tuple[Any, ...]


AHEAD = 8  # rows between asking for one and using it
SHUFFLED, DRAWN = 1, 2  # how an epoch visits the terms; 0: in their order
BEGIN = types.void(*(types.intp,) * 2)
SWEEP = types.float64(*(types.intp,) * 7)
SETTLE = types.void(*(types.intp,) * 4)


@jit
def _settle_into(to, settle, run, own):
    invoke(settle, (run, pointer(to), 1, own))


def settled(run: Any, settle: Any, where: Any, own: Any) -> np.ndarray:
    """The unknowns of a run, which lies at ``where``, with all that is owed to them."""
    to = np.empty_like(run.x)
    _settle_into(to, settle, where, own)
    return to


@jit
def pass_over(run, zero, rates, k, order, places, begin, sweep, settle, own, evaluate, data, terms, size, shuffle, seed,
              whole, gtol, ftol):  # fmt: skip
    """Take at most ``k`` steps with the ``k`` rates, over batches of ``size`` of a sum's ``terms``; as `train` does.

    ``shuffle``: `SHUFFLED`, `DRAWN` (with replacement) or 0.
    """
    here, run, rates, order = run, open_run(run, zero), floats(rates, k), numbers(order, places)
    now, x, g, work, best, previous = run.now[0], run.x, run.g, run.work, run.best, run.previous
    lower, upper, history, n = run.lower, run.upper, run.history, run.x.size
    per_epoch = (terms + size - 1) // size
    j, ended = 0, now.awaiting and whole
    while True:
        if ended:
            invoke(settle, (here, pointer(x), 0, own))
            if whole:
                now.awaiting = 1  # an evaluation may end in an exception
                fun = invoke_value(evaluate, (pointer(x), pointer(work), pointer(g), n, data))
                judge(now, x, g, best, previous, lower, upper, history, fun, gtol, ftol, 0.0)
        if j >= k or now.status != RUNNING:
            return
        done = now.step - now.origin
        epoch = done // per_epoch
        position = done - epoch * per_epoch
        if position == 0:
            invoke(settle, (here, pointer(x), 0, own))
            if not whole and now.keeps_best:
                for i in range(n):
                    best[i] = x[i]
                now.best_step = now.step
            invoke(begin, (here, own))
        first = position * size
        known = min(terms - first, places // size * size)
        steps = min(k - j, (known + size - 1) // size)
        if shuffle == DRAWN:
            fill_draws(order, known, terms, seed, epoch, first)
        else:
            fill_order(order, known, terms, shuffle == SHUFFLED, seed, epoch, first)
        count = min(steps * size, known)
        taken = int(invoke_value(sweep, (here, pointer_to(rates, j), steps, pointer(order), count, known, own)))
        if taken < steps:
            now.step += taken
            now.lr = rates[j + taken]
            now.status, now.fun = NOT_FINITE, np.nan
            return
        j += steps
        now.step += steps
        now.lr = rates[j - 1]
        ended = position + steps == per_epoch


@functools.cache
def compiled(dtype: np.dtype) -> Any:
    """`pass_over` compiled now, for unknowns of ``dtype``: once for all methods and problems."""
    i, flag = types.intp, types.boolean
    kinds = (i, from_dtype(dtype), *(i,) * 14, flag, types.float64, types.float64)
    return precompile(pass_over, kinds)
