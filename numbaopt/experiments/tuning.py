"""Tunes methods: optuna proposes settings, runs of the study try them, in its store; ``numbaopt tune FILE``."""

from __future__ import annotations

import json
import math
import os
import shlex
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..status import NOT_FINITE
from . import machine, progress
from .build import build
from .config import Case, cases
from .estimates import passes
from .execute import Place, execute
from .jobs import Job
from .lock import Lock
from .methods import is_rule
from .pruning import PRUNERS, REPORTS, Pruning, digest_of, pruner_of, quiet, require_optuna, storage
from .runner import Source, checkpoints, chunks_of, make_folder, run_all
from .schedulers import Pool, pool
from .schema import ExperimentError, unknown
from .spaces import Parameters, as_key, as_toml, default_axes
from .store import FILE, TUNING, Header, Row, Store

TRIALS = 50  # where no budget is given
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


class Tuned(NamedTuple):
    """What came of tuning a method on a problem.

    Attributes
    ----------
    problem, method : str
    trials : dict of str to int
        How many are complete, pruned and failed.
    value : float
        The best; nan where there is none.
    measure : str
        What it is.
    settings : dict
        The best, by the names that tables have for fields.
    table : dict
        The method's table of a file, with them.
    before : float
        The value of the method as the file has it, where ranges are the default ones; else nan.
    """

    problem: str
    method: str
    trials: dict[str, int]
    value: float
    measure: str
    settings: dict[str, Any]
    table: dict[str, Any]
    before: float

    @property
    def toml(self) -> str:
        """The method's line in a file."""
        return f"{as_key(self.method)} = {as_toml(self.table)}" if self.table else ""


def tune(file: str | os.PathLike, out: str | os.PathLike, methods: Sequence[str] = (), problems: Sequence[str] = (),
         effort: Effort = Effort(), data: Any = None, plugins: Sequence[Any] = (),  # noqa: B008
         show: Callable[[Store], Any] = progress.Trials) -> list[Tuned]:  # fmt: skip
    """Search for the best settings of methods on problems of a study, each for each.

    The lists and ranges of a method's table are what is searched; where it has none, `spaces.default_axes` of the table
    is, and the first trial is the method as it stands.  A trial is a run for every seed of the study, its value their
    median final objective; where the study has a target, the evaluations (epochs, of a model) that it took to get
    there.  Runs that miss the target count what they were allowed, and of that the part of the way that they left once
    more; those that diverged are infinitely bad.  Optuna's median or hyperband pruner sees the curve of a trial's first
    run, eight times, and the median after each further one; runs of milliseconds are sooner made without.  Every run is
    in the study's store, all trials are in optuna's storage beside it: the same call goes on from there, however the
    last one ended.

    Parameters
    ----------
    file, data, plugins
        As for `load`.
    out : path
        The folder; made where needed, it may hold runs of the same file.
    methods, problems : sequence of str
        As for `config.cases`.
    effort : Effort
    show : callable
        ``show(store)``, a `progress.Quiet`: what is shown meanwhile.

    Returns
    -------
    list of Tuned

    Raises
    ------
    ExperimentError
        If optuna is missing, the file or a name is wrong, a method has nothing to tune, or the folder cannot be used.

    References
    ----------
    Akiba, T., Sano, S., Yanase, T., Ohta, T., Koyama, M. (2019). Optuna: a next-generation hyperparameter optimization
    framework. doi:10.1145/3292500.3330701

    Bergstra, J., Bardenet, R., Bengio, Y., Kégl, B. (2011). Algorithms for hyper-parameter optimization. Advances in
    Neural Information Processing Systems 24.

    Examples
    --------
    Gradient descent on a bowl whose curvatures lie between 1 and 10: the best rate is 2 / 11.

    >>> import pathlib, tempfile
    >>> from numbaopt.experiments import Effort, tune
    >>> from numbaopt.experiments.progress import Quiet
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "study.toml").write_text('''
    ... [methods]
    ... gd = { method = "gd", lr = { low = 0.01, high = 1.0, scale = "log" } }
    ... [problems.bowl]
    ... problem = "quadratic"
    ... condition = 10.0
    ... maxiter = 50
    ... ''')
    >>> tuned, = tune(folder / "study.toml", folder / "out", effort=Effort(trials=20, pruner="none"), show=Quiet)
    >>> tuned.trials, 0.15 < tuned.settings["lr"] < 0.2
    ({'complete': 20, 'pruned': 0, 'failed': 0}, True)
    """
    require_optuna()
    if effort.pruner not in PRUNERS:
        raise unknown("pruner", effort.pruner, effort.pruner, PRUNERS)
    if effort.trials is effort.seconds is effort.evaluations is None:
        effort = effort._replace(trials=TRIALS)
    file, out = Path(file), Path(out)
    command = _command(file, methods, problems, effort)
    title, found = cases(file, methods, problems, data, plugins)
    spaces = [_space(file, case) for case in found]
    make_folder(out)
    with (Lock(out), _store(out, file, title, found, command) as store, quiet(),
          storage(out.absolute() / TUNING) as kept):  # fmt: skip
        tuners = [Tuner(case, space, store, kept, effort) for case, space in zip(found, spaces, strict=True)]
        store.release()
        screen = show(store)
        with checkpoints(out, store.waiting()) as folder:
            screen.begin((effort.trials or 0) * len(tuners), "\n".join(tuner.plan for tuner in tuners))
            try:
                with pool(effort.jobs) as workers:
                    commit = machine.commit(str(file.absolute().parent))
                    place = Place(str(folder.absolute().parent), workers.width, commit,
                                  1 if workers.width > 1 else None)  # fmt: skip
                    run_all(store, workers, Proposals(tuners, store, screen), place, screen)
            finally:
                screen.end()
                with suppress(ExperimentError):  # such as a full disk, which was told before
                    store.release()
        return [tuner.result() for tuner in tuners]


