"""Makes runs, in any process on any machine: from jobs, which are data, to outcomes, which are data.

Runs of one function that differ only in numbers (fields of the method, starts) are one call of compiled code,
`numbaopt.minimize_many`; whether a run is made that way depends on the run alone, so its result does not depend on
which others it is with.  All others are made one by one, the long ones from checkpoints of their own.
"""

from __future__ import annotations

import errno
import json
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numba
import numpy as np
from numba.core.dispatcher import Dispatcher

from ..many import minimize_many
from ..optimizers._program import parts_of
from ..pool import MANY_OPTIONS
from ..resume import resume
from ..schedules import plateau_of
from ..solvers import solver_of
from ..status import RAISED, STOPPED, message_of
from . import machine
from .build import Built, build
from .curves import RECORDED, kept
from .estimates import seconds_of
from .jobs import Job, Outcome
from .schema import ExperimentError

MOST_UNKNOWNS = 1000  # answers longer than this are not written down
LONG_SECONDS = 20.0  # runs that should take longer have checkpoints
ROUNDS = 3  # in which a run is timed
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EIO)
CHECKPOINTS = "checkpoints"


class Place(NamedTuple):
    """Where runs are made: what their process must know beside their jobs."""

    folder: str | None = None  # of the study, for checkpoints
    processes: int = 1  # of ours that compute at the same time
    commit: str = ""
    threads: int | None = None  # of Numba's, at most
    long: frozenset[str] | None = None  # ids of runs that have checkpoints; None: to be found out


class Watch(Protocol):
    """Sees a run on its way, as a callback of `numbaopt.minimize` does, and may end it by StopIteration.

    ``every`` is how many steps of a function lie between two looks, ``message`` what it then says of the run.
    """

    every: int
    message: str

    def __call__(self, intermediate_result: Any) -> None: ...


def execute(jobs: Sequence[Job], place: Place = Place(), watch: Callable[[Job, Built], Watch] | None = None) \
        -> list[tuple[str, Outcome]]:  # fmt: skip  # noqa: B008  a constant
    """Make runs.

    Parameters
    ----------
    jobs : sequence of Job
    place : Place
    watch : callable, optional
        ``watch(job, built)``: who looks at each run; all are then made one by one.

    Returns
    -------
    list of (id, Outcome)
        In the order of the jobs.  An exception of a run makes it a failed one, with its traceback.

    Raises
    ------
    ExperimentError
        If a checkpoint cannot be written.

    Examples
    --------
    >>> from numbaopt.experiments.execute import execute
    >>> from numbaopt.experiments.jobs import Job
    >>> spec = {"problem": {"problem": "saddle"}, "method": {"method": "adam", "lr": 0.1}, "seed": 0,
    ...         "options": {"maxiter": 200}, "files": {},
    ...         "places": {"folder": ".", "data": None, "plugins": []}}
    >>> [(name, outcome)] = execute([Job("saddle", "Adam", {}, 0, spec)])
    >>> outcome.status, bool(outcome.fun < -0.2), bool(outcome.nit == outcome.curve["step"][-1])
    ('done', True, True)
    """
    if place.threads is not None:
        numba.set_num_threads(min(place.threads, numba.config.NUMBA_NUM_THREADS))
    found: dict[str, Outcome] = {}
    batches: dict[Any, list[tuple[Job, Built]]] = {}
    for job in jobs:
        try:
            built = build(job.spec)
        except Exception:
            found[job.id] = _failed(_about(place))
            continue
        if watch is not None:
            found[job.id] = _one(job, built, place, watch(job, built))
        elif (key := _kind(job, built)) is None:
            found[job.id] = _one(job, built, place)
        else:
            batches.setdefault(key, []).append((job, built))
    for batch in batches.values():
        found |= _many(batch, place)
    return [(job.id, found[job.id]) for job in jobs]


