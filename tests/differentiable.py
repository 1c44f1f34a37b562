"""Programs for the tests of exact gradients: jitted, unmodified, named after what they use."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np


class Program(NamedTuple):
    """A function, the shape of its unknowns and its other arguments."""

    fun: Any
    shape: Any
    args: tuple[Any, ...]


class Table(NamedTuple):
    """Arguments as a named tuple."""

    matrix: np.ndarray
    target: np.ndarray
    times: int


PROGRAMS: dict[str, Program] = {}
rng = np.random.default_rng(7)
X, Y, T = rng.standard_normal((30, 4)), (rng.random(30) > 0.5) * 1.0, np.linspace(0.0, 3.0, 20)
SQUARE = rng.standard_normal((4, 4))


def program(shape: Any, *args: Any) -> Any:
    """Decorator: jit a function and put it into the table."""

    def register(function: Any) -> Any:
        jitted = numba.njit(function)
        PROGRAMS[function.__name__] = Program(jitted, shape, args)
        return jitted

    return register


@program(5)
def loop_of_squares(x):
    s = 0.0
    for i in range(x.size - 1):
        s += 100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2
    return s


@program(5)
def slices_and_sum(x):
    return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@program(3, T, np.exp(-T))
def tuple_unpacking(p, t, y):
    a, b, c = p
    r = a * np.exp(-b * t) + c - y
    return np.sum(r**2)


@program(3, T, np.exp(-T))
def scalar_loop_over_data(p, t, y):
    s = 0.0
    for i in range(t.size):
        r = p[0] * math.exp(-p[1] * t[i]) + p[2] - y[i]
        s += r * r
    return s


@program(4, X, Y)
def logistic_by_logaddexp(w, X, y):
    z = X @ w
    return np.sum(np.logaddexp(0.0, z) - y * z)


@program(4, X, Y)
def logistic_by_parts(w, X, y):
    z = np.dot(X, w)
    s = 0.0
    for i in range(z.size):
        s += math.log1p(math.exp(-abs(z[i]))) + max(z[i], 0.0) - y[i] * z[i]
    return s + 0.5 * (w**2).sum()


@program(3, np.abs(X[:, 0]) + 0.1)
def gamma_and_error_functions(p, y):
    mu, k, s = p[0], math.exp(p[1]), math.exp(p[2])
    total = 0.0
    for v in y:
        total += (k - 1) * math.log(v) - v / s - k * math.log(s) - math.lgamma(k) + 0.1 * math.gamma(k + 1)
        total += math.log(0.5 * math.erfc(-(v - mu) / math.sqrt(2.0))) + math.erf(mu)
    return -total


@program(5)
def branches_and_extrema(x):
    s = 0.0
    for i in range(len(x)):
        v = x[i]
        if v > 0.5:
            s += v * v
        elif v < -0.5:
            s -= 2 * v
        else:
            s += abs(v) ** 1.5
        s = s + max(v, 0.1, -3) + min(v, x[0])
    return s if s > 0 else -s


@program(5)
def temporaries_filled_in_loops(x):
    n = x.size
    r = np.empty(n)
    for i in range(n):
        r[i] = x[i] ** 2 - (x[i - 1] if i > 0 else 1.0)
    a = np.zeros(n)
    a[0] = r[0]
    for i in range(1, n):
        a[i] = a[i - 1] * 0.5 + r[i]
    a -= 0.1
    a *= 2.0
    return np.sum(a * a)


@numba.njit
def helper(a, b):
    return math.sin(a) * b + (a - b) ** 2


@numba.njit
def array_helper(x):
    made = np.zeros_like(x)
    for i in range(x.shape[0]):
        made[i] = helper(x[i], x[i - 1])
    return made


@program(5)
def jitted_helpers(x):
    return array_helper(x).sum() + helper(x[0], 2.0)


@program(25, X, Y, 4)
def network(x, X, y, hidden):
    d = X.shape[1]
    first = x[: d * hidden].reshape(d, hidden)
    bias = x[d * hidden : d * hidden + hidden]
    second = x[d * hidden + hidden : d * hidden + 2 * hidden].reshape((hidden, 1))
    layer = np.tanh(X @ first + bias)
    out = (layer @ second)[:, 0] + x[-1]
    return np.mean((out - y) ** 2)


@program(5)
def while_until_converged(x):
    s = 0.0
    for i in range(x.size):
        c = x[i] ** 2 + 1.0
        y = c
        while abs(y * y - c) > 1e-13 * c:
            y = 0.5 * (y + c / y)
        s += y
    return s


def _closure(scale, table):
    @program(5)
    def closure_over_scalar_and_array(x):
        a, b = (x[0], x[1])
        s = scale * a * b
        for j, v in enumerate(x):
            s += v * table[j % 4]
        return s


_closure(3.0, np.arange(4.0))


@program(5)
def lists_and_comprehensions(x):
    squares = [v * v for v in x]
    squares.append(1.0 * x[0])
    s = 0.0
    for a, b in zip(squares, x):  # noqa: B905
        s += a * b
    m = np.array([[1.0, 2.0], [3.0, 4.0]])
    u = np.array([x[0], x[1]])
    return s + u @ m @ u


@program(2)
def arrays_from_float_literals(x):
    a = np.array([0.0, 0.0])
    a[0] = x[0] * x[1]
    b = np.array([[x[0], 1.0], [2.0, x[1]]])
    return a[0] + (b @ b).sum() + np.float64(x[0]) * float(x[1])


@program(5)
def masks_norms_and_products(x):
    m = x > 0.5
    return np.sum(x[m] ** 2) + x.max() + np.linalg.norm(x) + np.prod(x[:3]) + x.std() + np.cumsum(x)[-1] + x.var()


@program(5)
def where_and_clip(x):
    a = np.where(x > 0.5, x**2, 3 * x)
    return np.sum(a) + np.maximum(x, 0.3).sum() + np.abs(x - 0.2).mean() + np.clip(x, -0.5, 0.5).sum()


@program(5)
def stacks_and_orders(x):
    y = np.concatenate((x[:2], x[2:] ** 2))
    s = np.sort(x)
    w = np.diff(x)
    h = np.hstack((x, x)) * np.roll(np.hstack((x, 2 * x)), 1)
    return (y.sum() + np.outer(x[:2], x[1:3]).sum() + w[0] * w[1] + 3 * s[0] + np.argmax(x) + h.sum()
            + x[np.argsort(x)][1] ** 2)  # fmt: skip


@program(4, SQUARE, SQUARE[0].copy())
def quadratic_form(x, A, b):
    return 0.5 * x @ (A @ x) - b @ x + 0.01 * np.sum(x**4) + (x @ A).sum() + (A.T @ x)[0]


@program(6)
def products_of_unknowns(x):
    u = x.reshape(2, -1)
    return np.sum(u[0] * u[1]) + (u.T @ u).sum() + np.sum(u, axis=1)[0] + np.trace(u @ u.T) + np.dot(x[:3], x[3:])


@program((3, 3))
def matrix_of_unknowns(x):
    return np.sum(np.sin(x @ x.T)) + x[0, 1] * x[1, 0] + x.sum(axis=0)[2] * x.mean()


@program(4, Table(SQUARE, SQUARE[1].copy(), 2))
def named_tuple_of_arrays(x, table):
    return np.sum((table.matrix @ x - table.target) ** 2) * table.times


@program(9)
def solve_with_unknowns(x):
    a = x.reshape(3, 3) + 4 * np.eye(3)
    return np.sum(np.linalg.solve(a, x[:3] * x[3:6]) ** 2)


@program(4, SQUARE + 4 * np.eye(4))
def solve_with_constants(x, a):
    return np.sum(np.linalg.solve(a, x) ** 2)


@program(9)
def inverse(x):
    return (np.linalg.inv(x.reshape(3, 3) + 4 * np.eye(3)) * np.arange(9.0).reshape(3, 3)).sum()


@program(9)
def determinants(x):
    a = x.reshape(3, 3)
    sign, logarithm = np.linalg.slogdet(a)
    return np.linalg.det(a) + sign * logarithm


@program(9)
def cholesky(x):
    a = x.reshape(3, 3)
    lower = np.linalg.cholesky(a @ a.T + np.eye(3))
    return np.sum(lower * np.arange(9.0).reshape(3, 3))


@numba.njit
def power_by_recursion(x, k):
    if k <= 0:
        return x[0] * x[1]
    return x[k] * power_by_recursion(x, k - 1)


@program(5)
def recursion(x):
    return power_by_recursion(x, 3)


@program(4)
def default_arguments(x, scale=2.0, power=3):
    return (x**power).sum() * scale


@program(4)
def running_best(x):
    best = -np.inf
    for v in x:
        if v > best:
            best = v
    count = 0
    for v in x:
        count += 1 if v < best else 0
    return best * count


@program(4)
def in_place_operators(x):
    y = x.copy()
    y += 1
    y *= x
    y -= 2 * x
    y /= 3
    y **= 2
    y[1:] = y[:-1] * x[1:]
    return y.sum()


@numba.njit
def squares(x):
    made = np.zeros(x.size)
    for i in range(x.size):
        made[i] = x[i] ** 2
    return made


@program(4, np.arange(4), np.float32(SQUARE[0]))
def integers_and_float32(x, k, a):
    return (x * k).sum() + x[k[0]] + (x * a).sum() + x[-1] ** k[2] + 2 ** x[0]


@program(5)
def remainders_and_rounding(x):
    return (x[0] % 0.7 + np.fmod(x[1], 0.3) + x[2] // 0.4 + np.floor(x[3] * 2) * x[4] + int(x[0] * 3) * x[1]
            + math.floor(x[2]) * x[0] + round(x[4]) + np.sign(x[1]) * x[2])  # fmt: skip


@program(5)
def elementary_functions(x):
    s = 0.0
    for v in x:
        u = 0.3 + v * v
        s += (math.sin(v) + math.cos(v) + math.tan(0.3 * v) + math.asinh(v) + math.sinh(v) + math.cosh(v) + math.tanh(v)
              + math.atan(v) + math.expm1(v) + math.log2(u) + math.log10(u) + math.sqrt(u) + math.hypot(v, u)
              + math.atan2(v, u) + math.copysign(u, v) + math.acosh(1 + u) + math.atanh(u / (1 + u)) + math.asin(v / 3)
              + math.acos(v / 3) + math.degrees(v) + math.radians(v) + math.pow(u, v) + u**v)  # fmt: skip
    return s


@program(5)
def universal_functions(x):
    u = 0.3 + x * x
    a = np.exp2(x) + np.cbrt(u) + np.square(x) + np.reciprocal(u) + np.log1p(u) + np.arctan2(x, u) + np.power(u, x)
    b = np.fmax(x, 0.1) + np.fmin(x, u) + np.hypot(x, u) + np.logaddexp2(x, u) + np.sinc(x) + np.deg2rad(x) + np.fabs(x)
    return (a * b).sum()


@numba.njit(parallel=True, fastmath=True)
def parallel_fastmath(x):
    s = 0.0
    for i in numba.prange(x.size):
        s += x[i] ** 3
    return s


PROGRAMS["parallel_fastmath"] = Program(parallel_fastmath, 6, ())


@program(12)
def more_leaves_than_a_statement_holds(x):
    a = x[0] * x[1] + x[2] * x[3] - x[4] / (x[5] ** 2 + 1) + x[6] * x[7] * x[8] + x[9] - x[10] * x[11] * x[0]
    b = c = a * x[0]
    return a * b + c


def point(shape: Any, seed: int = 0) -> np.ndarray:
    """Unknowns where nothing has a kink."""
    return np.random.default_rng(seed).standard_normal(shape)
