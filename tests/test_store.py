"""The store of a study: runs are in it whole or not at all, whoever reads, and whatever becomes of the disk."""

import errno
import os
import sqlite3

import numpy as np
import pytest
from files import files_up_to

from numbaopt.experiments import ExperimentError
from numbaopt.experiments.jobs import Job, Outcome
from numbaopt.experiments.rows import Header
from numbaopt.experiments.store import FILE, Store

HEADER = Header("Small", "small.toml", 'title = "Small"', ("valley", "line"), ("Adam", "gd"))
JOBS = [Job(problem, method, {"lr": lr}, seed, {"problem": problem, "method": method, "lr": lr})
        for problem in HEADER.problems for method in HEADER.methods
        for lr in (0.1, 0.01) for seed in (0, 1)]  # fmt: skip
DONE = Outcome("done", fun=0.5, x=np.array([1.0, -2.0]), code=1, message="Enough.", nit=7, nfev=8, epochs=2.5,
               seconds=0.25, metrics={"accuracy": 0.75},
               curve={"step": np.arange(3), "fun": np.array([9.0, np.nan, np.inf])}, about={"numba": "1.0"})
FAILED = Outcome("failed", error="Traceback\nValueError: no")
not_as_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path / "out", HEADER, JOBS) as made:
        yield made


def equal(row, job, outcome):
    """Whether a row tells all of a job and its outcome."""
    told = {**job._asdict(), **outcome._asdict()}
    for name in row._fields[1:]:
        np.testing.assert_equal(getattr(row, name), told[name])
    return row.id == job.id


class TestStore:
    def test_all_comes_back(self, store, tmp_path):
        assert [row.job for row in store.runs()] == JOBS
        assert store.waiting() == JOBS
        store.record(JOBS[3].id, DONE)
        store.record(JOBS[5].id, FAILED)
        with Store.open(tmp_path / "out") as other:  # while the first is open, and before it is closed
            assert other.header == HEADER
            assert equal(other.run(JOBS[3].id), JOBS[3], DONE)
            assert equal(other.run(JOBS[5].id), JOBS[5], FAILED)
            waits = other.run(JOBS[0].id)
            assert (waits.status, waits.x, waits.code, waits.metrics, waits.error) == ("waiting", None, -1, {}, "")
            assert np.isnan([waits.fun, waits.epochs, waits.seconds]).all()
            np.testing.assert_equal(other.curve(JOBS[3].id), {name: np.asarray(column, float)
                                                              for name, column in DONE.curve.items()})  # fmt: skip
            assert other.curve(JOBS[5].id) == {}
            assert other.waiting() == [job for k, job in enumerate(JOBS) if k not in (3, 5)]
            assert other.counts() == {"waiting": 14, "running": 0, "done": 1, "failed": 1}

    def test_runs_are_chosen_by_values(self, store):
        store.record(JOBS[3].id, DONE)
        assert [row.id for row in store.runs(status="done")] == [JOBS[3].id]
        assert [row.job for row in store.runs(problem="line", method=["Adam"], seed=1)] == [JOBS[9], JOBS[11]]
        assert store.runs(problem="line'; DROP TABLE runs; --") == []
        with pytest.raises(TypeError, match="not by 'sed'"):
            store.runs(sed=1)

    def test_a_run_is_named_by_the_beginning_of_its_id(self, store):
        name = JOBS[2].id
        length = next(k for k in range(17) if sum(job.id.startswith(name[:k]) for job in JOBS) == 1)
        assert store.run(name[:length]).job == JOBS[2]
        for prefix, what in (("", "several"), ("%", "no run"), ("xyz", "no run"), (name + "0", "no run")):
            with pytest.raises(ExperimentError, match=f"{what}.* begin"):
                store.run(prefix)

    def test_what_is_stored_is_not_stored_twice(self, store):
        store.record(JOBS[0].id, DONE)
        with pytest.raises(ExperimentError, match="is done already"):
            store.record(JOBS[0].id, FAILED)
        with pytest.raises(ExperimentError, match="is not in it"):
            store.record("0" * 16, DONE)
        assert equal(store.run(JOBS[0].id), JOBS[0], DONE)
        assert store.add(JOBS) == 0
        assert store.add([JOBS[0]._replace(seed=9), *JOBS]) == 1
        assert store.runs()[-1].seed == 9

    def test_running_runs_wait_again_when_released(self, store):
        store.record(JOBS[1].id, FAILED._replace(curve=DONE.curve))
        store.start([JOBS[0].id, JOBS[1].id])
        assert store.counts() == {"waiting": 14, "running": 1, "done": 0, "failed": 1}
        store.release()
        assert store.counts()["waiting"] == 15
        store.release(failed=True)
        assert store.waiting() == JOBS
        assert store.run(JOBS[1].id).error == ""
        store.record(JOBS[1].id, DONE)
        assert equal(store.run(JOBS[1].id), JOBS[1], DONE)

    def test_an_edited_study_keeps_what_is_done(self, store):
        store.record(JOBS[0].id, DONE)
        new = JOBS[4]._replace(seed=5)
        assert store.declare(HEADER._replace(title="Edited"), [JOBS[1], new]) == 1
        assert [row.job for row in store.runs()] == [JOBS[0], JOBS[1], new]
        assert store.header.title == "Edited"

    def test_what_a_killed_process_left_running_is_forgotten_too(self, store):
        store.start([JOBS[0].id, JOBS[1].id])
        store.declare(HEADER, [JOBS[1]])
        assert store.waiting() == [JOBS[1]]

    def test_a_study_that_was_moved_tells_where_it_is_now(self, store):
        store.record(JOBS[0].id, DONE)
        moved = JOBS[0]._replace(spec={**JOBS[0].spec, "places": {"folder": "elsewhere"}})
        store.declare(HEADER, [moved])
        assert equal(store.run(JOBS[0].id), moved, DONE)

    def test_curves_that_are_no_table(self, store):
        for curve in ({"step": np.zeros(2), "fun": np.zeros(3)}, {"x": np.zeros((2, 2))}):
            with pytest.raises(ValueError, match=r"inhomogeneous|must be vectors"):
                store.record(JOBS[0].id, DONE._replace(curve=curve))
        assert store.waiting() == JOBS


