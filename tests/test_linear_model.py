"""Linear models: every storage and dtype gives the textbook's objective; training, whole and in batches."""

import numba
import numpy as np
import pytest
import scipy.sparse as sp
from problems import table
from scipy.special import expit

import numbaopt as no
from numbaopt.loops import minibatch
from numbaopt.loops.shuffle import epoch_order, fill_order
from numbaopt.problems.rows import SparseRows, UnitRows
from numbaopt.problems.whole import Whole

STORAGES = {
    "C": lambda X: X,
    "F": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "read-only": lambda X: np.frombuffer(X.tobytes(), X.dtype).reshape(X.shape),
    "big-endian": lambda X: X.astype(X.dtype.newbyteorder(">")),
    "csr int64": lambda X: _with_index(sp.csr_matrix(X), np.int64),
    "csr array": sp.csr_array,
    "csc": sp.csc_matrix,
    "coo twice": lambda X: sp.coo_matrix(
        (np.r_[X.ravel() / 2, X.ravel() / 2], np.tile(np.indices(X.shape).reshape(2, -1), 2)), X.shape
    ),
    "csr unsorted": lambda X: _unsorted(sp.csr_matrix(X)),
}


def _with_index(X, dtype):
    X.indices, X.indptr = X.indices.astype(dtype), X.indptr.astype(dtype)
    return X


def _unsorted(X):
    for i in range(X.shape[0]):
        part = slice(X.indptr[i], X.indptr[i + 1])
        X.indices[part], X.data[part] = X.indices[part][::-1].copy(), X.data[part][::-1].copy()
    return X


def naive(X, y, x, loss, l2, intercept, weights):
    """Objective and gradient, from the definition."""
    w, b = (x[:-1], x[-1]) if intercept else (x, 0.0)
    z = X @ w + b
    if loss == "squared":
        value, slope = 0.5 * (z - y) ** 2, z - y
    else:
        value, slope = np.logaddexp(0, -y * z), -y * expit(-y * z)
    g = X.T @ (weights * slope) / len(y) + l2 * w
    if intercept:
        g = np.append(g, np.mean(weights * slope))
    return np.mean(weights * value) + 0.5 * l2 * w @ w, g


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_objective_and_gradient_of_every_storage(storage, dtype, loss):
    X, regression, labels = table(dtype=dtype)
    X[np.abs(X) < 0.3] = 0
    y = regression if loss == "squared" else labels
    rng = np.random.default_rng(1)
    for intercept, weights in ((True, None), (False, rng.random(len(y)))):
        x = rng.standard_normal(X.shape[1] + intercept)
        stored = STORAGES[storage](X)
        model = no.LinearModel(stored, y, loss=loss, l2=0.3, fit_intercept=intercept, sample_weight=weights)
        value, g = model.value_and_grad(x)
        told = naive(X.astype(float), y, x, loss, 0.3, intercept, np.ones(len(y)) if weights is None else weights)
        rtol = 1e-12 if dtype == np.float64 else 2e-5
        assert g.dtype == dtype
        assert model.value(x) == value
        np.testing.assert_allclose(value, told[0], rtol=rtol)
        np.testing.assert_allclose(g, told[1], rtol=rtol, atol=rtol)


@pytest.mark.parametrize("storage", ["C", "csr array"])
@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_minibatch_training_equals_a_naive_loop(storage, loss, shuffle):
    X, regression, labels = table(rows=101)
    y = regression if loss == "squared" else labels
    weights = np.random.default_rng(2).random(101)
    model = no.LinearModel(STORAGES[storage](X), y, loss=loss, l2=0.1, sample_weight=weights)
    options = {"lr": 0.1, "batch_size": 8, "epochs": 3, "seed": 5, "shuffle": shuffle}
    res = no.minimize(model, method="sgd", options=options)
    x, path = np.zeros(model.n), []
    for epoch in range(3):
        path.append(naive(X, y, x, loss, 0.1, True, weights)[0])
        order = epoch_order(101, 5, epoch, shuffle)
        for first in range(0, 101, 8):
            batch = order[first : first + 8]
            x = x - 0.1 * naive(X[batch], y[batch], x, loss, 0.1, True, weights[batch])[1]
    path.append(naive(X, y, x, loss, 0.1, True, weights)[0])
    assert res.nit == 39
    np.testing.assert_allclose(res.history.fun, path, rtol=1e-12)
    np.testing.assert_array_equal(res.history.epoch, [0, 1, 2, 3])
    np.testing.assert_allclose(res.x, x, rtol=1e-10)


