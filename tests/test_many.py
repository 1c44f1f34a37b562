"""`minimize_many`: every problem as if it were alone, none troubles another, whatever the threads."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from problems import bowl
from process import python
from scipy.optimize import Bounds, OptimizeWarning

import numbaopt as no
from numbaopt.status import RAISED


@numba.njit
def misfit(p, t, y):
    total = 0.0
    for i in range(t.size):
        total += (p[0] * np.exp(-p[1] * t[i]) - y[i]) ** 2
    return total


@numba.njit
def misfit_grad(p, t, y):
    g = np.zeros(2)
    for i in range(t.size):
        e = np.exp(-p[1] * t[i])
        r = 2 * (p[0] * e - y[i])
        g[0] += r * e
        g[1] -= r * p[0] * t[i] * e
    return g


T = np.linspace(0, 2, 20)


def decays(k, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.column_stack([rng.uniform(1, 3, k), rng.uniform(0.5, 2, k)])
    return truth, truth[:, :1] * np.exp(-truth[:, 1:] * T) + 0.01 * rng.standard_normal((k, T.size))


@pytest.mark.parametrize("method", ["lbfgs", "L-BFGS-B", "bfgs", "cg", "adam", no.Nesterov(lr=0.01), "rprop"])
@pytest.mark.parametrize("bounds", [None, [(0.0, 2.0), (0.0, 1.5)]])
def test_each_problem_is_solved_as_if_it_were_alone(method, bounds):
    if bounds is not None and method in ("bfgs", "cg"):
        pytest.skip("takes no bounds")
    truth, Y = decays(30)
    options = {"lr": 0.02, "maxiter": 300} if method == "adam" else {"maxiter": 300}
    res = no.minimize_many(misfit, np.ones((30, 2)), (T, Y), (False, True), method, misfit_grad, bounds,
                           options=options)  # fmt: skip
    assert set(np.unique(res.status)) <= {0, 1, 3}
    for i in range(0, 30, 7):
        one = no.minimize(misfit, np.ones(2), (T, Y[i]), method, misfit_grad, bounds=bounds, options=options)
        np.testing.assert_array_equal(res.x[i], one.x)
        assert (res.fun[i], res.nit[i], res.status[i]) == (one.fun, one.nit, one.status)
        assert one.nfev - res.nfev[i] in (0, 1)  # `minimize` tells the gradient at its x
    if bounds is None and method != "adam":
        np.testing.assert_allclose(res.x, truth, atol=0.1)


@pytest.mark.parametrize("method", ["adam", "lbfgs", no.Rprop(lr=0.01)])
@pytest.mark.parametrize("rows", [True, 20, 5])  # an odd number once wrote behind the tables' ends
def test_histories_and_paths_are_those_of_single_runs(method, rows):
    _, Y = decays(6)
    options = {"maxiter": 130, "history": rows}
    box = [(0.0, 2.0), (0.0, 1.5)]
    res = no.minimize_many(misfit, [1.0, -1.0], (T, Y), (False, True), method, misfit_grad, box,
                           options={**options, "path": True})  # fmt: skip
    for i in range(6):
        one = no.minimize(misfit, [1.0, -1.0], (T, Y[i]), method, misfit_grad, bounds=box, options=options)
        for name in ("step", "fun", "grad_norm", "lr", "nfev"):
            np.testing.assert_array_equal(res.history[i][name], one.history[name])
        there = np.array([misfit(x, T, Y[i]) for x in res.path[i]]) == one.history.fun
        assert there.all() if method != "adam" else there.mean() > 0.9  # a search for a rate turns back
        assert (np.diff(res.history[i]["seconds"]) >= 0).all()
    assert "history" not in no.minimize_many(misfit, [1.0, 1.0], (T, Y), (False, True), method, misfit_grad)


def test_every_problem_may_have_a_rule_of_its_own():
    Clip, Cosine = no.transforms.ClipByNorm, no.schedules.Cosine
    rules = [no.Adam(lr=0.1), no.Adam(lr=0.02, beta1=0.5), no.Adam(lr=0.1), no.Adam(lr=Cosine(0.2, 100)),
             no.Adam(lr=1e9)]  # fmt: skip
    _, Y = decays(1)
    res = no.minimize_many(misfit, [1.0, 1.0], (T, Y[0]), False, rules, misfit_grad, options={"maxiter": 100})
    for i, rule in enumerate(rules):
        one = no.minimize(misfit, [1.0, 1.0], (T, Y[0]), rule, misfit_grad, options={"maxiter": 100})
        np.testing.assert_array_equal(res.x[i], one.x)
        assert (res.fun[i], res.nit[i], res.status[i]) == (one.fun, one.nit, one.status)
    pairs = [no.transforms.chain(Clip(limit), no.SGD(lr=0.01)) for limit in (0.1, 10.0)]
    res = no.minimize_many(misfit, [1.0, 1.0], (T, Y[0]), False, pairs, misfit_grad, options={"maxiter": 5})
    assert res.fun[0] > res.fun[1]
    other = no.transforms.chain(no.transforms.ClipByValue(0.1), no.SGD(lr=0.01))
    for wrong, match in (([pairs[0], other], "must be of one class"), ([rules[0], "sgd"], "must be of one class"),
                         ([no.LBFGS(), no.LBFGS(memory=3)], "the same memory"), ([], "X0 has 2, method has 0"),
                         (rules[:3], "X0 has 2, method has 3")):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            no.minimize_many(misfit, np.ones((2, 2)), (T, Y[0]), False, wrong, misfit_grad)


def test_threads_and_chunks_change_no_bit():
    _, Y = decays(500)
    before = numba.get_num_threads()
    runs = []
    for threads in (1, 2, before):
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        runs.append(no.minimize_many(misfit, [1.0, 1.0], (T, Y), (False, True), jac=misfit_grad))
    numba.set_num_threads(before)
    for run in runs[1:]:
        for key in ("x", "fun", "status", "nit", "nfev"):
            np.testing.assert_array_equal(run[key], runs[0][key])


@pytest.mark.parametrize("jac", [None, "3-point", "2-point"])
def test_gradients_need_not_be_given(jac):
    truth, Y = decays(8)
    res = no.minimize_many(misfit, np.ones((8, 2)), (T, Y), (False, True), jac=jac, bounds=[(0, 2), (0, 9)])
    np.testing.assert_allclose(res.x[truth[:, 0] < 1.9], truth[truth[:, 0] < 1.9], atol=0.1)
    assert res.x[:, 0].max() <= 2


@numba.njit
def shifted(x, by, scale, names):
    return scale * ((x - by) ** 2).sum() + 0.0 * len(names)


def test_arguments_of_all_kinds():
    by = np.arange(12.0).reshape(4, 3)[:, ::-1]
    for scale in (np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 2, 3, 4]), np.array([1, 2, 3, 4], np.float32),
                  np.array([1.0, 2.0, 3.0, 4.0], ">f8"), np.arange(1.0, 9.0)[::2]):  # fmt: skip
        res = no.minimize_many(shifted, np.zeros(3), (by, scale, ("a",)), (True, True, False), tol=1e-10)
        np.testing.assert_allclose(res.x, by, atol=1e-9)
        assert res.success.all()
    matrix = np.asfortranarray(np.arange(24.0).reshape(4, 2, 3))
    res = no.minimize_many(lambda x, m: ((x - m[0] - m[1]) ** 2).sum(), np.zeros(3), matrix, True)
    np.testing.assert_allclose(res.x, matrix.sum(axis=1), atol=1e-5)
    low = np.arange(4.0)[:, None] - np.array([1.0, 0.5, 0.0])
    res = no.minimize_many(lambda x: (x**2).sum(), np.full((4, 3), 9.0), bounds=Bounds(low, np.inf))
    np.testing.assert_allclose(res.x, np.maximum(low, 0), atol=1e-5)


@numba.njit
def trouble(x, kind):
    if kind == 1:
        return np.nan
    if kind == 2:
        raise ValueError("of a problem")
    if kind == 3:
        return -np.exp(x[0] * x[0])
    return ((x - kind) ** 2).sum()


def test_one_bad_problem_troubles_no_other():
    kinds = np.array([0, 1, 2, 3, 5, 2, 7])
    res = no.minimize_many(trouble, np.ones((7, 2)), kinds, True, options={"maxiter": 500})
    assert res.success[[0, 4, 6]].all()
    np.testing.assert_allclose(res.x[[0, 4, 6]], kinds[[0, 4, 6], None] * np.ones(2), atol=1e-4)
    assert res.status[1] == 2
    assert (res.status[[2, 5]] == RAISED).all()
    assert not res.success[[1, 2, 3, 5]].any()
    assert np.isfinite(res.x).all()
    assert "2 x The objective raised an exception." in res.message
    assert res.message.endswith("The first that raised is problem 2; minimize alone tells what.")


def test_what_cannot_be_compiled_is_solved_from_python():
    with pytest.warns(RuntimeWarning, match="the objective runs from Python"):
        res = no.minimize_many(lambda x, a: float(str(((x - a) ** 2).sum())), np.zeros((3, 2)), np.arange(3.0), True)
    np.testing.assert_allclose(res.x, np.arange(3.0)[:, None] * np.ones(2), atol=1e-4)
    with pytest.warns(RuntimeWarning, match="the objective runs from Python"):
        res = no.minimize_many(lambda x, a: float(str(((x - a) ** 2).sum())), np.zeros((2, 2)), np.array([1.0, 2.0]),
                               True, [no.SGD(lr=0.1), no.SGD(lr=0.4)], options={"history": 4, "path": True})
    for history, path, end in zip(res.history, res.path, (1.0, 2.0), strict=True):
        assert len(history) == len(path) <= 5
        np.testing.assert_array_equal(path[0], [0, 0])
        np.testing.assert_allclose(((path - end) ** 2).sum(axis=1), history["fun"])


def test_starts_and_arguments_are_not_written_to():
    X0, (_, Y) = np.ones((5, 2)), decays(5)
    X0.flags.writeable = Y.flags.writeable = False
    no.minimize_many(misfit, X0, (T, Y), (False, True), "adam", misfit_grad)
    assert (X0 == 1).all()
    empty = no.minimize_many(misfit, np.ones((0, 2)), (T, Y[:0]), (False, True))
    assert empty.x.shape == (0, 2)
    assert empty.message == "There were no problems."
    judged = no.minimize_many(misfit, X0, (T, Y[0]), False, jac=misfit_grad, options={"maxiter": 0})
    assert judged.nfev.tolist() == [1] * 5


@pytest.mark.parametrize(
    ("X0", "args", "batched", "more", "match"),
    [
        (np.ones(2), (T, T), None, {}, r"X0 has shape \(2,\): how many problems"),
        (np.ones((20, 2)), (T, T), None, {}, r"args\[0\] has as many items as there are problems, 20: say whether"),
        (np.ones((5, 2)), (T, np.ones((4, 20))), (False, True), {}, r"X0 has 5, args\[1\] has 4"),
        (np.ones((5, 2)), (T, np.ones((5, 20))), (True,), {}, "batched has 1 items, args has 2"),
        (np.ones((5, 2)), (T, 3.0), (False, True), {}, r"X0 has 5, args\[1\] has 0"),
        (np.ones((5, 2, 1)), (), None, {}, r"X0 must be of shape \(k, n\)"),
        (np.ones((5, 0)), (), None, {}, "X0 has no columns"),
        (np.array([["a"]]), (), None, {}, "X0 must hold real numbers"),
        (np.ones((5, 2)), (T, T), False, {"method": "newtn"}, "method 'newtn' is none of those for many problems"),
        (np.ones((5, 2)), (T, T), False, {"method": "newton"}, "method 'newton' is not for functions"),
        (np.ones((5, 2)), (T, T), False, {"method": "bfgs", "bounds": [(0, 1)] * 2}, "'bfgs' takes no bounds"),
        (np.ones((5, 2)), (T, T), False, {"bounds": Bounds(np.ones((5, 2)), 0.0)}, "component 0 of problem 0"),
        (np.ones((5, 2)), (T, T), False, {"method": no.Adam(lr=no.schedules.ReduceOnPlateau(0.1))}, "ReduceOnPlateau"),
        (np.ones((5, 2)), (T, T), False, {"options": {"maxiter": 1.5}}, "maxiter=1.5 must be an integer"),
    ],
)
def test_what_cannot_be_done_is_told(X0, args, batched, more, match):
    with pytest.raises((ValueError, TypeError), match=match):
        no.minimize_many(misfit, X0, args, batched, jac=misfit_grad, **more)


def test_unknown_options_and_sums_are_told():
    with pytest.warns(OptimizeWarning, match="option 'batch_size' has no effect in minimize_many"):
        no.minimize_many(misfit, np.ones((2, 2)), (T, T), False, jac=misfit_grad, options={"batch_size": 3})
    with pytest.raises(TypeError, match="not a FiniteSum"):
        no.minimize_many(no.FiniteSum(lambda i, x: 0.0, 3), np.ones((2, 3)))
    with pytest.raises(ValueError, match="X0 is not given"):
        no.minimize_many(lambda x: 0.0)


def test_ctrl_c_leaves_what_is_solved():
    _, Y = decays(2_000_000 // 20)
    no.minimize_many(misfit, np.ones(2), (T, Y[:5]), (False, True), "adam", misfit_grad)
    timer = threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    begin = time.perf_counter()
    with pytest.raises(KeyboardInterrupt) as caught:
        no.minimize_many(misfit, np.ones(2), (T, Y), (False, True), "adam", misfit_grad, tol=0.0)
    assert time.perf_counter() - begin < 5  # all would take minutes
    timer.join()
    res = caught.value.result
    assert (res.status == 99).any()
    assert "x Interrupted by the user." in res.message
    assert np.isfinite(res.x).all()


@numba.njit
def residuals(p, t, y):
    return p[0] * np.exp(-p[1] * t) - y


@pytest.mark.parametrize("bounds", [None, [(0.0, 2.0), (0.0, 9.0)]])
def test_many_curves_are_fitted_as_by_least_squares(bounds):
    truth, Y = decays(40)
    res = no.minimize_many(residuals, [1.0, 1.0], (T, Y), (False, True), "lm", bounds=bounds)
    assert res.success.all()
    for i in range(0, 40, 13):
        low, high = (-np.inf, np.inf) if bounds is None else np.transpose(bounds)
        one = no.least_squares(residuals, [1.0, 1.0], args=(T, Y[i]), bounds=(low, high))
        np.testing.assert_array_equal(res.x[i], one.x)
        assert (res.fun[i], res.nfev[i]) == (one.cost, one.nfev)
    if bounds is None:
        np.testing.assert_allclose(res.x, truth, atol=0.1)


def test_threads_and_forks_may_call_it():
    _, Y = decays(300)
    before = no.minimize_many(misfit, [1.0, 1.0], (T, Y), (False, True), jac=misfit_grad)
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(no.minimize_many, misfit, [1.0, 1.0], (T, Y), (False, True), None, misfit_grad)
                 for _ in range(8)]  # fmt: skip
        for call in calls:
            np.testing.assert_array_equal(call.result().x, before.x)


@pytest.mark.process
def test_a_fork_after_a_call_solves_on_its_own():
    code = """
