"""L-BFGS: quasi-Newton steps from the last few gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._jit import address_of
from ..loops import quasi_newton
from ._solver import Job, Solver, method


class LBFGSSteps(Solver):
    """Steps of `LBFGS`; threads share passes over large tables."""

    def __init__(self, job: Job):
        super().__init__(job)
        self.share_passes()
        self.loop = quasi_newton.compiled(job.problem.dtype)

    @staticmethod
    def sizes(opt: Any, problem: Any, batches: Any = None) -> tuple[int, int]:
        """Pairs of vectors, and what goes with each pair."""
        memory = int(opt.memory)
        return 2 * memory + quasi_newton.MORE_ROWS, 2 * memory + quasi_newton.MORE_NUMBERS

    @staticmethod
    def fits(opt: Any, run: Any) -> bool:
        """Whether the extra numbers count pairs."""
        pairs, head = run.extra[:2]
        return bool(pairs in range(int(opt.memory) + 1) and head in range(int(opt.memory)))

    def take(self, steps: int, rates: np.ndarray, values: np.ndarray) -> None:
        """Take at most ``steps`` steps."""
        limits = self.job.limits
        dtype = self.job.problem.dtype
        self.loop(self.packed_run.address, self.zero, steps, address_of(values), values.size, int(self.job.opt.memory),
                  8 * float(np.finfo(dtype).eps), self.evaluate, self.where, limits.gtol, limits.ftol,
                  limits.xtol)  # fmt: skip


@method("lbfgs", "l-bfgs")
class LBFGS(NamedTuple):
    r"""Limited-memory BFGS on the whole objective.

    .. math:: x_{t+1} = x_t - a_t H_t g_t

    :math:`H_t` stands for the inverse Hessian that the last ``memory`` pairs of steps and changes of the gradient agree
    with; :math:`a_t` satisfies Wolfe's conditions, near the minimum, where the objective only shows rounding, those of
    Hager and Zhang on the slope.

    Parameters
    ----------
    memory : int
        Pairs that are kept, at least 1.

    References
    ----------
    Nocedal, J. (1980). Updating quasi-Newton matrices with limited storage. doi:10.1090/S0025-5718-1980-0572855-7
    Hager, W. W., Zhang, H. (2005). A new conjugate gradient method with guaranteed descent and an efficient line
    search. doi:10.1137/030601880

    Examples
    --------
    >>> import numba, numbaopt as no
    >>> @numba.njit
    ... def rosen(x):
    ...     return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
    >>> res = no.minimize(rosen, [-1.2, 1.0], method="lbfgs", tol=1e-8)
    >>> res.success, res.nit < 50, res.x.round(6)
    (True, True, array([1., 1.]))
    """

    memory: float = 10

    solver = LBFGSSteps
    ranges = {"memory": "[1, 1000]"}

    @staticmethod
    def check(opt, problem, batches, bounded):
        if getattr(problem, "l1", 0.0) > 0:
            raise ValueError(f"method='lbfgs' takes no l1 (l1={problem.l1}); use 'newton', 'saga' or a first-order "
                             "rule")  # fmt: skip
        if bounded:
            raise ValueError("method='lbfgs' takes no bounds; use 'L-BFGS-B' or a first-order rule")
