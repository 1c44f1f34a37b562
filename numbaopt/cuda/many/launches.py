"""`minimize_many` on a GPU: thousands of problems a launch, a thread or a team each, a slice of steps at a time.

Where a problem stands between slices stays on the GPU (`runs`); those that have ended leave, and the rest fill the
threads again.  Between slices Ctrl-C is heeded.  While the GPU solves, what the next problems have of their own is
copied there on a second stream, from memory that is not pinned: this machine's part of that takes as long, the kernel
does not wait for it.  All other copies are waited for.
"""

from __future__ import annotations

import contextlib
import functools
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..._jit import invoke, jit, pointer
from ..._schedule import rates as rates_of
from ...automatic import is_automatic
from ...differences import SCHEMES, evaluations
from ...loops import automatic, descent, least_squares
from ...optimizers._program import hyper_parameters, program
from ...pool import NUMBER_NOT_RESIDUALS, Problems, arguments_of, first_that_works, shown
from ...problems.evaluation import FLOAT64
from ...run import fitting
from ...solvers import solver_of
from ...status import RUNNING, STOPPED
from .._backend import SIMULATED, DeviceMemoryError, configured, cuda, release, require, told
from ..memory import RECORDS
from .arguments import checked, on_device, turned
from .compiling import compiling
from .objectives import Derived, derived, pieces
from .runs import MOST_OWN, bytes_of, bytes_of_run, kept_arrays
from .solve import NO_ROOM, Plan, compiled_kernel
from .teams import BLOCK, lanes_for

DEVICE = "device='cuda'"
FIRST, MOST, LEAST = 1 << 15, 1 << 20, 1 << 10  # problems of a launch
MOST_BYTES = 1 << 32  # of where they stand and their histories
FIRST_STEPS = 1 << 7  # of the first slice of all: more than most fits take
SLICE_SECONDS = 0.2  # after which Ctrl-C is heeded
TABLE_BYTES = 1 << 26  # of coefficients, up to which the CPU computes them for all steps
THREAD_BYTES = 1 << 19  # of its own memory, at most
ROOM, ROOM_GROWTH, LARGEST_ROOM = 64, 8, 1 << 12  # words of a thread's memory for temporary arrays
ANSWERS = ("x", "fun", "status", "nit", "nfev", "reason")
ALL = np.zeros(0, np.int64)  # problems of a launch, none of which is named


