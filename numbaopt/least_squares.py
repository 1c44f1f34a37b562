"""Curve fits and systems of equations: SciPy's ``least_squares``, with the whole method compiled."""

from __future__ import annotations

import functools
import inspect
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np

from ._fields import names_meant, nearest
from .arguments import HISTORY_ROWS, count, limits_of, nonnegative, unknowns, warn
from .loops.least_squares import outcome
from .loops.state import NOW, RECORD, new_run
from .problems.residuals import Residuals
from .result import hook_of, optimize_result, solved
from .run import Driver, Hooks, Limits
from .solvers import SOLVERS, solver_of
from .status import CONVERGED, INTERRUPTED, NO_PROGRESS, NOT_FINITE, STEP_LIMIT, STOPPED

EPS = float(np.finfo(float).eps)
UNBOUNDED = (-np.inf, np.inf)
SCIPY_ONLY = ("trf", "dogbox")
HISTORY = np.dtype([("step", "i8"), ("cost", "f8"), ("optimality", "f8"), ("damping", "f8"), ("seconds", "f8")])
OPTIONS = {"jit": None, "history": True, "progress": False}
UNTOLD = 1e-10  # the smallest singular value of a Jacobian with columns of length 1, by the largest: they depend
STATUS = {STEP_LIMIT: 0, STOPPED: -2, NO_PROGRESS: -3, NOT_FINITE: -4}  # in SciPy's numbers, which end at -2
CONVERGED_BY = {1: 1, 11: 2, 12: 3, 13: 4}  # the same of reasons


