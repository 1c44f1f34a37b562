"""In which order a stream is visited: pure functions of (seed, epoch, chunk)."""

from __future__ import annotations

import numpy as np

from ..loops.shuffle import MASK, epoch_order, mix


def chunk_order(n_chunks: int, seed: int, epoch: int, shuffle: bool = True) -> np.ndarray:
    """The order in which ``epoch`` (0, 1, ...) visits the chunks, as int64."""
    return epoch_order(n_chunks, seed, epoch, shuffle)


def chunk_seed(seed: int, epoch: int, chunk: int) -> int:
    """The seed of the order in which ``epoch`` visits the rows of a chunk."""
    low = mix((seed & MASK) ^ mix((chunk + 1) & MASK))
    high = mix((seed >> 32 & MASK) ^ mix((epoch + 1) & MASK) ^ low)
    return (high & MASK >> 1) << 32 | low


def row_order(rows: int, seed: int, epoch: int, chunk: int, shuffle: bool = True) -> np.ndarray:
    """The order in which ``epoch`` visits the rows of a chunk, as int64."""
    return epoch_order(rows, chunk_seed(seed, epoch, chunk), 0, shuffle)
