"""`step` and `init_state`: from Python and from ``@njit``, in place, shared among threads, and clear about misuse."""

import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numba
import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys
from numpy.testing import assert_allclose, assert_array_equal
from process import python
from rules_table import CASES

import numbaopt as no
from numbaopt.optimizers import OPTIMIZERS
from numbaopt.optimizers._program import program
from numbaopt.optimizers.step import compiled_step
from numbaopt.transforms import ClipByNorm, ClipByValue, chain

FLOATS = [np.float32, np.float64]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@numba.njit
def walk(opt, x, gradients, state):
    """One driver for every optimizer: a step for every row of gradients."""
    for t in range(len(gradients)):
        no.step(opt, x, gradients[t], state, t + 1)


def both_ways(opt, x0, gradients):
    """The last iterate and state from Python, and from compiled code."""
    x, y = x0.copy(), x0.copy()
    here, there = no.init_state(opt, x), no.init_state(opt, y)
    for t, g in enumerate(gradients, 1):
        no.step(opt, x, g, here, t)
    walk(opt, y, gradients, there)
    return (x, here), (y, there)


def problem(size, steps, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(size).astype(dtype), rng.standard_normal((steps, size)).astype(dtype)


# ---- from Python and from compiled code ------------------------------------------------------------------------------


@every_case
def test_compiled_code_gets_the_same_numbers(case):
    python, compiled = both_ways(case.cls(case.lr, **case.options), *problem(9, 50))
    for a, b in zip(python, compiled, strict=True):
        assert_allclose(a, b, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("opt", [no.RMSprop(momentum=0.9), chain(ClipByNorm(0.5), no.SGD(0.1))],
                         ids=["rule", "chain"])  # fmt: skip
def test_compiled_code_gets_the_same_float32(opt):
    python, compiled = both_ways(opt, *problem(9, 50, np.float32))
    for a, b in zip(python, compiled, strict=True):
        assert a.dtype == np.float32
        assert_array_equal(a, b)


def test_optimizers_and_state_can_be_made_in_compiled_code():
    @numba.njit
    def descend(x0, rate):
        opt = no.Momentum(lr=rate, momentum=0.5, lr_inside_momentum=True)
        x = x0.copy()
        state = no.init_state(opt, x)
        for t in range(1, 31):
            no.step(opt, x, 2 * x, state, t)
        return opt, x, state

    x0 = np.array([1.0, -2.0])
    opt, x, state = descend(x0, 0.1)
    assert opt == no.Momentum(lr=0.1, momentum=0.5, lr_inside_momentum=True)
    assert_allclose(x, descend.py_func(x0, 0.1)[1], rtol=1e-15)
    assert state.shape == (1, 2)


def test_one_compilation_serves_all_options_of_a_rule():
    before = len(walk.signatures)
    x0, gradients = problem(3, 2)
    for options in ({}, {"lr": 1}, {"beta1": 0, "eps_hat": True}, {"eps": 1, "weight_decay": np.float32(0.5)}):
        opt = no.Adam(**options)
        both_ways(opt, x0, gradients)
    assert len(walk.signatures) <= before + 1
    assert program(opt, x0.dtype) is program(no.Adam(), x0.dtype)


# ---- the rate --------------------------------------------------------------------------------------------------------


def test_a_schedule_and_a_python_function_give_the_same_steps():
    x0, gradients = problem(4, 30)
    schedule = no.schedules.Warmup(no.schedules.Cosine(0.3, steps=20), steps=5)
    (x, _), (y, _) = both_ways(no.Adam(schedule), x0, gradients)
    assert_allclose(x, y, rtol=1e-15)
    z = x0.copy()
    opt = no.Adam(lambda step: schedule(step))
    state = no.init_state(opt, z)
    for t, g in enumerate(gradients, 1):
        no.step(opt, z, g, state, t)
    assert_allclose(x, z, rtol=1e-14)


def test_step_t_uses_the_rate_after_t_minus_1_steps():
    seen, x = [], np.zeros(1)
    opt = no.SGD(lr=lambda step: seen.append(step) or 1.0 + step)
    for t in (1, 2, 5):
        no.step(opt, x, np.ones(1), no.init_state(opt, x), t)
    assert seen == [0, 1, 4]
    assert x == [-(1.0 + 2.0 + 5.0)]


def test_a_rate_that_follows_the_objective_is_refused():
    opt, x = no.SGD(no.schedules.ReduceOnPlateau(0.1)), np.ones(2)
    with pytest.raises(ValueError, match=r"follows the objective, which step\(\) does not know; use minimize\(\)"):
        no.step(opt, x, x.copy(), no.init_state(opt, x), 1)
    with pytest.raises((ValueError, numba.TypingError), match="follows the objective"):
        walk(opt, x, np.ones((1, 2)), no.init_state(opt, x))
    assert (x == 1).all()


def test_an_error_in_the_rate_function_comes_out_unchanged():
    opt, x = no.SGD(lambda step: 1 / 0), np.ones(2)
    with pytest.raises(ZeroDivisionError):
        no.step(opt, x, x.copy(), no.init_state(opt, x), 1)


# ---- in place --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opt", [no.Adam(), chain(ClipByNorm(1.0), no.SGD())],
                         ids=["rule", "chain"])  # fmt: skip
def test_a_step_allocates_nothing_per_element(opt):
    x, gradients = problem(50_000, 8)
    state = no.init_state(opt, x)

    def allocations(count):
        walk(opt, x, gradients[:count], state)
        before = rtsys.get_allocation_stats().mi_alloc
        walk(opt, x, gradients[:count], state)
        return rtsys.get_allocation_stats().mi_alloc - before

    _nrt_python.memsys_enable_stats()
    assert allocations(1) == allocations(8)  # only what passing the arguments takes
    no.step(opt, x, gradients[0], state, 1)
    tracemalloc.start()
    for t in range(2, 20):
        no.step(opt, x, gradients[1], state, t)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.size  # less than a byte an element


@pytest.mark.parametrize("dtype", FLOATS)
def test_shape_does_not_matter(dtype):
    x, (g,) = problem(24, 1, dtype)
    for shape in ((24,), (4, 6), (2, 3, 4), (1, 24, 1)):
        opt, y = no.Adam(0.1), x.copy().reshape(shape)
        state = no.init_state(opt, y)
        no.step(opt, y, g.reshape(shape), state, 1)
        expected = x.copy()
        no.step(opt, expected, g, no.init_state(opt, x), 1)
        assert_array_equal(y.ravel(), expected)
        assert state.shape == (2, 24)


def test_shape_does_not_matter_in_compiled_code():
    x, (g,) = problem(6, 1)
    opt, y = no.SGD(0.1), x.copy().reshape(2, 3)
    walk(opt, y, g.reshape(1, 2, 3), no.init_state(opt, y))
    assert_allclose(y.ravel(), x - 0.1 * g, rtol=1e-15)


def test_an_empty_vector_is_no_trouble():
    for opt in (no.Adam(), chain(ClipByNorm(1.0), no.SGD())):
        x = np.empty(0)
        no.step(opt, x, x.copy(), no.init_state(opt, x), 1)
        walk(opt, x, np.empty((1, 0)), no.init_state(opt, x))


def test_the_gradient_is_never_written_to_and_may_be_read_only():
    opt, (x, (g,)) = no.Adam(0.1), problem(5, 1)
    g.flags.writeable = False
    compiled = compiled_step(x.dtype)
    no.step(opt, x, g, no.init_state(opt, x), 1)
    assert_array_equal(g, problem(5, 1)[1][0])
    assert len(compiled.signatures) == 1, "a read-only gradient must not be compiled for"


# ---- threads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [2**17, 300_007])
def test_threads_change_no_bit(dtype, size):
    opt, (x0, gradients) = no.Adam(0.1), problem(size, 2, dtype)
    results, threads = [], numba.get_num_threads()
    try:
        for count in sorted({1, threads}):
            numba.set_num_threads(count)
            x = x0.copy()
            state = no.init_state(opt, x)
            for t, g in enumerate(gradients, 1):
                no.step(opt, x, g, state, t)
            results.append((x, state))
    finally:
        numba.set_num_threads(threads)
    for x, state in results[1:]:
        assert_array_equal(x, results[0][0])
        assert_array_equal(state, results[0][1])


def test_several_threads_may_step_with_one_optimizer():
    opt, (x0, gradients) = no.Adam(0.1), problem(200, 1500)

    def work(start):
        x = x0 + start
        state = no.init_state(opt, x)
        for t in range(start + 1, len(gradients) + 1):
            no.step(opt, x, gradients[t - 1], state, t)
        return x

    alone = [work(start) for start in range(0, 400, 100)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, range(0, 400, 100)))
    assert_array_equal(alone, together)


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_after_a_large_step_can_step():
    out = python("""
        import os, warnings, numpy as np, numbaopt as no
        warnings.simplefilter("ignore")  # Python 3.12 warns of fork beside threads
        def step():
            opt, x = no.SGD(0.5), np.ones(300_000)
            no.step(opt, x, np.ones_like(x), no.init_state(opt, x), 1)
            return (x == 0.5).all()
        assert step()
        child = os.fork()
        if child == 0:
            os._exit(0 if step() else 1)
        print(os.waitpid(child, 0)[1], step())
    """)
    assert out == ["0", "True"]


