"""Arguments of users' functions on a GPU: what they may be, and how those of many problems lie in its memory."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .._backend import SIMULATED, configured, cuda, kernel

BLOCK = 128  # threads


def checked(args: tuple) -> tuple:
    """The arguments, which must be arrays or numbers, or tuples of such."""
    def one(position: int, arg: Any) -> Any:
        if isinstance(arg, tuple):
            items = [one(position, item) for item in arg]
            return type(arg)(*items) if hasattr(arg, "_fields") else tuple(items)
        if isinstance(arg, np.ndarray) and arg.dtype.kind in "biuf":
            return np.ascontiguousarray(arg, arg.dtype.newbyteorder("="))
        if isinstance(arg, (bool, int, float, np.number, np.bool_)):
            return arg
        raise TypeError(f"args[{position}] is a {type(arg).__name__}, which a GPU does not take; give an array of "
                        "real numbers, a number or a tuple of such")  # fmt: skip

    return tuple(one(*item) for item in enumerate(args))


def on_device(value: Any, stream: Any = 0) -> Any:
    """Arrays, also those in tuples, in the memory of the device."""
    if isinstance(value, tuple):
        items = [on_device(item, stream) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return cuda.to_device(value, stream) if isinstance(value, np.ndarray) else value


def turned(args: list[np.ndarray], stream: Any) -> list[Any]:
    """Batched arguments on the device, the problems' axis last: neighbouring threads read neighbouring words.

    All are copied before the first is turned: a copy waits for the kernels before it.
    """
    rows = [on_device(arg.reshape(len(arg), -1) if arg.ndim > 1 else arg, stream) for arg in args]
    return [_turned(there, arg.shape, stream) for there, arg in zip(rows, args, strict=True)]


def _turned(rows: Any, shape: tuple[int, ...], stream: Any) -> Any:
    if len(shape) == 1:
        return rows
    count, width = rows.shape
    made = cuda.device_array((width, count), rows.dtype)
    if count and width:
        block = min(BLOCK, count) if SIMULATED else BLOCK
        configured(_turn(), -(-count // block), block, stream=stream)(rows, made)
    return made.reshape(*shape[1:], count)


@functools.cache
def _turn() -> Any:
    def turn(rows, columns):
        i = cuda.grid(1)
        if i < rows.shape[0]:
            for j in range(rows.shape[1]):
                columns[j, i] = rows[i, j]

    return kernel(turn)


__all__ = ["checked", "on_device", "turned"]
