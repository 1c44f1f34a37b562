"""Levenberg-Marquardt: damped Gauss-Newton steps on residuals."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..loops import least_squares
from ..problems.residuals import Residuals
from ._solver import Job, WholeSteps, method

SMALLEST = 1e-100  # typical size of an unknown: its square and that of its inverse must be numbers


class LMSteps(WholeSteps):
    """Steps of `LM`; every trial of a step counts as one that is taken at once."""

    def __init__(self, job: Job):
        super().__init__(job)
        problem = job.problem
        self.settings = self.planned(job.opt, problem.n, problem.m, job.limits.maxiter, problem.loss, problem.f_scale)
        self.loop = least_squares.compiled()

    @staticmethod
    def planned(opt: Any, n: int, m: int, most: int, loss: str = "linear", margin: float = 1.0) -> Any:
        """The settings of the loop for n unknowns and m residuals, which are evaluated at ``most`` so often."""
        if len(opt.x_scale) not in (0, n):
            raise ValueError(f"LM: x_scale has {len(opt.x_scale)} items, there are {n} unknowns")
        if not all(SMALLEST < size < 1.0 / SMALLEST for size in opt.x_scale):
            raise ValueError(f"LM: x_scale={opt.x_scale} must lie between {SMALLEST:g} and {1 / SMALLEST:g}")
        return least_squares.settings_of(m, loss, margin, opt.factor, most, opt.x_scale)

    @staticmethod
    def sizes(opt: Any, problem: Any, batches: Any = None, bounded: bool = False) -> tuple[int, int]:
        """Vectors of the loop; residuals, Jacobian and matrices."""
        return least_squares.sizes(problem.n, problem.m)

    @property
    def jacobians(self) -> int:
        """How often the Jacobian was evaluated."""
        return int(self.job.run.extra[least_squares.JACOBIANS])


@method("lm", "levenberg-marquardt")
class LM(NamedTuple):
    r"""Levenberg-Marquardt with a trust region, within bounds: what `numbaopt.least_squares` takes.

    .. math:: x_{t+1} = P\big(x_t - (J^T J + \mu_t D^2)^{-1} J^T r\big)

    :math:`\mu_t` is 0 where the full step is within the radius, else such that the step ends there; the radius follows
    the ratio of the decrease of the cost to that of the model.

    Parameters
    ----------
    factor : float
        The first radius, in lengths of :math:`D x_0`.
    x_scale : tuple of float
        A typical size of each unknown, 1 / D; empty: D is the largest norm of each column of J so far.

    References
    ----------
    Moré, J. J. (1978). The Levenberg-Marquardt algorithm: implementation and theory. doi:10.1007/BFb0067700

    Examples
    --------
    >>> import numba, numpy as np, numbaopt as no
    >>> fun = numba.njit(lambda x: np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]]))
    >>> no.least_squares(fun, [-1.2, 1.0], method=no.LM(factor=100.0)).x.round(6)
    array([1., 1.])
    """

    factor: float = 1.0
    x_scale: tuple = ()

    solver = LMSteps
    bounded = True
    ranges = {"factor": "(0, inf)"}
    defaults = {"gtol": 1e-8, "ftol": 1e-8, "xtol": 1e-8, "maxiter": lambda n: 100 * n}
    problem = Residuals

    @staticmethod
    def check(opt, problem, batches, bounded):
        raise ValueError("method='lm' needs a function that returns residuals: see numbaopt.least_squares")
