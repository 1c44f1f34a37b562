"""What solves many problems: threads with a run each, or, where they cannot be compiled, `minimize` for one by one."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from ._packed import Packed, count_words
from ._schedule import rates
from ._threads import workers
from .arguments import count, most_evaluations, nonnegative
from .least_squares import CONVERGED_BY, STATUS, least_squares
from .loops import many
from .loops.state import RECORD, Run, new_run
from .minimize import minimize
from .problems.function import Function
from .result import optimize_result
from .run import Limits
from .solvers import Job, solver_of
from .status import CONVERGED, INTERRUPTED, OUT_OF_EVALUATIONS, RAISED, STOPPED, message_of

CHUNK_SECONDS = 0.01  # of problems that a thread takes at a time
FIRST = 10  # problems that are tried to learn what is true of all
NUMBER_NOT_RESIDUALS = ("fun returns a number: method='lm' sums the squares of a vector of residuals; for an objective "
                        "take another method")  # fmt: skip
PIECE = 64  # steps of one problem between two looks at Ctrl-C
FROM_SCIPYS = {theirs: ours for ours, theirs in STATUS.items()}
REASONS_BY = {theirs: ours for ours, theirs in CONVERGED_BY.items()}
MANY_OPTIONS = ("maxiter", "gtol", "ftol", "xtol", "f_target", "max_evaluations", "history", "path", "progress",
                "jit")  # fmt: skip


def arguments_of(problem: int, args: tuple, which: tuple[bool, ...]) -> tuple:
    """The arguments of one problem."""
    return tuple(arg[problem] if own else arg for arg, own in zip(args, which, strict=True))


def first_that_works(count: int, attempt: Callable[[int], Any]) -> Any:
    """``attempt(i)`` for the first problem of ``count`` for which it does not raise; of few, else the first error."""
    errors: list[Exception] = []
    for i in range(min(count, FIRST)):
        try:
            return attempt(i)
        except Exception as error:
            errors.append(error)
    raise errors[0]


class Problems:
    """What many problems are solved by, within which limits, and the answers so far, whatever solves them.

    ``problem`` tells ``n``, ``dtype`` and ``per_gradient`` of all.
    """

    def __init__(self, problem: Any, opts: list[Any], starts: np.ndarray, lower: np.ndarray, upper: np.ndarray,
                 settings: dict[str, Any]):  # fmt: skip
        self.problem, self.dtype, self.size = problem, np.dtype(problem.dtype), len(starts)
        distinct = {repr(opt): opt for opt in opts}  # not by value: tuples of other classes may be equal
        order = {name: k for k, name in enumerate(distinct)}
        self.opts, self.opt, self.bounded = list(distinct.values()), opts[0], len(lower) > 0
        self.kinds = np.resize([order[repr(opt)] for opt in opts], self.size).astype(np.int64)
        self.maxiter = count("maxiter", 10_000 if settings["maxiter"] is None else settings["maxiter"])
        self.tolerances = tuple(nonnegative(key, 1e-5 if settings[key] is None else settings[key])
                                for key in ("gtol", "ftol", "xtol"))  # fmt: skip
        sizes = {solver_of(opt).sizes(opt, problem, None, self.bounded) for opt in self.opts}
        if len(sizes) > 1:
            raise ValueError("method: all must need the same memory, such as the same number of pairs")
        (self.slots, self.extra), self.targets = sizes.pop(), settings["f_target"]
        self.most_evaluations = most_evaluations(settings, 1 + problem.per_gradient)
        self.starts, self.lower, self.upper = (t.astype(self.dtype, copy=False) for t in (starts, lower, upper))
        self.progress, self.rows = bool(settings["progress"]), settings["rows"]
        self.keeps_path = settings["path"] and self.rows > 0
        self.x, self.fun = self.starts.copy(), np.full(self.size, np.nan)
        self.status = np.full(self.size, STOPPED)
        self.nit, self.nfev, self.reason, self.records = np.zeros((4, self.size), np.int64)
        rows = self.rows + 1 if self.rows else 0
        self.histories = np.zeros((self.size, rows), RECORD)
        self.paths = np.zeros((self.size, rows if self.keeps_path else 0, problem.n), self.dtype)

    def run(self) -> Run:
        """A run that has not begun."""
        n = self.problem.n
        bounds = np.zeros(n if self.bounded else 0, self.dtype)
        run = new_run(np.zeros(n, self.dtype), self.slots, bounds, bounds.copy(), self.rows or 2,
                      self.tolerances[2] > 0, self.extra)  # fmt: skip
        run.now[0].calm_steps = getattr(self.opt, "calm_steps", run.now[0].calm_steps)
        run.now[0].max_evaluations = self.most_evaluations
        return run

    def stamp(self, low: int, high: int, took: float) -> None:
        """Write the time into histories: each problem is given its share by its steps, which are taken as equal."""
        if not self.rows:
            return
        share = took / max(1, int((self.nit[low:high] + 1).sum()))
        for rows, used in zip(self.histories[low:high], self.records[low:high], strict=True):
            rows["seconds"][:used] = (rows["step"][:used] + 1) * share

    def result(self) -> Any:
        """The answers as SciPy tells of one."""
        calls, asked = 1 + self.problem.per_gradient, (self.rows > 0, self.keeps_path)
        self.histories["nfev"] *= calls
        kept = {name: [rows[:size].copy() for rows, size in zip(table, self.records, strict=True)]
                for name, table, wanted in zip(("history", "path"), (self.histories, self.paths), asked, strict=True)
                if wanted}  # fmt: skip
        return result_of(self.x, self.fun, self.status, self.nit, self.nfev * calls, self.reason, **kept)


class Pool(Problems):
    """Problems and the threads that solve them."""

    def __init__(self, problem: Function, opts: list[Any], starts: np.ndarray, args: tuple, which: tuple[bool, ...],
                 lower: np.ndarray, upper: np.ndarray, settings: dict[str, Any]):  # fmt: skip
        assert problem.data is not None
        super().__init__(problem, opts, starts, lower, upper, settings)
        self.data: Any = problem.data
        self.rates = [rates(opt.lr, 0, 0 if hasattr(opt, "solver") else self.maxiter) for opt in self.opts]
        moving = np.array(list(self._moving(args, which)), np.int64).reshape(-1, 4).T
        places, bases, strides, lent = map(np.ascontiguousarray, moving)
        self.stop = np.zeros(1, np.int64)
        self.tasks = many.Tasks(
            self.starts, self.lower, self.upper, self.x, self.fun, self.status, self.nit, self.nfev, self.reason,
            self.targets, self.kinds, self.records, self.histories, self.paths, places, bases, strides, lent,
            self.run().now.view(np.int64), self.stop)  # fmt: skip
        self.packed = Packed(self.tasks, many.tasks_type(self.dtype))
        self.lock, self.next, self.done = threading.Lock(), 0, 0

    def _moving(self, args: tuple, which: tuple[bool, ...]):
        """The words of arguments that each problem has of its own: place, first address, stride, whether an address."""
        self.keep, place = [], 0
        for arg, own, kind in zip(args, which, self.data.type[0], strict=True):
            if own:
                lent = arg.ndim > 1
                if not lent:  # numbers, as they are packed
                    arg = arg.astype(np.float64 if arg.dtype.kind == "f" else np.int64)
                self.keep.append(arg)
                yield place, arg.ctypes.data, arg.strides[0], lent
            place += count_words(kind)

    def solve(self) -> Any:
        """Let threads solve all."""
        from concurrent.futures import wait

        threads = max(1, min(numba.get_num_threads(), self.size))
        solvers = [self._solvers() for _ in range(threads)]
        jobs = [workers().submit(self._work, *mine) for mine in solvers]
        bar = shown(self.size) if self.progress else None
        try:
            while wait(jobs, 0.05 if bar else 0.2).not_done:
                if bar is not None:
                    bar.update(self.done - bar.n)
        except KeyboardInterrupt as interrupt:
            self.stop[0] = 1
            while wait(jobs, 0.01).not_done:  # a loop looks at its status before every step
                for (solver, *_), _ in solvers:  # which share a run
                    solver.job.run.now[0].status = STOPPED
            interrupt.result = self.result()
            raise
        finally:
            if bar is not None:
                bar.update(self.done - bar.n)
                bar.close()
        for job in jobs:
            job.result()
        return self.result()

    def _solvers(self) -> tuple[list[Any], np.ndarray]:
        """Solvers of one thread, one for each kind of problem, with one run and a copy of the arguments' words."""
        limits, run = Limits(self.maxiter, *self.tolerances), self.run()
        solvers = [solver_of(opt)(Job(self.problem, opt, run, limits, None, ())) for opt in self.opts]
        words = self.data.words.copy()
        if self.problem.per_gradient and self.bounded:  # differences must respect the bounds of each problem
            place = count_words(self.data.type[0])
            words[place], words[place + 3] = run.lower.ctypes.data, run.upper.ctypes.data
        return solvers, words

    def _work(self, solvers: list[Any], words: np.ndarray) -> None:
        """Take chunks of problems until none is left."""
        solve, size, first = many.compiled(self.dtype), 1, solvers[0]
        settled = [solver.settings_for(rates, 0) for solver, rates in zip(solvers, self.rates, strict=True)]
        where = np.array([address for address, _ in settled], np.int64)
        loop = many.loop_address(first.loop, self.dtype)
        while not self.stop[0]:
            with self.lock:
                low = self.next
                self.next = high = min(low + size, self.size)
            if low >= high:
                return
            begin = time.perf_counter()
            solve(self.packed.address, first.packed_run.address, first.zero, low, high, PIECE, self.maxiter,
                  first.job.run.now.ctypes.data, words.ctypes.data, loop, where.ctypes.data, self.problem.evaluate,
                  *self.tolerances)  # fmt: skip
            took = time.perf_counter() - begin
            self.stamp(low, high, took)
            with self.lock:
                self.done += high - low
            if took < CHUNK_SECONDS / 4:
                size = min(4 * size, 1 << 16)
            elif took > CHUNK_SECONDS:
                size = max(1, size // 2)


def result_of(x: np.ndarray, fun: np.ndarray, status: np.ndarray, nit: np.ndarray, nfev: np.ndarray,
              reason: np.ndarray, **kept: Any) -> Any:  # fmt: skip
    ends, times = np.unique(np.column_stack([status, reason]), axis=0, return_counts=True)
    told = [f"{of:,} x {INTERRUPTED if end[0] == STOPPED else message_of(*end)}"
            for end, of in zip(ends.tolist(), times.tolist(), strict=True)]  # fmt: skip
    if RAISED in status:
        told.append(f"The first that raised is problem {np.argmax(status == RAISED)}; minimize alone tells what.")
    return optimize_result(x=x, fun=fun, status=status, success=status == CONVERGED, nit=nit, nfev=nfev,
                           reason=reason, message=" ".join(told) or "There were no problems.", **kept)  # fmt: skip


def shown(total: int) -> Any:
    """A bar over problems."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ImportError("progress=True needs tqdm: pip install 'numbaopt[progress]'") from None
    return tqdm(total=total, unit="problem")


def one_by_one(fun, starts, args, which, opts, jac, bounds, tol, options, settings) -> Any:
    """What cannot be compiled is minimized by `minimize`, from Python."""
    from scipy.optimize import Bounds

    k, (lower, upper) = len(starts), bounds
    x, fun_values, numbers = starts.astype(float), np.full(k, np.nan), np.full((4, k), 0)
    numbers[0], kind = STOPPED, np.dtype(float)
    given = {key: options[key] for key in options if key in MANY_OPTIONS and key != "progress"}
    given["history"] = settings["rows"] or 2
    targets, most = settings["f_target"], most_evaluations(settings, 1)
    histories: list[np.ndarray] = [np.zeros(0, RECORD)] * k
    paths: list[np.ndarray] = [np.zeros((0, starts.shape[1]))] * k

    def solve(i: int) -> Any:
        mine, opt = arguments_of(i, args, which), opts[i % len(opts)]
        low, high = (lower[i % len(lower)], upper[i % len(upper)]) if len(lower) else (-np.inf, np.inf)
        if hasattr(opt, "problem"):
            tolerances = {key: given.get(key, 1e-8 if tol is None else tol) for key in ("ftol", "xtol", "gtol")}
            nfev = most if given.get("maxiter") is None else min(given["maxiter"], most)
            found = least_squares(fun, starts[i], jac, (low, high), opt, **tolerances, args=mine,
                                  max_nfev=int(nfev) if nfev < math.inf else None)  # fmt: skip
            found.reason = OUT_OF_EVALUATIONS if found.status == 0 and nfev == most else REASONS_BY.get(found.status, 0)
            found.fun, found.status = found.cost, FROM_SCIPYS.get(found.status, CONVERGED)
            return found
        box = Bounds(low, high) if len(lower) else None
        points = [starts[i].clip(low, high)]
        given["f_target"] = targets[i % len(targets)]
        found = minimize(fun, starts[i], mine, opt, jac, bounds=box, tol=tol, options=given,
                         callback=points.append if settings["path"] else None)  # fmt: skip
        histories[i] = found.history
        if settings["path"]:
            paths[i] = np.array(points)[found.history.step]
        return found

    try:
        for i in range(k):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # it was said before
                try:
                    found = solve(i)
                except Exception:
                    numbers[0, i] = RAISED
                    continue
            reason = int(found.run.now[0].reason) if "run" in found else found.reason
            x[i], fun_values[i], numbers[:, i] = found.x, found.fun, (found.status, found.nit, found.nfev, reason)
            kind = found.x.dtype
    except KeyboardInterrupt as interrupt:
        interrupt.result = result_of(x, fun_values, *numbers)
        raise
    kept: dict[str, Any] = {"history": histories} if settings["rows"] else {}
    kept |= {"path": paths} if settings["path"] else {}
    return result_of(x.astype(kind, copy=False), fun_values, *numbers, **kept)