import os, sys
import numpy as np, numba, numbaopt as no
fun = numba.njit(lambda x, a: ((x - a) ** 2).sum())
res = no.minimize_many(fun, np.zeros((40, 2)), np.arange(40.0), True)
child = os.fork()
again = no.minimize_many(fun, np.zeros((40, 2)), np.arange(40.0), True)
assert (again.x == res.x).all()
if child == 0:
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
    assert python(code) == ["0"]


def test_residuals_that_cannot_be_compiled_or_that_raise_at_first():
    def opaque(x, a):
        return np.array([float(str(x[0] - a)), x[1] + 1])

    with pytest.warns(RuntimeWarning, match="runs from Python"):
        res = no.minimize_many(opaque, np.zeros((3, 2)), np.arange(3.0), True, "lm")
    np.testing.assert_allclose(res.x, np.column_stack([np.arange(3.0), -np.ones(3)]), atol=1e-7)
    assert res.success.all()

    @numba.njit
    def first_raises(x, kind):
        if kind == 0:
            raise ValueError
        return np.array([x[0] - kind])

    res = no.minimize_many(first_raises, np.zeros((3, 1)), np.arange(3), True, "lm")
    assert res.status.tolist() == [RAISED, 0, 0]
    np.testing.assert_allclose(res.x[1:, 0], [1, 2])


