"""SAG, SAGA and SVRG: stochastic gradient methods that converge linearly, for linear models with smooth losses."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from .._jit import address_of
from .._packed import Packed
from ..loops import epochs, minibatch
from ..loops.variance_reduced import Terms, functions, terms_type
from ..losses._loss import lipschitz
from ..problems.kernels import shared_at, sums_by_tile
from ._solver import Job, Solver, method
from .auto import largest_square


@functools.cache
def compiled(dtype: np.dtype, storage: Any, many: bool, by_tile: bool) -> epochs.Functions:
    """The steps for one storage."""
    return functions(dtype, storage, many, shared_at(dtype), by_tile)


class Incremental(Solver):
    """Epochs of steps of one term; row 0 of the state is the mean of the last known gradients.

    ``extra``: the number of steps since nothing was owed, and, of sparse rows, for each column how many of them it has
    taken; then the slopes of all terms.
    """

    def __init__(self, job: Job):
        super().__init__(job)
        model, opt, dtype = job.problem, job.opt, job.problem.dtype
        rows = model.rows
        if rows.sparse:
            steps, taken = job.run.extra[0], job.run.extra[1 : 1 + model.n_features]
            if not (taken.min() >= 0 and taken.max() <= steps <= model.n_terms):  # compiled code: indices
                raise ValueError("the run is not one of this method: it has taken more steps than there are terms")
        storage: Any = type(rows)
        made = compiled(dtype, storage, model.many, sums_by_tile(type(model.rows), dtype))
        self.addresses, self.loop = (made.begin, made.sweep, made.settle), epochs.compiled(dtype)
        n, rate, shrink, shrink_shift = model.n_terms, opt.lr, opt.lr * model.l2, opt.lr * model.intercept_l2
        ahead = rate * (opt.weight(n) - opt.update(n))
        sums = np.arange(n + 1 if rows.sparse else 2, dtype=float)
        if shrink > 0:
            sums = -np.expm1(sums * math.log1p(-shrink)) / shrink
        drift = rate, shrink, rate * model.l1, shrink_shift
        jump = ahead / (1.0 - shrink), ahead / (1.0 - shrink_shift), opt.update(n)
        own = Terms(self.where, rows, np.array(drift, dtype), np.array(jump, dtype), sums.astype(dtype), opt.anew)
        self.own = Packed(own, terms_type(dtype, storage))
        self.order = np.zeros(minibatch.LOOK_AHEAD, np.int64)

    @staticmethod
    def sizes(opt: Any, problem: Any, batches: Any = None, bounded: bool = False) -> tuple[int, int]:
        """The mean gradient; what is owed, and a slope for every margin."""
        return 1, 1 + problem.rows.sparse * problem.n_features + problem.n_terms * problem.n_outputs

    def take(self, steps: int, rates: np.ndarray, values: np.ndarray) -> None:
        """Take at most ``steps`` steps."""
        limits, b = self.job.limits, self.job.batches
        shuffle = int(b.shuffle) * (epochs.DRAWN if self.job.opt.drawn else epochs.SHUFFLED)
        self.loop(self.packed_run.address, self.zero, address_of(rates), steps, address_of(self.order), self.order.size,
                  *self.addresses, self.own.address, self.evaluate, self.where, b.n, b.size, shuffle, b.seed, b.whole,
                  limits.gtol, limits.ftol)  # fmt: skip

    def point(self) -> np.ndarray:
        """The unknowns with all that is owed to them."""
        return epochs.settled(self.job.run, self.addresses[-1], self.packed_run.address, self.own.address)


def _check(opt: Any, problem: Any, batches: Any, bounded: bool) -> None:
    told = f"method={type(opt).names[0]!r}"
    if not hasattr(problem, "rows"):
        raise ValueError(f"{told} needs a LinearModel, got {problem!r}")
    loss, name = problem.loss, problem.loss.names[0]
    if not (hasattr(loss, "lipschitz") or hasattr(loss, "curvature")):
        raise ValueError(f"{told} needs a smooth loss, one with lipschitz(loss) or curvature(c, z, y), not {name!r}; "
                         "use a first-order rule such as 'adagrad'")  # fmt: skip
    if opt.lr is None and math.isinf(lipschitz(loss)):
        raise ValueError(f"{told}: the curvature of loss {name!r} has no bound to take a step size from; give an lr")
    if callable(opt.lr):
        raise ValueError(f"{told}: lr={opt.lr!r} must be a number; the remembered slopes belong to one rate")
    most = max(problem.l2, problem.intercept_l2)
    if opt.lr is not None and opt.lr * most >= 1:
        raise ValueError(f"{told}: lr={opt.lr} must be below 1 / l2 = {1 / most:g}")


def _ready(opt: Any, problem: Any) -> Any:
    """The step size, from a bound on the curvature of all terms."""
    if opt.lr is not None:
        return opt
    with np.errstate(over="ignore"):
        squares = largest_square(problem)
    weight = float(problem.sample_weight.max()) if problem.sample_weight.size else 1.0
    bound = lipschitz(problem.loss) * weight * (squares + problem.fit_intercept) + max(problem.l2, problem.intercept_l2)
    if math.isinf(bound):
        raise ValueError("X: the squared norm of a row overflows, so there is no step size; scale X, or give an lr")
    return opt._replace(lr=opt.rate(bound, problem.n_terms * problem.l2) if bound > 0 else 1.0)


@method("saga")
class SAGA(NamedTuple):
    r"""SAGA: a step along a term's gradient less its last known one, plus the mean of all that are known.

    .. math:: x_t = \mathrm{prox}_{\eta \lambda_1 \|\cdot\|_1}\Big(x_{t-1} - \eta \big(\nabla f_i(x_{t-1}) - \tilde g_i
        + \tfrac1n \textstyle\sum_j \tilde g_j + \lambda_2 x_{t-1}\big)\Big), \qquad
        \tilde g_i \leftarrow \nabla f_i(x_{t-1})

    For linear models with smooth losses, l1, l2 and bounds; an epoch is a step for every term, in a new random order.
    On sparse data a step costs as much as its row has entries.

    Parameters
    ----------
    lr : float, optional
        :math:`\eta`, in [0, inf); by default :math:`1 / (2 L + \min(2 n \lambda_2, L))`, where L bounds the curvature
        of all terms (largest squared norm of a row times that of the loss and the weight, plus l2).

    References
    ----------
    Defazio, A., Bach, F., Lacoste-Julien, S. (2014). SAGA: a fast incremental gradient method with support for
    non-strongly convex composite objectives. doi:10.48550/arXiv.1407.0202

    Examples
    --------
    >>> import numpy as np, numbaopt as no
    >>> X = np.linspace(-1, 1, 50)[:, None] ** [1, 2, 3]
    >>> model = no.LinearModel(X, X[:, 0] > 0.3, loss="logistic", l1=0.01, l2=1e-2)
    >>> res = no.minimize(model, method="saga", tol=1e-8)
    >>> res.success, res.x.round(2)
    (True, array([ 3.41,  0.68,  0.69, -1.25]))
    """

    lr: float = None  # type: ignore[assignment]

    solver, incremental, bounded = Incremental, True, True
    anew = False  # whether all slopes are recomputed every epoch
    drawn = False  # whether terms are drawn with replacement; else every epoch is a permutation
    check, ready = staticmethod(_check), staticmethod(_ready)

    @staticmethod
    def rate(bound: float, strength: float) -> float:
        return 1.0 / (2.0 * bound + min(2.0 * strength, bound))

    @staticmethod
    def weight(n: int) -> float:
        """Of a slope's change in the step."""
        return 1.0

    @staticmethod
    def update(n: int) -> float:
        """Weight of a slope's change in the mean gradient."""
        return 1.0 / n


