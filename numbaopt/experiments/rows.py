"""What a study's file has in its rows: runs as JSON and plain float64, nothing that is ever executed."""

from __future__ import annotations

import json
import sqlite3
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .jobs import PRUNED, Job, Outcome
from .schema import ExperimentError

LARGEST_CURVE = 1 << 31  # bytes that a stored curve may grow to when it is unpacked
FLOAT = np.dtype("<f8")


class Header(NamedTuple):
    """What a study is, beside its runs: labels stand in the order in which they should be shown."""

    title: str
    file: str  # the name of the TOML file
    source: str  # its text
    problems: tuple[str, ...]
    methods: tuple[str, ...]
    command: str = ""  # that made the runs, where it was not ``numbaopt run``
    commit: str = ""  # of git, that the file was in


class Row(NamedTuple):
    """A run as it is stored: a `Job` and, where it is done or failed, its `Outcome` but for the curve.

    Numbers that there are not (yet) are nan, -1 (``code``) or 0 (``nit``, ``nfev``), texts and dicts empty, ``x`` None.
    """

    id: str
    status: str
    problem: str
    method: str
    settings: dict[str, Any]
    seed: int
    spec: dict[str, Any]
    fun: float
    x: np.ndarray | None
    code: int
    message: str
    nit: int
    nfev: int
    epochs: float
    seconds: float
    metrics: dict[str, float]
    about: dict[str, Any]
    error: str

    @property
    def job(self) -> Job:
        """What was asked."""
        return Job(self.problem, self.method, self.settings, self.seed, self.spec)

    @property
    def pruned(self) -> bool:
        """Whether tuning ended it early."""
        return self.message.startswith(PRUNED)


JSONS = ("settings", "spec", "metrics", "about")
MISSING: dict[str, Any] = {"fun": np.nan, "epochs": np.nan, "seconds": np.nan, "code": -1, "nit": 0, "nfev": 0,
                           "message": "", "error": "", "metrics": "{}", "about": "{}"}  # fmt: skip
OUTCOME = tuple(name for name in Row._fields if name in Outcome._fields)


def row_of(row: sqlite3.Row) -> Row:
    """A run as SQLite gives it."""
    told: dict[str, Any] = {name: MISSING.get(name) if value is None else value for name, value in dict(row).items()}
    told |= {name: json.loads(told[name]) for name in JSONS}
    told["x"] = None if told["x"] is None else np.frombuffer(told["x"], FLOAT)
    return Row(**told)


def columns_of(outcome: Outcome) -> dict[str, Any]:
    """An outcome as SQLite takes it: but for its curve."""
    values = {name: getattr(outcome, name) for name in OUTCOME}
    values["x"] = None if outcome.x is None else np.ascontiguousarray(outcome.x, FLOAT).tobytes()
    values |= {name: json.dumps(values[name]) for name in JSONS if name in values}
    values |= {name: int(values[name]) for name in ("code", "nit", "nfev")}
    return values | {name: float(values[name]) for name in ("fun", "epochs", "seconds")}


def packed_of(curve: dict[str, Any]) -> tuple[str, int, bytes]:
    """Names, length and compressed numbers of a curve, column after column."""
    table = np.array([np.asarray(column, FLOAT) for column in curve.values()])
    if table.ndim != 2:
        raise ValueError(f"columns of a curve must be vectors, not of shape {table.shape[1:]}")
    return json.dumps(list(curve)), table.shape[1], zlib.compress(table.tobytes(), 6)


def unpacked_of(row: sqlite3.Row, path: Path) -> dict[str, np.ndarray]:
    """The curve again; ``path`` is where it is from."""
    names = json.loads(row["columns"])
    size = len(names) * row["rows"] * FLOAT.itemsize
    try:
        if not 0 <= size <= LARGEST_CURVE:
            raise ValueError
        table = np.frombuffer(zlib.decompressobj().decompress(row["numbers"], size + 1), FLOAT)
        return dict(zip(names, table.reshape(len(names), row["rows"]), strict=True))
    except (zlib.error, ValueError):
        raise ExperimentError(f"{path}: a curve in it is damaged") from None
