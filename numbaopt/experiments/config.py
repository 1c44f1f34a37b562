"""Study files: TOML, checked to the last key before anything runs.

A file names methods once and lists, under each problem, those that run on it and what they change::

    title = "Two methods, two valleys"
    seeds = 10

    [methods]
    momentum = { method = "momentum", lr = { log = [1e-5, 1e-2, 7] } }
    Adam = { method = "adam", beta2 = [0.99, 0.999], lr = { schedule = "cosine", lr = [0.01, 0.1], steps = 500 } }

    [problems.valley]
    problem = "rosenbrock"
    dimension = [2, 10]
    start = "random"
    maxiter = 500

    [problems.valley.methods]
    momentum = { clip_norm = 1.0 }
    Adam = {}

A method is a name that `numbaopt.minimize` knows, with all its fields, ``clip_norm``, ``clip_value`` and
``gradient_noise`` (`transforms.GradientNoise` of that variance at first), or made of others: ``{ method = "switch",
first = { method = "adam", lr = 0.01 }, second = { method = "sgd" }, at = 500 }`` (or ``at_epoch = 5``) and
``{ method = "lookahead", opt = { method = "adam" } }``.  A problem without ``methods`` runs them all; its settings hold
for its methods unless they set them themselves.  What problems, or the first table, say of batches has no effect on
functions and on methods that know no batches.  Lists and ranges are grids (`grids`); those of a problem's own fields
make a problem of each value, and ``data`` (`data`) may name a table under ``[data.NAME]``.

``seeds = 10`` makes every run ten times, with seeds 0 to 9; a list names them.  A run's seed decides the order of its
batches, and where it starts if the problem starts at random (networks; functions with ``start = "random"``).  A
problem's own ``seed`` decides its data (noise, which rows are held out) and is the seed of runs where there are no
``seeds``; only there a method may have its own.  What has nothing random in it runs once.

``maxiter``, ``epochs``, ``max_evaluations``, ``max_seconds`` and ``target`` (an objective, or ``{ relative = 1e-6 }``:
of the way from start to minimum) end runs, of all methods alike: a problem's ``epochs`` are so many iterations of
L-BFGS and its like.  What a method's table says comes before: ``L-BFGS = { method = "lbfgs", epochs = 1000 }`` has room
to converge, as a reference.  ``metrics`` of a problem chooses columns of its table; ``[output]`` says what is drawn:
``formats`` ("png", "svg", "pdf"), ``against`` ("step", "evaluation", "epoch", "second"), two ``quantiles`` over seeds,
and ``objective = [0.2, 0.7]``: objectives themselves, between these two, not what is left.

Names come from registries: nothing in a file is imported or evaluated (`registry`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from .build import Method, files_of, method_of, problem_of
from .grids import MAX_RUNS
from .jobs import Job
from .methods import known
from .plans import Plan, ProblemTable
from .registry import PROBLEMS, load_plugins
from .schema import Count, ExperimentError, Strict, check, unknown


class Output(Strict):
    """What is drawn, and how."""

    formats: Annotated[list[Literal["png", "svg", "pdf"]], Field(min_length=1)] = ["svg"]
    against: list[Literal["step", "evaluation", "epoch", "second"]] | None = None
    quantiles: Annotated[list[float], Field(min_length=2, max_length=2)] = [0.25, 0.75]
    objective: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Any:
        low, high = self.quantiles
        if not 0 <= low < high <= 1:
            raise ValueError(f"quantiles = {self.quantiles!r} must be two numbers from 0 to 1, the lower one first")
        if self.objective is not None and not self.objective[0] < self.objective[1]:
            raise ValueError(f"objective = {self.objective!r} must be two numbers, the lower one first")
        return self


class Trial(NamedTuple):
    """A problem and the methods that run on it, by their labels; of a method with a grid, its first point."""

    name: str
    problem: Any
    methods: dict[str, Method]
    metrics: tuple[str, ...] | None = None


class Study(NamedTuple):
    """What a file declares.

    Attributes
    ----------
    title : str
    file : path
    trials : list of Trial
        The problems in the file's order, each with its methods.
    jobs : list of Job
        All runs, in the file's order.
    output : Output
        What is to be drawn.
    """

    title: str
    file: Path
    trials: list[Trial]
    jobs: list[Job]
    output: Output = Output()

    @property
    def count(self) -> int:  # type: ignore[override]
        """The number of runs."""
        return len(self.jobs)


class _File(Strict):
    title: str = ""
    seeds: Any = None
    search_seed: Count = 0
    output: dict[str, Any] = {}
    data: dict[str, dict[str, Any]] = {}
    methods: dict[str, dict[str, Any]]
    problems: dict[str, dict[str, Any]]


def load(file: str | Path, data: str | Path | None = None, plugins: Sequence[str | Path] = ()) -> Study:
    """Read a study's file.

    Parameters
    ----------
    file : path
        A TOML file; paths in it are relative to its folder.
    data : path, optional
        A folder, where the data sets that the file names are looked for first; or a file to use in the place of every
        table that the file names.
    plugins : sequence of path
        Python files that define problems, rules and losses for the file to name; see `registry`.

    Returns
    -------
    Study

    Raises
    ------
    ExperimentError
        One sentence with the file, the key and what would be valid.
    """
    file = Path(file)
    load_plugins(plugins)
    with _told(file):
        return _study(*read(file, data, plugins), file)


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """Faults of a file with its name."""
    try:
        yield
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ExperimentError) as error:
        raise ExperimentError(f"{file}: {error}") from None
    except OSError as error:
        raise ExperimentError(f"{file}: {(error.strerror or str(error)).lower()}") from None


def read(file: Path, data: str | Path | None, plugins: Sequence[str | Path]) -> tuple[_File, dict[str, Any]]:
    """A file's tables, and where what they name is found."""
    declared = check(_File, tomllib.loads(file.read_text("utf-8")), "")
    places = {"folder": str(file.absolute().parent), "data": None if data is None else _data_option(data),
              "plugins": [str(Path(plugin).expanduser().absolute()) for plugin in plugins]}  # fmt: skip
    return declared, places


