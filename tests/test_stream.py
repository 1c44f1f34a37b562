"""Training from chunks: the same bits as training in memory in the same order; what goes wrong names the chunk."""

import os

import numpy as np
import pytest
from problems import table
from scipy import sparse
from streams import BATCH, COMMON, OPTIONS, chunks_of, data, same, threads

import numbaopt as no
from numbaopt.solvers import first_order
from numbaopt.stream._order import chunk_order, chunk_seed, row_order


def visited(rows, chunk_rows, seed, epoch, shuffle=True, batch=BATCH):
    """The rows of each batch of an epoch, said once more in NumPy."""
    chunks = -(-rows // chunk_rows)
    for k in chunk_order(chunks, seed, epoch, shuffle):
        first = int(k) * chunk_rows
        size = min(chunk_rows, rows - first)
        order = first + row_order(size, seed, epoch, int(k), shuffle)
        yield [order[i : i + batch] for i in range(0, size, batch)]


# ---- the same as in memory -------------------------------------------------------------------------------------------

CASES = [("dense", np.float64, "adam", "logistic", 0.0), ("csr", np.float64, "amsgrad", "logistic", 0.0),
         ("dense", np.float32, "momentum", "squared", 0.0), ("dense", np.float64, "adam", "squared", 1e-2)]  # fmt: skip


@pytest.mark.parametrize(("storage", "dtype", "method", "loss", "l1"), CASES)
def test_in_order_it_is_minimize_to_the_last_bit(storage, dtype, method, loss, l1):
    X, y = data(storage, dtype)
    settings = {"method": method, "options": {**OPTIONS, "lr": 0.01, "shuffle": False, "history": False}}
    found = no.stream.minimize(no.stream.open(X, y, chunk_rows=3 * BATCH), loss=loss, l1=l1, l2=0.01, **settings)
    expected = no.minimize(no.LinearModel(X, y, loss, l1, 0.01), **settings)
    np.testing.assert_array_equal(found.x, expected.x)
    assert found.x.dtype == dtype
    assert (found.nit, found.status) == (expected.nit, 1)
    assert np.isnan(found.fun)
    assert found.history.size == 0
    assert found.message == expected.message


def test_averages_and_max_norm_are_those_of_minimize():
    X, y = data()
    options = {**OPTIONS, "shuffle": False, "average": "polyak", "average_from": 1, "max_norm": 0.5}
    found = no.stream.minimize((X, y), **COMMON, options=options)
    expected = no.minimize(no.LinearModel(X, y, "logistic", l2=1e-3), method=COMMON["method"], options=options)
    np.testing.assert_array_equal(found.run.x, expected.run.x)
    np.testing.assert_array_equal(found.run.state, expected.run.state)
    np.testing.assert_array_equal(found.x, found.run.state[-1])
    assert np.linalg.norm(found.run.x[:7]) < 0.5 + 1e-12
    assert (found.x != found.run.x).all()


SPARSE = {"linear": ("sgd", 0.01, 0.01, {}), "touched": ("adagrad", 0.01, 0.0, {}),
          "lazy": ("adam", 0.0, 0.01, {"lazy_update": True})}  # fmt: skip


@pytest.mark.parametrize("kind", SPARSE)
def test_steps_on_sparse_chunks_meet_only_the_columns_of_a_batch(kind, monkeypatch):
    """And end where those in memory do, and dense ones."""
    X, _, y = table(rows=60)
    wide = sparse.csr_matrix((X.ravel(), np.random.default_rng(0).integers(0, 300, X.size), 7 * np.arange(61)))
    wide.sum_duplicates()
    method, l1, l2, more = SPARSE[kind]
    options = {"batch_size": 2, "epochs": 3, "shuffle": False, "history": False, "lr": 0.1, **more}
    ways = []
    monkeypatch.setattr(first_order, "way_of", lambda job, ask=first_order.way_of: ways.append(ask(job)) or ways[-1])
    source = no.stream.open(wide, y, chunk_rows=20)
    found = no.stream.minimize(source, method=method, loss="logistic", l1=l1, l2=l2, options=options)
    assert set(ways) == {"linear" if kind == "linear" else "touched"}
    model = no.LinearModel(wide, y, "logistic", l1, l2)
    expected = no.minimize(model, method=method, options=options)
    np.testing.assert_allclose(found.x, expected.x, rtol=1e-9, atol=1e-12)
    if kind != "lazy":
        source = no.stream.open(wide.toarray(), y, chunk_rows=20)
        dense = no.stream.minimize(source, method=method, loss="logistic", l1=l1, l2=l2, options=options)
        np.testing.assert_allclose(found.x, dense.x, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", ["logistic", "multinomial"])
def test_weight_norm_is_that_of_minimize(loss):
    X, y = data()
    validation = no.LinearModel(X[:50], y[:50], loss)
    options = {**OPTIONS, "lr": 0.05, "shuffle": False, "weight_norm": True, "validation": validation}
    x0 = np.linspace(-1, 1, 8 if loss == "logistic" else 16)
    found = no.stream.minimize((X, y), x0, loss=loss, options=options)
    expected = no.minimize(no.LinearModel(X, y, loss), x0, method="adam", options=options)
    np.testing.assert_array_equal(found.x, expected.x)
    np.testing.assert_array_equal(found.history.score, expected.history.score[1:])
    zeros = no.stream.minimize((X, y), loss=loss, options=options)  # one chunk: the same direction
    np.testing.assert_array_equal(zeros.x, no.minimize(no.LinearModel(X, y, loss), method="adam", options=options).x)
    several = no.stream.minimize(no.stream.open(X, y, chunk_rows=50), loss=loss, options=options)
    assert several.history.fun[-1] < 0.9 * several.history.fun[0]
    with pytest.raises(ValueError, match="weight_norm=True is not possible with max_norm"):
        no.stream.minimize((X, y), options={"weight_norm": True, "max_norm": 1.0})


def test_the_loss_curve_is_that_of_training_in_memory_in_the_same_order():
    """Shuffled, with chunks that batches do not fill: every batch, every progressive loss."""
    X, y = data()
    source = no.stream.open(X, y, chunk_rows=30)
    found = no.stream.minimize(source, **COMMON, options=OPTIONS)
    x, state, t, curve = np.zeros(8), None, 0, []
    opt = COMMON["method"]
    state = no.init_state(opt, x)
    for epoch in range(3):
        total = 0.0
        for batches in visited(200, 30, 5, epoch):
            rows = np.sort(np.concatenate(batches))
            total += len(rows) * no.LinearModel(X[rows], y[rows], "logistic", l2=1e-3, classes=[-1, 1]).value(x)
            for terms in batches:
                t += 1
                _, g = no.LinearModel(X[terms], y[terms], "logistic", l2=1e-3, classes=[-1, 1]).value_and_grad(x)
                no.step(opt, x, g, state, t)
        curve.append(total / 200)
    np.testing.assert_allclose(found.x, x, rtol=1e-11)
    np.testing.assert_allclose(found.history.fun, curve, rtol=1e-11)
    assert found.history.step.tolist() == [27, 54, 81] == [source.steps_per_epoch(BATCH) * k for k in (1, 2, 3)]
    assert found.fun == found.history.fun[-1]
    assert (np.diff(found.history.seconds) > 0).all()
    assert found.classes.tolist() == [-1, 1]
    np.testing.assert_array_equal(np.append(found.coef, found.intercept), found.x)


def test_the_whole_objective_on_demand():
    X, y = data("csr")
    points = []
    found = no.stream.minimize(no.stream.open(X, y, chunk_rows=30), **COMMON, callback=points.append,
                               options={**OPTIONS, "history": "whole"})  # fmt: skip
    model = no.LinearModel(X, y, "logistic", l2=1e-3)
    np.testing.assert_allclose(found.history.fun, [model.value(x) for x in points], rtol=1e-13)
    same_x = no.stream.minimize(no.stream.open(X, y, chunk_rows=30), **COMMON, options=OPTIONS).x
    np.testing.assert_array_equal(found.x, same_x)


def test_schedules_count_the_steps_of_the_stream():
    X, y = data()
    options = {**OPTIONS, "shuffle": False, "history": "whole"}
    for lr in (no.schedules.Cosine(0.1, steps=60), no.schedules.ReduceOnPlateau(0.5, patience=0, threshold=0.3)):
        method = no.Adam(lr=lr)
        found = no.stream.minimize(no.stream.open(X, y, chunk_rows=40), method=method, loss="logistic", options=options)
        expected = no.minimize(no.LinearModel(X, y, "logistic"), method=method, options={**options, "history": True})
        np.testing.assert_array_equal(found.history.lr, expected.history.lr[1:])
        assert len(set(found.history.lr)) > 1
        np.testing.assert_allclose(found.history.fun, expected.history.fun[1:], rtol=1e-12)
    with pytest.raises(ValueError, match="ReduceOnPlateau follows the objective"):
        no.stream.minimize(no.stream.open(X, y), method=method, options={"history": False})


def test_orders_are_permutations_and_functions_of_seed_epoch_and_chunk():
    keys = [(seed, epoch, chunk) for seed in (0, 1, 1 << 40) for epoch in range(3) for chunk in range(3)]
    orders = {key: tuple(row_order(50, *key).tolist()) for key in keys}
    assert all(sorted(order) == list(range(50)) for order in orders.values())
    assert len(set(orders.values())) == len(orders)
    assert all(0 <= chunk_seed(*key) < 2**63 for key in keys)
    assert sorted(chunk_order(9, 3, 1)) == list(range(9))
    assert row_order(5, 0, 0, 0, shuffle=False).tolist() == [0, 1, 2, 3, 4]


def test_multinomial_with_chunks_that_lack_classes():
    X, _ = data()
    y = np.repeat(["a", "b", "c"], 67)[:200]  # sorted: no chunk has all
    options = {**OPTIONS, "shuffle": False, "history": False}
    found = no.stream.minimize(no.stream.open(X, y, chunk_rows=24), loss="multinomial", options=options)
    expected = no.minimize(no.LinearModel(X, y, "multinomial"), method="adam", options=options)
    np.testing.assert_array_equal(found.x, expected.x)
    assert found.coef.shape == (3, 7)
    assert found.classes.tolist() == ["a", "b", "c"]


def test_two_classes_that_never_meet_in_a_chunk():
    X, _ = data()
    y = np.repeat([3, 8], 100)
    found = no.stream.minimize(no.stream.open(X, y, chunk_rows=50), loss="logistic", options=OPTIONS)
    assert found.classes.tolist() == [3, 8]
    source = no.stream.open(X, np.where(np.arange(200) < 150, 3, 8), chunk_rows=50)
    with pytest.raises(ValueError, match=r"chunk 3 \(rows 150 to 199\): y contains previously unseen labels.*8"):
        no.stream.minimize(source, loss="logistic", classes=[3, 4])
    with pytest.raises(ValueError, match="needs at least 2 classes"):
        no.stream.minimize(no.stream.open(X, np.ones(200)), loss="logistic")
    with pytest.raises(ValueError, match="takes numbers, not classes"):
        no.stream.minimize(no.stream.open(X, y), classes=[3, 8])


# ---- chunks that Python makes ----------------------------------------------------------------------------------------


def test_sequences_functions_and_generators():
    X, y = data()
    options = {**OPTIONS, "epochs": 1}
    expected = no.stream.minimize(no.stream.open(X, y, chunk_rows=30), **COMMON, options=options)
    same(no.stream.minimize(chunks_of(X, y), **COMMON, options=options), expected)
    # one after the other, rows shuffled
    in_order = no.stream.minimize(lambda: iter(chunks_of(X, y)), **COMMON, options=options)
    assert in_order.nit == expected.nit
    assert (in_order.x != expected.x).any()
    once = no.stream.minimize(iter(chunks_of(X, y)), **COMMON, classes=[-1, 1], options=options)
    same(once, in_order)
    with pytest.raises(ValueError, match="an iterator can be read once, for one epoch in order"):
        no.stream.minimize(iter(chunks_of(X, y)), **COMMON, classes=[-1, 1], options=OPTIONS)
    with pytest.raises(ValueError, match="classes must be given"):
        no.stream.minimize(iter(chunks_of(X, y)), **COMMON)


class Rows(no.stream.Source):
    """A source of one's own."""

    n_features, dtype, n_chunks, sizes = 7, np.dtype(float), 4, (50, 50, 50, 50)

    def read(self, chunk):
        X, y = data()
        return X[50 * chunk : 50 * chunk + 50], y[50 * chunk : 50 * chunk + 50]


def test_a_source_of_ones_own(tmp_path):
    path = tmp_path / "run.npz"
    settings = {**COMMON, "options": {**OPTIONS, "epochs": 1}}
    expected = no.stream.minimize(no.stream.open(data(), chunk_rows=50), **settings)
    settings["options"]["checkpoint"] = path
    same(no.stream.minimize(Rows(), **settings), expected)
    assert Rows().steps_per_epoch(BATCH) == expected.nit
    assert no.stream.resume(path, Rows(), options={"epochs": 2}).nit == 2 * expected.nit


def test_weights_and_chunks_without_rows():
    X, y = data()
    w = np.arange(200) % 3 + 1.0
    chunks = [(X[i : i + 24], y[i : i + 24], w[i : i + 24]) for i in range(0, 200, 24)]
    chunks.insert(2, (X[:0], y[:0], w[:0]))
    options = {**OPTIONS, "shuffle": False, "history": "whole"}
    found = no.stream.minimize(chunks, **COMMON, options=options)
    model = no.LinearModel(X, y, "logistic", l2=1e-3, sample_weight=w)
    expected = no.minimize(model, method=COMMON["method"], options={**options, "history": False})
    np.testing.assert_array_equal(found.x, expected.x)
    np.testing.assert_allclose(found.fun, model.value(found.x))


def test_a_callback_ends_the_run_and_the_thread():
    X, y = data()
    seen = []

    def callback(intermediate_result):
        seen.append(intermediate_result)
        if len(seen) == 2:
            raise StopIteration

    found = no.stream.minimize(no.stream.open(X, y, chunk_rows=30), **COMMON, callback=callback, options=OPTIONS)
    assert (found.status, found.nit, len(seen)) == (99, 54, 2)
    assert [one.fun for one in seen] == found.history.fun.tolist()
    assert threads() == []


# ---- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("where", "value", "text"), [
    ("X", np.nan, "Input X contains NaN."), ("X", np.inf, "Input X contains infinity"),
    ("y", np.nan, "Input y contains NaN."),
])  # fmt: skip
def test_bad_numbers_name_the_chunk(tmp_path, where, value, text):
    X, _ = data()
    y = X[:, 0].copy()
    {"X": X[:, 1], "y": y}[where][65] = value
    np.save(tmp_path / "X.npy", X)
    for source in (no.stream.open(X, y, chunk_rows=30), no.stream.open(tmp_path / "X.npy", y, chunk_rows=30)):
        with pytest.raises(ValueError, match=rf"chunk 2 \(rows 60 to 89.*\): {text}"):
            no.stream.minimize(source, options=OPTIONS)
    assert threads() == []