def test_scales_of_unknowns_are_those_of_single_fits():
    _, Y = decays(5)
    opt = no.LM(x_scale=(100.0, 1e-3))
    res = no.minimize_many(residuals, [1.0, 1.0], (T, Y), (False, True), opt)
    ones = [no.least_squares(residuals, [1.0, 1.0], args=(T, y), method=opt) for y in Y]
    assert res.nfev.tolist() == [one.nfev for one in ones]
    np.testing.assert_array_equal(res.x, [one.x for one in ones])
    with pytest.raises(ValueError, match="LM: x_scale has 3 items, there are 2 unknowns"):
        no.minimize_many(residuals, [1.0, 1.0], (T, Y), (False, True), no.LM(x_scale=(1.0, 1.0, 1.0)))


def test_levenberg_and_marquardt_want_residuals():
    """A number is an objective, whose square nobody asked for; a vector of one number is a residual."""
    for fun in (bowl, bowl.py_func):
        with pytest.raises(ValueError, match="fun returns a number: method='lm' sums the squares of a vector of resid"):
            no.minimize_many(fun, np.zeros((3, 2)), method="lm")
    one = no.minimize_many(lambda x: x[:1] - 3.0, np.zeros((3, 1)), method="lm", bounds=[(1, 5)])  # moved into them
    np.testing.assert_allclose(one.x, 3.0)
    with pytest.raises(ValueError, match=r"x0 is infeasible: component 0 is 0\.0, not in"):
        no.least_squares(lambda x: x - 3.0, [0.0], bounds=(1, 5))


