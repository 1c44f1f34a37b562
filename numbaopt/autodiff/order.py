"""Order statistics, and statistics of what is not NaN: items are chosen by their values, derivatives come along."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.core import errors, types
from numba.extending import overload

from .arrays import empty, filled, values
from .numbers import Number, number_in
from .scalars import lift, select, value
from .stubs import chosen_by_type, left_out, of_arrays, of_numbers


@chosen_by_type("a")
def in_order(a):
    """The items from the least to the largest as a vector, NaN last."""

    def build(a):
        flat = a.flatten()
        return flat[np.argsort(values(flat))]

    return build


@chosen_by_type("a")
def present(a):
    """The items that are not NaN, as a vector."""

    def build(a):
        flat = a.flatten()
        return flat[~np.isnan(flat)]

    return build


@chosen_by_type("ordered", "q")
def interpolated(ordered, q):
    """The quantile ``q`` of what is in order: between two items, the line through them; NaN of nothing and of NaN."""
    number, fixed = ordered.dtype, not number_in(q)

    def build(ordered, q):
        last = ordered.size - 1
        if not 0.0 <= value(q) <= 1.0:
            raise ValueError("Quantiles must be in the range [0, 1], percentiles in [0, 100]")
        if last < 0:
            return lift(math.nan, number)
        if last == 0 or value(ordered[last]) != value(ordered[last]):
            return ordered[last]
        low = min(int(value(q) * last), last - 1)
        part = q * last - low
        if fixed and (value(part) == 0.0 or value(ordered[low]) == value(ordered[low + 1])):
            return ordered[low]
        return ordered[low] * (1.0 - part) + ordered[low + 1] * part

    return build


@chosen_by_type("ordered", "q", "whole")
def quantiles(ordered, q, whole):
    """The quantile ``q / whole``, or a vector of them."""
    if isinstance(q, (types.Number, Number)):
        return lambda ordered, q, whole: interpolated(ordered, q / whole)
    number = ordered.dtype

    def build(ordered, q, whole):
        wanted = np.asarray(q).flatten()
        made = empty(wanted.size, number)
        for k in range(wanted.size):
            made[k] = interpolated(ordered, wanted[k] / whole)
        return made

    return build


of_arrays(np.median)(lambda a: lambda a: interpolated(in_order(a), 0.5))
of_arrays(np.quantile)(lambda a, q: lambda a, q: quantiles(in_order(a), q, 1.0))
of_arrays(np.percentile)(lambda a, q: lambda a, q: quantiles(in_order(a), q, 100.0))
of_arrays(np.nanmedian)(lambda a: lambda a: interpolated(in_order(present(a)), 0.5))
of_arrays(np.nanquantile)(lambda a, q: lambda a, q: quantiles(in_order(present(a)), q, 1.0))
of_arrays(np.nanpercentile)(lambda a, q: lambda a, q: quantiles(in_order(present(a)), q, 100.0))
of_arrays(np.nansum)(lambda a: lambda a: np.sum(present(a)))
of_arrays(np.nanprod)(lambda a: lambda a: np.prod(present(a)))
of_arrays(np.nancumsum)(lambda a: lambda a: np.cumsum(select(np.isnan(a), 0.0, a)))
of_arrays(np.nancumprod)(lambda a: lambda a: np.cumprod(select(np.isnan(a), 1.0, a)))


def _where_any(function: Any) -> Any:
    """A function of what is not NaN; NaN where all is."""

    def choose(a):
        number = a.dtype

        def build(a):
            found = present(a)
            return function(found) if found.size > 0 else lift(math.nan, number)

        return build

    return choose


of_arrays(np.nanmax)(_where_any(np.max))
of_arrays(np.nanmin)(_where_any(np.min))
of_arrays(np.nanmean)(_where_any(np.mean))


@of_arrays(np.nanvar)
def _nanvar(a, axis=None, dtype=None, out=None, ddof=0):
    if not (left_out(axis) and left_out(dtype) and left_out(out)):
        raise errors.TypingError("derivatives: np.nanvar and np.nanstd with axis, dtype or out")
    number = a.dtype

    def build(a, axis=None, dtype=None, out=None, ddof=0):
        found = present(a)
        count = found.size - ddof
        if count <= 0:
            return lift(math.nan, number)
        return np.sum((found - np.mean(found)) ** 2) / count

    return build


@of_arrays(np.nanstd)
def _nanstd(a, axis=None, dtype=None, out=None, ddof=0):
    return lambda a, axis=None, dtype=None, out=None, ddof=0: np.sqrt(np.nanvar(a, axis, dtype, out, ddof))


@of_arrays(np.unique)
def _unique(ar):
    def build(ar):
        ordered = in_order(ar)
        kept = np.ones(ordered.size, np.bool_)
        for k in range(1, ordered.size):
            kept[k] = value(ordered[k]) != value(ordered[k - 1])
        return ordered[kept]

    return build


@of_numbers(np.extract)
def _extract(condition, arr):
    return lambda condition, arr: arr.flatten()[condition.flatten() != 0]


@overload(np.select)
def _select(condlist, choicelist, default=0):
    number = number_in(getattr(choicelist, "dtype", None))
    if number is None:
        return None

    def build(condlist, choicelist, default=0):
        if len(condlist) != len(choicelist):
            raise ValueError("list of cases must be same length as list of conditions")
        made = filled(choicelist[0].shape, default, number)
        for k in range(len(choicelist) - 1, -1, -1):
            made = select(condlist[k], choicelist[k], made)
        return made

    return build