class Many(Problems):
    """Problems and the launches that solve them."""

    def __init__(self, fun: Any, jac: Any, opts: list[Any], starts: np.ndarray, args: tuple, which: tuple[bool, ...],
                 lower: np.ndarray, upper: np.ndarray, settings: dict[str, Any]):  # fmt: skip
        if settings["jit"] is False:
            raise ValueError(f"{DEVICE}: jit=False is not possible: what runs on a GPU is compiled; leave it out")
        self.args, self.which, n = checked(args), which, starts.shape[1]
        opt, bounded, of = opts[0], len(lower) > 0, derived(fun, jac, n)
        if n > (most := THREAD_BYTES // (8 * (1 + of.width))):
            raise ValueError(f"{DEVICE}: {n:,} unknowns are too many: with their derivatives they stand in the memory "
                             f"of a thread, which holds {most:,}; minimize solves one such problem by all cores")
        m = self._residuals(of, starts) if hasattr(opt, "problem") else 0
        scheme = isinstance(of.jac, str) and of.jac in SCHEMES
        dtype = FLOAT64 if m > 0 or scheme else np.dtype(starts.dtype)
        problem = _Shape(n, m, dtype, evaluations(of.jac, n) if scheme else 0)
        if m == 0 and hasattr(opt, "check"):
            opt.check(opt, problem, None, bounded)
        super().__init__(problem, opts, starts, lower, upper, settings)
        loop, way, made, self.tables = _tables(self.opts, problem, bounded, self.maxiter)
        plan = Plan(of, m, loop, made, way, dtype, self.slots, self.extra, bounded, self.tolerances[2] > 0,
                    self.rows, self.keeps_path, tuple(np.ndim(arg) - 1 if own else -1 for arg, own in zip(
                        self.args, which, strict=True)))  # fmt: skip
        run = bytes_of_run(plan)
        lanes = lanes_for(pieces(of, m), run, self.size)
        self.plan = plan._replace(lanes=lanes, in_place=lanes > 1 or run > MOST_OWN)
        self.template, self.steps = self.run().now.view(RECORDS["now"]), FIRST_STEPS
        self.shared: tuple[Any, ...] = ()  # on the GPU: tables, arguments of all
        self.held: dict[str, Any] = {}  # there, too: of the problems of a launch
        self.ahead: dict[tuple[int, int], dict[str, Any]] = {}  # of the next one

    def _residuals(self, of: Derived, starts: np.ndarray) -> int:
        """How many residuals there are, by the first problem whose do not raise."""
        if of.jac is True:
            raise ValueError("jac=True is not possible: fun returns the residuals, jac(x, *args) their Jacobian")
        found = first_that_works(len(starts), lambda i: of.fun(
            starts[i].astype(float), *arguments_of(i, self.args, self.which)))  # fmt: skip
        if np.ndim(found) == 0:
            raise ValueError(NUMBER_NOT_RESIDUALS)
        return len(found)

    def solve(self) -> Any:
        """Launch after launch, each in slices, between which Ctrl-C is heeded."""
        require(DEVICE)
        most = max(LEAST, min(MOST, MOST_BYTES // bytes_of(self.plan)))
        bar, low, size = (shown(self.size) if self.progress else None), 0, min(FIRST, most)
        try:
            self.stream, self.copying = cuda.stream(), cuda.stream()
            with told(f"{DEVICE}, args"):
                self.shared = on_device((self.tables, tuple(None if own else arg for arg, own in zip(
                    self.args, self.which, strict=True))), self.copying)  # fmt: skip
            while low < self.size:
                high, next_size = min(low + size, self.size), min(2 * size, most)
                try:
                    with told(f"{DEVICE}, {high - low:,} problems at once"):
                        self._launch(low, high, min(high + next_size, self.size), bar)
                except DeviceMemoryError:
                    if size <= LEAST:
                        raise
                    self.ahead.clear()
                    size = most = size // 4
                else:
                    low, size = high, next_size
        except BaseException as error:
            _forget(error)
            if isinstance(error, KeyboardInterrupt):
                error.result = self.result()
            raise
        finally:
            self.shared, self.ahead = (), {}
            release()
            if bar is not None:
                bar.close()
        return self.result()

    def _launch(self, low: int, high: int, end: int, bar: Any) -> None:
        """Solve the problems ``low`` to ``high``; those up to ``end`` are next."""
        which, seconds, steps, held = ALL, 0.0, self.steps, self.held
        try:
            held |= self.ahead.pop((low, high), {}) or self._moved(low, high)
            self._make_room(high - low)
            self.copying.synchronize()
            while True:
                status, took = self._slice(which, steps, lambda: self._look_ahead(high, end))
                seconds += took
                left = np.flatnonzero(status == RUNNING)
                steps = fitting(steps, steps if left.size else 0, took, SLICE_SECONDS)
                if which is ALL:
                    self.steps = steps  # of the next launch's first slice
                if bar is not None:
                    bar.update(high - left.size - bar.n)
                if left.size == 0:
                    break
                which = left
            self._fetch(low, high, seconds)
        except KeyboardInterrupt:
            if "which" in held:
                self._fetch(low, high, seconds)
            raise
        finally:
            held.clear()

    def _moved(self, low: int, high: int) -> dict[str, Any]:
        """What these problems have of their own, on the GPU once the stream of copies has come so far."""
        held = {"template": on_device(self.template, self.copying)}
        for name in ("starts", "kinds", "targets", "lower", "upper"):
            table = getattr(self, name)
            mine = table[low:high] if len(table) == self.size else table  # of all
            held[name] = on_device(np.ascontiguousarray(mine), self.copying)
        own = iter(turned([arg[low:high] for arg, own in zip(self.args, self.which, strict=True) if own], self.copying))
        held["args"] = tuple(next(own) if mine else there
                             for mine, there in zip(self.which, self.shared[1], strict=True))  # fmt: skip
        return held

    def _look_ahead(self, low: int, high: int) -> None:
        """Bring the next problems while the GPU solves others, if it has room for both."""
        if low < high and (low, high) not in self.ahead:
            self.ahead[low, high] = {}
            with contextlib.suppress(DeviceMemoryError), told(DEVICE), cuda.defer_cleanup():
                self.ahead[low, high] = self._moved(low, high)

    def _make_room(self, count: int) -> None:
        """Make room for where problems stand, and for their answers."""
        plan, held, rows = self.plan, self.held, self.histories.shape[1]
        for name in ANSWERS:
            like = getattr(self, name)
            held[name] = cuda.device_array((count, *like.shape[1:]), like.dtype)
        held["records"] = cuda.device_array(count if rows else 0, np.int64)
        held["kept"] = kept_arrays(plan, count)
        held["histories"] = cuda.device_array((rows, count), RECORDS["history"])
        held["paths"] = cuda.device_array((self.paths.shape[1], plan.of.n, count), plan.dtype)

    def _slice(self, which: np.ndarray, steps: int, meanwhile: Callable[[], None]) -> tuple[np.ndarray, float]:
        """Let problems take a slice; the status of all of the launch, and the seconds.

        Those whose arrays did not fit into a thread's memory begin again, with more.
        """
        room, fresh, took = _room(self.plan), which is ALL, 0.0
        while True:
            self._take(which, fresh, steps, room[0])
            begin = time.perf_counter()  # compiled by now
            meanwhile()
            status = self.held["status"].copy_to_host(stream=self.stream)
            self.stream.synchronize()
            took += time.perf_counter() - begin
            which, fresh = np.flatnonzero(status == NO_ROOM), True
            if which.size == 0:
                return status, took
            if room[0] >= LARGEST_ROOM:
                raise MemoryError(f"{DEVICE}: fun makes arrays of more than {8 * room[0] >> 10} KiB, which a thread "
                                  "has no memory for")  # fmt: skip
            room[0] *= ROOM_GROWTH

    def _take(self, which: np.ndarray, fresh: bool, steps: int, words: int) -> None:
        """Launch the kernel."""
        held, named = self.held, on_device(which, self.stream)
        count, lanes = which.size or held["starts"].shape[0], self.plan.lanes
        block = (lanes if lanes > 1 else min(BLOCK, count)) if SIMULATED else BLOCK
        with compiling():
            configured(compiled_kernel(self.plan, words), -(-count * lanes // block), block, 16 * BLOCK, self.stream)(
                count, named, fresh, steps, held["starts"], (held["lower"], held["upper"]),
                tuple(held[name] for name in ANSWERS), held["records"], held["kept"], held["histories"], held["paths"],
                held["kinds"], held["targets"], held["template"], self.shared[0], held["args"], self.maxiter,
                *self.tolerances)  # fmt: skip
        held["which"] = named  # also: a slice has begun

    def _fetch(self, low: int, high: int, seconds: float) -> None:
        """Bring the answers here, also of problems that have not ended."""
        held = self.held
        self.stream.synchronize()
        for name in ANSWERS:
            getattr(self, name)[low:high] = held[name].copy_to_host()
        status = self.status[low:high]
        status[(status == RUNNING) | (status == NO_ROOM)] = STOPPED
        if self.rows:
            used = self.records[low:high] = held["records"].copy_to_host()
            most = max(1, int(used.max()))
            self.histories[low:high, :most] = held["histories"][:most].copy_to_host().T
            self.histories["score"][low:high, :most] = np.nan
            if self.keeps_path:
                self.paths[low:high, :most] = held["paths"][:most].copy_to_host().transpose(2, 0, 1)
        self.stamp(low, high, seconds)


@functools.lru_cache(maxsize=64)
def _room(plan: Plan) -> list[int]:
    """How many words a thread of a kernel turned out to need: one number, which grows."""
    return [ROOM]


class _Shape(NamedTuple):
    """What solvers ask of a problem."""

    n: int
    m: int
    dtype: np.dtype
    per_gradient: int


def _tables(opts: list[Any], problem: _Shape, bounded: bool, steps: int) -> tuple[Any, str, Any, tuple]:
    """The loop, the way that its settings are made, the rule's program, and the tables they are made of."""
    opt, dtype = opts[0], problem.dtype
    if problem.m:
        settings = [solver_of(one).planned(one, problem.n, problem.m, steps) for one in opts]
        return least_squares.least_squares, "planned", None, (np.array(settings),)
    if hasattr(opt, "solver"):
        settings = [one.solver.planned(one, dtype) for one in opts]
        return opt.solver.room(bounded).loop, "planned", None, (np.array(settings),)
    made, hyper = program(opt, dtype), np.concatenate([hyper_parameters(one) for one in opts])
    if is_automatic(opt.lr):
        return automatic.descend, "automatic", made, (hyper, np.array([one.lr for one in opts], np.float64))
    steps = max(1, steps)
    if len(opts) * steps * made.width * dtype.itemsize <= TABLE_BYTES:
        rates = np.array([rates_of(one.lr, 0, steps) for one in opts])
        coefficients = np.zeros((len(opts), steps, made.width), dtype)
        for k in range(len(opts)):
            coefficients_at(made.prepare, hyper[k : k + 1], rates[k], coefficients[k])
        return descent.descend, "table", made, (coefficients, rates)
    if all(isinstance(one.lr, (int, float)) for one in opts):
        return descent.descend, "steady", made, (hyper, np.array([float(one.lr) for one in opts]))
    return descent.descend, "scheduled", made, (hyper, np.array([rates_of(one.lr, 0, steps) for one in opts]))


@jit
def coefficients_at(prepare, hyper, rates, out):
    """The coefficients of all steps, as the CPU computes them."""
    invoke(prepare, (pointer(hyper), pointer(rates), 1, pointer(out), rates.size))


def _forget(error: BaseException | None) -> None:
    """Let the frames that an error has passed through forget their arrays: else it would keep a GPU's memory."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


__all__ = ["Many"]
