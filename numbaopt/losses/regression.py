"""Losses of a residual :math:`r = z - y`: squares, and what is robust against outliers."""

from __future__ import annotations

from typing import NamedTuple

from ._loss import loss


@loss
class Squared(NamedTuple):
    r""":math:`\tfrac12 r^2`."""

    quadratic = True

    def value(c, z, y):
        return 0.5 * (z - y) * (z - y)

    def slope(c, z, y):
        return z - y

    def curvature(c, z, y):
        return 1.0

    def implicit_slope(c, z, y, q):
        return (z - y) / (1.0 + q)

    def lipschitz(loss):
        return 1.0


@loss
class Huber(NamedTuple):
    r""":math:`\tfrac12 r^2` where :math:`|r| \le \delta`, else :math:`\delta (|r| - \tfrac12 \delta)`.

    Parameters
    ----------
    delta : float
        :math:`\delta`, in (0, inf).

    References
    ----------
    Huber, P. J. (1964). Robust estimation of a location parameter. doi:10.1214/aoms/1177703732
    """

    delta: float = 1.35

    ranges = {"delta": "(0, inf)"}

    def value(c, z, y):
        r = abs(z - y)
        inside = r if r < c[0] else c[0]
        return inside * (r - 0.5 * inside)

    def slope(c, z, y):
        r = z - y
        return c[0] if r > c[0] else (-c[0] if r < -c[0] else r)

    def curvature(c, z, y):
        return 1.0 if abs(z - y) <= c[0] else 0.0

    def implicit_slope(c, z, y, q):
        t = (z - y) / (1.0 + q)
        return c[0] if t > c[0] else (-c[0] if t < -c[0] else t)

    def lipschitz(loss):
        return 1.0


@loss
class EpsilonInsensitive(NamedTuple):
    r""":math:`\max(0, |r| - \varepsilon)`, of support vector regression.

    Parameters
    ----------
    epsilon : float
        :math:`\varepsilon`, in [0, inf).

    References
    ----------
    Vapnik, V. N. (1995). The nature of statistical learning theory. doi:10.1007/978-1-4757-2440-0
    """

    epsilon: float = 0.1

    ranges = {"epsilon": "[0, inf)"}

    def prepare(loss):
        return loss.epsilon, 1.0, 0.0

    def value(c, z, y):
        r = abs(z - y) - c[0]
        return r if r > c[2] else c[2]

    def slope(c, z, y):
        r = z - y
        return c[1] if r > c[0] else (-c[1] if r < -c[0] else c[2])

    def implicit_slope(c, z, y, q):
        r = abs(z - y) - c[0]
        t = (r if r < q else q) / q if r > c[2] else c[2]
        return t if z > y else -t


@loss("pinball")
class Quantile(NamedTuple):
    r""":math:`-q r` where :math:`r < 0`, else :math:`(1 - q) r`: its minimizer is the conditional quantile.

    Parameters
    ----------
    q : float
        In (0, 1); 0.5 gives half the absolute error.

    References
    ----------
    Koenker, R., Bassett, G. (1978). Regression quantiles. doi:10.2307/1913643
    """

    q: float = 0.5

    ranges = {"q": "(0, 1)"}

    def prepare(loss):
        return loss.q, 1.0 - loss.q, 0.0

    def value(c, z, y):
        r = z - y
        return c[1] * r if r > c[2] else -c[0] * r

    def slope(c, z, y):
        r = z - y
        return c[1] if r > c[2] else (-c[0] if r < c[2] else c[2])

    def implicit_slope(c, z, y, q):
        t = (z - y) / q
        return c[1] if t > c[1] else (-c[0] if t < -c[0] else t)
