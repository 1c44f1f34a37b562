"""The trials of tuning: optuna proposes them, they are runs of the study, and what came of those is told to optuna."""

from __future__ import annotations

import math
import time
import zlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np

from ..status import NOT_FINITE
from . import progress
from .build import build
from .config import Case
from .estimates import passes
from .execute import Place, execute
from .jobs import Job
from .methods import is_rule
from .pruning import REPORTS, Pruning, digest_of, pruner_of
from .rows import Row
from .runner import Source, chunks_of
from .schedulers import Pool
from .spaces import Parameters
from .store import TUNING, Store
from .words import median

IDLE = 20  # trials in a row that were there already: the space is used up


class Effort(NamedTuple):
    """How long to tune a method on a problem, and how.

    Attributes
    ----------
    trials : int or None
        In all, those of earlier calls included.
    seconds : float or None
        Of this call: no trial begins later.
    evaluations : int or None
        In all: evaluations of the objective, of batches steps.
    jobs : int
        Processes; the same trials are made every time with one only.
    scheduler : str or None
        A Dask scheduler's address, or "local" for a cluster of so many processes.  What is on other machines cannot see
        optuna's storage: there a trial is only given up between its runs.
    pruner : {"median", "hyperband", "none"}
        Which trials are given up on their way.
    seed : int
        Of what optuna draws.
    """

    trials: int | None = None
    seconds: float | None = None
    evaluations: int | None = None
    jobs: int = 1
    pruner: str = "median"
    seed: int = 0
    scheduler: str | None = None

    @property
    def several(self) -> bool:
        """Whether several trials are on their way at a time."""
        return self.jobs > 1 or self.scheduler is not None


def jobs_of(case: Case, space: Parameters, parameters: dict[str, Any]) -> list[Job]:
    """The runs of a trial."""
    return list(case.table.runs(case.problem, case.common, case.plan, space.plain(parameters),
                                space.settings(parameters)))  # fmt: skip


