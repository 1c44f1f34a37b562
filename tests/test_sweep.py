"""Many runs of one model: `minimize` for each, whatever the others do."""

import signal
import threading

import numba
import numpy as np
import pytest
import scipy.sparse as sp

import numbaopt as no

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = np.sign(X @ [1.0, -2.0, 0.5, 0.0] + 0.3 * RNG.normal(size=60))
MODEL = no.LinearModel(X, Y, loss="logistic")
RATES = [no.SGD(lr=lr) for lr in (0.01, 0.1, 1e300, 1.0)]
BATCHES = {"batch_size": 8, "epochs": 3}


def same(many, alone):
    for i, one in enumerate(alone):
        np.testing.assert_array_equal(many.x[i], one.x)
        assert many.fun[i] == one.fun
        assert (many.status[i], many.success[i], many.nit[i]) == (one.status, one.success, one.nit)
        assert (many.nfev[i], many.reason[i]) == (one.nfev, one.run.now[0].reason)


@pytest.mark.parametrize("threads", [1, 2])
def test_rates_and_seeds_have_the_bits_of_minimize(threads):
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, before))
    try:
        seeds = [3, 1, 4, 1]
        many = no.minimize_many(MODEL, method=RATES, options={**BATCHES, "seed": seeds, "history": True})
    finally:
        numba.set_num_threads(before)
    alone = [no.minimize(MODEL, method=opt, options={**BATCHES, "seed": seed})
             for opt, seed in zip(RATES, seeds, strict=True)]  # fmt: skip
    same(many, alone)
    assert many.status.tolist() == [1, 1, 2, 1]
    assert many.message.startswith("3 x The limit on steps")
    for rows, one in zip(many.history, alone, strict=True):
        np.testing.assert_array_equal(rows.fun, one.history.fun)


def test_starts_bounds_and_targets():
    starts, box = RNG.normal(size=(3, 5)), [(-0.5, 0.5)] * 5
    targets = [0.3, 0.69, 0.4]
    many = no.minimize_many(MODEL, starts, bounds=box, method="sgd", options={"lr": 0.5, "f_target": targets,
                                                                             "maxiter": 40})  # fmt: skip
    same(many, [no.minimize(MODEL, start, bounds=box, method="sgd", options={"lr": 0.5, "f_target": target,
                                                                            "maxiter": 40})
                for start, target in zip(starts, targets, strict=True)])  # fmt: skip
    assert many.reason[1] == 8
    assert "history" not in many


def test_methods_of_several_classes_and_sparse_data():
    model = no.LinearModel(sp.csr_matrix(np.where(X > 0.5, X, 0)), Y, loss="squared", l2=0.1)
    methods = ["lbfgs", "auto", no.Adam(lr=0.1), None]
    same(no.minimize_many(model, np.zeros(5), method=methods, options={"maxiter": 30}),
         [no.minimize(model, method=method, options={"maxiter": 30}) for method in methods])  # fmt: skip


def test_one_that_raises_troubles_no_other():
    def rate(t):
        raise ZeroDivisionError

    many = no.minimize_many(MODEL, method=[no.SGD(lr=rate), no.SGD(lr=0.1)], options=BATCHES)
    assert many.status.tolist() == [4, 1]
    assert np.isnan(many.fun[0])
    assert "The first that raised is problem 0" in many.message


def test_validation_and_patience_judge_each_run():
    options = {**BATCHES, "epochs": 30, "validation": no.LinearModel(X[:9], Y[:9], loss="logistic"), "patience": 2}
    same(no.minimize_many(MODEL, method=RATES[:2], options=options),
         [no.minimize(MODEL, method=opt, options=options) for opt in RATES[:2]])  # fmt: skip


def test_ctrl_c_keeps_what_is_done():
    begun = threading.Event()

    def score(x):  # a user's function: the run is under way when it is called
        if not begun.is_set():
            begun.set()
            signal.raise_signal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else (
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))
        return 0.0

    options = {"batch_size": 1, "epochs": 10**9, "validation": score}
    with pytest.raises(KeyboardInterrupt) as caught:
        no.minimize_many(MODEL, method=[no.SGD(lr=0.01)] * 5, options=options)
    assert (caught.value.result.status == 99).all()
    assert caught.value.result.x.shape == (5, 5)
    assert caught.value.result.message == "5 x Interrupted by the user."


def test_none_at_all():
    none = no.minimize_many(MODEL, np.zeros((0, 5)), method="adam")
    assert none.x.shape == (0, 5)
    assert none.message == "There were no problems."


@pytest.mark.parametrize(("given", "words"), [
    ({}, "how many runs there are must be told by a list of methods or seeds, or by the rows of X0"),
    ({"args": (1,), "method": RATES}, "args: a LinearModel has its own data and gradient"),
    ({"jac": True, "method": RATES}, "jac: a LinearModel has its own data"),
    ({"batched": True, "method": RATES}, "batched: a LinearModel has its own data"),
    ({"method": RATES, "options": {"seed": [1, 2]}}, "the number of runs is not clear: method has 4, seed has 2"),
    ({"method": RATES, "options": {"checkpoint": "x"}}, "option 'checkpoint' belongs to one run"),
    ({"method": RATES, "options": {"device": "gpu"}}, "device='gpu' is not known"),
    ({"method": ["slsqp"] * 2}, "method 'slsqp' is none of those for many runs of a model"),
    ({"X0": np.zeros((2, 3)), "method": "adam"}, "the model has 4 coefficients and an intercept"),
    ({"X0": np.zeros((2, 2, 5)), "method": "adam"}, "X0 must be of shape"),
    ({"method": [RATES[0], "lbfgs"], "options": {"batch_size": 8}}, "batch_size=8 needs a first-order rule"),
])  # fmt: skip
def test_what_is_not_possible_is_said(given, words):
    with pytest.raises(ValueError, match=words):
        no.minimize_many(MODEL, **given)
