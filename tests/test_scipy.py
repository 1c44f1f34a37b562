"""At home in SciPy: optimizers as its custom methods, and what SciPy's own tests ask of every method, asked of ours."""

import numba
import numpy as np
import pytest
import scipy.optimize
from scipy.optimize import OptimizeWarning, minimize

import numbaopt as no

METHODS = {"lbfgs": {}, "L-BFGS-B": {}, "BFGS": {}, "CG": {}, "adam": {"lr": 0.05}}
EVERY = pytest.mark.parametrize("method", METHODS)
START = np.array([-1.2, 1.0])


def rosen(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def rosen_grad(x):
    return np.array([-400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 200 * (x[1] - x[0] ** 2)])


@numba.njit
def bowl(x, to=3.0):
    return ((x - to) ** 2).sum()


@numba.njit
def bowl_grad(x, to=3.0):
    return 2 * (x - to)


@numba.njit
def both(x, to=3.0):
    return ((x - to) ** 2).sum(), 2 * (x - to)


def run(method, fun, x0, jac=None, options=None, **more):
    """Ours on functions in Python, called back, so that tests can watch them."""
    return no.minimize(fun, x0, method=method, jac=jac, options={"jit": False, **METHODS[method], **(options or {})},
                       **more)  # fmt: skip


# ------------------------------------------------------------------------------------------------- as custom methods
CLIPPED = no.transforms.chain(no.transforms.ClipByNorm(5.0), no.SGD(lr=0.1))
OPTIMIZERS = [no.Adam(lr=0.1), no.LBFGS(), no.BFGS(), CLIPPED]


@pytest.mark.parametrize("opt", OPTIMIZERS, ids=lambda opt: type(opt).__name__)
@pytest.mark.parametrize("jac", ["callable", True, "numerical"])
def test_optimizers_are_custom_methods(opt, jac):
    fun, given = {"callable": (bowl, bowl_grad), True: (both, True), "numerical": (bowl, "2-point")}[jac]
    jac = given
    res = minimize(fun, np.zeros(2), args=(2.0,), jac=jac, method=opt, tol=1e-4, options={"maxiter": 500})
    mine = no.minimize(fun, np.zeros(2), args=(2.0,), jac=None if jac == "2-point" else jac, method=opt, tol=1e-4,
                       options={"maxiter": 500})  # fmt: skip
    assert res.success
    np.testing.assert_array_equal(res.x, mine.x)
    assert (res.nit, res.nfev, res.fun) == (mine.nit, mine.nfev, mine.fun)
    np.testing.assert_allclose(res.x, 2.0, atol=1e-4)


def test_custom_methods_take_bounds_callbacks_and_options():
    seen = []

    def note(intermediate_result):
        seen.append((intermediate_result.x, intermediate_result.fun))
        if len(seen) == 4:
            raise StopIteration

    opt = no.Adam(lr=0.1)
    res = minimize(bowl, np.zeros(2), jac=bowl_grad, method=opt, bounds=[(0, 1), (None, None)], options={"lr": 0.5})
    np.testing.assert_allclose(res.x, [1, 3], atol=1e-4)
    res = minimize(bowl, np.zeros(2), jac=bowl_grad, method=opt, callback=note)
    assert (res.status, res.nit, len(seen)) == (99, 4, 4)
    assert seen[1][1] < seen[0][1]
    points = []
    minimize(bowl, np.zeros(2), jac=bowl_grad, method=opt, callback=points.append, options={"maxiter": 3})
    assert len(points) == 3
    assert not np.array_equal(points[0], points[1])
    with pytest.warns(OptimizeWarning, match="unknown option 'maxitr'"):
        minimize(bowl, np.zeros(2), jac=bowl_grad, method=opt, options={"maxitr": 3})


def test_models_and_derivatives_are_functions_to_scipy_too():
    X = np.random.default_rng(0).standard_normal((40, 3))
    model = no.LinearModel(X, X @ [1.0, 2.0, 3.0], fit_intercept=False)
    res = minimize(model, np.zeros(3), method=no.Adam(lr=0.05), options={"batch_size": 10, "epochs": 300})
    np.testing.assert_allclose(res.x, [1, 2, 3], atol=1e-2)
    res = minimize(no.value_and_grad(bowl), np.zeros(2), jac=True, method=no.LBFGS(), options={"jit": True})
    np.testing.assert_allclose(res.x, 3, atol=1e-6)
    with pytest.raises(TypeError, match="lr must be a number"):
        no.Adam(lr=no.SGD())


def many_minima(x):
    return np.cos(14.5 * x[0] - 0.3) + (x[1] + 0.2) * x[1] + (x[0] + 0.2) * x[0]


def many_minima_grad(x):
    return np.array([-14.5 * np.sin(14.5 * x[0] - 0.3) + 2 * x[0] + 0.2, 2 * x[1] + 0.2])


@pytest.mark.parametrize("opt", [no.LBFGS(), no.Adam(lr=0.02)], ids=lambda opt: type(opt).__name__)
def test_global_searches_polish_with_ours(opt):
    kwargs = {"method": opt, "options": {"maxiter": 400}}
    res = scipy.optimize.basinhopping(many_minima, [1.0, 1.0], 60, rng=np.random.default_rng(0),
                                      minimizer_kwargs={**kwargs, "jac": many_minima_grad})  # fmt: skip
    np.testing.assert_allclose(res.x, [-0.195, -0.1], atol=1e-2)
    res = scipy.optimize.dual_annealing(many_minima, [(-3, 3), (-3, 3)], maxiter=30, rng=np.random.default_rng(0),
                                        minimizer_kwargs={**kwargs, "bounds": [(-3, 3), (-3, 3)]})  # fmt: skip
    np.testing.assert_allclose(res.x, [-0.195, -0.1], atol=1e-2)


# ------------------------------------------------------------------------- what is asked of every method of SciPy's
@EVERY
def test_callbacks_get_copies(method):
    plain = run(method, rosen, START, rosen_grad, {"maxiter": 8})

    def spoil(x):
        x[:] = np.nan

    def spoil_result(intermediate_result):
        intermediate_result.x[:] = np.nan

    for callback in (spoil, spoil_result):
        res = run(method, rosen, START, rosen_grad, {"maxiter": 8}, callback=callback)
        np.testing.assert_array_equal(res.x, plain.x)
        assert res.nfev == plain.nfev


class Stopper:
    def __init__(self, at):
        self.at, self.calls = at, 0

    def __call__(self, xk):
        self.calls += 1
        if self.calls == self.at:
            raise StopIteration


@EVERY
def test_stop_iteration_in_all_forms_of_a_callback(method):
    object_, method_, named = Stopper(3), Stopper(3), Stopper(3)
    for callback in (object_, method_.__call__, lambda intermediate_result: named(intermediate_result.x)):
        res = run(method, rosen, START, rosen_grad, callback=callback)
        assert (res.success, res.status, res.nit) == (False, 99, 3)
        assert res.fun == rosen(res.x) < rosen(START)
        assert "callback" in res.message
    assert (object_.calls, method_.calls, named.calls) == (3, 3, 3)


@EVERY
@pytest.mark.parametrize("after", [0, 2, 5])
def test_nan_is_no_success(method, after):
    """Neither at the start nor later, in the objective or in the gradient; the point returned is finite."""
    for where in ("objective", "gradient"):
        calls = [0]

        def fun(x):
            calls[0] += 1  # noqa: B023
            return np.nan if calls[0] > after and where == "objective" else rosen(x)  # noqa: B023

        def jac(x):
            return rosen_grad(x) * (np.nan if calls[0] > after and where == "gradient" else 1)  # noqa: B023

        res = run(method, fun, START, jac, {"maxiter": 50})
        assert not res.success
        assert res.status != 0
        assert np.isfinite(res.x).all()


@EVERY
def test_nit_is_maxiter_where_that_ends_the_run(method):
    for maxiter in (0, 1, 4):
        res = run(method, rosen, START, rosen_grad, {"maxiter": maxiter})
        assert (res.nit, res.status, res.success) == (maxiter, 1, False)
    with pytest.raises(TypeError, match=r"maxiter=2.5 must be an integer"):
        run(method, rosen, START, rosen_grad, {"maxiter": 2.5})


@EVERY
def test_tol_has_an_effect(method):
    loose, tight = (run(method, rosen, START, rosen_grad, tol=tol) for tol in (1.0, 1e-5))
    assert loose.success
    assert tight.success
    assert loose.nit < tight.nit
    assert tight.fun < loose.fun


@EVERY
def test_functions_that_overwrite_x_do_no_harm(method):
    def spoils(x):
        value = rosen(x)
        x[:] = -7.0
        return value

    def spoils_too(x):
        g = rosen_grad(x)
        x *= 0
        return g

    start = START.copy()
    res, plain = run(method, spoils, start, spoils_too), run(method, rosen, START, rosen_grad)
    np.testing.assert_array_equal(res.x, plain.x)
    np.testing.assert_array_equal(start, START)


@EVERY
def test_one_unknown_and_all_attributes(method):
    for x0 in (5.0, [5.0], np.array([5], np.float32), np.array([5])):
        res = run(method, lambda x: float((x[0] - 2) ** 2), x0, lambda x: 2 * (x - 2), {"maxiter": 5000})
        assert res.success
        assert res.x.shape == res.jac.shape == (1,)
        np.testing.assert_allclose(res.x, 2, atol=1e-4)
    for name in ("x", "fun", "jac", "nit", "nfev", "njev", "status", "success", "message"):
        assert name in res
    assert isinstance(res.fun, float)
    assert isinstance(res.message, str)
    assert {type(res[name]) for name in ("nit", "nfev", "njev", "status")} == {int}
    assert type(res.success) is bool


@EVERY
def test_a_wrong_gradient_never_leads_to_a_worse_point(method):
    for wrong in (lambda x: -rosen_grad(x), lambda x: rosen_grad(x)[::-1].copy(), lambda x: np.ones(2)):
        res = run(method, rosen, START, wrong, {"maxiter": 200})
        assert not res.success
        assert res.fun == rosen(res.x) <= rosen(START)


@EVERY
def test_no_point_is_evaluated_twice(method):
    """Where the best point is not the last one (a rule's steps need not lead downhill), its gradient is asked for."""
    seen = []

    def fun(x):
        seen.append(tuple(x))
        return rosen(x)

    for n_tries in (None, 2):
        seen.clear()
        options = {"maxls": n_tries} if n_tries and method == "L-BFGS-B" else {}
        res = run(method, fun, START, rosen_grad, options)
        assert res.nfev == len(seen)
        assert len(seen) - len(set(seen)) <= (method == "adam" and res.fun != res.history.fun[-1])


def test_a_search_that_runs_out_of_tries_keeps_the_best_of_them():
    """Steps of a scale that is far too small: the search only lengthens them, and no try is wasted on a known point."""
    seen = []

    def fun(x):
        seen.append(float(x[0]))
        return 1e-6 * float(x[0])

    res = run("L-BFGS-B", fun, [0.0], lambda x: np.array([1e-6]), {"maxls": 4, "gtol": 0, "ftol": 0, "maxiter": 1})
    assert len(seen) == len(set(seen)) == 5
    assert res.x[0] == min(seen) < 0
    assert res.fun == 1e-6 * res.x[0]
