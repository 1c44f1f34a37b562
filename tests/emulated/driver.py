"""NVIDIA's driver, played: one GPU of compute capability 9.0 whose memory is the machine's, whose kernels it runs.

What is put on a stream happens as late as it may: when somebody waits for the stream, or for all.

What numba-cuda links is PTX and, for waits of the grid, NVIDIA's library; the cubin that comes out is real and is
thrown away: an entry is run from the PTX that it was made of.
"""

from __future__ import annotations

import ctypes
import tempfile
import traceback
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_ubyte, c_uint, c_uint64, c_void_p
from pathlib import Path
from typing import Any

from . import library
from .machine import Kernel, MachineFault
from .memory import Memory

OK, INVALID, OUT_OF_MEMORY, NOT_FOUND, LAUNCH_FAILED, TOO_LARGE = 0, 1, 2, 500, 719, 720
NAMES = {OK: "SUCCESS", INVALID: "ERROR_INVALID_VALUE", OUT_OF_MEMORY: "ERROR_OUT_OF_MEMORY",
         NOT_FOUND: "ERROR_NOT_FOUND", LAUNCH_FAILED: "ERROR_LAUNCH_FAILED",
         TOO_LARGE: "ERROR_COOPERATIVE_LAUNCH_TOO_LARGE"}  # fmt: skip
VERSION = 13000
MULTIPROCESSORS, BLOCKS_EACH = 2, 2  # so that a cooperative grid has four blocks at most
ATTRIBUTES = {1: 1024, 2: 1024, 3: 1024, 4: 64, 5: 2**31 - 1, 6: 65535, 7: 65535, 8: 48 << 10, 9: 64 << 10, 10: 32,
              12: 65536, 16: MULTIPROCESSORS, 19: 1, 31: 1, 39: 2048, 41: 1, 75: 9, 76: 0, 81: 227 << 10, 82: 65536,
              95: 1, 97: 227 << 10, 106: 32}  # fmt: skip
CONTEXT, STREAM = 0xC0, 0x57


