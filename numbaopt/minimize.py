"""The verb: SciPy's ``minimize``, with every method's loop compiled."""

from __future__ import annotations

import inspect
import operator
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from . import checkpoint as checkpoints
from .loops.state import Run, new_run
from .optimizers._program import parts_of
from .optimizers._rule import OPTIMIZERS, nearest
from .optimizers.step import as_optimizer
from .problems.function import Function, mend_message
from .problems.linear_model import LinearModel
from .run import Batches, Driver, Hooks, Limits
from .scipy_methods import SCIPY_METHODS, hand_on
from .status import CONVERGED, NOT_FINITE, RUNNING, STEP_LIMIT, STOPPED

HISTORY_ROWS = 1000
# Options that are not fields of an optimizer, with their defaults.
OPTIONS = {
    "maxiter": None, "gtol": None, "ftol": 0.0, "xtol": 0.0, "batch_size": None, "epochs": None, "shuffle": True,
    "seed": 0, "history": True, "progress": False, "disp": False, "checkpoint": None, "jit": None,
}  # fmt: skip
BATCH_OPTIONS = ("batch_size", "epochs")


def minimize(fun, x0=None, args=(), method=None, jac=None, hess=None, hessp=None, bounds=None, constraints=(),
             tol=None, callback=None, options=None):  # fmt: skip
    r"""Minimize a function of several variables, or train a model.

    Parameters
    ----------
    fun : callable or LinearModel
        ``fun(x, *args) -> float`` with x a float64 vector.  Functions jitted by Numba run compiled throughout; plain
        ones are compiled if they can be, else the same loops are driven from Python and a warning says why.
    x0 : array of shape (n,)
        Where to start; never written to.  For a model None means zeros.
    args : tuple
        Further arguments of ``fun`` and ``jac``.
    method : str or optimizer
        A name from `numbaopt.methods` in any case, an optimizer such as ``numbaopt.Adam(lr=0.1)`` or a chain
        (`numbaopt.transforms.chain`).  Names that only SciPy has are handed on to SciPy with the compiled objective and
        gradient, and so is None: SciPy's choice, L-BFGS-B where there are no constraints.
    jac : callable, True, {"2-point", "3-point", "cs"} or None
        ``jac(x, *args)`` returns the gradient; True: ``fun`` returns (value, gradient); "cs": complex step; None:
        "3-point" differences.
    hess, hessp, constraints
        For SciPy's methods.
    bounds : sequence of (low, high) or scipy.optimize.Bounds
        First-order methods project onto them after every step.
    tol : float
        The same as ``gtol``.
    callback : callable
        ``callback(intermediate_result=OptimizeResult)`` or ``callback(x)`` with a copy of x after every step, or after
        every epoch of minibatches; raising StopIteration ends the run with status 99.
    options : dict
        Every field of the optimizer (``lr`` a number, a schedule or a function of the step), and

        maxiter : int
            Most steps; 10,000 for whole objectives.
        gtol, ftol, xtol : float
            Converged when no component of the (projected) gradient exceeds gtol (1e-5; 0 in minibatch training), or
            when for 10 steps in a row the objective changes by less than ``ftol * max(1, |fun|)``, or every unknown by
            less than ``xtol * max(1, |x|)``.
        batch_size, epochs, shuffle, seed
            Minibatch training of a model: terms a step (None: all), passes over them (10), whether each pass takes a
            new random order, and the seed of those orders.
        history : bool or int
            Most rows of the history (True: 1000).  False also spares minibatch training the pass over all data after
            every epoch.
        progress, disp : bool
            A progress bar (tqdm); a summary at the end.
        checkpoint : path
            Where the run is saved every 30 seconds and when it ends or is interrupted; see `numbaopt.resume`.
        jit : bool
            True: an objective that cannot be compiled is an error.  False: do not try.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x`` (the best finite point seen), ``fun``, ``jac`` (there), ``nit``, ``nfev``, ``njev``, ``status`` (0
        converged, 1 step limit, 2 not finite, 99 stopped), ``success``, ``message``, ``lr`` (of the last step) and
        ``history``: a record array with the fields step, fun, grad_norm, lr, seconds (and epoch), thinned on long runs.

    Raises
    ------
    ValueError, TypeError
        If an argument is not usable; the sentence names it.  Exceptions of ``fun`` come out as they are.
    KeyboardInterrupt
        On Ctrl-C, within a slice of some 20 ms; its attribute ``result`` is the result so far.

    Examples
    --------
    >>> import numpy as np, numba, numbaopt as no
    >>> @numba.njit
    ... def rosen(x):
    ...     return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
    >>> res = no.minimize(rosen, [-1.2, 1.0], method="adam", options=dict(lr=0.02, maxiter=20_000))
    >>> res.success, res.x.round(3)
    (True, array([1., 1.]))
    """
    options = dict(options or {})
    name = method.lower() if isinstance(method, str) else method
    known = name is not None and (not isinstance(name, str) or name in OPTIMIZERS)
    if isinstance(name, str) and not known and name not in SCIPY_METHODS:
        raise ValueError(f"unknown method {method!r}; {nearest(name, [*OPTIMIZERS, *SCIPY_METHODS])}")
    model = hasattr(fun, "pack")
    x0 = _start(fun, x0) if model else _unknowns(x0)
    lower, upper = _limits(bounds, x0)
    if not isinstance(args, tuple):
        args = (args,)
    problem = fun if model else Function(fun, jac, args, x0.size, lower, upper, options.get("jit"))
    if not known or (callable(method) and not hasattr(method, "slots")):
        return hand_on(problem, x0, method, hess, hessp, bounds, constraints, tol, callback, options)
    for key, value in (("hess", hess), ("hessp", hessp), ("constraints", constraints or None)):
        if value is not None:
            _warn(f"method {method!r} does not use {key}")
    opt, options = _split(as_optimizer(name), options)
    return _minimize(problem, x0, opt, lower, upper, tol, callback, options)


