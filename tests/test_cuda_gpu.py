"""On a GPU itself, where there is one: the numbers of the CPU, the same bits, other libraries, streams, memory."""

import contextlib
import faulthandler
import gc
import signal
import threading

import numba
import numpy as np
import pytest
import scipy.sparse as sp

if numba.config.ENABLE_CUDASIM:
    pytest.skip("not for the simulator", allow_module_level=True)
pytest.importorskip("numba.cuda", reason="CUDA does not exist on this system")

from cuda_cases import OPTIMIZERS, Leader

import numbaopt as no
from benchmarks.many import START, data, residuals
from numbaopt.cuda import _backend

pytestmark = pytest.mark.gpu
cuda = _backend.cuda
SECONDS = 60  # of a test; a kernel that never ends is told where it was waited for


@pytest.fixture(autouse=True)
def _limited():
    """No test waits for ever: neither in Python nor, half a minute later, for the driver."""
    def late(*_):
        raise TimeoutError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late) if hasattr(signal, "SIGALRM") else None
    with contextlib.suppress(AttributeError):
        signal.alarm(SECONDS)
    faulthandler.dump_traceback_later(SECONDS + 30, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
    if before is not None:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def free_bytes():
    """Of the GPU's memory, when all is given back that is not used."""
    gc.collect()
    cuda.synchronize()
    _backend.release()
    return cuda.current_context().get_memory_info()[0]


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
        assert np.count_nonzero(first.success != second.success) <= k // 1000  # a last bit may decide the last step
        np.testing.assert_allclose(first.fun, second.fun, rtol=1e-6)
        np.testing.assert_allclose(first.x, second.x, rtol=1e-3, atol=1e-4)


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
    free = free_bytes()
    large = cuda.device_array(int(0.7 * free) // 8, np.float64)
    with pytest.raises(no.cuda.DeviceMemoryError, match=r"the state of Adam for .* unknowns: the GPU has no room left"):
        no.cuda.init_state(no.Adam(), large)
    del large
    gc.collect()


def test_host_arrays_are_refused_and_nothing_is_left_allocated():
    x = cuda.to_device(np.ones(1_000_000))
    before = free_bytes()
    for _ in range(3):
        with pytest.raises(TypeError, match="g must be an array on a GPU"):
            no.cuda.step(no.Adam(), x, np.ones(1_000_000), no.cuda.init_state(no.Adam(), x), 1)
    assert free_bytes() == before


def test_runs_leave_nothing_allocated_also_where_they_fail():
    def stop(result):
        raise KeyboardInterrupt

    model, (t, Y) = model_of(100_000), data(10_000)
    options = {"batch_size": 256, "epochs": 1, "device": "cuda", "lr": 0.01}
    fitted = (residuals, START, (t, Y), (False, True), "lm")

    def run(callback=None):
        no.minimize(model, method="adam", callback=callback, options=options)
        no.minimize_many(*fitted, options={"device": "cuda"})

    run()  # what is compiled stays, and the driver's own
    before = free_bytes()
    run()
    with contextlib.suppress(KeyboardInterrupt):
        run(stop)
    assert free_bytes() == before


def test_threads_take_steps_one_after_the_other_and_at_once():
    opt, start = no.Adam(lr=0.1), np.linspace(-1, 1, 1001)
    expected, state, ends = start.copy(), no.init_state(no.Adam(lr=0.1), start), []
    for t in (1, 2, 3):
        no.step(opt, expected, np.ones(1001), state, t)

    def work():
        x, g = cuda.to_device(start), cuda.to_device(np.ones(1001))
        state = no.cuda.init_state(opt, x)
        for t in (1, 2, 3):
            no.cuda.step(opt, x, g, state, t)
        ends.append(x.copy_to_host())

    for threads in ([threading.Thread(target=work)] for _ in range(3)):
        threads[0].start()
        threads[0].join()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ends) == 7
    for end in ends:
        np.testing.assert_allclose(end, expected, rtol=1e-12)


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


SPARSE = sp.random(5000, 300, 0.05, format="csr", random_state=1)
TARGET = np.sign(SPARSE @ np.ones(300) - 3.0)
CASES = {
    "sparse, a block": ({"X": SPARSE, "y": TARGET, "loss": "squared_hinge"}, no.AdaGrad(lr=0.1),
                        {"batch_size": 16, "epochs": 1}),
    "sparse, the grid": ({"X": SPARSE, "y": TARGET, "loss": "logistic", "l2": 0.01}, no.Adam(lr=0.01),
                         {"batch_size": 2048, "epochs": 3}),
    "classes, sums, a norm": ({"X": SPARSE.toarray()[:, :30], "y": np.arange(5000) % 4, "loss": "multinomial"},
                              no.transforms.chain(no.transforms.ClipByNorm(0.1), no.Momentum(lr=0.1)),
                              {"batch_size": 1024, "epochs": 2, "max_norm": 0.5}),
    "l1, an average": ({"X": SPARSE.toarray()[:, :30], "y": TARGET, "loss": "logistic", "l1": 0.01}, no.SGD(lr=0.1),
                       {"batch_size": 64, "epochs": 2, "average": "polyak"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_models_of_every_kind_are_trained_as_on_the_cpu(name):
    made, opt, options = CASES[name]
    cpu, gpu = (no.minimize(no.LinearModel(**made), method=opt, options={**options, **more})
                for more in ({}, {"device": "cuda"}))  # fmt: skip
    np.testing.assert_allclose(gpu.x, cpu.x, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(gpu.fun, cpu.fun, rtol=1e-9)
    assert (gpu.nit, gpu.status) == (cpu.nit, cpu.status)


def test_sweeps_are_those_of_the_cpu_and_give_the_same_bits():
    model, rules = model_of(2000), [no.Momentum(lr=lr) for lr in (1e-3, 1e-2, 1e300)]
    options = {"batch_size": 32, "epochs": 2, "seed": [1, 2, 3]}
    cpu = no.minimize_many(model, method=rules, options=options)
    first, second = (no.minimize_many(model, method=rules, options={**options, "device": "cuda"}) for _ in range(2))
    np.testing.assert_array_equal(first.x, second.x)
    np.testing.assert_allclose(first.x, cpu.x, rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(first.status, cpu.status)


def test_slices_of_many_problems_change_no_bit_and_leave_nothing(monkeypatch):
    from numbaopt.cuda.many import launches as many

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
