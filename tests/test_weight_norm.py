"""Weight normalization, step for step beside the textbook; what it leaves alone and what it refuses."""

import naive
import numpy as np
import pytest
import scipy.sparse as sp
from problems import same, table

import numbaopt as no
from numbaopt.loops.shuffle import epoch_order
from numbaopt.problems.weight_norm import WeightNorm

X, Y, LABELS = table(rows=120)
CLASSES = np.digitize(Y, [-1, 1])
MODELS = {
    "squared": (Y, {"l2": 0.1}),
    "multinomial": (CLASSES, {"loss": "multinomial", "classes": [0, 1, 2]}),
    "no intercept": (LABELS, {"loss": "logistic", "classes": [-1, 1], "fit_intercept": False}),
}  # fmt: skip


def made(kind, X, rows=slice(None)):
    y, options = MODELS[kind]
    return no.LinearModel(X[rows], y[rows], **options)


def split(model, u):
    """The model's unknowns of those of a run, and what its gradient makes of theirs, by the formulas of the paper."""
    K, D = model.n_outputs, model.n_features
    v, rest, g = u[: K * D].reshape(K, D), u[K * D : model.n], u[model.n :, None]
    norm = np.linalg.norm(v, axis=1, keepdims=True)

    def chain(slope):
        s = slope[: K * D].reshape(K, D)
        along = (s * v).sum(axis=1, keepdims=True) / norm
        return np.concatenate([(g / norm * (s - along * v / norm)).ravel(), slope[K * D :], along.ravel()])

    return np.concatenate([(g * v / norm).ravel(), rest]), chain


def start(model, x):
    w = x[: model.n_penalised].reshape(model.n_outputs, -1)
    return np.concatenate([x, np.linalg.norm(w, axis=1)])


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("kind", MODELS)
def test_steps_are_those_of_the_paper(kind, storage):
    x0 = np.random.default_rng(1).standard_normal(made(kind, X).n)
    data, model = storage(X), made(kind, storage(X))
    for rule, method in ((naive.sgd, "sgd"), (naive.adam, "adam")):
        for size in (None, 1, 16):
            u, s, t = start(model, x0), {}, 0
            for epoch in range(2 if size else 5):
                order = epoch_order(120, 3, epoch) if size else np.arange(120)
                for first in range(0, 120, size or 120):
                    part = made(kind, data, order[first : first + (size or 120)])
                    w, chain = split(model, u)
                    t += 1
                    u = rule(u, chain(part.value_and_grad(w)[1]), s, t, 0.05)
            options = {"lr": 0.05, "weight_norm": True, "seed": 3, "history": False}
            options |= {"batch_size": size, "epochs": 2} if size else {"maxiter": 5, "gtol": 0}
            res = no.minimize(model, x0, method=method, options=options)
            np.testing.assert_allclose(res.run.x, u, rtol=1e-8, atol=1e-10)
            if size:  # else the best point is returned
                np.testing.assert_allclose(res.x, split(model, u)[0], rtol=1e-8, atol=1e-10)
            np.testing.assert_allclose(res.fun, model.value(res.x), rtol=1e-12)
            np.testing.assert_allclose(res.jac, model.value_and_grad(res.x)[1], rtol=1e-12)


def test_the_optimum_is_the_models_own():
    model = no.LinearModel(X, Y, l2=0.1)
    best = np.linalg.solve(np.c_[X, np.ones(120)].T @ np.c_[X, np.ones(120)] / 120 + np.diag([0.1] * 7 + [0]),
                           np.c_[X, np.ones(120)].T @ Y / 120)  # fmt: skip
    res = no.minimize(model, method="nesterov", options={"lr": 0.05, "weight_norm": True, "gtol": 1e-9})
    assert res.success
    np.testing.assert_allclose(res.x, best, atol=1e-8)
    rough = no.LinearModel(X.astype(np.float32), Y, l2=0.1)
    res = no.minimize(rough, method="adam", options={"lr": 0.02, "weight_norm": True, "batch_size": 8, "epochs": 60})
    assert res.x.dtype == np.float32
    assert res.x.shape == (8,)
    np.testing.assert_allclose(res.x, best, atol=0.05)


