"""Classifiers: their losses, defaults, predictions and probabilities."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit, log_expit, logsumexp, softmax
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets

from ..losses import as_loss
from ..problems.linear_model import LinearModel
from ._base import LinearEstimator, can_go_on
from ._parameters import estimator


@estimator
class LinearClassifier(ClassifierMixin, LinearEstimator):
    """Base of all classifiers."""

    class_weight: Any = None

    _parameter_constraints: ClassVar[dict] = {
        **LinearEstimator._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    @available_if(can_go_on)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train for one epoch on a part of the data, going on exactly where the last call stood.

        Without shuffling, calls on consecutive parts, whose lengths are multiples of ``batch_size``, equal one epoch of
        ``fit`` on the whole, bit for bit.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
        y : array of shape (n_samples,)
        classes : array of shape (n_classes,)
            All labels that will ever occur; needed in the first call.
        sample_weight : array of shape (n_samples,), optional
            Not negative, not all zero; taken as they are: what counts as 1 must be known from elsewhere.

        Returns
        -------
        self
        """
        first = not hasattr(self, "coef_")
        if self.class_weight == "balanced":
            raise ValueError("class_weight='balanced' needs all of y; give partial_fit a dict, such as that of "
                             "sklearn.utils.class_weight.compute_class_weight")  # fmt: skip
        if first and classes is None:
            raise ValueError("classes must be given in the first call of partial_fit")
        if not first and classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            raise ValueError(f"classes={classes!r} are not those of the first call, {self.classes_!r}")
        X, y = self._check(X, y, reset=first)
        check_classification_targets(y)
        if first:
            self.classes_ = np.unique(classes)
        unseen = np.setdiff1d(y, self.classes_)
        if unseen.size:
            raise ValueError(f"y contains the labels {unseen!r}, which are not among the classes {self.classes_!r}")
        self._complain(self._go_on(X, y, sample_weight))
        return self

    def decision_function(self, X):
        """Margins: positive on the side of the class, growing with the distance to where it ends.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        z : array of shape (n_samples,) for two classes, else (n_samples, n_classes)
        """
        z = self._margins(X)
        return z[:, 0] if z.shape[1] == 1 else z

    def predict(self, X):
        """Predict labels.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        y : array of shape (n_samples,)
        """
        z = self.decision_function(X)
        return self.classes_[(z > 0).astype(int) if z.ndim == 1 else z.argmax(axis=1)]

    @property
    def _together(self) -> bool:
        """Whether one model tells all classes apart, not one model a class."""
        return len(self.classes_) > 2 and as_loss(self.loss).takes == "classes"

    @property
    def _loss(self) -> Any:
        loss = as_loss(self.loss)
        return as_loss("logistic") if loss.takes == "classes" and not self._together else loss

    def _model(self, X: Any, y: np.ndarray, weights: np.ndarray | None, **more: Any) -> LinearModel:
        if "class" in self._loss.takes:
            more["classes"] = np.arange(len(self.classes_)) if self._together else np.array([-1.0, 1.0])
        return super()._model(X, y, weights, **more)

    def _learn_classes(self, y: np.ndarray) -> None:
        check_classification_targets(y)
        self.classes_ = np.unique(y)

    def _targets(self, y: np.ndarray) -> list[np.ndarray]:
        codes = np.searchsorted(self.classes_, y)
        if self._together:
            return [codes]
        positive = range(len(self.classes_)) if len(self.classes_) > 2 else (1,)
        return [np.where(codes == k, 1.0, -1.0) for k in positive]

    def _weights(self, sample_weight: Any, y: np.ndarray) -> np.ndarray | None:
        codes, weights = np.searchsorted(self.classes_, y), super()._weights(sample_weight, y)
        if self.class_weight is None:
            return weights
        weights = np.ones(len(y)) if weights is None else weights
        if self.class_weight == "balanced":
            totals = np.bincount(codes, weights, minlength=len(self.classes_))
            factors = np.divide(1.0, totals, where=totals > 0, out=np.zeros_like(totals))
        else:
            factors = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[codes])
        return weights * factors[codes]

    def _train(self, X, y, targets, weights, warm, partial=False):
        present = np.unique(y if weights is None else y[weights > 0])
        if len(present) < 2 and not partial:
            raise ValueError("This solver needs samples of at least 2 classes in the data, but the data contains only "
                             f"one class: {present[0]!r}")  # fmt: skip
        return super()._train(X, y, targets, weights, warm, partial)

    def _keep(self, solutions: list) -> None:
        coefs, intercepts = zip(*solutions, strict=True)
        self.coef_, self.intercept_ = np.vstack(coefs), np.hstack(intercepts)

    def _former(self, output: int) -> tuple:
        return (self.coef_, self.intercept_) if self._together else (self.coef_[output], self.intercept_[output])

    def _score(self, y: np.ndarray, z: np.ndarray, weights: np.ndarray | None) -> float:
        right = (z > 0) == (y > 0) if z.ndim == 1 else z.argmax(axis=1) == y
        return float(np.average(right, weights=weights))


