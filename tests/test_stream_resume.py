"""Streams that end in the middle of something: read ahead, interrupted, resumed to the last bit."""

import copy
import json
import os
import signal
import time
import weakref

import numpy as np
import pytest
from scipy import sparse
from streams import BATCH, COMMON, OPTIONS, chunks_of, data, same, threads

import numbaopt as no
from numbaopt import checkpoint
from numbaopt.stream._ahead import ReadAhead
from numbaopt.stream._models import Models
from numbaopt.stream._trainer import Trainer

# ---- reading ahead ---------------------------------------------------------------------------------------------------


def test_at_most_two_items_are_alive():
    alive = []

    class Item:
        pass

    def items():
        for _ in range(6):
            alive.append(weakref.ref(item := Item()))
            yield item
            del item

    most = 0
    with ReadAhead(items()) as ahead:
        for item in ahead:
            time.sleep(0.01)  # the thread reads on as far as it may
            most = max(most, sum(ref() is not None for ref in alive))
            del item
    assert most == 2
    assert len(alive) == 6


class Trouble(Exception):
    pass


class Failing:
    """Chunks of which the reading of one fails at some time."""

    def __init__(self, chunks, error, reads):
        self.chunks, self.error, self.reads = chunks, error, reads

    def __len__(self):
        return len(self.chunks)

    def __getitem__(self, k):
        self.reads -= 1
        if self.reads == 0:
            raise self.error
        return self.chunks[k]


@pytest.mark.parametrize("error", [Trouble("boom"), KeyboardInterrupt("boom"), MemoryError("boom")])
def test_exceptions_of_the_source_come_out_and_the_run_goes_on(tmp_path, error):
    X, y = data()
    chunks, path = chunks_of(X, y), tmp_path / "run.npz"
    settings = {**COMMON, "classes": [-1, 1]}
    for reads in (2, 3, 9, 16):
        with pytest.raises(type(error), match=r"boom|interrupted"):
            no.stream.minimize(Failing(chunks, error, reads), **settings, options={**OPTIONS, "checkpoint": path})
        assert threads() == []
        resumed = no.stream.resume(path, chunks)
        same(resumed, no.stream.minimize(chunks, **settings, options=OPTIONS))


# ---- stop and go on --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("history", ["progressive", "whole"])
@pytest.mark.parametrize("lr", [0.05, no.schedules.ReduceOnPlateau(0.5, patience=0, threshold=0.3)],
                         ids=["constant", "plateau"])  # fmt: skip
def test_resumed_at_any_moment_to_the_last_bit(tmp_path, monkeypatch, history, lr):
    """A checkpoint at every tick, within chunks, between them, between passes: each leads to the same end."""
    X, y = data()
    source = no.stream.open(X, y, chunk_rows=70)
    settings = {**COMMON, "method": no.Adam(lr=lr), "options": {**OPTIONS, "history": history}}
    expected = no.stream.minimize(source, **settings)
    saved = []

    def tick(self):
        self._turn = 4  # steps between ticks within a chunk
        self.path = tmp_path / f"{len(saved)}.npz"
        saved.append(int(self.now.step))
        self.save()

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_tick", tick)
        settings["options"]["checkpoint"] = tmp_path / "run.npz"
        same(no.stream.minimize(source, **settings), expected)
    within = [step for step in saved if step % 27 not in (0, 9, 18, 27)]
    assert len(within) > 5
    for k in range(len(saved)):
        same(no.stream.resume(tmp_path / f"{k}.npz", no.stream.open(X, y, chunk_rows=70)), expected)


