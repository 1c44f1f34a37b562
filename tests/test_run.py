"""Runs: cut anywhere, saved, resumed in another process, interrupted; and what a fresh process pays."""

import os
import signal
import subprocess
import sys
import threading
import time

import numba
import numpy as np
import pytest
from problems import bowl, bowl_grad, rosen, rosen_grad, same, table

import numbaopt as no
from numbaopt import run as driver
from numbaopt._threads import share_out
from numbaopt.problems import curvature, linear_model, whole
from numbaopt.transforms import ClipByNorm, ClipByValue, WeightDecay, chain

OPTIMIZERS = [m.optimizer() for m in no.methods() if m.optimizer.__module__.startswith("numbaopt.optimizers")] + [
    chain(ClipByNorm(1.0), WeightDecay(0.01),
          no.Momentum(no.schedules.Warmup(no.schedules.Cosine(0.1, steps=90), steps=9))),
    chain(ClipByValue(0.5), no.Adam(no.schedules.ReduceOnPlateau(0.05, patience=1))),
]  # fmt: skip
NAMES = [type(o).__name__ + str(k) for k, o in enumerate(OPTIMIZERS)]


def stop_after(steps):
    def callback(intermediate_result):
        if intermediate_result.nit >= steps:
            raise StopIteration

    return callback


@pytest.mark.parametrize("opt", OPTIMIZERS, ids=NAMES)
def test_resumed_run_equals_the_uninterrupted_one(opt, tmp_path):
    path = tmp_path / "run.npz"
    X, _, labels = table(rows=90)
    model = no.LinearModel(X, labels, loss="logistic", l2=0.01)
    options = {"batch_size": 8, "epochs": 9, "seed": 4}
    once = no.minimize(model, method=opt, options=options)
    for cut in (1, 29, 60):  # in the middle of an epoch: maxiter counts steps
        no.minimize(model, method=opt, options={**options, "maxiter": cut, "checkpoint": path})
        same(no.resume(path, model, options={"epochs": 9}), once)
    stopped = no.minimize(model, method=opt, callback=stop_after(30), options={**options, "checkpoint": path})
    assert stopped.status == 99
    same(no.resume(path, model), once)


@pytest.mark.parametrize("opt", [*OPTIMIZERS[-2:], no.Adam(0.01)], ids=str)
def test_functions_resume_too(opt, tmp_path):
    path = tmp_path / "run.npz"
    once = no.minimize(rosen, [-1.2, 1.0], method=opt, jac=rosen_grad, options={"maxiter": 500})
    no.minimize(rosen, [-1.2, 1.0], method=opt, jac=rosen_grad, callback=stop_after(123),
                options={"maxiter": 500, "checkpoint": path})  # fmt: skip
    same(no.resume(path, rosen, jac=rosen_grad), once)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_length_of_slices_changes_nothing(size, monkeypatch):
    X, y, _ = table()
    model = no.LinearModel(X, y)
    options = {"lr": no.schedules.ReduceOnPlateau(0.05, patience=1), "batch_size": 8, "epochs": 12}
    once = no.minimize(model, method="adam", options=options), no.minimize(bowl, [0.0], method="adam", jac=bowl_grad)
    monkeypatch.setattr(driver, "MAX_SLICE", size)
    same(no.minimize(model, method="adam", options=options), once[0])
    same(no.minimize(bowl, [0.0], method="adam", jac=bowl_grad), once[1])


