"""Rules made of rules: one after the other, or one that looks ahead of another.

A combined rule is a NamedTuple like any other: its class is made for the classes of its parts, whose fields it has with
a prefix, and composes their scalar functions.
"""

from __future__ import annotations

import functools
from collections import namedtuple
from typing import Any, NamedTuple

from numba.extending import register_jitable

from .._fields import RANGES, checked_namedtuple, from_fields
from .._jit import EXACT
from .._schedule import rate, schedule
from ..automatic import is_automatic
from ..schedules import plateau_of
from ..transforms import Chain, chain

MAKERS: dict[str, Any] = {}  # functions that make combined rules, by name


@schedule
class SwitchedRate(NamedTuple):
    """The rate of `Switch`: ``first`` for ``at`` steps, then ``second``, counted from there.

    Parameters
    ----------
    first, second : float or schedule
    at : float
        In [0, inf).
    """

    first: Any = 1e-3
    second: Any = 1e-3
    at: float = 1000.0

    ranges = {"at": "[0, inf)"}

    @staticmethod
    def rate(s, step, scale):
        if step < s.at:
            return rate(s.first, step, scale)
        return rate(s.second, step - s.at, scale)


def Switch(first, second, at):  # noqa: N802
    r"""The rule ``first`` for ``at`` steps, then ``second``, which begins afresh.

    .. math::
        x_t = \begin{cases}
            \mathrm{first}_t(x_{t-1}, g_t) & \text{where } t \le \mathrm{at} \\
            \mathrm{second}_{t - \mathrm{at}}(x_{t-1}, g_t) & \text{else}
        \end{cases}

    Each has its own rate; a schedule of the second counts from the switch.  In minibatch training a step is one batch,
    so e epochs are :math:`e \lceil n / \mathrm{batch\_size} \rceil` steps.

    Parameters
    ----------
    first, second : optimizer
        Rules such as ``Adam(lr=0.01)``; transforms go around the whole, ``chain(ClipByNorm(1.0), Switch(...))``.
    at : int
        The number of steps of ``first``, in [0, inf).

    Returns
    -------
    optimizer
        Usable wherever a rule is.

    References
    ----------
    Keskar, N. S., Socher, R. (2017). Improving generalization performance by switching from Adam to SGD.
    doi:10.48550/arXiv.1712.07628 (which also chooses the moment and the second rate.)

    Examples
    --------
    >>> import numpy as np, numbaopt as no
    >>> opt = no.Switch(no.Adam(lr=0.5), no.SGD(lr=0.25), at=20)
    >>> bowl = lambda x: ((x - 3) ** 2).sum()
    >>> no.minimize(bowl, np.zeros(2), method=opt, jac=lambda x: 2 * (x - 3)).x.round(4)
    array([3., 3.])
    """
    first, second = _rule("Switch", first), _rule("Switch", second)
    for lr in (first.lr, second.lr):
        if plateau_of(lr) is not None or is_automatic(lr):
            raise ValueError(f"Switch: {lr!r} follows one run; give each rule a number or another schedule")
    rates: Any = SwitchedRate
    return _switch(type(first), type(second))(rates(first.lr, second.lr, at), at, *first[1:], *second[1:])


def Lookahead(opt, k=5, alpha=0.5):  # noqa: N802
    r"""Slow weights that follow those of any rule, which goes on from them every k steps.

    .. math:: s \leftarrow s + \alpha (x_t - s), \quad x_t \leftarrow s \qquad \text{where } k \mid t,\; s_0 = x_0

    Parameters
    ----------
    opt : optimizer
        Its state is kept at a synchronisation, as in ``optax.lookahead``.  Of a chain, the rule is wrapped.
    k : int
        Steps between synchronisations, in [1, inf).
    alpha : float
        :math:`\alpha`, in (0, 1].

    Returns
    -------
    optimizer
        Usable wherever a rule is; its state has one more vector, :math:`s`.

    References
    ----------
    Zhang, M., Lucas, J., Hinton, G., Ba, J. (2019). Lookahead optimizer: k steps forward, 1 step back.
    doi:10.48550/arXiv.1907.08610

    Examples
    --------
    >>> import numpy as np, numbaopt as no
    >>> opt, x = no.Lookahead(no.SGD(lr=0.5), k=2), np.array([1.0])
    >>> state = no.init_state(opt, x)
    >>> for t in (1, 2):
    ...     no.step(opt, x, np.array([1.0]), state, t)
    >>> x
    array([0.5])
    """
    if isinstance(opt, Chain):
        return chain(*opt.parts[:-1], Lookahead(opt.parts[-1], k, alpha))
    inner = _rule("Lookahead", opt)
    return _lookahead(type(inner))(inner.lr, k, alpha, *inner[1:])


MAKERS.update(Switch=Switch, Lookahead=Lookahead)


def _rule(name: str, opt: Any) -> Any:
    if isinstance(opt, type) or not hasattr(opt, "update") or opt._fields[0] != "lr":
        raise TypeError(f"{name}: {opt!r} is not a rule such as numbaopt.Adam() whose first field is lr; transforms "
                        "go around the whole")  # fmt: skip
    return opt


