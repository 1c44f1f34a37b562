r"""The rule for ``np.linalg.cholesky``.

.. math:: L L^T = A: \; dL = L\, \Phi(L^{-1} dA\, L^{-T}),

with :math:`\Phi` the lower triangle and half of the diagonal.  Only the lower triangle of A is looked at.
Giles, M. (2008). Collected matrix derivative results for forward and reverse mode algorithmic differentiation.
doi:10.1007/978-3-540-68942-3_4
"""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.extending import overload, register_jitable

from ._jit import jit_inside
from .arrays import address, empty, keep_alive
from .blas import factor_definite, multiply, substitute
from .blocks import carrier, end_block, room_for
from .matrices import by_rows, copy_nodes, copy_values, memory, square_size, store_taped, tape_at, words_of
from .numbers import Dual, number_in
from .tape import load_float, load_word, release, store_float, store_word

NOT_DEFINITE = "Matrix is not positive definite."


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
    factor = memory(n * n + 2 * n * n * width)
    change, product = factor + 8 * n * n, factor + 8 * (n * n + n * n * width)
    copy_values(factor, a, a_words, n * n)
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
    g = memory(2 * n * n)
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
    where, length = tape_at(a, a_words, n * n), 1 + 2 * n * n
    payload, kept = room_for(where, length)
    factor = payload + 8
    store_word(payload, n)
    copy_values(factor, a, a_words, n * n)
    if factor_definite(factor, n):
        if not kept:
            release(payload)
        raise np.linalg.LinAlgError(NOT_DEFINITE)
    copy_nodes(factor + 8 * n * n, a, n * n)
    store_taped(made, factor, n * n, end_block(where, payload, length, kept, _cholesky_back(), n * n), where)
    if not kept:
        release(payload)


@overload(np.linalg.cholesky)
def _cholesky(a):
    number = number_in(a)
    if not (isinstance(a, types.Array) and number):
        return None
    run, words = _cholesky_forward if isinstance(number, Dual) else _cholesky_reverse, words_of(a)

    def build(a):
        n = square_size(a)
        left, made = by_rows(a), empty(a.shape, number)
        run(address(left), words, address(made), n, words)
        keep_alive(left)
        return made

    return build