def test_checkpoint_of_another_problem_or_none_at_all(tmp_path):
    path = tmp_path / "run.npz"
    no.minimize(bowl, [0.0, 0.0], method="adam", options={"maxiter": 3, "checkpoint": path})
    whole = path.read_bytes()
    X, y, _ = table()
    with pytest.raises(ValueError, match=r"run.npz is of another problem: it has 2 unknowns"):
        no.resume(path, no.LinearModel(X, y))
    for damaged in (whole[:-40], whole[: len(whole) // 2], b"", b"hello", whole.replace(b"Adam", b"Adan", 1)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"run.npz is not a usable checkpoint"):
            no.resume(path, bowl)
    with pytest.raises(FileNotFoundError):
        no.resume(tmp_path / "none.npz", bowl)
    np.savez(path, evil=np.array([{"a": 1}], object))
    with pytest.raises(ValueError, match=r"not a usable checkpoint"):
        no.resume(path, bowl)
    with pytest.raises(ValueError, match="cannot be written to a checkpoint"):
        no.minimize(bowl, [0.0], method="adam", options={"lr": lambda k: 0.1, "checkpoint": path})


def test_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    no.minimize(bowl, [0.0, 0.0], method="adam", options={"maxiter": 3, "checkpoint": path})
    whole = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        no.minimize(bowl, [0.0, 0.0], method="adam", options={"maxiter": 5, "checkpoint": path})
    assert path.read_bytes() == whole
    assert os.listdir(tmp_path) == ["run.npz"]


def interrupted(work):
    """The KeyboardInterrupt that ``work`` ends with, and the seconds from the signal to it."""
    sent = []

    def send():
        time.sleep(0.5)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=send).start()
    with pytest.raises(KeyboardInterrupt) as caught:
        work()
    return caught.value, time.perf_counter() - sent[0]


@pytest.fixture
def heeding_ctrl_c():
    """Python's own handler of SIGINT, which a job started in the background inherits as ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding_ctrl_c")
def test_ctrl_c_keeps_the_state(tmp_path):
    path = tmp_path / "run.npz"
    X, y, _ = table(rows=2000)
    model = no.LinearModel(X, y)
    forever = {"lr": 1e-9, "gtol": 0, "maxiter": 10**9}
    no.minimize(model, method="adam", options={"batch_size": 8, "epochs": 1})  # compiled before the clock runs
    no.minimize(model, method="adam", options={"maxiter": 1})
    no.minimize(bowl, [0.0], method="adam", jac=bowl_grad, options={"maxiter": 1})
    for work in (lambda: no.minimize(bowl, [0.0], method="adam", jac=bowl_grad, options=forever),
                 lambda: no.minimize(model, method="adam", options=forever),
                 lambda: no.minimize(lambda x: bowl(x), [0.0], method="adam", options={**forever, "jit": False}),
                 lambda: no.minimize(model, method="adam",
                                     options={**forever, "batch_size": 8, "checkpoint": path})):  # fmt: skip
        stop, seconds = interrupted(work)
        assert seconds < 1.0  # a slice takes some 0.02; left alone, these runs take minutes
        assert stop.result.nit > 0
        assert (stop.result.status, stop.result.message) == (99, "Interrupted by the user.")
    steps = stop.result.nit + 100
    resumed = no.resume(path, model, options={"maxiter": steps})
    once = no.minimize(model, method="adam", options={**forever, "batch_size": 8, "maxiter": steps})
    np.testing.assert_array_equal(resumed.x, once.x)


def python(code, **environment):
    """Standard output of a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300,
                          env={**os.environ, **environment})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


FRESH = """
import numba, numpy as np
import numbaopt as no
from numba.core import event
from numbaopt.loops import descent

@numba.njit
def fun(x):
    return ((x - {target}) ** 2).sum()

class Names(event.Listener):
    seen = []
    def on_start(self, e):
        f = e.data["dispatcher"].py_func
        own = f.__module__.startswith("numbaopt") and not f.__module__.startswith("numbaopt.autodiff")
        if own or f.__module__ == "__main__": self.seen.append(f.__qualname__)
    def on_end(self, e): pass

with event.install_listener("numba:compile", Names()):
    res = no.minimize(fun, np.zeros(2), method="adam", options=dict(lr=0.1))
assert res.success
loop = descent.compiled(np.dtype(float)).stats
print(sorted(n for n in set(Names.seen)), sum(loop.cache_hits.values()), sum(loop.cache_misses.values()))
"""


@pytest.mark.process
def test_second_process_compiles_only_the_new_objective(tmp_path):
    python(FRESH.format(target=3), NUMBA_CACHE_DIR=str(tmp_path))
    names, *loop = python(FRESH.format(target=4), NUMBA_CACHE_DIR=str(tmp_path)).rsplit(None, 2)
    assert loop == ["1", "0"]
    assert set(eval(names)) == {"fun__Dual(8)", "_with_exact.<locals>.evaluate"}


@pytest.mark.process
def test_import_brings_in_nothing_heavy():
    heavy = python("import sys, numbaopt; print(*sorted(m.split('.')[0] for m in sys.modules))").split()
    assert not set(heavy) & {"sklearn", "matplotlib", "pandas", "tqdm", "typer", "pydantic", "torch", "jax", "optuna"}
    told = python("import sys, numbaopt; print([m in sys.modules for m in ('scipy.optimize', 'numba.cuda')])\n"
                  "print(numbaopt.plotting.lr_curve.__name__, 'matplotlib' in sys.modules)")
    assert told.split() == ["[False,", "False]", "lr_curve", "False"]


