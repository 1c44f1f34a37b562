"""Newton steps within a trust region, by conjugate gradients (Steihaug); products with the Hessian are differences of
gradients.
"""

from __future__ import annotations

import math

from .._jit import invoke_value, jit, jit_inside, pointer
from ..status import CONVERGED, NO_PROGRESS, NOT_FINITE, OUT_OF_EVALUATIONS, RUNNING, STEP_LIMIT
from .descent import floats
from .line_search import LEAST, VAIN, count_vain, inner
from .state import inlined, judge, larger, open_run

STEP, RESIDUAL, DIRECTION, PRODUCT, TRIAL, SLOPES, SIZES, ROWS = range(8)  # rows of the state; sizes so far of unknowns
RADIUS, NUMBERS = LEAST + 1, LEAST + 2  # of the extra numbers; the radius is 0 until the first step
FIRST_RADIUS, LAST_RADIUS, ETA, ROUNDING, MAX_EVALUATIONS, SETTINGS = range(6)  # of the settings

SHRINK, GROW = 0.25, 2.0  # of the radius
POOR, GOOD = 0.25, 0.75  # parts of the promised decrease below which the region shrinks, above which it grows
SMALLEST = 1e-15  # of a radius, in parts of the length of x


def sizes(n: int, memory: int) -> tuple[int, int]:
    """Rows of the state; extra numbers."""
    return ROWS, NUMBERS


@inlined
def multiply(x, g, work, d, product, there, sizes, evaluate, data, rounding):
    """The Hessian at ``x`` times ``d``, as a difference of gradients; overwrites ``there``."""
    farthest = 0.0  # of all unknowns, in parts of their sizes
    for i in range(x.size):
        farthest = larger(farthest, abs(float(d[i])) / float(sizes[i]))
    by = math.sqrt(rounding) / farthest
    for i in range(x.size):
        there[i] = x[i] + by * d[i]
    invoke_value(evaluate, (pointer(there), pointer(work), pointer(product), x.size, data))
    for i in range(x.size):
        product[i] = (product[i] - g[i]) / by


@jit_inside
def to_boundary(p, d, radius):
    """The positive t with ``|p + t d| = radius``."""
    a, b, c = inner(d, d), inner(p, d), inner(p, p) - radius * radius
    root = math.sqrt(larger(b * b - a * c, 0.0))
    return -c / (b + root) if b > 0.0 else (root - b) / a


@inlined
def solve(x, g, work, state, evaluate, data, radius, rounding):
    """The step that conjugate gradients find within the region; returns the decrease that the model promises, whether
    the step ends on the boundary, and how many products it took.
    """
    p, r, d, product, there = state[STEP], state[RESIDUAL], state[DIRECTION], state[PRODUCT], state[TRIAL]
    sizes, n = state[SIZES], x.size
    for i in range(n):
        p[i], r[i], d[i] = 0.0, g[i], -g[i]
    square = inner(g, g)
    norm = math.sqrt(square)
    enough, products, edge = norm * (0.5 if norm > 0.25 else math.sqrt(norm)), 0, False
    while products < 2 * n + 2 and not edge:
        multiply(x, g, work, d, product, there, sizes, evaluate, data, rounding)
        products += 1
        bend = inner(d, product)
        along = square / bend if bend > 0.0 else math.inf
        room = to_boundary(p, d, radius)
        edge = not along < room  # also where the model bends down, or is not finite
        along = room if edge else along
        for i in range(n):
            p[i] += along * d[i]
            r[i] += along * product[i]
        before, square = square, inner(r, r)
        if math.sqrt(square) <= enough:
            break
        for i in range(n):
            d[i] = -r[i] + square / before * d[i]
    return -0.5 * (inner(g, p) + inner(p, r)), edge, products


@jit
def loop(run, zero, k, values, room, settings, evaluate, data, gtol, ftol, xtol):
    """Take at most ``k`` steps; the arguments are those of every loop over whole objectives (`descent.signature`)."""
    run, values, settings = open_run(run, zero), floats(values, room), floats(settings, SETTINGS)
    now, x, g, work, state, extra = run.now[0], run.x, run.g, run.work, run.state, run.extra
    best, previous, lower, upper, history, n = run.best, run.previous, run.lower, run.upper, run.history, run.x.size
    p, there, slopes, noted = state[STEP], state[TRIAL], state[SLOPES], 0
    if now.awaiting:
        fun = invoke_value(evaluate, (pointer(x), pointer(work), pointer(g), n, data))
        judge(now, x, g, best, previous, lower, upper, history, fun, gtol, ftol, xtol)
        extra[VAIN], extra[LEAST], extra[RADIUS] = 0.0, now.grad_norm, settings[FIRST_RADIUS]
        for i in range(n):
            state[SIZES, i] = abs(x[i]) if x[i] != 0.0 else 1.0
        if room > 0:
            values[0], noted = fun, 1
    for _ in range(k):
        if now.status != RUNNING:
            return
        if now.evaluations >= settings[MAX_EVALUATIONS]:
            now.status, now.reason = STEP_LIMIT, OUT_OF_EVALUATIONS
            return
        fun = now.fun
        noise = settings[ROUNDING] * larger(1.0, abs(fun))
        promised, edge, products = solve(x, g, work, state, evaluate, data, extra[RADIUS], settings[ROUNDING])
        if not math.isfinite(promised):
            now.step += 1
            now.evaluations += products
            now.status = NOT_FINITE if not math.isfinite(inner(g, g)) else RUNNING
            extra[RADIUS] *= SHRINK
            if extra[RADIUS] < SMALLEST * larger(1.0, math.sqrt(inner(x, x))):
                now.status = NO_PROGRESS
            continue
        for i in range(n):
            there[i] = x[i] + p[i]
        value = invoke_value(evaluate, (pointer(there), pointer(work), pointer(slopes), n, data))
        now.step += 1  # all that may raise is done
        now.evaluations += products
        part = (fun - value) / promised if promised > 0.0 else 0.0
        steepest = inner(slopes, slopes)
        taken = part > settings[ETA]
        if promised <= noise and value <= fun + noise:  # the objective shows rounding: the gradient tells
            part, taken = 1.0, steepest < inner(g, g)
        if not (math.isfinite(value) and math.isfinite(steepest)):
            part, taken = 0.0, False
        length = math.sqrt(inner(p, p))
        now.lr = extra[RADIUS]
        if not part >= POOR or not taken:
            extra[RADIUS] = SHRINK * (length if length < extra[RADIUS] else extra[RADIUS])
        elif part > GOOD and edge:
            wider = GROW * extra[RADIUS]
            extra[RADIUS] = wider if wider < settings[LAST_RADIUS] else settings[LAST_RADIUS]
        if not taken:
            now.evaluations += 1
            if extra[RADIUS] < SMALLEST * larger(1.0, math.sqrt(inner(x, x))):
                now.status, now.reason = (CONVERGED, 1) if now.grad_norm <= gtol else (NO_PROGRESS, 0)
            continue
        for i in range(previous.size):
            previous[i] = x[i]
        for i in range(n):
            x[i], g[i] = there[i], slopes[i]
            if abs(x[i]) > state[SIZES, i]:
                state[SIZES, i] = abs(x[i])
        judge(now, x, g, best, previous, lower, upper, history, value, gtol, ftol, xtol)
        if noted < room:
            values[noted], noted = value, noted + 1
        count_vain(now, extra, fun - value > noise)
