"""Fair timing on a machine that may be busy: contestants take turns, and ratios are made within a round.

Whatever slows the machine down for a while slows all contestants of that round; medians over rounds leave it out.
"""

from __future__ import annotations

import math
import time
import timeit
from collections.abc import Callable, Mapping
from statistics import median, quantiles
from typing import Any, NamedTuple

SETTLE = 0.01  # seconds between contestants: thread pools spin for a while after their last task


class Times(NamedTuple):
    """Seconds for one unit of work, a measurement each round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The typical round."""
        return median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a fraction of the median."""
        low, high = quartiles(self.seconds)
        return (high - low) / 2 / self.median


class Ratio(NamedTuple):
    """How many times as long as ours a peer takes.

    The ratio of medians, the quartiles of the rounds' ratios, and the ratio of the fastest rounds.
    """

    value: float
    low: float
    high: float
    fastest: float


def quartiles(values: tuple[float, ...]) -> tuple[float, float]:
    """First and third quartile; of one value, itself."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


def ratio(peer: Times, ours: Times) -> Ratio:
    """Compare two contestants of one race; of one that was far off there may be fewer rounds."""
    rounds = tuple(theirs / mine for theirs, mine in zip(peer.seconds, ours.seconds, strict=False))
    return Ratio(peer.median / ours.median, *quartiles(rounds), min(peer.seconds) / min(ours.seconds))


def race(contestants: Mapping[str, Callable[[], Any]], rounds: int = 15, least: float = 0.02,
         units: float | Mapping[str, float] = 1, most: float = math.inf) -> dict[str, Times]:  # fmt: skip
    """Time callables in turn.

    Parameters
    ----------
    contestants : mapping of str to callable
        What to call, without arguments.  It is first called untimed, which compiles it.
    rounds : int
        How often each has its turn; every round begins with another contestant.
    least : float
        Seconds a turn should last: short calls are repeated, after one untimed call that fills the caches again.
    units : float or mapping of str to float
        How many units of work (steps, epochs) a call does.
    most : float
        Seconds after which no further round begins, if there were two.

    Returns
    -------
    dict of str to Times
    """
    names = list(contestants)
    timers = {name: timeit.Timer(call) for name, call in contestants.items()}
    repeats = {name: _repeats(timers[name], least) for name in names}
    taken: dict[str, list[float]] = {name: [] for name in names}
    begin = time.perf_counter()
    for turn in range(rounds):
        if turn > 1 and time.perf_counter() - begin > most:
            break
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            time.sleep(SETTLE)
            if repeats[name] > 1:
                timers[name].timeit(1)
            work = repeats[name] * (units[name] if isinstance(units, Mapping) else units)
            taken[name].append(timers[name].timeit(repeats[name]) / work)
    return {name: Times(tuple(seconds)) for name, seconds in taken.items()}


def _repeats(timer: timeit.Timer, least: float) -> int:
    """How many calls take ``least`` seconds."""
    timer.timeit(1)
    number = 1
    while (took := timer.timeit(number)) < least:
        number = max(number + 1, min(10 * number, int(1.1 * number * least / max(took, 1e-9))))
    return number
