"""First-order descent on the whole objective: step, project, evaluate, judge."""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
from numba import types

from .._jit import array, invoke, invoke_value, jit, precompile, unpacker
from ..status import RUNNING
from .state import Run, judge, new_run, project


def evaluate_signature(dtype: Any) -> Any:
    """``evaluate(x, work, g, data) -> fun``: the objective at x, its gradient into g; ``work`` is scratch like x."""
    vector = array(dtype)
    return types.float64(vector, vector, vector, types.intp)


@jit
def evaluate_at(evaluate, x, work, g, data):
    """The evaluation at an address, for callers in Python."""
    return invoke_value(evaluate, (x, work, g, data))


def descend(run, coefficients, values, k, evaluate, data, step, gtol, ftol, xtol):
    """Take at most ``k`` steps; ``values[j]`` becomes the objective after the j-th of them.

    The objective at the start is evaluated first if it never was; that is no step.
    """
    now, x, g, work, best, previous = run.now[0], run.x, run.g, run.work, run.best, run.previous
    state, lower, upper, history = run.state, run.lower, run.upper, run.history
    if now.evaluations == 0:
        project(x, lower, upper)
        fun = invoke_value(evaluate, (x, work, g, data))
        judge(now, x, g, best, previous, lower, upper, history, fun, gtol, ftol, xtol)
    for j in range(k):
        if now.status != RUNNING:
            return
        for i in range(previous.size):
            previous[i] = x[i]
        invoke(step, (coefficients, j, x, g, state, 0, x.size))
        project(x, lower, upper)
        now.step += 1
        now.lr = coefficients[j, 0]
        fun = invoke_value(evaluate, (x, work, g, data))
        judge(now, x, g, best, previous, lower, upper, history, fun, gtol, ftol, xtol)
        values[j] = fun


def run_type(dtype: Any) -> types.Type:
    """Numba's type of a `Run` whose unknowns have ``dtype``."""
    empty = np.zeros(0, dtype)
    return numba.typeof(new_run(empty, 0, empty, empty, 2, False))


@functools.cache
def compiled(dtype: np.dtype) -> Any:
    """`descend` compiled once for all rules and objectives, the run given by its address."""
    unpack = unpacker(run_type(dtype))
    inner = jit(descend, cache=False)

    def descend_at(run, coefficients, values, k, evaluate, data, step, gtol, ftol, xtol):
        inner(unpack(run), coefficients, values, k, evaluate, data, step, gtol, ftol, xtol)

    whole, real = types.intp, types.float64
    kinds = (whole, array(dtype, 2), array(np.float64), whole, whole, whole, whole, real, real, real)
    return precompile(jit(descend_at), kinds)


__all__ = ["Run", "compiled", "descend", "evaluate_at", "evaluate_signature", "run_type"]
