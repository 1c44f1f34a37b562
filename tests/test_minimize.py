"""`minimize` on functions: forms of objective and gradient, SciPy's manners, faults."""

import functools
import warnings

import numba
import numpy as np
import pytest
import scipy.optimize
from problems import bowl, bowl_grad, rosen, rosen_grad, same
from scipy.optimize import Bounds, OptimizeWarning

import numbaopt as no
from numbaopt.loops import descent
from numbaopt.problems.evaluation import _compile_evaluation


def plain_bowl(x):
    return ((x - 3.0) ** 2).sum()


def not_compilable(x):
    return float(str(float(((x - 3.0) ** 2).sum())))


FORMS = {
    "jitted, jitted jac": (bowl, bowl_grad),
    "jitted, plain jac": (bowl, lambda x: 2.0 * (x - 3.0)),
    "plain, tuple jac": (plain_bowl, lambda x: (2.0 * (x[0] - 3.0), 2.0 * (x[1] - 3.0))),
    "pair": (lambda x: (((x - 3.0) ** 2).sum(), 2.0 * (x - 3.0)), True),
    "2-point": (bowl, "2-point"),
    "3-point": (bowl, "3-point"),
    "cs": (plain_bowl, "cs"),
    "None": (bowl, None),
    "ad": (bowl, "ad"),
    "forward": (plain_bowl, "forward"),
    "reverse": (bowl, "reverse"),
    "a function of grad": (bowl, no.grad(bowl)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_gradient_gives_the_same_run(form):
    fun, jac = FORMS[form]
    res = no.minimize(fun, np.zeros(2), method="adam", jac=jac, options={"lr": 0.1})
    exact = no.minimize(bowl, np.zeros(2), method="adam", jac=bowl_grad, options={"lr": 0.1})
    assert res.success
    assert res.nit == exact.nit
    np.testing.assert_allclose(res.x, exact.x, atol=2e-7)
    per_gradient = {"2-point": 2, "3-point": 4, "cs": 2}.get(form, 0)
    assert res.nfev == (res.nit + 1) * (1 + per_gradient)
    assert res.njev == res.nit + 1


@pytest.mark.parametrize("jac", ["3-point", "2-point", bowl_grad, None])
def test_python_driven_run_follows_the_compiled_one(jac):
    with pytest.warns(RuntimeWarning, match="runs from Python") as told:
        slow = no.minimize(not_compilable, np.zeros(2), method="adam", jac=jac, options={"lr": 0.1})
    fast = no.minimize(bowl, np.zeros(2), method="adam", jac=jac, options={"lr": 0.1})
    assert len(told) == 1
    assert slow.nit == fast.nit
    np.testing.assert_allclose(slow.x, fast.x, rtol=1e-6)


def test_what_cannot_be_compiled_is_named_in_one_line():
    with pytest.warns(RuntimeWarning) as told:
        no.minimize(lambda x: x.tolist()[0] ** 2, [1.0], method="sgd", options={"maxiter": 2})
    text = str(told[0].message)
    assert "tolist" in text
    assert "test_minimize.py" in text
    assert "\n" not in text
    with pytest.raises(TypeError, match=r"cannot be compiled: .*tolist"):
        no.minimize(lambda x: x.tolist()[0] ** 2, [1.0], method="sgd", options={"jit": True})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        no.minimize(not_compilable, [1.0], method="sgd", options={"maxiter": 2, "jit": False})


def test_args_of_any_layout_are_converted_once():
    @numba.njit
    def fun(x, a, scale):
        return scale * ((x - a) ** 2).sum()

    wide = np.zeros((2, 2))
    wide[:, 0] = 1.0, 2.0
    frozen, compiled = np.array([1.0, 2.0]), []
    for a in (np.array([1.0, 2.0]), wide[:, 0], frozen.astype(">f8")):
        for jac in (None, "3-point"):
            res = no.minimize(fun, [0.0, 0.0], args=(a, 2.0), method="nesterov", jac=jac, options={"lr": 0.05})
            np.testing.assert_allclose(res.x, [1, 2], atol=1e-5)
        compiled.append(_compile_evaluation.cache_info().misses)
    assert len(set(compiled)) == 1
    assert len(fun.signatures) == 1


def test_start_of_any_dtype_adds_no_compile_and_is_not_written_to():
    no.minimize(bowl, [0.0, 0.0], method="adam", jac=bowl_grad)
    before = len(bowl.signatures), len(bowl_grad.signatures), len(descent.compiled(np.dtype(float)).signatures)
    frozen = np.zeros(2)
    frozen.flags.writeable = False
    starts = [[0, 0], [np.float32(0)] * 2, np.zeros(2, ">f8"), np.zeros(4)[::2], frozen, (0, 0), np.zeros(2, int)]
    runs = [no.minimize(bowl, x0, method="adam", jac=bowl_grad, options={"lr": 0.1}) for x0 in starts]
    assert all((res.x == runs[0].x).all() for res in runs)
    assert (frozen == 0).all()
    assert before == (len(bowl.signatures), len(bowl_grad.signatures),
                      len(descent.compiled(np.dtype(float)).signatures))  # fmt: skip


def test_objective_may_overwrite_its_argument():
    @numba.njit
    def vandal(x):
        value = ((x - 3.0) ** 2).sum()
        x[:] = np.nan
        return value

    res = no.minimize(vandal, [0.0, 1.0], method="adam", options={"lr": 0.1})
    assert res.success
    np.testing.assert_allclose(res.x, 3, atol=1e-5)


@pytest.mark.parametrize("bounds", [[(None, 1), (-5, None)], Bounds([-np.inf, -5], [1, np.inf])])
@pytest.mark.parametrize("method", ["adam", "nesterov", "rprop", "lion"])
def test_bounds(method, bounds):
    seen = []
    res = no.minimize(bowl, [5.0, -9.0], method=method, jac=bowl_grad, bounds=bounds, callback=seen.append,
                      options={"lr": 0.05, "maxiter": 2000, "gtol": 0.1})  # fmt: skip
    assert res.x[0] == 1
    assert abs(res.x[1] - 3) < 0.06
    assert (np.array(seen)[:, 0] <= 1).all()
    assert (np.array(seen)[:, 1] >= -5).all()
    assert res.success


@pytest.mark.parametrize("jac", ["2-point", "3-point"])
def test_differences_stay_inside_bounds(jac):
    @numba.njit
    def root(x):
        return (np.sqrt(x) - 1.0).sum() ** 2  # NaN outside

    res = no.minimize(root, [0.0, 4.0], method="adam", jac=jac, bounds=[(0, 4), (0, 4)], options={"lr": 0.01})
    assert res.fun < 1e-8


def test_best_point_is_returned_and_history_tells_the_run():
    seen = []
    res = no.minimize(rosen, [-1.2, 1.0], method="adam", jac=rosen_grad, callback=lambda x: seen.append(rosen(x)),
                      options={"lr": 0.5, "maxiter": 100})  # fmt: skip
    assert res.fun == min(seen)
    assert res.fun == rosen(res.x)
    np.testing.assert_array_equal(res.jac, rosen_grad(res.x))
    np.testing.assert_array_equal(res.history.step, np.arange(101))
    np.testing.assert_array_equal(res.history.fun[1:], seen)
    assert res.history.grad_norm[0] == abs(rosen_grad(np.array([-1.2, 1.0]))).max()
    assert (res.history.lr[1:] == 0.5).all()
    assert (np.diff(res.history.seconds) >= 0).all()


@pytest.mark.parametrize("rows", [True, 50])
def test_history_is_bounded_on_long_runs(rows):
    res = no.minimize(rosen, [-1.2, 1.0], method="sgd", jac=rosen_grad,
                      options={"lr": 1e-5, "maxiter": 12_345, "history": rows})  # fmt: skip
    assert len(res.history) <= (1000 if rows is True else rows) + 1
    assert len(res.history) >= (400 if rows is True else rows // 2 - 1)
    assert res.history.step[0] == 0
    assert res.history.step[-1] == 12_345
    assert len(set(np.diff(res.history.step[:-1]))) == 1
    assert res.history.fun[-1] == res.fun


def test_tolerances():
    def run(**options):
        return no.minimize(bowl, [0.0], method="sgd", jac=bowl_grad, options={"lr": 0.01, "maxiter": 5000, **options})

    by_gradient = run(gtol=1e-3)
    assert by_gradient.success
    assert abs(by_gradient.jac).max() <= 1e-3
    assert "gtol" in by_gradient.message
    by_value = run(gtol=0, ftol=1e-4)
    assert by_value.success
    assert by_value.nit < by_gradient.nit
    assert "ftol" in by_value.message
    by_step = run(gtol=0, xtol=1e-3)
    assert by_step.success
    assert "xtol" in by_step.message
    assert run(gtol=0).status == 1
    tight, loose = (no.minimize(bowl, [0.0], method="sgd", tol=tol, options={"lr": 0.01}).nit for tol in (1e-6, 1e-2))
    assert tight > loose


@pytest.mark.parametrize("maxiter", [0, 1, 7])
def test_step_limit(maxiter):
    res = no.minimize(bowl, [0.0], method="adam", options={"maxiter": maxiter})
    assert (res.status, res.success, res.nit) == (1, False, maxiter)
    assert len(res.history) == maxiter + 1


def test_callbacks_of_both_forms_and_stop():
    calls = []

    def named(intermediate_result):
        calls.append(intermediate_result)
        if intermediate_result.nit == 5:
            raise StopIteration

    res = no.minimize(bowl, [0.0], method="adam", callback=named)
    assert (res.status, res.success, res.nit) == (99, False, 5)
    assert [c.fun for c in calls] == [bowl(c.x) for c in calls]
    copies = []
    no.minimize(bowl, [0.0], method="adam", callback=lambda x: copies.append(x), options={"maxiter": 3})
    assert len({c[0] for c in copies}) == 3
    with_callback = no.minimize(rosen, [-1.2, 1.0], method="adam", callback=lambda x: None, options={"maxiter": 300})
    without = no.minimize(rosen, [-1.2, 1.0], method="adam", options={"maxiter": 300})
    assert (with_callback.x == without.x).all()


@pytest.mark.parametrize("fun", [bowl, not_compilable])
@pytest.mark.filterwarnings("ignore:the objective runs from Python")
def test_exception_of_the_objective_comes_out_and_the_next_call_works(fun):
    @numba.njit
    def jac(x):
        if x[0] > 1.0:
            raise KeyError("boom")
        return 2.0 * (x - 3.0)

    x0 = np.zeros(2)
    with pytest.raises(KeyError, match="boom"):
        no.minimize(fun, x0, method="sgd", jac=jac, options={"lr": 0.1})
    assert (x0 == 0).all()
    assert no.minimize(bowl, x0, method="sgd", jac=bowl_grad, options={"lr": 0.1}).success


def test_gradient_of_the_wrong_shape():
    with pytest.raises(ValueError, match=r"shape \(3,\), x has shape \(2,\)"):
        no.minimize(bowl, [0.0, 0.0], method="sgd", jac=lambda x: np.zeros(3))
    with pytest.raises(ValueError, match=r"shape \(3,\), x has shape \(2,\)"):
        no.minimize(not_compilable, [0.0, 0.0], method="sgd", jac=lambda x: np.zeros(3), options={"jit": False})
    with pytest.raises(ValueError, match="jac must return a vector"):
        no.minimize(bowl, [0.0, 0.0], method="sgd", jac=lambda x: np.zeros((2, 1)))


@pytest.mark.parametrize(("x0", "match"), [
    ([], "empty"), (np.zeros((2, 2)), "one dimension"), ([1j], "real numbers"), (["a"], "real numbers"),
    ([None], "real numbers"),
])  # fmt: skip
def test_unusable_starts(x0, match):
    with pytest.raises(ValueError, match=match):
        no.minimize(bowl, x0, method="adam")


def test_unusable_objectives():
    with pytest.raises(ValueError, match="real scalar"):
        no.minimize(lambda x: 2 * x, [1.0], method="adam")
    with pytest.raises(ValueError, match="real scalar"):
        no.minimize(lambda x: x[0] + 1j, [1.0], method="adam")
    with pytest.raises(ValueError, match=r"must return \(value, gradient\)"):
        no.minimize(bowl, [1.0], method="adam", jac=True)
    with pytest.raises(TypeError, match="fun must be callable"):
        no.minimize(3, [1.0], method="adam")


def test_divergence_is_a_result_with_advice():
    res = no.minimize(bowl, [0.0, 0.0], method="sgd", jac=bowl_grad, options={"lr": 10.0})
    assert (res.status, res.success) == (2, False)
    assert np.isfinite(res.x).all()
    assert res.fun == bowl(res.x)
    assert f"step {res.nit}" in res.message
    assert "such as 1," in res.message
    start = no.minimize(lambda x: np.log(x[0]), [-1.0], method="sgd", jac=lambda x: 1.0 / x)
    assert start.status == 2
    assert "starting point" in start.message
    one_bad = no.minimize(bowl, [0.0, 0.0], method="sgd", jac=lambda x: np.array([1.0, np.nan]))
    assert "component 1 of the gradient" in one_bad.message


@pytest.mark.parametrize(("given", "meant"), [
    ("learning_rate", "lr"), ("step_size", "lr"), ("max_epochs", "epochs"), ("num_epochs", "epochs"),
    ("n_iter", "maxiter"), ("max_iter", "maxiter"), ("batchsize", "batch_size"), ("betas", "beta1"),
    ("momentum", "beta1"), ("epsilon", "eps"), ("random_state", "seed"), ("tol", "gtol"), ("verbose", "progress"),
    ("early_stopping", "patience"),
])  # fmt: skip
def test_names_of_other_libraries_are_understood(given, meant):
    with pytest.warns(OptimizeWarning, match=f"unknown option '{given}' for Adam; did you mean '{meant}'"):
        no.minimize(no.LinearModel([[1.0], [2.0]], [1.0, 2.0]), method="adam", options={given: 1, "maxiter": 1})


def test_messages_name_what_the_user_gave():
    total = no.FiniteSum(lambda x, idx: x[0] * idx.mean(), 5, jac=lambda x, idx: np.array([idx.mean()]))
    with pytest.raises(ValueError, match=r"needs a LinearModel .*got the function 'bowl'"):
        no.minimize(bowl, [1.0], method="newton", jac=bowl_grad)
    with pytest.raises(ValueError, match="weight_norm=True needs a LinearModel, not FiniteSum"):
        no.minimize(total, [1.0], method="adam", options={"weight_norm": True})


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'adam'"):
        no.minimize(bowl, [1.0], method="adamm")
    with pytest.warns(OptimizeWarning, match="'adam' cannot handle constraints, which are ignored"):
        no.minimize(bowl, [1.0], method="adam", constraints=[{"type": "eq", "fun": bowl}], options={"maxiter": 1})
    with pytest.warns(OptimizeWarning, match="unknown option 'beta_1' for Adam; did you mean 'beta1'"):
        no.minimize(bowl, [1.0], method="adam", options={"beta_1": 0.8, "maxiter": 1})
    with pytest.raises(ValueError, match=r"beta1=1.5\): beta1 must be in \[0, 1\)"):
        no.minimize(bowl, [1.0], method="adam", options={"beta1": 1.5})
    with pytest.raises(TypeError, match=r"maxiter=2\.5 must be an integer"):
        no.minimize(bowl, [1.0], method="adam", options={"maxiter": 2.5})
    with pytest.raises(ValueError, match="jac='4-point'"):
        no.minimize(bowl, [1.0], method="adam", jac="4-point")
    with pytest.raises(ValueError, match="lower one exceeds"):
        no.minimize(bowl, [1.0], method="adam", bounds=[(2, 1)])
    with pytest.raises(ValueError, match="length of x0"):
        no.minimize(bowl, [1.0], method="adam", bounds=[(0, 1), (0, 1)])
    with pytest.warns(OptimizeWarning, match="batch_size"):
        no.minimize(bowl, [1.0], method="adam", options={"batch_size": 3, "maxiter": 1})


@pytest.mark.parametrize("method", [None, "L-BFGS-B", "bfgs", "Nelder-Mead", "SLSQP", "trust-constr"])
def test_methods_that_only_scipy_has(method):
    res = no.minimize(rosen, [-1.2, 1.0], method=method, jac=None if method == "Nelder-Mead" else rosen_grad)
    np.testing.assert_allclose(res.x, 1, atol=1e-3)
    assert isinstance(res, scipy.optimize.OptimizeResult)


def test_scipy_gets_constraints_and_bounds():
    res = no.minimize(bowl, [0.0, 0.0], jac=bowl_grad, constraints={"type": "ineq", "fun": lambda x: 2 - x.sum()})
    np.testing.assert_allclose(res.x, 1, atol=1e-6)
    res = no.minimize(bowl, [0.0, 0.0], jac=bowl_grad, bounds=[(0, 1), (0, 5)])
    np.testing.assert_allclose(res.x, [1, 3], atol=1e-5)


@pytest.mark.parametrize("method", ["adam", no.Adam(), no.Adam, "ADAM"])
def test_spellings_of_a_method(method):
    res = no.minimize(bowl, [0.0], method=method, options={"lr": 0.1})
    assert res.success
    assert res.lr == 0.1


@pytest.mark.parametrize("name", sorted({m.name for m in no.methods() if hasattr(m.optimizer, "prepare")}))
def test_every_method_descends(name):
    rates = {"adadelta": 5.0, "adagrad": 0.3, "radam": 1e-3, "sgd": 1e-3, "momentum": 3e-4, "nesterov": 3e-4}
    lr = rates.get(name, 0.01)
    res = no.minimize(rosen, [-1.2, 1.0], method=name, jac=rosen_grad, options={"lr": lr, "maxiter": 5000})
    assert res.fun < 2.0
    assert res.history.step[-1] == res.nit


def test_schedules_drive_the_rate():
    lr = no.schedules.Exponential(0.1, gamma=0.9)
    res = no.minimize(bowl, [0.0], method="sgd", options={"lr": lr, "maxiter": 20, "gtol": 0})
    np.testing.assert_allclose(res.history.lr[1:], 0.1 * 0.9 ** np.arange(20), rtol=1e-14)
    options = {"lr": lambda k: 0.1 * 0.9**k, "maxiter": 20, "gtol": 0}
    by_function = no.minimize(bowl, [0.0], method="sgd", options=options)
    np.testing.assert_allclose(by_function.x, res.x, rtol=1e-14)


def test_plateau_reduces_and_does_not_depend_on_slices():
    lr = no.schedules.ReduceOnPlateau(1.0, factor=0.5, patience=3)  # SGD on the bowl jumps to and fro with rate 1
    options = {"lr": lr, "maxiter": 40, "gtol": 0}
    res = no.minimize(bowl, [0.0], method="sgd", jac=bowl_grad, options=options)
    cut = no.minimize(bowl, [0.0], method="sgd", jac=bowl_grad, callback=lambda x: None, options=options)
    np.testing.assert_array_equal(res.history.lr, cut.history.lr)
    assert set(res.history.lr[1:7]) == {1.0, 0.5}
    assert res.fun == 0


def test_display_and_progress(capsys):
    pytest.importorskip("tqdm")
    no.minimize(bowl, [0.0], method="adam", options={"disp": True, "progress": True, "lr": 0.1})
    shown = capsys.readouterr()
    assert "Iterations:" in shown.out
    assert "step" in shown.err


# ---- what a newcomer does --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"jit": False}], ids=["compiled", "in Python"])
def test_plain_functions_check_their_indices(options):
    with pytest.raises(IndexError):
        no.minimize(lambda x: (x[0] - 1.0) ** 2 + 0.0 * x[2], [0.0], method="adam", options=options)


@pytest.mark.parametrize("args", [(), (1.0, 2.0)], ids=["too few", "too many"])
def test_a_jitted_objective_that_cannot_be_called_is_one_sentence_and_no_warning(args):
    @numba.njit
    def fun(x, a):
        return ((x - a) ** 2).sum()

    with pytest.raises(TypeError, match=r"^fun\(x, a\) cannot be called with x and ") as error:
        no.minimize(fun, [0.0], args, "adam")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("arg", [[1.0, 2.0], [1, "a"], {"a": 1.0}, {1.0}], ids=repr)
def test_what_compiled_code_cannot_be_given_is_named(arg):
    @numba.njit
    def jitted(x, b, a):
        return ((x - a[0]) ** 2).sum()

    def plain(x, b, a):
        return ((x - len(a)) ** 2).sum()

    told = rf"args\[1\] is a {type(arg).__name__}, which compiled code does not take; give an array, a number or a"
    for jac in (None, "forward"):
        with pytest.raises(TypeError, match=told) as error:
            no.minimize(jitted, [0.0], (1.0, arg), jac=jac)
        assert "\n" not in str(error.value)
    with pytest.warns(RuntimeWarning, match=told):
        res = no.minimize(plain, [0.0], (1.0, arg))
    np.testing.assert_allclose(res.x, len(arg), atol=1e-5)


def test_the_way_to_streams_and_to_check_grad_is_told():
    source = no.stream.open(np.ones((10, 3)), np.arange(10.0), chunk_rows=4)
    for call in (lambda: no.minimize(source), lambda: no.minimize(source, np.zeros(3)),
                 lambda: no.minimize_many(source, np.zeros((2, 3)))):  # fmt: skip
        with pytest.raises(TypeError, match=r"numbaopt\.stream\.minimize"):
            call()
    for method in ("lbfgs", "bfgs", "cg", "trust-ncg"):
        res = no.minimize(bowl, [0.0, 0.0], jac=lambda x: -2 * (x - 3), method=method)
        assert (res.status, res.fun) == (3, 18.0)
        assert "numbaopt.check_grad" in res.message
    stalled = no.minimize(lambda x: abs(x[0]), [0.1], jac=lambda x: 2.0 * (x > 0) - 1, method="bfgs")
    assert stalled.status == 3
    assert "check_grad" not in stalled.message, "it has come nearer"


def test_bounds_that_are_no_numbers_are_told():
    for bounds in ([(0, 1), (np.nan, 5)], [(0, 1), (5, np.nan)]):
        for call in (lambda b: no.minimize(bowl, [0.0, 0.0], bounds=b),
                     lambda b: no.minimize_many(bowl, np.zeros((2, 2)), bounds=b),
                     lambda b: no.least_squares(bowl_grad, [0.0, 0.0], bounds=np.transpose(b))):  # fmt: skip
            with pytest.raises(ValueError, match=r"bounds: \(.*nan.*\) is not a pair of numbers at component 1"):
                call(bounds)


def test_a_model_has_no_args_and_no_jac():
    model = no.LinearModel([[1.0], [2.0]], [1.0, 2.0])
    for given in ({"args": (1,)}, {"jac": bowl_grad}):
        with pytest.raises(ValueError, match=f"^{next(iter(given))}: a LinearModel has its own data and gradient"):
            no.minimize(model, method="adam", **given)


def test_without_a_method_it_is_l_bfgs():
    model = no.LinearModel([[1.0], [2.0], [4.0]], [1.0, 2.0, 5.0])
    same(no.minimize(model), no.minimize(model, method="lbfgs"))
    assert no.minimize(model, bounds=[(0, 1), (None, None)]).x[0] == 1


def test_numbers_are_named_when_they_are_none():
    for name, value in (("gtol", "a"), ("ftol", None), ("xtol", [1])):
        with pytest.raises(TypeError, match=rf"^{name}=.* must be a number in \[0, inf\)"):
            no.minimize(bowl, [0.0], method="adam", jac=bowl_grad, options={name: value})
    assert no.minimize(bowl, [0.0], method="adam", jac=bowl_grad, options={"maxiter": 1e1, "gtol": 0}).nit == 10


def test_a_wrong_gradient_is_told_with_both_shapes_by_scipys_methods_too():
    @numba.njit
    def jac(x):
        return np.zeros(3)

    with pytest.raises(ValueError, match=r"gradient of shape \(3,\), x has shape \(2,\)"):
        no.minimize(bowl, np.zeros(2), method="L-BFGS-B", jac=jac)


class Bowl:
    """An objective that is no function."""

    scale = 2.0

    def __call__(self, x):
        return self.scale * ((x - 3.0) ** 2).sum()


@pytest.mark.parametrize("fun", [functools.partial(lambda a, x: a * ((x - 3.0) ** 2).sum(), 2.0), Bowl(),
                                 Bowl().__call__], ids=["partial", "object", "method"])  # fmt: skip
def test_callables_that_are_no_functions_run_from_python(fun):
    with pytest.warns(RuntimeWarning, match="runs from Python"):
        res = no.minimize(fun, np.zeros(2), method="lbfgs")
    assert res.success
    np.testing.assert_allclose(res.x, 3.0, atol=1e-5)
    with pytest.raises(TypeError, match="jac='ad'"):
        no.minimize(fun, np.zeros(2), method="lbfgs", jac="ad")


def test_objmode_is_differentiated_by_differences():
    @numba.njit
    def fun(x):
        with numba.objmode(r="float64"):
            r = float(np.sum((x - 3.0) ** 2))
        return r

    with pytest.warns((RuntimeWarning, numba.NumbaWarning)) as seen:
        res = no.minimize(fun, np.zeros(2), method="lbfgs")
    assert any("objmode" in str(warning.message) for warning in seen)
    np.testing.assert_allclose(res.x, 3.0, atol=1e-5)


def test_functions_and_arguments_that_do_not_fit_are_told():
    with pytest.raises(TypeError, match=r"fun\(x, a\) cannot be called with x and 2 args: too many"):
        no.minimize(numba.njit(lambda x, a: a * x[0] ** 2), [1.0], args=(1.0, 2.0))
    with pytest.raises(TypeError, match=r"jac\(x\) cannot be called with x and 1 args"):
        no.minimize(lambda x, a: a * x[0] ** 2, [1.0], args=(1.0,), jac=lambda x: x)
    with pytest.raises(ValueError, match="x0 is not given"):
        no.minimize(bowl)
    with pytest.warns(RuntimeWarning, match=r"the objective runs from Python, .* because jac cannot be compiled"):
        no.minimize(bowl, [0.0, 0.0], jac=lambda x: np.array(list(map(float, map(str, 2 * (x - 3))))))


@pytest.mark.parametrize("name", ["switch", "Lookahead"])
def test_names_of_rules_made_of_rules_say_what_to_give(name):
    with pytest.raises(ValueError, match=f"made of other rules: give an instance, such as {name.title()}"):
        no.minimize(lambda x: x[0] ** 2, [1.0], method=name)
