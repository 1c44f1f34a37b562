"""Studies are run once, wherever and however often they are interrupted."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from files import files_up_to, written
from process import start
from typer.testing import CliRunner

from numbaopt import cli, minimize
from numbaopt.experiments import ExperimentError, How, Store, build, execute, load, machine, resume, run, runner
from numbaopt.experiments.lock import Lock
from numbaopt.experiments.progress import Quiet, Tables
from numbaopt.experiments.schedulers import Here

STUDY = """
title = "Many"
seeds = 3
[methods]
gd = { method = "gd", lr = [1e-4, 1e-3, 1.0] }
Adam = { method = "adam", lr = { log = [1e-3, 1e-1, 4] } }
[problems.valley]
problem = "rosenbrock"
maxiter = 60
[problems.line]
problem = "tutorial_regression"
epochs = 4
batch_size = 20
methods = { Adam = {} }
[problems.aimed]
problem = "saddle"
maxiter = 60
methods = { Adam = { target = -0.1 } }
"""
PLUGIN = """
import os, signal, time
import numba, numpy as np
from numbaopt.experiments import function

@function(start=[1.0, 1.0])
@numba.njit
def pail(x):
    return (x ** 2).sum()

"""
SAME = ("id", "status", "problem", "method", "settings", "seed", "fun", "nit", "nfev", "code", "message", "metrics",
        "error")  # fmt: skip


def table(folder):
    """What a study found, without times and machines."""
    with Store.open(folder) as store:
        rows = {row.id: [getattr(row, name) for name in SAME] for row in store.runs()}
        curves = {name: {column: values.tobytes() for column, values in store.curve(name).items()
                         if column != "seconds"} for name in rows}  # fmt: skip
    return rows, curves


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return load(written(tmp_path_factory.mktemp("study"), STUDY))


@pytest.fixture(scope="module")
def serial(study, tmp_path_factory):
    """The table of the study, run in one go in this process."""
    folder = tmp_path_factory.mktemp("serial") / "out"
    run(study, folder, How(jobs=1), Quiet)
    return table(folder)


@pytest.fixture
def plugged(tmp_path):
    """A study whose problem is a user's own code."""

    def make(code, text, **options):
        plugin = tmp_path / "mine.py"
        plugin.write_text(code)
        return load(written(tmp_path, text), plugins=[plugin], **options)

    return make


