"""NamedTuples of hyper-parameters that check their fields: what rules, transforms and schedules have in common."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any, TypeVar

import numpy as np
from numba import types
from numba.core.registry import cpu_target
from numba.extending import overload, typeof_impl

from ._cache import FUNCTIONS
from ._jit import native

F = TypeVar("F", bound=Callable[..., Any])

# Valid ranges by the standard name of a hyper-parameter; a class may add to or change them in its ``ranges``.
RANGES = {
    "lr": "[0, inf)",
    "momentum": "[0, 1)",
    "dampening": "[0, 1]",
    "alpha": "[0, 1)",
    "rho": "[0, 1)",
    "beta1": "[0, 1)",
    "beta2": "[0, 1)",
    "beta3": "[0, 1)",
    "eps": "[0, inf)",
    "eps_root": "[0, inf)",
    "weight_decay": "[0, inf)",
    "lr_decay": "[0, inf)",
    "momentum_decay": "[0, inf)",
    "initial_accumulator": "[0, inf)",
}

# What other libraries call things, and what they may be here, the likeliest first.
ELSEWHERE = {
    **dict.fromkeys(("learning_rate", "learning_rate_init", "step_size", "stepsize", "eta", "eta0", "rate"), "lr"),
    **dict.fromkeys(("max_epochs", "n_epochs", "num_epochs", "nb_epoch", "epoch"), "epochs"),
    **dict.fromkeys(("max_iter", "n_iter", "num_iter", "niter", "iterations", "steps", "num_steps", "maxfun", "maxfev"),
                    "maxiter epochs max_epochs max_nfev"), "epochs": "max_epochs",
    **dict.fromkeys(("tol", "grad_tol", "tolerance", "pgtol", "gradient_tolerance"), "gtol"),
    **dict.fromkeys(("random_state", "random_seed", "rng"), "seed"),
    **dict.fromkeys(("verbose", "verbosity", "iprint"), "progress disp"),
    **dict.fromkeys(("early_stopping", "n_iter_no_change", "no_improvement"), "patience"),
    **dict.fromkeys(("validation_data", "validation_set", "val"), "validation"),
    **dict.fromkeys(("batch", "minibatch", "minibatch_size"), "batch_size"),
    **dict.fromkeys(("betas", "b1", "momentum"), "momentum beta1"), "b2": "beta2", "epsilon": "eps", "maxcor": "memory",
    "lambda": "l2 weight_decay alpha", "l2": "weight_decay alpha", "wd": "weight_decay", "alpha": "l2 weight_decay",
    "c": "alpha l2", "penalty": "l1_ratio l1", "solver": "method", "optimizer": "method", "l1": "l1_ratio",
    "max_grad_norm": "max_norm", "accumulation_steps": "accumulate", "accumulate_grad_batches": "accumulate",
}  # fmt: skip


def in_range(value: float, interval: str) -> bool:
    """Whether ``value`` lies in an interval written as in mathematics, such as ``"[0, 1)"``."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    return above and (value <= high if interval[-1] == "]" else value < high)


def nearest(word: str, words: Iterable[str]) -> str:
    """The tail of an error message: what is meant of the valid ``words``, or the closest, then all of them."""
    valid = sorted(set(words))
    meant = [name for name in ELSEWHERE.get(word.lower(), "").split() if name in valid]
    close = meant or difflib.get_close_matches(word.lower(), valid, 1, 0.5)
    return (f"did you mean {close[0]!r}? " if close else "") + "valid: " + ", ".join(valid)


def names_meant(function: F, name: str = "") -> F:
    """Decorator: a keyword that ``function`` does not take is answered by the name that is meant."""
    valid = [word for word in inspect.signature(function).parameters if word != "self"]
    elsewhere = "; what the method and the run may be told goes into options=dict({}=...)" * ("options" in valid)

    @functools.wraps(function)
    def call(*args, **given):
        try:
            return function(*args, **given)
        except TypeError:
            for word in given:
                if word not in valid:
                    told = f"{name or function.__name__} has no argument {word!r}; {nearest(word, valid)}"
                    raise TypeError(told + elsewhere.format(word)) from None
            raise

    return call  # type: ignore[return-value]


