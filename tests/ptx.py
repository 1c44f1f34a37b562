"""Kernels compiled for a GPU that is not there: to PTX, then to code of sm_90 with a report of registers.

``python -m tests.ptx`` prints that of every kernel: steps, training, many problems.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

nvidia = pytest.importorskip("nvidia", reason="the CUDA toolkit is not installed (dependency group 'cuda')")

ARCH = (9, 0)
ROOTS = [Path(root) / "cu13" for root in nvidia.__path__]


class Report(NamedTuple):
    """What `ptxas` says of a kernel."""

    ptx: str
    registers: int
    stack: int  # bytes
    spills: int  # bytes, stored and loaded

    @property
    def doubles(self) -> int:
        """How many instructions compute, convert or compare float64."""
        return len(doubles_of(self.ptx.splitlines()))

    def in_loops(self, depth: int) -> list[str]:
        """The instructions of the kernel that are inside so many loops, one in the other."""
        blocks, names = _blocks(self.ptx)
        found: set[int] = set(range(len(blocks)))
        for _ in range(depth):
            found = _looping(blocks, names, found)
        return [line for k in sorted(found) for line in blocks[k]]

    @property
    def parameters(self) -> list[str]:
        """The types of the arguments of the kernel."""
        entry = self.ptx.partition(".entry")[2].partition("{")[0]
        return re.findall(r"\.param \.(\w+)", entry)


def doubles_of(lines: list[str]) -> list[str]:
    """The names of those instructions that compute, convert or compare float64."""
    found = (re.match(r"\s*(?:@\S+\s+)?(?!ld|st|mov|selp)([a-z]+)\S*\.f64\S*\s", line) for line in lines)
    return [match[1] for match in found if match]


def _blocks(ptx: str) -> tuple[list[list[str]], dict[str, int]]:
    """The basic blocks of the kernel, in order, and the numbers of those that have a label."""
    blocks: list[list[str]] = [[]]
    names = {}
    for line in map(str.strip, ptx.partition(".entry")[2].partition("\n{")[2].partition("\n}")[0].splitlines()):
        if label := re.match(r"(\$\w+):", line):
            names[label[1]] = len(blocks)
            blocks.append([])
        elif line and not line.startswith(("//", ".", "{", "}")):
            blocks[-1].append(line)
            if re.match(r"(@!?%p\d+\s+)?bra", line):
                blocks.append([])
    return blocks, names


def _looping(blocks: list[list[str]], names: dict[str, int], among: set[int]) -> set[int]:
    """Of these blocks those from which control comes back to them, but for the ones where such loops begin."""
    after: dict[int, set[int]] = {}
    for k, block in enumerate(blocks):
        jump = re.match(r"(@!?%p\d+\s+)?bra(?:\.uni)?\s+(\$\w+)", block[-1]) if block else None
        after[k] = {names[jump[2]]} if jump else set()
        ends = block and block[-1].startswith(("ret", "exit", "trap"))
        if not ends and not (jump and not jump[1]) and k + 1 < len(blocks):
            after[k].add(k + 1)
    pairs = [(a, b) for a in among for b in after[a] & among]
    graph = coo_array((np.ones(len(pairs)), tuple(zip(*pairs, strict=True)) if pairs else ([], [])),
                      (len(blocks), len(blocks)))  # fmt: skip
    of = connected_components(graph, connection="strong")[1]
    inside = {a for a, b in pairs if of[a] == of[b]}
    heads = {b for a in after for b in after[a] if b in inside and (a not in among or of[a] != of[b])}
    return inside - heads


def tool(name: str) -> str:
    """The path of a program of the CUDA toolkit."""
    found = [path for root in ROOTS for path in (root / "bin" / name, root / "bin" / f"{name}.exe") if path.exists()]
    if not found:
        pytest.skip(f"{name} is not installed (dependency group 'cuda')")
    return str(found[0])


def compiled(kernel: Any, signature: tuple, tmp_path: Path, *, fastmath: Any = False,
             cooperative: bool = False, max_registers: int | None = None) -> Report:  # fmt: skip
    """Compile a kernel (its dispatcher) for types of arguments."""
    from numba.cuda import dispatcher

    from numbaopt.cuda._backend import SIMULATED, cuda

    assert not SIMULATED
    made_up = SimpleNamespace(compute_capability=ARCH, id=0)  # device functions ask
    with patch.object(dispatcher, "get_current_device", lambda: made_up):
        ptx, _ = cuda.compile(kernel.py_func, signature, device=False, abi="numba", cc=ARCH, fastmath=fastmath,
                              output="ptx")  # fmt: skip
    source, made = tmp_path / "kernel.ptx", tmp_path / "kernel.o"
    source.write_text(ptx)
    flags = ["-c"] if cooperative else []
    if max_registers is not None:  # ptxas chooses otherwise where it is told any number
        flags.append(f"--maxrregcount={max_registers}")
    done = subprocess.run([tool("ptxas"), "-arch=sm_90", "-v", *flags, str(source), "-o", str(made)], text=True,
                          capture_output=True, check=True)  # fmt: skip
    said = done.stderr
    spills = sum(map(int, re.findall(r"(\d+) bytes spill", said)))
    stack = max(map(int, re.findall(r"(\d+) bytes stack frame", said)), default=0)
    return Report(ptx, max(map(int, re.findall(r"Used (\d+) registers", said))), stack, spills)


def of_a_step(opt: Any, dtype: Any, wide: bool, tmp_path: Path) -> Iterator[tuple[str, Report]]:
    """The kernels of a step, by the names of their functions."""
    from numbaopt.cuda.kernels import launches
    from numbaopt.cuda.step import signature
    from numbaopt.optimizers._program import program

    made = program(opt, dtype)
    for launch in launches(made, wide):
        yield launch.kernel.py_func.__name__, compiled(launch.kernel, signature(made), tmp_path)


def reports(folder: Path) -> Iterator[tuple[str, str, str, Report]]:
    """What is compiled, a dtype, a kernel and its report: steps, training, many problems."""
    from cuda_cases import OPTIMIZERS
    from test_cuda_many import CURVES, METHODS, TEAMS, residuals, rosen
    from test_cuda_many import compiled as of_many
    from test_cuda_training_compiled import CASES, kernel_of

    for name, opt in OPTIMIZERS.items():
        for dtype in (np.float32, np.float64):
            for kernel, report in of_a_step(opt, dtype, True, folder):
                yield f"a step, {name}", dtype.__name__, kernel, report
    for name in CASES:
        for dtype in (np.float32, np.float64):
            yield f"training, {name}", dtype.__name__, "train", kernel_of(name, dtype, folder)[1]
    alone = [(rosen, method, {"X0": np.ones((3, n), kind)}) for method, n, kind in METHODS]
    in_teams = [(fun, method, {"args": (np.ones(3),), "batched": True, **given}) for fun, method, given in TEAMS]
    for who, calls in (("a thread", [*alone, (residuals, "lm", CURVES)]), ("a team", in_teams)):
        for fun, method, given in calls:
            label = method if isinstance(method, str) else type(method).__name__
            n, dtype = given["X0"].shape[1], given["X0"].dtype.name
            yield f"many, {who} each, {label}, n={n}", dtype, "solve", of_many(folder, fun, method, **given)


def main() -> None:
    """Print the report of every kernel."""
    import sys

    sys.path.insert(0, str(Path(__file__).parent))
    print("| what | dtype | kernel | registers | stack, bytes | spills, bytes |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for what, dtype, kernel, report in reports(Path(folder)):
            numbers = f"{report.registers} | {report.stack} | {report.spills}"
            print(f"| {what} | {dtype} | {kernel} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
