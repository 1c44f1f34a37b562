"""The solver file for benchopt, run as benchopt runs it, against the benchmark's own objective."""

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

FILE = Path(__file__).resolve().parents[1] / "benchopt" / "numbaopt.py"


class StandIn:
    """What of ``benchopt.BaseSolver`` runs a solver: its parameters become attributes, and it is warmed up."""

    def __init__(self, **parameters):
        vars(self).update(parameters)

    def run_once(self, stop_val=1):
        self.run(stop_val)


@pytest.fixture
def solver_class(monkeypatch):
    module = types.ModuleType("benchopt")
    module.BaseSolver = StandIn
    monkeypatch.setitem(sys.modules, "benchopt", module)
    spec = importlib.util.spec_from_file_location("numbaopt_in_benchopt", FILE)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded.Solver


def objective_and_gradient(X, y, lmbd, beta, fit_intercept):
    coef, intercept = (beta[:-1], beta[-1]) if fit_intercept else (beta, 0.0)
    margins = y * (X @ coef + intercept)
    slopes = -y / (1 + np.exp(margins))
    gradient = np.append(X.T @ slopes + lmbd * coef, [slopes.sum()] * fit_intercept)
    return np.log1p(np.exp(-margins)).sum() + 0.5 * lmbd * coef @ coef, gradient


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("storage", [np.asarray, sp.csr_matrix], ids=["dense", "sparse"])
def test_every_method_reaches_the_minimum_of_the_benchmarks_objective(solver_class, storage, fit_intercept):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((120, 6)) * (rng.random((120, 6)) < 0.7)
    y = np.sign(X @ rng.standard_normal(6) + rng.logistic(size=120))
    lmbd = 2.0
    at_zero, slope = objective_and_gradient(X, y, lmbd, np.zeros(6 + fit_intercept), fit_intercept)
    for method in solver_class.parameters["method"]:
        solver = solver_class(method=method)
        solver.set_objective(X=storage(X), y=y, lmbd=lmbd, fit_intercept=fit_intercept)
        solver.warm_up()
        values = []
        for n_iter in (0, 1, 3, 100):
            solver.run(n_iter)
            value, gradient = objective_and_gradient(X, y, lmbd, solver.get_result()["beta"], fit_intercept)
            values.append(value)
        assert values[0] == at_zero
        assert values == sorted(values, reverse=True)
        assert abs(gradient).max() < 1e-6 * abs(slope).max(), method


def test_the_benchmark_without_intercepts_is_understood(solver_class):
    solver = solver_class(method="auto")
    solver.set_objective(X=np.eye(3), y=np.array([1.0, -1.0, 1.0]), lmbd=0.5)
    solver.run(50)
    assert solver.get_result()["beta"].shape == (3,)
