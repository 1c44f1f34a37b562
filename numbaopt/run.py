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
from ._jit import Packed
from .loops import descent, minibatch
from .loops.state import Run
from .optimizers._program import hyper_parameters, program
from .schedules import Plateau, plateau_of, rates
from .status import CONVERGED, MESSAGES, NOT_FINITE, REASONS, RUNNING, STEP_LIMIT, STOPPED

SLICE_SECONDS = 0.02
MAX_SLICE = 8192  # steps
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
        self.n_coefficients = self.program.n_coefficients + 1
        self.packed_run = Packed(run)
        if hasattr(problem, "pack"):
            self.data = problem.pack()
            self.kernels = problem.kernels(self.data)
            self.evaluate, self.compiled = self.kernels.evaluate_address, True
        else:
            self.data, self.evaluate, self.compiled = problem.data, problem.evaluate, problem.compiled
        if batches is not None:
            self.order = np.zeros(max(1, minibatch.LOOK_AHEAD // batches.size) * batches.size, np.int64)

    def solve(self) -> int:
        """Run until something ends the run; returns the status."""
        now, size, saved = self.run.now[0], 1, time.perf_counter()
        bar = _bar(self) if self.hooks.progress else None
        try:
            while now.status == RUNNING:
                begin, steps = time.perf_counter(), self._next(size)
                if steps == 0 and now.evaluations + now.step > 0:
                    now.status = STEP_LIMIT
                    break
                was = now.step
                self._slice(steps, was)
                took = time.perf_counter() - begin
                self._stamp(was, took)
                if took < SLICE_SECONDS:
                    size = min(2 * size, MAX_SLICE)
                elif took > 2 * SLICE_SECONDS:
                    size = max(1, size // 2)
                if bar is not None:
                    bar(now)
                if self.hooks.callback is not None and now.step > was:
                    self.hooks.callback(self)
                if self.hooks.checkpoint and time.perf_counter() - saved > CHECKPOINT_SECONDS:
                    self.save()
                    saved = time.perf_counter()
        except StopIteration:
            now.status = STOPPED
        finally:
            if bar is not None:
                bar(None)
            if self.hooks.checkpoint:
                self.save()
        return int(now.status)

    def _next(self, size: int) -> int:
        """How many steps the next slice may take."""
        now = self.run.now[0]
        steps = min(size, self.limits.maxiter - now.step)
        if self.hooks.callback is not None:
            steps = min(steps, 1 if self.batches is None else self._left_in_epoch())
        if self.plateau is not None:
            horizon = self.stands.horizon(self.plateau)
            steps = min(steps, horizon if self.batches is None else self._left_in_epoch())
        return max(int(steps), 0)

    def _left_in_epoch(self) -> int:
        per_epoch = self.batches.per_epoch
        return per_epoch - self.run.now[0].step % per_epoch

    def _slice(self, steps: int, first: int) -> None:
        """Take ``steps`` steps by the compiled loop, or by the same loop in the interpreter."""
        lr = rates(self.opt.lr, int(first), steps, self.stands.scale)
        coefficients = np.empty((steps, self.n_coefficients), self.problem.dtype)
        self.program.prepare(self.hyper, lr, int(first) + 1, coefficients)
        limits, run, data = self.limits, self.run, self.data.address if self.data is not None else 0
        if self.batches is None:
            values = np.full(steps, np.nan)
            tail = (limits.gtol, limits.ftol, limits.xtol)
            if self.compiled:
                loop = descent.compiled(self.problem.dtype)
                loop(self.packed_run.address, coefficients, values, steps, self.evaluate, data, self.program.address,
                     *tail)  # fmt: skip
            else:
                descent.descend(run, coefficients, values, steps, self.evaluate, data, self.program.advance, *tail)
            seen = values[: run.now[0].step - first]
        else:
            b = self.batches
            minibatch.compiled(self.problem.dtype)(
                self.packed_run.address, self.order, coefficients, steps, self.kernels.batch_address, self.evaluate,
                data, self.program.address, b.n, b.size, b.shuffle, b.seed, b.whole, limits.gtol, limits.ftol,
            )  # fmt: skip
            ended = run.now[0].step > first and run.now[0].step % b.per_epoch == 0
            seen = np.array([run.now[0].fun] if ended else [])
        if self.plateau is not None:
            for value in seen:
                self.stands = self.stands.observe(self.plateau, float(value))

    def _stamp(self, was: int, took: float) -> None:
        """Write the time into the history's new rows: the clock is read between slices, rows lie evenly between."""
        now, history = self.run.now[0], self.run.history
        fresh = history[: now.records]
        fresh = fresh[fresh.seconds < 0]
        if fresh.size:
            part = (fresh.step - was) / max(now.step - was, 1)
            history.seconds[: now.records][history.seconds[: now.records] < 0] = self.seconds + took * part
        self.seconds += took

    def save(self) -> None:
        """Write the checkpoint."""
        settings = {**self.settings, "plateau": list(self.stands), "seconds": self.seconds}
        checkpoint.save(self.hooks.checkpoint, self.run, settings)

    def message(self) -> str:
        """Why the run ended, in a sentence; with advice where it diverged."""
        now = self.run.now[0]
        if now.status == CONVERGED:
            return REASONS[int(now.reason)]
        if now.status == STEP_LIMIT and self.batches is not None:
            return "All epochs were done."
        if now.status != NOT_FINITE:
            return MESSAGES[int(now.status)]
        what = f"the objective is {now.fun}" if now.bad < 0 else f"component {now.bad} of the gradient is not finite"
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
                 initial=int(driver.run.now[0].step) // unit)  # fmt: skip

    def update(now: Any) -> None:
        if now is None:
            shown.close()
            return
        shown.set_postfix_str(f"fun={now.fun:.6g} grad={now.grad_norm:.2g}", refresh=False)
        shown.update(int(now.step) // unit - shown.n)

    return update