# ---- misuse ----------------------------------------------------------------------------------------------------------


@pytest.mark.process
def test_steps_of_any_integer_type_and_small_integer_powers():
    """LLVM makes float ** int32 a call of ``__powidf2`` under fastmath "afn"; that symbol is missing in Numba."""
    out = python("""
        import numpy as np, numbaopt as no
        from numbaopt._jit import jit
        opt, numbers = no.Adam(0.1), []
        for t in (2, np.int32(2), np.int8(2), np.uint16(2)):
            x = np.ones(3)
            no.step(opt, x, np.ones(3), no.init_state(opt, x), t)
            numbers.append(x[0])
        powers = jit(lambda x, k: (x ** k).sum(), cache=False)
        print(len(set(numbers)), powers(np.array([2.0, 3.0]), np.array([3, 2], np.int32)))
    """)
    assert out == ["1", "17.0"]


def misuses():
    """Name, arguments of `step` after the optimizer, the error, how it begins."""
    x, g, state = np.ones(4), np.ones(4), np.zeros((2, 4))
    frozen = np.ones(4)
    frozen.flags.writeable = False
    single, integers, strided = np.ones(4, np.float32), np.ones(4, int), np.ones(8)[::2]
    swapped = np.ones(4, np.dtype(np.float64).newbyteorder())
    yield "x list", ([1.0] * 4, g, state, 1), TypeError, "step: x must be a NumPy array, not list"
    yield "g list", (x, [1.0] * 4, state, 1), TypeError, "step: g must be a NumPy array, not list"
    yield "g None", (x, None, state, 1), TypeError, "step: g must be a NumPy array, not NoneType"
    yield "state None", (x, g, None, 1), TypeError, "step: state must be a NumPy array, not NoneType"
    yield "x int", (integers, g, state, 1), TypeError, "step: x has dtype int64; x, g and state must all be float32"
    yield "x complex", (x + 0j, g, state, 1), TypeError, "step: x has dtype complex128; x, g and state must all be"
    yield "x swapped", (swapped, g, state, 1), TypeError, "step: x has dtype [<>]f8; x, g and state must all be"
    yield "g single", (x, single, state, 1), TypeError, "step: g has dtype float32; x, g and state must all be"
    yield "g int", (x, integers, state, 1), TypeError, "step: g has dtype int64; x, g and state must all be"
    yield "state single", (x, g, state.astype("f"), 1), TypeError, "step: state has dtype float32; x, g and state must"
    yield "x strided", (strided, g, state, 1), ValueError, "step: x must be C-contiguous and writeable"
    yield "x frozen", (frozen, g, state, 1), ValueError, "step: x must be C-contiguous and writeable"
    yield "g strided", (x, strided, state, 1), ValueError, "step: g must be C-contiguous"
    yield "state F", (x, g, np.asfortranarray(state), 1), ValueError, "step: state must be C-contiguous and writeable"
    yield "g short", (x, g[:3], state, 1), ValueError, r"step: g has shape \(3,\), x has shape \(4,\)"
    yield "g column", (x, g[:, None], state, 1), ValueError, r"step: g has shape \(4, 1\), x has shape \(4,\)"
    yield "x square", (x.reshape(2, 2), g, state, 1), ValueError, r"step: g has shape \(4,\), x has shape \(2, 2\)"
    yield "slots", (x, g, np.zeros((3, 4)), 1), ValueError, r"step: state has shape \(3, 4\); init_state gives \(2, 4\)"
    yield "width", (x, g, np.zeros((2, 5)), 1), ValueError, r"step: state has shape \(2, 5\); init_state gives \(2, 4\)"
    yield "flat", (x, g, np.zeros(8), 1), ValueError, r"step: state has shape \(8,\); init_state gives \(2, 4\)"
    yield "t=0", (x, g, state, 0), ValueError, "step: t=0 must be an integer, 1 for the first step"
    yield "t=-1", (x, g, state, -1), ValueError, "step: t=-1 must be an integer, 1 for the first step"
    yield "t=1.5", (x, g, state, 1.5), ValueError, "step: t=1.5 must be an integer, 1 for the first step"
    yield "t='1'", (x, g, state, "1"), ValueError, "step: t='1' must be an integer, 1 for the first step"


