"""Clipping, weight decay and noise, alone and chained in any order, against the oracle and optax."""

from functools import partial
from typing import Any, NamedTuple

import naive
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from peers import optax_path, torch_path
from problems import same

import numbaopt as no
from numbaopt import checkpoint
from numbaopt.transforms import TRANSFORMS, Chain, ClipByNorm, ClipByValue, GradientNoise, WeightDecay, chain, transform

BY_VALUE, BY_NORM = partial(naive.clipped_by_value, limit=0.7), partial(naive.clipped_by_norm, limit=1.5)
COUPLED, DECOUPLED = partial(naive.weight_decayed, rate=0.1), partial(naive.weight_decayed, rate=0.1, decoupled=True)


NOISE = partial(naive.noisy, eta=0.3, gamma=0.7, seed=2**40 + 3)


class Case(NamedTuple):
    opt: Any
    before: tuple[Any, ...]  # the same in naive.py
    rule: Any = naive.sgd
    optax: Any = None  # optax -> transformations before the rule
    after: Any = lambda optax: (optax.scale(-0.1),)


SGD = no.SGD(0.1)
CASES = {
    "value": Case(chain(ClipByValue(0.7), SGD), (BY_VALUE,), optax=lambda o: (o.clip(0.7),)),
    "norm": Case(chain(ClipByNorm(1.5), SGD), (BY_NORM,), optax=lambda o: (o.clip_by_global_norm(1.5),)),
    "norm with eps": Case(chain(ClipByNorm(1.5, eps=0.1), SGD), (partial(BY_NORM, eps=0.1),)),
    "coupled": Case(chain(WeightDecay(0.1), SGD), (COUPLED,), optax=lambda o: (o.add_decayed_weights(0.1),)),
    "decoupled": Case(chain(WeightDecay(0.1, decoupled=True), SGD), (DECOUPLED,)),
    "norm, decay": Case(chain(ClipByNorm(1.5), WeightDecay(0.1), SGD), (BY_NORM, COUPLED),
                        optax=lambda o: (o.clip_by_global_norm(1.5), o.add_decayed_weights(0.1))),
    "decay, norm": Case(chain(WeightDecay(0.1), ClipByNorm(1.5), SGD), (COUPLED, BY_NORM),
                        optax=lambda o: (o.add_decayed_weights(0.1), o.clip_by_global_norm(1.5))),
    "value, norm, decoupled, norm": Case(
        chain(ClipByValue(0.7), ClipByNorm(1.5), WeightDecay(0.1, decoupled=True), ClipByNorm(1.0), SGD),
        (BY_VALUE, BY_NORM, DECOUPLED, partial(BY_NORM, limit=1.0)), naive.sgd),
    "noise": Case(chain(GradientNoise(0.3, 0.7, 2**40 + 3), SGD), (NOISE,)),
    "decay, noise, norm": Case(chain(WeightDecay(0.1), GradientNoise(0.3, 0.7, 2**40 + 3), ClipByNorm(1.5), SGD),
                               (COUPLED, NOISE, BY_NORM)),
    "value, decay, Adam": Case(
        chain(ClipByValue(0.7), WeightDecay(0.1), no.Adam(0.1)), (BY_VALUE, COUPLED), naive.adam,
        lambda o: (o.clip(0.7), o.add_decayed_weights(0.1)), lambda o: (o.adam(0.1),)),
}  # fmt: skip


@numba.njit
def walk(opt, x, gradients, state):
    for t in range(len(gradients)):
        no.step(opt, x, gradients[t], state, t + 1)


def problem(dtype=np.float64, size=7, steps=200):
    """Gradients on both sides of every limit."""
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((steps, size)) * np.exp(rng.standard_normal((steps, 1)))
    return rng.standard_normal(size).astype(dtype), gradients.astype(dtype)


def steps(opt, x0, gradients):
    x, path = x0.copy(), []
    state = no.init_state(opt, x)
    for t, g in enumerate(gradients, 1):
        no.step(opt, x, g, state, t)
        path.append(x.copy())
    return np.array(path)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_equals_the_oracle(case):
    x0, gradients = problem()
    expected = naive.run(case.rule, x0, gradients, 0.1, case.before)
    assert_allclose(steps(case.opt, x0, gradients), expected, rtol=1e-10, atol=1e-10)


A_FEW = ["norm", "decay, norm", "decay, noise, norm"]
a_few_cases = pytest.mark.parametrize("case", [CASES[name] for name in A_FEW], ids=A_FEW)


