"""What all tests share: a place for compiled code that survives the session, calm property tests, an empty cache."""

import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Before anything imports Numba. Kept from run to run: what the code was compiled from is part of an entry's name.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".numba_cache"))

from numba import types

settings.register_profile(
    "numbaopt",
    deadline=None,  # the first example may compile
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("numbaopt")

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") == "1"
EMULATED = os.environ.get("NUMBAOPT_EMULATED_GPU", "0") == "1"  # by which tests are chosen, and a driver is played
if SIMULATED:
    from numba.cuda.simulator.kernelapi import FakeCUDAShared
    from numba.np.numpy_support import as_dtype

    sys.setswitchinterval(1e-5)  # the simulator waits for its threads in a loop
    _dynamic, _one_by_one = FakeCUDAShared.array, threading.Lock()

    def _shared(self, shape, dtype):
        """The array of a line of code: the simulator's own gives two where two threads of a block ask at once."""
        if shape == 0:
            return _dynamic(self, shape, dtype)
        line = sys._getframe(1)
        with _one_by_one:
            made = self._allocations.setdefault((line.f_code.co_filename, line.f_lineno), [])
            if not made:
                made.append(np.empty(shape, as_dtype(dtype) if isinstance(dtype, types.Type) else dtype))
            return made[0]

    FakeCUDAShared.array = _shared


def pytest_collection_modifyitems(config, items):
    """What is made for CUDA's simulator, or for the GPU that is played, runs there, and nothing else does."""
    made_for = {"simulator": SIMULATED, "emulated": EMULATED}
    out = [item for item in items if any((item.get_closest_marker(name) is not None) != here
                                         for name, here in made_for.items())]  # fmt: skip
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in set(out)]


def pytest_runtest_setup(item):
    """What needs a GPU is skipped where there is none, and says why."""
    if item.get_closest_marker("gpu") is not None:
        from numbaopt.cuda import why_not

        if reason := why_not():
            pytest.skip(reason)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty folder that is the cache."""
    from numbaopt import _cache

    monkeypatch.setattr(_cache, "folder", lambda: tmp_path)
    return tmp_path
