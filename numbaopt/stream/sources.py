"""Where chunks of a table come from: arrays, memory maps, ``.npy`` files, iterables."""

from __future__ import annotations

import hashlib
import mmap
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..arguments import count
from ..problems.validation import check_structure
from ._files import File
from ._source import CHUNK_BYTES, Chunk, InOrder, Source, working_dtype
from .libsvm import Libsvm
from .parquet import Parquet


class Arrays(Source):
    """Tables in memory, memory maps or ``.npy`` files, cut into chunks of equally many rows.

    Parameters
    ----------
    X : array, sparse matrix, numpy.memmap or path of shape (n_samples, n_features)
        A path is that of a ``.npy`` file.  Files and memory maps are read chunk by chunk into memory, never as a whole.
    y : array, numpy.memmap or path of shape (n_samples,)
    chunk_rows : int, optional
        Rows of a chunk (the last one may have fewer); by default as many as take some 16 MB.

    Examples
    --------
    >>> import numpy as np, numbaopt as no
    >>> source = no.stream.Arrays(np.ones((10, 3)), np.arange(10.0), chunk_rows=4)
    >>> source.n_chunks, source.read(2)[1], source.steps_per_epoch(batch_size=3)
    (3, array([8., 9.]), 5)
    """

    def __init__(self, X: Any, y: Any, chunk_rows: int | None = None):
        self._X, self._y = _table(X, "X", 2), _table(y, "y", 1)
        rows, self.n_features = self._X.shape
        if self._y.shape[0] != rows:
            numbers = [rows, self._y.shape[0]]
            raise ValueError(f"Found input variables with inconsistent numbers of samples: {numbers}")
        if rows < 1 or self.n_features < 1:
            what = "sample" if rows < 1 else "feature"
            raise ValueError(f"Found array with 0 {what}(s) (shape={self._X.shape}) while a minimum of 1 is required.")
        self.dtype = working_dtype(self._X.dtype)
        if chunk_rows is None:
            stored = self._X.bytes / rows
            chunk_rows = rounded(int(CHUNK_BYTES / max(stored, 1)))
        self.chunk_rows = min(count("chunk_rows", chunk_rows, 1), rows)
        if all(isinstance(path, str | os.PathLike) for path in (X, y)):
            self.recipe = {"data": os.path.abspath(X), "y": os.path.abspath(y), "chunk_rows": self.chunk_rows}
        self.n_chunks = -(-rows // self.chunk_rows)
        last = rows - (self.n_chunks - 1) * self.chunk_rows
        self.sizes = [self.chunk_rows] * (self.n_chunks - 1) + [last]

    def _span(self, chunk: int) -> tuple[int, int]:
        first = chunk * self.chunk_rows
        return first, min(first + self.chunk_rows, self._X.shape[0])

    def read(self, chunk: int) -> Chunk:
        span = self._span(chunk)
        return self._X.rows(*span), self._y.rows(*span)

    def labels(self, chunk: int) -> Any:
        return self._y.rows(*self._span(chunk))

    def digest(self) -> str:
        return f"{self._X.digest()} {self._y.digest()} {self._X.shape} by {self.chunk_rows}"

    def where(self, chunk: int) -> str:
        first, end = self._span(chunk)
        return f"chunk {chunk} (rows {first} to {end - 1}{self._X.name})"


class Chunks(Source):
    """Chunks that Python makes.

    Parameters
    ----------
    chunks : sequence, callable or iterable of (X, y) or (X, y, sample_weight)
        A sequence (anything with ``len`` and ``[k]``) is read in any order.  A callable returns a new iterator for
        every epoch, an iterable gives one by ``iter``; their chunks come in their own order.  An iterator, such as a
        generator, can be read once: it is good for one epoch.

    Examples
    --------
    >>> import numpy as np, numbaopt as no
    >>> def chunks():
    ...     for k in range(3):
    ...         yield np.full((2, 1), k), np.zeros(2)
    >>> no.stream.Chunks(chunks).read(1)[0].ravel()
    array([1, 1])
    """

    def __init__(self, chunks: Any):
        self.once = False
        self._first: Any = None
        if hasattr(chunks, "__getitem__") and hasattr(chunks, "__len__"):
            self.n_chunks, self._take = len(chunks), chunks.__getitem__
            if self.n_chunks < 1:
                raise ValueError("chunks is empty: there is nothing to train on")
        else:
            self.ordered, self.once = True, isinstance(chunks, Iterator)
            if not callable(chunks) and not isinstance(chunks, Iterable):
                raise TypeError(f"chunks must be a sequence, a callable or an iterable, not {type(chunks).__name__}")
            self._take = InOrder(chunks if callable(chunks) else lambda: iter(chunks), self.once)
        self._first = self._take(0)
        if self._first is None:
            raise ValueError("chunks is empty: there is nothing to train on")
        X = _pair(self._first)[0]
        X = X if hasattr(X, "tocsr") else np.asarray(X)
        if X.ndim != 2:
            raise ValueError(f"chunk 0: Expected 2D array, got {X.ndim}D array instead.")
        self.n_features, self.dtype = X.shape[1], working_dtype(X.dtype)
        self._digest = digest_of(X)
        if not self.ordered:
            self._first = None  # can be had again

    def classes(self) -> np.ndarray:
        if self.once:
            raise ValueError("classes must be given: an iterator cannot be read for its labels and then once more")
        return super().classes()

    def read(self, chunk: int) -> Chunk | None:
        if chunk == 0 and self._first is not None:  # looked at already
            found, self._first = self._first, None
        else:
            found = self._take(chunk)
        return None if found is None else _pair(found)

    def digest(self) -> str:
        return f"{self.n_chunks} chunks, the first {self._digest}"


def _pair(chunk: Any) -> Chunk:
    if not isinstance(chunk, tuple | list) or len(chunk) not in (2, 3):
        raise ValueError(f"a chunk must be (X, y) or (X, y, sample_weight), not {type(chunk).__name__}")
    return tuple(chunk)


class _Memory:
    """An array or sparse matrix, whole in memory or mapped by someone else."""

    name = ""

    def __init__(self, values: Any):
        self._values, self.shape, self.dtype = values, values.shape, values.dtype
        sparse = hasattr(values, "indptr")
        self.bytes = values.data.nbytes + values.indices.nbytes if sparse else values.nbytes

    def rows(self, first: int, end: int) -> Any:
        return self._values[first:end]

    def digest(self) -> str:
        return digest_of(self._values)


def _references(arrays: list[np.ndarray]) -> list[int]:
    return [sys.getrefcount(array) for array in arrays]


UNUSED = _references([np.empty(0)])[0]  # of an array that only the list holds


class _Stored:
    """An array in a file, from ``offset`` on."""

    def __init__(self, file: File, offset: int, shape: tuple[int, ...], dtype: np.dtype):
        self._file, self._offset, self.shape, self.dtype = file, offset, shape, dtype
        self._width = dtype.itemsize * int(np.prod(shape[1:]))
        self.bytes = self._width * shape[0]
        self.name = f" of {file}"
        self._lent: list[np.ndarray] = []
        if file.size < offset + self.bytes:
            raise ValueError(f"{file} is truncated: it has {file.size} bytes, {offset + self.bytes} are needed for "
                             f"shape {shape}")  # fmt: skip

    def rows(self, first: int, end: int) -> np.ndarray:
        values = self._memory(end - first)
        self._file.read_into(values.view(np.uint8).reshape(-1), self._offset + first * self._width)
        return values

    def _memory(self, rows: int) -> np.ndarray:
        """Memory of a chunk read before that nobody holds any more: new memory takes as long to get as to fill."""
        for values, references in zip(self._lent, _references(self._lent), strict=True):
            if len(values) == rows and references <= UNUSED:
                return values
        self._lent = [*self._lent[-1:], np.empty((rows, *self.shape[1:]), self.dtype)]
        return self._lent[-1]

    def digest(self) -> str:
        return self._file.digest()


def _table(values: Any, name: str, ndim: int) -> _Memory | _Stored:
    """``values`` as something that gives rows."""
    if isinstance(values, str | os.PathLike):
        table: Any = _npy(File(values))
    elif hasattr(values, "tocsr"):
        check_structure(values)
        table = _Memory(values.tocsr())
    elif isinstance(values, np.memmap) and isinstance(values.base, mmap.mmap) and values.filename is not None and (
            values.mode != "c" and values.flags.c_contiguous):  # fmt: skip
        table = _Stored(File(values.filename), values.offset, values.shape, values.dtype)
    else:
        table = _Memory(np.asarray(values))
    if len(table.shape) != ndim:
        raise ValueError(f"{name} must have {ndim} dimension{'s' * (ndim > 1)}, not shape {table.shape}")
    return table


def _npy(file: File) -> _Stored:
    try:
        with file.open() as stream:
            version = np.lib.format.read_magic(stream)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, by_columns, dtype = header(stream)
            offset = stream.tell()
    except ValueError as error:
        raise ValueError(f"{file} is not a usable .npy file: {error}") from None
    if dtype.hasobject:
        raise ValueError(f"{file} holds Python objects; only arrays of numbers or strings are read")
    if by_columns and len(shape) > 1:
        raise ValueError(f"{file} is stored by columns (Fortran order); save numpy.ascontiguousarray(X) to read rows")
    return _Stored(file, offset, shape, dtype)


def rounded(rows: int) -> int:
    """A number of rows that usual batch sizes divide."""
    return rows // 1024 * 1024 if rows > 1024 else max(rows, 1)


def digest_of(values: Any) -> str:
    """A short hash of an array or sparse matrix; of large ones, of a part."""
    digest = hashlib.sha256(f"{values.shape} {values.dtype}".encode())
    parts = (values.data, values.indices) if hasattr(values, "indptr") else (values,)
    for part in parts:
        digest.update(np.ascontiguousarray(part[:: 1 + (part.nbytes >> 20)]).tobytes())
    return digest.hexdigest()[:12]


def open_source(data: Any, y: Any = None, **options: Any) -> Source:
    """The source that fits what it is given.

    Parameters
    ----------
    data : path, array, iterable or Source
        ``X.npy``, an array or a memory map (with ``y``), or a pair (X, y) of such: `Arrays`.  A ``.parquet`` file or
        a folder or sequence of such (with ``target``): `Parquet`.  Any other path: `Libsvm`.  A sequence, callable or
        iterable of chunks: `Chunks`.
    y : array or path, optional
        The target, for arrays.
    **options
        Handed to the source.

    Examples
    --------
    >>> import numpy as np, numbaopt as no
    >>> no.stream.open(np.ones((10, 3)), np.arange(10.0), chunk_rows=4)
    <Arrays: 3 chunks, 3 features, float64>
    """
    kind: Any = Chunks
    if isinstance(data, Source):
        if y is not None or options:
            raise TypeError("a source takes no further arguments")
        return data
    if isinstance(data, tuple | list) and len(data) == 2 and all(map(_is_table, data, (2, 1))):
        data, y = data
    if y is not None or hasattr(data, "tocsr") or isinstance(data, np.ndarray):
        if y is None:
            raise TypeError("y is missing: an array of X alone cannot be trained on; give a pair (X, y)")
        kind, options = Arrays, {"y": y, **options}
    elif isinstance(data, str | os.PathLike):
        path = os.fspath(data)
        if path.endswith(".npy"):
            raise TypeError(f"y is missing: {path} holds X alone; give a pair ({path!r}, y), y an array or a .npy file")
        kind = Parquet if path.endswith(".parquet") or os.path.isdir(path) else Libsvm
    elif isinstance(data, Sequence) and data and all(isinstance(item, str | os.PathLike) for item in data):
        kind = Parquet
    if kind is Parquet and "target" not in options:
        raise TypeError(f"target is missing: which column of {data!r} is y? numbaopt.stream.open(..., target='name')")
    return kind(data, **options)


def _is_table(part: Any, ndim: int) -> bool:
    """Whether this may be X (``ndim`` 2) or y (1): an array, or a ``.npy`` file."""
    if isinstance(part, str | os.PathLike):
        return os.fspath(part).endswith(".npy")
    return getattr(part, "ndim", 0) == ndim
