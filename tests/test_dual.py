"""Methods that go by duality, SDCA and SSNAL: implicit slopes, optima of losses with kinks, gaps, resuming, faults."""

import os
import signal

import numpy as np
import pytest
import scipy.sparse as sp
from problems import same, table
from scipy.optimize import linprog, minimize_scalar
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import QuantileRegressor
from sklearn.svm import LinearSVC, LinearSVR

import numbaopt as no
from numbaopt import checkpoint
from numbaopt.losses._loss import LOSSES, constants
from numbaopt.problems import envelope
from numbaopt.solvers import choose, dual

DUAL = [name for name, kind in LOSSES.items() if name == kind.names[0] and hasattr(kind, "implicit_slope")
        and kind.__module__.startswith("numbaopt")]  # fmt: skip
KINKED = ["hinge", "epsilon_insensitive", "quantile"]


def data_for(loss, rows=120, columns=5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, columns)) * (rng.random((rows, columns)) < 0.7)
    z = X @ np.linspace(-1, 1, columns) + 0.4 + 0.5 * rng.standard_normal(rows)
    return X, np.where(z > 0, 1.0, -1.0) if LOSSES[loss].takes == "two classes" else z, rng.random(rows) * 2


def optimum(model):
    """The minimum by another road: a linear program has none of our code."""
    X, y, weights = model.X, model.y, model.sample_weight if model.sample_weight.size else np.ones(model.n_terms)
    n, d, quantile = *X.shape, model.loss
    one = weights / n
    # residual y - z = up - down
    cost = np.r_[np.zeros(2 * (d + 1)), quantile.q * one, (1 - quantile.q) * one]
    A = np.c_[X, np.ones(n)]
    found = linprog(cost, A_eq=np.c_[A, -A, np.eye(n), -np.eye(n)], b_eq=y, method="highs")
    return found.fun


@pytest.mark.parametrize("loss", DUAL)
def test_implicit_slope_is_that_of_moreaus_envelope(loss):
    kind, c = LOSSES[loss], constants(LOSSES[loss]())
    rng = np.random.default_rng(1)
    for z, q in zip(3 * rng.standard_normal(60), 10.0 ** rng.uniform(-3, 3, 60), strict=True):
        y = float(rng.choice([-1.0, 1.0])) if kind.takes == "two classes" else float(rng.standard_normal())
        t = kind.implicit_slope(c, z, y, q)
        told = minimize_scalar(lambda u: kind.value(c, u, y) + (u - z) ** 2 / (2 * q),  # noqa: B023
                               bracket=(z - 2 * q, z + 2 * q), tol=1e-12)  # fmt: skip
        there = z - q * t
        assert kind.value(c, there, y) + (there - z) ** 2 / (2 * q) <= told.fun + 1e-9 * max(1, abs(told.fun))
        if hasattr(kind, "curvature"):
            np.testing.assert_allclose(t, kind.slope(c, there, y), rtol=1e-7, atol=1e-12)
    for z, y, q in ((800.0, -1.0, 1e-8), (-800.0, 1.0, 1e6), (0.0, 1.0, 1e12)):  # nothing overflows
        assert np.isfinite(kind.implicit_slope(c, z, y, q))


@pytest.mark.parametrize("method", ["sdca", "ssnal"])
@pytest.mark.parametrize("loss", DUAL)
def test_reaches_the_optimum(method, loss):
    X, y, weights = data_for(loss)
    for intercept, stored in ((True, X), (False, sp.csr_array(X))):
        model = no.LinearModel(stored, y, loss, l2=0.05, fit_intercept=intercept, sample_weight=weights)
        res = no.minimize(model, method=method, tol=1e-9, options={"maxiter": 20_000})
        assert res.success, res.message
        told = no.minimize(model, method="ssnal" if method == "sdca" else "sdca", tol=1e-9,
                           options={"maxiter": 20_000})  # fmt: skip
        assert told.success, told.message
        assert res.fun == pytest.approx(told.fun, rel=4e-9)
        np.testing.assert_allclose(res.x, told.x, atol=2e-4)
        rng = np.random.default_rng(2)
        for step in rng.standard_normal((200, model.n)) * 10.0 ** rng.uniform(-6, 0, (200, 1)):
            assert model.value(res.x + step) >= res.fun * (1 - 1e-8)
        if hasattr(model.loss, "curvature"):
            assert res.fun == pytest.approx(no.minimize(model, method="newton", tol=1e-11).fun, rel=4e-9)


