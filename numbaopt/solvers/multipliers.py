"""The method of multipliers for losses with kinks: Newton's method on their smooth envelopes, one after the other."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from ..loops.state import know, new_run, observe
from ..losses._loss import constants, lipschitz
from ..problems.envelope import Envelope
from ..status import CONVERGED, NO_PROGRESS, NOT_FINITE, RUNNING
from ._solver import Job, Solver, enough, method
from .newton import Newton as _Newton
from .newton import NewtonSteps

Newton: Any = _Newton  # the decorator hides its fields from type checkers

HEAD = 5  # numbers before the slopes: q, how exactly the next envelope is solved, the last gap, the least distance
# from convergence so far (1: there), steps since
SMALLER = 0.3  # what the next q is of the last one
CLOSER = 0.1  # what the next gradient may be of the last one
ENOUGH = 0.2  # what the next gap should be of the last one, for q to stay
INNER = 50  # most steps of Newton's method on one envelope
PATIENCE = 8  # steps no nearer to convergence, after which nothing more is expected


class MultiplierSteps(Solver):
    """Steps of `SSNAL`; ``extra`` holds `HEAD`, then the slope of every term."""

    def __init__(self, job: Job):
        super().__init__(job)
        self.envelope = Envelope(job.problem, job.run.extra[HEAD:])
        self.inner = Newton(sampling=False)

    @staticmethod
    def sizes(opt: Any, problem: Any, batches: Any = None, bounded: bool = False) -> tuple[int, int]:
        """A slope for every term."""
        return 0, HEAD + problem.n_terms

    @staticmethod
    def fits(opt: Any, run: Any) -> bool:
        """Whether the numbers are what they stand for."""
        return not np.any(np.isnan(run.extra)) and bool(run.extra[:HEAD].min() >= 0)

    def take(self, steps: int, rates: np.ndarray, values: np.ndarray) -> None:
        """Take at most ``steps`` steps, which end with new multipliers."""
        now, run, model = self.job.run.now[0], self.job.run, self.job.problem
        if now.awaiting:
            fun, run.g[:] = model.value_and_grad(run.x)
            self._judge(fun, np.inf)
            if run.extra[0] == 0:
                run.extra[:4] = self._spread(fun), np.inf, np.inf, np.inf
        for _ in range(steps):
            if now.status != RUNNING:
                return
            self._step()

    def _spread(self, fun: float) -> float:
        """How far margins are from where the losses want them, for a unit of their slope."""
        loss, kind = self.job.problem.loss, type(self.job.problem.loss)
        if np.isfinite(lipschitz(loss)):
            return 1.0 / lipschitz(loss)
        steepest = max(abs(kind.slope(constants(loss), z, 1.0)) for z in (-1e9, 1e9))
        return max(abs(fun), 1e-300) / steepest**2

    def _step(self) -> None:
        """One envelope's minimum, then its slopes; all is written at the end, so Ctrl-C may end it before."""
        run, model, limits, now = self.job.run, self.job.problem, self.job.limits, self.job.run.now[0]
        q, extra, envelope = run.extra[0], run.extra, self.envelope
        envelope.slopes[:] = extra[HEAD:]
        envelope.table[2, 0] = q
        if np.isinf(extra[1]):
            extra[1] = CLOSER * max(float(np.abs(envelope.value_and_grad(run.x)[1]).max()), limits.gtol)
        status, x, g = self._minimum(max(extra[1], 0.5 * limits.gtol))
        now.step, now.lr = now.step + 1, q
        if status == NOT_FINITE:
            now.status = status
            return
        run.x[:], run.g[:] = x, g
        gap = envelope.advance(run.x, q)
        fun = model.value(run.x)
        extra[HEAD:] = envelope.slopes
        if status != CONVERGED:  # too hard an envelope
            extra[0] = q / SMALLER
        else:
            extra[0] = q if gap <= ENOUGH * extra[2] else SMALLER * q
            extra[1] = max(CLOSER * extra[1], 0.5 * limits.gtol)
        extra[2] = gap
        self._judge(fun, gap)
        gtol = max(limits.gtol, 1e-300)
        distance = max(gap / max(abs(fun), 1e-300), now.grad_norm) / gtol
        extra[3:HEAD] = (distance, 0.0) if distance < 0.9 * extra[3] else (extra[3], extra[4] + 1)
        if extra[4] >= PATIENCE and now.status == RUNNING:
            now.status = NO_PROGRESS

    def _minimum(self, gtol: float) -> tuple[int, np.ndarray, np.ndarray]:
        """Where a run of Newton's method on the envelope ends: its status, its best point, the gradient there."""
        envelope, none = self.envelope, np.zeros(0, self.job.problem.dtype)
        slots, extra = NewtonSteps.sizes(self.inner, envelope)
        inner = new_run(self.job.run.x, slots, none, none, 2, False, extra)
        know(inner, envelope)
        limits = self.job.limits._replace(maxiter=INNER, gtol=gtol, ftol=0.0, xtol=0.0)
        steps = NewtonSteps(Job(envelope, self.inner, inner, limits, None, ()))
        steps.interrupts = self.interrupts
        steps.take(INNER, none, none)
        now = inner.now[0]
        at_best = now.status == NOT_FINITE or now.best_step == now.step
        return int(now.status), inner.best, inner.g if at_best else envelope.value_and_grad(inner.best)[1]

    def _judge(self, fun: float, gap: float) -> None:
        """Take note of the objective; converged where the gap, too, is small."""
        limits, now = self.job.limits, self.job.run.now[0]
        gtol = limits.gtol if enough(self.job, fun, gap) else -1.0
        observe(self.packed_run.address, self.zero, fun, gtol, limits.ftol, limits.xtol)
        if now.status == CONVERGED and now.reason == 1:
            now.reason = 5


