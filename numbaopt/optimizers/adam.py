"""Adam and the rules that keep its two moments."""

from __future__ import annotations

import math
from typing import NamedTuple

from numba.extending import register_jitable

from ._rule import bias_correction, rule

# With bias corrections p = 1 - beta1^t and q = 1 - beta2^t, the textbook's  lr * (m / p) / (sqrt(v / q + root) + eps)
# is  (lr sqrt(q) / p) * m / (sqrt(v + q root) + sqrt(q) eps):  one division and one square root a coordinate.


@register_jitable
def adam_coefficients(opt, lr, t, couple, shrink):
    root_q = math.sqrt(bias_correction(opt.beta2, t))
    eps = opt.eps if opt.eps_hat else opt.eps * root_q
    rate = lr * root_q / bias_correction(opt.beta1, t)
    return (rate, opt.beta1, 1.0 - opt.beta1, opt.beta2, 1.0 - opt.beta2,
            opt.eps_root * root_q * root_q, eps, couple, shrink, lr * root_q)  # fmt: skip


def adam_update(c, x, g, s, i):
    rate, keep1, take1, keep2, take2, root, eps, couple, shrink, _ = c
    g = g + couple * x
    m = keep1 * s[0, i] + take1 * g
    v = keep2 * s[1, i] + take2 * (g * g)
    s[0, i] = m
    s[1, i] = v
    return shrink * x - rate * m / (math.sqrt(v + root) + eps)


def adam_scale(c, s, i):
    size = math.sqrt(s[1, i] + c[5]) + c[6]
    return c[9] / size if size > 0 else size


@rule()
class Adam(NamedTuple):
    r"""Adaptive moment estimation, as ``torch.optim.Adam``.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1-\beta_1) g_t, \qquad v_t = \beta_2 v_{t-1} + (1-\beta_2) g_t^2 \\
        x_t &= x_{t-1} - \frac{\eta}{1-\beta_1^t}\, \frac{m_t}{\sqrt{v_t} / \sqrt{1-\beta_2^t} + \varepsilon}

    Parameters
    ----------
    lr : float or schedule
        Learning rate :math:`\eta`, in [0, inf).
    beta1, beta2 : float
        Decay rates of the moments, in [0, 1).
    eps : float
        :math:`\varepsilon`, in [0, inf).
    weight_decay : float
        :math:`\lambda`, added to the gradient as :math:`\lambda x` (coupled; `AdamW` decouples).
    eps_root : float
        optax's second constant, inside the root: :math:`\sqrt{\hat v_t + \varepsilon_r} + \varepsilon`.
    eps_hat : bool
        Keras' (and the paper's footnote's) form: :math:`\varepsilon` is added to :math:`\sqrt{v_t}` before the
        correction.

    References
    ----------
    Kingma, D. P., Ba, J. (2015). Adam: a method for stochastic optimization. doi:10.48550/arXiv.1412.6980

    Examples
    --------
    >>> import numpy as np, numbaopt as no
    >>> opt, x = no.Adam(lr=0.1), np.array([1.0, 1.0])
    >>> state = no.init_state(opt, x)
    >>> no.step(opt, x, np.array([3.0, -0.01]), state, t=1)
    >>> x
    array([0.9     , 1.0999999])
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    eps_root: float = 0.0
    eps_hat: bool = False

    slots = ("m", "v")

    @staticmethod
    def prepare(opt, lr, t):
        return adam_coefficients(opt, lr, t, opt.weight_decay, 1.0)

    update = staticmethod(adam_update)
    scale = staticmethod(adam_scale)


@rule()
class AdamW(NamedTuple):
    r"""Adam with decoupled weight decay, as ``torch.optim.AdamW``.

    .. math::
        x_t = (1 - \eta\lambda)\, x_{t-1}
              - \frac{\eta}{1-\beta_1^t}\, \frac{m_t}{\sqrt{v_t} / \sqrt{1-\beta_2^t} + \varepsilon}

    with the moments :math:`m_t` and :math:`v_t` of `Adam`.

    Parameters
    ----------
    lr : float or schedule
        Learning rate :math:`\eta`, in [0, inf); it also scales the decay, which in the paper has a multiplier of its
        own.
    beta1, beta2, eps, eps_root, eps_hat
        As in `Adam`.
    weight_decay : float
        :math:`\lambda`, in [0, inf); 0.01 as in PyTorch (optax: 1e-4, Keras: 4e-3).

    References
    ----------
    Loshchilov, I., Hutter, F. (2019). Decoupled weight decay regularization. doi:10.48550/arXiv.1711.05101
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 1e-2
    eps_root: float = 0.0
    eps_hat: bool = False

    slots = ("m", "v")

    @staticmethod
    def prepare(opt, lr, t):
        return adam_coefficients(opt, lr, t, 0.0, 1.0 - lr * opt.weight_decay)

    update = staticmethod(adam_update)
    scale = staticmethod(adam_scale)


