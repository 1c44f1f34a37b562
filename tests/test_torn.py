"""Runs that end in the middle of something, or are told a lie: by exceptions, interrupts, damaged or hostile files."""

import gc
import itertools
import json
import os
import signal
import weakref
from typing import NamedTuple

import numba
import numpy as np
import pytest
from problems import bowl, bowl_grad, same, table

import numbaopt as no
from numbaopt import checkpoint
from numbaopt.optimizers import OPTIMIZERS
from numbaopt.run import Driver

OPTIONS = {"lr": 0.05, "maxiter": 60, "gtol": 0.0}


class Trouble(Exception):
    pass


@pytest.mark.parametrize("rate", [0.05, no.schedules.ReduceOnPlateau(0.05, patience=0)], ids=["constant", "plateau"])
@pytest.mark.parametrize("error", [Trouble, KeyboardInterrupt, StopIteration])
def test_a_python_objective_that_raised_is_resumed_bit_for_bit(tmp_path, rate, error):
    calls = itertools.count(1)

    def fun(x):
        if next(calls) == 31:
            raise error("boom")
        return float(((x - 3.0) ** 2).sum())

    options = {**OPTIONS, "lr": rate, "jit": False}
    path = tmp_path / "run.npz"
    with pytest.raises(error):
        no.minimize(fun, np.zeros(2), method="adam", jac=bowl_grad, options={**options, "checkpoint": path})
    resumed = no.resume(path, fun, jac=bowl_grad, options={"jit": False})
    same(resumed, no.minimize(fun, np.zeros(2), method="adam", jac=bowl_grad, options=options))


def test_a_jitted_objective_that_raised_is_resumed_bit_for_bit(tmp_path):
    @numba.njit
    def fun(x, calls):
        calls[0] += 1
        if calls[0] == 31:
            raise ValueError("boom")
        return ((x - 3.0) ** 2).sum()

    @numba.njit
    def jac(x, calls):
        return 2.0 * (x - 3.0)

    path, calls = tmp_path / "run.npz", np.zeros(1)
    with pytest.raises(ValueError, match="boom"):
        no.minimize(fun, np.zeros(2), (calls,), "adam", jac, options={**OPTIONS, "checkpoint": path})
    resumed = no.resume(path, fun, (calls,), jac)
    same(resumed, no.minimize(fun, np.zeros(2), (calls,), "adam", jac, options=OPTIONS))


