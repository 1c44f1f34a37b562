"""How to read a row of a data matrix, dense or sparse: all that the loops over rows know of storage.

A storage is a NamedTuple of arrays with three static scalar functions: ``margin`` (a row times a vector), ``add`` (a
multiple of a row onto a vector) and ``fetch`` (ask the memory for a row that will be needed soon).
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

CACHE_LINE = 64  # bytes


@intrinsic
def _prefetch_item(typing_context, values, index):
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


def prefetch_item(values, index):
    """Ask for the cache line of ``values.flat[index]`` to be read; nothing in the interpreter."""


@overload(prefetch_item, inline="always")
def _prefetch(values, index):
    return lambda values, index: _prefetch_item(values, index)


class DenseRows(NamedTuple):
    """A C-contiguous matrix."""

    X: np.ndarray

    @staticmethod
    def margin(rows, i, x):
        row = rows.X[i]
        total = row[0] * x[0]
        for j in range(1, row.size):
            total += row[j] * x[j]
        return total

    @staticmethod
    def add(rows, i, scale, g):
        row = rows.X[i]
        for j in range(row.size):
            g[j] += scale * row[j]

    @staticmethod
    def fetch(rows, i):
        width = rows.X.shape[1]
        step = 64 // rows.X.itemsize
        begin = i * width
        for k in range(begin, begin + min(width, 16 * step), step):
            prefetch_item(rows.X, k)


class SparseRows(NamedTuple):
    """A matrix in compressed sparse rows: int32 columns, int64 row starts; duplicates add up, order is free."""

    values: np.ndarray
    columns: np.ndarray
    starts: np.ndarray

    @staticmethod
    def margin(rows, i, x):
        total = x[0] - x[0]
        for k in range(rows.starts[i], rows.starts[i + 1]):
            total += rows.values[k] * x[rows.columns[k]]
        return total

    @staticmethod
    def add(rows, i, scale, g):
        for k in range(rows.starts[i], rows.starts[i + 1]):
            g[rows.columns[k]] += scale * rows.values[k]

    @staticmethod
    def fetch(rows, i):
        begin = rows.starts[i]
        prefetch_item(rows.values, begin)
        prefetch_item(rows.columns, begin)


def unlocked(array: np.ndarray) -> np.ndarray:
    """A view of a C-contiguous array that Numba types as any other, even where NumPy calls it read-only.

    Nothing in the package writes to a user's data; without this a memory map would be a type, and a compile, of its
    own.  The caller keeps ``array`` alive.
    """
    if array.flags.writeable and type(array) is np.ndarray:
        return array
    memory = (ctypes.c_char * max(array.nbytes, 1)).from_address(array.ctypes.data)
    return np.frombuffer(memoryview(memory), array.dtype, array.size).reshape(array.shape)


def as_rows(X: Any) -> tuple[DenseRows | SparseRows, int, int]:
    """Storage of a validated dense or sparse matrix, and its shape; converts layout, index types and byte order."""
    dtype = np.float32 if X.dtype == np.float32 else np.float64
    if isinstance(X, np.ndarray):
        return DenseRows(unlocked(np.ascontiguousarray(X, dtype))), *X.shape
    if X.shape[1] > np.iinfo(np.int32).max:
        raise ValueError(f"X has {X.shape[1]} columns; sparse data may have at most 2**31 - 1")
    values = unlocked(np.ascontiguousarray(X.data, dtype))
    columns = unlocked(np.ascontiguousarray(X.indices, np.int32))
    return SparseRows(values, columns, unlocked(np.ascontiguousarray(X.indptr, np.int64))), *X.shape
