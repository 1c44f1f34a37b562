"""Optuna's storage in the folder of a study, and runs that optuna's pruner looks at on their way."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from .build import Built
from .estimates import passes
from .jobs import PRUNED, Job
from .methods import is_rule
from .schema import ExperimentError

PRUNERS = ("median", "hyperband", "none")
REPORTS = 8  # looks at a run: each costs milliseconds
SHIELDED = 1  # of which so many are not held against it
STARTUP = 5  # trials before the first that may be pruned
BUSY_SECONDS = 60.0


def require_optuna() -> None:
    """Say what to install where optuna is not."""
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ExperimentError("numbaopt tune needs optuna: pip install 'numbaopt[tune]'") from None


@functools.cache
def storage_in(path: str) -> Any:
    """Optuna's storage in a file of SQLite, one object a process."""
    from optuna.storages import RDBStorage
    from sqlalchemy import event

    with quiet():
        made = RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}})

    @event.listens_for(made.engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL"):
            connection.execute(f"PRAGMA {pragma}")

    made.engine.dispose()
    return made


@contextmanager
def storage(path: Path) -> Iterator[Any]:
    """`storage_in`, at rest one file again."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        made = storage_in(str(path))
        try:
            yield made
            with suppress(SQLAlchemyError), made.engine.connect() as connection:  # who reads keeps it a moment longer
                connection.exec_driver_sql("PRAGMA busy_timeout = 0")
                connection.exec_driver_sql("PRAGMA journal_mode = DELETE")
        finally:
            made.engine.dispose()
    except (StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ or error
        raise ExperimentError(f"{path}: {str(getattr(cause, 'orig', cause)).splitlines()[0]}") from None
    finally:
        storage_in.cache_clear()
        _study.cache_clear()


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna says nothing of its own within it."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="optuna")
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def pruner_of(kind: str, seeds: int) -> Any:
    """Optuna's pruner for trials of so many runs: looks at the first are its steps, then the ends of the others."""
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    if kind == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=REPORTS + seeds, reduction_factor=3)
    return MedianPruner(STARTUP, SHIELDED + 1) if kind == "median" else NopPruner()


class Pruning(NamedTuple):
    """Which trial a run is made for: whoever makes it tells optuna of its curve, and asks whether to go on.

    Attributes
    ----------
    path : str
        Of optuna's storage.
    study : str
    trial : int
        By its id in the storage.
    kind : str
        Of `PRUNERS`.
    seeds : int
        Runs of the trial.
    """

    path: str
    study: str
    trial: int
    kind: str
    seeds: int

    def __call__(self, job: Job, built: Built) -> Live:
        return Live(self, job)

    def prunes(self, step: int, value: float) -> bool:
        """Tell optuna how a trial stands, and whether its pruner ends it."""
        with quiet():
            study, where = _study(self.path, self.study, self.kind, self.seeds), storage_in(self.path)
            where.set_trial_intermediate_value(self.trial, step, float(value))
            return bool(study.pruner.prune(study, where.get_trial(self.trial)))


@functools.lru_cache(maxsize=8)
def _study(path: str, name: str, kind: str, seeds: int) -> Any:
    import optuna

    return optuna.load_study(study_name=name, storage=storage_in(path), pruner=pruner_of(kind, seeds))


class Live:
    """A run on its way, seen `REPORTS` times by the pruner; see `execute.Watch`."""

    def __init__(self, pruning: Pruning, job: Job):
        options, rule = job.spec["options"], is_rule(job.spec["method"]["method"].lower())
        batch = options.get("batch_size") if rule else None
        self.pruning, self.message = pruning, ""
        self.last = passes(options, batch, rule)
        self.unit = max(1, round(self.last / REPORTS))  # steps, or epochs
        self.every = self.unit

    def __call__(self, intermediate_result: Any) -> None:
        r = intermediate_result
        epoch = r.get("epoch")
        at = r.nit if epoch is None else epoch
        if at == 0 or at % self.unit or at // self.unit > REPORTS:
            return
        prunes = self.pruning.prunes(at // self.unit, r.fun)
        if prunes and at < self.last:
            where = f"step {at}" if epoch is None else f"epoch {at}"
            self.message = f"{PRUNED} at {where}: optuna's {self.pruning.kind} pruner gave it up at {r.fun:.6g}."
            raise StopIteration


def digest_of(*parts: Any) -> str:
    """A short name of what decides the trials of a study."""
    import hashlib

    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]
