"""Stochastic dual coordinate ascent; proximal points where a penalty is missing."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from .._jit import address_of as at
from .._packed import Packed
from ..loops import dual
from ..loops.state import observe
from ..losses._loss import constants
from ..problems.kernels import shared_at, sums_by_tile
from ..status import AT_TARGET, CONVERGED, NO_PROGRESS, NOT_FINITE, OUT_OF_EVALUATIONS, RUNNING
from ._solver import Job, Solver, enough, method, scale_of

NUMBERS = 1 << 22  # stored numbers that are read between two moments at which Ctrl-C is heeded
START_ROWS = 1 << 15  # whose first slopes are found between two such moments
# Numbers before the vectors: terms of the epoch, visited ones, visits since the judgement, two strengths, least
# distance from an optimum, judgements in vain.
HEAD = 7
STRENGTHS = slice(3, 5)
LESS, PATIENCE = 0.99, 300  # judgements, none of which finds this part of the least distance, nor a better objective
EXACT = 0.1  # how large the gap may be, of what a proximal step has brought, before the next one
JUDGED = 2  # times as many visits as there are terms, between two judgements
SETTLED = 8  # an epoch makes at least this part of the visits of a whole one, if terms still move
RESTORED = 50  # epochs after which the point is made anew from the slopes, whose rounding errors add up
WEAKER, WEAKEST = 2.0, 2.0**-40  # by which a proximal strength falls with every step; the part of the first to be left


class DualSteps(Solver):
    """Epochs of `SDCA`; ``extra`` holds `HEAD`, then slopes, points and rests of all terms, the state is the centre."""

    def __init__(self, job: Job):
        super().__init__(job)
        model, extra, shared = job.problem, job.run.extra, shared_at(job.problem.dtype)
        n, rows = model.n_terms, model.rows
        kind: Any = type(model.loss)
        storage: Any = type(rows)
        self.vectors = extra[HEAD:].reshape(4, n)
        strengths, idle, due = extra[STRENGTHS], *self.vectors[2:]
        fits = np.all(np.isfinite(extra)) and n >= extra[0] >= extra[1] >= 0 and extra[2:HEAD].min() >= 0
        if not fits or min(idle.min(), due.min()) < 0 or max(idle.max() / 2.0**53, due.max() / n) >= 1:  # indices
            raise ValueError("the run is not one of this method: its numbers are not positions and strengths")
        self.implicit, self._loss = dual.implicit_of(kind, shared, len(constants(model.loss)))
        self.functions = dual.functions(model.dtype, storage, shared)
        found = dual.passes(model.dtype, shared)
        self._begin, self._restore, self._certify, self._choose, self._settle, self._visit = found
        self.by_tile = sums_by_tile(type(model.rows), model.dtype)
        self.squares = np.zeros(n)
        own = dual.Terms(dual.Dual(self.where, self.implicit, self.squares, strengths, *self.vectors), rows)
        self.own = Packed(own, dual.terms_type(model.dtype, storage))
        self.loose = np.array([model.l2 == 0, model.fit_intercept and model.intercept_l2 == 0])
        self.rows_at_once = max(1, NUMBERS * n // max(rows[0].size, n))
        self.sums = np.zeros(2)
        for first in range(0, n, self.rows_at_once):
            self.visit(self.functions.measure, first, min(self.rows_at_once, n - first))

    @staticmethod
    def sizes(opt: Any, problem: Any, batches: Any = None, bounded: bool = False) -> tuple[int, int]:
        """A centre; four numbers a term."""
        return 1, HEAD + 4 * problem.n_terms

    def visit(self, function: Any, first: int, count: int) -> float:
        """Call one of the compiled functions over single rows."""
        run = self.job.run
        return self._visit(function, self.packed_run.address, self.own.address, first, count, int(run.extra[0]),
                           int(self.job.opt.seed), int(run.now[0].step))  # fmt: skip

    def take(self, steps: int, rates: np.ndarray, values: np.ndarray) -> None:
        """Take at most ``steps`` steps, which are epochs."""
        run, model, now = self.job.run, self.job.problem, self.job.run.now[0]
        extra, n = run.extra, model.n_terms
        if not extra[STRENGTHS].all():
            self._start()
        if now.awaiting and (now.step == 0 or steps == 0) and extra[1] == 0:
            self._judge()
        for _ in range(steps):
            if now.status != RUNNING:
                return
            now.awaiting = 1
            if extra[0] == 0:
                extra[0] = self._choose(self.packed_run.address, self.own.address, int(now.step))
            while extra[1] < extra[0]:
                self.heed()
                count = int(min(self.rows_at_once, extra[0] - extra[1]))
                if not self.visit(self.functions.sweep, int(extra[1]), count):
                    now.status, now.fun = NOT_FINITE, np.nan
                    return
                extra[1] += count
            more = self._settle(self.functions.sweep, self.packed_run.address, self.own.address, int(extra[0]),
                                int(self.job.opt.seed), int(now.step),
                                min(n // SETTLED, self.rows_at_once) - int(extra[0]))  # fmt: skip
            if np.isnan(more):
                now.status, now.fun = NOT_FINITE, np.nan
                return
            now.step, now.lr, extra[2] = now.step + 1, 1.0, extra[2] + extra[0] + more
            extra[:2] = 0.0
            if now.step % RESTORED == 0:
                self._restore(self.packed_run.address, self.own.address, self.by_tile)
            due = extra[2] >= JUDGED * n
            if due or now.step >= self.job.limits.maxiter:
                self._judge()
                extra[2] *= not due  # what a run does that goes on after its limit does not depend on that

    def _start(self) -> None:
        """Strengths of all penalties, and slopes to begin with."""
        run, model = self.job.run, self.job.problem
        extra, n = run.extra, model.n_terms
        fixed = not self.loose[0]
        square = float(self.squares.mean()) or 1.0
        scale = 1.0
        if not fixed:  # units of a margin for one of a slope
            scale = max(abs(model.value(run.x)), 1e-300)
        extra[3] = model.l2 if fixed else square / (n * scale)
        extra[4] = model.intercept_l2 or extra[3] / square
        run.state[0] = run.x * self._per_unknown(*self.loose)
        ratio = float(n) if np.array_equal(run.x, run.state[0]) else 1e-12
        try:
            for first in range(0, n, START_ROWS):
                self.heed()
                self._begin(self.packed_run.address, self.own.address, ratio, first, min(first + START_ROWS, n))
        except BaseException:
            extra[STRENGTHS] = 0.0  # not begun
            raise
        self._restore(self.packed_run.address, self.own.address, self.by_tile)

    def _per_unknown(self, coefficients: Any, intercept: Any) -> np.ndarray:
        """A vector with one value for the coefficients, another one for the intercept."""
        made = np.full(self.job.problem.n, intercept, float)
        made[: self.job.problem.n_penalised] = coefficients
        return made

    def _certificate(self) -> tuple[float, float, np.ndarray]:
        """Objective, gap, and the subgradient of the objective that the gap goes with."""
        run, model = self.job.run, self.job.problem
        self._certify(self.packed_run.address, self.own.address, at(self.sums))
        x = run.x.astype(float)
        fun, gap = self.sums / model.n_terms
        fun += 0.5 * float(np.add.reduce(self._per_unknown(model.l2, model.intercept_l2) * x * x))
        strengths = self._per_unknown(*(run.extra[STRENGTHS] * self.loose))
        return fun, gap, strengths * (run.state[0] - x)

    def _judge(self) -> None:
        """Take note of the objective; converged where slopes made anew say so; else perhaps on to the next centre."""
        run, limits, now, model = self.job.run, self.job.limits, self.job.run.now[0], self.job.problem
        fun, gap, g = self._certificate()
        if self._done(fun, gap, g):
            self._restore(self.packed_run.address, self.own.address, self.by_tile)
            fun, gap, g = self._certificate()
        run.g[:] = g
        done, best, noise = self._done(fun, gap, g), float(now.best_fun), 8 * float(np.finfo(model.dtype).eps)
        observe(self.packed_run.address, self.zero, fun, 2.0 * abs(g).max() if done else -1.0, limits.ftol, limits.xtol)
        if now.status == CONVERGED and done and now.reason == 1:
            now.reason = 5
        elif self.loose.any() and now.step < limits.maxiter and (
                now.status == RUNNING or now.reason in (AT_TARGET, OUT_OF_EVALUATIONS)):  # which a resumed run may lift
            self._move(fun, gap, g)
        distance = max(gap / scale_of(self.job, fun), float(abs(g).max()), noise)  # less tells nothing
        self._note(distance, best - fun > noise * abs(fun))

    def _note(self, distance: float, better: bool) -> None:
        """End the run where neither the objective nor gap and subgradient, the distance, have become less for long."""
        extra, now = self.job.run.extra, self.job.run.now[0]
        if np.isfinite(distance) and (extra[5] == 0 or distance < LESS * extra[5]):
            extra[5], extra[6] = distance, 0.0
            return
        extra[6] = 0.0 if better else extra[6] + 1.0
        if extra[6] >= PATIENCE and now.status == RUNNING:
            now.status, now.reason = NO_PROGRESS, 0

    def _done(self, fun: float, gap: float, g: np.ndarray) -> bool:
        return enough(self.job, fun, gap) and float(abs(g).max()) <= self.job.limits.gtol

    def _move(self, fun: float, gap: float, g: np.ndarray) -> None:
        """Let the next centre be here, if the last one's problem is solved well enough."""
        run = self.job.run
        moved = run.x - run.state[0]
        if gap > max(EXACT * 0.5 * float(abs(g @ moved)), 0.1 * self.job.limits.gtol * abs(fun)):
            return
        free = self._per_unknown(*self.loose) != 0
        run.state[0][free] = run.x[free]
        first = (float(self.squares.mean()) or 1.0) / (self.squares.size * max(abs(float(run.history[0].fun)), 1e-300))
        if self.loose[0] and run.extra[3] > WEAKEST * first:
            run.extra[STRENGTHS][self.loose] /= WEAKER
        self.vectors[2] = 0.0
        self._restore(self.packed_run.address, self.own.address, self.by_tile)
        run.now[0].awaiting = 1