class Tuner:
    """Tunes one method on one problem."""

    def __init__(self, case: Case, space: Parameters, store: Store, kept: Any, effort: Effort):
        import optuna

        self.case, self.space, self.store, self.kept, self.effort = case, space, store, kept, effort
        common = {key: value for key, value in case.common.items() if key != "places"}
        said = digest_of(common, case.plan.table, case.plan.seeds)
        self.name = f"{case.problem}, {case.plan.label}, {said}"
        self.seeds = len(case.plan.seeds)
        self.study = optuna.create_study(storage=kept, study_name=self.name, load_if_exists=True,
                                         pruner=pruner_of(effort.pruner, self.seeds))  # fmt: skip
        self.id = kept.get_study_id_from_name(self.name)
        if not case.plan.axes and not self.study.get_trials(deepcopy=False):
            self.study.enqueue_trial(space.start(case.plan.table))  # the method as it stands
        self.running = deque(self._left())
        self.idle, self.began = 0, math.nan
        done = [job.id for trial in self.trials("COMPLETE", "PRUNED", "FAIL") for job in self.jobs(trial.params)]
        self.evaluations = sum(row.nfev for row in store.runs(problem=case.problem, method=case.plan.label)
                               if row.id in set(done))  # fmt: skip

    @property
    def measure(self) -> str:
        """What is to be small."""
        target = "target" in self.case.plan.table
        return "work to the target" if target else "final objective"

    @property
    def plan(self) -> str:
        """What is about to be done."""
        parts = [f"{value:,g} {name}" for name, value in self.effort._asdict().items()
                 if name in ("trials", "seconds", "evaluations") and value is not None]  # fmt: skip
        runs = f" of {self.seeds} runs" if self.seeds > 1 else ""
        there = len(self.trials())
        return (f"{self.case.plan.label} on {self.case.problem}: {' or '.join(parts)}{runs}"
                f"{f', {there} of them there already' if there else ''}; the {self.measure} over "
                f"{', '.join(self.space.axes)}")  # fmt: skip

    def trials(self, *states: str) -> list[Any]:
        """Trials that have all their parameters, of these states."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if (not states or trial.state.name in states)
                and set(self.space.axes) <= set(trial.params)]  # fmt: skip

    def _left(self) -> list[Attempt]:
        """What an interrupted call has left."""
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.name == "RUNNING" and not set(self.space.axes) <= set(trial.params):
                self.study.tell(trial.number, state=_state("FAIL"))  # before it had begun
        return [Attempt(self, trial.number, trial.params) for trial in self.trials("RUNNING")]

    def jobs(self, parameters: dict[str, Any]) -> list[Job]:
        """The runs of a trial."""
        return jobs_of(self.case, self.space, parameters)

    def propose(self) -> Attempt | None:
        """The next trial, if there is to be one."""
        from optuna.samplers import TPESampler

        if self.running:
            return self.running.popleft()
        now, effort = time.perf_counter(), self.effort
        self.began = now if math.isnan(self.began) else self.began
        if effort.trials is not None and len(self.trials()) >= effort.trials:
            return None
        if effort.evaluations is not None and self.evaluations >= effort.evaluations:
            return None
        if (effort.seconds is not None and now >= self.began + effort.seconds) or self.idle >= IDLE:
            return None
        count = len(self.trials())  # not those cut off before they began: the same draws as without an interruption
        seed = int(np.random.SeedSequence([effort.seed, zlib.crc32(self.name.encode()), count]).generate_state(1)[0])
        self.study.sampler = TPESampler(seed=seed, multivariate=True, constant_liar=effort.several)
        trial = self.study.ask(self.space.distributions)
        self.idle += 1
        return Attempt(self, trial.number, trial.params)

    def value(self, row: Row) -> float:
        """What a run was worth: the less, the better."""
        if row.code == NOT_FINITE or not math.isfinite(row.fun):
            return math.inf
        if "target" not in row.spec["options"]:
            return row.fun
        options, rule = row.spec["options"], is_rule(row.spec["method"]["method"].lower())
        target, work = build(row.spec).options["f_target"], row.epochs if math.isfinite(row.epochs) else float(row.nfev)
        if row.fun <= target:
            return work
        start = self.store.curve(row.id)["fun"][0]
        left = (row.fun - target) / (start - target) if math.isfinite(start) and start > target else 1.0
        return max(work, passes(options, options.get("batch_size") if rule else None, rule)) * (1.0 + left)

    def tell(self, number: int, state: str, value: float | None = None) -> None:
        """A trial has ended."""
        self.study.tell(number, value, state=_state(state))

    @property
    def best(self) -> Any:
        """The trial with the least value, the first of several; None where there is none."""
        ended = [trial for trial in self.trials("COMPLETE") if math.isfinite(trial.value)]
        return min(ended, key=lambda trial: trial.value, default=None)


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]


class Attempt:
    """A trial on its way: its runs, one a seed."""

    def __init__(self, tuner: Tuner, number: int, parameters: dict[str, Any]):
        self.tuner, self.number, self.jobs = tuner, number, tuner.jobs(parameters)
        trial = tuner.kept.get_trial_id_from_study_id_trial_number(tuner.id, number)
        self.pruning = Pruning(str(tuner.store.path.absolute().with_name(TUNING)), tuner.name, trial,
                               tuner.effort.pruner, tuner.seeds)  # fmt: skip
        self.left: set[str] = set()  # runs that are being made

    @property
    def prunes(self) -> bool:
        return self.tuner.effort.pruner != "none"

    def next(self) -> list[Job] | None:
        """Runs to be made now; none where optuna was told what came of the trial."""
        tuner = self.tuner
        found = {row.id: row for row in tuner.store.runs(id=[job.id for job in self.jobs])}
        rows = [found[job.id] for job in self.jobs if job.id in found and found[job.id].status in ("done", "failed")]
        waiting = [job for job in self.jobs if job.id not in {row.id for row in rows}]
        if any(row.status == "failed" for row in rows):
            tuner.tell(self.number, "FAIL")
        elif any(row.pruned for row in rows):
            tuner.tell(self.number, "PRUNED")
        elif not waiting:
            tuner.tell(self.number, "COMPLETE", self._median(rows))
        elif not self.prunes:
            return chunks_of(waiting, {}, 1)[0]
        elif not rows:
            return waiting[:1]
        elif self.pruning.prunes(REPORTS + len(rows), self._median(rows)):
            tuner.tell(self.number, "PRUNED")
        else:
            return chunks_of(waiting, dict.fromkeys([job.id for job in waiting], rows[-1].seconds), 1)[0]
        return None

    def _median(self, rows: Sequence[Row]) -> float:
        return median(self.tuner.value(row) for row in rows)


class Proposals(Source):
    """The runs of trials that optuna proposes, as long as the effort allows."""

    ahead = 1  # who asks later knows more

    def __init__(self, tuners: Sequence[Tuner], store: Store, screen: progress.Quiet):
        super().__init__()
        self.tuners, self.store, self.screen = list(tuners), store, screen
        self.ready: deque[Attempt] = deque()
        self.flying: dict[str, list[Attempt]] = {}  # runs that are being made, and for whom

    def take(self) -> list[Job] | None:
        """The next runs of a trial; new trials where none wait."""
        while (attempt := self._attempt()) is not None:
            chunk = attempt.next()
            if chunk is None:
                best = attempt.tuner.best
                name = f"{attempt.tuner.case.plan.label} on {attempt.tuner.case.problem}"
                self.screen.tried(name, None if best is None else best.value)
                continue
            fresh = [job for job in chunk if job.id not in self.flying]
            for job in chunk:
                self.flying.setdefault(job.id, []).append(attempt)
            attempt.left = {job.id for job in chunk}
            if fresh:
                self.store.add(fresh)
                return fresh
        return None

    def _attempt(self) -> Attempt | None:
        if self.ready:
            return self.ready.popleft()
        return next((attempt for tuner in self.tuners if (attempt := tuner.propose()) is not None), None)

    def submit(self, workers: Pool, chunk: list[Job], place: Place) -> Future:
        """Let a worker make them; the first of a trial is one that the pruner sees, where it can be reached."""
        attempt = self.flying[chunk[0].id][0]
        if attempt.prunes and workers.here and chunk[0].id == attempt.jobs[0].id:
            return workers.submit(execute, chunk, place, attempt.pruning)
        return workers.submit(execute, chunk, place)

    def stored(self, chunk: Sequence[Job]) -> None:
        """Trials all of whose runs are there go on."""
        rows = {row.id: row for row in self.store.runs(id=[job.id for job in chunk])}
        for job in chunk:
            attempts = self.flying.pop(job.id)
            attempts[0].tuner.evaluations += rows[job.id].nfev
            for attempt in attempts:
                attempt.tuner.idle = 0
                attempt.left.discard(job.id)
                if not attempt.left:
                    self.ready.append(attempt)
