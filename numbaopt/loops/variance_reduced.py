r"""Steps of one term whose noise is taken out by remembered slopes: SAG, SAGA and SVRG, on dense and on sparse rows.

All three remember a slope :math:`s_i` of every term, so that the last known gradient of a term is :math:`s_i x_i`, and
the mean :math:`G` of these.  The step of term i, whose slope is now :math:`s_i + d`, is

.. math:: \beta \leftarrow \beta - \tfrac{\eta (c - u)}{1 - \eta \lambda_2}\, d\, x_i, \qquad
    G \leftarrow G + u\, d\, x_i, \qquad
    \beta \leftarrow D(\beta) = \mathrm{clip}(\mathrm{soft}((1 - \eta \lambda_2)\, \beta - \eta G,\; \eta \lambda_1)).

With :math:`u = 1/n` it is SAG for :math:`c = 1/n` and SAGA for :math:`c = 1`; SVRG has :math:`c = 1, u = 0` and
recomputes all slopes at the beginning of an epoch.

Only :math:`D`, which needs nothing of term i, changes unknowns that the term does not meet, and while none of its terms
comes by, an unknown keeps its :math:`G_j`.  So on sparse rows :math:`D` waits until the unknown is needed: `ahead` and
`across` take k of these at once.

References
----------
Schmidt, M., Le Roux, N., Bach, F. (2017). Minimizing finite sums with the stochastic average gradient.
doi:10.1007/s10107-016-1030-6
Defazio, A., Bach, F., Lacoste-Julien, S. (2014). SAGA: a fast incremental gradient method with support for non-strongly
convex composite objectives. doi:10.48550/arXiv.1407.0202
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numba import types

from .._jit import (
    FUSED,
    address,
    array,
    array_at,
    invoke,
    invoke_value,
    jit_for_address,
    jit_inside,
    pointer,
    scalar,
)
from .._packed import unpacker
from .epochs import AHEAD, BEGIN, SETTLE, SWEEP, Functions
from .minibatch import numbers
from .state import clipped, run_type, soft


class Terms(NamedTuple):
    """What the functions here need; numbers in the dtype of the unknowns."""

    data: int  # the address of a problem's data
    rows: Any
    drift: np.ndarray  # rate, rate * l2, rate * l1, the same of intercepts
    jump: np.ndarray  # by how much d moves the unknowns, the intercepts, and G
    sums: np.ndarray  # sum of (1 - rate * l2)^i for i < k, for every k
    anew: bool  # recompute all slopes every epoch


@functools.cache
def terms_type(dtype: np.dtype, storage: Any) -> Any:
    """Numba's type of `Terms`."""
    vector = array(dtype)
    kinds = types.int64, storage.type_for(dtype), vector, vector, vector, types.boolean
    return types.BaseTuple.from_types(kinds, Terms)


def _ahead(x, pull, k, shrink, threshold, sums):
    """``k`` times x <- soft(x - shrink * x - pull, threshold), if that changes no sign; and whether it does not."""
    side = -pull if x == 0 else x  # where x == 0 the sign it would get, were there no threshold
    y = x - sums[k] * (shrink * x + pull + (threshold if side > 0 else -threshold))
    return y, (y > 0) == (side > 0) and y != 0


ahead = scalar(_ahead, FUSED)


def _across(x, pull, k, shrink, threshold, sums):
    """What `ahead` gives where signs do change, for k > 0.

    While x keeps its sign this is an affine map, whose iterates are monotone; the step at which it changes is sought by
    halving.  A sign changes at most twice: to zero, or through it.
    """
    while k > 0 and not (x == 0 and abs(pull) <= threshold):
        y, same = ahead(x, pull, k, shrink, threshold, sums)
        if same:
            return y
        low, high = 0, k  # on the same side, no longer
        while high - low > 1:
            middle = (low + high) // 2
            y, same = ahead(x, pull, middle, shrink, threshold, sums)
            low, high = (middle, high) if same else (low, middle)
        x, same = ahead(x, pull, low, shrink, threshold, sums)
        x = soft(x - shrink * x - pull, threshold)
        k -= low + 1
    return x


across = jit_inside(_across, fastmath=FUSED)


def _owed(x, g, gap, drift, sums):
    """What an unknown is after ``gap`` times D without bounds."""
    rate, shrink, threshold = drift
    if threshold == 0:
        return x - sums[gap] * (shrink * x + rate * g)
    y, same = ahead(x, rate * g, gap, shrink, threshold, sums)
    if same or (x == 0 and abs(rate * g) <= threshold):
        return y if same else x
    return across(x, rate * g, np.int64(gap), shrink, threshold, sums)


owed = scalar(_owed, FUSED)


def _owed_within(x, g, gap, drift, sums, low, high):
    """What an unknown is after ``gap`` times D.

    From within bounds the iterates without them are monotone: they may be clipped at the end.  Before its first D an
    unknown may be outside.
    """
    if gap > 0:
        x = clipped(owed(x, g, 1, drift, sums), low, high)
        x = clipped(owed(x, g, np.int64(gap) - 1, drift, sums), low, high)
    return x


owed_within = jit_inside(_owed_within, fastmath=FUSED)


