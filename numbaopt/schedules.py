r"""Learning rates that change with the step.

A schedule is a NamedTuple that can stand wherever ``lr`` is a number.  Its class holds one scalar function

``rate(s, step, scale)``
    the rate after ``step`` steps (the update of step t = 1, 2, ... uses ``rate`` at ``t - 1``); ``scale`` is 1 but for
    `ReduceOnPlateau`.

In minibatch training a step is one batch.  Any plain Python function of the step works in the place of a schedule, too.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ._schedule import rate, schedule
from .automatic import Automatic


@schedule
class Constant(NamedTuple):
    """The same rate at every step.

    Parameters
    ----------
    lr : float
        The rate.
    """

    lr: float = 1e-3

    @staticmethod
    def rate(s, step, scale):
        return s.lr


@schedule
class Step(NamedTuple):
    r"""Multiplied by :math:`\gamma` every so many steps: :math:`\eta\,\gamma^{\lfloor k / \text{every} \rfloor}`.

    Parameters
    ----------
    lr : float
        First rate.
    every : float
        Steps between drops.
    gamma : float
        The factor, in (0, inf).
    """

    lr: float = 1e-3
    every: float = 1000.0
    gamma: float = 0.1

    @staticmethod
    def rate(s, step, scale):
        return s.lr * s.gamma ** math.floor(step / s.every)


@schedule
class MultiStep(NamedTuple):
    r"""Multiplied by :math:`\gamma` at each of the given steps.

    Parameters
    ----------
    lr : float
        First rate.
    milestones : tuple of float
        The steps at which the rate drops.
    gamma : float
        The factor, in (0, inf).
    """

    lr: float = 1e-3
    milestones: tuple[float, ...] = (1000.0,)
    gamma: float = 0.1

    @staticmethod
    def rate(s, step, scale):
        passed = 0
        for milestone in s.milestones:
            if step >= milestone:
                passed += 1
        return s.lr * s.gamma**passed


@schedule
class Exponential(NamedTuple):
    r"""Geometric decay: :math:`\eta\,\gamma^k`.

    Parameters
    ----------
    lr : float
        First rate.
    gamma : float
        The factor of one step, in (0, inf).
    """

    lr: float = 1e-3
    gamma: float = 0.999

    @staticmethod
    def rate(s, step, scale):
        return s.lr * s.gamma**step


@schedule
class Polynomial(NamedTuple):
    r"""From ``lr`` to ``lr_min`` in ``steps`` steps, then constant: :math:`\eta_1 + (\eta-\eta_1)(1 - k/K)^p`.

    Parameters
    ----------
    lr, lr_min : float
        First and last rate.
    steps : float
        :math:`K`.
    power : float
        :math:`p`; 1 is a straight line.
    """

    lr: float = 1e-3
    steps: float = 1000.0
    power: float = 1.0
    lr_min: float = 0.0

    @staticmethod
    def rate(s, step, scale):
        left = 1.0 - min(step / s.steps, 1.0)
        return s.lr_min + (s.lr - s.lr_min) * left**s.power


@schedule
class InverseTime(NamedTuple):
    r"""The decay of Robbins and Monro: :math:`\eta / (1 + \gamma k)^p`.

    Parameters
    ----------
    lr : float
        First rate.
    gamma : float
        How fast, per step.
    power : float
        :math:`p`; 1/2 gives the :math:`1/\sqrt{t}` of the Adam paper (with ``gamma=1``).
    """

    lr: float = 1e-3
    gamma: float = 1.0
    power: float = 1.0

    @staticmethod
    def rate(s, step, scale):
        return s.lr / (1.0 + s.gamma * step) ** s.power


@schedule
class Cosine(NamedTuple):
    r"""Half a cosine from ``lr`` to ``lr_min`` in ``steps`` steps, then constant (as optax; it does not rise again).

    .. math:: \eta_1 + \tfrac12 (\eta - \eta_1)(1 + \cos(\pi \min(k/K, 1)))

    Parameters
    ----------
    lr, lr_min : float
        First and last rate.
    steps : float
        :math:`K`.

    References
    ----------
    Loshchilov, I., Hutter, F. (2017). SGDR: stochastic gradient descent with warm restarts.
    doi:10.48550/arXiv.1608.03983
    """

    lr: float = 1e-3
    steps: float = 1000.0
    lr_min: float = 0.0

    @staticmethod
    def rate(s, step, scale):
        return s.lr_min + 0.5 * (s.lr - s.lr_min) * (1.0 + math.cos(math.pi * min(step / s.steps, 1.0)))


@schedule
class CosineRestarts(NamedTuple):
    """`Cosine` again and again, each cycle ``growth`` times as long as the one before.

    Parameters
    ----------
    lr, lr_min : float
        First and last rate of a cycle.
    steps : float
        Length of the first cycle.
    growth : float
        In [1, inf).

    References
    ----------
    Loshchilov, I., Hutter, F. (2017). SGDR: stochastic gradient descent with warm restarts.
    doi:10.48550/arXiv.1608.03983
    """

    lr: float = 1e-3
    steps: float = 1000.0
    growth: float = 2.0
    lr_min: float = 0.0

    @staticmethod
    def rate(s, step, scale):
        length, begin = s.steps, 0.0
        if s.growth > 1.0:
            cycle = math.floor(math.log1p((step / s.steps) * (s.growth - 1.0)) / math.log(s.growth))
            begin = s.steps * (s.growth**cycle - 1.0) / (s.growth - 1.0)
            length = s.steps * s.growth**cycle
            if step - begin >= length:  # the logarithm fell short of a cycle's first step
                begin, length = begin + length, length * s.growth
        else:
            begin = s.steps * math.floor(step / s.steps)
        return s.lr_min + 0.5 * (s.lr - s.lr_min) * (1.0 + math.cos(math.pi * (step - begin) / length))


@schedule
class OneCycle(NamedTuple):
    """Up to ``lr_max`` along half a cosine, then down to almost nothing along another; as PyTorch's ``OneCycleLR``.

    Parameters
    ----------
    lr_max : float
        The peak.
    steps : float
        Steps in all.
    rise : float
        Fraction of the steps spent rising, in [0, 1).
    divide_first : float
        The first rate is ``lr_max / divide_first``.
    divide_last : float
        The last rate is the first one divided by this.

    References
    ----------
    Smith, L. N., Topin, N. (2019). Super-convergence: very fast training of neural networks using large learning rates.
    doi:10.1117/12.2520589
    """

    lr_max: float = 1e-2
    steps: float = 1000.0
    rise: float = 0.3
    divide_first: float = 25.0
    divide_last: float = 1e4

    @staticmethod
    def rate(s, step, scale):
        first = s.lr_max / s.divide_first
        last = first / s.divide_last
        peak = s.rise * s.steps - 1.0
        if step < peak:
            begin, end, part = first, s.lr_max, step / peak
        else:
            part = min((step - peak) / max(s.steps - 1.0 - peak, 1e-300), 1.0)
            begin, end = s.lr_max, last
        return end + 0.5 * (begin - end) * (1.0 + math.cos(math.pi * part))


@schedule
class Warmup(NamedTuple):
    """A straight line from ``lr_min`` up to the first rate of ``lr``, then ``lr``, counted from there.

    Parameters
    ----------
    lr : float or schedule
        What follows.
    steps : float
        Length of the warm-up.
    lr_min : float
        Where it starts.

    Examples
    --------
    >>> from numbaopt.schedules import Cosine, Warmup
    >>> lr = Warmup(Cosine(lr=1.0, steps=10), steps=2)
    >>> [round(lr(step), 3) for step in (0, 1, 2, 7, 12)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    lr: Any = 1e-3
    steps: float = 100.0
    lr_min: float = 0.0

    @staticmethod
    def rate(s, step, scale):
        if step < s.steps:
            return s.lr_min + (rate(s.lr, 0.0, scale) - s.lr_min) * (step / s.steps)
        return rate(s.lr, step - s.steps, scale)


@schedule
class ReduceOnPlateau(NamedTuple):
    """Multiplied by ``factor`` when the objective has not improved for more than ``patience`` observations; as PyTorch.

    An observation is one step when a function is minimized and one epoch in minibatch training.  An objective counts
    as better when it is below the best one by more than ``threshold`` times that one's size.

    Parameters
    ----------
    lr : float or schedule
        What is scaled.
    factor : float
        In (0, 1].
    patience, cooldown : float
        Observations without improvement that are forgiven, and observations after a reduction that do not count.
    threshold : float
        Relative.
    lr_min : float
        Never less than this.
    """

    lr: Any = 1e-3
    factor: float = 0.1
    patience: float = 10.0
    threshold: float = 1e-4
    cooldown: float = 0.0
    lr_min: float = 0.0

    @staticmethod
    def rate(s, step, scale):
        return max(rate(s.lr, step, scale) * scale, min(s.lr_min, rate(s.lr, step, scale)))


def plateau_of(lr: Any) -> ReduceOnPlateau | None:
    """The `ReduceOnPlateau` within a schedule, if there is one."""
    while isinstance(lr, tuple):
        if isinstance(lr, ReduceOnPlateau):
            return lr
        lr = getattr(lr, "lr", None)
    return None


class Plateau(NamedTuple):
    """Where a `ReduceOnPlateau` stands; part of a run's checkpoint."""

    scale: float = 1.0
    best: float = math.inf
    bad: float = 0.0
    rest: float = 0.0

    def horizon(self, s: ReduceOnPlateau) -> int:
        """For how many observations the scale is certain not to change."""
        return int(s.patience - self.bad + self.rest) + 1

    def observe(self, s: ReduceOnPlateau, value: float) -> Plateau:
        """The state after an observation."""
        scale, best, bad, rest = self
        if value < best - s.threshold * abs(best) if math.isfinite(best) else value < best:
            best, bad = value, 0.0
        else:
            bad += 1.0
        if rest > 0.0:
            rest, bad = rest - 1.0, 0.0
        if bad > s.patience:
            scale, rest, bad = scale * s.factor, s.cooldown, 0.0
        return Plateau(scale, best, bad, rest)


__all__ = [
    "Automatic", "Constant", "Cosine", "CosineRestarts", "Exponential", "InverseTime", "MultiStep", "OneCycle",
    "Polynomial", "ReduceOnPlateau", "Step", "Warmup", "schedule",
]  # fmt: skip
