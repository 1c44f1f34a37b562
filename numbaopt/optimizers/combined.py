"""Rules made of rules: one after the other, or one that looks ahead of another.

A combined rule is a NamedTuple like any other: its class is made for the classes of its parts, whose fields it has with
a prefix, and composes their scalar functions.
"""

from __future__ import annotations

import functools
from collections import namedtuple
from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from .._fields import RANGES, checked_namedtuple, from_fields
from .._jit import EXACT
from .._schedule import rate, schedule
from ..automatic import is_automatic
from ..schedules import plateau_of
from ..transforms import Chain, chain
from ._program import cast_all

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


def Switch(first, second, at=None, at_epoch=None):  # noqa: N802
    r"""The rule ``first`` for ``at`` steps, then ``second``, which begins afresh.

    .. math::
        x_t = \begin{cases}
            \mathrm{first}_t(x_{t-1}, g_t) & \text{where } t \le \mathrm{at} \\
            \mathrm{second}_{t - \mathrm{at}}(x_{t-1}, g_t) & \text{else}
        \end{cases}

    Each has its own rate; a schedule of the second counts steps from the switch.  `numbaopt.SWATS` chooses the moment
    and the second rate itself.

    Parameters
    ----------
    first, second : optimizer
        Rules such as ``Adam(lr=0.01)``, also switches; transforms go around the whole, ``chain(ClipByNorm(1.0),
        Switch(...))``.
    at : int
        The number of steps of ``first``, in [0, inf).
    at_epoch : int
        The same in epochs of a model's training: passes over its terms, e of which are :math:`e \lceil n /
        \mathrm{batch\_size} \rceil` steps (without a batch_size e steps).  In a run that is taken over by other data,
        that many steps from its very beginning.

    Returns
    -------
    optimizer
        Usable wherever a rule is; with ``at_epoch`` only where there are epochs: in `numbaopt.minimize` of a model, in
        `numbaopt.stream.minimize` and in estimators.

    References
    ----------
    Keskar, N. S., Socher, R. (2017). Improving generalization performance by switching from Adam to SGD.
    doi:10.48550/arXiv.1712.07628

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
    if (at is None) == (at_epoch is None):
        raise TypeError(f"Switch: at={at!r}, at_epoch={at_epoch!r}: give one of them, a number of steps or of epochs")
    unit, when = ("at", at) if at_epoch is None else ("at_epoch", at_epoch)
    made, rates = _switch(type(first), type(second), unit), SwitchedRate  # type: Any, Any
    made(1.0, when)
    return made(rates(first.lr, second.lr, when), when, *first[1:], *second[1:])


def in_steps(opt: Any, per_epoch: int) -> Any:
    """The optimizer with all that it counts in epochs, of so many steps each, counted in steps."""
    if isinstance(opt, Chain):
        return opt._replace(parts=tuple(in_steps(part, per_epoch) for part in opt.parts))
    if not getattr(opt, "in_epochs", False):
        return opt
    told = {key: in_steps(value, per_epoch) for key, value in opt.arguments().items()}
    if "at_epoch" in told:
        told["at"] = told.pop("at_epoch") * per_epoch
    return MAKERS[type(opt).maker](**told)


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
        "__annotations__": kinds, "__module__": __name__, "ranges": ranges, "maker": name,
        "in_epochs": "at_epoch" in own or any(getattr(cls, "in_epochs", False) for cls in parts.values()),
        "__reduce__": lambda self: (functools.partial(MAKERS[name], **self.arguments()), ()),
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


def _summing(cls: Any) -> tuple[Any, Any, int]:
    """``term`` and ``finish`` of a part and how many sums it needs; where none, functions that change nothing."""
    if not hasattr(cls, "finish"):
        return _inside(_nothing), _inside(_unchanged), 0
    c, state = cls().prepare(cls(), 0.1, 1), np.zeros((len(cls.slots), 1))
    return _inside(cls.term), _inside(cls.finish), len(cls.term(c, 1.0, 1.0, state, 0))


def _nothing(c, x, g, s, i):
    return ()


def _unchanged(c, total, s):
    return c


@functools.cache
def _switch(first: Any, second: Any, unit: str) -> Any:
    """The class of a switch between two rules, at a number of the field ``unit``."""
    begin, middle = 2, 2 + len(first._fields) - 1
    rows, prepare, following = len(first.slots), _inside(first.prepare), _inside(second.prepare)
    count, pack, pack_second = len(first().prepare(first(), 0.1, 1)), from_fields(first), from_fields(second)
    update, go_on, end = _inside(first.update), _inside(second.update), 1 + count

    def prepare_both(opt, lr, t):
        at = int(opt[1])
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
                "second": second(self.lr.second if told else self.lr, *self[middle:]), unit: self[1]}  # fmt: skip

    body: dict[str, Any] = {
        "slots": (*(f"first_{slot}" for slot in first.slots), *(f"second_{slot}" for slot in second.slots)),
        "prepare": staticmethod(prepare_both), "update": staticmethod(update_one), "arguments": arguments,
    }  # fmt: skip
    if hasattr(first, "scale") and hasattr(second, "scale"):
        size, size_second = _inside(first.scale), _inside(second.scale)
        body["scale"] = staticmethod(
            lambda c, s, i: size(c[1:end], s, i) if c[0] > 0 else size_second(c[end:], s[rows:], i))
    if hasattr(first, "finish") or hasattr(second, "finish"):
        (term, finish, sums), (term_second, finish_second, others) = _summing(first), _summing(second)
        none, none_second = (0.0,) * sums, (0.0,) * others

        def term_both(c, x, g, s, i):
            if c[0] > 0:
                return term(c[1:end], x, g, s, i) + none_second
            return none + term_second(c[end:], x, g, s[rows:], i)

        def finish_both(c, total, s):
            if c[0] > 0:
                return cast_all(c[:1] + finish(c[1:end], total[:sums], s) + c[end:], 0.0)
            return cast_all(c[:end] + finish_second(c[end:], total[sums:], s[rows:]), 0.0)

        body |= {"term": staticmethod(term_both), "finish": staticmethod(finish_both)}
    return _made("Switch", {unit: 1000.0}, {"first": first, "second": second}, {unit: "[0, inf)"}, body)


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
    if hasattr(inner, "finish"):
        term, finish, _ = _summing(inner)
        body["term"] = staticmethod(lambda c, x, g, s, i: term(c[2:], x, g, s, i))
        body["finish"] = staticmethod(lambda c, total, s: c[:2] + finish(c[2:], total, s))
    return _made("Lookahead", {"k": 5.0, "alpha": 0.5}, {"rule": inner}, {"k": "[1, inf)", "alpha": "(0, 1]"}, body)
