"""Grids and random search: one table with lists and ranges stands for many plain ones.

Wherever a table takes a value it also takes

- a list of values (fields that are lists themselves: ``{ grid = [[64], [64, 64]] }``),
- ``{ log = [1e-4, 1, 9] }`` and ``{ linear = [0, 1, 5] }``: so many values from the first to the second, evenly spaced
  in their logarithms, or as they are,
- ``{ low = 1e-4, high = 1, scale = "log" }`` or ``{ choice = ["a", "b"] }``: drawn at random, ``samples`` times;
  ``scale = "log1m"`` spreads 1 - x evenly in its logarithm, as suits a beta2 from 0.9 to 0.9999.

`tuning` takes all of these for the space that it searches.  Lists and ranges multiply; what is drawn is drawn
together, a point a sample.  A draw depends on the names around it,
its number and ``search_seed`` only: more samples, or another field, change none of those there were.
"""

from __future__ import annotations

import difflib
import itertools
import math
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .schema import ExperimentError, unknown

MAX_RUNS = 100_000
AXES = ("grid", "log", "linear", "choice", "low")
SCALES = ("linear", "log", "log1m")
# What else such tables are called, and the first of ours that is meant.
ELSEWHERE = {"logspace": "log", "geomspace": "log", "linspace": "linear", "arange": "linear", "range": "linear",
             **dict.fromkeys(("uniform", "loguniform", "log_uniform", "min", "lo"), "low"), "values": "grid",
             "choices": "choice", "categorical": "choice"}  # fmt: skip
Keys = tuple[str, ...]


class Space(NamedTuple):
    """What a field may be: one of ``choices``, or ``origin + sign d`` with a number d from ``low`` to ``high``.

    d is spread evenly, or its logarithm is (``log``); ``whole`` numbers include both ends.

    Examples
    --------
    >>> from numbaopt.experiments.grids import Space
    >>> Space(1e-4, 1e-2, log=True).value(0.5), Space(1e-4, 1e-1, log=True, origin=1.0, sign=-1.0).value(0.0)
    (0.001, 0.9999)
    """

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()
    origin: float = 0.0
    sign: float = 1.0

    def value(self, u: float) -> Any:
        """The value of a random number in [0, 1)."""
        if self.choices:
            return self.choices[int(u * len(self.choices))]
        end = self.high + 1 if self.whole else self.high
        drawn = self.low * (end / self.low) ** u if self.log else self.low + (end - self.low) * u
        return min(int(drawn), int(self.high)) if self.whole else self.at(drawn)

    def at(self, d: float) -> Any:
        """The value of a number from ``low`` to ``high``."""
        return int(d) if self.whole else tidy(self.origin + self.sign * d)


class Axis(NamedTuple):
    """The values of one field.

    Attributes
    ----------
    keys : tuple of str
        Where it stands in its table.
    size : int
        How many values there are; 0 for one that is drawn.
    value : callable
        The value of a number below ``size``, or of a random number in [0, 1).
    space : Space
        The same for a search.
    """

    keys: Keys
    size: int
    value: Callable[[Any], Any]
    space: Space


def find_axes(table: dict[str, Any], where: str, is_list: Callable[[Keys], bool] = lambda keys: False,
              keys: Keys = ()) -> list[Axis]:  # fmt: skip
    """The axes of a table; ``is_list(keys)`` tells whether the field there takes a list as its value."""
    axes = []
    for name, value in table.items():
        own, place = (*keys, name), f"{where}.{name}"
        if isinstance(value, list) and not is_list(own):
            axes.append(_listed(own, value, place))
        elif isinstance(value, dict) and any(kind in value for kind in AXES):
            axes.append(_axis(own, value, place))
        elif isinstance(value, dict):
            for word in value:
                if word in ELSEWHERE or (len(value) == 1 and isinstance(value[word], list) and not is_list((*own, word))
                                         and difflib.get_close_matches(word, AXES, 1)):  # fmt: skip
                    raise unknown("key", f"{place}.{word}", ELSEWHERE.get(str(word), str(word)), AXES)
            axes += find_axes(value, place, is_list, own)
    return axes


def _axis(keys: Keys, told: dict[str, Any], where: str) -> Axis:
    kind = next(kind for kind in AXES if kind in told)
    valid = ("low", "high", "scale") if kind == "low" else (kind,)
    for name in told:
        if name not in valid:
            raise unknown("key", f"{where}.{name}", name, valid)
    if kind in ("grid", "choice"):
        values = told[kind]
        if not isinstance(values, list) or not values:
            raise ExperimentError(f"{where}.{kind} = {values!r} must be a list of values")
        return _listed(keys, values, where) if kind == "grid" else _free(keys, Space(choices=tuple(values)))
    if kind == "low":
        return _free(keys, _drawn(told, where))
    return _range(keys, told[kind], kind, f"{where}.{kind}")


