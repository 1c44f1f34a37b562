"""Descent with a rate that is found on the way: range tests, and blocks of steps; see `numbaopt.automatic`."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import from_dtype, types

from .._jit import invoke, invoke_value, jit, jit_inside, pointer, pointer_to, precompile
from ..status import AT_TARGET, CONVERGED, NO_PROGRESS, NOT_FINITE, OUT_OF_EVALUATIONS, RUNNING
from . import descent
from .descent import floats, open_settings
from .state import constrain, judge, larger, open_run

# The numbers of `Run.extra`.
PHASE = 0  # one of the three below
TAKEN = 1  # steps since the rule began anew
RATE = 2
LEFT = 3  # steps of the trial or block
BLOCK = 4  # how long a block is
MARK = 5  # the best objective before the block; of a trial, the best one it has reached
TOTAL = 6  # of the objectives of the block
START, SCORE, CHOSEN = 7, 8, 9  # of a test: the objective it begins at, the best of all trials, its rate (0: none)
WORSE, TRIALS = 10, 11  # trials since the best one, in all
FACTOR, LENGTH = 12, 13  # of a test: from rate to rate, steps of a trial
DUE = 14  # evaluations after which the next test is due
UNIT = 15  # the rate whose first step is as long as x
NUMBERS = 16

BEGINNING, TESTING, DESCENDING = 0.0, 1.0, 2.0
ON, AT_BASE, AT_BEST, AT_NEW_BASE = range(4)  # where a rule goes on: as it is, or anew; the new base is the best point

STEPS, LONG, SHRINK, FIELDS = 0, 1, 2, 3  # of `Automatic`; room for rates comes after them
FIRST, DECADE, MOST, ENOUGH = 10.0, 0.1, 40, 3  # first rate over UNIT, ratio of rates; most trials, worse ones in a row
WIDER, FINER, RARER, SHARE = 1e3, math.sqrt(0.1), 4.0, 50.0  # of later tests
GROWTH, LONGEST = 1.1, 5000.0  # of blocks
CALM = 0.25  # gain of a block over its swing that is not enough
LEAST = 1e-18  # rate over UNIT


@jit_inside
def anew(x, to, state):
    """Let the rule begin again at ``to``."""
    for i in range(x.size):
        x[i] = to[i]
        for slot in range(state.shape[0] - 1):
            state[slot, i] = 0


@jit_inside
def begin_again(now, extra, where):
    """What is noted of a rule that begins again; returns ``where``."""
    extra[TAKEN] = 0.0
    now.awaiting, now.calm = 1, 0
    return where


@jit_inside
def begin_test(extra, fun, rate, factor, length):
    """Prepare the first trial of a range test at a point with objective ``fun``."""
    extra[PHASE], extra[RATE], extra[FACTOR], extra[LENGTH] = TESTING, rate, factor, length
    extra[START], extra[SCORE], extra[MARK], extra[LEFT] = fun, math.inf, math.inf, length
    extra[CHOSEN] = extra[WORSE] = extra[TRIALS] = 0.0


@jit_inside
def begin_block(now, extra):
    """Prepare a block of the descent."""
    extra[PHASE], extra[LEFT], extra[MARK], extra[TOTAL] = DESCENDING, extra[BLOCK], now.best_fun, 0.0


@jit_inside
def after_trial(now, extra):
    """Note what a trial has reached; go on to the next, or to the descent."""
    reached = extra[MARK]
    if reached < extra[START] and reached < extra[SCORE]:
        extra[SCORE], extra[CHOSEN], extra[WORSE] = reached, extra[RATE], 0.0
    elif extra[CHOSEN] > 0:
        extra[WORSE] += 1.0
    extra[TRIALS] += 1.0
    if extra[WORSE] < ENOUGH and extra[TRIALS] < MOST:
        extra[RATE], extra[LEFT], extra[MARK] = extra[RATE] * extra[FACTOR], extra[LENGTH], math.inf
        return begin_again(now, extra, AT_BASE)
    extra[RATE] = extra[CHOSEN] if extra[CHOSEN] > 0 else extra[RATE] * extra[FACTOR]
    extra[DUE] = RARER * now.evaluations
    begin_block(now, extra)
    return begin_again(now, extra, AT_BEST)


@jit_inside
def after_block(now, extra, fields, finite):
    """Judge the rate by a block."""
    swing = extra[TOTAL] / extra[BLOCK] - now.best_fun
    large = not finite or extra[MARK] - now.best_fun <= CALM * swing
    longer = math.floor(GROWTH * extra[BLOCK])
    extra[BLOCK] = longer if longer < LONGEST else larger(LONGEST, extra[BLOCK])
    if now.evaluations > extra[DUE]:
        length = larger(fields[STEPS], math.floor(now.evaluations / SHARE))
        begin_test(extra, now.best_fun, WIDER * extra[RATE], FINER, length)
        return begin_again(now, extra, AT_NEW_BASE)
    where = ON
    if large:
        extra[RATE] *= fields[SHRINK]
        where = begin_again(now, extra, AT_BEST)
        if extra[RATE] < LEAST * extra[UNIT]:
            now.status = NO_PROGRESS
    begin_block(now, extra)
    return where


@jit_inside
def note(now, extra, fields, fun, finite):
    """What the objective after a step means for the search; returns where the rule goes on."""
    extra[LEFT] -= 1.0
    over = not finite or extra[LEFT] <= 0
    if extra[PHASE] == TESTING:
        if finite and fun < extra[MARK]:
            extra[MARK] = fun
        return after_trial(now, extra) if over else ON
    extra[TOTAL] += fun
    return after_block(now, extra, fields, finite) if over else ON


@jit_inside
def first_step(x, g, base, state, fields, hyper, prepare, step, coefficients):
    """A step of rate 1 from where the rule stands, which is kept in ``base``."""
    n = x.size
    fields[FIELDS] = 1.0
    invoke(prepare, (hyper, pointer_to(fields, FIELDS), 1, coefficients, 1))
    for i in range(n):
        base[i] = x[i]
    invoke(step, (coefficients, 0, pointer(x), pointer(g), pointer(state), n, 0, n))


@jit_inside
def begin(now, extra, fields, fun, x, base):
    """Prepare the search where a first step of rate 1 led from ``base`` to ``x``; the gradient there is known."""
    moved, size = 0.0, 1.0
    for i in range(x.size):
        moved, size = larger(moved, abs(np.float64(x[i] - base[i]))), larger(size, abs(np.float64(base[i])))
    extra[UNIT] = size / moved if 0.0 < moved < math.inf else 1.0
    extra[BLOCK] = fields[LONG]
    begin_test(extra, fun, FIRST * extra[UNIT], DECADE, fields[STEPS])
    begin_again(now, extra, AT_BASE)
    now.awaiting = 0


@jit
def descend(run, zero, k, values, room, settings, evaluate, data, gtol, ftol, xtol):
    """`descent.descend` with a rate of its own: the last row of the state is where the trials of a test begin.

    In the place of rates the settings have the numbers of `Automatic` and room for ``ahead`` rates.
    """
    hyper, numbers, _, coefficients, ahead, prepare, step = open_settings(settings)
    run, values, fields = open_run(run, zero), floats(values, room), floats(numbers, FIELDS + ahead)
    now, x, g, work, best, previous, extra = run.now[0], run.x, run.g, run.work, run.best, run.previous, run.extra
    state, lower, upper, history, n = run.state, run.lower, run.upper, run.history, run.x.size
    base, row, ready, before, done = state[state.shape[0] - 1], 0, 0, now.evaluations, 0
    ended = RUNNING  # by a limit that a resumed run may be without: what the step means for the search is noted first
    while now.status == RUNNING and ended == RUNNING and (done < k or now.awaiting != 0):
        if now.awaiting == 0:
            if row == ready:
                row, ready = 0, min(ahead, k - done, int(extra[LEFT]))
                for i in range(ready):
                    fields[FIELDS + i] = extra[RATE]
                invoke(prepare, (hyper, pointer_to(fields, FIELDS), int(extra[TAKEN]) + 1, coefficients, ready))
            for i in range(previous.size):
                previous[i] = x[i]
            invoke(step, (coefficients, row, pointer(x), pointer(g), pointer(state), n, 0, n))
            row, done = row + 1, done + 1
            now.step += 1
            extra[TAKEN] += 1.0
            now.lr, now.awaiting = extra[RATE], 1
        constrain(now, x, lower, upper)
        fun = invoke_value(evaluate, (pointer(x), pointer(work), pointer(g), n, data))
        weight = 1.0 if extra[PHASE] == DESCENDING and extra[TAKEN] > 0 else 0.0  # trials may go slowly
        judge(now, x, g, best, previous, lower, upper, history, fun, gtol, weight * ftol, weight * xtol)
        if now.evaluations - before <= room:
            values[now.evaluations - before - 1] = fun
        if now.reason == AT_TARGET or now.reason == OUT_OF_EVALUATIONS:
            ended, now.status = now.status, RUNNING
        finite = now.status != NOT_FINITE
        if extra[PHASE] == BEGINNING:
            if now.status != RUNNING:
                return
            first_step(x, g, base, state, fields, hyper, prepare, step, coefficients)
            begin(now, extra, fields, fun, x, base)
            anew(x, base, state)
            continue
        if extra[TAKEN] == 0 or not (now.status == RUNNING or not finite):
            continue
        if not finite:
            now.status = RUNNING
        where = note(now, extra, fields, fun, finite)
        if where != ON:
            for i in range(n if where == AT_NEW_BASE else 0):
                base[i] = best[i]
            anew(x, best if where == AT_BEST else base, state)
            row = ready
    if ended != RUNNING:
        now.status = ended


@jit
def begin_apart(run, zero, settings):
    """The beginning of a search whose steps are taken elsewhere, where the first objective and gradient are known."""
    hyper, numbers, _, coefficients, _, prepare, step = open_settings(settings)
    run, fields = open_run(run, zero), floats(numbers, FIELDS + 1)
    now, x, state = run.now[0], run.x, run.state
    base = state[state.shape[0] - 1]
    first_step(x, run.g, base, state, fields, hyper, prepare, step, coefficients)
    begin(now, run.extra, fields, now.fun, x, base)
    anew(x, base, state)


@jit
def note_apart(run, zero, numbers, values, count):
    """What the objectives after ``count`` steps mean that were taken elsewhere; returns where the rule goes on."""
    run, fields, values, where = open_run(run, zero), floats(numbers, FIELDS), floats(values, count), ON
    finite = run.now[0].status != NOT_FINITE
    if not finite:
        run.now[0].status = RUNNING
    for i in range(count):
        where = note(run.now[0], run.extra, fields, values[i], finite or i < count - 1)
    return where


def found(run):
    """The rate of a search: of its descent, or the best one of trials that go on."""
    trying = run.extra[PHASE] == TESTING and run.now[0].status != CONVERGED and run.extra[CHOSEN] > 0
    return float(run.extra[CHOSEN if trying else RATE])


@functools.cache
def compiled_apart(dtype: np.dtype) -> tuple[Any, Any]:
    """`begin_apart` and `note_apart` compiled now."""
    i, zero = types.intp, from_dtype(dtype)
    return precompile(begin_apart, (i, zero, i)), precompile(note_apart, (i, zero, i, i, i))


@functools.cache
def compiled(dtype: np.dtype) -> Any:
    """The loop compiled now, once for all rules and objectives."""
    return descent.compiled(dtype, descend)
