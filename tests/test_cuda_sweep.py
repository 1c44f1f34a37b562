"""Many runs of one model on a GPU, in CUDA's simulator: those of `minimize`, each by a block, all in one launch."""

import numba
import numpy as np
import pytest

import numbaopt as no

if not numba.config.ENABLE_CUDASIM:
    pytest.skip("needs NUMBA_ENABLE_CUDASIM=1 NUMBA_DISABLE_JIT=1: scripts/test", allow_module_level=True)

from numbaopt.cuda._backend import cuda
from numbaopt.cuda.training import slices as training

pytestmark = [
    pytest.mark.simulator,
    pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered"),
]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(29, 4))
Y = np.sign(X @ [1.0, -2.0, 0.5, 0.0] + 0.3 * RNG.normal(size=29))
MODEL = no.LinearModel(X, Y, loss="logistic")
BATCHES = {"batch_size": 8, "epochs": 3}
RATES = [no.SGD(lr=lr) for lr in (0.01, 1e300, 1.0)]
PLATEAU = [no.SGD(lr=no.schedules.ReduceOnPlateau(1.0, patience=1)), no.SGD(lr=0.1)]
CLIPPED = [no.transforms.chain(no.transforms.ClipByNorm(size), no.SWATS(lr=0.05)) for size in (0.1, 1.0)]
CASES = {
    "rates, seeds": (RATES, {**BATCHES, "seed": [1, 2, 2]}),
    "sums, average": (CLIPPED, {**BATCHES, "average": "ema"}),
    "plateau of one": (PLATEAU, {**BATCHES, "epochs": 5}),
    "nobody judges": (RATES[::2], {**BATCHES, "history": False}),
    "each stops on its own": ([no.SGD(lr=lr) for lr in (0.3, 1.0, 3.0)], {"maxiter": 30, "gtol": 0.1}),
    "validation, patience": (RATES, {**BATCHES, "validation": no.LinearModel(X[:9], Y[:9], loss="logistic"),
                                     "patience": 1, "epochs": 6}),
    "targets": (RATES[::2], {**BATCHES, "f_target": [0.1, 0.6]}),
}  # fmt: skip


def sweep(methods, options, **given):
    return no.minimize_many(MODEL, method=methods, options={**options, "device": "cuda"}, **given)


@pytest.mark.parametrize("name", CASES)
def test_runs_are_those_of_the_cpu(name):
    methods, options = CASES[name]
    gpu, cpu = sweep(methods, options), no.minimize_many(MODEL, method=methods, options=options)
    for field in ("status", "nit", "nfev", "reason"):
        np.testing.assert_array_equal(gpu[field], cpu[field])
    np.testing.assert_allclose(gpu.x, cpu.x, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(gpu.fun, cpu.fun, rtol=1e-12)
    if name == "each stops on its own":
        assert len(set(gpu.nit)) > 1


def test_a_run_alone_on_a_gpu_is_the_same_but_for_the_order_of_sums():
    many = sweep(RATES[::2], {**BATCHES, "seed": 7, "history": True})
    for i, opt in enumerate(RATES[::2]):
        one = no.minimize(MODEL, method=opt, options={**BATCHES, "seed": 7, "device": "cuda"})
        np.testing.assert_allclose(many.x[i], one.x, rtol=1e-12)
        np.testing.assert_allclose(many.history[i].fun, one.history.fun, rtol=1e-12)


def test_one_launch_a_slice_serves_all(monkeypatch):
    launches, launch = [], training.Training.launch
    monkeypatch.setattr(training.Training, "launch", lambda self, table, *rest: (
        launches.append(table.shape[:2]), launch(self, table, *rest)))  # fmt: skip
    monkeypatch.setattr("numbaopt.cuda.training.sweep.fitting", lambda size, done, took: 5)
    sweep(RATES[::2], BATCHES)
    assert launches == [(2, 1), (2, 5), (2, 5), (2, 1)]


def test_starts_and_bounds():
    starts, box = RNG.normal(size=(2, 5)), [(-0.5, 0.5)] * 5
    options = {**BATCHES, "lr": 0.5}
    cpu = no.minimize_many(MODEL, starts, bounds=box, method="sgd", options=options)
    np.testing.assert_allclose(sweep("sgd", options, X0=starts, bounds=box).x, cpu.x, rtol=1e-12)


def test_one_that_raises_troubles_no_other():
    def rate(t):
        raise ZeroDivisionError

    many = sweep([no.SGD(lr=rate), no.SGD(lr=0.1)], BATCHES)
    assert many.status.tolist() == [4, 1]
    assert "The first that raised is problem 0" in many.message


def test_ctrl_c_keeps_what_is_done(monkeypatch):
    launch, closed, close = training.Training.launch, [], training.Training.close

    def interrupted(self, *given):
        launch(self, *given)
        raise KeyboardInterrupt

    monkeypatch.setattr(training.Training, "launch", interrupted)
    monkeypatch.setattr(training.Training, "close", lambda self: (close(self), closed.append(len(self.held))))
    with pytest.raises(KeyboardInterrupt) as caught:
        sweep(RATES[::2], BATCHES)
    assert caught.value.result.status.tolist() == [99, 99]
    assert caught.value.result.nit.tolist() == [1, 1]
    assert closed == [0]


@pytest.mark.parametrize(("given", "words"), [
    ({"methods": [no.SGD(), no.Adam()]}, r"device='cuda': method: all must be of one class, but \[0\] is SGD"),
    ({"methods": ["lbfgs"] * 2, "options": {}}, "many runs at once need a first-order rule"),
    ({"options": {"lr": None}}, "lr=None is found by one run at a time; tell many runs their rates"),
])  # fmt: skip
def test_what_does_not_run_there_is_said(given, words):
    with pytest.raises(ValueError, match=words):
        sweep(**{"methods": RATES, "options": BATCHES, **given})


def test_memory_that_runs_out_is_told_in_a_sentence(monkeypatch):
    def full(array):
        raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY")

    monkeypatch.setattr(cuda, "to_device", full)
    with pytest.raises(MemoryError, match="the GPU has no room left for an allocation of"):
        sweep(RATES, BATCHES)