@pytest.mark.parametrize("misuse", list(misuses()), ids=lambda misuse: misuse[0])
def test_misuse_is_one_sentence_and_changes_nothing(misuse):
    _, arguments, error, text = misuse
    copies = [np.array(a) for a in arguments[:3]]
    before = len(compiled_step(np.dtype(float)).signatures)
    with pytest.raises(error, match=f"^{text}") as caught:
        no.step(no.Adam(), *arguments)
    assert "\n" not in str(caught.value)
    assert len(compiled_step(np.dtype(float)).signatures) == before, "compiled for a mistake"
    for array, copy in zip(arguments, copies, strict=False):
        assert_array_equal(array, copy)


@pytest.mark.parametrize(("has", "told"), [
    ((), ""),
    (("__cuda_array_interface__",), r"; numbaopt\.cuda\.\1 takes those of a GPU"),
    (("is_cuda", "detach"), r"; numbaopt\.cuda\.\1 takes those of a GPU"),
    (("detach",), r": x\.detach\(\)\.numpy\(\) shares its memory"),
], ids=["other", "of a GPU", "tensor of a GPU", "tensor"])  # fmt: skip
def test_what_is_no_numpy_array_is_told_where_it_can_go(has, told):
    x = type("Tensor", (), {"size": lambda self: (4,), **dict.fromkeys(has, True)})()
    for call in (lambda: no.init_state(no.SGD(), x), lambda: no.step(no.SGD(), x, x, np.zeros((0, 4)), 1)):
        with pytest.raises(TypeError, match=rf"^(init_state|step): x must be a NumPy array, not Tensor{told}$"):
            call()


