"""Models trained on a GPU, in CUDA's simulator: the run of the CPU, for every way that batches and steps are taken."""

import signal

import numba
import numpy as np
import pytest
import scipy.sparse as sp

import numbaopt as no

if not numba.config.ENABLE_CUDASIM:
    pytest.skip("needs NUMBA_ENABLE_CUDASIM=1 NUMBA_DISABLE_JIT=1: scripts/test", allow_module_level=True)

from numbaopt.cuda._backend import cuda
from numbaopt.cuda.training import slices as training
from numbaopt.problems.rows import UnitRows

pytestmark = pytest.mark.simulator
RNG = np.random.default_rng(0)
X = RNG.normal(size=(29, 4))
Y = np.sign(X @ [1.0, -2.0, 0.5, 0.0] + 0.3 * RNG.normal(size=29))
SPARSE = sp.random(23, 11, 0.3, format="csr", random_state=1)


def dense(loss="logistic", **options):
    return no.LinearModel(X, Y, loss=loss, **options)


def sparse(loss="huber", **options):
    return no.LinearModel(SPARSE, np.cos(np.arange(23.0)), loss=loss, **options)


def ones():
    """Categories: a third of the columns each."""
    return no.LinearModel(sp.csr_matrix(abs(SPARSE) > 0, dtype=float), np.cos(np.arange(23.0)), loss="squared")


def wide():
    return no.LinearModel(np.random.default_rng(3).normal(size=(29, 7)), Y, loss="logistic", sample_weight=1 + Y**2)


def classes(**options):
    return no.LinearModel(X, np.arange(29) % 3, loss="multinomial", **options)


def sparse_classes(**options):
    return no.LinearModel(SPARSE, np.arange(23) % 3, loss="multinomial", **options)


def weighted():
    return sparse(sample_weight=RNG.random(23), l2=0.01, intercept_l2=0.1)


CLIPPED = no.transforms.chain(no.transforms.ClipByNorm(0.1), no.SWATS(lr=0.05))
BATCHES = {"batch_size": 8, "epochs": 2}
LAZY = {"lazy_update": True}
FOUND = no.schedules.Automatic(steps=4, block=5)
CASES = {  # batches of 3 and 8 rows are of a block and of the grid
    "a block": (dense, no.Adam(lr=0.05), {"batch_size": 3, "epochs": 2, "seed": 5}),
    "the grid": (dense, no.Adam(lr=0.05), {**BATCHES, "seed": 5}),
    "in order, accumulated": (dense, no.Momentum(lr=0.05), {**BATCHES, "shuffle": False, "accumulate": 2}),
    "sums, a schedule": (dense, CLIPPED, {**BATCHES, "lr": no.schedules.Cosine(0.1, 8)}),
    "plateau": (dense, no.SGD(lr=no.schedules.ReduceOnPlateau(1.0, patience=1)), {**BATCHES, "epochs": 5}),
    "nobody judges": (dense, no.RMSprop(lr=0.05), {**BATCHES, "history": False, "maxiter": 6}),
    "sparse, weights": (weighted, no.AdaGrad(lr=0.3), BATCHES),
    "sparse, all ones": (ones, no.SGD(lr=0.1), BATCHES),
    "wide": (wide, no.SGD(lr=0.1), BATCHES),
    "l1, norm, ema": (lambda: sparse(l1=0.02), no.Adam(lr=0.1), {**BATCHES, "max_norm": 0.2, "average": "ema"}),
    "classes, polyak": (lambda: classes(l2=0.1), no.AdamW(lr=0.05), {**BATCHES, "average": "polyak"}),
    "noise": (dense, no.transforms.chain(no.transforms.GradientNoise(seed=1), no.SGD(lr=0.1)), BATCHES),
    "whole": (lambda: dense(l1=0.05), no.Nesterov(lr=0.5), {"maxiter": 6, "xtol": 1e-3}),
    "whole, averaged": (lambda: sparse("squared"), no.SGD(lr=0.3), {"maxiter": 4, "average": "polyak"}),
    "converges": (dense, no.SGD(lr=1.0), {"maxiter": 50, "gtol": 0.05}),
    "lazy, l1": (lambda: sparse(l1=0.02, l2=0.01), no.Adam(lr=0.1), {"batch_size": 2, "epochs": 2, **LAZY}),
    "lazy, the grid": (lambda: sparse_classes(), no.Momentum(lr=0.1), {"batch_size": 9, "epochs": 2, **LAZY}),
    "lengths": (lambda: dense(l2=0.1), no.Adam(lr=0.05), {"batch_size": 3, "epochs": 2, "weight_norm": True}),
    "lengths, the grid": (lambda: classes(l2=0.1), no.SGD(lr=0.3), {**BATCHES, "weight_norm": True}),
    "lengths, whole": (lambda: sparse("squared", l2=0.1), no.Momentum(lr=0.1),
                       {"maxiter": 5, "average": "ema", "weight_norm": True}),
    "a rate is found": (lambda: sparse(l1=0.02), no.SGD(lr=FOUND), {"maxiter": 40}),
    "poisson diverges": (lambda: no.LinearModel(1e3 * X, abs(Y), loss="poisson"), no.SGD(lr=1e300), BATCHES),
    "margins overflow": (lambda: no.LinearModel(10 * X, Y), no.SGD(lr=1e308), BATCHES),
}


