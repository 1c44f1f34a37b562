"""Rates that are found on a GPU, in CUDA's simulator: the search of the CPU, evaluation by evaluation."""

import numba
import numpy as np
import pytest

import numbaopt as no

if not numba.config.ENABLE_CUDASIM:
    pytest.skip("needs NUMBA_ENABLE_CUDASIM=1 NUMBA_DISABLE_JIT=1: scripts/test", allow_module_level=True)

from numbaopt.loops import automatic

pytestmark = [
    pytest.mark.simulator,
    pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered"),
]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(29, 4))
Y = np.sign(X @ [1.0, -2.0, 0.5, 0.0] + 0.3 * RNG.normal(size=29))
FOUND = no.schedules.Automatic(steps=4, block=5)
RULES = {"gd": no.SGD(lr=FOUND), "adam": no.Adam(lr=FOUND)}


def model(loss="logistic", **options):
    return no.LinearModel(X, Y, loss=loss, **options)


CASES = {
    "tests again": (model, "gd", {"maxiter": 150}),
    "diverges in trials": (lambda: no.LinearModel(1e140 * X, Y), "gd", {"maxiter": 60}),
    "gives up": (lambda: no.LinearModel(1e200 * X, Y), "gd", {}),
    "shrinks": (lambda: model("squared", l1=0.1), "adam", {"maxiter": 120, "lr": FOUND._replace(shrink=0.9)}),
    "xtol": (model, "adam", {"maxiter": 300, "xtol": 0.05}),
    "ftol": (model, "gd", {"maxiter": 300, "ftol": 1e-3}),
    "gtol": (lambda: model(l2=0.1), "gd", {"gtol": 1e-2}),
    "a target": (model, "adam", {"f_target": 0.5}),
    "evaluations": (model, "adam", {"max_evaluations": 37}),
    "a norm": (model, "gd", {"maxiter": 25, "max_norm": 0.5}),
    "lengths": (model, "gd", {"maxiter": 40, "weight_norm": True}),
}


def agree(gpu, cpu):
    assert (gpu.nit, gpu.nfev, gpu.status, gpu.message) == (cpu.nit, cpu.nfev, cpu.status, cpu.message)
    np.testing.assert_allclose(gpu.x, cpu.x, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(gpu.lr, cpu.lr, rtol=1e-9)
    np.testing.assert_allclose(gpu.history.lr, cpu.history.lr, rtol=1e-9)
    np.testing.assert_allclose(gpu.run.extra, cpu.run.extra, rtol=1e-9)
    np.testing.assert_allclose(gpu.history.fun, cpu.history.fun, rtol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_the_search_is_that_of_the_cpu(name):
    make, rule, options = CASES[name]
    cpu, gpu = (no.minimize(make(), method=RULES[rule], options={**options, **more})
                for more in ({}, {"device": "cuda"}))  # fmt: skip
    agree(gpu, cpu)


def test_the_cases_reach_every_turn_of_the_search(monkeypatch):
    turns, note = set(), automatic.note
    monkeypatch.setattr(automatic, "note", lambda now, extra, fields, fun, finite: (
        turns.add((found := note(now, extra, fields, fun, finite), finite)), found)[1])  # fmt: skip
    for name in ("tests again", "diverges in trials", "shrinks"):
        make, rule, options = CASES[name]
        no.minimize(make(), method=RULES[rule], options={**options, "device": "cuda"})
    assert {turn for turn, _ in turns} == {automatic.ON, automatic.AT_BASE, automatic.AT_BEST, automatic.AT_NEW_BASE}
    assert {finite for _, finite in turns} == {True, False}


def test_bounds_and_a_validation():
    box, given = [(-0.1, 0.2)] * 4 + [(None, None)], {"maxiter": 60, "validation": model("squared")}
    cpu, gpu = (no.minimize(model(), method=RULES["gd"], bounds=box, options={**given, **more})
                for more in ({}, {"device": "cuda"}))  # fmt: skip
    agree(gpu, cpu)
    np.testing.assert_allclose(gpu.history.score, cpu.history.score, rtol=1e-9)


@pytest.mark.parametrize("maxiter", [2, 13, 40])
def test_a_search_cut_within_a_trial_goes_on_anywhere(maxiter, tmp_path):
    path, devices = tmp_path / "run.npz", {"cpu": {}, "cuda": {"device": "cuda"}}
    once = no.minimize(model(), method=RULES["gd"], options={"maxiter": 60})
    for first, last in (("cuda", "cuda"), ("cpu", "cuda"), ("cuda", "cpu")):
        no.minimize(model(), method=RULES["gd"], options={"maxiter": maxiter, "checkpoint": path, **devices[first]})
        agree(no.resume(path, model(), options={"maxiter": 60, "device": last}), once)


def test_the_default_of_a_name_is_found():
    cpu, gpu = (no.minimize(model(), method="sgd", options={"lr": None, "maxiter": 40, **more})
                for more in ({}, {"device": "cuda"}))  # fmt: skip
    agree(gpu, cpu)
    assert gpu.lr != no.SGD().lr


def test_many_runs_are_told_their_rates():
    with pytest.raises(ValueError, match="device='cuda': lr=None is found by one run at a time"):
        no.minimize_many(model(), np.zeros((2, 5)), method="sgd", options={"lr": None, "device": "cuda"})
