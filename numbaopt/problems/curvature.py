"""Found derivatives of a linear model's objective: passes over rows for Newton's method, shared among threads.

One pass gives value and gradient; another one, at the same point, the matrix of second derivatives on a set of
columns, or its product with a vector.  Rows are visited in an order of the caller's, so a pass may be over a sample of
them.  Sums are made part by part, and the parts do not depend on the number of threads.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types

from .._jit import (
    address,
    array_at,
    compiling,
    invoke,
    invoke_value,
    jit,
    jit_for_address,
    jit_inside,
    pointer,
    pointer_to,
    precompile,
    scalar,
)
from .._jit import address_of as at
from .._threads import share_out
from ..losses._loss import constants
from ..optimizers._program import cast_all, row_loader
from .kernels import FUSED, shared_at, sums_by_tile
from .linear_model import LinearModel
from .outer_products import outer_of

PARTS = 16
PART_NUMBERS = 1 << 16  # stored numbers worth a part
USUAL = 512  # columns of a matrix of squares, for the size of parts
PIECE_NUMBERS = 1 << 24  # stored numbers, at most, between two moments at which Ctrl-C is heeded
MULTIPLICATIONS = 16  # of second derivatives, that take as long as one stored number

# (out, count, data): weighted second derivatives of a tile, float64, as many numbers as its rows have margins
CURVATURES = types.void(*(types.intp,) * 3)


@functools.cache
def curvatures_of(loss: type, dtype: np.dtype, count: int) -> tuple[Any, Any]:
    """The address of what computes the curvatures of a tile, and its function."""
    unpack, curvature, many = shared_at(dtype), scalar(loss.curvature), getattr(loss, "many", False)
    load, doubles = row_loader(types.float64, 0, count, count), array_at(np.float64)

    def curvatures(out, count, data):
        p, h = unpack(data), doubles(out, count * unpack(data).outputs)
        c, z, target, weight = cast_all(load(pointer(p.constants), 0), p.target[0]), p.z, p.target, p.weight
        if many:
            curvature(c, z, target, weight, h, count)
        else:
            for j in range(count):
                h[j] = np.float64(weight[j]) * curvature(c, z[0, j], target[j])

    made = jit_for_address(curvatures, fastmath=FUSED)
    with compiling(f"{loss.__name__}.curvature"):
        return address(made, CURVATURES), made


def _scale(z, h, count):
    """The second derivatives of rows with one margin, times z."""
    for j in range(count):
        z[0, j] = z[0, j] * h[j]


@functools.cache
def passes(dtype: np.dtype, bend: Any = _scale) -> tuple[Any, Any, Any, Any]:
    """Passes over the rows ``order[:count]``, called from Python: of slopes, of the matrix, of a product, along a line.

    ``total`` gets the sum of the gradients, ``h`` the curvatures of the rows, ``bases`` their margins; ``matrix`` is
    made of ``h``.  The sum of losses along a line between two vectors of margins needs no data but the targets.
    ``bend`` multiplies the margins of a tile by the second derivatives of its rows.
    """
    bend = scalar(bend, FUSED)
    unpack, vector, numbers, doubles = shared_at(dtype), array_at(dtype), array_at(np.int64), array_at(np.float64)

    def add_up(p, g, total, n, here, rows, by_tile, data):
        if by_tile:
            g_values, totals = vector(g, n), doubles(total, n)
            for j in range(n):
                g_values[j] = 0
            invoke(p.gather, (g, n, here, rows, data))
            for j in range(n):
                totals[j] += g_values[j]
        else:
            invoke(p.gather_part, (total, n, here, rows, data))

    add_up = jit_inside(add_up)

    def slopes(x, g, total, n, order, count, bases, h, curvatures, by_tile, data):
        p, fun, order, many = unpack(data), 0.0, numbers(order, count), unpack(data).outputs
        h, bases = doubles(h, count * many), doubles(bases, count * many)
        for begin in range(0, count, p.target.size):
            rows, here, bent = min(p.target.size, count - begin), pointer_to(order, begin), pointer_to(h, begin * many)
            invoke_value(p.margins, (x, n, here, rows, count - begin, data))
            for k in range(many):
                for j in range(rows):
                    bases[(begin + j) * many + k] = p.z[k, j]
            fun += invoke_value(p.values, (rows, data))
            invoke(curvatures, (bent, rows, data))
            invoke(p.slopes, (rows, data))
            add_up(p, g, total, n, here, rows, by_tile, data)
        return fun

    def second(order, count, h, matrix, columns, where, own, w, n, outer, data):
        p, order, h = unpack(data), numbers(order, count), doubles(h, count)
        for begin in range(0, count, p.target.size):
            rows = min(p.target.size, count - begin)
            invoke(outer, (pointer_to(h, begin), pointer_to(order, begin), rows, matrix, columns, where, own, w, n,
                           data))  # fmt: skip

    def product(v, g, total, n, order, count, h, by_tile, data):
        p, order, h, many = unpack(data), numbers(order, count), doubles(h, count), unpack(data).outputs
        for begin in range(0, count, p.target.size):
            rows, here = min(p.target.size, count - begin), pointer_to(order, begin)
            invoke_value(p.margins, (v, n, here, rows, count - begin, data))
            bend(p.z, doubles(pointer_to(h, begin * many), rows * many), rows)
            add_up(p, g, total, n, here, rows, by_tile, data)

    def along(start, end, length, order, count, data):
        p, fun, order, many = unpack(data), 0.0, numbers(order, count), unpack(data).outputs
        start, end = doubles(start, count * many), doubles(end, count * many)
        for begin in range(0, count, p.target.size):
            rows = min(p.target.size, count - begin)
            for k in range(many):
                for j in range(rows):
                    i = (begin + j) * many + k
                    p.z[k, j] = start[i] + length * (end[i] - start[i])
            for j in range(rows):
                p.target[j] = p.y[order[begin + j]]
            if p.weights.size > 0:
                for j in range(rows):
                    p.weight[j] = p.weights[order[begin + j]]
            fun += invoke_value(p.values, (rows, data))
        return fun

    whole, flag = types.intp, types.boolean
    return (precompile(jit(slopes), (*(whole,) * 9, flag, whole), final=True),
            precompile(jit(second), (whole,) * 11, final=True),
            precompile(jit(product), (*(whole,) * 7, flag, whole), final=True),
            precompile(jit(along), (whole, whole, types.float64, *(whole,) * 3), final=True))  # fmt: skip


class Found(NamedTuple):
    """What one pass finds: the objective without l1, its gradient, the margins.

    Of a row with several margins these stand side by side.
    """

    fun: float
    g: np.ndarray
    margins: np.ndarray


class Curvature:
    """Value, gradient and second derivatives of a `LinearModel`, on all rows or the first ones of a random order.

    Parameters
    ----------
    model : LinearModel
        With a loss that has a curvature; with several margins a row there is no matrix, only products.
    """

    def __init__(self, model: LinearModel):
        self.model = model
        storage: Any = type(model.rows)
        loss: Any = type(model.loss)
        self.curvatures, self._loss = (model.curvatures if hasattr(model, "curvatures") else
                                       curvatures_of(loss, model.dtype, len(constants(model.loss))))  # fmt: skip
        self.outer, self._outer = outer_of(storage, model.dtype)
        self._slopes, self._second, self._product, self._along = passes(model.dtype, getattr(loss, "bend", _scale))
        self.by_tile = sums_by_tile(storage, model.dtype)
        self._data = [model.pack() for _ in range(numba.get_num_threads())]
        self._g = np.zeros((len(self._data), model.n), model.dtype)
        self._h = np.zeros(0)
        self._of = np.zeros(0), np.zeros(0)  # second derivatives and order that the sums of `matrix` are of
        self._known, self._sums = np.zeros(0, np.int64), np.zeros((0, 0))  # columns of these sums, in their order

    def _parts(self, order: np.ndarray, w: int) -> list[slice]:
        """The parts of an order, whatever the number of threads."""
        model = self.model
        numbers = model.rows[0].size * order.size // model.n_terms
        most = numbers * max(w, 1) // PART_NUMBERS, numbers // (4 * model.n), numbers // (w * w + 1)
        size = -(-order.size // max(1, min(PARTS, *most)))
        return [slice(k, min(k + size, order.size)) for k in range(0, order.size, size)]

    def _pieces(self, part: slice, w: int) -> Iterator[slice]:
        """A part in pieces, none of which takes long: between them Ctrl-C is heeded."""
        model, tile = self.model, self._data[0].value.shared.target.size
        cost = model.n_outputs * model.rows[0].size / model.n_terms + w * w / MULTIPLICATIONS
        size = max(1, int(PIECE_NUMBERS / max(cost, 1) / tile)) * tile
        for first in range(part.start, part.stop, size):
            yield slice(first, min(first + size, part.stop))

    def slopes(self, x: np.ndarray, order: np.ndarray, l2: float) -> Found:
        """The mean over the rows in ``order`` at ``x``, and ``l2``; `matrix` and `product` are of the last ones."""
        model, n, many = self.model, self.model.n, self.model.n_outputs
        x = np.ascontiguousarray(x, model.dtype)
        parts = self._parts(order, 0)
        self._h, self._order, self._slices = np.empty((order.size, many)), order, parts
        margins = np.empty((order.size, many))
        totals, funs = np.zeros((len(parts), n)), np.zeros(len(parts))

        def work(k: int, thread: int) -> Iterator[None]:
            for piece in self._pieces(parts[k], 0):
                rows = order[piece]
                funs[k] += self._slopes(
                    at(x), at(self._g[thread]), at(totals[k]), n, at(rows), rows.size, at(margins[piece]),
                    at(self._h[piece]), self.curvatures, self.by_tile, self._data[thread].address)  # fmt: skip
                yield

        share_out(work, len(parts), len(self._data))
        penalty = self.penalty = np.full(n, model.intercept_l2)
        penalty[: model.n_penalised] = l2
        x = x.astype(float)
        return Found(funs.sum() / order.size + 0.5 * dot(penalty * x, x),
                     totals.sum(axis=0) / order.size + penalty * x, margins)  # fmt: skip

    def matrix(self, columns: np.ndarray) -> np.ndarray:
        """The second derivatives at the point of the last `slopes`, on ``columns``: sorted unknowns."""
        same, ones = all(map(np.array_equal, self._of, (self._h, self._order))), bool(np.all(self._h == 1))
        if not same or self._known.size > 2 * columns.size or not (ones or np.array_equal(self._known, columns)):
            self._of, self._known, self._sums = (self._h, self._order), columns[:0], np.zeros((0, 0))
        fresh = np.setdiff1d(columns, self._known, assume_unique=True)
        if fresh.size:
            self._extend(fresh)
        matrix = self._sums
        if not np.array_equal(columns, self._known):
            order = np.argsort(self._known)
            places = order[np.searchsorted(self._known, columns, sorter=order)]
            matrix = matrix[np.ix_(places, places)]
        matrix = matrix / self._order.size
        matrix[np.diag_indices_from(matrix)] += self.penalty[columns]
        return matrix

    def _extend(self, fresh: np.ndarray) -> None:
        """Sums for more columns, which come before those that are known.

        Of squares the second derivatives stay what they are, so a working set that grows costs what is new; and as all
        are one, products do not depend on the order of their factors: no bit tells which columns were known before.
        """
        columns, own = np.concatenate((fresh, self._known)), fresh.size
        block = self._sum(columns, own)
        sums = np.empty((columns.size, columns.size))
        sums[:own] = block
        sums[:own, :own] = np.triu(block[:, :own]) + np.triu(block[:, :own], 1).T
        sums[own:, :own], sums[own:, own:] = block[:, own:].T, self._sums
        self._known, self._sums = columns, sums

    def _sum(self, columns: np.ndarray, own: int) -> np.ndarray:
        w, n, order = columns.size, self.model.n, self._order
        squares = bool(np.all(self._h == 1))  # whose sums are kept: no bit may tell how many columns were known
        parts = self._parts(order, min(n, USUAL) if squares else w)
        where = np.full(n, -1)
        where[columns] = np.arange(w)
        matrices = np.zeros((len(parts), own, w))

        def work(k: int, thread: int) -> Iterator[None]:
            for piece in self._pieces(parts[k], w):
                rows = order[piece]
                self._second(at(rows), rows.size, at(self._h[piece]), at(matrices[k]), at(columns), at(where), own, w,
                             n, self.outer, self._data[thread].address)  # fmt: skip
                yield

        share_out(work, len(parts), len(self._data))
        return matrices.sum(axis=0)

    def along(self, start: Found, end: Found, length: float) -> float:
        """The mean of the losses between two points of the last order, ``length`` of the way; no penalties."""
        funs = np.zeros(len(self._slices))

        def work(k: int, thread: int) -> Iterator[None]:
            part = self._slices[k]
            rows = self._order[part]
            funs[k] = self._along(at(start.margins[part]), at(end.margins[part]), length, at(rows), rows.size,
                                  self._data[thread].address)  # fmt: skip
            yield

        share_out(work, len(self._slices), len(self._data))
        return funs.sum() / self._order.size

    def product(self, v: np.ndarray) -> np.ndarray:
        """The matrix of second derivatives of the last `slopes` times ``v``."""
        model, v = self.model, np.ascontiguousarray(v, self.model.dtype)
        totals = np.zeros((len(self._slices), model.n))

        def work(k: int, thread: int) -> Iterator[None]:
            for piece in self._pieces(self._slices[k], 0):
                rows = self._order[piece]
                self._product(at(v), at(self._g[thread]), at(totals[k]), model.n, at(rows), rows.size,
                              at(self._h[piece]), self.by_tile, self._data[thread].address)  # fmt: skip
                yield

        share_out(work, len(self._slices), len(self._data))
        return totals.sum(axis=0) / self._order.size + self.penalty * v


def dot(a: np.ndarray, b: np.ndarray) -> float:
    """The inner product, by one thread: BLAS wakes others for it, which costs more than it brings."""
    return float(np.add.reduce(a * b))
