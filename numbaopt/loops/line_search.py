"""Methods that search along a line: one search, and one loop around it.

A method is three functions for compiled code, all of which are given the unknowns, gradient, state and so on of a run:

``aim(now, x, g, lower, upper, state, extra, settings) -> (length, limit)``
    writes the direction into ``state[DIRECTION]``; the length to try first, and the greatest one that is allowed;
``absorb(now, x, g, length, state, extra, settings)``
    learns from the step that leads to ``state[TRIAL]`` with the gradient ``state[SLOPES]``, before it is taken;
``forget(extra) -> bool``
    drops what was learnt; whether there was anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .._jit import invoke_value, jit, jit_inside, pointer
from ..status import CONVERGED, NO_PROGRESS, NOT_FINITE, OUT_OF_EVALUATIONS, RUNNING, STEP_LIMIT
from .descent import floats
from .state import clipped, inlined, judge, larger, open_run

# Rows of the state; what a method keeps comes after them.  ``LOW`` is the longest trial that may be taken if need be.
DIRECTION, TRIAL, SLOPES, LOW, LOW_SLOPES, ROWS = range(6)
VAIN, LEAST, RISE, NUMBERS = range(4)  # of the extra numbers: steps in vain, least gradient, last length times slope
DECREASE, CURVATURE, STRONG, ROUNDING, MAX_EVALUATIONS, MAX_TRIES, SETTINGS = range(7)  # of the settings

STALL, PATIENCE = 0.9, 20  # steps in vain: no lower objective, no gradient below this part of the least
GROWTH = (1.1, 9.0)  # of a step without an upper end, in parts of the last one
EDGE = 0.1  # of a bracket, that a new length keeps away from its ends
FLAT = 2.2e-16  # the cosine between a step and the change of the gradient, up to which nothing is learnt from it


@jit_inside
def inner(a, b):
    total = 0.0
    for i in range(a.size):
        total += np.float64(a[i]) * np.float64(b[i])
    return total


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


@jit_inside
def beyond(low, s_low, length, steep):
    """Where the slope, negative at both lengths, would vanish if it went on as between them; neither near nor far."""
    last, to = length - low, GROWTH[1]
    if steep > s_low:
        to = steep / (s_low - steep)
    if not to > GROWTH[0]:
        to = GROWTH[0]
    if to > GROWTH[1]:
        to = GROWTH[1]
    return length + to * last


@inlined
def move(there, x, d, length, lower, upper):
    """The trial point ``x + length d``."""
    for i in range(x.size):
        there[i] = x[i] + length * d[i]
    for i in range(lower.size):  # rounding must not lead outside
        there[i] = clipped(there[i], lower[i], upper[i])


@jit_inside
def swap(state):
    """Exchange the trial point and its gradient for those that are kept."""
    for i in range(state.shape[1]):
        state[TRIAL, i], state[LOW, i] = state[LOW, i], state[TRIAL, i]
        state[SLOPES, i], state[LOW_SLOPES, i] = state[LOW_SLOPES, i], state[SLOPES, i]


@inlined
def search(x, work, lower, upper, state, evaluate, data, fun, slope, length, limit, settings):
    """Look for a length that satisfies Wolfe's conditions, or, where the objective shows only rounding, those of Hager
    and Zhang on the slope; returns (found, length, objective, evaluations).

    Trial point and gradient are left in the state; ``x`` stays as it is.
    """
    d, there, slopes, n = state[DIRECTION], state[TRIAL], state[SLOPES], x.size
    decrease, flattest, most = settings[DECREASE], settings[CURVATURE] * slope, settings[MAX_TRIES]
    noise = settings[ROUNDING] * larger(1.0, abs(fun))
    low, f_low, s_low, high, f_high, s_high = 0.0, fun, slope, math.inf, 0.0, 0.0
    value, found, tries = fun, False, 0
    while not found and tries < most:
        tries += 1
        move(there, x, d, length, lower, upper)
        value = invoke_value(evaluate, (pointer(there), pointer(work), pointer(slopes), n, data))
        steep = inner(slopes, d)
        finite = math.isfinite(value) and math.isfinite(steep)
        flat = value <= fun + noise and (2.0 * decrease - 1.0) * slope >= steep
        if not finite or not (value <= fun + decrease * length * slope or flat):
            high, f_high, s_high = length, value, steep
        elif steep < flattest and length < limit:
            was, s_was = low, s_low
            low, f_low, s_low = length, value, steep
            swap(state)
            if high == math.inf:
                length = beyond(was, s_was, length, steep)
                length = length if length < limit else limit
                continue
        elif settings[STRONG] > 0.0 and steep > -flattest and not flat:
            high, f_high, s_high = length, value, steep
        else:
            found = True
            break
        if math.isfinite(f_high) and math.isfinite(s_high):
            length = between(low, f_low, s_low, high, f_high, s_high)
        else:
            length = low + 0.1 * (high - low)
    if not found and low > 0.0:
        length, value = low, f_low
        swap(state)
    return found, length, value, tries


@inlined
def count_vain(now, extra, lower):
    """After a step that led to a ``lower`` objective, or not: end a run whose gradients fall no more, either."""
    if lower or now.grad_norm < STALL * extra[LEAST]:
        extra[VAIN] = 0.0
    else:
        extra[VAIN] += 1.0
    extra[LEAST] = now.grad_norm if now.grad_norm < extra[LEAST] else extra[LEAST]
    if extra[VAIN] >= PATIENCE and now.status == RUNNING:
        now.status = NO_PROGRESS


def loop_of(aim: Callable[..., Any], absorb: Callable[..., Any], forget: Callable[..., Any]) -> Any:
    """The loop of a method; its arguments are those of every loop over whole objectives (`descent.signature`)."""

    def loop(run, zero, k, values, room, settings, evaluate, data, gtol, ftol, xtol):
        run, values, settings = open_run(run, zero), floats(values, room), floats(settings, SETTINGS + 1)
        now, x, g, work, state, extra = run.now[0], run.x, run.g, run.work, run.state, run.extra
        best, previous, lower, upper, history, n = run.best, run.previous, run.lower, run.upper, run.history, run.x.size
        d, there, slopes = state[DIRECTION], state[TRIAL], state[SLOPES]
        noted = 0
        if now.awaiting:
            fun = invoke_value(evaluate, (pointer(x), pointer(work), pointer(g), n, data))
            judge(now, x, g, best, previous, lower, upper, history, fun, gtol, ftol, xtol)
            extra[VAIN], extra[LEAST] = 0.0, now.grad_norm
            if room > 0:
                values[0], noted = fun, 1
        for _ in range(k):
            if now.status != RUNNING:
                return
            if now.evaluations >= settings[MAX_EVALUATIONS]:
                now.status, now.reason = STEP_LIMIT, OUT_OF_EVALUATIONS
                return
            length, limit = aim(now, x, g, lower, upper, state, extra, settings)
            slope = inner(g, d)
            if not slope < 0.0 and forget(extra):
                length, limit = aim(now, x, g, lower, upper, state, extra, settings)
                slope = inner(g, d)
            if not math.isfinite(slope):
                now.status = NOT_FINITE
                return
            fun = now.fun
            noise = settings[ROUNDING] * larger(1.0, abs(fun))
            found, value, tries = False, fun, 1
            if slope < 0.0:
                found, length, value, tries = search(x, work, lower, upper, state, evaluate, data, fun, slope, length,
                                                     limit, settings)  # fmt: skip
            now.evaluations += tries - 1  # the last one is judged
            if not found and not value < fun:
                now.evaluations += 1 if slope < 0.0 else 0
                if forget(extra):
                    continue  # once more, along the gradient
                now.status, now.reason = (CONVERGED, 1) if now.grad_norm <= gtol else (NO_PROGRESS, 0)
                return
            now.step += 1
            now.lr, extra[RISE] = length, length * slope
            absorb(now, x, g, length, state, extra, settings)
            for i in range(previous.size):
                previous[i] = x[i]
            for i in range(n):
                x[i], g[i] = there[i], slopes[i]
            judge(now, x, g, best, previous, lower, upper, history, value, gtol, ftol, xtol)
            if noted < room:
                values[noted], noted = value, noted + 1
            count_vain(now, extra, fun - value > noise)

    return jit(loop)
