"""Products of matrices and vectors: ``np.dot``, ``@``, ``np.vdot``, ``ndarray.dot``."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numba.core import types
from numba.extending import overload, overload_method, register_jitable

from .arrays import address, empty, keep_alive, taped
from .blas import multiply
from .blocks import (
    ACTIVE,
    FIRST,
    HEADER,
    SECOND,
    TRANSPOSED,
    begin_block,
    carrier,
    columns_of,
    end_block,
    fill_numbers,
    flags_of,
    has,
    node_of,
    result_of,
    rows_of,
    scatter,
    tape_of,
    values_of,
    write_operand,
)
from .numbers import Dual, NumberArray, Taped, number_in
from .scalars import lift, value
from .statements import begin_statement, end_statement, set_edge
from .tape import allocate, load_word, release


def _dot(a, b):
    number = number_in(a) or number_in(b)
    if number is None or not (isinstance(a, types.Array) and isinstance(b, types.Array)):
        return None
    if a.ndim == 1 and b.ndim == 1:
        return _inner(a, b, number)
    if isinstance(number, Taped):
        return _recorded(a, b)
    if not number_in(a) and a.dtype == types.float64 and a.ndim == 2 and a.layout in "CF":
        return _constant_times_dual(a, b)
    return _LOOPS[a.ndim, b.ndim](number)


overload(np.dot)(_dot)
overload(np.vdot)(_dot)
overload(operator.matmul)(_dot)


@overload_method(NumberArray, "dot")
def _method(a, b):
    return lambda a, b: np.dot(a, b)


def _inner(a, b, number):
    if isinstance(number, Dual):

        def forward(a, b):
            total = lift(0.0, number)
            for i in range(_same(a.shape[0], b.shape[0])):
                total += a[i] * b[i]
            return total

        return forward
    both = number_in(a) is not None and number_in(b) is not None
    first = number_in(a) is not None

    def reverse(a, b):
        n = _same(a.shape[0], b.shape[0])
        total = 0.0
        for i in range(n):
            total += value(a[i]) * value(b[i])
        where = tape_of(a)
        if where == 0:
            where = tape_of(b)
        place, count = np.int64(0), 2 * n if both else n
        if where != 0:
            place = begin_statement(where, count)
        if place == 0:
            return taped(total, np.int64(0), np.int64(0))
        for i in range(n):
            if both:
                set_edge(place, 2 * i, value(b[i]), node_of(a[i]))
                set_edge(place, 2 * i + 1, value(a[i]), node_of(b[i]))
            elif first:
                set_edge(place, i, value(b[i]), node_of(a[i]))
            else:
                set_edge(place, i, value(a[i]), node_of(b[i]))
        return taped(total, end_statement(where, place, count), where)

    return reverse


@register_jitable
def _same(m, n):
    if m != n:
        raise ValueError("incompatible array sizes for a product")
    return m


# ----------------------------------------------------------------------------------------------- forward mode
def _constant_times_dual(a, b):
    """All derivatives at once: to BLAS, a row of numbers is a row of floats."""
    number, contiguous, transposed = b.dtype, b.layout == "C", a.layout == "F"
    shape = register_jitable((lambda m, b: m) if b.ndim == 1 else (lambda m, b: (m, b.shape[1])))
    floats = number.width + 1

    def build(a, b):
        _same(a.shape[1], b.shape[0])
        right = b if contiguous else b.copy()
        made = empty(shape(a.shape[0], b), number)
        multiply(address(a), transposed, address(right), False, address(made), a.shape[0], floats * columns_of(b),
                 a.shape[1])  # fmt: skip
        keep_alive(right)
        return made

    return build


def _matrix_vector(number):
    def build(a, b):
        _same(a.shape[1], b.shape[0])
        made = empty(a.shape[0], number)
        for i in range(a.shape[0]):
            total = lift(0.0, number)
            for k in range(a.shape[1]):
                total += a[i, k] * b[k]
            made[i] = total
        return made

    return build


def _vector_matrix(number):
    def build(a, b):
        _same(a.shape[0], b.shape[0])
        made = empty(b.shape[1], number)
        for j in range(b.shape[1]):
            made[j] = lift(0.0, number)
        for k in range(b.shape[0]):
            for j in range(b.shape[1]):
                made[j] += a[k] * b[k, j]
        return made

    return build


def _matrix_matrix(number):
    def build(a, b):
        _same(a.shape[1], b.shape[0])
        made = empty((a.shape[0], b.shape[1]), number)
        for i in range(a.shape[0]):
            for j in range(b.shape[1]):
                made[i, j] = lift(0.0, number)
            for k in range(a.shape[1]):
                left = a[i, k]
                for j in range(b.shape[1]):
                    made[i, j] += left * b[k, j]
        return made

    return build


_LOOPS: dict[tuple[int, int], Any] = {(2, 1): _matrix_vector, (1, 2): _vector_matrix, (2, 2): _matrix_matrix}


# ----------------------------------------------------------------------------------------------- reverse mode
def _carry(payload, results, adjoint):
    """With G the adjoints of C = A B: those of A are G B', of B they are A' G."""
    rows, inner, columns = load_word(payload), load_word(payload + 8), load_word(payload + 8 * (SECOND + 1))
    a, b = values_of(payload, FIRST), values_of(payload, SECOND)
    space = allocate(8 * inner * max(rows, columns))
    if space == 0:
        raise MemoryError("no memory for the adjoints of a product")
    if has(payload, FIRST, ACTIVE):
        multiply(results, False, b, not has(payload, SECOND, TRANSPOSED), space, rows, inner, columns)
        scatter(payload, FIRST, space, adjoint)
    if has(payload, SECOND, ACTIVE):
        multiply(a, not has(payload, FIRST, TRANSPOSED), results, False, space, inner, columns, rows)
        scatter(payload, SECOND, space, adjoint)
    release(space)


_carry_back = carrier(_carry)


def _recorded(a, b):
    number = number_in(a) or number_in(b)
    row = a.ndim == 1  # a vector on the left is a row
    vector = a.ndim + b.ndim == 3
    shape = register_jitable((lambda m, n: m * n) if vector else (lambda m, n: (m, n)))

    def build(a, b):
        where = tape_of(a)
        if where == 0:
            where = tape_of(b)
        rows, inner = (1, a.shape[0]) if row else (rows_of(a), columns_of(a))
        columns = columns_of(b)
        _same(inner, rows_of(b))
        first, second = flags_of(where, a), flags_of(where, b)
        payload, words, kept = begin_block(where, rows, inner, first, inner, columns, second, rows, columns)
        free = write_operand(payload, FIRST, HEADER, a, rows, inner, first)
        write_operand(payload, SECOND, free, b, inner, columns, second)
        multiply(values_of(payload, FIRST), first & TRANSPOSED != 0, values_of(payload, SECOND),
                 second & TRANSPOSED != 0, result_of(payload), rows, columns, inner)  # fmt: skip
        made = empty(shape(rows, columns), number)
        fill_numbers(made, payload, end_block(where, payload, words, kept, _carry_back(), rows * columns), where)
        if not kept:
            release(payload)
        return made

    return build
