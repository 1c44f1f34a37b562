"""What happens to a gradient before a rule sees it: clipping, weight decay, noise; and `chain`, to put them in front.

A transform is written like a rule (``optimizers/_rule.py``), with the decorator `transform`: a NamedTuple with
``prepare(opt, lr, t)``, and

``apply(c, x, g, i)``
    the new value and gradient of coordinate ``i``.

One that needs sums over all coordinates first adds two more scalar functions: ``term(c, x, g)``, what each coordinate
contributes, a number or a tuple of numbers (summed in float64), and ``finish(c, total)``, the coefficients that
``apply`` gets.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ._fields import called_by_scipy, checked_namedtuple
from .loops.shuffle import MASK, mix
from .optimizers._program import cast_all

__all__ = ["Chain", "ClipByNorm", "ClipByValue", "GradientNoise", "WeightDecay", "chain", "transform"]

TRANSFORMS: dict[str, Any] = {}  # by their names in lower case


def transform(kind: Any) -> Any:
    r"""Class decorator that makes a NamedTuple with ``prepare(opt, lr, t)`` and ``apply(c, x, g, i)`` a transform.

    Parameters
    ----------
    kind : type
        ``apply`` returns a coordinate's new value and gradient from the coefficients ``c`` that ``prepare`` made.  With
        ``term(c, x, g)`` and ``finish(c, total)`` it gets those that ``finish`` makes of the sum of all terms.

    Returns
    -------
    type
        The class, whose instances may stand in a `chain` and in checkpoints.

    Raises
    ------
    TypeError
        If the class is no NamedTuple or lacks one of the functions.
    ValueError
        If its name is another transform's.

    Examples
    --------
    Gradients without their length:

    >>> import math
    >>> from typing import NamedTuple
    >>> import numpy as np, numbaopt as no
    >>> @no.transforms.transform
    ... class Normalize(NamedTuple):
    ...     eps: float = 1e-12
    ...     def prepare(opt, lr, t):
    ...         return (opt.eps,)
    ...     def term(c, x, g):
    ...         return g * g
    ...     def finish(c, total):
    ...         return (math.sqrt(total) + c[0],)
    ...     def apply(c, x, g, i):
    ...         return x, g / c[0]
    >>> opt, x = no.transforms.chain(Normalize(), no.SGD(lr=1.0)), np.zeros(2)
    >>> no.step(opt, x, np.array([30.0, -40.0]), no.init_state(opt, x), t=1)
    >>> x
    array([-0.6,  0.8])
    """
    if not hasattr(kind, "_fields"):
        raise TypeError(f"{kind.__name__} must be a NamedTuple of the transform's parameters")
    for need in ("prepare", "apply", *(("term", "finish") if hasattr(kind, "term") or hasattr(kind, "finish") else ())):
        if not hasattr(kind, need):
            raise TypeError(f"{kind.__name__} has no {need!r}: a transform needs prepare(opt, lr, t) and "
                            "apply(c, x, g, i); with a sum over coordinates also term(c, x, g), finish(c, total)")
    taken = TRANSFORMS.setdefault(kind.__name__.lower(), kind)
    if (taken.__module__, taken.__qualname__) != (kind.__module__, kind.__qualname__):
        raise ValueError(f"the name {kind.__name__!r} is taken by {taken.__module__}.{taken.__qualname__}")
    TRANSFORMS[kind.__name__.lower()] = kind
    return checked_namedtuple(kind)


@transform
class ClipByValue(NamedTuple):
    r"""Every component of the gradient into :math:`[-c, c]`.

    Parameters
    ----------
    limit : float
        :math:`c`, in (0, inf).
    """

    limit: float = 1.0

    ranges = {"limit": "(0, inf)"}

    @staticmethod
    def prepare(opt, lr, t):
        return (opt.limit,)

    @staticmethod
    def apply(c, x, g, i):
        return x, (c[0] if g > c[0] else (-c[0] if g < -c[0] else g))


@transform
class ClipByNorm(NamedTuple):
    r"""The whole gradient scaled to Euclidean norm :math:`c` where it is longer: :math:`g \min(1, c / \|g\|)`.

    As optax's ``clip_by_global_norm``; PyTorch divides by :math:`\|g\| + 10^{-6}`, which ``eps=1e-6`` gives.

    Parameters
    ----------
    limit : float
        :math:`c`, in (0, inf).
    eps : float
        Added to the norm, in [0, inf).

    References
    ----------
    Pascanu, R., Mikolov, T., Bengio, Y. (2013). On the difficulty of training recurrent neural networks.
    doi:10.48550/arXiv.1211.5063
    """

    limit: float = 1.0
    eps: float = 0.0

    ranges = {"limit": "(0, inf)"}

    @staticmethod
    def prepare(opt, lr, t):
        return opt.limit, opt.eps

    @staticmethod
    def term(c, x, g):
        return g * g

    @staticmethod
    def finish(c, total):
        norm = math.sqrt(total) + c[1]
        return (c[0] / norm if norm > c[0] else 1.0), 0.0

    @staticmethod
    def apply(c, x, g, i):
        return x, c[0] * g


@transform
class WeightDecay(NamedTuple):
    r"""Coupled weight decay :math:`g + \lambda x`, or decoupled: :math:`x \leftarrow (1 - \eta\lambda) x`.

    Parameters
    ----------
    rate : float
        :math:`\lambda`, in [0, inf).
    decoupled : bool
        Whether to shrink x (by the step's learning rate times ``rate``) rather than add to the gradient.
    """

    rate: float = 1e-2
    decoupled: bool = False

    ranges = {"rate": "[0, inf)"}

    @staticmethod
    def prepare(opt, lr, t):
        if opt.decoupled:
            return 0.0, 1.0 - lr * opt.rate
        return opt.rate, 1.0

    @staticmethod
    def apply(c, x, g, i):
        return c[1] * x, g + c[0] * x


@transform
class GradientNoise(NamedTuple):
    r"""Gaussian noise on every component of the gradient, less and less of it: a way out of bad local minima.

    .. math:: g_t + \mathcal N(0, \sigma_t^2), \qquad \sigma_t^2 = \frac{\eta}{t^\gamma}

    The noise of a coordinate is a function of (seed, t, i) alone: the same in slices and threads, from Python and in
    compiled code, and up to rounding in both precisions.  Only the rule sees it: what a run is judged by, and the best
    point that it returns, are exact.

    Parameters
    ----------
    eta : float
        :math:`\eta`, the variance of the first step, in [0, inf); the paper's are 0.01, 0.3 and 1.
    gamma : float
        :math:`\gamma`, in [0, inf).
    seed : int
        In [0, 2**53).

    References
    ----------
    Neelakantan, A., et al. (2015). Adding gradient noise improves learning for very deep networks.
    doi:10.48550/arXiv.1511.06807
    Salmon, J. K., et al. (2011). Parallel random numbers: as easy as 1, 2, 3. doi:10.1145/2063384.2063405

    Examples
    --------
    A rule that follows the gradient stays in the well it begins in; with noise it finds the deeper one:

    >>> import numba, numbaopt as no
    >>> from numbaopt.transforms import GradientNoise, chain
    >>> @numba.njit
    ... def wells(x):
    ...     return (x[0] ** 2 - 1) ** 2 + 0.3 * x[0]
    >>> no.minimize(wells, [1.5], method=no.SGD(lr=0.05)).x.round(2)
    array([0.96])
    >>> res = no.minimize(wells, [1.5], method=chain(GradientNoise(eta=300.0), no.SGD(lr=0.05)))
    >>> res.x.round(2)
    array([-1.04])
    """

    eta: float = 0.3
    gamma: float = 0.55
    seed: float = 0.0

    ranges = {"eta": "[0, inf)", "gamma": "[0, inf)", "seed": "[0, 9007199254740992)"}

    @staticmethod
    def prepare(opt, lr, t):
        seed = int(opt.seed)
        key = mix(mix(mix(seed & MASK) ^ (seed >> 32)) ^ (t & MASK))
        return math.sqrt(opt.eta / float(t) ** opt.gamma), float(key >> 16), float(key & 0xFFFF)  # exact in float32

    @staticmethod
    def apply(c, x, g, i):
        place = np.int64(i)
        key = (np.int64(c[1]) << 16 | np.int64(c[2])) ^ (place >> 32)
        high = mix(key ^ mix(place & MASK))
        low = mix(high ^ key ^ MASK)
        normal = math.sqrt(-2.0 * math.log((high + 0.5) * 2.0**-32)) * math.cos(2.0 * math.pi * 2.0**-32 * low)
        (noise,) = cast_all((normal,), g)
        return x, g + c[0] * noise


class Chain(NamedTuple):
    """An optimizer made of transforms and, last, a rule; made by `chain`.

    Parameters
    ----------
    parts : tuple
        In the order in which they act.
    """

    parts: tuple[Any, ...]

    @property
    def lr(self) -> Any:
        """The learning rate of the rule: a number or a schedule."""
        return self.parts[-1].lr

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of the rule's state vectors."""
        return self.parts[-1].slots

    def __call__(self, fun, x0, *args, **given):
        """What SciPy calls where a chain is its ``method``."""
        return called_by_scipy(self, fun, x0, *args, **given)


def chain(*parts: Any) -> Chain:
    """Put transforms in front of a rule; they act in the order given.

    Parameters
    ----------
    *parts : transforms, then one optimizer
        The customary order is clipping, then weight decay, then the rule.  The optimizer may be a chain itself.

    Returns
    -------
    Chain
        Usable wherever an optimizer is.

    Examples
    --------
    >>> import numbaopt as no
    >>> from numbaopt.transforms import ClipByNorm, chain
    >>> opt = chain(ClipByNorm(1.0), no.SGD(lr=0.5))
    >>> no.minimize(lambda x: x[0] ** 4, [10.0], method=opt, jac=lambda x: 4 * x**3).x.round(2)
    array([0.01])
    """
    if not parts:
        raise TypeError("chain() needs at least an optimizer")
    *front, last = parts
    if isinstance(last, Chain):
        *between, last = last.parts
        front += between
    for part in front:
        if isinstance(part, type) or not (hasattr(part, "apply") and hasattr(part, "prepare")):
            raise TypeError(f"chain({part!r}, ...): not a transform; only the last part may be an optimizer")
    if isinstance(last, type) or not (hasattr(last, "update") and hasattr(last, "prepare")):
        raise TypeError(f"chain(..., {last!r}): the last part must be an optimizer")
    return Chain((*front, last))
