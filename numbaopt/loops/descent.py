"""First-order descent on the whole objective: step, project, evaluate, judge; where asked, averages of the iterates."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype, types

from .._jit import array_at, invoke, invoke_value, jit, pointer, pointer_to, precompile
from .._packed import unpacker
from ..status import RUNNING
from .state import average, constrain, judge, open_run

# ``evaluate(x, work, g, n, data) -> fun``: the objective at x, its gradient into g, all three of n items; ``work`` is
# scratch like x.  All arguments are addresses, but n.
EVALUATE = types.float64(*(types.intp,) * 5)


floats = array_at(np.float64)


@jit
def evaluate_at(evaluate, x, work, g, data):
    """The evaluation at an address, for callers in Python; ``g`` an address, too."""
    return invoke_value(evaluate, (pointer(x), pointer(work), g, x.size, data))


class Settings(NamedTuple):
    """The settings of `descend`: addresses, but ``first`` and ``ahead``."""

    hyper: Any  # all fields of the optimizer
    rates: Any  # of the steps after ``first``
    first: int
    coefficients: Any  # room for those of as many steps as are prepared ``ahead``
    ahead: int
    prepare: Any  # see `optimizers._program`
    step: Any


SETTINGS = types.NamedUniTuple(types.intp, len(Settings._fields), Settings)
open_settings = unpacker(SETTINGS)


@jit
def descend(run, zero, k, values, room, settings, evaluate, data, gtol, ftol, xtol):
    """Take at most ``k`` steps of a rule; the arguments are those of every loop over whole objectives (`signature`).

    Where the last point still awaits its evaluation, that comes first; it is no step.  Where an average of the iterates
    is judged in their place, the next row of the state is its gradient.
    """
    hyper, rates, first, coefficients, ahead, prepare, step = open_settings(settings)
    run, values = open_run(run, zero), floats(values, room)
    now, x, g, work, best, previous = run.now[0], run.x, run.g, run.work, run.best, run.previous
    state, lower, upper, history, n = run.state, run.lower, run.upper, run.history, run.x.size
    shown = state[now.shown] if now.shown >= 0 else x
    slope = state[now.shown + 1] if now.shown >= 0 else g
    row, before, rates = -1, now.evaluations, floats(rates, now.step - first + k)
    for j in range(-1 if now.awaiting else 0, k):
        if now.status != RUNNING:
            return
        if j >= 0:
            row = row + 1 if row + 1 < ahead else 0
            if row == 0:
                count = k - j if k - j < ahead else ahead
                invoke(prepare, (hyper, pointer_to(rates, now.step - first), now.step + 1, coefficients, count))
            for i in range(previous.size):
                previous[i] = shown[i]
            invoke(step, (coefficients, row, pointer(x), pointer(g), pointer(state), n, 0, n))
            now.step += 1
            now.lr = rates[now.step - 1 - first]
            constrain(now, x, lower, upper)
            if now.shown >= 0:
                average(now, x, shown)
            now.awaiting = 1
        fun = invoke_value(evaluate, (pointer(x), pointer(work), pointer(g), n, data))
        if now.shown >= 0:
            fun = invoke_value(evaluate, (pointer(shown), pointer(work), pointer(slope), n, data))
        judge(now, shown, slope, best, previous, lower, upper, history, fun, gtol, ftol, xtol)
        if now.evaluations - before <= room:
            values[now.evaluations - before - 1] = fun


def signature(dtype: np.dtype) -> tuple[Any, ...]:
    """Types of the arguments of every loop over whole objectives: ``(run, zero, k, values, room, settings, evaluate,
    data, gtol, ftol, xtol)``.

    Take at most ``k`` steps; the first ``room`` objectives go into ``values``; ``settings`` is where the method's own
    are.  Arrays are addresses; ``zero`` tells the dtype of the unknowns.
    """
    return (types.intp, from_dtype(dtype), *(types.intp,) * 6, *(types.float64,) * 3)


@functools.cache
def compiled(dtype: np.dtype, loop: Any = descend) -> Any:
    """A loop compiled now, for unknowns of ``dtype``: once for all objectives, `descend` also for all rules."""
    return precompile(loop, signature(dtype))