@pytest.mark.parametrize("kind", ["linear", "touched", "weight_norm"])
def test_what_is_owed_within_a_chunk_is_kept(tmp_path, monkeypatch, kind):
    """The same of sparse steps that put things off, and of a direction and a length; results on the way know it."""
    X, y = data("dense" if kind == "weight_norm" else "csr")
    options = {**OPTIONS, "weight_norm": kind == "weight_norm", "batch_size": 1 if kind == "touched" else BATCH}
    method = {"linear": no.SGD(lr=0.1), "touched": no.AdaGrad(lr=0.1), "weight_norm": "adam"}[kind]
    if kind == "touched":
        X = sparse.csr_matrix((X.data, X.indices * 10, X.indptr), shape=(200, 100))
    settings = {"method": method, "loss": "logistic", "l1": 0.0 if kind == "weight_norm" else 0.01}
    source = no.stream.open(X, y, chunk_rows=70)
    expected = no.stream.minimize(source, **settings, options=options)
    saved = []

    def tick(self):
        self._turn, self.path = 4, tmp_path / f"{len(saved)}.npz"
        self.save()
        saved.append((self._driver is not None and self._driver.within_epoch > 0, self.told(self.point)))

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_tick", tick)
        same(no.stream.minimize(source, **settings, options={**options, "checkpoint": tmp_path / "run.npz"}), expected)
    within = [k for k, (inside, _) in enumerate(saved) if inside]
    assert len(within) > 5

    def stopped(*_):
        raise KeyboardInterrupt

    for k in within[:: len(within) // 6]:
        with monkeypatch.context() as patch:
            patch.setattr(Models, "of", stopped)
            with pytest.raises(KeyboardInterrupt) as stop:
                no.stream.resume(tmp_path / f"{k}.npz", source)
        before = stop.value.result.x  # what is owed to them is only known with the data: the point before the chunk
        assert min(np.abs(before - point).max() for _, point in [(0, 0.0 * before), *saved[: k + 1]]) < 1e-12
        same(no.stream.resume(tmp_path / f"{k}.npz", source), expected)
    points = np.array([point for _, point in saved])
    assert np.all(np.isfinite(points))
    assert np.abs(np.diff(points, axis=0)).max() < 1.0  # no jumps: nothing is left out on the way


def test_more_epochs_than_planned(tmp_path):
    X, y = data()
    source, path = no.stream.open(X, y, chunk_rows=30), tmp_path / "run.npz"
    no.stream.minimize(source, **COMMON, options={**OPTIONS, "epochs": 1, "checkpoint": path})
    longer = no.stream.resume(path, source, options={"epochs": 3})
    same(longer, no.stream.minimize(source, **COMMON, options=OPTIONS))
    same(no.stream.resume(path, source), longer)  # nothing is left to do
    with pytest.warns(Warning, match="unknown option 'epoch'; did you mean 'epochs'"):
        no.stream.resume(path, source, options={"epoch": 3})


def test_parameters_of_losses_and_rules_are_remembered(tmp_path):
    X, y = data()
    path, settings = tmp_path / "run.npz", {"method": no.transforms.chain(no.transforms.ClipByNorm(0.5), no.Adam(0.1)),
                                            "loss": no.losses.Huber(delta=0.3), "l1": 0.01}  # fmt: skip
    no.stream.minimize((X, y), **settings, options={**OPTIONS, "epochs": 1, "checkpoint": path})
    resumed = no.stream.resume(path, (X, y), options={"epochs": 3})
    same(resumed, no.stream.minimize((X, y), **settings, options=OPTIONS))


def test_checkpoints_of_something_else(tmp_path):
    X, y = data()
    source, path = no.stream.open(X, y, chunk_rows=30), tmp_path / "run.npz"
    options = {**OPTIONS, "epochs": 1, "checkpoint": path}
    no.stream.minimize(source, **COMMON, options=options)
    other = X.copy()
    other[3, 3] += 1
    for wrong in (no.stream.open(other, y, chunk_rows=30), no.stream.open(X, y, chunk_rows=31)):
        with pytest.raises(ValueError, match=r"run\.npz is of another source"):
            no.stream.resume(path, wrong)
    with pytest.raises(ValueError, match="is the checkpoint of a stream"):
        no.resume(path, no.LinearModel(X, y, "logistic"))
    no.minimize(no.LinearModel(X, y, "logistic"), method="adam", options=options)
    with pytest.raises(ValueError, match="is no checkpoint of a stream"):
        no.stream.resume(path, source)
    with pytest.raises(FileNotFoundError, match="no folder"):
        no.stream.minimize(source, **COMMON, options={**options, "checkpoint": tmp_path / "no" / "run.npz"})


@pytest.mark.parametrize("edit", [
    {"place": {"begun": -1}}, {"place": {"position": 1.5}}, {"place": {"begun": "0"}}, {"plan": {"batch_size": 0}},
    {"plan": {"classes": 3}}, {"place": None}, {"plan": {"loss": "logistic"}}, {"place": {"rows": -3}},
])  # fmt: skip
def test_hostile_checkpoints(tmp_path, edit):
    X, y = data()
    source, path = no.stream.open(X, y, chunk_rows=30), tmp_path / "run.npz"
    no.stream.minimize(source, **COMMON, options={**OPTIONS, "epochs": 1, "checkpoint": path})
    run, settings = checkpoint.load(path)
    settings = copy.deepcopy(settings)
    del settings["format"]
    for part, fields in edit.items():
        settings[part] = fields if fields is None else {**settings[part], **fields}
    checkpoint.save(path, run, json.loads(json.dumps(settings)))
    with pytest.raises(ValueError, match=r"run\.npz is no checkpoint of a stream"):
        no.stream.resume(path, source, options={"epochs": 3})


@pytest.mark.skipif(os.name != "posix", reason="signals to oneself")
def test_ctrl_c_leaves_a_result_a_checkpoint_and_no_thread(tmp_path, monkeypatch):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    X, y = data()
    source, path = no.stream.open(X, y, chunk_rows=30), tmp_path / "run.npz"
    expected = no.stream.minimize(source, **COMMON, options=OPTIONS)
    judge, calls = Trainer._judge, []

    def judge_late(self, *arguments):
        calls.append(1)
        if len(calls) == 10:
            os.kill(os.getpid(), signal.SIGINT)
        judge(self, *arguments)

    monkeypatch.setattr(Trainer, "_judge", judge_late)
    try:
        with pytest.raises(KeyboardInterrupt, match=r"interrupted after step \d+; .*run\.npz keeps the run") as stop:
            no.stream.minimize(source, **COMMON, options={**OPTIONS, "checkpoint": path})
    finally:
        signal.signal(signal.SIGINT, before)
    assert stop.value.result.status == 99
    assert len(stop.value.result.history) == 1
    assert threads() == []
    same(no.stream.resume(path, source), expected)


@pytest.mark.parametrize("kind", ["npy", "libsvm", "parquet"])
def test_a_checkpoint_names_the_files_it_is_of(tmp_path, monkeypatch, kind):
    X, y = data()
    monkeypatch.chdir(tmp_path)
    if kind == "npy":
        np.save("X.npy", X)
        np.save("y.npy", y)
        source = no.stream.open("X.npy", "y.npy", chunk_rows=70)
    elif kind == "libsvm":
        lines = [" ".join([f"{t:g}", *(f"{k}:{v!r}" for k, v in enumerate(x.tolist()))])
                 for x, t in zip(X, y, strict=True)]  # fmt: skip
        (tmp_path / "data.svm").write_text("\n".join(lines))
        source = no.stream.open("data.svm", chunk_bytes=9000)
    else:
        pyarrow = pytest.importorskip("pyarrow")
        columns = {f"x{k}": column for k, column in enumerate(X.T)}
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({**columns, "y": y}), "data.parquet",
                                                           row_group_size=70)  # fmt: skip
        source = no.stream.open("data.parquet", target="y", chunk_bytes=4000)
    path = tmp_path / "run.npz"
    once = no.stream.minimize(source, **COMMON, options=OPTIONS)
    no.stream.minimize(source, **COMMON, options={**OPTIONS, "epochs": 1, "checkpoint": path})
    monkeypatch.chdir("/")
    same(no.stream.resume(path, options={"epochs": OPTIONS["epochs"]}), once)
    with open(tmp_path / {"npy": "y.npy", "libsvm": "data.svm", "parquet": "data.parquet"}[kind], "r+b") as file:
        file.seek(200)
        file.write(b"1")
    with pytest.raises(ValueError, match="is of another source"):
        no.stream.resume(path, options={"epochs": 5})


def test_a_checkpoint_of_data_in_memory_names_no_files(tmp_path):
    path = tmp_path / "run.npz"
    no.stream.minimize(chunks_of(*data()), **COMMON, options={**OPTIONS, "epochs": 1, "checkpoint": path})
    with pytest.raises(ValueError, match=r"source is missing: the data of .*run\.npz came from no files"):
        no.stream.resume(path)
