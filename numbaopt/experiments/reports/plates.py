"""Which figures a report has, what they are called, and what stands under them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..config import Output
from ..words import power_of_ten
from . import figures, rates
from .figures import Looks
from .profiles import data_profile, performance_profile
from .ranks import on_a_line
from .ranks import ranks as draw_ranks
from .summary import Problem, Setting, Study

PROFILES = (1e-1, 1e-3, 1e-6)  # tolerances of the targets that profiles are about
LOST = (" Above a panel, × marks rates at which runs diverged and □ those at which runs only failed: black where none "
        "is left, grey where some are.")  # fmt: skip
TRIED = (" Where rates were drawn, each dot is a setting, open where it was given up early; the line is the median of "
         "the others with about the same rate, shaded from quartile to quartile.")  # fmt: skip
LONGEST_NAME = 80  # of a problem, in names of files
AGAINST = {"step": "steps", "nfev": "evaluations", "epoch": "epochs", "seconds": "time"}

NAMED = {"step": "step", "nfev": "evaluation", "epoch": "epoch", "seconds": "second"}  # in a study's file


class Drawing(NamedTuple):
    """A figure of a report: the name of its file, what stands under it, and how it is drawn."""

    name: str
    caption: str
    draw: Callable[[], Any | None]


class Drawings:
    """Figures as they are asked for: drawn once, written to ``keep(name, kind, content)``, and numbered."""

    def __init__(self, kinds: Sequence[str], keep: Callable[[str, bytes], Any]):
        self.kinds, self.keep, self.names = tuple(kinds), keep, Counter[str]()

    def __call__(self, drawings: Iterable[Drawing]) -> list[dict[str, str]]:
        """For the page: ``svg`` and ``caption`` of each figure that there is something to draw for."""
        shown = []
        for name, caption, draw in drawings:
            with figures.paper(name):
                made = draw()
                if made is None:
                    continue
                self.names[name.lower()] += 1
                count = self.names[name.lower()]
                name = name if count == 1 else f"{name}-{count}"
                files = {kind: figures.render(made, kind) for kind in {"svg", *self.kinds}}
            for kind in self.kinds:
                self.keep(f"{name}.{kind}", files[kind])
            svg = figures.inline(files["svg"], f"f{sum(self.names.values())}", caption)
            shown.append({"svg": svg, "caption": caption, "number": str(sum(self.names.values()))})
        return shown


def profiles(study: Study, looks: Looks, timing: str) -> Iterator[Drawing]:
    """Performance and data profiles for three targets, and one against time."""
    unit = _unit(study)
    for tolerance in PROFILES:
        methods, costs, weights = study.cost_table(tolerance)
        if len(methods) < 2 or not np.isfinite(costs).any():
            continue
        target = f"the target {power_of_ten(tolerance)}"
        yield Drawing(
            f"performance-{_power(tolerance)}",
            f"Performance profiles for {target}: how many of its runs a method brings there for at most so many times "
            f"the {unit} that the cheapest method needs.",
            partial(figures.profile, *performance_profile(costs, weights), methods, looks,
                    f"{unit} ÷ those of the cheapest"),
        )  # fmt: skip
        yield Drawing(
            f"data-{_power(tolerance)}",
            f"Data profiles for {target}: how many of its runs a method brings there within so many {unit}.",
            partial(figures.profile, *data_profile(costs, weights=weights), methods, looks, unit),
        )  # fmt: skip
    methods, costs, weights = study.cost_table(PROFILES[1], 1)
    if len(methods) > 1 and np.isfinite(costs).any():
        yield Drawing(
            "performance-seconds", f"Performance profiles in time for the target {power_of_ten(PROFILES[1])}. {timing}",
            partial(figures.profile, *performance_profile(costs, weights), methods, looks,
                    "time ÷ that of the fastest"),
        )  # fmt: skip


def ranks(study: Study, looks: Looks) -> Iterator[Drawing]:
    """Mean ranks, where some of them differ."""
    comparison, (methods, _) = study.comparison, study.compared
    if comparison is not None and math.isfinite(comparison.critical_difference):
        which = "joined by a bar do not differ" if on_a_line(methods) else "in the shade do not differ from the best"
        caption = f"Mean ranks over problems. Methods {which} at 5 % (Nemenyi’s test)."
        yield Drawing("ranks", caption, partial(draw_ranks, comparison, methods, looks))


def curves(problem: Problem, settings: Sequence[Setting], looks: Looks, timing: str,
           output: Output) -> Iterator[Drawing]:  # fmt: skip
    """What there is to draw of the best settings on one problem."""
    name = problem.name
    slug = re.sub(r"[^\w-]+", "-", name, flags=re.ASCII).strip("-")[:LONGEST_NAME] or "problem"
    several = max(len(setting.runs) for setting in settings) > 1
    shaded = "quartile to quartile" if output.quantiles == [0.25, 0.75] else \
        "the {:g} % to the {:g} % quantile".format(*(100 * part for part in output.quantiles))
    band = f"medians over seeds, shaded from {shaded}" if several else "one run of each method"
    against = {x: what for x, what in AGAINST.items() if output.against is None or NAMED[x] in output.against}
    if {"step", "nfev"} <= set(against) and figures.one_evaluation_a_step(settings):
        del against["nfev"]
        against["step"] = "steps, each of which takes one evaluation"
    lost = any(not run.sound for tried in problem.settings.values() for setting in tried for run in setting.runs)
    scattered = any(rates.are_scattered(tried) for tried in problem.settings.values())
    for x, what in against.items():
        yield Drawing(
            f"{slug}-{x}", f"{name} against {what}: {band}." + (f" {timing}" if x == "seconds" else ""),
            partial(figures.convergence, problem, settings, x, looks, output),
        )  # fmt: skip
    yield Drawing(
        f"{slug}-rates",
        f"{name}: where runs end, by learning rate; the star is the best rate, the other methods stand behind in "
        f"grey.{TRIED if scattered else ''}{LOST if lost else ''}",
        partial(rates.sensitivity, problem, [setting.method for setting in settings], looks, output),
    )  # fmt: skip
    yield Drawing(
        f"{slug}-paths", f"{name}: paths of the best settings from one start; dots lie equal numbers of steps apart.",
        partial(figures.trajectories, problem, settings, looks),
    )  # fmt: skip


def _power(tolerance: float) -> str:
    return f"1e{round(math.log10(tolerance))}"


def _unit(study: Study) -> str:
    units = {problem.unit for problem in study.compared[1]}
    return " or ".join(sorted(units))
