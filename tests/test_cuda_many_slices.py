"""Many problems on a GPU, in CUDA's simulator: slices change no bit, histories are the CPU's, nothing is left there."""

import gc
import itertools
import weakref

import numba
import numpy as np
import pytest

import numbaopt as no

if not numba.config.ENABLE_CUDASIM:
    pytest.skip("needs NUMBA_ENABLE_CUDASIM=1 NUMBA_DISABLE_JIT=1: scripts/test", allow_module_level=True)

from cuda_many_cases import FITS, cases, misfit, misfit_grad, residuals

from numbaopt.cuda._backend import DeviceMemoryError, cuda
from numbaopt.cuda.many import launches as many
from numbaopt.cuda.many import runs, solve, teams
from numbaopt.status import CONVERGED, STOPPED

pytestmark = pytest.mark.simulator
CASES = {name: given for name, given in cases().items() if "differences" not in name and name not in ("both", "given")}
CASES["targets and changes"] = dict(CASES["lbfgs"], options={"xtol": 1e-3, "ftol": 1e-4, "f_target": [0.05, -1, 1e-3]})
CASES["small changes"] = dict(CASES["schedule"], method=no.Adam(lr=0.05), options={"ftol": 0.1, "maxiter": 60})
CASES["kinks"] = {"fun": lambda x, a: abs(x[0] - a) + abs(x[0] + x[1]) + 0.1 * x[1] ** 2, "X0": np.ones((20, 2)),
                  "args": (np.linspace(0.1, 3, 20),), "batched": True, "options": {"gtol": 1e-12}}  # fmt: skip
CALL = {"fun": misfit, "X0": [1.0, 1.0], "args": FITS[0], "batched": FITS[1]}
FIELDS = ("x", "fun", "status", "nit", "nfev", "reason")


def solved(given, **options):
    return no.minimize_many(**{**given, "options": {**given.get("options", {}), "device": "cuda", **options}})


@pytest.fixture
def tiny(monkeypatch):
    """Slices of one, two and three steps; returns how many problems each was for."""
    lengths, counts, take = itertools.cycle([1, 2, 3]), [], many.Many._take

    def noted(self, which, fresh, steps, words):
        counts.append(which.size or len(self.starts))
        take(self, which, fresh, steps, words)

    def own(*arrays):
        def make(*where):
            made = tuple(np.empty(shape, dtype) for dtype, *shape in arrays)
            for array in made:
                array.view(np.uint8).fill(0xEE)  # what stands in a new thread's memory is not known
            return made

        return make

    solve.compiled_kernel.cache_clear()
    monkeypatch.setattr(runs, "_own", own)
    monkeypatch.setattr(many, "FIRST_STEPS", 1)
    monkeypatch.setattr(many, "fitting", lambda *given: next(lengths))
    monkeypatch.setattr(many.Many, "_take", noted)
    yield counts
    solve.compiled_kernel.cache_clear()


@pytest.mark.parametrize("name", CASES)
def test_slices_change_no_bit(name, monkeypatch, request):
    given = {**CASES[name], "X0": np.asarray(CASES[name]["X0"])}
    whole = solved(given)
    counts = request.getfixturevalue("tiny")
    cut = solved(given)
    for field in FIELDS:
        np.testing.assert_array_equal(cut[field], whole[field], field)
    assert len(counts) > 1
    assert counts == sorted(counts, reverse=True)  # who has ended has left


@pytest.mark.parametrize("method", ["lbfgs", "adam", no.Adam(lr=0.05), "nelder-mead"])
@pytest.mark.parametrize("rows", [4, True])
def test_histories_and_paths_are_those_of_the_cpu(method, rows, tiny):
    options = {"maxiter": 21, "history": rows, "path": True}
    given = {**CALL, "method": method, "jac": None if method == "nelder-mead" else misfit_grad}
    gpu, cpu = (solved(given, **options, device=device) for device in ("cuda", "cpu"))
    for mine, theirs, path, points in zip(gpu.history, cpu.history, gpu.path, cpu.path, strict=True):
        assert mine.dtype.names == theirs.dtype.names
        for name in ("step", "nfev", "fun", "grad_norm", "lr", "score"):
            np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-10, err_msg=name)
        assert (mine["seconds"] >= 0).all()
        assert len(mine) <= (5 if rows == 4 else 1001)
        if method != "adam":  # of a search for a rate the path has the point that it returns to
            np.testing.assert_allclose(path, points, rtol=1e-10)
    assert len(tiny) > 3
    assert [len(path) for path in gpu.path] == [len(rows) for rows in gpu.history]


def test_a_history_alone_has_no_path():
    res = solved(CALL, history=True)
    assert "path" not in res
    assert [int(rows["step"][-1]) for rows in res.history] == res.nit.tolist()
    assert "history" not in solved(CALL)


def test_ctrl_c_between_slices_leaves_where_all_stand(monkeypatch, tiny):
    take, calls = many.Many._take, []

    def interrupted(self, *given):
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        take(self, *given)

    whole = solved(CALL, history=True)
    monkeypatch.setattr(many.Many, "_take", interrupted)
    monkeypatch.setattr(many, "FIRST", 2)  # the last one is of another launch
    with pytest.raises(KeyboardInterrupt) as caught:
        solved(CALL, history=True, path=True)
    res = caught.value.result
    assert res.status.tolist() == [STOPPED] * 3
    assert (res.nit[:2] > 1).all()
    for i in range(2):
        np.testing.assert_array_equal(res.history[i]["fun"], whole.history[i]["fun"][: len(res.history[i])])
        np.testing.assert_array_equal(res.x[i], res.path[i][res.history[i]["fun"].argmin()])
    assert (res.x[2].tolist(), len(res.history[2]), res.nit[2]) == ([1.0, 1.0], 0, 0)


