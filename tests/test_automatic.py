"""Rates that nobody told: found, reported, lowered after a blow-up; the same bits however a run is cut."""

import numba
import numpy as np
import pytest
from problems import bowl, rosen, rosen_grad, same, table

import numbaopt as no
from numbaopt import run as driver
from numbaopt.schedules import Automatic
from numbaopt.status import NO_PROGRESS


@numba.njit
def scaled(x, a, c):
    """A bowl of any curvature, with any constant."""
    return a * ((x - 3.0) ** 2).sum() + c


@numba.njit
def scaled_grad(x, a, c):
    return 2.0 * a * (x - 3.0)


@numba.njit
def walled(x):
    """NaN beyond 1, a minimum near it: long steps fall off."""
    return (x[0] - 0.9) ** 2 if x[0] < 1.0 else np.nan


@numba.njit
def walled_grad(x):
    return 2.0 * (x - 0.9)


@pytest.mark.parametrize("curvature", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("method", ["gd", "adam"])
def test_the_rate_follows_the_scale_of_the_problem(method, curvature):
    res = no.minimize(scaled, np.zeros(2), (curvature, 0.0), method, scaled_grad, tol=1e-4 * curvature)
    assert res.success
    np.testing.assert_allclose(res.x, 3.0, atol=1e-3)
    if method == "gd":
        assert 0.05 < 2 * curvature * res.lr < 2.0  # between too slow and unstable
    else:
        assert 1e-6 < res.lr < 20.0
    assert res.nfev == res.njev > res.nit  # what the range test evaluates counts


def test_a_constant_added_to_the_objective_changes_little():
    plain, moved = (no.minimize(scaled, np.zeros(2), (1.0, c), "adam", scaled_grad) for c in (0.0, 1e3))
    assert plain.success
    assert moved.success
    assert abs(plain.nit - moved.nit) <= 0.2 * plain.nit


def test_who_gets_it():
    def rate_of(fun=bowl, x0=(0.0,), method="adam", **options):
        return no.minimize(fun, x0, method=method, options={"maxiter": 3, **options}).lr

    X, y, _ = table()
    model = no.LinearModel(X, y)
    found = rate_of()
    assert found == pytest.approx(10.0)
    assert found == rate_of(method=no.Adam(), lr=None) == rate_of(lr=Automatic())
    assert found == rate_of(method=no.transforms.chain(no.transforms.ClipByNorm(9.0), no.Adam()), lr=None)
    assert rate_of(method=no.Adam()) == rate_of(method=no.Adam) == 0.001
    assert rate_of(lr=0.5) == 0.5
    assert rate_of(validation=lambda x: 0.0) == 0.001
    assert rate_of(model, None) == 0.001
    assert rate_of(model, None, batch_size=8) == rate_of(model, None, batch_size=8, lr=None) == 0.001
    assert rate_of(model, None, lr=None) > 0.1
    with pytest.raises(ValueError, match=r"^lr=Automatic.* needs the whole objective"):
        rate_of(model, None, batch_size=8, lr=Automatic())
    with pytest.raises(ValueError, match="follows the objective"):
        no.step(no.Adam(lr=Automatic()), np.ones(1), np.ones(1), np.zeros((2, 1)), 1)


def test_after_a_blow_up_the_best_point_and_a_smaller_rate():
    res = no.minimize(walled, [-5.0], method="momentum", jac=walled_grad)
    assert res.success
    assert abs(res.x[0] - 0.9) < 1e-4
    assert np.isnan(res.history.fun).any()  # trials fell off
    assert np.isfinite(res.fun)


def test_what_cannot_start_and_what_cannot_go_on():
    start = no.minimize(walled, [2.0], method="adam", jac=walled_grad)
    assert (start.status, start.nit) == (2, 0)
    uphill = no.minimize(bowl, [0.0], method="gd", jac=lambda x: -2.0 * (x - 3.0), options={"maxiter": 50_000})
    assert uphill.status == NO_PROGRESS
    assert (uphill.x[0], uphill.fun) == (0.0, 9.0)  # never worse than the start


@pytest.mark.parametrize("size", [1, 7])
def test_slices_and_callbacks_change_no_bit(monkeypatch, size):
    once = no.minimize(rosen, [-1.2, 1.0], method="adam", jac=rosen_grad)
    assert once.success
    monkeypatch.setattr(driver, "MAX_SLICE", size)
    monkeypatch.setattr(driver, "_SLICES", {})
    same(no.minimize(rosen, [-1.2, 1.0], method="adam", jac=rosen_grad), once)
    same(no.minimize(rosen, [-1.2, 1.0], method="adam", jac=rosen_grad, callback=lambda x: None), once)


@pytest.mark.parametrize("cut", [1, 29, 30, 31, 333, 2000])
def test_resumed_from_anywhere(tmp_path, cut):
    path = tmp_path / "run.npz"
    once = no.minimize(rosen, [-1.2, 1.0], method="rmsprop", jac=rosen_grad, options={"maxiter": 4000})
    no.minimize(rosen, [-1.2, 1.0], method="rmsprop", jac=rosen_grad, options={"maxiter": cut, "checkpoint": path})
    same(no.resume(path, rosen, jac=rosen_grad, options={"maxiter": 4000}), once)


def test_a_run_taken_over_keeps_its_kind_of_rate():
    first = no.minimize(rosen, [-1.2, 1.0], method="adam", jac=rosen_grad, options={"maxiter": 1000})
    second = no.minimize(rosen, first.x, method="adam", jac=rosen_grad, options={"run": first.run, "maxiter": 5000})
    assert second.nit > 1000
    assert second.fun <= first.fun
    told = no.minimize(bowl, [0.0], method=no.Adam(lr=0.1), options={"maxiter": 5})
    assert no.minimize(bowl, [0.0], method="adam", options={"maxiter": 5, "run": told.run}).lr == 0.001


def test_many_problems_and_bounds():
    starts = np.linspace(-2, 2, 9)[:, None] * np.ones(2)
    bounds = [(-1.5, 1.5), (-1.0, 0.5)]
    res = no.minimize_many(rosen, starts, method="adam", jac=rosen_grad, bounds=bounds, options={"maxiter": 3000})
    for i in (0, 4, 8):
        one = no.minimize(rosen, starts[i], method="adam", jac=rosen_grad, bounds=bounds, options={"maxiter": 3000})
        np.testing.assert_array_equal(res.x[i], one.x)
        assert (res.fun[i], res.nit[i]) == (one.fun, one.nit)
    np.testing.assert_allclose(res.x[8], [0.7088, 0.5], atol=2e-3)


def test_float32():
    res = no.minimize(no.LinearModel(*(a.astype(np.float32) for a in table()[:2])), method="adam",
                      options={"lr": None, "maxiter": 3000, "gtol": 1e-3})  # fmt: skip
    assert res.x.dtype == np.float32
    assert res.success
