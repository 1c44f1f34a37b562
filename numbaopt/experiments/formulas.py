r"""Classic test functions: formulas, starts and minima.

There are as many unknowns as x has, where the dimension is not fixed.  ``recurrent_unit`` is the error of one neuron
that is fed back to itself: plains, and a wall that throws steps far away (as in Pascanu, Mikolov and Bengio, 2013).

References
----------
Jamil, M., Yang, X.-S. (2013). A literature survey of benchmark functions for global optimization problems.
doi:10.1504/IJMMNO.2013.055204

Pascanu, R., Mikolov, T., Bengio, Y. (2013). On the difficulty of training recurrent neural networks.
doi:10.48550/arXiv.1211.5063
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .._jit import jit

RECURRENCES = 50


class Formula(NamedTuple):
    """A function to minimize.

    Attributes
    ----------
    fun, jac : callable
        ``fun(x)`` and its gradient, jitted; None: the exact one is derived.
    about : str
    start : sequence of float, or callable
        Where to start, ``start(n)`` for n unknowns.
    minima : sequence of points, or callable
        All global minima, ``minima(n)``; empty where none is known.
    box : (float, float)
        Low and high: where random starts lie.
    dimension, least : int
        Fixed, or the usual one and the least where ``start`` is a function.
    view : tuple or None
        What pictures of two unknowns show: left, right, bottom, top; the box by default.
    """

    fun: Any
    about: str
    start: Any
    minima: Any = ()
    box: tuple[float, float] = (-1.0, 1.0)
    dimension: int = 2
    jac: Any = None
    view: tuple[float, float, float, float] | None = None
    least: int = 1

    @property
    def any_dimension(self) -> bool:
        """Whether the number of unknowns can be chosen."""
        return callable(self.start)

    def start_of(self, n: int) -> np.ndarray:
        """The standard start."""
        return np.array(self.start(n) if callable(self.start) else self.start, float)

    def minima_of(self, n: int) -> np.ndarray:
        """The global minima, of shape (m, n)."""
        points = self.minima(n) if callable(self.minima) else self.minima
        return np.array(points, float).reshape(len(points), n)


@jit
def rosenbrock(x):
    total = 0.0
    for i in range(x.size - 1):
        total += 100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2
    return total


@jit
def rosenbrock_gradient(x):
    g = np.zeros(x.size)
    for i in range(x.size - 1):
        off = x[i + 1] - x[i] ** 2
        g[i] += -400.0 * x[i] * off - 2.0 * (1.0 - x[i])
        g[i + 1] = 200.0 * off
    return g


@jit
def saddle(x):
    return 0.5 * x[0] ** 2 + 0.25 * x[1] ** 4 - 0.5 * x[1] ** 2


@jit
def saddle_gradient(x):
    return np.array([x[0], x[1] ** 3 - x[1]])


@jit
def rastrigin(x):
    total = 0.0
    for i in range(x.size):
        total += 10.0 + x[i] ** 2 - 10.0 * math.cos(2.0 * math.pi * x[i])
    return total


@jit
def ackley(x):
    squares, waves = 0.0, 0.0
    for i in range(x.size):
        squares += x[i] ** 2
        waves += math.cos(2.0 * math.pi * x[i])
    return 20.0 + math.e - 20.0 * math.exp(-0.2 * math.sqrt(squares / x.size)) - math.exp(waves / x.size)


@jit
def griewank(x):
    squares, product = 0.0, 1.0
    for i in range(x.size):
        squares += x[i] ** 2
        product *= math.cos(x[i] / math.sqrt(i + 1.0))
    return 1.0 + squares / 4000.0 - product


@jit
def levy(x):
    n = x.size
    total = math.sin(math.pi * (1.0 + 0.25 * (x[0] - 1.0))) ** 2
    for i in range(n - 1):
        w = 0.25 * (x[i] - 1.0)
        total += w**2 * (1.0 + 10.0 * math.sin(math.pi * (1.0 + w) + 1.0) ** 2)
    w = 0.25 * (x[n - 1] - 1.0)
    return total + w**2 * (1.0 + math.sin(2.0 * math.pi * (1.0 + w)) ** 2)


@jit
def schwefel(x):
    total = 0.0
    for i in range(x.size):
        total += 418.98288727243380 - x[i] * math.sin(math.sqrt(abs(x[i])))
    return total


@jit
def styblinski_tang(x):
    total = 0.0
    for i in range(x.size):
        total += 0.5 * (x[i] ** 4 - 16.0 * x[i] ** 2 + 5.0 * x[i])
    return total


@jit
def himmelblau(x):
    return (x[0] ** 2 + x[1] - 11.0) ** 2 + (x[0] + x[1] ** 2 - 7.0) ** 2


@jit
def six_hump_camel(x):
    a, b = x[0] ** 2, x[1] ** 2
    return (4.0 - 2.1 * a + a**2 / 3.0) * a + x[0] * x[1] + (-4.0 + 4.0 * b) * b


@jit
def recurrent_unit(x):
    signal = 0.5
    for _ in range(RECURRENCES):
        signal = x[0] / (1.0 + math.exp(-signal)) + x[1]
    return (1.0 / (1.0 + math.exp(-signal)) - 0.7) ** 2


@jit
def quadratic(x, A):
    return 0.5 * np.dot(x, np.dot(A, x))


@jit
def quadratic_gradient(x, A):
    return np.dot(A, x)


def curvatures(n: int, condition: float, rotated: bool, seed: int) -> np.ndarray:
    """A symmetric matrix with eigenvalues from 1 to ``condition``, evenly spaced in their logarithms."""
    values = np.geomspace(1.0, condition, n)
    if not rotated:
        return np.diag(values)
    axes = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    A = (axes * values) @ axes.T
    return 0.5 * (A + A.T)


def everywhere(value: float) -> Callable[[int], Any]:
    """A point with the same number in every coordinate, one a dimension: for starts."""
    return lambda n: [value] * n


def minimum(value: float) -> Callable[[int], Any]:
    """The only minimum has this number in every coordinate."""
    return lambda n: [[value] * n]


HIMMELBLAU = ((3.0, 2.0), (-2.805118086952745, 3.131312518250573), (-3.779310253377747, -3.283185991286170),
              (3.584428340330492, -1.848126526964404))  # fmt: skip
CAMEL = ((0.08984201368301331, -0.7126564032704135), (-0.08984201368301331, 0.7126564032704135))
BRANCH = tuple((w, math.log(7.0 / 3.0) - 0.7 * w) for w in (k / 10.0 for k in range(-20, 36)))  # minima: a line

FORMULAS = {
    "rosenbrock": Formula(
        rosenbrock, "Rosenbrock's function, a curved valley",
        lambda n: [-1.5, -0.5] if n == 2 else [-1.2 if i % 2 == 0 else 1.0 for i in range(n)],
        minimum(1.0), (-2.0, 2.0), 2, rosenbrock_gradient, (-1.9, 1.6, -0.8, 2.2), 2),
    "saddle": Formula(saddle, "a saddle between two minima: x1^2 / 2 + x2^4 / 4 - x2^2 / 2", (1.5, 0.001),
                      ((0, 1), (0, -1)), (-2.0, 2.0), 2, saddle_gradient, (-1.0, 2.0, -1.5, 1.5)),
    "rastrigin": Formula(rastrigin, "Rastrigin's function: a bowl full of dents", everywhere(2.2), minimum(0.0),
                         (-5.12, 5.12)),
    "ackley": Formula(ackley, "Ackley's function: ripples around a funnel", everywhere(3.4), minimum(0.0),
                      (-32.0, 32.0), view=(-5.0, 5.0, -5.0, 5.0)),
    "griewank": Formula(griewank, "Griewank's function: fine ripples on a wide bowl", everywhere(-55.0), minimum(0.0),
                        (-600.0, 600.0), view=(-60.0, 20.0, -60.0, 20.0)),
    "levy": Formula(levy, "Levy's function: waves that grow outwards", everywhere(-4.0), minimum(1.0), (-10.0, 10.0)),
    "schwefel": Formula(schwefel, "Schwefel's function: the second best minimum is far from the best",
                        everywhere(150.0), minimum(420.96874635998202), (-500.0, 500.0)),
    "styblinski_tang": Formula(styblinski_tang, "Styblinski and Tang's function: two wells a coordinate, one deeper",
                               everywhere(0.5), minimum(-2.9035340277711770), (-5.0, 5.0)),
    "himmelblau": Formula(himmelblau, "Himmelblau's function: four equal minima", (0.0, 0.0), HIMMELBLAU, (-6.0, 6.0)),
    "six_hump_camel": Formula(six_hump_camel, "the camel with six humps: two of six minima are the lowest", (-1.6, 0.6),
                              CAMEL, (-2.0, 2.0), view=(-2.0, 2.0, -1.2, 1.2)),
    "recurrent_unit": Formula(recurrent_unit, "one neuron fed back fifty times: plains and a wall", (5.0, -3.2), BRANCH,
                              (-4.0, 6.0), view=(3.0, 6.0, -4.0, -1.0)),
}  # fmt: skip