@method("sag")
class SAG(NamedTuple):
    r"""Stochastic average gradient: a step along the mean of the last known gradients of all terms.

    .. math:: \tilde g_i \leftarrow \nabla f_i(x_{t-1}), \qquad
        x_t = \mathrm{prox}_{\eta \lambda_1 \|\cdot\|_1}\Big(x_{t-1} - \eta \big(\tfrac1n
        \textstyle\sum_j \tilde g_j + \lambda_2 x_{t-1}\big)\Big)

    As `SAGA`, but biased, with smaller variance and larger steps; terms are drawn with replacement, without which it
    may not converge.  Nothing is proven about it with l1.

    Parameters
    ----------
    lr : float, optional
        :math:`\eta`, in [0, inf); by default 1 / L, see `SAGA`.

    References
    ----------
    Schmidt, M., Le Roux, N., Bach, F. (2017). Minimizing finite sums with the stochastic average gradient.
    doi:10.1007/s10107-016-1030-6

    Examples
    --------
    >>> import numpy as np, numbaopt as no
    >>> X = np.linspace(-1, 1, 50)[:, None]
    >>> no.minimize(no.LinearModel(X, 3 * X[:, 0] + 1), method="sag", tol=1e-8).x.round(6)
    array([3., 1.])
    """

    lr: float = None  # type: ignore[assignment]

    solver, incremental, bounded = Incremental, True, True
    anew, drawn = False, True
    check, ready = staticmethod(_check), staticmethod(_ready)

    @staticmethod
    def rate(bound: float, strength: float) -> float:
        return 1.0 / bound

    @staticmethod
    def weight(n: int) -> float:
        return 1.0 / n

    @staticmethod
    def update(n: int) -> float:
        return 1.0 / n


@method("svrg")
class SVRG(NamedTuple):
    r"""Stochastic variance reduced gradient: steps along the difference to the gradient where the epoch began.

    .. math:: x_t = \mathrm{prox}_{\eta \lambda_1 \|\cdot\|_1}\big(x_{t-1} - \eta (\nabla f_i(x_{t-1})
        - \nabla f_i(\tilde x) + \nabla f(\tilde x) + \lambda_2 x_{t-1})\big)

    with :math:`\tilde x` the iterate after the last whole epoch.  For what `SAGA` is for; it needs one more pass over
    the data an epoch.

    Parameters
    ----------
    lr : float, optional
        :math:`\eta`, in [0, inf); by default 1 / (2 L), see `SAGA`.

    References
    ----------
    Johnson, R., Zhang, T. (2013). Accelerating stochastic gradient descent using predictive variance reduction.
    Xiao, L., Zhang, T. (2014). A proximal stochastic gradient method with progressive variance reduction.
    doi:10.1137/140961791

    Examples
    --------
    >>> import numpy as np, numbaopt as no
    >>> X = np.linspace(-1, 1, 50)[:, None]
    >>> no.minimize(no.LinearModel(X, 3 * X[:, 0] + 1), method="svrg", tol=1e-8).x.round(6)
    array([3., 1.])
    """

    lr: float = None  # type: ignore[assignment]

    solver, incremental, bounded = Incremental, True, True
    anew, drawn = True, False
    check, ready = staticmethod(_check), staticmethod(_ready)

    @staticmethod
    def rate(bound: float, strength: float) -> float:
        return 0.5 / bound

    @staticmethod
    def weight(n: int) -> float:
        return 1.0

    @staticmethod
    def update(n: int) -> float:
        return 0.0
