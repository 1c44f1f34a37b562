"""One step of any optimizer on arrays of a GPU, in place, on the caller's stream."""

from __future__ import annotations

import ctypes
import functools
import math
import threading
from typing import Any

import numba
import numpy as np
from numba import types

from .._jit import array, compiling, invoke, jit, pointer, precompile
from .._schedule import rates
from ..automatic import is_automatic
from ..optimizers._program import count_coefficients, hyper_parameters, parts_of, program
from ..optimizers.step import require_optimizer
from ..schedules import plateau_of
from . import _backend
from ._backend import SIMULATED
from .arrays import FLOAT32, FLOAT64, seen, stream_for, stream_given, zeros
from .kernels import BLOCK, MOST_SUMS, launches
from .memory import WIDE_BYTES

ROW_BYTES = 128  # rows of a state begin at a multiple of it, where they would not be aligned
_WORDS = 7  # addresses and sizes before the coefficients


def init_state(opt, x):
    """The state of a fresh optimizer beside ``x``: zeros, one row a slot.

    Parameters
    ----------
    opt : optimizer
        For example ``numbaopt.Adam()``.
    x : array on a GPU
        float32 or float64, of any shape: of CuPy, torch, Numba, or anything with ``__cuda_array_interface__``.

    Returns
    -------
    state : array of shape (number of slots, x.size), dtype, device and library of ``x``
        Of Numba where ``x`` is neither CuPy's nor torch's.  Where ``x.size`` is no multiple of sixteen bytes, rows lie
        further apart than that, so that each begins aligned.

    Raises
    ------
    TypeError, ValueError
        If ``opt`` is no optimizer, or ``x`` no such array.
    NoDeviceError, DeviceMemoryError
        If there is no GPU, or no room on it.

    Examples
    --------
    With CuPy, ``x = cupy.ones(3)``::

        state = no.cuda.init_state(no.Adam(), x)
    """
    _backend.require("init_state")
    require_optimizer(opt)
    _check_array("init_state", "x", x)
    found = seen(x)
    slots, size = len(opt.slots), math.prod(found.shape)
    what = f"init_state: the state of {_name(opt)} for {size:,} unknowns"
    pitch = _pitch(slots, size, found.dtype)
    state = zeros(x, (slots, pitch), found.dtype, what)
    return state if pitch == size else state[:, :size]


