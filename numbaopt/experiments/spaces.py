"""What tuning searches: the ranges of a method's table or, where it has none, a range around each of its values."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from .._fields import RANGES
from .._schedule import SCHEDULES
from ..optimizers._rule import OPTIMIZERS
from .grids import Axis, Keys, Space, setting, with_value
from .methods import COMBINED, fields_of, is_rule, make

RATES = ("lr", "lr_max")
RATE_DECADES = 2, 3  # below and above a rate: defaults are careful ones
SCALE_DECADES = 2, 2  # of numbers that may have any size
DECADES = 1, 1  # of all others
DIGITS = 4  # of a number that may be tenfold another


def default_axes(table: dict[str, Any]) -> list[Axis]:
    r"""What to search for a method's table that has neither lists nor ranges.

    Every numeric field of the rule (of its parts, where it is made of rules) that is not switched off, that is zero, is
    searched around its value v, evenly in a logarithm: a rate from v/100 to 1000 v; other numbers in [0, inf) from
    v/100 to 100 v; those in an interval such as [0, 1) by their distance d to the nearer end, from d/10 to 10 d: a
    :math:`\beta` of 0.9 from 0 to 0.99, one of 0.999 from 0.99 to 0.9999.  What would reach over an end stops there, or
    half way to one that is excluded.  Of schedules the rates are searched, of those who count the whole numbers.

    Parameters
    ----------
    table : dict
        With ``method``; fields that it lacks have their defaults.

    Returns
    -------
    list of Axis
        None for methods that are no rules.

    Examples
    --------
    >>> from numbaopt.experiments.spaces import default_axes
    >>> for axis in default_axes({"method": "adam", "lr": 0.01}):
    ...     print(axis.keys, axis.space.at(axis.space.low), axis.space.at(axis.space.high))
    ('lr',) 0.0001 10.0
    ('beta1',) 0.99 0.0
    ('beta2',) 0.9999 0.99
    ('eps',) 1e-10 1e-06
    """
    return _of_rule(table, (), make(table, "method"))


def _of_rule(table: dict[str, Any], keys: Keys, opt: Any) -> list[Axis]:
    kind = table["method"].lower()
    if not is_rule(kind):
        return []
    cls: Any = OPTIMIZERS.get(kind)
    if cls is None:
        signature = inspect.signature(COMBINED[kind]).parameters
        defaults = {name: one.default for name, one in signature.items() if one.default not in (None, one.empty)}
        ranges = getattr(type(getattr(opt, "parts", (opt,))[-1]), "ranges", {})
    else:
        defaults, ranges = cls._field_defaults, {**RANGES, **getattr(cls, "ranges", {})}
    axes = []
    for name in fields_of(kind):
        value = table.get(name, defaults.get(name))
        if isinstance(value, dict):
            nested = "method" in value
            axes += _of_rule(value, (*keys, name), make(value, name)) if nested else _of_schedule(value, (*keys, name))
        elif space := _around(name, value, ranges.get(name, ""), whole=cls is None and isinstance(value, int)):
            axes.append(_axis((*keys, name), space))
    return axes


def _of_schedule(table: dict[str, Any], keys: Keys) -> list[Axis]:
    cls: Any = SCHEDULES[table["schedule"].replace("_", "").lower()]
    axes = []
    for name in cls._fields:
        value = table.get(name, cls._field_defaults.get(name))
        if isinstance(value, dict):
            axes += _of_schedule(value, (*keys, name))
        elif name in RATES and (space := _around(name, value, RANGES["lr"])):
            axes.append(_axis((*keys, name), space))
    return axes


def _axis(keys: Keys, space: Space) -> Axis:
    return Axis(keys, 0, space.value, space)


def _around(name: str, value: Any, interval: str, whole: bool = False) -> Space | None:
    """The space around a value within an interval such as ``"[0, 1)"``; none where it is not a number, or at an end."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not interval:
        return None
    low, high = (float(end) for end in interval[1:-1].split(","))
    if whole:
        first, last = max(low, 1.0, round(value / 10)), min(high, 10.0 * value)
        return Space(int(first), int(last), log=True, whole=True) if first < last else None
    near_high = high - value < value - low
    origin, far, open_end = (high, low, interval[0] == "(") if near_high else (low, high, interval[-1] == ")")
    distance, most = abs(value - origin), abs(far - origin)
    if distance == 0:
        return None
    down, up = RATE_DECADES if name in RATES else SCALE_DECADES if interval == "[0, inf)" else DECADES
    end = 10.0**up * distance
    if end >= most:
        end = (distance + most) / 2 if open_end else most
    return Space(_rounded(10.0**-down * distance), _rounded(end), True, False, (), origin, -1.0 if near_high else 1.0)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


