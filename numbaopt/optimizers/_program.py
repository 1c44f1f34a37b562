"""From a rule's scalar functions to compiled code over vectors.

Everything here is made once per *structure* (the classes of a rule and of the transforms before it) by composing scalar
functions, and kept on disk.  All programs have one signature, so a loop takes any of them by address:

``prepare(hyper, rates, t, out, k)``
    the coefficients of the ``k`` steps t, t + 1, ..., a row each, the rate in column 0;
``advance(coefficients, j, x, g, s, n, low, high)``
    the step with row ``j`` of the coefficients on the coordinates ``low`` to ``high`` of ``n``, after what needs sums
    over all of them (clipping by norm, the rate that SWATS learns).

``advance_some(coefficients, j, x, g, s, n, which, count)``
    the same on the coordinates ``which``, whose gradients are ``g``, for parts that need no sum;
``pay(coefficients, j, x, s, n, which, count, owed)``
    the proximal steps that these coordinates missed while they had no gradient: ``owed[0] - owed[1 + i]`` is the sum of
    the rule's first coefficients over those steps.

All arguments are integers, arrays their addresses.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types
from numba.core import cgutils

from .._fields import from_fields
from .._jit import EXACT, address, array_at, jit_for_address, jit_inside, native, scalar
from ._blame import blaming
from ._rule import count_coefficients


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


def _added(total, value):
    if not isinstance(total, tuple):
        return float(total) + float(value)
    values = value if isinstance(value, tuple) else (value,) * len(total)
    return tuple(float(a) + float(b) for a, b in zip(total, values, strict=True))


@native(_added)
def add_all(typing_context, total, value):
    """The sum of two numbers, or of tuples of numbers item by item, in float64; one number may stand for a tuple."""
    many = isinstance(total, types.BaseTuple)
    to = types.UniTuple(types.float64, len(total)) if many else types.float64

    def codegen(context, builder, signature, arguments):
        def items(argument, kind):
            if not isinstance(kind, types.BaseTuple):
                return [context.cast(builder, argument, kind, types.float64)] * (len(total) if many else 1)
            return [context.cast(builder, builder.extract_value(argument, k), types.unliteral(each), types.float64)
                    for k, each in enumerate(kind)]  # fmt: skip

        pairs = zip(*map(items, arguments, signature.args), strict=True)
        sums = [builder.fadd(one, other) for one, other in pairs]
        return context.make_tuple(builder, to, sums) if many else sums[0]

    return to(total, types.unliteral(value)), codegen


def row_loader(kind: types.Float, first: int, count: int, width: int) -> Any:
    """An intrinsic ``load(matrix, j)``: the numbers ``first``, ... of row ``j`` of a matrix ``width`` wide, a tuple."""
    to = types.UniTuple(kind, count)

    @native(lambda matrix, j: tuple(matrix[j, first : first + count]))
    def load(typing_context, matrix, j):
        def codegen(context, builder, signature, arguments):
            start, whole = arguments[0], isinstance(signature.args[0], types.Array)
            start = (context.make_array(matrix)(context, builder, start).data if whole
                     else builder.inttoptr(start, context.get_value_type(kind).as_pointer()))  # fmt: skip
            row = builder.mul(arguments[1], context.get_constant(types.intp, width))
            row = cgutils.gep(builder, start, row)
            items = [builder.load(cgutils.gep(builder, row, first + k)) for k in range(count)]
            return context.make_tuple(builder, to, items)

        return to(matrix if isinstance(matrix, types.Array) else types.intp, types.intp), codegen

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
    """``apply(c, x, g, i)``: the transforms, one after the other."""
    if not classes:
        return scalar_join(lambda c, x, g, i: (x, g))
    first, last = sum(counts[:-1]), scalar(classes[-1].apply, EXACT)
    if len(classes) == 1:
        return last
    before = join_apply(classes[:-1], counts[:-1])

    def apply(c, x, g, i):
        x, g = before(c[:first], x, g, i)
        return last(c[first:], x, g, i)

    return scalar_join(apply)


def join_update(classes: tuple[type, ...], counts: tuple[int, ...]) -> Callable[..., Any]:
    """``update(c, x, g, s, i)``: the transforms, then the rule."""
    update = scalar(classes[-1].update, EXACT)
    if len(classes) == 1:
        return update
    first = sum(counts[:-1])
    apply = join_apply(classes[:-1], counts[:-1])

    def transformed(c, x, g, s, i):
        x, g = apply(c[:first], x, g, i)
        return update(c[first:], x, g, s, i)

    return scalar_join(transformed)


def join_after(classes: tuple[type, ...], counts: tuple[int, ...], rule: int) -> Callable[..., Any]:
    """``update(c, lr, x, g, s, i)``: transforms, the rule at position ``rule``, then what comes after it."""
    end = sum(counts[: rule + 1])
    update = join_update(classes[: rule + 1], counts[: rule + 1])
    joined = scalar_join(lambda c, lr, x, g, s, i: update(c[:end], x, g, s, i))
    for k in range(rule + 1, len(classes)):
        scale = scalar(classes[rule].scale, EXACT)
        joined = _join_one(joined, scale, scalar(classes[k].after, EXACT), (sum(counts[:rule]), end), sum(counts[:k]))
    return joined


def _join_one(before, scale, after, own, start):
    first, last = own

    def update(c, lr, x, g, s, i):
        x = before(c, lr, x, g, s, i)
        return after(c[start:], scale(c[first:last], s, i), x)

    return scalar_join(update)


class Sums(NamedTuple):
    """What one part of a program needs summed over all coordinates before any is moved."""

    one: Any  # one(c, x, g, s, i): what coordinate i contributes, a number or a tuple of numbers
    finish: Any  # finish(c, total, s): the part's own coefficients from the sums
    start: int  # where these stand among all
    end: int
    terms: int | None  # how many numbers; None where ``one`` returns a number alone


def sums_of(classes: tuple[type, ...], counts: tuple[int, ...]) -> list[Sums]:
    """The sums of all parts that need some, in the order in which they are made."""
    return [_sums_of_one(join_apply(classes[:k], counts[:k]), part, sum(counts[:k]), counts[k])
            for k, part in enumerate(classes) if hasattr(part, "finish")]  # fmt: skip


def _sums_of_one(apply, part, start, count):
    """`Sums` of one part; a rule, unlike a transform, is shown its state."""
    term, finish, end = scalar(part.term), scalar(part.finish), start + count
    if hasattr(part, "update"):
        own, ended = term, finish
    else:
        own = scalar_join(lambda c, x, g, s, i: term(c, np.float64(x), np.float64(g)))
        ended = scalar_join(lambda c, total, s: finish(c, total))

    def one(c, x, g, s, i):
        x, g = apply(c[:start], x, g, i)
        return own(c[start:end], x, g, s, i)

    return Sums(scalar_join(one), ended, start, end, _count_terms(part))


def _count_terms(part: Any) -> int | None:
    like = part()
    c, state = like.prepare(like, 0.1, 1), np.zeros((len(getattr(part, "slots", ())), 1))
    told = part.term(c, np.float64(1.0), np.float64(1.0), *((state, 0) if hasattr(part, "update") else ()))
    return len(told) if isinstance(told, tuple) else None


def join_measure(sums: list[Sums]) -> Callable[..., Any] | None:
    """``measure(c, x, g, s)``: the coefficients after all sums over coordinates; None where no part needs one."""
    measure = None
    for one in sums:
        measure = _measure_one(measure, one)
    return measure


def _measure_one(earlier, sums):
    """`measure` of one part, after those ``earlier``."""
    one, finish, start, end, _ = sums

    def measure(c, x, g, s):
        if x.size == 0:
            return c
        total = add_all(one(c, x[0], g[0], s, np.uint64(0)), 0.0)
        for i in range(np.uint64(1), np.uint64(x.size)):
            total = add_all(total, one(c, x[i], g[i], s, i))
        return c[:start] + cast_all(finish(c[start:end], total, s), x[0]) + c[end:]

    measure = jit_inside(measure)
    if earlier is None:
        return measure
    return jit_inside(lambda c, x, g, s: measure(earlier(c, x, g, s), x, g, s))


def scalar_join(function: Callable[..., Any]) -> Any:
    """Compile a closure made here; unlike `scalar`, without remembering it for ever."""
    return jit_inside(function, forceinline=True, fastmath=EXACT)


def join_owed(classes: tuple[type, ...], counts: tuple[int, ...], rule: int) -> Callable[..., Any]:
    """``pay(c, owed, x, s, i)``: the proximal step that is owed to a coordinate without a gradient.

    ``owed`` is the sum of the rule's first coefficients over the steps it missed: its scale is in proportion to that.
    """
    start, end = sum(counts[:rule]) + 1, sum(counts[: rule + 1])
    scale, after = scalar(classes[rule].scale, EXACT), scalar(classes[rule + 1].after, EXACT)
    return scalar_join(lambda c, owed, x, s, i: after(c[end:], scale((owed,) + c[start:end], s, i), x))  # noqa: RUF005


PREPARE = types.void(*(types.intp,) * 5)
ADVANCE = types.void(*(types.intp,) * 8)


class Program:
    """The compiled functions of one structure in one dtype."""

    def __init__(self, classes: tuple[type, ...], counts: tuple[int, ...], dtype: np.dtype, rule: int):
        self.classes, self.counts, self.dtype, self.rule = classes, counts, dtype, rule
        self.width = 1 + sum(counts)  # of a row of coefficients
        self.slots = sum(len(getattr(part, "slots", ())) for part in classes[rule:])
        self.sums = sums_of(classes, counts)
        self.reduces = bool(self.sums)
        self._measure = join_measure(self.sums)

    @functools.cached_property
    def prepare(self) -> Any:
        """The address of ``prepare``."""
        with blaming(self.classes, self.counts, self.dtype):
            return address(self.fill, PREPARE)

    @functools.cached_property
    def advance(self) -> Any:
        """The address of ``advance``."""
        with blaming(self.classes, self.counts, self.dtype):
            return address(self.sweep, ADVANCE)

    @functools.cached_property
    def fill(self) -> Any:
        """``prepare``, compiled when it is needed."""
        prepare, build, width = join_prepare(self.classes), _builder(self.classes), self.width
        fields = sum(len(part._fields) for part in self.classes)
        load = row_loader(types.float64, 0, fields, fields)
        vector, matrix = array_at(np.float64), array_at(self.dtype, columns=width)

        def fill(hyper, rates, t, out, k):
            parts, lr, rows = build(load(hyper, 0)), vector(rates, k), matrix(out, k)
            for j in range(k):
                rows[j, 0] = lr[j]
                c = cast_all(prepare(parts, lr[j], t + j), 0.0)
                for m in range(len(c)):
                    rows[j, m + 1] = c[m]

        return jit_for_address(fill, fastmath=EXACT)

    @functools.cached_property
    def sweep(self) -> Any:
        """``advance``, compiled when it is needed."""
        measure, kind = self._measure, numba.from_dtype(self.dtype)
        classes, counts, rule = self.classes, self.counts, self.rule
        update, update_free = join_after(classes, counts, rule), join_after(classes[: rule + 1], counts, rule)
        split, where = len(classes) > rule + 1, sum(counts[: rule + 1])  # the last unknowns are left alone
        load, load_lr = row_loader(kind, 1, self.width - 1, self.width), row_loader(kind, 0, 1, self.width)
        vector, state = array_at(self.dtype), array_at(self.dtype, rows=self.slots)

        def advance(coefficients, j, x, g, s, n, low, high):
            x, g, s = vector(x, n), vector(g, n), state(s, n)
            c, (lr,) = load(coefficients, j), load_lr(coefficients, j)
            if measure is not None:
                c = measure(c, x, g, s)
            end = high
            if split:
                end = max(low, min(high, n - int(c[where])))
            for i in range(np.uint64(low), np.uint64(end)):  # signed: a check for i < 0, and no vector code
                x[i] = update(c, lr, x[i], g[i], s, i)
            if split:
                for i in range(np.uint64(end), np.uint64(high)):
                    x[i] = update_free(c, lr, x[i], g[i], s, i)

        return jit_for_address(advance, fastmath=EXACT)

    @functools.cached_property
    def advance_some(self) -> Any:
        """The address of ``advance_some``."""
        classes, counts, rule, kind = self.classes, self.counts, self.rule, numba.from_dtype(self.dtype)
        update, update_free = join_after(classes, counts, rule), join_after(classes[: rule + 1], counts, rule)
        split, where = len(classes) > rule + 1, sum(counts[: rule + 1])  # the last unknowns are left alone
        load, load_lr = row_loader(kind, 1, self.width - 1, self.width), row_loader(kind, 0, 1, self.width)
        vector, state, whole = array_at(self.dtype), array_at(self.dtype, rows=self.slots), array_at(np.int64)

        def advance_some(coefficients, j, x, g, s, n, which, count):
            x, g, s, which = vector(x, n), vector(g, count), state(s, n), whole(which, count)
            c, (lr,) = load(coefficients, j), load_lr(coefficients, j)
            end = np.uint64(n - int(c[where]) if split else n)
            for k in range(count):
                i = np.uint64(which[k])
                if i < end:
                    x[i] = update(c, lr, x[i], g[k], s, i)
                elif split:
                    x[i] = update_free(c, lr, x[i], g[k], s, i)

        self._advance_some = jit_for_address(advance_some, fastmath=EXACT)
        with blaming(classes, counts, self.dtype):
            return address(self._advance_some, ADVANCE)

    @functools.cached_property
    def pay(self) -> Any:
        """The address of ``pay``."""
        pay, kind = join_owed(self.classes, self.counts, self.rule), self.dtype
        where = sum(self.counts[: self.rule + 1])
        load, doubles = row_loader(numba.from_dtype(kind), 1, self.width - 1, self.width), array_at(np.float64)
        vector, state, whole = array_at(kind), array_at(kind, rows=self.slots), array_at(np.int64)

        def pay_some(coefficients, j, x, s, n, which, count, owed):
            x, s, which, owed = vector(x, n), state(s, n), whole(which, count), doubles(owed, n + 1)
            c = load(coefficients, j)
            end = np.uint64(n - int(c[where]))
            for k in range(count):
                i = np.uint64(which[k])
                missed = owed[0] - owed[i + np.uint64(1)]
                if i < end and missed != 0:
                    x[i] = pay(c, x.dtype.type(missed), x[i], s, i)

        self._pay = jit_for_address(pay_some, fastmath=EXACT)
        with blaming(self.classes, self.counts, self.dtype):
            return address(self._pay, ADVANCE)


def _builder(classes: tuple[type, ...]) -> Callable[..., Any]:
    """``build(values)``: the tuple of parts from all their fields as floats."""
    width, where = len(classes[-1]._fields), sum(len(part._fields) for part in classes[:-1])
    pack = from_fields(classes[-1])
    if len(classes) == 1:
        return scalar_join(lambda values: (pack(values),))
    before, end = _builder(classes[:-1]), where + width
    return scalar_join(lambda values: before(values[:where]) + (pack(values[where:end]),))  # noqa: RUF005


@functools.cache
def _program(classes: tuple[type, ...], counts: tuple[int, ...], dtype: np.dtype, rule: int) -> Program:
    return Program(classes, counts, dtype, rule)


def program(opt: Any, dtype: Any, after: tuple[Any, ...] = ()) -> Program:
    """The compiled code of an optimizer, and of what comes after it, for vectors of ``dtype``."""
    parts = (*parts_of(opt), *after)
    counts = tuple(map(count_coefficients, parts))
    return _program(tuple(type(part) for part in parts), counts, np.dtype(dtype), len(parts_of(opt)) - 1)


def program_of(classes: tuple[type, ...], dtype: Any) -> Program:
    """The compiled code of the classes of an optimizer's parts."""
    counts = tuple(count_coefficients(part()) for part in classes)
    return _program(classes, counts, np.dtype(dtype), len(classes) - 1)


def hyper_parameters(opt: Any, after: tuple[Any, ...] = ()) -> np.ndarray:
    """All fields of all parts as one row of float64; a schedule in the place of a rate counts as 0."""
    return np.array([[0.0 if callable(v) or isinstance(v, tuple) else float(v)
                      for part in (*parts_of(opt), *after) for v in part]], np.float64)  # fmt: skip


__all__ = ["Program", "hyper_parameters", "parts_of", "program", "program_of"]
