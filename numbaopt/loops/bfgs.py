"""BFGS: the inverse Hessian as a matrix."""

from __future__ import annotations

import math

from .line_search import DIRECTION, FLAT, NUMBERS, ROWS, SLOPES, TRIAL, inner, loop_of
from .state import inlined, larger

LEARNT = NUMBERS  # of the extra numbers: updates of the matrix


def sizes(n: int, memory: int) -> tuple[int, int]:
    """Rows of the state, of which the matrix comes first, then two of scratch; extra numbers."""
    return ROWS + n + 2, NUMBERS + 1


@inlined
def aim(now, x, g, lower, upper, state, extra, settings):
    """-H g."""
    d, n, learnt = state[DIRECTION], x.size, extra[LEARNT] > 0.0
    for i in range(n):
        d[i] = -inner(state[ROWS + i], g) if learnt else -g[i]
    return (1.0 if learnt else 1.0 / larger(1.0, math.sqrt(inner(g, g)))), math.inf


@inlined
def absorb(now, x, g, length, state, extra, settings):
    """The update of Broyden, Fletcher, Goldfarb and Shanno; of the unit matrix, first scaled to the first pair."""
    n = x.size
    s, y, z, there, slopes = state[DIRECTION], state[ROWS + n], state[ROWS + n + 1], state[TRIAL], state[SLOPES]
    for i in range(n):
        s[i], y[i] = there[i] - x[i], slopes[i] - g[i]
    bend = inner(s, y)
    if not bend > FLAT * math.sqrt(inner(y, y) * inner(s, s)):
        return
    if extra[LEARNT] == 0.0:
        scale = bend / inner(y, y)
        for i in range(n):
            row = state[ROWS + i]
            for j in range(n):
                row[j] = 0.0
            row[i] = scale
    for i in range(n):
        z[i] = inner(state[ROWS + i], y)
    along = (1.0 + inner(y, z) / bend) / bend
    for i in range(n):
        row, s_i, z_i = state[ROWS + i], along * s[i] - z[i] / bend, s[i] / bend
        for j in range(n):
            row[j] += s_i * s[j] - z_i * z[j]
    extra[LEARNT] += 1.0


@inlined
def forget(extra):
    there_was = extra[LEARNT] > 0.0
    extra[LEARNT] = 0.0
    return there_was


loop = loop_of(aim, absorb, forget)
