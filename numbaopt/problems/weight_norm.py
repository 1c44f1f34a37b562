"""Weight normalization: a linear model whose coefficients are trained as a direction and a length."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numba
import numpy as np

from .._jit import EXACT, address, address_of, array_at, invoke_value, jit_for_address, jit_inside, pointer, scalar
from .._packed import Packed, unpacker
from ..loops.descent import EVALUATE, evaluate_at
from ..loops.minibatch import BATCH
from .linear_model import LinearModel


class WeightNorm:
    r"""A `LinearModel` in other unknowns: each of its vectors of coefficients is written

    .. math:: w = \frac{g}{\|v\|}\, v, \qquad
        \frac{\partial f}{\partial g} = \frac{v^\top \nabla_w f}{\|v\|}, \qquad
        \nabla_v f = \frac{g}{\|v\|} \Big( \nabla_w f - \frac{v^\top \nabla_w f}{\|v\|^2}\, v \Big).

    The unknowns are the model's own, with the directions :math:`v` in the place of the coefficients (the intercepts
    stay free), then a length :math:`g` for each vector of coefficients.

    Parameters
    ----------
    model : LinearModel

    References
    ----------
    Salimans, T., Kingma, D. P. (2016). Weight normalization: a simple reparameterization to accelerate training of deep
    neural networks. arXiv:1602.07868
    """

    l1 = 0.0

    def __init__(self, model: Any):
        if not isinstance(model, LinearModel):
            raise ValueError(f"weight_norm=True needs a LinearModel, not {model!r}: only there is known which "
                             "unknowns make a vector of coefficients")  # fmt: skip
        if model.l1 > 0:
            raise ValueError(f"weight_norm=True: l1={model.l1} sets single coefficients to zero, which a direction and "
                             "a length do not tell; use l2")  # fmt: skip
        self.model, self.dtype, self.n_terms = model, model.dtype, model.n_terms
        self.n_outputs, self.n_penalised, self.n = model.n_outputs, model.n_penalised, model.n + model.n_outputs

    def start(self, x: np.ndarray) -> np.ndarray:
        """The unknowns of a point of the model: v = w and g = |w|.

        Coefficients that are all zero have no direction: theirs is the one of steepest descent there, with length 0.
        """
        w, rest = x[: self.n_penalised].reshape(self.n_outputs, -1).copy(), x[self.n_penalised :]
        lengths = _norms(w)
        if not lengths.all():
            slope = self.model.value_and_grad(x)[1][: self.n_penalised].reshape(w.shape).astype(float)
            slope[~slope.any(axis=1)] = -1.0  # a stationary point: any direction will do
            slope /= _norms(slope)[:, None]
            w[lengths == 0] = -slope[lengths == 0]
        return np.concatenate([w.ravel(), rest, lengths])

    def own(self, x: np.ndarray) -> np.ndarray:
        """The unknowns of the model, of those of a run."""
        own = x[: self.model.n].astype(float)
        v = own[: self.n_penalised].reshape(self.n_outputs, -1)
        v *= (x[self.model.n :] / _norms(v))[:, None]
        return own.astype(self.dtype)

    def own_gradient(self, x: np.ndarray, slope: np.ndarray) -> np.ndarray:
        r"""The gradient in the unknowns of the model, of that in those of a run at ``x``.

        .. math:: \nabla_w f = \frac{\|v\|}{g} \nabla_v f + \frac{\partial f}{\partial g} \frac{v}{\|v\|}

        Where g = 0, the first part is not known, and left out.
        """
        own, lengths, along = slope[: self.model.n].astype(float), x[self.model.n :], slope[self.model.n :, None]
        v = x[: self.n_penalised].reshape(self.n_outputs, -1).astype(float)
        norms, part = _norms(v), own[: self.n_penalised].reshape(self.n_outputs, -1)
        part *= np.divide(norms, lengths, out=np.zeros_like(norms), where=lengths != 0)[:, None]
        part += along * v / norms[:, None]
        return own.astype(self.dtype)

    def pack(self) -> Packed:
        """What the loops of this file work on."""
        inner, loops = self.model.pack(), self.model.kernels
        shape = self.model.n, self.n_outputs, self.model.n_features
        made = Normed(loops.evaluate, loops.batch, inner.address, np.zeros(shape[0], self.dtype),
                      np.zeros(shape[0], self.dtype), *shape)  # fmt: skip
        packed = Packed(made, _kind(self.dtype))
        packed.inner = inner  # lives as long
        return packed

    @property
    def kernels(self) -> Loops:
        """The compiled loops."""
        return _loops(self.dtype)

    def value_and_grad(self, x: Any) -> tuple[float, np.ndarray]:
        """Objective and gradient at the unknowns of a run."""
        x, data = np.ascontiguousarray(x, self.dtype), self.pack()
        g = np.empty_like(x)
        return evaluate_at(self.kernels.evaluate, x, x, address_of(g), data.address), g

    def digest(self) -> str:
        """That of the model."""
        return self.model.digest()

    def __repr__(self) -> str:
        return f"WeightNorm({self.model!r})"


def _norms(rows: np.ndarray) -> np.ndarray:
    top = abs(rows).max(axis=1)
    top[top == 0] = 1.0
    return top * np.linalg.norm(rows / top[:, None], axis=1)  # without overflow


def _norm_of(squares):
    return math.sqrt(squares) if squares < math.inf else math.nan  # not a length of infinity, a direction of zero


def _slope_of(length, norm, along, slope, v):
    """A component of the gradient in v; ``along`` is that in the length, ``slope`` the one in w."""
    return length / norm * (slope - along / norm * v)


norm_of, slope_of = scalar(_norm_of, EXACT), scalar(_slope_of, EXACT)


class Normed(NamedTuple):
    """What the loops work on: addresses of the model's loops and data, scratch, and the shape of the unknowns."""

    evaluate: Any
    batch: Any
    data: Any
    w: np.ndarray  # (n,)
    slope: np.ndarray  # (n,)
    n: int  # of the model
    outputs: int
    columns: int