class Case(NamedTuple):
    """One method on one problem, its grid not made.

    Attributes
    ----------
    problem : str
    table : ProblemTable
    plan : Plan
    common : dict
        What the specs of all its runs share.
    said : dict
        What the file says of the method, here or in general.
    """

    problem: str
    table: ProblemTable
    plan: Plan
    common: dict[str, Any]
    said: dict[str, Any]


def cases(file: str | Path, methods: Sequence[str] = (), problems: Sequence[str] = (), data: str | Path | None = None,
          plugins: Sequence[str | Path] = ()) -> tuple[str, list[Case]]:  # fmt: skip
    """A study's title, and these methods on these problems.

    Parameters
    ----------
    file, data, plugins
        As for `load`.
    methods : sequence of str
        Labels of the file, in any case, or names that ``method = `` may have; none: those that the file lists.
    problems : sequence of str
        Names of the file's problems; none: all.

    Raises
    ------
    ExperimentError
        As by `load`; or if there is no such method or problem.
    """
    file = Path(file)
    load_plugins(plugins)
    with _told(file):
        declared, places = read(file, data, plugins)
        chosen = dict(_chosen(name, declared.methods) for name in methods)
        made = []
        for name, table in declared.problems.items():
            if chosen and isinstance(own := table.get("methods", {}), dict):
                table = {**table, "methods": {label: own.get(label, {}) for label in chosen}}
            made.append(ProblemTable(name, table, declared.model_copy(update={"methods": chosen or declared.methods})))
        _require_use_of_data(made, places)
        wanted = {table.name: {name for name, _ in table.variants() if not problems or {name, table.name} & {*problems}}
                  for table in made}  # fmt: skip
        for name in problems:
            if not wanted.get(name) and not any(name in names for names in wanted.values()):
                raise unknown("problem", name, name, wanted)
        found = []
        for name, of, _, common in _variants([one for one in made if wanted[one.name]], declared, places):
            for plan in of.plans if name in wanted[of.name] else ():
                said = {**(chosen or declared.methods)[plan.label], **of.entries[plan.label]}
                found.append(Case(name, of, plan, common, said))
        return declared.title or file.stem, found


