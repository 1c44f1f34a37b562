"""From a rule's scalar functions to compiled code over vectors.

Everything here is made once per *structure* (the classes of a rule and of the transforms before it) by composing scalar
functions, and kept on disk.  All programs have one signature, so a loop takes any of them by address:

``sweep(coefficients, j, x, g, s, low, high)``
    the step with row ``j`` of the coefficients on the coordinates ``low`` to ``high``;
``advance(...)``
    the same on all coordinates, after what needs a sum over all of them first (clipping by norm).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils

from .._jit import EXACT, address, array, jit, native, precompile, scalar
from ._rule import from_fields


def parts_of(opt: Any) -> tuple[Any, ...]:
    """The transforms of an optimizer, if any, then its rule."""
    return opt.parts if hasattr(opt, "parts") else (opt,)


@native(lambda values, like: tuple(type(like)(value) for value in values))
def cast_all(typing_context, values, like):
    """A tuple of numbers, every one cast to the type of ``like``."""
    kinds = tuple(types.unliteral(kind) for kind in values)
    to = types.UniTuple(like, len(kinds))

    def codegen(context, builder, signature, arguments):
        cast = [context.cast(builder, builder.extract_value(arguments[0], k), kind, like)
                for k, kind in enumerate(kinds)]  # fmt: skip
        return context.make_tuple(builder, to, cast) if cast else context.get_constant_null(to)

    return to(values, like), codegen


def row_loader(first: int, count: int) -> Any:
    """An intrinsic ``load(matrix, j)``: ``count`` items of row ``j`` from ``first`` on as a tuple, without a view."""

    @native(lambda matrix, j: tuple(matrix[j, first : first + count]))
    def load(typing_context, matrix, j):
        to = types.UniTuple(matrix.dtype, count)

        def codegen(context, builder, signature, arguments):
            kind = signature.args[0]
            proxy = context.make_array(kind)(context, builder, arguments[0])
            items = []
            for k in range(count):
                where = [arguments[1], context.get_constant(types.intp, first + k)]
                pointer = cgutils.get_item_pointer(context, builder, kind, proxy, where)
                items.append(builder.load(pointer))
            return context.make_tuple(builder, to, items)

        return to(matrix, types.intp), codegen

    return load


def join_prepare(classes: tuple[type, ...]) -> Callable[..., Any]:
    """``prepare(parts, lr, t)``: the coefficients of all parts, one after the other."""
    last = scalar(classes[-1].prepare, EXACT)
    where = len(classes) - 1
    if where == 0:
        return scalar_join(lambda parts, lr, t: last(parts[where], lr, t))
    before = join_prepare(classes[:-1])
    return scalar_join(lambda parts, lr, t: before(parts, lr, t) + last(parts[where], lr, t))


def join_apply(classes: tuple[type, ...], counts: tuple[int, ...]) -> Callable[..., Any]:
    """``apply(c, x, g)``: the transforms, one after the other."""
    if not classes:
        return scalar_join(lambda c, x, g: (x, g))
    first, last = sum(counts[:-1]), scalar(classes[-1].apply, EXACT)
    if len(classes) == 1:
        return last
    before = join_apply(classes[:-1], counts[:-1])

    def apply(c, x, g):
        x, g = before(c[:first], x, g)
        return last(c[first:], x, g)

    return scalar_join(apply)


def join_update(classes: tuple[type, ...], counts: tuple[int, ...]) -> Callable[..., Any]:
    """``update(c, x, g, s, i)``: the transforms, then the rule."""
    update = scalar(classes[-1].update, EXACT)
    if len(classes) == 1:
        return update
    first = sum(counts[:-1])
    apply = join_apply(classes[:-1], counts[:-1])

    def transformed(c, x, g, s, i):
        x, g = apply(c[:first], x, g)
        return update(c[first:], x, g, s, i)

    return scalar_join(transformed)


def join_measure(classes: tuple[type, ...], counts: tuple[int, ...]) -> Callable[..., Any] | None:
    """``measure(c, x, g)``: the coefficients after all sums over coordinates; None where no part needs one."""
    measure = None
    for k, part in enumerate(classes):
        if hasattr(part, "finish"):
            measure = _measure_one(measure, join_apply(classes[:k], counts[:k]), part, sum(counts[:k]), counts[k])
    return measure


def _measure_one(earlier, apply, part, start, count):
    term, finish, end = scalar(part.term), scalar(part.finish), start + count

    def measure(c, x, g):
        total = 0.0
        for i in range(x.size):
            _, gi = apply(c[:start], x[i], g[i])
            total += term(c[start:end], np.float64(x[i]), np.float64(gi))
        return c[:start] + cast_all(finish(c[start:end], total), x[0]) + c[end:]

    measure = jit(measure, cache=False)
    if earlier is None:
        return measure
    return jit(lambda c, x, g: measure(earlier(c, x, g), x, g), cache=False)


def scalar_join(function: Callable[..., Any]) -> Any:
    """Compile a closure made here; unlike `scalar`, without remembering it for ever."""
    return jit(function, cache=False, forceinline=True, fastmath=EXACT)


def sweep_signature(dtype: Any) -> Any:
    matrix, vector = array(dtype, 2), array(dtype)
    return types.none(matrix, types.intp, vector, vector, matrix, types.intp, types.intp)


class Program:
    """The compiled functions of one structure in one dtype."""

    def __init__(self, classes: tuple[type, ...], counts: tuple[int, ...], dtype: np.dtype):
        self.classes, self.counts, self.dtype = classes, counts, dtype
        self.n_coefficients = sum(counts)
        self.reduces = join_measure(classes, counts) is not None

    @functools.cached_property
    def prepare(self) -> Any:
        """``prepare(hyper, rates, t, out)``: rows of coefficients for the steps t, t + 1, ..., the rate in column 0."""
        prepare, build = join_prepare(self.classes), _builder(self.classes)
        load = row_loader(0, sum(len(part._fields) for part in self.classes))

        def fill(hyper, rates, t, out):
            parts = build(load(hyper, 0))
            for j in range(rates.size):
                out[j, 0] = rates[j]
                c = cast_all(prepare(parts, rates[j], t + j), 0.0)
                for k in range(len(c)):
                    out[j, k + 1] = c[k]

        arguments = (array(np.float64, 2), array(np.float64), types.intp, array(self.dtype, 2))
        return precompile(jit(fill, fastmath=EXACT), arguments, final=True)

    @functools.cached_property
    def sweep(self) -> Any:
        update, load = join_update(self.classes, self.counts), row_loader(1, self.n_coefficients)

        def sweep(coefficients, j, x, g, s, low, high):
            c = load(coefficients, j)
            for i in range(np.uint64(low), np.uint64(high)):  # signed: a check for i < 0, and no vector code
                x[i] = update(c, x[i], g[i], s, i)

        return precompile(jit(sweep, fastmath=EXACT), sweep_signature(self.dtype).args, final=True)

    @functools.cached_property
    def advance(self) -> Any:
        """`sweep` over all coordinates with the sums over coordinates taken first."""
        if not self.reduces:
            return self.sweep
        measure, update = join_measure(self.classes, self.counts), join_update(self.classes, self.counts)
        load = row_loader(1, self.n_coefficients)

        def advance(coefficients, j, x, g, s, low, high):
            c = measure(load(coefficients, j), x, g)
            for i in range(np.uint64(low), np.uint64(high)):  # signed: a check for i < 0, and no vector code
                x[i] = update(c, x[i], g[i], s, i)

        return precompile(jit(advance, fastmath=EXACT), sweep_signature(self.dtype).args, final=True)

    @functools.cached_property
    def address(self) -> Any:
        """Where `advance` lies, for the loops."""
        return address(self.advance, sweep_signature(self.dtype))


def _builder(classes: tuple[type, ...]) -> Callable[..., Any]:
    """``build(values)``: the tuple of parts from all their fields as floats."""
    width, where = len(classes[-1]._fields), sum(len(part._fields) for part in classes[:-1])
    pack = from_fields(classes[-1])
    if len(classes) == 1:
        return scalar_join(lambda values: (pack(values),))
    before, end = _builder(classes[:-1]), where + width
    return scalar_join(lambda values: before(values[:where]) + (pack(values[where:end]),))  # noqa: RUF005


@functools.cache
def _program(classes: tuple[type, ...], counts: tuple[int, ...], dtype: np.dtype) -> Program:
    return Program(classes, counts, dtype)


def program(opt: Any, dtype: Any) -> Program:
    """The compiled code of an optimizer for vectors of ``dtype``."""
    parts = parts_of(opt)
    counts = tuple(len(part.prepare(part, 0.1, 1)) for part in parts)
    return _program(tuple(type(part) for part in parts), counts, np.dtype(dtype))


def hyper_parameters(opt: Any) -> np.ndarray:
    """All fields of all parts as one row of float64; a schedule in the place of a rate counts as 0."""
    return np.array([[0.0 if callable(v) or isinstance(v, tuple) else float(v)
                      for part in parts_of(opt) for v in part]], np.float64)  # fmt: skip


__all__ = ["Program", "hyper_parameters", "parts_of", "program"]
