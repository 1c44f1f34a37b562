"""Passes over rows of a linear model on a GPU: margins, slopes, weighted sums of rows.

The rows of a pass are cut into chunks, one block a chunk at a time, and chunks into tiles.  Of a tile neighbouring
threads share the columns of a row first (margins), then each thread has a row (values and slopes, by the loss's own
functions), then each a column (sums of rows), or, of sparse rows, an entry: a row's columns are distinct, and rows come
one after the other, so no two threads meet and no order is left to chance.  What a chunk sums stands in rows of its own
of ``parts``.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numba
import numpy as np

from ..loops.shuffle import term_at
from ..optimizers._program import cast_all
from ..problems.rows import DenseRows, SparseRows
from ._backend import SIMULATED
from .functions import device
from .groups import BLOCK, WARP, cuda, folder, lane_sum
from .memory import tuple_of
from .warps import warp_walker

MOST_TILE = 8 if SIMULATED else 64  # rows
TILE_BYTES = 24 << 10  # of shared memory
MOST_PARTS = 2 if SIMULATED else 8  # of a block's rows that are summed apart, where there are few columns


class Shape(NamedTuple):
    """What a pass is compiled for."""

    dtype: np.dtype
    storage: Any
    loss: Any  # class
    constants: int  # numbers of the loss
    outputs: int
    lanes: int  # threads a row
    parts: int  # of each chunk
    wide: int  # numbers of a dense row that a thread loads at once; 0 where no warp holds whole rows
    pieces: int  # such loads a row

    @property
    def many(self) -> bool:
        """Whether the loss looks at all margins of a row at once."""
        return bool(getattr(self.loss, "many", False))

    @property
    def tile(self) -> int:
        """Rows that are looked at together."""
        rows = TILE_BYTES // ((self.outputs + 2) * self.dtype.itemsize)
        return 1 << (min(MOST_TILE, rows).bit_length() - 1) if rows else 0


class Table(NamedTuple):
    """The data, and where sums of rows go."""

    rows: Any
    y: Any
    weights: Any
    constants: Any
    parts: Any  # (chunks * parts, n)
    funs: Any  # (chunks,)
    bad: Any  # (2,): whether a margin was infinite, or no number


class Visit(NamedTuple):
    """Which rows a pass visits, and how."""

    first: int  # position in the epoch
    size: int
    chunk: int
    terms: int
    shuffled: bool
    network: Any  # see `loops.shuffle`
    keys: Any
    valued: bool  # whether values are summed, too


class Room(NamedTuple):
    """Shared memory."""

    z: Any  # (outputs + 2, tile)
    target: Any
    weight: Any
    terms: Any
    sums: Any  # (numbers, warps)
    columns: Any  # (warps, columns), where warps hold rows


def width_of_lanes(numbers_a_row: float) -> int:
    """How many threads share a row."""
    return min(WARP, 32 if numbers_a_row >= 64 else 8 if numbers_a_row >= 16 else 1)


def _dense_share(rows, i, x, offset, columns, lane, lanes):
    """What every ``lanes``-th entry of a row contributes to its margin."""
    X, total = rows.X, x[0] - x[0]
    for j in range(lane, columns, lanes):
        total += X[i, j] * x[offset + j]
    return total


def _sparse_share(rows, i, x, offset, columns, lane, lanes):
    total = x[0] - x[0]
    for e in range(rows.starts[i] + lane, rows.starts[i + 1], lanes):
        total += rows.values[e] * x[offset + rows.columns[e]]
    return total


def _dense_gather(parts: int) -> Any:
    def gather(table, row, room, here, outputs, columns, thread):
        z, terms, X, n = room.z, room.terms, table.rows.X, table.parts.shape[1]
        penalised = outputs * columns
        for e in range(thread, parts * n, BLOCK):
            part, j = e // n, e % n
            total = z[0, 0] - z[0, 0]
            if j < penalised:
                m = j // columns
                k = j - m * columns
                for r in range(part, here, parts):
                    total += z[m, r] * X[terms[r], k]
            else:
                for r in range(part, here, parts):
                    total += z[j - penalised, r]
            table.parts[row * parts + part, j] += total

    return gather


def _sparse_gather(parts: int) -> Any:
    def gather(table, row, room, here, outputs, columns, thread):
        z, terms, rows, n = room.z, room.terms, table.rows, table.parts.shape[1]
        for j in range(outputs * columns + thread, n, BLOCK):
            total = z[0, 0] - z[0, 0]
            for r in range(here):
                total += z[j - outputs * columns, r]
            table.parts[row, j] += total
        for r in range(here):
            i = terms[r]
            for e in range(rows.starts[i] + thread, rows.starts[i + 1], BLOCK):
                for m in range(outputs):
                    table.parts[row, m * columns + rows.columns[e]] += z[m, r] * rows.values[e]
            cuda.syncthreads()

    return gather


def opener(storage: Any) -> Any:
    """``rows(a, b, c)``: the rows from three arrays, of which dense ones need one."""
    if storage is DenseRows:
        return device(lambda a, b, c: DenseRows(a))
    return device(lambda a, b, c: SparseRows(a, b, c))


def _scalar_loss(loss: Any) -> Any:
    """``judge(c, room, r, valued)``: the value of row r; its slope in the place of its margin."""
    value, slope = device(loss.value), device(loss.slope)

    def judge(c, room, r, valued):
        z, y, weight = room.z[0, r], room.target[r], room.weight[r]
        room.z[0, r] = weight * slope(c, z, y)
        return np.float64(weight) * np.float64(value(c, z, y)) if valued else 0.0

    return judge


def _many_loss(loss: Any) -> Any:
    value, slope = device(loss.value), device(loss.slope)

    def judge(c, room, r, valued):
        z, target, weight = room.z[:, r : r + 1], room.target[r : r + 1], room.weight[r : r + 1]
        found = value(c, z, target, weight, 1) if valued else 0.0
        slope(c, z, target, weight, 1)
        return found

    return judge


@functools.cache
def walker(shape: Shape) -> Any:
    """``walk(table, room, x, columns, visit, at)``: the sums of rows of a pass into ``table.parts`` and ``funs``."""
    if shape.pieces > 0:
        return warp_walker(shape)
    dense = shape.storage is DenseRows
    share = device(_dense_share if dense else _sparse_share)
    gather = device((_dense_gather if dense else _sparse_gather)(shape.parts))
    judge = device((_many_loss if shape.many else _scalar_loss)(shape.loss))
    lanes, outputs, tile, parts, unit = shape.lanes, shape.outputs, shape.tile, shape.parts, shape.dtype.type
    load = tuple_of(numba.float64, 0, shape.constants, shape.constants)
    term, cast, total_of, at_once = device(term_at), device(cast_all), lane_sum(lanes), BLOCK // lanes
    fold = folder(1)

    def look(table, room, x, columns, visit, begin, here, thread):
        """Margins of the tile that begins at a position of the pass."""
        terms, z, n = room.terms, room.z, table.parts.shape[1]
        for r in range(thread, here, BLOCK):
            i = visit.first + begin + r
            if visit.shuffled:
                i = term(i, visit.terms, visit.network, visit.keys)
            terms[r], room.target[r] = i, table.y[i]
            room.weight[r] = table.weights[i] if table.weights.size > 0 else unit(1)
        cuda.syncthreads()
        lane = thread % lanes
        for base in range(0, here * outputs, at_once):  # as often for all threads: they hand on numbers
            item = base + thread // lanes
            inside = item < here * outputs
            m = item // here
            r = item - m * here
            total = x[0] - x[0]
            if inside:
                total = share(table.rows, terms[r], x, m * columns, columns, lane, lanes)
            total = total_of(total)
            if inside and lane == 0:
                total = total + x[outputs * columns + m] if n > outputs * columns else total
                z[m, r] = total
                if not math.isfinite(total):
                    table.bad[1 if total != total else 0] = 1
        cuda.syncthreads()

    look = device(look)

    def walk(table, room, x, columns, visit, at):
        c, n = cast(load(table.constants, 0), unit(0)), table.parts.shape[1]
        told = cuda.local.array(1, numba.float64)
        chunks = (visit.size + visit.chunk - 1) // visit.chunk
        for row in range(at.team, chunks, at.teams):
            for e in range(at.thread, parts * n, BLOCK):
                table.parts[row * parts + e // n, e % n] = 0.0
            end = (row + 1) * visit.chunk
            end = end if end < visit.size else visit.size
            fun = 0.0
            for begin in range(row * visit.chunk, end, tile):
                here = tile if tile < end - begin else end - begin
                look(table, room, x, columns, visit, begin, here, at.thread)
                for r in range(at.thread, here, BLOCK):
                    fun += judge(c, room, r, visit.valued)
                cuda.syncthreads()
                gather(table, row, room, here, outputs, columns, at.thread)
                cuda.syncthreads()
            if visit.valued:
                told[0] = fun
                fold(told, room.sums, at.thread)
                if at.thread == 0:
                    table.funs[row] = told[0]
                cuda.syncthreads()

    return device(walk)


__all__ = ["MOST_PARTS", "Room", "Shape", "Table", "Visit", "opener", "walker", "width_of_lanes"]
