"""The one place that knows what compiles for the GPU, and what the driver says: numba-cuda, numba's own, the simulator.

numba-cuda, where it is installed, puts itself in the place of `numba.cuda`.  The simulator (``NUMBA_ENABLE_CUDASIM=1``,
with ``NUMBA_DISABLE_JIT=1``) runs kernels in the interpreter.  Nothing here needs a GPU to be imported.

numba-cuda-mlir 0.6 is not supported: it knows no LLVM, and what is written by hand in it here (`_jit.native`,
`memory.py`) would have to be written a second time.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numba
import numpy as np

if not hasattr(np, "row_stack") and find_spec("numba_cuda"):  # NumPy 2.5, for which numba-cuda 0.30 was not made
    np.row_stack = np.vstack  # noqa: NPY201
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The 'generic' unit for NumPy timedelta", DeprecationWarning)
            import numba.cuda.np.arrayobj
    finally:
        del np.row_stack  # noqa: NPY201

from numba import cuda

try:
    from numba.cuda.extending import intrinsic  # type: ignore[assignment, unused-ignore]  # numba-cuda keeps its own
except ImportError:
    from numba.extending import intrinsic  # type: ignore[assignment, unused-ignore]

SIMULATED = bool(numba.config.ENABLE_CUDASIM)
BUILT_IN = getattr(cuda, "implementation", "NVIDIA") == "Built-in"  # Numba's own
INSTALL = "pip install 'numbaopt[cuda13]' (cuda12 for a driver older than 580)"
TRY = "; to try small cases without a GPU, set NUMBA_ENABLE_CUDASIM=1 NUMBA_DISABLE_JIT=1 before Python starts"
_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_NO_DEVICE, _OUT_OF_MEMORY, _NEWER_CODE = 100, 2, 222


class NoDeviceError(RuntimeError):
    """There is no GPU to run on, or nothing that could compile for it."""


class DeviceMemoryError(MemoryError):
    """The GPU has no room left."""


def implementation() -> str:
    """What compiles for the GPU: "numba-cuda 0.30.4", "numba.cuda of numba 0.68.1" or "simulator"."""
    if SIMULATED:
        return "simulator"
    if BUILT_IN:
        return f"numba.cuda of numba {numba.__version__}"
    return f"numba-cuda {version('numba-cuda')}"


@functools.cache
def driver() -> Any:
    """The driver's own library; None where there is none."""
    try:
        return (ctypes.WinDLL if sys.platform == "win32" else ctypes.CDLL)(_LIBRARY)  # type: ignore[attr-defined, unused-ignore]
    except OSError:
        return None


def driver_version() -> tuple[int, int]:
    """The newest CUDA that the driver can run."""
    told = ctypes.c_int()
    driver().cuDriverGetVersion(ctypes.byref(told))
    return told.value // 1000, told.value % 1000 // 10


def error_name(status: int) -> str:
    """What the driver calls a status."""
    told = ctypes.c_char_p()
    if driver() is None or driver().cuGetErrorName(status, ctypes.byref(told)) or not told.value:
        return f"error {status}"
    return told.value.decode()


def why_not() -> str | None:
    """Why nothing can run on a GPU here, in a sentence; None where it can.

    Without a GPU small cases can be tried in CUDA's simulator, which runs kernels in the interpreter: start Python with
    ``NUMBA_ENABLE_CUDASIM=1`` and ``NUMBA_DISABLE_JIT=1`` in the environment.

    Examples
    --------
    >>> import numbaopt as no
    >>> no.cuda.is_available() == (no.cuda.why_not() is None)
    True
    """
    if SIMULATED:
        if not numba.config.DISABLE_JIT:
            return "the CUDA simulator (NUMBA_ENABLE_CUDASIM) needs NUMBA_DISABLE_JIT=1, too"
        return None
    if sys.platform == "darwin":
        return "there is no CUDA for macOS"
    if driver() is None:
        return f"no NVIDIA driver is installed ({_LIBRARY} is not found)"
    if status := driver().cuInit(0):
        if status == _NO_DEVICE:
            hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
            return "the NVIDIA driver finds no GPU" + (
                f" (CUDA_VISIBLE_DEVICES={hidden!r} may hide it)" if hidden is not None else "")
        return f"the NVIDIA driver does not start ({error_name(status)}); nvidia-smi may say more"
    if find_spec("numba_cuda") is None and not _has_toolkit():
        return f"numba-cuda is not installed: {INSTALL}"
    can, needs = driver_version(), _toolkit_major()
    if needs and can[0] < needs:
        return (f"the NVIDIA driver runs CUDA {can[0]}.{can[1]}, what is installed was made for CUDA {needs}: update "
                f"the driver, or pip install 'numbaopt[cuda{can[0]}]'")
    try:
        if cuda.is_available():
            return None
        cuda.gpus[0]  # raises, and says why
    except Exception as error:
        return f"CUDA finds no usable GPU: {first_line(error)}"
    return "CUDA's compiler (libNVVM) is not found: " + INSTALL


def is_available() -> bool:
    """Whether something can run on a GPU here, or in the simulator; `why_not` says what is missing."""
    return why_not() is None


def _has_toolkit() -> bool:
    return "CUDA_HOME" in os.environ or "CUDA_PATH" in os.environ


def _toolkit_major() -> int:
    """The CUDA that the installed packages were made for; 0 where they do not say."""
    if find_spec("numba_cuda") is None:
        return 0
    try:
        return int(version("cuda-bindings").split(".")[0])
    except (ImportError, ValueError):
        return 0


def _suffix() -> str:
    """What NVIDIA's packages for CUDA 12 are called by; those for later ones have none."""
    return "-cu12" if _toolkit_major() == 12 else ""


