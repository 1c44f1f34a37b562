"""`least_squares`: SciPy's answers and manners, bounds, robust losses, no false success, faults."""

import warnings

import numba
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st
from process import python
from scipy.optimize import Bounds, OptimizeWarning, curve_fit, lsq_linear

import numbaopt as no
from numbaopt.problems.residuals import _compile_residuals

T = np.linspace(0, 4, 50)
Y = 2.5 * np.exp(-1.3 * T) + 0.5 + 0.05 * np.cos(40 * T)
OUTLIERS = Y + np.where(np.arange(50) % 17 == 3, 3.0, 0.0)
X0 = np.array([1.0, 1.0, 0.0])


@numba.njit
def decay(x, t, y):
    return x[0] * np.exp(-x[1] * t) + x[2] - y


@numba.njit
def decay_jac(x, t, y):
    J = np.ones((t.size, 3))
    J[:, 0] = np.exp(-x[1] * t)
    J[:, 1] = -x[0] * t * J[:, 0]
    return J


@numba.njit
def rosen(x):
    return np.array([10.0 * (x[1] - x[0] ** 2), 1.0 - x[0]])


@numba.njit
def linear(x, A, b):
    return A @ x - b


def not_compilable(x, t, y):
    return decay(np.array(list(map(float, map(str, x)))), t, y)


def projected(res, lower, upper):
    """Largest component of a projected gradient step."""
    return np.abs(np.clip(res.x - res.grad, lower, upper) - res.x).max()


@pytest.mark.parametrize("loss", ["linear", "soft_l1", "huber", "cauchy", "arctan"])
@pytest.mark.parametrize("f_scale", [0.1, 1.0])
def test_robust_fits_are_scipys(loss, f_scale):
    ours = no.least_squares(decay, X0, args=(T, OUTLIERS), loss=loss, f_scale=f_scale, ftol=1e-14, xtol=1e-12)
    told = scipy.optimize.least_squares(decay, ours.x, decay_jac, args=(T, OUTLIERS), loss=loss, f_scale=f_scale,
                                        ftol=1e-15, xtol=1e-15, gtol=1e-12)  # fmt: skip
    assert ours.success
    np.testing.assert_allclose(ours.x, told.x, atol=1e-6)
    np.testing.assert_allclose(ours.cost, told.cost, rtol=1e-9)
    np.testing.assert_allclose(ours.fun, told.fun, atol=1e-5)
    np.testing.assert_allclose(ours.jac, told.jac, atol=1e-4)
    np.testing.assert_allclose(ours.grad, ours.jac.T @ _weighted(ours, loss, f_scale), atol=1e-10)
    assert ours.optimality == abs(ours.grad).max()
    again = no.least_squares(decay, told.x, args=(T, OUTLIERS), loss=loss, f_scale=f_scale)
    assert again.nfev <= 3


def _weighted(res, loss, f_scale):
    """The residuals of the weighted problem, by the definition of rho."""
    z, r = (res.fun / f_scale) ** 2, res.fun
    slope, bend = {"linear": lambda: (1.0 + 0 * z, 0 * z), "soft_l1": lambda: ((1 + z) ** -0.5, -0.5 * (1 + z) ** -1.5),
                   "huber": lambda: (np.where(z <= 1, 1, z**-0.5), np.where(z <= 1, 0, -0.5 * z**-1.5)),
                   "cauchy": lambda: (1 / (1 + z), -1 / (1 + z) ** 2),
                   "arctan": lambda: (1 / (1 + z**2), -2 * z / (1 + z**2) ** 2)}[loss]()  # fmt: skip
    return r * slope / np.sqrt(np.maximum(slope + 2 * z * bend, np.finfo(float).eps))


