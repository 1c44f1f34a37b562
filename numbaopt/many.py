"""Many small problems at once."""

from __future__ import annotations

import threading
import time
import warnings
from typing import Any

import numba
import numpy as np

from ._fields import nearest
from ._packed import Packed, count_words
from ._schedule import rates
from ._threads import workers
from .arguments import (
    HISTORY_ROWS,
    count,
    dtype_of,
    limits_of,
    nonnegative,
    settings_of,
    settle_rate,
    split_options,
    unknowns,
    warn,
    wrong_bound,
)
from .automatic import is_automatic
from .least_squares import STATUS, least_squares
from .loops import many
from .loops.state import RECORD, Run, new_run
from .minimize import minimize, named
from .optimizers._program import parts_of
from .optimizers._rule import OPTIMIZERS
from .problems.evaluation import MisshapenError
from .problems.function import Function, needed
from .result import optimize_result
from .run import Limits
from .schedules import plateau_of
from .solvers import SOLVERS, Job, solver_of
from .status import CONVERGED, MESSAGES, RAISED, STOPPED

CHUNK_SECONDS = 0.01  # of problems that a thread takes at a time
PIECE = 64  # steps of one problem between two looks at Ctrl-C
FROM_SCIPYS = {theirs: ours for ours, theirs in STATUS.items()}
FIRST = 10  # problems that are tried to learn how many residuals there are
MANY_OPTIONS = ("maxiter", "gtol", "ftol", "xtol", "history", "path", "progress", "jit")


def minimize_many(fun, X0, args=(), batched=None, method=None, jac=None, bounds=None, tol=None, options=None):
    r"""Minimize many independent problems that differ in their starts and arguments.

    .. math:: x_i = \arg\min_x \mathrm{fun}(x, a_i), \qquad i = 1, \ldots, k

    Each problem stops on its own and has its own status; a problem that diverges or whose objective raises troubles no
    other.  They are solved by as many threads as Numba has (``numba.set_num_threads``), in the memory of one problem a
    thread; the answers are those of `minimize`, one by one, whatever the number of threads.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args) -> float`` of one problem, jitted or such as Numba can compile; with ``method="lm"``
        (Levenberg-Marquardt, see `least_squares`) a vector of residuals: the result tells half their sum of squares.
    X0 : array of shape (k, n)
        The starts; (n,): the same for all.  A float32 array asks for float32, as in `minimize`.
    args : tuple
        Further arguments of ``fun`` and ``jac``.
    batched : bool, or tuple of bool
        Which ``args`` are arrays with a leading axis of length k, of which each problem is given its own item (of a
        vector, a number); the others are shared.  None: all are shared, an error where one looks as if it were not.
    method, jac, tol
        As in `minimize`; methods that work on whole objectives, with compiled loops.  ``method`` may also be a list of
        k rules or methods of one class: one for each problem, with fields of its own.
    bounds : sequence of (low, high) or scipy.optimize.Bounds
        For all, or, as Bounds with arrays of shape (k, n), for each.  Starts outside are moved into them.
    options : dict
        The fields of the method, ``maxiter``, ``gtol``, ``ftol``, ``xtol``, ``progress`` and ``jit``, as in `minimize`;
        ``history``, as there but False if not given; ``path``: whether to keep the point of every row of the history
        (where a search for a rate turns back, the point that it returns to).

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x`` (k, n), ``fun``, ``status``, ``success``, ``nit``, ``nfev`` (k,), and a ``message`` that counts; where
        asked for, ``history`` and ``path``, lists of k.  A history's seconds are shares of what was solved together.

    Raises
    ------
    ValueError, TypeError
        If an argument is not usable.
    KeyboardInterrupt
        On Ctrl-C; its attribute ``result`` holds what is solved, the others have status 99.

    Examples
    --------
    A thousand exponential decays:

    >>> import numpy as np, numba, numbaopt as no
    >>> @numba.njit
    ... def misfit(p, t, y):
    ...     total = 0.0
    ...     for i in range(t.size):
    ...         total += (p[0] * np.exp(-p[1] * t[i]) - y[i]) ** 2
    ...     return total
    >>> t, rates = np.linspace(0, 2, 20), np.linspace(0.5, 2, 1000)
    >>> Y = 3 * np.exp(-rates[:, None] * t)
    >>> res = no.minimize_many(misfit, [1.0, 1.0], args=(t, Y), batched=(False, True), tol=1e-9)
    >>> bool(res.success.all()), bool(np.abs(res.x[:, 1] - rates).max() < 1e-6)
    (True, True)
    """
    options = dict(options or {})
    args = args if isinstance(args, tuple) else (args,)
    if hasattr(fun, "n_terms"):
        raise TypeError(f"fun must be a function of one problem, not a {type(fun).__name__}")
    starts, which = _starts(X0, args, batched, len(method) if isinstance(method, list) else None)
    args = tuple(_native(arg) if own else arg for arg, own in zip(args, which, strict=True))
    lower, upper = _bounds(bounds, starts)
    path = bool(options.pop("path", False))
    opts, options = _methods(method, options, tol)
    opt = opts[0]
    for key in [key for key in options if key not in MANY_OPTIONS]:
        warn(f"option {key!r} has no effect in minimize_many; it knows {', '.join(MANY_OPTIONS)}")
    settings = settings_of(opt, tol, options, starts.shape[1])
    if len(starts) == 0:
        return _result(starts, np.zeros(0), *np.zeros((3, 0), np.int64))
    settings |= {"rows": _rows(options.get("history", path)), "path": path}
    box = (lower[0], upper[0]) if len(lower) else (np.zeros(0), np.zeros(0))
    jac = needed(opt, jac)
    if hasattr(opt, "problem"):
        problem = _residuals(opt, fun, jac, starts, args, which, box, settings["jit"])
    else:
        problem = Function(fun, jac, _of(0, args, which), starts.shape[1], *box, settings["jit"],
                           starts.dtype)  # fmt: skip
        if hasattr(opt, "check"):
            opt.check(opt, problem, None, len(lower) > 0)
        if problem.compiled:
            _check_shape(problem, starts[0])
    if not problem.compiled:
        return _one_by_one(fun, starts, args, which, opts, jac, (lower, upper), tol, options, settings)
    return _Solution(problem, opts, starts, args, which, lower, upper, settings).solve()


