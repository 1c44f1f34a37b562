"""Estimators as scikit-learn wants them: its own checks, what they are composed with, what they are given."""

import contextlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import numbaopt as no
from numbaopt import linear_model
from numbaopt.linear_model import (
    HuberRegressor,
    LinearRegression,
    LinearSVC,
    LogisticRegression,
    PoissonRegressor,
    SGDClassifier,
    SGDRegressor,
)

IRIS = load_iris()
NAMES = IRIS.target_names[IRIS.target]
# Checks whose data are not made to be learned from at the default rate.
NOT_LEARNED = {("SGDClassifier", "check_fit_idempotent"), ("SGDClassifier", "check_n_features_in"),
               ("SGDRegressor", "check_regressor_data_not_an_array")}  # fmt: skip


@parametrize_with_checks([getattr(linear_model, name)() for name in linear_model.__all__])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@parametrize_with_checks([SGDClassifier(loss="multinomial"), SGDRegressor(loss="poisson", average="ema")])
def test_scikit_learns_checks_of_variants(estimator, check):
    told = (type(estimator).__name__, check.func.__name__) in NOT_LEARNED
    with pytest.warns(ConvergenceWarning, match="standardise the data") if told else contextlib.nullcontext():
        check(estimator)


def test_all_estimators_have_the_same_parameters_and_documented_ones():
    shared = set(LinearRegression().get_params())
    for name in linear_model.__all__:
        cls = getattr(linear_model, name)
        assert shared <= set(cls().get_params())
        assert "<" not in cls.__doc__.split("Examples")[0].replace("<= ", "")
        for parameter in cls().get_params():
            assert f"\n{parameter} : " in cls.__doc__


def test_pipeline_cross_validation_and_grid_search():
    model = make_pipeline(StandardScaler(), LogisticRegression())
    scores = cross_val_score(model, IRIS.data, NAMES)
    assert scores.mean() > 0.94
    grid = {"sgdclassifier__optimizer": ["adam", no.Momentum(lr=0.05)], "sgdclassifier__alpha": [1e-4, 1.0]}
    sgd = make_pipeline(StandardScaler(), SGDClassifier(loss="multinomial", max_epochs=20, tol=None, random_state=0))
    search = GridSearchCV(sgd, grid, cv=3).fit(IRIS.data, NAMES)
    assert search.best_params_["sgdclassifier__alpha"] == 1e-4
    assert search.best_score_ > 0.85


def test_clone_keeps_parameters_and_forgets_the_fit():
    schedule = no.schedules.Cosine(lr=0.1, steps=100)
    model = SGDClassifier(loss=no.losses.Hinge(), optimizer=no.Adam(lr=schedule), max_epochs=3, tol=None)
    copy = clone(model.fit(IRIS.data, NAMES))
    assert copy.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(IRIS.data)


def test_a_pickle_goes_on_like_the_original():
    X, y = IRIS.data[:96], NAMES[:96]
    model = SGDClassifier(batch_size=32, random_state=0).partial_fit(X, y, classes=IRIS.target_names)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(model.partial_fit(X, y).coef_, copy.partial_fit(X, y).coef_)


SPARSE = {
    "csr": sp.csr_array,
    "csc": sp.csc_matrix,
    "coo": sp.coo_array,
    "int64": lambda X: sp.csr_array((sp.csr_array(X).data, *_indices(X)), X.shape),
}


def _indices(X):
    X = sp.csr_array(X)
    return X.indices.astype(np.int64), X.indptr.astype(np.int64)


