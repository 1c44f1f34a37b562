"""Test functions: minima are where they are said to be, gradients fit, starts and dimensions can be chosen."""

import numpy as np
import pytest
from files import written

import numbaopt as no
from numbaopt.experiments import ExperimentError, build, load
from numbaopt.experiments.formulas import FORMULAS, curvatures
from numbaopt.experiments.registry import PROBLEMS

CASES = [(name, n) for name, formula in FORMULAS.items() for n in ([2, 5] if formula.any_dimension else [2])]


def slope(fun, x):
    return np.array([(fun(x + h) - fun(x - h)) / 2e-6 for h in 1e-6 * np.eye(x.size)])


class TestFormulas:
    @pytest.mark.parametrize(("name", "n"), CASES)
    def test_nothing_is_below_the_minima(self, name, n):
        formula, rng = FORMULAS[name], np.random.default_rng(0)
        fun = formula.fun.py_func
        minima, start = formula.minima_of(n), formula.start_of(n)
        lowest = fun(minima[0])
        assert len(start) == n
        assert fun(start) > lowest + 0.01
        for x in minima:
            assert fun(x) == pytest.approx(lowest, abs=1e-12)
            assert np.abs(slope(fun, x)).max() < 1e-4 or name == "ackley"  # whose minimum is a tip
            assert all(fun(x + step) >= lowest - 1e-12 for step in 1e-3 * rng.standard_normal((20, n)))
        assert all(fun(x) > lowest for x in rng.uniform(*formula.box, (500, n)))

    @pytest.mark.parametrize("name", [name for name, formula in FORMULAS.items() if formula.jac is not None])
    def test_gradients(self, name):
        formula = FORMULAS[name]
        x = formula.start_of(4 if formula.any_dimension else 2)
        np.testing.assert_allclose(formula.jac.py_func(x), slope(formula.fun.py_func, x), rtol=1e-5, atol=1e-6)

    def test_the_wall_of_the_recurrent_unit_throws_far(self):
        fun, x = FORMULAS["recurrent_unit"].fun.py_func, np.array([5.0, -2.61234])
        assert np.linalg.norm(slope(fun, x)) > 1e3
        assert np.linalg.norm(slope(fun, x - 0.1)) < 1

    def test_curvatures(self):
        for rotated in (False, True):
            A = curvatures(6, 1e4, rotated, 1)
            np.testing.assert_allclose(np.linalg.eigvalsh(A), np.geomspace(1, 1e4, 6), rtol=1e-9)
            assert np.array_equal(A, A.T)
            assert np.array_equal(A, np.diag(np.diag(A))) == (not rotated)
        assert not np.array_equal(curvatures(6, 10.0, True, 1), curvatures(6, 10.0, True, 2))


class TestProblems:
    def task(self, tmp_path, name, **fields):
        return PROBLEMS[name](**fields).task(tmp_path)

    def test_every_function_says_what_it_is(self, tmp_path):
        for name in FORMULAS:
            task = self.task(tmp_path, name)
            assert task.about
            assert (task.x0.size, task.minima.shape[1], len(task.domain), task.unknowns) == (2, 2, 4, ("x1", "x2"))
            assert task.value(task.reference[1]) < task.value(task.x0)
            assert task.judge(task.reference[1]) == {"distance": 0.0, "above": 0.0}

    def test_a_quadratic_is_solved_and_judged(self, tmp_path):
        task = self.task(tmp_path, "quadratic", dimension=5, condition=1e3, rotated=True)
        assert "condition 1000, turned, 5 unknowns" in task.about
        np.testing.assert_allclose(task.jac(task.x0, *task.args), slope(task.value, task.x0), rtol=1e-5)
        result = task.solved_by("bfgs", {})
        assert task.judge(result.x)["distance"] < 1e-4
        assert task.domain is None

    def test_starts(self, tmp_path):
        jobs = load(written(tmp_path, """
            seeds = 2
            [methods]
            a = { method = "gd" }
            [problems.random]
            problem = "rastrigin"
            dimension = 3
            start = "random"
            [problems.fixed]
            problem = "rastrigin"
            dimension = 3
            start = [1, 2, 3]
            [problems.both]
            problem = "saddle"
            start = { grid = ["random", [1.0, 2.0]] }
        """)).jobs  # fmt: skip
        assert [(job.problem, job.seed) for job in jobs] == [
            ("random", 0), ("random", 1), ("fixed", 0), ("both-start_random", 0), ("both-start_random", 1),
            ("both-start_1.0_2.0", 0)]  # fmt: skip
        one, two, fixed = (build(job.spec).task.x0 for job in jobs[:3])
        assert fixed.tolist() == [1, 2, 3]
        assert not np.array_equal(one, two)
        assert np.abs(np.concatenate([one, two])).max() <= 5.12

    @pytest.mark.parametrize(("fields", "message"), [
        ("problem = 'rastrigin'\ndimension = 0", "problems.p.dimension = 0: "),
        ("problem = 'rosenbrock'\ndimension = 1", "problems.p.dimension = 1: "),
        ("problem = 'rastrigin'\ndimension = 3\nstart = [1, 2]", "problems.p: start = [1.0, 2.0] has 2 numbers, not 3"),
        ("problem = 'himmelblau'\ndimension = 3", "unknown key 'problems.p.dimension'"),
        ("problem = 'rastrigin'\nstart = 'rnd'", "problems.p.start"),
        ("problem = 'quadratic'\ncondition = 0.5", "problems.p.condition = 0.5: "),
        ("problem = 'quadratic'\ncondition = { low = 1, high = 2 }", "lists and ranges, nothing random"),
        ("problem = 'saddle'\nmetrics = ['acuracy']", "unknown metric 'problems.p.metrics: acuracy'; valid: above"),
        ("problem = 'saddle'\nmetrics = 'above'", "must be a list of names"),
    ])  # fmt: skip
    def test_faults(self, tmp_path, fields, message):
        with pytest.raises(ExperimentError) as error:
            load(written(tmp_path, f"[methods]\na = {{ method = 'gd' }}\n[problems.p]\n{fields}"))
        assert message in str(error.value)

    def test_metrics_are_chosen(self, tmp_path):
        trial = load(written(tmp_path, """
            [methods]
            a = { method = "gd" }
            [problems.p]
            problem = "saddle"
            metrics = ["above"]
        """)).trials[0]  # fmt: skip
        assert trial.metrics == ("above",)
        assert no.SGD() == trial.methods["a"].optimizer
