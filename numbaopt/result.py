"""A run as SciPy tells of one: its OptimizeResult, its callbacks, its summary."""

from __future__ import annotations

import inspect
import sys
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np

from .loops.state import NOW, RECORD
from .problems.evaluation import mend_message
from .run import Driver
from .status import CONVERGED, INTERRUPTED, NOT_FINITE, STOPPED

NOW_VALUES: Any = namedtuple("NOW_VALUES", NOW.names or ())  # read many times, far faster than a record


class Result(dict):
    """A `scipy.optimize.OptimizeResult` to all who ask, in a process that has not imported `scipy.optimize` yet.

    That import takes longer than most minimizations; it is made when somebody needs it: ``isinstance``, ``repr``, a
    copy or a pickle, which are of SciPy's class.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    __setattr__: Any = dict.__setitem__
    __delattr__: Any = dict.__delitem__

    @property
    def __class__(self) -> Any:
        from scipy.optimize import OptimizeResult

        return OptimizeResult

    def __repr__(self) -> str:
        return repr(self.__class__(self))

    def __reduce__(self) -> Any:
        return self.__class__, (dict(self),)

    def __dir__(self) -> list[str]:
        return list(self)


def optimize_result(**fields: Any) -> Any:
    """SciPy's result with these fields."""
    scipy_optimize = sys.modules.get("scipy.optimize")
    return getattr(scipy_optimize, "OptimizeResult", Result)(fields)


def keeps(driver: Driver) -> bool:
    """Whether a run returns the best point it knows; else the one where it stands."""
    return driver.judges or driver.now.status == NOT_FINITE or not driver.now.keeps_best


def result_of(driver: Driver, interrupted: bool = False):
    """The run as SciPy tells of one."""
    now, run, problem, batches = NOW_VALUES._make(driver.now.item()), driver.run, driver.problem, driver.batches
    judged, kept, value_and_grad = driver.judges, keeps(driver), driver.solver.value_and_grad
    x = (run.best if kept else driver.point).copy()
    gradient = getattr(driver.opt, "gradient", True)
    averaged = batches is None and now.shown >= 0  # which is evaluated beside the iterates
    evaluations, fun, jac = int(now.evaluations) * (2 if averaged else 1), float(now.best_fun), run.g
    if judged and np.isinf(fun):  # no finite point was ever seen, or none at all
        fun = float(now.fun)
        if np.isnan(fun) and not interrupted and now.evaluations == 0:
            x, evaluations = driver.point.copy(), 1
            fun, jac = value_and_grad(x)
    elif not interrupted and driver.within_epoch and now.status != NOT_FINITE:
        fun, jac = value_and_grad(driver.point)  # within an epoch: not yet judged
        evaluations += 1
        if kept and not (now.keeps_best and fun <= now.best_fun):
            fun, jac = value_and_grad(x)
        else:
            x = driver.point.copy()
    elif not interrupted and gradient and (averaged or batches is not None or now.best_step != now.step
                                           or now.status == NOT_FINITE or not now.keeps_best):  # fmt: skip
        fun, jac = value_and_grad(x)
        evaluations += 1
    if not np.isfinite(fun) and now.status != NOT_FINITE and not interrupted:  # history=False: nobody looked before
        driver.now.status, driver.now.fun = NOT_FINITE, fun
        now = NOW_VALUES._make(driver.now.item())
        if np.all(np.isfinite(run.best)):
            x = run.best.copy()
            fun, jac = value_and_grad(x)
    status = STOPPED if interrupted else int(now.status)
    history, inner = _history(driver, now), getattr(problem, "model", None)
    if inner is not None:  # what was trained stands for the unknowns of this model
        x = driver.told(x)
        jac = problem.own_gradient(run.x, jac) if interrupted else inner.value_and_grad(x)[1]
    told = {
        "x": x, "fun": float(fun), "jac": jac.copy() if jac is run.g else jac, "nit": int(now.step),
        "nfev": evaluations * (1 + getattr(problem, "per_gradient", 0)),
        "njev": evaluations + (int(now.step) if batches is not None else 0),
        "status": status, "success": status == CONVERGED,
        "message": INTERRUPTED if interrupted else driver.message(),
        "lr": float(now.lr) if now.step else _first_rate(driver.opt.lr), "history": history, "run": run,
    }  # fmt: skip
    if not gradient:
        del told["jac"], told["njev"]
    return optimize_result(**(told | driver.solver.told()))


