"""Which of many least-squares solutions is meant, where the columns depend on each other."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import lstsq
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator, lsqr

MOST_COLUMNS = 1000  # whose dependence is looked for: it takes rows times columns squared
ROWS = 4096  # at a time
LARGE = 1e100  # numbers beyond are scaled, lest squares overflow


def least_norm(X: Any, coef: np.ndarray, intercept: Any, fit_intercept: bool) -> tuple[np.ndarray, Any]:
    """Of all coefficients and intercepts that predict the same on X, those whose coefficients have the least norm.

    With more rows than columns and more than 1000 columns, these are taken to be independent.
    """
    center = np.asarray(X.mean(axis=0, dtype=float)).ravel() if fit_intercept else np.zeros(X.shape[1])
    if _independent(X, center):
        return coef, intercept
    if issparse(X):
        centred = LinearOperator(X.shape, lambda v: X @ v - center @ v, lambda v: X.T @ v - center * v.sum(),
                                 dtype=float)  # fmt: skip
        least = lsqr(centred, centred @ coef.astype(float), atol=1e-12, btol=1e-12)[0]
    else:
        centred = X - center
        least = lstsq(centred, centred @ coef, cond=max(X.shape) * np.finfo(float).eps)[0]
    return least.astype(coef.dtype), intercept + coef.dtype.type(center @ (coef - least))


def _independent(X: Any, center: np.ndarray) -> bool:
    """Whether the centred columns are linearly independent: whether their correlations have full rank."""
    rows, columns = X.shape
    if rows <= columns or columns > MOST_COLUMNS:
        return rows > columns
    gram, scale = np.zeros((columns, columns)), 1.0
    if (top := float(abs(X).max())) > LARGE:
        scale = 1.0 / top
        center = center * scale
    for begin in range(0, rows, ROWS):
        part = X[begin : begin + ROWS]
        part = (part.toarray() if issparse(part) else part) * scale - center
        gram += part.T @ part
    length = np.sqrt(gram.diagonal())
    noise = 10 * columns * np.finfo(float).eps
    if np.any(length <= noise * np.sqrt(rows) * np.abs(center)):  # a constant column
        return False
    return bool(np.linalg.eigvalsh(gram / length / length[:, None])[0] > noise)
