"""On a GPU: a step of Adam beside torch, CuPy and optax, against copies and the CPU; training; curve fits."""

from __future__ import annotations

import functools
import itertools
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numba
import numpy as np

import numbaopt as no

from . import gpu_training, many, report
from .report import OURS, Case, Faster, Table, measured, optional
from .step import _optax_step
from .timing import race

TORCH, GRAPH, OPTAX, CUPY = "torch fused", "torch fused, CUDA graph", "optax jitted", "CuPy kernel by hand"
COPY, CPU = "copying as many bytes", "numbaopt on the CPU"
NUMBERS = 7  # that a step of Adam must move a coordinate: it reads x, g, m, v and writes x, m, v
ROUNDS, LEAST, MOST = 9, 0.03, 15.0  # of a race; seconds of a turn, and of a race
FITS, FITS_SECONDS = 1_000_000, 0.3
CROSSES = "The crossover is where the ratio passes 1"
LOOKED_AT = 1000  # unknowns that are compared among contestants


class Contestant(NamedTuple):
    """A call that takes so many steps and waits for them, and the unknowns, of which the first are looked at."""

    call: Callable[[], Any]
    unknowns: Callable[[], np.ndarray] | None = None


def run(quick: bool = False, part: str = "") -> Iterator[Table]:
    """The tables, or those of a part; without a GPU one sentence. A table that fails is told, and the rest goes on."""
    if reason := no.cuda.why_not():
        yield Table("On a GPU", [], [f"Nothing was measured: {reason}."])
        return
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take most of the memory for itself
    for name, tables in PARTS.items():
        for table in tables if part in ("", name) else ():
            print(f"gpu.{name} ...", file=sys.stderr, flush=True)
            try:
                yield table(quick)
            except Exception as error:
                traceback.print_exc()
                yield Table(f"{table.__name__.capitalize()} on a GPU", [], [f"FAILED: {type(error).__name__}: {error}"])


def steps(quick: bool) -> Table:
    """A step of Adam at many sizes."""
    notes, cases = [machine()], []
    for n in (100, 10_000) if quick else (100, 10_000, 1_000_000, 10_000_000, 100_000_000):
        for dtype in (np.float32, np.float64):
            units = 100 if n <= 1_000_000 else 10
            makers = {OURS: ours, COPY: copy, CUPY: cupys, TORCH: torchs, GRAPH: torchs_graph, OPTAX: optaxs}
            goals = [Faster(1.0, (TORCH, GRAPH, OPTAX, CUPY))] + [Faster(0.9, (COPY,))] * (n >= 100_000_000)
            cases += raced(f"Adam, {np.dtype(dtype)}, n = {n:,}", makers, n, dtype, units, goals, notes, quick)
    return Table("A step on a GPU, many in a row, then waited for", cases, notes)


def sums(quick: bool) -> Table:
    """A step that needs a sum over all coordinates first."""
    notes: list[str] = []
    cases = []
    for n in (10_000,) if quick else (10_000, 1_000_000, 100_000_000):
        makers, goals = {OURS: ours_clipped, TORCH: torchs_clipped}, [Faster(1.0, (TORCH,))]
        cases += raced(f"clip by norm, Adam, float32, n = {n:,}", makers, n, np.float32, 10, goals, notes, quick)
    return Table("A step with a sum over all coordinates", cases, notes)


def crossover(quick: bool) -> Table:
    """From which size on a step is faster on the GPU; arrays are where they are needed."""
    cases, notes = [], [f"{CROSSES}; moving arrays to the GPU and back is not in it."]
    for n in (100, 1_000) if quick else (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000):
        units = 100 if n <= 100_000 else 10
        makers = {OURS: ours, CPU: ours_on_the_cpu}
        cases += raced(f"Adam, float64, n = {n:,}", makers, n, np.float64, units, [], notes, quick)
    return Table("A step on the GPU and on the CPU", cases, notes)


def crossover_of_fits(quick: bool) -> Table:
    """From how many curve fits on the GPU is faster, from arrays of the CPU to arrays of the CPU."""
    cases = []
    for k in (100, 1_000) if quick else (100, 1_000, 10_000, 100_000):
        calls, _ = fitting(k)
        times = race(calls, 2 if quick else 5, 0.0, k, MOST)
        cases.append(measured(Case(f"a fit, of {k:,}", times)))
    return Table("Curve fits on the GPU and on the CPU", cases, [f"{CROSSES}; all data are moved in each call."])


def fits(quick: bool) -> Table:
    """Many curve fits, from arrays of the CPU to arrays of the CPU."""
    k = FITS // 1000 if quick else FITS
    there, note = fitting(k)
    times = race(there, 2 if quick else 5, 0.0, k, MOST)
    name = f"a fit, of {k:,} with 3 parameters and {many.POINTS} points"
    return Table("Many curve fits on the GPU and on the CPU", [measured(Case(name, times, (Faster(20, (CPU,)),)))], [
        f"{note} The target is {FITS_SECONDS} s for {FITS:,} fits, and 20 times the speed of 2 cores; here the CPU has "
        f"{numba.get_num_threads()}."])  # fmt: skip


