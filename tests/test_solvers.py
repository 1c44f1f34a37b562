"""Methods that are no rules: Newton's, L-BFGS, what "auto" chooses; to the optimum, to the bit, and as promised."""

import signal
import threading
import time

import numba
import numpy as np
import pytest
import scipy.sparse as sp
from problems import bowl, bowl_grad, rosen, rosen_grad, same, table
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import ElasticNet, LogisticRegression, PoissonRegressor
from sklearn.preprocessing import scale

import numbaopt as no
from numbaopt.problems.curvature import Curvature
from numbaopt.solvers import choose, newton, preconditioner, quadratic
from numbaopt.solvers.quadratic import lasso_step, solve_system

BENT = ["squared", "huber", "logistic", "squared_hinge", "poisson", "gamma"]


def data_for(loss, rows=3000, columns=6, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, columns))
    X[abs(X) < 0.3] = 0
    z = X @ np.linspace(-1, 1, columns) * 0.7 + 0.3
    makes = {"numbers": lambda: z + rng.standard_normal(rows), "nonnegative": lambda: rng.poisson(np.exp(z)),
             "positive": lambda: rng.gamma(2.0, np.exp(z)),
             "two classes": lambda: z + rng.standard_normal(rows) > 0}  # fmt: skip
    return X, makes[no.losses.LOSSES[loss].takes](), rng.random(rows)


def slope(model, x):
    """Largest component of a proximal gradient step: how far x is from optimal."""
    g = model.value_and_grad(x)[1]
    to = x - g
    n = model.n_penalised
    to[:n] = np.sign(to[:n]) * np.maximum(abs(to[:n]) - model.l1, 0)
    return abs(to - x).max()


@pytest.mark.parametrize("loss", BENT)
@pytest.mark.parametrize("l1", [0.0, 0.03])
@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
def test_newton_reaches_the_optimum(loss, l1, storage):
    X, y, weights = data_for(loss)
    for intercept in (True, False):
        model = no.LinearModel(storage(X), y, loss=loss, l1=l1, l2=0.01, fit_intercept=intercept, sample_weight=weights)
        res = no.minimize(model, method="newton", tol=1e-10)
        assert res.success, res.message
        assert slope(model, res.x) < 1e-10
        assert res.nit < 30
        direct = no.minimize(model, method=no.Newton(sampling=False), tol=1e-10)
        np.testing.assert_allclose(direct.x, res.x, atol=1e-8)
        if l1 == 0:
            products = no.minimize(model, method=no.Newton(max_dense=1), tol=1e-10)
            np.testing.assert_allclose(products.x, res.x, atol=1e-8)


