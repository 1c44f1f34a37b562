"""Nonlinear conjugate gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..loops import conjugate_gradients
from ._searching import DECREASE, SCIPY_ONLY, Searching, refuse
from ._solver import method


class CGSteps(Searching):
    """Steps of `CG`; threads share passes over large tables."""

    strong = True

    @staticmethod
    def room(bounded: bool) -> Any:
        """The only one."""
        return conjugate_gradients


@method("cg")
class CG(NamedTuple):
    r"""Nonlinear conjugate gradients on the whole objective: three vectors of memory, for very many unknowns.

    .. math:: d_{t+1} = -g_{t+1} + \beta_t d_t, \qquad
              \beta_t = \max\Bigl(\frac{1}{d^T y} \bigl(y - 2 d \frac{y^T y}{d^T y}\bigr)^T g_{t+1},
              \frac{-1}{\|d\| \min(0.01, \|g\|)}\Bigr)

    with the change y of the gradient; every such direction leads downhill (Hager and Zhang).  Options and defaults are
    those of SciPy's CG, which takes the formula of Polak and Ribiere.

    Parameters
    ----------
    c1, c2 : float
        Wolfe's strong conditions: parts of the slope by which the objective must fall, and below which the slope must.

    References
    ----------
    Hager, W. W., Zhang, H. (2005). A new conjugate gradient method with guaranteed descent and an efficient line
    search. doi:10.1137/030601880

    Examples
    --------
    >>> import numba, numbaopt as no
    >>> @numba.njit
    ... def rosen(x):
    ...     return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
    >>> no.minimize(rosen, [-1.2, 1.0], method="CG").x.round(3)
    array([1., 1.])
    """

    c1: float = DECREASE
    c2: float = 0.4

    solver = CGSteps
    ranges = {"c1": "(0, 0.5)", "c2": "(0, 1)"}
    defaults = {"gtol": 1e-5, "maxiter": lambda n: 200 * n}
    calm_steps = 1
    elsewhere = SCIPY_ONLY
    ascending = ("c1", "c2")

    @staticmethod
    def check(opt, problem, batches, bounded):
        refuse("cg", problem, bounded)