def test_chunks_that_do_not_fit():
    X, y = data()
    for bad, text in (((X[:10, :3], y[:10]), "X has 3 features, but the stream has 7 features"),
                      ((X[:10], y[:9]), r"inconsistent numbers of samples: \[10, 9\]"),
                      ((X[:10],), r"must be \(X, y\)"), ((X[0], y[:1]), "Expected 2D array")):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            no.stream.minimize([*chunks_of(X, y), bad], options=OPTIONS)


def test_files_that_change_while_they_are_read(tmp_path):
    X, y = data()
    path = tmp_path / "X.npy"
    np.save(path, X)

    def callback(x):
        np.save(path, X + 1)
        os.utime(path, ns=(1, 1))

    with pytest.raises(ValueError, match="has changed since the stream was opened"):
        no.stream.minimize(no.stream.open(path, y, chunk_rows=30), callback=callback, options=OPTIONS)


def test_divergence_is_a_result():
    X, _ = data()
    source = no.stream.open(X, 1e3 * X[:, 0], chunk_rows=30)
    for history in ("progressive", False):
        found = no.stream.minimize(source, method=no.SGD(lr=1e3), options={**OPTIONS, "epochs": 50, "history": history})
        assert found.status == 2
        assert np.isfinite(found.x).all()
        assert "Diverged at step" in found.message
    assert threads() == []


