"""The benchmark for a GPU: one sentence without one, ours in the simulator, peers that do what ours does."""

import numba
import numpy as np
import pytest

import numbaopt as no
from benchmarks import epoch, gpu, gpu_training
from benchmarks.report import OURS, as_text
from benchmarks.timing import Times


@pytest.mark.skipif(bool(numba.config.ENABLE_CUDASIM), reason="the simulator is a GPU")
def test_without_a_gpu_it_is_one_sentence(monkeypatch):
    monkeypatch.setattr(no.cuda, "why_not", lambda: "no NVIDIA driver is installed")
    (table,) = gpu.run(quick=True)
    assert as_text(table).splitlines()[-1] == "- Nothing was measured: no NVIDIA driver is installed."


@pytest.mark.simulator
@pytest.mark.filterwarnings("ignore:overflow encountered in scalar multiply")  # hashes, whose integers wrap around
def test_ours_take_part_in_every_table(monkeypatch):
    real = epoch.data

    def called(there, rounds, units):
        for name in there:
            there[name]()
        assert there.keys() == units.keys()
        return dict.fromkeys(there, Times((1.0,)))

    monkeypatch.setattr(gpu, "optional", lambda name, notes: None)
    monkeypatch.setattr(gpu, "data", lambda n, dtype: (np.ones(n // 50, dtype), np.ones(n // 50, dtype)))
    for name in ("epoch", "gpu_training"):
        monkeypatch.setattr(f"benchmarks.{name}.optional", lambda name, notes: None)
    monkeypatch.setattr(epoch, "data", lambda rows, columns, dtype: real(rows // 50, columns // 5, dtype))
    monkeypatch.setattr(gpu_training, "race", called)
    monkeypatch.setattr(gpu, "race", lambda there, rounds, least, units: dict.fromkeys(there, Times((1.0,))))
    monkeypatch.setattr(gpu, "FITS", 3_000)
    monkeypatch.setattr(gpu, "waited", lambda step, units: step)
    tables = list(gpu.run(quick=True))
    assert len(tables) == len(gpu.TABLES)
    assert all(case.times.keys() & {OURS} for table in tables for case in table.cases)


@pytest.mark.peer
def test_peers_take_the_step_of_ours():
    pytest.importorskip("torch")
    n, (x, g), opt = 50, gpu.data(50, np.float64), no.Adam()
    state = no.init_state(opt, x)
    for t in (1, 2, 3):
        no.step(opt, x, g, state, t)
    step = gpu.torchs(n, np.float64, 1, [], device="cpu")
    (parameter,) = step.__self__.param_groups[0]["params"]
    for _ in range(3):
        step()
    np.testing.assert_allclose(parameter.detach().numpy(), x, rtol=1e-12)
