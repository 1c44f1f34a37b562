"""Networks of fully connected layers, their gradient by back-propagation written out: an example of a `FiniteSum`.

The unknowns are, layer after layer, the weights (inputs x outputs, in C order), then the biases.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from .._jit import jit, jit_inside


@jit_inside
def forward(x, batch, sizes, relu):
    """The rows of ``batch``, then what every layer makes of them; the last layer has no activation."""
    signals, at, zero = [batch], 0, x.dtype.type(0.0)
    for layer in range(sizes.size - 1):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        bias = x[at + inputs * outputs : at + (inputs + 1) * outputs]
        out = np.dot(signals[layer], x[at : at + inputs * outputs].reshape(inputs, outputs))
        at += (inputs + 1) * outputs
        for i in range(out.shape[0]):
            for j in range(outputs):
                out[i, j] += bias[j]
            if layer < sizes.size - 2:
                for j in range(outputs):
                    z = out[i, j]
                    out[i, j] = (zero if z < zero else z) if relu else math.tanh(z)  # NaN stays NaN
        signals.append(out)
    return signals


@jit_inside
def cross_entropy(scores, idx, y):
    """The mean of -log softmax(scores)[y]; the scores are replaced by its derivative."""
    loss, share = 0.0, scores.dtype.type(1.0 / idx.size)
    for i in range(idx.size):
        row, right, total = scores[i], scores[i, y[idx[i]]], 0.0
        top = right
        for j in range(row.size):
            top = row[j] if row[j] > top else top
        for j in range(row.size):
            row[j] = math.exp(row[j] - top)
            total += row[j]
        loss += math.log(total) - (right - top)
        scale = scores.dtype.type(1.0 / (total * idx.size))
        for j in range(row.size):
            row[j] *= scale
        row[y[idx[i]]] -= share
    return loss / idx.size


@jit
def network(x, idx, X, y, sizes, relu):
    """Mean cross-entropy of the classes ``y`` of the rows ``idx`` of ``X``, and its gradient.

    Parameters
    ----------
    x : array of shape (n,)
        Weights and biases.
    idx : array of int64
        Which rows.
    X : array of shape (n_rows, n_columns)
        Of the dtype of x.
    y : array of int64
        Classes, from 0 to ``sizes[-1] - 1``.
    sizes : array of int64
        Widths: ``n_columns``, those of the hidden layers, the number of classes.
    relu : bool
        Whether hidden layers compute max(z, 0) rather than tanh z.

    Returns
    -------
    (float, array of shape (n,))
    """
    batch = np.empty((idx.size, X.shape[1]), X.dtype)
    for i in range(idx.size):
        for j in range(X.shape[1]):  # X[idx] and batch[i] = ... take long to compile
            batch[i, j] = X[idx[i], j]
    signals = forward(x, batch, sizes, relu)
    error = signals[sizes.size - 1]
    loss = cross_entropy(error, idx, y)
    g, end, one = np.empty_like(x), x.size, x.dtype.type(1.0)
    for layer in range(sizes.size - 2, -1, -1):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        at, came = end - (inputs + 1) * outputs, signals[layer]
        np.dot(came.T, error, g[at : at + inputs * outputs].reshape(inputs, outputs))
        bias = g[at + inputs * outputs : end]
        bias[:] = 0
        for i in range(idx.size):
            for j in range(outputs):
                bias[j] += error[i, j]
        if layer > 0:
            error = np.dot(error, x[at : at + inputs * outputs].reshape(inputs, outputs).T)
            for i in range(idx.size):
                for j in range(inputs):
                    a = came[i, j]
                    error[i, j] *= (one if a > 0 else one - one) if relu else one - a * a
        end = at
    return loss, g


def initial(sizes: np.ndarray, kind: str, scale: float, seed: int) -> np.ndarray:
    r"""Where to start: biases 0, weights normal with a standard deviation.

    Parameters
    ----------
    sizes : array of int
        As in `network`.
    kind : {"zeros", "normal", "xavier", "he"}
        Standard deviations 0, ``scale``, :math:`\sqrt{2 / (\mathrm{inputs} + \mathrm{outputs})}` or
        :math:`\sqrt{2 / \mathrm{inputs}}`.
    scale : float
        For "normal".
    seed : int

    References
    ----------
    Glorot, X., Bengio, Y. (2010). Understanding the difficulty of training deep feedforward neural networks. AISTATS.
    He, K. et al. (2015). Delving deep into rectifiers. doi:10.1109/ICCV.2015.123
    """
    x, rng = np.zeros(count_unknowns(sizes)), np.random.default_rng(seed)
    for weights, _ in layers(sizes, x):
        inputs, outputs = weights.shape
        xavier, he = math.sqrt(2 / (inputs + outputs)), math.sqrt(2 / inputs)
        spread = {"zeros": 0.0, "normal": scale, "xavier": xavier, "he": he}[kind]
        weights[:] = spread * rng.standard_normal(weights.shape)
    return x


def count_unknowns(sizes: np.ndarray) -> int:
    """How many weights and biases there are."""
    return int(((sizes[:-1] + 1) * sizes[1:]).sum())


def layers(sizes: np.ndarray, x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and biases of every layer, as parts of ``x``."""
    parts, at = [], 0
    for inputs, outputs in itertools.pairwise(sizes):
        weights, at = x[at : at + inputs * outputs].reshape(inputs, outputs), at + inputs * outputs
        parts.append((weights, x[at : at + outputs]))
        at += outputs
    return parts


def classify(x: np.ndarray, X: np.ndarray, sizes: np.ndarray, relu: bool) -> np.ndarray:
    """The likeliest class of every row of ``X``."""
    for k, (weights, bias) in enumerate(layers(sizes, x)):
        if k > 0:
            X = np.maximum(X, 0) if relu else np.tanh(X)
        X = X @ weights + bias
    return X.argmax(axis=1)
