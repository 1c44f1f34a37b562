"""Newton's method for functions, within a trust region."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..loops import trust_region
from ._searching import SCIPY_ONLY, refuse
from ._solver import PlannedSteps, method


class TrustNCGSteps(PlannedSteps):
    """Steps of `TrustNCG`; threads share passes over large tables."""

    @staticmethod
    def room(bounded: bool) -> Any:
        """The only one."""
        return trust_region

    @classmethod
    def plan(cls, method: Any, dtype: Any) -> tuple[Any, ...]:
        """The method's own fields, and what counts as rounding."""
        return "initial_trust_radius", "max_trust_radius", "eta", 8 * float(np.finfo(dtype).eps), "maxfun"


@method("trust-ncg", "trustncg")
class TrustNCG(NamedTuple):
    r"""Newton's method by conjugate gradients within a trust region, for functions with many unknowns.

    .. math:: p_t \approx \arg\min_{\|p\| \le r_t} g_t^T p + \tfrac12 p^T H_t p

    by conjugate gradients, which end at the boundary or where the model bends down (Steihaug).  Products with the
    Hessian are differences of two gradients, one evaluation each: none is needed of the user.  Options and defaults are
    those of SciPy's trust-ncg, which is called where ``hess`` or ``hessp`` is given.

    Parameters
    ----------
    initial_trust_radius, max_trust_radius : float
        The first and the greatest radius.
    eta : float
        The part of the promised decrease from which a step is taken.
    maxfun : float
        Evaluations, products included, after which the run ends.

    References
    ----------
    Steihaug, T. (1983). The conjugate gradient method and trust regions in large scale optimization.
    doi:10.1137/0720042

    Examples
    --------
    >>> import numba, numbaopt as no
    >>> @numba.njit
    ... def rosen(x):
    ...     return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
    >>> no.minimize(rosen, [-1.2, 1.0], method="trust-ncg", tol=1e-8).x.round(6)
    array([1., 1.])
    """

    initial_trust_radius: float = 1.0
    max_trust_radius: float = 1000.0
    eta: float = 0.15
    maxfun: float = float("inf")

    solver = TrustNCGSteps
    ranges = {"initial_trust_radius": "(0, inf)", "max_trust_radius": "(0, inf)", "eta": "[0, 0.25)",
              "maxfun": "[0, inf]"}  # fmt: skip
    defaults = {"gtol": 1e-4, "maxiter": lambda n: 200 * n}
    calm_steps = 1
    elsewhere = SCIPY_ONLY
    with_hessian = True
    ascending = ("initial_trust_radius", "max_trust_radius")

    @staticmethod
    def check(opt, problem, batches, bounded):
        refuse("trust-ncg", problem, bounded)
