"""Numbers, settings and times as people read them, on a screen or a page."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def settings_of(settings: Mapping[str, Any]) -> str:
    """Settings in a cell of a table."""
    return ", ".join(f"{name} = {value_of(value)}" for name, value in settings.items())


def value_of(value: Any) -> str:
    """A value from JSON in a few characters."""
    if is_number(value):
        return f"{value:.4g}" if isinstance(value, float) else str(value)
    if isinstance(value, dict):
        return "{" + settings_of(value) + "}"
    return value if isinstance(value, str) else json.dumps(value)


def is_number(value: Any) -> bool:
    """Whether JSON has it for a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def band(rates: Mapping[float, bool]) -> str:
    """From the lowest to the highest of the learning rates that do, and how many do; a dash where none was tried."""
    good = [rate for rate, does in rates.items() if does]
    if len(rates) < 2:
        return "–"
    if not good:
        return f"none of {len(rates)}"
    ends = " – ".join(dict.fromkeys((number(min(good)), number(max(good)))))
    return f"{ends} ({len(good)} of {len(rates)})"


def median(values: Iterable[float]) -> float:
    """The median, where what is not finite is infinitely bad; NaN of nothing.

    Examples
    --------
    >>> from numbaopt.experiments.words import median
    >>> median([3.0, 1.0, float("nan")]), median([1.0, float("nan"), float("inf")])
    (3.0, inf)
    """
    numbers = [float(value) if math.isfinite(value) else math.inf for value in values]
    return statistics.median(numbers) if numbers else math.nan


def number(value: float) -> str:
    """Three digits; a dash for what there is none of."""
    if not math.isfinite(value):
        return "–"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    digits, power = f"{value:.1e}".split("e")
    return f"{digits}e{int(power)}"


def count(value: float) -> str:
    """A number of steps, evaluations or epochs."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them.

    Examples
    --------
    >>> from numbaopt.experiments.words import duration
    >>> [duration(seconds) for seconds in (2.5e-5, 0.25, 95, 5400, 1e6)]
    ['25 µs', '250 ms', '95 s', '90 min', '278 h']
    """
    if not math.isfinite(seconds):
        return "–"
    units = ((7200.0, 3600.0, "h"), (120.0, 60.0, "min"), (1.0, 1.0, "s"), (1e-3, 1e-3, "ms"), (0.0, 1e-6, "µs"))
    size, unit = next((size, unit) for least, size, unit in units if seconds >= least)
    return f"{seconds / size:.3g} {unit}"


def p_value(p: float) -> str:
    """A p-value as papers print it; a dash where there is none."""
    if math.isnan(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def power_of_ten(value: float) -> str:
    """Such a number, as it is written by hand."""
    return f"10{str(round(math.log10(value))).translate(SUPERSCRIPTS)}"
