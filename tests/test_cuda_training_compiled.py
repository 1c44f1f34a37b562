"""Kernels that train models, compiled for sm_90 without a GPU."""

import numpy as np
import pytest
import scipy.sparse as sp
from ptx import compiled

import numbaopt as no
from numbaopt.arguments import after_of
from numbaopt.cuda import whole
from numbaopt.cuda.training import layout, signature, trainer
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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_training_compiles_for_a_gpu(name, dtype, tmp_path):
    table, y, loss, opt, size, l1 = CASES[name]
    model = no.LinearModel(table.astype(dtype), y, loss=loss, l1=l1)
    problem = WeightNorm(model) if name == "lengths" else model
    plan = layout(problem, None if size is None else Batches(20_000, size, True, 0, True, lazy=name.endswith("lazy")))
    made = program(opt, model.dtype, after_of(model, opt))
    kernel = trainer(plan.shape, made, plan.whole, plan.lanes, plan.normed)
    report = compiled(kernel, signature(made, plan.shape), tmp_path, cooperative=plan.whole)
    assert (plan.shape.marks, plan.normed) == (name.endswith("lazy"), name == "lengths")
    assert plan.whole == (not name.startswith("a block"))
    assert report.registers <= 255
    assert report.spills <= 32  # bytes
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
