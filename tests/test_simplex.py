"""Nelder and Mead's simplex: SciPy's steps."""

import numba
import numpy as np
import pytest
import scipy.optimize
from problems import rosen, same

import numbaopt as no


@numba.njit
def kinks(x):
    total = 0.0
    for i in range(x.size):
        total += abs(x[i] - 0.3 * i) * (1.0 + i)
    return total


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize(("fun", "n"), [(rosen, 2), (kinks, 1), (kinks, 4)], ids=["rosen", "kink", "kinks"])
@pytest.mark.parametrize("bounds", [None, (-0.5, 0.4)])
def test_steps_are_scipys(fun, n, adaptive, bounds):
    x0 = np.resize([-1.2, 1.0, 0.0], n)
    box = None if bounds is None else [bounds] * n
    options = {"adaptive": adaptive, "maxiter": 60}
    mine = no.minimize(fun, x0, method="Nelder-Mead", bounds=box, options=options)
    x0 = x0 if bounds is None else np.clip(x0, *bounds)
    theirs = scipy.optimize.minimize(fun, x0, method="Nelder-Mead", bounds=box, options={**options, "maxiter": 61})
    np.testing.assert_allclose(mine.x, theirs.x, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(mine.fun, theirs.fun, rtol=1e-7, atol=1e-12)
    assert abs(mine.nfev - theirs.nfev) <= 2
    assert abs(mine.nit - (theirs.nit - 1)) <= 1  # SciPy begins to count at one; ties may be broken by rounding
    assert sorted(set(dir(theirs)) - {"allvecs"} - set(dir(mine))) == []
    np.testing.assert_allclose(mine.final_simplex[1], np.sort(mine.final_simplex[1]))


def test_no_gradient_is_asked_for_and_slices_change_no_bit():
    def opaque(x):
        return float(str(abs(x[0] - 1) + abs(x[1] + 2)))

    with pytest.warns(RuntimeWarning, match="runs from Python"):
        res = no.minimize(opaque, [0.0, 0.0], method="nelder-mead", tol=1e-6)
    assert res.success
    assert "simplex" in res.message
    assert "jac" not in res
    np.testing.assert_allclose(res.x, [1, -2], atol=1e-5)
    whole = no.minimize(kinks, np.ones(3), method="nelder-mead")
    points = []
    cut = no.minimize(kinks, np.ones(3), method="nelder-mead", callback=points.append)
    whole.jac = cut.jac = 0
    whole.njev = cut.njev = 0
    same(whole, cut)
    assert len(points) == cut.nit


def test_limits():
    limited = no.minimize(rosen, [-1.2, 1.0], method="nelder-mead", options={"maxfev": 30})
    assert limited.status == 1
    assert limited.nfev == 30
    assert no.minimize(rosen, [-1.2, 1.0], method="nelder-mead", options={"maxiter": 7}).nit == 7
    long = no.minimize(kinks, np.ones(8), method="nelder-mead", options={"maxiter": 100_000}, tol=1e-10)
    assert long.nfev > 200 * 8  # one limit lifts the other
    given = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    res = no.minimize(rosen, [0.0, 0.0], method="nelder-mead", options={"initial_simplex": given})
    assert res.nfev > 10  # SciPy's own
    nowhere = no.minimize(lambda x: np.nan * x[0], [1.0], method="nelder-mead")
    assert nowhere.status == 2
    many = no.minimize_many(lambda x, a: abs(x[0] - a), np.zeros((5, 1)), np.arange(5.0), True, "nelder-mead")
    np.testing.assert_allclose(many.x[:, 0], np.arange(5.0), atol=1e-3)


def test_evaluations_end_where_scipys_do():
    """At exactly maxfev, anywhere in a step; what the step that is cut has found is kept, which SciPy does not."""
    values, calls = np.random.default_rng(5).random(200), []

    def drawn(x):  # so that all kinds of steps occur, many of them shrinking
        calls.append(x.copy())
        return values[len(calls) - 1]

    better = 0
    for most in (*range(1, 60), 150):
        calls.clear()
        mine = no.minimize(drawn, np.ones(3), method="nelder-mead", options={"maxfev": most, "jit": False})
        points = np.array(calls)
        assert len(points) == mine.nfev == most
        assert mine.status == 1
        assert "evaluations" in mine.message
        np.testing.assert_array_equal(mine.x, points[np.flatnonzero(values == mine.fun)[0]])
        calls.clear()
        theirs = scipy.optimize.minimize(drawn, np.ones(3), method="nelder-mead", options={"maxfev": most})
        np.testing.assert_allclose(points, calls, rtol=1e-12)
        assert mine.fun <= theirs.fun
        better += mine.fun < theirs.fun
    assert better > 0


def test_interrupted_anywhere_it_goes_on_bit_for_bit(tmp_path):
    def interrupted(x):
        calls[0] += 1
        if calls == [calls[1], calls[1]]:
            raise RuntimeError
        return kinks.py_func(x)

    path, options, calls = tmp_path / "run.npz", {"jit": False, "maxiter": 60}, [0, -1]
    once = no.minimize(interrupted, np.ones(3), method="nelder-mead", options=options)
    for when in range(5, 60, 6):
        calls[:] = 0, when
        with pytest.raises(RuntimeError):
            no.minimize(interrupted, np.ones(3), method="nelder-mead", options={**options, "checkpoint": path})
        res = no.resume(path, interrupted, options={"jit": False})
        np.testing.assert_array_equal(res.x, once.x)
        assert (res.nit, res.fun) == (once.nit, once.fun)


def test_options_of_other_methods_are_told(capsys):
    with pytest.warns(scipy.optimize.OptimizeWarning, match="'gtol' has no effect on NelderMead"):
        no.minimize(kinks, np.ones(2), method="nelder-mead", options={"gtol": 1.0})
    no.minimize(kinks, np.ones(2), method="nelder-mead", options={"disp": True})
    assert "Function evaluations" in capsys.readouterr().out
    pair = no.minimize(lambda x: (x[0] ** 2, 2 * x), np.ones(1), jac=True, method="nelder-mead")
    np.testing.assert_allclose(pair.x, 0, atol=1e-4)
    with pytest.raises(ValueError, match="jac='bogus' must be"):
        no.minimize(kinks, np.ones(2), jac="bogus", method="nelder-mead")