def _starts(X0: Any, args: tuple, batched: Any, methods: int | None) -> tuple[np.ndarray, tuple[bool, ...]]:
    """The starts as a (k, n) array, and which arguments belong to single problems."""
    X0 = np.asarray(X0)
    if X0.ndim == 2:
        if X0.dtype.kind not in "biuf":
            raise ValueError(f"X0 must hold real numbers, not {X0.dtype}")
        if X0.shape[1] == 0:
            raise ValueError("X0 has no columns: there is nothing to minimize over")
    elif X0.ndim > 2:
        raise ValueError(f"X0 must be of shape (k, n) or (n,), not {X0.shape}")
    which = (batched,) * len(args) if isinstance(batched, bool) else batched
    if which is None:
        which = (False,) * len(args)
        for position, arg in enumerate(args):
            if X0.ndim == 2 and isinstance(arg, np.ndarray) and arg.ndim and len(arg) == len(X0):
                raise ValueError(f"batched is not given, and args[{position}] has as many items as there are problems, "
                                 f"{len(X0)}: say whether each has its own, as in batched={(True,) * len(args)}")
    which = tuple(bool(own) for own in which)
    if len(which) != len(args):
        raise ValueError(f"batched has {len(which)} items, args has {len(args)}")
    lengths = {f"args[{k}]": len(np.asarray(arg)) if np.ndim(arg) else 0
               for k, (arg, own) in enumerate(zip(args, which, strict=True)) if own}  # fmt: skip
    if methods is not None:
        lengths = {"method": methods, **lengths}
    if X0.ndim == 2:
        lengths = {"X0": len(X0), **lengths}
    elif not lengths:
        raise ValueError(f"X0 has shape {X0.shape}: how many problems there are must be told by its first axis or by "
                         "batched args")  # fmt: skip
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"the number of problems is not clear: {told}")
    if X0.ndim < 2:
        X0 = np.broadcast_to(unknowns(X0, single=True), (next(iter(lengths.values())), max(X0.size, 1)))
    return np.ascontiguousarray(X0, dtype_of(X0)), which


