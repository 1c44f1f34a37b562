"""A pass over dense rows that warps hold in their registers: each number of the matrix is read once.

A warp takes a few rows at a time, all their loads at once, sixteen bytes a thread.  Its threads share the columns: each
multiplies its own by its part of x; they hand each other halves of what they have until every row's margin is whole in
some threads, which find that row's slope; then each adds slopes times rows to its columns.  No thread waits for another
warp until a chunk is done, whose sums are then made warp by warp.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np

from ...loops.shuffle import term_at
from ...optimizers._program import cast_all
from ..functions import device
from ..groups import BLOCK, WARP, WARPS, cuda, folder, from_lane, lane_sum, other_lane
from ..memory import WIDE_BYTES, piece, tuple_of

HELD_BYTES = 128  # of the matrix, at most, in the registers of a thread
MOST_PIECES_BYTES = 32  # of a row
MOST_ROWS = min(WARP, 8)  # at a time
FLUSH = 8  # times that sums in float32 are added to before they are added to those in float64


def pieces_of(columns: int, dtype: np.dtype) -> tuple[int, int]:
    """Numbers that a thread loads at once, and how often for a row; (0, 0) where rows are too wide to be held."""
    wide = WIDE_BYTES // dtype.itemsize
    while columns % wide:
        wide //= 2
    pieces = -(-columns // (wide * WARP))
    return (wide, pieces) if wide * pieces * dtype.itemsize <= MOST_PIECES_BYTES else (0, 0)


def rows_of(wide: int, pieces: int, dtype: np.dtype) -> int:
    """Rows that a warp holds at a time."""
    rows = max(1, HELD_BYTES // (wide * pieces * dtype.itemsize))
    return min(MOST_ROWS, 1 << (rows.bit_length() - 1))


def _gathering(rows: int, step: int) -> Any:
    """``whole(totals, lane)``: of ``rows`` totals of a thread's own, the one that becomes its, summed over the warp."""
    if rows == 1:
        total = lane_sum(2 * step) if step > 0 else device(lambda value: value)
        return device(lambda totals, lane: total(totals[0]))
    half, rest = rows // 2, _gathering(rows // 2, step // 2)

    def whole(totals, lane):
        upper = lane & step != 0
        for r in range(half):
            low, high = totals[r], totals[r + half]
            totals[r] = (high if upper else low) + other_lane(low if upper else high, step)
        return rest(totals, lane)

    return device(whole)


@functools.cache
def warp_walker(shape: Any) -> Any:
    """`rows.walker` for dense rows that are held."""
    wide, pieces, dtype, unit = shape.wide, shape.pieces, numba.from_dtype(shape.dtype), shape.dtype.type
    rows = rows_of(wide, pieces, shape.dtype)
    most = unit(np.finfo(shape.dtype).max)
    turns = -(-WARP * wide * pieces // BLOCK)
    lanes, strip = WARP // rows, WARP * wide  # threads that know a row; columns a piece
    load, whole, at_lane = piece(wide), _gathering(rows, WARP // 2), device(from_lane)
    value, slope_of = device(shape.loss.value), device(shape.loss.slope)
    constants = tuple_of(numba.float64, 0, shape.constants, shape.constants)
    term, cast, fold = device(term_at), device(cast_all), folder(2)
    x_shape, held_shape, per_turn = (pieces, wide), (rows * pieces, wide), WARPS * rows

    def walk(table, room, x, columns, visit, at):
        c, n, X = cast(constants(table.constants, 0), unit(0)), x.size, table.rows.X
        lane, warp = at.thread % WARP, at.thread // WARP
        row_of_lane, leads = lane // lanes, lane % lanes == 0
        xs, near = cuda.local.array(x_shape, dtype), cuda.local.array(x_shape, dtype)
        held, totals = cuda.local.array(held_shape, dtype), cuda.local.array(rows, dtype)
        sums, told = cuda.local.array(x_shape, numba.float64), cuda.local.array(2, numba.float64)
        for v in range(pieces):
            for k in range(wide):
                column = v * strip + lane * wide + k
                xs[v, k] = x[column] if column < columns else unit(0)
        shift = x[columns] if n > columns else unit(0)
        chunks = (visit.size + visit.chunk - 1) // visit.chunk
        for row in range(at.team, chunks, at.teams):
            end = (row + 1) * visit.chunk
            end = end if end < visit.size else visit.size
            told[0], told[1] = 0.0, 0.0
            for v in range(pieces):
                for k in range(wide):
                    sums[v, k] = 0.0
            for start in range(row * visit.chunk, end, per_turn * FLUSH):
                until = start + per_turn * FLUSH
                until = until if until < end else end
                slopes = unit(0)
                for v in range(pieces):
                    for k in range(wide):
                        near[v, k] = unit(0)
                for begin in range(start + warp * rows, until, per_turn):
                    place = begin + row_of_lane
                    inside = place < until
                    i = visit.first + (place if inside else until - 1)  # the last row again, times nothing
                    if visit.shuffled:
                        i = term(i, visit.terms, visit.network, visit.keys)
                    short = np.int32(i)
                    for r in range(rows):
                        this = at_lane(short, r * lanes)
                        for v in range(pieces):
                            column = v * strip + lane * wide
                            load(held, r * pieces + v, X, this, column if column < columns else columns - wide)
                    y = table.y[i]
                    weight = table.weights[i] if table.weights.size > 0 else unit(1)
                    for r in range(rows):
                        totals[r] = unit(0)
                        for v in range(pieces):
                            for k in range(wide):
                                totals[r] += held[r * pieces + v, k] * xs[v, k]
                    z = whole(totals, lane) + shift
                    if inside and not abs(z) <= most:  # isfinite would go by float64
                        table.bad[1 if z != z else 0] = 1
                    slope = weight * slope_of(c, z, y) if inside else unit(0)
                    if leads:
                        slopes += slope
                        if visit.valued and inside:
                            told[0] += np.float64(weight) * np.float64(value(c, z, y))
                    for r in range(rows):
                        scale = at_lane(slope, r * lanes)
                        for v in range(pieces):
                            for k in range(wide):
                                near[v, k] += scale * held[r * pieces + v, k]
                told[1] += np.float64(slopes)
                for v in range(pieces):
                    for k in range(wide):
                        sums[v, k] += np.float64(near[v, k])
            for v in range(pieces):
                for k in range(wide):
                    room.columns[warp, v * strip + lane * wide + k] = sums[v, k]
            fold(told, room.sums, at.thread)
            for v in range(turns):
                j = v * BLOCK + at.thread
                if j < columns:
                    total = 0.0
                    for w in range(WARPS):
                        total += room.columns[w, j]
                    table.parts[row, j] = total
            if at.thread == 0:
                if n > columns:
                    table.parts[row, columns] = told[1]
                if visit.valued:
                    table.funs[row] = told[0]
            cuda.syncthreads()

    return device(walk)


__all__ = ["pieces_of", "rows_of", "warp_walker"]
