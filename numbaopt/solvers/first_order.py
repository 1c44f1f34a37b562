"""Every rule: steps from one gradient each, of the whole objective or of a minibatch."""

from __future__ import annotations

import numpy as np

from ..loops import descent, minibatch
from ..optimizers._program import hyper_parameters, program
from ._solver import Job, Solver, address_of

AHEAD = 128  # steps whose coefficients are computed at a time; they should stay in the first cache


class FirstOrder(Solver):
    """The loops `descend` and `train`, with the program of a rule and of what comes after it."""

    def __init__(self, job: Job):
        super().__init__(job)
        dtype, batches = job.problem.dtype, job.batches
        compiled = program(job.opt, dtype, job.after)
        self.hyper = hyper_parameters(job.opt, job.after)
        self.coefficients = np.empty((AHEAD, compiled.width), dtype)
        self.addresses = compiled.prepare, compiled.advance  # compiled here, so that no slice is timed with it
        self.loop = (descent if batches is None else minibatch).compiled(dtype)
        if batches is not None:
            self.batch = job.problem.kernels.batch
            self.order = np.zeros(max(1, minibatch.LOOK_AHEAD // batches.size) * batches.size, np.int64)

    def take(self, steps: int, rates: np.ndarray, values: np.ndarray) -> None:
        """Take at most ``steps`` steps."""
        limits, b = self.job.limits, self.job.batches
        call = (self.packed_run.address, self.zero, address_of(self.hyper), address_of(rates), steps,
                address_of(self.coefficients), AHEAD)  # fmt: skip
        if b is None:
            self.loop(*call, address_of(values), values.size, *self.addresses, self.evaluate, self.where,
                      limits.gtol, limits.ftol, limits.xtol)  # fmt: skip
        else:
            self.loop(*call, address_of(self.order), self.order.size, *self.addresses, self.batch, self.evaluate,
                      self.where, b.n, b.size, b.shuffle, b.seed, b.whole, limits.gtol, limits.ftol)  # fmt: skip