class TestTargets:
    def test_each_problem_ends_at_its_own_target(self):
        starts, targets = np.random.default_rng(0).uniform(-2, 2, (5, 2)), np.array([1.0, 0.1, -1.0, np.inf, 1e-3])
        how = {"method": no.Adam(lr=0.05), "jac": "forward", "tol": 0.0}
        res = no.minimize_many(bowl, starts, **how, options={"maxiter": 200, "f_target": targets, "history": True})
        for i, target in enumerate(targets):
            alone = no.minimize(bowl, starts[i], **how, options={"maxiter": 200, "f_target": target})
            assert (res.nit[i], res.fun[i], res.status[i]) == (alone.nit, alone.fun, alone.status)
            assert alone.history.step[-1] == res.history[i]["step"][-1] == res.nit[i]
        assert res.reason.tolist() == [8, 8, 0, 8, 8]
        assert "4 x The target was reached" in res.message
        same = no.minimize_many(bowl, starts, **how, options={"maxiter": 200, "f_target": 0.1})
        assert (same.fun <= 0.1).all()

    def test_without_compiled_code_too(self):
        res = no.minimize_many(lambda x: float(x @ x), np.ones((2, 2)), method=no.SGD(lr=0.1), jac=lambda x: 2 * x,
                               options={"f_target": [1.0, 0.1], "jit": False})  # fmt: skip
        assert (res.fun <= [1.0, 0.1]).all()
        assert res.reason.tolist() == [8, 8]

    def test_evaluations(self):
        res = no.minimize_many(bowl, np.ones((3, 2)), method=no.SGD(lr=1e-3), jac="forward", tol=0.0,
                               options={"max_evaluations": 7})  # fmt: skip
        assert res.nfev.tolist() == [7, 7, 7]
        assert res.message == "3 x The limit on evaluations was reached before the tolerance."

    def test_evaluations_of_residuals_from_python_too(self):
        def opaque(x):
            return np.array([float(str(x[0])) - 1, x[0] * x[1] - 2, x[1]])

        for options, nfev, reasons in (({"max_evaluations": 2}, 2, {6}), ({}, 10**3, {1, 11, 12, 13})):
            with pytest.warns(RuntimeWarning, match="runs from Python"):
                res = no.minimize_many(opaque, np.array([[3.0, 2.0], [4.0, 4.0]]), method="lm", options=options)
            assert (res.nfev <= nfev).all()
            assert set(res.reason.tolist()) <= reasons

    @pytest.mark.parametrize("targets", [[1.0, 2.0], [[1.0]], np.nan, [np.nan] * 3, ["low"] * 3])
    def test_nonsense(self, targets):
        with pytest.raises(ValueError, match="f_target"):
            no.minimize_many(bowl, np.ones((3, 2)), method="adam", options={"f_target": targets})
