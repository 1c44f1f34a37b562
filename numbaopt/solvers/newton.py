"""Newton's method for linear models: second derivatives from the rows, working sets of coefficients for l1."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize

from .._jit import jit
from ..loops.shuffle import epoch_order
from ..loops.state import observe
from ..problems.curvature import Curvature, Second, dot
from ..status import CONVERGED, NO_PROGRESS, NOT_FINITE, RUNNING
from ._solver import Job, Solver, method

DECREASE = 1e-4  # of what the slope promises, that a step must achieve
HALVINGS = 30
ROUNDING = 1e-12  # relative: smaller changes of the objective say nothing
GROWTH = 64  # coefficients that a working set may always grow by; else it may double
SLACK = 0.8  # a zero coefficient leaves the set where its gradient is below this part of l1
SMALLEST_SAMPLE = 2000  # rows


class NewtonSteps(Solver):
    """Steps of `Newton`; ``extra`` is the stage (which sample of the rows), the state marks the working set."""

    def __init__(self, job: Job):
        super().__init__(job)
        self.model = job.problem
        self.curvature = Curvature(self.model)
        self.sizes_of_samples = _samples(self.model, job.opt, self.dense)
        order = epoch_order(self.model.n_terms, 0, 0) if len(self.sizes_of_samples) > 1 else None
        whole = np.arange(self.model.n_terms)
        self.orders = [order[:size].copy() if order is not None else whole for size in self.sizes_of_samples[:-1]]
        self.orders.append(whole)
        # a sample may be separable where the whole is not: its coefficients are held together a little
        square = _mean_square(self.model)
        self.ridges = [square / order.size for order in self.orders[:-1]] + [0.0]
        self.known: tuple[bytes, int, np.ndarray, Second] | None = None  # the last pass: where, of what, on which set

    @staticmethod
    def sizes(opt: Any, problem: Any, batches: Any = None) -> tuple[int, int]:
        """One vector marks the working set; one number is the stage."""
        return 1, 1

    @property
    def dense(self) -> bool:
        """Whether steps are solved with a matrix; else by conjugate gradients."""
        return self.model.l1 > 0 or self.model.n <= self.job.opt.max_dense

    @property
    def stage(self) -> int:
        """Which sample of the rows the steps are of; the last one is the whole."""
        return min(int(self.job.run.extra[0]), len(self.orders) - 1)

    def take(self, steps: int, rates: np.ndarray, values: np.ndarray) -> None:
        """Take at most ``steps`` steps."""
        run, limits = self.job.run, self.job.limits
        now = run.now[0]
        if now.awaiting and self.stage == len(self.orders) - 1:
            self._judge(self._second(run.x))
        for _ in range(steps):
            if now.status != RUNNING:
                return
            if limits.maxiter - now.step <= 1 and self.stage < len(self.orders) - 1:
                self._go_on(len(self.orders) - 1)
                self._judge(self._second(run.x))
                continue
            self._step()

    def _go_on(self, stage: int) -> None:
        self.job.run.extra[0] = stage

    def _step(self) -> None:
        run, model = self.job.run, self.model
        now, last, stage = run.now[0], self.stage == len(self.orders) - 1, self.stage
        here = self._second(run.x)
        columns, x = self._columns(), run.x.astype(float)
        direction, promised = self._direction(x, here, columns)
        now.step += 1
        if not np.isfinite(promised):
            now.status, now.lr = NOT_FINITE, 1.0
            return
        self._update_set(x, here)
        now.lr = 1.0
        fun, length = here.fun + self._l1(x), 1.0
        for _ in range(HALVINGS):
            trial = (x + length * direction).astype(model.dtype)
            there = self._second(trial)
            value = there.fun + self._l1(trial.astype(float))
            if value <= fun + DECREASE * length * promised:
                break
            close = abs(value - fun) <= ROUNDING * max(1.0, abs(fun))
            if close and self._slope(trial, there) <= self._slope(x, here):
                break
            length = self._shorter(x, here, length * direction, there, length)
        else:
            if last:
                now.status = CONVERGED if now.grad_norm <= self.job.limits.gtol else NO_PROGRESS
            self._go_on(stage + 1)
            self.known = None
            if last:
                return
            trial = run.x.copy()
        run.x[:], now.lr = trial, length
        if last:
            self._judge(there)
        elif -promised < 2.0 * max(columns.size, 1) / self.orders[stage].size:  # below what a sample can tell
            self._go_on(stage + 1)
            if self.stage == len(self.orders) - 1:
                self._judge(self._second(run.x))

    def _shorter(self, x: np.ndarray, here: Second, move: np.ndarray, there: Second, length: float) -> float:
        """A better length, at most half as long: the best one between two passes, by their margins alone."""
        if not (np.all(np.isfinite(there.margins)) and np.isfinite(there.fun)):
            return 0.1 * length
        penalty = self.curvature.penalty

        def objective(part: float) -> float:
            z = x + part * move
            return self.curvature.along(here, there, part) + 0.5 * dot(penalty * z, z) + self._l1(z)

        found = scipy.optimize.minimize_scalar(objective, bounds=(0.0, 0.5), method="bounded", options={"xatol": 1e-3})
        return length * max(float(found.x), 1e-3)

    def _slope(self, x: np.ndarray, at: Second) -> float:
        """Largest component of a proximal gradient step."""
        to, l1, penalised = x - at.g, self.model.l1, self.model.n_penalised
        to[:penalised] = np.sign(to[:penalised]) * np.maximum(np.abs(to[:penalised]) - l1, 0.0)
        return float(np.max(np.abs(to - x)))

    def _judge(self, at: Second) -> None:
        run, limits = self.job.run, self.job.limits
        run.g[:] = at.g
        fun = at.fun + self._l1(run.x.astype(float))
        observe(self.packed_run.address, self.zero, fun, limits.gtol, limits.ftol, limits.xtol)

    def _l1(self, x: np.ndarray) -> float:
        return self.model.l1 * float(np.abs(x[: self.model.n_penalised]).sum()) if self.model.l1 else 0.0

    def _columns(self) -> np.ndarray:
        """The unknowns that the matrix is made for, sorted."""
        if not self.dense:
            return np.zeros(0, np.int64)
        if not self.model.l1:
            return np.arange(self.model.n)
        marked = self.job.run.state[0] != 0
        marked[self.model.n_penalised :] = True
        return np.flatnonzero(marked)

    def _second(self, x: np.ndarray) -> Second:
        """The pass at ``x``, unless it was the last one made."""
        columns, stage = self._columns(), self.stage
        key = x.tobytes()
        if self.known is None or self.known[:2] != (key, stage) or not np.array_equal(self.known[2], columns):
            l2 = max(self.model.l2, self.ridges[stage])
            found = self.curvature.second_order(x, self.orders[stage], columns, l2)
            self.known = key, stage, columns, found
        return self.known[3]

    def _direction(self, x: np.ndarray, at: Second, columns: np.ndarray) -> tuple[np.ndarray, float]:
        """Where to go, and by how much the objective changes to first order."""
        direction = np.zeros(x.size)
        if not (np.isfinite(at.fun) and np.all(np.isfinite(at.g)) and np.all(np.isfinite(at.matrix))):
            return direction, np.nan
        if not self.dense:
            direction = self._conjugate_gradients(at.g)
        elif self.model.l1:
            weights = np.where(columns < self.model.n_penalised, self.model.l1, 0.0)
            direction[columns] = _lasso_step(at.matrix, at.g[columns], x[columns], weights)
        else:
            direction = _solve(at.matrix, -at.g)
        change = self._l1(x + direction) - self._l1(x)
        return direction, dot(at.g, direction) + change

    def _conjugate_gradients(self, g: np.ndarray) -> np.ndarray:
        """An approximate solution of H d = -g."""
        d, r = np.zeros(g.size), -g
        p, square = r, dot(r, r)
        enough = self.job.opt.residual**2 * square
        for _ in range(int(self.job.opt.max_products)):
            product = self.curvature.product(p)
            bend = dot(p, product)
            if bend <= 0.0:
                break
            rate = square / bend
            d += rate * p
            r = r - rate * product
            square, before = dot(r, r), square
            if square <= enough:
                break
            p = r + (square / before) * p
        return d if d.any() else -g

    def _update_set(self, x: np.ndarray, at: Second) -> None:
        """Let coefficients into the working set that violate the optimality conditions, the worst first."""
        if not self.model.l1:
            return
        penalised, marked = self.model.n_penalised, self.job.run.state[0]
        size = np.abs(at.g[:penalised])
        support = x[:penalised] != 0
        inside = (marked[:penalised] != 0) & (support | (size > SLACK * self.model.l1))
        inside |= support
        outside = np.flatnonzero(~inside & (size > self.model.l1))
        room = max(GROWTH, int(inside.sum()))
        room = min(room, max(int(self.job.opt.max_dense) - int(inside.sum()), 0))
        if outside.size > room:
            outside = outside[np.argpartition(-size[outside], room - 1)[:room]] if room else outside[:0]
        marked[:penalised] = inside
        marked[outside] = 1


def _samples(model: Any, opt: Any, dense: bool) -> list[int]:
    """Numbers of rows of the stages: a quarter each time, while a sample still says something about the unknowns."""
    sizes, least = [model.n_terms], max(SMALLEST_SAMPLE, 10 * min(model.n, opt.max_dense))
    while opt.sampling and sizes[-1] // 4 >= least:
        sizes.append(sizes[-1] // 4)
    return sizes[::-1]


def _mean_square(model: Any) -> float:
    """Of the entries of the matrix of data, zeros included; of many rows, of the first ones."""
    rows = model.X[:1000]
    with np.errstate(over="ignore"):
        squares = np.square(rows if isinstance(rows, np.ndarray) else rows.data, dtype=float)
    return float(squares.sum()) / (rows.shape[0] * rows.shape[1])


def _solve(matrix: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The solution of a symmetric system, of least norm where it is singular."""
    try:
        factor = scipy.linalg.cholesky(matrix, lower=True, check_finite=False)
        edge = np.diagonal(factor)
        if edge.min() > 1e-7 * edge.max():
            return scipy.linalg.cho_solve((factor, True), b, check_finite=False)
    except scipy.linalg.LinAlgError:
        pass
    return scipy.linalg.lstsq(matrix, b, check_finite=False)[0]


