r"""Rules for ``np.linalg``: solve, inv, det, slogdet.

A matrix is factorised once, for the value and for all derivatives: in forward mode the directions are columns of one
triangular system, in reverse mode the factors wait on the tape.  The derivatives are

.. math:: y = A^{-1} b: \; dy = A^{-1} (db - dA\, y), \qquad d \det A = \operatorname{tr}(\operatorname{adj}(A)\, dA).

``det`` has its derivative also where A is singular (the cofactors); of the others, singular matrices are an error, also
of ``slogdet``, whose value there is minus infinity.
Giles, M. (2008). Collected matrix derivative results for forward and reverse mode algorithmic differentiation.
doi:10.1007/978-3-540-68942-3_4
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import overload, register_jitable

from ._jit import jit_inside
from .adjugate import cofactors
from .arrays import address, empty, keep_alive
from .blas import factor, multiply, odd_interchanges, solve_factored
from .blocks import carrier, end_block, room_for
from .matrices import by_rows, copy_nodes, copy_values, memory, square_size, store_taped, tape_at, words_of
from .numbers import Dual, number_in
from .statements import begin_statement, end_statement, set_edge
from .tape import load_float, load_word, release, store_float, store_word

ALMOST_SINGULAR = 1e-6  # of pivots, the smallest by the largest: below, cofactors are found in another way
SINGULAR = "Matrix is singular to machine precision."
NOT_FINITE = "Array must not contain infs or NaNs."


@register_jitable
def _infinite(a, count):
    """Whether any value is infinite or NaN."""
    found = False
    for k in range(count):
        entry = load_float(a + 8 * k)
        found = found or entry - entry != 0.0
    return found


@register_jitable
def _factor(a, words, n, lu, pivots):
    """Copy and factorise a matrix of numbers: 0, or 1 where it is singular, 2 where it is not finite."""
    copy_values(lu, a, words, n * n)
    if _infinite(lu, n * n):
        return 2
    return 1 if factor(lu, n, pivots) else 0


@register_jitable
def _refuse(failure):
    if failure == 2:
        raise np.linalg.LinAlgError(NOT_FINITE)
    if failure == 1:
        raise np.linalg.LinAlgError(SINGULAR)


# ------------------------------------------------------------------------------------------------------- systems
@jit_inside
def _solve_forward(a, a_words, b, b_words, made, n, m, words):
    """``made = A^-1 B``, (n, m) numbers: as a matrix of floats, values are columns besides the directions."""
    lu = memory(n * n + n + n * m)
    pivots, y = lu + 8 * n * n, lu + 8 * (n * n + n)
    copy_values(y, b, b_words, n * m)
    failure = _factor(a, a_words, n, lu, pivots)
    if failure != 0:
        release(lu)
        _refuse(failure)
    solve_factored(lu, pivots, n, False, y, m)
    for k in range(n * m):
        for d in range(words):
            active = d < b_words
            store_float(made + 8 * (k * words + d), load_float(b + 8 * (k * b_words + d)) if active else 0.0)
    if a_words > 1:
        for i in range(n):
            for k in range(n):
                for j in range(m):
                    entry = load_float(y + 8 * (k * m + j))
                    place, slopes = made + 8 * (i * m + j) * words, a + 8 * (i * n + k) * words
                    for d in range(8, 8 * words, 8):
                        store_float(place + d, load_float(place + d) - load_float(slopes + d) * entry)
    solve_factored(lu, pivots, n, False, made, m * words)
    release(lu)


def _solve_carry(payload, results, adjoint):
    """With G the adjoints of Y = A^-1 B: those of B are A'^-1 G, of A they are -(A'^-1 G) Y'."""
    n, m = load_word(payload), load_word(payload + 8)
    of_a, of_b = load_word(payload + 16), load_word(payload + 24)
    lu = payload + 32
    pivots, y = lu + 8 * n * n, lu + 8 * (n * n + n)
    g = memory(n * m + n * n)
    copy_values(g, results, 1, n * m)
    solve_factored(lu, pivots, n, True, g, m)
    if of_b != 0:
        _add(adjoint, payload + 8 * of_b, g, 1.0, n * m)
    if of_a != 0:
        multiply(g, False, y, True, g + 8 * n * m, n, n, m)
        _add(adjoint, payload + 8 * of_a, g + 8 * n * m, -1.0, n * n)
    release(g)


@register_jitable
def _add(adjoint, nodes, values, factor, count):
    """Add to the adjoints of some nodes."""
    for k in range(0, 8 * count, 8):
        place = adjoint + 8 * load_word(nodes + k)
        store_float(place, load_float(place) + factor * load_float(values + k))


_solve_back = carrier(_solve_carry)


