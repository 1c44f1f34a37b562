"""Rules made of rules, against their textbook versions and optax, in every loop."""

import copy
import pickle
from functools import partial

import naive
import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose
from peers import optax_path
from problems import bowl, bowl_grad, same, table

import numbaopt as no
from numbaopt.schedules import InverseTime
from numbaopt.transforms import ClipByNorm, chain

RNG = np.random.default_rng(3)
X0, GRADIENTS = RNG.standard_normal(5), RNG.standard_normal((40, 5)) * 10.0 ** np.linspace(-2, 2, 5)


def later(k):
    return 0.02 / (1 + 0.1 * k)


CASES = {
    "lookahead adam": (no.Lookahead(no.Adam(lr=0.1, beta1=0.7), k=3, alpha=0.4),
                       naive.lookahead(naive.adam, 3, 0.4), {"beta1": 0.7}),
    "lookahead centered": (no.Lookahead(no.RMSprop(lr=0.1, centered=True, alpha=0.9)),
                           naive.lookahead(naive.rmsprop, 5, 0.5), {"centered": True, "alpha": 0.9}),
    "adam to momentum": (no.Switch(no.Adam(lr=0.1), no.Momentum(lr=InverseTime(0.02, 0.1)), at=13),
                         naive.switch(naive.adam, naive.momentum, 13, later), {}),
    "rprop to nadam": (no.Switch(no.Rprop(lr=0.1), no.NAdam(lr=InverseTime(0.02, 0.1)), at=7),
                       naive.switch(naive.rprop, naive.nadam, 7, later), {}),
    "three, one after the other": (
        no.Switch(no.Switch(no.SGD(lr=0.1), no.RMSprop(lr=InverseTime(0.02, 0.1)), at=4), no.Lion(lr=0.01), at=11),
        naive.switch(naive.switch(naive.sgd, naive.rmsprop, 4, later), naive.lion, 11, lambda k: 0.01), {}),
    "lookahead swats": (no.Lookahead(no.SWATS(lr=0.1, eps_switch=0.05), k=3), naive.lookahead(naive.swats, 3, 0.5),
                        {"eps_switch": 0.05}),
    "momentum to swats": (no.Switch(no.Momentum(lr=0.1), no.SWATS(lr=InverseTime(0.02, 0.1), eps_switch=0.05), at=5),
                          naive.switch(naive.momentum, partial(naive.swats, eps_switch=0.05), 5, later), {}),
    "swats to swats": (no.Switch(no.SWATS(lr=0.1, eps_switch=0.05), no.SWATS(lr=InverseTime(0.02, 0.1)), at=20),
                       naive.switch(partial(naive.swats, eps_switch=0.05), naive.swats, 20, later), {}),
    "both": (no.Lookahead(no.Switch(no.SGD(lr=0.1), no.AdaGrad(lr=InverseTime(0.02, 0.1)), at=9), k=4),
             naive.lookahead(naive.switch(naive.sgd, naive.adagrad, 9, later), 4, 0.5), {}),
}  # fmt: skip
every_case = pytest.mark.parametrize("name", CASES)


@numba.njit
def in_compiled_code(opt, x, gradients, state, path):
    for t in range(1, len(gradients) + 1):
        no.step(opt, x, gradients[t - 1], state, t)
        path[t - 1] = x


@every_case
def test_equals_the_oracle(name):
    opt, oracle, options = CASES[name]
    expected = naive.run(oracle, X0, GRADIENTS, 0.1, **options)
    for dtype, tolerance in ((np.float64, 1e-10), (np.float32, 1e-4)):
        x, path = X0.astype(dtype), []
        state = no.init_state(opt, x)
        for t, g in enumerate(GRADIENTS.astype(dtype), 1):
            no.step(opt, x, g, state, t)
            path.append(x.copy())
        assert path[0].dtype == dtype
        assert_allclose(path, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["lookahead centered", "adam to momentum"])
def test_the_same_in_compiled_code(name):
    opt, oracle, options = CASES[name]
    x, path = X0.copy(), np.empty_like(GRADIENTS)
    in_compiled_code(opt, x, GRADIENTS, no.init_state(opt, x), path)
    assert_allclose(path, naive.run(oracle, X0, GRADIENTS, 0.1, **options), rtol=1e-10, atol=1e-10)


@pytest.mark.peer
def test_lookahead_equals_optax():
    optax = pytest.importorskip("optax")

    def make(_):
        inner = optax.lookahead(optax.adam(0.1), sync_period=3, slow_step_size=0.4)

        def update(g, state, x):
            slow, inside = state
            both = optax.LookaheadParams(x, slow)
            step, inside = inner.update(g, inside, both)
            return step.fast, (optax.apply_updates(slow, step.slow), inside)

        return optax.GradientTransformation(
            lambda x: (x, inner.init(optax.LookaheadParams(x, x))), update)  # fmt: skip

    expected = optax_path(make, X0, GRADIENTS)
    path = naive.run(naive.lookahead(naive.adam, 3, 0.4), X0, GRADIENTS, 0.1)  # which is ours, by the test above
    assert_allclose(path, expected, rtol=1e-10, atol=1e-10)


