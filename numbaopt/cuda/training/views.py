"""A model as a run sees it: passes over its rows at a point of the run, and gradients in the unknowns of the run.

These are the model's own, or the directions and lengths of `problems.weight_norm`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numba
import numpy as np

from ...problems.weight_norm import norm_of, slope_of
from ..functions import device
from ..groups import cuda, group, lane_sum, reducer
from .rows import Shape, walker


class Mine(NamedTuple):
    """The coordinates of a thread."""

    first: int
    stride: int
    leads: bool  # of the threads that share a coordinate one writes
    lane: int


class Judgement(NamedTuple):
    """What the objective at a point is made of, and when it is enough."""

    terms: int
    l2: float
    intercept_l2: float
    gtol: float
    ftol: float
    xtol: float


class Inner(NamedTuple):
    """The model's own unknowns, where a run has others; else empty."""

    x: Any
    g: Any  # the gradient there


@functools.cache
def viewed(shape: Shape, whole: bool, lanes: int, normed: bool) -> tuple[Any, Any]:
    """``walk(table, room, x, own, columns, visit, partial, at, mine)``, a pass at x, and ``gradient(table, x, g, own,
    rows, mean, rule, now, room, partial, at, mine)`` from ``rows`` rows of its sums.
    """
    walk, gradient = walker(shape), _gradient(lanes)
    unfold, fold = _unfolding(whole), _folding(whole)

    def walk_plain(table, room, x, own, columns, visit, partial, at, mine):
        walk(table, room, x, columns, visit, at)

    def gradient_plain(table, x, g, own, rows, mean, rule, now, room, partial, at, mine):
        gradient(table, x, g, rows, mean, rule, now, mine)

    def walk_normed(table, room, x, own, columns, visit, partial, at, mine):
        unfold(x, own.x, columns, room, partial, at, mine)
        walk(table, room, own.x, columns, visit, at)

    def gradient_normed(table, x, g, own, rows, mean, rule, now, room, partial, at, mine):
        gradient(table, own.x, own.g, rows, mean, rule, now, mine)
        fold(x, own.g, g, now.penalised // now.outputs, room, partial, at, mine)

    return (device(walk_normed), device(gradient_normed)) if normed else (device(walk_plain), device(gradient_plain))


@functools.cache
def _gradient(lanes: int) -> Any:
    """Mean slopes times rows from the sums of ``rows`` rows of the parts, times ``mean``, and l2."""
    total_of = lane_sum(lanes)

    def gradient(table, x, g, rows, mean, rule, now, mine):
        for i in range(mine.first, x.size, mine.stride):
            total = 0.0
            for k in range(mine.lane, rows, lanes):
                total += table.parts[k, i]
            total = total_of(total)
            if mine.leads:
                shrink = rule.l2 if i < now.penalised else rule.intercept_l2
                g[i] = total * mean + shrink * np.float64(x[i])

    return device(gradient)


@functools.cache
def _unfolding(whole: bool) -> Any:
    """``unfold(x, w, columns, ...)``: the model's unknowns from directions and lengths; all wait for them."""
    reduce, wait, norm = reducer(whole, 1, 0), group(whole).wait, device(norm_of)

    def unfold(x, w, columns, room, partial, at, mine):
        squares = cuda.local.array(1, numba.float64)
        for i in range(mine.first, w.size, mine.stride):
            if mine.leads:
                w[i] = x[i]  # intercepts stay free
        for k in range(x.size - w.size):
            squares[0] = 0.0
            for i in range(mine.first, (k + 1) * columns, mine.stride):
                if mine.leads and i >= k * columns:
                    squares[0] += np.float64(x[i]) * np.float64(x[i])
            reduce(squares, room.sums, partial, at)
            factor = x[w.size + k] / norm(squares[0])
            for i in range(mine.first, (k + 1) * columns, mine.stride):
                if mine.leads and i >= k * columns:
                    w[i] = factor * x[i]
            wait()

    return device(unfold)


@functools.cache
def _folding(whole: bool) -> Any:
    """``fold(x, slope, g, columns, ...)``: the gradient in directions and lengths from that in the model's unknowns."""
    reduce, wait, norm, turned = reducer(whole, 2, 0), group(whole).wait, device(norm_of), device(slope_of)

    def fold(x, slope, g, columns, room, partial, at, mine):
        n, told = slope.size, cuda.local.array(2, numba.float64)
        for i in range(mine.first, n, mine.stride):
            if mine.leads:
                g[i] = slope[i]
        for k in range(x.size - n):
            told[0] = told[1] = 0.0
            for i in range(mine.first, (k + 1) * columns, mine.stride):
                if mine.leads and i >= k * columns:
                    told[0] += np.float64(x[i]) * np.float64(x[i])
                    told[1] += np.float64(slope[i]) * np.float64(x[i])
            reduce(told, room.sums, partial, at)
            size = norm(told[0])
            along = told[1] / size
            for i in range(mine.first, x.size, mine.stride):
                if mine.leads and k * columns <= i < (k + 1) * columns:
                    g[i] = turned(x[n + k], size, along, slope[i], x[i])
                elif mine.leads and i == n + k:
                    g[i] = along
            wait()

    return device(fold)


__all__ = ["Inner", "Judgement", "Mine", "viewed"]