def _command(file: Path, methods: Sequence[str], problems: Sequence[str], effort: Effort) -> str:
    """What asks for the same, but for data and plugins."""
    words = ["numbaopt", "tune", file.name]
    words += [word for name in methods for word in ("--method", name)]
    words += [word for name in problems for word in ("--problem", name)]
    words += [word for name, value in effort._asdict().items() if name != "jobs"
              and value != Effort._field_defaults[name] for word in (f"--{name}", f"{value}")]  # fmt: skip
    return shlex.join(words)


def _store(out: Path, file: Path, title: str, found: Sequence[Case], command: str) -> Store:
    """The store in a folder, made where there is none."""
    header = Header(title, file.name, file.read_text("utf-8"), tuple(dict.fromkeys(case.problem for case in found)),
                    tuple(dict.fromkeys(case.plan.label for case in found)), command)  # fmt: skip
    if not (out / FILE).exists():
        return Store.create(out, header)
    store = Store.open(out, write=True)
    try:
        old = store.header
        if old.file != file.name:
            raise ExperimentError(f"{out} holds another study, {old.title!r} of {old.file}; choose another --out")
        store.declare(header._replace(problems=tuple(dict.fromkeys((*old.problems, *header.problems))),
                                      methods=tuple(dict.fromkeys((*old.methods, *header.methods)))),
                      store.waiting())  # fmt: skip
    except BaseException:
        store.close()
        raise
    return store


def _space(file: Path, case: Case) -> Parameters:
    """What is searched for a case; every end of it makes a run."""
    plan = case.plan
    try:
        parameters = Parameters(plan.table, plan.axes or default_axes(plan.table))
        if not parameters.axes:
            raise ExperimentError(f"{plan.where}: nothing of method {plan.table['method']!r} is tuned unless the file "
                                  "says what, as in lr = { low = 0.001, high = 1, scale = 'log' }")  # fmt: skip
        for parameter_set in parameters.corners():
            first = next(iter(_jobs(case, parameters, parameter_set)))
        build(first.spec)
    except ExperimentError as error:
        raise ExperimentError(f"{file}: {error}") from None
    except ValueError as error:
        raise ExperimentError(f"{file}: problems.{case.table.name}: {error}") from None
    return parameters