@pytest.mark.parametrize(("options", "error", "text"), [
    ({"history": "all"}, ValueError, "history='all' must be 'progressive', 'whole' or False"),
    ({"batch_size": 0}, ValueError, "batch_size=0 must be at least 1"),
    ({"epochs": 1.5}, TypeError, r"epochs=1\.5 must be an integer"),
    ({"epocs": 2}, Warning, "unknown option 'epocs' for stream.minimize; did you mean 'epochs'"),
])  # fmt: skip
def test_wrong_options(options, error, text):
    X, y = data()
    with pytest.raises(error, match=text):
        no.stream.minimize(no.stream.open(X, y), options=options)


def test_the_bar_counts_chunks(capsys):
    pytest.importorskip("tqdm")
    X, y = data()
    no.stream.minimize(no.stream.open(X, y, chunk_rows=30), **COMMON, options={**OPTIONS, "progress": True})
    told = capsys.readouterr().err
    assert "21/21" in told
    assert "epoch 3/3" in told


def test_methods_that_need_all_rows():
    with pytest.raises(ValueError, match=r"Newton.* needs all rows at every step"):
        no.stream.minimize(data(), method=no.Newton())


def test_bounds_hold_as_in_memory():
    X, y = data()
    bounds = [(-0.1, 0.2)] * 7 + [(None, 0.0)]
    told = {"method": no.Adam(lr=0.05), "bounds": bounds,
            "options": {"batch_size": BATCH, "epochs": 3, "shuffle": False, "history": False}}  # fmt: skip
    res = no.stream.minimize(no.stream.open(X, y, chunk_rows=40), loss="logistic", **told)
    once = no.minimize(no.LinearModel(X, y, "logistic"), **told)
    np.testing.assert_array_equal(res.x, once.x)
    assert res.x[:7].min() == -0.1
    with pytest.raises(ValueError, match="bounds are not of the length of x0, 8"):
        no.stream.minimize(no.stream.open(X, y), bounds=[(0, 1)] * 3)


