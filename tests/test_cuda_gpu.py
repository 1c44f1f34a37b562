"""On a GPU itself, where there is one: the numbers of the CPU, the same bits, other libraries, streams, memory."""

import gc

import numba
import numpy as np
import pytest

if numba.config.ENABLE_CUDASIM:
    pytest.skip("not for the simulator", allow_module_level=True)
pytest.importorskip("numba.cuda", reason="CUDA does not exist on this system")

from cuda_cases import OPTIMIZERS, Leader

import numbaopt as no
from benchmarks.many import START, data, residuals
from numbaopt.cuda import _backend

pytestmark = pytest.mark.gpu
cuda = _backend.cuda


def gradient(x, t):
    return (0.3 * x + np.sign(x) * 0.2 + np.cos(np.arange(x.size) + t)).astype(x.dtype)


def on_both(opt, n, dtype, steps):
    x = np.random.default_rng(n).normal(size=n).astype(dtype)
    s, y = no.init_state(opt, x), cuda.to_device(x)
    r = no.cuda.init_state(opt, y)
    for t in range(1, steps + 1):
        g = gradient(x, t)  # one for both: a difference in the last bit must not turn a sign
        no.step(opt, x, g, s, t)
        no.cuda.step(opt, y, cuda.to_device(g), r, t)
    return x, s, y.copy_to_host(), np.ascontiguousarray(r.copy_to_host())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_hundred_steps_are_those_of_the_cpu(name, dtype):
    x, s, y, r = on_both(OPTIMIZERS[name], 1003, dtype, 100)
    close = {np.float32: {"rtol": 2e-4, "atol": 2e-5}, np.float64: {"rtol": 1e-12, "atol": 1e-13}}[dtype]
    np.testing.assert_allclose(y, x, **close)
    np.testing.assert_allclose(r, s, **close)


@pytest.mark.parametrize("n", [1, 3, 255, 1024, 1025, 1_000_003])
def test_tails_and_sums_of_any_length(n):
    for opt in (no.Adam(lr=0.1), OPTIMIZERS["ClipByNorm, SWATS"], Leader()):
        x, s, y, r = on_both(opt, n, np.float64, 2)
        if not isinstance(opt, Leader):  # which reads what another thread writes
            np.testing.assert_allclose(y, x, rtol=1e-11, atol=1e-13)
            np.testing.assert_allclose(r, s, rtol=1e-11, atol=1e-13)