def _minimize(problem, x0, opt, lower, upper, tol, callback, options):
    settings = {**OPTIONS, **options}
    batches, maxiter = _batches(problem, settings, options)
    gtol = settings["gtol"] if settings["gtol"] is not None else tol
    gtol = (1e-5 if batches is None else 0.0) if gtol is None else gtol
    limits = Limits(maxiter, *(_nonnegative(key, value) for key, value in
                               (("gtol", gtol), ("ftol", settings["ftol"]), ("xtol", settings["xtol"]))))  # fmt: skip
    rows = HISTORY_ROWS if settings["history"] in (True, False) else _count("history", settings["history"], 2)
    run = new_run(x0.astype(problem.dtype), len(opt.slots), lower.astype(problem.dtype), upper.astype(problem.dtype),
                  rows, limits.xtol > 0)  # fmt: skip
    saved = None if settings["checkpoint"] is None else os.fspath(settings["checkpoint"])
    remember = {"optimizer": checkpoints.describe(opt) if saved else None, "limits": limits,
                "batches": batches, "n_unknowns": run.x.size}  # fmt: skip
    return _drive(problem, opt, run, limits, batches, callback, settings, saved, remember)


def _drive(problem, opt, run, limits, batches, callback, settings, saved, remember):
    hooks = Hooks(_hook(callback), bool(settings["progress"]), saved)
    driver = Driver(problem, opt, run, limits, batches, hooks, remember)
    try:
        driver.solve()
    except KeyboardInterrupt as interrupt:
        interrupt.result = _result(driver, interrupted=True)
        raise
    except ValueError as error:
        raise mend_message(error) from None if mend_message(error) is not error else error.__cause__
    result = _result(driver)
    if settings["disp"]:
        _display(result)
    return result


def resume(path, fun, args=(), jac=None, callback=None, options=None):
    """Go on with a run from its checkpoint; the result is bit for bit that of a run never interrupted.

    Parameters
    ----------
    path : path
        A checkpoint written by ``minimize(..., options=dict(checkpoint=path))``.
    fun, args, jac, callback
        As in `numbaopt.minimize`: a checkpoint holds no functions and no data.
    options : dict
        New limits (``maxiter``, ``epochs``), ``progress``, ``disp``, ``jit`` and ``checkpoint`` (by default the file
        resumed from); all else goes on as it was.

    Returns
    -------
    scipy.optimize.OptimizeResult

    Raises
    ------
    ValueError
        If the file is not a whole checkpoint of this version, or not of this problem.

    Examples
    --------
    >>> import os, tempfile, numba, numpy as np, numbaopt as no
    >>> path = os.path.join(tempfile.mkdtemp(), "run.npz")
    >>> bowl = numba.njit(lambda x: (x**2).sum())
    >>> first = no.minimize(bowl, np.ones(2), method="sgd", options=dict(lr=0.1, maxiter=5, checkpoint=path))
    >>> second = no.resume(path, bowl, options=dict(maxiter=10))
    >>> once = no.minimize(bowl, np.ones(2), method="sgd", options=dict(lr=0.1, maxiter=10))
    >>> second.nit, bool((second.x == once.x).all())
    (10, True)
    """
    run, remember = checkpoints.load(path)
    options = dict(options or {})
    usable = ("maxiter", "epochs", "progress", "disp", "jit", "checkpoint")
    for key in set(options) - set(usable):
        _warn(f"resume: unknown option {key!r}; {nearest(key, usable)}")
    if hasattr(fun, "pack"):
        problem = fun
    else:
        problem = Function(fun, jac, args if isinstance(args, tuple) else (args,), run.x.size,
                           run.lower.astype(float), run.upper.astype(float), options.get("jit"))  # fmt: skip
    batches = Batches(*remember["batches"]) if remember["batches"] is not None else None
    found = (problem.n, str(problem.dtype), batches.n if batches else None)
    told = (run.x.size, str(run.x.dtype), getattr(problem, "n_terms", None) if batches else None)
    if found[:2] != told[:2] or found[2] != told[2]:
        raise ValueError(f"{os.fspath(path)} is of another problem: it has {told[0]} unknowns of {told[1]}"
                         + (f" and {batches.n} terms" if batches else "")
                         + f", this one {problem.n} of {problem.dtype}")  # fmt: skip
    limits = Limits(*remember["limits"])
    if options.get("epochs") is not None:
        limits = limits._replace(maxiter=_count("epochs", options["epochs"]) * (batches.per_epoch if batches else 1))
    if options.get("maxiter") is not None:
        limits = limits._replace(maxiter=_count("maxiter", options["maxiter"]))
    if run.now[0].status in (STEP_LIMIT, STOPPED):
        run.now[0].status = RUNNING
    opt = checkpoints.revive(remember["optimizer"])
    saved = os.fspath(options.get("checkpoint") or path)
    remember = {**remember, "limits": limits}
    return _drive(problem, opt, run, limits, batches, callback, {**OPTIONS, **options}, saved, remember)


