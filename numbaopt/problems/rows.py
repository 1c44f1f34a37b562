"""How to read a row of a data matrix, dense or sparse: all that the loops over rows know of storage.

A storage is a NamedTuple of arrays with static scalar functions: ``margin`` (a row times a vector), ``add`` (a multiple
of a row onto a vector), both also for four rows at once, and ``fetch`` (ask the memory for a row needed soon).
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .._jit import FUSED, array, native, scalar

FIRST_LINES = np.uint64(4)  # of a row that are asked for early; the memory notices that more will be wanted


@native(lambda values, index: None)
def prefetch_item(typing_context, values, index):
    """Ask for the cache line of ``values.flat[index]`` to be read."""

    def codegen(context, builder, signature, arguments):
        kind = signature.args[0]
        data = context.make_array(kind)(context, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        i32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer, i32(0), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(values, types.intp), codegen


class DenseRows(NamedTuple):
    """A C-contiguous matrix."""

    X: np.ndarray

    @staticmethod
    def type_for(dtype):
        """Numba's type."""
        return types.BaseTuple.from_types((array(dtype, 2),), DenseRows)

    @staticmethod
    def margin(rows, i, x):
        X = rows.X
        total = X[i, 0] * x[0]
        for m in range(1, X.shape[1]):
            total += X[i, m] * x[m]
        return total

    @staticmethod
    def margin4(rows, i, j, k, l, x):  # noqa: E741
        X = rows.X
        a, b, c, d = X[i, 0] * x[0], X[j, 0] * x[0], X[k, 0] * x[0], X[l, 0] * x[0]
        for m in range(1, X.shape[1]):
            a += X[i, m] * x[m]
            b += X[j, m] * x[m]
            c += X[k, m] * x[m]
            d += X[l, m] * x[m]
        return a, b, c, d

    @staticmethod
    def add(rows, i, scale, g):
        X = rows.X
        for m in range(X.shape[1]):
            g[m] += scale * X[i, m]

    @staticmethod
    def add4(rows, i, j, k, l, scales, g):  # noqa: E741
        X = rows.X
        a, b, c, d = scales
        for m in range(X.shape[1]):
            g[m] += a * X[i, m] + b * X[j, m] + c * X[k, m] + d * X[l, m]

    @staticmethod
    def fetch(rows, i):
        width = rows.X.shape[1]
        step = 64 // rows.X.itemsize  # items in a cache line
        begin = i * width
        for k in range(begin, begin + min(width, 16 * step), step):
            prefetch_item(rows.X, k)
        prefetch_item(rows.X, begin + min(width, 16 * step) - 1)  # where a row begins within a line, one more


