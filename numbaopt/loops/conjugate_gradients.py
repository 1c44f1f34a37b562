"""Nonlinear conjugate gradients: the direction of Hager and Zhang."""

from __future__ import annotations

import math

from .line_search import DIRECTION, NUMBERS, RISE, ROWS, SLOPES, inner, loop_of
from .state import inlined, larger

NEXT = ROWS  # of the state: the next direction
LEARNT = NUMBERS  # of the extra numbers: steps since the last one along the gradient
ETA = 0.01  # how far the direction may turn against the last one


def sizes(n: int, memory: int) -> tuple[int, int]:
    """Rows of the state; extra numbers."""
    return ROWS + 1, NUMBERS + 1


@inlined
def aim(now, x, g, lower, upper, state, extra, settings):
    d, to, n, squares = state[DIRECTION], state[NEXT], x.size, inner(g, g)
    if extra[LEARNT] == 0.0:
        for i in range(n):
            d[i] = -g[i]
        return 1.0 / larger(1.0, math.sqrt(squares)), math.inf
    for i in range(n):
        d[i] = to[i]
    length = extra[RISE] / inner(g, d)  # the first change of the objective as great as the last one
    return (length if length > 0.0 else 1.0 / larger(1.0, math.sqrt(squares))), math.inf


@inlined
def absorb(now, x, g, length, state, extra, settings):
    d, to, slopes, n = state[DIRECTION], state[NEXT], state[SLOPES], x.size
    rise, change, mixed, along, size, old = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        s, y, new = float(d[i]), float(slopes[i]) - float(g[i]), float(slopes[i])
        rise += s * y
        change += y * y
        mixed += y * new
        along += s * new
        size += s * s
        old += float(g[i]) * float(g[i])
    beta = (mixed - 2.0 * along * change / rise) / rise if rise != 0.0 else 0.0
    norm = math.sqrt(old)
    least = -1.0 / (math.sqrt(size) * (ETA if norm > ETA else norm))
    if not beta >= least:
        beta = least
    for i in range(n):
        to[i] = -slopes[i] + beta * d[i]
    extra[LEARNT] += 1.0


@inlined
def forget(extra):
    there_were = extra[LEARNT] > 0.0
    extra[LEARNT] = 0.0
    return there_were


loop = loop_of(aim, absorb, forget)
