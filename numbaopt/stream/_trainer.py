"""The driver of a stream: takes chunk after chunk from the thread that reads them, and knows where it stands."""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import checkpoint
from .._interrupts import Interrupts
from ..loops.state import Run
from ..run import CHECKPOINT_SECONDS, Batches, Driver, Hooks, Limits, ended
from ..schedules import Plateau, plateau_of
from ..status import CONVERGED, MESSAGES, NO_PROGRESS, NOT_FINITE, REASONS, RUNNING, STEP_LIMIT, STOPPED
from ._ahead import ReadAhead
from ._models import Models
from ._order import chunk_order, chunk_seed

TURN_SECONDS = 0.25  # within a chunk: between looks at the clock for progress and checkpoints


class Plan(NamedTuple):
    """What is trained, and how; written to checkpoints."""

    loss: list[Any]  # its name and parameters
    l1: float
    l2: float
    fit_intercept: bool
    classes: list[Any] | None
    batch_size: int
    epochs: int
    shuffle: bool
    seed: int
    history: str  # "progressive", "whole" or ""
    validated: bool = False  # whether held-out data judge the epochs
    patience: int | None = None  # epochs without a better score, or objective, before the run ends
    min_delta: float = 0.0
    lazy: bool = False  # whether a step on sparse data updates only the unknowns of its batch
    weight_norm: bool = False


class Place(NamedTuple):
    """Where in the stream a run stands; written to checkpoints."""

    epoch: int = 0  # epochs that are done
    judging: bool = False  # whether this is the pass that follows an epoch, to judge the whole objective
    position: int = 0  # chunks of this pass that are done
    begun: int = 0  # the step at which the current chunk began
    judged: bool = False  # whether the objective of the current chunk is in the sum
    rows: int = 0  # whose objectives are in the sum
    total: float = 0.0


class Visit(NamedTuple):
    """What the reading thread hands over: the numbers of a chunk, or none: the end of a pass."""

    place: Place
    chunk: int
    numbers: Any


