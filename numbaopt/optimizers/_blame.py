"""Which function of a rule or transform Numba cannot compile, in one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core.errors import NumbaError

from .._jit import array, scalar, short_reason
from ._rule import GETS_NUMBERS


@contextlib.contextmanager
def blaming(classes: tuple[Any, ...], counts: tuple[int, ...], dtype: np.dtype) -> Iterator[None]:
    """Where the joint code of some parts does not compile, a TypeError names the function that does not by itself."""
    try:
        yield
    except NumbaError as error:
        for cls, count in zip(classes, counts, strict=True):
            for name, kinds in _functions(cls, count, numba.from_dtype(dtype)).items():
                reason = _reason(getattr(cls, name), kinds)
                if reason:
                    told = GETS_NUMBERS if name in ("update", "apply", "term") else "it works on numbers"
                    raise TypeError(f"{cls.__name__}.{name} cannot be compiled by Numba: {reason}; {told}") from None
        names = ", ".join(cls.__name__ for cls in classes)
        raise TypeError(f"{names} cannot be compiled by Numba: {short_reason(error)}") from None


def _functions(cls: Any, count: int, kind: Any) -> dict[str, tuple[Any, ...]]:
    """The functions that a class has, with the types of what they get (in `finish`, but for the sums)."""
    c, rule, double = types.UniTuple(kind, count), hasattr(cls, "update"), types.float64
    s, i = (array(kind.name, 2),) if rule else (), types.uint64
    found: dict[str, tuple[Any, ...]] = {"update": (c, kind, kind, *s, i), "apply": (c, kind, kind, i)}
    found["scale"], found["term"] = (c, *s, i), (c, kind, kind, *s, i) if rule else (c, double, double)
    if len(cls._field_defaults) == len(cls._fields):
        found["prepare"] = (types.BaseTuple.from_types(tuple(double for _ in cls._fields), cls), double, types.int64)
    return {name: kinds for name, kinds in found.items() if hasattr(cls, name)}


def _reason(function: Any, kinds: tuple[Any, ...]) -> str:
    """Why a function does not compile for these types, or an empty string."""
    try:
        scalar(function).compile(kinds)
    except NumbaError as error:
        return short_reason(error)
    return ""