@pytest.mark.skipif(os.name != "posix", reason="signals to oneself")
@pytest.mark.parametrize("batch_size", [None, 8])
def test_ctrl_c_loses_no_observation_and_no_time(tmp_path, monkeypatch, batch_size):
    """A signal during a slice waits until the rate has seen its objectives."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    X, y, _ = table()
    model, path, slices = no.LinearModel(X, y), tmp_path / "run.npz", itertools.count(1)
    rate = no.schedules.ReduceOnPlateau(0.5, patience=0)
    options = {"lr": rate, "maxiter": 300, "gtol": 0.0, "batch_size": batch_size}
    stamp = Driver._stamp

    def stamp_late(self, was, took):
        if next(slices) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        stamp(self, was, took)

    monkeypatch.setattr(Driver, "_stamp", stamp_late)
    try:
        with pytest.raises(KeyboardInterrupt, match=r"interrupted after step \d+; .*run\.npz keeps the run") as stop:
            no.minimize(model, method="adam", options={**options, "checkpoint": path})
    finally:
        signal.signal(signal.SIGINT, before)
    assert (stop.value.result.history.seconds >= 0).all()
    resumed = no.resume(path, model)
    same(resumed, no.minimize(model, method="adam", options=options))
    assert (np.diff(resumed.history.seconds) >= 0).all()


def test_an_exception_leaves_no_arrays_behind(monkeypatch):
    made = []
    monkeypatch.setattr("numbaopt.run.rates", lambda *a: made.append(weakref.ref(r := np.full(a[2], 0.1))) or r)

    @numba.njit
    def fun(x):
        if x[0] > 1.0:
            raise ValueError("boom")
        return ((x - 3.0) ** 2).sum()

    with pytest.raises(ValueError, match="boom"):
        no.minimize(fun, np.zeros(2), method="adam", jac=bowl_grad)
    gc.collect()
    assert made
    assert not any(reference() is not None for reference in made)


# ---- ends within an epoch --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("history", [True, False])
def test_steps_after_the_last_epoch_are_not_thrown_away(history):
    X, y, _ = table()
    model = no.LinearModel(X, y)
    options = {"lr": 0.05, "batch_size": 8, "history": history}
    part = no.minimize(model, method="adam", options={**options, "maxiter": 20})
    assert part.nit == 20
    assert part.fun == model.value(part.x) < model.value(np.zeros(8))
    assert part.message == "The limit on steps was reached before the tolerance. (within epoch 1)"
    assert no.minimize(model, method="adam", options={**options, "epochs": 2}).message == "2 epochs were done."


@pytest.mark.parametrize("history", [True, False])
def test_callbacks_come_once_an_epoch(history):
    X, y, _ = table()
    model, seen = no.LinearModel(X, y), []

    def callback(intermediate_result):
        seen.append((intermediate_result.nit, intermediate_result.fun, model.value(intermediate_result.x)))

    no.minimize(model, method="adam", callback=callback, options={"batch_size": 8, "epochs": 4, "history": history})
    assert [nit for nit, _, _ in seen] == [30, 60, 90, 120]
    for _, told, true in seen:
        assert told == true if history else np.isnan(told)


@pytest.mark.parametrize("limit", ["epochs", "maxiter"])
def test_no_steps_at_all_end_at_once(limit):
    X, y, _ = table()
    for history in (True, False):
        options = {"batch_size": 8, limit: 0, "history": history}
        assert no.minimize(no.LinearModel(X, y), method="adam", options=options).nit == 0


def test_divergence_that_nobody_judged_is_told():
    X, y, _ = table()
    model = no.LinearModel(X, y)
    result = no.minimize(model, method="sgd", options={
        "lr": 1e30, "batch_size": 240, "epochs": 9, "history": False})  # fmt: skip
    assert result.status == 2
    assert np.isfinite(result.x).all()
    np.testing.assert_equal(result.fun, model.value(result.x))  # of that point, though it overflows there too


def test_batches_begin_within_the_bounds():
    X, y, _ = table()
    options = {"lr": 0.01, "batch_size": 8, "maxiter": 30, "history": False}
    one, other = (no.minimize(no.LinearModel(X, y), x0, method="sgd", bounds=[(-1, 1)] * 8, options=options)
                  for x0 in (np.full(8, 5.0), np.ones(8)))  # fmt: skip
    np.testing.assert_array_equal(one.x, other.x)


# ---- checkpoints that cannot be trusted ------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "run.npz"
    X, y, _ = table()
    model = no.LinearModel(X, y)
    no.minimize(model, method="adam", options={"batch_size": 8, "maxiter": 9, "checkpoint": path})
    return path, model


def changed(run, name, field=None, value=None):
    array = run._asdict()[name].copy()
    if field is None:
        return run._replace(**{name: value(array)})
    array[field] = value
    return run._replace(**{name: array})


LIES = [("g", None, lambda a: a[:0]), ("best", None, lambda a: a.astype(np.float32)), ("work", None, lambda a: a[:3]),
        ("state", None, lambda a: a[:, :2]), ("x", None, lambda a: a[:, None]), ("history", None, lambda a: a[:3]),
        ("now", "records", 10**9), ("now", "stride", 0), ("now", "step", -1), ("previous", None, lambda a: np.ones(2)),
        ("lower", None, lambda a: np.ones(8)), ("now", None, lambda a: a[:0])]  # fmt: skip


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: f"{lie[0]}-{lie[1]}")
def test_arrays_that_do_not_fit_never_reach_compiled_code(saved, lie):
    path, model = saved
    run, settings = checkpoint.load(path)
    settings.pop("format")
    checkpoint.save(path, changed(run, *lie), settings)
    with pytest.raises(ValueError, match=r"run\.npz is not a usable checkpoint: its arrays are not those of a run"):
        no.resume(path, model)


WRONG_SETTINGS = [{"batches": [240, 0, True, 0, True]}, {"batches": [240, 8, True, "0", True]}, {"limits": None},
                  {"limits": [1, 2, 3, "x"]}, {"optimizer": 3}, {"plateau": [1]}, {"seconds": "1"}]  # fmt: skip


@pytest.mark.parametrize("lie", WRONG_SETTINGS, ids=json.dumps)
def test_settings_that_do_not_fit_are_refused(saved, lie):
    path, model = saved
    run, settings = checkpoint.load(path)
    settings.pop("format")
    checkpoint.save(path, run, {**settings, **lie})
    with pytest.raises(ValueError, match=r"run\.npz is not a usable checkpoint"):
        no.resume(path, model)


def test_a_rule_that_got_another_slot_is_refused(tmp_path):
    path = tmp_path / "run.npz"

    class Heavy(NamedTuple):
        lr: float = 0.1
        slots = ("a",)

        def prepare(opt, lr, t):
            return (lr,)

        def update(c, x, g, s, i):
            s[0, i] = s[0, i] + g
            return x - c[0] * g

    rule = no.rule()(Heavy)
    no.minimize(bowl, np.zeros(2), method=rule, jac=bowl_grad, options={"maxiter": 3, "checkpoint": path})
    rule.slots = ("a", "b")
    with pytest.raises(ValueError, match="has 1 vectors of state and 0 numbers, Heavy now has 2"):
        no.resume(path, bowl, jac=bowl_grad)
    OPTIMIZERS.pop("heavy")


def test_other_data_are_another_problem(saved):
    path, model = saved
    other = no.LinearModel(model.X + 1.0, model.y)
    for wrong in (other, no.LinearModel(model.X, model.y, l2=0.1)):
        with pytest.raises(ValueError, match="is of another problem"):
            no.resume(path, wrong)


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path):
    calls = []
    options = {"checkpoint": tmp_path / "none" / "run.npz", "jit": False}
    with pytest.raises(FileNotFoundError, match=r"run\.npz cannot be written: there is no folder .*none"):
        no.minimize(lambda x: calls.append(1) or float(x[0] ** 2), [1.0], method="sgd", options=options)
    assert not calls
