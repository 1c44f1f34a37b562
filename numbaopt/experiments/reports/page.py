"""The page of a report: what `summary` found and `figures` drew, put into ``page.html``."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..words import band, count, duration, is_number, median, number, p_value, power_of_ten, value_of
from . import plates
from .figures import Looks
from .plates import PROFILES, Drawings
from .statistics import quantiles
from .summary import MIDDLE, TOLERANCES, Problem, Study, against_best

LONGEST_TEXT = 40_000  # characters of a study's source or an error that a page repeats


def compose(study: Study, looks: Looks, drawings: Drawings) -> str:
    """The page, whole; its figures are drawn on the way."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True,
                              lstrip_blocks=True, undefined=StrictUndefined)  # fmt: skip
    environment.globals.update(look=lambda method: _look(*looks[method]), power=power_of_ten)
    environment.filters.update(number=number, time=duration, count=count)
    return environment.get_template("page.html").render(
        title=study.header.title or study.header.file, header=study.header, state=_state(study),
        overall=_overall(study), ranks=drawings(plates.ranks(study, looks)),
        profiles=drawings(plates.profiles(study, looks, _timing(study))),
        problems=[_problem(study, problem, looks, drawings) for problem in study.problems],
        failures=_failures(study), divergences=_divergences(study), environment=[*_environment(study)],
        timing=_timing(study), source=study.header.source[:LONGEST_TEXT], seeds=_seeds(study), tolerances=TOLERANCES,
        command=_command(study), files=_files(study), infinity=math.inf,
    )  # fmt: skip


# Tables


def _overall(study: Study) -> dict[str, Any]:
    """Every method over all problems."""
    methods, problems = study.compared
    comparison = study.comparison
    places = dict(zip(methods, comparison.mean_ranks, strict=True)) if comparison else {}
    firsts = Counter(method for problem in problems
                     for method, rank in zip(methods, problem.ranks(methods), strict=True) if rank == 1)  # fmt: skip
    rows = []
    for method in study.methods:
        best = [problem.chosen(method) for problem in study.problems if method in problem.methods]
        tried = [setting for problem in study.problems for setting in problem.settings.get(method, ())]
        every = [run for setting in tried for run in setting.runs]
        rates = [list(found.values()) for found in _rates(study, method) if len(found) > 1]
        rows.append({
            "method": method, "rank": places.get(method, math.nan), "firsts": firsts[method], "problems": len(best),
            "reached": [np.mean([np.isfinite(setting.costs(tolerance)[:, 0]).mean() for setting in best])
                        if best else math.nan for tolerance in PROFILES],
            "rates": np.mean([np.mean(found) for found in rates]) if rates else math.nan,
            "runs": len(every), "diverged": sum(run.diverged for run in every),
            "failed": sum(run.row.status == "failed" for run in every),
        })  # fmt: skip
    rows.sort(key=lambda row: (math.isnan(row["rank"]), row["rank"]))
    left_out = [method for method in study.methods if method not in methods]
    return {"rows": rows, "said": comparison.said if comparison else "", "methods": methods,
            "problems": [problem.name for problem in problems], "left_out": left_out, "targets": PROFILES,
            "all_problems": len(problems) == len(study.problems)}  # fmt: skip


def _rates(study: Study, method: str) -> Iterator[dict[float, bool]]:
    """On each problem that a method has run on: which rates bring it to the problem's target."""
    for problem in study.problems:
        if method in problem.methods and (target := problem.target(study.ranked(problem))):
            yield problem.rates(method, target)


def _problem(study: Study, problem: Problem, looks: Looks, drawings: Drawings) -> dict[str, Any]:
    """All that the page says of one problem."""
    methods = study.ranked(problem)
    left = sum(row.status not in ("done", "failed") for row in problem.rows)
    told = {"name": problem.name, "left": left, "known": problem.known, "best": problem.best, "start": problem.start,
            "unit": problem.unit, "about": problem.task.about if problem.task else problem.unbuilt}  # fmt: skip
    if not methods:
        return {**told, "rows": []}
    settings = [problem.chosen(method) for method in methods]
    target, against = problem.target(methods), against_best(problem, methods)
    metrics = study.metrics(problem)
    rows = []
    for setting, rank in zip(settings, problem.ranks(methods), strict=True):
        costs = quantiles(setting.costs(target), (0.5,))[0] if target else (math.inf, math.inf)
        rows.append({
            "method": setting.method, "rank": rank, "setting": setting.told, "target": setting.tolerance,
            "rates": band(problem.rates(setting.method, target)) if target else "–",
            "final": quantiles(setting.finals, MIDDLE) - (problem.best if math.isfinite(problem.best) else 0.0),
            "work": costs[0], "seconds": costs[1], "runs": len(setting.runs),
            "sound": sum(run.sound for run in setting.runs),
            "metrics": [median(run.row.metrics.get(name, math.nan) if run.sound else math.nan
                               for run in setting.runs) for name in metrics],
            "first": setting.method == against.best, "p": p_value(against.p_values.get(setting.method, math.nan)),
        })  # fmt: skip
    rows.sort(key=lambda row: row["rank"])
    drawn = drawings(plates.curves(problem, settings, looks, _timing(study), study.output))
    return {**told, "rows": rows, "said": against.said, "figures": drawn, "metrics": metrics, "target": target,
            "tested": bool(against.p_values)}  # fmt: skip