@pytest.mark.parametrize("history", ["progressive", False])
def test_validation_keeps_the_best_point_and_patience_ends_the_run(tmp_path, history):
    X, _, y = table(rows=400, columns=30, seed=3)
    held_out, source = no.LinearModel(X[60:], y[60:], "logistic"), no.stream.open(X[:60], y[:60], chunk_rows=25)
    seen = []
    options = {"batch_size": 10, "epochs": 300, "patience": 5, "validation": held_out, "history": history}
    run = {"method": no.Adam(lr=0.1), "loss": "logistic"}
    res = no.stream.minimize(source, **run, callback=lambda x: seen.append(held_out.value(x)), options=options)
    assert res.success
    assert "patience" in res.message
    assert len(seen) == np.argmin(seen) + 1 + 5
    np.testing.assert_allclose(held_out.value(res.x), min(seen), rtol=1e-12)
    if history:
        np.testing.assert_allclose(res.history.score, -np.array(seen), rtol=1e-12)
    path = tmp_path / "stream.npz"
    no.stream.minimize(source, **run, options={**options, "epochs": len(seen) - 3, "checkpoint": path})
    with pytest.raises(ValueError, match="was judged by a validation; resume it with the same one"):
        no.stream.resume(path, source)
    again = no.stream.resume(path, source, options={"epochs": 300, "validation": held_out})
    np.testing.assert_array_equal(again.x, res.x)
    assert (again.nit, again.status) == (res.nit, res.status)
    options["validation"] = lambda x: -abs(x - res.x).sum()
    worse = no.stream.minimize(source, res.x, **run, options=options)
    assert (worse.status, worse.success) == (3, False)
    np.testing.assert_array_equal(worse.x, res.x)


