"""Every schedule against its plain formula, PyTorch and optax; plateaus; what must hold for any step."""

import math
from itertools import pairwise
from typing import NamedTuple

import naive
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from peers import double_precision

import numbaopt as no
from numbaopt._schedule import SCHEDULES, rate, rates
from numbaopt.schedules import Plateau

s = no.schedules
EDGES = [0, 1, 2, 9, 10, 11, 29, 30, 31, 69, 70, 71, 99, 100, 101, 149, 150, 151, 1000, 12_345]
WARM = naive.exponential


class Case(NamedTuple):
    schedule: object
    formula: object  # of the step, from naive.py
    torch: object = None  # (torch.optim.lr_scheduler, optimizer with rate 0.5) -> scheduler
    optax: object = None  # optax -> schedule
    until: int = 200  # where the peers begin to differ by design


CASES = [
    Case(s.Constant(0.5), lambda k: 0.5, lambda o, p: o.ConstantLR(p, 1.0), lambda o: o.constant_schedule(0.5)),
    Case(s.Step(0.5, every=30, gamma=0.3), lambda k: naive.step(k, 0.5, 30, 0.3), lambda o, p: o.StepLR(p, 30, 0.3),
         lambda o: o.exponential_decay(0.5, 30, 0.3, staircase=True)),
    Case(s.Step(0.5, every=50, gamma=1.5), lambda k: naive.step(k, 0.5, 50, 1.5), lambda o, p: o.StepLR(p, 50, 1.5)),
    Case(s.MultiStep(0.5, milestones=(10, 30, 70), gamma=0.3), lambda k: naive.multi_step(k, 0.5, (10, 30, 70), 0.3),
         lambda o, p: o.MultiStepLR(p, [10, 30, 70], 0.3),
         lambda o: o.piecewise_constant_schedule(0.5, {10: 0.3, 30: 0.3, 70: 0.3})),
    Case(s.MultiStep(0.5, milestones=()), lambda k: 0.5),
    Case(s.Exponential(0.5, gamma=0.97), lambda k: naive.exponential(k, 0.5, 0.97),
         lambda o, p: o.ExponentialLR(p, 0.97), lambda o: o.exponential_decay(0.5, 1, 0.97)),
    Case(s.Polynomial(0.5, steps=100), lambda k: naive.polynomial(k, 0.5, 100, 1, 0),
         lambda o, p: o.PolynomialLR(p, 100, 1.0), lambda o: o.linear_schedule(0.5, 0.0, 100)),
    Case(s.Polynomial(0.5, steps=70, power=2.5, lr_min=0.1), lambda k: naive.polynomial(k, 0.5, 70, 2.5, 0.1), None,
         lambda o: o.polynomial_schedule(0.5, 0.1, 2.5, 70)),
    Case(s.InverseTime(0.5, gamma=0.3), lambda k: naive.inverse_time(k, 0.5, 0.3, 1),
         lambda o, p: o.LambdaLR(p, lambda k: 1 / (1 + 0.3 * k))),
    Case(s.InverseTime(0.5, gamma=1, power=0.5), lambda k: naive.inverse_time(k, 0.5, 1, 0.5)),
    Case(s.Cosine(0.5, steps=100), lambda k: naive.cosine(k, 0.5, 100, 0), None,
         lambda o: o.cosine_decay_schedule(0.5, 100)),
    Case(s.Cosine(0.5, steps=100, lr_min=0.1), lambda k: naive.cosine(k, 0.5, 100, 0.1),
         lambda o, p: o.CosineAnnealingLR(p, 100, 0.1), lambda o: o.cosine_decay_schedule(0.5, 100, 0.2), until=101),
    Case(s.CosineRestarts(0.5, steps=10, growth=2, lr_min=0.1), lambda k: naive.cosine_restarts(k, 0.5, 10, 2, 0.1),
         lambda o, p: o.CosineAnnealingWarmRestarts(p, 10, 2, 0.1)),
    Case(s.CosineRestarts(0.5, steps=7, growth=3), lambda k: naive.cosine_restarts(k, 0.5, 7, 3, 0),
         lambda o, p: o.CosineAnnealingWarmRestarts(p, 7, 3)),
    Case(s.CosineRestarts(0.5, steps=30, growth=1), lambda k: naive.cosine_restarts(k, 0.5, 30, 1, 0),
         lambda o, p: o.CosineAnnealingWarmRestarts(p, 30, 1)),
    Case(s.CosineRestarts(0.5, steps=10, growth=1.5), lambda k: naive.cosine_restarts(k, 0.5, 10, 1.5, 0)),
    Case(s.OneCycle(0.5, steps=150), lambda k: naive.one_cycle(k, 0.5, 150, 0.3, 25, 1e4),
         lambda o, p: o.OneCycleLR(p, 0.5, 150, cycle_momentum=False), until=150),
    Case(s.OneCycle(0.5, steps=100, rise=0.6, divide_first=5, divide_last=20),
         lambda k: naive.one_cycle(k, 0.5, 100, 0.6, 5, 20),
         lambda o, p: o.OneCycleLR(p, 0.5, 100, pct_start=0.6, div_factor=5, final_div_factor=20, cycle_momentum=False),
         until=100),
    Case(s.OneCycle(0.5, steps=100, rise=0), lambda k: naive.one_cycle(k, 0.5, 100, 0, 25, 1e4)),
    Case(s.Warmup(0.5, steps=30, lr_min=0.1), lambda k: naive.warmup(k, lambda _: 0.5, 30, 0.1),
         lambda o, p: o.LinearLR(p, 0.2, 1.0, 30), lambda o: o.linear_schedule(0.1, 0.5, 30)),
    Case(s.Warmup(s.Cosine(0.5, steps=100, lr_min=0.1), steps=10),
         lambda k: naive.warmup(k, lambda j: naive.cosine(j, 0.5, 100, 0.1), 10, 0), None,
         lambda o: o.warmup_cosine_decay_schedule(0.0, 0.5, 10, 110, 0.1)),
    Case(s.Warmup(s.Warmup(s.Exponential(0.5, gamma=0.9), steps=10), steps=10, lr_min=0.2),
         lambda k: naive.warmup(k, lambda j: naive.warmup(j, lambda i: WARM(i, 0.5, 0.9), 10, 0), 10, 0.2)),
    Case(s.ReduceOnPlateau(s.Step(0.5, every=30, gamma=0.3)), lambda k: naive.step(k, 0.5, 30, 0.3)),
]  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: repr(case.schedule))


