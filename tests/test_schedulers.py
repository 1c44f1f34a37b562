"""Studies on processes and clusters: the same answers, whoever dies meanwhile."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from files import written
from process import environment
from test_runner import SLOW, STUDY, table

from numbaopt.experiments import Effort, ExperimentError, How, Store, load, run, schedulers, tune
from numbaopt.experiments.execute import execute
from numbaopt.experiments.progress import Quiet

pytestmark = pytest.mark.process


@pytest.fixture
def cluster(tmp_path):
    """The address of a Dask scheduler on loopback, and its two workers."""
    pytest.importorskip("distributed")
    place = tmp_path / "scheduler.json"

    def dask(*arguments):
        command = [sys.executable, "-m", "dask", *arguments, "--scheduler-file", str(place), "--no-dashboard"]
        return subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    processes = [dask("scheduler", "--host", "127.0.0.1", "--port", "0")]
    try:
        until(place.exists)
        processes += [dask("worker", "--no-nanny", "--nthreads", "1", "--local-directory", str(tmp_path / f"worker{k}"))
                      for k in range(2)]  # fmt: skip
        yield json.loads(place.read_text())["address"], processes[1:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def until(condition, seconds=60):
    """Wait until it holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_cluster_finds_what_one_process_finds_though_a_worker_dies(cluster, tmp_path):
    address, workers = cluster
    study = load(written(tmp_path, SLOW.format(seeds=8, epochs=60)))
    run(study, tmp_path / "serial", How(jobs=1), Quiet)
    busy = []

    class Killer(Quiet):
        def finished(self, rows):
            busy.extend(row.about["host"] for row in rows)
            if len(busy) == 2:
                workers[0].send_signal(signal.SIGKILL)

    counts = run(study, tmp_path / "out", How(scheduler=address), Killer)
    assert counts == {"waiting": 0, "running": 0, "done": 8, "failed": 0}
    assert workers[0].wait(10) == -signal.SIGKILL
    assert len(busy) == 8
    assert table(tmp_path / "out") == table(tmp_path / "serial")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_cluster_tunes_though_a_worker_dies(cluster, tmp_path):
    pytest.importorskip("optuna")
    address, workers = cluster
    file = written(tmp_path, "seeds = 2\n[methods]\ngd = { method = 'gd', lr = { low = 0.01, high = 1, scale = 'log' } "
                             "}\n[problems.bowl]\nproblem = 'quadratic'\nstart = 'random'\nmaxiter = 50")  # fmt: skip
    ended = []

    class Killer(Quiet):
        def finished(self, rows):
            ended.extend(rows)
            if len(ended) == 4:
                workers[0].send_signal(signal.SIGKILL)

    (tuned,) = tune(file, tmp_path / "out", effort=Effort(trials=12, scheduler=address), show=Killer)
    assert workers[0].wait(10) == -signal.SIGKILL
    assert sum(tuned.trials.values()) == 12
    assert tuned.trials["failed"] == 0
    with Store.open(tmp_path / "out") as store:
        rows = store.runs()
        assert store.counts() == {"waiting": 0, "running": 0, "done": len(ended), "failed": 0}
    for row, (_, outcome) in zip(rows, execute([row.job for row in rows]), strict=True):
        assert (row.fun, row.nit) == (outcome.fun, outcome.nit)
    assert not any(row.pruned for row in rows)  # no worker elsewhere can see optuna's storage


def test_no_scheduler(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(schedulers, "PATIENCE_SECONDS", 0.2)
    study = load(written(tmp_path, STUDY))
    with pytest.raises(ExperimentError, match=r"--scheduler tcp://127.0.0.1:1: Timed out"):
        run(study, tmp_path / "out", How(scheduler="tcp://127.0.0.1:1"), Quiet)
    with Store.open(tmp_path / "out") as store:
        assert store.counts()["waiting"] == len(study.jobs)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ExperimentError, match=r"needs dask and distributed: pip install 'numbaopt\[dask\]'"):
        run(study, tmp_path / "out", How(scheduler="local"), Quiet)


def test_workers_end_with_their_parent(tmp_path):
    file = written(tmp_path, SLOW.format(seeds=2, epochs=1_000_000))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "numbaopt", "run", str(file), "--out", str(out), "--quiet", "--jobs", "2"]
    process = subprocess.Popen(command, env=environment(), start_new_session=True)
    try:
        until(lambda: (out / "checkpoints").is_dir() and len(list((out / "checkpoints").glob("*.npz"))) == 2)
        process.kill()
        process.wait()
        until(lambda: not alive(process.pid))
    finally:
        if alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def alive(group):
    """Whether a process of a group lives."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    state, _, of = file.read().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(of) == group and state != "Z":
                return True
    return False
