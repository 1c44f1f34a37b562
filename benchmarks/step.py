"""One step of Adam at four sizes, called from Python and inside a compiled loop."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np

import numbaopt as no

from .report import OURS, Case, Faster, Table, optional
from .timing import race

TORCH, OPTAX, TOUCH, SCALE = "torch fused", "optax jitted", "touch", "scale"
ABOUT_MOVES = (
    "touch and scale only move the bytes that a step must move (read x, g, m, v, write x, m, v, in place) on the same "
    "number of threads: x += g, m += g, v += g in one compiled loop; and NumPy scaling x, m and v, then g.max()."
)
LOOP = 1000  # steps in compiled code
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(quick: bool = False) -> Iterator[Table]:
    """The tables."""
    notes: list[str] = []
    rounds = 3 if quick else 15
    cases = []
    for n in (100, 10_000, 100_000) if quick else (100, 10_000, 1_000_000, 20_000_000):
        for dtype in (np.float64, np.float32):
            contestants = {OURS: ours(n, dtype), **peers(n, dtype, notes)}
            times_faster = 5.0 if n <= 10_000 else 1.3 if n <= 1_000_000 else 1.0
            goals: tuple[Faster, ...] = (Faster(times_faster, (TORCH, OPTAX)),)
            if n > 10_000:
                contestants.update(moves(n, dtype))
                goals += (Faster(1 / 1.2, (TOUCH, SCALE)),)
            times = race(contestants, rounds, 0.005 if quick else 0.03)
            cases.append(Case(f"{np.dtype(dtype)}, n = {n:,}", times, goals))
    yield Table("One Adam step, called from Python", cases, [*notes, ABOUT_MOVES])
    cases = []
    for n in (100, 10_000):
        for dtype in (np.float64, np.float32):
            contestants = {OURS: ours_in_loop(n, dtype), **peers_in_loop(n, dtype, notes)}
            cases.append(Case(f"{np.dtype(dtype)}, n = {n:,}", race(contestants, rounds, 0.005, LOOP)))
    yield Table(f"One Adam step inside compiled code, {LOOP} in a row", cases, notes)


def data(n: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Unknowns and a gradient."""
    rng = np.random.default_rng(0)
    return rng.standard_normal(n).astype(dtype), (0.01 * rng.standard_normal(n)).astype(dtype)


def ours(n: int, dtype: Any) -> Callable[[], Any]:
    """`numbaopt.step` from Python."""
    opt, (x, g), t = no.Adam(), data(n, dtype), itertools.count(1)
    state = no.init_state(opt, x)
    return lambda: no.step(opt, x, g, state, next(t))


def ours_in_loop(n: int, dtype: Any) -> Callable[[], Any]:
    """`numbaopt.step` in a user's jitted loop."""

    @numba.njit
    def loop(opt, x, g, state, begin):
        for t in range(begin, begin + LOOP):
            no.step(opt, x, g, state, t)

    opt, (x, g), t = no.Adam(), data(n, dtype), itertools.count(1, LOOP)
    state = no.init_state(opt, x)
    return lambda: loop(opt, x, g, state, next(t))


def peers(n: int, dtype: Any, notes: list[str]) -> dict[str, Callable[[], Any]]:
    """The step of torch and of optax."""
    found: dict[str, Callable[[], Any]] = {}
    x, g = data(n, dtype)
    if torch := optional("torch", notes):
        torch.set_num_threads(THREADS)
        parameter = torch.nn.Parameter(torch.from_numpy(x.copy()))
        parameter.grad = torch.from_numpy(g)
        found[TORCH] = torch.optim.Adam([parameter], fused=True).step
    if (jax := optional("jax", notes)) and (optax := optional("optax", notes)):
        jax.config.update("jax_enable_x64", True)
        step = jax.jit(_optax_step(optax), donate_argnums=(0, 1))
        found[OPTAX] = _repeat(step, jax.numpy.array(x), optax.adam(1e-3), jax.numpy.array(g))
    return found


def peers_in_loop(n: int, dtype: Any, notes: list[str]) -> dict[str, Callable[[], Any]]:
    """The step of optax in a loop that is jitted as a whole."""
    if not ((jax := optional("jax", notes)) and (optax := optional("optax", notes))):
        return {}
    jax.config.update("jax_enable_x64", True)
    step = _optax_step(optax)

    def loop(x, state, g):
        return jax.lax.fori_loop(0, LOOP, lambda _, stand: step(*stand, g), (x, state))

    x, g = data(n, dtype)
    jitted = jax.jit(loop, donate_argnums=(0, 1))
    return {OPTAX: _repeat(jitted, jax.numpy.array(x), optax.adam(1e-3), jax.numpy.array(g))}


def _optax_step(optax: Any) -> Callable[..., Any]:
    opt = optax.adam(1e-3)

    def step(x, state, g):
        updates, state = opt.update(g, state, x)
        return optax.apply_updates(x, updates), state

    return step


def _repeat(step: Callable[..., Any], x: Any, opt: Any, g: Any) -> Callable[[], Any]:
    stand = x, opt.init(x)

    def call() -> None:
        nonlocal stand
        stand = step(*stand, g)
        stand[0].block_until_ready()

    return call


def moves(n: int, dtype: Any) -> dict[str, Callable[[], Any]]:
    """Operations that read four arrays and write three, in place, on all cores."""
    x, g = data(n, dtype)
    m, v, one = x.copy(), x.copy(), x.dtype.type(1)
    pool = ThreadPoolExecutor(THREADS)
    parts = [slice(n * k // THREADS, n * (k + 1) // THREADS) for k in range(THREADS)]
    views = [(x[part], g[part], m[part], v[part]) for part in parts]

    def scale(x, g, m, v):
        for array in (x, m, v):
            np.multiply(array, one, out=array)
        g.max()

    def on_all(work: Callable[..., Any]) -> Callable[[], Any]:
        def call() -> None:
            others = [pool.submit(work, *arrays) for arrays in views[1:]]
            work(*views[0])
            for other in others:
                other.result()

        return call

    return {TOUCH: on_all(_touch), SCALE: on_all(scale)}


@numba.njit(nogil=True)
def _touch(x, g, m, v):
    for i in range(x.size):
        x[i] += g[i]
        m[i] += g[i]
        v[i] += g[i]