@jit_inside
def _solve_reverse(a, a_words, b, b_words, made, n, m, words):
    """``made = A^-1 B``, (n, m) numbers: a block of the sizes, where nodes are, the factors, the result, the nodes."""
    where = tape_at(a, a_words, n * n)
    if where == 0:
        where = tape_at(b, b_words, n * m)
    of_a = 4 + n * n + n + n * m
    of_b = of_a + (n * n if a_words > 1 else 0)
    length = of_b + (n * m if b_words > 1 else 0)
    payload, kept = room_for(where, length)
    lu = payload + 32
    pivots, y = lu + 8 * n * n, lu + 8 * (n * n + n)
    for k, word in enumerate((n, m, of_a if a_words > 1 else 0, of_b if b_words > 1 else 0)):
        store_word(payload + 8 * k, word)
    copy_values(y, b, b_words, n * m)
    failure = _factor(a, a_words, n, lu, pivots)
    if failure != 0:
        if not kept:
            release(payload)
        _refuse(failure)
    solve_factored(lu, pivots, n, False, y, m)
    if a_words > 1:
        copy_nodes(payload + 8 * of_a, a, n * n)
    if b_words > 1:
        copy_nodes(payload + 8 * of_b, b, n * m)
    store_taped(made, y, n * m, end_block(where, payload, length, kept, _solve_back(), n * m), where)
    if not kept:
        release(payload)


# -------------------------------------------------------------------------------------------------- determinants
@jit_inside
def _determinant(a, words, n, slopes, logarithm):
    """(sign, log|det|) or (1, det), and the derivative with respect to each item at an address."""
    lu = memory(n * n + n)
    pivots = lu + 8 * n * n
    failure = _factor(a, words, n, lu, pivots)
    if failure == 2 or (logarithm and failure == 1):
        release(lu)
        _refuse(failure)
    sign = -1.0 if odd_interchanges(pivots, n) else 1.0
    value, smallest, largest = 0.0 if logarithm else sign, np.inf, 0.0
    for i in range(n):
        pivot = load_float(lu + 8 * (i * n + i))
        smallest, largest = min(smallest, abs(pivot)), max(largest, abs(pivot))
        if logarithm:
            value += np.log(abs(pivot))
            sign = sign if pivot > 0.0 else -sign
        else:
            value *= pivot
    if logarithm or smallest > ALMOST_SINGULAR * largest:
        for k in range(n * n):
            store_float(slopes + 8 * k, 0.0)
        for i in range(n):
            store_float(slopes + 8 * (i * n + i), 1.0 if logarithm else value)
        solve_factored(lu, pivots, n, True, slopes, n)
        release(lu)
    else:
        release(lu)
        lu = memory(2 * n * n + 2 * n)
        copy_values(lu, a, words, n * n)
        cofactors(lu, n, lu + 8 * n * n, lu + 16 * n * n, slopes)
        release(lu)
    return (sign if logarithm else 1.0), value


@jit_inside
def _linear_forward(a, count, words, slopes, value, made):
    """The number with a value and one slope for each of so many others."""
    store_float(made, value)
    for d in range(8, 8 * words, 8):
        total = 0.0
        for k in range(count):
            total += load_float(slopes + 8 * k) * load_float(a + 8 * words * k + d)
        store_float(made + d, total)


@jit_inside
def _linear_reverse(a, count, words, slopes, value, made):
    """The same: one statement."""
    where = tape_at(a, words, count)
    place, node = begin_statement(where, count), 0
    if place != 0:
        for k in range(count):
            set_edge(place, k, load_float(slopes + 8 * k), load_word(a + 24 * k + 8))
        node = end_statement(where, place, count)
    store_float(made, value)
    store_word(made + 8, node)
    store_word(made + 16, where if node != 0 else 0)


# -------------------------------------------------------------------------------------- what users' functions call
@overload(np.linalg.solve)
def _solve(a, b):
    number = number_in(a) or number_in(b)
    if number is None:
        return None
    run = _solve_forward if isinstance(number, Dual) else _solve_reverse
    a_words, b_words, words, vector = words_of(a), words_of(b), words_of(number), b.ndim == 1

    def build(a, b):
        n = square_size(a)
        if b.shape[0] != n:
            raise np.linalg.LinAlgError("Incompatible array sizes, system is not solvable.")
        left, right, made = by_rows(a), by_rows(b), empty(b.shape, number)
        m = 1 if vector else b.shape[-1]
        run(address(left), a_words, address(right), b_words, address(made), n, m, words)
        keep_alive(left)
        keep_alive(right)
        return made

    return build


@overload(np.linalg.inv)
def _inv(a):
    if not (isinstance(a, types.Array) and number_in(a)):
        return None
    return lambda a: np.linalg.solve(a, np.eye(a.shape[0]))


def _determinants(logarithm: bool) -> Any:
    """The overload of det, or of slogdet."""

    def choose(a):
        number = number_in(a)
        if not (isinstance(a, types.Array) and number):
            return None
        words, linear = words_of(a), _linear_forward if isinstance(number, Dual) else _linear_reverse

        def run(a):
            n = square_size(a)
            left, slopes, made = by_rows(a), np.empty(n * n), empty(1, number)
            sign, value = _determinant(address(left), words, n, address(slopes), logarithm)
            linear(address(left), n * n, words, address(slopes), value, address(made))
            keep_alive(left)
            keep_alive(slopes)
            return sign, made[0]

        inner = register_jitable(run)
        return (lambda a: inner(a)) if logarithm else (lambda a: inner(a)[1])

    return choose


overload(np.linalg.det)(_determinants(False))
overload(np.linalg.slogdet)(_determinants(True))
