"""NumPy's functions of each item that are no ufuncs, and functions of which only values count: integers and truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.core import errors, types
from numba.extending import overload_attribute, register_jitable

from .arrays import values
from .kinks import CLIP, REPLACE, ROUND
from .numbers import NumberArray, number_in
from .scalars import elementwise
from .stubs import given, left_out, of_arrays, of_numbers

LARGEST = float(np.finfo(np.float64).max)
clipped = elementwise("clipped", CLIP)
rounded = elementwise("rounded", ROUND)
replaced = elementwise("replaced", REPLACE)


@of_numbers(np.clip)
def _clip(a, a_min, a_max, out=None):
    if not left_out(out):
        raise errors.TypingError("derivatives: np.clip with out")
    if left_out(a_min):
        return lambda a, a_min, a_max, out=None: clipped(a, -math.inf, a_max)
    if left_out(a_max):
        return lambda a, a_min, a_max, out=None: clipped(a, a_min, math.inf)
    return lambda a, a_min, a_max, out=None: clipped(a, a_min, a_max)


@of_arrays(method="clip")
def _clip_method(a, a_min=None, a_max=None, out=None):
    if not left_out(out):
        raise errors.TypingError("derivatives: ndarray.clip with out")
    return lambda a, a_min=None, a_max=None, out=None: np.clip(a, a_min, a_max)


@of_numbers(np.round, np.around)
def _round(a, decimals=0, out=None):
    if not left_out(out):
        raise errors.TypingError("derivatives: np.round with out")
    return lambda a, decimals=0, out=None: rounded(a, decimals)


@of_numbers(round)
def _builtin_round(number, ndigits=None):
    if left_out(ndigits):
        return lambda number, ndigits=None: round(values(number))
    return lambda number, ndigits=None: rounded(number, ndigits)


@of_numbers(np.nan_to_num)
def _nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None):
    highest, lowest = _or(posinf, LARGEST), _or(neginf, -LARGEST)
    array = isinstance(x, types.Array)

    def build(x, copy=True, nan=0.0, posinf=None, neginf=None):
        made = replaced(x, nan, highest(posinf), lowest(neginf))
        if array and not copy:
            x[:] = made
        return made

    return build


def _or(kind: Any, default: float) -> Any:
    return register_jitable((lambda given: default) if left_out(kind) else (lambda given: given))


@of_numbers(divmod, np.divmod)
def _divmod(x1, x2):
    return lambda x1, x2: (x1 // x2, x1 % x2)


@of_numbers(np.real)
def _real(val):
    return lambda val: val


@overload_attribute(NumberArray, "real")
def _real_part(a):
    return lambda a: a


# --------------------------------------------------------------------------------------------- integers and truth
def _of_values(function: Any, parameters: str) -> None:
    """The version of a function that is handed the values of what has derivatives, and literal strings as such."""
    taken = [parameter.partition("=")[:2] for parameter in parameters.split(", ")]

    def call(*kinds: Any) -> Any:
        handed = []
        for (name, optional), kind in zip(taken, kinds, strict=True):
            if optional and not given(kind):
                continue
            item = f"values({name})" if number_in(kind) else name
            item = repr(kind.literal_value) if isinstance(kind, types.StringLiteral) else item
            handed.append(f"{name}={item}" if optional else item)
        space = {"function": function, "values": values}
        exec(f"def build({parameters}):\n    return function({', '.join(handed)})", space)  # noqa: S102
        return space["build"]

    space = {"call": call}
    exec(f"def choose({parameters}):\n    return call({', '.join(name for name, _ in taken)})", space)  # noqa: S102
    of_numbers(function)(space["choose"])


for _function, _parameters in {
    np.isnan: "x", np.isfinite: "x", np.isinf: "x", np.signbit: "x", np.isneginf: "x", np.isposinf: "x",
    np.logical_not: "x", np.logical_and: "a, b", np.logical_or: "a, b", np.logical_xor: "a, b",
    np.isclose: "a, b, rtol=1e-05, atol=1e-08, equal_nan=False",
    np.allclose: "a, b, rtol=1e-05, atol=1e-08, equal_nan=False",
    np.searchsorted: "a, v, side='left'", np.digitize: "x, bins, right=False",
    np.nanargmax: "a, axis=None", np.nanargmin: "a, axis=None", np.isreal: "x", np.iscomplexobj: "x", np.isrealobj: "x",
}.items():  # fmt: skip
    _of_values(_function, _parameters)