class Parameters:
    """The axes of a method's table as optuna knows them: the names, distributions and values of its parameters.

    Parameters
    ----------
    table : dict
        The method's, with or without ranges.
    axes : sequence of Axis
    """

    def __init__(self, table: dict[str, Any], axes: Sequence[Axis]):
        self.table, self.axes = table, {_name(axis): axis for axis in axes}

    @property
    def distributions(self) -> dict[str, Any]:
        """By name."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        found: dict[str, Any] = {}
        for name, (*_, space) in self.axes.items():
            if space.choices:
                found[name] = CategoricalDistribution([_word(value) for value in space.choices])
            elif space.whole:
                found[name] = IntDistribution(int(space.low), int(space.high), log=space.log and space.low >= 1)
            else:
                found[name] = FloatDistribution(space.low, space.high, log=space.log)
        return found

    def settings(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """What optuna's parameters mean, by the names that tables have for fields."""
        return {setting(self.axes[name].keys): self._value(name, parameters[name]) for name in self.axes}

    def plain(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """The table with these parameters."""
        table = self.table
        for name, axis in self.axes.items():
            table = with_value(table, axis.keys, self._value(name, parameters[name]))
        return table

    def start(self, table: dict[str, Any]) -> dict[str, Any]:
        """The parameters of a table without ranges: the method as it stands."""
        found = {}
        for name, (keys, _, _, space) in self.axes.items():
            value = abs(_said(table, keys) - space.origin)
            found[name] = min(max(value, space.low), space.high)
        return found

    def corners(self) -> Iterator[dict[str, Any]]:
        """Parameters of which one is at an end, or any of its choices, and the others are in the middle."""
        distributions = self.distributions
        ends = {name: [_word(value) for value in space.choices] if space.choices else [space.low, space.high]
                for name, (*_, space) in self.axes.items()}  # fmt: skip
        middle = {name: ends[name][0] if axis.space.choices else _middle(distributions[name])
                  for name, axis in self.axes.items()}  # fmt: skip
        for name, values in ends.items():
            for value in values:
                yield {**middle, name: value}

    def _value(self, name: str, parameter: Any) -> Any:
        space = self.axes[name].space
        if space.choices:
            return next(value for value in space.choices if _word(value) == parameter)
        if space.log and not space.whole and space.high >= 10 * space.low:
            parameter = min(max(_rounded(parameter), space.low), space.high)
        return space.at(parameter)


def _middle(distribution: Any) -> Any:
    low, high = distribution.low, distribution.high
    middle = math.sqrt(low * high) if distribution.log else (low + high) / 2
    return type(low)(middle)


def _name(axis: Axis) -> str:
    name, space = setting(axis.keys), axis.space
    if space.choices or space.origin == 0:
        return name
    return f"{space.origin:g} - {name}" if space.sign < 0 else f"{name} - {space.origin:g}"


def _word(value: Any) -> Any:
    """A choice as optuna takes it."""
    return value if isinstance(value, (bool, int, float, str)) else json.dumps(value)


def _said(table: dict[str, Any], keys: Keys) -> float:
    """A field's value, or its default."""
    for key in keys[:-1]:
        table = table[key]
    kind = str(table.get("schedule", table.get("method"))).replace("_", "").lower()
    cls: Any = {**OPTIMIZERS, **SCHEDULES}.get(kind)
    default = inspect.signature(COMBINED[kind]).parameters[keys[-1]].default if cls is None else \
        cls._field_defaults.get(keys[-1], math.nan)  # fmt: skip
    return table.get(keys[-1], default)


def as_toml(value: Any) -> str:
    """A value as TOML writes it.

    Examples
    --------
    >>> from numbaopt.experiments.spaces import as_toml
    >>> print(as_toml({"method": "adam", "lr": {"schedule": "cosine", "lr": 1e-05, "steps": 500}, "my beta": True}))
    { method = "adam", lr = { schedule = "cosine", lr = 1e-05, steps = 500 }, "my beta" = true }
    """
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{as_key(key)} = {as_toml(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def as_key(name: str) -> str:
    """A key of TOML, in quotes where it needs them."""
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if bare else json.dumps(name, ensure_ascii=False)