def test_curve_fit_has_the_same_parameters_and_covariance():
    popt, pcov = curve_fit(lambda t, a, b, c: a * np.exp(-b * t) + c, T, Y, X0, ftol=1e-12, xtol=1e-12, gtol=1e-12)
    res = no.least_squares(decay, X0, args=(T, Y))
    np.testing.assert_allclose(res.x, popt, rtol=1e-6)
    np.testing.assert_allclose(res.covariance, pcov, rtol=1e-4)
    s2 = 2 * res.cost / (T.size - 3)
    np.testing.assert_allclose(res.covariance, s2 * np.linalg.inv(res.jac.T @ res.jac), rtol=1e-9)
    assert np.isinf(no.least_squares(rosen, [-1.2, 1.0]).covariance).all()


JACOBIANS = {"jitted": decay_jac, "plain": decay_jac.py_func, "of jacobian": no.jacobian(decay),
             **{name: name for name in ("forward", "reverse", "2-point", "3-point", "cs")}}  # fmt: skip


@pytest.mark.parametrize("jac", JACOBIANS.values(), ids=JACOBIANS)
def test_every_form_of_jacobian_gives_the_same_run(jac):
    exact = no.least_squares(decay, X0, args=(T, Y))
    res = no.least_squares(decay, X0, args=(T, Y), jac=jac)
    assert res.success
    assert (res.nfev, res.njev, res.nit) == (exact.nfev, exact.njev, exact.nit)
    np.testing.assert_allclose(res.x, exact.x, atol=1e-7)
    np.testing.assert_allclose(res.jac, decay_jac(res.x, T, Y), atol=1e-6 if jac == "2-point" else 1e-9)


@pytest.mark.parametrize(("low", "high", "start"), [
    ([0, 0, 0], [2, 3, 1], X0), ([0, 2, -1], np.inf, [1, 2.5, 0]), (-np.inf, [1.2, 1.1, 0.1], X0),
    (0.0, [3, 3, 0.0], X0), ([0, 1, 0.2], [5, 1, 5], [1, 1, 0.5])])  # fmt: skip
@pytest.mark.parametrize("loss", ["linear", "cauchy"])
def test_bounds(low, high, start, loss):
    res = no.least_squares(decay, start, args=(T, OUTLIERS), bounds=(low, high), loss=loss, ftol=1e-13, xtol=1e-12)
    lower, upper = np.broadcast_to(low, 3), np.broadcast_to(high, 3)
    assert res.success
    assert ((lower <= res.x) & (res.x <= upper)).all()
    np.testing.assert_array_equal(res.active_mask, np.where(res.x == lower, -1, np.where(res.x == upper, 1, 0)))
    assert projected(res, lower, upper) == pytest.approx(res.optimality, abs=1e-15)
    assert res.optimality < 2e-5
    apart = lower < upper
    if apart.all():
        told = scipy.optimize.least_squares(decay, start, decay_jac, Bounds(low, high), args=(T, OUTLIERS), loss=loss,
                                            ftol=1e-15, xtol=1e-15, gtol=1e-10)  # fmt: skip
        np.testing.assert_allclose(res.x, told.x, atol=1e-4)
        assert res.cost <= told.cost * (1 + 1e-8)


numbers = st.floats(-2, 2, allow_subnormal=False).map(lambda v: round(v, 3))


@given(st.data(), st.integers(1, 5), st.integers(1, 8), st.booleans())
def test_linear_problems_of_any_rank_end_at_the_optimum_within_bounds(data, n, m, bounded):
    A, b = (np.array(data.draw(st.lists(numbers, min_size=k, max_size=k))) for k in (m * n, m))
    A = A.reshape(m, n)
    if data.draw(st.booleans()):
        A[:, -1] = 2 * A[:, 0]
    low, high = (np.full(n, -0.5), np.full(n, 0.75)) if bounded else (np.full(n, -np.inf), np.full(n, np.inf))
    res = no.least_squares(linear, np.zeros(n), args=(A, b), bounds=(low, high))
    assert res.success, res.message
    best = lsq_linear(A, b, (low, high), tol=1e-14) if bounded else None
    cost = best.cost if bounded else 0.5 * np.sum((A @ np.linalg.lstsq(A, b, rcond=None)[0] - b) ** 2)
    assert res.cost <= cost + 1e-7 * max(cost, 1e-6)
    assert ((low <= res.x) & (res.x <= high)).all()
    assert res.nfev <= 30


