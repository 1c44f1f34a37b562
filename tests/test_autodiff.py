"""Exact gradients: every program of the table in both modes, hand-written ones to rounding, the public functions."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from differentiable import PROGRAMS, X, Y, loop_of_squares, network, point, scalar_loop_over_data
from process import python

import numbaopt as no
from numbaopt import autodiff

MODES = ("forward", "reverse")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_have_the_gradient_that_differences_show(name, mode):
    fun, shape, args = PROGRAMS[name]
    x = point(shape)
    before = x.copy()
    value, gradient = no.value_and_grad(fun, mode)(x, *args)
    assert value == pytest.approx(fun(x.copy(), *args), rel=1e-13, abs=1e-13)
    checked = no.check_grad(fun, x, args, jac=lambda x, *args: gradient)
    assert checked.error < 1e-8, str(checked)
    np.testing.assert_array_equal(x, before)


def rosen_by_hand(x):
    g = np.zeros_like(x)
    g[:-1] = -400 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2 * (1 - x[:-1])
    g[1:] += 200 * (x[1:] - x[:-1] ** 2)
    return g


@numba.njit
def logistic(w, X, y):
    return np.sum(np.logaddexp(0.0, X @ w) - y * (X @ w))


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 16, 17, 100, 1000])
@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_exact_to_rounding_at_any_size(mode, n):
    x = point(n)
    np.testing.assert_allclose(no.grad(loop_of_squares, mode)(x), rosen_by_hand(x) if n > 1 else [0.0], rtol=1e-13,
                               atol=1e-12)  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_logistic_regression_is_exact(mode):
    w = point(4)
    by_hand = X.T @ (1 / (1 + np.exp(-(X @ w))) - Y)
    np.testing.assert_allclose(no.grad(logistic, mode)(w, X, Y), by_hand, rtol=1e-13, atol=1e-13)


@pytest.mark.peer
def test_gradients_agree_with_jax():
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy

    def in_jax(x):
        first, bias, second = x[:16].reshape(4, 4), x[16:20], x[20:24].reshape(4, 1)
        return jnp.mean(((jnp.tanh(X @ first + bias) @ second)[:, 0] + x[-1] - Y) ** 2)

    x = point(25)
    for mode in MODES:
        np.testing.assert_allclose(no.grad(network, mode)(x, X, Y, 4), jax.grad(in_jax)(x), rtol=1e-13, atol=1e-14)


def test_modes_agree_and_the_default_is_one_of_them():
    fun, shape, args = PROGRAMS["scalar_loop_over_data"]
    x = point(shape)
    assert no.value_and_grad(fun)(x, *args)[0] == no.value_and_grad(fun, "forward")(x, *args)[0]
    np.testing.assert_array_equal(no.grad(fun)(x, *args), no.grad(fun, "forward")(x, *args))
    big = point(40)
    np.testing.assert_array_equal(no.grad(loop_of_squares)(big), no.grad(loop_of_squares, "reverse")(big))


def test_unknowns_of_any_kind():
    df = no.grad(loop_of_squares)
    expected = rosen_by_hand(np.array([1.0, 2.0, 3.0]))
    wide = np.zeros((3, 2))
    wide[:, 0] = 1, 2, 3
    frozen = np.array([1.0, 2.0, 3.0])
    frozen.flags.writeable = False
    for x in ([1, 2, 3], np.array([1, 2, 3]), wide[:, 0], frozen, frozen.astype(">f8"), (1.0, 2.0, 3.0)):
        np.testing.assert_array_equal(df(x), expected)
    narrow = df(np.array([1, 2, 3], np.float32))
    assert narrow.dtype == np.float32
    np.testing.assert_array_equal(narrow, expected.astype(np.float32))
    cube = numba.njit(lambda x, a: a * x**3)
    assert no.value_and_grad(cube)(2.0, 3.0) == no.value_and_grad(cube, "reverse")(2.0, 3.0) == (24.0, 36.0)
    with pytest.raises(TypeError, match="real numbers"):
        df(np.array([1j, 2]))


def test_constants_have_no_gradient():
    for fun in (numba.njit(lambda x: 3.0), numba.njit(lambda x: 2), numba.njit(lambda x: x.size > 1)):
        for mode in MODES:
            value, g = no.value_and_grad(fun, mode)(np.ones(3))
            assert value == fun(np.ones(3))
            np.testing.assert_array_equal(g, 0)


def test_from_compiled_code_parallel_loops_and_threads():
    df = no.grad(loop_of_squares)
    points = point((64, 5))

    @numba.njit
    def one(x):
        return df(x)

    @numba.njit(parallel=True)
    def all_at_once(points):
        made = np.empty_like(points)
        for i in numba.prange(len(points)):
            made[i] = df(points[i])
        return made

    expected = np.array([rosen_by_hand(x) for x in points])
    np.testing.assert_allclose(one(points[0]), expected[0], rtol=1e-13, atol=1e-12)
    np.testing.assert_allclose(all_at_once(points), expected, rtol=1e-13, atol=1e-12)
    reverse, barrier = no.grad(loop_of_squares, "reverse"), threading.Barrier(8)
    reverse(points[0])

    def work(k):
        barrier.wait()
        return [reverse(points[(k + i) % 64]) for i in range(200)][-1]

    with ThreadPoolExecutor(8) as pool:
        for k, g in enumerate(pool.map(work, range(8))):
            np.testing.assert_allclose(g, expected[(k + 199) % 64], rtol=1e-13, atol=1e-12)


@pytest.mark.parametrize("mode", [None, *MODES])
def test_jacobian(mode):
    @numba.njit
    def residuals(p, t, y):
        return p[0] * np.exp(-p[1] * t) - y

    t = np.linspace(0, 1, 7)
    p = np.array([2.0, 0.5])
    by_hand = np.stack([np.exp(-0.5 * t), -2 * t * np.exp(-0.5 * t)], axis=1)
    values, jacobian = autodiff.value_and_jacobian(residuals, mode)(p, t, np.ones(7))
    np.testing.assert_allclose(jacobian, by_hand, rtol=1e-13, atol=1e-15)
    np.testing.assert_array_equal(values, residuals(p, t, np.ones(7)))
    np.testing.assert_array_equal(no.jacobian(residuals, mode)(p, t, np.ones(7)), jacobian)
    same = numba.njit(lambda x: x)
    np.testing.assert_array_equal(no.jacobian(same, mode)(np.ones(20)), np.eye(20))
    constant = numba.njit(lambda x, a: a)
    np.testing.assert_array_equal(no.jacobian(constant, mode)(np.ones(2), np.ones(3)), np.zeros((3, 2)))


def test_second_derivatives():
    fun = numba.njit(lambda x: x[0] ** 2 * x[1] + np.sin(x[2]))
    x = np.array([1.0, 2.0, 0.5])
    by_hand = np.array([[4.0, 2, 0], [2, 0, 0], [0, 0, -np.sin(0.5)]])
    np.testing.assert_allclose(no.hessian(fun)(x), by_hand, atol=1e-8)
    np.testing.assert_allclose(no.hvp(fun)(x, np.array([1.0, -1, 3])), by_hand @ [1, -1, 3], atol=1e-8)
    np.testing.assert_array_equal(no.hvp(fun)(x, np.zeros(3)), np.zeros(3))


def test_check_grad_names_the_worst_component():
    x = point((2, 3))
    fun = numba.njit(lambda x: (x**3).sum())
    assert no.check_grad(fun, x).error < 1e-10

    def wrong(x):
        g = 3 * x**2
        g[1, 2] += 1
        return g

    found = no.check_grad(fun, x, jac=wrong)
    assert found.worst == (1, 2)
    assert "x[1, 2]" in str(found)
    with pytest.raises(ValueError, match="shape"):
        no.check_grad(fun, x, jac=lambda x: x[0])


def test_check_grad_of_a_number():
    square = numba.njit(lambda x: x * x)
    assert no.check_grad(square, 1.5).error < 1e-10
    assert str(no.check_grad(square, 1.5, jac=lambda x: 2.0)).startswith("worst component x: gradient 2")
    assert no.check_grad(square, 1.5, jac=lambda x: float("nan")).error == np.inf
    with pytest.raises(TypeError, match="x must be real numbers, not of dtype <U1"):
        no.check_grad(square, "a")


@pytest.mark.parametrize("second", [no.hessian, no.hvp])
def test_second_derivatives_are_those_of_vectors(second):
    with pytest.raises(ValueError, match="x must be a vector, not a number"):
        second(numba.njit(lambda x: x * x))(1.5, 1.0)


def test_arguments_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="mode='backward'"):
        no.grad(loop_of_squares, "backward")
    with pytest.raises(TypeError, match="fun=3"):
        no.grad(3)
    with pytest.raises(ValueError, match="tape_bytes=3"):
        no.grad(loop_of_squares, tape_bytes=3)
    assert no.grad(lambda x: x[0] ** 2)(np.array([3.0])) == [6.0]  # plain functions are compiled


IN_A_PROCESS = """
import numba, numpy as np, sys
import numbaopt as no
from numba.core import event

