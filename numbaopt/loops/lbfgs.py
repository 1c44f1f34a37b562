"""L-BFGS: the direction of the last few steps and gradients (Nocedal's two loops)."""

from __future__ import annotations

import math

from .line_search import DIRECTION, FLAT, NUMBERS, ROWS, SETTINGS, SLOPES, TRIAL, inner, loop_of
from .state import inlined, larger

MEMORY = SETTINGS  # of the settings: pairs that are kept
PAIRS, HEAD, PRODUCTS = NUMBERS, NUMBERS + 1, NUMBERS + 2  # how many pairs, where the next goes, then 2 numbers a pair


def sizes(n: int, memory: int) -> tuple[int, int]:
    """Rows of the state, of which steps come first, then changes of the gradient; extra numbers."""
    return ROWS + 2 * memory, PRODUCTS + 2 * memory


@inlined
def aim(now, x, g, lower, upper, state, extra, settings):
    """-H g, H the inverse Hessian that the pairs stand for."""
    d, pairs, head, memory, n = state[DIRECTION], int(extra[PAIRS]), int(extra[HEAD]), int(settings[MEMORY]), x.size
    for i in range(n):
        d[i] = -g[i]
    for age in range(pairs):
        k = (head - 1 - age) % memory
        s, y = state[ROWS + k], state[ROWS + memory + k]
        alpha = inner(s, d) * extra[PRODUCTS + k]
        extra[PRODUCTS + memory + k] = alpha
        for i in range(n):
            d[i] -= alpha * y[i]
    if pairs > 0:
        k = (head - 1) % memory
        y = state[ROWS + memory + k]
        scale = 1.0 / (extra[PRODUCTS + k] * inner(y, y))
        for i in range(n):
            d[i] *= scale
    for age in range(pairs):
        k = (head - pairs + age) % memory
        s, y = state[ROWS + k], state[ROWS + memory + k]
        change = extra[PRODUCTS + memory + k] - inner(y, d) * extra[PRODUCTS + k]
        for i in range(n):
            d[i] += change * s[i]
    return (1.0 if pairs > 0 else 1.0 / larger(1.0, math.sqrt(inner(g, g)))), math.inf


@inlined
def absorb(now, x, g, length, state, extra, settings):
    """Keep the pair, if the slope has risen along it, in the place of the oldest."""
    head, memory = int(extra[HEAD]), int(settings[MEMORY])
    s, y, there, slopes = state[ROWS + head], state[ROWS + memory + head], state[TRIAL], state[SLOPES]
    for i in range(x.size):
        s[i], y[i] = there[i] - x[i], slopes[i] - g[i]
    bend = inner(s, y)
    if bend > FLAT * math.sqrt(inner(y, y) * inner(s, s)):
        extra[PRODUCTS + head] = 1.0 / bend
        extra[PAIRS] = extra[PAIRS] + 1.0 if extra[PAIRS] < memory else extra[PAIRS]
        extra[HEAD] = (head + 1) % memory


@inlined
def forget(extra):
    there_were = extra[PAIRS] > 0.0
    extra[PAIRS] = 0.0
    return there_were


loop = loop_of(aim, absorb, forget)
