"""Kernels compiled for a GPU that is not there: to PTX, then to code of sm_90 with a report of registers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import nvidia
import pytest

from numbaopt.cuda._backend import SIMULATED, cuda

ARCH = (9, 0)
ROOTS = [Path(root) / "cu13" for root in nvidia.__path__] if hasattr(nvidia, "__path__") else []


class Report(NamedTuple):
    """What `ptxas` says of a kernel."""

    ptx: str
    registers: int
    stack: int  # bytes
    spills: int  # bytes, stored and loaded


def tool(name: str) -> str:
    """The path of a program of the CUDA toolkit."""
    found = [root / "bin" / name for root in ROOTS if (root / "bin" / name).exists()]
    if not found:
        pytest.skip(f"{name} is not installed (dependency group 'cuda')")
    return str(found[0])


def compiled(kernel: Any, signature: tuple, tmp_path: Path, *, fastmath: Any = False,
             cooperative: bool = False) -> Report:  # fmt: skip
    """Compile a kernel (its dispatcher) for types of arguments."""
    from numba.cuda import dispatcher

    assert not SIMULATED
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=ARCH, id=0)  # device functions ask
    ptx, _ = cuda.compile(kernel.py_func, signature, device=False, abi="numba", cc=ARCH, fastmath=fastmath,
                          output="ptx")  # fmt: skip
    source, made = tmp_path / "kernel.ptx", tmp_path / "kernel.o"
    source.write_text(ptx)
    flags = ["-c"] if cooperative else []
    done = subprocess.run([tool("ptxas"), "-arch=sm_90", "-v", *flags, str(source), "-o", str(made)], text=True,
                          capture_output=True, check=True)  # fmt: skip
    said = done.stderr
    spills = sum(map(int, re.findall(r"(\d+) bytes spill", said)))
    stack = max(map(int, re.findall(r"(\d+) bytes stack frame", said)), default=0)
    return Report(ptx, max(map(int, re.findall(r"Used (\d+) registers", said))), stack, spills)