class Loops(NamedTuple):
    """Addresses of the loops."""

    evaluate: Any
    batch: Any
    functions: tuple[Any, ...]


@functools.cache
def _kind(dtype: np.dtype) -> numba.types.Type:
    """Numba's type of `Normed`."""
    vector = np.zeros(1, dtype)
    return numba.typeof(Normed(0, 0, 0, vector, vector, 0, 0, 0))


@functools.cache
def _loops(dtype: np.dtype) -> Loops:
    unpack, vector = unpacker(_kind(dtype)), array_at(dtype)

    @jit_inside
    def norm(x, first, last):
        squares = 0.0
        for j in range(first, last):
            squares += np.float64(x[j]) * np.float64(x[j])
        return norm_of(squares)

    @jit_inside
    def forward(p, x):
        """The model's unknowns into ``p.w``."""
        for j in range(p.n):
            p.w[j] = x[j]
        for k in range(p.outputs):
            first, last = k * p.columns, (k + 1) * p.columns
            factor = x[p.n + k] / norm(x, first, last)
            for j in range(first, last):
                p.w[j] = factor * x[j]

    @jit_inside
    def backward(p, x, g):
        """The gradient with respect to ``x`` from that in ``p.slope``."""
        for j in range(p.n):
            g[j] = p.slope[j]
        for k in range(p.outputs):
            first, last = k * p.columns, (k + 1) * p.columns
            size, along = norm(x, first, last), 0.0
            for j in range(first, last):
                along += np.float64(p.slope[j]) * np.float64(x[j])
            along /= size
            g[p.n + k] = along
            for j in range(first, last):
                g[j] = slope_of(x[p.n + k], size, along, p.slope[j], x[j])

    def batch(x, g, n, order, count, known, data):
        p, x, g = unpack(data), vector(x, n), vector(g, n)
        forward(p, x)
        check = invoke_value(p.batch, (pointer(p.w), pointer(p.slope), p.n, order, count, known, p.data))
        backward(p, x, g)
        return check

    def evaluate(x, work, g, n, data):
        p, x, g = unpack(data), vector(x, n), vector(g, n)
        forward(p, x)
        fun = invoke_value(p.evaluate, (pointer(p.w), work, pointer(p.slope), p.n, p.data))
        backward(p, x, g)
        return fun

    evaluate, batch = jit_for_address(evaluate), jit_for_address(batch)
    return Loops(address(evaluate, EVALUATE), address(batch, BATCH), (evaluate, batch))
