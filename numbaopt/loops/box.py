r"""L-BFGS within bounds: the generalized Cauchy point, then the minimum over the unknowns that are free there.

The quadratic model is the compact one, :math:`B = \theta I - W M W^T` with :math:`W = [Y, \theta S]` (Byrd, Lu, Nocedal
and Zhu 1995, doi:10.1137/0916069).  Products of all pairs are kept, so that those over the free unknowns need a pass
over the free or over the bound ones, whichever are fewer.
"""

from __future__ import annotations

import math

from .._jit import jit_inside
from .lbfgs import HEAD, MEMORY, PAIRS, PRODUCTS
from .lbfgs import forget as forget
from .line_search import DIRECTION, ROWS, SLOPES, TRIAL, inner, loop_of
from .state import clipped, inlined

BREAK, CAUCHY, PAIR_ROWS = ROWS, ROWS + 1, ROWS + 2  # of the state: where a bound is met, the Cauchy point, the pairs


def sizes(n: int, memory: int) -> tuple[int, int]:
    """Rows of the state, of which steps come first, then changes of the gradient; extra numbers."""
    wide = 2 * memory
    return PAIR_ROWS + wide, PRODUCTS + 3 * memory * memory + wide * wide + 5 * wide + n


# Extra numbers from PRODUCTS on: three matrices of products by slot (step . change, step . step, change . change), a
# matrix that is factorised, its pivots, four vectors as wide, the order of the bounds that are met.


@jit_inside
def factorise(a, base, size, width, pivots):
    """LU factors of the matrix at ``a[base]``, rows ``width`` apart, in its place; False where it is singular."""
    for j in range(size):
        best = j
        for i in range(j + 1, size):
            if abs(a[base + i * width + j]) > abs(a[base + best * width + j]):
                best = i
        a[pivots + j] = best
        if not abs(a[base + best * width + j]) > 0.0:
            return False
        if best != j:
            for k in range(size):
                at, to = base + j * width + k, base + best * width + k
                a[at], a[to] = a[to], a[at]
        for i in range(j + 1, size):
            factor = a[base + i * width + j] / a[base + j * width + j]
            a[base + i * width + j] = factor
            for k in range(j + 1, size):
                a[base + i * width + k] -= factor * a[base + j * width + k]
    return True


@jit_inside
def solve(a, base, size, width, pivots, v):
    """Solve in place, of the vector at ``a[v]``, with the factors of `factorise`."""
    for j in range(size):
        to = int(a[pivots + j])
        a[v + j], a[v + to] = a[v + to], a[v + j]
    for j in range(size):
        for k in range(j):
            a[v + j] -= a[base + j * width + k] * a[v + k]
    for back in range(size):
        j = size - 1 - back
        for k in range(j + 1, size):
            a[v + j] -= a[base + j * width + k] * a[v + k]
        a[v + j] /= a[base + j * width + j]


@jit_inside
def middle(extra, memory, pairs, head, theta, base):
    """The inverse of M, [[-D, L'], [L, theta S'S]], oldest pairs first, at ``extra[base]``."""
    width, square = 2 * memory, memory * memory
    for i in range(pairs):
        p = (head - pairs + i) % memory
        for j in range(pairs):
            q = (head - pairs + j) % memory
            below = extra[PRODUCTS + p * memory + q] if i > j else 0.0
            extra[base + i * width + j] = -extra[PRODUCTS + p * memory + p] if i == j else 0.0
            extra[base + (pairs + i) * width + j] = below
            extra[base + j * width + pairs + i] = below
            extra[base + (pairs + i) * width + pairs + j] = theta * extra[PRODUCTS + square + p * memory + q]


@jit_inside
def row_of(state, extra, memory, pairs, head, theta, i, v):
    """Row ``i`` of W into the vector at ``extra[v]``."""
    for j in range(pairs):
        p = (head - pairs + j) % memory
        extra[v + j] = state[PAIR_ROWS + memory + p, i]
        extra[v + pairs + j] = theta * state[PAIR_ROWS + p, i]


@jit_inside
def sift(extra, order, size, at, times):
    """Restore the heap (soonest first) of the unknowns at ``extra[order]`` below place ``at``."""
    while True:
        child = 2 * at + 1
        if child >= size:
            return
        if child + 1 < size and times[int(extra[order + child + 1])] < times[int(extra[order + child])]:
            child += 1
        if not times[int(extra[order + child])] < times[int(extra[order + at])]:
            return
        extra[order + at], extra[order + child] = extra[order + child], extra[order + at]
        at = child


@jit_inside
def dot(extra, a, b, size):
    total = 0.0
    for j in range(size):
        total += extra[a + j] * extra[b + j]
    return total


