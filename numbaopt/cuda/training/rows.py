"""Passes over rows of a linear model on a GPU: margins, slopes, weighted sums of rows.

The rows of a pass are cut into chunks, one block a chunk at a time, and chunks into tiles.  Of a tile neighbouring
threads share the columns of a row first (margins), then each thread has a row (values and slopes, by the loss's own
functions), then each a column (sums of rows).  Of sparse rows a warp has an entry a thread: a row's columns are
distinct and rows come one after the other, so no two threads meet and no order is left to chance.  What a chunk sums
stands in rows of its own of ``parts``.  Dense rows of few columns are held in registers (`warps.py`).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numba
import numpy as np

from ...loops.shuffle import term_at
from ...optimizers._program import cast_all
from ...problems.rows import DenseRows, SparseRows, UnitRows
from .._backend import SIMULATED
from ..functions import device
from ..groups import BLOCK, WARP, WARPS, cuda, folder, lane_sum, wait_for_warp
from ..memory import tuple_of
from .warps import warp_walker

MOST_TILE = 8 if SIMULATED else 64  # rows
TILE_BYTES = 24 << 10  # of shared memory
CACHED_BYTES = 64 << 10  # of the first cache: rows are read for their margins, then for their sums
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
    tile: int  # rows that are looked at together; 0 where not even one has room
    marks: bool = False  # whether the columns that a pass meets are told

    @property
    def many(self) -> bool:
        """Whether the loss looks at all margins of a row at once."""
        return bool(getattr(self.loss, "many", False))


class Table(NamedTuple):
    """The data, and where sums of rows go."""

    rows: Any
    y: Any
    weights: Any
    constants: Any
    parts: Any  # (chunks * parts, n)
    funs: Any  # (chunks,)
    bad: Any  # (2,): whether a margin was infinite, or no number
    met: Any  # (columns,): the mark of the last pass that met them


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
    mark: int  # on the columns that are met; 0: none


class Room(NamedTuple):
    """Shared memory."""

    z: Any  # (outputs + 2, tile)
    target: Any
    weight: Any
    terms: Any
    sums: Any  # (numbers, warps)
    columns: Any  # (warps, columns), where warps hold rows


def tile_of(outputs: int, dtype: np.dtype, row_bytes: int) -> int:
    """Rows of a tile: as many as fit into shared memory with their margins, and into the first cache themselves."""
    rows = min(MOST_TILE, TILE_BYTES // ((outputs + 2) * dtype.itemsize), max(WARPS, CACHED_BYTES // row_bytes))
    return 1 << (rows.bit_length() - 1) if rows else 0


def width_of_lanes(numbers_a_row: float) -> int:
    """How many threads share a row."""
    return min(WARP, 32 if numbers_a_row >= 64 else 8 if numbers_a_row >= 16 else 1)


def _dense_share(rows, i, x, offset, columns, lane, lanes):
    """What every ``lanes``-th entry of a row contributes to its margin."""
    X, total = rows.X, x[0] - x[0]
    for j in range(lane, columns, lanes):
        total += X[i, j] * x[offset + j]
    return total


def _sparse_sharing(value: Any) -> Any:
    def share(rows, i, x, offset, columns, lane, lanes):
        total = x[0] - x[0]
        for e in range(rows.starts[i] + lane, rows.starts[i + 1], lanes):
            total += value(rows, e, x[offset + rows.columns[e]])
        return total

    return share


def _dense_gather(parts: int) -> Any:
    def gather(table, row, room, here, outputs, columns, thread, begins):
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
            before = 0.0 if begins else table.parts[row * parts + part, j]
            table.parts[row * parts + part, j] = before + total

    return gather


def _sparse_gather(parts: int, value: Any) -> Any:
    """Each warp has rows of its own for as many as there are parts; those of a part have columns of their own."""
    sharing = WARPS // parts

    def gather(table, row, room, here, outputs, columns, thread, begins):
        z, terms, rows, n, first = room.z, room.terms, table.rows, table.parts.shape[1], row * parts
        if begins:
            for e in range(thread, parts * n, BLOCK):
                table.parts[first + e // n, e % n] = 0.0
            cuda.syncthreads()
        for j in range(outputs * columns + thread, n, BLOCK):
            total = z[0, 0] - z[0, 0]
            for r in range(here):
                total += z[j - outputs * columns, r]
            table.parts[first, j] += total
        lane, warp = thread % WARP, thread // WARP
        part, own = warp % parts, warp // parts
        for r in range(part, here, parts):
            i = terms[r]
            for e in range(rows.starts[i] + lane, rows.starts[i + 1], WARP):
                column = rows.columns[e]
                if column % sharing == own:
                    for m in range(outputs):
                        table.parts[first + part, m * columns + column] += value(rows, e, z[m, r])
            wait_for_warp()  # the next row may have the same columns

    return gather


def _mark(table, room, here, mark, thread):
    """Mark the columns of the rows of a tile: whoever comes first or last, it is the same number."""
    terms, rows = room.terms, table.rows
    for r in range(here):
        for e in range(rows.starts[terms[r]] + thread, rows.starts[terms[r] + 1], BLOCK):
            table.met[rows.columns[e]] = mark


def opener(storage: Any) -> Any:
    """``rows(a, b, c)``: the rows from three arrays: of values, columns and starts where they are sparse."""
    if storage is DenseRows:
        return device(lambda a, b, c: DenseRows(a))
    if storage is UnitRows:
        return device(lambda a, b, c: UnitRows(b, c))
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
    value = None if dense else device(shape.storage.value)
    share = device(_dense_share if dense else _sparse_sharing(value))
    gather = device(_dense_gather(shape.parts) if dense else _sparse_gather(shape.parts, value))
    judge = device((_many_loss if shape.many else _scalar_loss)(shape.loss))
    marks, mark = shape.marks, device(_mark if shape.marks else (lambda table, room, here, mark, thread: None))
    lanes, outputs, tile, unit = shape.lanes, shape.outputs, shape.tile, shape.dtype.type
    load = tuple_of(numba.float64, 0, shape.constants, shape.constants)
    term, cast, total_of, at_once = device(term_at), device(cast_all), lane_sum(lanes), BLOCK // lanes
    fold, most = folder(1), unit(np.finfo(shape.dtype).max)

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
                if not abs(total) <= most:  # isfinite would go by float64
                    table.bad[1 if total != total else 0] = 1
        cuda.syncthreads()

    look = device(look)

    def walk(table, room, x, columns, visit, at):
        c = cast(load(table.constants, 0), unit(0))
        told = cuda.local.array(1, numba.float64)
        chunks = (visit.size + visit.chunk - 1) // visit.chunk
        for row in range(at.team, chunks, at.teams):
            start = row * visit.chunk
            end = start + visit.chunk
            end = end if end < visit.size else visit.size
            fun = 0.0
            for begin in range(start, end, tile):
                here = tile if tile < end - begin else end - begin
                look(table, room, x, columns, visit, begin, here, at.thread)
                if marks and visit.mark > 0:
                    mark(table, room, here, visit.mark, at.thread)
                for r in range(at.thread, here, BLOCK):
                    fun += judge(c, room, r, visit.valued)
                cuda.syncthreads()
                gather(table, row, room, here, outputs, columns, at.thread, begin == start)
                cuda.syncthreads()
            if visit.valued:
                told[0] = fun
                fold(told, room.sums, at.thread)
                if at.thread == 0:
                    table.funs[row] = told[0]
                cuda.syncthreads()

    return device(walk)


__all__ = ["MOST_PARTS", "Room", "Shape", "Table", "Visit", "opener", "tile_of", "walker", "width_of_lanes"]