@pytest.mark.parametrize("opt", ["adam", no.Adam, None, 0.1], ids=str)
def test_what_is_no_optimizer_is_named(opt):
    x = np.ones(2)
    for call in (lambda: no.step(opt, x, x.copy(), np.zeros((2, 2)), 1), lambda: no.init_state(opt, x)):
        with pytest.raises(TypeError, match=r"is not an optimizer such as numbaopt\.Adam\(\)"):
            call()


@pytest.mark.parametrize(("size", "shape"), [(2, (2, 4)), (4, (2, 5)), (4, (3, 4))], ids=["g", "width", "slots"])
def test_compiled_code_checks_sizes_too(size, shape):
    x = np.ones(4)
    with pytest.raises(ValueError, match="step: "):
        walk(no.Adam(), x, np.ones((1, size)), np.zeros(shape))
    assert (x == 1).all()


# ---- a user's own rule -----------------------------------------------------------------------------------------------


@no.rule("clipped-heavy-ball")
class HeavyBallWithBrake(NamedTuple):
    lr: float = 0.1
    momentum: float = 0.9
    brake: float = 1.0
    slots = ("b",)

    def prepare(opt, lr, t):
        return lr / t**0.5, opt.momentum, opt.brake

    def update(c, x, g, s, i):
        rate, momentum, brake = c
        s[0, i] = min(max(momentum * s[0, i] + g, -brake), brake)
        return x - rate * s[0, i]


def test_a_rule_of_ones_own_is_known_by_its_names():
    assert HeavyBallWithBrake.names == ("heavyballwithbrake", "clipped-heavy-ball")
    assert [HeavyBallWithBrake] * 2 == HEAVY_BALLS


HEAVY_BALLS = [OPTIMIZERS.pop(name) for name in HeavyBallWithBrake.names]  # other tests count the package's own


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-14), (np.float32, 1e-5)])
def test_a_rule_of_ones_own(dtype, tolerance):
    x0, gradients = problem(6, 40, dtype)
    (x, state), (y, there) = both_ways(HeavyBallWithBrake(0.3, brake=0.7), x0, gradients)
    b, expected = np.zeros(6), x0.astype(float)
    for t, g in enumerate(gradients, 1):
        b = np.clip(0.9 * b + g, -0.7, 0.7)
        expected = expected - 0.3 / np.sqrt(t) * b
    assert x.dtype == state.dtype == dtype
    assert_allclose(x, expected, rtol=tolerance, atol=tolerance)
    assert_allclose(state[0], b, rtol=tolerance, atol=tolerance)
    assert_array_equal(x, y)
    assert_array_equal(state, there)


def test_a_rule_of_ones_own_is_checked_and_chained_like_any_other():
    with pytest.raises(ValueError, match=r"HeavyBallWithBrake\(momentum=1\.0\): momentum must be in \[0, 1\)"):
        HeavyBallWithBrake(momentum=1.0)
    x0, gradients = problem(6, 10)
    clipped = chain(ClipByValue(0.2), HeavyBallWithBrake())
    (x, _), _ = both_ways(clipped, x0, gradients)
    (y, _), _ = both_ways(HeavyBallWithBrake(), x0, gradients.clip(-0.2, 0.2))
    assert_allclose(x, y, rtol=1e-15)
