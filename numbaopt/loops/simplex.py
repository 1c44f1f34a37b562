"""The simplex of Nelder and Mead: steps that need no gradient."""

from __future__ import annotations

import functools
import math

from .._jit import EXACT, invoke_value, jit, jit_inside, pointer
from ..status import CONVERGED, NOT_FINITE, OUT_OF_EVALUATIONS, RUNNING, STEP_LIMIT
from .descent import floats
from .state import clipped, inlined, judge, open_run

CENTER, TRIAL, SECOND, VERTICES = range(4)  # rows of the state; the vertices, n + 1, are the last ones
XATOL, FATOL, MAX_EVALUATIONS, ADAPTIVE, SETTINGS = range(5)  # of the settings; evaluations: NaN for the default
# Extra numbers: n + 1 objectives, the rows of the vertices from best to worst, n + 1 objectives of a smaller simplex
FLAT = 7  # see status.py
RELATIVE, ABSOLUTE = 0.05, 0.00025  # sides of the first simplex: parts of an unknown, or where that is 0


PER_UNKNOWN = 200  # evaluations, and steps, where neither is limited


def sizes(n: int, memory: int) -> tuple[int, int]:
    """Rows of the state; extra numbers."""
    return VERTICES + n + 1, 3 * (n + 1)


exactly = functools.partial(inlined, fastmath=EXACT)  # SciPy's steps, up to rounding in the objective


@exactly
def bring_in(point, lower, upper):
    """Move a point into the bounds."""
    for i in range(lower.size):
        point[i] = clipped(point[i], lower[i], upper[i])


@exactly
def shrunk(to, point, vertex, by):
    """The vertex drawn near to the best point, into ``to``."""
    for i in range(point.size):
        to[i] = point[i] + by * (vertex[i] - point[i])


@exactly
def look(there, work, g, lower, upper, evaluate, data):
    """The objective at a trial point, moved into the bounds; infinite where it is not a number."""
    bring_in(there, lower, upper)
    value = invoke_value(evaluate, (pointer(there), pointer(work), pointer(g), there.size, data))
    return value if value == value else math.inf


@functools.partial(jit_inside, fastmath=EXACT)
def rank(extra, n, place):
    """Move the vertex at a place of the order, whose objective is new, to where it belongs, behind its equals."""
    while place > 0 and extra[int(extra[n + place])] < extra[int(extra[n + place - 1])]:
        extra[n + place], extra[n + place - 1] = extra[n + place - 1], extra[n + place]
        place -= 1


@exactly
def begin(x, work, g, lower, upper, state, extra, evaluate, data, most):
    """The first simplex, and at most so many of its objectives; returns how many."""
    n, looked = x.size, 0
    for v in range(n + 1):
        vertex = state[VERTICES + v]
        for i in range(n):
            vertex[i] = x[i]
        if v > 0:
            vertex[v - 1] = (1.0 + RELATIVE) * x[v - 1] if x[v - 1] != 0.0 else ABSOLUTE
        for i in range(lower.size):  # into the region rather than onto its edge
            if vertex[i] > upper[i]:
                vertex[i] = 2.0 * upper[i] - vertex[i]
        if looked < most:
            extra[v] = look(vertex, work, g, lower, upper, evaluate, data)
            looked += 1
        else:
            bring_in(vertex, lower, upper)
            extra[v] = math.inf
        extra[n + 1 + v] = v
        rank(extra, n + 1, v)
    return looked


@exactly
def replace(state, extra, n, row, value):
    """Put a trial point in the place of the worst vertex."""
    worst = int(extra[2 * n + 1])
    vertex, there = state[VERTICES + worst], state[row]
    for i in range(n):
        vertex[i] = there[i]
    extra[worst] = value
    rank(extra, n + 1, n)


@exactly
def between(state, there, worst, n, by):
    """The point ``center + by (center - worst)``."""
    center, vertex = state[CENTER], state[VERTICES + worst]
    for i in range(n):
        there[i] = (1.0 + by) * center[i] - by * vertex[i]


@functools.partial(jit_inside, fastmath=EXACT)
def small(state, extra, n, xatol, fatol):
    """Whether no vertex is far from the best one, in place and in value."""
    best = int(extra[n + 1])
    point, spread = state[VERTICES + best], 0.0
    for v in range(n + 1):
        if not abs(extra[v] - extra[best]) <= fatol:
            return False
        vertex = state[VERTICES + v]
        for i in range(n):
            far = abs(float(vertex[i]) - float(point[i]))
            spread = far if far > spread else spread
    return spread <= xatol


