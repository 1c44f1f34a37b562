"""SWATS beyond its oracle: the switch in the middle of runs of every kind."""

import numba
import numpy as np
import pytest
import scipy.sparse as sp
from problems import bowl, bowl_grad, same, table

import numbaopt as no
from numbaopt import run as driver
from numbaopt.transforms import ClipByNorm, WeightDecay, chain

OPT = no.SWATS(lr=0.1, eps_switch=0.05)
OPTIONS = {"batch_size": 16, "epochs": 6, "shuffle": False}


@pytest.fixture(scope="module")
def model():
    X, y, _ = table()
    return no.LinearModel(X, y)


def switched(result, rule=2):
    """The rate that a run has found, 0 before; ``rule`` is the first of its slots of one number."""
    assert (result.run.state[rule : rule + 2, 1:] == 0).all(), "one number stands for all coordinates"
    return result.run.state[rule + 1, 0]


def test_the_switch_goes_unnoticed_by_slices_and_checkpoints(model, tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    once = no.minimize(model, method=OPT, options=OPTIONS)
    ends = [switched(no.minimize(model, method=OPT, options={**OPTIONS, "maxiter": k})) for k in range(1, 25)]
    at = int(np.argmax(np.array(ends) > 0)) + 1  # the step after which the rate is known
    assert 2 <= at < 24
    assert set(ends) == {0.0, switched(once)}, "the rate is found once"
    for cut in (at - 1, at, at + 1):
        no.minimize(model, method=OPT, options={**OPTIONS, "maxiter": cut, "checkpoint": path})
        same(no.resume(path, model, options={"epochs": 6}), once)
    monkeypatch.setattr(driver, "MAX_SLICE", 1)
    same(no.minimize(model, method=OPT, options=OPTIONS), once)


def test_it_then_is_gradient_descent_with_momentum(model):
    """From the switch on, SGD by hand, on the same batches."""
    once = no.minimize(model, method=OPT, options=OPTIONS)
    rate = switched(once)
    cut = next(k for k in range(2, 25)
               if switched(no.minimize(model, method=OPT, options={**OPTIONS, "maxiter": k})))
    x = no.minimize(model, method=OPT, options={**OPTIONS, "maxiter": cut}).run.x
    m = np.zeros(model.n)
    for k in range(cut, once.nit):
        rows = slice(16 * (k % 15), 16 * (k % 15 + 1))
        m = 0.9 * m + 0.1 * no.LinearModel(model.X[rows], model.y[rows]).value_and_grad(x)[1]
        x = x - 0.1 * rate * m
    np.testing.assert_allclose(once.run.x, x, rtol=1e-10)


def test_the_rate_is_in_units_of_the_schedule():
    """The steps of both phases follow it, and no schedule moves the switch."""
    gradients = np.random.default_rng(0).standard_normal((60, 3)) + 2
    found = []
    for lr in (0.1, 1e-9, no.schedules.Warmup(no.schedules.Cosine(0.1, steps=50), steps=5)):
        opt, x = no.SWATS(lr=lr, eps_switch=0.01), np.zeros(3)
        state = no.init_state(opt, x)
        for t, g in enumerate(gradients, 1):
            no.step(opt, x, g, state, t)
        found.append(state[3, 0])
    assert found[0] > 0
    assert len(set(found)) == 1


@pytest.mark.parametrize("opt", [OPT, chain(WeightDecay(0.01, decoupled=True), ClipByNorm(1.0), OPT)],
                         ids=["alone", "after transforms"])  # fmt: skip
def test_functions_many_at_once_and_compiled_callers(opt):
    starts = np.array([[0.0, 1.0], [5.0, -2.0], [3.0, 3.5]])
    alone = [no.minimize(bowl, x0, method=opt, jac=bowl_grad, options={"maxiter": 300}) for x0 in starts]
    assert all(switched(res) > 0 for res in alone)
    many = no.minimize_many(bowl, starts, method=opt, jac=bowl_grad, options={"maxiter": 300})
    np.testing.assert_array_equal(many.x, [res.x for res in alone])

    @numba.njit
    def inside(x0, opt):
        return no.minimize(bowl, x0, (), opt, bowl_grad, options={"maxiter": 300}).x

    np.testing.assert_array_equal(inside(starts[0], opt), alone[0].x)


def test_l1_and_a_rate_that_nobody_told(model):
    X, y, _ = table()
    penalised = no.LinearModel(X, y, l1=0.2)
    best = no.minimize(penalised, method="auto", tol=1e-10)
    res = no.minimize(penalised, method=no.SWATS(lr=0.1, eps_switch=0.05), options={"maxiter": 3000})
    assert switched(res) > 0
    np.testing.assert_allclose(res.x, best.x, atol=1e-4)
    np.testing.assert_array_equal(res.x == 0, best.x == 0)
    assert no.minimize(bowl, [0.0, 9.0], method="swats", jac=bowl_grad, options={"eps_switch": 0.05}).success


def test_it_needs_all_unknowns_in_every_step(model):
    X, y, _ = table()
    rows = no.LinearModel(sp.csr_matrix(X), y)
    with pytest.raises(ValueError, match="lazy_update=True: SWATS needs the whole gradient in every step"):
        no.minimize(rows, method=OPT, options={**OPTIONS, "lazy_update": True})
    res = no.minimize(rows, method=OPT, options=OPTIONS)
    np.testing.assert_allclose(res.x, no.minimize(model, method=OPT, options=OPTIONS).x, rtol=1e-9)
    able = {m.name: m.lazy_update for m in no.methods()}
    assert able["adam"]
    assert not any(able[name] for name in ("swats", "saga", "lbfgs"))


def test_a_long_vector_is_summed_whole_in_both_precisions():
    """Threads share long steps; sums over all coordinates must not be those of a part."""
    rng = np.random.default_rng(0)
    x0, gradients = rng.standard_normal(300_001), rng.standard_normal((4, 300_001)) + 1.0
    found = []
    for dtype in (np.float64, np.float32):
        opt, x = no.SWATS(lr=0.1, eps_switch=0.5), x0.astype(dtype)
        state = no.init_state(opt, x)
        for t, g in enumerate(gradients.astype(dtype), 1):
            no.step(opt, x, g, state, t)
        found.append((state[2, 0], state[3, 0]))
    g = gradients[0]
    first = np.abs(g).size / np.abs(g).sum()  # gamma of the first step, d = sign(g)
    assert found[0][1] > 0
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    assert 0.5 * first < found[0][1] < 2 * first


def test_an_empty_vector_is_no_trouble():
    x = np.empty(0)
    no.step(OPT, x, x.copy(), no.init_state(OPT, x), 1)
