"""Newton's method within a trust region."""

import numba
import numpy as np
import pytest
from problems import rosen, rosen_grad, same

import numbaopt as no


@numba.njit
def saddle(x, center):
    total = 0.0
    for i in range(x.size):
        total += (x[i] ** 2 - 1.0) ** 2 + 0.1 * (x[i] - center) ** 2 * (i + 1)
    return total


@pytest.mark.parametrize("n", [1, 3, 40])
def test_newton_reaches_the_minimum_from_where_the_model_bends_down(n):
    res = no.minimize(saddle, np.full(n, 0.01), args=(0.3,), method="trust-ncg", tol=1e-7)
    assert res.success, res.message
    assert abs(no.grad(saddle)(res.x, 0.3)).max() <= 1e-7
    assert res.nit < 60


def test_newton_takes_few_steps():
    res = no.minimize(rosen, [-1.2, 1.0], jac=rosen_grad, method="trust-ncg", tol=1e-8)
    assert res.success
    assert res.nit < 40
    np.testing.assert_allclose(res.x, 1.0, atol=1e-7)
    same(res, no.minimize(rosen, [-1.2, 1.0], jac=rosen_grad, method="TRUST-NCG", tol=1e-8, callback=lambda x: None))
    small = no.minimize(rosen, [-1.2, 1.0], jac=rosen_grad, method="trust-ncg",
                        options={"initial_trust_radius": 0.01, "max_trust_radius": 0.02, "maxiter": 3})  # fmt: skip
    assert np.linalg.norm(small.x - [-1.2, 1.0]) <= 0.06


def test_a_model_is_a_function_too():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 5))
    model = no.LinearModel(X, X[:, 0] + rng.standard_normal(300) > 0, loss="logistic", l2=1e-3)
    res = no.minimize(model, method="trust-ncg", tol=1e-8)
    np.testing.assert_allclose(res.x, no.minimize(model, method="newton", tol=1e-10).x, atol=1e-7)


def test_a_hessian_is_for_scipys():
    def hessian(x):
        return np.array([[1200 * x[0] ** 2 - 400 * x[1] + 2, -400 * x[0]], [-400 * x[0], 200.0]])

    res = no.minimize(rosen, [-1.2, 1.0], jac=rosen_grad, hess=hessian, method="trust-ncg", tol=1e-8)
    assert res.nhev > 0
    np.testing.assert_allclose(res.x, 1.0, atol=1e-6)


def test_limits_and_misuse_are_told():
    few = no.minimize(rosen, [-1.2, 1.0], jac=rosen_grad, method="trust-ncg", options={"maxfun": 10})
    assert few.status == 1
    assert "evaluations" in few.message
    nowhere = no.minimize(lambda x: np.nan * x[0], [1.0], method="trust-ncg", jac=lambda x: np.array([np.nan]))
    assert nowhere.status == 2
    with pytest.raises(ValueError, match=r"initial_trust_radius=2\.0 must be below"):
        no.minimize(rosen, [0, 0], method=no.TrustNCG(initial_trust_radius=2, max_trust_radius=1), jac=rosen_grad)
    with pytest.raises(ValueError, match="'trust-ncg' takes no bounds"):
        no.minimize(rosen, [0, 0], method="trust-ncg", jac=rosen_grad, bounds=[(0, 1)] * 2)
