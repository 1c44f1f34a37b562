"""The compiled loops over rows of a linear model, for every loss and storage.

A tile of rows at a time: the margins of all its rows first, asking the memory early for later rows; then all slopes in
one vectorised loop; then the weighted sum of the rows, which by then are in the cache.

What reads rows is compiled once a storage, what knows a loss once a loss, and the loops once: they meet by addresses,
called once a tile, so the axes do not multiply.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype, types

from .._jit import (
    EXACT,
    FUSED,
    address,
    array,
    array_at,
    compiling,
    invoke,
    invoke_value,
    jit_for_address,
    native,
    pointer,
    pointer_to,
    scalar,
    wanted,
)
from .._packed import open_at, unpacker
from ..loops.descent import EVALUATE
from ..loops.minibatch import BATCH
from ..loops.state import largest
from ..optimizers._program import cast_all, row_loader
from .rows import DenseRows, prefetch_item

FETCH_AHEAD = 64  # rows between asking for one and using it

# All arguments are integers or addresses; n counts the items of x or g.
MARGINS = types.float64(*(types.intp,) * 6)  # (x, n, order, count, known, data) -> largest: of rows order[:count]
GATHER = types.void(*(types.intp,) * 5)  # (g, n, order, count, data): add the rows, each times its slopes, to g
VALUES = types.float64(*(types.intp,) * 2)  # (count, data) -> weighted sum of the losses of a tile
SLOPES = types.void(*(types.intp,) * 2)  # (count, data): slopes in the place of the margins
# The whole objective is a sum over chunks of rows, so that threads may share it and the result not depend on how many.
# Without an address for g only the objective is summed.
PART = types.void(*(types.intp,) * 5)  # (x, g, k, n, data): leaves the sums of chunk k in the data
COMBINE = types.float64(*(types.intp,) * 4)  # (x, g, n, data) -> fun: adds them up, the gradient into g


class Shared(NamedTuple):
    """What all loops over rows know; `LinearData` begins like this.  The arrays up to ``funs`` are scratch."""

    z: np.ndarray  # margins, then slopes, of one tile of rows: (margins a row + what the loss needs, rows)
    target: np.ndarray  # of a tile
    weight: np.ndarray  # of a tile
    order: np.ndarray  # of a tile
    parts: np.ndarray  # (chunks, n): sums of slopes times rows
    funs: np.ndarray  # (chunks,): sums of losses
    y: np.ndarray
    weights: np.ndarray  # empty: all one
    constants: np.ndarray  # (1, ...) of the loss
    outputs: int  # margins a row
    n_columns: int
    chunk: int  # rows
    l1: float
    l2: float
    intercept_l2: float
    margins: Any  # the rest: addresses
    gather: Any
    gather_part: Any  # into float64
    values: Any
    slopes: Any
    part: Any
    combine: Any


class LinearData(NamedTuple):
    """`Shared`, and what only the functions of one storage know."""

    shared: Shared
    rows: Any


class RowFunctions(NamedTuple):
    """Addresses of the functions of one storage."""

    margins: Any
    gather: Any
    gather_part: Any
    functions: tuple[Any, ...]


class LossFunctions(NamedTuple):
    """Addresses of the functions of one loss."""

    values: Any
    slopes: Any
    functions: tuple[Any, ...]


class Loops(NamedTuple):
    """Addresses of the loops."""

    evaluate: Any
    batch: Any
    part: Any
    combine: Any
    functions: tuple[Any, ...]


@functools.cache
def shared_type(dtype: np.dtype) -> Any:
    """Numba's type of `Shared`."""
    vector, matrix, double, whole = array(dtype), array(dtype, 2), array(np.float64), types.int64
    kinds = (matrix, vector, vector, array(np.int64), array(np.float64, 2), double, vector, vector,
             array(np.float64, 2), *(whole,) * 3, *(types.float64,) * 3, *(whole,) * 7)  # fmt: skip
    return types.BaseTuple.from_types(kinds, Shared)


@functools.cache
def shared_at(dtype: np.dtype) -> Any:
    """A function for compiled code that opens the `Shared` at the beginning of a packed `LinearData`."""
    kind = shared_type(dtype)

    @native(lambda where: where.shared)
    def load(typing_context, where):
        return kind(types.intp), (
            lambda context, builder, signature, values: open_at(context, builder, kind, values[0]))  # fmt: skip

    return load


@functools.cache
def data_type(dtype: np.dtype, storage: Any) -> Any:
    """Numba's type of `LinearData`."""
    return types.BaseTuple.from_types((shared_type(dtype), storage.type_for(dtype)), LinearData)


