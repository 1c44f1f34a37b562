"""What all methods that search along a line have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._solver import PlannedSteps

EVALUATIONS = 30  # at most, along one direction
DECREASE, CURVATURE = 1e-4, 0.9  # Wolfe's conditions on the objective and on the slope along the direction
SCIPY_ONLY = ("norm", "eps", "finite_diff_rel_step", "return_all", "workers", "hess_inv0", "iprint")


class Searching(PlannedSteps):
    """Steps of a loop of `loops.line_search`."""

    strong = False

    @classmethod
    def plan(cls, method: Any, dtype: Any) -> tuple[Any, ...]:
        """Wolfe's conditions, limits, and how many pairs are kept."""
        defaults = {"c1": DECREASE, "c2": CURVATURE, "maxfun": np.inf, "maxls": EVALUATIONS}
        c1, c2, maxfun, maxls = (key if key in method._fields else value for key, value in defaults.items())
        return c1, c2, float(cls.strong), 8 * float(np.finfo(dtype).eps), maxfun, maxls, cls.memory or 0.0


def refuse(name: str, problem: Any, bounded: bool) -> None:
    """Raise where a problem is not smooth, or has bounds that are not meant to be there."""
    if getattr(problem, "l1", 0.0) > 0:
        raise ValueError(f"method={name!r} takes no l1 (l1={problem.l1}); use 'newton', 'saga' or a first-order rule")
    if bounded:
        raise ValueError(f"method={name!r} takes no bounds; use 'lbfgs', 'L-BFGS-B' or a first-order rule")
