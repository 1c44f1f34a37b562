"""What training may be asked for besides a rule: penalties, averages, early stopping, accumulation, going on."""

import numpy as np
import pytest
import scipy.sparse as sp
from problems import bowl, bowl_grad, same, table
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import ElasticNet, LogisticRegression
from sklearn.preprocessing import scale

import numbaopt as no
from numbaopt import run as driver
from numbaopt.loops.shuffle import epoch_order

PROXIMAL = sorted(m.name for m in no.methods() if hasattr(m.optimizer, "scale"))
RATES = {"adadelta": 10.0, "adagrad": 0.3, "sgd": 0.3, "momentum": 0.05, "nesterov": 0.05}


@pytest.fixture(scope="module")
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return scale(X)[:, :8], y


def l1_objective(model):
    """The optimum of an l1-logistic model, by scikit-learn."""
    C = 1 / (len(model.y) * (model.l1 + model.l2))
    ratio = model.l1 / (model.l1 + model.l2)
    told = LogisticRegression(C=C, l1_ratio=ratio, solver="saga", tol=1e-11, max_iter=100_000)
    told.fit(model.X, model.y)
    return np.r_[told.coef_[0], told.intercept_]


@pytest.mark.parametrize("name", PROXIMAL)
def test_l1_under_every_rule_ends_at_the_optimum_with_exact_zeros(cancer, name):
    model = no.LinearModel(*cancer, loss="logistic", l1=0.05, l2=0.01)
    best = l1_objective(model)
    # rules that keep moving by their rate are let cool down
    lr = no.schedules.Exponential(RATES.get(name, 0.03), gamma=0.999) if name in ("rmsprop", "adamw", "nadam") else None
    options = {"lr": lr or RATES.get(name, 0.03), "maxiter": 8000, "gtol": 1e-7}
    if name == "adamw":
        options["weight_decay"] = 0.0  # would be a penalty of its own
    res = no.minimize(model, method=name, options=options)
    assert res.fun < model.value(best) + 1e-5
    if name not in ("rmsprop", "sgd"):  # too slow to be sure of the last zeros
        np.testing.assert_array_equal(res.x[:-1] == 0, best[:-1] == 0)
    assert (res.x == 0).any()


@pytest.mark.parametrize("name", ["lion", "rprop"])
def test_l1_names_what_a_rule_lacks(cancer, name):
    with pytest.raises(ValueError, match=r"l1=0.1 needs a rule with scale\(c, s, i\).*(Lion|Rprop) has none"):
        no.minimize(no.LinearModel(*cancer, loss="logistic", l1=0.1), method=name)


def test_proximal_gradient_descent_step_for_step(cancer):
    X, y = cancer
    model = no.LinearModel(X, y, l1=0.1, l2=0.05)
    x = np.zeros(model.n)
    for _ in range(20):
        x = x - 0.1 * model.value_and_grad(x)[1]
        x[:-1] = np.sign(x[:-1]) * np.maximum(abs(x[:-1]) - 0.01, 0)
    res = no.minimize(model, method="sgd", options={"lr": 0.1, "maxiter": 20})
    np.testing.assert_allclose(res.x, x, rtol=1e-12)
    enet = ElasticNet(alpha=0.15, l1_ratio=0.1 / 0.15, tol=1e-12, max_iter=100_000).fit(X, y)
    res = no.minimize(model, method="nesterov", options={"lr": 0.1, "gtol": 1e-10})
    np.testing.assert_allclose(res.x, np.r_[enet.coef_, enet.intercept_], atol=1e-8)


def test_l1_within_bounds(cancer):
    model = no.LinearModel(*cancer, loss="logistic", l1=0.02)
    bounds = [(-0.3, 0.1)] * (model.n - 1) + [(None, None)]
    res = no.minimize(model, method="nesterov", bounds=bounds, options={"lr": 0.1, "gtol": 1e-9})
    assert res.success
    assert res.x[:-1].min() >= -0.3
    rng = np.random.default_rng(0)
    for _ in range(200):  # no feasible point near is better
        near = res.x + 1e-3 * rng.standard_normal(model.n)
        near[:-1] = near[:-1].clip(-0.3, 0.1)
        assert model.value(near) > res.fun - 1e-9


