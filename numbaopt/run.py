"""The driver: runs a compiled loop in slices and does between them all that needs Python.

Slices are a few tens of milliseconds long, so Ctrl-C, callbacks, the progress bar and checkpoints are never far away;
their length has no influence on the result.  The driver computes the coefficients of a slice's steps ahead, so the
loops know no schedule.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import checkpoint
from ._schedule import rates
from .loops.state import Run
from .schedules import Plateau, ReduceOnPlateau, plateau_of
from .solvers import Job, solver_of
from .status import (
    CONVERGED,
    MESSAGES,
    NO_PROGRESS,
    NOT_FINITE,
    OUT_OF_TIME,
    RUNNING,
    STEP_LIMIT,
    STOPPED,
    message_of,
)

SLICE_SECONDS = 0.02
MAX_SLICE = 1 << 16  # steps
CHECKPOINT_SECONDS = 30.0
MAX_KINDS = 256  # of runs whose steps should take the same time: the next one begins with slices as long
_SLICES: dict[Any, int] = {}


class Limits(NamedTuple):
    """When a run ends."""

    maxiter: int
    gtol: float
    ftol: float
    xtol: float
    max_seconds: float = math.inf  # of its steps


class Batches(NamedTuple):
    """How a sum of terms is visited."""

    n: int
    size: int
    shuffle: bool
    seed: int
    whole: bool  # whether the whole objective is judged every epoch
    at_once: int = 1 << 40  # most terms a sum's own function is given: less than ``size`` where gradients accumulate
    lazy: bool = False  # whether a step on sparse data updates only the unknowns of its batch

    @property
    def per_epoch(self) -> int:
        """Steps in an epoch."""
        return -(-self.n // self.size)


class Hooks(NamedTuple):
    """What happens between slices."""

    callback: Callable[[Any], None] | None = None
    progress: bool = False
    checkpoint: str | None = None
    score: Callable[[np.ndarray], float] | None = None  # of a point, the higher the better, after every epoch
    patience: int | None = None  # epochs without a better score, or objective, before the run ends
    min_delta: float = 0.0  # by how much it must be better to count
    every: int = 1  # steps from one call of the callback to the next; of batches it sees every epoch


class Driver:
    """One minimization: a problem, an optimizer, a run, and when to stop.

    Parameters
    ----------
    problem : Function, LinearModel or BoundSum
    opt : optimizer
    run : Run
    limits : Limits
    batches : Batches, optional
        Without, every step uses the whole objective.
    hooks : Hooks
    settings : dict
        What a checkpoint remembers besides the run.
    solver : Solver class, optional
        Instead of the one of the method and its device.
    """

    def __init__(self, problem: Any, opt: Any, run: Run, limits: Limits, batches: Batches | None, hooks: Hooks,
                 settings: dict[str, Any], solver: Any = None):  # fmt: skip
        self.problem, self.opt, self.run, self.limits, self.batches = problem, opt, run, limits, batches
        self.hooks, self.settings = hooks, settings
        self.plateau = plateau_of(opt.lr)
        self.stands = Plateau(*settings.get("plateau", ()))
        self.best_score, self.waited, self.mark = settings.get("waited", (-np.inf, 0, -np.inf))
        self.after = tuple(settings.get("after", ()))
        self.seconds = float(settings.get("seconds", 0.0))
        self.now = run.now[0]  # a view: what the loops write is seen here
        self.stamps = np.asarray(run.history["seconds"])
        if batches is not None and hasattr(problem, "at_once"):
            problem.at_once = batches.at_once
        self.lr = np.zeros(0)
        kind = getattr(problem, "kind", None)
        device = settings.get("device")
        self._kind = kind and (type(opt), run.x.size, kind, batches and batches.size, device)
        solver = solver or solver_of(opt, device)
        self.solver = solver(Job(problem, opt, run, limits, batches, self.after))
        self.fresh = hooks.score is not None and self.best_score == -np.inf  # the start is scored, too

    def solve(self) -> None:
        """Run until something ends the run; what the solver holds is not yet freed."""
        now, hooks, saved = self.now, self.hooks, time.perf_counter()
        timed = math.isfinite(self.limits.max_seconds)
        size = _SLICES.get(self._kind, 1) if self._kind and not timed else 1
        if hooks.checkpoint:
            self.save()  # a place that cannot be written to should be known before the work is done
        bar = _bar(self) if hooks.progress else None
        try:
            while (steps := self.wanted(size)) is not None:
                was = int(now.step)
                with self.solver.interrupts:  # until all that belongs to the slice is noted
                    took = self._slice(steps, was)
                size = fitting(size, int(now.step) - was, took)
                if timed:  # no longer than what is left
                    left = max(0.0, self.limits.max_seconds - self.seconds)
                    size = max(1, min(size, int(left * (now.step - was) / max(took, 1e-9))))
                self.look(was)
                if bar is not None:
                    bar(now)
                if hooks.callback is not None and now.step > was and self._calls:
                    self.solver.fetch()
                    try:
                        hooks.callback(self)
                    except StopIteration:
                        now.status = STOPPED
                if hooks.checkpoint and time.perf_counter() - saved > CHECKPOINT_SECONDS:
                    self.save()
                    saved = time.perf_counter()
        except BaseException as error:
            with contextlib.suppress(Exception):  # the first error is the one to tell of
                if hooks.checkpoint:
                    self.save()
                elif isinstance(error, KeyboardInterrupt):  # which tells the result so far
                    self.solver.fetch()
            raise
        else:
            self.solver.fetch()
        finally:
            if bar is not None:
                bar(None)
        if self._kind and not timed:
            if len(_SLICES) >= MAX_KINDS:
                _SLICES.clear()
            _SLICES[self._kind] = size
        if hooks.checkpoint:
            self.save()

    @property
    def judges(self) -> bool:
        """Whether the whole objective is evaluated in the course of the run."""
        return self.batches is None or self.batches.whole

    @property
    def steps(self) -> int:
        """Steps taken on these data."""
        return int(self.now.step - self.now.origin)

    @property
    def within_epoch(self) -> int:
        """Steps since the last epoch ended; 0 where there are no batches."""
        return 0 if self.batches is None else self.steps % self.batches.per_epoch

    @property
    def _calls(self) -> bool:
        """Whether the callback is called after this step."""
        return self.within_epoch == 0 if self.batches is not None else self.now.step % self.hooks.every == 0

    @property
    def point(self) -> np.ndarray:
        """What is judged and returned: x, or an average of the iterates."""
        return self.solver.point() if self.now.shown < 0 else self.run.state[self.now.shown]

    def told(self, point: np.ndarray) -> np.ndarray:
        """A point as the user knows it: a copy, in the unknowns of the user's problem."""
        return self.problem.own(point) if hasattr(self.problem, "own") else point.copy()

    @property
    def looks(self) -> bool:
        """Whether progress is judged by the driver, after every epoch or step."""
        return self.hooks.score is not None or self.hooks.patience is not None

    def wanted(self, size: int) -> int | None:
        """How many of ``size`` steps the next slice may take; None where the run has ended."""
        now = self.now
        if self.fresh and not self.judges:
            self._look()
            self.fresh = False
        if now.status == RUNNING and self.seconds >= self.limits.max_seconds:
            now.status, now.reason = STEP_LIMIT, OUT_OF_TIME
        if now.status != RUNNING:
            return None
        steps = 0 if self.fresh else self._next(size, int(now.step))
        if steps == 0 and not (now.awaiting and self.judges):
            self.solver.fetch()
            now.status = ended(self.run, self.opt)
            return None
        return steps

    def look(self, was: int) -> None:
        """Judge what a slice that began after ``was`` steps came to, where the driver is to."""
        if (self.looks and (self.now.step > was or self.fresh) and self.within_epoch == 0
                and self.now.status != NOT_FINITE):  # fmt: skip
            self._look()
            self.fresh = False

    def _look(self) -> None:
        """Score the point, keep the best one, end the run when patience does."""
        now, hooks = self.now, self.hooks
        if hooks.score is None and now.awaiting:
            return  # the objective of all terms is not known yet
        if hooks.score is not None or not now.keeps_best:
            self.solver.fetch()
        score = -float(now.fun) if hooks.score is None else float(hooks.score(self.told(self.point)))
        if hooks.score is not None and now.records and self.run.history[now.records - 1].step == now.step:
            self.run.history[now.records - 1].score = score
        tied = score == self.best_score and now.best_step == now.origin < now.step  # the start gives way
        if score > self.best_score or tied:
            self.best_score = score
            if not now.keeps_best:
                self.run.best[:], now.best_step = self.point, now.step
        if score > self.mark + hooks.min_delta:
            self.mark, self.waited = score, 0
        else:
            self.waited += 1
        if hooks.patience is not None and self.waited >= hooks.patience and now.status == RUNNING:
            better = now.best_step > now.origin or (not self.judges and now.keeps_best)
            now.status, now.reason = (CONVERGED, 4) if better else (NO_PROGRESS, 0)

    def _next(self, size: int, step: int) -> int:
        """How many steps the slice that begins after ``step`` steps may take."""
        steps = min(size, self.limits.maxiter - step)
        if self.hooks.callback is not None or self.plateau is not None or self.looks:
            if self.batches is not None:  # both look at whole epochs
                steps = min(steps, self.batches.per_epoch - self.within_epoch)
            else:
                certain = self.stands.horizon(self.plateau) if self.plateau is not None else steps
                certain -= int(step > 0 and self.now.awaiting)  # is observed first
                every = 1 if self.looks else self.hooks.every
                if self.looks or self.hooks.callback is not None:
                    certain = 1 if every == 1 else min(certain, every - step % every)
                steps = min(steps, certain)
        return max(steps, 0)

    def _slice(self, steps: int, first: int) -> float:
        """Take ``steps`` steps; returns the seconds."""
        evaluated, values, callback = int(self.now.evaluations), self.prepare(steps, first), self.solver.callback
        begin = time.perf_counter()  # a schedule is compiled by now
        try:
            self.solver.take(steps, self.lr, values)
        except StopIteration:
            error = callback and callback.take_error()
            if error is None:
                raise
            raise error from None
        finally:
            took = time.perf_counter() - begin
            self.note(values, evaluated, first, took)
        return took

    def prepare(self, steps: int, first: int) -> np.ndarray:
        """The rates of a slice into ``lr``; returns room for the objectives of its points."""
        if self.lr.size < steps or not isinstance(self.opt.lr, float):  # a constant rate is written down once
            self.lr = rates(self.opt.lr, first, steps, self.stands.scale)
        return np.empty(steps + 1 if self.plateau is not None else 0)

    def note(self, values: np.ndarray, evaluated: int, first: int, took: float) -> None:
        """Write down what a slice that began after ``first`` steps and ``evaluated`` evaluations has done."""
        if self.plateau is not None:
            self._observe(self.plateau, values[int(evaluated == 0) : int(self.now.evaluations) - evaluated], first)
        self._stamp(first, took)

    def _observe(self, plateau: ReduceOnPlateau, values: np.ndarray, first: int) -> None:
        """Show the objectives that followed steps, or the one that followed an epoch, to the rate."""
        if self.batches is not None:
            values = values[:0] if self.within_epoch or self.now.step == first else np.array([self.now.fun])
        for value in values:
            self.stands = self.stands.observe(plateau, float(value))

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
        self.solver.fetch()
        settings = {**self.settings, "plateau": list(self.stands), "seconds": self.seconds,
                    "after": [checkpoint.describe(part) for part in self.after],
                    "waited": [self.best_score, self.waited, self.mark]}  # fmt: skip
        checkpoint.save(str(self.hooks.checkpoint), self.run, settings)

    def _in_vain(self) -> str:
        """What to tell of epochs none of which was better than the start; nothing where one was, or nobody looked."""
        now = self.now
        if now.best_step != now.origin or (now.keeps_best and not self.judges):
            return ""
        advice = f"; try a smaller rate, such as {now.lr / 10:g} (it was {now.lr:g})"
        return f" None was better than the start, which is returned{'' if hasattr(self.opt, 'solver') else advice}."

    def message(self) -> str:
        """Why the run ended, in a sentence; with advice where it diverged."""
        now = self.now
        if now.status == CONVERGED or (now.status == STEP_LIMIT and now.reason):
            return message_of(int(now.status), int(now.reason))
        if now.status == STEP_LIMIT and self.batches is not None:
            epochs, begun = divmod(self.steps, self.batches.per_epoch)
            told = "1 epoch was done." if epochs == 1 else f"{epochs} epochs were done."
            told = f"{MESSAGES[STEP_LIMIT]} (within epoch {epochs + 1})" if begun else told
            return told + self._in_vain() * (epochs > 0)
        given = getattr(self.problem, "jac", None)
        if now.status == NO_PROGRESS and now.best_step == now.origin and (given is True or callable(given)):
            return (f"{MESSAGES[NO_PROGRESS]} Nothing along the gradient is better than the first point: is it right? "
                    "numbaopt.check_grad compares it with differences.")  # fmt: skip
        if now.status != NOT_FINITE:
            return MESSAGES[int(now.status)]
        bad = np.flatnonzero(~np.isfinite(self.run.g))  # of the last batch, or the whole
        of_gradient = bad.size and (np.isfinite(now.fun) or self.batches is not None)
        what = f"component {bad[0]} of the gradient is not finite" if of_gradient else f"the objective is {now.fun}"
        still = now.step >= self.limits.maxiter and ended(self.run, self.opt) == NOT_FINITE
        if (np.isfinite(now.fun) or still) and not bad.size:
            return (f"Diverged at step {now.step}: a step from here is beyond all numbers; scale the data. x is the "
                    f"best finite point, from step {now.best_step}.")  # fmt: skip
        if now.step == 0:
            return f"Diverged: at the starting point (step 0) {what}."
        rate = float(now.lr) or (float(self.lr[0]) if self.lr.size else 0.0)
        advice = "" if hasattr(self.opt, "solver") else (
            f" (the learning rate was {rate:g}). Try a smaller rate, such as {rate / 10:g}, or clip the gradient "
            "(transforms.ClipByNorm)")  # fmt: skip
        return (f"Diverged at step {now.step}: {what}{advice}. x is the best finite point, from step "
                f"{now.best_step}.")  # fmt: skip


