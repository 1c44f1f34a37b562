"""Methods that search along a line, with evaluations on a GPU: the CPU's own loops call the kernel's pass back.

Unknowns go there and a gradient comes back in every evaluation; the data stay.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np

from ...loops.state import new_run
from ...optimizers._program import program
from ...optimizers._rule import OPTIMIZERS
from ...problems.callback import Callback
from .._backend import require
from .slices import DEVICE, Training


@functools.cache
def evaluating(steps: Any) -> Any:
    """The solver class ``steps``, its evaluations of a linear model those of the kernel."""

    class Evaluating(steps):
        training: Training
        evaluate: Any

        def __init__(self, job: Any):
            require(DEVICE)
            super().__init__(job)

        def share_passes(self) -> None:
            """Let the GPU make the passes over the data."""
            problem, none = self.job.problem, np.zeros(0, self.job.problem.dtype)
            apart = new_run(self.job.run.x, 0, none, none, 2, False)
            apart.now[0].outputs, apart.now[0].penalised = problem.n_outputs, problem.n_penalised
            made = program(OPTIMIZERS["sgd"](), problem.dtype)  # takes no step
            self.training = Training(problem, made, None, self.job.limits, [apart])
            if numba.config.DISABLE_JIT:
                self.evaluate = self._evaluate
                return
            self.callback = Callback(self._evaluate, problem.dtype)
            self.evaluate, self.interrupts = self.callback.address, self.callback.interrupts

        def _evaluate(self, x: Any, work: Any, g: Any, n: int, data: Any) -> float:
            fun, g[:] = self.value_and_grad(x)
            return fun

        def value_and_grad(self, x: np.ndarray) -> tuple[float, np.ndarray]:
            """Those of the kernel."""
            fun, g = self.training.evaluate(x[None])
            return float(fun[0]), g[0]

        def close(self) -> None:
            """Free what stands on the GPU."""
            self.training.close()

    return Evaluating


__all__ = ["evaluating"]