@pytest.mark.parametrize("average", ["polyak", "ema"])
def test_average_of_iterates(average):
    X, y, _ = table(rows=96)
    model = no.LinearModel(X, y, l2=0.1)
    options = {"lr": 0.1, "batch_size": 16, "epochs": 5, "shuffle": False}
    res = no.minimize(model, method="sgd", options={**options, "average": average, "average_from": 2, "ema_decay": 0.8})
    path, x = [], np.zeros(model.n)
    for first in 5 * list(range(0, 96, 16)):
        part = no.LinearModel(X[first : first + 16], y[first : first + 16], l2=0.1)
        x = x - 0.1 * part.value_and_grad(x)[1]
        path.append(x)
    mean = path[11]
    for age, x in enumerate(path[12:], 1):
        weight = 1 / age if average == "polyak" else max(0.2, 1 / age)
        mean = mean + weight * (x - mean)
    np.testing.assert_allclose(res.x, mean, rtol=1e-10)
    np.testing.assert_allclose(res.history.fun[-1], model.value(mean), rtol=1e-12)
    np.testing.assert_allclose(res.history.fun[1], model.value(path[5]), rtol=1e-12)  # before it begins: the iterate
    silent = no.minimize(model, method="sgd", options={**options, "average": average, "average_from": 2,
                                                       "ema_decay": 0.8, "history": False})  # fmt: skip
    np.testing.assert_array_equal(silent.x, res.x)


@pytest.mark.parametrize("average", ["polyak", "ema"])
def test_average_of_iterates_on_functions(average, tmp_path, monkeypatch):
    """Every step is an epoch: the mean is judged after each of them, the iterates go on from themselves."""
    x0, path = np.array([-1.0, 7.0]), tmp_path / "run.npz"
    averaging = {"average": average, "average_from": 3, "ema_decay": 0.8}
    options = {"lr": 0.99, **averaging, "maxiter": 20}  # the iterates swing around the minimum for long

    def solve(**more):
        return no.minimize(bowl, x0, method="sgd", jac=bowl_grad, options={**options, **more})

    res, x, mean = solve(), x0, x0
    for t in range(1, 21):
        x = x - 0.99 * bowl_grad(x)
        age = t - 3
        mean = mean + (1 if age <= 1 else 1 / age if average == "polyak" else max(0.2, 1 / age)) * (x - mean)
        np.testing.assert_allclose(res.history.fun[t], bowl(mean), rtol=1e-10)
        np.testing.assert_allclose(res.history.grad_norm[t], abs(bowl_grad(mean)).max(), rtol=1e-10)
    np.testing.assert_allclose(res.run.state[res.run.now[0].shown], mean, rtol=1e-10)
    np.testing.assert_allclose(res.jac, bowl_grad(res.x), rtol=1e-12)
    assert res.fun == min(res.history.fun) == bowl(res.x) < 0.1 * bowl(x), "the best mean, far better than iterates"
    assert (res.nit, res.nfev, res.history.nfev[-1]) == (20, 43, 42)
    solve(maxiter=7, checkpoint=path)
    same(no.resume(path, bowl, jac=bowl_grad, options={"maxiter": 20}), res)
    monkeypatch.setattr(driver, "MAX_SLICE", 1)
    same(solve(), res)
    X, y, _ = table(rows=96)
    whole = no.minimize(no.LinearModel(X, y), method="sgd", options={**options, "lr": 0.5})
    assert whole.fun < whole.history.fun[0]
    assert len(whole.history) == 21


def test_averages_of_functions_converge_raise_and_keep_to_bounds(tmp_path):
    calls, path = [], tmp_path / "run.npz"

    def counted(x):
        calls.append(x.copy())
        if len(calls) == fails_at:
            raise ZeroDivisionError
        return ((x - 3.0) ** 2).sum(), 2.0 * (x - 3.0)

    def solve(**more):
        calls.clear()
        options = {"lr": 0.3, "average": "ema", "ema_decay": 0.5, "jit": False, "maxiter": 500, **more}
        return no.minimize(counted, [9.0], method="sgd", jac=True, bounds=[(3.5, 20)], options=options)

    fails_at = 0
    once = solve()
    assert once.success
    assert once.nfev == len(calls)
    np.testing.assert_allclose(once.x, 3.5, atol=1e-5)
    assert min(calls) >= 3.5
    for fails_at in (8, 9):  # at an iterate, at an average
        with pytest.raises(ZeroDivisionError):
            solve(checkpoint=path)
        keep, fails_at = fails_at, 0
        res = no.resume(path, counted, jac=True, options={"jit": False})
        np.testing.assert_array_equal(res.history.fun, once.history.fun, err_msg=str(keep))
        np.testing.assert_array_equal(res.x, once.x)
    assert solve(gtol=0.0, xtol=1e-3).nit < 30
    with pytest.raises(ValueError, match="average='ema' needs a first-order rule, not LBFGS"):
        no.minimize(bowl, [1.0], options={"average": "ema"})
    assert no.minimize(bowl, [1.0], method="sgd", jac=bowl_grad, options={"average": "ema"}).lr == 1e-3


