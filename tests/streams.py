"""What tests of streams share: a table, settings, when two results are the same, threads that should be gone."""

import threading

import numpy as np
from problems import table
from scipy import sparse

import numbaopt as no

BATCH = 8
OPTIONS = {"batch_size": BATCH, "epochs": 3, "seed": 5}
COMMON = {"method": no.Adam(lr=0.05), "loss": "logistic", "l2": 1e-3}


def data(storage="dense", dtype=np.float64):
    X, _, labels = table(rows=200, dtype=dtype)
    return (X if storage == "dense" else sparse.csr_matrix(X * (X > 0))), labels


def same(a, b):
    """Fail unless two results of streams agree to the last bit."""
    np.testing.assert_array_equal(a.x, b.x)
    assert (a.nit, a.status, a.fun, a.lr) == (b.nit, b.status, b.fun, b.lr)
    for name in ("epoch", "step", "fun", "lr"):
        np.testing.assert_array_equal(a.history[name], b.history[name])


def chunks_of(X, y, rows=30):
    """A table as a list of chunks."""
    return [(X[i : i + rows], y[i : i + rows]) for i in range(0, len(y), rows)]


def threads():
    """Reading threads that are alive."""
    return [thread.name for thread in threading.enumerate() if "read-ahead" in thread.name]
