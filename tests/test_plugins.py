"""What users bring: functions, rules, losses and problems from files on the command line and installed packages."""

from types import SimpleNamespace

import numpy as np
import pytest
from files import written

from numbaopt.experiments import ExperimentError, build, estimate, load, registry
from numbaopt.experiments.build import Built
from numbaopt.losses import LOSSES
from numbaopt.optimizers._rule import OPTIMIZERS

PLUGIN = '''
from typing import NamedTuple
import numba, numpy as np, numbaopt as no
from numbaopt.experiments import Task, function, problem
from numbaopt.experiments.schema import Batches

@function(start=lambda n: np.arange(1.0, n + 1), minima=lambda n: np.zeros((1, n)), jac=numba.njit(lambda x: 4 * x**3))
@numba.njit
def flat_bowl(x):
    """A bowl with a flat bottom."""
    return (x**4).sum()

@no.rule()
class HalfStep(NamedTuple):
    lr: float = 0.1
    slots = ()
    def prepare(opt, lr, t):
        return (0.5 * lr,)
    def update(c, x, g, s, i):
        return x - c[0] * g

@no.losses.loss
class Fourth(NamedTuple):
    def value(c, z, y):
        return (z - y) ** 4
    def slope(c, z, y):
        return 4 * (z - y) ** 3

@problem
class MeanOfNumbers(Batches):
    n: int = 10
    metrics = ("far",)
    def task(self, folder):
        numbers = np.arange(float(self.n))
        fun = no.FiniteSum(lambda x, idx, a: 0.5 * np.mean((x[0] - a[idx]) ** 2), self.n, (numbers,))
        return Task("a mean", fun, None, np.zeros(1), ("x",), lambda x: {"far": abs(x[0] - numbers.mean())},
                    lambda: ("mean", np.array([numbers.mean()])), lambda x: fun.value(x), np.empty((0, 2)), None)
'''  # fmt: skip
STUDY = """
[methods]
half = { method = "halfstep", lr = 0.02 }
[problems.bowl]
problem = "flat_bowl"
dimension = 3
maxiter = 4
[problems.fit]
problem = "linear_model"
loss = "fourth"
epochs = 1
[problems.mean]
problem = "mean_of_numbers"
n = 7
"""


@pytest.fixture(autouse=True)
def _registries():
    """Whatever a test registers is forgotten after it."""
    yield
    for names in (registry.PROBLEMS, OPTIMIZERS, LOSSES):
        for name in [name for name, cls in names.items() if cls.__module__.startswith("numbaopt_plugin")]:
            del names[name]


class TestFiles:
    def test_functions_rules_losses_and_problems(self, tmp_path):
        plugin = written(tmp_path, PLUGIN, "mine.py")
        study = load(written(tmp_path, STUDY), plugins=[plugin])
        bowl, fit, mean = (build(job.spec) for job in study.jobs)
        assert type(bowl.method).__name__ == "HalfStep"
        assert bowl.task.about == "A bowl with a flat bottom, 3 unknowns"
        result = bowl.task.solved_by(bowl.method, bowl.options)
        x = np.array([1.0, 2.0, 3.0])
        for _ in range(4):
            x = x - 0.01 * 4 * x**3
        np.testing.assert_allclose(result.x, x)
        assert bowl.task.judge(np.zeros(3)) == {"distance": 0.0, "above": 0.0}
        assert type(fit.task.fun.loss).__name__ == "Fourth"
        assert mean.task.fun.n_terms == 7
        assert set(study.jobs[0].spec["files"]) == {"mine.py"}

    def test_without_the_plugin_nothing_is_known(self, tmp_path):
        with pytest.raises(ExperimentError, match=r"'flat_bowl' is not a known problem; .*; one of yours: --plugin"):
            load(written(tmp_path, STUDY.replace("halfstep", "sgd")))

    def test_an_edited_file_counts_anew(self, tmp_path):
        text = "import numbaopt.experiments as e\n@e.function(start=[{}])\ndef tilt(x):\n    return x[0] ** 2\n"
        study = "[methods]\na = { method = 'gd' }\n[problems.p]\nproblem = 'tilt'"
        first, second = (load(written(tmp_path, study), plugins=[written(tmp_path, text.format(start), "mine.py")])
                         for start in (1.0, 2.0))  # fmt: skip
        assert build(second.jobs[0].spec).task.x0.tolist() == [2.0]
        assert first.jobs[0].id != second.jobs[0].id
        with pytest.raises(ExperimentError, match=r"mine\.py is not what it was"):
            build(first.jobs[0].spec)

    @pytest.mark.parametrize(("name", "text", "message"), [
        ("bad.py", "import numbaopt\nraise RuntimeError('boo')", "RuntimeError: boo"),
        ("bad.py", "a b", "SyntaxError"),
        ("bad.txt", "", "a plugin is a Python file"),
        ("taken.py", "from numbaopt.experiments import function\n@function(start=[1.0])\ndef saddle(x): return x[0]",
         "the name 'saddle' is taken by numbaopt.experiments.formulas.saddle"),
    ])  # fmt: skip
    def test_faults(self, tmp_path, name, text, message):
        with pytest.raises(ExperimentError) as error:
            load(written(tmp_path, STUDY), plugins=[written(tmp_path, text, name)])
        assert f"--plugin {tmp_path / name}: " in str(error.value)
        assert message in str(error.value)

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(ExperimentError, match="no such file"):
            load(written(tmp_path, STUDY), plugins=[tmp_path / "none.py"])

    def test_two_of_one_name(self, tmp_path):
        """Files are told apart by their names where a study says what they hold."""
        (tmp_path / "other").mkdir()
        one, two = (written(folder, PLUGIN, "mine.py") for folder in (tmp_path, tmp_path / "other"))
        with pytest.raises(ExperimentError, match=r"other/mine\.py: .*mine\.py has the same name; rename one"):
            load(written(tmp_path, STUDY), plugins=[one, two])
        assert load(written(tmp_path, STUDY), plugins=[one, one]).jobs