def _made(name: str, own: dict[str, float], parts: dict[str, Any], ranges: dict[str, str], body: dict[str, Any]) -> Any:
    """A class with the fields ``lr``, its ``own``, and those of its ``parts`` with their names in front."""
    kinds: dict[str, Any] = dict.fromkeys(("lr", *own), float)
    defaults: dict[str, Any] = {"lr": 1e-3, **own}
    for prefix, cls in parts.items():
        for field in cls._fields[1:]:
            kinds[f"{prefix}_{field}"] = bool if "bool" in str(cls.__annotations__[field]) else float
            defaults[f"{prefix}_{field}"] = cls._field_defaults[field]
        for field, interval in {**RANGES, **getattr(cls, "ranges", {})}.items():
            ranges = {f"{prefix}_{field}": interval, **ranges}
    title = f"{name}_{'_'.join(cls.__name__ for cls in parts.values())}"
    made: Any = namedtuple(title, kinds, defaults=list(defaults.values()))
    body |= {
        "__annotations__": kinds, "__module__": __name__, "ranges": ranges,
        "__reduce__": lambda self: (MAKERS[name], tuple(self.arguments().values())),
        "__repr__": lambda self: f"{name}({', '.join(f'{k}={v!r}' for k, v in self.arguments().items())})",
        "describe": lambda self: {"class": name, **self.arguments()},
    }  # fmt: skip
    for key, value in body.items():
        setattr(made, key, value)
    return checked_namedtuple(made)


@functools.cache
def _inside(function: Any) -> Any:
    """A part's scalar function, for compiled code and the interpreter, which tries every rule."""
    return register_jitable(error_model="numpy", fastmath=set(EXACT))(function)


@functools.cache
def _switch(first: Any, second: Any) -> Any:
    """The class of a switch between two rules."""
    begin, middle = 2, 2 + len(first._fields) - 1
    rows, prepare, following = len(first.slots), _inside(first.prepare), _inside(second.prepare)
    count, pack, pack_second = len(first().prepare(first(), 0.1, 1)), from_fields(first), from_fields(second)
    update, go_on, end = _inside(first.update), _inside(second.update), 1 + count

    def prepare_both(opt, lr, t):
        at = int(opt.at)
        late = t - at if t > at else 1
        before = prepare(pack((0.0,) + opt[begin:middle]), lr, t)  # noqa: RUF005
        return ((1.0 if t <= at else 0.0),) + before + following(pack_second((0.0,) + opt[middle:]), lr, late)  # noqa: RUF005

    def update_one(c, x, g, s, i):
        if c[0] > 0:
            return update(c[1:end], x, g, s, i)
        return go_on(c[end:], x, g, s[rows:], i)

    def arguments(self):
        told = isinstance(self.lr, SwitchedRate)
        return {"first": first(self.lr.first if told else self.lr, *self[begin:middle]),
                "second": second(self.lr.second if told else self.lr, *self[middle:]), "at": self.at}  # fmt: skip

    body: dict[str, Any] = {
        "slots": (*(f"first_{slot}" for slot in first.slots), *(f"second_{slot}" for slot in second.slots)),
        "prepare": staticmethod(prepare_both), "update": staticmethod(update_one), "arguments": arguments,
    }  # fmt: skip
    if hasattr(first, "scale") and hasattr(second, "scale"):
        size, size_second = _inside(first.scale), _inside(second.scale)
        body["scale"] = staticmethod(
            lambda c, s, i: size(c[1:end], s, i) if c[0] > 0 else size_second(c[end:], s[rows:], i))
    return _made("Switch", {"at": 1000.0}, {"first": first, "second": second}, {"at": "[0, inf)"}, body)


@functools.cache
def _lookahead(inner: Any) -> Any:
    """The class of a look ahead of a rule."""
    prepare, update, pack = _inside(inner.prepare), _inside(inner.update), from_fields(inner)
    row = len(inner.slots)

    def prepare_more(opt, lr, t):
        pull = opt.alpha if t % int(opt.k) == 0 else 0.0
        return ((1.0 if t == 1 else 0.0), pull) + prepare(pack((0.0,) + opt[3:]), lr, t)  # noqa: RUF005

    def update_more(c, x, g, s, i):
        slow = x if c[0] > 0 else s[row, i]
        x = update(c[2:], x, g, s, i)
        met = slow + c[1] * (x - slow)
        if c[1] > 0:
            slow, x = met, met
        s[row, i] = slow
        return x

    def arguments(self):
        return {"opt": inner(self.lr, *self[3:]), "k": self.k, "alpha": self.alpha}

    body: dict[str, Any] = {
        "slots": (*inner.slots, "slow"), "prepare": staticmethod(prepare_more), "update": staticmethod(update_more),
        "arguments": arguments,
    }  # fmt: skip
    if hasattr(inner, "scale"):
        size = _inside(inner.scale)
        body["scale"] = staticmethod(lambda c, s, i: size(c[2:], s, i))
    return _made("Lookahead", {"k": 5.0, "alpha": 0.5}, {"rule": inner}, {"k": "[1, inf)", "alpha": "(0, 1]"}, body)
