r"""Dual coordinate ascent: the slope of one term at a time, exactly.

With a strength :math:`\lambda_j` and a centre :math:`c_j` of every unknown's penalty, a point goes with the slopes
:math:`s_i`, one a term:

.. math:: x_j = c_j - \frac{1}{n \lambda_j} \sum_i s_i x_{ij}

Margins of a term alone change by :math:`-q_i` for a unit of its slope, :math:`q_i = \frac1n \sum_j x_{ij}^2 /
\lambda_j`.  So the best slope of a term with the margin z, all others fixed, is the loss's implicit slope: the t with
:math:`t \in \ell'(u),\; u = z + q_i s_i - q_i t`.  Where u is kept, no conjugate is needed for the duality gap: by
Fenchel and Young it is

.. math:: \frac1n \sum_i \big( \ell_i(z_i) - \ell_i(u_i) - s_i (z_i - u_i) \big), \qquad s_i \in \ell_i'(u_i).

A term whose slope did not change in its last visits (it lies at a kink's end, or on a flat side) rests for up to 256
epochs.  An epoch of few terms goes on with those that moved, until it has made an eighth of the visits of a whole one.
Where none moved, all are woken.

References
----------
Shalev-Shwartz, S., Zhang, T. (2013). Stochastic dual coordinate ascent methods for regularized loss minimization.
JMLR 14, 567-599.
Hsieh, C.-J., Chang, K.-W., Lin, C.-J., Keerthi, S. S., Sundararajan, S. (2008). A dual coordinate descent method for
large-scale linear SVM. doi:10.1145/1390156.1390208
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
    compiling,
    invoke,
    invoke_value,
    jit,
    jit_for_address,
    native,
    pointer,
    precompile,
    scalar,
)
from .._packed import open_at, unpacker
from ..optimizers._program import cast_all, row_loader
from .epochs import AHEAD
from .shuffle import fill_order
from .state import run_type

LONGEST = 8  # power of two: epochs that a term may rest
IMPLICIT = types.float64(*(types.float64,) * 3, types.intp)  # (z, y, q, data)
VISIT = types.float64(*(types.intp,) * 7)  # (run, own, first, count, due, seed, epoch) -> whether all is finite


class Dual(NamedTuple):
    """What the functions here know of all terms; `Terms` begins like this."""

    data: int  # the address of a problem's data
    implicit: int  # the address of the loss's implicit slope
    squares: np.ndarray  # (terms,): squared norms of the rows
    strengths: np.ndarray  # (2,): of the coefficients, of the intercept
    slopes: np.ndarray  # (terms,)
    points: np.ndarray  # (terms,): the margins u at which the losses have these slopes
    idle: np.ndarray  # (terms,): visits since the slope changed last
    due: np.ndarray  # (terms,): which terms the epoch visits


class Terms(NamedTuple):
    """`Dual`, and what only the functions of one storage know."""

    dual: Dual
    rows: Any


class Functions(NamedTuple):
    """Addresses of the functions of one storage, and what keeps them alive."""

    measure: Any
    sweep: Any
    functions: tuple[Any, ...]


DUAL = types.BaseTuple.from_types((types.int64, types.int64, *(array(np.float64),) * 6), Dual)


@native(lambda where: where.dual)
def dual_at(typing_context, where):
    """The `Dual` at the beginning of packed `Terms`."""
    return DUAL(types.intp), (
        lambda context, builder, signature, values: open_at(context, builder, DUAL, values[0]))  # fmt: skip


@functools.cache
def terms_type(dtype: np.dtype, storage: Any) -> Any:
    """Numba's type of `Terms`."""
    return types.BaseTuple.from_types((DUAL, storage.type_for(dtype)), Terms)


@functools.cache
def implicit_of(loss: type, shared_at: Any, count: int) -> tuple[Any, Any]:
    """The address of a loss's implicit slope, and its function."""
    load, function = row_loader(types.float64, 0, count, count), scalar(loss.implicit_slope)

    def implicit(z, y, q, data):
        return function(cast_all(load(pointer(shared_at(data).constants), 0), z), z, y, q)

    made = jit_for_address(implicit)
    with compiling(f"{loss.__name__}.implicit_slope"):
        return address(made, IMPLICIT), made