@exactly
def note(now, x, g, best, previous, lower, upper, history, state, extra, ftol, xtol, looked):
    """Judge the best vertex."""
    n, vertex = x.size, state[VERTICES + int(extra[x.size + 1])]
    for i in range(n):
        x[i], g[i] = vertex[i], 0.0
    now.evaluations += looked - 1
    judge(now, x, g, best, previous, lower, upper, history, extra[int(extra[n + 1])], -1.0, ftol, xtol)


@functools.partial(jit, fastmath=EXACT)
def loop(run, zero, k, values, room, settings, evaluate, data, gtol, ftol, xtol):
    """Take at most ``k`` steps; the arguments are those of every loop over whole objectives (`descent.signature`)."""
    run, values, settings = open_run(run, zero), floats(values, room), floats(settings, SETTINGS)
    now, x, g, work, state, extra = run.now[0], run.x, run.g, run.work, run.state, run.extra
    best, previous, lower, upper, history, n = run.best, run.previous, run.lower, run.upper, run.history, run.x.size
    center, trial, second, noted = state[CENTER], state[TRIAL], state[SECOND], 0
    most, wide = settings[MAX_EVALUATIONS], settings[ADAPTIVE] > 0.0
    most = most if most == most else float(PER_UNKNOWN * n)
    expand, contract, by = (1.0 + 2.0 / n, 0.75 - 0.5 / n, 1.0 - 1.0 / n) if wide else (2.0, 0.5, 0.5)
    if now.awaiting:
        first = begin(x, work, g, lower, upper, state, extra, evaluate, data, most)
        note(now, x, g, best, previous, lower, upper, history, state, extra, ftol, xtol, first)
        if room > 0:
            values[0], noted = now.fun, 1
    for _ in range(k):
        if now.status == RUNNING and small(state, extra, n, settings[XATOL], settings[FATOL]):
            now.status, now.reason = CONVERGED, FLAT
        if now.status != RUNNING:
            return
        left = most - now.evaluations  # what a step finds when they end, it keeps
        if left <= 0:
            now.status, now.reason = STEP_LIMIT, OUT_OF_EVALUATIONS
            return
        worst, top = int(extra[2 * n + 1]), extra[int(extra[2 * n + 1])]
        least, middle = extra[int(extra[n + 1])], extra[int(extra[2 * n])]
        for i in range(n):
            total = 0.0
            for v in range(n):
                total += float(state[VERTICES + int(extra[n + 1 + v]), i])
            center[i] = total / n
        between(state, trial, worst, n, 1.0)
        value, looked, shrink = look(trial, work, g, lower, upper, evaluate, data), 1, False
        if value < middle and (value >= least or left < 2):
            replace(state, extra, n, TRIAL, value)
        elif value < least:
            between(state, second, worst, n, expand)
            farther = look(second, work, g, lower, upper, evaluate, data)
            looked = 2
            if farther < value:
                replace(state, extra, n, SECOND, farther)
            else:
                replace(state, extra, n, TRIAL, value)
        elif left >= 2:
            outside = value < top
            between(state, second, worst, n, contract if outside else -contract)
            nearer = look(second, work, g, lower, upper, evaluate, data)
            looked = 2
            shrink = not (nearer <= value if outside else nearer < top)
            if not shrink:
                replace(state, extra, n, SECOND, nearer)
        if shrink:
            point = state[VERTICES + int(extra[n + 1])]
            for place in range(1, n + 1):  # all are looked at before any is moved: an objective may raise
                if looked < left:
                    v = int(extra[n + 1 + place])
                    shrunk(second, point, state[VERTICES + v], by)
                    extra[2 * n + 2 + v] = look(second, work, g, lower, upper, evaluate, data)
                    looked += 1
            for place in range(1, looked - 1):
                v = int(extra[n + 1 + place])
                shrunk(state[VERTICES + v], point, state[VERTICES + v], by)
                bring_in(state[VERTICES + v], lower, upper)
                extra[v] = extra[2 * n + 2 + v]
            for place in range(1, n + 1):
                rank(extra, n + 1, place)
        now.step += 1
        for i in range(previous.size):
            previous[i] = x[i]
        note(now, x, g, best, previous, lower, upper, history, state, extra, ftol, xtol, looked)
        if noted < room:
            values[noted], noted = now.fun, noted + 1
        if now.status == NOT_FINITE:
            return
