"""Losses of linear models: value and slope of one row, as functions of its margin ``z`` and target ``y``.

A loss is a class with three static functions.  ``value`` and ``slope`` are scalar and compiled into the row loops;
``slope`` keeps the dtype of ``z`` and therefore holds no literals.  ``targets`` is Python and turns the user's ``y``
into what the formulas expect.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._fields import nearest

LOSSES: dict[str, type] = {}


def loss(cls: type) -> type:
    """Class decorator that makes a loss known by its lower-case name."""
    LOSSES[cls.__name__.lower()] = cls
    return cls


@loss
class Squared:
    r""":math:`\tfrac12 (z - y)^2`."""

    @staticmethod
    def value(z, y):
        return 0.5 * (z - y) * (z - y)

    @staticmethod
    def slope(z, y):
        return z - y

    @staticmethod
    def targets(y: np.ndarray) -> np.ndarray:
        return numeric(y)


@loss
class Logistic:
    r""":math:`\log(1 + e^{-yz})` with :math:`y = \pm 1`, without overflow for any margin."""

    @staticmethod
    def value(z, y):
        m = np.float64(y * z)
        return max(-m, 0.0) + math.log1p(math.exp(-abs(m)))

    @staticmethod
    def slope(z, y):
        return -y / (y * y + math.exp(y * z))  # y * y is 1 in the dtype of z

    @staticmethod
    def targets(y: np.ndarray) -> np.ndarray:
        classes = np.unique(y)
        if classes.size == 1:
            raise ValueError(
                "This solver needs samples of at least 2 classes in the data, but the data contains only one class: "
                f"{classes[0]!r}"
            )
        if classes.size > 2:
            kind = "continuous" if y.dtype.kind == "f" and np.any(y != np.round(y)) else "multiclass"
            raise ValueError(f"Unknown label type: {kind}. loss='logistic' takes two classes, y has {classes.size}")
        return np.where(y == classes[1], 1.0, -1.0)


def numeric(y: np.ndarray) -> np.ndarray:
    """``y`` as numbers, or a ValueError."""
    try:
        return np.asarray(y, np.float32 if y.dtype == np.float32 else np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"y must be numeric, not of dtype {y.dtype}") from None


def as_loss(name: Any) -> type:
    """The loss of a name in any case, or a class like those above."""
    if isinstance(name, type) and all(hasattr(name, part) for part in ("value", "slope", "targets")):
        return name
    if not isinstance(name, str) or name.lower() not in LOSSES:
        raise ValueError(f"loss={name!r} is not known; {nearest(str(name), LOSSES)}")
    return LOSSES[name.lower()]
