r"""Minibatch steps on sparse rows that meet only the unknowns of the batch.

`linear` is for gradient descent, :math:`\beta \leftarrow \mathrm{soft}((1 - \eta \lambda_2)\, \beta - \eta g,\; \eta
\lambda_1)`, exactly as dense steps would have it.  With :math:`\beta = a v` and a running threshold :math:`\theta`,

.. math:: a \leftarrow (1 - \eta \lambda_2)\, a, \qquad
    v_j \leftarrow \mathrm{soft}(v_j,\; \theta - \theta_j) - \tfrac{\eta}{a} g_j, \qquad
    \theta_j \leftarrow \theta, \qquad \theta \leftarrow \theta + \tfrac{\eta}{a} \lambda_1

for the coefficients j of the batch; nothing else is touched until a is so small that all are rescaled.

`touched` is for any rule.  Either the rule leaves an unknown alone whose gradient is zero, and has at most a proximal
step to make up for, or the user has chosen that only the unknowns of the batch are updated.

References
----------
Langford, J., Li, L., Zhang, T. (2009). Sparse online learning via truncated gradient. JMLR 10, 777-801.
Duchi, J., Singer, Y. (2009). Efficient online and batch learning using forward backward splitting. JMLR 10, 2899-2934.
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
    pointer_to,
    scalar,
)
from .._packed import unpacker
from .descent import floats
from .epochs import AHEAD, BEGIN, SETTLE, SWEEP, Functions
from .minibatch import numbers
from .state import clipped, run_type, soft

SMALLEST = 1e-9  # scale


class Batch(NamedTuple):
    """What both kinds of steps need."""

    data: int  # the address of a problem's data
    rows: Any
    size: int  # terms
    slopes: np.ndarray  # (margins a row, size): scratch
    slope: int  # of one row with one margin, `kernels.slope_type`; or 0: the steps have more


class Touch(NamedTuple):
    """What `touched` needs beside; the arrays are scratch."""

    batch: Batch
    place: np.ndarray  # (columns,): where among the columns of the batch, from 1 on; 0: nowhere
    which: np.ndarray  # (n,): the unknowns of the batch
    g: np.ndarray  # (n,): their gradient
    coefficients: np.ndarray  # (ahead, width)
    hyper: int  # addresses
    prepare: int
    advance: int
    pay: int  # or 0: no proximal step is owed
    rate: int  # the column of the coefficients that a proximal step is in proportion to
    exact: bool  # whether steps are those that all unknowns would take
    distinct: bool  # whether no column occurs twice in a batch


@functools.cache
def batch_type(dtype: np.dtype, storage: Any) -> Any:
    """Numba's type of `Batch`."""
    kinds = types.int64, storage.type_for(dtype), types.int64, array(dtype, 2), types.int64
    return types.BaseTuple.from_types(kinds, Batch)


@functools.cache
def touch_type(dtype: np.dtype, storage: Any) -> Any:
    """Numba's type of `Touch`."""
    kinds = (batch_type(dtype, storage), array(np.int32), array(np.int64), array(dtype), array(dtype, 2),
             *(types.int64,) * 5, types.boolean, types.boolean)  # fmt: skip
    return types.BaseTuple.from_types(kinds, Touch)


def _looking(storage: Any, many: bool, single: bool) -> Any:
    """``look(p, o, x, order, first, here, known, scale) -> finite, slope``: the slopes of a batch.

    Whether its margins are finite; ``single``: the slope of its only row, which then stands nowhere else.
    """
    margin, fetch = scalar(storage.margin), scalar(storage.fetch)

    def look(p, o, x, order, first, here, known, scale):
        z, width, outputs, tile = p.z, p.n_columns, p.outputs if many else 1, p.target.size
        penalised, finite = outputs * width, True
        for begin in range(0, here, tile):
            count = min(tile, here - begin)
            for b in range(count):
                at = first + begin + b
                i = order[at]
                if at + AHEAD < known:
                    fetch(o.rows, order[at + AHEAD])
                for m in range(outputs):
                    w = x[m * width : (m + 1) * width] if many else x
                    shift = x[penalised + m] if x.size > penalised else x[0] - x[0]
                    z[m, b] = scale * margin(o.rows, i, w) + shift
                    finite = finite and math.isfinite(z[m, b])
                p.target[b] = p.y[i]
                if p.weights.size > 0:
                    p.weight[b] = p.weights[i]
            invoke(p.slopes, (count, o.data))
            if here > tile:
                for m in range(outputs):
                    for b in range(count):
                        o.slopes[m, begin + b] = z[m, b]
        return finite, x[0] - x[0]

    def look_at_one(p, o, x, order, first, here, known, scale):
        """The next step waits for this one: nothing passes through memory that need not."""
        at, width = np.uint64(first), p.n_columns
        i = order[at]
        if at + np.uint64(AHEAD) < np.uint64(known):
            fetch(o.rows, order[at + np.uint64(AHEAD)])
        z = scale * margin(o.rows, i, x) + (x[width] if x.size > width else x[0] - x[0])
        slope = x.dtype.type(invoke_value(o.slope, (z, p.y[i], o.data)))
        if p.weights.size > 0:
            slope *= p.weights[i]
        return math.isfinite(z), slope

    return scalar(look_at_one if single else look, FUSED)