@pytest.mark.parametrize("q", [0.5, 0.9])
def test_quantiles_of_unscaled_data_without_penalty(q):
    X, y = load_diabetes(return_X_y=True)
    X, y = X * 10.0 ** np.linspace(-1, 3, 10), 1e4 * y
    model = no.LinearModel(X, y, no.losses.Quantile(q))
    res = no.minimize(model, method="auto", tol=1e-8)
    assert choose(model, False)[0] == no.SSNAL()
    assert res.fun == pytest.approx(optimum(model), rel=5e-6)


def test_agrees_with_scikit_learn():
    X, y = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(0)) / X.std(0)
    model = no.LinearModel(X, y, "hinge", l2=1 / (0.01 * len(y)), fit_intercept=False)
    told = LinearSVC(C=0.01, loss="hinge", fit_intercept=False, tol=1e-10, max_iter=1_000_000).fit(X, y)
    for method in ("sdca", "ssnal"):
        np.testing.assert_allclose(no.minimize(model, method=method, tol=1e-12).x, told.coef_[0], atol=1e-6)
    X, y = load_diabetes(return_X_y=True)
    y = y / y.std()
    told = LinearSVR(C=1.0, epsilon=0.3, fit_intercept=False, tol=1e-10, max_iter=1_000_000).fit(X, y)
    model = no.LinearModel(X, y, no.losses.EpsilonInsensitive(0.3), l2=1 / len(y), fit_intercept=False)
    np.testing.assert_allclose(no.minimize(model, method="sdca", tol=1e-12).x, told.coef_, atol=1e-6)
    told = QuantileRegressor(quantile=0.8, alpha=0.01).fit(X, y)
    model = no.LinearModel(X, y, no.losses.Quantile(0.8), l1=0.01)
    res = no.minimize(model, method="auto", tol=1e-8)
    np.testing.assert_allclose(res.x, np.r_[told.coef_, told.intercept_], atol=1e-6)
    np.testing.assert_array_equal(res.x[:-1] == 0, told.coef_ == 0)


@pytest.mark.parametrize("method", ["sdca", "ssnal"])
@pytest.mark.parametrize("loss", KINKED)
def test_more_columns_than_rows_and_no_penalty(method, loss):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 60))
    y = np.where(X[:, 0] > 0, 1.0, -1.0)
    model = no.LinearModel(X, y, loss)
    res = no.minimize(model, method=method, options={"maxiter": 5000})
    assert res.fun < 1e-6 * model.value(np.zeros(model.n))
    assert res.success, res.message


def test_float32():
    X, y, _ = data_for("hinge")
    res = no.minimize(no.LinearModel(X.astype(np.float32), y, "hinge", l2=0.05), method="sdca", tol=1e-4)
    exact = no.minimize(no.LinearModel(X, y, "hinge", l2=0.05), method="ssnal", tol=1e-9)
    again = no.minimize(no.LinearModel(X.astype(np.float32), y, "hinge", l2=0.05), method="ssnal", tol=1e-4)
    for one in (res, again):
        assert one.success
        assert one.x.dtype == np.float32
        assert one.fun == pytest.approx(exact.fun, rel=3e-4)


@pytest.mark.parametrize("method", ["sdca", "ssnal"])
def test_resumed_bit_for_bit(method, tmp_path):
    X, y, _ = data_for("hinge")
    model, path = no.LinearModel(sp.csr_array(X), y, "hinge", l2=1e-3), tmp_path / "run.npz"
    once = no.minimize(model, method=method, tol=1e-7)
    assert once.success
    for steps in (1, 2, 4):
        no.minimize(model, method=method, tol=1e-7, options={"maxiter": steps, "checkpoint": path})
        res = no.resume(path, model, options={"maxiter": 10_000})
        np.testing.assert_array_equal(res.run.x, once.run.x)
        np.testing.assert_array_equal(res.run.extra, once.run.extra)
    run, settings = checkpoint.load(path)
    run.extra[-1] = -1.0 if method == "sdca" else np.nan
    checkpoint.save(path, run, settings)
    with pytest.raises(ValueError, match="numbers are not"):
        no.resume(path, model)


def test_cut_within_an_epoch(monkeypatch, tmp_path):
    """Ctrl-C is heeded within an epoch; the run goes on from there."""
    X, y, _ = data_for("hinge")
    model, path = no.LinearModel(X, y, "hinge", l2=0.01), tmp_path / "run.npz"
    once = no.minimize(model, method="sdca", tol=0, options={"maxiter": 30})
    monkeypatch.setattr("numbaopt.solvers.dual.NUMBERS", 5 * 50)
    left = [6]  # one before the first epoch

    def heed(self):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr("numbaopt.solvers.dual.DualSteps.heed", heed)
    with pytest.raises(KeyboardInterrupt):
        no.minimize(model, method="sdca", tol=0, options={"maxiter": 30, "checkpoint": path})
    assert checkpoint.load(path)[0].extra[1] > 0  # within an epoch
    same(no.resume(path, model), once)


