"""Chunks as models."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..losses import as_loss
from ..problems.linear_model import LinearModel
from ..problems.weight_norm import WeightNorm
from ._source import Chunk, Source


class Models:
    """The chunks of a source as linear models, all with the same classes.

    Attributes
    ----------
    model : LinearModel
        Without data: what the chunks have in common.
    wrap : callable
        Makes of a model what is trained.
    problem : LinearModel or WeightNorm
        The model, wrapped.
    """

    def __init__(self, source: Source, loss: Any, l1: float, l2: float, fit_intercept: bool, classes: Any,
                 weight_norm: bool = False):  # fmt: skip
        from scipy.sparse import csr_matrix

        loss = as_loss(loss)
        self.source, self._settings = source, {"loss": loss, "l1": l1, "l2": l2, "fit_intercept": fit_intercept}
        labels: Any = np.ones(1)
        if "classes" in loss.takes:
            labels = np.unique(source.classes() if classes is None else np.asarray(classes))
            if labels.size < 2:
                raise ValueError(f"loss={loss.names[0]!r} needs at least 2 classes, there is only {labels.tolist()}")
            self._settings["classes"] = labels
        elif classes is not None:
            raise ValueError(f"classes={classes!r}: loss={loss.names[0]!r} takes numbers, not classes")
        empty = csr_matrix((labels.size, source.n_features), dtype=source.dtype)
        self.model = LinearModel(empty, labels, **self._settings)
        self.wrap: Any = WeightNorm if weight_norm else lambda model: model
        self.problem = self.wrap(self.model)

    def read(self, chunk: int) -> Chunk | bool | None:
        """The numbers of a chunk, which may take long; None after the last one, False for a chunk without rows."""
        found = self.source.read(chunk)
        if found is None:
            return None
        X = found[0] if hasattr(found[0], "tocsr") else np.asarray(found[0])
        if X.ndim == 2 and X.shape[0] == 0:
            return False
        if X.dtype.kind in ("f" if hasattr(X, "tocsr") else "biuf"):
            with np.errstate(over="ignore"):  # what is infinite then is told of
                X = X.astype(self.model.dtype, copy=False)
        return X, *found[1:]

    def of(self, chunk: int, numbers: Chunk) -> LinearModel:
        """A chunk that was read, as a model."""
        X, y, *weight = numbers
        try:
            if X.ndim == 2 and X.shape[1] != self.model.n_features:
                raise ValueError(f"X has {X.shape[1]} features, but the stream has {self.model.n_features} features")
            return LinearModel(X, y, **self._settings, sample_weight=weight[0] if weight else None)
        except ValueError as error:
            raise ValueError(f"{self.source.where(chunk)}: {error}") from None
