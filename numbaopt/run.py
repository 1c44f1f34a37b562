"""The driver: runs a compiled loop in slices and does between them all that needs Python.

Slices are a few tens of milliseconds long, so Ctrl-C, callbacks, the progress bar and checkpoints are never far away;
their length has no influence on the result.  The driver computes the coefficients of a slice's steps ahead, so the
loops know no schedule.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import checkpoint
from ._packed import Packed
from ._schedule import rates
from .loops import descent, minibatch
from .loops.state import Run, run_type
from .optimizers._program import hyper_parameters, program
from .schedules import Plateau, plateau_of
from .status import CONVERGED, MESSAGES, NOT_FINITE, REASONS, RUNNING, STEP_LIMIT, STOPPED

SLICE_SECONDS = 0.02
MAX_SLICE = 1 << 13  # steps; arrays of this size come from the heap without a page fault
AHEAD = 128  # steps whose coefficients are computed at a time; they should stay in the first cache
CHECKPOINT_SECONDS = 30.0


class Limits(NamedTuple):
    """When a run ends."""

    maxiter: int
    gtol: float
    ftol: float
    xtol: float


class Batches(NamedTuple):
    """How a sum of terms is visited."""

    n: int
    size: int
    shuffle: bool
    seed: int
    whole: bool  # whether the whole objective is judged every epoch

    @property
    def per_epoch(self) -> int:
        """Steps in an epoch."""
        return -(-self.n // self.size)


class Hooks(NamedTuple):
    """What happens between slices."""

    callback: Callable[[Any], None] | None = None
    progress: bool = False
    checkpoint: str | None = None


class Driver:
    """One minimization: a problem, an optimizer, a run, and when to stop.

    Parameters
    ----------
    problem : Function or LinearModel
    opt : optimizer
    run : Run
    limits : Limits
    batches : Batches, optional
        Without, every step uses the whole objective.
    hooks : Hooks
    settings : dict
        What a checkpoint remembers besides the run.
    """

    def __init__(self, problem: Any, opt: Any, run: Run, limits: Limits, batches: Batches | None, hooks: Hooks,
                 settings: dict[str, Any]):  # fmt: skip
        self.problem, self.opt, self.run, self.limits, self.batches = problem, opt, run, limits, batches
        self.hooks, self.settings = hooks, settings
        self.plateau = plateau_of(opt.lr)
        self.stands = Plateau(*settings.get("plateau", ()))
        self.seconds = float(settings.get("seconds", 0.0))
        self.program = program(opt, problem.dtype)
        self.hyper = hyper_parameters(opt)
        self.now = run.now[0]  # a view: what the loops write is seen here
        self.stamps = np.asarray(run.history["seconds"])
        if hasattr(problem, "pack"):
            self.data = problem.pack()
            kernels = problem.kernels(self.data)
            self.evaluate, self.batch = kernels.evaluate_address, kernels.batch_address
        else:
            self.data, self.evaluate = problem.data, problem.evaluate
        self.where = self.data.address if self.data is not None else 0
        self.packed_run = Packed(run, run_type(problem.dtype))
        self.coefficients = np.empty((AHEAD, self.program.width), problem.dtype)
        self.loop = (descent if batches is None else minibatch).compiled(problem.dtype)
        self.addresses = self.program.prepare, self.program.advance  # compiled here, so that no slice is timed with it
        if batches is not None:
            self.order = np.zeros(max(1, minibatch.LOOK_AHEAD // batches.size) * batches.size, np.int64)

    def solve(self) -> int:
        """Run until something ends the run; returns the status."""
        now, hooks, size, saved = self.now, self.hooks, 1, time.perf_counter()
        if hooks.checkpoint:
            self.save()  # a place that cannot be written to should be known before the work is done
        bar = _bar(self) if hooks.progress else None
        try:
            while now.status == RUNNING:
                begin, was = time.perf_counter(), int(now.step)
                steps = self._next(size, was)
                if steps == 0 and (was or now.evaluations):
                    now.status = STEP_LIMIT
                    break
                self._slice(steps, was)
                took = time.perf_counter() - begin
                self._stamp(was, took)
                if took < SLICE_SECONDS:
                    size = min(2 * size if took > SLICE_SECONDS / 16 else 16 * size, MAX_SLICE)
                elif took > 2 * SLICE_SECONDS:
                    size = max(1, size // 2)
                if bar is not None:
                    bar(now)
                whole = self.batches is None or now.step % self.batches.per_epoch == 0
                if hooks.callback is not None and now.step > was and whole:
                    hooks.callback(self)
                if hooks.checkpoint and time.perf_counter() - saved > CHECKPOINT_SECONDS:
                    self.save()
                    saved = time.perf_counter()
        except StopIteration:
            now.status = STOPPED
        finally:
            if bar is not None:
                bar(None)
            if hooks.checkpoint:
                self.save()
        return int(now.status)

    def _next(self, size: int, step: int) -> int:
        """How many steps the slice that begins after ``step`` steps may take."""
        steps = min(size, self.limits.maxiter - step)
        if self.hooks.callback is not None or self.plateau is not None:
            if self.batches is not None:  # both look at whole epochs
                steps = min(steps, self.batches.per_epoch - step % self.batches.per_epoch)
            else:
                certain = self.stands.horizon(self.plateau) if self.plateau is not None else steps
                steps = min(steps, 1 if self.hooks.callback is not None else certain)
        return max(steps, 0)

    def _slice(self, steps: int, first: int) -> None:
        """Take ``steps`` steps by the compiled loop."""
        coefficients = self.coefficients
        lr = rates(self.opt.lr, first, steps, self.stands.scale)
        limits, b, run = self.limits, self.batches, self.packed_run.address
        if b is None:
            values = np.empty(steps if self.plateau is not None else 0)
            with self.problem.errors():
                self.loop(run, self.hyper, lr, coefficients, values, *self.addresses, self.evaluate, self.where,
                          limits.gtol, limits.ftol, limits.xtol)  # fmt: skip
        else:
            self.loop(run, self.hyper, lr, coefficients, self.order, *self.addresses, self.batch, self.evaluate,
                      self.where, b.n, b.size, b.shuffle, b.seed, b.whole, limits.gtol, limits.ftol)  # fmt: skip
        if self.plateau is not None:
            taken = int(self.now.step) - first
            if b is not None:
                values, taken = np.array([self.now.fun]), int(taken > 0 and self.now.step % b.per_epoch == 0)
            for value in values[:taken]:
                self.stands = self.stands.observe(self.plateau, float(value))

    def _stamp(self, was: int, took: float) -> None:
        """Write the time into the history's new rows: the clock is read between slices, rows lie evenly between."""
        records = int(self.now.records)
        if records and self.stamps[records - 1] < 0:
            fresh = np.flatnonzero(self.stamps[:records] < 0)
            part = (self.run.history["step"][fresh] - was) / max(int(self.now.step) - was, 1)
            self.stamps[fresh] = self.seconds + took * part
        self.seconds += took

    def save(self) -> None:
        """Write the checkpoint."""
        settings = {**self.settings, "plateau": list(self.stands), "seconds": self.seconds}
        checkpoint.save(str(self.hooks.checkpoint), self.run, settings)

    def message(self) -> str:
        """Why the run ended, in a sentence; with advice where it diverged."""
        now = self.now
        if now.status == CONVERGED:
            return REASONS[int(now.reason)]
        if now.status == STEP_LIMIT and self.batches is not None:
            epochs, begun = divmod(int(now.step), self.batches.per_epoch)
            return f"{epochs} epochs were done." if not begun else f"{MESSAGES[STEP_LIMIT]} (within epoch {epochs + 1})"
        if now.status != NOT_FINITE:
            return MESSAGES[int(now.status)]
        bad = np.flatnonzero(~np.isfinite(self.run.g))
        of_gradient = bad.size and (np.isfinite(now.fun) or self.batches is not None)
        what = f"component {bad[0]} of the gradient is not finite" if of_gradient else f"the objective is {now.fun}"
        if now.step == 0 and now.evaluations <= 1:
            return f"Diverged: at the starting point (step 0) {what}."
        return (f"Diverged at step {now.step}: {what} (the learning rate was {now.lr:g}). Try a smaller rate, such as "
                f"{now.lr / 10:g}, or clip the gradient (transforms.ClipByNorm). x is the best finite point, from step "
                f"{now.best_step}.")  # fmt: skip


def _bar(driver: Driver) -> Callable[[Any], None]:
    """A tqdm bar over steps, or epochs of minibatches."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ImportError("progress=True needs tqdm: pip install 'numbaopt[progress]'") from None
    unit = 1 if driver.batches is None else driver.batches.per_epoch
    shown = tqdm(total=driver.limits.maxiter // unit, unit="step" if unit == 1 else "epoch", file=sys.stderr,
                 initial=int(driver.now.step) // unit)  # fmt: skip

    def update(now: Any) -> None:
        if now is None:
            shown.close()
            return
        shown.set_postfix_str(f"fun={now.fun:.6g} grad={now.grad_norm:.2g}", refresh=False)
        shown.update(int(now.step) // unit - shown.n)

    return update
