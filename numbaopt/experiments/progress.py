"""What a person, or a batch system, sees of a study while it runs: tables, a progress bar, JSON lines, or nothing."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..status import NOT_FINITE
from .build import build
from .config import presentation, shown
from .report import Table
from .rows import Row
from .store import Store
from .words import median, settings_of

MOST_METHODS_SHOWN = 60  # settings in a table, best first where there are more
KEYS = ("id", "status", "problem", "method", "settings", "seed", "fun", "seconds")


def as_object(row: Row) -> dict[str, Any]:
    """A run for machines: keys ``id status problem method settings seed fun seconds ...``, null for what is no number.

    Examples
    --------
    >>> from numbaopt.experiments.jobs import Job
    >>> from numbaopt.experiments.progress import as_object
    >>> from numbaopt.experiments.rows import Row
    >>> row = Row("a1", "failed", "p", "Adam", {"lr": 0.1}, 0, {}, float("nan"), None, -1, "", 0, 0, float("nan"), 0.0,
    ...           {}, {}, "Traceback ...")
    >>> as_object(row)["fun"] is None, list(as_object(row))[:8]
    (True, ['id', 'status', 'problem', 'method', 'settings', 'seed', 'fun', 'seconds'])
    """
    more = ("code", "message", "nit", "nfev", "epochs", "metrics", "error")
    return {key: finite(getattr(row, key)) for key in (*KEYS, *more)}


def finite(value: Any) -> Any:
    """A value as JSON knows it: null for numbers that are not finite."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Quiet:
    """Shows nothing; the base of all.

    Parameters
    ----------
    store : Store
        Of the study.
    """

    def __init__(self, store: Store):
        self.store = store

    def begin(self, waiting: int, plan: str) -> None:
        """So many runs are to be made, as ``plan`` says."""

    def finished(self, rows: Sequence[Row]) -> None:
        """These have come to an end, and are stored."""

    def tried(self, best: str) -> None:
        """A trial of tuning has ended; this is the best so far."""

    def end(self) -> None:
        """No more will come."""


class Lines(Quiet):
    """A line of JSON a run, as it ends."""

    def finished(self, rows: Sequence[Row]) -> None:
        """Print them."""
        for row in rows:
            sys.stdout.write(json.dumps(as_object(row), allow_nan=False) + "\n")
        sys.stdout.flush()


class Tables(Quiet):
    """A table of every problem as soon as its last run has ended, and a progress bar on terminals."""

    def __init__(self, store: Store, echo: Callable[[str], Any] = print):
        super().__init__(store)
        self.echo, self.bar = echo, None
        self.failed, self.best = 0, {}  # type: ignore[var-annotated]
        rows = store.runs()
        self.left = dict.fromkeys(store.header.problems, 0)
        for row in rows:
            self.left[row.problem] = self.left.get(row.problem, 0) + (row.status in ("waiting", "running"))
            self._note(row)
        self.problems = {row.problem for row in rows}

    def begin(self, waiting: int, plan: str) -> None:
        """Say what is to come, and show what is there already."""
        self.echo(f"{self.store.header.title}: {plan}\n")
        for problem, left in self.left.items():
            if left == 0 and problem in self.problems:
                self._show(problem)
        if waiting:
            self.bar = _bar(waiting)

    def finished(self, rows: Sequence[Row]) -> None:
        """Count them."""
        for row in rows:
            self._note(row)
            self.left[row.problem] -= 1
        if self.bar is not None:
            self.bar.set_postfix_str(self._state(rows[-1].problem), refresh=False)
            self.bar.update(len(rows))
        for problem in dict.fromkeys(row.problem for row in rows):
            if self.left[problem] == 0:
                self._show(problem)

    def end(self) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()

    def _note(self, row: Row) -> None:
        self.failed += row.status == "failed"
        if row.status == "done" and row.fun < self.best.get(row.problem, (math.inf, ""))[0]:
            self.best[row.problem] = row.fun, row.method

    def _state(self, problem: str) -> str:
        best, method = self.best.get(problem, (math.nan, ""))
        best_of = f"{problem}: {best:.6g} ({method})" if method else problem
        return f"{self.failed} failed, {best_of}" if self.failed else best_of

    def _show(self, problem: str) -> None:
        lines: list[str] = []
        table(self.store, problem, lines.append)
        if self.bar is not None:
            self.bar.clear()
        for line in [*lines, ""]:
            self.echo(line)
        if self.bar is not None:
            self.bar.refresh()


