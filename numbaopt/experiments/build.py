"""From a run's spec, which is JSON, to what `numbaopt.minimize` takes."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

from . import functions as _functions  # noqa: F401  fill the registry
from . import problems as _problems  # noqa: F401
from .data import digest, digests, locate
from .methods import draws, is_rule, make
from .registry import PROBLEMS, load_plugins
from .schema import Batches, ExperimentError, Limits, check, unknown

CACHED_TASKS = 8  # tables of data may be large


class Method(NamedTuple):
    """An optimizer, or "auto", and the options of `numbaopt.minimize` that go with it."""

    optimizer: Any
    options: dict[str, Any]


class Built(NamedTuple):
    """A run ready to be made: ``minimize(task.fun, task.x0, jac=task.jac, method=method, options=options)``.

    Attributes
    ----------
    task : Task
        With the start that the run's seed asks for.
    method : optimizer or "auto"
    options : dict
        For `numbaopt.minimize`; a rule's evaluations are its steps, so ``max_evaluations`` is a ``maxiter`` there.
    """

    task: Any
    method: Any
    options: dict[str, Any]


def build(spec: dict[str, Any]) -> Built:
    """What a run's spec describes; a problem's data are loaded once a process for all its runs.

    Parameters
    ----------
    spec : dict
        Of a `Job`: ``problem`` and ``method`` (kind and fields), ``options``, ``seed``, ``files`` (what the files hold
        that it needs) and ``places`` (the folder of the study's file, what ``--data`` named, plugins).

    Returns
    -------
    Built

    Raises
    ------
    ExperimentError
        If data or names of the spec are not to be found here.
    """
    load_plugins(spec["places"]["plugins"])
    task = _task(json.dumps([spec["problem"], spec["places"], spec["files"]], sort_keys=True))
    if task.start is not None:
        task = dataclasses.replace(task, x0=task.start(spec["seed"]))
    optimizer, options = method_of(spec)
    if "max_evaluations" in options and is_rule(spec["method"]["method"].lower()):  # one a step, and one at the start
        batches = options.get("batch_size") is not None
        steps = max(options.pop("max_evaluations") - (not batches), 0)
        options["maxiter"] = min(steps, options.get("maxiter", steps))
    if (target := spec["options"].get("target")) is not None:
        options["f_target"] = target
    if isinstance(target, dict):
        lowest, first = task.value(task.reference[1]), task.value(task.x0)
        options["f_target"] = lowest + target["relative"] * (first - lowest)
    return Built(task, optimizer, options)


def method_of(spec: dict[str, Any]) -> Method:
    """The optimizer of a spec and its options for `numbaopt.minimize`."""
    options = {key: value for key, value in spec["options"].items() if key != "target"}
    if issubclass(PROBLEMS[spec["problem"]["problem"]], Batches):
        options["seed"] = spec["seed"]
    return Method(make(spec["method"], "method", spec["seed"]), options)


def is_random(spec: dict[str, Any]) -> bool:
    """Whether the seed of a run decides anything; it may, on a problem that is not known here."""
    cls, table = PROBLEMS.get(spec["problem"]["problem"]), {**spec["method"], **spec["options"]}
    return cls is None or cls.starts_at_random(spec["problem"]) or \
        draws(table["method"].lower(), table, issubclass(cls, Batches))


def problem_of(table: dict[str, Any], places: dict[str, Any], where: str) -> Limits:
    """The problem of a spec, checked, with its data set in its place."""
    if (kind := table["problem"]) not in PROBLEMS:
        raise unknown("problem", where, kind, PROBLEMS)
    problem = check(PROBLEMS[kind], {key: value for key, value in table.items() if key != "problem"}, where)
    if "data" not in PROBLEMS[kind].model_fields:
        return problem
    try:
        return problem.model_copy(update={"data": locate(problem.data, Path(places["folder"]), places["data"])})
    except ExperimentError as error:
        raise ExperimentError(f"{where}.data: {error}") from None


def files_of(problem: Limits, places: dict[str, Any]) -> dict[str, str]:
    """What the files hold that a problem and its plugins are read from, by their names."""
    told = digests(problem.data) if hasattr(problem, "data") else {}
    return told | {Path(plugin).name: digest(Path(plugin)) for plugin in places["plugins"]}


@functools.lru_cache(maxsize=CACHED_TASKS)
def _task(text: str) -> Any:
    table, places, files = json.loads(text)
    problem = problem_of(table, places, "problem")
    for name, told in files_of(problem, places).items():
        if files.get(name) != told:
            raise ExperimentError(f"{name} is not what it was when the study was declared; load the study again")
    return problem.task(Path(places["folder"]))