class SparseRows(NamedTuple):
    """A matrix in compressed sparse rows: int32 columns, int64 row starts; columns of a row are sorted, none twice."""

    values: np.ndarray
    columns: np.ndarray
    starts: np.ndarray

    @staticmethod
    def type_for(dtype):
        """Numba's type."""
        return types.BaseTuple.from_types((array(dtype), array(np.int32), array(np.int64)), SparseRows)

    @staticmethod
    def value(rows, k, scale):
        return scale * rows.values[k]

    @staticmethod
    def add(rows, i, scale, g):
        for k in range(np.uint64(rows.starts[i]), np.uint64(rows.starts[i + 1])):
            g[np.uint32(rows.columns[k])] += scale * rows.values[k]

    @staticmethod
    def fetch(rows, i):
        begin, end = np.uint64(rows.starts[i]), np.uint64(rows.starts[i + 1])
        step = np.uint64(64 // rows.values.itemsize)  # items in a cache line
        for k in range(begin, min(end, begin + FIRST_LINES * step), step):
            prefetch_item(rows.values, k)
        for k in range(begin, min(end, begin + FIRST_LINES * np.uint64(16)), np.uint64(16)):
            prefetch_item(rows.columns, k)


class UnitRows(NamedTuple):
    """`SparseRows` whose values are all one, as of categories and of words: a third of the memory to read."""

    columns: np.ndarray
    starts: np.ndarray

    @staticmethod
    def type_for(dtype):
        """Numba's type."""
        return types.BaseTuple.from_types((array(np.int32), array(np.int64)), UnitRows)

    @staticmethod
    def value(rows, k, scale):
        return scale

    @staticmethod
    def add(rows, i, scale, g):
        for k in range(np.uint64(rows.starts[i]), np.uint64(rows.starts[i + 1])):
            g[np.uint32(rows.columns[k])] += scale

    @staticmethod
    def fetch(rows, i):
        begin = np.uint64(rows.starts[i])
        for k in range(begin, min(np.uint64(rows.starts[i + 1]), begin + FIRST_LINES * np.uint64(16)), np.uint64(16)):
            prefetch_item(rows.columns, k)


def _in_four_sums(value: Any) -> Any:
    """A sparse row times a vector: of four running sums none waits long for its last addition.

    They are added as written: leave to reorder makes gathers of them, which take a quarter longer.
    """
    value = scalar(value, FUSED)

    def margin(rows, i, x):
        a = x[0] - x[0]
        b, c, d, k, end = a, a, a, np.uint64(rows.starts[i]), np.uint64(rows.starts[i + 1])
        one, four = np.uint64(1), np.uint64(4)
        while k + four <= end:
            a += value(rows, k, x[np.uint32(rows.columns[k])])
            b += value(rows, k + one, x[np.uint32(rows.columns[k + one])])
            c += value(rows, k + one + one, x[np.uint32(rows.columns[k + one + one])])
            d += value(rows, k + one + one + one, x[np.uint32(rows.columns[k + one + one + one])])
            k += four
        while k < end:
            a += value(rows, k, x[np.uint32(rows.columns[k])])
            k += one
        return (a + b) + (c + d)

    return scalar(margin, FUSED)


def _row_by_row(storage: Any) -> None:
    """Give a sparse storage what reads whole rows, one or four of them."""
    margin, add = _in_four_sums(storage.value), scalar(storage.add, FUSED)

    def margin4(rows, i, j, k, l, x):  # noqa: E741
        return margin(rows, i, x), margin(rows, j, x), margin(rows, k, x), margin(rows, l, x)

    def add4(rows, i, j, k, l, scales, g):  # noqa: E741
        add(rows, i, scales[0], g)
        add(rows, j, scales[1], g)
        add(rows, k, scales[2], g)
        add(rows, l, scales[3], g)

    storage.margin, storage.margin4, storage.add4 = map(staticmethod, (margin, margin4, add4))


_row_by_row(SparseRows)
_row_by_row(UnitRows)
DenseRows.sparse, SparseRows.sparse, UnitRows.sparse = False, True, True


def unlocked(array: np.ndarray) -> np.ndarray:
    """A view of a C-contiguous array that Numba types as any other, even where NumPy calls it read-only.

    Nothing in the package writes to a user's data; without this a memory map would be a type, and a compile, of its
    own.  The view keeps ``array`` alive.
    """
    if array.flags.writeable and type(array) is np.ndarray:
        return array
    memory = (ctypes.c_char * max(array.nbytes, 1)).from_address(array.ctypes.data)
    memory.owner = array
    return np.frombuffer(memoryview(memory), array.dtype, array.size).reshape(array.shape)


def as_rows(X: Any) -> tuple[DenseRows | SparseRows | UnitRows, int, int]:
    """The storage of a validated dense or sparse matrix that is fastest to read, and its shape.

    Layout, index types and byte order are converted where need be.
    """
    dtype = np.float32 if X.dtype == np.float32 else np.float64
    if isinstance(X, np.ndarray):
        return DenseRows(unlocked(np.ascontiguousarray(X, dtype))), *X.shape
    if X.shape[1] > np.iinfo(np.int32).max:
        raise ValueError(f"X has {X.shape[1]} columns; sparse data may have at most 2**31 - 1")
    values = unlocked(np.ascontiguousarray(X.data, dtype))
    columns = unlocked(np.ascontiguousarray(X.indices, np.int32))
    starts = unlocked(np.ascontiguousarray(X.indptr, np.int64))
    ones = values.size > 0 and np.all(values[:1000] == 1) and np.all(values == 1)
    return UnitRows(columns, starts) if ones else SparseRows(values, columns, starts), *X.shape