def train(model, opt, options, **given):
    return no.minimize(model, method=opt, options=options, **given)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
def test_the_run_is_that_of_the_cpu(name):
    make, opt, options = CASES[name]
    model = make()
    cpu, gpu = train(model, opt, {"lazy_update": False, **options}), train(model, opt, {**options, "device": "cuda"})
    assert (gpu.nit, gpu.nfev, gpu.status, gpu.message) == (cpu.nit, cpu.nfev, cpu.status, cpu.message)
    np.testing.assert_allclose(gpu.x, cpu.x, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(gpu.run.x, cpu.run.x, rtol=1e-12, atol=1e-15)
    for field in ("step", "lr", "nfev"):
        np.testing.assert_array_equal(gpu.history[field], cpu.history[field])
    np.testing.assert_allclose(gpu.history.fun, cpu.history.fun, rtol=1e-12)
    np.testing.assert_allclose(gpu.history.grad_norm, cpu.history.grad_norm, rtol=1e-10)
    assert (gpu.history.seconds >= 0).all()


def test_the_layouts_of_the_cases_are_of_both_kinds():
    kinds = {name: training.layout(CASES[name][0](), no.run.Batches(29, size, True, 0, True))
             for name, size in (("a block", 3), ("the grid", 8))}  # fmt: skip
    assert (kinds["a block"].whole, kinds["the grid"].whole) == (False, True)
    assert kinds["the grid"].whole_chunks > 1
    shapes = {make: training.layout(make(), no.run.Batches(23, 8, True, 0, True)).shape
              for make in (dense, wide, sparse, ones)}  # fmt: skip
    assert (shapes[dense].pieces, shapes[wide].pieces) == (2, 0)  # warps hold rows, or do not
    assert 1 < shapes[sparse].parts < 4  # warps have rows of their own, and columns
    assert shapes[ones].storage is UnitRows


def test_a_hundred_steps_of_one_row_agree_to_rounding():
    options = {"batch_size": 1, "maxiter": 100}
    cpu, gpu = (train(dense(), no.Adam(lr=0.01), {**options, **more}) for more in ({}, {"device": "cuda"}))
    np.testing.assert_allclose(gpu.run.x, cpu.run.x, rtol=1e-12)


def test_single_precision_stays_single():
    model = no.LinearModel(X.astype(np.float32), Y, loss="logistic")
    cpu, gpu = (train(model, no.Adam(lr=0.05), {**BATCHES, **more}) for more in ({}, {"device": "cuda"}))
    assert gpu.x.dtype == np.float32
    np.testing.assert_allclose(gpu.x, cpu.x, rtol=1e-5)


def test_bounds_and_validation():
    box, held_out = [(-0.1, 0.2)] * 4 + [(None, None)], dense("squared")
    options = {**BATCHES, "epochs": 4, "validation": held_out, "patience": 2}
    cpu, gpu = (train(dense(), no.SGD(lr=1.0), {**options, **more}, bounds=box) for more in ({}, {"device": "cuda"}))
    np.testing.assert_allclose(gpu.x, cpu.x, rtol=1e-12)
    np.testing.assert_allclose(gpu.history.score, cpu.history.score, rtol=1e-12)
    assert (gpu.nit, gpu.status) == (cpu.nit, cpu.status)
    assert np.all(gpu.x[:4] <= 0.2)


def test_a_run_cut_and_resumed_has_the_same_bits(tmp_path):
    path, opt, seen = tmp_path / "run.npz", no.Adam(lr=0.05), []
    once = train(dense(), opt, {**BATCHES, "device": "cuda"})

    def stop(x):
        seen.append(x)
        raise StopIteration

    first = train(dense(), opt, {**BATCHES, "device": "cuda", "checkpoint": path}, callback=stop)
    assert (first.status, first.nit, len(seen)) == (99, 4, 1)
    rest = no.resume(path, dense())
    np.testing.assert_array_equal(rest.x, once.x)
    np.testing.assert_array_equal(rest.history.fun, once.history.fun)
    np.testing.assert_allclose(seen[0], first.run.x)
    on_cpu = no.resume(path, dense(), options={"device": "cpu", "epochs": 3})  # of dense data
    assert on_cpu.nit == 12


@pytest.mark.parametrize(("problem", "method", "options", "words"), [
    (dense, "newton", {}, "needs a first-order rule such as method='adam' or 'sgd', or 'lbfgs', .* not 'newton'"),
    (dense, "saga", {}, "first-order rule"),
    (dense, "slsqp", {}, "first-order rule"),
    (sparse, "adam", {"lazy_update": True, "batch_size": 2, "max_norm": 1.0}, "lazy_update=True: max_norm needs all"),
    (sparse, CLIPPED, {"lazy_update": True, "batch_size": 2}, "lazy_update=True: ClipByNorm needs the whole gradient"),
    (dense, no.SGD(lr=FOUND), {"average": "ema"}, "begins again and again, which leaves no average"),
    (dense, no.SGD(lr=FOUND), {"batch_size": 8}, "needs the whole objective in every step"),
    (lambda: (lambda x: x @ x), "adam", {}, "minimize trains a LinearModel there"),
])  # fmt: skip
def test_what_does_not_run_there_is_said(problem, method, options, words):
    given = problem()
    with pytest.raises(ValueError, match=words):
        no.minimize(given, np.ones(2) if callable(given) else None, method=method,
                    options={**options, "device": "cuda"})  # fmt: skip


def test_the_last_gradient_is_the_kernels_own(monkeypatch):
    monkeypatch.delattr(no.LinearModel, "value_and_grad")
    for options in ({"batch_size": 3, "epochs": 2}, {"maxiter": 3}, {"batch_size": 8, "maxiter": 6}):
        many = no.minimize_many(dense(), method="sgd", options={**options, "seed": [0, 1], "device": "cuda"})
        one = train(dense(), "sgd", {**options, "seed": 1, "device": "cuda"})
        np.testing.assert_allclose(many.fun[1], one.fun, rtol=1e-12)
        if "epochs" in options:
            assert one.fun == one.run.now[0].best_fun
    monkeypatch.undo()
    np.testing.assert_allclose(one.jac, dense().value_and_grad(one.x)[1], rtol=1e-12)


def test_a_device_that_is_not_known():
    with pytest.raises(ValueError, match="device='gpu' is not known; valid are 'cpu', 'cuda'"):
        train(dense(), "adam", {"device": "gpu"})


def test_nothing_is_held_after_an_exception(monkeypatch):
    kept = []
    close = training.Training.close
    monkeypatch.setattr(training.Training, "close", lambda self: (close(self), kept.append(len(self.held))))

    def fail(x):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(dense(), "adam", {**BATCHES, "device": "cuda"}, callback=fail)
    assert kept == [0]


@pytest.mark.parametrize(("at", "options"), [
    (2, {"batch_size": 15}), (2, {"maxiter": 9}), (25, {"maxiter": 99, "lr": FOUND}),  # the first rates are too large
])  # fmt: skip
def test_ctrl_c_tells_how_far_a_run_has_come(monkeypatch, at, options):
    launch, slices = training.Training.launch, []

    def interrupted(self, *given):
        launch(self, *given)
        slices.append(given)
        if len(slices) == at:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(training.Training, "launch", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        train(dense(), "adam", {"lr": 0.05, **options, "device": "cuda"})
    res = caught.value.result
    assert (res.status, res.nit > 0, res.x.any()) == (99, True, True)
    np.testing.assert_allclose(res.fun, dense().value_and_grad(res.x)[0], rtol=1e-12)


def test_the_first_slice_is_not_as_long_as_those_of_the_cpu(monkeypatch):
    options, launch, steps = {"batch_size": 10, "epochs": 3}, training.Training.launch, []
    for _ in range(2):
        train(dense(), no.SGD(lr=0.1), options)
    monkeypatch.setattr(training.Training, "launch",
                        lambda self, *given: (steps.append(given[3]), launch(self, *given)))  # fmt: skip
    train(dense(), no.SGD(lr=0.1), {**options, "device": "cuda"})
    assert steps[0] == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_what_a_gpu_no_longer_tells_hides_no_error(monkeypatch, tmp_path, error):
    def fail(x):
        monkeypatch.setattr(training.Training, "fetch", broken)
        raise error

    def broken(self):
        raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS")

    for more in ({}, {"checkpoint": tmp_path / "run.npz"}):
        with monkeypatch.context(), pytest.raises(error):
            train(dense(), "adam", {**BATCHES, **more, "device": "cuda"}, callback=fail)
        monkeypatch.undo()


def test_memory_that_runs_out_is_told_in_a_sentence(monkeypatch):
    def full(array):
        raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY")

    monkeypatch.setattr(cuda, "to_device", full)
    with pytest.raises(MemoryError, match="the GPU has no room left for an allocation of"):
        train(dense(), "adam", {**BATCHES, "device": "cuda"})
