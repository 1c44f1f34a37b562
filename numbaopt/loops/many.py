"""Many small problems, one after the other, in the memory of one: the loop around any loop over whole objectives."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numba import types

from .._jit import address, array, array_at, invoke_quietly, jit, precompile
from .._packed import unpacker
from ..status import RAISED, RUNNING, STEP_LIMIT
from .descent import signature
from .state import NOW, RECORD, clipped, inlined, open_run

words_at = array_at(np.int64)
NOW_WORDS = NOW.itemsize // 8


class Tasks(NamedTuple):
    """All problems and their answers: arrays whose first axis is that of the problems, and what differs between them.

    Argument word ``places[m]`` of problem i is an address, ``bases[m] + i * strides[m]``, or, where ``lent[m]`` is 0,
    the word at that address.
    """

    starts: np.ndarray  # (k, n)
    lower: np.ndarray  # (k, n), (1, n) or (0, n)
    upper: np.ndarray
    x: np.ndarray  # (k, n)
    fun: np.ndarray  # (k,)
    status: np.ndarray  # (k,) int64, as are the next three
    nit: np.ndarray
    nfev: np.ndarray
    reason: np.ndarray
    targets: np.ndarray  # (k,) or (1,): the objective that is low enough
    kinds: np.ndarray  # which of the settings are those of a problem
    records: np.ndarray  # rows of the history in use
    histories: np.ndarray  # (k, rows) of RECORD; no rows where nobody asks
    paths: np.ndarray  # (k, rows, n), the point of each row; no rows where nobody asks
    places: np.ndarray  # int64, as are the next three
    bases: np.ndarray
    strides: np.ndarray
    lent: np.ndarray
    template: np.ndarray  # (words,) of the record ``now`` of a run that has not begun
    stop: np.ndarray  # (1,): not 0 when nobody waits for the answers any more


@functools.cache
def tasks_type(dtype: np.dtype) -> types.Type:
    """Numba's type of `Tasks` whose unknowns have ``dtype``."""
    tables, floats, whole = [array(dtype, 2)] * 4, array(np.float64), array(np.int64)
    return types.NamedTuple([*tables, floats, *[whole] * 4, floats, *[whole] * 2, array(RECORD, 2), array(dtype, 3),
                             *[whole] * 6], Tasks)  # fmt: skip


@inlined
def follow(path, run, now, known, stride):
    """Keep the point of the history's newest rows, as it is thinned; how many are kept, and at which stride.

    One step has one row.  Only a search for a rate may have two: one it turns back from, and the one it returns to.
    """
    if now.stride != stride:
        known = run.history.size // 2
        for row in range(known):
            for j in range(run.x.size):
                path[row, j] = path[2 * row, j]
    for row in range(known, now.records):
        for j in range(run.x.size):
            path[row, j] = run.x[j]
    return now.records, now.stride


@inlined
def advance(run, mine, zero, record, most, piece, maxiter, path, loop, settings, evaluate, data, gtol, ftol,
            xtol):  # fmt: skip
    """Take at most ``most`` steps, ``piece`` at a time, or 1 where a ``path`` is kept; ``mine`` is ``run``, opened."""
    now = mine.now[0]
    known, stride, keeps_path = now.records, now.stride, path.shape[0] > 0
    piece = 1 if keeps_path else piece
    if keeps_path and known == 0:
        known = 1
        for j in range(mine.x.size):
            path[0, j] = mine.x[j]
    while True:
        steps = maxiter - now.step
        steps = steps if steps < piece else piece
        steps = steps if steps < most else most
        if invoke_quietly(loop, (run, zero, steps, record, 0, settings, evaluate, data, gtol, ftol, xtol)) != 0:
            now.status = RAISED
        if keeps_path:
            known, stride = follow(path, mine, now, known, stride)
        most -= piece
        if now.status != RUNNING or now.step >= maxiter or most <= 0:
            return


