"""What a person, or a batch system, sees of a study while it runs: tables, a progress bar, JSON lines, or nothing."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..status import NOT_FINITE
from .build import build
from .config import presentation, shown
from .report import Table
from .rows import Row
from .store import Store
from .words import median, settings_of

MOST_LINES = 20  # below the bar
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

    def tried(self, name: str, best: float | None) -> None:
        """A trial of tuning a method on a problem has ended; the best value so far, if there is one."""

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
    """A table of every problem as soon as its last run has ended, and on terminals `Bars` with a line a problem."""

    def __init__(self, store: Store, echo: Callable[[str], Any] = print):
        super().__init__(store)
        self.echo, self.bars = echo, Bars()
        rows = store.runs()
        self.stands = {problem: Stand() for problem in (*store.header.problems, *(row.problem for row in rows))}
        for row in rows:
            self.stands[row.problem].add(row)

    def begin(self, waiting: int, plan: str) -> None:
        """Say what is to come, and show what is there already."""
        self.echo(f"{self.store.header.title}: {plan}\n")
        for problem, stand in self.stands.items():
            if stand.all and not stand.left:
                self._show(problem)
        if waiting:
            self.bars = Bars(waiting, lines=sum(stand.left > 0 for stand in self.stands.values()))
            self._tell(0)

    def finished(self, rows: Sequence[Row]) -> None:
        """Count them."""
        for row in rows:
            self.stands[row.problem].add(row, waited=True)
        for problem in dict.fromkeys(row.problem for row in rows):
            if not self.stands[problem].left:
                self._show(problem)
        self._tell(len(rows))

    def end(self) -> None:
        """Close the bars."""
        self.bars.close()

    def _tell(self, ended: int) -> None:
        failed = sum(stand.failed for stand in self.stands.values())
        width = max(map(len, self.stands), default=0)
        self.bars.update(ended, f"{failed} failed" if failed else "",
                         [f"  {problem:<{width}}  {stand}" for problem, stand in self.stands.items() if stand.left])

    def _show(self, problem: str) -> None:
        lines: list[str] = []
        table(self.store, problem, lines.append)
        with self.bars.aside():
            for line in [*lines, ""]:
                self.echo(line)


class Stand:
    """How the runs of a problem stand: how many there are, are left and have failed, and the best so far."""

    def __init__(self) -> None:
        self.all = self.left = self.failed = 0
        self.best, self.by = math.inf, ""

    def add(self, row: Row, waited: bool = False) -> None:
        """Take note of a run, which may have ``waited`` among those that are left."""
        self.all += not waited
        self.left += -1 if waited else row.status in ("waiting", "running")
        self.failed += row.status == "failed"
        if row.status == "done" and row.fun < self.best:
            self.best, self.by = row.fun, f"{row.method}{f', {settings_of(row.settings)}' if row.settings else ''}"

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.all - self.left}/{self.all}{failed}{f'  best {self.best:.6g} ({self.by})' if self.by else ''}"


class Trials(Quiet):
    """What tuning is about to do, and on terminals a bar over trials with the best of every method and problem."""

    def __init__(self, store: Store, echo: Callable[[str], Any] = print):
        super().__init__(store)
        self.echo, self.bars = echo, Bars()
        self.best: dict[str, str] = {}

    def begin(self, waiting: int, plan: str) -> None:
        """Say what is to come."""
        self.echo(plan)
        self.bars = Bars(waiting or None, "trial", plan.count("\n") + 1)

    def tried(self, name: str, best: float | None) -> None:
        """Count it."""
        if best is not None:
            self.best[name] = f"  {name}  best {best:.6g}"
        self.bars.update(1, "", list(self.best.values()))

    def end(self) -> None:
        """Close the bars."""
        self.bars.close()


class Bars:
    """A bar over all that is to come, with the time it may take, and lines below; on stderr where that is a terminal.

    Parameters
    ----------
    total : int, optional
        How much is to come, where that is known; 0: nothing is shown.
    unit : str
        Of what.
    lines : int
        How many there will be at most; what does not fit on the screen is counted.
    """

    def __init__(self, total: int | None = 0, unit: str = "run", lines: int = 0):
        self.bars: list[Any] = []
        if total == 0:
            return
        try:
            from tqdm import tqdm
        except ModuleNotFoundError:
            return
        how: dict[str, Any] = {"file": sys.stderr, "disable": None, "mininterval": 0, "miniters": 1}
        self.bars = [tqdm(total=total, unit=unit, smoothing=0.1, dynamic_ncols=True, position=0, **how)]
        if not self.bars[0].disable:
            room = max(1, min(lines, MOST_LINES, shutil.get_terminal_size().lines - 3))
            how |= {"bar_format": "{desc}", "leave": False, "nrows": room + 3}
            self.bars += [tqdm(position=1 + k, **how) for k in range(room)]

    def update(self, ended: int, said: str, lines: Sequence[str]) -> None:
        """So many more have ended; what to say beside the bar, and below."""
        if not self.bars or self.bars[0].disable:
            return
        self.bars[0].set_postfix_str(said, refresh=False)
        self.bars[0].update(ended)
        places, width = self.bars[1:], shutil.get_terminal_size().columns - 1
        lines = [*lines] if len(lines) <= len(places) else \
            [*lines[: len(places) - 1], f"  ... and {len(lines) - len(places) + 1} more"]  # fmt: skip
        for k, place in enumerate(places):
            line = lines[k][:width] if k < len(lines) else ""
            if line != place.desc:
                place.set_description_str(line)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is printed within it stands above the bars."""
        if not self.bars or self.bars[0].disable:
            yield
            return
        with self.bars[0].external_write_mode(file=sys.stdout):
            yield

    def close(self) -> None:
        """Leave only the bar itself."""
        for bar in reversed(self.bars):
            bar.close()


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
