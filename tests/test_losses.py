"""Losses: each one against the textbook, without overflow, in every loop; and how a user's own becomes one."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import expit, logsumexp

import numbaopt as no
from numbaopt import _math
from numbaopt._jit import jit
from numbaopt.losses import LOSSES, _loss, as_loss

NAMES = sorted({cls.names[0] for cls in LOSSES.values()})
SCALAR = [name for name in NAMES if name != "multinomial"]


def naive(name, z, y):
    """Value, slope and curvature from the definitions; None where there is no curvature."""
    r, m = z - y, z * y
    return {
        "squared": lambda: (r * r / 2, r, 1 + 0 * r),
        "huber": lambda: (np.where(abs(r) <= 1.35, r * r / 2, 1.35 * (abs(r) - 1.35 / 2)), np.clip(r, -1.35, 1.35),
                          1.0 * (abs(r) <= 1.35)),
        "epsilon_insensitive": lambda: (np.maximum(abs(r) - 0.1, 0), np.sign(r) * (abs(r) > 0.1), None),
        "quantile": lambda: (np.maximum(-0.5 * r, 0.5 * r), 0.5 * np.sign(r), None),
        "logistic": lambda: (np.logaddexp(0, -m), -y * expit(-m), expit(m) * expit(-m)),
        "hinge": lambda: (np.maximum(1 - m, 0), -y * (m < 1), None),
        "squared_hinge": lambda: (np.maximum(1 - m, 0) ** 2, -2 * y * np.maximum(1 - m, 0), 2.0 * (m < 1)),
        "poisson": lambda: (np.exp(z) - m, np.exp(z) - y, np.exp(z)),
        "gamma": lambda: (z + y * np.exp(-z), 1 - y * np.exp(-z), y * np.exp(-z)),
    }[name]()  # fmt: skip


def targets(name, z, rng):
    """Targets of the kind a loss takes."""
    makes = {"numbers": lambda: z + rng.standard_normal(z.size), "nonnegative": lambda: rng.poisson(np.exp(z)),
             "positive": lambda: rng.gamma(2.0, np.exp(z)), "classes": lambda: np.digitize(z, [-0.7, 0.7]),
             "two classes": lambda: np.where(z + rng.standard_normal(z.size) > 0, 1.0, -1.0)}  # fmt: skip
    return np.asarray(makes[LOSSES[name].takes](), float)


@pytest.mark.parametrize("name", SCALAR)
def test_functions_are_the_textbooks(name):
    rng, cls = np.random.default_rng(0), LOSSES[name]
    z = np.r_[rng.standard_normal(50) * 3, 0.0]
    y = targets(name, z, rng)
    c = tuple(map(np.float64, _loss.constants(cls())))
    value, slope, curvature = naive(name, z, y)
    np.testing.assert_allclose([cls.value(c, *pair) for pair in zip(z, y, strict=True)], value, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose([cls.slope(c, *pair) for pair in zip(z, y, strict=True)], slope, rtol=1e-13, atol=1e-15)
    assert (curvature is not None) == hasattr(cls, "curvature")
    if curvature is not None:
        told = [cls.curvature(c, *pair) for pair in zip(z, y, strict=True)]
        np.testing.assert_allclose(told, curvature, rtol=1e-12, atol=1e-15)
        if math.isfinite(_loss.lipschitz(cls())):
            assert curvature.max() <= _loss.lipschitz(cls()) + 1e-12


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_objective_and_gradient(name, storage, dtype):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((300, 5)).astype(dtype)
    X[abs(X) < 0.4] = 0
    y = targets(name, X.astype(float) @ np.linspace(-1, 1, 5), rng)
    weights = rng.random(300)
    model = no.LinearModel(storage(X), y, loss=name, l1=0.02, l2=0.3, sample_weight=weights, intercept_l2=0.1)
    x = rng.standard_normal(model.n) * 0.3
    coef, intercept = model.split(x)
    z = X.astype(float) @ np.atleast_2d(coef).T + intercept
    if name == "multinomial":
        p, hot = np.exp(z - logsumexp(z, axis=1)[:, None]), np.eye(3)[y.astype(int)]
        value, slope = logsumexp(z, axis=1) - (z * hot).sum(1), p - hot
    else:
        value, slope, _ = naive(name, z[:, 0], y)
        slope = slope[:, None]
    bent = (weights[:, None] * slope).T @ X / 300
    g = np.r_[bent.ravel() + 0.3 * np.ravel(coef), (weights[:, None] * slope).mean(0) + 0.1 * np.atleast_1d(intercept)]
    fun = (np.mean(weights * value) + 0.15 * np.sum(coef**2) + 0.02 * np.abs(coef).sum()
           + 0.05 * np.sum(np.square(intercept)))  # fmt: skip
    told, told_g = model.value_and_grad(x)
    tol = 1e-12 if dtype == np.float64 else 3e-5
    np.testing.assert_allclose(told, fun, rtol=tol)
    np.testing.assert_allclose(told_g, g, rtol=tol, atol=tol)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1e3, 1e30, 1e300])
def test_no_overflow_for_any_margin(name, size):
    y = [1.0, 2.0] if LOSSES[name].takes not in ("two classes", "classes") else [0, 1]
    for sign in (1.0, -1.0):
        model = no.LinearModel([[size], [0.0]], y, loss=name, fit_intercept=False)
        x = np.full(model.n, sign)
        with np.errstate(all="raise"):
            value, g = model.value_and_grad(x)
        assert not np.isnan(value)
        assert not np.isnan(g).any()
        cls, c = LOSSES[name], tuple(map(np.float64, _loss.constants(as_loss(name))))
        if name not in ("multinomial", "squared", "squared_hinge"):  # whose value may be beyond all numbers
            assert math.isfinite(float(cls.value(c, np.float64(sign * size), np.float64(1.0))))
            assert math.isfinite(float(cls.slope(c, np.float64(sign * size), np.float64(1.0))))


def test_exponentials():
    @jit
    def both(x, e, u, f):
        for i in range(x.size):
            e[i] = _math.exp(x[i])
        for i in range(u.size):
            f[i] = _math.log1p(u[i])

    u, f = np.linspace(0, 1, 10_001), np.empty(10_001)
    for dtype, low, high in ((np.float64, -700, 709), (np.float32, -86, 88)):
        x = np.linspace(low, high, 100_001).astype(dtype)
        e = np.empty_like(x)
        both(x, e, u, f)
        np.testing.assert_allclose(e, np.exp(x.astype(np.longdouble)), rtol=np.finfo(dtype).eps)
        x = np.array([np.nan, np.inf, -np.inf, 0, 1e38, -1e38], dtype)
        e = np.empty_like(x)
        both(x, e, u, f)
        assert np.isnan(e[0])
        assert (e[[1, 4]] > np.finfo(dtype).max / 2).all()
        assert np.isfinite(e[1:]).all()
        assert (e[[2, 5]] < 1e-37).all()
        assert e[3] == 1
    np.testing.assert_allclose(f, np.log1p(u), rtol=5e-16)
    assert _math.exp(np.float32(1e9)) < np.inf
    assert _math.log1p(1.0) == math.log(2)


def test_a_loss_of_ones_own_gets_every_loop():
    @no.losses.loss
    class Cauchy(NamedTuple):
        scale: float = 1.0

        def value(c, z, y):
            return math.log(1.0 + ((z - y) / c[0]) ** 2)

        def slope(c, z, y):
            return 2.0 * (z - y) / (c[0] ** 2 + (z - y) ** 2)

    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 2))
    y = X @ [1.0, -2.0] + 0.1 * rng.standard_normal(400)
    y[::10] += 50
    try:
        for stored in (X, sp.csr_array(X)):
            model = no.LinearModel(stored, y, loss=Cauchy(scale=0.5))
            whole = no.minimize(model, method="lbfgs", tol=1e-8)
            options = {"lr": no.schedules.Cosine(0.1, steps=1000), "epochs": 80, "batch_size": 32}
            batches = no.minimize(model, method="adam", options=options)
            np.testing.assert_allclose(whole.x, [1, -2, 0], atol=0.05)
            np.testing.assert_allclose(batches.x, whole.x, atol=0.02)
            with pytest.raises(ValueError, match=r"needs a LinearModel .* curvature\(c, z, y\)"):
                no.minimize(model, method="newton")
    finally:
        del LOSSES["cauchy"]


@pytest.mark.parametrize(("broken", "method"), [("value", "lbfgs"), ("slope", "adam"), ("curvature", "newton"),
                                                ("implicit_slope", "sdca")])  # fmt: skip
def test_a_function_that_does_not_compile_is_named(broken, method):
    functions = {"value": lambda c, z, y: (z - y) ** 2 / 2, "slope": lambda c, z, y: z - y,
                 "curvature": lambda c, z, y: 1.0, "implicit_slope": lambda c, z, y, q: (z - y) / (1 + q)}  # fmt: skip
    strange = {"value": lambda c, z, y: (z - y) ** 2 / 2 * len({"a": z}.get(2, "1")),  # no dictionary for Numba
               "slope": lambda c, z, y: (z - y) * len({"a": z}.get(2, "1")),
               "curvature": lambda c, z, y: 1.0 * len({"a": z}.get(2, "1")),
               "implicit_slope": lambda c, z, y, q: (z - y) / (1 + q) * len({"a": z}.get(2, "1"))}  # fmt: skip
    kind = type("Own", (NamedTuple("Own", []),), {**functions, broken: strange[broken]})
    try:
        model = no.LinearModel([[1.0], [2.0]], [1.0, 3.0], loss=no.losses.loss(kind)(), l2=0.1)
        with pytest.raises(TypeError, match=rf"^Own\.{broken} cannot be compiled by Numba: .+") as told:
            no.minimize(model, method=method)
        assert "\n" not in str(told.value)
    finally:
        LOSSES.pop("own", None)


def test_what_is_no_loss_is_told():
    for given, match in (("squard", "did you mean 'squared'"), (3, "neither a name nor a loss"),
                         (no.Adam(), "neither a name nor a loss")):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            no.LinearModel([[1.0]], [1.0], loss=given)
    with pytest.raises(ValueError, match=r"Huber\(delta=0\): delta must be in \(0, inf\)"):
        no.losses.Huber(delta=0)
    with pytest.raises(TypeError, match="has no 'slope'"):
        no.losses.loss(type("Half", (NamedTuple("Half", []),), {"value": lambda c, z, y: z}))
    for name, y, match in (("poisson", [1, -1], "out of the valid range of the loss 'poisson': -1 < 0"),
                           ("gamma", [1, 0], "out of the valid range of the loss 'gamma': 0 <= 0"),
                           ("multinomial", [0.5, 1.5], "Unknown label type: continuous"),
                           ("multinomial", [1, 1], "only one class: .*1"),
                           ("hinge", [0, 1, 2], "Unknown label type: multiclass")):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            no.LinearModel(np.arange(len(y))[:, None], y, loss=name)


def test_classes_may_be_told():
    X = np.arange(4.0)[:, None]
    model = no.LinearModel(X, ["b", "b", "a", "a"], loss="multinomial", classes=["a", "b", "c"])
    assert (model.n_outputs, model.n, list(model.classes)) == (3, 6, ["a", "b", "c"])
    np.testing.assert_array_equal(model.y, [1, 1, 0, 0])
    one = no.LinearModel(X, [1, 1, 1, 1], loss="logistic", classes=[0, 1])
    np.testing.assert_array_equal(one.y, 1)
    with pytest.raises(ValueError, match="previously unseen labels"):
        no.LinearModel(X, [0, 1, 2, 0], loss="logistic", classes=[0, 1])
    coef, intercept = model.split(np.arange(6.0))
    np.testing.assert_array_equal(coef, [[0], [1], [2]])
    np.testing.assert_array_equal(model.join(coef, intercept), np.arange(6.0))


def test_a_wrong_slope_is_told_at_the_door():
    with pytest.raises(ValueError, match=r"Wrong.slope is not the derivative of its value: at z=0.3137, y=1"):

        @no.losses.loss
        class Wrong(NamedTuple):
            def value(c, z, y):
                return (z - y) ** 2

            def slope(c, z, y):
                return z - y

    assert "wrong" not in LOSSES