LATE = """
import copy, pickle, sys, numpy as np, numbaopt as no
model = no.LinearModel([[1.0], [2.0]], [1.0, 3.0])
res = no.minimize(model, method="sgd", options=dict(maxiter=3))
res.note = res["x"][0]
assert res.note == res.x[0] and "nit" in dir(res) and not hasattr(res, "nothing")
assert "scipy.optimize" not in sys.modules and "multiprocessing" not in sys.modules
again = pickle.loads(pickle.dumps(res))
from scipy.optimize import OptimizeResult
for one in (res, again, copy.copy(res), copy.deepcopy(res), no.minimize(model, method="sgd")):
    assert isinstance(one, OptimizeResult) and isinstance(one, dict) and one.success in (True, False)
assert repr(res) == repr(again) and set(res) == set(again)
assert type(again) is type(no.minimize(model, method="sgd")) is OptimizeResult
del res.note
try:
    res.note
except AttributeError as error:
    print(error)
"""


@pytest.mark.process
def test_results_are_scipys_without_its_import():
    assert python(LATE).split() == ["note"]


@pytest.mark.process
def test_interpreter_without_jit_gives_the_same_numbers():
    code = """
import numpy as np, numbaopt as no
X = np.arange(12.0).reshape(6, 2) % 5
m = no.LinearModel(X, X[:, 0] - 1)
print(no.minimize(lambda x: ((x - 3) ** 2).sum(), np.zeros(2), method="adam", options=dict(maxiter=9)).x[0])
print(no.minimize(m, method="adam", options=dict(batch_size=4, epochs=3)).fun)
"""
    fast, slow = (np.array(python(code, NUMBA_DISABLE_JIT=flag).split(), float) for flag in "01")
    np.testing.assert_allclose(fast, slow, rtol=1e-9)


