"""The kernel that solves many problems, a thread or a team each: a slice of steps of each, by the loops of the CPU.

How many unknowns, vectors of state and residuals there are is known when it is compiled, so that nothing is left of
loops over few unknowns.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from ...loops import automatic, descent
from ...loops.many import advance, begin, enclose, note, settle
from ...loops.state import Run
from ...status import RAISED, RUNNING
from .._backend import SIMULATED, cuda, kernel
from ..functions import device
from .objectives import Derived
from .runs import arrays_of, movers, rows_of
from .teams import alone, team

NO_ROOM = -100  # status of a problem that needs more memory for temporary arrays


class Plan(NamedTuple):
    """What a kernel is compiled for; equal plans share one."""

    of: Derived
    m: int  # residuals; 0: an objective
    loop: Any
    program: Any  # of a first-order rule, or None
    way: str  # "planned", "table" (of coefficients), "steady" or "scheduled" (a thread's own), "automatic"
    dtype: np.dtype
    slots: int
    extra: int
    bounded: bool
    keeps_previous: bool
    rows: int  # of the histories; 0: nobody asks
    keeps_path: bool
    shapes: tuple[int, ...]  # of the arguments: -1 shared, else axes of a problem's own
    lanes: int = 1  # that solve a problem
    in_place: bool = False  # whether runs work where they stand between slices, in global memory


# ------------------------------------------------------------------------------------------ parts of the kernel
def _own(shapes: tuple[int, ...]) -> Any:
    """``own(args, i)``: the arguments of problem ``i``, whose axis is the last one."""
    if not shapes:
        return device(lambda args, i: ())
    first, rest = _item_of(shapes[0]), _own(shapes[1:])
    return device(lambda args, i: (first(args[0], i),) + rest(args[1:], i))  # noqa: RUF005


@functools.cache
def _item_of(axes: int) -> Any:
    """``item(arg, i)``: what problem ``i`` is given of one argument."""
    if axes < 0:
        return device(lambda arg, i: arg)
    return device((lambda arg, i: arg[..., i]) if axes else (lambda arg, i: arg[i]))


def _row_of_table(table, rates, t, out, k):
    for j in range(out.shape[1]):
        out[0, j] = table[t - 1, j]


if SIMULATED:
    def repeated(values, i, size):
        return np.broadcast_to(values[i], (size,))
else:
    from numba.core import types
    from numba.np.arrayobj import populate_array

    from .._backend import intrinsic

    @intrinsic
    def repeated(typing_context, values, i, size):
        """``values[i]`` as a vector of that size."""
        made = types.Array(values.dtype, 1, "A")

        def codegen(context, builder, signature, args):
            source = context.make_array(values)(context, builder, args[0])
            array = context.make_array(made)(context, builder)
            populate_array(array, data=builder.gep(source.data, [args[1]]), shape=[args[2]],
                           strides=[context.get_constant(types.intp, 0)], itemsize=source.itemsize,
                           meminfo=None)  # fmt: skip
            return array._getvalue()

        return made(values, types.intp, types.intp), codegen


def _settings(way: str, compiled: Any) -> Any:
    """``settings(tables, kind, steps, fields, coefficients)``: those of a problem's loop; the last two are its own.

    Coefficients are prepared for a step at a time, so that it does not matter where a slice begins.
    """
    if way == "planned":
        return device(lambda tables, kind, steps, fields, coefficients: tables[0][kind])
    step, fill, copy, ahead = device(compiled.sweep), device(compiled.fill), device(_row_of_table), 1

    def table(tables, kind, steps, fields, coefficients):
        return descent.Settings(tables[0][kind], tables[1][kind], 0, coefficients, ahead, copy, step)

    def scheduled(tables, kind, steps, fields, coefficients):
        return descent.Settings(tables[0][kind : kind + 1], tables[1][kind], 0, coefficients, ahead, fill, step)

    def steady(tables, kind, steps, fields, coefficients):
        rates = repeated(tables[1], kind, steps)
        return descent.Settings(tables[0][kind : kind + 1], rates, 0, coefficients, ahead, fill, step)

    def found(tables, kind, steps, fields, coefficients):
        for j in range(automatic.FIELDS):
            fields[j] = tables[1][kind, j]
        return descent.Settings(tables[0][kind : kind + 1], fields, 0, coefficients, ahead, fill, step)

    return device({"table": table, "scheduled": scheduled, "steady": steady, "automatic": found}[way])


@functools.lru_cache(maxsize=64)
def compiled_kernel(plan: Plan, words: int) -> Any:
    """The kernel that takes at most ``most`` steps of ``count`` problems, compiled when it is first launched.

    ``which`` names them (none: all); ``fresh``: whether they begin.  What is known of each so far goes into
    ``answers``, and where it stands, if it has not ended, into ``kept``.  ``words`` of memory a thread has for
    temporary arrays.
    """
    zero, lanes, in_place = plan.dtype.type(0), plan.lanes, plan.in_place
    evaluate, meet, serve, dismiss, overflowed = (
        team(plan.of, plan.m, lanes, words, plan.dtype) if lanes > 1 else alone(plan.of, plan.m, words))
    own, (keep, resume), (history_of, path_of, end) = arrays_of(plan), movers(plan), rows_of(plan)
    own_args, loop, settings_of = _own(plan.shapes), device(plan.loop), _settings(plan.way, plan.program)
    begins, encloses, advances, settles, notes = map(device, (begin, enclose, advance, settle, note))

    def solve(count, which, fresh, most, starts, limits, answers, records, kept, histories, paths, kinds, targets,
              template, tables, args, maxiter, gtol, ftol, xtol):  # fmt: skip
        j, lane = cuda.grid(1) // lanes, cuda.grid(1) % lanes
        if j < count:
            i = which[j] if which.shape[0] > 0 else j
            (here, g, work, best, previous, state, extra, low, high, now, history, path, fields,
             coefficients) = own(kept, i)  # fmt: skip
            data = own_args(args, i), low, high, meet()
            if lane > 0:
                serve(lane, data)
            else:
                run = Run(here, g, work, best, previous, state, extra, low, high, now,
                          history_of(history, histories, i))  # fmt: skip
                path = path_of(path, paths, i)
                if fresh or not in_place:
                    now[0] = template[0]
                    now[0].f_target = targets[i if targets.shape[0] > 1 else 0]
                if fresh:
                    begins(run, i, starts, limits[0], limits[1])
                elif not in_place:
                    encloses(run, i, limits[0], limits[1])
                    resume(run, kept, i)
                settings = settings_of(tables, kinds[i], maxiter, fields, coefficients)
                advances(run, run, zero, fields, most, most, maxiter, path, loop, settings, evaluate, data, gtol, ftol,
                         xtol)  # fmt: skip
                settles(now[0], maxiter)
                if now[0].status == RAISED and overflowed(data[3]):
                    now[0].status = NO_ROOM
                elif now[0].status == RUNNING:
                    keep(run, kept, i)
                x, fun, status, nit, nfev, reason = answers
                notes(run, i, x, fun, status, nit, nfev, reason)
                end(records, histories, path, run, i)
                dismiss(data[3])

    return kernel(solve)


__all__ = ["NO_ROOM", "Plan", "compiled_kernel"]