def test_accumulated_batches_are_larger_batches():
    X, y, _ = table()
    model = no.LinearModel(X, y)
    small = no.minimize(model, method="adam", options={"batch_size": 8, "accumulate": 4, "epochs": 3})
    large = no.minimize(model, method="adam", options={"batch_size": 32, "epochs": 3})
    same(small, large)


def test_max_norm():
    X, y, _ = table()
    for model in (no.LinearModel(X, y), no.LinearModel(X, np.digitize(y, [-1, 1]), loss="multinomial")):
        res = no.minimize(model, method="adam", options={"lr": 0.1, "batch_size": 16, "epochs": 20, "max_norm": 0.7})
        norms = np.linalg.norm(np.atleast_2d(model.split(res.x)[0]), axis=1)
        assert norms.max() <= 0.7 * (1 + 1e-12)
        assert norms.max() > 0.69
    whole = no.minimize(no.LinearModel(X, y), method="sgd", options={"lr": 0.1, "max_norm": 0.5, "maxiter": 500})
    np.testing.assert_allclose(np.linalg.norm(whole.x[:-1]), 0.5, rtol=1e-12)


def test_validation_keeps_the_best_point_and_patience_ends_the_run():
    X, _, labels = table(rows=400, columns=30, seed=3)
    train, held_out = (no.LinearModel(X[part], labels[part], loss="logistic") for part in (slice(60), slice(60, None)))
    options = {"lr": 0.1, "batch_size": 10, "epochs": 300, "patience": 5, "validation": held_out}
    res = no.minimize(train, method="adam", options=options)
    scores = res.history.score[1:]
    assert res.success
    assert "patience" in res.message
    assert len(scores) == np.argmax(scores) + 1 + 5
    np.testing.assert_allclose(held_out.value(res.x), -scores.max(), rtol=1e-12)
    by_function = no.minimize(train, method="adam", options={**options, "validation": lambda x: -held_out.value(x)})
    same(by_function, res)
    penalised = no.LinearModel(X[:60], labels[:60], loss="logistic", l2=0.1)
    by_loss = no.minimize(penalised, method="sgd", options={"lr": 1.0, "batch_size": 1, "epochs": 500, "patience": 3})
    assert by_loss.nit < 500 * 60
    assert by_loss.fun == by_loss.history.fun.min()


def test_a_start_that_nothing_surpasses_is_returned():
    X, y, _ = table()
    train, held_out = no.LinearModel(X[:60], y[:60]), no.LinearModel(X[60:], y[60:])
    best = no.minimize(held_out, method="auto", tol=1e-10).x
    for history in (True, False):
        options = {"lr": 0.05, "batch_size": 4, "validation": held_out, "patience": 3, "history": history}
        res = no.minimize(train, best, method="sgd", options=options)
        assert (res.status, res.nit) == (3, 45)
        np.testing.assert_array_equal(res.x, best)
        if history:
            np.testing.assert_allclose(res.history.score[0], -held_out.value(best), rtol=1e-12)
            assert res.history.score[0] > res.history.score[1:].max()
    flat = no.minimize(train, best, method="sgd", options={**options, "validation": lambda x: 1.0})
    assert flat.success  # of equal scores the one of a training
    assert (flat.x != best).any()


def test_patience_with_an_objective_that_only_rises_is_no_convergence():
    X, y, _ = table()
    res = no.minimize(no.LinearModel(X, y, loss="huber"), method="sgd",
                      options={"lr": 1e6, "batch_size": 16, "epochs": 50, "patience": 5})  # fmt: skip
    assert (res.status, res.success) == (3, False)
    np.testing.assert_array_equal(res.x, 0)


