"""Which rows of a run's history are kept: how exactly a run is told must not depend on how long it is."""

from __future__ import annotations

import numpy as np

RECORDED = 1 << 14  # rows while a run is made, evenly spaced
DENSE = 90  # rows at the start that are all kept; later ones lie 1/90 of what was done before apart
TOLERANCES = tuple(10.0**-k for k in range(1, 9))  # of the targets: how much of the way down is left


def kept(fun: np.ndarray) -> np.ndarray:
    """Indices of the rows to keep, some 600 at most.

    What it took to reach an objective is then told to 1/90 of itself, in runs of any length; and exactly for the
    targets on the way from the first objective to the best one, and for the best one itself.

    Parameters
    ----------
    fun : array of shape (n,)
        Objectives along the run; those that are not finite reach nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaopt.experiments.curves import kept
    >>> rows = kept(np.where(np.arange(10_000) < 4321, 1.0, 0.0))
    >>> len(rows), rows[:3].tolist(), 4321 in rows, int(rows[-1] - rows[-2])
    (515, [0, 1, 2], True, 110)
    """
    if len(fun) <= DENSE:
        return np.arange(len(fun))
    later = np.geomspace(DENSE, len(fun), 1 + round(DENSE * np.log(len(fun) / DENSE))).round().astype(int) - 1
    best = np.fmin.accumulate(np.where(np.isfinite(fun), fun, np.inf))
    with np.errstate(invalid="ignore"):  # where nothing is finite
        targets = best[-1] + np.array([*TOLERANCES, 0.0]) * (best[0] - best[-1])
    hits = len(fun) - np.searchsorted(best[::-1], targets, side="right")
    rows = np.concatenate([np.arange(DENSE), later, hits])
    return np.unique(rows[rows < len(fun)])