def test_seeds_and_rests():
    X, y, _ = data_for("hinge", rows=400)
    model = no.LinearModel(X, y, "hinge", l2=0.01)
    first, second = (no.minimize(model, method="sdca", options={"seed": seed, "maxiter": 3}) for seed in (0, 1))
    assert (first.run.x != second.run.x).any()
    res = no.minimize(model, method="sdca", tol=1e-9)
    assert res.nfev < 0.6 * res.nit  # epochs are judged by the number of terms they visit


def test_epochs_go_on_with_the_terms_that_move():
    X, y, _ = data_for("hinge", rows=1000, columns=20)
    model = no.LinearModel(X, y, "hinge", l2=1 / 1000, fit_intercept=False)
    res = no.minimize(model, method="sdca", tol=1e-6, options={"maxiter": 5000})
    exact = no.minimize(model, method="ssnal", tol=1e-9)
    assert res.success
    assert 0 <= res.fun - exact.fun <= 1e-6 * exact.fun
    assert res.nit < 1000  # some 2000 where every epoch is one visit of the terms that do not rest
    assert res.nfev < 80


@pytest.mark.parametrize("penalties", [{"l2": 0.01, "fit_intercept": False}, {"l2": 0.01}, {}])
def test_a_tolerance_out_of_reach_ends_the_run(penalties):
    X, y, _ = data_for("hinge", rows=200)
    res = no.minimize(no.LinearModel(X, y, "hinge", **penalties), method="sdca", tol=1e-30,
                      options={"maxiter": 50_000})  # fmt: skip
    assert res.status == 3 if not penalties else res.status in (0, 3)  # a gap of exactly zero is one
    assert res.nit < 20_000
    exact = no.minimize(no.LinearModel(X, y, "hinge", **penalties), method="ssnal", tol=1e-9)
    assert res.fun == pytest.approx(exact.fun, rel=1e-8)


def test_rows_of_float32_data_are_told_apart_beyond_16_million():
    count = 2**24 + 4
    numbers = envelope.row_numbers(count, np.dtype(np.float32))
    assert numbers.dtype == np.float32
    np.testing.assert_array_equal(numbers[-4:].copy().view(np.uint32), np.arange(count - 4, count))


def test_what_cannot_be_solved_is_refused():
    X, y, _ = data_for("hinge")
    counts = no.LinearModel(X, np.round(abs(X[:, 0])), "poisson")
    for method in ("sdca", "ssnal"):
        with pytest.raises(ValueError, match=r"implicit_slope\(c, z, y, q\)"):
            no.minimize(counts, method=method)
        with pytest.raises(ValueError, match="takes no bounds"):
            no.minimize(no.LinearModel(X, y, "hinge"), method=method, bounds=[(0, 1)] * 6)
    with pytest.raises(ValueError, match=r"'sdca' takes no l1 \(l1=0.1\)"):
        no.minimize(no.LinearModel(X, y, "hinge", l1=0.1), method="sdca")
    huge = no.LinearModel(X * 1e200, y, "hinge", l2=0.01)
    for method in ("sdca", "ssnal"):
        res = no.minimize(huge, method=method, options={"maxiter": 20})
        assert np.isfinite(res.x).all()


@pytest.mark.skipif(os.name != "posix", reason="signals to oneself")
def test_ctrl_c_at_the_start(monkeypatch, tmp_path):
    """First slopes take long to find: Ctrl-C ends that, and the run begins anew."""
    X, _, y = table(rows=200)
    model, path, seen = no.LinearModel(X, y, "logistic", l2=1e-2), tmp_path / "run.npz", []
    monkeypatch.setattr(dual, "START_ROWS", 16)
    settings = {"method": "sdca", "tol": 1e-8}
    once, heed = no.minimize(model, **settings), dual.DualSteps.heed

    def struck(self):
        seen.append(1)
        if len(seen) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        heed(self)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(dual.DualSteps, "heed", struck)
            with pytest.raises(KeyboardInterrupt):
                no.minimize(model, **settings, options={"checkpoint": path})
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(seen) == 5
    resumed = no.resume(path, model)
    np.testing.assert_array_equal(resumed.x, once.x)
    assert (resumed.nit, resumed.fun, resumed.status) == (once.nit, once.fun, once.status)
