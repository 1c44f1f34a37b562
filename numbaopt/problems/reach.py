"""Jitted functions that read beyond the end of x: Numba checks no index, and hands on what lies in memory there."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numba
import numpy as np
from numba.core import ir
from numba.core.compiler import run_frontend
from numba.core.consts import ConstantInferenceError
from numba.core.dispatcher import Dispatcher

SMALL_BYTES = 1 << 20  # arguments up to this size are copied, so that a trial can count nothing; larger ones are locked


def check_reach(fun: Any, n: int, args: tuple) -> None:
    """Raise where a jitted function reads an unknown that x does not have.

    Only where it has a literal index that is too large is it tried, at ones: compiled with a check of every index.
    """
    if not isinstance(fun, Dispatcher) or fun.targetoptions.get("boundscheck"):
        return
    needed = _unknowns_named(fun.py_func)
    if needed <= n:
        return
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _with_checks(fun.py_func)(np.ones(n), *map(_apart, args))
    except IndexError as error:
        raise ValueError(f"x0 has {n} unknown{'s' * (n > 1)}, but {fun.__name__} reads as many as {needed}: "
                         f"{error}") from None  # fmt: skip
    except Exception:  # which is told where it is met again
        return


@functools.lru_cache(maxsize=256)
def _with_checks(function: Any) -> Any:
    return numba.njit(boundscheck=True)(function)


def _apart(arg: Any) -> Any:
    """An argument that a trial cannot change."""
    if isinstance(arg, tuple):
        return getattr(arg, "_make", tuple)(map(_apart, arg))
    if not isinstance(arg, np.ndarray):
        return arg
    if arg.nbytes <= SMALL_BYTES:
        return arg.copy()
    locked = arg.view()
    locked.flags.writeable = False
    return locked


@functools.lru_cache(maxsize=256)
def _unknowns_named(function: Any) -> int:
    """As many items as the first argument must have for all literal indices into it."""
    try:
        code = run_frontend(function)
    except Exception:  # which is told when it is compiled
        return 0
    needed = 0
    for block in code.blocks.values():
        for item in block.find_exprs("getitem"):
            try:
                whole, index = code.get_definition(item.value), code.infer_constant(item.index)
            except (KeyError, ConstantInferenceError):
                continue
            if isinstance(whole, ir.Arg) and whole.index == 0 and type(index) is int:
                needed = max(needed, index + 1 if index >= 0 else -index)
    return needed