def _jobs(case: Case, space: Parameters, parameters: dict[str, Any]) -> list[Job]:
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
        done = [job.id for trial in self._trials("COMPLETE", "PRUNED", "FAIL") for job in self.jobs(trial.params)]
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
        there = len(self._trials())
        return (f"{self.case.plan.label} on {self.case.problem}: {' or '.join(parts)}{runs}"
                f"{f', {there} of them there already' if there else ''}; the {self.measure} over "
                f"{', '.join(self.space.axes)}")  # fmt: skip

    def _trials(self, *states: str) -> list[Any]:
        """Trials that have all their parameters, of these states."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if (not states or trial.state.name in states)
                and set(self.space.axes) <= set(trial.params)]  # fmt: skip

    def _left(self) -> list[Attempt]:
        """What an interrupted call has left."""
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.name == "RUNNING" and not set(self.space.axes) <= set(trial.params):
                self.study.tell(trial.number, state=_state("FAIL"))  # before it had begun
        return [Attempt(self, trial.number, trial.params) for trial in self._trials("RUNNING")]

    def jobs(self, parameters: dict[str, Any]) -> list[Job]:
        """The runs of a trial."""
        return _jobs(self.case, self.space, parameters)

    def propose(self) -> Attempt | None:
        """The next trial, if there is to be one."""
        from optuna.samplers import TPESampler

        if self.running:
            return self.running.popleft()
        now, effort = time.perf_counter(), self.effort
        self.began = now if math.isnan(self.began) else self.began
        if effort.trials is not None and len(self._trials()) >= effort.trials:
            return None
        if effort.evaluations is not None and self.evaluations >= effort.evaluations:
            return None
        if (effort.seconds is not None and now >= self.began + effort.seconds) or self.idle >= IDLE:
            return None
        count = len(self._trials())  # not those cut off before they began: the same draws as without an interruption
        seed = int(np.random.SeedSequence([effort.seed, zlib.crc32(self.name.encode()), count]).generate_state(1)[0])
        self.study.sampler = TPESampler(seed=seed, multivariate=True, constant_liar=effort.jobs > 1)
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
        target, work = build(row.spec).budget.target, row.epochs if math.isfinite(row.epochs) else float(row.nfev)
        assert target is not None
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
        ended = [trial for trial in self._trials("COMPLETE") if math.isfinite(trial.value)]
        return min(ended, key=lambda trial: trial.value, default=None)

    def result(self) -> Tuned:
        """What has come of it so far."""
        states, best, plan = Counter(trial.state.name for trial in self._trials()), self.best, self.case.plan
        trials = {"complete": states["COMPLETE"], "pruned": states["PRUNED"], "failed": states["FAIL"]}
        first = next((trial for trial in self._trials("COMPLETE") if trial.number == 0 and not plan.axes), None)
        before = math.nan if first is None else first.value
        if best is None:
            return Tuned(self.case.problem, plan.label, trials, math.nan, self.measure, {}, {}, before)
        plain, searched = self.space.plain(best.params), {axis.keys[0] for axis in self.space.axes.values()}
        keys = dict.fromkeys(("method", *self.case.said, *plain))
        table = {key: plain[key] for key in keys if key in plain and (key in self.case.said or key in searched)}
        return Tuned(self.case.problem, plan.label, trials, best.value, self.measure, self.space.settings(best.params),
                     table, before)  # fmt: skip


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
        return float(np.median([self.tuner.value(row) for row in rows]))


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
                self.screen.tried("" if best is None else f"{attempt.tuner.name.rpartition(', ')[0]}: {best.value:.6g}")
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
        """Let a worker make them; the first of a trial is one that the pruner sees."""
        attempt = self.flying[chunk[0].id][0]
        if attempt.prunes and chunk[0].id == attempt.jobs[0].id:
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


def as_object(tuned: Tuned) -> str:
    """A line of JSON for other programs."""
    return json.dumps(progress.finite({**tuned._asdict(), "toml": tuned.toml}), allow_nan=False)