def _has_probabilities(classifier: Any) -> bool:
    loss = as_loss(classifier.loss).names[0]
    if loss in ("logistic", "multinomial"):
        return True
    raise AttributeError(f"loss={loss!r} is no model of probabilities; 'logistic' and 'multinomial' are")


@estimator
class ProbabilityClassifier(LinearClassifier):
    """Base of classifiers whose loss may be a model of probabilities."""

    @available_if(_has_probabilities)
    def predict_proba(self, X):
        """Predict the probability of each class.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        p : array of shape (n_samples, n_classes)
            In the order of ``classes_``.  Where each class has its own model, their probabilities are scaled to a sum
            of 1.
        """
        z = self.decision_function(X)
        if z.ndim == 1:
            return np.column_stack([expit(-z), expit(z)])
        return softmax(z, axis=1) if self._together else np.exp(self._log_shares(z))

    @available_if(_has_probabilities)
    def predict_log_proba(self, X):
        """Predict the logarithm of the probability of each class, without underflow.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        log_p : array of shape (n_samples, n_classes)
        """
        z = self.decision_function(X)
        return np.column_stack([log_expit(-z), log_expit(z)]) if z.ndim == 1 else self._log_shares(z)

    def _log_shares(self, z: np.ndarray) -> np.ndarray:
        log_p = z if self._together else log_expit(z)
        return log_p - logsumexp(log_p, axis=1, keepdims=True)


@estimator
class LogisticRegression(ProbabilityClassifier):
    r"""Logistic regression of two or more classes.

    .. math:: \min_{w, b} \; \frac{1}{\sum_i s_i} \sum_i s_i \log \sum_k e^{z_{ik} - z_{i y_i}}
        + \alpha \Big( \frac{1 - \rho}{2} \|w\|_2^2 + \rho \|w\|_1 \Big),
        \qquad z_{ik} = x_i^\top w_k + b_k, \quad \rho = \mathtt{l1\_ratio}

    where :math:`s_i` is the product of sample and class weight.  Two classes have one row of coefficients,
    :math:`w_1 - w_0`, which is what is penalised.  This is scikit-learn's ``LogisticRegression(C, l1_ratio)`` for
    :math:`C = 1 / (\alpha \sum_i s_i)`; without weights, ``C = 1 / (alpha * n_samples)``.

    Parameters
    ----------
    alpha : float
        Strength of the penalty, in [0, inf).
    <shared>
    <class_weight>

    Attributes
    ----------
    coef_ : ndarray of shape (n_classes, n_features), or (1, n_features) for two classes
    intercept_ : ndarray of shape (n_classes,) or (1,)
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    <attributes>

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from numbaopt.linear_model import LogisticRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(alpha=1 / 150).fit(X, y)
    >>> model.predict_proba(X[:1]).round(2)
    array([[0.98, 0.02, 0.  ]])
    """

    loss: ClassVar[Any] = "multinomial"


