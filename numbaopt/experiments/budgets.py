"""When a run has used up what it was given: evaluations, seconds, or the way to a target."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

BUDGETS = ("max_evaluations", "max_seconds", "target")


class Budget(NamedTuple):
    """What ends a run besides the options of `numbaopt.minimize`.

    Attributes
    ----------
    evaluations : int or None
        Of the objective with its gradient; a rule's are its steps, so `build.build` makes ``maxiter`` of them.
    seconds : float or None
        Wall time.
    target : float or None
        The objective that is low enough.

    Examples
    --------
    >>> import numpy as np, numbaopt as no
    >>> from numbaopt.experiments.budgets import Budget
    >>> bowl = lambda x: (x**2).sum()
    >>> res = no.minimize(bowl, np.ones(2), method="sgd", jac=lambda x: 2 * x, options=dict(lr=0.1),
    ...                   callback=Budget(target=0.5).watch())
    >>> bool(0.3 < res.fun <= 0.5), res.status
    (True, 99)
    """

    evaluations: int | None = None
    seconds: float | None = None
    target: float | None = None

    def watch(self) -> Callable[..., None] | None:
        """A callback for one run, which begins now: it raises StopIteration as soon as something is used up.

        None where nothing is limited.  Callbacks are called after every step, or epoch of batches: a budget is kept up
        to one of those.
        """
        if self == Budget():
            return None
        end = None if self.seconds is None else time.perf_counter() + self.seconds

        def callback(intermediate_result: Any) -> None:
            r = intermediate_result
            used = self.evaluations is not None and r.nfev >= self.evaluations
            late = end is not None and time.perf_counter() >= end
            low = self.target is not None and r.fun <= self.target
            if used or late or low:
                raise StopIteration

        return callback

    def ended(self, result: Any, seconds: float) -> str:
        """What of it ended a run with this result: "evaluations", "seconds", "target" or "" (something else)."""
        if result.status != 99:
            return ""
        if self.target is not None and result.fun <= self.target:
            return "target"
        return "seconds" if self.seconds is not None and seconds >= self.seconds else "evaluations"
