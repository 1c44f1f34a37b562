"""Runs a study: what waits in its store is made somewhere, and stored as it comes."""

from __future__ import annotations

import json
import os
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import machine, progress
from .build import build
from .config import Study
from .estimates import estimate_of, seconds_of
from .execute import LONG_SECONDS, Place, execute, timed
from .jobs import Job, Outcome
from .lock import Lock
from .registry import PROBLEMS, check_named, load_plugins
from .rows import Header, Row
from .schedulers import Pool, pool
from .schema import Batches, ExperimentError
from .store import CHECKPOINTS, FILE, Store, check_places
from .words import duration

WORTH_PROCESSES = 10.0  # seconds of work: less is done before processes have started
CHUNK = 64  # runs that are made by one call, at most
CHUNK_SECONDS = 5.0  # that such a call should take: what is not stored yet, kill -9 takes
SECONDS_A_RUN = 0.005  # to store it


class How(NamedTuple):
    """How a study is run.

    Attributes
    ----------
    jobs : int or None
        Processes of this machine; None: one a core, where there is work for them.
    scheduler : str or None
        A Dask scheduler's address, or "local".
    timing : bool
        One run at a time, each in several rounds, for the sake of the times.
    retry : bool
        Whether runs that failed are made again.
    """

    jobs: int | None = None
    scheduler: str | None = None
    timing: bool = False
    retry: bool = False


def run(study: Study, out: str | os.PathLike, how: How = How(), show: Callable[[Store], Any] = progress.Tables) \
        -> dict[str, int]:  # fmt: skip  # noqa: B008
    """Run a study in a folder; where it has begun there already, go on, with what its file says now.

    Parameters
    ----------
    study : Study
        From `load`.
    out : path
        The folder; made where needed.
    how : How
    show : callable
        ``show(store)``, a `progress.Quiet`: what is shown meanwhile.

    Returns
    -------
    dict of str to int
        How many runs are waiting, running, done and failed.

    Raises
    ------
    ExperimentError
        If the folder cannot be written to, another process runs the study, or the folder has another one.
    """
    out = Path(out)
    make_folder(out)
    source = study.file.read_text("utf-8")
    commit = machine.commit(str(study.file.absolute().parent))
    header = Header(study.title, study.file.name, source, tuple(dict.fromkeys(job.problem for job in study.jobs)),
                    tuple(dict.fromkeys(job.method for job in study.jobs)), commit=commit)  # fmt: skip
    seconds = _expected(_left(out, study.jobs, how), study) if _builds_here(how) else {}
    with Lock(out):
        try:
            store = Store.open(out, write=True)
        except ExperimentError:
            if (out / FILE).exists():
                raise
            store = Store.create(out, header, study.jobs)
        with store:
            _require_same(store, study, out)
            _require_named(store, study)
            store.declare(header, study.jobs)
            return _go(store, out, how, show(store), seconds, commit)


def resume(
    out: str | os.PathLike,
    how: How = How(),  # noqa: B008
    show: Callable[[Store], Any] = progress.Tables,
    plugins: Sequence[str | os.PathLike] = (),
) -> dict[str, int]:
    """Go on with the study in a folder; see `run`.  Its plugins are run only if they are named here, too."""
    out = Path(out)
    Store.open(out).close()
    with Lock(out), Store.open(out, write=True) as store:
        for row in store.runs():  # those that are done, too: tables build their problems
            check_named(plugins, row.spec)
        load_plugins(plugins)
        seconds = _expected(store.waiting()) if _builds_here(how) else {}
        return _go(store, out, how, show(store), seconds, store.header.commit)


