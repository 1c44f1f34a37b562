"""Tuning finds good settings, in the study's own store, wherever and however often it is interrupted."""

import signal
import subprocess
import sys
import time
import tomllib

import numpy as np
import optuna
import pytest
from files import written
from typer.testing import CliRunner

import numbaopt as no
from numbaopt import cli
from numbaopt.experiments import ExperimentError, How, Store, load, run, tuning
from numbaopt.experiments.grids import Space, find_axes
from numbaopt.experiments.methods import make
from numbaopt.experiments.progress import Quiet, Trials
from numbaopt.experiments.reports import rates, report
from numbaopt.experiments.reports.summary import Study
from numbaopt.experiments.schedulers import Here
from numbaopt.experiments.spaces import Parameters, as_toml, default_axes
from numbaopt.experiments.tuning import Effort, Tuner, tune
from numbaopt.optimizers import OPTIMIZERS

BOWL = """
title = "Bowl"
[methods]
gd = { method = "gd" }
[problems.bowl]
problem = "quadratic"
dimension = 5
condition = 10.0
maxiter = 50
"""
LINE = """
seeds = 3
[methods]
SGD = { method = "sgd", lr = { schedule = "cosine", lr = { low = 0.01, high = 1.0, scale = "log" }, steps = [60, 120] },
        batch_size = [20, 50] }
[problems.line]
problem = "tutorial_regression"
epochs = 16
""".replace("\n        ", " ")
PLUGIN = """
import numba
from numbaopt.experiments import function

@function(start=[1.0, 1.0])
@numba.njit
def walled(x):
    if x[0] > 3.0:
        raise ValueError("beyond")
    return -x[0]
"""
SETTINGS = "id", "status", "settings", "seed", "fun", "nit", "message"
SETS = [{"method": name} for name in sorted(OPTIMIZERS)] + [
    {"method": "lookahead", "opt": {"method": "rmsprop", "momentum": 0.9}, "clip_norm": 1.0},
    {"method": "switch", "first": {"method": "adam", "lr": {"schedule": "warmup", "lr": {"schedule": "onecycle"}}},
     "second": {"method": "sgd", "lr": 0.1}, "at": 500},
]  # fmt: skip


def rows_of(folder):
    """What was stored, in order."""
    with Store.open(folder) as store:
        return [[getattr(row, name) for name in SETTINGS] for row in store.runs()]


@pytest.fixture(scope="module")
def bowl(tmp_path_factory):
    """A folder where gradient descent was tuned, and what came of it."""
    folder = tmp_path_factory.mktemp("bowl")
    (tuned,) = tune(written(folder, BOWL), folder / "out", effort=Effort(trials=20), show=Quiet)
    return folder, tuned


class TestSpaces:
    @pytest.mark.parametrize("table", SETS, ids=lambda table: table["method"])
    def test_every_point_makes_the_rule_and_the_first_is_the_rule_as_it_stands(self, table):
        space, rng = Parameters(table, default_axes(table)), np.random.default_rng(0)
        names = {name.rpartition(".")[2] for name in space.axes}
        assert names & {"lr", "lr_max"}
        drawn = [{name: axis.space.low * (axis.space.high / axis.space.low) ** rng.random() if not axis.space.whole
                  else axis.space.high for name, axis in space.axes.items()} for _ in range(20)]  # fmt: skip
        for parameters in [*space.corners(), *drawn]:
            made = make(space.plain(parameters), "here")
            assert made != make(table, "here")
            assert make(tomllib.loads(f"a = {as_toml(space.plain(parameters))}")["a"], "here") == made
        assert make(space.plain(space.start(table)), "here") == make(table, "here")

    def test_what_is_off_stays_off(self):
        space = Parameters({"method": "adamw"}, default_axes({"method": "adamw"}))
        assert list(space.axes) == ["lr", "1 - beta1", "1 - beta2", "eps", "weight_decay"]
        assert default_axes({"method": "lbfgs"}) == []

    def test_names_of_optunas_parameters(self):
        table = {"method": "sgd", "lr": {"schedule": "cosine", "lr": 0.5, "steps": 9}}
        space = Parameters(table, default_axes(table))
        assert space.distributions == {"lr": optuna.distributions.FloatDistribution(0.005, 500, log=True)}
        assert space.settings({"lr": 0.123456}) == {"lr": 0.1235}

    def test_distances_from_one(self):
        space = Space(1e-4, 1e-1, log=True, origin=1.0, sign=-1.0)
        assert [space.value(u) for u in (0.0, 1 / 3, 2 / 3)] == pytest.approx([0.9999, 0.999, 0.99])
        (axis,) = find_axes({"beta2": {"low": 0.9, "high": 0.9999, "scale": "log1m"}}, "here")
        assert axis.space == space


