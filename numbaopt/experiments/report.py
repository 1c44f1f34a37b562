"""Tables in the terminal, and files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

FORMATS = {"objective": ".6g", "distance": ".1e", "above": ".1e", "steps": ",d", "epochs": ",d", "runs": ",d",
           "accuracy": ".4f", "log-loss": ".4f", "R2": ".4f", "RMSE": ".4g", "us/step": ".3f", "ms/epoch": ".3f",
           "first |g|": ".1e", "last |g|": ".1e"}  # fmt: skip
COLUMN = 10  # least width


class Table:
    """A table that prints its rows as they come.

    Parameters
    ----------
    title : str
    labels : sequence of str
        The first entries of all rows to come: they decide the width of the first column.
    columns : sequence of str
        Names of the others.
    echo : callable
        What prints a line.

    Examples
    --------
    >>> from numbaopt.experiments.report import Table
    >>> table = Table("Descent", ["Adam"], ["steps", "objective"], print)
    Descent
      method       steps   objective
      ------------------------------
    >>> table.row("Adam", {"steps": 1200, "objective": 1 / 3})
      Adam         1,200    0.333333
    """

    def __init__(self, title: str, labels: Sequence[str], columns: Sequence[str], echo: Callable[[str], Any]):
        self.echo, self.columns = echo, columns
        self.first = max(map(len, ["method", *labels])) + 2
        self.widths = [max(COLUMN, len(name)) for name in columns]
        echo(title)
        head = "".join(f"  {name:>{width}}" for name, width in zip(columns, self.widths, strict=True))
        echo(f"  {'method':<{self.first - 2}}{head}")
        echo("  " + "-" * (self.first - 2 + len(head)))

    def row(self, label: str, values: Mapping[str, float | None], note: str = "") -> None:
        """Print a row; columns without a value stay empty."""
        cells = (self._cell(name, values.get(name)) for name in self.columns)
        entries = "".join(f"  {cell:>{width}}" for cell, width in zip(cells, self.widths, strict=True))
        self.echo(f"  {label:<{self.first - 2}}{entries}{'  ' + note if note else ''}".rstrip())

    @staticmethod
    def _cell(name: str, value: float | None) -> str:
        if value is None:
            return ""
        return format(value, FORMATS.get(name, "z.4f") if abs(value) < 1e6 or name in FORMATS else ".3g")


def write(path: Path, content: str | bytes) -> Path:
    """Write a file whole or not at all: a reader, or a full disk, never leaves half of one."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