def _split(opt: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The optimizer with its fields taken from the options, and what is left of them."""
    fields = opt.parts[-1]._fields if hasattr(opt, "parts") else opt._fields
    mine = {key: options.pop(key) for key in list(options) if key in fields}
    if mine and hasattr(opt, "parts"):
        opt = opt._replace(parts=(*opt.parts[:-1], opt.parts[-1]._replace(**mine)))
    elif mine:
        opt = opt._replace(**mine)
    for key in [key for key in options if key not in OPTIONS]:
        _warn(f"unknown option {key!r} for {type(parts_of(opt)[-1]).__name__}; {nearest(key, [*fields, *OPTIONS])}")
        del options[key]
    return opt, options


def _batches(problem: Any, settings: dict[str, Any], given: dict[str, Any]) -> tuple[Batches | None, int]:
    """How the terms are visited, if in batches; and the most steps."""
    maxiter = None if settings["maxiter"] is None else _count("maxiter", settings["maxiter"])
    epochs = None if settings["epochs"] is None else _count("epochs", settings["epochs"])
    terms = getattr(problem, "n_terms", None)
    if terms is None:
        for key in BATCH_OPTIONS:
            if key in given:
                _warn(f"option {key!r} has no effect: fun is not a sum of terms such as LinearModel")
        return None, 10_000 if maxiter is None else maxiter
    if settings["batch_size"] is None:
        return None, min(10_000 if maxiter is epochs is None else np.inf, *(v for v in (maxiter, epochs) if v is not None),
                         sys.maxsize)  # fmt: skip
    size = min(_count("batch_size", settings["batch_size"], 1), terms)
    seed = _count("seed", settings["seed"])
    batches = Batches(terms, size, bool(settings["shuffle"]), seed, settings["history"] is not False)
    steps = batches.per_epoch * (epochs if epochs is not None else 10)
    return batches, steps if maxiter is None else min(maxiter, steps) if epochs is not None else maxiter


def _result(driver: Driver, interrupted: bool = False):
    """The run as SciPy tells of one."""
    from scipy.optimize import OptimizeResult

    now, run, problem, batches = driver.now, driver.run, driver.problem, driver.batches
    judged = batches is None or batches.whole
    x = (run.best if judged or now.status == NOT_FINITE else run.x).copy()
    evaluations, fun, jac = int(now.evaluations), float(now.best_fun), run.g.copy()
    if judged and np.isinf(fun):  # no finite point was ever seen
        fun = float(now.fun)
    elif not interrupted and (batches is not None or now.best_step != now.step or now.status == NOT_FINITE):
        fun, jac = problem.value_and_grad(x)
        evaluations += 1
    status = STOPPED if interrupted else int(now.status)
    history = _history(driver)
    return OptimizeResult(
        x=x, fun=float(fun), jac=jac, nit=int(now.step),
        nfev=evaluations * (1 + getattr(problem, "per_gradient", 0)),
        njev=evaluations + (int(now.step) if batches is not None else 0),
        status=status, success=status == CONVERGED,
        message="Interrupted by the user." if interrupted else driver.message(),
        lr=float(now.lr) if now.step else _first_rate(driver.opt.lr), history=history,
    )  # fmt: skip


def _first_rate(lr: Any) -> float:
    return float(lr(0)) if callable(lr) else float(lr)


def _history(driver: Driver) -> np.recarray:
    """The rows in use, with the last judged point at the end even where thinning left it out."""
    now, history = driver.now, driver.run.history
    rows = history[: now.records].copy()
    if now.evaluations and (not rows.size or rows.step[-1] != now.step) and np.isfinite(now.grad_norm):
        if driver.batches is None or now.step % driver.batches.per_epoch == 0:
            last = np.array([(now.step, now.fun, now.grad_norm, now.lr, driver.seconds)], rows.dtype)
            rows = np.concatenate([rows, last])
    rows = rows.view(np.recarray)
    if driver.batches is None:
        return rows
    from numpy.lib.recfunctions import append_fields

    return append_fields(rows, "epoch", rows.step / driver.batches.per_epoch, usemask=False).view(np.recarray)


def _hook(callback: Any) -> Callable[[Driver], None] | None:
    """SciPy's two forms of a callback as one function of the driver."""
    if callback is None:
        return None
    if not callable(callback):
        raise TypeError(f"callback must be callable, not {type(callback).__name__}")
    from scipy.optimize import OptimizeResult

    try:
        named = set(inspect.signature(callback).parameters) == {"intermediate_result"}
    except (TypeError, ValueError):
        named = False

    def hook(driver: Driver) -> None:
        now = driver.now
        if named:
            callback(intermediate_result=OptimizeResult(x=driver.run.x.copy(), fun=float(now.fun), nit=int(now.step)))
        else:
            callback(driver.run.x.copy())

    return hook


def _display(result: Any) -> None:
    lines = (result.message, f"         Current function value: {result.fun:f}", f"         Iterations: {result.nit}",
             f"         Function evaluations: {result.nfev}", f"         Gradient evaluations: {result.njev}")  # fmt: skip
    sys.stdout.write("\n".join(lines) + "\n")


def _unknowns(x0: Any) -> np.ndarray:
    """``x0`` as a new float64 vector."""
    array = np.asarray(x0)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"x0 must hold real numbers, not {array.dtype}")
    if array.ndim > 1:
        raise ValueError(f"x0 must only have one dimension, not shape {array.shape}")
    if array.size == 0:
        raise ValueError("x0 is empty: there is nothing to minimize over")
    return np.array(np.atleast_1d(array), np.float64)