class TestTune:
    def test_the_best_rate_is_found(self, bowl):
        folder, tuned = bowl
        best = 2 / (1 + 10)  # of curvatures from 1 to 10
        assert best / 1.3 < tuned.settings["lr"] < best * 1.3
        assert tuned.table == {"method": "gd", **tuned.settings}
        assert tuned.value < 1e-6 < 1 < tuned.before
        assert sum(tuned.trials.values()) == 20
        with Store.open(folder / "out") as store:
            (row,) = [row for row in store.runs() if row.settings == tuned.settings]
            assert store.header.command == "numbaopt tune e.toml --trials 20"
        assert row.fun == tuned.value

    def test_bad_trials_are_given_up_and_kept_as_far_as_they_came(self, bowl):
        folder, tuned = bowl
        with Store.open(folder / "out") as store:
            pruned = [row for row in store.runs() if row.pruned]
            curve = store.curve(pruned[0].id)
        assert len(pruned) == tuned.trials["pruned"] > 3
        for row in pruned:
            assert row.nit < 50
            said, end = row.message.split(" at ")[1:]
            assert said == f"step {row.nit}: optuna's median pruner gave it up"
            assert float(end.rstrip(".")) > 0.99 * row.fun > tuned.value
        assert curve["step"][-1] == pruned[0].nit

    def test_the_same_call_goes_on(self, bowl, tmp_path):
        folder, tuned = bowl
        file, out, said = written(tmp_path, BOWL), tmp_path / "out", []
        for trials in (3, 20):
            (again,) = tune(file, out, effort=Effort(trials=trials), show=lambda store: Trials(store, said.append))
        assert again == tuned
        assert rows_of(out) == rows_of(folder / "out")
        assert said == ["gd on bowl: 3 trials; the final objective over lr",
                        "gd on bowl: 20 trials, 3 of them there already; the final objective over lr"]  # fmt: skip
        assert sorted(path.name for path in out.iterdir()) == ["study.lock", "study.sqlite", "tuning.sqlite"]

    @pytest.mark.parametrize("when", ["asking", "asked", "stored"])
    def test_an_interrupted_trial_goes_on(self, bowl, tmp_path, monkeypatch, when):
        file, out, calls = written(tmp_path, BOWL), tmp_path / "out", []

        def interrupt(real):
            def method(self, *arguments):
                calls.append(arguments)
                if len(calls) == 4:
                    raise KeyboardInterrupt
                return real(self, *arguments)

            return method

        with monkeypatch.context() as patched:
            if when == "asking":  # begun in optuna's storage, without its parameters
                from optuna.study import Study

                ask = Study.ask

                def begin(self, distributions):
                    calls.append(distributions)
                    if len(calls) == 4:
                        ask(self)
                        raise KeyboardInterrupt
                    return ask(self, distributions)

                patched.setattr(Study, "ask", begin)
            elif when == "asked":
                patched.setattr(Here, "submit", interrupt(Here.submit))
            else:
                patched.setattr(Tuner, "tell", interrupt(Tuner.tell))
            with pytest.raises(KeyboardInterrupt):
                tune(file, out, effort=Effort(trials=20), show=Quiet)
        assert len(rows_of(out)) == (3 if when == "asking" else 4)
        (tuned,) = tune(file, out, effort=Effort(trials=20), show=Quiet)
        assert tuned == bowl[1]
        assert rows_of(out) == rows_of(bowl[0] / "out")

    @pytest.mark.process
    def test_kill_9_loses_no_finished_run_and_repeats_none(self, bowl, tmp_path):
        file, out = written(tmp_path, BOWL), tmp_path / "out"
        command = [sys.executable, "-m", "numbaopt", "tune", file, "--out", out, "--quiet", "--trials", "20"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        while process.poll() is None and len(_done(out)) < 3:
            time.sleep(0.01)
        process.kill()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, errors
        before = _done(out)
        (tuned,) = tune(file, out, effort=Effort(trials=20), show=Quiet)
        assert before.items() <= _done(out).items()
        assert tuned == bowl[1]
        assert rows_of(out) == rows_of(bowl[0] / "out")

    def test_the_ranges_of_a_file_are_the_space(self, tmp_path):
        file = written(tmp_path, LINE)
        (tuned,) = tune(file, tmp_path / "out", effort=Effort(trials=8, pruner="none"), show=Quiet)
        assert tuned.trials == {"complete": 8, "pruned": 0, "failed": 0}
        assert np.isnan(tuned.before)
        with Store.open(tmp_path / "out") as store:
            rows = store.runs()
        assert {row.seed for row in rows} == {0, 1, 2}
        assert {name for row in rows for name in row.settings} == {"lr", "lr.steps", "batch_size"}
        assert all(0.01 <= row.settings["lr"] <= 1 for row in rows)
        assert {row.settings["lr.steps"] for row in rows} == {60, 120}
        pasted = LINE.partition("SGD")[0] + tuned.toml + "\n[problems" + LINE.partition("[problems")[2]
        study = load(written(tmp_path, pasted))
        assert [job.spec["options"]["batch_size"] for job in study.jobs] == [tuned.settings["batch_size"]] * 3
        run(study, tmp_path / "again", How(jobs=1), Quiet)
        with Store.open(tmp_path / "again") as store:
            assert np.median([row.fun for row in store.runs()]) == tuned.value

    @pytest.mark.process
    def test_two_processes_share_the_trials(self, tmp_path):
        effort = Effort(trials=6, jobs=2, pruner="hyperband")
        (tuned,) = tune(written(tmp_path, LINE), tmp_path / "out", effort=effort, show=Quiet)
        assert sum(tuned.trials.values()) == 6
        assert tuned.trials["failed"] == 0 < tuned.trials["complete"]
        with Store.open(tmp_path / "out") as store:
            assert store.counts()["waiting"] == store.counts()["running"] == 0
            runs = [row.fun for row in store.runs() if row.settings == tuned.settings]
        assert np.median(runs) == tuned.value

    def test_the_way_to_a_target(self, tmp_path):
        text = BOWL.replace('"gd" }', '"gd", lr = { low = 0.01, high = 1.0, scale = "log" } }')
        file = written(tmp_path, text + "target = { relative = 1e-3 }\n")
        (tuned,) = tune(file, tmp_path / "out", ["GD"], ["bowl"], Effort(trials=12, pruner="none"), show=Quiet)
        assert tuned.measure == "work to the target"
        with Store.open(tmp_path / "out") as store:
            rows = store.runs()
        reached = [row.nfev for row in rows if row.message == "The target was reached."]
        assert 0 < len(reached) < len(rows)
        assert tuned.value == min(reached)
        (_, kept), = _optuna(tmp_path / "out").items()
        missed = [trial.value for trial in kept if trial.value > 50]
        assert len(missed) == len(rows) - len(reached)
        assert 50 < min(missed) < 60  # one was nearly there
        assert max(missed) == 2 * 51  # one made no way at all

    def test_efforts_end_it(self, tmp_path):
        file = written(tmp_path, BOWL)
        (none,) = tune(file, tmp_path / "out", effort=Effort(seconds=0.0), show=Quiet)
        assert (sum(none.trials.values()), none.table, none.toml) == (0, {}, "")
        (some,) = tune(file, tmp_path / "out", effort=Effort(evaluations=120), show=Quiet)
        assert sum(some.trials.values()) == 3  # of 51 evaluations
        few = written(tmp_path, BOWL.replace('"gd" }', '"gd", lr = [0.1, 0.2] }'))
        (both,) = tune(few, tmp_path / "out", effort=Effort(evaluations=10**9, pruner="none"), show=Quiet)
        assert both.settings == {"lr": 0.1}
        assert len(rows_of(tmp_path / "out")) == 3 + 2

    def test_a_study_and_its_tuning_share_a_folder(self, tmp_path):
        file, out = written(tmp_path, BOWL), tmp_path / "out"
        tune(file, out, ["momentum"], effort=Effort(trials=2), show=Quiet)
        assert run(load(file), out, How(jobs=1), Quiet)["done"] == 3
        tune(file, out, effort=Effort(trials=2), show=Quiet)
        with Store.open(out) as store:
            assert [row.method for row in store.runs()] == ["momentum", "momentum", "gd", "gd", "gd"]
            assert store.header.methods == ("gd",)

    def test_trials_that_raise_are_failed_ones(self, tmp_path):
        (tmp_path / "mine.py").write_text(PLUGIN)
        text = '[methods]\ngd = { method = "gd", lr = [0.001, 1.0] }\n[problems.wall]\nproblem = "walled"\n' \
               "start = [1.0, 1.0]\nmaxiter = 20"  # fmt: skip
        out = tmp_path / "out"
        result = CliRunner().invoke(cli.app, ["tune", str(written(tmp_path, text)), "--out", str(out), "--trials", "6",
                                              "--plugin", str(tmp_path / "mine.py")])  # fmt: skip
        assert result.exit_code == 1, result.stderr
        assert "trials failed: numbaopt list" in result.stdout
        assert 'gd = { method = "gd", lr = 0.001 }' in result.stdout
        with Store.open(out) as store:
            (failed,) = store.runs(status="failed")
        assert failed.settings == {"lr": 1.0}


def _done(out):
    """Runs that are stored, with when they were made."""
    try:
        with Store.open(out) as store:
            return {row.id: (row.fun, row.about["started"], row.seconds) for row in store.runs(status="done")}
    except ExperimentError:
        return {}


def _optuna(out):
    """Optuna's own view of the folder."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{out / 'tuning.sqlite'}")
    names = optuna.get_all_study_names(storage)
    found = {name: optuna.load_study(study_name=name, storage=storage).trials for name in names}
    storage.engine.dispose()
    return found


class TestFaults:
    @pytest.mark.parametrize(("arguments", "said"), [
        (["--method", "adm"], "unknown method 'adm'; did you mean 'adam'?"),
        (["--problem", "bowls"], "unknown problem 'bowls'; did you mean 'bowl'? valid: bowl"),
        (["--method", "lbfgs"], "nothing of method 'lbfgs' is tuned unless the file says what"),
        (["--method", "lookahead"], "Lookahead() missing 1 required positional argument: 'opt'"),
        (["--pruner", "mean"], "unknown pruner 'mean'; did you mean 'median'? valid: hyperband, median, none"),
    ])  # fmt: skip
    def test_names(self, tmp_path, arguments, said):
        file = written(tmp_path, BOWL)
        result = CliRunner().invoke(cli.app, ["tune", str(file), "--out", str(tmp_path / "out"), *arguments])
        assert result.exit_code == 2
        assert said in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(("entry", "said"), [
        ("lr = { low = -1.0, high = 1.0 }", r"methods.gd: SGD\(lr=-1.0\): lr must be in \[0, inf\)"),
        ("lr = { low = 0.0, high = 1.0, scale = 'log' }", "low < high, both positive"),
        ("lr = { low = 0.1, high = 1.0, scale = 'log1m' }", "low < high, both below 1"),
        ("lr = { schedule = 'cosine', steps = { choice = [10, -10] } }", r"steps must be in \[1, inf\)"),
        ("rate = { low = 0.1, high = 1.0 }", "unknown key 'methods.gd.rate'; did you mean 'lr'"),
    ])  # fmt: skip
    def test_spaces(self, tmp_path, entry, said):
        file = written(tmp_path, BOWL.replace('"gd" }', f'"gd", {entry} }}'))
        with pytest.raises(ExperimentError, match=f"e.toml: .*{said}"):
            tune(file, tmp_path / "out", show=Quiet)

    def test_optuna_is_missing(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "optuna", None)
        result = CliRunner().invoke(cli.app, ["tune", str(written(tmp_path, BOWL)), "--method", "adam"])
        assert result.exit_code == 2
        assert result.stderr == "numbaopt: numbaopt tune needs optuna: pip install 'numbaopt[tune]'\n"

    def test_folders_that_cannot_be_used(self, tmp_path):
        file, out = written(tmp_path, BOWL), tmp_path / "out"
        tune(file, out, effort=Effort(trials=1), show=Quiet)
        other = file.rename(tmp_path / "other.toml")
        with pytest.raises(ExperimentError, match=r"holds another study, 'Bowl' of e.toml; choose another --out"):
            tune(other, out, show=Quiet)
        other.rename(file)
        (out / "tuning.sqlite").write_bytes(b"not a database, " * 100)
        with pytest.raises(ExperimentError, match=r"tuning.sqlite: file is not a database"):
            tune(file, out, show=Quiet)
        (out / "tuning.sqlite").unlink()
        (out / "tuning.sqlite").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ExperimentError, match=r"tuning.sqlite is a symbolic link"):
            tune(file, out, show=Quiet)
        assert not (tmp_path / "elsewhere").exists()

    def test_signals_say_how_to_go_on(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Here, "submit", lambda *arguments: signal.raise_signal(signal.SIGTERM))
        arguments = ["tune", str(written(tmp_path, BOWL)), "--out", str(tmp_path / "out"), "--quiet"]
        result = CliRunner().invoke(cli.app, arguments)
        assert result.exit_code == 128 + signal.SIGTERM
        assert result.stderr == "numbaopt: interrupted; what is done is kept, go on with: the same command\n"


class TestShown:
    def test_a_line_to_paste_and_a_report(self, bowl, tmp_path):
        file = written(tmp_path, BOWL)
        arguments = ["tune", str(file), "--out", str(tmp_path / "out"), "--trials", "2"]
        result = CliRunner().invoke(cli.app, arguments)
        assert result.exit_code == 0, result.stderr
        assert "\n# gd on bowl: 2 trials (2 complete)\n# final objective " in result.stdout
        assert tomllib.loads(result.stdout.partition("before\n")[2].partition("\n\n")[0])["methods"]["gd"]["lr"] > 0
        page = (tmp_path / "out" / "report.html").read_text("utf-8")
        assert "numbaopt tune e.toml --trials 2" in page
        result = CliRunner().invoke(cli.app, [*arguments, "--json"])
        assert '"toml": "gd = { method' in result.stdout.splitlines()[-1]

    def test_rates_that_were_drawn(self, bowl):
        folder, tuned = bowl
        with Store.open(folder / "out") as store:
            study = Study(store, tuning.build)
        (problem,) = study.problems
        curve = rates.rates_of(problem, "gd")
        assert len(curve.tried) == 20
        assert curve.tried[:, 2].sum() == tuned.trials["pruned"]
        assert curve.best == (tuned.settings["lr"], pytest.approx(tuned.value, rel=1e-6))
        assert 3 < len(curve.at) < 12
        assert curve.counts.sum() == 20
        sound = ~curve.tried[:, 2].astype(bool)
        assert curve.levels[1].min() >= curve.tried[sound, 1].min()
        assert "each dot is a setting" in report(folder / "out").read_text("utf-8")


def test_optuna_keeps_its_voice(tmp_path):
    before = optuna.logging.get_verbosity()
    tune(written(tmp_path, BOWL), tmp_path / "out", effort=Effort(trials=1), show=Quiet)
    assert optuna.logging.get_verbosity() == before


def test_looks_at_every_few_steps():
    seen = []

    class Look:
        every = 7

        def __call__(self, intermediate_result):
            seen.append(intermediate_result.nit)

    told = no.minimize(lambda x: (x**2).sum(), np.ones(2), method="sgd", jac=lambda x: 2 * x, callback=Look(),
                       options={"lr": 0.01, "maxiter": 30})  # fmt: skip
    plain = no.minimize(lambda x: (x**2).sum(), np.ones(2), method="sgd", jac=lambda x: 2 * x,
                        options={"lr": 0.01, "maxiter": 30})  # fmt: skip
    assert seen == [7, 14, 21, 28]
    np.testing.assert_array_equal(told.x, plain.x)
    Look.every = 0
    with pytest.raises(ValueError, match=r"callback.every"):
        no.minimize(lambda x: (x**2).sum(), np.ones(2), method="sgd", jac=lambda x: 2 * x, callback=Look())