def test_patience_alone_looks_at_the_objective():
    X, y = data()
    source = no.stream.open(X, y, chunk_rows=40)
    res = no.stream.minimize(source, loss="logistic", options={"patience": 2, "min_delta": 0.05, "epochs": 50})
    assert res.success
    assert (-np.diff(res.history.fun[-3:]) <= 0.05).all()
    with pytest.raises(ValueError, match="patience needs the objective"):
        no.stream.minimize(source, options={"patience": 2, "history": False})


def test_malformed_matrices_and_empty_streams_are_refused_at_the_door():
    bad = sparse.random(20, 30, 0.3, format="csc", random_state=0)
    bad.indices[3] = 10**6
    with pytest.raises(ValueError, match=r"X is malformed: a row index is outside \[0, 20\)"):
        no.stream.open(bad, np.ones(20))
    bad = sparse.random(20, 30, 0.3, format="csr", random_state=0)
    bad.indptr[0] = 2
    with pytest.raises(ValueError, match="X is malformed: indptr must rise from 0"):
        no.stream.open(bad, np.ones(20))
    nothing = [(np.ones((0, 3)), np.ones(0))] * 2
    with pytest.raises(ValueError, match=r"has 0 sample\(s\) .* all chunks are empty"):
        no.stream.minimize(nothing)
    assert threads() == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch_size", [None, 8])
def test_a_rule_that_overflows_has_diverged(dtype, batch_size):
    """Squares of such gradients are infinite, so Adam stands still: that is no limit on steps."""
    X, y = data(dtype=dtype)
    X = X * dtype(1e25 if dtype == np.float32 else 1e200)
    options = {"batch_size": batch_size, "epochs": 5}
    res = no.minimize(no.LinearModel(X, y), method="adam", options=options)
    assert (res.status, np.isfinite(res.x).all()) == (2, True)
    assert "scale the data" in res.message
    if batch_size:
        res = no.stream.minimize((X, y), options=options)
        assert (res.status, np.isfinite(res.x).all()) == (2, True)
        assert "scale the data" in res.message
