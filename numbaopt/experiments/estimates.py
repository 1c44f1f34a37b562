"""How long a study will take, told before it starts."""

from __future__ import annotations

import json
import math
import time
from typing import Any, NamedTuple

from ..arguments import EPOCHS, MAXITER
from ..optimizers import Adam
from .build import Built, build
from .config import Study
from .jobs import Job
from .methods import is_rule
from .words import median

STEPS = 2000  # of a function that are timed; of a model one pass
LIKELY = 200  # iterations after which methods with line searches and the like have ended
TIMED, TIMED_SECONDS = 7, 0.3  # most passes that are timed after one that warms up; no further one begins later
_COSTS: dict[str, Pass] = {}  # by problem and batch size


class Pass(NamedTuple):
    """Seconds of an epoch in batches, or of a step on the whole objective: median, least and most of those timed."""

    median: float
    least: float
    most: float


def estimate(study: Study) -> float:
    """Seconds that all runs take one after the other, at most: the runs that end early are not known.

    On every problem some steps of Adam, or epochs for every batch size, are timed once compiled, and their median is
    taken; all rules are taken to cost as much, and methods that are no rules to end after 200 evaluations.  Left out
    are loading data, compiling (a second or so for each rule, once a machine), and what batched runs and several cores
    save.  BLAS has one thread meanwhile: products as small as a batch gain nothing from more.

    Parameters
    ----------
    study : Study

    Returns
    -------
    float

    Raises
    ------
    ExperimentError, ValueError
        If the data of a problem cannot be used.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from numbaopt.experiments import estimate, load
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "study.toml"
    >>> _ = file.write_text('''
    ... seeds = 3
    ... [methods]
    ... Adam = { method = "adam", lr = { log = [1e-3, 1, 4] } }
    ... [problems.p]
    ... problem = "rosenbrock"
    ... start = "random"
    ... maxiter = 1000
    ... ''')
    >>> study = load(file)
    >>> study.count, 0 < estimate(study) < 10
    (12, True)
    """
    return sum(map(seconds_of, study.jobs))


def seconds_of(job: Job) -> float:
    """The same of one run; what a problem's passes take is measured once a process."""
    return estimate_of(job).median


def estimate_of(job: Job) -> Pass:
    """The same of one run, by the median, the quickest and the slowest of the passes that were timed."""
    options, rule = job.spec["options"], is_rule(job.spec["method"]["method"].lower())
    batch = options.get("batch_size") if rule else None
    key = json.dumps([job.spec["problem"], job.spec["places"], job.spec["files"], batch], sort_keys=True)
    if key not in _COSTS:
        _COSTS[key] = time_passes(build(job.spec), batch)
    times = passes(options, batch, rule)
    return Pass(*(min(times * seconds, options.get("max_seconds", math.inf)) for seconds in _COSTS[key]))


def passes(options: dict[str, Any], batch: int | None, rule: bool) -> float:
    """Evaluations of a whole objective, or epochs, that a run may take."""
    limits = [options[key] for key in ("maxiter", "epochs", "max_evaluations") if key in options]
    if batch is not None:
        return float(options.get("epochs", EPOCHS))
    return float(min(limits, default=MAXITER) if rule else min([*limits, LIKELY]))


def time_passes(built: Built, batch: int | None) -> Pass:
    """Time a few passes, machine code and data being there."""
    from threadpoolctl import threadpool_limits  # with scikit-learn

    task, model = built.task, hasattr(built.task.fun, "n_terms")
    steps = 1 if model else STEPS
    options: dict[str, Any] = {"maxiter": steps, "gtol": 0.0}
    if batch is not None:
        options = {"epochs": 1, "batch_size": batch}
    rule: Any = Adam
    times: list[float] = []
    with threadpool_limits(1, "blas"):
        task.solved_by(rule(lr=0.0), options)
        while not times or (len(times) < TIMED and steps * sum(times) < TIMED_SECONDS):
            began = time.perf_counter()
            task.solved_by(rule(lr=0.0), options)
            times.append((time.perf_counter() - began) / steps)
    return Pass(median(times), min(times), max(times))
