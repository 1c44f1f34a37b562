"""Nelder and Mead's simplex, for functions without a gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..loops import simplex
from ._searching import refuse
from ._solver import PlannedSteps, method


class NelderMeadSteps(PlannedSteps):
    """Steps of `NelderMead`."""

    @staticmethod
    def room(bounded: bool) -> Any:
        """The only one."""
        return simplex

    @classmethod
    def plan(cls, method: Any, dtype: Any) -> tuple[Any, ...]:
        """The method's own fields."""
        return method._fields

    @staticmethod
    def fits(opt: Any, run: Any) -> bool:
        """Whether the order is one."""
        n = run.x.size
        return bool(run.now[0].awaiting or np.array_equal(np.sort(run.extra[n + 1 : 2 * n + 2]), np.arange(n + 1)))

    def told(self) -> dict[str, Any]:
        """The simplex, best vertex first, and its objectives, as SciPy tells of them."""
        run, n = self.job.run, self.job.run.x.size
        order = run.extra[n + 1 : 2 * n + 2].astype(int)
        return {"final_simplex": (run.state[simplex.VERTICES + order], run.extra[order])}


@method("nelder-mead", "neldermead")
class NelderMead(NamedTuple):
    r"""The simplex of Nelder and Mead: n + 1 points, of which the worst is reflected at the others' center.

    For few unknowns, and objectives that are not smooth.  Options, defaults and, up to rounding, steps are those of
    SciPy's Nelder-Mead (whose ``nit`` begins at 1, and which forgets what the step that ``maxfev`` cuts has found);
    that is called for ``initial_simplex``.  ``tol`` sets ``xatol`` and ``fatol``.

    Parameters
    ----------
    xatol, fatol : float
        Converged where no vertex is farther than xatol from the best one in any unknown, nor worse by more than fatol.
    maxfev : int, optional
        Evaluations after which the run ends: 200 n, or any number where ``maxiter`` is given.
    adaptive : bool
        Fit the reflection, expansion, contraction and shrinkage to the number of unknowns (Gao and Han).

    References
    ----------
    Nelder, J. A., Mead, R. (1965). A simplex method for function minimization. doi:10.1093/comjnl/7.4.308
    Gao, F., Han, L. (2012). Implementing the Nelder-Mead simplex algorithm with adaptive parameters.
    doi:10.1007/s10589-010-9329-3

    Examples
    --------
    >>> import numba, numbaopt as no
    >>> kink = numba.njit(lambda x: abs(x[0] - 1) + abs(x[1] + 2))
    >>> no.minimize(kink, [0.0, 0.0], method="Nelder-Mead").x.round(3)
    array([ 1., -2.])
    """

    xatol: float = 1e-4
    fatol: float = 1e-4
    maxfev: float | None = None
    adaptive: bool = False

    solver = NelderMeadSteps
    ranges = {"xatol": "[0, inf)", "fatol": "[0, inf)", "maxfev": "[1, inf]"}
    defaults = {"maxiter": lambda n: simplex.PER_UNKNOWN * n, "gtol": 0.0}
    tolerances = ("xatol", "fatol")
    elsewhere = ("initial_simplex", "return_all")
    bounded = True
    gradient = False
    unknown_to = ("gtol", "run")  # a simplex belongs to one problem
    either = "maxfev"

    @staticmethod
    def check(opt, problem, batches, bounded):
        refuse("nelder-mead", problem, False)
