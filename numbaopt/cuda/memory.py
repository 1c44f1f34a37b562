"""Memory of a GPU as kernels see it: numbers at an address, sixteen bytes at a time, and a window on a matrix.

An address is an integer, as in the loops of the CPU, also in the simulator.  What stands at one is known to lie in
global memory, which spares each access the question.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.np.arrayobj import populate_array

from ..loops.state import NOW, RECORD
from ..optimizers._program import row_loader
from ._backend import SIMULATED, intrinsic
from .functions import device

# the records of a run, aligned: else they would be read byte by byte
RECORDS = {name: np.dtype((np.record, np.dtype(kind.descr, align=True)))
           for name, kind in (("now", NOW), ("history", RECORD))}  # fmt: skip
WIDE_BYTES = 16  # what a thread reads or writes at once
_GLOBAL = 1  # the address space


def lanes_of(dtype: Any) -> int:
    """How many numbers a thread reads or writes at once."""
    return WIDE_BYTES // np.dtype(dtype).itemsize


def memory_at(address: Any, dtype: Any, count: int) -> np.ndarray:
    """In the simulator: the numbers at an address."""
    nbytes = int(count) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * nbytes).from_address(int(address)), dtype) if nbytes else np.empty(0, dtype)


class Rows:
    """What stands in the simulator for a matrix whose rows lie ``pitch`` apart, of columns ``first``, ... only."""

    def __init__(self, values: Any, pitch: int, first: int, columns: int, row: int = 0):
        self._values, self._pitch, self._first, self._columns, self._row = values, pitch, first, columns, row

    def _place(self, where: tuple[int, int]) -> int:
        row, column = where[0] + self._row, int(where[1]) - self._first
        if not 0 <= column < self._columns:
            raise IndexError(f"coordinate {where[1]} is not among the {self._columns} from {self._first} on")
        return int(row) * self._pitch + column

    def __getitem__(self, where: Any) -> Any:
        if isinstance(where, slice):
            return Rows(self._values, self._pitch, self._first, self._columns, self._row + where.start)
        return self._values[self._place(where)]

    def __setitem__(self, where: Any, value: Any) -> None:
        self._values[self._place(where)] = value


def _pointer(context, builder, address, place, kind):
    """The place in global memory of number ``place`` from an address on."""
    pointer = builder.inttoptr(address, ir.PointerType(context.get_data_type(kind), _GLOBAL))
    return builder.gep(pointer, [place])


def _array(context, builder, kind, data, shape):
    """A C-contiguous array at ``data``."""
    made = context.make_array(kind)(context, builder)
    itemsize = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    strides = [itemsize]
    for size in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], size))
    populate_array(made, data=data, shape=shape, strides=strides, itemsize=itemsize, meminfo=None)
    return made._getvalue()


@functools.cache
def rows_at(dtype: np.dtype, rows: int) -> Any:
    """``at(address, pitch)``: a matrix in global memory whose rows lie ``pitch`` numbers apart."""
    if SIMULATED:
        return lambda address, pitch: Rows(memory_at(address, dtype, rows * pitch), pitch, 0, pitch)
    return _array_at(dtype, rows)


@functools.cache
def numbers_at(dtype: np.dtype) -> Any:
    """``at(address, n)``: a vector in global memory."""
    if SIMULATED:
        return lambda address, n: memory_at(address, dtype, n)
    return _array_at(dtype)


@functools.cache
def vector_at(dtype: np.dtype) -> Any:
    """``at(address, n)``: a vector in any memory.

    For whole loops: libNVVM takes minutes over one whose arrays are known to lie in global memory.
    """
    if SIMULATED:
        return numbers_at(dtype)
    return _array_at(dtype, in_global=False)


if SIMULATED:

    def address_of(values):
        return values.ctypes.data
else:

    @intrinsic
    def address_of(typing_context, values):
        """Where an array begins."""

        def codegen(context, builder, signature, arguments):
            data = context.make_array(values)(context, builder, arguments[0]).data
            return builder.ptrtoint(data, ir.IntType(64))

        return types.intp(values), codegen


def _array_at(dtype: np.dtype, *rows: int, in_global: bool = True) -> Any:
    """An intrinsic ``at(address, n)``: the array of shape (n,), or (rows, n), at an address."""
    kind = types.Array(numba.from_dtype(dtype), 1 + len(rows), "C")

    @intrinsic
    def at(typing_context, address, n):
        def codegen(context, builder, signature, arguments):
            pointer = context.get_data_type(kind.dtype).as_pointer()
            if in_global:
                where = _pointer(context, builder, arguments[0], context.get_constant(types.intp, 0), kind.dtype)
                data = builder.addrspacecast(where, pointer)
            else:
                data = builder.inttoptr(arguments[0], pointer)
            shape = [*(context.get_constant(types.intp, row) for row in rows), arguments[1]]
            return _array(context, builder, kind, data, shape)

        return kind(types.intp, types.intp), codegen

    return at


def tuple_of(kind: Any, first: int, count: int, width: int) -> Any:
    """``load(matrix, j)``: numbers of row ``j`` of a matrix, or of a vector, which is one row, as a tuple."""
    if SIMULATED:
        return lambda matrix, j: tuple((matrix[j, k] if matrix.ndim == 2 else matrix[k])
                                       for k in range(first, first + count))  # fmt: skip
    return device(row_loader(kind, first, count, width))


@functools.cache
def window(columns: int) -> Any:
    """``at(local, first)``: a thread's own matrix, ``columns`` wide, whose columns are called ``first``, ..."""
    if SIMULATED:
        return lambda local, first: Rows(local.reshape(-1), columns, int(first), columns)

    @intrinsic
    def at(typing_context, local, first):
        kind = types.Array(local.dtype, 2, "C")

        def codegen(context, builder, signature, arguments):
            held = context.make_array(local)(context, builder, arguments[0])
            data = builder.gep(held.data, [builder.neg(arguments[1])])
            rows = builder.extract_value(held.shape, 0)
            return _array(context, builder, kind, data, [rows, context.get_constant(types.intp, columns)])

        return kind(local, types.uint64), codegen

    return at