def test_no_schedule_skips_the_table():
    ours = {cls for cls in SCHEDULES.values() if cls.__module__ == "numbaopt.schedules"}
    public = {getattr(s, name) for name in s.__all__} - {s.schedule, s.Automatic}  # Automatic has no formula
    assert ours == {type(case.schedule) for case in CASES} == public


@every_case
def test_equals_the_formula(case):
    expected = [case.formula(step) for step in EDGES]
    assert_allclose([case.schedule(step) for step in EDGES], expected, rtol=1e-12, atol=1e-15)
    assert_allclose(rates(case.schedule, 0, 300), [case.formula(step) for step in range(300)], rtol=1e-12, atol=1e-15)


@every_case
def test_compiled_equals_python(case):
    """And a slice of the rates equals the whole: a run may stop anywhere."""
    whole = rates(case.schedule, 0, 300)
    assert_allclose(whole, [case.schedule(step) for step in range(300)], rtol=1e-13, atol=1e-15)
    assert_array_equal(np.concatenate([rates(case.schedule, 0, 113), rates(case.schedule, 113, 187)]), whole)
    assert_allclose(rates(lambda step: case.schedule(step), 0, 300), whole, rtol=1e-13, atol=1e-15)


@pytest.mark.peer
@pytest.mark.parametrize("case", [case for case in CASES if case.torch], ids=lambda case: repr(case.schedule))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_equals_torch(case):
    torch = pytest.importorskip("torch")
    peer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    scheduler, expected = case.torch(torch.optim.lr_scheduler, peer), []
    for _ in range(case.until):
        expected.append(peer.param_groups[0]["lr"])
        peer.step()
        if len(expected) < case.until:
            scheduler.step()
    assert_allclose([case.schedule(step) for step in range(case.until)], expected, rtol=1e-11, atol=1e-14)


@pytest.mark.peer
@pytest.mark.parametrize("case", [case for case in CASES if case.optax], ids=lambda case: repr(case.schedule))
def test_equals_optax(case):
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    with double_precision():
        expected = jax.vmap(case.optax(optax))(jax.numpy.arange(case.until, dtype="float64"))
        expected = np.broadcast_to(np.asarray(expected), case.until)
    assert_allclose([case.schedule(step) for step in range(case.until)], expected, rtol=1e-11, atol=1e-14)


# ---- what holds for any parameters -----------------------------------------------------------------------------------