@jit_inside
def cauchy_point(x, g, lower, upper, state, extra, memory, pairs, head, theta, base):
    """The first minimum of the model along the projected gradient; leaves W'(xc - x) in the vector c."""
    d, times, point, n, size, width = state[DIRECTION], state[BREAK], state[CAUCHY], x.size, 2 * pairs, 2 * memory
    pivots = base + width * width
    p, c, w, v, order = pivots + width, pivots + 2 * width, pivots + 3 * width, pivots + 4 * width, pivots + 5 * width
    count, first = 0, 0.0
    for j in range(size):
        extra[p + j], extra[c + j] = 0.0, 0.0
    for i in range(n):
        point[i] = x[i]
        room = (x[i] - upper[i]) / g[i] if g[i] < 0.0 else ((x[i] - lower[i]) / g[i] if g[i] > 0.0 else math.inf)
        times[i] = room
        d[i] = -g[i] if room > 0.0 else 0.0
        first -= float(d[i]) * float(d[i])
        if room > 0.0 and room < math.inf:
            extra[order + count] = i
            count += 1
    for j in range(pairs):
        q = (head - pairs + j) % memory
        extra[p + j] = inner(state[PAIR_ROWS + memory + q], d)
        extra[p + pairs + j] = theta * inner(state[PAIR_ROWS + q], d)
    for k in range(count // 2):
        sift(extra, order, count, count // 2 - 1 - k, times)
    for j in range(size):
        extra[v + j] = extra[p + j]
    solve(extra, base, size, width, pivots, v)
    second = -theta * first - dot(extra, p, v, size)
    least, at = 2.2e-16 * -theta * first, 0.0
    while count > 0 and first < 0.0:
        b = int(extra[order])
        time = float(times[b])
        if -first / second < time - at:
            break
        for j in range(size):
            extra[c + j] += (time - at) * extra[p + j]
        slope = float(g[b])
        point[b] = upper[b] if slope < 0.0 else lower[b]
        moved = float(point[b]) - float(x[b])
        row_of(state, extra, memory, pairs, head, theta, b, w)
        for j in range(size):
            extra[v + j] = extra[w + j]
        solve(extra, base, size, width, pivots, v)  # M w
        step = time - at
        first += step * second + slope * slope + theta * slope * moved - slope * dot(extra, v, c, size)
        second -= theta * slope * slope + 2.0 * slope * dot(extra, v, p, size)
        second -= slope * slope * dot(extra, v, w, size)
        second = second if second > least else least
        for j in range(size):
            extra[p + j] += slope * extra[w + j]
        d[b], at = 0.0, time
        count -= 1
        extra[order] = extra[order + count]
        sift(extra, order, count, 0, times)
    rest = -first / second if first < 0.0 and second > 0.0 else 0.0
    for j in range(size):
        extra[c + j] += rest * extra[p + j]
    for i in range(n):
        if d[i] != 0.0:
            point[i] = clipped(x[i] + (at + rest) * d[i], lower[i], upper[i])


@jit_inside
def products_of_free(x, lower, upper, state, extra, memory, pairs, head, theta, base):
    """W'W over the free unknowns, taken from the inverse of M, over theta, into the matrix at ``extra[base]``."""
    point, n, width, square = state[CAUCHY], x.size, 2 * memory, memory * memory
    free = 0
    for i in range(n):
        free += 1 if lower[i] < point[i] and point[i] < upper[i] else 0
    few = 2 * free <= n  # then the sums go over these; else over the others, and are taken from the whole
    for i in range(2 * pairs):
        p = (head - pairs + i % pairs) % memory
        a, by = state[PAIR_ROWS + p + (memory if i < pairs else 0)], (1.0 if i < pairs else theta)
        for j in range(i + 1):
            q = (head - pairs + j % pairs) % memory
            b, total = state[PAIR_ROWS + q + (memory if j < pairs else 0)], 0.0
            for k in range(n):
                here = (lower[k] < point[k] and point[k] < upper[k]) == few
                total += float(a[k]) * float(b[k]) if here else 0.0
            if not few:
                if i < pairs:
                    whole = extra[PRODUCTS + 2 * square + p * memory + q]
                elif j < pairs:
                    whole = extra[PRODUCTS + p * memory + q]
                else:
                    whole = extra[PRODUCTS + square + p * memory + q]
                total = whole - total
            total *= by * (1.0 if j < pairs else theta) / theta
            extra[base + i * width + j] -= total
            if i != j:
                extra[base + j * width + i] -= total
    return free


@inlined
def aim(now, x, g, lower, upper, state, extra, settings):
    """From x to the minimum of the model over the free unknowns."""
    d, point, n, memory = state[DIRECTION], state[CAUCHY], x.size, int(settings[MEMORY])
    pairs, head, width = int(extra[PAIRS]), int(extra[HEAD]), 2 * memory
    base = PRODUCTS + 3 * memory * memory
    pivots, size, theta = base + width * width, 2 * pairs, 1.0
    c, w, v = pivots + 2 * width, pivots + 3 * width, pivots + 4 * width
    if pairs > 0:
        last = (head - 1) % memory
        theta = extra[PRODUCTS + 2 * memory * memory + last * (memory + 1)] / extra[PRODUCTS + last * (memory + 1)]
        middle(extra, memory, pairs, head, theta, base)
        if not factorise(extra, base, size, width, pivots):
            pairs, size, theta, extra[PAIRS] = 0, 0, 1.0, 0.0
    cauchy_point(x, g, lower, upper, state, extra, memory, pairs, head, theta, base)
    for i in range(n):
        d[i] = point[i] - x[i]
    if pairs > 0:
        solve(extra, base, size, width, pivots, c)  # M c
        middle(extra, memory, pairs, head, theta, base)
        free = products_of_free(x, lower, upper, state, extra, memory, pairs, head, theta, base)
        if free > 0 and factorise(extra, base, size, width, pivots):
            inside(x, g, lower, upper, state, extra, memory, pairs, head, theta, (base, pivots, c, w, v))
    limit, norm = math.inf, math.sqrt(inner(d, d))
    for i in range(n):
        room = (upper[i] - x[i]) / d[i] if d[i] > 0.0 else ((lower[i] - x[i]) / d[i] if d[i] < 0.0 else math.inf)
        limit = room if room < limit else limit
    if pairs == 0:
        return (1.0 / norm if norm > 1.0 else 1.0), 1.0
    return 1.0, (limit if limit > 1.0 else 1.0)


@jit_inside
def inside(x, g, lower, upper, state, extra, memory, pairs, head, theta, places):
    """Turn the direction to the model's minimum over the free unknowns, cut off at the bounds."""
    base, pivots, c, w, v = places
    d, point, to, n, size, width = state[DIRECTION], state[CAUCHY], state[BREAK], x.size, 2 * pairs, 2 * memory
    for j in range(size):
        extra[v + j] = 0.0
    for i in range(n):
        to[i] = 0.0
        if lower[i] < point[i] and point[i] < upper[i]:
            row_of(state, extra, memory, pairs, head, theta, i, w)
            to[i] = g[i] + theta * (point[i] - x[i]) - dot(extra, w, c, size)  # the model's gradient
            for j in range(size):
                extra[v + j] += extra[w + j] * to[i]
    solve(extra, base, size, width, pivots, v)
    along, part = 0.0, 1.0
    for i in range(n):
        if lower[i] < point[i] and point[i] < upper[i]:
            row_of(state, extra, memory, pairs, head, theta, i, w)
            to[i] = -(to[i] + dot(extra, w, v, size) / theta) / theta
            ahead = upper[i] - point[i] if to[i] > 0.0 else lower[i] - point[i]
            if to[i] != 0.0 and ahead / to[i] < part:
                part = ahead / to[i]
            d[i] = clipped(point[i] + to[i], lower[i], upper[i]) - x[i]
        along += float(d[i]) * float(g[i])
    if not along < 0.0:
        for i in range(n):
            d[i] = point[i] + part * to[i] - x[i]


@inlined
def absorb(now, x, g, length, state, extra, settings):
    """Keep the pair, if the slope has risen along it, and its products with the others."""
    head, memory, n = int(extra[HEAD]), int(settings[MEMORY]), x.size
    s, y, there, slopes = state[PAIR_ROWS + head], state[PAIR_ROWS + memory + head], state[TRIAL], state[SLOPES]
    bend, steep = 0.0, 0.0
    for i in range(n):
        step, change = float(there[i]) - float(x[i]), float(slopes[i]) - float(g[i])
        bend += step * change
        steep -= step * float(g[i])
    if not bend > 2.2e-16 * steep:
        return
    for i in range(n):
        s[i], y[i] = there[i] - x[i], slopes[i] - g[i]
    extra[PAIRS] = extra[PAIRS] + 1.0 if extra[PAIRS] < memory else extra[PAIRS]
    extra[HEAD] = (head + 1) % memory
    square = memory * memory
    for j in range(int(extra[PAIRS])):
        q = (head + memory - j) % memory
        other, change = state[PAIR_ROWS + q], state[PAIR_ROWS + memory + q]
        extra[PRODUCTS + head * memory + q], extra[PRODUCTS + q * memory + head] = inner(s, change), inner(other, y)
        steps, changes = inner(s, other), inner(y, change)
        extra[PRODUCTS + square + head * memory + q] = extra[PRODUCTS + square + q * memory + head] = steps
        extra[PRODUCTS + 2 * square + head * memory + q] = changes
        extra[PRODUCTS + 2 * square + q * memory + head] = changes


loop = loop_of(aim, absorb, forget)
