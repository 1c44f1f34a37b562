"""Reports: what a study found, and figures that agree."""

import itertools
from types import SimpleNamespace

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pytest
import studies
from pages import checked
from studies import FAILED, read, run, stored

from numbaopt.experiments.config import Output
from numbaopt.experiments.jobs import Job
from numbaopt.experiments.reports import figures, rates, report, statistics, summary
from numbaopt.experiments.reports.profiles import data_profile
from numbaopt.experiments.reports.ranks import ranks
from numbaopt.experiments.reports.summary import against_best
from numbaopt.experiments.rows import Header
from numbaopt.experiments.store import Store
from numbaopt.plotting import STYLES, styles

INF = np.inf


class TestSummary:
    def test_costs_and_settings(self, tmp_path):
        """f from 100 to 0: the better setting of A needs 3 evaluations to 10⁻², that of B is the only one that ran."""
        slow, fast = run([100, 50, 5, 0.5, 0]), run([100, 50, 0.5, 0.2])
        runs = [("p", "A", {"lr": 1.0}, 0, slow), ("p", "A", {"lr": 2.0}, 0, fast), ("p", "B", {}, 0, run([100, 99])),
                ("p", "B", {"k": 1}, 0, None)]  # fmt: skip
        study = read(stored(tmp_path / "s", runs))
        (problem,) = study.problems
        assert (problem.best, problem.known, problem.start, problem.unit) == (0.0, False, 100.0, "evaluations")
        assert "is not built here (KeyError" in problem.unbuilt
        one, two = problem.settings["A"]
        assert [one.costs(0.01)[0].tolist(), two.costs(0.01)[0].tolist()] == [[4.0, 0.375], [3.0, 0.25]]
        assert (one.tolerance, two.tolerance) == (1e-8, 1e-2)
        assert problem.chosen("A") is one  # it reaches the stricter target
        assert problem.chosen("B").tolerance is None
        assert problem.ranks(["B", "A"]).tolist() == [2.0, 1.0]
        assert problem.target(["A", "B"]) == 1e-8  # half of the methods reach it
        assert study.left == 1

    def test_epochs_are_the_cost_where_there_are_any(self, tmp_path):
        batches = run([8.0, 4.0, 0.0], epochs=[0, 2, 4])
        whole = run([8.0, 0.0])
        study = read(stored(tmp_path / "s", [("p", "A", {}, 0, batches), ("p", "B", {}, 0, whole)]))
        (problem,) = study.problems
        assert problem.unit == "epochs"
        assert [problem.chosen(method).costs(0.1)[0, 0] for method in "AB"] == [4.0, 2.0]

    def test_runs_that_failed_or_diverged(self, tmp_path):
        runs = [("p", "A", {}, 0, run([8.0, 1.0])), ("p", "A", {}, 1, FAILED),
                ("p", "A", {}, 2, run([8.0, 0.0, INF], code=2)), ("p", "B", {}, 0, run([8.0, 2.0]))]  # fmt: skip
        study = read(stored(tmp_path / "s", runs))
        setting = study.problems[0].chosen("A")
        assert setting.finals.tolist() == [1.0, INF, INF]
        assert setting.merit[-1] == INF
        assert study.problems[0].ranks(["A", "B"]).tolist() == [2.0, 1.0]  # only one in three of A is sound
        assert setting.costs(0.1)[2, 0] == 2.0  # it got there before it diverged

    def test_settings_with_few_runs_are_not_chosen(self, tmp_path):
        lucky = [("p", "A", {"lr": 9.0}, 0, run([8.0, 0.0])), *(("p", "A", {"lr": 9.0}, seed, None) for seed in (1, 2))]
        steady = [("p", "A", {"lr": 1.0}, seed, run([8.0, 1.0])) for seed in range(3)]
        assert read(stored(tmp_path / "s", lucky + steady)).problems[0].chosen("A").settings == {"lr": 1.0}

    def test_rates_that_work(self, tmp_path):
        """Of A's three rates one never gets there, and one only with another k; B's is not tried with another."""
        near, far = run([8.0, 0.0]), run([8.0, 7.0])
        runs = [*(("p", "A", {"lr": 1.0, "k": k}, 0, outcome) for k, outcome in enumerate((far, near))),
                ("p", "A", {"lr": 0.1, "k": 0}, 0, far),
                *(("p", "A", {"lr": 0.01, "k": 0}, seed, outcome) for seed, outcome in enumerate((near, near, FAILED))),
                ("p", "B", {"lr": 3.0}, 0, near)]  # fmt: skip
        study = read(stored(tmp_path / "s", runs))
        (problem,) = study.problems
        assert problem.rates("A", 0.1) == {0.01: True, 0.1: False, 1.0: True}
        text = checked(report(tmp_path / "s").read_text("utf-8"))
        assert "0.01 – 1 (2 of 3)" in text
        assert "67 %" in text  # of A's rates, overall

    def test_known_optimum(self, tmp_path):
        """The problem's own answer counts, unless a run has found a better one."""

        def build(spec):
            return SimpleNamespace(task=SimpleNamespace(reference=("solver", np.ones(1)), value=lambda x: 1.0))

        folder = stored(tmp_path / "s", [("p", "A", {}, 0, run([8.0, 2.0]))])
        assert (read(folder, build).problems[0].best, read(folder, build).problems[0].known) == (1.0, True)
        folder = stored(tmp_path / "t", [("p", "A", {}, 0, run([8.0, 0.5]))])
        assert (read(folder, build).problems[0].best, read(folder, build).problems[0].known) == (0.5, False)

    def test_an_optimum_is_found_once(self, tmp_path, monkeypatch):
        """A report that is made again takes the optimum of a model of data from the store, in any process."""
        job = Job("p", "A", {}, 0, {"problem": {"problem": "linear_regression"}, "files": {},
                                "method": {"method": "gd"}, "options": {}})  # fmt: skip
        folder = tmp_path / "s"
        with Store.create(folder, Header("Small", "small.toml", "text", ("p",), ("A",)), [job]) as store:
            store.record(job.id, run([8.0, 2.0]))
        solved = []

        def build(spec):
            def value(x):
                return float(x[0])

            class Model:
                fun, domain, minima, about = SimpleNamespace(n_terms=3), None, np.empty((0, 2)), "a model"
                reference = property(lambda self: solved.append(spec) or ("optimum", np.array([0.1])))

            Model.value = staticmethod(value)
            return SimpleNamespace(task=Model())

        monkeypatch.setattr("numbaopt.experiments.reports.build", build)
        monkeypatch.setattr("numbaopt.experiments.reports.check_named", lambda *_: None)
        first = report(folder).read_bytes()
        assert report(folder).read_bytes() == first
        assert solved == [job.spec]
        assert (read(folder, build).problems[0].best, read(folder, build).problems[0].known) == (0.1, True)
        with Store.open(folder, write=True) as store:  # by whoever runs the study
            store.declare(store.header, [job])
            assert store.optimum(job.spec) == ("optimum", 0.1)
            assert store.optimum({**job.spec, "files": {"t.csv": "0123"}}) is None

    def test_largest_table_without_a_hole(self, tmp_path):
        """C has run on one problem of three only: ranks are about A and B on all of them."""
        ran = [("A", "pqr"), ("B", "pqr"), ("C", "p")]
        runs = [(problem, method, {}, 0, run([8.0, 1.0])) for method, problems in ran for problem in problems]
        methods, problems = read(stored(tmp_path / "s", runs, problems="pqr", methods="ABC")).compared
        assert (methods, [problem.name for problem in problems]) == (["A", "B"], ["p", "q", "r"])

    def test_profiles_pair_problems_and_seeds(self, tmp_path):
        """A has run on seeds 0 and 1, B on 1 and 2: one row is left."""
        runs = [("p", "A", {}, 0, run([8.0, 0.0])), ("p", "A", {}, 1, run([8.0, 4.0, 0.0])),
                ("p", "B", {}, 1, run([8.0, 7.0])), ("p", "B", {}, 2, run([8.0, 0.0]))]  # fmt: skip
        methods, costs, weights = read(stored(tmp_path / "s", runs)).cost_table(0.1)
        assert (methods, costs.tolist(), weights.tolist()) == (["A", "B"], [[3.0, INF]], [1.0])

    def test_a_method_that_draws_nothing_has_one_run_for_all_seeds(self, tmp_path):
        at_once = run([8.0, 0.0])
        runs = [("p", "A", {}, 0, at_once), ("q", "A", {}, 0, at_once), ("q", "B", {}, 0, at_once),
                *(("p", "B", {}, seed, run([8.0, *[4.0] * (seed + 1), 0.0])) for seed in range(7))]  # fmt: skip
        study = read(stored(tmp_path / "s", runs, problems="pq"))
        _, costs, weights = study.cost_table(0.1)
        assert costs.tolist() == [*([2.0, 3.0 + seed] for seed in range(7)), [2.0, 2.0]]
        np.testing.assert_allclose(weights, [*[1 / 7] * 7, 1.0])
        assert against_best(study.problems[0], ["A", "B"]).p_values == {"B": 2 / 2**7}

    def test_one_random_run_stands_for_no_other_seed(self, tmp_path):
        """As where a method was left out of a study before it had more seeds."""
        jobs = [Job("p", method, {}, seed, {"problem": {"problem": "tutorial_regression"}, "seed": seed,
                                            "method": {"method": "sgd", "lr": lr}, "options": {"batch_size": size}})
                for method, lr, size, seeds in (("A", 0.1, 5, [0]), ("B", 0.2, 5, range(8)), ("C", 0.3, None, [0]))
                for seed in seeds]  # fmt: skip
        with Store.create(tmp_path / "s", Header("Small", "s.toml", "", ("p",), ("A", "B", "C")), jobs) as store:
            for job in jobs:
                store.record(job.id, run([8.0, job.spec["method"]["lr"]]))
        settings = read(tmp_path / "s").problems[0].settings
        assert {name: len(setting.by_seed(range(8))) for name, (setting,) in settings.items()} == \
            {"A": 1, "B": 8, "C": 8}  # fmt: skip

    def test_against_the_best(self, tmp_path):
        rng = np.random.default_rng(0)
        fast, slow = ([run([8.0, *[4.0] * k, 0.0]) for k in rng.integers(*ends, 8)] for ends in ((1, 9), (12, 30)))
        runs = [("p", name, {}, seed, outcome) for name, outcomes in (("A", slow), ("B", fast))
                for seed, outcome in enumerate(outcomes)]  # fmt: skip
        found = against_best(read(stored(tmp_path / "s", runs)).problems[0], ["A", "B"])
        assert (found.best, found.p_values) == ("B", {"A": 2 / 2**8})
        assert "8 seeds" in found.said
        assert "1 comparison." in found.said
        few = against_best(read(stored(tmp_path / "t", [r for r in runs if r[3] < 3])).problems[0], ["A", "B"])
        assert few.p_values == {}
        assert few.said.startswith("Not tested: with 3 seeds no difference could be significant")
        assert few.said.endswith("it takes 6.")

    def test_those_that_never_reach_the_target_are_worse(self, tmp_path):
        """A ends at once, B never gets there, each time at another place."""
        runs = [("p", "A", {}, 0, run([8.0, 0.0])), *(("p", "B", {}, seed, run([8, 1 + seed])) for seed in range(7))]
        found = against_best(read(stored(tmp_path / "s", runs)).problems[0], ["A", "B"])
        assert found.p_values == {"B": 2 / 2**7}

    def test_seeds_that_change_nothing_are_no_evidence(self, tmp_path):
        runs = [("p", name, {}, seed, run([8.0, *[4.0] * k, 0.0], seconds=seconds))
                for k, name in enumerate("AB") for seed in range(10) for seconds in [np.arange(k + 2.0) * (1 + seed)]]
        found = against_best(read(stored(tmp_path / "s", runs)).problems[0], ["A", "B"])
        assert found.p_values == {}
        assert "nothing is tested" in found.said


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two problems, three methods of which one fails now and then."""
    folder, methods = tmp_path_factory.mktemp("small") / "s", ("gradient descent", "Adam", "Lion")
    return studies.study(folder, ("valley", "classes"), methods, (1e-3, 1e-1), range(2, 4), 40)


class TestFigures:
    def test_the_same_method_looks_the_same_in_all(self, small):
        study = read(small)
        looks = styles(study.methods)
        assert looks["Adam"] == STYLES["adam"]
        valley = study.problems[0]
        settings = [valley.chosen(method) for method in study.methods]
        methods, costs, _ = study.cost_table(0.1)
        with figures.paper():
            drawn = [figures.convergence(valley, settings, "step", looks),
                     figures.trajectories(valley, settings, looks),
                     figures.profile(*data_profile(costs), methods, looks, "cost")]  # fmt: skip
            for made in drawn:
                lines = {line.get_label(): line for line in made.axes[0].lines}
                for method in ("Adam", "gradient descent"):
                    assert lines[method].get_color() == looks[method][0]
                assert lines["Adam"].get_linestyle() == "-"
            for ax, method in zip(rates.sensitivity(valley, study.methods, looks).axes, study.methods, strict=False):
                assert ax.get_title() == method
                assert looks[method][0] in {line.get_color() for line in ax.lines}

    def test_matplotlib_keeps_its_settings(self):
        before = dict(mpl.rcParams)
        with figures.paper("x"):
            assert mpl.rcParams["font.size"] == 7.5
        assert dict(mpl.rcParams) == before

    def test_bands_are_quartiles(self, tmp_path):
        runs = [("p", "A", {}, seed, run([8.0, 4.0 + seed, 1.0 + seed])) for seed in range(5)]
        problem = read(stored(tmp_path / "s", [*runs, ("p", "A", {}, 5, FAILED)])).problems[0]
        at, levels = figures._band(problem, problem.chosen("A").runs, "step", Output())
        assert at.tolist() == [0.0, 1.0, 2.0]
        np.testing.assert_allclose(levels[:, 1], [4.0, 5.0, 6.0])  # above the best, which is 1
        np.testing.assert_allclose(levels[1, 2], 2.0)

    @pytest.mark.parametrize(("count", "name"), [(4, "method {}"), (4, "another method {}"), (27, "another method {}")])
    def test_names_of_ranked_methods_are_in_the_picture(self, count, name):
        """All of them, and no two on top of each other, however many methods there are."""
        methods = [name.format(100 + k) for k in range(count)]
        mean = np.linspace(1.5, count - 0.5, count)
        with figures.paper():
            made = ranks(statistics.Comparison(mean, 0.01, count / 2, ""), methods, styles(methods))
            made.draw_without_rendering()
        (ax,) = made.axes
        named = [text for text in (*ax.texts, *ax.get_yticklabels()) if "method " in text.get_text()]
        boxes = sorted((text.get_window_extent() for text in named), key=lambda box: box.y0)
        assert len(boxes) == count
        assert all(made.bbox.x0 <= box.x0 and box.x1 <= made.bbox.x1 for box in boxes)
        assert all(not one.overlaps(other) for one, other in itertools.pairwise(boxes))
        assert ax.bbox.width > 0.4 * made.bbox.width

    def test_objectives_themselves(self, tmp_path):
        """From the third quantile to the fourth of five seeds, between the limits that the file gives."""
        runs = [("p", "A", {}, seed, run([8.0, 4.0 + seed, 1.0 + seed])) for seed in range(5)]
        problem = read(stored(tmp_path / "s", runs)).problems[0]
        output, looks = Output(objective=[0.5, 9.0], quantiles=[0.5, 0.75]), styles("A")
        with figures.paper():
            ax = figures.convergence(problem, [problem.chosen("A")], "step", looks, output).axes[0]
        assert (ax.get_yscale(), ax.get_ylim(), ax.get_ylabel()) == ("linear", (0.5, 9.0), "objective")
        assert ax.lines[0].get_ydata().tolist() == [8.0, 6.0, 3.0]
        assert ax.collections[0].get_paths()[0].vertices[:, 1].max() == 8.0
        assert {6.0, 7.0, 3.0, 4.0} <= set(ax.collections[0].get_paths()[0].vertices[:, 1])

    def test_runs_that_diverged_leave_the_picture(self, tmp_path):
        runs = [("p", "A", {}, seed, run([8.0, 9.0, INF], code=2)) for seed in range(2)]
        problem = read(stored(tmp_path / "s", [*runs, ("p", "A", {}, 2, run([8.0, 1.0, 0.5]))])).problems[0]
        _, levels = figures._band(problem, problem.chosen("A").runs, "step", Output())
        assert np.isfinite(levels[:, 0]).all()
        assert levels[1, -1] == INF
        assert np.isfinite(levels[0, -1]) == np.isfinite(statistics.quantiles(np.array([0.0, INF, INF]), (0.25,))[0])

    @pytest.mark.parametrize("label", ["a$b", "$x^$", "two\nlines", "x" * 80, "梯度下降", "<script>"])
    def test_labels_are_no_formulas(self, label):
        with figures.paper():
            made = figures.profile(*data_profile(np.array([[1.0]])), [label], styles([label]), "cost")
            assert b"<svg" in figures.render(made, "svg")
        assert len(figures.short(label).replace("\\", "")) <= figures.LONGEST_LABEL


def test_an_optimum_that_cannot_be_found_is_unknown():
    """A user's function may raise where nothing else has been: the report shows what the runs found."""

    class Raises:
        @property
        def reference(self):
            raise ValueError("boom")

    assert summary._optimum(Raises(), lambda task: task.reference, 0.5) == (0.5, False)
