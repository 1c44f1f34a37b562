"""Levenberg-Marquardt on residuals: a Gauss-Newton step damped to a radius, within bounds, no memory but the run's.

The cost is 0.5 c^2 sum rho((r / c)^2).  Rows of J and r are weighted such that J^T r is its gradient and A = J^T J the
Gauss-Newton part of its second derivatives (Triggs et al. 2000, doi:10.1007/3-540-44480-7_21).  A step minimizes the
model g^T p + p^T A p / 2 for |D p| <= radius, D the largest norms of columns so far (Moré 1978,
doi:10.1007/BFb0067700), by Newton's method on the damping.  Unknowns at a bound that the gradient pushes outwards stay;
where others would pass one, they end there, and the rest are solved for anew.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import types

from .._jit import invoke, jit, jit_inside, pointer, pointer_to, precompile
from ..status import CONVERGED, NO_PROGRESS, NOT_FINITE, OUT_OF_EVALUATIONS, RUNNING, STEP_LIMIT
from .descent import floats
from .state import clipped, judge, larger, open_run

# ``residuals(x, work, r, J, n, m, wanted, data)``: the m residuals at x into r; or, where a Jacobian is wanted and r
# holds them, that into J, its n columns one after the other.  Addresses, but n, m, wanted.
RESIDUALS = types.void(*(types.intp,) * 8)

LOSSES = ("linear", "soft_l1", "huber", "cauchy", "arctan")
LINEAR, SOFT_L1, HUBER, CAUCHY, _ = range(len(LOSSES))

# Settings: how many residuals, which loss, its c, whether D follows the columns, the first radius in lengths of D x,
# most evaluations of the residuals.
ROWS, LOSS, MARGIN, RESCALES, FACTOR, MOST = range(6)

# Extra numbers: radius, damping; the last trial's change of the cost, its length; Jacobians so far; how much of the
# way to a bound a step may go.  Then the residuals, those of the trial, weighted ones, J, A, the factor of a damped A.
RADIUS, DAMPING, CHANGE, MOVE, JACOBIANS, WAY = range(6)
HEAD = 6

STATE = ("scale", "step", "there", "free", "shift", "slope", "scaled", "scratch")
SCALE = 0  # the row of D

EPS = float(np.finfo(float).eps)
NEAR = 0.1  # relative: how well a step must keep to the radius
TRIES = 10  # of dampings, for that
CAUTION = 1e-2  # damping, relative, of the step that is foreseen
RAISES = 30  # of the damping, for a matrix that is singular
ACCEPTED, POOR, GOOD = 1e-4, 0.25, 0.75  # parts of the promised decrease


def sizes(n: int, m: int) -> tuple[int, int]:
    """Vectors of state and extra numbers of a run with n unknowns and m residuals."""
    return len(STATE), HEAD + 3 * m + n * m + 2 * n * n


def outcome(extra: np.ndarray, n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """The residuals and the weighted Jacobian of a run, of shape (m, n): copies."""
    first = HEAD + 3 * m
    return extra[HEAD : HEAD + m].copy(), extra[first : first + n * m].reshape(n, m).T.copy()


def settings_of(m: int, loss: str, margin: float, factor: float, most: int, x_scale: tuple[float, ...]) -> np.ndarray:
    """The settings as the loop reads them, 1 / D last, if it is given."""
    return np.array([m, LOSSES.index(loss), margin, not x_scale, factor, most, *x_scale], float)


@jit
def jacobian_at(evaluate, x, work, r, columns, data):
    """The Jacobian at x with residuals r into the rows of ``columns``, for callers in Python."""
    invoke(evaluate, (pointer(x), pointer(work), pointer(r), pointer(columns), x.size, r.size, 1, data))


@jit_inside
def dot(a, i, b, j, count):
    """Inner product of ``count`` numbers of a from i and of b from j."""
    total = 0.0
    for k in range(np.uint64(count)):
        total += a[np.uint64(i) + k] * b[np.uint64(j) + k]
    return total


@jit_inside
def robust(z, loss):
    """rho(z) and its first two derivatives."""
    if loss == SOFT_L1:
        root = math.sqrt(1.0 + z)
        return 2.0 * z / (root + 1.0), 1.0 / root, -0.5 / (root * (1.0 + z))
    if loss == HUBER:
        root = math.sqrt(larger(z, 1.0))
        return (z, 1.0, 0.0) if z <= 1.0 else (2.0 * root - 1.0, 1.0 / root, -0.5 / (root * z))
    under = 1.0 / (1.0 + z) if loss == CAUCHY else 1.0 / (1.0 + z * z)
    if loss == CAUCHY:
        return math.log1p(z), under, -under * under
    return math.atan(z), under, -2.0 * z * under * under


@jit_inside
def cost_of(r, m, loss, margin):
    if loss == LINEAR:
        return 0.5 * dot(r, 0, r, 0, m)
    total = 0.0
    for i in range(m):
        total += robust((r[i] / margin) ** 2, loss)[0]
    return 0.5 * margin * margin * total


@jit_inside
def linearize(evaluate, data, x, work, r, weighted, J, A, g, scale, m, settings):
    """J, weighted, and with it g, A and D, at x with residuals r; whether all are finite."""
    n, loss, margin = x.size, int(settings[LOSS]), settings[MARGIN]
    invoke(evaluate, (pointer(x), pointer(work), pointer(r), pointer(J), n, m, 1, data))
    for i in range(m):
        weighted[i] = r[i]
    for i in range(m if loss != LINEAR else 0):
        z = (r[i] / margin) ** 2
        _, slope, bend = robust(z, loss)
        root = math.sqrt(larger(slope + 2.0 * z * bend, EPS))
        weighted[i] *= slope / root
        for j in range(n):
            J[j * m + i] *= root
    finite = True
    for j in range(n):
        g[j] = dot(J, j * m, weighted, 0, m)
        for i in range(j + 1):
            A[j * n + i] = A[i * n + j] = dot(J, j * m, J, i * m, m)
        norm = math.sqrt(A[j * n + j])
        finite = finite and math.isfinite(norm) and math.isfinite(g[j])
    for j in range(n if finite else 0):
        if settings[RESCALES] > 0:
            scale[j] = larger(scale[j], math.sqrt(A[j * n + j]))
        if scale[j] == 0.0:
            scale[j] = 1.0
    return finite


@jit_inside
def factor(A, scale, free, damping, L, n):
    """L L^T = D^-1 A D^-1 + damping over the free unknowns, 1 over others; whether that is positive beyond rounding."""
    for i in range(n):
        for j in range(i + 1):
            value = A[i * n + j] / (scale[i] * scale[j]) if free[i] * free[j] > 0.0 else 0.0
            if i == j:
                value = value + damping if free[i] > 0.0 else 1.0
            rest = value - dot(L, i * n, L, j * n, j)
            if i > j:
                L[i * n + j] = rest / L[j * n + j]
            elif rest > n * EPS * value:
                L[i * n + i] = math.sqrt(rest)
            else:
                return False
    return True


@jit_inside
def top_of(A, scale, n):
    """The largest scaled square of a column."""
    top = 0.0
    for i in range(n):
        top = larger(top, A[i * n + i] / (scale[i] * scale[i]))
    return top


@jit_inside
def factor_raised(A, scale, free, damping, L, n):
    """`factor` with the damping raised until it succeeds; returns that."""
    for _ in range(RAISES):
        if factor(A, scale, free, damping, L, n):
            break
        damping = larger(10.0 * damping, n * EPS * top_of(A, scale, n))
    return damping


@jit_inside
def solve_lower(L, b, y, n):
    """y = L^-1 b; returns its square."""
    for i in range(n):
        y[i] = (b[i] - dot(L, i * n, y, 0, i)) / L[i * n + i]
    return dot(y, 0, y, 0, n)


@jit_inside
def solve(L, b, y, n):
    """y = (L L^T)^-1 b; returns the square of L^-1 b, and that of y."""
    square = solve_lower(L, b, y, n)
    for i in range(n - 1, -1, -1):
        y[i] /= L[i * n + i]
        for k in range(i):
            y[k] -= L[i * n + k] * y[i]
    return square, dot(y, 0, y, 0, n)


@jit_inside
def shorten(A, scale, free, b, L, y, scratch, n, square, lowest, radius, damping):
    """Dampen the full step y, of this square, to the radius; returns the damping, ``lowest`` where it is within.

    1 / length is a concave function of the damping, so that Newton's method on it gives lower bounds.
    """
    if not math.sqrt(square) > (1.0 + NEAR) * radius:
        return lowest
    low, high, used, guess = lowest, math.sqrt(dot(b, 0, b, 0, n)) / radius, lowest, damping
    for _ in range(TRIES):
        size = math.sqrt(square)
        if abs(size - radius) <= NEAR * radius:
            break
        low = larger(low, used + square / solve_lower(L, y, scratch, n) * (size - radius) / radius)
        high = used if size < radius else high
        used = factor_raised(A, scale, free, clipped(guess, low, larger(low, high)), L, n)
        _, square = solve(L, b, y, n)
        guess = 0.0  # the lower bound
    return used


@jit_inside
def release(x, g, lower, upper, scale, free, slope):
    """Which unknowns are free, and their scaled slope downwards: all but those at a bound that are pushed outwards."""
    for i in range(x.size):
        stays = lower.size > 0 and ((g[i] > 0.0 and x[i] <= lower[i]) or (g[i] < 0.0 and x[i] >= upper[i])
                                    or lower[i] == upper[i])  # fmt: skip
        free[i], slope[i] = (0.0, 0.0) if stays else (1.0, -g[i] / scale[i])


@jit_inside
def foresee(x, lower, upper, A, L, scale, free, slope, scaled):
    """What a step would do that no radius, only `CAUTION` dampens: the decrease of the model, and how far it leads."""
    n, reach = x.size, 0.0
    factor_raised(A, scale, free, CAUTION * top_of(A, scale, n), L, n)
    promise, _ = solve(L, slope, scaled, n)
    for i in range(n):
        move = scaled[i] / scale[i]
        if lower.size > 0:
            move = clipped(move, lower[i] - x[i], upper[i] - x[i])
        reach += move * move
    return 0.5 * promise, math.sqrt(reach)


@jit_inside
def find_step(x, g, lower, upper, A, L, scale, step, free, shift, slope, scaled, scratch, radius, damping):
    """The step from x into ``step``; returns its damping."""
    n = x.size
    for i in range(n):
        shift[i] = 0.0
    for _ in range(n + 1):
        lowest = factor_raised(A, scale, free, 0.0, L, n)
        _, square = solve(L, slope, scaled, n)
        damping = shorten(A, scale, free, slope, L, scaled, scratch, n, square, lowest, radius, damping)
        hit = False
        for i in range(n):
            step[i] = scaled[i] / scale[i] if free[i] > 0.0 else shift[i]
            if lower.size > 0 and free[i] > 0.0 and not lower[i] <= x[i] + step[i] <= upper[i]:
                step[i] = shift[i] = clipped(step[i], lower[i] - x[i], upper[i] - x[i])
                free[i], hit = 0.0, True
        if not hit:
            break
        for i in range(n):
            slope[i] = -(g[i] + dot(A, i * n, shift, 0, n)) / scale[i] if free[i] > 0.0 else 0.0
    return damping


@jit_inside
def try_step(x, g, lower, upper, A, scale, step, there, way):
    """Where the step leads, within bounds; its length, its scaled length, its slope, the decrease of the model."""
    n, length, size, slope, bend = x.size, 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        there[i] = x[i] + step[i]
        if lower.size > 0:
            low = lower[i] if way == 1.0 else x[i] + way * (lower[i] - x[i])
            there[i] = clipped(there[i], low, upper[i] if way == 1.0 else x[i] + way * (upper[i] - x[i]))
        step[i] = there[i] - x[i]
        length += step[i] * step[i]
        size += (scale[i] * step[i]) ** 2
        slope += g[i] * step[i]
    for i in range(n):
        bend += step[i] * dot(A, i * n, step, 0, n)
    return math.sqrt(length), math.sqrt(size), slope, -(slope + 0.5 * bend)


@jit_inside
def exchange(a, b, count):
    for i in range(count):
        a[i], b[i] = b[i], a[i]


@jit
def least_squares(run, zero, k, values, room, settings, evaluate, data, gtol, ftol, xtol):
    """Try at most ``k`` steps; the first ``room`` costs go into ``values``.  Arrays are addresses.

    Converged by ftol or xtol means that both the last trial and a step from here, whatever the radius, are that small:
    neither a short radius nor a wrong Jacobian passes for it.
    """
    run, values = open_run(run, zero), floats(values, room)
    settings = floats(settings, MOST + 1 + run.x.size)
    now, x, g, work, state, extra = run.now[0], run.x, run.g, run.work, run.state, run.extra
    best, previous, lower, upper, history, n = run.best, run.previous, run.lower, run.upper, run.history, run.x.size
    m, loss, margin = int(settings[ROWS]), int(settings[LOSS]), settings[MARGIN]
    scale, step, there, free, shift, slope, scaled, scratch = (
        state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7])  # fmt: skip
    r, trial, weighted = (floats(pointer_to(extra, HEAD), m), floats(pointer_to(extra, HEAD + m), m),
                          floats(pointer_to(extra, HEAD + 2 * m), m))  # fmt: skip
    J = floats(pointer_to(extra, HEAD + 3 * m), n * m)
    A = floats(pointer_to(extra, HEAD + 3 * m + n * m), n * n)
    L = floats(pointer_to(extra, HEAD + 3 * m + n * m + n * n), n * n)
    noted = 0
    for turn in range(-1 if now.awaiting else 0, k):
        if now.status != RUNNING:
            return
        if turn < 0:
            invoke(evaluate, (pointer(x), pointer(work), pointer(r), pointer(J), n, m, 0, data))
            value, size, extra[WAY] = cost_of(r, m, loss, margin), 0.0, 1.0
            for i in range(0 if settings[RESCALES] > 0 else n):
                scale[i] = 1.0 / settings[MOST + 1 + i]
            extra[CHANGE] = extra[MOVE] = math.inf
        else:
            release(x, g, lower, upper, scale, free, slope)
            low, short = ftol * now.fun, xtol * (xtol + math.sqrt(dot(x, 0, x, 0, n)))
            if extra[CHANGE] < low or extra[MOVE] < short:
                promise, reach = foresee(x, lower, upper, A, L, scale, free, slope, scaled)
                calm_fun, calm_x = larger(extra[CHANGE], promise) < low, larger(extra[MOVE], reach) < short
                if calm_fun or calm_x:
                    now.status, now.reason = CONVERGED, 13 if calm_fun and calm_x else (11 if calm_fun else 12)
                    return
            if now.evaluations >= settings[MOST]:
                now.status, now.reason = STEP_LIMIT, OUT_OF_EVALUATIONS
                return
            extra[DAMPING] = find_step(x, g, lower, upper, A, L, scale, step, free, shift, slope, scaled, scratch,
                                       extra[RADIUS], extra[DAMPING])  # fmt: skip
            length, size, steep, promised = try_step(x, g, lower, upper, A, scale, step, there, extra[WAY])
            if not length > 0.0:  # nor a number, where a matrix is beyond them
                now.status = NO_PROGRESS
                return
            value = now.fun if promised <= 0.0 else math.inf  # lost in rounding, or beyond all numbers
            if promised > 0.0 and math.isfinite(size):
                invoke(evaluate, (pointer(there), pointer(work), pointer(trial), pointer(J), n, m, 0, data))
                value = cost_of(trial, m, loss, margin)
                now.evaluations += 1
            drop, finite = now.fun - value, math.isfinite(value)
            extra[CHANGE], extra[MOVE] = (abs(drop), length) if finite else (math.inf, math.inf)
            if not finite:
                extra[RADIUS] = 0.1 * (size if size < extra[RADIUS] else extra[RADIUS])
            elif not drop > POOR * promised:  # where a parabola through both costs and the slope ends
                extra[RADIUS] = size * clipped(0.5 * steep / (steep + drop), 0.1, 0.5)
            elif drop >= GOOD * promised or size < (1.0 - NEAR) * extra[RADIUS]:
                extra[RADIUS] = 2.0 * size
            if not (finite and drop > ACCEPTED * promised and drop > 0.0):
                continue
            exchange(x, there, n)
            exchange(r, trial, m)
            now.step += 1
            now.evaluations -= 1  # it is judged, which counts it
            now.lr, now.awaiting = extra[DAMPING], 1
        extra[JACOBIANS] += 1.0
        finite = linearize(evaluate, data, x, work, r, weighted, J, A, g, scale, m, settings)
        if turn < 0:
            size = 0.0
            if not finite:
                now.status = NOT_FINITE  # also of the matrix
            for i in range(n):
                size += (scale[i] * x[i]) ** 2
            extra[RADIUS] = settings[FACTOR] * (math.sqrt(size) if size > 0.0 else 1.0)
        elif not finite:  # where the residuals are, but not their derivatives, perhaps because a bound was reached
            exchange(x, there, n)
            exchange(r, trial, m)
            now.step -= 1
            now.evaluations += 1
            linearize(evaluate, data, x, work, r, weighted, J, A, g, scale, m, settings)
            now.awaiting, extra[CHANGE], extra[MOVE] = 0, math.inf, math.inf
            if lower.size > 0 and extra[WAY] == 1.0:
                extra[WAY] = 0.9
            else:
                extra[RADIUS] = 0.1 * size
            continue
        judge(now, x, g, best, previous, lower, upper, history, value, gtol, 0.0, 0.0)
        if noted < room:
            values[noted], noted = value, noted + 1


@functools.cache
def compiled() -> Any:
    """`least_squares` compiled now: once for all residuals."""
    return precompile(least_squares, (types.intp, types.float64, *(types.intp,) * 6, *(types.float64,) * 3))
