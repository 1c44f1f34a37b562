"""Experiment files: TOML, checked to the last key before anything runs.

A file names methods once and lists, under each problem, those that run on it and what they change::

    title = "Two methods, one problem"

    [methods]
    momentum = { method = "momentum" }
    Adam = { method = "adam", beta2 = 0.99 }

    [problems.valley]
    problem = "rosenbrock"
    maxiter = 500

    [problems.valley.methods]
    momentum = { lr = 2e-4 }
    Adam = { lr = { schedule = "cosine", lr = 0.1, steps = 500 } }

Settings of a problem hold for its methods unless they set them themselves; a problem without ``methods`` runs them all.
What the first table says of batches has no effect on functions.  ``clip_norm`` and ``clip_value`` of a method clip the
gradient before its rule; ``gradient_noise`` adds noise of that variance at first (`transforms.GradientNoise`).
Names come from registries: nothing in a file is imported or evaluated.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from .._fields import nearest
from .._schedule import SCHEDULES
from ..optimizers._rule import OPTIMIZERS
from ..transforms import ClipByNorm, ClipByValue, GradientNoise, chain
from .problems import PROBLEMS
from .schema import Batches, ExperimentError, Limits, Strict, check, unknown

MAX_RUNS = 1000
CLIPS = {"clip_norm": ClipByNorm, "clip_value": ClipByValue, "gradient_noise": GradientNoise}
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Method(NamedTuple):
    """An optimizer and the options of `numbaopt.minimize` that go with it."""

    optimizer: Any
    options: dict[str, Any]


class Trial(NamedTuple):
    """A problem and the methods that run on it, by their labels."""

    name: str
    problem: Any
    methods: dict[str, Method]


class Experiment(NamedTuple):
    """What a file declares."""

    title: str
    file: Path
    trials: list[Trial]


class _File(Strict):
    title: str = ""
    methods: dict[str, dict[str, Any]]
    problems: dict[str, dict[str, Any]]


def load(file: str | Path, data: str | Path | None = None) -> Experiment:
    """Read an experiment file.

    Parameters
    ----------
    file : path
        A TOML file; paths in it are relative to its folder.
    data : path, optional
        A LIBSVM or CSV file (also .xz, .bz2, .gz) to use in the place of every table that the file names.

    Returns
    -------
    Experiment

    Raises
    ------
    ExperimentError
        One sentence with the file, the key and what would be valid.
    """
    file = Path(file)
    try:
        declared = check(_File, tomllib.loads(file.read_text("utf-8")), "")
        trials = [_trial(name, table, declared.methods) for name, table in declared.problems.items()]
        if not 0 < (total := sum(len(trial.methods) for trial in trials)) <= MAX_RUNS:
            raise ExperimentError(f"it declares {total} runs; from 1 to {MAX_RUNS} are possible")
        return Experiment(declared.title or file.stem, file, trials if data is None else _with_data(trials, data))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ExperimentError) as error:
        raise ExperimentError(f"{file}: {error}") from None
    except OSError as error:
        raise ExperimentError(f"{file}: {(error.strerror or str(error)).lower()}") from None


def _with_data(trials: list[Trial], data: str | Path) -> list[Trial]:
    """The trials with every named table replaced."""
    path = Path(data).expanduser().absolute()
    if not path.is_file():
        raise ExperimentError(f"--data: no file {str(data)!r}")
    if not any(hasattr(trial.problem, "data") for trial in trials):
        able = (name for name, kind in PROBLEMS.items() if "data" in kind.model_fields)
        raise ExperimentError(f"--data has no use here: no problem takes a table; those that do are {', '.join(able)}")
    return [
        trial._replace(problem=trial.problem.model_copy(update={"data": str(path)}))
        if hasattr(trial.problem, "data") else trial
        for trial in trials
    ]  # fmt: skip


def _trial(name: str, table: dict[str, Any], methods: dict[str, dict[str, Any]]) -> Trial:
    where = f"problems.{name}"
    if not FILE_NAME.fullmatch(name):
        raise ExperimentError(f"{where}: a problem's name becomes file names: letters, digits, - and _ only")
    kind, own = table.get("problem"), table.get("methods", {label: {} for label in methods})
    if not isinstance(kind, str) or kind not in PROBLEMS:
        raise _named(f"{where}.problem", kind, PROBLEMS, "problem")
    rest = {key: value for key, value in table.items() if key not in ("problem", "methods")}
    problem = check(PROBLEMS[kind], rest, where, ("problem", "methods"))
    if not isinstance(own, dict) or not all(isinstance(entry, dict) for entry in own.values()):
        raise ExperimentError(f"{where}.methods must be a table of tables, such as {{ Adam = {{ lr = 0.1 }} }}")
    settings = Batches if isinstance(problem, Batches) else Limits
    common = {key: rest[key] for key in settings.model_fields if key in rest}
    idle = set(Batches.model_fields) - set(settings.model_fields)  # what methods say of batches, where there are none
    chosen = {}
    for label, entry in own.items():
        if label not in methods:
            raise unknown("method", f"{where}.methods.{label}", label, methods)
        key = f"methods.{label}" if "methods" not in table else f"{where}.methods.{label}"
        if "method" in entry:
            raise ExperimentError(f"{key}.method: what a label means is said once, under 'methods.{label}'")
        general = {key: value for key, value in methods[label].items() if key not in idle}
        chosen[label] = _method(key, {**general, **entry}, common, settings)
    return Trial(name, problem, chosen)


def _method(where: str, table: dict[str, Any], common: dict[str, Any], settings: type[Limits]) -> Method:
    """The optimizer of a merged table and the options left."""
    label = where.rpartition("methods.")[2]
    kind = table.pop("method", None)
    if not label.strip() or not label.isprintable():
        raise ExperimentError(f"{where!r}: a label must be printable")
    if not isinstance(kind, str) or kind.lower() not in OPTIMIZERS:
        raise _named(f"methods.{label}.method", kind, OPTIMIZERS, "method")
    cls = OPTIMIZERS[kind.lower()]
    fields = {key: _rate(f"{where}.{key}", value) if key == "lr" else value
              for key, value in table.items() if key in cls._fields}  # fmt: skip
    clips = [_make(CLIPS[key], {CLIPS[key]._fields[0]: value}, f"{where}.{key}")
             for key, value in table.items() if key in CLIPS]  # fmt: skip
    rest = {key: value for key, value in table.items() if key not in (*cls._fields, *CLIPS)}
    options = check(settings, {**common, **rest}, where, (*cls._fields, *CLIPS)).model_dump(exclude_none=True)
    opt = _make(cls, fields, where)
    return Method(chain(*clips, opt) if clips else opt, options)


def _rate(where: str, value: Any) -> Any:
    """A learning rate: a number, or a table that names a schedule."""
    if not isinstance(value, dict):
        return value
    kind = value.get("schedule")
    if not isinstance(kind, str) or kind.replace("_", "").lower() not in SCHEDULES:
        raise _named(f"{where}.schedule", kind, SCHEDULES, "schedule")
    fields = {key: _rate(f"{where}.{key}", entry) if key == "lr" else entry
              for key, entry in value.items() if key != "schedule"}  # fmt: skip
    return _make(SCHEDULES[kind.replace("_", "").lower()], fields, where)


def _make(cls: Any, fields: dict[str, Any], where: str) -> Any:
    try:
        return cls(**fields)
    except (TypeError, ValueError) as error:
        raise ExperimentError(f"{where}: {error}") from None


def _named(key: str, value: Any, valid: Any, what: str) -> ExperimentError:
    if value is None:
        return ExperimentError(f"{key!r} is missing; valid: {', '.join(sorted(valid))}")
    return ExperimentError(f"{key} = {value!r} is not a known {what}; {nearest(str(value), valid)}")
