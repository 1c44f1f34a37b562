"""Minibatches of sparse rows: steps that meet only the unknowns of a batch equal those on all of them."""

import numpy as np
import pytest
import scipy.sparse as sp
from problems import same
from test_variance_reduced import sparse_table, twice

import numbaopt as no
from numbaopt.loops.shuffle import epoch_order
from numbaopt.solvers.first_order import FirstOrder, way_of

ROWS, COLUMNS = 90, 250


def table(loss="logistic", ones=False, dtype=np.float64):
    """Many columns, few entries a row; some of both are empty."""
    rng = np.random.default_rng(4)
    X = np.zeros((ROWS, COLUMNS), dtype)
    for i in range(1, ROWS):
        chosen = rng.choice(COLUMNS - 1, rng.integers(1, 5), replace=False)
        X[i, chosen] = 1 if ones else rng.standard_normal(len(chosen))
    z = X @ rng.standard_normal(COLUMNS) + 0.3
    return X, {"squared": z, "logistic": z > 0, "multinomial": np.digitize(z, [-1, 1])}[loss]


def ways(monkeypatch):
    """The ways that runs take from now on."""
    seen = []
    made = FirstOrder.__init__

    def noting(self, job):
        made(self, job)
        seen.append(way_of(job))

    monkeypatch.setattr(FirstOrder, "__init__", noting)
    return seen