def timed(jobs: Sequence[Job], place: Place = Place()) -> Iterator[tuple[str, Outcome]]:  # noqa: B008
    """Make runs for the sake of their time: one by one, after a first one that leaves nothing to compile.

    Each is made in several rounds over all of them, so that what disturbs the machine for a while disturbs none alone;
    the outcome is that of the round with the median time, or of the first that failed.
    """
    for job in jobs:
        with suppress(Exception):  # it will be told by the rounds
            built = build(job.spec)
            least = {"epochs": 1} if "epochs" in built.options else {"maxiter": 1}
            _solve(built._replace(options={**built.options, **least}), None)
    rounds = [[_attempt(job, place) for job in jobs] for _ in range(ROUNDS)]
    for job, *outcomes in zip(jobs, *rounds, strict=True):
        failed = [outcome for outcome in outcomes if outcome.status == "failed"]
        told = failed[0] if failed else sorted(outcomes, key=lambda outcome: outcome.seconds)[len(outcomes) // 2]
        sound = all(outcome.about.get("timed") for outcome in outcomes)
        yield job.id, told._replace(about={**told.about, "timed": sound, "rounds": ROUNDS})


def _kind(job: Job, built: Built) -> Any:
    """Jobs of the same kind differ only in numbers; None where a run is made alone."""
    task, opt = built.task, built.method
    if not isinstance(task.fun, Dispatcher) or not set(built.options) <= set(MANY_OPTIONS):
        return None
    if isinstance(opt, str) or not hasattr(solver_of(opt), "settings_for") or plateau_of(opt.lr) is not None:
        return None
    parts = tuple(f"{type(part).__module__}.{type(part).__qualname__}" for part in parts_of(opt))
    sizes = {name: value for part in parts_of(opt) if hasattr(part, "solver") for name, value in part._asdict().items()}
    automatic = getattr(type(opt.lr), "automatic", False)
    same = {key: value for key, value in built.options.items() if key != "f_target"}
    return json.dumps([job.spec["problem"], job.spec["places"], same, parts, automatic, sizes], default=repr)


def _many(batch: list[tuple[Job, Built]], place: Place) -> dict[str, Outcome]:
    """Make runs that differ only in numbers by one call; those whose objective raises once more, to hear of it."""
    first = batch[0][1]
    about, task = _about(place, len(batch)), first.task
    methods = [built.method for _, built in batch]
    starts = np.array([built.task.x0 for _, built in batch])
    try:
        with _heard(about):
            targets = [built.options.get("f_target", -np.inf) for _, built in batch]
            options = {**first.options, "f_target": targets, "history": RECORDED, "path": starts.shape[1] == 2}
            result = minimize_many(task.fun, starts, task.args, False, methods, task.jac, options=options)
    except Exception:
        if len(batch) == 1:
            return {batch[0][0].id: _failed(about)}
        return {name: outcome for one in batch for name, outcome in _many([one], place).items()}
    found = {}
    for i, (job, built) in enumerate(batch):
        if result.status[i] == RAISED:
            found[job.id] = _one(job, built, place)
            continue
        one = {"x": result.x[i], "fun": float(result.fun[i]), "status": int(result.status[i]),
               "nit": int(result.nit[i]), "nfev": int(result.nfev[i])}  # fmt: skip
        one |= {"message": message_of(one["status"], int(result.reason[i])), "history": result.history[i]}
        path = result.path[i] if "path" in result else None
        found[job.id] = _done(one, built, about, path, float(result.history[i]["seconds"][-1]))
    return found


def _about(place: Place, share: int = 1) -> dict[str, Any]:
    return machine.about(place.processes, share) | {"commit": place.commit}


def _attempt(job: Job, place: Place) -> Outcome:
    """Make one run whose problem may not be there."""
    try:
        built = build(job.spec)
    except Exception:
        return _failed(_about(place))
    return _one(job, built, place)


def _one(job: Job, built: Built, place: Place, watch: Watch | None = None) -> Outcome:
    """Make one run, from its checkpoint if it has one."""
    about = _about(place)
    try:
        with _heard(about):
            saved = _checkpoint(job, built, place)
            result, seconds = _solve(built, saved, watch)
            path = _path(built, result) if len(result["x"]) == 2 else None
        if watch is not None and watch.message and result.status == STOPPED:
            result = {**result, "message": watch.message}
        return _done(result, built, about, path, seconds)
    except OSError as error:
        if error.errno in NO_ROOM and place.folder is not None:
            what = (error.strerror or str(error)).lower()
            raise ExperimentError(f"{error.filename or place.folder}: {what}") from None
        return _failed(about)
    except Exception:
        return _failed(about)


def _solve(built: Built, saved: Path | None, watch: Watch | None = None) -> tuple[Any, float]:
    """The result of a run and its seconds, those before an interruption included."""
    task = built.task
    if saved is not None and saved.is_file():
        try:
            result = resume(saved, task.fun, task.args, task.jac, watch)
            return result, float(result.history["seconds"][-1])
        except ValueError:  # of another version, or damaged: from the start
            saved.unlink()
    checkpoint = {} if saved is None else {"checkpoint": saved}
    begin = time.perf_counter()
    options = {**built.options, "history": RECORDED, **checkpoint}
    result = task.solved_by(built.method, options, watch)
    spent = time.perf_counter() - begin
    history = result.get("history")
    return result, spent if history is None or not len(history) else float(history["seconds"][-1])


def _checkpoint(job: Job, built: Built, place: Place) -> Path | None:
    """Where a run that may take long saves itself; there may be a beginning of it."""
    if place.folder is None or not (folder := Path(place.folder, CHECKPOINTS)).is_dir():
        return None
    path = folder / f"{job.id}.npz"
    if folder.is_symlink() or path.is_symlink():
        raise ExperimentError(f"{path} is reached by a symbolic link; name the place itself")
    solver = None if isinstance(built.method, str) else built.method
    if solver is not None and callable(solver.lr) and not hasattr(type(solver.lr), "rate"):
        return None  # a function cannot be written down
    lasting = seconds_of(job) > LONG_SECONDS if place.long is None else job.id in place.long
    return path if lasting or path.exists() else None


def _path(built: Built, result: Any) -> np.ndarray | None:
    """The points of the history's rows of a run of two unknowns: made once more, so as not to be timed with it."""
    points = {0: np.array(built.task.x0)}

    def keep(intermediate_result: Any) -> None:
        points[intermediate_result.nit] = intermediate_result.x

    same = {"maxiter": int(result["nit"]), "max_seconds": None, "history": 2}
    built.task.solved_by(built.method, {**built.options, **same}, keep)
    steps = result["history"]["step"]
    return np.array([points[step] for step in steps]) if set(steps.tolist()) <= set(points) else None


def _done(result: Any, built: Built, about: dict[str, Any], path: np.ndarray | None, seconds: float) -> Outcome:
    """What came of a run."""
    history, x = result.get("history"), np.asarray(result["x"], float)
    batches = history is not None and "epoch" in history.dtype.names
    of_terms = hasattr(built.task.fun, "n_terms")
    epochs = float(history["epoch"][-1]) if batches else float(result["nit"]) if of_terms else np.nan
    curve: dict[str, np.ndarray] = {}
    if history is not None:
        step = history["step"].astype(float)
        epoch = history["epoch"] if batches else step if of_terms else np.full(len(step), np.nan)
        evaluations = step if batches else history["nfev"]
        curve = {"step": step, "epoch": epoch, "nfev": evaluations, "seconds": history["seconds"],
                 "fun": history["fun"], "grad_norm": history["grad_norm"], "lr": history["lr"]}  # fmt: skip
        if path is not None:
            curve |= {"x1": path[:, 0], "x2": path[:, 1]}
        rows = kept(history["fun"])
        curve = {name: column[rows] for name, column in curve.items()}
    with np.errstate(all="ignore"):
        metrics = {name: float(value) for name, value in built.task.judge(x).items()}
    nit, nfev = int(result["nit"]), int(result["nit"] if batches else result["nfev"])
    return Outcome("done", float(result["fun"]), x if x.size <= MOST_UNKNOWNS else None, int(result["status"]),
                   str(result["message"]), nit, nfev, epochs, seconds, metrics, curve, about)  # fmt: skip


def _failed(about: dict[str, Any]) -> Outcome:
    """A run that the exception now handled has ended."""
    return Outcome("failed", about=about, error=traceback.format_exc())


@contextmanager
def _heard(about: dict[str, Any]) -> Iterator[None]:
    """Warnings within it go into ``about``."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            if told := list(dict.fromkeys(str(warning.message) for warning in caught)):
                about["warnings"] = told
