"""The kernels of one step, made from a rule's own scalar functions.

All have one signature, ``kernel(x, g, s, n, pitch, row, sums, c)``: addresses of unknowns, gradient and state (whose
rows lie ``pitch`` numbers apart), of a row of coefficients and of the sums of every block, and the row of coefficients
by value (its first number is the rate).

A program without sums is one kernel.  One with sums (clipping by norm, SWATS) adds two for each part that needs some:
every block sums its share, in an order that depends on the number of coordinates and their alignment alone; one block
adds those up, and writes the coefficients to ``row``, where the next kernel finds them.  So the same bits come out
every time.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numba
import numpy as np

from ..optimizers._program import Program, Sums, add_all, cast_all, join_after
from ._backend import SIMULATED, cuda, kernel
from .functions import device
from .groups import BLOCK, WARPS, folder
from .memory import Rows, lanes_of, numbers_at, rows_at, transfer, tuple_of, window

MOST_SUMS = 3 if SIMULATED else 1024  # blocks that sum


class Launch(NamedTuple):
    """A kernel and how many blocks of `BLOCK` threads it takes."""

    kernel: Any
    lanes: int  # coordinates a thread; 0 for a kernel of one block
    most: int | None  # blocks at most

    def blocks(self, n: int) -> int:
        """How many blocks ``n`` coordinates take."""
        if self.lanes == 0:
            return 1
        wanted = -(-n // (self.lanes * BLOCK))
        return wanted if self.most is None else min(wanted, self.most)


@functools.cache
def launches(program: Program, wide: bool) -> tuple[Launch, ...]:
    """The kernels of a step, in order; ``wide`` where all arrays begin at a multiple of sixteen bytes."""
    lanes = lanes_of(program.dtype) if wide else 1
    made, loaded = [], False
    for sums in program.sums:
        made.append(Launch(kernel(_summing(program, sums, lanes, loaded)), lanes, MOST_SUMS))
        made.append(Launch(kernel(_finishing(program, sums, lanes, loaded)), 0, None))
        loaded = True
    return (*made, Launch(kernel(_moving(program, lanes, loaded)), lanes, None))


def _coefficients(program: Program, loaded: bool) -> Any:
    """``at(row, c)``: the coefficients, the rate first, from memory if a kernel before has written them."""
    if not loaded:
        return device(lambda row, c: c)
    width, opened = program.width, numbers_at(program.dtype)
    load = tuple_of(numba.from_dtype(program.dtype), 0, width, width)
    return device(lambda row, c: load(opened(row, width), 0))


def _moving(program: Program, lanes: int, loaded: bool) -> Any:
    """The kernel that moves every coordinate."""
    slots, dtype = program.slots, numba.from_dtype(program.dtype)
    shape = (slots + 2, lanes)  # the state, x, g
    update = device(join_after(program.classes, program.counts, program.rule))
    coefficients, state = _coefficients(program, loaded), rows_at(program.dtype, slots)
    vector, own, alone = numbers_at(program.dtype), window(lanes), _looks_at_itself(program)
    load, store = transfer(lanes)

    def move(x, g, s, n, pitch, row, sums, c):
        c = coefficients(row, c)
        first = (np.uint64(cuda.blockIdx.x) * np.uint64(BLOCK) + np.uint64(cuda.threadIdx.x)) * np.uint64(lanes)
        last = first + np.uint64(lanes)
        if alone and last <= np.uint64(n):
            held = cuda.local.array(shape, dtype)
            for k in range(slots):
                load(held, k, s, np.uint64(k * pitch) + first)
            load(held, slots, x, first)
            load(held, slots + 1, g, first)
            mine = own(held, first)
            for k in range(lanes):
                held[slots, k] = update(c[1:], c[0], held[slots, k], held[slots + 1, k], mine, first + np.uint64(k))
            store(held, slots, x, first)
            for k in range(slots):
                store(held, k, s, np.uint64(k * pitch) + first)
        else:
            everything, xs, gs = state(s, pitch), vector(x, n), vector(g, n)
            for i in range(first, last if last < np.uint64(n) else np.uint64(n)):
                xs[i] = update(c[1:], c[0], xs[i], gs[i], everything, i)

    return move


def _looks_at_itself(program: Program) -> bool:
    """Whether a rule's ``update`` looks at no other coordinate's state, as none of the package does; it is tried."""
    cls, place = program.classes[-1], 5
    state = Rows(np.zeros(program.slots), 1, place, 1)
    update, count = getattr(cls.update, "py_func", cls.update), program.counts[-1]
    try:
        with np.errstate(all="ignore"):
            for number, g in itertools.product((0.0, 1.0), (1.0, -1.0)):
                update((np.float64(number),) * count, np.float64(1.0), np.float64(g), state, place)
    except Exception:  # or what cannot be known
        return False
    return True


def _summing(program: Program, sums: Sums, lanes: int, loaded: bool) -> Any:
    """The kernel in which every block sums its share of what the coordinates contribute to one part."""
    dtype, count = numba.from_dtype(program.dtype), sums.terms or 1
    one, coefficients, (load, _) = device(_as_tuple(sums)), _coefficients(program, loaded), transfer(lanes)
    state, vector = rows_at(program.dtype, program.slots), numbers_at(program.dtype)
    doubles, add, fold = numbers_at(np.dtype(np.float64)), device(add_all), folder(count)
    nothing = (0.0,) * count

    def summing(x, g, s, n, pitch, row, sums, c):
        c = coefficients(row, c)
        block, blocks = np.uint64(cuda.blockIdx.x), np.uint64(cuda.gridDim.x)
        first = (block * np.uint64(BLOCK) + np.uint64(cuda.threadIdx.x)) * np.uint64(lanes)
        held = cuda.local.array((2, lanes), dtype)
        shared = cuda.shared.array((count, WARPS), numba.float64)
        everything, total = state(s, pitch), nothing
        while first + np.uint64(lanes) <= np.uint64(n):
            load(held, 0, x, first)
            load(held, 1, g, first)
            for k in range(lanes):
                total = add(total, one(c[1:], held[0, k], held[1, k], everything, first + np.uint64(k)))
            first += blocks * np.uint64(BLOCK * lanes)
        xs, gs = vector(x, n), vector(g, n)
        for i in range(first, np.uint64(n)):
            total = add(total, one(c[1:], xs[i], gs[i], everything, i))
        mine = cuda.local.array(count, numba.float64)
        for k in range(count):
            mine[k] = total[k]
        fold(mine, shared, cuda.threadIdx.x)
        if cuda.threadIdx.x == 0:
            out = doubles(sums, count * MOST_SUMS)
            for k in range(count):
                out[np.uint64(k * MOST_SUMS) + block] = mine[k]

    return summing


def _finishing(program: Program, sums: Sums, lanes: int, loaded: bool) -> Any:
    """The kernel of one block that adds up the sums of all blocks and makes the coefficients."""
    dtype, count = program.dtype.type, sums.terms or 1
    first, last, ended = 1 + sums.start, 1 + sums.end, device(sums.finish)
    alone, width, coefficients = sums.terms is None, program.width, _coefficients(program, loaded)
    state, vector = rows_at(program.dtype, program.slots), numbers_at(program.dtype)
    doubles, cast, fold = numbers_at(np.dtype(np.float64)), device(cast_all), folder(count)
    items, block = tuple_of(numba.float64, 0, count, count), lanes * BLOCK

    def finishing(x, g, s, n, pitch, row, sums, c):
        c = coefficients(row, c)
        shared = cuda.shared.array((count, WARPS), numba.float64)
        mine = cuda.local.array(count, numba.float64)
        parts = doubles(sums, count * MOST_SUMS)
        for k in range(count):
            mine[k] = 0.0
        blocks = (np.uint64(n) + np.uint64(block - 1)) // np.uint64(block)
        blocks = blocks if blocks < np.uint64(MOST_SUMS) else np.uint64(MOST_SUMS)
        for j in range(np.uint64(cuda.threadIdx.x), blocks, np.uint64(BLOCK)):
            for k in range(count):
                mine[k] += parts[np.uint64(k * MOST_SUMS) + j]
        fold(mine, shared, cuda.threadIdx.x)
        if cuda.threadIdx.x == 0:
            made = cast(ended(c[first:last], mine[0] if alone else items(mine, 0), state(s, pitch)), dtype(0))
            out = vector(row, width)
            every = c[:first] + made + c[last:]
            for k in range(width):
                out[k] = every[k]

    return finishing


def _as_tuple(sums: Sums) -> Any:
    """What a coordinate contributes, as a tuple also where it is one number."""
    one = device(sums.one)
    if sums.terms is None:
        return lambda c, x, g, s, i: (one(c, x, g, s, i),)
    return one


__all__ = ["BLOCK", "MOST_SUMS", "Launch", "launches"]