def first_line(error: Any) -> str:
    """The first line of an error, or its name where it says nothing."""
    said = str(error).strip().splitlines()
    return said[0] if said else type(error).__name__


_READY = False


def require(what: str) -> None:
    """Raise `NoDeviceError`, with what was asked for, where nothing can run on a GPU."""
    global _READY
    if not _READY:
        if reason := why_not():
            raise NoDeviceError(f"{what}: {reason}" + ("" if SIMULATED or driver() else TRY))
        _READY = True


@contextlib.contextmanager
def told(what: str, nbytes: int | None = None) -> Iterator[None]:
    """Where the driver or a library fails: one sentence, with what was asked for."""
    try:
        yield
    except (DeviceMemoryError, NoDeviceError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            room = "" if nbytes is None else f" of {nbytes / 1e6:,.1f} MB" if nbytes >= 1e5 else f" of {nbytes:,} bytes"
            raise DeviceMemoryError(f"{what}: the GPU has no room left for an allocation{room}") from None
        if "UNSUPPORTED_PTX" in str(error) or getattr(error, "code", None) == _NEWER_CODE:
            newest = "{}.{}".format(*driver_version())
            raise NoDeviceError(f"{what}: the installed CUDA toolkit makes code that is too new for the driver (CUDA "
                                f"{newest}): update the driver, or pip install nvidia-nvjitlink{_suffix()}") from None
        if any(word in str(error) for word in ("OUTDATED_LIBRARY", "Unsupported .version")):
            raise NoDeviceError(f"{what}: CUDA's linker is older than its compiler: pip install --upgrade "
                                f"nvidia-nvjitlink{_suffix()}") from None  # fmt: skip
        if "cudadevrt" in str(error) and "not found" in str(error):
            raise NoDeviceError(f"{what}: CUDA's library for whole grids (cudadevrt) is not found: {INSTALL}") from None
        if type(error).__name__ in ("CUDAError", "CudaAPIError"):  # of the driver, in cuda.core's and Numba's words
            name = re.search(r"CUDA_ERROR_\w+", str(error))
            raise RuntimeError(f"{what}: {_answered(name[0] if name else first_line(error))}") from error
        raise


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of the driver, Numba, CuPy, torch or JAX says that memory ran out."""
    return ("OutOfMemory" in type(error).__name__ or getattr(error, "code", None) == _OUT_OF_MEMORY
            or any(word in str(error) for word in ("CUDA_ERROR_OUT_OF_MEMORY", "RESOURCE_EXHAUSTED")))  # fmt: skip


def kernel(function: Any, **options: Any) -> Any:
    """A kernel compiled when it is first launched; a division by zero gives infinity, as everywhere in the package."""
    return cuda.jit(**({} if SIMULATED else options))(function)


def configured(kernel: Any, blocks: int, threads: int, shared: int = 0, stream: Any = 0) -> Any:
    """What launches a kernel, if not told otherwise on the default stream, with ``shared`` bytes of dynamic shared
    memory a block.

    Numba warns of fewer than 128 blocks, which is as many as some work has.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Grid size")
        return kernel[blocks, threads, stream, shared]


def release() -> None:
    """Give back to the driver what was freed, which Numba keeps until there is more of it.

    After a fault of a kernel the driver refuses this, too: what its context holds is lost with it.
    """
    if SIMULATED:
        return
    with contextlib.suppress(Exception):
        context = cuda.current_context()
        for owner in (context.memory_manager, context):
            if freed := getattr(owner, "deallocations", None):
                freed.clear()


def check(status: int, what: str) -> None:
    """Raise what a status of the driver means."""
    if status == 0:
        return
    name = error_name(status)
    if status == _OUT_OF_MEMORY:
        raise DeviceMemoryError(f"{what}: the GPU has no room left ({name})")
    raise RuntimeError(f"{what}: {_answered(name)}")


def _answered(name: str) -> str:
    """What an error of the driver means to a user."""
    return (f"the NVIDIA driver answers {name}; it may be the fault of a kernel before, after which only a new process "
            "can go on")


def handle_of(kernel: Any, signature: tuple[Any, ...]) -> tuple[int, Any]:
    """The driver's handle of a kernel for types of arguments, on the current device, and what keeps it alive."""
    compiled = kernel.compile(signature)
    function = compiled._codelibrary.get_cufunc()
    handle = function.handle
    return int(getattr(handle, "value", handle)), (compiled, function)


@functools.cache
def launcher() -> Any:
    """The driver's ``cuLaunchKernel(function, grid..., block..., shared, stream, arguments, extra)``."""
    call, word, place = driver().cuLaunchKernel, ctypes.c_uint, ctypes.c_void_p
    call.argtypes, call.restype = (place, *(word,) * 7, place, place, place), ctypes.c_int
    return call


@functools.cache
def device_count() -> int:
    """How many GPUs there are."""
    return 1 if SIMULATED else len(cuda.gpus)


def device_of(address: int) -> int:
    """The number of the GPU in whose memory an address is."""
    if device_count() == 1:
        return 0
    found = ctypes.c_int(-1)
    ordinal = 9  # CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    check(driver().cuPointerGetAttribute(ctypes.byref(found), ordinal, ctypes.c_void_p(address)), "an array's address")
    return found.value


def on(device: int) -> Any:
    """A context in which ``device`` is the current one."""
    return contextlib.nullcontext() if device_count() == 1 else cuda.gpus[device]


__all__ = [
    "BUILT_IN", "INSTALL", "SIMULATED", "DeviceMemoryError", "NoDeviceError", "check", "configured", "cuda",
    "device_count", "device_of", "driver", "handle_of", "implementation", "intrinsic", "is_available", "kernel",
    "launcher", "on", "release", "require", "told", "why_not",
]  # fmt: skip
