"""Optimizers: one family of rules a file."""

from ._rule import OPTIMIZERS, rule
from .adagrad import Adadelta, AdaGrad, RMSprop
from .adam import Adam, Adamax, AdamW, AMSGrad, NAdam, RAdam
from .sgd import SGD, Momentum, Nesterov
from .sign import Lion, Rprop
from .swats import SWATS
from .variants import AdaBelief, Adan, Yogi

__all__ = [
    "OPTIMIZERS", "SGD", "SWATS", "AMSGrad", "AdaBelief", "AdaGrad", "Adadelta", "Adam", "AdamW", "Adamax", "Adan",
    "Lion", "Momentum", "NAdam", "Nesterov", "RAdam", "RMSprop", "Rprop", "Yogi", "rule",
]  # fmt: skip
