"""What a loss's targets may be, in scikit-learn's words, and how they are written as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

Targets = tuple[np.ndarray, np.ndarray | None]  # as numbers; the classes, sorted, where there are any


def numeric(y: np.ndarray, name: str) -> Targets:
    """Any finite numbers."""
    try:
        numbers = np.asarray(y, np.float32 if y.dtype == np.float32 else np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"y must be numeric, not of dtype {y.dtype}") from None
    if np.any(np.isnan(numbers)):
        raise ValueError("Input y contains NaN.")
    return numbers, None


def nonnegative(y: np.ndarray, name: str) -> Targets:
    """Counts."""
    numbers, _ = numeric(y, name)
    if np.any(numbers < 0):
        raise ValueError(f"Some value(s) of y are out of the valid range of the loss {name!r}: {numbers.min():g} < 0")
    return numbers, None


def positive(y: np.ndarray, name: str) -> Targets:
    """Amounts."""
    numbers, _ = numeric(y, name)
    if np.any(numbers <= 0):
        raise ValueError(f"Some value(s) of y are out of the valid range of the loss {name!r}: {numbers.min():g} <= 0")
    return numbers, None


def two_classes(y: np.ndarray, name: str, classes: Any = None) -> Targets:
    """Labels of any kind as -1 and 1; the class that sorts last is positive."""
    found, index = _classes_of(y, classes)
    if found.size > 2:
        raise ValueError(f"Unknown label type: multiclass. loss={name!r} takes two classes, y has {found.size}")
    return 2.0 * index - 1.0, found


def classes(y: np.ndarray, name: str, classes: Any = None) -> Targets:
    """Labels of any kind as 0, 1, 2, ..."""
    found, index = _classes_of(y, classes)
    return index.astype(float), found


def _classes_of(y: np.ndarray, told: Any) -> tuple[np.ndarray, np.ndarray]:
    if told is not None:
        told = np.asarray(told)
        if told.ndim != 1 or told.size < 2 or np.any(told[1:] <= told[:-1]):
            raise ValueError(f"classes must be at least 2, sorted, none twice; got {told.tolist()!r}")
        index = (y == told[1]).astype(np.intp) if told.size == 2 else np.searchsorted(told, y).clip(max=told.size - 1)
        if np.any(told[index] != y):
            raise ValueError(f"y contains previously unseen labels: {np.unique(y[told[index] != y])[:3]!r}")
        return told, index
    found, index = np.unique(y, return_inverse=True)
    if found.size == 1:
        raise ValueError(
            "This solver needs samples of at least 2 classes in the data, but the data contains only one class: "
            f"{found.tolist()[0]!r}"
        )
    if y.dtype.kind == "f" and np.any(y != np.round(y)):
        raise ValueError(f"Unknown label type: continuous. Maybe you are trying to fit a classifier, y has "
                         f"{found.size} different values")  # fmt: skip
    return found, index


TAKES = {"numbers": numeric, "nonnegative": nonnegative, "positive": positive, "two classes": two_classes,
         "classes": classes}  # fmt: skip