@pytest.mark.parametrize("low", [[-np.inf, 1.5], [-np.inf, 0.5]])
def test_rosenbrock_as_in_scipys_manual(low):
    res = no.least_squares(rosen, [2.0, 2.0], bounds=(low, np.inf))
    np.testing.assert_allclose(res.x, [1.22437075, 1.5] if low[1] > 1 else [1, 1], atol=1e-6)
    assert res.active_mask.tolist() == ([0, -1] if low[1] > 1 else [0, 0])


def test_a_singular_minimum_with_large_residuals_is_found_and_believed():
    @numba.njit
    def freudenstein_roth(x):  # a local minimum where the Jacobian is singular, and a full step leads far away
        a, b = x[0], x[1]
        return -13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b

    res = no.least_squares(freudenstein_roth, [0.5, -2.0], jac="3-point")
    assert res.success
    np.testing.assert_allclose(2 * res.cost, 48.98425367924, rtol=1e-8)
    assert res.nfev < 25


def test_success_is_not_claimed_where_there_is_none():
    wrong = numba.njit(lambda x: -np.array([[-20.0 * x[0], 10.0], [-1.0, 0.0]]))
    start = np.array([-1.2, 1.0])
    res = no.least_squares(rosen, start, wrong)
    assert (res.status, res.success) == (-3, False)
    assert res.cost <= 0.5 * (rosen(start) ** 2).sum()
    assert (res.x == start).all()
    res = no.least_squares(rosen, start, max_nfev=3)
    assert (res.status, res.success, res.nfev) == (0, False, 3)
    assert "limit" in res.message


def test_success_means_the_tolerance_at_the_returned_point():
    for tolerances in ({"gtol": 1e-6, "ftol": None, "xtol": None}, {"gtol": None, "ftol": 1e-6, "xtol": None},
                       {"gtol": None, "ftol": None, "xtol": 1e-6}):  # fmt: skip
        res = no.least_squares(decay, X0, args=(T, OUTLIERS), **tolerances)
        J, r = decay_jac(res.x, T, OUTLIERS), decay(res.x, T, OUTLIERS)
        step = np.linalg.lstsq(J, r, rcond=None)[0]
        status, size = {"gtol": (1, abs(J.T @ r).max()), "ftol": (2, r @ J @ step / (r @ r)),
                        "xtol": (3, np.linalg.norm(step) / np.linalg.norm(res.x))}[
                            next(key for key, value in tolerances.items() if value)]  # fmt: skip
        assert (res.status, res.success) == (status, True)
        assert size < 2e-6


@numba.njit
def walls(x):
    return np.array([np.log(x[0]) + 3.0, np.sqrt(x[1]) + 0.5])


def test_where_residuals_or_derivatives_are_not_finite_steps_are_shortened():
    res = no.least_squares(walls, [100.0, 4.0], bounds=([-np.inf, 0.0], np.inf))  # NaN below 0; slope inf at 0
    assert res.success
    np.testing.assert_allclose(res.x, [np.exp(-3), 0], atol=1e-6)
    np.testing.assert_allclose(res.cost, 0.125, rtol=1e-3)


def test_faults_at_the_start():
    with pytest.raises(ValueError, match="not finite at x0: component 0 is nan"):
        no.least_squares(walls, [-1.0, 1.0])
    res = no.least_squares(walls, [1.0, 0.0])  # finite, but not its Jacobian
    assert (res.status, res.success) == (-4, False)
    assert (res.x == [1.0, 0.0]).all()


