"""Many starts, distinct minima, how often each is found."""

import itertools

import numba
import numpy as np
import pytest
from scipy.optimize import Bounds

import numbaopt as no


@numba.njit
def six_hump_camel(x):
    a, b = x[0], x[1]
    return (4 - 2.1 * a**2 + a**4 / 3) * a**2 + a * b + (-4 + 4 * b**2) * b**2


@numba.njit
def rastrigin(x, steepness):
    total = steepness * x.size
    for i in range(x.size):
        total += x[i] ** 2 - steepness * np.cos(2 * np.pi * x[i])
    return total


CAMEL = [(0.0898420, -0.7126564, -1.0316285), (-0.0898420, 0.7126564, -1.0316285), (1.7036067, -0.7960836, -0.2154638),
         (-1.7036067, 0.7960836, -0.2154638), (1.6071048, 0.5686515, 2.1042503),
         (-1.6071048, -0.5686515, 2.1042503)]  # fmt: skip


def test_six_hump_camel_has_six():
    res = no.multistart(six_hump_camel, [(-3, 3), (-2, 2)], 128, tol=1e-8)
    assert res.success
    assert res.minima.shape == (6, 2)
    assert res.counts.sum() == res.runs.success.sum() > 120
    assert (np.diff(res.funs) >= 0).all()
    found = np.column_stack([res.minima, res.funs])
    for known in CAMEL:
        assert np.abs(found - known).max(1).min() < 1e-5
    assert (res.x == res.minima[0]).all()
    assert res.fun == res.funs[0] == six_hump_camel(res.x)
    assert res.nfev == res.runs.nfev.sum()


def test_rastrigin_with_arguments():
    res = no.multistart(rastrigin, Bounds([-2.4, -2.4], [2.4, 2.4]), 512, (10.0,), tol=1e-6)
    np.testing.assert_allclose(res.x, 0.0, atol=1e-6)
    # the local minima solve 2 x + 20 pi sin(2 pi x) = 0, near the integers, in each coordinate on its own
    near = np.array([-1.98991223, -0.99495864, 0.0, 0.99495864, 1.98991223])
    grid = np.array(list(itertools.product(near, near)))
    inside = res.minima[(np.abs(res.minima) < 2.3).all(1)]  # at the edge of the box are others
    np.testing.assert_allclose(sorted(inside.round(4).tolist()), sorted(grid.round(4).tolist()), atol=2e-4)
    assert f"{len(res.minima)} distinct minima from" in res.message


def test_the_same_seed_gives_the_same_bits():
    a, b, c = (no.multistart(six_hump_camel, [(-3, 3), (-2, 2)], 20, seed=seed) for seed in (1, 1, 2))
    for name in ("starts", "minima", "funs", "counts"):
        np.testing.assert_array_equal(a[name], b[name])
    assert (a.starts != c.starts).any()
    assert a.starts.shape == (20, 2)
    assert (np.abs(a.starts) <= [3, 2]).all()


def test_tolerances_say_what_is_the_same():
    one = no.multistart(six_hump_camel, [(-3, 3), (-2, 2)], 64, xtol=1.0, ftol=10.0)
    assert len(one.minima) == 1
    assert one.counts[0] == one.runs.success.sum()
    none = no.multistart(six_hump_camel, [(-3, 3), (-2, 2)], 64, tol=0.0, options={"maxiter": 1})
    assert len(none.minima) == 0
    assert not none.success
    assert none.fun == none.runs.fun.min()


def test_a_first_order_rule_polishes_too():
    res = no.multistart(six_hump_camel, [(-3, 3), (-2, 2)], 32, method="adam")
    assert len(res.minima) >= 2
    assert res.counts.sum() == 32
    assert abs(res.fun + 1.0316285) < 1e-6


@pytest.mark.parametrize(("bounds", "message"), [
    (None, "bounds are needed"), ([], "bounds are needed"), ([(0, 1), (0, None)], "those of component 1 are not"),
    ([(None, None)], "bounds must be finite"), ([(1, 0)], "exceeds the upper one")])  # fmt: skip
def test_bounds_must_be_finite(bounds, message):
    with pytest.raises(ValueError, match=message):
        no.multistart(six_hump_camel, bounds)
    with pytest.raises(ValueError, match="n_starts=0 must be at least 1"):
        no.multistart(six_hump_camel, [(0, 1), (0, 1)], 0)
