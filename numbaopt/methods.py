"""The capability table."""

from __future__ import annotations

from typing import Any, NamedTuple

from .optimizers._rule import OPTIMIZERS
from .solvers import SOLVERS


class Method(NamedTuple):
    """A row of `methods`."""

    name: str
    aliases: tuple[str, ...]
    optimizer: type
    slots: tuple[str, ...]
    defaults: dict[str, Any]
    bounds: bool
    sparse: bool
    stochastic: bool
    lazy_update: bool


def methods() -> list[Method]:
    """What `numbaopt.minimize` can do by itself, one row a method.

    Returns
    -------
    list of Method
        NamedTuples: ``name``, ``aliases``, ``optimizer`` (its class), ``slots`` (vectors of state), ``defaults`` (of
        its fields), and whether it takes ``bounds``, ``sparse`` data, minibatches (``stochastic``) and,
        in these, the option ``lazy_update`` (not where a step needs sums over all unknowns).

    Examples
    --------
    >>> import numbaopt as no
    >>> [m.slots for m in no.methods() if m.name == "adam"]
    [('m', 'v')]
    """
    rules = [_row(cls, True, cls.__name__ != "Rprop") for cls in dict.fromkeys(OPTIMIZERS.values())]
    return rules + [_row(cls, getattr(cls, "bounded", False), getattr(cls, "incremental", False))
                    for cls in dict.fromkeys(SOLVERS.values())]  # fmt: skip


def _row(cls: Any, bounds: bool, stochastic: bool) -> Method:
    lazy = stochastic and hasattr(cls, "prepare") and not hasattr(cls, "finish")
    name = cls.__name__.lower()
    aliases = tuple(alias for alias in cls.names if alias != name)
    return Method(name, aliases, cls, tuple(cls.slots), dict(cls._field_defaults), bounds, True, stochastic, lazy)
