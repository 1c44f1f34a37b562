"""Weighted outer products of rows, added to a matrix: second derivatives on a set of columns."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from .._jit import address, array_at, jit_for_address, jit_inside, scalar
from .._packed import unpacker
from .kernels import FUSED, data_type
from .rows import DenseRows

BLOCK = 64  # rows whose columns are laid side by side

# (h, order, count, matrix, columns, where, own, w, n, data): add h_i x_i x_i' on w of n columns to the first own rows
# of a matrix, where not left of the diagonal
OUTER = types.void(*(types.intp,) * 10)


def _rank_update(block, h, rows, matrix):
    """matrix += block' diag(h) block on and above the diagonal; ``rows`` is a multiple of 8."""
    own, w = matrix.shape
    for a in range(own):
        target = matrix[a]
        for r in range(0, rows, 8):
            s0, s1, s2, s3 = (h[r] * block[r, a], h[r + 1] * block[r + 1, a], h[r + 2] * block[r + 2, a],
                              h[r + 3] * block[r + 3, a])  # fmt: skip
            s4, s5, s6, s7 = (h[r + 4] * block[r + 4, a], h[r + 5] * block[r + 5, a], h[r + 6] * block[r + 6, a],
                              h[r + 7] * block[r + 7, a])  # fmt: skip
            if s0 == 0 and s1 == 0 and s2 == 0 and s3 == 0 and s4 == 0 and s5 == 0 and s6 == 0 and s7 == 0:
                continue
            for b in range(np.uint64(a), np.uint64(w)):
                target[b] += (s0 * block[r, b] + s1 * block[r + 1, b] + s2 * block[r + 2, b]
                              + s3 * block[r + 3, b] + s4 * block[r + 4, b] + s5 * block[r + 5, b]
                              + s6 * block[r + 6, b] + s7 * block[r + 7, b])  # fmt: skip


rank_update = jit_inside(_rank_update, fastmath=FUSED)


@functools.cache
def outer_of(storage: Any, dtype: np.dtype) -> tuple[Any, Any]:
    """The address of what adds the second derivatives of rows to a matrix, and its function."""
    unpack, doubles, numbers = unpacker(data_type(dtype, storage)), array_at(np.float64), array_at(np.int64)
    value = scalar(storage.value) if storage.sparse else None

    def outer_dense(h, order, count, matrix, columns, where, own, w, n, data):
        _, rows = unpack(data)
        h, order, columns, where = doubles(h, count), numbers(order, count), numbers(columns, w), numbers(where, n)
        matrix = doubles(matrix, own * w).reshape(own, w)
        X, block, weight = rows.X, np.zeros((BLOCK, w)), np.zeros(BLOCK)
        shift = where[n - 1] if n > X.shape[1] else -1  # the intercept's column is of ones
        for first in range(0, count, BLOCK):
            size = min(BLOCK, count - first)
            for j in range(size):
                row = X[order[first + j]]
                for k in range(w):
                    if k != shift:
                        block[j, k] = row[columns[k]]
                if shift >= 0:
                    block[j, shift] = 1.0
                weight[j] = h[first + j]
            whole = (size + 7) // 8 * 8
            for j in range(size, whole):
                weight[j] = 0.0
                for k in range(w):
                    block[j, k] = 0.0
            rank_update(block, weight, whole, matrix)

    def outer_sparse(h, order, count, matrix, columns, where, own, w, n, data):
        p, rows = unpack(data)
        one = p.target.dtype.type(1)
        h, order, where = doubles(h, count), numbers(order, count), numbers(where, n)
        matrix = doubles(matrix, own * w).reshape(own, w)
        values, places = np.zeros(w + 1), np.zeros(w + 1, np.int64)
        shift = where[n - 1] if n > p.n_columns else -1
        for j in range(count):
            if h[j] == 0:
                continue
            i, used = order[j], 0
            begin, end = np.uint64(rows.starts[i]), np.uint64(rows.starts[i + 1])
            for k in range(begin, end):
                place = where[np.uint32(rows.columns[k])]
                places[used], values[used] = place, value(rows, k, one)
                used += np.uint64(place) < np.uint64(own)  # -1 is large
            if 0 <= shift < own:
                places[used], values[used] = shift, 1.0
                used += 1
            if used == 0:
                continue
            known = used
            if own < w:
                for k in range(begin, end):
                    place = where[np.uint32(rows.columns[k])]
                    places[known], values[known] = place, value(rows, k, one)
                    known += place >= own
                if shift >= own:
                    places[known], values[known] = shift, 1.0
                    known += 1
            for a in range(used):
                s, target = h[j] * values[a], matrix[places[a]]
                for b in range(a, known):
                    target[places[b]] += s * values[b]

    made = jit_for_address(outer_dense if storage is DenseRows else outer_sparse, fastmath=FUSED)
    return address(made, OUTER), made
