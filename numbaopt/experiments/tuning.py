"""Tunes methods: optuna proposes settings, runs of the study try them, in its store; ``numbaopt tune FILE``."""

from __future__ import annotations

import json
import math
import os
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from . import machine, progress
from .build import build
from .config import Case, cases
from .execute import Place
from .lock import Lock
from .pruning import PRUNERS, quiet, require_optuna, storage
from .rows import Header
from .runner import checkpoints, make_folder, run_all
from .schedulers import pool
from .schema import ExperimentError, unknown
from .spaces import Parameters, as_key, as_toml, default_axes
from .store import FILE, TUNING, Store
from .trials import Effort, Proposals, Tuner, jobs_of

TRIALS = 50  # where no budget is given


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
                with pool(effort.jobs, effort.scheduler) as workers:
                    commit = machine.commit(str(file.absolute().parent))
                    place = Place(str(folder.absolute().parent), workers.width, commit,
                                  1 if effort.several else None)  # fmt: skip
                    run_all(store, workers, Proposals(tuners, store, screen), place, screen)
            finally:
                screen.end()
                with suppress(ExperimentError):  # such as a full disk, which was told before
                    store.release()
        return [_tuned(tuner) for tuner in tuners]


def _command(file: Path, methods: Sequence[str], problems: Sequence[str], effort: Effort) -> str:
    """What asks for the same, but for data and plugins."""
    words = ["numbaopt", "tune", file.name]
    words += [word for name in methods for word in ("--method", name)]
    words += [word for name in problems for word in ("--problem", name)]
    words += [word for name, value in effort._asdict().items() if name not in ("jobs", "scheduler")
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
            first = next(iter(jobs_of(case, parameters, parameter_set)))
        build(first.spec)
    except ExperimentError as error:
        raise ExperimentError(f"{file}: {error}") from None
    except ValueError as error:
        raise ExperimentError(f"{file}: problems.{case.table.name}: {error}") from None
    return parameters


def _tuned(tuner: Tuner) -> Tuned:
    """What has come of it so far."""
    case, ended = tuner.case, tuner.trials()
    states, best, plan = Counter(trial.state.name for trial in ended), tuner.best, case.plan
    trials = {"complete": states["COMPLETE"], "pruned": states["PRUNED"], "failed": states["FAIL"]}
    first = next((trial for trial in tuner.trials("COMPLETE") if trial.number == 0 and not plan.axes), None)
    before = math.nan if first is None else first.value
    if best is None:
        return Tuned(case.problem, plan.label, trials, math.nan, tuner.measure, {}, {}, before)
    plain, searched = tuner.space.plain(best.params), {axis.keys[0] for axis in tuner.space.axes.values()}
    keys = dict.fromkeys(("method", *case.said, *plain))
    table = {key: plain[key] for key in keys if key in plain and (key in case.said or key in searched)}
    return Tuned(case.problem, plan.label, trials, best.value, tuner.measure, tuner.space.settings(best.params), table,
                 before)  # fmt: skip


def as_object(tuned: Tuned) -> str:
    """A line of JSON for other programs."""
    return json.dumps(progress.finite({**tuned._asdict(), "toml": tuned.toml}), allow_nan=False)
