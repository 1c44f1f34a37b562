"""The curve of objectives against rates."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numba
import numpy as np
import pytest
from problems import table

import numbaopt as no
from numbaopt.plotting import lr_curve


@numba.njit
def steep(x, a):
    return 0.5 * a * x[0] ** 2


def test_the_curve_of_gradient_descent_is_known():
    rates = np.geomspace(1e-4, 1, 13)
    curve = no.lr_finder(steep, [4.0], "gd", (10.0,), rates=rates, steps=7)
    np.testing.assert_allclose(curve.objectives, 80 * (1 - 10 * rates) ** 14, rtol=1e-8, atol=1e-25)
    assert curve.start == 80.0
    assert curve.suggestion == pytest.approx(0.1)


def test_divergence_is_nan_and_nothing_is_suggested_where_nothing_helps():
    curve = no.lr_finder(steep, [4.0], no.SGD(), (1e12,), rates=[1e-3, 1e2], steps=60)
    assert np.isnan(curve.objectives).all()
    assert np.isnan(curve.suggestion)


@pytest.mark.parametrize("method", ["adam", no.Momentum()])
def test_models_in_minibatches(method):
    X, y, _ = table()
    model = no.LinearModel(X, y)
    curve = no.lr_finder(model, None, method, rates=[1e-4, 1e-2], steps=20, options={"batch_size": 16, "seed": 3})
    opt = no.Adam if method == "adam" else no.Momentum
    for rate, fun in zip(curve.rates, curve.objectives, strict=True):
        alone = no.minimize(model, method=opt(lr=rate), options={"batch_size": 16, "seed": 3, "maxiter": 20})
        assert fun == alone.fun
    assert curve.start == model.value(np.zeros(model.n))
    assert curve.suggestion == 1e-2


def test_misuse():
    with pytest.raises(ValueError, match="method='lbfgs' has no learning rate"):
        no.lr_finder(steep, [1.0], "lbfgs", (1.0,))
    for rates in ([], [0.0, 1.0], [[1.0]], [np.inf]):
        with pytest.raises(ValueError, match="rates must be a vector of positive numbers"):
            no.lr_finder(steep, [1.0], "gd", (1.0,), rates=rates)
    with pytest.raises(ValueError, match="curves is empty"):
        lr_curve({})


def test_the_picture_shows_curves_and_suggestions():
    curves = {name: no.lr_finder(steep, [4.0], name, (9.0,), rates=np.geomspace(1e-4, 1, 13), steps=7)
              for name in ("gd", "adam")}  # fmt: skip
    ax = lr_curve(curves)
    ax.figure.canvas.draw()
    lines = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    for name, curve in curves.items():
        np.testing.assert_array_equal(lines[name].get_ydata(), curve.objectives)
        dots = [line for line in ax.lines if line.get_marker() == "o" and line.get_xdata()[0] == curve.suggestion]
        assert [dot.get_ydata()[0] for dot in dots] == [curve.objectives.min()]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    single = lr_curve(curves["gd"])
    assert single.get_xlabel() == "learning rate"
    assert "Examples" in lr_curve.__doc__
    plt.close("all")


@pytest.mark.parametrize("least", [1.0, 90.0, -3.0])
def test_rates_that_explode_do_not_squeeze_what_matters(least):
    """All of the picture is for what lies between the start and the least objective."""
    curve = no.lr_finder(steep, [1.0], "gd", (1.0,), rates=[0.1, 1.0], steps=1)
    objectives = np.array([100.0, least, 1e150, np.nan])
    ax = lr_curve(curve._replace(rates=np.geomspace(1e-3, 1, 4), objectives=objectives, start=100.0, suggestion=1e-2))
    bottom, top = (ax.transData.inverted().transform(ax.transAxes.transform((0, height)))[1] for height in (0, 1))
    if ax.get_yscale() == "log":
        least, start, bottom, top = np.log([least, 100.0, bottom, top])
    else:
        start = 100.0
    assert bottom < least < start < top
    assert start - least > 0.7 * (top - bottom)
    plt.close("all")