class TestFaults:
    def test_two_studies_in_one_folder(self, store, tmp_path):
        before = (tmp_path / "out" / FILE).read_bytes()
        with pytest.raises(ExperimentError, match="already holds a study"):
            Store.create(tmp_path / "out", HEADER, JOBS[:1])
        assert (tmp_path / "out" / FILE).read_bytes() == before

    def test_file_systems_without_hard_links(self, tmp_path, monkeypatch):
        def link(*_):
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)
        with Store.create(tmp_path / "out", HEADER, JOBS) as store:
            assert store.waiting() == JOBS
        assert [path.name for path in (tmp_path / "out").iterdir()] == [FILE]
        with pytest.raises(ExperimentError, match="already holds a study"):
            Store.create(tmp_path / "out", HEADER)

        def late(*_):  # who comes first meanwhile wins
            (tmp_path / "other" / FILE).write_bytes(b"first")
            link()

        monkeypatch.setattr(os, "link", late)
        with pytest.raises(ExperimentError, match="file exists"):
            Store.create(tmp_path / "other", HEADER, JOBS)
        assert [path.read_bytes() for path in (tmp_path / "other").iterdir()] == [b"first"]

    def test_no_study(self, tmp_path):
        with pytest.raises(ExperimentError, match=r"holds no study: there is no study.sqlite"):
            Store.open(tmp_path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("what", ["text", "other", "newer"])
    def test_files_that_are_no_study(self, tmp_path, what):
        if what == "text":
            (tmp_path / FILE).write_text("no database " * 100)
        else:
            made = sqlite3.connect(tmp_path / FILE) if what == "other" else Store.create(tmp_path, HEADER).connection
            made.execute("PRAGMA user_version = 9")
            made.close()
        message = {"text": "file is not a database", "other": "not a study of", "newer": "has format 9, .* reads 1"}
        for write in (False, True):
            with pytest.raises(ExperimentError, match=message[what]):
                Store.open(tmp_path, write)

    @pytest.mark.parametrize("damage", [b"", b"nothing", "cut"])
    def test_a_damaged_curve_is_an_error_not_a_number(self, store, damage):
        store.record(JOBS[0].id, DONE)
        whole = store.connection.execute("SELECT numbers FROM curves").fetchone()["numbers"]
        store.connection.execute("UPDATE curves SET numbers = ?", [whole[:-9] if damage == "cut" else damage])
        with pytest.raises(ExperimentError, match="a curve in it is damaged"):
            store.curve(JOBS[0].id)

    @pytest.mark.parametrize("name", ["", FILE, f"{FILE}-wal", f".{FILE}.part"])
    def test_links_are_refused_and_what_they_point_to_stays(self, tmp_path, name):
        out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
        if name:
            out.mkdir()
            elsewhere.write_text("precious")
        else:
            elsewhere.mkdir()
        (out / name).symlink_to(elsewhere)
        for attempt in (lambda: Store.create(out, HEADER, JOBS), lambda: Store.open(out, write=True)):
            with pytest.raises(ExperimentError, match="is a symbolic link; name the place itself"):
                attempt()
        assert (elsewhere.read_text() == "precious") if name else (list(elsewhere.iterdir()) == [])

    def test_a_place_that_is_a_file(self, tmp_path):
        (tmp_path / "out").write_text("precious")
        for folder in (tmp_path / "out", tmp_path / "out" / "below"):
            with pytest.raises(ExperimentError, match=r"not a (folder|directory)"):
                Store.create(folder, HEADER, JOBS)

    @not_as_root
    def test_a_folder_that_cannot_be_written_can_be_read(self, tmp_path):
        Store.create(tmp_path / "out", HEADER, JOBS).close()
        (tmp_path / "out").chmod(0o500)
        try:
            with Store.open(tmp_path / "out") as store:
                assert store.waiting() == JOBS
            with pytest.raises(ExperimentError, match="permission denied"):
                Store.create(tmp_path / "out" / "new", HEADER, JOBS)
        finally:
            (tmp_path / "out").chmod(0o700)

    def test_a_full_disk_changes_nothing(self, store, tmp_path):
        store.record(JOBS[0].id, DONE)
        pages = store.connection.execute("PRAGMA page_count").fetchone()["page_count"]
        store.connection.execute(f"PRAGMA max_page_count = {pages}")
        noise = np.random.default_rng(0).random(20_000)  # not to be compressed away
        with pytest.raises(ExperimentError, match="database or disk is full"):
            store.record(JOBS[1].id, DONE._replace(curve={"fun": noise}))
        assert store.run(JOBS[1].id).status == "waiting"
        store.connection.execute("PRAGMA max_page_count = 1000000")
        store.record(JOBS[1].id, DONE._replace(curve={"fun": noise}))
        with Store.open(tmp_path / "out") as other:
            np.testing.assert_array_equal(other.curve(JOBS[1].id)["fun"], noise)
            assert equal(other.run(JOBS[0].id), JOBS[0], DONE)

    def test_files_that_may_not_grow(self, tmp_path):
        out = tmp_path / "out"
        with files_up_to(8192), pytest.raises(ExperimentError, match=r"study.sqlite: (disk I/O error|.* full)"):
            Store.create(out, HEADER, [JOBS[0]._replace(seed=seed) for seed in range(500)])
        assert list(out.iterdir()) == []
        with Store.create(out, HEADER, JOBS) as store:
            store.record(JOBS[0].id, DONE)
            with files_up_to(40_000), pytest.raises(ExperimentError, match=r"study.sqlite: (disk I/O error|.* full)"):
                store.record(JOBS[1].id, DONE._replace(curve={"fun": np.random.default_rng(0).random(20_000)}))
        with Store.open(out) as store:
            assert equal(store.run(JOBS[0].id), JOBS[0], DONE)
            assert store.waiting() == JOBS[1:]
