"""What is told to those who err, in one sentence: what they gave, what it may be; and warnings point at their line."""

import inspect
import time
from typing import NamedTuple

import numba
import numpy as np
import pandas
import pytest
from problems import table
from scipy.optimize import OptimizeWarning
from sklearn.base import clone

import numbaopt as no
from numbaopt._fields import checked_namedtuple
from numbaopt.linear_model import LogisticRegression, SGDRegressor
from numbaopt.losses._loss import LOSSES
from numbaopt.problems.reach import check_reach


@numba.njit
def misfit(x, t):
    return ((x[0] * t - 1.0) ** 2).sum()


T = np.arange(1.0, 5.0)
SLOPE = float(T.sum() / (T @ T))
X, Y, _ = table()


def test_values_are_not_printed():
    for wrong, kind in (((X, Y), "tuple"), (X, "ndarray")):
        with pytest.raises(TypeError, match=rf"^validation must be a problem .*, not of type {kind}$"):
            no.minimize(no.LinearModel(X, Y), method="adam", options={"batch_size": 8, "validation": wrong})


@pytest.mark.parametrize("method", ["adam", "L-BFGS", no.Adam(), no.LBFGS()])
def test_a_method_in_the_place_of_arguments(method):
    with pytest.raises(TypeError, match=r"args=.* is a method, .* write method="):
        no.minimize(misfit, [0.0], method)
    with pytest.raises(TypeError, match=r"args=.* is a method, .* write method="):
        no.minimize_many(misfit, np.zeros((2, 1)), method)


@pytest.mark.parametrize(("call", "given", "meant"), [
    (LogisticRegression, "C", "alpha"), (LogisticRegression, "max_iter", "max_epochs"),
    (LogisticRegression, "penalty", "l1_ratio"), (LogisticRegression, "solver", "method"), (SGDRegressor, "eta0", "lr"),
    (SGDRegressor, "learning_rate", "lr"), (SGDRegressor, "epochs", "max_epochs"),
    (lambda **given: no.LinearModel(X, Y, **given), "alpha", "l2"), (no.Adam, "learning_rate", "lr"),
    (lambda **given: no.least_squares(misfit, [0.0], **given), "max_iter", "max_nfev"),
    (lambda **given: no.minimize_many(misfit, [[0.0]], **given), "jacobian", "jac"),
    (lambda **given: no.stream.minimize((X, Y), **given), "optimizer", "method"),
])  # fmt: skip
def test_arguments_of_other_libraries_are_understood(call, given, meant):
    with pytest.raises(TypeError, match=f"has no (argument|field) '{given}'; did you mean '{meant}'\\? valid: "):
        call(**{given: 1})


def test_options_that_are_given_as_arguments():
    told = r"minimize has no argument 'lr'; valid: .*; what .* may be told goes into options=dict\(lr=\.\.\.\)"
    with pytest.raises(TypeError, match=told):
        no.minimize(misfit, [0.0], T, method="adam", lr=0.1)
    with pytest.raises(TypeError, match=r"resume has no argument 'epochs'; .* options=dict\(epochs=\.\.\.\)"):
        no.resume("run.npz", misfit, epochs=3)
    assert list(inspect.signature(no.minimize).parameters)[:3] == ["fun", "x0", "args"]
    assert clone(LogisticRegression(alpha=0.5)).alpha == 0.5


# ---- jitted functions that read beyond x -----------------------------------------------------------------------------


@numba.njit
def line(x, t, calls):
    calls[0] += 1
    r = np.empty(t.size)
    for i in range(t.size):
        r[i] = x[0] + x[1] * t[i] + (x[-3] if x.size > 2 else 0.0)
    return r


def test_an_unknown_that_x_does_not_have_is_never_read():
    too_few = r"x0 has 1 unknown, but .* reads as many as 3: index is out of bounds"
    calls = np.zeros(1)
    with pytest.raises(ValueError, match=too_few):
        no.least_squares(line, [0.0], "2-point", args=(T, calls))
    nested = numba.njit(lambda x, of: line(x, T, of[0]).sum() + (x[2] if x.size > 2 else 0.0))
    assert check_reach(nested, 2, ((calls,),)) is None
    assert calls[0] == 0
    rosen = numba.njit(lambda x: (1 - x[0]) ** 2 + (x[1] - x[0] ** 2) ** 2)
    for call in (lambda: no.minimize(rosen, [0.0]), lambda: no.minimize_many(rosen, np.zeros((3, 1)))):
        with pytest.raises(ValueError, match="x0 has 1 unknown, but <lambda> reads as many as 2: index is out of"):
            call()
    terms = no.FiniteSum(numba.njit(lambda x, idx: x[4] * idx.size), 9)
    with pytest.raises(ValueError, match="x0 has 4 unknowns, but <lambda> reads as many as 5"):
        no.minimize(terms, np.zeros(4), method="adam")
    with pytest.raises(IndexError):
        no.minimize(numba.njit(boundscheck=True)(rosen.py_func), [0.0], jac="2-point")


