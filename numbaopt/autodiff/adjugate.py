r"""The cofactors of a matrix, singular or not: the derivative of its determinant with respect to each item."""

from __future__ import annotations

from numba.extending import register_jitable

from .blas import substitute
from .tape import load_float, load_word, store_float, store_word


@register_jitable
def _swap(a, first, second, step, count):
    """Exchange two rows or columns: so many items, ``step`` apart."""
    for k in range(count):
        one, other = a + 8 * (first + k * step), a + 8 * (second + k * step)
        kept = load_float(one)
        store_float(one, load_float(other))
        store_float(other, kept)


@register_jitable
def _factor_completely(a, n, orders):
    """P A Q = L U in place, the largest item first; how many pivots are not 0, and the sign of the permutations."""
    sign = 1.0
    for k in range(n):
        store_word(orders + 8 * k, k)
        store_word(orders + 8 * (n + k), k)
    for k in range(n):
        row, column, largest = k, k, 0.0
        for i in range(k, n):
            for j in range(k, n):
                size = abs(load_float(a + 8 * (i * n + j)))
                if size > largest:
                    row, column, largest = i, j, size
        if largest == 0.0:
            return k, sign
        if row != k:
            sign = -sign
            _swap(a, k * n, row * n, 1, n)
            _swap(orders, k, row, 1, 1)
        if column != k:
            sign = -sign
            _swap(a, k, column, n, n)
            _swap(orders, n + k, n + column, 1, 1)
        for i in range(k + 1, n):
            ratio = load_float(a + 8 * (i * n + k)) / load_float(a + 8 * (k * n + k))
            store_float(a + 8 * (i * n + k), ratio)
            for j in range(k + 1, n):
                place = a + 8 * (i * n + j)
                store_float(place, load_float(place) - ratio * load_float(a + 8 * (k * n + j)))
    return n, sign


@register_jitable
def cofactors(a, n, work, orders, made):
    r"""Write the cofactors of A, which is overwritten, to ``made``; of n^2 floats and 2 n words of memory besides.

    With :math:`P A Q = L U` and U split before its last column, :math:`U_{11}, u, d`,

    .. math:: \operatorname{adj}(A) = \det P \det Q \; Q \operatorname{adj}(U)\, L^{-1} P, \qquad
        \operatorname{adj}(U) = \det U_{11} \begin{pmatrix} d\, U_{11}^{-1} & -U_{11}^{-1} u \\ 0 & 1 \end{pmatrix}.

    Pivots are the largest of what is left, so that of a singular matrix d alone is 0, or all cofactors are.
    """
    for k in range(n * n):
        store_float(made + 8 * k, 0.0)
        store_float(work + 8 * k, 0.0)
    rank, scale = _factor_completely(a, n, orders)
    if n == 0 or rank < n - 1:
        return
    last = n - 1
    for i in range(n):
        store_float(work + 8 * (i * n + i), 1.0)
    for i in range(last):
        scale *= load_float(a + 8 * (i * n + i))
    substitute(a, n, n, False, False, True, work, n)
    d = load_float(a + 8 * (last * n + last))
    for i in range(last):
        for j in range(n):
            place = work + 8 * (i * n + j)
            store_float(place, d * load_float(place) - load_float(a + 8 * (i * n + last)) * load_float(
                work + 8 * (last * n + j)))  # fmt: skip
    substitute(a, n, last, False, True, False, work, n)
    for i in range(n):
        for j in range(n):
            row, column = load_word(orders + 8 * j), load_word(orders + 8 * (n + i))
            store_float(made + 8 * (row * n + column), scale * load_float(work + 8 * (i * n + j)))
