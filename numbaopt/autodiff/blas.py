"""Products of matrices at addresses, by the BLAS that Numba calls, without its arrays around them."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, register_jitable
from numba.np.linalg import ensure_blas

from .tape import DOUBLE, WORD, store_float

CHAR, POINTER, INT = ir.IntType(8), ir.IntType(8).as_pointer(), ir.IntType(32)


def _slot(builder, value):
    """The address of a constant."""
    slot = cgutils.alloca_once(builder, DOUBLE)
    builder.store(DOUBLE(value), slot)
    return builder.bitcast(slot, POINTER)


def _flag(builder, transposed):
    return builder.select(builder.icmp_unsigned("!=", transposed, WORD(0)), CHAR(ord("t")), CHAR(ord("n")))


def _pointers(builder, addresses):
    return [builder.inttoptr(address, POINTER) for address in addresses]


@intrinsic
def _gemm(typing_context, at, bt, m, n, k, a, lda, b, ldb, c, ldc):
    """BLAS's C = op(A) op(B), column by column."""
    ensure_blas()

    def codegen(context, builder, signature, args):
        at, bt, m, n, k, a, lda, b, ldb, c, ldc = args
        a, b, c = _pointers(builder, (a, b, c))
        kind = ir.FunctionType(INT, [CHAR] * 3 + [WORD] * 3 + [POINTER, POINTER, WORD, POINTER, WORD, POINTER, POINTER,
                                                              WORD])  # fmt: skip
        function = cgutils.get_or_insert_function(builder.module, kind, "numba_xxgemm")
        builder.call(function, [CHAR(ord("d")), _flag(builder, at), _flag(builder, bt), m, n, k, _slot(builder, 1.0),
                                a, lda, b, ldb, _slot(builder, 0.0), c, ldc])  # fmt: skip
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 11), codegen


@intrinsic
def _gemv(typing_context, at, m, n, a, lda, x, y):
    """BLAS's y = op(A) x, A of m rows and n columns, column by column."""
    ensure_blas()

    def codegen(context, builder, signature, args):
        at, m, n, a, lda, x, y = args
        a, x, y = _pointers(builder, (a, x, y))
        kind = ir.FunctionType(INT, [CHAR] * 2 + [WORD] * 2 + [POINTER, POINTER, WORD, POINTER, POINTER, POINTER])
        function = cgutils.get_or_insert_function(builder.module, kind, "numba_xxgemv")
        builder.call(function, [CHAR(ord("d")), _flag(builder, at), m, n, _slot(builder, 1.0), a, lda, x,
                                _slot(builder, 0.0), y])  # fmt: skip
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
        _gemm(1 if b_transposed else 0, 1 if a_transposed else 0, columns, rows, inner, b,
              inner if b_transposed else columns, a, rows if a_transposed else inner, c, columns)  # fmt: skip