def test_exceptions_come_out_and_the_next_call_works():
    @numba.njit
    def fails(x, limit):
        if x[0] < limit:
            raise ZeroDivisionError("below")
        return x - 1.0

    start = np.array([3.0, 4.0])
    for fun in (fails, lambda x, limit: [fails(x, limit)[0], float(str(x[1])) - 1.0]):
        jac = numba.njit(lambda x, limit: np.eye(2))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ZeroDivisionError, match="below"):
                no.least_squares(fun, start, jac, args=(2.0,))
            res = no.least_squares(fun, start, jac, args=(0.0,))
        np.testing.assert_allclose(res.x, 1)
    assert (start == [3, 4]).all()


def test_python_driven_run_follows_the_compiled_one_and_asks_nothing_twice():
    asked = []

    def told(x, t, y):
        asked.append(tuple(x))
        return not_compilable(x, t, y)

    with pytest.warns(RuntimeWarning, match="the residual function runs from Python") as heard:
        slow = no.least_squares(told, X0, decay_jac, args=(T, Y))
    fast = no.least_squares(decay, X0, decay_jac, args=(T, Y))
    assert len(heard) == 1
    np.testing.assert_array_equal(slow.x, fast.x)
    assert len(asked) == len(set(asked)) == slow.nfev == fast.nfev
    with pytest.raises(TypeError, match="cannot be compiled"):
        no.least_squares(not_compilable, X0, args=(T, Y), options={"jit": True})


def test_without_a_jit():
    told = python("""
        import numpy as np, numbaopt as no
        def fun(x):
            return np.array([10 * (x[1] - x[0] ** 2), 1 - x[0], x[1] - 2])
        for loss in ("linear", "huber"):
            res = no.least_squares(fun, [2.0, 1.7], bounds=([-9, 1.5], [9, 1.75]), jac="3-point", loss=loss)
            print(res.success, *res.x.round(6))
    """, NUMBA_DISABLE_JIT=1)  # fmt: skip
    for k, loss in enumerate(("linear", "huber")):
        fun = numba.njit(lambda x: np.array([10 * (x[1] - x[0] ** 2), 1 - x[0], x[1] - 2]))
        res = no.least_squares(fun, [2.0, 1.7], bounds=([-9, 1.5], [9, 1.75]), jac="3-point", loss=loss)
        assert told[3 * k] == "True"
        np.testing.assert_allclose([float(v) for v in told[3 * k + 1 : 3 * k + 3]], res.x, atol=2e-6)


def test_inputs_of_any_kind_are_converted_once_and_not_written_to():
    frozen = X0.copy()
    frozen.flags.writeable = False
    exact = no.least_squares(decay, frozen, args=(T, Y))
    before = _compile_residuals.cache_info().misses
    wide = np.zeros((50, 2))
    wide[:, 0] = Y
    for start, y in ((X0.tolist(), wide[:, 0]), (X0.astype(np.float32), Y.astype(">f8")), (np.array([1, 1, 0]), Y)):
        res = no.least_squares(decay, start, args=(T, y))
        np.testing.assert_array_equal(res.x, exact.x)
    assert _compile_residuals.cache_info().misses == before
    assert (frozen == X0).all()
    single = no.least_squares(decay, X0, decay_jac, args=(T.astype(np.float32), Y.astype(np.float32)))
    assert single.success
    assert single.x.dtype == single.fun.dtype == np.float64
    np.testing.assert_allclose(single.x, exact.x, rtol=1e-5)


def test_residuals_may_be_numbers_tuples_and_what_they_were_given():
    root = no.least_squares(lambda x: x[0] ** 2 - 2.0, 1.0, jac="3-point")
    np.testing.assert_allclose(root.x, [np.sqrt(2)])
    for jac in (None, "2-point"):
        res = no.least_squares(lambda x: (x[0] - 1.0, x[0] * x[1] - 2.0), [3.0, 3.0], jac)
        np.testing.assert_allclose(res.x, [1, 2], atol=1e-7)

    @numba.njit
    def overwrites(x):
        x -= 3.0
        return x

    for jac in ("2-point", "3-point"):
        np.testing.assert_allclose(no.least_squares(overwrites, [0.0, 7.0], jac=jac).x, [3, 3])