class Trials(Quiet):
    """What tuning is about to do, and a progress bar over trials on terminals."""

    def __init__(self, store: Store, echo: Callable[[str], Any] = print):
        super().__init__(store)
        self.echo, self.bar = echo, None

    def begin(self, waiting: int, plan: str) -> None:
        """Say what is to come."""
        self.echo(plan)
        self.bar = _bar(waiting or None, "trial")

    def tried(self, best: str) -> None:
        """Count it."""
        if self.bar is not None:
            self.bar.set_postfix_str(best, refresh=False)
            self.bar.update(1)

    def end(self) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()


def _bar(total: int | None, unit: str = "run") -> Any:
    """A bar on stderr where that is a terminal."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return None
    return tqdm(total=total, unit=unit, file=sys.stderr, disable=None, dynamic_ncols=True, smoothing=0.1)


def table(store: Store, problem: str, echo: Callable[[str], Any] = print) -> None:
    """Print the runs of a problem: a row for each setting of each method, with medians over seeds."""
    rows = store.runs(problem=problem)
    settings: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        settings.setdefault((row.method, json.dumps(row.settings)), []).append(row)
    counts = {method: sum(other == method for other, _ in settings) for method, _ in settings}
    order = list(settings)
    if len(order) > MOST_METHODS_SHOWN:
        order = sorted(order, key=lambda key: median(row.fun for row in settings[key]))[:MOST_METHODS_SHOWN]
    labels = {key: f"{key[0]} ({settings_of(json.loads(key[1]))})" if counts[key[0]] > 1 else key[0] for key in order}
    title, name, known, unknowns, on_data = _problem(rows)
    several = max(len(of) for of in settings.values())
    values = {key: _values(settings[key], unknowns if several == 1 else (), on_data) for key in order}
    wanted = dict.fromkeys(column for row in (known, *values.values()) for column in row if column not in LAST)
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    hidden = set(metrics) - set(shown(metrics, problem, presentation(store.header.source)[1]))
    wanted = {column: None for column in wanted if column not in hidden}
    if several > 1:
        wanted = {column: None for column in wanted if column not in unknowns}
        wanted["runs"] = None
    columns = [*wanted, *(("epochs", "ms/epoch") if on_data else ("steps", "us/step"))]
    made = Table(f"[{problem}] {title}", [*labels.values(), name], columns, echo)
    for key in order:
        made.row(labels[key], values[key], _note(settings[key]))
    if name:
        made.row(name, known)
    if len(order) < len(settings):
        echo(f"  ... and {len(settings) - len(order)} other settings")
    shared = [row for row in rows if row.status == "done" and not row.about.get("timed", True)]
    if any("rounds" in row.about for row in shared):
        echo("  The machine was busy with something else: these times mean little.")
    elif shared:
        echo("  Times are of runs that shared the machine, or one call, with others; --timing makes them alone.")


LAST = ("epochs", "ms/epoch", "steps", "us/step", "runs")


def _problem(rows: Sequence[Row]) -> tuple[str, str, dict[str, float], tuple[str, ...], bool]:
    """What a problem is in words, its known answer and what that reaches, its unknowns, whether it has data."""
    try:
        task = build(rows[0].spec).task
        about = f"{task.about[0].upper()}{task.about[1:]}"
        name, answer = task.reference
        known = {**dict(zip(task.unknowns, map(float, answer), strict=False)), "objective": float(task.value(answer)),
                 **task.judge(answer)}  # fmt: skip
        return about, name, known, task.unknowns, hasattr(task.fun, "n_terms")
    except Exception:  # its data are elsewhere, or its code fails
        return "", "", {}, (), any(math.isfinite(row.epochs) for row in rows)


def _values(rows: Sequence[Row], unknowns: Sequence[str], on_data: bool) -> dict[str, float | None]:
    """A row of the table: medians of what the runs of a setting have reached."""
    done = [row for row in rows if row.status == "done"]
    values: dict[str, float | None] = {"runs": len(done)}
    if not done:
        return values
    if unknowns and done[0].x is not None:
        values |= dict(zip(unknowns, map(float, done[0].x), strict=False))
    values["objective"] = median(row.fun for row in done)
    for name in done[0].metrics:
        values[name] = median(row.metrics.get(name, math.nan) for row in done)
    steps = median((row.epochs if on_data else row.nit) for row in done)
    unit = median(row.seconds / max(1.0, row.epochs if on_data else row.nit) for row in done)
    if math.isfinite(steps):
        values |= {"epochs": round(steps), "ms/epoch": 1e3 * unit} if on_data else \
                  {"steps": round(steps), "us/step": 1e6 * unit}  # fmt: skip
    return values


def _note(rows: Sequence[Row]) -> str:
    """What else there is to say of the runs of a setting."""
    failed = sum(row.status == "failed" for row in rows)
    diverged = sum(row.status == "done" and row.code == NOT_FINITE for row in rows)
    told = [("failed", failed), ("diverged", diverged)]
    return ", ".join(what if len(rows) == 1 else f"{number} {what}" for what, number in told if number)