@functools.cache
def functions(dtype: np.dtype, storage: Any, shared_at: Any) -> Functions:
    """Compile what reads single rows, ``count`` of them, from the position ``first`` of an epoch of ``due`` terms on.

    ``measure`` finds their squared norms, ``sweep`` visits them.
    """
    open_run, open_own = unpacker(run_type(dtype)), unpacker(terms_type(dtype, storage))
    margin, add, fetch = scalar(storage.margin), scalar(storage.add, FUSED), scalar(storage.fetch)

    def measure(run, own, first, count, due, seed, epoch):
        """Squared norms of rows, in which a column may occur twice."""
        (o, rows), work = open_own(own), open_run(run).work
        for j in range(work.size):
            work[j] = 0
        for i in range(first, first + count):
            add(rows, i, work.dtype.type(1), work)
            o.squares[i] = margin(rows, i, work)
            add(rows, i, work.dtype.type(-1), work)
        return 1.0

    def sweep(run, own, first, count, due, seed, epoch):
        run, (o, rows) = open_run(run), open_own(own)
        p, x = shared_at(o.data), run.x
        n, width, order = p.y.size, p.n_columns, p.order
        shift = x.size > width
        a = 1.0 / (n * o.strengths[0])
        b = 1.0 / (n * o.strengths[1]) if shift else 0.0
        end = first + count
        for begin in range(first, end, order.size):
            here = min(order.size, end - begin)
            fill_order(order, here, due, True, seed, epoch, begin)
            for k in range(here):
                order[k] = int(o.due[order[k]])
            for k in range(here):
                i = order[k]
                if k + AHEAD < here:
                    fetch(rows, order[k + AHEAD])
                weight = np.float64(p.weights[i]) if p.weights.size > 0 else 1.0
                q = a * o.squares[i] + b
                z, s = np.float64(margin(rows, i, x)), o.slopes[i]
                if shift:
                    z += np.float64(x[width])
                if not math.isfinite(z):
                    return 0.0
                if weight == 0.0 or q == 0.0:
                    o.points[i] = z
                    o.idle[i] += 1.0
                    continue
                z += q * s
                t = weight * invoke_value(o.implicit, (z, np.float64(p.y[i]), q * weight, o.data))
                change = t - s
                o.points[i] = z - q * t
                if change == 0.0:
                    o.idle[i] += 1.0
                    continue
                o.idle[i], o.slopes[i] = 0.0, t
                add(rows, i, x.dtype.type(-a * change), x)
                if shift:
                    x[width] -= b * change
        return 1.0

    made = jit_for_address(measure, fastmath=FUSED), jit_for_address(sweep, fastmath=FUSED)
    return Functions(address(made[0], VISIT), address(made[1], VISIT), made)


