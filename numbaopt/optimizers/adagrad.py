"""Rules that divide by a running measure of the gradient's size."""

from __future__ import annotations

import math
from typing import NamedTuple

from ._rule import rule


@rule()
class AdaGrad(NamedTuple):
    r"""Adaptive gradient: every coordinate's rate falls with the squares of its past gradients; as PyTorch's.

    .. math::
        s_t = s_{t-1} + g_t^2, \qquad
        x_t = x_{t-1} - \frac{\eta}{1 + (t-1)\,\kappa}\, \frac{g_t}{\sqrt{s_t} + \varepsilon}

    Parameters
    ----------
    lr : float or schedule
        Learning rate :math:`\eta`, in [0, inf).
    lr_decay : float
        :math:`\kappa`, in [0, inf).
    weight_decay : float
        :math:`\lambda`, added to the gradient as :math:`\lambda x`.
    initial_accumulator : float
        :math:`s_0`, in [0, inf); optax and Keras start at 0.1.
    eps : float
        :math:`\varepsilon`, in [0, inf).
    eps_in_sqrt : bool
        optax's and Keras' form: :math:`\sqrt{s_t + \varepsilon}`, with ``eps=1e-7`` there.

    References
    ----------
    Duchi, J., Hazan, E., Singer, Y. (2011). Adaptive subgradient methods for online learning and stochastic
    optimization. JMLR 12, 2121-2159.
    """

    lr: float = 1e-2
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator: float = 0.0
    eps: float = 1e-10
    eps_in_sqrt: bool = False

    slots = ("s",)

    @staticmethod
    def prepare(opt, lr, t):
        first = opt.initial_accumulator if t == 1 else 0.0
        inside, outside = (opt.eps, 0.0) if opt.eps_in_sqrt else (0.0, opt.eps)
        return lr / (1.0 + (t - 1) * opt.lr_decay), first, inside, outside, opt.weight_decay

    @staticmethod
    def update(c, x, g, s, i):
        rate, first, inside, outside, couple = c
        g = g + couple * x
        total = s[0, i] + first + g * g
        s[0, i] = total
        size = math.sqrt(total + inside) + outside
        return x - rate * g / size if size > 0 else x

    @staticmethod
    def scale(c, s, i):
        size = math.sqrt(s[0, i] + c[2]) + c[3]
        return c[0] / size if size > 0 else size

    @staticmethod
    def rests(opt):
        return opt.weight_decay == 0


