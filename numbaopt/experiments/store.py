"""A study on disk: one SQLite file that holds what was asked, every run and its curve.

A run is stored in one transaction, with all that belongs to it, and is on the disk when `Store.record` returns.  Others
may read while a process writes (SQLite keeps a write-ahead log meanwhile); who writes is a matter of `lock`.  Nothing
in the file is ever executed: numbers are columns, text is JSON, arrays are plain float64.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from .jobs import Job, Outcome
from .rows import OUTCOME, Header, Row, columns_of, packed_of, row_of, unpacked_of
from .schema import ExperimentError

FILE, LOCK, CHECKPOINTS = "study.sqlite", "study.lock", "checkpoints"  # in the folder of a study
TUNING = "tuning.sqlite"  # optuna's, of trials
FORMAT = 1
APPLICATION = int.from_bytes(b"nbop", "big")  # what SQLite's header says the file is for
BUSY_SECONDS = 60.0
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # of file systems such as exFAT
SCHEMA = """
CREATE TABLE study (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'running', 'done', 'failed')),
    problem TEXT NOT NULL, method TEXT NOT NULL, settings TEXT NOT NULL, seed INTEGER NOT NULL, spec TEXT NOT NULL,
    fun REAL, x BLOB, code INTEGER, message TEXT, nit INTEGER, nfev INTEGER, epochs REAL, seconds REAL, metrics TEXT,
    about TEXT, error TEXT);
CREATE INDEX by_status ON runs (status);
CREATE TABLE curves (run INTEGER PRIMARY KEY REFERENCES runs (position) ON DELETE CASCADE, columns TEXT NOT NULL,
    rows INTEGER NOT NULL, numbers BLOB NOT NULL);
