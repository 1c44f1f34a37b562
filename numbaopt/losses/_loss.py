"""What a loss is: a NamedTuple of parameters whose class holds scalar functions of a row's margin and target.

``value(c, z, y)``
    The loss of a row with margin (linear predictor) ``z`` and target ``y``.
``slope(c, z, y)``
    Its derivative by z; where there is none, any subgradient.
``curvature(c, z, y)``, optional
    Its second derivative; Newton's method needs it.
``implicit_slope(c, z, y, q)``, optional
    The t with t = slope(z - q t), q > 0: the derivative of the loss's Moreau envelope, (z - prox_q(z)) / q.  Of a loss
    with a kink the t between its slopes on both sides.  Called in float64; methods that go by duality need it.
``prepare(loss)``, optional
    The numbers that the functions get as the tuple ``c``, by default the fields.  They come in the dtype of z:
    functions that take all constants from c, and write no literals, keep float32 data in float32 throughout.

Beside these a class may say what its targets are (``takes``, see ``targets.py``), that its curvature is the same
everywhere (``quadratic = True``), and a bound on its curvature (``lipschitz(loss)``), from which the incremental
gradient methods take their step.  From this follow all loops over rows, for every storage and dtype.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from .._fields import checked_namedtuple, nearest
from .targets import TAKES

LOSSES: dict[str, type] = {}


def loss(*names: Any) -> Any:
    r"""Class decorator that makes a NamedTuple with ``value`` and ``slope`` a loss of `numbaopt.LinearModel`.

    Parameters
    ----------
    *names : str
        Names for ``loss=``, in any case; the class's own name in snake case is always one.

    Examples
    --------
    The logarithm of the hyperbolic cosine:

    >>> import math
    >>> from typing import NamedTuple
    >>> import numbaopt as no
    >>> @no.losses.loss
    ... class LogCosh(NamedTuple):
    ...     scale: float = 1.0
    ...     def value(c, z, y):
    ...         return c[0] * math.log(math.cosh((z - y) / c[0]))
    ...     def slope(c, z, y):
    ...         return math.tanh((z - y) / c[0])
    >>> model = no.LinearModel([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0], loss="log_cosh")
    >>> no.minimize(model, method="nesterov", options=dict(lr=0.3)).x.round(3)
    array([2., 1.])
    """
    if len(names) == 1 and isinstance(names[0], type):
        return loss()(names[0])  # written without parentheses

    def register(cls: Any) -> Any:
        if not hasattr(cls, "_fields"):
            raise TypeError(f"{cls.__name__} must be a NamedTuple of the loss's parameters")
        for need in ("value", "slope"):
            if not hasattr(cls, need):
                raise TypeError(f"{cls.__name__} has no {need!r}: a loss needs value(c, z, y) and slope(c, z, y)")
        if getattr(cls, "takes", "numbers") not in TAKES:
            raise TypeError(f"{cls.__name__}.takes={cls.takes!r} is not known; {nearest(cls.takes, TAKES)}")
        checked_namedtuple(cls)
        cls.takes = getattr(cls, "takes", "numbers")
        if len(cls._field_defaults) == len(cls._fields):
            _check_slope(cls())
        cls.names = tuple(dict.fromkeys((snake_case(cls.__name__), *map(str.lower, names))))
        for name in cls.names:
            taken = LOSSES.get(name)
            if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ValueError(f"the name {name!r} is taken by {taken.__module__}.{taken.__qualname__}")
            LOSSES[name] = cls
        return cls

    return register


@functools.lru_cache(maxsize=256)
def _check_slope(one: Any) -> None:
    """Compare ``slope`` with differences of ``value`` at a few margins; raise unless both return numbers that agree.

    At a kink they need not: so only where they differ all around a margin.
    """
    cls = type(one)
    if getattr(cls, "many", False):
        return
    c, last = constants(one), -1.0 if cls.takes == "two classes" else 0.7331
    for z, y in ((0.3137, 1.0), (-1.7311, 1.0), (2.2773, last), (-9.371, last), (9.173, 1.0)):
        try:
            pairs = [_slopes(cls, c, z + shift, y, 1e-6 * max(1.0, abs(z))) for shift in (0.0, 0.0117, -0.0171)]
        except (ArithmeticError, ValueError):  # of these numbers only
            continue
        if all(abs(found - told) > 1e-4 * max(1.0, abs(found)) for told, found in pairs):
            told, found = pairs[0]
            raise ValueError(f"{cls.__name__}.slope is not the derivative of its value: at z={z}, y={y} it is "
                             f"{told:g}, differences give {found:g}")  # fmt: skip


def _slopes(cls: Any, c: tuple[float, ...], z: float, y: float, h: float) -> tuple[float, float]:
    """The slope at a margin, as a loss tells it and by differences."""
    told = []
    for name, margin in (("slope", z), ("value", z + h), ("value", z - h)):
        try:
            one = getattr(cls, name)(c, margin, y)
        except (ArithmeticError, ValueError):
            raise
        except Exception as error:
            raise TypeError(f"{cls.__name__}.{name} fails: {type(error).__name__}: {error}; it gets numbers, a row's "
                            "margin z and target y") from None  # fmt: skip
        if not isinstance(one, (int, float, np.number, np.bool_)):
            raise TypeError(f"{cls.__name__}.{name} must return a number, not {one!r}")
        told.append(float(one))
    return told[0], (told[1] - told[2]) / (2.0 * h)


def snake_case(name: str) -> str:
    """``EpsilonInsensitive`` -> ``epsilon_insensitive``."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def constants(one: Any) -> tuple[float, ...]:
    """The numbers that a loss's functions get as ``c``."""
    return tuple(map(float, type(one).prepare(one) if hasattr(one, "prepare") else one))


def lipschitz(one: Any) -> float:
    """A bound on the curvature of a loss; infinite where it has a kink, or none is known."""
    return float(type(one).lipschitz(one)) if hasattr(one, "lipschitz") else math.inf


def as_loss(given: Any) -> Any:
    """The loss of a name in any case, of a class with default parameters, or an instance.

    Parameters
    ----------
    given : str, class or loss
        As ``loss=`` of `numbaopt.LinearModel` takes it.
    """
    if isinstance(given, str):
        if given.lower() not in LOSSES:
            raise ValueError(f"loss={given!r} is not known; {nearest(given, LOSSES)}")
        return LOSSES[given.lower()]()
    if isinstance(given, type) and hasattr(given, "slope"):
        given = given()
    if not (hasattr(given, "slope") and hasattr(given, "names")):
        raise ValueError(f"loss={given!r} is neither a name nor a loss such as numbaopt.losses.Huber(delta=1.0)")
    if type(given).__module__.partition(".")[0] != __name__.partition(".")[0]:  # a user's, with these parameters
        _check_slope(given)
    return given
