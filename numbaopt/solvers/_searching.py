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

    Subclasses give ``room(bounded)``, the module of `loops` that has the loop, and ``memory``, the method's field that
    counts the pairs it keeps.  With ``plan`` that is also all that compiled code goes by (`numbaopt.inside`).
    """

    strong = False
    memory = ""

    def __init__(self, job: Job):
        super().__init__(job)
        opt, dtype = job.opt, job.problem.dtype
        self.loop = descent.compiled(dtype, self.room(job.run.lower.size > 0).loop)
        self.settings = np.array([getattr(opt, item) if isinstance(item, str) else item
                                  for item in self.plan(type(opt), dtype)])  # fmt: skip

    @staticmethod
    def room(bounded: bool) -> Any:
        """Where the loop is."""
        raise NotImplementedError

    @classmethod
    def plan(cls, method: Any, dtype: Any) -> tuple[Any, ...]:
        """The settings of the loop, in their order: names of fields of the method, or numbers."""
        defaults = {"c1": DECREASE, "c2": CURVATURE, "maxfun": np.inf, "maxls": EVALUATIONS}
        c1, c2, maxfun, maxls = (key if key in method._fields else value for key, value in defaults.items())
        return c1, c2, float(cls.strong), 8 * float(np.finfo(dtype).eps), maxfun, maxls, cls.memory or 0.0

    @classmethod
    def sizes(cls, opt: Any, problem: Any, batches: Any = None, bounded: bool = False) -> tuple[int, int]:
        """What the loop asks for."""
        found: tuple[int, int] = cls.room(bounded).sizes(problem.n, int(getattr(opt, cls.memory, 0)))
        return found


def refuse(name: str, problem: Any, bounded: bool, opt: Any = None) -> None:
    """Raise where a problem is not smooth, has bounds that are not meant to be there, or Wolfe's conditions clash."""
    if isinstance(opt, tuple) and opt.c1 >= opt.c2:  # compiled code knows only the class
        raise ValueError(f"c1={opt.c1} must be below c2={opt.c2}")
    if getattr(problem, "l1", 0.0) > 0:
        raise ValueError(f"method={name!r} takes no l1 (l1={problem.l1}); use 'newton', 'saga' or a first-order rule")
    if bounded:
        raise ValueError(f"method={name!r} takes no bounds; use 'lbfgs', 'L-BFGS-B' or a first-order rule")
