"""Compiled kernels and their launches, end to end, on a GPU that is played (tests/emulated): what the CPU answers.

``NUMBAOPT_EMULATED_GPU=1 python -m pytest -m emulated tests/test_cuda_emulated.py``
"""

import gc

import numpy as np
import pytest
import scipy.sparse as sp
from conftest import EMULATED
from cuda_cases import OPTIMIZERS
from cuda_many_cases import cases
from emulated import library

import numbaopt as no

pytestmark = pytest.mark.emulated
pytest.importorskip("numba_cuda")
if not library.possible():
    pytest.skip("the library that is played is for Linux on x86-64", allow_module_level=True)
if EMULATED:
    from emulated.driver import play

    GPU = play()
    from numba import cuda

    from numbaopt.cuda.many import launches as many

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def played():
    """No kernel does what it must not; nothing stays allocated."""
    yield
    faults, GPU.faults[:] = GPU.faults.copy(), []
    GPU.launched.clear()
    GPU.backwards = False
    assert not faults
    gc.collect()
    no.cuda._backend.release()


# --------------------------------------------------------------------------------------------- the machine itself
def launch(kernel, blocks, threads, *arrays):
    """Launch a kernel; the fault that the machine finds in it, or ""."""
    try:
        no.cuda._backend.configured(kernel, blocks, threads)(*arrays)
    except Exception:
        if not GPU.faults:
            raise
        (fault,) = GPU.faults
        GPU.faults.clear()
        return str(fault)
    return ""


def turned(met, out):
    """Each thread reads what another wrote; all have met before, or not."""
    shared = cuda.shared.array(64, np.float64)
    i = cuda.threadIdx.x
    shared[i] = i
    if met:
        cuda.syncthreads()
    out[cuda.blockIdx.x, i] = shared[63 - i]


def crossing(met, out):
    """Blocks read what another one wrote."""
    i = cuda.grid(1)
    out[0, i] = i
    if met:
        cuda.cg.this_grid().sync()
    out[1, i] = out[0, (i + cuda.blockDim.x) % cuda.gridsize(1)]


def test_races_are_found_and_barriers_end_them():
    out = cuda.to_device(np.zeros((2, 64)))
    kernel = cuda.jit(turned)
    assert launch(kernel, 2, 64, True, out) == ""
    np.testing.assert_array_equal(out.copy_to_host(), [np.arange(63.0, -1, -1)] * 2)
    for GPU.backwards in (False, True):
        assert launch(kernel, 2, 64, False, out).startswith("turned: one thread reads what another writes, and no")
    kernel = cuda.jit(crossing)
    assert launch(kernel, 2, 32, True, out) == ""
    np.testing.assert_array_equal(out.copy_to_host()[1], (np.arange(64) + 32) % 64)
    assert "crossing: one thread reads what another writes" in launch(kernel, 2, 32, False, out)
    assert GPU.launched[-1] == ("crossing", 2, 32, True)


def test_two_writers_race_but_where_they_write_the_same():
    @cuda.jit
    def written(same, out):
        i = cuda.grid(1)
        out[i // 2] = 1.0 if same else i

    out = cuda.to_device(np.zeros(64))
    assert launch(written, 2, 64, True, out) == ""
    assert "two threads write one place" in launch(written, 2, 64, False, out)


def test_lanes_hand_each_other_numbers_and_memory_is_in_order_only_where_a_warp_meets():
    @cuda.jit
    def lanes(x, out, met):
        i = cuda.threadIdx.x
        total = x[i]
        step = 16
        while step > 0:
            total += cuda.shfl_xor_sync(0xFFFFFFFF, total, step)
            step //= 2
        out[0, i], out[1, i] = total, cuda.shfl_down_sync(0xFFFFFFFF, x[i], 3)
        out[2, i], out[3, i] = cuda.shfl_up_sync(0xFFFFFFFF, x[i], 5), cuda.shfl_sync(0xFFFFFFFF, x[i], 7)
        out[4, i] = cuda.ballot_sync(0xFFFFFFFF, x[i] > 10)
        if met:
            cuda.syncwarp(0xFFFFFFFF)
        out[5, i] = out[0, i ^ 1]

    x, out = np.arange(64.0), cuda.to_device(np.zeros((6, 64)))
    assert launch(lanes, 1, 64, cuda.to_device(x), out, True) == ""
    found, rows = out.copy_to_host(), x.reshape(2, 32)
    lane = np.arange(32)
    expected = np.stack([
        np.repeat(rows.sum(1), 32), rows[:, np.where(lane < 29, lane + 3, lane)].ravel(),
        rows[:, np.where(lane > 4, lane - 5, lane)].ravel(), np.repeat(rows[:, 7], 32),
        np.repeat([sum(1 << k for k in range(11, 32)), 2**32 - 1], 32)])  # fmt: skip
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1:4], expected[1:4])
    np.testing.assert_array_equal(found[4] % 2**32, expected[4])
    assert "one thread reads what another writes" in launch(lanes, 1, 64, cuda.to_device(x), out, False)


