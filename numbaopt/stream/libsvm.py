"""LIBSVM text (``label index:value ...``), compressed or not, as chunks of sparse rows."""

from __future__ import annotations

import bz2
import functools
import gzip
import itertools
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..arguments import count
from ._files import File
from ._parse import NEWLINE, Table, parse
from ._source import CHUNK_BYTES, Chunk, InOrder, Source, working_dtype

OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
LINE = 1 << 16  # bytes read at a time where a line's end is looked for


class Libsvm(Source):
    """LIBSVM text; compressed by gzip, bzip2 or xz where the name ends in ``.gz``, ``.bz2`` or ``.xz``.

    Parameters
    ----------
    path : path
    n_features : int, optional
        Columns.
    zero_based : bool or "auto"
        Whether the first column has the index 0 in the file; "auto": where an index 0 is found.  Unless ``n_features``
        and ``zero_based`` are both given, the file is read once to find them, and the labels.
    dtype : dtype
        float64 or float32.
    chunk_bytes : int
        Text of a chunk, uncompressed.  A line belongs to the chunk in which it begins.

    Notes
    -----
    Compressed text can only be read in order: the order of its chunks is never shuffled, only that of the rows within.
    Indices of a row may come in any order; where one comes twice, the values add up.
    """

    def __init__(self, path: str | os.PathLike, n_features: int | None = None, zero_based: bool | str = "auto",
                 dtype: Any = np.float64, chunk_bytes: int = CHUNK_BYTES):  # fmt: skip
        if zero_based not in (True, False, "auto"):
            raise ValueError(f"zero_based={zero_based!r} must be True, False or 'auto'")
        self._file, self.dtype = File(path), working_dtype(np.dtype(dtype))
        self.chunk_bytes = count("chunk_bytes", chunk_bytes, 1)
        self._found: np.ndarray | None = None
        self._text: Callable[[int], np.ndarray | None] = self._piece
        opener = OPENERS.get(self._file.path.suffix)
        if self._file.size == 0:
            raise ValueError(f"{path} is empty")
        if opener is None:
            self.n_chunks = -(-self._file.size // self.chunk_bytes)
        else:
            self.ordered = True
            self._text = InOrder(functools.partial(self._pieces, opener))
        if n_features is None or zero_based == "auto":
            first, last = self._scan()
            self._base = int(first > 0 if zero_based == "auto" else not zero_based)
            self.n_features = last + 1 - self._base if n_features is None else count("n_features", n_features, 1)
            if last - self._base >= self.n_features:
                raise ValueError(f"n_features={n_features}: {path} has the index {last}, its first column "
                                 f"{self._base}")  # fmt: skip
        else:
            self._base, self.n_features = int(not zero_based), count("n_features", n_features, 1)
        self.recipe = {"data": os.path.abspath(path), "n_features": self.n_features, "zero_based": self._base == 0,
                       "dtype": str(self.dtype), "chunk_bytes": self.chunk_bytes}  # fmt: skip

    def read(self, chunk: int) -> Chunk | None:
        from scipy.sparse import csr_matrix

        table = self._parsed(chunk)
        if table is None:
            return None
        columns = table.columns
        if self._base:
            columns -= 1
        if columns.size and not (columns.min() >= 0 and columns.max() < self.n_features):
            bad = columns.min() if columns.min() < 0 else columns.max()
            raise ValueError(f"{self.where(chunk)}: the index {bad + self._base} is not one of the {self.n_features} "
                             f"columns from {self._base} on")  # fmt: skip
        X = csr_matrix((len(table.y), self.n_features), dtype=self.dtype)
        X.data, X.indices, X.indptr = table.values.astype(self.dtype, copy=False), columns, table.starts
        return X, table.y

    def labels(self, chunk: int) -> Any:
        table = self._parsed(chunk)
        return None if table is None else table.y

    def classes(self) -> np.ndarray:
        return super().classes() if self._found is None else self._found

    def where(self, chunk: int) -> str:
        return f"chunk {chunk} of {self._file}"

    def digest(self) -> str:
        return f"{self._file.digest()} by {self.chunk_bytes} bytes, {self.n_features} columns from {self._base} on"

    def _parsed(self, chunk: int) -> Table | None:
        try:
            text = self._text(chunk)
            return None if text is None else parse(text)
        except (ValueError, EOFError, OSError, lzma.LZMAError, zlib.error) as error:
            if str(self._file) in str(error):
                raise
            raise ValueError(f"{self.where(chunk)}: {error}") from None

    def _scan(self) -> tuple[int, int]:
        """Least and greatest index; takes note of labels and sizes of chunks."""
        first, last, labels, sizes = 2**31, -1, np.zeros(0), []
        for k in itertools.count() if self.n_chunks is None else range(self.n_chunks):
            table = self._parsed(k)
            if table is None:
                break
            sizes.append(len(table.y))
            if table.columns.size:
                first, last = min(first, int(table.columns.min())), max(last, int(table.columns.max()))
            if labels.size <= self.MOST_CLASSES:
                labels = np.union1d(labels, table.y)
        if last < 0:
            raise ValueError(f"{self._file} holds no index:value; n_features must be given")
        self.n_chunks, self.sizes, self._found = len(sizes), sizes, labels
        return first, last

    def _piece(self, chunk: int) -> np.ndarray:
        """The lines that begin within the chunk's bytes."""
        begin, end = chunk * self.chunk_bytes, min((chunk + 1) * self.chunk_bytes, self._file.size)
        text = self._bytes(max(begin - 1, 0), end)
        if begin > 0:  # the line around the chunk's first byte belongs to the chunk before
            whole = text.find(b"\n") + 1
            if whole == 0 or whole == len(text):
                return np.zeros(0, np.uint8)
            del text[:whole]
        while end < self._file.size and text[-1] != NEWLINE:
            more = self._bytes(end, min(end + LINE, self._file.size))
            end += len(more)
            text += more[: more.find(b"\n") + 1 or None]
        return np.frombuffer(text, np.uint8)

    def _bytes(self, begin: int, end: int) -> bytearray:
        memory = bytearray(end - begin)
        self._file.read_into(memory, begin)
        return memory

    def _pieces(self, opener: Any) -> Iterator[np.ndarray]:
        with self._file.open() as raw, opener(raw) as file:
            while text := file.read(self.chunk_bytes):
                yield np.frombuffer(text if text[-1] == NEWLINE else text + file.readline(), np.uint8)
