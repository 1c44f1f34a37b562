"""Products and factorisations of matrices at addresses, by the BLAS and LAPACK that Numba calls, without its arrays.

Matrices lie row by row.  To LAPACK, which goes by columns, what lies there is the transpose: the factors it leaves,
read by rows again, are A = L U P with L lower triangular, U upper triangular with ones on its diagonal, and P the
interchanges of columns in ``pivots``.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, register_jitable
from numba.np.linalg import F_INT_nptype, ensure_blas, ensure_lapack

from .tape import DOUBLE, WORD, load_float, store_float

CHAR, POINTER, INT = ir.IntType(8), ir.IntType(8).as_pointer(), ir.IntType(32)
PIVOT = ir.IntType(8 * np.dtype(F_INT_nptype).itemsize)
BLOCK = 64  # rows of a triangular system that are solved one by one, the rest by products
WIDE = 32  # columns from which on products are worth it


def _slot(builder, value):
    """The address of a number."""
    slot = cgutils.alloca_once(builder, DOUBLE)
    builder.store(value, slot)
    return builder.bitcast(slot, POINTER)


def _flag(builder, transposed):
    return builder.select(builder.icmp_unsigned("!=", transposed, WORD(0)), CHAR(ord("t")), CHAR(ord("n")))


def _pointers(builder, addresses):
    return [builder.inttoptr(address, POINTER) for address in addresses]


@intrinsic
def _gemm(typing_context, at, bt, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """BLAS's C = alpha op(A) op(B) + beta C, column by column."""
    ensure_blas()

    def codegen(context, builder, signature, args):
        at, bt, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc = args
        a, b, c = _pointers(builder, (a, b, c))
        kind = ir.FunctionType(INT, [CHAR] * 3 + [WORD] * 3 + [POINTER, POINTER, WORD, POINTER, WORD, POINTER, POINTER,
                                                              WORD])  # fmt: skip
        function = cgutils.get_or_insert_function(builder.module, kind, "numba_xxgemm")
        builder.call(function, [CHAR(ord("d")), _flag(builder, at), _flag(builder, bt), m, n, k, _slot(builder, alpha),
                                a, lda, b, ldb, _slot(builder, beta), c, ldc])  # fmt: skip
        return context.get_dummy_value()

    word, number = types.int64, types.float64
    return types.void(word, word, word, word, word, number, word, word, word, word, number, word, word), codegen


@intrinsic
def _gemv(typing_context, at, m, n, a, lda, x, y):
    """BLAS's y = op(A) x, A of m rows and n columns, column by column."""
    ensure_blas()

    def codegen(context, builder, signature, args):
        at, m, n, a, lda, x, y = args
        a, x, y = _pointers(builder, (a, x, y))
        kind = ir.FunctionType(INT, [CHAR] * 2 + [WORD] * 2 + [POINTER, POINTER, WORD, POINTER, POINTER, POINTER])
        function = cgutils.get_or_insert_function(builder.module, kind, "numba_xxgemv")
        builder.call(function, [CHAR(ord("d")), _flag(builder, at), m, n, _slot(builder, DOUBLE(1.0)), a, lda, x,
                                _slot(builder, DOUBLE(0.0)), y])  # fmt: skip
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 7), codegen


@register_jitable
def multiply(a, a_transposed, b, b_transposed, c, rows, columns, inner):
    """C = A B, (rows, inner) times (inner, columns), row by row; of a transposed operand the transpose is stored.

    To BLAS, which goes by columns, what is stored are the transposes, and C' = B' A'.
    """
    if rows == 0 or columns == 0:
        return
    if inner == 0:
        for k in range(0, 8 * rows * columns, 8):
            store_float(c + k, 0.0)
    elif columns == 1:
        if a_transposed:
            _gemv(0, rows, inner, a, rows, b, c)
        else:
            _gemv(1, inner, rows, a, inner, b, c)
    elif rows == 1:
        if b_transposed:
            _gemv(1, inner, columns, b, inner, a, c)
        else:
            _gemv(0, columns, inner, b, columns, a, c)
    else:
        _gemm(1 if b_transposed else 0, 1 if a_transposed else 0, columns, rows, inner, 1.0, b,
              inner if b_transposed else columns, a, rows if a_transposed else inner, 0.0, c, columns)  # fmt: skip