@functools.cache
def loss_functions(loss: type, dtype: np.dtype, count: int) -> LossFunctions:
    """Compile what the loops need of a loss with so many constants."""
    unpack, many = shared_at(dtype), getattr(loss, "many", False)
    fastmath = FUSED if many else EXACT
    value, slope = scalar(loss.value), scalar(loss.slope, fastmath)
    load = row_loader(types.float64, 0, count, count)

    def values(count, data):
        p = unpack(data)
        c, z, target, weight = cast_all(load(pointer(p.constants), 0), p.target[0]), p.z, p.target, p.weight
        if many:
            return value(c, z, target, weight, count)
        total = 0.0
        for j in range(count):
            total += np.float64(weight[j]) * value(c, z[0, j], target[j])
        return total

    def slopes(count, data):
        p = unpack(data)
        c, z, target, weight = cast_all(load(pointer(p.constants), 0), p.target[0]), p.z, p.target, p.weight
        if many:
            slope(c, z, target, weight, count)
        else:
            for j in range(count):
                z[0, j] = weight[j] * slope(c, z[0, j], target[j])

    made = jit_for_address(values), jit_for_address(slopes, fastmath=fastmath)
    found = []
    for name, function, kind in zip(("value", "slope"), made, (VALUES, SLOPES), strict=True):
        with compiling(f"{loss.__name__}.{name}"):
            found.append(address(function, kind))
    return LossFunctions(found[0], found[1], made)


@functools.cache
def slope_function(loss: type, dtype: np.dtype, count: int) -> tuple[Any, Any]:
    """The address of the slope of a single margin, for steps of one row, which wait for it; and what keeps it alive."""
    unpack, slope = shared_at(dtype), scalar(loss.slope, EXACT)
    load = row_loader(types.float64, 0, count, count)

    def one(z, target, data):
        return np.float64(slope(cast_all(load(pointer(unpack(data).constants), 0), z), z, target))

    made = jit_for_address(one, fastmath=EXACT)
    with compiling(f"{loss.__name__}.slope"):
        return address(made, slope_type(dtype)), made


def slope_type(dtype: np.dtype) -> Any:
    """(margin, target, data) -> slope."""
    return types.float64(*(from_dtype(dtype),) * 2, types.intp)


@functools.cache
def row_functions(storage: Any, dtype: np.dtype, many: bool) -> RowFunctions:
    """Compile what reads rows of a storage; ``many``: several margins a row."""
    margin, margin4, fetch = scalar(storage.margin), scalar(storage.margin4), scalar(storage.fetch)
    add, add4 = scalar(storage.add, FUSED), scalar(storage.add4, FUSED)
    unpack, vector, numbers = unpacker(data_type(dtype, storage)), array_at(dtype), array_at(np.int64)

    def margins(x, n, order, count, known, data):
        p, rows = unpack(data)
        x, order = vector(x, n), numbers(order, known)
        z, target, weight, columns = p.z, p.target, p.weight, p.n_columns
        outputs = p.outputs if many else 1
        shift = n > outputs * columns
        fours = count // 4 * 4
        for j in range(0, fours, 4):
            for k in range(j + FETCH_AHEAD, min(j + FETCH_AHEAD + 4, known)):
                fetch(rows, order[k])
                prefetch_item(p.y, order[k])
            for m in range(outputs):
                w, t = (x[m * columns : (m + 1) * columns] if many else x), z[m]
                b = x[outputs * columns + m] if shift else x[0] - x[0]
                r0, r1, r2, r3 = margin4(rows, order[j], order[j + 1], order[j + 2], order[j + 3], w)
                t[j], t[j + 1], t[j + 2], t[j + 3] = r0 + b, r1 + b, r2 + b, r3 + b
        for j in range(fours, count):
            for k in range(j + FETCH_AHEAD, min(j + FETCH_AHEAD + 1, known)):
                fetch(rows, order[k])
                prefetch_item(p.y, order[k])
            for m in range(outputs):
                w = x[m * columns : (m + 1) * columns] if many else x
                z[m, j] = margin(rows, order[j], w) + (x[outputs * columns + m] if shift else x[0] - x[0])
        for j in range(count):  # not earlier: by now they are in the cache
            target[j] = p.y[order[j]]
        if p.weights.size > 0:
            for j in range(count):
                weight[j] = p.weights[order[j]]
        top = largest(z[0], count)
        for m in range(1, outputs):
            this = largest(z[m], count)
            if this > top or this != this:
                top = this
        return top

    def gathering(kind):
        target = array_at(kind)

        def gather(g, n, order, count, data):
            p, rows = unpack(data)
            g, order, z, columns = target(g, n), numbers(order, count), p.z, p.n_columns
            outputs = p.outputs if many else 1
            fours = count // 4 * 4
            for j in range(0, fours, 4):
                for m in range(outputs):
                    t, h = z[m], (g[m * columns : (m + 1) * columns] if many else g)
                    scales = t[j], t[j + 1], t[j + 2], t[j + 3]
                    add4(rows, order[j], order[j + 1], order[j + 2], order[j + 3], scales, h)
            for j in range(fours, count):
                for m in range(outputs):
                    add(rows, order[j], z[m, j], g[m * columns : (m + 1) * columns] if many else g)
            if n > outputs * columns:
                for m in range(outputs):
                    total = g[outputs * columns + m] - g[outputs * columns + m]
                    for j in range(count):
                        total += z[m, j]
                    g[outputs * columns + m] += total

        return jit_for_address(gather)

    made = [jit_for_address(margins), gathering(dtype)]
    found = [address(made[0], MARGINS), address(made[1], GATHER)]
    if dtype != np.float64 and not sums_by_tile(storage, dtype):
        made.append(gathering(np.dtype(np.float64)))
        found.append(address(made[2], GATHER))
    return RowFunctions(found[0], found[1], found[-1], tuple(made))


