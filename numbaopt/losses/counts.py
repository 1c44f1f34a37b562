"""Losses whose margin is the logarithm of a mean: counts and amounts."""

from __future__ import annotations

from typing import NamedTuple

from .._math import exp
from ._loss import loss


@loss
class Poisson(NamedTuple):
    r""":math:`e^z - y z`, half the deviance of a Poisson distribution with mean :math:`e^z`, up to a constant.

    The exponential saturates near the largest number there is.
    """

    takes = "nonnegative"

    def value(c, z, y):
        return exp(z) - y * z

    def slope(c, z, y):
        return exp(z) - y

    def curvature(c, z, y):
        return exp(z)


@loss
class Gamma(NamedTuple):
    r""":math:`z + y e^{-z}`, half the deviance of a gamma distribution with mean :math:`e^z`, up to a constant.

    The product saturates near the largest number there is.
    """

    takes = "positive"

    def prepare(loss):
        return (1.0,)

    def value(c, z, y):
        return z + y * exp(-z)

    def slope(c, z, y):
        return c[0] - y * exp(-z)

    def curvature(c, z, y):
        return y * exp(-z)