@numba.njit
def long(x):
    total = x[2] if x.size > 2 else 0.0
    for _ in range(10**8):
        total = 0.5 * total + x[0]
    return total


def test_a_trial_takes_the_time_of_compiled_code():
    begin = time.process_time()
    check_reach(long, 1, ())
    assert time.process_time() - begin < 5.0  # the interpreter takes longer


def test_an_index_that_is_guarded_is_no_error():
    calls = np.zeros(1)
    found = no.least_squares(line, [0.0, 0.0], "2-point", args=(T, calls))
    np.testing.assert_allclose(found.x, 0.0, atol=1e-12)
    assert calls[0] > 0


# ---- tables of other libraries ---------------------------------------------------------------------------------------


class Foreign:
    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


@pytest.mark.parametrize("made", [pandas.Series, Foreign, lambda t: pandas.DataFrame({"t": t})])
def test_what_turns_into_an_array_of_numbers_is_an_argument(made):
    t = made(T)
    for found in (no.minimize(misfit, [0.0], (t,)).x[0], no.minimize(lambda x, t: misfit(x, t), [0.0], t, "bfgs").x[0],
                  no.minimize_many(misfit, np.zeros((2, 1)), (t,)).x[0, 0]):  # fmt: skip
        assert found == pytest.approx(SLOPE)
    fit = no.least_squares(numba.njit(lambda x, t: x[0] * t.ravel() - 1.0), [0.0], args=(t,))
    assert fit.x[0] == pytest.approx(SLOPE)


