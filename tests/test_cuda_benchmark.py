"""The benchmark for a GPU: one sentence without one, ours in the simulator, peers that do what ours does."""

import numba
import numpy as np
import pytest

import numbaopt as no
from benchmarks import epoch, gpu, gpu_training
from benchmarks.__main__ import GPU
from benchmarks.__main__ import __doc__ as about
from benchmarks.report import OURS, Table, as_text
from benchmarks.timing import Times


@pytest.mark.skipif(bool(numba.config.ENABLE_CUDASIM), reason="the simulator is a GPU")
def test_without_a_gpu_it_is_one_sentence(monkeypatch):
    monkeypatch.setattr(no.cuda, "why_not", lambda: "no NVIDIA driver is installed")
    (table,) = gpu.run(quick=True)
    assert as_text(table).splitlines()[-1] == "- Nothing was measured: no NVIDIA driver is installed."


def test_a_part_that_fails_leaves_the_others(monkeypatch, capsys):
    def broken(quick):
        raise RuntimeError("no luck")

    def whole(quick):
        return Table("whole", [])

    monkeypatch.setattr(no.cuda, "why_not", lambda: None)
    monkeypatch.setattr(gpu, "PARTS", {"one": (broken, whole), "other": (whole,)})
    tables = list(gpu.run(quick=True))
    assert [as_text(table).splitlines()[-1] for table in tables] == ["- FAILED: RuntimeError: no luck", *2 * ["====="]]
    assert len(list(gpu.run(True, "other"))) == 1
    assert "RuntimeError: no luck" in capsys.readouterr().err


def test_parts_can_be_asked_for():
    assert tuple(gpu.PARTS) == GPU
    assert all(f"gpu.{part}" in about for part in GPU)


def test_who_computes_something_else_is_told():
    def at(place):
        return lambda n, dtype, units, notes: gpu.Contestant(lambda: None, lambda: np.full(3, place))

    def absent(n, dtype, units, notes):
        raise MemoryError

    notes = []
    found = gpu.entered({"a": at(1.0), "b": at(1.0001), "c": at(1.5), "d": absent}, 10, np.float32, 1, notes)
    assert list(found) == ["a", "b", "c"]
    assert notes == ["c, float32, n = 10: ends up to 5.0e-01 from a", "d, float32, n = 10: left out, MemoryError"]


@pytest.mark.simulator
def test_ours_take_part_in_every_table(monkeypatch, capsys):
    real, fitting = epoch.data, gpu.fitting

    def called(there, rounds, least=0.0, units=1, most=0.0):
        for call in there.values():
            call()
        assert not isinstance(units, dict) or there.keys() == units.keys()
        return dict.fromkeys(there, Times((1.0,)))

    monkeypatch.setattr(gpu, "optional", lambda name, notes: None)
    monkeypatch.setattr(gpu, "data", lambda n, dtype: (np.ones(n // 50, dtype), np.ones(n // 50, dtype)))
    for name in ("epoch", "gpu_training"):
        monkeypatch.setattr(f"benchmarks.{name}.optional", lambda name, notes: None)
    monkeypatch.setattr(epoch, "data", lambda rows, columns, dtype: real(rows // 50, columns // 5, dtype))
    for module in (gpu, gpu_training):
        monkeypatch.setattr(module, "race", called)
    monkeypatch.setattr(gpu, "fitting", lambda k: fitting(3))
    monkeypatch.setattr(gpu, "waited", lambda step, units: step)
    tables = list(gpu.run(quick=True))
    assert len(tables) == sum(map(len, gpu.PARTS.values()))
    assert all(table.cases and case.times.keys() & {OURS} for table in tables for case in table.cases)
    told = capsys.readouterr().err
    assert all(f"\n{case.name} " in told for table in tables for case in table.cases)  # each as soon as it is measured


@pytest.mark.peer
@pytest.mark.parametrize(("name", "opt"), [
    ("torchs", no.Adam()), ("torchs_clipped", no.transforms.chain(no.transforms.ClipByNorm(), no.Adam())),
    ("optaxs", no.Adam()), ("ours_on_the_cpu", no.Adam())])  # fmt: skip
def test_contestants_take_the_step_of_ours(name, opt):
    n, (x, g) = 50, gpu.data(50, np.float64)
    x, state, g = x.copy(), no.init_state(opt, x), 100 * g  # long enough to be clipped
    for t in (1, 2, 3):
        no.step(opt, x, g, state, t)
    with pytest.MonkeyPatch.context() as patch:
        start = gpu.data(n, np.float64)[0]
        patch.setattr(gpu, "data", lambda n, dtype: (start, g))
        made = getattr(gpu, name)(n, np.float64, 1, notes := [], **({"device": "cpu"} if "torchs" in name else {}))
        if made is None:
            pytest.skip(notes[0])
        for _ in range(3):
            made.call()
    np.testing.assert_allclose(made.unknowns(), x, rtol=1e-6)


@pytest.mark.peer
def test_steps_of_training_that_torch_records_are_those_of_ours():
    torch = pytest.importorskip("torch")
    X, y = epoch.data(40, 6, np.float64)
    step, terms, stands = gpu_training.torch_steps(torch, torch.from_numpy(X), torch.from_numpy(y), 8, 2, False)
    for first in range(0, 32, 16):  # two steps at once, as they are played
        terms.copy_(torch.arange(first, first + 16))
        step(0)
        step(1)
    ours = no.minimize(no.LinearModel(X[:32], y[:32], "logistic"), method="adam", options={
        "lr": gpu_training.RATE, "batch_size": 8, "epochs": 1, "shuffle": False})  # fmt: skip
    np.testing.assert_allclose(stands(), ours.x, rtol=1e-6)


def test_records_leave_out_what_does_not_fill_them():
    assert gpu_training.recorded(1_000_000, 4096) == (50, 4 * 50 * 4096)
    assert gpu_training.recorded(2000, 256) == (7, 1792)
    assert gpu_training.recorded(1_000_000, 32) == (50, 1_000_000)