def test_progress_moves_between_slices(monkeypatch, tiny):
    seen = []

    class Bar:
        n = 0

        def update(self, by):
            self.n += by
            seen.append(self.n)

        def close(self):
            seen.append("closed")

    monkeypatch.setattr(many, "shown", lambda total: Bar())
    solved({**CALL, "fun": residuals, "method": "lm"}, progress=True)
    assert seen[-2:] == [3, "closed"]
    assert len(set(seen)) > 3


def test_more_memory_is_given_to_who_needs_it(monkeypatch, tiny):
    """A problem whose arrays do not fit begins again with more; the others go on."""
    def grows(p, t, y):
        if p[0] > 1.2 and room[0] < 512:
            raise MemoryError
        return misfit(p, t, y)

    whole, room = solved(CALL, history=4, path=True), [many.ROOM]
    tiny.clear()
    monkeypatch.setattr(many, "_room", lambda plan: room)
    monkeypatch.setattr(teams, "overflowed", lambda: True)
    res = solved({**CALL, "fun": grows}, history=4, path=True)
    assert room == [512]
    assert tiny[0] == 3
    assert 0 < min(tiny) < 3
    for field in FIELDS:
        np.testing.assert_array_equal(res[field], whole[field], field)
    for i in range(3):
        np.testing.assert_array_equal(res.path[i], whole.path[i])
        np.testing.assert_array_equal(res.history[i]["fun"], whole.history[i]["fun"])
    monkeypatch.setattr(many, "LARGEST_ROOM", 64)
    room[0] = 64
    with pytest.raises(MemoryError, match="fun makes arrays of more than 0 KiB"):
        solved({**CALL, "fun": grows})


@pytest.fixture
def arrays(monkeypatch):
    """What was made on the GPU."""
    made = []

    def watched(make):
        def run(*given, **named):
            found = make(*given, **named)
            made.append(weakref.ref(found))
            return found

        return run

    for name in ("to_device", "device_array"):
        monkeypatch.setattr(cuda, name, watched(getattr(cuda, name)))
    return made


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_nothing_is_left_allocated(monkeypatch, tiny, arrays, error):
    compiled, calls = many.compiled_kernel, []

    def fails(*given):
        class Kernel:
            def __getitem__(self, shape):
                def launch(*arguments):
                    calls.append(arguments[0])
                    if len(calls) == 3:
                        raise error
                    compiled(*given)[shape](*arguments)

                return launch

        return Kernel()

    monkeypatch.setattr(many, "compiled_kernel", fails)
    with pytest.raises(error) as caught:
        solved(CALL, history=True)
    gc.collect()
    assert len(arrays) > 10
    assert sum(ref() is not None for ref in arrays) == 0
    assert caught.value.__traceback__ is not None  # which is still there
    solved(CALL)
    gc.collect()
    assert sum(ref() is not None for ref in arrays) == 0


def test_memory_that_runs_out_halves_the_launch_and_leaves_nothing(monkeypatch, arrays):
    kept, asked = many.kept_arrays, []

    def full(plan, count):
        asked.append(count)
        if count > 2:
            raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY")
        return kept(plan, count)

    monkeypatch.setattr(many, "kept_arrays", full)
    for name, value in (("LEAST", 1), ("FIRST", 8)):
        monkeypatch.setattr(many, name, value)
    assert solved(CALL).success.all()
    assert asked == [3, 2, 1]
    monkeypatch.setattr(many, "LEAST", 8)
    with pytest.raises(DeviceMemoryError, match=r"^device='cuda', 3 problems at once: the GPU has no room left"):
        solved(CALL)
    gc.collect()
    assert sum(ref() is not None for ref in arrays) == 0


@pytest.mark.parametrize("room", [True, False])
def test_the_next_problems_are_brought_while_others_are_solved(monkeypatch, arrays, room):
    """Where there is no room for both, they are brought when it is their turn."""
    moved, take, told, taken = many.Many._moved, many.Many._take, [], []

    def noted(self, low, high):
        told.append((low, bool(self.held)))  # whether others are there
        if self.held and not room:
            raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY")
        return moved(self, low, high)

    given = {**CALL, "bounds": CASES["own box"]["bounds"]}
    whole = solved(given, f_target=[0.05, -1, 1e-3])
    monkeypatch.setattr(many.Many, "_moved", noted)
    monkeypatch.setattr(many.Many, "_take", lambda self, *given: (taken.append(len(told)), take(self, *given)))
    for name in ("FIRST", "LEAST"):
        monkeypatch.setattr(many, name, 1)
    np.testing.assert_array_equal(solved(given, f_target=[0.05, -1, 1e-3]).x, whole.x)
    assert told == ([(0, False), (1, True)] if room else [(0, False), (1, True), (1, False)])
    assert taken[0] == 1  # the first kernel was at work
    gc.collect()
    assert sum(ref() is not None for ref in arrays) == 0


def test_a_launch_takes_no_more_memory_than_is_meant_for_it(monkeypatch):
    launched = []
    monkeypatch.setattr(many, "LEAST", 1)
    monkeypatch.setattr(many, "MOST_BYTES", 130_000)  # of two problems with histories
    make = many.Many._make_room
    monkeypatch.setattr(many.Many, "_make_room", lambda self, count: (launched.append(count), make(self, count)))
    res = solved(CALL, history=True)
    assert launched == [2, 1]
    assert (res.status == CONVERGED).all()
