r"""Rules for ``np.linalg``: solve, inv, det, slogdet, cholesky.

Each is a function of one or two matrices on floats, how a change of them changes the result (forward mode), and how
adjoints of the result become adjoints of them (reverse mode): Giles, M. (2008). Collected matrix derivative results for
forward and reverse mode algorithmic differentiation. doi:10.1007/978-3-540-68942-3_4
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import overload, register_jitable

from .arrays import address, empty, floats_at, keep_alive, tangents, values, with_tangent
from .blocks import (
    ACTIVE,
    FIRST,
    HEADER,
    RESULT,
    SECOND,
    begin_block,
    carrier,
    columns_of,
    end_block,
    fill_numbers,
    flags_of,
    has,
    operand,
    result_of,
    rows_of,
    scatter,
    tape_of,
    write_operand,
)
from .numbers import Dual, number_in
from .scalars import lift
from .tape import load_word, release, store_float


def _pushed(number: Any, compute: Any, change: Any) -> Any:
    """Forward mode: ``compute(a, b)``, and ``change(y, a, b, da, db)`` for each direction."""
    width = number.width

    def run(a, b, first, second):
        y = compute(first, second)
        made = empty(y.shape, number)
        for i in np.ndindex(y.shape):
            made[i] = lift(y[i], number)
        for k in range(width):
            dy = change(y, first, second, tangents(a, k), tangents(b, k))
            for i in np.ndindex(y.shape):
                made[i] = with_tangent(made[i], k, dy[i])
        return made

    return register_jitable(run)


def _recorded(number: Any, compute: Any, pull: Any) -> Any:
    """Reverse mode: a block that keeps operands and result; ``pull(g, y, a, b, want_a, want_b) -> (ga, gb)``."""

    def carry(payload, results, adjoint):
        g = floats_at(results, load_word(payload + 8 * RESULT), load_word(payload + 8 * (RESULT + 1)))
        y = floats_at(result_of(payload), g.shape[0], g.shape[1])
        ga, gb = pull(g, y, operand(payload, FIRST), operand(payload, SECOND))
        if has(payload, FIRST, ACTIVE):
            ga = np.ascontiguousarray(ga)
            scatter(payload, FIRST, address(ga), adjoint)
        if has(payload, SECOND, ACTIVE):
            gb = np.ascontiguousarray(gb)
            scatter(payload, SECOND, address(gb), adjoint)
        keep_alive(ga)
        keep_alive(gb)

    carry_back = carrier(carry)

    def run(a, b, first, second):
        y = compute(first, second)
        where = tape_of(a)
        if where == 0:
            where = tape_of(b)
        flags = flags_of(0, a), flags_of(0, b)  # of no tape: all values are copied, row by row
        rows, columns = y.shape
        payload, words, kept = begin_block(where, rows_of(a), columns_of(a), flags[0], rows_of(b), columns_of(b),
                                           flags[1], rows, columns)  # fmt: skip
        free = write_operand(payload, FIRST, HEADER, a, rows_of(a), columns_of(a), flags[0])
        write_operand(payload, SECOND, free, b, rows_of(b), columns_of(b), flags[1])
        place = result_of(payload)
        for i in range(rows):
            for j in range(columns):
                store_float(place, y[i, j])
                place += 8
        made = empty(y.shape, number)
        fill_numbers(made, payload, end_block(where, payload, words, kept, carry_back()), where)
        if not kept:
            release(payload)
        return made

    return register_jitable(run)


def _function(number: Any, compute: Any, change: Any, pull: Any) -> Any:
    compute, change, pull = map(register_jitable, (compute, change, pull))
    return _pushed(number, compute, change) if isinstance(number, Dual) else _recorded(number, compute, pull)


def _column(b):
    raise NotImplementedError


@overload(_column)
def _choose_column(b):
    return (lambda b: b.copy().reshape((b.shape[0], 1))) if b.ndim == 1 else (lambda b: b.copy())


# --------------------------------------------------------------------------------------------------- one by one
@overload(np.linalg.solve)
def _solve(a, b):
    number = number_in(a) or number_in(b)
    if number is None:
        return None
    vector = b.ndim == 1

    def compute(a, b):
        return np.linalg.solve(a, b)

    def change(y, a, b, da, db):
        return np.linalg.solve(a, db - da @ y)

    def pull(g, y, a, b):
        gb = np.linalg.solve(a.T.copy(), g)
        return -gb @ y.T, gb

    run = _function(number, compute, change, pull)

    def build(a, b):
        right = _column(b)
        made = run(a, right, values(a), values(right))
        return made.reshape(made.size) if vector else made

    return build


def _of_one(compute: Any, change: Any, pull: Any) -> Any:
    """The overload of a function of one square matrix, whose result is a matrix."""

    def choose(a):
        if not (isinstance(a, types.Array) and number_in(a)):
            return None
        run = _function(a.dtype, compute, change, pull)

        def build(a):
            nothing = np.empty((0, 0))
            return run(a, nothing, values(a), nothing)

        return build

    return choose


def _inv(a, b):
    return np.linalg.inv(a)


def _inv_change(y, a, b, da, db):
    return -(y @ da @ y)


def _inv_pull(g, y, a, b):
    return -(y.T @ g @ y.T), b


def _cholesky(a, b):
    return np.linalg.cholesky(a)


@register_jitable
def _lower_half(m):
    """The lower triangle, with half of the diagonal."""
    for i in range(m.shape[0]):
        m[i, i] *= 0.5
        m[i, i + 1 :] = 0.0
    return m


def _cholesky_change(y, a, b, da, db):
    below = da.copy()
    for i in range(da.shape[0]):  # the function looks at the lower triangle only
        for j in range(i):
            below[j, i] = below[i, j]
    left = np.linalg.solve(y, below)
    return y @ _lower_half(np.linalg.solve(y, left.T.copy()))


def _cholesky_pull(g, y, a, b):
    middle = _lower_half(y.T.copy() @ np.tril(g))
    middle = 0.5 * (middle + middle.T)
    upper = y.T.copy()
    s = np.linalg.solve(upper, np.linalg.solve(upper, middle).T.copy())
    ga = s + s.T
    for i in range(ga.shape[0]):
        ga[i, i] *= 0.5
        ga[i, i + 1 :] = 0.0
    return ga, b


def _logdet(a, b):
    made = np.empty((1, 1))
    made[0, 0] = np.linalg.slogdet(a)[1]
    return made


def _logdet_change(y, a, b, da, db):
    made = np.empty((1, 1))
    made[0, 0] = np.trace(np.linalg.solve(a, da))
    return made


def _logdet_pull(g, y, a, b):
    return np.linalg.inv(a).T.copy() * g[0, 0], b


def _cofactors(a, b):
    """The derivative of det with respect to each item, also of singular matrices."""
    u, s, v = np.linalg.svd(a)
    n = s.size
    weights = np.ones(n)
    for i in range(n):
        for j in range(n):
            if j != i:
                weights[i] *= s[j]
    sign = np.linalg.det(u) * np.linalg.det(v)
    return sign * ((u * weights) @ v)


_cofactors = register_jitable(_cofactors)


def _det(a, b):
    made = np.empty((1, 1))
    made[0, 0] = np.linalg.det(a)
    return made


def _det_change(y, a, b, da, db):
    made = np.empty((1, 1))
    made[0, 0] = (_cofactors(a, b) * da).sum()
    return made


def _det_pull(g, y, a, b):
    return _cofactors(a, b) * g[0, 0], b


overload(np.linalg.inv)(_of_one(_inv, _inv_change, _inv_pull))
overload(np.linalg.cholesky)(_of_one(_cholesky, _cholesky_change, _cholesky_pull))
_det_matrix, _logdet_matrix = _of_one(_det, _det_change, _det_pull), _of_one(_logdet, _logdet_change, _logdet_pull)


@overload(np.linalg.det)
def _choose_det(a):
    found = _det_matrix(a)
    if found is None:
        return None
    inner = register_jitable(found)
    return lambda a: inner(a)[0, 0]


@overload(np.linalg.slogdet)
def _choose_slogdet(a):
    found = _logdet_matrix(a)
    if found is None:
        return None
    inner = register_jitable(found)
    return lambda a: (np.linalg.slogdet(values(a))[0], inner(a)[0, 0])


