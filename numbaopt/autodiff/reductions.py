"""Sums, products, extrema and norms of arrays of numbers, and other functions that Numba knows for floats only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import errors, types
from numba.extending import overload, overload_method, register_jitable

from .arrays import empty, filled, parts, taped
from .creation import is_float64
from .numbers import Dual, NumberArray, number_in
from .scalars import lift, value
from .statements import begin_statement, end_statement, set_edge


def _also(name: str, *functions: Any) -> Any:
    """Decorator: the overload of NumPy functions of an array of numbers, and of its method of the same name."""

    def register(choose: Any) -> Any:
        def checked(a, axis=None):
            return choose(a, axis) if isinstance(a, types.Array) and number_in(a) else None

        for function in functions:
            overload(function)(checked)
        overload_method(NumberArray, name)(checked)
        return choose

    return register


def _whole(axis: Any) -> bool:
    return axis is None or isinstance(axis, types.NoneType) or (
        isinstance(axis, types.Omitted) and axis.value is None)  # fmt: skip


def _total(a):
    """The sum of all items: one statement with an edge each."""
    raise NotImplementedError


@overload(_total)
def _choose_total(a):
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


@_also("sum", np.sum)
def _sum(a, axis):
    if _whole(axis) or a.ndim == 1:
        return lambda a, axis=None: _total(a)
    if a.ndim != 2:
        raise errors.TypingError("np.sum along an axis of an array with derivatives of more than two axes")
    number = a.dtype

    def along(a, axis=None):
        if axis < -2 or axis > 1:
            raise ValueError("axis is out of bounds")
        columns = axis == 0 or axis == -2
        made = empty(a.shape[1] if columns else a.shape[0], number)
        for k in range(made.size):
            made[k] = _total(a[:, k]) if columns else _total(a[k, :])
        return made

    return along


@overload(sum)
def _builtin_sum(a):
    return (lambda a: np.sum(a)) if isinstance(a, NumberArray) and a.ndim == 1 else None


@_also("mean", np.mean)
def _mean(a, axis):
    if _whole(axis) or a.ndim == 1:
        return lambda a, axis=None: _total(a) / a.size
    return lambda a, axis=None: np.sum(a, axis) / a.shape[axis]


@_also("var", np.var)
def _var(a, axis):
    _refuse_axis("np.var", axis)
    return lambda a, axis=None: np.mean((a - np.mean(a)) ** 2)


@_also("std", np.std)
def _std(a, axis):
    _refuse_axis("np.std", axis)
    return lambda a, axis=None: np.sqrt(np.mean((a - np.mean(a)) ** 2))


def _refuse_axis(name: str, axis: Any) -> None:
    if not _whole(axis):
        raise errors.TypingError(f"{name} along an axis of an array with derivatives")


@_also("prod", np.prod)
def _prod(a, axis):
    _refuse_axis("np.prod", axis)
    number = a.dtype

    def build(a, axis=None):
        product = lift(1.0, number)
        for item in a.flat:
            product *= item
        return product

    return build


def _running(combine: Any, start: float) -> Any:
    def choose(a, axis):
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
_also("cumsum", np.cumsum)(_running(_plus, 0.0))
_also("cumprod", np.cumprod)(_running(_times, 1.0))


def _extremum(name: str, greater: bool, *functions: Any) -> None:
    """The item that a loop with a comparison finds; NaN where any item is NaN, as NumPy has it."""

    @_also(name, *functions)
    def _(a, axis):
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

    @_also(f"arg{name}", getattr(np, f"arg{name}"))
    def _(a, axis):
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


@overload(np.linalg.norm)
def _norm(x, ord=None):  # noqa: A002
    if isinstance(x, types.Array) and number_in(x) and _whole(ord):
        return lambda x, ord=None: np.sqrt(np.sum(x * x))  # noqa: A006
    return None


@overload(np.trace)
def _trace(a, offset=0):
    if not (isinstance(a, types.Array) and number_in(a)):
        return None
    number = a.dtype

    def build(a, offset=0):
        total = lift(0.0, number)
        for i in range(max(0, -offset), min(a.shape[0], a.shape[1] - offset)):
            total += a[i, i + offset]
        return total

    return build


def _triangle(function: Any, kept: Any) -> None:
    """``np.tril`` or ``np.triu``; ``kept(j - i, k)`` says what is left of column j in row i."""
    kept = register_jitable(kept)

    @overload(function)
    def _(m, k=0):
        if not (isinstance(m, types.Array) and number_in(m) and m.ndim == 2):
            return None
        number = m.dtype

        def build(m, k=0):
            made = filled(m.shape, 0.0, number)
            for i in range(m.shape[0]):
                for j in range(m.shape[1]):
                    if kept(j - i, k):
                        made[i, j] = m[i, j]
            return made

        return build


_triangle(np.tril, lambda above, k: above <= k)
_triangle(np.triu, lambda above, k: above >= k)


@overload(np.append)
def _append(arr, values, axis=None):
    item = values.type if isinstance(values, types.Optional) else values
    if not isinstance(arr, types.Array) or not _whole(axis) or isinstance(item, types.Array):
        return None
    number = number_in(arr) or number_in(item)
    if number is None:
        return None

    def build(arr, values, axis=None):
        made = empty(arr.size + 1, number)
        made[:-1] = arr.flatten()
        made[-1] = values
        return made

    return build


@overload(np.convolve)
def _convolve(a, v, mode="full"):
    if not (isinstance(a, types.Array) and isinstance(v, types.Array) and (number_in(a) or number_in(v))):
        return None
    number = number_in(a) or number_in(v)

    def build(a, v, mode="full"):
        if a.size == 0 or v.size == 0:
            raise ValueError("np.convolve of an empty array")
        made = filled(a.size + v.size - 1, 0.0, number)
        for i in range(a.size):
            for j in range(v.size):
                made[i + j] += a[i] * v[j]
        short, long = min(a.size, v.size), max(a.size, v.size)
        if mode == "full":
            return made
        if mode == "same":
            return made[(short - 1) // 2 : (short - 1) // 2 + long]
        if mode == "valid":
            return made[short - 1 : long]
        raise ValueError("mode of np.convolve must be 'full', 'same' or 'valid'")

    return build


@overload(np.clip)
def _clip(a, a_min, a_max):
    if not (isinstance(a, types.Array) and (number_in(a_min) or number_in(a_max))):
        return None  # bounds without derivatives are Numba's own business
    if _whole(a_min):
        return lambda a, a_min, a_max: np.minimum(a, a_max)
    if _whole(a_max):
        return lambda a, a_min, a_max: np.maximum(a, a_min)
    return lambda a, a_min, a_max: np.minimum(np.maximum(a, a_min), a_max)


@overload(np.isnan)
def _isnan(a):
    return (lambda a: a != a) if isinstance(a, NumberArray) else None


@overload(np.outer)
def _outer(a, b):
    if number_in(a) is None and number_in(b) is None:
        return None
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