def test_tables_of_no_numbers_are_refused():
    with pytest.raises(TypeError, match=r"args\[0\] is a DataFrame of object, which .* give one of numbers"):
        no.minimize(misfit, [0.0], pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
    with pytest.raises(ValueError, match=r"batched is not given, and args\[0\] has as many items"):
        no.minimize_many(misfit, np.zeros((4, 1)), (pandas.Series(T),))


# ---- warnings point at the line that earns them ----------------------------------------------------------------------

WARNED = {
    "option": lambda: no.minimize(misfit, [0.0], T, options={"foo": 1}),
    "batch_size": lambda: no.minimize(misfit, [0.0], T, "adam", options={"batch_size": 3, "maxiter": 9}),
    "hess": lambda: no.minimize(misfit, [0.0], T, "lbfgs", hess=misfit),
    "constraints": lambda: no.minimize(misfit, [0.0], T, "lbfgs", constraints=[{}]),
    "many": lambda: no.minimize_many(misfit, np.zeros((2, 1)), T, options={"foo": 1}),
    "no effect in many": lambda: no.minimize_many(misfit, np.zeros((2, 1)), T, options={"disp": True}),
    "starts": lambda: no.multistart(misfit, [(0, 1)], args=T, n_starts=2, options={"foo": 1}),
    "residuals": lambda: no.least_squares(misfit, [0.0], args=T, options={"foo": 1}),
    "rates": lambda: no.lr_finder(misfit, [0.0], args=T, rates=(1e-3, 1e-2), options={"foo": 1}),
    "stream": lambda: no.stream.minimize((X, Y), options={"foo": 1, "epochs": 1}),
}


@pytest.mark.parametrize("call", WARNED.values(), ids=WARNED.keys())
def test_warnings_point_at_the_line_of_the_user(call):
    with pytest.warns(OptimizeWarning) as told:
        call()
    assert {(one.filename, one.lineno) for one in told} == {(__file__, inspect.getsourcelines(call)[1])}


# ---- minibatches that only got worse ---------------------------------------------------------------------------------


@pytest.mark.parametrize("judge", [{}, {"validation": no.LinearModel(X, Y)}], ids=["objective", "validation"])
def test_epochs_in_vain_are_told(judge):
    model, start = no.LinearModel(X, Y), np.linalg.lstsq(np.c_[X, np.ones(len(X))], Y, rcond=None)[0]
    options = {"lr": 0.1, "batch_size": 8, "epochs": 2, **judge}
    worse = no.minimize(model, start, method="sgd", options=options)
    assert worse.message == ("2 epochs were done. None was better than the start, which is returned; try a smaller "
                             "rate, such as 0.01 (it was 0.1).")  # fmt: skip
    np.testing.assert_array_equal(worse.x, start)
    options = {**options, "lr": 0.01, "epochs": 1}
    assert no.minimize(model, method="sgd", options=options).message == "1 epoch was done."
    unseen = no.minimize(model, start, method="sgd", options={**options, "history": False, "validation": None})
    assert unseen.message == "1 epoch was done."


# ---- rules, transforms and losses of one's own -----------------------------------------------------------------------


class Rate(NamedTuple):
    lr: float = 0.1


@pytest.mark.parametrize(("slots", "match"), [("m", r"slots='m' must be a tuple of names, such as \('m',\)"),
                                              (3, r"slots=3 must be a tuple of names"), ((1,), "slots=")])  # fmt: skip
def test_slots_are_names(slots, match):
    with pytest.raises(TypeError, match=match):
        no.rule()(type("Odd", (Rate,), {"slots": slots, "prepare": lambda opt, lr, t: (lr,),
                                        "update": lambda c, x, g, s, i: x}))  # fmt: skip


def rule(**functions):
    """A rule, or with ``apply`` a transform, that nobody else knows."""
    whole = {"slots": ("m",), "prepare": lambda opt, lr, t: (0.1,), "update": lambda c, x, g, s, i: x - c[0] * g}
    whole = {"prepare": whole["prepare"]} if "apply" in functions else whole
    return checked_namedtuple(type("Odd", (Rate,), {**whole, **functions}))


BAD_RULES = {
    "nothing": (rule(update=lambda c, x, g, s, i: None),
                "Odd.update must return the new value of the coordinate, a number, not None"),
    "method of arrays": (rule(update=lambda c, x, g, s, i: x - g.mean()),
                         r"Odd.update cannot be compiled by Numba: Unknown attribute 'mean' of type float64 "
                         r"\(.*test_messages.py, line \d+\); it gets the numbers of one coordinate, no arrays"),
    "not Numba": (rule(update=lambda c, x, g, s, i: x * len({1: x, "a": g})),
                  "Odd.update cannot be compiled by Numba: No implementation .* for signature: setitem"),
    "no such name": (rule(update=lambda c, x, g, s, i: nobody(x)), "Odd.update fails: NameError: "),  # noqa: F821
    "no tuple": (rule(prepare=lambda opt, lr, t: [lr]), r"Odd.prepare must return a tuple of numbers, not \[0.1\]"),
    "no numbers": (rule(prepare=lambda opt, lr, t: (None,)), r"Odd.prepare must return a tuple of numbers, not \(None"),
    "one number": (rule(apply=lambda c, x, g, i: g), "Odd.apply must return the new value and the new gradient of the "
                   "coordinate, two numbers as in `return x, g`, not"),
    "no gradient": (rule(apply=lambda c, x, g, i: None), r"Odd.apply must return the new value and .*, not None"),
    "index": (rule(apply=lambda c, x, g, i: (x, c[1])), r"Odd.apply: .* out of range \(prepare returns 1 coefficients"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "match"), BAD_RULES.values(), ids=BAD_RULES.keys())
def test_functions_of_rules_and_transforms_that_cannot_be_used(kind, match):
    opt = no.transforms.Chain((kind(), no.SGD())) if hasattr(kind, "apply") else kind()
    state = no.init_state(opt, T)
    for call in (lambda: no.minimize(misfit, [0.0], T, opt), lambda: no.step(opt, T.copy(), T, state, 1)):
        with pytest.raises(TypeError, match=match) as told:
            call()
        assert "\n" not in str(told.value)


def test_schedules_that_cannot_be_used():
    kind = checked_namedtuple(type("Odd", (Rate,), {"rate": lambda s, step, scale: None}))
    kind.__call__ = lambda self, step: 0.1
    with pytest.raises(TypeError, match=r"lr: Odd.rate cannot be compiled by Numba: .*; it must return a number"):
        no.minimize(misfit, [0.0], T, no.SGD(lr=kind(1.0)))


def loss(value=lambda c, z, y: (z - y) ** 2, slope=lambda c, z, y: 2 * (z - y), fields=(("w", float),)):
    """A loss that nobody else knows, without defaults."""
    return no.losses.loss(type("OddLoss", (NamedTuple("OddLoss", fields),), {"value": value, "slope": slope}))


@pytest.fixture
def no_odd_loss():
    yield
    LOSSES.pop("odd_loss", None)


BAD_LOSSES = {
    "half": ({"slope": lambda c, z, y: z - y}, ValueError,
             "OddLoss.slope is not the derivative of its value: at z=0.3137"),
    "half far off": ({"slope": lambda c, z, y: 2 * (z - y) if z > -9 else z - y}, ValueError,
                     r"OddLoss.slope is not the derivative .* at z=-9.371"),
    "with this w": ({"slope": lambda c, z, y: c[0] * (z - y)}, ValueError, "OddLoss.slope is not the derivative"),
    "nothing": ({"slope": lambda c, z, y: None}, TypeError, "OddLoss.slope must return a number, not None"),
    "method of arrays": ({"value": lambda c, z, y: ((z - y) ** 2).sum()}, TypeError,
                         "OddLoss.value fails: AttributeError: .*; it gets numbers, a row's margin z and target y"),
    "not Numba": ({"value": lambda c, z, y: (z - y) ** 2 * len({1: z, 2: "a"}) / 2}, TypeError,
                  "OddLoss.value cannot be compiled by Numba: .*for signature: "),
}  # fmt: skip


@pytest.mark.parametrize(("functions", "error", "match"), BAD_LOSSES.values(), ids=BAD_LOSSES.keys())
def test_losses_that_cannot_be_used(functions, error, match, no_odd_loss):
    kind = loss(**functions)
    with pytest.raises(error, match=match) as told:
        no.minimize(no.LinearModel(X, Y, loss=kind(1.0)))
    assert "\n" not in str(told.value)


def test_a_loss_with_a_kink_at_the_margin_that_is_tried(no_odd_loss):
    kind = loss(lambda c, z, y: abs(z - c[0]), lambda c, z, y: 1.0 if z > c[0] else -1.0)
    assert no.LinearModel(X, Y, loss=kind(0.3137)).value(np.zeros(8)) == pytest.approx(0.3137)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_file_that_is_no_checkpoint(tmp_path):
    np.save(tmp_path / "X.npy", X)
    for resume in (no.resume, no.stream.resume):
        with pytest.raises(ValueError, match=r"X\.npy is not a usable checkpoint: it is no checkpoint of numbaopt"):
            resume(tmp_path / "X.npy", misfit)
    path = tmp_path / "run.npz"
    no.stream.minimize((X, Y), options={"epochs": 1, "checkpoint": path})
    with pytest.raises(ValueError, match=r"run\.npz is the checkpoint of a stream: numbaopt\.stream\.resume"):
        no.resume(path, no.LinearModel(X, Y))


def test_a_stream_takes_a_pair_of_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", X)
    np.save("y.npy", Y)
    with pytest.raises(TypeError, match=r"y is missing: X\.npy holds X alone; give a pair \('X\.npy', y\)"):
        no.stream.minimize("X.npy", "y.npy")
    with pytest.raises(TypeError, match=r"y is missing: .* give a pair \(X, y\)"):
        no.stream.minimize(X, Y)
    with pytest.raises(TypeError, match=r"target is missing: which column of 'X\.parquet' is y"):
        no.stream.minimize("X.parquet")
    whole = no.stream.minimize((X, Y), options={"epochs": 2, "checkpoint": "run.npz"})
    for pair in (("X.npy", "y.npy"), ["X.npy", tmp_path / "y.npy"], ("X.npy", Y), (X, "y.npy")):
        np.testing.assert_array_equal(no.stream.minimize(pair, options={"epochs": 2}).x, whole.x)


def test_files_that_have_moved_are_opened_as_they_were(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", X)
    np.save("y.npy", Y)
    source = no.stream.open("X.npy", "y.npy", chunk_rows=50)
    whole = no.stream.minimize(source, options={"epochs": 2, "batch_size": 16})
    no.stream.minimize(source, options={"epochs": 1, "batch_size": 16, "checkpoint": "run.npz"})
    for name in ("X.npy", "y.npy"):
        (tmp_path / name).rename(tmp_path / f"moved_{name}")
    again = no.stream.resume("run.npz", ("moved_X.npy", "moved_y.npy"), options={"epochs": 2})
    np.testing.assert_array_equal(again.x, whole.x)
