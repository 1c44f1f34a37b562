"""Newton's method for linear models: second derivatives from the rows, working sets of coefficients for l1."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from ..loops.shuffle import epoch_order
from ..loops.state import observe
from ..losses._loss import lipschitz
from ..problems.curvature import Curvature, Found, dot
from ..status import CONVERGED, NO_PROGRESS, NOT_FINITE, RUNNING
from ._solver import Job, Solver, method
from .preconditioner import ClassBlocks, Earlier
from .quadratic import lasso_step, solve_system

DECREASE = 1e-4  # of what the slope promises, that a step must achieve
HALVINGS = 30
STALL = 0.9  # of the slope: where the objective shows only rounding, a step must bring at least this
GROWTH = 64  # coefficients that a working set may always grow by; else it may double
SLACK = 0.8  # a zero coefficient leaves the set where its gradient is below this part of l1
SMALLEST_SAMPLE = 2000  # rows
BLOCKS_LAST = 10  # products, after which a preconditioner of several classes is made anew
CLOSE = 0.1  # the residual, at most, of conjugate gradients that a matrix preconditions: products are few
LARGE = 1 << 22  # multiplications, from which a matrix is made for several steps


class NewtonSteps(Solver):
    """Steps of `Newton`.

    The state marks the working set, then is the point that a preconditioner was made at; ``extra`` is the stage (which
    sample of the rows), the number of products with the preconditioner, and the stage of that.
    """

    def __init__(self, job: Job):
        super().__init__(job)
        self.model = job.problem
        self.curvature = Curvature(self.model)
        self.quadratic = getattr(self.model.loss, "quadratic", False)
        self.sizes_of_samples = self._samples()
        order = epoch_order(self.model.n_terms, 0, 0) if len(self.sizes_of_samples) > 1 else None
        whole = np.arange(self.model.n_terms)
        # sorted: memory hands out the rows it has passed sooner
        self.orders = [np.sort(order[:size]) if order is not None else whole for size in self.sizes_of_samples[:-1]]
        self.orders.append(whole)
        # a sample may be separable where the whole is not: its coefficients are held together a little
        self.ridges = [_mean_square(self.model) / order.size for order in self.orders[:-1]] + [0.0]
        self.blocks: Any = (ClassBlocks(self.model, epoch_order(self.model.n_terms, 0, 0)) if self.model.many else
                            Earlier(self._matrix_at) if self.lasting else None)  # fmt: skip
        self.known: tuple[bytes, int, Found] | None = None  # the last pass: where, of what
        self.products, self.made = 0, (job.run.x, 0)  # with the preconditioner; where and of which stage it is

    @staticmethod
    def sizes(opt: Any, problem: Any, batches: Any = None, bounded: bool = False) -> tuple[int, int]:
        """What the class says."""
        return 2, 3

    @staticmethod
    def fits(opt: Any, run: Any) -> bool:
        """Whether the extra numbers are stages, and a count."""
        return bool(np.all(np.isfinite(run.extra)) and run.extra.min() >= 0)

    @property
    def dense(self) -> bool:
        """Whether steps are solved with a matrix; else by conjugate gradients."""
        return self.model.l1 > 0 or (self.model.n <= self.job.opt.max_dense and not self.model.many)

    @property
    def lasting(self) -> bool:
        """Whether a matrix is made for several steps: conjugate gradients make up for what has changed since.

        Where second derivatives jump they change too much, and a matrix of the rows where they are not zero is cheap.
        """
        large = self.model.rows[0].size * self.model.n >= LARGE
        return self.dense and not self.model.l1 and large and not getattr(self.model.loss, "jumps", False)

    def _samples(self) -> list[int]:
        """Numbers of rows of the stages: a quarter each time, while a sample says something about the unknowns."""
        model, opt, sizes = self.model, self.job.opt, [self.model.n_terms]
        least = max(SMALLEST_SAMPLE, 10 * min(model.n, opt.max_dense))
        exact = self.dense and not self.lasting and self.quadratic  # the first matrix will do
        while opt.sampling and not exact and sizes[-1] // 4 >= least:
            sizes.append(sizes[-1] // 4)
        return sizes[::-1]

    @property
    def stage(self) -> int:
        """Which sample of the rows the steps are of; the last one is the whole."""
        return self._whole(self.job.run.extra[0])

    def _whole(self, stage: float) -> int:
        return min(int(stage), len(self.orders) - 1)

    def take(self, steps: int, rates: np.ndarray, values: np.ndarray) -> None:
        """Take at most ``steps`` steps."""
        run, limits = self.job.run, self.job.limits
        now, whole = run.now[0], len(self.orders) - 1
        if limits.maxiter - now.step <= 1:
            run.extra[0] = whole  # the last step, and the point that is returned, are of all rows
        if now.awaiting and self.stage == whole:
            self._judge(self._at(run.x))
        for _ in range(steps):
            if now.status != RUNNING:
                return
            self._step()

    def _step(self) -> None:
        """One step; what it leads to is written into the run at the end, so Ctrl-C may end it anywhere before."""
        run, model, stage = self.job.run, self.model, self.stage
        now, whole = run.now[0], stage == len(self.orders) - 1
        solve = self._preconditioner()
        here, x = self._at(run.x), run.x.astype(float)
        marked = self._working_set(x, here)
        columns = self._columns(marked)
        direction, promised = self._direction(x, here, columns, solve)
        if not np.isfinite(promised):
            now.status, now.step = NOT_FINITE, now.step + 1
            return
        fun, length, found = here.fun + self._l1(x), 1.0, False
        noise = 8 * np.finfo(model.dtype).eps * max(1.0, abs(fun))
        for _ in range(HALVINGS):
            trial = (x + length * direction).astype(model.dtype)
            there = self._at(trial)
            value = there.fun + self._l1(trial.astype(float))
            if value < fun - noise and value <= fun + DECREASE * length * promised:
                found = True
            elif abs(value - fun) <= noise:  # the objective shows nothing any more: the slope must
                found = self._slope(trial, there) <= STALL * self._slope(x, here)
                if not found and length * -promised <= noise:
                    break
            if found:
                break
            length = self._shorter(x, here, length * direction, there, length)
        now.step, now.lr = now.step + 1, length
        run.state[1], run.extra[1:] = self.made[0], (self.products, self.made[1])
        run.state[0] = marked
        if found:
            run.x[:] = trial
        elif whole:
            now.status, now.reason = (CONVERGED, 1) if now.grad_norm <= self.job.limits.gtol else (NO_PROGRESS, 0)
            return
        if whole:
            now.awaiting = 1  # until a pass has judged it, which Ctrl-C may end
            self._judge(self._at(run.x))
        elif not found or -promised < 2.0 * max(columns.size, 1) / self.orders[stage].size:
            run.extra[0] = stage + 1  # less is left than a sample can tell
            now.awaiting = int(self.stage == len(self.orders) - 1)
            if found and self.lasting:  # the next stage begins with what this one knows
                run.state[1], run.extra[1:] = run.x, (0, stage)
                with self.interrupts.heeded():
                    self.blocks.make(run.x, stage)
            if now.awaiting:
                self._judge(self._at(run.x))

    def _shorter(self, x: np.ndarray, here: Found, move: np.ndarray, there: Found, length: float) -> float:
        """A better length, at most half as long: the best one between two passes, by their margins alone."""
        if not (np.all(np.isfinite(there.margins)) and np.isfinite(there.fun)):
            return 0.1 * length
        from scipy.optimize import minimize_scalar

        penalty = self.curvature.penalty

        def objective(part: float) -> float:
            z = x + part * move
            return self.curvature.along(here, there, part) + 0.5 * dot(penalty * z, z) + self._l1(z)

        found = minimize_scalar(objective, bounds=(0.0, 0.5), method="bounded", options={"xatol": 1e-3})
        return length * max(float(found.x), 1e-3)

    def _slope(self, x: np.ndarray, at: Found, columns: Any = slice(None)) -> float:
        """Largest component, of some, of a proximal gradient step."""
        to, l1, penalised = x - at.g, self.model.l1, self.model.n_penalised
        to[:penalised] = np.sign(to[:penalised]) * np.maximum(np.abs(to[:penalised]) - l1, 0.0)
        return float(np.max(np.abs(to - x)[columns], initial=0.0))

    def _judge(self, at: Found) -> None:
        run, limits = self.job.run, self.job.limits
        run.g[:] = at.g
        fun = at.fun + self._l1(run.x.astype(float))
        observe(self.packed_run.address, self.zero, fun, limits.gtol, limits.ftol, limits.xtol)

    def _l1(self, x: np.ndarray) -> float:
        return self.model.l1 * float(np.abs(x[: self.model.n_penalised]).sum()) if self.model.l1 else 0.0

    def _columns(self, marked: np.ndarray) -> np.ndarray:
        """The unknowns that the matrix is made for, sorted."""
        if not self.dense:
            return np.zeros(0, np.int64)
        if not self.model.l1:
            return np.arange(self.model.n)
        inside = marked != 0
        inside[self.model.n_penalised :] = True
        return np.flatnonzero(inside)

    def _at(self, x: np.ndarray, stage: int | None = None) -> Found:
        """The pass at ``x``, unless it is the last one made; within it Ctrl-C is heeded."""
        stage, key = self.stage if stage is None else stage, x.tobytes()
        if self.known is None or self.known[:2] != (key, stage):
            with self.interrupts.heeded():
                found = self.curvature.slopes(x, self.orders[stage], max(self.model.l2, self.ridges[stage]))
            self.known = key, stage, found
        return self.known[2]

    def _matrix_at(self, x: np.ndarray, stage: int) -> np.ndarray:
        """The matrix of all unknowns."""
        self._at(x, stage)
        return self.curvature.matrix(np.arange(self.model.n))

    def _direction(self, x: np.ndarray, at: Found, columns: np.ndarray, solve: Any) -> tuple[np.ndarray, float]:
        """Where to go, and by how much the objective changes to first order."""
        if not (np.isfinite(at.fun) and np.all(np.isfinite(at.g))):
            return np.zeros(x.size), np.nan
        if self.lasting or not self.dense:
            direction = self._conjugate_gradients(at.g, solve)
            return direction, dot(at.g, direction)
        with self.interrupts.heeded():
            made = self.curvature.matrix(columns)
        if not np.all(np.isfinite(made)):
            return np.zeros(x.size), np.nan
        ridge = 0.0
        for power in range(12):  # where the matrix is singular or not positive, more and more of a gradient step
            matrix = made + ridge * np.eye(columns.size)
            direction = np.zeros(x.size)
            if self.model.l1:
                weights = np.where(columns < self.model.n_penalised, self.model.l1, 0.0)
                direction[columns] = lasso_step(matrix, at.g[columns], x[columns], weights)
                solved = direction.any() or self._slope(x, at, columns) <= 1e-15 * float(np.max(np.abs(at.g)))
            else:
                direction = solve_system(matrix, -at.g)
                solved = float(np.max(np.abs(matrix @ direction + at.g))) <= 0.1 * float(np.max(np.abs(at.g)))
            promised = dot(at.g, direction) + self._l1(x + direction) - self._l1(x)
            if solved and promised <= 0.0 and np.all(np.isfinite(direction)):
                break
            ridge = 1e-3 * self._typical_curvature(made) * 10.0**power
        return direction, promised if np.isfinite(promised) else np.nan

    def _typical_curvature(self, matrix: np.ndarray) -> float:
        size = _mean_square(self.model) * min(lipschitz(self.model.loss), 1.0)
        return max(size, float(np.trace(matrix)) / max(len(matrix), 1), 1e-12)

    def _conjugate_gradients(self, g: np.ndarray, solve: Any) -> np.ndarray:
        """An approximate solution of H d = -g; ``solve`` is the preconditioner."""
        d, r = np.zeros(g.size), -g
        z = solve(r)
        p, square = z, dot(r, z)
        residual = min(self.job.opt.residual, CLOSE) if self.lasting else self.job.opt.residual
        enough = residual**2 * square
        for _ in range(min(int(self.job.opt.max_products), self.lasts if self.lasting else 1 << 40)):
            with self.interrupts.heeded():
                product = self.curvature.product(p)
            self.products += 1
            bend = dot(p, product)
            if bend <= 0.0:
                break
            rate = square / bend
            d += rate * p
            r = r - rate * product
            z = solve(r)
            square, before = dot(r, z), square
            if square <= enough:
                break
            p = z + (square / before) * p
        return d if d.any() else -g

    @property
    def lasts(self) -> int:
        """Products, after which a preconditioner is made anew: about as many as take the time of making it."""
        return BLOCKS_LAST if self.model.many else 4 + self.model.n // 16

    def _preconditioner(self) -> Any:
        """What stands for the inverse of H: nothing, or what was made at an earlier point, perhaps of fewer rows."""
        run, blocks = self.job.run, self.blocks
        if blocks is None:
            return lambda r: r
        self.products = int(run.extra[1])
        fresh = run.now[0].step == 0 or self.products >= self.lasts
        self.products = 0 if fresh else self.products
        self.made = (run.x.copy(), self.stage) if fresh else (run.state[1].copy(), self._whole(run.extra[2]))
        with self.interrupts.heeded():
            blocks.make(*self.made)
        return blocks.solve

    def _working_set(self, x: np.ndarray, at: Found) -> np.ndarray:
        """Marks of the next working set: coefficients that violate the optimality conditions come in, worst first."""
        marked = self.job.run.state[0].copy()
        if not self.model.l1:
            return marked
        penalised, most = self.model.n_penalised, int(self.job.opt.max_dense)
        size, support = np.abs(at.g[:penalised]), x[:penalised] != 0
        inside = ((marked[:penalised] != 0) & (size > SLACK * self.model.l1)) | support
        outside = np.flatnonzero(~inside & (size > self.model.l1))
        held = int(inside.sum())
        growth = 2 * GROWTH if self.quadratic else GROWTH  # squares meet a column's second derivatives once
        room = min(max(growth, held), max(most - held, 0))
        if outside.size > room:
            outside = outside[np.argpartition(-size[outside], room - 1)[:room]] if room else outside[:0]
        marked[:penalised] = inside
        marked[outside] = 1
        return marked


def _mean_square(model: Any) -> float:
    """Of the entries of the matrix of data, zeros included; of many rows, of the first ones."""
    rows = model.X[:1000]
    with np.errstate(over="ignore"):
        squares = np.square(rows if isinstance(rows, np.ndarray) else rows.data, dtype=float)
    return float(squares.sum()) / (rows.shape[0] * rows.shape[1])


@method("newton")
class Newton(NamedTuple):
    r"""Newton's method for linear models whose loss has a second derivative; for l1, with working sets.

    A step solves the quadratic model of the objective and is shortened until it brings enough:

    .. math:: \min_d\; g^\top d + \tfrac12 d^\top H d + \lambda_1 \|x + d\|_1

    H is made from the rows for the coefficients of a working set only (those that are not zero, and those whose
    gradient says they will not stay so); without l1 for all, or, where those are many, is multiplied with in conjugate
    gradients.  Without l1 an H of a large table serves several steps, as what conjugate gradients are preconditioned
    with; it is made anew when they have multiplied about as often as takes the same time.  The first steps are taken on
    random samples of the rows, a quarter of the next one each, as long as a sample still tells something about the
    unknowns; of squares the first matrix tells all, and a working set that grows costs only what is new.

    Parameters
    ----------
    max_dense : int
        Most unknowns for which H is made.
    residual : float
        By which part of the gradient Hd may miss it in conjugate gradients, in (0, 1); where a matrix serves several
        steps, at most 0.1.  Those of several classes are preconditioned by a matrix a class.  (For one a diagonal was
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
        if not hasattr(problem, "rows") or not hasattr(problem.loss, "curvature") or (
                problem.many and problem.l1 > 0):
            raise ValueError("method='newton' needs a LinearModel whose loss has a curvature(c, z, y), without l1 if "
                             f"it has several classes; got {problem!r}")  # fmt: skip
        if numba.config.DISABLE_JIT:
            raise ValueError("method='newton' needs compiled code: NUMBA_DISABLE_JIT is set")
        if bounded:
            raise ValueError("method='newton' takes no bounds; use 'L-BFGS-B' or a first-order rule")
