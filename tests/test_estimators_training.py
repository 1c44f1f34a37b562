"""How estimators train: going on, warm starts, early stopping, histories, callbacks, and what they warn of."""

import sys
import warnings

import matplotlib as mpl
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import numbaopt as no
from numbaopt.linear_model import (
    HuberRegressor,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    SGDClassifier,
    SGDRegressor,
)
from numbaopt.plotting import learning_curve

X, Y = load_iris(return_X_y=True)
X = StandardScaler().fit_transform(X)
ORDER = np.random.default_rng(0).permutation(len(X))[:144]
X, Y = X[ORDER], Y[ORDER]

RULES = {
    "adam": {},
    "momentum": {"optimizer": no.Momentum(lr=0.05)},
    "schedule": {"optimizer": no.AdamW(lr=no.schedules.Cosine(lr=0.1, steps=9))},
    "l1": {"alpha": 0.05, "l1_ratio": 0.5},
    "average": {"average": "polyak"},
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("loss", ["logistic", "multinomial"])
def test_calls_of_partial_fit_equal_one_fit(rule, loss):
    same = {"loss": loss, "batch_size": 16, "shuffle": False, **RULES[rule]}
    whole = SGDClassifier(**same, max_epochs=1, tol=None).fit(X, Y)
    parts = SGDClassifier(**same)
    for begin in (0, 32, 80):
        end = {0: 32, 32: 80, 80: 144}[begin]
        parts.partial_fit(X[begin:end], Y[begin:end], classes=[0, 1, 2])
    np.testing.assert_array_equal(parts.coef_, whole.coef_)
    np.testing.assert_array_equal(parts.intercept_, whole.intercept_)
    assert parts.n_iter_ == 3


def test_partial_fit_of_a_regression_and_weights():
    weights = np.random.default_rng(0).random(144)
    whole = SGDRegressor(batch_size=16, shuffle=False, max_epochs=1, tol=None)
    parts = SGDRegressor(batch_size=16, shuffle=False)
    whole.fit(X, X[:, 0] * 2, weights)
    weights *= 144 / weights.sum()  # what fit does
    for part in np.split(np.arange(144), 3):
        parts.partial_fit(X[part], X[part, 0] * 2, weights[part])
    np.testing.assert_allclose(parts.coef_, whole.coef_, rtol=1e-12)


def test_partial_fit_of_a_part_that_lacks_classes():
    model = SGDClassifier(loss="multinomial", random_state=0)
    for label in (0, 1, 2) * 20:
        model.partial_fit(X[label == Y], Y[label == Y], classes=[0, 1, 2])
    assert model.score(X, Y) > 0.8


@pytest.mark.parametrize("rule", RULES)
def test_a_warm_start_goes_on_with_moments_and_all(rule):
    same = {"loss": "logistic", "batch_size": 16, "shuffle": False, "tol": None, **RULES[rule]}
    whole = SGDClassifier(**same, max_epochs=5).fit(X, Y > 0)
    parts = SGDClassifier(**same, max_epochs=2, warm_start=True).fit(X, Y > 0).set_params(max_epochs=3).fit(X, Y > 0)
    np.testing.assert_array_equal(parts.coef_, whole.coef_)
    assert (parts.n_iter_, parts.history_.epoch[-1]) == (3, 3)
    np.testing.assert_array_equal(parts.history_.loss, whole.history_.loss[2:])


def test_a_warm_start_with_another_optimizer_keeps_the_coefficients_only():
    model = SGDClassifier(loss="logistic", tol=None, max_epochs=4, warm_start=True, random_state=0).fit(X, Y > 0)
    loss = model.history_.loss[-1]
    model.set_params(optimizer=no.AdaGrad(lr=1e-3)).fit(X, Y > 0)  # AdaGrad on Adam's moments would be nonsense
    np.testing.assert_allclose(model.history_.loss[0], loss, rtol=1e-12)
    assert model.history_.loss[-1] < loss


@pytest.mark.parametrize("model", [LogisticRegression(), PoissonRegressor(alpha=0.1), HuberRegressor()])
def test_a_warm_start_of_a_method_starts_at_the_solution(model):
    model.set_params(warm_start=True, tol=1e-8)
    first = model.fit(X, Y).n_iter_
    again = model.fit(X, Y).n_iter_
    assert again < first
    assert model.set_params(warm_start=False).fit(X, Y).n_iter_ == first


def test_a_warm_start_on_other_columns_is_refused():
    model = LogisticRegression(warm_start=True).fit(X, Y)
    with pytest.raises(ValueError, match="warm_start=True: coef_ has 12 coefficients, the new data ask for 3 times 3"):
        model.fit(X[:, :3], Y)


@pytest.mark.parametrize("optimizer", [None, "adam"])
def test_early_stopping_keeps_the_best_epoch(optimizer):
    told = []
    model = LogisticRegression(optimizer=optimizer, early_stopping=True, random_state=0, n_iter_no_change=3,
                               validation_fraction=0.25, callback=lambda result: told.append(result))  # fmt: skip
    scores = model.fit(X, Y).history_.validation_score[1:]
    best = told[int(np.argmax(scores))]
    np.testing.assert_array_equal(model.coef_, best.coef)
    np.testing.assert_array_equal(model.intercept_, best.intercept)
    assert [one.validation_score for one in told][: len(scores)] == scores[: len(told)].tolist()
    assert set(scores) <= set(np.arange(37) / 36)  # shares of the 36 rows
    assert len(scores) < 1000


def test_early_stopping_of_regressions_looks_at_their_scores():
    rng = np.random.default_rng(0)
    counts = rng.poisson(np.exp(X[:, 0])).astype(float)
    held = train_test_split(np.arange(144), test_size=0.1, random_state=np.random.RandomState(0))[1]
    poisson = PoissonRegressor(alpha=0, optimizer="adam", lr=0.1)
    for model, y in ((SGDRegressor(), X @ [1.0, 2, 0, 0]), (poisson, counts)):
        model.set_params(early_stopping=True, random_state=0, batch_size=16, tol=1e-4).fit(X, y)
        np.testing.assert_allclose(np.nanmax(model.history_.validation_score), model.score(X[held], y[held]))


def test_the_default_rate_of_a_regression_follows_the_scale_of_the_table():
    table, target = load_diabetes(return_X_y=True)
    for columns, y in ((table, target), (StandardScaler().fit_transform(table), target), (100 * table, target / 1e3)):
        model = SGDRegressor(alpha=0, tol=1e-6 * y.var(), random_state=0).fit(columns, y)
        assert model.score(columns, y) > LinearRegression(alpha=0).fit(columns, y).score(columns, y) - 0.02
    shifted = SGDRegressor(alpha=0, random_state=0).fit(table.astype(np.float32), target + 1e4)
    assert shifted.score(table, target + 1e4) > 0.4
    sparse = SGDRegressor(random_state=0).fit(sp.csr_array(table), target)
    np.testing.assert_allclose(sparse.coef_, SGDRegressor(random_state=0).fit(table, target).coef_, rtol=1e-6)
    own = SGDRegressor(lr=0.01, max_epochs=1, tol=None).fit(table, target)
    assert abs(own.coef_).max() <= 0.01 * 7 * (1 + 1e-6)  # seven steps
    constant = SGDRegressor(random_state=0, max_epochs=3, tol=None).fit(np.zeros((8, 2)), np.full(8, 5.0))
    np.testing.assert_allclose(constant.predict(np.zeros((1, 2))), 5, atol=0.1)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad", "lion"])
def test_the_default_rate_of_a_named_rule_follows_the_scale_of_the_table(name):
    table, target = load_diabetes(return_X_y=True)
    for columns, y in ((table, target), (1e3 * table, target / 1e3)):
        model = SGDRegressor(optimizer=name, max_epochs=200, tol=None, random_state=0).fit(columns, y)
        assert model.score(columns, y) > 0.45
    told = SGDRegressor(optimizer=name, lr=1e-6, max_epochs=1, tol=None).fit(table, target)
    assert abs(told.coef_).max() < 1e-3


def test_the_default_rate_of_a_rule_whose_steps_are_of_two_kinds_is_its_own():
    model = SGDRegressor(optimizer="radam", batch_size=144, max_epochs=1, tol=None).fit(X, X[:, 0])
    told = SGDRegressor(optimizer=no.RAdam(), batch_size=144, max_epochs=1, tol=None).fit(X, X[:, 0])
    np.testing.assert_allclose(model.coef_, told.coef_, rtol=1e-2)


def test_seconds_go_on_over_calls_of_partial_fit():
    model = SGDClassifier(random_state=0)
    for _ in range(3):
        model.partial_fit(X, Y > 0, classes=[False, True])
    assert (np.diff(model.history_.seconds) > 0).all()


def test_early_stopping_never_returns_coefficients_that_nobody_trained():
    """Where zeros happen to score best, as when nearly all rows are of one class, training still counts."""
    rng = np.random.default_rng(0)
    table, label = rng.standard_normal((400, 5)), (np.arange(400) % 40 == 0).astype(int)
    model = SGDClassifier(loss="logistic", optimizer=no.SGD(lr=2.0), batch_size=1, early_stopping=True, random_state=0,
                          n_iter_no_change=1, class_weight="balanced")  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(table, label)
    assert model.coef_.any()
    assert np.isnan(model.history_.validation_score[0])
    assert np.isfinite(model.history_.validation_score[1:]).all()


def test_early_stopping_scores_the_start():
    target = X @ [1.0, 2.0, 0.0, -1.0] + np.random.default_rng(0).standard_normal(144)
    model = SGDRegressor(alpha=0, random_state=0, warm_start=True).fit(X, target)
    start = model.coef_
    model.set_params(optimizer=no.SGD(lr=0.2), batch_size=2, early_stopping=True, n_iter_no_change=2)
    with pytest.warns(ConvergenceWarning, match="never rose above that of the start"):
        model.fit(X, target)
    scores = model.history_.validation_score
    assert scores[0] > scores[1:].max()
    np.testing.assert_array_equal(model.coef_, start)


def test_minibatches_end_when_the_objective_no_longer_falls():
    model = SGDClassifier(loss="logistic", alpha=0.01, batch_size=16, n_iter_no_change=4, random_state=0).fit(X, Y > 0)
    loss = model.history_.loss
    assert 4 < model.n_iter_ == len(loss) - 1 < 1000
    assert loss[-5] - loss[-4:].min() <= 1e-3
    assert model.history_.dtype.names == ("output", "epoch", "loss", "validation_score", "seconds")
    assert np.isnan(model.history_.validation_score).all()
    assert (np.diff(model.history_.seconds) >= 0).all()
    longer = SGDClassifier(loss="logistic", alpha=0.01, batch_size=16, n_iter_no_change=4, random_state=0, tol=1e-5)
    assert longer.fit(X, Y > 0).n_iter_ > model.n_iter_


def test_histories_of_one_model_a_class():
    model = SGDClassifier(max_epochs=3, tol=None).fit(X, Y)
    assert model.history_.output.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert model.history_.epoch.tolist() == [0, 1, 2, 3] * 3


def test_random_state_decides():
    fit = lambda state: SGDClassifier(batch_size=16, max_epochs=2, tol=None, random_state=state).fit(X, Y).coef_  # noqa: E731
    np.testing.assert_array_equal(fit(1), fit(1))
    assert (fit(1) != fit(2)).any()
    assert (fit(None) != fit(None)).any()


@pytest.mark.parametrize("model", [LogisticRegression(), SGDClassifier(loss="multinomial")])
def test_a_callback_sees_every_epoch_and_may_end_the_fit(model):
    told = []

    def callback(result):
        told.append(result)
        if result.epoch == 3:
            raise StopIteration

    model.set_params(callback=callback).fit(X, Y)
    assert [one.epoch for one in told] == [1, 2, 3]
    assert told[0].coef.shape == (3, 4)
    assert model.n_iter_ == 3
    np.testing.assert_allclose([one.loss for one in told], model.history_.loss[1:])


FITS = {
    "diverges": SGDRegressor(optimizer=no.SGD(lr=1e6)),
    "short of tol by minibatches": SGDRegressor(max_epochs=2),
    "short of tol by a method": LogisticRegression(max_epochs=1),
    "short of tol by a rule": LinearRegression(method=no.SGD(lr=1e-3), max_epochs=5),
}


@pytest.mark.parametrize("name", FITS)
def test_fits_that_fail_warn_where_they_were_called(name):
    with pytest.warns(ConvergenceWarning, match="Diverged" if name == "diverges" else "max_epochs=") as caught:
        model = FITS[name].fit(X, np.abs(X[:, 0]) > 0.5)
    assert caught[0].filename == __file__
    assert np.isfinite(model.coef_).all()


def test_partial_fit_warns_of_divergence():
    model = SGDRegressor(optimizer=no.SGD(lr=1e200), batch_size=4)
    with pytest.warns(ConvergenceWarning, match="Diverged at step") as caught:
        model.partial_fit(X, Y)
    assert caught[0].filename == __file__
    assert np.isfinite(model.coef_).all()


@pytest.mark.parametrize("model", [LinearRegression(), HuberRegressor(), SGDRegressor(), PoissonRegressor(),
                                   LogisticRegression(), SGDClassifier()], ids=str)  # fmt: skip
def test_numbers_whose_squares_overflow_warn_of_nothing_but_convergence(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert np.isfinite(model.fit(1e200 * X, Y).coef_).all()
        if not isinstance(model, PoissonRegressor | LogisticRegression | SGDClassifier):
            assert np.isfinite(model.fit(1e200 * X, 1e200 * X[:, 0]).coef_).all()


def test_without_a_tolerance_the_number_of_epochs_is_no_failure():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert SGDRegressor(max_epochs=2, tol=None).fit(X, Y).n_iter_ == 2
        assert LinearRegression(method=no.SGD(lr=1e-3), max_epochs=5, tol=None).fit(X, Y).n_iter_ == 5


@pytest.mark.parametrize("method", ["adam", no.Nesterov(lr=0.5), "l-bfgs-b", "newton", "auto"])
def test_methods_agree(method):
    cancer, y = load_breast_cancer(return_X_y=True)
    cancer = StandardScaler().fit_transform(cancer)[:, :5]
    lr = 0.05 if method == "adam" else None
    model = LogisticRegression(alpha=0.1, method=method, lr=lr, tol=1e-8, max_epochs=3000).fit(cancer, y)
    exact = LogisticRegression(alpha=0.1, method="newton", tol=1e-10).fit(cancer, y)
    np.testing.assert_allclose(model.coef_, exact.coef_, atol=3e-5 if method == "l-bfgs-b" else 1e-6)


def test_a_progress_bar_shows_the_objective(capfd, monkeypatch):
    SGDClassifier(max_epochs=3, tol=None, verbose=True).fit(X, Y > 0)
    assert "3/3" in (shown := capfd.readouterr().err)
    assert "fun=" in shown
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"pip install 'numbaopt\[progress\]'"):
        SGDClassifier(verbose=True).fit(X, Y > 0)


def test_learning_curves(monkeypatch):
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    ax = learning_curve(LogisticRegression().fit(X, Y))
    assert (ax.get_xlabel(), ax.get_ylabel(), len(ax.lines), ax.get_legend()) == ("iteration", "objective", 1, None)
    model = SGDClassifier(loss="logistic", early_stopping=True, n_iter_no_change=50, random_state=0)
    model.fit(X, np.array(["a", "b", "c"])[Y])
    ax = learning_curve(model, plt.subplots()[1])
    assert ax.get_legend_handles_labels()[1] == ["a", "b", "c"]
    scores = [line for line in ax.figure.axes[1].lines if len(line.get_xdata()) > 1]
    first = model.history_[model.history_.output == 0]
    np.testing.assert_array_equal(scores[0].get_ydata(), first.validation_score)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), first.loss)
    with pytest.raises(ValueError, match="has no history_"):
        learning_curve(SGDClassifier())
    plt.close("all")