@rule()
class RMSprop(NamedTuple):
    r"""Division by a running root mean square of the gradient, plain, centered or with momentum; as PyTorch's.

    .. math::
        v_t = \alpha v_{t-1} + (1-\alpha) g_t^2, \qquad
        a_t = \sqrt{v_t} + \varepsilon, \qquad x_t = x_{t-1} - \eta\, g_t / a_t

    centered: :math:`a_t = \sqrt{v_t - m_t^2} + \varepsilon` with :math:`m_t = \alpha m_{t-1} + (1-\alpha) g_t`;
    with momentum: :math:`b_t = \mu b_{t-1} + g_t / a_t,\; x_t = x_{t-1} - \eta b_t`.

    Parameters
    ----------
    lr : float or schedule
        Learning rate :math:`\eta`, in [0, inf).
    alpha : float
        :math:`\alpha`, in [0, 1); optax and Keras use 0.9.
    eps : float
        :math:`\varepsilon`, in [0, inf).
    weight_decay : float
        :math:`\lambda`, added to the gradient as :math:`\lambda x`.
    momentum : float
        :math:`\mu`, in [0, 1).
    centered : bool
        Divide by the running standard deviation instead.
    eps_in_sqrt : bool
        optax's and Keras' form: :math:`a_t = \sqrt{v_t + \varepsilon}`.
    lr_inside_momentum : bool
        optax's and Keras' form: :math:`b_t = \mu b_{t-1} + \eta g_t / a_t,\; x_t = x_{t-1} - b_t`.

    References
    ----------
    Tieleman, T., Hinton, G. (2012). Lecture 6.5, RMSprop. Coursera: Neural Networks for Machine Learning.
    Graves, A. (2013). Generating sequences with recurrent neural networks (centered form).
    doi:10.48550/arXiv.1308.0850
    """

    lr: float = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False
    eps_in_sqrt: bool = False
    lr_inside_momentum: bool = False

    slots = ("v", "b", "m")

    @staticmethod
    def prepare(opt, lr, t):
        inside, outside = (opt.eps, 0.0) if opt.eps_in_sqrt else (0.0, opt.eps)
        before, after = (lr, 1.0) if opt.lr_inside_momentum else (1.0, lr)
        centered = 1.0 if opt.centered else 0.0
        extra = 1.0 if opt.centered or opt.momentum > 0.0 else 0.0  # the plain rule never touches slots b and m
        return (opt.alpha, 1.0 - opt.alpha, inside, outside, before, after, opt.momentum, centered, extra,
                opt.weight_decay, lr / (1.0 - opt.momentum))  # fmt: skip

    @staticmethod
    def update(c, x, g, s, i):
        keep, take, inside, outside, before, after, momentum, centered, extra, couple, _ = c
        g = g + couple * x
        v = keep * s[0, i] + take * (g * g)
        s[0, i] = v
        if extra > 0:
            m = keep * s[2, i] + take * g
            spread = v - centered * (m * m)
            spread = spread if spread > 0 else v - v  # rounding must not take it below zero
            b = momentum * s[1, i] + before * g / (math.sqrt(spread + inside) + outside)
            s[2, i] = m
            s[1, i] = b
            return x - after * b
        return x - after * (before * g / (math.sqrt(v + inside) + outside))

    @staticmethod
    def scale(c, s, i):
        spread = s[0, i] - c[7] * (s[2, i] * s[2, i])
        size = math.sqrt((spread if spread > 0 else spread - spread) + c[2]) + c[3]
        return c[10] / size if size > 0 else size


@rule()
class Adadelta(NamedTuple):
    r"""AdaGrad over a window, with units put right by the size of past steps; as PyTorch's.

    .. math::
        v_t &= \rho v_{t-1} + (1-\rho) g_t^2, \qquad
        d_t = \frac{\sqrt{u_{t-1} + \varepsilon}}{\sqrt{v_t + \varepsilon}}\, g_t \\
        u_t &= \rho u_{t-1} + (1-\rho) d_t^2, \qquad x_t = x_{t-1} - \eta d_t

    Parameters
    ----------
    lr : float or schedule
        Learning rate :math:`\eta`, in [0, inf); the paper has none, that is 1.
    rho : float
        :math:`\rho`, in [0, 1).
    eps : float
        :math:`\varepsilon`, in [0, inf).
    weight_decay : float
        :math:`\lambda`, added to the gradient as :math:`\lambda x`.

    References
    ----------
    Zeiler, M. D. (2012). ADADELTA: an adaptive learning rate method. doi:10.48550/arXiv.1212.5701
    """

    lr: float = 1.0
    rho: float = 0.9
    eps: float = 1e-6
    weight_decay: float = 0.0

    slots = ("v", "u")

    @staticmethod
    def prepare(opt, lr, t):
        return lr, opt.rho, 1.0 - opt.rho, opt.eps, opt.weight_decay

    @staticmethod
    def update(c, x, g, s, i):
        rate, keep, take, eps, couple = c
        g = g + couple * x
        v = keep * s[0, i] + take * (g * g)
        u = s[1, i]
        d = math.sqrt((u + eps) / (v + eps)) * g
        s[0, i] = v
        s[1, i] = keep * u + take * (d * d)
        return x - rate * d

    @staticmethod
    def scale(c, s, i):
        return c[0] * math.sqrt((s[1, i] + c[3]) / (s[0, i] + c[3]))
