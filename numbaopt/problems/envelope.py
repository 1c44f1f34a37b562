r"""A linear model whose losses are replaced by smooth ones: Moreau's envelopes, about slopes that are known so far.

.. math:: e_i(z) = \min_u\; \ell_i(u) + \frac{1}{2 q} (z + q s_i - u)^2 - \frac{q}{2} s_i^2

is the term of an augmented Lagrangian: of :math:`\min \ell_i(u)` with the constraint u = z, the multiplier :math:`s_i`
and the penalty 1/q.  Its slope is the loss's implicit slope at :math:`z + q s_i`, its curvature the derivative of that,
which is piecewise constant where the loss is piecewise linear.

To all loops over rows this is a `LinearModel` as any other: its targets are the numbers of the rows, with which the
functions here look up target and slope in a table that stands in the place of the loss's constants.  (The bits of a
target are a whole number: as floats of four bytes not all numbers beyond 2^24 could be told apart.)
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import types

from .._jit import (
    EXACT,
    FUSED,
    address,
    array_at,
    compiling,
    invoke_value,
    jit,
    jit_for_address,
    pointer,
    precompile,
    scalar,
)
from .._jit import address_of as at
from .._packed import Packed
from ..losses._loss import constants
from ..optimizers._program import cast_all, row_loader
from .curvature import CURVATURES
from .kernels import SLOPES, VALUES, shared_at
from .linear_model import LinearModel

TARGET, SLOPE, NUMBERS = 0, 1, 2  # rows of the table; the last one: q, then the loss's constants
NUDGE = 1e-6  # of q: over which the curvature is a difference
ADVANCE = types.float64(*(types.intp,) * 3)  # (first, count, data) -> sum of the gaps; new slopes into the table


class Functions(NamedTuple):
    """Addresses of the functions of one loss, and what keeps them alive."""

    values: Any
    slopes: Any
    curvatures: Any
    advance: Any
    functions: tuple[Any, ...]


def number_type(dtype: np.dtype) -> Any:
    """Whole numbers of the size of a ``dtype``."""
    return np.uint32 if dtype == np.float32 else np.uint64


def row_numbers(count: int, dtype: np.dtype) -> np.ndarray:
    """0, 1, ..., of ``dtype`` to whom it does not concern."""
    return np.arange(count, dtype=number_type(dtype)).view(dtype)


@functools.cache
def functions(loss: type, dtype: np.dtype, count: int) -> Functions:
    """Compile the envelope of a loss with so many constants."""
    unpack, doubles, whole = shared_at(dtype), array_at(np.float64), number_type(dtype)
    value, implicit = scalar(loss.value, EXACT), scalar(loss.implicit_slope, EXACT)
    load = row_loader(types.float64, 1, count, count + 1)

    def values(count, data):
        p, table = unpack(data), unpack(data).constants
        c, q, total = cast_all(load(pointer(table[NUMBERS]), 0), 0.0), table[NUMBERS, 0], 0.0
        for j in range(count):
            i, weight = np.intp(p.target.view(whole)[j]), np.float64(p.weight[j])
            y, was = table[TARGET, i], table[SLOPE, i]
            z = np.float64(p.z[0, j]) + q * was
            if weight > 0:
                s = weight * implicit(c, z, y, q * weight)
                total += weight * value(c, z - q * s, y) + 0.5 * q * (s * s - was * was)
        return total

    def slopes(count, data):
        p, table = unpack(data), unpack(data).constants
        c, q = cast_all(load(pointer(table[NUMBERS]), 0), 0.0), table[NUMBERS, 0]
        for j in range(count):
            i, weight = np.intp(p.target.view(whole)[j]), np.float64(p.weight[j])
            z = np.float64(p.z[0, j]) + q * table[SLOPE, i]
            p.z[0, j] = weight * implicit(c, z, table[TARGET, i], q * weight) if weight > 0 else 0.0

    def curvatures(out, count, data):
        p, table, h = unpack(data), unpack(data).constants, doubles(out, count)
        c, q = cast_all(load(pointer(table[NUMBERS]), 0), 0.0), table[NUMBERS, 0]
        for j in range(count):
            i, weight = np.intp(p.target.view(whole)[j]), np.float64(p.weight[j])
            y, z = table[TARGET, i], np.float64(p.z[0, j]) + q * table[SLOPE, i]
            step = NUDGE * q
            h[j] = weight * (implicit(c, z + step, y, q * weight) - implicit(c, z - step, y, q * weight)) / (
                (z + step) - (z - step)) if weight > 0 else 0.0  # fmt: skip

    def advance(first, count, data):
        p, table, gap = unpack(data), unpack(data).constants, 0.0
        c, q = cast_all(load(pointer(table[NUMBERS]), 0), 0.0), table[NUMBERS, 0]
        for j in range(count):
            i, weight = first + j, np.float64(p.weight[j])
            y, z = table[TARGET, i], np.float64(p.z[0, j])
            if weight > 0:
                s = weight * implicit(c, z + q * table[SLOPE, i], y, q * weight)
                u = z + q * table[SLOPE, i] - q * s
                gap += weight * (value(c, z, y) - value(c, u, y)) - s * (z - u)
                table[SLOPE, i] = s
        return gap

    made = (jit_for_address(values), jit_for_address(slopes, fastmath=EXACT),
            jit_for_address(curvatures, fastmath=FUSED), jit_for_address(advance, fastmath=EXACT))  # fmt: skip
    with compiling(f"{loss.__name__}.implicit_slope"):
        found = [address(*pair) for pair in zip(made, (VALUES, SLOPES, CURVATURES, ADVANCE), strict=True)]
    return Functions(found[0], found[1], found[2], found[3], made)


@functools.cache
def advancing(dtype: np.dtype) -> Any:
    """The pass over all rows that gives every term the slope of its envelope at x, and sums up the gaps."""
    unpack = shared_at(dtype)

    def run(where, x, n, data):
        p, gap = unpack(data), 0.0
        for first in range(0, p.y.size, p.target.size):
            count = min(p.target.size, p.y.size - first)
            for j in range(count):
                p.order[j] = first + j
            invoke_value(p.margins, (x, n, pointer(p.order), count, count, data))
            gap += invoke_value(where, (first, count, data))
        return gap

    return precompile(jit(run), (types.intp,) * 4, final=True)


class Smooth(NamedTuple):
    """What takes the place of the loss in messages and bounds."""

    def curvature(self):
        """That there is one; `Functions` holds it."""

    @staticmethod
    def lipschitz(one):
        """Unknown: it changes with q."""
        return np.inf


Smooth.names, Smooth.jumps = ("envelope",), True


class Envelope(LinearModel):
    """The envelope of a `LinearModel` whose loss has an ``implicit_slope``.

    Parameters
    ----------
    model : LinearModel
    slopes : array of shape (n_samples,), float64
        The multipliers; not copied.
    """

    def __init__(self, model: LinearModel, slopes: np.ndarray):
        self.__dict__.update(model.__dict__)
        numbers = constants(model.loss)
        self._spare, self.loss = [], Smooth()
        self.y = row_numbers(model.n_terms, model.dtype)
        self.table = np.zeros((3, max(model.n_terms, len(numbers) + 1)))
        self.table[TARGET, : model.n_terms] = model.y
        self.table[NUMBERS, 1 : 1 + len(numbers)] = numbers
        self.slopes = self.table[SLOPE, : model.n_terms]
        self.slopes[:] = slopes
        kind: Any = type(model.loss)
        self.functions = functions(kind, model.dtype, len(numbers))
        self.curvatures = self.functions.curvatures, self.functions

    def pack(self, parts: np.ndarray | None = None, funs: np.ndarray | None = None) -> Packed:
        """The data with fresh scratch and the envelope's functions."""
        return self.packed(self.table, self.functions, parts, funs)

    def advance(self, x: np.ndarray, q: float) -> float:
        """Give every term the slope of its envelope with this q at x; the duality gap that goes with these."""
        self.table[NUMBERS, 0] = q
        data = self.pack()
        gap = advancing(self.dtype)(self.functions.advance, at(x), self.n, data.address)
        return gap / self.n_terms
