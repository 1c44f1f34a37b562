"""SAG, SAGA, SVRG: the textbook's steps on every storage, optima, cutting and resuming, faults."""

import numpy as np
import pytest
import scipy.sparse as sp
from problems import same
from scipy.special import expit, softmax
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import ElasticNet, LogisticRegression

import numbaopt as no
from numbaopt import checkpoint
from numbaopt.loops.shuffle import epoch_order, fill_draws

METHODS = ("saga", "sag", "svrg")
ROWS, COLUMNS = 60, 40


def sparse_table(seed=0, dtype=np.float64, ones=False):
    """Few entries a row, some rows and columns without any; labels, and numbers."""
    rng = np.random.default_rng(seed)
    X = np.zeros((ROWS, COLUMNS), dtype)
    for i in range(1, ROWS):
        chosen = rng.choice(COLUMNS - 1, rng.integers(1, 6), replace=False)
        X[i, chosen] = 1 if ones else rng.standard_normal(len(chosen))
    z = X @ rng.standard_normal(COLUMNS) + 0.3 * rng.standard_normal(ROWS)
    return X, np.where(z > 0, 1.0, -1.0), z


def twice(X):
    """CSR whose entries are two halves each, in falling order."""
    X = sp.csr_matrix(X)
    order = np.concatenate([np.arange(X.indptr[i], X.indptr[i + 1])[::-1] for i in range(ROWS)])
    return sp.csr_matrix((np.repeat(X.data[order] / 2, 2), np.repeat(X.indices[order], 2), 2 * X.indptr), X.shape)


STORAGES = {"dense": lambda X: X, "sparse": sp.csr_matrix, "twice": twice}
SLOPES = {
    "squared": lambda z, y: z - y,
    "logistic": lambda z, y: -y * expit(-y * z),
    "multinomial": lambda z, y: softmax(z) - np.eye(len(z))[int(y)],
}


def textbook(method, X, y, loss, lr, epochs, l1, l2, intercept, weights, bounds=None, seed=0):
    """The published step, on all unknowns; the oracle.  Returns coefficients (K, D) and intercepts."""
    n, outputs = len(y), 3 if loss == "multinomial" else 1
    w, b = np.zeros((outputs, X.shape[1])), np.zeros(outputs)
    slope = lambda i: weights[i] * np.atleast_1d(SLOPES[loss](X[i] @ w.T + b, y[i]))  # noqa: E731
    remembered = np.array([slope(i) for i in range(n)])
    for epoch in range(epochs):
        order = epoch_order(n, seed, epoch)
        if method == "sag":
            fill_draws(order, n, n, seed, epoch, 0)
        if method == "svrg":
            remembered = np.array([slope(i) for i in range(n)])
        mean, mean_b = remembered.T @ X / n, remembered.mean(0)
        fixed = remembered.copy()
        for i in order:
            s = slope(i)
            old = fixed[i] if method == "svrg" else remembered[i]
            d = s - old
            if method != "svrg":
                remembered[i] = s
            g, g_b = np.outer(d, X[i]), d
            if method == "sag":
                mean, mean_b = mean + g / n, mean_b + g_b / n
                step, step_b = mean, mean_b
            else:
                step, step_b = g + mean, g_b + mean_b
                if method == "saga":
                    mean, mean_b = mean + g / n, mean_b + g_b / n
            w = w - lr * (step + l2 * w)
            w = np.sign(w) * np.maximum(np.abs(w) - lr * l1, 0)
            if intercept:
                b = b - lr * step_b
            if bounds is not None:
                w, b = w.clip(*bounds), b.clip(*bounds)
    return w, b


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_steps_are_the_textbooks(method, storage, loss):
    X, labels, numbers = sparse_table(ones=loss == "logistic" and storage == "sparse")
    y = labels if loss == "logistic" else numbers
    rng = np.random.default_rng(3)
    for l1, l2, intercept, bounds in ((0, 0, True, None), (0.01, 0, False, None), (0, 0.1, True, None),
                                      (0.01, 0.1, True, (-0.1, 0.15)), (0, 0.01, False, (0.02, 0.1))):  # fmt: skip
        weights = np.ones(ROWS) if l2 == 0.1 else rng.random(ROWS)
        model = no.LinearModel(STORAGES[storage](X), y, loss, l1=l1, l2=l2, fit_intercept=intercept,
                               sample_weight=weights)  # fmt: skip
        x0 = np.zeros(model.n) if bounds is None else np.clip(0, *bounds) * np.ones(model.n)
        options = {"lr": 0.15, "epochs": 4, "seed": 7}
        res = no.minimize(model, x0, method=method, bounds=bounds and [bounds] * model.n, options=options)
        if bounds is not None and bounds[0] > 0:  # the textbook begins at zero
            assert res.x.min() >= bounds[0]
            assert res.x.max() <= bounds[1]
            continue
        w, b = textbook(method, X, y, loss, 0.15, 4, l1, l2, intercept, weights, bounds, 7)
        told = np.append(w, b) if intercept else w.ravel()
        np.testing.assert_allclose(res.run.x, told, rtol=0, atol=1e-12)
        if l1:
            np.testing.assert_array_equal(res.run.x == 0, told == 0)
            assert (told[:COLUMNS] == 0).sum() > 1
        assert res.nit == 4 * ROWS


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_several_classes(method, storage):
    X, _, z = sparse_table()
    y = np.digitize(z, [-0.5, 0.5])
    model = no.LinearModel(STORAGES[storage](X), y, "multinomial", l1=0.002, l2=0.05)
    res = no.minimize(model, method=method, options={"lr": 0.2, "epochs": 3})
    w, b = textbook(method, X, y, "multinomial", 0.2, 3, 0.002, 0.05, True, np.ones(ROWS))
    np.testing.assert_allclose(res.run.x, np.append(w, b), rtol=0, atol=1e-12)


