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
WARPS = BLOCK // WARP
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


def other_lane(value, step):
    """The value of the thread whose place in the warp differs in the bit ``step``."""
    return cuda.shfl_xor_sync(_ALL, value, step)


def wait_for_warp():
    """Until all threads of a warp are here; what each has written is seen by all."""
    if WARP > 1:
        cuda.syncwarp()


def from_lane(value, lane):
    """The value of the thread at a place in the warp; alone in one, a thread's own."""
    return cuda.shfl_sync(_ALL, value, lane) if WARP > 1 else value


@functools.cache
def folder(sums: int, maxima: int = 0) -> Any:
    """``fold(mine, shared, thread)``: of the float64 numbers ``mine`` of every thread of a block the first are summed.

    Of the rest the largest is found.  Neighbours in a warp hand each other theirs, then warps by way of ``shared``,
    which has a row a number; all threads get the results in ``mine``, and wait once more before the next fold.
    """
    count, adds, pick = sums + maxima, maxima == 0, device(larger_or_nan)

    def fold(mine, shared, thread):
        for k in range(count):
            value, step = mine[k], WARP // 2
            while step > 0:
                other = cuda.shfl_xor_sync(_ALL, value, step)
                value = value + other if k < sums else pick(value, other)
                step //= 2
            if thread % WARP == 0:
                shared[k, thread // WARP] = value
        cuda.syncthreads()
        for k in range(thread, count, BLOCK):
            value = shared[k, 0]
            for warp in range(1, WARPS):
                value = value + shared[k, warp] if adds or k < sums else pick(value, shared[k, warp])
            shared[k, 0] = value
        cuda.syncthreads()
        for k in range(count):
            mine[k] = shared[k, 0]

    return device(fold)


@functools.cache
def reducer(whole: bool, sums: int, maxima: int) -> Any:
    """``reduce(mine, shared, partial, at)``: `folder` of all threads of a model; ``partial`` has a row a block."""
    count, wait, fold = sums + maxima, group(whole).wait, folder(sums, maxima)
    if not whole:
        return device(lambda mine, shared, partial, at: fold(mine, shared, at.thread))
    pick = device(larger_or_nan)

    def reduce(mine, shared, partial, at):
        fold(mine, shared, at.thread)
        if at.thread == 0:
            for k in range(count):
                partial[at.team, k] = mine[k]
        wait()
        for k in range(count):
            mine[k] = 0.0 if k < sums else partial[0, k]
        for team in range(at.thread, at.teams, BLOCK):
            for k in range(count):
                mine[k] = mine[k] + partial[team, k] if k < sums else pick(mine[k], partial[team, k])
        fold(mine, shared, at.thread)

    return device(reduce)


__all__ = [
    "BLOCK", "WARP", "WARPS", "Group", "Place", "cuda", "folder", "from_lane", "group", "lane_sum", "larger_or_nan",
    "other_lane", "reducer", "wait_for_warp",
]  # fmt: skip
