"""Parquet files, read by pyarrow, row group by row group."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ._files import File
from ._source import CHUNK_BYTES, Chunk, Source, working_dtype

BLOCK = 4096  # rows at a time from columns to rows: what is written should be in the cache


class Parquet(Source):
    """Columns of Parquet files; a chunk is one row group, or several small ones that follow each other.

    Parameters
    ----------
    path : path or sequence of paths
        A file, a folder (its ``*.parquet`` files, sorted by name), or several files, of the same columns.
    target : str
        The column that is y: numbers, or labels of any kind.
    columns : sequence of str, optional
        The columns of X, in this order; by default all but ``target``.
    chunk_bytes : int
        Row groups are put together up to this many bytes of X; a row group is never cut.

    Notes
    -----
    Needs pyarrow.  Missing values are NaN and raise an error.  float32 columns are trained in float32, others in
    float64.
    """

    def __init__(self, path: str | os.PathLike | Sequence[str | os.PathLike], target: str,
                 columns: Sequence[str] | None = None, chunk_bytes: int = CHUNK_BYTES):  # fmt: skip
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise ImportError("Parquet files need pyarrow: pip install 'numbaopt[stream]'") from None
        self._pyarrow: Any = pyarrow
        self.target = target
        self._files = [File(p) for p in _paths(path)]
        about = [self._metadata(file) for file in self._files]
        schema = about[0].schema.to_arrow_schema()
        columns = [name for name in schema.names if name != target] if columns is None else list(columns)
        for name in (target, *columns):
            if name not in schema.names:
                raise ValueError(f"{self._files[0]} has no column {name!r}; it has {', '.join(schema.names)}")
        if not columns:
            raise ValueError(f"{self._files[0]} has no column but the target {target!r}")
        kinds = [np.dtype(_numpy_type(schema.field(name).type, name)) for name in columns]
        for file, other in zip(self._files[1:], about[1:], strict=True):
            if not set(schema.names) <= set(other.schema.to_arrow_schema().names):
                raise ValueError(f"{file} has not the columns of {self._files[0]}")
        self.columns, self.n_features = columns, len(columns)
        narrow = all(working_dtype(kind) == np.float32 for kind in kinds)
        self.dtype = np.dtype(np.float32 if narrow else np.float64)
        self._groups: list[tuple[int, list[int]]] = []
        self.sizes = []
        room = chunk_bytes // (self.n_features * self.dtype.itemsize)
        for which, metadata in enumerate(about):
            for group in range(metadata.num_row_groups):
                rows = metadata.row_group(group).num_rows
                if group and self.sizes[-1] + rows <= room:
                    self._groups[-1][1].append(group)
                    self.sizes[-1] += rows
                else:
                    self._groups.append((which, [group]))
                    self.sizes.append(rows)
        if not sum(self.sizes):
            raise ValueError(f"Found array with 0 sample(s) in {self._files[0]} while a minimum of 1 is required.")
        self.n_chunks = len(self.sizes)
        self.recipe = {"data": [os.path.abspath(file.path) for file in self._files], "target": target,
                       "columns": self.columns, "chunk_bytes": chunk_bytes}  # fmt: skip

    def read(self, chunk: int) -> Chunk:
        table = self._table(chunk, [*self.columns, self.target])
        X = np.empty((table.num_rows, self.n_features), self.dtype)
        parts = [table.column(j).to_numpy() for j in range(self.n_features)]
        for first in range(0, table.num_rows, BLOCK):
            for j, part in enumerate(parts):
                X[first : first + BLOCK, j] = part[first : first + BLOCK]
        return X, table.column(self.target).to_numpy()

    def labels(self, chunk: int) -> Any:
        return self._table(chunk, [self.target]).column(0).to_numpy()

    def digest(self) -> str:
        told = f"{[file.digest() for file in self._files]} {self.columns} {self.target} {self._groups}"
        return hashlib.sha256(told.encode()).hexdigest()[:12]

    def where(self, chunk: int) -> str:
        which, groups = self._groups[chunk]
        shown = f"{groups[0]}" if len(groups) == 1 else f"{groups[0]} to {groups[-1]}"
        return f"chunk {chunk} (row group {shown} of {self._files[which]})"

    @contextlib.contextmanager
    def _open(self, file: File) -> Iterator[Any]:
        """pyarrow's view of a file, its errors as ours."""
        try:
            with file.open() as stream, self._pyarrow.parquet.ParquetFile(stream) as parquet:
                yield parquet
        except FileNotFoundError:
            raise
        except (self._pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{file} is not a usable Parquet file: {error}") from None

    def _metadata(self, file: File) -> Any:
        with self._open(file) as parquet:
            return parquet.metadata

    def _table(self, chunk: int, columns: list[str]) -> Any:
        which, groups = self._groups[chunk]
        with self._open(self._files[which]) as parquet:
            return parquet.read_row_groups(groups, columns=columns, use_threads=False).select(columns)


def _paths(path: Any) -> list[Path]:
    if not isinstance(path, str | os.PathLike):
        found = [Path(p) for p in path]
    else:
        found = sorted(Path(path).glob("*.parquet")) if Path(path).is_dir() else [Path(path)]
    if not found:
        raise ValueError(f"no Parquet file in {path!r}")
    return found


def _numpy_type(kind: Any, name: str) -> Any:
    try:
        dtype = np.dtype(kind.to_pandas_dtype())
    except (NotImplementedError, TypeError):
        dtype = np.dtype(object)
    if dtype.kind not in "biuf":
        raise ValueError(f"column {name!r} is of type {kind}, X must be numeric; choose others with columns=[...]")
    return dtype
