"""What every source of chunks can do."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

CHUNK_BYTES = 1 << 24  # of the numbers in a chunk where nobody says how many rows it has
Chunk = tuple[Any, ...]  # (X, y) or (X, y, sample_weight)


class Source:
    """A table in chunks.  A source of one's own has these attributes and ``read``; the other methods may stay.

    Attributes
    ----------
    n_features : int
        Columns of every chunk.
    dtype : numpy.dtype
        float32 or float64: what the chunks are trained in.
    n_chunks : int or None
        None where only reading to the end tells.
    sizes : sequence of int or None
        Rows of each chunk, where they are known.
    ordered : bool
        Whether chunks can only be read one after the other: their order is then not shuffled, only the rows within.
    recipe : dict or None
        What `open` is to be given to open the same files again; None where the data are no files.
    """

    n_features: int
    dtype: np.dtype
    n_chunks: int | None = None
    sizes: Sequence[int] | None = None
    MOST_CLASSES = 1000
    ordered: bool = False
    recipe: dict[str, Any] | None = None

    def read(self, chunk: int) -> Chunk | None:
        """Chunk number ``chunk`` as ``(X, y)`` or ``(X, y, sample_weight)``; None after the last one.

        It is called from a thread, by one call at a time.  Every call gives the same rows.
        """
        raise NotImplementedError

    def labels(self, chunk: int) -> Any:
        """``y`` of a chunk; None after the last one."""
        found = self.read(chunk)
        return None if found is None else found[1]

    def __repr__(self) -> str:
        chunks = "" if self.n_chunks is None else f"{self.n_chunks} chunks, "
        return f"<{type(self).__name__}: {chunks}{self.n_features} features, {self.dtype}>"

    def digest(self) -> str:
        """What tells this source from others: checkpoints ask."""
        return f"{type(self).__name__} {self.n_chunks} {self.n_features} {self.dtype}"

    def where(self, chunk: int) -> str:
        """How errors call a chunk."""
        return f"chunk {chunk}"

    def steps_per_epoch(self, batch_size: int) -> int:
        """Steps in an epoch, as schedules want to know it: a batch never reaches across two chunks."""
        if self.sizes is None:
            raise ValueError(f"{type(self).__name__} does not know how many rows its chunks have")
        return sum(-(-size // batch_size) for size in self.sizes)

    def classes(self) -> np.ndarray:
        """The sorted labels of all chunks, which are read for it."""
        found: Any = None
        for k in itertools.count() if self.n_chunks is None else range(self.n_chunks):
            labels = self.labels(k)
            if labels is None:
                break
            here = np.unique(np.asarray(labels))
            found = here if found is None else np.union1d(found, here)
            if found.size > self.MOST_CLASSES:
                break
        return found


class InOrder:
    """Random access to what can only be had in order, by starting again and skipping where need be."""

    def __init__(self, begin: Callable[[], Iterator[Any]], once: bool = False):
        self._begin, self._once, self._next = begin, once, 0
        self._items: Iterator[Any] | None = None

    def __call__(self, k: int) -> Any:
        if self._items is None or k < self._next:
            if self._once and self._items is not None:
                raise ValueError("an iterator can be read once, for one epoch in order; pass a function that returns a "
                                 "new iterator, or a sequence of chunks, for more")  # fmt: skip
            self._items, self._next = iter(self._begin()), 0
        found = None
        while self._next <= k:
            found = next(self._items, None)
            if found is None:
                return None
            self._next += 1
        return found


def working_dtype(dtype: np.dtype) -> np.dtype:
    """float32 for floats of at most 32 bits, else float64."""
    return np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64)