def fitting(k: int) -> tuple[dict[str, Callable[[], Any]], str]:
    """The same fits on both machines, and whether they agree."""
    t, Y = many.data(k)
    there = {name: functools.partial(no.minimize_many, many.residuals, many.START, (t, Y), (False, True), "lm",
                                     options=options) for name, options in ((OURS, {"device": "cuda"}), (CPU, {}))}
    first, second = (call() for call in there.values())
    worse = np.count_nonzero(~(first.fun <= second.fun * (1 + 1e-4) + 1e-12))
    return there, (f"All data are moved to the GPU and back each time. {OURS}: {first.message}; {worse:,} of {k:,} "
                   "fits end above the CPU's sum of squares by more than 1e-4 of it.")  # fmt: skip


PARTS: dict[str, tuple[Callable[[bool], Table], ...]] = {
    "steps": (steps,), "sums": (sums,), "epochs": (gpu_training.epochs,), "gradients": (gpu_training.gradients,),
    "fits": (fits,), "crossover": (crossover, gpu_training.crossover_of_training, crossover_of_fits)}  # fmt: skip


def raced(name: str, makers: dict[str, Callable[..., Any]], n: int, dtype: Any, units: int, goals: list[Faster],
          notes: list[str], quick: bool) -> list[Case]:  # fmt: skip
    """The case of a race, if ours takes part."""
    there = entered(makers, n, dtype, units, notes)
    if OURS not in there:
        return []
    calls = {key: one.call for key, one in there.items()}
    times = race(calls, 2 if quick else ROUNDS, 0.002 if quick else LEAST, units, MOST)
    return [measured(Case(name, times, tuple(goals)))]


def entered(makers: dict[str, Callable[..., Any]], n: int, dtype: Any, units: int,
            notes: list[str]) -> dict[str, Contestant]:  # fmt: skip
    """The contestants that are installed and fit into the GPU's memory; told is who computes something else."""
    found: dict[str, Contestant] = {}
    expected = None
    for name, make in makers.items():
        about = f"{name}, {np.dtype(dtype)}, n = {n:,}"
        try:
            if one := make(n, dtype, units, notes):
                one.call()
                found[name] = one
                if one.unknowns:
                    x = one.unknowns()
                    expected = x if expected is None else expected
                    if not np.allclose(x, expected, rtol=1e-3, atol=1e-4):
                        notes.append(f"{about}: ends up to {np.max(np.abs(x - expected)):.1e} from {next(iter(found))}")
        except Exception as error:
            notes.append(f"{about}: left out, {next(iter(str(error).splitlines()), type(error).__name__)}")
    return found


