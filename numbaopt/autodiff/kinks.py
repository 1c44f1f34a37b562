"""Rules of functions with kinks or jumps, and which of the derivatives around one they take there.

At kinks: the derivative of ``abs`` at 0 is 0; of equal arguments, ``np.maximum`` and ``np.minimum`` take half each,
``max`` and ``min`` the one that they return, and so does ``np.clip``: at a bound, its first argument.
Functions that are constant between jumps (``floor``, ``round``, ``sign``, ...) have derivative 0, at jumps too.
"""

from __future__ import annotations

import math
import operator

import numpy as np

from .rules import Rule, rule


@rule(abs, math.fabs, np.abs, np.fabs)
def _(x):
    return abs(x), (1.0 if x > 0.0 else (-1.0 if x < 0.0 else 0.0))


@rule(np.floor, flat=True)
def _(x):
    return np.floor(x), 0.0


@rule(np.ceil, flat=True)
def _(x):
    return np.ceil(x), 0.0


@rule(np.trunc, flat=True)
def _(x):
    return np.trunc(x), 0.0


@rule(np.rint, flat=True)
def _(x):
    return np.rint(x), 0.0


@rule(np.sign, flat=True)
def _(x):
    return np.sign(x), 0.0


@rule(operator.floordiv, operator.ifloordiv, np.floor_divide, flat=True)
def _(a, b):
    return a // b, 0.0, 0.0


@rule(operator.mod, operator.imod, np.remainder)
def _(a, b):
    v = a % b
    return v, 1.0, -np.rint((a - v) / b)


@rule(np.fmod)
def _(a, b):
    v = np.fmod(a, b)
    return v, 1.0, -np.rint((a - v) / b)


@rule(np.maximum, careful="chooses")
def _(a, b):
    return np.maximum(a, b), (1.0 if a > b else (0.5 if a == b else 0.0)), (1.0 if b > a else (0.5 if a == b else 0.0))


@rule(np.minimum, careful="chooses")
def _(a, b):
    return np.minimum(a, b), (1.0 if a < b else (0.5 if a == b else 0.0)), (1.0 if b < a else (0.5 if a == b else 0.0))


@rule(np.fmax, careful="chooses")
def _(a, b):
    first, second = a > b or b != b, b > a or a != a
    return np.fmax(a, b), (1.0 if first else (0.5 if a == b else 0.0)), (1.0 if second else (0.5 if a == b else 0.0))


@rule(np.fmin, careful="chooses")
def _(a, b):
    first, second = a < b or b != b, b < a or a != a
    return np.fmin(a, b), (1.0 if first else (0.5 if a == b else 0.0)), (1.0 if second else (0.5 if a == b else 0.0))


@rule(max, careful="chooses")
def _(a, b):  # the chosen one, as a branch would
    return (b, 0.0, 1.0) if b > a else (a, 1.0, 0.0)


@rule(min, careful="chooses")
def _(a, b):
    return (b, 0.0, 1.0) if b < a else (a, 1.0, 0.0)


@rule(math.copysign, np.copysign)
def _(a, b):
    return math.copysign(a, b), math.copysign(1.0, a) * math.copysign(1.0, b), 0.0


@rule(np.nextafter)
def _(a, b):
    return np.nextafter(a, b), 1.0, 0.0


@rule(np.spacing, flat=True)
def _(x):
    return np.spacing(x), 0.0


def _clipped(a, low, high):
    if a < low:
        return (high, 0.0, 0.0, 1.0) if low > high else (low, 0.0, 1.0, 0.0)
    return (high, 0.0, 0.0, 1.0) if a > high else (a, 1.0, 0.0, 0.0)


def _rounded(a, decimals):
    return np.round(a, int(decimals)), 0.0, 0.0


def _replaced(a, nan, positive, negative):
    if a != a:
        return nan, 0.0, 1.0, 0.0, 0.0
    if a == math.inf:
        return positive, 0.0, 0.0, 1.0, 0.0
    return (negative, 0.0, 0.0, 0.0, 1.0) if a == -math.inf else (a, 1.0, 0.0, 0.0, 0.0)


def _chosen(condition, a, b):
    return (a, 0.0, 1.0, 0.0) if condition != 0.0 else (b, 0.0, 0.0, 1.0)


CLIP = Rule(_clipped, 3, "chooses", False)
ROUND = Rule(_rounded, 2, False, True)
REPLACE = Rule(_replaced, 4, "chooses", False)
SELECT = Rule(_chosen, 3, "chooses", False)
