"""Many runs of one model, which differ in rule, rate, seed or start: `minimize` for each, by threads or on a GPU."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from ._fields import nearest
from .arguments import limits_of, settle_rate, split_options, start_of, warn
from .begin import driver_of, named
from .loops.state import RECORD
from .optimizers._rule import OPTIMIZERS
from .pool import result_of as counted
from .pool import shown
from .result import result_of, solved
from .run import Driver
from .solvers import SOLVERS, choose
from .status import RAISED, RUNNING, STOPPED

_NO_ROWS = np.zeros(0, RECORD)
OF_ONE = ("run", "checkpoint", "path")  # options that belong to a single run


def sweep(model: Any, X0: Any, args: Any, batched: Any, method: Any, jac: Any, bounds: Any, tol: float | None,
          options: dict[str, Any]) -> Any:  # fmt: skip
    """`numbaopt.minimize_many` of a model."""
    runs = Runs(model, X0, args, batched, method, jac, bounds, tol, options)
    return runs.on_gpu() if runs.device == "cuda" else runs.by_threads()


class Runs:
    """What is run, and the answers so far."""

    def __init__(self, model: Any, X0: Any, args: Any, batched: Any, method: Any, jac: Any, bounds: Any,
                 tol: float | None, options: dict[str, Any]):  # fmt: skip
        for name, given in (("args", args != ()), ("batched", batched is not None), ("jac", jac is not None)):
            if given:
                raise ValueError(f"{name}: a {type(model).__name__} has its own data and gradient")
        for key in OF_ONE:
            if options.get(key) is not None:
                raise ValueError(f"option {key!r} belongs to one run; leave it out, or call minimize")
        if options.pop("disp", False):
            warn("option 'disp' has no effect in minimize_many")
        self.model, self.tol, self.device = model, tol, options.get("device")
        X0 = None if X0 is None else np.asarray(X0)
        if X0 is not None and X0.ndim > 2:
            raise ValueError(f"X0 must be of shape (k, n) or (n,), not {X0.shape}")
        given = {"X0": X0 if X0 is not None and X0.ndim == 2 else None,
                 "method": method if isinstance(method, list) else None,
                 **{key: list(options[key]) if np.ndim(options.get(key, 0)) == 1 else None
                    for key in ("seed", "f_target")}}  # fmt: skip
        lengths = {name: len(each) for name, each in given.items() if each is not None}
        if not lengths:
            raise ValueError("how many runs there are must be told by a list of methods or seeds, or by the rows of X0")
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise ValueError(f"the number of runs is not clear: {told}")
        self.size = next(iter(lengths.values()))
        self.history, self.progress = bool(options.get("history")), bool(options.pop("progress", False))

        def of(name: str, shared: Any, i: int) -> Any:
            return shared if given[name] is None else given[name][i]

        self.starts = [start_of(model, of("X0", X0, i)) for i in range(self.size)]
        self.methods = [_known(of("method", method, i)) for i in range(self.size)]
        self.options = [{**options, **{key: of(key, options[key], i) for key in ("seed", "f_target") if key in options}}
                        for i in range(self.size)]  # fmt: skip
        if np.ndim(getattr(bounds, "lb", 0)) == 2:
            raise ValueError("bounds must be those of all runs: pairs, or Bounds with vectors")
        self.bounds = limits_of(bounds, np.zeros(model.n))
        self.found: list[Any] = [None] * self.size

    def driver(self, i: int, solver: Any = None) -> Driver:
        """The driver of a run."""
        name, options, model = self.methods[i], self.options[i], self.model
        if name == "auto":
            name, defaults = choose(model, self.bounds[0].size > 0)
            options = {**defaults, **options}
        opt = named(name)
        opt, options = split_options(opt, settle_rate(name, opt, options, True), self.tol)
        return driver_of(model, self.starts[i], opt, *self.bounds, self.tol, None, options, solver)

    def by_threads(self) -> Any:
        """Each run by a thread, as `minimize` runs it."""
        from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

        if self.size == 0:
            return self.result()
        threads = max(1, min(numba.get_num_threads(), self.size))
        drivers: list[Driver | None] = [None] * self.size
        drivers[0], ended = self.driver(0), threading.Event()  # compiles, and says what is wrong

        def solve(i: int) -> None:
            at_work.add(i)
            try:
                if not ended.is_set():
                    begin(i)
            finally:
                at_work.discard(i)

        def begin(i: int) -> None:
            numba.set_num_threads(max(1, allowed // threads))  # of this thread: the others are at work
            driver = drivers[i] = drivers[i] or self.driver(i)
            self._keep(i, lambda: solved(driver))
            drivers[i] = None

        allowed, at_work = numba.get_num_threads(), set[int]()
        tell = _telling(self.size, self.progress)
        with ThreadPoolExecutor(threads, "numbaopt-sweep") as executor:  # not `workers`, for which a run may wait
            jobs: list[Any] = []
            try:
                jobs.extend(executor.submit(solve, i) for i in range(self.size))
                left: Any = jobs
                while left:
                    done, left = wait(jobs, 0.1, FIRST_EXCEPTION)
                    for job in done:
                        job.result()
                    tell(len(done))
            except BaseException as error:
                ended.set()
                while wait(jobs, 0.01).not_done or at_work:  # also one that Ctrl-C left out of ``jobs``
                    for driver in list(drivers):
                        if driver is not None:  # its loop looks at its status before every step
                            driver.now.status = STOPPED
                if isinstance(error, KeyboardInterrupt):
                    error.result = self.result()
                raise
            finally:
                tell(-1)
        return self.result()

    def on_gpu(self) -> Any:
        """All runs by one launch a slice."""
        from .cuda.training.sweep import Lane, train  # late: the core never needs a GPU

        if self.size == 0:
            return self.result()
        drivers, tell = [self.driver(i, Lane) for i in range(self.size)], _telling(self.size, self.progress)
        try:
            train(drivers, tell)
        except KeyboardInterrupt as interrupt:
            self._keep_all(drivers)
            interrupt.result = self.result()
            raise
        finally:
            tell(-1)
        self._keep_all(drivers)
        return self.result()

    def _keep_all(self, drivers: list[Driver]) -> None:
        for i, driver in enumerate(drivers):
            if driver.now.status == RAISED:
                self.found[i] = self._failed(i)
            else:
                self._keep(i, functools.partial(result_of, driver, driver.now.status == RUNNING))

    def _failed(self, i: int, status: int = RAISED) -> tuple:
        """What is told of a run that raised, or has no end."""
        return self.starts[i], np.nan, status, 0, 0, 0, _NO_ROWS

    def _keep(self, i: int, solve: Callable[[], Any]) -> None:
        """Keep the answer of a run; what a user's schedule or score raises ends it, and no other."""
        try:
            found = solve()
        except Exception:
            self.found[i] = self._failed(i)
            return
        self.found[i] = (found.x, found.fun, found.status, found.nit, found.nfev, int(found.run.now[0].reason),
                         found.history if self.history else _NO_ROWS)  # fmt: skip

    def result(self) -> Any:
        """The answers as SciPy tells of one, of all runs."""
        rows = [found or self._failed(i, STOPPED) for i, found in enumerate(self.found)]
        x, fun, status, nit, nfev, reason, histories = zip(*rows, strict=True) if rows else ((),) * 7
        numbers = (np.array(each, np.int64) for each in (status, nit, nfev, reason))
        kept: dict[str, Any] = {"history": list(histories)} if self.history else {}
        return counted(np.array(x, self.model.dtype).reshape(self.size, self.model.n), np.array(fun, float), *numbers,
                       **kept)  # fmt: skip


def _known(method: Any) -> Any:
    """The method as `numbaopt.minimize` would take it, which must be one of the package's own."""
    name = "lbfgs" if method is None else method.lower() if isinstance(method, str) else method
    if isinstance(name, str) and name not in ("auto", *SOLVERS, *OPTIMIZERS):
        raise ValueError(f"method {method!r} is none of those for many runs of a model; "
                         f"{nearest(name, ['auto', *OPTIMIZERS, *SOLVERS])}")  # fmt: skip
    return name


def _telling(size: int, progress: bool) -> Callable[[int], None]:
    """``tell(done)``: moves the progress bar, if there is one; -1 ends it."""
    bar = shown(size) if progress else None

    def tell(done: int) -> None:
        if bar is not None:
            bar.close() if done < 0 else bar.update(done - bar.n)

    return tell


__all__ = ["sweep"]