def sums_by_tile(storage: Any, dtype: np.dtype) -> bool:
    """Whether rows are summed in their own dtype within a tile; sparse ones would touch all columns each time."""
    return dtype == np.float32 and storage is DenseRows


@functools.cache
def loops(dtype: np.dtype, by_tile: bool) -> Loops:
    """Compile the loops for a dtype of the unknowns."""
    unpack, vector, numbers = shared_at(dtype), array_at(dtype), array_at(np.int64)

    def batch(x, g, n, order, count, known, data):
        p, check, order, z = unpack(data), 0.0, numbers(order, known), unpack(data).z
        g_values, x_values, tile, penalised = vector(g, n), vector(x, n), p.target.size, p.outputs * p.n_columns
        mean, shrink, shrink_intercept = cast_all((1.0 / count, p.l2, p.intercept_l2), p.target[0])
        for j in range(penalised):
            g_values[j] = shrink * x_values[j]
        for j in range(penalised, n):
            g_values[j] = shrink_intercept * x_values[j]
        for begin in range(0, count, tile):
            rows, here = min(tile, count - begin), pointer_to(order, begin)
            check += invoke_value(p.margins, (x, n, here, rows, known - begin, data))
            invoke(p.slopes, (rows, data))
            for k in range(p.outputs):
                for j in range(rows):
                    z[k, j] *= mean
            invoke(p.gather, (g, n, here, rows, data))
        return check

    def part(x, g, k, n, data):
        p = unpack(data)
        total, tile, order, fun, first = p.parts[k], p.target.size, p.order, 0.0, k * p.chunk
        last, g_values, here = min(first + p.chunk, p.y.size), vector(g, n), pointer(p.order)
        for j in range(n if wanted(g) else 0):
            total[j] = 0.0
        for begin in range(first, last, tile):
            count = min(tile, last - begin)
            for j in range(count):
                order[j] = begin + j
            invoke_value(p.margins, (x, n, here, count, count, data))
            fun += invoke_value(p.values, (count, data))
            if not wanted(g):
                continue
            invoke(p.slopes, (count, data))
            if by_tile:
                for j in range(n):
                    g_values[j] = 0
                invoke(p.gather, (g, n, here, count, data))
                for j in range(n):
                    total[j] += g_values[j]
            else:
                invoke(p.gather_part, (pointer(total), n, here, count, data))
        p.funs[k] = fun

    def combine(x, g, n, data):
        p, x, slope = unpack(data), vector(x, n), vector(g, n)
        terms, penalised, fun = p.y.size, p.outputs * p.n_columns, 0.0
        for k in range(p.funs.size):
            fun += p.funs[k]
        if wanted(g):
            total = p.parts[0]
            for k in range(1, p.funs.size):
                for j in range(n):
                    total[j] += p.parts[k, j]
            for j in range(penalised):
                slope[j] = total[j] / terms + p.l2 * x[j]
            for j in range(penalised, n):
                slope[j] = total[j] / terms + p.intercept_l2 * x[j]
        squares, absolutes, shifts = 0.0, 0.0, 0.0
        for j in range(penalised):
            squares += np.float64(x[j]) * np.float64(x[j])
            absolutes += abs(np.float64(x[j]))
        for j in range(penalised, n):
            shifts += np.float64(x[j]) * np.float64(x[j])
        return fun / terms + 0.5 * (p.l2 * squares + p.intercept_l2 * shifts) + p.l1 * absolutes

    def evaluate(x, work, g, n, data):
        p = unpack(data)
        for k in range(p.funs.size):
            invoke(p.part, (x, g, k, n, data))
        return invoke_value(p.combine, (x, g, n, data))

    made = tuple(jit_for_address(function) for function in (evaluate, batch, part, combine))
    found = [address(*pair) for pair in zip(made, (EVALUATE, BATCH, PART, COMBINE), strict=True)]
    return Loops(found[0], found[1], found[2], found[3], made)