def _lasso_step(matrix: np.ndarray, g: np.ndarray, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The d that minimizes g'd + d'Hd/2 + sum_j weights_j |x_j + d_j|."""
    y = x.copy()
    slope = g.copy()  # g + H (y - x)
    scale = max(float(np.abs(g).max(initial=0.0)), 1e-300)
    diagonal = np.ascontiguousarray(np.diagonal(matrix))
    for _ in range(200):
        left = sweep(matrix, diagonal, slope, y, weights, 20, 1e-12 * scale)
        if left <= 1e-12 * scale:
            break
        free = np.flatnonzero((y != 0) | (weights == 0))  # with the signs known, the rest is a linear system
        sign = np.sign(y[free]) * weights[free]
        exact = x[free] + _solve(np.ascontiguousarray(matrix[np.ix_(free, free)]),
                                 -(g[free] + sign) + matrix[np.ix_(free, np.flatnonzero((y == 0) & (weights != 0)))]
                                 @ x[(y == 0) & (weights != 0)])  # fmt: skip
        if np.all((np.sign(exact) == np.sign(y[free])) | (weights[free] == 0)):
            y[free] = exact
            slope = g + matrix @ (y - x)
    return y - x


@jit
def sweep(matrix, diagonal, slope, y, weights, sweeps, enough):
    """At most ``sweeps`` sweeps of coordinate descent; returns the largest change of a slope in the last one."""
    largest = 0.0
    for _ in range(sweeps):
        largest = 0.0
        for j in range(y.size):
            a = diagonal[j]
            if a <= 0:
                continue
            to, threshold = y[j] - slope[j] / a, weights[j] / a
            to = to - threshold if to > threshold else (to + threshold if to < -threshold else 0.0)
            change = to - y[j]
            if change != 0:
                y[j] = to
                for k in range(y.size):
                    slope[k] += change * matrix[j, k]
                largest = max(largest, abs(change) * a)
        if largest <= enough:
            break
    return largest


@method("newton")
class Newton(NamedTuple):
    r"""Newton's method for linear models whose loss has a second derivative; for l1, with working sets.

    A step solves the quadratic model of the objective and is shortened until it brings enough:

    .. math:: \min_d\; g^\top d + \tfrac12 d^\top H d + \lambda_1 \|x + d\|_1

    H is made from the rows for the coefficients of a working set only (those that are not zero, and those whose
    gradient says they will not stay so); without l1 for all, or, where those are many, is multiplied with in conjugate
    gradients.  The first steps are taken on random samples of the rows, a quarter of the next one each, as long as a
    sample still tells something about the unknowns.

    Parameters
    ----------
    max_dense : int
        Most unknowns for which H is made.
    residual : float
        By which part of the gradient Hd may miss it in conjugate gradients, in (0, 1).  (A diagonal preconditioner was
        tried: on text it took twice as many products.)
    max_products : int
        Most products with H in a step by conjugate gradients.
    sampling : bool
        Whether to begin on samples of the rows.

    References
    ----------
    Lee, J. D., Sun, Y., Saunders, M. A. (2014). Proximal Newton-type methods for minimizing composite functions.
    doi:10.1137/130921428
    Massias, M., Gramfort, A., Salmon, J. (2018). Celer: a fast solver for the lasso with dual extrapolation.
    Dembo, R. S., Steihaug, T. (1983). Truncated-Newton algorithms for large-scale unconstrained optimization.
    doi:10.1007/BF02592055

    Examples
    --------
    >>> import numpy as np, numbaopt as no
    >>> X = np.linspace(-1, 1, 50)[:, None] ** [1, 2, 3]
    >>> model = no.LinearModel(X, X[:, 0] > 0.3, loss="logistic", l2=1e-2)
    >>> res = no.minimize(model, method="newton", tol=1e-10)
    >>> res.success, res.nit < 12
    (True, True)
    """

    max_dense: float = 2000
    residual: float = 0.25
    max_products: float = 200
    sampling: bool = True

    solver = NewtonSteps
    ranges = {"residual": "(0, 1)", "max_dense": "[1, inf)", "max_products": "[1, inf)"}

    @staticmethod
    def check(opt, problem, batches, bounded):
        if not hasattr(problem, "rows") or not hasattr(problem.loss, "curvature") or problem.many:
            raise ValueError("method='newton' needs a LinearModel with one margin a row whose loss has a "
                             f"curvature(c, z, y); got {problem!r}")  # fmt: skip
        if bounded:
            raise ValueError("method='newton' takes no bounds; use 'L-BFGS-B' or a first-order rule")