@names_meant
def least_squares(fun, x0, jac=None, bounds=UNBOUNDED, method=None, ftol=1e-8, xtol=1e-8, gtol=1e-8,
                  x_scale=None, loss="linear", f_scale=1.0, diff_step=None, tr_solver=None, tr_options=None,
                  jac_sparsity=None, max_nfev=None, verbose=0, args=(), kwargs=None, callback=None, workers=None,
                  options=None):  # fmt: skip
    r"""Minimize a sum of squares, or of a robust loss, of residuals: fit curves, solve systems of equations.

    .. math:: \min_{l \le x \le u} F(x) = \tfrac12 \sum_{i=1}^m c^2 \rho\big((f_i(x) / c)^2\big)

    Parameters
    ----------
    fun : callable
        ``fun(x, *args)`` returns the m residuals as a vector (or tuple, or one number); x is a float64 vector that is
        only lent.  Functions jitted by Numba run compiled throughout; plain ones are compiled if they can be, else
        called back from the compiled loop, and a warning says why.
    x0 : array of shape (n,)
        Where to start, within the bounds; never written to.
    jac : callable, {"ad", "forward", "reverse", "2-point", "3-point", "cs"} or None
        ``jac(x, *args)`` returns the (m, n) matrix of derivatives; "ad": the exact one of a jitted ``fun`` in forward
        mode (see `numbaopt.jacobian`); "reverse" is for far fewer residuals than unknowns; differences and "cs", the
        complex step, have SciPy's steps; None: "ad", but where it cannot be had a warning and "3-point".
    bounds : (lower, upper) or scipy.optimize.Bounds
        Vectors or numbers; an unknown whose bounds are equal stays.
    method : {None, "lm", "trf", "dogbox"} or LM
        None and "lm": `numbaopt.LM`, which takes bounds, all losses and any m.  SciPy's own "trf" and "dogbox" are
        handed on to it with the compiled residuals and Jacobian.
    ftol, xtol, gtol : float or None
        SciPy's tolerances, in the meaning they have in its default method: the last trial changed F by less than
        ``ftol * F``; it was shorter than ``xtol * (xtol + norm(x))``; no component of the gradient, projected onto the
        bounds, exceeds gtol.  The first two are believed only where a step from the returned point that no radius
        shortens promises as little: with scaled columns, ``g @ inv(J.T @ J + 0.01) @ g / 2``, and its length.  So a
        short radius, a wrong Jacobian or a wall of NaN does not pass for convergence.  None is 0.
    x_scale : {None, "jac"} or array
        Typical sizes of the unknowns; "jac", and None, scale by the largest norm of each column of J so far.
    loss : {"linear", "soft_l1", "huber", "cauchy", "arctan"}
        :math:`\rho(z)`: z; :math:`2 \sqrt{1 + z} - 2`; z up to 1, then :math:`2 \sqrt z - 1`; :math:`\ln(1 + z)`;
        arctan z.
    f_scale : float
        c, where a residual begins to count as an outlier.
    diff_step, tr_solver, tr_options, jac_sparsity, workers
        Of SciPy's own methods.
    max_nfev : int
        Most evaluations of ``fun``, those for differences not counted; 100 n.
    verbose : {0, 1, 2}
        1: a summary at the end; 2: also a line a step.
    args, kwargs : tuple, dict
        Further arguments of ``fun`` and ``jac``; keywords are put into their places.
    callback : callable
        ``callback(intermediate_result=OptimizeResult)`` or ``callback(x)`` with a copy of x after every step; raising
        StopIteration ends the run with status -2.
    options : dict
        ``jit`` (True: what cannot be compiled is an error; False: do not try), ``progress`` (a bar), ``history`` (most
        rows of it).

    Returns
    -------
    scipy.optimize.OptimizeResult
        SciPy's ``x``, ``cost`` (F), ``fun`` (residuals), ``jac`` (with a robust loss weighted such that ``jac.T @ jac``
        stands for the second derivatives of F), ``grad``, ``optimality``, ``active_mask`` (-1 and 1: at the lower,
        upper bound), ``nfev``, ``njev``, ``status`` (1 gtol, 2 ftol, 3 xtol, 4 both, 0 max_nfev, -2 stopped, -3 no step
        lowers the cost, -4 the cost or its gradient at x0 is not finite), ``message``, ``success`` (status > 0), and

        ``covariance``
            of the estimated x, for residuals of equal unknown variance: :math:`s^2 (J^T J)^{-1}`
            with :math:`s^2 = 2 F / (m - n)`, as ``scipy.optimize.curve_fit`` returns; infinite where m <= n, and where
            the residuals do not tell all unknowns apart.
        ``history``, ``nit``
            a record array with the fields step, cost, optimality, damping, seconds; the steps taken.

    Raises
    ------
    ValueError, TypeError
        If an argument is not usable, or residuals at x0 are not finite.  Exceptions of ``fun`` come out as they are.
    KeyboardInterrupt
        On Ctrl-C, within a slice of some 20 ms; its attribute ``result`` is the result so far.

    Notes
    -----
    Inside functions jitted by Numba, also in ``prange`` and in threads, the same call gives the same numbers, as a
    NamedTuple with ``x``, ``cost``, ``fun``, ``jac``, ``grad``, ``optimality``, ``nfev``, ``njev``, ``nit``, ``status``
    and ``success``.  There ``fun``, and ``jac`` if it is a function, are jitted, ``method`` is None, "lm" or an `LM`,
    ``loss`` a literal name.  Unknowns are float64, whatever ``x0`` is.

    A trial whose residuals are not finite shortens the radius.  Steps come from the normal equations of scaled columns,
    so what has a condition number above some 1e8 is only seen as far as that; the gradient always is exact.

    References
    ----------
    Moré, J. J. (1978). The Levenberg-Marquardt algorithm: implementation and theory. doi:10.1007/BFb0067700

    Examples
    --------
    >>> import numba, numpy as np, numbaopt as no
    >>> @numba.njit
    ... def residuals(x, t, y):
    ...     return x[0] * np.exp(-x[1] * t) + x[2] - y
    >>> t = np.linspace(0, 4, 50)
    >>> y = 2.5 * np.exp(-1.3 * t) + 0.5 + 0.01 * np.cos(40 * t)
    >>> res = no.least_squares(residuals, [1.0, 1.0, 0.0], args=(t, y))
    >>> res.success, res.x.round(2), bool((np.sqrt(np.diag(res.covariance)) < 0.01).all())
    (True, array([2.5, 1.3, 0.5]), True)
    """
    options, x0 = _options_of(options), unknowns(x0)
    opt = _method_of(method, x_scale, x0)
    lower, upper = _limits_of(bounds, x0)
    ftol, xtol, gtol = (0.0 if tol is None else nonnegative(name, tol) for name, tol in
                        (("ftol", ftol), ("xtol", xtol), ("gtol", gtol)))  # fmt: skip
    if max(ftol, xtol, gtol) < EPS:
        raise ValueError(f"ftol, xtol and gtol are all below {EPS:.1e}: the run would never end")
    if isinstance(f_scale, bool) or not nonnegative("f_scale", f_scale) > 0:
        raise ValueError(f"f_scale={f_scale!r} must be in (0, inf)")
    if verbose not in (0, 1, 2):
        raise ValueError(f"verbose={verbose!r} must be 0, 1 or 2")
    most = 100 * x0.size if max_nfev is None else count("max_nfev", max_nfev, 1)
    fun, jac, args = _bound(fun, jac, x0, args if isinstance(args, tuple) else (args,), kwargs)
    problem = Residuals(fun, jac, args, x0, lower, upper, options["jit"], loss, float(f_scale))
    if not np.all(np.isfinite(problem.start)):
        where = int(np.argmin(np.isfinite(problem.start)))
        raise ValueError(f"Residuals are not finite at x0: component {where} is {problem.start[where]}")
    theirs = {"diff_step": diff_step, "tr_solver": tr_solver, "tr_options": tr_options, "jac_sparsity": jac_sparsity,
              "workers": workers}  # fmt: skip
    if isinstance(opt, str):
        given = {key: value for key, value in theirs.items() if value is not None}
        return _hand_on(problem, x0, bounds, method=opt, ftol=ftol, xtol=xtol, gtol=gtol, x_scale=x_scale, loss=loss,
                        f_scale=f_scale, max_nfev=max_nfev, verbose=verbose, callback=callback, **given)  # fmt: skip
    for key, value in theirs.items():
        if value is not None:
            raise ValueError(f"{key}={value!r} belongs to SciPy's own methods: give method='trf' or 'dogbox'")
    rows = HISTORY_ROWS if options["history"] in (True, False) else count("history", options["history"], 2)
    slots, extra = solver_of(opt).sizes(opt, problem)
    run = new_run(x0, slots, lower, upper, rows, False, extra)
    hooks = Hooks(_hook_of(callback, verbose), bool(options["progress"]))
    result = solved(Driver(problem, opt, run, Limits(most, gtol, ftol, xtol), None, hooks, {}), _result_of)
    if verbose:
        sys.stdout.write(f"{result.message}\n{result.nfev} evaluations, {result.njev} Jacobians; cost "
                         f"{result.history.cost[0]:.4e} at x0, {result.cost:.4e} now, optimality "
                         f"{result.optimality:.2e}\n")  # fmt: skip
    return result