def _meet(rows, i, x, g, lower, upper, extra, width, outputs, drift, sums):
    """Give the unknowns of a row what they are owed."""
    for e in range(np.uint64(rows.starts[i]), np.uint64(rows.starts[i + 1])):
        c = np.uint64(rows.columns[e])
        gap = np.uint64(extra[0] - extra[c + np.uint64(1)])
        extra[c + np.uint64(1)] = extra[0]
        for m in range(np.uint64(outputs)):
            k = m * np.uint64(width) + c
            if lower.size > 0:
                x[k] = owed_within(x[k], g[k], np.int64(gap), drift, sums, lower[k], upper[k])
            else:
                x[k] = owed(x[k], g[k], gap, drift, sums)


meet = scalar(_meet, FUSED)


def functions(dtype: np.dtype, storage: Any, many: bool, shared_at: Any, by_tile: bool) -> Functions:
    """Compile the steps for one storage of rows; ``many``: several slopes a term.

    ``by_tile``: sum rows tile by tile, in their own dtype.
    """
    open_run, open_own = unpacker(run_type(dtype)), unpacker(terms_type(dtype, storage))
    margin, add, fetch = scalar(storage.margin), scalar(storage.add, FUSED), scalar(storage.fetch)
    sparse, vector = storage.sparse, array_at(dtype)

    def sweep(run, rates, steps, order, count, known, own):
        run, o, order = open_run(run), open_own(own), numbers(order, known)
        p, rows = shared_at(o.data), o.rows
        x, g, extra, z, width = run.x, run.state[0], run.extra, p.z, p.n_columns
        outputs = p.outputs if many else 1
        penalised = outputs * width
        slopes = extra[1 + width * sparse :]
        drift = o.drift[0], o.drift[1], o.drift[2]
        rate, shrink, threshold = drift
        jump, jump_shift, update = o.jump[0], o.jump[1], o.jump[2]
        for j in range(steps):
            i = order[j]
            if j + AHEAD < known:
                fetch(rows, order[j + AHEAD])
            if sparse:
                meet(rows, i, x, g, run.lower, run.upper, extra, width, outputs, drift, o.sums)
            finite = True
            for m in range(outputs):
                w = x[m * width : (m + 1) * width] if many else x
                z[m, 0] = margin(rows, i, w) + (x[penalised + m] if x.size > penalised else x[0] - x[0])
                finite = finite and math.isfinite(z[m, 0])
            if not finite:
                return float(j)
            p.target[0] = p.y[i]
            if p.weights.size > 0:
                p.weight[0] = p.weights[i]
            invoke(p.slopes, (1, o.data))
            for m in range(outputs):
                was = slopes[i * outputs + m]
                slopes[i * outputs + m] = z[m, 0]
                z[m, 0] -= was
                d = z[m, 0]
                add(rows, i, -jump * d, x[m * width : (m + 1) * width] if many else x)
                if update != 0:
                    add(rows, i, update * d, g[m * width : (m + 1) * width] if many else g)
                if x.size > penalised:
                    b, h = x[penalised + m] - jump_shift * d, g[penalised + m] + update * d
                    x[penalised + m] = b - o.drift[3] * b - rate * h
                    g[penalised + m] = h
            if sparse:
                extra[0] += 1.0
            else:
                for k in range(np.uint64(penalised)):
                    x[k] = soft(x[k] - shrink * x[k] - rate * g[k], threshold)
            for k in range(penalised if sparse else 0, run.lower.size):
                x[k] = clipped(x[k], run.lower[k], run.upper[k])
        return float(steps)

    def settle(run, to, keep, own):
        run, o = open_run(run), open_own(own)
        p = shared_at(o.data)
        x, g, extra, width = run.x, run.state[0], run.extra, p.n_columns
        to, outputs = vector(to, x.size), p.outputs if many else 1
        drift = o.drift[0], o.drift[1], o.drift[2]
        for k in range(x.size):
            to[k] = x[k]
        if sparse and extra[0] > 0:
            for m in range(outputs):
                for c in range(width):
                    k, gap = m * width + c, int(extra[0] - extra[1 + c])
                    if run.lower.size > 0:
                        to[k] = owed_within(x[k], g[k], gap, drift, o.sums, run.lower[k], run.upper[k])
                    else:
                        to[k] = owed(x[k], g[k], gap, drift, o.sums)
            if not keep:
                for c in range(width + 1):
                    extra[c] = 0.0

    def begin(run, own):
        run, o = open_run(run), open_own(own)
        p = shared_at(o.data)
        if run.now[0].step > run.now[0].origin and not o.anew:
            return
        x, g, n, width = run.x, run.state[0], run.x.size, p.n_columns
        slopes = run.extra[1 + width * sparse :]
        outputs, total, order, tile, terms = p.outputs if many else 1, p.parts[0], p.order, p.target.size, p.y.size
        for k in range(n):
            total[k] = 0.0
        for first in range(0, terms, tile):
            count = min(tile, terms - first)
            for j in range(count):
                order[j] = first + j
            invoke_value(p.margins, (pointer(x), n, pointer(order), count, count, o.data))
            invoke(p.slopes, (count, o.data))
            for m in range(outputs):
                for j in range(count):
                    slopes[(first + j) * outputs + m] = p.z[m, j]
            if by_tile:
                for k in range(n):
                    g[k] = 0
                invoke(p.gather, (pointer(g), n, pointer(order), count, o.data))
                for k in range(n):
                    total[k] += g[k]
            else:
                invoke(p.gather_part, (pointer(total), n, pointer(order), count, o.data))
        for k in range(n):
            g[k] = total[k] / terms

    made = tuple(jit_for_address(function, fastmath=FUSED) for function in (begin, sweep, settle))
    return Functions(address(made[0], BEGIN), address(made[1], SWEEP), address(made[2], SETTLE), made)