def _pay_all(x, to, extra, penalised, scale):
    for k in range(penalised):
        to[k] = scale * (soft(x[k], extra[1] - extra[2 + k]) if extra.size > 2 else x[k])


def _pay_row(rows, i, x, paid, theta, width, outputs):
    for e in range(np.uint64(rows.starts[i]), np.uint64(rows.starts[i + 1])):
        for m in range(np.uint64(outputs)):
            k = m * np.uint64(width) + np.uint64(rows.columns[e])
            x[k] = soft(x[k], theta - paid[k])
            paid[k] = theta


pay_all, pay_row = jit_inside(_pay_all, fastmath=FUSED), scalar(_pay_row, FUSED)


def linear(dtype: np.dtype, storage: Any, many: bool, single: bool, shared_at: Any) -> Functions:
    """Compile the steps of gradient descent; ``many``: margins a row; ``single``: batches of one row with one margin.

    ``extra``: a, or 0 for 1, and theta; with l1 every theta_j.
    """
    open_run, open_own = unpacker(run_type(dtype)), unpacker(batch_type(dtype, storage))
    look, add, vector = _looking(storage, many, single), scalar(storage.add, FUSED), array_at(dtype)

    def sweep(run, rates, steps, order, count, known, own):
        run, o, order, rates = open_run(run), open_own(own), numbers(order, known), floats(rates, steps)
        p, rows = shared_at(o.data), o.rows
        x, extra, width = run.x, run.extra, p.n_columns
        outputs = p.outputs if many else 1
        penalised = outputs * width
        slopes = o.slopes if not single and o.size > p.target.size else p.z
        a, theta = extra[0] if extra[0] != 0 else 1.0, extra[1]
        for j in range(steps):
            first = j if single else j * o.size
            here = 1 if single else min(o.size, count - first)
            if extra.size > 2:
                for b in range(first, first + here):
                    pay_row(rows, order[b], x, extra[2:], theta, width, outputs)
            finite, only = look(p, o, x, order, first, here, known, x.dtype.type(a))
            if not finite:
                extra[0], extra[1] = a, theta
                return float(j)
            rate = rates[j]
            a *= 1.0 - rate * p.l2
            if a < SMALLEST:
                extra[1] = theta
                pay_all(x, x, extra, penalised, a)
                for k in range(2, extra.size):
                    extra[k] = 0.0
                a, theta = 1.0, 0.0
            scale = x.dtype.type(-rate / (a * here))
            for m in range(outputs):
                v = x[m * width : (m + 1) * width] if many else x
                for b in range(here):
                    add(rows, order[first + b], scale * (only if single else slopes[m, b]), v)
            for k in range(penalised, x.size):
                total = 0.0
                for b in range(here):
                    total += only if single else slopes[k - penalised, b]
                x[k] = (1.0 - rate * p.intercept_l2) * x[k] - rate / here * total
            if extra.size > 2:
                theta += rate * p.l1 / a
        extra[0], extra[1] = a, theta
        return float(steps)

    def settle(run, to, keep, own):
        run, o = open_run(run), open_own(own)
        p = shared_at(o.data)
        x, extra, penalised = run.x, run.extra, (p.outputs if many else 1) * p.n_columns
        to_values = vector(to, x.size)
        if extra[0] == 0:  # nothing is owed
            for k in range(x.size if keep else 0):
                to_values[k] = x[k]
            return
        for k in range(penalised, x.size):
            to_values[k] = x[k]
        pay_all(x, to_values, extra, penalised, extra[0])
        if not keep:
            for k in range(extra.size):
                extra[k] = 0.0

    return _addresses(sweep, settle)


def _meeting(storage: Any, many: bool) -> Any:
    """``gather(own, width, outputs, order, first, here, slopes)``: the gradients of the columns that were met."""
    value = scalar(storage.value, FUSED)

    def meet(own, order, first, here):
        """Write the columns of the batch into ``which``, their places into ``place``; how many there are."""
        rows, which, place, found = own.batch.rows, own.which, own.place, np.uint64(0)
        for b in range(first, first + here):
            for e in range(np.uint64(rows.starts[order[b]]), np.uint64(rows.starts[order[b] + 1])):
                c = np.uint32(rows.columns[e])
                if own.distinct:
                    which[found] = c
                    found += np.uint64(1)
                elif place[c] == 0:
                    which[found] = c
                    found += np.uint64(1)
                    place[c] = found
        return np.int64(found)

    def gather(own, order, first, here, found, m, slopes):
        """The gradients by margin ``m``, in the places of the columns."""
        rows, g, place = own.batch.rows, own.g[m * found : (m + 1) * found], own.place
        for f in range(0 if own.distinct else found):
            g[f] = 0
        for b in range(here):
            i, slope = order[first + b], slopes[m, b]
            if own.distinct:
                begin = np.uint64(rows.starts[i])
                for e in range(begin, np.uint64(rows.starts[i + 1])):
                    g[e - begin] = value(rows, e, slope)
            else:
                for e in range(np.uint64(rows.starts[i]), np.uint64(rows.starts[i + 1])):
                    g[np.uint32(place[np.uint32(rows.columns[e])] - 1)] += value(rows, e, slope)

    return scalar(meet, FUSED), scalar(gather, FUSED)


