"""A learning rate that nobody has told: what `numbaopt.minimize` does where ``lr`` is None."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ._schedule import schedule


@schedule
class Automatic(NamedTuple):
    r"""A constant rate found by trials, and lowered when it proves too large; stands where ``lr`` is a number.

    `numbaopt.minimize` and `numbaopt.minimize_many` take it by default where a function is minimized by a rule's name.
    Whole objectives only.

    Parameters
    ----------
    steps : float
        Steps :math:`k` of a trial of the first range test, in [1, inf).
    block : float
        Steps of the first block of the descent, in [1, inf); each block is a tenth longer, up to 5000 steps.
    shrink : float
        What is left of the rate when it proves too large, in (0, 1).

    Notes
    -----
    *Range test.*  Let :math:`d` be the longest way of an unknown in a first step of rate 1.  From :math:`x_0`, and with
    a new state of the rule each, :math:`k` steps are taken with the rates :math:`10 \max(1, \|x_0\|_\infty) / d`, a
    tenth of that, and so on, until three trials in a row are no better than the best one, or 40 are done.  The rate
    that reached the least objective is taken.

    *Descent.*  From the best point seen, in blocks of steps.  With :math:`F_-` and :math:`F_+` the best objectives
    before and after a block and :math:`\bar F` its mean, the rate is too large when

    .. math:: F_- - F_+ \le (\bar F - F_+) / 4

    (a run that oscillates gains little compared with its swings; one that descends evenly gains twice as much), or when
    the objective is not finite.  Then the run begins again at the best point, with the rate shrunk.  Neither the size
    of the objective nor a constant added to it matters.

    *Again.*  When the evaluations are four times as many as after the last range test, another one is made at the best
    point, from 1000 times the rate downwards by factors of :math:`\sqrt{10}`, each trial as long as a fiftieth of all
    evaluations so far.

    Every step counts as an iteration and every evaluation in ``nfev``; ``res.lr`` is the rate of the descent in the
    end.  A run whose rate has shrunk by 1e18 ends with status 3.  The run depends on nothing but the problem: it can be
    cut, saved and resumed like any other.

    Examples
    --------
    >>> import numba, numbaopt as no
    >>> @numba.njit
    ... def steep(x):
    ...     return 1e6 * (x[0] - 1) ** 2 + 1e5 * (x[1] + 2) ** 2
    >>> res = no.minimize(steep, [5.0, 5.0], method="gd")
    >>> res.success, res.x.round(6), 1e-8 < res.lr < 1e-6
    (True, array([ 1., -2.]), True)
    """

    steps: float = 30.0
    block: float = 100.0
    shrink: float = math.sqrt(0.1)

    ranges = {"steps": "[1, 1e9]", "block": "[1, 1e9]", "shrink": "(0, 1)"}
    automatic = True

    @staticmethod
    def rate(s, step, scale):
        return math.nan


def is_automatic(lr: Any) -> bool:
    """Whether a rate is found while the run goes."""
    return getattr(type(lr), "automatic", False)