def test_a_combined_rule_is_a_value():
    for opt, _, _ in CASES.values():
        assert pickle.loads(pickle.dumps(opt)) == copy.deepcopy(opt) == opt
        assert hash(pickle.loads(pickle.dumps(opt))) == hash(opt)
    opt = no.Lookahead(no.Adam(lr=0.1), k=3)
    assert repr(opt) == f"Lookahead(opt={no.Adam(lr=0.1)!r}, k=3.0, alpha=0.5)"
    assert opt.slots == ("m", "v", "slow")
    assert opt._replace(lr=0.2) == no.Lookahead(no.Adam(lr=0.2), k=3)
    assert no.Lookahead(chain(ClipByNorm(1.0), no.SGD())) == chain(ClipByNorm(1.0), no.Lookahead(no.SGD()))


def test_what_cannot_be_combined_is_named():
    for wrong in (no.Adam, "adam", no.LBFGS(), chain(ClipByNorm(1.0), no.SGD())):
        with pytest.raises(TypeError, match=r"^Switch: .* is not a rule such as"):
            no.Switch(wrong, no.SGD(), 5)
    with pytest.raises(ValueError, match=r"^Switch: ReduceOnPlateau.* follows one run"):
        no.Switch(no.SGD(lr=no.schedules.ReduceOnPlateau(0.1)), no.SGD(), 5)
    with pytest.raises(ValueError, match=r"k must be in \[1, inf\)"):
        no.Lookahead(no.SGD(), k=0)
    with pytest.raises(ValueError, match=r"alpha must be in \(0, 1\]"):
        no.Lookahead(no.SGD(), alpha=1.5)
    for unit in ("at", "at_epoch"):
        with pytest.raises(ValueError, match=rf"{unit} must be in \[0, inf\)"):
            no.Switch(no.SGD(), no.SGD(), **{unit: -1})
    for given in ({}, {"at": 3, "at_epoch": 3}):
        with pytest.raises(TypeError, match=r"^Switch: at=.*, at_epoch=.*: give one of them"):
            no.Switch(no.SGD(), no.SGD(), **given)


def test_epochs_are_counted_where_there_are_any(tmp_path):
    X, y, _ = table()
    model, options, path = no.LinearModel(X, y), {"batch_size": 16, "epochs": 4}, tmp_path / "run.npz"
    per_epoch = -(-len(y) // 16)

    def made(**at):
        return chain(ClipByNorm(5.0), no.Lookahead(no.Switch(no.Adam(lr=0.05), no.Momentum(lr=0.01), **at)))

    by_epoch, by_step = made(at_epoch=2), made(at=2 * per_epoch)
    once = no.minimize(model, method=by_step, options=options)
    same(no.minimize(model, method=by_epoch, options=options), once)
    no.minimize(model, method=by_epoch, options={**options, "maxiter": per_epoch + 1, "checkpoint": path})
    same(no.resume(path, model, options={"epochs": 4}), once)
    whole = no.minimize(model, method=made(at_epoch=2), options={"maxiter": 5})
    same(whole, no.minimize(model, method=made(at=2), options={"maxiter": 5}))
    source = no.stream.open(X, y, chunk_rows=100)
    assert source.steps_per_epoch(16) > per_epoch, "batches end with chunks"
    streamed = [no.stream.minimize(source, method=opt, loss="squared", options=options)
                for opt in (by_epoch, made(at=2 * source.steps_per_epoch(16)))]  # fmt: skip
    np.testing.assert_array_equal(streamed[0].x, streamed[1].x)
    assert pickle.loads(pickle.dumps(by_epoch)) == copy.deepcopy(by_epoch) == by_epoch != made(at=2)
    assert "at_epoch=2.0" in repr(by_epoch)


def test_epochs_that_nobody_has_are_refused():
    opt, x = no.Switch(no.SGD(lr=0.1), no.Adam(lr=0.1), at_epoch=2), np.ones(2)
    for call in (lambda: no.minimize(bowl, x, method=opt, jac=bowl_grad),
                 lambda: no.minimize_many(bowl, [x, x], method=opt, jac=bowl_grad),
                 lambda: no.step(opt, x, x.copy(), no.init_state(opt, x), 1),
                 lambda: in_compiled_code(opt, x, x[None], no.init_state(opt, x), x[None].copy())):  # fmt: skip
        with pytest.raises(ValueError, match=r"^Switch\(at_epoch=...\) counts epochs, which only"):
            call()


def test_minibatches_l1_and_resuming(tmp_path):
    X, y, _ = table()
    model, path = no.LinearModel(X, y, l1=0.02), tmp_path / "run.npz"
    opt = no.Lookahead(no.Switch(no.Adam(lr=0.05), no.Momentum(lr=0.01), at=45))
    options = {"batch_size": 16, "epochs": 8}
    once = no.minimize(model, method=opt, options=options)
    assert once.fun < no.minimize(model, method="adam", options={**options, "lr": 0.001}).fun
    no.minimize(model, method=opt, options={**options, "maxiter": 37, "checkpoint": path})
    same(no.resume(path, model, options={"epochs": 8}), once)


def test_many_problems():
    opt = no.Switch(no.Adam(lr=0.5), no.SGD(lr=0.2), at=20)
    starts = np.linspace(-3, 9, 5)[:, None]
    res = no.minimize_many(bowl, starts, method=opt, jac=bowl_grad)
    assert res.success.all()
    for i in range(5):
        np.testing.assert_array_equal(res.x[i], no.minimize(bowl, starts[i], method=opt, jac=bowl_grad).x)