@numba.njit(cache=True)
def fun(x, a):
    return (a * x**{power}).sum()

class Names(event.Listener):
    seen = []
    def on_start(self, e): self.seen.append(e.data["dispatcher"].py_func.__qualname__)
    def on_end(self, e): pass

df = no.value_and_grad(fun, "{mode}")
with event.install_listener("numba:compile", Names()):
    value, g = df(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
print(value, *g, sum(df.dispatcher.stats.cache_hits.values()), len(Names.seen))
"""


@pytest.mark.process
@pytest.mark.parametrize("mode", MODES)
def test_compiled_gradients_are_kept_on_disk(tmp_path, mode):
    def run(power):
        file = tmp_path / "objective.py"
        file.write_text(IN_A_PROCESS.format(mode=mode, power=power))
        return python(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import objective",
                      NUMBA_CACHE_DIR=str(tmp_path))  # fmt: skip

    first, second, edited = run(2), run(2), run(3)
    assert first[:3] == second[:3] == ["19.0", "6.0", "16.0"]
    assert edited[:3] == ["35.0", "9.0", "48.0"]
    assert int(first[4]) > 0
    assert second[3:] == ["1", "0"]  # a hit, and nothing compiled
    assert edited[3] == "0"


def test_nfev_counts_no_differences():
    fun, shape, args = scalar_loop_over_data, 3, PROGRAMS["scalar_loop_over_data"].args
    res = no.minimize(fun, np.ones(shape), args=args, method="lbfgs")
    assert res.success
    assert res.nfev == res.njev
