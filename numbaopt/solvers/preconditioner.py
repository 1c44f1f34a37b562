r"""What conjugate gradients are preconditioned with: second derivatives at an earlier point, or of some of the rows.

One margin a row: the matrix itself.  Several classes: with probabilities p the second derivatives are
:math:`\frac1n \sum_i (\mathrm{diag}(p_i) - p_i p_i^\top) \otimes x_i x_i^\top`, and penalties.  What all classes have
in common they do not see, as the rows of the first factor sum to zero: there the penalties are all, and the inverse is
exact.  For the rest stand the blocks on the diagonal.  (Blocks alone promise a curvature in common that is not there;
on images of digits that cost three times as many products.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

NUMBERS = 1 << 24  # at most, in all blocks; where they were more, their diagonals must do
ROWS = 4  # a column: of these blocks are made
LEAST_ROWS = 1000
SHIFT = 1e-4  # of the mean on the diagonal: rows that were not looked at hold each direction at least so much
LITTLE = 0.02  # of the mean curvature: rows that a block may leave out


class ClassBlocks:
    """An approximate inverse of the second derivatives of a multinomial `LinearModel`.

    Parameters
    ----------
    model : LinearModel
    order : array of int64
        Rows in random order, the first of which are looked at.
    """

    def __init__(self, model: Any, order: np.ndarray):
        self.model, width = model, model.n_features + model.fit_intercept
        self.whole = model.n_outputs * width**2 <= NUMBERS
        some = np.sort(order[: min(max(ROWS * width, LEAST_ROWS), max(NUMBERS // width, LEAST_ROWS))])
        self.rows, self.weights = model.X[some], model.sample_weight[some] if model.sample_weight.size else 1.0
        if self.whole:
            dense = self.rows if isinstance(self.rows, np.ndarray) else self.rows.toarray()
            self.rows = np.ones((some.size, width), np.float32)  # more is no use: it is an approximation
            with np.errstate(over="ignore"):
                self.rows[:, : model.n_features] = dense
        self.penalty = np.full(width, model.intercept_l2)
        self.penalty[: model.n_features] = model.l2
        self.at: np.ndarray | None = None
        self.blocks: list[Any] = []

    def make(self, x: np.ndarray, stage: int = 0) -> None:
        """Let the blocks be those at ``x``, whatever the stage."""
        if self.at is not None and np.array_equal(x, self.at):
            return
        coef, intercept = self.model.split(x.astype(float))
        z = (self.rows[:, : coef.shape[1]] @ coef.T + intercept).T
        p = np.exp(z - z.max(axis=0))
        p /= p.sum(axis=0)
        curvatures = self.weights * p * (1.0 - p)
        self.blocks = []
        for k, h in enumerate(curvatures):
            same = k > 0 and np.array_equal(h, curvatures[k - 1])  # as at zero
            self.blocks.append(self.blocks[-1] if same else self._block(h))
        self.at = x.copy()

    def _block(self, h: np.ndarray) -> Any:
        """The inverse of the block of a class with these curvatures, or of its diagonal.

        All by NumPy: its BLAS and SciPy's have threads each, which wait for each other's to stop spinning.
        """
        if not self.whole:
            squares = np.zeros(self.penalty.size)
            dense = isinstance(self.rows, np.ndarray)
            squares[: self.model.n_features] = h @ self.rows**2 if dense else self.rows.multiply(self.rows).T @ h
            squares[self.model.n_features :] = h.sum()
            diagonal = squares / h.size + self.penalty
            return 1.0 / (diagonal + max(SHIFT * float(diagonal.mean()), 1e-300))
        kept = h > LITTLE * h.mean()
        rows = self.rows[kept] * np.sqrt(h[kept], dtype=np.float32)[:, None]
        block = (rows.T @ rows).astype(float) / h.size
        block[np.diag_indices_from(block)] += self.penalty + max(SHIFT * float(np.trace(block)) / len(block), 1e-300)
        return np.linalg.inv(block)

    def solve(self, r: np.ndarray) -> np.ndarray:
        """The approximate inverse times ``r``."""
        features, outputs = self.model.n_features, self.model.n_outputs
        apart = np.empty((outputs, self.penalty.size))
        apart[:, :features] = r[: self.model.n_penalised].reshape(outputs, features)
        apart[:, features:] = r[self.model.n_penalised :].reshape(outputs, -1)
        common = apart.mean(axis=0)
        apart -= common
        for k, block in enumerate(self.blocks):
            apart[k] = block @ apart[k] if self.whole else block * apart[k]
        apart += np.divide(common, self.penalty, out=np.zeros_like(common), where=self.penalty > 0) - apart.mean(axis=0)
        return np.concatenate((apart[:, :features].ravel(), apart[:, features:].ravel()))


class Earlier:
    """The inverse of a matrix of second derivatives as it was at some point.

    Parameters
    ----------
    matrix_at : callable(x, stage) -> ndarray
        The matrix at a point, from the rows of a stage.
    """

    def __init__(self, matrix_at: Callable[[np.ndarray, int], np.ndarray]):
        self.matrix_at = matrix_at
        self.at: tuple[bytes, int] | None = None
        self.half = np.zeros((0, 0))

    def make(self, x: np.ndarray, stage: int) -> None:
        """Let the matrix be that at ``x``; where it is singular, or nearly, with more on its diagonal."""
        if self.at == (x.tobytes(), stage):
            return
        matrix = self.matrix_at(x, stage)
        if not np.all(np.isfinite(matrix)):  # beyond all numbers: as if there were none
            matrix = np.eye(x.size)
        size = np.sqrt(np.diagonal(matrix).clip(1e-300))
        matrix /= size
        matrix /= size[:, None]
        self.half = inverse_root(matrix) / size
        self.at = x.tobytes(), stage

    def solve(self, r: np.ndarray) -> np.ndarray:
        """The approximate inverse times ``r``."""
        return (self.half @ r) @ self.half


def inverse_root(matrix: np.ndarray) -> np.ndarray:
    """A matrix C with C'C the inverse of a symmetric matrix with ones on its diagonal, or of one a little larger."""
    ridge = 0.0
    while True:
        try:
            lower = np.linalg.cholesky(matrix + ridge * np.eye(len(matrix)))
            if np.diagonal(lower).min() > 1e-6:
                return np.linalg.inv(lower)
        except np.linalg.LinAlgError:
            pass
        ridge = max(10.0 * ridge, 1e-11)
