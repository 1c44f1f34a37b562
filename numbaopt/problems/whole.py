"""The whole objective of a large table by several threads: the same machine code, the same bits, sooner."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
from numba import types

from .._jit import invoke, invoke_value, jit, precompile
from .._packed import Packed
from .._threads import share_out
from .callback import Callback

NUMBERS = 1 << 18  # stored numbers that are worth waking a thread for
LONG = 1 << 24  # that take so long that Ctrl-C should be heeded in between


class Whole:
    """``evaluate`` of a model, called back from compiled loops, its chunks shared among threads.

    Parameters
    ----------
    model : LinearModel
    data : Packed
        What `LinearModel.pack` made for the run; other threads get the same with scratch of their own.
    """

    def __init__(self, model: Any, data: Packed):
        loops = model.kernels
        self.parts = data.value.shared.funs.size
        self._part, self._combine, self._compiled = loops.part, loops.combine, _compiled()
        shared = data.value.shared
        others = [model.pack(parts=shared.parts, funs=shared.funs) for _ in range(numba.get_num_threads() - 1)]
        self._data = [data, *others]
        self._g = np.empty((len(self._data), model.n), model.dtype)

    @functools.cached_property
    def callback(self) -> Callback:
        """The evaluation at an address."""
        return Callback(self.evaluate, self._g.dtype)

    @staticmethod
    def pays(problem: Any) -> bool:
        """Whether there is enough to do for more than one thread, or for Ctrl-C not to wait until it is done."""
        if not hasattr(problem, "rows") or numba.config.DISABLE_JIT:
            return False
        numbers = problem.rows[0].size * problem.n_outputs  # first: asking for threads starts them
        return numbers >= NUMBERS and (numbers >= LONG or numba.get_num_threads() > 1)

    def evaluate(self, x: Any, work: Any, g: Any, n: int, data: Any) -> float:
        """What `loops.descent.EVALUATE` says, of arrays; ``g`` None: the objective alone."""
        part, combine = self._compiled
        slopes = [0 if g is None else each.ctypes.data for each in self._g]

        def one(k: int, thread: int) -> Iterator[None]:
            part(self._part, x.ctypes.data, slopes[thread], k, n, self._data[thread].address)
            yield

        share_out(one, self.parts, len(self._data))
        return combine(self._combine, x.ctypes.data, 0 if g is None else g.ctypes.data, n, self._data[0].address)


@functools.cache
def _compiled() -> tuple[Any, Any]:
    """The functions ``part`` and ``combine`` at their addresses, for callers in Python."""
    return (precompile(_part, (types.intp,) * 6, final=True), precompile(_combine, (types.intp,) * 5, final=True))


@jit
def _part(where, x, g, k, n, data):
    invoke(where, (x, g, k, n, data))


@jit
def _combine(where, x, g, n, data):
    return invoke_value(where, (x, g, n, data))