def _method_of(method: Any, x_scale: Any, x0: np.ndarray) -> Any:
    """An `LM`, or the name of a method of SciPy's."""
    name = method.lower() if isinstance(method, str) else method
    if name in SCIPY_ONLY:
        return name
    kind = SOLVERS["lm"]
    if not (name is None or isinstance(name, kind) or name in kind.names):
        raise ValueError(f"unknown method {method!r}; {nearest(str(method), [*kind.names, *SCIPY_ONLY])}")
    opt = name if isinstance(name, kind) else kind()
    if isinstance(x_scale, str) and x_scale == "jac":
        return opt._replace(x_scale=())
    if x_scale is None and not opt.x_scale:
        return opt
    try:
        sizes = np.broadcast_to(np.asarray(opt.x_scale if x_scale is None else x_scale, float), x0.shape)
    except (TypeError, ValueError):
        sizes = np.zeros(1)
    if not (np.all(sizes > 0) and np.all(np.isfinite(sizes))):
        given = opt.x_scale if x_scale is None else x_scale
        raise ValueError(f"x_scale={given!r} must be 'jac', a positive number or {x0.size} of them")
    return opt._replace(x_scale=tuple(sizes))


def _options_of(options: dict[str, Any] | None) -> dict[str, Any]:
    for key in set(options or {}) - set(OPTIONS):
        warn(f"unknown option {key!r} for least_squares; {nearest(key, OPTIONS)}")
    return {key: (options or {}).get(key, default) for key, default in OPTIONS.items()}