def make_folder(out: Path) -> None:
    """The folder of a study, if it can be one."""
    check_places(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExperimentError(f"{out}: {(error.strerror or str(error)).lower()}") from None


def _builds_here(how: How) -> bool:
    return how.scheduler in (None, "local")


def _left(out: Path, jobs: Sequence[Job], how: How) -> list[Job]:
    """Those that have not ended in this folder, if they began there at all."""
    if not (out / FILE).exists():
        return list(jobs)
    with Store.open(out) as store:
        ended = {row.id for row in store.runs(status=("done",) if how.retry else ("done", "failed"))}
    return [job for job in jobs if job.id not in ended]


def _require_same(store: Store, study: Study, out: Path) -> None:
    """Refuse a folder that has a study of other runs, or some under the same names that were made in another way."""
    rows = store.runs()
    there = {row.id for row in rows}
    same = store.header.source == study.file.read_text("utf-8") or any(job.id in there for job in study.jobs)
    if there and not same:
        raise ExperimentError(f"{out} holds another study, {store.header.title!r}; choose another --out")
    wanted = {_name(job): job.id for job in study.jobs}
    for row in rows:
        if row.status in ("done", "failed") and wanted.get(_name(row), row.id) != row.id:
            raise ExperimentError(f"{out} holds runs of {row.method!r} on {row.problem!r} from before the file was "
                                  f"changed; choose another --out")  # fmt: skip


def _require_named(store: Store, study: Study) -> None:
    """Refuse a folder with runs that are not the study's and need code that it does not name."""
    places = {job.id: job.spec["places"] for job in study.jobs}
    named = next(iter(places.values()))["plugins"]
    for row in store.runs():
        if row.id not in places:
            check_named(named, row.spec)


def _name(run: Job | Row) -> tuple[str, str, str, int]:
    """What tables call a run by."""
    return run.problem, run.method, json.dumps(run.settings, sort_keys=True), run.seed


def _expected(jobs: Sequence[Job], study: Study | None = None) -> dict[str, float]:
    """At most about how many seconds each job takes, by id.

    Raises
    ------
    ExperimentError
        If a problem cannot be made.
    """
    seconds: dict[str, float] = {}
    fails: dict[str, bool] = {}
    for job in jobs:
        if job.problem not in fails:
            try:
                build(job.spec)
            except ValueError as error:
                where = f"{study.file}: problems.{job.problem}" if study else f"problem {job.problem!r}"
                raise ExperimentError(f"{where}: {error}") from None
            fails[job.problem] = False
        if fails[job.problem]:
            continue
        try:
            seconds[job.id] = seconds_of(job)
        except ImportError:
            raise
        except Exception:  # of a user's function, perhaps: it will be told where it runs
            fails[job.problem] = True
    return seconds


def _go(store: Store, out: Path, how: How, screen: progress.Quiet, seconds: dict[str, float], commit: str) \
        -> dict[str, int]:  # fmt: skip
    """Make all runs that wait."""
    store.release(failed=how.retry)
    waiting = store.waiting()
    with checkpoints(out, waiting) as folder:
        work = sum(seconds.get(job.id, 0.0) for job in waiting)
        jobs = how.jobs or _worth(work, len(waiting), how)
        screen.begin(len(waiting), _plan(store, waiting, seconds, jobs, how))
        try:
            if how.timing:
                _time(store, waiting, Place(None, 1, commit), screen)
            elif waiting:
                with pool(jobs, how.scheduler) as workers:
                    several = workers.width > 1 or how.scheduler is not None
                    lasting = frozenset(name for name, took in seconds.items() if took > LONG_SECONDS)
                    place = Place(str(folder.absolute().parent), workers.width, commit, 1 if several else None,
                                  lasting if _builds_here(how) else None)  # fmt: skip
                    chunks = Source(chunks_of(waiting, seconds, workers.width))
                    run_all(store, workers, chunks, place, screen)
        finally:
            screen.end()
            with suppress(ExperimentError):  # such as a full disk, which was told before
                store.release()
    return store.counts()


def _worth(work: float, runs: int, how: How) -> int:
    """How many processes."""
    cores = machine.available_cores()
    if how.scheduler is not None:
        return cores
    return max(1, min(cores, runs)) if work > WORTH_PROCESSES and not how.timing else 1


def _plan(store: Store, waiting: Sequence[Job], known: dict[str, float], jobs: int, how: How) -> str:
    """How many runs there are, where they are made, and how long that may take."""
    counts = store.counts()
    total, there = sum(counts.values()), counts["done"] + counts["failed"]
    plan = f"{total} runs" + (f", {there} of them there already" if there else "")
    if not waiting:
        return plan
    if how.timing:
        return f"{plan}, one at a time"
    if how.scheduler not in (None, "local"):
        return f"{plan}, by {how.scheduler}"
    work = np.array([estimate_of(job)[1:] for job in waiting if job.id in known]).reshape(-1, 2).sum(axis=0)
    ends = dict.fromkeys(duration(seconds) for seconds in (work + SECONDS_A_RUN * len(waiting)) / jobs)
    where = f" in {jobs} processes" if jobs > 1 else ""
    return f"{plan}{where}, at most about {' to '.join(ends)} and what there is to compile"


def chunks_of(jobs: Sequence[Job], seconds: dict[str, float], width: int) -> list[list[Job]]:
    """Jobs that are made by one call: those of one function that differ only in numbers, few enough for all workers."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        spec = job.spec
        cls = PROBLEMS.get(spec["problem"].get("problem"))
        alone = cls is None or issubclass(cls, Batches) or "max_seconds" in spec["options"]
        key = job.id if alone else json.dumps([spec["problem"], spec["method"].get("method"), spec["options"]])
        groups.setdefault(key, []).append(job)
    chunks = []
    for group in groups.values():
        longest = max(seconds.get(job.id, 0.0) for job in group)
        size = min(CHUNK, -(-len(group) // width), max(1, int(CHUNK_SECONDS / max(longest, 1e-9))))
        chunks += [group[at : at + size] for at in range(0, len(group), size)]
    return chunks


class Source:
    """Chunks of jobs that wait, and how they are given to workers."""

    ahead = 2  # chunks that wait at a worker's door

    def __init__(self, chunks: Sequence[list[Job]] = ()):
        self.chunks = deque(chunks)

    def take(self) -> list[Job] | None:
        """The next chunk, if there is one now."""
        return self.chunks.popleft() if self.chunks else None

    def submit(self, workers: Pool, chunk: list[Job], place: Place) -> Future:
        """Let a worker make it."""
        return workers.submit(execute, chunk, place)

    def stored(self, chunk: Sequence[Job]) -> None:
        """What came of it is in the store."""


def run_all(store: Store, workers: Pool, source: Source, place: Place, screen: progress.Quiet) -> None:
    """Let workers make chunks of runs, and store what comes."""
    flying: dict[Future, list[Job]] = {}
    suspects: deque[list[Job]] = deque()  # what was made when a process was lost: once more, one by one

    def fly(chunk: list[Job]) -> None:
        store.start([job.id for job in chunk])
        flying[source.submit(workers, chunk, place)] = chunk

    while True:
        most = source.ahead * workers.width if workers.width > 1 else 1
        while len(flying) < most and (chunk := source.take()) is not None:
            fly(chunk)
        careful = not flying
        if careful:
            if not suspects:
                return
            fly(suspects.popleft())
        lost = False
        for future in wait(flying, return_when=FIRST_COMPLETED).done:
            chunk = flying.pop(future)
            outcomes, error = _come(future, chunk)
            if error is not None and (not careful or len(chunk) > 1):
                suspects += [[job] for job in chunk]
            else:
                _store(store, place, outcomes, screen)
                source.stored(chunk)
            lost = lost or isinstance(error, BrokenExecutor)
        if lost:
            suspects += [[job] for chunk in flying.values() for job in chunk]
            flying.clear()
            workers.renew()


def _come(future: Future, chunk: Sequence[Job]) -> tuple[list[tuple[str, Outcome]], BaseException | None]:
    """What came of a chunk; with the error of a process that was lost with it."""
    try:
        return future.result(), None
    except ExperimentError:
        raise
    except CancelledError:
        raise ExperimentError("the scheduler is lost; numbaopt resume goes on when it is back") from None
    except Exception as error:
        told = "".join(traceback.format_exception_only(error)).strip()
        gone = isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker"
        what = "The process that made this run ended before it did (out of memory?): " if gone else ""
        return [(job.id, Outcome("failed", error=f"{what}{told}")) for job in chunk], error if gone else None


def _time(store: Store, jobs: Sequence[Job], place: Place, screen: progress.Quiet) -> None:
    """Make the runs of each problem and seed in rounds over all methods."""
    groups: dict[tuple[str, int], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.problem, job.seed), []).append(job)
    for group in groups.values():
        store.start([job.id for job in group])
        _store(store, place, list(timed(group, place)), screen)


def _store(store: Store, place: Place, outcomes: list[tuple[str, Outcome]], screen: progress.Quiet) -> None:
    """Store outcomes; their checkpoints have served."""
    store.record_all(outcomes)
    names = [name for name, _ in outcomes]
    if place.folder is not None:
        for name in names:
            Path(place.folder, CHECKPOINTS, f"{name}.npz").unlink(missing_ok=True)
    screen.finished(store.runs(id=names))


@contextmanager
def checkpoints(out: Path, waiting: Sequence[Job]) -> Iterator[Path]:
    """The folder of the checkpoints of runs that wait, without what is left of others."""
    folder = out / CHECKPOINTS
    wanted = {f"{job.id}.npz" for job in waiting}
    try:
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            if path.name not in wanted:
                path.unlink()
    except OSError as error:
        raise ExperimentError(f"{error.filename or folder}: {(error.strerror or str(error)).lower()}") from None
    try:
        yield folder
    finally:
        with suppress(OSError):  # where there are some
            folder.rmdir()
