"""Derivatives by differences in long double, and NumPy as a program sees it that the interpreter runs so.

The extended format has 64 bits of mantissa: with an extrapolated difference some 14 digits of a derivative are right.
Where the platform has none (``EPS`` tells) a few digits less.
"""

from __future__ import annotations

import math as plain_math
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

LONG = np.longdouble
EPS = float(np.finfo(LONG).eps)
STEP = EPS ** (1 / 7) / 2


class Slopes(NamedTuple):
    """What differences say of a function at a point."""

    value: float
    gradient: np.ndarray
    error: float  # how far two estimates are apart, relative to ``scale``: infinite at kinks
    scale: float


def _long(dtype: Any) -> Any:
    return LONG if dtype in (None, float, np.float64) else dtype


def _raised(a: Any) -> Any:
    return a.astype(LONG) if getattr(a, "dtype", np.dtype(int)).kind == "f" else a


def _eliminate(a: Any, b: Any) -> tuple[Any, Any]:
    """The solution of ``a y = b`` by Gaussian elimination, and the determinant."""
    a, b, determinant = a.astype(LONG), b.astype(LONG), LONG(1)
    for i in range(len(a)):
        p = i + int(np.argmax(np.abs(a[i:, i])))
        if p != i:
            a[[i, p]], b[[i, p]], determinant = a[[p, i]], b[[p, i]], -determinant
        determinant = determinant * a[i, i]
        for j in range(len(a)):
            if j != i:
                factor = a[j, i] / a[i, i]
                a[j], b[j] = a[j] - factor * a[i], b[j] - factor * b[i]
    return (b.T / np.diag(a)).T, determinant


def _cholesky(a: Any) -> Any:
    lower = np.zeros(a.shape, LONG)
    for i in range(len(a)):
        for j in range(i + 1):
            rest = a[i, j] - lower[i, :j] @ lower[j, :j]
            lower[i, j] = np.sqrt(rest) if i == j else rest / lower[j, j]
    return lower


def _linalg() -> Any:
    def determinant(a):
        return _eliminate(a, np.eye(len(a)))[1]

    return types.SimpleNamespace(
        norm=np.linalg.norm, solve=lambda a, b: _eliminate(a, b)[0], inv=lambda a: _eliminate(a, np.eye(len(a)))[0],
        det=determinant, slogdet=lambda a: (np.sign(determinant(a)), np.log(np.abs(determinant(a)))),
        cholesky=_cholesky,
    )  # fmt: skip


def _interpolated(x: Any, xp: Any, fp: Any) -> Any:
    place = np.clip(np.searchsorted(xp, x, side="right") - 1, 0, len(xp) - 2)
    inside = fp[place] + (x - xp[place]) * (fp[place + 1] - fp[place]) / (xp[place + 1] - xp[place])
    return np.where(x < xp[0], fp[0], np.where(x > xp[-1], fp[-1], inside))


def numpy() -> Any:
    """NumPy whose default dtype is long double."""
    module = types.ModuleType("numpy_in_long_double")
    module.__dict__.update({k: v for k, v in np.__dict__.items() if not k.startswith("__")})

    def shaped(make: Any) -> Any:
        return lambda shape, dtype=None: make(shape, dtype=_long(dtype))

    def raising(make: Any) -> Any:
        return lambda *args, **options: _raised(make(*args, **options))

    module.__dict__.update(
        zeros=shaped(np.zeros), ones=shaped(np.ones),
        empty=lambda shape, dtype=None: np.full(shape, np.nan, _long(dtype)),
        eye=raising(np.eye), identity=raising(np.identity), full=raising(np.full), array=raising(np.array),
        asarray=lambda a, dtype=None: a if isinstance(a, np.ndarray) else _raised(np.asarray(a, dtype)),
        linspace=raising(np.linspace), float64=LONG, diag=lambda a: np.diag(a).copy(), linalg=_linalg(),
        interp=_interpolated,
    )  # fmt: skip
    return module


def jittered() -> Any:
    """NumPy whose linear algebra rounds at random."""
    module, rng = types.ModuleType("jittered_numpy"), np.random.default_rng(0)
    module.__dict__.update({k: v for k, v in np.__dict__.items() if not k.startswith("__")})

    def rounded(function: Any) -> Any:
        def run(*args: Any) -> Any:
            made = function(*args)
            return made * (1 + 2**-51 * rng.standard_normal(np.shape(made)))

        return run

    same = {name: rounded(getattr(np.linalg, name)) for name in ("norm", "solve", "inv", "det", "cholesky")}
    module.linalg = types.SimpleNamespace(slogdet=np.linalg.slogdet, **same)  # type: ignore[attr-defined]
    return module


def math() -> Any:
    """The module math on long doubles."""
    names = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh", "acosh": "arccosh",
             "atanh": "arctanh", "atan2": "arctan2", "pow": "power"}  # fmt: skip
    same = ("sin", "cos", "tan", "sinh", "cosh", "tanh", "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt",
            "fabs", "hypot", "copysign", "degrees", "radians", "fmod")  # fmt: skip
    return types.SimpleNamespace(
        pi=plain_math.pi, floor=lambda a: int(np.floor(a)), ceil=lambda a: int(np.ceil(a)), trunc=int,
        isnan=np.isnan, isfinite=np.isfinite, **{name: getattr(np, name) for name in same},
        **{name: getattr(np, known) for name, known in names.items()},
    )  # fmt: skip


def slopes(fun: Callable[..., Any], x: np.ndarray) -> Slopes:
    """Value and gradient of ``fun`` of one vector, of which it gets a copy in long double."""

    def at(i: int, h: float) -> Any:
        moved = x.astype(LONG)
        moved[i] += LONG(h)
        return LONG(fun(moved))

    value = at(0, 0.0)
    gradient, apart, kink = np.empty(x.size), 0.0, 0.0
    for i in range(x.size):
        central, bend = [], []
        for h in (STEP, STEP / 2, STEP / 4, STEP / 8):
            ahead, behind = at(i, h), at(i, -h)
            central.append((ahead - behind) / (2 * LONG(h)))
            bend.append((ahead - 2 * value + behind) / LONG(h))
        coarse, fine = _extrapolated(central[:3]), _extrapolated(central[1:])
        gradient[i] = float(fine)
        apart, kink = max(apart, abs(float(coarse - fine))), max(kink, abs(float(2 * bend[3] - bend[2])))
    scale = 1.0 + abs(float(value)) + float(np.abs(gradient).max())
    smooth = bool(np.isfinite(value)) and apart == apart and kink < 1e-6 * scale  # NaN is not
    return Slopes(float(value), gradient, apart / scale if smooth else np.inf, scale)


def _extrapolated(d: list[Any]) -> Any:
    """From differences with steps h, h / 2, h / 4, whose errors are series in the square of the step."""
    first, second = (4 * d[1] - d[0]) / 3, (4 * d[2] - d[1]) / 3
    return (16 * second - first) / 15