def test_no_transform_skips_the_table():
    used = {type(part) for case in CASES.values() for part in case.opt.parts[:-1]}
    assert used == set(TRANSFORMS.values())


@a_few_cases
def test_equals_the_oracle_in_float32(case):
    x0, gradients = problem(np.float32)
    path = steps(case.opt, x0, gradients)
    assert path.dtype == np.float32
    assert_allclose(path, naive.run(case.rule, x0, gradients, 0.1, case.before), rtol=1e-4, atol=1e-4)


@a_few_cases
def test_compiled_code_gets_the_same_numbers(case):
    x0, gradients = problem(steps=50)
    x = x0.copy()
    walk(case.opt, x, gradients, no.init_state(case.opt, x))
    assert_allclose(x, steps(case.opt, x0, gradients)[-1], rtol=1e-14, atol=1e-14)


@pytest.mark.peer
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.optax])
def test_equals_optax(name):
    case, (x0, gradients) = CASES[name], problem()
    expected = optax_path(lambda optax: optax.chain(*case.optax(optax), *case.after(optax)), x0, gradients)
    assert_allclose(steps(case.opt, x0, gradients), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.peer
@pytest.mark.parametrize(("part", "clip"), [
    (ClipByNorm(1.5, eps=1e-6), lambda torch, parameters: torch.nn.utils.clip_grad_norm_(parameters, 1.5)),
    (ClipByValue(0.7), lambda torch, parameters: torch.nn.utils.clip_grad_value_(parameters, 0.7)),
], ids=["norm", "value"])  # fmt: skip
def test_clipping_equals_torch(part, clip):
    x0, gradients = problem()
    expected = torch_path(lambda optim, parameters: optim.SGD(parameters, 0.1), x0, gradients, clip)
    assert_allclose(steps(chain(part, no.SGD(0.1)), x0, gradients), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("opt", [no.Adam(0.1), no.Momentum(0.1), no.SGD(0.1)], ids=lambda opt: type(opt).__name__)
def test_coupled_decay_before_a_rule_is_its_own_weight_decay(opt):
    x0, gradients = problem(steps=50)
    path = steps(chain(WeightDecay(0.1), opt), x0, gradients)
    assert_allclose(path, steps(opt._replace(weight_decay=0.1), x0, gradients), rtol=1e-13, atol=1e-14)


def test_decoupled_decay_before_adam_is_adamw():
    x0, gradients = problem(steps=50)
    lr = no.schedules.Exponential(0.1, 0.9)
    path = steps(chain(WeightDecay(0.05, decoupled=True), no.Adam(lr)), x0, gradients)
    assert_allclose(path, steps(no.AdamW(lr, weight_decay=0.05), x0, gradients), rtol=1e-13, atol=1e-14)


# ---- sums over coordinates -------------------------------------------------------------------------------------------


def one_step(opt, g, dtype=np.float64):
    """What SGD with rate 1 subtracts."""
    x = np.zeros(np.size(g), dtype)
    no.step(chain(opt, no.SGD(1.0)), x, np.asarray(g, dtype), np.zeros((0, x.size), dtype), 1)
    return -x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_norm_of_a_long_vector_is_exact(dtype):
    """A float32 sum over 10**6 squares is off by far more than this."""
    g = np.random.default_rng(1).uniform(0.5, 1.5, 1_000_003).astype(dtype)
    norm = np.sqrt((g.astype(float) ** 2).sum())
    assert_allclose(one_step(ClipByNorm(1.0), g, dtype), g / norm, rtol=3e-7 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize(("dtype", "huge"), [(np.float32, 1e30), (np.float64, 1e150)])
def test_a_huge_gradient_is_clipped_not_lost(dtype, huge):
    """The squares of the float32 numbers are no float32 numbers."""
    assert_allclose(one_step(ClipByNorm(2.0), [3 * huge, -4 * huge], dtype), [1.2, -1.6], rtol=1e-6)


@pytest.mark.parametrize("opt", [ClipByNorm(2.0), ClipByValue(2.0)], ids=repr)
def test_clipping_keeps_what_is_short_and_shows_what_is_not_finite(opt):
    for g in ([0.0, 0.0], [1e-300, 0.0], [1.0, -0.5]):
        assert_array_equal(one_step(opt, g), g)
    assert np.isnan(one_step(opt, [np.nan, 1.0])).any()


@given(st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=20), st.floats(1e-3, 1e3))
def test_a_clipped_gradient_is_never_too_long_and_never_turned(g, limit):
    g = np.array(g)
    by_norm, by_value = one_step(ClipByNorm(limit), g), one_step(ClipByValue(limit), g)
    assert np.linalg.norm(by_norm) <= max(limit, 0.0) * (1 + 1e-12)
    assert abs(by_value).max() <= limit
    for clipped in (by_norm, by_value):
        assert (abs(clipped) <= abs(g) * (1 + 1e-15)).all()
        assert (clipped * np.sign(g) >= 0).all()


# ---- noise -----------------------------------------------------------------------------------------------------------


def noise(t=1, size=200_000, dtype=np.float64, **options):
    x, opt = np.zeros(size, dtype), chain(GradientNoise(**{"eta": 4.0, "gamma": 0.5, **options}), no.SGD(1.0))
    no.step(opt, x, x.copy(), no.init_state(opt, x), t)
    return -x


def test_noise_is_normal_and_independent():
    draws = {"t=1": noise(), "t=2": noise(2), "seed=1": noise(seed=1), "seed=2**32": noise(seed=2**32)}
    for name, drawn in draws.items():
        drawn = drawn / (2.0 * (0.5**0.25 if name == "t=2" else 1.0))
        error = 4 / np.sqrt(drawn.size)  # standard errors
        assert abs(drawn.mean()) < error
        assert abs((drawn**2).mean() - 1) < error * np.sqrt(2)
        assert abs((drawn**4).mean() - 3) < error * np.sqrt(96)
        assert abs((drawn[1:] * drawn[:-1]).mean()) < error
        assert abs((drawn > 1.6448536).mean() - 0.05) < error * np.sqrt(0.05 * 0.95)
    correlations = np.corrcoef(list(draws.values())) - np.eye(4)
    assert abs(correlations).max() < 4 / np.sqrt(200_000)


def test_noise_depends_on_seed_step_and_coordinate_alone():
    """Not on the precision, on how many coordinates there are, or on the threads that share them."""
    whole = noise(7, 2**18 + 5)
    np.testing.assert_array_equal(noise(7, 1000), whole[:1000])
    assert_allclose(noise(7, 1000, np.float32), whole[:1000], rtol=1e-6, atol=1e-6)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        np.testing.assert_array_equal(noise(7, 2**18 + 5), whole)
    finally:
        numba.set_num_threads(threads)
    assert (noise(eta=0.0, size=5) == 0).all()


@numba.njit
def two_wells(x):
    return ((x**2 - 1) ** 2 + 0.3 * x).sum()


def test_noise_leaves_a_bad_minimum_and_the_plain_rule_does_not():
    """The well at 0.96 is worse than the one at -1.04, and nearer."""
    plain = no.SGD(lr=0.05)
    stuck = no.minimize(two_wells, [1.5], method=plain)
    assert stuck.success
    assert_allclose(stuck.x, 0.96, atol=0.01)
    for seed in range(10):
        res = no.minimize(two_wells, [1.5], method=chain(GradientNoise(eta=300.0, seed=seed), plain))
        assert_allclose(res.x, -1.036, atol=0.01)
        assert res.fun < stuck.fun - 0.5


def test_a_noisy_run_is_cut_and_resumed_to_the_bit(tmp_path):
    opt, path = chain(GradientNoise(eta=1.0, seed=3), no.Momentum(lr=0.01)), tmp_path / "run.npz"
    once = no.minimize(two_wells, [1.5, -0.5], method=opt, options={"maxiter": 300})
    no.minimize(two_wells, [1.5, -0.5], method=opt, options={"maxiter": 77, "checkpoint": path})
    same(no.resume(path, two_wells, options={"maxiter": 300}), once)


# ---- chains ----------------------------------------------------------------------------------------------------------


def test_a_chain_may_hold_a_chain_and_has_the_face_of_its_rule():
    inner = chain(WeightDecay(0.1), no.Adam(0.25))
    opt = chain(ClipByNorm(1.0), inner)
    assert opt == chain(ClipByNorm(1.0), WeightDecay(0.1), no.Adam(0.25)) == Chain((ClipByNorm(1.0), *inner.parts))
    assert opt.lr == 0.25
    assert opt.slots == no.Adam.slots
    assert hash(opt) == hash(chain(ClipByNorm(1.0), inner))
    assert opt != chain(WeightDecay(0.1), ClipByNorm(1.0), no.Adam(0.25))
    assert chain(no.SGD()).parts == (no.SGD(),)
    assert no.init_state(opt, np.ones(3)).shape == (2, 3)


def test_equal_numbers_in_other_transforms_are_another_chain():
    assert chain(ClipByValue(0.5), no.SGD(1.0)) != chain(ClipByNorm(0.5, 0.0), no.SGD(1.0))
    assert_allclose(one_step(ClipByValue(0.5), [2.0, 2.0]), [0.5, 0.5])
    assert_allclose(one_step(ClipByNorm(0.5), [2.0, 2.0]), np.sqrt([0.125, 0.125]))


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: chain(), TypeError, r"chain\(\) needs at least an optimizer"),
    (lambda: chain(ClipByNorm()), TypeError, r"chain\(\.\.\., ClipByNorm\(.*\): the last part must be an optimizer"),
    (lambda: chain(no.Adam(), no.SGD()), TypeError, r"chain\(Adam\(.*not a transform; only the last part may be"),
    (lambda: chain(1.0, no.SGD()), TypeError, r"chain\(1\.0, \.\.\.\): not a transform"),
    (lambda: chain(ClipByNorm, no.SGD()), TypeError, r"chain\(.*ClipByNorm.*not a transform"),
    (lambda: chain(ClipByNorm(), no.SGD), TypeError, r"chain\(\.\.\., .*SGD.*: the last part must be an optimizer"),
    (lambda: chain("adam"), TypeError, r"chain\(\.\.\., 'adam'\): the last part must be an optimizer"),
    (lambda: ClipByNorm(0), ValueError, r"ClipByNorm\(limit=0\): limit must be in \(0, inf\)"),
    (lambda: ClipByNorm(1.0, eps=-1), ValueError, r"ClipByNorm\(eps=-1\): eps must be in \[0, inf\)"),
    (lambda: ClipByValue(-1), ValueError, r"ClipByValue\(limit=-1\): limit must be in \(0, inf\)"),
    (lambda: GradientNoise(-1), ValueError, r"GradientNoise\(eta=-1\): eta must be in \[0, inf\)"),
    (lambda: GradientNoise(seed=-1), ValueError, r"GradientNoise\(seed=-1\): seed must be in \[0, 9007199254740992\)"),
    (lambda: WeightDecay(-1), ValueError, r"WeightDecay\(rate=-1\): rate must be in \[0, inf\)"),
    (lambda: WeightDecay(0.1, "no"), TypeError, r"WeightDecay\(decoupled='no'\): decoupled must be True or False"),
])  # fmt: skip
def test_misuse_is_named(call, error, text):
    with pytest.raises(error, match=f"^{text}"):
        call()


