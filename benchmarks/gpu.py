"""On a GPU: a step of Adam beside torch, CuPy and optax, against copies and the CPU; training; curve fits."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np

import numbaopt as no

from . import gpu_training, many
from .report import OURS, Case, Faster, Table, optional
from .step import _optax_step
from .timing import race

TORCH, GRAPH, OPTAX, CUPY = "torch fused", "torch fused, CUDA graph", "optax jitted", "CuPy kernel by hand"
COPY, CPU = "copying as many bytes", "numbaopt on the CPU"
NUMBERS = 7  # that a step of Adam must move a coordinate: it reads x, g, m, v and writes x, m, v
ROUNDS = 9
FITS, FITS_SECONDS = 1_000_000, 0.3
Contestants = dict[str, Callable[[], Any]]


def run(quick: bool = False) -> Iterator[Table]:
    """The tables; without a GPU one sentence."""
    if reason := no.cuda.why_not():
        yield Table("On a GPU", [], [f"Nothing was measured: {reason}."])
        return
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take most of the memory for itself
    for table in TABLES:
        yield table(quick)


def steps(quick: bool) -> Table:
    """A step of Adam at many sizes."""
    notes = [machine()]
    cases = []
    for n in (100, 10_000) if quick else (100, 10_000, 1_000_000, 10_000_000, 100_000_000):
        for dtype in (np.float32, np.float64):
            units = 100 if n <= 1_000_000 else 10
            makers = {OURS: ours, COPY: copy, CUPY: cupys, TORCH: torchs, GRAPH: torchs_graph, OPTAX: optaxs}
            there = entered(makers, n, dtype, units, notes)
            goals = [Faster(1.0, (TORCH, GRAPH, OPTAX, CUPY))] + [Faster(0.9, (COPY,))] * (n >= 100_000_000)
            if OURS in there:
                times = race(there, 2 if quick else ROUNDS, 0.002 if quick else 0.03, units)
                cases.append(Case(f"Adam, {np.dtype(dtype)}, n = {n:,}", times, tuple(goals)))
    return Table("A step on a GPU, many in a row, then waited for", cases, notes)


def sums(quick: bool) -> Table:
    """A step that needs a sum over all coordinates first."""
    notes: list[str] = []
    cases = []
    for n in (10_000,) if quick else (10_000, 1_000_000, 100_000_000):
        makers = {OURS: ours_clipped, TORCH: torchs_clipped}
        there = entered(makers, n, np.float32, 10, notes)
        if OURS in there:
            times = race(there, 2 if quick else ROUNDS, 0.002 if quick else 0.03, 10)
            cases.append(Case(f"clip by norm, Adam, float32, n = {n:,}", times, (Faster(1.0, (TORCH,)),)))
    return Table("A step with a sum over all coordinates", cases, notes)


def crossover(quick: bool) -> Table:
    """From which size on a step is faster on the GPU; arrays are where they are needed."""
    cases, notes = [], ["The crossover is where the ratio passes 1; moving arrays to the GPU and back is not in it."]
    for n in (100, 1_000) if quick else (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000):
        units = 100 if n <= 100_000 else 10
        there = entered({OURS: ours, CPU: ours_on_the_cpu}, n, np.float64, units, notes)
        times = race(there, 2 if quick else ROUNDS, 0.002 if quick else 0.03, units)
        cases.append(Case(f"Adam, float64, n = {n:,}", times))
    return Table("A step on the GPU and on the CPU", cases, notes)


def fits(quick: bool) -> Table:
    """Many curve fits, from arrays of the CPU to arrays of the CPU."""
    k = FITS // 1000 if quick else FITS
    t, Y = many.data(k)
    options = {OURS: {"device": "cuda"}, CPU: {}}

    def of(name: str) -> Callable[[], Any]:
        return lambda: no.minimize_many(many.residuals, many.START, (t, Y), (False, True), "lm", options=options[name])

    there = {name: of(name) for name in options}
    first, second = (there[name]() for name in (OURS, CPU))
    worse = np.count_nonzero(~(first.fun <= second.fun * (1 + 1e-4) + 1e-12))
    notes = [f"All data are moved to the GPU and back each time. {OURS}: {first.message}; {worse:,} of {k:,} fits end "
             f"above the CPU's sum of squares by more than 1e-4 of it. The target is {FITS_SECONDS} s for {FITS:,} "
             f"fits, and 20 times the speed of 2 cores; here the CPU has {numba.get_num_threads()}."]  # fmt: skip
    times = race(there, 2 if quick else 5, 0.0, k)
    return Table("Many curve fits on the GPU and on the CPU",
                 [Case(f"a fit, of {k:,} with 3 parameters and {many.POINTS} points", times, (Faster(20, (CPU,)),))],
                 notes)  # fmt: skip


TABLES: tuple[Callable[[bool], Table], ...] = (
    steps, sums, crossover, gpu_training.epochs, gpu_training.gradients, fits)  # one a question


def entered(makers: dict[str, Callable[..., Any]], n: int, dtype: Any, units: int, notes: list[str]) -> Contestants:
    """The contestants that are installed and fit into the GPU's memory."""
    found: Contestants = {}
    for name, make in makers.items():
        try:
            if call := make(n, dtype, units, notes):
                call()
                found[name] = call
        except Exception as error:
            notes.append(f"{name}, {np.dtype(dtype)}, n = {n:,}: left out, {str(error).splitlines()[0]}")
    return found


