"""Rules that follow the sign of the gradient: Lion and Rprop."""

from __future__ import annotations

from typing import NamedTuple

from ._rule import rule


@rule()
class Lion(NamedTuple):
    r"""Evolved sign momentum; as optax's, without weight decay by default.

    .. math::
        x_t = (1 - \eta\lambda)\, x_{t-1} - \eta\, \mathrm{sign}(\beta_1 m_{t-1} + (1-\beta_1) g_t), \qquad
        m_t = \beta_2 m_{t-1} + (1-\beta_2) g_t

    Parameters
    ----------
    lr : float or schedule
        Learning rate :math:`\eta`, in [0, inf): the length of every coordinate's step.
    beta1, beta2 : float
        In [0, 1).
    weight_decay : float
        :math:`\lambda`, in [0, inf), decoupled.

    References
    ----------
    Chen, X. et al. (2023). Symbolic discovery of optimization algorithms. doi:10.48550/arXiv.2302.06675
    """

    lr: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0

    slots = ("m",)

    @staticmethod
    def prepare(opt, lr, t):
        return lr, opt.beta1, 1.0 - opt.beta1, opt.beta2, 1.0 - opt.beta2, 1.0 - lr * opt.weight_decay

    @staticmethod
    def update(c, x, g, s, i):
        rate, keep1, take1, keep2, take2, shrink = c
        m = s[0, i]
        direction = keep1 * m + take1 * g
        s[0, i] = keep2 * m + take2 * g
        x = shrink * x
        return x - rate if direction > 0 else (x + rate if direction < 0 else x)


@rule()
class Rprop(NamedTuple):
    r"""Resilient backpropagation: a step length per coordinate, steered by the gradient's sign; as PyTorch's.

    .. math::
        \Delta_t &= \begin{cases}
            \min(\eta_+ \Delta_{t-1}, \Delta_{\max}) & \text{where } g_t g_{t-1} > 0 \\
            \max(\eta_- \Delta_{t-1}, \Delta_{\min}) & \text{where } g_t g_{t-1} < 0 \\
            \Delta_{t-1} & \text{else}
        \end{cases} \\
        x_t &= x_{t-1} - \Delta_t\, \mathrm{sign}(g_t)

    with :math:`\Delta_0 = \eta`.  Where the sign turned the coordinate rests, :math:`g_t` being taken and remembered
    as 0.  Made for full gradients: the sign of a minibatch's is noise.

    Parameters
    ----------
    lr : float or schedule
        First step length, in [0, inf); a schedule's later values have no effect.
    eta_minus, eta_plus : float
        Factors, in (0, 1) and (1, inf).
    step_min, step_max : float
        Bounds on the step length, in [0, inf).

    References
    ----------
    Riedmiller, M., Braun, H. (1993). A direct adaptive method for faster backpropagation learning: the RPROP algorithm.
    doi:10.1109/ICNN.1993.298623
    """

    lr: float = 1e-2
    eta_minus: float = 0.5
    eta_plus: float = 1.2
    step_min: float = 1e-6
    step_max: float = 50.0

    slots = ("g", "length")
    ranges = {"eta_minus": "(0, 1)", "eta_plus": "(1, inf)", "step_min": "[0, inf)", "step_max": "[0, inf)"}

    @staticmethod
    def prepare(opt, lr, t):
        first = lr if t == 1 else 0.0
        return first, opt.eta_minus, opt.eta_plus, opt.step_min, opt.step_max, 0.0, 1.0

    @staticmethod
    def update(c, x, g, s, i):
        first, shrink, grow, low, high, zero, one = c
        agreement = g * s[0, i]
        up = grow if agreement > 0 else one
        down = shrink if agreement < 0 else one
        length = (s[1, i] + first) * up * down
        length = low if length < low else length
        length = high if length > high else length
        g = zero if agreement < 0 else g
        s[0, i] = g
        s[1, i] = length
        forward = length if g > 0 else zero
        back = length if g < 0 else zero
        return x - forward + back
