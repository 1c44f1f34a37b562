"""Reports: what a study found, figures that agree, a page that needs nothing but itself."""

import itertools
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pytest
import studies

from numbaopt.experiments import ExperimentError, progress, words
from numbaopt.experiments.config import Output
from numbaopt.experiments.jobs import Job, Outcome
from numbaopt.experiments.reports import figures, page, plates, rates, report, statistics, summary
from numbaopt.experiments.reports.profiles import data_profile
from numbaopt.experiments.reports.ranks import ranks
from numbaopt.experiments.reports.summary import Study, against_best
from numbaopt.experiments.rows import Header
from numbaopt.experiments.store import Store
from numbaopt.plotting import STYLES, styles

INF = np.inf


def stored(folder, runs, title="Small", problems=("p",), methods=("A", "B"), source="text"):
    """A store of runs given as (problem, method, settings, seed, outcome or None)."""
    jobs = [Job(*run[:4], {"at": k}) for k, run in enumerate(runs)]
    with Store.create(folder, Header(title, "small.toml", source, problems, methods), jobs) as store:
        for job, run in zip(jobs, runs, strict=True):
            if run[-1] is not None:
                store.record(job.id, run[-1])
    return folder


def run(values, code=1, epochs=None, seconds=None, **fields):
    """An outcome with this curve."""
    values = np.asarray(values, float)
    steps = np.arange(values.size, dtype=float)
    curve = {"step": steps, "nfev": steps + 1, "fun": values, "seconds": steps / 8 if seconds is None else seconds,
             "epoch": np.full(values.size, np.nan) if epochs is None else np.asarray(epochs, float)}  # fmt: skip
    finite = values[np.isfinite(values)]
    return Outcome("done", float(finite.min()), code=code, nit=values.size - 1, nfev=values.size, curve=curve,
                   epochs=float(curve["epoch"][-1]), seconds=float(curve["seconds"][-1]), **fields)  # fmt: skip


FAILED = Outcome("failed", error="Traceback\nValueError: <no>")


def read(folder, build=studies.build):
    with Store.open(folder) as store:
        return Study(store, build)


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


class Checked(HTMLParser):
    """Collects what a page would load, its ids, and whether its tags are balanced."""

    VOID = {"meta", "br", "line", "use", "path", "rect", "circle", "polygon"}

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.loads, self.text = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes, closed=False):
        told = dict(attributes)
        self.ids += [told["id"]] if "id" in told else []
        self.links += [value for name, value in attributes if name in ("href", "xlink:href")]
        self.loads += [value for name, value in attributes if name in ("src", "srcset", "data", "action", "poster")]
        self.loads += [tag] * (tag in ("script", "link", "iframe", "object", "embed", "img", "image"))
        self.loads += [name for name, _ in attributes if name.startswith("on")]
        if not closed and tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes, closed=True)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def checked(text):
    """A page that is well-formed, and needs nothing but itself."""
    found = Checked(text)
    assert found.open == []
    assert found.loads == []
    assert len(found.ids) == len(set(found.ids))
    assert all(link.startswith("#") and link[1:] in found.ids for link in found.links)
    assert not re.search(r"@import|url\((?!#)", text)
    return " ".join(" ".join(found.text).split())


