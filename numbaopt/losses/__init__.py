"""Losses of linear models; ``loss`` makes a class one."""

from ._loss import LOSSES, as_loss, loss
from .counts import Gamma, Poisson
from .margin import Hinge, Logistic, SquaredHinge
from .multinomial import Multinomial
from .regression import EpsilonInsensitive, Huber, Quantile, Squared

__all__ = [
    "LOSSES", "EpsilonInsensitive", "Gamma", "Hinge", "Huber", "Logistic", "Multinomial", "Poisson", "Quantile",
    "Squared", "SquaredHinge", "as_loss", "loss",
]  # fmt: skip
