"""A study as tables for others: runs and curves as CSV or Parquet files."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint import write_atomically
from .rows import Row
from .schema import ExperimentError
from .store import Store

PLAIN = ("id", "status", "problem", "method", "seed", "fun", "seconds", "nit", "nfev", "epochs", "code", "message")


def export(store: Store, folder: str | os.PathLike, kind: str = "csv") -> list[Path]:
    """Write ``runs`` and ``curves`` of a study.

    Parameters
    ----------
    store : Store
    folder : path
    kind : {"csv", "parquet"}
        Parquet needs pyarrow.

    Returns
    -------
    list of Path

    Raises
    ------
    ExperimentError
        If something cannot be written; then files that are there stay as they are.
    """
    write = {"csv": _write_csv, "parquet": _write_parquet}[kind]
    written = []
    for name, columns in (("runs", _runs(store)), ("curves", _curves(store))):
        path = Path(folder) / f"{name}.{kind}"
        if path.is_symlink():
            raise ExperimentError(f"{path} is a symbolic link; name the place itself")
        try:
            write_atomically(path, lambda file, columns=columns: write(file, columns))
        except OSError as error:
            raise ExperimentError(f"{path}: {(error.strerror or str(error)).lower()}") from None
        written.append(path)
    return written


def _runs(store: Store) -> dict[str, list[Any]]:
    """A column a field, with settings and metrics each in columns of their own."""
    rows = store.runs()
    columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in PLAIN}
    for kind in ("settings", "metrics", "about"):
        parts: list[dict[str, Any]] = [dict(_flat(getattr(row, kind))) for row in rows]
        for name in dict.fromkeys(name for part in parts for name in part):
            columns[f"{kind}.{name}"] = _alike([part.get(name) for part in parts])
    columns["error"] = [row.error for row in rows]
    return columns


def _flat(table: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", json.dumps(value) if isinstance(value, list) else value


def _alike(values: list[Any]) -> list[Any]:
    """Values of one type: text, where there are several."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1:
        return values
    convert: Any = float if kinds == {int, float} else str
    return [None if value is None else convert(value) for value in values]


def _curves(store: Store) -> dict[str, Any]:
    """All curves, one after the other."""
    found: list[tuple[Row, dict[str, np.ndarray]]] = [(row, store.curve(row.id)) for row in store.runs()]
    names = list(dict.fromkeys(name for _, curve in found for name in curve))
    sizes = [len(next(iter(curve.values()), ())) for _, curve in found]
    columns: dict[str, Any] = {
        name: np.repeat(np.array([getattr(row, name) for row, _ in found], object), sizes)
        for name in ("id", "problem", "method", "seed")
    }
    for name in names:
        parts = [curve.get(name, np.full(size, np.nan)) for (_, curve), size in zip(found, sizes, strict=True)]
        columns[name] = np.concatenate(parts) if parts else np.zeros(0)
    return columns


def _write_csv(file: Any, columns: dict[str, Any]) -> None:
    import io

    text = io.TextIOWrapper(file, "utf-8", newline="")
    try:
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(columns)
        rows.writerows([_cell(value) for value in row] for row in zip(*columns.values(), strict=True))
        text.flush()
    finally:
        text.detach()


def _cell(value: Any) -> Any:
    """Numbers to the last digit, nothing for what is no number."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(float(value)) if isinstance(value, float) else value


def _write_parquet(file: Any, columns: dict[str, Any]) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise ExperimentError("--parquet needs pyarrow: pip install 'numbaopt[stream]'") from None
    table = pyarrow.table({name: pyarrow.array(list(values) if isinstance(values, list) else values.tolist())
                           for name, values in columns.items()})  # fmt: skip
    pyarrow.parquet.write_table(table, file)
