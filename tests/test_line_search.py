"""Methods that search along a line: L-BFGS, also within bounds, BFGS, CG; against the textbook and SciPy's."""

import numba
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import same

import numbaopt as no

METHODS = ["lbfgs", "L-BFGS-B", "BFGS", "CG"]


@numba.njit
def chain(x):
    total = 0.0
    for i in range(x.size - 1):
        total += 100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2
    return total


@numba.njit
def chain_grad(x):
    g = np.zeros_like(x)
    for i in range(x.size - 1):
        a = x[i + 1] - x[i] ** 2
        g[i] += -400.0 * a * x[i] - 2.0 * (1.0 - x[i])
        g[i + 1] += 200.0 * a
    return g


@numba.njit
def quadratic(x, A, b):
    return 0.5 * np.dot(x, np.dot(A, x)) - np.dot(b, x)


@numba.njit
def quadratic_grad(x, A, b):
    return np.dot(A, x) - b


def start(n):
    return np.resize([-1.2, 1.0], n)


def matrix(n, seed, condition=50.0):
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return (q * np.geomspace(1.0, condition, n)) @ q.T, rng.standard_normal(n)


def projected(x, g, low, high):
    return abs(np.clip(x - g, low, high) - x).max()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [1, 2, 10, 60])
def test_methods_reach_the_minimum(method, n):
    A, b = matrix(n, n)
    res = no.minimize(quadratic, np.zeros(n), args=(A, b), jac=quadratic_grad, method=method,
                      options={"gtol": 1e-9, "ftol": 0, "maxiter": 1000})  # fmt: skip
    assert res.success, res.message
    np.testing.assert_allclose(res.x, np.linalg.solve(A, b), atol=1e-8)
    assert abs(quadratic_grad(res.x, A, b)).max() <= 1e-9
    if n > 1:
        res = no.minimize(chain, start(n), jac=chain_grad, method=method, options={"gtol": 1e-7, "ftol": 0})
        assert res.success, res.message
        assert abs(chain_grad(res.x)).max() <= 1e-7


def _update(H, s, y):
    """The inverse Hessian of BFGS after a step and a change of the gradient, by the formula for matrices."""
    rho, eye = 1 / (y @ s), np.eye(s.size)
    return (eye - rho * np.outer(s, y)) @ H @ (eye - rho * np.outer(y, s)) + rho * np.outer(s, s)


def test_bfgs_is_that_of_the_textbook():
    def grad(x):
        return quadratic_grad(x, A, b)

    A, b = matrix(6, 0)
    one = no.minimize(quadratic, np.zeros(6), args=(A, b), jac=quadratic_grad, method="BFGS", options={"maxiter": 1})
    g, y = grad(np.zeros(6)), grad(one.x) - grad(np.zeros(6))
    x = one.x
    np.testing.assert_allclose(x, -one.lr * g, atol=1e-14)
    H = _update(np.eye(6) * (x @ y / (y @ y)), x, y)
    np.testing.assert_allclose(one.hess_inv, H, atol=1e-13)
    for k in range(2, 6):
        res = no.minimize(quadratic, np.zeros(6), args=(A, b), jac=quadratic_grad, method="BFGS",
                          options={"maxiter": k})  # fmt: skip
        to = x - res.lr * H @ grad(x)
        x, H = to, _update(H, to - x, grad(to) - grad(x))
        np.testing.assert_allclose(res.x, x, atol=1e-12)
        np.testing.assert_allclose(res.hess_inv, H, atol=1e-12)
    full = no.minimize(quadratic, np.zeros(6), args=(A, b), jac=quadratic_grad, method="BFGS", tol=1e-10)
    np.testing.assert_allclose(full.hess_inv, np.linalg.inv(A), atol=0.05)


def test_lbfgs_with_room_for_all_steps_is_bfgs():
    """With as many pairs as steps the two differ only in the first matrix, which L-BFGS scales anew in every step."""
    A, b = matrix(5, 1)
    res = no.minimize(quadratic, np.zeros(5), args=(A, b), jac=quadratic_grad, method="L-BFGS-B",
                      options={"maxiter": 3, "ftol": 0})  # fmt: skip
    s, y = res.hess_inv.sk, res.hess_inv.yk
    H = np.eye(5) * (s[-1] @ y[-1] / (y[-1] @ y[-1]))
    for step, change in zip(s, y, strict=True):
        H = _update(H, step, change)
    after = no.minimize(quadratic, np.zeros(5), args=(A, b), jac=quadratic_grad, method="L-BFGS-B",
                        options={"maxiter": 4, "ftol": 0})  # fmt: skip
    np.testing.assert_allclose(after.x - res.x, -after.lr * H @ quadratic_grad(res.x, A, b), atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(0, 10_000), st.floats(0.0, 2.0), st.sampled_from([2, 5, 10]))
