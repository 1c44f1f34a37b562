"""Steps on a GPU, in CUDA's simulator: the numbers of the CPU for every rule, sizes, tails, rows; what is refused."""

import math

import numba
import numpy as np
import pytest

import numbaopt as no

if not numba.config.ENABLE_CUDASIM:
    pytest.skip("needs NUMBA_ENABLE_CUDASIM=1 NUMBA_DISABLE_JIT=1: scripts/test", allow_module_level=True)

from cuda_cases import OPTIMIZERS, SUMMING, Leader
from rules_table import CASES

from numbaopt.cuda import kernels
from numbaopt.cuda._backend import cuda

pytestmark = pytest.mark.simulator
GUARD = 16


def gradient(x, t):
    """Of a function with a valley, a kink and another shape every step."""
    return (0.3 * x + np.sign(x) * 0.2 + np.cos(np.arange(x.size) + t)).astype(x.dtype)


def on_both(opt, n, dtype, steps, state=None):
    """Unknowns and state after some steps of `no.step` and of `no.cuda.step`."""
    x = np.random.default_rng(n).normal(size=n).astype(dtype)
    s, y = no.init_state(opt, x), cuda.to_device(x.copy())
    r = no.cuda.init_state(opt, y) if state is None else state
    for t in range(1, steps + 1):
        no.step(opt, x, gradient(x, t), s, t)
        no.cuda.step(opt, y, cuda.to_device(gradient(y.copy_to_host(), t)), r, t)
    return x, s, y.copy_to_host(), r.copy_to_host()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_hundred_steps_are_those_of_the_cpu(name):
    x, s, y, r = on_both(OPTIMIZERS[name], 7, np.float64, 100)
    if name in SUMMING:  # the order of sums differs
        np.testing.assert_allclose(y, x, rtol=1e-12, atol=1e-300)
        np.testing.assert_allclose(r, s, rtol=1e-12, atol=1e-300)
    else:
        np.testing.assert_array_equal(y, x)
        np.testing.assert_array_equal(r, s)
    assert np.isfinite(y).all()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_option_gives_the_numbers_of_the_cpu(case):
    opt = case.cls(lr=case.lr, **case.options)
    for dtype, tolerance in ((np.float64, 1e-14), (np.float32, 1e-6)):
        x, _, y, _ = on_both(opt, 6, dtype, 12)
        np.testing.assert_allclose(y, x, rtol=tolerance if opt.slots and case.cls is no.SWATS else 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 15, 16, 17, 33, 64, 67])
def test_tails_of_any_length(n, dtype):
    for name in ("Adam", "SGD"):
        x, s, y, r = on_both(OPTIMIZERS[name], n, dtype, 3)
        np.testing.assert_array_equal(y, x)
        np.testing.assert_array_equal(r, s)


@pytest.mark.parametrize("n", [1, 5, 31, 64, 131])
def test_sums_take_all_blocks_and_their_tails(n):
    blocks = kernels.launches(no.optimizers._program.program(OPTIMIZERS["SWATS"], np.float64), True)[0].blocks(n)
    assert blocks == min(kernels.MOST_SUMS, math.ceil(n / (2 * kernels.BLOCK)))
    for name in ("SWATS", "ClipByNorm, Adam"):
        x, s, y, r = on_both(OPTIMIZERS[name], n, np.float64, 2)
        np.testing.assert_allclose(y, x, rtol=1e-13)
        np.testing.assert_allclose(r, s, rtol=1e-13)


def test_the_same_step_gives_the_same_bits():
    runs = [on_both(OPTIMIZERS["all transforms"], 133, np.float32, 3)[2] for _ in range(2)]
    np.testing.assert_array_equal(*runs)


def test_a_rule_that_looks_at_the_first_coordinate():
    x, s, y, r = on_both(Leader(), 9, np.float64, 4)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(r, s)


