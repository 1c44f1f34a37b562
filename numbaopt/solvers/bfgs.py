"""BFGS: quasi-Newton steps with a matrix."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..loops import bfgs
from ._searching import CURVATURE, DECREASE, SCIPY_ONLY, Searching, refuse
from ._solver import method


class BFGSSteps(Searching):
    """Steps of `BFGS`."""

    @staticmethod
    def room(bounded: bool) -> Any:
        """The only one."""
        return bfgs

    def told(self) -> dict[str, Any]:
        """The inverse Hessian."""
        run, n = self.job.run, self.job.run.x.size
        learnt = run.extra[bfgs.LEARNT] > 0
        return {"hess_inv": run.state[bfgs.ROWS : bfgs.ROWS + n].copy() if learnt else np.eye(n)}


@method("bfgs")
class BFGS(NamedTuple):
    r"""The method of Broyden, Fletcher, Goldfarb and Shanno on the whole objective.

    .. math:: x_{t+1} = x_t - a_t H_t g_t, \qquad
              H_{t+1} = (I - \rho s y^T) H_t (I - \rho y s^T) + \rho s s^T, \qquad \rho = 1 / y^T s

    with the step s and the change y of the gradient.  H is a matrix of n x n numbers: for up to some thousand unknowns.
    Options, defaults and results are those of SciPy's BFGS, whose H begins with the unit matrix, ours with
    :math:`(y^T s / y^T y) I`.

    Parameters
    ----------
    c1, c2 : float
        Wolfe's conditions: parts of the slope by which the objective must fall, and below which the slope must.

    References
    ----------
    Nocedal, J., Wright, S. J. (2006). Numerical optimization, chapter 6. doi:10.1007/978-0-387-40065-5

    Examples
    --------
    >>> import numba, numbaopt as no
    >>> @numba.njit
    ... def rosen(x):
    ...     return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
    >>> res = no.minimize(rosen, [-1.2, 1.0], method="BFGS")
    >>> res.x.round(4), res.hess_inv.shape
    (array([1., 1.]), (2, 2))
    """

    c1: float = DECREASE
    c2: float = CURVATURE

    solver = BFGSSteps
    ranges = {"c1": "(0, 0.5)", "c2": "(0, 1)"}
    defaults = {"gtol": 1e-5, "maxiter": lambda n: 200 * n}
    calm_steps = 1
    translates = {"xrtol": "xtol"}
    elsewhere = SCIPY_ONLY
    ascending = ("c1", "c2")

    @staticmethod
    def check(opt, problem, batches, bounded):
        refuse("bfgs", problem, bounded)