@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_float32_stays_close(storage):
    X, y, _ = sparse_table(dtype=np.float32)
    res = no.minimize(no.LinearModel(STORAGES[storage](X), y, "logistic", l1=1e-3, l2=1e-2), method="saga", tol=1e-5)
    told = no.minimize(no.LinearModel(X.astype(float), y, "logistic", l1=1e-3, l2=1e-2), method="saga", tol=1e-10)
    assert res.x.dtype == np.float32
    assert res.success
    np.testing.assert_allclose(res.x, told.x, atol=2e-3)


@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_lazy_steps_that_cross_zero(storage):
    """Many steps pass between two visits of a column: coefficients reach zero, stay, or come out on the other side."""
    rng = np.random.default_rng(1)
    X = np.zeros((400, 30))
    X[np.arange(400), rng.integers(0, 30, 400)] = rng.standard_normal(400)
    y = X @ rng.standard_normal(30)
    model = no.LinearModel(STORAGES[storage](X), y, l1=2e-3, l2=1e-3, fit_intercept=False)
    x0 = rng.standard_normal(30)
    path = [no.minimize(model, x0, method="saga", options={"lr": 0.1, "maxiter": k}).x for k in (0, 150, 399, 400, 800)]
    dense = no.LinearModel(X, y, l1=2e-3, l2=1e-3, fit_intercept=False)
    told = [no.minimize(dense, x0, method="saga", options={"lr": 0.1, "maxiter": k}).x for k in (0, 150, 399, 400, 800)]
    np.testing.assert_allclose(path, told, rtol=0, atol=1e-12)
    assert (np.sign(path[-1]) * np.sign(x0) < 0).any()


@pytest.mark.parametrize("method", METHODS)
def test_optimum_is_scikit_learns(method):
    X, y = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(0)) / X.std(0)
    X /= np.linalg.norm(X, axis=1).max()
    l2, n = 1e-2, len(y)
    res = no.minimize(no.LinearModel(X, y, "logistic", l2=l2), method=method, tol=1e-10)
    told = LogisticRegression(C=1 / (l2 * n), tol=1e-12, max_iter=10_000).fit(X, y)
    assert res.success
    np.testing.assert_allclose(res.x, np.append(told.coef_, told.intercept_), atol=1e-6)
    X, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()
    X = 10 * X
    for stored in (X, sp.csr_matrix(X)):
        res = no.minimize(no.LinearModel(stored, y, l1=0.02, l2=0.02), method=method, tol=1e-10)
        told = ElasticNet(alpha=0.04, l1_ratio=0.5, tol=1e-14, max_iter=100_000).fit(X, y)
        assert res.success
        np.testing.assert_allclose(res.x, np.append(told.coef_, told.intercept_), atol=1e-8)
        np.testing.assert_array_equal(res.x[:-1] == 0, told.coef_ == 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_stopped_within_an_epoch_and_resumed_bit_for_bit(method, storage, tmp_path):
    X, y, _ = sparse_table()
    model = no.LinearModel(STORAGES[storage](X), y, "logistic", l1=1e-3, l2=1e-2)
    options = {"checkpoint": tmp_path / "run.npz", "seed": 3, "gtol": 0}
    once = no.minimize(model, method=method, options={**options, "maxiter": 5 * ROWS + 11})
    part = no.minimize(model, method=method, options={**options, "maxiter": 2 * ROWS + 17})
    assert part.fun == pytest.approx(model.value(part.x), abs=1e-14)
    for stop in (3 * ROWS, 5 * ROWS + 11):
        res = no.resume(options["checkpoint"], model, options={"maxiter": stop})
    same(res, once)
    np.testing.assert_array_equal(res.run.extra, once.run.extra)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1, 7, 60, 1000])
def test_length_of_slices_changes_no_bit(method, size, monkeypatch):
    X, y, _ = sparse_table()
    model = no.LinearModel(sp.csr_matrix(X), y, "logistic", l1=1e-3, l2=1e-2)
    options = {"epochs": 3, "gtol": 0}
    told = no.minimize(model, method=method, options=options)
    monkeypatch.setattr("numbaopt.run.Driver._next", lambda self, _, step: min(size, self.limits.maxiter - step))
    same(no.minimize(model, method=method, options=options), told)


