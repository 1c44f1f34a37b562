"""Losses of a margin :math:`m = y z` with :math:`y = \\pm 1`: two classes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._math import exp, log1p
from ._loss import loss


@loss("log_loss")
class Logistic(NamedTuple):
    r""":math:`\log(1 + e^{-m})`, without overflow for any margin."""

    takes = "two classes"

    def prepare(loss):
        return (1.0,)

    def value(c, z, y):
        m = np.float64(y * z)
        return max(-m, 0.0) + log1p(exp(-abs(m)))

    def slope(c, z, y):
        return -y / (c[0] + exp(y * z))

    def curvature(c, z, y):
        p = c[0] / (c[0] + exp(-abs(z)))
        return p * (c[0] - p)

    def implicit_slope(c, z, y, q):
        m = y * z
        u = m if m > 0.0 else (min(m + q, 0.0) if m + 0.5 * q <= 0.0 else 0.0)  # from here iterates are monotone
        for _ in range(200):  # of u = m + q / (1 + e^u)
            p = 1.0 / (1.0 + exp(u))
            change = (m + q * p - u) / (1.0 + q * p * (1.0 - p))
            u += change
            if abs(change) <= 1e-9 * (1.0 + abs(u)):
                break
        return -y / (1.0 + exp(u))

    def lipschitz(loss):
        return 0.25


@loss
class Hinge(NamedTuple):
    r""":math:`\max(0, 1 - m)`, of support vector machines.

    References
    ----------
    Cortes, C., Vapnik, V. (1995). Support-vector networks. doi:10.1007/BF00994018
    """

    takes = "two classes"

    def prepare(loss):
        return 1.0, 0.0

    def value(c, z, y):
        r = c[0] - y * z
        return r if r > c[1] else c[1]

    def slope(c, z, y):
        return -y if y * z < c[0] else c[1]

    def implicit_slope(c, z, y, q):
        t = (c[0] - y * z) / q
        return -y * (c[0] if t > c[0] else (t if t > c[1] else c[1]))


@loss
class SquaredHinge(NamedTuple):
    r""":math:`\max(0, 1 - m)^2`; its curvature is that of the piece the margin is on.

    References
    ----------
    Chang, K.-W., Hsieh, C.-J., Lin, C.-J. (2008). Coordinate descent method for large-scale L2-loss linear support
    vector machines.
    """

    takes = "two classes"

    def prepare(loss):
        return 1.0, 0.0, 2.0

    def value(c, z, y):
        r = c[0] - y * z
        return r * r if r > c[1] else c[1]

    def slope(c, z, y):
        r = c[0] - y * z
        return -c[2] * y * r if r > c[1] else c[1]

    def curvature(c, z, y):
        return c[2] if y * z < c[0] else c[1]

    def implicit_slope(c, z, y, q):
        r = c[0] - y * z
        return -c[2] * y * r / (c[0] + c[2] * q) if r > c[1] else c[1]

    def lipschitz(loss):
        return 2.0
