"""Arrays on a GPU that other libraries made: where their numbers lie, their stream, zeros beside them.

Anything with ``__cuda_array_interface__`` is read.  torch and CuPy are asked directly, which takes a tenth of the time;
a torch parameter has no interface at all.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ._backend import SIMULATED, cuda, told

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
_KINDS = {"<f4": FLOAT32, "<f8": FLOAT64, FLOAT32: FLOAT32, FLOAT64: FLOAT64}


class Seen(NamedTuple):
    """What an array is."""

    address: int
    dtype: Any  # FLOAT32 or FLOAT64, or the name of another
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None  # in numbers; None where it is C-contiguous


def _seen_torch(array: Any) -> Seen:
    if not array.is_cuda:
        raise TypeError("must be on a GPU, not a tensor of the CPU")
    strides = None if array.is_contiguous() else array.stride()
    dtype = _torch_kinds().get(array.dtype) or str(array.dtype)
    return Seen(array.data_ptr(), dtype, array.shape, strides)


_torch: dict[Any, np.dtype] = {}  # filled once torch is there


def _torch_kinds() -> dict[Any, np.dtype]:
    if not _torch:
        torch = sys.modules["torch"]
        _torch.update({torch.float32: FLOAT32, torch.float64: FLOAT64})
    return _torch


def _seen_cupy(array: Any) -> Seen:
    dtype, size = array.dtype, array.itemsize
    strides = None if array.flags.c_contiguous else tuple(stride // size for stride in array.strides)
    return Seen(array.data.ptr, _KINDS.get(dtype) or dtype.name, array.shape, strides)


def _seen_interface(array: Any) -> Seen:
    told = array.__cuda_array_interface__
    address, read_only = told["data"]
    if read_only:
        raise ValueError("is read-only")
    name, shape, strides = told["typestr"], tuple(told["shape"]), told.get("strides")
    size = int(name[2:])
    if strides is not None:
        strides = tuple(stride // size for stride in strides)
        strides = None if _contiguous(shape, strides) else strides
    return Seen(address or 0, _KINDS.get(name, name), shape, strides)


def _seen_simulated(array: Any) -> Seen:
    held = getattr(array, "_ary", array)
    strides = None if held.flags.c_contiguous else tuple(stride // held.itemsize for stride in held.strides)
    return Seen(held.ctypes.data, _KINDS.get(held.dtype) or held.dtype.name, held.shape, strides)


def _contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size > 1 and stride != expected:
            return 0 in shape
        expected *= size
    return True


def _refuse(array: Any) -> Seen:
    raise TypeError(f"must be an array on a GPU (CuPy, torch, Numba: __cuda_array_interface__), not {_name(array)}")


def _refuse_jax(array: Any) -> Seen:
    raise TypeError("must be an array that can be changed in place, which those of JAX cannot")


def _name(array: Any) -> str:
    module = type(array).__module__.split(".")[0]
    return f"{module}.{type(array).__name__}" if module != "builtins" else type(array).__name__


_READERS: dict[type, Callable[[Any], Seen]] = {}  # by the type of an array


def _library(array: Any) -> str:
    for kind in type(array).__mro__:
        if (name := kind.__module__.split(".")[0]) in ("torch", "cupy", "jaxlib", "jax"):
            return name
    return ""


def _reader(array: Any) -> Callable[[Any], Seen]:
    library = _library(array)
    if library == "torch":
        return _seen_torch
    if library == "cupy":
        return _seen_cupy
    if library in ("jax", "jaxlib"):
        return _refuse_jax
    if SIMULATED:
        return _seen_simulated if isinstance(getattr(array, "_ary", array), np.ndarray) else _refuse
    return _seen_interface if hasattr(type(array), "__cuda_array_interface__") else _refuse


def seen(array: Any) -> Seen:
    """Where an array's numbers lie, and how; TypeError, ValueError where they cannot be used."""
    kind = type(array)
    reader = _READERS.get(kind)
    if reader is None:
        reader = _READERS.setdefault(kind, _reader(array))
    return reader(array)


def stream_for(array: Any) -> int:
    """The stream on which an array's library works now."""
    reader = _READERS.get(type(array))
    if reader is _seen_torch:
        return sys.modules["torch"].cuda.current_stream(array.device).cuda_stream
    if reader is _seen_cupy:
        return sys.modules["cupy"].cuda.get_current_stream().ptr
    if reader is _seen_interface:
        return array.__cuda_array_interface__.get("stream") or 0
    return 0


def stream_given(stream: Any) -> int:
    """The driver's handle of a stream of torch, CuPy, Numba or cuda.core, or of a number."""
    for name in ("cuda_stream", "ptr"):
        if hasattr(stream, name):
            return int(getattr(stream, name))
    if hasattr(stream, "__cuda_stream__"):
        return int(stream.__cuda_stream__()[1])
    handle = getattr(stream, "handle", stream)
    handle = getattr(handle, "value", handle) or 0
    try:
        return int(handle)
    except (TypeError, ValueError):
        raise TypeError(f"stream={stream!r} is no stream of torch, CuPy or Numba, nor the number of one") from None


def zeros(like: Any, shape: tuple[int, int], dtype: np.dtype, what: str) -> Any:
    """Zeros beside an array, of the same library, on the same device."""
    library = _library(like)
    with told(what, math.prod(shape) * dtype.itemsize):
        if library == "torch":
            return like.detach().new_zeros(shape)
        if library == "cupy":
            with like.device:
                return sys.modules["cupy"].zeros(shape, dtype)
        made = cuda.device_array(shape, dtype)
        if SIMULATED:
            made[:] = 0
        elif made.size:
            from numba.cuda.cudadrv.driver import device_memset

            device_memset(made, 0, made.size * dtype.itemsize)
            cuda.synchronize()  # a step may be on any stream
        return made


__all__ = ["FLOAT32", "FLOAT64", "Seen", "seen", "stream_for", "stream_given", "zeros"]