RATE, LENGTH, UNIT = st.floats(0, 1e3), st.floats(1, 1e5), st.floats(0, 1)
PLAIN = st.one_of(
    st.builds(s.Constant, RATE),
    st.builds(s.Step, RATE, LENGTH, st.floats(1e-3, 1)),
    st.builds(s.MultiStep, RATE, st.lists(LENGTH, max_size=4).map(tuple), st.floats(1e-3, 1)),
    st.builds(s.Exponential, RATE, st.floats(1e-3, 1)),
    st.builds(s.Polynomial, RATE, LENGTH, st.floats(0, 5), RATE),
    st.builds(s.InverseTime, RATE, st.floats(1e-3, 1e3), st.floats(0, 5)),
    st.builds(s.Cosine, RATE, LENGTH, RATE),
    st.builds(s.CosineRestarts, RATE, LENGTH, st.floats(1, 5), RATE),
    st.builds(s.OneCycle, RATE, LENGTH, st.floats(0, 0.99), st.floats(1, 1e3), st.floats(1, 1e6)),
)
WRAPPED = st.one_of(st.builds(s.Warmup, PLAIN, LENGTH, RATE), PLAIN.map(s.ReduceOnPlateau))


def ends(schedule):
    """The rates between which a schedule must stay."""
    if isinstance(schedule, s.OneCycle):
        return 0.0, schedule.lr_max
    first = schedule.lr if isinstance(schedule.lr, float) else ends(schedule.lr)[1]
    return 0.0, max(first, getattr(schedule, "lr_min", 0.0))


@given(st.one_of(PLAIN, WRAPPED), st.integers(0, 10**7), UNIT)
def test_a_rate_is_never_negative_infinite_nan_or_above_its_ends(schedule, step, scale):
    value, (low, high) = rate(schedule, float(step), scale), ends(schedule)
    assert math.isfinite(value)
    assert low <= value <= high * (1 + 1e-12)


@given(st.integers(1, 50), st.sampled_from([1, 1.5, 2, 3]), st.integers(0, 10**4))
def test_restarts_begin_where_the_cycles_do(steps, growth, step):
    expected = naive.cosine_restarts(step, 1.0, steps, growth, 0.0)
    assert_allclose(s.CosineRestarts(1.0, steps, growth)(step), expected, rtol=1e-9, atol=1e-12)


# ---- plateaus --------------------------------------------------------------------------------------------------------

PLATEAUS = st.builds(s.ReduceOnPlateau, st.just(0.5), factor=st.sampled_from([0.1, 0.5, 1.0]),
                     patience=st.integers(0, 4), threshold=st.sampled_from([0.0, 1e-4, 0.2]),
                     cooldown=st.integers(0, 3), lr_min=st.sampled_from([0.0, 0.01, 2.0]))  # fmt: skip
VALUES = st.lists(st.one_of(st.integers(-3, 6).map(float), st.floats(-10, 10), st.just(math.nan), st.just(math.inf)),
                  max_size=60)  # fmt: skip


def observe(schedule, values):
    stands = [Plateau()]
    for value in values:
        stands.append(stands[-1].observe(schedule, value))
    return stands


@given(PLATEAUS, VALUES)
def test_plateau_equals_its_definition_and_never_rises(schedule, values):
    scales = [stand.scale for stand in observe(schedule, values)]
    _, factor, patience, threshold, cooldown, _ = schedule
    assert scales[1:] == naive.plateau_scales(values, factor, patience, threshold, cooldown)
    assert all(a >= b > 0 for a, b in pairwise(scales))
    reduced = [rate(schedule, 7.0, scale) for scale in scales]
    assert_allclose(reduced, [max(0.5 * scale, min(schedule.lr_min, 0.5)) for scale in scales], rtol=1e-15)
    assert_array_equal(reduced, [rates(schedule, 7, 1, scale)[0] for scale in scales])


@given(PLATEAUS, VALUES)
def test_nothing_changes_before_the_horizon(schedule, values):
    stands = observe(schedule, values)
    for i, stand in enumerate(stands):
        horizon = stand.horizon(schedule)
        assert horizon >= 1
        assert {later.scale for later in stands[i : i + horizon]} == {stand.scale}


@given(PLATEAUS, VALUES)
def test_the_horizon_is_not_cautious(schedule, values):
    """If only worse values follow, the reduction comes exactly at the horizon."""
    stand = observe(schedule._replace(factor=0.5), values)[-1]
    schedule = schedule._replace(factor=0.5)
    later = observe_from(stand, schedule, [math.inf] * stand.horizon(schedule))
    assert [a.scale for a in later] == [stand.scale] * (len(later) - 1) + [stand.scale * 0.5]


def observe_from(stand, schedule, values):
    stands = []
    for value in values:
        stand = stand.observe(schedule, value)
        stands.append(stand)
    return stands


@pytest.mark.peer
@given(PLATEAUS.filter(lambda plateau: plateau.lr_min == 0.0), VALUES)
def test_plateau_equals_torch(schedule, values):
    torch = pytest.importorskip("torch")
    values = [abs(value) for value in values]  # PyTorch's relative threshold has the wrong sign below zero
    peer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    _, factor, patience, threshold, cooldown, _ = schedule
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        peer, factor=min(factor, 0.999), patience=int(patience), threshold=threshold, cooldown=int(cooldown), eps=0
    )
    expected = [0.5]
    for value in values:
        scheduler.step(value)
        expected.append(peer.param_groups[0]["lr"])
    schedule = schedule._replace(factor=min(factor, 0.999))
    assert_allclose([0.5 * stand.scale for stand in observe(schedule, values)], expected, rtol=1e-12)