class TestInstalled:
    def points(self, monkeypatch, load):
        class Point:
            name, value = "theirs", "their.module"

        Point.load = staticmethod(load)
        monkeypatch.setattr(registry, "entry_points", lambda group: [Point] if group == registry.GROUP else [])
        registry._load_installed.cache_clear()

    def test_entry_points_are_imported_once(self, monkeypatch, tmp_path):
        loaded = []
        self.points(monkeypatch, lambda: loaded.append(1))
        for _ in range(2):
            registry.load_plugins()
        assert loaded == [1]

    def test_one_that_cannot_be_imported_is_named(self, monkeypatch):
        def fail():
            raise ImportError("no such thing")

        self.points(monkeypatch, fail)
        with pytest.raises(ExperimentError, match=r"'theirs' \(their.module\) cannot be imported: ImportError: no"):
            registry.load_plugins()
        registry._load_installed.cache_clear()


class TestEstimate:
    def test_it_grows_with_the_work(self, tmp_path):
        def told(seeds, more=""):
            return estimate(load(written(tmp_path, f"""
                seeds = {seeds}
                [methods]
                a = {{ method = "sgd", batch_size = 4 {more} }}
                b = {{ method = "lbfgs" }}
                [problems.p]
                problem = "tutorial_regression"
                epochs = 2000
            """)))  # fmt: skip

        assert told(50) > 3 * told(5)
        assert told(5, ", max_seconds = 1e-9") < told(5)

    def test_one_slow_pass_is_not_the_estimate(self, tmp_path, monkeypatch):
        from numbaopt.experiments import estimates

        clock, taken = [0.0], iter([50.0, 0.03, 0.01, 9.0, 0.02, 0.01, 0.02, 0.02])

        class Task:
            fun = SimpleNamespace(n_terms=3)

            def solved_by(self, *_):
                clock[0] += next(taken)

        monkeypatch.setattr(estimates.time, "perf_counter", lambda: clock[0])
        assert estimates.time_passes(Built(Task(), None, {}), 4) == pytest.approx((0.03, 0.01, 9.0))
        monkeypatch.setattr(estimates, "TIMED_SECONDS", 20.0)
        taken = iter([50.0, 0.03, 0.01, 9.0, 0.02, 0.01, 0.02, 0.02])
        assert estimates.time_passes(Built(Task(), None, {}), 4) == pytest.approx((0.02, 0.01, 9.0))

    def test_passes(self):
        from numbaopt.experiments.estimates import passes

        assert passes({}, None, True) == 10_000
        assert passes({"maxiter": 7}, None, True) == 7
        assert passes({}, None, False) == 200
        assert passes({"epochs": 3, "maxiter": 5}, 32, True) == 3