def _check(opt: Any, problem: Any, batches: Any, bounded: bool) -> None:
    if not hasattr(problem, "rows") or not hasattr(problem.loss, "implicit_slope"):
        raise ValueError("method='ssnal' needs a LinearModel whose loss has an implicit_slope(c, z, y, q); "
                         f"got {problem!r}")  # fmt: skip
    if numba.config.DISABLE_JIT:
        raise ValueError("method='ssnal' needs compiled code: NUMBA_DISABLE_JIT is set")
    if bounded:
        raise ValueError("method='ssnal' takes no bounds; use a first-order rule")


@method("ssnal")
class SSNAL(NamedTuple):
    r"""The semismooth Newton augmented Lagrangian method: for linear models whose loss has kinks.

    With a margin :math:`u_i` of its own for every loss, the constraint :math:`u_i = z_i` is met by multipliers
    :math:`s_i`.  A step minimizes the augmented Lagrangian, in which every loss has become its smooth envelope, by
    `Newton`, and takes the slopes there as the new multipliers:

    .. math:: x \leftarrow \arg\min_x \frac1n \sum_i \min_u \Big( \ell_i(u) + \frac{(z_i + q s_i - u)^2}{2 q}
        \Big) + \frac{\lambda_2}{2} \|\beta\|^2 + \lambda_1 \|\beta\|_1, \qquad s_i \in \ell_i'(u_i)

    q falls where the duality gap does not.  The run has converged when the gap is at most gtol times the objective and
    no component of the (proximal) gradient with the slopes s exceeds gtol.  Units of the data and a missing penalty
    matter little.  For losses with an ``implicit_slope``: all but poisson, gamma and multinomial.

    References
    ----------
    Li, X., Sun, D., Toh, K.-C. (2018). A highly efficient semismooth Newton augmented Lagrangian method for solving
    Lasso problems. doi:10.1137/16M1097572
    Rockafellar, R. T. (1976). Augmented Lagrangians and applications of the proximal point algorithm in convex
    programming. doi:10.1287/moor.1.2.97

    Examples
    --------
    >>> import numpy as np, numbaopt as no
    >>> X = np.arange(10.0)[:, None]
    >>> y = 3 * X[:, 0] + 1 + [0, 9, 0, 0, -2, 0, 5, 0, 0, 1]
    >>> res = no.minimize(no.LinearModel(X, y, loss="quantile"), method="ssnal", tol=1e-8)
    >>> res.success, res.x.round(6)
    (True, array([3., 1.]))
    """

    solver = MultiplierSteps
    check = staticmethod(_check)
