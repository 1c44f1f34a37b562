"""Tables of races: what was asked for, what was measured, on which machine."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from .timing import Times, ratio

OURS = "numbaopt"
PACKAGES = ("numpy", "scipy", "numba", "torch", "jax", "optax", "scikit-learn")
OF_GPUS = ("numba-cuda", "cupy-cuda13x", "cupy-cuda12x")  # named where they are installed


class Faster(NamedTuple):
    """Ours should take at most 1/``times`` of the time of the fastest of ``peers``."""

    times: float
    peers: tuple[str, ...]

    def verdict(self, times: dict[str, Times]) -> str | None:
        """What came of it; None where no peer took part."""
        there = [name for name in self.peers if name in times]
        if not there:
            return None
        best = min(there, key=lambda name: times[name].median)
        found = ratio(times[best], times[OURS])
        met = "met" if found.value >= self.times else "NOT met"
        return (f"{figure(found.value)}x {best} ({figure(found.low)}-{figure(found.high)}, fastest rounds "
                f"{figure(found.fastest)}x), asked {figure(self.times)}x: {met}")  # fmt: skip


class Below(NamedTuple):
    """Ours should take less than ``seconds``."""

    seconds: float

    def verdict(self, times: dict[str, Times]) -> str | None:
        """What came of it."""
        met = times[OURS].median < self.seconds
        return f"asked below {duration(self.seconds)}: " + ("met" if met else "NOT met")


class Case(NamedTuple):
    """A row: what was done, how long it took each contestant, what was asked for."""

    name: str
    times: dict[str, Times]
    goals: tuple[Faster | Below, ...] = ()


class Table(NamedTuple):
    """All cases of a race."""

    title: str
    cases: list[Case]
    notes: Iterable[str] = ()


def measured(case: Case) -> Case:
    """The case, told at once to who waits: a run that is ended keeps what it has measured."""
    text = as_text(Table("", [case])).splitlines()[3:]
    print("\n".join(text), file=sys.stderr, flush=True)
    return case


def optional(name: str, notes: list[str]) -> ModuleType | None:
    """A peer, or None and a note where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        note = f"{name} is not installed and was left out."
        if note not in notes:
            notes.append(note)
        return None


def figure(number: float) -> str:
    """Three significant digits, never in powers of ten."""
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(seconds) >= size:
            return f"{figure(seconds / size)} {unit}"
    return f"{figure(seconds / 1e-9)} ns"


def cells(table: Table) -> list[list[str]]:
    """The header and the rows: medians with their spread, and for peers how many times ours that is."""
    names = list(dict.fromkeys(name for case in table.cases for name in case.times))
    rows = [["", *names, "verdict"]]
    for case in table.cases:
        row = [case.name]
        for name in names:
            times = case.times.get(name)
            if times is None:
                row.append("")
                continue
            text = f"{duration(times.median)} ±{100 * times.spread:.0f}%"
            if name != OURS and OURS in case.times:
                text += f", {figure(ratio(times, case.times[OURS]).value)}x"
            row.append(text)
        verdicts = [verdict for goal in case.goals if (verdict := goal.verdict(case.times))]
        rows.append([*row, "; ".join(verdicts)])
    return rows


def as_text(table: Table) -> str:
    """For the terminal: verdicts on lines of their own."""
    grid = [row[:-1] for row in cells(table)]
    width = [max(len(row[k]) for row in grid) for k in range(len(grid[0]))]
    lines = ["", table.title, "=" * len(table.title)]
    for row, full in zip(grid, cells(table), strict=True):
        lines.append("  ".join(cell.ljust(width[k]) for k, cell in enumerate(row)).rstrip())
        if full[-1] and full is not row and row is not grid[0]:
            lines += [f"    {verdict}" for verdict in full[-1].split("; ")]
    return "\n".join([*lines, *(f"- {note}" for note in table.notes)])


def as_markdown(table: Table) -> str:
    """For a README."""
    head, *rows = cells(table)
    lines = ["", f"**{table.title}**", "", _piped(head), "|" + "---|" * len(head), *map(_piped, rows), ""]
    return "\n".join([*lines, *(f"- {note}" for note in table.notes)])


def _piped(row: list[str]) -> str:
    return "| " + " | ".join(row) + " |"


def machine() -> str:
    """Processor, cores, load and versions, in two lines."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    found = []
    for package in PACKAGES + OF_GPUS:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found += [f"no {package}"] * (package in PACKAGES)
    system = f"{platform.system()} {platform.machine()}"
    return f"{_processor()}, {cores} cores, {system}{load}\nPython {platform.python_version()}, {', '.join(found)}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"
