"""Kernels that train models, compiled for sm_90 without a GPU."""

import numba
import numpy as np
import pytest
import scipy.sparse as sp
from ptx import compiled, doubles_of

import numbaopt as no
from numbaopt.arguments import after_of
from numbaopt.cuda._backend import cuda
from numbaopt.cuda._backend import kernel as compile_later
from numbaopt.cuda.functions import device
from numbaopt.cuda.groups import WARP, WARPS, group
from numbaopt.cuda.training import whole
from numbaopt.cuda.training.descent import MOST_REGISTERS
from numbaopt.cuda.training.rows import Room, Table, Visit, opener, walker
from numbaopt.cuda.training.slices import layout, signature, trainer
from numbaopt.cuda.training.warps import rows_of
from numbaopt.loops.shuffle import keys_of, network_of
from numbaopt.optimizers._program import program
from numbaopt.problems.weight_norm import WeightNorm
from numbaopt.run import Batches

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20_000, 100))
Y = np.sign(X[:, 0])
S = sp.random(20_000, 1000, 0.05, format="csr", random_state=1)
CASES = {
    "a block, dense": (X, Y, "logistic", no.Adam(), 32, 0.0),
    "the grid, l1": (X, Y, "logistic", no.Adam(), None, 0.1),
    "sums": (X, Y, "huber", no.SWATS(), 2048, 0.0),
    "classes": (X, np.arange(20_000) % 10, "multinomial", no.Momentum(), 4096, 0.0),
    "the grid, sparse": (S, Y, "squared", no.AdaGrad(), 4096, 0.0),
    "a block, sparse": (S, Y, "squared_hinge", no.AdaGrad(), 16, 0.0),
    "a block, lazy": (S, Y, "squared", no.Adam(), 16, 0.1),
    "lengths": (X, Y, "logistic", no.Momentum(), 4096, 0.0),
}


PASSES = {"held": X, "tiles": RNG.normal(size=(2000, 600)), "sparse": S}


def pass_alone(shape):
    """A kernel of one pass whose values nobody asks for, as over a batch."""
    walk, place, rows = walker(shape), group(False).place, opener(shape.storage)
    network_for, keys = device(network_of), device(keys_of)
    tile, kind = shape.tile, numba.from_dtype(shape.dtype)
    z_shape, columns_shape = (shape.outputs + 2, tile), (WARPS, max(1, shape.wide * shape.pieces * WARP))

    def kernel(x, a, b, c, y, weights, constants, parts, funs, bad, columns, size, chunk, terms, seed):
        at, double = place(), numba.float64
        room = Room(cuda.shared.array(z_shape, kind), cuda.shared.array(tile, kind), cuda.shared.array(tile, kind),
                    cuda.shared.array(tile, numba.int64), cuda.shared.array((2, WARPS), double),
                    cuda.shared.array(columns_shape, double))  # fmt: skip
        table = Table(rows(a, b, c), y, weights, constants, parts, funs, bad, c)
        visit = Visit(0, size, chunk, terms, True, network_for(terms), keys(seed, 0), False, 0)
        walk(table, room, x, columns, visit, at)

    return compile_later(kernel)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PASSES)
def test_a_pass_keeps_its_dtype_and_its_registers(name, dtype, tmp_path):
    table = PASSES[name].astype(dtype)
    model = no.LinearModel(table, np.sign(table[:, [0]].toarray()[:, 0] - 0.1 if name == "sparse" else table[:, 0]))
    shape = layout(model, Batches(2000, 256, True, 0, True)).shape
    assert (shape.pieces > 0) == (name == "held")
    real, double, whole = numba.from_dtype(shape.dtype), numba.float64, numba.int64
    rows = (real[:, ::1] if name != "sparse" else real[::1], numba.int32[::1], whole[::1])
    given = (real[::1], *rows, real[::1], real[::1], double[:, ::1], double[:, ::1], double[::1], whole[::1],
             *(whole,) * 5)  # fmt: skip
    report = compiled(pass_alone(shape), given, tmp_path, max_registers=MOST_REGISTERS)
    assert report.spills <= (0 if dtype is np.float32 or name != "held" else 256)  # bytes, outside the loop over rows
    if name == "held":  # of a row sixteen bytes a thread are read, once
        wide = {np.float32: "global.v4.f32", np.float64: "global.v2.f64"}[dtype]
        assert report.ptx.count(f"ld.{wide}") == rows_of(shape.wide, shape.pieces, shape.dtype) * shape.pieces
    if dtype is np.float32:
        assert set(doubles_of(report.ptx.splitlines())) <= {"add", "cvt"}  # of sums, as on the CPU
        if name == "held":
            assert doubles_of(report.in_loops(2))
            assert not doubles_of(report.in_loops(3))


def kernel_of(name, dtype, tmp_path):
    """How a case is shared among threads, and the report of its kernel."""
    table, y, loss, opt, size, l1 = CASES[name]
    model = no.LinearModel(table.astype(dtype), y, loss=loss, l1=l1)
    problem = WeightNorm(model) if name == "lengths" else model
    plan = layout(problem, None if size is None else Batches(20_000, size, True, 0, True, lazy=name.endswith("lazy")))
    made = program(opt, model.dtype, after_of(model, opt))
    kernel = trainer(plan.shape, made, plan.whole, plan.lanes, plan.normed)
    return plan, compiled(kernel, signature(made, plan.shape), tmp_path, cooperative=plan.whole,
                          max_registers=MOST_REGISTERS)  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_training_compiles_for_a_gpu(name, dtype, tmp_path):
    plan, report = kernel_of(name, dtype, tmp_path)
    assert (plan.shape.marks, plan.normed) == (name.endswith("lazy"), name == "lengths")
    assert plan.whole == (not name.startswith("a block"))
    assert report.registers <= MOST_REGISTERS
    assert report.spills <= (2048 if plan.normed else 1280)  # bytes, of what the passes do not need
    assert ("cudaCGGetIntrinsicHandle" in report.ptx) == plan.whole  # waits for the grid


def test_a_compiled_search_calls_evaluations_elsewhere_back(monkeypatch):
    given = []

    class Elsewhere:
        def __init__(self, model, made, batches, limits, runs):
            self.model = model

        def evaluate(self, points):
            fun, g = self.model.value_and_grad(points[0])
            given.append(points.copy())
            return np.array([fun]), g[None]

        def close(self):
            given.append("closed")

    monkeypatch.setattr(whole, "Training", Elsewhere)
    monkeypatch.setattr(whole, "require", lambda what: None)
    model = no.LinearModel(X[:500], Y[:500], loss="logistic", l2=0.1)
    here, there = (no.minimize(model, method="lbfgs", options={"device": device}) for device in ("cpu", "cuda"))
    np.testing.assert_array_equal(there.x, here.x)
    assert (there.nfev, there.message) == (here.nfev, here.message)
    assert len(given) == there.nfev + 1
    assert given[-1] == "closed"

    monkeypatch.setattr(Elsewhere, "evaluate", lambda self, points: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        no.minimize(model, method="lbfgs", options={"device": "cuda"})
