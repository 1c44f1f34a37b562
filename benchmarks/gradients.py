"""Exact gradients of jitted functions: accuracy, cost, time to compile; beside by hand, JAX and autograd."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numba
import numpy as np

import numbaopt as no

from .report import OURS, Case, Faster, Table, optional
from .timing import Times, race

SIZES = (2, 10, 100, 1000)
POINTS = 200
ALONE, HAND, FORWARD, REVERSE = "fun alone", "by hand", "forward", "reverse"
JAX_LOOP, JAX_CALL, AUTOGRAD, DIFFERENCES = "JAX in a loop", "JAX, called", "autograd", "3-point"
NOTES = (
    f"All but {JAX_CALL} and {AUTOGRAD} are timed inside compiled loops.  {OURS}: value_and_grad, forward mode up to",
    "10 unknowns, else reverse mode.  3-point: 2n evaluations.  Asked: for n <= 10 on loops a quarter of the speed of",
    "by hand; at n = 1000 a third of the speed of fun alone on matrices, a twelfth on loops.",
)


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


def run(quick: bool = False) -> Iterator[Table]:
    """A table a size, then accuracy and the time to compile."""
    notes: list[str] = []
    off: list[str] = []
    for n in SIZES[:1] if quick else SIZES:
        cases = []
        for name, objective in OBJECTIVES.items():
            if n in objective.sizes:
                times, error = times_of(objective, n, notes, 2 if quick else 7)
                goals = []
                if HAND in times and n <= 10 and objective.loops:
                    goals.append(Faster(0.25, (HAND,)))
                if n == 1000:
                    goals.append(Faster(1 / 12 if objective.loops else 1 / 3, (ALONE,)))
                cases.append(Case(name, times, tuple(goals)))
                off.append(f"{name}, n = {n}: {error:.1e}" if error is not None else f"{name}, n = {n}: no peer")
        yield Table(f"Value and exact gradient, n = {n}", cases, [*notes, *NOTES])
    yield Table("Largest relative error against by hand or jax.grad", [], off)
    yield Table("Seconds to compile a value and gradient, first call, nothing on disk", [], compile_times(quick))


def times_of(objective: Objective, n: int, notes: list[str], rounds: int) -> tuple[dict[str, Times], float | None]:
    """All contestants, in seconds an evaluation; the error of ours where there is something to compare with."""
    x, args = np.random.default_rng(0).standard_normal(n) * 0.3, objective.args(n)
    ours = no.value_and_grad(objective.fun)
    g = ours(x, *args)[1]
    contestants: dict[str, Callable[[], Any]] = {}
    units: dict[str, int] = {}

    def loop(name: str, call: Any) -> None:
        count = 1
        call(x.copy(), args, 1)
        while _seconds(functools.partial(call, x.copy(), args, count)) < 0.01:
            count *= 4
        contestants[name], units[name] = (lambda: call(x.copy(), args, count)), count

    loop(OURS, _repeat_pair(ours.compiled("forward" if n <= 10 else "reverse")))
    loop(ALONE, _repeat(objective.fun))
    expected = None
    if objective.hand is not None:
        loop(HAND, _repeat_hand(objective.hand))
        expected = np.empty(n)
        objective.hand(x, *args, expected)
    for mode in (FORWARD, REVERSE) if n <= 16 else ():
        loop(mode, _repeat_pair(no.value_and_grad(objective.fun, mode).compiled(mode)))
    if n <= 100:
        loop(DIFFERENCES, _repeat_differences(objective.fun))
    if objective.traced is not None:
        found = jax_twins(objective, x, args, notes)
        if found:
            contestants |= {JAX_LOOP: found[0], JAX_CALL: found[1]}
            units |= {JAX_LOOP: found[3], JAX_CALL: 1}
            expected = found[2] if expected is None else expected
        if autograd := optional("autograd", notes):
            import autograd.numpy

            traced = autograd.value_and_grad(objective.traced(autograd.numpy))
            contestants[AUTOGRAD], units[AUTOGRAD] = (lambda: traced(x, *args)), 1
    error = None if expected is None else float(np.abs(g - expected).max() / max(np.abs(expected).max(), 1e-300))
    return race(contestants, rounds, units=units), error


def _seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _repeat(fun: Any) -> Any:
    @numba.njit
    def run(x, args, count):
        s = 0.0
        for _ in range(count):
            x[0] += 1e-12
            s += fun(x, *args)
        return s

    return run


def _repeat_pair(fun: Any) -> Any:
    @numba.njit
    def run(x, args, count):
        s = 0.0
        for _ in range(count):
            x[0] += 1e-12
            value, g = fun(x, *args)
            s += value + g[0]
        return s

    return run


def _repeat_hand(fun: Any) -> Any:
    @numba.njit
    def run(x, args, count):
        s = 0.0
        for _ in range(count):
            x[0] += 1e-12
            g = np.empty(x.size)
            s += fun(x, *args, g) + g[0]
        return s

    return run


def _repeat_differences(fun: Any) -> Any:
    @numba.njit
    def run(x, args, count):
        s = 0.0
        for _ in range(count):
            x[0] += 1e-12
            g = np.empty(x.size)
            value = fun(x, *args)
            for i in range(x.size):
                kept = x[i]
                x[i] = kept + 6e-6
                ahead = fun(x, *args)
                x[i] = kept - 6e-6
                g[i] = (ahead - fun(x, *args)) / 12e-6
                x[i] = kept
            s += value + g[0]
        return s

    return run


def jax_twins(objective: Objective, x: Any, args: Any, notes: list[str]) -> Any:
    """A jitted loop of evaluations, a jitted evaluation to call, the gradient, and how many the loop does."""
    if not (jax := optional("jax", notes)) or objective.traced is None:
        return None
    jax.config.update("jax_enable_x64", True)
    pair = jax.value_and_grad(objective.traced(jax.numpy))
    data, count = tuple(map(jax.numpy.asarray, args)), 100

    def body(_, carry):
        x, s = carry
        value, g = pair(x, *data)
        return x.at[0].add(1e-12), s + value + g[0]

    loop = jax.jit(lambda x: jax.lax.fori_loop(0, count, body, (x, 0.0))[1])
    call, start = jax.jit(pair), jax.numpy.asarray(x)
    return (lambda: loop(start).block_until_ready(), lambda: call(start, *data)[1].block_until_ready(),
            np.asarray(call(start, *data)[1]), count)  # fmt: skip


def compile_times(quick: bool) -> list[str]:
    """The first calls, after one that compiles what all share."""
    lines = []
    no.value_and_grad(numba.njit(lambda x: x[0] * x[0]), "forward")(np.ones(2))
    no.value_and_grad(numba.njit(lambda x: (np.ones((2, 2)) @ x)[0]), "reverse")(np.ones(2))
    for name, objective in list(OBJECTIVES.items())[: 2 if quick else None]:
        n = objective.sizes[0]
        x, args = np.full(n, 0.3), objective.args(n)
        taken = []
        for mode in (None, FORWARD, REVERSE):
            fresh = numba.njit(objective.fun.py_func)
            call = fresh if mode is None else no.value_and_grad(fresh, mode)
            taken.append(_seconds(functools.partial(call, x, *args)))
        lines.append(f"{name}: {ALONE} {taken[0]:.2f}, {FORWARD} {taken[1]:.2f}, {REVERSE} {taken[2]:.2f}")
    return lines