# ----------------------------------------------------------------------------------------------- factorisations
@intrinsic
def _getrf(typing_context, n, a, pivots):
    """LAPACK's LU factorisation with interchanges; above 0 where a factor is singular."""
    ensure_lapack()

    def codegen(context, builder, signature, args):
        n, (a, pivots) = args[0], _pointers(builder, args[1:])
        kind = ir.FunctionType(INT, [CHAR, WORD, WORD, POINTER, WORD, POINTER])
        function = cgutils.get_or_insert_function(builder.module, kind, "numba_xxgetrf")
        return builder.sext(builder.call(function, [CHAR(ord("d")), n, n, a, n, pivots]), WORD)

    return types.int64(*(types.int64,) * 3), codegen


@intrinsic
def _potrf(typing_context, n, a):
    """LAPACK's Cholesky factorisation of what is, by rows, the lower triangle; above 0 where it is not definite."""
    ensure_lapack()

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(INT, [CHAR, CHAR, WORD, POINTER, WORD])
        function = cgutils.get_or_insert_function(builder.module, kind, "numba_xxpotrf")
        (a,) = _pointers(builder, args[1:])
        return builder.sext(builder.call(function, [CHAR(ord("d")), CHAR(ord("U")), args[0], a, args[0]]), WORD)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def _pivot(typing_context, pivots, i):
    """An entry of LAPACK's interchanges, from 0."""

    def codegen(context, builder, signature, args):
        entry = builder.load(builder.gep(builder.inttoptr(args[0], PIVOT.as_pointer()), [args[1]]))
        return builder.sub(entry if PIVOT.width == 64 else builder.sext(entry, WORD), WORD(1))

    return types.int64(types.int64, types.int64), codegen


@register_jitable
def factor(a, n, pivots):
    """Factorise a matrix in place; whether it is singular to working precision."""
    return n > 0 and _getrf(n, a, pivots) > 0


@register_jitable
def factor_definite(a, n):
    """Put the Cholesky factor L of A = L L' in its place; whether A is not positive definite."""
    if n > 0 and _potrf(n, a) > 0:
        return True
    for i in range(n):
        for j in range(i + 1, n):
            store_float(a + 8 * (i * n + j), 0.0)
    return False


@register_jitable
def odd_interchanges(pivots, n):
    """Whether the interchanges are an odd permutation."""
    odd = False
    for i in range(n):
        odd = odd != (_pivot(pivots, i) != i)
    return odd


@register_jitable
def substitute(t, stride, n, transposed, backward, unit, b, m):
    """Solve T X = B in place, B of ``m`` columns; rows of the triangle, T or its transpose, are ``stride`` apart."""
    row, size = 8 * m, BLOCK if m >= WIDE else max(n, 1)
    for first in range(0, n, size):
        count = min(size, n - first)
        begin = n - first - count if backward else first
        if first > 0:
            solved = begin + count if backward else 0
            block = t + 8 * (solved * stride + begin if transposed else begin * stride + solved)
            _gemm(0, 1 if transposed else 0, m, count, first, -1.0, b + row * solved, m, block, stride, 1.0,
                  b + row * begin, m)  # fmt: skip
        for step in range(count):
            i = begin + count - 1 - step if backward else begin + step
            for before in range(step):
                k = begin + count - 1 - before if backward else begin + before
                entry = load_float(t + 8 * (k * stride + i if transposed else i * stride + k))
                for j in range(0, row, 8):
                    here = b + row * i + j
                    store_float(here, load_float(here) - entry * load_float(b + row * k + j))
            if not unit:
                pivot = load_float(t + 8 * (i * stride + i))
                for j in range(0, row, 8):
                    store_float(b + row * i + j, load_float(b + row * i + j) / pivot)


@register_jitable
def _interchange(pivots, n, backward, b, m):
    """Interchange rows of B."""
    for step in range(n):
        i = n - 1 - step if backward else step
        other = _pivot(pivots, i)
        if other != i:
            for j in range(0, 8 * m, 8):
                first, second = b + 8 * m * i + j, b + 8 * m * other + j
                kept = load_float(first)
                store_float(first, load_float(second))
                store_float(second, kept)


@register_jitable
def solve_factored(lu, pivots, n, transposed, b, m):
    """Solve A X = B, or A' X = B, in place, from the factors of A."""
    if transposed:
        _interchange(pivots, n, False, b, m)
        substitute(lu, n, n, True, False, True, b, m)
        substitute(lu, n, n, True, True, False, b, m)
    else:
        substitute(lu, n, n, False, False, False, b, m)
        substitute(lu, n, n, False, True, True, b, m)
        _interchange(pivots, n, True, b, m)