def _chosen(name: str, methods: dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The label and table of a method that is named on the command line."""
    meant = [label for label in methods if label == name] or [one for one in methods if one.lower() == name.lower()]
    if meant:
        return meant[0], methods[meant[0]]
    if name.lower() not in known():
        raise unknown("method", name, name, [*methods, *known()])
    return name, {"method": name.lower()}


def presentation(source: str) -> tuple[Output, dict[str, tuple[str, ...]]]:
    """How a study's file, given as text, wants to be shown: its ``[output]``, and the metrics that its problems chose.

    Neither data nor plugins are needed.  Where the text is no study's, it wants nothing.
    """
    try:
        told = tomllib.loads(source)
        metrics = {name: tuple(table["metrics"]) for name, table in told["problems"].items() if "metrics" in table}
        return check(Output, told.get("output", {}), "output"), metrics
    except (tomllib.TOMLDecodeError, KeyError, ExperimentError):
        return Output(), {}


def shown(metrics: Iterable[str], problem: str, chosen: dict[str, tuple[str, ...]]) -> list[str]:
    """Of the metrics of a problem's runs those that its file chose, or all; the grid of ``p`` makes ``p-...``."""
    wanted = next((names for name, names in chosen.items() if f"{problem}-".startswith(f"{name}-")), None)
    return [name for name in metrics if wanted is None or name in wanted]


def _data_option(data: str | Path) -> str:
    path = Path(data).expanduser().absolute()
    if not path.exists():
        raise ExperimentError(f"--data: no file {str(data)!r}")
    return str(path)


def _data_of(told: Any, declared: _File, places: dict[str, Any]) -> Any:
    """What a problem's ``data`` means: a table under ``[data.NAME]``, the file of ``--data``, else itself."""
    if places["data"] is not None and Path(places["data"]).is_file():
        return Path(places["data"]).name
    return declared.data.get(told, told) if isinstance(told, str) else told


def _require_use_of_data(tables: Sequence[ProblemTable], places: dict[str, Any]) -> None:
    if places["data"] is not None and not any("data" in table.cls.model_fields for table in tables):
        able = (name for name, kind in PROBLEMS.items() if "data" in kind.model_fields)
        raise ExperimentError(f"--data has no use here: no problem takes a table; those that do are {', '.join(able)}")


def _variants(tables: Sequence[ProblemTable], declared: _File, places: dict[str, Any]) \
        -> Iterator[tuple[str, ProblemTable, Any, dict[str, Any]]]:  # fmt: skip
    """Every problem by its name, with what the specs of its runs share."""
    for table in tables:
        for name, fields in table.variants():
            if "data" in fields:
                fields = {**fields, "data": _data_of(fields["data"], declared, places)}
            problem = problem_of(fields, places, table.where)
            yield name, table, problem, {"problem": fields, "files": files_of(problem, places), "places": places}


def _study(declared: _File, places: dict[str, Any], file: Path) -> Study:
    output = check(Output, declared.output, "output")
    tables = [ProblemTable(name, table, declared) for name, table in declared.problems.items()]
    _require_use_of_data(tables, places)
    if not 0 < (total := sum(table.count for table in tables)) <= MAX_RUNS:
        raise ExperimentError(f"it declares {total} runs; from 1 to {MAX_RUNS} are possible")
    trials, jobs = [], []
    for name, table, problem, common in _variants(tables, declared, places):
        made = [list(table.jobs(name, common, plan)) for plan in table.plans]
        first = {several[0].method: method_of(several[0].spec) for several in made}
        trials.append(Trial(name, problem, first, table.metrics))
        jobs += [job for several in made for job in several]
    names = [trial.name for trial in trials]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ExperimentError(f"problems.{twice}: two problems, or values of a grid, have this name")
    return Study(declared.title or file.stem, file, trials, jobs, output)