RULES = sorted(m.name for m in no.methods() if m.stochastic and hasattr(m.optimizer, "prepare"))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_rule_trains(name, dtype):
    X, _, labels = table(rows=600, dtype=dtype)
    model = no.LinearModel(X, labels, loss="logistic", l2=0.01)
    best = no.minimize(model, method="nesterov", options={"lr": 0.5, "gtol": 1e-3}).fun
    lr = {"adadelta": 10.0, "adagrad": 0.3, "sgd": 0.5, "lion": 0.003}.get(name, 0.03)
    lr = no.schedules.Cosine(lr, steps=30 * 38)
    res = no.minimize(model, method=name, options={"lr": lr, "batch_size": 16, "epochs": 30})
    assert res.x.dtype == dtype
    assert res.fun < best + 0.02
    assert res.fun == min(res.history.fun)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_where_arrays_lie_in_memory_changes_no_bit(loss):
    seen, keep = set(), []
    for k in range(40):
        X, _, labels = table(rows=120)
        keep.append(np.empty(17 * k % 113))  # moves what is allocated next
        res = no.minimize(no.LinearModel(X, labels, loss=loss, l2=0.01), method="adam",
                          options={"lr": 0.1, "batch_size": 16, "epochs": 3})  # fmt: skip
        seen.add((res.fun, res.x.tobytes(), res.history.fun.tobytes(), res.history.grad_norm.tobytes()))
    assert len(seen) == 1


def test_large_and_tiny_batches_and_tiles():
    X, y, _ = table(rows=3000, columns=3)
    model = no.LinearModel(X, y)
    whole = no.minimize(model, method="sgd", options={"lr": 0.1, "maxiter": 5})
    options = {"lr": 0.1, "batch_size": 99_999, "epochs": 5, "shuffle": False}
    as_batch = no.minimize(model, method="sgd", options=options)
    np.testing.assert_allclose(whole.x, as_batch.x, rtol=1e-12)
    one = no.minimize(model, method="sgd", options={"lr": 0.01, "batch_size": 1, "epochs": 1})
    assert one.nit == 3000
    assert one.fun < 0.01


def test_without_history_the_last_point_is_returned_and_no_pass_is_spent():
    X, y, _ = table()
    model = no.LinearModel(X, y)
    options = {"lr": 0.05, "batch_size": 16, "epochs": 4}
    silent = no.minimize(model, method="adam", options={**options, "history": False})
    told = no.minimize(model, method="adam", options=options)
    np.testing.assert_array_equal(silent.x, told.x)
    assert silent.fun == told.fun
    assert len(silent.history) == 0
    assert (silent.nfev, told.nfev - 1) == (1, 5)


def test_exploding_rate_is_a_result():
    X, y, _ = table()
    for history in (True, False):
        res = no.minimize(no.LinearModel(X, y), method="sgd",
                          options={"lr": 1e3, "batch_size": 16, "epochs": 50, "history": history})  # fmt: skip
        assert res.status == 2
        assert np.isfinite(res.x).all()
        assert "such as 100" in res.message
    huge = no.minimize(no.LinearModel(X * 1e200, y * 1e200), method="sgd")
    assert huge.status == 2
    assert "starting point" in huge.message