def test_where_all_coefficients_are_zero_the_direction_is_that_of_steepest_descent():
    for kind in MODELS:
        model = made(kind, X)
        u = WeightNorm(model).start(np.zeros(model.n))
        slope = model.value_and_grad(np.zeros(model.n))[1][: model.n_penalised].reshape(model.n_outputs, -1)
        np.testing.assert_allclose(u[: model.n_penalised].reshape(slope.shape),
                                   -slope / np.linalg.norm(slope, axis=1, keepdims=True), rtol=1e-12)  # fmt: skip
        np.testing.assert_array_equal(u[model.n_penalised :], 0)
    flat = no.LinearModel(np.array([[1.0], [-1.0]]), np.array([1.0, 1.0]))  # a slope of zero
    res = no.minimize(flat, method="sgd", options={"weight_norm": True, "lr": 0.5})
    assert res.success
    np.testing.assert_allclose(res.x, [0, 1], atol=1e-4)


def test_other_options_see_the_models_unknowns(tmp_path):
    train, held_out = (no.LinearModel(X[part], LABELS[part], loss="logistic") for part in (slice(80), slice(80, None)))
    seen = []
    options = {"lr": 0.1, "batch_size": 8, "epochs": 12, "weight_norm": True, "validation": held_out, "average": "ema",
               "ema_decay": 0.9}  # fmt: skip
    once = no.minimize(train, method="adam", callback=lambda x: seen.append(x.copy()), options=options)
    scores = [held_out.value(x) for x in seen]
    np.testing.assert_allclose(-once.history.score[1:], scores, rtol=1e-12)
    np.testing.assert_allclose(held_out.value(once.x), min(scores), rtol=1e-12)
    path = tmp_path / "run.npz"
    no.minimize(train, method="adam", options={**options, "epochs": 5, "checkpoint": path})
    same(no.resume(path, train, options={"epochs": 12, "validation": held_out}), once)
    half = no.minimize(train, method="adam", options={"batch_size": 8, "epochs": 1, "weight_norm": True,
                                                      "shuffle": False})  # fmt: skip
    whole = no.minimize(train, method="adam", options={"batch_size": 8, "epochs": 2, "weight_norm": True,
                                                       "shuffle": False})  # fmt: skip
    more = no.minimize(train, method="adam", options={"batch_size": 8, "epochs": 1, "weight_norm": True,
                                                      "shuffle": False, "run": half.run})  # fmt: skip
    np.testing.assert_array_equal(more.run.x, whole.run.x)


def test_what_is_not_finite_ends_the_run():
    model = no.LinearModel(X, Y)
    res = no.minimize(model, np.full(8, 1e200), method="sgd", options={"weight_norm": True, "maxiter": 5})
    assert res.status == 2
    res = no.minimize(model, method="sgd", options={"weight_norm": True, "lr": 1e30, "batch_size": 8})
    assert res.status == 2
    assert np.isfinite(res.x).all()


def test_what_it_excludes_is_named():
    model, true = no.LinearModel(X, Y), {"weight_norm": True}
    for problem, method, options, match in (
        (no.LinearModel(X, Y, l1=0.1), "adam", {}, "weight_norm=True: l1=0.1"),
        (model, "adam", {"max_norm": 1.0}, "weight_norm=True is not possible with max_norm"),
        (model, "adam", {"batch_size": 8, "lazy_update": True}, "weight_norm=True is not possible with lazy_update"),
        (model, "newton", {}, "weight_norm=True needs a first-order rule, not Newton"),
        (model, "lbfgs", {}, "weight_norm=True needs a first-order rule, not"),
        (model, "saga", {}, "weight_norm=True needs a first-order rule, not"),
        (model, "L-BFGS-B", {}, "weight_norm=True needs a first-order rule, not LBFGSB"),
        (model, "SLSQP", {}, "weight_norm=True needs a first-order rule such as method='adam', not 'SLSQP'"),
        (model, "auto", {}, "weight_norm=True needs a first-order rule"),
    ):
        with pytest.raises(ValueError, match=match):
            no.minimize(problem, method=method, options={**true, **options})
    with pytest.raises(ValueError, match="weight_norm=True is not possible with bounds"):
        no.minimize(model, method="adam", bounds=[(0, 1)] * 8, options=true)
    with pytest.raises(ValueError, match="weight_norm=True needs a LinearModel, not the function '<lambda>'"):
        no.minimize(lambda x: (x**2).sum(), np.ones(2), method="adam", options=true)


def test_the_gradient_of_an_interrupted_run_is_the_models_own():
    model = no.LinearModel(X, CLASSES, "multinomial", l2=0.1)

    def stop(x):
        if len(seen.append(x) or seen) == 3:
            raise KeyboardInterrupt

    seen = []
    with pytest.raises(KeyboardInterrupt) as stopped:
        no.minimize(model, method="sgd", callback=stop, options={"weight_norm": True, "lr": 0.3})
    result = stopped.value.result
    np.testing.assert_allclose(result.jac, model.value_and_grad(seen[-1])[1], atol=1e-12)