@pytest.mark.parametrize("form", SPARSE)
@pytest.mark.parametrize("model", [LogisticRegression(), SGDClassifier(max_epochs=3, tol=None, random_state=0)])
def test_sparse_equals_dense(form, model):
    X = np.where(IRIS.data > 1.5, IRIS.data, 0.0)
    dense, sparse = clone(model).fit(X, NAMES), clone(model).fit(SPARSE[form](X), NAMES)
    np.testing.assert_allclose(sparse.coef_, dense.coef_, rtol=2e-3, atol=2e-3)
    np.testing.assert_array_equal(sparse.predict(SPARSE[form](X)), dense.predict(X))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames(library):
    frames = pytest.importorskip(library)
    X = frames.DataFrame({name: IRIS.data[:, k] for k, name in enumerate("abcd")})
    model = LogisticRegression().fit(X, frames.Series(NAMES), sample_weight=frames.Series(np.ones(150)))
    assert model.feature_names_in_.tolist() == list("abcd")
    assert model.n_features_in_ == 4
    np.testing.assert_array_equal(model.coef_, LogisticRegression().fit(IRIS.data, NAMES).coef_)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(X[["b", "a", "c", "d"]])


@pytest.mark.parametrize("labels", [NAMES, IRIS.target, IRIS.target - 1.0, NAMES.astype(object)])
def test_labels_of_any_kind(labels):
    model = LogisticRegression().fit(IRIS.data, labels)
    assert model.classes_.tolist() == np.unique(labels).tolist()
    assert model.predict(IRIS.data).dtype == np.asarray(labels).dtype
    assert model.score(IRIS.data, labels) > 0.95


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("loss", ["logistic", "multinomial", "hinge", "squared"])
def test_shapes_of_what_is_predicted(count, loss):
    X, y = IRIS.data[IRIS.target < count], NAMES[IRIS.target < count]
    model = SGDClassifier(loss=loss, max_epochs=5, tol=None, random_state=0).fit(X, y)
    rows = 1 if count == 2 else count
    assert (model.coef_.shape, model.intercept_.shape) == ((rows, 4), (rows,))
    z = model.decision_function(X)
    assert z.shape == ((len(X),) if count == 2 else (len(X), count))
    probabilities = loss in ("logistic", "multinomial")
    assert hasattr(model, "predict_proba") == hasattr(model, "predict_log_proba") == probabilities
    if probabilities:
        p = model.predict_proba(X)
        assert p.shape == (len(X), count)
        np.testing.assert_allclose(p.sum(axis=1), 1)
        np.testing.assert_allclose(model.predict_log_proba(X), np.log(p), atol=1e-12)
        np.testing.assert_array_equal(model.classes_[p.argmax(axis=1)], model.predict(X))
    else:
        with pytest.raises(AttributeError, match="predict_proba"):
            model.predict_proba(X)


def test_log_probabilities_do_not_underflow():
    model = LogisticRegression().fit(IRIS.data[:100], NAMES[:100])
    model.coef_ *= 1e6
    log_p = model.predict_log_proba(IRIS.data[:100])
    assert np.isfinite(log_p).all()
    assert log_p.min() < -1e5


def test_class_weights_multiply_sample_weights():
    X, y, rng = IRIS.data, NAMES, np.random.default_rng(0)
    weights = rng.integers(1, 4, 150).astype(float)
    factors = {"setosa": 2.0, "virginica": 0.5}
    told = LogisticRegression(class_weight=factors).fit(X, y, weights)
    same = LogisticRegression().fit(X, y, weights * np.array([factors.get(name, 1.0) for name in y]))
    np.testing.assert_allclose(told.coef_, same.coef_, rtol=1e-9)


