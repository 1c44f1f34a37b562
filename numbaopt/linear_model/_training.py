"""One training: a model, where it starts, and an estimator's parameters become a call of `numbaopt.minimize`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import OptimizeResult

from ..loops.shuffle import epoch_order
from ..minimize import minimize
from ..optimizers._program import parts_of
from ..optimizers.step import as_optimizer
from ..problems.linear_model import LinearModel
from ..scipy_methods import SCIPY_METHODS
from ..status import NO_PROGRESS, NOT_FINITE, STEP_LIMIT, STOPPED
from ._parameters import BATCH_SIZE
from ._rates import location_of, scaled

RECORD = np.dtype([("output", "i8"), ("epoch", "i8"), ("loss", "f8"), ("validation_score", "f8"), ("seconds", "f8")])
DEFAULT = as_optimizer("adam")._replace(lr=0.01)
UNTRAINED = -np.finfo(float).max  # the score of a start that nobody has trained
MOST_ROWS = 1 << 16  # of the history of one model


class Stand(NamedTuple):
    """Where an optimizer stands; of use to one of the same kind only."""

    kind: tuple
    method: Any
    run: Any


class Trained(NamedTuple):
    """What a training leaves behind."""

    solution: tuple[np.ndarray, Any]  # coefficients and intercept
    stand: Stand | None  # of an optimizer
    rows: np.ndarray  # of RECORD
    complaint: str


class Watch:
    """What is called after every epoch: the score of held-out rows, and the user's callback."""

    def __init__(self, model: LinearModel, output: int, score: Callable[[Any, Any], float] | None, callback: Any,
                 untrained: bool):  # fmt: skip
        self.model, self.output, self.score, self.callback = model, output, score, callback
        self.epoch, self.last, self.untrained = 0, np.nan, untrained

    def judge(self, x: np.ndarray) -> float:
        if self.untrained:  # the first point is not: whatever is learnt from the rows is preferred
            self.untrained = False
            return UNTRAINED
        self.last = self.score(*self.model.split(x))
        return self.last

    def tell(self, intermediate_result: Any) -> None:
        self.epoch += 1
        coef, intercept = self.model.split(intermediate_result.x)
        self.callback(OptimizeResult(output=self.output, epoch=self.epoch, loss=float(intermediate_result.fun),
                                     validation_score=self.last, coef=coef, intercept=intercept))  # fmt: skip


def train(estimator: Any, model: LinearModel, start: np.ndarray | None, stand: Stand | None, seed: int, output: int,
          score: Callable[[Any, Any], float] | None = None, partial: bool = False) -> Trained:  # fmt: skip
    """Minimize the objective of ``model`` as the estimator's parameters say.

    With ``partial`` for one epoch, and with no more looks at the data than that.
    """
    one, most, tol = estimator, 1 if partial else estimator.max_epochs, estimator.tol
    watch = Watch(model, output, score, one.callback, start is None)
    options: dict[str, Any] = {}
    own = one._stochastic or not (isinstance(one.method, str) and one.method.lower() in SCIPY_METHODS)
    if own:
        options |= {"epochs": most, "history": False if partial else min(most + 1, MOST_ROWS),
                    "progress": bool(one.verbose)}  # fmt: skip
    elif score is None:
        options["maxiter"] = most
    else:
        raise ValueError(f"early_stopping=True is not possible with method={one.method!r}, which is SciPy's")
    if one.lr is not None:
        options["lr"] = one.lr
    if one._stochastic and one.method != "auto":
        raise ValueError(f"method={one.method!r} trains on all rows at a time, optimizer and batch_size by "
                         "minibatches: give either")  # fmt: skip
    if one.weight_norm:
        if one.method == "auto" and not one._stochastic:
            raise ValueError("weight_norm=True needs a first-order rule: give an optimizer such as 'adam', or a rule "
                             "as method")  # fmt: skip
        options["weight_norm"] = True
    if one._stochastic:
        method = DEFAULT if one.optimizer is None else as_optimizer(one.optimizer)
        kind = (*map(type, parts_of(method)), one.average, one.weight_norm, model.n, str(model.dtype))
        stand = stand if stand is not None and stand.kind == kind else None
        run = None if stand is None else stand.run
        seed += 0 if run is None else int(run.now[0].step)  # new orders
        named = one.optimizer is None or isinstance(one.optimizer, str)
        if named and one.lr is None and model.loss.takes == "numbers":
            rows = epoch_order(model.n_terms, seed, 0, one.shuffle)[: one.batch_size or BATCH_SIZE]
            method = scaled(method, model, rows) if stand is None else stand.method
            if start is None:
                start = model.join(0.0, location_of(model, rows))
        options |= {"batch_size": one.batch_size or BATCH_SIZE, "shuffle": one.shuffle, "seed": seed,
                    "average": one.average, "run": run}  # fmt: skip
    else:
        method, kind = one.method, ()
    if score is not None or (one._stochastic and tol is not None and not partial):
        options |= {"patience": one.n_iter_no_change, "min_delta": tol or 0.0}
    if score is not None:
        options["validation"] = watch.judge
    callback = None if one.callback is None or partial else watch.tell
    gtol, begin = 0.0 if one._stochastic or tol is None else tol, time.perf_counter()
    result = minimize(model, start, method=method, tol=gtol, callback=callback, options=options)
    rows = _rows(result, output, most if partial else result.nit, time.perf_counter() - begin)
    goes_on = one._stochastic and result.status != NOT_FINITE  # what diverged begins again from the best coefficients
    stand = Stand(kind, method, result.run._replace(history=result.run.history[:2].copy())) if goes_on else None
    return Trained(model.split(result.x.astype(model.dtype)), stand, rows, _complaint(one, result, rows, partial))


def _rows(result: Any, output: int, epochs: int, seconds: float) -> np.ndarray:
    """The history of a result, or one row where it has none."""
    history = getattr(result, "history", None)
    if history is None or not len(history):
        return np.array([(output, epochs, result.fun, np.nan, seconds)], RECORD)
    rows = np.zeros(len(history), RECORD)
    rows["output"], rows["epoch"] = output, history["epoch" if "epoch" in history.dtype.names else "step"]
    rows["loss"], rows["validation_score"], rows["seconds"] = history.fun, history.score, history.seconds
    rows["validation_score"][rows["validation_score"] == UNTRAINED] = np.nan
    return rows


def _complaint(estimator: Any, result: Any, rows: np.ndarray, partial: bool) -> str:
    """What a user must know of how a training ended, or an empty string."""
    if result.status == NO_PROGRESS and np.isfinite(rows["validation_score"]).any():
        return "the score on held-out rows never rose above that of the start, whose coefficients stay"
    start, end, rate = rows["loss"][0], rows["loss"][-1], getattr(result, "lr", 1.0)
    if estimator._stochastic and rows["loss"].min() == start and end > start + (estimator.tol or 0.0):
        kept = "are those of the best score" if np.isfinite(rows["validation_score"]).any() else "stay at the start"
        return (f"Diverged: the objective rose from {start:g} to {end:g}; the coefficients {kept}. Try a "
                f"smaller rate, such as {rate / 10:g} (it was {rate:g}), or standardise the data.")  # fmt: skip
    if result.success or result.status == STOPPED:
        return ""
    if result.status != STEP_LIMIT:
        return str(result.message)
    if partial or estimator.tol is None:
        return ""
    return (f"max_epochs={estimator.max_epochs} passed before tol={estimator.tol} was met; increase one of them, or "
            "standardise the data (sklearn.preprocessing.StandardScaler)")  # fmt: skip