@pytest.mark.parametrize("shift", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_that_begin_anywhere_and_nothing_beyond_them_is_touched(shift, dtype):
    opt, n = no.Adam(lr=0.1), 21
    memory = [cuda.to_device(np.full(n + 2 * GUARD, 7.0, dtype)) for _ in range(2)]
    x, g = (values[GUARD + shift : GUARD + shift + n] for values in memory)
    x[:], g[:] = np.linspace(-1, 1, n), 0.25
    rows = cuda.to_device(np.full((2, n + 2 * GUARD), 7.0, dtype))
    state = rows[:, GUARD : GUARD + n]
    state[:] = 0.0
    y = x.copy_to_host()
    s = no.init_state(opt, y)
    for t in (1, 2):
        no.cuda.step(opt, x, g, state, t)
        no.step(opt, y, np.full(n, 0.25, dtype), s, t)
    np.testing.assert_array_equal(x.copy_to_host(), y)
    np.testing.assert_array_equal(state.copy_to_host(), s)
    around = [memory[0].copy_to_host()[: GUARD + shift], memory[0].copy_to_host()[GUARD + shift + n :],
              rows.copy_to_host()[:, :GUARD], rows.copy_to_host()[:, GUARD + n :]]  # fmt: skip
    assert all((values == 7.0).all() for values in around)


def test_any_shape_schedules_and_the_state_of_the_cpu():
    opt = no.Momentum(lr=no.schedules.Cosine(0.1, 5))
    x = np.arange(6.0).reshape(2, 3)
    y, s = cuda.to_device(x.copy()), no.init_state(opt, x)
    r = cuda.to_device(s.copy())
    for t in (1, 2, 3):
        no.step(opt, x, x * 0.5, s, t)
        no.cuda.step(opt, y, cuda.to_device(y.copy_to_host() * 0.5), r, np.int64(t))
    np.testing.assert_array_equal(y.copy_to_host(), x)
    empty = cuda.to_device(np.zeros(0))
    no.cuda.step(opt, empty, empty, no.cuda.init_state(opt, empty), 1)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_goes_through_as_on_the_cpu():
    x, g = np.ones(5), np.array([1.0, np.nan, np.inf, -np.inf, 0.0])
    y, opt = cuda.to_device(x.copy()), no.Adam(lr=0.1)
    no.step(opt, x, g, no.init_state(opt, x), 1)
    no.cuda.step(opt, y, cuda.to_device(g), no.cuda.init_state(opt, y), 1)
    np.testing.assert_array_equal(y.copy_to_host(), x)


def test_rows_of_a_state_begin_aligned():
    for n, dtype, apart in ((8, np.float32, 8), (7, np.float32, 32), (3, np.float64, 16), (4, np.float64, 4)):
        state = no.cuda.init_state(no.Adam(), cuda.to_device(np.ones(n, dtype)))
        assert (state.shape, state.dtype, state.strides[0]) == ((2, n), dtype, apart * np.dtype(dtype).itemsize)
        assert not state.copy_to_host().any()
    assert no.cuda.init_state(no.SGD(), cuda.to_device(np.ones((2, 3)))).shape == (0, 6)


ONES = np.ones(4)
FAULTS = {
    "list": (lambda a: {**a, "x": [1.0]}, TypeError, "x must be an array on a GPU .*, not list"),
    "dtype": (lambda a: {**a, "x": cuda.to_device(np.ones(4, int))}, TypeError, "x has dtype int64; x, g and"),
    "mixed": (lambda a: {**a, "g": cuda.to_device(np.ones(4, np.float32))}, TypeError, "g has dtype float32; x, g and"),
    "shape": (lambda a: {**a, "g": cuda.to_device(np.ones(5))}, ValueError, r"g has shape \(5,\), x has shape \(4,\)"),
    "strides": (lambda a: {**a, "x": cuda.to_device(np.ones(8))[::2]}, ValueError, "x must be C-contiguous"),
    "g strides": (lambda a: {**a, "g": cuda.to_device(np.ones(8))[::2]}, ValueError, "g must be C-contiguous"),
    "state": (lambda a: {**a, "state": cuda.to_device(np.ones((1, 4)))}, ValueError,
              r"state has shape \(1, 4\); init_state gives \(2, 4\)"),
    "rows": (lambda a: {**a, "state": cuda.to_device(np.ones((2, 8)))[:, ::2]}, ValueError, "each row of state"),
    "columns": (lambda a: {**a, "state": cuda.to_device(np.ones((4, 2))).T}, ValueError, "each row of state"),
    "t": (lambda a: {**a, "t": 0}, ValueError, "t=0 must be an integer"),
    "half": (lambda a: {**a, "t": 1.5}, ValueError, "t=1.5 must be an integer"),
    "opt": (lambda a: {**a, "opt": "adam"}, TypeError, "'adam' is not an optimizer"),
    "class": (lambda a: {**a, "opt": no.Adam}, TypeError, "is not an optimizer"),
    "plateau": (lambda a: {**a, "opt": no.Adam(lr=no.schedules.ReduceOnPlateau(0.1))}, ValueError,
                "follows the objective"),
    "stream": (lambda a: {**a, "stream": "mine"}, TypeError, "stream='mine' is no stream"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_said_and_nothing_has_moved(fault):
    change, kind, told = FAULTS[fault]
    x, g, opt = cuda.to_device(ONES.copy()), cuda.to_device(ONES.copy()), no.Adam()
    state = no.cuda.init_state(opt, x)
    given = change({"opt": opt, "x": x, "g": g, "state": state, "t": 1})
    with pytest.raises(kind, match=told):
        no.cuda.step(**given)
    assert (x.copy_to_host() == 1).all()
    assert not state.copy_to_host().any()
    no.cuda.step(opt, x, g, state, 1)


def test_init_state_refuses_what_it_cannot_stand_beside():
    with pytest.raises(TypeError, match="init_state: x must be an array on a GPU"):
        no.cuda.init_state(no.Adam(), [1.0])
    with pytest.raises(TypeError, match="init_state: x has dtype int64"):
        no.cuda.init_state(no.Adam(), cuda.to_device(np.ones(3, int)))
    with pytest.raises(TypeError, match="is not an optimizer"):
        no.cuda.init_state("adam", cuda.to_device(np.ones(3)))


def test_the_simulator_is_a_gpu_here():
    assert no.cuda.is_available()
    assert no.cuda.why_not() is None
