"""Experiments: files are checked to the last key, and a run leaves whole files behind."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from files import mnist_like, written
from scipy import sparse
from typer.testing import CliRunner

from numbaopt import cli
from numbaopt.experiments import ExperimentError, Store, build, data, load, report, run
from numbaopt.experiments.jobs import Job, Outcome
from numbaopt.experiments.progress import Quiet, Tables, Trials
from numbaopt.experiments.rows import Header
from numbaopt.optimizers import Adam, Momentum
from numbaopt.schedules import Cosine, Warmup

ROOT = Path(__file__).resolve().parents[1]
SMALL = """
title = "Small"
[methods]
gd = { method = "gd", lr = 1.0, batch_size = "all" }
Adam = { method = "adam", lr = 0.1 }
[problems.line]
problem = "tutorial_regression"
epochs = 60
batch_size = 20
[problems.cancer]
problem = "logistic_regression"
epochs = 3
batch_size = 64
[problems.valley]
problem = "rosenbrock"
maxiter = 50
methods = { Adam = { lr = 0.2 } }
"""


def refused(folder, text, **options):
    """The sentence that a file is refused with, without the file's name."""
    file = written(folder, text)
    with pytest.raises(ExperimentError) as error:
        load(file, **options)
    message = str(error.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    return message.removeprefix(f"{file}: ")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small study that has run: its store, what it printed."""
    folder = tmp_path_factory.mktemp("small")
    lines = []
    counts = run(load(written(folder, SMALL)), folder / "out", show=lambda store: Tables(store, lines.append))
    assert counts == {"waiting": 0, "running": 0, "done": 5, "failed": 0}
    with Store.open(folder / "out") as store:
        yield store, "\n".join(lines)


class TestFile:
    def test_settings_are_inherited_and_overridden(self, tmp_path):
        experiment = load(written(tmp_path, """
            title = "T"
            [methods]
            Adam = { method = "ADAM", beta2 = 0.99, seed = 7, epochs = 2 }
            m = { method = "momentum", batch_size = "all" }
            [problems.a]
            problem = "logistic_regression"
            epochs = 3
            batch_size = 32
            [problems.a.methods]
            Adam = { lr = { schedule = "warmup", lr = { schedule = "cosine", lr = 1, steps = 9 }, steps = 5 } }
            m = { lr = 0.5 }
            [problems.b]
            problem = "saddle"
            methods = { m = {} }
        """))  # fmt: skip
        first, second = experiment.trials
        assert (experiment.title, list(first.methods), list(second.methods)) == ("T", ["Adam", "m"], ["m"])
        assert first.methods["Adam"].optimizer == Adam(beta2=0.99, lr=Warmup(Cosine(1.0, 9), steps=5))
        shown = first.methods["Adam"].options
        assert (shown["epochs"], shown["batch_size"], shown["seed"]) == (2, 32, 7)
        assert first.methods["m"].optimizer == Momentum(lr=0.5)
        assert "batch_size" not in first.methods["m"].options
        assert "epochs" not in second.methods["m"].options

    def test_the_shipped_files_are_sound_and_their_problems_run(self, tmp_path):
        mnist_like(tmp_path / "mnist.tgz")
        words = sparse.random(40, 30, 0.2, "csr", random_state=0)
        np.savez(tmp_path / "farm_ads.npz", data=words.data, indices=words.indices, indptr=words.indptr,
                 shape=words.shape, y=np.arange(40) % 2)  # fmt: skip
        studies = {file.stem: load(file, tmp_path) for file in sorted((ROOT / "experiments").glob("*.toml"))}
        assert set(studies) >= {"tutorial", "logistic", "which_optimizer", "sparse_text", "mnist", "adam_paper"}
        assert 10_000 < studies["which_optimizer"].count < 30_000
        kinds = {}
        for study in studies.values():
            for job in study.jobs:
                kinds.setdefault(job.spec["problem"]["problem"], job)
        assert set(kinds) >= {"quadratic", "recurrent_unit", "linear_model", "network", "logistic_regression"}
        for job in kinds.values():
            built = build(job.spec)
            few = {"epochs": 1} if "epochs" in built.options else {"maxiter": 3}
            assert built.task.solved_by(built.method, built.options | few).nit > 0

    @pytest.mark.parametrize(("text", "message"), [
        ("a = ", "Invalid value"),
        ("titel = 1", "unknown key 'titel'; did you mean 'title'? valid: data, methods, output, problems, "),
        ("title = 'x'", "'methods' is missing"),
        ("[methods]\n[problems]", "it declares 0 runs; from 1 to 100000 are possible"),
        ("methods = 3\n[problems]", "methods = 3: input should be a valid dictionary"),
        ("[methods]\na = {method='adm'}\n[problems.p]\nproblem='saddle'",
         "methods.a.method = 'adm' is not a known method; did you mean 'adam'? valid: adabelief"),
        ("[methods]\na = {lr=1}\n[problems.p]\nproblem='saddle'", "'methods.a.method' is missing; valid: adabelief"),
        ("[methods]\na = {method='adam', beta3=1}\n[problems.p]\nproblem='saddle'",
         "unknown key 'methods.a.beta3'; did you mean 'beta2'? valid: beta1"),
        ("[methods]\na = {method='adam', beta1=1.0}\n[problems.p]\nproblem='saddle'",
         "methods.a: Adam(beta1=1.0): beta1 must be in [0, 1)"),
        ("[methods]\na = {method='adam', lr='big'}\n[problems.p]\nproblem='saddle'",
         "methods.a: Adam(lr='big'): lr must be"),
        ("[methods]\na = {method='adam'}\n[problems.p]\nproblem='saddle'\nmethods.a.epochs=3",
         "unknown key 'problems.p.methods.a.epochs'"),
        ("[methods]\na = {method='adam', maxiter=1.5}\n[problems.p]\nproblem='saddle'",
         "methods.a.maxiter = 1.5: input should be a valid integer"),
        ("[methods]\na = {method='adam'}\n[problems.p]\nproblem='saddle'\nmaxiter=-1", "problems.p.maxiter = -1: "),
        ("[methods]\na = {method='adam'}\n[problems.p]\nproblem='saddle'\nstart=[1.0]",
         "problems.p: start = [1.0] has 1 numbers, not 2"),
        ("[methods]\na = {method='adam'}\n[problems.p]\nproblem='more_garbow_hillstrom'\nfunction='woods'",
         "problems.p.function = 'woods' is not known; did you mean 'wood'? valid: bard, "),
        ("[methods]\na = {method='adam'}\n[problems.p]\nproblem='saddle'\nstrat=[1.0]",
         "unknown key 'problems.p.strat'; did you mean 'start'? valid: ftol, gtol, max_evaluations, "),
        ("[methods]\na = {method='adam'}\n[problems.p]\nproblem='sadle'",
         "problems.p.problem = 'sadle' is not a known problem; did you mean 'saddle'?"),
        ("[methods]\na = {method='adam'}\n[problems.p]\n", "'problems.p.problem' is missing; valid: ackley, "),
        ("[methods]\na = {method='adam'}\n[problems.p]\nproblem='saddle'\nmethods={b={}}",
         "unknown method 'problems.p.methods.b'; valid: a"),
        ("[methods]\na = {method='adam'}\n[problems.p]\nproblem='saddle'\nmethods={a={method='gd'}}",
         "problems.p.methods.a.method: what a label means"),
        ("[methods]\na = {method='adam'}\n[problems.p]\nproblem='saddle'\nmethods=['a']", "problems.p.methods must be"),
        ("[methods]\na = {method='adam', lr={schedule='cosin'}}\n[problems.p]\nproblem='saddle'",
         "methods.a.lr.schedule = 'cosin' is not a known schedule; did you mean 'cosine'?"),
        ("[methods]\na = {method='adam', lr={schedule='cosine', step=3}}\n[problems.p]\nproblem='saddle'",
         "methods.a.lr: Cosine has no field 'step'; did you mean 'steps'?"),
        ("[methods]\na = {method='adam'}\n[problems.'../p']\nproblem='saddle'", "problems.../p: a problem's name"),
        ("[methods]\n\"a\\u0007\" = {method='adam'}\n[problems.p]\nproblem='saddle'", "a label must be printable"),
        ("[methods]\na = {method='adam'}\n[problems.p]\nproblem='os.system'", "is not a known problem"),
        ("seeds = 8\n[methods]\na = {method='adam', seed=3}\n[problems.p]\nproblem='tutorial_regression'",
         "methods.a.seed = 3: with 'seeds', all methods have the same; leave it out"),
        ("[methods]\na = {method='adam'}\n[problems.p]\nproblem='saddle'\nmethods.a.seed=3\nseeds=[1]",
         "problems.p.methods.a.seed = 3: with 'seeds'"),
    ])  # fmt: skip
    def test_faults_are_told_in_a_sentence(self, tmp_path, text, message):
        assert message in refused(tmp_path, text)

    def test_files_that_cannot_be_read(self, tmp_path):
        (tmp_path / "e.toml").write_bytes(b"\xff\xfe")
        for file, message in ((tmp_path / "none.toml", "no such file"), (tmp_path, "is a directory"),
                              (tmp_path / "e.toml", "utf-8")):  # fmt: skip
            with pytest.raises(ExperimentError, match=message):
                load(file)

    def test_the_number_of_runs_is_bounded(self, tmp_path):
        text = """
            seeds = 1000
            [methods]
            Adam = { method = "adam", lr = { log = [1e-6, 1, 1000000] }, beta1 = { linear = [0, 0.9, 1000000] } }
            [problems.p]
            problem = "logistic_regression"
            batch_size = 32
        """
        tracemalloc.start()
        assert "it declares 1000000000000000 runs; from 1 to 100000 are possible" in refused(tmp_path, text)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000

    def test_data_replaces_every_table(self, tmp_path):
        file, table = written(tmp_path, SMALL), written(tmp_path, "1,0\n2,1\n", "t.csv")
        trials = {trial.name: trial.problem for trial in load(file, table).trials}
        assert trials["cancer"].data.file == str(table)
        with pytest.raises(ExperimentError, match="--data: no file"):
            load(file, tmp_path / "none.csv")
        text = "[methods]\na = {method='gd'}\n[problems.p]\nproblem='saddle'"
        assert "--data has no use here" in refused(tmp_path, text, data=table)


class TestRun:
    def test_the_line_is_close_to_least_squares(self, small):
        rng = np.random.default_rng(0)
        x = rng.random((100, 1))
        y = 3 * x[:, 0] + rng.random(100)
        best = np.linalg.lstsq(np.column_stack([x, np.ones(100)]), y, rcond=None)[0]
        for row in small[0].runs(problem="line"):
            np.testing.assert_allclose(row.x, best, atol=0.1)
            assert f"{row.x[0]:.4f} {row.x[1]:.4f}" in " ".join(small[1].split())
        assert "least squares 3.2416 0.3985" in " ".join(small[1].split())

    def test_held_out_rows_are_judged_as_scikit_learn_does(self, small, tmp_path):
        metrics = pytest.importorskip("sklearn.metrics")
        table = data.load_data("breast_cancer", tmp_path, 0.25, 0, True)
        (row,) = small[0].runs(problem="cancer", method="Adam")
        likely = 1 / (1 + np.exp(-(table.X_test @ row.x[:-1] + row.x[-1])))
        assert row.metrics["accuracy"] == pytest.approx(metrics.accuracy_score(table.y_test, likely > 0.5))
        assert row.metrics["log-loss"] == pytest.approx(metrics.log_loss(table.y_test, likely))
        assert row.metrics["accuracy"] > 0.9

    def test_a_diverging_method_is_a_row_and_not_an_error(self, tmp_path):
        lines = []
        file = written(tmp_path, "[methods]\nwild = {method='gd', lr=10.0}\n[problems.p]\nproblem='rosenbrock'")
        run(load(file), tmp_path / "out", show=lambda store: Tables(store, lines.append))
        assert any(line.startswith("  wild") and line.endswith("diverged") for line in lines)

    def test_linear_regression_on_a_table(self, tmp_path):
        text = "[methods]\ngd = {method='gd', lr=0.3}\n[problems.p]\nproblem='linear_regression'\nepochs=9"
        run(load(written(tmp_path, text)), tmp_path / "out", show=Quiet)
        with Store.open(tmp_path / "out") as store:
            (row,) = store.runs()
        assert 0.3 < row.metrics["R2"] < 0.7
        assert row.metrics["RMSE"] == pytest.approx(55, abs=10)

    def test_data_that_no_model_takes(self, tmp_path):
        written(tmp_path, "".join(f"{k},{k % 3}\n" for k in range(20)), "t.csv")
        text = "[methods]\ngd = {method='gd'}\n[problems.p]\nproblem='logistic_regression'\ndata='t.csv'"
        with pytest.raises(ExperimentError, match=r"e.toml: problems.p: Unknown label type: multiclass"):
            run(load(written(tmp_path, text)), tmp_path / "out", show=Quiet)
        with pytest.raises(ExperimentError, match="holds no study"):
            Store.open(tmp_path / "out")

    def test_a_rate_that_becomes_invalid_is_a_run_that_failed(self, tmp_path):
        text = """
            [methods]
            gd = { method = "gd", lr = { schedule = "exponential", gamma = 1e300 } }
            [problems.p]
            problem = "saddle"
        """
        lines = []
        counts = run(load(written(tmp_path, text)), tmp_path / "out", show=lambda store: Tables(store, lines.append))
        assert counts["failed"] == 1
        assert any(line.startswith("  gd") and line.endswith("failed") for line in lines)
        with Store.open(tmp_path / "out") as store:
            assert store.runs()[0].error.endswith("ValueError: lr: the schedule gives inf at step 2; a rate must be in "
                                                  "[0, inf)\n")  # fmt: skip

    def test_files_are_whole_or_not_there(self, tmp_path, monkeypatch):
        file = report.write(tmp_path / "a.txt", "old")

        def full(part, content):
            with open(part, "wb") as half:
                half.write(content[:1])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space"):
            report.write(file, "new")
        assert [(name.name, name.read_text()) for name in tmp_path.iterdir()] == [("a.txt", "old")]

class TestCommandLine:
    def invoke(self, *arguments):
        return CliRunner().invoke(cli.app, list(map(str, arguments)))

    def test_run(self, tmp_path):
        file = written(tmp_path, "[output]\nformats = ['png']\n[methods]\ngd = {method='gd'}\n"
                                 "[problems.p]\nproblem='saddle'\nmaxiter=5")  # fmt: skip
        result = self.invoke("run", file, "--out", tmp_path / "out")
        assert {path.suffix for path in (tmp_path / "out" / "figures").iterdir()} == {".png"}
        assert result.exit_code == 0, result.output
        assert "[p] A saddle between two minima" in result.stdout
        assert result.stdout.splitlines()[-1].startswith(f"Everything is in {tmp_path / 'out' / 'report.html'};")
        assert "<svg" in (tmp_path / "out" / "report.html").read_text()

    def test_run_with_data(self, tmp_path):
        table = written(tmp_path, "".join(f"{k},{k * k % 7},{'ab'[k > 9]}\n" for k in range(20)), "t.csv")
        text = "[methods]\ngd = {method='gd', lr=0.5}\n[problems.p]\nproblem='logistic_regression'\nepochs=5"
        result = self.invoke("run", written(tmp_path, text), "--data", table, "--out", tmp_path / "out")
        assert result.exit_code == 0, result.output
        assert "Logistic regression on t.csv: 15 rows and 2 features; held out: 5 rows" in result.stdout

    def test_errors_are_a_sentence_and_exit_code_2(self, tmp_path):
        blocked = written(tmp_path, "", "blocked")
        good = written(tmp_path, SMALL)
        for arguments, message in (
            (("run", tmp_path / "no.toml"), "no such file or directory"),
            (("run", written(tmp_path, "a = 1", "bad.toml")), "unknown key 'a'"),
            (("run", good, "--out", blocked), "blocked is not a folder"),
            (("run", good, "--data", tmp_path / "no.csv"), "--data: no file"),
        ):
            result = self.invoke(*arguments)
            assert result.exit_code == 2
            assert message in result.stderr
            assert len(result.stderr.strip().splitlines()) == 1
            assert "Traceback" not in result.output

    def test_methods(self, capsys):
        cli.list_methods()
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split() == ["method", "class", "state", "bounds", "sparse", "batches", "lazy", "defaults"]
        assert any(line.split()[:4] == ["sgd", "or", "gd", "SGD"] for line in lines)
        assert max(map(len, lines)) <= 200
        assert self.invoke("methods").exit_code == 0

    def test_warmup(self):
        result = self.invoke("warmup", "rules")
        assert result.exit_code == 0, result.output
        assert "  rule Adam\n" in result.stdout
        assert result.stdout.splitlines()[-1].endswith("they are kept in the disk cache.")
        assert "part 'rule' is not known; did you mean 'rules'?" in self.invoke("warmup", "rule").stderr

    @pytest.mark.process
    @pytest.mark.parametrize("package", ["typer", "pydantic", "matplotlib", "sklearn"])
    def test_what_is_not_installed_is_told(self, tmp_path, package):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f"raise ModuleNotFoundError('no', name={package!r})")
        text = "[methods]\ngd = {method='gd'}\n[problems.p]\nproblem='logistic_regression'\nepochs=1"
        names = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
        command = [sys.executable, "-m", "numbaopt", "run", written(tmp_path, text), "--out", tmp_path / "out"]
        done = subprocess.run(command, env=names, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 2, done.stderr
        assert done.stderr.strip().endswith(f"{package}, which is not installed; pip install 'numbaopt[all]'")
        assert len(done.stderr.strip().splitlines()) == 1


class TestStudyCommands:
    """`list`, `show` and `export` read what a study has found."""

    @pytest.fixture
    def folder(self, small):
        return small[0].path.parent

    def invoke(self, *arguments, code=0):
        result = CliRunner().invoke(cli.app, list(map(str, arguments)))
        assert result.exit_code == code, result.output
        return result

    def test_list(self, small, folder):
        told = [json.loads(line) for line in self.invoke("list", folder, "--json").stdout.splitlines()]
        rows = small[0].runs()
        assert [list(entry)[:8] for entry in told] == [["id", "status", "problem", "method", "settings", "seed", "fun",
                                                        "seconds"]] * 5  # fmt: skip
        assert [(entry["id"], entry["fun"], entry["seed"]) for entry in told] == [
            (row.id, row.fun, row.seed) for row in rows]  # fmt: skip
        lines = self.invoke("list", folder, "--problem", "valley").stdout.splitlines()
        assert len(lines) == 2
        assert lines[1].startswith(f"{rows[-1].id[:8]}  done")
        assert self.invoke("list", folder, "--status", "failed", "--json").stdout == ""

    def test_show(self, small, folder):
        (row,) = small[0].runs(problem="valley")
        told = json.loads(self.invoke("show", folder, row.id[:10], "--json").stdout)
        assert told["x"] == row.x.tolist()
        assert told["curve"]["fun"] == small[0].curve(row.id)["fun"].tolist()
        assert told["about"]["numba"] == row.about["numba"]
        text = self.invoke("show", folder, row.id).stdout
        assert f"id        {row.id}" in text
        assert "curve     51 points of step epoch nfev seconds fun grad_norm lr x1 x2" in text
        assert "no run has an id that begins with 'none'" in self.invoke("show", folder, "none", code=2).stderr

    def test_export(self, small, folder, tmp_path):
        self.invoke("export", folder, "--csv", "--parquet", "--to", tmp_path)
        rows = small[0].runs()
        with (tmp_path / "runs.csv").open() as file:
            found = list(csv.DictReader(file))
        assert [(entry["id"], float(entry["fun"]), entry["metrics.accuracy"]) for entry in found] == [
            (row.id, row.fun, repr(row.metrics["accuracy"]) if "accuracy" in row.metrics else "")
            for row in rows]  # fmt: skip
        with (tmp_path / "curves.csv").open() as file:
            mine = [float(entry["fun"]) for entry in csv.DictReader(file) if entry["id"] == rows[0].id]
        assert mine == small[0].curve(rows[0].id)["fun"].tolist()
        parquet = pytest.importorskip("pyarrow.parquet")
        table = parquet.read_table(tmp_path / "curves.parquet")
        np.testing.assert_array_equal(table["fun"], np.concatenate([small[0].curve(row.id)["fun"] for row in rows]))
        assert parquet.read_table(tmp_path / "runs.parquet")["fun"].to_pylist() == [row.fun for row in rows]
        assert "export needs --csv or --parquet" in self.invoke("export", folder, code=2).stderr
        (tmp_path / "link").mkdir()
        (tmp_path / "link" / "runs.csv").symlink_to(tmp_path / "elsewhere")
        assert "symbolic link" in self.invoke("export", folder, "--csv", "--to", tmp_path / "link", code=2).stderr
        assert not (tmp_path / "elsewhere").exists()

    def test_report(self, small, folder, tmp_path):
        shutil.copytree(folder, tmp_path / "s")
        result = self.invoke("report", tmp_path / "s", "--format", "png")
        page = tmp_path / "s" / "report.html"
        assert result.stdout.split() == [str(page)]
        text = page.read_text("utf-8")
        assert small[0].header.title in text
        assert "is not built here" not in text
        assert "objective − optimum" in text
        assert (tmp_path / "s" / "figures" / "valley-step.png").is_file()
        assert "format 'gif' is unknown" in self.invoke("report", folder, "--format", "gif", code=2).stderr

    def test_lines_for_other_programs(self, tmp_path):
        file = written(tmp_path, "[methods]\ngd = {method='gd', lr=[0.1, 10.0]}\n[problems.p]\nproblem='saddle'")
        result = self.invoke("run", file, "--out", tmp_path / "out", "--json")
        told = [json.loads(line) for line in result.stdout.splitlines()]
        assert [entry["status"] for entry in told] == ["done", "done"]
        assert [entry["settings"] for entry in told] == [{"lr": 0.1}, {"lr": 10.0}]
        assert self.invoke("run", file, "--out", tmp_path / "out", "--json").stdout == ""
        assert self.invoke("resume", tmp_path / "out", "--quiet").output == ""
        again = self.invoke("run", file, "--out", tmp_path / "out").stdout
        assert "2 runs, 2 of them there already" in again
        assert "gd (lr = 10)" in again

    def test_what_is_no_study(self, tmp_path):
        for command in ("resume", "list", "export", "report"):
            more = ["--csv"] if command == "export" else []
            assert "holds no study" in self.invoke(command, tmp_path / "none", *more, code=2).stderr
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [lambda function: function(bowl_by_name), lambda function: function()])
def test_a_function_without_a_start_is_told_how(wrong):
    from numbaopt.experiments import function

    with pytest.raises(TypeError, match=r"function needs a start: @function\(start=\[0.0, 0.0\]\)"):
        wrong(function)


def bowl_by_name(x):
    return x @ x


class Screen(io.StringIO):
    """A terminal: what it shows after all that was written to it."""

    def isatty(self):
        return True

    @property
    def lines(self):
        shown, row, column = [[]], 0, 0
        for kind, letter in re.findall("(\x1b\\[A)|([^\x1b])", self.getvalue()):
            if kind:
                row -= 1
            elif letter == "\r":
                column = 0
            elif letter == "\n":
                row, column = row + 1, 0
                shown += [[]] * (row == len(shown))
            else:
                line = shown[row] = shown[row] + [" "] * (column + 1 - len(shown[row]))
                line[column] = letter
                column += 1
        return ["".join(line).rstrip() for line in shown]


class TestLiveProgress:
    def screen(self, monkeypatch):  # no fixture: pytest sets both streams once more before a test
        screen = Screen()
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, screen)
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setenv("LINES", "30")
        return screen

    @pytest.mark.parametrize("count", [1, 3, 20, 25])
    def test_a_line_a_problem_until_it_is_done(self, tmp_path, monkeypatch, count):
        pytest.importorskip("tqdm")
        screen = self.screen(monkeypatch)
        names = [f"problem-{k}" for k in range(count)]
        jobs = [Job(name, method, {"lr": 0.5}, 0, {}) for name in names for method in ("Adam", "SGD")]
        outcomes = [Outcome("done", fun=3.0 - k % 2, nit=1) for k in range(len(jobs))]
        with Store.create(tmp_path / "s", Header("Many", "m.toml", "", tuple(names), ("Adam", "SGD")), jobs) as store:
            table = Tables(store)
            table.begin(len(jobs), "some runs")

            def end(job, outcome):
                store.record(job.id, outcome)
                table.finished(store.runs(id=[job.id]))

            for job, outcome in list(zip(jobs, outcomes, strict=True))[::2]:
                end(job, outcome if job.problem != "problem-0" else Outcome("failed", error="no"))
            shown, room = screen.lines[-1 - min(count, 20) - 1 :], min(count, 20)
            (bar,) = [line for line in screen.lines if "run/s" in line or "s/run" in line]
            assert f"{count}/{2 * count} [" in bar
            assert "1 failed]" in bar
            assert "<" in bar  # what is left, in time
            width = max(map(len, names))
            lines = [line for line in shown if line.startswith("  problem")]
            assert lines[0] == f"  {'problem-0':<{width}}  1/2, 1 failed"
            assert lines[1:] == [f"  {name:<{width}}  1/2  best 3 (Adam, lr = 0.5)" for name in names[1 : len(lines)]]
            assert len(lines) == (count if count <= 20 else 19)
            assert ("  ... and 6 more" in shown) == (count == 25)
            assert len(lines) + (count > 20) == room
            end(jobs[1], outcomes[1])
            assert not any(line.startswith("  problem-0 ") for line in screen.lines[-room - 2 :])
            assert any(line.startswith("[problem-0]") for line in screen.lines)
            for job, outcome in list(zip(jobs, outcomes, strict=True))[3::2]:
                end(job, outcome)
            table.end()
        assert not any(line.startswith("  problem-") for line in screen.lines)
        assert sum(line.startswith("[problem-") for line in screen.lines) == count

    def test_nothing_of_it_goes_into_a_file(self, tmp_path, capsys):
        file = written(tmp_path, "[methods]\ngd = {method='gd', lr=0.1}\n[problems.p]\nproblem='saddle'\nmaxiter=5")
        run(load(file), tmp_path / "out")
        assert capsys.readouterr().err == ""

    def test_the_best_of_every_search(self, tmp_path, monkeypatch):
        pytest.importorskip("tqdm")
        screen = self.screen(monkeypatch)
        with Store.create(tmp_path / "s", Header("Many", "m.toml", "", (), ())) as store:
            trials = Trials(store)
            trials.begin(6, "gd on p: 3 trials\nAdam on p: 3 trials")
            for name, best in (("gd on p", None), ("gd on p", 2.0), ("Adam on p", 1.5), ("gd on p", 0.5)):
                trials.tried(name, best)
            assert {"  gd on p  best 0.5", "  Adam on p  best 1.5"} <= set(screen.lines)
            assert any("4/6 [" in line for line in screen.lines)
            trials.end()
        assert not any("best" in line for line in screen.lines)
