"""Exact gradients of jitted functions: accuracy, cost, time to compile; beside by hand, JAX and autograd."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np

import numbaopt as no

from .objectives import OBJECTIVES, SIZES, Objective
from .report import OURS, Case, Faster, Table, optional
from .timing import Times, race

ALONE, HAND, FORWARD, REVERSE = "fun alone", "by hand", "forward", "reverse"
JAX_LOOP, JAX_CALL, AUTOGRAD, DIFFERENCES = "JAX in a loop", "JAX, called", "autograd", "3-point"
NOTES = (
    f"All but {JAX_CALL} and {AUTOGRAD} are timed inside compiled loops.  {OURS}: value_and_grad, forward mode up to",
    "10 unknowns, else reverse mode.  3-point: 2n evaluations.  Asked: for n <= 10 on loops a quarter of the speed of",
    "by hand; at n = 1000 a third of the speed of fun alone on matrices, a twelfth on loops.",
)


def run(quick: bool = False) -> Iterator[Table]:
    """A table a size, then accuracy and the time to compile."""
    notes: list[str] = []
    off: list[str] = []
    for n in SIZES[:1] if quick else SIZES:
        cases = []
        for name, objective in OBJECTIVES.items():
            if n in objective.sizes:
                times, error = times_of(objective, n, notes, 2 if quick else 7)
                goals = []
                if HAND in times and n <= 10 and objective.loops:
                    goals.append(Faster(0.25, (HAND,)))
                if n == 1000:
                    goals.append(Faster(1 / 12 if objective.loops else 1 / 3, (ALONE,)))
                cases.append(Case(name, times, tuple(goals)))
                off.append(f"{name}, n = {n}: {error:.1e}" if error is not None else f"{name}, n = {n}: no peer")
        yield Table(f"Value and exact gradient, n = {n}", cases, [*notes, *NOTES])
    yield Table("Largest relative error against by hand or jax.grad", [], off)
    yield Table("Seconds to compile a value and gradient, first call, nothing on disk", [], compile_times(quick))


def times_of(objective: Objective, n: int, notes: list[str], rounds: int) -> tuple[dict[str, Times], float | None]:
    """All contestants, in seconds an evaluation; the error of ours where there is something to compare with."""
    x, args = np.random.default_rng(0).standard_normal(n) * 0.3, objective.args(n)
    ours = no.value_and_grad(objective.fun)
    g = ours(x, *args)[1]
    contestants: dict[str, Callable[[], Any]] = {}
    units: dict[str, int] = {}

    def loop(name: str, call: Any) -> None:
        count = 1
        call(x.copy(), args, 1)
        while _seconds(functools.partial(call, x.copy(), args, count)) < 0.01:
            count *= 4
        contestants[name], units[name] = (lambda: call(x.copy(), args, count)), count

    loop(OURS, _repeat_pair(ours.compiled("forward" if n <= 10 else "reverse")))
    loop(ALONE, _repeat(objective.fun))
    expected = None
    if objective.hand is not None:
        loop(HAND, _repeat_hand(objective.hand))
        expected = np.empty(n)
        objective.hand(x, *args, expected)
    for mode in (FORWARD, REVERSE) if n <= 16 else ():
        loop(mode, _repeat_pair(no.value_and_grad(objective.fun, mode).compiled(mode)))
    if n <= 100:
        loop(DIFFERENCES, _repeat_differences(objective.fun))
    if objective.traced is not None:
        found = jax_twins(objective, x, args, notes)
        if found:
            contestants |= {JAX_LOOP: found[0], JAX_CALL: found[1]}
            units |= {JAX_LOOP: found[3], JAX_CALL: 1}
            expected = found[2] if expected is None else expected
        if autograd := optional("autograd", notes):
            import autograd.numpy

            traced = autograd.value_and_grad(objective.traced(autograd.numpy))
            contestants[AUTOGRAD], units[AUTOGRAD] = (lambda: traced(x, *args)), 1
    error = None if expected is None else float(np.abs(g - expected).max() / max(np.abs(expected).max(), 1e-300))
    return race(contestants, rounds, units=units), error


def _seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _repeat(fun: Any) -> Any:
    @numba.njit
    def run(x, args, count):
        s = 0.0
        for _ in range(count):
            x[0] += 1e-12
            s += fun(x, *args)
        return s

    return run


def _repeat_pair(fun: Any) -> Any:
    @numba.njit
    def run(x, args, count):
        s = 0.0
        for _ in range(count):
            x[0] += 1e-12
            value, g = fun(x, *args)
            s += value + g[0]
        return s

    return run


def _repeat_hand(fun: Any) -> Any:
    @numba.njit
    def run(x, args, count):
        s = 0.0
        for _ in range(count):
            x[0] += 1e-12
            g = np.empty(x.size)
            s += fun(x, *args, g) + g[0]
        return s

    return run


def _repeat_differences(fun: Any) -> Any:
    @numba.njit
    def run(x, args, count):
        s = 0.0
        for _ in range(count):
            x[0] += 1e-12
            g = np.empty(x.size)
            value = fun(x, *args)
            for i in range(x.size):
                kept = x[i]
                x[i] = kept + 6e-6
                ahead = fun(x, *args)
                x[i] = kept - 6e-6
                g[i] = (ahead - fun(x, *args)) / 12e-6
                x[i] = kept
            s += value + g[0]
        return s

    return run


def jax_twins(objective: Objective, x: Any, args: Any, notes: list[str]) -> Any:
    """A jitted loop of evaluations, a jitted evaluation to call, the gradient, and how many the loop does."""
    if not (jax := optional("jax", notes)) or objective.traced is None:
        return None
    jax.config.update("jax_enable_x64", True)
    pair = jax.value_and_grad(objective.traced(jax.numpy))
    data, count = tuple(map(jax.numpy.asarray, args)), 100

    def body(_, carry):
        x, s = carry
        value, g = pair(x, *data)
        return x.at[0].add(1e-12), s + value + g[0]

    loop = jax.jit(lambda x: jax.lax.fori_loop(0, count, body, (x, 0.0))[1])
    call, start = jax.jit(pair), jax.numpy.asarray(x)
    return (lambda: loop(start).block_until_ready(), lambda: call(start, *data)[1].block_until_ready(),
            np.asarray(call(start, *data)[1]), count)  # fmt: skip


def compile_times(quick: bool) -> list[str]:
    """The first calls, after one that compiles what all share."""
    lines = []
    no.value_and_grad(numba.njit(lambda x: x[0] * x[0]), "forward")(np.ones(2))
    no.value_and_grad(numba.njit(lambda x: (np.ones((2, 2)) @ x)[0]), "reverse")(np.ones(2))
    for name, objective in list(OBJECTIVES.items())[: 2 if quick else None]:
        n = objective.sizes[0]
        x, args = np.full(n, 0.3), objective.args(n)
        taken = []
        for mode in (None, FORWARD, REVERSE):
            fresh = numba.njit(objective.fun.py_func)
            call = fresh if mode is None else no.value_and_grad(fresh, mode)
            taken.append(_seconds(functools.partial(call, x, *args)))
        lines.append(f"{name}: {ALONE} {taken[0]:.2f}, {FORWARD} {taken[1]:.2f}, {REVERSE} {taken[2]:.2f}")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "from_disk.py").write_text(FROM_DISK)
        path = os.pathsep.join([folder, os.getcwd()])
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder, "PYTHONPATH": path}
        for told in ("nothing on disk", "from disk"):
            found = subprocess.run([sys.executable, "-c", "import from_disk"], env=environment, check=True, text=True,
                                   capture_output=True).stdout.split()  # fmt: skip
            lines.append(f"a fresh process, {told}, two layers: {FORWARD} {found[0]}, {REVERSE} {found[1]}; besides, "
                         f"import of numbaopt.autodiff {found[2]}")  # fmt: skip
    return lines


FROM_DISK = """
import time, numba, numpy as np, numbaopt as no

@numba.njit(cache=True)
def fun(x, X, y):
    return np.mean((np.tanh(X @ x[:40].reshape(10, 4)) @ x[40:44] - y) ** 2)

begin = time.perf_counter()
no.grad
imported = time.perf_counter() - begin
args, taken = (np.ones((50, 10)), np.ones(50)), []
for mode in ("forward", "reverse"):
    begin = time.perf_counter()
    no.value_and_grad(fun, mode)(np.ones(44), *args)
    taken.append(time.perf_counter() - begin)
print(*(f"{seconds:.2f}" for seconds in (*taken, imported)))
"""
