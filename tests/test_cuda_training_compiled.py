"""Kernels that train models, compiled for sm_90 without a GPU."""

import numpy as np
import pytest
import scipy.sparse as sp
from ptx import compiled

import numbaopt as no
from numbaopt.arguments import after_of
from numbaopt.cuda.descent import MOST_REGISTERS
from numbaopt.cuda.training import layout, signature, trainer
from numbaopt.optimizers._program import program
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
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_training_compiles_for_a_gpu(name, dtype, tmp_path):
    table, y, loss, opt, size, l1 = CASES[name]
    model = no.LinearModel(table.astype(dtype), y, loss=loss, l1=l1)
    plan = layout(model, None if size is None else Batches(20_000, size, True, 0, True))
    made = program(opt, model.dtype, after_of(model, opt))
    kernel = trainer(plan.shape, made, plan.whole, plan.lanes)
    report = compiled(kernel, signature(made, plan.shape), tmp_path, cooperative=plan.whole,
                      max_registers=MOST_REGISTERS)  # fmt: skip
    assert plan.whole == (not name.startswith("a block"))
    assert report.registers <= MOST_REGISTERS
    assert ("cudaCGGetIntrinsicHandle" in report.ptx) == plan.whole  # waits for the grid