RULES = {
    "sgd": no.SGD(lr=0.5),
    "sgd, falling rate": no.SGD(lr=lambda step: 0.5 / (1 + 0.01 * step)),
    "adagrad": no.AdaGrad(lr=0.3, initial_accumulator=0.1, lr_decay=0.01),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("loss", ["logistic", "squared", "multinomial"])
def test_exactly_the_steps_on_all_unknowns(rule, loss, monkeypatch):
    X, y = table(loss)
    seen = ways(monkeypatch)
    for l1, l2 in ((0, 0), (2e-3, 0), (0, 0.05), (2e-3, 0.05)):
        for batch in (1, 7, 19):
            options = {"batch_size": batch, "epochs": 3, "seed": 2}
            keywords = {"l1": l1, "l2": l2, "sample_weight": np.linspace(0.5, 2, ROWS), "intercept_l2": 0.01}
            runs = [no.minimize(no.LinearModel(made, y, loss, **keywords), method=RULES[rule], options=options)
                    for made in (X, sp.csr_matrix(X))]  # fmt: skip
            np.testing.assert_allclose(runs[1].run.x, runs[0].run.x, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(runs[1].history.fun, runs[0].history.fun, rtol=1e-13)
            np.testing.assert_array_equal(runs[1].run.x == 0, runs[0].run.x == 0)
            few = 4 * batch * np.count_nonzero(X) / ROWS <= COLUMNS
            lazy = "linear" if "sgd" in rule else ("touched" if few and l2 == 0 else "dense")
            assert seen[-2:] == ["dense", lazy]


def test_some_of_them_are_really_taken_on_few_unknowns(monkeypatch):
    """What the test above compares is not the same code twice."""
    X, y = table()
    seen = ways(monkeypatch)
    for rule in RULES.values():
        model = no.LinearModel(sp.csr_matrix(X), y, "logistic")
        no.minimize(model, method=rule, options={"batch_size": 7, "epochs": 1})
    assert seen == ["linear", "linear", "touched"]


@pytest.mark.parametrize("storage", ["ones", "twice", "float32"])
@pytest.mark.parametrize("rule", ["sgd", "adagrad"])
def test_storages(storage, rule):
    dtype = np.float32 if storage == "float32" else np.float64
    X, y = (table(ones=storage == "ones", dtype=dtype) if storage != "twice" else sparse_table()[:2])
    stored = (twice if storage == "twice" else sp.csr_matrix)(X)
    for batch in (1, 5):
        options = {"batch_size": batch, "epochs": 3}
        runs = [no.minimize(no.LinearModel(made, y, "logistic", l1=1e-3), method=RULES[rule], options=options)
                for made in (X, stored)]  # fmt: skip
        assert runs[1].x.dtype == dtype
        np.testing.assert_allclose(runs[1].run.x, runs[0].run.x, rtol=0, atol=1e-12 if dtype == np.float64 else 2e-5)


def test_long_runs_are_rescaled():
    """The scale of all unknowns falls below its least value many times; large rates shrink through zero."""
    X, y = table("squared")
    for lr, l2 in ((0.2, 2.0), (0.4, 3.0), (0.1, 10.0)):
        for l1 in (0, 1e-3):
            runs = [no.minimize(no.LinearModel(made, y, l1=l1, l2=l2), method=no.SGD(lr=lr),
                                options={"batch_size": 1, "epochs": 4})
                    for made in (X, sp.csr_matrix(X))]  # fmt: skip
            np.testing.assert_allclose(runs[1].run.x, runs[0].run.x, rtol=0, atol=1e-12)
            assert runs[0].status == 1


@pytest.mark.parametrize("rule", [no.SGD(lr=0.3), no.AdaGrad(lr=0.3), no.Adam(lr=0.1), no.Momentum(lr=0.1)])
def test_lazy_update_moves_the_unknowns_of_a_batch_only(rule):
    X, y = table()
    l1, l2, batch = 1e-3, 0.02, 6
    model = no.LinearModel(sp.csr_matrix(X), y, "logistic", l1=l1, l2=l2)
    res = no.minimize(model, method=rule, options={"batch_size": batch, "epochs": 2, "lazy_update": True})
    part = no.LinearModel(X, y, "logistic", l2=l2)
    x, t = np.zeros(model.n), 0
    state, whole = no.init_state(rule, x), no.LinearModel(X, y, "logistic", l1=l1, l2=l2)
    lr = getattr(rule, "lr")  # noqa: B009
    for epoch in range(2):
        order = epoch_order(ROWS, 0, epoch)
        for first in range(0, ROWS, batch):
            rows, t = order[first : first + batch], t + 1
            met = np.append(np.flatnonzero(np.any(X[rows] != 0, axis=0)), COLUMNS)
            here = no.LinearModel(X[rows], np.where(y[rows], 1, -1), "logistic", l2=l2, classes=[-1, 1])
            g = here.value_and_grad(x)[1]
            old, old_state = x.copy(), state.copy()
            no.step(rule, x, g, state, t)
            scale = {"SGD": lr, "Momentum": 10 * lr}.get(type(rule).__name__)
            if scale is None:
                c = rule.prepare(rule, lr, t)
                scale = np.array([rule.scale(c, state, i) for i in range(COLUMNS)])
            x[:-1] = np.sign(x[:-1]) * np.maximum(np.abs(x[:-1]) - l1 * scale, 0)
            rest = np.setdiff1d(np.arange(model.n), met)
            x[rest], state[:, rest] = old[rest], old_state[:, rest]
    np.testing.assert_allclose(res.run.x, x, rtol=0, atol=1e-12)
    np.testing.assert_allclose(res.run.state, state, rtol=0, atol=1e-12)
    assert res.fun <= part.value(np.zeros(model.n))
    dense = no.minimize(whole, method=rule, options={"batch_size": batch, "epochs": 2, "lazy_update": True})
    plain = no.minimize(whole, method=rule, options={"batch_size": batch, "epochs": 2})
    np.testing.assert_array_equal(dense.x, plain.x)  # dense rows meet every unknown


def test_options_that_touch_all_unknowns_take_dense_steps(monkeypatch):
    X, y = table()
    seen = ways(monkeypatch)
    model, options = no.LinearModel(sp.csr_matrix(X), y, "logistic"), {"batch_size": 4, "epochs": 2}
    dense = no.LinearModel(X, y, "logistic")
    for more, bounds in (({"average": "polyak"}, None), ({"max_norm": 0.5}, None), ({}, [(0, 1)] * model.n)):
        told, found = (no.minimize(m, method="sgd", bounds=bounds, options={**options, **more}) for m in (dense, model))
        np.testing.assert_allclose(found.x, told.x, rtol=0, atol=1e-13)
    clipped = no.transforms.chain(no.transforms.ClipByNorm(0.1), no.SGD(lr=0.1))
    no.minimize(model, method=clipped, options=options)
    no.minimize(model, method=no.SGD(weight_decay=0.1), options=options)
    assert set(seen) == {"dense"}
    res = no.minimize(model, method="adam", bounds=[(0, 1)] * model.n, options={**options, "lazy_update": True})
    assert res.x.min() >= 0


@pytest.mark.parametrize("rule", ["sgd", "adagrad", "lazy adam"])
def test_stopped_within_an_epoch_and_resumed_bit_for_bit(rule, tmp_path, monkeypatch):
    X, y = table()
    model = no.LinearModel(sp.csr_matrix(X), y, "logistic", l1=1e-3, l2=0.05 if rule == "sgd" else 0)
    options = {"batch_size": 4, "seed": 3, "checkpoint": tmp_path / "run.npz", "lazy_update": rule == "lazy adam"}
    method = RULES.get(rule, no.Adam(lr=0.1))
    once = no.minimize(model, method=method, options={**options, "maxiter": 90})
    part = no.minimize(model, method=method, options={**options, "maxiter": 31})
    assert part.fun == pytest.approx(model.value(part.x), abs=1e-14)
    dense = no.minimize(no.LinearModel(X, y, "logistic", l1=model.l1, l2=model.l2), method=method,
                        options={"batch_size": 4, "seed": 3, "maxiter": 31})  # fmt: skip
    if rule != "lazy adam":
        np.testing.assert_allclose(part.x, dense.x, rtol=0, atol=1e-12)
    for stop in (57, 90):
        res = no.resume(options["checkpoint"], model, options={"maxiter": stop})
    same(res, once)
    for size in (1, 5, 1000):
        cut = lambda self, _, step, k=size: min(k, self.limits.maxiter - step)  # noqa: E731
        monkeypatch.setattr("numbaopt.run.Driver._next", cut)
        same(no.minimize(model, method=method, options={**options, "maxiter": 90}), once)


def test_pieces_of_the_data_equal_the_whole():
    X, y = table()
    options = {"batch_size": 3, "epochs": 1, "shuffle": False}
    for rule in (RULES["sgd"], RULES["adagrad"]):
        told = no.minimize(no.LinearModel(sp.csr_matrix(X), y, "logistic", l1=1e-3), method=rule, options=options)
        run = None
        for first, kind in ((0, sp.csr_matrix), (30, sp.csr_matrix), (60, sp.csr_matrix)):
            piece = no.LinearModel(kind(X[first : first + 30]), y[first : first + 30], "logistic", l1=1e-3)
            run = no.minimize(piece, method=rule, options={**options, "run": run}).run
        np.testing.assert_allclose(run.x, told.run.x, rtol=0, atol=1e-15)
    dense = no.minimize(no.LinearModel(X, y, "logistic"), method=RULES["sgd"], options={**options, "run": None})
    model = no.LinearModel(sp.csr_matrix(X), y, "logistic", l1=1e-3)
    no.minimize(model, method=RULES["sgd"], options={**options, "run": dense.run})
    within = no.minimize(model, method=RULES["sgd"], options={**options, "maxiter": 5})
    dense = no.LinearModel(X, y, "logistic", l1=1e-3)
    with pytest.raises(ValueError, match="run: "):
        no.minimize(dense, method=RULES["sgd"], options={**options, "run": within.run})


def test_exploding_rate_is_a_result():
    X, y = table("squared")
    for method, options in (("sgd", {}), ("adagrad", {}), ("momentum", {"lazy_update": True})):
        lr = 1e200 if method == "adagrad" else 1e3
        res = no.minimize(no.LinearModel(sp.csr_matrix(X), y), method=method,
                          options={"lr": lr, "batch_size": 2, "epochs": 99, **options})  # fmt: skip
        assert res.status == 2
        assert np.isfinite(res.x).all()


def test_lazy_update_is_refused_where_it_has_no_meaning():
    X, y = table()
    model = no.LinearModel(sp.csr_matrix(X), y, "logistic")
    options = {"batch_size": 4, "epochs": 1, "lazy_update": True}
    clipped = no.transforms.chain(no.transforms.ClipByNorm(0.1), no.Adam())
    for method, more, match in ((clipped, {}, "ClipByNorm"), ("adam", {"average": "ema"}, "average"),
                                ("adam", {"max_norm": 1.0}, "max_norm"),
                                ("saga", {"batch_size": 1}, "first-order rule")):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            no.minimize(model, method=method, options={**options, **more})
