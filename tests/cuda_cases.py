"""Every rule and transform that a step on a GPU is tested with: those of the package, some together, a user's own."""

import math
from typing import NamedTuple

import numbaopt as no
from numbaopt import optimizers
from numbaopt._fields import checked_namedtuple
from numbaopt.transforms import TRANSFORMS, chain


@checked_namedtuple  # known to no table of rules
class Cautious(NamedTuple):
    """A user's rule: momentum that moves only where it agrees with the gradient, by at most a root."""

    lr: float = 0.01
    keep: float = 0.9
    slots = ("m",)

    def prepare(opt, lr, t):
        return lr, opt.keep, 0.0

    def update(c, x, g, s, i):
        m = c[1] * s[0, i] + g
        s[0, i] = m
        return x - c[0] * math.sqrt(max(m * g, c[2]))


@checked_namedtuple
class Leader(NamedTuple):
    """A user's rule that looks at the state of another coordinate, the first."""

    lr: float = 0.01
    slots = ("m",)

    def prepare(opt, lr, t):
        return (lr,)

    def update(c, x, g, s, i):
        first = s[0, 0]
        if i > 0:
            s[0, i] = first + g
        return x - c[0] * (g + s[0, i])


RULES = {cls.__name__: cls(lr=0.05) for cls in map(vars(optimizers).get, optimizers.__all__)
         if isinstance(cls, type) and hasattr(cls, "update")}  # fmt: skip
SHORT = no.transforms.ClipByNorm(0.5)
OPTIMIZERS = {
    **RULES,
    **{f"{kind.__name__}, Adam": chain(kind(), no.Adam(lr=0.05)) for kind in TRANSFORMS.values()
       if kind.__module__ == "numbaopt.transforms"},
    "Lookahead": no.Lookahead(no.Adam(lr=0.05), k=3),
    "Switch": no.Switch(no.Adam(lr=0.05), no.Momentum(lr=0.01), at=7),
    "Switch of SWATS": no.Switch(no.SWATS(lr=0.05), no.SGD(lr=0.01), at=7),
    "ClipByNorm, SWATS": chain(SHORT, no.SWATS(lr=0.05, eps_switch=2e-3)),
    "all transforms": chain(no.transforms.ClipByValue(0.3), SHORT, no.transforms.WeightDecay(0.1), no.AdamW(lr=0.05)),
    "a user's": Cautious(),
}  # fmt: skip
SUMMING = ("ClipByNorm, Adam", "SWATS", "Switch of SWATS", "ClipByNorm, SWATS", "all transforms")
