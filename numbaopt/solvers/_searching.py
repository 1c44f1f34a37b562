"""What all methods that search along a line have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..loops import descent
from ._solver import Job, WholeSteps

EVALUATIONS = 30  # at most, along one direction
DECREASE, CURVATURE = 1e-4, 0.9  # Wolfe's conditions on the objective and on the slope along the direction
SCIPY_ONLY = ("norm", "eps", "finite_diff_rel_step", "return_all", "workers", "hess_inv0", "iprint")


class Searching(WholeSteps):
    """Steps of a loop of `loops.line_search`.

    Subclasses give ``loop_for(job)``, of loops and ``own(opt)``, the method's own settings.
    """

    strong = False

    def __init__(self, job: Job):
        super().__init__(job)
        opt, dtype = job.opt, job.problem.dtype
        self.loop = descent.compiled(dtype, self.loop_for(job))
        self.settings = np.array([getattr(opt, "c1", DECREASE), getattr(opt, "c2", CURVATURE), self.strong,
                                  8 * float(np.finfo(dtype).eps), getattr(opt, "maxfun", np.inf),
                                  getattr(opt, "maxls", EVALUATIONS), *self.own(opt)])  # fmt: skip

    @staticmethod
    def loop_for(job: Job) -> Any:
        """The loop for this job."""
        raise NotImplementedError

    @staticmethod
    def own(opt: Any) -> tuple[float, ...]:
        """The method's own settings."""
        return ()


def refuse(name: str, problem: Any, bounded: bool) -> None:
    """Raise where a problem is not smooth, or has bounds that are not meant to be there."""
    if getattr(problem, "l1", 0.0) > 0:
        raise ValueError(f"method={name!r} takes no l1 (l1={problem.l1}); use 'newton', 'saga' or a first-order rule")
    if bounded:
        raise ValueError(f"method={name!r} takes no bounds; use 'lbfgs', 'L-BFGS-B' or a first-order rule")
