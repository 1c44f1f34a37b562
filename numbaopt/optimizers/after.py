"""What happens to a coordinate after the rule has moved it: the proximal step of l1.

Written like a rule: a NamedTuple with ``prepare(opt, lr, t)`` and

``after(c, scale, x)``
    the final value of a coordinate that the rule left at ``x``.  ``scale`` is the rule's own ``scale(c, s, i)``: by how
    much it moves the coordinate for a unit of a steady gradient.  Its first coefficient is the number of last unknowns
    (intercepts) that it leaves alone.

It is no transform: a problem puts it behind whatever optimizer the user chose.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .._fields import checked_namedtuple

AFTER: dict[str, Any] = {}


def _after(cls: Any) -> Any:
    AFTER[cls.__name__.lower()] = cls
    return checked_namedtuple(cls)


@_after
class Proximal(NamedTuple):
    r"""The proximal step of :math:`\lambda_1 \|x\|_1` in the metric of the rule: soft-thresholding by ``scale * l1``.

    A fixed point :math:`x = \mathrm{soft}(x - d g, d \lambda_1)` meets the optimality conditions whatever the scale
    :math:`d > 0` of the coordinate is, and zeros are exact.

    Parameters
    ----------
    l1 : float
        :math:`\lambda_1`, in [0, inf).
    free : int
        How many of the last unknowns (intercepts) are left alone.

    References
    ----------
    Duchi, J., Singer, Y. (2009). Efficient online and batch learning using forward backward splitting.
    Duchi, J., Hazan, E., Singer, Y. (2011). Adaptive subgradient methods for online learning and stochastic
    optimization.
    """

    l1: float = 0.0
    free: float = 0.0

    ranges = {"l1": "[0, inf)", "free": "[0, inf)"}

    @staticmethod
    def prepare(opt, lr, t):
        return opt.free, opt.l1, 0.0

    @staticmethod
    def after(c, scale, x):
        threshold = c[1] * scale
        return x - threshold if x > threshold else (x + threshold if x < -threshold else c[2])