def test_newton_agrees_with_scikit_learn():
    X, y = load_breast_cancer(return_X_y=True)
    X = scale(X)
    told = LogisticRegression(C=1 / (0.01 * len(y)), tol=1e-12, max_iter=10_000, solver="newton-cholesky").fit(X, y)
    res = no.minimize(no.LinearModel(X, y, loss="logistic", l2=0.01), method="newton", tol=1e-12)
    np.testing.assert_allclose(res.x, np.r_[told.coef_[0], told.intercept_], atol=1e-8)
    X, y = load_diabetes(return_X_y=True)
    told = ElasticNet(alpha=0.5, l1_ratio=0.9, tol=1e-14, max_iter=100_000).fit(X, y)
    res = no.minimize(no.LinearModel(X, y, l1=0.45, l2=0.05), method="newton", tol=1e-10)
    np.testing.assert_allclose(res.x, np.r_[told.coef_, told.intercept_], atol=1e-6)
    np.testing.assert_array_equal(res.x[:-1] == 0, told.coef_ == 0)
    counts = np.random.default_rng(0).poisson(np.exp(scale(X)[:, 0]))
    told = PoissonRegressor(alpha=0.1, tol=1e-10, max_iter=10_000, solver="newton-cholesky").fit(X, counts)
    res = no.minimize(no.LinearModel(X, counts, loss="poisson", l2=0.1), method="newton", tol=1e-11)
    np.testing.assert_allclose(res.x, np.r_[told.coef_, told.intercept_], atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
def test_second_derivatives(dtype, storage):
    X, y, weights = data_for("logistic", rows=500)
    model = no.LinearModel(storage(X.astype(dtype)), y, loss="logistic", l2=0.1, sample_weight=weights)
    curvature, rng = Curvature(model), np.random.default_rng(1)
    order, columns, x = rng.permutation(500)[:333], np.array([0, 2, 5, 6]), rng.standard_normal(7)
    found = curvature.slopes(x, order, model.l2)
    part = no.LinearModel(X[order], y[order], loss="logistic", l2=0.1, sample_weight=weights[order])
    fun, g = part.value_and_grad(x)
    full = np.c_[X[order], np.ones(333)]
    p = 1 / (1 + np.exp(-full @ x))
    matrix = full.T * (p * (1 - p) * weights[order]) @ full / 333 + 0.1 * np.diag(np.r_[np.ones(6), 0])
    tol = 1e-12 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose(found.fun, fun, rtol=tol)
    np.testing.assert_allclose(found.g, g, atol=tol)
    np.testing.assert_allclose(curvature.matrix(columns), matrix[np.ix_(columns, columns)], atol=tol)
    np.testing.assert_allclose(curvature.product(x), matrix @ x, atol=tol)
    again, penalised = curvature.matrix(columns), curvature.slopes(x, order, model.l2 + 1)
    np.testing.assert_allclose(again, curvature.matrix(columns) - np.diag([1, 1, 1, 0]), atol=1e-14)
    assert penalised.fun > found.fun
    curvature.slopes(x / 2, order, model.l2)
    assert (abs(curvature.matrix(columns) - again).diagonal() > 1e-4).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("weighted", [False, True])
def test_second_derivatives_of_squares_grow_with_their_columns(dtype, storage, weighted, monkeypatch):
    X, y, weights = data_for("logistic", rows=500)
    model = no.LinearModel(storage((X * (X > 0)).astype(dtype)), y, l2=0.1, sample_weight=weights if weighted else None)
    made, summed = [], Curvature._sum
    monkeypatch.setattr(Curvature, "_sum", lambda self, columns, own: made.append(own) or summed(self, columns, own))
    grown, order, full = Curvature(model), np.arange(500), np.c_[X * (X > 0), np.ones(500)].astype(dtype)
    matrix = full.T * (weights if weighted else 1.0) @ full / 500 + 0.1 * np.diag(np.r_[np.ones(6), 0])
    for columns, fresh in (([1, 4, 6], 3), ([0, 1, 4, 6], 1), ([1, 4], 0), ([2, 3, 4], 2), (range(7), 1)):
        anew, columns = Curvature(model), np.array(columns)
        for one in (grown, anew):
            one.slopes(np.zeros(7), order, model.l2)
        made.clear()
        found = grown.matrix(columns)
        assert sum(made) == (columns.size if weighted else fresh)
        np.testing.assert_array_equal(found, anew.matrix(columns))
        np.testing.assert_allclose(found, matrix[np.ix_(columns, columns)], rtol=1e-6 if dtype == np.float32 else 1e-12)


def digits(storage=np.asarray, dtype=np.float64, **options):
    X, y = load_digits(return_X_y=True)
    return no.LinearModel(storage((X / 16).astype(dtype)), y, loss="multinomial", **options)


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("options", [{}, {"fit_intercept": False}, {"intercept_l2": 0.1}])
@pytest.mark.parametrize("blocks", [True, False])
def test_newton_for_several_classes(storage, options, blocks, monkeypatch):
    if not blocks:
        monkeypatch.setattr(preconditioner, "NUMBERS", 1000)
    model = digits(storage, l2=1e-3, sample_weight=np.arange(1797) % 3, **options)
    start = np.random.default_rng(0).standard_normal(model.n) * 0.1  # of which classes have something in common
    res = no.minimize(model, start, method="newton", tol=1e-10)
    assert res.success, res.message
    assert slope(model, res.x) < 1e-10
    assert res.nit < 25
    told = no.minimize(model, method="lbfgs", tol=1e-10)
    np.testing.assert_allclose(model.split(res.x)[0], model.split(told.x)[0], atol=1e-6)


def test_blocks_invert_what_classes_have_in_common_exactly_and_two_classes_nearly():
    rng = np.random.default_rng(0)
    X, weights = rng.standard_normal((900, 4)), rng.random(900)
    model = no.LinearModel(X, rng.random(900) > 0.4, "multinomial", l2=0.1, intercept_l2=0.2, sample_weight=weights,
                           classes=[False, True])  # fmt: skip
    x = rng.standard_normal(model.n)
    curvature = Curvature(model)
    curvature.slopes(x, np.arange(900), model.l2)
    matrix = np.array([curvature.product(unit) for unit in np.eye(model.n)])
    g = [model.value_and_grad(x + step)[1] for step in 1e-6 * np.vstack((np.eye(model.n), -np.eye(model.n)))]
    np.testing.assert_allclose(matrix, (np.array(g[: model.n]) - g[model.n :]) / 2e-6, atol=1e-8)
    made = preconditioner.ClassBlocks(model, rng.permutation(900))
    made.make(x)
    inverse = np.array([made.solve(unit) for unit in np.eye(model.n)])
    np.testing.assert_allclose(inverse, inverse.T, atol=1e-5)
    alike = np.repeat([[1.0, 1.0]], 4, 0).T.ravel()
    np.testing.assert_allclose(made.solve(np.r_[alike, 1, 1]), np.r_[alike / 0.1, 5, 5], rtol=1e-10)
    values = np.linalg.eigvals(inverse @ matrix).real
    assert values.min() > 0.9
    assert values.max() < 2.1  # the whole curvature between two classes is twice that of a block


def test_singular_systems_get_the_solution_of_least_norm():
    rng = np.random.default_rng(0)
    B = rng.standard_normal((5, 3))
    matrix, b = B @ B.T, B @ rng.standard_normal(3)
    np.testing.assert_allclose(solve_system(matrix, b), np.linalg.pinv(matrix) @ b, atol=1e-10)
    X = np.c_[B, B]  # every column twice
    model = no.LinearModel(X, np.arange(5.0))
    res = no.minimize(model, method="newton", tol=1e-10)
    assert res.success
    np.testing.assert_allclose(res.x[:3], res.x[3:6], atol=1e-10)


def test_lasso_step_is_optimal():
    rng = np.random.default_rng(0)
    B = rng.standard_normal((40, 12))
    matrix, g, weights = B.T @ B / 40, rng.standard_normal(12), np.full(12, 0.3)
    x = rng.standard_normal(12) * (rng.random(12) > 0.5)
    weights[-1] = 0.0
    d = lasso_step(matrix, g, x, weights)
    y, bent = x + d, g + matrix @ d
    assert (abs(bent + weights * np.sign(y))[y != 0] < 1e-10).all()
    assert (abs(bent)[y == 0] <= weights[y == 0] + 1e-10).all()


def test_a_lasso_step_on_columns_that_are_much_alike_takes_few_systems(monkeypatch):
    solved, solve = [], quadratic.solve_system
    monkeypatch.setattr(quadratic, "solve_system", lambda *args: solved.append(0) or solve(*args))
    rng = np.random.default_rng(0)
    B = rng.standard_normal((300, 200)) + 2 * rng.standard_normal((300, 1))
    matrix, g, weights = B.T @ B / 300, B.T @ rng.standard_normal(300) / 300, np.full(200, 0.03)
    y = lasso_step(matrix, g, np.zeros(200), weights)
    bent = g + matrix @ y
    assert 20 < np.count_nonzero(y) < 200
    assert len(solved) <= 10
    assert (abs(bent + weights * np.sign(y))[y != 0] < 1e-10).all()
    assert (abs(bent)[y == 0] <= weights[y == 0] + 1e-10).all()


def test_lasso_of_more_columns_than_rows(tmp_path):
    from sklearn.linear_model import Lasso

    rng, path = np.random.default_rng(0), tmp_path / "run.npz"
    X = sp.random_array((300, 1000), density=0.1, format="csr", rng=rng)
    y = X[:, :100] @ rng.standard_normal(100) + 0.1 * rng.standard_normal(300)
    model = no.LinearModel(X, y, l1=1e-3, fit_intercept=False)
    once = no.minimize(model, method="newton", tol=1e-12)
    told = Lasso(1e-3, fit_intercept=False, tol=1e-13, max_iter=100_000).fit(X, y)
    assert once.success
    assert once.nit <= 8  # every step is on what the gradient before it asks for
    np.testing.assert_allclose(once.x, told.coef_, atol=1e-6)
    for steps in (1, 3):
        no.minimize(model, method="newton", tol=1e-12, options={"checkpoint": path}, callback=Stop(steps))
        same(no.resume(path, model), once)


@pytest.mark.parametrize("method", ["newton", "lbfgs"])
@pytest.mark.parametrize("loss", ["logistic", "multinomial"])
def test_the_number_of_threads_changes_no_bit(method, loss):
    X, y, _ = data_for("logistic", rows=40_000, columns=20)
    model = no.LinearModel(X, y + (X[:, 0] > 0) if loss == "multinomial" else y, loss=loss, l2=1e-3)
    results, before = [], numba.get_num_threads()
    try:
        for threads in (1, before):
            numba.set_num_threads(threads)
            results.append(no.minimize(model, method=method, tol=1e-8))
    finally:
        numba.set_num_threads(before)
    same(*results)


@pytest.mark.parametrize("method", ["newton", "lbfgs"])
@pytest.mark.parametrize("l1", [0.0, 0.01])
def test_resumed_bit_for_bit(method, l1, tmp_path):
    if method == "lbfgs" and l1 > 0:
        pytest.skip("takes no l1")
    X, y, _ = data_for("logistic", rows=20_000)
    model = no.LinearModel(X, y, loss="logistic", l1=l1, l2=1e-4)
    once, path = no.minimize(model, method=method, tol=1e-9), tmp_path / "run.npz"
    for steps in (1, 2, 4):
        no.minimize(model, method=method, tol=1e-9, options={"maxiter": steps + 3, "checkpoint": path},
                    callback=Stop(steps))  # fmt: skip
        same(no.resume(path, model, options={"maxiter": 10_000}), once)


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
def test_a_matrix_lasts_for_several_steps(storage, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(Curvature, "matrix", lambda self, columns, was=Curvature.matrix: made.append(0) or
                        was(self, columns))  # fmt: skip
    X, y, weights = data_for("logistic", rows=20_000)
    X = np.c_[X, X[:, :2], np.arange(20_000) % 4000 == 0]  # singular but for the penalty; what no small sample shows
    model, path = no.LinearModel(storage(X), y, "logistic", l2=1e-6, sample_weight=weights), tmp_path / "run.npz"
    told = no.minimize(model, method="newton", tol=1e-9)
    monkeypatch.setattr(newton, "LARGE", 0)
    made.clear()
    once = no.minimize(model, method="newton", tol=1e-9)
    assert once.success, once.message
    assert 0 < len(made) <= once.nit / 2
    assert slope(model, once.x) < 1e-9
    np.testing.assert_allclose(once.fun, told.fun, rtol=1e-12)
    for steps in (1, 4, 6):
        no.minimize(model, method="newton", tol=1e-9, options={"checkpoint": path}, callback=Stop(steps))
        same(no.resume(path, model), once)


def test_newton_for_several_classes_resumed_bit_for_bit(tmp_path):
    model, path = digits(l2=1e-4), tmp_path / "run.npz"
    once = no.minimize(model, method="newton", tol=1e-9)
    for steps in (1, 5, 8):
        no.minimize(model, method="newton", tol=1e-9, options={"checkpoint": path}, callback=Stop(steps))
        same(no.resume(path, model), once)


class Stop:
    """A callback that ends the run after some steps."""

    def __init__(self, steps):
        self.left = steps

    def __call__(self, x):
        self.left -= 1
        if self.left <= 0:
            raise StopIteration


@pytest.mark.parametrize("loss", ["logistic", "multinomial", "huber"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_lbfgs_trains_models(loss, dtype):
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(dtype)
    y = y if loss == "multinomial" else (y > 4 if loss == "logistic" else y.astype(float))
    model = no.LinearModel(X, y, loss=loss, l2=1e-2)
    tol = 1e-11 if dtype == np.float64 else 1e-4
    res = no.minimize(model, method="lbfgs", tol=tol)
    assert res.success, res.message
    told = no.minimize(no.LinearModel(X.astype(float), y, loss=loss, l2=1e-2), method="L-BFGS-B",
                       options={"gtol": 1e-9, "ftol": 0, "maxiter": 5000})  # fmt: skip
    np.testing.assert_allclose(res.fun, told.fun, rtol=1e-9 if dtype == np.float64 else 1e-5)
    if loss == "multinomial" and dtype == np.float64:
        told = LogisticRegression(C=1 / (1e-2 * len(y)), tol=1e-12, max_iter=10_000, solver="newton-cg").fit(X, y)
        coef, intercept = model.split(res.x)
        np.testing.assert_allclose(coef, told.coef_, atol=1e-6)
        np.testing.assert_allclose(intercept - intercept.mean(), told.intercept_ - told.intercept_.mean(), atol=1e-6)


def test_lbfgs_on_functions():
    res = no.minimize(rosen, [-1.2, 1.0], jac=rosen_grad, method="lbfgs", tol=1e-9)
    assert res.success
    assert res.nfev < 80
    np.testing.assert_allclose(res.x, 1.0, atol=1e-8)
    assert (np.diff(res.history.fun) <= 0).all()
    one = no.minimize(bowl, np.zeros(5), jac=bowl_grad, method="L-BFGS", tol=1e-10)
    np.testing.assert_allclose(one.x, 3.0, atol=1e-9)
    kink = no.minimize(numba.njit(lambda x: abs(x[0]) + abs(x[1] - 1)), [0.3, 0.7], method="lbfgs")
    assert kink.status in (0, 3)
    np.testing.assert_allclose(kink.fun, 0, atol=1e-4)
    low = no.minimize(numba.njit(lambda x: -np.exp(x[0])), [0.0], method="lbfgs", options={"maxiter": 200})
    assert low.status in (2, 3)
    assert np.isfinite(low.x).all()


def test_memory_of_lbfgs_is_an_option():
    few = no.minimize(rosen, [-1.2, 1.0], jac=rosen_grad, method="lbfgs", options={"memory": 1})
    assert few.run.state.shape == (2 + 5, 2)
    with pytest.raises(ValueError, match=r"LBFGS\(memory=0\): memory must be in"):
        no.LBFGS(memory=0)


def test_what_a_method_cannot_do_is_told():
    X, y, labels = table()
    smooth, sparse = no.LinearModel(X, y), no.LinearModel(X, y, l1=0.1)
    kinked = no.LinearModel(X, y, loss="quantile")
    for model, method, bounds, match in (
        (kinked, "newton", None, r"whose loss has a curvature\(c, z, y\)"),
        (smooth, "newton", [(0, 1)] * 8, "newton' takes no bounds"),
        (no.LinearModel(X, labels, "multinomial", l1=0.1), "newton", None, "without l1 if it has several classes"),
        (sparse, "lbfgs", None, r"takes no l1 \(l1=0.1\); use 'newton'"),
        (smooth, "bfgs", [(0, 1)] * 8, "bfgs' takes no bounds; use 'lbfgs'"),
        (smooth, "cg", [(0, 1)] * 8, "cg' takes no bounds; use 'lbfgs'"),
    ):
        with pytest.raises(ValueError, match=match):
            no.minimize(model, method=method, bounds=bounds)
    with pytest.raises(ValueError, match="needs a LinearModel"):
        no.minimize(rosen, [0.0, 0.0], method="newton")


def test_auto_chooses_by_problem():
    X, y, labels = table()
    told = [
        (no.LinearModel(X, y), False, no.Newton), (no.LinearModel(X, y, l1=0.1), False, no.Newton),
        (no.LinearModel(X, labels, loss="multinomial"), False, no.LBFGS),
        (no.LinearModel(X, labels, loss="multinomial", l1=0.1), False, no.Nesterov),
        (no.LinearModel(X, labels, loss="hinge"), False, no.SSNAL), (no.LinearModel(X, y), True, no.LBFGS),
        (no.LinearModel(X, y, l1=0.1), True, no.Nesterov),
        (no.LinearModel(X, labels, loss="hinge", l2=10.0, intercept_l2=10.0), False, no.SDCA),
        (no.LinearModel(X, labels, loss="hinge", l2=10.0), False, no.SSNAL),  # the intercept is free
        (no.LinearModel(sp.csr_array(X), y, loss="quantile", l2=1.0, fit_intercept=False), False, no.SDCA),
        (no.LinearModel(X, y, loss="quantile", l2=1e-8, fit_intercept=False), False, no.SSNAL),
    ]  # fmt: skip
    wide = no.LinearModel(np.ones((1200, 300)), np.arange(1200) % 3, loss="multinomial")
    assert isinstance(choose(wide, False)[0], no.Newton)
    for model, bounded, method in told:
        found, _ = choose(model, bounded)
        assert found == method or isinstance(found, method)
        bounds = [(-0.1, 0.1)] * model.n if bounded else None
        res = no.minimize(model, method="auto", bounds=bounds, options={"maxiter": 3000})
        rough = no.minimize(model, method="adam", bounds=bounds, options={"lr": 0.01, "maxiter": 3000})
        assert res.fun < rough.fun + 1e-6
    res = no.minimize(rosen, [-1.2, 1.0], jac=rosen_grad, method="auto")
    np.testing.assert_allclose(res.x, 1.0, atol=1e-4)


@pytest.mark.parametrize("method", ["newton", "lbfgs"])
def test_divergence_and_ctrl_c(method):
    huge = no.LinearModel(np.full((4, 1), 1e200), [1.0, 2.0, 3.0, 4.0])
    res = no.minimize(huge, method=method)
    assert res.status == 2
    assert np.isfinite(res.x).all()
    X, y, _ = data_for("logistic", rows=200_000, columns=40)
    model = no.LinearModel(X, y, loss="logistic")
    no.minimize(model, method=method, options={"maxiter": 1})
    timer = threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    begin = time.perf_counter()

    def fits():
        while time.perf_counter() - begin < 20:
            no.minimize(model, method=method, tol=0, options={"maxiter": 10_000})

    with pytest.raises(KeyboardInterrupt):
        fits()
    timer.join()
