"""What `benchmarks.gradients` differentiates; some with the gradient by hand, some as JAX can trace them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

SIZES = (2, 10, 100, 1000)
POINTS = 200


class Objective(NamedTuple):
    """A function, its gradient by hand if there is one, its twins for JAX and autograd, its arguments for a size."""

    fun: Any
    hand: Any
    traced: Callable[..., Any] | None  # of a NumPy-like module
    args: Callable[[int], tuple[Any, ...]]
    loops: bool
    sizes: tuple[int, ...] = SIZES


@numba.njit
def rosen(x):
    s = 0.0
    for i in range(x.size - 1):
        s += 100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2
    return s


@numba.njit
def rosen_hand(x, g):
    s = 0.0
    g[:] = 0.0
    for i in range(x.size - 1):
        a, b = x[i + 1] - x[i] ** 2, 1.0 - x[i]
        s += 100.0 * a**2 + b**2
        g[i] -= 400.0 * x[i] * a + 2.0 * b
        g[i + 1] += 200.0 * a
    return s


def rosen_traced(np):
    return lambda x: (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@numba.njit
def rosen_slices(x):
    return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@numba.njit
def logistic(w, X, y):
    z = X @ w
    return np.sum(np.logaddexp(0.0, z) - y * z)


@numba.njit
def logistic_hand(w, X, y, g):
    z = X @ w
    s = 0.0
    for i in range(z.size):
        s += np.logaddexp(0.0, z[i]) - y[i] * z[i]
        z[i] = 1.0 / (1.0 + np.exp(-z[i])) - y[i]
    g[:] = X.T @ z
    return s


def logistic_traced(np):
    return lambda w, X, y: (np.logaddexp(0.0, X @ w) - y * (X @ w)).sum()


@numba.njit
def quadratic(x, A, b):
    return 0.5 * x @ (A @ x) - b @ x


@numba.njit
def quadratic_hand(x, A, b, g):
    g[:] = A @ x
    s = 0.5 * x @ g - b @ x
    g -= b
    return s


def quadratic_traced(np):
    return lambda x, A, b: 0.5 * x @ (A @ x) - b @ x


@numba.njit
def network(x, X, y):
    d = X.shape[1]
    hidden = (x.size - 1) // (d + 2)
    first = x[: d * hidden].reshape(d, hidden)
    bias, second = x[d * hidden : (d + 1) * hidden], x[(d + 1) * hidden : (d + 2) * hidden]
    out = np.tanh(X @ first + bias) @ second + x[-1]
    return np.mean((out - y) ** 2)


def network_traced(np):
    def fun(x, X, y):
        d = X.shape[1]
        hidden = (x.size - 1) // (d + 2)
        first = x[: d * hidden].reshape(d, hidden)
        bias, second = x[d * hidden : (d + 1) * hidden], x[(d + 1) * hidden : (d + 2) * hidden]
        return ((np.tanh(X @ first + bias) @ second + x[-1] - y) ** 2).mean()

    return fun


@numba.njit
def roots(x):
    s = 0.0
    for i in range(x.size):
        c = x[i] ** 2 + 1.0
        y = c
        while abs(y * y - c) > 1e-13 * c:
            y = 0.5 * (y + c / y)
        s += y
    return s


@numba.njit
def roots_hand(x, g):
    s = 0.0
    for i in range(x.size):
        c = x[i] ** 2 + 1.0
        y = c
        while abs(y * y - c) > 1e-13 * c:
            y = 0.5 * (y + c / y)
        s += y
        g[i] = x[i] / y
    return s


@numba.njit
def temporaries(x):
    n = x.size
    r, a = np.empty(n), np.zeros(n)
    for i in range(n):
        r[i] = x[i] ** 2 - (x[i - 1] if i > 0 else 1.0)
    a[0] = r[0]
    for i in range(1, n):
        a[i] = a[i - 1] * 0.5 + r[i]
    a -= 0.1
    a *= 2.0
    return np.sum(a * a)


@numba.njit
def exponential(p, t, y):
    s = 0.0
    for i in range(t.size):
        r = p[0] * np.exp(-p[1] * t[i]) - y[i]
        s += r * r
    return s


@numba.njit
def exponential_hand(p, t, y, g):
    s = 0.0
    g[:] = 0.0
    for i in range(t.size):
        e = np.exp(-p[1] * t[i])
        r = p[0] * e - y[i]
        s += r * r
        g[0] += 2.0 * r * e
        g[1] -= 2.0 * r * p[0] * e * t[i]
    return s


def exponential_traced(np):
    return lambda p, t, y: ((p[0] * np.exp(-p[1] * t) - y) ** 2).sum()


@numba.njit
def styblinski(x):
    s = 0.0
    for v in x:
        s += v**4 - 16.0 * v**2 + 5.0 * v
    return 0.5 * s


@numba.njit
def styblinski_hand(x, g):
    s = 0.0
    for i in range(x.size):
        v = x[i]
        s += v**4 - 16.0 * v**2 + 5.0 * v
        g[i] = 2.0 * v**3 - 16.0 * v + 2.5
    return 0.5 * s


def styblinski_traced(np):
    return lambda x: 0.5 * (x**4 - 16.0 * x**2 + 5.0 * x).sum()


@numba.njit
def ackley(x):
    return (-20.0 * np.exp(-0.2 * np.sqrt(np.mean(x**2))) - np.exp(np.mean(np.cos(2.0 * np.pi * x))) + 20.0 + np.e)


def ackley_traced(np):
    return lambda x: -20.0 * np.exp(-0.2 * np.sqrt((x**2).mean())) - np.exp(np.cos(6.283185307179586 * x).mean())


@numba.njit
def link(a, b):
    return np.sin(a) * b + (a - b) ** 2


@numba.njit
def helpers(x):
    s = 0.0
    for i in range(x.size - 1):
        s += link(x[i], x[i + 1])
    return s


def _none(n: int) -> tuple[Any, ...]:
    return ()


def _table(n: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((POINTS, n)), (rng.random(POINTS) > 0.5) * 1.0


def _features(n: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((POINTS, {10: 1, 100: 9, 1000: 25}[n])), rng.standard_normal(POINTS)


def _square(n: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(1)
    a = rng.standard_normal((n, n))
    return a + a.T, rng.standard_normal(n)


def _curve(n: int) -> tuple[Any, ...]:
    t = np.linspace(0.0, 3.0, POINTS)
    return t, np.exp(-t)


OBJECTIVES = {
    "Rosenbrock, loop": Objective(rosen, rosen_hand, rosen_traced, _none, True),
    "Rosenbrock, slices": Objective(rosen_slices, None, rosen_traced, _none, True),
    "Styblinski-Tang, loop": Objective(styblinski, styblinski_hand, styblinski_traced, _none, True),
    "helper in a loop": Objective(helpers, None, None, _none, True),
    "Newton iterations": Objective(roots, roots_hand, None, _none, True),
    "temporaries": Objective(temporaries, None, None, _none, True),
    "Ackley, vectors": Objective(ackley, None, ackley_traced, _none, False),
    "exponential fit": Objective(exponential, exponential_hand, exponential_traced, _curve, True, (2,)),
    "logistic, X @ w": Objective(logistic, logistic_hand, logistic_traced, _table, False),
    "quadratic form": Objective(quadratic, quadratic_hand, quadratic_traced, _square, False),
    "network, 200 rows": Objective(network, None, network_traced, _features, False, (100, 1000)),
}