# ---- use and misuse --------------------------------------------------------------------------------------------------


def test_a_schedule_of_ones_own():
    @s.schedule
    class Triangle(NamedTuple):
        lr: float = 1.0
        steps: float = 10.0

        @staticmethod
        def rate(s, step, scale):
            return s.lr * abs(1.0 - (step % (2.0 * s.steps)) / s.steps)

    try:
        expected = [0.5 * abs(1 - (k % 10) / 5) for k in range(30)]
        assert_allclose(rates(Triangle(0.5, 5), 0, 30), expected, atol=1e-15)
        x, path = np.zeros(1), []
        opt = no.SGD(s.Warmup(Triangle(0.5, 5), steps=1, lr_min=0.25))
        for t in range(1, 32):
            no.step(opt, x, np.ones(1), no.init_state(opt, x), t)
            path.append(-x[0])
        assert_allclose(np.diff(path, prepend=0.0), [0.25, *expected], atol=1e-14)
    finally:
        del SCHEDULES["triangle"]


def test_rate_is_the_same_call_in_compiled_code():
    @numba.njit
    def at(lr, step):
        return rate(lr, step, 1.0)

    for lr in (0.5, s.Cosine(0.5, 10), s.Warmup(s.Cosine(0.5, 10), 5)):
        assert_allclose([at(lr, float(k)) for k in range(20)], [rate(lr, float(k), 1.0) for k in range(20)], rtol=1e-15)


MISUSES = [
    (lambda: s.Step(lr=-1), r"Step\(lr=-1\): lr must be in \[0, inf\)"),
    (lambda: s.Step(every=0), r"Step\(every=0\): every must be in \[1, inf\)"),
    (lambda: s.Exponential(gamma=0), r"Exponential\(gamma=0\): gamma must be in \(0, inf\)"),
    (lambda: s.Polynomial(power=-1), r"Polynomial\(power=-1\): power must be in \[0, inf\)"),
    (lambda: s.Cosine(steps=0), r"Cosine\(steps=0\): steps must be in \[1, inf\)"),
    (lambda: s.CosineRestarts(growth=0.5), r"CosineRestarts\(growth=0\.5\): growth must be in \[1, inf\)"),
    (lambda: s.OneCycle(rise=1), r"OneCycle\(rise=1\): rise must be in \[0, 1\)"),
    (lambda: s.OneCycle(divide_last=0.5), r"OneCycle\(divide_last=0\.5\): divide_last must be in \[1, inf\)"),
    (lambda: s.Warmup(lr_min=math.nan), r"Warmup\(lr_min=nan\): lr_min must be in \[0, inf\)"),
    (lambda: s.MultiStep(milestones=(1, -5)), r"MultiStep\(milestones=\(1, -5\)\): milestones must be in \[0, inf\)"),
    (lambda: s.ReduceOnPlateau(factor=0), r"ReduceOnPlateau\(factor=0\): factor must be in \(0, 1\]"),
    (lambda: s.ReduceOnPlateau(patience=-1), r"ReduceOnPlateau\(patience=-1\): patience must be in \[0, inf\)"),
    (lambda: rates(lambda k: 1.0 - k, 0, 5), r"lr: the schedule gives -1\.0 at step 2; a rate must be in \[0, inf\)"),
    (lambda: rates(lambda k: math.nan, 3, 5), r"lr: the schedule gives nan at step 3; a rate must be in \[0, inf\)"),
]


@pytest.mark.parametrize(("call", "text"), MISUSES, ids=[text[:20] for _, text in MISUSES])
def test_misuse_names_field_value_and_range(call, text):
    with pytest.raises(ValueError, match=f"^{text}$"):
        call()


def test_other_misuse():
    with pytest.raises(TypeError, match=r"Cosine has no field 'step'; did you mean 'steps'\? valid: lr, lr_min, steps"):
        s.Cosine(step=3)
    with pytest.raises(TypeError, match=r"MultiStep\(milestones=5\): milestones must be "):
        s.MultiStep(milestones=5)
    with pytest.raises(TypeError, match=r"NoRate has no 'rate': a schedule needs rate\(s, step, scale\)"):
        s.schedule(NamedTuple("NoRate", [("lr", float)]))
    opt, x = no.SGD(lambda k: 1.0 - k), np.ones(1)
    with pytest.raises(ValueError, match="step 2"):
        no.step(opt, x, x.copy(), no.init_state(opt, x), 3)