def test_a_warp_meets_where_its_lanes_name_the_same_others():
    @cuda.jit
    def led(out):
        shared, i = cuda.shared.array(2, np.float64), cuda.threadIdx.x
        if i == 0:
            shared[0] = 7
            cuda.syncwarp(0xFFFFFFFF)
            shared[1] = 8
        else:
            cuda.syncwarp(0xFFFFFFFF)
            out[i] = shared[0]
        cuda.syncwarp(0xFFFFFFFF)
        out[32 + i] = shared[1]

    out = cuda.to_device(np.zeros(64))
    assert launch(led, 1, 32, out) == ""
    assert out.copy_to_host().tolist() == [0] + [7] * 31 + [8] * 32


def test_parts_of_a_warp_meet_apart():
    @cuda.jit
    def halves(mask, out):
        shared, i = cuda.shared.array(32, np.float64), cuda.threadIdx.x
        shared[i] = i
        cuda.syncwarp((0xFFFF if i < 16 else 0xFFFF0000) if mask == 0 else 0xFF << i // 8 * 8)
        out[i] = shared[i ^ 15]

    out = cuda.to_device(np.zeros(32))
    assert launch(halves, 1, 32, 0, out) == ""
    assert out.copy_to_host().tolist() == (np.arange(32) ^ 15).tolist()
    assert "one thread reads what another writes" in launch(halves, 1, 32, 1, out)


def test_threads_that_wait_for_ever_are_told_with_their_places():
    @cuda.jit
    def half(out):
        if cuda.threadIdx.x < 32:
            out[cuda.threadIdx.x] = 1
            cuda.syncthreads()

    @cuda.jit
    def lonely(out):
        if cuda.threadIdx.x % 32 < 7:
            out[cuda.threadIdx.x] = cuda.shfl_sync(0xFFFFFFFF, out[cuda.threadIdx.x], 0)
        cuda.syncthreads()

    out = cuda.to_device(np.zeros(64))
    assert "half: threads wait for ever: 32 wait for a barrier at line" in launch(half, 1, 64, out)
    assert "14 wait for a shuffle" in launch(lonely, 1, 64, out)


def test_accesses_out_of_bounds_and_not_aligned_are_told():
    @cuda.jit
    def beyond(out, by):
        out[cuda.threadIdx.x + by] = 1

    out = cuda.to_device(np.zeros(100))
    assert launch(beyond, 1, 64, out, 36) == ""
    assert "beyond: an access outside of what is allocated: thread 63 of block 0" in launch(beyond, 1, 64, out, 37)


def raised(out):
    out[0] += 1.0


def test_a_stream_is_as_late_as_it_may_be():
    stream, out, kernel = cuda.stream(), cuda.to_device(np.zeros(1)), cuda.jit(raised)
    no.cuda._backend.configured(kernel, 1, 1, stream=stream)(out)
    there = GPU.memory.bytes_at(out.device_ctypes_pointer.value, 8).view(float)
    assert there[0] == 0.0
    stream.synchronize()
    assert there[0] == 1.0
    no.cuda._backend.configured(kernel, 1, 1, stream=stream)(out)
    assert out.copy_to_host()[0] == 2.0  # which waits for all


def test_a_grid_that_is_too_large_to_wait_is_refused():
    out, kernel = cuda.to_device(np.zeros((2, 5 * 32))), cuda.jit(crossing)
    no.cuda._backend.configured(kernel, 4, 32)(True, out)
    made = kernel.overloads[kernel.signatures[0]]
    assert made.max_cooperative_grid_blocks(32) == 4
    with pytest.raises(Exception, match=r"exceeds the limit \(4\)"):
        no.cuda._backend.configured(kernel, 5, 32)(True, out)


# ----------------------------------------------------------------------------------------------------- steps
def gradient(x, t):
    return (0.3 * x + np.sign(x) * 0.2 + np.cos(np.arange(x.size) + t)).astype(x.dtype)


def stepped(opt, n, dtype, steps=3, shift=0):
    """The same steps by the CPU and on the GPU: unknowns and state of each."""
    x = np.random.default_rng(n).normal(size=n).astype(dtype)
    s, y = no.init_state(opt, x), cuda.device_array(n + shift, dtype)[shift:]
    y.copy_to_device(x)
    r = no.cuda.init_state(opt, y)
    for t in range(1, steps + 1):
        g = gradient(x, t)
        there = cuda.device_array(n + shift, dtype)[shift:]
        there.copy_to_device(g)
        no.step(opt, x, g, s, t)
        no.cuda.step(opt, y, there, r, t)
    return x, s, y.copy_to_host(), np.ascontiguousarray(r.copy_to_host())


@pytest.mark.parametrize(("name", "dtype", "shift"), [
    ("Adam", "f4", 0), ("Adam", "f8", 0), ("Adam", "f4", 1), ("ClipByNorm, SWATS", "f8", 0), ("Lookahead", "f8", 0),
    ("GradientNoise, Adam", "f4", 0), ("a user's", "f8", 1), ("all transforms", "f4", 0),
])  # fmt: skip
def test_steps_are_those_of_the_cpu(name, dtype, shift):
    x, s, y, r = stepped(OPTIMIZERS[name], 1003, dtype, shift=shift)
    close = {"f4": {"rtol": 2e-4, "atol": 2e-5}, "f8": {"rtol": 1e-12, "atol": 1e-13}}[dtype]
    np.testing.assert_allclose(y, x, **close)
    np.testing.assert_allclose(r, s, **close)
    lanes = 16 // np.dtype(dtype).itemsize if shift == 0 else 1
    assert GPU.launched[-1] == ("move", -(-1003 // (256 * lanes)), 256, False)


def test_a_step_gives_the_same_bits_in_whatever_order_threads_run():
    first = stepped(OPTIMIZERS["ClipByNorm, SWATS"], 1003, "f8")[2:]
    GPU.backwards = True
    for here, there in zip(first, stepped(OPTIMIZERS["ClipByNorm, SWATS"], 1003, "f8")[2:], strict=True):
        np.testing.assert_array_equal(here, there)


# -------------------------------------------------------------------------------------------------- training
X = RNG.normal(size=(1400, 20))
Y = np.sign(X @ RNG.normal(size=20))
WIDE = RNG.normal(size=(60, 300))
SPARSE = sp.random(1400, 60, 0.2, format="csr", random_state=1)
ONES = SPARSE[:200].copy()
ONES.data[:] = 1.0
TRAINED = {  # model, method, options, whether the grid trains it
    "dense, a block": (no.LinearModel(X[:200, :7], Y[:200], loss="logistic", l2=0.01), "adam",
                       {"batch_size": 32, "epochs": 2, "seed": 1}, False),
    "dense, the grid, l1": (no.LinearModel(X, Y, loss="logistic", l1=0.01), "nesterov", {"lr": 0.1, "maxiter": 3},
                            True),
    "sparse, the grid": (no.LinearModel(SPARSE, Y, loss="squared", l2=0.01), "adagrad",
                         {"batch_size": 1390, "epochs": 2, "seed": 1}, True),
    "classes, float32": (no.LinearModel(X[:100].astype("f4"), np.arange(100) % 4, loss="multinomial"), "momentum",
                         {"batch_size": 32, "epochs": 2, "seed": 1}, False),
    "dense in tiles": (no.LinearModel(WIDE, Y[:60], loss="huber", l2=0.01), "rmsprop",
                       {"batch_size": 20, "epochs": 2, "seed": 1}, False),
    "ones, only the unknowns of a batch": (no.LinearModel(ONES, Y[:200], loss="logistic"), "adam",
                                           {"batch_size": 8, "epochs": 1, "seed": 1, "lazy_update": True}, False),
    "direction and length": (no.LinearModel(X[:100, :5], Y[:100], loss="squared"), "sgd",
                             {"batch_size": 32, "epochs": 2, "seed": 1, "weight_norm": True}, False),
    "a rate found on the way": (no.LinearModel(X[:100, :5], Y[:100], loss="logistic", l2=0.1), "adam",
                                {"lr": None, "maxiter": 12}, False),
    "lbfgs": (no.LinearModel(X, Y, loss="logistic", l2=0.1), "lbfgs", {"maxiter": 2}, True),
    "sums, in a box": (no.LinearModel(SPARSE[:200], Y[:200], loss="huber"), OPTIMIZERS["ClipByNorm, SWATS"],
                       {"batch_size": 64, "epochs": 2, "seed": 1, "bounds": [(-0.05, 0.05)] * 61}, False),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAINED)
def test_training_is_that_of_the_cpu_and_gives_the_same_bits(name):
    model, method, options, whole = TRAINED[name]
    given, options = {"bounds": options.get("bounds")}, {k: v for k, v in options.items() if k != "bounds"}
    cpu = no.minimize(model, method=method, options=options, **given)
    found = []
    for GPU.backwards in (False, True):
        found.append(no.minimize(model, method=method, options={**options, "device": "cuda"}, **given))
        assert {(told[1] > 1, told[3]) for told in GPU.launched} == {(whole, whole)}
    gpu, again = found
    np.testing.assert_array_equal(gpu.x, again.x)
    np.testing.assert_array_equal(gpu.history.fun, again.history.fun)
    close = {"rtol": 1e-4, "atol": 1e-5} if model.dtype == np.float32 else {"rtol": 1e-10, "atol": 1e-12}
    np.testing.assert_allclose(gpu.x, cpu.x, **close)
    np.testing.assert_allclose(gpu.history.fun, cpu.history.fun, **close)
    assert (gpu.nit, gpu.status, gpu.nfev) == (cpu.nit, cpu.status, cpu.nfev)


def test_a_sweep_is_that_of_the_cpu_a_block_a_run():
    model, rules = TRAINED["dense, a block"][0], [no.Adam(lr=lr) for lr in (1e-3, 0.1, 1e300)]
    options = {"batch_size": 32, "epochs": 2, "seed": [1, 2, 3]}
    cpu, gpu = (no.minimize_many(model, method=rules, options={**options, "device": device})
                for device in ("cpu", "cuda"))  # fmt: skip
    assert {told[1:] for told in GPU.launched} == {(3, 256, False)}
    np.testing.assert_allclose(gpu.x, cpu.x, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(gpu.status, cpu.status)


def test_nothing_stays_allocated_when_training_ends():
    gc.collect()
    no.cuda._backend.release()
    before = dict(GPU.memory.held)
    model, method, options, _ = TRAINED["dense, a block"]
    no.minimize(model, method=method, options={**options, "device": "cuda"})
    assert GPU.memory.held == before


# ---------------------------------------------------------------------------------------------- many problems
@pytest.mark.parametrize("name", ["lbfgs", "targets", "own box", "adam", "list", "float32", "fails", "mixture",
                                  "assigns", "lm of a tuple", "axes", "team", "team's residuals"])  # fmt: skip
def test_many_problems_are_solved_as_by_the_cpu(name):
    given = cases()[name]
    cpu, gpu = (no.minimize_many(**{**given, "options": {**given.get("options", {}), "device": device}})
                for device in ("cpu", "cuda"))  # fmt: skip
    for field in ("status", "nit", "nfev", "reason"):
        np.testing.assert_array_equal(gpu[field], cpu[field], field)
    close = {"rtol": 1e-5, "atol": 1e-6} if cpu.x.dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(gpu.x, cpu.x, **close)
    np.testing.assert_allclose(gpu.fun, cpu.fun, **close)
    assert {told[2:] for told in GPU.launched if told[0] == "solve"} == {(32, False)}


def test_the_next_problems_come_on_a_stream_of_their_own(monkeypatch):
    for name in ("FIRST", "LEAST", "MOST"):
        monkeypatch.setattr(many, name, 1)
    monkeypatch.setattr(many, "FIRST_STEPS", 3)
    given = cases()["adam"]
    cpu, gpu = (no.minimize_many(**{**given, "options": {**given["options"], "device": device}})
                for device in ("cpu", "cuda"))  # fmt: skip
    assert len(GPU.launched) > 6
    np.testing.assert_array_equal(gpu.nit, cpu.nit)
    np.testing.assert_allclose(gpu.x, cpu.x, rtol=1e-9)
