"""What a schedule is, and how its rates are computed ahead; the schedules themselves are in ``schedules.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core.errors import NumbaError
from numba.extending import overload

from ._fields import checked_namedtuple
from ._jit import jit, jit_inside, short_reason

SCHEDULES: dict[str, type] = {}

_RANGES = {
    "factor": "(0, 1]", "gamma": "(0, inf)", "steps": "[1, inf)", "every": "[1, inf)", "power": "[0, inf)",
    "lr_min": "[0, inf)", "lr_max": "[0, inf)", "growth": "[1, inf)", "rise": "[0, 1)", "patience": "[0, inf)",
    "cooldown": "[0, inf)", "threshold": "[0, inf)", "divide_first": "[1, inf)", "divide_last": "[1, inf)",
}  # fmt: skip


def schedule(cls: Any) -> Any:
    """Class decorator that makes a NamedTuple with ``rate(s, step, scale)`` a schedule; see `rule` for its twin."""
    if not hasattr(cls, "rate"):
        raise TypeError(f"{cls.__name__} has no 'rate': a schedule needs rate(s, step, scale)")
    cls.ranges = {**_RANGES, **getattr(cls, "ranges", {})}
    checked_namedtuple(cls)
    SCHEDULES[cls.__name__.lower()] = cls
    cls.__call__ = lambda self, step: rate(self, step, 1.0)
    return cls


def rate(lr, step, scale):
    """The rate of ``lr``, a number or a schedule, after ``step`` steps; the same call in Python and in ``@njit``."""
    if hasattr(type(lr), "rate"):
        return type(lr).rate(lr, step, scale)
    return float(lr(step)) if callable(lr) else lr


@overload(rate, jit_options={"error_model": "numpy"})
def _rate(lr, step, scale):
    if isinstance(lr, types.Number):
        return lambda lr, step, scale: lr
    if isinstance(lr, types.BaseNamedTuple) and hasattr(lr.instance_class, "rate"):
        formula = jit_inside(lr.instance_class.rate)  # a dispatcher of its own: schedules may be nested
        return lambda lr, step, scale: formula(lr, step, scale)
    return None


def _fill(lr, first, scale, out):
    for k in range(out.size):
        out[k] = rate(lr, float(first + k), scale)


_fill_compiled = jit(_fill)


def rates(lr: Any, first: int, count: int, scale: float = 1.0) -> np.ndarray:
    """The rates of ``count`` steps, the first after ``first`` steps, as a float64 vector."""
    if isinstance(lr, float):
        return np.full(count, lr)
    if getattr(type(lr), "automatic", False):  # found by the loop itself
        return np.zeros(count)
    out = np.empty(count)
    try:
        (_fill_compiled if _compiles(lr) else _fill)(lr, first, scale, out)
    except NumbaError as error:
        raise TypeError(f"lr: {type(lr).__name__}.rate cannot be compiled by Numba: {short_reason(error)}; it must "
                        "return a number") from None  # fmt: skip
    if not np.all(np.isfinite(out) & (out >= 0)):
        bad = int(np.argmin(np.isfinite(out) & (out >= 0)))
        raise ValueError(f"lr: the schedule gives {out[bad]} at step {first + bad}; a rate must be in [0, inf)")
    return out


def _compiles(lr: Any) -> bool:
    return isinstance(lr, float) or (hasattr(type(lr), "rate") and all(map(_compiles_field, lr)))


def _compiles_field(value: Any) -> bool:
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return bool(value) and all(map(_compiles_field, value))
    return isinstance(value, (bool, float)) or _compiles(value)