def touched(dtype: np.dtype, storage: Any, many: bool, shared_at: Any) -> Functions:
    """Compile the steps of a rule on the unknowns of a batch.

    ``extra``: with l1 the sum of all rates, then for every unknown that sum when it last made a proximal step.
    """
    open_run, open_own = unpacker(run_type(dtype)), unpacker(touch_type(dtype, storage))
    look, vector = _looking(storage, many, False), array_at(dtype)
    meet, gather = _meeting(storage, many)

    def sweep(run, rates, steps, order, count, known, own):
        run, own, order, rates = open_run(run), open_own(own), numbers(order, known), floats(rates, steps)
        o, now, which, g = own.batch, run.now[0], own.which, own.g
        p = shared_at(o.data)
        x, extra, width, n = run.x, run.extra, p.n_columns, run.x.size
        outputs = p.outputs if many else 1
        penalised = outputs * width
        slopes = o.slopes if o.size > p.target.size else p.z
        row, ahead, coefficients = -1, len(own.coefficients), pointer(own.coefficients)
        for j in range(steps):
            row = row + 1 if row + 1 < ahead else 0
            if row == 0:
                until = min(steps - j, ahead)
                invoke(own.prepare, (own.hyper, pointer_to(rates, j), now.step + j + 1, coefficients, until))
            first = j * o.size
            here = min(o.size, count - first)
            found = meet(own, order, first, here)
            met = found * outputs
            for m in range(1, outputs):
                for f in range(found):
                    which[m * found + f] = m * width + which[f]
            if own.pay != 0:
                invoke(own.pay, (coefficients, row, pointer(x), pointer(run.state), n, pointer(which), met,
                                 pointer(extra)))  # fmt: skip
            finite, _ = look(p, o, x, order, first, here, known, x.dtype.type(1))
            if not finite:
                return float(j)
            for m in range(outputs):
                gather(own, order, first, here, found, m, slopes)
            for f in range(0 if own.distinct else found):
                own.place[which[f]] = 0
            for m in range(n - penalised):
                g[met + m] = 0
                for b in range(here):
                    g[met + m] += slopes[m, b]
                which[met + m] = penalised + m
            mean, shrink, shrink_shift = x.dtype.type(1.0 / here), x.dtype.type(p.l2), x.dtype.type(p.intercept_l2)
            for f in range(met):
                g[f] = mean * g[f] + shrink * x[which[f]]
            for f in range(met, met + n - penalised):
                g[f] = mean * g[f] + shrink_shift * x[which[f]]
            met += n - penalised
            if own.exact and now.step + j == 0:  # the first step of a rule may be another one for all unknowns
                met = scatter(which, g, run.work, met)
            invoke(own.advance, (coefficients, row, pointer(x), pointer(g), pointer(run.state), n, pointer(which), met))
            if own.pay != 0:
                extra[0] += own.coefficients[row, own.rate]
                for f in range(met):
                    extra[1 + which[f]] = extra[0]
            for f in range(met if run.lower.size > 0 else 0):
                k = which[f]
                x[k] = clipped(x[k], run.lower[k], run.upper[k])
        return float(steps)

    def settle(run, to, keep, own):
        run, own = open_run(run), open_own(own)
        x, extra, which, n = run.x, run.extra, own.which, run.x.size
        to_values = vector(to, n)
        for k in range(n):
            to_values[k] = x[k]
        if own.pay != 0 and extra[0] > 0:
            for k in range(n):
                which[k] = k
            coefficients = pointer(own.coefficients)
            own.coefficients[0, 0] = 0
            invoke(own.prepare, (own.hyper, pointer(extra), 2, coefficients, 1))
            invoke(own.pay, (coefficients, 0, to, pointer(run.state), n, pointer(which), n, pointer(extra)))
            if not keep:
                for k in range(extra.size):
                    extra[k] = 0.0

    return _addresses(sweep, settle)


@jit_inside
def scatter(which, g, work, met):
    """Spread the gradients ``g`` of the unknowns ``which`` over all; returns how many these are."""
    n = work.size
    for k in range(n):
        work[k] = 0
    for f in range(met):
        work[which[f]] = g[f]
    for k in range(n):
        which[k], g[k] = k, work[k]
    return n


def _addresses(sweep, settle):
    def begin(run, own):
        pass

    made = tuple(jit_for_address(function, fastmath=FUSED) for function in (begin, sweep, settle))
    return Functions(address(made[0], BEGIN), address(made[1], SWEEP), address(made[2], SETTLE), made)
