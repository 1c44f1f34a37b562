"""L-BFGS: quasi-Newton steps from the last few gradients, also within bounds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..loops import box, lbfgs
from ._searching import SCIPY_ONLY, Searching, refuse
from ._solver import method


class LBFGSSteps(Searching):
    """Steps of `LBFGS`; threads share passes over large tables."""

    memory = "memory"

    @staticmethod
    def room(bounded: bool) -> Any:
        """Bounds need a loop of their own."""
        return box if bounded else lbfgs

    @classmethod
    def fits(cls, opt: Any, run: Any) -> bool:
        """Whether the extra numbers count pairs."""
        pairs, head, memory = run.extra[lbfgs.PAIRS], run.extra[lbfgs.HEAD], int(getattr(opt, cls.memory))
        return bool(pairs in range(memory + 1) and head in range(memory))


class LBFGSBSteps(LBFGSSteps):
    """Steps of `LBFGSB`."""

    memory = "maxcor"

    def told(self) -> dict[str, Any]:
        """The inverse Hessian that the pairs stand for, as SciPy's L-BFGS-B tells of it."""
        from scipy.optimize import LbfgsInvHessProduct

        run, memory = self.job.run, int(self.job.opt.maxcor)
        pairs, head = (int(number) for number in run.extra[[lbfgs.PAIRS, lbfgs.HEAD]])
        first = box.PAIR_ROWS if run.lower.size else lbfgs.ROWS
        order = first + (head - pairs + np.arange(pairs)) % memory
        if pairs == 0:
            return {"hess_inv": LbfgsInvHessProduct(np.empty((0, run.x.size)), np.empty((0, run.x.size)))}
        return {"hess_inv": LbfgsInvHessProduct(run.state[order], run.state[order + memory])}


@method("lbfgs", "l-bfgs")
class LBFGS(NamedTuple):
    r"""Limited-memory BFGS on the whole objective.

    .. math:: x_{t+1} = x_t - a_t H_t g_t

    :math:`H_t` stands for the inverse Hessian that the last ``memory`` pairs of steps and changes of the gradient agree
    with; :math:`a_t` satisfies Wolfe's conditions, near the minimum, where the objective only shows rounding, those of
    Hager and Zhang on the slope.  Within bounds the direction leads to the minimum of the quadratic model over the
    unknowns that are free at its generalized Cauchy point.

    Parameters
    ----------
    memory : int
        Pairs that are kept, at least 1.

    References
    ----------
    Nocedal, J. (1980). Updating quasi-Newton matrices with limited storage. doi:10.1090/S0025-5718-1980-0572855-7
    Byrd, R. H., Lu, P., Nocedal, J., Zhu, C. (1995). A limited memory algorithm for bound constrained optimization.
    doi:10.1137/0916069
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
    >>> no.minimize(rosen, [-1.2, 1.0], method="lbfgs", bounds=[(None, 0.5), (None, None)]).x.round(6)
    array([0.5 , 0.25])
    """

    memory: float = 10

    solver = LBFGSSteps
    ranges = {"memory": "[1, 1000]"}
    bounded = True

    @staticmethod
    def check(opt, problem, batches, bounded):
        refuse("lbfgs", problem, False)


@method("l-bfgs-b", "lbfgsb")
class LBFGSB(NamedTuple):
    """`LBFGS` with the options, defaults and results of SciPy's L-BFGS-B.

    Parameters
    ----------
    maxcor : int
        Pairs that are kept.
    maxfun : int
        Evaluations after which the run ends.
    maxls : int
        Most evaluations along one direction.

    Notes
    -----
    The run has also converged where one step lowers the objective by less than ``ftol * max(1, |fun|)``
    (2.2e-9), as in SciPy; ``tol`` sets ``ftol`` and ``gtol``.

    Examples
    --------
    >>> import numba, numbaopt as no
    >>> bowl = numba.njit(lambda x: (x[0] - 1) ** 2 + 2 * (x[1] + 1) ** 2)
    >>> res = no.minimize(bowl, [3.0, 3.0], method="L-BFGS-B", bounds=[(0, None), (0, None)])
    >>> res.x.round(6), res.success
    (array([1., 0.]), True)
    """

    maxcor: float = 10
    maxfun: float = 15_000
    maxls: float = 20

    solver = LBFGSBSteps
    ranges = {"maxcor": "[1, 1000]", "maxfun": "[0, inf)", "maxls": "[1, inf)"}
    bounded = True
    defaults = {"ftol": 2.220446049250313e-09, "gtol": 1e-5, "maxiter": 15_000}
    tolerances = ("ftol", "gtol")
    calm_steps = 1
    elsewhere = SCIPY_ONLY

    @staticmethod
    def check(opt, problem, batches, bounded):
        refuse("L-BFGS-B", problem, False)