def fitting(size: int, done: int, took: float, seconds: float = SLICE_SECONDS) -> int:
    """How long slices of some ``seconds`` should be after one of at most ``size`` steps that ``took`` for ``done``."""
    if took < seconds and done == size:  # a slice that ended early says nothing
        return min(2 * size if took > seconds / 16 else 16 * size, MAX_SLICE)
    return max(1, size // 2) if took > 2 * seconds else size


def ended(run: Run, opt: Any) -> int:
    """The status of a run that has taken all its steps; a rule whose state is beyond all numbers stood still."""
    return STEP_LIMIT if hasattr(opt, "solver") or np.all(np.isfinite(run.state)) else NOT_FINITE


def _bar(driver: Driver) -> Callable[[Any], None]:
    """A tqdm bar over steps, or epochs of minibatches."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ImportError("progress=True needs tqdm: pip install 'numbaopt[progress]'") from None
    unit = 1 if driver.batches is None else driver.batches.per_epoch
    total = (driver.limits.maxiter - int(driver.now.origin)) // unit
    shown = tqdm(total=total, unit="step" if driver.batches is None else "epoch", file=sys.stderr,
                 initial=driver.steps // unit)  # fmt: skip

    def update(now: Any) -> None:
        if now is None:
            shown.close()
            return
        shown.set_postfix_str(f"fun={now.fun:.6g} grad={now.grad_norm:.2g}", refresh=False)
        shown.update(driver.steps // unit - shown.n)

    return update