def test_fewer_residuals_than_unknowns():
    res = no.least_squares(linear, np.zeros(3), args=(np.array([[1.0, 2.0, 2.0]]), np.array([9.0])))
    assert res.success
    np.testing.assert_allclose(res.x @ [1, 2, 2], 9)


def test_callbacks_get_copies_may_stop_and_change_no_bit(capsys):
    plain, seen = no.least_squares(decay, X0, args=(T, Y)), []

    def named(intermediate_result):
        seen.append(intermediate_result)
        intermediate_result.x[:] = np.nan

    res = no.least_squares(decay, X0, args=(T, Y), callback=named, verbose=2)
    assert len(seen) == res.nit == plain.nit
    np.testing.assert_array_equal(res.x, plain.x)
    assert (res.nfev, res.njev, res.status, res.cost) == (plain.nfev, plain.njev, plain.status, plain.cost)
    assert [step.nit for step in seen] == list(range(1, res.nit + 1))
    np.testing.assert_array_equal(seen[-1].fun, res.fun)
    np.testing.assert_array_equal(res.history.cost[1:], [step.cost for step in seen])
    assert capsys.readouterr().out.count("optimality") == res.nit + 1

    def stops(x):
        raise StopIteration

    res = no.least_squares(decay, X0, args=(T, Y), callback=stops)
    assert (res.status, res.success, res.nit) == (-2, False, 1)


def test_many_unknowns():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((300, 120))
    truth = rng.standard_normal(120)
    res = no.least_squares(linear, np.zeros(120), args=(A, A @ truth))
    assert res.success
    assert res.nfev < 12
    np.testing.assert_allclose(res.x, truth, atol=1e-7)
    lower = np.where(np.arange(120) % 2, truth + 0.1, -np.inf)
    res = no.least_squares(linear, np.full(120, 9.0), args=(A, A @ truth), bounds=(lower, np.inf))
    assert res.success
    told = lsq_linear(A, A @ truth, (lower, np.inf), tol=1e-12)
    assert res.cost <= told.cost * (1 + 1e-6)
    assert res.nfev < 12


def test_scaled_unknowns():
    scaled = numba.njit(lambda x: rosen(np.array([x[0] * 1e6, x[1] * 1e-5])))
    for x_scale in ("jac", [1e-6, 1e5], None):
        res = no.least_squares(scaled, [-1.2e-6, 1e5], x_scale=x_scale)
        np.testing.assert_allclose(res.x, [1e-6, 1e5], rtol=1e-5)
    res = no.least_squares(scaled, [-1.2e-6, 1e5], method=no.LM(factor=0.5, x_scale=(1e-6, 1e5)))
    np.testing.assert_allclose(res.x, [1e-6, 1e5], rtol=1e-5)


@pytest.mark.parametrize("method", ["trf", "dogbox"])
def test_scipys_own_methods_are_handed_on(method):
    res = no.least_squares(decay, X0, args=(T, OUTLIERS), method=method, loss="soft_l1", bounds=(-5, 5),
                           tr_solver="exact")  # fmt: skip
    told = scipy.optimize.least_squares(decay, X0, decay_jac, args=(T, OUTLIERS), method=method, loss="soft_l1",
                                        bounds=(-5, 5))  # fmt: skip
    np.testing.assert_allclose(res.x, told.x, atol=1e-8)
    assert res.nfev == told.nfev
    assert res.covariance.shape == (3, 3)


def test_keywords_are_put_into_their_places():
    res = no.least_squares(decay, X0, args=(T,), kwargs={"y": Y})
    np.testing.assert_array_equal(res.x, no.least_squares(decay, X0, args=(T, Y)).x)
    with pytest.raises(TypeError, match="do not fit fun"):
        no.least_squares(decay, X0, args=(T,), kwargs={"z": Y})


