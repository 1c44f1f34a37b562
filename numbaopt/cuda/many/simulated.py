"""Numbers with derivatives for the simulator, where kernels run in the interpreter: the rules of `autodiff` in Python.

``twin`` copies a function, and all it calls, to other globals, in which ``np`` and ``math`` know such numbers.
"""

from __future__ import annotations

import math
import operator
import types as pytypes
from typing import Any

import numpy as np

from ...autodiff.custom import has_rule
from ...autodiff.rules import COMPARISONS, IN_PLACE, RULES

OPERATORS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")
MAKERS = ("empty", "zeros", "ones", "full", "empty_like", "zeros_like", "ones_like", "full_like", "array", "asarray")


class Number:
    """A value and its derivatives."""

    __slots__ = ("tangent", "value")

    def __init__(self, value: float, tangent: Any):
        self.value, self.tangent = np.float64(value), tangent

    def __neg__(self):
        return Number(-self.value, -self.tangent)

    def __pos__(self):
        return self

    def __abs__(self):
        return apply(abs, self)

    def __int__(self):
        return int(self.value)

    def __bool__(self):
        return bool(self.value)

    def __hash__(self):
        return id(self)

    def __repr__(self):
        return f"Number({self.value}, {self.tangent})"


def apply(function: Any, *args: Any) -> Any:
    """The number that a function of numbers is, by its rule."""
    rule = RULES[function]
    first = next(arg for arg in args if isinstance(arg, Number))
    with np.errstate(all="ignore"):
        value, *slopes = rule.function(*(_number(arg) for arg in args))
        tangent = np.zeros_like(first.tangent)
        for slope, arg in zip([] if rule.flat else slopes, args, strict=False):
            if not isinstance(arg, Number) or (rule.careful == "chooses" and slope == 0.0):
                continue
            term = np.float64(slope) * arg.tangent
            tangent = tangent + (np.where(arg.tangent == 0.0, 0.0, term) if rule.careful else term)
    return Number(value, tangent)


def _number(arg: Any) -> Any:
    return arg.value if isinstance(arg, Number) else arg if isinstance(arg, (int, np.integer)) else np.float64(arg)


def _operator(function: Any, swapped: bool) -> Any:
    def run(self, other):
        if isinstance(other, (np.ndarray, tuple, list)):
            return NotImplemented
        return apply(function, other, self) if swapped else apply(function, self, other)

    return run


def _comparison(function: Any) -> Any:
    def run(self, other):
        return NotImplemented if isinstance(other, np.ndarray) else bool(function(self.value, _number(other)))

    return run


for _name in OPERATORS:
    setattr(Number, f"__{_name}__", _operator(getattr(operator, _name), False))
    setattr(Number, f"__r{_name}__", _operator(getattr(operator, _name), True))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Number, f"__{_name}__", _comparison(getattr(operator, _name)))


def _elementwise(function: Any) -> Any:
    def one(*args):
        return apply(function, *args) if any(isinstance(arg, Number) for arg in args) else function(*args)

    def run(*args):
        if not any(isinstance(arg, Number) or getattr(arg, "dtype", "") == "O" for arg in args):
            return function(*args)
        if any(isinstance(arg, np.ndarray) for arg in args):
            return np.frompyfunc(one, len(args), 1)(*args)
        return one(*args)

    return run


def _of_value(function: Any) -> Any:
    return lambda x: function(x.value if isinstance(x, Number) else x)


def _maker(name: str) -> Any:
    function = getattr(np, name)

    def make(*args, dtype=None, **named):
        if dtype not in (None, float, np.float64):
            return function(*args, dtype=dtype, **named)
        made = function(*args, **named)
        return made.astype(object) if made.dtype == np.float64 else made

    return make


def _where(condition, a, b):
    found = np.where(condition, a, b)
    return found[()] if found.ndim == 0 else found


def _shim(module: Any) -> Any:
    made = pytypes.ModuleType(f"{module.__name__}_with_derivatives")
    made.__dict__.update({k: v for k, v in module.__dict__.items() if not k.startswith("__")})
    for name, function in list(made.__dict__.items()):
        try:
            if function in RULES and function not in COMPARISONS and function not in IN_PLACE:
                made.__dict__[name] = _elementwise(function)
        except TypeError:  # not hashable
            continue
    for name in ("isfinite", "isnan", "isinf", "floor", "ceil", "trunc"):
        if module is math:
            made.__dict__[name] = _of_value(getattr(math, name))
        elif name.startswith("is"):
            made.__dict__[name] = _of_value(getattr(np, name))
    if module is np:
        made.__dict__.update({name: _maker(name) for name in MAKERS}, where=_where)
    return made


_SHIMS = {np: _shim(np), math: _shim(math)}
_TWINS: dict[Any, Any] = {}


def twin(function: Any) -> Any:
    """The copy of a function that computes with `Number`."""
    if function not in _TWINS:
        code, known = function.__code__, function.__globals__
        if has_rule(function):
            raise TypeError(f"derivative_rule: {function.__name__} has one, which the simulator does not know")
        cells = tuple(pytypes.CellType() for _ in function.__closure__ or ())
        variables = {**known, "float": lambda x=0.0: x if isinstance(x, Number) else float(x)}
        made = _TWINS[function] = pytypes.FunctionType(code, variables, function.__name__, function.__defaults__, cells)
        made.__kwdefaults__ = function.__kwdefaults__
        for name in known:
            variables[name] = _substitute(known[name])
        for cell, old in zip(cells, function.__closure__ or (), strict=True):
            cell.cell_contents = _substitute(old.cell_contents)
    return _TWINS[function]


def _substitute(value: Any) -> Any:
    if isinstance(value, pytypes.ModuleType):
        return _SHIMS.get(value, value)
    package = (getattr(value, "__module__", None) or "").split(".")[0]
    if isinstance(value, pytypes.FunctionType) and package not in ("numpy", "numba", "math", "numbaopt"):
        return twin(value)
    try:
        return _elementwise(value) if value in RULES and callable(value) else value
    except TypeError:
        return value


def unwrapped(value: Any) -> Any:
    """The simulator's arrays, also those in tuples, as NumPy's."""
    if isinstance(value, tuple):
        items = [unwrapped(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    value = getattr(value, "_item", value)
    return getattr(value, "_ary", value)


def seeded(x: float, which: int, width: int) -> Number:
    """The unknown number ``which`` of those that are differentiated."""
    return Number(x, (np.arange(width) == which).astype(float))


def value(x: Any) -> float:
    return float(x.value if isinstance(x, Number) else x)


def slope(x: Any, k: int) -> float:
    return float(x.tangent[k]) if isinstance(x, Number) else 0.0


def listed(found: Any) -> Any:
    return found if isinstance(found, np.ndarray) else np.atleast_1d(np.array(found, object))


__all__ = ["Number", "listed", "seeded", "slope", "twin", "unwrapped", "value"]
