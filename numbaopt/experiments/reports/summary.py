"""What a study found, as data: targets, what they cost, best settings, ranks and how sure they are."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from ...status import NOT_FINITE
from ..build import is_random
from ..config import presentation, shown
from ..curves import TOLERANCES
from ..rows import Header, Row
from ..schema import ExperimentError
from ..store import Store
from ..words import is_number, median, power_of_ten, settings_of
from .profiles import first_hit
from .statistics import Comparison, compare, fewest_pairs, holm, signed_rank

MIDDLE = (0.25, 0.5, 0.75)


class Cost(NamedTuple):
    """What it took to reach a target; inf where it was not reached."""

    work: float = math.inf
    seconds: float = math.inf


class Run(NamedTuple):
    """A finished run: its row, its curve, and its cost for each tolerance."""

    row: Row
    curve: dict[str, np.ndarray]
    costs: dict[float, Cost]

    @property
    def diverged(self) -> bool:
        """Whether it ended with numbers that are not finite."""
        return self.row.status == "done" and self.row.code == NOT_FINITE

    @property
    def sound(self) -> bool:
        """Whether it neither failed nor diverged."""
        return self.row.status == "done" and not self.diverged and math.isfinite(self.row.fun)

    @property
    def final(self) -> float:
        """Its best objective; inf where it failed or diverged."""
        return self.row.fun if self.sound else math.inf


class Setting:
    """The runs of one method with one setting on one problem, one a seed."""

    def __init__(self, rows: Sequence[Row], runs: Sequence[Run]):
        row = rows[0]
        self.only_one = len(rows) == 1 and not (isinstance(row.spec.get("problem"), dict) and is_random(row.spec))
        self.method, self.settings = row.method, row.settings
        said = row.spec.get("method")
        self.fields = {key: value for key, value in said.items() if key != "method"} if isinstance(said, dict) else {}
        self.runs = sorted(runs, key=lambda run: run.row.seed)

    @cached_property
    def finals(self) -> np.ndarray:
        """Final objectives, by seed."""
        return np.array([run.final for run in self.runs])

    def costs(self, tolerance: float) -> np.ndarray:
        """Work and seconds to the target, of shape (seeds, 2)."""
        return np.array([run.costs[tolerance] for run in self.runs]).reshape(-1, 2)

    @cached_property
    def merit(self) -> tuple[float, ...]:
        """The less, the better: median work to each target, the strictest first, then the median final objective."""
        return (*(median(self.costs(tolerance)[:, 0]) for tolerance in reversed(TOLERANCES)), median(self.finals))

    @cached_property
    def tolerance(self) -> float | None:
        """Of the strictest target that at least half of the runs reach, if there is one."""
        reached = zip(reversed(TOLERANCES), self.merit, strict=False)
        return next((tolerance for tolerance, work in reached if math.isfinite(work)), None)

    @property
    def draws(self) -> bool:
        """Whether its runs depend on the seed."""
        return len({(run.final, *(cost.work for cost in run.costs.values())) for run in self.runs}) > 1

    def by_seed(self, seeds: Iterable[int]) -> dict[int, Run]:
        """The runs of those seeds that have one; the only run of a method that draws nothing stands for all."""
        if self.only_one and self.runs:
            return dict.fromkeys(seeds, self.runs[0])
        return {run.row.seed: run for run in self.runs if run.row.seed in set(seeds)}

    @property
    def rate(self) -> float:
        """The learning rate, where there is one and it is a number; else NaN."""
        lr: Any = self.settings.get("lr")
        return float(lr) if is_number(lr) else math.nan

    @property
    def told(self) -> str:
        """What sets it apart, or all that was said of the method where it has no other settings."""
        return settings_of(self.settings or self.fields) or "defaults"


class Problem:
    """One problem of a study.

    Attributes
    ----------
    task : Task or None
        The problem itself, where it can be built here; ``unbuilt`` says why not.
    best : float
        The optimum if it is ``known``, else the best objective that any run found.
    start : float
        The objective where runs begin; ``starts`` has it by seed.
    settings : dict of str to list of Setting
        By method.
    """

    def __init__(self, name: str, rows: Sequence[Row], curve: Callable[[str], dict[str, np.ndarray]],
                 build: Callable[[dict[str, Any]], Any],
                 optimum: Callable[[dict[str, Any], Any], tuple[str, float]]):  # fmt: skip
        self.name, self.rows = name, rows
        finished = [row for row in rows if row.status in ("done", "failed")]
        curves = {row.id: curve(row.id) for row in finished}
        self.on_data = any(math.isfinite(row.epochs) for row in finished)
        self.task, self.unbuilt = _built(rows[0], build)
        found = min((row.fun for row in finished if row.status == "done" and math.isfinite(row.fun)), default=math.nan)
        self.best, self.known = _optimum(self.task, partial(optimum, rows[0].spec), found)
        self.starts = _starts(finished, curves)
        self.start = max(self.starts.values(), default=math.nan)
        self.settings: dict[str, list[Setting]] = {}
        runs = {row.id: Run(row, curves[row.id], self._costs(row, curves[row.id])) for row in finished}
        for (method, _), group in _grouped(rows, lambda row: (row.method, json.dumps(row.settings, sort_keys=True))):
            setting = Setting(group, [runs[row.id] for row in group if row.id in runs])
            self.settings.setdefault(method, []).append(setting)

    def _costs(self, row: Row, curve: dict[str, np.ndarray]) -> dict[float, Cost]:
        return {tolerance: self._cost(row, curve, tolerance) for tolerance in TOLERANCES}

    def _cost(self, row: Row, curve: dict[str, np.ndarray], tolerance: float) -> Cost:
        start = self.starts.get(row.seed, math.nan)
        if not math.isfinite(start):
            return Cost()
        if "fun" in curve:
            hit = first_hit(curve["fun"], start, self.best, tolerance)
            if hit is not None:
                return _cost(work(curve)[hit], curve["seconds"][hit])
        if row.status == "done" and first_hit(np.array([row.fun]), start, self.best, tolerance) is not None:
            return _cost(row.epochs if math.isfinite(row.epochs) else row.nfev, row.seconds)
        return Cost()

    @property
    def unit(self) -> str:
        """What work is counted in."""
        return "epochs" if self.on_data else "evaluations"

    @property
    def methods(self) -> list[str]:
        """Methods with a finished run."""
        return [method for method, settings in self.settings.items() if any(setting.runs for setting in settings)]

    def chosen(self, method: str) -> Setting:
        """The best setting of a method, of those that at least half as many seeds have run as any other."""
        most = max(len(setting.runs) for setting in self.settings[method])
        able = [setting for setting in self.settings[method] if 2 * len(setting.runs) >= most]
        return min(able, key=lambda setting: setting.merit)

    def rates(self, method: str, tolerance: float) -> dict[float, bool]:
        """Learning rates that were tried, and whether half of the runs with one, in any setting, reach a target."""
        found: dict[float, bool] = {}
        for setting in self.settings[method]:
            if setting.runs and setting.rate > 0:
                reached = (setting.tolerance or math.inf) <= tolerance
                found[setting.rate] = found.get(setting.rate, False) or reached
        return dict(sorted(found.items()))

    def target(self, methods: Sequence[str]) -> float | None:
        """Tolerance of the strictest target that at least half of the methods reach with their best setting."""
        reached = sorted(self.chosen(method).tolerance or math.inf for method in methods)
        tolerance = reached[(len(reached) - 1) // 2]
        return tolerance if math.isfinite(tolerance) else None

    def ranks(self, methods: Sequence[str]) -> np.ndarray:
        """1 for the best; means where methods are equal."""
        merits = [self.chosen(method).merit for method in methods]
        order = sorted(set(merits))
        return rankdata([order.index(merit) for merit in merits])


class Against(NamedTuple):
    """How the methods on one problem compare with the best of them.

    ``p_values`` are by method, NaN where a pair cannot be tested; ``said`` tells what was tested.
    """

    best: str
    p_values: dict[str, float]
    said: str


def against_best(problem: Problem, methods: Sequence[str]) -> Against:
    """Signed-rank tests of the runs of every method against those of the method ranked first, paired by seed."""
    best = methods[int(np.argmin(problem.ranks(methods)))]
    leader = problem.chosen(best)
    others = [method for method in methods if method != best]
    if not others:
        return Against(best, {}, "Not tested: there is nothing to compare one method with.")
    what = f"{problem.unit} to its target, {power_of_ten(leader.tolerance)}" if leader.tolerance else \
        "final objective, since no target was reached"
    pairs = {method: _pairs(leader, problem.chosen(method)) for method in others}
    sizes = {len(pair[0]) for pair in pairs.values()}
    need = fewest_pairs(len(others))
    if max(sizes) < need:
        seeds = "one seed" if max(sizes) == 1 else f"{max(sizes)} seeds"
        said = f"Not tested: with {seeds} no difference could be significant at 5 %; it takes {need}."
        return Against(best, {}, said)
    random = {method: pair for method, pair in pairs.items() if leader.draws or problem.chosen(method).draws}
    raw = np.array([signed_rank(*pair) for pair in random.values()])
    told_apart = np.isfinite(raw)
    comparisons = int(told_apart.sum())
    adjusted = np.full(raw.size, np.nan)
    adjusted[told_apart] = holm(raw[told_apart])
    said = (f"Against {best}: Wilcoxon’s signed-rank test, two-sided, on the {what}, paired over "
            f"{' or '.join(map(str, sorted(sizes)))} seeds; p-values corrected by Holm’s method for "
            f"{comparisons} comparison{'s' * (comparisons != 1)}. "
            "The best was chosen by the same runs, which favours it.")  # fmt: skip
    if len(random) < len(pairs):
        said += " Where two methods do not depend on the seed, more seeds are no more evidence, and nothing is tested."
    return Against(best, dict(zip(random, adjusted.tolist(), strict=True)), said)


def _pairs(leader: Setting, other: Setting) -> np.ndarray:
    """Work of both to the leader's target, else final objectives, at the seeds that both have run; shape (2, k)."""
    target = leader.tolerance
    runs, seeds = _shared([leader, other])
    return np.array([[run.final if target is None else run.costs[target].work for run in by_seed] for by_seed in runs],
                    float).reshape(2, len(seeds))  # fmt: skip