def data(n: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Unknowns and a gradient."""
    rng = np.random.default_rng(0)
    return rng.standard_normal(n, np.float32).astype(dtype), np.full(n, 0.01, dtype)


def on_gpu(*values: np.ndarray) -> list[Any]:
    """The arrays on the GPU: torch's, CuPy's or Numba's, whichever is there."""
    from numbaopt.cuda._backend import SIMULATED, cuda

    notes: list[str] = []
    if not SIMULATED and (torch := optional("torch", notes)) and torch.cuda.is_available():
        return [torch.from_numpy(one).cuda() for one in values]
    if not SIMULATED and (cupy := optional("cupy", notes)):
        return [cupy.asarray(one) for one in values]
    return [cuda.to_device(one) for one in values]


def waited(step: Callable[[], Any], units: int) -> Callable[[], Any]:
    """So many steps, then the wait for the GPU."""
    from numbaopt.cuda._backend import cuda

    def call() -> None:
        for _ in range(units):
            step()
        cuda.synchronize()

    return call


def _ours(opt: Any, n: int, dtype: Any, units: int) -> Callable[[], Any]:
    (x, g), t = on_gpu(*data(n, dtype)), itertools.count(1)
    state = no.cuda.init_state(opt, x)
    return waited(lambda: no.cuda.step(opt, x, g, state, next(t)), units)


def ours(n: int, dtype: Any, units: int, notes: list[str]) -> Callable[[], Any]:
    """`numbaopt.cuda.step`."""
    return _ours(no.Adam(), n, dtype, units)


def ours_clipped(n: int, dtype: Any, units: int, notes: list[str]) -> Callable[[], Any]:
    """The same behind `ClipByNorm`."""
    return _ours(no.transforms.chain(no.transforms.ClipByNorm(), no.Adam()), n, dtype, units)


def ours_on_the_cpu(n: int, dtype: Any, units: int, notes: list[str]) -> Callable[[], Any]:
    """`numbaopt.step`, by all cores where that pays."""
    opt, (x, g), t = no.Adam(), data(n, dtype), itertools.count(1)
    state = no.init_state(opt, x)

    def call() -> None:
        for _ in range(units):
            no.step(opt, x, g, state, next(t))

    return call


def copy(n: int, dtype: Any, units: int, notes: list[str]) -> Callable[[], Any] | None:
    """Copies half of the numbers that a step moves from one place to another: each is read and written."""
    return copying(np.zeros(n * NUMBERS // 2, dtype), units)


def copying(values: np.ndarray, units: int) -> Callable[[], Any] | None:
    """So many copies of an array from one place on the GPU to another; None where nobody there copies."""
    one, other = on_gpu(values, values)
    if hasattr(one, "copy_"):
        return waited(lambda: other.copy_(one), units)
    if hasattr(getattr(one, "data", None), "copy_from_device_async"):
        return waited(lambda: other.data.copy_from_device_async(one.data, one.nbytes), units)
    return None


def torchs(n: int, dtype: Any, units: int, notes: list[str], device: str = "cuda") -> Callable[[], Any] | None:
    """torch's fused Adam."""
    if not (torch := optional("torch", notes)):
        return None
    x, g = data(n, dtype)
    parameter = torch.nn.Parameter(torch.from_numpy(x).to(device))
    parameter.grad = torch.from_numpy(g).to(device)
    step = torch.optim.Adam([parameter], fused=True).step
    return waited(step, units) if device == "cuda" else step


def torchs_graph(n: int, dtype: Any, units: int, notes: list[str]) -> Callable[[], Any] | None:
    """The same recorded as a CUDA graph and played again: nothing of torch's Python is left."""
    if not (torch := optional("torch", notes)):
        return None
    x, g = data(n, dtype)
    parameter = torch.nn.Parameter(torch.from_numpy(x).cuda())
    parameter.grad = torch.from_numpy(g).cuda()
    opt, side = torch.optim.Adam([parameter], fused=True, capturable=True), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            opt.step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        opt.step()
    return waited(graph.replay, units)


def torchs_clipped(n: int, dtype: Any, units: int, notes: list[str]) -> Callable[[], Any] | None:
    """torch's clipping, then its fused Adam."""
    if not (torch := optional("torch", notes)):
        return None
    x, g = data(n, dtype)
    parameter = torch.nn.Parameter(torch.from_numpy(x).cuda())
    gradient = torch.from_numpy(g).cuda()
    parameter.grad = gradient.clone()
    opt = torch.optim.Adam([parameter], fused=True)

    def step() -> None:
        torch.nn.utils.clip_grad_norm_([parameter], 1.0)
        opt.step()

    return waited(step, units)


def optaxs(n: int, dtype: Any, units: int, notes: list[str]) -> Callable[[], Any] | None:
    """optax's Adam, jitted, its arguments given away."""
    if not ((jax := optional("jax", notes)) and (optax := optional("optax", notes))):
        return None
    jax.config.update("jax_enable_x64", True)
    x, g = map(jax.numpy.array, data(n, dtype))
    step, stand = jax.jit(_optax_step(optax), donate_argnums=(0, 1)), (x, optax.adam(1e-3).init(x))

    def call() -> None:
        nonlocal stand
        for _ in range(units):
            stand = step(*stand, g)
        stand[0].block_until_ready()

    return call


def cupys(n: int, dtype: Any, units: int, notes: list[str]) -> Callable[[], Any] | None:
    """Adam written by hand as one kernel of CuPy."""
    if not (cupy := optional("cupy", notes)):
        return None
    kernel = cupy.ElementwiseKernel(
        "T g, T rate, T b1, T a1, T b2, T a2, T eps", "T x, T m, T v",
        "m = b1 * m + a1 * g; v = b2 * v + a2 * g * g; x -= rate * m / (sqrt(v) + eps)", "adam_by_hand")  # fmt: skip
    x, g = map(cupy.asarray, data(n, dtype))
    m, v, t, kind = cupy.zeros_like(x), cupy.zeros_like(x), itertools.count(1), np.dtype(dtype).type

    def step() -> None:
        k = next(t)
        root = (1 - 0.999**k) ** 0.5
        kernel(g, kind(1e-3 * root / (1 - 0.9**k)), kind(0.9), kind(0.1), kind(0.999), kind(0.001), kind(1e-8 * root),
               x, m, v)  # fmt: skip

    return waited(step, units)


def machine() -> str:
    """The GPU, the driver and what compiled for it."""
    from numbaopt.cuda import _backend

    if _backend.SIMULATED:
        return "CUDA's simulator: times mean nothing"
    name = _backend.cuda.get_current_device().name
    name = name.decode() if isinstance(name, bytes) else name
    newest = "{}.{}".format(*_backend.driver_version())
    return f"{name}, driver for CUDA {newest}, {_backend.implementation()}"