def checked_namedtuple(cls: Any) -> Any:
    """Make a NamedTuple class check its fields whenever an instance is made, and keep one Numba type per class.

    Numbers become ``float`` (``Adam(lr=1)`` would otherwise be another compiled type than ``Adam(lr=1.0)``), fields
    annotated ``bool`` become ``bool``; ranges are those of `RANGES` and of the class attribute ``ranges``.  The scalar
    functions become static methods, whether the class says so or not.
    """
    for name in FUNCTIONS:
        if isinstance(cls.__dict__.get(name), FunctionType):
            setattr(cls, name, staticmethod(cls.__dict__[name]))
    make = cls.__new__
    ranges = {**RANGES, **getattr(cls, "ranges", {})}

    @functools.wraps(make)
    def new(kind, *args, **kwargs):
        try:
            values = make(kind, *args, **kwargs)
        except TypeError as error:
            for name in kwargs:
                if name not in cls._fields:
                    raise TypeError(f"{cls.__name__} has no field {name!r}; {nearest(name, cls._fields)}") from None
            raise error
        named = zip(cls._fields, values, strict=True)
        return make(kind, *(_checked(cls, name, value, ranges) for name, value in named))

    cls.__new__ = new
    cls._make = classmethod(lambda kind, values: kind(*values))
    cls.__eq__ = lambda self, other: type(self) is type(other) and tuple.__eq__(self, other)
    cls.__ne__ = lambda self, other: not self == other
    cls.__hash__ = lambda self: hash((type(self), tuple(self)))
    _make_callable_in_njit(cls)
    return cls


BY_SCIPY: list[Any] = []  # what an optimizer does when SciPy calls it as its method; minimize.py tells


def called_by_scipy(opt: Any, fun: Any, x0: Any, *args: Any, **given: Any) -> Any:
    """The call of an optimizer: it is a custom method of ``scipy.optimize.minimize``."""
    return BY_SCIPY[-1](opt, fun, x0, *args, **given)


def from_fields(cls: Any) -> Any:
    """An intrinsic that makes an instance of the NamedTuple class from a tuple of its fields, numbers as float64."""

    def field_type(name: str, kind: types.Type) -> types.Type:
        kind = types.unliteral(kind)
        if isinstance(kind, types.Boolean):
            return types.boolean if "bool" in str(cls.__annotations__[name]) else types.float64
        return types.float64 if isinstance(kind, types.Number) else kind

    @native(lambda values: cls(*values))
    def pack(typing_context, values):
        kinds = [field_type(name, kind) for name, kind in zip(cls._fields, values, strict=True)]
        made = types.BaseTuple.from_types(kinds, cls)

        def codegen(context, builder, signature, arguments):
            items = [context.cast(builder, builder.extract_value(arguments[0], k), types.unliteral(values[k]), kind)
                     for k, kind in enumerate(kinds)]  # fmt: skip
            for item, kind in zip(items if context.enable_nrt else [], kinds, strict=False):
                context.nrt.incref(builder, kind, item)
            return context.make_tuple(builder, made, items)

        return made(values), codegen

    return pack


def _make_callable_in_njit(cls: Any) -> None:
    """Let ``cls(lr=0.1)`` be written in ``@njit`` code; Numba's own NamedTuple constructor knows no defaults."""
    head = ", ".join(f"{n}=defaults[{n!r}]" if n in cls._field_defaults else n for n in cls._fields)
    space = {"pack": from_fields(cls), "defaults": cls._field_defaults}
    body = "".join(f"{name}, " for name in cls._fields)
    exec(f"def make({head}):\n    return lambda {head}: pack(({body}))", space)  # noqa: S102
    overload(cls, inline="always")(space["make"])
    _MADE_IN_NJIT.add(cls)


_MADE_IN_NJIT: set[type] = set()
_typeof_class = typeof_impl.dispatch(type)


@typeof_impl.register(type)
def _typeof_rule_class(value, context):
    """Numba types every NamedTuple class as its own constructor; ours are the overloads made above."""
    if value in _MADE_IN_NJIT:
        return cpu_target.typing_context._get_global_type(value)
    return _typeof_class(value, context)


def _checked(cls: type, name: str, value: Any, ranges: dict[str, str]) -> Any:
    shown = f"{cls.__name__}({name}={value!r})"
    if value is None and cls._field_defaults.get(name, 0) is None:
        return None
    kind = str(cls.__annotations__.get(name))
    if "bool" in kind:
        if value not in (False, True):
            raise TypeError(f"{shown}: {name} must be True or False")
        return bool(value)
    fits = name == "lr" and not hasattr(value, "slots")  # a schedule, or any function of the step
    if callable(value) and (fits or "Any" in kind):
        return value
    if "tuple" in kind:
        if not isinstance(value, (tuple, list)):
            raise TypeError(f"{shown}: {name} must be a tuple of numbers in [0, inf)")
        return tuple(_number(shown, name, item, "[0, inf)") for item in value)
    return _number(shown, name, value, ranges.get(name, "(-inf, inf)"))


def _number(shown: str, name: str, value: Any, interval: str) -> float:
    try:
        number = math.nan if isinstance(value, (str, bytes)) else float(value)
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
    except (TypeError, ValueError):
        raise TypeError(f"{shown}: {name} must be a number in {interval}") from None
    if math.isnan(number) or not in_range(number, interval):
        raise ValueError(f"{shown}: {name} must be in {interval}")
    return number