"""
FILTERS = ("id", "status", "problem", "method", "seed")
SELECT = f"SELECT {', '.join(Row._fields)} FROM runs WHERE "  # noqa: S608  names of our own
RECORD = f"UPDATE runs SET {', '.join(f'{name} = :{name}' for name in OUTCOME)} WHERE position = :at"  # noqa: S608
ALL_NULL = ", ".join(f"{name} = NULL" for name in OUTCOME if name != "status")
FORGET = f"UPDATE runs SET {ALL_NULL}, status = 'waiting' WHERE status = 'failed'"  # noqa: S608


class Store:
    """The runs of a study in a folder; made by `create`, opened by `open`.

    Examples
    --------
    >>> import tempfile
    >>> from numbaopt.experiments.jobs import Job, Outcome
    >>> from numbaopt.experiments.rows import Header
    >>> from numbaopt.experiments.store import Store
    >>> folder = tempfile.mkdtemp()
    >>> job = Job("valley", "Adam", {"lr": 0.1}, 0, {"problem": "rosenbrock"})
    >>> with Store.create(folder, Header("Small", "small.toml", "", ("valley",), ("Adam",)), [job]) as store:
    ...     store.record(job.id, Outcome("done", fun=0.5, curve={"step": [0, 1], "fun": [2.0, 0.5]}))
    >>> with Store.open(folder) as store:
    ...     [(row.method, row.settings, row.fun) for row in store.runs(status="done")], store.curve(job.id)["fun"]
    ([('Adam', {'lr': 0.1}, 0.5)], array([2. , 0.5]))
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, writes: bool):
        self.connection, self.path, self.writes = connection, path, writes
        connection.row_factory = sqlite3.Row
        with self._told():
            self.connection.execute("PRAGMA foreign_keys = ON")
            self.connection.execute("PRAGMA synchronous = FULL")
        self._check()

    @classmethod
    def create(cls, folder: str | os.PathLike, header: Header, jobs: Iterable[Job] = ()) -> Store:
        """A new study: its file appears whole, with all its ``jobs``, or not at all.

        Raises
        ------
        ExperimentError
            If the folder already holds a study, cannot be written to, or is a link.
        """
        folder = Path(folder)
        check_places(folder)
        path, part = folder / FILE, folder / f".{FILE}.part"
        if path.exists():
            raise ExperimentError(f"{folder} already holds a study")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            part.unlink(missing_ok=True)
            with _told(path):
                connection = sqlite3.connect(part, isolation_level=None)
                try:
                    connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = FULL; BEGIN; {SCHEMA}"
                                             f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT};")
                    _declare(connection, header, jobs)
                    connection.execute("COMMIT")
                finally:
                    connection.close()
            _put(part, path)
        except OSError as error:
            raise ExperimentError(f"{path}: {(error.strerror or str(error)).lower()}") from None
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        sync_folder(folder)
        return cls.open(folder, write=True)

    @classmethod
    def open(cls, folder: str | os.PathLike, write: bool = False) -> Store:
        """The study in a folder, to be read unless ``write``.

        Raises
        ------
        ExperimentError
            If there is none, or it cannot be read.
        """
        folder = Path(folder)
        check_places(folder)
        path = folder / FILE
        if not path.is_file():
            raise ExperimentError(f"{folder} holds no study: there is no {FILE} in it")
        mode = "rw" if write else "ro"
        log = folder / f"{FILE}-wal"
        if not write and not os.access(folder, os.W_OK) and not (log.exists() and log.stat().st_size):
            mode = "ro&immutable=1"  # readers that share with a writer need a file of their own in the folder
        with _told(path):
            uri = f"{path.absolute().as_uri()}?mode={mode}"
            connection = sqlite3.connect(uri, BUSY_SECONDS, isolation_level=None, uri=True)
            try:
                if write:
                    connection.execute("PRAGMA journal_mode = WAL")
                return cls(connection, path, write)
            except BaseException:
                connection.close()
                raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was recorded is on the disk already."""
        if self.writes:
            with suppress(sqlite3.Error):  # who reads just now keeps it a moment longer
                self.connection.execute("PRAGMA busy_timeout = 0")
                self.connection.execute("PRAGMA journal_mode = DELETE")  # at rest it is one file, for read-only disks
        self.connection.close()

    # What is stored

    def declare(self, header: Header, jobs: Iterable[Job]) -> int:
        """Take over an edited study: add its new jobs, forget those that have not ended and are no longer in it.

        For the holder of the lock: what is said to be running is what a process left that was killed.

        Returns
        -------
        int
            How many jobs are new.
        """
        jobs = list(jobs)
        with self._transaction() as connection:
            wanted = {job.id for job in jobs}
            gone = [(row["id"],) for row in connection.execute("SELECT id FROM runs WHERE status IN "
                                                              "('waiting', 'running')")
                    if row["id"] not in wanted]  # fmt: skip
            connection.executemany("DELETE FROM runs WHERE id = ?", gone)
            return _declare(connection, header, jobs)

    def add(self, jobs: Iterable[Job]) -> int:
        """Add jobs, all or none; those that are there already stay as they are.  Returns how many are new."""
        with self._transaction() as connection:
            return _add(connection, jobs)

    def start(self, ids: Iterable[str]) -> None:
        """Mark waiting runs as running: only for those who watch, the result does not depend on it."""
        with self._transaction() as connection:
            connection.executemany("UPDATE runs SET status = 'running' WHERE id = ? AND status = 'waiting'",
                                   [(name,) for name in ids])  # fmt: skip

    def release(self, failed: bool = False) -> None:
        """Let runs wait again that nobody runs any more, or also those that ``failed``.  For the holder of the lock."""
        with self._transaction() as connection:
            connection.execute("UPDATE runs SET status = 'waiting' WHERE status = 'running'")
            if failed:
                connection.execute("DELETE FROM curves WHERE run IN "
                                   "(SELECT position FROM runs WHERE status = 'failed')")  # fmt: skip
                connection.execute(FORGET)

    def record(self, job_id: str, outcome: Outcome) -> None:
        """Store what came of a run, with its curve, at once and for good.

        Raises
        ------
        ExperimentError
            If there is no such run, it is stored already, or the disk is full (then nothing has changed).
        """
        self.record_all([(job_id, outcome)])

    def record_all(self, outcomes: Iterable[tuple[str, Outcome]]) -> None:
        """`record` several runs that were finished together: all or none."""
        told = [(name, columns_of(outcome), packed_of(outcome.curve) if outcome.curve else None)
                for name, outcome in outcomes]  # fmt: skip
        with self._transaction() as connection:
            for name, values, curve in told:
                found = connection.execute("SELECT position, status FROM runs WHERE id = ?", [name]).fetchone()
                if found is None or found["status"] in ("done", "failed"):
                    what = "is not in it" if found is None else f"is {found['status']} already"
                    raise ExperimentError(f"{self.path}: run {name} {what}")
                connection.execute(RECORD, {**values, "at": found["position"]})
                if curve is not None:
                    connection.execute("INSERT INTO curves VALUES (?, ?, ?, ?)", (found["position"], *curve))

    # What is read

    @property
    def header(self) -> Header:
        """What the study is."""
        with self._told():
            found = self.connection.execute("SELECT * FROM study").fetchall()
        told = {row["key"]: json.loads(row["value"]) for row in found if row["key"] in Header._fields}
        told |= {name: tuple(told[name]) for name in ("problems", "methods")}
        return Header(**told)

    def runs(self, **filters: Any) -> list[Row]:
        """All runs in the order in which they were declared, or those that have the values asked for.

        Parameters
        ----------
        **filters
            ``id``, ``status``, ``problem``, ``method``, ``seed``: a value, or a list of values.
        """
        where, values = "", []
        for name, value in filters.items():
            if name not in FILTERS:
                raise TypeError(f"runs can be chosen by {', '.join(FILTERS)}, not by {name!r}")
            chosen = list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
            where += f" AND {name} IN ({', '.join('?' * len(chosen))})"
            values += chosen
        with self._told():
            found = self.connection.execute(f"{SELECT} 1{where} ORDER BY position", values)
            return [row_of(row) for row in found]

    def run(self, run_id: str) -> Row:
        """The run whose id begins with ``run_id``.

        Raises
        ------
        ExperimentError
            If there is none, or several.
        """
        with self._told():
            found = self.connection.execute(f"{SELECT} substr(id, 1, ?) = ? LIMIT 2", (len(run_id), run_id)).fetchall()
        if len(found) != 1 or not run_id:
            what = "several runs have ids that begin" if found else "no run has an id that begins"
            raise ExperimentError(f"{self.path}: {what} with {run_id!r}")
        return row_of(found[0])

    def curve(self, run_id: str) -> dict[str, np.ndarray]:
        """The curve of a run by its whole id: columns of one length, none where there is no curve."""
        with self._told():
            found = self.connection.execute("SELECT columns, rows, numbers FROM curves JOIN runs ON run = position "
                                            "WHERE id = ?", [run_id]).fetchone()  # fmt: skip
        return {} if found is None else unpacked_of(found, self.path)

    def optimum(self, spec: dict[str, Any]) -> tuple[str, float] | None:
        """Where the optimum of a run's problem is from, and its value, if that was ever written down."""
        with self._told():
            found = self.connection.execute("SELECT value FROM study WHERE key = ?", [_optimum_of(spec)]).fetchone()
        return None if found is None else tuple(json.loads(found["value"]))

    def keep_optimum(self, spec: dict[str, Any], origin: str, value: float) -> None:
        """Write an optimum down, for reports to come."""
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO study VALUES (?, ?)",
                               [_optimum_of(spec), json.dumps([origin, value])])  # fmt: skip

    def waiting(self) -> list[Job]:
        """The jobs that are neither done nor failed, in order."""
        return [row.job for row in self.runs(status=("waiting", "running"))]

    def counts(self) -> dict[str, int]:
        """How many runs there are of each status."""
        counts = dict.fromkeys(("waiting", "running", "done", "failed"), 0)
        with self._told():
            found = self.connection.execute("SELECT status, COUNT(*) AS n FROM runs GROUP BY status").fetchall()
        return counts | {row["status"]: row["n"] for row in found}

    def _check(self) -> None:
        """Refuse what is not a study of this version."""
        with self._told():
            (application,), (version,) = (self.connection.execute(f"PRAGMA {name}").fetchone()
                                          for name in ("application_id", "user_version"))  # fmt: skip
        if application != APPLICATION:
            raise ExperimentError(f"{self.path} is not a study of numbaopt")
        if version != FORMAT:
            raise ExperimentError(f"{self.path} has format {version}, this version of numbaopt reads {FORMAT}")

    def _told(self) -> Any:
        return _told(self.path)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it, or nothing."""
        with self._told():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:  # a full disk may have rolled it back already
                    self.connection.execute("ROLLBACK")
                raise


def check_places(folder: Path) -> None:
    """Refuse links in the places where a study writes: they could lead anywhere."""
    logs = (f"{name}-{kind}" for name in (FILE, TUNING) for kind in ("wal", "shm", "journal"))
    names = ("", FILE, TUNING, *logs, f".{FILE}.part", LOCK, CHECKPOINTS)
    for path in (folder / name for name in names):
        if path.is_symlink():
            raise ExperimentError(f"{path} is a symbolic link; name the place itself")
    if folder.exists() and not folder.is_dir():
        raise ExperimentError(f"{folder} is not a folder")


def _put(part: Path, path: Path) -> None:
    """Give a whole file its name, which nothing may have."""
    try:
        os.link(part, path)  # unlike a move, it fails where there is one
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if path.exists():  # others who come now do not hold the folder's lock
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(part, path)


def sync_folder(folder: Path) -> None:
    """Let new names in a folder survive a loss of power, where the system can do it."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _optimum_of(spec: dict[str, Any]) -> str:
    """Under which key the optimum of a run's problem is written down: wherever its data lie."""
    text = json.dumps([spec.get("problem"), spec.get("files")], sort_keys=True)
    return f"optimum {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _declare(connection: sqlite3.Connection, header: Header, jobs: Iterable[Job]) -> int:
    connection.executemany("INSERT OR REPLACE INTO study VALUES (?, ?)",
                           [(key, json.dumps(value)) for key, value in header._asdict().items()])  # fmt: skip
    return _add(connection, jobs)


def _add(connection: sqlite3.Connection, jobs: Iterable[Job]) -> int:
    """Add jobs; of those that are there, take over where their data and plugins are now.  Returns how many are new."""
    (before,) = connection.execute("SELECT COUNT(*) FROM runs").fetchone()
    connection.executemany(
        "INSERT INTO runs (id, problem, method, settings, seed, spec) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) "
        "DO UPDATE SET spec = excluded.spec, settings = excluded.settings",
        ((job.id, job.problem, job.method, json.dumps(job.settings), job.seed, json.dumps(job.spec)) for job in jobs),
    )  # fmt: skip
    (after,) = connection.execute("SELECT COUNT(*) FROM runs").fetchone()
    return int(after - before)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors as a sentence with the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise ExperimentError(f"{path}: {error}") from None