@functools.cache
def transfer(columns: int) -> tuple[Any, Any]:
    """``load(local, row, address, place)`` and ``store``: a row of a thread's own matrix and global memory, at once."""
    if SIMULATED:

        def there(local, address, place):
            address = int(address) + int(place) * local.itemsize
            assert address % (columns * local.itemsize) == 0
            return memory_at(address, local.dtype, columns)

        def load(local, row, address, place):
            local[row, :] = there(local, address, place)

        def store(local, row, address, place):
            there(local, address, place)[:] = local[row, :]

        return load, store

    def wide(move):
        def typed(typing_context, local, row, address, place):
            def codegen(context, builder, signature, arguments):
                kind = context.get_data_type(local.dtype)
                vector = ir.VectorType(kind, columns)
                size = columns * context.get_abi_sizeof(kind)
                held = context.make_array(local)(context, builder, arguments[0])
                first = builder.mul(arguments[1], context.get_constant(types.intp, columns))
                own = builder.bitcast(builder.gep(held.data, [first]), vector.as_pointer())
                there = _pointer(context, builder, arguments[2], arguments[3], local.dtype)
                there = builder.bitcast(there, ir.PointerType(vector, _GLOBAL))
                move(builder, own, there, size)
                return context.get_dummy_value()

            return types.void(local, types.intp, types.intp, types.uint64), codegen

        return intrinsic(typed)

    def from_global(builder, own, there, size):
        builder.store(builder.load(there, align=size), own, align=size // columns)

    def to_global(builder, own, there, size):
        builder.store(builder.load(own, align=size // columns), there, align=size)

    return wide(from_global), wide(to_global)


@functools.cache
def piece(columns: int) -> Any:
    """``load(local, row, matrix, i, j)``: the numbers from (i, j) on of a C-contiguous matrix, at once."""
    if SIMULATED:

        def load(local, row, matrix, i, j):
            for k in range(columns):
                local[row, k] = matrix[i, j + k]

        return load

    @intrinsic
    def load_at_once(typing_context, local, row, matrix, i, j):
        def codegen(context, builder, signature, arguments):
            kind = context.get_data_type(local.dtype)
            vector, size = ir.VectorType(kind, columns), context.get_abi_sizeof(kind)
            held, table = (context.make_array(of)(context, builder, arguments[where])
                           for of, where in ((local, 0), (matrix, 2)))  # fmt: skip
            first = builder.mul(arguments[1], context.get_constant(types.intp, columns))
            own = builder.bitcast(builder.gep(held.data, [first]), vector.as_pointer())
            place = builder.add(builder.mul(arguments[3], builder.extract_value(table.shape, 1)), arguments[4])
            there = builder.bitcast(builder.gep(table.data, [place]), vector.as_pointer())
            there = builder.addrspacecast(there, ir.PointerType(vector, _GLOBAL))
            builder.store(builder.load(there, align=columns * size), own, align=size)
            return context.get_dummy_value()

        return types.void(local, types.intp, matrix, types.intp, types.intp), codegen

    return load_at_once


__all__ = [
    "RECORDS", "Rows", "address_of", "lanes_of", "memory_at", "numbers_at", "piece", "rows_at", "transfer",
    "tuple_of", "vector_at", "window",
]  # fmt: skip
