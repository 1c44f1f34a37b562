"""Robust regression together with its scale."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from scipy.optimize import brentq
from sklearn.utils._param_validation import Interval

from ..losses import as_loss
from ._parameters import estimator
from ._regressors import LinearRegressor

SMALLEST = 1e-8  # scale, relative to the spread of y: below it, most rows lie on a plane


@estimator
class HuberRegressor(LinearRegressor):
    r"""Regression that outliers do not spoil, together with the scale of what is no outlier.

    .. math:: \min_{w, b, \sigma > 0} \; \frac1n \sum_i \Big( \frac{\sigma}{2}
        + \sigma H_\varepsilon\Big(\frac{x_i^\top w + b - y_i}{\sigma}\Big) \Big)
        + \alpha \Big( \frac{1 - \rho}{2} \|w\|_2^2 + \rho \|w\|_1 \Big)

    with :math:`\rho` = ``l1_ratio`` and Huber's function :math:`H_\varepsilon(r) = \tfrac12 r^2` for
    :math:`|r| \le \varepsilon`, else :math:`\varepsilon |r| - \tfrac12 \varepsilon^2`.  It is convex in all
    unknowns; for a given scale it is a linear model, and the scale is where the derivative of the least objective for
    it is zero.
    With ``l1_ratio=0`` this is half of scikit-learn's ``HuberRegressor(epsilon, alpha=n * alpha)`` per row.

    Parameters
    ----------
    epsilon : float
        Residuals beyond ``epsilon`` times the scale are outliers; in [1, inf).
    alpha : float
        Strength of the penalty, in [0, inf).
    <shared>

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
    intercept_ : float
    scale_ : float
        :math:`\sigma`, in the unit of y.
    outliers_ : ndarray of shape (n_samples,)
        Which rows are outliers.
    <attributes>

    Raises
    ------
    ValueError
        If minibatches or early stopping are asked for: the scale can only be found from exact fits.

    References
    ----------
    Huber, P. J. (1981). Robust Statistics, section 7.7. doi:10.1002/0471725250

    Examples
    --------
    >>> import numpy as np
    >>> from numbaopt.linear_model import HuberRegressor
    >>> X, noise = np.linspace(0, 1, 50)[:, None], np.random.default_rng(0).normal(scale=0.1, size=50)
    >>> y = 2 * X[:, 0] + noise
    >>> y[::10] = 100.0
    >>> model = HuberRegressor(alpha=0).fit(X, y)
    >>> bool(abs(model.coef_[0] - 2) < 0.2), bool(model.outliers_[::10].all())
    (True, True)
    """

    epsilon: float = 1.35
    _parameter_constraints: ClassVar[dict] = {
        **LinearRegressor._parameter_constraints,
        "epsilon": [Interval(Real, 1.0, None, closed="left")],
    }

    @property
    def _loss(self) -> Any:
        return as_loss("huber")._replace(delta=self.epsilon * self.scale_)

    @property
    def _strength(self) -> float:
        return self.alpha * self.scale_

    def _train(self, X, y, targets, weights, warm, partial=False):
        if self._stochastic or self.early_stopping:
            name = next(n for n in ("optimizer", "batch_size", "early_stopping") if getattr(self, n))
            raise ValueError(f"{name}={getattr(self, name)!r}: HuberRegressor finds its scale from exact fits; take "
                             "SGDRegressor(loss=numbaopt.losses.Huber(...)), whose delta is given")  # fmt: skip
        gaps = np.abs(y - np.average(y, weights=weights))
        top = float(gaps.max()) or 1.0
        spread = top * math.sqrt(np.average((gaps / top) ** 2, weights=weights)) or 1.0  # without overflow
        first, least = math.log(self.scale_ if warm else spread), math.log(SMALLEST * spread)
        fit, rows, known, complaint = super()._train, [], {}, ""

        def slope(log_scale: float, warm: bool = True) -> float:
            """Derivative of the objective in the scale, times two, where the coefficients are the best for it."""
            nonlocal complaint
            if log_scale in known:
                return known[log_scale]
            self.scale_ = math.exp(log_scale)
            complaint = fit(X, y, targets, weights, warm)
            self.history_.loss[:] = self.history_.loss / self.scale_ + self.scale_ / 2
            self.history_.epoch += sum(map(len, rows))
            rows.append(self.history_)
            r = np.minimum(self._residuals(X, y) / self.scale_, self.epsilon)
            known[log_scale] = 1.0 - float(np.average(r * r, weights=weights))
            return known[log_scale]

        value = slope(first, warm)
        last, step = first, -math.copysign(math.log(2.0), value)
        while value * step < 0 and last > least:
            first, last, step = last, last + step, 2 * step
            value = slope(last)
        if value * step > 0:
            last = brentq(slope, first, last, xtol=1e-13, rtol=1e-13)
        known.clear()
        slope(last)
        self.outliers_ = self._residuals(X, y) > self.epsilon * self.scale_
        self.history_ = np.concatenate(rows).view(np.recarray)
        self.n_iter_ = int(self.history_.epoch[-1])
        return complaint

    def _residuals(self, X: Any, y: np.ndarray) -> np.ndarray:
        return np.abs(y - X @ self.coef_ - self.intercept_)
