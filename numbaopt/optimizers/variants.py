"""Later rules with other ideas of the second moment: AdaBelief, Yogi, Adan."""

from __future__ import annotations

import math
from typing import NamedTuple

from ._rule import bias_correction, rule


@rule()
class AdaBelief(NamedTuple):
    r"""Adam whose second moment is that of the surprise :math:`g_t - m_t`; as optax's.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1-\beta_1) g_t, \qquad
        s_t = \beta_2 s_{t-1} + (1-\beta_2)(g_t - m_t)^2 + \varepsilon_r \\
        x_t &= x_{t-1} - \eta\, \frac{m_t / (1-\beta_1^t)}{\sqrt{s_t / (1-\beta_2^t)} + \varepsilon}

    Parameters
    ----------
    lr : float or schedule
        Learning rate :math:`\eta`, in [0, inf).
    beta1, beta2 : float
        Decay rates of the moments, in [0, 1).
    eps, eps_root : float
        :math:`\varepsilon` and :math:`\varepsilon_r` (which is stored in :math:`s_t`), in [0, inf).

    References
    ----------
    Zhuang, J. et al. (2020). AdaBelief optimizer: adapting stepsizes by the belief in observed gradients.
    doi:10.48550/arXiv.2010.07468
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-16
    eps_root: float = 1e-16

    slots = ("m", "s")

    @staticmethod
    def prepare(opt, lr, t):
        root_q = math.sqrt(bias_correction(opt.beta2, t))
        return (lr * root_q / bias_correction(opt.beta1, t), opt.beta1, 1.0 - opt.beta1, opt.beta2, 1.0 - opt.beta2,
                opt.eps_root, opt.eps * root_q, lr * root_q)  # fmt: skip

    @staticmethod
    def update(c, x, g, s, i):
        rate, keep1, take1, keep2, take2, root, eps, _ = c
        m = keep1 * s[0, i] + take1 * g
        surprise = g - m
        v = keep2 * s[1, i] + take2 * (surprise * surprise) + root
        s[0, i] = m
        s[1, i] = v
        return x - rate * m / (math.sqrt(v) + eps)

    @staticmethod
    def scale(c, s, i):
        size = math.sqrt(s[1, i]) + c[6]
        return c[7] / size if size > 0 else size


@rule()
class Yogi(NamedTuple):
    r"""Adam whose second moment changes by a bounded amount a step; as optax's.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1-\beta_1) g_t, \qquad
        v_t = v_{t-1} - (1-\beta_2)\, \mathrm{sign}(v_{t-1} - g_t^2)\, g_t^2 \\
        x_t &= x_{t-1} - \eta\, \frac{m_t / (1-\beta_1^t)}{\sqrt{v_t / (1-\beta_2^t)} + \varepsilon}

    Parameters
    ----------
    lr : float or schedule
        Learning rate :math:`\eta`, in [0, inf).
    beta1, beta2 : float
        Decay rates of the moments, in [0, 1).
    eps : float
        :math:`\varepsilon`, in [0, inf).
    initial_accumulator : float
        :math:`m_0 = v_0`, in [0, inf).

    References
    ----------
    Zaheer, M. et al. (2018). Adaptive methods for nonconvex optimization. NeurIPS 31.
    """

    lr: float = 1e-2
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-3
    initial_accumulator: float = 1e-6

    slots = ("m", "v")

    @staticmethod
    def prepare(opt, lr, t):
        root_q = math.sqrt(bias_correction(opt.beta2, t))
        first = opt.initial_accumulator if t == 1 else 0.0
        return (lr * root_q / bias_correction(opt.beta1, t), opt.beta1, 1.0 - opt.beta1, 1.0 - opt.beta2,
                opt.eps * root_q, first, 0.0, lr * root_q)  # fmt: skip

    @staticmethod
    def update(c, x, g, s, i):
        rate, keep1, take1, take2, eps, first, zero, _ = c
        m = keep1 * (s[0, i] + first) + take1 * g
        v = s[1, i] + first
        square = g * g
        change = take2 * square
        down = change if v > square else zero
        up = change if v < square else zero
        v = v - down + up
        s[0, i] = m
        s[1, i] = v
        return x - rate * m / (math.sqrt(v) + eps)

    @staticmethod
    def scale(c, s, i):
        size = math.sqrt(s[1, i]) + c[4]
        return c[7] / size if size > 0 else size


@rule()
class Adan(NamedTuple):
    r"""Adaptive Nesterov momentum, in the authors' own form.

    With :math:`d_t = g_t - g_{t-1}` (:math:`d_1 = 0`):

    .. math::
        m_t &= \beta_1 m_{t-1} + (1-\beta_1) g_t, \qquad v_t = \beta_2 v_{t-1} + (1-\beta_2) d_t \\
        n_t &= \beta_3 n_{t-1} + (1-\beta_3) (g_t + \beta_2 d_t)^2 \\
        x_t &= \Big(x_{t-1} - \eta\, \frac{m_t / (1-\beta_1^t) + \beta_2 v_t / (1-\beta_2^t)}
               {\sqrt{n_t / (1-\beta_3^t)} + \varepsilon}\Big) / (1 + \eta\lambda)

    The betas are the fractions kept, as in the authors' code (the paper's are one minus these; optax 0.2.8 weights
    the difference otherwise).

    Parameters
    ----------
    lr : float or schedule
        Learning rate :math:`\eta`, in [0, inf).
    beta1, beta2, beta3 : float
        Decay rates, in [0, 1).
    eps : float
        :math:`\varepsilon`, in [0, inf).
    weight_decay : float
        :math:`\lambda`, in [0, inf), by the proximal division.

    References
    ----------
    Xie, X. et al. (2024). Adan: adaptive Nesterov momentum algorithm for faster optimizing deep models.
    doi:10.1109/TPAMI.2024.3423382
    """

    lr: float = 1e-3
    beta1: float = 0.98
    beta2: float = 0.92
    beta3: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0

    slots = ("m", "v", "n", "g")

    @staticmethod
    def prepare(opt, lr, t):
        root_q = math.sqrt(bias_correction(opt.beta3, t))
        later = 1.0 if t > 1 else 0.0
        rate_m = lr * root_q / bias_correction(opt.beta1, t)
        rate_v = lr * root_q * opt.beta2 / bias_correction(opt.beta2, t)
        return (rate_m, rate_v, later, opt.beta1, 1.0 - opt.beta1, opt.beta2, 1.0 - opt.beta2,
                opt.beta3, 1.0 - opt.beta3,
                opt.eps * root_q, 1.0 / (1.0 + lr * opt.weight_decay), lr * root_q)  # fmt: skip

    @staticmethod
    def update(c, x, g, s, i):
        rate_m, rate_v, later, keep1, take1, keep2, take2, keep3, take3, eps, shrink, _ = c
        d = later * (g - s[3, i])
        m = keep1 * s[0, i] + take1 * g
        v = keep2 * s[1, i] + take2 * d
        ahead = g + keep2 * d
        n = keep3 * s[2, i] + take3 * (ahead * ahead)
        s[0, i] = m
        s[1, i] = v
        s[2, i] = n
        s[3, i] = g
        return shrink * (x - (rate_m * m + rate_v * v) / (math.sqrt(n) + eps))

    @staticmethod
    def scale(c, s, i):
        size = math.sqrt(s[2, i]) + c[9]
        return c[11] / size if size > 0 else size