def _of(problem: int, args: tuple, which: tuple[bool, ...]) -> tuple:
    """The arguments of one problem."""
    return tuple(arg[problem] if own else arg for arg, own in zip(args, which, strict=True))


def _native(arg: Any) -> np.ndarray:
    """A batched argument as compiled code reads it."""
    array = np.asarray(arg)
    if array.dtype.kind not in ("biufc" if array.ndim > 1 else "biuf"):
        raise TypeError(f"batched args must be arrays of numbers, not of {array.dtype}")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _bounds(bounds: Any, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of shape (k, n), (1, n), or (0, n) where there are none."""
    n = starts.shape[1]
    if hasattr(bounds, "lb") and max(np.ndim(bounds.lb), np.ndim(bounds.ub)) == 2:
        low, high = (np.ascontiguousarray(np.broadcast_to(np.asarray(b, float), starts.shape))
                     for b in (bounds.lb, bounds.ub))  # fmt: skip
        if not np.all(low <= high):
            i, j = np.argwhere(~(low <= high))[0]
            raise ValueError(f"bounds: {wrong_bound(low[i, j], high[i, j])} at component {j} of problem {i}")
        return low, high
    low, high = limits_of(bounds, starts[0] if len(starts) else np.zeros(n))
    return low.reshape(-1, n), high.reshape(-1, n)


def _method(method: Any) -> Any:
    """The rule or method, which must have a compiled loop over whole objectives."""
    name = "lbfgs" if method is None or method == "auto" else method.lower() if isinstance(method, str) else method
    if isinstance(name, str) and name not in SOLVERS and name not in OPTIMIZERS:
        raise ValueError(f"method {method!r} is none of those for many problems; "
                         f"{nearest(name, [*OPTIMIZERS, *(k for k, v in SOLVERS.items() if _whole(v))])}")  # fmt: skip
    opt = named(name)
    if not _whole(opt):
        raise ValueError(f"method {method!r} is not for functions; use 'lbfgs', 'bfgs' or a first-order rule")
    if plateau_of(opt.lr) is not None:
        raise ValueError("lr=ReduceOnPlateau follows one run; for many problems use another schedule")
    return opt


def _methods(method: Any, options: dict[str, Any], tol: float | None) -> tuple[list[Any], dict[str, Any]]:
    """The rule or method of every problem (one stands for all), and the options left."""
    given = method if isinstance(method, list) else [method]
    opts, left = [], options
    for one in given:
        opt = _method(one)
        opt, left = split_options(opt, settle_rate(one, opt, options, False), tol)
        opts.append(opt)
    kinds = [(*map(type, parts_of(opt)), is_automatic(opt.lr)) for opt in opts]
    if other := next((i for i, kind in enumerate(kinds) if kind != kinds[0]), 0):
        raise ValueError(f"method: all must be of one class, but [0] is {opts[0]!r} and [{other}] is {opts[other]!r}")
    return opts, left


def _rows(history: Any) -> int:
    """Most rows of the histories; 0 where nobody asks for them."""
    if history in (True, False):
        return HISTORY_ROWS if history else 0
    return count("history", history, 2)


def _residuals(opt, fun, jac, starts, args, which, box, jit) -> Any:
    """The residuals of the first problem whose do not raise: it tells how many there are."""
    errors: list[Exception] = []
    for i in range(min(len(starts), FIRST)):
        try:
            problem = opt.problem(fun, jac, _of(i, args, which), starts[i].astype(float), *box, jit)
        except Exception as error:
            errors.append(error)
            continue
        if problem.scalar:
            raise ValueError("fun returns a number: method='lm' sums the squares of a vector of residuals; for an "
                             "objective take another method")  # fmt: skip
        return problem
    raise errors[0]


def _check_shape(problem: Function, start: np.ndarray) -> None:
    """Raise where a user's gradient has not the shape of x: in the loops it would be an exception of every problem."""
    if problem.jac is True or callable(problem.jac):
        try:
            problem.value_and_grad(start)
        except MisshapenError:
            raise
        except Exception:  # of this problem: the others need not care
            return


def _whole(opt: Any) -> bool:
    return hasattr(solver_of(opt), "settings_for")


class _Solution:
    """The problems, what solves them, and the answers so far."""

    def __init__(self, problem: Function, opts: list[Any], starts: np.ndarray, args: tuple, which: tuple[bool, ...],
                 lower: np.ndarray, upper: np.ndarray, settings: dict[str, Any]):  # fmt: skip
        assert problem.data is not None
        self.data: Any = problem.data
        self.problem, self.dtype, self.size, self.opt = problem, np.dtype(problem.dtype), len(starts), opts[0]
        distinct = {repr(opt): opt for opt in opts}  # not by value: tuples of other classes may be equal
        self.opts = list(distinct.values())
        self.maxiter = count("maxiter", 10_000 if settings["maxiter"] is None else settings["maxiter"])
        self.tolerances = tuple(nonnegative(key, 1e-5 if settings[key] is None else settings[key])
                                for key in ("gtol", "ftol", "xtol"))  # fmt: skip
        self.rates = [rates(opt.lr, 0, 0 if hasattr(opt, "solver") else self.maxiter) for opt in self.opts]
        sizes = {solver_of(opt).sizes(opt, problem, None, len(lower) > 0) for opt in self.opts}
        if len(sizes) > 1:
            raise ValueError("method: all must need the same memory, such as the same number of pairs")
        self.bounded, self.progress = len(lower) > 0, bool(settings["progress"])
        moving = np.array(list(self._moving(args, which)), np.int64).reshape(-1, 4).T
        places, bases, strides, lent = map(np.ascontiguousarray, moving)
        starts, lower, upper = (table.astype(self.dtype, copy=False) for table in (starts, lower, upper))
        nit, nfev, records = np.zeros((3, self.size), np.int64)
        order = list(distinct)
        kinds = np.resize([order.index(repr(opt)) for opt in opts], self.size).astype(np.int64)
        self.rows, path = settings["rows"], settings["path"] and settings["rows"] > 0
        kept = (self.size, self.rows + 1) if self.rows else (0, 0)
        self.tasks = many.Tasks(
            starts, lower, upper, starts.copy(), np.full(self.size, np.nan), np.full(self.size, STOPPED), nit, nfev,
            kinds, records, np.zeros(kept, RECORD),
            np.zeros((*kept, starts.shape[1]) if path else (0, 0, 0), self.dtype), places, bases, strides, lent,
            self._run().now.view(np.int64), np.zeros(1, np.int64))  # fmt: skip
        self.packed = Packed(self.tasks, many.tasks_type(self.dtype))
        self.lock, self.next, self.done = threading.Lock(), 0, 0

    def _run(self) -> Run:
        """A run that has not begun."""
        n = self.problem.n
        slots, extra = solver_of(self.opt).sizes(self.opt, self.problem, None, self.bounded)
        bounds = np.zeros(n if self.bounded else 0, self.dtype)
        run = new_run(np.zeros(n, self.dtype), slots, bounds, bounds.copy(), self.rows or 2, self.tolerances[2] > 0,
                      extra)  # fmt: skip
        run.now[0].calm_steps = getattr(self.opt, "calm_steps", run.now[0].calm_steps)
        return run

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
        bar = _bar(self.size) if self.progress else None
        try:
            while wait(jobs, 0.05 if bar else 0.2).not_done:
                if bar is not None:
                    bar.update(self.done - bar.n)
        except KeyboardInterrupt as interrupt:
            self.tasks.stop[0] = 1
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
        limits, run = Limits(self.maxiter, *self.tolerances), self._run()
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
        piece = 1 if self.tasks.paths.size else PIECE
        while not self.tasks.stop[0]:
            with self.lock:
                low = self.next
                self.next = high = min(low + size, self.size)
            if low >= high:
                return
            begin = time.perf_counter()
            solve(self.packed.address, first.packed_run.address, first.zero, low, high, piece, self.maxiter,
                  first.job.run.now.ctypes.data, words.ctypes.data, loop, where.ctypes.data, self.problem.evaluate,
                  *self.tolerances)  # fmt: skip
            took = time.perf_counter() - begin
            self._stamp(low, high, took)
            with self.lock:
                self.done += high - low
            if took < CHUNK_SECONDS / 4:
                size = min(4 * size, 1 << 16)
            elif took > CHUNK_SECONDS:
                size = max(1, size // 2)

    def _stamp(self, low: int, high: int, took: float) -> None:
        """Write the time into histories: each problem is given its share by its steps, which are taken as equal."""
        if not self.rows:
            return
        tasks = self.tasks
        share = took / max(1, int((tasks.nit[low:high] + 1).sum()))
        for rows, used in zip(tasks.histories[low:high], tasks.records[low:high], strict=True):
            rows["seconds"][:used] = (rows["step"][:used] + 1) * share

    def result(self) -> Any:
        """The answers as SciPy tells of one."""
        tasks = self.tasks
        tasks.histories["nfev"] *= 1 + self.problem.per_gradient
        kept = {name: [rows[:size].copy() for rows, size in zip(table, tasks.records, strict=True)]
                for name, table in (("history", tasks.histories), ("path", tasks.paths)) if len(table)}  # fmt: skip
        return _result(tasks.x, tasks.fun, tasks.status, tasks.nit, tasks.nfev * (1 + self.problem.per_gradient),
                       **kept)  # fmt: skip


def _result(x: np.ndarray, fun: np.ndarray, status: np.ndarray, nit: np.ndarray, nfev: np.ndarray, **kept: Any) -> Any:
    told = [f"{np.count_nonzero(status == code):,} x {MESSAGES[code]}" for code in np.unique(status).tolist()]
    return optimize_result(x=x, fun=fun, status=status, success=status == CONVERGED, nit=nit, nfev=nfev,
                           message=" ".join(told) or "There were no problems.", **kept)  # fmt: skip


def _bar(total: int) -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ImportError("progress=True needs tqdm: pip install 'numbaopt[progress]'") from None
    return tqdm(total=total, unit="problem")


def _one_by_one(fun, starts, args, which, opts, jac, bounds, tol, options, settings) -> Any:
    """What cannot be compiled is minimized by `minimize`, from Python."""
    from scipy.optimize import Bounds

    k, (lower, upper) = len(starts), bounds
    x, fun_values, numbers = starts.copy(), np.full(k, np.nan), np.full((3, k), 0)
    numbers[0] = STOPPED
    given = {key: options[key] for key in options if key in MANY_OPTIONS and key != "progress"}
    given["history"] = settings["rows"] or 2
    histories: list[np.ndarray] = [np.zeros(0, RECORD)] * k
    paths: list[np.ndarray] = [np.zeros((0, starts.shape[1]))] * k

    def solve(i: int) -> Any:
        mine, opt = _of(i, args, which), opts[i % len(opts)]
        low, high = (lower[i % len(lower)], upper[i % len(upper)]) if len(lower) else (-np.inf, np.inf)
        if hasattr(opt, "problem"):
            tolerances = {key: given.get(key, 1e-8 if tol is None else tol) for key in ("ftol", "xtol", "gtol")}
            found = least_squares(fun, starts[i], jac, (low, high), opt, **tolerances, args=mine,
                                  max_nfev=given.get("maxiter"))  # fmt: skip
            found.fun, found.status = found.cost, FROM_SCIPYS.get(found.status, CONVERGED)
            return found
        box = Bounds(low, high) if len(lower) else None
        points = [starts[i].clip(low, high)]
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
            x[i], fun_values[i], numbers[:, i] = found.x, found.fun, (found.status, found.nit, found.nfev)
    except KeyboardInterrupt as interrupt:
        interrupt.result = _result(x, fun_values, *numbers)
        raise
    kept = {"history": histories if settings["rows"] else None, "path": paths if settings["path"] else None}
    status, nit, nfev = numbers
    return _result(x, fun_values, status, nit, nfev, **{name: of for name, of in kept.items() if of is not None})
