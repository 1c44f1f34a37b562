r"""Rules for ``np.linalg``: solve, inv, det, slogdet, cholesky.

A matrix is factorised once, for the value and for all derivatives: in forward mode the directions are columns of one
triangular system, in reverse mode the factors wait on the tape.  The derivatives are

.. math:: y = A^{-1} b: \; dy = A^{-1} (db - dA\, y), \qquad d \det A = \operatorname{tr}(\operatorname{adj}(A)\, dA),
    \qquad L L^T = A: \; dL = L\, \Phi(L^{-1} dA\, L^{-T}),

with :math:`\Phi` the lower triangle and half of the diagonal.  ``det`` has its derivative also where A is singular (the
cofactors); of the others, singular matrices are an error, also of ``slogdet``, whose value there is minus infinity.
Giles, M. (2008). Collected matrix derivative results for forward and reverse mode algorithmic differentiation.
doi:10.1007/978-3-540-68942-3_4

All functions here but the last know numbers by their addresses and how many words each takes: 1 of a float, 3 of a
`Taped` (value, node, tape), 1 + width of a `Dual`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import overload, register_jitable

from ._jit import jit_inside
from .adjugate import cofactors
from .arrays import address, empty, keep_alive
from .blas import factor, factor_definite, multiply, odd_interchanges, solve_factored, substitute
from .blocks import carrier, chosen_by_type, end_block, room_for
from .numbers import Dual, Number, Taped, number_in
from .statements import begin_statement, end_statement, set_edge
from .tape import allocate, load_float, load_word, release, store_float, store_word

ALMOST_SINGULAR = 1e-6  # of pivots, the smallest by the largest: below, cofactors are found in another way
SINGULAR = "Matrix is singular to machine precision."
NOT_FINITE = "Array must not contain infs or NaNs."
NOT_DEFINITE = "Matrix is not positive definite."


# ------------------------------------------------------------------------------------------ numbers at addresses
@register_jitable
def _copy_values(target, source, words, count):
    for k in range(count):
        store_float(target + 8 * k, load_float(source + 8 * words * k))


@register_jitable
def _copy_nodes(target, source, count):
    for k in range(count):
        store_word(target + 8 * k, load_word(source + 24 * k + 8))


@register_jitable
def _tape_at(source, words, count):
    """The tape that any of so many numbers is on, or 0."""
    for k in range(count if words == 3 else 0):
        where = load_word(source + 24 * k + 16)
        if where != 0:
            return where
    return 0


@register_jitable
def _store_taped(made, values, count, first, where):
    """Write results whose nodes are those from ``first`` on; 0: constants."""
    for k in range(count):
        store_float(made + 24 * k, load_float(values + 8 * k))
        store_word(made + 24 * k + 8, first + k if first != 0 else 0)
        store_word(made + 24 * k + 16, where if first != 0 else 0)


@register_jitable
def _memory(words):
    where = allocate(8 * max(words, 1))
    if where == 0:
        raise MemoryError("no memory for derivatives of np.linalg")
    return where


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
    _copy_values(lu, a, words, n * n)
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
    lu = _memory(n * n + n + n * m)
    pivots, y = lu + 8 * n * n, lu + 8 * (n * n + n)
    _copy_values(y, b, b_words, n * m)
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
    g = _memory(n * m + n * n)
    _copy_values(g, results, 1, n * m)
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
    where = _tape_at(a, a_words, n * n)
    if where == 0:
        where = _tape_at(b, b_words, n * m)
    of_a = 4 + n * n + n + n * m
    of_b = of_a + (n * n if a_words > 1 else 0)
    length = of_b + (n * m if b_words > 1 else 0)
    payload, kept = room_for(where, length)
    lu = payload + 32
    pivots, y = lu + 8 * n * n, lu + 8 * (n * n + n)
    for k, word in enumerate((n, m, of_a if a_words > 1 else 0, of_b if b_words > 1 else 0)):
        store_word(payload + 8 * k, word)
    _copy_values(y, b, b_words, n * m)
    failure = _factor(a, a_words, n, lu, pivots)
    if failure != 0:
        if not kept:
            release(payload)
        _refuse(failure)
    solve_factored(lu, pivots, n, False, y, m)
    if a_words > 1:
        _copy_nodes(payload + 8 * of_a, a, n * n)
    if b_words > 1:
        _copy_nodes(payload + 8 * of_b, b, n * m)
    _store_taped(made, y, n * m, end_block(where, payload, length, kept, _solve_back(), n * m), where)
    if not kept:
        release(payload)


# -------------------------------------------------------------------------------------------------- determinants
@jit_inside
def _determinant(a, words, n, slopes, logarithm):
    """(sign, log|det|) or (1, det), and the derivative with respect to each item at an address."""
    lu = _memory(n * n + n)
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
        lu = _memory(2 * n * n + 2 * n)
        _copy_values(lu, a, words, n * n)
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
    where = _tape_at(a, words, count)
    place, node = begin_statement(where, count), 0
    if place != 0:
        for k in range(count):
            set_edge(place, k, load_float(slopes + 8 * k), load_word(a + 24 * k + 8))
        node = end_statement(where, place, count)
    store_float(made, value)
    store_word(made + 8, node)
    store_word(made + 16, where if node != 0 else 0)


# ------------------------------------------------------------------------------------------- Cholesky's factor
@register_jitable
def _halve(t, n, width):
    """The lower triangle, with half of the diagonal, of a matrix whose items are so many floats."""
    for i in range(n):
        for j in range(i, n):
            for d in range(width):
                place = t + 8 * ((i * n + j) * width + d)
                store_float(place, 0.5 * load_float(place) if i == j else 0.0)


@register_jitable
def _transpose(t, n, width):
    for i in range(n):
        for j in range(i):
            for d in range(width):
                first, second = t + 8 * ((i * n + j) * width + d), t + 8 * ((j * n + i) * width + d)
                kept = load_float(first)
                store_float(first, load_float(second))
                store_float(second, kept)


@jit_inside
def _cholesky_forward(a, a_words, made, n, words):
    """``made = L``; only the lower triangle of A is looked at."""
    width = words - 1
    factor = _memory(n * n + 2 * n * n * width)
    change, product = factor + 8 * n * n, factor + 8 * (n * n + n * n * width)
    _copy_values(factor, a, a_words, n * n)
    if factor_definite(factor, n):
        release(factor)
        raise np.linalg.LinAlgError(NOT_DEFINITE)
    for i in range(n):
        for j in range(n):
            source = a + 8 * (max(i, j) * n + min(i, j)) * words + 8
            for d in range(width):
                store_float(change + 8 * ((i * n + j) * width + d), load_float(source + 8 * d))
    for _ in range(2):
        substitute(factor, n, n, False, False, False, change, n * width)
        _transpose(change, n, width)
    _halve(change, n, width)
    multiply(factor, False, change, False, product, n, n * width, n)
    for k in range(n * n):
        store_float(made + 8 * words * k, load_float(factor + 8 * k))
        for d in range(width):
            store_float(made + 8 * (words * k + 1 + d), load_float(product + 8 * (k * width + d)))
    release(factor)


def _cholesky_carry(payload, results, adjoint):
    n = load_word(payload)
    factor, nodes = payload + 8, payload + 8 + 8 * n * n
    g = _memory(2 * n * n)
    middle = g + 8 * n * n
    for i in range(n):
        for j in range(n):
            store_float(g + 8 * (i * n + j), load_float(results + 8 * (i * n + j)) if j <= i else 0.0)
    multiply(factor, True, g, False, middle, n, n, n)
    _halve(middle, n, 1)
    for i in range(n):
        for j in range(i):
            half = 0.5 * load_float(middle + 8 * (i * n + j))
            store_float(middle + 8 * (i * n + j), half)
            store_float(middle + 8 * (j * n + i), half)
    for _ in range(2):
        substitute(factor, n, n, True, True, False, middle, n)
        _transpose(middle, n, 1)
    for i in range(n):
        for j in range(i + 1):
            place = adjoint + 8 * load_word(nodes + 8 * (i * n + j))
            factor_of_two = 1.0 if i == j else 2.0
            store_float(place, load_float(place) + factor_of_two * load_float(middle + 8 * (i * n + j)))
    release(g)


_cholesky_back = carrier(_cholesky_carry)


@jit_inside
def _cholesky_reverse(a, a_words, made, n, words):
    """``made = L``: a block of the size, the factor, the nodes."""
    where, length = _tape_at(a, a_words, n * n), 1 + 2 * n * n
    payload, kept = room_for(where, length)
    factor = payload + 8
    store_word(payload, n)
    _copy_values(factor, a, a_words, n * n)
    if factor_definite(factor, n):
        if not kept:
            release(payload)
        raise np.linalg.LinAlgError(NOT_DEFINITE)
    _copy_nodes(factor + 8 * n * n, a, n * n)
    _store_taped(made, factor, n * n, end_block(where, payload, length, kept, _cholesky_back(), n * n), where)
    if not kept:
        release(payload)


# -------------------------------------------------------------------------------------- what users' functions call
def _words(kind: Any) -> int:
    """How many words an item of an array takes."""
    number = number_in(kind)
    if number is None:
        return 1
    return 3 if isinstance(number, Taped) else 1 + number.width


@chosen_by_type("a")
def _by_rows(a):
    """The array with its numbers, or float64, row by row."""
    if isinstance(a.dtype, Number) or a.dtype == types.float64:
        return (lambda a: a) if a.layout == "C" else (lambda a: a.copy())
    return lambda a: a.copy().astype(np.float64)


@register_jitable
def _square(a):
    if a.shape[0] != a.shape[1]:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square.")
    return a.shape[0]


@overload(np.linalg.solve)
def _solve(a, b):
    number = number_in(a) or number_in(b)
    if number is None:
        return None
    run = _solve_forward if isinstance(number, Dual) else _solve_reverse
    a_words, b_words, words, vector = _words(a), _words(b), _words(number), b.ndim == 1

    def build(a, b):
        n = _square(a)
        if b.shape[0] != n:
            raise np.linalg.LinAlgError("Incompatible array sizes, system is not solvable.")
        left, right, made = _by_rows(a), _by_rows(b), empty(b.shape, number)
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
        words, linear = _words(a), _linear_forward if isinstance(number, Dual) else _linear_reverse

        def run(a):
            n = _square(a)
            left, slopes, made = _by_rows(a), np.empty(n * n), empty(1, number)
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


@overload(np.linalg.cholesky)
def _cholesky(a):
    number = number_in(a)
    if not (isinstance(a, types.Array) and number):
        return None
    run, words = _cholesky_forward if isinstance(number, Dual) else _cholesky_reverse, _words(a)

    def build(a):
        n = _square(a)
        left, made = _by_rows(a), empty(a.shape, number)
        run(address(left), words, address(made), n, words)
        keep_alive(left)
        return made

    return build
