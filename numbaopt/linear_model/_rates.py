"""Where a regression by minibatches begins, and with which rate, where nobody says: by the scale of some rows."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..losses._loss import lipschitz
from ..optimizers._rule import finished
from ..problems.linear_model import LinearModel

SHARE = 0.1  # of the spread of the targets: most by which a default step moves a typical margin
SAFE = 0.5  # of the inverse of a bound on the curvature: the rate of rules that follow the gradient's length
PROBE = 100  # steps by which a rule is known


def location_of(model: LinearModel, rows: np.ndarray) -> float:
    """Where the intercept should start: the mean of some targets."""
    return float(np.average(_targets(model, rows), weights=_weights(model, rows))) if model.fit_intercept else 0.0


def scaled(rule: Any, model: LinearModel, rows: np.ndarray) -> Any:
    """A rule with a rate by the scale of some rows, if one can be told; its weight decay a step stays what it was."""
    rate = _rate(rule, model, rows)
    if rate is None:
        return rule
    decay = {"weight_decay": rule.weight_decay * rule.lr / rate} if getattr(rule, "weight_decay", 0.0) else {}
    return rule._replace(lr=rate, **decay)


def _rate(rule: Any, model: LinearModel, rows: np.ndarray) -> float | None:
    """The rate of a rule, or None.

    A rule whose steps know no length of the gradient, such as Adam, moves each unknown by about its rate, and so a
    margin by at most the rate times the sum of absolute features (and 1 for the intercept).  That is to be `SHARE` of
    the spread of the targets.  One that follows the length, such as SGD, is safe below the inverse of the curvature,
    which is at most that of the loss times the mean square of a row.
    """
    move, per_gradient = probe(rule)
    weights = _weights(model, rows)
    with np.errstate(over="ignore"):
        if 0.5 < per_gradient < 2.0 and 0.1 < move < 20.0:
            y, location = _targets(model, rows), location_of(model, rows)
            spread = float(np.average(abs(y - location), weights=weights)) or abs(location) or 1.0
            size = np.asarray(abs(model.X[rows]).astype(float).sum(axis=1)).ravel()
            moved = float(np.average(size, weights=weights)) + model.fit_intercept
            return SHARE * spread / (moved or 1.0) / move
        X = model.X[rows].astype(float)
        squares = np.asarray((X.multiply(X) if hasattr(X, "multiply") else X * X).sum(axis=1)).ravel()
        curvature = (float(np.average(squares, weights=weights)) + model.fit_intercept) * lipschitz(model.loss)
    if 900.0 < per_gradient < 1100.0 and 0.0 < curvature < np.inf:
        return SAFE / curvature / move
    return None


def _targets(model: LinearModel, rows: np.ndarray) -> np.ndarray:
    return model.y[rows].astype(float)


def _weights(model: LinearModel, rows: np.ndarray) -> np.ndarray | None:
    weights = model.sample_weight[rows] if model.sample_weight.size else None
    return None if weights is None or not weights.any() else weights


@functools.lru_cache(maxsize=64)
def probe(rule: Any) -> tuple[float, float]:
    """The longest of some steps that a rule of rate 1 takes for a gradient of 1, and how much longer they are for 1000;
    NaN where not all of them are.
    """
    cls, moves = type(rule), np.empty((2, PROBE))
    for k, g in enumerate(map(np.float64, (1.0, 1000.0))):
        opt, state, x = rule._replace(lr=1.0), np.zeros((len(cls.slots), 1)), np.float64(0.0)
        for t in range(PROBE):
            c = tuple(map(np.float64, cls.prepare(opt, 1.0, t + 1)))
            if hasattr(cls, "finish"):
                c = finished(cls, c, cls.term(c, x, g, state, 0), (state,))
            before, x = x, np.float64(cls.update(c, x, g, state, 0))
            moves[k, t] = abs(x - before)
    longer = moves[1] / np.maximum(moves[0], 1e-300)
    return float(moves[0].max()), float(longer.mean()) if np.ptp(longer) < 0.5 * longer.mean() else np.nan
