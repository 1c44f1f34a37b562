"""At tight tolerances estimators find scikit-learn's solutions, under the mapping of parameters that they document."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import linear_model as peer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC as PeerSVC

from numbaopt.linear_model import (
    HuberRegressor,
    LinearRegression,
    LinearSVC,
    LogisticRegression,
    PoissonRegressor,
    SGDClassifier,
)

TIGHT = {"tol": 1e-11, "max_epochs": 10_000}
PEER_TIGHT = {"tol": 1e-13, "max_iter": 100_000}


def standardised(load):
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


DIABETES = standardised(load_diabetes)
CANCER = standardised(load_breast_cancer)
WEIGHTS = np.random.default_rng(0).integers(0, 4, len(DIABETES[1])).astype(float)


def assert_same(mine, theirs, atol=1e-6):
    np.testing.assert_allclose(mine.coef_, theirs.coef_, rtol=0, atol=atol)
    np.testing.assert_allclose(mine.intercept_, theirs.intercept_, rtol=0, atol=atol)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_least_squares_and_its_penalties(fit_intercept):
    X, y = DIABETES
    n, both = len(y), {"fit_intercept": fit_intercept}
    for weights in (None, WEIGHTS):
        total = n if weights is None else weights.sum()
        assert_same(LinearRegression(**both, **TIGHT).fit(X, y, weights),
                    peer.LinearRegression(**both).fit(X, y, weights))  # fmt: skip
        assert_same(LinearRegression(alpha=3.0 / total, **both, **TIGHT).fit(X, y, weights),
                    peer.Ridge(alpha=3.0, **both).fit(X, y, weights))  # fmt: skip
        for l1_ratio in (1.0, 0.4):
            mine = LinearRegression(alpha=2.0, l1_ratio=l1_ratio, **both, **TIGHT).fit(X, y, weights)
            theirs = peer.ElasticNet(alpha=2.0, l1_ratio=l1_ratio, **both, **PEER_TIGHT).fit(X, y, weights)
            assert_same(mine, theirs)
            np.testing.assert_array_equal(mine.coef_ == 0, theirs.coef_ == 0)


def _tables():
    rng = np.random.default_rng(0)
    table = rng.random((60, 5)) + 3
    yield "more columns than rows", rng.random((20, 50)) + 1
    yield "a sum of columns", np.c_[table, table @ np.ones(5)]
    yield "a constant column", np.c_[table, np.full(60, 0.1)]
    yield "as many rows as columns", rng.random((6, 6)) + 1


@pytest.mark.parametrize("name", [name for name, _ in _tables()])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_of_many_solutions_the_one_of_least_norm(name, fit_intercept):
    X = dict(_tables())[name]
    y, weights = np.sin(np.arange(len(X))), np.r_[0.0, np.ones(len(X) - 1)]
    for form in (np.asarray, sp.csr_array):
        for w in (None, weights):
            mine = LinearRegression(fit_intercept=fit_intercept, **TIGHT).fit(form(X), y, w)
            assert_same(mine, peer.LinearRegression(fit_intercept=fit_intercept).fit(X, y, w))


def test_poisson_regression():
    X, y = DIABETES[0], np.round(DIABETES[1] / 50)
    for fit_intercept in (True, False):
        mine = PoissonRegressor(alpha=0.1, fit_intercept=fit_intercept, **TIGHT).fit(X, y, WEIGHTS)
        theirs = peer.PoissonRegressor(alpha=0.1, fit_intercept=fit_intercept, solver="newton-cholesky", tol=1e-12)
        theirs.fit(X, y, WEIGHTS)
        assert_same(mine, theirs)
        np.testing.assert_allclose(mine.predict(X), theirs.predict(X), rtol=1e-6)
        np.testing.assert_allclose(mine.score(X, y, WEIGHTS), theirs.score(X, y, WEIGHTS), rtol=1e-9)


@pytest.mark.parametrize("epsilon", [1.1, 1.35])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_huber_regression_with_its_scale(epsilon, fit_intercept):
    X, y = DIABETES[0][:, [0, 1, 2, 3, 6, 8]], DIABETES[1] / 50
    same = {"epsilon": epsilon, "fit_intercept": fit_intercept}
    mine = HuberRegressor(alpha=0.5 / WEIGHTS.sum(), **same, **TIGHT).fit(X, y, WEIGHTS)
    theirs = peer.HuberRegressor(alpha=0.5, **same, tol=1e-12, max_iter=10_000, warm_start=True)
    # it ends where the objective hardly changes, long before the coefficients do; restarts need an intercept there
    for _ in range(20 if fit_intercept else 1):
        theirs.fit(X, y, WEIGHTS)
    atol = 1e-6 if fit_intercept else 1e-3
    assert_same(mine, theirs, atol)
    np.testing.assert_allclose(mine.scale_, theirs.scale_, atol=atol)
    np.testing.assert_array_equal(mine.outliers_, theirs.outliers_)
    assert (np.diff(mine.history_.epoch) > 0).all()
    assert mine.history_.loss[-1] <= mine.history_.loss.min() + 1e-12


def test_the_scale_of_data_on_a_plane_with_one_outlier_is_small():
    X, y = np.linspace(0, 1, 30)[:, None], np.linspace(0, 1, 30)
    y[7] += 100
    model = HuberRegressor(alpha=0, **TIGHT).fit(X, y)
    np.testing.assert_allclose(model.coef_, 1, atol=1e-4)
    assert model.scale_ < 1e-5
    assert model.outliers_[7]


@pytest.mark.parametrize("load", [load_breast_cancer, load_iris, load_wine, load_digits])
def test_logistic_regression_of_two_and_more_classes(load):
    X, y = standardised(load)
    X, y = X[y < 4], y[y < 4]  # scikit-learn's Newton steps on all of the digits take a minute
    for scale in (0.1, 0.01):
        mine = LogisticRegression(alpha=1 / (scale * len(y)), **TIGHT).fit(X, y)
        theirs = peer.LogisticRegression(C=scale, solver="newton-cholesky", tol=1e-11, max_iter=1000).fit(X, y)
        assert_same(mine, theirs)
        np.testing.assert_allclose(mine.predict_proba(X), theirs.predict_proba(X), atol=1e-6)


def test_logistic_regression_with_weights_and_without_intercept():
    X, y = CANCER
    weights, factors = np.random.default_rng(0).random(len(y)), {0: 3.0, 1: 0.5}
    total = (weights * np.where(y == 1, 0.5, 3.0)).sum()
    mine = LogisticRegression(alpha=1 / total, class_weight=factors, fit_intercept=False, **TIGHT).fit(X, y, weights)
    theirs = peer.LogisticRegression(class_weight=factors, fit_intercept=False, solver="newton-cholesky", tol=1e-12)
    assert_same(mine, theirs.fit(X, y, weights))


def test_sparse_logistic_regression():
    X, y = CANCER
    mine = LogisticRegression(alpha=10 / len(y), l1_ratio=1.0, **TIGHT).fit(X, y)
    theirs = peer.LogisticRegression(C=0.1, l1_ratio=1.0, solver="saga", tol=1e-9, max_iter=100_000).fit(X, y)
    assert_same(mine, theirs)
    np.testing.assert_array_equal(mine.coef_ == 0, theirs.coef_ == 0)
    assert 0 < (mine.coef_ == 0).sum() < mine.coef_.size


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
@pytest.mark.parametrize("scaling", [1.0, 3.0])
def test_support_vector_machine_whose_intercept_is_penalised(load, scaling):
    X, y = standardised(load)
    mine = LinearSVC(alpha=1 / (0.1 * len(y)), intercept_scaling=scaling, **TIGHT).fit(X, y)
    theirs = PeerSVC(C=0.1, intercept_scaling=scaling, dual=False, **PEER_TIGHT).fit(X, y)
    assert_same(mine, theirs)
    np.testing.assert_array_equal(mine.predict(X), theirs.predict(X))


@pytest.mark.parametrize("loss", ["logistic", "squared_hinge"])
def test_one_against_the_rest_is_as_many_models(loss):
    X, y = standardised(load_iris)
    same = {"loss": loss, "alpha": 0.01, "batch_size": 20, "max_epochs": 5, "tol": None, "random_state": 3}
    whole = SGDClassifier(**same).fit(X, y)
    for label in range(3):
        single = SGDClassifier(**same).fit(X, y == label)
        np.testing.assert_array_equal(whole.coef_[label], single.coef_[0])
        np.testing.assert_allclose(whole.decision_function(X)[:, label], single.decision_function(X), rtol=1e-12)


def test_minibatches_end_near_the_solution_of_the_whole():
    X, y = CANCER
    mine = SGDClassifier(loss="logistic", alpha=0.1, tol=None, max_epochs=200, random_state=0, average="polyak")
    exact = LogisticRegression(alpha=0.1, **TIGHT).fit(X, y)
    np.testing.assert_allclose(mine.fit(X, y).predict_proba(X), exact.predict_proba(X), atol=0.01)