class LaunchConfig(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (*((name, c_uint) for name in ("gx", "gy", "gz", "bx", "by", "bz", "shared")), ("stream", c_void_p),
                ("attributes", c_void_p), ("count", c_uint))  # fmt: skip


class LaunchAttribute(ctypes.Structure):
    """CUlaunchAttribute."""

    _fields_ = (("id", c_int), ("pad", c_int), ("value", c_int), ("rest", c_ubyte * 60))


COOPERATIVE = 2  # of `LaunchAttribute`


class Driver:
    """The functions of the library, under their own names."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.texts: dict[str, str] = {}  # PTX by the names of entries
        self.kernels: dict[str, Kernel] = {}
        self.handles: dict[int, str] = {}
        self.launched: list[tuple[str, int, int, bool]] = []  # name, blocks, threads, whether cooperative
        self.streams: list[int] = []
        self.waiting: dict[int, list[Callable[[], Any]]] = {}  # what has not happened yet, by stream
        self.faults: list[BaseException] = []
        self.backwards = False
        self.libraries = 0x11B
        self.current: list[int] = []
        self.texts_kept: list[Any] = []
        self.functions = {name: self._callback(name) for name in dir(type(self)) if name.startswith("cu")}
        self._folder = tempfile.TemporaryDirectory()
        self.library, self.addresses = library.load(Path(self._folder.name), {
            name: ctypes.cast(made, c_void_p).value or 0 for name, made in self.functions.items()})

    def _callback(self, name: str) -> Any:
        """A function that C can call."""
        made = getattr(self, name)
        kinds = getattr(type(self), name).kinds

        def called(*given: Any) -> int:
            try:
                return made(*given) or OK
            except MachineFault as fault:
                self.faults.append(fault)
                return LAUNCH_FAILED
            except BaseException as error:
                self.faults.append(error)
                traceback.print_exc()
                return LAUNCH_FAILED

        return ctypes.CFUNCTYPE(c_int, *kinds)(called)


def plays(*kinds: Any) -> Callable[[Any], Any]:
    """What a function of the driver takes."""
    def named(function: Any) -> Any:
        function.kinds = kinds
        return function

    return named


_word, _int, _where, _size = POINTER(c_uint64), POINTER(c_int), c_uint64, c_size_t


class Played(Driver):
    """What is answered."""

    @plays(c_uint)
    def cuInit(self, flags):
        pass

    @plays(_int)
    def cuDriverGetVersion(self, out):
        out[0] = VERSION

    def _text(self, out, text):
        kept = ctypes.create_string_buffer(text.encode())
        self.texts_kept.append(kept)
        out[0] = ctypes.addressof(kept)

    @plays(c_int, _word)
    def cuGetErrorName(self, status, out):
        self._text(out, f"CUDA_{NAMES.get(status, 'ERROR_UNKNOWN')}")

    @plays(c_int, _word)
    def cuGetErrorString(self, status, out):
        self._text(out, str(self.faults[-1]) if self.faults else NAMES.get(status, "unknown"))

    @plays(c_char_p, _word, c_int, c_uint64, _int)
    def cuGetProcAddress_v2(self, name, out, version, flags, status):
        found = max((one for one in self.addresses if one in (name.decode(), f"{name.decode()}_v2")), default=None)
        out[0] = self.addresses[found] if found else 0
        if status:
            status[0] = 0 if found else 1
        return OK if found else NOT_FOUND

    # -- what happens when
    def _put(self, stream, work):
        """Let work happen when its stream is waited for; on the default stream now, after all that was put on any."""
        if stream:
            self.waiting.setdefault(stream, []).append(work)
            return OK
        self._catch_up()
        return work()

    def _catch_up(self, stream=0):
        """Let happen what was put on a stream, or on any."""
        for one in [stream] if stream else list(self.waiting):
            for work in self.waiting.pop(one, []):
                if status := work():
                    raise RuntimeError(f"what was put on a stream answers {NAMES[status]}")

    # -- devices and contexts
    @plays(_int)
    def cuDeviceGetCount(self, out):
        out[0] = 1

    @plays(_int, c_int)
    def cuDeviceGet(self, out, number):
        out[0] = number

    @plays(POINTER(ctypes.c_char), c_int, c_int)
    def cuDeviceGetName(self, out, size, device):
        ctypes.memmove(out, b"played\0", 7)

    @plays(POINTER(c_ubyte), c_int)
    def cuDeviceGetUuid_v2(self, out, device):
        ctypes.memset(out, 7, 16)

    @plays(_int, c_int, c_int)
    def cuDeviceGetAttribute(self, out, attribute, device):
        if attribute not in ATTRIBUTES:
            raise NotImplementedError(f"attribute {attribute} of the device")
        out[0] = ATTRIBUTES[attribute]

    @plays(_word, c_int)
    def cuDevicePrimaryCtxRetain(self, out, device):
        out[0] = CONTEXT

    @plays(c_int)
    def cuDevicePrimaryCtxRelease_v2(self, device):
        pass

    @plays(c_uint64)
    def cuCtxPushCurrent_v2(self, context):
        self.current.append(context)

    @plays(_word)
    def cuCtxPopCurrent_v2(self, out):
        found = self.current.pop()
        if out:
            out[0] = found

    @plays(c_uint64)
    def cuCtxSetCurrent(self, context):
        self.current[-1:] = [context]

    @plays(_word)
    def cuCtxGetCurrent(self, out):
        out[0] = self.current[-1] if self.current else 0

    @plays(_int)
    def cuCtxGetDevice(self, out):
        out[0] = 0

    @plays()
    def cuCtxSynchronize(self):
        self._catch_up()

    # -- memory
    @plays(_word, _size)
    def cuMemAlloc_v2(self, out, size):
        if (found := self.memory.take(size)) is None:
            return OUT_OF_MEMORY
        out[0] = found

    @plays(c_uint64)
    def cuMemFree_v2(self, at):
        self._catch_up()  # as a driver does
        self.memory.free(at)

    @plays(_word, _word)
    def cuMemGetInfo_v2(self, free, total):
        free[0], total[0] = self.memory.size - sum(self.memory.held.values()), self.memory.size

    def _copy(self, to, source, size, *device):
        for at in device:
            if not self.memory.holds(at, size):
                return INVALID
        ctypes.memmove(to, source, size)
        return OK

    @plays(_where, _where, _size)
    def cuMemcpyHtoD_v2(self, to, source, size):
        return self._put(0, lambda: self._copy(to, source, size, to))

    @plays(_where, _where, _size)
    def cuMemcpyDtoH_v2(self, to, source, size):
        return self._put(0, lambda: self._copy(to, source, size, source))

    @plays(_where, _where, _size)
    def cuMemcpyDtoD_v2(self, to, source, size):
        return self._put(0, lambda: self._copy(to, source, size, to, source))

    @plays(_where, _where, _size, c_uint64)
    def cuMemcpyHtoDAsync_v2(self, to, source, size, stream):  # reads late: some drivers do, from memory of any kind
        return self._put(stream, lambda: self._copy(to, source, size, to))

    @plays(_where, _where, _size, c_uint64)
    def cuMemcpyDtoHAsync_v2(self, to, source, size, stream):
        return self._put(stream, lambda: self._copy(to, source, size, source))

    @plays(_where, c_ubyte, _size)
    def cuMemsetD8_v2(self, to, value, size):
        self._catch_up()
        if not self.memory.holds(to, size):
            return INVALID
        ctypes.memset(to, value, size)

    @plays(c_void_p, c_int, _where)
    def cuPointerGetAttribute(self, out, attribute, at):
        if not self.memory.holds(at, 1):
            return INVALID
        kind = {9: c_int, 3: c_uint64, 1: c_uint64}[attribute]  # the device, the address there, the context
        kind.from_address(out).value = {9: 0, 3: at, 1: CONTEXT}[attribute]

    # -- streams
    @plays(_word, c_uint)
    def cuStreamCreate(self, out, flags):
        self.streams.append(STREAM + len(self.streams))
        out[0] = self.streams[-1]

    @plays(c_uint64)
    def cuStreamDestroy_v2(self, stream):
        pass

    @plays(c_uint64, _word)
    def cuStreamGetCtx(self, stream, out):
        out[0] = CONTEXT

    @plays(c_uint64)
    def cuStreamSynchronize(self, stream):
        self._catch_up(stream)

    # -- code
    @plays(_word, c_void_p, c_void_p, c_void_p, c_uint, c_void_p, c_void_p, c_uint)
    def cuLibraryLoadData(self, out, code, options, values, count, more, more_values, more_count):
        self.libraries += 1
        out[0] = self.libraries

    @plays(c_uint64)
    def cuLibraryUnload(self, found):
        pass

    @plays(_word, c_uint64, c_char_p)
    def cuLibraryGetKernel(self, out, found, name):
        name = name.decode()
        if name not in self.texts:
            return NOT_FOUND
        if name not in self.kernels:
            self.kernels[name] = Kernel(self.texts[name], name, self.memory)
            self.handles[0xF000 + len(self.kernels)] = name
        out[0] = next(handle for handle, one in self.handles.items() if one == name)

    @plays(_word, c_uint64)
    def cuKernelGetFunction(self, out, kernel):
        out[0] = kernel

    @plays(_int, c_int, c_uint64, c_int)
    def cuKernelGetAttribute(self, out, attribute, kernel, device):
        made = self.kernels[self.handles[kernel]]
        out[0] = {0: 1024, 1: made.shared, 2: 0, 3: made.local, 4: 64, 5: 90, 6: 90, 8: 48 << 10}[attribute]

    @plays(_int, c_int, c_uint64)
    def cuFuncGetAttribute(self, out, attribute, kernel):
        return self.cuKernelGetAttribute(out, attribute, kernel, 0)

    @plays(_int, c_uint64, c_int, _size)
    def cuOccupancyMaxActiveBlocksPerMultiprocessor(self, out, kernel, threads, shared):
        out[0] = BLOCKS_EACH

    def _launch(self, kernel, grid, block, shared, parameters, cooperative, stream):
        made = self.kernels[self.handles[kernel]]
        if grid[1:] != (1, 1) or block[1:] != (1, 1) or not 0 < block[0] <= 1024 or grid[0] < 1:
            return INVALID
        if made.shared + shared > 48 << 10:
            return INVALID
        if cooperative and grid[0] > MULTIPROCESSORS * BLOCKS_EACH:
            return TOO_LARGE
        values = [ctypes.string_at(parameters[k], one.size) for k, one in enumerate(made.entry.parameters)]
        self.launched.append((made.title, grid[0], block[0], cooperative))
        packed, backwards = made.pack(values), self.backwards
        return self._put(stream, lambda: made.launch(grid[0], block[0], packed, shared, cooperative, backwards))

    @plays(c_uint64, *(c_uint,) * 7, c_uint64, POINTER(c_void_p), c_void_p)
    def cuLaunchKernel(self, kernel, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra):
        return self._launch(kernel, (gx, gy, gz), (bx, by, bz), shared, parameters, False, stream)

    @plays(POINTER(LaunchConfig), c_uint64, POINTER(c_void_p), c_void_p)
    def cuLaunchKernelEx(self, config, kernel, parameters, extra):
        told = config[0]
        attributes = [LaunchAttribute.from_address(told.attributes + k * ctypes.sizeof(LaunchAttribute))
                      for k in range(told.count)]  # fmt: skip
        if any(one.id != COOPERATIVE for one in attributes):
            raise NotImplementedError(f"launch attributes {[one.id for one in attributes]}")
        return self._launch(kernel, (told.gx, told.gy, told.gz), (told.bx, told.by, told.bz), told.shared, parameters,
                            any(one.value for one in attributes), told.stream)  # fmt: skip


_PLAYED: list[Played] = []


def play() -> Played:
    """The driver of this process; from now on CUDA finds it."""
    if not _PLAYED:
        _PLAYED.append(Played())
        _watch(_PLAYED[0])
    return _PLAYED[0]


def _watch(driver: Played) -> None:
    """Let the driver know the PTX of what numba-cuda links."""
    from numba.cuda.codegen import CUDACodeLibrary

    linked = CUDACodeLibrary.get_cubin

    def get_cubin(self: Any, cc: Any = None) -> Any:
        (text,) = self.get_asm_strs(cc=cc)
        driver.texts[self._entry_name] = text
        return linked(self, cc=cc)

    CUDACodeLibrary.get_cubin = get_cubin


__all__ = ["Played", "play"]