def test_history_false_spares_the_passes():
    X, y, _ = sparse_table()
    model = no.LinearModel(sp.csr_matrix(X), y, "logistic", l2=1e-2)
    for method in METHODS:
        told = no.minimize(model, method=method, options={"epochs": 4, "gtol": 0})
        silent = no.minimize(model, method=method, options={"epochs": 4, "history": False})
        np.testing.assert_array_equal(silent.x, told.run.x)
        assert silent.nfev == 1


def test_draws_are_uniform_and_the_same_in_the_interpreter():
    order, again = np.empty(40_000, np.int64), np.empty(1000, np.int64)
    fill_draws(order, 40_000, 80, 5, 2, 0)
    fill_draws.py_func(again, 1000, 80, 5, 2, 3000)
    np.testing.assert_array_equal(again, order[3000:4000])
    visits = np.bincount(order, minlength=80)
    assert abs(((visits - 500) ** 2 / 500).sum() - 79) < 5 * np.sqrt(2 * 79)
    pairs = np.bincount(order[1:] * 80 + order[:-1], minlength=6400)
    assert abs(((pairs - 6.25) ** 2 / 6.25).sum() - 6399) < 5 * np.sqrt(2 * 6399)


def test_weights_and_rows_set_the_rate():
    X, y, _ = sparse_table()
    squares = (X**2).sum(1).max()
    weights = np.linspace(0, 3, ROWS)
    for stored in (X, sp.csr_matrix(X)):
        model = no.LinearModel(stored, y, "logistic", l2=0.5, sample_weight=weights)
        bound = 0.25 * 3 * (squares + 1) + 0.5
        for method, rate in (("sag", 1 / bound), ("svrg", 0.5 / bound), ("saga", 1 / (2 * bound + min(ROWS, bound)))):
            assert no.minimize(model, method=method, options={"epochs": 1}).lr == pytest.approx(rate, rel=1e-12)
    zero = no.minimize(no.LinearModel(np.zeros((3, 2)), [1.0, 2.0, 3.0], fit_intercept=False), method="saga")
    assert zero.success
    assert (zero.x == 0).all()


def test_what_cannot_be_solved_is_refused():
    X, y, z = sparse_table()
    logistic, counts = no.LinearModel(X, y, "logistic", l2=0.1), np.round(np.exp(z.clip(-2, 2)))
    for model, method, options, match in (
        (no.LinearModel(X, y, "hinge"), "saga", {}, "smooth loss.*'hinge'"),
        (no.LinearModel(X, z, "quantile"), "svrg", {"lr": 0.1}, "smooth loss.*'quantile'"),
        (no.LinearModel(X, counts, "poisson"), "sag", {}, "curvature of loss 'poisson' has no bound.*give an lr"),
        (logistic, "saga", {"lr": -1}, r"lr must be in \[0, inf\)"),
        (logistic, "saga", {"lr": 10.0}, "lr=10.0 must be below 1 / l2 = 10"),
        (logistic, "saga", {"lr": no.schedules.Constant(0.1)}, "must be a number"),
        (logistic, "saga", {"batch_size": 8}, "batch_size=8: a step of this method is of one term"),
        (logistic, "saga", {"average": "polyak"}, "average='polyak' needs a first-order rule"),
        (logistic, "sag", {"max_norm": 1.0}, "max_norm=1.0 needs a first-order rule"),
    ):
        with pytest.raises(ValueError, match=match):
            no.minimize(model, method=method, options=options)
    with pytest.raises(ValueError, match="'saga' needs a LinearModel"):
        no.minimize(lambda x: (x**2).sum(), np.zeros(2), method="saga", options={"jit": False})
    res = no.minimize(no.LinearModel(X, counts, "poisson", l2=0.1), method="svrg", options={"lr": 0.01})
    assert res.success


def test_numbers_that_compiled_code_takes_for_indices_are_checked(tmp_path):
    X, y, _ = sparse_table()
    model = no.LinearModel(sp.csr_matrix(X), y, "logistic", l2=0.1)
    path = tmp_path / "run.npz"
    no.minimize(model, method="saga", options={"maxiter": 10, "checkpoint": path})
    run, settings = checkpoint.load(path)
    for where, value in ((0, 1e9), (3, -5.0), (3, np.nan)):
        hostile = run._replace(extra=run.extra.copy())
        hostile.extra[where] = value
        checkpoint.save(path, hostile, settings)
        with pytest.raises(ValueError, match="more steps than there are terms"):
            no.resume(path, model)


def test_divergence_is_a_result():
    X, _, z = sparse_table()
    for stored in (X, sp.csr_matrix(X)):
        res = no.minimize(no.LinearModel(stored, z), method="saga", options={"lr": 50.0, "epochs": 500})
        assert res.status == 2
        assert np.isfinite(res.x).all()
        with pytest.raises(ValueError, match="X: the squared norm of a row overflows"):
            no.minimize(no.LinearModel(stored * 1e200, z), method="svrg")