def test_the_same_step_gives_the_same_bits():
    first, second = (on_both(OPTIMIZERS["all transforms"], 1_000_003, np.float32, 3)[2] for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_arrays_of_other_libraries_on_their_streams(library):
    found = pytest.importorskip(library)
    opt, values = no.Adam(lr=0.1), np.linspace(-1, 1, 1001)
    x, s = values.copy(), no.init_state(opt, values)
    if library == "torch":
        y, stream = found.nn.Parameter(found.from_numpy(values.copy()).cuda()), found.cuda.Stream()
        stream.wait_stream(found.cuda.current_stream())
        within, host = found.cuda.stream(stream), lambda values: values.detach().cpu().numpy()
        put = lambda values: found.from_numpy(values).cuda()  # noqa: E731
    else:
        y, stream, host, put = found.asarray(values), found.cuda.Stream(), found.asnumpy, found.asarray
        found.cuda.Device().synchronize()
        within = stream
    with within:
        state = no.cuda.init_state(opt, y)
        for t in range(1, 11):
            g = gradient(x, t)
            no.step(opt, x, g, s, t)
            no.cuda.step(opt, y, put(g), state, t)
        stream.synchronize()
    assert type(state).__module__.split(".")[0] == library
    np.testing.assert_allclose(host(y), x, rtol=1e-12)
    np.testing.assert_allclose(host(state), s, rtol=1e-12)


def test_many_fits_of_any_number_are_those_of_the_cpu():
    for k in (1, 127, 129, 40_000):  # less than a block, a tail, several launches
        t, Y = data(k)
        call = (residuals, START, (t, Y), (False, True), "lm")
        first, second = (no.minimize_many(*call, options={"device": device}) for device in ("cuda", "cpu"))
        assert (first.success == second.success).all()
        np.testing.assert_allclose(first.fun, second.fun, rtol=1e-6)
        np.testing.assert_allclose(first.x, second.x, rtol=1e-3)


def test_many_runs_with_targets_limits_and_temporary_arrays():
    @numba.njit
    def fun(x, a, n):
        powers = np.ones(n)  # of more than the memory a thread is given first
        for i in range(1, n):
            powers[i] = powers[i - 1] * 0.5
        return powers.sum() * ((x[0] - a) ** 2 + max(x[1], -x[1], 0.0) ** 2)

    call = (fun, [3.0, 1.0], (np.arange(300.0), 500), (True, False))
    for options in ({"maxiter": 3}, {"max_evaluations": 4}, {"f_target": 1e-3}):
        first, second = (no.minimize_many(*call, options={**options, "device": device}) for device in ("cuda", "cpu"))
        np.testing.assert_array_equal(first.status, second.status)
        np.testing.assert_allclose(first.x, second.x, rtol=1e-6, atol=1e-6)


def test_numba_streams_and_what_has_no_room():
    opt, x = no.SGD(lr=1.0), cuda.to_device(np.ones(1000))
    stream = cuda.stream()
    no.cuda.step(opt, x, cuda.to_device(np.ones(1000)), no.cuda.init_state(opt, x), 1, stream=stream)
    stream.synchronize()
    assert not x.copy_to_host().any()
    free = cuda.current_context().get_memory_info()[0]
    large = cuda.device_array(int(0.7 * free) // 8, np.float64)
    with pytest.raises(no.cuda.DeviceMemoryError, match=r"the state of Adam for .* unknowns: the GPU has no room left"):
        no.cuda.init_state(no.Adam(), large)
    del large
    gc.collect()


def test_host_arrays_are_refused_and_nothing_is_left_allocated():
    x = cuda.to_device(np.ones(1_000_000))
    cuda.synchronize()
    before = cuda.current_context().get_memory_info()[0]
    for _ in range(3):
        with pytest.raises(TypeError, match="g must be an array on a GPU"):
            no.cuda.step(no.SGD(), x, np.ones(1_000_000), no.cuda.init_state(no.SGD(), x), 1)
    assert cuda.current_context().get_memory_info()[0] == before


def model_of(size, dtype=np.float64):
    rng = np.random.default_rng(size)
    X = rng.normal(size=(size, 20))
    return no.LinearModel(X.astype(dtype), np.sign(X @ rng.normal(size=20)), loss="logistic", l2=0.01)


@pytest.mark.parametrize("size", [8, 4096])  # a block, the grid
def test_training_is_that_of_the_cpu_and_gives_the_same_bits(size):
    model, options = model_of(10_000), {"batch_size": size, "epochs": 2, "seed": 1}
    cpu = no.minimize(model, method="adam", options=options)
    first, second = (no.minimize(model, method="adam", options={**options, "device": "cuda"}) for _ in range(2))
    np.testing.assert_array_equal(first.x, second.x)
    np.testing.assert_array_equal(first.history.fun, second.history.fun)
    np.testing.assert_allclose(first.x, cpu.x, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(first.history.fun, cpu.history.fun, rtol=1e-10)
    assert (first.nit, first.status, first.nfev) == (cpu.nit, cpu.status, cpu.nfev)


def test_whole_objectives_are_trained_by_the_grid():
    model = model_of(10_000, np.float32)
    cpu, gpu = (no.minimize(model, method="nesterov", options={"lr": 0.5, "maxiter": 50, **more})
                for more in ({}, {"device": "cuda"}))  # fmt: skip
    np.testing.assert_allclose(gpu.x, cpu.x, rtol=1e-3, atol=1e-4)


def test_sweeps_are_those_of_the_cpu_and_give_the_same_bits():
    model, rules = model_of(2000), [no.Momentum(lr=lr) for lr in (1e-3, 1e-2, 1e300)]
    options = {"batch_size": 32, "epochs": 2, "seed": [1, 2, 3]}
    cpu = no.minimize_many(model, method=rules, options=options)
    first, second = (no.minimize_many(model, method=rules, options={**options, "device": "cuda"}) for _ in range(2))
    np.testing.assert_array_equal(first.x, second.x)
    np.testing.assert_allclose(first.x, cpu.x, rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(first.status, cpu.status)


def test_slices_of_many_problems_change_no_bit_and_leave_nothing(monkeypatch):
    from numbaopt.cuda import many

    t, Y = data(1000)
    call = (residuals, START, (t, Y), (False, True), "lm")
    options = {"device": "cuda", "history": 8, "path": True}
    whole = no.minimize_many(*call, options=options)
    cuda.synchronize()
    free = cuda.current_context().get_memory_info()[0]
    monkeypatch.setattr(many, "FIRST_STEPS", 1)
    monkeypatch.setattr(many, "fitting", lambda *given: 2)
    cut = no.minimize_many(*call, options=options)
    for name in ("x", "fun", "status", "nit", "nfev", "reason"):
        np.testing.assert_array_equal(cut[name], whole[name])
    for name in ("path", "history"):
        for mine, theirs in zip(cut[name], whole[name], strict=True):
            np.testing.assert_array_equal(*(rows if name == "path" else rows["fun"] for rows in (mine, theirs)))
    take, calls = many.Many._take, []

    def interrupted(self, *given):
        take(self, *given)
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(many.Many, "_take", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        no.minimize_many(*call, options=options)
    assert (caught.value.result.nit > 0).any()
    assert cuda.current_context().get_memory_info()[0] == free
