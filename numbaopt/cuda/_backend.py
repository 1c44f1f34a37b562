"""The one place that knows what compiles for the GPU: numba-cuda, numba's own `numba.cuda`, or the simulator.

numba-cuda, where it is installed, puts itself in the place of `numba.cuda`.  The simulator (``NUMBA_ENABLE_CUDASIM=1``,
with ``NUMBA_DISABLE_JIT=1``) runs kernels in the interpreter.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import numba
from numba import cuda

try:
    from numba.cuda.extending import intrinsic  # numba-cuda keeps its own
except ImportError:
    from numba.extending import intrinsic

SIMULATED = bool(numba.config.ENABLE_CUDASIM)
INSTALL = "pip install 'numbaopt[cuda13]' (or cuda12, for a driver older than 580)"


class NoDeviceError(RuntimeError):
    """There is no GPU to run on, or nothing that could compile for it."""


def why_not() -> str | None:
    """Why nothing can run on a GPU here, in a sentence; None where it can."""
    if SIMULATED:
        if not numba.config.DISABLE_JIT:
            return "the CUDA simulator (NUMBA_ENABLE_CUDASIM) needs NUMBA_DISABLE_JIT=1, too"
        return None
    if find_spec("numba_cuda") is None and "CUDA_HOME" not in os.environ:
        return f"numba-cuda is not installed: {INSTALL}"
    try:
        if cuda.is_available():
            return None
        cuda.gpus[0]  # raises, and says why
    except Exception as error:
        said = str(error).strip().splitlines()
        return f"CUDA finds no usable GPU: {said[0] if said else type(error).__name__}"
    return "CUDA finds no usable GPU"


def require() -> None:
    """Raise `NoDeviceError` where nothing can run on a GPU."""
    if reason := why_not():
        raise NoDeviceError(f"device='cuda': {reason}")


def kernel(function: Any, **options: Any) -> Any:
    """A kernel compiled when it is first launched; a division by zero gives infinity, as everywhere in the package."""
    return cuda.jit(**options)(function)


__all__ = ["SIMULATED", "NoDeviceError", "cuda", "intrinsic", "kernel", "require", "why_not"]