# ---- of a user's own -------------------------------------------------------------------------------------------------


class Halved(NamedTuple):
    """Gradients times a factor."""

    by: float = 0.5

    def prepare(opt, lr, t):
        return (opt.by,)

    def apply(c, x, g, i):
        return x, c[0] * g


def test_a_transform_of_ones_own_acts_is_compared_and_comes_back_from_a_checkpoint():
    kept = dict(TRANSFORMS)
    try:
        opt = chain(transform(Halved)(by=0.25), ClipByNorm(1e6), no.SGD(1.0))
        x = np.zeros(2)
        no.step(opt, x, np.array([4.0, -8.0]), no.init_state(opt, x), 1)
        assert_array_equal(x, [-1.0, 2.0])
        assert checkpoint.revive(checkpoint.describe(opt)) == opt
        with pytest.raises(ValueError, match=r"^the name 'Halved' is taken by test_transforms\.Halved$"):
            transform(type("Halved", (Halved,), {"__qualname__": "other.Halved"}))
    finally:
        TRANSFORMS.clear()
        TRANSFORMS.update(kept)
    with pytest.raises(ValueError, match="'Halved' is not known here"):
        checkpoint.revive(checkpoint.describe(opt))


@pytest.mark.parametrize(("given", "missing"), [
    ({"apply": None}, "'prepare'"), ({"prepare": None}, "'apply'"),
    ({"prepare": None, "apply": None, "term": None}, "'finish'"),
    ({"prepare": None, "apply": None, "finish": None}, "'term'"),
])  # fmt: skip
def test_a_transform_that_lacks_a_function_is_told(given, missing):
    class Bare(NamedTuple):
        rate: float = 1.0

    with pytest.raises(TypeError, match=f"Bare has no {missing}: a transform needs"):
        transform(type("Bare", (Bare,), given))


def test_a_transform_must_be_a_namedtuple():
    with pytest.raises(TypeError, match="Plain must be a NamedTuple"):
        transform(type("Plain", (), {}))