def test_patience_survives_a_checkpoint(tmp_path):
    X, _, labels = table(rows=400, columns=30, seed=3)
    train, held_out = (no.LinearModel(X[part], labels[part], loss="logistic") for part in (slice(60), slice(60, None)))
    options = {"lr": 0.1, "batch_size": 10, "epochs": 300, "patience": 5, "validation": held_out, "average": "ema"}
    once = no.minimize(train, method="adam", options=options)
    path = tmp_path / "run.npz"
    no.minimize(train, method="adam", options={**options, "epochs": once.nit // 6 - 2, "checkpoint": path})
    twice = no.resume(path, train, options={"epochs": 300, "patience": 5, "validation": held_out})
    same(twice, once)


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("name", ["adam", "nesterov", "adagrad"])
def test_a_run_is_taken_over_exactly(storage, name):
    X, y, _ = table(rows=256)
    model = no.LinearModel(storage(X), y, l1=0.01, l2=0.1)
    options = {"batch_size": 32, "shuffle": False, "history": False, "lr": no.schedules.Cosine(0.1, steps=40)}
    once = no.minimize(model, method=name, options={**options, "epochs": 2})
    run = None
    for part in (slice(0, 128), slice(128, 256)) * 2:
        piece = no.LinearModel(storage(X[part]), y[part], l1=0.01, l2=0.1)
        res = no.minimize(piece, method=name, options={**options, "epochs": 1, "run": run})
        run = res.run
    np.testing.assert_array_equal(res.x, once.x)
    assert res.nit == once.nit
    with pytest.raises(ValueError, match="run: its state is"):
        no.minimize(model, method="adan", options={**options, "run": run})
    with pytest.raises(TypeError, match="run must be the attribute 'run'"):
        no.minimize(model, method="adam", options={**options, "run": res})


def test_wrong_options_are_told():
    X, y, _ = table()
    model = no.LinearModel(X, y)
    for options, match in (({"average": "mean", "batch_size": 8}, "average='mean' is not known"),
                           ({"average": "ema", "lr": no.schedules.Automatic()}, "leaves no average; give a rate"),
                           ({"average": "ema", "ema_decay": 1.5, "batch_size": 8}, r"ema_decay=1.5 must be in"),
                           ({"patience": 0}, "patience=0"), ({"max_norm": -1}, "max_norm=-1"),
                           ({"accumulate": 0, "batch_size": 8}, "accumulate=0"),
                           ({"validation": no.LinearModel(X[:, :2], y)}, "validation has 3 unknowns")):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            no.minimize(model, method="adam", options=options)
    with pytest.raises(TypeError, match=r"validation must be a problem .* not of type int"):
        no.minimize(model, method="adam", options={"validation": 3})


def test_an_epochs_order_depends_on_what_came_before_only_by_the_seed():
    X, y, _ = table(rows=64)
    model, x = no.LinearModel(X, y), np.zeros(8)
    options = {"batch_size": 8, "epochs": 1, "lr": 0.1}
    first = no.minimize(model, method="sgd", options={**options, "seed": 4})
    second = no.minimize(model, method="sgd", options={**options, "seed": 9, "run": first.run})
    for seed in (4, 9):
        order = epoch_order(64, seed, 0)
        for begin in range(0, 64, 8):
            rows = order[begin : begin + 8]
            x = x - 0.1 * no.LinearModel(X[rows], y[rows]).value_and_grad(x)[1]
    np.testing.assert_allclose(second.run.x, x, rtol=1e-10)


def test_the_last_point_is_scored_too():
    """Also where a tolerance or a target ended the run there."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    y = (X @ [1.0, -2.0, 0.5, 0.0] + rng.normal(size=300) > 0).astype(float)
    model, held = no.LinearModel(X[:200], y[:200], "logistic"), no.LinearModel(X[200:], y[200:], "logistic")
    low = no.minimize(model).fun
    for options in ({"f_target": 1.02 * low}, {"gtol": 1e-3}, {"max_evaluations": 5}):
        res = no.minimize(model, method="lbfgs", options={"validation": held, **options})
        assert np.isfinite(res.history.score[-1]), options
        assert -held.value(res.x) == np.nanmax(res.history.score)
