"""Adam that becomes gradient descent, at a rate that it has learnt itself."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ._rule import bias_correction, rule

AVERAGE, FOUND = 2, 3  # slots of one number for all coordinates


@rule()
class SWATS(NamedTuple):
    r"""Adam, then stochastic gradient descent: the moment of the switch and the second rate come from Adam's own steps.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1-\beta_1) g_t, \qquad v_t = \beta_2 v_{t-1} + (1-\beta_2) g_t^2, \qquad
        d_t = \frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t}\, \frac{m_t}{\sqrt{v_t} + \varepsilon} \\
        x_t &= x_{t-1} - \eta_t d_t, \qquad
        \gamma_t = \frac{d_t \cdot d_t}{d_t \cdot g_t}, \qquad
        \lambda_t = \beta_2 \lambda_{t-1} + (1-\beta_2) \gamma_t, \qquad
        \Lambda = \frac{\lambda_t}{1-\beta_2^t}

    :math:`\gamma_t` is how long a step along :math:`-g_t` must be for its projection onto :math:`d_t` to be
    :math:`d_t`.  From the first step :math:`t > 1` on after which :math:`|\Lambda - \gamma_t| < \varepsilon_s` and
    :math:`\Lambda > 0`, with :math:`\Lambda` kept and m begun anew,

    .. math:: m_t = \beta_1 m_{t-1} + (1-\beta_1) g_t, \qquad x_t = x_{t-1} - \eta_t \Lambda m_t

    Parameters
    ----------
    lr : float or schedule
        Learning rate :math:`\eta`, in [0, inf); it scales the steps of both phases.
    beta1, beta2 : float
        Decay rates of the moments, in [0, 1); :math:`\beta_1` is the momentum of the second phase, too.
    eps : float
        :math:`\varepsilon`, in [0, inf).
    eps_switch : float
        :math:`\varepsilon_s`, in [0, inf).  :math:`\gamma` is counted in units of :math:`\eta`, so that a schedule does
        not disturb its average; in the paper's units this is :math:`\eta \varepsilon_s`, and 1e-6 its 1e-9 at 1e-3.
    weight_decay : float
        :math:`\lambda_w`, added to the gradient as :math:`\lambda_w x`.

    Notes
    -----
    The sums are over all unknowns, so a step is serial (`numbaopt.step`) and cannot be lazy on sparse data.  The number
    :math:`\Lambda` stands in the first place of the last slot, 0 as long as the steps are Adam's.

    References
    ----------
    Keskar, N. S., Socher, R. (2017). Improving generalization performance by switching from Adam to SGD.
    doi:10.48550/arXiv.1712.07628

    Examples
    --------
    >>> import numpy as np, numbaopt as no
    >>> opt, x = no.SWATS(lr=0.5, eps_switch=0.05), np.array([4.0, 4.0])
    >>> state = no.init_state(opt, x)
    >>> for t in range(1, 201):
    ...     no.step(opt, x, x - 1, state, t)
    >>> bool(state[3, 0] > 0), x.round(3)
    (True, array([1., 1.]))
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-9
    eps_switch: float = 1e-6
    weight_decay: float = 0.0

    slots = ("m", "v", "average", "rate")
    ranges = {"eps_switch": "[0, inf)"}

    @staticmethod
    def prepare(opt, lr, t):
        corrected = bias_correction(opt.beta2, t)
        unit = math.sqrt(corrected) / bias_correction(opt.beta1, t)
        closeness = opt.eps_switch if t > 1 else -1.0
        return (lr * unit, opt.beta1, 1.0 - opt.beta1, opt.beta2, 1.0 - opt.beta2, opt.eps, opt.weight_decay, 1.0, 0.0,
                lr * math.sqrt(corrected), lr, unit, corrected, closeness)  # fmt: skip

    @staticmethod
    def term(c, x, g, s, i):
        if s[FOUND, 0] > 0:
            return 0.0, 0.0
        g = g + c[6] * x
        m = c[1] * s[0, i] + c[2] * g
        d = np.float64(m / (math.sqrt(c[3] * s[1, i] + c[4] * (g * g)) + c[5]))
        return d * d, d * g

    @staticmethod
    def finish(c, total, s):
        _, keep1, take1, keep2, take2, eps, couple, keep, descends, steady, lr, unit, corrected, closeness = c
        if s[FOUND, 0] > 0:
            rate, descends = lr * s[FOUND, 0], 1.0
        else:
            rate = c[0]
            if total[1] != 0:
                gamma = unit * total[0] / total[1]
                average = s[AVERAGE, 0] + take2 * (gamma - s[AVERAGE, 0])
                s[AVERAGE, 0] = average
                found = average / corrected
                if found > 0 and abs(found - gamma) < closeness:
                    s[FOUND, 0], keep = found, 0.0
        return (rate, keep1, take1, keep2, take2, eps, couple, keep, descends, steady, lr, unit, corrected, closeness)

    @staticmethod
    def update(c, x, g, s, i):
        g = g + c[6] * x
        m = c[1] * s[0, i] + c[2] * g
        if c[8] > 0:
            s[0, i] = m
            return x - c[0] * m
        v = c[3] * s[1, i] + c[4] * (g * g)
        s[0, i] = c[7] * m
        s[1, i] = v
        return x - c[0] * m / (math.sqrt(v) + c[5])

    @staticmethod
    def scale(c, s, i):
        if c[8] > 0:
            return c[0]
        size = math.sqrt(s[1, i]) + c[5]
        return c[9] / size if size > 0 else size