def test_storages_and_batches_share_one_loop():
    X, _, labels = table()
    for stored in (X, sp.csr_matrix(X)):
        for loss in ("squared", "logistic"):
            model = no.LinearModel(stored, labels, loss=loss)
            no.minimize(model, method="adam", options={"batch_size": 8, "epochs": 1})
    kinds = [kinds[1] for kinds in minibatch.train.signatures]
    assert [kind.name for kind in kinds].count("float64") == 1


def test_inputs_are_never_written_to():
    X, y, _ = table()
    sparse = sp.csr_matrix(X)
    before = X.copy(), y.copy(), sparse.copy()
    for stored in (X, sparse):
        no.minimize(no.LinearModel(stored, y), method="adam", options={"batch_size": 8, "epochs": 2})
    assert (before[0] == X).all()
    assert (y == before[1]).all()
    assert (sparse != before[2]).nnz == 0


def test_threads_find_the_objective_without_its_gradient():
    X = np.random.default_rng(0).standard_normal((40_000, 8))
    model = no.LinearModel(X, X[:, 0] > 0, "logistic")
    assert Whole.pays(model) == (numba.get_num_threads() > 1)
    assert model.value(np.ones(9)) == model.value_and_grad(np.ones(9))[0]


@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_ones_are_not_stored_and_change_no_bit(loss):
    X, y, labels = table()
    X, y = sp.csr_array((X > 0).astype(float)), labels if loss == "logistic" else y
    ones, stored = (no.LinearModel(X, y, loss, l2=0.1) for _ in range(2))
    assert isinstance(ones.rows, UnitRows)
    stored.rows = SparseRows(np.ones(X.nnz), *ones.rows)
    x = np.linspace(-1, 1, ones.n)
    assert ones.value(x) == stored.value(x)
    np.testing.assert_array_equal(*(model.value_and_grad(x)[1] for model in (ones, stored)))
    for method, options in (("newton", {}), ("sgd", {"batch_size": 1, "epochs": 2})):
        np.testing.assert_array_equal(*(no.minimize(model, method=method, options=options).x
                                        for model in (ones, stored)))  # fmt: skip


def test_memory_map_is_used_in_place(tmp_path):
    X, y, _ = table()
    X.tofile(tmp_path / "X.bin")
    mapped = np.memmap(tmp_path / "X.bin", float, "r", shape=X.shape)
    model = no.LinearModel(mapped, y)
    assert model.rows.X.ctypes.data == mapped.ctypes.data
    assert model.value_and_grad(np.ones(8))[0] == no.LinearModel(X, y).value_and_grad(np.ones(8))[0]


def csr(values, columns, starts, shape=(2, 3)):
    X = sp.csr_matrix(shape)
    X.data, X.indices, X.indptr = np.array(values, float), np.array(columns), np.array(starts)
    return X


@pytest.mark.parametrize(("X", "y", "match"), [
    ([[np.nan, 1]], [1], "Input X contains NaN."),
    ([[np.inf, 1]], [1], "Input X contains infinity or a value too large for dtype"),
    ([[1.0]], [np.nan], "Input y contains NaN."),
    (csr([np.nan], [0], [0, 1, 1]), [1, 2], "Input X contains NaN."),
    ([1.0, 2.0], [1, 2], "Expected 2D array, got 1D array instead"),
    ([[1.0], [2.0]], [1], r"inconsistent numbers of samples: \[2, 1\]"),
    (np.zeros((0, 2)), [], r"Found array with 0 sample\(s\)"),
    (np.zeros((2, 0)), [1, 2], r"Found array with 0 feature\(s\)"),
    ([["a"]], [1], "X must be numeric"),
    ([[1, "7"], ["2", "b"]], [1, 2], r"X must be numeric, .* \(column 1 has .*'b'\)"),
    ([[1j]], [1], "Complex data not supported"),
    ([[1.0]], ["a"], "y must be numeric"),
    ([[1.0]], [[1, 2]], "1d array"),
    (csr([1.0], [7], [0, 1, 1]), [1, 2], "column index is outside"),
    (csr([1.0], [-1], [0, 1, 1]), [1, 2], "column index is outside"),
    (csr([1.0], [0], [0, 9, 9]), [1, 2], "beyond the 1 stored values"),
    (csr([1.0, 1.0], [0, 1], [0, 2, 1]), [1, 2], "indptr must rise"),
])  # fmt: skip
def test_bad_tables_get_scikit_learns_words(X, y, match):
    with pytest.raises(ValueError, match=match):
        no.LinearModel(X, y)


