"""Checks of a table of data at the door, in scikit-learn's words and without importing it."""

from __future__ import annotations

from typing import Any

import numpy as np

PIECE = 1 << 18  # stored values whose order is looked at in one go


def check_finite(array: np.ndarray, name: str) -> None:
    """Refuse NaN and infinity."""
    if array.dtype.kind != "f" or not array.size or np.isfinite(np.add.reduce(array, axis=None)):
        return
    if np.isnan(array).any():
        raise ValueError(f"Input {name} contains NaN.")
    if np.isinf(array).any():
        raise ValueError(f"Input {name} contains infinity or a value too large for dtype({str(array.dtype)!r}).")


def check_matrix(X: Any) -> Any:
    """``X`` as a 2-D float array or a CSR matrix, finite and well-formed; data are converted only where needed."""
    if hasattr(X, "tocsr"):
        return _check_csr(X)
    X = _floating(np.asarray(X), "X")
    if X.ndim != 2:
        shown = f"scalar array={X}" if X.ndim == 0 else f"{X.ndim}D array"
        raise ValueError(
            f"Expected 2D array, got {shown} instead. Reshape your data either using array.reshape(-1, 1) if your data "
            "has a single feature or array.reshape(1, -1) if it contains a single sample."
        )
    _check_shape(X.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        check_finite(X, "X")
    return X


def _check_csr(X: Any) -> Any:
    if X.ndim != 2:
        raise ValueError(f"Expected 2D array, got {X.ndim}D array instead.")
    check_structure(X)
    X = X.tocsr()
    if not rising(X.indices[: X.indptr[-1]], X.indptr):  # SciPy's own flag may be out of date
        X = type(X)((X.data, X.indices, X.indptr), shape=X.shape, copy=True)
        X.sum_duplicates()
    if X.dtype not in (np.float32, np.float64):
        X = X.astype(np.float64)
    _check_shape(X.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        check_finite(X.data, "X")
    return X


def rising(columns: np.ndarray, starts: np.ndarray) -> bool:
    """Whether the columns of every sparse row rise, none twice."""
    for first in range(0, columns.size, PIECE):
        piece = columns[first : first + PIECE + 1]
        falls = np.flatnonzero(piece[1:] <= piece[:-1]) + first + 1  # only where a row begins
        if np.any(starts[np.searchsorted(starts, falls)] != falls):
            return False
    return True


def check_structure(X: Any) -> None:
    """Refuse compressed sparse data whose indices point outside; pass all else."""
    if getattr(X, "format", None) not in ("csr", "csc") or X.ndim != 2:
        return
    rows, columns = X.shape if X.format == "csr" else X.shape[::-1]
    starts = X.indptr
    if len(starts) != rows + 1 or starts[0] != 0 or np.any(np.diff(starts) < 0):
        raise ValueError(f"X is malformed: indptr must rise from 0 and have {rows + 1} entries")
    if starts[-1] > min(len(X.indices), len(X.data)):
        raise ValueError(f"X is malformed: indptr ends at {starts[-1]}, beyond the {len(X.data)} stored values")
    used = X.indices[: starts[-1]]
    if used.size and (used.min() < 0 or used.max() >= columns):
        what = "column" if X.format == "csr" else "row"
        raise ValueError(f"X is malformed: a {what} index is outside [0, {columns})")


def _check_shape(shape: tuple[int, ...]) -> None:
    for count, what in zip(shape, ("sample", "feature"), strict=True):
        if count < 1:
            raise ValueError(f"Found array with 0 {what}(s) (shape={shape}) while a minimum of 1 is required.")


def _floating(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype in (np.float32, np.float64) and array.dtype.isnative:
        return array
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} has dtype {array.dtype}")
    try:
        return np.asarray(array, np.float32 if array.dtype.kind == "f" and array.itemsize <= 4 else np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be numeric, not of dtype {array.dtype}{_where_not(array)}") from None


def _where_not(array: np.ndarray) -> str:
    """The first column with something that is no number, and what that is."""
    for place, value in np.ndenumerate(array.astype(object)):
        try:
            float(value)
        except (TypeError, ValueError):
            return f" ({'column' if array.ndim == 2 else 'entry'} {place[-1]} has {value!r})"
    return ""


def check_target(y: Any, rows: int, name: str = "y") -> np.ndarray:
    """``y`` as a finite 1-D array of ``rows`` entries; a single column is flattened."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise ValueError(f"{name} should be a 1d array, got an array of shape {y.shape} instead.")
    if y.shape[0] != rows:
        raise ValueError(f"Found input variables with inconsistent numbers of samples: [{rows}, {y.shape[0]}]")
    if y.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} has dtype {y.dtype}")
    if y.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            check_finite(y, name)
    return y


def check_weights(sample_weight: Any, rows: int) -> np.ndarray:
    """Non-negative weights, not all of them zero; an empty array stands for none."""
    if sample_weight is None:
        return np.zeros(0)
    weights = _floating(check_target(sample_weight, rows, "sample_weight"), "sample_weight")
    check_finite(weights, "sample_weight")
    if np.any(weights < 0):
        raise ValueError(f"sample_weight must not be negative; the smallest is {weights.min()}")
    if not np.any(weights > 0):
        raise ValueError("sample_weight must not be all zero")
    return weights