def _shared(settings: Sequence[Setting]) -> tuple[list[list[Run]], list[int]]:
    """The runs of each setting at the seeds that all have run, and those seeds."""
    seeds = sorted({run.row.seed for setting in settings for run in setting.runs})
    found = [setting.by_seed(seeds) for setting in settings]
    shared = [seed for seed in seeds if all(seed in by_seed for by_seed in found)]
    return [[by_seed[seed] for seed in shared] for by_seed in found], shared


class Study:
    """All that a report shows.

    Parameters
    ----------
    store : Store
        Open; it is read once, while others may go on writing.
    build : callable
        From a run's spec to what it is made of.

    Attributes
    ----------
    solved : list of (spec, origin, value)
        Optima that the store did not know and that take long to find: `Store.keep_optimum` may keep them.
    """

    def __init__(self, store: Store, build: Callable[[dict[str, Any]], Any]):
        self.solved: list[tuple[dict[str, Any], str, float]] = []
        self.header: Header = store.header
        self.rows = store.runs()
        self.finished = [row for row in self.rows if row.status in ("done", "failed")]
        self.left = len(self.rows) - len(self.finished)
        by_name = dict(_grouped(self.rows, lambda row: row.problem))
        self.problems = [Problem(name, by_name[name], store.curve, build, partial(self._optimum, store))
                         for name in _ordered(by_name, self.header.problems)]  # fmt: skip
        self.methods = _ordered({row.method for row in self.rows}, self.header.methods)
        self.output, self._metrics = presentation(self.header.source)

    def _optimum(self, store: Store, spec: dict[str, Any], task: Any) -> tuple[str, float]:
        """Where the optimum of a problem is from, and its value, which the store may know."""
        if (kept := store.optimum(spec)) is not None:
            return kept
        origin, x = task.reference
        value = math.nan if origin == "start" else float(task.value(x))
        if math.isfinite(value) and hasattr(getattr(task, "fun", None), "n_terms"):
            self.solved.append((spec, origin, value))
        return origin, value

    def metrics(self, problem: Problem) -> list[str]:
        """The metrics of a problem's runs that the study's file wants to be shown."""
        return shown(dict.fromkeys(name for row in problem.rows for name in row.metrics), problem.name, self._metrics)

    def ranked(self, problem: Problem) -> list[str]:
        """The methods that have run on a problem, in the study's order."""
        there = set(problem.methods)
        return [method for method in self.methods if method in there]

    @cached_property
    def compared(self) -> tuple[list[str], list[Problem]]:
        """Methods and problems of the largest table without a hole: each of these has run on each of those."""
        ran = {method: [problem for problem in self.problems if method in problem.methods] for method in self.methods}
        return _rectangle(ran)

    @cached_property
    def comparison(self) -> Comparison | None:
        """Friedman's test over problems, or None where nothing has run."""
        methods, problems = self.compared
        if not methods:
            return None
        return compare(np.array([problem.ranks(methods) for problem in problems]))

    def cost_table(self, tolerance: float, unit: int = 0) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Methods, what their best settings paid on the problems and seeds that all have run, and weights.

        ``unit`` is 0 for work, 1 for seconds.  Every problem has the same weight, shared by its seeds.
        """
        methods, problems = self.compared
        rows, weights = [], []
        for problem in problems:
            runs, seeds = _shared([problem.chosen(method) for method in methods])
            rows += [[run.costs[tolerance][unit] for run in at_seed] for at_seed in zip(*runs, strict=True)]
            weights += [1 / len(seeds) for _ in seeds]
        return methods, np.array(rows, float).reshape(len(rows), len(methods)), np.array(weights)


def work(curve: dict[str, np.ndarray]) -> np.ndarray:
    """Epochs along a curve, or evaluations of the whole objective where there are no epochs: an epoch costs as much."""
    epochs = curve.get("epoch")
    return curve["nfev"] if epochs is None or not np.isfinite(epochs).any() else epochs


def _cost(work: float, seconds: float) -> Cost:
    """Never nothing: what begins at the optimum pays for one evaluation."""
    return Cost(float(work) or 1.0, max(float(seconds), 1e-9))


def _built(row: Row, build: Callable[[dict[str, Any]], Any]) -> tuple[Any, str]:
    """The task of a run; or none, and why: its data, or a user's code, may not be here any more."""
    try:
        return build(row.spec).task, ""
    except Exception as error:
        why = str(error) if isinstance(error, ExperimentError) else f"{type(error).__name__}: {error}"
        return None, f"This problem is not built here ({why}), so its optimum and contours are missing."