def test_labels_of_any_kind():
    X, _, labels = table()
    told = no.LinearModel(X, labels, loss="logistic").value_and_grad(np.ones(8))[0]
    positive = labels > 0
    for y in (positive, positive.astype(int), positive + 1, np.where(positive, "yes", "no"), positive.astype(object)):
        assert no.LinearModel(X, y, loss="logistic").value_and_grad(np.ones(8))[0] == told
    with pytest.raises(ValueError, match="only one class"):
        no.LinearModel(X, np.ones(len(X)), loss="logistic")
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        no.LinearModel(X, X[:, 0], loss="logistic")
    with pytest.raises(ValueError, match="Unknown label type: multiclass"):
        no.LinearModel(X, np.arange(len(X)) % 3, loss="logistic")


def test_arguments_are_checked():
    X, y, _ = table()
    for keywords, match in (({"loss": "squard"}, "did you mean 'squared'"), ({"l2": -1}, "l2=-1"),
                            ({"sample_weight": -np.ones(len(y))}, "must not be negative"),
                            ({"sample_weight": np.zeros(len(y))}, "all zero"),
                            ({"sample_weight": np.ones(3)}, "inconsistent")):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            no.LinearModel(X, y, **keywords)
    with pytest.raises(ValueError, match="7 coefficients and an intercept"):
        no.minimize(no.LinearModel(X, y), np.zeros(7), method="adam")
    with pytest.raises(ValueError, match="batch_size=0"):
        no.minimize(no.LinearModel(X, y), method="adam", options={"batch_size": 0})


@pytest.mark.parametrize("margin", [0.0, 1e3, -1e3, 1e300, -1e300])
def test_logistic_loss_never_overflows(margin):
    for y in (1, -1):
        model = no.LinearModel([[margin], [0.0]], [y, -y], loss="logistic", fit_intercept=False)
        value, g = model.value_and_grad([1.0])
        told = (max(-y * margin, 0.0) + np.log1p(np.exp(-min(abs(margin), 800))) + np.log(2)) / 2
        np.testing.assert_allclose(value, told, rtol=1e-13)
        assert np.isfinite(g).all()


def test_scipy_trains_models_too():
    X, y, _ = table()
    res = no.minimize(no.LinearModel(X, y), method="L-BFGS-B", options={"gtol": 1e-10, "ftol": 1e-15})
    told = np.linalg.lstsq(np.c_[X, np.ones(len(X))], y, rcond=None)[0]
    np.testing.assert_allclose(res.x, told, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 100, 1025])
def test_an_epoch_visits_every_term_once(n):
    orders = [epoch_order(n, seed, epoch) for seed in (0, 2**40 + 1) for epoch in (0, 1)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(n))
    if n > 5:
        assert len({order.tobytes() for order in orders}) == 4
        part = np.empty(3, np.int64)
        fill_order(part, 3, n, True, 0, 1, n - 4)
        np.testing.assert_array_equal(part, orders[1][n - 4 : n - 1])


def test_order_is_the_same_in_the_interpreter_and_fair():
    order = np.empty(100, np.int64)
    fill_order.py_func(order, 100, 100, True, 7, 3, 0)
    np.testing.assert_array_equal(order, epoch_order(100, 7, 3))
    visits = np.zeros((50, 50))
    for seed in range(2000):
        visits[np.arange(50), epoch_order(50, seed, 0)] += 1
    chi_squared = ((visits - 40) ** 2 / 40).sum()
    assert abs(chi_squared - 49 * 49) < 5 * np.sqrt(2 * 49 * 49)
