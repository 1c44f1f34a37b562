"""Sums, products, extrema and norms of arrays of numbers, and other functions that Numba knows for floats only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import errors
from numba.cpython.unsafe.tuple import tuple_setitem
from numba.extending import overload, overload_method

from .arrays import empty, parts, taped
from .creation import is_float64
from .numbers import Dual, NumberArray, number_in
from .scalars import lift, value
from .statements import begin_statement, end_statement, set_edge
from .stubs import chosen_by_type, left_out, of_arrays, of_numbers


@chosen_by_type("a")
def _total(a):
    """The sum of all items: one statement with an edge each."""
    number = a.dtype
    if isinstance(number, Dual):

        def forward(a):
            total = lift(0.0, number)
            for item in a.flat:
                total += item
            return total

        def forward_vector(a):
            total = lift(0.0, number)
            for i in range(a.shape[0]):
                total += a[i]
            return total

        return forward_vector if a.ndim == 1 else forward

    def reverse(a):
        total, where = 0.0, np.int64(0)
        for item in a.flat:
            number_value, _, tape = parts(item)
            total += number_value
            if tape != 0:
                where = tape
        place = begin_statement(where, a.size)
        if place == 0:
            return taped(total, np.int64(0), np.int64(0))
        for k, item in enumerate(a.flat):
            set_edge(place, k, 1.0, parts(item)[1])
        return taped(total, end_statement(where, place, a.size), where)

    def reverse_vector(a):
        total, where = 0.0, np.int64(0)
        for i in range(a.shape[0]):
            number_value, _, tape = parts(a[i])
            total += number_value
            if tape != 0:
                where = tape
        place = begin_statement(where, a.size)
        if place == 0:
            return taped(total, np.int64(0), np.int64(0))
        for i in range(a.shape[0]):
            set_edge(place, i, 1.0, parts(a[i])[1])
        return taped(total, end_statement(where, place, a.size), where)

    return reverse_vector if a.ndim == 1 else reverse


@chosen_by_type("a", "axis")
def shape_without(a, axis):
    """The extents of all axes but one."""

    def build(a, axis):
        rest = a.shape[1:]
        for k in range(axis):
            rest = tuple_setitem(rest, k, a.shape[k])
        return rest

    return build


@of_arrays(np.sum, method="sum")
def _sum(a, axis=None):
    if left_out(axis) or a.ndim == 1:
        return lambda a, axis=None: _total(a)
    number = a.dtype

    def along(a, axis=None):
        if axis < -a.ndim or axis >= a.ndim:
            raise ValueError("axis is out of bounds")
        which = axis + a.ndim if axis < 0 else axis
        extent, inner = a.shape[which], 1
        for k in range(which + 1, a.ndim):
            inner *= a.shape[k]
        made = empty(shape_without(a, which), number)
        lines = np.ascontiguousarray(a).reshape((-1 if a.size > 0 else 0, extent, inner))
        flat = made.reshape(made.size)
        for k in range(made.size):
            flat[k] = _total(lines[k // inner, :, k % inner])
        return made

    return along


@of_arrays(sum)
def _builtin_sum(a):
    return (lambda a: np.sum(a)) if a.ndim == 1 else None


@of_arrays(np.mean, method="mean")
def _mean(a, axis=None):
    if left_out(axis) or a.ndim == 1:
        return lambda a, axis=None: _total(a) / a.size
    return lambda a, axis=None: np.sum(a, axis) / a.shape[axis]


@of_arrays(np.var, method="var")
def _var(a, axis=None):
    _refuse_axis("np.var", axis)
    return lambda a, axis=None: np.mean((a - np.mean(a)) ** 2)


@of_arrays(np.std, method="std")
def _std(a, axis=None):
    _refuse_axis("np.std", axis)
    return lambda a, axis=None: np.sqrt(np.mean((a - np.mean(a)) ** 2))


def _refuse_axis(name: str, axis: Any) -> None:
    if not left_out(axis):
        raise errors.TypingError(f"{name} along an axis of an array with derivatives")


@of_arrays(np.prod, method="prod")
def _prod(a, axis=None):
    _refuse_axis("np.prod", axis)
    number = a.dtype

    def build(a, axis=None):
        product = lift(1.0, number)
        for item in a.flat:
            product *= item
        return product

    return build


def _running(combine: Any, start: float) -> Any:
    def choose(a, axis=None):
        _refuse_axis("np.cumsum or np.cumprod", axis)
        number = a.dtype

        def build(a, axis=None):
            made = empty(a.size, number)
            total = lift(start, number)
            for k, item in enumerate(a.flat):
                total = combine(total, item)
                made[k] = total
            return made

        return build

    return choose


def _plus(a, b):
    return None


def _times(a, b):
    return None


overload(_plus)(lambda a, b: lambda a, b: a + b)
overload(_times)(lambda a, b: lambda a, b: a * b)
of_arrays(np.cumsum, method="cumsum")(_running(_plus, 0.0))
of_arrays(np.cumprod, method="cumprod")(_running(_times, 1.0))


def _extremum(name: str, greater: bool, *functions: Any) -> None:
    """The item that a loop with a comparison finds; NaN where any item is NaN, as NumPy has it."""

    @of_arrays(*functions, method=name)
    def _(a, axis=None):
        _refuse_axis(f"np.{name}", axis)

        def build(a, axis=None):
            if a.size == 0:
                raise ValueError("zero-size array to reduction operation which has no identity")
            best = a.flat[0]
            for item in a.flat:
                better = value(item) > value(best) if greater else value(item) < value(best)
                if better or value(item) != value(item):
                    best = item
                if value(best) != value(best):
                    break
            return best

        return build

    @of_arrays(getattr(np, f"arg{name}"), method=f"arg{name}")
    def _(a, axis=None):
        _refuse_axis(f"np.arg{name}", axis)

        def build(a, axis=None):
            if a.size == 0:
                raise ValueError("attempt to find an extremum of an empty array")
            best, place = value(a.flat[0]), 0
            for k, item in enumerate(a.flat):
                x = value(item)
                if (x > best if greater else x < best) or (x != x and best == best):
                    best, place = x, k
            return place

        return build


_extremum("max", True, np.max, np.amax)
_extremum("min", False, np.min, np.amin)


@of_arrays(np.linalg.norm)
def _norm(x, ord=None):  # noqa: A002
    if left_out(ord):
        return lambda x, ord=None: np.sqrt(np.sum(x * x))  # noqa: A006
    if x.ndim != 1:
        raise errors.TypingError("derivatives: np.linalg.norm of a matrix with ord")

    def build(x, ord=None):  # noqa: A002
        if ord == 2:
            return np.sqrt(np.sum(x * x))
        if ord == np.inf:
            return np.max(np.abs(x))
        if ord == -np.inf:
            return np.min(np.abs(x))
        if ord == 1:
            return np.sum(np.abs(x))
        return np.sum(np.abs(x) ** float(ord)) ** (1.0 / ord)

    return build


@of_arrays(np.trace)
def _trace(a, offset=0):
    number = a.dtype

    def build(a, offset=0):
        total = lift(0.0, number)
        for i in range(max(0, -offset), min(a.shape[0], a.shape[1] - offset)):
            total += a[i, i + offset]
        return total

    return build


@of_numbers(np.outer)
def _outer(a, b):
    number = number_in(a) or number_in(b)

    def build(a, b):
        made = empty((a.size, b.size), number)
        left, right = a.flatten(), b.flatten()
        for i in range(a.size):
            for j in range(b.size):
                made[i, j] = left[i] * right[j]
        return made

    return build


@overload_method(NumberArray, "astype")
def _astype(a, dtype):
    if is_float64(dtype):
        return lambda a, dtype: a.copy()
    raise errors.TypingError(f"derivatives: ndarray.astype({dtype}) loses them")