@estimator
class LinearSVC(LinearClassifier):
    r"""A support vector machine with linear kernel and squared hinge loss; for several classes, one against the rest.

    .. math:: \min_{w, b} \; \frac{1}{\sum_i s_i} \sum_i s_i \max(0, 1 - y_i (x_i^\top w + b))^2
        + \alpha \Big( \frac{1 - \rho}{2} \|w\|_2^2 + \rho \|w\|_1 + \frac{b^2}{2 c^2} \Big), \qquad y_i = \pm 1

    with :math:`\rho` = ``l1_ratio``, :math:`c` = ``intercept_scaling`` and :math:`s_i` the product of sample and class
    weight.  With ``l1_ratio=0`` this is scikit-learn's ``LinearSVC(C, intercept_scaling)`` for
    :math:`C = 1 / (\alpha \sum_i s_i)`, which penalises the intercept too; without weights,
    ``C = 1 / (alpha * n_samples)``.  For the hinge loss itself take ``SGDClassifier(loss="hinge")``.

    Parameters
    ----------
    alpha : float
        Strength of the penalty, in [0, inf).
    intercept_scaling : float
        The larger, the less the intercept is penalised; in (0, inf].
    <shared>
    <class_weight>

    Attributes
    ----------
    coef_ : ndarray of shape (n_classes, n_features), or (1, n_features) for two classes
    intercept_ : ndarray of shape (n_classes,) or (1,)
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    <attributes>

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from numbaopt.linear_model import LinearSVC
    >>> X, y = load_iris(return_X_y=True)
    >>> LinearSVC(alpha=1e-3).fit(X, y == 2).predict(X[:2])
    array([False, False])
    """

    intercept_scaling: float = 1.0

    loss: ClassVar[Any] = "squared_hinge"
    _parameter_constraints: ClassVar[dict] = {
        **LinearClassifier._parameter_constraints,
        "intercept_scaling": [Interval(Real, 0, None, closed="neither")],
    }

    def _model(self, X: Any, y: np.ndarray, weights: np.ndarray | None, **more: Any) -> LinearModel:
        return super()._model(X, y, weights, intercept_l2=self.alpha / self.intercept_scaling**2, **more)


@estimator
class SGDClassifier(ProbabilityClassifier):
    r"""Classification with any loss, trained by minibatches with any rule.

    .. math:: \min_{w, b} \; \frac{1}{\sum_i s_i} \sum_i s_i\, \ell(x_i^\top w + b, y_i)
        + \alpha \Big( \frac{1 - \rho}{2} \|w\|_2^2 + \rho \|w\|_1 \Big),
        \qquad \rho = \mathtt{l1\_ratio}

    where :math:`s_i` is the product of sample and class weight.  The objective is that of scikit-learn's
    ``SGDClassifier(alpha, l1_ratio)``, whose ``loss="log_loss"`` is ``"logistic"`` here.  Three or more classes have a
    model each, that tells them from the rest; ``loss="multinomial"`` is one model for all.  Each step uses
    ``batch_size`` rows, each epoch ends with a look at the whole objective.

    Parameters
    ----------
    loss : str or loss
        A name or an instance from `numbaopt.losses`: "hinge", "squared_hinge", "logistic", "multinomial"; losses of
        numbers take the classes as -1 and 1.
    alpha : float
        Strength of the penalty, in [0, inf).
    <shared>
    <class_weight>

    Attributes
    ----------
    coef_ : ndarray of shape (n_classes, n_features), or (1, n_features) for two classes
    intercept_ : ndarray of shape (n_classes,) or (1,)
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    <attributes>

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from numbaopt.linear_model import SGDClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = SGDClassifier(loss="multinomial", batch_size=16, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.95
    True
    >>> model.history_.loss[[0, -1]].round(1)
    array([1.1, 0.1])
    """

    loss: Any = "hinge"
    batch_size: int | None = 64
    tol: float | None = 1e-3
