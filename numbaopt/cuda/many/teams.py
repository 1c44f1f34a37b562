"""A problem a team: lanes of a warp, of which one leads and the others compute its derivatives.

The lane that leads runs the loop of the CPU as it stands.  Where that evaluates, it says at the team's `Desk` where x
lies and where the gradient goes, and waits; each of the others makes every so manyth piece of the derivatives
(`objectives.pieces`).  They meet at a barrier of their lanes alone, so that teams of a warp go their own ways.  The run
of a problem lies in global memory (`runs`), where all of them see it.

Nothing is computed in another order than by a thread alone, so the bits are the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype

from ..._jit import invoke_quietly
from ...problems.evaluation import FLOAT64
from .._backend import SIMULATED
from ..functions import device
from ..groups import cuda
from ..memory import address_of, vector_at
from .objectives import Derived, evaluation, part, residual_parts, residuals

if SIMULATED:
    def overflowed():
        return False
else:
    from .lowering import overflowed  # type: ignore[assignment]

BLOCK = 32  # threads: a warp, which makes way for the next when its own problems have ended
MOST_LANES = 4 if SIMULATED else BLOCK  # the simulator has no warps: there a block is one team
LEAST_PIECES = 4  # of derivatives, for which a team is worth its barriers and a lane that only leads
# What a GPU of an H200's kind has: threads at a time that take all registers they can, and bytes of caches for them.
THREADS, CACHE = 1 << 15, 1 << 26

TASK, X, OUT, RESIDUALS, RAISED, OVERFLOWED, WORDS = range(7)  # of a desk
STOP, VALUES, DERIVATIVES = range(3)  # tasks


def lanes_for(pieces: int, nbytes: int, problems: int) -> int:
    """How many lanes solve a problem whose run takes ``nbytes``: 1, a thread, or a power of two from 4 to 32.

    An estimate, not yet measured.  While the loop runs, all lanes but one wait, so lanes cost nothing only (1) as long
    as there are too few problems to keep the GPU busy with a thread each, or (2) where the runs of so many threads lie
    in no cache, and each step waits for memory.  Never more lanes than there are pieces, and one to lead.
    """
    if pieces < LEAST_PIECES:
        return 1
    lanes = MOST_LANES
    while lanes // 2 > pieces:
        lanes //= 2
    while lanes > 1 and problems * lanes > THREADS and lanes * (CACHE // THREADS) > nbytes:
        lanes //= 2
    return lanes if lanes > 2 else 1  # of two, one would compute all


class Lanes(NamedTuple):
    """What the lanes of a problem do, as device functions; ``data`` is (args, lower, upper, desk)."""

    evaluate: Any  # `objectives.evaluation` or `residuals`, of lane 0, which leads
    meet: Any  # meet() -> desk, of all lanes
    serve: Any  # serve(lane, data): what the others do until they are sent away
    dismiss: Any  # dismiss(desk): lane 0 sends them away
    overflowed: Any  # overflowed(desk): whether there was no room for an array, where an evaluation raised


def alone(of: Derived, m: int, words: int) -> Lanes:
    """A thread a problem; the function has ``m`` residuals (0: an objective), a lane ``words`` for temporary arrays."""
    evaluate = residuals(of, m, words) if m else evaluation(of, words)
    return Lanes(evaluate, device(lambda: ()), device(lambda lane, data: None), device(lambda desk: None),
                 device(lambda desk: overflowed()))  # fmt: skip


class Desk(NamedTuple):
    """What the lanes of a team tell each other, in the memory of their block: a row a team."""

    words: Any  # (teams, WORDS) int64
    found: Any  # (teams,) the objective


def team(of: Derived, m: int, lanes: int, words: int, dtype: np.dtype) -> Lanes:
    """A team of so many lanes a problem."""
    n, others, teams, real = of.n, lanes - 1, BLOCK // lanes, np.dtype(dtype).type
    vector, doubles, where = vector_at(dtype), vector_at(FLOAT64), address_of
    if SIMULATED:
        def meet():  # not by `shared.array`, of which the simulator gives two where two threads ask at once
            whole = cuda.shared.array(0, np.dtype(np.int64))
            return Desk(whole[:WORDS].reshape(1, WORDS), whole[WORDS : WORDS + 1].view(np.float64))

        def mine():
            return 0

        def wait():
            cuda.syncthreads()
    else:
        real, mask = from_dtype(dtype), (1 << lanes) - 1

        def meet():
            return Desk(cuda.shared.array((teams, WORDS), np.int64), cuda.shared.array(teams, np.float64))

        def mine():
            return cuda.threadIdx.x // lanes

        def wait():
            cuda.syncwarp(mask << (cuda.threadIdx.x // lanes * lanes))

    mine, wait, quietly = device(mine), device(wait), device(invoke_quietly)

    def ask(desk, task, x, out, r):
        row = mine()
        desk.words[row, X], desk.words[row, OUT], desk.words[row, RESIDUALS] = where(x), where(out), where(r)
        desk.words[row, RAISED] = desk.words[row, OVERFLOWED] = 0
        desk.words[row, TASK] = task
        wait()  # they begin
        wait()  # they are done
        if desk.words[row, RAISED] != 0:
            raise RuntimeError("a lane raised")

    ask = device(ask)

    if m:
        values, derive = residual_parts(of, m, words)

        def share(desk, row, lane, work, data):
            x, out = vector(desk.words[row, X], n), desk.words[row, OUT]
            if desk.words[row, TASK] == DERIVATIVES:
                derive(x, work, doubles(desk.words[row, RESIDUALS], m), doubles(out, n * m), lane - 1, others, data)
            elif lane == 1:
                values(x, doubles(out, m), data)

        def evaluate(x, work, r, J, n_, m_, wanted, data):
            if wanted:
                ask(data[3], DERIVATIVES, x, J, r)
            else:
                ask(data[3], VALUES, x, r, r)
    else:
        compute = part(of, words)

        def share(desk, row, lane, work, data):
            x, g = vector(desk.words[row, X], n), vector(desk.words[row, OUT], n)
            found = compute(x, work, g, lane - 1, others, data)
            if lane == 1:
                desk.found[row] = found

        def evaluate(x, work, g, n_, data):
            ask(data[3], DERIVATIVES, x, g, g)
            return data[3].found[mine()]

    share = device(share)

    def serve(lane, data):
        desk, row, work = data[3], mine(), cuda.local.array(n, real)
        wait()
        while desk.words[row, TASK] != STOP:
            if quietly(share, (desk, row, lane, work, data)) != 0:
                desk.words[row, RAISED] = 1
                if overflowed():
                    desk.words[row, OVERFLOWED] = 1
            wait()
            wait()

    def dismiss(desk):
        desk.words[mine(), TASK] = STOP
        wait()

    def no_room(desk):
        return desk.words[mine(), OVERFLOWED] != 0

    return Lanes(*map(device, (evaluate, meet, serve, dismiss, no_room)))


__all__ = ["BLOCK", "Lanes", "alone", "lanes_for", "team"]