@inlined
def complete(rows, path, run):
    """Let a history end with the last judged point, also where thinning left it out; how many rows it has then."""
    now = run.now[0]
    if now.records == 0 or now.awaiting != 0 or rows[now.records - 1].step == now.step:
        return now.records
    last = rows[now.records]
    last.step, last.fun, last.grad_norm, last.lr = now.step, now.fun, now.grad_norm, now.lr
    last.seconds, last.score, last.nfev = -1.0, math.nan, now.evaluations
    if path.shape[0] > 0:
        for j in range(run.x.size):
            path[now.records, j] = run.x[j]
    return now.records + 1


@inlined
def enclose(run, i, lower, upper):
    """Give a run the bounds of problem ``i``."""
    bounds = i if lower.shape[0] > 1 else 0
    for j in range(run.lower.size):
        run.lower[j], run.upper[j] = lower[bounds, j], upper[bounds, j]


@inlined
def begin(run, i, starts, lower, upper):
    """Let a run whose record has just been reset begin with problem ``i``, within its bounds."""
    enclose(run, i, lower, upper)
    for j in range(run.x.size):
        start = starts[i, j]
        if run.lower.size > 0:
            start = clipped(start, run.lower[j], run.upper[j])
        run.x[j], run.best[j] = start, start
        for slot in range(run.state.shape[0]):
            run.state[slot, j] = 0
    for j in range(run.extra.size):
        run.extra[j] = 0.0


@inlined
def settle(now, maxiter):
    """The status of a run that takes no more steps."""
    if now.status == RUNNING and now.step >= maxiter:
        now.status = STEP_LIMIT


@inlined
def note(run, i, x, fun, status, nit, nfev, reason):
    """Write down the answer of problem ``i``."""
    now = run.now[0]
    for j in range(run.x.size):
        x[i, j] = run.best[j]
    fun[i] = now.best_fun if math.isfinite(now.best_fun) else now.fun
    status[i], nit[i], nfev[i], reason[i] = now.status, now.step, now.evaluations, now.reason


@functools.cache
def compiled(dtype: np.dtype) -> Any:
    """``solve(tasks, run, zero, low, high, piece, maxiter, now, data, loop, settings, evaluate, gtol, ftol, xtol)``.

    Solves the problems ``low`` to ``high``, each in pieces of at most ``piece`` steps.
    Arrays are addresses: ``run`` of a `Run` of the caller's own, ``now`` of its record, ``data`` of the words of the
    objective's arguments, ``settings`` of addresses, one for each kind of problem.
    """
    open_tasks = unpacker(tasks_type(dtype))

    def solve(tasks, run, zero, low, high, piece, maxiter, now, data, loop, settings, evaluate, gtol, ftol,
              xtol):  # fmt: skip
        tasks, mine = open_tasks(tasks), open_run(run, zero)
        now_words, words = words_at(now, NOW_WORDS), words_at(data, 1 << 40)
        settings = words_at(settings, 1 << 40)
        for i in range(low, high):
            if tasks.stop[0] != 0:
                return
            for w in range(NOW_WORDS):
                now_words[w] = tasks.template[w]
            for m in range(tasks.places.size):
                there = tasks.bases[m] + i * tasks.strides[m]
                words[tasks.places[m]] = there if tasks.lent[m] != 0 else words_at(there, 1)[0]
            begin(mine, i, tasks.starts, tasks.lower, tasks.upper)
            current, own, path = mine.now[0], settings[tasks.kinds[i]], tasks.paths[i]
            current.f_target = tasks.targets[i if tasks.targets.size > 1 else 0]
            advance(run, mine, zero, now, 1 << 62, piece, maxiter, path, loop, own, evaluate, data, gtol, ftol, xtol)
            settle(current, maxiter)
            note(mine, i, tasks.x, tasks.fun, tasks.status, tasks.nit, tasks.nfev, tasks.reason)
            if tasks.histories.shape[1] > 0:
                for row in range(current.records):
                    tasks.histories[i, row] = mine.history[row]
                tasks.records[i] = complete(tasks.histories[i], path, mine)

    kinds = (types.intp, types.intp, array(dtype).dtype, *(types.intp,) * 9, *(types.float64,) * 3)
    return precompile(jit(solve), kinds, final=True)


def loop_address(loop: Any, dtype: np.dtype) -> Any:
    """Where a loop over whole objectives lies."""
    return address(loop, types.void(*signature(dtype)))