def test_bounds_hold_and_the_optimum_is_found(n, seed, width, memory):
    rng = np.random.default_rng(seed)
    A, b = matrix(n, seed, 200.0)
    low = rng.standard_normal(n) - 0.5 * width
    high = low + width * rng.random(n)
    low[rng.random(n) < 0.2], high[rng.random(n) < 0.2] = -np.inf, np.inf
    res = no.minimize(quadratic, rng.standard_normal(n), args=(A, b), jac=quadratic_grad, method="lbfgs",
                      bounds=scipy.optimize.Bounds(low, high), options={"gtol": 1e-8, "memory": memory})  # fmt: skip
    assert res.success, res.message
    assert (low <= res.x).all()
    assert (res.x <= high).all()
    assert projected(res.x, quadratic_grad(res.x, A, b), low, high) <= 1e-8


@pytest.mark.parametrize("seed", range(6))
def test_bounds_on_a_curved_valley_cost_no_more_than_scipy(seed):
    n = 20
    rng = np.random.default_rng(seed)
    low = rng.uniform(-2, 0.5, n)
    high = low + rng.uniform(0.3, 3, n)
    bounds = scipy.optimize.Bounds(low, high)
    mine = no.minimize(chain, start(n), jac=chain_grad, bounds=bounds, tol=1e-7)
    theirs = scipy.optimize.minimize(lambda x: (chain(x), chain_grad(x)), start(n), jac=True, method="L-BFGS-B",
                                     bounds=bounds, options={"ftol": 0, "gtol": 1e-7})  # fmt: skip
    assert mine.success
    assert projected(mine.x, chain_grad(mine.x), low, high) <= 1e-7
    assert mine.nfev <= 2 * theirs.nfev


@pytest.mark.parametrize("bounds", [None, [(-1.0, 0.5)] * 10])
@pytest.mark.parametrize("method", METHODS)
def test_slices_change_no_bit(method, bounds):
    if bounds is not None and method in ("BFGS", "CG"):
        pytest.skip("takes no bounds")
    whole = no.minimize(chain, start(10), jac=chain_grad, method=method, bounds=bounds)
    cut = no.minimize(chain, start(10), jac=chain_grad, method=method, bounds=bounds, callback=lambda x: None)
    same(whole, cut)


def test_options_mean_what_they_mean_in_scipy():
    few = no.minimize(chain, start(10), jac=chain_grad, method="L-BFGS-B", options={"maxfun": 20})
    assert few.status == 1
    assert "evaluations" in few.message
    assert 20 <= few.nfev < 40
    loose = no.minimize(chain, start(10), jac=chain_grad, method="L-BFGS-B", options={"ftol": 0.5})
    assert loose.success
    assert "ftol" in loose.message
    assert loose.nit < 10
    assert no.minimize(chain, start(10), jac=chain_grad, method="BFGS", options={"maxiter": 3}).nit == 3
    flat = no.minimize(chain, start(10), jac=chain_grad, method="BFGS", options={"xrtol": 0.3})
    assert flat.success
    assert "xtol" in flat.message
    norm = no.minimize(chain, start(4), jac=chain_grad, method="BFGS", options={"norm": 2, "return_all": True})
    assert len(norm.allvecs) == norm.nit + 1  # an option that only SciPy's has
    with pytest.raises(ValueError, match=r"c2=1.5\): c2 must be in \(0, 1\)"):
        no.minimize(chain, start(4), jac=chain_grad, method="BFGS", options={"c2": 1.5})


@pytest.mark.parametrize("method", METHODS)
def test_no_false_success(method):
    """A wrong gradient never leads to a worse point; a kink is no success; infinities are stepped back from."""
    wrong = no.minimize(chain, start(4), jac=lambda x: -chain_grad(x), method=method)
    assert not wrong.success
    assert wrong.fun <= chain(start(4))
    wall = no.minimize(lambda x: -np.log(x[0]) + x[0] if x[0] > 0 else np.nan, [30.0], method=method,
                       jac=lambda x: np.array([1 - 1 / x[0]]))  # fmt: skip
    np.testing.assert_allclose(wall.x, 1.0, atol=1e-4)
    assert wall.success


def test_a_limit_on_steps_is_no_divergence_and_wolfes_conditions_must_not_clash():
    half = [(-5, None), (None, None)]
    assert no.minimize(chain, start(2), jac=chain_grad, bounds=half, options={"maxiter": 1}).status == 1
    with pytest.raises(ValueError, match=r"c1=0\.4 must be below c2=0\.1"):
        no.minimize(chain, start(4), jac=chain_grad, method="BFGS", options={"c1": 0.4, "c2": 0.1})