@rule()
class AMSGrad(NamedTuple):
    r"""Adam whose second moment never decreases, as ``torch.optim.Adam(amsgrad=True)``.

    .. math::
        M_t = \max(M_{t-1}, v_t), \qquad
        x_t = x_{t-1} - \frac{\eta}{1-\beta_1^t}\, \frac{m_t}{\sqrt{M_t} / \sqrt{1-\beta_2^t} + \varepsilon}

    with the moments :math:`m_t` and :math:`v_t` of `Adam`.  The maximum is over the raw moment (optax takes that of
    corrected moments; the paper corrects nothing).

    Parameters
    ----------
    lr, beta1, beta2, eps, weight_decay, eps_root, eps_hat
        As in `Adam`.

    References
    ----------
    Reddi, S. J., Kale, S., Kumar, S. (2018). On the convergence of Adam and beyond. doi:10.48550/arXiv.1904.09237
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    eps_root: float = 0.0
    eps_hat: bool = False

    slots = ("m", "v", "v_max")

    @staticmethod
    def prepare(opt, lr, t):
        return adam_coefficients(opt, lr, t, opt.weight_decay, 1.0)

    @staticmethod
    def update(c, x, g, s, i):
        rate, keep1, take1, keep2, take2, root, eps, couple, shrink, _ = c
        g = g + couple * x
        m = keep1 * s[0, i] + take1 * g
        v = keep2 * s[1, i] + take2 * (g * g)
        top = s[2, i]
        top = v if v > top else top
        s[0, i] = m
        s[1, i] = v
        s[2, i] = top
        return shrink * x - rate * m / (math.sqrt(top + root) + eps)

    @staticmethod
    def scale(c, s, i):
        size = math.sqrt(s[2, i] + c[5]) + c[6]
        return c[9] / size if size > 0 else size


@rule()
class Adamax(NamedTuple):
    r"""Adam in the infinity norm, as ``torch.optim.Adamax``.

    .. math::
        m_t = \beta_1 m_{t-1} + (1-\beta_1) g_t, \qquad u_t = \max(\beta_2 u_{t-1}, |g_t| + \varepsilon), \qquad
        x_t = x_{t-1} - \frac{\eta}{1-\beta_1^t} \frac{m_t}{u_t}

    Parameters
    ----------
    lr : float or schedule
        Learning rate :math:`\eta`, in [0, inf).
    beta1, beta2 : float
        Decay rates, in [0, 1).
    eps : float
        :math:`\varepsilon`, in [0, inf); Keras adds it to :math:`u_t` instead, the paper has none.
    weight_decay : float
        :math:`\lambda`, added to the gradient as :math:`\lambda x`.

    References
    ----------
    Kingma, D. P., Ba, J. (2015), section 7.1. doi:10.48550/arXiv.1412.6980
    """

    lr: float = 2e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    slots = ("m", "u")

    @staticmethod
    def prepare(opt, lr, t):
        return (lr / bias_correction(opt.beta1, t), opt.beta1, 1.0 - opt.beta1, opt.beta2, opt.eps, opt.weight_decay,
                lr)  # fmt: skip

    @staticmethod
    def update(c, x, g, s, i):
        rate, keep1, take1, keep2, eps, couple, _ = c
        g = g + couple * x
        m = keep1 * s[0, i] + take1 * g
        old, new = keep2 * s[1, i], abs(g) + eps
        u = old if old > new else new
        s[0, i] = m
        s[1, i] = u
        return x - rate * m / u

    @staticmethod
    def scale(c, s, i):
        return c[6] / s[1, i] if s[1, i] > 0 else s[1, i]


@rule()
class NAdam(NamedTuple):
    r"""Adam with Nesterov momentum, as ``torch.optim.NAdam``.

    .. math::
        \mu_t &= \beta_1 (1 - \tfrac12\, 0.96^{t\psi}) \\
        x_t &= x_{t-1} - \eta\, \frac{\frac{1-\mu_t}{1-\prod_{i\le t}\mu_i} g_t
               + \frac{\mu_{t+1}}{1-\prod_{i\le t+1}\mu_i} m_t}{\sqrt{v_t / (1-\beta_2^t)} + \varepsilon}

    Parameters
    ----------
    lr : float or schedule
        Learning rate :math:`\eta`, in [0, inf).
    beta1, beta2, eps, weight_decay
        As in `Adam`.
    momentum_decay : float
        :math:`\psi`, in [0, inf); Keras' form is :math:`\psi = 1`.

    References
    ----------
    Dozat, T. (2016). Incorporating Nesterov momentum into Adam. ICLR workshop.
    """

    lr: float = 2e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 4e-3

    slots = ("m", "v")

    @staticmethod
    def prepare(opt, lr, t):
        # prod_{i<=t} (1 - q^i / 2) in closed form: its logarithm is -sum_k 2^-k / k * (q^k + q^2k + ... + q^tk), and
        # the sum over k has halved 53 times when it ends. So step t needs no memory of the steps before.
        log_q = opt.momentum_decay * math.log(0.96)
        log_product, weight = t * math.log(opt.beta1) if opt.beta1 > 0.0 else -math.inf, 1.0
        for k in range(1, 54):
            weight *= 0.5
            run = math.expm1(k * t * log_q) / math.expm1(k * log_q) if log_q < 0.0 else 1.0 * t
            log_product -= weight / k * math.exp(k * log_q) * run
        product = math.exp(log_product)
        mu = opt.beta1 * (1.0 - 0.5 * math.exp(t * log_q))
        mu_next = opt.beta1 * (1.0 - 0.5 * math.exp((t + 1) * log_q))
        root_q = math.sqrt(bias_correction(opt.beta2, t))
        return (lr * root_q * (1.0 - mu) / (1.0 - product), lr * root_q * mu_next / (1.0 - product * mu_next),
                opt.beta1, 1.0 - opt.beta1, opt.beta2, 1.0 - opt.beta2, opt.eps * root_q, opt.weight_decay,
                lr * root_q)  # fmt: skip

    @staticmethod
    def update(c, x, g, s, i):
        from_gradient, from_moment, keep1, take1, keep2, take2, eps, couple, _ = c
        g = g + couple * x
        m = keep1 * s[0, i] + take1 * g
        v = keep2 * s[1, i] + take2 * (g * g)
        s[0, i] = m
        s[1, i] = v
        return x - (from_gradient * g + from_moment * m) / (math.sqrt(v) + eps)

    @staticmethod
    def scale(c, s, i):
        size = math.sqrt(s[1, i]) + c[6]
        return c[8] / size if size > 0 else size


@rule()
class RAdam(NamedTuple):
    r"""Adam with a rectified adaptive rate, as ``torch.optim.RAdam``.

    With :math:`\rho_\infty = 2/(1-\beta_2) - 1` and :math:`\rho_t = \rho_\infty - 2 t \beta_2^t / (1 - \beta_2^t)`, a
    step with :math:`\rho_t > 5` is

    .. math::
        x_t = x_{t-1} - \eta \hat m_t\, r_t \frac{\sqrt{1-\beta_2^t}}{\sqrt{v_t} + \varepsilon}, \qquad
        r_t = \sqrt{\frac{(\rho_t-4)(\rho_t-2)\rho_\infty}{(\rho_\infty-4)(\rho_\infty-2)\rho_t}}

    and before that a step of momentum, :math:`x_t = x_{t-1} - \eta \hat m_t`.  optax corrects :math:`v_t` before
    :math:`\varepsilon` is added and switches at :math:`\rho_t \ge 5`; the paper switches at 4.

    Parameters
    ----------
    lr, beta1, beta2, eps, weight_decay
        As in `Adam`.

    References
    ----------
    Liu, L. et al. (2020). On the variance of the adaptive learning rate and beyond. doi:10.48550/arXiv.1908.03265
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    slots = ("m", "v")

    @staticmethod
    def prepare(opt, lr, t):
        power = opt.beta2**t
        rho_end = 2.0 / (1.0 - opt.beta2) - 1.0
        rho = rho_end - 2.0 * t * power / (1.0 - power)
        rate, use_root, offset = lr / bias_correction(opt.beta1, t), 0.0, 1.0
        if rho > 5.0:
            rectified = (rho - 4.0) * (rho - 2.0) * rho_end / ((rho_end - 4.0) * (rho_end - 2.0) * rho)
            rate, use_root, offset = rate * math.sqrt(rectified * (1.0 - power)), 1.0, opt.eps
        return (rate, opt.beta1, 1.0 - opt.beta1, opt.beta2, 1.0 - opt.beta2, use_root, offset, opt.weight_decay,
                rate * bias_correction(opt.beta1, t))  # fmt: skip

    @staticmethod
    def update(c, x, g, s, i):
        rate, keep1, take1, keep2, take2, use_root, offset, couple, _ = c
        g = g + couple * x
        m = keep1 * s[0, i] + take1 * g
        v = keep2 * s[1, i] + take2 * (g * g)
        s[0, i] = m
        s[1, i] = v
        return x - rate * m / (use_root * math.sqrt(v) + offset)

    @staticmethod
    def scale(c, s, i):
        size = c[5] * math.sqrt(s[1, i]) + c[6]
        return c[8] / size if size > 0 else size