def _free(keys: Keys, space: Space) -> Axis:
    return Axis(keys, 0, space.value, space)


def _listed(keys: Keys, values: list[Any], where: str) -> Axis:
    if not values:
        raise ExperimentError(f"{where} = []: a grid needs values")
    if len(set(map(repr, values))) < len(values):
        raise ExperimentError(f"{where} = {values!r} names a value twice")
    return Axis(keys, len(values), values.__getitem__, Space(choices=tuple(values)))


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _range(keys: Keys, told: Any, kind: str, where: str) -> Axis:
    if not (isinstance(told, list) and len(told) == 3 and all(map(_number, told)) and isinstance(told[2], int)):
        raise ExperimentError(f"{where} = {told!r} must be [first, last, how many]")
    first, last, count = told
    if count < 2 or first == last or (kind == "log" and min(first, last) <= 0):
        positive = " and positive ends" if kind == "log" else ""
        raise ExperimentError(f"{where} = {told!r}: a range needs two different ends{positive}, and at least 2 values")

    def value(k: int) -> float:
        if k in (0, count - 1):
            return float(last if k else first)
        if kind == "linear":
            return first + (last - first) * k / (count - 1)
        return tidy(10 ** (math.log10(first) + (math.log10(last) - math.log10(first)) * k / (count - 1)))

    return Axis(keys, count, value, Space(float(min(first, last)), float(max(first, last)), kind == "log"))


def tidy(value: float) -> float:
    """A number rounded to 12 digits: 0.001, where powers give 0.0010000000000000002."""
    return float(f"{value:.12g}")


def _drawn(told: dict[str, Any], where: str) -> Space:
    low: Any = told.get("low")
    high: Any = told.get("high")
    scale = told.get("scale", "linear")
    if scale not in SCALES:
        raise unknown("scale", f"{where}.scale = {scale!r}", str(scale), SCALES)
    fits = _number(low) and _number(high) and low < high
    if not fits or (scale == "log" and low <= 0) or (scale == "log1m" and high >= 1):
        ends = {"log": ", both positive", "log1m": ", both below 1"}.get(scale, "")
        raise ExperimentError(f"{where}: low = {low!r}, high = {high!r} must be numbers, low < high{ends}")
    if scale == "log1m":
        return Space(tidy(1.0 - high), tidy(1.0 - low), log=True, origin=1.0, sign=-1.0)
    return Space(low, high, scale == "log", isinstance(low, int) and isinstance(high, int))


def count_points(axes: list[Axis], samples: int | None, where: str) -> int:
    """How many plain tables there are; nothing is made for it."""
    drawn = [axis for axis in axes if not axis.size]
    if drawn and samples is None:
        field = ".".join((where, *drawn[0].keys))
        raise ExperimentError(f"{field} is drawn at random: say how often, samples = 20")
    if samples is not None and not drawn:
        raise ExperimentError(f"{where}.samples = {samples}: nothing is drawn there, as {{ low = 0, high = 1 }} is")
    return math.prod(axis.size for axis in axes if axis.size) * (samples if drawn and samples is not None else 1)


def expand(table: dict[str, Any], axes: list[Axis], samples: int | None, name: str,
           search_seed: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:  # fmt: skip
    """Every plain table with what it has on each axis, by `setting` names."""
    fixed, drawn = [axis for axis in axes if axis.size], [axis for axis in axes if not axis.size]
    for chosen in itertools.product(*(range(axis.size) for axis in fixed)):
        for k in range(samples or 1):
            values = [axis.value(i) for axis, i in zip(fixed, chosen, strict=True)]
            values += [axis.value(_uniform(search_seed, name, axis.keys, k)) for axis in drawn]
            plain, settings = table, {}
            for axis, value in zip((*fixed, *drawn), values, strict=True):
                plain, settings[setting(axis.keys)] = with_value(plain, axis.keys, value), value
            yield plain, {key: settings[key] for axis in axes if (key := setting(axis.keys)) in settings}


def setting(keys: Keys) -> str:
    """The name of a field in tables and figures: the rate of a schedule, or of the rule in a Lookahead, is ``lr``."""
    name = ".".join(keys).replace("opt.lr", "lr")
    while name.endswith("lr.lr"):
        name = name.removesuffix(".lr")
    return name


def _uniform(seed: int, name: str, keys: Keys, k: int) -> float:
    words = [zlib.crc32(word.encode()) for word in (name, ".".join(keys))]
    return float(np.random.default_rng([seed, *words, k]).random())


def with_value(table: dict[str, Any], keys: Keys, value: Any) -> dict[str, Any]:
    """A copy of nested tables with one value replaced."""
    return {**table, keys[0]: value if len(keys) == 1 else with_value(table[keys[0]], keys[1:], value)}