@pytest.mark.usefixtures("heeding_ctrl_c")
@pytest.mark.parametrize("kind", ["newton", "products", "multinomial", "ssnal", "lbfgs", "nesterov"])
def test_ctrl_c_ends_a_pass_over_many_rows(kind, monkeypatch, tmp_path):
    """After the piece of rows at hand, wherever the run is; what it leaves goes on to the same end."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((6000, 20))
    z = X[:, 0] + rng.standard_normal(6000)
    y = np.digitize(z, [-0.5, 0.5]) if kind == "multinomial" else np.where(z > 0, 1.0, -1.0)
    loss = {"multinomial": "multinomial", "ssnal": "hinge"}.get(kind, "logistic")
    method = {"multinomial": "newton", "products": no.Newton(max_dense=1)}.get(kind, kind)
    model, path = no.LinearModel(X, y, loss, l2=1e-3), tmp_path / "run.npz"
    settings = {"method": method, "tol": 1e-7, "options": {"maxiter": 40, "checkpoint": path}}
    by_rows = kind in ("lbfgs", "nesterov")
    monkeypatch.setattr(curvature, "PIECE_NUMBERS", 1000)
    monkeypatch.setattr(linear_model, "CHUNK_NUMBERS", 5000)
    for name in ("NUMBERS", "LONG"):
        monkeypatch.setattr(whole, name, 1 if by_rows else 1 << 60)
    once, seen, at = no.minimize(model, **settings), [], [0]
    pieces, functions = curvature.Curvature._pieces, whole._compiled()

    def begun():
        seen.append(threading.current_thread() is threading.main_thread())
        if len(seen) == at[0]:
            os.kill(os.getpid(), signal.SIGINT)

    def counted(self, part, w):
        for piece in pieces(self, part, w):
            begun()
            yield piece

    def part(*arguments):
        begun()
        return functions[0](*arguments)

    monkeypatch.setattr(curvature.Curvature, "_pieces", counted)
    monkeypatch.setattr(whole, "_compiled", lambda: (part, functions[1]))
    no.minimize(model, **settings)
    total = len(seen)
    assert total > 40
    for at[0] in (1, 2, 6, total // 3, total - 20):
        seen.clear()
        with pytest.raises(KeyboardInterrupt):
            no.minimize(model, **settings)
        assert sum(seen[at[0] :]) <= 1  # main thread: the piece it is at
        resumed = no.resume(path, model)
        np.testing.assert_array_equal(resumed.x, once.x)
        assert (resumed.nit, resumed.fun, resumed.status) == (once.nit, once.fun, once.status)


@pytest.mark.usefixtures("heeding_ctrl_c")
def test_no_thread_works_on_after_ctrl_c():
    done = []

    def work(k, thread):
        for piece in range(50):
            if (k, piece) == (0, 3):
                os.kill(os.getpid(), signal.SIGINT)
            done.append((thread, piece))
            time.sleep(0.001)
            yield

    with pytest.raises(KeyboardInterrupt):
        share_out(work, 8, 3)
    count = len(done)
    assert max(piece for _, piece in done) < 25
    assert count < 8 * 50
    time.sleep(0.05)
    assert len(done) == count


def test_a_slice_that_ended_early_does_not_make_the_next_ones_long():
    driver._SLICES.clear()
    fun = numba.njit(lambda x: ((x - 3.0) ** 2).sum())
    for _ in range(30):
        no.minimize(fun, np.zeros(2), jac=lambda x: 2 * (x - 3.0), method="lbfgs", callback=lambda x: None)
    fast = numba.njit(lambda x: 2 * (x - 3.0))
    for _ in range(30):
        no.minimize(fun, np.zeros(2), jac=fast, method="lbfgs")
        no.minimize(fun, np.zeros(2), jac=fast, method="lbfgs", callback=lambda x: None)
    assert max(driver._SLICES.values()) <= 16


class TestLimits:
    """What ends a run is looked at in its loop: no callback, the same steps."""

    @pytest.mark.parametrize("method", ["adam", "lbfgs", "bfgs", "cg", "trust-ncg", "nelder-mead", "auto"])
    def test_the_first_step_that_reaches_the_target_is_the_last(self, method):
        x0, jac = np.array([-1.2, 1.0]), None if method == "nelder-mead" else rosen_grad
        every = no.minimize(rosen, x0, method=method, jac=jac, options={"maxiter": 300}).history
        target = float(every.fun[len(every) // 2])
        res = no.minimize(rosen, x0, method=method, jac=jac, options={"maxiter": 300, "f_target": target})
        first = int(np.argmax(every.fun <= target))
        assert (res.nit, res.nfev, res.fun) == (every.step[first], every.nfev[first], every.fun[first])
        assert (res.status, res.message) == (0, "The target was reached.")
        np.testing.assert_array_equal(res.history.fun, every.fun[: first + 1])

    def test_the_cost_of_a_target_is_exact_however_long_the_run(self):
        options = {"lr": 1e-5, "maxiter": 10**6, "gtol": 0.0, "history": 10, "f_target": 1.0}
        res = no.minimize(rosen, np.array([-1.2, 1.0]), method="adam", jac=rosen_grad, options=options)
        before = no.minimize(rosen, np.array([-1.2, 1.0]), method="adam", jac=rosen_grad,
                             options={**options, "f_target": None, "maxiter": res.nit - 1})  # fmt: skip
        assert res.nit > 100_000
        assert res.history.step[-1] == res.nit
        assert res.fun <= 1.0 < before.fun

    @pytest.mark.parametrize("method", ["newton", "sdca", "saga", "adam"])
    def test_epochs_of_models_end_at_the_target_too(self, method):
        X, _, y = table()
        model = no.LinearModel(X, y, "logistic", l2=1e-2)
        options = dict(epochs=40, **({"batch_size": 10, "lr": 0.01} if method == "adam" else {}))
        every = no.minimize(model, method=method, options=options).history
        target = float(every.fun[1:].min() + every.fun[0]) / 2
        res = no.minimize(model, method=method, options=dict(options, f_target=target))
        first = int(np.argmax(every.fun <= target))
        assert (res.nit, res.fun, res.status) == (every.step[first], every.fun[first], 0)
        assert res.message.startswith("The target was reached")

    def test_evaluations_are_counted_as_nfev_counts_them(self):
        x0 = np.array([-1.2, 1.0])
        for jac, calls in ((rosen_grad, 1), ("2-point", 3)):
            res = no.minimize(rosen, x0, method="bfgs", jac=jac, options={"max_evaluations": 20 * calls})
            assert (res.status, res.message) == (1, "The limit on evaluations was reached before the tolerance.")
            assert 20 * calls <= res.nfev < 25 * calls
            assert res.history.nfev[-2] < 20 * calls

    def test_seconds_end_a_run_and_are_told(self, tmp_path):
        options = {"lr": 1e-9, "maxiter": 10**12, "gtol": 0.0, "max_seconds": 0.2, "checkpoint": tmp_path / "run.npz"}
        res = no.minimize(rosen, np.array([-1.2, 1.0]), method="sgd", jac=rosen_grad, options=options)
        assert (res.status, res.message[:28]) == (1, "The time that max_seconds al")
        assert 0.2 <= res.history.seconds[-1] < 2.0
        more = no.resume(tmp_path / "run.npz", rosen, jac=rosen_grad, options={"max_seconds": 0.4})
        assert 0.4 <= more.history.seconds[-1] < 4.0
        assert more.nit > res.nit

    def test_a_run_at_its_target_goes_on_to_a_lower_one(self, tmp_path):
        path, x0 = tmp_path / "run.npz", np.array([-1.2, 1.0])
        options = {"lr": 0.01, "maxiter": 5000, "f_target": 1.0}
        no.minimize(rosen, x0, method="adam", jac=rosen_grad, options=dict(options, checkpoint=path))
        assert no.resume(path, rosen, jac=rosen_grad).fun > 0.9
        lower = no.resume(path, rosen, jac=rosen_grad, options={"f_target": 0.1})
        once = no.minimize(rosen, x0, method="adam", jac=rosen_grad, options=dict(options, f_target=0.1))
        assert (lower.nit, lower.fun) == (once.nit, once.fun)

    @pytest.mark.parametrize("evaluations", [1, 17, 30])
    def test_a_search_for_a_rate_goes_on_as_if_nothing_had_ended_it(self, evaluations, tmp_path):
        path, x0, options = tmp_path / "run.npz", np.array([-1.2, 1.0]), {"maxiter": 120}
        cut = dict(options, max_evaluations=evaluations, checkpoint=path)
        whole = no.minimize(rosen, x0, method="sgd", jac=rosen_grad, options=options)
        res = no.minimize(rosen, x0, method="sgd", jac=rosen_grad, options=cut)
        assert (res.status, res.run.now[0].evaluations) == (1, evaluations)
        more = no.resume(path, rosen, jac=rosen_grad, options={"max_evaluations": 10**6})
        np.testing.assert_array_equal(more.x, whole.x)
        np.testing.assert_array_equal(more.history.fun, whole.history.fun)

    def test_proximal_points_go_on_as_if_nothing_had_ended_them(self, tmp_path):
        rng, path = np.random.default_rng(0), tmp_path / "run.npz"
        X, y = rng.normal(size=(300, 10)) * (rng.random((300, 10)) < 0.02), np.sign(rng.normal(size=300))
        model, options = no.LinearModel(X, y, "logistic", l2=1e-2), {"epochs": 8, "seed": 3}
        whole = no.minimize(model, method="sdca", options=options)
        for evaluations in (2, 3, 4):
            cut = dict(options, max_evaluations=evaluations, checkpoint=path)
            assert no.minimize(model, method="sdca", options=cut).nit < whole.nit
            more = no.resume(path, model, options={"max_evaluations": 10**6})
            np.testing.assert_array_equal(more.x, whole.x)

    @pytest.mark.parametrize(("options", "error", "message"), [
        ({"f_target": "low"}, TypeError, "f_target='low' must be a number"),
        ({"f_target": np.nan}, ValueError, "f_target=nan must be a number"),
        ({"max_evaluations": 0}, ValueError, "max_evaluations=0 must be at least 1"),
        ({"max_seconds": -1}, ValueError, "max_seconds=-1 must be in"),
    ])  # fmt: skip
    def test_nonsense(self, options, error, message):
        with pytest.raises(error, match=message):
            no.minimize(rosen, np.ones(2), method="adam", jac=rosen_grad, options=options)

    @pytest.mark.parametrize("option", ["f_target", "max_evaluations"])
    def test_nobody_knows_the_objective_of_epochs_that_are_not_judged(self, option, tmp_path):
        X, _, y = table()
        model, path = no.LinearModel(X, y, "logistic"), tmp_path / "run.npz"
        options = {"batch_size": 10, "epochs": 1, "history": False}
        with pytest.raises(ValueError, match=f"{option} needs the objective of every epoch"):
            no.minimize(model, method="adam", options={**options, option: 3})
        no.minimize(model, method="adam", options={**options, "checkpoint": path})
        with pytest.raises(ValueError, match=f"{option} needs the objective of every epoch"):
            no.resume(path, model, options={option: 3})