@functools.lru_cache(maxsize=2)
def data(n: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Unknowns and a gradient, for who copies them."""
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal(n, np.float32), rng.standard_normal(n, np.float32)
    g *= np.float32(0.01)
    return x.astype(dtype), g.astype(dtype)


def on_gpu(*values: np.ndarray) -> list[Any]:
    """The arrays on the GPU: torch's, CuPy's or Numba's, whichever is there."""
    from numbaopt.cuda._backend import SIMULATED, cuda

    notes: list[str] = []
    if not SIMULATED and (torch := optional("torch", notes)) and torch.cuda.is_available():
        return [torch.from_numpy(one).cuda() for one in values]
    if not SIMULATED and (cupy := optional("cupy", notes)):
        return [cupy.asarray(one) for one in values]
    return [cuda.to_device(one) for one in values]


def here(values: Any) -> np.ndarray:
    """The first numbers of an array of any library."""
    first = values[:LOOKED_AT]
    for name in ("copy_to_host", "get"):  # Numba's, CuPy's
        if hasattr(first, name):
            return getattr(first, name)()
    return np.array(first.detach().cpu().numpy() if hasattr(first, "detach") else first)


def waited(step: Callable[[], Any], units: int) -> Callable[[], Any]:
    """So many steps, then the wait for the GPU."""
    from numbaopt.cuda._backend import cuda

    def call() -> None:
        for _ in range(units):
            step()
        cuda.synchronize()

    return call


def _ours(opt: Any, n: int, dtype: Any, units: int) -> Contestant:
    (x, g), t = on_gpu(*data(n, dtype)), itertools.count(1)
    state = no.cuda.init_state(opt, x)
    return Contestant(waited(lambda: no.cuda.step(opt, x, g, state, next(t)), units), lambda: here(x))


def ours(n: int, dtype: Any, units: int, notes: list[str]) -> Contestant:
    """`numbaopt.cuda.step`."""
    return _ours(no.Adam(), n, dtype, units)


def ours_clipped(n: int, dtype: Any, units: int, notes: list[str]) -> Contestant:
    """The same behind `ClipByNorm`."""
    return _ours(no.transforms.chain(no.transforms.ClipByNorm(), no.Adam()), n, dtype, units)


def ours_on_the_cpu(n: int, dtype: Any, units: int, notes: list[str]) -> Contestant:
    """`numbaopt.step`, by all cores where that pays."""
    opt, (x, g), t = no.Adam(), data(n, dtype), itertools.count(1)
    x, state = x.copy(), no.init_state(opt, x)

    def call() -> None:
        for _ in range(units):
            no.step(opt, x, g, state, next(t))

    return Contestant(call, lambda: here(x))


def copy(n: int, dtype: Any, units: int, notes: list[str]) -> Contestant | None:
    """Copies half of the numbers that a step moves from one place to another: each is read and written."""
    call = copying(np.resize(data(n, dtype)[0], n * NUMBERS // 2), units)
    return call and Contestant(call)


def copying(values: np.ndarray, units: int) -> Callable[[], Any] | None:
    """So many copies of an array from one place on the GPU to another; None where nobody there copies."""
    one, other = on_gpu(values, values)
    if hasattr(one, "copy_"):
        return waited(lambda: other.copy_(one), units)
    if hasattr(getattr(one, "data", None), "copy_from_device_async"):
        return waited(lambda: other.data.copy_from_device_async(one.data, one.nbytes), units)
    return None


def _parameter(torch: Any, n: int, dtype: Any, device: str) -> Any:
    """Unknowns and a gradient as torch has them."""
    x, g = data(n, dtype)
    made = torch.nn.Parameter(torch.tensor(x, device=device))
    made.grad = torch.tensor(g, device=device)
    return made


def torchs(n: int, dtype: Any, units: int, notes: list[str], device: str = "cuda") -> Contestant | None:
    """torch's fused Adam."""
    if not (torch := optional("torch", notes)):
        return None
    parameter = _parameter(torch, n, dtype, device)
    step = torch.optim.Adam([parameter], fused=True).step
    return Contestant(waited(step, units) if device == "cuda" else step, lambda: here(parameter))


def torchs_graph(n: int, dtype: Any, units: int, notes: list[str]) -> Contestant | None:
    """The same recorded as a CUDA graph and played again: nothing of torch's Python is left."""
    if not (torch := optional("torch", notes)):
        return None
    parameter = _parameter(torch, n, dtype, "cuda")
    start, side = parameter.detach().clone(), torch.cuda.Stream()
    opt = torch.optim.Adam([parameter], fused=True, capturable=True)
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            opt.step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        opt.step()
    with torch.no_grad():
        parameter.copy_(start)
        for held in opt.state[parameter].values():
            held.zero_()
    return Contestant(waited(graph.replay, units), lambda: here(parameter))


def torchs_clipped(n: int, dtype: Any, units: int, notes: list[str], device: str = "cuda") -> Contestant | None:
    """torch's clipping, then its fused Adam."""
    if not (torch := optional("torch", notes)):
        return None
    parameter = _parameter(torch, n, dtype, device)
    opt = torch.optim.Adam([parameter], fused=True)

    def step() -> None:
        torch.nn.utils.clip_grad_norm_([parameter], 1.0)
        opt.step()

    return Contestant(waited(step, units) if device == "cuda" else step, lambda: here(parameter))


def optaxs(n: int, dtype: Any, units: int, notes: list[str]) -> Contestant | None:
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

    return Contestant(call, lambda: here(stand[0]))


def cupys(n: int, dtype: Any, units: int, notes: list[str]) -> Contestant | None:
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

    return Contestant(waited(step, units), lambda: here(x))


def machine() -> str:
    """The GPU, the driver and what compiled for it."""
    from numbaopt.cuda import _backend

    if _backend.SIMULATED:
        return "CUDA's simulator: times mean nothing"
    name = _backend.cuda.get_current_device().name
    name = name.decode() if isinstance(name, bytes) else name
    newest = "{}.{}".format(*_backend.driver_version())
    return f"{name}, driver for CUDA {newest}, {_backend.implementation()}, nvJitLink {_linker()}"


def _linker() -> str:
    """The version of what links kernels."""
    try:
        from cuda.bindings import nvjitlink

        return "{}.{}".format(*nvjitlink.version())
    except Exception:
        return "not found: the driver links"


def main() -> None:
    """Say which machine this is and what is installed, and take one step: the first look at a new machine."""
    print(report.machine())
    if reason := no.cuda.why_not():
        sys.exit(f"Nothing can run on a GPU: {reason}.")
    print(machine(), flush=True)
    begin = time.perf_counter()
    ours(1000, np.float32, 1, []).call()
    print(f"A first step took {time.perf_counter() - begin:.1f} s, nearly all of it to compile.")


if __name__ == "__main__":
    main()