class TestExecute:
    def test_runs_of_one_call_are_those_made_alone(self, study):
        together = dict(execute.execute(study.jobs))
        for job in study.jobs[::5]:
            (_, alone), = execute.execute([job])
            one = together[job.id]
            np.testing.assert_equal([one.fun, one.x, one.nit, one.code], [alone.fun, alone.x, alone.nit, alone.code])
            for name in set(one.curve) - {"seconds"}:
                np.testing.assert_array_equal(one.curve[name], alone.curve[name])
        batched = {job.id for job in study.jobs if together[job.id].about.get("batched", 1) > 1}
        assert {job.problem for job in study.jobs if job.id in batched} == {"valley", "aimed"}

    def test_outcomes_are_what_minimize_finds(self, study):
        for job in study.jobs[::4]:
            (_, outcome), = execute.execute([job])
            made = build(job.spec)
            result = minimize(made.task.fun, made.task.x0, jac=made.task.jac, method=made.method,
                              options=made.options)  # fmt: skip
            np.testing.assert_array_equal(outcome.x, result.x)
            assert (outcome.fun, outcome.nit, outcome.code) == (result.fun, result.nit, result.status)
            np.testing.assert_array_equal(outcome.curve["fun"], result.history.fun)
            path = np.column_stack([outcome.curve["x1"], outcome.curve["x2"]])
            np.testing.assert_allclose([made.task.value(x) for x in path], result.history.fun, rtol=1e-9, atol=1e-12)
            assert (np.diff(outcome.curve["nfev"]) > 0).all()
            assert outcome.about["numba"]
            assert outcome.about["threads"] >= 1

    def test_long_runs_are_told_as_exactly_as_short_ones(self, tmp_path):
        text = "[methods]\ngd = {{ method = 'gd', lr = 1e-3 }}\n[problems.p]\nproblem = 'rosenbrock'\nmaxiter = {}"
        jobs = [load(written(tmp_path, text.format(n))).jobs[0] for n in (1000, 15_000)]
        made = build(jobs[1].spec)
        every = minimize(made.task.fun, made.task.x0, jac=made.task.jac, method=made.method,
                         options={**made.options, "history": 20_000}).history.fun  # fmt: skip
        assert len(every) == 15_001
        for job in jobs:
            ((_, outcome),) = execute.execute([job])
            step, fun = outcome.curve["step"], outcome.curve["fun"]
            assert len(step) < 600
            np.testing.assert_array_equal(fun, every[step.astype(int)])
            for left in np.geomspace(0.9, 1e-8, 50):
                target = fun[-1] + left * (fun[0] - fun[-1])
                first = np.argmax(every <= target)
                assert first <= step[fun <= target][0] <= first * (1 + 1 / 80)

    def test_budgets_are_told(self, study):
        job = next(job for job in study.jobs if job.problem == "aimed" and job.settings["lr"] == 0.1)
        (_, outcome), = execute.execute([job])
        assert outcome.message.startswith("The target was reached")
        assert outcome.fun <= -0.1 < outcome.curve["fun"][-2]

    def test_an_exception_is_a_run_that_failed(self, plugged):
        code = PLUGIN + ("@function(start=[0.0, 0.0])\n@numba.njit\ndef bad(x):\n    if x[0] > 3:\n"
                         "        raise ValueError('beyond')\n    return -x[0]\n")  # fmt: skip
        jobs = plugged(code, "[methods]\ngd = { method = 'gd', lr = [1e-9, 1.0] }\n[problems.p]\nproblem = 'bad'\n"
                             "start = [0.0, 0.0]\nmaxiter = 20").jobs  # fmt: skip
        (_, fine), (_, failed) = execute.execute(jobs)
        assert (fine.status, failed.status) == ("done", "failed")
        assert "ValueError: beyond" in failed.error
        assert failed.error.startswith("Traceback")

    def test_long_runs_go_on_from_their_checkpoints(self, tmp_path, monkeypatch):
        text = "[methods]\nAdam = { method = 'adam', lr = 0.01 }\n[problems.p]\nproblem = 'tutorial_regression'\n" \
               "epochs = 400\nbatch_size = 5"  # fmt: skip
        (job,) = load(written(tmp_path, text)).jobs
        (_, whole), = execute.execute([job])
        (tmp_path / execute.CHECKPOINTS).mkdir()
        place = execute.Place(str(tmp_path), long=frozenset([job.id]))

        def interrupt(intermediate_result):
            if intermediate_result.epoch == 100:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            execute.execute([job], place, lambda job, built: interrupt)
        saved = tmp_path / execute.CHECKPOINTS / f"{job.id}.npz"
        assert saved.exists()
        taken = []
        monkeypatch.setattr(execute, "resume", lambda *args, **more: taken.append(args) or _resume(*args, **more))
        (_, rest), = execute.execute([job], place)
        assert len(taken) == 1
        np.testing.assert_array_equal(rest.x, whole.x)
        np.testing.assert_array_equal(rest.curve["fun"], whole.curve["fun"])
        saved.write_bytes(b"damaged")
        (_, anew), = execute.execute([job], place)
        np.testing.assert_array_equal(anew.x, whole.x)

    def test_a_checkpoint_that_cannot_be_written_ends_the_study_not_the_run(self, study, tmp_path, monkeypatch):
        monkeypatch.setattr(execute, "LONG_SECONDS", 0.0)
        (tmp_path / execute.CHECKPOINTS).mkdir()
        job = next(job for job in study.jobs if job.problem == "line")
        with files_up_to(100), pytest.raises(ExperimentError, match="file too large"):
            execute.execute([job], execute.Place(str(tmp_path)))

    def test_times_are_medians_of_rounds(self, study):
        jobs = [job for job in study.jobs if job.seed == 0][:4]
        outcomes = dict(execute.timed(jobs))
        assert list(outcomes) == [job.id for job in jobs]
        assert {outcome.about["rounds"] for outcome in outcomes.values()} == {3}
        assert all("batched" not in outcome.about for outcome in outcomes.values())
        for name, outcome in execute.execute(jobs):
            np.testing.assert_equal(outcomes[name].fun, outcome.fun)

    def test_a_round_that_failed_is_told(self, study, monkeypatch):
        real, tries = execute._attempt, []

        def attempt(job, place):
            tries.append(job)
            return execute.Outcome("failed", error="ValueError") if len(tries) == 2 else real(job, place)

        monkeypatch.setattr(execute, "_attempt", attempt)
        ((_, outcome),) = execute.timed(study.jobs[:1])
        assert (outcome.status, outcome.error, len(tries)) == ("failed", "ValueError", 3)