def _optimum(task: Any, solve: Callable[[Any], tuple[str, float]], found: float) -> tuple[float, bool]:
    """The optimum, and whether it is known: not if the problem has no answer, or a run has found a better one."""
    if task is None:
        return found, False
    try:
        _, value = solve(task)
    except Exception:  # a user's function may raise anywhere, as in the runs, which tell of it
        return found, False
    if not math.isfinite(value) or found < value - 1e-9 * max(1.0, abs(value)):
        return found, False
    return min(value, found) if math.isfinite(found) else value, True


def _starts(rows: Iterable[Row], curves: dict[str, dict[str, np.ndarray]]) -> dict[int, float]:
    """The objective where runs begin, by seed: the largest that was the first of a curve."""
    starts: dict[int, float] = {}
    for row in rows:
        values = curves[row.id].get("fun", np.empty(0))
        if values.size and math.isfinite(values[0]):
            starts[row.seed] = max(starts.get(row.seed, -math.inf), float(values[0]))
    return starts


def _grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> list[tuple[Any, list[Row]]]:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.items())


def _ordered(names: Iterable[str], order: Sequence[str]) -> list[str]:
    """Names in the given order; those that it lacks come last, by the alphabet."""
    places = {name: place for place, name in enumerate(order)}
    return sorted(names, key=lambda name: (places.get(name, len(places)), name))


def _rectangle(ran: dict[str, list[Problem]]) -> tuple[list[str], list[Problem]]:
    best: tuple[list[str], list[Problem]] = [], []
    for wanted in ran.values():
        able = [method for method, problems in ran.items() if set(wanted) <= set(problems)]
        if len(able) * len(wanted) > len(best[0]) * len(best[1]):
            best = able, wanted
    return best
