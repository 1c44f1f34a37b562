"""What happens to a coordinate after the rule has moved it: the proximal step of l1, averaging.

Written like a rule: a NamedTuple with ``slots``, ``prepare(opt, lr, t)`` and

``after(c, scale, x, s, k, i)``
    the final value of a coordinate that the rule left at ``x``.  ``scale`` is the rule's own ``scale(c, s, i)``: by how
    much it moves the coordinate for a unit of a steady gradient.  Own state is at ``s[k, i]`` and below.

They are no transforms: a problem (l1) or the driver (averaging) puts them behind whatever optimizer the user chose.
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
    Duchi, J., Hazan, E., Singer, Y. (2011). Adaptive subgradient methods for online learning and stochastic optimization.
    """

    l1: float = 0.0
    free: float = 0.0

    slots = ()
    ranges = {"l1": "[0, inf)", "free": "[0, inf)"}
    partial = True  # not for the last unknowns

    @staticmethod
    def prepare(opt, lr, t):
        return opt.free, opt.l1, 0.0

    @staticmethod
    def after(c, scale, x, s, k, i):
        threshold = c[1] * scale
        return x - threshold if x > threshold else (x + threshold if x < -threshold else c[2])


@_after
class Average(NamedTuple):
    r"""A running average of the iterates in a slot of its own: :math:`a_t = a_{t-1} + w_t (x_t - a_{t-1})`.

    :math:`w_t = 1` until step ``start`` (the average is the iterate), then
    :math:`\max(1 - \text{decay},\, 1 / (t - \text{start}))`: the plain mean until it is as long as the exponential
    window.

    Parameters
    ----------
    start : int
        Steps before averaging begins, in [0, inf).
    decay : float
        In [0, 1]; 1 is the mean of all iterates since (Polyak's), below 1 an exponential moving average.

    References
    ----------
    Polyak, B. T., Juditsky, A. B. (1992). Acceleration of stochastic approximation by averaging. doi:10.1137/0330046
    """

    start: float = 0.0
    decay: float = 1.0

    slots = ("average",)
    ranges = {"start": "[0, inf)", "decay": "[0, 1]"}
    partial = False

    @staticmethod
    def prepare(opt, lr, t):
        age = t - opt.start
        if age <= 1.0:
            return (1.0,)
        return (max(1.0 - opt.decay, 1.0 / age),)

    @staticmethod
    def after(c, scale, x, s, k, i):
        s[k, i] += c[0] * (x - s[k, i])
        return x
