"""A rate that is found on the way on a GPU: the trials and blocks of `loops.automatic`, by slices of the kernel.

A slice stays within a trial or a block, so its rate is known when it begins; between slices the CPU's own code judges
the objectives of its steps and says where the rule goes on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._jit import address_of
from ..._packed import Packed
from ...loops import automatic, descent
from ...loops.automatic import AT_BEST, AT_NEW_BASE, BEGINNING, DESCENDING, LEFT, ON, PHASE, RATE, TAKEN
from ...loops.state import run_type
from ...solvers._solver import Job
from ...solvers.first_order import rate_found
from ...status import AT_TARGET, NOT_FINITE, OUT_OF_EVALUATIONS, RUNNING
from .slices import DeviceSteps, Training, coefficients


class SearchingSteps(DeviceSteps):
    """`DeviceSteps` whose rate nobody told."""

    training: Training

    def __init__(self, job: Job):
        super().__init__(job)
        self.numbers = np.append(np.array(job.opt.lr, np.float64), 0.0)  # and a rate
        self.row = np.empty((1, self.program.width), job.problem.dtype)
        self.zero, self.packed_run = job.problem.dtype.type(0), Packed(job.run, run_type(job.problem.dtype))
        self.begin, self.note = automatic.compiled_apart(job.problem.dtype)

    def told(self) -> dict[str, Any]:
        """The rate that was found."""
        return rate_found(self.job)

    def take(self, steps: int, rates: np.ndarray, values: np.ndarray) -> None:
        """Take at most ``steps`` steps."""
        now, extra, ended = self.job.run.now[0], self.job.run.extra, RUNNING
        last = now.step + steps
        while now.status == RUNNING and ended == RUNNING and (now.step < last or now.awaiting):
            found = self._slice(0 if now.awaiting else min(int(last - now.step), int(extra[LEFT])))
            if now.reason in (AT_TARGET, OUT_OF_EVALUATIONS):  # what the step means is noted first
                ended, now.status = now.status, RUNNING
            if extra[PHASE] == BEGINNING:
                if now.status != RUNNING:
                    return
                self._begin()
            elif extra[TAKEN] > 0:
                self._note(found)
        if ended != RUNNING:
            now.status = ended

    def _slice(self, steps: int) -> np.ndarray:
        """Take steps of one trial or block, or judge where it begins; returns the objectives."""
        now, extra, limits = self.job.run.now[0], self.job.run.extra, self.job.limits
        evaluated, rates, values = int(now.evaluations), np.full((1, steps), extra[RATE]), np.empty((1, max(1, steps)))
        first, was = int(extra[TAKEN]), int(now.step)
        table = coefficients(self.program, self.hyper, rates[0], first)
        if steps == 0 or extra[PHASE] != DESCENDING:  # trials may go slowly
            limits = limits._replace(ftol=0.0, xtol=0.0)
        self.training.launch(table[None], rates, np.zeros(1), steps, values, limits)
        extra[TAKEN] += now.step - was
        return values[0, : int(now.evaluations) - evaluated]

    def _begin(self) -> None:
        """Prepare the first test; the step that it asks for is taken here."""
        self.fetch()
        settings = descent.Settings(address_of(self.hyper), address_of(self.numbers), 0, address_of(self.row), 1,
                                    self.program.prepare, self.program.advance)  # fmt: skip
        packed = Packed(settings, descent.SETTINGS)
        self.begin(self.packed_run.address, self.zero, packed.address)
        self.training.send("state")

    def _note(self, values: np.ndarray) -> None:
        """Judge the rate by the objectives after steps, and go on where that says."""
        now = self.job.run.now[0]
        if now.status not in (RUNNING, NOT_FINITE):
            values = values[:-1]
        where = self.note(self.packed_run.address, self.zero, address_of(self.numbers), address_of(values), values.size)
        if where != ON:
            self.training.begin_again(where == AT_BEST, where == AT_NEW_BASE)


__all__ = ["SearchingSteps"]