def _check(opt: Any, problem: Any, batches: Any, bounded: bool) -> None:
    if not hasattr(problem, "rows") or not hasattr(problem.loss, "implicit_slope"):
        raise ValueError("method='sdca' needs a LinearModel whose loss has an implicit_slope(c, z, y, q); "
                         f"got {problem!r}")  # fmt: skip
    if problem.l1 > 0:
        raise ValueError(f"method='sdca' takes no l1 (l1={problem.l1}); use 'newton', 'saga' or a first-order rule")
    if numba.config.DISABLE_JIT:
        raise ValueError("method='sdca' needs compiled code: NUMBA_DISABLE_JIT is set")
    if bounded:
        raise ValueError("method='sdca' takes no bounds; use a first-order rule")


@method("sdca", "dual")
class SDCA(NamedTuple):
    r"""Stochastic dual coordinate ascent, for linear models without l1.

    The best slope :math:`s_i` of one loss at a time, in random order, all others fixed (``loops/dual.py``):

    .. math:: \max_s\; -\frac1n \sum_i \ell_i^*(s_i) - \frac{1}{2 \lambda_2 n^2} \Big\|\sum_i s_i x_i\Big\|^2,
        \qquad \beta = -\frac{1}{\lambda_2 n} \sum_i s_i x_i

    A step is an epoch; terms whose slope stays where it is rest for a while.  The run has converged when the duality
    gap, which bounds what the objective is above its minimum, is at most gtol times the objective.  An unpenalised
    intercept is met by proximal points, :math:`+ \tfrac{\mu}{2} (b - b_k)^2` with :math:`b_k` from the last one, and so
    are the coefficients where l2 = 0; then ``jac`` is the subgradient that is left, and must not exceed gtol either.
    For losses with an ``implicit_slope``: all but poisson, gamma and multinomial.

    Steps are of one term, so columns of very different size, or an l2 that is tiny against the squares of rows, may
    take more epochs than anyone waits for: after 300 judgements that bring nothing the run ends with status 3.  `SSNAL`
    minds neither.

    Parameters
    ----------
    seed : float
        Of the random orders, a whole number in [0, 2^32).

    References
    ----------
    Shalev-Shwartz, S., Zhang, T. (2013). Stochastic dual coordinate ascent methods for regularized loss minimization.
    JMLR 14, 567-599.
    Hsieh, C.-J., Chang, K.-W., Lin, C.-J., Keerthi, S. S., Sundararajan, S. (2008). A dual coordinate descent method
    for large-scale linear SVM. doi:10.1145/1390156.1390208
    Yu, H.-F., Huang, F.-L., Lin, C.-J. (2011). Dual coordinate descent methods for logistic regression and maximum
    entropy models. doi:10.1007/s10994-010-5221-8

    Examples
    --------
    >>> import numpy as np, numbaopt as no
    >>> X = np.linspace(-1, 1, 50)[:, None] ** [1, 2, 3]
    >>> model = no.LinearModel(X, X[:, 0] > 0.3, loss="hinge", l2=1e-2)
    >>> res = no.minimize(model, method="sdca", tol=1e-6)
    >>> exact = no.minimize(model, method="ssnal", tol=1e-9)
    >>> res.success, bool(0 <= res.fun - exact.fun <= 1e-6 * exact.fun)
    (True, True)
    """

    seed: float = 0

    solver = DualSteps
    ranges = {"seed": "[0, 4294967296)"}
    check = staticmethod(_check)