class TestPage:
    def test_all_of_it(self, small):
        made = report(small)
        assert made == small / "report.html"
        names = {path.name for path in (small / "figures").iterdir()}
        assert {"valley-step.svg", "valley-seconds.svg", "valley-rates.svg", "valley-paths.svg", "classes-epoch.svg",
                "performance-1e-3.svg", "data-1e-1.svg"} <= names  # fmt: skip
        assert "valley-epoch.svg" not in names
        text = checked(made.read_text("utf-8"))
        for said in ("3 methods, 2 problems, 2 seeds: 24 runs, of which 20 are done", "and 4 failed",
                     "Lion on valley (2), Lion on classes (2)", "ValueError: <b>no</b> such row", "An 8-core CPU",
                     "numbaopt run synthetic.toml", "Not tested: 2 problems", "All times were taken without other work",
                     "Adam = { method = \"adam\" }"):  # fmt: skip
            assert said in text

    def test_with_the_problems_themselves(self, small):
        kept = {}
        study = read(small)
        text = checked(page.compose(study, styles(study.methods), plates.Drawings(("svg",), kept.__setitem__)))
        assert "the problem 'valley'" in text
        assert "objective − optimum" in text  # of the valley
        assert "objective − best found" in text  # of the classes
        assert kept["valley-paths.svg"].count(b"<path") > 40  # contours

    def test_what_the_file_wants_to_be_shown(self, tmp_path):
        source = """
            [methods]
            A = { method = "adam" }
            [problems.p]
            problem = "saddle"
            metrics = ["above"]
            [output]
            formats = ["pdf"]
            against = ["second"]
            quantiles = [0.1, 0.9]
            """
        told = {"metrics": {"above": 0.123, "distance": 0.456}}
        runs = [("p-dimension_2", "A", {"lr": lr}, seed, run([8.0, 1.0 + seed], **told))
                for lr in (0.1, 1.0) for seed in range(2)]  # fmt: skip
        folder = stored(tmp_path / "s", runs, problems=("p-dimension_2",), methods="A", source=source)
        text = checked(report(folder).read_text("utf-8"))
        assert {path.name for path in (folder / "figures").iterdir()} == {"p-dimension_2-seconds.pdf",
                                                                         "p-dimension_2-rates.pdf"}  # fmt: skip
        assert "shaded from the 10 % to the 90 % quantile" in text
        assert ("0.123" in text, "0.456" in text) == (True, False)
        lines = []
        with Store.open(folder) as store:
            progress.table(store, "p-dimension_2", lines.append)
        assert ("above" in lines[1], "distance" in lines[1]) == (True, False)

    def test_a_study_that_still_runs(self, tmp_path):
        folder = studies.study(tmp_path / "s", ("valley", "classes"), ("Adam",), (1e-2,), range(4), 20, parts=0.25)
        with Store.open(folder, write=True) as writing, writing._transaction():
            text = checked(report(folder).read_text("utf-8"))
        assert "This study is not finished: 6 runs are still to come" in text
        assert "No run has finished yet" in text  # of the classes

    def test_ranks_that_differ_are_drawn(self, tmp_path):
        runs = [(problem, method, {}, 0, run([8.0, *[4.0] * k, 0.0]))
                for problem in "abcdef" for k, method in enumerate("ABC")]  # fmt: skip
        folder = stored(tmp_path / "s", runs, problems="abcdef", methods="ABC")
        assert "Methods joined by a bar do not differ" in checked(report(folder).read_text("utf-8"))
        assert (folder / "figures" / "ranks.svg").is_file()

    def test_nothing_yet(self, tmp_path):
        folder = studies.study(tmp_path / "s", ("valley",), ("Adam",), (1e-2,), range(2), 20, parts=0)
        text = checked(report(folder).read_text("utf-8"))
        assert "2 runs, of which 0 are done" in text
        assert not list((folder / "figures").iterdir())

    def test_one_method_one_seed_no_rates(self, tmp_path):
        folder = studies.study(tmp_path / "s", ("bowl",), ("Adam",), (None,), (0,), 20)
        made = report(folder, ("pdf", "png", "svg"))
        text = checked(made.read_text("utf-8"))
        assert "1 method, 1 problem, 1 seed: 1 run, all done" in text
        assert "there is nothing to compare one method with" in text
        assert text.count("Figure") == 2
        begin = {"pdf": b"%PDF", "png": b"\x89PNG", "svg": b"<?xml"}
        files = {path: path.read_bytes() for path in (folder / "figures").iterdir()} | {made: made.read_bytes()}
        assert {path.name for path in files} == {f"bowl-{x}.{kind}" for x in ("step", "seconds") for kind in begin} \
            | {"report.html"}  # fmt: skip
        assert all(files[path].startswith(begin[path.suffix[1:]]) for path in files if path != made)
        report(folder, ("pdf", "svg"))
        assert {path: path.read_bytes() for path in files} == files  # the same runs make the same bytes

    def test_only_failures(self, tmp_path):
        runs = [("p", "A", {"lr": lr}, 0, FAILED) for lr in (0.1, 1.0)]
        text = checked(report(stored(tmp_path / "s", runs)).read_text("utf-8"))
        assert "ValueError: <no>" in text
        assert "2 runs, of which 0 are done and 2 failed" in text

    def test_only_divergence(self, tmp_path):
        runs = [("p", "A", {"lr": lr}, 0, run([8.0, 9.0, INF], code=2, message="Too fast.")) for lr in (0.1, 1.0)]
        text = checked(report(stored(tmp_path / "s", runs)).read_text("utf-8"))
        assert "lr = 0.1 (1 of 1), lr = 1 (1 of 1)" in text
        assert "Too fast." in text

    def test_hostile_text(self, tmp_path):
        bad = '<script>alert("1")</script>&\'"><img src=http://x/y onerror=z>'
        outcome = run([8.0, 1.0], about={bad: bad}, metrics={bad: 1.0}, message=bad)
        runs = [(bad, bad, {"lr": lr, bad: bad}, seed, outcome)
                for lr in (0.1, 1.0) for seed in (0, 1)]  # fmt: skip
        runs += [(bad, "$\\frac", {}, 0, Outcome("failed", error=bad)), ("/../x", "$\\frac", {}, 0, run([8.0, 2.0])),
                 ("///", "$\\frac", {}, 1, run([8.0, 2.0]))]  # fmt: skip
        folder = stored(tmp_path / "s", runs, bad, (bad,), (bad,))
        text = report(folder).read_text("utf-8")
        assert bad in checked(text)
        assert "<script" not in text
        assert {path.name for path in folder.iterdir()} == {"study.sqlite", "report.html", "figures"} | {
            path.name for path in folder.iterdir() if path.name.startswith("study.sqlite-")}  # fmt: skip
        assert {"x-step.svg", "problem-step.svg"} <= {path.name for path in (folder / "figures").iterdir()}

    def test_names_that_would_be_one_file(self, tmp_path):
        runs = [(problem, "A", {}, 0, run([8.0, 1.0])) for problem in ("a b", "A/b")]
        folder = stored(tmp_path / "s", runs, problems=("a b", "A/b"))
        report(folder)
        names = {path.name for path in (folder / "figures").iterdir()}
        assert {"a-b-step.svg", "A-b-step-2.svg"} <= names

    def test_what_cannot_be_written(self, tmp_path):
        folder = stored(tmp_path / "s", [("p", "A", {}, 0, None)])
        with pytest.raises(ExperimentError, match="format 'gif' is unknown; those known are svg, png, pdf"):
            report(folder, ("gif",))
        with pytest.raises(ExperimentError, match="holds no study"):
            report(tmp_path / "nowhere")
        (folder / "report.html").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ExperimentError, match="symbolic link"):
            report(folder)
        (folder / "report.html").unlink()
        (folder / "figures").write_text("a file")
        with pytest.raises(ExperimentError, match="figures: file exists"):
            report(folder)
        assert not (folder / "report.html").exists()


