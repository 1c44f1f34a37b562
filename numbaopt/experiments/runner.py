"""Runs every method of an experiment on every problem that it declares."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import scipy

from .. import plotting
from ..minimize import minimize
from ..status import NOT_FINITE
from .config import Experiment, Method, Trial
from .problems import Task
from .report import Table, as_csv, as_json, picture, write
from .schema import ExperimentError

FORMAT = 1  # of results.json
MOST_REPEATS, REPEAT_SECONDS = 10, 0.2
MOST_UNKNOWNS = 1000  # answers longer than this are not written down


class Record(NamedTuple):
    """One method's run on one problem."""

    method: Method
    result: Any
    seconds: float  # per epoch on data, else per step
    shown: dict[str, float]  # columns of the table
    path: np.ndarray | None  # of two unknowns


def run(experiment: Experiment, out: str | Path, echo: Callable[[str], Any] = print) -> dict[str, dict[str, Record]]:
    """Run an experiment, print its tables, and write results.json, curves (CSV) and pictures (PNG).

    Parameters
    ----------
    experiment : Experiment
        From `load`.
    out : path
        The folder to write to; made where needed.  Files of an earlier run are replaced, each at once.
    echo : callable
        What prints a line.

    Returns
    -------
    dict of dict of Record
        By the names of problems and methods.

    Raises
    ------
    ExperimentError
        If the data of a problem cannot be used.
    """
    import matplotlib.figure  # noqa: F401  before the work, not after it

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    tasks = {trial.name: _task(trial, experiment.file) for trial in experiment.trials}
    total = sum(len(trial.methods) for trial in experiment.trials)
    echo(f"{experiment.title}: {total} runs\n")
    records, summary = {}, []
    for trial in experiment.trials:
        task = tasks[trial.name]
        try:
            records[trial.name] = _run_trial(trial, task, echo)
        except ValueError as error:  # such as a schedule that gives no rate at some step
            raise ExperimentError(f"{experiment.file}: problems.{trial.name}: {error}") from None
        summary += _write_trial(trial, task, records[trial.name], out)
        echo("")
    versions = {"python": platform.python_version(), "numba": numba.__version__, "numpy": np.__version__,
                "scipy": scipy.__version__}  # fmt: skip
    write(out / "results.json", as_json({"format": FORMAT, "title": experiment.title, "file": experiment.file.name,
                                         "versions": versions, "runs": summary}))  # fmt: skip
    return records


def _task(trial: Trial, file: Path) -> Task:
    try:
        return trial.problem.task(file.parent)
    except ValueError as error:
        raise ExperimentError(f"{file}: problems.{trial.name}: {error}") from None


def _run_trial(trial: Trial, task: Task, echo: Callable[[str], Any]) -> dict[str, Record]:
    name, answer = task.reference
    on_data = hasattr(task.fun, "n_terms")
    known = {**dict(zip(task.unknowns, answer, strict=False)), "objective": task.value(answer), **task.judge(answer)}
    columns = [*known, "epochs" if on_data else "steps", "ms/epoch" if on_data else "us/step"]
    about = f"{task.about[0].upper()}{task.about[1:]}"
    table = Table(f"[{trial.name}] {about}", [*trial.methods, name], columns, echo)
    records = {}
    for label, method in trial.methods.items():
        record = records[label] = _run_method(task, method, on_data)
        table.row(label, record.shown, "diverged" if record.result.status == NOT_FINITE else "")
    table.row(name, known)
    return records


def _run_method(task: Task, method: Method, on_data: bool) -> Record:
    """One run for the numbers, after one that leaves nothing to compile; further ones for the time and for the path."""
    solve = partial(minimize, task.fun, task.x0, jac=task.jac, method=method.optimizer)
    solve(options={**method.options, "epochs": 1} if on_data else {**method.options, "maxiter": 1})
    seconds, result = _fastest(partial(solve, options=method.options))
    epochs = result.history.epoch[-1] if "epoch" in result.history.dtype.names else result.nit
    if "batch_size" in method.options:  # the passes over all data that judge every epoch are no part of training
        seconds, _ = _fastest(partial(solve, options={**method.options, "history": False}))
    else:
        seconds = float(result.history.seconds[-1])
    seconds /= max(1, epochs)
    shown = {**dict(zip(task.unknowns, map(float, result.x), strict=False)), "objective": float(result.fun),
             **task.judge(result.x)}  # fmt: skip
    shown |= {"epochs": int(epochs), "ms/epoch": 1e3 * seconds} if on_data else \
             {"steps": int(result.nit), "us/step": 1e6 * seconds}  # fmt: skip
    path = None
    if task.x0.size == 2:
        points = [task.x0]
        solve(callback=points.append, options=method.options)
        path = np.array(points)
    return Record(method, result, seconds, shown, path)


def _fastest(solve: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result of the fastest of equal runs, as many as fit into a short time: the machine is shared."""
    runs: list[tuple[float, Any]] = []
    while len(runs) < MOST_REPEATS and sum(seconds for seconds, _ in runs) < REPEAT_SECONDS:
        began = time.perf_counter()
        result = solve()
        runs.append((time.perf_counter() - began, result))
    return min(runs, key=lambda run: run[0])


def _write_trial(trial: Trial, task: Task, records: dict[str, Record], out: Path) -> list[dict[str, Any]]:
    """Curves and pictures of one problem; what results.json says of it."""
    results = {label: record.result for label, record in records.items()}
    on_data = hasattr(task.fun, "n_terms")
    name, answer = task.reference
    best = min([task.value(answer), *(result.fun for result in results.values() if np.isfinite(result.fun))])
    write(out / f"{trial.name}.csv", as_csv({label: result.history for label, result in results.items()}))
    convergence = partial(plotting.convergence, results)
    curves = partial(convergence, optimum=best)
    pictures: dict[str, tuple[Callable[[Any], Any], float]] = {}
    pictures["convergence"] = lambda ax: curves("epoch" if on_data else "step", ax=ax), plotting.HEIGHT
    if task.x0.size == 2:
        paths = {label: record.path for label, record in records.items()}
        one, two = (unknown.replace("x1", "$x_1$").replace("x2", "$x_2$") for unknown in task.unknowns)
        pictures["trajectories"] = (
            lambda ax: plotting.trajectories(task.value, paths, ax, task.minima, task.domain, names=(one, two)),
            1.2 * plotting.HEIGHT,
        )
    else:
        pictures["time"] = lambda ax: curves("seconds", ax=ax), plotting.HEIGHT
    if task.by_layer is not None:
        norms = {label: task.by_layer(x) for label, x in [(name, answer), *((k, r.x) for k, r in results.items())]}
        pictures["gradient"] = lambda ax: convergence("epoch", "grad_norm", ax=ax), plotting.HEIGHT
        pictures["layers"] = lambda ax: plotting.by_layer(norms, ax), plotting.HEIGHT
    for kind, (draw, height) in pictures.items():
        write(out / f"{trial.name}-{kind}.png", picture(draw, height))
    return [
        {
            "problem": trial.name, "method": label, "optimizer": method.optimizer, "options": method.options,
            "status": result.status, "message": result.message, "steps": result.nit, "objective": result.fun,
            "seconds_per_epoch" if on_data else "seconds_per_step": seconds, "shown": shown,
            "reference": {"name": name, "objective": best},
            "x": result.x if result.x.size <= MOST_UNKNOWNS else None,
        }
        for label, (method, result, seconds, shown, _) in records.items()
    ]  # fmt: skip