def _failures(study: Study) -> list[dict[str, Any]]:
    """Runs that raised, by what they raised."""
    groups: dict[str, list[Any]] = {}
    for row in study.finished:
        if row.status == "failed":
            lines = row.error.strip().splitlines()
            groups.setdefault(lines[-1] if lines else "no reason was given", []).append(row)
    return [{
        "why": why, "runs": len(rows), "where": _where(rows), "example": rows[0].id,
        "error": rows[0].error[-LONGEST_TEXT:],
    } for why, rows in sorted(groups.items(), key=lambda group: -len(group[1]))]  # fmt: skip


def _where(rows: Sequence[Any]) -> str:
    counts = Counter((row.method, row.problem) for row in rows)
    named = [f"{method} on {problem} ({count})" for (method, problem), count in counts.most_common(12)]
    return ", ".join(named) + (f" and {len(counts) - 12} more" if len(counts) > 12 else "")


def _divergences(study: Study) -> list[dict[str, Any]]:
    """Settings with which runs diverged, by problem and method."""
    found = []
    for problem in study.problems:
        for method in study.ranked(problem):
            lost = [(setting, [run for run in setting.runs if run.diverged]) for setting in problem.settings[method]]
            lost = [(setting, runs) for setting, runs in lost if runs]
            if lost:
                found.append({
                    "problem": problem.name, "method": method, "message": lost[0][1][0].row.message,
                    "settings": [(setting.told, len(runs), len(setting.runs)) for setting, runs in lost],
                })  # fmt: skip
    return found


# How to make it again


def _state(study: Study) -> dict[str, Any]:
    statuses = Counter(row.status for row in study.finished)
    diverged = sum(run.diverged for problem in study.problems for settings in problem.settings.values()
                   for setting in settings for run in setting.runs)  # fmt: skip
    return {"runs": len(study.rows), "done": statuses["done"], "failed": statuses["failed"], "left": study.left,
            "diverged": diverged, "methods": len(study.methods), "problems": len(study.problems),
            "seeds": len({row.seed for row in study.rows})}  # fmt: skip


def _command(study: Study) -> str:
    """What made the runs."""
    places = study.rows[0].spec.get("places", {}) if study.rows else {}
    options = ["--data", places["data"]] if places.get("data") else []
    options += [word for plugin in places.get("plugins", ()) for word in ("--plugin", plugin)]
    options += ["--timing"] if any("rounds" in row.about for row in study.finished) else []
    asked = study.header.command or shlex.join(["numbaopt", "run", study.header.file])
    return f"{asked} {shlex.join(options)}".rstrip()


def _files(study: Study) -> list[tuple[str, str]]:
    """Files of data and code that the runs read, with the beginnings of their hashes."""
    found = {(name, value_of(told)) for row in study.rows for name, told in row.spec.get("files", {}).items()}
    return sorted(found)


def _environment(study: Study) -> Iterator[tuple[str, str]]:
    """What the runs say of where they were made: each fact once."""
    names = dict.fromkeys(name for row in study.finished for name in row.about if name != "timed")
    for name in names:
        values = Counter(value_of(row.about[name]) or "unknown" for row in study.finished if name in row.about)
        numbers = [row.about[name] for row in study.finished if is_number(row.about.get(name))]
        if len(values) == 1:
            yield name, next(iter(values))
        elif len(values) <= 4:
            yield name, "; ".join(f"{value} ({count} runs)" for value, count in values.most_common())
        elif len(numbers) == sum(values.values()):
            yield name, f"{number(min(numbers))} to {number(max(numbers))}"
        else:
            ordered = sorted(values)
            yield name, f"{ordered[0]} to {ordered[-1]} ({len(values)} values)"


def _timing(study: Study) -> str:
    """Which times mean something."""
    said = [row.about["timed"] for row in study.finished if "timed" in row.about]
    loaded = len(said) - sum(map(bool, said))
    if not said:
        return "It is not known whether the machine was busy with other work."
    if not loaded:
        return "All times were taken without other work on the machine."
    some = f"{loaded} of {len(said)}" if loaded < len(said) else "All"
    return f"{some} times were taken while the machine, or the same call, did other work: take them as upper bounds."


def _seeds(study: Study) -> str:
    seeds = sorted({row.seed for row in study.rows})
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds[:100])) + (" …" if len(seeds) > 100 else "")


def _look(colour: str, dashes: Any) -> dict[str, str]:
    """A line of a legend, with SVG's dashes."""
    return {"colour": colour,
            "dashes": "none" if isinstance(dashes, str) else " ".join(f"{2 * d:g}" for d in dashes[1])}  # fmt: skip