class TestAgain:
    def test_the_command_and_what_it_read(self, tmp_path):
        places = {"data": "/my data/t.csv", "plugins": ["mine.py"], "folder": "."}
        job = Job("p", "A", {}, 0, {"places": places, "files": {"t.csv": "0123"}})
        header = Header("Small", "a study.toml", "text", ("p",), ("A",))
        with Store.create(tmp_path / "s", header, [job]) as store:
            store.record(job.id, run([8.0, 1.0], about={"timed": True, "rounds": 3, "commit": ""}))
        text = checked(report(tmp_path / "s").read_text("utf-8"))
        assert "numbaopt run 'a study.toml' --data '/my data/t.csv' --plugin mine.py --timing --out DIR" in text
        assert "t.csv SHA-256 0123…" in text
        assert "commit unknown" in text


    def test_code_of_others_is_not_run(self, tmp_path):
        """The folder of a study may come from anywhere; its plugin is run only where it is named."""
        plugin, ran = tmp_path / "mine.py", tmp_path / "ran"
        plugin.write_text(f"open({str(ran)!r}, 'w').close()\n")
        spec = {"problem": {"problem": "saddle"}, "files": {}, "method": {"method": "gd", "lr": 0.1}, "seed": 0,
                "options": {}, "places": {"data": None, "plugins": [str(plugin)], "folder": "."}}  # fmt: skip
        job = Job("p", "A", {}, 0, spec)
        with Store.create(tmp_path / "s", Header("Small", "s.toml", "text", ("p",), ("A",)), [job]) as store:
            store.record(job.id, run([8.0, 1.0]))
        text = checked(report(tmp_path / "s").read_text("utf-8"))
        assert "mine.py, which is only run where it is named, by --plugin" in text
        assert not ran.exists()
        report(tmp_path / "s", plugins=[plugin])
        assert ran.exists()


class TestWords:
    @pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (1.23456, "1.23"), (12345.6, "12,346"), (1e-9, "1.0e-9"),
                                                 (-0.5, "-0.5"), (INF, "–"), (1e7, "1.0e7")])  # fmt: skip
    def test_numbers(self, value, text):
        assert words.number(value) == text

    @pytest.mark.parametrize(("seconds", "text"), [(1.5e-6, "1.5 µs"), (0.25, "250 ms"), (2.0, "2 s"),
                                                   (90.0, "90 s"), (600.0, "10 min"),
                                                   (1e5, "27.8 h"), (1e-9, "0.001 µs"), (INF, "–")])  # fmt: skip
    def test_times(self, seconds, text):
        assert words.duration(seconds) == text

    def test_bands(self):
        tried = {0.01: False, 0.1: True, 1.0: True}
        assert words.band(tried) == "0.1 – 1 (2 of 3)"
        assert words.band({**tried, 1.0: False}) == "0.1 (1 of 3)"
        assert words.band(dict.fromkeys(tried, False)) == "none of 3"
        assert words.band({0.1: True}) == "–"

    def test_settings(self):
        assert words.settings_of({"lr": 0.1, "nesterov": True, "s": {"a": [1, 2]}, "n": "x"}) == \
            "lr = 0.1, nesterov = true, s = {a = [1, 2]}, n = x"  # fmt: skip


def test_an_optimum_that_cannot_be_found_is_unknown():
    """A user's function may raise where nothing else has been: the report shows what the runs found."""

    class Raises:
        @property
        def reference(self):
            raise ValueError("boom")

    assert summary._optimum(Raises(), lambda task: task.reference, 0.5) == (0.5, False)
