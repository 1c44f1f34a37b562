"""L-BFGS on the whole objective: a direction from the last steps and gradients, a search along it."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import from_dtype, types

from .._jit import array_at, invoke_value, jit, jit_inside, pointer, precompile
from ..status import CONVERGED, NO_PROGRESS, NOT_FINITE, RUNNING
from .state import judge, larger, open_run

DECREASE, CURVATURE = 1e-4, 0.9  # Wolfe's conditions on the objective and on the slope along the direction
STALL, PATIENCE = 0.9, 20  # steps in vain: no lower objective, no gradient below this part of the least
EVALUATIONS = 30  # at most, along one direction
GROWTH = 10.0  # of the length, while the slope still falls
EDGE = 0.1  # of a bracket, that a new length keeps away from its ends
MORE_ROWS = 3  # of the state, after steps and changes of the gradient: direction, trial x, its gradient
MORE_NUMBERS = 4  # before 2 a pair: how many pairs there are, where the next one goes; steps in vain, least gradient


@jit_inside
def inner(a, b):
    total = 0.0
    for i in range(a.size):
        total += np.float64(a[i]) * np.float64(b[i])
    return total


@jit_inside
def find_direction(g, state, extra, memory):
    """-H g into row 2 ``memory`` of the state, H the inverse Hessian that the pairs stand for (two-loop recursion)."""
    d, pairs, head = state[2 * memory], int(extra[0]), int(extra[1])
    for i in range(g.size):
        d[i] = -g[i]
    for age in range(pairs):
        k = (head - 1 - age) % memory
        s, y = state[k], state[memory + k]
        alpha = inner(s, d) * extra[MORE_NUMBERS + k]
        extra[MORE_NUMBERS + memory + k] = alpha
        for i in range(g.size):
            d[i] -= alpha * y[i]
    if pairs > 0:
        k = (head - 1) % memory
        scale = 1.0 / (extra[MORE_NUMBERS + k] * inner(state[memory + k], state[memory + k]))
        for i in range(g.size):
            d[i] *= scale
    for age in range(pairs):
        k = (head - pairs + age) % memory
        s, y = state[k], state[memory + k]
        change = extra[MORE_NUMBERS + memory + k] - inner(y, d) * extra[MORE_NUMBERS + k]
        for i in range(g.size):
            d[i] += change * s[i]


@jit_inside
def between(low, f_low, s_low, high, f_high, s_high):
    """The minimizer of the cubic with these values and slopes, kept away from the ends."""
    width = high - low
    d1 = s_low + s_high - 3.0 * (f_high - f_low) / width
    square = d1 * d1 - s_low * s_high
    to = 0.5
    if math.isfinite(square) and square >= 0.0:
        d2 = math.sqrt(square)
        below = s_high - s_low + 2.0 * d2
        if below != 0.0:
            to = 1.0 - (s_high + d2 - d1) / below
    if not to > EDGE:
        to = EDGE
    if to > 1.0 - EDGE:
        to = 1.0 - EDGE
    return low + to * width


@jit
def lbfgs(run, zero, k, values, room, memory, rounding, evaluate, data, gtol, ftol,
          xtol):  # fmt: skip
    """Take at most ``k`` steps; the first ``room`` objectives go into ``values``.  Arrays are addresses.

    ``rounding`` is relative: where the objective changes by less, only the slope tells.
    """
    run, values = open_run(run, zero), floats(values, room)
    now, x, g, work, state, extra = run.now[0], run.x, run.g, run.work, run.state, run.extra
    best, previous, lower, upper, history, n = run.best, run.previous, run.lower, run.upper, run.history, run.x.size
    d, there, slopes = state[2 * memory], state[2 * memory + 1], state[2 * memory + 2]
    noted = 0
    if now.awaiting:
        fun = invoke_value(evaluate, (pointer(x), pointer(work), pointer(g), n, data))
        judge(now, x, g, best, previous, lower, upper, history, fun, gtol, ftol, xtol)
        extra[2], extra[3] = 0.0, now.grad_norm
        if room > 0:
            values[0], noted = fun, 1
    for _ in range(k):
        if now.status != RUNNING:
            return
        find_direction(g, state, extra, memory)
        slope = inner(g, d)
        if not slope < 0.0:
            extra[0] = 0.0
            find_direction(g, state, extra, memory)
            slope = inner(g, d)
        if not math.isfinite(slope):
            now.status = NOT_FINITE
            return
        fun = now.fun
        length = 1.0 if extra[0] > 0 else 1.0 / larger(1.0, math.sqrt(-slope))
        low, f_low, s_low, high, f_high, s_high = 0.0, fun, slope, math.inf, 0.0, 0.0
        value, found, tries, noise = fun, False, 0, rounding * larger(1.0, abs(fun))
        while tries < EVALUATIONS and not found:
            tries += 1
            for i in range(n):  # x and g stay as they are until the search has ended
                there[i] = x[i] + length * d[i]
            value = invoke_value(evaluate, (pointer(there), pointer(work), pointer(slopes), n, data))
            steep = inner(slopes, d)
            finite = math.isfinite(value) and math.isfinite(steep)
            flat = value <= fun + noise and (2.0 * DECREASE - 1.0) * slope >= steep
            if not finite or not (value <= fun + DECREASE * length * slope or flat):
                high, f_high, s_high = length, value, steep
            elif steep < CURVATURE * slope:
                low, f_low, s_low = length, value, steep
            else:
                found = True
            if found or tries == EVALUATIONS:
                break
            if tries == EVALUATIONS - 1 and low > 0.0:
                length = low  # the best that is known to be lower
            elif high == math.inf:
                length *= GROWTH
            elif finite:
                length = between(low, f_low, s_low, high, f_high, s_high)
            else:
                length = low + 0.1 * (high - low)
        now.step += 1
        now.evaluations += tries - 1  # the last one is judged
        if not found and not value < fun:
            now.evaluations += 1
            if extra[0] > 0:
                extra[0] = 0.0  # once more, along the gradient
                continue
            now.status, now.reason = (CONVERGED, 1) if now.grad_norm <= gtol else (NO_PROGRESS, 0)
            return
        now.lr = length
        head = int(extra[1])
        s, y = state[head], state[memory + head]
        for i in range(previous.size):
            previous[i] = x[i]
        for i in range(n):
            s[i], y[i] = there[i] - x[i], slopes[i] - g[i]
            x[i], g[i] = there[i], slopes[i]
        bend = inner(s, y)
        if bend > 1e-14 * inner(y, y):
            extra[MORE_NUMBERS + head] = 1.0 / bend
            extra[0] = extra[0] + 1.0 if extra[0] < memory else extra[0]
            extra[1] = (head + 1) % memory
        judge(now, x, g, best, previous, lower, upper, history, value, gtol, ftol, xtol)
        if noted < room:
            values[noted], noted = value, noted + 1
        if fun - value > noise or now.grad_norm < STALL * extra[3]:
            extra[2] = 0.0
        else:
            extra[2] += 1.0
        extra[3] = now.grad_norm if now.grad_norm < extra[3] else extra[3]
        if extra[2] >= PATIENCE and now.status == RUNNING:
            now.status = NO_PROGRESS
            return


floats = array_at(np.float64)


@functools.cache
def compiled(dtype: np.dtype) -> Any:
    """`lbfgs` compiled now, for unknowns of ``dtype``: once for all objectives."""
    return precompile(lbfgs, (types.intp, from_dtype(dtype), *(types.intp,) * 4, types.float64, types.intp, types.intp,
                              *(types.float64,) * 3))
