"""Where the run of a problem stands: in its thread's own memory while a kernel works, in global memory between slices.

There item j of every problem's array is beside those of the others, so that neighbouring threads read neighbouring
words; records stand whole.  Histories and paths, where they are asked for, are always there.  The run of a team, or one
that is too large for a thread's memory, stays there in one piece (`Plan.in_place`).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numba
import numpy as np

from ...loops import automatic
from ...loops.many import complete
from ...problems.evaluation import FLOAT64
from .._backend import SIMULATED, cuda
from ..functions import device
from ..memory import RECORDS, address_of, memory_at

ALIGNED = 16  # bytes
# Bytes of a run in its thread's own memory.  A driver keeps as much for all threads for which a GPU has room, whether a
# launch has so many or not: on an H200 270,000, that is 18 GB.
MOST_OWN = 1 << 16


def arrays_of(plan: Any) -> Any:
    """``arrays(kept, i)`` of problem i: its x, g, work, best, previous, state, extra, lower, upper, now, history, path
    (if nobody asks for one), numbers of the settings, coefficients; to be called by a kernel itself.
    """
    if not plan.in_place:
        return _own(*_arrays(plan))
    there = _there(*_arrays(plan))
    return device(lambda kept, i: there(address_of(kept[i])))


def _arrays(plan: Any) -> list[tuple[Any, ...]]:
    """Dtypes and shapes."""
    n, real = plan.of.n, plan.dtype
    bounds, width = (n if plan.bounded else 0), (1 if plan.program is None else plan.program.width)
    return [(real, n), (real, n), (real, n), (real, n), (real, n if plan.keeps_previous else 0), (real, plan.slots, n),
            (FLOAT64, plan.extra), (real, bounds), (real, bounds), (RECORDS["now"], 1), (RECORDS["history"], 2),
            (real, 0, n), (FLOAT64, automatic.FIELDS + 1), (real, 1, width)]  # fmt: skip


def _places(arrays: Any) -> list[int]:
    """Where each of several arrays begins that stand one after the other, and the next piece of memory: bytes."""
    places = [0]
    for dtype, *shape in arrays:
        places.append(places[-1] + -(-dtype.itemsize * math.prod(shape) // ALIGNED) * ALIGNED)
    return places


def bytes_of_run(plan: Any) -> int:
    """How much memory the arrays of one problem take."""
    return _places(_arrays(plan))[-1]


if SIMULATED:
    def _own(*arrays):
        return lambda kept, i: tuple(np.empty(shape, dtype) for dtype, *shape in arrays)

    def _there(*arrays):
        places = [*zip(_places(arrays), arrays, strict=False)]
        return lambda address: tuple(memory_at(address + place, dtype, math.prod(shape)).reshape(shape)
                                     for place, (dtype, *shape) in places)  # fmt: skip
else:
    from llvmlite import ir
    from numba.core import cgutils, types

    from .._backend import intrinsic
    from ..memory import _array

    @functools.cache
    def _own(*arrays):
        """``own(kept, i)``: arrays of these dtypes and shapes in the memory of the function that calls."""
        kinds, made = _kinds(arrays)

        @intrinsic
        def own(typing_context, kept, i):
            def codegen(context, builder, signature, args):
                found = []
                for kind, (dtype, *shape) in zip(kinds, arrays, strict=True):
                    item, count = context.get_data_type(kind.dtype), math.prod(shape)
                    stored, words = (ir.DoubleType(), dtype.itemsize // 8) if dtype.names else (item, 1)
                    where = cgutils.alloca_once(builder, ir.ArrayType(stored, max(1, count * words)))
                    extents = [context.get_constant(types.intp, extent) for extent in shape]
                    found.append(_array(context, builder, kind, builder.bitcast(where, item.as_pointer()), extents))
                return context.make_tuple(builder, made, found)

            return made(kept, i), codegen

        return own

    @functools.cache
    def _there(*arrays):
        """``there(address)``: arrays of these dtypes and shapes that stand there, one after the other."""
        kinds, made = _kinds(arrays)

        @intrinsic
        def there(typing_context, address):
            def codegen(context, builder, signature, args):
                found = []
                for kind, (_, *shape), place in zip(kinds, arrays, _places(arrays), strict=False):
                    where = builder.add(args[0], context.get_constant(types.intp, place))
                    where = builder.inttoptr(where, context.get_data_type(kind.dtype).as_pointer())
                    extents = [context.get_constant(types.intp, extent) for extent in shape]
                    found.append(_array(context, builder, kind, where, extents))
                return context.make_tuple(builder, made, found)

            return made(types.intp), codegen

        return there

    def _kinds(arrays):
        kinds = [types.Array(numba.from_dtype(dtype), len(shape), "C") for dtype, *shape in arrays]
        return kinds, types.Tuple(kinds)


# ------------------------------------------------------------------------------------------ between slices
NUMBERS, WHOLE = 4, 6  # of the record ``now``; the rest of it is that of the template while a run goes on


def _reals(plan: Any) -> int:
    return int((3 + plan.keeps_previous + plan.slots) * plan.of.n)


def kept_arrays(plan: Any, count: int) -> Any:
    """Room for so many runs: numbers of the unknowns' type, float64 numbers, integers; or, in place, a row a run."""
    if plan.in_place:
        return cuda.device_array((count, bytes_of_run(plan) // 8), FLOAT64)
    return (cuda.device_array((_reals(plan), count), plan.dtype),
            cuda.device_array((plan.extra + NUMBERS, count), FLOAT64),
            cuda.device_array((WHOLE, count), np.int64))  # fmt: skip


def bytes_of(plan: Any) -> int:
    """How much one problem takes between slices, with its history and path."""
    points = plan.keeps_path * (plan.rows + 1) * plan.of.n
    history = (plan.rows + 1) * RECORDS["history"].itemsize if plan.rows else 0
    run = _reals(plan) * plan.dtype.itemsize + 8 * (plan.extra + NUMBERS + WHOLE)
    return (bytes_of_run(plan) if plan.in_place else run) + points * plan.dtype.itemsize + history


def _moving(one: Any, several: Any) -> Any:
    """``move(run, kept, i)``: the arrays that must outlast a slice."""
    one, several = device(one), device(several)

    def move(run, kept, i):
        reals, doubles, n = kept[0], kept[1], run.x.size
        one(run.x, reals, 0, i)
        one(run.g, reals, n, i)
        one(run.best, reals, 2 * n, i)
        one(run.previous, reals, 3 * n, i)
        first = 3 * n + run.previous.size
        for slot in range(run.state.shape[0]):
            one(run.state[slot], reals, first + slot * n, i)
        several(run.extra, doubles, doubles.shape[0] - NUMBERS, i)

    return device(move)


def _store(values, table, first, i):
    for j in range(values.size):
        table[first + j, i] = values[j]


def _load(values, table, first, i):
    for j in range(values.size):
        values[j] = table[first + j, i]


def _store_all(values, table, count, i):  # ``count`` is not known to the compiler, which would unroll the loop
    for j in range(count):
        table[j, i] = values[j]


def _load_all(values, table, count, i):
    for j in range(count):
        values[j] = table[j, i]


def movers(plan: Any) -> tuple[Any, Any]:
    """``keep(run, kept, i)`` and ``resume(run, kept, i)``: all of a run that goes on but its bounds and its history.

    Of the record ``now`` only what such a run changes: registers are few.  What stands in place is there already.
    """
    if plan.in_place:
        return (device(lambda run, kept, i: None),) * 2
    save, load = _moving(_store, _store_all), _moving(_load, _load_all)

    def keep(run, kept, i):
        save(run, kept, i)
        now, doubles, whole, first = run.now[0], kept[1], kept[2], run.extra.size
        doubles[first, i], doubles[first + 1, i], doubles[first + 2, i] = now.fun, now.grad_norm, now.best_fun
        whole[0, i], whole[1, i], whole[2, i] = now.step, now.evaluations, now.calm

    def resume(run, kept, i):
        load(run, kept, i)
        now, doubles, whole, first = run.now[0], kept[1], kept[2], run.extra.size
        now.fun, now.grad_norm, now.best_fun = doubles[first, i], doubles[first + 1, i], doubles[first + 2, i]
        now.step, now.evaluations, now.calm, now.awaiting = whole[0, i], whole[1, i], whole[2, i], 0

    if not plan.rows:
        return device(keep), device(resume)
    keeps, resumes = device(keep), device(resume)

    def keep_rows(run, kept, i):
        keeps(run, kept, i)
        now, doubles, whole = run.now[0], kept[1], kept[2]
        doubles[run.extra.size + 3, i] = now.lr
        whole[3, i], whole[4, i], whole[5, i] = now.records, now.stride, now.due

    def resume_rows(run, kept, i):
        resumes(run, kept, i)
        now, doubles, whole = run.now[0], kept[1], kept[2]
        now.lr = doubles[run.extra.size + 3, i]
        now.records, now.stride, now.due = whole[3, i], whole[4, i], whole[5, i]

    return device(keep_rows), device(resume_rows)


def rows_of(plan: Any) -> tuple[Any, Any, Any]:
    """``history(own, table, i)``, ``path(own, table, i)`` of problem i, and ``end(...)``, which completes both."""
    most, finish = plan.rows, device(complete)

    def own_rows(own, table, i):
        return own

    def rows(own, table, i):
        return table[:most, i]

    def points(own, table, i):
        return table[:, :, i]

    def nothing(records, table, path, run, i):
        pass

    def end(records, table, path, run, i):
        records[i] = finish(table[:, i], path, run)

    return (device(rows if most else own_rows), device(points if plan.keeps_path else own_rows),
            device(end if most else nothing))  # fmt: skip


__all__ = ["MOST_OWN", "arrays_of", "bytes_of", "bytes_of_run", "kept_arrays", "movers", "rows_of"]
