r"""The 35 problems of Moré, Garbow and Hillstrom: small sums of squares, each with its own kind of trouble.

.. math:: F(x) = \sum_{i=1}^m r_i(x)^2

Around the minimum of ``meyer`` rounding keeps the float64 gradient above 0.1: no method ends there with a small one.

References
----------
Moré, J. J., Garbow, B. S., Hillstrom, K. E. (1981). Testing unconstrained optimization software. ACM Transactions on
Mathematical Software 7(1), 17-41. doi:10.1145/355934.355936

Examples
--------
>>> import numbaopt as no
>>> from numbaopt.experiments.more_garbow_hillstrom import PROBLEMS
>>> beale = PROBLEMS[4]
>>> res = no.minimize(beale.fun, beale.x0, method="lbfgs", tol=1e-6)
>>> beale.name, res.success, res.x.round(6)
('beale', True, array([3. , 0.5]))
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from .._jit import jit
from . import residuals as of


class Problem(NamedTuple):
    """A sum of squares in its standard dimensions.

    Attributes
    ----------
    number : int
        In the paper.
    name : str
    residuals : callable
        ``residuals(x)`` is the vector r, new and of shape (m,); jitted.
    x0 : tuple of float
        The standard start, of length n.
    minima : tuple of float
        The local minima of F that the paper lists, the least first; the second ones of ``bard`` and
        ``kowalik_osborne`` are only neared at infinity.
    m : int
        How many residuals.
    """

    number: int
    name: str
    residuals: Any
    x0: tuple[float, ...]
    minima: tuple[float, ...]
    m: int

    @property
    def fun(self) -> Any:
        """The jitted objective F."""
        return sum_of_squares(self.residuals)


@functools.cache
def sum_of_squares(residuals: Any) -> Any:
    """The jitted function ``fun(x)`` that sums the squares of jitted ``residuals(x)``."""

    @jit
    def fun(x):
        total = 0.0
        for r in residuals(x):
            total += r**2
        return total

    return fun


def _parabola(n: int) -> tuple[float, ...]:
    """t (t - 1) at the n inner points of an even grid on [0, 1]."""
    return tuple(i / (n + 1) * (i / (n + 1) - 1.0) for i in range(1, n + 1))


PROBLEMS = (
    Problem(1, "rosenbrock", of.rosenbrock, (-1.2, 1.0), (0.0,), 2),
    Problem(2, "freudenstein_roth", of.freudenstein_roth, (0.5, -2.0), (0.0, 48.98425367924), 2),
    Problem(3, "powell_badly_scaled", of.powell_badly_scaled, (0.0, 1.0), (0.0,), 2),
    Problem(4, "brown_badly_scaled", of.brown_badly_scaled, (1.0, 1.0), (0.0,), 3),
    Problem(5, "beale", of.beale, (1.0, 1.0), (0.0,), 3),
    Problem(6, "jennrich_sampson", of.jennrich_sampson, (0.3, 0.4), (124.362182355615,), 10),
    Problem(7, "helical_valley", of.helical_valley, (-1.0, 0.0, 0.0), (0.0,), 3),
    Problem(8, "bard", of.bard, (1.0, 1.0, 1.0), (8.21487730658e-3, 17.4286933333), 15),
    Problem(9, "gaussian", of.gaussian, (0.4, 1.0, 0.0), (1.12793276962e-8,), 15),
    Problem(10, "meyer", of.meyer, (0.02, 4000.0, 250.0), (87.9458551703,), 16),
    Problem(11, "gulf", of.gulf, (5.0, 2.5, 0.15), (0.0,), 99),
    Problem(12, "box", of.box, (0.0, 10.0, 20.0), (0.0,), 10),
    Problem(13, "powell_singular", of.powell_singular, (3.0, -1.0, 0.0, 1.0), (0.0,), 4),
    Problem(14, "wood", of.wood, (-3.0, -1.0, -3.0, -1.0), (0.0,), 6),
    Problem(15, "kowalik_osborne", of.kowalik_osborne, (0.25, 0.39, 0.415, 0.39),
            (3.07505603849e-4, 1.0273430487e-3), 11),
    Problem(16, "brown_dennis", of.brown_dennis, (25.0, 5.0, -5.0, -1.0), (85822.2016263565,), 20),
    Problem(17, "osborne_1", of.osborne_1, (0.5, 1.5, -1.0, 0.01, 0.02), (5.46489469749e-5,), 33),
    Problem(18, "biggs_exp6", of.biggs_exp6, (1.0, 2.0, 1.0, 1.0, 1.0, 1.0), (0.0, 5.65564992552e-3), 13),
    Problem(19, "osborne_2", of.osborne_2, (1.3, 0.65, 0.65, 0.7, 0.6, 3.0, 5.0, 7.0, 2.0, 4.5, 5.5),
            (4.01377362935e-2,), 65),
    Problem(20, "watson", of.watson, (0.0,) * 6, (2.28767005355e-3,), 31),
    Problem(21, "extended_rosenbrock", of.rosenbrock, (-1.2, 1.0) * 5, (0.0,), 10),
    Problem(22, "extended_powell_singular", of.powell_singular, (3.0, -1.0, 0.0, 1.0) * 3, (0.0,), 12),
    Problem(23, "penalty_1", of.penalty_1, tuple(float(i) for i in range(1, 11)), (7.08765146709e-5,), 11),
    Problem(24, "penalty_2", of.penalty_2, (0.5,) * 10, (2.93660537457e-4,), 20),
    Problem(25, "variably_dimensioned", of.variably_dimensioned, tuple(1.0 - i / 10.0 for i in range(1, 11)),
            (0.0,), 12),
    Problem(26, "trigonometric", of.trigonometric, (0.1,) * 10, (0.0, 2.79505612188e-5), 10),
    Problem(27, "brown_almost_linear", of.brown_almost_linear, (0.5,) * 10, (0.0, 1.0), 10),
    Problem(28, "discrete_boundary_value", of.discrete_boundary_value, _parabola(10), (0.0,), 10),
    Problem(29, "discrete_integral_equation", of.discrete_integral_equation, _parabola(10), (0.0,), 10),
    Problem(30, "broyden_tridiagonal", of.broyden_tridiagonal, (-1.0,) * 10, (0.0,), 10),
    Problem(31, "broyden_banded", of.broyden_banded, (-1.0,) * 10, (0.0,), 10),
    Problem(32, "linear_full_rank", of.linear_full_rank, (1.0,) * 5, (5.0,), 10),
    Problem(33, "linear_rank_1", of.linear_rank_1, (1.0,) * 5, (15.0 / 7.0,), 10),
    Problem(34, "linear_rank_1_zeros", of.linear_rank_1_zeros, (1.0,) * 5, (62.0 / 17.0,), 10),
    Problem(35, "chebyquad", of.chebyquad, tuple(i / 9.0 for i in range(1, 9)), (3.51687372568e-3,), 8),
)  # fmt: skip
