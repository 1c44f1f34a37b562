"""The threads that train one model, a block or the whole grid, and what they do together.

A kernel is written once for both: `group` gives the functions by which threads know their places and wait for each
other.  Sums are made in an order that depends on the number of threads alone, so the same bits come out every time.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from ._backend import SIMULATED
from ._backend import cuda as _cuda
from .functions import device

BLOCK = 4 if SIMULATED else 256  # threads; the simulator takes turns among them
WARP = 1 if SIMULATED else 32  # threads that can hand each other numbers
_ALL = 0xFFFFFFFF


class _Simulated:
    """What a kernel in the simulator calls ``cuda``: it tells each function of a kernel who is asking."""

    def __getattr__(self, name: str) -> Any:
        from numba.cuda.simulator.kernel import _get_kernel_context

        return getattr(_get_kernel_context() or _cuda, name)


cuda: Any = _Simulated() if SIMULATED else _cuda


class Place(NamedTuple):
    """Where a thread stands."""

    which: int  # model
    team: int  # block among those of the model
    teams: int
    thread: int  # in the block


class Group(NamedTuple):
    """Device functions of the threads of a model."""

    place: Any  # place() -> Place
    wait: Any  # wait(): until all are here; what each has written is seen by all
    whole: bool  # the grid, which has one model; else a block, and the grid has as many models as blocks


@functools.cache
def group(whole: bool) -> Group:
    """The group of a block, or of the ``whole`` grid."""
    if whole:

        def place():
            return Place(0, cuda.blockIdx.x, cuda.gridDim.x, cuda.threadIdx.x)

        def wait():
            cuda.cg.this_grid().sync()
    else:

        def place():
            return Place(cuda.blockIdx.x, 0, 1, cuda.threadIdx.x)

        def wait():
            cuda.syncthreads()

    return Group(device(place), device(wait), whole)


def larger_or_nan(a, b):
    """The larger of two numbers; NaN where one is NaN."""
    return b if b > a or b != b else a


@functools.cache
def lane_sum(lanes: int) -> Any:
    """``total(value)``: the sum over neighbouring ``lanes`` of a warp, in each of them."""
    if lanes == 1:
        return device(lambda value: value)

    def total(value):
        step = lanes // 2
        while step > 0:
            value += cuda.shfl_xor_sync(_ALL, value, step)
            step //= 2
        return value

    return device(total)


@functools.cache
def reducer(whole: bool, sums: int, maxima: int) -> Any:
    """``reduce(mine, shared, partial, at)``: of the float64 numbers ``mine`` of every thread the first are summed.

    Of the rest the largest is found.  All threads get the results in ``mine``; they wait for each other once more
    before the next reduction.  ``shared`` has a row a number, ``partial`` a row a block.
    """
    count, wait, pick = sums + maxima, group(whole).wait, device(larger_or_nan)

    def reduce(mine, shared, partial, at):
        for k in range(count):
            shared[k, at.thread] = mine[k]
        cuda.syncthreads()
        half = BLOCK // 2
        while half > 0:
            if at.thread < half:
                for k in range(count):
                    a, b = shared[k, at.thread], shared[k, at.thread + half]
                    shared[k, at.thread] = a + b if k < sums else pick(a, b)
            cuda.syncthreads()
            half //= 2
        if whole:
            if at.thread == 0:
                for k in range(count):
                    partial[at.team, k] = shared[k, 0]
            wait()
            for k in range(count):
                total = partial[0, k]
                for team in range(1, at.teams):
                    total = total + partial[team, k] if k < sums else pick(total, partial[team, k])
                mine[k] = total
        else:
            for k in range(count):
                mine[k] = shared[k, 0]

    return device(reduce)


__all__ = ["BLOCK", "WARP", "Group", "Place", "cuda", "group", "lane_sum", "larger_or_nan", "reducer"]