@pytest.mark.parametrize(("options", "error", "text"), [
    ({"method": "lmm"}, ValueError, "did you mean 'lm'"), ({"loss": "hubert"}, ValueError, "did you mean 'huber'"),
    ({"f_scale": 0.0}, ValueError, "f_scale"), ({"ftol": -1.0}, ValueError, "ftol"), ({"jac": True}, ValueError, "jac"),
    ({"jac": "4-point"}, ValueError, "valid"), ({"max_nfev": 0}, ValueError, "max_nfev"),
    ({"max_nfev": 1.5}, TypeError, "max_nfev"), ({"verbose": 3}, ValueError, "verbose"),
    ({"bounds": ([0, 0],)}, ValueError, "bounds must be"), ({"bounds": (2.0, 1.0)}, ValueError, "exceeds"),
    ({"bounds": (3.0, 4.0)}, ValueError, "x0 is infeasible: component 0"),
    ({"x_scale": [1.0, 2.0, 3.0]}, ValueError, "x_scale"), ({"x_scale": 0.0}, ValueError, "x_scale"),
    ({"x_scale": "jacobian"}, ValueError, "x_scale"), ({"tr_solver": "exact"}, ValueError, "tr_solver"),
    ({"ftol": None, "xtol": 0.0, "gtol": None}, ValueError, "never end"), ({"callback": 3}, TypeError, "callback"),
    ({"jac": numba.njit(lambda x: np.eye(3))}, ValueError, r"shape \(3, 3\), for 2 residuals and 2 unknowns"),
    ({"jac": numba.njit(lambda x: x)}, ValueError, "jac must return a matrix"),
])  # fmt: skip
def test_misuse_is_named(options, error, text):
    with pytest.raises(error, match=text):
        no.least_squares(rosen, [0.5, 0.5], **options)


def test_misuse_of_functions_is_named():
    with pytest.raises(ValueError, match="residuals, 1 at x0"):
        no.least_squares(numba.njit(lambda x: np.ones(1 if x[0] == 0.5 else 2) * x[0]), [0.5])
    with pytest.raises(ValueError, match="vector of real numbers"):
        no.least_squares(numba.njit(lambda x: np.eye(2) * x[0]), [0.5])
    with pytest.raises(TypeError, match="callable"):
        no.least_squares(3, [0.5])
    with pytest.raises(TypeError, match=r"not a tuple; further arguments of fun are given as args=\(\.\.\.\)$"):
        no.least_squares(rosen, [0.5, 0.5], (T, Y))
    with pytest.raises(ValueError, match="least_squares"):
        no.minimize(numba.njit(lambda x: (x**2).sum()), [1.0], method="lm", jac="3-point")
    with pytest.warns(OptimizeWarning, match="unknown option 'jitt'"):
        no.least_squares(rosen, [0.5, 0.5], options={"jitt": True})
    assert next(m for m in no.methods() if m.name == "lm").bounds


@pytest.mark.parametrize(("fun", "x0", "options"), [
    (numba.njit(lambda x: 1e160 * (x - 1.0)), [1 + 2.3e-16], {}),
    (numba.njit(lambda x: np.array([1e-170 * x[0] - 1e100, 1e-170 * x[1]])), [1.0, 1.0], {"gtol": 0.0}),
], ids=["beyond all numbers", "below all numbers"])  # fmt: skip
def test_matrices_beyond_all_numbers_end_the_run(fun, x0, options):
    res = no.least_squares(fun, x0, **options)
    assert np.isfinite(res.x).all()
    assert res.nfev < 50


def test_scales_must_have_squares():
    with pytest.raises(ValueError, match="must lie between 1e-100 and"):
        no.least_squares(decay, [1.0, 1.0, 0.0], args=(np.ones(4), np.ones(4)), x_scale=1e200)