def test_partial_fit_after_divergence_begins_again_from_finite_coefficients():
    X, y = load_diabetes(return_X_y=True)
    model = SGDRegressor(optimizer="sgd", lr=1e100)
    for _ in range(3):
        with pytest.warns(ConvergenceWarning, match="Diverged"):
            model.partial_fit(X, y)
        assert np.isfinite(model.coef_).all()


def test_a_method_and_minibatches_exclude_each_other():
    X, y = load_diabetes(return_X_y=True)
    with pytest.raises(ValueError, match="method='lbfgs' trains on all rows at a time"):
        SGDRegressor(method="lbfgs").fit(X, y)


def test_malformed_sparse_data_never_reach_a_kernel_in_predict_either():
    X, y = load_diabetes(return_X_y=True)
    model, bad = LinearRegression().fit(X, y), sp.csr_matrix(X)
    bad.indices[0] = 99
    with pytest.raises(ValueError, match="a column index is outside"):
        model.predict(bad)


@pytest.mark.parametrize("loss", ["hinge", "multinomial"])
def test_weight_norm_trains_directions_and_lengths_and_goes_on(loss):
    options = {"loss": loss, "weight_norm": True, "shuffle": False, "tol": None, "batch_size": 16}
    once, parts = SGDClassifier(max_epochs=3, **options).fit(X, Y), SGDClassifier(**options)
    for _ in range(3):
        parts.partial_fit(X, Y, classes=[0, 1, 2])
    np.testing.assert_array_equal(parts.coef_, once.coef_)
    assert once.history_.loss[-1] < once.history_.loss[0]
    plain = SGDClassifier(max_epochs=3, **{**options, "weight_norm": False}).fit(X, Y)
    assert np.abs(once.coef_ - plain.coef_).max() > 1e-3
    whole = LogisticRegression(method=no.Adam(lr=0.3), weight_norm=True, alpha=0.1, tol=1e-6).fit(X, Y)
    np.testing.assert_allclose(whole.coef_, LogisticRegression(alpha=0.1, tol=1e-8).fit(X, Y).coef_, atol=1e-3)
    with pytest.raises(ValueError, match="weight_norm=True needs a first-order rule: give an optimizer"):
        LogisticRegression(weight_norm=True).fit(X, Y)
    with pytest.raises(ValueError, match="weight_norm=True: l1="):
        SGDClassifier(weight_norm=True, l1_ratio=0.5).fit(X, Y)
