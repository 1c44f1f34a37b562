"""What all tests share: a place for compiled code that survives the session, calm property tests, an empty cache."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before anything imports Numba. Kept from run to run: what the code was compiled from is part of an entry's name.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".numba_cache"))

settings.register_profile(
    "numbaopt",
    deadline=None,  # the first example may compile
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("numbaopt")


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty folder that is the cache."""
    from numbaopt import _cache

    monkeypatch.setattr(_cache, "folder", lambda: tmp_path)
    return tmp_path
