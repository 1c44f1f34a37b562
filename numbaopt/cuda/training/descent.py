"""The kernel that takes a slice of steps: `loops.minibatch.train` and `loops.descent.descend`, by many threads.

One launch takes all steps of a slice: the order of terms, the pass over a batch, the rule with its sums, bounds and
norms, averages, and the pass over all terms that judges an epoch.  A coordinate belongs to one thread; what is seen by
others is written before all wait.  The record ``now`` is written by one thread only.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numba
import numpy as np

from ...loops.shuffle import keys_of, network_of
from ...loops.state import clipped, conclude, projected_move, weight_at
from ...optimizers._program import Program, Sums, add_all, cast_all, join_after
from ...status import NOT_FINITE, RUNNING
from .._backend import kernel
from ..functions import device
from ..groups import BLOCK, WARP, WARPS, cuda, group, larger_or_nan, reducer
from ..memory import tuple_of
from .rows import Room, Shape, Table, Visit, opener
from .views import Inner, Judgement, Mine, viewed

JUDGED = 8  # numbers that a judgement needs of all threads: four sums, four maxima
FUN, SQUARES, ABSOLUTES, SHIFTS, PLAIN, NORM, MOVED, SIZE = range(JUDGED)
MAXIMA = PLAIN  # sums before, maxima from here on
MOST_REGISTERS = 128  # of a thread: so that a multiprocessor has two blocks, one reads while the other waits
BATCH, MOVE, ITERATE, JUDGE = range(4)  # what is next: a step over a batch, one whose gradient is there, passes


@functools.cache
def trainer(shape: Shape, program: Program, whole: bool, lanes: int, normed: bool = False) -> Any:
    """The kernel of a program and a pass, by the ``whole`` grid or a block a model; ``lanes`` threads a coordinate.

    ``normed``: the unknowns are those of `problems.weight_norm`.
    """
    wait, place, open_rows = group(whole).wait, group(whole).place, opener(shape.storage)
    walk, gradient = viewed(shape, whole, lanes, normed)
    move, judge = _moving(program, whole, shape.marks), _judging(whole, normed)
    network_for, keys = device(network_of), device(keys_of)
    outputs, parts_a_chunk, dtype = shape.outputs, shape.parts, numba.from_dtype(shape.dtype)
    tile, z_shape, sums_shape = shape.tile, (shape.outputs + 2, shape.tile), (numbers_of(program), WARPS)
    columns_shape = (WARPS, max(1, shape.wide * shape.pieces * WARP))

    def train(x, g, best, previous, state, lower, upper, now, history, a, b, c, y, weights, constants, parts, funs, bad,
              met, inner, inner_slope, partial, better, coefficients, rates, values, seeds, steps, terms, size, shuffle,
              judged, chunk, whole_chunk, l2, intercept_l2, gtol, ftol, xtol):  # fmt: skip
        at = place()
        z = cuda.shared.array(z_shape, dtype)  # a line each: by that the simulator tells them apart
        target = cuda.shared.array(tile, dtype)
        weight = cuda.shared.array(tile, dtype)
        order = cuda.shared.array(tile, numba.int64)
        reduced = cuda.shared.array(sums_shape, numba.float64)
        by_warp = cuda.shared.array(columns_shape, numba.float64)
        room = Room(z, target, weight, order, reduced, by_warp)
        w = at.which
        x, g, best, previous, state, now, history = x[w], g[w], best[w], previous[w], state[w], now[w], history[w]
        coefficients, values, partial, better = coefficients[w], values[w], partial[w], better[w]
        table = Table(open_rows(a, b, c), y, weights, constants, parts[w], funs[w], bad[w], met[w])
        own = Inner(inner[w], inner_slope[w])
        n, columns, step, seen = x.size, now.penalised // outputs, now.step, 0
        shown = state[now.shown] if now.shown >= 0 else x
        slope = state[now.shown + 1] if now.shown >= 0 and size == 0 else g
        rank = at.team * BLOCK + at.thread
        mine = Mine(rank // lanes, at.teams * BLOCK // lanes, rank % lanes == 0, rank % lanes)
        rule = Judgement(terms, l2, intercept_l2, gtol, ftol, xtol)
        network, per_epoch = network_for(terms), (terms + size - 1) // size if size > 0 else 1
        apart = size == 0 and now.shown >= 0  # a step follows the iterate's own gradient, not that of what is judged
        step_is, look_is = BATCH if size > 0 else MOVE, ITERATE if apart else JUDGE
        task, j = look_is if now.awaiting != 0 and judged else step_is, 0
        wait()  # until all have read where the run stands
        while now.status == RUNNING and (j < steps or task > MOVE):
            first, count, rows_at_once, epoch, ended = 0, terms, whole_chunk, 0, True
            if task == BATCH:
                done = step - now.origin
                epoch = done // per_epoch
                first = (done - epoch * per_epoch) * size
                count, rows_at_once = size if size < terms - first else terms - first, chunk
                ended = first + count == terms
            if task != MOVE:  # one pass for all: there is one copy of its code
                visit = Visit(first, count, rows_at_once, terms, task == BATCH and shuffle and terms > 1, network,
                              keys(seeds[w], epoch), task != BATCH, step + 1 if task == BATCH else 0)  # fmt: skip
                point, into = shown if task == JUDGE else x, slope if task == JUDGE else g
                walk(table, room, point, own, columns, visit, partial, at, mine)
                wait()
                rows = (count + rows_at_once - 1) // rows_at_once * parts_a_chunk
                gradient(table, point, into, own, rows, 1.0 / count, rule, now, room, partial, at, mine)
                if task == BATCH and table.bad[0] + table.bad[1] > 0:
                    if rank == 0:
                        now.status, now.fun = NOT_FINITE, math.nan if table.bad[1] > 0 else math.inf
                    break
                if task == BATCH and first == 0 and not judged and now.keeps_best != 0:
                    for i in range(mine.first, n, mine.stride):
                        if mine.leads:
                            best[i] = shown[i]
                    if rank == 0:
                        now.best_step = step
            if task == JUDGE:
                judge(table, shown, slope, own, best, previous, lower, upper, now, history, rule, room, partial, better,
                      at, mine)  # fmt: skip
                if rank == 0 and seen < values.size:
                    values[seen] = now.fun
                seen, task = seen + 1, step_is
            elif task == ITERATE:
                wait()
                task = JUDGE
            else:
                if size == 0:
                    for i in range(mine.first, previous.size, mine.stride):
                        if mine.leads:
                            previous[i] = shown[i]
                move(table, coefficients, j, x, g, state, lower, upper, now, shown, step + 1, room, partial, at, mine)
                step += 1
                if rank == 0:
                    now.step, now.lr = step, rates[w, j]
                j += 1
                wait()
                if ended and judged:
                    task = look_is

    return kernel(train, max_registers=MOST_REGISTERS)


def numbers_of(program: Program) -> int:
    """How many numbers threads reduce, or are told, at once at most."""
    return max([JUDGED, *(max(sums.terms or 1, sums.end - sums.start) for sums in program.sums)])


@functools.cache
def _moving(program: Program, whole: bool, marks: bool) -> Any:
    """The step of a rule, what bounds and norms ask for, and the average; ``marks``: of columns that were met only."""
    classes, counts, rule = program.classes, program.counts, program.rule
    update = device(join_after(classes, counts, rule))
    update_free = device(join_after(classes[: rule + 1], counts, rule))
    split, place = len(classes) > rule + 1, sum(counts[: rule + 1])  # the last unknowns are left alone
    kind = numba.from_dtype(program.dtype)
    load, load_rate = (tuple_of(kind, 1, program.width - 1, program.width), tuple_of(kind, 0, 1, program.width))
    measure, shorten = _measuring(program, whole), _shortening(whole)
    clip, weight_of = device(clipped), device(weight_at)

    def move(table, coefficients, j, x, g, state, lower, upper, now, shown, step, room, partial, at, mine):
        c, rate = load(coefficients, j), load_rate(coefficients, j)
        c = measure(c, x, g, state, room, partial, at, mine)
        n = x.size
        end = n - int(c[place]) if split else n
        for i in range(mine.first, n, mine.stride):
            if mine.leads and (not marks or i >= now.penalised or table.met[i % table.met.size] == step):
                k = np.uint64(i)
                if i < end:
                    x[i] = update(c, rate[0], x[i], g[i], state, k)
                else:
                    x[i] = update_free(c, rate[0], x[i], g[i], state, k)
                if lower.size > 0:
                    x[i] = clip(x[i], lower[i], upper[i])
        if now.max_norm > 0:
            shorten(now, x, room, partial, at, mine)
        if now.shown >= 0:
            weight = weight_of(now, step)
            for i in range(mine.first, n, mine.stride):
                if mine.leads:
                    shown[i] += weight * (x[i] - shown[i])

    return device(move)


@functools.cache
def _shortening(whole: bool) -> Any:
    """`loops.state.shorten`."""
    reduce, wait = reducer(whole, 1, 0), group(whole).wait

    def shorten(now, x, room, partial, at, mine):
        width, squares = now.penalised // now.outputs, cuda.local.array(1, numba.float64)
        for k in range(now.outputs):
            squares[0] = 0.0
            for i in range(mine.first, (k + 1) * width, mine.stride):
                if mine.leads and i >= k * width:
                    squares[0] += np.float64(x[i]) * np.float64(x[i])
            reduce(squares, room.sums, partial, at)
            norm = math.sqrt(squares[0])
            if norm > now.max_norm:
                scale = now.max_norm / norm
                for i in range(mine.first, (k + 1) * width, mine.stride):
                    if mine.leads and i >= k * width:
                        x[i] = np.float64(x[i]) * scale
            wait()

    return device(shorten)


def _measuring(program: Program, whole: bool) -> Any:
    """``measure(c, ...)``: the coefficients after all sums over coordinates."""
    measure = device(lambda c, x, g, s, room, partial, at, mine: c)
    for sums in program.sums:
        measure = _measuring_one(measure, sums, program.dtype.type, whole)
    return measure


def _measuring_one(earlier: Any, sums: Sums, unit: Any, whole: bool) -> Any:
    one, ended, start, end = device(sums.one), device(sums.finish), sums.start, sums.end
    count, alone = sums.terms or 1, sums.terms is None
    items, made = tuple_of(numba.float64, 0, count, count), tuple_of(numba.float64, 0, end - start, end - start)
    reduce, wait, add, cast = reducer(whole, count, 0), group(whole).wait, device(add_all), device(cast_all)
    nothing = 0.0 if alone else (0.0,) * count

    def measure(c, x, g, s, room, partial, at, mine):
        c, total = earlier(c, x, g, s, room, partial, at, mine), nothing
        for i in range(mine.first, x.size, mine.stride):
            if mine.leads:
                total = add(total, one(c, x[i], g[i], s, np.uint64(i)))
        sums = cuda.local.array(count, numba.float64)
        for k in range(count):
            sums[k] = total if alone else total[k]
        reduce(sums, room.sums, partial, at)
        told = partial[partial.shape[0] - 1]
        if at.team == 0 and at.thread == 0:  # one for all: a rule may write down what it has learnt
            found = cast(ended(c[start:end], sums[0] if alone else items(sums, 0), s), 0.0)
            for k in range(end - start):
                told[k] = found[k]
        wait()
        return c[:start] + cast(made(told, 0), unit(0)) + c[end:]

    return device(measure)


@functools.cache
def _judging(whole: bool, normed: bool) -> Any:
    """`loops.state.judge` at a point whose pass is done and whose gradient is ``g``."""
    reduce, wait = reducer(whole, MAXIMA, JUDGED - MAXIMA), group(whole).wait
    pick, projected, close = device(larger_or_nan), device(projected_move), device(conclude)

    def judge(table, x, g, own, best, previous, lower, upper, now, history, rule, room, partial, better, at, mine):
        n, told, w = x.size, cuda.local.array(JUDGED, numba.float64), own.x if normed else x
        for k in range(JUDGED):
            told[k] = 0.0
        told[SIZE] = 1.0
        rank = at.team * BLOCK + at.thread
        for k in range(rank, table.funs.size, at.teams * BLOCK):
            told[FUN] += table.funs[k]
        for i in range(mine.first, n, mine.stride):
            if mine.leads:
                here, size = np.float64(x[i]), abs(np.float64(g[i]))
                if i < w.size:
                    value = np.float64(w[i])
                    if i < now.penalised:
                        told[SQUARES] += value * value
                        told[ABSOLUTES] += abs(value)
                    else:
                        told[SHIFTS] += value * value
                told[PLAIN] = pick(told[PLAIN], size)
                if lower.size > 0 or now.l1 > 0:
                    size = projected(now, x, g, lower, upper, i)
                told[NORM] = pick(told[NORM], size)
                if previous.size > 0:
                    told[MOVED] = pick(told[MOVED], abs(np.float64(x[i] - previous[i])))
                    told[SIZE] = pick(told[SIZE], abs(here))
        reduce(told, room.sums, partial, at)
        if rank == 0:
            fun = (told[FUN] / rule.terms
                   + 0.5 * (rule.l2 * told[SQUARES] + rule.intercept_l2 * told[SHIFTS]) + now.l1 * told[ABSOLUTES])
            better[0] = close(now, history, fun, told[PLAIN], told[NORM], told[MOVED] <= rule.xtol * told[SIZE],
                              rule.gtol, rule.ftol, rule.xtol)  # fmt: skip
        wait()
        if better[0] != 0:
            for i in range(mine.first, n, mine.stride):
                if mine.leads:
                    best[i] = x[i]

    return device(judge)


__all__ = ["MOST_REGISTERS", "numbers_of", "trainer"]