@functools.cache
def passes(dtype: np.dtype, shared_at: Any) -> tuple[Any, ...]:
    """Passes over all rows in their order, called from Python.

    ``begin(run, own, ratio, start, end)`` gives the terms from ``start`` to ``end`` the slopes that would be best if q
    were ``ratio`` times as large; ``restore(run, own, by_tile)`` makes
    the point that goes with the slopes; ``certify(run, own, out)`` puts the sum of the
    losses into ``out[0]``, the sum of the gaps of all terms into ``out[1]``; ``choose(run, own, epoch)`` writes
    down which terms an epoch visits and returns how many; ``visit`` calls one of `Functions`; ``settle(sweep, run, own,
    due, seed, epoch, visits)`` sweeps over the terms that moved until it has made so many visits, or wakes all if
    none did; it returns the number of visits, or NaN where something is not finite.
    """
    open_run, doubles = unpacker(run_type(dtype)), array_at(np.float64)

    def look(p, o, x, begin, count):
        for j in range(count):
            p.order[j] = begin + j
        invoke_value(p.margins, (pointer(x), x.size, pointer(p.order), count, count, o.data))

    look = scalar(look)

    def begin(run, own, ratio, start, end):
        run, o = open_run(run), dual_at(own)
        p = shared_at(o.data)
        n, x, shift = p.y.size, run.x, run.x.size > p.n_columns
        for first in range(start, end, p.target.size):
            count = min(p.target.size, end - first)
            look(p, o, x, first, count)
            for j in range(count):
                i, z, weight = first + j, np.float64(p.z[0, j]), np.float64(p.weight[j])
                q = o.squares[i] / (n * o.strengths[0])
                if shift:
                    q += 1.0 / (n * o.strengths[1])
                q *= ratio
                t = weight * invoke_value(o.implicit, (z, np.float64(p.target[j]), q * weight, o.data)) if (
                    weight > 0.0 and q > 0.0) else 0.0  # fmt: skip
                o.slopes[i], o.points[i] = t, z - q * t

    def restore(run, own, by_tile):
        run, o = open_run(run), dual_at(own)
        p, x, centre = shared_at(o.data), run.x, run.state[0]
        n, total, width = p.y.size, p.parts[0], p.n_columns
        for j in range(x.size):
            total[j] = 0.0
        for first in range(0, n, p.target.size):
            count = min(p.target.size, n - first)
            for j in range(count):
                p.order[j] = first + j
                p.z[0, j] = o.slopes[first + j]
            if by_tile:
                for j in range(x.size):
                    run.work[j] = 0
                invoke(p.gather, (pointer(run.work), x.size, pointer(p.order), count, o.data))
                for j in range(x.size):
                    total[j] += run.work[j]
            else:
                invoke(p.gather_part, (pointer(total), x.size, pointer(p.order), count, o.data))
        for j in range(x.size):
            x[j] = centre[j] - total[j] / (n * o.strengths[1 if j >= width else 0])

    def certify(run, own, out):
        run, o, out = open_run(run), dual_at(own), doubles(out, 2)
        p, x = shared_at(o.data), run.x
        n, fun, gap = p.y.size, 0.0, 0.0
        for first in range(0, n, p.target.size):
            count, linear = min(p.target.size, n - first), 0.0
            look(p, o, x, first, count)
            above = invoke_value(p.values, (count, o.data))
            for j in range(count):
                linear += o.slopes[first + j] * (np.float64(p.z[0, j]) - o.points[first + j])
                p.z[0, j] = o.points[first + j]
            fun += above
            gap += above - invoke_value(p.values, (count, o.data)) - linear
        out[0], out[1] = fun, gap

    def choose(run, own, epoch):
        o, due = dual_at(own), 0
        for i in range(o.idle.size):
            age = int(o.idle[i])
            age = age if age < LONGEST else LONGEST
            if (epoch + i) & ((1 << age) - 1) == 0:
                o.due[due] = i
                due += 1
        return due

    def settle(sweep, run, own, due, seed, epoch, visits):
        o, done, turn = dual_at(own), 0, 0
        while True:
            moved = 0
            for k in range(due):
                if o.idle[int(o.due[k])] == 0.0:
                    o.due[moved] = o.due[k]
                    moved += 1
            due, turn = moved, turn + 1
            if due == 0 and turn == 1:
                for i in range(o.idle.size):
                    o.idle[i] = 0.0
            if due == 0 or done >= visits:
                return np.float64(done)
            if invoke_value(sweep, (run, own, 0, due, due, seed, epoch + (turn << 24))) == 0.0:
                return math.nan
            done += due

    def visit(where, run, own, first, count, due, seed, epoch):
        return invoke_value(where, (run, own, first, count, due, seed, epoch))

    whole = types.intp
    return (precompile(jit(begin), (whole, whole, types.float64, whole, whole), final=True),
            precompile(jit(restore), (whole, whole, types.boolean), final=True),
            precompile(jit(certify), (whole,) * 3, final=True),
            precompile(jit(choose), (whole,) * 3, final=True),
            precompile(jit(settle), (whole,) * 7, final=True),
            precompile(jit(visit), (whole,) * 8, final=True))  # fmt: skip