_resume = execute.resume


class TestRun:
    def test_processes_find_what_one_finds(self, study, serial, tmp_path):
        counts = run(study, tmp_path / "out", How(jobs=2), Quiet)
        assert counts["done"] == len(study.jobs)
        assert table(tmp_path / "out") == serial
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["study.lock", "study.sqlite"]

    def test_what_is_done_is_not_done_again(self, study, serial, tmp_path, monkeypatch):
        out, made = tmp_path / "out", []
        with Store.create(out, _header(study), study.jobs) as store:
            for name, outcome in execute.execute(study.jobs[:10]):
                store.record(name, outcome)
            before = {row.id: row.about["started"] for row in store.runs(status="done")}
            store.start([study.jobs[12].id])
        real = runner.execute
        monkeypatch.setattr(runner, "execute", lambda jobs, place: made.extend(jobs) or real(jobs, place))
        resume(out, How(jobs=1), Quiet)
        assert sorted(job.id for job in made) == sorted(job.id for job in study.jobs[10:])
        assert table(out) == serial
        with Store.open(out) as store:
            assert before.items() <= {row.id: row.about["started"] for row in store.runs()}.items()

    def test_only_runs_that_wait_are_estimated(self, study, tmp_path, monkeypatch):
        asked, real = [], runner.seconds_of
        Store.create(tmp_path / "out", _header(study), study.jobs).close()
        with Store.open(tmp_path / "out", write=True) as store:
            for name, outcome in execute.execute(study.jobs[:-1]):
                store.record(name, outcome)
        monkeypatch.setattr(runner, "seconds_of", lambda job: asked.append(job) or real(job))
        run(study, tmp_path / "out", How(jobs=1), Quiet)
        assert asked == study.jobs[-1:]

    def test_a_study_grows_and_keeps_what_it_has(self, tmp_path):
        text = "[methods]\ngd = { method = 'gd', lr = [0.1] }\n[problems.p]\nproblem = 'saddle'\nmaxiter = 5"
        out = tmp_path / "out"
        assert run(load(written(tmp_path, text)), out, show=Quiet)["done"] == 1
        assert run(load(written(tmp_path, text.replace("[0.1]", "[0.1, 0.2]"))), out, show=Quiet)["done"] == 2
        more = text.replace("[0.1]", "[0.1, 0.3]") + "\n[problems.q]\nproblem = 'saddle'\nmaxiter = "
        assert run(load(written(tmp_path, more + "5")), out, show=Quiet)["done"] == 5
        with pytest.raises(ExperimentError, match="holds runs of 'gd' on 'q' from before the file was changed; choose"):
            run(load(written(tmp_path, more + "6")), out, show=Quiet)
        with pytest.raises(ExperimentError, match="holds another study"):
            run(load(written(tmp_path, text.replace("[0.1]", "[0.4]"))), out, show=Quiet)

    def test_tables_have_a_row_for_each_setting(self, study, tmp_path):
        lines = []
        run(study, tmp_path / "out", How(jobs=1), lambda store: Tables(store, lines.append))
        assert lines[0].startswith(f"Many: {len(study.jobs)} runs, at most about ")
        adam = next(line.split() for line in lines if line.startswith("  Adam (lr = 0.1)"))
        with Store.open(tmp_path / "out") as store:
            rows = [row for row in store.runs(problem="valley", method="Adam") if row.settings["lr"] == 0.1]
        assert adam[6] == f"{np.median([row.fun for row in rows]):.6g}"
        at = next(k for k, line in enumerate(lines) if line.startswith("[line]"))
        assert lines[at + 1].split() == ["method", "objective", "runs", "epochs", "ms/epoch"]
        assert lines[at + 3].split()[5] == "3"  # Adam (lr 0.001), of three seeds

    def test_failed_runs_are_made_again_when_asked(self, plugged, tmp_path):
        code = PLUGIN + ("@function(start=[1.0, 1.0])\ndef later(x):\n    assert os.path.exists(FLAG)\n"
                         "    return float(x @ x)\n")  # fmt: skip
        code = code.replace("FLAG", repr(str(tmp_path / "flag")))
        study = plugged(code, "[methods]\ngd = { method = 'gd', lr = 0.1 }\n[problems.p]\nproblem = 'later'\n"
                              "start = [1.0, 1.0]\nmaxiter = 2")  # fmt: skip
        assert run(study, tmp_path / "out", show=Quiet)["failed"] == 1
        (tmp_path / "flag").touch()
        with pytest.raises(ExperimentError, match=r"its code is in .*mine\.py, which is only run where it is named"):
            resume(tmp_path / "out", How(retry=True), Quiet)  # the folder may be anyone's
        mine = [tmp_path / "mine.py"]
        assert resume(tmp_path / "out", show=Quiet, plugins=mine)["failed"] == 1
        assert resume(tmp_path / "out", How(retry=True), Quiet, mine)["done"] == 1

    def test_a_folder_of_others_runs_no_code_of_theirs(self, tmp_path):
        """Neither a plugin that only a finished run names, nor what the settings of a git folder name."""
        ran, repository = tmp_path / "ran", tmp_path / "repository"
        (plugin := tmp_path / "theirs.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
        subprocess.run(["git", "init", "-q", str(repository)], check=True)
        git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
        subprocess.run([*git, "config", "core.fsmonitor", f"touch '{ran}'; false"], check=True)
        text = "[methods]\ngd = { method = 'gd', lr = [0.1, 0.2] }\n[problems.p]\nproblem = 'saddle'\nmaxiter = 5"
        study = load(written(repository, text))
        one, two = study.jobs
        places = {**one.spec["places"], "plugins": [str(plugin)]}
        theirs = one._replace(spec={**one.spec, "seed": 7, "places": places}, seed=7)
        with Store.create(tmp_path / "out", _header(study), [theirs, two]) as store:
            store.record(theirs.id, execute.Outcome("done", fun=1.0))
        with pytest.raises(ExperimentError, match=r"its code is in .*theirs\.py, which is only run where it is named"):
            resume(tmp_path / "out", How(jobs=1), lambda store: Tables(store, str))
        with pytest.raises(ExperimentError, match=r"its code is in .*theirs\.py, which is only run where it is named"):
            run(load(written(tmp_path, text)), tmp_path / "out", How(jobs=1), lambda store: Tables(store, str))
        assert not ran.exists()
        Store.create(tmp_path / "other", _header(study)._replace(commit="abc"), study.jobs).close()
        assert resume(tmp_path / "other", How(jobs=1), Quiet)["done"] == 2
        assert not ran.exists()
        with Store.open(tmp_path / "other") as store:
            assert {row.about["commit"] for row in store.runs()} == {"abc"}

    @pytest.mark.process
    def test_a_process_that_dies_fails_its_run_and_no_other(self, plugged, tmp_path):
        code = PLUGIN + ("@function(start=[2.0, 1.0])\ndef deadly(x):\n    if x[0] == 2.0:\n"
                         "        os.kill(os.getpid(), signal.SIGKILL)\n    return float(x @ x)\n")  # fmt: skip
        study = plugged(code, """
            [methods]
            gd = { method = 'gd', lr = [0.1, 0.2, 0.3] }
            [problems.good]
            problem = "pail"
            start = [1.0, 1.0]
            maxiter = 5
            [problems.bad]
            problem = 'deadly'
            start = [2.0, 1.0]
            maxiter = 2
            methods = { gd = { lr = 0.1 } }
        """)  # fmt: skip
        # the problem kills whoever evaluates it: the client must not, so it asks no process for an estimate
        store = Store.create(tmp_path / "out", _header(study), study.jobs)
        with Lock(tmp_path / "out"), store:
            counts = runner._go(store, tmp_path / "out", How(jobs=2), Quiet(store), {}, "")
            (bad,) = store.runs(problem="bad")
        assert counts == {"waiting": 0, "running": 0, "done": 3, "failed": 1}
        assert bad.error.startswith("The process that made this run ended before it did")

    def test_a_full_disk_ends_the_study_and_harms_nothing(self, study, tmp_path):
        out = tmp_path / "out"
        run(load(written(tmp_path, STUDY.replace("seeds = 3", "seeds = 1"))), out, How(jobs=1), Quiet)
        before = table(out)
        size = (out / "study.sqlite").stat().st_size
        with files_up_to(size + 4096), pytest.raises(ExperimentError, match=r"study.sqlite: (disk I/O error|.* full)"):
            run(study, out, How(jobs=1), Quiet)
        after = table(out)
        assert before[0].items() <= after[0].items()
        assert resume(out, How(jobs=1), Quiet)["waiting"] == 0

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_signals_keep_what_is_done(self, study, serial, tmp_path, monkeypatch, number):
        real, calls = Here.submit, []

        def submit(self, function, *arguments):
            calls.append(arguments)
            if len(calls) == 3:
                signal.raise_signal(number)
            return real(self, function, *arguments)

        monkeypatch.setattr(Here, "submit", submit)
        out, file = tmp_path / "out", written(tmp_path, STUDY)
        result = CliRunner().invoke(cli.app, ["run", str(file), "--out", str(out), "--jobs", "1", "--quiet"])
        assert result.exit_code == 128 + number
        assert result.stderr == f"numbaopt: interrupted; what is done is kept, go on with: numbaopt resume {out}\n"
        with Store.open(out) as store:
            assert store.counts()["done"] > 0
            assert store.counts()["running"] == 0
        assert CliRunner().invoke(cli.app, ["resume", str(out), "--jobs", "1"]).exit_code == 0
        assert table(out) == serial

    def test_two_runners_in_one_folder(self, study, tmp_path):
        out = tmp_path / "out"
        out.mkdir()
        with Lock(out), pytest.raises(ExperimentError, match=f"is held by process {os.getpid()} on"):
            run(study, out, show=Quiet)
        assert [path.name for path in out.iterdir()] == ["study.lock"]


class TestMachine:
    @pytest.mark.parametrize(("load", "own", "share", "timed"), [
        (0.1, 1, 1, True), (3.9, 4, 1, True), (3.9, 1, 1, True), (5.1, 1, 1, False), (0.0, 8, 1, False),
        (0.1, 1, 5, False)])  # fmt: skip
    def test_times_under_load_are_marked(self, monkeypatch, load, own, share, timed):
        monkeypatch.setattr(machine, "load_average", lambda: load)
        monkeypatch.setattr(machine, "available_cores", lambda: 4)
        about = machine.about(own, share)
        assert (about["timed"], about["load"], about["processes"]) == (timed, load, own)
        assert about.get("batched", 1) == share
        assert {"numbaopt", "numba", "numpy", "scipy", "python", "cpu", "threads", "started"} <= set(about)

    def test_the_commit_of_a_folder(self, tmp_path):
        assert machine.commit(str(tmp_path)) == ""
        git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run([*git, "init", "-q"], check=True)
        (tmp_path / "file").write_text("1")
        subprocess.run([*git, "add", "file"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
        machine.commit.cache_clear()
        name = machine.commit(str(tmp_path))
        assert len(name) == 40
        (tmp_path / "file").write_text("2")
        machine.commit.cache_clear()
        assert machine.commit(str(tmp_path)) == name + "+"


class TestLock:
    def test_a_dead_holder_holds_nothing(self, tmp_path):
        told = {"pid": 2**22 + 1, "host": os.uname().nodename, "since": "2026-01-01T00:00:00+00:00"}
        (tmp_path / "study.lock").write_text(json.dumps(told))
        with Lock(tmp_path):
            assert json.loads((tmp_path / "study.lock").read_text())["pid"] == os.getpid()
        assert (tmp_path / "study.lock").read_text() == ""

    def test_a_holder_on_another_machine_is_believed(self, tmp_path):
        (tmp_path / "study.lock").write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
        with pytest.raises(ExperimentError, match="held by process 1 on elsewhere; wait for it, or, if it no longer"), \
                Lock(tmp_path):  # fmt: skip
            pass
        for nothing in ("", "{", "[]", "\xff"):
            (tmp_path / "study.lock").write_text(nothing)
            with Lock(tmp_path):
                pass

    def test_places_that_are_no_lock(self, tmp_path):
        (tmp_path / "elsewhere").write_text("precious")
        (tmp_path / "study.lock").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ExperimentError, match="symbolic link"), Lock(tmp_path):
            pass
        assert (tmp_path / "elsewhere").read_text() == "precious"
        with pytest.raises(ExperimentError, match="no such file"), Lock(tmp_path / "none"):
            pass

    @pytest.mark.process
    def test_kill_releases_it(self, tmp_path):
        code = """
            import sys, time
            from numbaopt.experiments.lock import Lock
            with Lock(sys.argv[1]):
                print("held", flush=True)
                time.sleep(600)
        """
        process = start(code, tmp_path)
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ExperimentError, match=f"is held by process {process.pid} on"), Lock(tmp_path):
            pass
        process.kill()
        process.communicate()
        with Lock(tmp_path):
            pass


def kill_and_resume(folder, file, times, rng):
    """Run a study, killed with all its processes up to so many times; what was done at each kill, and how often."""
    out, kills, done = folder / "out", 0, {}
    command = [sys.executable, "-m", "numbaopt", "run", str(file), "--out", str(out), "--quiet", "--jobs", "1"]
    while True:
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)
        if kills < times:
            began, patience = time.monotonic(), rng.uniform(0, 5) if rng.random() < 0.2 else 60.0
            while process.poll() is None and not _progressed(out, done) and time.monotonic() < began + patience:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.05))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
        _, errors = process.communicate(timeout=120)
        if out.exists() and (out / "study.sqlite").exists():
            with Store.open(out) as store:
                now = {row.id: (row.fun, row.about["started"], row.seconds) for row in store.runs(status="done")}
            assert done.items() <= now.items(), "a finished run was lost or made twice"
            done = now
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, errors
            return done, kills


def _progressed(out, done):
    """Whether a run was stored since then."""
    try:
        with Store.open(out) as store:
            return store.counts()["done"] > len(done)
    except ExperimentError:
        return False


SLOW = """
title = "Slow"
seeds = {seeds}
[methods]
SGD = {{ method = "sgd", lr = 0.1 }}
[problems.line]
problem = "tutorial_regression"
n = 2000
epochs = {epochs}
batch_size = 1
"""


@pytest.mark.process
def test_kill_9_loses_no_finished_run_and_repeats_none(tmp_path):
    times = int(os.environ.get("NUMBAOPT_KILLS", "3"))
    file = written(tmp_path, SLOW.format(seeds=8 * times, epochs=20))
    run(load(file), tmp_path / "whole", How(jobs=1), Quiet)
    done, kills = kill_and_resume(tmp_path, file, times, np.random.default_rng(0))
    assert kills == times
    assert len(done) == 8 * times
    assert table(tmp_path / "out") == table(tmp_path / "whole")


def _header(study):
    from numbaopt.experiments.rows import Header

    return Header(study.title, study.file.name, study.file.read_text(), tuple(trial.name for trial in study.trials),
                  tuple(dict.fromkeys(job.method for job in study.jobs)))  # fmt: skip