def _pitch(slots: int, size: int, dtype: np.dtype) -> int:
    """How far apart the rows of a state lie."""
    if slots < 2 or size * dtype.itemsize % WIDE_BYTES == 0:
        return size
    row = ROW_BYTES // dtype.itemsize
    return -(-size // row) * row


def step(opt, x, g, state, t, stream=None):
    """Take step ``t`` in place, on a GPU: ``x`` and ``state`` are overwritten.

    The call returns as soon as the step is under way, like any of CuPy or torch.

    Parameters
    ----------
    opt : optimizer
        A rule such as ``numbaopt.Adam(lr=0.1)``, a user's own, or a chain of transforms and a rule.
    x, g : array on a GPU
        Unknowns and gradient: C-contiguous, of one shape, both float32 or both float64, on one device.  torch's
        parameters may require gradients; this step is not recorded.
    state : array on a GPU
        From `init_state`, or any of shape (slots, x.size) whose rows are contiguous.
    t : int
        Number of the step: 1, 2, ...
    stream : optional
        A stream of torch, CuPy or Numba, or its handle; by default the one on which the library of ``x`` works now.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not fit each other; ``ValueError`` also for a rate that follows the objective.
    NoDeviceError, DeviceMemoryError
        If there is no GPU, or no room on it.

    Notes
    -----
    One kernel, which reads and writes each number once, sixteen bytes at a time where ``x``, ``g`` and the rows of
    ``state`` begin at a multiple of sixteen bytes, as whole arrays do.  Rules and transforms that need sums over all
    coordinates (`numbaopt.SWATS`, ``ClipByNorm``) take two kernels more for each; they sum in a fixed order, so the
    same step gives the same bits.  Results are those of `numbaopt.step` up to rounding (the GPU fuses multiplications
    and additions).  The coefficients of step ``t`` travel with the launch: a CUDA graph repeats the step it has seen.

    Examples
    --------
    With torch, ``p`` a parameter on a GPU::

        state = no.cuda.init_state(opt, p)
        for t in range(1, 101):
            p.grad = None
            loss().backward()
            no.cuda.step(opt, p, p.grad, state, t)
    """
    try:
        address, dtype, shape, strides = seen(x)
        address_g, dtype_g, shape_g, strides_g = seen(g)
        address_s, dtype_s, shape_s, strides_s = seen(state)
        device = 0 if _backend.device_count() == 1 else _one_device(address, address_g, address_s)
        bound = _here.bound(opt, dtype, device)
        n = math.prod(shape)
        pitch = n if strides_s is None else strides_s[0] if strides_s[1] == 1 or n == 1 else -1
        if (dtype is not dtype_g or dtype is not dtype_s or shape != shape_g or shape_s != (bound.slots, n)
                or strides is not None or strides_g is not None or pitch < n
                or not isinstance(t, (int, np.integer)) or t < 1):  # fmt: skip
            raise TypeError
    except (TypeError, ValueError, AttributeError):
        _explain(opt, x, g, state, t)
        raise
    where = stream_for(x) if stream is None else stream_given(stream)
    if n:
        bound.take(address, address_g, address_s, n, pitch, device, where, t)


class _Bound:
    """All that the steps of an optimizer need besides their arrays, for one thread and device."""

    def __init__(self, opt: Any, dtype: np.dtype, device: int):
        self.program, self.opt, self.device = program(opt, dtype), opt, device
        self.slots = len(opt.slots)
        self.hyper = hyper_parameters(opt)
        self.lr = np.array([opt.lr]) if isinstance(opt.lr, float) else None
        self.row = np.empty((1, self.program.width), dtype)
        self.prepare, self.fill = self.program.prepare, compiled_prepare(dtype)
        self.words = (ctypes.c_int64 * _WORDS)()
        size, begin = dtype.itemsize, self.row.ctypes.data
        self.arguments = (ctypes.c_void_p * (_WORDS + self.program.width))(
            *(ctypes.addressof(self.words) + 8 * k for k in range(_WORDS)),
            *(begin + size * k for k in range(self.program.width)))  # fmt: skip
        self._compiled: dict[bool, list[tuple[Any, int, Any]]] = {}
        self._scratch: dict[int, Any] = {}

    def take(self, x: int, g: int, s: int, n: int, pitch: int, device: int, stream: int, t: int) -> None:
        """Step ``t`` on ``n`` coordinates at these addresses."""
        lr = self.lr if self.lr is not None else rates(self.opt.lr, int(t) - 1, 1)
        self.fill(self.prepare, self.hyper, lr, t, self.row)
        row, sums = self.scratch(stream) if self.program.reduces else (0, 0)
        self.words[:] = (x, g, s, n, pitch, row, sums)  # type: ignore[call-overload]
        apart = pitch * self.row.itemsize if self.slots > 1 else 0
        wide = (x | g | (s if self.slots else 0) | apart) % WIDE_BYTES == 0
        for made, handle, _ in self._compiled.get(wide) or self.compile(wide):
            self.launch(made, handle, made.blocks(n), stream)

    def launch(self, made: Any, handle: int, blocks: int, stream: int) -> None:
        """Put one kernel on a stream."""
        if SIMULATED:
            made.kernel[blocks, BLOCK](*self.words, tuple(self.row[0]))
            return
        if _backend.device_count() > 1:
            with _backend.on(self.device):
                status = _backend.launcher()(handle, blocks, 1, 1, BLOCK, 1, 1, 0, stream, self.arguments, None)
        else:
            status = _backend.launcher()(handle, blocks, 1, 1, BLOCK, 1, 1, 0, stream, self.arguments, None)
        if status:
            _backend.check(status, "step")

    def compile(self, wide: bool) -> list[tuple[Any, int, Any]]:
        """The kernels of a step with their handles; the device's context is made this thread's."""
        made = launches(self.program, wide)
        if SIMULATED:
            found = [(one, 0, None) for one in made]
        else:
            what = f"step: {_name(self.opt)}"
            with compiling(f"{what} on a GPU"), _backend.told(what), _backend.on(self.device):
                _backend.cuda.current_context()
                found = [(one, *_backend.handle_of(one.kernel, signature(self.program))) for one in made]
        self._compiled[wide] = found
        return found

    def scratch(self, stream: int) -> tuple[int, int]:
        """Addresses of a row of coefficients and of sums of blocks, which the kernels of one stream share."""
        if stream not in self._scratch:
            most = max(one.terms or 1 for one in self.program.sums) * MOST_SUMS
            with _backend.told("step: sums", 8 * most), _backend.on(self.device):
                device_array = _backend.cuda.device_array
                self._scratch[stream] = device_array(self.program.width, self.row.dtype), device_array(most, FLOAT64)
        row, sums = self._scratch[stream]
        return seen(row).address, seen(sums).address


def _bound(opt: Any, dtype: Any, device: int) -> _Bound:
    """`_Bound` of what can be stepped."""
    _backend.require("step")
    require_optimizer(opt)
    if dtype is not FLOAT32 and dtype is not FLOAT64:
        raise TypeError
    if plateau_of(opt.lr) is not None or is_automatic(opt.lr):
        raise ValueError(f"lr: {opt.lr!r} follows the objective, which step() does not know; use minimize()")
    for part in parts_of(opt):
        count_coefficients(part)
    return _Bound(opt, dtype, device)


class _Here(threading.local):
    """What a thread keeps: the driver knows a context by thread, and arguments of a launch are written before it."""

    def __init__(self):
        self.bound = functools.lru_cache(maxsize=256)(_bound)


_here = _Here()


def signature(program: Any) -> tuple[Any, ...]:
    """The types of the arguments of a program's kernels."""
    return (types.int64,) * _WORDS + (types.UniTuple(numba.from_dtype(program.dtype), program.width),)


@functools.cache
def compiled_prepare(dtype: np.dtype) -> Any:
    """The coefficients of one step into a row, compiled once a dtype, for callers in Python."""

    def fill(prepare, hyper, lr, t, row):
        invoke(prepare, (pointer(hyper), pointer(lr), t, pointer(row), 1))

    kinds = (types.intp, array(np.float64, 2), array(np.float64), types.intp, array(dtype, 2))
    return precompile(jit(fill), kinds, final=True)


def _one_device(*addresses: int) -> int:
    """The device of all addresses; TypeError where they are on several."""
    found = {_backend.device_of(address) for address in addresses if address}
    if len(found) > 1:
        raise TypeError
    return found.pop() if found else 0


def _name(opt: Any) -> str:
    return type(parts_of(opt)[-1]).__name__


def _check_array(where: str, name: str, value: Any) -> None:
    try:
        found = seen(value)
    except (TypeError, ValueError) as error:
        if type(error) not in (TypeError, ValueError) or not str(error).startswith(("must be", "is ")):
            raise
        raise type(error)(f"{where}: {name} {error}") from None
    if found.dtype is not FLOAT32 and found.dtype is not FLOAT64:
        raise TypeError(f"{where}: {name} has dtype {found.dtype}; x, g and state must all be float32 or all float64")


def _explain(opt: Any, x: Any, g: Any, state: Any, t: Any) -> None:
    """Say in one sentence which argument of `step` is wrong."""
    _backend.require("step")
    require_optimizer(opt)
    for name, value in (("x", x), ("g", g), ("state", state)):
        _check_array("step", name, value)
    of_x, of_g, of_state = map(seen, (x, g, state))
    for name, found in (("g", of_g), ("state", of_state)):
        if found.dtype is not of_x.dtype:
            raise TypeError(f"step: {name} has dtype {found.dtype}; x, g and state must all be float32 or all float64")
    for name, found in (("x", of_x), ("g", of_g)):
        if found.strides is not None:
            raise ValueError(f"step: {name} must be C-contiguous")
    if tuple(of_g.shape) != tuple(of_x.shape):
        raise ValueError(f"step: g has shape {tuple(of_g.shape)}, x has shape {tuple(of_x.shape)}")
    shape = len(opt.slots), math.prod(of_x.shape)
    if tuple(of_state.shape) != shape:
        raise ValueError(f"step: state has shape {tuple(of_state.shape)}; init_state gives {shape}")
    if of_state.strides is not None and (of_state.strides[1] != 1 or of_state.strides[0] < shape[1]):
        raise ValueError("step: each row of state must be contiguous")
    if not isinstance(t, (int, np.integer)) or t < 1:
        raise ValueError(f"step: t={t!r} must be an integer, 1 for the first step")
    devices = [_backend.device_of(found.address) for found in (of_x, of_g, of_state) if found.address]
    if len(set(devices)) > 1:
        raise ValueError(f"step: x, g and state must be on one GPU, not on {devices}")


__all__ = ["init_state", "step"]
