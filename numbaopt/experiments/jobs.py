"""One run of a study as data: what is asked, and what came of it."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

import numpy as np

PRUNED = "Pruned"  # begins the message of a run that tuning ended early


class Job(NamedTuple):
    """One run: nothing but JSON, so that any process on any machine can make it.

    ``spec`` says everything that decides the result: ``problem`` and ``method`` (kind and fields), ``options``,
    ``seed``, and ``places``, where data and plugins are found; `build.build` makes the run of it.  ``settings``
    repeats, for tables, what differs between the runs of one method.
    """

    problem: str  # label
    method: str  # label
    settings: dict[str, Any]
    seed: int
    spec: dict[str, Any]

    @property
    def id(self) -> str:
        """A hash of the spec but its places: the same run has the same name on every machine, and is made once."""
        said = {key: value for key, value in self.spec.items() if key != "places"}
        text = json.dumps([self.problem, self.method, self.seed, said], sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Outcome(NamedTuple):
    """What came of a run.

    Attributes
    ----------
    status : {"done", "failed"}
        ``"failed"`` where an exception ended it; a run that diverged is done.
    fun, x
        The objective's best value, and where; x is None where it is longer than what is written down.
    code, message
        Status and message of the result of `numbaopt.minimize`.
    nit, nfev, epochs, seconds
        Steps, evaluations, epochs (nan for functions) and wall time.
    metrics : dict
        What the problem judges of its answer (accuracy, distance to a minimum, ...).
    curve : dict of arrays of one length
        Columns ``step epoch nfev seconds fun grad_norm lr``, and ``x1 x2`` for problems of two unknowns; the rows that
        `curves.kept` chooses.
    about : dict
        Versions, CPU, threads, git commit, time, load of the machine, whether its time means anything.
    error : str
        The exception and its traceback, or nothing.
    """

    status: str
    fun: float = float("nan")
    x: np.ndarray | None = None
    code: int = -1
    message: str = ""
    nit: int = 0
    nfev: int = 0
    epochs: float = float("nan")
    seconds: float = 0.0
    metrics: dict[str, float] = {}
    curve: dict[str, np.ndarray] = {}
    about: dict[str, Any] = {}
    error: str = ""
