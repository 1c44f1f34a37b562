"""What all estimators do: checks at the door, training, warm starts, going on."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import _fit_context, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from .._warnings import warn_user
from ..problems.linear_model import LinearModel
from ..problems.validation import check_structure, check_weights
from ._parameters import Parameters, estimator
from ._training import train

FLOATS = (np.float64, np.float32)


@estimator
class LinearEstimator(Parameters):
    """Base of all linear models: a subclass is its loss, its defaults and what it predicts."""

    loss: ClassVar[Any] = "squared"

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Train on a table of data.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            float32 data are trained in float32, all others in float64.
        y : array of shape (n_samples,)
            Targets.
        sample_weight : array of shape (n_samples,), optional
            Not negative, not all zero.  Only their ratios matter: a weight of 2 equals a row twice.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If parameters or data are not usable; the sentence names what.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            If training diverges (the best finite coefficients are kept), or ends short of ``tol``.
        """
        X, y = self._check(X, y, reset=True)
        self._learn_classes(y)
        targets, weights = self._targets(y), self._weights(sample_weight, y)
        if weights is not None:
            weights *= len(y) / weights.sum()
        self._complain(self._train(X, y, targets, weights, warm=self.warm_start and hasattr(self, "coef_")))
        return self

    def _go_on(self, X: Any, y: np.ndarray, sample_weight: Any) -> str:
        """One epoch over a part of the data, from where the last one stood."""
        weights = self._weights(sample_weight, y)
        return self._train(X, y, self._targets(y), weights, warm=hasattr(self, "coef_"), partial=True)

    def _complain(self, text: str) -> None:
        if text:
            warn_user(f"{type(self).__name__}: {text}", ConvergenceWarning)

    def _check(self, X: Any, y: Any, reset: bool) -> tuple[Any, np.ndarray]:
        check_structure(X)
        dtype = FLOATS if reset else self.coef_.dtype
        return validate_data(self, X, y, reset=reset, dtype=dtype, order="C", accept_sparse="csr",
                             y_numeric=not is_classifier(self))  # fmt: skip

    def _weights(self, sample_weight: Any, y: np.ndarray) -> np.ndarray | None:
        """A new array of weights, or None where all are one."""
        return None if sample_weight is None else check_weights(sample_weight, len(y)).astype(float)

    def _train(self, X: Any, y: np.ndarray, targets: list[np.ndarray], weights: np.ndarray | None, warm: bool,
               partial: bool = False) -> str:  # fmt: skip
        """Train one model for each of the ``targets``; if ``warm``, from the former coefficients.

        Returns what the user must know, or an empty string.
        """
        rng, kept, held = check_random_state(self.random_state), None, None
        if self.early_stopping and not partial:
            kept, held = train_test_split(np.arange(len(y)), test_size=self.validation_fraction, random_state=rng,
                                          stratify=y if is_classifier(self) else None)  # fmt: skip
        seed, trained = int(rng.randint(np.iinfo(np.int32).max)), []
        for output, target in enumerate(targets):
            table = X, target, weights
            model = self._model(*_rows(table, kept))
            score = None if held is None else self._scorer(*_rows(table, held))
            start, stand = (self._start(model, output), self._stands[output]) if warm else (None, None)
            trained.append(train(self, model, start, stand, seed, output, score, partial))
        self._keep([one.solution for one in trained])
        self._stands: list[Any] = [one.stand for one in trained]
        rows = np.concatenate([one.rows for one in trained])
        before = self.history_ if partial and warm else rows[:0]
        for name in ("epoch", "seconds"):
            rows[name] += before[name].max(initial=0)
        self.history_: np.recarray = np.concatenate([before, rows]).view(np.recarray)
        self.n_iter_ = int(self.history_.epoch.max())
        return next((one.complaint for one in trained if one.complaint), "")

    def _start(self, model: LinearModel, output: int) -> np.ndarray:
        """The former coefficients, as unknowns."""
        coef, intercept = self._former(output)
        if np.size(coef) != model.n_penalised:
            raise ValueError(f"warm_start=True: coef_ has {np.size(coef)} coefficients, the new data ask for "
                             f"{model.n_outputs} times {model.n_features}")  # fmt: skip
        return model.join(coef, intercept)

    @property
    def _strength(self) -> float:
        """Of the penalty in the training objective."""
        return float(self.alpha)

    def _model(self, X: Any, y: np.ndarray, weights: np.ndarray | None, **more: Any) -> LinearModel:
        """The training objective."""
        alpha = self._strength
        return LinearModel(X, y, loss=self._loss, l1=alpha * self.l1_ratio, l2=alpha * (1 - self.l1_ratio),
                           fit_intercept=self.fit_intercept, sample_weight=weights, **more)  # fmt: skip

    def _scorer(self, X: Any, y: np.ndarray, weights: np.ndarray | None) -> Any:
        """The score of coefficients and intercept on held-out data, as a function."""
        return lambda coef, intercept: float(self._score(y, X @ coef.T + intercept, weights))

    @property
    def _loss(self) -> Any:
        """What `LinearModel` is told."""
        return self.loss

    def _margins(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        check_structure(X)
        X = validate_data(self, X, reset=False, dtype=FLOATS, accept_sparse="csr")
        return X @ self.coef_.T + self.intercept_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def can_go_on(estimator: Any) -> bool:
    """Whether there is a ``partial_fit``; an AttributeError says why not."""
    if estimator._stochastic:
        return True
    raise AttributeError("partial_fit trains by minibatches: name an optimizer or a batch_size")


def _rows(table: tuple, rows: np.ndarray | None) -> tuple:
    return table if rows is None else tuple(None if part is None else part[rows] for part in table)
