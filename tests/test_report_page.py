"""Reports: a page that needs nothing but itself, and how to run it again."""


import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pytest
import studies
from pages import checked
from studies import FAILED, read, run, stored

from numbaopt.experiments import ExperimentError, progress, words
from numbaopt.experiments.jobs import Job, Outcome
from numbaopt.experiments.reports import page, plates, report
from numbaopt.experiments.rows import Header
from numbaopt.experiments.store import Store
from numbaopt.plotting import styles

INF = np.inf


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two problems, three methods of which one fails now and then."""
    folder, methods = tmp_path_factory.mktemp("small") / "s", ("gradient descent", "Adam", "Lion")
    return studies.study(folder, ("valley", "classes"), methods, (1e-3, 1e-1), range(2, 4), 40)


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