class Trainer:
    """One training run over a stream.

    Parameters
    ----------
    models : Models
        The chunks.
    opt, run : optimizer, Run
    plan, place : Plan, Place
    hook : callable, optional
        Called with this object after every epoch.
    score : callable, optional
        Of a point, the higher the better.
    progress : bool
    path : str, optional
        Of the checkpoint.
    settings : dict
        What a checkpoint remembers besides, and what comes after the rule.
    """

    def __init__(self, models: Models, opt: Any, run: Run, plan: Plan, place: Place, hook: Callable[[Any], None] | None,
                 score: Callable[[np.ndarray], float] | None, progress: bool, path: str | None,
                 settings: dict[str, Any]):  # fmt: skip
        self.models, self.source = models, models.source
        self.opt, self.run, self.plan, self.place = opt, run, plan, place
        self.hook, self.score, self.progress, self.path, self.settings = hook, score, progress, path, settings
        self.best_score, self.waited, self.mark = settings.get("waited", (-np.inf, 0, -np.inf))
        self.now = run.now[0]
        self.stands = Plateau(*settings.get("plateau", ()))
        self._before, self._began = float(settings.get("seconds", 0.0)), time.perf_counter()
        self._saved, self._turn = self._began, 256
        self._interrupts = Interrupts()
        self._driver: Driver | None = None
        self._bar: Any = None

    @property
    def point(self) -> np.ndarray:
        """What is judged and returned: x, or an average of the iterates."""
        if self.now.shown >= 0:
            return self.run.state[self.now.shown]
        return self.run.x if self._driver is None else self._driver.point

    @property
    def owes(self) -> bool:
        """Whether the run was cut within a chunk that has not been read since: only its loop knows where x is."""
        return self._driver is None and bool(self.run.extra.any())

    @property
    def seconds(self) -> float:
        """Since the run began, not counting the time between checkpoint and resumption."""
        return self._before + time.perf_counter() - self._began

    def solve(self) -> None:
        """Run until something ends the run."""
        if self.path:
            self.save()  # a place that cannot be written to should be known before the work is done
        self._bar = _bar(self) if self.progress else None
        try:
            if self.score is not None and self.best_score == -np.inf:
                self._look()
            with ReadAhead(self._visits(), lambda visit: visit.numbers is not None) as visits:
                for visit in visits:
                    if visit.numbers is None:
                        self._end_pass()
                    else:
                        self._visit(visit)
                    if self.now.status != RUNNING:
                        break
                    self._tick()
            if self.now.status == RUNNING:
                self.now.status = ended(self.run, self.opt)
        except BaseException:
            if self.path:
                with contextlib.suppress(OSError):  # the first error is the one to tell of
                    self.save()
            raise
        finally:
            if self._bar is not None:
                self._bar.close()
        if self.path:
            self.save()

    def told(self, point: np.ndarray) -> np.ndarray:
        """A point as the user knows it: a copy, in the unknowns of the model."""
        problem = self.models.problem
        return problem.own(point) if hasattr(problem, "own") else point.copy()

    def _visits(self) -> Iterator[Visit]:
        """All that is still to be done; runs in the reading thread."""
        first, plan = self.place, self.plan
        for epoch in range(first.epoch, plan.epochs):
            for judging in (False, True) if plan.history == "whole" else (False,):
                here = Place(epoch, judging)
                if here[:2] >= first[:2]:
                    yield from self._pass(here, first.position if here[:2] == first[:2] else 0)

    def _pass(self, here: Place, first: int) -> Iterator[Visit]:
        chunks, plan = self.source.n_chunks, self.plan
        shuffle = plan.shuffle and not here.judging and not self.source.ordered
        order = itertools.count() if chunks is None else chunk_order(chunks, plan.seed, here.epoch, shuffle)
        for position, chunk in enumerate(order):
            if position < first:
                continue
            numbers = self.models.read(int(chunk))
            if numbers is None:
                break
            if numbers:
                yield Visit(here._replace(position=position), int(chunk), numbers)
            del numbers
        yield Visit(here, -1, None)

    def _visit(self, visit: Visit) -> None:
        """Judge the chunk and train on it, as far as that is not done yet."""
        place, plan, now = self.place, self.plan, self.now
        self._driver = None  # the last chunk's memory is the reading thread's now
        model = self.models.of(visit.chunk, visit.numbers)
        batches = Batches(model.n_terms, min(plan.batch_size, model.n_terms), plan.shuffle,
                          chunk_seed(plan.seed, place.epoch, visit.chunk), False, lazy=plan.lazy)  # fmt: skip
        steps = 0 if place.judging else batches.per_epoch
        if not 0 <= now.step - place.begun <= steps:
            raise ValueError(f"{self.source.where(visit.chunk)} has not the rows that the checkpoint tells of")
        now.origin = place.begun
        problem = self.models.wrap(model)
        if plan.weight_norm and now.step == 0 and not place.judged:  # the first rows tell where to begin
            self.run.x[:] = problem.start(problem.own(self.run.x))
        driver = self._driver = Driver(problem, self.opt, self.run, Limits(0, 0.0, 0.0, 0.0), batches, Hooks(),
                                       {"plateau": self.stands, "after": self.settings["after"]})  # fmt: skip
        if not place.judged:
            self._judge(model, visit.place)
        end = place.begun + steps
        while now.status == RUNNING and now.step < end:
            began, was = time.perf_counter(), int(now.step)
            driver.limits = driver.limits._replace(maxiter=min(end, was + self._turn))
            driver.solve()
            if now.status == STEP_LIMIT:
                now.status = RUNNING
            if now.step - was == self._turn and time.perf_counter() - began < TURN_SECONDS:
                self._turn *= 2
            self._tick()
        if now.status == RUNNING:
            with self._interrupts:
                self.place = self.place._replace(position=visit.place.position + 1, begun=int(now.step), judged=False)
            if self._bar is not None:
                self._bar.update()

    def _judge(self, model: Any, place: Place) -> None:
        """Add the chunk's objective, at the point where the run stands, to the sum; remember that point."""
        wanted, now = self.plan.history == "progressive" or place.judging, self.now
        with self._interrupts:
            if wanted:
                value = model.value(self.told(self.point))
                if not np.isfinite(value):
                    now.status, now.fun = NOT_FINITE, value
                    return
                self.place = self.place._replace(rows=self.place.rows + model.n_terms,
                                                 total=self.place.total + model.n_terms * value)  # fmt: skip
            if not self.plan.validated and np.all(np.isfinite(self.point)):
                self.run.best[:], now.best_step = self.point, now.step
            self.place = self.place._replace(position=place.position, judged=True)

    def _end_pass(self) -> None:
        """The epoch is done, or the pass that judges it has still to come."""
        place, now, plan, run = self.place, self.now, self.plan, self.run
        if now.step == 0:
            raise ValueError(f"{self.source!r} has 0 sample(s) while a minimum of 1 is required: all chunks are empty")
        with self._interrupts:
            if plan.history == "whole" and not place.judging:
                self.place = Place(place.epoch, judging=True, begun=place.begun)
                return
            self.place = Place(place.epoch + 1, begun=place.begun)
            if plan.history:
                now.fun = place.total / max(place.rows, 1)
                now.evaluations += 1
                row = run.history[now.records]
                row.step, row.fun, row.grad_norm, row.lr, row.seconds = now.step, now.fun, np.nan, now.lr, self.seconds
                row.score, row.nfev = np.nan, now.evaluations
                now.records += 1
                if (plateau := plateau_of(self.opt.lr)) is not None:
                    self.stands = self.stands.observe(plateau, float(now.fun))
            self._look()
        if self.hook is not None:
            try:
                self.hook(self)
            except StopIteration:
                now.status = STOPPED

    def _look(self) -> None:
        """Score the point, keep the best one, end the run when patience does."""
        now, run, plan = self.now, self.run, self.plan
        if self.score is None and plan.patience is None:
            return
        score = -float(now.fun) if self.score is None else float(self.score(self.told(self.point)))
        if self.score is not None and now.records:
            run.history[now.records - 1].score = score
        if score > self.best_score or (score == self.best_score and now.best_step == 0 < now.step):
            self.best_score = score
            if plan.validated:
                run.best[:], now.best_step = self.point, now.step
        if score > self.mark + plan.min_delta:
            self.mark, self.waited = score, 0
        else:
            self.waited += 1
        if plan.patience is not None and self.waited >= plan.patience:
            better = now.best_step > 0 or not plan.validated
            now.status, now.reason = (CONVERGED, 4) if better else (NO_PROGRESS, 0)

    def _tick(self) -> None:
        """What happens now and then."""
        if self._bar is not None:
            place, epochs = self.place, self.plan.epochs
            fun = place.total / place.rows if place.rows else float(self.now.fun)
            self._bar.set_postfix_str(f"epoch {min(place.epoch + 1, epochs)}/{epochs}, fun={fun:.6g}", refresh=False)
        if self.path and time.perf_counter() - self._saved > CHECKPOINT_SECONDS:
            self.save()

    def save(self) -> None:
        """Write the checkpoint."""
        told = {**self.settings, "plateau": list(self.stands), "seconds": self.seconds, "plan": self.plan._asdict(),
                "place": self.place._asdict(), "after": [checkpoint.describe(part) for part in self.settings["after"]],
                "waited": [self.best_score, self.waited, self.mark]}  # fmt: skip
        checkpoint.save(str(self.path), self.run, told)
        self._saved = time.perf_counter()

    def message(self) -> str:
        """Why the run ended, in a sentence."""
        if self.now.status == NOT_FINITE and self._driver is not None:
            return self._driver.message()
        if self.now.status == CONVERGED:
            return REASONS[int(self.now.reason)]
        if self.now.status == STEP_LIMIT:
            return f"{self.place.epoch} epoch{'s were' if self.place.epoch != 1 else ' was'} done."
        return MESSAGES[int(self.now.status)]


def _bar(trainer: Trainer) -> Any:
    """A tqdm bar over chunks."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ImportError("progress=True needs tqdm: pip install 'numbaopt[progress]'") from None
    chunks, place, passes = trainer.source.n_chunks, trainer.place, 1 + (trainer.plan.history == "whole")
    if chunks is None:
        return tqdm(unit="chunk", file=sys.stderr)
    return tqdm(total=trainer.plan.epochs * passes * chunks, unit="chunk", file=sys.stderr,
                initial=(place.epoch * passes + place.judging) * chunks + place.position)  # fmt: skip
