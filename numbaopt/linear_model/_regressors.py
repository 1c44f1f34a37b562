"""Regressors: their losses, defaults, predictions and scores."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import d2_tweedie_score, r2_score
from sklearn.utils.metaestimators import available_if

from ..losses import as_loss
from ._base import LinearEstimator, can_go_on
from ._least_norm import least_norm
from ._parameters import estimator


@estimator
class LinearRegressor(RegressorMixin, LinearEstimator):
    """Base of all regressors."""

    @available_if(can_go_on)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """Train for one epoch on a part of the data, going on exactly where the last call stood.

        Without shuffling, calls on consecutive parts, whose lengths are multiples of ``batch_size``, equal one epoch of
        ``fit`` on the whole, bit for bit.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional
            Not negative, not all zero; taken as they are: what counts as 1 must be known from elsewhere.

        Returns
        -------
        self
        """
        X, y = self._check(X, y, reset=not hasattr(self, "coef_"))
        self._complain(self._go_on(X, y, sample_weight))
        return self

    def predict(self, X):
        """Predict targets.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        y : array of shape (n_samples,)
        """
        return self._mean(self._margins(X))

    def _learn_classes(self, y: np.ndarray) -> None:
        """There are none."""

    def _targets(self, y: np.ndarray) -> list[np.ndarray]:
        return [y]

    def _keep(self, solutions: list) -> None:
        ((self.coef_, self.intercept_),) = solutions

    def _former(self, output: int) -> tuple:
        return self.coef_, self.intercept_

    def _mean(self, z: np.ndarray) -> np.ndarray:
        """Expected targets from margins."""
        return z

    def _score(self, y: np.ndarray, z: np.ndarray, weights: np.ndarray | None) -> float:
        return r2_score(y, self._mean(z), sample_weight=weights)


@estimator
class LinearRegression(LinearRegressor):
    r"""Least squares, with a penalty if wanted: ridge regression, lasso, elastic net.

    .. math:: \min_{w, b} \; \frac1{2n} \sum_i (x_i^\top w + b - y_i)^2
        + \alpha \Big( \frac{1 - \rho}{2} \|w\|_2^2 + \rho \|w\|_1 \Big),
        \qquad \rho = \mathtt{l1\_ratio}

    This is scikit-learn's ``ElasticNet(alpha, l1_ratio)``, its ``Lasso(alpha)`` for ``l1_ratio=1``, its
    ``Ridge(alpha=n * alpha)`` for ``l1_ratio=0``, and its ``LinearRegression`` for ``alpha=0``.  Where X has not full
    rank and ``alpha=0``, many coefficients are solutions: these are, as scikit-learn's, those of least norm.

    Parameters
    ----------
    alpha : float
        Strength of the penalty, in [0, inf); 0 is least squares.
    <shared>

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
    intercept_ : float
    <attributes>

    Examples
    --------
    >>> import numpy as np
    >>> from numbaopt.linear_model import LinearRegression
    >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [3.0, 5.0]])
    >>> model = LinearRegression().fit(X, X @ [1.0, -2.0] + 3.0)
    >>> model.coef_.round(4), round(float(model.intercept_), 4)
    (array([ 1., -2.]), 3.0)
    """

    alpha: float = 0.0

    def _train(self, X, y, targets, weights, warm, partial=False):
        complaint = super()._train(X, y, targets, weights, warm, partial)
        if self.alpha == 0 and not self._stochastic:
            rows = X if weights is None or weights.all() else X[weights > 0]
            self.coef_, self.intercept_ = least_norm(rows, self.coef_, self.intercept_, self.fit_intercept)
        return complaint


@estimator
class PoissonRegressor(LinearRegressor):
    r"""Regression of counts: their means are :math:`e^{x^\top w + b}`.

    .. math:: \min_{w, b} \; \frac1n \sum_i \big( e^{z_i} - y_i z_i \big)
        + \alpha \Big( \frac{1 - \rho}{2} \|w\|_2^2 + \rho \|w\|_1 \Big),
        \qquad z_i = x_i^\top w + b, \quad \rho = \mathtt{l1\_ratio}

    With ``l1_ratio=0`` this is scikit-learn's ``PoissonRegressor(alpha)``.

    Parameters
    ----------
    alpha : float
        Strength of the penalty, in [0, inf).
    <shared>

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
    intercept_ : float
    <attributes>

    Examples
    --------
    >>> import numpy as np
    >>> from numbaopt.linear_model import PoissonRegressor
    >>> X = np.arange(6.0)[:, None]
    >>> model = PoissonRegressor(alpha=0).fit(X, [1, 1, 3, 4, 9, 14])
    >>> model.predict([[6.0]]).round(1)
    array([25.6])
    """

    alpha: float = 1.0
    loss: ClassVar[Any] = "poisson"

    def score(self, X, y, sample_weight=None):
        """Share of the deviance that is explained.

        .. math:: D^2 = 1 - \\frac{D(y, \\hat y)}{D(y, \\bar y)}

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional

        Returns
        -------
        d2 : float
            1 at best.
        """
        return d2_tweedie_score(y, self.predict(X), sample_weight=sample_weight, power=1)

    def _mean(self, z: np.ndarray) -> np.ndarray:
        return np.exp(z)

    def _score(self, y: np.ndarray, z: np.ndarray, weights: np.ndarray | None) -> float:
        return d2_tweedie_score(y, self._mean(z), sample_weight=weights, power=1)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = True
        return tags


@estimator
class SGDRegressor(LinearRegressor):
    r"""Regression with any loss, trained by minibatches with any rule.

    .. math:: \min_{w, b} \; \frac1n \sum_i \ell(x_i^\top w + b, y_i)
        + \alpha \Big( \frac{1 - \rho}{2} \|w\|_2^2 + \rho \|w\|_1 \Big),
        \qquad \rho = \mathtt{l1\_ratio}

    The objective is that of scikit-learn's ``SGDRegressor(alpha, l1_ratio)``, whose ``loss="squared_error"`` is
    ``"squared"`` here.  Each step uses ``batch_size`` rows, each epoch ends with a look at the whole objective.

    Parameters
    ----------
    loss : str or loss
        A name or an instance from `numbaopt.losses`: "squared", "huber", "epsilon_insensitive", "quantile", "poisson",
        "gamma"; ``numbaopt.losses.Quantile(q=0.9)``.
    alpha : float
        Strength of the penalty, in [0, inf).
    <shared>

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
    intercept_ : float
    <attributes>

    Examples
    --------
    >>> import numpy as np
    >>> from numbaopt.linear_model import SGDRegressor
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> model = SGDRegressor(loss="huber", alpha=0, batch_size=8, random_state=0).fit(X, 3 * X[:, 0] + 1)
    >>> bool(abs(model.coef_ - 3).max() < 0.05)
    True
    """

    loss: Any = "squared"
    batch_size: int | None = 64
    tol: float | None = 1e-3

    @property
    def _loss(self) -> Any:
        loss = as_loss(self.loss)
        if "class" in loss.takes:
            raise ValueError(f"loss={self.loss!r} is for classes; use SGDClassifier")
        return loss

    def _mean(self, z: np.ndarray) -> np.ndarray:
        return np.exp(z) if as_loss(self.loss).names[0] in ("poisson", "gamma") else z

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = getattr(as_loss(self.loss), "takes", "") in ("nonnegative", "positive")
        return tags
