"""Linear models of a table of data: squared and logistic loss, dense or sparse rows, whole or in batches."""

from __future__ import annotations

import functools
import hashlib
from typing import Any, NamedTuple

import numba
import numpy as np

from .._jit import EXACT, address, array_at, jit_for_address, jit_inside, scalar
from .._packed import Packed, unpacker
from ..loops.descent import EVALUATE, evaluate_at
from ..loops.minibatch import BATCH
from ..loops.state import largest
from .losses import as_loss
from .rows import as_rows, prefetch_item
from .validation import check_matrix, check_target, check_weights

TILE_BYTES = 1 << 17  # rows that are read twice should still be in the cache the second time
FETCH_AHEAD = 16  # rows between asking for one and using it
FUSED = EXACT | {"contract"}  # these loops store: no reordering


class LinearData(NamedTuple):
    """What the row loops work on; z, target and order are scratch for one tile of rows, total for one gradient."""

    rows: Any
    y: np.ndarray
    weights: np.ndarray  # empty: all one
    z: np.ndarray
    target: np.ndarray
    order: np.ndarray
    total: np.ndarray
    n_columns: int
    l2: float


class LinearModel:
    r"""The training objective of a linear model.

    .. math:: \frac1n \sum_i w_i\, \ell(x_i^\top \beta + b,\; y_i) + \frac{\lambda_2}{2} \|\beta\|^2

    A minimizer's unknowns are the coefficients :math:`\beta`, then the intercept :math:`b`, which is never penalised.

    Parameters
    ----------
    X : array or sparse matrix of shape (n_samples, n_features)
        float32 data are trained in float32, all others in float64.  C-contiguous arrays (also read-only ones and memory
        maps) are used as they are; sparse matrices of any format become CSR.
    y : array of shape (n_samples,)
        Numbers for ``"squared"``; two classes of any kind for ``"logistic"``, of which the one that sorts last is
        positive.
    loss : {"squared", "logistic"}
        :math:`\ell(z, y)` is :math:`\tfrac12 (z - y)^2` or :math:`\log(1 + e^{-yz})` with :math:`y = \pm 1`.
    l1 : float
        Only 0 is possible until proximal steps exist: a subgradient would give neither zeros nor convergence.
    l2 : float
        :math:`\lambda_2`, in [0, inf).
    fit_intercept : bool
        Whether there is a :math:`b`.
    sample_weight : array of shape (n_samples,), optional
        :math:`w_i`, not negative, not all zero.  A batch's gradient is the mean of its weighted terms.

    Raises
    ------
    ValueError
        In scikit-learn's words, if the data are not finite, do not fit each other, or are malformed.

    Examples
    --------
    >>> import numpy as np, numbaopt as no
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> model = no.LinearModel(X, 3 * X[:, 0] + 1)
    >>> res = no.minimize(model, method="nesterov", options=dict(lr=0.5, gtol=1e-8))
    >>> res.x.round(6)
    array([3., 1.])
    >>> res = no.minimize(model, method="adam", options=dict(lr=0.1, batch_size=5, epochs=200, seed=1))
    >>> bool(abs(res.x - [3, 1]).max() < 1e-2)
    True
    """

    def __init__(self, X: Any, y: Any, loss: Any = "squared", l1: float = 0.0, l2: float = 0.0,
                 fit_intercept: bool = True, sample_weight: Any = None):  # fmt: skip
        self.loss = as_loss(loss)
        for name, value in (("l1", l1), ("l2", l2)):
            if not 0 <= value < np.inf:
                raise ValueError(f"{name}={value!r} must be in [0, inf)")
        if l1 > 0:
            raise ValueError(f"l1={l1!r} is not possible yet: it needs proximal steps; use l2")
        self.X = check_matrix(X)
        self.rows, self.n_terms, self.n_features = as_rows(self.X)
        self.y = self.loss.targets(check_target(y, self.n_terms))
        self.sample_weight = check_weights(sample_weight, self.n_terms)
        self.l2, self.fit_intercept = float(l2), bool(fit_intercept)
        self.dtype = np.dtype(np.float32 if self.X.dtype == np.float32 else np.float64)
        self.n = self.n_features + self.fit_intercept
        self._spare: list[Packed] = []  # packed data between calls of value_and_grad; one a thread at work

    def pack(self) -> Packed:
        """The data with fresh scratch, for the loops of one run."""
        stored = self.rows[0].nbytes / self.n_terms
        tile = int(min(max(TILE_BYTES // max(stored, 1), 16), 512, self.n_terms))
        scratch = np.zeros((2, tile), self.dtype)
        return Packed(LinearData(self.rows, np.ascontiguousarray(self.y, self.dtype),
                                 np.ascontiguousarray(self.sample_weight, self.dtype), scratch[0], scratch[1],
                                 np.zeros(tile, np.int64), np.zeros(self.n), self.n_features, self.l2))  # fmt: skip

    def kernels(self, data: Packed) -> Kernels:
        """The compiled loops over rows for this loss, storage and dtype."""
        storage: Any = type(self.rows)
        return _kernels(self.loss, storage, data.type, self.dtype)

    def value_and_grad(self, x: Any) -> tuple[float, np.ndarray]:
        """Objective and gradient at ``x``.

        Examples
        --------
        >>> import numbaopt as no
        >>> no.LinearModel([[1.0], [2.0]], [1.0, 3.0]).value_and_grad([0.0, 0.0])
        (2.5, array([-3.5, -2. ]))
        """
        x = np.ascontiguousarray(x, self.dtype)
        if x.shape != (self.n,):
            raise ValueError(f"x has shape {x.shape}, the model has {self.n} unknowns")
        data, g = self._spare.pop() if self._spare else self.pack(), np.empty_like(x)
        value = evaluate_at(self.kernels(data).evaluate_address, x, x, g, data.address)
        self._spare.append(data)
        return value, g

    def digest(self) -> str:
        """A short hash of the data; of large data, of a part of them."""
        digest = hashlib.sha256()
        for part in (*self.rows, self.y, self.sample_weight):
            digest.update(np.ascontiguousarray(part[:: 1 + (part.nbytes >> 24)]).data)
        return digest.hexdigest()[:12]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_spare": []}

    def value(self, x: Any) -> float:
        """Objective at ``x``."""
        return self.value_and_grad(x)[0]

    def __repr__(self) -> str:
        return (f"LinearModel(X {self.n_terms}x{self.n_features} {type(self.rows).__name__} {self.dtype}, "
                f"loss={self.loss.__name__.lower()!r}, l2={self.l2}, fit_intercept={self.fit_intercept})")  # fmt: skip


class Kernels(NamedTuple):
    """The two compiled loops over rows, and their addresses."""

    evaluate: Any
    batch: Any
    evaluate_address: Any
    batch_address: Any


@functools.cache
def _kernels(loss: type, storage: type, kind: numba.types.Type, dtype: np.dtype) -> Kernels:
    value, slope = scalar(loss.value), scalar(loss.slope, EXACT)
    margin, margin4, fetch = scalar(storage.margin), scalar(storage.margin4), scalar(storage.fetch)
    add, add4 = scalar(storage.add, FUSED), scalar(storage.add4, FUSED)
    unpack, vector, numbers = unpacker(kind), array_at(dtype), array_at(np.int64)

    def margins(p, x, order, first, last, known):
        """Margins of the rows order[first:last] into p.z, their targets into p.target; returns the largest margin."""
        z, target = p.z, p.target
        intercept = x[p.n_columns] if x.size > p.n_columns else x[0] - x[0]
        fours = first + (last - first) // 4 * 4
        for j in range(first, fours, 4):
            for k in range(j + FETCH_AHEAD, min(j + FETCH_AHEAD + 4, known)):
                fetch(p.rows, order[k])
                prefetch_item(p.y, order[k])
            a, b, c, d = margin4(p.rows, order[j], order[j + 1], order[j + 2], order[j + 3], x)
            k = j - first
            z[k], z[k + 1], z[k + 2], z[k + 3] = a + intercept, b + intercept, c + intercept, d + intercept
        for j in range(fours, last):
            for k in range(j + FETCH_AHEAD, min(j + FETCH_AHEAD + 1, known)):
                fetch(p.rows, order[k])
                prefetch_item(p.y, order[k])
            z[j - first] = margin(p.rows, order[j], x) + intercept
        for j in range(first, last):  # not earlier: by now they are in the cache
            target[j - first] = p.y[order[j]]
        return largest(z, last - first)

    def weigh(p, order, first, last):
        """Multiply what is in p.z by the weights of the rows order[first:last]."""
        if p.weights.size > 0:
            for j in range(first, last):
                p.z[j - first] *= p.weights[order[j]]

    def gather(p, order, first, last, g):
        """Add the rows order[first:last], each times its number in p.z, to g, and to the intercept's component."""
        z = p.z
        fours = first + (last - first) // 4 * 4
        for j in range(first, fours, 4):
            k = j - first
            scales = (z[k], z[k + 1], z[k + 2], z[k + 3])
            add4(p.rows, order[j], order[j + 1], order[j + 2], order[j + 3], scales, g)
        for j in range(fours, last):
            add(p.rows, order[j], z[j - first], g)
        if g.size > p.n_columns:
            total = z[0] - z[0]
            for k in range(last - first):
                total += z[k]
            g[p.n_columns] += total

    margins, weigh, gather = jit_inside(margins), jit_inside(weigh), jit_inside(gather)

    def batch(x, g, n, order, count, known, data):
        p, x, g, order = unpack(data), vector(x, n), vector(g, n), numbers(order, known)
        z, target, check = p.z, p.target, 0.0
        for j in range(g.size):
            g[j] = 0
        for begin in range(0, count, z.size):
            end = min(begin + z.size, count)
            check += margins(p, x, order, begin, end, known)
            for j in range(end - begin):
                z[j] = slope(z[j], target[j])
            weigh(p, order, begin, end)
            gather(p, order, begin, end, g)
        mean, shrink = z.dtype.type(1.0 / count), z.dtype.type(p.l2)
        for j in range(p.n_columns):
            g[j] = mean * g[j] + shrink * x[j]
        if g.size > p.n_columns:
            g[p.n_columns] *= mean
        return check

    def evaluate(x, work, g, n, data):
        p, x, g = unpack(data), vector(x, n), vector(g, n)
        z, target, order, whole = p.z, p.target, p.order, p.total
        terms, fun, penalty = p.y.size, 0.0, 0.0
        for j in range(g.size):
            whole[j] = 0.0
        for begin in range(0, terms, z.size):
            count = min(z.size, terms - begin)
            for j in range(count):
                order[j] = begin + j
            margins(p, x, order, 0, count, count)
            part = 0.0
            for j in range(count):
                weight = np.float64(p.weights[begin + j]) if p.weights.size > 0 else 1.0
                part += weight * value(z[j], target[j])
            fun += part
            for j in range(count):
                z[j] = slope(z[j], target[j])
            weigh(p, order, 0, count)
            for j in range(g.size):
                g[j] = 0
            gather(p, order, 0, count, g)
            for j in range(g.size):
                whole[j] += g[j]
        for j in range(p.n_columns):
            penalty += np.float64(x[j]) * np.float64(x[j])
        for j in range(p.n_columns):
            g[j] = whole[j] / terms + p.l2 * x[j]
        if g.size > p.n_columns:
            g[p.n_columns] = whole[p.n_columns] / terms
        return fun / terms + 0.5 * p.l2 * penalty

    evaluate, batch = jit_for_address(evaluate), jit_for_address(batch)
    return Kernels(evaluate, batch, address(evaluate, EVALUATE), address(batch, BATCH))