def calls_of(problem: Any, batches: Any, averages: bool) -> int:
    """How often the objective is called for what a run counts as one evaluation."""
    averaged = batches is None and averages  # an average is evaluated beside the iterates
    return (1 + getattr(problem, "per_gradient", 0)) * (2 if averaged else 1)


def _calls(driver: Any) -> int:
    if not hasattr(driver, "problem"):  # a stream, of whose problems there is one a chunk
        return 1
    return calls_of(driver.problem, driver.batches, driver.now.shown >= 0)


def _first_rate(lr: Any) -> float:
    return float(lr(0)) if callable(lr) else float(lr)


def _history(driver: Driver, now: Any) -> np.recarray:
    """The rows in use, with the last judged point at the end even where thinning left it out."""
    history = driver.run.history
    rows = np.asarray(history[: now.records])
    judged = driver.judges and driver.within_epoch == 0 and not now.awaiting
    if judged and rows["step"][-1] != now.step:
        last = (now.step, now.fun, now.grad_norm, now.lr, driver.seconds, np.nan, now.evaluations)
        rows = np.append(rows, np.array([last], RECORD))
    rows = rows.copy()
    rows["nfev"] *= _calls(driver)
    if driver.batches is None:
        return rows.view(np.recarray)
    told = np.zeros(rows.size, [*RECORD.descr, ("epoch", "f8")])
    for name in rows.dtype.names or ():
        told[name] = rows[name]
    told["epoch"] = (rows["step"] - int(now.origin)) / driver.batches.per_epoch
    return told.view(np.recarray)


def stand_of(driver: Driver):
    """What a callback is told."""
    from scipy.optimize import OptimizeResult

    now = driver.now
    fun = float(now.fun) if now.evaluations else np.nan  # history=False: the whole objective is not known
    nfev = int(now.evaluations) * _calls(driver)
    batches = getattr(driver, "batches", None)  # of a stream there are none
    epoch = {} if batches is None else {"epoch": driver.steps // batches.per_epoch}
    return OptimizeResult(x=driver.told(driver.point), fun=fun, nit=int(now.step), nfev=nfev, **epoch)


def hook_of(callback: Any, told: Callable[[Driver], Any] = stand_of) -> Callable[[Driver], None] | None:
    """SciPy's two forms of a callback as one function of the driver; ``told`` makes the intermediate result."""
    if callback is None:
        return None
    if not callable(callback):
        raise TypeError(f"callback must be callable, not {type(callback).__name__}")
    try:
        named = set(inspect.signature(callback).parameters) == {"intermediate_result"}
    except (TypeError, ValueError):
        named = False

    def hook(driver: Driver) -> None:
        if named:
            callback(intermediate_result=told(driver))
        else:
            callback(driver.told(driver.point))

    return hook


def solved(driver: Driver, told: Callable[..., Any] = result_of, checkpoint: str | None = None):
    """The result of the run, as ``told(driver, interrupted)`` makes it, once it has ended."""
    try:
        driver.solve()
    except KeyboardInterrupt as interrupt:
        interrupt.result = told(driver, True)
        kept = f"; {checkpoint} keeps the run, numbaopt.resume goes on with it" if checkpoint else ""
        interrupt.args = (f"interrupted after step {interrupt.result.nit}{kept}",)
        raise
    except ValueError as error:
        mended = mend_message(error)
        if mended is error:
            raise
        raise mended from None
    else:
        return told(driver, False)
    finally:
        driver.solver.close()


def display(result: Any) -> None:
    lines = [result.message, f"         Current function value: {result.fun:f}", f"         Iterations: {result.nit}",
             f"         Function evaluations: {result.nfev}"]  # fmt: skip
    if "njev" in result:
        lines.append(f"         Gradient evaluations: {result.njev}")
    sys.stdout.write("\n".join(lines) + "\n")