def test_balanced_classes_weigh_the_same_in_sum():
    keep = np.r_[:20, 50:140]
    X, y = IRIS.data[keep], NAMES[keep]
    weights = np.random.default_rng(0).integers(0, 3, len(y)).astype(float)
    totals = {name: weights[y == name].sum() for name in np.unique(y)}
    tight = {"alpha": 0.01, "tol": 1e-10}
    balanced = LogisticRegression(class_weight="balanced", **tight).fit(X, y, weights)
    inverse = {name: 1 / total for name, total in totals.items()}
    same = LogisticRegression(class_weight=inverse, **tight).fit(X, y, weights)
    rows = np.arange(len(y)).repeat(weights.astype(int))
    repeated = LogisticRegression(class_weight="balanced", **tight).fit(X[rows], y[rows])
    np.testing.assert_allclose(balanced.coef_, same.coef_, atol=1e-7)
    np.testing.assert_allclose(balanced.coef_, repeated.coef_, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("model", [LinearRegression(), SGDRegressor(max_epochs=2, tol=None)])
def test_dtype_is_kept_and_inputs_are_not_written_to(model, dtype):
    X, y = load_diabetes(return_X_y=True)
    X, y, weights = np.ascontiguousarray(X, dtype), y.astype(dtype), np.ones(len(y), dtype)
    before = X.copy(), y.copy(), weights.copy()
    for array in (X, y, weights):
        array.flags.writeable = False
    model = clone(model).fit(X, y, weights)
    assert (model.coef_.dtype, np.asarray(model.intercept_).dtype, model.predict(X).dtype) == (dtype,) * 3
    for array, copy in zip((X, y, weights), before, strict=True):
        np.testing.assert_array_equal(array, copy)


X, Y = IRIS.data, IRIS.target
WRONG = {
    "sample_weight must not be negative": (LinearRegression(), (X, Y, np.r_[-1.0, np.ones(149)])),
    "sample_weight must not be all zero": (LogisticRegression(), (X, Y, np.zeros(150))),
    "only one class": (LogisticRegression(), (X, Y, (Y == 1).astype(float))),
    "Input X contains NaN": (HuberRegressor(), (np.full_like(X, np.nan), Y)),
    "Unknown label type: continuous": (LinearSVC(), (X, X[:, 0])),
    "out of the valid range of the loss 'poisson'": (PoissonRegressor(), (X, Y - 1)),
    "'l1_ratio' parameter": (LinearRegression(l1_ratio=2), (X, Y)),
    "'batch_size' parameter": (SGDRegressor(batch_size=0), (X, Y)),
    "loss='hinge' is for classes; use SGDClassifier": (SGDRegressor(loss="hinge"), (X, Y)),
    "loss='logistik' is not known; did you mean 'logistic'": (SGDClassifier(loss="logistik"), (X, Y)),
    "unknown optimizer 'adm'; did you mean 'adam'": (SGDClassifier(optimizer="adm"), (X, Y)),
    "unknown method 'newtn'; did you mean": (LinearRegression(method="newtn"), (X, Y)),
    "batch_size=8: HuberRegressor finds its scale": (HuberRegressor(batch_size=8), (X, Y)),
    "early_stopping=True is not possible with method='slsqp'": (
        LinearRegression(early_stopping=True, method="slsqp"), (X, Y)),
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_told_in_a_sentence(text):
    model, data = WRONG[text]
    with pytest.raises(ValueError, match=text):
        model.fit(*data)


def test_wrong_calls_of_partial_fit():
    model = SGDClassifier()
    with pytest.raises(ValueError, match="classes must be given in the first call"):
        model.partial_fit(X, Y)
    with pytest.raises(ValueError, match=r"labels .* not among the classes"):
        model.partial_fit(X, Y, classes=[0, 1])
    model.partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="are not those of the first call"):
        model.partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match="X has 3 features, but SGDClassifier is expecting 4"):
        model.partial_fit(X[:, :3], Y)
    with pytest.raises(ValueError, match="class_weight='balanced' needs all of y"):
        SGDClassifier(class_weight="balanced").partial_fit(X, Y, classes=[0, 1, 2])
    assert not hasattr(LinearRegression(), "partial_fit")
    assert hasattr(LinearRegression(optimizer="adam"), "partial_fit")


@pytest.mark.process
def test_scikit_learn_is_imported_only_when_asked_for():
    code = """if True:
        import sys
        sys.modules["sklearn"] = None
        import numbaopt
        try:
            numbaopt.linear_model.LogisticRegression
        except ImportError as error:
            print(error)
        """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'numbaopt[sklearn]'" in done.stdout