def _limits_of(bounds: Any, x0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds as vectors, or two empty ones; ``x0`` must be within."""
    if bounds is UNBOUNDED:
        return np.zeros(0), np.zeros(0)
    if not hasattr(bounds, "lb"):
        try:
            low, high = bounds
        except (TypeError, ValueError):
            raise ValueError("bounds must be (lower, upper), numbers or vectors, or a scipy.optimize.Bounds") from None
        bounds = SimpleNamespace(lb=low, ub=high)
    lower, upper = limits_of(bounds, x0)
    outside = (x0 < lower) | (x0 > upper) if lower.size else np.zeros(1, bool)
    if outside.any():
        i = int(np.argmax(outside))
        raise ValueError(f"x0 is infeasible: component {i} is {x0[i]}, not in [{lower[i]}, {upper[i]}]")
    return lower, upper


def _bound(fun: Any, jac: Any, x0: np.ndarray, args: tuple, kwargs: dict[str, Any] | None) -> tuple[Any, Any, tuple]:
    """The functions and their positional arguments, with keywords put into their places."""
    if not kwargs:
        return fun, jac, args
    try:
        bound = inspect.signature(getattr(fun, "py_func", fun)).bind(x0, *args, **kwargs)
        bound.apply_defaults()
    except TypeError as error:
        raise TypeError(f"kwargs={kwargs!r} do not fit fun: {error}") from None
    if not bound.kwargs:
        return fun, jac, bound.args[1:]
    return functools.partial(fun, **kwargs), functools.partial(jac, **kwargs) if callable(jac) else jac, args


def _hook_of(callback: Any, verbose: int) -> Any:
    hook = hook_of(callback, _stand_of)
    if verbose < 2:
        return hook

    def both(driver: Driver) -> None:
        now = driver.now
        sys.stdout.write(f"step {now.step:4}  evaluations {now.evaluations:4}  cost {now.fun:.6e}  optimality "
                         f"{now.grad_norm:.2e}  damping {now.lr:.1e}\n")  # fmt: skip
        if hook is not None:
            hook(driver)

    return both


def _stand_of(driver: Driver):
    """What a callback is told, as SciPy tells it."""
    now, run = driver.now, driver.run
    r = outcome(run.extra, run.x.size, driver.problem.m)[0]
    return optimize_result(x=run.x.copy(), fun=r, nit=int(now.step), nfev=int(now.evaluations), cost=float(now.fun))


def _result_of(driver: Driver, interrupted: bool = False):
    """The run as SciPy tells of one."""
    run, now = driver.run, dict(zip(NOW.names or (), driver.now.item(), strict=True))
    r, jac = outcome(run.extra, run.x.size, driver.problem.m)
    mask = np.zeros(run.x.size, int)
    if run.lower.size:
        mask[run.x == run.upper], mask[run.x == run.lower] = 1, -1
    status = CONVERGED_BY[now["reason"]] if now["status"] == CONVERGED else STATUS.get(now["status"], -2)
    return optimize_result(
        x=run.best.copy(), cost=now["fun"], fun=r, jac=jac, grad=run.g.copy(), optimality=now["grad_norm"],
        active_mask=mask, nfev=now["evaluations"], njev=driver.solver.jacobians, status=status, success=status > 0,
        message=INTERRUPTED if interrupted else driver.message(), nit=now["step"],
        covariance=_covariance(jac, now["fun"]), history=_history_of(run.history, now["records"]),
    )  # fmt: skip


def _covariance(jac: np.ndarray, cost: float) -> np.ndarray:
    m, n = jac.shape
    if m <= n or not (np.all(np.isfinite(jac)) and np.isfinite(cost)):
        return np.full((n, n), np.inf)
    lengths = np.linalg.norm(jac, axis=0)
    told = lengths > 0
    if np.all(told):
        _, sizes, rows = np.linalg.svd(jac / lengths, full_matrices=False)
        if sizes[-1] > UNTOLD * sizes[0]:
            rows = rows / sizes[:, None] / lengths
            return rows.T @ rows * (2.0 * cost / (m - n))
    return np.full((n, n), np.inf)  # the residuals do not tell all unknowns apart


def _history_of(history: np.ndarray, records: int) -> np.recarray:
    rows, columns = history.view(RECORD, np.ndarray)[:records], len(HISTORY.names or ())
    told = np.empty(records, HISTORY)
    for name, source in zip(HISTORY.names or (), (RECORD.names or ())[:columns], strict=True):
        told[name] = rows[source]
    return told.view(np.recarray)


def _hand_on(problem: Residuals, x0: np.ndarray, bounds: Any, **settings: Any):
    """``scipy.optimize.least_squares`` on compiled residuals."""
    from scipy.optimize import least_squares as scipys

    jac = problem.jac if problem.per_gradient else problem.jacobian
    result = scipys(problem.residuals, x0, jac, bounds, **settings)
    result.covariance = _covariance(np.asarray(result.jac), result.cost)
    return result