def _start(model: LinearModel, x0: Any) -> np.ndarray:
    x0 = np.zeros(model.n) if x0 is None else _unknowns(x0)
    if x0.size != model.n:
        intercept = " and an intercept" if model.fit_intercept else ""
        raise ValueError(f"x0 has shape {x0.shape}, the model has {model.n_features} coefficients{intercept}")
    return x0


def _limits(bounds: Any, x0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds as vectors, or two empty ones."""
    empty = np.zeros(0)
    if bounds is None:
        return empty, empty
    if hasattr(bounds, "lb"):
        low, high = bounds.lb, bounds.ub
    else:
        try:
            low, high = zip(*bounds, strict=True)
        except (TypeError, ValueError):
            raise ValueError("bounds must be a sequence of (low, high) pairs or a scipy.optimize.Bounds") from None
    low = np.array([-np.inf if b is None else b for b in np.broadcast_to(np.asarray(low, object), x0.shape)]
                   if np.ndim(low) == 0 or len(low) == x0.size else [], float)  # fmt: skip
    high = np.array([np.inf if b is None else b for b in np.broadcast_to(np.asarray(high, object), x0.shape)]
                    if np.ndim(high) == 0 or len(high) == x0.size else [], float)  # fmt: skip
    if low.shape != x0.shape or high.shape != x0.shape:
        raise ValueError(f"bounds are not of the length of x0, {x0.size}")
    if not np.all(low <= high):
        raise ValueError(f"bounds: the lower one exceeds the upper one at component {int(np.argmin(low <= high))}")
    if np.all(np.isinf(low) & np.isinf(high)):
        return empty, empty
    return low, high


def _count(name: str, value: Any, least: int = 0) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r} must be an integer") from None
    if number < least or number >= 2**62:
        raise ValueError(f"{name}={value!r} must be at least {least}")
    return number


def _nonnegative(name: str, value: Any) -> float:
    number = float(value)
    if not number >= 0:
        raise ValueError(f"{name}={value!r} must be in [0, inf)")
    return number


def _warn(text: str) -> None:
    from scipy.optimize import OptimizeWarning

    warnings.warn(text, OptimizeWarning, stacklevel=4)
