"""Gradient descent and its momentum relatives."""

from __future__ import annotations

from typing import NamedTuple

from ._rule import decay, rule


@rule("gd", "sgd")
class SGD(NamedTuple):
    r"""Gradient descent; on minibatches, stochastic gradient descent.

    .. math:: x_t = x_{t-1} - \eta\, (g_t + \lambda x_{t-1})

    Parameters
    ----------
    lr : float or schedule
        Learning rate :math:`\eta`, in [0, inf).
    weight_decay : float
        :math:`\lambda`, in [0, inf); added to the gradient as in PyTorch.
    decoupled : bool
        Shrink instead: :math:`x_t = (1 - \eta\lambda) x_{t-1} - \eta g_t`, the same for this rule up to rounding.

    References
    ----------
    Robbins, H., Monro, S. (1951). A stochastic approximation method. doi:10.1214/aoms/1177729586

    Examples
    --------
    >>> import numpy as np, numbaopt as no
    >>> x = np.array([1.0])
    >>> no.step(no.SGD(lr=0.1), x, g=np.array([2.0]), state=no.init_state(no.SGD(), x), t=1)
    >>> x
    array([0.8])
    """

    lr: float = 1e-3
    weight_decay: float = 0.0
    decoupled: bool = False

    slots = ()

    @staticmethod
    def prepare(opt, lr, t):
        couple, shrink = decay(opt.weight_decay, opt.decoupled, lr)
        return lr, couple, shrink

    @staticmethod
    def update(c, x, g, s, i):
        rate, couple, shrink = c
        return shrink * x - rate * (g + couple * x)

    @staticmethod
    def scale(c, s, i):
        return c[0]

    linear = True

    @staticmethod
    def rests(opt):
        return opt.weight_decay == 0


def momentum_update(c, x, g, s, i):
    keep, take, from_gradient, from_buffer, couple, shrink, _ = c
    g = g + couple * x
    b = keep * s[0, i] + take * g
    s[0, i] = b
    return shrink * x - (from_gradient * g + from_buffer * b)


def momentum_scale(c, s, i):
    return c[6]


@rule()
class Momentum(NamedTuple):
    r"""Gradient descent with Polyak's heavy ball, as PyTorch's ``SGD(momentum=...)``.

    .. math:: b_t = \mu b_{t-1} + (1 - \tau) g_t, \qquad x_t = x_{t-1} - \eta b_t

    with :math:`b_1 = g_1` (the first step is not dampened).

    Parameters
    ----------
    lr : float or schedule
        Learning rate :math:`\eta`, in [0, inf).
    momentum : float
        :math:`\mu`, in [0, 1).
    dampening : float
        :math:`\tau`, in [0, 1].
    weight_decay : float
        :math:`\lambda`, added to the gradient as :math:`\lambda x`.
    decoupled : bool
        Shrink x by :math:`1 - \eta\lambda` instead.
    lr_inside_momentum : bool
        Keras' form, which differs when the rate changes: :math:`b_t = \mu b_{t-1} + \eta g_t,\; x_t = x_{t-1} - b_t`.

    References
    ----------
    Polyak, B. T. (1964). Some methods of speeding up the convergence of iteration methods.
    doi:10.1016/0041-5553(64)90137-5
    """

    lr: float = 1e-3
    momentum: float = 0.9
    dampening: float = 0.0
    weight_decay: float = 0.0
    decoupled: bool = False
    lr_inside_momentum: bool = False

    slots = ("b",)

    @staticmethod
    def prepare(opt, lr, t):
        couple, shrink = decay(opt.weight_decay, opt.decoupled, lr)
        take = 1.0 - opt.dampening if t > 1 else 1.0
        scale = lr * (1.0 - opt.dampening) / (1.0 - opt.momentum)
        if opt.lr_inside_momentum:
            return opt.momentum, take * lr, 0.0, 1.0, couple, shrink, scale
        return opt.momentum, take, 0.0, lr, couple, shrink, scale

    update = staticmethod(momentum_update)
    scale = staticmethod(momentum_scale)


@rule()
class Nesterov(NamedTuple):
    r"""Nesterov's accelerated gradient in PyTorch's form, evaluated where the iterate is.

    .. math:: b_t = \mu b_{t-1} + g_t, \qquad x_t = x_{t-1} - \eta (g_t + \mu b_t)

    Parameters
    ----------
    lr : float or schedule
        Learning rate :math:`\eta`, in [0, inf).
    momentum : float
        :math:`\mu`, in [0, 1).
    weight_decay : float
        :math:`\lambda`, added to the gradient as :math:`\lambda x`.
    decoupled : bool
        Shrink x by :math:`1 - \eta\lambda` instead.
    lr_inside_momentum : bool
        Keras' form, which differs when the rate changes: :math:`b_t = \mu b_{t-1} + \eta g_t,\;
        x_t = x_{t-1} - (\eta g_t + \mu b_t)`.

    Notes
    -----
    The paper evaluates the gradient at the look-ahead point; this is the change of variables of Sutskever et al.
    (2013) and Bengio et al. (2012), with a constant :math:`\mu`.

    References
    ----------
    Nesterov, Y. (1983). A method for solving the convex programming problem with convergence rate O(1/k^2).
    Bengio, Y., Boulanger-Lewandowski, N., Pascanu, R. (2013). Advances in optimizing recurrent networks.
    doi:10.1109/ICASSP.2013.6639349
    """

    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    decoupled: bool = False
    lr_inside_momentum: bool = False

    slots = ("b",)

    @staticmethod
    def prepare(opt, lr, t):
        couple, shrink = decay(opt.weight_decay, opt.decoupled, lr)
        scale = lr / (1.0 - opt.momentum)
        if opt.lr_inside_momentum:
            return opt.momentum, lr, lr, opt.momentum, couple, shrink, scale
        return opt.momentum, 1.0, lr, lr * opt.momentum, couple, shrink, scale

    update = staticmethod(momentum_update)
    scale = staticmethod(momentum_scale)
